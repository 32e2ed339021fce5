#include "agentd/net/net_internal.h"

#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "agentd/net/netns.h"
#include "common/clock.h"
#include "common/log.h"

/* ---- events ---------------------------------------------------------------------------------- */

struct own { /* ports of sockets whose changes are ours */
    uint32_t router, host;
    bool others;
};

static void on_event(void *ctx, const struct nlmsghdr *nlh)
{
    struct own *o = ctx;

    if (nlh->nlmsg_pid == 0 || (nlh->nlmsg_pid != o->router && nlh->nlmsg_pid != o->host))
        o->others = true;
}

static void on_network(void *ctx, int fd, uint32_t events)
{
    struct network *w = ctx;
    struct own own = { .host = w->net->host_nl.port };

    (void)fd, (void)events;
    if (w->overlay != NULL)
        own.router = w->overlay->nl.port;
    if (!nl_monitor_read(&w->monitor, on_event, &own) || own.others) {
        if (w->event_ms == 0)
            w->event_ms = clock_now_ms();
    }
}

static void on_host(void *ctx, int fd, uint32_t events)
{
    struct net *n = ctx;
    struct own own = { .host = n->host_nl.port };

    (void)fd, (void)events;
    if (!nl_monitor_read(&n->host_monitor, on_event, &own) || own.others) {
        if (n->host_event_ms == 0)
            n->host_event_ms = clock_now_ms();
    }
}

void watch_network(struct network *w)
{
    const unsigned groups[] = { RTNLGRP_LINK,       RTNLGRP_NEIGH,       RTNLGRP_IPV4_IFADDR,
                                RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE };
    struct err e = { 0 };
    int rc =
        nl_monitor_open(&w->monitor, NETLINK_ROUTE, w->overlay->ns, groups, ARRAY_LEN(groups), &e);

    if (rc == 0)
        rc = loop_watch_fd(w->net->loop, w->monitor.fd, EPOLLIN, on_network, w);
    if (rc < 0)
        log_warn("net.watch", "network=%s error=\"%s\"", w->id, err_message(&e, rc));
}

void watch_forget(struct network *w)
{
    if (w->monitor.fd < 0)
        return;
    loop_unwatch_fd(w->net->loop, w->monitor.fd);
    nl_close(&w->monitor);
}

/* ---- looking --------------------------------------------------------------------------------- */

static void told(struct net *n, const struct differences *d, size_t count, const char *network)
{
    n->stats.repairs += count;
    for (size_t i = 0; i < MIN(d->count, (size_t)8); i++)
        log_warn("net.repair", "network=%s what=%s object=\"%s\" problem=\"%s\"", network,
                 d->items[i]->what, d->items[i]->object, d->items[i]->problem);
    if (count > 8)
        log_warn("net.repair", "network=%s count=%zu", network, count);
}

/* Asking for the generation is much cheaper than hearing of every element that we add ourselves. */
static bool generation_moved(struct nft *nft, uint32_t *seen)
{
    uint32_t now = 0;
    struct err e = { 0 };

    if (nft_generation(nft, &now, &e) < 0 || now == *seen)
        return false;
    *seen = now;
    return true;
}

static void poll_generations(struct net *n, uint64_t now_ms)
{
    n->polled_ms = now_ms;
    if (generation_moved(n->egress.nft, &n->host_generation) && n->host_event_ms == 0)
        n->host_event_ms = now_ms;
    for (size_t i = 0; i < n->network_count; i++) {
        struct network *w = n->networks[i];

        if (w->overlay != NULL && generation_moved(w->overlay->nft, &w->generation) &&
            w->event_ms == 0)
            w->event_ms = now_ms;
    }
}

static int look(struct network *w, const struct net_plan *p, struct differences *d, size_t *count,
                struct err *e)
{
    struct net *n = w->net;
    uint32_t found = 0;
    int rc = overlay_check(w->overlay, p, true, d, &found, e);
    size_t before = d->count;

