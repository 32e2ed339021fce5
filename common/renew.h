/* Renews this host's certificate over a connection to a manager: a new key, a CSR, the answer
 * checked to be for this node, stored. The caller reloads the identity and updates its tls_context.
 */
#ifndef SKEP_COMMON_RENEW_H
#define SKEP_COMMON_RENEW_H

#include "common/identity.h"
#include "common/rpc.h"

typedef void renew_done_fn(void *ctx, int rc, const struct err *e);

/* client is borrowed until done. done runs later, once. */
int renew_start(struct rpc_client *client, const char *state_dir, const struct identity *current,
                renew_done_fn *done, void *ctx, struct err *e) MUST_CHECK;

#endif
