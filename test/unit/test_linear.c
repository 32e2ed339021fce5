/* The linearizability checker, on histories whose verdict is known; every illegal one is a bug that
 * some store has shipped. At last on random histories of a register that really is one, and on the
 * same with one answer falsified, compared with a check of all orders. */
#include "test/lib/linear.h"

#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/mem.h"
#include "common/prng.h"

#define R(call, ret, v)                                                                            \
    {                                                                                              \
        LINEAR_READ, (call), (ret), 0, (v)                                                         \
    }
#define W(call, ret, v)                                                                            \
    {                                                                                              \
        LINEAR_WRITE, (call), (ret), 0, (v)                                                        \
    }
#define CAS(call, ret, e, v)                                                                       \
    {                                                                                              \
        LINEAR_CAS, (call), (ret), (e), (v)                                                        \
    }
#define FAILED(call, ret, e)                                                                       \
    {                                                                                              \
        LINEAR_CAS_FAILED, (call), (ret), (e), 0                                                   \
    }
#define NEVER LINEAR_UNKNOWN

enum { OPS_MAX = 8 };

static const struct history {
    const char *why;
    enum linear_verdict want;
    size_t count;
    struct linear_op ops[OPS_MAX];
} histories[] = {
    { "nothing happened", LINEAR_LEGAL, 0, { { 0 } } },
    { "the first read sees the initial value", LINEAR_LEGAL, 1, { R(1, 2, 0) } },
    { "a read of what was never written", LINEAR_ILLEGAL, 1, { R(1, 2, 5) } },
    { "one after the other", LINEAR_LEGAL, 3, { W(1, 2, 1), R(3, 4, 1), CAS(5, 6, 1, 2) } },
    { "a stale read: the write was acknowledged before",
      LINEAR_ILLEGAL,
      2,
      { W(1, 2, 1), R(3, 4, 0) } },
    { "a read during the write may see either",
      LINEAR_LEGAL,
      3,
      { W(1, 10, 1), R(2, 3, 0), R(4, 5, 1) } },
    { "but not the new one and then the old one",
      LINEAR_ILLEGAL,
      3,
      { W(1, 10, 1), R(2, 3, 1), R(4, 5, 0) } },
    { "a lost acknowledged write", LINEAR_ILLEGAL, 3, { W(1, 2, 1), W(3, 4, 2), R(5, 6, 1) } },
    { "two concurrent writes, either is last",
      LINEAR_LEGAL,
      3,
      { W(1, 5, 1), W(2, 6, 2), R(7, 8, 1) } },
    { "readers that disagree on their order",
      LINEAR_ILLEGAL,
      6,
      { W(1, 5, 1), W(1, 5, 2), R(6, 7, 1), R(8, 9, 2), R(6, 7, 2), R(8, 9, 1) } },
    { "a write without an answer that happened much later",
      LINEAR_LEGAL,
      4,
      { W(1, NEVER, 1), R(2, 3, 0), R(4, 5, 0), R(6, 7, 1) } },
    { "a write without an answer that never happened",
      LINEAR_LEGAL,
      3,
      { W(1, NEVER, 1), R(2, 3, 0), R(4, 5, 0) } },
    { "a write without an answer that happened and was undone",
      LINEAR_ILLEGAL,
      3,
      { W(1, NEVER, 1), R(2, 3, 1), R(4, 5, 0) } },
    { "a write that was seen before it was asked for",
      LINEAR_ILLEGAL,
      2,
      { R(1, 2, 1), W(3, NEVER, 1) } },
    { "both of two exchanges of the same value succeeded",
      LINEAR_ILLEGAL,
      2,
      { CAS(1, 9, 0, 1), CAS(2, 8, 0, 2) } },
    { "one of them failed", LINEAR_LEGAL, 2, { CAS(1, 9, 0, 1), FAILED(2, 8, 0) } },
    { "an exchange failed although its value was there all the time",
      LINEAR_ILLEGAL,
      2,
      { R(1, 2, 0), FAILED(3, 4, 0) } },
    { "it failed because of one without an answer",
      LINEAR_LEGAL,
      3,
      { CAS(1, NEVER, 0, 1), FAILED(3, 4, 0), R(5, 6, 1) } },
    { "an exchange without an answer took effect twice",
      LINEAR_ILLEGAL,
      5,
      { CAS(1, NEVER, 0, 1), R(2, 3, 1), CAS(4, 5, 1, 0), R(6, 7, 1), R(8, 9, 1) } },
    { "an exchange that failed took effect all the same",
      LINEAR_ILLEGAL,
      3,
      { FAILED(1, 2, 5), W(3, 4, 6), R(5, 6, 5) } },
    { "a chain through two exchanges without an answer",
      LINEAR_LEGAL,
      3,
      { CAS(1, NEVER, 0, 1), CAS(1, NEVER, 1, 2), R(2, 3, 2) } },
    { "a chain with a link missing",
      LINEAR_ILLEGAL,
      3,
      { CAS(1, NEVER, 0, 1), CAS(1, NEVER, 3, 2), R(2, 3, 2) } },
    { "a read without an answer says nothing", LINEAR_LEGAL, 2, { W(1, 2, 1), R(3, NEVER, 7) } },
    { "at the same instant is at the same time", LINEAR_LEGAL, 2, { W(1, 3, 1), R(3, 4, 0) } },
};

