/* The write-ahead log of one Raft member: hard state, entries and snapshot markers in segments of
 * fixed size (files `wal-<sequence>`; bytes: wal_format.h).
 *
 *  - A segment is created full of zeros, sealed under a key of its own, and written by one process
 *    only: every open starts a new one, whose header says where the one before ends. That makes the
 *    repair of a torn tail one atomic step and keeps nonces unique.
 *  - Group commit: wal_append() as often as wanted, then one wal_sync(). After it a durable mark
 *    tells later readers that what precedes it was promised.
 *  - One segment is kept in reserve. Without it (disk full) the rest of the present segment serves
 *    hard states, so that elections go on; entries are refused with -ERR_NO_SPACE near its end.
 *  - Opening verifies every byte and replays it. Only a torn write behind the last durable mark is
 *    dropped; any other damage is -ERR_CORRUPT with file, offset and remedy.
 *  - A failed sync or an unexplained write error is -ERR_IO; every later call fails as well, and
 *    the process has to end.
 *
 * Source: reliability rules of Alagappan et al. (OSDI'18), Rebello et al. (ATC'20). The log's order
 * rules are Raft Figure 2's. Threads: the disk thread; opened and closed on the loop thread. */
#ifndef SKEP_MANAGERD_IO_WAL_H
#define SKEP_MANAGERD_IO_WAL_H

#include "managerd/io/disk.h"
#include "managerd/io/keyring.h"
#include "managerd/io/wal_format.h"
#include "managerd/raft/raft.h"

enum {
    WAL_SEGMENT_BYTES = 16 << 20,
    WAL_SEGMENT_BYTES_MIN = 4096,
    WAL_BUFFER_BYTES = 256 << 10, /* gathered before a write */
};

struct wal;

struct wal_options {
    struct disk *disk;       /* borrowed */
    struct keyring *keyring; /* borrowed */
    const char *cluster_id;
    const char *node_id;
    uint32_t segment_bytes; /* 0 = WAL_SEGMENT_BYTES */
    bool read_only;         /* verifies and replays; nothing is repaired or may be appended */
};

/* Replay, in the order of writing. Each returns 0, or -ERR_* with e set to refuse the log. */
struct wal_replay {
    void *ctx;
    /* Cuts the log to index - 1 and appends; data is borrowed. */
    int (*entry)(void *ctx, const struct wal_record *r, struct err *e);
    /* Drops the log, which continues after index. */
    int (*reset)(void *ctx, uint64_t index, uint64_t term, struct err *e);
};

struct wal_stats {
    uint32_t segment_count;
    uint64_t bytes;      /* on disk, reserve included */
    uint64_t torn_bytes; /* dropped when it was opened */
    uint64_t sync_count;
    uint64_t append_bytes;
};

/* Verifies and replays what is there, repairs a torn tail and starts a new segment. A directory
 * without segments makes an empty log. Errors: -ERR_CORRUPT (also for missing segments),
 * -ERR_PERMISSION, -ERR_UNSUPPORTED (newer version), -ERR_IO. A full disk is no error: wal_space()
 * tells. */
int wal_open(const struct wal_options *o, const struct wal_replay *replay, struct wal **ret_wal,
             struct err *e) MUST_CHECK;
/* Writes nothing. NULL is allowed. */
void wal_close(struct wal *w);

/* Sum of everything appended. */
const struct wal_checkpoint *wal_state(const struct wal *w);
/* First entry that the segments are known to hold; 0 while they hold none. */
uint64_t wal_first_index(const struct wal *w);
void wal_stats(const struct wal *w, struct wal_stats *ret_stats);
struct wal_segment_info {
    uint64_t sequence;
    uint64_t first_index, last_index; /* 0: no entries */
    uint64_t bytes;
};
/* False when there is no segment i. */
bool wal_segment_at(const struct wal *w, size_t i, struct wal_segment_info *ret_info);

struct wal_batch {
    const struct raft_hard_state *hard_state;   /* NULL: unchanged */
    const struct raft_snapshot_meta *installed; /* NULL, or: drop the log, continue after index */
    uint64_t taken_index;                       /* 0, or: a snapshot of the own log is durable */
    uint64_t taken_term;
    const struct raft_entry *entries; /* consecutive; the first at most one after the log */
    size_t entry_count;
};
/* Writes the batch; durable only after wal_sync(). -ERR_NO_SPACE: some of it may be written, so
 * append the same again later (nothing else but hard states before it); -ERR_TOO_BIG: an entry
 * exceeds what a segment can hold, nothing is written; -ERR_IO is fatal. */
int wal_append(struct wal *w, const struct wal_batch *b, struct err *e) MUST_CHECK;
int wal_sync(struct wal *w, struct err *e) MUST_CHECK;
/* Largest entry that wal_append() takes. */
size_t wal_entry_bytes_max(const struct wal *w);

enum wal_space {
    WAL_SPACE_OK,
    WAL_SPACE_LOW,  /* no reserve: take no new proposals, except those that free something */
    WAL_SPACE_FULL, /* take no entries at all; what is under way still finds room */
};
enum wal_space wal_space(const struct wal *w);
/* Makes the reserve segment when it is missing: call it when idle, and from time to time while
 * space is short. -ERR_NO_SPACE leaves everything as it was; -ERR_IO is fatal. */
int wal_maintain(struct wal *w, struct err *e) MUST_CHECK;

/* Starts a new segment, under the keyring's current key. */
int wal_roll(struct wal *w, struct err *e) MUST_CHECK;
/* Removes the oldest segments that hold no entry above index; index must be covered by a durable
 * snapshot that was appended as such (asserted). */
int wal_compact(struct wal *w, uint64_t index, struct err *e) MUST_CHECK;
/* Lowest key id that a segment names. */
uint32_t wal_oldest_key(const struct wal *w);

#endif
