/* The task reaper: which tasks need not be remembered any longer. swarmkit
 * manager/orchestrator/taskreaper; features.md 3.8.
 *
 * DEVIATION: failed tasks of jobs are trimmed as well, or a job that fails for ever grows for ever;
 * completed ones stay until the next iteration, because they are counted.
 * DEVIATION: the newest task of a slot without a wanted one stays whatever the limit says, because
 * it is what tells that the slot is done. */
#include "managerd/orchestrator/internal.h"

/* Dead tasks to keep per slot; SIZE_MAX: all. */
static size_t limit_of(const struct pass *p)
{
    const Skep__Cluster *c = store_cluster(p->env->store);
    const Skep__RestartPolicy *r = p->service->spec->task->restart;
    int64_t limit = c != NULL ? c->spec->task_history_limit : ORCHESTRATOR_HISTORY_DEFAULT;

    /* Restarts within a window are counted in the history. */
    if (r != NULL && r->max_attempts > 0)
        return MIN((size_t)r->max_attempts, (size_t)ORCHESTRATOR_ATTEMPTS_KEPT_MAX) + 1;
    return limit < 0 ? SIZE_MAX : (size_t)limit;
}

/* A running update counts the failures of its tasks. */
static bool still_counted(const struct pass *p, const Skep__Task *t)
{
    const Skep__UpdateStatus *u = p->service->update_status;

    return u != NULL &&
           (u->state == SKEP__UPDATE_STATUS__STATE__UPDATING ||
            u->state == SKEP__UPDATE_STATUS__STATE__ROLLBACK_STARTED) &&
           t->spec_version == p->service->meta->spec_version &&
           t->cause == SKEP__TASK_CAUSE__CAUSE_UPDATED;
}

static bool to_be_removed(const Skep__Task *t)
{
    return t->desired_state >= SKEP__TASK_STATE__TASK_REMOVE;
}

static bool node_gone(const struct pass *p, const Skep__Task *t)
{
    return t->node_id[0] != '\0' && pass_node(p, t->node_id) == NULL;
}

static bool completed(const Skep__Task *t)
{
    return t->status->state == SKEP__TASK_STATE__TASK_COMPLETE;
}

static void reap_slot(struct pass *p, const struct slot *s, size_t limit)
{
    bool newest = true, job = service_is_job(p->service);
    size_t kept = 0;

    for (size_t i = s->task_count; i-- > 0 && pass_room(p);) {
        const Skep__Task *t = s->tasks[i];

        if (to_be_removed(t)) {
            if (task_over(t) || node_gone(p, t))
                pass_remove(p, t);
            continue;
        }
        bool tells = newest && s->wanted_count == 0;
        newest = false;
        if (task_wanted(t) || !task_over(t) || (job && completed(t)))
            continue;
        if (kept < limit || tells || still_counted(p, t))
            kept++;
        else
            pass_remove(p, t);
    }
}

void reaper_slots(struct pass *p)
{
    size_t limit = limit_of(p);

    for (size_t i = 0; i < p->slot_count && pass_room(p); i++) {
        if (!p->slots[i].touched)
            reap_slot(p, &p->slots[i], limit);
    }
}

bool reaper_orphans(struct pass *p)
{
    slots_gather(p, false);
    for (size_t i = 0; i < p->slot_count && pass_room(p); i++)
        pass_discard_slot(p, &p->slots[i]);
    return p->slot_count == 0;
}
