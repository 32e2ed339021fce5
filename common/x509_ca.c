#include "common/x509.h"

#include <mbedtls/asn1write.h>
#include <mbedtls/bignum.h>
#include <mbedtls/oid.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <mbedtls/x509_csr.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/assert.h"
#include "common/mbed.h"
#include "common/random.h"
#include "common/x509_parse.h"

#define CLEANUP_CRT __attribute__((cleanup(mbedtls_x509_crt_free)))
#define CLEANUP_CSR __attribute__((cleanup(mbedtls_x509_csr_free)))
#define CLEANUP_PK __attribute__((cleanup(mbedtls_pk_free)))
#define CLEANUP_WRITE __attribute__((cleanup(mbedtls_x509write_crt_free)))

enum { SERIAL_BYTES = 16, NAME_BYTES_MAX = 256, EXTENSION_BYTES_MAX = 256 };

struct x509_ca {
    mbedtls_x509_crt chain; /* the signing certificate, then intermediates */
    mbedtls_pk_context key;
    char subject[NAME_BYTES_MAX];
    char *intermediates_pem; /* appended to what is issued; "" for a plain root */
};

static int format_time(int64_t wall_ns, char ret[16])
{
    time_t seconds = (time_t)(wall_ns / 1000000000);
    struct tm tm;

    if (gmtime_r(&seconds, &tm) == NULL || strftime(ret, 16, "%Y%m%d%H%M%S", &tm) != 14)
        return MBEDTLS_ERR_X509_INVALID_DATE;
    return 0;
}

/* What every certificate here has in common. not_after_ns is included in the validity. */
static int begin(mbedtls_x509write_cert *w, int64_t not_before_ns, int64_t not_after_ns)
{
    unsigned char serial_bytes[SERIAL_BYTES];
    char from[16], to[16];
    mbedtls_mpi serial;

    mbedtls_x509write_crt_init(w);
    mbedtls_x509write_crt_set_version(w, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(w, MBEDTLS_MD_SHA256);
    random_bytes(serial_bytes, sizeof(serial_bytes));
    serial_bytes[0] = (serial_bytes[0] & 0x3f) | 0x40; /* positive, always 16 bytes */
    mbedtls_mpi_init(&serial);
    int rc = mbedtls_mpi_read_binary(&serial, serial_bytes, sizeof(serial_bytes));
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_serial(w, &serial);
    mbedtls_mpi_free(&serial);
    if (rc == 0)
        rc = format_time(not_before_ns, from);
    if (rc == 0)
        rc = format_time(not_after_ns, to);
    return rc == 0 ? mbedtls_x509write_crt_set_validity(w, from, to) : rc;
}

static int make_authority(mbedtls_x509write_cert *w)
{
    int rc = mbedtls_x509write_crt_set_basic_constraints(w, 1, -1);

    if (rc == 0)
        rc = mbedtls_x509write_crt_set_key_usage(w, MBEDTLS_X509_KU_KEY_CERT_SIGN |
                                                        MBEDTLS_X509_KU_CRL_SIGN);
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_subject_key_identifier(w);
    return rc == 0 ? mbedtls_x509write_crt_set_authority_key_identifier(w) : rc;
}

static int write_pem(mbedtls_x509write_cert *w, struct buf *ret_pem)
{
    unsigned char pem[X509_CSR_BYTES_MAX];
    int rc = mbedtls_x509write_crt_pem(w, pem, sizeof(pem), mbed_rng, NULL);

    if (rc != 0)
        return rc;
    buf_clear(ret_pem);
    rc = buf_append_str(ret_pem, (const char *)pem);
    return rc < 0 ? MBEDTLS_ERR_X509_BUFFER_TOO_SMALL : 0;
}

int x509_create_root(const char *key_pem, int64_t now_ns, struct buf *ret_pem, struct err *e)
{
    CLEANUP_PK mbedtls_pk_context pk;
    CLEANUP_WRITE mbedtls_x509write_cert w;

    mbedtls_pk_init(&pk);
    mbedtls_x509write_crt_init(&w);
    int rc = x509_parse_key(key_pem, &pk, e);
    if (rc < 0)
        return rc;
    rc = begin(&w, now_ns - X509_BACKDATE_NS, now_ns + X509_ROOT_LIFE_NS);
    mbedtls_x509write_crt_set_subject_key(&w, &pk);
    mbedtls_x509write_crt_set_issuer_key(&w, &pk);
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_subject_name(&w, "CN=swarm-ca");
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_issuer_name(&w, "CN=swarm-ca");
    if (rc == 0)
        rc = make_authority(&w);
    if (rc == 0)
        rc = write_pem(&w, ret_pem);
    return rc == 0 ? 0 : mbed_err(e, ERR_INTERNAL, rc, "create a root certificate");
}

/* The PEM text after the first certificate. */
static const char *after_first(const char *chain_pem)
{
    static const char end[] = "-----END CERTIFICATE-----";
    const char *at = strstr(chain_pem, end);

    if (at == NULL)
        return "";
    at += sizeof(end) - 1;
    return at + strspn(at, "\r\n");
}

struct x509_ca *x509_ca_new(const char *chain_pem, const char *key_pem, struct err *e)
{
    struct x509_ca *ca = xcalloc(1, sizeof(*ca));

    mbedtls_x509_crt_init(&ca->chain);
    mbedtls_pk_init(&ca->key);
    ca->intermediates_pem = xstrdup(after_first(chain_pem));
    int rc = x509_parse_chain(chain_pem, &ca->chain, e);
    if (rc == 0)
        rc = x509_parse_key(key_pem, &ca->key, e);
    if (rc == 0 && !ca->chain.ca_istrue)
        rc = err_set(e, ERR_INVALID, "CA certificate: may not sign certificates");
    if (rc == 0 && mbedtls_pk_check_pair(&ca->chain.pk, &ca->key) != 0)
        rc = err_set(e, ERR_INVALID, "CA certificate: the private key belongs to another");
    if (rc == 0 && mbedtls_x509_dn_gets(ca->subject, sizeof(ca->subject), &ca->chain.subject) < 0)
        rc = err_set(e, ERR_INVALID, "CA certificate: the subject is too long");
    if (rc < 0) {
        x509_ca_free(ca);
        return NULL;
    }
    return ca;
}

void x509_ca_free(struct x509_ca *ca)
{
    if (ca == NULL)
        return;
    mbedtls_x509_crt_free(&ca->chain);
    mbedtls_pk_free(&ca->key);
    free(ca->intermediates_pem);
    free(ca);
}

static int set_extended_key_usage(mbedtls_x509write_cert *w)
{
    unsigned char der[EXTENSION_BYTES_MAX], *p = der + sizeof(der);
    int size = 0;
    int rc;

#define ADD(call)                                                                                  \
    do {                                                                                           \
        rc = (call);                                                                               \
        if (rc < 0)                                                                                \
            return rc;                                                                             \
        size += rc;                                                                                \
    } while (0)
    ADD(mbedtls_asn1_write_oid(&p, der, MBEDTLS_OID_CLIENT_AUTH,
                               MBEDTLS_OID_SIZE(MBEDTLS_OID_CLIENT_AUTH)));
    ADD(mbedtls_asn1_write_oid(&p, der, MBEDTLS_OID_SERVER_AUTH,
                               MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH)));
    ADD(mbedtls_asn1_write_len(&p, der, (size_t)size));
    ADD(mbedtls_asn1_write_tag(&p, der, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE));
    return mbedtls_x509write_crt_set_extension(w, MBEDTLS_OID_EXTENDED_KEY_USAGE,
                                               MBEDTLS_OID_SIZE(MBEDTLS_OID_EXTENDED_KEY_USAGE), 0,
                                               p, (size_t)size);
}

