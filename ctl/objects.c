#include "ctl/objects.h"

#include <ctype.h>
#include <string.h>

#include "ctl/parse.h"

int ctl_call(struct ctl *c, const struct client_request *r, ProtobufCMessage **ret, struct err *e)
{
    return client_call(c->client, r, &c->arena, ret, e);
}

/* Commands without the option change something, and read what the majority has. */
static bool stale_asked(const struct ctl *c)
{
    return flags_exists(c->flags, "stale") && flags_bool(c->flags, "stale");
}

int object_get(struct ctl *c, Skep__Kind kind, const char *ref, Skep__Object **ret, struct err *e)
{
    Skep__ObjectGetRequest body = SKEP__OBJECT_GET_REQUEST__INIT;
    struct client_request r = {
        .method = SKEP__METHOD__METHOD_OBJECT_GET,
        .body = &body.base,
        .answer = &skep__object_get_response__descriptor,
    };
    ProtobufCMessage *m = NULL;
    int rc;

    body.kind = kind;
    body.ref = arena_strdup(&c->arena, ref);
    body.stale = stale_asked(c);
    rc = ctl_call(c, &r, &m, e);
    if (rc < 0)
        return rc;
    *ret = ((Skep__ObjectGetResponse *)m)->object;
    if (*ret == NULL || (*ret)->object_case == SKEP__OBJECT__OBJECT__NOT_SET)
        return err_set(e, ERR_PROTO, "managerd answered without the object \"%.80s\"", ref);
    return 0;
}

static int list_page(struct ctl *c, Skep__ObjectListRequest *body, struct objects *ret,
                     bool *ret_more, struct err *e)
{
    struct client_request r = {
        .method = SKEP__METHOD__METHOD_OBJECT_LIST,
        .body = &body->base,
        .answer = &skep__object_list_response__descriptor,
    };
    ProtobufCMessage *m = NULL;
    const Skep__ObjectListResponse *page;
    int rc = ctl_call(c, &r, &m, e);

    if (rc < 0)
        return rc;
    page = (const Skep__ObjectListResponse *)m;
    for (size_t i = 0; i < page->n_objects; i++)
        LIST_ADD(&c->arena, ret->count, ret->items, page->objects[i]);
    for (size_t i = 0; i < page->n_statuses; i++)
        LIST_ADD(&c->arena, ret->status_count, ret->statuses, page->statuses[i]);
    ret->version = page->version;
    *ret_more = page->more && page->n_objects > 0;
    return 0;
}

static char *object_id(const Skep__Object *o)
{
    switch (o->object_case) {
    case SKEP__OBJECT__OBJECT_NODE:
        return o->node->id;
    case SKEP__OBJECT__OBJECT_SERVICE:
        return o->service->id;
    case SKEP__OBJECT__OBJECT_TASK:
        return o->task->id;
    case SKEP__OBJECT__OBJECT_NETWORK:
        return o->network->id;
    case SKEP__OBJECT__OBJECT_CLUSTER:
        return o->cluster->id;
    case SKEP__OBJECT__OBJECT_SECRET:
        return o->secret->id;
    case SKEP__OBJECT__OBJECT_CONFIG:
        return o->config->id;
    case SKEP__OBJECT__OBJECT_REVISION:
        return o->revision->id;
    case SKEP__OBJECT__OBJECT__NOT_SET:
    case _SKEP__OBJECT__OBJECT__CASE_IS_INT_SIZE:
        break;
    }
    return NULL;
}

int object_list(struct ctl *c, Skep__Kind kind, const Skep__ObjectFilter *filter,
                struct objects *ret, struct err *e)
{
    Skep__ObjectListRequest body = SKEP__OBJECT_LIST_REQUEST__INIT;
    bool more = true;

    *ret = (struct objects){ 0 };
    body.kind = kind;
    body.filter = (Skep__ObjectFilter *)(uintptr_t)filter; /* only read: packed */
    body.service_status = kind == SKEP__KIND__KIND_SERVICE;
    body.stale = stale_asked(c);
    while (more) {
        int rc = list_page(c, &body, ret, &more, e);

        if (rc < 0)
            return rc;
        if (more)
            body.after_id = object_id(ret->items[ret->count - 1]);
        if (more && body.after_id == NULL)
            return err_set(e, ERR_PROTO, "managerd listed an object without an id");
    }
    return 0;
}

