#include "test/sim/cluster_rules.h"

#include <inttypes.h>
#include <string.h>

#include "managerd/store/constraint.h"
#include "test/sim/cluster_internal.h"

static bool wanted(const Skep__Task *t)
{
    return t->desired_state < SKEP__TASK_STATE__TASK_SHUTDOWN;
}

static bool dead(const Skep__Task *t)
{
    return t->status->state > SKEP__TASK_STATE__TASK_RUNNING;
}

static const ProtobufCMessage *next(const struct world *w, Skep__Kind kind,
                                    const ProtobufCMessage *m)
{
    return m == NULL ? store_first(w->store, kind) : store_after(w->store, kind, object_id(m));
}

static int broken(const struct world *w, struct err *e, const char *rule, const char *id)
{
    return err_set(e, ERR_INTERNAL, "%s: %s at %" PRIu64 " ms, index %" PRIu64, rule, id, w->now_ms,
                   w->index);
}

/* ---- every change ---- */

int cluster_rules_change(const struct store_event *ev, struct err *e)
{
    const Skep__Task *from = (const Skep__Task *)ev->before, *to = (const Skep__Task *)ev->after;

    if (ev->kind != SKEP__KIND__KIND_TASK || ev->action != STORE_UPDATE)
        return 0;
    if (to->desired_state < from->desired_state || to->status->state < from->status->state)
        return err_set(e, ERR_INTERNAL, "O1: task %s goes backwards", to->id);
    if (from->node_id[0] != '\0' && strcmp(from->node_id, to->node_id) != 0)
        return err_set(e, ERR_INTERNAL, "O1: task %s changes its node", to->id);
    return 0;
}

/* ---- every transaction ---- */

static bool same_place(const Skep__Service *s, const Skep__Task *a, const Skep__Task *b)
{
    bool nodes = s->spec->mode_case == SKEP__SERVICE_SPEC__MODE_GLOBAL ||
                 s->spec->mode_case == SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB;

    return nodes ? strcmp(a->node_id, b->node_id) == 0 : a->slot == b->slot;
}

static bool start_first(const Skep__UpdateConfig *u)
{
    return u != NULL && u->order == SKEP__UPDATE_ORDER__ORDER_START_FIRST;
}

/* A paused node is left alone by global services: what an update left there stays (swarmkit
 * orchestrator/global: "the node is paused, so we won't add or update any tasks"). */
static bool left_alone(const struct world *w, const Skep__Service *s, const Skep__Task *t)
{
    const Skep__Node *node = store_node(w->store, t->node_id);

    return s->spec->mode_case == SKEP__SERVICE_SPEC__MODE_GLOBAL && node != NULL &&
           node->spec->availability == SKEP__NODE_AVAILABILITY__AVAILABILITY_PAUSE;
}

/* O2, O3: what else is wanted where t is? */
static int check_place(const struct world *w, const Skep__Service *s, const Skep__Task *t,
                       struct err *e)
{
    struct store_iter it;
    int others = 0;

    for (const Skep__Task *o = store_service_tasks(w->store, s->id, &it); o != NULL;
         o = store_iter_next(&it)) {
        if (o == t || !wanted(o) || dead(o) || !same_place(s, o, t))
            continue;
        if (o->job_iteration != t->job_iteration)
            continue; /* the next pass removes the older one */
        if (o->spec_version == t->spec_version)
            return broken(w, e, "O2/O3: two wanted tasks of one spec", t->id);
        /* Only an update that starts first leaves two, and the newer one's spec says so. */
        const Skep__Revision *r =
            store_task_revision(w->store, o->spec_version > t->spec_version ? o : t);
        /* No revision: decided under a spec that two others overtook on the way; outdated at once.
         */
        if (r != NULL && !start_first(r->spec->update) && !start_first(r->spec->rollback))
            return broken(w, e, "O2/O3: two wanted tasks in one place", t->id);
        if (++others > 1)
            return broken(w, e, "O2/O3: three wanted tasks in one place", t->id);
    }
    return 0;
}

/* O6 */
static int check_job(const struct world *w, const Skep__Service *s, struct err *e)
{
    const Skep__ReplicatedJobMode *job = s->spec->replicated_job;
    uint64_t active = 0;
    struct store_iter it;
    uint64_t completed_slot = UINT64_MAX;

    for (const Skep__Task *t = store_service_tasks(w->store, s->id, &it); t != NULL;
         t = store_iter_next(&it)) {
        if (t->job_iteration != s->job_iteration)
            continue;
        active += wanted(t) && !dead(t);
        if (t->status->state == SKEP__TASK_STATE__TASK_COMPLETE && wanted(t)) {
            if (t->slot == completed_slot)
                return broken(w, e, "O6: a slot completed twice", t->id);
            completed_slot = t->slot;
        }
        if (t->slot >= job->total_completions)
            return broken(w, e, "O6: a slot too many", t->id);
    }
    if (active > job->max_concurrent)
        return broken(w, e, "O6: more at work than max_concurrent", s->id);
    return 0;
}

