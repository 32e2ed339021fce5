#include "agentd/net/attach.h"

#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#include "agentd/net/netns.h"
#include "agentd/net/place.h"
#include "common/assert.h"

enum { TABLE_BASE = 7700, PREFERENCE_BASE = 7700, INTERFACES_MAX = 256 };

struct leg { /* one network of the task */
    const struct attach_network *network;
    struct ip_net v4, v6; /* family 0 = none */
    const struct plan_subnet *subnet4, *subnet6;
    int device;
};

struct work {
    const struct attach *a;
    struct nl nl; /* in the task's namespace */
    struct links links;
    struct leg legs[ATTACH_NETWORKS_MAX];
    size_t count;
    bool other_default; /* the engine gave it one */
    struct entries want, found;
    bool changed;
};

/* ---- what it should have --------------------------------------------------------------------- */

static const struct plan_subnet *subnet_of(const struct net_plan *p, const struct ip *ip)
{
    for (size_t i = 0; i < p->subnet_count; i++)
        if (ip_net_has(&p->subnets[i].subnet, ip))
            return &p->subnets[i];
    return NULL;
}

static int leg_init(struct leg *leg, const struct attach_network *n, struct err *e)
{
    *leg = (struct leg){ .network = n };
    for (size_t i = 0; i < n->attachment->n_addresses; i++) {
        struct ip_net x;
        int rc = ip_net_parse(n->attachment->addresses[i], &x, e);

        if (rc < 0)
            return rc;
        if (x.address.family == IP_V4 && leg->v4.address.family == 0)
            leg->v4 = x;
        else if (x.address.family == IP_V6 && leg->v6.address.family == 0)
            leg->v6 = x;
    }
    if (leg->v4.address.family != 0)
        leg->subnet4 = subnet_of(n->plan, &leg->v4.address);
    if (leg->v6.address.family != 0)
        leg->subnet6 = subnet_of(n->plan, &leg->v6.address);
    if (leg->subnet4 == NULL && leg->subnet6 == NULL)
        return err_set(e, ERR_INVALID, "no address in a subnet of the network");
    return 0;
}

/* The first network that leads out of the cluster; ingress only when there is no other. */
static const struct leg *default_leg(const struct work *w)
{
    const struct leg *ingress = NULL;

    for (size_t i = 0; i < w->count; i++) {
        const struct net_plan *p = w->legs[i].network->plan;

        if (!p->internal && !p->ingress)
            return &w->legs[i];
        if (p->ingress && ingress == NULL)
            ingress = &w->legs[i];
    }
    return ingress;
}

static void want_routes(struct work *w, const struct leg *leg, const struct ip_net *own,
                        const struct plan_subnet *subnet, uint32_t table)
{
    const struct ip router6 = { .family = IP_V6, .bytes = { 0xfe, 0x80, [15] = 1 } };
    bool v4 = own->address.family == IP_V4;
    const struct ip *via = v4 ? &subnet->gateway : &router6;
    struct entry_route gateway = { .destination = { *via, (uint8_t)ip_bits(via) },
                                   .device = leg->device,
                                   .source = own->address };
    struct entry_route all = { .destination = { .address = { .family = own->address.family } },
                               .device = leg->device,
                               .via = *via,
                               .source = own->address };
    struct entry_route rest = all;

    rest.destination = subnet->subnet;
    entries_add_address(&w->want, leg->device, &own->address, subnet->subnet.prefix);
    if (v4)
        entries_add_route(&w->want, &gateway);
    entries_add_route(&w->want, &rest);
    if (leg == default_leg(w) && !w->other_default)
        entries_add_route(&w->want, &all);
    if (w->count == 1 && !w->other_default)
        return;
    all.table = table;
    entries_add_route(&w->want, &all);
    entries_add_rule(&w->want, table - TABLE_BASE + PREFERENCE_BASE, &own->address, table);
}

