/* What the dispatcher's files share. Loop thread only, like all of the core. */
#ifndef SKEP_MANAGERD_DISPATCHER_INTERNAL_H
#define SKEP_MANAGERD_DISPATCHER_INTERNAL_H

#include <uthash.h>

#include "managerd/dispatcher/dispatcher.h"
#include "managerd/dispatcher/index.h"

#define RECORD_KIND(name) SKEP__NETWORK_RECORD_KIND__RECORD_##name

/* A task the agent knows or is about to be told of. */
struct known_task {
    char id[ID_CHARS + 1];
    UT_hash_handle hh;
};

/* A network that the agent has been told of. */
struct told {
    struct net *net;
    uint64_t synced; /* what the log has up to this version is told */
    uint64_t since;  /* what was gone by then was never told */
    bool leaving;    /* no longer present: its records have to go */
    uint64_t left;   /* those up to this version went */
};

struct session {
    char node_id[ID_CHARS + 1];
    struct id id;
    char boot_id[64];
    uint64_t deadline_ms;
    bool closed; /* lost to a newer one or timed out; kept for its register counter */

    uint64_t token;                  /* of the last answer */
    struct known_task *known;        /* the set that token describes */
    struct known_task *dirty;        /* to look at for the next answer */
    bool incomplete;                 /* the next answer is a complete set */
    char resume_after[ID_CHARS + 1]; /* a complete set that was cut: goes on after this task */

    void *parked; /* assignments call that waits */
    uint64_t parked_until_ms;
    bool queued; /* in the dispatcher's list of sessions to answer */
    struct session *queue_next;

    /* Networks; parked as above. Numbers called version are of the index's clock. */
    bool net_asked;      /* in this session */
    bool net_incomplete; /* the next answer begins a complete set */
    bool net_more;       /* the last answer was cut */
    uint64_t net_token;
    uint64_t net_answered; /* version that the last answer completed */
    uint64_t net_check;    /* check that the agent was told of */
    struct told *told;
    size_t told_count, told_capacity;
    void *net_parked;
    uint64_t net_until_ms;
    uint64_t net_next_ms; /* not answered again before, unless it has to be */
    enum { NET_IDLE, NET_QUEUED, NET_PACED } net_list;
    struct session *net_prev, *net_next;
    struct hold **owed; /* a queue: holds that wait for this session's word */
    size_t owed_first, owed_count, owed_capacity;
    uint64_t hold_stamp;

    uint64_t register_window_ms; /* start of the current window */
    uint32_t register_count;
    UT_hash_handle hh;
};

/* Reports of one call: together committed, together answered. */
struct report_batch {
    void *call;
    Skep__TaskStatusRequest *request; /* owned copy */
    size_t next;                      /* first report not yet in a transaction */
    char node_id[ID_CHARS + 1];
    char **unknown;
    size_t unknown_count;
    struct report_batch *link;
};

struct report_queue {
    struct report_batch *first, **last;
};

/* A change of a node object that the next transaction makes. */
struct node_change {
    char node_id[ID_CHARS + 1];
    bool ready;                         /* READY with description and address, else DOWN */
    Skep__NodeDescription *description; /* owned; NULL = unchanged */
    char address[64];
    UT_hash_handle hh;
};

struct dispatcher {
    bool leading;
    struct session *sessions; /* by node id, in order of first registration */
    struct node_change *changes;
    struct node_change *changes_flying;
    struct report_queue waiting, flying, done;
    size_t report_count;
    uint64_t next_scan_ms, next_orphan_ms;
    uint64_t started_ms;
    struct session *queue; /* sessions whose parked call may be answered */
    struct index index;
    bool wake_all;                         /* what is present everywhere changed */
    struct session *net_queue, *net_paced; /* to answer; to answer when their pace allows it */
    size_t net_burst;                      /* answered in a row */
    uint64_t net_tokens;
    struct hold *holds; /* in order of version */
    struct check *checks;
    uint64_t check_number; /* of the last one */
    void **returned;       /* parked calls that were displaced: answered as unchanged */
    size_t returned_count;
};

