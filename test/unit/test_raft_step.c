#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "managerd/raft/codec.h"
#include "managerd/raft/internal.h"

static struct raft_member member(uint64_t id)
{
    struct raft_member m = { .raft_id = id, .node_id = id_from_str("a000000000000000000000001") };

    (void)snprintf(m.address, sizeof(m.address), "10.0.0.%u:2377", (unsigned)id);
    return m;
}

static struct raft *new_raft(uint64_t uncommitted_bytes_max)
{
    struct raft_options o;

    raft_options_default(&o);
    o.raft_id = 1;
    o.uncommitted_bytes_max = uncommitted_bytes_max;
    return raft_new(&o);
}

static int step(struct raft *r, struct raft_event ev, struct raft_effects *fx)
{
    int rc;

    ev.now_ms = MAX(ev.now_ms, MAX(r->now_ms, (uint64_t)1000));
    rc = raft_step(r, &ev, fx);
    if (r->started)
        ck_assert_ptr_null(raft_invariants(r, true));
    return rc;
}

static int persisted(struct raft *r, struct raft_effects *fx)
{
    struct raft_event ev = { .type = RAFT_EV_PERSISTED, .persisted_seq = r->write_seq };

    return step(r, ev, fx);
}

/* ---- START ----------------------------------------------------------------------------------- */

static const struct start_case {
    const char *why;
    uint64_t hard_term;
    uint64_t snapshot_index, snapshot_term; /* 0: none */
    uint64_t first;                         /* index of the first entry */
    const char *terms;                      /* of the entries, as digits */
    int want;
    uint64_t want_last, want_base;
    bool want_drop;
} start_cases[] = {
    { "an empty disk", 0, 0, 0, 0, "", 0, 0, 0, false },
    { "a log from the beginning", 3, 0, 0, 1, "1233", 0, 4, 0, false },
    { "a snapshot alone", 3, 10, 3, 0, "", 0, 10, 10, false },
    { "the log follows the snapshot", 3, 10, 2, 11, "23", 0, 12, 10, false },
    { "the log overlaps: its tail is kept", 3, 10, 2, 8, "1223", 0, 11, 8, false },
    { "the log begins at 1 and overlaps", 3, 2, 1, 1, "112", 0, 3, 0, false },
    { "the log ends with the snapshot", 3, 10, 2, 9, "12", 0, 10, 9, false },
    { "the log ends before it", 3, 10, 2, 5, "1122", 0, 10, 10, true },
    { "the log holds other entries there", 3, 10, 2, 9, "1111", 0, 10, 10, true },
    { "the snapshot's term was never written", 1, 10, 2, 0, "", 0, 10, 10, false },
    { "a hole between snapshot and log", 3, 10, 2, 12, "3", -ERR_CORRUPT, 0, 0, false },
    { "a log that begins nowhere", 3, 0, 0, 2, "3", -ERR_CORRUPT, 0, 0, false },
    { "terms go back", 3, 0, 0, 1, "132", -ERR_CORRUPT, 0, 0, false },
    { "term 0", 3, 0, 0, 1, "0", -ERR_CORRUPT, 0, 0, false },
    { "an entry of a term never entered", 2, 0, 0, 1, "123", -ERR_CORRUPT, 0, 0, false },
    { "a term out of range", UINT64_MAX, 0, 0, 0, "", -ERR_CORRUPT, 0, 0, false },
};

