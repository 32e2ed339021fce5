/* Tasks in tables: `service ps` and `node ps`. */
#include <inttypes.h>
#include <string.h>

#include "common/text.h"
#include "ctl/json.h"
#include "ctl/objects.h"
#include "ctl/output.h"
#include "ctl/parse.h"

enum { ERROR_CHARS_MAX = 30 };

static const struct column task_columns[] = {
    { "ID", "ID" },
    { "Name", "NAME" },
    { "Image", "IMAGE" },
    { "Node", "NODE" },
    { "DesiredState", "DESIRED STATE" },
    { "CurrentState", "CURRENT STATE" },
    { "Error", "ERROR" },
    { "Ports", "PORTS" },
    { NULL, NULL },
};

static const struct listing task_listing = {
    .columns = task_columns,
    .table = "{{.ID}}\t{{.Name}}\t{{.Image}}\t{{.Node}}\t{{.DesiredState}}\t{{.CurrentState}}\t"
             "{{.Error}}\t{{.Ports}}",
    .raw = "id: {{.ID}}\nname: {{.Name}}\nimage: {{.Image}}\nnode: {{.Node}}\n"
           "desired_state: {{.DesiredState}}\ncurrent_state: {{.CurrentState}}\n"
           "error: {{.Error}}\nports: {{.Ports}}\n",
};

/* ---- ports ---- */

static int compare_ports(const void *a, const void *b)
{
    const Skep__PortConfig *x = *(Skep__PortConfig *const *)a;
    const Skep__PortConfig *y = *(Skep__PortConfig *const *)b;
    int order = strcmp(text_protocol(x->protocol), text_protocol(y->protocol));

    if (order != 0)
        return order;
    return x->published_port < y->published_port ? -1 : x->published_port > y->published_port;
}

struct span {
    const Skep__PortConfig *first;
    const Skep__PortConfig *last;
};

static const char *span_text(struct arena *a, const struct span *s)
{
    bool published = s->last->published_port > s->first->published_port;
    bool target = s->last->target_port > s->first->target_port;
    const char *from = published ? arena_printf(a, "%" PRIu32 "-%" PRIu32, s->first->published_port,
                                                s->last->published_port)
                                 : arena_printf(a, "%" PRIu32, s->first->published_port);
    const char *to = target ? arena_printf(a, "%" PRIu32 "-%" PRIu32, s->first->target_port,
                                           s->last->target_port)
                            : arena_printf(a, "%" PRIu32, s->first->target_port);

    return arena_printf(a, "%s:%s->%s/%s", s->first->host_ip[0] != '\0' ? s->first->host_ip : "*",
                        from, to, text_protocol(s->first->protocol));
}

/* True when p continues s: next published port and next (or same) target port. */
static bool span_takes(const struct span *s, const Skep__PortConfig *p)
{
    bool is_range = s->last->target_port != s->first->target_port;

    if (s->first == NULL || p->protocol != s->first->protocol ||
        strcmp(p->host_ip, s->first->host_ip) != 0)
        return false;
    if (p->published_port - s->last->published_port > 1 ||
        p->target_port - s->last->target_port > 1)
        return false;
    return !is_range || p->target_port > s->last->target_port;
}

const char *ports_text(struct arena *a, size_t count, Skep__PortConfig *const *ports,
                       Skep__PublishMode mode)
{
    Skep__PortConfig **sorted = arena_array(a, count + 1, sizeof(*sorted));
    const char *text = "";
    struct span s = { 0 };

    if (count > 0)
        memcpy(sorted, ports, count * sizeof(*sorted));
    qsort(sorted, count, sizeof(*sorted), compare_ports);
    for (size_t i = 0; i < count; i++) {
        if (sorted[i]->publish_mode != mode || sorted[i]->published_port == 0)
            continue;
        if (s.first != NULL && span_takes(&s, sorted[i])) {
            s.last = sorted[i];
            continue;
        }
        if (s.first != NULL)
            text = arena_printf(a, "%s%s%s", text, text[0] != '\0' ? ", " : "", span_text(a, &s));
        s = (struct span){ sorted[i], sorted[i] };
    }
    if (s.first != NULL)
        text = arena_printf(a, "%s%s%s", text, text[0] != '\0' ? ", " : "", span_text(a, &s));
    return text;
}

/* ---- rows ---- */

struct row {
    const Skep__Task *task;
    const char *name;
};

