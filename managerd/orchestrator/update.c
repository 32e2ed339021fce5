/* Rolling updates and rollbacks, read off the tasks at every pass: a slot is stale until it has a
 * task of the current spec; a task made for the update keeps one of `parallelism` places until it
 * ran for `delay`; the update is over when nothing is stale and every such task was watched for
 * `monitor`. swarmkit manager/orchestrator/update; features.md 3.6.
 *
 * DEVIATION: an updated task that finds no node counts as a failure after ORCHESTRATOR_UNPLACED_MS
 * (or the monitor period, if longer); SwarmKit waits for ever (B9).
 * DEVIATION: a restart that fails early in a slot of this update counts against the slot (B10); a
 * slot counts once.
 * DEVIATION: a rollback that fails is paused and stays paused (B2).
 * DEVIATION: places and failures are counted over all slots that the update concerns, whoever led
 * when they were made; SwarmKit starts to count anew under each leader. */
#include <inttypes.h>
#include <string.h>

#include "managerd/orchestrator/internal.h"

typedef Skep__UpdateStatus__State state_t;

/* Where one slot is in the update. */
struct progress {
    bool concerned;            /* the update replaces it, or did */
    bool stale;                /* has to be replaced, can be now */
    bool busy;                 /* keeps a place */
    bool watched;              /* its task is not yet over the monitor period */
    const Skep__Task *updated; /* the task of the current version that the update made */
    const Skep__Task *failure; /* that failed early */
};

struct update {
    const Skep__UpdateConfig *config;
    state_t state;
    size_t stale_count, busy_count, watched_count;
    size_t concerned_count, failed_count;
    const Skep__Task *failure; /* the latest */
    size_t idle_count;         /* slots that this pass has not changed yet */
};

static state_t state_of(const Skep__Service *service)
{
    return service->update_status != NULL ? service->update_status->state
                                          : SKEP__UPDATE_STATUS__STATE__NONE;
}

static bool rolling_back(state_t state)
{
    return state == SKEP__UPDATE_STATUS__STATE__ROLLBACK_STARTED ||
           state == SKEP__UPDATE_STATUS__STATE__ROLLBACK_PAUSED;
}

static bool active(state_t state)
{
    return state == SKEP__UPDATE_STATUS__STATE__UPDATING ||
           state == SKEP__UPDATE_STATUS__STATE__ROLLBACK_STARTED;
}

static bool paused(state_t state)
{
    return state == SKEP__UPDATE_STATUS__STATE__PAUSED ||
           state == SKEP__UPDATE_STATUS__STATE__ROLLBACK_PAUSED;
}

static const Skep__UpdateConfig *config_of(const Skep__Service *service)
{
    static const Skep__UpdateConfig fallback = {
        .base = PROTOBUF_C_MESSAGE_INIT(&skep__update_config__descriptor), .parallelism = 1
    };
    const Skep__UpdateConfig *c =
        rolling_back(state_of(service)) ? service->spec->rollback : service->spec->update;

    return c != NULL ? c : &fallback;
}

/* ---- status ---- */

static void set_status(struct pass *p, state_t state, const char *message, bool to_previous)
{
    Skep__Service service = *p->service;
    Skep__UpdateStatus status = SKEP__UPDATE_STATUS__INIT;

    if (service.update_status != NULL)
        status = *service.update_status;
    if (state == SKEP__UPDATE_STATUS__STATE__UPDATING) {
        status.started_at = p->env->wall_ns;
        status.completed_at = 0;
    }
    if (state == SKEP__UPDATE_STATUS__STATE__COMPLETED ||
        state == SKEP__UPDATE_STATUS__STATE__ROLLBACK_COMPLETED)
        status.completed_at = p->env->wall_ns;
    status.state = state;
    status.message = (char *)message;
    service.update_status = &status;
    if (to_previous) {
        service.spec = service.previous_spec;
        service.previous_spec = NULL;
        service.previous_spec_version = 0;
    }
    store_tx_update(p->tx, &service.base, p->service->meta->version, 0);
    p->changed = true;
}

