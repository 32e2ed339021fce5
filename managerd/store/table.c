#include <inttypes.h>
#include <string.h>

#include "common/assert.h"
#include "common/hash.h"
#include "managerd/store/internal.h"

struct id_key {
    Skep__Kind kind;
    uint32_t id_chars;
    uint64_t prefix;
    const char *id;
};

static uint64_t id_hash(Skep__Kind kind, const char *id, size_t chars)
{
    return hash_bytes(id, chars, (uint64_t)kind);
}

static bool id_match(const void *value, const void *key)
{
    const struct entry *e = value;
    const struct id_key *k = key;

    return e->kind == k->kind && e->id_chars == k->id_chars &&
           memcmp(e->id, k->id, k->id_chars) == 0;
}

struct entry *entry_of(const struct tree_node *by_id)
{
    return by_id != NULL ? CONTAINER_OF(by_id, struct entry, by_id) : NULL;
}

struct entry *table_find(const struct store *s, Skep__Kind kind, const char *id)
{
    struct id_key key = { .kind = kind, .id_chars = (uint32_t)strlen(id), .id = id };

    return map_find(&s->ids, id_hash(kind, id, key.id_chars), id_match, &key);
}

struct entry *table_find_live(const struct store *s, Skep__Kind kind, const char *id)
{
    struct entry *e = table_find(s, kind, id);

    return e != NULL && e->object != NULL ? e : NULL;
}

void table_hint(const struct store *s, Skep__Kind kind, const char *id, struct table_hint *ret_hint)
{
    ret_hint->set = true;
    ret_hint->hash = id_hash(kind, id, strlen(id));
    if (s->ids.capacity > 0)
        __builtin_prefetch(&s->ids.slots[ret_hint->hash & (s->ids.capacity - 1)]);
}

void table_hint_entry(const struct store *s, struct table_hint *h)
{
    size_t mask = s->ids.capacity - 1;

    if (!h->set || s->ids.count == 0)
        return;
    for (size_t i = h->hash & mask; s->ids.slots[i].value != NULL; i = (i + 1) & mask) {
        if (s->ids.slots[i].hash != h->hash)
            continue;
        h->entry = s->ids.slots[i].value;
        for (size_t at = 0; at < sizeof(*h->entry) + ID_CHARS; at += 64)
            __builtin_prefetch((const uint8_t *)h->entry + at, 1);
        return;
    }
}

bool table_hint_check(const struct table_hint *h, Skep__Kind kind, const char *id)
{
    return h->entry != NULL && h->entry->kind == kind && strcmp(h->entry->id, id) == 0;
}

void table_hint_object(const struct store *s, const struct table_hint *h)
{
    enum { TASK_BYTES = 448 }; /* of a usual one */

    if (h->entry == NULL || h->entry->object == NULL)
        return;
    __builtin_prefetch(&s->objects[h->entry->place], 1);
    for (size_t at = 0; at < TASK_BYTES; at += 64)
        __builtin_prefetch((const uint8_t *)h->entry->object + at);
}

struct entry *table_add(struct store *s, Skep__Kind kind, const char *id)
{
    size_t chars = strlen(id);
    struct entry *e = xcalloc(1, sizeof(*e) + chars + 1);

    e->kind = kind;
    e->id_chars = (uint32_t)chars;
    e->prefix = text_rank(id);
    memcpy(e->id, id, chars + 1);
    map_add(&s->ids, id_hash(kind, id, chars), e);
    return e;
}

void table_drop(struct store *s, struct entry *e)
{
    ASSERT(e->object == NULL);
    map_remove(&s->ids, id_hash(e->kind, e->id, e->id_chars), e);
    free(e);
}

/* ---- reading ---- */

const ProtobufCMessage *store_get(const struct store *s, Skep__Kind kind, const char *id)
{
    struct entry *e = table_find(s, kind, id);

    return e != NULL ? e->object : NULL;
}

const Skep__Node *store_node(const struct store *s, const char *id)
{
    return (const Skep__Node *)store_get(s, SKEP__KIND__KIND_NODE, id);
}

const Skep__Service *store_service(const struct store *s, const char *id)
{
    return (const Skep__Service *)store_get(s, SKEP__KIND__KIND_SERVICE, id);
}

const Skep__Task *store_task(const struct store *s, const char *id)
{
    return (const Skep__Task *)store_get(s, SKEP__KIND__KIND_TASK, id);
}

const Skep__Cluster *store_cluster(const struct store *s)
{
    return (const Skep__Cluster *)store_first(s, SKEP__KIND__KIND_CLUSTER);
}

uint64_t store_version(const struct store *s)
{
    return s->version;
}

size_t store_count(const struct store *s, Skep__Kind kind)
{
    return kind_valid((int)kind) ? s->tables[kind].count : 0;
}

const ProtobufCMessage *store_first(const struct store *s, Skep__Kind kind)
{
    if (!kind_valid((int)kind))
        return NULL;
    struct entry *e = entry_of(tree_first(&s->tables[kind]));
    return e != NULL ? e->object : NULL;
}

static int key_compare(const void *key, const struct tree_node *n)
{
    const struct id_key *k = key;
    const struct entry *e = CONTAINER_OF(n, struct entry, by_id);

    if (k->prefix != e->prefix)
        return k->prefix < e->prefix ? -1 : 1;
    return strcmp(k->id, e->id);
}

const ProtobufCMessage *store_after(const struct store *s, Skep__Kind kind, const char *after_id)
{
    struct id_key key = { .prefix = text_rank(after_id), .id = after_id };

    if (!kind_valid((int)kind))
        return NULL;
    struct entry *e = entry_of(tree_after(&s->tables[kind], &key, key_compare));
    return e != NULL ? e->object : NULL;
}

void store_revision_id(const char *service_id, uint64_t spec_version,
                       char ret_id[STORE_REVISION_ID_CHARS + 1])
{
    (void)snprintf(ret_id, STORE_REVISION_ID_CHARS + 1, "%.*s.%" PRIu64, ID_CHARS, service_id,
                   spec_version);
}

/* ---- life ---- */

struct store *store_new(void)
{
    struct store *s = xcalloc(1, sizeof(*s));

    s->graveyard = s->history.graveyard = graveyard_new();
    return s;
}

void store_free(struct store *s)
{
    if (s == NULL)
        return;
    history_clear(&s->history, 0);
    free(s->history.events);
    for (int kind = 1; kind < STORE_KIND_COUNT; kind++) {
        for (struct entry *e; (e = entry_of(tree_first(&s->tables[kind]))) != NULL;) {
            const ProtobufCMessage *object = e->object;

            index_replace(s, e, NULL);
            graveyard_bury(s->graveyard, object, UINT64_MAX);
            table_drop(s, e);
        }
    }
    index_sweep(s);
    graveyard_close(s->graveyard);
    free(s->live);
    free(s->objects);
    for (size_t i = 0; i < s->request_count; i++)
        free(request_at(s, i)->text);
    free(s->requests);
    map_deinit(&s->request_ids);
    map_deinit(&s->ids);
    map_deinit(&s->names);
    map_deinit(&s->services);
    map_deinit(&s->nodes);
    arena_deinit(&s->decode);
    free(s->changes);
    free(s->touched);
    free(s);
}