    *count = found;
    if (rc == 0 && w->balancer != NULL)
        rc = n->balancer->check(w->balancer, p, true, d, e);
    *count += d->count - before;
    return rc;
}

static void network_check(struct network *w, uint64_t now_ms)
{
    struct net *n = w->net;
    const struct net_plan *p = network_plan(w);
    CLEANUP_ARENA struct arena a = { 0 };
    struct differences d = { .arena = &a, .network_id = w->id };
    struct err e = { 0 };
    size_t count = 0;

    w->checked_ms = now_ms;
    w->event_ms = 0;
    if (p == NULL || !w->ready || !dns_listening(n->dns, w->id)) {
        networks_sync(n, false); /* tries again what failed */
        return;
    }
    int rc = look(w, p, &d, &count, &e);
    if (count > 0)
        told(n, &d, count, w->id);
    if (rc < 0) {
        w->ready = false;
        networks_sync(n, false);
        return;
    }
    tasks_check(n, w, now_ms);
    (void)generation_moved(w->overlay->nft, &w->generation); /* by ourselves */
}

/* A port that somebody else has is no fault of the networks: said, and tried again. */
static void tell_ports(struct net *n)
{
    const char *problem = ingress_problem(n->ingress);

    if (strncmp(problem, n->ports, sizeof(n->ports) - 1) == 0)
        return;
    (void)snprintf(n->ports, sizeof(n->ports), "%s", problem);
    if (problem[0] != '\0')
        log_warn("net.ports", "error=\"%s\" retry=yes", problem);
}

static void host_check(struct net *n, uint64_t now_ms)
{
    CLEANUP_ARENA struct arena a = { 0 };
    struct differences d = { .arena = &a, .network_id = "" };
    struct err e = { 0 };
    uint32_t found = 0;
    int previous = -1;

    n->host_checked_ms = now_ms;
    n->host_event_ms = 0;
    if (!n->egress_ready || !n->ingress_ready) {
        networks_sync(n, false);
        return;
    }
    int rc = egress_check(&n->egress, true, &d, &found, &e);
    size_t before = d.count;
    if (rc == 0)
        rc = netns_enter(n->host_ns, &previous, &e);
    if (rc == 0) {
        rc = ingress_check(n->ingress, true, &d, &e);
        netns_leave(previous);
    }
    size_t count = found + d.count - before;
    tell_ports(n);
    int tunnels = rc == 0 ? encrypt_check(n->encrypt, true, &d, &e) : 0;
    count += tunnels > 0 ? (size_t)tunnels : 0;
    rc = tunnels < 0 ? tunnels : rc;
    if (tunnels != 0)
        networks_sync(n, false); /* makes anew what cannot be repaired */
    if (count > 0)
        told(n, &d, count, "");
    if (rc < 0) {
        log_warn("net.failed", "error=\"%s\" retry=yes", err_message(&e, rc));
        n->egress_ready = n->ingress_ready = false;
    }
    (void)generation_moved(n->egress.nft, &n->host_generation);
    describe_update(n, true);
}

static void settle(struct network *w)
{
    struct err e = { 0 };

    if (!w->unsettled || w->balancer == NULL)
        return;
    w->unsettled = false;
    if (w->net->balancer->settle(w->balancer, &e) < 0) {
        log_warn("net.settle", "network=%s error=\"%s\" retry=yes", w->id, e.message);
        w->unsettled = true;
    }
}

/* After events settled, or in turn. */
static bool is_due(uint64_t event_ms, uint64_t checked_ms, uint64_t now_ms)
{
    if (now_ms - checked_ms >= NET_CHECK_MS)
        return true;
    return event_ms != 0 && now_ms - event_ms >= NET_SETTLE_MS &&
           now_ms - checked_ms >= NET_PAUSE_MS;
}

