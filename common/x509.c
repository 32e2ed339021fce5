#include "common/x509.h"

#include <mbedtls/ecp.h>
#include <mbedtls/oid.h>
#include <mbedtls/pk.h>
#include <mbedtls/sha256.h>
#include <mbedtls/x509_crt.h>
#include <mbedtls/x509_csr.h>
#include <string.h>

#include "common/assert.h"
#include "common/mbed.h"
#include "common/x509_parse.h"

#define CLEANUP_PK __attribute__((cleanup(mbedtls_pk_free)))
#define CLEANUP_CRT __attribute__((cleanup(mbedtls_x509_crt_free)))
#define CLEANUP_CSR __attribute__((cleanup(mbedtls_x509_csr_free)))

enum { HASH_BYTES = 32 };

const char *tls_role_str(enum tls_role role)
{
    switch (role) {
    case TLS_ROLE_WORKER:
        return "skep-worker";
    case TLS_ROLE_MANAGER:
        return "skep-manager";
    case TLS_ROLE_NONE:
        break;
    }
    return "none";
}

int x509_generate_key(struct buf *ret_key_pem, struct err *e)
{
    CLEANUP_PK mbedtls_pk_context pk;
    unsigned char pem[1024];
    int rc;

    mbedtls_pk_init(&pk);
    rc = mbedtls_pk_setup(&pk, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    if (rc == 0)
        rc = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(pk), mbed_rng, NULL);
    if (rc == 0)
        rc = mbedtls_pk_write_key_pem(&pk, pem, sizeof(pem));
    if (rc != 0)
        return mbed_err(e, ERR_INTERNAL, rc, "generate a key");
    buf_clear(ret_key_pem);
    rc = buf_append_str(ret_key_pem, (const char *)pem);
    explicit_bzero(pem, sizeof(pem));
    return rc;
}

int x509_parse_key(const char *key_pem, struct mbedtls_pk_context *pk, struct err *e)
{
    int rc = mbedtls_pk_parse_key(pk, (const unsigned char *)key_pem, strlen(key_pem) + 1, NULL, 0);

    return rc == 0 ? 0 : mbed_err(e, ERR_INVALID, rc, "private key");
}

int x509_create_csr(const char *key_pem, struct buf *ret_pem, struct err *e)
{
    CLEANUP_PK mbedtls_pk_context pk;
    mbedtls_x509write_csr w;
    unsigned char pem[X509_CSR_BYTES_MAX];

    mbedtls_pk_init(&pk);
    int rc = x509_parse_key(key_pem, &pk, e);
    if (rc < 0)
        return rc;
    mbedtls_x509write_csr_init(&w);
    mbedtls_x509write_csr_set_key(&w, &pk);
    mbedtls_x509write_csr_set_md_alg(&w, MBEDTLS_MD_SHA256);
    rc = mbedtls_x509write_csr_set_subject_name(&w, "CN=node"); /* ignored by the authority */
    if (rc == 0)
        rc = mbedtls_x509write_csr_pem(&w, pem, sizeof(pem), mbed_rng, NULL);
    mbedtls_x509write_csr_free(&w);
    if (rc != 0)
        return mbed_err(e, ERR_INTERNAL, rc, "create a CSR");
    buf_clear(ret_pem);
    return buf_append_str(ret_pem, (const char *)pem);
}

static int check_parsed_csr(mbedtls_x509_csr *csr, struct err *e)
{
    unsigned char hash[HASH_BYTES];

    if (!mbedtls_pk_can_do(&csr->pk, MBEDTLS_PK_ECDSA) ||
        mbedtls_pk_ec(csr->pk)->grp.id != MBEDTLS_ECP_DP_SECP256R1)
        return err_set(e, ERR_INVALID, "CSR: the key is not ECDSA P-256");
    if (csr->sig_md != MBEDTLS_MD_SHA256 || csr->sig_pk != MBEDTLS_PK_ECDSA)
        return err_set(e, ERR_INVALID, "CSR: not signed with ECDSA and SHA-256");
    int rc = mbedtls_sha256_ret(csr->cri.p, csr->cri.len, hash, 0);
    if (rc == 0)
        rc = mbedtls_pk_verify(&csr->pk, MBEDTLS_MD_SHA256, hash, sizeof(hash), csr->sig.p,
                               csr->sig.len);
    return rc == 0 ? 0 : mbed_err(e, ERR_INVALID, rc, "CSR: signature");
}

