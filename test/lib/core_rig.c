#include "test/lib/core_rig.h"

#include "common/assert.h"

static struct core_env env(struct core_rig *r)
{
    return (struct core_env){
        .store = r->f.s, .now_ms = r->now_ms, .wall_ns = r->f.wall_ns, .prng = &r->f.prng
    };
}

void core_rig_start(struct core_rig *r)
{
    struct core_env e = env(r);

    r->ops->start(r->core, &e);
}

void core_rig_init(struct core_rig *r, const struct core_ops *ops, void *core)
{
    *r = (struct core_rig){ .ops = ops, .core = core, .now_ms = 1000 };
    fixture_init(&r->f, 3);
    core_rig_start(r);
}

void core_rig_deinit(struct core_rig *r)
{
    fixture_deinit(&r->f);
}

static void forward(void *ctx, const struct store_event *ev)
{
    struct core_rig *r = ctx;

    r->ops->on_event(r->core, ev);
}

uint64_t core_rig_decide(struct core_rig *r)
{
    struct core_env e = env(r);

    return r->ops->run(r->core, &e, r->f.tx);
}

uint64_t core_rig_run(struct core_rig *r)
{
    for (r->transactions = 0;; r->transactions++) {
        uint64_t next = core_rig_decide(r);

        if (store_tx_action_count(r->f.tx) == 0)
            return next;
        ASSERT(r->transactions < 1000);
        (void)core_rig_land(r);
    }
}

int core_rig_land(struct core_rig *r)
{
    int rc = fixture_apply(&r->f, forward, r);

    r->ops->on_result(r->core, rc);
    return rc;
}

void core_rig_apply(struct core_rig *r)
{
    int rc = fixture_apply(&r->f, forward, r);

    ASSERT(rc == 0);
}

void core_rig_add(struct core_rig *r, const void *object)
{
    store_tx_create(r->f.tx, object);
    core_rig_apply(r);
}

void core_rig_update(struct core_rig *r, const void *object)
{
    store_tx_update(r->f.tx, object, 0, 0);
    core_rig_apply(r);
}

void core_rig_remove(struct core_rig *r, Skep__Kind kind, const char *id)
{
    store_tx_remove(r->f.tx, kind, id, 0);
    core_rig_apply(r);
}

void core_rig_delta(struct core_rig *r, const char *id, Skep__TaskState desired, int state)
{
    Skep__TaskDelta d = SKEP__TASK_DELTA__INIT;
    Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;

    d.task_id = (char *)(uintptr_t)id;
    d.desired_state = desired;
    status.state = (Skep__TaskState)state;
    if (state >= 0)
        d.status = &status;
    store_tx_task(r->f.tx, &d);
    core_rig_apply(r);
}
