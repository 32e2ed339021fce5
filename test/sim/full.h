/* The inside of full nodes, shared by full*.c: the manager's own Raft shell (managerd/io) with its
 * files in memory, its loop and its disk thread driven by the simulator's queue (link/link.h).
 *
 * Whoever calls into the product is between sim_full_enter() and sim_full_leave(): time, chance and
 * the observer of the core's steps then belong to that node. */
#ifndef SKEP_TEST_SIM_FULL_H
#define SKEP_TEST_SIM_FULL_H

#include "managerd/io/raft_node_internal.h"
#include "test/sim/link/link.h"
#include "test/sim/sim.h"

struct sim_full {
    struct sim *s;
    uint32_t node;
    struct raft_node *raft;
    struct loop *loop;
    struct link_dir *dir;
    bool job_due; /* the event of the next job is on its way */
    bool dying;   /* callbacks mean nothing any more */
    bool fatal;   /* the process has to end */
    char reason[ERR_MESSAGE_BYTES_MAX];
    struct buf install; /* a snapshot, on its way into the machine */
};

void sim_full_enter(struct sim_full *f);
void sim_full_leave(struct sim_full *f);
/* Whom a step of the core belongs to. */
struct sim_full *sim_full_current(void);
/* full_machine.c: the replicated machine, as the shell sees it. */
extern const struct raft_fsm_ops sim_full_fsm;
/* The machine has taken in everything up to index: what carries no command is told to the checks.
 */
void sim_full_catch_up(struct sim_full *f, uint64_t index);
/* full_net.c */
extern const struct raft_transport_ops sim_full_transport;

#endif
