/* The shape of every leader-only core (orchestrators, scheduler, reaper, dispatcher, role manager):
 * it reads the committed store, remembers what changed, and when run adds its decisions to one
 * transaction. The manager proposes that transaction and runs the core again only after its fate is
 * known, so a core never sees its own unfinished decision. Pure: time and randomness come in env.
 *
 * Order per loop iteration: on_event() for every committed change, on_result() for finished
 * transactions, then run() for cores that are due, in the manager's fixed order. */
#ifndef SKEP_MANAGERD_STORE_CORE_H
#define SKEP_MANAGERD_STORE_CORE_H

#include <stdint.h>

#include "common/prng.h"
#include "managerd/store/store.h"

#define CORE_NEVER UINT64_MAX

struct core_env {
    const struct store *store;
    uint64_t now_ms;   /* monotonic */
    int64_t wall_ns;   /* for stored timestamps only */
    struct prng *prng; /* ids, jitter */
    /* Unpredictable bytes, for keys. NULL in tests: prng's, which anybody could compute from the
     * ids that it made. */
    void (*random)(void *mem, size_t size);
};

void core_random(const struct core_env *env, void *mem, size_t size);

struct core_ops {
    const char *name;
    /* This manager became leader and has applied everything up to its own no-op: rebuild all
     * in-memory state from the store. */
    void (*start)(void *core, const struct core_env *env);
    /* Leadership is over: drop state and timers. A transaction in flight gets no on_result(). */
    void (*stop)(void *core);
    /* A committed change. Only marks what has to be looked at. */
    void (*on_event)(void *core, const struct store_event *ev);
    /* Adds changes to tx until nothing is left to do or store_tx_full(tx). Returns the monotonic
     * time of the next wanted run: now_ms = again at once (after the result), CORE_NEVER = on the
     * next event only. */
    uint64_t (*run)(void *core, const struct core_env *env, struct store_tx *tx);
    /* What became of the last non-empty tx: 0 applied, -ERR_CONFLICT and the like refused. */
    void (*on_result)(void *core, int rc);
};

#endif
