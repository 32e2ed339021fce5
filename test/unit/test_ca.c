#include "managerd/ca/ca.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/x509.h"
#include "test/lib/fixture.h"

#define DIGEST "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcd"
#define WORKER "SWMTKN-1-" DIGEST "-aaaaaaaaaaaaaaaaaaaaaaaaa"
#define MANAGER "SWMTKN-1-" DIGEST "-bbbbbbbbbbbbbbbbbbbbbbbbb"
#define ROTATED "SWMTKN-1-" DIGEST "-ccccccccccccccccccccccccc"

static struct buf csr = BUF_INIT(X509_PEM_BYTES_MAX);
static struct fixture f;
static struct ca_policy *policy;
static struct core_env env;
static struct err e;

static void make_csr(void)
{
    CLEANUP_BUF struct buf key = BUF_INIT(X509_PEM_BYTES_MAX);

    ck_assert_int_eq(x509_generate_key(&key, &e), 0);
    ck_assert_int_eq(x509_create_csr(buf_str(&key), &csr, &e), 0);
}

static void drop_csr(void)
{
    buf_deinit(&csr);
}

static void setup(void)
{
    fixture_init(&f, 1);
    Skep__Cluster *c = fixture_cluster(&f, "c1");
    c->join_token_worker = fixture_str(&f, WORKER);
    c->join_token_manager = fixture_str(&f, MANAGER);
    ck_assert_int_eq(fixture_add(&f, c), 0);
    Skep__Node *n = fixture_node(&f, "n1", "host1");
    n->role = SKEP__NODE_ROLE__ROLE_MANAGER;
    ck_assert_int_eq(fixture_add(&f, n), 0);
    policy = ca_policy_new();
    env = (struct core_env){ .store = f.s, .now_ms = 1000, .prng = &f.prng };
}

static void teardown(void)
{
    ca_policy_free(policy);
    fixture_deinit(&f);
}

static int enrol(const char *source, const char *token, Skep__NodeRole *ret_role)
{
    Skep__EnrolRequest req = SKEP__ENROL_REQUEST__INIT;

    req.token = fixture_str(&f, token);
    req.csr_pem = (ProtobufCBinaryData){ .len = csr.size, .data = csr.data };
    return ca_check_enrol(policy, &env, source, &req, ret_role, &e);
}

static const struct token_case {
    const char *why;
    const char *token;
    int want;
    Skep__NodeRole role;
} token_cases[] = {
    { "worker token", WORKER, 0, SKEP__NODE_ROLE__ROLE_WORKER },
    { "manager token", MANAGER, 0, SKEP__NODE_ROLE__ROLE_MANAGER },
    { "N34 a token from before the rotation", ROTATED, -ERR_PERMISSION, 0 },
    { "N31 empty", "", -ERR_PERMISSION, 0 },
    { "N31 the right one with more behind it", WORKER "x", -ERR_PERMISSION, 0 },
    { "N31 the right one cut", "SWMTKN-1-" DIGEST "-", -ERR_PERMISSION, 0 },
};

START_TEST(token_decides_the_role)
{
    const struct token_case *c = &token_cases[_i];
    Skep__NodeRole role = SKEP__NODE_ROLE__ROLE_WORKER;
    uint64_t rate, tokens;
    int rc = enrol("10.0.0.1:4000", c->token, &role);

    ck_assert_msg(rc == c->want, "%s: %d", c->why, rc);
    ck_assert_msg(rc < 0 || role == c->role, "%s", c->why);
    ca_counters(policy, &rate, &tokens);
    ck_assert_uint_eq(tokens, c->want != 0);
    ck_assert_msg(c->token[0] == '\0' || strstr(e.message, c->token) == NULL, "repeats the token");
}
END_TEST

/* A cluster whose token is unset lets nobody in, whatever they send. */
START_TEST(unset_token_admits_nobody)
{
    Skep__Cluster *c = fixture_edit(&f, SKEP__KIND__KIND_CLUSTER, "c1");
    Skep__NodeRole role;

    c->join_token_worker = fixture_str(&f, "");
    c->join_token_manager = fixture_str(&f, "");
    ck_assert_int_eq(fixture_update(&f, c), 0);
    ck_assert_int_eq(enrol("10.0.0.1:4000", "", &role), -ERR_PERMISSION);
}
END_TEST

START_TEST(csr_is_checked_after_the_token)
{
    Skep__EnrolRequest req = SKEP__ENROL_REQUEST__INIT;
    Skep__NodeRole role;
    uint8_t noise[] = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA";

    req.token = fixture_str(&f, WORKER);
    ck_assert_int_eq(ca_check_enrol(policy, &env, "10.0.0.1:1", &req, &role, &e), -ERR_INVALID);
    req.csr_pem = (ProtobufCBinaryData){ .len = sizeof(noise) - 1, .data = noise };
    ck_assert_int_eq(ca_check_enrol(policy, &env, "10.0.0.1:1", &req, &role, &e), -ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(e.message, "csr_pem"));
    req.token = fixture_str(&f, ROTATED);
    ck_assert_int_eq(ca_check_enrol(policy, &env, "10.0.0.1:1", &req, &role, &e), -ERR_PERMISSION);
}
END_TEST

/* N33, N38: a source has a burst, then one attempt a second, right token or not; its port does not
 * matter and others are not affected. */
