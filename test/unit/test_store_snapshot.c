/* managerd/store/snapshot.c: what was taken is what is loaded, in any cut; damage is refused. */
#include <check.h>
#include <string.h>

#include "common/buf.h"
#include "common/hash.h"
#include "test/lib/fixture.h"

enum { TASKS = 300 };

static struct fixture f;

static void setup(void)
{
    fixture_init(&f, 7);
    ck_assert_int_eq(fixture_add(&f, fixture_cluster(&f, "c1")), 0);
    ck_assert_int_eq(fixture_add(&f, fixture_node(&f, "n1", "alpha")), 0);
    ck_assert_int_eq(fixture_add(&f, fixture_service(&f, "s1", "web", 3)), 0);
    for (int i = 0; i < TASKS; i++) {
        struct id id = id_from_prng(&f.prng);

        store_tx_create(f.tx, &fixture_task(&f, id.s, "s1", (uint64_t)i / 2)->base);
    }
    const uint8_t request[16] = "request";
    Skep__Transaction t = *store_tx_message(f.tx);
    t.request_id = (ProtobufCBinaryData){ 16, (uint8_t *)(uintptr_t)request };
    ck_assert_int_eq(store_apply(f.s, ++f.index, &t, NULL, &f.e), 0);
    store_tx_clear(f.tx);
}

static void teardown(void)
{
    fixture_deinit(&f);
}

static void pack(struct buf *b, struct store_snapshot *snap, size_t max)
{
    uint8_t mem[4096];

    ck_assert_uint_le(max, sizeof(mem));
    for (size_t size; (size = store_snapshot_next(snap, mem, max)) > 0;)
        ck_assert_int_eq(buf_append(b, mem, size), 0);
}

static int load(const uint8_t *mem, size_t size, size_t cut, struct store *s, struct err *e)
{
    struct store_loader *l = store_loader_new();
    int rc = 0;

    for (size_t at = 0; at < size && rc == 0; at += cut) {
        /* A copy of its own size, so that the sanitizer sees any step beyond it. */
        uint8_t *chunk = xmemdup(mem + at, MIN(cut, size - at));

        rc = store_loader_feed(l, chunk, MIN(cut, size - at), e);
        free(chunk);
    }
    if (rc == 0)
        rc = store_loader_finish(l, f.index, s, e);
    store_loader_free(l);
    return rc;
}

static const size_t cuts[] = { 1, 2, 3, 5, 7, 64, 997, 4096 };

START_TEST(loading_gives_the_same_store)
{
    CLEANUP_BUF struct buf b = BUF_INIT(1 << 20);
    struct store *s = store_new();
    struct store_snapshot *snap = store_snapshot_take(f.s);
    struct store_iter it;
    struct store_result r;
    uint64_t hash = store_hash(f.s);

    /* The store goes on; the snapshot does not. */
    ck_assert_uint_eq(store_snapshot_version(snap), f.index);
    ck_assert_int_eq(fixture_remove(&f, SKEP__KIND__KIND_NODE, "n1"), 0);
    f.index--;
    pack(&b, snap, cuts[_i]);
    store_snapshot_free(snap);
    ck_assert_int_eq(load(b.data, b.size, cuts[ARRAY_LEN(cuts) - 1 - (size_t)_i], s, &f.e), 0);
    f.index++;

    ck_assert_uint_eq(store_hash(s), hash);
    ck_assert_ptr_nonnull(store_node(s, "n1"));
    ck_assert_uint_eq(store_count(s, SKEP__KIND__KIND_TASK), TASKS);
    ck_assert_ptr_nonnull(store_find_name(s, SKEP__KIND__KIND_SERVICE, "Web"));
    ck_assert(store_find_result(s, (const uint8_t *)"request\0\0\0\0\0\0\0\0", &r));
    uint64_t slot = 0;
    for (const Skep__Task *t = store_service_tasks(s, "s1", &it); t; t = store_iter_next(&it)) {
        ck_assert_uint_ge(t->slot, slot);
        slot = t->slot;
        ck_assert_ptr_nonnull(store_task_revision(s, t));
    }
    ck_assert_uint_eq(slot, (TASKS - 1) / 2);
    /* What is derived is right, too: revisions go with the last task. */
    struct store_event ev;
    ck_assert_int_eq(store_history(s, f.index - 2, &ev, 1), -ERR_STALE);
    ck_assert_int_eq(store_history(s, f.index - 1, &ev, 1), 0);
    store_free(s);
}
END_TEST

static uint64_t hash_of(struct store_snapshot *snap)
{
    CLEANUP_BUF struct buf b = BUF_INIT(1 << 20);

    pack(&b, snap, 4096);
    return hash_bytes(b.data, b.size, 0);
}

