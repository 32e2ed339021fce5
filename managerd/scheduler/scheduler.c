#include "managerd/scheduler/scheduler.h"

#include <string.h>

#include "common/assert.h"
#include "common/hash.h"
#include "managerd/scheduler/internal.h"

/* What one run works on. */
struct round {
    struct scheduler *s;
    const struct core_env *env;
    struct store_tx *tx;
};

struct scheduler *scheduler_new(void)
{
    struct scheduler *s = xcalloc(1, sizeof(*s));

    list_init(&s->fresh);
    list_init(&s->blocked);
    s->spread = spread_new();
    return s;
}

static void clear_stopped(struct scheduler *s)
{
    for (size_t i = 0; i < s->stopped_count; i++)
        free(s->stopped[i]);
    s->stopped_count = s->stopped_sent = 0;
}

static void scheduler_stop(void *core)
{
    struct scheduler *s = core;

    groups_clear(s);
    nodeset_clear(&s->nodes);
    clear_stopped(s);
    free(s->log_driver);
    s->log_driver = NULL;
    s->flight_count = s->flight_confirmed = 0;
    s->stale_count = 0;
    s->store = NULL;
}

void scheduler_free(struct scheduler *s)
{
    if (s == NULL)
        return;
    scheduler_stop(s);
    spread_free(s->spread);
    free(s->flight);
    free(s->stopped);
    free(s);
}

/* ---- what a task means to us ---- */

static bool uses_node(const Skep__Task *t)
{
    return t != NULL && t->node_id[0] != '\0' &&
           t->status->state >= SKEP__TASK_STATE__TASK_ASSIGNED &&
           t->status->state <= SKEP__TASK_STATE__TASK_RUNNING;
}

/* Counts towards spreading: wanted, not only still there. */
static bool is_active(const Skep__Task *t)
{
    return uses_node(t) && t->desired_state <= SKEP__TASK_STATE__TASK_COMPLETE;
}

static bool is_waiting(const Skep__Task *t)
{
    return t != NULL && t->status->state == SKEP__TASK_STATE__TASK_PENDING &&
           t->desired_state <= SKEP__TASK_STATE__TASK_COMPLETE && t->service_id[0] != '\0';
}

static bool has_failed(const Skep__Task *t)
{
    return t != NULL && (t->status->state == SKEP__TASK_STATE__TASK_FAILED ||
                         t->status->state == SKEP__TASK_STATE__TASK_REJECTED);
}

/* Given up before an agent heard of it: nobody else would end it. REMOVE is the reaper's. */
static bool is_stopped(const Skep__Task *t)
{
    return t != NULL && t->status->state < SKEP__TASK_STATE__TASK_ASSIGNED &&
           t->desired_state == SKEP__TASK_STATE__TASK_SHUTDOWN;
}

static bool same_group(const Skep__Task *a, const Skep__Task *b)
{
    return a->spec_version == b->spec_version && strcmp(a->service_id, b->service_id) == 0;
}

/* ---- events: tasks ---- */

static void unbook(struct scheduler *s, struct item *item)
{
    if (item->flight != 0)
        s->flight[item->flight - 1] = NULL;
    item->flight = 0;
    if (item->node != NULL)
        snode_release(item->node, item->group, true);
    item->node = NULL;
}

/* A waiting task does not wait any more. Returns true when what it uses is booked already: the
 * event confirms our own decision. */
static bool settle(struct scheduler *s, struct item *item, const Skep__Task *after)
{
    bool ours = item->flight != 0 && item->node != NULL && uses_node(after) &&
                strcmp(item->node->object->id, after->node_id) == 0 &&
                item->group->spec_version == after->spec_version;

    if (!ours) {
        unbook(s, item);
        s->use_epoch++;
        return false;
    }
    if (!is_active(after))
        snode_count(item->node, item->group, -1);
    s->flight[item->flight - 1] = NULL;
    s->flight_confirmed = item->flight;
    return true;
}

