/* Promotion and demotion decisions (features.md 3.12). */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "managerd/roles/roles.h"

static const char *const node_ids[] = { "1aaaaaaaaaaaaaaaaaaaaaaaa", "2aaaaaaaaaaaaaaaaaaaaaaaa",
                                        "3aaaaaaaaaaaaaaaaaaaaaaaa" };
enum { NODES = 3, NOW = 100000, ELECTION = 1000 };

struct member_case {
    bool wanted; /* the operator wants a manager */
    bool member, learner;
    bool active, counted;
    uint64_t match;
};

static const struct roles_case {
    const char *why;
    struct member_case nodes[NODES]; /* the first is the leader */
    enum roles_action want;
    enum raft_change change;
    uint64_t raft_id;
} cases[] = {
    { "all as wanted",
      { { true, true, false, true, true, 1000 },
        { true, true, false, true, true, 1000 },
        { true, true, false, true, true, 1000 } },
      ROLES_NOTHING,
      0,
      0 },
    { "a learner that caught up becomes a voter",
      { { true, true, false, true, true, 1000 },
        { true, true, true, true, true, 900 },
        { true, false, false, false, false, 0 } },
      ROLES_CHANGE,
      RAFT_CHANGE_PROMOTE,
      2 },
    { "a learner that lags waits",
      { { true, true, false, true, true, 1000 },
        { true, true, true, true, true, 100 },
        { true, false, false, false, false, 0 } },
      ROLES_NOTHING,
      0,
      0 },
    { "a silent learner waits",
      { { true, true, false, true, true, 1000 },
        { true, true, true, false, true, 1000 },
        { true, false, false, false, false, 0 } },
      ROLES_NOTHING,
      0,
      0 },
    { "demotion removes the member",
      { { true, true, false, true, true, 1000 },
        { true, true, false, true, true, 1000 },
        { false, true, false, true, true, 1000 } },
      ROLES_CHANGE,
      RAFT_CHANGE_REMOVE,
      3 },
    { "demotion waits while it would cost the live quorum",
      { { true, true, false, true, true, 1000 },
        { true, true, false, false, true, 1000 },
        { false, true, false, true, true, 1000 } },
      ROLES_NOTHING,
      0,
      0 },
    { "a dead member may go: the live quorum grows",
      { { true, true, false, true, true, 1000 },
        { true, true, false, true, true, 1000 },
        { false, true, false, false, true, 0 } },
      ROLES_CHANGE,
      RAFT_CHANGE_REMOVE,
      3 },
    { "a demoted leader hands over first",
      { { false, true, false, true, true, 1000 },
        { true, true, false, true, true, 1000 },
        { true, true, false, true, true, 1000 } },
      ROLES_TRANSFER,
      RAFT_CHANGE_REMOVE,
      1 },
    { "a fenced member is let in again",
      { { true, true, false, true, true, 1000 },
        { true, true, false, true, false, 0 },
        { true, true, false, true, true, 1000 } },
      ROLES_CHANGE,
      RAFT_CHANGE_READMIT,
      2 },
};

struct world {
    struct store *store;
    struct raft_config config;
    struct raft_peer_status peers[NODES];
    struct roles_view view;
};

static void add_node(struct world *w, struct store_tx *tx, int i, const struct member_case *c)
{
    Skep__Node node = SKEP__NODE__INIT;
    Skep__NodeSpec spec = SKEP__NODE_SPEC__INIT;
    Skep__Annotations annotations = SKEP__ANNOTATIONS__INIT;
    struct raft_member *member = &w->config.members[w->config.member_count];

    spec.annotations = &annotations;
    spec.desired_role = c->wanted ? SKEP__NODE_ROLE__ROLE_MANAGER : SKEP__NODE_ROLE__ROLE_WORKER;
    node.id = (char *)node_ids[i];
    node.spec = &spec;
    node.role = SKEP__NODE_ROLE__ROLE_MANAGER;
    store_tx_create(tx, &node.base);
    if (!c->member)
        return;
    member->raft_id = (uint64_t)i + 1;
    member->node_id = id_from_str(node_ids[i]);
    member->role = c->learner ? RAFT_LEARNER : RAFT_VOTER;
    (void)snprintf(member->address, sizeof(member->address), "10.0.0.%d:2377", i + 1);
    w->peers[w->config.member_count] = (struct raft_peer_status){
        .raft_id = member->raft_id,
        .counted = c->counted,
        .incarnation = 77,
        .match_index = c->match,
        .last_contact_ms = c->active ? NOW - 50 : 1,
    };
    w->config.member_count++;
}

