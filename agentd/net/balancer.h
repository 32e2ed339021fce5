/* Virtual addresses and published ports: one small interface over two ways to do it, IPVS (L
 * namespace beside the router, fwmark services) and nftables (in the router). Both are told the
 * wanted state as a plan, never increments, and find out themselves what the kernel has.
 *
 * A draining backend gets no new connections and keeps those it has. When a backend is gone, its
 * TCP connections are reset at their next packet and UDP flows move to another one. A virtual
 * address without backends refuses at once. A ping of a virtual address is answered by the node
 * itself. Names, addresses, marks and tables that both use: layout.h. */
#ifndef SKEP_AGENTD_NET_BALANCER_H
#define SKEP_AGENTD_NET_BALANCER_H

#include "agentd/net/differences.h"
#include "agentd/netplan/plan.h"

struct balancer; /* one per network */

/* Where a network's router is. */
struct balancer_place {
    const char *network_id;
    int router_ns;       /* fd of R; borrowed for the balancer's life */
    const char *pin_dir; /* where namespaces of its own are bind-mounted */
    uint32_t index;      /* small and unique on this host while the network exists */
};

struct balancer_ops {
    const char *name; /* as in NodeNetwork.balancer */
    /* 0: this kernel can; else why not. Leaves nothing behind. */
    int (*probe)(struct err *e);
    /* Adopts what stands. NULL with e set. */
    struct balancer *(*open)(const struct balancer_place *place, struct err *e);
    /* keep: the kernel stays as it is (the agent ends); else everything of it is removed. */
    void (*close)(struct balancer *b, bool keep);
    /* Makes the kernel like the plan. Cheap when little differs from the last plan: it compares
     * with what it programmed before. An error leaves the old state or the new one, and is tried
     * again by the next call. */
    int (*apply)(struct balancer *b, const struct net_plan *p, struct err *e);
    /* To be called soon after an apply: forgets what the kernel remembers of connections to
     * backends that are gone. Apart from it because it reads all connections of the host, some 10
     * ms however few they are. NULL: there is nothing to do. */
    int (*settle)(struct balancer *b, struct err *e);
    /* Compares with the kernel itself; says what differs. repair: and mends it. */
    int (*check)(struct balancer *b, const struct net_plan *p, bool repair, struct differences *d,
                 struct err *e);
};

extern const struct balancer_ops balancer_ipvs, balancer_nft;

#endif
