/* Services: virtual addresses and published ports. */
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "common/hash.h"
#include "common/message.h"
#include "managerd/allocator/internal.h"

/* ---- the index ---- */

static bool service_match(const void *value, const void *key)
{
    return strcmp(((const struct service *)value)->id, key) == 0;
}

struct service *service_find(const struct allocator *a, const char *id)
{
    return map_find(&a->services_by_id, hash_str(id, 0), service_match, id);
}

static struct service **list_of(struct allocator *a, const struct service *s)
{
    switch (s->state) {
    case SERVICE_DUE:
        return &a->due;
    case SERVICE_FLYING:
        return &a->flying_services;
    case SERVICE_BLOCKED:
        return &a->blocked_services;
    case SERVICE_READY:
        break;
    }
    return NULL;
}

static void leave(struct allocator *a, struct service *s)
{
    struct service **list = list_of(a, s);

    if (list != NULL)
        DL_DELETE(*list, s);
}

static void enter(struct allocator *a, struct service *s, enum service_state state)
{
    s->state = state;
    struct service **list = list_of(a, s);

    if (list != NULL)
        DL_APPEND(*list, s);
}

/* All of a list are due. */
static void make_due(struct allocator *a, struct service **list)
{
    while (*list != NULL) {
        struct service *s = *list;

        leave(a, s);
        enter(a, s, SERVICE_DUE);
    }
}

static void move(struct allocator *a, const Skep__Endpoint *e, bool take)
{
    if (e == NULL)
        return;
    for (size_t i = 0; i < e->n_virtual_ips; i++) {
        if (take)
            net_take(a, e->virtual_ips[i]->network_id, e->virtual_ips[i]->address);
        else
            net_give(a, e->virtual_ips[i]->network_id, e->virtual_ips[i]->address);
    }
    if (take) {
        ports_take(a, e);
    } else {
        ports_give(a, e);
        a->freed |= e->n_ports > 0;
    }
}

void service_event(struct allocator *a, const Skep__Service *before, const Skep__Service *after)
{
    const Skep__Endpoint *was = before != NULL ? before->endpoint : NULL;
    const Skep__Endpoint *is = after != NULL ? after->endpoint : NULL;
    struct service *s = service_find(a, before != NULL ? before->id : after->id);
    bool same = message_equal((const ProtobufCMessage *)was, (const ProtobufCMessage *)is);

    if (!same) {
        move(a, was, false);
        move(a, is, true);
    }
    if (after == NULL) {
        if (s != NULL) {
            leave(a, s);
            map_remove(&a->services_by_id, hash_str(s->id, 0), s);
            free(s);
        }
        return;
    }
    if (s == NULL) {
        s = xcalloc(1, sizeof(*s));
        (void)snprintf(s->id, sizeof(s->id), "%s", after->id);
        map_add(&a->services_by_id, hash_str(s->id, 0), s);
        enter(a, s, SERVICE_DUE);
    } else if (!same || before == NULL || before->meta->spec_version != after->meta->spec_version) {
        leave(a, s);
        enter(a, s, SERVICE_DUE);
    }
}

void services_clear(struct allocator *a)
{
    size_t at = 0;

    for (void *s = map_each(&a->services_by_id, &at); s != NULL;
         s = map_each(&a->services_by_id, &at))
        free(s);
    map_deinit(&a->services_by_id);
    a->services_by_id = (struct map){ 0 };
    a->due = a->flying_services = a->blocked_services = NULL;
}

void services_retry(struct allocator *a)
{
    make_due(a, &a->blocked_services);
}

/* The events of a transaction that landed have made its services due already. */
void services_settle(struct allocator *a)
{
    make_due(a, &a->flying_services);
}

/* ---- choosing ---- */

struct choice {
    struct allocator *a;
    const Skep__Service *service;
    Skep__Endpoint next;
    char reason[TEXT_BYTES_MAX];
};

static Skep__VirtualIp *own_vip(const Skep__Service *s, const struct net *n)
{
    struct ip_net address;

    for (size_t i = 0; s->endpoint != NULL && i < s->endpoint->n_virtual_ips; i++) {
        Skep__VirtualIp *v = s->endpoint->virtual_ips[i];

        if (strcmp(v->network_id, n->id) == 0 &&
            ip_net_parse_host(v->address, &address, NULL) == 0 &&
            ip_net_has(&n->pools[0].subnet, &address.address))
            return v;
    }
    return NULL;
}

void say_full(const struct net *n, size_t pool, char *reason)
{
    char subnet[IP_NET_CHARS + 1];
    const struct pool *p = &n->pools[pool];

    (void)snprintf(reason, TEXT_BYTES_MAX, "network %s: no free address in %s (%lu in use)",
                   n->name, ip_net_format(&p->subnet, subnet), (unsigned long)pool_used(p));
}

