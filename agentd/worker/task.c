#include "agentd/worker/task.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/worker/plain.h"
#include "common/assert.h"
#include "common/mem.h"

#define UNHEALTHY_TEXT "dockerexec: unhealthy container" /* scripts look for swarm's words */

const char *task_op_str(enum task_op op)
{
    static const char *const names[] = {
#define X(id, text) [TASK_OP_##id] = (text),
        TASK_OPS(X)
#undef X
    };

    ASSERT((size_t)op < ARRAY_LEN(names));
    return names[op];
}

bool task_is_terminal(Skep__TaskState state)
{
    return state >= SKEP__TASK_STATE__TASK_COMPLETE;
}

static const char *message_of(Skep__TaskState state)
{
    switch (state) {
    case SKEP__TASK_STATE__TASK_ACCEPTED:
        return "accepted";
    case SKEP__TASK_STATE__TASK_PREPARING:
        return "preparing";
    case SKEP__TASK_STATE__TASK_READY:
        return "prepared";
    case SKEP__TASK_STATE__TASK_STARTING:
        return "starting";
    case SKEP__TASK_STATE__TASK_RUNNING:
        return "started";
    case SKEP__TASK_STATE__TASK_COMPLETE:
        return "finished";
    case SKEP__TASK_STATE__TASK_SHUTDOWN:
        return "shutdown";
    case SKEP__TASK_STATE__TASK_NEW:
    case SKEP__TASK_STATE__TASK_PENDING:
    case SKEP__TASK_STATE__TASK_ASSIGNED:
    case SKEP__TASK_STATE__TASK_FAILED:
    case SKEP__TASK_STATE__TASK_REJECTED:
    case SKEP__TASK_STATE__TASK_REMOVE:
    case SKEP__TASK_STATE__TASK_ORPHANED:
    case _SKEP__TASK_STATE_IS_INT_SIZE:
    default:
        return "";
    }
}

void task_init(struct task *t, const Skep__TaskStatus *reported, enum container_phase phase,
               const char *container_id)
{
    memset(t, 0, sizeof(*t));
    t->state = SKEP__TASK_STATE__TASK_ASSIGNED;
    t->desired = SKEP__TASK_STATE__TASK_NEW;
    if (reported != NULL) {
        t->state = MAX(t->state, reported->state);
        plain_format(t->error, sizeof(t->error), "%s", reported->error);
        if (reported->container != NULL) {
            t->container.exit_code = reported->container->exit_code;
            t->container.pid = reported->container->pid;
        }
        if (container_id[0] == '\0' && reported->container != NULL)
            container_id = reported->container->container_id;
    }
    t->message = message_of(t->state);
    t->attached = t->state >= SKEP__TASK_STATE__TASK_RUNNING; /* or it would not have run */
    t->container.phase = phase;
    plain_format(t->container.id, sizeof(t->container.id), "%s", container_id);
}

void task_deinit(struct task *t)
{
    free(t->container.ports);
    t->container.ports = NULL;
    t->container.port_count = 0;
}

/* True for what must hold between steps. */
static bool task_invariants(const struct task *t)
{
    return t->state >= SKEP__TASK_STATE__TASK_ASSIGNED && !(t->removed && !t->unassigned) &&
           (t->container.port_count == 0) == (t->container.ports == NULL);
}

static void move_to(struct task *t, Skep__TaskState state)
{
    ASSERT(state > t->state);
    t->state = state;
    if (message_of(state)[0] != '\0')
        t->message = message_of(state); /* FAILED and REJECTED keep what was being done */
    t->retries = 0;
}

static void fail(struct task *t, const char *why)
{
    plain_format(t->error, sizeof(t->error), "%s", why);
    move_to(t, t->state < SKEP__TASK_STATE__TASK_STARTING ? SKEP__TASK_STATE__TASK_REJECTED
                                                          : SKEP__TASK_STATE__TASK_FAILED);
}

