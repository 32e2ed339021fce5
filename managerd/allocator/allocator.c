/* The core: networks, then nodes, then services, then tasks; each needs what comes before it. */
#include "managerd/allocator/allocator.h"

#include "common/assert.h"
#include "managerd/allocator/internal.h"

char *text(const char *constant)
{
    return (char *)(uintptr_t)constant;
}

/* ---- events ---- */

static void core_on_event(void *core, const struct store_event *ev)
{
    struct allocator *a = core;

    if (a->store == NULL)
        return; /* not leading: start() reads everything */
    if (ev->kind == SKEP__KIND__KIND_TASK) {
        task_event(a, (const Skep__Task *)ev->before, (const Skep__Task *)ev->after);
    } else if (ev->kind == SKEP__KIND__KIND_SERVICE) {
        service_event(a, (const Skep__Service *)ev->before, (const Skep__Service *)ev->after);
    } else if (ev->kind == SKEP__KIND__KIND_NODE) {
        node_event(a, (const Skep__Node *)ev->before, (const Skep__Node *)ev->after);
    } else if (ev->kind == SKEP__KIND__KIND_NETWORK) {
        net_event(a, (const Skep__Network *)ev->before, (const Skep__Network *)ev->after);
    } else if (ev->kind == SKEP__KIND__KIND_CLUSTER) {
        a->nets_due = true; /* other pools */
    }
}

/* ---- running ---- */

static bool wrote(const struct store_tx *tx)
{
    return store_tx_action_count(tx) > 0;
}

/* What tasks need, in transactions of its own: others write services and nodes, too, and a refusal
 * must not cost the tasks anything. True when there is something to propose. */
static bool run_structure(struct allocator *a, const struct core_env *env, struct store_tx *tx)
{
    nets_run(a, env, tx);
    if (!wrote(tx))
        nodes_run(a, env, tx);
    if (!wrote(tx))
        services_run(a, env, tx);
    a->tasks_first = wrote(tx);
    return wrote(tx);
}

static uint64_t core_run(void *core, const struct core_env *env, struct store_tx *tx)
{
    struct allocator *a = core;
    bool tasks_first = a->tasks_first && a->fresh != NULL;

    ASSERT(a->store != NULL && a->claim_count == 0 && a->tentative_count == 0);
    a->store = env->store;
    arena_reset(&a->scratch);
    if (a->predefined_due) {
        a->predefined_due = false;
        allocator_predefined(env->store, env->prng, false, tx);
        if (wrote(tx))
            return env->now_ms;
    }
    if (a->freed || a->woken) {
        services_retry(a);
        a->retry_tasks = true;
        a->retry_now |= a->woken;
        a->freed = a->woken = false;
    }
    a->tasks_first = false;
    if (tasks_first) {
        uint64_t next_ms = tasks_run(a, env, tx);

        if (wrote(tx))
            return MIN(next_ms, env->now_ms);
    }
    if (run_structure(a, env, tx))
        return env->now_ms;
    uint64_t next_ms = tasks_run(a, env, tx);
    return MIN(next_ms, a->keys_due_ms);
}

static void core_on_result(void *core, int rc)
{
    struct allocator *a = core;

    if (a->store == NULL)
        return;
    claims_settle(a);
    nets_settle(a);
    services_settle(a);
    tasks_settle(a, rc);
    if (rc < 0) {
        a->nets_due = a->nodes_due = true;
        a->retry_tasks = true; /* reasons may not have been written */
    }
}

/* ---- life ---- */

static void core_stop(void *core)
{
    struct allocator *a = core;

    tasks_clear(a);
    services_clear(a);
    nets_clear(a);
    ports_deinit(a);
    numbers_deinit(&a->vnis);
    numbers_deinit(&a->encryption_ports);
    free(a->claims);
    arena_deinit(&a->scratch);
    *a = (struct allocator){ 0 };
}

static void read_all(struct allocator *a, Skep__Kind kind)
{
    for (const ProtobufCMessage *o = store_first(a->store, kind); o != NULL;
         o = store_after(a->store, kind, object_id(o))) {
        struct store_event ev = { .action = STORE_CREATE, .kind = kind, .after = o };

        core_on_event(a, &ev);
        if (kind == SKEP__KIND__KIND_TASK)
            cursors_task(a, (const Skep__Task *)o);
    }
}

static void core_start(void *core, const struct core_env *env)
{
    struct allocator *a = core;

    core_stop(a);
    a->store = env->store;
    a->keys_due_ms = CORE_NEVER;
    numbers_init(&a->vnis, ALLOCATOR_VNI_FIRST, ALLOCATOR_VNI_LAST + 1);
    numbers_init(&a->encryption_ports, 0,
                 (65535 - ALLOCATOR_ENCRYPTION_PORT_FIRST) / ALLOCATOR_ENCRYPTION_PORTS - 1);
    ports_init(a);
    /* Networks first: what the others have is in them. */
    read_all(a, SKEP__KIND__KIND_NETWORK);
    read_all(a, SKEP__KIND__KIND_NODE);
    read_all(a, SKEP__KIND__KIND_SERVICE);
    read_all(a, SKEP__KIND__KIND_TASK);
    cursors_networks(a);
    a->nets_due = a->nodes_due = a->predefined_due = true;
}

const struct core_ops allocator_ops = {
    .name = "allocator",
    .start = core_start,
    .stop = core_stop,
    .on_event = core_on_event,
    .run = core_run,
    .on_result = core_on_result,
};

struct allocator *allocator_new(void)
{
    return xcalloc(1, sizeof(struct allocator));
}

void allocator_free(struct allocator *a)
{
    if (a == NULL)
        return;
    core_stop(a);
    free(a);
}
