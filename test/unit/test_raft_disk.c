#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/hash.h"
#include "managerd/io/raft_disk.h"
#include "test/lib/raftcluster.h"
#include "test/lib/tmpdir.h"

/* What one directory holds together: member file, log and snapshots; and G1: acknowledged writes
 * outlive power cuts of any members at any call. */

static struct raft_disk_options options_of(const char *dir)
{
    return (struct raft_disk_options){ .directory = dir,
                                       .cluster_id = "cluster",
                                       .node_id = "node",
                                       .segment_bytes = 4096,
                                       .tail_entries = 3 };
}

static struct raft_member founder(void)
{
    struct raft_member m = { .raft_id = 5, .incarnation = 77, .role = RAFT_VOTER };

    memset(m.node_id.s, 'n', ID_CHARS);
    memcpy(m.address, "host:1", 7);
    return m;
}

/* A directory with entries 1 … last (terms 1), and snapshots at the indexes given (0: none). */
static char *make(uint64_t last, const uint64_t *snapshots, uint64_t snapshot_term)
{
    char *dir = tmpdir_new_in_memory();
    struct raft_disk_options o = options_of(dir);
    struct raft_disk_seed seed = { .member = { 5, 1 } };
    struct raft_member self = founder();
    struct raft_entry entry;
    struct raft_loaded l;
    struct raft_disk *d;

    raft_bootstrap(&self, &entry, &seed.hard_state);
    seed.hard_state.term = 2;
    seed.entry = &entry;
    ASSERT(raft_disk_create(&o, &seed, NULL) == 0);
    raft_data_unref(entry.data);
    ASSERT(raft_disk_open(&o, &d, &l, NULL) == 0);
    for (uint64_t index = 2; index <= last; index++) {
        struct raft_entry next = { index, 1, RAFT_ENTRY_NORMAL, raft_data_new("data", 4) };

        ASSERT(raft_disk_append(d, NULL, &next, NULL) == 0);
        raft_data_unref(next.data);
    }
    for (int i = 0; i < 2 && snapshots[i] != 0; i++) {
        struct snap_meta meta = { .generation = 1,
                                  .raft = { .index = snapshots[i], .term = snapshot_term } };
        struct snap_writer *w;

        meta.raft.config.member_count = 1;
        meta.raft.config.members[0] = self;
        ASSERT(snap_writer_new(&d->store, "taken", &meta, &w, NULL) == 0);
        ASSERT(snap_writer_add(w, "state", 5, NULL) == 0);
        ASSERT(snap_writer_finish(w, NULL, NULL) == 0);
        ASSERT(snap_writer_commit(w, NULL) == 0);
    }
    raft_loaded_deinit(&l);
    raft_disk_close(d);
    return dir;
}

static const struct fit_case {
    const char *why;
    uint64_t last;
    uint64_t snapshots[2];
    uint64_t snapshot_term;
    uint64_t want_first, want_last; /* entries handed out; 0: none */
} fit_cases[] = {
    { "no snapshot", 9, { 0, 0 }, 1, 1, 9 },
    { "a snapshot inside the log, a tail below it", 9, { 6, 0 }, 1, 3, 9 },
    { "two snapshots: the newer one", 9, { 2, 8 }, 1, 5, 9 },
    { "a snapshot at the log's end", 9, { 9, 0 }, 1, 6, 9 },
    { "a snapshot beyond the log replaces it", 9, { 50, 0 }, 1, 0, 0 },
    { "a snapshot of another history replaces it", 9, { 6, 0 }, 2, 0, 0 },
    { "the own state may be durable before its term is", 9, { 12, 0 }, 3, 0, 0 },
};