/* Replaces every task often enough that history lets go of what it replaced. */
static void churn(int rounds)
{
    for (int round = 0; round < rounds; round++) {
        struct store_iter it;

        for (const Skep__Task *t = store_service_tasks(f.s, "s1", &it); t;
             t = store_iter_next(&it)) {
            Skep__TaskDelta d = SKEP__TASK_DELTA__INIT;
            Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;

            d.task_id = t->id;
            status = *t->status;
            status.timestamp++;
            d.status = &status;
            store_tx_task(f.tx, &d);
        }
        ck_assert_int_eq(fixture_apply(&f, NULL, NULL), 0);
    }
}

enum { CHURN_ROUNDS = STORE_HISTORY_EVENTS / TASKS + 2 };

/* Snapshots that overlap in time keep what they have, whoever goes first, and nothing leaks. */
START_TEST(snapshots_keep_their_objects)
{
    struct store_snapshot *snaps[3], *twins[3];
    uint64_t hashes[3];

    for (int i = 0; i < 3; i++) {
        snaps[i] = store_snapshot_take(f.s);
        twins[i] = store_snapshot_take(f.s);
        hashes[i] = hash_of(twins[i]);
        churn(CHURN_ROUNDS / 2 + 1);
        if (i == 1)
            store_snapshot_free(twins[0]);
    }
    churn(CHURN_ROUNDS);
    for (int i = 0; i < 3; i++) {
        int at = (i + _i) % 3;

        ck_assert_uint_eq(hash_of(snaps[at]), hashes[at]);
        store_snapshot_free(snaps[at]);
        churn(2);
    }
    store_snapshot_free(twins[1]);
    store_snapshot_free(twins[2]);
}
END_TEST

START_TEST(a_snapshot_outlives_its_store)
{
    struct store_snapshot *first = store_snapshot_take(f.s), *second;
    uint64_t hash;

    churn(1);
    second = store_snapshot_take(f.s);
    struct store_snapshot *twin = store_snapshot_take(f.s);
    hash = hash_of(twin);
    store_free(f.s);
    f.s = store_new();
    store_snapshot_free(first);
    ck_assert_uint_eq(hash_of(second), hash);
    store_snapshot_free(twin);
    store_snapshot_free(second);
}
END_TEST

START_TEST(damage_is_refused_or_seen)
{
    CLEANUP_BUF struct buf b = BUF_INIT(1 << 20);
    struct store_snapshot *snap = store_snapshot_take(f.s);
    struct store *s = store_new();

    pack(&b, snap, 4096);
    store_snapshot_free(snap);
    /* Cut anywhere inside a record: finish refuses. */
    ck_assert_int_eq(load(b.data, b.size - 1, 4096, s, &f.e), -ERR_CORRUPT);
    ck_assert_str_eq(f.e.message, "snapshot: the last record is cut off");
    /* A record twice. */
    size_t first = 4 + b.data[0] + ((size_t)b.data[1] << 8);
    uint8_t *twice = xmalloc(b.size + first);
    memcpy(twice, b.data, first);
    memcpy(twice + first, b.data, b.size);
    ck_assert_int_eq(load(twice, b.size + first, 4096, s, &f.e), -ERR_CORRUPT);
    ck_assert_str_eq(f.e.message, "snapshot: node n1 comes twice");
    free(twice);
    /* An absurd length. */
    ck_assert_int_eq(load((const uint8_t *)"\xff\xff\xff\x7f", 4, 4096, s, &f.e), -ERR_CORRUPT);
    ck_assert_int_eq(load((const uint8_t *)"\xff\xff\xff\x7f", 4, 1, s, &f.e), 0 - ERR_CORRUPT);
    ck_assert_int_eq(load((const uint8_t *)"\0\0\0\0", 4, 4096, s, &f.e), -ERR_CORRUPT);
    /* Any flipped byte either fails or loads; it never crashes. */
    for (size_t at = 0; at < MIN(b.size, (size_t)2000); at++) {
        b.data[at] ^= 0x55;
        (void)load(b.data, b.size, 4096, s, &f.e);
        b.data[at] ^= 0x55;
    }
    store_free(s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("store snapshot");
    TCase *tc = tcase_create("snapshot");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, loading_gives_the_same_store, 0, ARRAY_LEN(cuts));
    tcase_add_loop_test(tc, snapshots_keep_their_objects, 0, 3);
    tcase_add_test(tc, a_snapshot_outlives_its_store);
    tcase_add_test(tc, damage_is_refused_or_seen);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