static struct world *world_new(const struct member_case *nodes)
{
    struct world *w = calloc(1, sizeof(*w));
    struct store_tx *tx = store_tx_new();
    struct err e = { 0 };

    w->store = store_new();
    for (int i = 0; i < NODES; i++)
        add_node(w, tx, i, &nodes[i]);
    ck_assert_int_eq(store_apply(w->store, 1, store_tx_message(tx), NULL, &e), 0);
    store_tx_free(tx);
    w->view = (struct roles_view){ .store = w->store,
                                   .config = &w->config,
                                   .peers = w->peers,
                                   .peer_count = w->config.member_count,
                                   .self = 1,
                                   .commit_index = 1000,
                                   .now_ms = NOW,
                                   .election_ms = ELECTION };
    return w;
}

static void world_free(struct world *w)
{
    store_free(w->store);
    free(w);
}

START_TEST(membership_follows_roles)
{
    const struct roles_case *c = &cases[_i];
    struct world *w = world_new(c->nodes);
    struct raft_ev_config_change change;

    ck_assert_msg(roles_next(&w->view, &change) == c->want, "%s", c->why);
    if (c->want != ROLES_NOTHING) {
        ck_assert_msg(change.change == c->change, "%s", c->why);
        ck_assert_msg(change.raft_id == c->raft_id, "%s", c->why);
    }
    if (c->want == ROLES_CHANGE && c->change == RAFT_CHANGE_READMIT)
        ck_assert_uint_eq(change.incarnation, 77);
    world_free(w);
}
END_TEST

/* A demoted node keeps its role (and certificate) until Raft has let it go. */
START_TEST(roles_follow_membership)
{
    static const struct member_case nodes[NODES] = { { true, true, false, true, true, 1000 },
                                                     { false, true, false, true, true, 1000 },
                                                     { false, false, false, false, false, 0 } };
    struct world *w = world_new(nodes);
    struct store_tx *tx = store_tx_new();
    struct err e = { 0 };

    roles_fill(&w->view, tx);
    ck_assert_int_eq(store_apply(w->store, 2, store_tx_message(tx), NULL, &e), 0);
    ck_assert_int_eq(store_node(w->store, node_ids[0])->role, SKEP__NODE_ROLE__ROLE_MANAGER);
    ck_assert_str_eq(store_node(w->store, node_ids[0])->manager->address, "10.0.0.1:2377");
    ck_assert_int_eq(store_node(w->store, node_ids[1])->role, SKEP__NODE_ROLE__ROLE_MANAGER);
    ck_assert_int_eq(store_node(w->store, node_ids[2])->role, SKEP__NODE_ROLE__ROLE_WORKER);
    ck_assert_ptr_null(store_node(w->store, node_ids[2])->manager);
    store_tx_clear(tx);
    roles_fill(&w->view, tx); /* settled: nothing more to say */
    ck_assert_uint_eq(store_tx_action_count(tx), 0);
    store_tx_free(tx);
    world_free(w);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("roles");
    TCase *tc = tcase_create("roles");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(tc, membership_follows_roles, 0, ARRAY_LEN(cases));
    tcase_add_test(tc, roles_follow_membership);
    suite_add_tcase(s, tc);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
