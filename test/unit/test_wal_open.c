#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "test/lib/walmodel.h"

/* Failing and crashing at every step: guarantees G1 and G3 on one member. */

enum { SEGMENT = 4096, OPERATIONS = 40 };

static void expect_recovery(struct wal_model *m, const char *when, unsigned n)
{
    struct err e = { 0 };

    int rc = wal_model_open(m, &e);
    ck_assert_msg(rc == 0, "%s %u: %s", when, n, e.message);
    const char *wrong = wal_model_check(m);
    ck_assert_msg(wrong == NULL, "%s %u: %s", when, n, wrong);
}

/* F9: ENOSPC at the n-th operation, for every n, once. Whatever was refused is tried again and goes
 * through; nothing synced is lost. */
START_TEST(no_space_at_every_call)
{
    static struct wal_model m;
    bool reached = true;

    for (unsigned n = 1; reached; n++) {
        struct prng p;

        prng_init(&p, 7);
        wal_model_init(&m, SEGMENT, true);
        expect_recovery(&m, "first start", n);
        crash_disk_fail(m.crash, n, ENOSPC, false, 256 * (n % 4) / 4);
        bool fatal = false;
        for (int i = 0; i < OPERATIONS && !fatal; i++) {
            int rc = wal_model_random(&m, &p);

            fatal = rc == -ERR_IO; /* the failing call was a sync */
            ck_assert_msg(rc == 0 || rc == -ERR_NO_SPACE || fatal, "call %u: %d", n, rc);
        }
        reached = crash_disk_failed(m.crash);
        crash_disk_fail(m.crash, 0, 0, false, 0);
        if (!fatal) {
            ck_assert_int_eq(wal_maintain(m.wal, NULL), 0);
            ck_assert_int_eq(
                wal_model_append(&m, m.now.sum.last_index + 1, 3, m.now.sum.hard_state.term + 1),
                0);
            ck_assert_int_eq(wal_model_sync(&m), 0);
        }
        wal_model_close(&m);
        crash_disk_fail(m.crash, 0, 0, false, 0);
        expect_recovery(&m, "after call", n);
        wal_model_deinit(&m);
    }
}
END_TEST

/* F12: a failed sync is an error for good, and what it was for counts as lost until verified. */
START_TEST(failed_sync_is_final)
{
    static struct wal_model m;
    bool reached = true;

    for (unsigned n = 1; reached; n++) {
        struct prng p, cut;
        int rc = 0;

        prng_init(&p, 11);
        prng_init(&cut, n);
        wal_model_init(&m, SEGMENT, true);
        expect_recovery(&m, "first start", n);
        crash_disk_fail_op(m.crash, DISK_SYNC, n, EIO, false);
        for (int i = 0; i < OPERATIONS && rc == 0; i++)
            rc = wal_model_random(&m, &p);
        reached = crash_disk_failed(m.crash);
        if (reached) {
            ck_assert_int_eq(rc, -ERR_IO);
            ck_assert_int_eq(wal_model_vote(&m, m.now.sum.hard_state.term + 1, 1), -ERR_IO);
            ck_assert_int_eq(wal_model_sync(&m), -ERR_IO);
        }
        wal_model_close(&m);
        crash_disk_power_cut(m.crash, m.dir, &cut, true);
        expect_recovery(&m, "after sync", n);
        wal_model_deinit(&m);
    }
}
END_TEST

/* F1, F4, F8: the power goes at the n-th operation, for every n, then again during recovery; what
 * was promised is there each time. */
START_TEST(power_cut_at_every_call)
{
    static struct wal_model m;
    bool reached = true;
    struct prng cut;

    prng_init(&cut, 1000 + (uint64_t)_i);
    for (unsigned n = 1; reached; n++) {
        struct prng p;
        int rc = 0;

        prng_init(&p, (uint64_t)_i);
        wal_model_init(&m, SEGMENT, true);
        expect_recovery(&m, "first start", n);
        crash_disk_fail(m.crash, n, EIO, true, (unsigned)prng_below(&cut, 257));
        for (int i = 0; i < OPERATIONS && rc == 0; i++)
            rc = wal_model_random(&m, &p);
        reached = crash_disk_failed(m.crash);
        wal_model_close(&m);
        crash_disk_power_cut(m.crash, m.dir, &cut, _i % 2 == 0);

        crash_disk_fail(m.crash, (unsigned)prng_range(&cut, 1, 8), EIO, true, 128);
        rc = wal_model_open(&m, NULL); /* dies while it starts */
        if (rc == 0)
            (void)wal_model_check(&m); /* it came through: go on from there */
        wal_model_close(&m);
        crash_disk_power_cut(m.crash, m.dir, &cut, _i % 2 == 0);
        expect_recovery(&m, "after call", n);
        wal_model_deinit(&m);
    }
}
END_TEST

/* The process alone dies: its writes are there, synced or not. */
START_TEST(kill_at_every_call)
{
    static struct wal_model m;
    bool reached = true;

    for (unsigned n = 1; reached; n++) {
        struct prng p;
        int rc = 0;

        prng_init(&p, 3);
        wal_model_init(&m, SEGMENT, true);
        expect_recovery(&m, "first start", n);
        crash_disk_fail(m.crash, n, EIO, true, n * 37 % 257);
        for (int i = 0; i < OPERATIONS && rc == 0; i++)
            rc = wal_model_random(&m, &p);
        reached = crash_disk_failed(m.crash);
        wal_model_close(&m);
        crash_disk_fail(m.crash, 0, 0, false, 0);
        expect_recovery(&m, "after call", n);
        wal_model_deinit(&m);
    }
}
END_TEST

/* Starts that die of a failed sync of the directory, one after another, before the power goes: the
 * names of their segments may be lost and kept in any combination, but never so that a gap hides
 * what was promised before it. */
START_TEST(failed_starts_leave_no_gap)
{
    static struct wal_model m;

    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct prng p, cut;

        prng_init(&p, seed);
        prng_init(&cut, 1000 + seed);
        wal_model_init(&m, SEGMENT, true);
        expect_recovery(&m, "first start", (unsigned)seed);
        for (int i = 0; i < 8; i++)
            ck_assert_int_eq(wal_model_random(&m, &p), 0);
        wal_model_close(&m);
        for (int i = 0; i < 3; i++) {
            crash_disk_fail_op(m.crash, DISK_SYNC_DIR, 1 + (unsigned)prng_below(&cut, 2), EIO,
                               false);
            if (wal_model_open(&m, NULL) == 0)
                ck_assert_ptr_null(wal_model_check(&m));
            wal_model_close(&m);
        }
        crash_disk_power_cut(m.crash, m.dir, &cut, true);
        expect_recovery(&m, "after failed starts", (unsigned)seed);
        wal_model_deinit(&m);
    }
}
END_TEST

int main(void)
{
    const char *more = getenv("SKEP_CRASH_SEEDS");
    Suite *s = suite_create("wal_open");
    TCase *tc = tcase_create("wal_open");
    SRunner *r;

    tcase_set_timeout(tc, 600);
    tcase_add_test(tc, no_space_at_every_call);
    tcase_add_test(tc, failed_sync_is_final);
    tcase_add_loop_test(tc, power_cut_at_every_call, 0,
                        more != NULL ? (int)strtol(more, NULL, 10) : 4);
    tcase_add_test(tc, kill_at_every_call);
    tcase_add_test(tc, failed_starts_leave_no_gap);
    suite_add_tcase(s, tc);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