/* "" while it is only a matter of time. */
void say_unallocated(const struct allocator *a, const struct net *n, char *reason)
{
    const Skep__Network *object =
        (const Skep__Network *)store_get(a->store, SKEP__KIND__KIND_NETWORK, n->id);

    if (object != NULL && object->error[0] != '\0')
        (void)snprintf(reason, TEXT_BYTES_MAX, "network %s: %s", n->name, object->error);
}

static bool add_vip(struct choice *c, struct net *n)
{
    struct allocator *a = c->a;

    if (!n->overlay)
        return true;
    if (!n->allocated) {
        say_unallocated(a, n, c->reason);
        return false;
    }
    Skep__VirtualIp *vip = own_vip(c->service, n);
    if (vip == NULL) {
        vip = arena_alloc(&a->scratch, sizeof(*vip));
        skep__virtual_ip__init(vip);
        vip->network_id = n->id;
        vip->address = pool_claim(a, &n->pools[0]);
        if (vip->address == NULL) {
            say_full(n, 0, c->reason);
            return false;
        }
    }
    c->next.virtual_ips[c->next.n_virtual_ips++] = vip;
    return true;
}

static bool add_vips(struct choice *c)
{
    const Skep__ServiceSpec *spec = c->service->spec;
    const Skep__TaskSpec *task = spec->task;
    size_t count = task != NULL ? task->n_networks : 0;
    struct net *ingress = net_ingress(c->a);

    if (spec_has_ingress(spec->endpoint) && ingress == NULL) {
        (void)snprintf(c->reason, sizeof(c->reason),
                       "there is no ingress network for published ports: ctl network create "
                       "--driver overlay --ingress NAME");
        return false;
    }
    if (spec->endpoint != NULL && spec->endpoint->mode == SKEP__ENDPOINT_MODE__ENDPOINT_DNSRR)
        return true;
    c->next.virtual_ips = arena_array(&c->a->scratch, count + 1, sizeof(Skep__VirtualIp *));
    for (size_t i = 0; i < count; i++) {
        struct net *n = net_find(c->a, task->networks[i]->target);

        if (n == NULL) {
            (void)snprintf(c->reason, sizeof(c->reason), "network %s not found",
                           task->networks[i]->target);
            return false;
        }
        if (!add_vip(c, n))
            return false;
    }
    return !spec_has_ingress(spec->endpoint) || add_vip(c, ingress);
}

/* Chooses what is missing; all or nothing. */
static bool choose(struct choice *c)
{
    size_t mark = claims_mark(c->a);

    skep__endpoint__init(&c->next);
    c->next.spec = c->service->spec->endpoint;
    if (ports_choose(c->a, c->service, c->a->store, &c->next, c->reason) && add_vips(c))
        return true;
    claims_undo(c->a, mark);
    return false;
}

static enum service_state evaluate(struct allocator *a, const Skep__Service *s, struct store_tx *tx)
{
    struct choice c = { .a = a, .service = s };
    bool done = choose(&c);

    if (!done) { /* what it has, it keeps */
        skep__endpoint__init(&c.next);
        if (s->endpoint != NULL)
            c.next = *s->endpoint;
        c.next.error = c.reason;
    }
    bool nothing = s->endpoint == NULL && c.next.n_ports == 0 && c.next.n_virtual_ips == 0 &&
                   c.next.error[0] == '\0';
    if (nothing || message_equal(&c.next.base, (const ProtobufCMessage *)s->endpoint))
        return done ? SERVICE_READY : SERVICE_BLOCKED;
    Skep__Service next = *s;

    next.endpoint = &c.next;
    store_tx_update(tx, &next.base, s->meta->version, 0);
    return SERVICE_FLYING;
}

static void all_due(struct allocator *a)
{
    for (const ProtobufCMessage *o = store_first(a->store, SKEP__KIND__KIND_SERVICE); o != NULL;
         o = store_after(a->store, SKEP__KIND__KIND_SERVICE, object_id(o))) {
        struct service *s = service_find(a, object_id(o));

        if (s == NULL || s->state == SERVICE_DUE)
            continue;
        leave(a, s);
        enter(a, s, SERVICE_DUE);
    }
}

void services_run(struct allocator *a, const struct core_env *env, struct store_tx *tx)
{
    if (a->services_due)
        all_due(a);
    a->services_due = false;
    for (struct service *s = a->due; s != NULL && !store_tx_full(tx); s = a->due) {
        const Skep__Service *object = store_service(env->store, s->id);

        leave(a, s);
        enter(a, s,
              object != NULL && object->spec != NULL ? evaluate(a, object, tx) : SERVICE_READY);
        if (s->state != SERVICE_FLYING)
            a->retry_tasks = a->retry_now = true;
    }
}
