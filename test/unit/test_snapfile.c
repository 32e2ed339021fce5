#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/buf.h"
#include "managerd/io/snapfile.h"
#include "test/lib/crashdisk.h"
#include "test/lib/tmpdir.h"

/* Snapshot files: what is written is read back at any offset; damage anywhere is found (F7); an
 * interrupted writer leaves nothing that counts (F4, F8, F9). */

struct fixture {
    char *dir;
    struct crash_disk *crash;
    struct disk *disk;
    struct keyring *keyring;
    struct snap_store store;
};

static void open_store(struct fixture *f)
{
    struct disk_options o = {
        .path = f->dir, .create = true, .hook = crash_disk_hook, .hook_ctx = f->crash
    };
    struct keyring_options k = { 0 };

    ASSERT(disk_open(&o, &f->disk, NULL) == 0);
    int rc = keyring_load(f->disk, &k, &f->keyring, NULL);
    if (rc == -ERR_NOT_FOUND)
        rc = keyring_create(f->disk, &k, &f->keyring, NULL);
    ASSERT(rc == 0);
    f->store = (struct snap_store){ f->disk, f->keyring, "cluster", "node" };
}

static void close_store(struct fixture *f)
{
    keyring_free(f->keyring);
    disk_close(f->disk);
}

static void setup(struct fixture *f)
{
    f->dir = tmpdir_new_in_memory();
    f->crash = crash_disk_new();
    open_store(f);
}

static void teardown(struct fixture *f)
{
    close_store(f);
    crash_disk_free(f->crash);
    tmpdir_remove(f->dir);
}

static struct snap_meta meta_at(uint64_t index)
{
    struct snap_meta m = { .generation = 3, .raft = { .index = index, .term = 2 } };

    m.raft.config.member_count = 1;
    m.raft.config.members[0] = (struct raft_member){ .raft_id = 7, .incarnation = 9 };
    memset(m.raft.config.members[0].node_id.s, 'n', ID_CHARS);
    memcpy(m.raft.config.members[0].address, "host:1", 7);
    return m;
}

static uint8_t body_byte(uint64_t index, uint64_t offset)
{
    return (uint8_t)(index * 31 + offset + offset / 251);
}

/* Writes a snapshot whose body is body_byte() throughout. */
static int write_snapshot(struct fixture *f, uint64_t index, size_t size)
{
    struct snap_meta meta = meta_at(index);
    CLEANUP_FREE uint8_t *body = xmalloc(size);
    struct snap_writer *w = NULL;
    int rc = snap_writer_new(&f->store, "taken", &meta, &w, NULL);

    for (size_t i = 0; i < size; i++)
        body[i] = body_byte(index, i);
    for (size_t at = 0; rc == 0 && at < size; at += MIN(size - at, (size_t)100000))
        rc = snap_writer_add(w, body + at, MIN(size - at, (size_t)100000), NULL);
    if (rc == 0)
        rc = snap_writer_finish(w, NULL, NULL);
    if (rc == 0)
        return snap_writer_commit(w, NULL);
    snap_writer_abort(w);
    return rc;
}

/* 0 when it opens, verifies and holds what was written. */
static int read_snapshot(struct fixture *f, uint64_t index, size_t size, struct err *e)
{
    struct snap_reader *r;
    int rc = snap_reader_open(&f->store, index, 2, &r, e);

    if (rc < 0)
        return rc;
    rc = snap_reader_verify(r, e);
    ck_assert_uint_eq(snap_reader_size(r), size);
    ck_assert_uint_eq(snap_reader_meta(r)->generation, 3);
    ck_assert_uint_eq(snap_reader_meta(r)->raft.index, index);
    ck_assert_str_eq(snap_reader_meta(r)->raft.config.members[0].address, "host:1");
    snap_reader_close(r);
    return rc;
}

static const size_t sizes[] = {
    0,
    1,
    1000,
    SNAP_CHUNK_BYTES - 1,
    SNAP_CHUNK_BYTES,
    SNAP_CHUNK_BYTES + 1,
    3 * SNAP_CHUNK_BYTES + 17,
};

START_TEST(reads_back_at_any_offset)
{
    struct fixture f;
    struct snap_reader *r;
    size_t size = sizes[_i], got;
    static uint8_t mem[70000];
    struct prng p;

    prng_init(&p, 1);
    setup(&f);
    ck_assert_int_eq(write_snapshot(&f, 5, size), 0);
    ck_assert_int_eq(read_snapshot(&f, 5, size, NULL), 0);
    ck_assert_int_eq(snap_reader_open(&f.store, 5, 2, &r, NULL), 0);
    for (int i = 0; i < 30; i++) {
        struct snap_piece piece = { i == 0 ? size : prng_below(&p, size + 1), mem, sizeof(mem) };

        ck_assert_int_eq(snap_reader_read(r, &piece, &got, NULL), 0);
        ck_assert_msg((got == 0) == (piece.offset == size), "0 bytes at the end only");
        size_t right = 0;
        while (right < got && mem[right] == body_byte(5, piece.offset + right))
            right++;
        ck_assert_uint_eq(right, got);
    }
    snap_reader_close(r);
    teardown(&f);
}
END_TEST

