#include "common/timer.h"

#include <check.h>
#include <stdlib.h>

#include "common/mem.h"
#include "common/prng.h"

enum { TIMER_COUNT = 200 };

/* Pops come in order of time, then of arming, whatever was armed, re-armed or cancelled before. */
START_TEST(pops_in_order_after_random_edits)
{
    struct timer_heap h = { 0 };
    struct timer t[TIMER_COUNT] = { 0 };
    bool armed[TIMER_COUNT] = { false };
    struct prng p;

    prng_init(&p, (uint64_t)_i);
    for (int i = 0; i < 2000; i++) {
        uint64_t k = prng_below(&p, TIMER_COUNT);

        armed[k] = !prng_chance_ppm(&p, 300000);
        if (armed[k])
            timer_set(&h, &t[k], prng_below(&p, 50));
        else
            timer_cancel(&h, &t[k]);
    }
    uint64_t last_at = 0, last_sequence = 0;
    uint32_t expected = 0, popped = 0;
    for (int i = 0; i < TIMER_COUNT; i++)
        expected += armed[i];
    for (struct timer *x; (x = timer_pop_due(&h, 100)) != NULL; popped++) {
        ck_assert(armed[x - t]);
        ck_assert_uint_eq(x->heap_index, 0);
        ck_assert(x->at_ms > last_at || (x->at_ms == last_at && x->sequence > last_sequence));
        last_at = x->at_ms;
        last_sequence = x->sequence;
    }
    ck_assert_uint_eq(popped, expected);
    timer_heap_deinit(&h);
}
END_TEST

START_TEST(due_is_inclusive_and_nothing_earlier)
{
    struct timer_heap h = { 0 };
    struct timer t = { 0 };

    ck_assert_ptr_null(timer_first(&h));
    timer_set(&h, &t, 10);
    ck_assert_ptr_eq(timer_first(&h), &t);
    ck_assert_ptr_null(timer_pop_due(&h, 9));
    ck_assert_ptr_eq(timer_pop_due(&h, 10), &t);
    ck_assert_ptr_null(timer_pop_due(&h, 10));
    timer_cancel(&h, &t); /* not armed: nothing happens */
    timer_set(&h, &t, 1);
    timer_heap_deinit(&h);
    ck_assert_uint_eq(t.heap_index, 0); /* the owner may arm it again elsewhere */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("timer");
    TCase *tc = tcase_create("all");

    tcase_add_loop_test(tc, pops_in_order_after_random_edits, 0, 20);
    tcase_add_test(tc, due_is_inclusive_and_nothing_earlier);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
