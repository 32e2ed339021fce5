#include "agentd/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agentd/files.h"
#include "agentd/worker/plain.h"
#include "common/assert.h"
#include "common/clock.h"
#include "common/log.h"

/* ---- tasks ---- */

static const char *state_str(Skep__TaskState state)
{
    const ProtobufCEnumValue *v =
        protobuf_c_enum_descriptor_get_value(&skep__task_state__descriptor, (int)state);

    return v == NULL ? "?" : v->name + (strncmp(v->name, "TASK_", 5) == 0 ? 5 : 0);
}

static void retry_fired(void *ctx, uint64_t now_ms)
{
    struct agent *ag = ctx;

    (void)now_ms;
    ag->retry_at_ms = 0;
    agent_feed_all(ag, TASK_EV_TIMER);
}

/* One timer serves all machines: it fires for the earliest and every machine looks for itself. */
static void retry_plan(struct agent *ag, const struct roster_entry *en)
{
    uint64_t at_ms = en->task.retry_at_ms;

    if (at_ms == 0 || en->task.op != TASK_OP_NONE ||
        (ag->retry_at_ms != 0 && ag->retry_at_ms <= at_ms))
        return;
    ag->retry_at_ms = at_ms;
    loop_timer_set(ag->loop, &ag->retry_timer, at_ms, retry_fired, ag);
}

static void entry_gone(struct agent *ag, struct roster_entry *en)
{
    bool sweep = en->assignment != NULL && en->assignment->n_networks > 0;

    log_info("task.gone", "task=%s container=%.12s", en->id, en->task.container.id);
    roster_remove(&ag->roster, en);
    if (sweep)
        engine_networks_sweep(ag);
    if (ag->membership.leaving && ag->roster.count == 0)
        membership_left(ag);
}

void agent_feed(struct agent *ag, struct roster_entry *en, const struct task_event *ev)
{
    struct task_effects fx;
    Skep__TaskState before = en->task.state;
    char quotable[PLAIN_QUOTABLE_MAX];

    task_step(&en->task, ev, &fx);
    if (fx.report) {
        roster_touch(en, clock_wall_ns());
        log_info("task.state", "task=%s from=%s to=%s container=%.12s error=\"%s\"", en->id,
                 state_str(before), state_str(en->task.state), en->task.container.id,
                 plain_quotable(quotable, en->task.error));
        link_step_type(ag, SESSION_EV_REPORTS);
        relay_task_changed(ag, en);
    }
    if (en->task.networks && task_is_terminal(en->task.state) && !task_is_terminal(before))
        networks_detach(ag, en);
    if (ev->type == TASK_EV_DONE && ev->facts != NULL)
        networks_hold(ag, en);
    if (fx.cancel)
        executor_cancel(ag, en);
    retry_plan(ag, en);
    if (fx.gone)
        entry_gone(ag, en);
    else if (fx.op != TASK_OP_NONE)
        executor_start(ag, en, fx.op); /* last: it may end at once, and the entry with it */
}

void agent_feed_type(struct agent *ag, struct roster_entry *en, enum task_event_type type)
{
    struct task_event ev = { .type = type, .now_ms = loop_now_ms(ag->loop) };

    agent_feed(ag, en, &ev);
}

void agent_feed_all(struct agent *ag, enum task_event_type type)
{
    /* From the end: an entry that goes moves only those already seen. Ending one operation may make
     * others go as well, hence the second look at the count. */
    for (size_t i = ag->roster.count; i-- > 0;) {
        if (i >= ag->roster.count)
            continue;
        agent_feed_type(ag, ag->roster.entries[i], type);
    }
}

void agent_node(const struct agent *ag, struct container_node *ret)
{
    const Skep__NodeDescription *d = ag->watch.description;

    *ret = (struct container_node){
        .cluster_id = ag->cluster_id.s,
        .node_id = ag->node_id.s,
        .hostname = d->hostname,
        .architecture = d->platform->architecture,
        .os = d->platform->os,
        .files_dir = ag->files_dir,
    };
}

/* ---- assignments ---- */

static const struct container_entry *found_container(const struct agent *ag, const char *task_id)
{
    const struct watch *w = &ag->watch;

    for (size_t i = 0; i < w->found_count; i++)
        if (strcmp(w->found[i].task_id, task_id) == 0)
            return &w->found[i];
    return NULL;
}

static void task_added(struct agent *ag, struct roster_entry *en)
{
    const struct container_entry *c = found_container(ag, en->id);
    enum container_phase phase =
        c != NULL || !ag->watch.listed ? CONTAINER_UNKNOWN : CONTAINER_ABSENT;

    task_init(&en->task, en->assignment->task->status, phase, c == NULL ? "" : c->id);
    en->task.networks = networks_has_overlay(en->assignment);
    if (c != NULL)
        log_info("task.adopted", "task=%s container=%.12s state=%s", en->id, c->id,
                 state_str(en->task.state));
}

static void tell_desired(struct agent *ag, struct roster_entry *en)
{
    struct task_event ev = { .type = TASK_EV_DESIRED,
                             .now_ms = loop_now_ms(ag->loop),
                             .desired = en->assignment->task->desired_state };

    agent_feed(ag, en, &ev);
}

