/* Inside of the raft core. One owner file per idea: log.c (entries), quorum.c (majorities),
 * progress.c (what a leader knows of a follower), election.c, replicate.c, snapshot.c,
 * confchange.c, read.c, step.c (dispatch, writes, effects), inspect.c.
 *
 * Rules of the house: handlers record consequences (r->out, r->held, r->dirty…) and step_finish
 * turns them into effects, so no pointer into the log is taken before the log stopped moving. */
#ifndef SKEP_MANAGERD_RAFT_INTERNAL_H
#define SKEP_MANAGERD_RAFT_INTERNAL_H

#include "common/prng.h"
#include "managerd/raft/mutant.h"
#include "managerd/raft/raft.h"

/* ---- log.c ----------------------------------------------------------------------------------- */

/* Entries (base_index, base_index + count], contiguous in memory at entries + start.
 * Invariants: base <= snapshot.index <= commit <= last, applied <= commit, durable <= last. */
struct raft_log {
    struct raft_entry *entries;
    size_t start;
    size_t count;
    size_t capacity;
    uint64_t base_index;
    uint64_t base_term;
    uint64_t durable_index; /* our own disk holds the log up to here as it is now */
    uint64_t commit_index;
    uint64_t applied_index;
    struct raft_snapshot_meta snapshot; /* newest one, index 0: none */
};

void raft_log_deinit(struct raft_log *l);
uint64_t raft_log_last(const struct raft_log *l);
uint64_t raft_log_last_term(const struct raft_log *l);
/* 0 when index is below base or above last. */
uint64_t raft_log_term(const struct raft_log *l, uint64_t index);
/* index in (base, last]. */
const struct raft_entry *raft_log_at(const struct raft_log *l, uint64_t index);
/* Takes a reference to e->data. e->index must be last + 1. */
void raft_log_append(struct raft_log *l, const struct raft_entry *e);
/* Drops entries from index on. index > commit. */
void raft_log_truncate(struct raft_log *l, uint64_t index);
/* Drops entries up to index <= snapshot.index. */
void raft_log_compact(struct raft_log *l, uint64_t index);
/* Drops everything; the log then starts after (index, term). */
void raft_log_reset(struct raft_log *l, uint64_t index, uint64_t term);
/* The largest i in [base, index] whose term is at most term; base if there is none. O(log n). */
uint64_t raft_log_find(const struct raft_log *l, uint64_t index, uint64_t term);
/* Entries from index on, at most count_max and bytes_max but at least one; 0 if there is none. */
size_t raft_log_fit(const struct raft_log *l, uint64_t index, size_t count_max, uint64_t bytes_max,
                    uint64_t *ret_bytes);
/* §5.4.1: is a log ending in (last_index, last_term) at least as up to date as this one? */
bool raft_log_up_to_date(const struct raft_log *l, uint64_t last_index, uint64_t last_term);

/* ---- quorum.c -------------------------------------------------------------------------------- */

enum raft_vote_result { RAFT_VOTE_PENDING, RAFT_VOTE_WON, RAFT_VOTE_LOST };

/* Members of a majority of n voters. */
uint32_t raft_quorum(uint32_t n);
/* The largest value that a majority of the n values reaches; n > 0. Reorders values. */
uint64_t raft_quorum_value(uint64_t *values, uint32_t n);
enum raft_vote_result raft_quorum_vote(uint32_t granted, uint32_t refused, uint32_t n);

/* ---- progress.c ------------------------------------------------------------------------------ */

struct raft_inflight {
    uint64_t last_index;
    uint64_t bytes;
};

/* What a leader knows of one other member.
 *
 *              reject, unreachable                      no such entries any more
 *   REPLICATE ---------------------> PROBE -------------------------> SENDING_SNAPSHOT
 *   pipelined <--------------------- one message, <------------------ nothing but
 *                 accepted           then pause    sent, failed,      heartbeats
 *                                                  or caught up */
struct raft_progress {
    uint64_t raft_id;
    enum raft_progress_state state;
    bool paused;      /* PROBE: wait for an answer or a heartbeat reply */
    bool contacted;   /* in this leadership */
    bool fence_order; /* its log went back: tell it to fence itself, do not count it */
    uint64_t incarnation;
    uint64_t challenge_round; /* another incarnation has to answer this round; 0: none seen */
    uint64_t match_index;
    uint64_t next_index;
    uint64_t match_round; /* r->round when match_index was learned */
    uint64_t round_acked;
    uint64_t commit_sent;
    uint64_t snapshot_index;
    uint64_t last_contact_ms;
    struct raft_inflight *inflight; /* ring of options.inflight_messages_max */
    uint32_t inflight_capacity;
    uint32_t inflight_head;
    uint32_t inflight_count;
    uint64_t inflight_bytes;
};

