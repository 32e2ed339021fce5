/* What a node's agent is told of overlay networks, as differences to what it was told before: the
 * positions of a session in the logs of its networks (index.h). Complete sets are the same walk
 * from the beginning, so one that is cut goes on where it stopped, and what changes meanwhile comes
 * at the end of the log. */
#include <string.h>
#include <utlist.h>

#include "common/assert.h"
#include "managerd/dispatcher/internal.h"

enum {
    /* Thousands of sessions are not answered at every change: each at most once in as many
     * milliseconds as there are sessions, divided by this. */
    PACE_SESSIONS_PER_MS = 10,
    BURST = 128, /* answers in a row, then the manager looks at the rest of its work */
};

/* ---- lists of sessions to answer ---- */

static void unlist(struct dispatcher *d, struct session *s)
{
    if (s->net_list == NET_QUEUED)
        DL_DELETE2(d->net_queue, s, net_prev, net_next);
    else if (s->net_list == NET_PACED)
        DL_DELETE2(d->net_paced, s, net_prev, net_next);
    s->net_list = NET_IDLE;
}

static void enqueue(struct dispatcher *d, struct session *s)
{
    unlist(d, s);
    s->net_list = NET_QUEUED;
    DL_APPEND2(d->net_queue, s, net_prev, net_next);
}

void networks_wake_session(struct dispatcher *d, struct session *s)
{
    if (s != NULL && s->net_parked != NULL && s->net_list == NET_IDLE)
        enqueue(d, s);
}

void networks_wake_node(struct dispatcher *d, const char *node_id)
{
    networks_wake_session(d, session_find(d, node_id));
}

static void wake_everywhere(struct dispatcher *d)
{
    struct session *s, *next;

    HASH_ITER(hh, d->sessions, s, next)
    {
        networks_wake_session(d, s);
    }
}

/* Sessions of networks that changed. */
static void wake(struct dispatcher *d)
{
    bool all = d->wake_all;

    while (d->index.woken != NULL) {
        struct net *n = d->index.woken;

        d->index.woken = n->woken_next;
        n->woken = false;
        all = all || n->ingress;
        for (size_t i = 0; i < n->place_count; i++)
            networks_wake_node(d, n->places[i]->record.id);
    }
    if (all)
        wake_everywhere(d);
    d->wake_all = false;
}

/* ---- what a session has been told ---- */

static void told_drop(struct dispatcher *d, struct session *s, size_t i)
{
    struct net *n = s->told[i].net;

    s->told[i] = s->told[--s->told_count];
    n->told_count--;
    index_net_put(&d->index, n);
}

static void told_clear(struct dispatcher *d, struct session *s)
{
    while (s->told_count > 0)
        told_drop(d, s, s->told_count - 1);
}

void networks_reset(struct dispatcher *d, struct session *s)
{
    told_clear(d, s);
    s->net_incomplete = true;
    s->net_answered = 0;
    s->net_check = 0;
}

void networks_forget(struct dispatcher *d, struct session *s)
{
    unlist(d, s);
    told_clear(d, s);
    free(s->told);
    s->told = NULL;
    s->told_capacity = 0;
    s->net_asked = false;
    s->net_more = false;
    drain_forgive(d, s);
}

static void told_add(struct dispatcher *d, struct session *s, struct net *n, uint64_t stamp)
{
    if (n->told_stamp == stamp || !n->ready)
        return;
    if (s->told_count == s->told_capacity) {
        s->told_capacity = MAX(s->told_capacity * 2, (size_t)2);
        s->told = xrealloc_array(s->told, s->told_capacity, sizeof(*s->told));
    }
    s->told[s->told_count++] = (struct told){ .net = n, .since = d->index.clock };
    n->told_stamp = stamp;
    n->told_count++;
}

