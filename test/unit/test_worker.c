#include "common/worker.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>

static struct loop *l;
static struct inbox *in;
static struct worker *w;
static struct err e;
static int order[64], order_count;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; /* held by a test: jobs wait for it */

enum { JOBS_MAX = 8 };

struct job {
    int number;
    int runs, dones, drops;
    bool free_worker;
};

static void setup(void)
{
    l = loop_new(&e);
    in = inbox_new(l, JOBS_MAX, &e);
    w = worker_new("test", in, JOBS_MAX, &e);
    ck_assert_ptr_nonnull(w);
    order_count = 0;
}

static void teardown(void)
{
    worker_free(w);
    inbox_free(in);
    loop_free(l);
}

static void job_run(void *job)
{
    struct job *j = job;

    (void)pthread_mutex_lock(&gate);
    j->runs++;
    (void)pthread_mutex_unlock(&gate);
}

static void job_done(void *ctx, void *job)
{
    struct job *j = job;

    ck_assert_ptr_eq(ctx, &order);
    j->dones++;
    order[order_count++] = j->number;
    if (j->free_worker) {
        worker_free(w);
        w = NULL;
    }
}

static void job_drop(void *job)
{
    ((struct job *)job)->drops++;
}

static void submit(struct job *j)
{
    ck_assert_int_eq(worker_submit(w, job_run, job_done, &order, j), 0);
}

START_TEST(runs_in_order_and_delivers_on_the_loop)
{
    struct job jobs[JOBS_MAX] = { 0 };

    for (int i = 0; i < JOBS_MAX; i++) {
        jobs[i].number = i;
        submit(&jobs[i]);
    }
    worker_drain(w);
    ck_assert_int_eq(order_count, 0); /* run, but nothing is delivered behind the loop's back */
    ck_assert_int_eq(loop_run_once(l, 0, &e), 0);
    ck_assert_int_eq(order_count, JOBS_MAX);
    for (int i = 0; i < JOBS_MAX; i++) {
        ck_assert_int_eq(order[i], i);
        ck_assert_int_eq(jobs[i].runs, 1);
    }
}
END_TEST

START_TEST(refuses_beyond_the_maximum)
{
    struct job jobs[JOBS_MAX + 1] = { 0 };

    for (int i = 0; i < JOBS_MAX; i++)
        submit(&jobs[i]);
    worker_drain(w); /* run, not delivered: still outstanding */
    ck_assert_int_eq(worker_submit(w, job_run, job_done, &order, &jobs[JOBS_MAX]), -ERR_BUSY);
    ck_assert_int_eq(loop_run_once(l, 0, &e), 0);
    submit(&jobs[JOBS_MAX]);
    worker_drain(w);
    ck_assert_int_eq(jobs[JOBS_MAX].runs, 1);
}
END_TEST

/* Every job is either delivered or dropped, never both, never forgotten. */
START_TEST(free_drops_what_was_not_delivered)
{
    struct job finished = { 0 }, waiting[3] = { 0 };

    worker_set_drop(w, job_drop);
    submit(&finished);
    worker_drain(w);
    (void)pthread_mutex_lock(&gate);
    for (int i = 0; i < 3; i++)
        submit(&waiting[i]);
    (void)pthread_mutex_unlock(&gate);
    worker_free(w);
    w = NULL;
    ck_assert_int_eq(loop_run_once(l, 0, &e), 0);
    ck_assert_int_eq(order_count, 0);
    ck_assert_int_eq(finished.runs, 1);
    ck_assert_int_eq(finished.drops, 1);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(waiting[i].drops, 1);
}
END_TEST

START_TEST(done_may_free_the_worker)
{
    struct job last = { .free_worker = true }, after = { 0 };

    worker_set_drop(w, job_drop);
    submit(&last);
    submit(&after);
    worker_drain(w);
    ck_assert_int_eq(loop_run_once(l, 0, &e), 0);
    ck_assert_int_eq(last.dones, 1);
    ck_assert_int_eq(after.dones, 0);
    ck_assert_int_eq(after.drops, 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("worker");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, runs_in_order_and_delivers_on_the_loop);
    tcase_add_test(tc, refuses_beyond_the_maximum);
    tcase_add_test(tc, free_drops_what_was_not_delivered);
    tcase_add_test(tc, done_may_free_the_worker);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
