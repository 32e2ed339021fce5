/* The core's life cycle and the order of its work; the parts are in session.c (registration and
 * heartbeats), assign.c (what a node is told to run), report.c (what it reports), nodes.c (node
 * status); index.c, events.c (overlay networks and who is in them), networks.c, records.c (what a
 * node is told of them), drain.c (stopping without losing a request), check.c. */
#include "managerd/dispatcher/dispatcher.h"

#include <string.h>

#include "common/assert.h"
#include "managerd/dispatcher/internal.h"

enum { SCAN_INTERVAL_MS = 500, ORPHAN_INTERVAL_MS = 60000 };

struct dispatcher *dispatcher_new(void)
{
    struct dispatcher *d = xcalloc(1, sizeof(*d));

    d->waiting.last = &d->waiting.first;
    d->flying.last = &d->flying.first;
    d->done.last = &d->done.first;
    return d;
}

static void dispatcher_stop(void *core)
{
    struct dispatcher *d = core;
    struct session *s, *next;

    HASH_ITER(hh, d->sessions, s, next)
    {
        session_drop(d, s);
    }
    node_changes_clear(&d->changes);
    node_changes_clear(&d->changes_flying);
    report_queue_clear(d, &d->waiting);
    report_queue_clear(d, &d->flying);
    report_queue_clear(d, &d->done);
    check_clear(d);
    ASSERT(d->holds == NULL); /* the sessions that owed are gone */
    index_clear(&d->index);
    free(d->returned);
    d->returned = NULL;
    d->returned_count = 0;
    d->leading = false;
}

void dispatcher_free(struct dispatcher *d)
{
    if (d == NULL)
        return;
    dispatcher_stop(d);
    free(d);
}

static void dispatcher_start(void *core, const struct core_env *env)
{
    struct dispatcher *d = core;

    ASSERT(!d->leading);
    d->leading = true;
    d->started_ms = env->now_ms;
    d->next_scan_ms = env->now_ms;
    d->next_orphan_ms = env->now_ms + ORPHAN_INTERVAL_MS;
    /* Greater than any that agents have heard of from leaders before. */
    d->check_number = MAX(d->check_number, (uint64_t)env->wall_ns / 1000000);
    events_start(d, env->store);
}

static void dispatcher_on_event(void *core, const struct store_event *ev)
{
    struct dispatcher *d = core;

    events_apply(d, ev); /* first: it knows what is held back */
    if (ev->kind == SKEP__KIND__KIND_TASK)
        assign_mark(d, ev);
    if (ev->kind == SKEP__KIND__KIND_NODE && ev->action == STORE_REMOVE) {
        struct session *s = session_find(d, object_id(ev->before));

        if (s != NULL) {
            session_return_calls(d, s);
            check_session_gone(d, s->node_id);
            session_drop(d, s);
        }
    }
}

static uint64_t dispatcher_run(void *core, const struct core_env *env, struct store_tx *tx)
{
    struct dispatcher *d = core;

    if (env->now_ms >= d->next_scan_ms) {
        node_scan(d, env);
        d->next_scan_ms = env->now_ms + SCAN_INTERVAL_MS;
    }
    uint64_t drain_ms = drain_run(d, env->now_ms);
    node_fill(d, env, tx);
    report_fill(d, env, tx);
    if (env->now_ms >= d->next_orphan_ms && !store_tx_full(tx)) {
        orphan_fill(d, env, tx);
        d->next_orphan_ms = env->now_ms + ORPHAN_INTERVAL_MS;
    }
    if (d->changes != NULL || d->waiting.first != NULL)
        return env->now_ms;
    return MIN(d->next_scan_ms, drain_ms);
}

static void dispatcher_on_result(void *core, int rc)
{
    struct dispatcher *d = core;
    struct report_batch *b;
    struct node_change *c, *next;

    while ((b = report_queue_pop(&d->flying)) != NULL) {
        if (rc == 0) {
            report_queue_push(&d->done, b);
        } else { /* a node object changed under us: nothing of the transaction happened; again */
            b->next = 0;
            report_queue_push(&d->waiting, b);
        }
    }
    HASH_ITER(hh, d->changes_flying, c, next)
    {
        HASH_DEL(d->changes_flying, c);
        struct node_change *newer;

        HASH_FIND_STR(d->changes, c->node_id, newer);
        if (rc == 0 || newer != NULL) {
            skep__node_description__free_unpacked(c->description, NULL);
            free(c);
        } else {
            HASH_ADD_STR(d->changes, node_id, c);
        }
    }
}

const struct core_ops dispatcher_ops = {
    .name = "dispatcher",
    .start = dispatcher_start,
    .stop = dispatcher_stop,
    .on_event = dispatcher_on_event,
    .run = dispatcher_run,
    .on_result = dispatcher_on_result,
};

static bool next_report(struct dispatcher *d, struct arena *a, struct dispatcher_due *ret)
{
    struct report_batch *b = report_queue_pop(&d->done);

    if (b == NULL)
        return false;
    ret->call = b->call;
    ret->kind = DISPATCHER_REPORT;
    skep__task_status_response__init(&ret->report);
    ret->report.n_unknown_tasks = b->unknown_count;
    ret->report.unknown_tasks = arena_array(a, b->unknown_count, sizeof(char *));
    for (size_t i = 0; i < b->unknown_count; i++)
        ret->report.unknown_tasks[i] = arena_strdup(a, b->unknown[i]);
    report_batch_free(d, b);
    return true;
}

static bool next_assignments(struct dispatcher *d, const struct core_env *env, struct arena *a,
                             struct dispatcher_due *ret)
{
    while (d->queue != NULL) {
        struct session *s = d->queue;

        d->queue = s->queue_next;
        s->queued = false;
        if (s->parked == NULL)
            continue;
        ret->call = TAKE_PTR(s->parked);
        ret->kind = DISPATCHER_ASSIGNMENTS;
        assign_answer(s, env, a, &ret->assignments);
        return true;
    }
    return false;
}

bool dispatcher_next_call(struct dispatcher *d, const struct core_env *env, struct arena *a,
                          struct dispatcher_due *ret)
{
    memset(ret, 0, sizeof(*ret));
    (void)drain_run(d, env->now_ms); /* also while a transaction is in flight */
    if (next_report(d, a, ret))
        return true;
    if (d->returned_count > 0) {
        ret->call = d->returned[--d->returned_count];
        ret->rc = -ERR_STALE;
        return true;
    }
    return check_next_call(d, env, a, ret) || next_assignments(d, env, a, ret) ||
           networks_next_call(d, env, a, ret);
}

void *dispatcher_take_call(struct dispatcher *d)
{
    struct report_queue *queues[] = { &d->done, &d->flying, &d->waiting };
    struct session *s, *next;

    for (size_t i = 0; i < ARRAY_LEN(queues); i++) {
        struct report_batch *b = report_queue_pop(queues[i]);

        if (b != NULL) {
            void *call = b->call;

            report_batch_free(d, b);
            return call;
        }
    }
    if (d->returned_count > 0)
        return d->returned[--d->returned_count];
    HASH_ITER(hh, d->sessions, s, next)
    {
        if (s->parked != NULL)
            return TAKE_PTR(s->parked);
        if (s->net_parked != NULL)
            return TAKE_PTR(s->net_parked);
    }
    return check_take_call(d);
}

size_t dispatcher_session_count(const struct dispatcher *d)
{
    return HASH_COUNT(d->sessions);
}
