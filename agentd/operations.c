/* Start, inspect, stop, kill and remove. Each answers with the container's facts, asked for after
 * the deed, so that a machine never acts on what it merely assumes. */
#include "agentd/executor.h"

#include <stdlib.h>
#include <string.h>

#include "agentd/files.h"
#include "agentd/worker/plain.h"

enum { STOP_GRACE_S_DEFAULT = 10, STOP_GRACE_S_MAX = 24 * 3600 };

/* ---- facts ---- */

int job_take_facts(struct job *j, const struct engine_response *r, const char *ref,
                   bool *ret_foreign, struct err *e)
{
    struct container_identity who;
    struct container_facts facts;
    int rc;

    *ret_foreign = false;
    if (r->status != 200 && r->status != 404)
        return err_set(e, ERR_INTERNAL, "inspect: %s", r->err.message);
    rc = container_parse_inspect(r, ref, &facts, &who, e);
    if (rc < 0)
        return rc;
    if (facts.phase != CONTAINER_ABSENT && (strcmp(who.task_id, j->entry->id) != 0 ||
                                            strcmp(who.cluster_id, j->ag->cluster_id.s) != 0)) {
        *ret_foreign = true;
        free(facts.ports);
        facts = (struct container_facts){ .phase = CONTAINER_ABSENT };
    }
    free(j->facts.ports);
    j->facts = facts;
    j->has_facts = true;
    return 0;
}

static void looked(void *ctx, const struct engine_response *r)
{
    struct job *j = ctx;
    struct err e = { 0 };
    bool foreign;
    int rc;

    if (r->rc < 0 && j->op != TASK_OP_INSPECT && j->result_after == TASK_RESULT_FATAL) {
        j->call = NULL; /* the deed has failed for good: say so rather than that looking failed */
        job_end(j, TASK_RESULT_FATAL, j->error);
        return;
    }
    if (!job_answered(j, r))
        return;
    rc = job_take_facts(j, r, job_ref(j), &foreign, &e);
    if (rc < 0 && j->result_after == TASK_RESULT_OK)
        job_end(j, TASK_RESULT_RETRY, e.message);
    else
        job_end(j, j->result_after, j->error);
}

void job_end_looking(struct job *j, enum task_result result, const char *error)
{
    struct err e = { 0 };

    j->result_after = result;
    plain_format(j->error, sizeof(j->error), "%s", error);
    job_sent(j, container_inspect(j->ag->engine, job_ref(j), job_reply(j, looked), &e), &e);
}

void job_inspect(struct job *j)
{
    if (job_ref(j)[0] == '\0') { /* neither id nor name: nothing that could exist */
        j->facts.phase = CONTAINER_ABSENT;
        j->has_facts = true;
        job_end(j, TASK_RESULT_OK, "");
        return;
    }
    job_end_looking(j, TASK_RESULT_OK, "");
}

/* ---- start ---- */

static void started(void *ctx, const struct engine_response *r)
{
    struct job *j = ctx;
    char text[TASK_ERROR_BYTES_MAX];

    if (r->rc == -ERR_TIMEOUT) {
        /* It may happen yet: this task is given up, and stopped should it come to life. */
        j->call = NULL;
        watch_set_fault(j->ag, FAULT_OPERATION, "engine unresponsive");
        job_end(j, TASK_RESULT_FATAL, "starting container failed: engine did not answer in time");
        return;
    }
    if (!job_answered(j, r))
        return;
    if (r->status < 400) {
        job_end_looking(j, TASK_RESULT_OK, "");
        return;
    }
    plain_format(text, sizeof(text), "starting container failed: %s", r->err.message);
    job_end_looking(j, TASK_RESULT_FATAL, text);
}

void job_start_container(struct job *j)
{
    struct err e = { 0 };

    job_sent(j, container_start(j->ag->engine, job_ref(j), job_reply(j, started), &e), &e);
}

/* ---- stop, kill ---- */

static uint32_t grace_s(const struct job *j)
{
    const Skep__TaskAssignment *a = j->entry->assignment;
    int64_t ns;

    if (a == NULL || a->spec == NULL || a->spec->task == NULL || a->spec->task->container == NULL)
        return STOP_GRACE_S_DEFAULT;
    ns = a->spec->task->container->stop_grace_period;
    if (ns < 0)
        return STOP_GRACE_S_DEFAULT;
    return (uint32_t)MIN(ns / 1000000000, (int64_t)STOP_GRACE_S_MAX);
}

/* 304: was stopped; 404: is gone; 409: does not run. All are what was wanted. */
static bool stop_succeeded(unsigned status)
{
    return status < 400 || status == 404 || status == 409;
}

static void stopped(void *ctx, const struct engine_response *r)
{
    struct job *j = ctx;

    if (!job_answered(j, r))
        return;
    if (stop_succeeded(r->status))
        job_end_looking(j, TASK_RESULT_OK, "");
    else
        job_end_looking(j, TASK_RESULT_RETRY, r->err.message);
}

static void waited(void *ctx, const struct engine_response *r)
{
    (void)r; /* over time or not: the container's facts tell */
    job_end_looking(ctx, TASK_RESULT_OK, "");
}

static void killed(void *ctx, const struct engine_response *r)
{
    struct job *j = ctx;
    struct err e = { 0 };

    if (!job_answered(j, r))
        return;
    if (!stop_succeeded(r->status)) {
        job_end_looking(j, TASK_RESULT_RETRY, r->err.message);
        return;
    }
    job_sent(j, container_wait(j->ag->engine, job_ref(j), job_reply(j, waited), &e), &e);
}

void job_stop(struct job *j)
{
    struct engine *en = j->ag->engine;
    struct err e = { 0 };

    if (j->op == TASK_OP_KILL)
        job_sent(j, container_kill(en, job_ref(j), job_reply(j, killed), &e), &e);
    else
        job_sent(j, container_stop(en, job_ref(j), grace_s(j), job_reply(j, stopped), &e), &e);
}

/* ---- remove ---- */

static void forget(struct job *j)
{
    networks_detach(j->ag, j->entry);
    files_wipe(j->ag->files_dir, j->entry->id);
}

static void removed(void *ctx, const struct engine_response *r)
{
    struct job *j = ctx;

    if (!job_answered(j, r))
        return;
    if (!stop_succeeded(r->status)) { /* 409: another removal is under way */
        job_end(j, TASK_RESULT_RETRY, r->err.message);
        return;
    }
    forget(j);
    job_end(j, TASK_RESULT_OK, "");
}

void job_remove(struct job *j)
{
    struct err e = { 0 };

    if (job_ref(j)[0] == '\0') {
        forget(j);
        job_end(j, TASK_RESULT_OK, "");
        return;
    }
    job_sent(j, container_remove(j->ag->engine, job_ref(j), job_reply(j, removed), &e), &e);
}
