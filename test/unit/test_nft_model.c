/* agentd/net/nft_model: tables as values and the text of their changes. Without a kernel; that it
 * takes the text is tested by test_balancer_nft and test_ingress. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/net/flows.h"
#include "agentd/net/nft_model.h"

enum { TEXT_MAX = 1 << 20 };

static struct arena memory;
static struct plan_backend backends[2][3];
static struct plan_service services[3];
static struct plan_endpoint endpoint;
static struct plan_peer peers[3];
static struct plan_port ports[2];
static struct plan_subnet subnet;
static struct net_plan plan;

static struct ip ip(int c, int d)
{
    return (struct ip){ IP_V4, { 10, 0, (uint8_t)c, (uint8_t)d } };
}

/* Two services, 10.0.0.100 with three backends and 10.0.0.101 with two; one task is here. */
static void setup(void)
{
    memset(&plan, 0, sizeof(plan));
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < 3; i++)
            backends[s][i] = (struct plan_backend){ ip(1 + s, 1 + i), false, i == 0 };
    services[0] = (struct plan_service){ "a", "a", ip(0, 100), backends[0], 3 };
    services[1] = (struct plan_service){ "b", "b", ip(0, 101), backends[1], 2 };
    services[2] = (struct plan_service){ "c", "c", ip(0, 99), backends[1], 0 };
    endpoint = (struct plan_endpoint){ "t", "a", ip(1, 1), { 0 }, -1, PLAN_UP };
    for (int i = 0; i < 3; i++)
        peers[i] =
            (struct plan_peer){ "n", { IP_V4, { 192, 0, 2, (uint8_t)(i + 1) } }, ip(0, 2 + i), "" };
    memset(ports, 0, sizeof(ports));
    subnet = (struct plan_subnet){ { ip(0, 0), 16 }, ip(0, 1) };
    plan.subnets = &subnet;
    plan.subnet_count = 1;
    plan.services = services;
    plan.service_count = 3;
    plan.endpoints = &endpoint;
    plan.endpoint_count = 1;
    plan.peers = peers;
    plan.ports = ports;
    plan.self_address = ip(0, 9);
}

static void teardown(void)
{
    arena_deinit(&memory);
}

static const struct nft_model *make(enum nft_role role, const struct nft_model *prev)
{
    return nft_model_make(role, &plan, prev, &memory);
}

static void want_change(const struct nft_model *was, const struct nft_model *now, const char *want)
{
    CLEANUP_BUF struct buf text = BUF_INIT(TEXT_MAX);
    struct err e = { 0 };

    ck_assert_msg(nft_model_change(was, now, &text, &e) == 0, "%s", e.message);
    ck_assert_str_eq(buf_str(&text), want);
}

static void want_part(const struct nft_model *was, const struct nft_model *now, const char *want)
{
    CLEANUP_BUF struct buf text = BUF_INIT(TEXT_MAX);
    struct err e = { 0 };

    ck_assert_msg(nft_model_change(was, now, &text, &e) == 0, "%s", e.message);
    ck_assert_msg(strstr(buf_str(&text), want) != NULL, "no\n%s\nin\n%s", want, buf_str(&text));
}

/* The first transaction replaces what stands; what is equal needs none. */
START_TEST(whole)
{
    const struct nft_model *m = make(NFT_ROUTER, NULL);

    want_part(NULL, m, "table ip skep\ndelete table ip skep\ntable ip skep {\n");
    want_part(NULL, m,
              "add element ip skep vip { 10.0.0.100 : goto s-10.0.0.100, 10.0.0.101 : goto "
              "s-10.0.0.101 }\n");
    want_part(NULL, m,
              "add element ip skep backend { 0 : 10.0.1.1, 1 : 10.0.1.2, 2 : 10.0.1.3, "
              "65536 : 10.0.2.1, 65537 : 10.0.2.2 }\n");
    want_part(NULL, m, "add element ip skep hairpin { 10.0.1.1 . 10.0.1.1 }\n");
    want_part(NULL, m,
              "add rule ip skep s-10.0.0.101 dnat ip to numgen inc mod 2 offset 65536 map @backend "
              "comment \"");
    want_change(m, make(NFT_ROUTER, m), "");
}
END_TEST

/* One changed service: its rule and its elements, nothing of the others. Slots stay although
 * services come and go before it. */
START_TEST(one_change)
{
    const struct nft_model *m = make(NFT_ROUTER, NULL), *n;

    backends[0][1].draining = true;
    n = make(NFT_ROUTER, m);
    want_part(m, n,
              "flush chain ip skep s-10.0.0.100\nadd rule ip skep s-10.0.0.100 dnat ip to "
              "numgen inc mod 2 offset 0 map @backend comment \"");
    want_part(m, n,
              "\"\ndelete element ip skep backend { 1, 2 }\n"
              "add element ip skep backend { 1 : 10.0.1.3 }\n");
    m = n;
    backends[0][0].address = ip(1, 7); /* another task in its place: the rule stays */
    n = make(NFT_ROUTER, m);
    want_change(m, n,
                "delete element ip skep backend { 0 }\n"
                "add element ip skep backend { 0 : 10.0.1.7 }\n");
    m = n;
    services[0].backend_count = 0;
    n = make(NFT_ROUTER, m);
    want_change(m, n,
                "delete element ip skep vip { 10.0.0.100 }\n"
                "delete element ip skep backend { 0, 1 }\n"
                "flush chain ip skep s-10.0.0.100\ndelete chain ip skep s-10.0.0.100\n");
    m = n;
    plan.services = &services[1]; /* the first one is gone, a new one gets another's slot never */
    plan.service_count = 2;
    services[2].backend_count = 1;
    n = make(NFT_ROUTER, m);
    want_part(m, n, "add rule ip skep s-10.0.0.99 dnat ip to numgen inc mod 1 offset 131072 map");
    want_part(m, n, "add element ip skep backend { 131072 : 10.0.2.1 }\n");
}
END_TEST

