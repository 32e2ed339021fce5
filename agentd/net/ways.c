#include "agentd/net/ways.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#include "agentd/net/layout.h"

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

/* The devices are those of the kernel socket's namespace, asked there. */
static int on_link(const struct nlmsghdr *m, void *ctx)
{
    const struct ifinfomsg *i = mnl_nlmsg_get_payload(m);

    *(uint32_t *)ctx = (uint32_t)i->ifi_index;
    return MNL_CB_OK;
}

static uint32_t index_of(struct kernel *route, const char *device)
{
    char mem[KERNEL_SMALL_BYTES];
    struct nlmsghdr *m = kernel_message(mem, RTM_GETLINK, 0);
    uint32_t index = 0;

    (void)mnl_nlmsg_put_extra_header(m, sizeof(struct ifinfomsg));
    mnl_attr_put_strz(m, IFLA_IFNAME, device);
    return kernel_ask(route, m, on_link, &index) == 0 ? index : 0;
}

static int way_tell(struct kernel *route, const struct way *w, uint32_t device, bool add)
{
    char mem[KERNEL_SMALL_BYTES];
    struct nlmsghdr *m = kernel_message(mem, add ? RTM_NEWROUTE : RTM_DELROUTE,
                                        add ? NLM_F_CREATE | NLM_F_REPLACE : 0);
    struct rtmsg *r = mnl_nlmsg_put_extra_header(m, sizeof(*r));

    r->rtm_family = AF_INET;
    r->rtm_dst_len = w->prefix;
    r->rtm_protocol = LAYOUT_PROTOCOL_BALANCER;
    r->rtm_table = w->table < 256 ? (uint8_t)w->table : RT_TABLE_UNSPEC;
    r->rtm_type = w->local ? RTN_LOCAL : RTN_UNICAST;
    r->rtm_scope = w->local ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;
    r->rtm_flags = w->onlink ? RTNH_F_ONLINK : 0;
    mnl_attr_put_u32(m, RTA_TABLE, w->table);
    if (w->prefix > 0)
        mnl_attr_put_u32(m, RTA_DST, htonl(w->address));
    if (add && w->gateway.family != 0)
        put_gateway(m, &w->gateway);
    if (add)
        mnl_attr_put_u32(m, RTA_OIF, device);
    return kernel_tell(route, m);
}

static int rule_tell(struct kernel *route, const struct way_rule *w, bool add)
{
    char mem[KERNEL_SMALL_BYTES];
    struct nlmsghdr *m =
        kernel_message(mem, add ? RTM_NEWRULE : RTM_DELRULE, add ? NLM_F_CREATE | NLM_F_EXCL : 0);
    struct fib_rule_hdr *r = mnl_nlmsg_put_extra_header(m, sizeof(*r));

    r->family = AF_INET;
    r->action = FR_ACT_TO_TBL;
    r->table = w->table < 256 ? (uint8_t)w->table : RT_TABLE_UNSPEC;
    mnl_attr_put_u32(m, FRA_PRIORITY, w->preference);
    mnl_attr_put_u32(m, FRA_FWMARK, w->mark);
    mnl_attr_put_u32(m, FRA_FWMASK, w->mask);
    mnl_attr_put_u32(m, FRA_TABLE, w->table);
    mnl_attr_put_u8(m, FRA_PROTOCOL, LAYOUT_PROTOCOL_BALANCER);
    return kernel_tell(route, m);
}

/* ---- changes ------------------------------------------------------------------------------------
 */

struct device {
    const char *name;
    uint32_t index;
};

static int add_way(struct kernel *route, const struct way *w, struct device *last, struct err *e)
{
    char mem[WAY_BYTES];
    int rc;

    if (last->name == NULL || strcmp(last->name, w->device) != 0) {
        last->index = index_of(route, w->device);
        last->name = w->device;
    }
    if (last->index == 0)
        return err_set(e, ERR_UNAVAILABLE, "route %s: no such device", way_format(w, mem));
    rc = way_tell(route, w, last->index, true);
    return rc == 0 || rc == -EEXIST ? 0 : err_errno(e, -rc, "route %s", way_format(w, mem));
}

static bool gone(int rc)
{
    return rc == 0 || rc == -ENOENT || rc == -ESRCH || rc == -ENODEV;
}

static int change_routes(struct kernel *route, const struct ways *was, const struct ways *want,
                         struct err *e)
{
    size_t i = 0, j = 0, was_count = was != NULL ? was->route_count : 0;
    struct device last = { NULL, 0 };
    int rc = 0;

    while (rc == 0 && j < want->route_count) {
        const struct way *y = &want->routes[j];
        int c = i < was_count ? compare_ways(&was->routes[i], y) : 1;

        if (c > 0 || (c == 0 && !same_way(&was->routes[i], y)))
            rc = add_way(route, y, &last, e);
        i += c <= 0;
        j += c >= 0;
    }
    for (i = j = 0; rc == 0 && i < was_count;) {
        const struct way *x = &was->routes[i];
        int c = j < want->route_count ? compare_ways(x, &want->routes[j]) : -1;
        char mem[WAY_BYTES];

        if (c < 0) {
            rc = way_tell(route, x, 0, false);
            rc = gone(rc) ? 0 : err_errno(e, -rc, "delete route %s", way_format(x, mem));
        }
        i += c <= 0;
        j += c >= 0;
    }
    return rc;
}

