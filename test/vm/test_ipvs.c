/* agentd/net/balancer_ipvs with a real ip_vs: what every balancer must do
 * (test/lib/balancer_cases.c, ingress_cases.c), source ports that clash, and the repair of what was
 * changed by hand. Arguments: names of cases. */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "test/lib/expect.h"
#include "test/lib/ingress_cases.h"

enum { CLASHES = 2400, CLASH_PORTS = 600, CLASH_FIRST = 40000 };

static void probe(const struct balancer_ops *ops)
{
    struct err e = { 0 };

    EXPECT(ops->probe(&e) == 0, "%s", e.message);
}

static bool was_repeated(int fd)
{
    struct tcp_info info = { 0 };
    socklen_t size = sizeof(info);

    EXPECT(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0, "%s", "no TCP_INFO");
    return info.tcpi_total_retrans > 0;
}

/* 2 400 connections to the virtual address, 2 400 to its backend itself, from the same source ports
 * at the same time: no SYN had to be sent twice (network.md 5.3). */
static void clash(const struct balancer_ops *ops)
{
    struct netrig *r = netrig_new(2, ops);
    struct netrig_call to[2] = { { 11, true, NETRIG_VIP, 80, 0, false },
                                 { 11, true, "10.77.0.12", 80, 0, false } };
    char text[NETRIG_TEXT];
    int stalled = 0, failed = 0;

    netrig_task(r, 1, 11, PLAN_STARTING);
    netrig_task(r, 2, 12, PLAN_UP);
    netrig_task(r, 1, 13, PLAN_UP);
    netrig_apply(r);
    for (int i = 0; i < CLASHES; i++) {
        int fd[2], first = i & 1; /* in turns, who is first and who ends first */

        for (int k = 0; k < 2; k++) {
            struct netrig_call *c = &to[k ^ first];

            if (c == &to[1])
                c->address = (i & 2) != 0 ? "10.77.0.12" : "10.77.0.13";
            c->from = CLASH_FIRST + i % CLASH_PORTS;
            fd[k] = netrig_connect(r, *c);
            failed += fd[k] < 0 || netrig_talk(fd[k], NULL, text) != 0;
            stalled += fd[k] >= 0 && was_repeated(fd[k]);
        }
        for (int k = 0; k < 2; k++)
            if (fd[k ^ ((i >> 2) & 1)] >= 0)
                close(fd[k ^ ((i >> 2) & 1)]);
    }
    EXPECT(failed == 0 && stalled == 0, "%d failed, %d stalled of %d", failed, stalled,
           2 * CLASHES);
    (void)printf(
        "# %d connections by the virtual address, %d direct, same source ports: none stalled\n",
        CLASHES, CLASHES);
    netrig_free(r);
}

