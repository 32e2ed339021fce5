/* The health answers that ingress.h promises to external balancers: a very small HTTP/1.1 server
 * (RFC 9112), one request per connection. Loop thread. */
#ifndef SKEP_AGENTD_NET_HEALTH_H
#define SKEP_AGENTD_NET_HEALTH_H

#include <stdint.h>

#include "common/loop.h"

struct health;

enum {
    HEALTH_CLIENTS_MAX = 64, /* more are closed at once */
    HEALTH_REQUEST_BYTES_MAX = 2048,
    HEALTH_WAIT_MS = 5000, /* for a request */
};

/* How many tasks of this node answer on a published port; -1: no such port. */
typedef int health_count_fn(void *ctx, uint8_t protocol, uint16_t port);

/* Listens in the thread's namespace. NULL with e set. */
struct health *health_new(struct loop *l, uint16_t port, health_count_fn *count, void *ctx,
                          struct err *e);
void health_free(struct health *h);

#endif
