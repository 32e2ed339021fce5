/* service ls, ps, inspect, rm. */
#include <inttypes.h>
#include <string.h>

#include "common/text.h"
#include "ctl/json.h"
#include "ctl/objects.h"
#include "ctl/output.h"
#include "ctl/parse.h"

static const struct column service_columns[] = {
    { "ID", "ID" },       { "Name", "NAME" },   { "Mode", "MODE" }, { "Replicas", "REPLICAS" },
    { "Image", "IMAGE" }, { "Ports", "PORTS" }, { NULL, NULL },
};

static const struct listing service_listing = {
    .columns = service_columns,
    .table = "{{.ID}}\t{{.Name}}\t{{.Mode}}\t{{.Replicas}}\t{{.Image}}\t{{.Ports}}",
    .raw = "id: {{.ID}}\nname: {{.Name}}\nmode: {{.Mode}}\nreplicas: {{.Replicas}}\n"
           "image: {{.Image}}\nports: {{.Ports}}\n",
};

/* ---- ls ---- */

static const char *mode_text(const Skep__ServiceSpec *s)
{
    switch (s->mode_case) {
    case SKEP__SERVICE_SPEC__MODE_REPLICATED:
        return "replicated";
    case SKEP__SERVICE_SPEC__MODE_GLOBAL:
        return "global";
    case SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB:
        return "replicated job";
    case SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB:
        return "global job";
    case SKEP__SERVICE_SPEC__MODE__NOT_SET:
    case _SKEP__SERVICE_SPEC__MODE__CASE_IS_INT_SIZE:
        break;
    }
    return "";
}

static const char *replicas_text(struct ctl *c, const Skep__Service *s,
                                 const Skep__ServiceStatus *status)
{
    const Skep__Placement *p = s->spec->task != NULL ? s->spec->task->placement : NULL;
    uint64_t running = status != NULL ? status->running : 0;
    uint64_t desired = status != NULL ? status->desired : 0;
    uint64_t completed = status != NULL ? status->completed : 0;

    if (s->spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB)
        return arena_printf(&c->arena,
                            "%" PRIu64 "/%" PRIu64 " (%" PRIu64 "/%" PRIu64 " completed)", running,
                            desired, completed, s->spec->replicated_job->total_completions);
    if (s->spec->mode_case == SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB)
        return arena_printf(&c->arena,
                            "%" PRIu64 "/%" PRIu64 " (%" PRIu64 "/%" PRIu64 " completed)", running,
                            desired, completed, desired + completed);
    if (p != NULL && p->max_replicas > 0)
        return arena_printf(&c->arena, "%" PRIu64 "/%" PRIu64 " (max %" PRIu32 " per node)",
                            running, desired, p->max_replicas);
    return arena_printf(&c->arena, "%" PRIu64 "/%" PRIu64, running, desired);
}

static const Skep__ServiceStatus *find_status(const struct objects *list, const char *id)
{
    for (size_t i = 0; i < list->status_count; i++) {
        if (strcmp(list->statuses[i]->service_id, id) == 0)
            return list->statuses[i];
    }
    return NULL;
}

static json_t *service_row(struct ctl *c, const Skep__Service *s, const struct objects *list)
{
    const Skep__ContainerSpec *container = s->spec->task != NULL ? s->spec->task->container : NULL;
    const Skep__Endpoint *ep = s->endpoint;
    const char *ports = ep == NULL ? ""
                                   : ports_text(&c->arena, ep->n_ports, ep->ports,
                                                SKEP__PUBLISH_MODE__PUBLISH_INGRESS);
    const char *id = flags_bool(c->flags, "quiet") ? s->id : id_short(&c->arena, s->id);
    const char *image = container != NULL ? image_familiar(&c->arena, container->image) : "";

    return json_pack("{ssssssssssss}", "ID", id, "Name", service_name(s), "Mode",
                     mode_text(s->spec), "Replicas", replicas_text(c, s, find_status(list, s->id)),
                     "Image", image, "Ports", ports);
}

static int compare_services(const void *a, const void *b)
{
    const Skep__Object *x = *(Skep__Object *const *)a;
    const Skep__Object *y = *(Skep__Object *const *)b;

    return text_compare_natural(service_name(x->service), service_name(y->service));
}