/* dNSName entries (RFC 5280 §4.2.1.6). */
static int set_alternative_names(mbedtls_x509write_cert *w, const char *const *names, size_t count)
{
    unsigned char der[EXTENSION_BYTES_MAX], *p = der + sizeof(der);
    int size = 0;
    int rc;

    for (size_t i = count; i > 0; i--) {
        const char *name = names[i - 1];

        ADD(mbedtls_asn1_write_raw_buffer(&p, der, (const unsigned char *)name, strlen(name)));
        ADD(mbedtls_asn1_write_len(&p, der, strlen(name)));
        ADD(mbedtls_asn1_write_tag(&p, der, MBEDTLS_ASN1_CONTEXT_SPECIFIC | 2));
    }
    ADD(mbedtls_asn1_write_len(&p, der, (size_t)size));
    ADD(mbedtls_asn1_write_tag(&p, der, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE));
#undef ADD
    return mbedtls_x509write_crt_set_extension(w, MBEDTLS_OID_SUBJECT_ALT_NAME,
                                               MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME), 0, p,
                                               (size_t)size);
}

static int fill_node(mbedtls_x509write_cert *w, const struct tls_identity *id)
{
    const char *names[] = { tls_role_str(id->role), id->node.s, "swarm-ca" };
    char subject[NAME_BYTES_MAX];

    (void)snprintf(subject, sizeof(subject), "O=%s,OU=%s,CN=%s", id->cluster.s,
                   tls_role_str(id->role), id->node.s); /* ids are short and need no quoting */
    int rc = mbedtls_x509write_crt_set_subject_name(w, subject);
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_basic_constraints(w, 0, -1);
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_key_usage(w, MBEDTLS_X509_KU_DIGITAL_SIGNATURE);
    if (rc == 0)
        rc = set_extended_key_usage(w);
    if (rc == 0)
        rc = set_alternative_names(w, names, id->role == TLS_ROLE_MANAGER ? 3 : 2);
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_subject_key_identifier(w);
    return rc == 0 ? mbedtls_x509write_crt_set_authority_key_identifier(w) : rc;
}

