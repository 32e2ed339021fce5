#include <check.h>
#include <stdatomic.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/assert.h"
#include "managerd/io/raft_disk.h"
#include "test/lib/raftcluster.h"
#include "test/lib/tmpdir.h"

/* The shell with real disks and threads: what it promises is kept across restarts, lost leaders,
 * full and failing disks. Times are real but short; nothing waits for a time, only for a state. */

static struct cluster c;

static void check_even(void)
{
    const char *wrong;

    ck_assert(cluster_run(&c, cluster_even, NULL, 5000));
    wrong = cluster_compare(&c);
    ck_assert_msg(wrong == NULL, "%s", wrong);
}

static void form(size_t count)
{
    cluster_init(&c, count, tmpdir_new());
    ck_assert(cluster_form(&c));
}

static void restart(size_t i)
{
    struct err e = { 0 };

    cluster_stop(&c, i);
    int rc = cluster_start(&c, i, RAFT_NODE_EXISTING, &e);
    ck_assert_msg(rc == 0, "%s", e.message);
}

START_TEST(one_member_keeps_what_it_acknowledged)
{
    form(1);
    for (uint64_t round = 0; round < 4; round++) {
        ck_assert(cluster_write(&c, round * 100, 50));
        ck_assert_uint_eq(c.nodes[0].value_count, (round + 1) * 50);
        restart(0);
        ck_assert(cluster_run(&c, cluster_has_leader, NULL, 5000));
    }
    check_even();
    ck_assert_uint_eq(c.nodes[0].value_count, 200);
    ck_assert_uint_eq(c.nodes[0].values[199], 349);
    cluster_deinit(&c);
}
END_TEST

START_TEST(three_members_survive_a_lost_leader)
{
    form(3);
    ck_assert(cluster_write(&c, 0, 100));
    check_even();
    size_t old = cluster_leader(&c);
    cluster_stop(&c, old);
    ck_assert(cluster_write(&c, 1000, 100));
    ck_assert_uint_ne(cluster_leader(&c), old);
    ck_assert_int_eq(cluster_start(&c, old, RAFT_NODE_EXISTING, NULL), 0);
    ck_assert(cluster_write(&c, 2000, 10));
    check_even();
    ck_assert_uint_eq(c.nodes[old].value_count, 210);
    for (size_t i = 0; i < 3; i++) /* all at once: a cold start */
        cluster_stop(&c, i);
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(cluster_start(&c, i, RAFT_NODE_EXISTING, NULL), 0);
    ck_assert(cluster_write(&c, 3000, 1));
    check_even();
    ck_assert_uint_eq(c.nodes[old].value_count, 211);
    cluster_deinit(&c);
}
END_TEST

static bool result_known(struct cluster *unused, void *result)
{
    (void)unused;
    return *(int *)result != CLUSTER_RESULT_OPEN;
}

/* A leader cut off from the others tells that the end of its proposals is unknown. */
START_TEST(a_cut_off_leader_answers_unknown)
{
    int result, late;

    form(3);
    ck_assert(cluster_write(&c, 0, 5));
    size_t old = cluster_leader(&c);
    for (size_t i = 0; i < 3; i++)
        cluster_link(&c, old, i, i == old);
    cluster_propose(&c, old, 777, &result);
    ck_assert(cluster_run(&c, result_known, &result, 5000));
    ck_assert_int_eq(result, -ERR_UNAVAILABLE);
    cluster_propose(&c, old, 778, &late);
    ck_assert(cluster_run(&c, result_known, &late, 5000));
    ck_assert_int_eq(late, -ERR_NOT_LEADER);
    for (size_t i = 0; i < 3; i++)
        cluster_link(&c, old, i, true);
    ck_assert(cluster_write(&c, 100, 5));
    check_even();
    ck_assert_uint_eq(c.nodes[old].value_count, 10); /* 777 is gone: another leader came */
    cluster_deinit(&c);
}
END_TEST

static int hang(void *ctx, const struct disk_call *call, uint64_t *write_size)
{
    const atomic_bool *hangs = ctx;

    (void)call;
    (void)write_size;
    while (atomic_load(hangs))
        (void)usleep(1000);
    return 0;
}

