/* Random life in a world (cluster_world.h): operators edit services, nodes fail, drain and go,
 * containers end, transactions are delayed and lost, leaders change and their clocks differ. Rules
 * O1-O3, O6, G7 (reliability.md 3.3, 2.2) hold after every transaction; when the faults end, what
 * is observed becomes what is wanted, and then nothing changes any more. */
#ifndef SKEP_TEST_SIM_CLUSTER_RANDOM_H
#define SKEP_TEST_SIM_CLUSTER_RANDOM_H

#include <stdio.h>

#include "test/sim/cluster_world.h"

struct random_stats {
    uint64_t transactions, orchestrator_changes, tasks_created, services_created, leader_changes;
    uint64_t store_hash; /* equal for equal seeds (O8) */
};

/* The same seed takes the same course. Returns 0, or -ERR_INTERNAL with e naming the broken rule,
 * the object and the virtual time. trace NULL: no lines. */
int cluster_random_run(uint64_t seed, FILE *trace, struct random_stats *ret_stats,
                       struct err *e) MUST_CHECK;

#endif
