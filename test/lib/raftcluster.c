#include "test/lib/raftcluster.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/assert.h"
#include "common/buf.h"
#include "common/clock.h"
#include "managerd/io/bytes.h"
#include "managerd/raft/codec.h"
#include "test/lib/tmpdir.h"

struct packet {
    struct packet *next;
    size_t from, to;
    uint64_t token; /* 0: a message; else a chunk */
    struct buf bytes;
};

/* ---- state machine ---- */

static void add_value(struct cluster_node *n, uint64_t value)
{
    if (n->value_count == n->value_capacity) {
        n->value_capacity = MAX(n->value_capacity * 2, (size_t)64);
        n->values = xrealloc_array(n->values, n->value_capacity, sizeof(*n->values));
    }
    n->values[n->value_count++] = value;
}

static void fsm_apply(void *ctx, uint64_t index, uint64_t term, const uint8_t *data, size_t size)
{
    struct cluster_node *n = ctx;

    (void)term;
    ASSERT(index > n->applied_index);
    ASSERT(size >= 8);
    n->applied_index = index;
    add_value(n, get_u64(data));
}

struct fsm_snapshot {
    uint8_t *bytes;
    size_t size;
    size_t at;
};

static void *fsm_snapshot_begin(void *ctx)
{
    struct cluster_node *n = ctx;
    struct fsm_snapshot *s = xcalloc(1, sizeof(*s));

    s->size = n->value_count * sizeof(*n->values);
    s->bytes = xmalloc(s->size);
    if (s->size > 0)
        memcpy(s->bytes, n->values, s->size);
    return s;
}

static size_t fsm_snapshot_next(void *snapshot, uint8_t *mem, size_t max)
{
    struct fsm_snapshot *s = snapshot;
    size_t size = MIN(max, s->size - s->at);

    memcpy(mem, s->bytes + s->at, size);
    s->at += size;
    return size;
}

static void fsm_snapshot_end(void *ctx, void *snapshot)
{
    struct cluster_node *n = ctx;
    struct fsm_snapshot *s = snapshot;

    n->snapshots_taken++;
    free(s->bytes);
    free(s);
}

static int fsm_install_begin(void *ctx, uint64_t index)
{
    struct cluster_node *n = ctx;

    (void)index;
    free(n->installing);
    n->installing = NULL;
    n->installing_bytes = 0;
    return 0;
}

static int fsm_install_feed(void *ctx, const uint8_t *mem, size_t size, struct err *e)
{
    struct cluster_node *n = ctx;

    (void)e;
    n->installing = xrealloc(n->installing, n->installing_bytes + size);
    memcpy((uint8_t *)n->installing + n->installing_bytes, mem, size);
    n->installing_bytes += size;
    return 0;
}

static int fsm_install_finish(void *ctx, uint64_t index, struct err *e)
{
    struct cluster_node *n = ctx;

    (void)e;
    n->value_count = 0;
    for (size_t i = 0; i < n->installing_bytes / 8; i++)
        add_value(n, n->installing[i]);
    free(n->installing);
    n->installing = NULL;
    n->applied_index = index;
    n->snapshots_installed++;
    return 0;
}

static const struct raft_fsm_ops fsm_ops = {
    fsm_apply,         fsm_snapshot_begin, fsm_snapshot_next,  fsm_snapshot_end,
    fsm_install_begin, fsm_install_feed,   fsm_install_finish,
};

/* ---- transport ---- */

static size_t find_node(const struct cluster *c, const struct raft_member *to)
{
    size_t i = 0;

    while (i < c->count && !id_equal(&c->nodes[i].node_id, &to->node_id))
        i++;
    return i;
}

static struct cluster_node *by_ctx(void *ctx)
{
    return ctx;
}

struct chunk_back {
    struct cluster *cluster;
    size_t to; /* whom the answer goes to */
    uint64_t token;
};

static void on_chunk_done(void *ctx, int rc, const uint8_t *reply, size_t size, const struct err *e)
{
    struct chunk_back *b = ctx;
    struct cluster_node *n = &b->cluster->nodes[b->to];

    (void)e;
    if (n->node != NULL)
        raft_node_chunk_done(n->node, b->token, rc, reply, size);
    free(b);
}

