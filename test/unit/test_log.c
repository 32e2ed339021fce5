#include "common/log.h"

#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"

static int saved, ends[2];

/* stderr becomes a pipe that the test reads. */
static void setup(void)
{
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    ck_assert_int_eq(dup3(ends[1], STDERR_FILENO, 0), STDERR_FILENO);
    log_set_level(LOG_INFO);
}

static void teardown(void)
{
    ck_assert_int_eq(dup3(saved, STDERR_FILENO, 0), STDERR_FILENO);
    (void)close(saved);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static const char *written(void)
{
    static char text[1 << 17];
    ssize_t size = read(ends[0], text, sizeof(text) - 1);

    text[size > 0 ? size : 0] = '\0';
    return text;
}

START_TEST(writes_one_line_per_event)
{
    log_info("task.state", "task=%s to=%s", "t1", "running");
    log_debug("hidden", "x=1");
    ck_assert_str_eq(written(), "info task.state task=t1 to=running\n");
    log_set_level(LOG_ERROR);
    log_warn("hidden", "x=1");
    ck_assert_str_eq(written(), "");
}
END_TEST

/* Foreign text cannot forge a line. */
START_TEST(control_characters_are_replaced)
{
    log_error("node.join", "name=%s", "a\nerror forged\r\x1b[31m\x7f");
    ck_assert_str_eq(written(), "error node.join name=a?error forged??[31m?\n");
}
END_TEST

START_TEST(long_lines_are_cut)
{
    char text[2 * LOG_LINE_BYTES_MAX];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    log_error("long", "x=%s", text);
    const char *line = written();
    ck_assert_uint_lt(strlen(line), LOG_LINE_BYTES_MAX);
    ck_assert(line[strlen(line) - 1] == '\n');
}
END_TEST

/* A reader that stalls costs lines, never time. */
START_TEST(full_pipe_drops_and_counts)
{
    uint64_t before = log_dropped_count();

    for (int i = 0; i < 20000; i++)
        log_info("flood", "number=%d padding=0123456789", i);
    ck_assert_uint_gt(log_dropped_count(), before);
}
END_TEST

START_TEST(ring_keeps_the_last_lines_of_all_levels)
{
    char first[32];

    for (int i = 0; i < 3 * LOG_RING_LINES; i++)
        log_debug("step", "number=%d", i);
    ck_assert_str_eq(written(), "");
    log_dump_ring(ends[1]);
    const char *text = written();
    (void)snprintf(first, sizeof(first), "debug step number=%d\n", 2 * LOG_RING_LINES);
    ck_assert_int_eq(strncmp(text, first, strlen(first)), 0);
}
END_TEST

START_TEST(levels_have_names)
{
    enum log_level level = LOG_ERROR;

    ck_assert_int_eq(log_level_parse("debug", &level), 0);
    ck_assert_int_eq(level, LOG_DEBUG);
    ck_assert_int_eq(log_level_parse("loud", &level), -ERR_INVALID);
    ck_assert_int_eq(level, LOG_DEBUG);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("log");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, writes_one_line_per_event);
    tcase_add_test(tc, control_characters_are_replaced);
    tcase_add_test(tc, long_lines_are_cut);
    tcase_add_test(tc, full_pipe_drops_and_counts);
    tcase_add_test(tc, ring_keeps_the_last_lines_of_all_levels);
    tcase_add_test(tc, levels_have_names);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
