/* Shared by the orchestrator's files. */
#ifndef SKEP_MANAGERD_ORCHESTRATOR_INTERNAL_H
#define SKEP_MANAGERD_ORCHESTRATOR_INTERNAL_H

#include "common/arena.h"
#include "common/map.h"
#include "common/timer.h"
#include "common/tree.h"
#include "managerd/orchestrator/orchestrator.h"

enum {
    SLOT_ACTIONS_MAX = 64, /* room that must be left before a slot is worked on */
    STAMP_CACHE_SIZE = 4096,
    NODE_CACHE_SIZE = 1024,
};

/* A service that exists or still has tasks. */
struct watched {
    struct tree_node by_id;
    struct tree_node by_due; /* in orchestrator.due while due */
    struct timer timer;
    bool due;
    bool global;
    bool gone; /* no such service any more: tasks are cleaned up */
    char id[ID_CHARS + 1];
};

/* A node that changed. */
struct touched {
    struct tree_node by_id;
    char id[ID_CHARS + 1];
};

/* Stored wall-clock times as local monotonic ones, translated when first seen, so that steps of
 * the wall clock neither lose nor stretch a delay. */
struct stamp {
    int64_t wall_ns;
    int64_t local_ms;
};

/* A node looked up in a pass: tasks share few nodes. */
struct node_seen {
    uint64_t pass; /* the pass that looked */
    const Skep__Node *node;
    char id[ID_CHARS + 1];
};

/* A node as the last event left it. */
struct known_node {
    bool usable;
    char id[ID_CHARS + 1];
};

struct orchestrator {
    struct tree services; /* struct watched */
    struct tree due;      /* struct watched, by id */
    struct tree nodes;    /* struct touched */
    struct timer_heap timers;
    struct map known;       /* struct known_node: is an assignment to it worth a look? */
    struct stamp *stamps;   /* STAMP_CACHE_SIZE; NULL while not leading */
    struct node_seen *seen; /* NODE_CACHE_SIZE */
    uint64_t pass_count;
    struct arena scratch;    /* one pass */
    char turn[ID_CHARS + 1]; /* the service that was looked at last */
    bool all_due, globals_due;
};

/* Tasks of one replica or one node, and what they amount to. */
struct slot {
    uint64_t number;          /* 0 in global services */
    const char *node_id;      /* global services, else NULL */
    const Skep__Task **tasks; /* oldest first */
    size_t task_count;
    const Skep__Task *clean;  /* wanted, alive, of the current spec: the one to keep */
    const Skep__Task *parked; /* wanted and dead, but its own delayed start is not over yet */
    size_t wanted_count;      /* desired < SHUTDOWN, dead or alive */
    size_t stale_count;       /* wanted, alive, of another spec */
    bool running;             /* a wanted one runs */
    bool finished;            /* none wanted, and the restart policy says to leave it so */
    bool touched;             /* changed in this pass: decide the rest when that is applied */
};

/* How a revision differs from the current spec. */
struct spec_diff {
    uint64_t version;
    bool known, body_equal, auth_equal, placement_equal;
};

/* One look at one service. */
struct pass {
    struct orchestrator *o;
    const struct core_env *env;
    struct store_tx *tx;
    const char *service_id;
    const Skep__Service *service; /* NULL: removed */
    struct slot *slots;           /* by number or node id */
    size_t slot_count;
    struct spec_diff *diffs; /* cache, by version */
    size_t diff_count;
    uint64_t wake_ms;
    bool changed, full;
    bool update_paused; /* by update_judge() */
};

/* ---- pass.c: room, time, changes ---- */

/* False when the transaction is full; the pass must end and is repeated. */
bool pass_room(struct pass *p);
/* True once wait_ns have passed since a stored time; else the service is looked at again then. */
bool pass_elapsed(struct pass *p, int64_t since_ns, int64_t wait_ns);
/* As store_node(), remembered for the pass. */
const Skep__Node *pass_node(const struct pass *p, const char *node_id);
void pass_desire(struct pass *p, const Skep__Task *t, Skep__TaskState desired);
void pass_remove(struct pass *p, const Skep__Task *t);
/* Deletes t if nothing of it can be running, else asks for its removal. */
void pass_discard(struct pass *p, const Skep__Task *t);
void pass_discard_slot(struct pass *p, struct slot *s);

