/* Connections that the kernel remembers in one namespace (ctnetlink), to end those that lead to a
 * backend which is gone: a UDP flow would go there as long as packets come, a TCP connection until
 * its sender gives up. Without the memory the next packet is looked at anew. */
#ifndef SKEP_AGENTD_NET_CONNTRACK_H
#define SKEP_AGENTD_NET_CONNTRACK_H

#include <stdbool.h>
#include <stddef.h>

#include "agentd/net/nl.h"

struct conntrack_flow {           /* IPv4; addresses and ports in host order */
    uint32_t source, destination; /* as the client sent it */
    uint32_t server;              /* who answers: after translation */
    uint16_t destination_port;
    uint8_t protocol;
};

typedef bool conntrack_match_fn(void *ctx, const struct conntrack_flow *f);

/* netfilter: a socket of NETLINK_NETFILTER. Forgets all that match; *ret_count is how many. O(all
 * connections of the namespace). */
int conntrack_forget(struct nl *netfilter, conntrack_match_fn *match, void *ctx, size_t *ret_count,
                     struct err *e) MUST_CHECK;

#endif
