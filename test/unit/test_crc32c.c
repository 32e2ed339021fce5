#include <check.h>
#include <string.h>

#include "common/crc32c.h"
#include "common/mem.h"

/* RFC 3720 §B.4 gives the CRCs of these 32-byte blocks. */
static const struct crc_case {
    const char *why;
    uint8_t first, step;
    uint32_t want;
} crc_cases[] = {
    { "zeros", 0x00, 0, 0x8a9136aa },
    { "ones", 0xff, 0, 0x62a8ab43 },
    { "incrementing", 0x00, 1, 0x46dd794e },
    { "decrementing", 0x1f, 0xff, 0x113fdb5c },
};

START_TEST(known_vectors)
{
    const struct crc_case *c = &crc_cases[_i];
    uint8_t block[32];

    for (size_t i = 0; i < sizeof(block); i++)
        block[i] = (uint8_t)(c->first + i * c->step);
    ck_assert_msg(crc32c(0, block, sizeof(block)) == c->want, "%s", c->why);
}
END_TEST

START_TEST(continues_at_every_split)
{
    const char text[] = "123456789 and some more to pass one word";
    uint32_t whole = crc32c(0, text, sizeof(text));

    ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xe3069283);
    for (size_t cut = 0; cut <= sizeof(text); cut++)
        ck_assert_uint_eq(crc32c(crc32c(0, text, cut), text + cut, sizeof(text) - cut), whole);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("crc32c");
    TCase *tc = tcase_create("crc32c");
    SRunner *r;

    tcase_add_loop_test(tc, known_vectors, 0, ARRAY_LEN(crc_cases));
    tcase_add_test(tc, continues_at_every_split);
    suite_add_tcase(s, tc);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
