/* Raft core: a pure function of (state, event). No I/O, clock, threads or logging; time comes in
 * with each event and randomness from a seeded generator. managerd/io/raft_io.c executes the
 * effects, test/sim runs the same code under faults. Loop thread only.
 *
 * Source: Ongaro & Ousterhout, "In Search of an Understandable Consensus Algorithm" (extended
 * version, 2014; "§"); Ongaro's thesis, 2014 ("thesis §"): PreVote §9.6, CheckQuorum and stickiness
 * §4.2.3 and §6.2, transfer §3.10, membership §4, reads §6.4, pipelining and parallel disk write
 * §10.2; the raft-dev note of July 2015 on membership ("2015 guard").
 *
 * Promises: election safety, log matching, leader completeness, state machine safety (§5, Figure 3)
 * with any loss, duplication, reordering and delay of messages, crashes at any instant that lose
 * every write not yet reported by RAFT_EV_PERSISTED, pauses, and clocks of any rate. No leases:
 * timing affects progress only, never safety.
 *
 * Asynchronous log writes. The effects of a step may hold one write, numbered by write_seq. The
 * shell writes in that order, may group writes, and reports the highest finished number. Messages
 * may be sent at once, beside the write: the core holds back what has to wait (votes, vote
 * requests, acknowledgements); a leader replicates before its own fsync but counts itself only
 * after it.
 *
 * Fencing. A member whose disk may have gone back (restored from a backup, emptied) has forgotten
 * promises: votes, terms and acknowledged entries. Counting it again could elect two leaders in one
 * term. It starts with log_may_have_gone_back: it draws a new random *incarnation* and is *fenced*:
 * it follows and stores, but neither votes nor campaigns. Every message carries the sender's
 * incarnation, and a member counts (votes, commit, reads, CheckQuorum) only while the incarnation
 * it speaks with is the one that the configuration records. The cure is a committed configuration
 * entry (RAFT_CHANGE_READMIT) that makes it a learner under the new incarnation; once the member
 * sees that entry committed it is unfenced and can be promoted like any other learner. Why that is
 * sound: until the entry commits the member is no different from a crashed one; the entry commits
 * on a majority of the configuration without the member, and that majority intersects, outside the
 * member, every quorum of the old configuration; so any candidate that still counts one of its
 * forgotten votes or acknowledgements lacks the entry and loses the up-to-date check (§5.4.1). A
 * leader also notices a log that went back unannounced (a matched entry is gone in a later round)
 * and orders the member to fence itself. A fenced majority cannot elect: that is data loss, and
 * --force-new-cluster decides.
 *
 * A cloned member is there twice, and once its copy has been readmitted the original is the
 * stranger: never fenced, with all its promises, and recorded under another incarnation. It counts
 * itself no more than others do (raft_is_self), and a vote belongs to one incarnation of a
 * candidate, so that two lives of one member cannot both win a term. */
#ifndef SKEP_MANAGERD_RAFT_RAFT_H
#define SKEP_MANAGERD_RAFT_RAFT_H

#include <assert.h> /* static_assert */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/id.h"
#include "common/mem.h"

/* ---- limits ---------------------------------------------------------------------------------- */

enum {
    RAFT_NONE = 0,                    /* no raft_id, no index, no term */
    RAFT_MEMBERS_MAX = 32,            /* voters and learners */
    RAFT_ADDRESS_BYTES_MAX = 128,     /* with the NUL */
    RAFT_ENTRY_BYTES_MAX = 4 << 20,   /* data of one entry */
    RAFT_MESSAGE_ENTRIES_MAX = 4096,  /* entries in one APPEND */
    RAFT_MESSAGE_BYTES_MAX = 8 << 20, /* of an encoded message */
    RAFT_PROPOSE_ENTRIES_MAX = 4096,  /* entries of one RAFT_EV_PROPOSE */
    RAFT_APPLY_ENTRIES_MAX = 4096,    /* applied per step; the rest follows with the next event */
    RAFT_INFLIGHT_MESSAGES_MAX = 256, /* cap of options.inflight_messages_max */
    RAFT_READS_MAX = 16384,           /* reads waiting on one member */
    RAFT_WRITES_MAX = 1024,           /* writes not yet reported persisted */
    RAFT_HELD_MAX = 256,              /* messages waiting for a write */
};
static_assert((int)RAFT_ENTRY_BYTES_MAX <= (int)RAFT_MESSAGE_BYTES_MAX / 2,
              "a message takes at least one entry of any size");