/* session.c */
struct session *session_find(const struct dispatcher *d, const char *node_id);
void known_add(struct known_task **set, const char *id);
bool known_remove(struct known_task **set, const char *id);
void known_clear(struct known_task **set);
void session_queue(struct dispatcher *d, struct session *s);
void session_drop(struct dispatcher *d, struct session *s);
/* Gives back what waits in this session's name. */
void session_return_calls(struct dispatcher *d, struct session *s);
void session_return_call(struct dispatcher *d, void **parked);
/* NULL with e set when the caller has no such live session. */
struct session *session_check(struct dispatcher *d, const char *node_id, const char *session_id,
                              struct err *e);
uint64_t heartbeat_period_ms(const struct core_env *env);

/* assign.c */
void assign_mark(struct dispatcher *d, const struct store_event *ev);
/* A task whose news were held back. */
void assign_tell(struct dispatcher *d, const char *node_id, const char *task_id);
bool assign_pending(const struct session *s);
void assign_answer(struct session *s, const struct core_env *env, struct arena *a,
                   Skep__AssignmentsResponse *ret);

/* events.c */
void events_start(struct dispatcher *d, const struct store *s);
void events_apply(struct dispatcher *d, const struct store_event *ev);
/* It is no endpoint any more. */
void endpoint_end(struct dispatcher *d, struct endpoint *ep);
const char *peer_address(const Skep__Node *node);
const char *peer_instance(const Skep__Node *node);
bool service_is_dnsrr(const Skep__Service *s);
bool network_is_overlay(const Skep__Network *n);

/* records.c */
/* What a session may see of r: attachments to networks with this stamp. Borrowed from r's object
 * and from a. */
Skep__NetworkRecord *record_build(struct index *x, const struct record *r, uint64_t stamp,
                                  struct arena *a);

/* networks.c */
void networks_wake_node(struct dispatcher *d, const char *node_id);
void networks_wake_session(struct dispatcher *d, struct session *s);
/* The agent knows nothing, or nobody knows what it knows. */
void networks_reset(struct dispatcher *d, struct session *s);
/* The session is over: takes it out of lists and frees its part. */
void networks_forget(struct dispatcher *d, struct session *s);
bool networks_next_call(struct dispatcher *d, const struct core_env *env, struct arena *a,
                        struct dispatcher_due *ret);

/* drain.c */
/* ep has just turned from UP to DRAINING. */
void drain_begin(struct dispatcher *d, struct endpoint *ep);
/* There is nothing to hold back any more; tells its node. */
void drain_cancel(struct dispatcher *d, struct endpoint *ep);
/* Its node must not be told of this task now. */
bool drain_holds(const struct dispatcher *d, const char *task_id);
/* The session has everything up to version in its kernel. */
void drain_acknowledge(struct dispatcher *d, struct session *s, uint64_t version);
/* The session is dead: nobody waits for it. */
void drain_forgive(struct dispatcher *d, struct session *s);
/* Ends holds that took too long; returns when to come again. */
uint64_t drain_run(struct dispatcher *d, uint64_t now_ms);

/* check.c */
bool check_due(const struct dispatcher *d, const struct session *s);
/* The number to put into the session's answer, 0 = none. */
uint64_t check_tell(const struct dispatcher *d, struct session *s);
void check_session_gone(struct dispatcher *d, const char *node_id);
bool check_next_call(struct dispatcher *d, const struct core_env *env, struct arena *a,
                     struct dispatcher_due *ret);
void *check_take_call(struct dispatcher *d);
void check_clear(struct dispatcher *d);

/* report.c */
void report_queue_clear(struct dispatcher *d, struct report_queue *q);
void report_queue_push(struct report_queue *q, struct report_batch *b);
struct report_batch *report_queue_pop(struct report_queue *q);
void report_batch_free(struct dispatcher *d, struct report_batch *b);
void report_fill(struct dispatcher *d, const struct core_env *env, struct store_tx *tx);

/* nodes.c */
void node_change_add(struct dispatcher *d, struct node_change *c);
void node_changes_clear(struct node_change **set);
void node_fill(struct dispatcher *d, const struct core_env *env, struct store_tx *tx);
void node_scan(struct dispatcher *d, const struct core_env *env);
void orphan_fill(struct dispatcher *d, const struct core_env *env, struct store_tx *tx);

#endif