static void rewrite(const char *path, const uint8_t *bytes, size_t size)
{
    CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_TRUNC);

    ASSERT(fd >= 0);
    ASSERT(write(fd, bytes, size) == (ssize_t)size);
}

/* Every flipped byte and every truncation is refused, with file and offset. */
START_TEST(damage_is_found)
{
    struct fixture f;
    CLEANUP_BUF struct buf file = BUF_INIT(4 << 20);
    size_t size = _i == 0 ? 700 : 2 * SNAP_CHUNK_BYTES + 99, step = _i == 0 ? 1 : 20011;

    setup(&f);
    ck_assert_int_eq(write_snapshot(&f, 5, size), 0);
    CLEANUP_FREE char *path = xasprintf("%s/snap-0000000000000005-0000000000000002", f.dir);
    ck_assert_int_eq(buf_read_file(&file, path, NULL), 0);
    for (size_t at = 0; at < file.size; at += step) {
        struct err e = { 0 };

        file.data[at] ^= 0x10;
        rewrite(path, file.data, file.size);
        int rc = read_snapshot(&f, 5, size, &e);
        ck_assert_msg(rc == -ERR_CORRUPT, "flip at %zu: %d", at, rc);
        ck_assert_ptr_nonnull(strstr(e.message, "snap-0"));
        ck_assert_ptr_nonnull(strstr(e.message, "offset"));
        file.data[at] ^= 0x10;
        rewrite(path, file.data, at);
        ck_assert_msg(read_snapshot(&f, 5, size, &e) == -ERR_CORRUPT, "cut at %zu", at);
    }
    rewrite(path, file.data, file.size);
    ck_assert_int_eq(read_snapshot(&f, 5, size, NULL), 0);
    teardown(&f);
}
END_TEST

/* Two chunks of one file exchanged; a chunk of another file of the same node. */
START_TEST(moved_chunks_are_refused)
{
    struct fixture f;
    CLEANUP_BUF struct buf a = BUF_INIT(4 << 20), b = BUF_INIT(4 << 20);
    size_t size = 2 * SNAP_CHUNK_BYTES, piece = 20 + SNAP_CHUNK_BYTES + 16, footer = 20 + 40 + 16;

    setup(&f);
    ck_assert_int_eq(write_snapshot(&f, 5, size), 0);
    ck_assert_int_eq(write_snapshot(&f, 6, size), 0);
    CLEANUP_FREE char *path_a = xasprintf("%s/snap-0000000000000005-0000000000000002", f.dir);
    CLEANUP_FREE char *path_b = xasprintf("%s/snap-0000000000000006-0000000000000002", f.dir);
    ck_assert_int_eq(buf_read_file(&a, path_a, NULL), 0);
    ck_assert_int_eq(buf_read_file(&b, path_b, NULL), 0);
    size_t start = a.size - footer - 2 * piece;
    CLEANUP_FREE uint8_t *swapped = xmemdup(a.data, a.size);
    memcpy(swapped + start, a.data + start + piece, piece);
    memcpy(swapped + start + piece, a.data + start, piece);
    rewrite(path_a, swapped, a.size);
    ck_assert_int_eq(read_snapshot(&f, 5, size, NULL), -ERR_CORRUPT);
    memcpy(swapped, a.data, a.size);
    memcpy(swapped + start, b.data + start, piece);
    rewrite(path_a, swapped, a.size);
    ck_assert_int_eq(read_snapshot(&f, 5, size, NULL), -ERR_CORRUPT);
    rewrite(path_a, b.data, b.size); /* the whole file under another name */
    ck_assert_int_eq(read_snapshot(&f, 5, size, NULL), -ERR_CORRUPT);
    teardown(&f);
}
END_TEST

START_TEST(foreign_snapshots_are_refused)
{
    struct fixture f;
    struct err e = { 0 };

    setup(&f);
    ck_assert_int_eq(write_snapshot(&f, 5, 100), 0);
    f.store.node_id = "other";
    ck_assert_int_eq(read_snapshot(&f, 5, 100, &e), -ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(e.message, "another node"));
    f.store.node_id = "node";
    f.store.cluster_id = "other";
    ck_assert_int_eq(read_snapshot(&f, 5, 100, &e), -ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(e.message, "another cluster"));
    f.store.cluster_id = "cluster";
    ck_assert_int_eq(read_snapshot(&f, 4, 100, &e), -ERR_NOT_FOUND);
    teardown(&f);
}
END_TEST

/* N57: a body that differs from the digest it was announced with is not finished. */
START_TEST(announced_digest_must_fit)
{
    struct fixture f;
    struct snap_meta meta = meta_at(5);
    struct snap_writer *w;
    uint8_t sha256[SEAL_DIGEST_BYTES];

    setup(&f);
    for (int wrong = 0; wrong < 2; wrong++) {
        seal_digest_of("abc", 3, sha256);
        sha256[31] ^= (uint8_t)wrong;
        ck_assert_int_eq(snap_writer_new(&f.store, "received", &meta, &w, NULL), 0);
        ck_assert_int_eq(snap_writer_add(w, "abc", 3, NULL), 0);
        ck_assert_int_eq(snap_writer_finish(w, sha256, NULL), wrong ? -ERR_CORRUPT : 0);
        snap_writer_abort(w);
    }
    teardown(&f);
}
END_TEST

