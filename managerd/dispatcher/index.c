#include "managerd/dispatcher/index.h"

#include <string.h>
#include <utlist.h>

#include "common/assert.h"

/* ---- networks ---- */

struct net *index_net(struct index *x, const char *id)
{
    struct net *n;

    HASH_FIND_STR(x->nets, id, n);
    return n;
}

struct net *index_net_get(struct index *x, const char *id)
{
    struct net *n = index_net(x, id);

    if (n != NULL)
        return n;
    n = xcalloc(1, sizeof(*n));
    (void)snprintf(n->id, sizeof(n->id), "%s", id);
    HASH_ADD_STR(x->nets, id, n);
    return n;
}

static void entry_free(struct index *x, struct entry *e)
{
    struct record *r = e->record;
    struct entry **at = &r->entries;

    while (*at != e)
        at = &(*at)->sibling;
    *at = e->sibling;
    DL_DELETE(e->net->log, e);
    if (e->gone)
        e->net->gone_count--;
    else
        e->net->live_count--;
    free(e);
    index_record_put(x, r);
}

/* Forgets the oldest gone entries but for `keep` of them. */
static void forget_gone(struct index *x, struct net *n, size_t keep)
{
    struct entry *e = n->log, *next;

    for (; e != NULL && n->gone_count > keep; e = next) {
        next = e->next;
        if (!e->gone)
            continue;
        n->horizon = e->version;
        entry_free(x, e);
    }
}

static void unwake(struct index *x, const struct net *n)
{
    struct net **at = &x->woken;

    while (*at != n)
        at = &(*at)->woken_next;
    *at = n->woken_next;
}

void index_net_put(struct index *x, struct net *n)
{
    if (n->told_count == 0)
        forget_gone(x, n, 0);
    if (n->head != NULL || n->log != NULL || n->place_count > 0 || n->told_count > 0)
        return;
    if (n->woken)
        unwake(x, n);
    HASH_DEL(x->nets, n);
    free(n->places);
    free(n);
}

void index_wake(struct index *x, struct net *n)
{
    if (n->woken)
        return;
    n->woken = true;
    n->woken_next = x->woken;
    x->woken = n;
}

bool index_set_ingress(struct index *x, struct net *n, bool ingress)
{
    if (n->ingress == ingress)
        return false;
    n->ingress = ingress;
    if (ingress) {
        x->ingress = xrealloc_array(x->ingress, x->ingress_count + 1, sizeof(struct net *));
        x->ingress[x->ingress_count++] = n;
        return true;
    }
    for (size_t i = 0; i < x->ingress_count; i++) {
        if (x->ingress[i] == n) {
            x->ingress[i] = x->ingress[--x->ingress_count];
            break;
        }
    }
    return true;
}

/* ---- records ---- */

struct record *index_record(const struct index *x, Skep__NetworkRecordKind kind, const char *id)
{
    struct record *r;

    HASH_FIND_STR(x->records[kind], id, r);
    return r;
}

void index_record_add(struct index *x, struct record *r, Skep__NetworkRecordKind kind,
                      const char *id)
{
    r->kind = kind;
    (void)snprintf(r->id, sizeof(r->id), "%s", id);
    HASH_ADD_STR(x->records[kind], id, r);
}

static bool record_needed(const struct record *r)
{
    if (r->object != NULL || r->entries != NULL)
        return true;
    if (r->kind == SKEP__NETWORK_RECORD_KIND__RECORD_PEER) {
        const struct place *p = (const struct place *)r;

        return p->net_count > 0 || p->endpoints != NULL;
    }
    if (r->kind == SKEP__NETWORK_RECORD_KIND__RECORD_ENDPOINT) {
        const struct endpoint *ep = (const struct endpoint *)r;

        return ep->hold != NULL || ep->place != NULL;
    }
    return false;
}

void index_record_put(struct index *x, struct record *r)
{
    if (record_needed(r))
        return;
    HASH_DEL(x->records[r->kind], r);
    if (r->kind == SKEP__NETWORK_RECORD_KIND__RECORD_PEER) {
        free(((struct place *)r)->nets);
    } else if (r->kind == SKEP__NETWORK_RECORD_KIND__RECORD_ENDPOINT) {
        struct endpoint *ep = (struct endpoint *)r;

        free(ep->nets);
        free(ep->name);
        free(ep->hostname);
    }
    free(r);
}

void index_set_object(struct record *r, const ProtobufCMessage *object)
{
    const ProtobufCMessage *old = r->object;

    r->object = object != NULL ? object_ref(object) : NULL;
    if (old != NULL)
        object_unref(old);
}

/* The entry's content changed: to the end of the log. */
static void entry_touch(struct index *x, struct entry *e)
{
    DL_DELETE(e->net->log, e);
    e->version = ++x->clock;
    DL_APPEND(e->net->log, e);
    index_wake(x, e->net);
}

