#include "test/lib/ingress_cases.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "test/lib/expect.h"

#define SNAT SKEP__SOURCE_POLICY__SOURCE_SNAT
#define PRESERVE SKEP__SOURCE_POLICY__SOURCE_PRESERVE
#define LOCAL SKEP__SOURCE_POLICY__SOURCE_LOCAL
#define TCP SKEP__PROTOCOL__PROTOCOL_TCP
#define UDP SKEP__PROTOCOL__PROTOCOL_UDP

static const char *const host_address[] = { "", "192.168.77.1", "192.168.77.2", "192.168.77.3" };

static struct netrig_call at(int who, const char *address, int port, bool tcp)
{
    return (struct netrig_call){ who, tcp, address, port, 0, false };
}

/* Ports in order of (protocol, published, host_ip), as plans have them. */
static struct netrig *mesh(const struct balancer_ops *ops)
{
    static const struct plan_port ports[] = {
        { .protocol = TCP, .published = 8080, .target = 80, .source = SNAT },
        { .protocol = TCP, .published = 8081, .target = 80, .source = PRESERVE },
        { .protocol = TCP, .published = 8082, .target = 80, .source = LOCAL },
        { .protocol = UDP, .published = 8080, .target = 80, .source = SNAT },
        { .protocol = UDP, .published = 8081, .target = 80, .source = PRESERVE },
        { .protocol = UDP, .published = 8082, .target = 80, .source = LOCAL },
    };
    struct netrig *r = netrig_new(3, ops); /* host 1 has no task of the service */

    netrig_task(r, 1, 11, PLAN_STARTING);
    netrig_task(r, 2, 12, PLAN_UP);
    netrig_task(r, 2, 13, PLAN_UP);
    netrig_task(r, 3, 14, PLAN_UP);
    netrig_apply(r); /* as on a node: what stands before a port comes is read back */
    for (size_t i = 0; i < ARRAY_LEN(ports); i++)
        netrig_port(r, ports[i], 0);
    netrig_apply(r);
    return r;
}

/* A port alone and added to what stands: each protocol must be writable without the others. */
static void alone(const struct balancer_ops *ops)
{
    struct netrig *r = netrig_new(1, ops);
    const char *text;

    netrig_task(r, 1, 11, PLAN_UP);
    netrig_apply(r);
    netrig_port(r, (struct plan_port){ .protocol = UDP, .published = 8080, .target = 80 }, 0);
    netrig_apply(r);
    text = netrig_ask(r, at(NETRIG_CLIENT, host_address[1], 8080, false));
    EXPECT(strncmp(text, "t11 ", 4) == 0, "%s: %s", text, strerror(errno));
    netrig_free(r);
}

static void want_all(struct netrig *r, struct netrig_call call, const char *client)
{
    /* A UDP flow whose port was used before may go to the backend that it had then. */
    int least = call.tcp ? 3 : 2;
    struct netrig_spread s;

    netrig_spread(r, call, 12, &s);

    EXPECT(s.failed == 0 && s.by_task[12] >= least && s.by_task[13] >= least &&
               s.by_task[14] >= least,
           "%s:%d/%s: %d %d %d, %d unanswered", call.address, call.port, call.tcp ? "tcp" : "udp",
           s.by_task[12], s.by_task[13], s.by_task[14], s.failed);
    EXPECT(client == NULL || strcmp(s.client, client) == 0, "%s:%d/%s: client is %s", call.address,
           call.port, call.tcp ? "tcp" : "udp", s.client);
}

/* Every node answers, also the one without a task; the source is the entry node's address. */
static void snat(const struct balancer_ops *ops)
{
    static const char *const node[] = { "", "10.77.0.241", "10.77.0.242", "10.77.0.243" };
    struct netrig *r = mesh(ops);

    for (int host = 1; host <= 3; host++)
        for (int tcp = 0; tcp < 2; tcp++)
            want_all(r, at(NETRIG_CLIENT, host_address[host], 8080, tcp), node[host]);
    netrig_free(r);
}

/* Every node answers and the server sees the client. */
static void preserve(const struct balancer_ops *ops)
{
    struct netrig *r = mesh(ops);

    for (int host = 1; host <= 3; host++)
        for (int tcp = 0; tcp < 2; tcp++)
            want_all(r, at(NETRIG_CLIENT, host_address[host], 8081, tcp), "192.168.77.100");
    netrig_free(r);
}

/* Only nodes with a task answer, with those tasks; the server sees the client. */
static void local(const struct balancer_ops *ops)
{
    struct netrig *r = mesh(ops);
    struct netrig_spread s;
    int fd = netrig_connect(r, at(NETRIG_CLIENT, host_address[1], 8082, true));

    EXPECT(fd == -ECONNREFUSED, "the node without a task: %d", fd);
    for (int tcp = 0; tcp < 2; tcp++) {
        netrig_spread(r, at(NETRIG_CLIENT, host_address[2], 8082, tcp), 10, &s);
        EXPECT(s.by_task[12] + s.by_task[13] == 10 && abs(s.by_task[12] - 5) <= (tcp ? 1 : 2),
               "%s: %d %d %d", tcp ? "tcp" : "udp", s.by_task[12], s.by_task[13], s.failed);
        EXPECT(strcmp(s.client, "192.168.77.100") == 0, "client is %s", s.client);
        netrig_spread(r, at(NETRIG_CLIENT, host_address[3], 8082, tcp), 4, &s);
        EXPECT(s.by_task[14] == 4, "%d %d", s.by_task[14], s.failed);
    }
    netrig_free(r);
}