/* Hands in the kernel's state are seen, named and mended. */
static void repair(const struct balancer_ops *ops)
{
    static const struct {
        const char *by_hand, *what, *object;
    } cases[] = {
        { "ip -n r1 link del lb0", "link", "lb0" },
        { "ip netns exec r1 nft flush ruleset", "nft", "table skep" },
        { "nsenter --net=/run/netns/net1.balancer nft flush ruleset", "nft", "table skep" },
        { "nsenter --net=/run/netns/net1.balancer ip route del local 10.77.0.200 dev lo table "
          "local",
          "route", "local 10.77.0.200/32 dev lo table 255" },
        { "ip -n r1 rule del pref 90", "rule", "mark 0x20000/0x20000 to table 200" },
        { "ip -n r1 route del 10.77.0.200/32", "route",
          "10.77.0.200/32 via 169.254.7.2 dev lb0 table 254" },
        { "nsenter --net=/run/netns/net1.balancer ip route del default", "route",
          "0.0.0.0/0 via 169.254.7.1 dev o0 table 254" },
        { "nsenter --net=/run/netns/net1.balancer sh -c 'echo 0 "
          ">/proc/sys/net/ipv4/vs/expire_nodest_conn'",
          "setting", "1 of the balancer" },
    };
    struct netrig *r = netrig_new(1, ops);

    netrig_task(r, 1, 11, PLAN_STARTING);
    netrig_task(r, 1, 12, PLAN_UP);
    netrig_apply(r);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP_ARENA struct arena a = { 0 };
        struct differences d = { .arena = &a };
        bool found = false;

        EXPECT(netrig_check(r, 1, false, &d) == 0 && d.count == 0, "%zu differences before %zu: %s",
               d.count, i, d.count > 0 ? d.items[0]->object : "");
        netrig_shell("%s", cases[i].by_hand);
        EXPECT(netrig_check(r, 1, true, &d) == 0, "%s", "check");
        for (size_t k = 0; k < d.count; k++)
            found |= strcmp(d.items[k]->object, cases[i].object) == 0 &&
                     strcmp(d.items[k]->what, cases[i].what) == 0;
        EXPECT(found, "%s: %zu differences, first: %s %s", cases[i].by_hand, d.count,
               d.count > 0 ? d.items[0]->object : "", d.count > 0 ? d.items[0]->problem : "");
        EXPECT(netrig_ask(r, (struct netrig_call){ 11, true, NETRIG_VIP, 80, 0, false })[0] != '\0',
               "%s: %s", cases[i].by_hand, "no answer after the repair");
    }
    netrig_free(r);
}

/* SCTP through the mesh, from the node of the task and from the other one. */
static void sctp(const struct balancer_ops *ops)
{
    struct netrig *r = netrig_new(2, ops);
    const char *text;

    netrig_task(r, 1, 11, PLAN_UP);
    netrig_apply(r);
    netrig_port(r,
                (struct plan_port){
                    .protocol = SKEP__PROTOCOL__PROTOCOL_SCTP, .published = 8080, .target = 80 },
                0);
    netrig_apply(r);
    for (int host = 1; host <= 2; host++) {
        struct netrig_call call = {
            NETRIG_CLIENT, true, host == 1 ? "192.168.77.1" : "192.168.77.2", 8080, 0, true
        };

        text = netrig_ask(r, call);
        EXPECT(strncmp(text, "t11 ", 4) == 0, "host %d: '%s': %s", host, text, strerror(errno));
    }
    netrig_free(r);
}

static void sctp_nft(const struct balancer_ops *ops)
{
    (void)ops;
    sctp(&balancer_nft);
}

static const struct balancer_case own[] = {
    { "sctp", sctp },   { "sctp_nft", sctp_nft }, { "probe", probe },
    { "clash", clash }, { "repair", repair },
};

static int passed, failed;

/* A process per case: a failed one leaves nothing to the next. */
static void run(const struct balancer_case *c, char **names)
{
    bool wanted = names[0] == NULL;
    uint64_t began = clock_now_ms();
    int status = -1;
    pid_t pid;

    for (; *names != NULL; names++)
        wanted |= strcmp(*names, c->name) == 0;
    if (!wanted)
        return;
    (void)fflush(stdout);
    pid = fork();
    if (pid == 0) {
        c->run(&balancer_ipvs);
        exit(EXIT_SUCCESS);
    }
    if (pid > 0)
        (void)waitpid(pid, &status, 0);
    (void)printf("%s %s, %" PRIu64 " ms\n", status == 0 ? "ok" : "FAILED", c->name,
                 clock_now_ms() - began);
    passed += status == 0;
    failed += status != 0;
}

int main(int argc, char **argv)
{
    (void)argc;
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        run(&own[i], argv + 1);
    for (size_t i = 0; i < balancer_case_count; i++)
        run(&balancer_cases[i], argv + 1);
    for (size_t i = 0; i < ingress_case_count; i++)
        run(&ingress_cases[i], argv + 1);
    (void)printf("%d passed, %d failed\n", passed, failed);
    return failed == 0 && passed > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
