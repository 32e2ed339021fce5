/* Random lives of the orchestrators (test/sim/cluster_random.h). SEEDS=A..B runs others, SEEDS=A..A
 * prints every change. */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "test/sim/cluster_random.h"

enum { SEED_FIRST = 1, SEED_COUNT = 100, SEEDS_PER_TEST = 10 };

START_TEST(rules_hold_and_faults_heal)
{
    for (int i = 0; i < SEEDS_PER_TEST; i++) {
        uint64_t seed = SEED_FIRST + (uint64_t)(_i * SEEDS_PER_TEST + i);
        struct random_stats stats;
        struct err e = { 0 };

        ck_assert_msg(cluster_random_run(seed, NULL, &stats, &e) == 0, "seed %" PRIu64 ": %s", seed,
                      e.message);
    }
}
END_TEST

/* O8: nothing but the seed decides. */
START_TEST(a_seed_reproduces)
{
    struct random_stats first, second;

    ck_assert_int_eq(cluster_random_run(7, NULL, &first, NULL), 0);
    ck_assert_int_eq(cluster_random_run(7, NULL, &second, NULL), 0);
    ck_assert_uint_eq(first.store_hash, second.store_hash);
    ck_assert_uint_eq(first.transactions, second.transactions);
    ck_assert_uint_gt(first.tasks_created, 0);
}
END_TEST

/* SEEDS=A..B: a longer search by hand. */
static int search(const char *range)
{
    uint64_t first = 0, last = 0;
    int failed = 0;

    if (sscanf(range, "%" SCNu64 "..%" SCNu64, &first, &last) != 2)
        return EXIT_FAILURE;
    struct random_stats sum = { 0 };
    for (uint64_t seed = first; seed <= last; seed++) {
        struct random_stats s;
        struct err e = { 0 };

        if (cluster_random_run(seed, first == last ? stdout : NULL, &s, &e) < 0) {
            printf("seed %" PRIu64 ": %s\n", seed, e.message);
            failed++;
        }
        sum.transactions += s.transactions;
        sum.tasks_created += s.tasks_created;
        sum.leader_changes += s.leader_changes;
    }
    printf("%" PRIu64 " seeds, %d failed; %" PRIu64 " transactions, %" PRIu64 " tasks, %" PRIu64
           " leader changes\n",
           last - first + 1, failed, sum.transactions, sum.tasks_created, sum.leader_changes);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(void)
{
    if (getenv("SEEDS") != NULL)
        return search(getenv("SEEDS"));
    Suite *s = suite_create("cluster_random");
    TCase *tc = tcase_create("cluster_random");

    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, rules_hold_and_faults_heal, 0, SEED_COUNT / SEEDS_PER_TEST);
    tcase_add_test(tc, a_seed_reproduces);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