static bool has_another_leader(struct cluster *cl, void *old)
{
    size_t leader = cluster_leader(cl);

    return leader != CLUSTER_NODES_MAX && leader != *(size_t *)old;
}

/* Nothing fails and nothing is silent, and yet a leader is not worth having without a disk. */
START_TEST(a_leader_whose_disk_hangs_hands_over)
{
    atomic_bool hangs[3] = { false, false, false };
    int result;

    form(3);
    c.options.disk_hook = hang;
    for (size_t i = 0; i < 3; i++) {
        cluster_stop(&c, i);
        c.options.disk_hook_ctx = &hangs[i];
        ck_assert_int_eq(cluster_start(&c, i, RAFT_NODE_EXISTING, NULL), 0);
    }
    ck_assert(cluster_write(&c, 0, 5));
    size_t old = cluster_leader(&c);
    atomic_store(&hangs[old], true);
    cluster_propose(&c, old, 777, &result);
    ck_assert(cluster_run(&c, result_known, &result, 5000)); /* by the disks of the others */
    ck_assert_int_eq(result, 0);
    ck_assert(cluster_run(&c, has_another_leader, &old, 20000));
    ck_assert(cluster_write(&c, 100, 5));
    atomic_store(&hangs[old], false);
    ck_assert(cluster_write(&c, 200, 5));
    check_even();
    ck_assert_uint_eq(c.nodes[old].value_count, 16);
    cluster_deinit(&c);
}
END_TEST

static bool read_done(struct cluster *unused, void *result)
{
    return result_known(unused, result);
}

static void on_read(void *ctx, int rc, uint64_t index)
{
    (void)index;
    *(int *)ctx = rc;
}

/* Reads on every member see what was acknowledged before they began. */
START_TEST(reads_see_acknowledged_writes)
{
    int result;

    form(3);
    for (uint64_t round = 1; round <= 10; round++) {
        ck_assert(cluster_write(&c, round, 1));
        for (size_t i = 0; i < 3; i++) {
            result = CLUSTER_RESULT_OPEN;
            raft_node_read(c.nodes[i].node, on_read, &result);
            ck_assert_int_eq(result, CLUSTER_RESULT_OPEN); /* never inside the call */
            ck_assert(cluster_run(&c, read_done, &result, 5000));
            ck_assert_int_eq(result, 0);
            ck_assert_uint_eq(c.nodes[i].value_count, round);
        }
    }
    cluster_deinit(&c);
}
END_TEST

static bool has_snapshots(struct cluster *cl, void *unused)
{
    (void)unused;
    return cl->nodes[0].snapshots_taken >= 3;
}

/* Snapshots are taken on the way, the log is compacted, a restart loads the newest, and a member
 * that comes late is sent one, although chunks get lost. */
START_TEST(snapshots_carry_restarts_and_late_members)
{
    form(2);
    cluster_stop(&c, 0);
    cluster_stop(&c, 1);
    c.options.snapshot_entries = 40;
    c.options.tail_entries = 5;
    c.options.segment_bytes = 8192;
    for (size_t i = 0; i < 2; i++)
        ck_assert_int_eq(cluster_start(&c, i, RAFT_NODE_EXISTING, NULL), 0);
    for (uint64_t round = 0; round < 10; round++)
        ck_assert(cluster_write(&c, round * 100, 40));
    ck_assert(cluster_run(&c, has_snapshots, NULL, 5000));
    restart(0);
    restart(1);
    ck_assert_uint_gt(c.nodes[0].snapshots_installed, 0);
    ck_assert(cluster_write(&c, 5000, 3));
    check_even();

    struct cluster_node *late = &c.nodes[2];
    c.count = 3;
    late->cluster = &c;
    late->node_id = c.nodes[0].node_id;
    late->node_id.s[0] = c.nodes[0].node_id.s[0] == 'z' ? 'y' : 'z';
    late->raft_id = 999;
    late->directory = xasprintf("%s/late", c.base);
    late->chunks_lost = 2;
    for (size_t i = 0; i < 3; i++)
        late->up[i] = c.nodes[i].up[2] = true;
    ck_assert_int_eq(cluster_start(&c, 2, RAFT_NODE_JOIN, NULL), 0);
    ck_assert(cluster_add(&c, 2));
    ck_assert(cluster_write(&c, 6000, 3));
    check_even();
    ck_assert_uint_eq(late->snapshots_installed, 1);
    ck_assert_uint_eq(late->value_count, 406);
    restart(2);
    ck_assert(cluster_write(&c, 7000, 3));
    check_even();
    cluster_deinit(&c);
}
END_TEST

