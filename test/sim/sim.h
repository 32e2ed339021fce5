/* A cluster in one thread and one seed: the real raft code on simulated clocks, network and disks.
 *
 * Every source of chance has its own generator drawn from the seed, every queue has a defined
 * order, and nothing reads the real world, so a seed is a complete description of a run. Each seed
 * first draws which kinds of faults exist and how strong they are (swarm testing). Phases: safety
 * (anything may fail), then a core with a quorum is healed and the rest stays broken, then
 * liveness: the core has to agree, serve and stay calm in bounded time. What is checked, and when:
 * check.c.
 *
 * A node is raft plus a replicated machine (struct sim_machine_ops); the workload (struct
 * sim_workload_ops) sees applied entries and answered reads. Both are exchangeable. A node comes in
 * two kinds, one kind per seed:
 *
 *   plain   raft and a shell of the simulator's own (node.c) on an abstract disk (disk.c): fast
 *   full    the manager's shell, managerd/io, on files in memory (full.c, link/): what ships
 *
 * A full node's struct sim_disk is a shadow: what it was told to be durable. After every start,
 * what was read from the files is held against it (reload.c). */
#ifndef SKEP_TEST_SIM_SIM_H
#define SKEP_TEST_SIM_SIM_H

#include <stdio.h>

#include "common/prng.h"
#include "managerd/raft/internal.h"

enum {
    SIM_NODES_MAX =
        9, /* slots; a slot whose member was removed is used again under a new raft id */
    SIM_CLIENTS_MAX = 8,
    SIM_RECORDED_MAX = 64,
    SIM_MS = 1000, /* simulated time is in microseconds */
    SIM_S = 1000 * SIM_MS,
    SIM_CHAIN_EMPTY = 1,
};

/* ---- queue ----------------------------------------------------------------------------------- */

enum sim_event_type {
    SIM_EV_MESSAGE,      /* message -> node */
    SIM_EV_TIMER,        /* node's timer may be due */
    SIM_EV_DISK,         /* node's disk finished its current batch */
    SIM_EV_SNAPSHOT,     /* node's disk finished writing a snapshot */
    SIM_EV_TRANSFER_END, /* a snapshot transfer's result reaches the sender */
    SIM_EV_RESTART,      /* node comes up */
    SIM_EV_WORKLOAD,     /* the workload's own, somewhere outside the nodes */
    SIM_EV_WORKLOAD_AT,  /* the workload's own, at node: waits while that is paused */
    SIM_EV_CHUNK,        /* piece of a snapshot -> full node */
    SIM_EV_CHUNK_REPLY,  /* its answer -> full node */
    SIM_EV_FAULT,        /* the nemesis acts */
    SIM_EV_OPERATOR,     /* the operator acts */
};

struct sim_event {
    uint64_t at_us;
    uint64_t order; /* ties: first scheduled, first served */
    enum sim_event_type type;
    uint32_t node; /* slot */
    uint64_t a;    /* by type; mostly the life of the node the event was meant for */
    uint64_t b;
    void *mem; /* owned by the event, from malloc */
};

struct sim_queue {
    struct sim_event *events; /* binary heap */
    size_t count;
    size_t capacity;
    uint64_t order;
};

void sim_queue_push(struct sim_queue *q, const struct sim_event *e);
bool sim_queue_pop(struct sim_queue *q, struct sim_event *ret_e);

/* ---- replicated machine ---------------------------------------------------------------------- */

struct sim_result { /* of applying a command */
    uint32_t client;
    uint32_t sequence;
    uint64_t value;
    bool fresh; /* took effect now, was not a repetition */
};

struct sim_machine_ops {
    void *(*create)(void);
    void (*destroy)(void *machine);
    void *(*copy)(const void *machine);
    uint64_t (*hash)(const void *machine);
    uint32_t hash_every; /* indexes: how often states are compared; 0 = all */
    void (*apply)(void *machine, const struct raft_entry *e, struct sim_result *ret_result);
    void (*lose_sessions)(void *machine); /* mutant 32 */
    /* As bytes in a snapshot file, from malloc; and back, false when they make no sense. */
    uint8_t *(*pack)(const void *machine, size_t *ret_size);
    bool (*load)(void *machine, const uint8_t *bytes, size_t size, uint64_t index);
};

