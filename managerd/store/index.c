#include <string.h>
#include <strings.h>

#include "common/assert.h"
#include "common/hash.h"
#include "managerd/store/internal.h"

/* ---- ids ---- */

static int id_order(const struct entry *a, const struct entry *b)
{
    if (a->prefix != b->prefix)
        return a->prefix < b->prefix ? -1 : 1;
    return strcmp(a->id, b->id);
}

static int by_id_order(const struct tree_node *a, const struct tree_node *b)
{
    return id_order(entry_of(a), entry_of(b));
}

static int by_service_order(const struct tree_node *a, const struct tree_node *b)
{
    const struct entry *s = CONTAINER_OF(a, struct entry, by_service);
    const struct entry *t = CONTAINER_OF(b, struct entry, by_service);

    if (s->slot != t->slot)
        return s->slot < t->slot ? -1 : 1;
    return id_order(s, t);
}

/* ---- groups: tasks of a service or a node ---- */

static bool group_match(const void *value, const void *key)
{
    return strcmp(((const struct group *)value)->id, key) == 0;
}

struct group *index_group(const struct store *s, bool by_node, const char *id)
{
    return map_find(by_node ? &s->nodes : &s->services, hash_str(id, 0), group_match, id);
}

static struct group *group_get(struct store *s, bool by_node, const char *id)
{
    struct group *g = index_group(s, by_node, id);

    if (g != NULL)
        return g;
    g = xcalloc(1, sizeof(*g) + strlen(id) + 1);
    g->by_node = by_node;
    memcpy(g->id, id, strlen(id) + 1);
    map_add(by_node ? &s->nodes : &s->services, hash_str(id, 0), g);
    return g;
}

static void group_drop_if_empty(struct store *s, struct group *g)
{
    if (g->tasks.count > 0 || g->versions.count > 0 || g->task_count > 0)
        return;
    map_remove(g->by_node ? &s->nodes : &s->services, hash_str(g->id, 0), g);
    free(g->list);
    free(g);
}

static int version_order(const struct tree_node *a, const struct tree_node *b)
{
    uint64_t s = CONTAINER_OF(a, struct spec_version, by_number)->number;
    uint64_t t = CONTAINER_OF(b, struct spec_version, by_number)->number;

    return s < t ? -1 : s > t;
}

static int version_key(const void *key, const struct tree_node *n)
{
    uint64_t s = *(const uint64_t *)key;
    uint64_t t = CONTAINER_OF(n, struct spec_version, by_number)->number;

    return s < t ? -1 : s > t;
}

struct spec_version *index_version(const struct group *g, uint64_t number)
{
    struct tree_node *n = tree_find(&g->versions, &number, version_key);

    return n != NULL ? CONTAINER_OF(n, struct spec_version, by_number) : NULL;
}

static struct spec_version *version_get(struct group *g, uint64_t number)
{
    struct spec_version *v = index_version(g, number);

    if (v != NULL)
        return v;
    v = xcalloc(1, sizeof(*v));
    v->group = g;
    v->number = number;
    tree_insert(&g->versions, &v->by_number, version_order);
    return v;
}

void index_touch(struct store *s, struct spec_version *v)
{
    if (v == NULL || v->touched)
        return;
    if (s->touched_count == s->touched_capacity) {
        s->touched_capacity = MAX(s->touched_capacity * 2, (size_t)16);
        s->touched = xrealloc_array(s->touched, s->touched_capacity, sizeof(*s->touched));
    }
    v->touched = true;
    s->touched[s->touched_count++] = v;
}

void index_sweep(struct store *s)
{
    for (size_t i = 0; i < s->touched_count; i++) {
        struct spec_version *v = s->touched[i];
        struct group *g = v->group;

        v->touched = false;
        if (v->task_count > 0 || v->revision != NULL)
            continue;
        tree_remove(&g->versions, &v->by_number);
        free(v);
        group_drop_if_empty(s, g);
    }
    s->touched_count = 0;
}

/* ---- tasks ---- */

static void link_service(struct store *s, struct entry *e, const Skep__Task *task)
{
    if (task == NULL || task->service_id[0] == '\0')
        return;
    e->service = group_get(s, false, task->service_id);
    e->version = version_get(e->service, task->spec_version);
    e->version->task_count++;
    e->slot = task->slot;
    tree_insert(&e->service->tasks, &e->by_service, by_service_order);
}

static void unlink_service(struct store *s, struct entry *e)
{
    if (e->service == NULL)
        return;
    tree_remove(&e->service->tasks, &e->by_service);
    if (--e->version->task_count == 0)
        index_touch(s, e->version);
    e->service = NULL;
    e->version = NULL;
}