static void want(struct work *w)
{
    for (size_t i = 0; i < w->count; i++) {
        const struct leg *leg = &w->legs[i];
        uint32_t table = (uint32_t)(TABLE_BASE + leg->device);

        if (leg->subnet4 != NULL)
            want_routes(w, leg, &leg->v4, leg->subnet4, table);
        if (leg->subnet6 != NULL)
            want_routes(w, leg, &leg->v6, leg->subnet6, table);
    }
    entries_sort(&w->want);
}

/* ---- interfaces ------------------------------------------------------------------------------ */

static int load(struct work *w, struct err *e)
{
    return links_load(&w->links, &w->nl, e);
}

static int free_name(const struct work *w, char ret[PLACE_NAME_BYTES], struct err *e)
{
    for (unsigned i = 0; i < INTERFACES_MAX; i++) {
        (void)snprintf(ret, PLACE_NAME_BYTES, "eth%u", i);
        if (links_by_name(&w->links, ret) == NULL)
            return 0;
    }
    return err_set(e, ERR_TOO_BIG, "no name left for an interface");
}

static int make_interface(struct work *w, struct leg *leg, struct err *e)
{
    const struct attach_network *n = leg->network;
    const struct link *l = links_by_tag(&w->links, n->plan->id);
    char name[PLACE_NAME_BYTES];
    struct overlay_task t = { .task_id = w->a->task_id,
                              .ns = w->a->ns,
                              .name = name,
                              .v4 = leg->v4.address,
                              .v6 = leg->v6.address };
    int rc = 0;

    w->changed = true;
    if (l != NULL) { /* its other end is gone or another's */
        link_put_delete(&w->nl, l->index, 0);
        rc = nl_commit_all(&w->nl, e, "remove %s", l->name);
        if (rc == 0)
            rc = load(w, e);
    }
    if (rc == 0)
        rc = free_name(w, name, e);
    if (rc == 0)
        rc = overlay_add_task(n->overlay, n->plan, &t, e);
    if (rc == 0)
        rc = load(w, e);
    l = rc == 0 ? links_by_name(&w->links, name) : NULL;
    if (rc == 0 && l == NULL)
        rc = err_set(e, ERR_IO, "%s did not appear", name);
    if (rc < 0)
        return rc;
    struct link_change c = { .index = l->index, .tag = n->plan->id };
    link_put_change(&w->nl, &c, 0);
    return nl_commit_all(&w->nl, e, "tag %s", name);
}

static int allow_v6(const struct work *w, const char *device, struct err *e)
{
    char off[64], ra[64], lo[] = "ipv6/conf/lo/disable_ipv6";
    struct netns_setting s[] = {
        { .path = lo, .value = "0" },
        { .path = off, .value = "0" },
        { .path = ra, .value = "0" },
    };

    (void)snprintf(off, sizeof(off), "ipv6/conf/%s/disable_ipv6", device);
    (void)snprintf(ra, sizeof(ra), "ipv6/conf/%s/accept_ra", device);
    return netns_settings(w->a->ns, s, ARRAY_LEN(s), true, NULL, e);
}

static int leg_devices(struct work *w, struct leg *leg, struct err *e)
{
    const struct attach_network *n = leg->network;
    const struct link *l = links_by_tag(&w->links, n->plan->id);
    int rc = 0;

    if (l == NULL || overlay_task_link(n->overlay, w->a->task_id) == 0)
        rc = make_interface(w, leg, e);
    if (rc == 0)
        rc = load(w, e);
    l = rc == 0 ? links_by_tag(&w->links, n->plan->id) : NULL;
    if (rc == 0 && l == NULL)
        rc = err_set(e, ERR_IO, "its interface vanished");
    if (rc == 0 && leg->subnet6 != NULL)
        rc = allow_v6(w, l->name, e);
    if (rc < 0)
        return rc;
    leg->device = l->index;
    if (!l->up || l->mtu != n->plan->mtu) {
        struct link_change c = { .index = l->index, .up = true, .mtu = n->plan->mtu };

        w->changed = true;
        link_put_change(&w->nl, &c, 0);
        rc = nl_commit_all(&w->nl, e, "set %s", l->name);
    }
    return rc;
}

