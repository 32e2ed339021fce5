#include "agentd/net/ways.h"

#include <arpa/inet.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "agentd/net/layout.h"
#include "agentd/net/link.h"

/* ---- order and notation -------------------------------------------------------------------------
 */

static int compare_ways(const void *a, const void *b)
{
    const struct way *x = a, *y = b;

    if (x->table != y->table)
        return x->table < y->table ? -1 : 1;
    if (x->address != y->address)
        return x->address < y->address ? -1 : 1;
    return x->prefix < y->prefix ? -1 : x->prefix > y->prefix;
}

static int compare_rules(const void *a, const void *b)
{
    const struct way_rule *x = a, *y = b;

    if (x->preference != y->preference)
        return x->preference < y->preference ? -1 : 1;
    if (x->mark != y->mark)
        return x->mark < y->mark ? -1 : 1;
    if (x->mask != y->mask)
        return x->mask < y->mask ? -1 : 1;
    return x->table < y->table ? -1 : x->table > y->table;
}

void ways_sort(struct ways *w)
{
    if (w->route_count > 0)
        qsort(w->routes, w->route_count, sizeof(*w->routes), compare_ways);
    if (w->rule_count > 0)
        qsort(w->rules, w->rule_count, sizeof(*w->rules), compare_rules);
}

static bool same_way(const struct way *x, const struct way *y)
{
    return x->local == y->local && ip_equal(&x->gateway, &y->gateway) &&
           strcmp(x->device, y->device) == 0;
}

enum { WAY_BYTES = 128 };

static const char *way_format(const struct way *w, char ret[WAY_BYTES])
{
    char gateway[IP_CHARS + 1] = "", mem[INET_ADDRSTRLEN];
    struct in_addr in = { htonl(w->address) };

    if (w->gateway.family != 0)
        (void)ip_format(&w->gateway, gateway);
    (void)snprintf(ret, WAY_BYTES, "%s%s/%u%s%s dev %s table %u", w->local ? "local " : "",
                   inet_ntop(AF_INET, &in, mem, sizeof(mem)), w->prefix,
                   w->gateway.family != 0 ? " via " : "", gateway, w->device, w->table);
    return ret;
}

/* ---- requests -----------------------------------------------------------------------------------
 */

static void put_gateway(struct nlmsghdr *m, const struct ip *gateway)
{
    struct {
        uint16_t family;
        uint8_t address[16];
    } via;

    if (gateway->family == IP_V4) {
        mnl_attr_put(m, RTA_GATEWAY, 4, gateway->bytes);
        return;
    }
    via.family = AF_INET6;
    memcpy(via.address, gateway->bytes, sizeof(via.address));
    mnl_attr_put(m, RTA_VIA, sizeof(via), &via);
}

static void put_way(struct nl *route, const struct way *w, uint32_t device, uint32_t tag)
{
    bool add = device != 0;
    struct rtmsg r = {
        .rtm_family = AF_INET,
        .rtm_dst_len = w->prefix,
        .rtm_protocol = LAYOUT_PROTOCOL_BALANCER,
        .rtm_table = w->table < 256 ? (uint8_t)w->table : RT_TABLE_UNSPEC,
        .rtm_type = w->local ? RTN_LOCAL : RTN_UNICAST,
        .rtm_scope = w->local ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE,
        .rtm_flags = w->onlink ? RTNH_F_ONLINK : 0,
    };
    struct nlmsghdr *m = nl_message(route, add ? RTM_NEWROUTE : RTM_DELROUTE,
                                    add ? NLM_F_CREATE | NLM_F_REPLACE : 0, &r, sizeof(r), tag);

    mnl_attr_put_u32(m, RTA_TABLE, w->table);
    if (w->prefix > 0)
        mnl_attr_put_u32(m, RTA_DST, htonl(w->address));
    if (add && w->gateway.family != 0)
        put_gateway(m, &w->gateway);
    if (add)
        mnl_attr_put_u32(m, RTA_OIF, device);
}