/* Closes the gaps; the order stays. */
static void compact(struct group *g)
{
    uint32_t count = 0, sorted = 0;

    for (uint32_t i = 0; i < g->list_count; i++) {
        if (g->list[i] == NULL)
            continue;
        g->list[i]->by_node = count;
        g->list[count++] = g->list[i];
        sorted += i < g->sorted_count;
    }
    g->list_count = count;
    g->sorted_count = sorted;
}

static void link_node(struct store *s, struct entry *e, const Skep__Task *task)
{
    if (task == NULL || task->node_id[0] == '\0')
        return;
    struct group *g = group_get(s, true, task->node_id);

    if (g->list_count == g->list_capacity && g->task_count < g->list_count / 4 * 3) {
        compact(g);
    } else if (g->list_count == g->list_capacity) {
        g->list_capacity = MAX(g->list_capacity * 2, (uint32_t)8);
        g->list = xrealloc_array(g->list, g->list_capacity, sizeof(struct entry *));
    }
    e->node = g;
    e->by_node = g->list_count;
    g->list[g->list_count++] = e;
    g->task_count++;
}

static void unlink_node(struct store *s, struct entry *e)
{
    struct group *g = e->node;

    if (g == NULL)
        return;
    g->list[e->by_node] = NULL;
    g->task_count--;
    group_drop_if_empty(s, g);
    e->node = NULL;
}

static int list_order(const void *a, const void *b)
{
    return id_order(*(struct entry *const *)a, *(struct entry *const *)b);
}

/* Puts the list of a node in order: sorts what was added and merges it with the rest. */
static void sort_list(struct group *g)
{
    if (g->sorted_count == g->list_count)
        return;
    compact(g);
    uint32_t head = g->sorted_count, tail = g->list_count - head, at = g->list_count;
    struct entry **added = xmemdup(g->list + head, tail * sizeof(struct entry *));

    qsort(added, tail, sizeof(struct entry *), list_order);
    while (tail > 0) { /* from the end, so that nothing is overwritten before it has moved */
        if (head > 0 && id_order(g->list[head - 1], added[tail - 1]) > 0)
            g->list[--at] = g->list[--head];
        else
            g->list[--at] = added[--tail];
    }
    free(added);
    for (uint32_t i = 0; i < g->list_count; i++)
        g->list[i]->by_node = i;
    g->sorted_count = g->list_count;
}

static void replace_task(struct store *s, struct entry *e, const Skep__Task *from,
                         const Skep__Task *to)
{
    bool both = from != NULL && to != NULL;

    if (!both || from->slot != to->slot || from->spec_version != to->spec_version ||
        strcmp(from->service_id, to->service_id) != 0) {
        unlink_service(s, e);
        link_service(s, e, to);
    }
    if (!both || strcmp(from->node_id, to->node_id) != 0) {
        unlink_node(s, e);
        link_node(s, e, to);
    }
}

/* ---- services and revisions ---- */

static void touch_number(struct store *s, const char *service_id, uint64_t number)
{
    struct group *g = index_group(s, false, service_id);

    if (g != NULL)
        index_touch(s, index_version(g, number));
}

/* A service that changes or goes may leave behind the revisions it named. */
static void replace_service(struct store *s, const Skep__Service *from)
{
    if (from == NULL)
        return;
    touch_number(s, from->id, from->meta->spec_version);
    touch_number(s, from->id, from->previous_spec_version);
}

static void replace_revision(struct store *s, struct entry *e, const Skep__Revision *from,
                             const Skep__Revision *to)
{
    if (from != NULL) {
        struct spec_version *v =
            index_version(index_group(s, false, from->service_id), from->spec_version);
        v->revision = NULL;
        index_touch(s, v);
    }
    if (to != NULL)
        version_get(group_get(s, false, to->service_id), to->spec_version)->revision = e;
}

/* ---- names ---- */

struct name_key {
    Skep__Kind kind;
    const char *name;
};

static uint64_t name_hash(Skep__Kind kind, const char *name)
{
    return hash_str_nocase(name, (uint64_t)kind);
}

static bool name_match(const void *value, const void *key)
{
    const struct entry *e = value;
    const struct name_key *k = key;

    return e->kind == k->kind && strcasecmp(object_name(e->object), k->name) == 0;
}

struct entry *index_find_name(const struct store *s, Skep__Kind kind, const char *name)
{
    struct name_key key = { kind, name };

    return name[0] != '\0' ? map_find(&s->names, name_hash(kind, name), name_match, &key) : NULL;
}

static void unlink_name(struct store *s, struct entry *e)
{
    const char *name = e->object != NULL ? object_name(e->object) : "";

    if (name[0] != '\0')
        map_remove(&s->names, name_hash(e->kind, name), e);
}

static void link_name(struct store *s, struct entry *e)
{
    const char *name = e->object != NULL ? object_name(e->object) : "";

    if (name[0] != '\0')
        map_add(&s->names, name_hash(e->kind, name), e);
}