/* Places of a rolling update that are taken by tasks on their way up. Not of global services: a
 * paused node's place is given to another, and then it may come back. */
static int check_parallelism(const struct world *w, const Skep__Service *s, struct err *e)
{
    /* Which of the two it is may change with the status, under the same version. */
    uint64_t forth = s->spec->update->parallelism, back = s->spec->rollback->parallelism;
    uint64_t starting = 0;
    struct store_iter it;

    for (const Skep__Task *t = store_service_tasks(w->store, s->id, &it); t != NULL;
         t = store_iter_next(&it)) {
        const Skep__Node *node = store_node(w->store, t->node_id);

        if (t->cause != SKEP__TASK_CAUSE__CAUSE_UPDATED ||
            t->spec_version != s->meta->spec_version || !wanted(t) ||
            t->status->state >= SKEP__TASK_STATE__TASK_RUNNING)
            continue;
        /* Those that found no node for long, or lost it, gave their place up. */
        if (t->status->state < SKEP__TASK_STATE__TASK_ASSIGNED &&
            w->wall_ns - t->meta->created_at > INT64_C(20) * 1000000000)
            continue;
        if (t->node_id[0] != '\0' &&
            (node == NULL || node->status->state == SKEP__NODE_STATE__NODE_DOWN ||
             node->spec->availability != SKEP__NODE_AVAILABILITY__AVAILABILITY_ACTIVE))
            continue;
        starting++;
    }
    if (forth > 0 && back > 0 && starting > MAX(forth, back))
        return broken(w, e, "O2: more updated at once than parallelism", s->id);
    return 0;
}

static int check_service(const struct world *w, const Skep__Service *s, struct err *e)
{
    const Skep__RestartPolicy *r = s->spec->task->restart;
    struct store_iter it;
    int rc = 0;

    for (const Skep__Task *t = store_service_tasks(w->store, s->id, &it); t != NULL && rc == 0;
         t = store_iter_next(&it)) {
        if (wanted(t) && !dead(t) && !left_alone(w, s, t))
            rc = check_place(w, s, t, e);
        if (rc == 0 && t->spec_version == s->meta->spec_version && r->max_attempts > 0 &&
            r->window == 0 && t->restarts > r->max_attempts)
            rc = broken(w, e, "more restarts than max_attempts", t->id);
    }
    if (rc == 0 && s->spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB)
        rc = check_job(w, s, e);
    if (rc == 0 && s->spec->update != NULL && !w->ages_lie &&
        s->spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED)
        rc = check_parallelism(w, s, e);
    return rc;
}

int cluster_rules_always(const struct world *w, struct err *e)
{
    const ProtobufCMessage *m = NULL;
    int rc = 0;

    while (rc == 0 && (m = next(w, SKEP__KIND__KIND_SERVICE, m)) != NULL)
        rc = check_service(w, (const Skep__Service *)m, e);
    return rc;
}

/* ---- at rest ---- */

static bool takes(const Skep__Service *s, const Skep__Node *node)
{
    return node->status->state != SKEP__NODE_STATE__NODE_DOWN &&
           node->spec->availability == SKEP__NODE_AVAILABILITY__AVAILABILITY_ACTIVE &&
           node_constraints_match(s->spec->task->placement, node);
}

/* Same body as now: a version of before may still be right. */
static bool current(const struct world *w, const Skep__Service *s, const Skep__Task *t)
{
    const Skep__Revision *r = store_task_revision(w->store, t);

    return r != NULL &&
           strcmp(r->spec->task->container->image, s->spec->task->container->image) == 0;
}

static int replicated_converged(const struct world *w, const Skep__Service *s, struct err *e)
{
    uint64_t running = 0;
    struct store_iter it;

    for (const Skep__Task *t = store_service_tasks(w->store, s->id, &it); t != NULL;
         t = store_iter_next(&it)) {
        if (!wanted(t))
            continue;
        if (t->status->state != SKEP__TASK_STATE__TASK_RUNNING || !current(w, s, t) ||
            t->desired_state != SKEP__TASK_STATE__TASK_RUNNING)
            return broken(w, e, "O7: wanted, but not running the current spec", t->id);
        running++;
    }
    if (running != s->spec->replicated->replicas)
        return broken(w, e, "O7: not as many tasks as replicas", s->id);
    return 0;
}

