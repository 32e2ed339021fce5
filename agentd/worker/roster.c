#include "agentd/worker/roster.h"

#include <stdlib.h>
#include <string.h>

#include "agentd/worker/networks.h"
#include "common/assert.h"
#include "common/message.h"

/* ---- entries ---- */

/* Index of task_id, or where it would be. */
static size_t lower_bound(const struct roster *r, const char *task_id)
{
    size_t low = 0, high = r->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (strcmp(r->entries[mid]->id, task_id) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct roster_entry *roster_find(const struct roster *r, const char *task_id)
{
    size_t i = lower_bound(r, task_id);

    return i < r->count && strcmp(r->entries[i]->id, task_id) == 0 ? r->entries[i] : NULL;
}

struct roster_entry *roster_add(struct roster *r, const char *task_id)
{
    size_t i = lower_bound(r, task_id);
    struct roster_entry *en;

    ASSERT(id_valid(task_id));
    ASSERT(i == r->count || strcmp(r->entries[i]->id, task_id) != 0);
    if (r->count == ROSTER_TASKS_MAX)
        return NULL;
    if (r->count == r->capacity) {
        r->capacity = r->capacity == 0 ? 16 : r->capacity * 2;
        r->entries = xrealloc_array(r->entries, r->capacity, sizeof(struct roster_entry *));
    }
    memmove(r->entries + i + 1, r->entries + i, (r->count - i) * sizeof(struct roster_entry *));
    en = xcalloc(1, sizeof(*en));
    memcpy(en->id, task_id, sizeof(en->id));
    r->entries[i] = en;
    r->count++;
    return en;
}

static void entry_free(struct roster_entry *en)
{
    task_deinit(&en->task);
    free(en->assignment);
    free(en);
}

void roster_remove(struct roster *r, struct roster_entry *en)
{
    size_t i = lower_bound(r, en->id);

    ASSERT(i < r->count && r->entries[i] == en);
    memmove(r->entries + i, r->entries + i + 1, (r->count - i - 1) * sizeof(struct roster_entry *));
    r->count--;
    entry_free(en);
}

/* ---- secrets and configs: few, so plain arrays ---- */

static struct roster_object *object_find(struct roster_object *list, size_t count, const char *id)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].id, id) == 0)
            return &list[i];
    return NULL;
}

const Skep__Secret *roster_secret(const struct roster *r, const char *id)
{
    const struct roster_object *o = object_find(r->secrets, r->secret_count, id);

    return o == NULL ? NULL : o->message;
}

const Skep__Config *roster_config(const struct roster *r, const char *id)
{
    const struct roster_object *o = object_find(r->configs, r->config_count, id);

    return o == NULL ? NULL : o->message;
}

/* Overwrites the data of a secret or config before its block is freed. */
static void object_free(struct roster_object *o, bool is_secret)
{
    Skep__SecretSpec *s = is_secret ? ((Skep__Secret *)o->message)->spec : NULL;

    if (s != NULL && s->data.len > 0)
        explicit_bzero(s->data.data, s->data.len);
    free(o->message);
}

static void object_remove(struct roster_object *list, size_t *count, size_t i, bool is_secret)
{
    object_free(&list[i], is_secret);
    list[i] = list[--*count];
}

static void object_put(struct roster_object **list, size_t *count, struct roster_object n,
                       bool is_secret)
{
    struct roster_object *old = object_find(*list, *count, n.id);

    if (old != NULL) {
        object_free(old, is_secret);
        *old = n;
        return;
    }
    if (*count >= ROSTER_OBJECTS_MAX) {
        object_free(&n, is_secret);
        return;
    }
    *list = xrealloc_array(*list, *count + 1, sizeof(n));
    (*list)[(*count)++] = n;
}

static void apply_objects(struct roster *r, const Skep__AssignmentsResponse *resp)
{
    for (size_t i = 0; i < resp->n_secrets; i++) {
        Skep__Secret *m = (Skep__Secret *)message_clone(&resp->secrets[i]->base);

        object_put(&r->secrets, &r->secret_count, (struct roster_object){ m, m->id, r->generation },
                   true);
    }
    for (size_t i = 0; i < resp->n_configs; i++) {
        Skep__Config *m = (Skep__Config *)message_clone(&resp->configs[i]->base);

        object_put(&r->configs, &r->config_count, (struct roster_object){ m, m->id, r->generation },
                   false);
    }
    for (size_t i = 0; i < resp->n_removed_secrets; i++) {
        struct roster_object *o =
            object_find(r->secrets, r->secret_count, resp->removed_secrets[i]);

        if (o != NULL)
            object_remove(r->secrets, &r->secret_count, (size_t)(o - r->secrets), true);
    }
    for (size_t i = 0; i < resp->n_removed_configs; i++) {
        struct roster_object *o =
            object_find(r->configs, r->config_count, resp->removed_configs[i]);

        if (o != NULL)
            object_remove(r->configs, &r->config_count, (size_t)(o - r->configs), false);
    }
}

