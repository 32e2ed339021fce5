/* Everything durable of one Raft member in one directory: keyring, member file, WAL, snapshots.
 * raft_disk_open() verifies it all and hands out what the core starts from; afterwards the disk
 * thread alone uses it, through the jobs of raft_jobs.h.
 *
 * Which snapshot counts: the newest that verifies. An older one is used only while the log still
 * covers the gap. A snapshot beyond the log, or one whose last entry differs from the log's,
 * replaces the log: snapshots hold committed entries only (Raft §7). */
#ifndef SKEP_MANAGERD_IO_RAFT_DISK_H
#define SKEP_MANAGERD_IO_RAFT_DISK_H

#include "managerd/io/member.h"
#include "managerd/io/wal.h"

struct raft_disk {
    struct disk *disk;
    struct keyring *keyring;
    struct wal *wal;
    struct snap_store store;
    struct member member;
    bool read_only;
    uint64_t older_snapshot; /* index of the second newest, 0 = none: the log keeps what it lacks */
};

struct raft_disk_options {
    const char *directory;
    const char *cluster_id;
    const char *node_id;
    const struct keyring_options *unlock;
    uint32_t segment_bytes;
    uint32_t tail_entries; /* entries at and below the snapshot handed out */
    bool read_only;        /* looks and repairs nothing: opening and closing only */
    disk_hook_fn *hook;
    void *hook_ctx;
};

/* What the core starts from. */
struct raft_loaded {
    struct raft_hard_state hard_state;
    struct raft_snapshot_meta *snapshot; /* NULL: none */
    struct raft_entry *entries;
    size_t entry_count;
    bool moved;          /* the directory lies elsewhere than it was written */
    uint64_t torn_bytes; /* dropped from the log's end */
    uint64_t broken;     /* highest index of a snapshot that did not verify, 0 = none */
    struct snap_name broken_names[SNAP_KEEP + 1];
    size_t broken_count;
};
void raft_loaded_deinit(struct raft_loaded *l);

/* A directory with a member file. Errors: those of disk_open, keyring_load, wal_open, and
 * -ERR_CORRUPT with file, offset and remedy. */
int raft_disk_open(const struct raft_disk_options *o, struct raft_disk **ret_disk,
                   struct raft_loaded *ret_loaded, struct err *e) MUST_CHECK;

struct raft_disk_seed {
    struct member member;
    struct raft_hard_state hard_state;
    const struct raft_entry *entry; /* NULL: an empty log */
    /* NULL, or a snapshot that the log continues behind; its bytes come from next (0: no more). */
    const struct raft_snapshot_meta *snapshot;
    size_t (*next)(void *ctx, uint8_t *mem, size_t max);
    void *next_ctx;
};
/* Makes the directory's content from nothing; remains of an interrupted attempt are removed.
 * -ERR_EXISTS when there is a member file. */
int raft_disk_create(const struct raft_disk_options *o, const struct raft_disk_seed *seed,
                     struct err *e) MUST_CHECK;

/* Appends one entry and a hard state to an opened log, durably, before the core starts. */
int raft_disk_append(struct raft_disk *d, const struct raft_hard_state *h,
                     const struct raft_entry *entry, struct err *e) MUST_CHECK;

void raft_disk_close(struct raft_disk *d);

/* Brings older_snapshot up to date, removes snapshots that are not kept, then log segments up to
 * index as far as the older snapshot allows, then keys that no file names. Disk thread. */
int raft_disk_compact(struct raft_disk *d, uint64_t index, struct err *e) MUST_CHECK;

/* Removes every file of ours from the directory. */
int raft_disk_wipe(const char *directory, struct err *e) MUST_CHECK;

#endif
