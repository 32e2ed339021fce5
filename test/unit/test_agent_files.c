/* Secret and config files on disk, and the text that goes to managers. */
#include "agentd/files.h"

#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/worker/plain.h"
#include "common/buf.h"
#include "test/lib/tmpdir.h"

#define TASK "abcdefghijklmnopqrstuvwxy"
#define OTHER "bbcdefghijklmnopqrstuvwxy"

static char *run_dir, *dir;

static void setup(void)
{
    struct err e;

    run_dir = tmpdir_new_in_memory();
    ck_assert_int_eq(files_open(run_dir, &dir, &e), 0);
}

static void teardown(void)
{
    ck_assert_int_eq(rmdir(dir), 0); /* nothing was left behind */
    free(dir);
    tmpdir_remove(run_dir);
}

static bool exists(const char *task, const char *name)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s/%s", dir, task, name);
    struct stat st;

    return stat(path, &st) == 0;
}

static void write_two(const char *task, const char *first)
{
    struct container_file files[] = { { .name = "s0", .mode = 0400 },
                                      { .name = "c1", .mode = 0444 } };
    struct container_plan plan = { .files = files, .file_count = 2 };
    struct files_content contents[] = { { first, strlen(first) }, { "two", 3 } };
    struct err e;

    ck_assert_msg(files_write(dir, task, &plan, contents, &e) == 0, "%s", e.message);
}

START_TEST(written_replaced_wiped)
{
    CLEANUP_FREE char *path = xasprintf("%s/" TASK "/s0", dir);
    CLEANUP_BUF struct buf content = BUF_INIT(100);
    struct stat st;
    struct err e;

    write_two(TASK, "one");
    write_two(TASK, "again"); /* an earlier attempt's files are replaced */
    ck_assert_int_eq(buf_read_file(&content, path, &e), 0);
    ck_assert_str_eq(buf_str(&content), "again");
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0400);
    ck_assert_int_eq(stat(dir, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0700);
    files_wipe(dir, TASK);
    ck_assert(!exists(TASK, ""));
    files_wipe(dir, TASK); /* nothing there is success */
}
END_TEST

static bool keep_other(void *ctx, const char *task_id)
{
    (*(unsigned *)ctx)++;
    return strcmp(task_id, OTHER) == 0;
}

/* What an earlier run left for tasks that are gone is removed, the rest is kept. */
START_TEST(sweep_keeps_what_is_known)
{
    unsigned asked = 0;

    write_two(TASK, "one");
    write_two(OTHER, "one");
    files_sweep(dir, keep_other, &asked);
    ck_assert_uint_eq(asked, 2);
    ck_assert(!exists(TASK, ""));
    ck_assert(exists(OTHER, "c1"));
    files_wipe(dir, OTHER);
}
END_TEST

START_TEST(no_files_make_no_directory)
{
    struct container_plan plan = { .file_count = 0 };
    struct err e;

    ck_assert_int_eq(files_write(dir, TASK, &plan, NULL, &e), 0);
    ck_assert(!exists(TASK, ""));
}
END_TEST

/* Any user of a container can use the pipes, nobody else can see them; a note survives what a
 * restart of the agent does, and everything goes with the task. */
