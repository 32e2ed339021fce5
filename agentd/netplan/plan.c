#include "agentd/netplan/plan.h"

#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "common/map.h"

enum { VXLAN_PORT = 4789, MTU_DEFAULT = 1450, MTU_MIN = 68 }; /* RFC 7348 §5; RFC 791 */

struct maker {
    const struct tables *t;
    const char *id, *self;
    struct arena *a;
    struct net_plan *p;
    struct plan_peer *peers; /* all known ones while endpoints are read, then those that are used */
    bool *used;
    size_t peer_count;
    struct map peers_by_id, services_by_id;
};

/* ---- the network and its nodes --------------------------------------------------------------- */

static void make_subnets(struct maker *m, const Skep__NetworkHead *h)
{
    struct plan_subnet *all = arena_array(m->a, h->n_ipam, sizeof(*all));
    struct ip_net gateway;
    size_t count = 0;

    for (size_t i = 0; i < h->n_ipam; i++) {
        struct plan_subnet *s = &all[count];

        if (ip_net_parse(h->ipam[i]->subnet, &s->subnet, NULL) < 0)
            continue;
        s->subnet = ip_net_base(&s->subnet);
        if (ip_net_parse_host(h->ipam[i]->gateway, &gateway, NULL) == 0)
            s->gateway = gateway.address;
        else
            s->gateway = ip_add(&s->subnet.address, 1);
        count++;
    }
    m->p->subnets = all;
    m->p->subnet_count = count;
}

static void make_head(struct maker *m, const Skep__NetworkHead *h)
{
    struct net_plan *p = m->p;

    p->id = h->id;
    p->name = h->name;
    p->vni = h->vni;
    p->mtu = h->mtu >= MTU_MIN ? h->mtu : MTU_DEFAULT;
    p->vxlan_port = h->data_path_port != 0 ? (uint16_t)h->data_path_port : VXLAN_PORT;
    if (h->encrypted && h->encryption_port != 0 &&
        h->encryption_port + PLAN_ENCRYPTED_VXLAN <= UINT16_MAX)
        p->vxlan_port = (uint16_t)(h->encryption_port + PLAN_ENCRYPTED_VXLAN);
    p->internal = h->internal;
    p->ingress = h->ingress;
    p->encrypted = h->encrypted;
    p->head = h;
    make_subnets(m, h);
}

static void make_self(struct maker *m)
{
    const Skep__NetworkPeer *self = tables_peer(m->t, m->self);
    struct ip_net vtep;

    if (self == NULL)
        return;
    if (ip_net_parse_host(self->address, &vtep, NULL) == 0)
        m->p->self_vtep = vtep.address;
    (void)tables_address(self->networks, self->n_networks, m->id, IP_V4, &m->p->self_address);
}

/* Every node that VXLAN packets can go to. */
static void collect_peers(struct maker *m)
{
    size_t capacity = 0;

    for (const Skep__NetworkPeer *x = tables_peer_after(m->t, ""); x != NULL;
         x = tables_peer_after(m->t, x->node_id)) {
        struct ip_net vtep;

        if (strcmp(x->node_id, m->self) == 0 || ip_net_parse_host(x->address, &vtep, NULL) < 0)
            continue;
        if (m->peer_count == capacity) {
            struct plan_peer *larger;

            capacity = capacity == 0 ? 16 : capacity * 2;
            larger = arena_array(m->a, capacity, sizeof(*larger));
            if (m->peer_count > 0)
                memcpy(larger, m->peers, m->peer_count * sizeof(*larger));
            m->peers = larger;
        }
        struct plan_peer *p = &m->peers[m->peer_count++];
        p->node_id = x->node_id;
        p->vtep = vtep.address;
        p->encryption_instance = x->encryption_instance;
        (void)tables_address(x->networks, x->n_networks, m->id, IP_V4, &p->address);
    }
    m->used = arena_array(m->a, m->peer_count + 1, sizeof(*m->used));
    map_reserve(&m->peers_by_id, m->peer_count);
    for (size_t i = 0; i < m->peer_count; i++)
        map_add(&m->peers_by_id, hash_str(m->peers[i].node_id, 0), &m->peers[i]);
    for (size_t i = 0; i < m->peer_count; i++)
        m->used[i] = m->peers[i].address.family != 0;
}