static void release(struct scheduler *s, const Skep__Task *before)
{
    struct group *g = group_find(s, before->service_id, before->spec_version);
    struct snode *n = nodeset_find(&s->nodes, before->node_id);

    if (g == NULL)
        return;
    if (n != NULL && !n->stale)
        snode_release(n, g, is_active(before));
    s->use_epoch++;
    group_unref(s, g);
}

static void book(struct scheduler *s, const Skep__Task *after, bool booked)
{
    struct group *g = group_get(s, after->service_id, after->spec_version);

    g->refs++;
    if (booked)
        return;
    struct snode *n = nodeset_find(&s->nodes, after->node_id);
    if (n != NULL && !n->stale)
        snode_use(n, g, is_active(after));
}

/* Still on the same node: only what counts for spreading may differ. */
static void recount(struct scheduler *s, const Skep__Task *before, const Skep__Task *after)
{
    if (is_active(before) == is_active(after))
        return;
    struct group *g = group_find(s, after->service_id, after->spec_version);
    struct snode *n = nodeset_find(&s->nodes, after->node_id);

    if (g != NULL && n != NULL && !n->stale)
        snode_count(n, g, is_active(after) ? 1 : -1);
    s->use_epoch++;
}

static void note_stopped(struct scheduler *s, const char *id)
{
    if (s->stopped_count == s->stopped_capacity) {
        s->stopped_capacity = MAX(s->stopped_capacity * 2, (size_t)16);
        s->stopped = xrealloc_array(s->stopped, s->stopped_capacity, sizeof(char *));
    }
    s->stopped[s->stopped_count++] = xstrdup(id);
}

static void note_failure(struct scheduler *s, const Skep__Task *before, const Skep__Task *after)
{
    struct snode *n;

    if (!has_failed(after) || has_failed(before))
        return;
    n = nodeset_find(&s->nodes, after->node_id);
    if (n == NULL)
        return;
    struct group *g = group_get(s, after->service_id, after->spec_version);
    g->refs++;
    snode_failed(n, g->hash, after->status->applied_at);
    group_unref(s, g);
}

static void on_task(struct scheduler *s, const Skep__Task *before, const Skep__Task *after)
{
    struct item *item = is_waiting(before) ? item_find(s, before->id) : NULL;
    bool keep = item != NULL && is_waiting(after) && same_group(before, after), booked = false;

    if (keep)
        item->text_hash = after->status->error[0] != '\0' ? hash_str(after->status->error, 0) : 0;
    else if (item != NULL)
        booked = settle(s, item, after);
    if (uses_node(before) && uses_node(after) && same_group(before, after) &&
        strcmp(before->node_id, after->node_id) == 0) {
        recount(s, before, after);
    } else {
        if (uses_node(after))
            book(s, after, booked);
        if (uses_node(before))
            release(s, before);
    }
    if (item != NULL && !keep)
        item_drop(s, item);
    if (is_waiting(after) && !keep) {
        struct group *g = group_get(s, after->service_id, after->spec_version);

        (void)item_add(s, g, after);
        group_queue(s, g, false);
    }
    note_failure(s, before, after);
    if (is_stopped(after) && !is_stopped(before))
        note_stopped(s, after->id);
}

/* ---- events: nodes and the cluster ---- */

static void forget_verdicts(struct scheduler *s, const struct snode *n)
{
    struct list *queues[] = { &s->fresh, &s->blocked };

    for (size_t q = 0; q < ARRAY_LEN(queues); q++) {
        for (struct list *l = queues[q]->next; l != queues[q]; l = l->next) {
            struct group *g = CONTAINER_OF(l, struct group, queue);

            if (n == NULL)
                group_drop_verdicts(g);
            else if (n->index < g->verdict_capacity)
                g->verdicts[n->index] = 0xff;
        }
    }
}

