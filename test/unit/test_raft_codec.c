#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/prng.h"
#include "managerd/raft/codec.h"
#include "proto/raft.pb-c.h"

#define NODE_A "a000000000000000000000001"
#define NODE_B "b000000000000000000000002"

static struct raft_config two_members(void)
{
    struct raft_config c = { .member_count = 2 };

    c.members[0] = (struct raft_member){ .raft_id = 5,
                                         .node_id = id_from_str(NODE_A),
                                         .address = "10.0.0.1:2377" };
    c.members[1] = (struct raft_member){ .raft_id = 9,
                                         .node_id = id_from_str(NODE_B),
                                         .role = RAFT_LEARNER,
                                         .incarnation = 3,
                                         .address = "[fd00::1]:2377" };
    return c;
}

static struct raft_data *config_data(void)
{
    CLEANUP_BUF struct buf b = BUF_INIT(1 << 16);
    struct raft_config c = two_members();

    ck_assert_int_eq(raft_config_pack(&c, &b), 0);
    return raft_data_new(b.data, b.size);
}

/* ---- what a message may be ------------------------------------------------------------------- */

/* A well-formed message of each type, with three entries in the APPEND. */
static struct raft_entry entries[3];

static struct raft_message well_formed(enum raft_message_type type)
{
    struct raft_message m = { .type = type, .from = 5, .to = 9, .term = 7, .generation = 1 };

    switch (type) {
    case RAFT_MSG_PRE_VOTE:
    case RAFT_MSG_VOTE:
        m.index = 10;
        m.log_term = 6;
        m.flag = true;
        break;
    case RAFT_MSG_PRE_VOTE_REPLY:
        m.context = 7;
        m.reject = true;
        break;
    case RAFT_MSG_VOTE_REPLY:
        m.reject = true;
        break;
    case RAFT_MSG_APPEND:
        m.index = 10;
        m.log_term = 6;
        m.commit = 4;
        m.round = 2;
        m.entries = entries;
        m.entry_count = ARRAY_LEN(entries);
        break;
    case RAFT_MSG_APPEND_REPLY:
        m.index = 3;
        m.round = 2;
        m.reject = true;
        m.context = 10;
        m.hint_index = 8;
        m.hint_term = 5;
        break;
    case RAFT_MSG_HEARTBEAT:
        m.commit = 4;
        m.round = 2;
        m.flag = true;
        break;
    case RAFT_MSG_HEARTBEAT_REPLY:
        m.index = 3;
        m.round = 2;
        m.hint_index = 5;
        break;
    case RAFT_MSG_READ:
        m.context = 77;
        break;
    case RAFT_MSG_READ_REPLY:
        m.context = 77;
        m.index = 12;
        break;
    case RAFT_MSG_SNAPSHOT:
    case RAFT_MSG_TIMEOUT_NOW:
        break;
    }
    return m;
}

static void setup(void)
{
    entries[0] = (struct raft_entry){ .index = 11, .term = 6, .data = raft_data_new("hello", 5) };
    entries[1] = (struct raft_entry){ .index = 12, .term = 7, .type = RAFT_ENTRY_NOOP };
    entries[2] = (struct raft_entry){
        .index = 13, .term = 7, .type = RAFT_ENTRY_CONFIG, .data = config_data()
    };
}

static void teardown(void)
{
    for (size_t i = 0; i < ARRAY_LEN(entries); i++)
        raft_data_unref(entries[i].data);
}

START_TEST(every_type_survives_the_wire)
{
    CLEANUP_BUF struct buf b = BUF_INIT(1 << 20);
    struct raft_message m = well_formed((enum raft_message_type)_i), *got = NULL;

    if (_i == RAFT_MSG_SNAPSHOT)
        return;
    ck_assert_int_eq(raft_message_pack(&m, &b), 0);
    ck_assert_int_eq(raft_message_unpack(b.data, b.size, &got, NULL), 0);
    ck_assert_int_eq(got->type, m.type);
    ck_assert_uint_eq(got->from, m.from);
    ck_assert_uint_eq(got->to, m.to);
    ck_assert_uint_eq(got->term, m.term);
    ck_assert_uint_eq(got->generation, m.generation);
    ck_assert_uint_eq(got->index, m.index);
    ck_assert_uint_eq(got->log_term, m.log_term);
    ck_assert_uint_eq(got->commit, m.commit);
    ck_assert_uint_eq(got->round, m.round);
    ck_assert_uint_eq(got->context, m.context);
    ck_assert_uint_eq(got->hint_index, m.hint_index);
    ck_assert_uint_eq(got->hint_term, m.hint_term);
    ck_assert(got->reject == m.reject && got->flag == m.flag);
    ck_assert_uint_eq(got->entry_count, m.entry_count);
    for (size_t i = 0; i < m.entry_count; i++) {
        const struct raft_entry *e = &got->entries[i];

        ck_assert_uint_eq(e->index, entries[i].index);
        ck_assert_uint_eq(e->term, entries[i].term);
        ck_assert_int_eq(e->type, entries[i].type);
        ck_assert((e->data == NULL) == (entries[i].data == NULL));
        if (e->data != NULL)
            ck_assert_mem_eq(e->data->bytes, entries[i].data->bytes, e->data->size);
    }
    raft_message_free(got);
}
END_TEST

