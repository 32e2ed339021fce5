/* Two-phase stop. When a task that others send requests to shall stop, first its endpoint record
 * turns DRAINING everywhere; its own node is told of the new desired state once every live session
 * that has the endpoint has asked on, which says that the record is in its kernel, or when
 * DISPATCHER_DRAIN_MS have passed. network.md 3.4.
 *
 * A hold is one such task. Each session keeps, in order of version, the holds that wait for it
 * (owed); a hold is over when nobody owes. Nothing is stored: after a change of leaders nothing is
 * held, because complete assignment sets tell everything at once. */
#include <string.h>
#include <utlist.h>

#include "common/assert.h"
#include "managerd/dispatcher/internal.h"

struct hold {
    struct endpoint *endpoint; /* NULL: over; some sessions have yet to forget it */
    uint64_t version;          /* of the index, with the endpoint DRAINING */
    uint64_t deadline_ms;      /* 0 until the next look at the time */
    size_t owed;
    struct hold *prev, *next;
};

bool drain_holds(const struct dispatcher *d, const char *task_id)
{
    const struct endpoint *ep =
        (const struct endpoint *)index_record(&d->index, RECORD_KIND(ENDPOINT), task_id);

    return ep != NULL && ep->hold != NULL;
}

static void hold_forget(struct hold *h)
{
    ASSERT(h->owed > 0);
    if (--h->owed == 0 && h->endpoint == NULL)
        free(h);
}

static void hold_end(struct dispatcher *d, struct hold *h)
{
    DL_DELETE(d->holds, h);
    h->endpoint->hold = NULL;
    h->endpoint = NULL;
    if (h->owed == 0)
        free(h);
}

/* Its node may know. */
static void hold_release(struct dispatcher *d, struct hold *h)
{
    struct endpoint *ep = h->endpoint;

    hold_end(d, h);
    assign_tell(d, ep->place->record.id, ep->record.id);
    if (ep->removed)
        endpoint_end(d, ep);
}

/* ---- who owes ---- */

static struct hold *owed_pop(struct session *s)
{
    struct hold *h = s->owed[s->owed_first++];

    if (s->owed_first == s->owed_count)
        s->owed_first = s->owed_count = 0;
    return h;
}

static void owed_push(struct session *s, struct hold *h)
{
    while (s->owed_first < s->owed_count && s->owed[s->owed_first]->endpoint == NULL)
        hold_forget(owed_pop(s)); /* a session that never acknowledges does not grow */
    if (s->owed_first > 0 && s->owed_count == s->owed_capacity) {
        s->owed_count -= s->owed_first;
        memmove(s->owed, s->owed + s->owed_first, s->owed_count * sizeof(struct hold *));
        s->owed_first = 0;
    }
    if (s->owed_count == s->owed_capacity) {
        s->owed_capacity = MAX(s->owed_capacity * 2, (size_t)8);
        s->owed = xrealloc_array(s->owed, s->owed_capacity, sizeof(struct hold *));
    }
    s->owed[s->owed_count++] = h;
    h->owed++;
}

/* An agent that has never asked may still have tables of another leader's, if it makes any. */
static bool concerned(const struct dispatcher *d, const struct session *s)
{
    const Skep__Node *node;

    if (s->closed)
        return false;
    if (s->net_asked)
        return true;
    node = store_node(d->index.store, s->node_id);
    return node != NULL && node->description != NULL && node->description->network != NULL;
}

static void owe(struct dispatcher *d, struct session *s, struct hold *h, uint64_t stamp)
{
    if (s == NULL || s->hold_stamp == stamp || !concerned(d, s))
        return;
    s->hold_stamp = stamp;
    owed_push(s, h);
}

void drain_begin(struct dispatcher *d, struct endpoint *ep)
{
    uint64_t stamp = ++d->index.stamp;
    struct session *s, *next;

    ASSERT(ep->hold == NULL && ep->state == ENDPOINT_DRAINING);
    struct hold *h = xcalloc(1, sizeof(*h));
    h->version = d->index.clock;
    for (size_t i = 0; i < ep->net_count; i++) {
        const struct net *n = ep->nets[i];

        for (size_t k = 0; n->ready && !n->ingress && k < n->place_count; k++)
            owe(d, session_find(d, n->places[k]->record.id), h, stamp);
        if (!n->ready || !n->ingress)
            continue;
        HASH_ITER(hh, d->sessions, s, next)
        {
            owe(d, s, h, stamp);
        }
    }
    if (h->owed == 0) {
        free(h);
        return;
    }
    h->endpoint = ep;
    ep->hold = h;
    DL_APPEND(d->holds, h);
}

void drain_cancel(struct dispatcher *d, struct endpoint *ep)
{
    struct hold *h = ep->hold;

    if (h == NULL)
        return;
    hold_end(d, h);
    assign_tell(d, ep->place->record.id, ep->record.id);
}

void drain_acknowledge(struct dispatcher *d, struct session *s, uint64_t version)
{
    while (s->owed_first < s->owed_count && s->owed[s->owed_first]->version <= version) {
        struct hold *h = owed_pop(s);
        bool last = h->endpoint != NULL && h->owed == 1;

        if (last) {
            h->owed = 0;
            hold_release(d, h);
        } else {
            hold_forget(h);
        }
    }
}

void drain_forgive(struct dispatcher *d, struct session *s)
{
    drain_acknowledge(d, s, UINT64_MAX);
    free(s->owed);
    s->owed = NULL;
    s->owed_first = s->owed_count = s->owed_capacity = 0;
}

uint64_t drain_run(struct dispatcher *d, uint64_t now_ms)
{
    struct hold *h = d->holds != NULL ? d->holds->prev : NULL; /* the newest */

    for (; h != NULL && h->deadline_ms == 0; h = h != d->holds ? h->prev : NULL)
        h->deadline_ms = now_ms + DISPATCHER_DRAIN_MS;
    while (d->holds != NULL && now_ms >= d->holds->deadline_ms)
        hold_release(d, d->holds);
    return d->holds != NULL ? d->holds->deadline_ms : CORE_NEVER;
}