/* ---- looking at a slot ---- */

/* Ended by itself. What stopped on request or went with its node is no fault of the update. */
static bool ended(const Skep__Task *t)
{
    return t->status->state == SKEP__TASK_STATE__TASK_COMPLETE ||
           t->status->state == SKEP__TASK_STATE__TASK_FAILED ||
           t->status->state == SKEP__TASK_STATE__TASK_REJECTED;
}

static bool ended_early(const struct update *u, const Skep__Task *t)
{
    return ended(t) &&
           (t->running_at == 0 || t->status->applied_at - t->running_at <= u->config->monitor);
}

/* Waits for a node for too long. A stop-first task may have to wait for what the old one holds. */
static bool unplaced(struct pass *p, const struct update *u, const Skep__Task *t)
{
    int64_t wait = MAX(u->config->monitor, (int64_t)ORCHESTRATOR_UNPLACED_MS * 1000000);

    if (!task_unassigned(t) || !task_wanted(t))
        return false;
    if (u->config->order == SKEP__UPDATE_ORDER__ORDER_STOP_FIRST)
        wait += p->service->spec->task->container->stop_grace_period;
    return pass_elapsed(p, t->meta->created_at, wait);
}

/* When the update's task came up, or what ended it; 0: not yet. */
static int64_t settled_at(const Skep__Task *t)
{
    if (t->running_at != 0)
        return t->running_at;
    return task_dead(t) ? t->status->applied_at : 0;
}

static const Skep__Task *updated_task(const struct pass *p, const struct slot *s)
{
    for (size_t i = s->task_count; i-- > 0;) {
        const Skep__Task *t = s->tasks[i];

        if (t->cause == SKEP__TASK_CAUSE__CAUSE_UPDATED &&
            t->spec_version == p->service->meta->spec_version)
            return t;
    }
    return NULL;
}

static const Skep__Task *early_failure(struct pass *p, const struct update *u, const struct slot *s,
                                       const Skep__Task *updated)
{
    const Skep__Task *failure = NULL;

    for (size_t i = 0; i < s->task_count; i++) {
        const Skep__Task *t = s->tasks[i];

        if (t->spec_version == updated->spec_version && t->attempt >= updated->attempt &&
            ended_early(u, t))
            failure = t;
    }
    return failure == NULL && unplaced(p, u, updated) ? updated : failure;
}

/* Has nothing of the current spec, but something of an older one, alive, dead or finished. */
static bool slot_stale(struct pass *p, const struct slot *s)
{
    if (s->touched || s->clean != NULL)
        return false;
    if (s->finished)
        return service_task_stale(p, slot_newest(s));
    bool stale = false;
    for (size_t i = 0; i < s->task_count; i++) {
        if (!task_wanted(s->tasks[i]))
            continue;
        if (!service_task_stale(p, s->tasks[i]) && s->stale_count == 0)
            return false; /* the restart supervisor's: it died, or lost its node */
        stale |= service_task_stale(p, s->tasks[i]);
    }
    return stale;
}

static struct progress look_at(struct pass *p, const struct update *u, const struct slot *s)
{
    struct progress g = { .stale = slot_stale(p, s), .updated = updated_task(p, s) };
    const Skep__Task *t = g.updated;
    /* In the middle of an update only the scale may have changed: its tasks go on being counted. */
    if (t == NULL && s->clean != NULL && s->clean->cause == SKEP__TASK_CAUSE__CAUSE_UPDATED)
        t = s->clean;
    if (t == NULL)
        return g;
    if (g.updated != NULL) {
        g.failure = early_failure(p, u, s, g.updated);
        /* The new one failed for good while the old one still runs (start-first). */
        g.stale = false;
    }
    int64_t at = settled_at(t);
    if (at == 0) {
        g.busy = g.watched = task_wanted(t) && g.failure != t && !task_lost(p, t);
    } else {
        g.busy = !pass_elapsed(p, at, u->config->delay);
        g.watched = !pass_elapsed(p, at, MAX(u->config->monitor, u->config->delay));
    }
    return g;
}

