/* What the dispatcher's files share. Loop thread only, like all of the core. */
#ifndef SKEP_MANAGERD_DISPATCHER_INTERNAL_H
#define SKEP_MANAGERD_DISPATCHER_INTERNAL_H

#include <uthash.h>

#include "managerd/dispatcher/dispatcher.h"

/* A task the agent knows or is about to be told of. */
struct known_task {
    char id[ID_CHARS + 1];
    UT_hash_handle hh;
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
void session_return_call(struct dispatcher *d, struct session *s);
uint64_t heartbeat_period_ms(const struct core_env *env);

/* assign.c */
void assign_mark(struct dispatcher *d, const struct store_event *ev);
bool assign_pending(const struct session *s);
void assign_answer(struct session *s, const struct core_env *env, struct arena *a,
                   Skep__AssignmentsResponse *ret);

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