/* Stamps the networks that are present on the session's node; returns how many there are. */
static size_t stamp_present(struct dispatcher *d, const struct session *s, uint64_t stamp)
{
    const struct place *p = index_place(&d->index, s->node_id);
    size_t count = d->index.ingress_count;

    for (size_t i = 0; i < d->index.ingress_count; i++)
        d->index.ingress[i]->stamp = stamp;
    for (size_t i = 0; p != NULL && i < p->net_count; i++) {
        struct net *n = p->nets[i].net;

        if (!n->ready || n->stamp == stamp)
            continue;
        n->stamp = stamp;
        count++;
    }
    return count;
}

static bool pending(struct dispatcher *d, const struct session *s)
{
    uint64_t stamp = ++d->index.stamp;
    size_t present = stamp_present(d, s, stamp);

    if (s->net_incomplete || present != s->told_count || check_due(d, s))
        return true;
    for (size_t i = 0; i < s->told_count; i++) {
        const struct told *t = &s->told[i];

        if (t->net->stamp != stamp || t->leaving ||
            (t->net->log != NULL && t->net->log->prev->version > t->synced))
            return true;
    }
    return false;
}

/* False: what some network forgot, this session would have had to be told. */
static bool told_follow(struct session *s, uint64_t stamp)
{
    for (size_t i = 0; i < s->told_count; i++) {
        struct told *t = &s->told[i];

        if (t->net->horizon > MAX(t->synced, t->since))
            return false;
        t->net->told_stamp = stamp;
        if (t->net->stamp != stamp)
            t->leaving = true;
        else if (t->leaving)
            *t = (struct told){ .net = t->net }; /* back before all of it had gone */
    }
    return true;
}

static void told_update(struct dispatcher *d, struct session *s, uint64_t stamp)
{
    const struct place *p = index_place(&d->index, s->node_id);

    (void)stamp_present(d, s, stamp);
    if (!told_follow(s, stamp)) {
        networks_reset(d, s);
        stamp = ++d->index.stamp;
        (void)stamp_present(d, s, stamp);
    }
    for (size_t i = 0; i < d->index.ingress_count; i++)
        told_add(d, s, d->index.ingress[i], stamp);
    for (size_t i = 0; p != NULL && i < p->net_count; i++)
        told_add(d, s, p->nets[i].net, stamp);
}

/* ---- one answer ---- */

struct answer {
    struct index *index;
    struct arena *arena;
    uint64_t stamp;
    size_t bytes, record_max, removed_max;
    Skep__NetworksResponse *out;
};

static void *room(const struct answer *an, void *array, size_t count, size_t *max)
{
    if (count < *max)
        return array;
    *max = *max == 0 ? 16 : *max * 2;
    void *grown = arena_array(an->arena, *max, sizeof(void *));
    if (count > 0)
        memcpy(grown, array, count * sizeof(void *));
    return grown;
}

static void add_removed(struct answer *an, struct record *r)
{
    Skep__NetworksResponse *out = an->out;
    Skep__NetworkRecordRef *ref = ARENA_NEW(an->arena, Skep__NetworkRecordRef);

    skep__network_record_ref__init(ref);
    ref->kind = r->kind;
    ref->id = arena_strdup(an->arena, r->id);
    out->removed = room(an, out->removed, out->n_removed, &an->removed_max);
    out->removed[out->n_removed++] = ref;
    an->bytes += ID_CHARS + 8;
}

static void add_record(struct answer *an, struct record *r)
{
    Skep__NetworksResponse *out = an->out;
    const struct entry *e = r->entries;

    if (r->stamp == an->stamp)
        return; /* it came with another network */
    r->stamp = an->stamp;
    while (e != NULL && (e->gone || e->net->stamp != an->stamp))
        e = e->sibling;
    if (e == NULL) {
        add_removed(an, r);
        return;
    }
    Skep__NetworkRecord *record = record_build(an->index, r, an->stamp, an->arena);
    out->records = room(an, out->records, out->n_records, &an->record_max);
    out->records[out->n_records++] = record;
    an->bytes += skep__network_record__get_packed_size(record) + 8;
}

