#include <check.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/lib/tmpdir.h"
#include "test/lib/walmodel.h"

enum { SEGMENT = 4096 };

static void reopen(struct wal_model *m)
{
    struct err e = { 0 };
    const char *wrong;

    wal_model_close(m);
    int rc = wal_model_open(m, &e);
    ck_assert_msg(rc == 0, "%s", e.message);
    wrong = wal_model_check(m);
    ck_assert_msg(wrong == NULL, "%s", wrong);
}

/* What was synced is replayed: entries, cuts, hard states, over many segments and openings. */
START_TEST(keeps_what_was_synced)
{
    static struct wal_model m;
    uint64_t index = 1;

    wal_model_init(&m, SEGMENT, false);
    ck_assert_int_eq(wal_model_open(&m, NULL), 0);
    ck_assert_int_eq(wal_model_vote(&m, 1, 1), 0);
    for (int round = 0; round < 12; round++) {
        for (int i = 0; i < 5; i++, index += 3)
            ck_assert_int_eq(wal_model_append(&m, index, 3, 1 + (uint64_t)round), 0);
        ck_assert_int_eq(wal_model_sync(&m), 0);
        index -= 2; /* the next round overwrites two */
        reopen(&m);
        ck_assert_uint_eq(m.replayed.sum.last_index, index + 1);
    }
    struct wal_stats stats;
    wal_stats(m.wal, &stats);
    ck_assert_uint_gt(stats.segment_count, 6);
    ck_assert_uint_eq(stats.torn_bytes, 0);
    ck_assert_uint_eq(wal_first_index(m.wal), 1);
    wal_model_deinit(&m);
}
END_TEST

/* Several random histories, each closed and opened at random, all entries verified. */
START_TEST(random_histories)
{
    static struct wal_model m;
    struct prng p;

    prng_init(&p, (uint64_t)_i);
    wal_model_init(&m, SEGMENT, false);
    ck_assert_int_eq(wal_model_open(&m, NULL), 0);
    for (int i = 0; i < 120; i++) {
        if (m.now.sum.last_index > WAL_MODEL_ENTRIES_MAX - 200)
            break;
        ck_assert_int_eq(wal_model_random(&m, &p), 0);
        if (prng_below(&p, 20) == 0)
            reopen(&m);
    }
    reopen(&m);
    wal_model_deinit(&m);
}
END_TEST

/* Compaction removes the oldest segments as far as a snapshot covers them, and no further. */
START_TEST(compaction_keeps_what_the_snapshot_lacks)
{
    static struct wal_model m;
    struct wal_stats before, after;

    wal_model_init(&m, SEGMENT, false);
    ck_assert_int_eq(wal_model_open(&m, NULL), 0);
    for (uint64_t index = 1; index < 100; index += 3)
        ck_assert_int_eq(wal_model_append(&m, index, 3, 1), 0);
    ck_assert_int_eq(wal_model_snapshot(&m, 60), 0);
    ck_assert_int_eq(wal_model_sync(&m), 0);
    wal_stats(m.wal, &before);
    ck_assert_int_eq(wal_compact(m.wal, 50, NULL), 0);
    wal_stats(m.wal, &after);
    ck_assert_uint_lt(after.segment_count, before.segment_count);
    ck_assert_uint_gt(wal_first_index(m.wal), 1);
    ck_assert_uint_le(wal_first_index(m.wal), 51);
    reopen(&m);
    ck_assert_uint_eq(m.now.sum.last_index, 99);
    wal_model_deinit(&m);
}
END_TEST

/* A received snapshot replaces the log: what came before is gone, the log goes on behind it. */
START_TEST(reset_continues_behind_the_snapshot)
{
    static struct wal_model m;

    wal_model_init(&m, SEGMENT, false);
    ck_assert_int_eq(wal_model_open(&m, NULL), 0);
    ck_assert_int_eq(wal_model_append(&m, 1, 5, 2), 0);
    ck_assert_int_eq(wal_model_reset(&m, 500, 2), 0);
    ck_assert_int_eq(wal_model_append(&m, 501, 4, 2), 0);
    ck_assert_int_eq(wal_model_sync(&m), 0);
    ck_assert_int_eq(wal_compact(m.wal, 500, NULL), 0);
    reopen(&m);
    ck_assert_uint_eq(m.now.sum.last_index, 504);
    wal_model_deinit(&m);
}
END_TEST

