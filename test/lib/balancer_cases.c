#include "test/lib/balancer_cases.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "test/lib/expect.h"

static struct netrig_call vip(int who, bool tcp)
{
    return (struct netrig_call){ who, tcp, NETRIG_VIP, 80, 0, false };
}

/* Client 11 on host 1; backends 12 on host 1, 13 and 14 on host 2. */
static struct netrig *three(const struct balancer_ops *ops)
{
    struct netrig *r = netrig_new(2, ops);

    netrig_task(r, 1, 11, PLAN_STARTING);
    netrig_task(r, 1, 12, PLAN_UP);
    netrig_task(r, 2, 13, PLAN_UP);
    netrig_task(r, 2, 14, PLAN_UP);
    netrig_apply(r);
    return r;
}

/* A UDP flow whose port was used before may go to the backend that it had then. */
static void want_spread(const struct netrig_spread *s, bool tcp, int from, int to)
{
    int sum = s->failed, total = 30, share = total / (to - from + 1);

    EXPECT(s->failed == 0, "%d of %d unanswered", s->failed, total);
    for (int i = 0; i < 256; i++) {
        sum += s->by_task[i];
        if (i >= from && i <= to)
            EXPECT(abs(s->by_task[i] - share) <= (tcp ? 1 : share / 2), "t%d answered %d of %d", i,
                   s->by_task[i], total);
    }
    EXPECT(sum == total, "%d answers for %d questions", sum, total);
    for (int i = 0; i < 256; i++)
        EXPECT(s->by_task[i] == 0 || (i >= from && i <= to), "t%d answered", i);
}

/* Every backend gets its share, over TCP and UDP, and sees the client itself. */
static void spread(const struct balancer_ops *ops)
{
    struct netrig *r = three(ops);
    struct netrig_spread s;

    for (int tcp = 0; tcp < 2; tcp++) {
        netrig_spread(r, vip(11, tcp), 30, &s);
        want_spread(&s, tcp, 12, 14);
        EXPECT(strcmp(s.client, "10.77.0.11") == 0, "client is %s", s.client);
    }
    netrig_free(r);
}

/* A task reaches its own virtual address, also when it is its own turn to answer. */
static void hairpin(const struct balancer_ops *ops)
{
    struct netrig *r = three(ops);
    struct netrig_spread s;

    for (int tcp = 0; tcp < 2; tcp++) {
        netrig_spread(r, vip(12, tcp), 30, &s);
        want_spread(&s, tcp, 12, 14);
        netrig_spread(r, vip(13, tcp), 30, &s);
        want_spread(&s, tcp, 12, 14);
    }
    netrig_free(r);
}

/* Without backends a connection is refused at once, and so is a datagram; with the first backend
 * the same flow gets through. */
static void refuse(const struct balancer_ops *ops)
{
    struct netrig *r = netrig_new(2, ops);
    char text[NETRIG_TEXT];
    int fd, udp;

    netrig_task(r, 1, 11, PLAN_STARTING);
    netrig_task(r, 2, 12, PLAN_STARTING);
    netrig_apply(r);
    fd = netrig_connect(r, vip(11, true));
    EXPECT(fd == -ECONNREFUSED, "connected: %d", fd);
    udp = netrig_connect(r, (struct netrig_call){ 11, false, NETRIG_VIP, 80, 5555, false });
    fd = netrig_talk(udp, "?", text);
    EXPECT(fd == -ECONNREFUSED, "answer: %d", fd);
    netrig_state(r, 12, PLAN_UP);
    netrig_apply(r);
    EXPECT(strncmp(netrig_ask(r, vip(11, true)), "t12 ", 4) == 0, "%s", "no answer");
    fd = netrig_talk(udp, "?", text);
    EXPECT(fd == 0 && strncmp(text, "t12 ", 4) == 0, "the flow from before: %d", fd);
    netrig_state(r, 12, PLAN_DRAINING);
    netrig_apply(r);
    fd = netrig_connect(r, vip(11, true));
    EXPECT(fd == -ECONNREFUSED, "connected to a draining one: %d", fd);
    close(udp);
    netrig_free(r);
}

/* Connections to every backend by TCP, so that the one that is wanted is among them. */
static int connect_to(struct netrig *r, int task, bool tcp)
{
    char text[NETRIG_TEXT], want[NETRIG_TEXT];

    (void)snprintf(want, sizeof(want), "t%d ", task);
    for (int i = 0; i < 20; i++) {
        int fd = netrig_connect(r, vip(11, tcp));

        EXPECT(fd >= 0, "connect: %s", strerror(-fd));
        if (netrig_talk(fd, tcp ? NULL : "?", text) == 0 && strncmp(text, want, strlen(want)) == 0)
            return fd;
        close(fd);
    }
    EXPECT(false, "t%d never answered", task);
}

/* Draining: what is established goes on, nothing new comes. Gone: the connection is reset at its
 * next packet, not left hanging; the others do not notice. */
