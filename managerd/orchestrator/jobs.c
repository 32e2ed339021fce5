/* Jobs: tasks that are to complete, once per iteration. Every change of the service begins a new
 * iteration; tasks of older ones are removed. swarmkit manager/orchestrator/jobs; features.md 3.4.
 *
 * DEVIATION: a slot whose attempts are used up is not made good for by another slot, so a job never
 * runs more often than completions plus allowed failures; the limit also holds for global jobs
 * (B3).
 */
#include <string.h>

#include "managerd/orchestrator/internal.h"

static const struct task_plan first_try = { .cause = SKEP__TASK_CAUSE__CAUSE_CREATED,
                                            .desired = SKEP__TASK_STATE__TASK_COMPLETE };

/* Removes what older iterations left in s and hides it. */
static void drop_old(struct pass *p, struct slot *s)
{
    size_t kept = 0;

    for (size_t i = 0; i < s->task_count; i++) {
        const Skep__Task *t = s->tasks[i];

        if (t->job_iteration == p->service->job_iteration &&
            t->desired_state < SKEP__TASK_STATE__TASK_REMOVE)
            s->tasks[kept++] = t;
        else if (pass_room(p))
            pass_discard(p, t);
    }
    s->task_count = kept;
}

static bool slot_completed(const struct slot *s)
{
    for (size_t i = 0; i < s->task_count; i++) {
        if (s->tasks[i]->status->state == SKEP__TASK_STATE__TASK_COMPLETE)
            return true;
    }
    return false;
}

/* Completed once is enough, also when another task was already on its way: the node of the first
 * was thought to be lost. */
static void stop_others(struct pass *p, struct slot *s)
{
    for (size_t i = 0; i < s->task_count && pass_room(p); i++) {
        if (task_wanted(s->tasks[i]) && !task_dead(s->tasks[i]))
            pass_desire(p, s->tasks[i], SKEP__TASK_STATE__TASK_SHUTDOWN);
    }
}

/* Something in it runs or will. */
static bool slot_active(const struct slot *s)
{
    return s->clean != NULL || s->parked != NULL || s->stale_count > 0;
}

/* ---- replicated jobs ---- */

/* Restarts what failed; returns how many slots are at work after that. */
static size_t tend_slots(struct pass *p)
{
    size_t active = 0;

    for (size_t i = 0; i < p->slot_count; i++) {
        struct slot *s = &p->slots[i];

        drop_old(p, s);
        slot_judge(p, s);
        if (slot_completed(s)) {
            stop_others(p, s);
            continue;
        }
        restart_slot(p, s);
        active += slot_active(s) || s->touched;
    }
    return active;
}

void replicated_job_pass(struct pass *p)
{
    const Skep__ReplicatedJobMode *job = p->service->spec->replicated_job;
    size_t at = 0;

    slots_gather(p, false);
    size_t active = tend_slots(p);
    for (uint64_t number = 0; number < job->total_completions && active < job->max_concurrent;
         number++) {
        struct slot fresh = { .number = number };

        while (at < p->slot_count && p->slots[at].number < number)
            at++;
        bool known = at < p->slot_count && p->slots[at].number == number;
        if (known && p->slots[at].task_count > 0)
            continue; /* at work, completed, or given up */
        if (!pass_room(p))
            return;
        service_add_task(p, &fresh, &first_try);
        active++;
    }
    reaper_slots(p);
}

/* ---- global jobs ---- */

static bool node_ready(const struct pass *p, const Skep__Node *node)
{
    return node->status != NULL && node->status->state == SKEP__NODE_STATE__NODE_READY &&
           node->spec->availability == SKEP__NODE_AVAILABILITY__AVAILABILITY_ACTIVE &&
           service_fits_node(p->service->spec, node);
}

/* What was interrupted does not count: the node gets a new task when it is back. */
static void give_up(struct pass *p, struct slot *s)
{
    s->touched = true;
    for (size_t i = 0; i < s->task_count && pass_room(p); i++) {
        if (s->tasks[i]->status->state != SKEP__TASK_STATE__TASK_COMPLETE)
            pass_discard(p, s->tasks[i]);
    }
}

static void tend_node(struct pass *p, struct slot *s, const Skep__Node *node)
{
    if (slot_completed(s))
        stop_others(p, s);
    else if (!node_usable(node) || !service_fits_node(p->service->spec, node))
        give_up(p, s);
    else if (s->task_count > 0)
        restart_slot(p, s);
    else if (node_ready(p, node) && pass_room(p))
        service_add_task(p, s, &first_try);
}

void global_job_pass(struct pass *p)
{
    const struct store *store = p->env->store;
    const ProtobufCMessage *o = store_first(store, SKEP__KIND__KIND_NODE);
    size_t at = 0;

    slots_gather(p, true);
    for (size_t i = 0; i < p->slot_count; i++) {
        drop_old(p, &p->slots[i]);
        slot_judge(p, &p->slots[i]);
    }
    while ((o != NULL || at < p->slot_count) && pass_room(p)) {
        struct slot *s = at < p->slot_count ? &p->slots[at] : NULL;
        int order = o == NULL ? -1 : s == NULL ? 1 : strcmp(s->node_id, object_id(o));
        struct slot fresh = { .node_id = o != NULL ? object_id(o) : NULL };

        if (order <= 0)
            at++;
        if (order < 0) {
            pass_discard_slot(p, s);
            continue;
        }
        tend_node(p, order > 0 ? &fresh : s, (const Skep__Node *)o);
        o = store_after(store, SKEP__KIND__KIND_NODE, object_id(o));
    }
    reaper_slots(p);
}
