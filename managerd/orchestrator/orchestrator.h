/* The orchestrators: turn services into tasks and keep them that way. One leader core
 * (managerd/store/core.h) for all of them, because they meet in the same slots: replicated and
 * global services, jobs, rolling updates, restarts, history, and the constraint enforcer.
 *
 * Level-triggered: a pass over one service looks at the stored service, its tasks and the nodes,
 * and derives what is missing now. What other designs keep in memory is read off the tasks
 * themselves (cause, attempt, restarts, running_at, timestamps), so a new leader goes on in the
 * middle of an update or of a delayed start without anything to hand over. Events only say which
 * service to look at; a pass that changed something is repeated once its transaction is applied,
 * and a pass that has nothing to do changes nothing.
 *
 * Slots: a replicated service has numbered slots, a global one a slot per node. A slot may hold
 * several tasks over time; at most one of the current spec is wanted (desired < SHUTDOWN), beside
 * it one of an older spec only while a start-first update replaces it. features.md 3.2-3.8.
 *
 * What others rely on, and what this core expects of them:
 * - Operators' updates clear service.update_status, a manual rollback sets ROLLBACK_STARTED, and
 *   both raise job_iteration of jobs (managerd/control).
 * - Tasks start as PENDING, or as NEW when networks or ingress ports have to be allocated first.
 *   DEVIATION: SwarmKit passes every task through the allocator; this saves a round of consensus.
 * - A removed service's object goes at once; its tasks get desired REMOVE and are deleted once
 *   stopped, never assigned, or their node is gone. On a node that is DOWN they wait until it comes
 *   back, is removed, or the dispatcher gives its tasks up as ORPHANED (24 h). So nothing leaks.
 * - A removed node's tasks become ORPHANED here, finished ones stay as they ended. */
#ifndef SKEP_MANAGERD_ORCHESTRATOR_ORCHESTRATOR_H
#define SKEP_MANAGERD_ORCHESTRATOR_ORCHESTRATOR_H

#include "managerd/store/core.h"

struct orchestrator;
extern const struct core_ops orchestrator_ops;

struct orchestrator *orchestrator_new(void);
void orchestrator_free(struct orchestrator *o);

enum {
    ORCHESTRATOR_RUN_TASKS = 50000,        /* looked at in one run; the rest in the next */
    ORCHESTRATOR_STOP_WAIT_MS = 60 * 1000, /* how long a start waits for the old task to stop */
    ORCHESTRATOR_UNPLACED_MS = 60 * 1000,  /* an updated task without a node: a failure, at least */
    ORCHESTRATOR_HISTORY_DEFAULT = 5,      /* dead tasks kept per slot without a cluster object */
    ORCHESTRATOR_ATTEMPTS_KEPT_MAX = 100,  /* dead tasks kept for counting restarts */
};

#endif