int x509_parse_csr(const void *csr_pem, size_t size, struct mbedtls_x509_csr *csr, struct err *e)
{
    CLEANUP_FREE char *text = NULL; /* mbedTLS takes PEM only with its NUL */

    if (size > X509_CSR_BYTES_MAX)
        return err_set(e, ERR_INVALID, "CSR: longer than %d bytes", X509_CSR_BYTES_MAX);
    if (size == 0 || memchr(csr_pem, '\0', size) != NULL)
        return err_set(e, ERR_INVALID, "CSR: not PEM");
    text = xstrndup(csr_pem, size);
    int rc = mbedtls_x509_csr_parse(csr, (const unsigned char *)text, size + 1);
    if (rc != 0)
        return mbed_err(e, ERR_INVALID, rc, "CSR");
    return check_parsed_csr(csr, e);
}

int x509_check_csr(const void *csr_pem, size_t size, struct err *e)
{
    CLEANUP_CSR mbedtls_x509_csr csr;

    mbedtls_x509_csr_init(&csr);
    return x509_parse_csr(csr_pem, size, &csr, e);
}

int x509_parse_chain(const char *pem, struct mbedtls_x509_crt *crt, struct err *e)
{
    size_t size = strnlen(pem, X509_PEM_BYTES_MAX + 1);
    unsigned count = 0;

    if (size > X509_PEM_BYTES_MAX)
        return err_set(e, ERR_INVALID, "certificate: longer than %d bytes", X509_PEM_BYTES_MAX);
    int rc = mbedtls_x509_crt_parse(crt, (const unsigned char *)pem, size + 1);
    if (rc > 0)
        return err_set(e, ERR_INVALID, "certificate: %d of the PEM blocks are damaged", rc);
    if (rc < 0)
        return mbed_err(e, ERR_INVALID, rc, "certificate");
    for (const mbedtls_x509_crt *c = crt; c != NULL; c = c->next)
        count++;
    if (count > X509_CHAIN_CERTIFICATES_MAX)
        return err_set(e, ERR_INVALID, "certificate: more than %d in one chain",
                       X509_CHAIN_CERTIFICATES_MAX);
    return 0;
}

/* Days since 1970 of a proleptic Gregorian date (Hinnant, chrono-compatible date algorithms). */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = year - (month <= 2);
    int64_t era = y / 400; /* years are positive here */
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

static int64_t time_ns(const mbedtls_x509_time *t)
{
    int64_t seconds =
        days_of(t->year, t->mon, t->day) * 86400 + t->hour * 3600 + t->min * 60 + t->sec;

    /* 64 bits of nanoseconds end in 2262; "for ever" (year 9999) is cut there. */
    if (seconds > INT64_MAX / 1000000000)
        return INT64_MAX;
    return seconds < 0 ? 0 : seconds * 1000000000;
}

int64_t x509_crt_not_before_ns(const struct mbedtls_x509_crt *crt)
{
    return time_ns(&crt->valid_from);
}

int64_t x509_crt_not_after_ns(const struct mbedtls_x509_crt *crt)
{
    return time_ns(&crt->valid_to);
}

/* Finds the only attribute of type oid. */
static int one_name(const mbedtls_x509_name *names, const char *oid, const char *label,
                    const mbedtls_x509_buf **ret, struct err *e)
{
    const mbedtls_x509_buf *found = NULL;

    for (const mbedtls_x509_name *n = names; n != NULL; n = n->next) {
        if (n->oid.len != strlen(oid) || memcmp(n->oid.p, oid, n->oid.len) != 0)
            continue;
        if (found != NULL)
            return err_set(e, ERR_INVALID, "certificate: more than one %s", label);
        found = &n->val;
    }
    if (found == NULL)
        return err_set(e, ERR_INVALID, "certificate: no %s", label);
    *ret = found;
    return 0;
}

