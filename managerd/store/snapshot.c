#include <string.h>

#include "common/assert.h"
#include "common/hash.h"
#include "managerd/store/internal.h"

/* A snapshot's bytes are records: a length (4 bytes, little endian) and a packed SnapshotRecord.
 * Objects come by kind and id, then results of requests, oldest first: equal stores give equal
 * bytes. */

enum {
    RECORD_HEAD_BYTES = 4,
    RECORD_BYTES_MAX = STORE_OBJECT_BYTES_MAX + 4096, /* the meta that apply adds */
};

struct store_snapshot {
    uint64_t version;
    const ProtobufCMessage **objects; /* in order when packing begins; kept by the graveyard */
    size_t object_count;
    struct graveyard *graveyard;
    struct store_snapshot *older;
    uint8_t *requests; /* packed when taken */
    size_t requests_size;
    /* packing */
    bool sorted;
    size_t object_next, requests_next;
    uint8_t *record; /* one that did not fit as a whole */
    size_t record_size, record_next;
};

/* ---- what snapshots still need ---- */

struct graveyard *graveyard_new(void)
{
    return xcalloc(1, sizeof(struct graveyard));
}

static void grow(struct graveyard *y)
{
    size_t capacity = MAX(y->capacity * 2, (size_t)64);
    struct retired *retired = xrealloc_array(NULL, capacity, sizeof(*retired));

    for (size_t i = 0; i < y->count; i++)
        retired[i] = y->retired[(y->first + i) % y->capacity];
    free(y->retired);
    y->retired = retired;
    y->capacity = capacity;
    y->first = 0;
}

void graveyard_bury(struct graveyard *y, const ProtobufCMessage *object, uint64_t version)
{
    /* Newer than the newest snapshot, or older than all: nobody needs it. */
    if (y->snapshots == NULL || object_meta(object)->version > y->snapshots->version) {
        object_unref(object);
        return;
    }
    if (y->count == y->capacity)
        grow(y);
    y->retired[(y->first + y->count++) % y->capacity] = (struct retired){ object, version };
}

void graveyard_sweep(struct graveyard *y, size_t max)
{
    const struct store_snapshot *oldest = y->snapshots;

    while (oldest != NULL && oldest->older != NULL)
        oldest = oldest->older;
    for (; max > 0 && y->count > 0; max--) {
        struct retired *r = &y->retired[y->first];

        if (oldest != NULL && r->version > oldest->version)
            return;
        object_unref(r->object);
        y->first = (y->first + 1) % y->capacity;
        y->count--;
    }
}

void graveyard_close(struct graveyard *y)
{
    y->closed = true;
    if (y->snapshots != NULL)
        return;
    graveyard_sweep(y, SIZE_MAX);
    free(y->retired);
    free(y);
}

static void put_head(uint8_t *to, size_t size)
{
    for (int i = 0; i < RECORD_HEAD_BYTES; i++)
        to[i] = (uint8_t)(size >> (8 * i));
}

static size_t get_head(const uint8_t *from)
{
    size_t size = 0;

    for (int i = 0; i < RECORD_HEAD_BYTES; i++)
        size |= (size_t)from[i] << (8 * i);
    return size;
}

/* ---- taking ---- */

static void pack_request(const struct request *r, struct store_snapshot *snap)
{
    Skep__SnapshotRecord record = SKEP__SNAPSHOT_RECORD__INIT;
    Skep__RequestResult result = SKEP__REQUEST_RESULT__INIT;

    result.request_id.data = (uint8_t *)(uintptr_t)r->id;
    result.request_id.len = sizeof(r->id);
    result.version = r->version;
    result.code = (uint32_t)r->code;
    if (r->code != 0)
        result.message = r->text;
    else
        result.object_id = r->text;
    record.record_case = SKEP__SNAPSHOT_RECORD__RECORD_REQUEST;
    record.request = &result;
    size_t size = skep__snapshot_record__get_packed_size(&record);
    snap->requests = xrealloc(snap->requests, snap->requests_size + RECORD_HEAD_BYTES + size);
    put_head(snap->requests + snap->requests_size, size);
    (void)skep__snapshot_record__pack(&record,
                                      snap->requests + snap->requests_size + RECORD_HEAD_BYTES);
    snap->requests_size += RECORD_HEAD_BYTES + size;
}

