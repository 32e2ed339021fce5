#include "agentd/worker/session.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"

static struct session s;
static struct session_effects fx;
static struct prng prng;
static uint64_t now_ms;

static void setup(void)
{
    memset(&s, 0, sizeof(s));
    prng_init(&prng, 7);
    now_ms = 1000;
}

static void step(struct session_event ev)
{
    ev.now_ms = now_ms;
    ev.prng = &prng;
    ev.session_id = ev.session_id == NULL ? "" : ev.session_id;
    session_step(&s, &ev, &fx);
}

static void managers(size_t count)
{
    static const char *const addresses[] = { "m1:2377", "m2:2377", "m3:2377" };

    step((struct session_event){
        .type = SESSION_EV_MANAGERS, .addresses = addresses, .address_count = count });
}

static void timer(uint64_t after_ms)
{
    now_ms += after_ms;
    step((struct session_event){ .type = SESSION_EV_TIMER });
}

static void done(enum session_call call, int rc)
{
    step((struct session_event){ .type = SESSION_EV_DONE,
                                 .call = call,
                                 .rc = rc,
                                 .session_id = call == SESSION_CALL_OPEN && rc == 0 ? "s1" : "",
                                 .heartbeat_ms = 5000,
                                 .token = 9,
                                 .leader_address = "" });
}

static void go_live(void)
{
    managers(3);
    ck_assert_int_eq(s.phase, SESSION_OPENING);
    ck_assert(fx.start[SESSION_CALL_OPEN] && fx.connect != NULL);
    done(SESSION_CALL_OPEN, 0);
    ck_assert_int_eq(s.phase, SESSION_LIVE);
}

/* The blocking queries start at once, beats and reports at their time, one of each at most. */
START_TEST(live_session_makes_its_calls)
{
    go_live();
    ck_assert(fx.start[SESSION_CALL_ASSIGNMENTS] && fx.start[SESSION_CALL_LOGS]);
    ck_assert(!fx.start[SESSION_CALL_BEAT] && !fx.start[SESSION_CALL_REPORT]);
    ck_assert_uint_eq(fx.timer_at_ms, now_ms + SESSION_COALESCE_MS);
    timer(SESSION_COALESCE_MS);
    ck_assert(fx.start[SESSION_CALL_REPORT]); /* what happened before the session */
    ck_assert_uint_eq(fx.timer_at_ms, now_ms - SESSION_COALESCE_MS + 5000);
    step((struct session_event){ .type = SESSION_EV_REPORTS });
    timer(SESSION_COALESCE_MS);
    ck_assert(!fx.start[SESSION_CALL_REPORT]); /* one is in flight */
    done(SESSION_CALL_REPORT, 0);
    ck_assert(fx.start[SESSION_CALL_REPORT]); /* and the next is overdue */
    timer(5000);
    ck_assert(fx.start[SESSION_CALL_BEAT]);
    timer(5000);
    ck_assert(!fx.start[SESSION_CALL_BEAT]);
    done(SESSION_CALL_ASSIGNMENTS, 0);
    ck_assert(fx.start[SESSION_CALL_ASSIGNMENTS]);
    ck_assert_uint_eq(s.assignments_token, 9);
}
END_TEST

/* NETWORKS is asked for by nodes that can do them, and asked again with the token at once: that is
 * what says that the answer is in the kernel. */
START_TEST(networks_are_asked_for_again_at_once)
{
    go_live();
    ck_assert(!fx.start[SESSION_CALL_NETWORKS]);
    done(SESSION_CALL_ASSIGNMENTS, -ERR_STALE);
    s.networks = true;
    timer(8000);
    done(SESSION_CALL_OPEN, 0);
    ck_assert(fx.start[SESSION_CALL_NETWORKS]);
    ck_assert_uint_eq(s.networks_token, 0);
    done(SESSION_CALL_NETWORKS, 0);
    ck_assert(fx.start[SESSION_CALL_NETWORKS]);
    ck_assert_uint_eq(s.networks_token, 9);
    done(SESSION_CALL_NETWORKS, -ERR_STALE);
    ck_assert_uint_eq(s.networks_token, 0); /* the next session begins with everything */
}
END_TEST

/* Managers from before networks do not know the call: no networks, and all else goes on. */
START_TEST(older_managers_have_no_networks)
{
    s.networks = true;
    go_live();
    done(SESSION_CALL_NETWORKS, -ERR_UNSUPPORTED);
    ck_assert_int_eq(s.phase, SESSION_LIVE);
    for (unsigned i = 0; i < 10; i++) {
        timer(SESSION_RETRY_MS);
        ck_assert(!fx.start[SESSION_CALL_NETWORKS]);
    }
}
END_TEST

START_TEST(changed_description_beats_at_once)
{
    go_live();
    step((struct session_event){ .type = SESSION_EV_DESCRIBE });
    ck_assert(fx.start[SESSION_CALL_BEAT]);
    step((struct session_event){ .type = SESSION_EV_DESCRIBE });
    ck_assert(!fx.start[SESSION_CALL_BEAT]);
    done(SESSION_CALL_BEAT, 0);
    ck_assert(fx.start[SESSION_CALL_BEAT]); /* it changed once more meanwhile */
    done(SESSION_CALL_BEAT, 0);
    ck_assert(!fx.start[SESSION_CALL_BEAT]);
}
END_TEST

