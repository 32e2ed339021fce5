/* Runs the operations that task machines ask for. A job is one operation of one task, at most one
 * per task; jobs wait in the queue of their lane for a place. Every step of a job ends in
 * job_end(), which tells the machine. */
#include "agentd/executor.h"

#include <stdlib.h>
#include <string.h>

#include "agentd/internal.h"
#include "agentd/worker/plain.h"
#include "common/assert.h"
#include "common/log.h"

static void job_run(struct job *j);

/* ---- queues ---- */

static enum executor_lane lane_of(enum task_op op)
{
    switch (op) {
    case TASK_OP_PULL:
        return LANE_PULL;
    case TASK_OP_CREATE:
    case TASK_OP_START:
        return LANE_BUILD;
    case TASK_OP_ATTACH:
        return LANE_ATTACH;
    case TASK_OP_STOP:
    case TASK_OP_KILL:
        return LANE_STOP;
    case TASK_OP_REMOVE:
        return LANE_REMOVE;
    case TASK_OP_INSPECT:
    case TASK_OP_NONE:
    default:
        return LANE_LOOK;
    }
}

static uint32_t lane_limit(enum executor_lane lane)
{
    static const uint32_t limits[LANE_COUNT] = {
        [LANE_PULL] = EXECUTOR_PULL_MAX,     [LANE_BUILD] = EXECUTOR_BUILD_MAX,
        [LANE_ATTACH] = EXECUTOR_ATTACH_MAX, [LANE_LOOK] = EXECUTOR_LOOK_MAX,
        [LANE_STOP] = EXECUTOR_STOP_MAX,     [LANE_REMOVE] = EXECUTOR_REMOVE_MAX,
    };

    return limits[lane];
}

/* Starts go before creates: what is nearly running should run. */
static void queue_add(struct job_list *q, struct job *j)
{
    if (j->op == TASK_OP_START || q->first == NULL) {
        j->next = q->first;
        q->first = j;
        if (j->next == NULL)
            q->last = j;
        return;
    }
    j->next = NULL;
    q->last->next = j;
    q->last = j;
}

static void queue_take(struct job_list *q, struct job *wanted)
{
    struct job *before = NULL, *j = q->first;

    while (j != wanted) {
        ASSERT(j != NULL);
        before = j;
        j = j->next;
    }
    if (before == NULL)
        q->first = j->next;
    else
        before->next = j->next;
    if (q->last == j)
        q->last = before;
}

static void lane_fill(struct agent *ag, enum executor_lane lane)
{
    struct executor *ex = &ag->executor;

    /* A job that ends at once comes back here; the loop below goes on instead of the stack. */
    if (ex->filling[lane])
        return;
    ex->filling[lane] = true;
    while (ex->running[lane] < lane_limit(lane) && ex->queue[lane].first != NULL) {
        struct job *j = ex->queue[lane].first;

        queue_take(&ex->queue[lane], j);
        ex->running[lane]++;
        j->running = true;
        job_run(j);
    }
    ex->filling[lane] = false;
}

/* ---- jobs ---- */

static void job_free(struct job *j)
{
    j->entry->shell = NULL;
    attach_free(j);
    image_config_deinit(&j->image);
    container_plan_deinit(&j->plan);
    free(j->facts.ports);
    free(j->check);
    free(j);
}

void job_end(struct job *j, enum task_result result, const char *error)
{
    struct agent *ag = j->ag;
    struct roster_entry *en = j->entry;
    enum executor_lane lane = lane_of(j->op);
    struct container_facts facts = j->facts;
    struct task_event ev = { .type = TASK_EV_DONE,
                             .now_ms = loop_now_ms(ag->loop),
                             .result = result,
                             .for_networks = j->for_networks && result == TASK_RESULT_RETRY,
                             .facts = j->has_facts ? &facts : NULL };
    char text[TASK_ERROR_BYTES_MAX], quotable[PLAIN_QUOTABLE_MAX];

    plain_format(text, sizeof(text), "%s", error);
    plain_clean(text);
    ev.error = text;
    if (result != TASK_RESULT_OK)
        log_warn("task.op", "task=%s op=%s result=%s error=\"%s\"", en->id, task_op_str(j->op),
                 result == TASK_RESULT_RETRY ? "retry" : "fatal", plain_quotable(quotable, text));
    else
        log_debug("task.op", "task=%s op=%s took_ms=%llu", en->id, task_op_str(j->op),
                  (unsigned long long)(loop_now_ms(ag->loop) - j->started_ms));
    ASSERT(j->running);
    ag->executor.running[lane]--;
    j->facts.ports = NULL; /* moved to facts */
    job_free(j);
    agent_feed(ag, en, &ev);
    free(facts.ports);
    lane_fill(ag, lane);
}