static void deliver_chunk(struct cluster *c, struct packet *p)
{
    struct cluster_node *from = &c->nodes[p->from], *to = &c->nodes[p->to];
    struct chunk_back *b = xmalloc(sizeof(*b));

    *b = (struct chunk_back){ c, p->from, p->token };
    if (to->node == NULL || !from->up[p->to] || to->chunks_lost > 0) {
        to->chunks_lost -= to->chunks_lost > 0;
        on_chunk_done(b, -ERR_UNAVAILABLE, NULL, 0, NULL);
        return;
    }
    raft_node_receive_chunk(to->node, from->node_id.s, p->bytes.data, p->bytes.size, on_chunk_done,
                            b);
}

static void deliver(struct cluster *c, struct packet *p)
{
    struct cluster_node *from = &c->nodes[p->from], *to = &c->nodes[p->to];
    struct raft_message *m;
    struct err e = { 0 };

    if (p->token != 0) {
        if (from->node != NULL)
            deliver_chunk(c, p);
        return;
    }
    if (to->node == NULL || !from->up[p->to])
        return;
    int rc = raft_message_unpack(p->bytes.data, p->bytes.size, &m, &e);
    ASSERT(rc == 0);
    rc = raft_node_receive(to->node, from->node_id.s, m, &e);
    to->refused += rc < 0;
    raft_message_free(m);
}

static void on_deliver(void *ctx, uint64_t now_ms)
{
    struct cluster *c = ctx;
    struct packet *list = c->first;

    (void)now_ms;
    c->first = NULL;
    c->end = &c->first;
    for (struct packet *next; list != NULL; list = next) {
        next = list->next;
        deliver(c, list);
        buf_deinit(&list->bytes);
        free(list);
    }
}

static struct packet *queue(struct cluster_node *from, const struct raft_member *to)
{
    struct cluster *c = from->cluster;
    size_t i = find_node(c, to);
    struct packet *p;

    if (i == c->count)
        return NULL;
    p = xcalloc(1, sizeof(*p));
    p->from = (size_t)(from - c->nodes);
    p->to = i;
    buf_init(&p->bytes, RAFT_MESSAGE_BYTES_MAX);
    *c->end = p;
    c->end = &p->next;
    c->packets++;
    if (!loop_timer_armed(&c->deliver))
        loop_timer_set(c->loop, &c->deliver, loop_now_ms(c->loop), on_deliver, c);
    return p;
}

static void transport_send(void *ctx, const struct raft_member *to, const struct raft_message *m)
{
    struct packet *p = queue(by_ctx(ctx), to);

    if (p != NULL) {
        int rc = raft_message_pack(m, &p->bytes);
        ASSERT(rc == 0);
    }
}

static void transport_send_chunk(void *ctx, const struct raft_member *to, const uint8_t *chunk,
                                 size_t size, uint64_t token)
{
    struct packet *p = queue(by_ctx(ctx), to);

    ASSERT(p != NULL);
    p->token = token;
    int rc = buf_append(&p->bytes, chunk, size);
    ASSERT(rc == 0);
}

static const struct raft_transport_ops transport_ops = { transport_send, transport_send_chunk };

/* ---- events ---- */

static void on_leader(void *ctx, const struct raft_status *status)
{
    by_ctx(ctx)->leader = *status;
    by_ctx(ctx)->leader_events++;
}

static void on_removed(void *ctx)
{
    by_ctx(ctx)->removed = true;
}

static void on_fatal(void *ctx, const struct err *e)
{
    by_ctx(ctx)->fatal = *e;
}

static const struct raft_node_events events = { .on_leader = on_leader,
                                                .on_removed = on_removed,
                                                .on_fatal = on_fatal };

/* ---- life ---- */

void cluster_init(struct cluster *c, size_t count, char *base)
{
    struct prng p;

    prng_init(&p, 5);
    memset(c, 0, sizeof(*c));
    c->loop = loop_new(NULL);
    ASSERT(c->loop != NULL);
    c->inbox = inbox_new(c->loop, RAFT_NODE_INBOX_MAX * CLUSTER_NODES_MAX, NULL);
    ASSERT(c->inbox != NULL);
    c->count = count;
    c->cluster_id = id_from_prng(&p);
    c->end = &c->first;
    c->base = base;
    c->options.heartbeat_ms = 20;
    c->options.election_ms = 150;
    c->options.segment_bytes = 256 << 10;
    for (size_t i = 0; i < count; i++) {
        struct cluster_node *n = &c->nodes[i];

        n->cluster = c;
        n->node_id = id_from_prng(&p);
        n->raft_id = 100 + i;
        n->directory = xasprintf("%s/n%zu", base, i);
        for (size_t j = 0; j < count; j++)
            n->up[j] = true;
    }
}

