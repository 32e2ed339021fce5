#include "agentd/net/nl.h"

#include <check.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/net/entry.h"
#include "agentd/net/link.h"
#include "agentd/net/netns.h"

static int own_ns = -1;
static struct nl n = NL_CLOSED;
static struct err e;
static int lo;

/* Every test has a namespace of its own: with nothing but lo. */
static void setup(void)
{
    int ns = -1;

    memset(&e, 0, sizeof(e));
    ck_assert_int_eq(netns_open_own(&own_ns, &e), 0);
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    ck_assert_int_eq(netns_open_own(&ns, &e), 0);
    ck_assert_int_eq(setns(own_ns, CLONE_NEWNET), 0);
    ck_assert_int_eq(nl_open(&n, NETLINK_ROUTE, ns, &e), 0);
    (void)close(ns);
    struct link l;
    ck_assert_int_eq(link_find(&n, "lo", &l, &e), 0);
    lo = l.index;
    struct link_change up = { .index = lo, .up = true };
    link_put_change(&n, &up, 0);
    ck_assert_int_eq(nl_commit_all(&n, &e, "lo"), 0);
}

static void teardown(void)
{
    nl_close(&n);
    (void)close(own_ns);
}

static struct ip v4(uint32_t number)
{
    uint8_t b[4] = { 10, (uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number };

    return ip_from_v4(b);
}

static void want(struct entries *s, uint32_t from, uint32_t count)
{
    entries_clear(s);
    for (uint32_t i = from; i < from + count; i++) {
        struct entry_route r = { .destination = { v4(i), 32 }, .device = lo };

        entries_add_route(s, &r);
    }
    entries_sort(s);
}

static bool all(void *ctx, uint8_t kind, int device)
{
    (void)ctx, (void)kind, (void)device;
    return true;
}

static void load(struct entries *s)
{
    struct entry_scope scope = { .ours = all };

    ck_assert_int_eq(entries_load(s, &n, &scope, &e), 0);
}

static struct entry_change program(const struct entries *have, const struct entries *to)
{
    struct entry_diff d = { .have = have, .want = to };
    struct entry_change c = { 0 };