/* F9: on a full disk entries are refused in time, hard states go on, and when space returns the log
 * goes on by itself. */
START_TEST(full_disk_keeps_hard_states)
{
    static struct wal_model m;
    uint64_t index = 1, term = 1;
    int rc = 0, votes = 0;

    wal_model_init(&m, 16384, true);
    ck_assert_int_eq(wal_model_open(&m, NULL), 0);
    crash_disk_fail_op(m.crash, DISK_ALLOCATE, 1, ENOSPC, true);
    while (rc == 0) {
        rc = wal_model_append(&m, index++, 1, 1);
        ck_assert_int_eq(wal_model_sync(&m), 0);
    }
    ck_assert_int_eq(rc, -ERR_NO_SPACE);
    ck_assert_int_eq(wal_space(m.wal), WAL_SPACE_FULL);
    ck_assert_int_eq(wal_maintain(m.wal, NULL), -ERR_NO_SPACE);
    for (; votes < 20; votes++) {
        ck_assert_int_eq(wal_model_vote(&m, ++term, 2), 0);
        ck_assert_int_eq(wal_model_sync(&m), 0);
    }
    ck_assert_int_eq(wal_model_append(&m, m.now.sum.last_index + 1, 1, term), -ERR_NO_SPACE);
    reopen(&m); /* not even a small segment: it starts, follows and waits */
    ck_assert_int_eq(wal_model_vote(&m, term + 1, 1), -ERR_NO_SPACE);
    crash_disk_fail(m.crash, 0, 0, false, 0);
    crash_disk_limit_allocation(m.crash, 8192);
    reopen(&m); /* still full, but for a small segment */
    ck_assert_int_eq(wal_model_vote(&m, ++term, 1), 0);
    ck_assert_int_eq(wal_model_sync(&m), 0);
    ck_assert_int_ne(wal_space(m.wal), WAL_SPACE_OK);
    crash_disk_limit_allocation(m.crash, 0);
    ck_assert_int_eq(wal_maintain(m.wal, NULL), 0);
    ck_assert_int_eq(wal_space(m.wal), WAL_SPACE_OK);
    ck_assert_int_eq(wal_model_append(&m, m.now.sum.last_index + 1, 30, term), 0);
    ck_assert_int_eq(wal_model_sync(&m), 0);
    reopen(&m);
    wal_model_deinit(&m);
}
END_TEST

/* Space is low, not full, while the reserve is missing and the present segment has room. */
START_TEST(missing_reserve_is_low_space)
{
    static struct wal_model m;

    wal_model_init(&m, 16384, true);
    ck_assert_int_eq(wal_model_open(&m, NULL), 0);
    ck_assert_int_eq(wal_space(m.wal), WAL_SPACE_OK);
    ck_assert_int_eq(wal_roll(m.wal, NULL), 0);
    ck_assert_int_eq(wal_space(m.wal), WAL_SPACE_LOW);
    ck_assert_int_eq(wal_model_append(&m, 1, 1, 1), 0);
    ck_assert_int_eq(wal_maintain(m.wal, NULL), 0);
    ck_assert_int_eq(wal_space(m.wal), WAL_SPACE_OK);
    wal_model_deinit(&m);
}
END_TEST

/* An entry that no segment can hold is refused before anything is written. */
START_TEST(refuses_an_entry_beyond_the_limit)
{
    static struct wal_model m;
    static uint8_t bytes[SEGMENT];
    struct raft_data data = { .references = 1, .bytes = bytes };
    struct raft_entry entry = { 1, 1, RAFT_ENTRY_NORMAL, &data };
    struct raft_hard_state h = { .term = 1 };
    struct wal_batch b = { .hard_state = &h, .entries = &entry, .entry_count = 1 };

    wal_model_init(&m, SEGMENT, false);
    ck_assert_int_eq(wal_model_open(&m, NULL), 0);
    data.size = (uint32_t)wal_entry_bytes_max(m.wal) + 1;
    ck_assert_int_eq(wal_append(m.wal, &b, NULL), -ERR_TOO_BIG);
    ck_assert_uint_eq(wal_state(m.wal)->hard_state.term, 0);
    data.size--;
    ck_assert_int_eq(wal_append(m.wal, &b, NULL), 0);
    ck_assert_int_eq(wal_sync(m.wal, NULL), 0);
    wal_model_deinit(&m);
}
END_TEST

