/* Snapshot files: the state machine's bytes at one log index, sealed in pieces.
 *
 *   file   := header (512 bytes, clear) meta chunk* footer
 *   each   := CRC-32C, size, type, number (20 bytes) sealed data, tag (16 bytes)
 *   meta   := the packed RaftSnapshotMeta and the generation
 *   chunk  := SNAP_CHUNK_BYTES of the body, the last one less
 *   footer := body size and SHA-256 of the body
 *
 * The sealing key belongs to (cluster, node, index, salt) and each piece is bound to its number and
 * type and to the header, so pieces cannot be exchanged, left out or taken from another file. A
 * snapshot is written under a temporary name, synced, and renamed: a file with a proper name was
 * whole once. On the way to another member the body travels in clear inside TLS and is sealed again
 * by the receiver.
 *
 * Threads: the disk thread, or the loop thread before that one starts. */
#ifndef SKEP_MANAGERD_IO_SNAPFILE_H
#define SKEP_MANAGERD_IO_SNAPFILE_H

#include "managerd/io/disk.h"
#include "managerd/io/keyring.h"
#include "managerd/raft/raft.h"

enum {
    SNAP_CHUNK_BYTES = 256 << 10,
    SNAP_KEEP = 2,             /* newest files kept */
    SNAP_SYNC_BYTES = 8 << 20, /* synced in pieces, so that no sync takes long */
    SNAP_META_BYTES_MAX = 64 << 10,
};
#define SNAP_BODY_BYTES_MAX (UINT64_C(4) << 30)

/* What every call needs. Borrowed, unchanged while in use. */
struct snap_store {
    struct disk *disk;
    struct keyring *keyring;
    const char *cluster_id;
    const char *node_id;
};

struct snap_meta {
    struct raft_snapshot_meta raft;
    uint64_t generation;
};

/* ---- writing ---- */

struct snap_writer;

/* Under a temporary name that says what it is for: "taken" or "received" (one of each at a time).
 * Removes an older one of that name. */
int snap_writer_new(const struct snap_store *s, const char *temporary, const struct snap_meta *meta,
                    struct snap_writer **ret_writer, struct err *e) MUST_CHECK;
/* Appends to the body. -ERR_NO_SPACE, -ERR_TOO_BIG (SNAP_BODY_BYTES_MAX), -ERR_IO. */
int snap_writer_add(struct snap_writer *w, const void *mem, size_t size, struct err *e) MUST_CHECK;
uint64_t snap_writer_size(const struct snap_writer *w);
/* Writes the footer and syncs. With sha256 the body must have that digest, else -ERR_CORRUPT. */
int snap_writer_finish(struct snap_writer *w, const uint8_t *sha256, struct err *e) MUST_CHECK;
/* Gives a finished snapshot its proper name, durably. Frees w in any case. */
int snap_writer_commit(struct snap_writer *w, struct err *e) MUST_CHECK;
/* Removes the temporary file. NULL is allowed. */
void snap_writer_abort(struct snap_writer *w);

/* ---- reading ---- */

struct snap_reader;

/* Opens a snapshot by its index and term and checks header, meta and footer. -ERR_NOT_FOUND;
 * -ERR_CORRUPT with file and offset. */
int snap_reader_open(const struct snap_store *s, uint64_t index, uint64_t term,
                     struct snap_reader **ret_reader, struct err *e) MUST_CHECK;
void snap_reader_close(struct snap_reader *r);
const struct snap_meta *snap_reader_meta(const struct snap_reader *r);
uint64_t snap_reader_size(const struct snap_reader *r);
const uint8_t *snap_reader_sha256(const struct snap_reader *r);
/* Reads up to max bytes of the body from offset, at most to the end of a chunk; *ret_size is 0 at
 * the end only. Any offset, any order: this is what transfers resume with. */
struct snap_piece {
    uint64_t offset;
    uint8_t *mem;
    size_t max;
};
int snap_reader_read(struct snap_reader *r, const struct snap_piece *p, size_t *ret_size,
                     struct err *e) MUST_CHECK;
/* Reads everything, digest included. Removal of an older snapshot waits for this. */
int snap_reader_verify(struct snap_reader *r, struct err *e) MUST_CHECK;

/* ---- the directory ---- */

struct snap_name {
    uint64_t index;
    uint64_t term;
};
/* Fills in up to max names, newest first; returns the count in *ret_count. */
int snap_list(const struct snap_store *s, struct snap_name *ret_names, size_t max,
              size_t *ret_count, struct err *e) MUST_CHECK;
/* Removes all but the newest SNAP_KEEP. */
int snap_prune(const struct snap_store *s, struct err *e) MUST_CHECK;
/* Removes what interrupted writers of an earlier run left. */
int snap_remove_temporaries(const struct snap_store *s, struct err *e) MUST_CHECK;
/* Lowest key id that a snapshot names; the current one without any. */
int snap_oldest_key(const struct snap_store *s, uint32_t *ret_key_id, struct err *e) MUST_CHECK;

#endif
