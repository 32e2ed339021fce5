#include "common/buf.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Growing beyond the maximum fails and leaves the content alone. */
START_TEST(never_exceeds_its_maximum)
{
    CLEANUP_BUF struct buf b = BUF_INIT(10);

    ck_assert_str_eq(buf_str(&b), "");
    ck_assert_int_eq(buf_append_str(&b, "0123456"), 0);
    ck_assert_int_eq(buf_append_str(&b, "789x"), -ERR_TOO_BIG);
    ck_assert_int_eq(buf_printf(&b, "%d", 7890), -ERR_TOO_BIG);
    ck_assert_ptr_null(buf_reserve(&b, 4));
    ck_assert_ptr_null(buf_reserve(&b, SIZE_MAX));
    ck_assert_str_eq(buf_str(&b), "0123456");
    ck_assert_int_eq(buf_printf(&b, "%d", 789), 0);
    ck_assert_str_eq(buf_str(&b), "0123456789");
    ck_assert_uint_eq(b.size, 10);
}
END_TEST

START_TEST(keeps_bytes_and_terminates)
{
    CLEANUP_BUF struct buf b = BUF_INIT(1000);

    for (int i = 0; i < 1000; i++)
        ck_assert_int_eq(buf_append(&b, "\0", 1), 0);
    ck_assert_uint_eq(b.size, 1000);
    buf_clear(&b);
    ck_assert_uint_eq(b.size, 0);
    ck_assert_int_eq(buf_append(&b, "ab\0cd", 5), 0);
    buf_consume(&b, 3);
    ck_assert_str_eq(buf_str(&b), "cd");
    buf_consume(&b, 2);
    ck_assert_str_eq(buf_str(&b), "");
    uint8_t *at = buf_reserve(&b, 3);
    memcpy(at, "xyz", 3);
    buf_commit(&b, 2);
    ck_assert_str_eq(buf_str(&b), "xy");
}
END_TEST

static int pipe_with(const char *text)
{
    int fds[2];

    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    ck_assert_int_eq(write(fds[1], text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fds[1]);
    return fds[0];
}

/* A source that holds exactly the maximum is read; one byte more is an error, not a cut. */
START_TEST(reads_to_the_end_or_refuses)
{
    CLEANUP_BUF struct buf b = BUF_INIT(5);
    struct err e = { 0 };
    int fd = pipe_with("12345");

    ck_assert_int_eq(buf_read_all(&b, fd, &e), 0);
    ck_assert_str_eq(buf_str(&b), "12345");
    (void)close(fd);
    buf_clear(&b);
    fd = pipe_with("123456");
    ck_assert_int_eq(buf_read_all(&b, fd, &e), -ERR_TOO_BIG);
    (void)close(fd);
    buf_clear(&b);
    ck_assert_int_eq(buf_read_file(&b, "/nonexistent/file", &e), -ERR_NOT_FOUND);
    ck_assert_str_eq(e.message, "open /nonexistent/file: No such file or directory");
    ck_assert_int_eq(buf_read_file(&b, "/proc/self/status", &e), -ERR_TOO_BIG);
    ck_assert_ptr_nonnull(strstr(e.message, "/proc/self/status"));
}
END_TEST

/* An empty file is empty text, whatever the heap held before. */
START_TEST(an_empty_file_is_empty_text)
{
    CLEANUP_BUF struct buf b = BUF_INIT(1000);
    char *dirt[64];

    for (size_t i = 0; i < ARRAY_LEN(dirt); i++)
        dirt[i] = memset(xmalloc(1001), 'x', 1001);
    for (size_t i = 0; i < ARRAY_LEN(dirt); i++)
        free(dirt[i]);
    ck_assert_int_eq(buf_read_file(&b, "/dev/null", NULL), 0);
    ck_assert_uint_eq(b.size, 0);
    ck_assert_str_eq(buf_str(&b), "");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("buf");
    TCase *tc = tcase_create("all");

    tcase_add_test(tc, never_exceeds_its_maximum);
    tcase_add_test(tc, keeps_bytes_and_terminates);
    tcase_add_test(tc, reads_to_the_end_or_refuses);
    tcase_add_test(tc, an_empty_file_is_empty_text);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
