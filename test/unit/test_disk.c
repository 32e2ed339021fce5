#include <check.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/assert.h"
#include "managerd/io/disk.h"
#include "test/lib/tmpdir.h"

/* N45: a state directory that others could have touched is refused. */
enum trap { TRAP_NONE, TRAP_SYMLINK, TRAP_FILE, TRAP_MODE, TRAP_OWNER, TRAP_MISSING };

static const struct dir_case {
    const char *why;
    enum trap trap;
    mode_t mode;
    int want;
} dir_cases[] = {
    { "ours, 0700", TRAP_NONE, 0700, 0 },
    { "world accessible", TRAP_MODE, 0777, -ERR_PERMISSION },
    { "readable by others", TRAP_MODE, 0704, -ERR_PERMISSION },
    { "readable by the group", TRAP_MODE, 0750, -ERR_PERMISSION },
    { "a symbolic link", TRAP_SYMLINK, 0700, -ERR_PERMISSION },
    { "a file", TRAP_FILE, 0700, -ERR_PERMISSION },
    { "another owner", TRAP_OWNER, 0700, -ERR_PERMISSION },
    { "missing", TRAP_MISSING, 0700, -ERR_NOT_FOUND },
};

static void lay_trap(const struct dir_case *c, const char *path, const char *other)
{
    int fd;

    switch (c->trap) {
    case TRAP_SYMLINK:
        ASSERT(mkdir(other, 0700) == 0);
        ASSERT(symlink("other", path) == 0);
        break;
    case TRAP_FILE:
        fd = open(path, O_CREAT | O_WRONLY, 0600);
        ASSERT(fd >= 0);
        ASSERT(close(fd) == 0);
        break;
    case TRAP_MISSING:
        break;
    case TRAP_NONE:
    case TRAP_MODE:
    case TRAP_OWNER:
        ASSERT(mkdir(path, 0700) == 0);
        ASSERT(chmod(path, c->mode) == 0);
        if (c->trap == TRAP_OWNER && geteuid() == 0)
            ASSERT(chown(path, 12345, 12345) == 0);
    }
}

START_TEST(state_directory_checks)
{
    const struct dir_case *c = &dir_cases[_i];
    char *base = tmpdir_new();
    CLEANUP_FREE char *path = xasprintf("%s/state", base);
    CLEANUP_FREE char *other = xasprintf("%s/other", base);
    struct disk_options o = { .path = path };
    struct disk *d = NULL;
    struct err e = { 0 };

    lay_trap(c, path, other);
    int rc = disk_open(&o, &d, &e);
    if (c->trap != TRAP_OWNER || geteuid() == 0)
        ck_assert_msg(rc == c->want, "%s: %d %s", c->why, rc, e.message);
    ck_assert_msg(rc == 0 || strstr(e.message, "state") != NULL, "%s", e.message);
    disk_close(d);
    tmpdir_remove(base);
}
END_TEST

/* The same for files in it; and two processes do not share it. */
START_TEST(file_checks_and_lock)
{
    char *base = tmpdir_new();
    struct disk_options o = { .path = base };
    struct disk_file f;
    struct disk *d, *second;
    CLEANUP_FREE char *path = xasprintf("%s/f", base);
    CLEANUP_FREE char *link = xasprintf("%s/l", base);

    ck_assert_int_eq(disk_open(&o, &d, NULL), 0);
    ck_assert_int_eq(disk_open(&o, &second, NULL), -ERR_BUSY);
    ck_assert_int_eq(disk_file_create(d, "f", &f, NULL), 0);
    disk_file_close(&f);
    ck_assert_int_eq(chmod(path, 0644), 0);
    ck_assert_int_eq(disk_file_open(d, "f", &f, NULL), -ERR_PERMISSION);
    ck_assert_int_eq(chmod(path, 0600), 0);
    ck_assert_int_eq(symlink("f", link), 0);
    ck_assert_int_eq(disk_file_open(d, "l", &f, NULL), -ERR_PERMISSION);
    ck_assert_int_eq(disk_file_open(d, "absent", &f, NULL), -ERR_NOT_FOUND);
    disk_close(d);
    tmpdir_remove(base);
}
END_TEST

/* Any size is read back past the page cache, whether it fills the last block or not. */
START_TEST(reads_whole_files)
{
    static const size_t sizes[] = { 0, 1, 511, 4095, 4096, 4097, 300000 };
    char *base = tmpdir_new();
    struct disk_options o = { .path = base };
    struct disk_bytes bytes;
    struct disk_file f;
    struct disk *d;
    CLEANUP_FREE uint8_t *data = xmalloc(300000);

    for (size_t i = 0; i < 300000; i++)
        data[i] = (uint8_t)(i * 7 + i / 300);
    ck_assert_int_eq(disk_open(&o, &d, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        ck_assert_int_eq(disk_file_create(d, "f", &f, NULL), 0);
        ck_assert_int_eq(disk_file_write(&f, 0, data, sizes[i], NULL), 0);
        disk_file_close(&f);
        ck_assert_int_eq(disk_read_whole(d, "f", 300000, &bytes, NULL), 0);
        ck_assert_uint_eq(bytes.size, sizes[i]);
        ck_assert(memcmp(bytes.mem, data, sizes[i]) == 0);
        free(bytes.mem);
    }
    ck_assert_int_eq(disk_read_whole(d, "f", 299999, &bytes, NULL), -ERR_TOO_BIG);
    disk_close(d);
    tmpdir_remove(base);
}
END_TEST

/* An allocated file is all zeros; names come sorted, without the lock. */
START_TEST(allocates_and_lists)
{
    char *base = tmpdir_new();
    struct disk_options o = { .path = base };
    struct disk_names names;
    struct disk_file f;
    struct disk *d;
    uint8_t mem[4];

    ck_assert_int_eq(disk_open(&o, &d, NULL), 0);
    ck_assert_int_eq(disk_file_create(d, "z", &f, NULL), 0);
    ck_assert_int_eq(disk_file_allocate(&f, 3 << 20, NULL), 0);
    ck_assert_int_eq(disk_file_read(&f, (3 << 20) - 4, mem, 4, NULL), 0);
    ck_assert_mem_eq(mem, "\0\0\0\0", 4);
    ck_assert_int_eq(disk_file_read(&f, 3 << 20, mem, 1, NULL), -ERR_CORRUPT);
    disk_file_close(&f);
    ck_assert_int_eq(disk_replace(d, "a", "x", 1, NULL), 0);
    ck_assert_int_eq(disk_list(d, &names, NULL), 0);
    ck_assert_uint_eq(names.count, 2);
    ck_assert_str_eq(names.names[0], "a");
    ck_assert_str_eq(names.names[1], "z");
    disk_names_free(&names);
    ck_assert_int_eq(disk_remove(d, "a", NULL), 0);
    ck_assert_int_eq(disk_remove(d, "a", NULL), 0);
    disk_close(d);
    tmpdir_remove(base);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("disk");
    TCase *tc = tcase_create("disk");
    SRunner *r;

    tcase_add_loop_test(tc, state_directory_checks, 0, ARRAY_LEN(dir_cases));
    tcase_add_test(tc, file_checks_and_lock);
    tcase_add_test(tc, reads_whole_files);
    tcase_add_test(tc, allocates_and_lists);
    suite_add_tcase(s, tc);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
