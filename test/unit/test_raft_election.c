#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "managerd/raft/internal.h"

/* Three voters 1 to 3 and a learner 4; the node under test is 1. */
static struct raft_snapshot_meta three_voters(uint64_t index, uint64_t term)
{
    struct raft_snapshot_meta s = { .index = index, .term = term, .config.member_count = 4 };

    for (uint32_t i = 0; i < 4; i++) {
        struct raft_member *m = &s.config.members[i];

        m->raft_id = i + 1;
        m->role = i == 3 ? RAFT_LEARNER : RAFT_VOTER;
        m->node_id = id_from_str("a000000000000000000000001");
        (void)snprintf(m->address, sizeof(m->address), "10.0.0.%u:2377", i + 1);
    }
    return s;
}

/* A follower at time 1000 whose log ends in (7, 3). */
static struct raft *make(uint64_t term, uint64_t vote, bool fenced)
{
    struct raft_options o;
    struct raft_snapshot_meta s = three_voters(7, 3);
    struct raft_event ev = { .type = RAFT_EV_START, .now_ms = 1000 };
    struct raft_effects fx;
    struct raft *r;

    raft_options_default(&o);
    o.raft_id = 1;
    r = raft_new(&o);
    ev.start.hard_state = (struct raft_hard_state){ .term = term, .vote = vote, .fenced = fenced };
    ev.start.snapshot = &s;
    ck_assert_int_eq(raft_step(r, &ev, &fx), 0);
    ck_assert_ptr_null(raft_invariants(r, true));
    return r;
}

static void receive(struct raft *r, uint64_t now_ms, struct raft_message m, struct raft_effects *fx)
{
    struct raft_event ev = { .type = RAFT_EV_RECEIVE, .now_ms = now_ms, .message = &m };

    m.to = 1;
    ck_assert_int_eq(raft_step(r, &ev, fx), 0);
    ck_assert_ptr_null(raft_invariants(r, true));
}

static void timeout(struct raft *r, uint64_t now_ms, struct raft_effects *fx)
{
    struct raft_event ev = { .type = RAFT_EV_TIMEOUT, .now_ms = now_ms };

    ck_assert_int_eq(raft_step(r, &ev, fx), 0);
    ck_assert_ptr_null(raft_invariants(r, true));
}

static void persisted(struct raft *r, struct raft_effects *fx)
{
    struct raft_event ev = { .type = RAFT_EV_PERSISTED,
                             .now_ms = r->now_ms,
                             .persisted_seq = r->write_seq };

    ck_assert_int_eq(raft_step(r, &ev, fx), 0);
    ck_assert_ptr_null(raft_invariants(r, true));
}

static const struct vote_case {
    const char *why;
    uint64_t vote; /* ours, in term 5 */
    bool fenced;
    uint64_t term, last_term, last_index;
    enum raft_note want;
} vote_cases[] = {
    { "fresh voter, equal log", 0, false, 5, 3, 7, RAFT_NOTE_VOTE_GRANTED },
    { "the same candidate asks again", 2, false, 5, 3, 7, RAFT_NOTE_VOTE_GRANTED },
    { "voted for another", 3, false, 5, 3, 9, RAFT_NOTE_VOTE_TAKEN },
    { "a new term frees the vote", 3, false, 6, 3, 7, RAFT_NOTE_VOTE_GRANTED },
    { "higher last term beats length", 0, false, 5, 4, 1, RAFT_NOTE_VOTE_GRANTED },
    { "longer log of the same term", 0, false, 5, 3, 8, RAFT_NOTE_VOTE_GRANTED },
    { "lower last term, longer log", 0, false, 5, 2, 9, RAFT_NOTE_VOTE_LOG_TERM },
    { "same last term, shorter log", 0, false, 5, 3, 6, RAFT_NOTE_VOTE_LOG_SHORT },
    { "an empty log", 0, false, 5, 0, 0, RAFT_NOTE_VOTE_LOG_TERM },
    { "an older term", 0, false, 4, 3, 7, RAFT_NOTE_VOTE_TERM },
    { "a fenced member does not vote", 0, true, 5, 3, 7, RAFT_NOTE_VOTE_FENCED },
};

