/* The allocator: gives networks their subnets, VNIs and MTU, services their virtual addresses and
 * published ports, tasks and nodes their addresses, and moves tasks NEW -> PENDING once they have
 * all they need. One leader core (managerd/store/core.h); swarmkit manager/allocator, libnetwork
 * cnmallocator; features.md 3.11.
 *
 * The store is the only record of what is taken. In memory there is an index of it (sparse bitmaps
 * per network and kind of number), built at start and moved along by store events; a choice is
 * marked as soon as it is made and taken back when its transaction is refused, so nothing leaks on
 * any path. What is free again rests: the search goes on behind the last choice (next-fit).
 *
 * Who has addresses. A task: one per overlay network and family, from its allocation until it has
 * ended (its status is beyond RUNNING: nothing of it can use an address any more; swarmkit also
 * waits for the desired state, which says nothing about the container). A service: a virtual IPv4
 * address per overlay network unless it is dnsrr, and one in the ingress network when it publishes
 * ports there; freed when the service is removed or no longer wants them. A node: one in the
 * ingress network only, the source of what the routing mesh forwards.
 * DEVIATION: SwarmKit also gives each node an address in every network with a task on it, for its
 * load balancer. Here the overlay is routed and the gateway's address is the same on every node, so
 * a subnet holds twice as many tasks on many nodes.
 *
 * What cannot be allocated is a condition: its reason is on the network (error), on the service
 * (endpoint.error) and on the task's status, and it is tried again when something was freed.
 *
 * Networks of other drivers (host, bridge, macvlan …) are the node's own: tasks get an attachment
 * without addresses. Loop thread only. */
#ifndef SKEP_MANAGERD_ALLOCATOR_ALLOCATOR_H
#define SKEP_MANAGERD_ALLOCATOR_ALLOCATOR_H

#include "managerd/store/core.h"

enum {
    ALLOCATOR_PORT_FIRST = 30000, /* chosen for ports that are published without a number … */
    ALLOCATOR_PORT_LAST = 32767,  /* … as SwarmKit and Kubernetes do */
    ALLOCATOR_VNI_FIRST = 4096,
    ALLOCATOR_VNI_LAST = (1 << 24) - 1,
    ALLOCATOR_MTU_DEFAULT = 1500,    /* of nodes that do not tell */
    ALLOCATOR_VXLAN_BYTES = 50,      /* outer Ethernet, IPv4, UDP and VXLAN headers */
    ALLOCATOR_ENCRYPTION_BYTES = 80, /* WireGuard's; ESP needs less */
    ALLOCATOR_ENCRYPTION_PORT_FIRST = 51820,
    ALLOCATOR_ENCRYPTION_PORTS = 3, /* per network: agentd/netplan/plan.h */
    ALLOCATOR_FULL_PERCENT = 75,    /* networks that are fuller say so */
    ALLOCATOR_RETRY_MS = 50,        /* many blocked tasks are tried again at most this often */
};

struct allocator;

struct allocator *allocator_new(void);
void allocator_free(struct allocator *a);

extern const struct core_ops allocator_ops;

/* Compares what is in memory with what the store says, for tests and simulations, between
 * transactions of the core: every address, port and VNI that a live object has is taken once, by it
 * alone, and nothing else is. -ERR_INTERNAL names the difference. O(objects). */
int allocator_audit(const struct allocator *a, const struct store *s, struct err *e) MUST_CHECK;

/* Adds the networks of every cluster that s has not: host, bridge and none, which every engine has.
 * With ingress: also the routing mesh's; for a new cluster, because an operator may remove or
 * replace that one. */
void allocator_predefined(const struct store *s, struct prng *prng, bool ingress,
                          struct store_tx *tx);

#endif
