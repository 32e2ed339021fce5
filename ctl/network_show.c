/* network ls and inspect: docker's columns and JSON, and what -v adds: services, virtual addresses
 * and endpoints per node. */
#include <string.h>

#include "common/text.h"
#include "ctl/json.h"
#include "ctl/objects.h"
#include "ctl/output.h"
#include "ctl/parse.h"

#define PREDEFINED "com.docker.swarm.predefined"

static const struct column network_columns[] = {
    { "ID", "NETWORK ID" },     { "Name", "NAME" },
    { "Driver", "DRIVER" },     { "Scope", "SCOPE" },
    { "IPv4", "IPV4" },         { "IPv6", "IPV6" },
    { "Internal", "INTERNAL" }, { "CreatedAt", "CREATED AT" },
    { "Labels", "LABELS" },     { NULL, NULL },
};

static const struct listing network_listing = {
    .columns = network_columns,
    .table = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    .raw = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
};

bool network_is_predefined(const Skep__Network *n)
{
    const Skep__Annotations *a = n->spec->annotations;

    return kv_get(a->n_labels, a->labels, PREDEFINED)[0] != '\0';
}

int network_get(struct ctl *c, const char *ref, Skep__Network **ret, struct err *e)
{
    Skep__Object *o = NULL;
    int rc = object_get(c, SKEP__KIND__KIND_NETWORK, ref, &o, e);

    if (rc == -ERR_NOT_FOUND)
        return err_set(e, ERR_NOT_FOUND, "network %.80s not found", ref);
    if (rc < 0)
        return rc;
    if (o->object_case != SKEP__OBJECT__OBJECT_NETWORK || o->network->spec == NULL ||
        o->network->spec->annotations == NULL)
        return err_set(e, ERR_PROTO, "managerd answered with something else than a network");
    *ret = o->network;
    return 0;
}

static const char *driver_of(const Skep__Network *n)
{
    return n->spec->driver != NULL ? n->spec->driver->name : "";
}

static const char *scope_of(const Skep__Network *n)
{
    return n->spec->scope[0] != '\0' ? n->spec->scope : "swarm";
}

/* ---- ls ---- */

/* Filters that managerd does not know are applied here: driver, scope, type, dangling. */
struct local_filter {
    struct strings drivers, scopes;
    const char *type;     /* "custom", "builtin" or NULL */
    const char *dangling; /* "true", "false" or NULL */
};

