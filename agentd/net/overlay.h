/* One network on this host: its router namespace R with everything in it, except what the balancer
 * and the DNS server put there. network.md §3.1: no bridge, no learning; a /32 route per task, one
 * permanent neighbour and one FDB entry per remote node.
 *
 * Level-triggered: apply makes the kernel like a plan, cheaply when it knows what it programmed
 * last, else by comparing with dumps; check always compares with dumps. Devices carry aliases and
 * routes a protocol (place.h); R as a whole is ours. Loop thread. */
#ifndef SKEP_AGENTD_NET_OVERLAY_H
#define SKEP_AGENTD_NET_OVERLAY_H

#include "agentd/net/differences.h"
#include "agentd/net/entry.h"
#include "agentd/net/keeper.h"
#include "agentd/net/link.h"
#include "agentd/netplan/plan.h"

/* What all networks of a host share; borrowed. */
struct overlay_host {
    int ns;              /* the host's namespace: underlay, ends of links */
    struct nl *nl;       /* a socket there */
    const char *pin_dir; /* namespaces are pinned below, by the id of their network */
    struct ip data_path; /* what VXLAN packets are sent from; family 0 = see plan.self_vtep */
};

struct overlay {
    const struct overlay_host *host;
    char *id;
    uint32_t index;
    int ns; /* R */
    struct nl nl;
    struct nft *nft;
    struct keeper router_table;
    struct links links; /* of R, as loaded last */
    int vxlan, up, lo;  /* indices of devices, 0 = none */
    int host_link;      /* index of the host's end */
    uint32_t mtu, vni;  /* of the devices, as made */
    uint16_t port;
    struct ip vtep;
    bool v6;    /* the plan has IPv6 subnets */
    bool known; /* `programmed` is what the kernel has */
    struct entries programmed, wanted, found;
    bool devices_known;
    uint64_t repairs;
};

/* Adopts the namespace pinned for this network, or makes one. index: of the link to the host. */
int overlay_open(const struct overlay_host *host, const char *id, uint32_t index,
                 struct overlay **ret, struct err *e) MUST_CHECK;
/* keep: the kernel stays as it is; else everything goes, devices before this returns. */
void overlay_close(struct overlay *o, bool keep);
/* Removes what a namespace that nobody needs any more holds, without a plan. */
void overlay_remove_pin(const struct overlay_host *host, const char *id);

/* -ERR_UNAVAILABLE: the managers do not know this node's address yet. An error leaves some of it
 * programmed; the next apply compares with the kernel. */
int overlay_apply(struct overlay *o, const struct net_plan *p, struct err *e) MUST_CHECK;
/* Compares with the kernel; d (may be NULL) is told what differs; repair: and mends it. *ret_found
 * counts differences. */
int overlay_check(struct overlay *o, const struct net_plan *p, bool repair, struct differences *d,
                  uint32_t *ret_found, struct err *e) MUST_CHECK;
/* Somebody changed the kernel, or may have: the next apply compares with dumps. */
void overlay_doubt(struct overlay *o);

/* Looks again which devices R has. */
int overlay_links_load(struct overlay *o, struct err *e) MUST_CHECK;
/* The veth of a task in R, 0 = none. */
int overlay_task_link(const struct overlay *o, const char *task_id);
/* Makes it: the other end appears in the namespace as name, down. What was there of this task
 * before is removed. */
struct overlay_task {
    const char *task_id;
    int ns;
    const char *name;
    struct ip v4, v6; /* family 0 = none */
};
int overlay_add_task(struct overlay *o, const struct net_plan *p, const struct overlay_task *task,
                     struct err *e) MUST_CHECK;
/* Removes it, if it is there. */
void overlay_remove_task(struct overlay *o, const char *task_id);

#endif
