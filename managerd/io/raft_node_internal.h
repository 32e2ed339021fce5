/* The inside of the Raft shell, shared by raft_*.c of this folder; nobody else includes this.
 *
 *   raft_node.c      life, stepping the core, executing effects in their order
 *   raft_write.c     the write jobs: group commit, full disks, compaction
 *   raft_todo.c      applying, answering reads, telling the manager: one ordered queue
 *   raft_ask.c       proposals, reads, changes and their callbacks
 *   raft_take.c      taking and loading snapshots
 *   raft_send.c      snapshots to other members
 *   raft_receive.c   messages and snapshots from them
 *   raft_keys.c      data key and unlock key
 *
 * Everything here belongs to the loop thread, except what a running job points to. */
#ifndef SKEP_MANAGERD_IO_RAFT_NODE_INTERNAL_H
#define SKEP_MANAGERD_IO_RAFT_NODE_INTERNAL_H

#include "common/buf.h"
#include "common/worker.h"
#include "managerd/io/raft_disk.h"
#include "managerd/io/raft_node.h"

enum {
    PROPOSALS_MAX = 65536, /* waiting to be handed to the core */
    SENDERS_MAX = RAFT_MEMBERS_MAX,
    SPACE_RETRY_MS = 1000,      /* a full disk is asked again */
    SLOW_MS = 3000,             /* a write that takes longer: the disk hangs */
    BUSY_RETRY_MS = 10,         /* the core took no proposals */
    TAKE_RETRY_MS = 10 * 1000,  /* a snapshot could not be written */
    SEEN_MAX = RAFT_MEMBERS_MAX /* senders that the configuration does not name (yet) */
};

/* ---- writes ---- */

struct write { /* what the core, or a taken snapshot, wants durable */
    struct write *next;
    uint64_t seq; /* 0: not the core's */
    bool hard_state_changed;
    struct raft_hard_state hard_state;
    struct raft_snapshot_meta *install; /* owned: the log is dropped and goes on behind it */
    struct snap_writer *received;       /* gets its name then; NULL: has it */
    struct raft_entry *entries;         /* owned */
    size_t entry_count;
    uint64_t taken_index;
    uint64_t taken_term;
    uint64_t compact_index;
    struct member *member; /* owned: a new member file */
};
struct write_list {
    struct write *first;
    struct write **end;
};
struct write_job {
    struct raft_node *node;
    struct raft_disk *disk;
    struct write_list writes;
    bool maintain;
    bool shortage; /* maintenance found no room for a reserve */
    int rc;
    struct write *failed; /* first write that did not succeed */
    enum wal_space space;
    struct err err;
};

/* ---- todo ---- */

enum todo_type {
    TODO_LOAD,
    TODO_APPLY,
    TODO_READ,
    TODO_LEADER,
    TODO_CONFIG,
    TODO_DONE,
    TODO_CHUNK
};
struct todo {
    struct todo *next;
    enum todo_type type;
    uint64_t index; /* LOAD; DONE's */
    struct raft_entry *entries;
    size_t entry_count;
    struct raft_status status;
    struct raft_done_call *call; /* READ, DONE */
    int rc;
    struct chunk_call *chunk;
};

/* A callback owed to somebody. */
struct raft_done_call {
    struct raft_done_call *next;
    struct raft_done_call *previous; /* reads only */
    raft_done_fn *done;
    void *ctx;
    uint64_t index; /* of a proposal, once it has one */
    uint64_t term;
    struct raft_data *data; /* of a proposal that waits */
    struct raft_ev_config_change *change;
    char address[RAFT_ADDRESS_BYTES_MAX]; /* change->address */
};
struct call_list {
    struct raft_done_call *first;
    struct raft_done_call **end;
    size_t count;
};

/* ---- snapshots ---- */

struct take { /* being taken */
    struct raft_node *node;
    struct snap_store *store;
    void *snapshot; /* the state machine's */
    struct snap_meta meta;
    struct snap_writer *writer;
    uint8_t *mem;
    bool finished;
    int rc;
    struct err err;
};

struct load { /* being loaded into the state machine */
    struct raft_node *node;
    struct snap_store *store;
    struct snap_name name;
    struct snap_reader *reader;
    uint64_t offset;
    uint8_t *mem;
    size_t size;
    int rc;
    struct err err;
};

struct sender {          /* a snapshot on its way to one member */
    struct sender *next; /* in all_senders */
    struct raft_node *node;
    struct snap_store *store;
    struct raft_member to;
    struct snap_name name;
    struct snap_meta meta;
    uint64_t transfer_id;
    uint64_t term;
    struct snap_reader *reader;
    uint64_t offset;
    uint8_t *mem;
    size_t size; /* read into mem for offset */
    uint64_t token;
    uint32_t failures;
    bool reading; /* a job has it */
    bool dead;    /* to be freed by that job */
    struct loop_timer retry;
    int rc;
    struct err err;
};

struct chunk_call { /* a received chunk that waits for its answer */
    struct raft_node *node;
    struct snap_store *store;
    raft_chunk_done_fn *done;
    void *ctx;
    uint64_t transfer_id;
    uint64_t from;
    uint64_t term;
    uint64_t incarnation;
    uint64_t total;
    uint64_t offset; /* of data */
    uint8_t *data;
    size_t size;
    uint8_t sha256[SEAL_DIGEST_BYTES];
    bool last;
    bool refused;
    uint64_t next_offset;
    struct snap_writer *writer; /* continued, or made when offset is 0 */
    struct snap_meta meta;
    int rc;
    struct err err;
};

