/* Shared by the cluster_*.c files. */
#ifndef SKEP_TEST_SIM_CLUSTER_INTERNAL_H
#define SKEP_TEST_SIM_CLUSTER_INTERNAL_H

#include "test/sim/cluster_world.h"

void world_copy_id(char to[ID_CHARS + 1], const char *id);
/* READY, ACTIVE, and every constraint holds; r NULL: nothing may run. */
bool world_node_takes(const Skep__Node *node, const Skep__Revision *r);
struct world_agent *world_agent(struct world *w, const char *node_id);
/* Agents take assignments, advance their containers and report. */
void world_agents_tick(struct world *w);

#endif