static int change_rules(struct kernel *route, const struct ways *was, const struct ways *want,
                        struct err *e)
{
    size_t i = 0, j = 0, was_count = was != NULL ? was->rule_count : 0;
    int rc = 0;

    while (rc == 0 && (i < was_count || j < want->rule_count)) {
        const struct way_rule *x = i < was_count ? &was->rules[i] : NULL;
        const struct way_rule *y = j < want->rule_count ? &want->rules[j] : NULL;
        int c = x == NULL ? 1 : y == NULL ? -1 : compare_rules(x, y);

        if (c > 0) {
            rc = rule_tell(route, y, true);
            rc = rc == 0 || rc == -EEXIST
                     ? 0
                     : err_errno(e, -rc, "rule for mark 0x%x to table %u", y->mark, y->table);
        } else if (c < 0) {
            rc = rule_tell(route, x, false);
            rc = gone(rc) ? 0 : err_errno(e, -rc, "delete rule for mark 0x%x", x->mark);
        }
        i += c <= 0;
        j += c >= 0;
    }
    return rc;
}

int ways_change(struct kernel *route, const struct ways *was, const struct ways *want,
                struct err *e)
{
    int rc = change_routes(route, was, want, e);

    return rc < 0 ? rc : change_rules(route, was, want, e);
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

static int on_route(const struct nlmsghdr *m, void *ctx)
{
    const struct rtmsg *r = mnl_nlmsg_get_payload(m);
    const struct nlattr *t[ATTRIBUTES];
    struct dump *d = ctx;
    struct ways *w = d->ways;
    struct way *next;

    if (m->nlmsg_type != RTM_NEWROUTE || r->rtm_family != AF_INET ||
        r->rtm_protocol != LAYOUT_PROTOCOL_BALANCER)
        return MNL_CB_OK;
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
    return MNL_CB_OK;
}

static int on_rule(const struct nlmsghdr *m, void *ctx)
{
    const struct fib_rule_hdr *r = mnl_nlmsg_get_payload(m);
    const struct nlattr *t[ATTRIBUTES];
    struct dump *d = ctx;
    struct ways *w = d->ways;

    attributes(m, sizeof(*r), t);
    if (m->nlmsg_type != RTM_NEWRULE || r->family != AF_INET || t[FRA_PROTOCOL] == NULL ||
        mnl_attr_get_u8(t[FRA_PROTOCOL]) != LAYOUT_PROTOCOL_BALANCER)
        return MNL_CB_OK;
    if (w->rule_count == d->rule_capacity) {
        w->rules = grow(d->arena, w->rules, w->rule_count, sizeof(*w->rules));
        d->rule_capacity = MAX(16, 2 * w->rule_count);
    }
    w->rules[w->rule_count++] =
        (struct way_rule){ u32_of(t[FRA_PRIORITY]), u32_of(t[FRA_FWMARK]), u32_of(t[FRA_FWMASK]),
                           t[FRA_TABLE] != NULL ? u32_of(t[FRA_TABLE]) : r->table };
    return MNL_CB_OK;
}

static int on_link_name(const struct nlmsghdr *m, void *ctx)
{
    const struct nlattr *t[ATTRIBUTES];
    char *ret = ctx;

    attributes(m, sizeof(struct ifinfomsg), t);
    if (t[IFLA_IFNAME] != NULL)
        (void)snprintf(ret, IF_NAMESIZE, "%s", mnl_attr_get_str(t[IFLA_IFNAME]));
    return MNL_CB_OK;
}

static const char *name_of(struct kernel *route, uint32_t index, struct arena *a)
{
    char mem[KERNEL_SMALL_BYTES], name[IF_NAMESIZE] = "?";
    struct nlmsghdr *m = kernel_message(mem, RTM_GETLINK, 0);
    struct ifinfomsg *i = mnl_nlmsg_put_extra_header(m, sizeof(*i));

    i->ifi_index = (int)index;
    if (kernel_ask(route, m, on_link_name, name) < 0)
        return "?"; /* gone since */
    return arena_strdup(a, name);
}

static int dump_of(struct kernel *route, uint16_t type, mnl_cb_t fn, struct dump *d)
{
    char mem[KERNEL_SMALL_BYTES];
    int rc = -EINTR;

    for (int tries = 0; rc == -EINTR && tries < 5; tries++) {
        struct nlmsghdr *m = kernel_message(mem, type, NLM_F_DUMP);
        struct rtmsg *r = mnl_nlmsg_put_extra_header(m, sizeof(*r));

        r->rtm_family = AF_INET;
        if (type == RTM_GETROUTE)
            d->ways->route_count = 0;
        else
            d->ways->rule_count = 0;
        rc = kernel_ask(route, m, fn, d);
    }
    return rc == -EINTR ? 0 : rc; /* still moving: the next comparison sees it */
}

int ways_dump(struct kernel *route, struct ways *ret, struct arena *a, struct err *e)
{
    struct ways w = { NULL };
    struct dump d = { .arena = a, .ways = &w };
    int rc = dump_of(route, RTM_GETROUTE, on_route, &d);

    if (rc == 0)
        rc = dump_of(route, RTM_GETRULE, on_rule, &d);
    if (rc < 0)
        return err_errno(e, -rc, "list routes");
    for (size_t i = 0; i < w.route_count; i++)
        w.routes[i].device = i > 0 && d.devices[i] == d.devices[i - 1]
                                 ? w.routes[i - 1].device
                                 : name_of(route, d.devices[i], a);
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
