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

enum { CLIENT_TIMEOUT_US = 3 * SIM_S / 2, CLIENT_RETRY_US = 50 * SIM_MS };

#define U(x) ((unsigned long long)(x))

static uint64_t client_delay(struct sim *s)
{
    return 200 + sim_exponential(&s->client, s->rates.delay_mean_us);
}

static bool client_link_loses(struct sim *s)
{
    return !s->calm && prng_chance_ppm(&s->client, s->rates.loss_ppm / 2);
}

static void reply(struct sim *s, uint32_t client, const struct sim_reply *r)
{
    struct sim_event e = { .type = SIM_EV_REPLY, .node = client };

    if (client_link_loses(s))
        return;
    e.mem = xmemdup(r, sizeof(*r));
    sim_schedule(s, client_delay(s), &e);
}

static void refuse(struct sim *s, uint32_t node, uint32_t client, uint64_t attempt)
{
    struct sim_reply r = { .attempt = attempt,
                           .refused = true,
                           .leader = sim_slot(s, s->nodes[node].raft->leader) };

    reply(s, client, &r);
}

static void begin(struct sim *s, uint32_t client)
{
    struct sim_client *c = &s->clients[client];
    uint32_t sequence = c->command.sequence;

    memset(&c->command, 0, sizeof(c->command)); /* padding too: it goes into the log */
    c->command.client = client;
    c->command.key = (uint32_t)prng_below(&s->client, SIM_KEYS);
    c->command.op = (enum sim_op)prng_below(&s->client, 3);
    c->command.value = prng_next(&s->client) >> 8;
    c->command.sequence = sequence + (c->command.op != SIM_OP_READ);
    c->busy = true;
    c->floor_index = s->oracle.completed_index;
    c->first_attempt = s->attempts + 1;
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

void sim_client_wake(struct sim *s, uint32_t client)
{
    struct sim_client *c = &s->clients[client];
    struct sim_event request = { .type = SIM_EV_REQUEST };
    struct sim_event timeout = { .type = SIM_EV_CLIENT, .node = client };

    if (!c->busy)
        begin(s, client);
    if (!c->hinted && (c->attempt != 0 || prng_chance_ppm(&s->client, 100000)))
        c->node = pick_node(s);
    c->hinted = false;
    c->attempt = ++s->attempts;
    request.node = c->node;
    request.a = client;
    request.b = c->attempt;
    if (!client_link_loses(s))
        sim_schedule(s, client_delay(s), &request);
    timeout.a = c->attempt;
    sim_schedule(s, CLIENT_TIMEOUT_US, &timeout);
}

void sim_client_request(struct sim *s, struct sim_event *e)
{
    struct sim_node *n = &s->nodes[e->node];
    struct sim_client *c = &s->clients[e->a];
    struct sim_event propose = { .type = SIM_EV_PROPOSE, .node = e->node, .a = n->life, .b = e->b };
    struct sim_command *command;

    if (!n->up || e->b < c->first_attempt || !c->busy)
        return;
    if (c->command.op == SIM_OP_READ) {
        struct raft_event ev = { .type = RAFT_EV_READ_INDEX,
                                 .read_id = e->b * SIM_CLIENTS_MAX + e->a };

        if (sim_node_step(s, e->node, &ev) < 0)
            refuse(s, e->node, (uint32_t)e->a, e->b);
        return;
    }
    if (n->raft->state != RAFT_LEADER) {
        refuse(s, e->node, (uint32_t)e->a, e->b);
        return;
    }
    /* The transaction is computed now and proposed a little later, when the term may be over. */
    command = xmemdup(&c->command, sizeof(*command));
    command->term = n->raft->hard.term;
    propose.mem = command;
    sim_schedule(s, prng_below(&s->client, s->rates.propose_delay_us + 1), &propose);
}

void sim_client_propose(struct sim *s, struct sim_event *e)
{
    struct sim_node *n = &s->nodes[e->node];
    const struct sim_command *command = e->mem;
    struct raft_data *data = raft_data_new(command, sizeof(*command));
    struct raft_event ev = { .type = RAFT_EV_PROPOSE,
                             .propose = { .term = command->term, .data = &data, .count = 1 } };

    if (n->pending_count == SIM_PENDING_MAX)
        n->pending_count = 0;
    if (sim_node_step(s, e->node, &ev) < 0)
        refuse(s, e->node, command->client, e->b);
    else if (n->up && n->first_index != 0)
        n->pending[n->pending_count++] = (struct sim_pending){ .index = n->first_index,
                                                               .attempt = e->b,
                                                               .client = command->client };
    raft_data_unref(data);
}

void sim_client_applied(struct sim *s, uint32_t node, const struct raft_entry *e,
                        const struct sim_result *result)
{
    struct sim_node *n = &s->nodes[node];
    struct sim_oracle *o = &s->oracle;
    struct sim_command command;
    uint32_t kept = 0;

    memcpy(&command, e->data->bytes, sizeof(command));
    if (command.term != e->term)
        sim_fail(s, "R21: entry %llu@%llu was computed under term %llu", U(e->index), U(e->term),
                 U(command.term));
    if (result->fresh && result->sequence > o->effective_sequence[result->client]) {
        o->effective_sequence[result->client] = result->sequence;
        o->effective_index[result->client] = e->index;
    } else if (result->fresh && result->sequence == o->effective_sequence[result->client] &&
               o->effective_index[result->client] != e->index) {
        sim_fail(s, "R14: a request took effect twice, at %llu and %llu",
                 U(o->effective_index[result->client]), U(e->index));
    }
    for (uint32_t i = 0; i < n->pending_count; i++) {
        const struct sim_pending *p = &n->pending[i];
        struct sim_reply r = { .attempt = p->attempt, .value = result->value };

        if (p->index > e->index) {
            n->pending[kept++] = *p;
        } else if (p->index == e->index && p->client == result->client &&
                   result->sequence == o->effective_sequence[result->client]) {
            r.index = o->effective_index[result->client];
            reply(s, p->client, &r);
        }
    }
    n->pending_count = kept;
}

void sim_client_read_done(struct sim *s, uint32_t node, const struct raft_read *read)
{
    struct sim_node *n = &s->nodes[node];
    uint32_t client = (uint32_t)(read->id % SIM_CLIENTS_MAX);
    struct sim_client *c = &s->clients[client];
    struct sim_reply r = { .attempt = read->id / SIM_CLIENTS_MAX, .leader = -1 };

    if (read->failed) {
        refuse(s, node, client, r.attempt);
        return;
    }
    if (read->index > n->machine_index)
        sim_fail(s, "R13: node %u answers a read of %llu at %llu", node, U(read->index),
                 U(n->machine_index));
    if (!c->busy || r.attempt < c->first_attempt)
        return;
    r.index = n->machine_index;
    r.value = ((const struct sim_registers *)n->machine)->values[c->command.key];
    reply(s, client, &r);
}

static void complete(struct sim *s, uint32_t client, const struct sim_reply *r)
{
    struct sim_client *c = &s->clients[client];
    struct sim_oracle *o = &s->oracle;
    struct sim_event wake = { .type = SIM_EV_CLIENT, .node = client };
    bool read = c->command.op == SIM_OP_READ;

    if (r->index < c->floor_index || (!read && r->index == c->floor_index))
        sim_fail(s,
                 "%s: client %u got an answer from %llu, though %llu was complete before it asked",
                 read ? "R13" : "R14", client, U(r->index), U(c->floor_index));
    else if (r->index > 0 && r->value != o->log[r->index - 1].values[c->command.key])
        sim_fail(s, "R14: client %u got a value that key %u did not have at %llu", client,
                 c->command.key, U(r->index));
    o->completed_index = MAX(o->completed_index, r->index);
    s->completed++;
    c->busy = false;
    c->attempt = 0;
    sim_schedule(s, sim_exponential(&s->client, s->rates.think_us), &wake);
}

void sim_client_reply(struct sim *s, struct sim_event *e)
{
    struct sim_client *c = &s->clients[e->node];
    const struct sim_reply *r = e->mem;
    struct sim_event wake = { .type = SIM_EV_CLIENT, .node = e->node };

    if (!c->busy || r->attempt < c->first_attempt)
        return;
    if (!r->refused) {
        complete(s, e->node, r);
        return;
    }
    if (r->attempt != c->attempt)
        return;
    /* Ask whom it named, or anybody, a little later; the timeout still stands behind it. */
    wake.a = c->attempt;
    c->hinted = r->leader >= 0 && (!s->calm || s->core[r->leader]);
    if (c->hinted)
        c->node = (uint32_t)r->leader;
    sim_schedule(s, CLIENT_RETRY_US + prng_below(&s->client, CLIENT_RETRY_US), &wake);
}
