#include "agentd/net/net_internal.h"

#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"

/* ---- the way to the other nodes -------------------------------------------------------------- */

struct way {
    uint32_t device, mtu;
};

static int on_metric(const struct nlattr *a, void *ctx)
{
    struct way *w = ctx;

    if (mnl_attr_get_type(a) == RTAX_MTU && mnl_attr_validate(a, MNL_TYPE_U32) >= 0)
        w->mtu = mnl_attr_get_u32(a);
    return MNL_CB_OK;
}

static int on_attribute(const struct nlattr *a, void *ctx)
{
    struct way *w = ctx;

    if (mnl_attr_get_type(a) == RTA_OIF && mnl_attr_validate(a, MNL_TYPE_U32) >= 0)
        w->device = mnl_attr_get_u32(a);
    else if (mnl_attr_get_type(a) == RTA_METRICS)
        (void)mnl_attr_parse_nested(a, on_metric, w);
    return MNL_CB_OK;
}

static void on_route(void *ctx, const struct nlmsghdr *nlh)
{
    if (nlh == NULL)
        memset(ctx, 0, sizeof(struct way));
    else if (nlh->nlmsg_type == RTM_NEWROUTE)
        (void)mnl_attr_parse(nlh, sizeof(struct rtmsg), on_attribute, ctx);
}

/* MTU of the way to an address; 0 = none. */
static uint32_t mtu_to(struct net *n, const struct links *devices, const struct ip *to)
{
    struct rtmsg m = { .rtm_family = to->family == IP_V6 ? AF_INET6 : AF_INET,
                       .rtm_dst_len = (uint8_t)ip_bits(to) };
    struct nl_request r;
    struct way w;
    struct nlmsghdr *h = nl_request(&r, RTM_GETROUTE, 0, &m, sizeof(m));

    mnl_attr_put(h, RTA_DST, ip_bytes(to), to->bytes);
    if (nl_ask(&n->host_nl, &r, on_route, &w, NULL) < 0)
        return 0;
    const struct link *l = links_by_index(devices, (int)w.device);
    if (l == NULL || strcmp(l->name, "lo") == 0)
        return 0;
    return w.mtu != 0 && w.mtu < l->mtu ? w.mtu : l->mtu;
}

/* The device that has the address, for a node that knows no other one yet. */
static uint32_t mtu_of(struct net *n, const struct links *devices, const struct ip *own)
{
    struct ip out = { .family = own->family };
    struct ip next = ip_add(own, 1);
    uint32_t mtu = next.family != 0 ? mtu_to(n, devices, &next) : 0;

    return mtu != 0 ? mtu : mtu_to(n, devices, &out);
}

void describe_overlap(struct network *w, const struct net_plan *p)
{
    const struct ip_net *route = w->overlap_told ? NULL : routes_overlap(w->net, p);
    char text[IP_NET_CHARS + 1];

    w->overlap_told = true;
    if (route != NULL)
        log_warn("net.overlap",
                 "network=%s name=%s route=%s effect=\"its tasks do not reach what this "
                 "host's route leads to\"",
                 w->id, p->name, ip_net_format(route, text));
}

static uint32_t find_mtu(struct net *n)
{
    enum { PEERS_MAX = 64 }; /* others have the same devices in their way */
    struct links devices = { 0 };
    const Skep__NetworkPeer *self = tables_peer(n->tables, n->node_id);
    struct ip_net own = { .address = n->options.data_path };
    const struct ip any = { .family = IP_V4 };
    uint32_t least = 0;
    size_t seen = 0;

    if (links_load(&devices, &n->host_nl, NULL) < 0)
        return n->mtu;
    for (const Skep__NetworkPeer *p = tables_peer_after(n->tables, "");
         p != NULL && seen < PEERS_MAX; p = tables_peer_after(n->tables, p->node_id), seen++) {
        struct ip_net to;
        uint32_t mtu;

        if (p == self || ip_net_parse_host(p->address, &to, NULL) < 0)
            continue;
        mtu = mtu_to(n, &devices, &to.address);
        if (mtu != 0 && (least == 0 || mtu < least))
            least = mtu;
    }
    if (own.address.family == 0 && self != NULL)
        (void)(ip_net_parse_host(self->address, &own, NULL) == 0);
    if (least == 0)
        least = mtu_of(n, &devices, own.address.family != 0 ? &own.address : &any);
    links_deinit(&devices);
    return least;
}

/* ---- description ----------------------------------------------------------------------------- */

/* A network that waits for the managers is no fault of this host; that it cannot encrypt is told by
 * NodeNetwork.encryption. */
static void describe_error(const struct net *n, char ret[ERR_MESSAGE_BYTES_MAX])
{
    ret[0] = '\0';
    if (n->host_error[0] != '\0') {
        (void)snprintf(ret, ERR_MESSAGE_BYTES_MAX, "%s", n->host_error);
        return;
    }
    for (size_t i = 0; i < n->network_count; i++) {
        const struct network *w = n->networks[i];
        const Skep__NetworkHead *h = tables_network(n->tables, w->id);

        if (w->error[0] == '\0' || h == NULL || tables_peer(n->tables, n->node_id) == NULL)
            continue;
        if (h->encrypted && encrypt_kind(n->encrypt)[0] == '\0')
            continue;
        (void)snprintf(ret, ERR_MESSAGE_BYTES_MAX, "network %.64s: %.160s", h->name, w->error);
        return;
    }
}

void describe_update(struct net *n, bool look)
{
    char error[ERR_MESSAGE_BYTES_MAX];

    describe_error(n, error);
    if (look || n->mtu == 0) {
        n->mtu = find_mtu(n);
        n->change_pending |= routes_look(n);
    }
    if (strcmp(error, n->described) != 0 || n->mtu != n->described_mtu ||
        strcmp(encrypt_instance(n->encrypt), n->described_instance) != 0)
        n->change_pending = true;
    (void)snprintf(n->described_instance, sizeof(n->described_instance), "%s",
                   encrypt_instance(n->encrypt));
    (void)snprintf(n->described, sizeof(n->described), "%s", error);
    n->described_mtu = n->mtu;
    if (n->change_pending && n->options.on_change != NULL) {
        n->change_pending = false;
        n->options.on_change(n->options.ctx);
    }
}

void net_describe(struct net *n, Skep__NodeNetwork *ret)
{
    skep__node_network__init(ret);
    n->address[0] = '\0';
    if (n->options.data_path.family != 0)
        (void)ip_format(&n->options.data_path, n->address);
    ret->data_path_address = n->address;
    ret->mtu = n->mtu;
    if (n->balancer != NULL)
        ret->balancer = (char *)n->balancer->name;
    ret->encryption = (char *)encrypt_kind(n->encrypt);
    ret->encryption_instance = (char *)encrypt_instance(n->encrypt);
    ret->error = n->described;
    ret->routes = n->routes.list;
    ret->n_routes = n->routes.count;
}

void net_stats(const struct net *n, struct net_stats *ret)
{
    struct dns_stats dns;

    *ret = n->stats;
    dns_stats(n->dns, &dns);
    ret->dns_queries = dns.queries;
    ret->networks = (uint32_t)n->network_count;
    ret->endpoints = 0;
    for (size_t i = 0; i < n->network_count; i++) {
        const Skep__NetworkEndpoint *const *all;

        ret->endpoints += (uint32_t)tables_network_endpoints(n->tables, n->networks[i]->id, &all);
    }
}
