/* Global services: a task on every node that can take one.
 * swarmkit manager/orchestrator/global; features.md 3.4.
 * DEVIATION: a node that becomes eligible with an outdated task goes through the rolling update as
 * any other, so the change is paced and shows in the update status. */
#include <string.h>

#include "managerd/orchestrator/internal.h"

/* What the service wants on a node. */
enum claim {
    CLAIM_NONE, /* no task */
    CLAIM_KEEP, /* what is there stays, nothing new (PAUSE) */
    CLAIM_RUN,
};

static enum claim claim_of(const struct pass *p, const Skep__Node *node)
{
    if (!node_usable(node) || !service_fits_node(p->service->spec, node))
        return CLAIM_NONE;
    return node->spec->availability == SKEP__NODE_AVAILABILITY__AVAILABILITY_ACTIVE ? CLAIM_RUN
                                                                                    : CLAIM_KEEP;
}

static void stop_slot(struct pass *p, const struct slot *s)
{
    for (size_t i = 0; i < s->task_count && pass_room(p); i++) {
        if (task_wanted(s->tasks[i]))
            pass_desire(p, s->tasks[i], SKEP__TASK_STATE__TASK_SHUTDOWN);
    }
}

static void add_task(struct pass *p, struct slot *s)
{
    struct task_plan plan = { .cause = SKEP__TASK_CAUSE__CAUSE_CREATED,
                              .desired = SKEP__TASK_STATE__TASK_RUNNING };

    if (restart_stopping(p, s))
        plan.desired = SKEP__TASK_STATE__TASK_READY; /* until the node's former task is gone */
    if (pass_room(p))
        service_add_task(p, s, &plan);
}

/* Walks nodes and slots together, both in the order of node ids. */
static void walk(struct pass *p)
{
    const struct store *s = p->env->store;
    const ProtobufCMessage *o = store_first(s, SKEP__KIND__KIND_NODE);
    size_t at = 0;

    while ((o != NULL || at < p->slot_count) && pass_room(p)) {
        struct slot *slot = at < p->slot_count ? &p->slots[at] : NULL;
        int order = o == NULL ? -1 : slot == NULL ? 1 : strcmp(slot->node_id, object_id(o));
        if (order < 0) { /* the node is gone, and its tasks with it */
            pass_discard_slot(p, slot);
            at++;
            continue;
        }
        struct slot fresh = { .node_id = object_id(o) };
        enum claim claim = claim_of(p, (const Skep__Node *)o);
        if (order > 0)
            slot = &fresh;
        else
            at++;
        if (claim == CLAIM_NONE)
            stop_slot(p, slot);
        else if (slot_live(slot))
            restart_slot(p, slot);
        else if (claim == CLAIM_RUN)
            add_task(p, slot);
        o = store_after(s, SKEP__KIND__KIND_NODE, object_id(o));
    }
}

/* The slots that a rolling update may touch. */
static size_t collect(struct pass *p, struct slot **update)
{
    size_t count = 0;

    for (size_t i = 0; i < p->slot_count; i++) {
        const Skep__Node *node = pass_node(p, p->slots[i].node_id);

        if (node != NULL && claim_of(p, node) == CLAIM_RUN && slot_live(&p->slots[i]))
            update[count++] = &p->slots[i];
    }
    return count;
}

void global_pass(struct pass *p)
{
    slots_gather(p, true);
    struct slot **update = arena_array(&p->o->scratch, p->slot_count + 1, sizeof(struct slot *));
    for (size_t i = 0; i < p->slot_count; i++)
        slot_judge(p, &p->slots[i]);
    size_t count = collect(p, update);
    if (update_judge(p, update, count))
        return;
    update_slots(p, update, count);
    walk(p);
    reaper_slots(p);
}
