#include "common/inbox.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>

static struct loop *l;
static struct inbox *in;
static struct err e;

static void setup(void)
{
    l = loop_new(&e);
    in = inbox_new(l, 4096, &e);
    ck_assert_ptr_nonnull(in);
}

static void teardown(void)
{
    inbox_free(in);
    loop_free(l);
}

static void run(void)
{
    ck_assert_int_eq(loop_run_once(l, 0, &e), 0);
}

static void on_next(void *ctx, void *arg)
{
    size_t *next = ctx;

    ck_assert_uint_eq((size_t)arg, *next);
    ++*next;
}

/* Posting order is kept through growth of the ring; a batch is bounded so that fds get their turn.
 */
START_TEST(keeps_order_in_bounded_batches)
{
    size_t next = 0, posted = 0;

    for (; posted < 100; posted++)
        inbox_post(in, on_next, &next, (void *)posted);
    run();
    ck_assert_uint_eq(next, 100);
    for (; posted < 100 + 2 * INBOX_BATCH_MAX + 1; posted++)
        inbox_post(in, on_next, &next, (void *)posted);
    run();
    ck_assert_uint_eq(next, 100 + INBOX_BATCH_MAX);
    run();
    run();
    ck_assert_uint_eq(next, posted);
    run(); /* the descriptor is quiet again */
    ck_assert_uint_eq(next, posted);
}
END_TEST

START_TEST(cancel_drops_one_context_only)
{
    size_t a = 0, b = 0;

    inbox_post(in, on_next, &a, (void *)0);
    inbox_post(in, on_next, &b, (void *)0);
    inbox_post(in, on_next, &a, (void *)1);
    inbox_cancel(in, &a);
    run();
    ck_assert_uint_eq(a, 0);
    ck_assert_uint_eq(b, 1);
}
END_TEST

static void on_free(void *ctx, void *arg)
{
    (void)ctx, (void)arg;
    inbox_free(in);
    in = NULL;
}

START_TEST(record_may_free_the_inbox)
{
    size_t next = 0;

    inbox_post(in, on_free, NULL, NULL);
    inbox_post(in, on_next, &next, (void *)0);
    run();
    run();
    ck_assert_uint_eq(next, 0);
}
END_TEST

enum { THREADS = 4, POSTS = 1000 };

static void *post_many(void *arg)
{
    for (size_t i = 0; i < POSTS; i++)
        inbox_post(in, on_next, arg, (void *)i);
    return NULL;
}

/* Each thread's records arrive in its order and none is lost. */
START_TEST(threads_post_concurrently)
{
    pthread_t threads[THREADS];
    size_t next[THREADS] = { 0 };
    size_t sum = 0;

    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, post_many, &next[i]), 0);
    while (sum < (size_t)THREADS * POSTS) {
        ck_assert_int_eq(loop_run_once(l, 1000, &e), 0);
        sum = 0;
        for (int i = 0; i < THREADS; i++)
            sum += next[i];
    }
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("inbox");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, keeps_order_in_bounded_batches);
    tcase_add_test(tc, cancel_drops_one_context_only);
    tcase_add_test(tc, record_may_free_the_inbox);
    tcase_add_test(tc, threads_post_concurrently);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
