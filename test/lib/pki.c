#include "test/lib/pki.h"

#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "common/buf.h"
#include "common/clock.h"

struct id pki_id(uint64_t n)
{
    struct prng p;

    prng_init(&p, n);
    return id_from_prng(&p);
}

struct pki pki_new(uint64_t seed)
{
    struct pki p = { .cluster = pki_id(seed) };
    struct buf key = BUF_INIT(X509_PEM_BYTES_MAX), pem = BUF_INIT(X509_PEM_BYTES_MAX);

    ASSERT(x509_generate_key(&key, NULL) == 0);
    ASSERT(x509_create_root(buf_str(&key), clock_wall_ns(), &pem, NULL) == 0);
    p.root_pem = xstrdup(buf_str(&pem));
    p.root_key_pem = xstrdup(buf_str(&key));
    p.ca = x509_ca_new(p.root_pem, p.root_key_pem, NULL);
    ASSERT(p.ca != NULL);
    buf_deinit(&key);
    buf_deinit(&pem);
    return p;
}

void pki_free(struct pki *p)
{
    x509_ca_free(p->ca);
    free(p->root_pem);
    free(p->root_key_pem);
}

char *pki_node_until(const struct pki *p, struct id node, enum tls_role role, int64_t now_ns,
                     int64_t not_after_ns)
{
    struct buf key = BUF_INIT(X509_PEM_BYTES_MAX), csr = BUF_INIT(X509_PEM_BYTES_MAX),
               pem = BUF_INIT(X509_PEM_BYTES_MAX);

    ASSERT(x509_generate_key(&key, NULL) == 0);
    ASSERT(x509_create_csr(buf_str(&key), &csr, NULL) == 0);
    struct x509_issue issue = { .csr_pem = csr.data,
                                .csr_size = csr.size,
                                .identity = { .node = node,
                                              .cluster = p->cluster,
                                              .role = role,
                                              .not_after_ns = not_after_ns },
                                .now_ns = now_ns };
    ASSERT(x509_ca_issue(p->ca, &issue, &pem, NULL) == 0);
    ASSERT(buf_append_str(&pem, buf_str(&key)) == 0);
    char *text = xstrdup(buf_str(&pem));
    buf_deinit(&key);
    buf_deinit(&csr);
    buf_deinit(&pem);
    return text;
}

char *pki_node(const struct pki *p, struct id node, enum tls_role role)
{
    int64_t now_ns = clock_wall_ns();

    return pki_node_until(p, node, role, now_ns, now_ns + INT64_C(86400000000000));
}

struct tls_context *pki_context(const struct pki *p, struct id node, enum tls_role role)
{
    char *node_pem = pki_node(p, node, role);
    struct tls_context_options o = { .check = TLS_CHECK_CLUSTER,
                                     .root_ca_pem = p->root_pem,
                                     .node_pem = node_pem };
    struct err e = { 0 };
    struct tls_context *t = tls_context_new(&o, &e);

    ASSERT(t != NULL);
    free(node_pem);
    return t;
}