/* What the end of a call means for the session. */
static const struct end_case {
    const char *why;
    enum session_call call;
    int rc;
    enum session_phase want;
} ends[] = {
    { "a lost beat", SESSION_CALL_BEAT, -ERR_TIMEOUT, SESSION_WAIT },
    { "a refused beat", SESSION_CALL_BEAT, -ERR_INTERNAL, SESSION_WAIT },
    { "session unknown", SESSION_CALL_ASSIGNMENTS, -ERR_STALE, SESSION_WAIT },
    { "connection lost", SESSION_CALL_ASSIGNMENTS, -ERR_UNAVAILABLE, SESSION_WAIT },
    { "manager busy", SESSION_CALL_ASSIGNMENTS, -ERR_BUSY, SESSION_LIVE },
    { "too many reports", SESSION_CALL_REPORT, -ERR_BUSY, SESSION_LIVE },
    { "report lost", SESSION_CALL_REPORT, -ERR_TIMEOUT, SESSION_WAIT },
    { "no logs there", SESSION_CALL_LOGS, -ERR_UNSUPPORTED, SESSION_LIVE },
    { "log query lost", SESSION_CALL_LOGS, -ERR_TIMEOUT, SESSION_LIVE },
    { "logs of an old session", SESSION_CALL_LOGS, -ERR_STALE, SESSION_WAIT },
    { "networks of an old session", SESSION_CALL_NETWORKS, -ERR_STALE, SESSION_WAIT },
    { "network query lost", SESSION_CALL_NETWORKS, -ERR_TIMEOUT, SESSION_WAIT },
    { "networks busy", SESSION_CALL_NETWORKS, -ERR_BUSY, SESSION_LIVE },
    { "removed from the cluster", SESSION_CALL_BEAT, -ERR_PERMISSION, SESSION_WAIT },
};

START_TEST(errors_end_the_session_or_the_call)
{
    const struct end_case *c = &ends[_i];

    go_live();
    s.in_flight[c->call] = true;
    done(c->call, c->rc);
    ck_assert_msg(s.phase == c->want, "%s: phase %d", c->why, (int)s.phase);
    ck_assert_msg(fx.drop == (c->want != SESSION_LIVE), "%s", c->why);
    if (c->want == SESSION_LIVE) {
        ck_assert(!fx.start[c->call]);
        timer(SESSION_RETRY_MS);
        ck_assert_msg(fx.start[c->call], "%s: tried again", c->why);
    }
}
END_TEST

/* An answer that comes after the connection was dropped changes nothing. */
START_TEST(late_answers_are_ignored)
{
    go_live();
    done(SESSION_CALL_ASSIGNMENTS, -ERR_STALE);
    done(SESSION_CALL_LOGS, -ERR_STALE);
    ck_assert_int_eq(s.phase, SESSION_WAIT);
    ck_assert_uint_eq(s.backoff_ms, SESSION_BACKOFF_MS_FIRST);
    done(SESSION_CALL_OPEN, 0);
    ck_assert_int_eq(s.phase, SESSION_WAIT);
}
END_TEST

/* features.md §3.10: (100 ms + 2 x previous), at most 8 s, a random fraction of it; another manager
 * every time; back to the start after a success. */
START_TEST(backs_off_and_changes_manager)
{
    static const uint32_t want_ms[] = { 100, 300, 700, 1500, 3100, 6300, 8000, 8000 };

    managers(3);
    for (size_t i = 0; i < ARRAY_LEN(want_ms); i++) {
        char last[SESSION_ADDRESS_BYTES_MAX];

        memcpy(last, s.address, sizeof(last));
        done(SESSION_CALL_OPEN, -ERR_UNAVAILABLE);
        ck_assert_uint_eq(s.backoff_ms, want_ms[i]);
        ck_assert_uint_le(s.wait_until_ms, now_ms + want_ms[i]);
        if (s.phase == SESSION_WAIT)
            timer(s.wait_until_ms - now_ms);
        ck_assert_int_eq(s.phase, SESSION_OPENING);
        ck_assert_str_ne(last, s.address);
    }
    done(SESSION_CALL_OPEN, 0);
    done(SESSION_CALL_BEAT, 0);
    ck_assert_uint_eq(s.backoff_ms, 0);
}
END_TEST

START_TEST(one_manager_is_tried_again)
{
    managers(1);
    done(SESSION_CALL_OPEN, -ERR_UNAVAILABLE);
    timer(8000);
    ck_assert_str_eq(s.address, "m1:2377");
    ck_assert_int_eq(s.phase, SESSION_OPENING);
}
END_TEST