struct store_snapshot *store_snapshot_take(const struct store *s)
{
    struct store_snapshot *snap = xcalloc(1, sizeof(*snap));

    ASSERT(s->change_count == 0); /* never from an event */
    snap->version = s->version;
    snap->object_count = s->live_count;
    snap->objects = xrealloc_array(NULL, s->live_count, sizeof(ProtobufCMessage *));
    if (s->live_count > 0)
        memcpy(snap->objects, s->objects, s->live_count * sizeof(ProtobufCMessage *));
    snap->graveyard = s->graveyard;
    snap->older = s->graveyard->snapshots;
    s->graveyard->snapshots = snap;
    for (size_t i = 0; i < s->request_count; i++)
        pack_request(request_at(s, i), snap);
    return snap;
}

uint64_t store_snapshot_version(const struct store_snapshot *snap)
{
    return snap->version;
}

void store_snapshot_free(struct store_snapshot *snap)
{
    if (snap == NULL)
        return;
    struct graveyard *y = snap->graveyard;
    struct store_snapshot **at = &y->snapshots;

    while (*at != snap)
        at = &(*at)->older;
    *at = snap->older;
    if (y->closed)
        graveyard_close(y);
    free(snap->objects);
    free(snap->requests);
    free(snap->record);
    free(snap);
}

/* ---- packing: on any thread, only reads ---- */

/* What objects are sorted by, gathered first: comparing must not touch them again. */
struct sort_key {
    Skep__Kind kind;
    uint64_t rank;
    const ProtobufCMessage *object;
};

static int key_order(const void *a, const void *b)
{
    const struct sort_key *s = a, *t = b;

    if (s->kind != t->kind)
        return s->kind < t->kind ? -1 : 1;
    if (s->rank != t->rank)
        return s->rank < t->rank ? -1 : 1;
    return strcmp(object_id(s->object), object_id(t->object));
}

static void sort_objects(struct store_snapshot *snap)
{
    struct sort_key *keys = xrealloc_array(NULL, snap->object_count, sizeof(*keys));

    for (size_t i = 0; i < snap->object_count; i++)
        keys[i] = (struct sort_key){ object_kind(snap->objects[i]),
                                     text_rank(object_id(snap->objects[i])), snap->objects[i] };
    qsort(keys, snap->object_count, sizeof(*keys), key_order);
    for (size_t i = 0; i < snap->object_count; i++)
        snap->objects[i] = keys[i].object;
    free(keys);
    snap->sorted = true;
}

static size_t record_size(const ProtobufCMessage *object, Skep__Object *wrapped,
                          Skep__SnapshotRecord *record)
{
    object_wrap(object, object_kind(object), wrapped);
    skep__snapshot_record__init(record);
    record->record_case = SKEP__SNAPSHOT_RECORD__RECORD_OBJECT;
    record->object = wrapped;
    return message_measure(&record->base).packed;
}

static void pack_record(const Skep__SnapshotRecord *record, size_t size, uint8_t *to)
{
    put_head(to, size);
    size_t written = skep__snapshot_record__pack(record, to + RECORD_HEAD_BYTES);
    ASSERT(written == size);
}

/* Copies what fits of size bytes at *next of from. */
static size_t drain(const uint8_t *from, size_t size, size_t *next, uint8_t *to, size_t room)
{
    size_t bytes = MIN(size - *next, room);

    if (bytes > 0)
        memcpy(to, from + *next, bytes);
    *next += bytes;
    return bytes;
}

