#include <inttypes.h>
#include <string.h>

#include "common/assert.h"
#include "managerd/io/bytes.h"
#include "managerd/io/snap_format.h"

#define SNAP_REMEDY                                                                                \
    "move it away to use the older one, or wipe this manager's raft state and let it join again"

struct snap_reader {
    const struct snap_store *store;
    struct disk_file file;
    struct snap_cipher cipher;
    struct snap_meta meta;
    uint64_t body_start; /* file offset of the first chunk */
    uint64_t size;       /* of the body */
    uint8_t sha256[SEAL_DIGEST_BYTES];
    uint8_t *piece;
    const uint8_t *chunk; /* opened, inside piece */
    uint64_t chunk_number;
};

static int corrupt(const struct snap_reader *r, uint64_t offset, const char *what, struct err *e)
{
    return err_set(e, ERR_CORRUPT, "%s/%s at offset %" PRIu64 ": %s; remedy: %s",
                   disk_path(r->store->disk), r->file.name, offset, what, SNAP_REMEDY);
}

/* Where a piece is and what it must be. */
struct place {
    struct snap_piece_name name;
    uint64_t offset;
    size_t data_size;
};

static int read_piece(struct snap_reader *r, const struct place *p, uint8_t **ret_data,
                      struct err *e)
{
    size_t bytes = snap_piece_bytes(p->data_size);

    ASSERT(bytes <= SNAP_PIECE_BYTES_MAX);
    r->chunk = NULL;
    int rc = disk_file_read(&r->file, p->offset, r->piece, bytes, e);
    if (rc < 0 && rc != -ERR_CORRUPT)
        return rc;
    if (rc == 0)
        rc = snap_piece_decode(&r->cipher, p->name, r->piece, bytes, ret_data);
    return rc < 0 ? corrupt(r, p->offset, "damaged or foreign piece", e) : 0;
}

static int check_header(struct snap_reader *r, const struct snap_header *h, struct snap_name want,
                        struct err *e)
{
    if (h->index != want.index || h->term != want.term)
        return corrupt(r, 0, "another snapshot under this name", e);
    if (strcmp(h->cluster_id, r->store->cluster_id) != 0)
        return corrupt(r, 0, "belongs to another cluster", e);
    if (strcmp(h->node_id, r->store->node_id) != 0)
        return corrupt(r, 0, "belongs to another node", e);
    if (keyring_key(r->store->keyring, h->key_id) == NULL)
        return corrupt(r, 0, "sealed under a key that the keyring does not hold", e);
    return 0;
}

static int read_head(struct snap_reader *r, struct snap_name want, struct err *e)
{
    uint8_t mem[SNAP_HEADER_BYTES], *data;
    struct snap_header h;

    int rc = disk_file_read(&r->file, 0, mem, sizeof(mem), e);
    if (rc == 0)
        rc = snap_header_decode(mem, &h);
    if (rc == -ERR_UNSUPPORTED)
        return err_set(e, ERR_UNSUPPORTED, "%s/%s was written by a newer version",
                       disk_path(r->store->disk), r->file.name);
    if (rc == -ERR_CORRUPT)
        return corrupt(r, 0, "damaged header", e);
    if (rc == 0)
        rc = check_header(r, &h, want, e);
    if (rc < 0)
        return rc;
    snap_cipher_init(&r->cipher, &h, mem, keyring_key(r->store->keyring, h.key_id));
    struct place meta = { { SNAP_META, 0 }, SNAP_HEADER_BYTES, h.meta_size };
    rc = read_piece(r, &meta, &data, e);
    if (rc < 0)
        return rc;
    r->body_start = SNAP_HEADER_BYTES + snap_piece_bytes(h.meta_size);
    if (snap_meta_unpack(data, h.meta_size, &r->meta) < 0 || r->meta.raft.index != h.index ||
        r->meta.raft.term != h.term)
        return corrupt(r, SNAP_HEADER_BYTES, "malformed meta data", e);
    return 0;
}

static uint64_t chunk_count(uint64_t body_size)
{
    return (body_size + SNAP_CHUNK_BYTES - 1) / SNAP_CHUNK_BYTES;
}

