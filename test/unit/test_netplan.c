#include "agentd/netplan/plan.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "test/lib/networks_text.h"

static struct tables *t;
static struct arena arena;

static void setup(void)
{
    t = tables_new();
}

static void teardown(void)
{
    tables_free(t);
    arena_deinit(&arena);
}

static const struct net_plan *plan(const char *network, const char *self)
{
    return plan_make(t, networks_id(&arena, network), networks_id(&arena, self), &arena);
}

static const char *ip_text(const struct ip *ip)
{
    return ip_format(ip, arena_alloc(&arena, IP_CHARS + 1));
}

static void apply(const char *text)
{
    (void)tables_apply(t, networks_parse(&arena, text));
}

static const char cluster[] =
    "network n0 ingress 10.0.0.0/24 vni=4096 ingress\n"
    "network n1 front 10.0.1.7/24 fd01::/64 vni=4097 mtu=1400\n"
    "peer m1 one 192.0.2.1 n0=10.0.0.2/24\n"
    "peer m2 two 192.0.2.2 n0=10.0.0.3/24\n"
    "peer m3 three 192.0.2.3\n"
    "service s1 web vip n1=10.0.1.2/24 n0=10.0.0.9/24 "
    "publish=8080:80/tcp/ingress publish=53:5353/udp/host/192.0.2.1\n"
    "service s2 db dnsrr n1=,database publish=8080:1/tcp/ingress\n"
    "endpoint t3 web.3 s1 m1 STARTING n1=10.0.1.7/24 n0=10.0.0.7/24\n"
    "endpoint t2 web.2 s1 m2 DRAINING n1=10.0.1.6/24 n0=10.0.0.6/24\n"
    "endpoint t1 web.1 s1 m1 UP n1=10.0.1.10/24+fd01::a/64 n0=10.0.0.5/24\n"
    "endpoint t4 web.4 s1 m9 UP n1=10.0.1.8/24 n0=10.0.0.8/24\n"
    "endpoint t5 db.1 s2 m2 UP n1=10.0.1.9/24\n"
    "complete";

/* The head of a network; a gateway that nobody named is the subnet's first address. */
START_TEST(head_and_subnets)
{
    apply(cluster);
    const struct net_plan *p = plan("n1", "m1");

    ck_assert_str_eq(p->name, "front");
    ck_assert_uint_eq(p->vni, 4097);
    ck_assert_uint_eq(p->mtu, 1400);
    ck_assert_uint_eq(p->vxlan_port, 4789);
    ck_assert(!p->ingress && !p->internal && !p->encrypted);
    ck_assert_uint_eq(p->subnet_count, 2);
    ck_assert_str_eq(ip_text(&p->subnets[0].subnet.address), "10.0.1.0");
    ck_assert_str_eq(ip_text(&p->subnets[0].gateway), "10.0.1.1");
    ck_assert_str_eq(ip_text(&p->subnets[1].gateway), "fd01::1");
    ck_assert_str_eq(ip_text(&p->self_vtep), "192.0.2.1");
    ck_assert_ptr_null(plan("n7", "m1"));
}
END_TEST

/* Peers are the other nodes that have something in the network; a task whose node is not known, or
 * down, is in no plan: nothing leads there. */
START_TEST(peers_and_endpoints)
{
    apply(cluster);
    const struct net_plan *p = plan("n1", "m1");

    ck_assert_uint_eq(p->peer_count, 1);
    ck_assert_str_eq(ip_text(&p->peers[0].vtep), "192.0.2.2");
    ck_assert_uint_eq(p->endpoint_count, 4);
    ck_assert_int_eq(p->endpoints[0].peer, -1);
    ck_assert_str_eq(ip_text(&p->endpoints[0].v4), "10.0.1.10");
    ck_assert_str_eq(ip_text(&p->endpoints[0].v6), "fd01::a");
    ck_assert_int_eq(p->endpoints[0].state, PLAN_UP);
    ck_assert_int_eq(p->endpoints[1].peer, 0);
    ck_assert_int_eq(p->endpoints[1].state, PLAN_DRAINING);
    ck_assert_int_eq(p->endpoints[2].state, PLAN_STARTING);
    ck_assert_int_eq(p->endpoints[3].peer, 0);
    /* In the ingress network every node has an address, so every node is a peer. */
    p = plan("n0", "m1");
    ck_assert_uint_eq(p->peer_count, 1);
    ck_assert_str_eq(ip_text(&p->peers[0].address), "10.0.0.3");
    ck_assert_str_eq(ip_text(&p->self_address), "10.0.0.2");
    p = plan("n1", "m3"); /* a node with nothing in it sees both others */
    ck_assert_uint_eq(p->peer_count, 2);
    ck_assert_int_eq(p->endpoints[0].peer, 0);
    ck_assert_int_eq(p->endpoints[1].peer, 1);
}
END_TEST

/* Backends are UP or DRAINING, in order of address as a number; services without a virtual address
 * are not balanced. */