static void remove_node(struct scheduler *s, struct snode *n)
{
    size_t at = 0;

    for (size_t i = 0; i < s->flight_count; i++) {
        if (s->flight[i] != NULL && s->flight[i]->node == n)
            s->flight[i]->node = NULL;
    }
    for (struct service *v; (v = map_each(&s->services, &at)) != NULL;)
        service_forget_node(v, n);
    if (n->stale)
        s->stale_count--;
    forget_verdicts(s, n);
    nodeset_remove(&s->nodes, n);
}

static void on_node(struct scheduler *s, const struct store_event *ev)
{
    const Skep__Node *before = (const Skep__Node *)ev->before;
    const Skep__Node *after = (const Skep__Node *)ev->after;
    struct snode *n = nodeset_find(&s->nodes, before != NULL ? before->id : after->id);

    if (after == NULL) {
        if (n != NULL)
            remove_node(s, n);
        return;
    }
    if (n == NULL) {
        n = nodeset_add(&s->nodes, after);
        n->stale = true; /* tasks may be bound to it already */
        s->stale_count++;
        s->node_epoch++;
        return;
    }
    bool help = snode_may_help(n->object, after);
    snode_describe(n, after);
    if (help) {
        s->node_epoch++;
        forget_verdicts(s, n);
    }
}

static void on_cluster(struct scheduler *s, const Skep__Cluster *c)
{
    const Skep__Driver *d = c != NULL && c->spec != NULL ? c->spec->log_driver : NULL;
    const char *name = d != NULL ? d->name : "";

    if (s->log_driver != NULL && strcmp(s->log_driver, name) == 0)
        return;
    free(s->log_driver);
    s->log_driver = xstrdup(name);
    s->node_epoch++;
    forget_verdicts(s, NULL);
}

static void scheduler_on_event(void *core, const struct store_event *ev)
{
    struct scheduler *s = core;

    if (s->store == NULL)
        return; /* not leading: start() reads everything */
    if (ev->kind == SKEP__KIND__KIND_TASK)
        on_task(s, (const Skep__Task *)ev->before, (const Skep__Task *)ev->after);
    else if (ev->kind == SKEP__KIND__KIND_NODE)
        on_node(s, ev);
    else if (ev->kind == SKEP__KIND__KIND_CLUSTER)
        on_cluster(s, (const Skep__Cluster *)ev->after);
}

static void scheduler_start(void *core, const struct core_env *env)
{
    struct scheduler *s = core;
    const ProtobufCMessage *o;

    scheduler_stop(s);
    s->store = env->store;
    on_cluster(s, store_cluster(s->store));
    for (o = store_first(s->store, SKEP__KIND__KIND_NODE); o != NULL;
         o = store_after(s->store, SKEP__KIND__KIND_NODE, object_id(o)))
        (void)nodeset_add(&s->nodes, (const Skep__Node *)o);
    for (o = store_first(s->store, SKEP__KIND__KIND_TASK); o != NULL;
         o = store_after(s->store, SKEP__KIND__KIND_TASK, object_id(o)))
        on_task(s, NULL, (const Skep__Task *)o);
    s->retried_ms = 0;
}

/* ---- deciding ---- */

/* For messages that only borrow it. */
static char *text(const char *constant)
{
    return (char *)(uintptr_t)constant;
}

static void write_status(const struct round *r, const char *task_id, const char *node_id,
                         const Skep__TaskStatus *status)
{
    Skep__TaskDelta d = SKEP__TASK_DELTA__INIT;
    Skep__TaskStatus stamped = *status;

    stamped.timestamp = r->env->wall_ns;
    d.task_id = text(task_id);
    d.node_id = text(node_id);
    d.status = &stamped;
    store_tx_task(r->tx, &d);
}

