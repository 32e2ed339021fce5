/* The core: which services have to be looked at, and when. */
#include "managerd/orchestrator/orchestrator.h"

#include <string.h>

#include "common/assert.h"
#include "common/hash.h"
#include "common/message.h"
#include "managerd/orchestrator/internal.h"

/* ---- sets ---- */

static int watched_order(const struct tree_node *a, const struct tree_node *b)
{
    return strcmp(CONTAINER_OF(a, struct watched, by_id)->id,
                  CONTAINER_OF(b, struct watched, by_id)->id);
}

static int watched_key(const void *key, const struct tree_node *n)
{
    return strcmp(key, CONTAINER_OF(n, struct watched, by_id)->id);
}

static int due_order(const struct tree_node *a, const struct tree_node *b)
{
    return strcmp(CONTAINER_OF(a, struct watched, by_due)->id,
                  CONTAINER_OF(b, struct watched, by_due)->id);
}

static int due_key(const void *key, const struct tree_node *n)
{
    return strcmp(key, CONTAINER_OF(n, struct watched, by_due)->id);
}

static int touched_order(const struct tree_node *a, const struct tree_node *b)
{
    return strcmp(CONTAINER_OF(a, struct touched, by_id)->id,
                  CONTAINER_OF(b, struct touched, by_id)->id);
}

static int touched_key(const void *key, const struct tree_node *n)
{
    return strcmp(key, CONTAINER_OF(n, struct touched, by_id)->id);
}

static void set_due(struct orchestrator *o, struct watched *w)
{
    if (w->due)
        return;
    w->due = true;
    tree_insert(&o->due, &w->by_due, due_order);
}

static void set_done(struct orchestrator *o, struct watched *w)
{
    w->due = false;
    tree_remove(&o->due, &w->by_due);
}

static struct watched *find(const struct orchestrator *o, const char *service_id)
{
    struct tree_node *n = tree_find(&o->services, service_id, watched_key);

    return n != NULL ? CONTAINER_OF(n, struct watched, by_id) : NULL;
}

/* The store takes no longer ids. */
static void copy_id(char to[ID_CHARS + 1], const char *id)
{
    size_t size = strlen(id);

    ASSERT(size <= ID_CHARS);
    memcpy(to, id, size + 1);
}

struct watched *orchestrator_watch(struct orchestrator *o, const char *service_id)
{
    struct watched *w = find(o, service_id);

    if (w == NULL) {
        w = xcalloc(1, sizeof(*w));
        copy_id(w->id, service_id);
        tree_insert(&o->services, &w->by_id, watched_order);
    }
    set_due(o, w);
    return w;
}

static void forget(struct orchestrator *o, struct watched *w)
{
    if (w->due)
        set_done(o, w);
    timer_cancel(&o->timers, &w->timer);
    tree_remove(&o->services, &w->by_id);
    free(w);
}

void orchestrator_touch_node(struct orchestrator *o, const char *node_id)
{
    if (tree_find(&o->nodes, node_id, touched_key) != NULL)
        return;
    struct touched *t = xcalloc(1, sizeof(*t));
    copy_id(t->id, node_id);
    tree_insert(&o->nodes, &t->by_id, touched_order);
}

static void forget_node(struct orchestrator *o, struct touched *t)
{
    tree_remove(&o->nodes, &t->by_id);
    free(t);
}

/* ---- nodes ---- */

static bool known_match(const void *value, const void *key)
{
    return strcmp(((const struct known_node *)value)->id, key) == 0;
}

void orchestrator_know_node(struct orchestrator *o, const Skep__Node *node)
{
    uint64_t hash = hash_str(node->id, 0);
    struct known_node *k = map_find(&o->known, hash, known_match, node->id);

    if (k == NULL) {
        k = xcalloc(1, sizeof(*k));
        copy_id(k->id, node->id);
        map_add(&o->known, hash, k);
    }
    k->usable = node_usable(node);
}

static void unknow_node(struct orchestrator *o, const char *node_id)
{
    uint64_t hash = hash_str(node_id, 0);
    struct known_node *k = map_find(&o->known, hash, known_match, node_id);

    if (k != NULL) {
        map_remove(&o->known, hash, k);
        free(k);
    }
}

static void unknow_all(struct orchestrator *o)
{
    size_t at = 0;

    for (void *k = map_each(&o->known, &at); k != NULL; k = map_each(&o->known, &at))
        free(k);
    map_deinit(&o->known);
    o->known = (struct map){ 0 };
}

/* A task was given to a node that went out of use, or away, meanwhile. */
static void check_assignment(struct orchestrator *o, const struct store_event *ev)
{
    const Skep__Task *from = (const Skep__Task *)ev->before, *to = (const Skep__Task *)ev->after;

    if (to == NULL || to->node_id[0] == '\0' ||
        (from != NULL && strcmp(from->node_id, to->node_id) == 0))
        return;
    const struct known_node *k =
        map_find(&o->known, hash_str(to->node_id, 0), known_match, to->node_id);
    if (k == NULL || !k->usable)
        orchestrator_touch_node(o, to->node_id);
}