/* §5.2, §5.4.1. The vote leaves only once it is durable. */
START_TEST(vote_compares_logs)
{
    const struct vote_case *c = &vote_cases[_i];
    struct raft *r = make(5, c->vote, c->fenced);
    struct raft_message m = { .type = RAFT_MSG_VOTE,
                              .from = 2,
                              .term = c->term,
                              .index = c->last_index,
                              .log_term = c->last_term };
    bool granted = c->want == RAFT_NOTE_VOTE_GRANTED;
    struct raft_effects fx;

    receive(r, 1000, m, &fx);
    ck_assert_msg(fx.note == c->want, "%s: %s", c->why, raft_note_str(fx.note));
    if (fx.hard_state_changed) {
        ck_assert_msg(fx.message_count == 0, "%s: sent before it was durable", c->why);
        ck_assert_msg(fx.hard_state.vote == (granted ? 2 : 0), "%s", c->why);
        persisted(r, &fx);
    }
    ck_assert_msg(fx.message_count == 1, "%s", c->why);
    ck_assert_msg(fx.messages[0].type == RAFT_MSG_VOTE_REPLY, "%s", c->why);
    ck_assert_msg(fx.messages[0].reject == !granted, "%s", c->why);
    raft_free(r);
}
END_TEST

static const struct pre_vote_case {
    const char *why;
    uint64_t vote, term, last_term, last_index;
    bool want;
} pre_vote_cases[] = {
    { "would get the vote of the next term", 0, 5, 3, 7, true },
    { "our vote of this term does not matter", 3, 5, 3, 7, true },
    { "a candidate of a higher term", 0, 8, 3, 7, true },
    { "one that is behind in terms", 0, 4, 3, 7, false },
    { "a shorter log", 0, 5, 3, 6, false },
};

/* Thesis §9.6: asking changes nothing. */
START_TEST(pre_vote_changes_nothing)
{
    const struct pre_vote_case *c = &pre_vote_cases[_i];
    struct raft *r = make(5, c->vote, false);
    struct raft_message m = { .type = RAFT_MSG_PRE_VOTE,
                              .from = 2,
                              .term = c->term,
                              .index = c->last_index,
                              .log_term = c->last_term };
    struct raft_effects fx;

    receive(r, 1000, m, &fx);
    ck_assert_uint_eq(fx.write_seq, 0);
    ck_assert_uint_eq(fx.term, 5);
    ck_assert_uint_eq(fx.message_count, 1);
    ck_assert_msg(fx.messages[0].reject == !c->want, "%s", c->why);
    ck_assert_uint_eq(fx.messages[0].context, c->term);
    raft_free(r);
}
END_TEST

static const struct sticky_case {
    const char *why;
    enum raft_message_type type;
    uint64_t after_ms; /* of the leader's last word */
    bool transfer;
    bool heard;
} sticky_cases[] = {
    { "a candidate while the leader lives", RAFT_MSG_VOTE, 999, false, false },
    { "a pre-candidate too", RAFT_MSG_PRE_VOTE, 999, false, false },
    { "an election timeout later", RAFT_MSG_VOTE, 1000, false, true },
    { "the leader itself has handed over", RAFT_MSG_VOTE, 10, true, true },
};

