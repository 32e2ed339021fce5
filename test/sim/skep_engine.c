/* A Docker Engine of a few lines: containers with phases, operations that take time, processes that
 * end. What an image does is in its name, as in cluster_world.h. An operation takes effect when it
 * ends. One that fails for now may have taken effect, its answer being lost; what a dying agent was
 * about to ask is not done. */
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "test/sim/skep.h"

enum { OPERATION_US = 50 * SIM_MS, FAIL_ONE_IN = 24, ENDS_BY_ITSELF_ONE_IN = 6 };

struct skep_container *skep_engine_find(struct skep_agent *a, const char *task_id)
{
    for (uint32_t i = 0; i < SKEP_CONTAINERS_MAX; i++) {
        struct skep_container *c = &a->containers[i];

        if (c->phase != CONTAINER_ABSENT && strcmp(c->task_id, task_id) == 0)
            return c;
    }
    return NULL;
}

static int64_t seconds_of(const char *image, const char *prefix)
{
    size_t size = strlen(prefix);

    return strncmp(image, prefix, size) == 0 ? strtol(image + size, NULL, 10) : -1;
}

static const char *image_of(const struct roster_entry *en)
{
    return en->assignment != NULL ? en->assignment->spec->task->container->image : "";
}

/* A process ends by itself, or never. */
static void plan_exit(struct skep_agent *a, const struct skep_container *c)
{
    struct skep_parcel like = { .what = SKEP_ENGINE_EXIT,
                                .who = a->index,
                                .life = a->host_life,
                                .number = c->serial,
                                .container = (uint32_t)(c - a->containers) };
    int64_t crash = seconds_of(c->image, "crash-"), leave = seconds_of(c->image, "exit-");
    uint64_t delay = (uint64_t)MAX(crash, leave) * SIM_S;

    if (crash < 0 && leave < 0) {
        if (a->s->calm || prng_below(&a->prng, ENDS_BY_ITSELF_ONE_IN) != 0)
            return;
        delay = sim_exponential(&a->prng, 30 * (uint64_t)SIM_S);
        crash = 0;
    }
    like.rc = crash >= 0 ? 1 : 0;
    skep_post(a->s, delay, -1, skep_parcel_new(&like, NULL, 0));
}

static struct skep_container *create(struct skep_agent *a, const char *task_id, const char *image)
{
    struct skep_container *c = skep_engine_find(a, task_id);

    for (uint32_t i = 0; c == NULL && i < SKEP_CONTAINERS_MAX; i++) {
        if (a->containers[i].phase != CONTAINER_ABSENT)
            continue;
        c = &a->containers[i];
        *c = (struct skep_container){ .phase = CONTAINER_CREATED, .serial = ++a->serial_last };
        memcpy(c->task_id, task_id, strlen(task_id));
        (void)snprintf(c->image, sizeof(c->image), "%s", image); /* short, ours */
    }
    ASSERT(c != NULL);
    return c;
}

static const char *start(struct skep_agent *a, struct skep_container *c)
{
    if (c->phase == CONTAINER_RUNNING)
        return NULL;
    if (strncmp(c->image, "fail", 4) == 0)
        return "starting container failed: as its name says";
    if (++c->starts > 1)
        sim_fail(a->s, "G7: agent %u starts the container of task %s twice", a->index, c->task_id);
    c->phase = CONTAINER_RUNNING;
    plan_exit(a, c);
    return NULL;
}

/* Carries an operation out. NULL, or why it fails for good. */
static const char *carry_out(struct skep_agent *a, enum task_op op, const char *task_id,
                             const char *image)
{
    struct skep_container *c = skep_engine_find(a, task_id);

    switch (op) {
    case TASK_OP_PULL:
        return strncmp(image, "reject", 6) == 0 ? "No such image" : NULL;
    case TASK_OP_CREATE:
        (void)create(a, task_id, image);
        return NULL;
    case TASK_OP_START:
        return c == NULL ? "No such container" : start(a, c);
    case TASK_OP_STOP:
    case TASK_OP_KILL:
        if (c != NULL && c->phase == CONTAINER_RUNNING) {
            c->phase = CONTAINER_EXITED;
            c->exit_code = 143;
        }
        return NULL;
    case TASK_OP_REMOVE:
        if (c != NULL)
            c->phase = CONTAINER_ABSENT;
        return NULL;
    case TASK_OP_NONE:
    case TASK_OP_ATTACH:
    case TASK_OP_INSPECT:
    default:
        return NULL;
    }
}