/* n is booked. */
static void assign(const struct round *r, struct item *item, struct snode *n)
{
    struct scheduler *s = r->s;
    Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;

    item_unwait(item);
    if (s->flight_count == s->flight_capacity) {
        s->flight_capacity = MAX(s->flight_capacity * 2, (size_t)64);
        s->flight = xrealloc_array(s->flight, s->flight_capacity, sizeof(struct item *));
    }
    s->flight[s->flight_count++] = item;
    item->flight = (uint32_t)s->flight_count;
    item->node = n;
    status.state = SKEP__TASK_STATE__TASK_ASSIGNED;
    status.message = text(item->preassigned ? "scheduler confirmed task can run on preassigned node"
                                            : "scheduler assigned task to node");
    write_status(r, item->id, item->preassigned ? "" : n->object->id, &status);
}

/* Says on the task why it waits. Known to be new. */
static void explain(const struct round *r, const struct item *item, char *why)
{
    Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;

    status.state = SKEP__TASK_STATE__TASK_PENDING;
    status.message = text("pending task scheduling");
    status.error = why;
    write_status(r, item->id, "", &status);
}

/* The node of an older task in the same slot, where the new one may stand beside it for a while
 * although the service is at its max_replicas there (start-first updates). */
static struct snode *beside_predecessor(const struct round *r, const struct item *item)
{
    const struct group *g = item->group;
    struct store_iter it, other;

    for (const Skep__Task *t = store_slot_tasks(r->s->store, g->service->id, item->slot, &it);
         t != NULL && t->slot == item->slot; t = store_iter_next(&it)) {
        struct snode *n = nodeset_find(&r->s->nodes, t->node_id);
        uint32_t allowance = 0;

        if (n == NULL || !is_active(t) || t->spec_version == g->spec_version)
            continue;
        for (const Skep__Task *u =
                 store_slot_tasks(r->s->store, g->service->id, item->slot, &other);
             u != NULL && u->slot == item->slot; u = store_iter_next(&other))
            allowance += is_active(u) && strcmp(u->node_id, t->node_id) == 0;
        if (filter_all(r->s, g, n, allowance) == SCHEDULER_PASS)
            return n;
    }
    return NULL;
}

/* A task whose node is given: only checked. */
static void verify(const struct round *r, struct item *item)
{
    const Skep__Task *t = store_task(r->s->store, item->id);
    struct snode *n = t != NULL ? nodeset_find(&r->s->nodes, t->node_id) : NULL;

    if (n == NULL)
        return;
    enum scheduler_filter filter = filter_all(r->s, item->group, n, 0);
    if (filter == SCHEDULER_PASS) {
        snode_use(n, item->group, true);
        assign(r, item, n);
        return;
    }
    item->group->blocked_by_use = item->group->blocked_by_use || filter == SCHEDULER_RESOURCE ||
                                  filter == SCHEDULER_HOST_PORT || filter == SCHEDULER_MAX_REPLICAS;
    char *why = explain_one(filter, network_error(&item->group->needs, n->object));
    if (hash_str(why, 0) != item->text_hash)
        explain(r, item, why);
    free(why);
}

/* Writes the group's explanation on those waiting tasks that do not carry it yet. */
static void explain_group(const struct round *r, struct group *g)
{
    uint64_t now = r->env->now_ms;
    bool renew = g->explained_ms == 0 || now >= g->explained_ms + SCHEDULER_EXPLAIN_MS;
    size_t nodes[SCHEDULER_FILTER_COUNT];

    filter_count(r->s, g, nodes);
    char *why =
        explain_text(nodes, nodes[SCHEDULER_NETWORK] > 0 ? filter_network_error(r->s, g) : "");
    uint64_t hash = hash_str(why, 0);
    g->explain_at_ms = CORE_NEVER;
    for (struct list *l = g->waiting.next; l != &g->waiting; l = l->next) {
        const struct item *item = CONTAINER_OF(l, struct item, link);

        if (item->text_hash == hash || item->preassigned)
            continue;
        if (item->text_hash != 0 && !renew) {
            g->explain_at_ms = g->explained_ms + SCHEDULER_EXPLAIN_MS;
            continue;
        }
        if (store_tx_full(r->tx)) {
            g->explain_at_ms = now;
            break;
        }
        explain(r, item, why);
    }
    if (renew && g->explain_at_ms == CORE_NEVER)
        g->explained_ms = now;
    free(why);
}