/* Copies an id out of DER; anything else (NULs, new lines, 10 KB) is refused. */
static int id_of(const mbedtls_x509_buf *value, const char *label, struct id *ret, struct err *e)
{
    char text[ID_CHARS + 1] = "";

    if (value->len == ID_CHARS)
        memcpy(text, value->p, ID_CHARS);
    if (!id_valid(text))
        return err_set(e, ERR_INVALID, "certificate: the %s is not an id", label);
    *ret = id_from_str(text);
    return 0;
}

static bool names_equal(const mbedtls_x509_buf *value, const char *text)
{
    return value->len == strlen(text) && memcmp(value->p, text, value->len) == 0;
}

int x509_crt_identity(const struct mbedtls_x509_crt *crt, struct tls_identity *ret, struct err *e)
{
    const mbedtls_x509_buf *cn, *ou, *o;
    struct tls_identity identity = { .not_after_ns = x509_crt_not_after_ns(crt) };
    int rc = one_name(&crt->subject, MBEDTLS_OID_AT_CN, "CN", &cn, e);

    if (rc == 0)
        rc = one_name(&crt->subject, MBEDTLS_OID_AT_ORG_UNIT, "OU", &ou, e);
    if (rc == 0)
        rc = one_name(&crt->subject, MBEDTLS_OID_AT_ORGANIZATION, "O", &o, e);
    if (rc == 0)
        rc = id_of(cn, "CN", &identity.node, e);
    if (rc == 0)
        rc = id_of(o, "O", &identity.cluster, e);
    if (rc < 0)
        return rc;
    if (names_equal(ou, tls_role_str(TLS_ROLE_MANAGER)))
        identity.role = TLS_ROLE_MANAGER;
    else if (names_equal(ou, tls_role_str(TLS_ROLE_WORKER)))
        identity.role = TLS_ROLE_WORKER;
    else
        return err_set(e, ERR_INVALID, "certificate: the OU is not a role");
    *ret = identity;
    return 0;
}

int x509_identity(const char *pem, struct tls_identity *ret, struct err *e)
{
    CLEANUP_CRT mbedtls_x509_crt crt;

    mbedtls_x509_crt_init(&crt);
    int rc = x509_parse_chain(pem, &crt, e);
    return rc < 0 ? rc : x509_crt_identity(&crt, ret, e);
}

int x509_validity(const char *pem, int64_t *ret_not_before_ns, int64_t *ret_not_after_ns,
                  struct err *e)
{
    CLEANUP_CRT mbedtls_x509_crt crt;

    mbedtls_x509_crt_init(&crt);
    int rc = x509_parse_chain(pem, &crt, e);
    if (rc < 0)
        return rc;
    *ret_not_before_ns = x509_crt_not_before_ns(&crt);
    *ret_not_after_ns = x509_crt_not_after_ns(&crt);
    return 0;
}

int x509_root_digest(const char *pem, char ret_digest[TOKEN_DIGEST_CHARS + 1], struct err *e)
{
    CLEANUP_CRT mbedtls_x509_crt crt;
    mbedtls_sha256_context sha;
    unsigned char hash[HASH_BYTES];

    mbedtls_x509_crt_init(&crt);
    int rc = x509_parse_chain(pem, &crt, e);
    if (rc < 0)
        return rc;
    mbedtls_sha256_init(&sha);
    rc = mbedtls_sha256_starts_ret(&sha, 0);
    for (const mbedtls_x509_crt *c = &crt; rc == 0 && c != NULL; c = c->next)
        rc = mbedtls_sha256_update_ret(&sha, c->raw.p, c->raw.len);
    if (rc == 0)
        rc = mbedtls_sha256_finish_ret(&sha, hash);
    mbedtls_sha256_free(&sha);
    if (rc != 0)
        return mbed_err(e, ERR_INTERNAL, rc, "digest of a certificate");
    base36_encode(hash, sizeof(hash), ret_digest, TOKEN_DIGEST_CHARS);
    return 0;
}
