/* Status reports of agents on their way into transactions. A call's reports are answered together,
 * once all of them are committed. */
#include "managerd/dispatcher/internal.h"

#include <string.h>

#include "common/assert.h"

void report_queue_push(struct report_queue *q, struct report_batch *b)
{
    b->link = NULL;
    *q->last = b;
    q->last = &b->link;
}

struct report_batch *report_queue_pop(struct report_queue *q)
{
    struct report_batch *b = q->first;

    if (b != NULL) {
        q->first = b->link;
        if (q->first == NULL)
            q->last = &q->first;
        b->link = NULL;
    }
    return b;
}

void report_batch_free(struct dispatcher *d, struct report_batch *b)
{
    ASSERT(d->report_count >= b->request->n_updates);
    d->report_count -= b->request->n_updates;
    skep__task_status_request__free_unpacked(b->request, NULL);
    for (size_t i = 0; i < b->unknown_count; i++)
        free(b->unknown[i]);
    free(b->unknown);
    free(b);
}

void report_queue_clear(struct dispatcher *d, struct report_queue *q)
{
    struct report_batch *b;

    while ((b = report_queue_pop(q)) != NULL)
        report_batch_free(d, b);
}

static void batch_unknown(struct report_batch *b, const char *id)
{
    b->unknown = xrealloc_array(b->unknown, b->unknown_count + 1, sizeof(*b->unknown));
    b->unknown[b->unknown_count++] = xstrdup(id);
}

/* A worker may only speak of its own tasks, never move one backwards (dropped here, and again at
 * apply), and never decide what managers decide. */
static void report_one(struct report_batch *b, const Skep__TaskStatusUpdate *u,
                       const struct core_env *env, struct store_tx *tx)
{
    const Skep__Task *t = store_task(env->store, u->task_id);

    if (t == NULL || strcmp(t->node_id, b->node_id) != 0) {
        batch_unknown(b, u->task_id);
        return;
    }
    if (u->status->state < t->status->state || u->status->state > SKEP__TASK_STATE__TASK_REJECTED)
        return;

    Skep__TaskStatus status = *u->status;
    Skep__TaskDelta delta = SKEP__TASK_DELTA__INIT;

    status.applied_at = env->wall_ns;
    delta.task_id = t->id;
    delta.status = &status;
    store_tx_task(tx, &delta);
}

void report_fill(struct dispatcher *d, const struct core_env *env, struct store_tx *tx)
{
    while (d->waiting.first != NULL) {
        struct report_batch *b = d->waiting.first;

        while (b->next < b->request->n_updates) {
            if (store_tx_full(tx))
                return;
            report_one(b, b->request->updates[b->next++], env, tx);
        }
        report_queue_push(&d->flying, report_queue_pop(&d->waiting));
    }
}
