#include "agentd/worker/networks.h"

#include <string.h>

#include "agentd/worker/build.h"
#include "agentd/worker/gate.h"
#include "agentd/worker/plain.h"

/* ---- which are which ---- */

static const Skep__Network *engine_network(const Skep__TaskAssignment *a, const char *target)
{
    for (size_t i = 0; i < a->n_networks; i++) {
        const Skep__Network *n = a->networks[i];

        if (n->spec == NULL || n->spec->annotations == NULL)
            continue;
        if (strcmp(n->id, target) == 0 || strcmp(n->spec->annotations->name, target) == 0)
            return n;
    }
    return NULL;
}

size_t networks_overlays(const Skep__TaskAssignment *a, struct arena *arena,
                         Skep__NetworkAttachment ***ret)
{
    size_t count = 0;

    *ret = arena_array(arena, a->task->n_networks + 1, sizeof(**ret));
    for (size_t i = 0; i < a->task->n_networks; i++)
        if (engine_network(a, a->task->networks[i]->network_id) == NULL)
            (*ret)[count++] = a->task->networks[i];
    return count;
}

bool networks_has_overlay(const Skep__TaskAssignment *a)
{
    for (size_t i = 0; a->task != NULL && i < a->task->n_networks; i++)
        if (engine_network(a, a->task->networks[i]->network_id) == NULL)
            return true;
    return false;
}

/* "host", "bridge", "none" for the engine's own, else NULL. */
static const char *predefined(const char *name)
{
    static const char *const names[] = { "host", "bridge", "none" };

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(name, names[i]) == 0)
            return names[i];
    return NULL;
}

bool networks_uses_engine(const Skep__TaskAssignment *a, const char *network_id)
{
    const Skep__Network *n = engine_network(a, network_id);

    return n != NULL && predefined(n->spec->annotations->name) == NULL;
}

/* ---- networks that the engine is to have ---- */

static void add_ipam(struct build *b, json_t *body, const Skep__NetworkSpec *spec)
{
    json_t *ipam, *list, *o, *reserved;

    if (spec->n_ipam == 0)
        return;
    ipam = build_object(b, body, "IPAM");
    build_str(b, ipam, "Driver", "default");
    list = build_array(b, ipam, "Config");
    for (size_t i = 0; i < spec->n_ipam; i++) {
        const Skep__IpamConfig *c = spec->ipam[i];

        o = build_append_object(b, list);
        build_str_if(b, o, "Subnet", c->subnet);
        build_str_if(b, o, "IPRange", c->range);
        build_str_if(b, o, "Gateway", c->gateway);
        if (c->n_reserved == 0)
            continue;
        reserved = build_object(b, o, "AuxiliaryAddresses");
        for (size_t k = 0; k < c->n_reserved; k++)
            build_str(b, reserved, c->reserved[k]->key, c->reserved[k]->value);
    }
}

/* POST /networks/create */
static char *create_body(struct build *b, const Skep__Network *n)
{
    const Skep__NetworkSpec *spec = n->spec;
    json_t *o = json_object(), *labels;
    char *text;

    build_str(b, o, "Name", spec->annotations->name);
    build_bool(b, o, "CheckDuplicate", true); /* names are not unique by themselves before 1.44 */
    build_str(b, o, "Driver", spec->driver == NULL ? "bridge" : spec->driver->name);
    if (spec->internal)
        build_bool(b, o, "Internal", true);
    if (spec->ipv6)
        build_bool(b, o, "EnableIPv6", true);
    if (spec->attachable)
        build_bool(b, o, "Attachable", true);
    if (spec->driver != NULL && spec->driver->n_options > 0)
        build_map(b, o, "Options", spec->driver->options, spec->driver->n_options);
    add_ipam(b, o, spec);
    labels = build_object(b, o, "Labels");
    for (size_t i = 0; i < spec->annotations->n_labels; i++)
        build_str(b, labels, spec->annotations->labels[i]->key,
                  spec->annotations->labels[i]->value);
    build_str(b, labels, LABEL_NETWORK_ID, n->id);
    build_str(b, labels, LABEL_CLUSTER, b->node->cluster_id);
    text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(o);
    if (text == NULL)
        build_fail(b, "network: not valid text");
    return text;
}

/* What the engine is told of one endpoint; the default bridge takes none of it. */
static void add_endpoint(struct build *b, json_t *o, const char *key,
                         const Skep__NetworkAttachmentConfig *c)
{
    json_t *endpoint = build_object(b, o, key);

    build_strings_if(b, endpoint, "Aliases", c->aliases, c->n_aliases);
    if (c->n_driver_options > 0)
        build_map(b, endpoint, "DriverOpts", c->driver_options, c->n_driver_options);
}

/* POST /networks/<name>/connect without the container, which does not exist yet. */
static char *connect_body(struct build *b, const Skep__NetworkAttachmentConfig *c)
{
    json_t *o = json_object();
    char *text;

    add_endpoint(b, o, "EndpointConfig", c);
    text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(o);
    if (text == NULL)
        build_fail(b, "network: not valid text");
    return text;
}

/* The first one is the container's mode; engines before API 1.44 take no second one at creation,
 * so the others are connected before the start. */
