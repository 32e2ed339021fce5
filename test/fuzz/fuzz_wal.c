/* The WAL's decoder. The first byte chooses:
 *   even: the rest is a segment as found on disk; odd bits of the choice repair header and record
 *         CRCs first, so that the inside of the decoder is reached as well;
 *   odd:  the rest is a script: records to write, then damage to do. What the scan then hands out
 *         must be a prefix of what was written, byte for byte, whatever the damage. */
#include <stdint.h>
#include <string.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "managerd/io/bytes.h"
#include "managerd/io/wal_format.h"

enum { SEGMENT_BYTES_MAX = 1 << 16, RECORDS_MAX = 64, DATA_BYTES_MAX = 200 };

static const uint8_t key[SEAL_KEY_BYTES] = { 42 };

struct written {
    struct wal_record records[RECORDS_MAX];
    uint8_t data[RECORDS_MAX][DATA_BYTES_MAX];
    size_t count;
    size_t seen;
};

static int on_any(void *ctx, const struct wal_record *r, struct err *e)
{
    struct wal_checkpoint c;
    struct raft_hard_state h;

    (void)ctx;
    if (r->type == WAL_CHECKPOINT && r->size == WAL_CHECKPOINT_BYTES)
        wal_checkpoint_decode(r->data, &c);
    if (r->type == WAL_STATE && wal_state_decode(r, &h) < 0)
        return err_set(e, ERR_CORRUPT, "size");
    return 0;
}

static int on_written(void *ctx, const struct wal_record *r, struct err *e)
{
    struct written *w = ctx;

    (void)e;
    ASSERT(w->seen < w->count);
    const struct wal_record *want = &w->records[w->seen++];
    ASSERT(r->type == want->type);
    ASSERT(r->index == want->index);
    ASSERT(r->term == want->term);
    ASSERT(r->size == want->size);
    ASSERT(r->size == 0 || memcmp(r->data, want->data, r->size) == 0);
    return 0;
}

static void scan(uint8_t *mem, size_t size, wal_record_fn *fn, void *ctx)
{
    struct wal_scan_result result;
    struct wal_header h;
    struct err e;

    if (size < WAL_HEADER_BYTES || wal_header_decode(mem, &h) < 0)
        return;
    struct wal_scan_options o = {
        .name = "segment", .mem = mem, .size = size, .header = &h, .key = key, .fn = fn, .ctx = ctx
    };
    int rc = wal_scan(&o, &result, &e);
    ASSERT(rc == 0 || e.message[0] != '\0');
    ASSERT(rc < 0 || result.end + result.torn_bytes <= size);
}

/* Makes the CRCs right where lengths allow it. */
static void repair(uint8_t *mem, size_t size)
{
    if (size < WAL_HEADER_BYTES)
        return;
    put_u32(mem + WAL_HEADER_BYTES - 4, crc32c(0, mem, WAL_HEADER_BYTES - 4));
    for (size_t at = WAL_HEADER_BYTES; at + WAL_RECORD_HEADER_BYTES <= size;) {
        size_t bytes = wal_record_bytes(get_u32(mem + at + 4));

        if (bytes > size - at)
            return;
        put_u32(mem + at, crc32c(0, mem + at + 4, bytes - 4));
        at += bytes;
    }
}

struct script {
    const uint8_t *at;
    size_t left;
};

static uint8_t take(struct script *s)
{
    if (s->left == 0)
        return 0;
    s->left--;
    return *s->at++;
}

static size_t write_segment(struct script *s, uint8_t *mem, struct written *w)
{
    struct wal_header h = { .key_id = 1, .sequence = 1, .cluster_id = "c", .node_id = "n" };
    struct wal_cipher cipher;
    size_t end = WAL_HEADER_BYTES, durable = 0;

    wal_header_encode(&h, mem);
    wal_cipher_init(&cipher, &h, mem, key);
    for (size_t count = take(s) % RECORDS_MAX; w->count <= count; w->count++) {
        struct wal_record *r = &w->records[w->count];
        uint8_t shape = take(s);

        r->type = w->count == 0 ? WAL_CHECKPOINT : WAL_STATE + shape % 5;
        r->size = r->type == WAL_MARK ? 0 : take(s) % DATA_BYTES_MAX;
        r->index = take(s);
        r->term = shape;
        r->nonce = w->count;
        if (shape & 0x80)
            durable = end; /* everything so far was synced */
        r->durable = (uint32_t)durable;
        memset(w->data[w->count], shape, r->size);
        r->data = w->data[w->count];
        wal_record_encode(&cipher, end, r, mem + end);
        end += wal_record_bytes(r->size);
    }
    wal_cipher_deinit(&cipher);
    return end;
}

static void run_script(struct script s)
{
    static uint8_t mem[SEGMENT_BYTES_MAX];
    static struct written w;

    memset(mem, 0, sizeof(mem));
    memset(&w, 0, sizeof(w));
    size_t end = write_segment(&s, mem, &w);
    while (s.left > 0) {
        size_t at = ((size_t)take(&s) << 8 | take(&s)) % end;

        mem[at] ^= take(&s);
    }
    scan(mem, sizeof(mem), on_written, &w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > SEGMENT_BYTES_MAX)
        return 0;
    if (data[0] % 2 == 1) {
        run_script((struct script){ data + 1, size - 1 });
        return 0;
    }
    CLEANUP_FREE uint8_t *mem = xmemdup(data + 1, size - 1);
    if (data[0] & 2)
        repair(mem, size - 1);
    scan(mem, size - 1, on_any, NULL);
    return 0;
}
