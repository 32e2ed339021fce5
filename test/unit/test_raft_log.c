#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "managerd/raft/internal.h"

/* A log whose entry i has the i-th of the given terms ("" ends); base (0, 0). */
static struct raft_log make_log(const char *terms)
{
    struct raft_log l = { 0 };

    for (size_t i = 0; terms[i] != '\0'; i++) {
        struct raft_entry e = { .index = i + 1, .term = (uint64_t)(terms[i] - '0') };

        raft_log_append(&l, &e);
    }
    return l;
}

static const struct up_to_date_case {
    const char *why;
    const char *log;
    uint64_t last_index, last_term;
    bool want;
} up_to_date_cases[] = {
    { "both empty", "", 0, 0, true },
    { "anything against an empty log", "", 1, 1, true },
    { "empty against something", "1", 0, 0, false },
    { "equal", "113", 3, 3, true },
    { "same last term, longer", "113", 4, 3, true },
    { "same last term, shorter", "113", 2, 3, false },
    { "higher last term beats length", "1133333", 2, 4, true },
    { "longer with a lower last term loses", "113", 9, 2, false },
};

/* §5.4.1 */
START_TEST(up_to_date)
{
    const struct up_to_date_case *c = &up_to_date_cases[_i];
    struct raft_log l = make_log(c->log);

    ck_assert_msg(raft_log_up_to_date(&l, c->last_index, c->last_term) == c->want, "%s", c->why);
    raft_log_deinit(&l);
}
END_TEST

static const struct find_case {
    const char *why;
    const char *log;
    uint64_t index, term, want;
} find_cases[] = {
    { "the entry itself fits", "1144", 4, 4, 4 },
    { "all of one term is skipped at once", "1144", 4, 3, 2 },
    { "down to the base", "4444", 3, 1, 0 },
    { "beyond the end begins at the end", "1144", 9, 9, 4 },
    { "below the base stays at the base", "1144", 0, 9, 0 },
    { "in the middle of a term", "1122233", 4, 2, 4 },
    { "first of a term", "1122233", 6, 2, 5 },
};

/* §5.3: the back-up over conflicting terms. */
START_TEST(find)
{
    const struct find_case *c = &find_cases[_i];
    struct raft_log l = make_log(c->log);

    ck_assert_msg(raft_log_find(&l, c->index, c->term) == c->want, "%s", c->why);
    raft_log_deinit(&l);
}
END_TEST

static const struct fit_case {
    const char *why;
    uint64_t index;
    size_t count_max;
    uint64_t bytes_max;
    size_t want;
} fit_cases[] = {
    /* five entries of 32 bytes each, without data */
    { "all", 1, 10, 1000, 5 },
    { "by count", 1, 2, 1000, 2 },
    { "by bytes", 1, 10, 100, 3 },
    { "exactly the bytes", 1, 10, 96, 3 },
    { "one entry always goes", 2, 10, 1, 1 },
    { "from the middle", 4, 10, 1000, 2 },
    { "behind the end there is none", 6, 10, 1000, 0 },
};

START_TEST(fit)
{
    const struct fit_case *c = &fit_cases[_i];
    struct raft_log l = make_log("11111");
    uint64_t bytes;

    ck_assert_msg(raft_log_fit(&l, c->index, c->count_max, c->bytes_max, &bytes) == c->want, "%s",
                  c->why);
    ck_assert_uint_eq(bytes, 32 * c->want);
    raft_log_deinit(&l);
}
END_TEST

/* Appends, truncations, compactions and resets at random, against an array that forgets nothing. */
START_TEST(against_a_model)
{
    enum { MODEL_MAX = 4000, STEPS = 20000 };
    static uint64_t terms[MODEL_MAX + 1]; /* by index */
    struct raft_log l = { 0 };
    struct raft_data *data = raft_data_new("x", 1);
    uint64_t base = 0, last = 0, term = 1;
    struct prng p;

    prng_init(&p, (uint64_t)_i);
    terms[0] = 0;
    for (int step = 0; step < STEPS && last < MODEL_MAX; step++) {
        uint64_t choice = prng_below(&p, 20);
        uint64_t at = base + prng_below(&p, last - base + 1);

        if (choice < 16) {
            struct raft_entry e = { .index = last + 1, .term = term, .data = data };

            raft_log_append(&l, &e);
            terms[++last] = term;
        } else if (choice == 16 && at > l.commit_index) {
            raft_log_truncate(&l, at);
            last = at - 1;
            term++;
        } else if (choice == 17) {
            l.commit_index = MAX(l.commit_index, at);
            l.snapshot.index = l.commit_index;
        } else if (choice == 18 && at <= l.snapshot.index) {
            raft_log_compact(&l, at);
            base = at;
        } else if (choice == 19 && prng_below(&p, 50) == 0) {
            raft_log_reset(&l, last + 5, term);
            base = last = last + 5;
            l.commit_index = l.snapshot.index = base;
            terms[base] = term;
        }
        ck_assert_uint_eq(raft_log_last(&l), last);
        ck_assert_uint_eq(raft_log_last_term(&l), terms[last]);
        ck_assert_uint_eq(raft_log_term(&l, at), at < base || at > last ? 0 : terms[at]);
        ck_assert_uint_eq(raft_log_term(&l, last + 1), 0);
        ck_assert_uint_eq(data->references, l.count + 1);
        if (at > base && at <= last)
            ck_assert_uint_eq(raft_log_at(&l, at)->index, at);
    }
    raft_log_deinit(&l);
    ck_assert_uint_eq(data->references, 1);
    raft_data_unref(data);
}
END_TEST

/* What a disk finished for entries that are gone says nothing about those that replaced them. */
START_TEST(truncation_lowers_durability)
{
    struct raft_log l = make_log("11122");

    l.durable_index = 4;
    raft_log_truncate(&l, 3);
    ck_assert_uint_eq(l.durable_index, 2);
    raft_log_deinit(&l);
}
END_TEST

START_TEST(clones_share_data)
{
    struct raft_entry e = { .index = 1, .term = 1, .data = raft_data_new("abc", 3) };
    struct raft_entry *copy = raft_entries_clone(&e, 1);

    ck_assert_ptr_eq(copy[0].data, e.data);
    ck_assert_uint_eq(e.data->references, 2);
    raft_data_unref(e.data);
    ck_assert_int_eq(memcmp(copy[0].data->bytes, "abc", 3), 0);
    raft_entries_free(copy, 1);
    ck_assert_ptr_null(raft_entries_clone(NULL, 0));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_log");
    TCase *tc = tcase_create("log");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_loop_test(tc, up_to_date, 0, (int)ARRAY_LEN(up_to_date_cases));
    tcase_add_loop_test(tc, find, 0, (int)ARRAY_LEN(find_cases));
    tcase_add_loop_test(tc, fit, 0, (int)ARRAY_LEN(fit_cases));
    tcase_add_loop_test(tc, against_a_model, 0, 10);
    tcase_add_test(tc, truncation_lowers_durability);
    tcase_add_test(tc, clones_share_data);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
