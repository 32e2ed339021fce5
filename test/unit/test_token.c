#include "common/token.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define DIGEST "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcd"
#define SECRET "zyxwvutsrqponmlkjihgfedcb"
#define TOKEN "SWMTKN-1-" DIGEST "-" SECRET

static const struct parse_case {
    const char *why;
    const char *text;
    const char *want; /* in the message; NULL = parses */
} parse_cases[] = {
    { "as made", TOKEN, NULL },
    { "N31 empty", "", "does not begin with" },
    { "N31 not a token", "hello", "does not begin with" },
    { "FIPS tokens are another format", "SWMTKN-2-1-" DIGEST "-" SECRET, "does not begin with" },
    { "N31 the prefix alone", "SWMTKN-1-", "cut short" },
    { "one character lost", "SWMTKN-1-" DIGEST "-zyxwvutsrqponmlkjihgfedc", "cut short" },
    { "one more", TOKEN "a", "longer" },
    { "capital", "SWMTKN-1-A123456789abcdefghijklmnopqrstuvwxyz0123456789abcd-" SECRET, "form" },
    { "dash in the wrong place",
      "SWMTKN-1-" DIGEST "0"
      "-yxwvutsrqponmlkjihgfedcb",
      "form" },
    { "space in the secret", "SWMTKN-1-" DIGEST "-zyxwvutsrqponmlkjihgfedc ", "form" },
};

START_TEST(parses_only_the_exact_form)
{
    const struct parse_case *c = &parse_cases[_i];
    struct token t;
    struct err e = { 0 };
    char again[TOKEN_CHARS + 1];
    int rc = token_parse(c->text, &t, &e);

    if (c->want == NULL) {
        ck_assert_msg(rc == 0, "%s: %s", c->why, e.message);
        token_format(&t, again);
        ck_assert_str_eq(again, c->text);
        return;
    }
    ck_assert_msg(rc == -ERR_INVALID, "%s", c->why);
    ck_assert_msg(strstr(e.message, c->want) != NULL, "%s: %s", c->why, e.message);
    ck_assert_msg(strstr(e.message, SECRET) == NULL, "%s: repeats the secret", c->why);
}
END_TEST

START_TEST(matches_only_itself)
{
    char text[TOKEN_CHARS + 2] = TOKEN;
    char *huge = xmalloc((1 << 20) + 1);

    ck_assert(token_matches(TOKEN, TOKEN));
    for (int i = 0; i < TOKEN_CHARS; i++) {
        text[i] ^= 1;
        ck_assert_msg(!token_matches(text, TOKEN), "differs at %d", i);
        text[i] ^= 1;
    }
    text[TOKEN_CHARS] = 'x';
    ck_assert(!token_matches(text, TOKEN));
    ck_assert(!token_matches("", TOKEN));
    ck_assert(!token_matches("", "")); /* no token set: nobody joins */
    memset(huge, 'S', 1 << 20);
    huge[1 << 20] = '\0';
    ck_assert(!token_matches(huge, TOKEN));
    free(huge);
}
END_TEST

static const struct base36_case {
    uint8_t bytes[3];
    const char *want;
} base36_cases[] = {
    { { 0, 0, 0 }, "00000" }, { { 0, 0, 35 }, "0000z" },      { { 0, 0, 36 }, "00010" },
    { { 1, 0, 0 }, "01ekg" }, { { 255, 255, 255 }, "9zldr" },
};

START_TEST(base36_is_positional)
{
    char text[6];

    base36_encode(base36_cases[_i].bytes, 3, text, 5);
    ck_assert_str_eq(text, base36_cases[_i].want);
}
END_TEST

START_TEST(makes_what_parses)
{
    uint8_t random[TOKEN_SECRET_BYTES];
    char text[TOKEN_CHARS + 1];
    struct token t, again;

    memset(random, 0xff, sizeof(random)); /* the greatest value fits 25 digits */
    t = token_make(DIGEST, random);
    ck_assert_str_eq(t.secret, "f5lxx1zz5pnorynqglhzmsp33");
    token_format(&t, text);
    ck_assert_int_eq(token_parse(text, &again, NULL), 0);
    ck_assert_str_eq(again.secret, t.secret);
    ck_assert_str_eq(again.digest, DIGEST);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("token");
    TCase *tc = tcase_create("all");

    tcase_add_loop_test(tc, parses_only_the_exact_form, 0, ARRAY_LEN(parse_cases));
    tcase_add_test(tc, matches_only_itself);
    tcase_add_loop_test(tc, base36_is_positional, 0, ARRAY_LEN(base36_cases));
    tcase_add_test(tc, makes_what_parses);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
