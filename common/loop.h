/* An epoll loop for the one thread that owns a daemon's state (Redis ae.h is the size to aim at).
 * Callbacks run on the thread inside loop_run(). Watches are by fd; timers are by absolute time;
 * the before-sleep hook runs once per iteration after all callbacks, and flushes their effects. */
#ifndef SKEP_COMMON_LOOP_H
#define SKEP_COMMON_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/timer.h"

struct loop;

/* events: EPOLLIN and the like, plus EPOLLERR and EPOLLHUP unasked. The callback may set or remove
 * its own or any other watch; what was removed is not called any more, not even in this iteration.
 */
typedef void loop_fd_fn(void *ctx, int fd, uint32_t events);
typedef void loop_timer_fn(void *ctx, uint64_t now_ms);

enum { LOOP_STALL_WARN_MS = 50 };

/* Returns NULL with e set when the kernel gives no epoll descriptor. */
struct loop *loop_new(struct err *e);
void loop_free(struct loop *l);

/* The time of the current iteration (common/clock.h), read once per wake-up. */
uint64_t loop_now_ms(const struct loop *l);

/* Watches fd until removed; setting again replaces events and callback. fd stays the caller's, who
 * unwatches it before closing it. Regular files cannot be watched (-ERR_PERMISSION). */
int loop_watch_fd(struct loop *l, int fd, uint32_t events, loop_fd_fn *fn, void *ctx) MUST_CHECK;
/* Does nothing when fd is not watched. */
void loop_unwatch_fd(struct loop *l, int fd);

/* One-shot timers, owned by the caller and embedded in its structs; zero-initialise. */
struct loop_timer {
    struct timer entry;
    loop_timer_fn *fn;
    void *ctx;
};
/* (Re)arms t for at_ms (loop time); a time in the past fires in the next iteration, after those
 * that were already due. O(log n). */
void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t at_ms, loop_timer_fn *fn,
                    void *ctx);
/* Does nothing when t is not armed. The owner must cancel before it frees t. */
void loop_timer_cancel(struct loop *l, struct loop_timer *t);
bool loop_timer_armed(const struct loop_timer *t);

/* At most one hook; NULL removes it. It also runs once before the first wait. */
void loop_set_before_sleep(struct loop *l, loop_timer_fn *fn, void *ctx);

/* Runs until loop_stop(). Returns 0 or -ERR_IO. */
int loop_run(struct loop *l, struct err *e) MUST_CHECK;
/* One iteration that waits at most wait_ms; for tests and tools. */
int loop_run_once(struct loop *l, uint32_t wait_ms, struct err *e) MUST_CHECK;
/* Makes loop_run() return after the current iteration; on the loop thread. */
void loop_stop(struct loop *l);
/* Longest iteration so far and how many exceeded LOOP_STALL_WARN_MS. */
void loop_stalls(const struct loop *l, uint64_t *ret_longest_ms, uint64_t *ret_count);

#endif
