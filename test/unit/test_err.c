#include "common/err.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

START_TEST(sets_code_and_sentence)
{
    struct err e = { 0 };

    ck_assert_int_eq(err_set(&e, ERR_BUSY, "port %d", 80), -ERR_BUSY);
    ck_assert_int_eq(e.code, ERR_BUSY);
    ck_assert_str_eq(e.message, "port 80");
    ck_assert_int_eq(err_wrap(&e, -ERR_BUSY, "service %s", "web"), -ERR_BUSY);
    ck_assert_str_eq(e.message, "service web: port 80");
    ck_assert_int_eq(err_errno(&e, ENOENT, "open %s", "x"), -ERR_NOT_FOUND);
    ck_assert_str_eq(e.message, "open x: No such file or directory");
    ck_assert_int_eq(err_set(NULL, ERR_BUSY, "nobody reads this"), -ERR_BUSY);
    ck_assert_int_eq(err_wrap(NULL, -ERR_IO, "nobody reads this"), -ERR_IO);
    ck_assert_int_eq(err_errno(NULL, EACCES, "nobody reads this"), -ERR_PERMISSION);
}
END_TEST

/* Long texts are cut, never overrun. */
START_TEST(cuts_long_messages)
{
    struct err e = { 0 };
    char text[2 * ERR_MESSAGE_BYTES_MAX];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    (void)err_set(&e, ERR_IO, "%s", text);
    ck_assert_uint_eq(strlen(e.message), ERR_MESSAGE_BYTES_MAX - 1);
    (void)err_wrap(&e, -ERR_IO, "prefix");
    ck_assert_uint_eq(strlen(e.message), ERR_MESSAGE_BYTES_MAX - 1);
    ck_assert_int_eq(strncmp(e.message, "prefix: x", 9), 0);
    (void)err_wrap(&e, -ERR_IO, "%s", text);
    (void)err_errno(&e, EIO, "%s", text);
    ck_assert_uint_eq(strlen(e.message), ERR_MESSAGE_BYTES_MAX - 1);
}
END_TEST

START_TEST(wrapping_nothing_names_the_code)
{
    struct err e = { 0 };

    (void)err_wrap(&e, -ERR_TIMEOUT, "join");
    ck_assert_str_eq(e.message, "join: timed out");
    ck_assert_int_eq(e.code, ERR_TIMEOUT);
}
END_TEST

START_TEST(every_code_has_a_text)
{
    struct err e = { 0 };

    for (int code = ERR_OK; code <= ERR_INTERNAL; code++) {
        ck_assert_str_ne(err_str(code), "unknown error");
        ck_assert_str_eq(err_str(code), err_str(-code));
    }
    ck_assert_str_eq(err_str(ERR_INTERNAL + 1), "unknown error");
    ck_assert_str_eq(err_message(&e, -ERR_STALE), err_str(ERR_STALE));
    ck_assert_str_eq(err_message(NULL, -ERR_STALE), err_str(ERR_STALE));
}
END_TEST

static const struct errno_case {
    int errno_value, want;
} errno_cases[] = {
    { 0, 0 },
    { ENOENT, -ERR_NOT_FOUND },
    { EEXIST, -ERR_EXISTS },
    { EPERM, -ERR_PERMISSION },
    { ENOSPC, -ERR_NO_SPACE },
    { EDQUOT, -ERR_NO_SPACE },
    { EAGAIN, -ERR_BUSY },
    { ECONNREFUSED, -ERR_UNAVAILABLE },
    { EFBIG, -ERR_TOO_BIG },
    { EIO, -ERR_IO },
    { 9999, -ERR_IO },
};

START_TEST(errno_becomes_a_code)
{
    ck_assert_int_eq(err_from_errno(errno_cases[_i].errno_value), errno_cases[_i].want);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("err");
    TCase *tc = tcase_create("all");

    tcase_add_test(tc, sets_code_and_sentence);
    tcase_add_test(tc, cuts_long_messages);
    tcase_add_test(tc, wrapping_nothing_names_the_code);
    tcase_add_test(tc, every_code_has_a_text);
    tcase_add_loop_test(tc, errno_becomes_a_code, 0, ARRAY_LEN(errno_cases));
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
