/* The restart supervisor: may a task that ended be replaced, and when may the replacement start?
 * swarmkit manager/orchestrator/restart; features.md 3.5. The history that limits are counted
 * against is in the tasks: `restarts` in each, creation times for a window. */
#include "managerd/orchestrator/internal.h"

#define STOP_WAIT_NS ((int64_t)ORCHESTRATOR_STOP_WAIT_MS * 1000000)

static const Skep__RestartPolicy *policy(const struct pass *p)
{
    static const Skep__RestartPolicy fallback = SKEP__RESTART_POLICY__INIT;
    const Skep__TaskSpec *t = p->service->spec->task;

    return t != NULL && t->restart != NULL ? t->restart : &fallback;
}

/* Restarts of this spec version so far; a new version starts anew. */
static uint64_t restarts_of(const Skep__Task *t, uint64_t version)
{
    return t->spec_version == version ? t->restarts : 0;
}

/* Restarts whose time is within the window before the failure. */
static uint64_t restarts_within(const struct pass *p, const struct slot *s, const Skep__Task *t,
                                uint64_t version)
{
    int64_t failed_at = task_dead(t) ? t->status->applied_at : p->env->wall_ns;
    uint64_t count = 0;

    for (size_t i = 0; i < s->task_count; i++) {
        const Skep__Task *r = s->tasks[i];

        count += r->cause == SKEP__TASK_CAUSE__CAUSE_RESTARTED && r->spec_version == version &&
                 r->meta->created_at > failed_at - policy(p)->window;
    }
    return count;
}

static bool allowed(const struct pass *p, const struct slot *s, const Skep__Task *t,
                    uint64_t version)
{
    const Skep__RestartPolicy *r = policy(p);
    bool completed = t->status->state == SKEP__TASK_STATE__TASK_COMPLETE;

    if (r->condition == SKEP__RESTART_CONDITION__RESTART_NONE)
        return false;
    /* "any" means "on-failure" for jobs: what completed is done. */
    if (completed &&
        (r->condition == SKEP__RESTART_CONDITION__RESTART_ON_FAILURE || service_is_job(p->service)))
        return false;
    if (r->max_attempts == 0)
        return true;
    return (r->window == 0 ? restarts_of(t, version) : restarts_within(p, s, t, version)) <
           r->max_attempts;
}

bool restart_allowed(const struct pass *p, const struct slot *s, const Skep__Task *t)
{
    return allowed(p, s, t, p->service->meta->spec_version);
}

bool restart_finished(struct pass *p, const struct slot *s, const Skep__Task *t)
{
    return !restart_allowed(p, s, t) ||
           (service_task_stale(p, t) && !allowed(p, s, t, t->spec_version));
}

/* ---- held-back starts ---- */

/* What t waits for: an older task that was told to stop and may still run. */
static bool still_stopping(const struct pass *p, const Skep__Task *old)
{
    const Skep__Node *node = pass_node(p, old->node_id);

    if (task_wanted(old) || task_dead(old) || task_unassigned(old) || node == NULL)
        return false;
    return node->status == NULL || node->status->state != SKEP__NODE_STATE__NODE_DOWN;
}

/* The newest task before t. */
static const Skep__Task *predecessor(const struct slot *s, const Skep__Task *t)
{
    for (size_t i = s->task_count; i-- > 0;) {
        if (s->tasks[i]->attempt < t->attempt)
            return s->tasks[i];
    }
    return NULL;
}

/* A node that is drained on purpose gives no reason to wait. */
static int64_t start_delay(const struct pass *p, const struct slot *s, const Skep__Task *t)
{
    const Skep__Task *old = predecessor(s, t);
    const Skep__Node *node = old != NULL ? pass_node(p, old->node_id) : NULL;

    if (t->cause != SKEP__TASK_CAUSE__CAUSE_RESTARTED)
        return 0;
    if (node != NULL && node->spec->availability == SKEP__NODE_AVAILABILITY__AVAILABILITY_DRAIN)
        return 0;
    return policy(p)->delay;
}