static bool is_peer(const void *value, const void *key)
{
    return strcmp(((const struct plan_peer *)value)->node_id, key) == 0;
}

/* -1: this node; -2: a node that is down or unknown. */
static int32_t find_peer(const struct maker *m, const char *node_id)
{
    const struct plan_peer *p = map_find(&m->peers_by_id, hash_str(node_id, 0), is_peer, node_id);

    if (p != NULL)
        return (int32_t)(p - m->peers);
    return strcmp(node_id, m->self) == 0 ? -1 : -2;
}

/* ---- tasks ----------------------------------------------------------------------------------- */

static enum plan_state state_of(const Skep__NetworkEndpoint *x)
{
    if (x->state == SKEP__NETWORK_ENDPOINT__STATE__UP)
        return PLAN_UP;
    return x->state == SKEP__NETWORK_ENDPOINT__STATE__DRAINING ? PLAN_DRAINING : PLAN_STARTING;
}

/* tables_address() of both families in one pass: this is done for every task of the network. */
static bool addresses_of(const struct maker *m, const Skep__NetworkEndpoint *x, struct ip *ret_v4,
                         struct ip *ret_v6)
{
    struct ip_net net;

    for (size_t i = 0; i < x->n_networks; i++) {
        const Skep__NetworkAttachment *a = x->networks[i];

        if (strcmp(a->network_id, m->id) != 0)
            continue;
        for (size_t k = 0; k < a->n_addresses; k++) {
            if (ip_net_parse_host(a->addresses[k], &net, NULL) < 0)
                continue;
            if (net.address.family == IP_V4 && ret_v4->family == 0)
                *ret_v4 = net.address;
            else if (net.address.family == IP_V6 && ret_v6->family == 0)
                *ret_v6 = net.address;
        }
        return ret_v4->family != 0 || ret_v6->family != 0;
    }
    return false;
}

static void make_endpoints(struct maker *m)
{
    const Skep__NetworkEndpoint *const *all = NULL;
    size_t count = tables_network_endpoints(m->t, m->id, &all);
    struct plan_endpoint *to = arena_array(m->a, count, sizeof(*to));

    for (size_t i = 0; i < count; i++) {
        const Skep__NetworkEndpoint *x = all[i];
        struct plan_endpoint *p = &to[m->p->endpoint_count];
        int32_t peer = find_peer(m, x->node_id);

        if (peer == -2)
            continue; /* nothing leads there */
        *p = (struct plan_endpoint){
            .task_id = x->task_id, .service_id = x->service_id, .peer = peer, .state = state_of(x)
        };
        if (!addresses_of(m, x, &p->v4, &p->v6))
            continue;
        if (peer >= 0)
            m->used[peer] = true;
        m->p->endpoint_count++;
    }
    m->p->endpoints = to;
}

/* Leaves out the nodes that have nothing in this network. */
static void make_peers(struct maker *m, struct plan_endpoint *endpoints)
{
    int32_t *place = arena_array(m->a, m->peer_count + 1, sizeof(*place));
    size_t kept = 0;

    for (size_t i = 0; i < m->peer_count; i++) {
        if (!m->used[i])
            continue;
        place[i] = (int32_t)kept;
        m->peers[kept++] = m->peers[i];
    }
    for (size_t i = 0; i < m->p->endpoint_count; i++)
        if (endpoints[i].peer >= 0)
            endpoints[i].peer = place[endpoints[i].peer];
    m->p->peers = m->peers;
    m->p->peer_count = kept;
}

/* ---- services and ports ---------------------------------------------------------------------- */

static int backend_by_address(const void *a, const void *b)
{
    return ip_compare(&((const struct plan_backend *)a)->address,
                      &((const struct plan_backend *)b)->address);
}

/* Of the service, in this network; local: only this node's, and only those whose first network this
 * is. */
