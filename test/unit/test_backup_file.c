#include "common/backup_file.h"

#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "test/lib/pki.h"
#include "test/lib/tmpdir.h"

enum { BODY_MAX = 1 << 20 };

static char *dir, *path;
static struct err e;

static void setup(void)
{
    dir = tmpdir_new();
    path = xasprintf("%s/backup", dir);
    e = (struct err){ 0 };
}

static void teardown(void)
{
    free(path);
    tmpdir_remove(dir);
}

static struct backup_header header(void)
{
    return (struct backup_header){ .version = 7, .created_ns = -5, .cluster_id = pki_id(3) };
}

static uint64_t save(const char *body, size_t size)
{
    struct backup_header h = header();
    struct backup_writer *w = NULL;
    uint64_t total = 0;

    ck_assert_msg(backup_writer_new(path, &h, &w, &e) == 0, "%s", e.message);
    for (size_t at = 0; at < size; at += size / 2 + 1)
        ck_assert_int_eq(backup_writer_add(w, body + at, MIN(size / 2 + 1, size - at), &e), 0);
    ck_assert_msg(backup_writer_commit(w, &total, &e) == 0, "%s", e.message);
    return total;
}

static int collect(void *ctx, const uint8_t *mem, size_t size, struct err *err)
{
    (void)err;
    return buf_append(ctx, mem, size);
}

static int load(struct buf *body)
{
    struct backup_header h;

    return backup_file_read(path, &h, collect, body, &e);
}

/* The bytes of the file now, so that they can be put back changed. */
static void put_back(const uint8_t *mem, size_t size)
{
    CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    ck_assert(fd >= 0);
    ck_assert_int_eq(write(fd, mem, size), (ssize_t)size);
}

static const struct body_case {
    const char *why;
    size_t size;
} bodies[] = {
    { "an empty body", 0 },
    { "one byte", 1 },
    { "a piece", 256 << 10 },
    { "more than a piece", (256 << 10) + 1 },
};

START_TEST(what_was_saved_is_read)
{
    const struct body_case *t = &bodies[_i];
    CLEANUP_BUF struct buf got = BUF_INIT(BODY_MAX);
    CLEANUP_FREE char *body = xmalloc(t->size + 1);
    struct backup_header h;
    struct stat st;

    for (size_t i = 0; i < t->size; i++)
        body[i] = (char)(i * 31);
    uint64_t size = save(body, t->size);
    ck_assert_msg(backup_file_read(path, &h, collect, &got, &e) == 0, "%s: %s", t->why, e.message);
    ck_assert_msg(got.size == t->size && (t->size == 0 || memcmp(got.data, body, t->size) == 0),
                  "%s", t->why);
    ck_assert_uint_eq(h.version, 7);
    ck_assert_int_eq(h.created_ns, -5);
    ck_assert_str_eq(h.cluster_id.s, header().cluster_id.s);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600); /* it holds the CA's key */
    ck_assert_uint_eq((uint64_t)st.st_size, size);
}
END_TEST

/* A file that was cut off anywhere is refused, and nothing of it is handed out. */
START_TEST(cut_off_anywhere)
{
    CLEANUP_BUF struct buf whole = BUF_INIT(BODY_MAX), got = BUF_INIT(BODY_MAX);

    (void)save("some objects", 12);
    ck_assert_int_eq(buf_read_file(&whole, path, &e), 0);
    for (size_t size = 0; size < whole.size; size++) {
        put_back(whole.data, size);
        ck_assert_msg(load(&got) == -ERR_CORRUPT, "%zu of %zu bytes", size, whole.size);
        ck_assert_uint_eq(got.size, 0);
        ck_assert_ptr_nonnull(strstr(e.message, path));
    }
    put_back(whole.data, whole.size);
    ck_assert_int_eq(load(&got), 0);
}
END_TEST

START_TEST(a_flipped_bit_anywhere)
{
    CLEANUP_BUF struct buf whole = BUF_INIT(BODY_MAX), got = BUF_INIT(BODY_MAX);

    (void)save("some objects", 12);
    ck_assert_int_eq(buf_read_file(&whole, path, &e), 0);
    for (size_t bit = 0; bit < whole.size * 8; bit++) {
        whole.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        put_back(whole.data, whole.size);
        int rc = load(&got);
        ck_assert_msg(rc == -ERR_CORRUPT || (rc == -ERR_UNSUPPORTED && bit / 8 < 16), "bit %zu: %d",
                      bit, rc);
        ck_assert_uint_eq(got.size, 0);
        whole.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}
END_TEST

START_TEST(bytes_behind_the_end)
{
    CLEANUP_BUF struct buf whole = BUF_INIT(BODY_MAX), got = BUF_INIT(BODY_MAX);

    (void)save("some objects", 12);
    ck_assert_int_eq(buf_read_file(&whole, path, &e), 0);
    ck_assert_int_eq(buf_append(&whole, "x", 1), 0);
    put_back(whole.data, whole.size);
    ck_assert_int_eq(load(&got), -ERR_CORRUPT);
}
END_TEST

/* What is under the name stays until the new file is complete. */
START_TEST(an_interrupted_save_leaves_the_old_one)
{
    CLEANUP_BUF struct buf got = BUF_INIT(BODY_MAX);
    struct backup_header h = header();
    struct backup_writer *w = NULL;

    (void)save("old", 3);
    ck_assert_int_eq(backup_writer_new(path, &h, &w, &e), 0);
    ck_assert_int_eq(backup_writer_add(w, "new", 3, &e), 0);
    backup_writer_abort(w);
    ck_assert_int_eq(load(&got), 0);
    ck_assert_str_eq(buf_str(&got), "old");
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(load(&got), -ERR_NOT_FOUND);
    ck_assert_int_eq(rmdir(dir), 0); /* nothing else was left in it */
    ck_assert_int_eq(mkdir(dir, 0700), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("backup_file");
    TCase *tc = tcase_create("backup_file");
    SRunner *r;

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, what_was_saved_is_read, 0, ARRAY_LEN(bodies));
    tcase_add_test(tc, cut_off_anywhere);
    tcase_add_test(tc, a_flipped_bit_anywhere);
    tcase_add_test(tc, bytes_behind_the_end);
    tcase_add_test(tc, an_interrupted_save_leaves_the_old_one);
    suite_add_tcase(s, tc);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