/* Terms and indexes above these are a protocol error, so that + 1 never wraps. */
#define RAFT_TERM_MAX (UINT64_MAX / 2)
#define RAFT_INDEX_MAX (UINT64_MAX / 2)
#define RAFT_NEVER UINT64_MAX /* "no timer" */

/* ---- values ---------------------------------------------------------------------------------- */

/* Payload of an entry: immutable and reference-counted with a plain int, so references are taken
 * and dropped on the loop thread only; while that thread holds one, any thread may read the bytes.
 * Propose, log, send and apply share one object: nothing copies it. */
struct raft_data {
    uint32_t references;
    uint32_t size;
    const uint8_t *bytes;
    void *owned; /* freed with the object; NULL when bytes follow the struct */
};

/* Copies size bytes. One reference belongs to the caller. */
struct raft_data *raft_data_new(const void *bytes, size_t size);
/* Takes over bytes, which came from malloc. One reference belongs to the caller. */
struct raft_data *raft_data_take(uint8_t *bytes, size_t size);
struct raft_data *raft_data_ref(struct raft_data *d);
/* NULL is allowed. */
void raft_data_unref(struct raft_data *d);

enum raft_entry_type {
    RAFT_ENTRY_NORMAL = 0,
    RAFT_ENTRY_NOOP = 1,
    RAFT_ENTRY_CONFIG = 2,
};

struct raft_entry {
    uint64_t index;
    uint64_t term;
    enum raft_entry_type type;
    struct raft_data *data; /* NULL: empty */
};

/* Bytes an entry counts with in every byte limit. */
size_t raft_entry_bytes(const struct raft_entry *e);
/* A copy of the array that holds its own references; for shells that queue. */
struct raft_entry *raft_entries_clone(const struct raft_entry *entries, size_t count);
void raft_entries_free(struct raft_entry *entries, size_t count);

enum raft_role { RAFT_VOTER = 0, RAFT_LEARNER = 1 };

struct raft_member {
    uint64_t raft_id;
    uint64_t incarnation;
    struct id node_id;
    enum raft_role role;
    char address[RAFT_ADDRESS_BYTES_MAX];
};

struct raft_config {
    uint32_t member_count;
    struct raft_member members[RAFT_MEMBERS_MAX]; /* ascending raft_id */
};

/* NULL when raft_id is no member. */
const struct raft_member *raft_config_find(const struct raft_config *c, uint64_t raft_id);
uint32_t raft_config_voter_count(const struct raft_config *c);

struct raft_hard_state {
    uint64_t term;
    uint64_t vote;
    uint64_t incarnation;
    bool fenced;
};

struct raft_snapshot_meta {
    uint64_t index;
    uint64_t term;
    struct raft_config config;
};

/* ---- messages -------------------------------------------------------------------------------- */

enum raft_message_type { /* numbers as in proto/raft.proto */
                         RAFT_MSG_PRE_VOTE = 1,
                         RAFT_MSG_PRE_VOTE_REPLY = 2,
                         RAFT_MSG_VOTE = 3,
                         RAFT_MSG_VOTE_REPLY = 4,
                         RAFT_MSG_APPEND = 5,
                         RAFT_MSG_APPEND_REPLY = 6,
                         RAFT_MSG_HEARTBEAT = 7,
                         RAFT_MSG_HEARTBEAT_REPLY = 8,
                         RAFT_MSG_SNAPSHOT = 9,
                         RAFT_MSG_TIMEOUT_NOW = 10,
                         RAFT_MSG_READ = 11,
                         RAFT_MSG_READ_REPLY = 12,
};
enum { RAFT_MSG_TYPE_MAX = RAFT_MSG_READ_REPLY };

/* Fields by type; what is not named is 0. from, to, term (the sender's current term), generation
 * and incarnation are always set.
 *
 *   PRE_VOTE, VOTE     index, log_term: the candidate's last entry; flag: leadership was
 * transferred PRE_VOTE_REPLY     context: the asker's term, echoed; reject VOTE_REPLY reject APPEND
 * index, log_term: the entry before entries; commit; round; entries; flag: fence yourself
 *   APPEND_REPLY       index: durable and equal to the leader's log up to here; round: echoed;
 *                      reject: context = the refused previous index, hint_index and hint_term = the
 *                      last entry of the follower that can be equal to one of the leader's
 *   HEARTBEAT          commit: at most what the follower has acknowledged; round; flag: as APPEND
 *   HEARTBEAT_REPLY    index: as in APPEND_REPLY; round: echoed
 *   SNAPSHOT           snapshot: meta data of a snapshot that the shell has received whole,
 * verified and made durable beside the current one TIMEOUT_NOW        (campaign at once) READ
 * context: names the question READ_REPLY         context: echoed; index: state applied up to here
 * answers; reject: not now */
