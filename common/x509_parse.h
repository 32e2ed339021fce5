/* Parsing shared by x509.c, x509_ca.c and tls.c; only they see mbedTLS types. Targets are
 * initialised by the caller and hold whatever was parsed also after a failure. */
#ifndef SKEP_COMMON_X509_PARSE_H
#define SKEP_COMMON_X509_PARSE_H

#include <stddef.h>

#include "common/err.h"
#include "common/mem.h"

struct mbedtls_pk_context;
struct mbedtls_x509_crt;
struct mbedtls_x509_csr;

int x509_parse_key(const char *key_pem, struct mbedtls_pk_context *pk, struct err *e) MUST_CHECK;
/* All certificates of pem, within X509_PEM_BYTES_MAX and X509_CHAIN_CERTIFICATES_MAX; other PEM
 * blocks, such as the key of a node's chain-and-key file, are skipped. */
int x509_parse_chain(const char *pem, struct mbedtls_x509_crt *crt, struct err *e) MUST_CHECK;
/* As x509_check_csr(). */
int x509_parse_csr(const void *csr_pem, size_t size, struct mbedtls_x509_csr *csr,
                   struct err *e) MUST_CHECK;

#endif
