/* Clients with one operation at a time, timeouts, repeated requests, and the check that what they
 * saw is linearizable (R13, R14) and took effect at most once.
 *
 * The committed log is the witness: an operation's place is the entry that took effect, or the last
 * entry in the state that was read. Real time: no operation may take a place before one that was
 * complete when it began. Values: every answer is the oracle's state at its place. Together with
 * state machine safety (R5) that is linearizability, in constant time per operation. */
#include <string.h>

#include "common/assert.h"
#include "test/sim/sim.h"

enum {
    CLIENT_TIMEOUT_US = 3 * SIM_S / 2,
    CLIENT_RETRY_US = 50 * SIM_MS,
    PENDING_MAX = 64,
};

#define U(x) ((unsigned long long)(x))

enum what { WHAT_WAKE, WHAT_REQUEST, WHAT_REPLY, WHAT_PROPOSE };

struct parcel { /* mem of the workload's events */
    enum what what;
    uint32_t client;
    uint64_t attempt;
    uint64_t index; /* REPLY: place in the log of the effect, or of the state that was read */
    uint64_t value;
    bool refused;
    int leader;                 /* REPLY, refused: slot, -1 unknown */
    struct sim_command command; /* PROPOSE */
};

struct client {
    struct sim_command command;
    bool busy;
    uint64_t first_attempt; /* answers to any attempt of the current operation count */
    uint64_t attempt;
    uint64_t floor_index; /* largest place in the log completed before this operation began */
    uint32_t node;        /* whom to ask */
    bool hinted;          /* node was named as leader */
};

struct pending { /* a proposal, waiting for its index */
    uint64_t index;
    uint64_t attempt;
    uint32_t client;
};

struct clients {
    struct client clients[SIM_CLIENTS_MAX];
    uint64_t attempts;
    struct pending pending[SIM_NODES_MAX][PENDING_MAX];
    uint32_t pending_count[SIM_NODES_MAX];
    uint64_t last_index[SIM_NODES_MAX]; /* what each node has applied last, and its result */
    struct sim_result last_result[SIM_NODES_MAX];
    uint64_t completed_index;                     /* largest place of a completed operation */
    uint32_t effective_sequence[SIM_CLIENTS_MAX]; /* last request that took effect, and where */
    uint64_t effective_index[SIM_CLIENTS_MAX];
    uint64_t (*values)[SIM_KEYS]; /* by index: the registers after it */
    uint64_t value_count;
    uint64_t value_capacity;
};

static struct clients *clients_of(const struct sim *s)
{
    return s->workload_state;
}

static void post(struct sim *s, uint64_t delay_us, int node, const struct parcel *p)
{
    struct sim_event e = { .type = node < 0 ? SIM_EV_WORKLOAD : SIM_EV_WORKLOAD_AT,
                           .node = node < 0 ? 0 : (uint32_t)node,
                           .a = node < 0 ? 0 : s->nodes[node].life,
                           .mem = xmemdup(p, sizeof(*p)) };

    sim_schedule(s, delay_us, &e);
}

static uint64_t client_delay(struct sim *s)
{
    return 200 + sim_exponential(&s->client, s->rates.delay_mean_us);
}

static bool client_link_loses(struct sim *s)
{
    return !s->calm && prng_chance_ppm(&s->client, s->rates.loss_ppm / 2);
}

static void reply(struct sim *s, struct parcel *p)
{
    p->what = WHAT_REPLY;
    if (!client_link_loses(s))
        post(s, client_delay(s), -1, p);
}

static void refuse(struct sim *s, uint32_t node, uint32_t client, uint64_t attempt)
{
    struct parcel p = { .client = client,
                        .attempt = attempt,
                        .refused = true,
                        .leader = sim_slot(s, s->nodes[node].raft->leader) };

    reply(s, &p);
}

static void begin(struct sim *s, uint32_t client)
{
    struct clients *w = clients_of(s);
    struct client *c = &w->clients[client];
    uint32_t sequence = c->command.sequence;

    memset(&c->command, 0, sizeof(c->command)); /* padding too: it goes into the log */
    c->command.client = client;
    c->command.key = (uint32_t)prng_below(&s->client, SIM_KEYS);
    c->command.op = (enum sim_op)prng_below(&s->client, 3);
    c->command.value = prng_next(&s->client) >> 8;
    c->command.sequence = sequence + (c->command.op != SIM_OP_READ);
    c->busy = true;
    c->floor_index = w->completed_index;
    c->first_attempt = w->attempts + 1;
}

/* Anyone; once a core is healed, anyone of the core. */
static uint32_t pick_node(struct sim *s)
{
    uint32_t start = (uint32_t)prng_below(&s->client, s->node_count);

    for (uint32_t i = 0; s->calm && i < s->node_count; i++) {
        if (s->core[(start + i) % s->node_count])
            return (start + i) % s->node_count;
    }
    return start;
}