/* docker_api.md §5.4; the words are swarm's. */
static void finish_exited(struct task *t)
{
    const struct container_facts *c = &t->container;
    const char *cause = c->error;

    if (t->state < SKEP__TASK_STATE__TASK_STARTING) /* adopted: it was started, so it failed */
        move_to(t, SKEP__TASK_STATE__TASK_STARTING);
    if (t->unhealthy || (c->health == HEALTH_UNHEALTHY && c->exit_code != 0))
        cause = UNHEALTHY_TEXT;
    else if (c->oom_killed && cause[0] == '\0')
        cause = "out of memory";
    if (c->exit_code == 0 && !t->unhealthy && cause[0] == '\0') {
        t->error[0] = '\0';
        move_to(t, SKEP__TASK_STATE__TASK_COMPLETE);
        return;
    }
    if (c->exit_code == 0)
        plain_format(t->error, sizeof(t->error), "%s", cause);
    else
        plain_format(t->error, sizeof(t->error), "task: non-zero exit (%" PRId32 ")%s%s",
                     c->exit_code, cause[0] == '\0' ? "" : ": ", cause);
    move_to(t, SKEP__TASK_STATE__TASK_FAILED);
}

static bool waits_at_gate(const struct task *t)
{
    return t->networks && !t->attached;
}

static enum task_op op_stop(const struct task *t)
{
    return t->stop_failed || waits_at_gate(t) ? TASK_OP_KILL : TASK_OP_STOP;
}

/* ---- what to do next: one function per stage ---- */

static enum task_op next_when_unassigned(const struct task *t)
{
    if (t->removed)
        return TASK_OP_NONE;
    if (t->container.phase == CONTAINER_UNKNOWN)
        return TASK_OP_INSPECT;
    return t->container.phase == CONTAINER_RUNNING ? op_stop(t) : TASK_OP_REMOVE;
}

/* Desired SHUTDOWN, or terminal while the engine has it running (a start that answered too late,
 * or a task that the managers gave up while this node was away). */
static enum task_op next_when_unwanted(struct task *t)
{
    if (t->container.phase == CONTAINER_UNKNOWN)
        return TASK_OP_INSPECT;
    if (t->container.phase == CONTAINER_RUNNING)
        return op_stop(t);
    if (!task_is_terminal(t->state)) {
        t->error[0] = '\0';
        move_to(t, SKEP__TASK_STATE__TASK_SHUTDOWN);
    }
    return TASK_OP_NONE;
}

static enum task_op next_before_ready(struct task *t)
{
    if (t->state < SKEP__TASK_STATE__TASK_PREPARING)
        move_to(t, SKEP__TASK_STATE__TASK_PREPARING);
    switch (t->container.phase) {
    case CONTAINER_UNKNOWN:
        return TASK_OP_INSPECT;
    case CONTAINER_ABSENT:
        return t->pulled ? TASK_OP_CREATE : TASK_OP_PULL;
    case CONTAINER_CREATED:
    case CONTAINER_RUNNING:
    case CONTAINER_EXITED:
    case CONTAINER_REMOVING:
    default:
        t->error[0] = '\0';
        move_to(t, SKEP__TASK_STATE__TASK_READY);
        return TASK_OP_NONE;
    }
}

static enum task_op next_when_created(struct task *t)
{
    if (t->state == SKEP__TASK_STATE__TASK_RUNNING) {
        fail(t, "container is not running although it was started");
        return TASK_OP_NONE;
    }
    if (t->desired < SKEP__TASK_STATE__TASK_RUNNING)
        return TASK_OP_NONE;
    if (t->state == SKEP__TASK_STATE__TASK_READY)
        move_to(t, SKEP__TASK_STATE__TASK_STARTING);
    return TASK_OP_START;
}