/* Ports: the policy decides on backends and on the source; IPVS's router sends mesh ports on. */
START_TEST(published)
{
    const struct nft_model *m;

    ports[0] = (struct plan_port){
        .published = 80, .target = 8080, .backends = backends[0], .backend_count = 3
    };
    ports[1] = (struct plan_port){ .protocol = SKEP__PROTOCOL__PROTOCOL_SCTP,
                                   .published = 81,
                                   .target = 8080,
                                   .source = SKEP__SOURCE_POLICY__SOURCE_LOCAL,
                                   .backends = backends[0],
                                   .backend_count = 3 };
    plan.port_count = 2;
    m = make(NFT_ROUTER, NULL);
    want_part(NULL, m,
              "add rule ip skep p-tcp-80 ct mark set ct mark or 0x40000 meta l4proto tcp "
              "dnat ip to numgen inc mod 3 offset 196608 map @tcpbackend");
    want_part(NULL, m,
              "add rule ip skep p-sctp-81 meta l4proto sctp dnat ip to numgen inc mod 1 offset "
              "262144 map @sctpbackend");
    want_part(NULL, m, "sctp . 81 : goto p-sctp-81 }");
    want_part(NULL, m, "ct mark and 0x40000 == 0x40000 snat to 10.0.0.9 comment");
    m = make(NFT_STEER, NULL);
    want_part(NULL, m,
              "p-tcp-80 ct mark set ct mark or 0x40000 meta l4proto tcp dnat ip to "
              "169.254.7.9:80 comment");
    for (int kind = NFT_BACKEND; kind <= NFT_SCTP_BACKEND; kind++)
        ck_assert_uint_eq(m->sets[kind].count, 0);
    ports[0].host_mode = true;
    want_part(NULL, make(NFT_STEER, NULL),
              "p-tcp-80 meta l4proto tcp dnat ip to numgen inc mod 3 ");
    m = make(NFT_MARKS, NULL);
    want_part(NULL, m,
              "add element ip skep vipmark { 10.0.0.99 : 65538, 10.0.0.100 : 65536, "
              "10.0.0.101 : 65537 }\nadd element ip skep portmark { sctp . 81 : 65539 }\n");
}
END_TEST

/* Indexes of peers are in the marks of connections: they stay when a peer goes and another comes.
 */
START_TEST(peers_keep_their_index)
{
    const struct nft_model *m;

    ports[0] = (struct plan_port){ .published = 80,
                                   .target = 80,
                                   .source = SKEP__SOURCE_POLICY__SOURCE_PRESERVE,
                                   .backends = backends[0],
                                   .backend_count = 3 };
    plan.port_count = 1;
    plan.peer_count = 2;
    m = make(NFT_ROUTER, NULL);
    want_part(NULL, m, "entry { 02:43:c0:00:02:01 : 1, 02:43:c0:00:02:02 : 2 }\n");
    want_part(NULL, m, "iifname \"vxlan0\" ct state new ip saddr != { 10.0.0.0/16 } ct mark set ");
    plan.peers = &peers[1];
    want_change(m, make(NFT_ROUTER, m),
                "delete element ip skep entry { 02:43:c0:00:02:01 }\n"
                "add element ip skep entry { 02:43:c0:00:02:03 : 3 }\n");
}
END_TEST

/* Connections to forget: to a virtual address or a link, whose server is no backend (any more). */
START_TEST(stale_flows)
{
    static const struct {
        uint32_t destination, server;
        bool want;
        const char *why;
    } cases[] = {
        { 0x0a000064, 0x0a000101, false, "a backend" },
        { 0x0a000064, 0x0a000102, false, "a draining one" },
        { 0x0a000064, 0x0a000105, true, "gone" },
        { 0x0a000064, 0x0a000064, true, "from before there was one" },
        { 0x0a000101, 0x0a000101, false, "direct to a task" },
        { 0x0a000001, 0x0a000001, false, "the gateway: names" },
        { 0x0a000009, 0x0a000009, false, "the node's own" },
        { 0xa9fe0802, 0x0a000101, false, "a published port" },
        { 0xa9fe0802, 0x0a000105, true, "a published port, gone" },
        { 0x08080808, 0x08080808, false, "the world" },
    };
    struct flows flows;

    backends[0][1].draining = true;
    flows = *flows_make(&plan, &memory);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct conntrack_flow f = { .destination = cases[i].destination,
                                    .server = cases[i].server };

        ck_assert_msg(flows_stale(&flows, &f) == cases[i].want, "%s", cases[i].why);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("nft_model");
    TCase *c = tcase_create("all");
    SRunner *sr;
    int failed;

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, whole);
    tcase_add_test(c, one_change);
    tcase_add_test(c, published);
    tcase_add_test(c, peers_keep_their_index);
    tcase_add_test(c, stale_flows);
    suite_add_tcase(s, c);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