static void drain(const struct balancer_ops *ops)
{
    struct netrig *r = three(ops);
    struct netrig_spread s;
    char text[NETRIG_TEXT];
    int held[3], rc;

    for (int i = 0; i < 3; i++)
        held[i] = connect_to(r, 12 + i, true);
    netrig_state(r, 13, PLAN_DRAINING);
    netrig_apply(r);
    netrig_spread(r, vip(11, true), 30, &s);
    EXPECT(s.by_task[13] == 0 && s.failed == 0, "t13 %d failed %d", s.by_task[13], s.failed);
    EXPECT(s.by_task[12] == 15 && s.by_task[14] == 15, "%d and %d", s.by_task[12], s.by_task[14]);
    for (int i = 0; i < 3; i++) {
        rc = netrig_talk(held[i], "still there\n", text);
        EXPECT(rc == 0 && strcmp(text, "still there") == 0, "t%d: %s", 12 + i, strerror(-rc));
    }
    netrig_gone(r, 13);
    netrig_apply(r);
    for (int i = 0; i < 3; i++) {
        uint64_t began = clock_now_ms(), took;

        rc = netrig_talk(held[i], "and now\n", text);
        if (i == 1 && rc == 0) /* it was in the socket when the reset came */
            rc = netrig_talk(held[i], "once more\n", text);
        took = clock_now_ms() - began;
        if (i == 1)
            EXPECT(rc == -ECONNRESET || rc == -EPIPE, "t13: %d after %d ms", rc, (int)took);
        else
            EXPECT(rc == 0, "t%d: %s", 12 + i, strerror(-rc));
        close(held[i]);
    }
    netrig_free(r);
}

/* A UDP flow stays with a draining backend and moves when that is gone. */
static void udp_moves(const struct balancer_ops *ops)
{
    struct netrig *r = three(ops);
    char text[NETRIG_TEXT];
    int fd = connect_to(r, 13, false), rc;

    netrig_state(r, 13, PLAN_DRAINING);
    netrig_apply(r);
    rc = netrig_talk(fd, "?", text);
    EXPECT(rc == 0 && strncmp(text, "t13 ", 4) == 0, "draining: %d %s", rc, text);
    netrig_gone(r, 13);
    netrig_apply(r);
    rc = netrig_talk(fd, "?", text);
    EXPECT(rc == 0 && (strncmp(text, "t12 ", 4) == 0 || strncmp(text, "t14 ", 4) == 0),
           "gone: %d %s", rc, text);
    close(fd);
    netrig_free(r);
}

/* The agent starts anew: connections do not notice, the state it finds is the state it wants. */
static void restart(const struct balancer_ops *ops)
{
    struct netrig *r = three(ops);
    CLEANUP_ARENA struct arena a = { 0 };
    struct differences d = { .arena = &a };
    char text[NETRIG_TEXT];
    int held = connect_to(r, 13, true), rc;

    netrig_restart(r, 1);
    rc = netrig_talk(held, "before\n", text);
    EXPECT(rc == 0, "without an agent: %s", strerror(-rc));
    netrig_state(r, 14, PLAN_DRAINING);
    netrig_apply(r);
    rc = netrig_talk(held, "after\n", text);
    EXPECT(rc == 0, "after the restart: %s", strerror(-rc));
    EXPECT(netrig_check(r, 1, false, &d) == 0 && d.count == 0, "%zu differences: %s", d.count,
           d.count > 0 ? d.items[0]->object : "");
    EXPECT(strncmp(netrig_ask(r, vip(11, true)), "t1", 2) == 0, "%s", "no answer");
    close(held);
    netrig_free(r);
}

/* A client that uses one source port for the virtual address and for the backend itself: both work
 * (network.md 5.3). */
static void same_port(const struct balancer_ops *ops)
{
    struct netrig *r = netrig_new(2, ops);
    char text[NETRIG_TEXT];
    int virtual, direct;

    netrig_task(r, 1, 11, PLAN_STARTING);
    netrig_task(r, 2, 12, PLAN_UP);
    netrig_apply(r);
    for (int i = 0; i < 8; i++) {
        virtual = netrig_connect(
            r, (struct netrig_call){ 11, true, NETRIG_VIP, 80, 40000 + i, false });
        EXPECT(virtual >= 0 && netrig_talk(virtual, NULL, text) == 0, "vip: %d", virtual);
        direct =
            netrig_connect(r, (struct netrig_call){ 11, true, "10.77.0.12", 80, 40000 + i, false });
        EXPECT(direct >= 0, "direct beside it: %s", strerror(-direct));
        EXPECT(netrig_talk(direct, NULL, text) == 0, "%s", "direct: silent");
        EXPECT(netrig_talk(virtual, "x\n", text) == 0, "%s", "vip: silent");
        EXPECT(netrig_talk(direct, "y\n", text) == 0, "%s", "direct: silent");
        close(virtual);
        close(direct);
        direct =
            netrig_connect(r, (struct netrig_call){ 11, true, "10.77.0.12", 80, 40000 + i, false });
        EXPECT(direct >= 0 && netrig_talk(direct, NULL, text) == 0, "direct after it: %d", direct);
        close(direct);
    }
    netrig_free(r);
}

const struct balancer_case balancer_cases[] = {
    { "spread", spread },       { "hairpin", hairpin },     { "refuse", refuse },
    { "drain", drain },         { "udp_moves", udp_moves }, { "restart", restart },
    { "same_port", same_port },
};
const size_t balancer_case_count = ARRAY_LEN(balancer_cases);