/* Each case breaks a well-formed message in one place. */
struct bad_case {
    const char *why;
    enum raft_message_type type;
    void (*damage)(struct raft_message *m, struct raft_entry *e);
};

#define DAMAGE(name, statement)                                                                    \
    static void name(struct raft_message *m, struct raft_entry *e)                                 \
    {                                                                                              \
        (void)m;                                                                                   \
        (void)e;                                                                                   \
        statement;                                                                                 \
    }
DAMAGE(type_zero, m->type = (enum raft_message_type)0)
DAMAGE(type_unknown, m->type = (enum raft_message_type)13)
DAMAGE(type_negative, m->type = (enum raft_message_type)(-1))
DAMAGE(no_sender, m->from = 0)
DAMAGE(no_receiver, m->to = 0)
DAMAGE(term_zero, m->term = 0; m->log_term = 0; m->index = 0)
DAMAGE(term_huge, m->term = UINT64_MAX)
DAMAGE(term_limit, m->term = RAFT_TERM_MAX + 1)
DAMAGE(log_term_above, m->log_term = 8)
DAMAGE(hint_term_above, m->hint_term = 8)
DAMAGE(index_huge, m->index = UINT64_MAX)
DAMAGE(commit_huge, m->commit = UINT64_MAX)
DAMAGE(hint_huge, m->hint_index = UINT64_MAX)
DAMAGE(index_without_term, m->log_term = 0)
DAMAGE(term_without_index, m->index = 0; m->entry_count = 0; m->entries = NULL)
DAMAGE(foreign_field, m->commit = 1)
DAMAGE(foreign_reject, m->reject = true)
DAMAGE(foreign_entries, m->entries = e; m->entry_count = 1)
DAMAGE(entry_gap, e[1].index = 13)
DAMAGE(entry_first_gap, m->index = 9)
DAMAGE(entry_term_back, e[1].term = 5)
DAMAGE(entry_term_above_message, e[2].term = 8)
DAMAGE(entry_term_below_previous, m->log_term = 7)
DAMAGE(entry_type, e[0].type = (enum raft_entry_type)3)
DAMAGE(entry_noop_data, e[0].type = RAFT_ENTRY_NOOP)
DAMAGE(entry_config_garbage, e[0].type = RAFT_ENTRY_CONFIG)
DAMAGE(entry_config_empty, e[1].type = RAFT_ENTRY_CONFIG)
DAMAGE(entries_too_many, m->entry_count = RAFT_MESSAGE_ENTRIES_MAX + 1)

static const struct bad_case bad_cases[] = {
    { "type 0", RAFT_MSG_VOTE, type_zero },
    { "unknown type", RAFT_MSG_VOTE, type_unknown },
    { "negative type", RAFT_MSG_VOTE, type_negative },
    { "no sender", RAFT_MSG_VOTE, no_sender },
    { "no receiver", RAFT_MSG_VOTE, no_receiver },
    { "a vote in term 0", RAFT_MSG_VOTE, term_zero },
    { "term 2^64-1", RAFT_MSG_VOTE, term_huge },
    { "first term above the limit", RAFT_MSG_HEARTBEAT, term_limit },
    { "log term above the term", RAFT_MSG_VOTE, log_term_above },
    { "hint term above the term", RAFT_MSG_APPEND_REPLY, hint_term_above },
    { "index 2^64-1", RAFT_MSG_VOTE, index_huge },
    { "commit 2^64-1", RAFT_MSG_HEARTBEAT, commit_huge },
    { "hint 2^64-1", RAFT_MSG_HEARTBEAT_REPLY, hint_huge },
    { "an index without its term", RAFT_MSG_VOTE, index_without_term },
    { "a term without its index", RAFT_MSG_VOTE, term_without_index },
    { "a field of another type", RAFT_MSG_VOTE, foreign_field },
    { "a flag of another type", RAFT_MSG_TIMEOUT_NOW, foreign_reject },
    { "entries in a heartbeat", RAFT_MSG_HEARTBEAT, foreign_entries },
    { "a gap between entries", RAFT_MSG_APPEND, entry_gap },
    { "a gap before the entries", RAFT_MSG_APPEND, entry_first_gap },
    { "terms go back", RAFT_MSG_APPEND, entry_term_back },
    { "an entry from the future", RAFT_MSG_APPEND, entry_term_above_message },
    { "terms go back at the seam", RAFT_MSG_APPEND, entry_term_below_previous },
    { "unknown entry type", RAFT_MSG_APPEND, entry_type },
    { "a no-op with data", RAFT_MSG_APPEND, entry_noop_data },
    { "a configuration that is none", RAFT_MSG_APPEND, entry_config_garbage },
    { "an empty configuration", RAFT_MSG_APPEND, entry_config_empty },
    { "too many entries", RAFT_MSG_APPEND, entries_too_many },
};