static void plan_network(struct build *b, json_t *body, json_t *host,
                         const Skep__NetworkAttachmentConfig *c)
{
    struct container_plan *p = b->plan;
    const Skep__Network *n = engine_network(b->assignment, c->target);
    const char *name = n == NULL ? c->target : n->spec->annotations->name;
    bool own = predefined(name) != NULL;
    struct container_network *net;
    json_t *o;

    p->networks = xrealloc_array(p->networks, p->network_count + 1, sizeof(p->networks[0]));
    net = &p->networks[p->network_count];
    *net = (struct container_network){ .name = xstrdup(name), .id = n == NULL ? "" : n->id };
    if (!own)
        net->create_body = create_body(b, n);
    if (p->network_count++ == 0) {
        build_str(b, host, "NetworkMode", name);
        if (!own) {
            o = build_object(b, build_object(b, body, "NetworkingConfig"), "EndpointsConfig");
            add_endpoint(b, o, name, c);
        }
        return;
    }
    net->connect_body = connect_body(b, c);
}

static bool is_alone(const char *name)
{
    return strcmp(name, "host") == 0 || strcmp(name, "none") == 0;
}

void build_networks(struct build *b, json_t *body, json_t *host)
{
    const Skep__TaskSpec *t = b->assignment->spec->task;
    struct container_plan *p = b->plan;
    bool overlay = networks_has_overlay(b->assignment);

    if (t->n_networks > NETWORKS_MAX || b->assignment->task->n_networks > NETWORKS_MAX) {
        build_fail(b, "more than %d networks", NETWORKS_MAX);
        return;
    }
    for (size_t i = 0; i < t->n_networks && b->rc == 0; i++)
        if (predefined(t->networks[i]->target) != NULL ||
            engine_network(b->assignment, t->networks[i]->target) != NULL)
            plan_network(b, body, host, t->networks[i]);
    for (size_t i = 0; i < p->network_count; i++)
        if (is_alone(p->networks[i].name) && (p->network_count > 1 || overlay))
            build_fail(b, "network %s cannot be combined with others", p->networks[i].name);
    if (overlay && p->network_count == 0)
        build_str(b, host, "NetworkMode", "none");
}

/* ---- the gate ---- */

static void add_mount(struct build *b, json_t *list, const char *source, const char *target)
{
    json_t *o = build_append_object(b, list);

    build_str(b, o, "Type", "bind");
    build_str(b, o, "Source", source);
    build_str(b, o, "Target", target);
    build_bool(b, o, "ReadOnly", true);
}

/* As the engine puts them together: a command replaces the image's entrypoint and its arguments. */
static void add_argv(struct build *b, json_t *list)
{
    const Skep__ContainerSpec *c = b->spec;
    const struct container_overlay *o = b->node->overlay;
    char *const *first = c->n_command > 0 ? c->command : o->entrypoint;
    size_t first_count = c->n_command > 0 ? c->n_command : o->entrypoint_count;
    char *const *rest = c->n_command > 0 || c->n_args > 0 ? c->args : o->cmd;
    size_t rest_count = c->n_command > 0 || c->n_args > 0 ? c->n_args : o->cmd_count;

    if (first_count + rest_count == 0) {
        build_fail(b, "no command specified");
        return;
    }
    for (size_t i = 0; i < first_count; i++)
        build_append_str(b, list, first[i]);
    for (size_t i = 0; i < rest_count; i++)
        build_append_str(b, list, rest[i]);
}

void build_gate(struct build *b, json_t *body, json_t *host)
{
    json_t *list;
    char *dir;

    if (b->node->overlay == NULL) {
        build_fail(b, "overlay networks are not available on this node");
        return;
    }
    b->plan->gate = true;
    list = build_array(b, body, "Entrypoint");
    build_append_str(b, list, GATE_PROGRAM);
    build_append_str(b, list, GATE_TASK_DIR);
    add_argv(b, build_array(b, body, "Cmd"));
    list = json_object_get(host, "Mounts");
    if (list == NULL)
        list = build_array(b, host, "Mounts");
    add_mount(b, list, b->node->overlay->gate_program, GATE_PROGRAM);
    dir = xasprintf("%s/" CONTAINER_GATE_DIR, b->node->files_dir);
    add_mount(b, list, dir, GATE_TASK_DIR);
    free(dir);
}

/* The engine answers names itself in networks that it makes, with ndots:0; when told of an ndots it
 * does not pass names without a dot on to us. */
static bool has_engine_names(const struct container_plan *p)
{
    for (size_t i = 0; i < p->network_count; i++)
        if (p->networks[i].create_body != NULL)
            return true;
    return false;
}

/* Our name server on the networks' gateways is the only one: it forwards what it does not know
 * to those of the service (net.h) or the host's. ndots:0, so that a service's name is asked for as
 * it is first. */
void build_overlay_dns(struct build *b, json_t *host)
{
    const Skep__ContainerSpec *c = b->spec;
    const struct container_overlay *o = b->node->overlay;
    bool ndots = has_engine_names(b->plan);
    json_t *list;

    if (o == NULL)
        return; /* build_gate() says so */
    list = build_array(b, host, "Dns");
    for (size_t i = 0; i < o->nameserver_count; i++)
        build_append_str(b, list, o->nameservers[i]);
    if (ndots && c->n_dns_options == 0)
        return;
    list = build_array(b, host, "DnsOptions");
    for (size_t i = 0; i < c->n_dns_options; i++) {
        ndots = ndots || strncmp(c->dns_options[i], "ndots:", 6) == 0;
        build_append_str(b, list, c->dns_options[i]);
    }
    if (!ndots)
        build_append_str(b, list, "ndots:0");
}
