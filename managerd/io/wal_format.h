/* The bytes of a WAL segment, as pure functions over memory (so that a fuzzer can have them).
 *
 *   segment := header (256 bytes, clear) record* zeros
 *   record  := CRC-32C, size, type, durable, nonce, index, term (40 bytes, clear)
 *              sealed data, tag (16 bytes), padding to 8 bytes
 *
 * The CRC covers the whole record after itself and tells damage; the tag tells origin: the sealing
 * key belongs to (cluster, node, segment sequence, salt), and what is vouched for besides the data
 * is the record's header, its offset and the tag of the record before it. The first record is
 * chained to the segment's header. So a record that was swapped, moved, replayed or taken from
 * another node has a good CRC and does not open; a damaged one has a bad CRC.
 *
 * `durable` is an offset: when this record was written, everything before that offset had been
 * synced. A bad record in front of a good one with a durable mark beyond it was therefore damaged
 * after it was promised; a bad record that no mark covers is a torn write. */
#ifndef SKEP_MANAGERD_IO_WAL_FORMAT_H
#define SKEP_MANAGERD_IO_WAL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "managerd/io/seal.h"
#include "managerd/raft/raft.h"

enum {
    WAL_HEADER_BYTES = 256,
    WAL_RECORD_HEADER_BYTES = 40,
    WAL_RECORD_ALIGN = 8,
    WAL_SCOPE_ID_BYTES_MAX = 63,
    WAL_SEGMENT_BYTES_MAX = 64 << 20,
    WAL_CHECKPOINT_BYTES = 64,
    WAL_STATE_BYTES = 9, /* data of a WAL_STATE record: incarnation, fenced */
};

struct wal_header {
    uint32_t key_id;
    uint64_t sequence;
    uint64_t previous_end; /* where segment sequence - 1 ends; 0 for the first one */
    uint8_t previous_tag[SEAL_TAG_BYTES];
    uint8_t salt[SEAL_SALT_BYTES];
    char cluster_id[WAL_SCOPE_ID_BYTES_MAX + 1];
    char node_id[WAL_SCOPE_ID_BYTES_MAX + 1];
};

enum wal_type {
    WAL_CHECKPOINT = 1, /* first in every segment: struct wal_checkpoint */
    WAL_STATE = 2,      /* hard state: term, the vote as index, and data */
    WAL_ENTRY = 3,
    WAL_SNAPSHOT = 4, /* a snapshot at (index, term) is durable; the log stays */
    WAL_RESET = 5,    /* the same, and the log is dropped: it continues after index */
    WAL_MARK = 6,     /* nothing but its durable offset */
};

struct wal_record {
    enum wal_type type;
    uint8_t entry_type; /* WAL_ENTRY only */
    uint32_t durable;
    uint64_t nonce;
    uint64_t index;
    uint64_t term;
    const uint8_t *data;
    uint32_t size;
};

/* What a segment starts from; the sum of all earlier ones. */
struct wal_checkpoint {
    struct raft_hard_state hard_state;
    uint64_t snapshot_index; /* newest durable snapshot */
    uint64_t snapshot_term;
    uint64_t last_index; /* of the log */
    uint64_t last_term;
};

/* The key of one segment and the tag that the next record is chained to. */
struct wal_cipher {
    struct seal *seal;
    uint8_t tag[SEAL_TAG_BYTES];
};

void wal_header_encode(const struct wal_header *h, uint8_t mem[WAL_HEADER_BYTES]);
/* -ERR_CORRUPT, -ERR_UNSUPPORTED (a newer version). */
int wal_header_decode(const uint8_t mem[WAL_HEADER_BYTES], struct wal_header *ret_h) MUST_CHECK;
/* Derives the segment's key; mem is the encoded header. */
void wal_cipher_init(struct wal_cipher *c, const struct wal_header *h,
                     const uint8_t mem[WAL_HEADER_BYTES], const uint8_t key[SEAL_KEY_BYTES]);
void wal_cipher_deinit(struct wal_cipher *c);

void wal_checkpoint_encode(const struct wal_checkpoint *c, uint8_t mem[WAL_CHECKPOINT_BYTES]);
void wal_checkpoint_decode(const uint8_t mem[WAL_CHECKPOINT_BYTES], struct wal_checkpoint *ret_c);

/* Data of a WAL_STATE record. */
void wal_state_encode(const struct raft_hard_state *h, uint8_t mem[WAL_STATE_BYTES]);
/* -ERR_CORRUPT when the size is wrong. */
int wal_state_decode(const struct wal_record *r, struct raft_hard_state *ret_h) MUST_CHECK;

/* Bytes that a record with size bytes of data takes. */
size_t wal_record_bytes(size_t size);
/* Seals r for this offset into out (wal_record_bytes() long) and advances the chain. */
void wal_record_encode(struct wal_cipher *c, uint64_t offset, const struct wal_record *r,
                       uint8_t *out);
/* True when an undamaged record begins at mem; its sealed data is ret_r->data. */
bool wal_record_intact(const uint8_t *mem, size_t size, struct wal_record *ret_r);
/* Opens an intact record in place and advances the chain. -ERR_CORRUPT: it does not belong here. */
int wal_record_open(struct wal_cipher *c, uint64_t offset, uint8_t *mem,
                    struct wal_record *r) MUST_CHECK;

/* ---- one whole segment ---- */

/* r->data is opened and valid for the call. Returns 0, or -ERR_* with e set to stop the scan. */
typedef int wal_record_fn(void *ctx, const struct wal_record *r, struct err *e);

struct wal_scan_options {
    const char *name; /* for messages */
    uint8_t *mem;     /* the segment; overwritten */
    size_t size;
    const struct wal_header *header; /* as decoded from mem */
    const uint8_t *key;
    wal_record_fn *fn;
    void *ctx;
    /* Set when a later segment says where this one ends. */
    bool closed;
    uint64_t end;
    uint8_t end_tag[SEAL_TAG_BYTES];
};

struct wal_scan_result {
    uint64_t end; /* behind the last good record */
    uint8_t tag[SEAL_TAG_BYTES];
    uint64_t torn_bytes; /* what an interrupted write left behind the end, to be ignored */
    uint64_t record_count;
};

/* Verifies all records of a segment and hands them out in order. -ERR_CORRUPT names file, offset
 * and remedy. O(size). */
int wal_scan(const struct wal_scan_options *o, struct wal_scan_result *ret_result,
             struct err *e) MUST_CHECK;

/* What to do about a log that fails verification, for error texts. */
#define WAL_REMEDY "remove this manager from the cluster, wipe its raft state and let it join again"

#endif
