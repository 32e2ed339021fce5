#include <check.h>
#include <string.h>

#include "managerd/io/keyring.h"
#include "test/lib/raftcluster.h"
#include "test/lib/tmpdir.h"

/* The data key of a running member: rotation under load, locking, unlocking. */

static struct cluster c;
static const uint8_t unlock_key[SEAL_KEY_BYTES] = { 9, 8, 7 };

static void on_done(void *ctx, int rc, uint64_t index)
{
    (void)index;
    *(int *)ctx = rc;
}

static bool is_known(struct cluster *unused, void *result)
{
    (void)unused;
    return *(int *)result != CLUSTER_RESULT_OPEN;
}

static int change(const struct raft_node_keys *k)
{
    int result = CLUSTER_RESULT_OPEN;

    raft_node_change_keys(c.nodes[0].node, k, on_done, &result);
    ck_assert_int_eq(result, CLUSTER_RESULT_OPEN); /* never inside the call */
    ck_assert(cluster_run(&c, is_known, &result, 5000));
    return result;
}

static void setup(void)
{
    cluster_init(&c, 1, tmpdir_new_in_memory());
    c.options.snapshot_entries = 50;
    c.options.tail_entries = 5;
    c.options.segment_bytes = 16384;
    ck_assert(cluster_form(&c));
}

static void stop_and_look(uint32_t *ret_current, bool *ret_first_kept)
{
    struct disk_options o = { .path = c.nodes[0].directory };
    struct keyring_options k = { 0 };
    struct keyring *keyring;
    struct disk *d;

    cluster_stop(&c, 0);
    ck_assert_int_eq(disk_open(&o, &d, NULL), 0);
    ck_assert_int_eq(keyring_load(d, &k, &keyring, NULL), 0);
    *ret_current = keyring_current(keyring);
    *ret_first_kept = keyring_key(keyring, 1) != NULL;
    keyring_free(keyring);
    disk_close(d);
}

/* Entries sealed under several keys are all there; the first key goes once no file needs it. */
START_TEST(rotation_under_load)
{
    struct raft_node_keys rotate = { .rotate = true };
    uint32_t current;
    bool first_kept;

    setup();
    for (uint64_t round = 0; round < 3; round++) {
        ck_assert(cluster_write(&c, round * 100, 20));
        ck_assert_int_eq(change(&rotate), 0);
    }
    cluster_stop(&c, 0);
    ck_assert_int_eq(cluster_start(&c, 0, RAFT_NODE_EXISTING, NULL), 0);
    for (uint64_t round = 3; round < 12; round++)
        ck_assert(cluster_write(&c, round * 100, 30));
    ck_assert_uint_eq(c.nodes[0].value_count, 60 + 270);
    stop_and_look(&current, &first_kept);
    ck_assert_uint_eq(current, 4);
    ck_assert(!first_kept);
    ck_assert_int_eq(cluster_start(&c, 0, RAFT_NODE_EXISTING, NULL), 0);
    ck_assert(cluster_run(&c, cluster_even, NULL, 5000));
    ck_assert_uint_eq(c.nodes[0].value_count, 330);
    cluster_deinit(&c);
}
END_TEST

/* Locked, it opens with its unlock key alone; unlocked again, without. */
START_TEST(locking)
{
    struct raft_node_keys lock = { .set_unlock_key = true,
                                   .unlock_key = unlock_key,
                                   .unlock_key_version = 3 };
    struct raft_node_keys unlock = { .set_unlock_key = true, .unlock_key_version = 4 };
    struct raft_node_keys stale = { .set_unlock_key = true, .unlock_key_version = 1 };
    static const uint8_t other[SEAL_KEY_BYTES];

    setup();
    ck_assert(cluster_write(&c, 1, 5));
    ck_assert_int_eq(change(&lock), 0);
    ck_assert_uint_eq(raft_node_unlock_version(c.nodes[0].node), 3);
    ck_assert_int_eq(change(&stale), -ERR_STALE);
    cluster_stop(&c, 0);
    ck_assert_int_eq(cluster_start(&c, 0, RAFT_NODE_EXISTING, NULL), -ERR_PRECONDITION);
    c.options.unlock_key = other;
    ck_assert_int_eq(cluster_start(&c, 0, RAFT_NODE_EXISTING, NULL), -ERR_PERMISSION);
    c.options.unlock_key = unlock_key;
    ck_assert_int_eq(cluster_start(&c, 0, RAFT_NODE_EXISTING, NULL), 0);
    ck_assert_uint_eq(raft_node_unlock_version(c.nodes[0].node), 3);
    ck_assert(cluster_write(&c, 6, 1));
    ck_assert_uint_eq(c.nodes[0].value_count, 6);
    ck_assert_int_eq(change(&unlock), 0);
    cluster_stop(&c, 0);
    c.options.unlock_key = NULL;
    ck_assert_int_eq(cluster_start(&c, 0, RAFT_NODE_EXISTING, NULL), 0);
    cluster_deinit(&c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("raft_keys");
    TCase *tc = tcase_create("raft_keys");
    SRunner *r;

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, rotation_under_load);
    tcase_add_test(tc, locking);
    suite_add_tcase(s, tc);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
