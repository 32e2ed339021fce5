#include "common/timer.h"

#include <stdbool.h>
#include <stdlib.h>

#include "common/assert.h"
#include "common/mem.h"

void timer_heap_deinit(struct timer_heap *h)
{
    for (uint32_t i = 0; i < h->count; i++)
        h->a[i]->heap_index = 0;
    free(h->a);
    *h = (struct timer_heap){ 0 };
}

static bool before(const struct timer *a, const struct timer *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->sequence < b->sequence;
}

static void place(struct timer_heap *h, uint32_t i, struct timer *t)
{
    h->a[i] = t;
    t->heap_index = i + 1;
}

static void sift_up(struct timer_heap *h, uint32_t i, struct timer *t)
{
    while (i > 0 && before(t, h->a[(i - 1) / 2])) {
        place(h, i, h->a[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(h, i, t);
}

static void sift_down(struct timer_heap *h, uint32_t i, struct timer *t)
{
    for (;;) {
        uint32_t child = 2 * i + 1;

        if (child >= h->count)
            break;
        if (child + 1 < h->count && before(h->a[child + 1], h->a[child]))
            child++;
        if (!before(h->a[child], t))
            break;
        place(h, i, h->a[child]);
        i = child;
    }
    place(h, i, t);
}

void timer_set(struct timer_heap *h, struct timer *t, uint64_t at_ms)
{
    timer_cancel(h, t);
    if (h->count == h->capacity) {
        h->capacity = MAX(h->capacity * 2, 16u);
        h->a = xrealloc_array(h->a, h->capacity, sizeof(struct timer *));
    }
    t->at_ms = at_ms;
    t->sequence = ++h->sequence;
    h->count++;
    sift_up(h, h->count - 1, t);
}

void timer_cancel(struct timer_heap *h, struct timer *t)
{
    if (t->heap_index == 0)
        return;
    uint32_t i = t->heap_index - 1;

    ASSERT(i < h->count);
    ASSERT(h->a[i] == t);
    struct timer *last = h->a[--h->count];
    t->heap_index = 0;
    if (last == t)
        return;
    if (i > 0 && before(last, h->a[(i - 1) / 2]))
        sift_up(h, i, last);
    else
        sift_down(h, i, last);
}

struct timer *timer_first(const struct timer_heap *h)
{
    return h->count > 0 ? h->a[0] : NULL;
}

struct timer *timer_pop_due(struct timer_heap *h, uint64_t now_ms)
{
    struct timer *t = timer_first(h);

    if (t == NULL || t->at_ms > now_ms)
        return NULL;
    timer_cancel(h, t);
    return t;
}