START_TEST(log_and_snapshot_fit)
{
    const struct fit_case *t = &fit_cases[_i];
    char *dir = make(t->last, t->snapshots, t->snapshot_term);
    struct raft_disk_options o = options_of(dir);
    struct raft_loaded l;
    struct raft_disk *d;
    struct err e = { 0 };

    for (int round = 0; round < 2; round++) { /* what was replaced stays replaced */
        ck_assert_msg(raft_disk_open(&o, &d, &l, &e) == 0, "%s: %s", t->why, e.message);
        ck_assert_msg((l.entry_count == 0) == (t->want_last == 0), "%s", t->why);
        if (l.entry_count > 0) {
            ck_assert_msg(l.entries[0].index == t->want_first, "%s", t->why);
            ck_assert_msg(l.entries[l.entry_count - 1].index == t->want_last, "%s", t->why);
        }
        uint64_t newest = MAX(t->snapshots[0], t->snapshots[1]);
        ck_assert_msg((l.snapshot == NULL) == (newest == 0), "%s", t->why);
        ck_assert_msg(newest == 0 || l.snapshot->index == newest, "%s", t->why);
        ck_assert(!l.moved);
        ck_assert_uint_eq(l.hard_state.incarnation, 77);
        ck_assert_msg(l.hard_state.term == MAX((uint64_t)2, t->snapshot_term), "%s", t->why);
        raft_loaded_deinit(&l);
        raft_disk_close(d);
    }
    tmpdir_remove(dir);
}
END_TEST

/* Names and sizes of all files, and their times of change. */
static uint64_t print_of(const char *dir)
{
    struct disk_options o = { .path = dir };
    struct disk_names names;
    struct disk *d;
    uint64_t sum = 0;

    ASSERT(disk_open(&o, &d, NULL) == 0);
    ASSERT(disk_list(d, &names, NULL) == 0);
    for (size_t i = 0; i < names.count; i++) {
        CLEANUP_FREE char *path = xasprintf("%s/%s", dir, names.names[i]);
        struct stat st;

        ASSERT(stat(path, &st) == 0);
        sum = hash_str(names.names[i], sum + (uint64_t)st.st_size);
        sum = hash_u64((uint64_t)st.st_mtim.tv_nsec, sum + (uint64_t)st.st_ino);
    }
    disk_names_free(&names);
    disk_close(d);
    return sum;
}

/* Looking at a stopped member's data changes none of it, whatever a start would repair. */
START_TEST(read_only_changes_nothing)
{
    const struct fit_case *t = &fit_cases[_i];
    char *dir = make(t->last, t->snapshots, t->snapshot_term);
    struct raft_disk_options o = options_of(dir);
    uint64_t before = print_of(dir);
    struct raft_loaded l;
    struct raft_disk *d;
    struct err e = { 0 };

    o.read_only = true;
    ck_assert_msg(raft_disk_open(&o, &d, &l, &e) == 0, "%s: %s", t->why, e.message);
    ck_assert_msg(l.entry_count == (t->want_last == 0 ? 0 : t->want_last - t->want_first + 1), "%s",
                  t->why);
    struct wal_segment_info s = { 0 };
    ck_assert_msg(wal_segment_at(d->wal, 0, &s) && s.first_index == 1, "%s", t->why);
    raft_loaded_deinit(&l);
    raft_disk_close(d);
    ck_assert_msg(print_of(dir) == before, "%s", t->why);
    tmpdir_remove(dir);
}
END_TEST

static size_t next_piece(void *ctx, uint8_t *mem, size_t max)
{
    unsigned *left = ctx;

    if (*left == 0)
        return 0;
    (*left)--;
    memset(mem, (int)*left, max);
    return max;
}

