/* A throw-away cluster CA for tests. Every function aborts on failure. */
#ifndef SKEP_TEST_LIB_PKI_H
#define SKEP_TEST_LIB_PKI_H

#include <stdint.h>

#include "common/id.h"
#include "common/tls.h"
#include "common/x509.h"

struct pki {
    struct id cluster;
    char *root_pem;
    char *root_key_pem;
    struct x509_ca *ca;
};

/* seed makes the ids; keys are fresh each time. */
struct pki pki_new(uint64_t seed);
void pki_free(struct pki *p);

/* Chain and key of a node as one PEM text, to be freed. */
char *pki_node(const struct pki *p, struct id node, enum tls_role role);
char *pki_node_until(const struct pki *p, struct id node, enum tls_role role, int64_t now_ns,
                     int64_t not_after_ns);
/* A context of a node of this cluster, TLS_CHECK_CLUSTER. */
struct tls_context *pki_context(const struct pki *p, struct id node, enum tls_role role);
/* The n-th id of a fixed sequence. */
struct id pki_id(uint64_t n);

#endif