static void sweep_objects(struct roster *r)
{
    for (size_t i = r->secret_count; i-- > 0;)
        if (r->secrets[i].generation != r->generation)
            object_remove(r->secrets, &r->secret_count, i, true);
    for (size_t i = r->config_count; i-- > 0;)
        if (r->configs[i].generation != r->generation)
            object_remove(r->configs, &r->config_count, i, false);
}

void roster_deinit(struct roster *r)
{
    for (size_t i = 0; i < r->count; i++)
        entry_free(r->entries[i]);
    while (r->secret_count > 0)
        object_remove(r->secrets, &r->secret_count, r->secret_count - 1, true);
    while (r->config_count > 0)
        object_remove(r->configs, &r->config_count, r->config_count - 1, false);
    free(r->entries);
    free(r->secrets);
    free(r->configs);
    memset(r, 0, sizeof(*r));
}

/* ---- assignments ---- */

/* What the managers last recorded is what the machine has come to. */
static bool status_known(const struct roster_entry *en, const Skep__TaskStatus *s)
{
    const struct task *t = &en->task;

    return s != NULL && s->state == t->state && strcmp(s->error, t->error) == 0 &&
           s->container != NULL && strcmp(s->container->container_id, t->container.id) == 0 &&
           s->container->exit_code == t->container.exit_code;
}

struct changes {
    struct roster_change *list;
    size_t count;
};

static void note(struct changes *c, enum roster_change_type type, struct roster_entry *en)
{
    c->list[c->count++] = (struct roster_change){ type, en };
}

static void apply_task(struct roster *r, const Skep__TaskAssignment *a, struct changes *c)
{
    struct roster_entry *en;
    bool added;

    if (a->task == NULL || !id_valid(a->task->id))
        return;
    en = roster_find(r, a->task->id);
    added = en == NULL || en->assignment == NULL;
    if (en == NULL)
        en = roster_add(r, a->task->id);
    if (en == NULL || (added && en->shell != NULL))
        return; /* too many, or its container is being removed: the next complete set repeats it */
    free(en->assignment);
    en->assignment = (Skep__TaskAssignment *)message_clone(&a->base);
    en->generation = r->generation;
    if (!added && r->completing)
        en->acked_seq = status_known(en, a->task->status) ? en->report_seq : 0;
    note(c, added ? ROSTER_ADDED : ROSTER_CHANGED, en);
}

static int compare_changes(const void *a, const void *b)
{
    const struct roster_change *x = a, *y = b;

    return x->type != y->type ? (int)x->type - (int)y->type : strcmp(x->entry->id, y->entry->id);
}

void roster_apply(struct roster *r, const Skep__AssignmentsResponse *resp, struct arena *a,
                  struct roster_change **ret_changes, size_t *ret_count)
{
    struct changes c = { NULL, 0 };

    c.list =
        arena_array(a, r->count + resp->n_tasks + resp->n_removed_tasks + 1, sizeof(c.list[0]));
    if (resp->complete) {
        r->generation++;
        r->completing = true;
    }
    for (size_t i = 0; i < resp->n_tasks; i++)
        apply_task(r, resp->tasks[i], &c);
    apply_objects(r, resp);
    for (size_t i = 0; i < resp->n_removed_tasks; i++) {
        struct roster_entry *en = roster_find(r, resp->removed_tasks[i]);

        if (en != NULL && en->assignment != NULL && !en->task.unassigned)
            note(&c, ROSTER_GONE, en);
    }
    if (r->completing && !resp->more) {
        r->completing = false;
        r->complete = true;
        for (size_t i = 0; i < r->count; i++) {
            struct roster_entry *en = r->entries[i];

            if (en->assignment != NULL && en->generation != r->generation && !en->task.unassigned)
                note(&c, ROSTER_GONE, en);
        }
        sweep_objects(r);
    }
    qsort(c.list, c.count, sizeof(c.list[0]), compare_changes);
    *ret_changes = c.list;
    *ret_count = c.count;
}

void roster_expect_complete(struct roster *r)
{
    r->completing = false;
}

/* ---- reports ---- */

void roster_touch(struct roster_entry *en, int64_t at_ns)
{
    en->status_at_ns = at_ns;
    en->report_seq++;
}

