/* What both balancers (balancer_nft.c, balancer_ipvs.c) use: routes that follow from a plan, and a
 * plan to try a kernel with. */
#ifndef SKEP_AGENTD_NET_BALANCER_INTERNAL_H
#define SKEP_AGENTD_NET_BALANCER_INTERNAL_H

#include "agentd/net/nft_model.h"
#include "agentd/net/ways.h"

/* Routes and rules of a namespace in the model's role: virtual addresses are answered by R itself
 * (NFT_ROUTER), go from R to L (NFT_STEER) and are answered by L (NFT_MARKS). */
const struct ways *balancer_ways(const struct nft_model *m, const struct net_plan *p,
                                 struct arena *a);
/* A small plan that uses all that a balancer can do. */
const struct net_plan *balancer_trial_plan(void);
/* Sizes and limits of connection tracking in R that matter to both; what cannot be set is left. */
void balancer_tune(int router_ns);

#endif