/* Newest first; the newest two stay; temporary files go at start only. */
START_TEST(list_and_prune)
{
    struct fixture f;
    struct snap_name names[8];
    struct snap_meta meta = meta_at(99);
    struct snap_writer *w;
    struct disk_names files;
    size_t count = 0;

    setup(&f);
    for (uint64_t index = 1; index <= 4; index++)
        ck_assert_int_eq(write_snapshot(&f, index * 300, 10), 0);
    ck_assert_int_eq(snap_writer_new(&f.store, "received", &meta, &w, NULL), 0);
    ck_assert_int_eq(snap_prune(&f.store, NULL), 0);
    ck_assert_int_eq(snap_list(&f.store, names, ARRAY_LEN(names), &count, NULL), 0);
    ck_assert_uint_eq(count, 2);
    ck_assert_uint_eq(names[0].index, 1200);
    ck_assert_uint_eq(names[1].index, 900);
    ck_assert_int_eq(disk_list(f.disk, &files, NULL), 0);
    ck_assert_uint_eq(files.count, 4); /* two, the one being received, the keyring */
    disk_names_free(&files);
    ck_assert_int_eq(snap_remove_temporaries(&f.store, NULL), 0);
    ck_assert_int_eq(disk_list(f.disk, &files, NULL), 0);
    ck_assert_uint_eq(files.count, 3);
    disk_names_free(&files);
    snap_writer_abort(w);
    teardown(&f);
}
END_TEST

/* A new key is used by the next snapshot; the oldest in use follows. */
START_TEST(key_rotation)
{
    struct fixture f;
    uint32_t oldest = 0;

    setup(&f);
    ck_assert_int_eq(write_snapshot(&f, 5, 100), 0);
    ck_assert_int_eq(keyring_rotate(f.keyring, NULL), 0);
    ck_assert_int_eq(write_snapshot(&f, 6, 100), 0);
    ck_assert_int_eq(read_snapshot(&f, 5, 100, NULL), 0);
    ck_assert_int_eq(read_snapshot(&f, 6, 100, NULL), 0);
    ck_assert_int_eq(snap_oldest_key(&f.store, &oldest, NULL), 0);
    ck_assert_uint_eq(oldest, 1);
    ck_assert_int_eq(write_snapshot(&f, 7, 100), 0);
    ck_assert_int_eq(snap_prune(&f.store, NULL), 0);
    ck_assert_int_eq(snap_oldest_key(&f.store, &oldest, NULL), 0);
    ck_assert_uint_eq(oldest, 2);
    teardown(&f);
}
END_TEST

/* F4, F9: an error or a power cut at the n-th call. A snapshot whose commit succeeded is there; a
 * name that is there stands for a whole snapshot; the older one is never harmed. */
START_TEST(failures_at_every_call)
{
    static const int errors[] = { ENOSPC, EIO };
    bool reached = true;
    struct prng p;

    prng_init(&p, (uint64_t)_i);
    for (unsigned n = 1; reached; n++) {
        struct fixture f;
        struct snap_name names[4];
        struct err e = { 0 };
        size_t count = 0;

        setup(&f);
        ck_assert_int_eq(write_snapshot(&f, 5, 1000), 0);
        crash_disk_fail(f.crash, n, errors[_i % 2], _i >= 2, 100);
        int rc = write_snapshot(&f, 6, SNAP_CHUNK_BYTES + 1000);
        reached = crash_disk_failed(f.crash);
        ck_assert_int_eq(rc != 0, reached);
        close_store(&f);
        if (_i >= 2)
            crash_disk_power_cut(f.crash, f.dir, &p, true);
        crash_disk_fail(f.crash, 0, 0, false, 0);
        open_store(&f);
        ck_assert_int_eq(snap_list(&f.store, names, ARRAY_LEN(names), &count, NULL), 0);
        ck_assert_uint_ge(count, rc == 0 ? 2 : 1);
        for (size_t i = 0; i < count; i++) {
            size_t size = names[i].index == 5 ? 1000 : SNAP_CHUNK_BYTES + 1000;

            ck_assert_msg(read_snapshot(&f, names[i].index, size, &e) == 0, "call %u: %s", n,
                          e.message);
        }
        teardown(&f);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("snapfile");
    TCase *tc = tcase_create("snapfile");
    SRunner *r;

    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, reads_back_at_any_offset, 0, ARRAY_LEN(sizes));
    tcase_add_loop_test(tc, damage_is_found, 0, 2);
    tcase_add_test(tc, moved_chunks_are_refused);
    tcase_add_test(tc, foreign_snapshots_are_refused);
    tcase_add_test(tc, announced_digest_must_fit);
    tcase_add_test(tc, list_and_prune);
    tcase_add_test(tc, key_rotation);
    tcase_add_loop_test(tc, failures_at_every_call, 0, 4);
    suite_add_tcase(s, tc);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
