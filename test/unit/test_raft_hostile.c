#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "managerd/raft/codec.h"
#include "managerd/raft/internal.h"

/* A member gone mad (or its key stolen) says anything that decodes: in plausible and in impossible
 * order, as leader, candidate and follower at once. The node may follow it and may lose its place;
 * it may not crash, contradict itself, or take back what is committed. */

static struct raft_data *config_data;

static struct raft_config make_config(uint32_t voters)
{
    struct raft_config c = { .member_count = 4 };

    for (uint32_t i = 0; i < c.member_count; i++) {
        c.members[i].raft_id = i + 1;
        c.members[i].role = i < voters ? RAFT_VOTER : RAFT_LEARNER;
        c.members[i].node_id = id_from_str("a000000000000000000000001");
        (void)snprintf(c.members[i].address, sizeof(c.members[i].address), "m%u:1", i);
    }
    return c;
}

static void setup(void)
{
    CLEANUP_BUF struct buf b = BUF_INIT(1 << 16);
    struct raft_config c = make_config(3);

    ck_assert_int_eq(raft_config_pack(&c, &b), 0);
    config_data = raft_data_new(b.data, b.size);
}

static void teardown(void)
{
    raft_data_unref(config_data);
}

/* Mostly near what the node has, sometimes far from it. */
static uint64_t near(struct prng *p, uint64_t value, uint64_t spread)
{
    uint64_t around = value > spread ? value - spread : 0;

    if (prng_below(p, 200) == 0)
        return prng_next(p) >> prng_below(p, 64);
    return around + prng_below(p, 2 * spread + 1);
}

static struct raft_entry entries[4];
static bool far_terms; /* also say terms out of reach, and order to fence: both end leaderships */

static void random_entries(const struct raft *r, struct prng *p, struct raft_message *m)
{
    uint64_t term = m->log_term;

    m->entry_count = (size_t)prng_below(p, ARRAY_LEN(entries) + 1);
    m->entries = m->entry_count > 0 ? entries : NULL;
    for (size_t i = 0; i < m->entry_count; i++) {
        uint64_t ours = raft_log_term(&r->log, m->index + 1 + i);

        if (ours > term && ours <= m->term && prng_below(p, 4) != 0)
            term = ours;
        else if (m->term > term)
            term += prng_below(p, MIN(m->term - term, (uint64_t)3) + 1);
        term = MAX(term, (uint64_t)1);
        entries[i] = (struct raft_entry){ .index = m->index + 1 + i,
                                          .term = term,
                                          .type = (enum raft_entry_type)prng_below(p, 3) };
        if (entries[i].type == RAFT_ENTRY_CONFIG)
            entries[i].data = config_data;
    }
}

static uint64_t random_term(const struct raft *r, struct prng *p)
{
    if (far_terms)
        return near(p, r->hard.term, 1);
    return prng_below(p, 8) == 0 ? near(p, r->hard.term, 1) % 1000000 : r->hard.term;
}

/* One who campaigns or leads is answered more often than told. */
static enum raft_message_type random_type(const struct raft *r, struct prng *p)
{
    static const enum raft_message_type answers[] = { RAFT_MSG_PRE_VOTE_REPLY, RAFT_MSG_VOTE_REPLY,
                                                      RAFT_MSG_APPEND_REPLY,
                                                      RAFT_MSG_HEARTBEAT_REPLY };

    if (r->state != RAFT_FOLLOWER && prng_below(p, 20) != 0)
        return answers[prng_below(p, ARRAY_LEN(answers))];
    return (enum raft_message_type)(1 + prng_below(p, RAFT_MSG_TYPE_MAX));
}

static struct raft_message random_message(const struct raft *r, struct prng *p,
                                          struct raft_snapshot_meta *snapshot)
{
    uint64_t last = raft_log_last(&r->log);
    struct raft_message m = { .type = random_type(r, p),
                              .from = 2 + prng_below(p, 4),
                              .to = 1,
                              .term = random_term(r, p),
                              .incarnation = prng_below(p, 50) == 0 ? prng_below(p, 3) : 0,
                              .reject = prng_below(p, 2) == 0,
                              .flag = far_terms && prng_below(p, 100) == 0,
                              .round = near(p, r->round, 2),
                              .commit = near(p, r->log.commit_index, 3),
                              .index = near(p, last, 4),
                              .hint_index = near(p, last, 4),
                              .context = prng_below(p, 2) == 0 ? r->hard.term : near(p, last, 4) };

    m.log_term = raft_log_term(&r->log, m.index);
    m.hint_term = near(p, r->hard.term, 2);
    switch (m.type) {
    case RAFT_MSG_APPEND:
        random_entries(r, p, &m);
        m.reject = false;
        m.context = m.hint_index = m.hint_term = 0;
        break;
    case RAFT_MSG_SNAPSHOT:
        *snapshot = (struct raft_snapshot_meta){ .index = m.index,
                                                 .term = near(p, m.term, 2),
                                                 .config = make_config(3) };
        m = (struct raft_message){
            .type = m.type, .from = m.from, .to = 1, .term = m.term, .snapshot = snapshot
        };
        break;
    case RAFT_MSG_PRE_VOTE:
    case RAFT_MSG_VOTE:
        m.commit = m.round = m.context = m.hint_index = m.hint_term = 0;
        m.reject = false;
        break;
    case RAFT_MSG_APPEND_REPLY:
        m.log_term = m.commit = 0;
        m.flag = false;
        break;
    case RAFT_MSG_HEARTBEAT:
        m.index = m.log_term = m.context = m.hint_index = m.hint_term = 0;
        m.reject = false;
        break;
    case RAFT_MSG_HEARTBEAT_REPLY:
        m.log_term = m.commit = m.context = m.hint_term = 0;
        m.reject = m.flag = false;
        break;
    case RAFT_MSG_READ_REPLY:
        m.log_term = m.commit = m.round = m.hint_index = m.hint_term = 0;
        m.flag = false;
        break;
    case RAFT_MSG_PRE_VOTE_REPLY:
    case RAFT_MSG_VOTE_REPLY:
    case RAFT_MSG_TIMEOUT_NOW:
    case RAFT_MSG_READ:
        m = (struct raft_message){ .type = m.type,
                                   .from = m.from,
                                   .to = 1,
                                   .term = m.term,
                                   .reject = m.reject,
                                   .context = m.context };
        if (m.type != RAFT_MSG_PRE_VOTE_REPLY && m.type != RAFT_MSG_VOTE_REPLY)
            m.reject = false;
        if (m.type != RAFT_MSG_PRE_VOTE_REPLY && m.type != RAFT_MSG_READ)
            m.context = 0;
        break;
    }
    return m;
}