/* ---- events ---- */

static void on_service(struct orchestrator *o, const struct store_event *ev)
{
    const Skep__Service *before = (const Skep__Service *)ev->before;

    (void)orchestrator_watch(o, ev->after != NULL ? object_id(ev->after) : before->id);
}

/* Progress on the way to RUNNING decides nothing, except for tasks that an update waits for, and
 * for those that took their place when they were lost: an older one may be waiting to be stopped,
 * also after the update's end. */
static bool task_matters(const struct store_event *ev)
{
    const Skep__Task *from = (const Skep__Task *)ev->before, *to = (const Skep__Task *)ev->after;

    if (from == NULL)
        return false; /* it was decided here */
    if (to == NULL)
        return true;
    if (from->desired_state != to->desired_state)
        return true;
    if (task_dead(to))
        return !task_dead(from) || from->status->state != to->status->state;
    return to->cause != SKEP__TASK_CAUSE__CAUSE_CREATED &&
           to->status->state == SKEP__TASK_STATE__TASK_RUNNING &&
           from->status->state != SKEP__TASK_STATE__TASK_RUNNING;
}

static void on_task(struct orchestrator *o, const struct store_event *ev)
{
    const Skep__Task *t = (const Skep__Task *)(ev->after != NULL ? ev->after : ev->before);
    struct watched *w = find(o, t->service_id);

    check_assignment(o, ev);
    if (w == NULL) { /* created while its service was removed */
        if (ev->after != NULL)
            (void)orchestrator_watch(o, t->service_id);
    } else if (w->gone || task_matters(ev)) {
        set_due(o, w);
    }
}

/* Heartbeats and addresses decide nothing. */
static bool node_matters(const struct store_event *ev)
{
    const Skep__Node *from = (const Skep__Node *)ev->before, *to = (const Skep__Node *)ev->after;

    if (from == NULL || to == NULL)
        return true;
    return from->role != to->role ||
           !message_equal((const ProtobufCMessage *)from->spec,
                          (const ProtobufCMessage *)to->spec) ||
           !message_equal((const ProtobufCMessage *)from->status,
                          (const ProtobufCMessage *)to->status) ||
           !message_equal((const ProtobufCMessage *)from->description,
                          (const ProtobufCMessage *)to->description);
}

static void on_node(struct orchestrator *o, const struct store_event *ev)
{
    if (ev->after != NULL)
        orchestrator_know_node(o, (const Skep__Node *)ev->after);
    else
        unknow_node(o, object_id(ev->before));
    if (!node_matters(ev))
        return;
    orchestrator_touch_node(o, object_id(ev->after != NULL ? ev->after : ev->before));
    o->globals_due = true;
}

static void core_on_event(void *core, const struct store_event *ev)
{
    struct orchestrator *o = core;

    if (o->stamps == NULL)
        return; /* not leading */
    if (ev->kind == SKEP__KIND__KIND_SERVICE) {
        on_service(o, ev);
    } else if (ev->kind == SKEP__KIND__KIND_TASK) {
        on_task(o, ev);
    } else if (ev->kind == SKEP__KIND__KIND_NODE) {
        on_node(o, ev);
    } else if (ev->kind == SKEP__KIND__KIND_CLUSTER) {
        o->all_due = true; /* the history limit */
    }
}

/* ---- running ---- */

static void mark_services(struct orchestrator *o)
{
    for (struct tree_node *n = tree_first(&o->services); n != NULL; n = tree_next(n)) {
        struct watched *w = CONTAINER_OF(n, struct watched, by_id);

        if (o->all_due || w->global)
            set_due(o, w);
    }
    o->all_due = o->globals_due = false;
}

/* The services whose tasks are on a node that changed. */
static void mark_node(struct orchestrator *o, const struct core_env *env, const char *node_id)
{
    struct store_iter it;

    for (const Skep__Task *t = store_node_tasks(env->store, node_id, &it); t != NULL;
         t = store_iter_next(&it)) {
        struct watched *w = find(o, t->service_id);

        if (w != NULL)
            set_due(o, w);
    }
}

/* False when tx is full. */
static bool run_nodes(struct orchestrator *o, const struct core_env *env, struct store_tx *tx)
{
    struct tree_node *next;

    for (struct tree_node *n = tree_first(&o->nodes); n != NULL; n = next) {
        struct touched *t = CONTAINER_OF(n, struct touched, by_id);
        size_t before = store_tx_action_count(tx);

        next = tree_next(n);
        mark_node(o, env, t->id);
        if (!enforcer_node(env, tx, t->id))
            return false;
        if (store_tx_action_count(tx) == before)
            forget_node(o, t); /* else it is looked at again after the result */
    }
    return true;
}