static int lo_up(struct work *w, struct err *e)
{
    const struct link *lo = links_by_name(&w->links, "lo");
    struct link_change c = { .up = true };

    if (lo == NULL || lo->up)
        return 0;
    c.index = lo->index;
    link_put_change(&w->nl, &c, 0);
    return nl_commit_all(&w->nl, e, "set lo");
}

/* ---- addresses and routes -------------------------------------------------------------------- */

static bool is_ours(void *ctx, uint8_t kind, int device)
{
    const struct work *w = ctx;
    const struct link *l = links_by_index(&w->links, device);

    (void)kind;
    return l != NULL && link_tag(l) != NULL;
}

static void on_default(void *ctx, const struct nlmsghdr *nlh)
{
    struct work *w = ctx;

    if (nlh == NULL) {
        w->other_default = false;
        return;
    }
    const struct rtmsg *m = mnl_nlmsg_get_payload(nlh);
    if (nlh->nlmsg_type == RTM_NEWROUTE && mnl_nlmsg_get_payload_len(nlh) >= sizeof(*m) &&
        m->rtm_dst_len == 0 && m->rtm_type == RTN_UNICAST && m->rtm_table == RT_TABLE_MAIN &&
        m->rtm_protocol != PLACE_PROTOCOL)
        w->other_default = true;
}

static int find_default(struct work *w, struct err *e)
{
    struct nl_request r;
    struct rtmsg m = { .rtm_family = AF_INET };

    (void)nl_request(&r, RTM_GETROUTE, NLM_F_DUMP, &m, sizeof(m));
    return nl_ask(&w->nl, &r, on_default, w, e);
}

static int program(struct work *w, struct err *e)
{
    struct entry_scope scope = { .ours = is_ours, .ctx = w, .rules = true };
    struct entry_diff diff = { .have = &w->found, .want = &w->want };
    struct entry_change change = { 0 };
    int rc = find_default(w, e);

    if (rc == 0)
        rc = entries_load(&w->found, &w->nl, &scope, e);
    if (rc < 0)
        return rc;
    want(w);
    rc = entries_program(&w->nl, &diff, &change, e);
    w->changed = w->changed || change.added + change.replaced + change.removed > 0;
    return rc;
}

static int attach_in(struct work *w, struct err *e)
{
    int rc = load(w, e);

    for (size_t i = 0; rc == 0 && i < w->a->network_count; i++) {
        const struct attach_network *n = &w->a->networks[i];

        rc = leg_init(&w->legs[i], n, e);
        if (rc == 0)
            rc = overlay_links_load(n->overlay, e);
        if (rc == 0)
            rc = leg_devices(w, &w->legs[i], e);
        if (rc < 0)
            return err_wrap(e, rc, "network %s", n->plan->name);
        w->count++;
    }
    if (rc == 0)
        rc = lo_up(w, e);
    if (rc == 0)
        rc = program(w, e);
    for (size_t i = 0; rc == 0 && i < w->count; i++) {
        const struct attach_network *n = &w->a->networks[i];

        rc = overlay_apply(n->overlay, n->plan, e);
        if (rc < 0)
            return err_wrap(e, rc, "network %s", n->plan->name);
    }
    return rc;
}

int attach_task(const struct attach *a, bool *ret_changed, struct err *e)
{
    struct work *w;

    ASSERT(a->network_count <= ATTACH_NETWORKS_MAX);
    if (netns_same(a->ns, a->host_ns))
        return err_set(e, ERR_INVALID, "the task has the host's network namespace");
    for (size_t i = 0; i < a->network_count; i++)
        if (netns_same(a->ns, a->networks[i].overlay->ns))
            return err_set(e, ERR_INVALID, "the task has a router's network namespace");
    w = xcalloc(1, sizeof(*w));
    w->a = a;
    w->nl.fd = -1;
    int rc = nl_open(&w->nl, NETLINK_ROUTE, a->ns, e);
    if (rc == 0)
        rc = attach_in(w, e);
    if (rc == 0)
        *ret_changed = w->changed;
    nl_close(&w->nl);
    links_deinit(&w->links);
    entries_deinit(&w->want);
    entries_deinit(&w->found);
    free(w);
    return rc;
}