/* Registers with exactly-once sessions: machine.c. */
enum { SIM_KEYS = 4 };
enum sim_op { SIM_OP_READ, SIM_OP_WRITE, SIM_OP_ADD };
struct sim_command {
    uint64_t term; /* leadership it was computed under */
    uint32_t client;
    uint32_t sequence; /* 1…, per client */
    uint32_t key;
    enum sim_op op;
    uint64_t value;
};
struct sim_registers {
    uint64_t values[SIM_KEYS];
    uint32_t sequence[SIM_CLIENTS_MAX]; /* last one applied */
    uint64_t result[SIM_CLIENTS_MAX];
};
extern const struct sim_machine_ops sim_registers;

/* A copy of a machine with its place in the log; shared by disk and transfers. No machine: on a
 * full node, where it is in a file. */
struct sim_snapshot {
    uint32_t references;
    struct raft_snapshot_meta meta;
    uint64_t chain;
    uint64_t hash;
    void *machine;
};

/* ---- disk ------------------------------------------------------------------------------------ */

struct sim_write {
    uint64_t seq;
    bool hard;
    bool drop_log;
    struct raft_hard_state hard_state;
    struct sim_snapshot *install;
    struct raft_entry *entries; /* own references */
    uint64_t *chains;
    size_t entry_count;
};

/* What survives, and what was given to the disk since. Writes become durable in order; a crash
 * keeps a random prefix of those under way, reported or not. */
struct sim_disk {
    struct raft_hard_state hard;
    struct sim_snapshot *snapshot;
    struct raft_entry *entries; /* own references; contiguous */
    uint64_t *chains;           /* of each entry: hash of the log up to it */
    size_t entry_count;
    size_t entry_capacity;
    struct sim_write *writes; /* ring-less queue: [write_first, write_count) are pending */
    size_t write_first;
    size_t write_count;
    size_t write_capacity;
    uint64_t batch_seq; /* fsync under way for writes up to here, 0: idle */
    bool lost;          /* emptied or restored, not yet readmitted */
    bool fence_due;     /* lost, and the fence is not on the disk yet */
    uint64_t lost_last; /* the last index it held before that, and may have acknowledged */
};

/* ---- node ------------------------------------------------------------------------------------ */

struct sim_full;

struct sim_node {
    uint64_t raft_id;
    struct id node_id;
    uint64_t life; /* raised by every crash: events of former lives are void */
    bool up;
    bool used;
    struct sim_full *full; /* NULL: plain, or down */
    bool rotten;           /* its files were damaged */
    bool gone;             /* and it cannot start any more: to be removed */
    bool replaced;         /* the next start finds another disk than the last */
    struct raft *raft;
    void *machine;
    uint64_t machine_index;
    struct sim_disk disk;
    struct sim_disk backup; /* an old copy, to be restored by the nemesis */
    bool has_backup;
    struct sim_disk twin; /* the one of two equal members that is not in this place now: twin.c */
    bool has_twin, twin_replaced;
    struct sim_snapshot *staged;
    bool snapshot_writing;
    int64_t clock_ppm;      /* rate error */
    int64_t wall_offset_ns; /* of its wall clock */
    uint64_t paused_until_us;
    uint64_t timer_at_us; /* scheduled wake-up, 0: none */
    uint64_t timer_want_ms;
    uint64_t first_index; /* of the last proposal or change */
    /* mirror of the log in memory, as told by the effects: chains[i] is of entry chain_base + 1 + i
     */
    uint64_t *chains;
    uint64_t chain_base;
    uint64_t chain_base_value;
    size_t chain_count;
    size_t chain_capacity;
    /* last seen, for monotony */
    uint64_t term, commit, applied;
    /* the latest configuration in its log, found without the help of the code under test */
    struct raft_config config;
    uint64_t config_index;
};

/* ---- swarm ----------------------------------------------------------------------------------- */

