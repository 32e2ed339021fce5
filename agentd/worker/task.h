/* The machine of one task (swarmkit agent/exec/controller.go Do, design/task_model.md): one
 * operation at a time, states that only move forward, everything it needs comes with the event.
 *
 *   ASSIGNED -> ACCEPTED -> PREPARING --pull, create--> READY --desired RUNNING--> STARTING
 *   STARTING --start, attach, healthy--> RUNNING --exit--> COMPLETE | FAILED
 *   before STARTING an error ends in REJECTED, from STARTING on in FAILED;
 *   desired >= SHUTDOWN: stop what runs, then SHUTDOWN; unassigned: stop, remove, gone.
 *
 * Rules it keeps: a container is started at most once and only when the engine has just said that
 * it was never started; a task that reached STARTING never gets a second container; an error that
 * may pass is retried with back-off and shown meanwhile. With overlay networks the container waits
 * at its entrypoint gate (gate.h) until ATTACH has given it its interfaces; a task that is no
 * longer wanted is killed there, its process never runs. Pure. */
#ifndef SKEP_AGENTD_WORKER_TASK_H
#define SKEP_AGENTD_WORKER_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "agentd/worker/facts.h"
#include "proto/types.pb-c.h"

enum {
    TASK_RETRY_MS_MIN = 1000, /* first wait after an error that may pass; doubles */
    TASK_RETRY_MS_MAX = 30 * 1000,
    TASK_ERROR_BYTES_MAX = 240,
};

/* clang-format off */
#define TASK_OPS(X) /* id, text */ \
    X(NONE,    "none")    /* wait for an event */                                               \
    X(PULL,    "pull")    /* have the image locally */                                          \
    X(CREATE,  "create")  /* volumes, files, container; finds the one it created before */      \
    X(START,   "start")                                                                         \
    X(ATTACH,  "attach")  /* give the waiting container its networks, open its gate */          \
    X(INSPECT, "inspect") /* learn the container's facts again */                               \
    X(STOP,    "stop")    /* signal, grace period, then the engine kills */                     \
    X(KILL,    "kill")    /* after a stop that failed */                                        \
    X(REMOVE,  "remove")  /* container, anonymous volumes, files */
/* clang-format on */
enum task_op {
#define X(id, text) TASK_OP_##id,
    TASK_OPS(X)
#undef X
};
const char *task_op_str(enum task_op op);

enum task_result { TASK_RESULT_OK, TASK_RESULT_RETRY, TASK_RESULT_FATAL };

enum task_event_type {
    TASK_EV_DESIRED,     /* the managers want this state */
    TASK_EV_UNASSIGNED,  /* the task is no longer this node's: stop, remove, forget */
    TASK_EV_DONE,        /* the operation ended: result, error, facts if it learnt any */
    TASK_EV_OPENED,      /* ATTACH has opened the gate: the process may run from now on */
    TASK_EV_NETWORKS,    /* the networks changed: what waits for them tries again */
    TASK_EV_HINT,        /* something happened to the container: look again */
    TASK_EV_TIMER,       /* retry_at_ms may have passed */
    TASK_EV_ENGINE_BACK, /* the engine answers again: no need to wait for the timer */
};

struct task_event {
    enum task_event_type type;
    uint64_t now_ms;
    Skep__TaskState desired;             /* DESIRED */
    enum task_result result;             /* DONE */
    const char *error;                   /* DONE with RETRY or FATAL */
    bool for_networks;                   /* DONE with RETRY: the networks are not here yet */
    const struct container_facts *facts; /* DONE: what it learnt, or NULL; borrowed */
};

struct task_effects {
    enum task_op op; /* run this now; NONE: nothing new */
    bool cancel;     /* the operation in flight is superseded: drop it first */
    bool report;     /* the status changed: tell the managers */
    bool gone;       /* container and files are removed: free the task */
};

struct task {
    Skep__TaskState state, desired;
    const char *message;              /* a static text */
    char error[TASK_ERROR_BYTES_MAX]; /* "" if all is well */
    struct container_facts container;
    enum task_op op;      /* in flight */
    uint64_t retry_at_ms; /* no operation before; 0 = none. The shell sends TIMER then */
    uint32_t retries;     /* of the present step */
    bool pulled;          /* the image is there */
    bool networks;        /* it has overlay networks; set by the owner after task_init() */
    bool attached;        /* the gate was opened, now or before this agent's start */
    bool for_networks;    /* retry_at_ms waits for networks */
    bool unassigned;
    bool unhealthy;   /* the health check failed: being stopped for that */
    bool stop_failed; /* the next stop is a kill */
    bool stale;       /* a hint came during an operation */
    bool removed;
};

/* reported: what the managers know; a restarted agent goes on from there. phase: UNKNOWN when a
 * container of this task was listed (container_id) or the engine could not be asked, ABSENT when
 * the engine has none. */
void task_init(struct task *t, const Skep__TaskStatus *reported, enum container_phase phase,
               const char *container_id);
void task_deinit(struct task *t);

void task_step(struct task *t, const struct task_event *ev, struct task_effects *ret_fx);

/* True for COMPLETE and everything after it. */
bool task_is_terminal(Skep__TaskState state);

#endif