/* The body's size follows from the file's; the footer must agree. */
static int read_footer(struct snap_reader *r, struct err *e)
{
    uint64_t file_size = 0;
    uint8_t *data;

    int rc = disk_file_size(&r->file, &file_size, e);
    if (rc < 0)
        return rc;
    if (file_size < r->body_start + SNAP_FOOTER_BYTES ||
        file_size > 2 * SNAP_BODY_BYTES_MAX) /* pieces add far less than that */
        return corrupt(r, 0, "cut off or too long", e);
    uint64_t pieces = file_size - r->body_start - SNAP_FOOTER_BYTES;
    uint64_t count = (pieces + SNAP_PIECE_BYTES_MAX - 1) / SNAP_PIECE_BYTES_MAX;
    uint64_t overhead = count * snap_piece_bytes(0);
    struct place footer = { { SNAP_FOOTER, count + 1 },
                            r->body_start + pieces,
                            SNAP_FOOTER_DATA_BYTES };
    rc = read_piece(r, &footer, &data, e);
    if (rc < 0)
        return rc;
    r->size = get_u64(data);
    memcpy(r->sha256, data + 8, SEAL_DIGEST_BYTES);
    if (pieces < overhead || r->size != pieces - overhead || chunk_count(r->size) != count)
        return corrupt(r, footer.offset, "size and footer differ", e);
    return 0;
}

int snap_reader_open(const struct snap_store *s, uint64_t index, uint64_t term,
                     struct snap_reader **ret_reader, struct err *e)
{
    struct snap_reader *r = xcalloc(1, sizeof(*r));
    char name[DISK_NAME_BYTES_MAX];

    r->store = s;
    r->file.fd = -1;
    r->piece = xmalloc(SNAP_PIECE_BYTES_MAX);
    snap_file_name(index, term, name);
    int rc = disk_file_open(s->disk, name, &r->file, e);
    if (rc == 0)
        rc = read_head(r, (struct snap_name){ index, term }, e);
    if (rc == 0)
        rc = read_footer(r, e);
    if (rc < 0) {
        snap_reader_close(r);
        return rc;
    }
    *ret_reader = r;
    return 0;
}

void snap_reader_close(struct snap_reader *r)
{
    if (r == NULL)
        return;
    disk_file_close(&r->file);
    snap_cipher_deinit(&r->cipher);
    free(r->piece);
    free(r);
}

const struct snap_meta *snap_reader_meta(const struct snap_reader *r)
{
    return &r->meta;
}

uint64_t snap_reader_size(const struct snap_reader *r)
{
    return r->size;
}

const uint8_t *snap_reader_sha256(const struct snap_reader *r)
{
    return r->sha256;
}

static size_t chunk_size(const struct snap_reader *r, uint64_t number)
{
    return (size_t)MIN(r->size - number * SNAP_CHUNK_BYTES, (uint64_t)SNAP_CHUNK_BYTES);
}

static int read_chunk(struct snap_reader *r, uint64_t number, struct err *e)
{
    struct place p = { { SNAP_CHUNK, number + 1 },
                       r->body_start + number * SNAP_PIECE_BYTES_MAX,
                       chunk_size(r, number) };
    uint8_t *data;

    if (r->chunk != NULL && r->chunk_number == number)
        return 0;
    int rc = read_piece(r, &p, &data, e);
    if (rc < 0)
        return rc;
    r->chunk = data;
    r->chunk_number = number;
    return 0;
}

int snap_reader_read(struct snap_reader *r, const struct snap_piece *p, size_t *ret_size,
                     struct err *e)
{
    uint64_t number = p->offset / SNAP_CHUNK_BYTES;
    size_t skip = (size_t)(p->offset % SNAP_CHUNK_BYTES), size;

    ASSERT(p->offset <= r->size);
    if (p->offset == r->size) {
        *ret_size = 0;
        return 0;
    }
    int rc = read_chunk(r, number, e);
    if (rc < 0)
        return rc;
    size = MIN(chunk_size(r, number) - skip, p->max);
    memcpy(p->mem, r->chunk + skip, size);
    *ret_size = size;
    return 0;
}

int snap_reader_verify(struct snap_reader *r, struct err *e)
{
    struct seal_digest *d = seal_digest_new();
    uint8_t sha256[SEAL_DIGEST_BYTES];
    int rc = 0;

    for (uint64_t i = 0; rc == 0 && i < chunk_count(r->size); i++) {
        rc = read_chunk(r, i, e);
        if (rc == 0)
            seal_digest_add(d, r->chunk, chunk_size(r, i));
    }
    seal_digest_finish(d, sha256);
    if (rc == 0 && memcmp(sha256, r->sha256, sizeof(sha256)) != 0)
        return corrupt(r, r->body_start, "body and digest differ", e);
    return rc;
}