struct sim_rates { /* drawn per seed; ppm = parts per million */
    uint32_t nodes, spare_nodes, clients;
    uint32_t loss_ppm, duplicate_ppm;
    uint32_t delay_min_us, delay_mean_us;
    uint32_t clog_ppm, clog_us;
    uint32_t partition_ppm, heal_ppm; /* chances per nemesis step */
    uint32_t crash_ppm, crash_all_ppm, pause_ppm, wipe_ppm, restore_ppm, clone_ppm;
    uint32_t disk_us, disk_stall_ppm, disk_stall_us;
    uint32_t clock_error_ppm;
    uint32_t operator_ms; /* mean time between membership actions, 0: none */
    uint32_t transfer_ppm;
    uint32_t snapshot_entries, tail_entries;
    uint32_t snapshot_loss_ppm;
    uint32_t propose_delay_us;
    uint32_t think_us;
    uint32_t inflight, message_bytes;
    uint32_t fault_us; /* between nemesis steps */
    /* Full nodes only. */
    uint32_t segment_bytes, chunk_bytes;
    uint32_t sync_fail_ppm, space_ppm, rot_ppm; /* chances per nemesis step */
};

/* ---- workload -------------------------------------------------------------------------------- */

struct sim;

/* What makes the nodes work. Registers and their clients: client.c. Its answers to itself travel as
 * events; whenever a client is served it adds to s->completed, which liveness watches. */
struct sim_workload_ops {
    const struct sim_machine_ops *machine;
    void *(*create)(struct sim *s); /* and schedules its first events */
    void (*destroy)(void *workload);
    void (*event)(struct sim *s, struct sim_event *e); /* SIM_EV_WORKLOAD, SIM_EV_WORKLOAD_AT */
    /* node's machine has applied e, with this result. Every node tells. */
    void (*applied)(struct sim *s, uint32_t node, const struct raft_entry *e,
                    const struct sim_result *result);
    void (*read_done)(struct sim *s, uint32_t node, const struct raft_read *read);
    /* A full node's answer to sim_full_propose(). */
    void (*proposed)(struct sim *s, uint32_t node, uint64_t token, int rc, uint64_t index);
    /* node has started, or no longer leads: outcomes it was waiting for stay unknown to it. */
    void (*forget)(struct sim *s, uint32_t node);
    /* May be NULL; full nodes only. The machine is there; its shell is; another leads or none. */
    void (*bind)(struct sim *s, uint32_t node);
    void (*started)(struct sim *s, uint32_t node);
    void (*leader)(struct sim *s, uint32_t node, const struct raft_status *status);
    /* Returns when node has to wake, in its loop's time. */
    uint64_t (*before_sleep)(struct sim *s, uint32_t node);
    /* May be NULL. After the last fault: asked now and then until true, for settle_us at most. */
    bool (*settled)(struct sim *s, struct err *e);
    uint64_t settle_us, settle_poll_us;
};
extern const struct sim_workload_ops sim_clients; /* client.c: registers */
extern const struct sim_workload_ops sim_skep;    /* skep.c: all of Skep */

/* ---- checks ---------------------------------------------------------------------------------- */

struct sim_committed {
    uint64_t commit_term; /* of the leader that committed it */
    uint64_t chain;
    uint64_t state_hash; /* after applying; valid when applied */
    bool applied;
};

struct sim_oracle {
    struct sim_committed *log; /* [i] is index i + 1 */
    size_t count;              /* committed somewhere */
    size_t capacity;
    uint64_t *term_leader; /* leader's raft_id by term */
    size_t term_capacity;
    /* (index, term) -> chain, R3 */
    uint64_t *map_keys;
    uint64_t *map_chains;
    size_t map_count;
    size_t map_capacity;
    uint64_t leader_changes;
    uint64_t incarnation[SIM_NODES_MAX]; /* of each slot, in the last committed configuration */
    /* and in the committed ones before it, the oldest forgotten */
    uint64_t recorded[SIM_NODES_MAX][SIM_RECORDED_MAX];
    uint32_t recorded_count[SIM_NODES_MAX];
};

