/* Where the host's own interfaces and routes lead: no network of the cluster may have those
 * addresses. Told to the managers (NodeNetwork.routes), who choose and refuse subnets by it. */
#include "agentd/net/net_internal.h"

#include <linux/rtnetlink.h>
#include <string.h>

static int on_destination(const struct nlattr *a, void *ctx)
{
    struct ip *to = ctx;

    if (mnl_attr_get_type(a) == RTA_DST && mnl_attr_get_payload_len(a) == ip_bytes(to))
        memcpy(to->bytes, mnl_attr_get_payload(a), ip_bytes(to));
    return MNL_CB_OK;
}

/* Ours, the default route, and what no subnet can hold (link-local, multicast) are left out. */
static bool is_of_host(const struct rtmsg *m)
{
    return m->rtm_dst_len != 0 && m->rtm_type == RTN_UNICAST && m->rtm_table == RT_TABLE_MAIN &&
           m->rtm_protocol != PLACE_PROTOCOL &&
           (m->rtm_family == AF_INET || m->rtm_family == AF_INET6);
}

static void on_route(void *ctx, const struct nlmsghdr *nlh)
{
    struct host_routes *r = ctx;

    if (nlh == NULL) {
        r->count = 0;
        return;
    }
    const struct rtmsg *m = mnl_nlmsg_get_payload(nlh);

    if (nlh->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*m) ||
        !is_of_host(m) || r->count == NET_ROUTES_MAX)
        return;
    struct ip_net to = { .address = { .family = m->rtm_family == AF_INET6 ? IP_V6 : IP_V4 },
                         .prefix = m->rtm_dst_len };

    (void)mnl_attr_parse(nlh, sizeof(*m), on_destination, &to.address);
    if (ip_is_link_local(&to.address) || ip_is_multicast(&to.address))
        return;
    for (size_t i = 0; i < r->count; i++)
        if (ip_net_equal(&r->items[i], &to))
            return;
    r->items[r->count++] = to;
}

static int compare(const void *a, const void *b)
{
    const struct ip_net *x = a, *y = b;
    int order = ip_compare(&x->address, &y->address);

    return order != 0 ? order : (int)x->prefix - (int)y->prefix;
}

bool routes_look(struct net *n)
{
    struct rtmsg all = { .rtm_family = AF_UNSPEC };
    struct host_routes found = { .count = 0 };
    struct nl_request r;

    (void)nl_request(&r, RTM_GETROUTE, NLM_F_DUMP, &all, sizeof(all));
    if (nl_ask(&n->host_nl, &r, on_route, &found, NULL) < 0)
        return false;
    qsort(found.items, found.count, sizeof(found.items[0]), compare);
    if (found.count == n->routes.count &&
        memcmp(found.items, n->routes.items, found.count * sizeof(found.items[0])) == 0)
        return false;
    n->routes = found;
    for (size_t i = 0; i < found.count; i++) {
        (void)ip_net_format(&n->routes.items[i], n->routes.texts[i]);
        n->routes.list[i] = n->routes.texts[i];
    }
    return true;
}

const struct ip_net *routes_overlap(const struct net *n, const struct net_plan *p)
{
    for (size_t i = 0; i < n->routes.count; i++)
        for (size_t k = 0; k < p->subnet_count; k++)
            if (ip_net_overlap(&n->routes.items[i], &p->subnets[k].subnet))
                return &n->routes.items[i];
    return NULL;
}
