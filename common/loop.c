#include "common/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/clock.h"

enum { EVENTS_PER_WAIT_MAX = 128, WAIT_MS_MAX = 60 * 1000, WATCH_FD_MAX = 1 << 20 };

struct watch {
    loop_fd_fn *fn; /* NULL = not watched */
    void *ctx;
    uint32_t generation; /* tells an event of this watch from one of a former watch of the fd */
};

struct loop {
    int epoll_fd;
    bool stopping;
    uint64_t now_ms;
    struct watch *watches; /* indexed by fd */
    uint32_t watch_capacity;
    uint32_t generation;
    struct timer_heap timers;
    loop_timer_fn *before_sleep;
    void *before_sleep_ctx;
    uint64_t stall_longest_ms, stall_count;
};

struct loop *loop_new(struct err *e)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);

    if (fd < 0) {
        (void)err_errno(e, errno, "epoll_create1");
        return NULL;
    }
    struct loop *l = xcalloc(1, sizeof(*l));
    l->epoll_fd = fd;
    l->now_ms = clock_now_ms();
    return l;
}

void loop_free(struct loop *l)
{
    if (l == NULL)
        return;
    timer_heap_deinit(&l->timers);
    (void)close(l->epoll_fd); /* nothing was written */
    free(l->watches);
    free(l);
}

uint64_t loop_now_ms(const struct loop *l)
{
    return l->now_ms;
}

static void grow_watches(struct loop *l, uint32_t count)
{
    uint32_t capacity = MAX(l->watch_capacity * 2, MAX(count, 64u));

    l->watches = xrealloc_array(l->watches, capacity, sizeof(*l->watches));
    for (uint32_t i = l->watch_capacity; i < capacity; i++)
        l->watches[i] = (struct watch){ 0 };
    l->watch_capacity = capacity;
}

int loop_watch_fd(struct loop *l, int fd, uint32_t events, loop_fd_fn *fn, void *ctx)
{
    ASSERT(fd >= 0);
    ASSERT(fn != NULL);
    if (fd >= WATCH_FD_MAX)
        return -ERR_TOO_BIG;
    if ((uint32_t)fd >= l->watch_capacity)
        grow_watches(l, (uint32_t)fd + 1);
    struct watch *w = &l->watches[fd];
    uint32_t generation = w->fn != NULL ? w->generation : ++l->generation;
    struct epoll_event ev = { .events = events,
                              .data.u64 = (uint64_t)generation << 32 | (uint32_t)fd };

    if (epoll_ctl(l->epoll_fd, w->fn != NULL ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev) < 0)
        return err_from_errno(errno);
    *w = (struct watch){ .fn = fn, .ctx = ctx, .generation = generation };
    return 0;
}

void loop_unwatch_fd(struct loop *l, int fd)
{
    if (fd < 0 || (uint32_t)fd >= l->watch_capacity || l->watches[fd].fn == NULL)
        return;
    l->watches[fd].fn = NULL;
    (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, fd, NULL); /* fails only if fd is gone already */
}

void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t at_ms, loop_timer_fn *fn,
                    void *ctx)
{
    ASSERT(fn != NULL);
    t->fn = fn;
    t->ctx = ctx;
    /* Never before now: a timer that re-arms itself for the past must not starve the others. */
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

void loop_set_before_sleep(struct loop *l, loop_timer_fn *fn, void *ctx)
{
    l->before_sleep = fn;
    l->before_sleep_ctx = ctx;
}

static void run_timers(struct loop *l)
{
    uint64_t armed_until_now = l->timers.sequence;

    for (;;) {
        const struct timer *first = timer_first(&l->timers);

        if (first == NULL || first->at_ms > l->now_ms || first->sequence > armed_until_now)
            return;
        struct timer *entry = timer_pop_due(&l->timers, l->now_ms);
        struct loop_timer *t = CONTAINER_OF(entry, struct loop_timer, entry);
        t->fn(t->ctx, l->now_ms);
    }
}

static void run_fds(struct loop *l, const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++) {
        uint32_t fd = (uint32_t)events[i].data.u64;
        uint32_t generation = (uint32_t)(events[i].data.u64 >> 32);
        struct watch w = l->watches[fd];

        if (w.fn != NULL && w.generation == generation)
            w.fn(w.ctx, (int)fd, events[i].events);
    }
}

static int wait_ms_of(const struct loop *l, uint32_t wait_ms_max)
{
    const struct timer *first = timer_first(&l->timers);
    uint64_t wait_ms = MIN(wait_ms_max, (uint32_t)WAIT_MS_MAX);

    if (first != NULL) {
        uint64_t now_ms = clock_now_ms();

        wait_ms = MIN(wait_ms, first->at_ms > now_ms ? first->at_ms - now_ms : 0);
    }
    return (int)wait_ms;
}

static void flush(struct loop *l)
{
    if (l->before_sleep != NULL)
        l->before_sleep(l->before_sleep_ctx, l->now_ms);
}

int loop_run_once(struct loop *l, uint32_t wait_ms, struct err *e)
{
    struct epoll_event events[EVENTS_PER_WAIT_MAX];
    int count = epoll_wait(l->epoll_fd, events, EVENTS_PER_WAIT_MAX, wait_ms_of(l, wait_ms));

    if (count < 0 && errno != EINTR)
        return err_errno(e, errno, "epoll_wait");
    l->now_ms = clock_now_ms();
    run_fds(l, events, count);
    run_timers(l);
    flush(l);

    uint64_t took_ms = clock_now_ms() - l->now_ms;
    l->stall_longest_ms = MAX(l->stall_longest_ms, took_ms);
    if (took_ms > LOOP_STALL_WARN_MS)
        l->stall_count++;
    return 0;
}

int loop_run(struct loop *l, struct err *e)
{
    int rc = 0;

    l->stopping = false;
    l->now_ms = clock_now_ms();
    flush(l);
    while (rc == 0 && !l->stopping)
        rc = loop_run_once(l, WAIT_MS_MAX, e);
    return rc;
}

void loop_stop(struct loop *l)
{
    l->stopping = true;
}

void loop_stalls(const struct loop *l, uint64_t *ret_longest_ms, uint64_t *ret_count)
{
    *ret_longest_ms = l->stall_longest_ms;
    *ret_count = l->stall_count;
}
