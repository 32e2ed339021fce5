/* How a host becomes part of a cluster: fetch the root CA from the enrolment port without trusting
 * it, compare with the token's digest before anything is sent, connect again verified, send token
 * and CSR, store the identity. Asynchronous on the loop; one remote after another until one works;
 * a manager that cannot just now, because leadership moves, is asked again for ten seconds. */
#ifndef SKEP_COMMON_ENROL_H
#define SKEP_COMMON_ENROL_H

#include "common/identity.h"
#include "common/rpc.h"
#include "proto/ca.pb-c.h"

enum { ENROL_TIMEOUT_MS = 20000, ENROL_PORT_OFFSET = 1 };

struct enrol_options {
    const char *state_dir;
    char *const *remotes; /* host or host:port (of the cluster port; 2377 by default) */
    size_t remote_count;
    const char *token;
    Skep__NodeAvailability availability;
};
/* rc 0: the identity is on disk and *id is it (borrowed). Otherwise e says which remote failed why;
 * nothing was written. */
typedef void enrol_done_fn(void *ctx, int rc, const struct identity *id, const struct err *e);

struct enrol;
/* Everything in o is copied. NULL with e set for a malformed token or remote. done runs later,
 * once; not after enrol_cancel(). */
struct enrol *enrol_start(struct rpc *rpc, struct loop *l, const struct enrol_options *o,
                          enrol_done_fn *done, void *ctx, struct err *e);
/* Also frees a finished one. NULL is allowed. */
void enrol_cancel(struct enrol *en);

#endif