static void on_wake(struct sim *s, const struct parcel *p)
{
    struct clients *w = clients_of(s);
    struct client *c = &w->clients[p->client];
    struct parcel next = { .client = p->client };

    if (p->attempt != c->attempt)
        return; /* it has moved on */
    if (!c->busy)
        begin(s, p->client);
    if (!c->hinted && (c->attempt != 0 || prng_chance_ppm(&s->client, 100000)))
        c->node = pick_node(s);
    c->hinted = false;
    c->attempt = ++w->attempts;
    next.attempt = c->attempt;
    next.what = WHAT_REQUEST;
    if (!client_link_loses(s))
        post(s, client_delay(s), (int)c->node, &next);
    next.what = WHAT_WAKE; /* the timeout */
    post(s, CLIENT_TIMEOUT_US, -1, &next);
}

static void on_request(struct sim *s, uint32_t node, const struct parcel *p)
{
    struct sim_node *n = &s->nodes[node];
    struct client *c = &clients_of(s)->clients[p->client];
    struct parcel propose = { .what = WHAT_PROPOSE, .client = p->client, .attempt = p->attempt };

    if (!n->up || p->attempt < c->first_attempt || !c->busy)
        return;
    if (c->command.op == SIM_OP_READ) {
        struct raft_event ev = { .type = RAFT_EV_READ_INDEX,
                                 .read_id = p->attempt * SIM_CLIENTS_MAX + p->client };

        if (s->full)
            sim_full_read(s, node, ev.read_id);
        else if (sim_node_step(s, node, &ev) < 0)
            refuse(s, node, p->client, p->attempt);
        return;
    }
    if (n->raft->state != RAFT_LEADER) {
        refuse(s, node, p->client, p->attempt);
        return;
    }
    /* The transaction is computed now and proposed a little later, when the term may be over. */
    propose.command = c->command;
    propose.command.term = n->raft->hard.term;
    post(s, prng_below(&s->client, s->rates.propose_delay_us + 1), (int)node, &propose);
}

static void on_propose(struct sim *s, uint32_t node, const struct parcel *p)
{
    struct clients *w = clients_of(s);
    struct sim_node *n = &s->nodes[node];
    struct raft_data *data = raft_data_new(&p->command, sizeof(p->command));
    struct raft_event ev = { .type = RAFT_EV_PROPOSE,
                             .propose = { .term = p->command.term, .data = &data, .count = 1 } };

    if (s->full) {
        sim_full_propose(s, node, p->command.term, data, p->attempt * SIM_CLIENTS_MAX + p->client);
        raft_data_unref(data);
        return;
    }
    if (w->pending_count[node] == PENDING_MAX)
        w->pending_count[node] = 0; /* their clients time out and ask again */
    if (sim_node_step(s, node, &ev) < 0)
        refuse(s, node, p->client, p->attempt);
    else if (n->up && n->first_index != 0)
        w->pending[node][w->pending_count[node]++] =
            (struct pending){ .index = n->first_index, .attempt = p->attempt, .client = p->client };
    raft_data_unref(data);
}

/* Remembers the registers after each index, as the first node to apply it has them. */
static void note_values(struct clients *w, uint64_t index, const struct sim_registers *m)
{
    if (index < w->value_count)
        return;
    while (index >= w->value_capacity) {
        w->value_capacity = MAX((uint64_t)1024, w->value_capacity * 2);
        w->values = xrealloc_array(w->values, w->value_capacity, sizeof(*w->values));
    }
    for (; w->value_count <= index; w->value_count++) /* no-ops and configurations in between */
        memcpy(w->values[w->value_count],
               w->value_count < index && w->value_count > 0 ? w->values[w->value_count - 1]
                                                            : m->values,
               sizeof(m->values));
}

static void clients_applied(struct sim *s, uint32_t node, const struct raft_entry *e,
                            const struct sim_result *result)
{
    struct clients *w = clients_of(s);
    uint32_t kept = 0;

    note_values(w, e->index, s->nodes[node].machine);
    w->last_index[node] = e->index;
    w->last_result[node] = *result;
    if (e->type != RAFT_ENTRY_NORMAL)
        return;
    if (((const struct sim_command *)e->data->bytes)->term != e->term)
        sim_fail(s, "R21: entry %llu@%llu was computed under another term", U(e->index),
                 U(e->term));
    if (result->fresh && result->sequence > w->effective_sequence[result->client]) {
        w->effective_sequence[result->client] = result->sequence;
        w->effective_index[result->client] = e->index;
    } else if (result->fresh && result->sequence == w->effective_sequence[result->client] &&
               w->effective_index[result->client] != e->index) {
        sim_fail(s, "R14: a request took effect twice, at %llu and %llu",
                 U(w->effective_index[result->client]), U(e->index));
    }
    for (uint32_t i = 0; i < w->pending_count[node]; i++) {
        struct pending *p = &w->pending[node][i];
        struct parcel r = { .client = p->client, .attempt = p->attempt, .value = result->value };

        if (p->index > e->index) {
            w->pending[node][kept++] = *p;
        } else if (p->index == e->index && p->client == result->client &&
                   result->sequence == w->effective_sequence[result->client]) {
            r.index = w->effective_index[result->client];
            reply(s, &r);
        }
    }
    w->pending_count[node] = kept;
}

