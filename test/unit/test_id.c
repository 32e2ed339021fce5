#include "common/id.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

START_TEST(drawn_ids_are_valid_and_differ)
{
    struct prng p, same;
    struct id last = { "" };

    prng_init(&p, 7);
    prng_init(&same, 7);
    for (int i = 0; i < 1000; i++) {
        struct id id = id_from_prng(&p), again = id_from_prng(&same);

        ck_assert(id_valid(id.s));
        ck_assert(id.s[0] != '0');
        ck_assert(id_equal(&id, &again)); /* a seed reproduces */
        ck_assert(!id_equal(&id, &last));
        last = id;
    }
}
END_TEST

static const struct valid_case {
    const char *text;
    bool want;
} valid_cases[] = {
    { "0123456789abcdefghijklmno", true },   { "zzzzzzzzzzzzzzzzzzzzzzzzz", true },
    { "0123456789abcdefghijklmn", false },   { "0123456789abcdefghijklmnop", false },
    { "0123456789Abcdefghijklmno", false },  { "0123456789abcdefghijklmn/", false },
    { "0123456789abcdefghijklmn\n", false }, { "", false },
};

START_TEST(only_25_base36_characters_are_valid)
{
    ck_assert_msg(id_valid(valid_cases[_i].text) == valid_cases[_i].want, "%s",
                  valid_cases[_i].text);
    if (valid_cases[_i].want || valid_cases[_i].text[0] == '\0') {
        struct id id = id_from_str(valid_cases[_i].text);

        ck_assert_str_eq(id.s, valid_cases[_i].text);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("id");
    TCase *tc = tcase_create("all");

    tcase_add_test(tc, drawn_ids_are_valid_and_differ);
    tcase_add_loop_test(tc, only_25_base36_characters_are_valid, 0, ARRAY_LEN(valid_cases));
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
