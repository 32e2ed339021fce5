#include "common/x509.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "test/lib/pki.h"

static const int64_t second_ns = 1000000000;
static const int64_t now_ns = 1700000000LL * 1000000000; /* 2023-11-14 */

static struct buf key = BUF_INIT(X509_PEM_BYTES_MAX), root = BUF_INIT(X509_PEM_BYTES_MAX),
                  csr = BUF_INIT(X509_PEM_BYTES_MAX), node_key = BUF_INIT(X509_PEM_BYTES_MAX);
static struct err e;

static void make_authority(void)
{
    ck_assert_int_eq(x509_generate_key(&key, &e), 0);
    ck_assert_int_eq(x509_create_root(buf_str(&key), now_ns, &root, &e), 0);
    ck_assert_int_eq(x509_generate_key(&node_key, &e), 0);
    ck_assert_int_eq(x509_create_csr(buf_str(&node_key), &csr, &e), 0);
}

static void release(void)
{
    buf_deinit(&key);
    buf_deinit(&root);
    buf_deinit(&csr);
    buf_deinit(&node_key);
}

static struct x509_issue issue_of(enum tls_role role, int64_t life_ns)
{
    return (struct x509_issue){ .csr_pem = csr.data,
                                .csr_size = csr.size,
                                .identity = { .node = pki_id(1),
                                              .cluster = pki_id(2),
                                              .role = role,
                                              .not_after_ns = now_ns + life_ns },
                                .now_ns = now_ns };
}

static int64_t fixed_now(void)
{
    return now_ns;
}

START_TEST(root_lives_twenty_years)
{
    int64_t from_ns, to_ns;

    ck_assert_int_eq(x509_validity(buf_str(&root), &from_ns, &to_ns, &e), 0);
    ck_assert_int_eq(from_ns, now_ns - 3600 * second_ns);
    ck_assert_int_eq(to_ns, now_ns + 20LL * 365 * 86400 * second_ns);
}
END_TEST

START_TEST(issues_what_was_decided)
{
    CLEANUP_BUF struct buf pem = BUF_INIT(X509_PEM_BYTES_MAX);
    struct x509_ca *ca = x509_ca_new(buf_str(&root), buf_str(&key), &e);
    enum tls_role role = _i == 0 ? TLS_ROLE_WORKER : TLS_ROLE_MANAGER;
    struct x509_issue issue = issue_of(role, 90 * 86400 * second_ns);
    struct tls_identity id;
    int64_t from_ns, to_ns;

    ck_assert_int_eq(x509_ca_issue(ca, &issue, &pem, &e), 0);
    ck_assert_int_eq(x509_identity(buf_str(&pem), &id, &e), 0);
    ck_assert(id_equal(&id.node, &issue.identity.node));
    ck_assert(id_equal(&id.cluster, &issue.identity.cluster));
    ck_assert_int_eq(id.role, role);
    ck_assert_int_eq(x509_validity(buf_str(&pem), &from_ns, &to_ns, &e), 0);
    ck_assert_int_eq(from_ns, now_ns - X509_BACKDATE_NS);
    ck_assert_int_eq(to_ns, issue.identity.not_after_ns);
    ck_assert_int_eq(id.not_after_ns, to_ns);
    x509_ca_free(ca);
}
END_TEST

START_TEST(nothing_outlives_its_authority)
{
    CLEANUP_BUF struct buf pem = BUF_INIT(X509_PEM_BYTES_MAX);
    struct x509_ca *ca = x509_ca_new(buf_str(&root), buf_str(&key), &e);
    struct x509_issue issue = issue_of(TLS_ROLE_WORKER, 2 * X509_ROOT_LIFE_NS);
    struct tls_identity id;

    ck_assert_int_eq(x509_ca_issue(ca, &issue, &pem, &e), 0);
    ck_assert_int_eq(x509_identity(buf_str(&pem), &id, &e), 0);
    ck_assert_int_eq(id.not_after_ns, now_ns + X509_ROOT_LIFE_NS);
    x509_ca_free(ca);
}
END_TEST