static struct raft *make(uint64_t seed)
{
    struct raft_options o;
    struct raft_event ev = { .type = RAFT_EV_START, .now_ms = 1000 };
    struct raft_entry first = {
        .index = 1, .term = 1, .type = RAFT_ENTRY_CONFIG, .data = config_data
    };
    struct raft_effects fx;
    struct raft *r;

    raft_options_default(&o);
    o.raft_id = 1;
    o.seed = seed;
    o.tail_entries = 2;
    o.message_bytes_max = 100;
    o.inflight_messages_max = 2;
    r = raft_new(&o);
    ev.start.hard_state.term = 1;
    ev.start.entries = &first;
    ev.start.entry_count = 1;
    ck_assert_int_eq(raft_step(r, &ev, &fx), 0);
    return r;
}

static struct raft_event random_event(const struct raft *r, struct prng *p, struct raft_message *m,
                                      struct raft_data **data)
{
    struct raft_event ev = { .type = RAFT_EV_RECEIVE, .message = m };

    switch (prng_below(p, 24)) {
    case 0:
    case 1:
        ev.type = RAFT_EV_TIMEOUT;
        break;
    case 2:
    case 3:
    case 4:
        ev.type = RAFT_EV_PERSISTED;
        ev.persisted_seq = r->durable_seq + prng_below(p, r->write_seq - r->durable_seq + 1);
        break;
    case 5:
        ev.type = RAFT_EV_PROPOSE;
        ev.propose.term = r->hard.term;
        ev.propose.data = data;
        ev.propose.count = 1;
        break;
    case 6:
        ev.type = RAFT_EV_READ_INDEX;
        ev.read_id = prng_next(p);
        break;
    case 7:
        ev.type = RAFT_EV_SNAPSHOT_TAKEN;
        ev.snapshot_index = r->log.applied_index;
        break;
    case 8:
        ev.type = prng_below(p, 2) == 0 ? RAFT_EV_SNAPSHOT_SENT : RAFT_EV_UNREACHABLE;
        ev.peer.raft_id = 2 + prng_below(p, 3);
        ev.peer.snapshot_index = r->log.snapshot.index;
        break;
    case 9:
        ev.type = RAFT_EV_CONFIG_CHANGE;
        ev.change.change = (enum raft_change)prng_below(p, 6);
        ev.change.raft_id = 1 + prng_below(p, 5);
        ev.change.node_id = id_from_str("a000000000000000000000001");
        ev.change.address = "m:1";
        ev.change.force = true;
        break;
    case 10:
        ev.type = RAFT_EV_TRANSFER;
        ev.target = prng_below(p, 5);
        break;
    default:
        break;
    }
    return ev;
}

START_TEST(anything_may_be_said)
{
    enum { STEPS = 20000 };
    struct raft *r = make((uint64_t)_i);
    struct raft_data *data = raft_data_new("x", 1);
    struct raft_snapshot_meta snapshot;
    uint64_t commit = 0, leaderships = 0, accepted = 0;
    struct prng p;

    prng_init(&p, (uint64_t)_i);
    far_terms = _i % 3 == 0;
    for (int i = 0; i < STEPS; i++) {
        struct raft_message m = random_message(r, &p, &snapshot);
        struct raft_event ev = random_event(r, &p, &m, &data);
        struct raft_effects fx;
        const char *broken;
        int rc;

        ev.now_ms = r->now_ms + prng_below(&p, ev.type == RAFT_EV_TIMEOUT ? 2500 : 5);
        rc = raft_step(r, &ev, &fx);
        accepted += ev.type == RAFT_EV_RECEIVE && rc == 0;
        leaderships += fx.leader_changed && fx.state == RAFT_LEADER;
        broken = raft_invariants(r, true);
        ck_assert_msg(broken == NULL, "step %d: %s", i, broken);
        ck_assert_msg(r->log.commit_index >= commit, "step %d: commit went back", i);
        commit = r->log.commit_index;
        for (size_t n = 0; n < fx.message_count; n++)
            ck_assert_msg(raft_message_check(&fx.messages[n], NULL) == 0, "step %d: sent type %d",
                          i, (int)fx.messages[n].type);
    }
    ck_assert_uint_gt(accepted, STEPS / 10); /* or the test has lost its teeth */
    ck_assert(far_terms || leaderships > 0);
    raft_free(r);
    raft_data_unref(data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_hostile");
    TCase *tc = tcase_create("hostile");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, anything_may_be_said, 0, 12);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