struct raft_message {
    enum raft_message_type type;
    bool reject;
    bool flag;
    uint64_t from;
    uint64_t to;
    uint64_t term;
    uint64_t generation;
    uint64_t incarnation;
    uint64_t index;
    uint64_t log_term;
    uint64_t commit;
    uint64_t round;
    uint64_t context;
    uint64_t hint_index;
    uint64_t hint_term;
    size_t entry_count;
    const struct raft_entry *entries;          /* borrowed */
    const struct raft_snapshot_meta *snapshot; /* borrowed; SNAPSHOT only */
};

/* ---- events ---------------------------------------------------------------------------------- */

enum raft_event_type {
    RAFT_EV_START,           /* once, first: what the disk holds */
    RAFT_EV_TIMEOUT,         /* timer_at_ms has come; harmless at any other time */
    RAFT_EV_RECEIVE,         /* a message from another member, sender authenticated by the shell */
    RAFT_EV_PERSISTED,       /* every write up to seq is durable */
    RAFT_EV_SNAPSHOT_TAKEN,  /* a snapshot of the state at index is durable: the log may shrink */
    RAFT_EV_SNAPSHOT_SENT,   /* the whole snapshot at index has reached peer */
    RAFT_EV_SNAPSHOT_FAILED, /* sending to peer was given up */
    RAFT_EV_UNREACHABLE,     /* the last message to peer was certainly not delivered */
    RAFT_EV_PROPOSE,         /* append these payloads, all or none */
    RAFT_EV_CONFIG_CHANGE,   /* append a changed configuration */
    RAFT_EV_READ_INDEX,      /* a linearizable read wants to start */
    RAFT_EV_TRANSFER,        /* hand leadership to target, or to the best voter when 0 */
};

struct raft_ev_start {
    struct raft_hard_state hard_state;
    const struct raft_snapshot_meta *snapshot; /* NULL: none. Its state is loaded already */
    const struct raft_entry *entries; /* without gaps; begin at most one after the snapshot. May
                                       * end before it or contradict it: see drop_log */
    size_t entry_count;
    bool log_may_have_gone_back; /* fence, see the top; say so until that step's write is durable */
};

enum raft_change {
    RAFT_CHANGE_ADD_LEARNER, /* raft_id, node_id, address, incarnation */
    RAFT_CHANGE_PROMOTE,     /* learner -> voter; must be active and nearly caught up */
    RAFT_CHANGE_DEMOTE,      /* voter -> learner */
    RAFT_CHANGE_REMOVE,
    RAFT_CHANGE_ADDRESS, /* address */
    RAFT_CHANGE_READMIT, /* fenced member -> learner with this incarnation */
};

struct raft_ev_config_change {
    enum raft_change change;
    bool force; /* skip the check that a quorum of the result is active */
    uint64_t raft_id;
    uint64_t incarnation;
    struct id node_id;
    const char *address;
};

struct raft_ev_propose {
    uint64_t term;                 /* the leadership under which the payloads were computed */
    struct raft_data *const *data; /* borrowed: the core takes its own references */
    size_t count;
};

struct raft_ev_peer {
    uint64_t raft_id;
    uint64_t snapshot_index; /* SNAPSHOT_SENT */
};

struct raft_event {
    enum raft_event_type type;
    uint64_t now_ms; /* monotonic; must not go backwards (asserted) */
    union {
        struct raft_ev_start start;
        const struct raft_message *message;
        uint64_t persisted_seq;
        uint64_t snapshot_index;  /* SNAPSHOT_TAKEN */
        struct raft_ev_peer peer; /* SNAPSHOT_SENT, SNAPSHOT_FAILED, UNREACHABLE */
        struct raft_ev_propose propose;
        struct raft_ev_config_change change;
        uint64_t read_id; /* chosen by the shell, unique among waiting reads */
        uint64_t target;
    };
};

/* ---- effects --------------------------------------------------------------------------------- */

enum raft_state { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };

