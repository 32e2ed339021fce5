/* A task's end of its networks: interfaces, addresses, routes and rules inside its namespace.
 *
 * The subnet is routed by the gateway, not on the link: the router is the only neighbour, so that a
 * task needs one entry of the kernel's common neighbour table however many it talks to, and is told
 * at once when a destination does not exist. Level-triggered like the rest: what is ours is tagged
 * (alias, protocol), what is missing is made. Loop thread. */
#ifndef SKEP_AGENTD_NET_ATTACH_H
#define SKEP_AGENTD_NET_ATTACH_H

#include "agentd/net/overlay.h"

enum { ATTACH_NETWORKS_MAX = 64 };

struct attach_network {
    struct overlay *overlay;
    const struct net_plan *plan;
    const Skep__NetworkAttachment *attachment;
};
struct attach {
    const char *task_id;
    int host_ns, ns; /* the task's */
    const struct attach_network *networks;
    size_t network_count;
};
/* The routers are programmed as well. *ret_changed: something was missing. Errors name the network.
 */
int attach_task(const struct attach *a, bool *ret_changed, struct err *e) MUST_CHECK;

#endif