START_TEST(services)
{
    apply(cluster);
    const struct net_plan *p = plan("n1", "m1");

    ck_assert_uint_eq(p->service_count, 1);
    ck_assert_str_eq(p->services[0].name, "web");
    ck_assert_str_eq(ip_text(&p->services[0].vip), "10.0.1.2");
    ck_assert_uint_eq(p->services[0].backend_count, 2);
    ck_assert_str_eq(ip_text(&p->services[0].backends[0].address), "10.0.1.6");
    ck_assert(p->services[0].backends[0].draining && !p->services[0].backends[0].local);
    ck_assert_str_eq(ip_text(&p->services[0].backends[1].address), "10.0.1.10");
    ck_assert(!p->services[0].backends[1].draining && p->services[0].backends[1].local);
    apply("removed endpoint t1\nremoved endpoint t2");
    ck_assert_uint_eq(plan("n1", "m1")->services[0].backend_count, 0);
}
END_TEST

/* Mesh ports are the ingress network's; host-mode ports belong to the first network of their task,
 * on its node only. */
START_TEST(ports)
{
    apply(cluster);
    const struct net_plan *mesh = plan("n0", "m3"), *front = plan("n1", "m1");

    ck_assert_uint_eq(mesh->port_count, 1);
    ck_assert_uint_eq(mesh->ports[0].published, 8080);
    ck_assert_uint_eq(mesh->ports[0].target, 80);
    ck_assert(!mesh->ports[0].host_mode);
    ck_assert_uint_eq(mesh->ports[0].backend_count, 2);
    ck_assert_str_eq(ip_text(&mesh->ports[0].backends[0].address), "10.0.0.5");
    ck_assert_uint_eq(front->port_count, 1);
    ck_assert(front->ports[0].host_mode);
    ck_assert_str_eq(ip_text(&front->ports[0].host_ip), "192.0.2.1");
    ck_assert_uint_eq(front->ports[0].backend_count, 1);
    ck_assert_str_eq(ip_text(&front->ports[0].backends[0].address), "10.0.1.10");
    /* The task's first network has it, no other one. */
    mesh = plan("n0", "m1");
    ck_assert_uint_eq(mesh->port_count, 1);
    ck_assert(!mesh->ports[0].host_mode);
    ck_assert_uint_eq(plan("n1", "m2")->port_count, 1);
    ck_assert(plan("n1", "m2")->ports[0].backends[0].draining);
    ck_assert_uint_eq(plan("n1", "m3")->port_count, 0);
}
END_TEST

/* Two services that claim one port: the first by id has it, and the other once it is gone. */
START_TEST(clashing_ports)
{
    apply("network n0 ingress 10.0.0.0/24 ingress\npeer m1 one 192.0.2.1\n"
          "service s2 b vip n0=10.0.0.8/24 publish=80:2/tcp/ingress publish=80:3/udp/ingress\n"
          "service s1 a vip n0=10.0.0.9/24 publish=80:1/tcp/ingress publish=0:1/tcp/ingress\n"
          "complete");
    const struct net_plan *p = plan("n0", "m1");

    ck_assert_uint_eq(p->port_count, 2);
    ck_assert_uint_eq(p->ports[0].target, 1);
    ck_assert_uint_eq(p->ports[1].target, 3);
    apply("removed service s1");
    ck_assert_uint_eq(plan("n0", "m1")->ports[0].target, 2);
}
END_TEST

/* The same tables give the same plan, in whatever order they came. */
START_TEST(order_does_not_matter)
{
    struct tables *other = tables_new();
    Skep__NetworksResponse *resp = networks_parse(&arena, cluster);

    for (size_t i = 0; i < resp->n_records / 2; i++) {
        Skep__NetworkRecord *x = resp->records[i];

        resp->records[i] = resp->records[resp->n_records - 1 - i];
        resp->records[resp->n_records - 1 - i] = x;
    }
    (void)tables_apply(other, resp);
    apply(cluster);
    const struct net_plan *a = plan("n1", "m1"), *b = plan_make(other, networks_id(&arena, "n1"),
                                                                networks_id(&arena, "m1"), &arena);
    ck_assert_uint_eq(a->endpoint_count, b->endpoint_count);
    for (size_t i = 0; i < a->endpoint_count; i++) {
        ck_assert_str_eq(a->endpoints[i].task_id, b->endpoints[i].task_id);
        ck_assert_int_eq(a->endpoints[i].peer, b->endpoints[i].peer);
    }
    ck_assert_uint_eq(a->service_count, b->service_count);
    tables_free(other);
}
END_TEST

/* A node whose address is not known yet, and one that nobody knows. */
START_TEST(a_node_without_address)
{
    apply("network n1 front 10.0.1.0/24\npeer m2 two -\n"
          "endpoint t1 a - m2 UP n1=10.0.1.5/24\nendpoint t2 b - m1 UP n1=10.0.1.6/24\ncomplete");
    const struct net_plan *p = plan("n1", "m1");

    ck_assert_uint_eq(p->self_vtep.family, 0);
    ck_assert_uint_eq(p->peer_count, 0);
    ck_assert_uint_eq(p->endpoint_count, 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("netplan");
    TCase *c = tcase_create("plan");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, head_and_subnets);
    tcase_add_test(c, peers_and_endpoints);
    tcase_add_test(c, services);
    tcase_add_test(c, ports);
    tcase_add_test(c, clashing_ports);
    tcase_add_test(c, order_does_not_matter);
    tcase_add_test(c, a_node_without_address);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
