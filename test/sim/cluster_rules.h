/* What must hold in a world, checked against the store as a whole. */
#ifndef SKEP_TEST_SIM_CLUSTER_RULES_H
#define SKEP_TEST_SIM_CLUSTER_RULES_H

#include "test/sim/cluster_world.h"

/* After every transaction. */
int cluster_rules_always(const struct world *w, struct err *e) MUST_CHECK;
/* One change: states and nodes of tasks. */
int cluster_rules_change(const struct store_event *ev, struct err *e) MUST_CHECK;
/* O4, after every transaction: nothing is given twice. O(objects). */
int cluster_rules_given(const struct store *s, struct err *e) MUST_CHECK;
int cluster_rules_addresses(const struct world *w, struct err *e) MUST_CHECK;
/* O4: the allocator's memory is what the store says. Nothing to say while its transaction is in
 * flight. O(objects). */
int cluster_rules_audit(const struct world *w, struct err *e) MUST_CHECK;
/* At rest, after the faults. */
int cluster_rules_converged(const struct world *w, struct err *e) MUST_CHECK;

#endif
