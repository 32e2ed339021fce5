/* Inside the allocator: the index of what the store says is taken, and what waits. numbers.c keeps
 * one set of numbers, ipam.c subnets and their addresses, network.c networks (with vni.c and
 * keys.c), port.c published ports, service.c endpoints, task.c waiting tasks, node.c the nodes'
 * addresses; allocator.c is the core that drives them and audit.c compares it with the store. */
#ifndef SKEP_MANAGERD_ALLOCATOR_INTERNAL_H
#define SKEP_MANAGERD_ALLOCATOR_INTERNAL_H

#include "common/arena.h"
#include "common/ip.h"
#include "common/map.h"
#include "managerd/allocator/allocator.h"
#include "managerd/allocator/bits.h"

enum {
    POOLS_MAX = 2, /* of one network: IPv4, then IPv6 */
    PROTOCOLS = 3,
    TEXT_BYTES_MAX = 240, /* of a reason */
};

/* ---- numbers.c: one set of numbers that are handed out ---- */

struct numbers {
    uint64_t first, end; /* handed out: [first, end); others may be taken, too */
    uint64_t next;       /* where the next search begins */
    struct bits used;    /* taken by objects of the store, by a choice in flight, or reserved */
    struct bits flight;  /* of these: chosen by the transaction in flight */
    uint64_t *clashes;   /* taken once more by another object: must not be, but is survived */
    size_t clash_count;
};

void numbers_init(struct numbers *n, uint64_t first, uint64_t end);
void numbers_deinit(struct numbers *n);
/* An object of the store has it, or has it no longer. */
void numbers_take(struct numbers *n, uint64_t value);
void numbers_give(struct numbers *n, uint64_t value);
/* The set without what is in flight is the same. */
bool numbers_equal(const struct numbers *a, const struct numbers *b);

struct allocator;
/* Chooses the next free one for the transaction that is being filled; false when there is none. */
bool claim_next(struct allocator *a, struct numbers *n, uint64_t *ret_value);
/* This very one; false when it is taken. */
bool claim(struct allocator *a, struct numbers *n, uint64_t value);
/* Takes back all choices since mark. */
size_t claims_mark(const struct allocator *a);
void claims_undo(struct allocator *a, size_t mark);
/* The transaction's fate is known and its events were told: what no object has is free again. */
void claims_settle(struct allocator *a);
/* n goes away. */
void claims_forget(struct allocator *a, const struct numbers *n);

/* ---- ipam.c ---- */

/* The addresses of one subnet; numbers are distances from the origin. */
struct pool {
    struct ip_net subnet;
    struct ip origin; /* the first that is handed out: the subnet's or its range's base */
    struct numbers numbers;
    uint64_t capacity; /* how many can be handed out: the range without what is reserved */
    uint64_t reserved; /* not handed out: base, broadcast, gateway, named addresses */
};

/* From a complete IpamConfig; false when it does not parse (nothing is made). */
bool pool_init(struct pool *p, const Skep__IpamConfig *c);
void pool_deinit(struct pool *p);
/* False when ip is not in the subnet, or before its range. */
bool pool_number(const struct pool *p, const struct ip *ip, uint64_t *ret);
uint64_t pool_used(const struct pool *p);
/* The next free address as "10.0.1.5/24", in the arena; NULL when there is none. */
char *pool_claim(struct allocator *a, struct pool *p);
/* A subnet from the cluster's pools that meets none of the networks and none of the nodes; false:
 * there is none. */
bool subnet_find(struct allocator *a, struct ip_net *ret);
/* The network that overlaps net, other than self, or NULL. */
const struct net *subnet_clash(const struct allocator *a, const struct ip_net *net,
                               const struct net *self);
/* The unique local /64 of a network (RFC 4193), from its id. */
struct ip_net subnet_ula(const struct allocator *a, const struct net *self);

/* ---- network.c ---- */

/* A network of the store. */
struct net {
    struct net *prev, *next; /* in allocator.nets, in the order of their ids at start */
    char id[ID_CHARS + 1];
    char name[128];
    bool overlay; /* ours to allocate; other drivers are the nodes' own */
    bool ingress;
    bool allocated; /* has its subnets and VNI in the store */
    bool tentative; /* its subnets were chosen by the transaction in flight */
    size_t pool_count;
    struct pool pools[POOLS_MAX];
    uint32_t vni, encryption_port; /* as in the store; 0 = none */
    uint32_t fullness;             /* as the store has it */
    int64_t newest_ns;             /* of its tasks, at start */
};

struct net *net_find(const struct allocator *a, const char *id);
/* The ingress network, NULL when there is none. */
struct net *net_ingress(const struct allocator *a);
void net_event(struct allocator *a, const Skep__Network *before, const Skep__Network *after);
void nets_clear(struct allocator *a);
/* Allocates what is not, rotates keys, notes conditions. */
void nets_run(struct allocator *a, const struct core_env *env, struct store_tx *tx);
void nets_settle(struct allocator *a);
/* Takes or gives an address ("10.0.1.5/24") of a network; unknown networks are let pass. */
void net_take(struct allocator *a, const char *network_id, const char *address);
void net_give(struct allocator *a, const char *network_id, const char *address);
/* An option's value, NULL when it is not given. */
const char *net_option(const Skep__NetworkSpec *spec, const char *key);
bool net_encrypted(const Skep__NetworkSpec *spec);
/* In percent of the fullest pool. */
uint32_t net_percent(const struct net *n);

