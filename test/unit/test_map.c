/* common/map.c and common/hash.c: against a plain array, with hashes good and bad. */
#include "common/map.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "common/mem.h"
#include "common/prng.h"

enum { VALUES = 500, STEPS = 20000 };

static bool match(const void *value, const void *key)
{
    return value == key;
}

static uint64_t good(size_t i)
{
    return hash_u64(i, 0);
}
static uint64_t few(size_t i)
{
    return i % 7;
}
static uint64_t same(size_t i)
{
    (void)i;
    return UINT64_MAX;
}
static uint64_t (*const hashes[])(size_t) = { good, few, same };

START_TEST(finds_what_was_added)
{
    static char values[VALUES];
    bool in[VALUES] = { false };
    struct map m = { 0 };
    struct prng p;
    size_t count = 0;

    prng_init(&p, 1);
    for (int step = 0; step < STEPS / (_i == 0 ? 1 : 10); step++) {
        size_t i = prng_below(&p, VALUES);
        /* Grows for the first half, shrinks for the second. */
        bool add = prng_below(&p, 10) < (step % 8000 < 4000 ? 8 : 2);

        if (add && !in[i]) {
            map_add(&m, hashes[_i](i), &values[i]);
            in[i] = true;
            count++;
        } else if (!add && in[i]) {
            map_remove(&m, hashes[_i](i), &values[i]);
            in[i] = false;
            count--;
        }
        size_t k = prng_below(&p, VALUES);
        ck_assert_int_eq(map_find(&m, hashes[_i](k), match, &values[k]) != NULL, in[k]);
        ck_assert_uint_eq(m.count, count);
    }
    size_t at = 0, seen = 0;
    for (char *v; (v = map_each(&m, &at)) != NULL; seen++)
        ck_assert(in[v - values]);
    ck_assert_uint_eq(seen, count);
    map_deinit(&m);
    ck_assert_ptr_null(map_find(&m, 1, match, values));
}
END_TEST

START_TEST(hashes_depend_on_every_byte_and_the_length)
{
    char text[64];

    for (size_t size = 0; size < sizeof(text); size++) {
        memset(text, 'a', sizeof(text));
        uint64_t h = hash_bytes(text, size, 1);

        ck_assert_uint_ne(h, hash_bytes(text, size + 1 < 64 ? size + 1 : 0, 1));
        ck_assert_uint_ne(h, hash_bytes(text, size, 2));
        for (size_t i = 0; i < size; i++) {
            text[i] ^= 1;
            ck_assert_uint_ne(h, hash_bytes(text, size, 1));
            text[i] ^= 1;
        }
        ck_assert_uint_eq(h, hash_bytes(text, size, 1));
    }
}
END_TEST

START_TEST(case_does_not_matter_where_it_should_not)
{
    ck_assert_uint_eq(hash_str_nocase("Web-1", 3), hash_str_nocase("wEB-1", 3));
    ck_assert_uint_ne(hash_str_nocase("web-1", 3), hash_str_nocase("web-2", 3));
    ck_assert_uint_ne(hash_str_nocase("[", 3), hash_str_nocase("{", 3));
    ck_assert_uint_ne(hash_str("Web", 0), hash_str("web", 0));
}
END_TEST

START_TEST(ranks_sort_like_text)
{
    static const char *const texts[] = { "",         "0",        "00",        "1a",
                                         "abcdefgh", "abcdefgi", "abcdefgiz", "zzzzzzzzz" };

    for (size_t i = 0; i + 1 < ARRAY_LEN(texts); i++)
        ck_assert_uint_le(text_rank(texts[i]), text_rank(texts[i + 1]));
    ck_assert_uint_lt(text_rank("abcdefgh"), text_rank("abcdefgi"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("map");
    TCase *tc = tcase_create("map");

    tcase_add_loop_test(tc, finds_what_was_added, 0, ARRAY_LEN(hashes));
    tcase_add_test(tc, hashes_depend_on_every_byte_and_the_length);
    tcase_add_test(tc, case_does_not_matter_where_it_should_not);
    tcase_add_test(tc, ranks_sort_like_text);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