static int compare_rows(const void *a, const void *b)
{
    const struct row *x = a;
    const struct row *y = b;
    int order = text_compare_natural(x->name, y->name);
    int64_t made_x = x->task->meta != NULL ? x->task->meta->created_at : 0;
    int64_t made_y = y->task->meta != NULL ? y->task->meta->created_at : 0;

    if (order != 0)
        return order;
    if (made_x != made_y)
        return made_x > made_y ? -1 : 1; /* the newest first */
    return strcmp(x->task->id, y->task->id);
}

static const char *task_name(struct ctl *c, const Skep__Task *t, const struct objects *services)
{
    const Skep__Service *s = objects_service(services, t->service_id);
    const char *service =
        s != NULL && !flags_bool(c->flags, "no-resolve") ? service_name(s) : t->service_id;
    bool slots = s != NULL && s->spec != NULL && /* those of jobs begin with 0 */
                 s->spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB;

    if (t->slot != 0 || slots)
        return arena_printf(&c->arena, "%s.%" PRIu64, service, t->slot);
    return arena_printf(&c->arena, "%s.%s", service, t->node_id[0] != '\0' ? t->node_id : t->id);
}

const Skep__ServiceSpec *task_spec(struct ctl *c, const Skep__Task *t, const Skep__Service *service)
{
    Skep__Object *o = NULL;

    if (service != NULL && service->meta != NULL && service->meta->spec_version == t->spec_version)
        return service->spec;
    if (object_get(c, SKEP__KIND__KIND_REVISION,
                   arena_printf(&c->arena, "%s.%" PRIu64, t->service_id, t->spec_version), &o,
                   NULL) < 0 ||
        o->object_case != SKEP__OBJECT__OBJECT_REVISION)
        return NULL;
    return o->revision->spec;
}

/* Old revisions repeat in a history: ask for each once. The newest are at the end. */
struct revision {
    const Skep__Task *task; /* one that was made from it */
    const Skep__ServiceSpec *spec;
};

struct revisions {
    size_t count;
    struct revision **items;
};

static const Skep__ServiceSpec *find_spec(struct ctl *c, const Skep__Task *t,
                                          const Skep__Service *service, struct revisions *known)
{
    struct revision *r;

    for (size_t i = known->count; i > 0; i--) {
        r = known->items[i - 1];
        if (r->task->spec_version == t->spec_version &&
            strcmp(r->task->service_id, t->service_id) == 0)
            return r->spec;
    }
    r = ARENA_NEW(&c->arena, struct revision);
    r->task = t;
    r->spec = task_spec(c, t, service);
    LIST_ADD(&c->arena, known->count, known->items, r);
    return r->spec;
}

static const char *task_image(struct ctl *c, const Skep__Task *t, const Skep__Service *service,
                              struct revisions *known)
{
    const Skep__ServiceSpec *spec = find_spec(c, t, service, known);
    const char *image;

    if (spec == NULL || spec->task == NULL || spec->task->container == NULL)
        return "";
    image = spec->task->container->image;
    return flags_bool(c->flags, "no-trunc") ? image : image_familiar(&c->arena, image);
}

static const char *error_text(struct ctl *c, const char *error)
{
    if (error[0] == '\0')
        return "";
    if (!flags_bool(c->flags, "no-trunc") && text_width(error) > ERROR_CHARS_MAX)
        return arena_printf(&c->arena, "\"%.*s\xe2\x80\xa6\"",
                            (int)text_prefix(error, ERROR_CHARS_MAX - 1), error);
    return arena_printf(&c->arena, "\"%s\"", error);
}

static json_t *row_json(struct ctl *c, const struct row *r, const char *name, const char *image,
                        const char *node)
{
    const Skep__TaskStatus *s = r->task->status;
    char age[TEXT_SHORT_MAX];
    json_t *o = json_object();
    char *ago =
        arena_strdup(&c->arena, text_format_age(age, c->now_ns - (s != NULL ? s->timestamp : 0)));

    if (ago[0] >= 'A' && ago[0] <= 'Z')
        ago[0] = (char)(ago[0] + ('a' - 'A'));
    json_object_set_new(o, "ID",
                        json_string(flags_bool(c->flags, "no-trunc")
                                        ? r->task->id
                                        : id_short(&c->arena, r->task->id)));
    json_object_set_new(o, "Name", json_string(name));
    json_object_set_new(o, "Image", json_string(image));
    json_object_set_new(o, "Node", json_string(node));
    json_object_set_new(
        o, "DesiredState",
        json_string(text_title(&c->arena, text_task_state(r->task->desired_state))));
    json_object_set_new(
        o, "CurrentState",
        json_string(arena_printf(
            &c->arena, "%s %s ago",
            text_title(&c->arena,
                       text_task_state(s != NULL ? s->state : SKEP__TASK_STATE__TASK_NEW)),
            ago)));
    json_object_set_new(o, "Error", json_string(error_text(c, s != NULL ? s->error : "")));
    json_object_set_new(o, "Ports",
                        json_string(s == NULL
                                        ? ""
                                        : ports_text(&c->arena, s->n_host_ports, s->host_ports,
                                                     SKEP__PUBLISH_MODE__PUBLISH_HOST)));
    return o;
}