/* ---- service.c: specs and new tasks ---- */

bool service_is_job(const Skep__Service *service);
/* Not wanted: t's spec is another than the current one (swarmkit IsTaskDirty). */
bool service_task_stale(struct pass *p, const Skep__Task *t);
/* Every constraint holds and a platform fits. */
bool service_fits_node(const Skep__ServiceSpec *spec, const Skep__Node *node);
/* Desired state of a task that is not held back. */
Skep__TaskState service_goal(const Skep__Service *service);
struct task_plan {
    Skep__TaskCause cause;
    Skep__TaskState desired;
    uint64_t restarts;
};
/* A new task of the current spec in s. */
void service_add_task(struct pass *p, struct slot *s, const struct task_plan *plan);

/* ---- slot.c ---- */

static inline bool task_wanted(const Skep__Task *t)
{
    return t->desired_state < SKEP__TASK_STATE__TASK_SHUTDOWN;
}
static inline bool task_dead(const Skep__Task *t)
{
    return t->status->state > SKEP__TASK_STATE__TASK_RUNNING;
}
static inline bool task_unassigned(const Skep__Task *t)
{
    return t->status->state < SKEP__TASK_STATE__TASK_ASSIGNED;
}
/* Nothing of it is or will be on a node. */
static inline bool task_over(const Skep__Task *t)
{
    return task_dead(t) || (task_unassigned(t) && !task_wanted(t));
}
bool node_usable(const Skep__Node *node);
/* Its node is gone, DOWN or drained. */
bool task_lost(const struct pass *p, const Skep__Task *t);
/* Fills p->slots with the service's tasks, by slot number or by node. */
void slots_gather(struct pass *p, bool by_node);
/* Sets what the tasks of s amount to. */
void slot_judge(struct pass *p, struct slot *s);
const Skep__Task *slot_newest(const struct slot *s);
/* Has something wanted or finished in it. */
bool slot_live(const struct slot *s);

/* ---- restart.c ---- */

/* May t be replaced under the restart policy? */
bool restart_allowed(const struct pass *p, const struct slot *s, const Skep__Task *t);
/* The slot of t, its last task, stays as it is. What used up its attempts under an older spec waits
 * for the rolling update to replace it. */
bool restart_finished(struct pass *p, const struct slot *s, const Skep__Task *t);
/* t's delayed start is over; else the service is looked at again. */
bool restart_hold_over(struct pass *p, const struct slot *s, const Skep__Task *t);
/* A task of s that was told to stop may still run. */
bool restart_stopping(const struct pass *p, const struct slot *s);
/* Replaces what died or lost its node, lets held-back tasks start. */
void restart_slot(struct pass *p, struct slot *s);

/* ---- update.c ---- */

/* Counts the failures of a running update, before anything is restarted: pauses it, or rolls back
 * and returns true. The spec is another one then, and the rest is for the next pass. */
bool update_judge(struct pass *p, struct slot **slots, size_t count);
/* Rolling update, rollback and update status over the slots that stay. Comes before restarts: what
 * is outdated and dead is the update's, if it has a place free. */
void update_slots(struct pass *p, struct slot **slots, size_t count);

/* ---- reaper.c ---- */

void reaper_slots(struct pass *p);
/* Tasks without a service. True when none is left. */
bool reaper_orphans(struct pass *p);

/* ---- per mode ---- */

void replicated_pass(struct pass *p);
void global_pass(struct pass *p);
void replicated_job_pass(struct pass *p);
void global_job_pass(struct pass *p);

/* ---- enforcer.c, taskinit.c, orchestrator.c ---- */

/* Tasks of a node that changed: given up when it is gone, rejected when it no longer fits them.
 * False when tx is full. */
bool enforcer_node(const struct core_env *env, struct store_tx *tx, const char *node_id);
/* Watches all services and all tasks without one. */
void taskinit_watch_all(struct orchestrator *o, const struct store *s);
struct watched *orchestrator_watch(struct orchestrator *o, const char *service_id);
void orchestrator_know_node(struct orchestrator *o, const Skep__Node *node);
void orchestrator_touch_node(struct orchestrator *o, const char *node_id);

#endif