/* A directory made from a state's bytes: one member, the log behind the snapshot. */
START_TEST(a_seeded_snapshot_is_the_start)
{
    char *dir = tmpdir_new_in_memory();
    struct raft_disk_options o = options_of(dir);
    struct raft_snapshot_meta meta = { .index = 40, .term = 1, .config = { .member_count = 1 } };
    unsigned pieces = 3;
    struct raft_disk_seed seed = { .member = { 5, 2 },
                                   .hard_state = { .term = 1, .incarnation = 9 },
                                   .snapshot = &meta,
                                   .next = next_piece,
                                   .next_ctx = &pieces };
    struct raft_entry next = { 41, 1, RAFT_ENTRY_NORMAL, NULL };
    struct raft_loaded l;
    struct raft_disk *d;
    struct err e = { 0 };

    meta.config.members[0] = founder();
    ck_assert_msg(raft_disk_create(&o, &seed, &e) == 0, "%s", e.message);
    ck_assert_int_eq(raft_disk_create(&o, &seed, &e), -ERR_EXISTS);
    for (uint64_t entries = 0; entries < 2; entries++) {
        ck_assert_msg(raft_disk_open(&o, &d, &l, &e) == 0, "%s", e.message);
        ck_assert_ptr_nonnull(l.snapshot);
        ck_assert_uint_eq(l.snapshot->index, 40);
        ck_assert_uint_eq(l.snapshot->config.members[0].raft_id, 5);
        ck_assert_uint_eq(l.entry_count, entries);
        ck_assert_uint_eq(l.hard_state.incarnation, 9);
        ck_assert_uint_eq(d->member.generation, 2);
        ck_assert_int_eq(raft_disk_append(d, NULL, &next, &e), 0);
        raft_loaded_deinit(&l);
        raft_disk_close(d);
    }
    tmpdir_remove(dir);
}
END_TEST

static void damage(const char *dir, const char *name, off_t at)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", dir, name);
    CLEANUP_CLOSE int fd = open(path, O_RDWR);
    uint8_t byte;

    ASSERT(fd >= 0);
    ASSERT(pread(fd, &byte, 1, at) == 1);
    byte ^= 0x20;
    ASSERT(pwrite(fd, &byte, 1, at) == 1);
}

static const struct refuse_case {
    const char *why;
    const char *file;
    off_t at;
    const char *node_id;
    int want;
} refuse_cases[] = {
    { "untouched", NULL, 0, "node", 0 },
    { "member file damaged", "member", 60, "node", -ERR_CORRUPT },
    { "keyring damaged", "keyring", 70, "node", -ERR_CORRUPT },
    { "log damaged", "wal-0000000000000001", 300, "node", -ERR_CORRUPT },
    { "another node's directory", NULL, 0, "other", -ERR_CORRUPT },
};

START_TEST(damage_is_refused_with_a_remedy)
{
    const struct refuse_case *t = &refuse_cases[_i];
    static const uint64_t none[2];
    char *dir = make(9, none, 1);
    struct raft_disk_options o = options_of(dir);
    struct raft_loaded l = { 0 };
    struct raft_disk *d = NULL;
    struct err e = { 0 };

    if (t->file != NULL)
        damage(dir, t->file, t->at);
    o.node_id = t->node_id;
    int rc = raft_disk_open(&o, &d, &l, &e);
    ck_assert_msg(rc == t->want, "%s: %d %s", t->why, rc, e.message);
    ck_assert_msg(rc == 0 || strstr(e.message, "remedy") != NULL, "%s: %s", t->why, e.message);
    raft_loaded_deinit(&l);
    raft_disk_close(d);
    tmpdir_remove(dir);
}
END_TEST

/* A lost snapshot that the log had counted on is not passed over. */
START_TEST(a_missing_snapshot_is_noticed)
{
    static const uint64_t six[2] = { 6, 0 };
    char *dir = make(9, six, 1);
    struct raft_disk_options o = options_of(dir);
    struct wal_batch taken = { .taken_index = 6, .taken_term = 1 };
    struct raft_loaded l;
    struct raft_disk *d;
    struct err e = { 0 };

    ck_assert_int_eq(raft_disk_open(&o, &d, &l, NULL), 0);
    ck_assert_int_eq(wal_append(d->wal, &taken, NULL), 0);
    ck_assert_int_eq(wal_sync(d->wal, NULL), 0);
    ck_assert_int_eq(disk_remove(d->disk, "snap-0000000000000006-0000000000000001", NULL), 0);
    raft_loaded_deinit(&l);
    raft_disk_close(d);
    ck_assert_int_eq(raft_disk_open(&o, &d, &l, &e), -ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(e.message, "snapshot 6 is missing"));
    tmpdir_remove(dir);
}
END_TEST