int tasks_print(struct ctl *c, const struct objects *tasks, const struct objects *services)
{
    struct row *rows = arena_array(&c->arena, tasks->count + 1, sizeof(*rows));
    struct revisions known = { 0 };
    struct objects nodes = { 0 };
    json_t *list = json_array();
    const char *previous = "";
    struct err e = { 0 };
    size_t count = 0;
    int rc = 0;

    for (size_t i = 0; i < tasks->count; i++) {
        const Skep__Object *o = tasks->items[i];

        if (o->object_case == SKEP__OBJECT__OBJECT_TASK)
            rows[count++] = (struct row){ o->task, task_name(c, o->task, services) };
    }
    qsort(rows, count, sizeof(*rows), compare_rows);
    if (!flags_bool(c->flags, "no-resolve") && !flags_bool(c->flags, "quiet") && count > 0)
        rc = object_list(c, SKEP__KIND__KIND_NODE, NULL, &nodes, &e);
    if (rc < 0) {
        json_decref(list);
        return ctl_error(c, rc, &e);
    }
    for (size_t i = 0; i < count; i++) {
        const Skep__Task *t = rows[i].task;
        const Skep__Node *n = objects_node(&nodes, t->node_id);
        const char *image =
            flags_bool(c->flags, "quiet")
                ? ""
                : task_image(c, t, objects_service(services, t->service_id), &known);
        const char *name = strcmp(rows[i].name, previous) == 0
                               ? arena_printf(&c->arena, " \\_ %s", rows[i].name)
                               : rows[i].name;

        previous = rows[i].name;
        json_array_append_new(
            list, row_json(c, &rows[i], name, image, n != NULL ? node_name(n) : t->node_id));
    }
    return output_rows(c, &task_listing, list);
}

/* ---- filters ---- */

static int filter_state(struct ctl *c, Skep__ObjectFilter *f, const char *value, struct err *e)
{
    Skep__TaskState *states;
    Skep__TaskState state;

    if (!task_state_parse(value, &state))
        return err_set(e, ERR_INVALID,
                       "invalid filter 'desired-state=%.40s': use running, shutdown, accepted, "
                       "ready, complete or remove",
                       value);
    states = arena_array(&c->arena, f->n_desired_states + 1, sizeof(*states));
    for (size_t i = 0; i < f->n_desired_states; i++)
        states[i] = f->desired_states[i];
    states[f->n_desired_states++] = state;
    f->desired_states = states;
    return 0;
}

int tasks_filter(struct ctl *c, Skep__ObjectFilter *f, bool with_node, struct err *e)
{
    static const char *const keys_service[] = { "id", "name", "node", "desired-state", NULL };
    static const char *const keys_node[] = { "id", "name", "desired-state", NULL };

    for (size_t i = 0; i < flags_list_count(c->flags, "filter"); i++) {
        const char *key;
        const char *value;
        Skep__Node *node = NULL;
        int rc = filter_parse(&c->arena, flags_list_at(c->flags, "filter", i),
                              with_node ? keys_service : keys_node, &key, &value, e);

        if (rc < 0)
            return rc;
        if (strcmp(key, "id") == 0) {
            LIST_ADD(&c->arena, f->n_ids, f->ids, arena_strdup(&c->arena, value));
        } else if (strcmp(key, "name") == 0) {
            LIST_ADD(&c->arena, f->n_names, f->names, arena_strdup(&c->arena, value));
        } else if (strcmp(key, "node") == 0) {
            rc = node_get(c, value, &node, e);
            if (rc == 0)
                LIST_ADD(&c->arena, f->n_node_ids, f->node_ids, node->id);
        } else {
            rc = filter_state(c, f, value, e);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}