START_TEST(known_histories)
{
    const struct history *h = &histories[_i];
    struct linear_result r;

    linear_check(h->ops, h->count, 0, 0, &r);
    ck_assert_msg(r.verdict == h->want, "%s: %d", h->why, (int)r.verdict);
}
END_TEST

/* The operation that does not fit is named, with the value that the register had. */
START_TEST(says_what_does_not_fit)
{
    static const struct linear_op ops[] = { W(1, 2, 7), R(3, 4, 7), R(5, 6, 0) };
    struct linear_result r;

    linear_check(ops, ARRAY_LEN(ops), 0, 0, &r);
    ck_assert_int_eq(r.verdict, LINEAR_ILLEGAL);
    ck_assert_uint_eq(r.blocked, 2);
    ck_assert_uint_eq(r.taken, 2);
    ck_assert_uint_eq(r.value, 7);
}
END_TEST

/* A search that would take too long says so and claims nothing. */
START_TEST(gives_up_at_the_bound)
{
    struct linear_op ops[24];
    struct linear_result r;

    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        ops[i] = (struct linear_op){ LINEAR_WRITE, 1, 100, 0, i % 2 };
    ops[23] = (struct linear_op)R(101, 102, 9);
    linear_check(ops, ARRAY_LEN(ops), 0, 1000, &r);
    ck_assert_int_eq(r.verdict, LINEAR_TOO_LONG);
}
END_TEST

/* ---- against all orders ---- */

/* Is there an order of the operations not in used that real time allows? */
static bool try_all(const struct linear_op *ops, size_t count, unsigned used, uint64_t value)
{
    bool open = false;

    for (size_t i = 0; i < count; i++)
        open |= (used >> i & 1) == 0 && ops[i].return_ns != LINEAR_UNKNOWN;
    if (!open)
        return true;
    for (size_t i = 0; i < count; i++) {
        const struct linear_op *op = &ops[i];
        bool first = (used >> i & 1) == 0;

        for (size_t j = 0; j < count && first; j++)
            first = (used >> j & 1) != 0 || ops[j].return_ns >= op->call_ns;
        bool fits = op->type == LINEAR_READ         ? op->value == value
                    : op->type == LINEAR_CAS        ? op->expect == value
                    : op->type == LINEAR_CAS_FAILED ? op->expect != value
                                                    : true;
        bool sets = op->type == LINEAR_WRITE || op->type == LINEAR_CAS;
        if (first && fits && try_all(ops, count, used | 1u << i, sets ? op->value : value))
            return true;
    }
    return false;
}