static void put_rule(struct nl *route, const struct way_rule *w, bool add, uint32_t tag)
{
    struct fib_rule_hdr r = {
        .family = AF_INET,
        .action = FR_ACT_TO_TBL,
        .table = w->table < 256 ? (uint8_t)w->table : RT_TABLE_UNSPEC,
    };
    /* EXCL: else there would be two of it. */
    struct nlmsghdr *m = nl_message(route, add ? RTM_NEWRULE : RTM_DELRULE,
                                    add ? NLM_F_CREATE | NLM_F_EXCL : 0, &r, sizeof(r), tag);

    mnl_attr_put_u32(m, FRA_PRIORITY, w->preference);
    mnl_attr_put_u32(m, FRA_FWMARK, w->mark);
    mnl_attr_put_u32(m, FRA_FWMASK, w->mask);
    mnl_attr_put_u32(m, FRA_TABLE, w->table);
    mnl_attr_put_u8(m, FRA_PROTOCOL, LAYOUT_PROTOCOL_BALANCER);
    if (add)
        route->slots[route->count - 1].exists_ok = true;
}

/* ---- changes ------------------------------------------------------------------------------------
 */

struct device {
    const char *name;
    uint32_t index;
};

static int device_of(struct nl *route, const struct way *w, struct device *last, struct err *e)
{
    struct link link;
    char mem[WAY_BYTES];

    if (last->name != NULL && strcmp(last->name, w->device) == 0)
        return 0;
    /* What is in the batch goes first: a question cannot overtake it. */
    if (nl_commit_all(route, e, "routes") < 0 || link_find(route, w->device, &link, e) < 0)
        return err_wrap(e, -ERR_UNAVAILABLE, "route %s", way_format(w, mem));
    *last = (struct device){ w->device, (uint32_t)link.index };
    return 0;
}

static int add_routes(struct nl *route, const struct ways *was, const struct ways *want,
                      struct err *e)
{
    size_t i = 0, j = 0, was_count = was != NULL ? was->route_count : 0;
    struct device last = { NULL, 0 };
    int rc = 0;

    while (rc == 0 && j < want->route_count) {
        const struct way *y = &want->routes[j];
        int c = i < was_count ? compare_ways(&was->routes[i], y) : 1;

        if (c > 0 || (c == 0 && !same_way(&was->routes[i], y))) {
            rc = device_of(route, y, &last, e);
            if (rc == 0)
                put_way(route, y, last.index, (uint32_t)j);
        }
        i += c <= 0;
        j += c >= 0;
    }
    return rc;
}

static void remove_routes(struct nl *route, const struct ways *was, const struct ways *want)
{
    size_t i = 0, j = 0, was_count = was != NULL ? was->route_count : 0;

    while (i < was_count) {
        const struct way *x = &was->routes[i];
        int c = j < want->route_count ? compare_ways(x, &want->routes[j]) : -1;

        if (c < 0)
            put_way(route, x, 0, (uint32_t)i);
        i += c <= 0;
        j += c >= 0;
    }
}

static void change_rules(struct nl *route, const struct ways *was, const struct ways *want)
{
    size_t i = 0, j = 0, was_count = was != NULL ? was->rule_count : 0;

    while (i < was_count || j < want->rule_count) {
        const struct way_rule *x = i < was_count ? &was->rules[i] : NULL;
        const struct way_rule *y = j < want->rule_count ? &want->rules[j] : NULL;
        int c = x == NULL ? 1 : y == NULL ? -1 : compare_rules(x, y);

        if (c != 0)
            put_rule(route, c > 0 ? y : x, c > 0, 0);
        i += c <= 0;
        j += c >= 0;
    }
}

