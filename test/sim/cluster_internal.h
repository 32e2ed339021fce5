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
/* Without a dispatcher these do nothing. */
void world_networks_tick(struct world *w);
void world_networks_restart(struct world *w); /* another leader */
void world_networks_deinit(struct world *w);
/* Each agent's network records are what the store says. */
int world_networks_converged(const struct world *w, struct err *e) MUST_CHECK;

#endif