static struct container_facts facts_of(struct skep_agent *a, const char *task_id)
{
    const struct skep_container *c = skep_engine_find(a, task_id);
    struct container_facts facts = { .phase = CONTAINER_ABSENT };

    if (c == NULL)
        return facts;
    facts.phase = c->phase;
    facts.exit_code = c->exit_code;
    (void)snprintf(facts.id, sizeof(facts.id), "%u-%llu", a->index, (unsigned long long)c->serial);
    return facts;
}

/* The bytes of the parcel of an operation: task id and image. */
struct job {
    enum task_op op;
    bool fails; /* for now: it is to be tried again */
    bool lost;  /* but takes effect */
    char task_id[ID_CHARS + 1];
    char image[64];
};

void skep_engine_start(struct skep_agent *a, struct roster_entry *en, enum task_op op)
{
    struct job job = { .op = op };
    struct skep_parcel like = {
        .what = SKEP_ENGINE_DONE, .who = a->index, .life = a->life, .number = ++a->job_last
    };
    uint64_t delay = sim_exponential(&a->prng, OPERATION_US);
    int64_t slow = seconds_of(image_of(en), "slow-"),
            stubborn = seconds_of(image_of(en), "stubborn-");

    job.fails = !a->s->calm && prng_below(&a->prng, FAIL_ONE_IN) == 0;
    job.lost = prng_below(&a->prng, 2) == 0;
    memcpy(job.task_id, en->id, sizeof(job.task_id));
    (void)snprintf(job.image, sizeof(job.image), "%s", image_of(en)); /* short, ours */
    if (op == TASK_OP_PULL && slow > 0)
        delay += (uint64_t)slow * SIM_S;
    if (op == TASK_OP_STOP && stubborn > 0)
        delay += (uint64_t)stubborn * SIM_S;
    en->shell = (void *)(uintptr_t)a->job_last; /* whose end counts */
    skep_post(a->s, delay, -1, skep_parcel_new(&like, (const uint8_t *)&job, sizeof(job)));
}

void skep_engine_done(struct skep_agent *a, const struct skep_parcel *p)
{
    struct roster_entry *en;
    struct container_facts facts;
    struct task_event ev = { .type = TASK_EV_DONE, .now_ms = a->s->now_us / 1000 };
    struct job job;

    if (p->life != a->life)
        return;
    memcpy(&job, p->bytes, sizeof(job));
    if (!job.fails || job.lost)
        ev.error = carry_out(a, job.op, job.task_id, job.image);
    if (job.fails)
        ev.error = "engine busy";
    ev.result =
        ev.error == NULL ? TASK_RESULT_OK : (job.fails ? TASK_RESULT_RETRY : TASK_RESULT_FATAL);
    en = a->up ? roster_find(&a->roster, job.task_id) : NULL;
    if (en == NULL || (uintptr_t)en->shell != p->number || en->task.op != job.op)
        return; /* superseded, or asked by an agent of before */
    facts = facts_of(a, job.task_id);
    ev.facts = job.fails || job.op == TASK_OP_PULL || job.op == TASK_OP_REMOVE ? NULL : &facts;
    skep_agent_feed(a, en, &ev);
}

void skep_engine_exit(struct skep_agent *a, const struct skep_parcel *p)
{
    struct skep_container *c = &a->containers[p->container];
    struct task_event ev = { .type = TASK_EV_HINT, .now_ms = a->s->now_us / 1000 };
    struct roster_entry *en;

    if (p->life != a->host_life || c->serial != p->number || c->phase != CONTAINER_RUNNING)
        return;
    c->phase = CONTAINER_EXITED;
    c->exit_code = p->rc;
    en = a->up ? roster_find(&a->roster, c->task_id) : NULL;
    if (en != NULL)
        skep_agent_feed(a, en, &ev);
}

void skep_engine_stop_all(struct skep_agent *a)
{
    for (uint32_t i = 0; i < SKEP_CONTAINERS_MAX; i++) {
        if (a->containers[i].phase != CONTAINER_RUNNING)
            continue;
        a->containers[i].phase = CONTAINER_EXITED;
        a->containers[i].exit_code = 137;
    }
}
