#include <errno.h>
#include <string.h>

#include "common/assert.h"
#include "common/random.h"
#include "managerd/io/bytes.h"
#include "managerd/io/snap_format.h"
#include "managerd/raft/mutant.h"

struct snap_writer {
    const struct snap_store *store;
    struct disk_file file;
    struct snap_cipher cipher;
    struct seal_digest *digest;
    uint64_t index;
    uint64_t term;
    uint64_t end;    /* of the file */
    uint64_t synced; /* bytes of it that are durable */
    uint64_t size;   /* of the body, including what is in chunk */
    uint64_t number; /* next piece */
    uint8_t *chunk;  /* SNAP_CHUNK_BYTES */
    size_t chunk_size;
    uint8_t *piece; /* SNAP_PIECE_BYTES_MAX */
    bool finished;
};

static int write_piece(struct snap_writer *w, enum snap_piece_type type, const void *data,
                       size_t size, struct err *e)
{
    struct snap_piece_name name = { type, w->number };

    ASSERT(size <= SNAP_CHUNK_BYTES);
    snap_piece_encode(&w->cipher, name, data, size, w->piece);
    int rc = disk_file_write(&w->file, w->end, w->piece, snap_piece_bytes(size), e);
    if (rc < 0)
        return rc;
    w->end += snap_piece_bytes(size);
    w->number++;
    if (w->end - w->synced < SNAP_SYNC_BYTES)
        return 0;
    w->synced = w->end;
    return disk_file_sync(&w->file, e);
}

static int write_head(struct snap_writer *w, const struct snap_meta *meta, struct err *e)
{
    CLEANUP_BUF struct buf packed = BUF_INIT(SNAP_META_BYTES_MAX);
    struct snap_header h = { .key_id = keyring_current(w->store->keyring),
                             .index = meta->raft.index,
                             .term = meta->raft.term };
    uint8_t mem[SNAP_HEADER_BYTES];

    int rc = snap_meta_pack(meta, &packed);
    if (rc < 0)
        return err_set(e, ERR_TOO_BIG, "snapshot with too large a configuration");
    ASSERT(strlen(w->store->cluster_id) <= SNAP_ID_BYTES_MAX);
    ASSERT(strlen(w->store->node_id) <= SNAP_ID_BYTES_MAX);
    memcpy(h.cluster_id, w->store->cluster_id, strlen(w->store->cluster_id));
    memcpy(h.node_id, w->store->node_id, strlen(w->store->node_id));
    h.meta_size = (uint32_t)packed.size;
    random_bytes(h.salt, sizeof(h.salt));
    snap_header_encode(&h, mem);
    snap_cipher_init(&w->cipher, &h, mem, keyring_key(w->store->keyring, h.key_id));
    rc = disk_file_write(&w->file, 0, mem, sizeof(mem), e);
    w->end = SNAP_HEADER_BYTES;
    return rc < 0 ? rc : write_piece(w, SNAP_META, packed.data, packed.size, e);
}

int snap_writer_new(const struct snap_store *s, const char *temporary, const struct snap_meta *meta,
                    struct snap_writer **ret_writer, struct err *e)
{
    struct snap_writer *w = xcalloc(1, sizeof(*w));
    char name[DISK_NAME_BYTES_MAX];

    ASSERT(meta->raft.index > 0);
    w->store = s;
    w->index = meta->raft.index;
    w->term = meta->raft.term;
    w->chunk = xmalloc(SNAP_CHUNK_BYTES);
    w->piece = xmalloc(SNAP_PIECE_BYTES_MAX);
    w->digest = seal_digest_new();
    w->file.fd = -1;
    snap_temporary_name(temporary, name);
    int rc = disk_file_create(s->disk, name, &w->file, e);
    if (rc == 0)
        rc = write_head(w, meta, e);
    if (rc < 0) {
        snap_writer_abort(w);
        return rc;
    }
    *ret_writer = w;
    return 0;
}

static int flush_chunk(struct snap_writer *w, struct err *e)
{
    size_t size = w->chunk_size;

    if (size == 0)
        return 0;
    w->chunk_size = 0;
    return write_piece(w, SNAP_CHUNK, w->chunk, size, e);
}

int snap_writer_add(struct snap_writer *w, const void *mem, size_t size, struct err *e)
{
    const uint8_t *at = mem;
    int rc = 0;

    ASSERT(!w->finished);
    if (size > SNAP_BODY_BYTES_MAX - w->size)
        return err_set(e, ERR_TOO_BIG, "snapshot of more than %llu bytes",
                       (unsigned long long)SNAP_BODY_BYTES_MAX);
    seal_digest_add(w->digest, mem, size);
    w->size += size;
    while (rc == 0 && size > 0) {
        size_t part = MIN(size, SNAP_CHUNK_BYTES - w->chunk_size);

        memcpy(w->chunk + w->chunk_size, at, part);
        w->chunk_size += part;
        at += part;
        size -= part;
        if (w->chunk_size == SNAP_CHUNK_BYTES)
            rc = flush_chunk(w, e);
    }
    return rc;
}

uint64_t snap_writer_size(const struct snap_writer *w)
{
    return w->size;
}

int snap_writer_finish(struct snap_writer *w, const uint8_t *sha256, struct err *e)
{
    uint8_t footer[SNAP_FOOTER_DATA_BYTES];

    ASSERT(!w->finished);
    w->finished = true;
    put_u64(footer, w->size);
    seal_digest_finish(w->digest, footer + 8);
    w->digest = NULL;
    if (sha256 != NULL && memcmp(sha256, footer + 8, SEAL_DIGEST_BYTES) != 0)
        return err_set(e, ERR_CORRUPT,
                       "received snapshot has another digest than it was sent with");
    int rc = flush_chunk(w, e);
    if (rc == 0)
        rc = write_piece(w, SNAP_FOOTER, footer, sizeof(footer), e);
    if (RAFT_MUTANT(RAFT_MUTANT_SNAP_NO_SYNC))
        return rc;
    return rc == 0 ? disk_file_sync(&w->file, e) : rc;
}

static void writer_free(struct snap_writer *w)
{
    disk_file_close(&w->file);
    snap_cipher_deinit(&w->cipher);
    if (w->digest != NULL) {
        uint8_t unused[SEAL_DIGEST_BYTES];

        seal_digest_finish(w->digest, unused);
    }
    free(w->chunk);
    free(w->piece);
    free(w);
}

int snap_writer_commit(struct snap_writer *w, struct err *e)
{
    char name[DISK_NAME_BYTES_MAX];

    ASSERT(w->finished);
    snap_file_name(w->index, w->term, name);
    int rc = disk_rename(w->store->disk, w->file.name, name, e);
    if (rc == 0 && !RAFT_MUTANT(RAFT_MUTANT_NAME_NO_SYNC))
        rc = disk_sync_dir(w->store->disk, e);
    writer_free(w);
    return rc;
}

void snap_writer_abort(struct snap_writer *w)
{
    if (w == NULL)
        return;
    if (w->file.fd >= 0)
        (void)disk_remove(w->store->disk, w->file.name, NULL); /* else snap_prune() does */
    writer_free(w);
}
