/* The shell around the Raft core: owns a struct raft, its WAL and snapshots on one disk thread, and
 * drives both from the loop. Executes effects in the order that raft.h documents; everything that
 * arrives while an fsync runs shares the next one (group commit). All functions and callbacks
 * belong to the loop thread; a callback never runs inside the call that caused it, except on_send.
 *
 * A failed write or fsync is fatal: on_fatal is called and nothing is acknowledged any more. A full
 * disk is not: proposals are refused with -ERR_NO_SPACE until space returns. */
#ifndef SKEP_MANAGERD_IO_RAFT_NODE_H
#define SKEP_MANAGERD_IO_RAFT_NODE_H

#include "common/inbox.h"
#include "common/loop.h"
#include "managerd/raft/raft.h"

struct raft_node;
struct disk_call;

/* The replicated state machine. */
struct raft_fsm_ops {
    /* A committed entry, in log order, RAFT_ENTRY_NORMAL only; index rises. */
    void (*apply)(void *ctx, uint64_t index, uint64_t term, const uint8_t *data, size_t size);
    /* References to the state at the last applied index, cheap; serialised later by next() on the
     * disk thread, dropped by end() on the loop thread. */
    void *(*snapshot_begin)(void *ctx);
    size_t (*snapshot_next)(void *snapshot, uint8_t *mem, size_t max); /* 0: done; disk thread */
    void (*snapshot_end)(void *ctx, void *snapshot);
    /* Replaces the state: begin, any number of feeds, then finish (or abort after an error). */
    int (*install_begin)(void *ctx, uint64_t index);
    int (*install_feed)(void *ctx, const uint8_t *mem, size_t size, struct err *e);
    int (*install_finish)(void *ctx, uint64_t index, struct err *e);
};

/* How messages leave. Losing them is allowed. message is borrowed. Snapshots are sent by the node
 * itself through send_chunk, one chunk at a time; chunk_done must follow each
 * (raft_node_chunk_done) with the peer's verdict. */
struct raft_transport_ops {
    /* `to` has no address ("") when the configuration does not name it: a new member answers the
     * leader that has added it, and knows its node id only. */
    void (*send)(void *ctx, const struct raft_member *to, const struct raft_message *message);
    /* chunk: a packed Skep__RaftSnapshotChunk, borrowed. token goes back with chunk_done. */
    void (*send_chunk)(void *ctx, const struct raft_member *to, const uint8_t *chunk, size_t size,
                       uint64_t token);
};

struct raft_node_events {
    /* State, leader or term changed. `established`: leader whose own no-op is applied: leader-only
     * work may start under this term. */
    void (*on_leader)(void *ctx, const struct raft_status *status);
    void (*on_config)(void *ctx, const struct raft_config *config);
    /* This member was removed from the configuration (committed). */
    void (*on_removed)(void *ctx);
    void (*on_fatal)(void *ctx, const struct err *e);
};

enum raft_node_start {
    RAFT_NODE_BOOTSTRAP, /* a new cluster with this member alone; the directory must be empty */
    RAFT_NODE_EXISTING,  /* what the directory holds */
    RAFT_NODE_JOIN,      /* empty directory; waits for a leader that has added us */
    RAFT_NODE_FORCE_NEW, /* existing data, configuration rewritten to this member alone and the
                            generation raised */
};

struct raft_node_options {
    struct loop *loop;
    struct inbox *inbox; /* shared; needs RAFT_NODE_INBOX_MAX free records */
    const char *directory;
    enum raft_node_start start;
    uint64_t raft_id; /* bootstrap and join: random, never reused; existing: read from disk */
    struct id cluster_id, node_id;
    const char *address;                /* host:port the others reach us at */
    uint32_t heartbeat_ms, election_ms; /* 0 = defaults */
    uint64_t snapshot_entries;          /* compaction policy; 0 = 10000 */
    uint64_t snapshot_bytes;            /* 0 = 64 MiB */
    uint32_t segment_bytes;             /* of the log's files; 0 = 16 MiB */
    uint32_t tail_entries;              /* kept below a snapshot for slow followers; 0 = 500 */
    uint32_t chunk_bytes;      /* of a snapshot on its way; 0 = SNAP_CHUNK_BYTES, the most */
    const uint8_t *unlock_key; /* 32 bytes, or NULL: the data key is not locked (autolock) */
    uint64_t unlock_key_version;
    const struct raft_fsm_ops *fsm;
    const struct raft_transport_ops *transport;
    const struct raft_node_events *events;
    void *ctx; /* of all callbacks */
    /* Tests only: see managerd/io/disk.h. */
    int (*disk_hook)(void *ctx, const struct disk_call *call, uint64_t *write_size);
    void *disk_hook_ctx;
};
enum { RAFT_NODE_INBOX_MAX = 64, RAFT_NODE_SNAPSHOT_ENTRIES = 10000 };

/* A member that joins takes the cluster's generation from the first message that reaches it.
 *
 * Opens, verifies and replays (fsm callbacks run inside), then takes part. NULL with e naming file,
 * offset and remedy when the data is damaged. */