void raft_progress_init(struct raft_progress *p, uint64_t raft_id, uint32_t inflight_capacity);
void raft_progress_deinit(struct raft_progress *p);
/* Forgets what was known, as of a member never heard of under this incarnation. */
void raft_progress_reset(struct raft_progress *p, uint64_t incarnation, uint64_t next_index);
void raft_progress_probe(struct raft_progress *p, uint64_t next_index);
void raft_progress_replicate(struct raft_progress *p);
void raft_progress_send_snapshot(struct raft_progress *p, uint64_t index);
/* May another append go out? */
bool raft_progress_ready(const struct raft_progress *p, uint64_t inflight_bytes_max);
/* Notes an append of entries up to last_index. */
void raft_progress_sent(struct raft_progress *p, uint64_t last_index, uint64_t bytes);
/* The member holds entries up to index. True when that is news. */
bool raft_progress_acked(struct raft_progress *p, uint64_t index);
/* The previous entry refused_index was refused; next_index is where to try. False: stale, ignored.
 */
bool raft_progress_rejected(struct raft_progress *p, uint64_t refused_index, uint64_t next_index);
void raft_progress_free_oldest(struct raft_progress *p);

/* ---- the machine ----------------------------------------------------------------------------- */

struct raft_write { /* given to the shell, not yet reported durable */
    uint64_t seq;
    uint64_t last_index; /* the log is durable up to here once it is done; lowered by truncation */
};

struct raft_held { /* a message that waits for a write */
    uint64_t seq;
    struct raft_message message;
};

struct raft_pending_read {
    uint64_t id;
    uint64_t from;    /* leader: who asked, RAFT_NONE for ourselves */
    uint64_t context; /* of the READ message */
    uint64_t index;   /* 0: not known yet */
    uint64_t round;   /* leader: answered when a quorum acknowledged this round */
    uint64_t deadline_ms;
};

struct raft {
    struct raft_options options;
    struct prng prng;
    uint64_t now_ms;
    bool started;

    struct raft_hard_state hard; /* Figure 2: persistent state, without the log */
    uint64_t vote_incarnation;   /* of hard.vote, when it was given in this life of the process */
    struct raft_log log;
    struct raft_config config; /* in effect: the last one in the log, committed or not */
    uint64_t config_index;

    enum raft_state state;
    uint64_t leader;

    /* follower */
    uint64_t leader_contact_ms;
    uint64_t match_index; /* our log equals this term's leader's up to here */
    uint64_t round_seen;
    uint64_t ack_sent;
    bool ack_due;
    uint64_t read_context;      /* next one */
    uint64_t read_context_sent; /* READ under way, 0: none */
    uint64_t read_sent_ms;

    /* candidate: bit per position in config.members */
    uint32_t votes_granted;
    uint32_t votes_refused;
    uint32_t lonely_timeouts; /* of a non-voter, in a row without a leader */
    uint64_t self_vote_seq;   /* our own vote counts when this write is durable */
    bool self_voted;

    /* leader */
    struct raft_progress progress[RAFT_MEMBERS_MAX]; /* same positions as config.members */
    uint32_t progress_count;
    uint64_t round;
    uint64_t term_first_index; /* our no-op */
    uint64_t uncommitted_bytes;
    uint64_t transfer_target;
    uint64_t transfer_deadline_ms;
    bool transfer_sent;

    /* timers */
    uint64_t election_at_ms;
    uint64_t heartbeat_at_ms;

    /* reads, oldest first */
    struct raft_pending_read *reads;
    size_t read_count;
    size_t read_capacity;

    /* writes */
    struct raft_write writes[RAFT_WRITES_MAX];
    uint32_t write_head;
    uint32_t write_count;
    uint64_t write_seq;
    uint64_t durable_seq;
    uint64_t hard_seq;                    /* the last write with hard state */
    uint64_t install_seq;                 /* snapshot being installed, 0: none */
    struct raft_held held[RAFT_HELD_MAX]; /* seq 0: this step's write, see step_finish */
    struct raft_message scratch;          /* takes a message that found no room in held */
    uint32_t held_count;

    /* consequences of the current step */
    bool hard_dirty;
    bool install_dirty;
    bool drop_dirty;
    uint64_t append_from; /* 0: none */
    struct raft_message *out;
    size_t out_count;
    size_t out_capacity;
    struct raft_send_snapshot send_snapshots[RAFT_MEMBERS_MAX];
    size_t send_snapshot_count;
    struct raft_read *reads_done;
    size_t reads_done_count;
    size_t reads_done_capacity;
    uint64_t load_snapshot;
    uint64_t first_index;
    uint64_t compact_index;
    bool config_changed;
    enum raft_note note;
    uint64_t note_peer;
    enum raft_state reported_state;
    uint64_t reported_leader;
    uint64_t reported_term;
    uint64_t dropped_count;
};