/* How nodes are found for one group in one run. */
enum choosing {
    CHOOSE_FEW,    /* among the least loaded nodes */
    CHOOSE_BEGIN,  /* all nodes have to be asked */
    CHOOSE_SPREAD, /* they have been */
    CHOOSE_NONE,   /* all are full */
};

/* A node, already booked, for one task that is not bound to one. */
static struct snode *choose(const struct round *r, struct item *item, enum choosing *how)
{
    struct group *g = item->group;
    struct snode *n = NULL;

    if (*how == CHOOSE_FEW) {
        n = few_take(r->s, g, r->env->wall_ns);
        if (n == NULL)
            *how = CHOOSE_BEGIN;
    }
    if (*how == CHOOSE_BEGIN) {
        spread_begin(r->s->spread, r->s, g, r->env->wall_ns);
        *how = CHOOSE_SPREAD;
    }
    if (*how == CHOOSE_SPREAD) {
        n = spread_take(r->s->spread);
        if (n == NULL)
            *how = CHOOSE_NONE;
    }
    if (n != NULL || g->needs.max_replicas == 0)
        return n;
    n = beside_predecessor(r, item);
    if (n != NULL)
        snode_use(n, g, true);
    return n;
}

/* Decides all that can be decided in this transaction; false: it is full. */
static bool place_group(const struct round *r, struct group *g)
{
    enum choosing how = few_suits(r->s, g) ? CHOOSE_FEW : CHOOSE_BEGIN;

    for (struct list *l = g->waiting.next, *next; l != &g->waiting; l = next) {
        struct item *item = CONTAINER_OF(l, struct item, link);

        next = l->next;
        __builtin_prefetch(next);
        __builtin_prefetch((const uint8_t *)next + 64);
        if (store_tx_full(r->tx)) {
            group_queue(r->s, g, false);
            return false;
        }
        if (item->preassigned) {
            verify(r, item);
            continue;
        }
        struct snode *n = choose(r, item, &how);
        if (n != NULL)
            assign(r, item, n);
        else if (g->needs.max_replicas == 0)
            break;
    }
    if (g->waiting_count == 0)
        return true;
    g->node_epoch = r->s->node_epoch;
    g->use_epoch = r->s->use_epoch;
    group_queue(r->s, g, true);
    explain_group(r, g);
    return g->explain_at_ms > r->env->now_ms;
}

/* Something happened that may let the group in. */
static bool has_hope(const struct scheduler *s, const struct group *g)
{
    return g->node_epoch != s->node_epoch || (g->blocked_by_use && g->use_epoch != s->use_epoch);
}

/* Returns when to come back to this group. */
static uint64_t retry_group(const struct round *r, struct group *g, bool *tried)
{
    struct scheduler *s = r->s;
    uint64_t now = r->env->now_ms, due = s->retried_ms + SCHEDULER_RETRY_MS;

    if (has_hope(s, g)) {
        if (s->retried_ms != 0 && now < due)
            return due; /* with its explanation, if that is due earlier */
        *tried = true;
        if (!place_group(r, g))
            return now;
    } else if (g->explain_at_ms <= now) {
        explain_group(r, g);
    }
    return g->waiting_count > 0 ? g->explain_at_ms : CORE_NEVER;
}

