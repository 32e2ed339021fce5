#include "agentd/net/balancer_internal.h"

#include <arpa/inet.h>
#include <endian.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "agentd/net/layout.h"
#include "agentd/net/netns.h"
#include "agentd/net/place.h"
#include "common/assert.h"

static uint32_t v4(const struct ip *ip)
{
    uint32_t n;

    memcpy(&n, ip->bytes, sizeof(n));
    return ntohl(n);
}

static struct ip address_of(const char *text)
{
    struct ip ip = { 0 };

    ASSERT(ip_parse(text, &ip, NULL) == 0);
    return ip;
}

static void add_way(struct ways *w, const struct way *like, const struct ip *address)
{
    struct way *next = &w->routes[w->route_count++];

    *next = *like;
    if (address != NULL)
        next->address = v4(address);
}

/* Per peer a table whose default leads to it, for answers to clients that came in by it. */
static void add_peers(struct ways *w, const struct nft_model *m, const struct net_plan *p)
{
    const struct nft_set *entries = &m->sets[NFT_ENTRY];

    for (size_t i = 0; i < p->peer_count; i++) {
        uint8_t mac[8] = { 0 };
        uint64_t key;

        place_mac(&p->peers[i].vtep, mac + 2);
        memcpy(&key, mac, sizeof(key));
        key = be64toh(key);
        for (size_t j = 0; j < entries->count; j++) {
            uint32_t index = (uint32_t)entries->items[j].value;
            struct way way = { .table = LAYOUT_PEER_TABLE + index,
                               .gateway = place_label(&p->peers[i].vtep, IP_V4),
                               .device = LAYOUT_VXLAN,
                               .onlink = true };

            if (entries->items[j].key != key)
                continue;
            add_way(w, &way, NULL);
            w->rules[w->rule_count++] =
                (struct way_rule){ LAYOUT_PEER_PREFERENCE, index, LAYOUT_MARK_PEER_MASK,
                                   LAYOUT_PEER_TABLE + index };
            break;
        }
    }
}

const struct ways *balancer_ways(const struct nft_model *m, const struct net_plan *p,
                                 struct arena *a)
{
    struct ways *w = ARENA_NEW(a, struct ways);
    const struct ip mesh = address_of(LAYOUT_MESH_ADDRESS);
    struct way vip = { .table = RT_TABLE_LOCAL, .prefix = 32, .local = true, .device = "lo" };

    if (m->role == NFT_STEER)
        vip = (struct way){ .table = RT_TABLE_MAIN,
                            .prefix = 32,
                            .gateway = address_of(LAYOUT_BALANCER_ADDRESS),
                            .device = LAYOUT_TO_BALANCER };
    w->routes = arena_array(a, p->service_count + p->peer_count + 3, sizeof(*w->routes));
    w->rules = arena_array(a, p->peer_count + 1, sizeof(*w->rules));
    for (size_t i = 0; i < p->service_count; i++)
        if (p->services[i].vip.family == IP_V4)
            add_way(w, &vip, &p->services[i].vip);
    if (m->role != NFT_ROUTER)
        add_way(w, &vip, &mesh);
    if (m->role == NFT_MARKS) {
        struct way out = { .table = RT_TABLE_MAIN,
                           .gateway = address_of(LAYOUT_ROUTER_ADDRESS),
                           .device = LAYOUT_TO_ROUTER };

        add_way(w, &out, NULL);
    }
    if (m->role != NFT_MARKS)
        add_peers(w, m, p);
    if (m->role == NFT_STEER) {
        struct way steer = { .table = LAYOUT_STEER_TABLE,
                             .gateway = address_of(LAYOUT_BALANCER_ADDRESS),
                             .device = LAYOUT_TO_BALANCER };

        add_way(w, &steer, NULL);
        w->rules[w->rule_count++] = (struct way_rule){ LAYOUT_STEER_PREFERENCE, LAYOUT_MARK_STEER,
                                                       LAYOUT_MARK_STEER, LAYOUT_STEER_TABLE };
    }
    ways_sort(w);
    return w;
}

const struct net_plan *balancer_trial_plan(void)
{
    static const struct plan_subnet subnets[] = { { { { IP_V4, { 10, 1, 2, 0 } }, 24 },
                                                    { IP_V4, { 10, 1, 2, 1 } } } };
    static const struct plan_backend backends[] = { { { IP_V4, { 10, 1, 2, 4 } }, false, true },
                                                    { { IP_V4, { 10, 1, 2, 5 } }, false, false } };
    static const struct plan_peer peers[] = {
        { "other", { IP_V4, { 192, 0, 2, 2 } }, { IP_V4, { 10, 1, 2, 3 } }, "" }
    };
    static const struct plan_endpoint endpoints[] = {
        { "task", "service", { IP_V4, { 10, 1, 2, 4 } }, { 0 }, -1, PLAN_UP }
    };
    static const struct plan_service services[] = {
        { "service", "service", { IP_V4, { 10, 1, 2, 9 } }, backends, 2 }
    };
    static const struct plan_port ports[] = {
        { .published = 80, .target = 80, .backends = backends, .backend_count = 2 },
        { .published = 81,
          .target = 80,
          .source = SKEP__SOURCE_POLICY__SOURCE_PRESERVE,
          .backends = backends,
          .backend_count = 2 },
        { .published = 82,
          .target = 80,
          .host_mode = true,
          .backends = backends,
          .backend_count = 1 }
    };
    static const struct net_plan plan = {
        .id = "trial",
        .name = "trial",
        .self_vtep = { IP_V4, { 192, 0, 2, 1 } },
        .self_address = { IP_V4, { 10, 1, 2, 2 } },
        .subnets = subnets,
        .subnet_count = ARRAY_LEN(subnets),
        .peers = peers,
        .peer_count = ARRAY_LEN(peers),
        .endpoints = endpoints,
        .endpoint_count = ARRAY_LEN(endpoints),
        .services = services,
        .service_count = ARRAY_LEN(services),
        .ports = ports,
        .port_count = ARRAY_LEN(ports),
    };

    return &plan;
}

/* Connections may be silent for five days, as the kernel itself has it; set on purpose, since a
 * namespace may inherit less. A packet outside the window, or of a connection that was forgotten
 * on purpose, must be translated and answered (with a reset), not passed on as it is. */
void balancer_tune(int router_ns)
{
    static const struct netns_setting settings[] = {
        { "netfilter/nf_conntrack_tcp_timeout_established", "432000", true },
        { "netfilter/nf_conntrack_tcp_be_liberal", "1", true },
        { "netfilter/nf_conntrack_tcp_loose", "1", true },
    };

    for (size_t i = 0; i < ARRAY_LEN(settings); i++)
        if (netns_settings(router_ns, &settings[i], 1, true, NULL, NULL) < 0)
            continue; /* not loaded yet, or not ours to set: the defaults do */
}
