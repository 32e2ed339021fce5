#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/buf.h"
#include "managerd/io/keyring.h"
#include "test/lib/crashdisk.h"
#include "test/lib/tmpdir.h"

static const uint8_t unlock_a[SEAL_KEY_BYTES] = { 1, 2, 3 };
static const uint8_t unlock_b[SEAL_KEY_BYTES] = { 4, 5, 6 };
static const struct keyring_options no_unlock = { 0 };
static const struct keyring_options with_a = { unlock_a, 1 }, with_b = { unlock_b, 2 };

struct fixture {
    char *dir;
    char *path;
    struct crash_disk *crash;
    struct disk *disk;
    struct keyring *keyring;
};

static void setup(struct fixture *f)
{
    struct disk_options o = { .create = true, .hook = crash_disk_hook };

    f->dir = tmpdir_new_in_memory();
    f->path = xasprintf("%s/keyring", f->dir);
    f->crash = crash_disk_new();
    o.path = f->dir;
    o.hook_ctx = f->crash;
    ASSERT(disk_open(&o, &f->disk, NULL) == 0);
    f->keyring = NULL;
}

static void teardown(struct fixture *f)
{
    keyring_free(f->keyring);
    disk_close(f->disk);
    crash_disk_free(f->crash);
    tmpdir_remove(f->dir);
    free(f->path);
}

static int reload(struct fixture *f, const struct keyring_options *o, struct err *e)
{
    keyring_free(f->keyring);
    f->keyring = NULL;
    return keyring_load(f->disk, o, &f->keyring, e);
}

/* Rotation adds, retirement drops, both survive; the file is closed to others. */
START_TEST(rotates_and_retires)
{
    struct fixture f;
    uint8_t first[SEAL_KEY_BYTES];
    struct stat st;

    setup(&f);
    ck_assert_int_eq(reload(&f, &no_unlock, NULL), -ERR_NOT_FOUND);
    ck_assert_int_eq(keyring_create(f.disk, &no_unlock, &f.keyring, NULL), 0);
    ck_assert_uint_eq(keyring_current(f.keyring), 1);
    memcpy(first, keyring_key(f.keyring, 1), sizeof(first));
    ck_assert_int_eq(keyring_rotate(f.keyring, NULL), 0);
    ck_assert_int_eq(reload(&f, &no_unlock, NULL), 0);
    ck_assert_uint_eq(keyring_current(f.keyring), 2);
    ck_assert_mem_eq(keyring_key(f.keyring, 1), first, sizeof(first));
    ck_assert_mem_ne(keyring_key(f.keyring, 2), first, sizeof(first));
    ck_assert_int_eq(keyring_retire(f.keyring, 99, NULL), 0); /* never the current one */
    ck_assert_int_eq(reload(&f, &no_unlock, NULL), 0);
    ck_assert_ptr_null(keyring_key(f.keyring, 1));
    ck_assert_ptr_nonnull(keyring_key(f.keyring, 2));
    ck_assert_int_eq(stat(f.path, &st), 0);
    ck_assert_int_eq(st.st_mode & 07777, 0600);
    struct keyring *second;
    ck_assert_int_eq(keyring_create(f.disk, &no_unlock, &second, NULL), -ERR_EXISTS);
    while (keyring_rotate(f.keyring, NULL) == 0)
        ;
    ck_assert_uint_eq(keyring_current(f.keyring), 1 + KEYRING_KEYS_MAX);
    teardown(&f);
}
END_TEST

static const struct unlock_case {
    const char *why;
    const struct keyring_options *stored, *given;
    int want;
} unlock_cases[] = {
    { "no lock", &no_unlock, &no_unlock, 0 },
    { "no lock, a key at hand", &no_unlock, &with_a, 0 },
    { "the right key", &with_a, &with_a, 0 },
    { "locked", &with_a, &no_unlock, -ERR_PRECONDITION },
    { "another key", &with_a, &with_b, -ERR_PERMISSION },
};

START_TEST(unlocking)
{
    const struct unlock_case *c = &unlock_cases[_i];
    struct fixture f;

    setup(&f);
    ck_assert_int_eq(keyring_create(f.disk, c->stored, &f.keyring, NULL), 0);
    ck_assert_msg(reload(&f, c->given, NULL) == c->want, "%s", c->why);
    teardown(&f);
}
END_TEST

