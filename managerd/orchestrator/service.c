/* What a service asks of its tasks: the spec that a task has, the difference to the current one,
 * and new tasks. */
#include "managerd/orchestrator/internal.h"

#include <string.h>

#include "common/message.h"
#include "managerd/store/constraint.h"

bool service_fits_node(const Skep__ServiceSpec *spec, const Skep__Node *node)
{
    const Skep__Placement *placement = spec->task->placement;

    return node_constraints_match(placement, node) && node_platform_match(placement, node);
}

bool service_is_job(const Skep__Service *service)
{
    return service->spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB ||
           service->spec->mode_case == SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB;
}

Skep__TaskState service_goal(const Skep__Service *service)
{
    return service_is_job(service) ? SKEP__TASK_STATE__TASK_COMPLETE
                                   : SKEP__TASK_STATE__TASK_RUNNING;
}

/* ---- differences ---- */

static bool body_equal(const Skep__TaskSpec *a, const Skep__TaskSpec *b)
{
    Skep__TaskSpec x = *a, y = *b;
    Skep__ContainerSpec xc = SKEP__CONTAINER_SPEC__INIT, yc = SKEP__CONTAINER_SPEC__INIT;

    if (a->container != NULL) {
        xc = *a->container;
        x.container = &xc;
    }
    if (b->container != NULL) {
        yc = *b->container;
        y.container = &yc;
    }
    x.placement = y.placement = NULL;
    xc.registry_auth = yc.registry_auth = (char *)"";
    return message_equal(&x.base, &y.base);
}

static const char *registry_auth(const Skep__TaskSpec *t)
{
    return t->container != NULL ? t->container->registry_auth : "";
}

static struct spec_diff compare(const struct pass *p, uint64_t version)
{
    const Skep__Revision *r = store_revision(p->env->store, p->service->id, version);
    const Skep__ServiceSpec *now = p->service->spec;
    struct spec_diff d = { .version = version, .known = r != NULL };

    if (r == NULL || r->spec->task == NULL || now->task == NULL)
        return d;
    const Skep__TaskSpec *was = r->spec->task;
    d.body_equal =
        body_equal(was, now->task) && message_equal((const ProtobufCMessage *)r->spec->endpoint,
                                                    (const ProtobufCMessage *)now->endpoint);
    d.auth_equal = strcmp(registry_auth(was), registry_auth(now->task)) == 0;
    d.placement_equal = message_equal((const ProtobufCMessage *)was->placement,
                                      (const ProtobufCMessage *)now->task->placement);
    return d;
}

/* A service has few versions alive at a time: a linear cache. */
static const struct spec_diff *diff_of(struct pass *p, uint64_t version)
{
    enum { DIFFS_MAX = 64 };

    for (size_t i = 0; i < p->diff_count; i++) {
        if (p->diffs[i].version == version)
            return &p->diffs[i];
    }
    if (p->diffs == NULL)
        p->diffs = arena_array(&p->o->scratch, DIFFS_MAX, sizeof(*p->diffs));
    size_t at = p->diff_count < DIFFS_MAX ? p->diff_count++ : DIFFS_MAX - 1;
    p->diffs[at] = compare(p, version);
    return &p->diffs[at];
}

bool service_task_stale(struct pass *p, const Skep__Task *t)
{
    if (t->spec_version == p->service->meta->spec_version)
        return false;
    const struct spec_diff *d = diff_of(p, t->spec_version);
    bool pulled = t->status->state >= SKEP__TASK_STATE__TASK_READY &&
                  t->status->state <= SKEP__TASK_STATE__TASK_RUNNING;

    if (!d->body_equal || (!d->auth_equal && !pulled))
        return true;
    if (d->placement_equal)
        return false;
    const Skep__Node *node = pass_node(p, t->node_id);
    return node == NULL || !service_fits_node(p->service->spec, node);
}

/* ---- new tasks ---- */

static bool needs_allocation(const Skep__ServiceSpec *spec)
{
    if (spec->task->n_networks > 0)
        return true;
    for (size_t i = 0; spec->endpoint != NULL && i < spec->endpoint->n_ports; i++) {
        if (spec->endpoint->ports[i]->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_INGRESS)
            return true;
    }
    return false;
}

void service_add_task(struct pass *p, struct slot *s, const struct task_plan *plan)
{
    const Skep__Task *newest = slot_newest(s);
    bool allocate = needs_allocation(p->service->spec);
    struct id id = id_from_prng(p->env->prng);
    Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;
    Skep__Task t = SKEP__TASK__INIT;

    status.timestamp = p->env->wall_ns;
    status.applied_at = p->env->wall_ns;
    status.state = allocate ? SKEP__TASK_STATE__TASK_NEW : SKEP__TASK_STATE__TASK_PENDING;
    status.message = (char *)(allocate ? "created" : "pending task scheduling");
    t.id = id.s;
    t.service_id = p->service->id;
    t.spec_version = p->service->meta->spec_version;
    t.slot = s->number;
    if (s->node_id != NULL)
        t.node_id = (char *)s->node_id;
    t.desired_state = plan->desired;
    t.status = &status;
    t.job_iteration = p->service->job_iteration;
    t.attempt = newest != NULL ? newest->attempt + 1 : 1;
    t.restarts = plan->restarts;
    t.cause = plan->cause;
    store_tx_create(p->tx, &t.base);
    p->changed = true;
    s->touched = true;
}
