/* A loop that has no descriptors and is told what time it is. */
#include "common/loop.h"

#include <stdlib.h>

#include "common/assert.h"
#include "test/sim/link/link.h"

enum { ROUNDS_MAX = 100000 };

struct loop {
    uint64_t now_ms;
    struct timer_heap timers;
};

struct loop *loop_new(struct err *e)
{
    (void)e;
    return xcalloc(1, sizeof(struct loop));
}

void loop_free(struct loop *l)
{
    if (l == NULL)
        return;
    timer_heap_deinit(&l->timers);
    free(l);
}

uint64_t loop_now_ms(const struct loop *l)
{
    return l->now_ms;
}

void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t at_ms, loop_timer_fn *fn,
                    void *ctx)
{
    t->fn = fn;
    t->ctx = ctx;
    timer_set(&l->timers, &t->entry, MAX(at_ms, l->now_ms));
}

void loop_timer_cancel(struct loop *l, struct loop_timer *t)
{
    timer_cancel(&l->timers, &t->entry);
}

bool loop_timer_armed(const struct loop_timer *t)
{
    return t->entry.heap_index != 0;
}

void link_loop_set_now(struct loop *l, uint64_t now_ms)
{
    l->now_ms = now_ms;
}

bool link_loop_advance(struct loop *l, uint64_t now_ms)
{
    struct timer *entry;

    l->now_ms = now_ms;
    for (int rounds = 0; (entry = timer_pop_due(&l->timers, now_ms)) != NULL; rounds++) {
        struct loop_timer *t = CONTAINER_OF(entry, struct loop_timer, entry);

        if (rounds == ROUNDS_MAX)
            return false;
        t->fn(t->ctx, now_ms);
    }
    return true;
}

uint64_t link_loop_next_ms(const struct loop *l)
{
    const struct timer *first = timer_first(&l->timers);

    return first != NULL ? first->at_ms : UINT64_MAX;
}
