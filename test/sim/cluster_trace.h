/* One line per change of a world, for finding out what a seed did. */
#ifndef SKEP_TEST_SIM_CLUSTER_TRACE_H
#define SKEP_TEST_SIM_CLUSTER_TRACE_H

#include <stdio.h>

#include "test/sim/cluster_world.h"

void cluster_trace_event(FILE *out, const struct world *w, const struct store_event *ev);

#endif