void job_end_unreachable(struct job *j, const struct err *e)
{
    if (e->code == ERR_TIMEOUT)
        watch_set_fault(j->ag, FAULT_OPERATION, "engine unresponsive");
    job_end(j, TASK_RESULT_RETRY, err_message(e, -ERR_UNAVAILABLE));
}

struct docker_reply job_reply(struct job *j, engine_done_fn *done)
{
    return (struct docker_reply){ done, j };
}

/* Every request goes through here: a call that could not be started ends the job. */
void job_sent(struct job *j, struct engine_call *call, const struct err *e)
{
    j->call = call;
    if (call == NULL)
        job_end(j, TASK_RESULT_RETRY, err_message(e, -ERR_UNAVAILABLE));
}

bool job_answered(struct job *j, const struct engine_response *r)
{
    j->call = NULL;
    if (r->rc < 0) {
        job_end_unreachable(j, &r->err);
        return false;
    }
    watch_set_fault(j->ag, FAULT_OPERATION, "");
    return true;
}

const char *job_ref(const struct job *j)
{
    const char *id = j->entry->task.container.id;

    return id[0] != '\0' ? id : j->name;
}

static void job_run(struct job *j)
{
    j->started_ms = loop_now_ms(j->ag->loop);
    switch (j->op) {
    case TASK_OP_PULL:
        job_pull(j);
        break;
    case TASK_OP_CREATE:
        job_create(j);
        break;
    case TASK_OP_START:
        job_start(j);
        break;
    case TASK_OP_ATTACH:
        job_attach(j);
        break;
    case TASK_OP_INSPECT:
        job_inspect(j);
        break;
    case TASK_OP_STOP:
    case TASK_OP_KILL:
        job_stop(j);
        break;
    case TASK_OP_REMOVE:
        job_remove(j);
        break;
    case TASK_OP_NONE:
    default:
        UNREACHABLE();
    }
}

void executor_start(struct agent *ag, struct roster_entry *en, enum task_op op)
{
    struct job *j = xcalloc(1, sizeof(*j));
    enum executor_lane lane = lane_of(op);

    ASSERT(en->shell == NULL);
    j->ag = ag;
    j->entry = en;
    j->op = op;
    if (en->assignment != NULL)
        container_name(en->assignment, ag->node_id.s, j->name, sizeof(j->name));
    en->shell = j;
    queue_add(&ag->executor.queue[lane], j);
    lane_fill(ag, lane);
}

/* Only pulls, and attaching before the gate was opened, are ever cancelled: everything else may
 * have taken effect. */
void executor_cancel(struct agent *ag, struct roster_entry *en)
{
    struct job *j = en->shell;
    enum executor_lane lane;

    ASSERT(j != NULL && (j->op == TASK_OP_PULL || j->op == TASK_OP_ATTACH));
    lane = lane_of(j->op);
    engine_call_cancel(j->call);
    pull_leave(j);
    if (j->running)
        ag->executor.running[lane]--;
    else
        queue_take(&ag->executor.queue[lane], j);
    job_free(j);
}

void executor_free(struct agent *ag)
{
    struct executor *ex = &ag->executor;

    worker_free(ex->blocking); /* first: it may be running a job's check */
    if (ex->inbox != NULL)
        inbox_free(ex->inbox);
    ex->blocking = NULL;
    ex->inbox = NULL;
    for (size_t i = 0; i < ag->roster.count; i++) {
        struct job *j = ag->roster.entries[i]->shell;

        if (j == NULL)
            continue;
        engine_call_cancel(j->call);
        pull_leave(j);
        job_free(j);
    }
    pulls_free(ag);
    memset(ex->queue, 0, sizeof(ex->queue));
    memset(ex->running, 0, sizeof(ex->running));
}
