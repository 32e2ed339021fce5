/* The networks of this host: makes the kernel like the plans (agentd/netplan/plan.h) and keeps it
 * so. Owns the router namespaces, everything in them, the host's own tables, and the DNS listeners
 * (agentd/dns). Loop thread; netlink and nft calls are answered by the kernel at once.
 *
 * Level-triggered: every change of the tables, every few seconds, and every netlink event that
 * touches what is ours leads to a comparison of plan and kernel; what differs is repaired and
 * counted. What stands after a restart is adopted, not made anew. What cannot be programmed is
 * said: net_describe()'s error keeps tasks with networks away from this node. */
#ifndef SKEP_AGENTD_NET_NET_H
#define SKEP_AGENTD_NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "common/ip.h"
#include "common/loop.h"
#include "proto/dispatcher.pb-c.h"

struct net;

enum net_balancer { NET_BALANCER_AUTO, NET_BALANCER_IPVS, NET_BALANCER_NFT };

struct net_options {     /* strings are borrowed */
    const char *run_dir; /* netns/ and dns/ are made below; a tmpfs: gone with the host's power */
    struct ip data_path; /* --data-path-addr; family 0: as the managers see this node */
    enum net_balancer balancer; /* AUTO: IPVS where the kernel has it */
    /* The tables changed, a network became ready, or net_describe() would say something else. */
    void (*on_change)(void *ctx);
    void *ctx;
};

/* NULL with e set when this host cannot do networks at all (no permission, no VXLAN); the agent
 * then runs without and says so. */
struct net *net_new(struct loop *l, const struct net_options *o, struct err *e);
/* Leaves the kernel as it is: tasks go on talking. */
void net_free(struct net *n);
/* The node left its cluster: removes all that is ours. */
void net_clear(struct net *n);

/* Which node this is; tables of another identity are forgotten. */
void net_set_identity(struct net *n, const char *node_id);
/* Takes an answer of NETWORKS in and programs the kernel with it before it returns; failures are
 * retried and told by net_describe(). */
void net_apply(struct net *n, const Skep__NetworksResponse *resp);
/* The session was lost: a complete set follows. */
void net_expect_complete(struct net *n);

/* What a task needs inside its namespace. */
struct net_task {
    const char *task_id;
    Skep__NetworkAttachment *const *networks; /* overlays, in the order of its spec; as allocated */
    size_t network_count;
    char *const *nameservers; /* of its service: where names that no network has are asked for */
    size_t nameserver_count;  /* 0: the host's resolvers */
};

/* Gives the namespace of process pid an interface (eth0 … in order; the first free numbers) per
 * network with addresses and routes: the default route by the first network that is not internal,
 * ingress last; replies leave by the interface whose address they have. Idempotent: a namespace
 * that has them already is only checked. -ERR_UNAVAILABLE: a network's table has not come yet, or
 * it is not programmed; try again after on_change. Other errors are final and name the network. */
int net_attach(struct net *n, const struct net_task *task, pid_t pid, struct err *e) MUST_CHECK;
/* The task's container is gone: removes what is left of it. Unknown tasks are fine. */
void net_detach(struct net *n, const char *task_id);
/* After a restart: only these tasks have containers; forgets attachments of others. */
void net_keep_only(struct net *n, bool (*has)(void *ctx, const char *task_id), void *ctx);

/* The addresses that a task's resolv.conf names: the gateways of its networks, where our DNS
 * listens. They follow from the attachment's subnet alone (first address, or as configured), so
 * that a container can be created before its networks are here: false when a network's table has
 * not come (try again after on_change). */
enum { NET_NAMESERVERS_MAX = 3 };
size_t net_nameservers(const struct net *n, const struct net_task *task,
                       struct ip ret[NET_NAMESERVERS_MAX]);

/* What this host can do, for the node's description; strings are valid until the next call. */
void net_describe(struct net *n, Skep__NodeNetwork *ret);

/* Compares plan and kernel now. Fills up to max differences (owned by n, valid until the next
 * call); returns how many there are. Nothing is repaired by the call itself. */
size_t net_check(struct net *n, const Skep__NetworkDifference **ret, size_t max);

/* Counters for people and tests. */
struct net_stats {
    uint64_t applies, repairs, failures, dns_queries;
    uint32_t networks, endpoints;
    uint32_t last_apply_us;
};
void net_stats(const struct net *n, struct net_stats *ret);

#endif