/* The first entry after a version: near the end of the log, or its begin. */
static struct entry *entry_after(const struct net *n, uint64_t version)
{
    struct entry *e = n->log;

    if (version == 0 || e == NULL)
        return e;
    e = e->prev;
    if (e->version <= version)
        return NULL;
    while (e != n->log && e->prev->version > version)
        e = e->prev;
    return e;
}

/* False when the answer is full. */
static bool answer_net(struct answer *an, struct told *t)
{
    uint64_t *at = t->leaving ? &t->left : &t->synced;

    for (struct entry *e = entry_after(t->net, *at); e != NULL; e = e->next) {
        if (an->bytes >= DISPATCHER_NETWORKS_BYTES_MAX)
            return false;
        if (!e->gone || e->version > t->since)
            add_record(an, e->record);
        *at = e->version;
    }
    return true;
}

static void answer(struct dispatcher *d, struct session *s, const struct core_env *env,
                   struct arena *a, Skep__NetworksResponse *ret)
{
    struct answer an = { .index = &d->index, .arena = a, .out = ret };

    skep__networks_response__init(ret);
    told_update(d, s, ++d->index.stamp);
    an.stamp = d->index.stamp;
    ret->complete = s->net_incomplete;
    s->net_incomplete = false;
    for (size_t i = 0; i < s->told_count && !ret->more;) {
        ret->more = !answer_net(&an, &s->told[i]);
        if (!ret->more && s->told[i].leaving)
            told_drop(d, s, i);
        else
            i++;
    }
    s->net_more = ret->more;
    if (!ret->more) {
        s->net_answered = d->index.clock;
        ret->check = check_tell(d, s);
    }
    ret->token = s->net_token = ++d->net_tokens;
    s->net_next_ms = env->now_ms + HASH_COUNT(d->sessions) / PACE_SESSIONS_PER_MS;
}

/* ---- calls ---- */

int dispatcher_networks(struct dispatcher *d, const struct dispatcher_call *c,
                        const Skep__NetworksRequest *req, Skep__NetworksResponse *ret,
                        struct err *e)
{
    struct session *s = session_check(d, c->node_id, req->session_id, e);

    if (s == NULL)
        return -ERR_STALE;
    session_return_call(d, &s->net_parked);
    unlist(d, s);
    s->net_asked = true;
    if (req->since == 0 || req->since != s->net_token)
        networks_reset(d, s);
    else
        drain_acknowledge(d, s, s->net_answered);
    bool due = pending(d, s);
    if (due && (s->net_incomplete || s->net_more || c->env->now_ms >= s->net_next_ms)) {
        answer(d, s, c->env, c->arena, ret);
        return 0;
    }
    s->net_parked = c->call;
    s->net_until_ms = c->until_ms;
    if (due)
        enqueue(d, s); /* next_call sees to its pace */
    return DISPATCHER_PARKED;
}

static void pace(struct dispatcher *d, uint64_t now_ms)
{
    while (d->net_paced != NULL && now_ms >= d->net_paced->net_next_ms)
        enqueue(d, d->net_paced);
}

bool networks_next_call(struct dispatcher *d, const struct core_env *env, struct arena *a,
                        struct dispatcher_due *ret)
{
    wake(d);
    pace(d, env->now_ms);
    while (d->net_queue != NULL && d->net_burst < BURST) {
        struct session *s = d->net_queue;

        unlist(d, s);
        if (s->net_parked == NULL || (env->now_ms < s->net_until_ms && !pending(d, s)))
            continue;
        if (env->now_ms < s->net_next_ms && env->now_ms < s->net_until_ms) {
            s->net_list = NET_PACED;
            DL_APPEND2(d->net_paced, s, net_prev, net_next);
            continue;
        }
        ret->call = TAKE_PTR(s->net_parked);
        ret->kind = DISPATCHER_NETWORKS;
        answer(d, s, env, a, &ret->networks);
        d->net_burst++;
        return true;
    }
    d->net_burst = 0;
    return false;
}
