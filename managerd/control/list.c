/* Reads: one object, pages of objects, and what changed since a version. */
#include "managerd/control/control.h"

#include <string.h>

#include "managerd/control/filter.h"

int control_object_get(const struct control_env *env, const ProtobufCMessage *request,
                       const struct control_subject *subject, ProtobufCMessage **ret_answer,
                       struct err *e)
{
    const Skep__ObjectGetRequest *req = (const Skep__ObjectGetRequest *)request;
    const ProtobufCMessage *object = NULL;
    Skep__ObjectGetResponse *answer = ARENA_NEW(env->arena, Skep__ObjectGetResponse);

    (void)subject; /* a read has none */
    if (req->kind == SKEP__KIND__KIND_CLUSTER) {
        const Skep__Cluster *cluster = store_cluster(env->core->store);

        if (cluster == NULL)
            return err_set(e, ERR_NOT_FOUND, "no cluster yet");
        object = &cluster->base;
    } else {
        int rc = store_resolve(env->core->store, req->kind, req->ref, &object, e);

        if (rc < 0)
            return rc;
    }
    skep__object_get_response__init(answer);
    answer->object = control_redacted(env, object);
    *ret_answer = &answer->base;
    return 0;
}

struct page {
    Skep__ObjectListResponse *out;
    size_t bytes, limit;
};

/* False when the page is full. */
static bool page_add(const struct control_env *env, struct page *p, const ProtobufCMessage *object)
{
    Skep__Object *redacted = control_redacted(env, object);
    size_t size = skep__object__get_packed_size(redacted) + 8;

    if (p->out->n_objects >= p->limit ||
        (p->out->n_objects > 0 && p->bytes + size > CONTROL_LIST_BYTES_MAX)) {
        p->out->more = true;
        return false;
    }
    p->bytes += size;
    p->out->objects[p->out->n_objects++] = redacted;
    return true;
}

/* Tasks of one service or node have an index; the rest is scanned in id order. */
static void list_tasks_of_service(const struct control_env *env, const Skep__ObjectListRequest *req,
                                  struct page *p)
{
    struct store_iter it;
    const Skep__Task *t;

    for (t = store_service_tasks(env->core->store, req->filter->service_ids[0], &it); t != NULL;
         t = store_iter_next(&it)) {
        if (control_filter_matches(req->filter, &t->base, env->core->store) &&
            !page_add(env, p, &t->base))
            return;
    }
}

static void list_all(const struct control_env *env, const Skep__ObjectListRequest *req,
                     struct page *p)
{
    const ProtobufCMessage *o;

    for (o = store_after(env->core->store, req->kind, req->after_id); o != NULL;
         o = store_after(env->core->store, req->kind, object_id(o))) {
        if (control_filter_matches(req->filter, o, env->core->store) && !page_add(env, p, o))
            return;
    }
}

static Skep__ServiceStatus *count_tasks(const struct control_env *env, const Skep__Service *service)
{
    Skep__ServiceStatus *status = ARENA_NEW(env->arena, Skep__ServiceStatus);
    struct store_iter it;
    const Skep__Task *t;
    bool job = service->spec->mode_case == SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB;
    uint64_t wanted = 0; /* of a job: still to be completed */

    skep__service_status__init(status);
    status->service_id = service->id;
    for (t = store_service_tasks(env->core->store, service->id, &it); t != NULL;
         t = store_iter_next(&it)) {
        const Skep__Node *node = store_node(env->core->store, t->node_id);
        bool lost = node != NULL && node->status != NULL &&
                    node->status->state == SKEP__NODE_STATE__NODE_DOWN;

        if (t->desired_state <= SKEP__TASK_STATE__TASK_COMPLETE &&
            !(job && t->status->state >= SKEP__TASK_STATE__TASK_COMPLETE))
            wanted++;
        if (t->status->state == SKEP__TASK_STATE__TASK_RUNNING && !lost &&
            t->desired_state <= SKEP__TASK_STATE__TASK_COMPLETE)
            status->running++;
        if (t->status->state == SKEP__TASK_STATE__TASK_COMPLETE &&
            t->job_iteration == service->job_iteration)
            status->completed++;
    }
    if (service->spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED)
        status->desired = service->spec->replicated->replicas;
    else if (service->spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB)
        status->desired = service->spec->replicated_job->max_concurrent;
    else
        status->desired = wanted;
    return status;
}

static void add_statuses(const struct control_env *env, Skep__ObjectListResponse *out)
{
    out->statuses = arena_array(env->arena, out->n_objects, sizeof(*out->statuses));
    for (size_t i = 0; i < out->n_objects; i++)
        out->statuses[i] = count_tasks(env, out->objects[i]->service);
    out->n_statuses = out->n_objects;
}