enum sim_kind { SIM_KIND_DRAWN, SIM_KIND_PLAIN, SIM_KIND_FULL, SIM_KIND_SKEP };
struct sim {
    uint64_t seed;
    uint64_t now_us;
    uint64_t steps;
    uint64_t hash; /* of the trace */
    bool trace;
    bool failed;
    bool calm; /* liveness phase: no new faults */
    bool core_found;
    enum sim_kind kind; /* never DRAWN */
    bool full;          /* its nodes */
    uint32_t number;    /* of simulations in this process: names directories */
    char reason[512];
    struct sim_rates rates;
    struct sim_queue queue;
    struct prng net, disk, clock, client, fault, member, seeds, entropy;
    struct sim_node nodes[SIM_NODES_MAX];
    uint32_t node_count; /* slots of this seed */
    struct id cluster_id;
    bool blocked[SIM_NODES_MAX][SIM_NODES_MAX]; /* directed */
    uint64_t clogged_until_us[SIM_NODES_MAX][SIM_NODES_MAX];
    bool core[SIM_NODES_MAX];
    const struct sim_machine_ops *machine;
    const struct sim_workload_ops *workload;
    void *workload_state;
    struct sim_oracle oracle;
    uint64_t completed; /* operations */
    uint64_t raft_id_next;
};

/* sim.c */
struct sim *sim_new(uint64_t seed, enum sim_kind kind, bool trace);
void sim_free(struct sim *s);
void sim_describe(const struct sim *s, FILE *out);
/* Runs both phases, safety for `events`. False: s->reason says why. */
bool sim_run(struct sim *s, uint64_t events);
void sim_fail(struct sim *s, const char *format, ...) PRINTF(2, 3);
void sim_tracef(struct sim *s, const char *format, ...) PRINTF(2, 3);
#define SIM_TRACE(s, ...)                                                                          \
    do {                                                                                           \
        if ((s)->trace)                                                                            \
            sim_tracef((s), __VA_ARGS__);                                                          \
    } while (0)
void sim_schedule(struct sim *s, uint64_t delay_us, const struct sim_event *e);
uint64_t sim_mix(uint64_t hash, uint64_t value);
/* Exponential with the given mean, at least 1. */
uint64_t sim_exponential(struct prng *p, uint64_t mean);
int sim_slot(const struct sim *s, uint64_t raft_id);

/* net.c */
void sim_net_send(struct sim *s, const struct raft_message *m);
void sim_net_deliver(struct sim *s, struct sim_event *e);
void sim_net_send_snapshot(struct sim *s, uint32_t from, const struct raft_send_snapshot *request);
void sim_message_free(struct raft_message *m);
uint64_t sim_net_delay(struct sim *s, uint32_t from, uint32_t to);
bool sim_net_loses(struct sim *s, uint32_t from, uint32_t to);

/* disk.c */
void sim_disk_write(struct sim *s, uint32_t node, const struct raft_effects *fx);
void sim_disk_done(struct sim *s, uint32_t node);
/* Loses what is not durable, but for a random prefix of the writes under way. */
void sim_disk_crash(struct sim *s, uint32_t node);
void sim_disk_compact(struct sim *s, uint32_t node, uint64_t index);
void sim_disk_clear(struct sim *s, struct sim_disk *d);
void sim_disk_copy(const struct sim_disk *from, struct sim_disk *to);
uint64_t sim_disk_last(const struct sim_disk *d);
/* Chain of the durable log at index, 0 when it does not reach there. */
uint64_t sim_disk_chain(const struct sim_disk *d, uint64_t index);
/* Queues a write without a device that carries it out; makes the ones up to seq durable. */
void sim_disk_queue(struct sim *s, uint32_t node, const struct raft_effects *fx);
void sim_disk_persisted(struct sim *s, struct sim_disk *d, uint64_t seq);
void sim_disk_append(struct sim_disk *d, const struct raft_entry *e, uint64_t chain);
void sim_disk_cut(struct sim_disk *d, uint64_t index);
void sim_write_free(struct sim *s, struct sim_write *w);
struct sim_snapshot *sim_snapshot_ref(struct sim_snapshot *snapshot);
void sim_snapshot_unref(struct sim *s, struct sim_snapshot *snapshot);

/* reload.c: a full node has read its files. Compares with the shadow, which then follows. */
void sim_disk_reload(struct sim *s, uint32_t node, const struct raft_ev_start *start);
/* The snapshot at an index of the committed log, without a machine. */
struct sim_snapshot *sim_snapshot_shadow(struct sim *s, const struct raft_snapshot_meta *meta);