static size_t make_backends(const struct maker *m, const char *service_id, bool local,
                            const struct plan_backend **ret)
{
    const Skep__NetworkEndpoint *const *all = NULL;
    size_t total = tables_service_endpoints(m->t, service_id, &all), count = 0;
    struct plan_backend *to = arena_array(m->a, total, sizeof(*to));

    for (size_t i = 0; i < total; i++) {
        const Skep__NetworkEndpoint *x = all[i];
        enum plan_state state = state_of(x);
        int32_t peer = find_peer(m, x->node_id);
        struct plan_backend *b = &to[count];

        if (state == PLAN_STARTING || peer == -2)
            continue;
        if (local &&
            (peer != -1 || x->n_networks == 0 || strcmp(x->networks[0]->network_id, m->id) != 0))
            continue;
        if (!tables_address(x->networks, x->n_networks, m->id, IP_V4, &b->address))
            continue;
        b->draining = state == PLAN_DRAINING;
        b->local = peer == -1;
        count++;
    }
    qsort(to, count, sizeof(*to), backend_by_address);
    *ret = to;
    return count;
}

static bool is_service(const void *value, const void *key)
{
    return strcmp(((const struct plan_service *)value)->id, key) == 0;
}

/* Gives every service its endpoints: counts them, then lays them out one service after another. */
static void share_backends(const struct maker *m, struct plan_service *services)
{
    const struct net_plan *p = m->p;
    struct plan_service **of = arena_array(m->a, p->endpoint_count, sizeof(struct plan_service *));
    struct plan_backend *all = arena_array(m->a, p->endpoint_count, sizeof(*all));

    for (size_t i = 0; i < p->endpoint_count; i++) {
        const struct plan_endpoint *x = &p->endpoints[i];

        if (x->state == PLAN_STARTING || x->v4.family == 0 || x->service_id[0] == '\0')
            continue;
        of[i] = map_find(&m->services_by_id, hash_str(x->service_id, 0), is_service, x->service_id);
        if (of[i] != NULL)
            of[i]->backend_count++;
    }
    for (size_t i = 0; i < p->service_count; i++) {
        services[i].backends = all;
        all += services[i].backend_count;
        services[i].backend_count = 0;
    }
    for (size_t i = 0; i < p->endpoint_count; i++) {
        const struct plan_endpoint *x = &p->endpoints[i];
        struct plan_backend *to;

        if (of[i] == NULL)
            continue;
        to = (struct plan_backend *)&of[i]->backends[of[i]->backend_count++];
        *to = (struct plan_backend){ .address = x->v4,
                                     .draining = x->state == PLAN_DRAINING,
                                     .local = x->peer == -1 };
    }
    for (size_t i = 0; i < p->service_count; i++)
        qsort((struct plan_backend *)services[i].backends, services[i].backend_count,
              sizeof(struct plan_backend), backend_by_address);
}

static void make_services(struct maker *m, const Skep__NetworkService *const *all, size_t count)
{
    struct plan_service *to = arena_array(m->a, count, sizeof(*to));

    map_reserve(&m->services_by_id, count);
    for (size_t i = 0; i < count; i++) {
        struct plan_service *s = &to[m->p->service_count];

        if (!tables_vip(all[i], m->id, &s->vip))
            continue;
        s->id = all[i]->id;
        s->name = all[i]->name;
        map_add(&m->services_by_id, hash_str(s->id, 0), s);
        m->p->service_count++;
    }
    m->p->services = to;
    share_backends(m, to);
}

static int port_compare(const void *x, const void *y)
{
    const struct plan_port *a = x, *b = y;
    int order = (int)a->protocol - (int)b->protocol;

    if (order == 0)
        order = (int)a->published - (int)b->published;
    if (order == 0)
        order = ip_compare(&a->host_ip, &b->host_ip);
    return order != 0 ? order : strcmp(a->service_id, b->service_id);
}

