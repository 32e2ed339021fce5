/* Which networks a task has and who makes them: overlays are agentd/net's, everything else (host,
 * bridge, none, macvlan, ipvlan, plugins) the engine's. The engine's own three exist; others are
 * made under the network's name when the first task needs them, with labels that say whose they
 * are. Pure. */
#ifndef SKEP_AGENTD_WORKER_NETWORKS_H
#define SKEP_AGENTD_WORKER_NETWORKS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/arena.h"
#include "proto/dispatcher.pb-c.h"

#define LABEL_NETWORK_ID "io.skep.network"

enum {
    NETWORKS_MAX = 64, /* of one task */
    NETWORKS_NAME_BYTES_MAX = 256,
};

/* The task's overlay networks as allocated, in order; *ret points to attachments borrowed from the
 * assignment, the array lives in arena. */
size_t networks_overlays(const Skep__TaskAssignment *a, struct arena *arena,
                         Skep__NetworkAttachment ***ret);
bool networks_has_overlay(const Skep__TaskAssignment *a);
/* True when the engine has to make this network for the task. */
bool networks_uses_engine(const Skep__TaskAssignment *a, const char *network_id);

#endif