int ways_change(struct nl *route, const struct ways *was, const struct ways *want, struct err *e)
{
    int rc = add_routes(route, was, want, e);

    if (rc == 0) {
        remove_routes(route, was, want);
        change_rules(route, was, want);
        rc = nl_commit_all(route, e, "routes");
    }
    /* The first failure is the one to tell; nothing stays in the batch. */
    (void)nl_commit(route);
    return rc;
}

/* ---- listing ------------------------------------------------------------------------------------
 */

struct dump {
    struct arena *arena;
    struct ways *ways;
    uint32_t *devices; /* beside ways->routes */
    size_t route_capacity, rule_capacity;
};

static void *grow(struct arena *a, const void *items, size_t count, size_t size)
{
    void *grown = arena_array(a, MAX(16, 2 * count), size);

    if (count > 0)
        memcpy(grown, items, count * size);
    return grown;
}

static uint32_t u32_of(const struct nlattr *a)
{
    return a != NULL && mnl_attr_get_payload_len(a) >= 4 ? mnl_attr_get_u32(a) : 0;
}

enum { ATTRIBUTES = 64 };

static void attributes(const struct nlmsghdr *m, size_t header, const struct nlattr **ret)
{
    const struct nlattr *a;

    memset(ret, 0, ATTRIBUTES * sizeof(*ret));
    mnl_attr_for_each(a, m, header)
    {
        if (mnl_attr_get_type(a) < ATTRIBUTES)
            ret[mnl_attr_get_type(a)] = a;
    }
}

static void on_route(void *ctx, const struct nlmsghdr *m)
{
    const struct nlattr *t[ATTRIBUTES];
    struct dump *d = ctx;
    struct ways *w = d->ways;
    const struct rtmsg *r;
    struct way *next;

    if (m == NULL) {
        w->route_count = 0;
        return;
    }
    r = mnl_nlmsg_get_payload(m);
    if (m->nlmsg_type != RTM_NEWROUTE || r->rtm_family != AF_INET ||
        r->rtm_protocol != LAYOUT_PROTOCOL_BALANCER)
        return;
    attributes(m, sizeof(*r), t);
    if (w->route_count == d->route_capacity) {
        w->routes = grow(d->arena, w->routes, w->route_count, sizeof(*w->routes));
        d->devices = grow(d->arena, d->devices, w->route_count, sizeof(*d->devices));
        d->route_capacity = MAX(16, 2 * w->route_count);
    }
    d->devices[w->route_count] = u32_of(t[RTA_OIF]);
    next = &w->routes[w->route_count++];
    next->table = t[RTA_TABLE] != NULL ? u32_of(t[RTA_TABLE]) : r->rtm_table;
    next->address = ntohl(u32_of(t[RTA_DST]));
    next->prefix = r->rtm_dst_len;
    next->local = r->rtm_type == RTN_LOCAL;
    next->onlink = (r->rtm_flags & RTNH_F_ONLINK) != 0;
    next->device = "?";
    if (t[RTA_GATEWAY] != NULL && mnl_attr_get_payload_len(t[RTA_GATEWAY]) >= 4)
        next->gateway = ip_from_v4(mnl_attr_get_payload(t[RTA_GATEWAY]));
    else if (t[RTA_VIA] != NULL && mnl_attr_get_payload_len(t[RTA_VIA]) >= 18)
        next->gateway = ip_from_v6((const uint8_t *)mnl_attr_get_payload(t[RTA_VIA]) + 2);
}