/* A directory that was copied lies elsewhere than it was written, and says so until told. */
START_TEST(a_copy_is_recognised)
{
    static const uint64_t none[2];
    char *dir = make(9, none, 1), *copy = tmpdir_new_in_memory();
    struct raft_disk_options o = options_of(copy);
    struct raft_loaded l;
    struct raft_disk *d;

    tmpdir_copy(dir, copy);
    for (int round = 0; round < 3; round++) {
        ck_assert_int_eq(raft_disk_open(&o, &d, &l, NULL), 0);
        ck_assert_int_eq(l.moved, round < 2);
        if (round == 1)
            ck_assert_int_eq(member_store(&d->store, &d->member, NULL), 0);
        raft_loaded_deinit(&l);
        raft_disk_close(d);
    }
    tmpdir_remove(dir);
    tmpdir_remove(copy);
}
END_TEST

/* ---- power cuts of whole members ---- */

static bool is_fatal(struct cluster *c, void *arg)
{
    return c->nodes[*(size_t *)arg].fatal.code != 0;
}

static void cut_power(struct cluster *c, size_t i, struct prng *p)
{
    struct err e = { 0 };

    cluster_stop(c, i);
    crash_disk_power_cut(c->nodes[i].crash, c->nodes[i].directory, p, true);
    int rc = cluster_start(c, i, RAFT_NODE_EXISTING, &e);
    ck_assert_msg(rc == 0, "%s", e.message);
}

static bool holds(const struct cluster_node *n, uint64_t first, uint64_t last)
{
    uint64_t next = first;

    for (size_t i = 0; i < n->value_count && next <= last; i++)
        next += n->values[i] == next;
    return next > last;
}

/* Members lose power at drawn calls, one after another or all at once, while writes go on. */
START_TEST(acknowledged_writes_survive_power_cuts)
{
    static struct cluster c;
    uint64_t written = 0;
    struct prng p;

    prng_init(&p, (uint64_t)_i + 1);
    cluster_init(&c, 3, tmpdir_new_in_memory());
    c.options.segment_bytes = 16384;
    c.options.snapshot_entries = 60;
    c.options.tail_entries = 10;
    for (size_t i = 0; i < 3; i++)
        c.nodes[i].crash = crash_disk_new();
    ck_assert(cluster_form(&c));
    for (int round = 0; round < 12; round++) {
        size_t victim = (size_t)prng_below(&p, 3);
        bool all = prng_below(&p, 4) == 0;

        crash_disk_fail(c.nodes[victim].crash, (unsigned)prng_range(&p, 1, 60), EIO, true,
                        (unsigned)prng_below(&p, 257));
        for (int tries = 0; tries < 40 && !is_fatal(&c, &victim); tries++) {
            if (cluster_write(&c, written + 1, 5)) /* may be cut off: then it is not counted */
                written += 5;
        }
        ck_assert(cluster_run(&c, is_fatal, &victim, 5000));
        for (size_t i = 0; i < 3; i++) {
            if (all || i == victim)
                cut_power(&c, i, &p);
        }
        ck_assert(cluster_run(&c, cluster_even, NULL, 10000));
        ck_assert_ptr_null(cluster_compare(&c));
        ck_assert(holds(&c.nodes[0], 1, written));
    }
    cluster_deinit(&c);
}
END_TEST

int main(void)
{
    const char *more = getenv("SKEP_CRASH_SEEDS");
    Suite *s = suite_create("raft_disk");
    TCase *tc = tcase_create("raft_disk");
    SRunner *r;

    tcase_set_timeout(tc, 600);
    tcase_add_loop_test(tc, log_and_snapshot_fit, 0, ARRAY_LEN(fit_cases));
    tcase_add_loop_test(tc, read_only_changes_nothing, 0, ARRAY_LEN(fit_cases));
    tcase_add_test(tc, a_seeded_snapshot_is_the_start);
    tcase_add_loop_test(tc, damage_is_refused_with_a_remedy, 0, ARRAY_LEN(refuse_cases));
    tcase_add_test(tc, a_missing_snapshot_is_noticed);
    tcase_add_test(tc, a_copy_is_recognised);
    tcase_add_loop_test(tc, acknowledged_writes_survive_power_cuts, 0,
                        more != NULL ? (int)strtol(more, NULL, 10) : 2);
    suite_add_tcase(s, tc);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
