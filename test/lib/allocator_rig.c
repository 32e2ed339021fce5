#include "test/lib/allocator_rig.h"

#include <string.h>

#include "common/assert.h"
#include "test/lib/spec_text.h"

static struct arena *arena(struct allocator_rig *r)
{
    return &r->core.f.arena;
}

void allocator_rig_init(struct allocator_rig *r, const char *pool, uint32_t subnet_size)
{
    r->a = allocator_new();
    core_rig_init(&r->core, &allocator_ops, r->a);
    Skep__Cluster *c = fixture_cluster(&r->core.f, "cluster");

    spec_set(
        &c->base, arena(r),
        arena_printf(arena(r), "spec.address_pools[0]=%s", pool != NULL ? pool : "10.0.0.0/8"));
    c->spec->subnet_size = subnet_size != 0 ? subnet_size : 20;
    core_rig_add(&r->core, c);
    (void)allocator_rig_run(r); /* host, bridge, none */
}

void allocator_rig_deinit(struct allocator_rig *r)
{
    allocator_free(r->a);
    core_rig_deinit(&r->core);
}

uint64_t allocator_rig_run(struct allocator_rig *r)
{
    struct err e = { 0 };
    uint64_t next = core_rig_run(&r->core);

    if (allocator_audit(r->a, r->core.f.s, &e) < 0) {
        (void)fprintf(stderr, "audit: %s\n", e.message);
        ASSERT(false);
    }
    return next;
}

void allocator_rig_restart(struct allocator_rig *r)
{
    allocator_ops.stop(r->a);
    core_rig_start(&r->core);
}

void rig_network(struct allocator_rig *r, const char *name, const char *assignments)
{
    Skep__Network n = SKEP__NETWORK__INIT;

    n.id = (char *)(uintptr_t)name;
    spec_set(&n.base, arena(r), arena_printf(arena(r), "spec.annotations.name=%s", name));
    spec_set(&n.base, arena(r), "spec.driver.name=overlay");
    spec_set_all(&n.base, arena(r), assignments);
    core_rig_add(&r->core, &n);
}

static void set_networks(struct allocator_rig *r, Skep__Service *s, const char *networks)
{
    char *list = arena_strdup(arena(r), networks), *save = NULL;
    size_t i = 0;

    s->spec->task->n_networks = 0;
    for (char *name = strtok_r(list, ",", &save); name != NULL; name = strtok_r(NULL, ",", &save)) {
        const Skep__Network *n = rig_net(r, name);

        spec_set(&s->base, arena(r),
                 arena_printf(arena(r), "spec.task.networks[%zu].target=%s", i++,
                              n != NULL ? n->id : name));
    }
}

static void set_port(struct allocator_rig *r, Skep__Service *s, size_t i, const char *port)
{
    static const char *const flags[][2] = {
        { "/udp", "protocol=PROTOCOL_UDP" },
        { "/sctp", "protocol=PROTOCOL_SCTP" },
        { "/host", "publish_mode=PUBLISH_HOST" },
    };
    unsigned published = 0, target = 0;

    if (sscanf(port, "%u:%u", &published, &target) != 2 && sscanf(port, ":%u", &target) != 1)
        ASSERT(false);
    spec_set_all(&s->base, arena(r),
                 arena_printf(arena(r),
                              "spec.endpoint.ports[%zu].published_port=%u "
                              "spec.endpoint.ports[%zu].target_port=%u",
                              i, published, i, target));
    for (size_t k = 0; k < ARRAY_LEN(flags); k++) {
        if (strstr(port, flags[k][0]) != NULL)
            spec_set(&s->base, arena(r),
                     arena_printf(arena(r), "spec.endpoint.ports[%zu].%s", i, flags[k][1]));
    }
}