/* node.c */
void sim_node_start(struct sim *s, uint32_t node);
void sim_node_crash(struct sim *s, uint32_t node);
/* Its process dies while the disk is idle; what it has written stays. */
void sim_node_kill(struct sim *s, uint32_t node);
int sim_node_step(struct sim *s, uint32_t node, struct raft_event *ev);
/* As if never started: memory is lost. */
void sim_node_reset(struct sim *s, uint32_t node);
void sim_node_mirror(struct sim *s, uint32_t node);
/* One pending wake-up per node: a later deadline finds the early event and re-arms it. */
void sim_node_arm(struct sim *s, uint32_t node, uint64_t want_ms);
uint64_t sim_node_now_ms(const struct sim *s, uint32_t node);
void sim_node_timer(struct sim *s, uint32_t node);
void sim_node_snapshot_written(struct sim *s, struct sim_event *e);

/* full.c */
void sim_full_bootstrap(struct sim *s, uint32_t node, const struct raft_snapshot_meta *meta);
void sim_full_start(struct sim *s, uint32_t node);
enum sim_death {
    SIM_DEATH_QUIET,  /* between two jobs of the disk */
    SIM_DEATH_KILLED, /* perhaps in the middle of one; what was written stays */
    SIM_DEATH_POWER,  /* and what was not synced is lost */
};
void sim_full_crash(struct sim *s, uint32_t node, enum sim_death how);
void sim_full_timer(struct sim *s, uint32_t node);
void sim_full_job(struct sim *s, uint32_t node);
int sim_full_step(struct sim *s, uint32_t node, struct raft_event *ev);
int sim_full_receive(struct sim *s, uint32_t node, const struct raft_message *m);
void sim_full_propose(struct sim *s, uint32_t node, uint64_t term, const struct raft_data *data,
                      uint64_t token);
void sim_full_read(struct sim *s, uint32_t node, uint64_t id);
void sim_full_chunk(struct sim *s, struct sim_event *e);
void sim_full_chunk_reply(struct sim *s, struct sim_event *e);
uint64_t sim_full_incarnation(struct sim *s, uint32_t node);
/* The disk of a node that is down: wiped, or replaced by another's content. */
void sim_full_wipe(struct sim *s, uint32_t node);
void sim_full_back_up(struct sim *s, uint32_t node);
void sim_full_restore(struct sim *s, uint32_t node);
void sim_full_copy_twin(struct sim *s, uint32_t node);
void sim_full_swap_twin(struct sim *s, uint32_t node);
void sim_full_remove_twin(struct sim *s, uint32_t node);
void sim_full_forget(struct sim *s, uint32_t node);
struct link_dir *sim_full_dir(struct sim *s, uint32_t node);

/* twin.c */
/* A node that is up is copied, and goes on as the copy. */
void sim_twin_make(struct sim *s, uint32_t node);
void sim_twin_swap(struct sim *s, uint32_t node);
/* With its node. Not before: what it acknowledged may still be counted. */
void sim_twin_forget(struct sim *s, uint32_t node);
/* For good: the one that the cluster counts is here. */
void sim_twin_settle(struct sim *s, uint32_t node);
/* Of the two disks the one that a configuration with this incarnation counts; NULL: neither. */
const struct sim_disk *sim_twin_counted(const struct sim_node *n, uint64_t incarnation);

/* check.c */
void sim_check_append(struct sim *s, uint32_t node, const struct raft_effects *fx,
                      enum raft_state before);
void sim_check_step(struct sim *s, uint32_t node, const struct raft_effects *fx);
void sim_check_message(struct sim *s, uint32_t node, const struct raft_message *m);
void sim_check_apply(struct sim *s, uint32_t node, const struct raft_entry *e);
void sim_check_restore(struct sim *s, uint32_t node, const struct sim_snapshot *snapshot);
uint64_t sim_node_chain(const struct sim_node *n, uint64_t index);
void sim_node_chain_reset(struct sim_node *n, uint64_t index, uint64_t chain);
void sim_node_chain_append(struct sim *s, struct sim_node *n, const struct raft_entry *e);
uint64_t sim_chain(uint64_t previous, const struct raft_entry *e);

/* nemesis.c */
void sim_rates_draw(struct sim *s);
void sim_nemesis_step(struct sim *s);
void sim_nemesis_restart_later(struct sim *s, uint32_t node);
/* Heals a core with a quorum in every configuration; false: none exists. */
bool sim_nemesis_heal(struct sim *s);

/* operator.c */
void sim_operator_step(struct sim *s);
void sim_operator_bootstrap(struct sim *s);

#endif
