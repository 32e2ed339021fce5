#include <check.h>
#include <stdlib.h>

#include "managerd/raft/internal.h"

static const struct value_case {
    const char *why;
    uint32_t n;
    uint64_t values[5];
    uint64_t want;
} value_cases[] = {
    { "a lone voter is its own quorum", 1, { 7 }, 7 },
    { "two voters: both have to have it", 2, { 7, 3 }, 3 },
    { "three: the middle one", 3, { 9, 1, 5 }, 5 },
    { "three, one ahead alone", 3, { 9, 0, 0 }, 0 },
    { "four: three of them", 4, { 9, 8, 2, 1 }, 2 },
    { "five: three of them", 5, { 1, 9, 4, 7, 2 }, 4 },
    { "ties", 5, { 3, 3, 3, 1, 1 }, 3 },
    { "already ascending", 3, { 1, 2, 3 }, 2 },
};

START_TEST(value_of_a_majority)
{
    const struct value_case *c = &value_cases[_i];
    uint64_t values[5];

    for (uint32_t i = 0; i < c->n; i++)
        values[i] = c->values[i];
    ck_assert_msg(raft_quorum_value(values, c->n) == c->want, "%s", c->why);
}
END_TEST

/* Every assignment of 0..3 to up to five voters, against the definition: the largest value that
 * more than half of them reach. */
START_TEST(value_by_brute_force)
{
    for (uint32_t n = 1; n <= 5; n++) {
        for (uint32_t code = 0; code < 1u << (2 * n); code++) {
            uint64_t values[5], want = 0;

            for (uint32_t i = 0; i < n; i++)
                values[i] = (code >> (2 * i)) & 3;
            for (uint64_t v = 1; v <= 3; v++) {
                uint32_t reached = 0;

                for (uint32_t i = 0; i < n; i++)
                    reached += values[i] >= v;
                if (2 * reached > n)
                    want = v;
            }
            ck_assert_msg(raft_quorum_value(values, n) == want, "n=%u code=%u", n, code);
        }
    }
}
END_TEST

static const struct vote_case {
    const char *why;
    uint32_t granted, refused, n;
    enum raft_vote_result want;
} vote_cases[] = {
    { "alone", 1, 0, 1, RAFT_VOTE_WON },
    { "one of three is waiting", 1, 0, 3, RAFT_VOTE_PENDING },
    { "two of three", 2, 0, 3, RAFT_VOTE_WON },
    { "one refusal of three changes nothing yet", 1, 1, 3, RAFT_VOTE_PENDING },
    { "two refusals of three", 1, 2, 3, RAFT_VOTE_LOST },
    { "half of four is no majority", 2, 0, 4, RAFT_VOTE_PENDING },
    { "half of four refuse: lost", 2, 2, 4, RAFT_VOTE_LOST },
    { "three of four", 3, 1, 4, RAFT_VOTE_WON },
    { "two voters, one refuses", 1, 1, 2, RAFT_VOTE_LOST },
    { "three of five with two silent", 3, 0, 5, RAFT_VOTE_WON },
    { "nobody has answered", 0, 0, 5, RAFT_VOTE_PENDING },
};

START_TEST(votes)
{
    const struct vote_case *c = &vote_cases[_i];

    ck_assert_msg(raft_quorum_vote(c->granted, c->refused, c->n) == c->want, "%s", c->why);
}
END_TEST

/* Thesis §4.1: quorums of two configurations that differ in one server always share a server. */
START_TEST(neighbours_overlap)
{
    for (uint32_t n = 1; n < RAFT_MEMBERS_MAX; n++)
        ck_assert_uint_gt(raft_quorum(n) + raft_quorum(n + 1), n + 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_quorum");
    TCase *tc = tcase_create("quorum");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_loop_test(tc, value_of_a_majority, 0, (int)ARRAY_LEN(value_cases));
    tcase_add_test(tc, value_by_brute_force);
    tcase_add_loop_test(tc, votes, 0, (int)ARRAY_LEN(vote_cases));
    tcase_add_test(tc, neighbours_overlap);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