/* step.c */
void raft_note(struct raft *r, enum raft_note note, uint64_t peer);
/* A message to `to` with the header filled in; the caller sets the rest before the next call. */
struct raft_message *raft_send(struct raft *r, enum raft_message_type type, uint64_t to);
/* The same, sent once the current hard state is durable. Dropped when too many wait. */
struct raft_message *raft_send_durable(struct raft *r, enum raft_message_type type, uint64_t to);
bool raft_hard_durable(const struct raft *r);
/* No room for another write: nothing that changes durable state may happen. */
bool raft_writes_full(const struct raft *r);
void raft_truncate(struct raft *r, uint64_t index);
/* Appends to the log and to this step's write. */
void raft_append(struct raft *r, const struct raft_entry *e);
void raft_commit_to(struct raft *r, uint64_t index);
/* Position in config.members, or -1. */
int raft_position(const struct raft *r, uint64_t raft_id);
/* member, of some configuration, is this life of ours: not an earlier or a cloned one. */
bool raft_is_self(const struct raft *r, const struct raft_member *member);
bool raft_is_voter(const struct raft *r);

/* election.c */
void raft_become_follower(struct raft *r, uint64_t term, uint64_t leader);
void raft_campaign(struct raft *r, bool transfer);
void raft_election_timeout(struct raft *r);
void raft_reset_election_timer(struct raft *r);
/* Our own vote became durable. */
void raft_self_vote(struct raft *r);
/* The leader is known to be alive: whoever wants an election has to wait (thesis §4.2.3). */
bool raft_leader_alive(const struct raft *r);
void raft_on_vote(struct raft *r, const struct raft_message *m);
void raft_on_vote_reply(struct raft *r, const struct raft_message *m);
void raft_on_timeout_now(struct raft *r, const struct raft_message *m);
int raft_transfer(struct raft *r, uint64_t target);
void raft_transfer_progress(struct raft *r);
void raft_fence(struct raft *r);

/* replicate.c */
bool raft_counts(const struct raft *r, uint32_t position);
bool raft_active(const struct raft *r, uint32_t position);
/* When a quorum of the voters was last heard from: the leader's view. */
uint64_t raft_quorum_contact_ms(const struct raft *r);
/* The latest round that a quorum of the voters acknowledged. */
uint64_t raft_quorum_round(const struct raft *r);
void raft_broadcast_append(struct raft *r);
void raft_broadcast_heartbeat(struct raft *r);
void raft_send_append(struct raft *r, struct raft_progress *p, bool may_be_empty);
void raft_leader_timeout(struct raft *r);
/* Moves commit_index if a quorum allows. May end the leadership (removed leader). */
void raft_leader_commit(struct raft *r);
/* Part of raft_commit_to: commit_index of a leader moved. */
void raft_leader_committed(struct raft *r);
void raft_send_ack(struct raft *r);
/* -ERR_PROTO when accepting this append would contradict what is committed. */
int raft_check_append(const struct raft *r, const struct raft_message *m);
void raft_on_append(struct raft *r, const struct raft_message *m);
void raft_on_heartbeat(struct raft *r, const struct raft_message *m);
void raft_on_append_reply(struct raft *r, const struct raft_message *m);
void raft_on_heartbeat_reply(struct raft *r, const struct raft_message *m);
int raft_propose(struct raft *r, const struct raft_ev_propose *p);

/* snapshot.c */
void raft_on_snapshot(struct raft *r, const struct raft_message *m);
void raft_snapshot_taken(struct raft *r, uint64_t index);
void raft_snapshot_sent(struct raft *r, const struct raft_ev_peer *peer, bool ok);
void raft_request_snapshot(struct raft *r, struct raft_progress *p);
void raft_install_done(struct raft *r);

/* confchange.c */
int raft_config_change(struct raft *r, const struct raft_ev_config_change *c);
/* Puts c into effect (thesis §4.1: a server uses the latest configuration in its log). */
void raft_config_set(struct raft *r, const struct raft_config *c, uint64_t index);
/* After truncation: back to the latest configuration still in the log. */
void raft_config_revert(struct raft *r);
/* A configuration entry is committed. */
void raft_config_committed(struct raft *r, const struct raft_config *c);
void raft_config_of(const struct raft_entry *e, struct raft_config *ret_config);

/* read.c */
int raft_read_index(struct raft *r, uint64_t id);
void raft_on_read(struct raft *r, const struct raft_message *m);
void raft_on_read_reply(struct raft *r, const struct raft_message *m);
/* Leader: own term committed, or a round was acknowledged. */
void raft_reads_advance(struct raft *r);
/* Answers what the applied state covers. */
void raft_reads_finish(struct raft *r);
void raft_reads_fail(struct raft *r);
void raft_reads_timeout(struct raft *r);
uint64_t raft_reads_deadline(const struct raft *r);
void raft_read_retry(struct raft *r);

#endif