static enum task_op next_when_running(struct task *t)
{
    if (t->state < SKEP__TASK_STATE__TASK_STARTING)
        move_to(t, SKEP__TASK_STATE__TASK_STARTING);
    if (waits_at_gate(t)) /* what a health check finds there means nothing */
        return t->desired >= SKEP__TASK_STATE__TASK_RUNNING ? TASK_OP_ATTACH : TASK_OP_NONE;
    if (t->unhealthy || t->container.health == HEALTH_UNHEALTHY) {
        t->unhealthy = true;
        return op_stop(t);
    }
    if (t->state == SKEP__TASK_STATE__TASK_STARTING && t->container.health != HEALTH_STARTING) {
        t->error[0] = '\0';
        move_to(t, SKEP__TASK_STATE__TASK_RUNNING);
    }
    return TASK_OP_NONE;
}

/* READY to RUNNING: the container exists, or did. */
static enum task_op next_with_container(struct task *t)
{
    switch (t->container.phase) {
    case CONTAINER_UNKNOWN:
        return TASK_OP_INSPECT;
    case CONTAINER_ABSENT:
        fail(t, "container was removed behind the agent's back");
        return TASK_OP_NONE;
    case CONTAINER_CREATED:
        return next_when_created(t);
    case CONTAINER_RUNNING:
        return next_when_running(t);
    case CONTAINER_EXITED:
    case CONTAINER_REMOVING:
    default:
        finish_exited(t);
        return TASK_OP_NONE;
    }
}

static enum task_op task_next_op(struct task *t)
{
    enum task_op op = TASK_OP_NONE;

    if (t->unassigned)
        return next_when_unassigned(t);
    if (task_is_terminal(t->state) || t->desired >= SKEP__TASK_STATE__TASK_SHUTDOWN)
        return next_when_unwanted(t);
    if (t->state < SKEP__TASK_STATE__TASK_READY)
        op = next_before_ready(t);
    if (op == TASK_OP_NONE && t->state >= SKEP__TASK_STATE__TASK_READY)
        op = next_with_container(t);
    return op;
}

/* ---- what an operation's end means ---- */

static void take_facts(struct task *t, const struct container_facts *facts)
{
    struct container_facts copy = *facts;

    ASSERT(copy.port_count <= CONTAINER_PORTS_MAX);
    free(t->container.ports);
    copy.ports = copy.port_count == 0
                     ? NULL
                     : xmemdup(facts->ports, copy.port_count * sizeof(copy.ports[0]));
    if (copy.phase == CONTAINER_ABSENT) { /* keep the id and exit code that were reported */
        memcpy(copy.id, t->container.id, sizeof(copy.id));
        copy.exit_code = t->container.exit_code;
    }
    /* Somebody restarted it: a new namespace, and at its gate again. */
    if (t->networks && copy.phase == CONTAINER_RUNNING && copy.pid != 0 && t->container.pid != 0 &&
        copy.pid != t->container.pid)
        t->attached = false;
    t->container = copy;
}

static void retry_later(struct task *t, const struct task_event *ev, enum task_op op)
{
    uint64_t wait_ms = TASK_RETRY_MS_MIN;

    for (uint32_t i = 0; i < t->retries && wait_ms < TASK_RETRY_MS_MAX; i++)
        wait_ms *= 2;
    t->retries++;
    t->retry_at_ms = ev->now_ms + MIN(wait_ms, (uint64_t)TASK_RETRY_MS_MAX);
    t->for_networks = ev->for_networks;
    if (op != TASK_OP_PULL && op != TASK_OP_ATTACH)
        t->container.phase = CONTAINER_UNKNOWN; /* the operation may have taken effect */
    if (op == TASK_OP_STOP || op == TASK_OP_KILL)
        t->stop_failed = true;
    if (op != TASK_OP_INSPECT && op != TASK_OP_REMOVE && !task_is_terminal(t->state))
        plain_format(t->error, sizeof(t->error), "%s", ev->error == NULL ? "" : ev->error);
}

