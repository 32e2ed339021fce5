#include <check.h>
#include <stdlib.h>

#include "managerd/raft/internal.h"

enum { INFLIGHT = 3, BYTES_MAX = 100 };

static struct raft_progress make(enum raft_progress_state state, uint64_t match, uint64_t next)
{
    struct raft_progress p;

    raft_progress_init(&p, 2, INFLIGHT);
    p.match_index = match;
    switch (state) {
    case RAFT_PROBE:
        raft_progress_probe(&p, next);
        break;
    case RAFT_REPLICATE:
        raft_progress_replicate(&p);
        p.next_index = next;
        break;
    case RAFT_SENDING_SNAPSHOT:
        p.next_index = next;
        raft_progress_send_snapshot(&p, 20);
        break;
    }
    return p;
}

static const struct reject_case {
    const char *why;
    enum raft_progress_state state;
    uint64_t match, next, refused, hint_next;
    bool want;
    uint64_t want_next;
    enum raft_progress_state want_state;
} reject_cases[] = {
    { "a probe goes where the hint says", RAFT_PROBE, 0, 10, 9, 5, true, 5, RAFT_PROBE },
    { "never to what was acknowledged", RAFT_PROBE, 6, 10, 9, 3, true, 7, RAFT_PROBE },
    { "never forward, whatever the hint", RAFT_PROBE, 0, 10, 9, 30, true, 9, RAFT_PROBE },
    { "the answer to an earlier probe", RAFT_PROBE, 0, 10, 7, 5, false, 10, RAFT_PROBE },
    { "at the very beginning", RAFT_PROBE, 0, 1, 0, 1, true, 1, RAFT_PROBE },
    { "the pipeline broke", RAFT_REPLICATE, 5, 10, 8, 7, true, 6, RAFT_PROBE },
    { "acknowledged since: late", RAFT_REPLICATE, 5, 10, 5, 3, false, 10, RAFT_REPLICATE },
    { "a snapshot is on its way", RAFT_SENDING_SNAPSHOT, 5, 6, 5, 1, false, 6,
      RAFT_SENDING_SNAPSHOT },
};

START_TEST(rejected)
{
    const struct reject_case *c = &reject_cases[_i];
    struct raft_progress p = make(c->state, c->match, c->next);

    ck_assert_msg(raft_progress_rejected(&p, c->refused, c->hint_next) == c->want, "%s", c->why);
    ck_assert_msg(p.next_index == c->want_next, "%s", c->why);
    ck_assert_msg(p.state == c->want_state, "%s", c->why);
    raft_progress_deinit(&p);
}
END_TEST

static const struct ack_case {
    const char *why;
    uint64_t match, next, index;
    bool want;
    uint64_t want_match, want_next;
} ack_cases[] = {
    { "news", 5, 10, 7, true, 7, 10 },
    { "beyond what was sent by this pipeline", 5, 6, 9, true, 9, 10 },
    { "late", 5, 10, 4, false, 5, 10 },
    { "again", 5, 10, 5, false, 5, 10 },
};

START_TEST(acked)
{
    const struct ack_case *c = &ack_cases[_i];
    struct raft_progress p = make(RAFT_REPLICATE, c->match, c->next);

    ck_assert_msg(raft_progress_acked(&p, c->index) == c->want, "%s", c->why);
    ck_assert_msg(p.match_index == c->want_match, "%s", c->why);
    ck_assert_msg(p.next_index == c->want_next, "%s", c->why);
    raft_progress_deinit(&p);
}
END_TEST

/* One probe at a time: the next one waits for an answer. */
START_TEST(a_probe_pauses)
{
    struct raft_progress p = make(RAFT_PROBE, 0, 5);

    ck_assert(raft_progress_ready(&p, BYTES_MAX));
    raft_progress_sent(&p, 6, 64);
    ck_assert(!raft_progress_ready(&p, BYTES_MAX));
    ck_assert_uint_eq(p.next_index, 5); /* not optimistic */
    ck_assert(raft_progress_rejected(&p, 4, 3));
    ck_assert(raft_progress_ready(&p, BYTES_MAX));
    raft_progress_deinit(&p);
}
END_TEST

START_TEST(the_pipeline_is_limited_by_messages)
{
    struct raft_progress p = make(RAFT_REPLICATE, 0, 1);

    for (uint64_t i = 1; i <= INFLIGHT; i++) {
        ck_assert(raft_progress_ready(&p, BYTES_MAX));
        raft_progress_sent(&p, i, 10);
    }
    ck_assert(!raft_progress_ready(&p, BYTES_MAX));
    ck_assert_uint_eq(p.next_index, INFLIGHT + 1);
    ck_assert_uint_eq(p.inflight_bytes, 30);
    ck_assert(raft_progress_acked(&p, 2)); /* acknowledges both messages before it */
    ck_assert_uint_eq(p.inflight_count, 1);
    ck_assert_uint_eq(p.inflight_bytes, 10);
    ck_assert(raft_progress_ready(&p, BYTES_MAX));
    raft_progress_deinit(&p);
}
END_TEST

START_TEST(the_pipeline_is_limited_by_bytes)
{
    struct raft_progress p = make(RAFT_REPLICATE, 0, 1);

    raft_progress_sent(&p, 1, BYTES_MAX);
    ck_assert(!raft_progress_ready(&p, BYTES_MAX));
    raft_progress_free_oldest(&p);
    ck_assert(raft_progress_ready(&p, BYTES_MAX));
    ck_assert_uint_eq(p.inflight_bytes, 0);
    raft_progress_deinit(&p);
}
END_TEST

/* The ring wraps without mixing up bytes. */
START_TEST(the_ring_wraps)
{
    struct raft_progress p = make(RAFT_REPLICATE, 0, 1);

    for (uint64_t i = 1; i <= 100; i++) {
        raft_progress_sent(&p, i, i);
        if (i >= 2)
            ck_assert(raft_progress_acked(&p, i - 1));
        ck_assert_uint_eq(p.inflight_bytes, i);
    }
    raft_progress_deinit(&p);
}
END_TEST

START_TEST(a_new_incarnation_starts_over)
{
    struct raft_progress p = make(RAFT_REPLICATE, 9, 12);

    p.fence_order = true;
    p.round_acked = 7;
    raft_progress_reset(&p, 77, 15);
    ck_assert_uint_eq(p.incarnation, 77);
    ck_assert_uint_eq(p.match_index, 0);
    ck_assert_uint_eq(p.next_index, 15);
    ck_assert_uint_eq(p.round_acked, 0);
    ck_assert(!p.fence_order);
    ck_assert_int_eq(p.state, RAFT_PROBE);
    raft_progress_deinit(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_progress");
    TCase *tc = tcase_create("progress");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_loop_test(tc, rejected, 0, (int)ARRAY_LEN(reject_cases));
    tcase_add_loop_test(tc, acked, 0, (int)ARRAY_LEN(ack_cases));
    tcase_add_test(tc, a_probe_pauses);
    tcase_add_test(tc, the_pipeline_is_limited_by_messages);
    tcase_add_test(tc, the_pipeline_is_limited_by_bytes);
    tcase_add_test(tc, the_ring_wraps);
    tcase_add_test(tc, a_new_incarnation_starts_over);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
