/* From tasks to slots. */
#include <stdlib.h>
#include <string.h>

#include "managerd/orchestrator/internal.h"

/* A host whose agent has never spoken runs nothing: a dedicated manager, or a node just enrolled.
 */
static bool agent_never_seen(const Skep__Node *node)
{
    return node->status != NULL && node->status->state == SKEP__NODE_STATE__NODE_UNKNOWN &&
           (node->description == NULL || node->description->resources == NULL);
}

bool node_usable(const Skep__Node *node)
{
    return node != NULL && !agent_never_seen(node) &&
           (node->status == NULL || node->status->state != SKEP__NODE_STATE__NODE_DOWN) &&
           node->spec->availability != SKEP__NODE_AVAILABILITY__AVAILABILITY_DRAIN;
}

bool task_lost(const struct pass *p, const Skep__Task *t)
{
    return t->node_id[0] != '\0' && !node_usable(pass_node(p, t->node_id));
}

/* ---- gathering ---- */

static int compare_attempts(const Skep__Task *a, const Skep__Task *b)
{
    if (a->attempt != b->attempt)
        return a->attempt < b->attempt ? -1 : 1;
    return strcmp(a->id, b->id);
}

/* The store gives them by slot and id; a slot holds few. */
static void sort_slot(struct slot *s)
{
    for (size_t i = 1; i < s->task_count; i++) {
        const Skep__Task *t = s->tasks[i];
        size_t at = i;

        for (; at > 0 && compare_attempts(s->tasks[at - 1], t) > 0; at--)
            s->tasks[at] = s->tasks[at - 1];
        s->tasks[at] = t;
    }
}

static int by_node(const void *a, const void *b)
{
    const Skep__Task *x = *(const Skep__Task *const *)a, *y = *(const Skep__Task *const *)b;
    int order = strcmp(x->node_id, y->node_id);

    return order != 0 ? order : compare_attempts(x, y);
}

static bool same_slot(const Skep__Task *a, const Skep__Task *b, bool nodes)
{
    return nodes ? strcmp(a->node_id, b->node_id) == 0 : a->slot == b->slot;
}

void slots_gather(struct pass *p, bool nodes)
{
    struct store_iter it;
    size_t count = store_service_task_count(p->env->store, p->service_id), filled = 0;
    const Skep__Task **tasks = arena_array(&p->o->scratch, count + 1, sizeof(*tasks));

    for (const Skep__Task *t = store_service_tasks(p->env->store, p->service_id, &it);
         t != NULL && filled < count; t = store_iter_next(&it))
        tasks[filled++] = t;
    if (nodes && filled > 1)
        qsort(tasks, filled, sizeof(*tasks), by_node);
    p->slots = arena_array(&p->o->scratch, filled + 1, sizeof(*p->slots));
    p->slot_count = 0;
    for (size_t i = 0; i < filled; i++) {
        if (i == 0 || !same_slot(tasks[i - 1], tasks[i], nodes)) {
            p->slots[p->slot_count++] = (struct slot){
                .number = tasks[i]->slot,
                .node_id = nodes ? tasks[i]->node_id : NULL,
                .tasks = &tasks[i],
            };
        }
        p->slots[p->slot_count - 1].task_count++;
    }
    for (size_t i = 0; i < p->slot_count && !nodes; i++)
        sort_slot(&p->slots[i]);
}

/* ---- judging ---- */

const Skep__Task *slot_newest(const struct slot *s)
{
    return s->task_count > 0 ? s->tasks[s->task_count - 1] : NULL;
}

bool slot_live(const struct slot *s)
{
    return s->wanted_count > 0 || s->finished;
}

/* Of two clean ones the further one stays; the newer one if they are equal. */
static bool better(const Skep__Task *a, const Skep__Task *b)
{
    return b == NULL || a->status->state >= b->status->state;
}

/* A global slot whose task was stopped or given up with its node starts again when the node is
 * back. DEVIATION: SwarmKit's restart condition "none" then leaves the node without a task. */
static bool slot_finished(struct pass *p, const struct slot *s)
{
    const Skep__Task *t = NULL;

    for (size_t i = s->task_count; t == NULL && i-- > 0;) {
        if (s->tasks[i]->desired_state < SKEP__TASK_STATE__TASK_REMOVE)
            t = s->tasks[i];
    }
    if (t == NULL || !restart_finished(p, s, t))
        return false;
    return s->node_id == NULL || t->status->state == SKEP__TASK_STATE__TASK_COMPLETE ||
           t->status->state == SKEP__TASK_STATE__TASK_FAILED ||
           t->status->state == SKEP__TASK_STATE__TASK_REJECTED;
}

void slot_judge(struct pass *p, struct slot *s)
{
    for (size_t i = 0; i < s->task_count; i++) {
        const Skep__Task *t = s->tasks[i];

        if (!task_wanted(t))
            continue;
        s->wanted_count++;
        if (task_dead(t)) {
            if (!restart_hold_over(p, s, t))
                s->parked = t;
        } else if (task_lost(p, t)) {
            continue;
        } else if (service_task_stale(p, t)) {
            s->stale_count++;
        } else if (better(t, s->clean)) {
            s->clean = t;
        }
        s->running |= t->status->state == SKEP__TASK_STATE__TASK_RUNNING;
    }
    s->finished = s->wanted_count == 0 && slot_finished(p, s);
}