/* The newest snapshot is at the log's end, and the core has let the log go. */
static bool is_compacted(struct cluster *cl, void *unused)
{
    struct raft_status s;

    (void)unused;
    raft_node_status(cl->nodes[0].node, &s);
    return s.snapshot_index + 40 > s.last_index && s.first_index > 100;
}

/* Damages the newest count snapshots of node 0. */
static void damage_snapshots(int count)
{
    struct disk_options o = { .path = c.nodes[0].directory };
    struct disk_names names;
    struct disk_file f;
    struct disk *d;

    ck_assert_int_eq(disk_open(&o, &d, NULL), 0);
    ck_assert_int_eq(disk_list(d, &names, NULL), 0);
    for (size_t i = names.count; i-- > 0;) {
        if (strncmp(names.names[i], "snap-", 5) != 0 || count-- <= 0)
            continue;
        ck_assert_int_eq(disk_file_open(d, names.names[i], &f, NULL), 0);
        ck_assert_int_eq(disk_file_write(&f, 700, "damage", 6, NULL), 0);
        disk_file_close(&f);
    }
    disk_names_free(&names);
    disk_close(d);
}

/* A damaged newest snapshot: the older one and the log make up for it; when none is left, entries
 * are missing, and the member says so instead of starting without them. */
START_TEST(a_damaged_snapshot_falls_back)
{
    struct err e = { 0 };
    int rc;

    form(1);
    cluster_stop(&c, 0);
    c.options.snapshot_entries = 40;
    c.options.tail_entries = 5;
    c.options.segment_bytes = 4096;
    ck_assert_int_eq(cluster_start(&c, 0, RAFT_NODE_EXISTING, NULL), 0);
    for (uint64_t round = 0; round < 5; round++)
        ck_assert(cluster_write(&c, round * 100, 40));
    ck_assert(cluster_run(&c, is_compacted, NULL, 5000));
    ck_assert(cluster_write(&c, 900, 1)); /* goes after the compaction */
    cluster_stop(&c, 0);
    damage_snapshots(1);
    rc = cluster_start(&c, 0, RAFT_NODE_EXISTING, &e);
    ck_assert_msg(rc == 0, "%s", e.message);
    ck_assert(cluster_run(&c, cluster_has_leader, NULL, 5000));
    ck_assert_uint_eq(c.nodes[0].value_count, 201);
    cluster_stop(&c, 0);
    damage_snapshots(100);
    ck_assert_int_eq(cluster_start(&c, 0, RAFT_NODE_EXISTING, &e), -ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(e.message, "remedy"));
    cluster_deinit(&c);
}
END_TEST

/* F9: proposals are refused when no segment can be made, removals a little longer; reads go on; and
 * it heals by itself. */
START_TEST(full_disk_refuses_and_recovers)
{
    int result = CLUSTER_RESULT_OPEN;

    cluster_init(&c, 1, tmpdir_new());
    c.nodes[0].crash = crash_disk_new();
    c.options.segment_bytes = 16384;
    ck_assert(cluster_form(&c));
    crash_disk_fail_op(c.nodes[0].crash, DISK_ALLOCATE, 1, ENOSPC, true);
    for (uint64_t i = 0; i < 400 && result != -ERR_NO_SPACE; i++) {
        cluster_propose(&c, 0, i, &result);
        ck_assert(cluster_run(&c, result_known, &result, 5000));
        ck_assert_msg(result == 0 || result == -ERR_NO_SPACE, "%d", result);
    }
    ck_assert_int_eq(result, -ERR_NO_SPACE);
    result = CLUSTER_RESULT_OPEN;
    raft_node_read(c.nodes[0].node, on_read, &result);
    ck_assert(cluster_run(&c, result_known, &result, 5000));
    ck_assert_int_eq(result, 0);
    struct raft_status s;
    raft_node_status(c.nodes[0].node, &s);
    result = CLUSTER_RESULT_OPEN;
    raft_node_propose_removal(c.nodes[0].node, s.term, xcalloc(1, 50), 50, on_read, &result);
    ck_assert(cluster_run(&c, result_known, &result, 5000));
    ck_assert_int_eq(result, 0);

    crash_disk_fail(c.nodes[0].crash, 0, 0, false, 0);
    result = -ERR_NO_SPACE;
    for (int tries = 0; tries < 400 && result == -ERR_NO_SPACE; tries++) {
        cluster_propose(&c, 0, 4711, &result);
        ck_assert(cluster_run(&c, result_known, &result, 5000));
        (void)cluster_run(&c, NULL, NULL, 10);
    }
    ck_assert_int_eq(result, 0);
    size_t count = c.nodes[0].value_count;
    restart(0);
    ck_assert(cluster_run(&c, cluster_has_leader, NULL, 5000));
    ck_assert_uint_eq(c.nodes[0].value_count, count);
    cluster_deinit(&c);
}
END_TEST