/* A follower names the leader: there at once, but not in circles. */
START_TEST(follows_the_leader)
{
    go_live();
    step((struct session_event){ .type = SESSION_EV_DONE,
                                 .call = SESSION_CALL_ASSIGNMENTS,
                                 .rc = -ERR_NOT_LEADER,
                                 .leader_address = "new:2377" });
    ck_assert(fx.drop && fx.start[SESSION_CALL_OPEN]);
    ck_assert_str_eq(fx.connect, "new:2377");
    for (unsigned i = 1; i < SESSION_REDIRECTS_MAX; i++) {
        step((struct session_event){ .type = SESSION_EV_DONE,
                                     .call = SESSION_CALL_OPEN,
                                     .rc = -ERR_NOT_LEADER,
                                     .leader_address = "x:1" });
        ck_assert_str_eq(fx.connect, "x:1");
    }
    step((struct session_event){ .type = SESSION_EV_DONE,
                                 .call = SESSION_CALL_OPEN,
                                 .rc = -ERR_NOT_LEADER,
                                 .leader_address = "x:1" });
    ck_assert_uint_eq(s.backoff_ms, SESSION_BACKOFF_MS_FIRST);
}
END_TEST

START_TEST(leader_unknown_backs_off)
{
    go_live();
    done(SESSION_CALL_BEAT, 0); /* ignored: not in flight */
    s.in_flight[SESSION_CALL_BEAT] = true;
    done(SESSION_CALL_BEAT, -ERR_NOT_LEADER);
    ck_assert(fx.drop);
    ck_assert_uint_eq(s.backoff_ms, SESSION_BACKOFF_MS_FIRST);
}
END_TEST

/* Managers that answered are preferred, and an empty list never replaces a good one. */
START_TEST(weights_prefer_who_answered)
{
    unsigned good = 0;

    managers(2);
    s.managers[0].weight = SESSION_WEIGHT_MAX;
    s.managers[1].weight = 1;
    for (unsigned i = 0; i < 200; i++) {
        step((struct session_event){ .type = SESSION_EV_STOP });
        ck_assert_int_eq(s.phase, SESSION_IDLE);
        managers(2);
        s.managers[0].weight = SESSION_WEIGHT_MAX;
        s.managers[1].weight = 1;
        s.backoff_ms = 0;
        s.phase = SESSION_WAIT;
        timer(1);
        good += strcmp(s.address, "m1:2377") == 0;
    }
    ck_assert_uint_gt(good, 180);
    managers(0);
    ck_assert_uint_eq(s.manager_count, 2);
}
END_TEST

static void opened_by_generation(uint64_t generation)
{
    step((struct session_event){ .type = SESSION_EV_DONE,
                                 .call = SESSION_CALL_OPEN,
                                 .session_id = "s1",
                                 .generation = generation,
                                 .leader_address = "" });
}

/* F20: after --force-new-cluster a manager of the old generation, still alive, is not obeyed. */
START_TEST(never_goes_back_a_generation)
{
    static const char *const one[] = { "m1:2377" };

    step((struct session_event){ .type = SESSION_EV_MANAGERS,
                                 .addresses = one,
                                 .address_count = 1,
                                 .generation = 2 }); /* remembered by the file */
    opened_by_generation(1);
    ck_assert_int_eq(s.phase, SESSION_WAIT);
    ck_assert(fx.drop && !fx.start[SESSION_CALL_ASSIGNMENTS]);
    timer(8000);
    opened_by_generation(3);
    ck_assert_int_eq(s.phase, SESSION_LIVE);
    done(SESSION_CALL_ASSIGNMENTS, -ERR_UNAVAILABLE);
    timer(8000);
    opened_by_generation(2);
    ck_assert_int_eq(s.phase, SESSION_WAIT);
    step((struct session_event){ .type =
                                     SESSION_EV_STOP }); /* leaves: another cluster counts anew */
    managers(1);
    opened_by_generation(1);
    ck_assert_int_eq(s.phase, SESSION_LIVE);
}
END_TEST

START_TEST(stop_drops_everything)
{
    go_live();
    step((struct session_event){ .type = SESSION_EV_STOP });
    ck_assert(fx.drop);
    ck_assert_int_eq(s.phase, SESSION_IDLE);
    ck_assert_uint_eq(fx.timer_at_ms, 0);
    timer(100000);
    ck_assert_int_eq(s.phase, SESSION_IDLE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("agent session");
    TCase *tc = tcase_create("session");
    SRunner *sr;
    int failed;

    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, live_session_makes_its_calls);
    tcase_add_test(tc, networks_are_asked_for_again_at_once);
    tcase_add_test(tc, older_managers_have_no_networks);
    tcase_add_test(tc, changed_description_beats_at_once);
    tcase_add_loop_test(tc, errors_end_the_session_or_the_call, 0, (int)ARRAY_LEN(ends));
    tcase_add_test(tc, late_answers_are_ignored);
    tcase_add_test(tc, backs_off_and_changes_manager);
    tcase_add_test(tc, one_manager_is_tried_again);
    tcase_add_test(tc, follows_the_leader);
    tcase_add_test(tc, leader_unknown_backs_off);
    tcase_add_test(tc, weights_prefer_who_answered);
    tcase_add_test(tc, never_goes_back_a_generation);
    tcase_add_test(tc, stop_drops_everything);
    suite_add_tcase(suite, tc);
    sr = srunner_create(suite);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