int control_object_list(const struct control_env *env, const ProtobufCMessage *request,
                        const struct control_subject *subject, ProtobufCMessage **ret_answer,
                        struct err *e)
{
    const Skep__ObjectListRequest *req = (const Skep__ObjectListRequest *)request;
    Skep__ObjectListResponse *out = ARENA_NEW(env->arena, Skep__ObjectListResponse);
    struct page p = { .out = out, .limit = CONTROL_LIST_OBJECTS_MAX };

    (void)subject; /* a read has none */
    if (req->kind <= SKEP__KIND__KIND_NONE || (int)req->kind >= STORE_KIND_COUNT)
        return err_set(e, ERR_INVALID, "kind: %d is not a kind of object", (int)req->kind);
    if (req->limit > 0)
        p.limit = MIN(p.limit, (size_t)req->limit);
    skep__object_list_response__init(out);
    out->objects = arena_array(env->arena, p.limit, sizeof(*out->objects));
    out->version = store_version(env->core->store);
    if (req->kind == SKEP__KIND__KIND_TASK && req->filter != NULL &&
        req->filter->n_service_ids == 1 && req->after_id[0] == '\0' && req->limit == 0 &&
        store_service_task_count(env->core->store, req->filter->service_ids[0]) < p.limit / 2)
        list_tasks_of_service(env, req, &p);
    else
        list_all(env, req, &p);
    if (req->kind == SKEP__KIND__KIND_SERVICE && req->service_status)
        add_statuses(env, out);
    *ret_answer = &out->base;
    return 0;
}

static bool watch_wants(const Skep__WatchRequest *req, const struct store_event *ev)
{
    const ProtobufCMessage *object = ev->after != NULL ? ev->after : ev->before;
    bool kind = req->n_kinds == 0;

    for (size_t i = 0; i < req->n_kinds; i++)
        kind = kind || req->kinds[i] == ev->kind;
    if (!kind)
        return false;
    if (req->service_id[0] == '\0')
        return true;
    if (ev->kind == SKEP__KIND__KIND_TASK)
        return strcmp(((const Skep__Task *)object)->service_id, req->service_id) == 0;
    return ev->kind != SKEP__KIND__KIND_SERVICE || strcmp(object_id(object), req->service_id) == 0;
}

static Skep__WatchEvent *watch_event(const struct control_env *env, const struct store_event *ev)
{
    Skep__WatchEvent *out = ARENA_NEW(env->arena, Skep__WatchEvent);

    skep__watch_event__init(out);
    out->action = ev->action == STORE_CREATE   ? SKEP__WATCH_EVENT__ACTION__CREATE
                  : ev->action == STORE_UPDATE ? SKEP__WATCH_EVENT__ACTION__UPDATE
                                               : SKEP__WATCH_EVENT__ACTION__REMOVE;
    out->object = control_redacted(env, ev->after != NULL ? ev->after : ev->before);
    out->version = ev->version;
    return out;
}

static void watch_collect(const struct control_env *env, const Skep__WatchRequest *req,
                          const struct store_event *events, size_t count, Skep__WatchResponse *ret)
{
    ret->events = arena_array(env->arena, count, sizeof(*ret->events));
    for (size_t i = 0; i < count; i++) {
        if (watch_wants(req, &events[i]))
            ret->events[ret->n_events++] = watch_event(env, &events[i]);
    }
}

int control_watch(const struct control_env *env, const Skep__WatchRequest *req, bool *ret_ready,
                  Skep__WatchResponse *ret, struct err *e)
{
    uint64_t version = store_version(env->core->store);
    struct store_event *events = arena_array(env->arena, CONTROL_WATCH_EVENTS_MAX, sizeof(*events));

    (void)e; /* every request has an answer */
    skep__watch_response__init(ret);
    ret->version = version;
    *ret_ready = true;
    if (req->since == 0)
        return 0;
    *ret_ready = false;
    if (req->since >= version) {
        ret->version = req->since;
        return 0;
    }
    for (uint64_t since = req->since; ret->n_events == 0; since = ret->version) {
        int count = store_history(env->core->store, since, events, CONTROL_WATCH_EVENTS_MAX);

        if (count < 0) {
            ret->resync = true;
            *ret_ready = true;
            return 0;
        }
        if (count == 0)
            break;
        watch_collect(env, req, events, (size_t)count, ret);
        ret->version = events[count - 1].version;
    }
    if (ret->n_events == 0)
        ret->version = version;
    *ret_ready = ret->n_events > 0;
    return 0;
}