/* A write failed although all its bytes reached the disk, and what is written next ends exactly
 * where one of its records begins: that leftover must not be taken for the log's continuation. */
START_TEST(leftovers_of_a_failed_write_are_not_read)
{
    static struct wal_model m;
    static uint8_t bytes[72]; /* a record of 128 bytes: as long as a hard state and a mark */
    struct raft_data data = { .references = 1, .size = sizeof(bytes), .bytes = bytes };
    struct raft_entry entries[] = { { 1, 1, RAFT_ENTRY_NORMAL, &data },
                                    { 2, 1, RAFT_ENTRY_NORMAL, &data } };
    struct wal_batch b = { .entries = entries, .entry_count = 2 };

    wal_model_init(&m, SEGMENT, true);
    ck_assert_int_eq(wal_model_open(&m, NULL), 0);
    ck_assert_int_eq(wal_model_vote(&m, 1, 1), 0);
    ck_assert_int_eq(wal_model_sync(&m), 0);
    crash_disk_fail(m.crash, 1, ENOSPC, false, 256);
    ck_assert_int_eq(wal_append(m.wal, &b, NULL), -ERR_NO_SPACE);
    ck_assert_int_eq(wal_model_vote(&m, 2, 1), 0);
    ck_assert_int_eq(wal_model_sync(&m), 0);
    reopen(&m);
    ck_assert_uint_eq(m.now.sum.hard_state.term, 2);
    wal_model_deinit(&m);
}
END_TEST

/* A rotated key is used by the next segment; the old one can go when no segment names it. */
START_TEST(key_rotation)
{
    static struct wal_model m;

    wal_model_init(&m, SEGMENT, false);
    ck_assert_int_eq(wal_model_open(&m, NULL), 0);
    ck_assert_int_eq(wal_model_append(&m, 1, 10, 1), 0);
    ck_assert_int_eq(wal_model_sync(&m), 0);
    ck_assert_int_eq(keyring_rotate(m.keyring, NULL), 0);
    ck_assert_int_eq(wal_roll(m.wal, NULL), 0);
    ck_assert_uint_eq(wal_oldest_key(m.wal), 1);
    ck_assert_int_eq(wal_model_append(&m, 11, 10, 1), 0);
    ck_assert_int_eq(wal_model_sync(&m), 0);
    reopen(&m);
    ck_assert_int_eq(wal_model_snapshot(&m, 20), 0);
    ck_assert_int_eq(wal_model_sync(&m), 0);
    ck_assert_int_eq(wal_compact(m.wal, 20, NULL), 0);
    ck_assert_uint_eq(wal_oldest_key(m.wal), 2);
    ck_assert_int_eq(keyring_retire(m.keyring, 2, NULL), 0);
    ck_assert_ptr_null(keyring_key(m.keyring, 1));
    reopen(&m);
    wal_model_deinit(&m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("wal");
    TCase *tc = tcase_create("wal");
    SRunner *r;

    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, keeps_what_was_synced);
    tcase_add_loop_test(tc, random_histories, 1, 30);
    tcase_add_test(tc, compaction_keeps_what_the_snapshot_lacks);
    tcase_add_test(tc, reset_continues_behind_the_snapshot);
    tcase_add_test(tc, full_disk_keeps_hard_states);
    tcase_add_test(tc, missing_reserve_is_low_space);
    tcase_add_test(tc, refuses_an_entry_beyond_the_limit);
    tcase_add_test(tc, leftovers_of_a_failed_write_are_not_read);
    tcase_add_test(tc, key_rotation);
    suite_add_tcase(s, tc);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