/* The host itself: by its address and by localhost; a task: its own node and another one. */
static void from_inside(const struct balancer_ops *ops)
{
    struct netrig *r = mesh(ops);

    for (int port = 8080; port <= 8081; port++)
        for (int tcp = 0; tcp < 2; tcp++) {
            want_all(r, at(NETRIG_HOST - 1, host_address[1], port, tcp), NULL);
            want_all(r, at(NETRIG_HOST - 2, "127.0.0.1", port, tcp), NULL);
            want_all(r, at(NETRIG_HOST - 1, host_address[2], port, tcp), NULL);
            want_all(r, at(11, host_address[1], port, tcp), NULL);
            want_all(r, at(12, host_address[2], port, tcp), NULL);
            want_all(r, at(12, host_address[1], port, tcp), NULL);
        }
    netrig_free(r);
}

/* Host mode: the task of this node by the address it was bound to, and nobody else. */
static void host_mode(const struct balancer_ops *ops)
{
    struct netrig *r = netrig_new(2, ops);
    struct netrig_spread s;
    int fd;

    netrig_shell("ip -n h1 addr add 192.168.77.11/24 dev eth0");
    netrig_task(r, 1, 11, PLAN_UP);
    netrig_task(r, 1, 12, PLAN_UP);
    netrig_task(r, 2, 13, PLAN_UP);
    netrig_port(r,
                (struct plan_port){
                    .published = 8080, .target = 80, .host_ip = { IP_V4, { 192, 168, 77, 1 } } },
                11);
    netrig_port(r,
                (struct plan_port){
                    .published = 8080, .target = 80, .host_ip = { IP_V4, { 192, 168, 77, 11 } } },
                12);
    netrig_port(r, (struct plan_port){ .published = 8081, .target = 80 }, 13);
    netrig_apply(r);
    netrig_spread(r, at(NETRIG_CLIENT, "192.168.77.1", 8080, true), 5, &s);
    EXPECT(s.by_task[11] == 5, "t11 %d of 5, %d unanswered", s.by_task[11], s.failed);
    EXPECT(strcmp(s.client, "192.168.77.100") == 0, "client is %s", s.client);
    netrig_spread(r, at(NETRIG_CLIENT, "192.168.77.11", 8080, true), 5, &s);
    EXPECT(s.by_task[12] == 5, "t12 %d of 5, %d unanswered", s.by_task[12], s.failed);
    netrig_spread(r, at(NETRIG_CLIENT, "192.168.77.2", 8081, true), 5, &s);
    EXPECT(s.by_task[13] == 5, "t13 %d of 5, %d unanswered", s.by_task[13], s.failed);
    netrig_spread(r, at(NETRIG_HOST - 2, "127.0.0.1", 8081, true), 5, &s);
    EXPECT(s.by_task[13] == 5, "t13 %d of 5, %d unanswered", s.by_task[13], s.failed);
    fd = netrig_connect(r, at(NETRIG_CLIENT, "192.168.77.1", 8081, true));
    EXPECT(fd == -ECONNREFUSED, "the other node: %d", fd);
    netrig_free(r);
}

/* Established connections through the mesh survive a drain and are reset when the task is gone; a
 * UDP flow moves. */
static void drain(const struct balancer_ops *ops)
{
    struct netrig *r = mesh(ops);
    char text[NETRIG_TEXT], name[NETRIG_TEXT];
    int held[3], udp[3], rc, resets = 0;

    for (int i = 0; i < 3; i++) {
        held[i] = netrig_connect(r, at(NETRIG_CLIENT, host_address[1], 8080, true));
        EXPECT(held[i] >= 0 && netrig_talk(held[i], NULL, text) == 0, "connect: %d", held[i]);
        udp[i] = netrig_connect(r, at(NETRIG_CLIENT, host_address[1], 8080, false));
        EXPECT(netrig_talk(udp[i], "?", text) == 0, "%s", "no answer");
    }
    netrig_state(r, 14, PLAN_DRAINING);
    netrig_apply(r);
    for (int i = 0; i < 3; i++) {
        rc = netrig_talk(held[i], "x\n", text);
        EXPECT(rc == 0, "draining: %s", strerror(-rc));
    }
    netrig_gone(r, 14);
    netrig_apply(r);
    for (int i = 0; i < 3; i++) {
        rc = netrig_talk(held[i], "y\n", text);
        if (rc != 0)
            EXPECT(rc == -ECONNRESET || rc == -EPIPE, "gone: %s", strerror(-rc));
        resets += rc != 0;
        rc = netrig_talk(udp[i], "?", name);
        EXPECT(rc == 0 && strncmp(name, "t14 ", 4) != 0, "udp: %d %s", rc, name);
        close(held[i]);
        close(udp[i]);
    }
    EXPECT(resets == 1, "%d of 3 were reset", resets);
    netrig_free(r);
}

const struct balancer_case ingress_cases[] = {
    { "alone", alone },
    { "snat", snat },
    { "preserve", preserve },
    { "local", local },
    { "from_inside", from_inside },
    { "host_mode", host_mode },
    { "ingress_drain", drain },
};
const size_t ingress_case_count = ARRAY_LEN(ingress_cases);
