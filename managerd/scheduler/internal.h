/* Inside the scheduler: the mirror of the cluster that decisions are made from. nodeset.c keeps
 * nodes and what is used on them, group.c the groups and their waiting tasks, filter.c judges one
 * node for one group, spread.c chooses among the nodes that pass, few.c does so for a few tasks,
 * explain.c puts refusals into words, scheduler.c is the core that drives them. */
#ifndef SKEP_MANAGERD_SCHEDULER_INTERNAL_H
#define SKEP_MANAGERD_SCHEDULER_INTERNAL_H

#include "common/map.h"
#include "managerd/scheduler/scheduler.h"
#include "managerd/store/constraint.h"

enum {
    GENERIC_MAX = 16,      /* kinds of generic resources that one task may reserve */
    CONSTRAINTS_MAX = 256, /* rules of one service that are looked at */
    PREFERENCES_MAX = 8,   /* levels of spreading */
    FAILURES_KEPT = 64,    /* per node */
    SERVICE_NODE_MIN = 8,
};

/* ---- nodes ---- */

struct used_port {
    uint32_t protocol, port;
    char host_ip[46]; /* "": all addresses */
};

struct failure {
    uint64_t group_hash;
    int64_t at_ns;
};

struct generic_use {
    char *kind;
    int64_t value;
};

struct snode {
    struct nodeset *set;
    const Skep__Node *object;        /* a reference */
    uint32_t by_load;                /* place in nodeset.by_load */
    uint32_t index;                  /* in nodeset.nodes */
    uint64_t rank;                   /* of the id, for ordering: its first 8 characters */
    bool ready;                      /* READY and ACTIVE */
    bool stale;                      /* usage is counted anew by the next run */
    int64_t nano_cpus, memory_bytes; /* reserved */
    uint32_t task_count;             /* active ones */
    struct generic_use *generic;
    size_t generic_count;
    struct used_port *ports;
    size_t port_count;
    struct failure *failures; /* a ring of FAILURES_KEPT, made by the first failure */
    size_t failure_count;
};

/* Active tasks of one service by node: open addressing, index + 1 as key. */
struct service_count {
    uint32_t key, count;
};
struct service {
    struct service_count *counts;
    uint32_t capacity, used;
    size_t group_count;
    char id[ID_CHARS + 1];
};

struct nodeset {
    struct snode **nodes; /* by index; NULL: free */
    size_t count, capacity;
    struct map ids;
    /* A heap of all nodes by (degraded, task_count, id); out of order until it is needed. */
    struct snode **by_load;
    size_t by_load_capacity;
    bool by_load_stale;
};

struct snode *nodeset_find(const struct nodeset *set, const char *id);
struct snode *nodeset_add(struct nodeset *set, const Skep__Node *object);
void nodeset_remove(struct nodeset *set, struct snode *n);
void nodeset_clear(struct nodeset *set);
/* Takes a new description, spec and state; what is used stays. */
void snode_describe(struct snode *n, const Skep__Node *object);
/* True when a change from a to b may let tasks onto the node. */
bool snode_may_help(const Skep__Node *a, const Skep__Node *b);

uint32_t service_count(const struct service *s, const struct snode *n);
void service_add(struct service *s, const struct snode *n, int32_t change);
void service_forget_node(struct service *s, const struct snode *n);

/* ---- groups ---- */

struct list {
    struct list *prev, *next;
};

/* A task that waits for a node, or whose node was chosen by the transaction in flight. */
struct item {
    struct list link; /* in group.waiting while it waits */
    struct group *group;
    struct snode *node; /* in flight: booked here */
    uint64_t hash;      /* of the id */
    uint64_t text_hash; /* of the explanation on the task */
    uint64_t slot;
    uint32_t flight; /* 1 + place in scheduler.flight; 0: not in flight */
    bool preassigned;
    char id[ID_CHARS + 1];
};

/* What tasks of one service version need. Borrows from the revision. */
struct needs {
    int64_t nano_cpus, memory_bytes;
    size_t generic_count;
    const Skep__NamedCount *generic[GENERIC_MAX];
    size_t port_count; /* host mode */
    const Skep__PortConfig **ports;
    size_t rule_count;
    struct node_rule *rules;
    const Skep__Placement *placement;
    uint32_t max_replicas;
    const char *log_driver; /* "": the cluster's */
    size_t volume_driver_count;
    const char **volume_drivers;
    size_t preference_count;
    struct {
        enum node_property property;
        const char *label;
    } preferences[PREFERENCES_MAX];
    bool overlay, encrypted;      /* networks that the node's agent has to program */
    bool bridge, macvlan, ipvlan; /* that its engine has to make */
    bool bounded;                 /* a node may be full: needs something that runs out */
};