/* Thesis §4.2.3: neither the vote nor the term is taken. */
START_TEST(a_live_leader_is_defended)
{
    const struct sticky_case *c = &sticky_cases[_i];
    struct raft *r = make(5, 0, false);
    struct raft_message leader = { .type = RAFT_MSG_HEARTBEAT, .from = 3, .term = 5, .round = 1 };
    struct raft_message m = {
        .type = c->type, .from = 2, .term = 6, .index = 7, .log_term = 3, .flag = c->transfer
    };
    struct raft_effects fx;

    receive(r, 1000, leader, &fx);
    receive(r, 1000 + c->after_ms, m, &fx);
    ck_assert_msg((fx.note != RAFT_NOTE_VOTE_STICKY) == c->heard, "%s", c->why);
    ck_assert_msg(c->heard || (fx.term == 5 && fx.message_count == 0), "%s", c->why);
    raft_free(r);
}
END_TEST

static struct raft_message reply(const struct raft *r, enum raft_message_type type, uint64_t from)
{
    return (struct raft_message){ .type = type,
                                  .from = from,
                                  .term = r->hard.term,
                                  .context = type == RAFT_MSG_PRE_VOTE_REPLY ? r->hard.term : 0 };
}

/* §5.2, thesis §9.6: pre-candidate, candidate, leader; each waits for what it has to. */
START_TEST(a_campaign_step_by_step)
{
    struct raft *r = make(5, 0, false);
    struct raft_effects fx;

    timeout(r, 3000, &fx);
    ck_assert_int_eq(fx.state, RAFT_PRE_CANDIDATE);
    ck_assert_uint_eq(fx.term, 5);
    ck_assert_uint_eq(fx.message_count, 2); /* the other voters, not the learner */
    ck_assert_uint_eq(fx.write_seq, 0);

    receive(r, 3000, reply(r, RAFT_MSG_PRE_VOTE_REPLY, 4), &fx);
    ck_assert_int_eq(fx.state, RAFT_PRE_CANDIDATE); /* a learner's word does not count */
    receive(r, 3000, reply(r, RAFT_MSG_PRE_VOTE_REPLY, 2), &fx);
    ck_assert_int_eq(fx.state, RAFT_CANDIDATE);
    ck_assert_uint_eq(fx.hard_state.term, 6);
    ck_assert_uint_eq(fx.hard_state.vote, 1);
    ck_assert_uint_eq(fx.message_count, 0); /* not before our own vote is durable */

    persisted(r, &fx);
    ck_assert_uint_eq(fx.message_count, 2);
    ck_assert_int_eq(fx.messages[0].type, RAFT_MSG_VOTE);

    receive(r, 3001, reply(r, RAFT_MSG_VOTE_REPLY, 3), &fx);
    ck_assert_int_eq(fx.state, RAFT_LEADER);
    ck_assert_uint_eq(fx.append_count, 1); /* §8: the no-op */
    ck_assert_int_eq(fx.append[0].type, RAFT_ENTRY_NOOP);
    ck_assert_uint_eq(fx.append[0].term, 6);
    raft_free(r);
}
END_TEST

/* Before our own vote is durable nobody has been asked: such answers are invented. */
START_TEST(answers_before_the_question_do_not_count)
{
    struct raft *r = make(5, 0, false);
    struct raft_effects fx;

    timeout(r, 3000, &fx);
    receive(r, 3000, reply(r, RAFT_MSG_PRE_VOTE_REPLY, 2), &fx);
    receive(r, 3000, reply(r, RAFT_MSG_VOTE_REPLY, 2), &fx);
    receive(r, 3000, reply(r, RAFT_MSG_VOTE_REPLY, 3), &fx);
    ck_assert_int_eq(fx.state, RAFT_CANDIDATE);
    persisted(r, &fx);
    ck_assert_int_eq(fx.state, RAFT_CANDIDATE);
    receive(r, 3000, reply(r, RAFT_MSG_VOTE_REPLY, 2), &fx);
    ck_assert_int_eq(fx.state, RAFT_LEADER);
    raft_free(r);
}
END_TEST