/* ---- vni.c ---- */

/* The VNI that the options ask for, else a free one; 0: reason says why there is none. */
uint32_t vni_choose(struct allocator *a, const Skep__NetworkSpec *spec, char *reason);
/* Two UDP ports, the first of which is returned; 0: none. */
uint32_t encryption_port_choose(struct allocator *a, char *reason);
void vni_take(struct allocator *a, const struct net *n);
void vni_give(struct allocator *a, const struct net *n);

/* ---- keys.c ---- */

/* Brings n's keys to what they shall be now: true when n was changed. Sets *ret_due_ns: how long
 * until something is to be done again. Keys are in the arena. */
bool keys_advance(struct allocator *a, const struct core_env *env, Skep__Network *n,
                  int64_t *ret_due_ns);

/* ---- port.c ---- */

void ports_init(struct allocator *a);
void ports_deinit(struct allocator *a);
void ports_take(struct allocator *a, const Skep__Endpoint *e);
void ports_give(struct allocator *a, const Skep__Endpoint *e);
/* The ports of spec with their numbers, in the arena; ports of `old`, the service's own, are kept.
 * False: reason says which is taken. */
bool ports_choose(struct allocator *a, const Skep__Service *s, const struct store *store,
                  Skep__Endpoint *ret, char *reason);
bool spec_has_ingress(const Skep__EndpointSpec *e);

/* ---- service.c ---- */

enum service_state {
    SERVICE_DUE,     /* is looked at by the next run */
    SERVICE_FLYING,  /* its endpoint is in the transaction in flight */
    SERVICE_READY,   /* has all that its spec asks for */
    SERVICE_BLOCKED, /* waits: endpoint.error, or a network that is just being allocated */
};
struct service {
    struct service *prev, *next; /* in the allocator's list of its state */
    enum service_state state;
    char id[ID_CHARS + 1];
};

struct service *service_find(const struct allocator *a, const char *id);
void service_event(struct allocator *a, const Skep__Service *before, const Skep__Service *after);
void services_clear(struct allocator *a);
void services_run(struct allocator *a, const struct core_env *env, struct store_tx *tx);
void services_settle(struct allocator *a);
void services_retry(struct allocator *a); /* the blocked ones are due */
/* "network front: no free address in 10.0.1.0/28 (13 in use)" */
void say_full(const struct net *n, size_t pool, char *reason);
/* Why a network has no subnet; nothing while that is only a matter of time. */
void say_unallocated(const struct allocator *a, const struct net *n, char *reason);

/* ---- task.c ---- */

struct item {
    struct item *prev, *next;
    struct item **list; /* which of the allocator's lists it is in */
    char id[ID_CHARS + 1];
};

void task_event(struct allocator *a, const Skep__Task *before, const Skep__Task *after);
void tasks_clear(struct allocator *a);
/* Returns when to come back. */
uint64_t tasks_run(struct allocator *a, const struct core_env *env, struct store_tx *tx);
void tasks_settle(struct allocator *a, int rc);
/* Has addresses: allocated and not ended. */
bool task_holds(const Skep__Task *t);

/* ---- node.c ---- */

void node_event(struct allocator *a, const Skep__Node *before, const Skep__Node *after);
void nodes_run(struct allocator *a, const struct core_env *env, struct store_tx *tx);

/* ---- audit.c ---- */

/* Where searches go on under a new leader: behind the newest network and, in each network, behind
 * its newest task, as if there had been no change of leaders. */
void cursors_networks(struct allocator *a);
void cursors_task(struct allocator *a, const Skep__Task *t);

/* ---- the core ---- */

struct claim {
    struct numbers *numbers;
    uint64_t value;
};

struct allocator {
    const struct store *store; /* set while leading */
    struct arena scratch;      /* one run */
    struct map nets_by_id, services_by_id, items_by_id;
    struct net *nets;
    size_t tentative_count;
    struct numbers vnis, encryption_ports; /* the latter by three */
    struct numbers ports[PROTOCOLS];
    uint16_t *host_ports;  /* services with a host-mode port, by protocol and number */
    struct ip subnet_next; /* where the search for a subnet goes on; none at first */
    struct claim *claims;  /* of the transaction in flight */
    size_t claim_count, claim_capacity;
    struct service *due, *flying_services, *blocked_services;
    struct item *fresh, *flying, *blocked; /* tasks */
    size_t blocked_count;
    bool nets_due, nodes_due, predefined_due;
    bool services_due;  /* all of them: a network is gone */
    bool nodes_blocked; /* there was no address left for one */
    /* of all nodes, as nets_run() last saw them */
    uint32_t nodes_mtu; /* the smallest */
    size_t node_addresses;
    bool freed; /* something is free again: blocked services and tasks are tried again … */
    bool woken; /* … at once, because what they waited for is there */
    bool retry_tasks, retry_now; /* the same for tasks, until they were tried */
    bool tasks_first;            /* the last transaction had no tasks in it */
    uint64_t tried_ms;           /* when blocked tasks were last tried */
    uint64_t keys_due_ms;
};

/* For messages that only borrow it. */
char *text(const char *constant);

#endif