void agent_apply(struct agent *ag, const Skep__AssignmentsResponse *resp)
{
    struct arena a = { 0 };
    struct roster_change *changes;
    size_t count;
    bool was_complete = ag->roster.complete;

    roster_apply(&ag->roster, resp, &a, &changes, &count);
    log_debug("assignments", "complete=%d tasks=%zu removed=%zu changes=%zu", resp->complete,
              resp->n_tasks, resp->n_removed_tasks, count);
    for (size_t i = 0; i < count; i++)
        if (changes[i].type == ROSTER_ADDED)
            task_added(ag, changes[i].entry);
    for (size_t i = 0; i < count; i++) {
        /* Feeding one entry never removes another that was just assigned or is yet to be fed:
         * only an unassigned entry can go, and each occurs once as GONE. */
        if (changes[i].type == ROSTER_GONE)
            agent_feed_type(ag, changes[i].entry, TASK_EV_UNASSIGNED);
        else
            tell_desired(ag, changes[i].entry);
    }
    arena_deinit(&a);
    if (!was_complete && ag->roster.complete)
        agent_reconcile_found(ag);
}

/* ---- containers without a task ---- */

void agent_adopt_orphan(struct agent *ag, const struct container_entry *found)
{
    struct roster_entry *en = roster_add(&ag->roster, found->task_id);

    if (en == NULL)
        return; /* ROSTER_TASKS_MAX: a later list finds it again */
    log_info("task.orphan", "task=%s container=%.12s next=remove", found->task_id, found->id);
    task_init(&en->task, NULL, CONTAINER_UNKNOWN, found->id);
    agent_feed_type(ag, en, TASK_EV_UNASSIGNED);
}

static bool keep_files(void *ctx, const char *task_id)
{
    const struct agent *ag = ctx;

    return roster_find(&ag->roster, task_id) != NULL || found_container(ag, task_id) != NULL;
}

void agent_reconcile_found(struct agent *ag)
{
    const struct watch *w = &ag->watch;

    if (!w->listed || !(ag->roster.complete || ag->membership.leaving))
        return;
    for (size_t i = 0; i < w->found_count; i++) {
        const struct container_entry *c = &w->found[i];

        if (c->task_id[0] == '\0')
            log_warn("task.orphan", "container=%.12s error=\"no task id\" next=leave_alone", c->id);
        else if (roster_find(&ag->roster, c->task_id) == NULL)
            agent_adopt_orphan(ag, c);
    }
    files_sweep(ag->files_dir, keep_files, ag);
    networks_adopt(ag, keep_files, ag);
    if (ag->membership.leaving && ag->roster.count == 0)
        membership_left(ag);
}

void agent_drop_all(struct agent *ag)
{
    agent_feed_all(ag, TASK_EV_UNASSIGNED);
}

/* ---- life ---- */

static int agent_start(struct agent *ag, struct err *e)
{
    int rc;

    if (mkdir(ag->o.state_dir, 0700) < 0 && errno != EEXIST)
        return err_errno(e, errno, "mkdir %s", ag->o.state_dir);
    rc = files_open(ag->o.run_dir, &ag->files_dir, e);
    if (rc < 0)
        return rc;
    ag->rpc = rpc_new(ag->loop, e);
    if (ag->rpc == NULL)
        return -ERR_IO;
    ag->engine = engine_new(ag->loop, ag->o.engine_socket, e);
    if (ag->engine == NULL)
        return -ERR_INTERNAL;
    link_start(ag);
    watch_start(ag);
    networks_start(ag);
    return membership_start(ag, e);
}

struct agent *agent_new(struct loop *l, const struct agent_options *o, struct err *e)
{
    struct agent *ag = xcalloc(1, sizeof(*ag));

    ag->loop = l;
    ag->o = *o;
    if (ag->o.ping_ms == 0)
        ag->o.ping_ms = WATCH_PING_MS;
    if (agent_start(ag, e) < 0) {
        agent_free(ag);
        return NULL;
    }
    return ag;
}

void agent_free(struct agent *ag)
{
    if (ag == NULL)
        return;
    relay_drop(ag);
    link_stop(ag);
    membership_stop(ag);
    watch_stop(ag);
    executor_free(ag);
    networks_stop(ag);
    roster_deinit(&ag->roster);
    loop_timer_cancel(ag->loop, &ag->retry_timer);
    engine_free(ag->engine);
    rpc_free(ag->rpc);
    free(ag->files_dir);
    free(ag);
}

void agent_describe(const struct agent *ag, char *ret, size_t size)
{
    const struct session *s = &ag->link.session;
    const char *degraded = watch_degraded(ag);

    if (ag->membership.identity == NULL)
        plain_format(ret, size, "waiting for an identity%s%s", degraded[0] == '\0' ? "" : "; ",
                     degraded);
    else
        plain_format(ret, size, "node %s, %s %s, %zu tasks%s%s", ag->node_id.s,
                     s->phase == SESSION_LIVE ? "connected to" : "looking for a manager, last",
                     s->address, ag->roster.count, degraded[0] == '\0' ? "" : "; ", degraded);
}