START_TEST(authority_needs_its_own_key)
{
    CLEANUP_BUF struct buf pem = BUF_INIT(X509_PEM_BYTES_MAX);
    struct x509_ca *ca = x509_ca_new(buf_str(&root), buf_str(&key), &e);
    struct x509_issue issue = issue_of(TLS_ROLE_MANAGER, 86400 * second_ns);

    ck_assert_ptr_null(x509_ca_new(buf_str(&root), buf_str(&node_key), &e));
    ck_assert_msg(strstr(e.message, "belongs to another") != NULL, "%s", e.message);
    ck_assert_int_eq(x509_ca_issue(ca, &issue, &pem, &e), 0);
    ck_assert_ptr_null(x509_ca_new(buf_str(&pem), buf_str(&node_key), &e)); /* N8 */
    ck_assert_msg(strstr(e.message, "may not sign") != NULL, "%s", e.message);
    ck_assert_ptr_null(x509_ca_new("", buf_str(&key), &e));
    x509_ca_free(ca);
}
END_TEST

/* Root rotation: what the new root issues, with the cross-signed certificate, is trusted by nodes
 * that know only the old root, and by those that know only the new one. */
START_TEST(cross_signing_serves_both_roots)
{
    CLEANUP_BUF struct buf new_key = BUF_INIT(X509_PEM_BYTES_MAX),
                           new_root = BUF_INIT(X509_PEM_BYTES_MAX),
                           cross = BUF_INIT(X509_PEM_BYTES_MAX), pem = BUF_INIT(X509_PEM_BYTES_MAX);
    struct x509_ca *old = x509_ca_new(buf_str(&root), buf_str(&key), &e);
    struct x509_issue issue = issue_of(TLS_ROLE_WORKER, 86400 * second_ns);

    ck_assert_int_eq(x509_generate_key(&new_key, &e), 0);
    ck_assert_int_eq(x509_create_root(buf_str(&new_key), now_ns, &new_root, &e), 0);
    ck_assert_int_eq(x509_ca_cross_sign(old, buf_str(&new_root), now_ns, &cross, &e), 0);
    char *chain = xasprintf("%s%s", buf_str(&new_root), buf_str(&cross));
    struct x509_ca *ca = x509_ca_new(chain, buf_str(&new_key), &e);
    ck_assert_msg(ca != NULL, "%s", e.message);
    ck_assert_int_eq(x509_ca_issue(ca, &issue, &pem, &e), 0);
    char *node = xasprintf("%s%s", buf_str(&pem), buf_str(&node_key));
    const char *const roots[] = { buf_str(&root), buf_str(&new_root) };
    for (size_t i = 0; i < ARRAY_LEN(roots); i++) {
        struct tls_context_options o = { .check = TLS_CHECK_CLUSTER,
                                         .root_ca_pem = roots[i],
                                         .node_pem = node,
                                         .wall_now = fixed_now };
        struct tls_context *t = tls_context_new(&o, &e);
        ck_assert_msg(t != NULL, "root %zu: %s", i, e.message);
        tls_context_free(t);
    }
    free(node);
    free(chain);
    x509_ca_free(ca);
    x509_ca_free(old);
}
END_TEST

static const char rsa_csr[] = /* RSA 2048, SHA-256 */
    "-----BEGIN CERTIFICATE REQUEST-----\n"
    "MIICVDCCATwCAQAwDzENMAsGA1UEAwwEbm9kZTCCASIwDQYJKoZIhvcNAQEBBQAD\n"
    "ggEPADCCAQoCggEBANORF2mtnr+x/T7Xps+/wKQcyAZoxKJkHNcfeiyg9NAXXBii\n"
    "zANTjAiAhh7nbXo9zawBda2M+rdVA4bGD/DFezIkeuExjAUUfJVixbMotoESB/Zc\n"
    "5/b8XL1akl8/HkhXYp9Ry2qjz9YKA8p9sDdWhLNn4/bOdbb3H1rj+HY2L9qrssJi\n"
    "ZPLBVW1i4dKct22TQxlcJL6c52m3B5RgoZykhH14hg+4BBwwvAC5Z+/GFlzM1Ms5\n"
    "W2ALvfiaEoxgFWS0nfIZmDc6EHyLfpUohsk/+3VcPgptIfWOTzhnJpoGtujXh/B7\n"
    "LQ3FBSqqJS02Z6iOi4HjAq+x/3Wmdn+VFadl76MCAwEAAaAAMA0GCSqGSIb3DQEB\n"
    "CwUAA4IBAQCo06Yav0iQKy1D09Lx7ye5GxgOWp/zE8mCfetZs+x2FROL7LmfyaV8\n"
    "LeCmxNfs7ClOFUECHDEW6B7TC0QtIKr7NAWBxOSYByK+Atd0U4PFUNff3rl7YZCp\n"
    "F0J9+WtQqLyiGtWRqSMjgf7DSeZv1DaRsOIA2Cyz+sPbcXW7IHKV8ONPHiSVBxd5\n"
    "+0X2fSAAdJWVarNyXBucnSsWvJE6hUR4MYzHRLjpy0khejgnLtgWrQGteVWelcjB\n"
    "C1GiOSQ1EEEaijTpZqOurq0VzXX4zJ+Mi5+KCSeu9tsxkOsPwCmCwcrHCM/C67tH\n"
    "HA0LEuuCxnoSBl5TiaJYIHb3aYRXLIaI\n"
    "-----END CERTIFICATE REQUEST-----\n";