struct raft_node *raft_node_new(const struct raft_node_options *o, struct err *e);
/* Waits for the running write; waiting callbacks get -ERR_CANCELED. */
void raft_node_free(struct raft_node *n);
/* Makes the directory of a cluster restored from a backup: this member alone, in a generation that
 * keeps earlier members out, and a state that the bytes of next stand for (0: no more). Start it
 * with RAFT_NODE_EXISTING. Needs directory, raft_id, ids and address of o. -ERR_EXISTS. */
struct raft_node_seed {
    uint64_t index; /* of the state, at least 1 */
    uint64_t generation;
    size_t (*next)(void *ctx, uint8_t *mem, size_t max);
    void *ctx;
};
int raft_node_restore(const struct raft_node_options *o, const struct raft_node_seed *s,
                      struct err *e) MUST_CHECK;
/* Removes the directory's Raft files after raft_node_free(): this member was removed. */
int raft_node_wipe(const char *directory, struct err *e) MUST_CHECK;
/* True when the directory holds Raft data. */
bool raft_node_exists(const char *directory);

/* A message or snapshot chunk from the member `from_node_id` (verified certificate). Messages whose
 * sender id does not belong to that node are refused: -ERR_PERMISSION. */
int raft_node_receive(struct raft_node *n, const char *from_node_id, const struct raft_message *m,
                      struct err *e) MUST_CHECK;
/* done once, with the packed Skep__RaftSnapshotChunkReply (borrowed) when rc is 0; the chunk is
 * written by then. chunk is borrowed until done. */
typedef void raft_chunk_done_fn(void *ctx, int rc, const uint8_t *reply, size_t size,
                                const struct err *e);
void raft_node_receive_chunk(struct raft_node *n, const char *from_node_id, const uint8_t *chunk,
                             size_t size, raft_chunk_done_fn *done, void *ctx);
/* The answer to send_chunk's token: rc and, when 0, the peer's packed RaftSnapshotChunkReply. */
void raft_node_chunk_done(struct raft_node *n, uint64_t token, int rc, const uint8_t *reply,
                          size_t size);
/* The transport knows that to_raft_id cannot be reached now. */
void raft_node_unreachable(struct raft_node *n, uint64_t to_raft_id);

/* rc: 0 = applied at index (its fsm apply has run); -ERR_NOT_LEADER / -ERR_STALE = certainly not
 * applied; -ERR_UNAVAILABLE = unknown (leadership lost while it was in flight); -ERR_NO_SPACE,
 * -ERR_BUSY, -ERR_TOO_BIG = refused. */
typedef void raft_done_fn(void *ctx, int rc, uint64_t index);

/* Takes over data (malloc). term: the leadership it was computed under. done runs exactly once. */
void raft_node_propose(struct raft_node *n, uint64_t term, uint8_t *data, size_t size,
                       raft_done_fn *done, void *ctx);
/* The same for what gives space back (removals): taken also while the disk is nearly full. */
void raft_node_propose_removal(struct raft_node *n, uint64_t term, uint8_t *data, size_t size,
                               raft_done_fn *done, void *ctx);
/* done with rc 0: the local state is at least as new as every write acknowledged before this call.
 * Works on leader and followers. */
void raft_node_read(struct raft_node *n, raft_done_fn *done, void *ctx);
/* Leader only. done (may be NULL) after the change is committed. */
void raft_node_change_config(struct raft_node *n, const struct raft_ev_config_change *change,
                             raft_done_fn *done, void *ctx);
/* Leader only; target 0 = the best voter. Returns at once; on_leader tells. */
int raft_node_transfer(struct raft_node *n, uint64_t target) MUST_CHECK;

/* The data key on this disk. -ERR_STALE: an older unlock key version than the present one's. A
 * locked directory opens only with its unlock key: raft_node_new() fails with ERR_PRECONDITION
 * without one and with ERR_PERMISSION with another. */
struct raft_node_keys {
    bool rotate; /* seal new files under a new key; the old one goes with the files it sealed */
    bool set_unlock_key;
    const uint8_t *unlock_key; /* 32 bytes, copied; NULL: no lock */
    uint64_t unlock_key_version;
};
void raft_node_change_keys(struct raft_node *n, const struct raft_node_keys *k, raft_done_fn *done,
                           void *ctx);
uint64_t raft_node_unlock_version(const struct raft_node *n);

/* Entries between snapshots; 0 = 10000. Takes effect with the next entry. */
void raft_node_set_snapshot_entries(struct raft_node *n, uint64_t entries);

void raft_node_status(const struct raft_node *n, struct raft_status *ret);
const struct raft_config *raft_node_config(const struct raft_node *n);
size_t raft_node_peers(const struct raft_node *n, struct raft_peer_status *ret_peers);
bool raft_node_has_quorum(const struct raft_node *n);
uint64_t raft_node_id(const struct raft_node *n);
uint64_t raft_node_incarnation(const struct raft_node *n);
uint64_t raft_node_generation(const struct raft_node *n);

#endif