START_TEST(a_vote_of_another_incarnation_does_not_count)
{
    struct raft *r = make(5, 0, false);
    struct raft_message m;
    struct raft_effects fx;

    timeout(r, 3000, &fx);
    receive(r, 3000, reply(r, RAFT_MSG_PRE_VOTE_REPLY, 2), &fx);
    persisted(r, &fx);
    m = reply(r, RAFT_MSG_VOTE_REPLY, 2);
    m.incarnation = 77;
    receive(r, 3000, m, &fx);
    ck_assert_int_eq(fx.state, RAFT_CANDIDATE);
    raft_free(r);
}
END_TEST

START_TEST(refusals_of_a_majority_end_the_campaign)
{
    struct raft *r = make(5, 0, false);
    struct raft_message m;
    struct raft_effects fx;

    timeout(r, 3000, &fx);
    for (uint64_t from = 2; from <= 3; from++) {
        ck_assert_int_eq(fx.state, RAFT_PRE_CANDIDATE);
        m = reply(r, RAFT_MSG_PRE_VOTE_REPLY, from);
        m.reject = true;
        receive(r, 3000, m, &fx);
    }
    ck_assert_int_eq(fx.state, RAFT_FOLLOWER);
    ck_assert_uint_eq(fx.term, 5);
    raft_free(r);
}
END_TEST

/* Found by the simulator: a voter with an older term grants the pre-vote, and is still heard. */
START_TEST(a_pre_vote_from_an_older_term_counts)
{
    struct raft *r = make(5, 0, false);
    struct raft_message m;
    struct raft_effects fx;

    timeout(r, 3000, &fx);
    m = reply(r, RAFT_MSG_PRE_VOTE_REPLY, 2);
    m.term = 3;
    receive(r, 3000, m, &fx);
    ck_assert_int_eq(fx.state, RAFT_CANDIDATE);
    raft_free(r);
}
END_TEST

/* Of a cloned member both lives may ask in one term: the vote is the first one's. */
START_TEST(a_vote_is_one_lifes)
{
    struct raft *r = make(5, 0, false);
    struct raft_message m = {
        .type = RAFT_MSG_VOTE, .from = 2, .incarnation = 7, .term = 6, .index = 7, .log_term = 3
    };
    struct raft_effects fx;

    receive(r, 1000, m, &fx);
    ck_assert_int_eq(fx.note, RAFT_NOTE_VOTE_GRANTED);
    persisted(r, &fx);
    receive(r, 1001, m, &fx);
    ck_assert_int_eq(fx.note, RAFT_NOTE_VOTE_GRANTED); /* asked again */
    m.incarnation = 9;
    receive(r, 1002, m, &fx);
    ck_assert_int_eq(fx.note, RAFT_NOTE_VOTE_TAKEN);
    m.term = 7;
    receive(r, 1003, m, &fx);
    ck_assert_int_eq(fx.note, RAFT_NOTE_VOTE_GRANTED);
    raft_free(r);

    /* Whose it was has been forgotten by the next start. */
    r = make(6, 2, false);
    m.term = 6;
    receive(r, 1000, m, &fx);
    ck_assert_int_eq(fx.note, RAFT_NOTE_VOTE_TAKEN);
    raft_free(r);
}
END_TEST

/* The original of a clone that was readmitted in its place: not fenced, and a stranger. It keeps
 * out, and when nobody else can win it needs a majority without itself. */