START_TEST(damage_is_refused)
{
    const struct bad_case *c = &bad_cases[_i];
    struct raft_message m = well_formed(c->type);
    struct raft_entry copy[ARRAY_LEN(entries)];
    struct err e = { 0 };

    memcpy(copy, entries, sizeof(copy));
    if (m.entries != NULL)
        m.entries = copy;
    ck_assert_msg(raft_message_check(&m, NULL) == 0, "%s: not well formed to begin with", c->why);
    c->damage(&m, copy);
    ck_assert_msg(raft_message_check(&m, &e) == -ERR_PROTO, "%s", c->why);
    ck_assert_msg(e.message[0] != '\0', "%s: no reason given", c->why);
}
END_TEST

START_TEST(a_snapshot_does_not_travel_as_a_message)
{
    CLEANUP_BUF struct buf b = BUF_INIT(1 << 16);
    struct raft_message m = well_formed(RAFT_MSG_TIMEOUT_NOW), *got = NULL;
    uint8_t *type;

    ck_assert_int_eq(raft_message_pack(&m, &b), 0);
    type = memchr(b.data, RAFT_MSG_TIMEOUT_NOW, b.size);
    ck_assert_ptr_nonnull(type);
    *type = RAFT_MSG_SNAPSHOT;
    ck_assert_int_eq(raft_message_unpack(b.data, b.size, &got, NULL), -ERR_PROTO);
    ck_assert_ptr_null(got);
}
END_TEST

/* Any bytes: refused or well formed, never a crash, never a leak (ASan). */
START_TEST(random_damage_never_hurts)
{
    CLEANUP_BUF struct buf b = BUF_INIT(1 << 20);
    struct raft_message m = well_formed(RAFT_MSG_APPEND), *got;
    struct raft_config config;
    struct prng p;

    prng_init(&p, (uint64_t)_i);
    ck_assert_int_eq(raft_message_pack(&m, &b), 0);
    for (int round = 0; round < 3000; round++) {
        CLEANUP_FREE uint8_t *mem = xmemdup(b.data, b.size);
        size_t size = prng_below(&p, 4) == 0 ? (size_t)prng_below(&p, b.size + 1) : b.size;

        for (uint64_t n = 1 + prng_below(&p, 4); n > 0; n--)
            mem[prng_below(&p, b.size)] = (uint8_t)prng_next(&p);
        got = NULL;
        if (raft_message_unpack(mem, size, &got, NULL) == 0) {
            ck_assert_int_eq(raft_message_check(got, NULL), 0);
            raft_message_free(got);
        } else {
            ck_assert_ptr_null(got);
        }
        if (raft_config_unpack(mem, size, &config, NULL) == 0)
            ck_assert_int_eq(raft_config_check(&config, NULL), 0);
    }
}
END_TEST

/* ---- configurations, hard state, snapshots --------------------------------------------------- */

struct config_case {
    const char *why;
    void (*damage)(struct raft_config *c);
};

#define DAMAGE_CONFIG(name, statement)                                                             \
    static void name(struct raft_config *c)                                                        \
    {                                                                                              \
        statement;                                                                                 \
    }
DAMAGE_CONFIG(id_zero, c->members[0].raft_id = 0)
DAMAGE_CONFIG(id_twice, c->members[1].raft_id = 5)
DAMAGE_CONFIG(id_descending, c->members[1].raft_id = 4)
DAMAGE_CONFIG(node_id_short, c->members[0].node_id.s[10] = '\0')
DAMAGE_CONFIG(node_id_chars, c->members[0].node_id.s[3] = 'A')
DAMAGE_CONFIG(address_empty, c->members[0].address[0] = '\0')
DAMAGE_CONFIG(address_control, c->members[0].address[1] = '\n')
DAMAGE_CONFIG(address_long, memset(c->members[0].address, 'a', RAFT_ADDRESS_BYTES_MAX))
DAMAGE_CONFIG(role_unknown, c->members[0].role = (enum raft_role)2)
DAMAGE_CONFIG(no_voter, c->members[0].role = RAFT_LEARNER)
DAMAGE_CONFIG(no_member, c->member_count = 0)
DAMAGE_CONFIG(too_many, c->member_count = RAFT_MEMBERS_MAX + 1)

