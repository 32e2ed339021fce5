/* A cluster without its network and disks: one store, the orchestrator (and the scheduler) as the
 * leader runs them, a plain allocator or the product's, and agents that step their tasks, all in
 * virtual time. Used by scenario tests (test/lib/orchestrator_script.h) and by the random
 * simulation (cluster_random.h). Deterministic: the seed and the calls decide everything.
 *
 * What a container does is in its image's name: "reject" (cannot be prepared), "fail" (cannot be
 * started), "crash-5" (fails 5 s after it ran), "exit-5" (completes after 5 s), "slow-30" (takes
 * 30 s to prepare), "stubborn-20" (takes 20 s to stop); anything else runs until it is stopped. */
#ifndef SKEP_TEST_SIM_CLUSTER_WORLD_H
#define SKEP_TEST_SIM_CLUSTER_WORLD_H

#include "common/arena.h"
#include "managerd/allocator/allocator.h"
#include "managerd/dispatcher/dispatcher.h"
#include "managerd/orchestrator/orchestrator.h"
#include "managerd/scheduler/scheduler.h"
#include "test/lib/net_mirror.h"

enum { WORLD_TICK_MS = 100, WORLD_AGENTS_MAX = 64, WORLD_CORES = 3 };

/* A container as its agent knows it. */
struct world_container {
    char task_id[ID_CHARS + 1];
    Skep__TaskState state, desired;
    uint64_t since_ms; /* in this state */
    bool stopping;
    uint64_t stop_since_ms;
};

struct world_agent {
    char node_id[ID_CHARS + 1];
    bool connected;
    struct world_container *containers;
    size_t container_count, container_capacity;
    /* With a dispatcher: */
    char session[ID_CHARS + 1];
    struct net_mirror mirror;
    bool net_parked; /* its NETWORKS call waits */
};

/* A leader core as the manager runs it: one transaction on its way at a time. */
struct world_core {
    const struct core_ops *ops;
    void *core;
    struct store_tx *tx;
    uint64_t run_at_ms;
    uint8_t *flight;
    size_t flight_size;
    uint64_t flight_lands_ms;
};

struct world {
    struct store *store;
    uint64_t index;
    uint64_t now_ms;
    int64_t wall_ns;
    bool ages_lie; /* leaders' wall clocks jump: what has waited for long is not to be told */
    struct prng prng;
    struct orchestrator *orch;
    struct scheduler *scheduler;   /* NULL: a plain one of the world's own */
    struct allocator *allocator;   /* NULL: tasks get no addresses */
    struct dispatcher *dispatcher; /* NULL: nobody is told of networks */
    struct store_tx *dispatcher_tx;
    struct prng look_on; /* what the dispatcher draws */
    struct world_core cores[WORLD_CORES];
    size_t core_count;
    struct store_tx *tx;
    struct world_agent agents[WORLD_AGENTS_MAX];
    size_t agent_count;
    store_event_fn *watch;    /* sees every change */
    void (*check)(void *ctx); /* called after every transaction */
    void *watch_ctx;
    uint32_t flight_ticks_max; /* how long a core's transaction is on its way; 0: not at all */
    uint64_t run_count, change_count; /* runs of cores; those that changed something */
    struct err e;
};

void world_init(struct world *w, uint64_t seed);
/* From now on the product's scheduler places tasks. */
void world_use_scheduler(struct world *w);
/* From now on the product's allocator gives addresses; there is an ingress network. Comes before
 * the scheduler. */
void world_use_allocator(struct world *w);
/* From now on the product's dispatcher tells agents of their networks; it does not take part in the
 * rest. */
void world_use_dispatcher(struct world *w);
void world_deinit(struct world *w);
struct core_env world_env(struct world *w);

/* Applies and clears tx, as the log would: packed and unpacked. */
int world_apply(struct world *w, struct store_tx *tx);
/* Lets time pass, a tick at a time. */
void world_tick(struct world *w);
void world_run_ms(struct world *w, uint64_t ms);

/* What the cores have in flight is refused. */
void world_drop_flight(struct world *w);
/* Another manager leads from now on; what the old one had in flight is lost. */
void world_change_leader(struct world *w);

/* ---- nodes ---- */

void world_node_add(struct world *w, const char *id);
void world_node_remove(struct world *w, const char *id);
/* Its agent is cut off or back; the node's state follows at once. */
void world_node_connect(struct world *w, const char *id, bool connected);
void world_node_availability(struct world *w, const char *id, Skep__NodeAvailability availability);
void world_node_label(struct world *w, const char *id, const char *key, const char *value);
void world_node_memory(struct world *w, const char *id, int64_t bytes);

/* ---- services, through managerd/control ---- */

int world_service_create(struct world *w, Skep__ServiceSpec *spec);
/* spec NULL: rollback. */
int world_service_update(struct world *w, const char *name, Skep__ServiceSpec *spec);
int world_service_remove(struct world *w, const char *name);
/* A running container ends with this state. */
bool world_task_end(struct world *w, const char *task_id, Skep__TaskState state);
/* subnet "": the allocator's choice. */
int world_network_create(struct world *w, const char *name, const char *subnet);
int world_network_remove(struct world *w, const char *name);
const Skep__Service *world_service(const struct world *w, const char *name);

#endif
