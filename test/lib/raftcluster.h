/* Several raft_nodes on one loop with a transport inside the process, for tests and benchmarks of
 * the shell: real disks, real threads, real encoding of messages; links that can be cut. The state
 * machine keeps every applied payload's hash in order; its snapshot is that list. */
#ifndef SKEP_TEST_LIB_RAFTCLUSTER_H
#define SKEP_TEST_LIB_RAFTCLUSTER_H

#include "managerd/io/raft_node.h"
#include "test/lib/crashdisk.h"

enum { CLUSTER_NODES_MAX = 5 };

struct cluster_node {
    struct cluster *cluster;
    struct raft_node *node; /* NULL: stopped */
    struct id node_id;
    uint64_t raft_id;
    char *directory;
    struct crash_disk *crash;   /* NULL: none */
    bool up[CLUSTER_NODES_MAX]; /* messages to that node go through */

    /* The state machine. */
    uint64_t *values; /* of applied payloads: their first 8 bytes */
    size_t value_count;
    size_t value_capacity;
    uint64_t applied_index;
    uint64_t *installing;
    size_t installing_bytes;
    size_t snapshots_taken;
    size_t snapshots_installed;

    struct raft_status leader; /* as last told */
    size_t leader_events;
    bool removed;
    struct err fatal;
    size_t refused;     /* messages */
    size_t chunks_lost; /* to drop: the next ones are answered with an error */
};

struct cluster {
    struct loop *loop;
    struct inbox *inbox;
    struct cluster_node nodes[CLUSTER_NODES_MAX];
    size_t count;
    struct id cluster_id;
    struct raft_node_options options; /* template: heartbeat, election, snapshot policy … */
    const struct raft_transport_ops *transport; /* NULL: inside the process */
    void *transport_ctx;                        /* for whoever made another one */
    char *base;
    struct packet *first, **end;
    struct loop_timer deliver;
    size_t packets;
    int **results; /* of writes given up, to which callbacks may still come */
    size_t result_count;
};

/* base: directory below which each node has one (created). In memory or on disk. */
void cluster_init(struct cluster *c, size_t count, char *base);
void cluster_deinit(struct cluster *c);

/* 0, or the error with e set. */
int cluster_start(struct cluster *c, size_t i, enum raft_node_start how, struct err *e);
void cluster_stop(struct cluster *c, size_t i);
void cluster_link(struct cluster *c, size_t a, size_t b, bool up);

/* Tests a state. */
typedef bool cluster_fn(struct cluster *c, void *arg);
/* Runs the loop until fn says so; false after wait_ms of real time. fn NULL: just that long. */
bool cluster_run(struct cluster *c, cluster_fn *fn, void *arg, uint32_t wait_ms);
/* Index of the established leader, or CLUSTER_NODES_MAX. */
size_t cluster_leader(const struct cluster *c);
bool cluster_has_leader(struct cluster *c, void *unused);
/* Every running node has applied as much as the leader's log holds. */
bool cluster_even(struct cluster *c, void *unused);

/* Starts node 0 as a new cluster and adds the others, one after another, as voters. */
bool cluster_form(struct cluster *c);
/* Adds node i (started with RAFT_NODE_JOIN) as a voter through the leader. */
bool cluster_add(struct cluster *c, size_t i);

/* Proposes one value on node i under its current term; *result is RESULT_OPEN until it is done. */
enum { CLUSTER_RESULT_OPEN = 1 };
void cluster_propose(struct cluster *c, size_t i, uint64_t value, int *result);
/* Proposes count values on the leader. True when all are applied; false when one failed, the
 * leader's disk did, or time is up: any of them may still be applied. */
bool cluster_write(struct cluster *c, uint64_t first, size_t count);
/* NULL, or what differs between the lists of the running nodes. */
const char *cluster_compare(const struct cluster *c);

#endif
