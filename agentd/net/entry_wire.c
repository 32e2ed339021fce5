#include "agentd/net/entry_wire.h"

#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "agentd/net/place.h"
#include "common/assert.h"

static uint8_t af(uint8_t family)
{
    return family == IP_V6 ? AF_INET6 : AF_INET;
}

static uint16_t bytes_of(uint8_t family)
{
    return family == IP_V6 ? 16 : 4;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void put_address(struct nl *n, const struct entry *x, bool add, uint32_t tag)
{
    struct ifaddrmsg m = { .ifa_family = af(x->family),
                           .ifa_prefixlen = x->prefix,
                           .ifa_scope = x->family == IP_V6 && x->key[0] == 0xfe ? RT_SCOPE_LINK
                                                                                : RT_SCOPE_UNIVERSE,
                           .ifa_index = x->device };
    struct nlmsghdr *h = nl_message(n, add ? RTM_NEWADDR : RTM_DELADDR,
                                    add ? NLM_F_CREATE | NLM_F_REPLACE : 0, &m, sizeof(m), tag);

    mnl_attr_put(h, IFA_LOCAL, bytes_of(x->family), x->key);
    mnl_attr_put(h, IFA_ADDRESS, bytes_of(x->family), x->key);
    if (add) /* routes are ours to make; nobody else can have the address */
        mnl_attr_put_u32(h, IFA_FLAGS,
                         x->family == IP_V6 ? IFA_F_NOPREFIXROUTE | IFA_F_NODAD
                                            : IFA_F_NOPREFIXROUTE);
}

static void put_neighbour(struct nl *n, const struct entry *x, bool add, uint32_t tag)
{
    struct ndmsg m = { .ndm_family = af(x->family),
                       .ndm_ifindex = (int)x->device,
                       .ndm_state = NUD_PERMANENT };
    struct nlmsghdr *h = nl_message(n, add ? RTM_NEWNEIGH : RTM_DELNEIGH,
                                    add ? NLM_F_CREATE | NLM_F_REPLACE : 0, &m, sizeof(m), tag);

    mnl_attr_put(h, NDA_DST, bytes_of(x->family), x->key);
    if (add)
        mnl_attr_put(h, NDA_LLADDR, sizeof(x->mac), x->mac);
}

static void put_fdb(struct nl *n, const struct entry *x, bool add, uint32_t tag)
{
    struct ndmsg m = { .ndm_family = AF_BRIDGE,
                       .ndm_ifindex = (int)x->device,
                       .ndm_state = NUD_PERMANENT,
                       .ndm_flags = NTF_SELF };
    struct nlmsghdr *h = nl_message(n, add ? RTM_NEWNEIGH : RTM_DELNEIGH,
                                    add ? NLM_F_CREATE | NLM_F_REPLACE : 0, &m, sizeof(m), tag);

    mnl_attr_put(h, NDA_LLADDR, 6, x->key);
    mnl_attr_put(h, NDA_DST, bytes_of(x->via_family), x->via);
}

static void put_via(struct nlmsghdr *h, const struct entry *x)
{
    struct {
        uint16_t family;
        uint8_t address[16];
    } other = { .family = AF_INET6 };

    if (x->via_family == x->family) {
        mnl_attr_put(h, RTA_GATEWAY, bytes_of(x->via_family), x->via);
    } else {
        memcpy(other.address, x->via, sizeof(other.address));
        mnl_attr_put(h, RTA_VIA, sizeof(other), &other);
    }
}

static void put_route(struct nl *n, const struct entry *x, bool add, uint32_t tag)
{
    const uint8_t none[4] = { 0 };
    struct rtmsg m = { .rtm_family = af(x->family),
                       .rtm_dst_len = x->prefix,
                       .rtm_table = x->table < 256 ? (uint8_t)x->table : RT_TABLE_UNSPEC,
                       .rtm_protocol = PLACE_PROTOCOL,
                       .rtm_scope = x->out != 0 && x->via_family == 0 && x->family == IP_V4
                                        ? RT_SCOPE_LINK
                                        : RT_SCOPE_UNIVERSE,
                       .rtm_type = x->out != 0 ? RTN_UNICAST : RTN_UNREACHABLE,
                       .rtm_flags = x->via_family != 0 ? RTNH_F_ONLINK : 0 };

    if (!add && x->family == IP_V4)
        m.rtm_scope = RT_SCOPE_NOWHERE; /* any */
    struct nlmsghdr *h = nl_message(n, add ? RTM_NEWROUTE : RTM_DELROUTE,
                                    add ? NLM_F_CREATE | NLM_F_REPLACE : 0, &m, sizeof(m), tag);
    if (x->prefix > 0)
        mnl_attr_put(h, RTA_DST, bytes_of(x->family), x->key);
    mnl_attr_put_u32(h, RTA_TABLE, x->table);
    if (x->metric != 0)
        mnl_attr_put_u32(h, RTA_PRIORITY, x->metric);
    if (x->out != 0)
        mnl_attr_put_u32(h, RTA_OIF, x->out);
    if (x->via_family != 0)
        put_via(h, x);
    if (add && memcmp(x->source, none, sizeof(none)) != 0)
        mnl_attr_put(h, RTA_PREFSRC, sizeof(x->source), x->source);
}

/* Rules have no replacement: the key is the whole rule. */
static void put_rule(struct nl *n, const struct entry *x, bool add, uint32_t tag)
{
    struct fib_rule_hdr m = { .family = af(x->family),
                              .src_len = x->prefix,
                              .action = FR_ACT_TO_TBL,
                              .table = RT_TABLE_UNSPEC };
    struct nlmsghdr *h =
        nl_message(n, add ? RTM_NEWRULE : RTM_DELRULE, add ? NLM_F_CREATE : 0, &m, sizeof(m), tag);

    mnl_attr_put(h, FRA_SRC, bytes_of(x->family), x->key);
    mnl_attr_put_u32(h, FRA_TABLE, x->table);
    mnl_attr_put_u32(h, FRA_PRIORITY, x->metric);
    mnl_attr_put_u8(h, FRA_PROTOCOL, PLACE_PROTOCOL);
}

void entry_put(struct nl *n, const struct entry *x, bool add, uint32_t tag)
{
    switch (x->kind) {
    case ENTRY_ADDRESS:
        put_address(n, x, add, tag);
        break;
    case ENTRY_NEIGHBOUR:
        put_neighbour(n, x, add, tag);
        break;
    case ENTRY_FDB:
        put_fdb(n, x, add, tag);
        break;
    case ENTRY_ROUTE:
        put_route(n, x, add, tag);
        break;
    case ENTRY_RULE:
        put_rule(n, x, add, tag);
        break;
    default:
        UNREACHABLE();
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

struct load {
    struct entries *s;
    const struct entry_scope *scope;
    uint8_t kind;
    size_t begin; /* of this dump in s */
};

enum { ATTRIBUTES_MAX = 32 };

static int on_attribute(const struct nlattr *a, void *ctx)
{
    const struct nlattr **all = ctx;

    if (mnl_attr_get_type(a) < ATTRIBUTES_MAX)
        all[mnl_attr_get_type(a)] = a;
    return MNL_CB_OK;
}

static bool attributes(const struct nlmsghdr *nlh, size_t header,
                       const struct nlattr *ret[ATTRIBUTES_MAX])
{
    memset(ret, 0, ATTRIBUTES_MAX * sizeof(*ret));
    return mnl_nlmsg_get_payload_len(nlh) >= header &&
           mnl_attr_parse(nlh, (unsigned)header, on_attribute, ret) >= 0;
}

static bool take(const struct nlattr *a, void *to, size_t size)
{
    if (a == NULL || mnl_attr_get_payload_len(a) < size)
        return false;
    memcpy(to, mnl_attr_get_payload(a), size);
    return true;
}

static void on_address(struct load *l, const struct nlmsghdr *nlh)
{
    const struct nlattr *a[ATTRIBUTES_MAX];
    const struct ifaddrmsg *m = mnl_nlmsg_get_payload(nlh);

    if (!attributes(nlh, sizeof(*m), a) ||
        !l->scope->ours(l->scope->ctx, ENTRY_ADDRESS, (int)m->ifa_index))
        return;
    struct entry x = { .kind = ENTRY_ADDRESS,
                       .family = m->ifa_family == AF_INET6 ? IP_V6 : IP_V4,
                       .prefix = m->ifa_prefixlen,
                       .device = m->ifa_index };
    if (!take(a[a[IFA_LOCAL] != NULL ? IFA_LOCAL : IFA_ADDRESS], x.key, bytes_of(x.family)))
        return;
    struct ip ip = x.family == IP_V4 ? ip_from_v4(x.key) : ip_from_v6(x.key);
    struct ip router = { .family = IP_V6, .bytes = { 0xfe, 0x80, [15] = 1 } };
    if (ip_is_loopback(&ip) ||
        (x.family == IP_V6 && ip_is_link_local(&ip) && !ip_equal(&ip, &router)))
        return; /* the kernel's own */
    *entries_append(l->s) = x;
}

static void on_neighbour(struct load *l, const struct nlmsghdr *nlh)
{
    const struct nlattr *a[ATTRIBUTES_MAX];
    const struct ndmsg *m = mnl_nlmsg_get_payload(nlh);
    struct entry x = { .kind = l->kind };

    if (!attributes(nlh, sizeof(*m), a) || !l->scope->ours(l->scope->ctx, l->kind, m->ndm_ifindex))
        return;
    x.device = (uint32_t)m->ndm_ifindex;
    if (l->kind == ENTRY_FDB) {
        if (!take(a[NDA_LLADDR], x.key, 6))
            return;
        if (a[NDA_DST] != NULL) {
            x.via_family = mnl_attr_get_payload_len(a[NDA_DST]) == 16 ? IP_V6 : IP_V4;
            (void)take(a[NDA_DST], x.via, bytes_of(x.via_family));
        }
    } else {
        x.family = m->ndm_family == AF_INET6 ? IP_V6 : IP_V4;
        if ((m->ndm_state & NUD_PERMANENT) == 0 || (m->ndm_flags & NTF_PROXY) != 0)
            return; /* the kernel found it, and forgets it */
        if (!take(a[NDA_DST], x.key, bytes_of(x.family)))
            return;
        (void)take(a[NDA_LLADDR], x.mac, sizeof(x.mac));
    }
    *entries_append(l->s) = x;
}

static void on_route(struct load *l, const struct nlmsghdr *nlh)
{
    const struct nlattr *a[ATTRIBUTES_MAX];
    const struct rtmsg *m = mnl_nlmsg_get_payload(nlh);

    if (!attributes(nlh, sizeof(*m), a) || m->rtm_protocol != PLACE_PROTOCOL ||
        (m->rtm_flags & RTM_F_CLONED) != 0)
        return;
    struct entry x = { .kind = ENTRY_ROUTE,
                       .family = m->rtm_family == AF_INET6 ? IP_V6 : IP_V4,
                       .prefix = m->rtm_dst_len,
                       .table = m->rtm_table };
    (void)take(a[RTA_TABLE], &x.table, sizeof(x.table));
    (void)take(a[RTA_DST], x.key, bytes_of(x.family));
    if (m->rtm_type == RTN_UNICAST)
        (void)take(a[RTA_OIF], &x.out, sizeof(x.out));
    else if (m->rtm_type != RTN_UNREACHABLE)
        x.foreign = 1;
    /* IPv6 shows the metric that it chose, and unreachable routes on lo. */
    (void)take(a[RTA_PRIORITY], &x.metric, sizeof(x.metric));
    if (x.family == IP_V6)
        x.metric = 0;
    if (a[RTA_GATEWAY] != NULL) {
        x.via_family = x.family;
        (void)take(a[RTA_GATEWAY], x.via, bytes_of(x.family));
    } else if (a[RTA_VIA] != NULL && mnl_attr_get_payload_len(a[RTA_VIA]) == 18) {
        x.via_family = IP_V6;
        memcpy(x.via, (const uint8_t *)mnl_attr_get_payload(a[RTA_VIA]) + 2, sizeof(x.via));
    }
    if (x.family == IP_V4)
        (void)take(a[RTA_PREFSRC], x.source, sizeof(x.source));
    *entries_append(l->s) = x;
}

static void on_rule(struct load *l, const struct nlmsghdr *nlh)
{
    const struct nlattr *a[ATTRIBUTES_MAX];
    const struct fib_rule_hdr *m = mnl_nlmsg_get_payload(nlh);
    uint8_t protocol = 0;

    if (!attributes(nlh, sizeof(*m), a) || !take(a[FRA_PROTOCOL], &protocol, 1) ||
        protocol != PLACE_PROTOCOL)
        return;
    struct entry x = { .kind = ENTRY_RULE,
                       .family = m->family == AF_INET6 ? IP_V6 : IP_V4,
                       .prefix = m->src_len,
                       .table = m->table };
    (void)take(a[FRA_TABLE], &x.table, sizeof(x.table));
    (void)take(a[FRA_PRIORITY], &x.metric, sizeof(x.metric));
    (void)take(a[FRA_SRC], x.key, bytes_of(x.family));
    *entries_append(l->s) = x;
}

static void on_message(void *ctx, const struct nlmsghdr *nlh)
{
    struct load *l = ctx;

    if (nlh == NULL)
        l->s->count = l->begin;
    else if (nlh->nlmsg_type == RTM_NEWADDR && l->kind == ENTRY_ADDRESS)
        on_address(l, nlh);
    else if (nlh->nlmsg_type == RTM_NEWNEIGH &&
             (l->kind == ENTRY_NEIGHBOUR || l->kind == ENTRY_FDB))
        on_neighbour(l, nlh);
    else if (nlh->nlmsg_type == RTM_NEWROUTE && l->kind == ENTRY_ROUTE)
        on_route(l, nlh);
    else if (nlh->nlmsg_type == RTM_NEWRULE && l->kind == ENTRY_RULE)
        on_rule(l, nlh);
}

static int dump(struct load *l, struct nl *n, uint8_t kind, uint8_t family, struct err *e)
{
    struct nl_request r;
    struct ifaddrmsg address = { .ifa_family = family };
    struct ndmsg neighbour = { .ndm_family = family };
    struct rtmsg route = { .rtm_family = family, .rtm_protocol = PLACE_PROTOCOL };
    struct fib_rule_hdr rule = { .family = family };

    l->kind = kind;
    l->begin = l->s->count;
    if (kind == ENTRY_ADDRESS)
        (void)nl_request(&r, RTM_GETADDR, NLM_F_DUMP, &address, sizeof(address));
    else if (kind == ENTRY_ROUTE)
        (void)nl_request(&r, RTM_GETROUTE, NLM_F_DUMP, &route, sizeof(route));
    else if (kind == ENTRY_RULE)
        (void)nl_request(&r, RTM_GETRULE, NLM_F_DUMP, &rule, sizeof(rule));
    else
        (void)nl_request(&r, RTM_GETNEIGH, NLM_F_DUMP, &neighbour, sizeof(neighbour));
    int rc = nl_ask(n, &r, on_message, l, e);
    return rc < 0 ? err_wrap(e, rc, "dump") : 0;
}

int entries_load(struct entries *s, struct nl *n, const struct entry_scope *scope, struct err *e)
{
    struct load l = { .s = s, .scope = scope };
    int rc;

    entries_clear(s);
    rc = dump(&l, n, ENTRY_ADDRESS, AF_UNSPEC, e);
    if (rc == 0 && scope->neighbours)
        rc = dump(&l, n, ENTRY_NEIGHBOUR, AF_UNSPEC, e);
    if (rc == 0 && scope->fdb)
        rc = dump(&l, n, ENTRY_FDB, AF_BRIDGE, e);
    if (rc == 0)
        rc = dump(&l, n, ENTRY_ROUTE, AF_INET, e);
    if (rc == 0)
        rc = dump(&l, n, ENTRY_ROUTE, AF_INET6, e);
    if (rc == 0 && scope->rules)
        rc = dump(&l, n, ENTRY_RULE, AF_INET, e);
    if (rc == 0 && scope->rules)
        rc = dump(&l, n, ENTRY_RULE, AF_INET6, e);
    if (rc == 0)
        entries_sort(s);
    return rc;
}
