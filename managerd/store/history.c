#include <string.h>

#include "common/assert.h"
#include "common/hash.h"
#include "managerd/store/internal.h"

/* ---- events ---- */

static struct store_event *event_at(const struct history *h, size_t i)
{
    return &h->events[(h->first + i) % h->capacity];
}

static void drop_first(struct history *h)
{
    struct store_event *ev = event_at(h, 0);

    h->floor = ev->version;
    if (ev->before != NULL)
        h->bytes -= object_size(ev->before);
    if (ev->before != NULL)
        graveyard_bury(h->graveyard, ev->before, ev->version);
    object_unref(ev->after);
    h->first = (h->first + 1) % h->capacity;
    h->count--;
}

static void grow(struct history *h)
{
    size_t capacity = MAX(h->capacity * 2, (size_t)64);
    struct store_event *events = xrealloc_array(NULL, capacity, sizeof(*events));

    for (size_t i = 0; i < h->count; i++)
        events[i] = *event_at(h, i);
    free(h->events);
    h->events = events;
    h->capacity = capacity;
    h->first = 0;
}

void history_add(struct history *h, const struct store_event *ev)
{
    if (h->count == STORE_HISTORY_EVENTS)
        drop_first(h);
    else if (h->count == h->capacity)
        grow(h);
    if (ev->before != NULL)
        h->bytes += object_size(ev->before);
    if (ev->after != NULL)
        object_ref(ev->after);
    *event_at(h, h->count++) = *ev;
}

static void fetch(const void *object)
{
    enum { FETCH_BYTES = 384 };

    for (size_t at = 0; object != NULL && at < FETCH_BYTES; at += 64)
        __builtin_prefetch((const uint8_t *)object + at);
}

void history_tell(const struct history *h, size_t count, const struct store_listener *to)
{
    enum { AHEAD = 4 };

    ASSERT(count <= h->count);
    for (size_t i = h->count - count; i < h->count && to != NULL; i++) {
        /* By now the objects of a large transaction have left the nearest cache. */
        if (i + AHEAD < h->count) {
            fetch(event_at(h, i + AHEAD)->before);
            fetch(event_at(h, i + AHEAD)->after);
        }
        to->fn(to->ctx, event_at(h, i));
    }
}

void history_trim(struct history *h)
{
    while (h->bytes > STORE_HISTORY_BYTES)
        drop_first(h);
}

void history_clear(struct history *h, uint64_t floor)
{
    while (h->count > 0)
        drop_first(h);
    h->floor = floor;
}

/* The place of the first event after version `since`. */
static size_t place_after(const struct history *h, uint64_t since)
{
    size_t low = 0, high = h->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (event_at(h, middle)->version > since)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

int store_history(const struct store *s, uint64_t since, struct store_event *ret_events, size_t max)
{
    const struct history *h = &s->history;
    size_t from = place_after(h, since), count = MIN(h->count - from, max);

    if (since < h->floor)
        return -ERR_STALE;
    if (from + count < h->count) {
        uint64_t cut = event_at(h, from + count)->version;

        while (count > 0 && event_at(h, from + count - 1)->version == cut)
            count--;
        if (count == 0)
            return -ERR_STALE;
    }
    for (size_t i = 0; i < count; i++)
        ret_events[i] = *event_at(h, from + i);
    return (int)count;
}

/* ---- results of requests ---- */

static uint64_t request_hash(const uint8_t *id)
{
    return hash_bytes(id, STORE_REQUEST_ID_BYTES, 0);
}

static bool request_match(const void *value, const void *key)
{
    return memcmp(((const struct request *)value)->id, key, STORE_REQUEST_ID_BYTES) == 0;
}

const struct request *request_find(const struct store *s, const uint8_t *id)
{
    return map_find(&s->request_ids, request_hash(id), request_match, id);
}

const struct request *request_at(const struct store *s, size_t i)
{
    return &s->requests[(s->request_first + i) % STORE_REQUESTS];
}

void request_add(struct store *s, const uint8_t *id, uint64_t version, int code, const char *text)
{
    if (s->requests == NULL)
        s->requests = xcalloc(STORE_REQUESTS, sizeof(*s->requests));
    if (s->request_count == STORE_REQUESTS) {
        struct request *old = &s->requests[s->request_first];

        map_remove(&s->request_ids, request_hash(old->id), old);
        free(old->text);
        s->request_first = (s->request_first + 1) % STORE_REQUESTS;
        s->request_count--;
    }
    struct request *r = &s->requests[(s->request_first + s->request_count++) % STORE_REQUESTS];
    memcpy(r->id, id, sizeof(r->id));
    r->version = version;
    r->code = code;
    r->text = xstrdup(text);
    map_add(&s->request_ids, request_hash(id), r);
}

bool store_find_result(const struct store *s, const uint8_t *request_id,
                       struct store_result *ret_result)
{
    const struct request *r = request_find(s, request_id);

    if (r == NULL)
        return false;
    *ret_result = (struct store_result){ .version = r->version,
                                         .rc = -r->code,
                                         .message = r->code != 0 ? r->text : "",
                                         .object_id = r->code == 0 ? r->text : "" };
    return true;
}
