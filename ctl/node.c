/* node ls, ps, inspect, update, promote, demote, rm. */
#include <string.h>

#include "common/text.h"
#include "ctl/json.h"
#include "ctl/objects.h"
#include "ctl/output.h"
#include "ctl/parse.h"

enum { CONFLICT_RETRIES = 5 };

static const struct column node_columns[] = {
    { "ID", "ID" },
    { "Self", "" },
    { "Hostname", "HOSTNAME" },
    { "Status", "STATUS" },
    { "Availability", "AVAILABILITY" },
    { "ManagerStatus", "MANAGER STATUS" },
    { "EngineVersion", "ENGINE VERSION" },
    { "TLSStatus", "TLS STATUS" },
    { NULL, NULL },
};

static const struct listing node_listing = {
    .columns = node_columns,
    .table = "{{.ID}} {{if eq .Self true}}*{{else}} {{end}}\t{{.Hostname}}\t{{.Status}}\t"
             "{{.Availability}}\t{{.ManagerStatus}}\t{{.EngineVersion}}",
    .raw = "node_id: {{.ID}}\nhostname: {{.Hostname}}\nstatus: {{.Status}}\n"
           "availability: {{.Availability}}\nmanager_status: {{.ManagerStatus}}\n",
};

/* ---- ls ---- */

