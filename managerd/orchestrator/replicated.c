/* Replicated services: as many slots as there are replicas.
 * swarmkit manager/orchestrator/replicated; features.md 3.4. */
#include <stdlib.h>
#include <string.h>

#include "managerd/orchestrator/internal.h"

/* Scaling down: how much a slot is wanted less than others. */
struct rank {
    struct slot *slot;
    bool idle;
    uint64_t nth; /* the nth task of this service on its node; UINT64_MAX: on no single node */
    const char *node_id;
};

static int by_running(const void *a, const void *b)
{
    const struct rank *x = a, *y = b;

    if (x->idle != y->idle)
        return x->idle ? 1 : -1;
    return x->slot->number < y->slot->number ? -1 : x->slot->number > y->slot->number;
}

static int by_node_then_running(const void *a, const void *b)
{
    const struct rank *x = a, *y = b;
    int order = strcmp(x->node_id, y->node_id);

    return order != 0 ? order : by_running(a, b);
}

static int by_nth(const void *a, const void *b)
{
    const struct rank *x = a, *y = b;

    if (x->nth != y->nth)
        return x->nth < y->nth ? -1 : 1;
    return by_running(a, b);
}

/* The node of the slot's only wanted task, "" when there is none such. */
static const char *only_node(const struct slot *s)
{
    const char *node = "";

    if (s->wanted_count != 1)
        return "";
    for (size_t i = 0; i < s->task_count; i++) {
        if (task_wanted(s->tasks[i]))
            node = s->tasks[i]->node_id;
    }
    return node;
}

/* The slots that stay come first: those that leave every node with as few tasks as the others, of
 * these the running ones, of these the lowest numbers. O(n log n). */
static void rank(struct rank *ranks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ranks[i].idle = !ranks[i].slot->running;
        ranks[i].node_id = only_node(ranks[i].slot);
    }
    qsort(ranks, count, sizeof(*ranks), by_node_then_running);
    for (size_t i = 0; i < count; i++) {
        if (ranks[i].node_id[0] == '\0')
            ranks[i].nth = UINT64_MAX;
        else if (i > 0 && strcmp(ranks[i].node_id, ranks[i - 1].node_id) == 0)
            ranks[i].nth = ranks[i - 1].nth + 1;
        else
            ranks[i].nth = 1;
    }
    qsort(ranks, count, sizeof(*ranks), by_nth);
}

static int by_number(const void *a, const void *b)
{
    const struct slot *x = *(struct slot *const *)a, *y = *(struct slot *const *)b;

    return x->number < y->number ? -1 : x->number > y->number;
}

/* Removes the least wanted of the live slots until `replicas` are left. */
static size_t scale_down(struct pass *p, struct slot **live, size_t count, size_t replicas)
{
    struct rank *ranks = arena_array(&p->o->scratch, count, sizeof(*ranks));

    for (size_t i = 0; i < count; i++)
        ranks[i].slot = live[i];
    rank(ranks, count);
    for (size_t i = 0; i < count; i++)
        live[i] = ranks[i].slot;
    for (size_t i = replicas; i < count && pass_room(p); i++)
        pass_discard_slot(p, live[i]);
    if (replicas > 1)
        qsort(live, replicas, sizeof(struct slot *), by_number);
    return replicas;
}

/* Adds tasks in the lowest numbers that no live slot has. */
static void scale_up(struct pass *p, size_t missing)
{
    struct task_plan plan = { .cause = SKEP__TASK_CAUSE__CAUSE_CREATED,
                              .desired = SKEP__TASK_STATE__TASK_RUNNING };
    size_t at = 0;

    for (uint64_t number = 1; missing > 0; number++) {
        struct slot fresh = { .number = number };

        while (at < p->slot_count && p->slots[at].number < number)
            at++;
        bool known = at < p->slot_count && p->slots[at].number == number;
        if (known && (slot_live(&p->slots[at]) || p->slots[at].touched))
            continue;
        if (!pass_room(p))
            return;
        service_add_task(p, known ? &p->slots[at] : &fresh, &plan);
        missing--;
    }
}

/* Slots that hold only what nobody wants any more, and that were not taken again. */
static void discard_dead(struct pass *p)
{
    for (size_t i = 0; i < p->slot_count && pass_room(p); i++) {
        if (!slot_live(&p->slots[i]) && !p->slots[i].touched)
            pass_discard_slot(p, &p->slots[i]);
    }
}

void replicated_pass(struct pass *p)
{
    size_t replicas = p->service->spec->replicated->replicas, count = 0;

    slots_gather(p, false);
    struct slot **live = arena_array(&p->o->scratch, p->slot_count + 1, sizeof(struct slot *));
    for (size_t i = 0; i < p->slot_count; i++) {
        slot_judge(p, &p->slots[i]);
        if (slot_live(&p->slots[i]))
            live[count++] = &p->slots[i];
    }
    size_t missing = replicas > count ? replicas - count : 0;
    if (count > replicas)
        count = scale_down(p, live, count, replicas);
    if (update_judge(p, live, count))
        return;
    update_slots(p, live, count);
    for (size_t i = 0; i < count && pass_room(p); i++)
        restart_slot(p, live[i]);
    scale_up(p, missing);
    discard_dead(p);
    reaper_slots(p);
}
