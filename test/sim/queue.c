#include "common/assert.h"
#include "test/sim/sim.h"

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us < b->at_us || (a->at_us == b->at_us && a->order < b->order);
}

void sim_queue_push(struct sim_queue *q, const struct sim_event *e)
{
    size_t at = q->count++;
    struct sim_event moving = *e;

    if (q->count > q->capacity) {
        q->capacity = MAX((size_t)256, q->capacity * 2);
        q->events = xrealloc_array(q->events, q->capacity, sizeof(*q->events));
    }
    moving.order = q->order++;
    while (at > 0 && before(&moving, &q->events[(at - 1) / 2])) {
        q->events[at] = q->events[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    q->events[at] = moving;
}

bool sim_queue_pop(struct sim_queue *q, struct sim_event *ret_e)
{
    struct sim_event moving;
    size_t at = 0;

    if (q->count == 0)
        return false;
    *ret_e = q->events[0];
    moving = q->events[--q->count];
    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= q->count)
            break;
        if (child + 1 < q->count && before(&q->events[child + 1], &q->events[child]))
            child++;
        if (!before(&q->events[child], &moving))
            break;
        q->events[at] = q->events[child];
        at = child;
    }
    if (q->count > 0)
        q->events[at] = moving;
    return true;
}
