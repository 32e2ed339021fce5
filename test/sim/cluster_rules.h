/* What must hold in a world, checked against the store as a whole. */
#ifndef SKEP_TEST_SIM_CLUSTER_RULES_H
#define SKEP_TEST_SIM_CLUSTER_RULES_H

#include "test/sim/cluster_world.h"

/* After every transaction. */
int cluster_rules_always(const struct world *w, struct err *e) MUST_CHECK;
/* One change: states and nodes of tasks. */
int cluster_rules_change(const struct store_event *ev, struct err *e) MUST_CHECK;
/* At rest, after the faults. */
int cluster_rules_converged(const struct world *w, struct err *e) MUST_CHECK;

#endif