static void count(struct update *u, const struct progress *g)
{
    u->stale_count += g->stale;
    u->busy_count += g->busy;
    u->watched_count += g->busy || g->watched;
    u->concerned_count += g->stale || g->updated != NULL;
    if (g->failure == NULL)
        return;
    u->failed_count++;
    if (u->failure == NULL || g->failure->status->applied_at > u->failure->status->applied_at)
        u->failure = g->failure;
}

/* ---- acting on a slot ---- */

/* lame: only what does not live any more. */
static void stop_wanted(struct pass *p, struct slot *s, bool lame)
{
    for (size_t i = 0; i < s->task_count; i++) {
        const Skep__Task *t = s->tasks[i];

        if (task_wanted(t) && (!lame || task_dead(t) || task_lost(p, t)))
            pass_desire(p, t, SKEP__TASK_STATE__TASK_SHUTDOWN);
    }
}

/* Updates that overtake each other leave several outdated tasks: the furthest waits for its turn.
 */
static void keep_one_stale(struct pass *p, struct slot *s)
{
    const Skep__Task *best = NULL;

    if (s->stale_count < 2)
        return;
    for (size_t i = 0; i < s->task_count; i++) {
        const Skep__Task *t = s->tasks[i];

        if (task_wanted(t) && !task_dead(t) && !task_lost(p, t) &&
            (best == NULL || t->status->state > best->status->state))
            best = t;
    }
    for (size_t i = 0; i < s->task_count; i++) {
        if (task_wanted(s->tasks[i]) && s->tasks[i] != best)
            pass_desire(p, s->tasks[i], SKEP__TASK_STATE__TASK_SHUTDOWN);
    }
    s->touched = true;
}

/* A second task of the current spec is one too many; one of an older spec is as soon as it does not
 * run, or the new one does. */
static void tidy(struct pass *p, struct slot *s)
{
    if (s->wanted_count < 2)
        return;
    if (s->clean == NULL) {
        keep_one_stale(p, s);
        return;
    }
    bool running = s->clean->status->state == SKEP__TASK_STATE__TASK_RUNNING;
    for (size_t i = 0; i < s->task_count; i++) {
        const Skep__Task *t = s->tasks[i];

        if (task_wanted(t) && t != s->clean &&
            (running || t->status->state != SKEP__TASK_STATE__TASK_RUNNING ||
             !service_task_stale(p, t))) {
            pass_desire(p, t, SKEP__TASK_STATE__TASK_SHUTDOWN);
            s->touched = true;
        }
    }
}

/* Something in s is or may be on a usable node. */
static bool slot_alive(const struct slot *s)
{
    for (size_t i = 0; i < s->task_count; i++) {
        if (task_wanted(s->tasks[i]) && !task_dead(s->tasks[i]) && !task_unassigned(s->tasks[i]))
            return true;
    }
    return false;
}

static void replace_slot(struct pass *p, const struct update *u, struct slot *s)
{
    bool start_first = u->config->order == SKEP__UPDATE_ORDER__ORDER_START_FIRST;
    struct task_plan plan = {
        .cause = SKEP__TASK_CAUSE__CAUSE_UPDATED,
        .desired = SKEP__TASK_STATE__TASK_RUNNING,
    };

    /* Stop-first: held back until the old one has stopped, if there is one. */
    if (!start_first && slot_alive(s))
        plan.desired = SKEP__TASK_STATE__TASK_READY;
    stop_wanted(p, s, start_first && s->stale_count > 0);
    service_add_task(p, s, &plan);
}