/* docker's words for a reference that names nothing. */
static int not_found(int rc, const char *what, const char *ref, struct err *e)
{
    return rc == -ERR_NOT_FOUND ? err_set(e, ERR_NOT_FOUND, "no such %s: %.80s", what, ref) : rc;
}

int service_get(struct ctl *c, const char *ref, Skep__Service **ret, struct err *e)
{
    Skep__Object *o = NULL;
    int rc = object_get(c, SKEP__KIND__KIND_SERVICE, ref, &o, e);

    if (rc < 0)
        return not_found(rc, "service", ref, e);
    if (o->object_case != SKEP__OBJECT__OBJECT_SERVICE || o->service->spec == NULL)
        return err_set(e, ERR_PROTO, "managerd answered with something else than a service");
    *ret = o->service;
    return 0;
}

int info_get(struct ctl *c, Skep__InfoResponse **ret, struct err *e)
{
    Skep__InfoRequest body = SKEP__INFO_REQUEST__INIT;
    struct client_request r = {
        .method = SKEP__METHOD__METHOD_INFO,
        .body = &body.base,
        .answer = &skep__info_response__descriptor,
    };
    ProtobufCMessage *m = NULL;
    int rc = ctl_call(c, &r, &m, e);

    if (rc == 0)
        *ret = (Skep__InfoResponse *)m;
    return rc;
}

int node_get(struct ctl *c, const char *ref, Skep__Node **ret, struct err *e)
{
    Skep__InfoResponse *info = NULL;
    Skep__Object *o = NULL;
    int rc = 0;

    if (strcmp(ref, "self") == 0) {
        rc = info_get(c, &info, e);
        if (rc < 0)
            return rc;
        ref = info->node_id;
    }
    rc = object_get(c, SKEP__KIND__KIND_NODE, ref, &o, e);
    if (rc < 0)
        return not_found(rc, "node", ref, e);
    if (o->object_case != SKEP__OBJECT__OBJECT_NODE || o->node->spec == NULL)
        return err_set(e, ERR_PROTO, "managerd answered with something else than a node");
    *ret = o->node;
    return 0;
}

int cluster_get(struct ctl *c, Skep__Cluster **ret, struct err *e)
{
    Skep__Object *o = NULL;
    int rc = object_get(c, SKEP__KIND__KIND_CLUSTER, "", &o, e);

    if (rc < 0)
        return rc;
    if (o->object_case != SKEP__OBJECT__OBJECT_CLUSTER || o->cluster->spec == NULL)
        return err_set(e, ERR_PROTO, "managerd answered with something else than the cluster");
    *ret = o->cluster;
    return 0;
}

const char *id_short(struct arena *a, const char *id)
{
    char *copy = arena_strdup(a, id);

    if (strlen(copy) > 12)
        copy[12] = '\0';
    return copy;
}

const char *text_title(struct arena *a, const char *text)
{
    char *copy = arena_strdup(a, text);

    copy[0] = (char)toupper((unsigned char)copy[0]);
    return copy;
}

const char *service_name(const Skep__Service *s)
{
    return s->spec != NULL && s->spec->annotations != NULL ? s->spec->annotations->name : "";
}

const char *node_name(const Skep__Node *n)
{
    const Skep__Annotations *a = n->spec != NULL ? n->spec->annotations : NULL;

    if (n->description != NULL && n->description->hostname[0] != '\0')
        return n->description->hostname;
    return a != NULL && a->name[0] != '\0' ? a->name : n->id;
}

const Skep__Service *objects_service(const struct objects *list, const char *id)
{
    for (size_t i = 0; i < list->count; i++) {
        const Skep__Object *o = list->items[i];

        if (o->object_case == SKEP__OBJECT__OBJECT_SERVICE && strcmp(o->service->id, id) == 0)
            return o->service;
    }
    return NULL;
}

const Skep__Node *objects_node(const struct objects *list, const char *id)
{
    for (size_t i = 0; i < list->count; i++) {
        const Skep__Object *o = list->items[i];

        if (o->object_case == SKEP__OBJECT__OBJECT_NODE && strcmp(o->node->id, id) == 0)
            return o->node;
    }
    return NULL;
}
