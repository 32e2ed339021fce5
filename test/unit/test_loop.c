#include "common/loop.h"

#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/clock.h"

static struct loop *l;
static struct err e;

static void setup(void)
{
    l = loop_new(&e);
    ck_assert_ptr_nonnull(l);
}

static void teardown(void)
{
    loop_free(l);
}

struct end {
    int fds[2];
    int called;
    int other_fd; /* unwatched by the callback, -1 = none */
    bool unwatch_self;
};

static struct end end_open(void)
{
    struct end x = { .other_fd = -1 };

    ck_assert_int_eq(pipe2(x.fds, O_CLOEXEC), 0);
    return x;
}

static void end_close(const struct end *x)
{
    loop_unwatch_fd(l, x->fds[0]);
    (void)close(x->fds[0]);
    (void)close(x->fds[1]);
}

static void on_end(void *ctx, int fd, uint32_t events)
{
    struct end *x = ctx;

    ck_assert_int_eq(fd, x->fds[0]);
    ck_assert_uint_ne(events & EPOLLIN, 0);
    x->called++;
    loop_unwatch_fd(l, x->other_fd);
    if (x->unwatch_self)
        loop_unwatch_fd(l, fd);
}

static void poke(const struct end *x)
{
    ck_assert_int_eq(write(x->fds[1], "x", 1), 1);
}

START_TEST(calls_while_readable_until_unwatched)
{
    struct end x = end_open();

    ck_assert_int_eq(loop_watch_fd(l, x.fds[0], EPOLLIN, on_end, &x), 0);
    ck_assert_int_eq(loop_run_once(l, 0, &e), 0);
    ck_assert_int_eq(x.called, 0);
    poke(&x);
    ck_assert_int_eq(loop_run_once(l, 0, &e), 0);
    ck_assert_int_eq(loop_run_once(l, 0, &e), 0);
    ck_assert_int_eq(x.called, 2);
    loop_unwatch_fd(l, x.fds[0]);
    loop_unwatch_fd(l, x.fds[0]);
    ck_assert_int_eq(loop_run_once(l, 0, &e), 0);
    ck_assert_int_eq(x.called, 2);
    end_close(&x);
}
END_TEST

/* Both are ready in one batch; whichever comes first silences the other. */
START_TEST(unwatched_fd_is_not_called_in_the_same_iteration)
{
    struct end a = end_open(), b = end_open();

    a.other_fd = b.fds[0];
    b.other_fd = a.fds[0];
    ck_assert_int_eq(loop_watch_fd(l, a.fds[0], EPOLLIN, on_end, &a), 0);
    ck_assert_int_eq(loop_watch_fd(l, b.fds[0], EPOLLIN, on_end, &b), 0);
    poke(&a);
    poke(&b);
    ck_assert_int_eq(loop_run_once(l, 0, &e), 0);
    ck_assert_int_eq(a.called + b.called, 1);
    end_close(&a);
    end_close(&b);
}
END_TEST

struct reuse {
    struct end *old;
    struct end *fresh;
};

/* Closes the other end's descriptor and watches a new pipe under the same number. */
static void on_reuse(void *ctx, int fd, uint32_t events)
{
    struct reuse *r = ctx;

    (void)events;
    loop_unwatch_fd(l, fd);
    int number = r->old->fds[0];
    loop_unwatch_fd(l, number);
    ck_assert_int_eq(dup3(r->fresh->fds[0], number, O_CLOEXEC), number);
    (void)close(r->fresh->fds[0]);
    r->fresh->fds[0] = number;
    ck_assert_int_eq(loop_watch_fd(l, number, EPOLLIN, on_end, r->fresh), 0);
}