bool restart_stopping(const struct pass *p, const struct slot *s)
{
    for (size_t i = 0; i < s->task_count; i++) {
        if (still_stopping(p, s->tasks[i]))
            return true;
    }
    return false;
}

bool restart_hold_over(struct pass *p, const struct slot *s, const Skep__Task *t)
{
    bool stopping = false;

    if (t->desired_state > SKEP__TASK_STATE__TASK_READY)
        return true;
    int64_t delay = start_delay(p, s, t);
    if (!pass_elapsed(p, t->meta->created_at, delay))
        return false;
    for (size_t i = 0; i < s->task_count && !stopping; i++)
        stopping = s->tasks[i]->attempt < t->attempt && still_stopping(p, s->tasks[i]);
    return !stopping || pass_elapsed(p, t->meta->created_at, MAX(delay, STOP_WAIT_NS));
}

/* ---- one slot ---- */

/* The wanted task that has to be replaced: it is dead or its node is. The newest counts. */
static const Skep__Task *stop_failed(struct pass *p, struct slot *s)
{
    const Skep__Task *failed = NULL;

    for (size_t i = 0; i < s->task_count; i++) {
        const Skep__Task *t = s->tasks[i];

        if (!task_wanted(t) || t == s->parked || (!task_dead(t) && !task_lost(p, t)))
            continue;
        if (service_is_job(p->service) && t->status->state == SKEP__TASK_STATE__TASK_COMPLETE)
            continue;
        pass_desire(p, t, SKEP__TASK_STATE__TASK_SHUTDOWN);
        s->touched = true;
        failed = t;
    }
    return failed;
}

static void replace(struct pass *p, struct slot *s, const Skep__Task *failed)
{
    const Skep__RestartPolicy *r = policy(p);
    struct task_plan plan = {
        .cause = SKEP__TASK_CAUSE__CAUSE_RESTARTED,
        .desired = SKEP__TASK_STATE__TASK_READY,
        .restarts = restarts_of(failed, p->service->meta->spec_version) + 1,
    };

    if (r->delay == 0 && !still_stopping(p, failed) && task_dead(failed))
        plan.desired = service_goal(p->service);
    service_add_task(p, s, &plan);
}

/* Something newer than t is wanted and alive. */
static bool outlived(const struct pass *p, const struct slot *s, const Skep__Task *t)
{
    for (size_t i = s->task_count; i-- > 0 && s->tasks[i]->attempt > t->attempt;) {
        if (task_wanted(s->tasks[i]) && !task_dead(s->tasks[i]) && !task_lost(p, s->tasks[i]))
            return true;
    }
    return false;
}

void restart_slot(struct pass *p, struct slot *s)
{
    if (s->wanted_count == 0 || s->touched || !pass_room(p))
        return;
    const Skep__Task *failed = stop_failed(p, s);

    /* Beside a living task of the current spec no other is needed; beside a stale one that a
     * start-first update is about to replace, only when the new one failed: not when the stale one
     * is the newer of the two, of an update that was taken back. */
    bool covered = s->clean != NULL || s->parked != NULL ||
                   (s->stale_count > 0 && failed != NULL &&
                    (service_task_stale(p, failed) || outlived(p, s, failed)));
    if (failed != NULL && !covered && restart_allowed(p, s, failed))
        replace(p, s, failed);
    for (size_t i = 0; i < s->task_count; i++) {
        const Skep__Task *t = s->tasks[i];

        if (t->desired_state != SKEP__TASK_STATE__TASK_READY || task_dead(t) || task_lost(p, t) ||
            (s->clean != NULL && t != s->clean))
            continue;
        if (restart_hold_over(p, s, t)) {
            pass_desire(p, t, service_goal(p->service));
            s->touched = true;
        }
    }
}