/* Slots without a running task first: replacing them takes nothing away. */
static void start_some(struct pass *p, const struct update *u, struct slot **slots, size_t n)
{
    uint64_t places = u->config->parallelism == 0 ? UINT64_MAX : u->config->parallelism;
    uint64_t used = u->busy_count;

    for (int running = 0; running < 2; running++) {
        for (size_t i = 0; i < n && used < places; i++) {
            if (slots[i]->running != (running == 1) || !slot_stale(p, slots[i]) ||
                updated_task(p, slots[i]) != NULL)
                continue;
            if (!pass_room(p))
                return;
            replace_slot(p, u, slots[i]);
            used++;
        }
    }
}

/* ---- the whole ---- */

static const char *message(struct pass *p, const char *what, const struct update *u)
{
    return arena_printf(&p->o->scratch, "%s due to failure or early termination of task %s", what,
                        u->failure->id);
}

enum reaction { REACT_NONE, REACT_PAUSE, REACT_ROLL_BACK };

/* What the failures so far change. */
static enum reaction react_to_failures(struct pass *p, const struct update *u)
{
    bool back = rolling_back(u->state);

    if (!active(u->state) || u->failed_count * 1000000 <=
                                 (uint64_t)u->config->max_failure_ratio_ppm * u->concerned_count)
        return REACT_NONE;
    switch (u->config->failure_action) {
    case SKEP__UPDATE_FAILURE_ACTION__FAILURE_CONTINUE:
        return REACT_NONE;
    case SKEP__UPDATE_FAILURE_ACTION__FAILURE_ROLLBACK:
        if (!back && p->service->previous_spec != NULL) {
            set_status(p, SKEP__UPDATE_STATUS__STATE__ROLLBACK_STARTED,
                       message(p, "update rolled back", u), true);
            return REACT_ROLL_BACK;
        }
        break; /* a rollback is never rolled back, nor is what had no spec before */
    case SKEP__UPDATE_FAILURE_ACTION__FAILURE_PAUSE:
    case _SKEP__UPDATE_FAILURE_ACTION_IS_INT_SIZE:
        break;
    }
    set_status(
        p, back ? SKEP__UPDATE_STATUS__STATE__ROLLBACK_PAUSED : SKEP__UPDATE_STATUS__STATE__PAUSED,
        message(p, back ? "rollback paused" : "update paused", u), false);
    return REACT_PAUSE;
}

static void complete(struct pass *p, state_t state)
{
    if (rolling_back(state))
        set_status(p, SKEP__UPDATE_STATUS__STATE__ROLLBACK_COMPLETED, "rollback completed", false);
    else
        set_status(p, SKEP__UPDATE_STATUS__STATE__COMPLETED, "update completed", false);
}

static struct update survey(struct pass *p, struct slot **slots, size_t n)
{
    struct update u = { .config = config_of(p->service), .state = state_of(p->service) };

    for (size_t i = 0; i < n; i++) {
        struct progress g = look_at(p, &u, slots[i]);

        count(&u, &g);
        u.idle_count += !slots[i]->touched;
    }
    return u;
}

bool update_judge(struct pass *p, struct slot **slots, size_t n)
{
    if (!active(state_of(p->service)) || !pass_room(p))
        return false;
    struct update u = survey(p, slots, n);
    enum reaction reaction = react_to_failures(p, &u);
    p->update_paused = reaction == REACT_PAUSE;
    return reaction == REACT_ROLL_BACK;
}

void update_slots(struct pass *p, struct slot **slots, size_t n)
{
    for (size_t i = 0; i < n && pass_room(p); i++)
        tidy(p, slots[i]);
    if (!pass_room(p) || p->update_paused || paused(state_of(p->service)))
        return;
    struct update u = survey(p, slots, n);
    if (u.stale_count > 0 && !active(u.state))
        set_status(p, SKEP__UPDATE_STATUS__STATE__UPDATING, "update in progress", false);
    if (u.stale_count > 0)
        start_some(p, &u, slots, n);
    else if (active(u.state) && u.watched_count == 0 && u.idle_count == n)
        complete(p, u.state);
}
