/* Our mbedTLS engine for nng, and the identity that it proves.
 *
 * TLS 1.2 only, ECDHE-ECDSA-AES-GCM, P-256, session resumption (tickets, keys in memory, rotated),
 * certificates verified always: chain to the cluster's root, validity with an hour of clock skew,
 * exactly one role. A peer is who its certificate says: CN = node id, OU = skep-manager or
 * skep-worker, O = cluster id. Resumed sessions carry and re-check identity and expiry.
 *
 * Threads: a tls_context may be created and replaced on the loop thread while nng's threads use it;
 * connections keep the credentials that they were made with. */
#ifndef SKEP_COMMON_TLS_H
#define SKEP_COMMON_TLS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/id.h"
#include "common/mem.h"

enum tls_role { TLS_ROLE_NONE, TLS_ROLE_WORKER, TLS_ROLE_MANAGER };

struct tls_identity {
    struct id node;    /* CN */
    struct id cluster; /* O */
    enum tls_role role;
    int64_t not_after_ns; /* wall clock */
};

struct tls_context;

/* How a context treats the other side. */
enum tls_peer_check {
    TLS_CHECK_CLUSTER, /* mutual: both sides need a certificate of this cluster */
    TLS_CHECK_SERVER,  /* server side: no client certificate (enrolment); client side: the server
                          must be a manager, the client has no certificate yet */
    TLS_CHECK_NONE,    /* client side only: to fetch the root CA, which its digest then proves */
};

#define TLS_CLOCK_SKEW_NS (3600LL * 1000000000) /* validity is stretched by this at both ends */
enum { TLS_HANDSHAKE_MS_MAX = 5000, TLS_SESSIONS_MAX = 16, TLS_TICKET_LIFE_S = 24 * 3600 };

struct tls_context_options {
    enum tls_peer_check check;
    const char *root_ca_pem;   /* one or more certificates; NULL only with TLS_CHECK_NONE */
    const char *node_pem;      /* own chain and key, leaf first; NULL for a client without */
    int64_t (*wall_now)(void); /* NULL = clock_wall_ns; for tests */
};
/* Returns NULL with e naming what is wrong (expired, key does not fit, not of this root). One
 * context may serve listeners and clients alike. Both texts are copied. */
struct tls_context *tls_context_new(const struct tls_context_options *o, struct err *e);
/* Replaces the credentials (renewal, role change); established connections are not dropped, new
 * ones use the new credentials. Sessions to resume are forgotten when the roots or the own
 * certificate changed, so that the next handshake shows the new one. On failure nothing changes. */
int tls_context_update(struct tls_context *t, const struct tls_context_options *o,
                       struct err *e) MUST_CHECK;
/* Connections and listeners may outlive this call: they hold what they need. */
void tls_context_free(struct tls_context *t);
/* Node ids that are refused although their certificate is valid (removed nodes). Copied. Applies
 * to handshakes, and to every further request on connections that exist. */
void tls_context_set_removed(struct tls_context *t, const struct id *ids, uint32_t count);

/* Who this context's certificate says we are; false when it has none. */
bool tls_context_own(struct tls_context *t, struct tls_identity *ret);
/* 0 while a peer that was accepted once still may speak: not removed, not expired. */
int tls_context_check(struct tls_context *t, const struct tls_identity *peer,
                      struct err *e) MUST_CHECK;

struct tls_stats {
    uint64_t full, resumed, refused; /* handshakes of both sides */
};
struct tls_stats tls_context_stats(const struct tls_context *t);

#endif