static void on_success(struct task *t, const struct task_event *ev, enum task_op op)
{
    bool stuck =
        (op == TASK_OP_STOP || op == TASK_OP_KILL) && t->container.phase == CONTAINER_RUNNING;

    if (op == TASK_OP_PULL)
        t->pulled = true;
    if (op == TASK_OP_REMOVE)
        t->removed = true;
    if (op == TASK_OP_ATTACH && t->container.phase == CONTAINER_RUNNING)
        t->attached = true;
    if (stuck) {
        struct task_event again = *ev;

        again.error = "container does not stop";
        retry_later(t, &again, op);
        return;
    }
    if (op != TASK_OP_INSPECT || t->state >= SKEP__TASK_STATE__TASK_RUNNING)
        t->retries = 0; /* before, a look at the container is no progress */
}

static void on_done(struct task *t, const struct task_event *ev)
{
    enum task_op op = t->op;

    ASSERT(op != TASK_OP_NONE);
    t->op = TASK_OP_NONE;
    if (ev->facts != NULL)
        take_facts(t, ev->facts);
    else if (op == TASK_OP_START)
        t->container.phase = CONTAINER_UNKNOWN;
    if (ev->result == TASK_RESULT_OK)
        on_success(t, ev, op);
    else if (ev->result == TASK_RESULT_RETRY || op == TASK_OP_STOP || op == TASK_OP_KILL ||
             op == TASK_OP_REMOVE || op == TASK_OP_INSPECT)
        retry_later(t, ev, op); /* stopping and removing are never given up */
    else if (!task_is_terminal(t->state) && !t->unassigned)
        fail(t, ev->error == NULL || ev->error[0] == '\0' ? "engine refused" : ev->error);
    if (t->stale && t->container.phase != CONTAINER_ABSENT)
        t->container.phase = CONTAINER_UNKNOWN;
    t->stale = false;
}

static bool superseded(const struct task *t)
{
    return (t->op == TASK_OP_PULL || (t->op == TASK_OP_ATTACH && !t->attached)) &&
           (t->unassigned || t->desired >= SKEP__TASK_STATE__TASK_SHUTDOWN);
}

static void on_event(struct task *t, const struct task_event *ev)
{
    switch (ev->type) {
    case TASK_EV_DESIRED:
        if (ev->desired > t->desired) {
            t->desired = ev->desired;
            t->retry_at_ms = 0;
        }
        break;
    case TASK_EV_UNASSIGNED:
        t->unassigned = true;
        t->retry_at_ms = 0;
        break;
    case TASK_EV_DONE:
        on_done(t, ev);
        break;
    case TASK_EV_OPENED:
        ASSERT(t->op == TASK_OP_ATTACH);
        t->attached = true;
        break;
    case TASK_EV_NETWORKS:
        if (t->for_networks)
            t->retry_at_ms = 0;
        break;
    case TASK_EV_HINT:
        if (t->op != TASK_OP_NONE)
            t->stale = true;
        else if (t->container.phase != CONTAINER_ABSENT)
            t->container.phase = CONTAINER_UNKNOWN;
        if (t->for_networks) /* the wait may be for nothing: it ended at the gate */
            t->retry_at_ms = 0;
        break;
    case TASK_EV_ENGINE_BACK:
        t->retry_at_ms = 0;
        break;
    case TASK_EV_TIMER:
        break;
    }
}

void task_step(struct task *t, const struct task_event *ev, struct task_effects *ret_fx)
{
    struct task_effects fx = { .op = TASK_OP_NONE };
    Skep__TaskState before = t->state;
    char error_before[TASK_ERROR_BYTES_MAX];

    ASSERT(task_invariants(t));
    memcpy(error_before, t->error, sizeof(error_before));
    on_event(t, ev);
    if (superseded(t)) {
        fx.cancel = true;
        t->op = TASK_OP_NONE;
    }
    if (t->op == TASK_OP_NONE && ev->now_ms >= t->retry_at_ms) {
        t->retry_at_ms = 0;
        t->for_networks = false;
        t->op = fx.op = task_next_op(t);
    }
    fx.gone = t->unassigned && t->removed;
    fx.report = !t->unassigned && (t->state != before || strcmp(t->error, error_before) != 0);
    ASSERT(t->state >= before);
    ASSERT(task_invariants(t));
    *ret_fx = fx;
}