static int ls_filter(struct ctl *c, Skep__ObjectFilter *f, struct local_filter *l, struct err *e)
{
    static const char *const keys[] = { "driver", "id",   "label",    "name",
                                        "scope",  "type", "dangling", NULL };

    for (size_t i = 0; i < flags_list_count(c->flags, "filter"); i++) {
        const char *key, *value;
        int rc =
            filter_parse(&c->arena, flags_list_at(c->flags, "filter", i), keys, &key, &value, e);

        if (rc < 0)
            return rc;
        if (strcmp(key, "id") == 0)
            LIST_ADD(&c->arena, f->n_ids, f->ids, arena_strdup(&c->arena, value));
        else if (strcmp(key, "name") == 0)
            LIST_ADD(&c->arena, f->n_names, f->names, arena_strdup(&c->arena, value));
        else if (strcmp(key, "label") == 0)
            rc = parse_label(&c->arena, value, &f->n_labels, &f->labels, e);
        else if (strcmp(key, "driver") == 0)
            strings_add(&c->arena, &l->drivers, value);
        else if (strcmp(key, "scope") == 0)
            strings_add(&c->arena, &l->scopes, value);
        else if (strcmp(key, "type") == 0)
            l->type = value;
        else
            l->dangling = value;
        if (l->type != NULL && strcmp(l->type, "custom") != 0 && strcmp(l->type, "builtin") != 0)
            rc = err_set(e, ERR_INVALID, "invalid filter: 'type=%.40s'; use custom or builtin",
                         value);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static bool network_used(const Skep__Network *n, const struct objects *services)
{
    for (size_t i = 0; i < services->count; i++) {
        const Skep__Service *s = services->items[i]->service;

        for (size_t k = 0; s->spec->task != NULL && k < s->spec->task->n_networks; k++)
            if (strcmp(s->spec->task->networks[k]->target, n->id) == 0)
                return true;
        for (size_t k = 0; s->endpoint != NULL && k < s->endpoint->n_virtual_ips; k++)
            if (strcmp(s->endpoint->virtual_ips[k]->network_id, n->id) == 0)
                return true;
    }
    return false;
}

static bool matches(const Skep__Network *n, const struct local_filter *l,
                    const struct objects *services)
{
    bool builtin = n->spec->ingress || network_is_predefined(n);

    if (l->drivers.count > 0 && !strings_has(&l->drivers, driver_of(n)))
        return false;
    if (l->scopes.count > 0 && !strings_has(&l->scopes, scope_of(n)))
        return false;
    if (l->type != NULL && (strcmp(l->type, "builtin") == 0) != builtin)
        return false;
    if (l->dangling == NULL)
        return true;
    return (strcmp(l->dangling, "true") == 0) == (!builtin && !network_used(n, services));
}

static json_t *network_row(struct ctl *c, const Skep__Network *n)
{
    const Skep__Annotations *a = n->spec->annotations;
    const char *labels = "";
    char time[TEXT_TIME_MAX];
    json_t *o = json_object();

    for (size_t i = 0; i < a->n_labels; i++)
        labels = arena_printf(&c->arena, "%s%s%s=%s", labels, i > 0 ? "," : "", a->labels[i]->key,
                              a->labels[i]->value);
    json_set_string(o, "ID", flags_bool(c->flags, "no-trunc") ? n->id : id_short(&c->arena, n->id));
    json_set_string(o, "Name", a->name);
    (void)json_object_set_new(o, "Driver", json_string(driver_of(n)));
    json_set_string(o, "Scope", scope_of(n));
    (void)json_object_set_new(o, "IPv4", json_string("true"));
    (void)json_object_set_new(o, "IPv6", json_string(n->spec->ipv6 ? "true" : "false"));
    (void)json_object_set_new(o, "Internal", json_string(n->spec->internal ? "true" : "false"));
    (void)json_object_set_new(
        o, "CreatedAt",
        json_string(text_format_time_utc(time, n->meta != NULL ? n->meta->created_at : 0)));
    (void)json_object_set_new(o, "Labels", json_string(labels));
    (void)json_object_set_new(o, "_labels", json_map(a->n_labels, a->labels));
    return o;
}

static int compare_networks(const void *a, const void *b)
{
    const Skep__Network *x = (*(Skep__Object *const *)a)->network;
    const Skep__Network *y = (*(Skep__Object *const *)b)->network;
    int order = text_compare_natural(x->spec->annotations->name, y->spec->annotations->name);

    return order != 0 ? order : strcmp(x->id, y->id);
}

int network_ls(struct ctl *c)
{
    Skep__ObjectFilter f = SKEP__OBJECT_FILTER__INIT;
    struct local_filter local = { 0 };
    struct objects networks, services = { 0 };
    struct err e = { 0 };
    json_t *rows;
    int rc = ls_filter(c, &f, &local, &e);

    if (rc < 0)
        return ctl_error(c, rc, &e);
    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    rc = object_list(c, SKEP__KIND__KIND_NETWORK, &f, &networks, &e);
    if (rc == 0 && local.dangling != NULL)
        rc = object_list(c, SKEP__KIND__KIND_SERVICE, NULL, &services, &e);
    if (rc < 0)
        return ctl_error(c, rc, &e);
    if (networks.count > 1)
        qsort(networks.items, networks.count, sizeof(*networks.items), compare_networks);
    rows = json_array();
    for (size_t i = 0; i < networks.count; i++)
        if (matches(networks.items[i]->network, &local, &services))
            (void)json_array_append_new(rows, network_row(c, networks.items[i]->network));
    return output_rows(c, &network_listing, rows);
}

/* ---- inspect ---- */

static json_t *service_ports_json(struct ctl *c, const Skep__Service *s)
{
    json_t *list = json_array();

    for (size_t i = 0; s->endpoint != NULL && i < s->endpoint->n_ports; i++) {
        const Skep__PortConfig *p = s->endpoint->ports[i];

        (void)json_array_append_new(list,
                                    json_string(arena_printf(&c->arena, "Target: %u, Publish: %u",
                                                             p->target_port, p->published_port)));
    }
    return list;
}

static const char *bare_address(struct ctl *c, const char *cidr)
{
    return arena_printf(&c->arena, "%.*s", (int)strcspn(cidr, "/"), cidr);
}

static const char *vip_of(struct ctl *c, const Skep__Service *s, const char *network_id)
{
    for (size_t i = 0; s->endpoint != NULL && i < s->endpoint->n_virtual_ips; i++)
        if (strcmp(s->endpoint->virtual_ips[i]->network_id, network_id) == 0)
            return bare_address(c, s->endpoint->virtual_ips[i]->address);
    return "";
}

static const Skep__NetworkAttachment *attachment_of(const Skep__Task *t, const char *network_id)
{
    for (size_t i = 0; i < t->n_networks; i++)
        if (strcmp(t->networks[i]->network_id, network_id) == 0 && t->networks[i]->n_addresses > 0)
            return t->networks[i];
    return NULL;
}

struct verbose {
    const Skep__Network *network;
    struct objects services, tasks, nodes;
};

static json_t *task_entry_json(struct ctl *c, const struct verbose *v, const Skep__Task *t,
                               const Skep__Service *s)
{
    const Skep__NetworkAttachment *at = attachment_of(t, v->network->id);
    const Skep__Node *node = objects_node(&v->nodes, t->node_id);
    json_t *o = json_object();
    json_t *info = json_object();

    (void)json_object_set_new(
        o, "Name",
        json_string(t->slot > 0
                        ? arena_printf(&c->arena, "%s.%llu.%s", service_name(s),
                                       (unsigned long long)t->slot, t->id)
                        : arena_printf(&c->arena, "%s.%s.%s", service_name(s), t->node_id, t->id)));
    (void)json_object_set_new(o, "EndpointID", json_string(t->id));
    (void)json_object_set_new(o, "EndpointIP", json_string(bare_address(c, at->addresses[0])));
    (void)json_object_set_new(
        info, "Host IP",
        json_string(node != NULL && node->status != NULL ? node->status->address : ""));
    (void)json_object_set_new(info, "Host", json_string(node != NULL ? node_name(node) : ""));
    (void)json_object_set_new(
        info, "State",
        json_string(
            text_task_state(t->status != NULL ? t->status->state : SKEP__TASK_STATE__TASK_NEW)));
    (void)json_object_set_new(o, "Info", info);
    return o;
}

static bool occupies(const Skep__Task *t)
{
    return t->status == NULL || t->status->state <= SKEP__TASK_STATE__TASK_RUNNING;
}

static json_t *services_json(struct ctl *c, const struct verbose *v)
{
    json_t *all = json_object();

    for (size_t i = 0; i < v->services.count; i++) {
        const Skep__Service *s = v->services.items[i]->service;
        const char *vip = vip_of(c, s, v->network->id);
        json_t *tasks = json_array();

        for (size_t k = 0; k < v->tasks.count; k++) {
            const Skep__Task *t = v->tasks.items[k]->task;

            if (strcmp(t->service_id, s->id) == 0 && occupies(t) &&
                attachment_of(t, v->network->id) != NULL)
                (void)json_array_append_new(tasks, task_entry_json(c, v, t, s));
        }
        if (vip[0] == '\0' && json_array_size(tasks) == 0) {
            json_decref(tasks);
            continue;
        }
        (void)json_object_set_new(all, service_name(s),
                                  json_pack("{sssosiso}", "VIP", vip, "Ports",
                                            service_ports_json(c, s), "LocalLBIndex", 0, "Tasks",
                                            tasks));
    }
    return all;
}

/* Nodes that have a task in the network. */
static json_t *peers_json(const struct verbose *v)
{
    json_t *list = json_array();

    for (size_t i = 0; i < v->nodes.count; i++) {
        const Skep__Node *n = v->nodes.items[i]->node;
        bool here = v->network->spec->ingress;

        for (size_t k = 0; !here && k < v->tasks.count; k++) {
            const Skep__Task *t = v->tasks.items[k]->task;

            here = strcmp(t->node_id, n->id) == 0 && occupies(t) &&
                   attachment_of(t, v->network->id) != NULL;
        }
        if (here)
            (void)json_array_append_new(list,
                                        json_pack("{ssss}", "Name", node_name(n), "IP",
                                                  n->status != NULL ? n->status->address : ""));
    }
    return list;
}

static int inspect_verbose(struct ctl *c, const Skep__Network *n, json_t *o, struct err *e)
{
    struct verbose v = { .network = n };
    int rc = object_list(c, SKEP__KIND__KIND_SERVICE, NULL, &v.services, e);

    if (rc == 0)
        rc = object_list(c, SKEP__KIND__KIND_TASK, NULL, &v.tasks, e);
    if (rc == 0)
        rc = object_list(c, SKEP__KIND__KIND_NODE, NULL, &v.nodes, e);
    if (rc < 0)
        return rc;
    (void)json_object_set_new(o, "Peers", peers_json(&v));
    (void)json_object_set_new(o, "Services", services_json(c, &v));
    return 0;
}

static int inspect_one(struct ctl *c, const char *ref, void *objects, struct err *e)
{
    Skep__Network *n = NULL;
    int rc = network_get(c, ref, &n, e);
    json_t *o = rc == 0 ? json_network(n) : NULL;

    if (rc == 0 && flags_bool(c->flags, "verbose"))
        rc = inspect_verbose(c, n, o, e);
    if (rc == 0)
        (void)json_array_append(objects, o);
    json_decref(o);
    return rc;
}

int network_inspect(struct ctl *c)
{
    return output_inspected(c, inspect_one);
}
