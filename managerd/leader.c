/* The replicated state machine and the cores that run on the leader only.
 *
 * Every committed entry is applied to the store on every manager. On the leader the changes are
 * also shown to the cores; each core that is due then fills one transaction, which is proposed
 * under the term of this leadership and dropped if that is over: an ex-leader's decision cannot
 * land (G4). */
#include <string.h>

#include "common/assert.h"
#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "common/random.h"
#include "managerd/allocator/allocator.h"
#include "managerd/logs/broker.h"
#include "managerd/manager.h"
#include "managerd/orchestrator/orchestrator.h"
#include "managerd/raft/mutant.h"
#include "managerd/scheduler/scheduler.h"

enum { CORE_RETRY_MS = 500 };

/* ---- state machine ------------------------------------------------------------------------------
 */

/* A refusal of the store on its way to its proposer. */
struct refusal {
    uint64_t index;
    int rc;
    struct err err;
    struct refusal *next;
};

static void refusal_keep(struct manager *m, uint64_t index, int rc, const struct err *e)
{
    struct refusal *r = xcalloc(1, sizeof(*r));

    r->index = index;
    r->rc = rc;
    r->err = *e;
    *m->refusals_last = r;
    m->refusals_last = &r->next;
}

/* Takes the refusal at index, 0 when there is none, and forgets older ones: their proposers are
 * gone (another leadership). */
static int refusal_take(struct manager *m, uint64_t index, struct err *e)
{
    int rc = 0;

    while (m->refusals != NULL && m->refusals->index <= index) {
        struct refusal *r = m->refusals;

        if (r->index == index) {
            rc = r->rc;
            *e = r->err;
        }
        m->refusals = r->next;
        free(r);
    }
    if (m->refusals == NULL)
        m->refusals_last = &m->refusals;
    return rc;
}

static void on_store_event(void *ctx, const struct store_event *ev)
{
    leader_on_event(ctx, ev);
}

static void fsm_apply(void *ctx, uint64_t index, uint64_t term, const uint8_t *data, size_t size)
{
    struct manager *m = ctx;
    struct err e = { 0 };
    const struct store_listener listener = { .fn = on_store_event, .ctx = m };
    const ProtobufCBinaryData packed = { .len = size, .data = (uint8_t *)data };
    int rc = store_apply_packed(m->store, index, packed, &listener, &e);

    if (rc == -ERR_PROTO) {
        log_error("store.apply", "index=%lu term=%lu error=\"%s\" remedy=\"upgrade this manager\"",
                  (unsigned long)index, (unsigned long)term, e.message);
        manager_fatal(m, &e);
        return;
    }
    if (rc < 0 && m->leading)
        refusal_keep(m, index, rc, &e);
}

static void *fsm_snapshot_begin(void *ctx)
{
    struct manager *m = ctx;

    return store_snapshot_take(m->store);
}

static size_t fsm_snapshot_next(void *snapshot, uint8_t *mem, size_t max)
{
    return store_snapshot_next(snapshot, mem, max);
}

static void fsm_snapshot_end(void *ctx, void *snapshot)
{
    (void)ctx; /* the references are the snapshot's own */
    store_snapshot_free(snapshot);
}

static int fsm_install_begin(void *ctx, uint64_t index)
{
    struct manager *m = ctx;

    (void)index; /* known again at the end */
    store_loader_free(m->loader);
    m->loader = store_loader_new();
    return 0;
}

static int fsm_install_feed(void *ctx, const uint8_t *mem, size_t size, struct err *e)
{
    struct manager *m = ctx;

    return store_loader_feed(m->loader, mem, size, e);
}

static int fsm_install_finish(void *ctx, uint64_t index, struct err *e)
{
    struct manager *m = ctx;
    int rc = store_loader_finish(m->loader, index, m->store, e);

    store_loader_free(TAKE_PTR(m->loader));
    control_watches_drop(m);
    return rc;
}

const struct raft_fsm_ops manager_fsm = {
    .apply = fsm_apply,
    .snapshot_begin = fsm_snapshot_begin,
    .snapshot_next = fsm_snapshot_next,
    .snapshot_end = fsm_snapshot_end,
    .install_begin = fsm_install_begin,
    .install_feed = fsm_install_feed,
    .install_finish = fsm_install_finish,
};