size_t store_snapshot_next(struct store_snapshot *snap, uint8_t *mem, size_t max)
{
    size_t used;

    if (!snap->sorted)
        sort_objects(snap);
    used = drain(snap->record, snap->record_size, &snap->record_next, mem, max);
    while (used < max && snap->object_next < snap->object_count) {
        Skep__Object wrapped;
        Skep__SnapshotRecord record;
        size_t size = record_size(snap->objects[snap->object_next++], &wrapped, &record);

        if (RECORD_HEAD_BYTES + size <= max - used) {
            pack_record(&record, size, mem + used);
            used += RECORD_HEAD_BYTES + size;
            continue;
        }
        snap->record = xrealloc(snap->record, RECORD_HEAD_BYTES + size);
        snap->record_size = RECORD_HEAD_BYTES + size;
        snap->record_next = 0;
        pack_record(&record, size, snap->record);
        used += drain(snap->record, snap->record_size, &snap->record_next, mem + used, max - used);
    }
    return used +
           drain(snap->requests, snap->requests_size, &snap->requests_next, mem + used, max - used);
}

/* ---- loading ---- */

struct store_loader {
    struct store *store;
    uint8_t *partial; /* a record whose end has not come yet, with its head */
    size_t partial_size, partial_capacity;
};

struct store_loader *store_loader_new(void)
{
    struct store_loader *l = xcalloc(1, sizeof(*l));

    l->store = store_new();
    return l;
}

void store_loader_free(struct store_loader *l)
{
    if (l == NULL)
        return;
    store_free(l->store);
    free(l->partial);
    free(l);
}

static int load_object(struct store *s, const Skep__Object *wrapped, struct err *e)
{
    Skep__Kind kind = SKEP__KIND__KIND_NONE;
    const ProtobufCMessage *object = object_unwrap(wrapped, &kind);

    if (object == NULL || object_meta(object) == NULL)
        return err_set(e, ERR_CORRUPT, "snapshot: a record without an object");
    const char *text = kind_info(kind)->text, *id = object_id(object);
    bool complete = kind_info(kind)->spec_offset == 0 || object_spec(object, kind) != NULL;
    if (kind == SKEP__KIND__KIND_TASK)
        complete = ((const Skep__Task *)object)->status != NULL;
    else if (kind == SKEP__KIND__KIND_REVISION)
        complete = ((const Skep__Revision *)object)->spec != NULL;
    if (!complete || id[0] == '\0' || strlen(id) > STORE_REVISION_ID_CHARS)
        return err_set(e, ERR_CORRUPT, "snapshot: %s %.*s is incomplete", text,
                       STORE_REVISION_ID_CHARS, id);
    if (table_find(s, kind, id) != NULL ||
        (kind_info(kind)->unique_names && index_find_name(s, kind, object_name(object)) != NULL) ||
        (kind == SKEP__KIND__KIND_REVISION &&
         store_revision(s, ((const Skep__Revision *)object)->service_id,
                        ((const Skep__Revision *)object)->spec_version) != NULL))
        return err_set(e, ERR_CORRUPT, "snapshot: %s %s comes twice", text, id);
    struct message_size size = message_measure(object);
    index_replace(s, table_add(s, kind, id), object_new(object, &size));
    return 0;
}

static int load_request(struct store *s, const Skep__RequestResult *r, struct err *e)
{
    if (r == NULL || r->request_id.len != STORE_REQUEST_ID_BYTES || r->code > ERR_INTERNAL ||
        request_find(s, r->request_id.data) != NULL)
        return err_set(e, ERR_CORRUPT, "snapshot: a damaged request result");
    request_add(s, r->request_id.data, r->version, (int)r->code,
                r->code != 0 ? r->message : r->object_id);
    return 0;
}

static int load_record(struct store *s, const uint8_t *mem, size_t size, struct err *e)
{
    ProtobufCAllocator allocator = message_arena_allocator(&s->decode);
    Skep__SnapshotRecord *record = skep__snapshot_record__unpack(&allocator, size, mem);
    int rc;

    if (record == NULL)
        rc = err_set(e, ERR_CORRUPT, "snapshot: a record does not decode");
    else if (record->record_case == SKEP__SNAPSHOT_RECORD__RECORD_OBJECT)
        rc = load_object(s, record->object, e);
    else if (record->record_case == SKEP__SNAPSHOT_RECORD__RECORD_REQUEST)
        rc = load_request(s, record->request, e);
    else
        rc = err_set(e, ERR_CORRUPT, "snapshot: a record of an unknown kind");
    arena_reset(&s->decode);
    return rc;
}