/* F12: a failed sync ends it: nothing is acknowledged, nothing goes on, and a restart has what was
 * acknowledged before. */
START_TEST(a_failed_sync_is_fatal)
{
    int result = 0;
    uint64_t acknowledged = 0;

    cluster_init(&c, 1, tmpdir_new());
    c.nodes[0].crash = crash_disk_new();
    ck_assert(cluster_form(&c));
    crash_disk_fail_op(c.nodes[0].crash, DISK_SYNC, 10, EIO, false);
    while (c.nodes[0].fatal.code == 0) {
        cluster_propose(&c, 0, acknowledged, &result);
        for (int i = 0; i < 500 && result == CLUSTER_RESULT_OPEN && c.nodes[0].fatal.code == 0; i++)
            (void)cluster_run(&c, result_known, &result, 10);
        acknowledged += result == 0;
    }
    ck_assert_int_eq(result, CLUSTER_RESULT_OPEN);
    ck_assert_uint_gt(acknowledged, 3);
    int after;
    cluster_propose(&c, 0, 1, &after);
    cluster_stop(&c, 0);
    ck_assert_int_eq(result, -ERR_CANCELED);
    crash_disk_fail(c.nodes[0].crash, 0, 0, false, 0);
    ck_assert_int_eq(cluster_start(&c, 0, RAFT_NODE_EXISTING, NULL), 0);
    ck_assert(cluster_run(&c, cluster_has_leader, NULL, 5000));
    ck_assert_uint_ge(c.nodes[0].value_count, acknowledged);
    cluster_deinit(&c);
}
END_TEST

static bool is_unfenced(struct cluster *cl, void *unused)
{
    struct raft_status s;

    (void)unused;
    raft_node_status(cl->nodes[2].node, &s);
    return !s.fenced;
}

/* The leader has heard of the incarnation that node 2 speaks with now. */
static bool sees_incarnation(struct cluster *cl, void *incarnation)
{
    struct raft_peer_status peers[RAFT_MEMBERS_MAX];
    size_t leader = cluster_leader(cl);

    if (leader == CLUSTER_NODES_MAX)
        return false;
    size_t count = raft_node_peers(cl->nodes[leader].node, peers);
    for (size_t i = 0; i < count; i++) {
        if (peers[i].raft_id == cl->nodes[2].raft_id)
            return peers[i].incarnation == *(uint64_t *)incarnation;
    }
    return false;
}

/* F39: a directory that was put back from a copy is fenced, and takes part again once the leader
 * has readmitted it. */
