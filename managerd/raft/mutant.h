/* Planted bugs, here and in managerd/io and managerd. A product build compiles them away; the
 * variant built with -DRAFT_MUTANTS asks the simulator's variable, so that `sim --mutant N` shows
 * whether the checks would find each of them (test/sim/mutants.sh, results in test/sim/README.md).
 * The only place with this #ifdef. */
#ifndef SKEP_MANAGERD_RAFT_MUTANT_H
#define SKEP_MANAGERD_RAFT_MUTANT_H

#ifdef RAFT_MUTANTS
extern int raft_mutant;
#define RAFT_MUTANT(n) (raft_mutant == (n))
#define RAFT_MUTANTS_BUILT 1
#else
#define RAFT_MUTANT(n) 0
#define RAFT_MUTANTS_BUILT 0
#endif

/* clang-format off */
#define RAFT_MUTANT_LIST(X) /* number, name, what is broken */ \
    X( 1, VOTE_UNSYNCED,      "a vote is sent before it is durable")                          \
    X( 2, ACK_UNSYNCED,       "a follower acknowledges before its fsync")                     \
    X( 3, SELF_UNSYNCED,      "a leader counts itself before its fsync")                      \
    X( 4, COMMIT_OLD_TERM,    "an entry of an older term is committed by counting")           \
    X( 5, NO_PREV_CHECK,      "an append is accepted without the previous entry's check")     \
    X( 6, STALE_TRUNCATE,     "a stale append truncates the log")                             \
    X( 7, IGNORE_REPLY_TERM,  "a higher term in a reply is ignored")                          \
    X( 8, VOTE_NO_LOG_CHECK,  "a vote is granted without comparing logs")                     \
    X( 9, LEARNER_COUNTED,    "a learner counts for commits")                                 \
    X(10, CONFIG_AT_COMMIT,   "a leader uses a new configuration only once it is committed")  \
    X(11, CONFIG_BEFORE_NOOP, "a configuration change before an entry of the own term")       \
    X(12, CONFIG_TWO_PENDING, "a second configuration change while one is uncommitted")       \
    X(13, READ_NO_ROUND,      "a read is answered without asking a quorum")                   \
    X(14, READ_BEFORE_NOOP,   "a read is answered before an entry of the own term commits")   \
    X(15, READ_LEASE,         "a read trusts a lease of two election timeouts")               \
    X(16, SNAPSHOT_OLDER,     "an older snapshot is installed over a newer log")              \
    X(17, TRANSFER_LAGGING,   "leadership is transferred to a member that lags")              \
    X(18, REMOVED_COUNTS,     "a removed leader counts itself")                               \
    X(19, APPLY_TWICE,        "an entry covered by the snapshot is applied after a restart")  \
    X(20, STALE_PROPOSE,      "a proposal of an older leadership is accepted")                \
    X(21, VOTE_TWICE,         "a second candidate gets a vote in the same term")              \
    X(22, SELF_VOTE_UNSYNCED, "a candidate asks for votes before its own is durable")         \
    X(23, FENCED_VOTES,       "a fenced member votes")                                        \
    X(24, FENCED_COUNTED,     "a fenced member's acknowledgements count")                     \
    X(25, CONFIG_NO_REVERT,   "a truncated configuration stays in effect")                    \
    X(26, COMMIT_BEYOND,      "a follower commits entries not known to match the leader's")   \
    X(27, TRUNCATE_ABA,       "a write finished for truncated entries counts for new ones")   \
    X(28, QUORUM_HALF,        "half of the voters is a quorum")                               \
    X(29, COMPACT_BEYOND,     "compaction goes beyond the snapshot")                          \
    X(30, NO_STICKINESS,      "a member votes although its leader is alive, without PreVote") \
    X(31, NO_CHECK_QUORUM,    "a leader without a quorum never steps down")                   \
    X(32, STORE_NO_SESSIONS,  "the table of finished requests is lost in snapshots")          \
    X(33, INFLIGHT_UNLIMITED, "the limit of messages in flight is not kept")                  \
    X(34, LEADER_TRUNCATES,   "a new leader drops its uncommitted entries")                   \
    X(35, UNFENCE_EARLY,      "a fenced member is readmitted before the entry commits")       \
    X(36, WAL_NO_SYNC,        "the log is not synced")                                        \
    X(37, NAME_NO_SYNC,       "a renamed file's directory is not synced")                     \
    X(38, TORN_FATAL,         "a torn tail of the log is refused")                            \
    X(39, DAMAGE_TORN,        "damage in the middle of the log is taken for a torn tail")     \
    X(40, CHUNK_REPLAY,       "a repeated piece of a snapshot is written once more")          \
    X(41, STATE_LATER,        "a snapshot holds a later state than its index says")           \
    X(42, STATE_AFTER_GC,     "a new segment leaves the hard state to a record still to come")   \
    X(43, SYNC_RETRIED,       "a failed fsync is tried again")                                \
    X(44, WALL_TIMERS,        "timers run on the wall clock")                                 \
    X(45, SNAP_NO_SYNC,       "a snapshot gets its name before it is synced")                 \
    X(46, STALE_LOOP,         "a leader's loops go on after its leadership, under any term") \
    X(47, TWIN_COUNTS,        "a member counts itself under any incarnation")
/* clang-format on */

enum raft_mutants {
#define X(number, name, text) RAFT_MUTANT_##name = (number),
    RAFT_MUTANT_LIST(X)
#undef X
};

#endif