/* A full node tells at once after it has applied the entry. */
static void clients_proposed(struct sim *s, uint32_t node, uint64_t token, int rc, uint64_t index)
{
    struct clients *w = clients_of(s);
    const struct sim_result *result = &w->last_result[node];
    struct parcel r = { .client = (uint32_t)(token % SIM_CLIENTS_MAX),
                        .attempt = token / SIM_CLIENTS_MAX,
                        .value = result->value };

    if (rc == -ERR_UNAVAILABLE)
        return; /* nobody knows: the client's timeout decides */
    if (rc < 0) {
        refuse(s, node, r.client, r.attempt);
        return;
    }
    if (w->last_index[node] != index || result->client != r.client) {
        sim_fail(s, "R14: node %u reports a proposal at %llu, having applied %llu of client %u",
                 node, U(index), U(w->last_index[node]), result->client);
        return;
    }
    if (result->sequence != w->effective_sequence[r.client])
        return;
    r.index = w->effective_index[r.client];
    reply(s, &r);
}

static void clients_read_done(struct sim *s, uint32_t node, const struct raft_read *read)
{
    struct sim_node *n = &s->nodes[node];
    struct parcel r = { .client = (uint32_t)(read->id % SIM_CLIENTS_MAX),
                        .attempt = read->id / SIM_CLIENTS_MAX };
    struct client *c = &clients_of(s)->clients[r.client];

    if (read->failed) {
        refuse(s, node, r.client, r.attempt);
        return;
    }
    if (read->index > n->machine_index)
        sim_fail(s, "R13: node %u answers a read of %llu at %llu", node, U(read->index),
                 U(n->machine_index));
    if (!c->busy || r.attempt < c->first_attempt)
        return;
    r.index = n->machine_index;
    r.value = ((const struct sim_registers *)n->machine)->values[c->command.key];
    reply(s, &r);
}

static void complete(struct sim *s, const struct parcel *r)
{
    struct clients *w = clients_of(s);
    struct client *c = &w->clients[r->client];
    struct parcel wake = { .what = WHAT_WAKE, .client = r->client };
    bool read = c->command.op == SIM_OP_READ;

    if (r->index < c->floor_index || (!read && r->index == c->floor_index))
        sim_fail(s,
                 "%s: client %u got an answer from %llu, though %llu was complete before it asked",
                 read ? "R13" : "R14", r->client, U(r->index), U(c->floor_index));
    else if (r->index >= w->value_count ? r->value != 0
                                        : r->value != w->values[r->index][c->command.key])
        sim_fail(s, "R14: client %u got a value that key %u did not have at %llu", r->client,
                 c->command.key, U(r->index));
    w->completed_index = MAX(w->completed_index, r->index);
    s->completed++;
    c->busy = false;
    c->attempt = 0;
    post(s, sim_exponential(&s->client, s->rates.think_us), -1, &wake);
}

static void on_reply(struct sim *s, const struct parcel *r)
{
    struct client *c = &clients_of(s)->clients[r->client];
    struct parcel wake = { .what = WHAT_WAKE, .client = r->client, .attempt = r->attempt };

    if (!c->busy || r->attempt < c->first_attempt)
        return;
    if (!r->refused) {
        complete(s, r);
        return;
    }
    if (r->attempt != c->attempt)
        return;
    /* Ask whom it named, or anybody, a little later; the timeout still stands behind it. */
    c->hinted = r->leader >= 0 && (!s->calm || s->core[r->leader]);
    if (c->hinted)
        c->node = (uint32_t)r->leader;
    post(s, CLIENT_RETRY_US + prng_below(&s->client, CLIENT_RETRY_US), -1, &wake);
}

/* ---- workload -------------------------------------------------------------------------------- */

static void clients_event(struct sim *s, struct sim_event *e)
{
    const struct parcel *p = e->mem;

    switch (p->what) {
    case WHAT_WAKE:
        on_wake(s, p);
        break;
    case WHAT_REQUEST:
        on_request(s, e->node, p);
        break;
    case WHAT_REPLY:
        on_reply(s, p);
        break;
    case WHAT_PROPOSE:
        if (s->nodes[e->node].up && s->nodes[e->node].life == e->a)
            on_propose(s, e->node, p);
        break;
    }
}

static void *clients_create(struct sim *s)
{
    struct clients *w = xcalloc(1, sizeof(*w));

    for (uint32_t i = 0; i < s->rates.clients; i++) {
        struct parcel wake = { .what = WHAT_WAKE, .client = i };

        post(s, 1 + prng_below(&s->client, 100 * SIM_MS), -1, &wake);
    }
    return w;
}

static void clients_destroy(void *workload)
{
    struct clients *w = workload;

    free(w->values);
    free(w);
}

static void clients_forget(struct sim *s, uint32_t node)
{
    clients_of(s)->pending_count[node] = 0;
}

const struct sim_workload_ops sim_clients = {
    .machine = &sim_registers,
    .create = clients_create,
    .destroy = clients_destroy,
    .event = clients_event,
    .applied = clients_applied,
    .read_done = clients_read_done,
    .proposed = clients_proposed,
    .forget = clients_forget,
};
