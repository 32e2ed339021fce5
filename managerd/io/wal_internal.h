/* What wal.c (writing) and wal_open.c (verifying, replaying) share. Nobody else includes this. */
#ifndef SKEP_MANAGERD_IO_WAL_INTERNAL_H
#define SKEP_MANAGERD_IO_WAL_INTERNAL_H

#include "managerd/io/wal.h"

struct wal_segment {
    uint64_t sequence;
    uint64_t entry_min; /* lowest and highest index among its entries; 0: none */
    uint64_t entry_max;
    uint64_t bytes; /* of the file */
    uint32_t key_id;
};

struct wal {
    struct wal_options o;
    char cluster_id[WAL_SCOPE_ID_BYTES_MAX + 1];
    char node_id[WAL_SCOPE_ID_BYTES_MAX + 1];

    struct wal_segment *segments; /* ascending sequence; the last is active if active.fd >= 0 */
    size_t segment_count;

    struct disk_file active;
    struct disk_file reserve; /* fd -1: none */
    struct wal_cipher cipher; /* of the active segment, chained up to end */
    uint64_t end;             /* behind the last record written */
    uint64_t synced;          /* everything before is durable */
    uint64_t promised;        /* the same without the mark that follows it */
    uint64_t nonce;           /* next one; never goes back within a segment */
    bool tail_unknown;        /* a failed write left bytes behind end: go on in a new segment */
    bool failed;

    uint8_t *buffer; /* records encoded for buffer_offset, not yet written */
    size_t buffer_size;
    size_t buffer_capacity;
    uint8_t buffer_tag[SEAL_TAG_BYTES]; /* the chain in front of the buffer */

    struct wal_checkpoint state; /* of what is written */
    struct wal_checkpoint next;  /* with what is in the buffer */
    uint64_t next_entry_min;
    uint64_t next_entry_max;

    /* Where the newest segment found on opening ends. */
    uint64_t previous_end;
    uint8_t previous_tag[SEAL_TAG_BYTES];

    uint64_t torn_bytes;
    uint64_t sync_count;
    uint64_t append_bytes;
};

void wal_segment_name(uint64_t sequence, char name[DISK_NAME_BYTES_MAX]);
struct wal_segment *wal_segment_add(struct wal *w, uint64_t sequence);

extern const char wal_reserve_name[];

/* Rules of the log's order, checked before writing and after reading: NULL or what is wrong. They
 * update c. */
const char *wal_check_entry(struct wal_checkpoint *c, uint64_t index, uint64_t term);
const char *wal_check_state(struct wal_checkpoint *c, const struct raft_hard_state *h);
const char *wal_check_snapshot(struct wal_checkpoint *c, uint64_t index, uint64_t term);
const char *wal_check_reset(struct wal_checkpoint *c, uint64_t index, uint64_t term);

/* Verifies all segments, fills in segments, state, previous_end, previous_tag and torn_bytes. */
int wal_load(struct wal *w, const struct wal_replay *replay, struct err *e) MUST_CHECK;

#endif