static bool make_port(const struct maker *m, const Skep__NetworkService *s,
                      const Skep__PortConfig *c, struct plan_port *ret)
{
    struct ip_net host = { 0 };
    bool host_mode = c->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_HOST;

    if (c->published_port == 0 || c->published_port > UINT16_MAX || c->target_port == 0 ||
        c->target_port > UINT16_MAX || (!host_mode && !m->p->ingress))
        return false;
    if (c->host_ip[0] != '\0' && ip_net_parse_host(c->host_ip, &host, NULL) < 0)
        return false;
    *ret =
        (struct plan_port){ .protocol = c->protocol,
                            .published = (uint16_t)c->published_port,
                            .target = (uint16_t)c->target_port,
                            .host_mode = host_mode,
                            .source = c->source,
                            .host_ip = ip_is_any(&host.address) ? (struct ip){ 0 } : host.address,
                            .service_id = s->id };
    const struct plan_service *known =
        host_mode ? NULL : map_find(&m->services_by_id, hash_str(s->id, 0), is_service, s->id);
    if (known != NULL) {
        ret->backends = known->backends;
        ret->backend_count = known->backend_count;
    } else {
        ret->backend_count = make_backends(m, s->id, host_mode, &ret->backends);
    }
    return !host_mode || ret->backend_count > 0;
}

/* Mesh ports: every service with an address in the ingress network. */
static size_t count_ports(const struct maker *m, const Skep__NetworkService *const *all,
                          size_t count)
{
    size_t total = 0;

    for (size_t i = 0; m->p->ingress && i < count; i++)
        total += all[i]->n_ports;
    for (size_t i = 0; i < m->p->endpoint_count; i++) {
        const struct plan_endpoint *x = &m->p->endpoints[i];
        const Skep__NetworkService *s = x->peer == -1 ? tables_service(m->t, x->service_id) : NULL;

        total += s != NULL ? s->n_ports : 0;
    }
    return total;
}

static void add_ports(struct maker *m, const Skep__NetworkService *s, Skep__PublishMode mode,
                      struct plan_port *to)
{
    for (size_t k = 0; k < s->n_ports; k++)
        if (s->ports[k]->publish_mode == mode &&
            make_port(m, s, s->ports[k], &to[m->p->port_count]))
            m->p->port_count++;
}

/* Of two that claim the same, the first service has it, as long as both exist. */
static void make_ports(struct maker *m, const Skep__NetworkService *const *all, size_t count)
{
    struct plan_port *to = arena_array(m->a, count_ports(m, all, count), sizeof(*to));
    size_t kept = 0;

    for (size_t i = 0; m->p->ingress && i < count; i++)
        add_ports(m, all[i], SKEP__PUBLISH_MODE__PUBLISH_INGRESS, to);
    for (size_t i = 0; i < m->p->endpoint_count; i++) {
        const struct plan_endpoint *x = &m->p->endpoints[i];
        const Skep__NetworkService *s = x->peer == -1 ? tables_service(m->t, x->service_id) : NULL;

        if (s != NULL)
            add_ports(m, s, SKEP__PUBLISH_MODE__PUBLISH_HOST, to);
    }
    qsort(to, m->p->port_count, sizeof(*to), port_compare);
    for (size_t i = 0; i < m->p->port_count; i++) {
        if (kept > 0 && to[kept - 1].protocol == to[i].protocol &&
            to[kept - 1].published == to[i].published &&
            ip_equal(&to[kept - 1].host_ip, &to[i].host_ip))
            continue;
        to[kept++] = to[i];
    }
    m->p->ports = to;
    m->p->port_count = kept;
}

const struct net_plan *plan_make(const struct tables *t, const char *network_id,
                                 const char *self_node_id, struct arena *a)
{
    struct maker m = { .t = t, .id = network_id, .self = self_node_id, .a = a };
    const Skep__NetworkHead *h = tables_network(t, network_id);
    const Skep__NetworkService *const *services = NULL;

    if (h == NULL)
        return NULL;
    m.p = ARENA_NEW(a, struct net_plan);
    make_head(&m, h);
    make_self(&m);
    collect_peers(&m);
    make_endpoints(&m);
    size_t count = tables_network_services(t, network_id, &services);
    make_services(&m, services, count);
    make_ports(&m, services, count);
    make_peers(&m, (struct plan_endpoint *)m.p->endpoints);
    map_deinit(&m.peers_by_id);
    map_deinit(&m.services_by_id);
    return m.p;
}
