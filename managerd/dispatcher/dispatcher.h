/* The dispatcher: sessions of agents, their heartbeats, what each node has to run, and what they
 * report. A leader core (managerd/store/core.h) with, beside it, one function per agent call. Pure:
 * calls that must wait are handed in as opaque pointers and handed out again when they are due.
 *
 * swarmkit manager/dispatcher; figures from features.md 3.9.
 * DEVIATION: a leader change does not move nodes to UNKNOWN. Every READY node gets one heartbeat
 * TTL to come back and is DOWN after that: the same bound, without a write per node per election.
 * DEVIATION: the 24 h until tasks of a DOWN node are ORPHANED count from node.status.since, which
 * is stored, so changing leaders do not postpone it. */
#ifndef SKEP_MANAGERD_DISPATCHER_DISPATCHER_H
#define SKEP_MANAGERD_DISPATCHER_DISPATCHER_H

#include "common/arena.h"
#include "managerd/store/core.h"
#include "proto/control.pb-c.h"
#include "proto/dispatcher.pb-c.h"

enum {
    DISPATCHER_TTL_BEATS = 3,    /* missed heartbeats until a node is DOWN */
    DISPATCHER_REGISTER_MAX = 3, /* registrations per node and window */
    DISPATCHER_REGISTER_WINDOW_MS = 8000,
    DISPATCHER_SESSIONS_MAX = 20000,
    DISPATCHER_REPORTS_MAX = 100000, /* status reports waiting for a transaction */
    DISPATCHER_REPORTS_PER_CALL_MAX = 10000,
    DISPATCHER_ASSIGNMENT_BYTES_MAX = 2 << 20, /* estimated size of one answer */
    DISPATCHER_NETWORKS_BYTES_MAX = 1 << 19,   /* the same */
    DISPATCHER_DRAIN_MS = 2000, /* a node is told to stop a task so late at the latest */
};

struct dispatcher;
extern const struct core_ops dispatcher_ops;

struct dispatcher *dispatcher_new(void);
void dispatcher_free(struct dispatcher *d);

/* One call of an agent. */
struct dispatcher_call {
    const struct core_env *env;
    const char *node_id; /* from the verified certificate */
    const char *address; /* ip as seen by the manager */
    struct arena *arena; /* where answers are built; lives until they are packed */
    void *call;          /* what dispatcher_next_call() gives back */
    uint64_t until_ms;   /* a waiting call is due then at the latest */
};

/* Opens a session for a node of the store. Closes the node's older session. Errors: NOT_FOUND (no
 * such node: removed), PERMISSION (the node has served a newer generation of the cluster), RATE,
 * CONFLICT (another machine holds a live session under this id). Sets the session's part of *ret.
 */
int dispatcher_open(struct dispatcher *d, const struct dispatcher_call *c,
                    const Skep__SessionRequest *req, Skep__SessionResponse *ret,
                    struct err *e) MUST_CHECK;

/* -ERR_STALE: no such session, register again. *ret_beat_ms: until the next beat. */
int dispatcher_beat(struct dispatcher *d, const struct dispatcher_call *c,
                    const Skep__HeartbeatRequest *req, uint32_t *ret_beat_ms,
                    struct err *e) MUST_CHECK;

/* Assignments. 0: *ret is the answer. DISPATCHER_PARKED: nothing is new; the call waits until
 * something is or until_ms passes, and dispatcher_next_call() gives it back. One waiting call per
 * session: an older one is given back at once. */
enum { DISPATCHER_PARKED = 1 };
int dispatcher_assignments(struct dispatcher *d, const struct dispatcher_call *c,
                           const Skep__AssignmentsRequest *req, Skep__AssignmentsResponse *ret,
                           struct err *e) MUST_CHECK;

/* Takes reports in; the call is given back by dispatcher_next_call() once they are committed.
 * -ERR_BUSY when DISPATCHER_REPORTS_MAX are waiting. */
int dispatcher_report(struct dispatcher *d, const struct dispatcher_call *c,
                      const Skep__TaskStatusRequest *req, struct err *e) MUST_CHECK;

/* What the node has to know of overlay networks: those of its tasks, and ingress (networks.c). As
 * dispatcher_assignments. Asking with the token of the last answer acknowledges it: that is what
 * tasks that stop wait for (drain.c). */
int dispatcher_networks(struct dispatcher *d, const struct dispatcher_call *c,
                        const Skep__NetworksRequest *req, Skep__NetworksResponse *ret,
                        struct err *e) MUST_CHECK;

/* An operator's check of all nodes' kernels, c->node_id unused. Parked until all have reported,
 * req->wait_ms (default 10 s, at most 60 s) or c->until_ms. Errors: NOT_FOUND and INVALID (ref),
 * BUSY (too many checks at once). */
int dispatcher_check(struct dispatcher *d, const struct dispatcher_call *c,
                     const Skep__NetworkCheckRequest *req, struct err *e) MUST_CHECK;
/* What a node found. -ERR_INVALID naming the field that nobody may print. */
int dispatcher_check_report(struct dispatcher *d, const struct dispatcher_call *c,
                            const Skep__NetworkCheckReport *req, struct err *e) MUST_CHECK;

/* Calls that are due, one per call until false. rc < 0: answer with that error; else with the
 * member that kind names. report.unknown_tasks lists tasks that are not the node's. */
enum dispatcher_due_kind {
    DISPATCHER_ASSIGNMENTS,
    DISPATCHER_REPORT,
    DISPATCHER_NETWORKS,
    DISPATCHER_CHECK,
};
struct dispatcher_due {
    void *call;
    int rc;
    enum dispatcher_due_kind kind;
    Skep__AssignmentsResponse assignments;
    Skep__TaskStatusResponse report;
    Skep__NetworksResponse networks;
    Skep__NetworkCheckResponse check;
};
bool dispatcher_next_call(struct dispatcher *d, const struct core_env *env, struct arena *a,
                          struct dispatcher_due *ret);
/* Any call that still waits, for whatever; NULL when none does. Before stop: they all need answers.
 */
void *dispatcher_take_call(struct dispatcher *d);

/* True if session_id is live and of this node. */
bool dispatcher_session_valid(const struct dispatcher *d, const char *node_id,
                              const char *session_id);
size_t dispatcher_session_count(const struct dispatcher *d);

#endif