START_TEST(start_takes_what_the_disk_holds)
{
    const struct start_case *c = &start_cases[_i];
    struct raft_snapshot_meta s = { .index = c->snapshot_index, .term = c->snapshot_term };
    struct raft_entry entries[8];
    struct raft_event ev = { .type = RAFT_EV_START };
    struct raft *r = new_raft(1000);
    struct raft_effects fx;
    int rc;

    s.config = (struct raft_config){ .member_count = 2, .members = { member(1), member(2) } };
    ev.start.hard_state.term = c->hard_term;
    ev.start.snapshot = c->snapshot_index > 0 ? &s : NULL;
    ev.start.entries = entries;
    for (; c->terms[ev.start.entry_count] != '\0'; ev.start.entry_count++)
        entries[ev.start.entry_count] =
            (struct raft_entry){ .index = c->first + ev.start.entry_count,
                                 .term = (uint64_t)(c->terms[ev.start.entry_count] - '0') };
    rc = step(r, ev, &fx);
    ck_assert_msg(rc == c->want, "%s: %d", c->why, rc);
    if (rc == 0) {
        ck_assert_msg(raft_log_last(&r->log) == c->want_last, "%s", c->why);
        ck_assert_msg(r->log.base_index == c->want_base, "%s", c->why);
        ck_assert_msg(r->log.applied_index == c->snapshot_index, "%s", c->why);
        ck_assert_msg(fx.drop_log == c->want_drop, "%s", c->why);
        ck_assert_msg(fx.hard_state_changed == (c->snapshot_term > c->hard_term), "%s", c->why);
        ck_assert_msg(r->hard.term >= c->snapshot_term, "%s", c->why);
    }
    raft_free(r);
}
END_TEST

/* ---- a lone leader --------------------------------------------------------------------------- */

static struct raft *lone_leader(void)
{
    struct raft *r = new_raft(1000);
    struct raft_member founder = member(1);
    struct raft_event ev = { .type = RAFT_EV_START };
    struct raft_event timeout = { .type = RAFT_EV_TIMEOUT };
    struct raft_entry entry;
    struct raft_effects fx;

    raft_bootstrap(&founder, &entry, &ev.start.hard_state);
    ev.start.entries = &entry;
    ev.start.entry_count = 1;
    ck_assert_int_eq(step(r, ev, &fx), 0);
    raft_data_unref(entry.data);
    ck_assert_uint_eq(fx.timer_at_ms, 1000); /* nobody to wait for */
    ck_assert_int_eq(step(r, timeout, &fx), 0);
    ck_assert_int_eq(fx.state, RAFT_CANDIDATE);
    ck_assert_int_eq(persisted(r, &fx), 0);
    ck_assert_int_eq(fx.state, RAFT_LEADER);
    return r;
}

static int propose(struct raft *r, uint64_t term, size_t count, size_t size,
                   struct raft_effects *fx)
{
    CLEANUP_FREE char *payload = xcalloc(1, size);
    CLEANUP_FREE struct raft_data **data = xcalloc(count, sizeof(*data));
    struct raft_event ev = { .type = RAFT_EV_PROPOSE,
                             .propose = { .term = term, .data = data, .count = count } };
    int rc;

    for (size_t i = 0; i < count; i++)
        data[i] = raft_data_new(payload, size);
    rc = step(r, ev, fx);
    for (size_t i = 0; i < count; i++)
        raft_data_unref(data[i]);
    return rc;
}

/* A cluster of one goes the same way: nothing is committed before the fsync (etcd #14370). */
START_TEST(alone_it_still_waits_for_its_disk)
{
    struct raft *r = lone_leader();
    struct raft_status st;
    struct raft_effects fx;

    raft_status(r, &st);
    ck_assert_uint_eq(st.commit_index, 0);
    ck_assert(!st.established);
    ck_assert_int_eq(persisted(r, &fx), 0);
    ck_assert_uint_eq(fx.apply_count, 2);
    raft_status(r, &st);
    ck_assert(st.established);
    ck_assert_int_eq(propose(r, 2, 3, 10, &fx), 0);
    ck_assert_uint_eq(fx.first_index, 3);
    ck_assert_uint_eq(fx.apply_count, 0);
    ck_assert_int_eq(persisted(r, &fx), 0);
    ck_assert_uint_eq(fx.apply_count, 3);
    raft_free(r);
}
END_TEST

static const struct propose_case {
    const char *why;
    uint64_t term;
    size_t count, size;
    int want;
} propose_cases[] = {
    { "fits", 2, 1, 100, 0 },
    { "computed under an older leadership", 1, 1, 1, -ERR_STALE },
    { "or a newer one", 3, 1, 1, -ERR_STALE },
    { "nothing", 2, 0, 0, -ERR_INVALID },
    { "too many", 2, RAFT_PROPOSE_ENTRIES_MAX + 1, 0, -ERR_TOO_BIG },
    { "a batch that never fits", 2, 2, 600, -ERR_TOO_BIG },
    { "one entry always fits an empty log", 2, 1, 5000, 0 },
};

