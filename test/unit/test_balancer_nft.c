/* agentd/net/balancer_nft: virtual addresses between hosts in network namespaces, real kernel. The
 * cases that hold for every balancer are in test/lib/balancer_cases.c; the VM runs them with IPVS.
 */
#include <check.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "agentd/net/balancer.h"
#include "test/lib/balancer_cases.h"

START_TEST(probe)
{
    struct err e = { 0 };

    ck_assert_msg(balancer_nft.probe(&e) == 0, "%s", e.message);
}
END_TEST

START_TEST(case_of_all)
{
    balancer_cases[_i].run(&balancer_nft);
}
END_TEST

/* What somebody does to the table by hand is seen, named, and mended. */
START_TEST(repair)
{
    static const struct {
        const char *by_hand, *object, *problem;
    } cases[] = {
        { "flush ruleset", "table skep", "missing" },
        { "delete element ip skep vip { 10.77.0.200 }", "address 10.77.0.200 : goto s-10.77.0.200",
          "missing" },
        { "add element ip skep hairpin { 10.77.0.99 . 10.77.0.99 }",
          "hairpin 10.77.0.99 . 10.77.0.99", "unexpected" },
        { "flush chain ip skep s-10.77.0.200", "rule 1 of chain s-10.77.0.200", "missing" },
        { "insert rule ip skep prerouting drop", "rule 1 of chain prerouting",
          "differs: not as programmed" },
        { "add chain ip skep other; add rule ip skep other drop", "rule 1 of chain other",
          "unexpected" },
    };
    struct netrig *r = netrig_new(2, &balancer_nft);

    netrig_task(r, 1, 11, PLAN_STARTING);
    netrig_task(r, 2, 12, PLAN_UP);
    netrig_apply(r);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP_ARENA struct arena a = { 0 };
        struct differences d = { .arena = &a };
        bool found = false;

        ck_assert_int_eq(netrig_check(r, 1, false, &d), 0);
        ck_assert_uint_eq(d.count, 0);
        netrig_shell("ip netns exec r1 nft '%s'", cases[i].by_hand);
        ck_assert_int_eq(netrig_check(r, 1, true, &d), 0);
        for (size_t k = 0; k < d.count; k++)
            found |= strcmp(d.items[k]->object, cases[i].object) == 0 &&
                     strcmp(d.items[k]->problem, cases[i].problem) == 0;
        ck_assert_msg(found, "%s: %zu differences, first: %s %s", cases[i].by_hand, d.count,
                      d.count > 0 ? d.items[0]->object : "",
                      d.count > 0 ? d.items[0]->problem : "");
        ck_assert_str_ne(netrig_ask(r, (struct netrig_call){ 11, true, NETRIG_VIP, 80, 0, false }),
                         "");
    }
    netrig_shell("ip -n r1 route del local 10.77.0.200 dev lo table local");
    {
        CLEANUP_ARENA struct arena a = { 0 };
        struct differences d = { .arena = &a };

        ck_assert_int_eq(netrig_check(r, 1, true, &d), 0);
        ck_assert_uint_eq(d.count, 1);
        ck_assert_str_eq(d.items[0]->object, "local 10.77.0.200/32 dev lo table 255");
        d.count = 0;
        ck_assert_int_eq(netrig_check(r, 1, false, &d), 0);
        ck_assert_uint_eq(d.count, 0);
    }
    netrig_free(r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("balancer_nft");
    TCase *c = tcase_create("all");
    SRunner *sr;
    int failed;

    tcase_set_timeout(c, 120);
    tcase_add_test(c, probe);
    tcase_add_loop_test(c, case_of_all, 0, (int)balancer_case_count);
    tcase_add_test(c, repair);
    suite_add_tcase(s, c);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