static void run_mode(struct pass *p)
{
    switch (p->service->spec->mode_case) {
    case SKEP__SERVICE_SPEC__MODE_REPLICATED:
        replicated_pass(p);
        break;
    case SKEP__SERVICE_SPEC__MODE_GLOBAL:
        global_pass(p);
        break;
    case SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB:
        replicated_job_pass(p);
        break;
    case SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB:
        global_job_pass(p);
        break;
    case SKEP__SERVICE_SPEC__MODE__NOT_SET: /* validation fills it in */
    case _SKEP__SERVICE_SPEC__MODE__CASE_IS_INT_SIZE:
        break;
    }
}

static bool is_global(const Skep__Service *service)
{
    return service != NULL && (service->spec->mode_case == SKEP__SERVICE_SPEC__MODE_GLOBAL ||
                               service->spec->mode_case == SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB);
}

/* The due service whose turn it is: they take turns, so that a big one does not starve the others.
 */
static struct watched *next_due(const struct orchestrator *o)
{
    struct tree_node *n = tree_after(&o->due, o->turn, due_key);

    if (n == NULL)
        n = tree_first(&o->due);
    return n != NULL ? CONTAINER_OF(n, struct watched, by_due) : NULL;
}

/* False when tx is full. w may be gone afterwards. */
static bool run_service(struct orchestrator *o, const struct core_env *env, struct store_tx *tx,
                        struct watched *w)
{
    struct pass p = { .o = o,
                      .env = env,
                      .tx = tx,
                      .service_id = w->id,
                      .service = store_service(env->store, w->id),
                      .wake_ms = CORE_NEVER };
    bool empty = false;

    arena_reset(&o->scratch);
    o->pass_count++;
    w->gone = p.service == NULL;
    w->global = is_global(p.service);
    if (!pass_room(&p))
        return false;
    copy_id(o->turn, w->id);
    if (w->gone)
        empty = reaper_orphans(&p);
    else if (p.service->spec->task != NULL)
        run_mode(&p);
    if (empty) {
        forget(o, w);
        return true;
    }
    if (!p.changed && !p.full)
        set_done(o, w); /* else it is looked at again after the result */
    timer_cancel(&o->timers, &w->timer);
    if (p.wake_ms != CORE_NEVER)
        timer_set(&o->timers, &w->timer, p.wake_ms);
    return !p.full;
}

static uint64_t core_run(void *core, const struct core_env *env, struct store_tx *tx)
{
    struct orchestrator *o = core;
    size_t seen = 0;
    struct timer *t;

    ASSERT(o->stamps != NULL);
    while ((t = timer_pop_due(&o->timers, env->now_ms)) != NULL)
        set_due(o, CONTAINER_OF(t, struct watched, timer));
    if (o->all_due || o->globals_due)
        mark_services(o);
    bool room = run_nodes(o, env, tx);
    /* Each at most once, and no more tasks than a loop iteration should take. */
    for (size_t left = o->due.count; left > 0 && room && seen < ORCHESTRATOR_RUN_TASKS; left--) {
        struct watched *w = next_due(o);

        seen += 1 + store_service_task_count(env->store, w->id);
        room = run_service(o, env, tx, w);
    }
    if (o->due.count > 0 || o->nodes.count > 0)
        return env->now_ms;
    t = timer_first(&o->timers);
    return t != NULL ? t->at_ms : CORE_NEVER;
}

/* ---- life ---- */

static void core_stop(void *core)
{
    struct orchestrator *o = core;
    struct tree_node *n;

    while ((n = tree_first(&o->services)) != NULL)
        forget(o, CONTAINER_OF(n, struct watched, by_id));
    while ((n = tree_first(&o->nodes)) != NULL)
        forget_node(o, CONTAINER_OF(n, struct touched, by_id));
    unknow_all(o);
    free(o->stamps);
    o->stamps = NULL;
    free(o->seen);
    o->seen = NULL;
    o->all_due = o->globals_due = false;
    o->turn[0] = '\0';
}

static void core_start(void *core, const struct core_env *env)
{
    struct orchestrator *o = core;

    core_stop(o);
    o->stamps = xcalloc(STAMP_CACHE_SIZE, sizeof(*o->stamps));
    o->seen = xcalloc(NODE_CACHE_SIZE, sizeof(*o->seen));
    taskinit_watch_all(o, env->store);
}

/* What changed is still due, whatever became of it. */
static void core_on_result(void *core, int rc)
{
    (void)core;
    (void)rc;
}

const struct core_ops orchestrator_ops = {
    .name = "orchestrator",
    .start = core_start,
    .stop = core_stop,
    .on_event = core_on_event,
    .run = core_run,
    .on_result = core_on_result,
};

struct orchestrator *orchestrator_new(void)
{
    return xcalloc(1, sizeof(struct orchestrator));
}

void orchestrator_free(struct orchestrator *o)
{
    if (o == NULL)
        return;
    core_stop(o);
    timer_heap_deinit(&o->timers);
    arena_deinit(&o->scratch);
    free(o);
}