/* An event that was fetched for a former watch of the number must not reach the new one. */
START_TEST(reused_descriptor_gets_no_stale_event)
{
    struct end first = end_open(), old = end_open(), fresh = end_open();
    struct reuse r = { &old, &fresh };

    ck_assert_int_eq(loop_watch_fd(l, first.fds[0], EPOLLIN, on_reuse, &r), 0);
    ck_assert_int_eq(loop_watch_fd(l, old.fds[0], EPOLLIN, on_end, &old), 0);
    poke(&first); /* becomes ready first, hence is delivered first */
    poke(&old);
    ck_assert_int_eq(loop_run_once(l, 0, &e), 0);
    ck_assert_int_eq(fresh.called, 0);
    ck_assert_int_eq(old.called, 0);
    old.fds[0] = -1;
    end_close(&first);
    end_close(&fresh);
    (void)close(old.fds[1]);
}
END_TEST

static void on_rearm(void *ctx, uint64_t now_ms)
{
    struct loop_timer *t = ctx;
    static int count;

    ck_assert_uint_eq(now_ms, loop_now_ms(l));
    if (++count % 1000 != 0) /* would spin for ever if it fired again at once */
        loop_timer_set(l, t, 0, on_rearm, t);
}

static void on_count(void *ctx, uint64_t now_ms)
{
    (void)now_ms;
    ++*(int *)ctx;
}

/* A timer that re-arms itself for the past fires once per iteration and lets others run. */
START_TEST(rearming_for_the_past_starves_nobody)
{
    struct loop_timer greedy = { 0 }, other = { 0 };
    int count = 0;

    loop_timer_set(l, &greedy, 0, on_rearm, &greedy);
    loop_timer_set(l, &other, 0, on_count, &count);
    ck_assert(loop_timer_armed(&other));
    ck_assert_int_eq(loop_run_once(l, 0, &e), 0);
    ck_assert_int_eq(count, 1);
    ck_assert(loop_timer_armed(&greedy));
    ck_assert(!loop_timer_armed(&other));
    loop_timer_cancel(l, &greedy);
    ck_assert_int_eq(loop_run_once(l, 0, &e), 0);
    ck_assert_int_eq(count, 1);
}
END_TEST

START_TEST(waits_for_the_earliest_timer_only)
{
    struct loop_timer t = { 0 };
    uint64_t start_ms = clock_now_ms();
    int count = 0;

    loop_timer_set(l, &t, start_ms + 5, on_count, &count);
    while (count == 0)
        ck_assert_int_eq(loop_run_once(l, 10000, &e), 0);
    ck_assert_uint_ge(clock_now_ms(), start_ms + 5);
    ck_assert_uint_lt(clock_now_ms(), start_ms + 5000);
}
END_TEST

static void on_hook(void *ctx, uint64_t now_ms)
{
    int *count = ctx;

    (void)now_ms;
    if (++*count == 3)
        loop_stop(l);
}

/* The hook runs before the first wait and after every iteration, and may stop the loop. */
START_TEST(before_sleep_runs_each_iteration)
{
    struct end x = end_open();
    int count = 0;

    ck_assert_int_eq(loop_watch_fd(l, x.fds[0], EPOLLIN, on_end, &x), 0);
    poke(&x);
    loop_set_before_sleep(l, on_hook, &count);
    ck_assert_int_eq(loop_run(l, &e), 0);
    ck_assert_int_eq(count, 3);
    ck_assert_int_eq(x.called, 2);
    end_close(&x);
}
END_TEST

START_TEST(refuses_what_the_kernel_refuses)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    ck_assert_int_eq(loop_watch_fd(l, fd, EPOLLIN, on_end, NULL), -ERR_PERMISSION);
    ck_assert_int_lt(loop_watch_fd(l, 1 << 30, EPOLLIN, on_end, NULL), 0);
    loop_unwatch_fd(l, fd);
    (void)close(fd);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("loop");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, calls_while_readable_until_unwatched);
    tcase_add_test(tc, unwatched_fd_is_not_called_in_the_same_iteration);
    tcase_add_test(tc, reused_descriptor_gets_no_stale_event);
    tcase_add_test(tc, rearming_for_the_past_starves_nobody);
    tcase_add_test(tc, waits_for_the_earliest_timer_only);
    tcase_add_test(tc, before_sleep_runs_each_iteration);
    tcase_add_test(tc, refuses_what_the_kernel_refuses);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