struct group {
    struct list queue; /* in scheduler.fresh or scheduler.blocked, or empty */
    struct service *service;
    const Skep__Revision *revision; /* a reference, or NULL */
    uint64_t spec_version, hash;
    struct needs needs;
    size_t refs; /* tasks that use a node, wait or are in flight */
    struct list waiting;
    size_t waiting_count;
    uint8_t *verdicts; /* by node index: the static filters' scheduler_filter; 0xff: not asked */
    size_t verdict_capacity;
    /* when it last fitted nowhere */
    bool blocked;
    bool blocked_by_use; /* at least one node was only full */
    uint64_t node_epoch, use_epoch;
    uint64_t explained_ms;  /* last renewal */
    uint64_t explain_at_ms; /* explanations that are still to be written; CORE_NEVER: none */
};

struct scheduler {
    const struct store *store; /* set while leader */
    struct nodeset nodes;
    struct map services, groups, items;
    struct group *last_group;   /* found last; NULL: none */
    struct list fresh, blocked; /* groups with waiting tasks */
    struct item **flight;
    size_t flight_count, flight_capacity, flight_confirmed;
    struct item *free_items;
    void **item_blocks;
    size_t item_block_count;
    char **stopped; /* ids of tasks that were given up before they had a node */
    size_t stopped_count, stopped_capacity, stopped_sent;
    char *log_driver; /* the cluster's default */
    uint64_t node_epoch, use_epoch;
    uint64_t retried_ms; /* when blocked groups were last tried */
    size_t stale_count;  /* nodes */
    struct spread *spread;
};

void list_init(struct list *l);
bool list_empty(const struct list *l);
void list_add(struct list *l, struct list *n); /* at the end */
void list_remove(struct list *n);

/* The group of a service version, made when missing. */
struct group *group_get(struct scheduler *s, const char *service_id, uint64_t spec_version);
struct group *group_find(const struct scheduler *s, const char *service_id, uint64_t spec_version);
void group_unref(struct scheduler *s, struct group *g);
void group_drop_verdicts(struct group *g);
/* Puts a group with waiting tasks into the right queue. */
void group_queue(struct scheduler *s, struct group *g, bool blocked);

struct item *item_find(const struct scheduler *s, const char *id);
struct item *item_add(struct scheduler *s, struct group *g, const Skep__Task *task);
/* Takes it out of its group's list, too. */
void item_drop(struct scheduler *s, struct item *item);
void item_wait(struct item *item);
void item_unwait(struct item *item);
void groups_clear(struct scheduler *s);

/* Books or frees what one task of g uses on n. active: counts towards spreading. */
void snode_use(struct snode *n, struct group *g, bool active);
void snode_release(struct snode *n, struct group *g, bool active);
void snode_count(struct snode *n, struct group *g, int32_t change);
void snode_failed(struct snode *n, uint64_t group_hash, int64_t at_ns);
uint32_t snode_failures(const struct snode *n, uint64_t group_hash, int64_t now_ns);

/* ---- filters ---- */

/* What the node is: Ready, Plugin, Constraint, Platform, Network; cached until the node changes. */
enum scheduler_filter filter_static(struct scheduler *s, struct group *g, const struct snode *n);
/* What is left on the node: Resource, HostPort, MaxReplicas. allowance: tasks of the service that
 * do not count. */
enum scheduler_filter filter_use(const struct group *g, const struct snode *n, uint32_t allowance);
/* All of them, in order. */
enum scheduler_filter filter_all(const struct scheduler *s, const struct group *g,
                                 const struct snode *n, uint32_t allowance);
void filter_count(const struct scheduler *s, const struct group *g,
                  size_t ret_nodes[SCHEDULER_FILTER_COUNT]);

/* ---- choosing ---- */

struct spread;
struct spread *spread_new(void);
void spread_free(struct spread *sp);
/* Gathers the nodes that pass. */
void spread_begin(struct spread *sp, struct scheduler *s, struct group *g, int64_t now_ns);
/* The best node for one more task, already booked; NULL when all are full. */
struct snode *spread_take(struct spread *sp);

/* For a group with few waiting tasks: looks at the least loaded nodes first, without asking all of
 * them. Returns what spread_take() would, booked, or NULL when that is not clear soon. */
bool few_suits(const struct scheduler *s, const struct group *g);
struct snode *few_take(struct scheduler *s, struct group *g, int64_t now_ns);

/* ---- words ---- */

/* Why the node cannot take part in the networks that g needs; NULL when it can. */
const char *network_error(const struct needs *needs, const Skep__Node *node);
/* The first such reason of a node that only its networks keep out; "" when there is none. */
const char *filter_network_error(const struct scheduler *s, const struct group *g);
/* malloc'ed: "no suitable node (…)". */
char *explain_text(const size_t nodes[SCHEDULER_FILTER_COUNT], const char *network_error);
/* Without the frame, for a task whose node is given. */
char *explain_one(enum scheduler_filter filter, const char *network_error);

#endif