/* Keeps the lists of all live entries and their objects. */
static void replace_live(struct store *s, struct entry *e, const ProtobufCMessage *to)
{
    if (e->object != NULL && to != NULL) {
        s->objects[e->place] = to;
        return;
    }
    if (to == NULL) {
        struct entry *last = s->live[--s->live_count];

        s->live[e->place] = last;
        s->objects[e->place] = s->objects[last->place];
        last->place = e->place;
        return;
    }
    if (s->live_count == s->live_capacity) {
        s->live_capacity = MAX(s->live_capacity * 2, (size_t)64);
        s->live = xrealloc_array(s->live, s->live_capacity, sizeof(struct entry *));
        s->objects = xrealloc_array(s->objects, s->live_capacity, sizeof(ProtobufCMessage *));
    }
    ASSERT(s->live_count < UINT32_MAX);
    e->place = (uint32_t)s->live_count;
    s->live[s->live_count] = e;
    s->objects[s->live_count++] = to;
}

void index_replace(struct store *s, struct entry *e, const ProtobufCMessage *to)
{
    const ProtobufCMessage *from = e->object;
    bool named = kind_info(e->kind)->unique_names;

    if (from == NULL && to == NULL)
        return; /* undoing what came and went */
    replace_live(s, e, to);
    if (named)
        unlink_name(s, e);
    if (from == NULL && to != NULL)
        tree_insert(&s->tables[e->kind], &e->by_id, by_id_order);
    else if (from != NULL && to == NULL)
        tree_remove(&s->tables[e->kind], &e->by_id);
    if (e->kind == SKEP__KIND__KIND_TASK)
        replace_task(s, e, (const Skep__Task *)from, (const Skep__Task *)to);
    else if (e->kind == SKEP__KIND__KIND_SERVICE)
        replace_service(s, (const Skep__Service *)from);
    else if (e->kind == SKEP__KIND__KIND_REVISION)
        replace_revision(s, e, (const Skep__Revision *)from, (const Skep__Revision *)to);
    e->object = to;
    if (named)
        link_name(s, e);
}

/* ---- reading ---- */

const Skep__Revision *store_revision(const struct store *s, const char *service_id,
                                     uint64_t spec_version)
{
    struct group *g = index_group(s, false, service_id);
    struct spec_version *v = g != NULL ? index_version(g, spec_version) : NULL;

    return v != NULL && v->revision != NULL ? (const Skep__Revision *)v->revision->object : NULL;
}

const Skep__Revision *store_task_revision(const struct store *s, const Skep__Task *task)
{
    return store_revision(s, task->service_id, task->spec_version);
}

/* The first entry of a node's list at or after a place. */
static struct entry *list_from(const struct group *g, uint32_t at)
{
    while (at < g->list_count && g->list[at] == NULL)
        at++;
    return at < g->list_count ? g->list[at] : NULL;
}

static struct entry *service_member(struct tree_node *n)
{
    return n != NULL ? CONTAINER_OF(n, struct entry, by_service) : NULL;
}

static const Skep__Task *iterate(const struct group *g, const struct entry *from,
                                 struct store_iter *it)
{
    *it = (struct store_iter){ .at = from, .index = g };
    return from != NULL ? (const Skep__Task *)from->object : NULL;
}

const Skep__Task *store_service_tasks(const struct store *s, const char *service_id,
                                      struct store_iter *it)
{
    const struct group *g = index_group(s, false, service_id);

    return iterate(g, g != NULL ? service_member(tree_first(&g->tasks)) : NULL, it);
}

const Skep__Task *store_node_tasks(const struct store *s, const char *node_id,
                                   struct store_iter *it)
{
    struct group *g = index_group(s, true, node_id);

    if (g != NULL)
        sort_list(g);
    return iterate(g, g != NULL ? list_from(g, 0) : NULL, it);
}

/* Everything of a lower slot sorts before; the slot itself and all above after. */
static int slot_key(const void *key, const struct tree_node *n)
{
    return *(const uint64_t *)key <= CONTAINER_OF(n, struct entry, by_service)->slot ? -1 : 1;
}

const Skep__Task *store_slot_tasks(const struct store *s, const char *service_id, uint64_t slot,
                                   struct store_iter *it)
{
    const struct group *g = index_group(s, false, service_id);

    return iterate(g, g != NULL ? service_member(tree_after(&g->tasks, &slot, slot_key)) : NULL,
                   it);
}

const Skep__Task *store_iter_next(struct store_iter *it)
{
    const struct entry *e = it->at;
    const struct group *g = it->index;

    if (e == NULL)
        return NULL;
    e = g->by_node ? list_from(g, e->by_node + 1) : service_member(tree_next(&e->by_service));
    it->at = e;
    return e != NULL ? (const Skep__Task *)e->object : NULL;
}

size_t store_service_task_count(const struct store *s, const char *service_id)
{
    struct group *g = index_group(s, false, service_id);

    return g != NULL ? g->tasks.count : 0;
}
