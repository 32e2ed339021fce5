/* A binary min-heap of one-shot timers ordered by time, and by arming order at equal times, so that
 * a run reproduces. Pure: the caller says what time it is. Entries live in their owners' structs;
 * the heap holds pointers only, and each entry knows its place so that it can be cancelled.
 *
 * Invariant: a[(i-1)/2] is due no later than a[i], and a[i]->heap_index == i + 1. */
#ifndef SKEP_COMMON_TIMER_H
#define SKEP_COMMON_TIMER_H

#include <stdint.h>

/* Zero-initialise; embed in the struct that the timer is for. */
struct timer {
    uint64_t at_ms;
    uint64_t sequence;   /* arming order */
    uint32_t heap_index; /* 1-based; 0 = not armed */
};

struct timer_heap {
    struct timer **a;
    uint32_t count, capacity;
    uint64_t sequence;
};

/* A zeroed heap is an empty one. */
void timer_heap_deinit(struct timer_heap *h);
/* Arms or re-arms t. O(log n). */
void timer_set(struct timer_heap *h, struct timer *t, uint64_t at_ms);
/* Does nothing when t is not armed. O(log n). */
void timer_cancel(struct timer_heap *h, struct timer *t);
/* The earliest timer, still armed; NULL when there is none. */
struct timer *timer_first(const struct timer_heap *h);
/* Takes the earliest timer out when it is due at now_ms, else NULL. */
struct timer *timer_pop_due(struct timer_heap *h, uint64_t now_ms);

#endif