static void set_ports(struct allocator_rig *r, Skep__Service *s, const char *ports)
{
    char *list = arena_strdup(arena(r), ports), *save = NULL;
    size_t i = 0;

    s->spec->endpoint->n_ports = 0;
    if (strstr(ports, "dnsrr") != NULL) {
        s->spec->endpoint->mode = SKEP__ENDPOINT_MODE__ENDPOINT_DNSRR;
        return;
    }
    for (char *port = strtok_r(list, ",", &save); port != NULL; port = strtok_r(NULL, ",", &save))
        set_port(r, s, i++, port);
}

void rig_service(struct allocator_rig *r, const char *name, const char *networks, const char *ports)
{
    Skep__Service *s = fixture_service(&r->core.f, name, name, 1);

    set_networks(r, s, networks);
    set_ports(r, s, ports);
    core_rig_add(&r->core, s);
}

void rig_service_update(struct allocator_rig *r, const char *name, const char *networks,
                        const char *ports)
{
    const Skep__Service *old = store_service(r->core.f.s, name);
    Skep__Service *s = fixture_service(&r->core.f, name, name, 1);

    set_networks(r, s, networks);
    set_ports(r, s, ports);
    store_tx_update(r->core.f.tx, &s->base, 0, old->meta->spec_version); /* an operator's */
    core_rig_apply(&r->core);
}

void rig_task(struct allocator_rig *r, const char *id, const char *service)
{
    Skep__Task *t = fixture_task(&r->core.f, id, service, 1);

    t->status->state = SKEP__TASK_STATE__TASK_NEW;
    core_rig_add(&r->core, t);
}

void rig_node(struct allocator_rig *r, const char *id, const char *assignments)
{
    Skep__Node *n = fixture_node(&r->core.f, id, id);

    n->status->address = (char *)"192.168.77.11";
    spec_set_all(&n->base, arena(r), assignments);
    core_rig_add(&r->core, n);
}

void rig_task_state(struct allocator_rig *r, const char *id, Skep__TaskState state)
{
    core_rig_delta(&r->core, id, 0, (int)state);
}

const Skep__Network *rig_net(struct allocator_rig *r, const char *name)
{
    return (const Skep__Network *)store_find_name(r->core.f.s, SKEP__KIND__KIND_NETWORK, name);
}

static char *join(struct allocator_rig *r, char *list, const char *text)
{
    return arena_printf(arena(r), "%s%s%s", list, list[0] != '\0' ? "," : "", text);
}

const char *rig_addresses(struct allocator_rig *r, const char *task)
{
    const Skep__Task *t = store_task(r->core.f.s, task);
    char *list = (char *)"";

    for (size_t i = 0; t != NULL && i < t->n_networks; i++) {
        for (size_t k = 0; k < t->networks[i]->n_addresses; k++)
            list = join(r, list, t->networks[i]->addresses[k]);
    }
    return t != NULL ? list : "-";
}

const char *rig_vips(struct allocator_rig *r, const char *service)
{
    const Skep__Service *s = store_service(r->core.f.s, service);
    char *list = (char *)"";

    for (size_t i = 0; s != NULL && s->endpoint != NULL && i < s->endpoint->n_virtual_ips; i++)
        list = join(r, list, s->endpoint->virtual_ips[i]->address);
    return s != NULL ? list : "-";
}

const char *rig_ports(struct allocator_rig *r, const char *service)
{
    static const char *const protocols[] = { "tcp", "udp", "sctp" };
    const Skep__Service *s = store_service(r->core.f.s, service);
    char *list = (char *)"";

    if (s == NULL || s->endpoint == NULL)
        return "-";
    for (size_t i = 0; i < s->endpoint->n_ports; i++) {
        const Skep__PortConfig *p = s->endpoint->ports[i];

        list = join(r, list,
                    arena_printf(arena(r), "%u:%u/%s", p->published_port, p->target_port,
                                 protocols[p->protocol]));
    }
    if (s->endpoint->error[0] != '\0')
        list = arena_printf(arena(r), "%s!%s", list, s->endpoint->error);
    return list;
}