static bool wants_report(const struct roster_entry *en)
{
    return en->assignment != NULL && !en->task.unassigned && en->acked_seq != en->report_seq;
}

bool roster_has_reports(const struct roster *r)
{
    for (size_t i = 0; i < r->count; i++)
        if (wants_report(r->entries[i]) && r->entries[i]->sent_seq == 0)
            return true;
    return false;
}

/* Those of a task with overlay networks are translated by agentd/net, as the service has them. */
static void status_overlay_ports(const struct roster_entry *en, struct arena *a,
                                 Skep__TaskStatus *ret)
{
    const Skep__EndpointSpec *ep = en->assignment->spec->endpoint;

    if (!en->task.attached || en->task.container.phase != CONTAINER_RUNNING)
        return;
    ret->host_ports = arena_array(a, ep->n_ports + 1, sizeof(ret->host_ports[0]));
    for (size_t i = 0; i < ep->n_ports; i++)
        if (ep->ports[i]->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_HOST &&
            ep->ports[i]->published_port != 0)
            ret->host_ports[ret->n_host_ports++] = ep->ports[i];
}

/* Host-mode ports of the service, each with the number the engine gave it. The engine's bindings
 * come in the order of target ports, so several of one target are taken in turn. */
static void status_ports(const struct roster_entry *en, struct arena *a, Skep__TaskStatus *ret)
{
    const Skep__EndpointSpec *ep =
        en->assignment->spec == NULL ? NULL : en->assignment->spec->endpoint;
    const struct container_facts *c = &en->task.container;
    bool taken[CONTAINER_PORTS_MAX] = { false };

    if (ep == NULL)
        return;
    if (networks_has_overlay(en->assignment)) {
        status_overlay_ports(en, a, ret);
        return;
    }
    if (c->port_count == 0)
        return;
    ret->host_ports = arena_array(a, ep->n_ports, sizeof(ret->host_ports[0]));
    for (size_t i = 0; i < ep->n_ports; i++) {
        const Skep__PortConfig *want = ep->ports[i];

        if (want->publish_mode != SKEP__PUBLISH_MODE__PUBLISH_HOST)
            continue;
        for (uint32_t k = 0; k < c->port_count; k++) {
            const struct container_port *p = &c->ports[k];
            Skep__PortConfig *copy;

            if (taken[k] || p->target != want->target_port || p->protocol != want->protocol ||
                (want->published_port != 0 && want->published_port != p->published))
                continue;
            taken[k] = true;
            copy = arena_dup(a, want, sizeof(*want));
            copy->published_port = p->published;
            ret->host_ports[ret->n_host_ports++] = copy;
            break;
        }
    }
}

void roster_status(const struct roster_entry *en, struct arena *a, Skep__TaskStatus *ret)
{
    const struct task *t = &en->task;

    skep__task_status__init(ret);
    ret->timestamp = en->status_at_ns;
    ret->state = t->state;
    ret->message = arena_strdup(a, t->message);
    ret->error = arena_strdup(a, t->error);
    ret->container = ARENA_NEW(a, Skep__ContainerStatus);
    skep__container_status__init(ret->container);
    ret->container->container_id = arena_strdup(a, t->container.id);
    ret->container->pid = t->container.pid;
    ret->container->exit_code = t->container.exit_code;
    status_ports(en, a, ret);
}

size_t roster_report(struct roster *r, struct arena *a, Skep__TaskStatusRequest *req)
{
    req->updates = arena_array(a, ROSTER_REPORT_MAX, sizeof(req->updates[0]));
    req->n_updates = 0;
    for (size_t i = 0; i < r->count && req->n_updates < ROSTER_REPORT_MAX; i++) {
        struct roster_entry *en = r->entries[i];
        Skep__TaskStatusUpdate *u;

        if (!wants_report(en) || en->sent_seq != 0)
            continue;
        u = ARENA_NEW(a, Skep__TaskStatusUpdate);
        skep__task_status_update__init(u);
        u->task_id = en->id;
        u->status = ARENA_NEW(a, Skep__TaskStatus);
        roster_status(en, a, u->status);
        en->sent_seq = en->report_seq;
        req->updates[req->n_updates++] = u;
    }
    return req->n_updates;
}

void roster_report_done(struct roster *r, bool ok)
{
    for (size_t i = 0; i < r->count; i++) {
        struct roster_entry *en = r->entries[i];

        if (ok && en->sent_seq != 0)
            en->acked_seq = en->sent_seq;
        en->sent_seq = 0;
    }
}
