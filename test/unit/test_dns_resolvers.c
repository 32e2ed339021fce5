/* agentd/dns/resolvers: resolv.conf. What is done with the servers is in test_dns_server.c. */
#include <check.h>
#include <stdlib.h>

#include "agentd/dns/internal.h"

START_TEST(resolv_conf_is_read_as_libc_does)
{
    static const struct {
        const char *text;
        size_t count;
        const char *first;
    } files[] = {
        { "", 0, "" },
        { "nameserver 192.0.2.1\n", 1, "192.0.2.1" },
        { "search a b\noptions ndots:1\nnameserver  192.0.2.1", 1, "192.0.2.1" },
        { "nameserver\t192.0.2.1 ; local\nnameserver fd00::1\r\nnameserver 192.0.2.3\n"
          "nameserver 192.0.2.4\n",
          3, "192.0.2.1" },
        { "#nameserver 192.0.2.1\n nameserver 192.0.2.2\nnameservers 192.0.2.3\n", 0, "" },
        { "nameserver x\nnameserver\nnameserver 224.0.0.1\nnameserver 192.0.2.9\n", 1,
          "192.0.2.9" },
        { "nameserver 0.0.0.0\n", 1, "127.0.0.1" },
        { "nameserver ::\n", 1, "::1" },
        { "nameserver fe80::1%lo\n", 1, "fe80::1" },
    };
    union address list[DNS_SERVERS_MAX];
    char text[IP_CHARS + 1];

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        ck_assert_uint_eq(resolvers_parse(files[i].text, list), files[i].count);
        struct ip ip = files[i].count > 0 ? address_ip(&list[0]) : (struct ip){ 0 };
        ck_assert_str_eq(ip_format(&ip, text), files[i].first);
    }
    ck_assert_uint_eq(list[0].v6.sin6_scope_id, 1); /* lo is the first interface */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dns_resolvers");
    TCase *tc = tcase_create("resolvers");

    tcase_add_test(tc, resolv_conf_is_read_as_libc_does);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