/* ---- proposing ----------------------------------------------------------------------------------
 */

struct proposal {
    struct manager *manager;
    manager_done_fn *done;
    void *ctx;
};

static void on_proposed(void *ctx, int rc, uint64_t index)
{
    struct proposal *p = ctx;
    struct err e = { 0 };

    if (rc == 0)
        rc = refusal_take(p->manager, index, &e);
    else if (rc == -ERR_NO_SPACE)
        (void)err_set(&e, ERR_NO_SPACE,
                      "the leader's disk is full: reads and removals still work; make space in %s, "
                      "changes are accepted again by themselves",
                      p->manager->state_dir);
    p->done(p->ctx, rc, &e);
    free(p);
}

/* What takes objects away is let through even when the disk is nearly full. */
static bool removes_something(const struct store_tx *tx)
{
    const Skep__Transaction *t = store_tx_message(tx);

    for (size_t i = 0; i < t->n_actions; i++) {
        if (t->actions[i]->action_case == SKEP__STORE_ACTION__ACTION_REMOVE)
            return true;
    }
    return false;
}

void leader_propose(struct manager *m, const struct store_tx *tx, const uint8_t *request_id,
                    manager_done_fn *done, void *ctx)
{
    struct proposal *p = xcalloc(1, sizeof(*p));
    uint8_t *data;
    size_t size;

    p->manager = m;
    p->done = done;
    p->ctx = ctx;
    uint64_t term = m->term;
    if (RAFT_MUTANT(RAFT_MUTANT_STALE_LOOP)) {
        struct raft_status status;

        raft_node_status(m->raft, &status);
        term = status.term;
    }
    store_tx_pack(tx, clock_wall_ns(), request_id, &data, &size);
    if (removes_something(tx))
        raft_node_propose_removal(m->raft, term, data, size, on_proposed, p);
    else
        raft_node_propose(m->raft, term, data, size, on_proposed, p);
}

/* ---- cores --------------------------------------------------------------------------------------
 */

static void add_core(struct manager *m, const struct core_ops *ops, void *core)
{
    ASSERT(m->core_count < MANAGER_CORES_MAX);
    m->cores[m->core_count++] = (struct core_slot){
        .ops = ops, .core = core, .tx = store_tx_new(), .wake_ms = CORE_NEVER, .manager = m
    };
}

void leader_init(struct manager *m)
{
    m->refusals_last = &m->refusals;
    m->dispatcher = dispatcher_new();
    /* The order in which cores see a commit: what is wanted, with what, where, and who is told. */
    add_core(m, &orchestrator_ops, orchestrator_new());
    add_core(m, &allocator_ops, allocator_new());
    add_core(m, &scheduler_ops, scheduler_new());
    add_core(m, &dispatcher_ops, m->dispatcher);
}

void leader_deinit(struct manager *m)
{
    leader_stop(m);
    for (size_t i = 0; i < m->core_count; i++)
        store_tx_free(m->cores[i].tx);
    if (m->core_count > 0) {
        orchestrator_free(m->cores[0].core);
        allocator_free(m->cores[1].core);
        scheduler_free(m->cores[2].core);
        dispatcher_free(m->dispatcher);
    }
    m->core_count = 0;
}

struct core_env manager_env(struct manager *m)
{
    return (struct core_env){ .store = m->store,
                              .now_ms = loop_now_ms(m->loop),
                              .wall_ns = clock_wall_ns(),
                              .prng = &m->prng,
                              .random = random_bytes };
}

void leader_start(struct manager *m, uint64_t term)
{
    struct core_env env = manager_env(m);

    if (m->leading && m->term == term)
        return;
    leader_stop(m);
    (void)FAILPOINT("leader.start");
    m->leading = true;
    m->term = term;
    log_info("leader.start", "term=%lu version=%lu", (unsigned long)term,
             (unsigned long)store_version(m->store));
    for (size_t i = 0; i < m->core_count; i++) {
        m->cores[i].ops->start(m->cores[i].core, &env);
        m->cores[i].in_flight = false;
        m->cores[i].wake_ms = env.now_ms;
    }
}

