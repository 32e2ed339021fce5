/* One look at one service: room in the transaction, stored times, and the changes of a task. */
#include <string.h>

#include "common/hash.h"
#include "managerd/orchestrator/internal.h"

#define NS_PER_MS INT64_C(1000000)

bool pass_room(struct pass *p)
{
    if (store_tx_full(p->tx) ||
        store_tx_action_count(p->tx) + SLOT_ACTIONS_MAX > STORE_TX_ACTIONS_MAX)
        p->full = true;
    return !p->full;
}

/* A time from before or after this leadership counts from the wall clock, once: one in the future
 * (another leader's clock was ahead) counts as now. */
static int64_t local_ms(const struct pass *p, int64_t wall_ns)
{
    struct stamp *s = &p->o->stamps[hash_u64((uint64_t)wall_ns, 0) % STAMP_CACHE_SIZE];
    int64_t age_ms = (p->env->wall_ns - wall_ns) / NS_PER_MS;

    if (s->wall_ns != wall_ns) {
        s->wall_ns = wall_ns;
        s->local_ms = (int64_t)p->env->now_ms - MAX(age_ms, 0);
    }
    return s->local_ms;
}

bool pass_elapsed(struct pass *p, int64_t since_ns, int64_t wait_ns)
{
    int64_t wait_ms = wait_ns / NS_PER_MS + (wait_ns % NS_PER_MS > 0);
    int64_t due_ms = local_ms(p, since_ns) + wait_ms;

    if ((int64_t)p->env->now_ms >= due_ms)
        return true;
    p->wake_ms = MIN(p->wake_ms, (uint64_t)due_ms);
    return false;
}

const Skep__Node *pass_node(const struct pass *p, const char *node_id)
{
    size_t size = strnlen(node_id, ID_CHARS);
    uint64_t tail = 0;

    memcpy(&tail, node_id + (size > sizeof(tail) ? size - sizeof(tail) : 0),
           MIN(size, sizeof(tail)));
    struct node_seen *s =
        &p->o->seen[(tail * UINT64_C(0x9e3779b97f4a7c15) >> 32) % NODE_CACHE_SIZE];
    if (s->pass == p->o->pass_count && strcmp(s->id, node_id) == 0)
        return s->node;
    s->pass = p->o->pass_count;
    memcpy(s->id, node_id, size);
    s->id[size] = '\0';
    s->node = store_node(p->env->store, node_id);
    return s->node;
}

void pass_desire(struct pass *p, const Skep__Task *t, Skep__TaskState desired)
{
    Skep__TaskDelta d = SKEP__TASK_DELTA__INIT;

    if (t->desired_state >= desired)
        return;
    d.task_id = t->id;
    d.desired_state = desired;
    store_tx_task(p->tx, &d);
    p->changed = true;
}

void pass_remove(struct pass *p, const Skep__Task *t)
{
    store_tx_remove(p->tx, SKEP__KIND__KIND_TASK, t->id, 0);
    p->changed = true;
}

void pass_discard(struct pass *p, const Skep__Task *t)
{
    /* A task that waits for a node may just be given one: REMOVE first, so that the scheduler and
     * the agent see it, then deletion. */
    if (task_dead(t) ||
        (task_unassigned(t) && t->desired_state >= SKEP__TASK_STATE__TASK_SHUTDOWN) ||
        (t->node_id[0] != '\0' && pass_node(p, t->node_id) == NULL))
        pass_remove(p, t);
    else
        pass_desire(p, t, SKEP__TASK_STATE__TASK_REMOVE);
}

void pass_discard_slot(struct pass *p, struct slot *s)
{
    s->touched = true;
    for (size_t i = 0; i < s->task_count && pass_room(p); i++)
        pass_discard(p, s->tasks[i]);
}
