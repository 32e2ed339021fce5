/* managerd/store/history.c: what a watch can resume from. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "test/lib/fixture.h"

static struct fixture f;

static void setup(void)
{
    fixture_init(&f, 1);
}

static void teardown(void)
{
    fixture_deinit(&f);
}

static void add_secrets(const char *prefix, int count)
{
    char id[40];

    for (int i = 0; i < count; i++) {
        (void)snprintf(id, sizeof(id), "%s%d", prefix, i);
        store_tx_create(f.tx, &fixture_secret(&f, id, id)->base);
    }
    ck_assert_int_eq(fixture_apply(&f, NULL, NULL), 0);
}

START_TEST(resumes_after_a_version)
{
    struct store_event ev[16];

    add_secrets("a", 2);
    add_secrets("b", 1);
    add_secrets("c", 3);
    ck_assert_int_eq(store_history(f.s, 0, ev, 16), 6);
    ck_assert_str_eq(object_id(ev[0].after), "a0");
    ck_assert_uint_eq(ev[0].version, 1);
    ck_assert_int_eq(ev[0].action, STORE_CREATE);
    ck_assert_int_eq(store_history(f.s, 1, ev, 16), 4);
    ck_assert_str_eq(object_id(ev[0].after), "b0");
    ck_assert_int_eq(store_history(f.s, 3, ev, 16), 0);
    ck_assert_int_eq(store_history(f.s, 99, ev, 16), 0);
}
END_TEST

static const struct split_case {
    const char *why;
    size_t max;
    int want;
} split_cases[] = {
    { "all", 6, 6 },
    { "the last version does not fit whole", 5, 3 },
    { "exactly two versions", 3, 3 },
    { "one", 2, 2 },
    { "not even the first fits: list again", 1, -ERR_STALE },
};

START_TEST(versions_are_not_split)
{
    struct store_event ev[6];

    add_secrets("a", 2);
    add_secrets("b", 1);
    add_secrets("c", 3);
    ck_assert_msg(store_history(f.s, 0, ev, split_cases[_i].max) == split_cases[_i].want, "%s",
                  split_cases[_i].why);
}
END_TEST

START_TEST(removed_objects_are_still_seen)
{
    struct store_event ev[4];

    add_secrets("a", 1);
    ck_assert_int_eq(fixture_remove(&f, SKEP__KIND__KIND_SECRET, "a0"), 0);
    ck_assert_int_eq(store_history(f.s, 1, ev, 4), 1);
    ck_assert_int_eq(ev[0].action, STORE_REMOVE);
    ck_assert_str_eq(object_name(ev[0].before), "a0");
    ck_assert_ptr_null(ev[0].after);
}
END_TEST

START_TEST(the_number_of_events_is_bounded)
{
    struct store_event ev;
    int rounds = STORE_HISTORY_EVENTS / 1000 + 2;
    char id[40];

    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < 500; i++) {
            (void)snprintf(id, sizeof(id), "%d", i);
            store_tx_create(f.tx, &fixture_secret(&f, id, id)->base);
        }
        ck_assert_int_eq(fixture_apply(&f, NULL, NULL), 0);
        for (int i = 0; i < 500; i++) {
            (void)snprintf(id, sizeof(id), "%d", i);
            store_tx_remove(f.tx, SKEP__KIND__KIND_SECRET, id, 0);
        }
        ck_assert_int_eq(fixture_apply(&f, NULL, NULL), 0);
        arena_reset(&f.arena);
    }
    ck_assert_int_eq(store_history(f.s, 0, &ev, 1), -ERR_STALE);
    ck_assert_int_eq(store_history(f.s, f.index, &ev, 1), 0);
    /* 65536 events are 131 versions of 500 and a part of one: that one cannot be resumed into. */
    uint64_t whole = f.index - STORE_HISTORY_EVENTS / 500;
    struct store_event *all = xcalloc(STORE_HISTORY_EVENTS, sizeof(*all));
    ck_assert_int_eq(store_history(f.s, whole, all, STORE_HISTORY_EVENTS),
                     STORE_HISTORY_EVENTS / 500 * 500);
    ck_assert_int_eq(store_history(f.s, whole - 1, all, STORE_HISTORY_EVENTS), -ERR_STALE);
    free(all);
}
END_TEST

/* Replaced objects are what history keeps alive: large ones push old events out. */
START_TEST(the_memory_is_bounded)
{
    Skep__Secret *x = fixture_secret(&f, "big", "big");
    struct store_event ev[40];
    enum { BYTES = 1 << 19 };

    x->spec->data = (ProtobufCBinaryData){ BYTES, arena_alloc(&f.arena, BYTES) };
    ck_assert_int_eq(fixture_add(&f, x), 0);
    for (int i = 0; i < 30; i++) {
        x->spec->data.data[0]++;
        ck_assert_int_eq(fixture_update(&f, x), 0);
    }
    ck_assert_int_eq(store_history(f.s, 1, ev, 40), -ERR_STALE);
    int kept = STORE_HISTORY_BYTES / BYTES - 1;
    ck_assert_int_eq(store_history(f.s, f.index - (uint64_t)kept, ev, 40), kept);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("store history");
    TCase *tc = tcase_create("history");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, resumes_after_a_version);
    tcase_add_loop_test(tc, versions_are_not_split, 0, ARRAY_LEN(split_cases));
    tcase_add_test(tc, removed_objects_are_still_seen);
    tcase_add_test(tc, the_number_of_events_is_bounded);
    tcase_add_test(tc, the_memory_is_bounded);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