START_TEST(a_copied_directory_is_fenced)
{
    struct raft_status s;

    form(3);
    ck_assert(cluster_write(&c, 0, 20));
    cluster_stop(&c, 2);
    CLEANUP_FREE char *copy = xasprintf("%s/copy", c.base);
    ck_assert_int_eq(mkdir(copy, 0700), 0);
    tmpdir_copy(c.nodes[2].directory, copy);
    ck_assert_int_eq(cluster_start(&c, 2, RAFT_NODE_EXISTING, NULL), 0);
    raft_node_status(c.nodes[2].node, &s);
    ck_assert(!s.fenced);
    ck_assert(cluster_write(&c, 100, 20));
    cluster_stop(&c, 2);

    tmpdir_empty(c.nodes[2].directory);
    ck_assert_int_eq(rmdir(c.nodes[2].directory), 0);
    ck_assert_int_eq(rename(copy, c.nodes[2].directory), 0);
    ck_assert_int_eq(cluster_start(&c, 2, RAFT_NODE_EXISTING, NULL), 0);
    raft_node_status(c.nodes[2].node, &s);
    ck_assert(s.fenced);
    restart(2); /* it stays so, although it lies where it was written now */
    raft_node_status(c.nodes[2].node, &s);
    ck_assert(s.fenced);

    ck_assert(cluster_run(&c, sees_incarnation, &s.incarnation, 5000));
    struct raft_ev_config_change readmit = { .change = RAFT_CHANGE_READMIT,
                                             .raft_id = c.nodes[2].raft_id,
                                             .incarnation = s.incarnation };
    int result = CLUSTER_RESULT_OPEN;
    raft_node_change_config(c.nodes[cluster_leader(&c)].node, &readmit, on_read, &result);
    ck_assert(cluster_run(&c, result_known, &result, 5000));
    ck_assert_int_eq(result, 0);
    ck_assert(cluster_run(&c, is_unfenced, NULL, 5000));
    check_even();
    cluster_deinit(&c);
}
END_TEST

/* F20: the survivor goes on alone in a new generation; members of the old one are not heard. */
START_TEST(force_new_cluster)
{
    struct err e = { 0 };

    form(3);
    ck_assert(cluster_write(&c, 0, 20));
    check_even();
    for (size_t i = 0; i < 3; i++)
        cluster_stop(&c, i);
    ck_assert_int_eq(cluster_start(&c, 2, RAFT_NODE_FORCE_NEW, &e), 0);
    ck_assert(cluster_write(&c, 100, 5));
    ck_assert_uint_eq(c.nodes[2].value_count, 25);
    ck_assert_uint_eq(raft_node_generation(c.nodes[2].node), 2);
    ck_assert_uint_eq(raft_node_config(c.nodes[2].node)->member_count, 1);
    ck_assert_int_eq(cluster_start(&c, 0, RAFT_NODE_EXISTING, NULL), 0);
    ck_assert_int_eq(cluster_start(&c, 1, RAFT_NODE_EXISTING, NULL), 0);
    c.nodes[2].refused = 0;
    for (int i = 0; i < 100 && c.nodes[2].refused == 0; i++)
        (void)cluster_run(&c, NULL, NULL, 50);
    ck_assert_uint_gt(c.nodes[2].refused, 0); /* they knock, in vain */
    ck_assert_uint_eq(c.nodes[2].value_count, 25);
    cluster_stop(&c, 2);
    ck_assert_int_eq(cluster_start(&c, 2, RAFT_NODE_EXISTING, NULL), 0);
    ck_assert_uint_eq(raft_node_generation(c.nodes[2].node), 2);
    cluster_deinit(&c);
}
END_TEST

static bool removed(struct cluster *cl, void *arg)
{
    return cl->nodes[*(size_t *)arg].removed;
}

/* A removed member hears of it, and its directory can be wiped and used again. */
START_TEST(removal_and_wipe)
{
    struct raft_ev_config_change remove = { .change = RAFT_CHANGE_REMOVE };
    int result = CLUSTER_RESULT_OPEN;
    size_t other;

    form(3);
    ck_assert(cluster_write(&c, 0, 5));
    other = (cluster_leader(&c) + 1) % 3;
    remove.raft_id = c.nodes[other].raft_id;
    raft_node_change_config(c.nodes[cluster_leader(&c)].node, &remove, on_read, &result);
    ck_assert(cluster_run(&c, result_known, &result, 5000));
    ck_assert_int_eq(result, 0);
    (void)cluster_run(&c, removed, &other, 300); /* it may be cut off before it hears */
    ck_assert(raft_node_exists(c.nodes[other].directory));
    cluster_stop(&c, other);
    ck_assert_int_eq(raft_node_wipe(c.nodes[other].directory, NULL), 0);
    ck_assert(!raft_node_exists(c.nodes[other].directory));
    ck_assert_int_eq(cluster_start(&c, other, RAFT_NODE_EXISTING, NULL), -ERR_NOT_FOUND);
    c.nodes[other].raft_id = 4711; /* ids are never used again */
    ck_assert_int_eq(cluster_start(&c, other, RAFT_NODE_JOIN, NULL), 0);
    ck_assert(cluster_add(&c, other));
    check_even();
    cluster_deinit(&c);
}
END_TEST