static int service_filter(struct ctl *c, Skep__ObjectFilter *f, struct err *e)
{
    static const char *const keys[] = { "id", "label", "mode", "name", NULL };

    for (size_t i = 0; i < flags_list_count(c->flags, "filter"); i++) {
        const char *key;
        const char *value;
        int rc =
            filter_parse(&c->arena, flags_list_at(c->flags, "filter", i), keys, &key, &value, e);

        if (rc < 0)
            return rc;
        if (strcmp(key, "id") == 0)
            LIST_ADD(&c->arena, f->n_ids, f->ids, arena_strdup(&c->arena, value));
        else if (strcmp(key, "name") == 0)
            LIST_ADD(&c->arena, f->n_names, f->names, arena_strdup(&c->arena, value));
        else if (strcmp(key, "mode") == 0)
            LIST_ADD(&c->arena, f->n_modes, f->modes, arena_strdup(&c->arena, value));
        else
            rc = parse_label(&c->arena, value, &f->n_labels, &f->labels, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int service_ls(struct ctl *c)
{
    Skep__ObjectFilter f = SKEP__OBJECT_FILTER__INIT;
    struct objects list;
    struct err e = { 0 };
    json_t *rows;
    int rc = service_filter(c, &f, &e);

    if (rc < 0)
        return ctl_error(c, rc, &e);
    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    rc = object_list(c, SKEP__KIND__KIND_SERVICE, &f, &list, &e);
    if (rc < 0)
        return ctl_error(c, rc, &e);
    if (list.count > 1)
        qsort(list.items, list.count, sizeof(*list.items), compare_services);
    rows = json_array();
    for (size_t i = 0; i < list.count; i++) {
        if (list.items[i]->service->spec != NULL)
            json_array_append_new(rows, service_row(c, list.items[i]->service, &list));
    }
    return output_rows(c, &service_listing, rows);
}

/* ---- ps ---- */

int service_ps(struct ctl *c)
{
    Skep__ObjectFilter f = SKEP__OBJECT_FILTER__INIT;
    struct objects services = { 0 };
    struct objects tasks = { 0 };
    struct strings missing = { 0 };
    struct err e = { 0 };
    int status;
    int rc;

    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    rc = tasks_filter(c, &f, true, &e);
    for (int i = 0; i < flags_arg_count(c->flags) && rc == 0; i++) {
        Skep__Object *o = NULL;

        rc = object_get(c, SKEP__KIND__KIND_SERVICE, flags_arg(c->flags, i), &o, &e);
        if (rc == -ERR_NOT_FOUND) {
            strings_add(&c->arena, &missing, flags_arg(c->flags, i));
            rc = 0;
            continue;
        }
        if (rc < 0)
            break;
        LIST_ADD(&c->arena, services.count, services.items, o);
        LIST_ADD(&c->arena, f.n_service_ids, f.service_ids, o->service->id);
    }
    if (rc < 0)
        return ctl_error(c, rc, &e);
    status = missing.count > 0 ? CMD_EXIT_FAILED : 0;
    if (services.count > 0) {
        rc = object_list(c, SKEP__KIND__KIND_TASK, &f, &tasks, &e);
        if (rc < 0)
            return ctl_error(c, rc, &e);
        status |= tasks_print(c, &tasks, &services);
    }
    for (size_t i = 0; i < missing.count; i++)
        (void)ctl_fail(c, "no such service: %s", missing.items[i]);
    return status;
}

/* ---- inspect ---- */

static int inspect_one(struct ctl *c, const char *ref, void *objects, struct err *e)
{
    Skep__Service *s = NULL;
    int rc = service_get(c, ref, &s, e);

    if (rc < 0)
        return rc;
    if (flags_bool(c->flags, "pretty"))
        pretty_service(c, c->out, s);
    else
        json_array_append_new(objects, json_service(s));
    return 0;
}

int service_inspect(struct ctl *c)
{
    return output_inspected(c, inspect_one);
}

/* ---- rm ---- */

static int remove_one(struct ctl *c, const char *ref, void *ctx, struct err *e)
{
    Skep__ServiceRemoveRequest body = SKEP__SERVICE_REMOVE_REQUEST__INIT;
    struct client_request r = {
        .method = SKEP__METHOD__METHOD_SERVICE_REMOVE,
        .body = &body.base,
        .mutation = true,
    };
    int rc;

    (void)ctx; /* has none */
    body.ref = arena_strdup(&c->arena, ref);
    rc = ctl_call(c, &r, NULL, e);
    if (rc == 0)
        (void)fprintf(c->out, "%s\n", ref);
    return rc;
}

int service_rm(struct ctl *c)
{
    return ctl_each(c, remove_one, NULL);
}