static void on_tick(void *ctx, uint64_t loop_ms)
{
    struct net *n = ctx;
    uint64_t began = clock_now_ms();

    loop_timer_set(n->loop, &n->tick, loop_ms + NET_TICK_MS, on_tick, n);
    if (n->node_id[0] == '\0')
        return;
    /* A device that a network lost on the host's side shows in the host's events. */
    for (size_t i = 0; n->host_event_ms != 0 && i < n->network_count; i++)
        if (n->networks[i]->event_ms == 0)
            n->networks[i]->event_ms = n->host_event_ms;
    if (began - n->polled_ms >= NET_POLL_MS)
        poll_generations(n, began);
    if (is_due(n->host_event_ms, n->host_checked_ms, began))
        host_check(n, began);
    for (size_t i = 0, count = n->network_count; i < count && n->network_count > 0; i++) {
        struct network *w = n->networks[n->cursor++ % n->network_count];
        uint64_t now = clock_now_ms();

        if (now - began > NET_TICK_BUDGET_MS)
            return; /* the rest is first in the next tick */
        settle(w);
        if (is_due(w->event_ms, w->checked_ms, now))
            network_check(w, now);
    }
}

int net_watch_start(struct net *n, struct err *e)
{
    const unsigned groups[] = { RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR };
    int rc =
        nl_monitor_open(&n->host_monitor, NETLINK_ROUTE, n->host_ns, groups, ARRAY_LEN(groups), e);

    if (rc == 0)
        rc = loop_watch_fd(n->loop, n->host_monitor.fd, EPOLLIN, on_host, n);
    if (rc == 0)
        loop_timer_set(n->loop, &n->tick, loop_now_ms(n->loop) + NET_TICK_MS, on_tick, n);
    return rc;
}

void net_watch_stop(struct net *n)
{
    loop_timer_cancel(n->loop, &n->tick);
    if (n->host_monitor.fd >= 0)
        loop_unwatch_fd(n->loop, n->host_monitor.fd);
    nl_close(&n->host_monitor);
}

/* ---- asked by people ------------------------------------------------------------------------- */

static void check_network(struct net *n, struct network *w)
{
    const struct net_plan *p = network_plan(w);
    struct err e = { 0 };
    uint32_t found = 0;
    int rc;

    n->check.network_id = w->id;
    if (p == NULL || w->overlay == NULL) {
        differences_add(&n->check, "network", "missing", "%s",
                        w->error[0] != '\0' ? w->error : "not programmed");
        return;
    }
    rc = overlay_check(w->overlay, p, false, &n->check, &found, &e);
    if (rc == 0)
        tasks_tell(n, w, &n->check);
    if (rc == 0 && w->balancer != NULL)
        rc = n->balancer->check(w->balancer, p, false, &n->check, &e);
    if (rc < 0)
        differences_add(&n->check, "network", "cannot be read", "%s", err_message(&e, rc));
    if (w->error[0] != '\0')
        differences_add(&n->check, "network", "not programmed", "%s", w->error);
    if (!dns_listening(n->dns, w->id))
        differences_add(&n->check, "dns", "missing", "listener");
}

static void check_host(struct net *n)
{
    struct err e = { 0 };
    uint32_t found = 0;
    int previous = -1;

    n->check.network_id = "";
    int rc = egress_check(&n->egress, false, &n->check, &found, &e);
    if (rc == 0)
        rc = netns_enter(n->host_ns, &previous, &e);
    if (rc == 0) {
        rc = ingress_check(n->ingress, false, &n->check, &e);
        netns_leave(previous);
    }
    if (rc == 0)
        rc = MIN(encrypt_check(n->encrypt, false, &n->check, &e), 0);
    if (rc < 0)
        differences_add(&n->check, "host", "cannot be read", "%s", err_message(&e, rc));
}

size_t net_check(struct net *n, const Skep__NetworkDifference **ret, size_t max)
{
    arena_reset(&n->check_arena);
    n->check = (struct differences){ .arena = &n->check_arena, .network_id = "" };
    check_host(n);
    for (size_t i = 0; i < n->network_count; i++)
        check_network(n, n->networks[i]);
    for (size_t i = 0; i < MIN(MIN(n->check.count, (size_t)DIFFERENCES_MAX), max); i++)
        ret[i] = n->check.items[i];
    return n->check.count;
}
