/* agentd/net/ingress with the balancers of two hosts in network namespaces: the routing mesh. The
 * cases that hold for every balancer are in test/lib/ingress_cases.c; the VM runs them with IPVS.
 */
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/net/health.h"
#include "agentd/net/netns.h"
#include "agentd/net/nft_model.h"
#include "test/lib/ingress_cases.h"

START_TEST(case_of_all)
{
    ingress_cases[_i].run(&balancer_nft);
}
END_TEST

/* Ports that differ by the host's address only come by different ports over the link; the numbers
 * are the same whoever asks. */
START_TEST(link_ports)
{
    struct plan_port ports[] = {
        { .published = 80, .host_ip = { IP_V4, { 10, 0, 0, 1 } } },
        { .published = 80, .host_ip = { IP_V4, { 10, 0, 0, 2 } } },
        { .published = 81 },
        { .published = 65535 },
        { .published = 65535, .host_ip = { IP_V4, { 10, 0, 0, 1 } } },
        { .protocol = SKEP__PROTOCOL__PROTOCOL_UDP, .published = 80 },
    };
    const struct net_plan p = { .ports = ports, .port_count = ARRAY_LEN(ports) };
    static const uint16_t want[ARRAY_LEN(ports)] = { 80, 82, 81, 65535, 1, 80 };
    uint16_t got[ARRAY_LEN(ports)];

    nft_link_ports(&p, got);
    for (size_t i = 0; i < ARRAY_LEN(ports); i++)
        ck_assert_msg(got[i] == want[i], "%zu: %u, not %u", i, got[i], want[i]);
}
END_TEST

static int task_count;

static int listen_in(void *ctx, struct err *e)
{
    struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(8080) };
    int *fd = ctx;

    (void)e;
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return bind(*fd, (struct sockaddr *)&any, sizeof(any)) == 0 && listen(*fd, 5) == 0 ? 0 : -1;
}

/* A port that a program of the host has is left to it, told, and taken over when it is free; what
 * we hold nobody else gets. */
START_TEST(port_in_use)
{
    struct netrig *r = netrig_new(1, &balancer_nft);
    CLEANUP_CLOSE int host = netrig_ns(r, NETRIG_HOST - 1);
    CLEANUP_ARENA struct arena a = { 0 };
    struct differences d = { .arena = &a };
    struct err e = { 0 };
    int fd, other;

    ck_assert_int_eq(netns_inside(host, listen_in, &fd, NULL), 0);
    netrig_task(r, 1, 11, PLAN_UP);
    netrig_port(r, (struct plan_port){ .published = 8080, .target = 80 }, 0);
    netrig_port(r, (struct plan_port){ .published = 8081, .target = 80 }, 0);
    netrig_apply(r);
    ck_assert_str_eq(ingress_problem(netrig_ingress(r, 1)), "port 8080/tcp is in use on this host");
    /* It is his listener that takes the connection. */
    ck_assert_str_eq(
        netrig_ask(r, (struct netrig_call){ NETRIG_CLIENT, true, "192.168.77.1", 8081, 0, false }),
        "t11 10.77.0.241");
    other = netrig_connect(
        r, (struct netrig_call){ NETRIG_CLIENT, true, "192.168.77.1", 8080, 0, false });
    ck_assert_int_ge(other, 0);
    close(other);
    ck_assert_int_eq(ingress_check(netrig_ingress(r, 1), true, &d, &e), 0);
    ck_assert_uint_eq(d.count, 1);
    ck_assert_str_eq(d.items[0]->object, "8080/tcp");
    close(fd);
    d.count = 0;
    ck_assert_int_eq(ingress_check(netrig_ingress(r, 1), true, &d, &e), 0);
    ck_assert_uint_eq(d.count, 0);
    ck_assert_str_eq(ingress_problem(netrig_ingress(r, 1)), "");
    ck_assert_str_ne(
        netrig_ask(r, (struct netrig_call){ NETRIG_CLIENT, true, "192.168.77.1", 8080, 0, false }),
        "");
    ck_assert_int_lt(netns_inside(host, listen_in, &fd, NULL), 0);
    close(fd);
    netrig_free(r);
}
END_TEST

