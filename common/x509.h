/* The cluster's certificates: ECDSA P-256 with SHA-256 throughout (SwarmKit ca/certificates.go).
 *
 *   root   CN=swarm-ca, self-signed, CA, 20 years
 *   node   O=<cluster id>, OU=skep-manager | skep-worker, CN=<node id>; server and client
 *          authentication; SANs: the OU, the node id, and swarm-ca for managers
 *
 * A CSR contributes its public key and nothing else. Texts are PEM. The caller gives the time, so
 * that tests need no clock; keys and serial numbers come from the kernel. Functions keep no state
 * and may run on any thread; signing and key generation take milliseconds. */
#ifndef SKEP_COMMON_X509_H
#define SKEP_COMMON_X509_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/tls.h"
#include "common/token.h"

enum {
    X509_PEM_BYTES_MAX = 16 << 10, /* a chain with its key */
    X509_CSR_BYTES_MAX = 4 << 10,
    X509_CHAIN_CERTIFICATES_MAX = 4, /* leaf, cross-signed intermediates, root */
};
#define X509_ROOT_LIFE_NS (20LL * 365 * 24 * 3600 * 1000000000)
#define X509_BACKDATE_NS (3600LL * 1000000000) /* tolerates clocks that are behind */

/* "skep-manager" and "skep-worker", the OU of a certificate; "none". */
const char *tls_role_str(enum tls_role role);

/* Outputs are replaced, on success only; they are born with X509_PEM_BYTES_MAX. */

int x509_generate_key(struct buf *ret_key_pem, struct err *e) MUST_CHECK;
/* Self-signed root, valid from an hour before now_ns for X509_ROOT_LIFE_NS. */
int x509_create_root(const char *key_pem, int64_t now_ns, struct buf *ret_pem,
                     struct err *e) MUST_CHECK;
int x509_create_csr(const char *key_pem, struct buf *ret_pem, struct err *e) MUST_CHECK;
/* Refuses other keys than P-256, other hashes than SHA-256 and a signature that the key did not
 * make. csr_pem may be any bytes from a stranger. */
int x509_check_csr(const void *csr_pem, size_t size, struct err *e) MUST_CHECK;

/* A certificate authority: its certificate and key, parsed and found to belong together. */
struct x509_ca;
/* chain_pem: the signing certificate, then intermediates that issued certificates shall carry (for
 * a cross-signed root). */
struct x509_ca *x509_ca_new(const char *chain_pem, const char *key_pem, struct err *e);
void x509_ca_free(struct x509_ca *ca);

struct x509_issue {
    const void *csr_pem; /* checked as by x509_check_csr() */
    size_t csr_size;
    struct tls_identity identity; /* not_after_ns too: cut to the authority's own end */
    int64_t now_ns;               /* notBefore is an hour earlier */
};
/* Leaf first, then the authority's intermediates. */
int x509_ca_issue(const struct x509_ca *ca, const struct x509_issue *issue, struct buf *ret_pem,
                  struct err *e) MUST_CHECK;
/* Signs another authority's certificate anew under this one (root rotation): same subject and key,
 * this issuer, valid until the earlier of both ends. */
int x509_ca_cross_sign(const struct x509_ca *ca, const char *other_root_pem, int64_t now_ns,
                       struct buf *ret_pem, struct err *e) MUST_CHECK;

/* What the first certificate of pem says about its node. -ERR_INVALID unless it has exactly one
 * CN (an id), OU (a role) and O (an id). */
int x509_identity(const char *pem, struct tls_identity *ret, struct err *e) MUST_CHECK;
/* The first certificate's validity, wall clock. */
int x509_validity(const char *pem, int64_t *ret_not_before_ns, int64_t *ret_not_after_ns,
                  struct err *e) MUST_CHECK;
/* Base36 of the SHA-256 of every certificate in pem, so that nothing can be slipped in beside the
 * root that a token pins; other text and line ends do not matter. */
int x509_root_digest(const char *pem, char ret_digest[TOKEN_DIGEST_CHARS + 1],
                     struct err *e) MUST_CHECK;

/* For the TLS engine. */
struct mbedtls_x509_crt;
int x509_crt_identity(const struct mbedtls_x509_crt *crt, struct tls_identity *ret,
                      struct err *e) MUST_CHECK;
int64_t x509_crt_not_before_ns(const struct mbedtls_x509_crt *crt);
int64_t x509_crt_not_after_ns(const struct mbedtls_x509_crt *crt);

#endif