struct receiver { /* the one transfer being received */
    uint64_t transfer_id;
    uint64_t from;
    uint64_t term;
    uint64_t total;
    uint64_t offset; /* wanted next */
    struct snap_meta meta;
    struct snap_writer *writer;
    struct chunk_call *call; /* being written; NULL: none */
    bool complete;           /* writer is finished and durable, waits for the core's decision */
};

struct seen {
    uint64_t raft_id;
    struct id node_id;
};

struct raft_node {
    struct raft_node_options o;
    char *directory;
    char *address;
    struct raft_options core_options;
    struct raft *core;
    struct raft_disk *disk; /* the disk thread's while jobs run */
    struct worker *worker;
    uint64_t raft_id;
    bool failed; /* a write failed: nothing is acknowledged any more */

    struct loop_timer core_timer;
    struct loop_timer flush_timer;
    bool stepping;

    struct write_list writes;  /* waiting */
    struct write_job *writing; /* NULL: none */
    bool stalled;              /* no space: writes wait for the space timer */
    bool maintain_due;
    enum wal_space space; /* as last established */
    struct loop_timer space_timer;
    struct loop_timer slow_timer; /* armed while writing */

    struct todo *todo_first, **todo_end;
    bool running_todo;
    bool established; /* as last told */
    bool core_established;
    uint64_t first_index; /* of what the last step appended */
    bool was_member;
    bool removed_told;

    struct call_list proposals; /* waiting for the core */
    struct call_list pending;   /* in the log, waiting to be applied */
    struct raft_done_call *reads;
    uint64_t busy_until_ms;

    uint64_t applied_index; /* by the state machine */
    uint64_t snapshot_index;
    uint64_t snapshot_term;
    uint64_t entries_since_snapshot;
    uint64_t bytes_since_snapshot;
    uint64_t take_after_ms;
    struct take *take;
    struct load *load;
    struct sender *senders[SENDERS_MAX]; /* active ones */
    struct sender *all_senders;          /* and given up ones that a job still has */
    uint64_t token_last;
    struct receiver receiver;
    bool install_pending; /* the received file is about to get its name */
    struct seen seen[SEEN_MAX];
    uint32_t seen_next;
    struct key_job *key_job;
    uint64_t unlock_version;
};

/* raft_node.c */
int raft_node_step(struct raft_node *n, struct raft_event *ev) MUST_CHECK;
/* Steps an event that cannot be refused. */
void raft_node_step_sure(struct raft_node *n, struct raft_event *ev);
void raft_node_fail(struct raft_node *n, const struct err *e);
/* Proposals, todo and writes go on in the next iteration of the loop. */
void raft_node_wake(struct raft_node *n);
void raft_node_wake_at(struct raft_node *n, uint64_t at_ms);
uint64_t raft_node_now(const struct raft_node *n);
/* Member by id: of the configuration, or as last heard from. False: unknown. */
bool raft_node_find(const struct raft_node *n, uint64_t raft_id, struct raft_member *ret_member);
void raft_node_submit(struct raft_node *n, worker_run_fn *run, worker_done_fn *done, void *job);
/* Joins the generation of a cluster that has added this empty member. */
void raft_node_adopt_generation(struct raft_node *n, uint64_t generation);

/* raft_write.c */
void raft_write_add(struct raft_node *n, const struct raft_effects *fx);
void raft_write_taken(struct raft_node *n, uint64_t index, uint64_t term);
void raft_write_member(struct raft_node *n);
void raft_write_start(struct raft_node *n);
void raft_write_submit(struct raft_node *n);
void raft_write_free_all(struct raft_node *n);

/* raft_todo.c */
void raft_todo_add(struct raft_node *n, const struct raft_effects *fx);
void raft_todo_done(struct raft_node *n, struct raft_done_call *call, int rc);
void raft_todo_chunk(struct raft_node *n, struct chunk_call *call);
void raft_todo_run(struct raft_node *n);
void raft_todo_free_all(struct raft_node *n);

/* raft_ask.c */
void raft_ask_flush(struct raft_node *n);
/* An entry was applied: the proposal that made it, if it is ours, is done. */
void raft_ask_applied(struct raft_node *n, const struct raft_entry *entry);
/* Leadership of another term, or none: what is in flight has an unknown end. */
void raft_ask_leader(struct raft_node *n, const struct raft_status *status);
void raft_ask_read_done(struct raft_node *n, struct raft_done_call *call, int rc);
void raft_ask_cancel_all(struct raft_node *n);
struct raft_done_call *raft_call_new(raft_done_fn *done, void *ctx);
void raft_call_free(struct raft_done_call *call);

/* raft_take.c */
void raft_take_consider(struct raft_node *n);
void raft_take_free(struct raft_node *n);
void raft_load_start(struct raft_node *n, uint64_t index);
void raft_load_free(struct raft_node *n);
/* While nothing else runs: loads the snapshot at once. */
int raft_load_now(struct raft_node *n, const struct raft_snapshot_meta *meta,
                  struct err *e) MUST_CHECK;

/* raft_send.c */
void raft_send_start(struct raft_node *n, const struct raft_send_snapshot *s);
void raft_send_stop_all(struct raft_node *n);
void raft_send_free_all(struct raft_node *n);

/* raft_receive.c */
void raft_receive_installed(struct raft_node *n);
/* Takes the finished writer for the install that the core has just asked for. */
struct snap_writer *raft_receive_take_writer(struct raft_node *n);
void raft_receive_reply(struct chunk_call *call);
void raft_receive_free(struct raft_node *n);

/* raft_keys.c */
void raft_keys_free(struct raft_node *n);

#endif
