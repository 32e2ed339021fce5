/* The scheduler: gives PENDING tasks a node. A leader-only core (managerd/store/core.h).
 *
 * Tasks of one service version form a group and are decided together: every filter runs once per
 * node and group, the nodes that pass go into one heap per placement preference branch, and each
 * placement costs one heap step. The scheduler keeps a mirror of what is in use on each node,
 * moved along by store events; a decision is booked at once and taken back when its transaction is
 * refused. A group that fits nowhere waits until something changes that could help it.
 *
 * Rules, order of filters, scores and texts: swarmkit manager/scheduler, but
 * DEVIATION: with max_replicas, a new task may join a full node when it replaces one of its own
 *   slot there; else a start-first update of a full service could never begin.
 * DEVIATION: nodes that report themselves degraded come last.
 * DEVIATION: tasks with overlay networks, or ports in the routing mesh, go only to nodes that can
 *   program them; SwarmKit finds out when the task fails there.
 * DEVIATION: failures are taken from the tasks' recorded times, so that a new leader knows them.
 * DEVIATION: an explanation that is already on a task is refreshed at most every 5 seconds.
 * Loop thread only. */
#ifndef SKEP_MANAGERD_SCHEDULER_SCHEDULER_H
#define SKEP_MANAGERD_SCHEDULER_SCHEDULER_H

#include "managerd/store/core.h"

enum {
    SCHEDULER_FAILURES_MIN = 5,          /* of one service version on one node … */
    SCHEDULER_FAILURE_WINDOW_S = 5 * 60, /* … within this time make the node unattractive */
    SCHEDULER_RETRY_MS = 50,             /* waiting groups are tried at most this often */
    SCHEDULER_EXPLAIN_MS = 5000,         /* and their explanations renewed at most this often */
};

struct scheduler;

struct scheduler *scheduler_new(void);
void scheduler_free(struct scheduler *s);

extern const struct core_ops scheduler_ops;

/* In the order in which they are asked; a node counts for the first that refuses it. */
enum scheduler_filter {
    SCHEDULER_PASS,
    SCHEDULER_READY,
    SCHEDULER_RESOURCE,
    SCHEDULER_PLUGIN,
    SCHEDULER_CONSTRAINT,
    SCHEDULER_PLATFORM,
    SCHEDULER_NETWORK,
    SCHEDULER_HOST_PORT,
    SCHEDULER_MAX_REPLICAS,
    SCHEDULER_FILTER_COUNT,
};
const char *scheduler_filter_str(enum scheduler_filter filter);

struct scheduler_explanation {
    uint64_t spec_version;
    size_t pending;                       /* tasks of this version that wait for a node */
    size_t nodes[SCHEDULER_FILTER_COUNT]; /* by the first filter that refuses; [PASS]: would fit */
};
/* Why tasks of a service wait: one entry per version with waiting tasks, newest first, evaluated
 * against the nodes as they are now. Returns how many were filled in. Only on the leader; O(nodes)
 * per version. */
size_t scheduler_explain(const struct scheduler *s, const char *service_id,
                         struct scheduler_explanation *ret, size_t max);

#endif
