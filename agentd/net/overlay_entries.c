#include "agentd/net/overlay_internal.h"

#include <string.h>

#include "agentd/net/place.h"

static void route(struct overlay *o, const struct ip *to, int device, const struct ip *via)
{
    struct entry_route r = { .destination = { *to, (uint8_t)ip_bits(to) }, .device = device };

    if (via != NULL)
        r.via = *via;
    entries_add_route(&o->wanted, &r);
}

/* Gateways are on lo of every node's R. A destination of the network that nobody has is refused at
 * once, instead of leaving by the default route. */
static void want_subnets(struct overlay *o, const struct net_plan *p)
{
    for (size_t i = 0; i < p->subnet_count; i++) {
        const struct plan_subnet *s = &p->subnets[i];
        struct entry_route none = { .destination = s->subnet };

        if (s->gateway.family != 0)
            entries_add_address(&o->wanted, o->lo, &s->gateway, (uint8_t)ip_bits(&s->gateway));
        entries_add_route(&o->wanted, &none);
    }
}

static void want_uplink(struct overlay *o, const struct net_plan *p)
{
    struct place_link l = place_link(o->index);
    struct entry_route here = { .destination = { l.router, 30 },
                                .device = o->up,
                                .source = l.router };
    struct entry_route out = { .destination = { .address = { .family = IP_V4 } },
                               .device = o->up,
                               .via = l.host };

    if (o->up == 0)
        return;
    entries_add_address(&o->wanted, o->up, &l.router, 30);
    entries_add_route(&o->wanted, &here);
    if (!p->internal)
        entries_add_route(&o->wanted, &out);
}

/* The label of a node is a next hop that exists only as a neighbour on vxlan0. */
static void want_peers(struct overlay *o, const struct net_plan *p)
{
    for (size_t i = 0; o->vxlan != 0 && i < p->peer_count; i++) {
        const struct plan_peer *peer = &p->peers[i];
        struct ip v4 = place_label(&peer->vtep, IP_V4), v6 = place_label(&peer->vtep, IP_V6);
        uint8_t mac[6];

        if (peer->vtep.family != p->self_vtep.family)
            continue; /* the device sends over one family only */
        place_mac(&peer->vtep, mac);
        entries_add_neighbour(&o->wanted, o->vxlan, &v4, mac);
        if (o->v6 && !ip_equal(&v4, &v6))
            entries_add_neighbour(&o->wanted, o->vxlan, &v6, mac);
        entries_add_fdb(&o->wanted, o->vxlan, mac, &peer->vtep);
        if (peer->address.family != 0)
            route(o, &peer->address, o->vxlan, &v4);
    }
}

static void want_remote(struct overlay *o, const struct net_plan *p, const struct plan_endpoint *x)
{
    const struct plan_peer *peer = &p->peers[x->peer];

    if (o->vxlan == 0 || peer->vtep.family != p->self_vtep.family)
        return;
    if (x->v4.family != 0) {
        struct ip label = place_label(&peer->vtep, IP_V4);

        route(o, &x->v4, o->vxlan, &label);
    }
    if (o->v6 && x->v6.family != 0) {
        struct ip label = place_label(&peer->vtep, IP_V6);

        route(o, &x->v6, o->vxlan, &label);
    }
}

static void want_local(struct overlay *o, const struct plan_endpoint *x)
{
    const struct ip router = { .family = IP_V6, .bytes = { 0xfe, 0x80, [15] = 1 } };
    const struct ip *key = x->v4.family != 0 ? &x->v4 : &x->v6;
    int device = overlay_task_link(o, x->task_id);
    uint8_t mac[6];

    if (device == 0)
        return; /* not attached yet */
    place_task_mac(key, mac);
    if (x->v4.family != 0) {
        entries_add_neighbour(&o->wanted, device, &x->v4, mac);
        route(o, &x->v4, device, NULL);
    }
    if (o->v6 && x->v6.family != 0) {
        entries_add_address(&o->wanted, device, &router, 64);
        entries_add_neighbour(&o->wanted, device, &x->v6, mac);
        route(o, &x->v6, device, NULL);
    }
}

void overlay_want(struct overlay *o, const struct net_plan *p)
{
    entries_clear(&o->wanted);
    want_subnets(o, p);
    want_uplink(o, p);
    want_peers(o, p);
    for (size_t i = 0; i < p->endpoint_count; i++) {
        if (p->endpoints[i].peer >= 0)
            want_remote(o, p, &p->endpoints[i]);
        else
            want_local(o, &p->endpoints[i]);
    }
    entries_sort(&o->wanted);
}