/* Tries blocked groups again. Returns when to come back. */
static uint64_t retry(const struct round *r)
{
    struct scheduler *s = r->s;
    struct list *last = s->blocked.prev; /* groups that stay blocked go behind it */
    uint64_t next = CORE_NEVER;
    bool tried = false, end = list_empty(&s->blocked);

    for (struct list *l = s->blocked.next, *after; !end; l = after) {
        after = l->next;
        end = l == last;
        next = MIN(next, retry_group(r, CONTAINER_OF(l, struct group, queue), &tried));
        if (store_tx_full(r->tx)) {
            next = r->env->now_ms;
            break;
        }
    }
    if (tried)
        s->retried_ms = r->env->now_ms;
    return next;
}

/* Counts anew what is used on nodes that have just appeared. */
static void rebuild_stale(struct scheduler *s)
{
    for (size_t i = 0; i < s->nodes.capacity && s->stale_count > 0; i++) {
        struct snode *n = s->nodes.nodes[i];
        struct store_iter it;

        if (n == NULL || !n->stale)
            continue;
        n->stale = false;
        s->stale_count--;
        for (const Skep__Task *t = store_node_tasks(s->store, n->object->id, &it); t != NULL;
             t = store_iter_next(&it)) {
            struct group *g = group_find(s, t->service_id, t->spec_version);

            if (uses_node(t) && g != NULL)
                snode_use(n, g, is_active(t));
        }
    }
}

/* Those that were sent come first in the list until their fate is known. */
static bool end_stopped(const struct round *r)
{
    struct scheduler *s = r->s;
    size_t seen = 0;

    for (; seen < s->stopped_count && !store_tx_full(r->tx); seen++) {
        Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;
        char *id = s->stopped[seen];

        if (!is_stopped(store_task(s->store, id))) {
            free(id);
            continue;
        }
        status.state = SKEP__TASK_STATE__TASK_SHUTDOWN;
        status.message = text("task stopped before it was assigned to a node");
        write_status(r, id, "", &status);
        s->stopped[s->stopped_sent++] = id;
    }
    bool all = seen == s->stopped_count;
    s->stopped_count -= seen - s->stopped_sent;
    if (s->stopped_count > s->stopped_sent)
        memmove(s->stopped + s->stopped_sent, s->stopped + seen,
                (s->stopped_count - s->stopped_sent) * sizeof(char *));
    return all;
}

static uint64_t scheduler_run(void *core, const struct core_env *env, struct store_tx *tx)
{
    struct scheduler *s = core;
    struct round r = { s, env, tx };

    ASSERT(s->flight_count == 0 && s->stopped_sent == 0);
    s->store = env->store;
    rebuild_stale(s);
    if (!end_stopped(&r))
        return env->now_ms;
    while (!list_empty(&s->fresh)) {
        if (!place_group(&r, CONTAINER_OF(s->fresh.next, struct group, queue)))
            return env->now_ms;
    }
    return retry(&r);
}

static void scheduler_on_result(void *core, int rc)
{
    struct scheduler *s = core;

    for (size_t i = 0; i < s->flight_count; i++) {
        struct item *item = s->flight[i];

        if (item == NULL)
            continue; /* an event has settled it */
        unbook(s, item);
        item_wait(item);
        /* 0: the store left it out, e.g. because the node is gone; tried again, but not at once. */
        group_queue(s, item->group, rc == 0);
        s->node_epoch += rc == 0;
    }
    s->flight_count = s->flight_confirmed = 0;
    for (size_t i = 0; i < s->stopped_sent && rc == 0; i++)
        free(s->stopped[i]);
    if (rc == 0) {
        s->stopped_count -= s->stopped_sent;
        if (s->stopped_count > 0)
            memmove(s->stopped, s->stopped + s->stopped_sent, s->stopped_count * sizeof(char *));
    } else {
        s->node_epoch++; /* explanations may not have been written */
    }
    s->stopped_sent = 0;
}

const struct core_ops scheduler_ops = {
    .name = "scheduler",
    .start = scheduler_start,
    .stop = scheduler_stop,
    .on_event = scheduler_on_event,
    .run = scheduler_run,
    .on_result = scheduler_on_result,
};
