#include "common/prng.h"

#include <check.h>
#include <stdlib.h>

#include "common/mem.h"

/* Recorded once: simulation seeds of today must mean the same tomorrow. */
START_TEST(sequence_never_changes)
{
    static const uint64_t want[] = {
        0x15780b2e0c2ec716u,
        0x6104d9866d113a7eu,
        0xae17533239e499a1u,
        0xecb8ad4703b360a1u,
    };
    struct prng p;

    prng_init(&p, 42);
    for (size_t i = 0; i < ARRAY_LEN(want); i++)
        ck_assert_uint_eq(prng_next(&p), want[i]);
}
END_TEST

START_TEST(ranges_are_kept_and_filled)
{
    struct prng p;
    unsigned counts[10] = { 0 };
    int hits = 0;

    prng_init(&p, 1);
    for (int i = 0; i < 10000; i++) {
        counts[prng_below(&p, 10)]++;
        uint64_t x = prng_range(&p, 5, 7);
        ck_assert(x >= 5 && x <= 7);
        hits += prng_chance_ppm(&p, 250000);
    }
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        ck_assert(counts[i] > 800 && counts[i] < 1200);
    ck_assert(hits > 2300 && hits < 2700);
    ck_assert_uint_eq(prng_range(&p, 9, 9), 9);
    ck_assert_uint_eq(prng_below(&p, 1), 0);
    ck_assert(!prng_chance_ppm(&p, 0));
    ck_assert(prng_chance_ppm(&p, 1000000));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("prng");
    TCase *tc = tcase_create("all");

    tcase_add_test(tc, sequence_never_changes);
    tcase_add_test(tc, ranges_are_kept_and_filled);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