START_TEST(csr_contributes_a_good_key_or_nothing)
{
    static char huge[1 << 20];
    char *damaged = xstrndup(buf_str(&csr), csr.size);

    ck_assert_int_eq(x509_check_csr(csr.data, csr.size, &e), 0);
    ck_assert_int_eq(x509_check_csr("", 0, &e), -ERR_INVALID);
    ck_assert_int_eq(x509_check_csr("hello", 5, &e), -ERR_INVALID);
    ck_assert_int_eq(x509_check_csr("a\0b", 3, &e), -ERR_INVALID);
    memset(huge, 'A', sizeof(huge)); /* N37 */
    ck_assert_int_eq(x509_check_csr(huge, sizeof(huge), &e), -ERR_INVALID);
    ck_assert_msg(strstr(e.message, "longer than") != NULL, "%s", e.message);
    ck_assert_int_eq(x509_check_csr(root.data, root.size, &e), -ERR_INVALID);
    ck_assert_int_eq(x509_check_csr(rsa_csr, sizeof(rsa_csr) - 1, &e), -ERR_INVALID);
    ck_assert_msg(strstr(e.message, "P-256") != NULL, "%s", e.message);
    /* Any change of the signed part (its first 100 bytes) is found: by the parser, or by the
     * signature. */
    char *body = strchr(damaged, '\n') + 1, *end = body + 136;
    for (char *at = body; at < end; at++) {
        char kept = *at;

        if (kept == '\n' || kept == '=')
            continue;
        *at = kept == 'A' ? 'B' : 'A';
        ck_assert_msg(x509_check_csr(damaged, csr.size, NULL) == -ERR_INVALID, "at %td", at - body);
        *at = kept;
    }
    free(damaged);
}
END_TEST

/* A token pins every certificate of the bundle and nothing but certificates. */
START_TEST(digest_covers_all_certificates)
{
    CLEANUP_BUF struct buf other = BUF_INIT(X509_PEM_BYTES_MAX);
    char one[TOKEN_DIGEST_CHARS + 1], two[TOKEN_DIGEST_CHARS + 1], more[TOKEN_DIGEST_CHARS + 1];

    ck_assert_int_eq(x509_root_digest(buf_str(&root), one, &e), 0);
    ck_assert_uint_eq(strlen(one), TOKEN_DIGEST_CHARS);
    char *text = xasprintf("a comment\r\n%s\n\n", buf_str(&root));
    ck_assert_int_eq(x509_root_digest(text, two, &e), 0);
    ck_assert_str_eq(one, two);
    free(text);
    ck_assert_int_eq(x509_create_root(buf_str(&node_key), now_ns, &other, &e), 0);
    text = xasprintf("%s%s", buf_str(&root), buf_str(&other));
    ck_assert_int_eq(x509_root_digest(text, more, &e), 0);
    ck_assert_str_ne(one, more);
    free(text);
    ck_assert_int_lt(x509_root_digest("", one, &e), 0);
    ck_assert_int_lt(x509_root_digest("-----BEGIN CERTIFICATE-----\nAAAA\n", one, &e), 0);
}
END_TEST

START_TEST(root_has_no_identity)
{
    struct tls_identity id;

    ck_assert_int_eq(x509_identity(buf_str(&root), &id, &e), -ERR_INVALID);
    ck_assert_int_eq(x509_identity(buf_str(&csr), &id, &e), -ERR_INVALID);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("x509");
    TCase *tc = tcase_create("all");

    tcase_add_unchecked_fixture(tc, make_authority, release);
    tcase_add_test(tc, root_lives_twenty_years);
    tcase_add_loop_test(tc, issues_what_was_decided, 0, 2);
    tcase_add_test(tc, nothing_outlives_its_authority);
    tcase_add_test(tc, authority_needs_its_own_key);
    tcase_add_test(tc, cross_signing_serves_both_roots);
    tcase_add_test(tc, csr_contributes_a_good_key_or_nothing);
    tcase_add_test(tc, digest_covers_all_certificates);
    tcase_add_test(tc, root_has_no_identity);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