START_TEST(proposals)
{
    const struct propose_case *c = &propose_cases[_i];
    struct raft *r = lone_leader();
    struct raft_effects fx;

    ck_assert_int_eq(persisted(r, &fx), 0);
    ck_assert_msg(propose(r, c->term, c->count, c->size, &fx) == c->want, "%s", c->why);
    ck_assert_msg((fx.write_seq != 0) == (c->want == 0), "%s", c->why);
    raft_free(r);
}
END_TEST

START_TEST(uncommitted_bytes_are_limited)
{
    struct raft *r = lone_leader();
    struct raft_effects fx;

    ck_assert_int_eq(persisted(r, &fx), 0);
    ck_assert_int_eq(propose(r, 2, 1, 400, &fx), 0);
    ck_assert_int_eq(propose(r, 2, 1, 400, &fx), 0);
    ck_assert_int_eq(propose(r, 2, 1, 400, &fx), -ERR_BUSY);
    ck_assert_int_eq(persisted(r, &fx), 0);
    ck_assert_int_eq(propose(r, 2, 1, 400, &fx), 0);
    raft_free(r);
}
END_TEST

/* A disk that never answers: writes end at their limit, and the rest is refused. */
START_TEST(pending_writes_are_limited)
{
    struct raft *r = lone_leader();
    struct raft_effects fx;
    int rc = 0;

    r->options.uncommitted_bytes_max = 1 << 30;
    for (int i = 0; i < 2 * RAFT_WRITES_MAX && rc == 0; i++)
        rc = propose(r, 2, 1, 1, &fx);
    ck_assert_int_eq(rc, -ERR_BUSY);
    ck_assert_int_eq(persisted(r, &fx), 0);
    ck_assert_int_eq(propose(r, 2, 1, 1, &fx), 0);
    raft_free(r);
}
END_TEST

/* Apply comes in bounded portions, each with the next event. */
START_TEST(apply_is_portioned)
{
    struct raft *r = lone_leader();
    struct raft_event timeout = { .type = RAFT_EV_TIMEOUT };
    struct raft_effects fx;

    r->options.uncommitted_bytes_max = 1 << 30;
    ck_assert_int_eq(propose(r, 2, RAFT_PROPOSE_ENTRIES_MAX, 0, &fx), 0);
    ck_assert_int_eq(propose(r, 2, 10, 0, &fx), 0);
    ck_assert_int_eq(persisted(r, &fx), 0);
    ck_assert_uint_eq(fx.apply_count, RAFT_APPLY_ENTRIES_MAX);
    ck_assert_uint_eq(fx.timer_at_ms, r->now_ms); /* at once */
    ck_assert_int_eq(step(r, timeout, &fx), 0);
    ck_assert_uint_eq(fx.apply_count, 12);
    raft_free(r);
}
END_TEST

/* Payloads are shared, never copied: the pointer that went in comes out everywhere. */
START_TEST(payloads_are_not_copied)
{
    struct raft *r = lone_leader();
    struct raft_data *data = raft_data_new("payload", 7);
    struct raft_event ev = { .type = RAFT_EV_PROPOSE,
                             .propose = { .term = 2, .data = &data, .count = 1 } };
    struct raft_effects fx;

    ck_assert_int_eq(persisted(r, &fx), 0);
    ck_assert_int_eq(step(r, ev, &fx), 0);
    ck_assert_ptr_eq(fx.append[0].data, data);
    ck_assert_uint_eq(data->references, 2);
    ck_assert_int_eq(persisted(r, &fx), 0);
    ck_assert_ptr_eq(fx.apply[0].data, data);
    raft_free(r);
    ck_assert_uint_eq(data->references, 1);
    raft_data_unref(data);
}
END_TEST

/* ---- RECEIVE --------------------------------------------------------------------------------- */

static struct raft *follower(void)
{
    struct raft *r = new_raft(1000);
    struct raft_snapshot_meta s = { .index = 5, .term = 2 };
    struct raft_event ev = { .type = RAFT_EV_START, .start.snapshot = &s };
    struct raft_entry entries[] = { { .index = 6, .term = 2 }, { .index = 7, .term = 3 } };
    struct raft_effects fx;