START_TEST(gates_are_pipes)
{
    CLEANUP_FREE char *gate = xasprintf("%s/" TASK "/gate/gate", dir);
    struct container_plan plan = { .gate = true };
    struct stat st;
    struct err e;
    int fd, reader;

    ck_assert_int_eq(files_gate_open(dir, TASK, &fd, &e), -ERR_NOT_FOUND);
    ck_assert_int_eq(files_write(dir, TASK, &plan, NULL, &e), 0);
    ck_assert_int_eq(files_write(dir, TASK, &plan, NULL, &e), 0); /* again */
    ck_assert_int_eq(stat(gate, &st), 0);
    ck_assert(S_ISFIFO(st.st_mode));
    ck_assert_uint_eq(st.st_mode & 07777, 0666);
    *strrchr(gate, '/') = '\0';
    ck_assert_int_eq(stat(gate, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0755);
    ck_assert_int_eq(files_gate_open(dir, TASK, &fd, &e), -ERR_UNAVAILABLE);
    gate[strlen(gate)] = '/';
    reader = open(gate, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(reader, 0);
    ck_assert_int_eq(files_gate_open(dir, TASK, &fd, &e), 0);
    (void)close(fd);
    (void)close(reader);
    ck_assert(!files_gate_marked(dir, TASK));
    ck_assert_int_eq(files_gate_mark(dir, TASK, &e), 0);
    ck_assert_int_eq(files_gate_mark(dir, TASK, &e), 0);
    ck_assert(files_gate_marked(dir, TASK));
    files_wipe(dir, TASK);
    ck_assert(!exists(TASK, ""));
}
END_TEST

/* A task's directory that is a symbolic link is not followed. */
START_TEST(links_are_not_followed)
{
    CLEANUP_FREE char *path = xasprintf("%s/" TASK, dir);
    CLEANUP_FREE char *target = xasprintf("%s/target", run_dir);
    CLEANUP_FREE char *inside = xasprintf("%s/target/x", run_dir);
    struct stat st;

    ck_assert_int_eq(mkdir(target, 0700), 0);
    ck_assert_int_eq(mkdir(inside, 0700), 0);
    ck_assert_int_eq(symlink(target, path), 0);
    files_wipe(dir, TASK);
    ck_assert_int_eq(stat(inside, &st), 0);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(rmdir(inside), 0);
    ck_assert_int_eq(rmdir(target), 0);
}
END_TEST

static const struct text_case {
    const char *why, *text;
    size_t size; /* of the buffer that it is formatted into */
    const char *want;
} texts[] = {
    { "fits", "abc", 4, "abc" },
    { "cut", "abcd", 4, "abc" },
    { "cut within two bytes", "ab\xc3\xa9", 4, "ab" },
    { "cut within three bytes", "a\xe2\x82\xac", 4, "a" },
    { "cut within four bytes", "\xf0\x9f\x98\x80", 4, "" },
    { "a whole character at the end", "a\xc3\xa9", 4, "a\xc3\xa9" },
    { "control characters", "a\nb\tc\x7f", 10, "a b c " },
    { "a lone byte",
      "a\xff"
      "b",
      10, "a?b" },
    { "an overlong form", "\xc0\xaf", 10, "??" },
    { "an overlong form of three", "\xe0\x80\xaf", 10, "???" },
    { "a surrogate", "\xed\xa0\x80", 10, "???" },
    { "beyond Unicode", "\xf4\x90\x80\x80", 10, "????" },
    { "the last character", "\xf4\x8f\xbf\xbf", 10, "\xf4\x8f\xbf\xbf" },
};

START_TEST(text_stays_utf8)
{
    const struct text_case *c = &texts[_i];
    char text[16];

    plain_format(text, c->size, "%s", c->text);
    plain_clean(text);
    ck_assert_msg(strcmp(text, c->want) == 0, "%s: '%s'", c->why, text);
}
END_TEST

START_TEST(quotes_stay_within_quotes)
{
    char ret[PLAIN_QUOTABLE_MAX];

    ck_assert_str_eq(plain_quotable(ret, "type \"bind\""), "type 'bind'");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("agent files");
    TCase *tc = tcase_create("files"), *text = tcase_create("text");
    SRunner *sr;
    int failed;

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, written_replaced_wiped);
    tcase_add_test(tc, sweep_keeps_what_is_known);
    tcase_add_test(tc, no_files_make_no_directory);
    tcase_add_test(tc, gates_are_pipes);
    tcase_add_test(tc, links_are_not_followed);
    tcase_add_loop_test(text, text_stays_utf8, 0, (int)ARRAY_LEN(texts));
    tcase_add_test(text, quotes_stay_within_quotes);
    suite_add_tcase(s, tc);
    suite_add_tcase(s, text);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