    ck_assert_msg(entries_program(&n, &d, &c, &e) == 0, "%s", e.message);
    return c;
}

/* Many batches in one go; the dump says what was asked for, and programming it again does nothing.
 */
START_TEST(thousands_of_routes)
{
    struct entries have = { 0 }, to = { 0 };

    want(&to, 0, 5000);
    struct entry_change c = program(&have, &to);
    ck_assert_uint_eq(c.added, 5000);
    load(&have);
    ck_assert_uint_eq(have.count, 5000);
    ck_assert_int_eq(memcmp(have.items, to.items, to.count * sizeof(*to.items)), 0);
    c = program(&have, &to);
    ck_assert_uint_eq(c.added + c.replaced + c.removed, 0);
    want(&to, 2500, 5000);
    c = program(&have, &to);
    ck_assert_uint_eq(c.added, 2500);
    ck_assert_uint_eq(c.removed, 2500);
    load(&have);
    ck_assert_int_eq(memcmp(have.items, to.items, to.count * sizeof(*to.items)), 0);
    entries_deinit(&have);
    entries_deinit(&to);
}
END_TEST

/* An error names its message, in the kernel's words, and stops none of the others. */
START_TEST(an_error_in_the_middle)
{
    struct entries have = { 0 }, to = { 0 };
    struct entry_diff d = { .have = &have, .want = &to };
    struct entry_change c;
    struct entry_route bad = { .destination = { v4(300), 32 }, .device = 999 };

    want(&to, 0, 400);
    entries_add_route(&to, &bad);
    entries_sort(&to);
    ck_assert_uint_eq(to.count, 400);
    ck_assert_int_lt(entries_program(&n, &d, &c, &e), 0);
    ck_assert_ptr_nonnull(strstr(e.message, "add route 10.0.1.44/32 dev device 999"));
    load(&have);
    ck_assert_uint_eq(have.count, 399);
    entries_deinit(&have);
    entries_deinit(&to);
}
END_TEST

/* When acknowledgements do not fit the socket's buffer, the outcome is unknown: it is said, and a
 * dump tells what became of it. */
START_TEST(lost_acknowledgements)
{
    struct entries have = { 0 }, to = { 0 };
    struct entry_diff d = { .have = &have, .want = &to };
    struct entry_change c;
    const int least = 1;

    want(&to, 0, 1000);
    ck_assert_int_eq(setsockopt(n.fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof(least)), 0);
    ck_assert_int_lt(entries_program(&n, &d, &c, &e), 0);
    ck_assert_ptr_nonnull(strstr(e.message, "No buffer space"));
    nl_close(&n);
    teardown();
    setup();
    entries_deinit(&have);
    entries_deinit(&to);
}
END_TEST

/* The namespace of the socket counts, not that of the caller. */
START_TEST(sockets_stay_in_their_namespace)
{
    struct links here = { 0 };
    struct nl own = NL_CLOSED;

    struct link_veth v = { .name = "a0", .peer_name = "b0", .peer_ns = own_ns, .mtu = 1400 };
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    int ns = -1;
    ck_assert_int_eq(netns_open_own(&ns, &e), 0);
    ck_assert_int_eq(setns(own_ns, CLONE_NEWNET), 0);
    v.peer_ns = ns;
    link_put_veth(&n, &v, 0);
    ck_assert_msg(nl_commit_all(&n, &e, "veth") == 0, "%s", e.message);
    ck_assert_int_eq(links_load(&here, &n, &e), 0);
    ck_assert_ptr_nonnull(links_by_name(&here, "a0"));
    ck_assert_ptr_null(links_by_name(&here, "b0"));
    ck_assert_uint_eq(links_by_name(&here, "a0")->mtu, 1400);
    ck_assert_str_eq(links_by_name(&here, "a0")->kind, "veth");
    ck_assert_int_eq(nl_open(&own, NETLINK_ROUTE, ns, &e), 0);
    ck_assert_int_eq(links_load(&here, &own, &e), 0);
    ck_assert_ptr_nonnull(links_by_name(&here, "b0"));
    struct link x;
    ck_assert_int_eq(link_find(&own, "none", &x, &e), -ERR_NOT_FOUND);
    link_put_veth(&n, &v, 0);
    ck_assert_int_eq(nl_commit_all(&n, &e, "veth"), -ERR_EXISTS);
    links_deinit(&here);
    nl_close(&own);
    (void)close(ns);
}
END_TEST

static void on_message(void *ctx, const struct nlmsghdr *nlh)
{
    if (nlh != NULL)
        ++*(unsigned *)ctx;
}

/* A listener hears changes, and says when it lost some. */
START_TEST(listening)
{
    const unsigned groups[] = { RTNLGRP_IPV4_ROUTE };
    struct nl monitor = NL_CLOSED;
    struct entries have = { 0 }, to = { 0 };
    unsigned heard = 0;
    const int least = 1;
    int ns = -1;

    /* The socket's namespace has no path any more: a second one is made beside it. */
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    ck_assert_int_eq(netns_open_own(&ns, &e), 0);
    ck_assert_int_eq(setns(own_ns, CLONE_NEWNET), 0);
    nl_close(&n);
    ck_assert_int_eq(nl_open(&n, NETLINK_ROUTE, ns, &e), 0);
    struct link_change up = { .index = lo, .up = true };
    link_put_change(&n, &up, 0);
    ck_assert_int_eq(nl_commit_all(&n, &e, "lo"), 0);
    ck_assert_int_eq(nl_monitor_open(&monitor, NETLINK_ROUTE, ns, groups, 1, &e), 0);
    ck_assert(nl_monitor_read(&monitor, on_message, &heard));
    heard = 0;
    want(&to, 0, 10);
    (void)program(&have, &to);
    ck_assert(nl_monitor_read(&monitor, on_message, &heard));
    ck_assert_uint_eq(heard, 10);
    ck_assert_int_eq(setsockopt(monitor.fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof(least)), 0);
    load(&have);
    want(&to, 1000, 2000);
    (void)program(&have, &to);
    ck_assert(!nl_monitor_read(&monitor, on_message, &heard));
    entries_deinit(&have);
    entries_deinit(&to);
    nl_close(&monitor);
    (void)close(ns);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("net_nl");
    TCase *t = tcase_create("net_nl");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, thousands_of_routes);
    tcase_add_test(t, an_error_in_the_middle);
    tcase_add_test(t, lost_acknowledgements);
    tcase_add_test(t, sockets_stay_in_their_namespace);
    tcase_add_test(t, listening);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