void leader_stop(struct manager *m)
{
    if (!m->leading || RAFT_MUTANT(RAFT_MUTANT_STALE_LOOP))
        return;
    log_info("leader.stop", "term=%lu", (unsigned long)m->term);
    (void)FAILPOINT("leader.stop");
    (void)refusal_take(m, UINT64_MAX, &(struct err){ 0 }); /* nobody waits for them any more */
    m->leading = false;
    agent_calls_drop(m);
    log_calls_drop(m);
    for (size_t i = 0; i < m->core_count; i++) {
        m->cores[i].ops->stop(m->cores[i].core);
        m->cores[i].wake_ms = CORE_NEVER;
    }
}

/* Cores do not log: what an operator has to know of a network is said here. */
static void log_network(const Skep__Network *before, const Skep__Network *after)
{
    const char *name = object_name(&after->base);

    if (after->error[0] != '\0' && (before == NULL || strcmp(before->error, after->error) != 0))
        log_warn("network.unallocated", "network=%s name=%s error=\"%s\"", after->id, name,
                 after->error);
    if (after->fullness_percent > (before != NULL ? before->fullness_percent : 0))
        log_warn("network.full", "network=%s name=%s percent=%u", after->id, name,
                 after->fullness_percent);
    if (after->warning[0] != '\0' &&
        (before == NULL || strcmp(before->warning, after->warning) != 0))
        log_warn("network.warning", "network=%s name=%s warning=\"%s\"", after->id, name,
                 after->warning);
}

void leader_on_event(struct manager *m, const struct store_event *ev)
{
    if (!m->leading)
        return;
    if (ev->kind == SKEP__KIND__KIND_NETWORK && ev->after != NULL)
        log_network((const Skep__Network *)ev->before, (const Skep__Network *)ev->after);
    log_broker_on_event(m->logs, ev);
    for (size_t i = 0; i < m->core_count; i++) {
        m->cores[i].ops->on_event(m->cores[i].core, ev);
        m->cores[i].wake_ms = 0;
    }
}

/* What a core's transaction came to. Its term is checked: a result of an older leadership has no
 * one to go to. */
struct core_result {
    struct core_slot *slot;
    uint64_t term;
};

static void on_core_result(void *ctx, int rc, const struct err *e)
{
    struct core_result *r = ctx;
    struct core_slot *slot = r->slot;
    struct manager *m = slot->manager;

    /* What the store refuses is decided anew at once; what the log has no room for, a little later:
     * it would be refused again. */
    bool later = rc == -ERR_NO_SPACE || rc == -ERR_TOO_BIG || rc == -ERR_BUSY;

    if (m->leading && m->term == r->term) {
        slot->in_flight = false;
        slot->wake_ms = later ? loop_now_ms(m->loop) + CORE_RETRY_MS : 0;
        if (rc < 0)
            log_debug("core.refused", "core=%s error=\"%s\"", slot->ops->name, err_message(e, rc));
        slot->ops->on_result(slot->core, rc);
    }
    free(r);
}

static void run_core(struct manager *m, struct core_slot *slot)
{
    struct core_env env = manager_env(m);

    store_tx_clear(slot->tx);
    slot->wake_ms = slot->ops->run(slot->core, &env, slot->tx);
    if (store_tx_action_count(slot->tx) == 0)
        return;
    struct core_result *r = xcalloc(1, sizeof(*r));

    r->slot = slot;
    r->term = m->term;
    slot->in_flight = true;
    leader_propose(m, slot->tx, NULL, on_core_result, r);
}

void leader_run(struct manager *m)
{
    uint64_t now = loop_now_ms(m->loop);

    if (m->cores_due) { /* a call left work with the dispatcher */
        m->cores_due = false;
        for (size_t i = 0; i < m->core_count; i++)
            m->cores[i].wake_ms = MIN(m->cores[i].wake_ms, now);
    }
    for (size_t i = 0; m->leading && i < m->core_count; i++) {
        if (!m->cores[i].in_flight && m->cores[i].wake_ms <= now)
            run_core(m, &m->cores[i]);
    }
}