static int node_filter(struct ctl *c, Skep__ObjectFilter *f, bool *ret_none, struct err *e)
{
    static const char *const keys[] = { "id",   "label", "node.label", "membership",
                                        "name", "role",  NULL };

    for (size_t i = 0; i < flags_list_count(c->flags, "filter"); i++) {
        const char *key;
        const char *value;
        Skep__NodeRole role;
        Skep__NodeRole *roles;
        int rc =
            filter_parse(&c->arena, flags_list_at(c->flags, "filter", i), keys, &key, &value, e);

        if (rc < 0)
            return rc;
        if (strcmp(key, "id") == 0) {
            LIST_ADD(&c->arena, f->n_ids, f->ids, arena_strdup(&c->arena, value));
        } else if (strcmp(key, "name") == 0) {
            LIST_ADD(&c->arena, f->n_names, f->names, arena_strdup(&c->arena, value));
        } else if (strcmp(key, "label") == 0) {
            rc = parse_label(&c->arena, value, &f->n_labels, &f->labels, e);
        } else if (strcmp(key, "node.label") == 0) {
            rc = parse_label(&c->arena, value, &f->n_node_labels, &f->node_labels, e);
        } else if (strcmp(key, "membership") == 0) {
            *ret_none |= strcmp(value, "accepted") != 0; /* whoever is listed was accepted */
        } else if (!role_parse(value, &role)) {
            rc = err_set(e, ERR_INVALID, "invalid role filter: '%.40s'; use worker or manager",
                         value);
        } else {
            roles = arena_array(&c->arena, f->n_roles + 1, sizeof(*roles));
            for (size_t k = 0; k < f->n_roles; k++)
                roles[k] = f->roles[k];
            roles[f->n_roles++] = role;
            f->roles = roles;
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

static const char *manager_status(struct ctl *c, const Skep__Node *n)
{
    if (n->manager == NULL)
        return "";
    return n->manager->leader ? "Leader"
                              : text_title(&c->arena, text_reachability(n->manager->reachability));
}

static json_t *node_row(struct ctl *c, const Skep__Node *n, const char *self)
{
    const Skep__EngineDescription *engine = n->description != NULL ? n->description->engine : NULL;
    const Skep__Annotations *a = n->spec->annotations;
    json_t *o = json_object();

    json_object_set_new(o, "ID", json_string(n->id));
    json_object_set_new(o, "Self", json_boolean(strcmp(n->id, self) == 0));
    json_object_set_new(o, "Hostname", json_string(node_name(n)));
    json_object_set_new(o, "Status",
                        json_string(text_title(
                            &c->arena, text_node_state(n->status != NULL ? n->status->state : 0))));
    json_object_set_new(
        o, "Availability",
        json_string(text_title(&c->arena, text_availability(n->spec->availability))));
    json_object_set_new(o, "ManagerStatus", json_string(manager_status(c, n)));
    json_object_set_new(o, "EngineVersion", json_string(engine != NULL ? engine->version : ""));
    json_object_set_new(o, "TLSStatus",
                        json_string(n->certificate_expires_at > c->now_ns ? "Ready" : "Unknown"));
    json_object_set_new(o, "_labels", a != NULL ? json_map(a->n_labels, a->labels) : json_object());
    return o;
}

static int compare_nodes(const void *a, const void *b)
{
    const Skep__Node *x = (*(Skep__Object *const *)a)->node;
    const Skep__Node *y = (*(Skep__Object *const *)b)->node;
    int order = text_compare_natural(node_name(x), node_name(y));

    return order != 0 ? order : strcmp(x->id, y->id);
}

int node_ls(struct ctl *c)
{
    Skep__ObjectFilter f = SKEP__OBJECT_FILTER__INIT;
    Skep__InfoResponse *info = NULL;
    struct objects list;
    struct err e = { 0 };
    bool none = false;
    json_t *rows;
    int rc = node_filter(c, &f, &none, &e);

    if (rc < 0)
        return ctl_error(c, rc, &e);
    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    rc = info_get(c, &info, &e);
    if (rc == 0)
        rc = object_list(c, SKEP__KIND__KIND_NODE, &f, &list, &e);
    if (rc < 0)
        return ctl_error(c, rc, &e);
    if (list.count > 1)
        qsort(list.items, list.count, sizeof(*list.items), compare_nodes);
    rows = json_array();
    for (size_t i = 0; i < list.count && !none; i++) {
        if (list.items[i]->node->spec != NULL)
            json_array_append_new(rows, node_row(c, list.items[i]->node, info->node_id));
    }
    return output_rows(c, &node_listing, rows);
}

/* ---- ps ---- */

int node_ps(struct ctl *c)
{
    Skep__ObjectFilter f = SKEP__OBJECT_FILTER__INIT;
    struct objects services = { 0 };
    struct objects tasks = { 0 };
    struct err e = { 0 };
    int count = flags_arg_count(c->flags);
    int status = 0;
    int rc;

    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    rc = tasks_filter(c, &f, false, &e);
    if (rc < 0)
        return ctl_error(c, rc, &e);
    for (int i = 0; i < MAX(count, 1); i++) {
        Skep__Node *n = NULL;

        rc = node_get(c, count > 0 ? flags_arg(c->flags, i) : "self", &n, &e);
        if (rc < 0)
            status = ctl_error(c, rc, &e);
        else
            LIST_ADD(&c->arena, f.n_node_ids, f.node_ids, n->id);
    }
    if (f.n_node_ids == 0)
        return status;
    rc = object_list(c, SKEP__KIND__KIND_TASK, &f, &tasks, &e);
    if (rc == 0)
        rc = object_list(c, SKEP__KIND__KIND_SERVICE, NULL, &services, &e);
    if (rc < 0)
        return ctl_error(c, rc, &e);
    return tasks_print(c, &tasks, &services) | status;
}

/* ---- inspect ---- */

static int inspect_one(struct ctl *c, const char *ref, void *objects, struct err *e)
{
    Skep__Node *n = NULL;
    int rc = node_get(c, ref, &n, e);

    if (rc < 0)
        return rc;
    if (flags_bool(c->flags, "pretty"))
        pretty_node(c, c->out, n);
    else
        json_array_append_new(objects, json_node(n));
    return 0;
}

int node_inspect(struct ctl *c)
{
    return output_inspected(c, inspect_one);
}

/* ---- changes ---- */

/* Changes a node's spec. Returns 1 when there is nothing to change, 0, or -ERR_*. */
typedef int node_change_fn(struct ctl *c, Skep__NodeSpec *spec, struct err *e);

/* Reads, changes and writes; starts over when somebody else wrote in between. */
static int node_change(struct ctl *c, const char *ref, node_change_fn *change, struct err *e)
{
    for (int attempt = 0;; attempt++) {
        Skep__NodeUpdateRequest body = SKEP__NODE_UPDATE_REQUEST__INIT;
        struct client_request r = {
            .method = SKEP__METHOD__METHOD_NODE_UPDATE,
            .body = &body.base,
            .answer = &skep__node_update_response__descriptor,
            .mutation = true,
        };
        Skep__Node *n = NULL;
        int rc = node_get(c, ref, &n, e);

        if (rc < 0)
            return rc;
        body.id = n->id;
        body.spec_version = n->meta != NULL ? n->meta->spec_version : 0;
        body.spec = n->spec;
        if (body.spec->annotations == NULL) {
            body.spec->annotations = ARENA_NEW(&c->arena, Skep__Annotations);
            skep__annotations__init(body.spec->annotations);
        }
        rc = change(c, body.spec, e);
        if (rc != 0)
            return rc;
        rc = ctl_call(c, &r, NULL, e);
        if (rc != -ERR_CONFLICT || attempt == CONFLICT_RETRIES)
            return rc;
    }
}

static int change_as_flags(struct ctl *c, Skep__NodeSpec *spec, struct err *e)
{
    Skep__Annotations *a = spec->annotations;
    const char *availability = flags_string(c->flags, "availability");
    const char *role = flags_string(c->flags, "role");

    if (flags_given(c->flags, "availability") &&
        !availability_parse(availability, &spec->availability))
        return err_set(e, ERR_INVALID,
                       "invalid availability \"%.40s\", only \"active\", \"pause\" and \"drain\" "
                       "are supported",
                       availability);
    if (flags_given(c->flags, "role") && !role_parse(role, &spec->desired_role))
        return err_set(e, ERR_INVALID,
                       "invalid role \"%.40s\", only \"worker\" and \"manager\" are supported",
                       role);
    for (size_t i = 0; i < flags_list_count(c->flags, "label-add"); i++) {
        int rc = parse_label(&c->arena, flags_list_at(c->flags, "label-add", i), &a->n_labels,
                             &a->labels, e);

        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < flags_list_count(c->flags, "label-rm"); i++) {
        const char *key = flags_list_at(c->flags, "label-rm", i);

        if (!kv_remove(&a->n_labels, a->labels, key))
            return err_set(e, ERR_INVALID, "key %.80s doesn't exist in node's labels", key);
    }
    return 0;
}

int node_update(struct ctl *c)
{
    struct err e = { 0 };
    int rc;

    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    rc = node_change(c, flags_arg(c->flags, 0), change_as_flags, &e);
    if (rc < 0)
        return ctl_error(c, rc, &e);
    (void)fprintf(c->out, "%s\n", flags_arg(c->flags, 0));
    return 0;
}

static int change_to_manager(struct ctl *c, Skep__NodeSpec *spec, struct err *e)
{
    (void)c;
    (void)e;
    if (spec->desired_role == SKEP__NODE_ROLE__ROLE_MANAGER)
        return 1;
    spec->desired_role = SKEP__NODE_ROLE__ROLE_MANAGER;
    return 0;
}

static int change_to_worker(struct ctl *c, Skep__NodeSpec *spec, struct err *e)
{
    (void)c;
    (void)e;
    if (spec->desired_role == SKEP__NODE_ROLE__ROLE_WORKER)
        return 1;
    spec->desired_role = SKEP__NODE_ROLE__ROLE_WORKER;
    return 0;
}

static int promote_one(struct ctl *c, const char *ref, void *ctx, struct err *e)
{
    int rc = node_change(c, ref, change_to_manager, e);

    (void)ctx; /* has none */
    if (rc == 1)
        (void)fprintf(c->out, "Node %s is already a manager.\n", ref);
    else if (rc == 0)
        (void)fprintf(c->out, "Node %s promoted to a manager in the swarm.\n", ref);
    return rc;
}

int node_promote(struct ctl *c)
{
    return ctl_each(c, promote_one, NULL);
}

static int demote_one(struct ctl *c, const char *ref, void *ctx, struct err *e)
{
    int rc = node_change(c, ref, change_to_worker, e);

    (void)ctx; /* has none */
    if (rc == 1)
        (void)fprintf(c->out, "Node %s is already a worker.\n", ref);
    else if (rc == 0)
        (void)fprintf(c->out, "Manager %s demoted in the swarm.\n", ref);
    return rc;
}

int node_demote(struct ctl *c)
{
    return ctl_each(c, demote_one, NULL);
}

static int remove_one(struct ctl *c, const char *ref, void *ctx, struct err *e)
{
    Skep__NodeRemoveRequest body = SKEP__NODE_REMOVE_REQUEST__INIT;
    struct client_request r = {
        .method = SKEP__METHOD__METHOD_NODE_REMOVE,
        .body = &body.base,
        .mutation = true,
    };
    int rc;

    (void)ctx; /* has none */
    body.ref = arena_strdup(&c->arena, ref);
    body.force = flags_bool(c->flags, "force");
    rc = ctl_call(c, &r, NULL, e);
    if (rc == 0)
        (void)fprintf(c->out, "%s\n", ref);
    return rc;
}

int node_rm(struct ctl *c)
{
    return ctl_each(c, remove_one, NULL);
}