START_TEST(source_is_limited)
{
    Skep__NodeRole role;
    uint64_t rate, tokens;
    char source[32];

    for (int i = 0; i < CA_ENROL_PER_SOURCE; i++) {
        (void)snprintf(source, sizeof(source), "10.0.0.1:%d", 4000 + i);
        ck_assert_int_eq(enrol(source, i % 2 == 0 ? ROTATED : WORKER, &role),
                         i % 2 == 0 ? -ERR_PERMISSION : 0);
    }
    ck_assert_int_eq(enrol("10.0.0.1:9", WORKER, &role), -ERR_RATE);
    ck_assert_int_eq(enrol("10.0.0.2:9", WORKER, &role), 0);
    env.now_ms += 999;
    ck_assert_int_eq(enrol("10.0.0.1:9", WORKER, &role), -ERR_RATE);
    env.now_ms += 1;
    ck_assert_int_eq(enrol("10.0.0.1:9", WORKER, &role), 0);
    ck_assert_int_eq(enrol("10.0.0.1:9", WORKER, &role), -ERR_RATE);
    env.now_ms += 3600 * 1000; /* a long pause gives one burst, not more */
    for (int i = 0; i < CA_ENROL_PER_SOURCE; i++)
        ck_assert_int_eq(enrol("10.0.0.1:9", WORKER, &role), 0);
    ck_assert_int_eq(enrol("10.0.0.1:9", WORKER, &role), -ERR_RATE);
    ca_counters(policy, &rate, &tokens);
    ck_assert_uint_eq(rate, 4);
    ck_assert_uint_eq(tokens, CA_ENROL_PER_SOURCE / 2);
}
END_TEST

/* All sources together are limited, too, and are remembered in bounded memory. */
START_TEST(total_is_limited)
{
    Skep__NodeRole role;
    char source[32];
    int passed = 0;

    for (int i = 0; i < 2 * CA_SOURCES_MAX; i++) {
        (void)snprintf(source, sizeof(source), "10.1.%d.%d:1", i / 256, i % 256);
        passed += enrol(source, WORKER, &role) == 0;
    }
    ck_assert_int_eq(passed, CA_ENROL_TOTAL);
    env.now_ms += 1000;
    passed = 0;
    for (int i = 0; i < CA_ENROL_TOTAL; i++) {
        (void)snprintf(source, sizeof(source), "10.2.%d.%d:1", i / 256, i % 256);
        passed += enrol(source, WORKER, &role) == 0;
    }
    ck_assert_int_eq(passed, CA_ENROL_TOTAL_PER_SECOND);
}
END_TEST

START_TEST(no_cluster_yet)
{
    struct fixture empty;
    Skep__NodeRole role;

    fixture_init(&empty, 2);
    env.store = empty.s;
    ck_assert_int_eq(enrol("10.0.0.1:1", WORKER, &role), -ERR_UNAVAILABLE);
    fixture_deinit(&empty);
}
END_TEST

/* N40, N41: the caller's own id decides, its role is the store's, a removed node gets nothing. */
START_TEST(renewal_follows_the_store)
{
    Skep__CertificateRenewRequest req = SKEP__CERTIFICATE_RENEW_REQUEST__INIT;
    Skep__NodeRole role = SKEP__NODE_ROLE__ROLE_WORKER;

    req.csr_pem = (ProtobufCBinaryData){ .len = csr.size, .data = csr.data };
    ck_assert_int_eq(ca_check_renew(policy, &env, "n1", &req, &role, &e), 0);
    ck_assert_int_eq(role, SKEP__NODE_ROLE__ROLE_MANAGER);
    Skep__Node *n = fixture_edit(&f, SKEP__KIND__KIND_NODE, "n1");
    n->role = SKEP__NODE_ROLE__ROLE_WORKER;
    ck_assert_int_eq(fixture_update(&f, n), 0);
    ck_assert_int_eq(ca_check_renew(policy, &env, "n1", &req, &role, &e), 0);
    ck_assert_int_eq(role, SKEP__NODE_ROLE__ROLE_WORKER);
    ck_assert_int_eq(ca_check_renew(policy, &env, "n2", &req, &role, &e), -ERR_PERMISSION);
    ck_assert_int_eq(ca_check_renew(policy, &env, "", &req, &role, &e), -ERR_PERMISSION);
    req.csr_pem.len = 0;
    ck_assert_int_eq(ca_check_renew(policy, &env, "n1", &req, &role, &e), -ERR_INVALID);
}
END_TEST

/* Drawn over the whole span, so that a cluster's nodes do not come all at once. */
START_TEST(renewal_is_spread_over_half_to_four_fifths)
{
    const int64_t born = 1000000, life = 10000;
    int64_t low = INT64_MAX, high = 0;

    for (int i = 0; i < 5000; i++) {
        int64_t at = ca_renew_at(born, born + life, &f.prng) - born;

        ck_assert(at >= life / 2 && at <= life * 8 / 10 + 1);
        low = MIN(low, at);
        high = MAX(high, at);
    }
    ck_assert_int_lt(low, life * 51 / 100);
    ck_assert_int_gt(high, life * 79 / 100);
    ck_assert_int_le(ca_renew_at(5, 5, &f.prng), 6); /* no life at all: now */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ca");
    TCase *tc = tcase_create("all");

    tcase_add_unchecked_fixture(tc, make_csr, drop_csr);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, token_decides_the_role, 0, ARRAY_LEN(token_cases));
    tcase_add_test(tc, unset_token_admits_nobody);
    tcase_add_test(tc, csr_is_checked_after_the_token);
    tcase_add_test(tc, source_is_limited);
    tcase_add_test(tc, total_is_limited);
    tcase_add_test(tc, no_cluster_yet);
    tcase_add_test(tc, renewal_follows_the_store);
    tcase_add_test(tc, renewal_is_spread_over_half_to_four_fifths);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