/* mbedTLS signs through non-const pointers but changes nothing that a later signature sees. */
static int sign(const struct x509_ca *ca, mbedtls_x509write_cert *w, struct buf *ret_pem)
{
    mbedtls_x509write_crt_set_issuer_key(w, (mbedtls_pk_context *)&ca->key);
    int rc = mbedtls_x509write_crt_set_issuer_name(w, ca->subject);
    return rc == 0 ? write_pem(w, ret_pem) : rc;
}

/* A subject that mbedTLS cannot write back byte for byte would break the chain. */
static int check_names(const struct x509_ca *ca, const char *pem, const mbedtls_x509_buf *subject,
                       struct err *e)
{
    CLEANUP_CRT mbedtls_x509_crt crt;

    mbedtls_x509_crt_init(&crt);
    int rc = x509_parse_chain(pem, &crt, e);
    if (rc < 0)
        return rc;
    const mbedtls_x509_buf *issuer = &ca->chain.subject_raw;
    if (crt.issuer_raw.len != issuer->len ||
        memcmp(crt.issuer_raw.p, issuer->p, issuer->len) != 0 ||
        (subject != NULL && (crt.subject_raw.len != subject->len ||
                             memcmp(crt.subject_raw.p, subject->p, subject->len) != 0)))
        return err_set(e, ERR_UNSUPPORTED, "CA certificate: its subject cannot be reproduced");
    return 0;
}

int x509_ca_issue(const struct x509_ca *ca, const struct x509_issue *issue, struct buf *ret_pem,
                  struct err *e)
{
    CLEANUP_CSR mbedtls_x509_csr csr;
    CLEANUP_WRITE mbedtls_x509write_cert w;
    const struct tls_identity *id = &issue->identity;

    ASSERT(id->role != TLS_ROLE_NONE);
    ASSERT(id_valid(id->node.s));
    ASSERT(id_valid(id->cluster.s));
    mbedtls_x509_csr_init(&csr);
    mbedtls_x509write_crt_init(&w);
    int rc = x509_parse_csr(issue->csr_pem, issue->csr_size, &csr, e);
    if (rc < 0)
        return rc;
    rc = begin(&w, issue->now_ns - X509_BACKDATE_NS,
               MIN(id->not_after_ns, x509_crt_not_after_ns(&ca->chain)));
    mbedtls_x509write_crt_set_subject_key(&w, &csr.pk);
    mbedtls_x509write_crt_set_issuer_key(&w, (mbedtls_pk_context *)&ca->key);
    if (rc == 0)
        rc = fill_node(&w, id);
    if (rc == 0)
        rc = sign(ca, &w, ret_pem);
    if (rc != 0)
        return mbed_err(e, ERR_INTERNAL, rc, "issue a certificate");
    rc = check_names(ca, buf_str(ret_pem), NULL, e);
    return rc < 0 ? rc : buf_append_str(ret_pem, ca->intermediates_pem);
}

int x509_ca_cross_sign(const struct x509_ca *ca, const char *other_root_pem, int64_t now_ns,
                       struct buf *ret_pem, struct err *e)
{
    CLEANUP_CRT mbedtls_x509_crt other;
    CLEANUP_WRITE mbedtls_x509write_cert w;
    char subject[NAME_BYTES_MAX];

    mbedtls_x509_crt_init(&other);
    mbedtls_x509write_crt_init(&w);
    int rc = x509_parse_chain(other_root_pem, &other, e);
    if (rc < 0)
        return rc;
    if (mbedtls_x509_dn_gets(subject, sizeof(subject), &other.subject) < 0)
        return err_set(e, ERR_INVALID, "CA certificate: the subject is too long");
    rc = begin(&w, now_ns - X509_BACKDATE_NS,
               MIN(x509_crt_not_after_ns(&other), x509_crt_not_after_ns(&ca->chain)));
    mbedtls_x509write_crt_set_subject_key(&w, &other.pk);
    mbedtls_x509write_crt_set_issuer_key(&w, (mbedtls_pk_context *)&ca->key);
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_subject_name(&w, subject);
    if (rc == 0)
        rc = make_authority(&w);
    if (rc == 0)
        rc = sign(ca, &w, ret_pem);
    if (rc != 0)
        return mbed_err(e, ERR_INTERNAL, rc, "cross-sign a root certificate");
    return check_names(ca, buf_str(ret_pem), &other.subject_raw, e);
}