/* clang-format off */
#define RAFT_NOTES(X) /* name, text: why a step did what it did; for logs and tests */ \
    X(NONE,              "")                                                          \
    X(VOTE_GRANTED,      "vote granted")                                              \
    X(VOTE_TERM,         "vote refused: old term")                                    \
    X(VOTE_STICKY,       "vote refused: the leader is alive")                         \
    X(VOTE_TAKEN,        "vote refused: voted for another")                           \
    X(VOTE_LOG_TERM,     "vote refused: its last entry has an older term")            \
    X(VOTE_LOG_SHORT,    "vote refused: its log is shorter")                          \
    X(VOTE_FENCED,       "vote refused: fenced")                                      \
    X(OLD_TERM,          "message of an old term ignored")                            \
    X(APPEND_GAP,        "append refused: previous entry missing")                    \
    X(APPEND_CONFLICT,   "append refused: previous entry has another term")           \
    X(SNAPSHOT_OLD,      "snapshot ignored: the log already covers it")               \
    X(STEP_DOWN_TERM,    "stepped down: higher term")                                 \
    X(STEP_DOWN_QUORUM,  "stepped down: no contact with a quorum")                    \
    X(STEP_DOWN_REMOVED, "stepped down: no longer a voter")                           \
    X(TRANSFER_ABORTED,  "leadership transfer aborted")                               \
    X(LOG_WENT_BACK,     "a member lost entries it had acknowledged")                 \
    X(FENCED,            "fenced: this log may have gone back")                       \
    X(UNFENCED,          "readmitted: no longer fenced")                              \
    X(OVERLOADED,        "dropped: too many writes are pending")
/* clang-format on */
enum raft_note {
#define X(name, text) RAFT_NOTE_##name,
    RAFT_NOTES(X)
#undef X
};
const char *raft_note_str(enum raft_note note);

struct raft_send_snapshot {
    uint64_t to;
    uint64_t index; /* send the newest durable snapshot: this one or a later one */
};

struct raft_read {
    uint64_t id;
    uint64_t index; /* ready: the state applied by now (>= index) answers the read */
    bool failed;    /* leadership lost, no quorum in time: ask again */
};

/* Execute in this order. Everything points into the core and is valid until the next raft_step. */
struct raft_effects {
    /* 1. One write, if write_seq != 0: install, drop_log, hard state, entries; durable in that
     * order and in the order of write_seq. RAFT_EV_PERSISTED reports it. */
    uint64_t write_seq;
    const struct raft_snapshot_meta *install; /* make the received snapshot current */
    bool drop_log; /* forget all stored entries: a snapshot replaces them */
    bool hard_state_changed;
    struct raft_hard_state hard_state; /* always the current one */
    const struct raft_entry *append;   /* the stored log is first cut to append[0].index - 1 */
    size_t append_count;

    /* 2. Send at once, in any order; losing any of them is allowed. */
    const struct raft_message *messages;
    size_t message_count;
    const struct raft_send_snapshot *send_snapshots; /* each ends in SNAPSHOT_SENT or _FAILED */
    size_t send_snapshot_count;

    /* 3. Load the snapshot at load_snapshot (installed and durable by now) when != 0, then apply.
     * Applying is taken as done when raft_step is called again. */
    uint64_t load_snapshot;
    const struct raft_entry *apply;
    size_t apply_count;

    /* 4. Answer reads. */
    const struct raft_read *reads;
    size_t read_count;

    /* 5. Tell the rest of the manager. */
    bool leader_changed; /* state, leader or term differ from the last effects */
    bool config_changed; /* the configuration in effect differs */
    enum raft_state state;
    uint64_t leader; /* RAFT_NONE: unknown */
    uint64_t term;
    uint64_t first_index; /* of what PROPOSE or CONFIG_CHANGE appended, under term; else 0 */
    enum raft_note note;
    uint64_t note_peer; /* whom the note is about, or RAFT_NONE */

    /* 6. Stored entries up to here are covered by the newest snapshot and not wanted any more. */
    uint64_t compact_index; /* 0: no news */

    /* 7. Deliver RAFT_EV_TIMEOUT at this time; RAFT_NEVER: no timer. Replaces the last one. */
    uint64_t timer_at_ms;
};

/* ---- the machine ----------------------------------------------------------------------------- */

struct raft_options {
    uint64_t raft_id;
    uint64_t generation; /* messages of another one are refused */
    uint64_t seed;       /* different on every start */
    uint32_t heartbeat_ms;
    uint32_t election_ms;           /* >= 2 * heartbeat_ms; timeouts are drawn from [1, 2) of it */
    uint32_t message_bytes_max;     /* entries of one APPEND; one entry always fits */
    uint32_t inflight_messages_max; /* unacknowledged APPENDs per follower */
    uint64_t inflight_bytes_max;
    uint64_t uncommitted_bytes_max; /* of a leader's log; one proposal always fits */
    uint64_t promote_lag_max;       /* entries a learner may miss when promoted */
    uint32_t tail_entries;          /* kept below a snapshot for slow followers */
};

