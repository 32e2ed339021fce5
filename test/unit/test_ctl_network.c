/* ctl network: what is sent, what is printed, and with which status it ends. */
#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "test/lib/ctl_fake.h"

#define RUN(k, ...) fake_run((k), (const char *const[]){ "network", __VA_ARGS__, NULL })

START_TEST(create_sends_the_whole_spec)
{
    struct fake k = { 0 };
    struct result r =
        RUN(&k, "create", "--subnet", "10.9.0.0/16", "--subnet", "fd09::/64", "--gateway",
            "10.9.0.254", "--ip-range", "10.9.8.0/24", "--aux-address", "nas=10.9.0.5", "--opt",
            "encrypted", "--label", "a=b", "--attachable", "--internal", "--ipv6", "back");
    const Skep__NetworkSpec *s = k.sent_network;

    ck_assert_msg(r.status == 0, "%s", r.err);
    ck_assert_str_eq(r.out, FAKE_NET "\n");
    ck_assert_str_eq(s->annotations->name, "back");
    ck_assert_str_eq(s->driver->name, "overlay");
    ck_assert_str_eq(s->driver->options[0]->key, "encrypted");
    ck_assert_uint_eq(s->n_ipam, 2);
    ck_assert_str_eq(s->ipam[0]->gateway, "10.9.0.254");
    ck_assert_str_eq(s->ipam[0]->range, "10.9.8.0/24");
    ck_assert_str_eq(s->ipam[0]->reserved[0]->key, "nas");
    ck_assert_str_eq(s->ipam[0]->reserved[0]->value, "10.9.0.5");
    ck_assert_str_eq(s->ipam[1]->subnet, "fd09::/64");
    ck_assert(s->attachable && s->internal && s->ipv6 && !s->ingress);
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

static const struct {
    const char *why;
    const char *args[6];
    const char *err;
} refused[] = {
    { "no CIDR", { "create", "--subnet", "10.9.0.0", "x" }, "invalid subnet 10.9.0.0" },
    { "gateway without subnet", { "create", "--gateway", "10.9.0.1", "x" }, "no matching subnet" },
    { "gateway elsewhere",
      { "create", "--subnet=10.8.0.0/16", "--gateway", "10.9.0.1", "x" },
      "no matching subnet for gateway 10.9.0.1" },
    { "two gateways",
      { "create", "--subnet=10.9.0.0/16", "--gateway=10.9.0.1", "--gateway=10.9.0.2", "x" },
      "multiple gateways" },
    { "aux without a name",
      { "create", "--subnet=10.9.0.0/16", "--aux-address=10.9.0.5", "x" },
      "not NAME=ADDRESS" },
    { "unknown IPAM", { "create", "--ipam-driver", "dhcp", "x" }, "\"dhcp\" is not known" },
};

START_TEST(create_refuses)
{
    struct fake k = { 0 };
    struct result r = RUN(&k, refused[_i].args[0], refused[_i].args[1], refused[_i].args[2],
                          refused[_i].args[3], refused[_i].args[4]);

    ck_assert_msg(r.status == 1, "%s", refused[_i].why);
    ck_assert_msg(strstr(r.err, refused[_i].err) != NULL, "%s: %s", refused[_i].why, r.err);
    ck_assert_ptr_null(k.sent_network);
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

START_TEST(ls_has_dockers_columns_and_filters)
{
    struct fake k = { 0 };
    struct result r;

    fake_fill(&k);
    r = RUN(&k, "ls");
    ck_assert_str_eq(r.out, "NETWORK ID     NAME      DRIVER    SCOPE\n"
                            "net000000000   back      overlay   swarm\n");
    result_free(&r);
    r = RUN(&k, "ls", "-q", "--filter", "driver=macvlan");
    ck_assert_str_eq(r.out, "");
    result_free(&r);
    r = RUN(&k, "ls", "-q", "--no-trunc", "--filter", "dangling=false");
    ck_assert_str_eq(r.out, FAKE_NET "\n");
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

START_TEST(inspect_verbose_shows_services_and_endpoints)
{
    struct fake k = { 0 };
    struct result r;

    fake_fill(&k);
    r = RUN(&k, "inspect", "--format",
            "{{.IPAM.Config}} {{range $n, $s := .Services}}{{$n}} {{$s.VIP}} {{range $s.Tasks}}"
            "{{.EndpointIP}} {{.Info.Host}}{{end}}{{end}}",
            "-v", "back");
    ck_assert_msg(r.status == 0, "%s", r.err);
    ck_assert_msg(strstr(r.out, "api9 10.0.16.2 10.0.16.3 host-1") != NULL, "%s", r.out);
    result_free(&r);
    r = RUN(&k, "inspect", "nowhere");
    ck_assert_int_eq(r.status, 1);
    ck_assert_str_eq(r.out, "[]\n");
    ck_assert_ptr_nonnull(strstr(r.err, "network nowhere not found"));
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

START_TEST(rm_and_prune)
{
    struct fake k = { 0 };
    struct result r;

    fake_fill(&k);
    r = RUN(&k, "rm", "back", "nowhere");
    ck_assert_int_eq(r.status, 1);
    ck_assert_str_eq(r.out, "back\n");
    ck_assert_str_eq(k.removed_network, FAKE_NET);
    result_free(&r);
    r = RUN(&k, "rm", "-f", "nowhere");
    ck_assert_int_eq(r.status, 0);
    result_free(&r);
    k.removed_network = NULL;
    r = RUN(&k, "prune", "-f"); /* no service's spec names it */
    ck_assert_msg(r.status == 0, "%s", r.err);
    ck_assert_str_eq(r.out, "Deleted Networks:\nback\n\n");
    ck_assert_str_eq(k.removed_network, FAKE_NET);
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

START_TEST(check_prints_differences_and_silent_nodes)
{
    Skep__NetworkCheckNode one = SKEP__NETWORK_CHECK_NODE__INIT, two = one;
    Skep__NetworkCheckNode *nodes[] = { &one, &two };
    Skep__NetworkDifference lost = SKEP__NETWORK_DIFFERENCE__INIT, *differences[] = { &lost };
    Skep__NetworkCheckResponse answer = SKEP__NETWORK_CHECK_RESPONSE__INIT;
    struct fake k = { .check = &answer };
    struct result r;

    fake_fill(&k);
    one.node_id = (char *)(uintptr_t) "n1";
    one.hostname = (char *)(uintptr_t) "host-1";
    two.node_id = (char *)(uintptr_t) "n2";
    two.hostname = (char *)(uintptr_t) "host-2";
    answer.nodes = nodes;
    answer.n_nodes = 2;
    r = RUN(&k, "check");
    ck_assert_int_eq(r.status, 0);
    ck_assert_str_eq(r.out, "2 nodes checked: no differences\n");
    result_free(&r);
    lost.node_id = one.node_id;
    lost.network_id = (char *)(uintptr_t)FAKE_NET;
    lost.what = (char *)(uintptr_t) "route";
    lost.object = (char *)(uintptr_t) "10.0.16.3/32";
    lost.problem = (char *)(uintptr_t) "missing";
    one.difference_count = 3;
    two.error = (char *)(uintptr_t) "did not answer within 10 s";
    answer.differences = differences;
    answer.n_differences = 1;
    r = fake_run(&k, (const char *const[]){ "net", "check", NULL });
    ck_assert_int_eq(r.status, 1);
    ck_assert_ptr_nonnull(strstr(r.out, "host-1    back      route     10.0.16.3/32   missing\n"));
    ck_assert_ptr_nonnull(strstr(r.out, "… and 2 more\n"));
    ck_assert_str_eq(r.err, "host-2: did not answer within 10 s\n");
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl_network");
    TCase *tc = tcase_create("network");
    SRunner *sr = srunner_create(s);

    tcase_add_test(tc, create_sends_the_whole_spec);
    tcase_add_loop_test(tc, create_refuses, 0, (int)ARRAY_LEN(refused));
    tcase_add_test(tc, ls_has_dockers_columns_and_filters);
    tcase_add_test(tc, inspect_verbose_shows_services_and_endpoints);
    tcase_add_test(tc, rm_and_prune);
    tcase_add_test(tc, check_prints_differences_and_silent_nodes);
    suite_add_tcase(s, tc);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);

    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
