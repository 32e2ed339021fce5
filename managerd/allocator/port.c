/* Published ports. Ingress ports belong to one service of the cluster per protocol; host-mode ones
 * are the nodes' own, and the scheduler keeps them apart. swarmkit portallocator.go. */
#include <stdio.h>
#include <string.h>

#include "managerd/allocator/internal.h"

enum { PORTS = 65536 };

static bool is_ingress(const Skep__PortConfig *p)
{
    return p->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_INGRESS;
}

bool spec_has_ingress(const Skep__EndpointSpec *e)
{
    for (size_t i = 0; e != NULL && i < e->n_ports; i++) {
        if (is_ingress(e->ports[i]))
            return true;
    }
    return false;
}

void ports_init(struct allocator *a)
{
    for (size_t i = 0; i < PROTOCOLS; i++)
        numbers_init(&a->ports[i], ALLOCATOR_PORT_FIRST, ALLOCATOR_PORT_LAST + 1);
    a->host_ports = xcalloc((size_t)PROTOCOLS * PORTS, sizeof(*a->host_ports));
}

void ports_deinit(struct allocator *a)
{
    for (size_t i = 0; i < PROTOCOLS; i++)
        numbers_deinit(&a->ports[i]);
    free(a->host_ports);
    a->host_ports = NULL;
}

static uint16_t *host_use(struct allocator *a, const Skep__PortConfig *p)
{
    return &a->host_ports[(size_t)p->protocol * PORTS + p->published_port];
}

static bool counts(const Skep__PortConfig *p)
{
    return (unsigned)p->protocol < PROTOCOLS && p->published_port > 0 && p->published_port < PORTS;
}

void ports_take(struct allocator *a, const Skep__Endpoint *e)
{
    for (size_t i = 0; e != NULL && i < e->n_ports; i++) {
        const Skep__PortConfig *p = e->ports[i];

        if (counts(p) && is_ingress(p))
            numbers_take(&a->ports[p->protocol], p->published_port);
        else if (counts(p) && *host_use(a, p) < UINT16_MAX)
            ++*host_use(a, p);
    }
}

void ports_give(struct allocator *a, const Skep__Endpoint *e)
{
    for (size_t i = 0; e != NULL && i < e->n_ports; i++) {
        const Skep__PortConfig *p = e->ports[i];

        if (counts(p) && is_ingress(p))
            numbers_give(&a->ports[p->protocol], p->published_port);
        else if (counts(p) && *host_use(a, p) > 0)
            --*host_use(a, p);
    }
}

/* ---- choosing ---- */

/* The service's own port that may go on serving want. Each serves once. */
static Skep__PortConfig *own_port(const Skep__Endpoint *old, const Skep__PortConfig *want,
                                  const bool *taken, size_t *ret_at)
{
    for (size_t i = 0; old != NULL && i < old->n_ports; i++) {
        Skep__PortConfig *p = old->ports[i];

        if (taken[i] || !is_ingress(p) || p->protocol != want->protocol)
            continue;
        if (want->published_port != 0
                ? p->published_port == want->published_port
                : p->target_port == want->target_port && strcmp(p->name, want->name) == 0) {
            *ret_at = i;
            return p;
        }
    }
    return NULL;
}

static bool has_port(const Skep__Endpoint *e, const Skep__PortConfig *port)
{
    for (size_t i = 0; e != NULL && i < e->n_ports; i++) {
        if (is_ingress(e->ports[i]) && e->ports[i]->protocol == port->protocol &&
            e->ports[i]->published_port == port->published_port)
            return true;
    }
    return false;
}

static const char *const protocol_names[PROTOCOLS] = { "tcp", "udp", "sctp" };

static void say_taken(const struct store *store, const Skep__PortConfig *p, char *reason)
{
    const char *name = "";

    for (const ProtobufCMessage *o = store_first(store, SKEP__KIND__KIND_SERVICE); o != NULL;
         o = store_after(store, SKEP__KIND__KIND_SERVICE, object_id(o))) {
        if (has_port(((const Skep__Service *)o)->endpoint, p))
            name = object_name(o);
    }
    (void)snprintf(reason, TEXT_BYTES_MAX, "port %u/%s is already in use by service '%s'",
                   p->published_port, protocol_names[p->protocol], name);
}

/* Not one that some service publishes on its hosts. */
static bool claim_dynamic(struct allocator *a, const Skep__PortConfig *p, uint64_t *ret)
{
    struct numbers *n = &a->ports[p->protocol];

    for (uint64_t tries = n->end - n->first; tries > 0; tries--) {
        size_t mark = claims_mark(a);

        if (!claim_next(a, n, ret))
            return false;
        if (a->host_ports[(size_t)p->protocol * PORTS + *ret] == 0)
            return true;
        claims_undo(a, mark);
    }
    return false;
}

static bool choose(struct allocator *a, Skep__PortConfig *p, const struct store *store,
                   char *reason)
{
    uint64_t port = 0;

    if (p->published_port != 0) {
        if (claim(a, &a->ports[p->protocol], p->published_port))
            return true;
        say_taken(store, p, reason);
        return false;
    }
    if (!claim_dynamic(a, p, &port)) {
        (void)snprintf(reason, TEXT_BYTES_MAX, "no free %s port from %d to %d",
                       protocol_names[p->protocol], ALLOCATOR_PORT_FIRST, ALLOCATOR_PORT_LAST);
        return false;
    }
    p->published_port = (uint32_t)port;
    return true;
}

bool ports_choose(struct allocator *a, const Skep__Service *s, const struct store *store,
                  Skep__Endpoint *ret, char *reason)
{
    const Skep__EndpointSpec *spec = s->spec->endpoint;
    size_t count = spec != NULL ? spec->n_ports : 0;
    bool *taken = arena_array(&a->scratch, s->endpoint != NULL ? s->endpoint->n_ports + 1 : 1,
                              sizeof(*taken));

    ret->ports = arena_array(&a->scratch, count + 1, sizeof(Skep__PortConfig *));
    ret->n_ports = count;
    /* Numbers that are asked for come before those that may be any. */
    for (int any = 0; any < 2; any++) {
        for (size_t i = 0; i < count; i++) {
            const Skep__PortConfig *want = spec->ports[i];
            size_t at = 0;

            if ((want->published_port == 0) != any)
                continue;
            ret->ports[i] = arena_dup(&a->scratch, want, sizeof(*want));
            if (!is_ingress(want) || (unsigned)want->protocol >= PROTOCOLS)
                continue;
            Skep__PortConfig *own = own_port(s->endpoint, want, taken, &at);
            if (own != NULL) {
                taken[at] = true;
                ret->ports[i]->published_port = own->published_port;
            } else if (!choose(a, ret->ports[i], store, reason)) {
                return false;
            }
        }
    }
    return true;
}