START_TEST(a_member_does_not_count_another_life_of_itself)
{
    struct raft *r = make(5, 0, false);
    struct raft_effects fx;
    uint64_t now_ms = 1000;

    r->config.members[0].incarnation = 5;
    ck_assert(!raft_is_voter(r));
    for (int i = 0; i < 8; i++) {
        timeout(r, now_ms += 3000, &fx);
        ck_assert_int_eq(fx.state, RAFT_FOLLOWER);
    }
    timeout(r, now_ms += 3000, &fx);
    ck_assert_int_eq(fx.state, RAFT_PRE_CANDIDATE);
    receive(r, now_ms, reply(r, RAFT_MSG_PRE_VOTE_REPLY, 2), &fx);
    ck_assert_int_eq(fx.state, RAFT_PRE_CANDIDATE);
    receive(r, now_ms, reply(r, RAFT_MSG_PRE_VOTE_REPLY, 3), &fx);
    ck_assert_int_eq(fx.state, RAFT_CANDIDATE);
    persisted(r, &fx);
    receive(r, now_ms, reply(r, RAFT_MSG_VOTE_REPLY, 2), &fx);
    ck_assert_int_eq(fx.state, RAFT_CANDIDATE);
    receive(r, now_ms, reply(r, RAFT_MSG_VOTE_REPLY, 3), &fx);
    ck_assert_int_eq(fx.state, RAFT_LEADER);
    ck_assert(!raft_counts(r, 0));
    raft_free(r);
}
END_TEST

START_TEST(a_fenced_member_does_not_campaign)
{
    struct raft *r = make(5, 0, true);
    struct raft_effects fx;

    timeout(r, 9000, &fx);
    ck_assert_int_eq(fx.state, RAFT_FOLLOWER);
    ck_assert_uint_eq(fx.message_count, 0);
    ck_assert_uint_gt(fx.timer_at_ms, 9000);
    raft_free(r);
}
END_TEST

/* §5.2: a candidate that hears of the term's leader gives way. */
START_TEST(a_candidate_gives_way)
{
    struct raft *r = make(5, 0, false);
    struct raft_message m = { .type = RAFT_MSG_HEARTBEAT, .from = 3, .term = 6, .round = 1 };
    struct raft_effects fx;

    timeout(r, 3000, &fx);
    receive(r, 3000, reply(r, RAFT_MSG_PRE_VOTE_REPLY, 2), &fx);
    receive(r, 3000, m, &fx);
    ck_assert_int_eq(fx.state, RAFT_FOLLOWER);
    ck_assert_uint_eq(fx.leader, 3);
    raft_free(r);
}
END_TEST

/* §5.2: timeouts are spread over [1, 2) election timeouts. */
START_TEST(timeouts_are_spread)
{
    uint64_t lowest = UINT64_MAX, highest = 0;
    struct raft *r = make(5, 0, false);

    for (int i = 0; i < 1000; i++) {
        raft_reset_election_timer(r);
        lowest = MIN(lowest, r->election_at_ms - r->now_ms);
        highest = MAX(highest, r->election_at_ms - r->now_ms);
    }
    ck_assert_uint_ge(lowest, 1000);
    ck_assert_uint_lt(lowest, 1020);
    ck_assert_uint_lt(highest, 2000);
    ck_assert_uint_gt(highest, 1980);
    raft_free(r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_election");
    TCase *tc = tcase_create("election");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_loop_test(tc, vote_compares_logs, 0, (int)ARRAY_LEN(vote_cases));
    tcase_add_loop_test(tc, pre_vote_changes_nothing, 0, (int)ARRAY_LEN(pre_vote_cases));
    tcase_add_loop_test(tc, a_live_leader_is_defended, 0, (int)ARRAY_LEN(sticky_cases));
    tcase_add_test(tc, a_campaign_step_by_step);
    tcase_add_test(tc, answers_before_the_question_do_not_count);
    tcase_add_test(tc, a_vote_of_another_incarnation_does_not_count);
    tcase_add_test(tc, refusals_of_a_majority_end_the_campaign);
    tcase_add_test(tc, a_pre_vote_from_an_older_term_counts);
    tcase_add_test(tc, a_vote_is_one_lifes);
    tcase_add_test(tc, a_member_does_not_count_another_life_of_itself);
    tcase_add_test(tc, a_fenced_member_does_not_campaign);
    tcase_add_test(tc, a_candidate_gives_way);
    tcase_add_test(tc, timeouts_are_spread);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
