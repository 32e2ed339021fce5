/* Drives one core as the manager does: run, apply its transaction, tell it the events, then the
 * result. Time stands still unless the test moves it. */
#ifndef SKEP_TEST_LIB_CORE_RIG_H
#define SKEP_TEST_LIB_CORE_RIG_H

#include "managerd/store/core.h"
#include "test/lib/fixture.h"

struct core_rig {
    struct fixture f;
    const struct core_ops *ops;
    void *core; /* borrowed */
    uint64_t now_ms;
    int transactions; /* not empty, of the last core_rig_run() */
};

/* Starts the core on an empty store. */
void core_rig_init(struct core_rig *r, const struct core_ops *ops, void *core);
/* The core is freed by the caller, before. */
void core_rig_deinit(struct core_rig *r);
void core_rig_start(struct core_rig *r);

/* Until the core has nothing to say; returns when it wants to run again. More than 1000
 * transactions abort. */
uint64_t core_rig_run(struct core_rig *r);
/* One run whose transaction is left in r->f.tx. */
uint64_t core_rig_decide(struct core_rig *r);
/* Applies what is left in r->f.tx as the core's own; it may be refused. Returns what the core was
 * told. */
int core_rig_land(struct core_rig *r);
/* Applies r->f.tx as somebody else's transaction; it must not be refused. */
void core_rig_apply(struct core_rig *r);
void core_rig_add(struct core_rig *r, const void *object);
void core_rig_update(struct core_rig *r, const void *object);
void core_rig_remove(struct core_rig *r, Skep__Kind kind, const char *id);
/* desired 0: unchanged; state < 0: unchanged. */
void core_rig_delta(struct core_rig *r, const char *id, Skep__TaskState desired, int state);

#endif
