/* The parts of net.c: networks (net_networks.c), tasks (net_tasks.c), the watch over the kernel
 * (net_watch.c), descriptions (net_describe.c). */
#ifndef SKEP_AGENTD_NET_NET_INTERNAL_H
#define SKEP_AGENTD_NET_NET_INTERNAL_H

#include "agentd/dns/dns.h"
#include "agentd/net/balancer.h"
#include "agentd/net/egress.h"
#include "agentd/net/encrypt.h"
#include "agentd/net/ingress.h"
#include "agentd/net/net.h"
#include "agentd/net/overlay.h"
#include "agentd/net/place.h"
#include "agentd/netplan/plan.h"
#include "common/arena.h"
#include "common/clock.h"

enum {
    NET_TICK_MS = 250,
    NET_CHECK_MS = 5000, /* every network is compared with the kernel so often */
    NET_SETTLE_MS = 200, /* after an event, until the next look: events come in groups */
    NET_PAUSE_MS = 1000, /* between two looks for the sake of events */
    NET_POLL_MS = 1000,  /* whether anybody touched nftables */
    NET_TICK_BUDGET_MS = 30,
};

struct network {
    struct net *net;
    char *id;
    uint32_t index;
    bool has_index;
    struct overlay *overlay; /* NULL: could not be made yet */
    struct balancer *balancer;
    struct nl monitor;
    bool ready;       /* programmed as of `version` */
    bool unsettled;   /* the balancer has something to forget */
    bool seen;        /* by the pass over the tables */
    uint64_t version; /* tables_network_version() */
    struct arena arena;
    const struct net_plan *plan; /* NULL, or valid while plan_epoch is the net's */
    uint64_t plan_epoch;
    uint64_t checked_ms, event_ms; /* event_ms 0: nothing happened */
    uint32_t generation;           /* of R's nftables when they were looked at */
    bool overlap_told;
    char error[ERR_MESSAGE_BYTES_MAX];
};

struct attachment { /* a task whose namespace has its networks */
    char *task_id;
    pid_t pid;
    uint64_t inode; /* of the namespace: a pid may come back as another process */
    struct arena arena;
    Skep__NetworkAttachment **networks;
    size_t network_count;
    struct ip nameservers[DNS_SERVERS_MAX]; /* more are not used, as by libc */
    size_t nameserver_count;
    uint64_t checked_ms;
};

enum { NET_ROUTES_MAX = 256 }; /* more are not looked at */
struct host_routes {           /* sorted; list is for NodeNetwork.routes */
    struct ip_net items[NET_ROUTES_MAX];
    char texts[NET_ROUTES_MAX][IP_NET_CHARS + 1];
    char *list[NET_ROUTES_MAX];
    size_t count;
};

struct link_owner { /* a link to the host that stood when the agent started */
    char id[LINK_ALIAS_BYTES];
    uint32_t index;
};

struct net {
    struct loop *loop;
    struct net_options options;
    char *pin_dir;
    int host_ns;
    struct nl host_nl, host_monitor;
    struct overlay_host host;
    struct tables *tables;
    uint64_t epoch; /* raised when the tables may have changed: plans borrow from them */
    char *node_id;
    struct dns *dns;
    const struct balancer_ops *balancer; /* NULL: none works here */
    struct ingress *ingress;
    struct encrypt *encrypt; /* NULL: not even that could be found out */
    struct egress egress;
    struct network **networks; /* in order of id */
    size_t network_count;
    struct attachment **attachments;
    size_t attachment_count;
    struct link_owner *owners;
    size_t owner_count;
    uint8_t used[(PLACE_INDEX_MAX + 8) / 8]; /* indices */
    bool pins_swept; /* namespaces of networks that are no more were removed */
    bool egress_ready, ingress_ready;
    uint64_t host_checked_ms, host_event_ms, polled_ms;
    uint32_t host_generation;
    size_t cursor;
    struct loop_timer tick;
    char host_error[ERR_MESSAGE_BYTES_MAX];
    char described[ERR_MESSAGE_BYTES_MAX], described_instance[ENCRYPT_INSTANCE_BYTES];
    char ports[ERR_MESSAGE_BYTES_MAX]; /* ingress_problem() as told last */
    char address[IP_CHARS + 1];
    uint32_t mtu, described_mtu;
    struct host_routes routes;
    bool change_pending;
    struct arena check_arena;
    struct differences check;
    struct net_stats stats;
};

/* ---- net_networks.c ---- */

struct network *network_find(const struct net *n, const char *id);
/* NULL: the tables do not have it, or the managers do not know this node. */
const struct net_plan *network_plan(struct network *w);
/* Brings every network, and the host, to the tables' state; says on_change when something changed.
 */
void networks_sync(struct net *n, bool all);
int networks_host_apply(struct net *n, struct err *e) MUST_CHECK;
void networks_free(struct net *n, bool keep);
void networks_learn_owners(struct net *n);

/* ---- net_tasks.c ---- */

void tasks_free(struct net *n);
/* As struct dns_options asks for them; ctx is n. */
size_t tasks_nameservers(void *ctx, const char *network_id, const struct ip *asker,
                         struct ip ret[DNS_SERVERS_MAX]);
/* Attaches again what lost its interface, and looks into the namespaces from time to time. */
void tasks_check(struct net *n, const struct network *w, uint64_t now_ms);

/* Tells of those that have no interface. */
void tasks_tell(const struct net *n, const struct network *w, struct differences *d);

/* ---- net_watch.c ---- */

int net_watch_start(struct net *n, struct err *e) MUST_CHECK;
void net_watch_stop(struct net *n);
/* A failure only means that changes are found by the periodic check. */
void watch_network(struct network *w);
void watch_forget(struct network *w);

/* ---- net_describe.c ---- */

/* Says once when the host's own routes lead to addresses that the network has as well: its tasks
 * cannot reach those of the host's side. The overlay itself is not touched by it. */
void describe_overlap(struct network *w, const struct net_plan *p);

/* look: at the devices toward the other nodes as well. */
void describe_update(struct net *n, bool look);

/* ---- net_routes.c ---- */

/* Reads the host's routes again; true when they changed. */
bool routes_look(struct net *n);
/* The first of them that overlaps a subnet of the network; NULL = none. */
const struct ip_net *routes_overlap(const struct net *n, const struct net_plan *p);

#endif