static void drop_packets(struct cluster *c)
{
    for (struct packet *p; (p = c->first) != NULL;) {
        c->first = p->next;
        buf_deinit(&p->bytes);
        free(p);
    }
    c->end = &c->first;
}

void cluster_deinit(struct cluster *c)
{
    for (size_t i = 0; i < c->count; i++) {
        cluster_stop(c, i);
        free(c->nodes[i].directory);
        free(c->nodes[i].values);
        free(c->nodes[i].installing);
        if (c->nodes[i].crash != NULL)
            crash_disk_free(c->nodes[i].crash);
    }
    loop_timer_cancel(c->loop, &c->deliver);
    drop_packets(c);
    for (size_t i = 0; i < c->result_count; i++)
        free(c->results[i]);
    free(c->results);
    inbox_free(c->inbox);
    loop_free(c->loop);
    tmpdir_remove(c->base);
}

int cluster_start(struct cluster *c, size_t i, enum raft_node_start how, struct err *e)
{
    struct cluster_node *n = &c->nodes[i];
    struct raft_node_options o = c->options;
    CLEANUP_FREE char *address = xasprintf("host%zu:2377", i);
    struct err own = { 0 };

    ASSERT(n->node == NULL);
    n->value_count = 0;
    n->applied_index = 0;
    n->removed = false;
    n->fatal = (struct err){ 0 };
    n->leader = (struct raft_status){ 0 };
    o.loop = c->loop;
    o.inbox = c->inbox;
    o.directory = n->directory;
    o.start = how;
    o.raft_id = n->raft_id;
    o.cluster_id = c->cluster_id;
    o.node_id = n->node_id;
    o.address = address;
    o.fsm = &fsm_ops;
    o.transport = c->transport != NULL ? c->transport : &transport_ops;
    o.events = &events;
    o.ctx = n;
    if (n->crash != NULL) {
        o.disk_hook = crash_disk_hook;
        o.disk_hook_ctx = n->crash;
    }
    (void)mkdir(n->directory, 0700); /* there already when started again */
    n->node = raft_node_new(&o, e != NULL ? e : &own);
    if (n->node != NULL)
        return 0;
    return -(e != NULL ? e : &own)->code;
}

void cluster_stop(struct cluster *c, size_t i)
{
    raft_node_free(c->nodes[i].node);
    c->nodes[i].node = NULL;
    c->nodes[i].leader = (struct raft_status){ 0 };
}

void cluster_link(struct cluster *c, size_t a, size_t b, bool up)
{
    c->nodes[a].up[b] = up;
    c->nodes[b].up[a] = up;
}

bool cluster_run(struct cluster *c, cluster_fn *fn, void *arg, uint32_t wait_ms)
{
    uint64_t until = clock_now_ms() + wait_ms;

    while (clock_now_ms() < until) {
        if (fn != NULL && fn(c, arg))
            return true;
        int rc = loop_run_once(c->loop, 10, NULL);
        ASSERT(rc == 0);
    }
    return fn != NULL && fn(c, arg);
}

size_t cluster_leader(const struct cluster *c)
{
    size_t leader = CLUSTER_NODES_MAX;
    uint64_t term = 0;

    for (size_t i = 0; i < c->count; i++) {
        const struct cluster_node *n = &c->nodes[i];

        if (n->node == NULL || n->fatal.code != 0 || !n->leader.established ||
            n->leader.term <= term)
            continue;
        term = n->leader.term;
        leader = i;
    }
    return leader;
}

bool cluster_has_leader(struct cluster *c, void *unused)
{
    (void)unused;
    return cluster_leader(c) != CLUSTER_NODES_MAX;
}

bool cluster_even(struct cluster *c, void *unused)
{
    size_t leader = cluster_leader(c);
    struct raft_status s, other;

    (void)unused;
    if (leader == CLUSTER_NODES_MAX)
        return false;
    raft_node_status(c->nodes[leader].node, &s);
    for (size_t i = 0; i < c->count; i++) {
        if (c->nodes[i].node == NULL)
            continue;
        raft_node_status(c->nodes[i].node, &other);
        if (other.applied_index != s.last_index)
            return false;
    }
    return true;
}