static void entry_leave(struct index *x, struct entry *e)
{
    struct net *n = e->net;
    size_t keep = MAX(n->live_count, (size_t)INDEX_GONE_MIN);

    e->gone = true;
    n->live_count--;
    n->gone_count++;
    entry_touch(x, e);
    if (n->gone_count > 2 * keep) /* rarely, so that each costs little */
        forget_gone(x, n, keep);
}

static void entry_join(struct index *x, struct record *r, struct net *n)
{
    struct entry *e = xcalloc(1, sizeof(*e));

    e->net = n;
    e->record = r;
    e->version = ++x->clock;
    e->sibling = r->entries;
    r->entries = e;
    n->live_count++;
    DL_APPEND(n->log, e);
    index_wake(x, n);
}

static bool has_net(struct net *const *nets, size_t count, const struct net *n)
{
    for (size_t i = 0; i < count; i++) {
        if (nets[i] == n)
            return true;
    }
    return false;
}

static struct entry *entry_of(const struct record *r, const struct net *n)
{
    struct entry *e = r->entries;

    while (e != NULL && e->net != n)
        e = e->sibling;
    return e;
}

void index_record_sync(struct index *x, struct record *r, struct net *const *nets, size_t count,
                       bool changed)
{
    for (struct entry *e = r->entries, *next; e != NULL; e = next) {
        next = e->sibling;
        if (!e->gone && !has_net(nets, count, e->net))
            entry_leave(x, e);
    }
    for (size_t i = 0; i < count; i++) {
        struct entry *e = entry_of(r, nets[i]);

        if (e == NULL) {
            entry_join(x, r, nets[i]);
        } else if (e->gone) {
            e->gone = false;
            nets[i]->gone_count--;
            nets[i]->live_count++;
            entry_touch(x, e);
        } else if (changed) {
            entry_touch(x, e);
        }
    }
}

/* ---- places ---- */

struct place *index_place(const struct index *x, const char *node_id)
{
    return (struct place *)index_record(x, SKEP__NETWORK_RECORD_KIND__RECORD_PEER, node_id);
}

struct place *index_place_get(struct index *x, const char *node_id)
{
    struct place *p = index_place(x, node_id);

    if (p == NULL) {
        p = xcalloc(1, sizeof(*p));
        index_record_add(x, &p->record, SKEP__NETWORK_RECORD_KIND__RECORD_PEER, node_id);
    }
    return p;
}

static struct presence *presence_of(struct place *p, const struct net *n)
{
    for (size_t i = 0; i < p->net_count; i++) {
        if (p->nets[i].net == n)
            return &p->nets[i];
    }
    return NULL;
}

bool index_presence_add(struct place *p, struct net *n)
{
    struct presence *at = presence_of(p, n);

    if (at != NULL) {
        at->count++;
        return false;
    }
    if (p->net_count == p->net_capacity) {
        p->net_capacity = MAX(p->net_capacity * 2, (size_t)4);
        p->nets = xrealloc_array(p->nets, p->net_capacity, sizeof(*p->nets));
    }
    p->nets[p->net_count++] = (struct presence){ .net = n, .count = 1 };
    if (n->place_count == n->place_capacity) {
        n->place_capacity = MAX(n->place_capacity * 2, (size_t)4);
        n->places = xrealloc_array(n->places, n->place_capacity, sizeof(struct place *));
    }
    n->places[n->place_count++] = p;
    return true;
}

bool index_presence_drop(struct place *p, struct net *n)
{
    struct presence *at = presence_of(p, n);

    ASSERT(at != NULL && at->count > 0);
    if (--at->count > 0)
        return false;
    *at = p->nets[--p->net_count];
    for (size_t i = 0; i < n->place_count; i++) {
        if (n->places[i] == p) {
            n->places[i] = n->places[--n->place_count];
            break;
        }
    }
    return true;
}

/* ---- the end ---- */

static void record_destroy(struct index *x, struct record *r)
{
    index_set_object(r, NULL);
    if (r->kind == SKEP__NETWORK_RECORD_KIND__RECORD_PEER) {
        struct place *p = (struct place *)r;

        p->net_count = 0;
        p->endpoints = NULL;
    } else if (r->kind == SKEP__NETWORK_RECORD_KIND__RECORD_ENDPOINT) {
        struct endpoint *ep = (struct endpoint *)r;

        ep->hold = NULL;
        ep->place = NULL;
    }
    r->entries = NULL;
    index_record_put(x, r);
}

void index_clear(struct index *x)
{
    struct net *n, *next_net;
    struct record *r, *next;

    HASH_ITER(hh, x->nets, n, next_net)
    {
        struct entry *e, *after;

        DL_FOREACH_SAFE(n->log, e, after)
        {
            free(e);
        }
        HASH_DEL(x->nets, n);
        free(n->places);
        free(n);
    }
    for (size_t kind = 0; kind < INDEX_KINDS; kind++) {
        HASH_ITER(hh, x->records[kind], r, next)
        {
            record_destroy(x, r);
        }
    }
    free(x->ingress);
    *x = (struct index){ 0 };
}
