/* common/ip: notation, arithmetic, subnets. */
#include <check.h>
#include <stdlib.h>

#include "common/ip.h"

static struct ip ip_of(const char *text)
{
    struct ip ip;
    struct err e = { 0 };

    ck_assert_msg(ip_parse(text, &ip, &e) == 0, "%s: %s", text, e.message);
    return ip;
}

static struct ip_net net_of(const char *text)
{
    struct ip_net net;
    struct err e = { 0 };

    ck_assert_msg(ip_net_parse(text, &net, &e) == 0, "%s: %s", text, e.message);
    return net;
}

static void is_ip(struct ip ip, const char *want)
{
    char text[IP_CHARS + 1];

    ck_assert_str_eq(ip_format(&ip, text), want);
}

START_TEST(notation)
{
    static const char *const bad[] = { "",         "10.0.0",    "10.0.0.256", "::g",    "10.0.0.1 ",
                                       "x",        "01.0.0.1",  "1.2.3.4.5",  "1..2.3", "1.2.3.",
                                       "-1.2.3.4", "300.1.1.1", "1.2.3.4:" };
    static const char *const bad_net[] = { "10.0.0.0",     "10.0.0.0/33", "10.0.0.0/-1",
                                           "fd::/129",     "10.0.0.0/",   "/8",
                                           "10.0.0.0/8/8", "10.0.0/8",    "fd::1:10.0.0.256/8",
                                           "10.0.0.0.0/8" };
    struct err e;
    struct ip ip = { .family = 9 };
    struct ip_net net = { .prefix = 9 };
    char text[IP_NET_CHARS + 1];

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(ip_parse(bad[i], &ip, &e) == -ERR_INVALID, "%s", bad[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad_net); i++)
        ck_assert_msg(ip_net_parse(bad_net[i], &net, &e) == -ERR_INVALID, "%s", bad_net[i]);
    ck_assert_uint_eq(ip.family, 9); /* written on success only */
    ck_assert_uint_eq(net.prefix, 9);
    is_ip(ip_of("fd77:0::1"), "fd77::1");
    net = net_of("10.1.2.3/16");
    ck_assert_str_eq(ip_net_format(&net, text), "10.1.2.3/16");
    net = ip_net_base(&net);
    ck_assert_str_eq(ip_net_format(&net, text), "10.1.0.0/16");
    ck_assert_int_eq(ip_net_parse_host("10.1.2.3", &net, &e), 0);
    ck_assert_uint_eq(net.prefix, 32);
}
END_TEST

START_TEST(arithmetic)
{
    struct ip a = ip_of("10.0.0.255"), b = ip_of("10.0.2.1"), last = ip_of("255.255.255.255");
    struct ip v6 = ip_of("fd00::ffff:ffff:ffff:ffff"), far = ip_of("fe00::");

    is_ip(ip_add(&a, 1), "10.0.1.0");
    is_ip(ip_add(&a, 258), "10.0.2.1");
    is_ip(ip_add(&v6, 1), "fd00:0:0:1::");
    ck_assert_uint_eq(ip_add(&last, 1).family, 0);
    ck_assert_uint_eq(ip_distance(&a, &b), 258);
    ck_assert_uint_eq(ip_distance(&v6, &far), UINT64_MAX);
    ck_assert_int_lt(ip_compare(&a, &b), 0);
    ck_assert_int_lt(ip_compare(&b, &v6), 0);
}
END_TEST

START_TEST(subnets)
{
    struct ip_net a = net_of("10.0.16.0/20"), b = net_of("10.0.0.0/8"), c = net_of("10.0.32.0/20");
    struct ip_net all = net_of("0.0.0.0/0"), host = net_of("10.0.16.7/32"), v6 = net_of("fd::/8");
    struct ip inside = ip_of("10.0.31.255"), outside = ip_of("10.0.32.0");

    is_ip(ip_net_last(&a), "10.0.31.255");
    ck_assert_uint_eq(ip_net_size(&a), 4096);
    ck_assert_uint_eq(ip_net_size(&v6), UINT64_MAX);
    ck_assert(ip_net_has(&a, &inside) && !ip_net_has(&a, &outside));
    ck_assert(ip_net_within(&a, &b) && !ip_net_within(&b, &a) && ip_net_within(&host, &a));
    ck_assert(ip_net_overlap(&a, &b) && !ip_net_overlap(&a, &c) && ip_net_overlap(&c, &all));
    ck_assert(!ip_net_overlap(&all, &v6));
}
END_TEST

START_TEST(kinds)
{
    struct ip lo = ip_of("127.3.2.1"), lo6 = ip_of("::1"), any = ip_of("0.0.0.0");
    struct ip group = ip_of("239.1.1.1"), link = ip_of("fe80::1"), plain = ip_of("10.0.0.1");

    ck_assert(ip_is_loopback(&lo) && ip_is_loopback(&lo6) && !ip_is_loopback(&plain));
    ck_assert(ip_is_any(&any) && !ip_is_any(&plain) && !ip_is_any(&lo6));
    ck_assert(ip_is_multicast(&group) && !ip_is_multicast(&plain));
    ck_assert(ip_is_link_local(&link) && !ip_is_link_local(&plain));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ip");
    TCase *tc = tcase_create("ip");
    SRunner *sr = srunner_create(s);

    tcase_add_test(tc, notation);
    tcase_add_test(tc, arithmetic);
    tcase_add_test(tc, subnets);
    tcase_add_test(tc, kinds);
    suite_add_tcase(s, tc);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);

    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
