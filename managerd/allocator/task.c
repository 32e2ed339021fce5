/* Tasks: those that are NEW get their addresses and become PENDING. */
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "common/hash.h"
#include "managerd/allocator/internal.h"

enum {
    RETRY_AT_ONCE_MAX = 256, /* blocked tasks that are tried whenever something is free */
    PLANS = 256,             /* of one run that are remembered */
};

/* ---- what a task means to us ---- */

bool task_holds(const Skep__Task *t)
{
    return t != NULL && t->n_networks > 0 && t->status->state <= SKEP__TASK_STATE__TASK_RUNNING;
}

static bool is_waiting(const Skep__Task *t)
{
    return t != NULL && t->status->state == SKEP__TASK_STATE__TASK_NEW &&
           t->desired_state <= SKEP__TASK_STATE__TASK_COMPLETE && t->service_id[0] != '\0';
}

static void move(struct allocator *a, const Skep__Task *t, bool take)
{
    for (size_t i = 0; i < t->n_networks; i++) {
        const Skep__NetworkAttachment *at = t->networks[i];

        for (size_t k = 0; k < at->n_addresses; k++) {
            if (take)
                net_take(a, at->network_id, at->addresses[k]);
            else
                net_give(a, at->network_id, at->addresses[k]);
        }
    }
}

/* ---- the index ---- */

static bool item_match(const void *value, const void *key)
{
    return strcmp(((const struct item *)value)->id, key) == 0;
}

static void leave(struct allocator *a, struct item *item)
{
    DL_DELETE(*item->list, item);
    a->blocked_count -= item->list == &a->blocked;
    item->list = NULL;
}

static void enter(struct allocator *a, struct item *item, struct item **list)
{
    DL_APPEND(*list, item);
    a->blocked_count += list == &a->blocked;
    item->list = list;
}

static void drop(struct allocator *a, struct item *item)
{
    leave(a, item);
    map_remove(&a->items_by_id, hash_str(item->id, 0), item);
    free(item);
}

/* From holding to holding nothing changes: only this core writes addresses, and once. */
void task_event(struct allocator *a, const Skep__Task *before, const Skep__Task *after)
{
    bool waited = is_waiting(before), waits = is_waiting(after);

    if (task_holds(before) != task_holds(after))
        move(a, task_holds(before) ? before : after, !task_holds(before));
    if (waited == waits)
        return;
    const char *id = before != NULL ? before->id : after->id;
    struct item *item = map_find(&a->items_by_id, hash_str(id, 0), item_match, id);

    if (item != NULL) {
        drop(a, item);
    } else if (waits) {
        item = xcalloc(1, sizeof(*item));
        (void)snprintf(item->id, sizeof(item->id), "%s", id);
        map_add(&a->items_by_id, hash_str(id, 0), item);
        enter(a, item, &a->fresh);
    }
}

void tasks_clear(struct allocator *a)
{
    size_t at = 0;

    for (void *i = map_each(&a->items_by_id, &at); i != NULL; i = map_each(&a->items_by_id, &at))
        free(i);
    map_deinit(&a->items_by_id);
    a->items_by_id = (struct map){ 0 };
    a->fresh = a->blocked = a->flying = NULL;
    a->blocked_count = 0;
}

void tasks_settle(struct allocator *a, int rc)
{
    /* 0: the store left it out, because the task is something else by now. */
    struct item **list = rc == 0 ? &a->blocked : &a->fresh;

    while (a->flying != NULL) {
        struct item *item = a->flying;

        leave(a, item);
        enter(a, item, list);
    }
}

/* ---- what tasks of one version need ---- */

struct plan {
    const char *service_id; /* NULL: no plan yet */
    uint64_t spec_version;
    size_t count;
    struct net **nets; /* NULL where the node's engine has the network */
    Skep__NetworkAttachment *attachments;
    Skep__NetworkAttachment **list;
    bool waits;                  /* nothing can be allocated now … */
    char reason[TEXT_BYTES_MAX]; /* … and why; "": a matter of time */
};

static void plan_attach(struct allocator *a, struct plan *p, const char *network_id,
                        const Skep__NetworkAttachmentConfig *config)
{
    struct net *n = net_find(a, network_id);
    Skep__NetworkAttachment *at = &p->attachments[p->count];

    if (n == NULL) {
        p->waits = true;
        (void)snprintf(p->reason, sizeof(p->reason), "network %s not found", network_id);
        return;
    }
    skep__network_attachment__init(at);
    at->network_id = n->id;
    if (config != NULL) {
        at->aliases = config->aliases;
        at->n_aliases = config->n_aliases;
    }
    if (n->overlay && !n->allocated) {
        p->waits = true;
        say_unallocated(a, n, p->reason);
        return;
    }
    if (n->overlay) {
        at->n_addresses = n->pool_count;
        at->addresses = arena_array(&a->scratch, n->pool_count, sizeof(char *));
    }
    p->nets[p->count] = n->overlay ? n : NULL;
    p->list[p->count++] = at;
}

static void plan_networks(struct allocator *a, struct plan *p, const Skep__ServiceSpec *spec)
{
    const Skep__TaskSpec *task = spec->task;
    size_t most = (task != NULL ? task->n_networks : 0) + 1;
    struct net *ingress = net_ingress(a);

    p->nets = arena_array(&a->scratch, most, sizeof(struct net *));
    p->attachments = arena_array(&a->scratch, most, sizeof(*p->attachments));
    p->list = arena_array(&a->scratch, most, sizeof(*p->list));
    for (size_t i = 0; i + 1 < most && !p->waits; i++)
        plan_attach(a, p, task->networks[i]->target, task->networks[i]);
    if (p->waits || !spec_has_ingress(spec->endpoint))
        return;
    p->waits = ingress == NULL; /* its service has said so, or is about to */
    if (ingress != NULL)
        plan_attach(a, p, ingress->id, NULL);
}