static void on_rule(void *ctx, const struct nlmsghdr *m)
{
    const struct nlattr *t[ATTRIBUTES];
    struct dump *d = ctx;
    struct ways *w = d->ways;
    const struct fib_rule_hdr *r;

    if (m == NULL) {
        w->rule_count = 0;
        return;
    }
    r = mnl_nlmsg_get_payload(m);
    attributes(m, sizeof(*r), t);
    if (m->nlmsg_type != RTM_NEWRULE || r->family != AF_INET || t[FRA_PROTOCOL] == NULL ||
        mnl_attr_get_u8(t[FRA_PROTOCOL]) != LAYOUT_PROTOCOL_BALANCER)
        return;
    if (w->rule_count == d->rule_capacity) {
        w->rules = grow(d->arena, w->rules, w->rule_count, sizeof(*w->rules));
        d->rule_capacity = MAX(16, 2 * w->rule_count);
    }
    w->rules[w->rule_count++] =
        (struct way_rule){ u32_of(t[FRA_PRIORITY]), u32_of(t[FRA_FWMARK]), u32_of(t[FRA_FWMASK]),
                           t[FRA_TABLE] != NULL ? u32_of(t[FRA_TABLE]) : r->table };
}

/* Routes to one device follow each other mostly. */
static int name_devices(struct nl *route, const struct dump *d, struct err *e)
{
    struct links links = { NULL, 0, 0 };
    int rc = links_load(&links, route, e);

    for (size_t i = 0; rc == 0 && i < d->ways->route_count; i++) {
        const struct link *l = links_by_index(&links, (int)d->devices[i]);

        if (i > 0 && d->devices[i] == d->devices[i - 1])
            d->ways->routes[i].device = d->ways->routes[i - 1].device;
        else if (l != NULL) /* else gone since */
            d->ways->routes[i].device = arena_strdup(d->arena, l->name);
    }
    links_deinit(&links);
    return rc;
}

int ways_dump(struct nl *route, struct ways *ret, struct arena *a, struct err *e)
{
    const struct rtmsg routes = { .rtm_family = AF_INET };
    const struct fib_rule_hdr rules = { .family = AF_INET };
    struct ways w = { NULL };
    struct dump d = { .arena = a, .ways = &w };
    struct nl_request r;
    int rc;

    (void)nl_request(&r, RTM_GETROUTE, NLM_F_DUMP, &routes, sizeof(routes));
    rc = nl_ask(route, &r, on_route, &d, e);
    if (rc == 0) {
        (void)nl_request(&r, RTM_GETRULE, NLM_F_DUMP, &rules, sizeof(rules));
        rc = nl_ask(route, &r, on_rule, &d, e);
    }
    if (rc == 0)
        rc = name_devices(route, &d, e);
    if (rc < 0)
        return err_wrap(e, rc, "list routes");
    ways_sort(&w);
    *ret = w;
    return 0;
}

void ways_compare(const struct ways *want, const struct ways *have, struct differences *d)
{
    char mem[WAY_BYTES];
    size_t i = 0, j = 0;

    while (i < want->route_count || j < have->route_count) {
        const struct way *x = i < want->route_count ? &want->routes[i] : NULL;
        const struct way *y = j < have->route_count ? &have->routes[j] : NULL;
        int c = x == NULL ? 1 : y == NULL ? -1 : compare_ways(x, y);

        if (c < 0)
            differences_add(d, "route", "missing", "%s", way_format(x, mem));
        else if (c > 0)
            differences_add(d, "route", "unexpected", "%s", way_format(y, mem));
        else if (!same_way(x, y))
            differences_add(d, "route", "differs: goes another way", "%s", way_format(x, mem));
        i += c <= 0;
        j += c >= 0;
    }
    for (i = j = 0; i < want->rule_count || j < have->rule_count;) {
        const struct way_rule *x = i < want->rule_count ? &want->rules[i] : NULL;
        const struct way_rule *y = j < have->rule_count ? &have->rules[j] : NULL;
        int c = x == NULL ? 1 : y == NULL ? -1 : compare_rules(x, y);

        if (c != 0)
            differences_add(d, "rule", c < 0 ? "missing" : "unexpected",
                            "mark 0x%x/0x%x to table %u", (c < 0 ? x : y)->mark,
                            (c < 0 ? x : y)->mask, (c < 0 ? x : y)->table);
        i += c <= 0;
        j += c >= 0;
    }
}
