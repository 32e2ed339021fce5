/* managerd/store: any bytes as a sequence of log entries and as a snapshot. Nothing may crash; two
 * stores that take the same entries stay equal; what is snapshotted loads to the same store. */
#include <stdint.h>
#include <string.h>

#include "common/assert.h"
#include "managerd/store/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void reload(struct store *s)
{
    struct store_snapshot *snap = store_snapshot_take(s);
    struct store_loader *l = store_loader_new();
    uint8_t mem[509];
    uint64_t hash = store_hash(s);

    for (size_t bytes; (bytes = store_snapshot_next(snap, mem, sizeof(mem))) > 0;) {
        int rc = store_loader_feed(l, mem, bytes, NULL);
        ASSERT(rc == 0);
    }
    int rc = store_loader_finish(l, store_snapshot_version(snap), s, NULL);
    ASSERT(rc == 0);
    store_loader_free(l);
    store_snapshot_free(snap);
    ASSERT(store_hash(s) == hash);
}

static void count(void *ctx, const struct store_event *ev)
{
    ASSERT(ev->before != NULL || ev->after != NULL);
    ASSERT(ev->before == NULL || object_kind(ev->before) == ev->kind);
    ASSERT(ev->after == NULL || object_kind(ev->after) == ev->kind);
    ASSERT(ev->after == NULL || store_get(ctx, ev->kind, object_id(ev->after)) == ev->after);
}

/* Entries: two bytes of length, then that much. */
static void as_log(const uint8_t *data, size_t size)
{
    struct store *s = store_new(), *twin = store_new();
    const struct store_listener to = { count, s };
    uint64_t index = 0;

    while (size >= 2) {
        size_t bytes = MIN((size_t)data[0] | (size_t)data[1] << 8, size - 2);
        ProtobufCBinaryData entry = { bytes, (uint8_t *)(uintptr_t)(data + 2) };
        struct err e = { 0 };

        index++;
        int rc = store_apply_packed(s, index, entry, &to, &e);
        int twin_rc = store_apply_packed(twin, index, entry, NULL, NULL);
        ASSERT(rc == twin_rc);
        ASSERT(rc == 0 || e.message[0] != '\0');
        data += 2 + bytes;
        size -= 2 + bytes;
    }
    ASSERT(store_hash(s) == store_hash(twin));
    reload(twin);
    ASSERT(store_hash(s) == store_hash(twin));
    store_free(s);
    store_free(twin);
}

static void as_snapshot(const uint8_t *data, size_t size)
{
    struct store *s = store_new();
    struct store_loader *l = store_loader_new();
    size_t half = size / 2;

    if (store_loader_feed(l, data, half, NULL) == 0 &&
        store_loader_feed(l, data + half, size - half, NULL) == 0 &&
        store_loader_finish(l, 1, s, NULL) == 0)
        reload(s);
    store_loader_free(l);
    store_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] == 'S')
        as_snapshot(data + 1, size - 1);
    else
        as_log(data + 1, size - 1);
    return 0;
}
