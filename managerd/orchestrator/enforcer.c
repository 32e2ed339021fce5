/* The constraint enforcer, and the end of a node: what a changed node means for its tasks.
 * swarmkit manager/orchestrator/constraintenforcer; features.md 3.7.
 *
 * DEVIATION: a task is held against the constraints of its own spec, not of the service's newest,
 * which the rolling update looks after; and every offender is found, not only the first (B6). */
#include <string.h>

#include "managerd/orchestrator/internal.h"
#include "managerd/store/constraint.h"

static void report(const struct core_env *env, struct store_tx *tx, const Skep__Task *t,
                   Skep__TaskStatus *status)
{
    Skep__TaskDelta d = SKEP__TASK_DELTA__INIT;

    status->timestamp = env->wall_ns;
    status->applied_at = env->wall_ns;
    status->container = t->status->container;
    d.task_id = t->id;
    d.status = status;
    store_tx_task(tx, &d);
}

static bool room(const struct store_tx *tx)
{
    return !store_tx_full(tx) &&
           store_tx_action_count(tx) + SLOT_ACTIONS_MAX <= STORE_TX_ACTIONS_MAX;
}

/* ---- a node that is gone ---- */

static bool orphan_all(const struct core_env *env, struct store_tx *tx, const char *node_id)
{
    struct store_iter it;

    for (const Skep__Task *t = store_node_tasks(env->store, node_id, &it); t != NULL;
         t = store_iter_next(&it)) {
        Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;

        if (task_dead(t))
            continue; /* how it ended stays known: completed jobs are counted */
        if (!room(tx))
            return false;
        status.state = SKEP__TASK_STATE__TASK_ORPHANED;
        status.message = (char *)"Task belonged to a node that has been deleted";
        report(env, tx, t, &status);
    }
    return true;
}

/* ---- a node that changed ---- */

/* What is left of a node's resources. */
struct left {
    bool known;
    int64_t nano_cpus, memory_bytes;
    size_t generic_count;
    const Skep__NamedCount **generic; /* as described */
    int64_t *generic_left;
};

static int64_t *generic_left(const struct left *l, const char *kind)
{
    for (size_t i = 0; i < l->generic_count; i++) {
        if (strcmp(l->generic[i]->kind, kind) == 0)
            return &l->generic_left[i];
    }
    return NULL;
}

static bool fits(const struct left *l, const Skep__Resources *r)
{
    if (!l->known || r == NULL)
        return true;
    if (r->nano_cpus > l->nano_cpus || r->memory_bytes > l->memory_bytes)
        return false;
    for (size_t i = 0; i < r->n_generic; i++) {
        const int64_t *left = generic_left(l, r->generic[i]->kind);

        if (left == NULL || *left < r->generic[i]->value)
            return false;
    }
    return true;
}

static void take(struct left *l, const Skep__Resources *r)
{
    if (!l->known || r == NULL)
        return;
    l->nano_cpus -= r->nano_cpus;
    l->memory_bytes -= r->memory_bytes;
    for (size_t i = 0; i < r->n_generic; i++)
        *generic_left(l, r->generic[i]->kind) -= r->generic[i]->value;
}

static const Skep__Resources *reserved(const Skep__TaskSpec *t)
{
    return t->resources != NULL ? t->resources->reservations : NULL;
}

/* Assigned, wanted and not finished. */
static bool concerns(const Skep__Task *t)
{
    return t->status->state >= SKEP__TASK_STATE__TASK_ASSIGNED && !task_dead(t) && task_wanted(t);
}

/* Running tasks are looked at first, so that the others make way. */
static bool reject_misfits(const struct core_env *env, struct store_tx *tx, const Skep__Node *node,
                           struct left *left, bool running)
{
    struct store_iter it;

    for (const Skep__Task *t = store_node_tasks(env->store, node->id, &it); t != NULL;
         t = store_iter_next(&it)) {
        const Skep__Revision *r = store_task_revision(env->store, t);
        Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;

        if (!concerns(t) || r == NULL || r->spec->task == NULL ||
            running != (t->status->state == SKEP__TASK_STATE__TASK_RUNNING))
            continue;
        if (node_constraints_match(r->spec->task->placement, node) &&
            fits(left, reserved(r->spec->task))) {
            take(left, reserved(r->spec->task));
            continue;
        }
        if (!room(tx))
            return false;
        status.state = SKEP__TASK_STATE__TASK_REJECTED;
        status.message = (char *)"task rejected by constraint enforcer";
        status.error = (char *)"assigned node no longer meets constraints";
        report(env, tx, t, &status);
    }
    return true;
}

static void left_init(struct left *l, const Skep__Node *node, struct arena *a)
{
    const Skep__Resources *r = node->description != NULL ? node->description->resources : NULL;

    if (r == NULL)
        return;
    l->known = true;
    l->nano_cpus = r->nano_cpus;
    l->memory_bytes = r->memory_bytes;
    l->generic_count = r->n_generic;
    l->generic = (const Skep__NamedCount **)r->generic;
    l->generic_left = arena_array(a, r->n_generic + 1, sizeof(*l->generic_left));
    for (size_t i = 0; i < r->n_generic; i++)
        l->generic_left[i] = r->generic[i]->value;
}

bool enforcer_node(const struct core_env *env, struct store_tx *tx, const char *node_id)
{
    const Skep__Node *node = store_node(env->store, node_id);
    CLEANUP_ARENA struct arena a = { 0 };
    struct left left = { .known = false };

    if (node == NULL)
        return orphan_all(env, tx, node_id);
    if (node->spec->availability != SKEP__NODE_AVAILABILITY__AVAILABILITY_ACTIVE)
        return true;
    left_init(&left, node, &a);
    return reject_misfits(env, tx, node, &left, true) &&
           reject_misfits(env, tx, node, &left, false);
}