/* The service comes first: it has its address before its tasks have theirs. */
static void plan_make(struct allocator *a, struct plan *p, const Skep__Task *t)
{
    const Skep__Revision *r = store_task_revision(a->store, t);
    const Skep__Service *service = store_service(a->store, t->service_id);
    const struct service *s = service_find(a, t->service_id);

    *p = (struct plan){ .service_id = t->service_id, .spec_version = t->spec_version };
    if (r == NULL || service == NULL || s == NULL) {
        p->waits = true; /* the orchestrator is about to remove it */
        return;
    }
    if (s->state != SERVICE_READY) {
        p->waits = true;
        if (s->state == SERVICE_BLOCKED && service->endpoint != NULL)
            (void)snprintf(p->reason, sizeof(p->reason), "%s", service->endpoint->error);
        return;
    }
    plan_networks(a, p, r->spec);
}

/* ---- allocating ---- */

/* False when something has run out; reason says what. */
static bool fill_addresses(struct allocator *a, struct plan *p, char *reason)
{
    size_t mark = claims_mark(a);

    for (size_t i = 0; i < p->count; i++) {
        for (size_t k = 0; k < p->attachments[i].n_addresses; k++) {
            char *address = pool_claim(a, &p->nets[i]->pools[k]);

            if (address == NULL) {
                say_full(p->nets[i], k, reason);
                claims_undo(a, mark);
                return false;
            }
            p->attachments[i].addresses[k] = address;
        }
    }
    return true;
}

/* What the last run has said is not said again, and stays while it is only a matter of time. */
static void explain(const struct core_env *env, const Skep__Task *t, char *reason,
                    struct store_tx *tx)
{
    Skep__TaskDelta d = SKEP__TASK_DELTA__INIT;
    Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;

    if (reason[0] == '\0' || strcmp(t->status->error, reason) == 0)
        return;
    status.timestamp = env->wall_ns;
    status.state = SKEP__TASK_STATE__TASK_NEW;
    status.message = text("pending allocation");
    status.error = reason;
    d.task_id = t->id;
    d.status = &status;
    store_tx_task(tx, &d);
}

static void allocate(const struct core_env *env, const Skep__Task *t, const struct plan *p,
                     struct store_tx *tx)
{
    Skep__TaskDelta d = SKEP__TASK_DELTA__INIT;
    Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;

    status.timestamp = env->wall_ns;
    status.state = SKEP__TASK_STATE__TASK_PENDING;
    status.message = text("pending task scheduling");
    d.task_id = t->id;
    d.status = &status;
    d.n_networks = p->count;
    d.networks = p->list;
    store_tx_task(tx, &d);
}

/* Tasks of a service version share a plan. */
static struct plan *plan_of(struct allocator *a, struct plan *plans, const Skep__Task *t)
{
    struct plan *p = &plans[hash_str(t->service_id, t->spec_version) % PLANS];

    if (p->service_id == NULL || p->spec_version != t->spec_version ||
        strcmp(p->service_id, t->service_id) != 0)
        plan_make(a, p, t);
    return p;
}

static void try_item(struct allocator *a, const struct core_env *env, struct item *item,
                     struct plan *plans, struct store_tx *tx)
{
    const Skep__Task *t = store_task(env->store, item->id);
    char reason[TEXT_BYTES_MAX] = "";

    if (!is_waiting(t)) {
        drop(a, item);
        return;
    }
    struct plan *p = plan_of(a, plans, t);

    leave(a, item);
    if (p->waits || !fill_addresses(a, p, reason)) {
        enter(a, item, &a->blocked);
        explain(env, t, p->waits ? p->reason : reason, tx);
        return;
    }
    enter(a, item, &a->flying);
    allocate(env, t, p, tx);
}

/* Puts the blocked ones before the fresh ones: they are older. Returns when to come back. */
static uint64_t retry(struct allocator *a, const struct core_env *env)
{
    uint64_t due_ms = a->tried_ms + ALLOCATOR_RETRY_MS;

    if (!a->retry_tasks || a->blocked == NULL) {
        a->retry_tasks = a->retry_now = false;
        return CORE_NEVER;
    }
    if (!a->retry_now && a->blocked_count > RETRY_AT_ONCE_MAX && a->tried_ms != 0 &&
        env->now_ms < due_ms)
        return due_ms;
    a->retry_tasks = a->retry_now = false;
    a->tried_ms = env->now_ms;
    struct item *item;

    DL_FOREACH(a->blocked, item)
    {
        item->list = &a->fresh;
    }
    DL_CONCAT(a->blocked, a->fresh);
    a->fresh = a->blocked;
    a->blocked = NULL;
    a->blocked_count = 0;
    return CORE_NEVER;
}

uint64_t tasks_run(struct allocator *a, const struct core_env *env, struct store_tx *tx)
{
    uint64_t next_ms = retry(a, env);
    struct plan *plans = a->fresh != NULL ? arena_array(&a->scratch, PLANS, sizeof(*plans)) : NULL;

    while (a->fresh != NULL) {
        if (store_tx_full(tx))
            return env->now_ms;
        try_item(a, env, a->fresh, plans, tx);
    }
    return next_ms;
}