/* 100 ms, 1 s, 256 KiB, 64 messages, 8 MiB, 64 MiB, 1000, 500; ids, generation and seed 0. */
void raft_options_default(struct raft_options *o);

struct raft;

struct raft *raft_new(const struct raft_options *o);
/* NULL is allowed. */
void raft_free(struct raft *r);

/* The log that a new cluster starts from: one committed-by-definition entry 1@1 with the founder as
 * only voter. Write it with the hard state before the first start. Caller unrefs ret_entry->data.
 */
void raft_bootstrap(const struct raft_member *founder, struct raft_entry *ret_entry,
                    struct raft_hard_state *ret_hard_state);

/* Feeds one event. ev is borrowed for the call. fx is always filled in. Returns 0, or:
 *   START          -ERR_CORRUPT  log, snapshot and hard state contradict each other
 *   RECEIVE        -ERR_PROTO    the message breaks the protocol; r is unchanged
 *                  -ERR_STALE    other generation, or not for us; r is unchanged
 *   PROPOSE,       -ERR_NOT_LEADER
 *   CONFIG_CHANGE, -ERR_STALE    term is not the current leadership (PROPOSE)
 *   TRANSFER       -ERR_BUSY     uncommitted bytes, pending writes, a transfer or change under way
 *                  -ERR_TOO_BIG  an entry or the batch exceeds its limit
 *                  -ERR_INVALID, -ERR_EXISTS, -ERR_NOT_FOUND   does not fit the configuration
 *                  -ERR_PRECONDITION   own term not committed yet; quorum would be lost; learner
 *                                not caught up; target not active
 *   READ_INDEX     -ERR_UNAVAILABLE   no leader known;  -ERR_BUSY  RAFT_READS_MAX
 * O(members + entries touched). */
int raft_step(struct raft *r, const struct raft_event *ev, struct raft_effects *fx) MUST_CHECK;

/* ---- inspection ------------------------------------------------------------------------------ */

struct raft_status {
    uint64_t raft_id;
    uint64_t leader;
    uint64_t term;
    uint64_t vote;
    uint64_t incarnation;
    enum raft_state state;
    bool fenced;
    bool established;     /* leader, and an entry of its own term is applied: loops may start */
    uint64_t first_index; /* of the log in memory */
    uint64_t last_index;
    uint64_t durable_index;
    uint64_t commit_index;
    uint64_t applied_index;
    uint64_t snapshot_index;
    uint64_t config_index; /* entry of the configuration in effect; > commit_index: uncommitted */
    uint64_t uncommitted_bytes;
    uint64_t transfer_target;  /* RAFT_NONE: no transfer */
    uint64_t messages_dropped; /* by limits, since start */
};
void raft_status(const struct raft *r, struct raft_status *ret_status);
const char *raft_state_str(enum raft_state state);

/* The configuration in effect; valid until the next step. */
const struct raft_config *raft_config(const struct raft *r);
/* Copies the configuration as of an index in [snapshot_index, last_index]: what a snapshot records.
 * O(entries) when configurations changed since. */
void raft_config_at(const struct raft *r, uint64_t index, struct raft_config *ret_config);
/* Term of an entry in memory (or of the one just below), 0 when unknown. */
uint64_t raft_term_at(const struct raft *r, uint64_t index);

enum raft_progress_state { RAFT_PROBE, RAFT_REPLICATE, RAFT_SENDING_SNAPSHOT };
struct raft_peer_status {
    uint64_t raft_id;
    enum raft_role role;
    enum raft_progress_state state;
    bool counted;         /* speaks with the incarnation that the configuration records */
    uint64_t incarnation; /* it speaks with: what RAFT_CHANGE_READMIT takes */
    uint64_t match_index;
    uint64_t next_index;
    uint64_t last_contact_ms; /* 0: never in this leadership */
    uint64_t snapshot_index;  /* being sent */
    uint32_t inflight_messages;
    uint64_t inflight_bytes;
};
/* Fills in up to RAFT_MEMBERS_MAX; returns the count: 0 unless leader. */
size_t raft_peers(const struct raft *r, struct raft_peer_status *ret_peers);
/* Leader: a quorum was heard from within an election timeout. Others: the leader was. */
bool raft_has_quorum(const struct raft *r, uint64_t now_ms);

/* NULL, or the first internal contradiction found, in words. Tests assert it after every step.
 * O(members); O(entries) when deep. */
const char *raft_invariants(const struct raft *r, bool deep);

#endif