/* N52: a certificate may speak for its own raft id only. */
START_TEST(foreign_senders_are_refused)
{
    struct raft_message m = { .type = RAFT_MSG_HEARTBEAT, .term = 1, .round = 1, .generation = 1 };
    struct err e = { 0 };

    form(2);
    m.from = c.nodes[1].raft_id;
    m.to = c.nodes[0].raft_id;
    ck_assert_int_eq(raft_node_receive(c.nodes[0].node, c.nodes[0].node_id.s, &m, &e),
                     -ERR_PERMISSION);
    ck_assert_int_eq(raft_node_receive(c.nodes[0].node, "", &m, &e), -ERR_PERMISSION);
    m.generation = 9;
    ck_assert_int_eq(raft_node_receive(c.nodes[0].node, c.nodes[1].node_id.s, &m, &e), -ERR_STALE);
    cluster_deinit(&c);
}
END_TEST

/* Creation that was interrupted at any call leaves a directory that can be created again. */
START_TEST(interrupted_creation_starts_over)
{
    bool reached = true;

    for (unsigned n = 1; reached; n++) {
        cluster_init(&c, 1, tmpdir_new_in_memory());
        c.nodes[0].crash = crash_disk_new();
        crash_disk_fail(c.nodes[0].crash, n, EIO, true, 77);
        int rc = cluster_start(&c, 0, RAFT_NODE_BOOTSTRAP, NULL);
        reached = rc < 0;
        if (rc < 0) {
            crash_disk_fail(c.nodes[0].crash, 0, 0, false, 0);
            if (!raft_node_exists(c.nodes[0].directory))
                rc = cluster_start(&c, 0, RAFT_NODE_BOOTSTRAP, NULL);
            else
                rc = cluster_start(&c, 0, RAFT_NODE_EXISTING, NULL);
        }
        crash_disk_fail(c.nodes[0].crash, 0, 0, false, 0);
        ck_assert_msg(rc == 0, "call %u", n);
        ck_assert(cluster_write(&c, 1, 1));
        cluster_deinit(&c);
    }
}
END_TEST

/* Group commit: what is proposed together shares its syncs. */
START_TEST(proposals_share_syncs)
{
    cluster_init(&c, 1, tmpdir_new());
    c.nodes[0].crash = crash_disk_new();
    ck_assert(cluster_form(&c));
    unsigned before = crash_disk_calls(c.nodes[0].crash);
    ck_assert(cluster_write(&c, 0, 1000));
    ck_assert_uint_lt(crash_disk_calls(c.nodes[0].crash) - before, 100);
    cluster_deinit(&c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("raft_node");
    TCase *tc = tcase_create("raft_node");
    SRunner *r;

    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, one_member_keeps_what_it_acknowledged);
    tcase_add_test(tc, three_members_survive_a_lost_leader);
    tcase_add_test(tc, a_cut_off_leader_answers_unknown);
    tcase_add_test(tc, a_leader_whose_disk_hangs_hands_over);
    tcase_add_test(tc, reads_see_acknowledged_writes);
    tcase_add_test(tc, snapshots_carry_restarts_and_late_members);
    tcase_add_test(tc, a_damaged_snapshot_falls_back);
    tcase_add_test(tc, full_disk_refuses_and_recovers);
    tcase_add_test(tc, a_failed_sync_is_fatal);
    tcase_add_test(tc, a_copied_directory_is_fenced);
    tcase_add_test(tc, force_new_cluster);
    tcase_add_test(tc, removal_and_wipe);
    tcase_add_test(tc, foreign_senders_are_refused);
    tcase_add_test(tc, interrupted_creation_starts_over);
    tcase_add_test(tc, proposals_share_syncs);
    suite_add_tcase(s, tc);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