/* Flushing the host's rules by hand is healed. */
START_TEST(repair)
{
    struct netrig *r = netrig_new(1, &balancer_nft);
    CLEANUP_ARENA struct arena a = { 0 };
    struct differences d = { .arena = &a };
    struct netrig_call call = { NETRIG_CLIENT, true, "192.168.77.1", 8080, 0, false };
    struct err e = { 0 };

    netrig_task(r, 1, 11, PLAN_UP);
    netrig_port(r, (struct plan_port){ .published = 8080, .target = 80 }, 0);
    netrig_port(r,
                (struct plan_port){
                    .published = 8081, .target = 80, .host_ip = { IP_V4, { 192, 168, 77, 1 } } },
                0);
    netrig_apply(r);
    ck_assert_int_eq(ingress_check(netrig_ingress(r, 1), false, &d, &e), 0);
    ck_assert_msg(d.count == 0, "%s %s", d.items[0]->object, d.items[0]->problem);
    netrig_shell("ip netns exec h1 nft flush ruleset");
    ck_assert_str_eq(netrig_ask(r, call), "");
    ck_assert_int_eq(ingress_check(netrig_ingress(r, 1), true, &d, &e), 0);
    ck_assert_uint_eq(d.count, 1);
    ck_assert_str_eq(d.items[0]->object, "table skep-ingress");
    ck_assert_str_eq(netrig_ask(r, call), "t11 10.77.0.241");
    netrig_free(r);
}
END_TEST

/* ---- health -------------------------------------------------------------------------------------
 */

static int tasks_here(void *ctx, uint8_t protocol, uint16_t port)
{
    (void)ctx;
    return port == 8080 && protocol == IPPROTO_TCP ? task_count : -1;
}

static void get(struct loop *l, const char *request, const char *want)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(INGRESS_HEALTH_PORT) };
    CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char text[512] = "";
    size_t size = 0;
    ssize_t n = -1;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    for (const char *c = request; *c != '\0'; c++) { /* byte by byte: reads are never whole */
        ck_assert_int_eq(send(fd, c, 1, MSG_NOSIGNAL), 1);
        ck_assert_int_eq(loop_run_once(l, 0, NULL), 0);
    }
    for (int i = 0; i < 500 && n != 0; i++) {
        ck_assert_int_eq(loop_run_once(l, 10, NULL), 0);
        n = recv(fd, text + size, sizeof(text) - 1 - size, MSG_DONTWAIT);
        size += n > 0 ? (size_t)n : 0;
    }
    ck_assert_int_eq(n, 0);
    ck_assert_msg(strstr(text, want) != NULL, "%s: %s", request, text);
}

static int in_scratch(void *ctx, struct err *e)
{
    struct loop *l = loop_new(e);
    struct health *h;

    (void)ctx;
    netrig_shell("ip link set lo up");
    h = health_new(l, INGRESS_HEALTH_PORT, tasks_here, NULL, e);
    ck_assert_ptr_nonnull(h);
    task_count = 2;
    get(l, "GET /8080/tcp HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n");
    get(l, "GET /8080 HTTP/1.0\r\n\r\n", "{\"local_tasks\":2}\n");
    get(l, "HEAD /8080/tcp?x HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n");
    task_count = 0;
    get(l, "GET /8080/tcp HTTP/1.1\r\n\r\n", "HTTP/1.1 503 ");
    get(l, "GET /8081/tcp HTTP/1.1\r\n\r\n", "HTTP/1.1 404 ");
    get(l, "GET /8080/udp HTTP/1.1\r\n\r\n", "HTTP/1.1 404 ");
    get(l, "GET /70000/tcp HTTP/1.1\r\n\r\n", "HTTP/1.1 404 ");
    get(l, "GET 8080 HTTP/1.1\r\n\r\n", "HTTP/1.1 404 ");
    get(l, "POST /8080/tcp HTTP/1.1\r\n\r\n", "HTTP/1.1 405 ");
    get(l, "GET\r\n\r\n", "HTTP/1.1 405 ");
    health_free(h);
    loop_free(l);
    return 0;
}

START_TEST(health)
{
    struct err e = { 0 };

    ck_assert_msg(netns_scratch(in_scratch, NULL, &e) == 0, "%s", e.message);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ingress");
    TCase *c = tcase_create("all");
    SRunner *sr;
    int failed;

    tcase_set_timeout(c, 120);
    tcase_add_test(c, link_ports);
    tcase_add_loop_test(c, case_of_all, 0, (int)ingress_case_count);
    tcase_add_test(c, port_in_use);
    tcase_add_test(c, repair);
    tcase_add_test(c, health);
    suite_add_tcase(s, c);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