static int global_converged(const struct world *w, const Skep__Service *s, struct err *e)
{
    const ProtobufCMessage *m = NULL;

    while ((m = next(w, SKEP__KIND__KIND_NODE, m)) != NULL) {
        const Skep__Node *node = (const Skep__Node *)m;
        uint64_t running = 0;
        struct store_iter it;

        for (const Skep__Task *t = store_node_tasks(w->store, node->id, &it); t != NULL;
             t = store_iter_next(&it))
            running += strcmp(t->service_id, s->id) == 0 && wanted(t) && current(w, s, t) &&
                       t->status->state == SKEP__TASK_STATE__TASK_RUNNING;
        if (running != (takes(s, node) ? 1 : 0))
            return broken(w, e, "O7: not one task on each node that fits", node->id);
    }
    return 0;
}

static int job_converged(const struct world *w, const Skep__Service *s, struct err *e)
{
    uint64_t completed = 0, all = 0;
    const ProtobufCMessage *m = NULL;
    struct store_iter it;

    for (const Skep__Task *t = store_service_tasks(w->store, s->id, &it); t != NULL;
         t = store_iter_next(&it)) {
        completed += t->status->state == SKEP__TASK_STATE__TASK_COMPLETE;
        if (t->job_iteration != s->job_iteration)
            return broken(w, e, "O7: a task of an older iteration is left", t->id);
        if (wanted(t) && !dead(t))
            return broken(w, e, "O7: a job is still at work", t->id);
    }
    if (s->spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB)
        all = s->spec->replicated_job->total_completions;
    while (s->spec->mode_case == SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB &&
           (m = next(w, SKEP__KIND__KIND_NODE, m)) != NULL)
        all += takes(s, (const Skep__Node *)m);
    if (completed < all)
        return broken(w, e, "O6: fewer completions than wanted", s->id);
    return 0;
}

static int service_converged(const struct world *w, const Skep__Service *s, struct err *e)
{
    if (s->update_status != NULL &&
        (s->update_status->state == SKEP__UPDATE_STATUS__STATE__UPDATING ||
         s->update_status->state == SKEP__UPDATE_STATUS__STATE__ROLLBACK_STARTED))
        return broken(w, e, "O7: an update never ends", s->id);
    if (s->spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED)
        return replicated_converged(w, s, e);
    if (s->spec->mode_case == SKEP__SERVICE_SPEC__MODE_GLOBAL)
        return global_converged(w, s, e);
    return job_converged(w, s, e);
}

static int task_converged(const struct world *w, const Skep__Task *t, struct err *e)
{
    if (store_service(w->store, t->service_id) == NULL)
        return broken(w, e, "O7: a task outlives its service", t->id);
    if (t->desired_state >= SKEP__TASK_STATE__TASK_REMOVE)
        return broken(w, e, "O7: a task is not removed", t->id);
    if (!dead(t) && t->node_id[0] != '\0' && store_node(w->store, t->node_id) == NULL)
        return broken(w, e, "O7: a task lives on a node that is gone", t->id);
    if (!wanted(t) && !dead(t) && t->status->state >= SKEP__TASK_STATE__TASK_ASSIGNED)
        return broken(w, e, "O7: a task does not stop", t->id);
    return 0;
}

/* History: five dead tasks per place, and a few that were never placed. */
static int check_history(const struct world *w, struct err *e)
{
    size_t tasks = store_count(w->store, SKEP__KIND__KIND_TASK);
    size_t services = store_count(w->store, SKEP__KIND__KIND_SERVICE);

    if (tasks > services * 16 * 12)
        return broken(w, e, "the history grows without bound", "tasks");
    return 0;
}

/* G7: nothing runs that nobody wants. */
static int check_containers(const struct world *w, struct err *e)
{
    for (size_t i = 0; i < w->agent_count; i++) {
        const struct world_agent *a = &w->agents[i];

        for (size_t k = 0; a->connected && k < a->container_count; k++) {
            const Skep__Task *t = store_task(w->store, a->containers[k].task_id);

            if (a->containers[k].state <= SKEP__TASK_STATE__TASK_RUNNING &&
                (t == NULL || !wanted(t)))
                return broken(w, e, "G7: a container runs that nobody wants",
                              a->containers[k].task_id);
        }
    }
    return 0;
}

int cluster_rules_converged(const struct world *w, struct err *e)
{
    const ProtobufCMessage *m = NULL;
    int rc = 0;

    while (rc == 0 && (m = next(w, SKEP__KIND__KIND_SERVICE, m)) != NULL)
        rc = service_converged(w, (const Skep__Service *)m, e);
    while (rc == 0 && (m = next(w, SKEP__KIND__KIND_TASK, m)) != NULL)
        rc = task_converged(w, (const Skep__Task *)m, e);
    if (rc == 0)
        rc = check_containers(w, e);
    if (rc == 0)
        rc = world_networks_converged(w, e);
    return rc == 0 ? check_history(w, e) : rc;
}
