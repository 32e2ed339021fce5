/* common/constraint.c: the grammar of placement constraints (features.md 3.7). */
#include "common/constraint.h"

#include <check.h>
#include <string.h>

static const struct parse_case {
    const char *why, *text;
    int want;
    const char *key, *value;
    bool not_equal;
    const char *message;
} cases[] = {
    { "equal", "node.role==manager", 0, "node.role", "manager", false, "" },
    { "not equal", "node.role!=manager", 0, "node.role", "manager", true, "" },
    { "white space is trimmed", " node.id ==\ta b ", 0, "node.id", "a b", false, "" },
    { "pattern characters are taken as they are", "node.labels.x==a*(b)?", 0, "node.labels.x",
      "a*(b)?", false, "" },
    { "split once", "aa!=b!=c", -ERR_INVALID, "", "", false, "value 'b!=c' is invalid" },
    { "== is looked for first", "aa!=b==c", -ERR_INVALID, "", "", false, "key 'aa!=b' is invalid" },
    { "no operator", "node.id=x", -ERR_INVALID, "", "", false,
      "constraint expected one operator from ==, !=" },
    { "no key", "==x", -ERR_INVALID, "", "", false, "key '' is invalid" },
    { "a key of one character", "a==x", -ERR_INVALID, "", "", false, "key 'a' is invalid" },
    { "a key that begins with a digit", "1a==x", -ERR_INVALID, "", "", false,
      "key '1a' is invalid" },
    { "a key may begin with an underscore", "_a==x", 0, "_a", "x", false, "" },
    { "no value", "node.id== ", -ERR_INVALID, "", "", false, "value '' is invalid" },
    { "a value with a quote", "node.id=='x'", -ERR_INVALID, "", "", false,
      "value ''x'' is invalid" },
};

START_TEST(parses_or_says_why_not)
{
    const struct parse_case *c = &cases[_i];
    struct constraint got;
    struct err e = { 0 };
    int rc = constraint_parse(c->text, &got, &e);

    ck_assert_msg(rc == c->want, "%s: %d", c->why, rc);
    if (rc < 0) {
        ck_assert_str_eq(e.message, c->message);
        return;
    }
    ck_assert_str_eq(got.key, c->key);
    ck_assert_str_eq(got.value, c->value);
    ck_assert_msg(got.not_equal == c->not_equal, "%s", c->why);
}
END_TEST

START_TEST(too_long)
{
    char text[CONSTRAINT_TEXT_CHARS_MAX + 2];
    struct constraint got;

    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    memcpy(text + 4, "==", 2);
    ck_assert_int_eq(constraint_parse(text, &got, NULL), -ERR_TOO_BIG);
    text[sizeof(text) - 2] = '\0';
    ck_assert_int_eq(constraint_parse(text, &got, NULL), 0);
}
END_TEST

START_TEST(known_keys)
{
    ck_assert(constraint_key_known("Node.Role"));
    ck_assert(constraint_key_known("node.labels.a.b"));
    ck_assert(constraint_key_known("engine.labels.a"));
    ck_assert(!constraint_key_known("node.labels."));
    ck_assert(!constraint_key_known("node.label.a"));
    ck_assert(!constraint_key_known("role"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("constraint");
    TCase *tc = tcase_create("grammar");

    tcase_add_loop_test(tc, parses_or_says_why_not, 0, ARRAY_LEN(cases));
    tcase_add_test(tc, too_long);
    tcase_add_test(tc, known_keys);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