/* The keys stay when the lock changes, and are not readable in the file while it is locked. */
START_TEST(rewrapping)
{
    struct fixture f;
    uint8_t key[SEAL_KEY_BYTES];
    CLEANUP_BUF struct buf file = BUF_INIT(4096);

    setup(&f);
    ck_assert_int_eq(keyring_create(f.disk, &no_unlock, &f.keyring, NULL), 0);
    memcpy(key, keyring_key(f.keyring, 1), sizeof(key));
    ck_assert_int_eq(keyring_rewrap(f.keyring, &with_b, NULL), 0);
    ck_assert_int_eq(keyring_rewrap(f.keyring, &with_a, NULL), -ERR_STALE);
    ck_assert(keyring_locked(f.keyring));
    ck_assert_int_eq(buf_read_file(&file, f.path, NULL), 0);
    ck_assert_ptr_null(memmem(file.data, file.size, key, sizeof(key)));
    ck_assert_int_eq(reload(&f, &with_a, NULL), -ERR_PERMISSION);
    ck_assert_int_eq(reload(&f, &with_b, NULL), 0);
    ck_assert_mem_eq(keyring_key(f.keyring, 1), key, sizeof(key));
    ck_assert_uint_eq(keyring_unlock_version(f.keyring), 2);
    struct keyring_options unlocked = { NULL, 3 };
    ck_assert_int_eq(keyring_rewrap(f.keyring, &unlocked, NULL), 0);
    ck_assert_int_eq(reload(&f, &no_unlock, NULL), 0);
    ck_assert_mem_eq(keyring_key(f.keyring, 1), key, sizeof(key));
    teardown(&f);
}
END_TEST

/* Any flipped bit or cut is damage, never other keys. */
START_TEST(damage_is_found)
{
    struct fixture f;
    CLEANUP_BUF struct buf file = BUF_INIT(4096);

    setup(&f);
    ck_assert_int_eq(keyring_create(f.disk, _i == 0 ? &no_unlock : &with_a, &f.keyring, NULL), 0);
    ck_assert_int_eq(buf_read_file(&file, f.path, NULL), 0);
    for (size_t at = 0; at < 2 * file.size; at++) {
        CLEANUP_CLOSE int fd = open(f.path, O_WRONLY | O_TRUNC);
        size_t size = at < file.size ? file.size : at - file.size;

        if (at < file.size)
            file.data[at] ^= 4;
        ck_assert_int_eq(write(fd, file.data, size), (ssize_t)size);
        ck_assert_int_eq(reload(&f, _i == 0 ? &no_unlock : &with_a, NULL), -ERR_CORRUPT);
        if (at < file.size)
            file.data[at] ^= 4;
    }
    teardown(&f);
}
END_TEST

/* A failing step leaves the old keyring in memory and on disk (or the new one, if it got there). */
START_TEST(failing_steps_keep_a_keyring)
{
    bool reached = true;

    for (unsigned n = 1; reached; n++) {
        struct fixture f;

        setup(&f);
        ck_assert_int_eq(keyring_create(f.disk, &no_unlock, &f.keyring, NULL), 0);
        crash_disk_fail(f.crash, n, ENOSPC, false, 30);
        int rc = keyring_rotate(f.keyring, NULL);
        reached = crash_disk_failed(f.crash);
        ck_assert_int_eq(rc != 0, reached);
        ck_assert_uint_eq(keyring_current(f.keyring), reached ? 1 : 2);
        crash_disk_fail(f.crash, 0, 0, false, 0);
        ck_assert_int_eq(reload(&f, &no_unlock, NULL), 0);
        ck_assert_ptr_nonnull(keyring_key(f.keyring, 1));
        teardown(&f);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("keyring");
    TCase *tc = tcase_create("keyring");
    SRunner *r;

    tcase_add_test(tc, rotates_and_retires);
    tcase_add_loop_test(tc, unlocking, 0, ARRAY_LEN(unlock_cases));
    tcase_add_test(tc, rewrapping);
    tcase_add_loop_test(tc, damage_is_found, 0, 2);
    tcase_add_test(tc, failing_steps_keep_a_keyring);
    suite_add_tcase(s, tc);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
