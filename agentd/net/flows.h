/* Which connections of a router lead to a backend that is gone, or were made before their address
 * had a backend: a predicate for conntrack_forget(), and when to look. Pure. */
#ifndef SKEP_AGENTD_NET_FLOWS_H
#define SKEP_AGENTD_NET_FLOWS_H

#include "agentd/net/conntrack.h"
#include "agentd/net/nft_model.h"

struct flows_span { /* of addresses, first and last */
    uint32_t first, last;
};

struct flows {
    uint32_t *live; /* backends, also draining ones; in order */
    size_t live_count;
    uint32_t *direct; /* addresses that are not ours to translate: tasks, gateways; in order */
    size_t direct_count;
    struct flows_span *subnets;
    size_t subnet_count;
};

const struct flows *flows_make(const struct net_plan *p, struct arena *a);
/* Whether connections can have become stale by the change. was and old NULL: at the start. */
bool flows_changed(const struct flows *was, const struct flows *now, const struct nft_model *old,
                   const struct nft_model *want);
/* conntrack_match_fn; ctx is a struct flows. */
bool flows_stale(void *ctx, const struct conntrack_flow *f);

#endif