/* ---- work ---- */

static void on_result(void *ctx, int rc, uint64_t index)
{
    (void)index;
    *(int *)ctx = rc;
}

void cluster_propose(struct cluster *c, size_t i, uint64_t value, int *result)
{
    uint8_t *data = xcalloc(1, 200);
    struct raft_status s;

    put_u64(data, value);
    raft_node_status(c->nodes[i].node, &s);
    *result = CLUSTER_RESULT_OPEN;
    raft_node_propose(c->nodes[i].node, s.term, data, 200, on_result, result);
}

static bool is_done(struct cluster *c, void *result)
{
    (void)c;
    return *(int *)result != CLUSTER_RESULT_OPEN;
}

struct wait {
    size_t leader;
    const int *results;
    size_t count;
};

static bool is_settled(struct cluster *c, void *arg)
{
    const struct wait *w = arg;
    size_t open = 0;

    for (size_t i = 0; i < w->count; i++)
        open += w->results[i] == CLUSTER_RESULT_OPEN;
    return open == 0 || c->nodes[w->leader].fatal.code != 0;
}

bool cluster_write(struct cluster *c, uint64_t first, size_t count)
{
    int *results = xcalloc(count, sizeof(*results));
    bool ok = cluster_run(c, cluster_has_leader, NULL, 30000);
    struct wait w = { cluster_leader(c), results, count };

    c->results = xrealloc_array(c->results, c->result_count + 1, sizeof(*c->results));
    c->results[c->result_count++] = results;
    if (!ok)
        return false;
    for (size_t i = 0; i < count; i++)
        cluster_propose(c, w.leader, first + i, &results[i]);
    ok = cluster_run(c, is_settled, &w, 30000);
    for (size_t i = 0; i < count; i++)
        ok = ok && results[i] == 0;
    return ok;
}

static bool change(struct cluster *c, const struct raft_ev_config_change *change)
{
    int *result = xcalloc(1, sizeof(*result));

    for (int tries = 0; tries < 500; tries++) {
        if (!cluster_run(c, cluster_has_leader, NULL, 3000))
            return false;
        *result = CLUSTER_RESULT_OPEN;
        raft_node_change_config(c->nodes[cluster_leader(c)].node, change, on_result, result);
        if (!cluster_run(c, is_done, result, 3000))
            return false;
        if (*result == 0) {
            free(result);
            return true;
        }
        (void)cluster_run(c, NULL, NULL, 10); /* not caught up yet */
    }
    return false;
}

bool cluster_add(struct cluster *c, size_t i)
{
    struct cluster_node *n = &c->nodes[i];
    CLEANUP_FREE char *address = xasprintf("host%zu:2377", i);
    struct raft_ev_config_change add = { .change = RAFT_CHANGE_ADD_LEARNER,
                                         .raft_id = n->raft_id,
                                         .incarnation = raft_node_incarnation(n->node),
                                         .node_id = n->node_id,
                                         .address = address };
    struct raft_ev_config_change promote = { .change = RAFT_CHANGE_PROMOTE, .raft_id = n->raft_id };

    return change(c, &add) && change(c, &promote);
}

bool cluster_form(struct cluster *c)
{
    if (cluster_start(c, 0, RAFT_NODE_BOOTSTRAP, NULL) < 0)
        return false;
    for (size_t i = 1; i < c->count; i++) {
        if (cluster_start(c, i, RAFT_NODE_JOIN, NULL) < 0 || !cluster_add(c, i))
            return false;
    }
    return cluster_run(c, cluster_even, NULL, 5000);
}

const char *cluster_compare(const struct cluster *c)
{
    const struct cluster_node *first = NULL;

    for (size_t i = 0; i < c->count; i++) {
        const struct cluster_node *n = &c->nodes[i];

        if (n->node == NULL)
            continue;
        if (first == NULL)
            first = n;
        if (n->value_count != first->value_count)
            return "another number of values";
        if (n->value_count > 0 &&
            memcmp(n->values, first->values, n->value_count * sizeof(*n->values)) != 0)
            return "other values";
    }
    return NULL;
}