    s.config = (struct raft_config){ .member_count = 2, .members = { member(1), member(2) } };
    ev.start.hard_state.term = 4;
    ev.start.entries = entries;
    ev.start.entry_count = 2;
    ck_assert_int_eq(step(r, ev, &fx), 0);
    return r;
}

static const struct receive_case {
    const char *why;
    struct raft_message m;
    int want;
} receive_cases[] = {
    { "another generation",
      { .type = RAFT_MSG_HEARTBEAT, .from = 2, .to = 1, .term = 4, .generation = 9 },
      -ERR_STALE },
    { "for somebody else",
      { .type = RAFT_MSG_HEARTBEAT, .from = 2, .to = 3, .term = 4 },
      -ERR_STALE },
    { "from ourselves", { .type = RAFT_MSG_HEARTBEAT, .from = 1, .to = 1, .term = 4 }, -ERR_PROTO },
    { "malformed",
      { .type = RAFT_MSG_HEARTBEAT, .from = 2, .to = 1, .term = 4, .index = 1 },
      -ERR_PROTO },
    { "another leader of the same term",
      { .type = RAFT_MSG_HEARTBEAT, .from = 3, .to = 1, .term = 4 },
      -ERR_PROTO },
    { "a leader of the next term",
      { .type = RAFT_MSG_HEARTBEAT, .from = 3, .to = 1, .term = 5 },
      0 },
    { "an append that contradicts what is committed",
      { .type = RAFT_MSG_APPEND, .from = 2, .to = 1, .term = 4, .index = 5, .log_term = 1 },
      -ERR_PROTO },
    { "an old term",
      { .type = RAFT_MSG_APPEND, .from = 3, .to = 1, .term = 1, .index = 5, .log_term = 1 },
      0 },
};

/* Remote input is refused by a code, and then nothing has changed. */
START_TEST(messages_are_checked)
{
    const struct receive_case *c = &receive_cases[_i];
    struct raft *r = follower();
    struct raft_message leader = { .type = RAFT_MSG_HEARTBEAT, .from = 2, .to = 1, .term = 4 };
    struct raft_event ev = { .type = RAFT_EV_RECEIVE, .message = &leader };
    struct raft_status before, after;
    struct raft_effects fx;

    ck_assert_int_eq(step(r, ev, &fx), 0);
    raft_status(r, &before);
    ev.message = &c->m;
    ck_assert_msg(step(r, ev, &fx) == c->want, "%s", c->why);
    raft_status(r, &after);
    if (c->want < 0) {
        ck_assert_msg(memcmp(&before, &after, sizeof(before)) == 0, "%s", c->why);
        ck_assert_msg(fx.message_count == 0 && fx.write_seq == 0, "%s", c->why);
    }
    raft_free(r);
}
END_TEST

/* An acknowledgement of what the leader never had, or of a round it never began. */
START_TEST(impossible_answers_are_refused)
{
    struct raft *r = lone_leader();
    struct raft_message m = { .type = RAFT_MSG_APPEND_REPLY, .from = 2, .to = 1, .term = 2 };
    struct raft_event ev = { .type = RAFT_EV_RECEIVE, .message = &m };
    struct raft_effects fx;

    m.index = 99;
    ck_assert_int_eq(step(r, ev, &fx), -ERR_PROTO);
    m.index = 1;
    m.round = 99;
    ck_assert_int_eq(step(r, ev, &fx), -ERR_PROTO);
    m.round = 0;
    ck_assert_int_eq(step(r, ev, &fx), 0); /* a stranger: ignored */
    raft_free(r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_step");
    TCase *tc = tcase_create("step");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_loop_test(tc, start_takes_what_the_disk_holds, 0, (int)ARRAY_LEN(start_cases));
    tcase_add_test(tc, alone_it_still_waits_for_its_disk);
    tcase_add_loop_test(tc, proposals, 0, (int)ARRAY_LEN(propose_cases));
    tcase_add_test(tc, uncommitted_bytes_are_limited);
    tcase_add_test(tc, pending_writes_are_limited);
    tcase_add_test(tc, apply_is_portioned);
    tcase_add_test(tc, payloads_are_not_copied);
    tcase_add_loop_test(tc, messages_are_checked, 0, (int)ARRAY_LEN(receive_cases));
    tcase_add_test(tc, impossible_answers_are_refused);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