static struct linear_op random_op(struct prng *p)
{
    struct linear_op op = { .type = (enum linear_type)prng_below(p, 4),
                            .call_ns = prng_below(p, 12),
                            .expect = prng_below(p, 3),
                            .value = prng_below(p, 3) };

    op.return_ns = op.call_ns + 1 + prng_below(p, 6);
    if (op.type != LINEAR_READ && op.type != LINEAR_CAS_FAILED && prng_below(p, 4) == 0)
        op.return_ns = LINEAR_UNKNOWN;
    return op;
}

/* Small values and few instants make both verdicts common. */
START_TEST(agrees_with_all_orders)
{
    struct linear_op ops[6];
    struct linear_result r;
    unsigned legal = 0;
    struct prng p;

    prng_init(&p, 1);
    for (int round = 0; round < 4000; round++) {
        size_t count = 1 + prng_below(&p, ARRAY_LEN(ops));

        for (size_t i = 0; i < count; i++)
            ops[i] = random_op(&p);
        bool want = try_all(ops, count, 0, 0);
        linear_check(ops, count, 0, 0, &r);
        ck_assert_msg((r.verdict == LINEAR_LEGAL) == want, "round %d: %d, all orders say %d", round,
                      (int)r.verdict, want);
        legal += want;
    }
    ck_assert_uint_gt(legal, 400);
    ck_assert_uint_lt(legal, 3600);
}
END_TEST

/* ---- long ones ---- */

enum { LONG_OPS = 20000 };

/* What clients of a real register see: each operation takes effect somewhere inside itself. One in
 * sixteen has no answer, and half of those never happen. */
static void make_long(struct linear_op *ops, struct prng *p)
{
    uint64_t value = 0;

    for (uint64_t i = 0; i < LONG_OPS; i++) {
        uint64_t at = 1000 * (i + 1);
        bool unknown = prng_below(p, 16) == 0, happens = !unknown || prng_below(p, 2) == 0;

        ops[i] = (struct linear_op){ .call_ns = at - prng_below(p, 900) * 10,
                                     .return_ns = at + prng_below(p, 900) * 10,
                                     .type = LINEAR_READ,
                                     .value = value };
        if (at < 9000)
            ops[i].call_ns = at;
        if (unknown || prng_below(p, 2) == 0) {
            ops[i].type = LINEAR_CAS;
            ops[i].expect = value;
            ops[i].value = i + 1;
            value = happens ? i + 1 : value;
        }
        if (unknown)
            ops[i].return_ns = LINEAR_UNKNOWN;
    }
}

/* A minute's history of many clients takes no time, and one false answer in it is found. */
START_TEST(long_histories)
{
    struct linear_op *ops = xcalloc(LONG_OPS, sizeof(*ops));
    struct linear_result r;
    struct prng p;
    size_t i = LONG_OPS / 2;

    prng_init(&p, 7);
    make_long(ops, &p);
    linear_check(ops, LONG_OPS, 0, 10000000, &r);
    ck_assert_int_eq(r.verdict, LINEAR_LEGAL);
    while (ops[i].type != LINEAR_READ)
        i++;
    ops[i].value = ops[LONG_OPS / 4].value;
    linear_check(ops, LONG_OPS, 0, 10000000, &r);
    ck_assert_int_eq(r.verdict, LINEAR_ILLEGAL);
    free(ops);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("linear");
    TCase *t = tcase_create("linear");

    tcase_add_loop_test(t, known_histories, 0, ARRAY_LEN(histories));
    tcase_add_test(t, says_what_does_not_fit);
    tcase_add_test(t, gives_up_at_the_bound);
    tcase_add_test(t, agrees_with_all_orders);
    tcase_add_test(t, long_histories);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed > 0 ? 1 : 0;
}