static const struct config_case config_cases[] = {
    { "raft id 0", id_zero },
    { "a raft id twice", id_twice },
    { "ids not ascending", id_descending },
    { "a short node id", node_id_short },
    { "a node id with other characters", node_id_chars },
    { "no address", address_empty },
    { "an address with a control character", address_control },
    { "an address without end", address_long },
    { "an unknown role", role_unknown },
    { "no voter", no_voter },
    { "no member", no_member },
    { "too many members", too_many },
};

START_TEST(bad_configurations_are_refused)
{
    struct raft_config c = two_members();

    ck_assert_int_eq(raft_config_check(&c, NULL), 0);
    config_cases[_i].damage(&c);
    ck_assert_msg(raft_config_check(&c, NULL) == -ERR_INVALID, "%s", config_cases[_i].why);
}
END_TEST

START_TEST(configurations_survive)
{
    CLEANUP_BUF struct buf b = BUF_INIT(1 << 16);
    struct raft_config c = two_members(), got;

    ck_assert_int_eq(raft_config_pack(&c, &b), 0);
    ck_assert_int_eq(raft_config_unpack(b.data, b.size, &got, NULL), 0);
    ck_assert_mem_eq(&c, &got, sizeof(c));
}
END_TEST

START_TEST(hard_state_and_snapshot_survive)
{
    CLEANUP_BUF struct buf b = BUF_INIT(1 << 16);
    struct raft_hard_state h = { .term = 4, .vote = 9, .incarnation = 8, .fenced = true }, got_h;
    struct raft_snapshot_meta s = { .index = 4, .term = 2, .config = two_members() }, got_s;

    ck_assert_int_eq(raft_hard_state_pack(&h, &b), 0);
    ck_assert_int_eq(raft_hard_state_unpack(b.data, b.size, &got_h, NULL), 0);
    ck_assert(got_h.term == 4 && got_h.vote == 9 && got_h.incarnation == 8 && got_h.fenced);
    buf_clear(&b);
    ck_assert_int_eq(raft_snapshot_meta_pack(&s, &b), 0);
    ck_assert_int_eq(raft_snapshot_meta_unpack(b.data, b.size, &got_s, NULL), 0);
    ck_assert_mem_eq(&s, &got_s, sizeof(s));
    ck_assert_int_eq(raft_snapshot_meta_unpack(b.data, b.size - 1, &got_s, NULL), -ERR_PROTO);
    ck_assert_int_eq(raft_snapshot_meta_unpack("", 0, &got_s, NULL), -ERR_PROTO);
    ck_assert_int_eq(raft_hard_state_unpack("\x10\x05", 2, &got_h, NULL), -ERR_PROTO); /* no term */
}
END_TEST

START_TEST(entries_survive)
{
    for (size_t i = 0; i < ARRAY_LEN(entries); i++) {
        CLEANUP_BUF struct buf b = BUF_INIT(1 << 16);
        struct raft_entry got;

        ck_assert_int_eq(raft_entry_pack(&entries[i], &b), 0);
        ck_assert_int_eq(raft_entry_unpack(b.data, b.size, &got, NULL), 0);
        ck_assert_uint_eq(got.index, entries[i].index);
        ck_assert_int_eq(got.type, entries[i].type);
        raft_data_unref(got.data);
        ck_assert_int_eq(raft_entry_unpack(b.data, 1, &got, NULL), -ERR_PROTO);
    }
}
END_TEST

START_TEST(a_full_buffer_is_told)
{
    CLEANUP_BUF struct buf b = BUF_INIT(8);
    struct raft_message m = well_formed(RAFT_MSG_APPEND);

    ck_assert_int_eq(raft_message_pack(&m, &b), -ERR_TOO_BIG);
    ck_assert_uint_eq(b.size, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_codec");
    TCase *tc = tcase_create("codec");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, every_type_survives_the_wire, 1, RAFT_MSG_TYPE_MAX + 1);
    tcase_add_loop_test(tc, damage_is_refused, 0, (int)ARRAY_LEN(bad_cases));
    tcase_add_test(tc, a_snapshot_does_not_travel_as_a_message);
    tcase_add_loop_test(tc, random_damage_never_hurts, 0, 4);
    tcase_add_loop_test(tc, bad_configurations_are_refused, 0, (int)ARRAY_LEN(config_cases));
    tcase_add_test(tc, configurations_survive);
    tcase_add_test(tc, hard_state_and_snapshot_survive);
    tcase_add_test(tc, entries_survive);
    tcase_add_test(tc, a_full_buffer_is_told);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
