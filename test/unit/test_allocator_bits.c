/* managerd/allocator/bits.c against a plain array, in places near and far, dense and sparse. */
#include "managerd/allocator/bits.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/prng.h"

enum { NUMBERS = 4096, STEPS = 20000 };

static uint64_t model_next_free(const bool *in, uint64_t from, uint64_t end)
{
    while (from < end && in[from])
        from++;
    return from;
}

/* Numbers from base on; fill: of 100 steps, how many add. */
static void compare(uint64_t seed, uint64_t base, uint64_t fill)
{
    static bool in[NUMBERS];
    struct bits b = { 0 };
    struct prng dice;
    uint64_t count = 0;

    memset(in, 0, sizeof(in));
    prng_init(&dice, seed);
    for (int step = 0; step < STEPS; step++) {
        uint64_t at = prng_below(&dice, NUMBERS), from = prng_below(&dice, NUMBERS);
        bool add = prng_below(&dice, 100) < fill;

        ck_assert_int_eq(bits_has(&b, base + at), in[at]);
        if (add) {
            ck_assert_int_eq(bits_add(&b, base + at), !in[at]);
            count += !in[at];
        } else {
            ck_assert_int_eq(bits_remove(&b, base + at), in[at]);
            count -= in[at];
        }
        in[at] = add;
        ck_assert_uint_eq(b.count, count);
        uint64_t end = from + prng_below(&dice, NUMBERS - from + 1);
        ck_assert_uint_eq(bits_next_free(&b, base + from, base + end),
                          base + model_next_free(in, from, end));
    }
    bits_deinit(&b);
    ck_assert_uint_eq(b.count, 0);
}

START_TEST(as_an_array)
{
    static const uint64_t bases[] = { 0, 30000, 1 << 20, UINT64_C(1) << 40 };

    for (uint64_t fill = 10; fill <= 100; fill += 15)
        compare(fill + 1, bases[_i], fill);
}
END_TEST

/* Equal whatever was in between. */
START_TEST(equality)
{
    struct bits a = { 0 }, b = { 0 };

    for (uint64_t i = 0; i < 5000; i++) {
        bits_add(&a, i * 7);
        bits_add(&b, (4999 - i) * 7);
    }
    ck_assert(bits_equal(&a, &b));
    bits_remove(&a, 70);
    ck_assert(!bits_equal(&a, &b));
    bits_add(&a, 71);
    ck_assert(!bits_equal(&a, &b));
    bits_remove(&a, 71);
    bits_add(&a, 70);
    bits_add(&a, UINT64_C(1) << 50);
    bits_remove(&a, UINT64_C(1) << 50);
    ck_assert(bits_equal(&a, &b));
    bits_deinit(&a);
    bits_deinit(&b);
    ck_assert(bits_equal(&a, &b));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("allocator_bits");
    TCase *tc = tcase_create("allocator_bits");

    tcase_add_loop_test(tc, as_an_array, 0, 4);
    tcase_add_test(tc, equality);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