/* Size of the record that begins at mem, head included; 0: the head is not complete. */
static size_t whole_size(const uint8_t *mem, size_t size)
{
    return size < RECORD_HEAD_BYTES ? 0 : RECORD_HEAD_BYTES + get_head(mem);
}

static void partial_add(struct store_loader *l, const uint8_t *mem, size_t size)
{
    if (l->partial_size + size > l->partial_capacity) {
        l->partial_capacity = MAX(l->partial_size + size, l->partial_capacity * 2);
        l->partial = xrealloc(l->partial, l->partial_capacity);
    }
    memcpy(l->partial + l->partial_size, mem, size);
    l->partial_size += size;
}

/* Completes the partial record from mem; returns how much of mem was used, or an error. */
static int64_t finish_partial(struct store_loader *l, const uint8_t *mem, size_t size,
                              struct err *e)
{
    size_t used = 0;

    while (l->partial_size > 0 && used < size) {
        size_t whole = whole_size(l->partial, l->partial_size);
        size_t wanted = whole != 0 ? whole : RECORD_HEAD_BYTES;

        if (whole > RECORD_HEAD_BYTES + (size_t)RECORD_BYTES_MAX)
            return err_set(e, ERR_CORRUPT, "snapshot: a record of %zu bytes", whole);
        size_t bytes = MIN(wanted - l->partial_size, size - used);
        partial_add(l, mem + used, bytes);
        used += bytes;
        whole = whole_size(l->partial, l->partial_size);
        if (whole == 0 || l->partial_size < whole)
            continue;
        int rc =
            load_record(l->store, l->partial + RECORD_HEAD_BYTES, whole - RECORD_HEAD_BYTES, e);
        if (rc < 0)
            return rc;
        l->partial_size = 0;
    }
    return (int64_t)used;
}

int store_loader_feed(struct store_loader *l, const uint8_t *mem, size_t size, struct err *e)
{
    int64_t used = finish_partial(l, mem, size, e);

    if (used < 0)
        return (int)used;
    mem += used;
    size -= (size_t)used;
    for (;;) {
        size_t whole = whole_size(mem, size);

        if (whole > RECORD_HEAD_BYTES + (size_t)RECORD_BYTES_MAX)
            return err_set(e, ERR_CORRUPT, "snapshot: a record of %zu bytes", whole);
        if (whole == 0 || whole > size)
            break;
        int rc = load_record(l->store, mem + RECORD_HEAD_BYTES, whole - RECORD_HEAD_BYTES, e);
        if (rc < 0)
            return rc;
        mem += whole;
        size -= whole;
    }
    if (size > 0)
        partial_add(l, mem, size);
    return 0;
}

int store_loader_finish(struct store_loader *l, uint64_t version, struct store *s, struct err *e)
{
    if (l->partial_size > 0)
        return err_set(e, ERR_CORRUPT, "snapshot: the last record is cut off");
    struct store old = *s;

    ASSERT(s->change_count == 0);
    *s = *l->store;
    *l->store = old; /* freed with the loader */
    s->version = version;
    s->history.floor = version;
    return 0;
}

/* ---- comparing ---- */

uint64_t store_hash(const struct store *s)
{
    struct store_snapshot *snap = store_snapshot_take(s);
    enum { CHUNK_BYTES = 1 << 16 };
    uint8_t *mem = xmalloc(CHUNK_BYTES);
    uint64_t hash = s->version;

    for (size_t size; (size = store_snapshot_next(snap, mem, CHUNK_BYTES)) > 0;)
        hash = hash_bytes(mem, size, hash);
    free(mem);
    store_snapshot_free(snap);
    return hash;
}
