/* Directed links: loss, duplication, delay (hence reordering), clogs, cuts in one direction. */
#include "common/assert.h"
#include "test/sim/sim.h"

static struct raft_message *message_copy(const struct raft_message *m)
{
    struct raft_message *copy = xmemdup(m, sizeof(*m));

    copy->entries = raft_entries_clone(m->entries, m->entry_count);
    return copy;
}

void sim_message_free(struct raft_message *m)
{
    if (m == NULL)
        return;
    if (m->type == RAFT_MSG_SNAPSHOT) { /* the snapshot travels in the place of the entries */
        free(m);
        return;
    }
    raft_entries_free((struct raft_entry *)(uintptr_t)m->entries, m->entry_count);
    free(m);
}

uint64_t sim_net_delay(struct sim *s, uint32_t from, uint32_t to)
{
    const struct sim_rates *rates = &s->rates;
    uint64_t delay = rates->delay_min_us + sim_exponential(&s->net, rates->delay_mean_us);

    if (!s->calm && prng_chance_ppm(&s->net, rates->clog_ppm))
        s->clogged_until_us[from][to] = s->now_us + rates->clog_us;
    if (s->clogged_until_us[from][to] > s->now_us)
        delay += s->clogged_until_us[from][to] - s->now_us;
    return delay;
}

bool sim_net_loses(struct sim *s, uint32_t from, uint32_t to)
{
    bool healthy = s->calm && s->core[from] && s->core[to];

    return s->blocked[from][to] || (!healthy && prng_chance_ppm(&s->net, s->rates.loss_ppm));
}

void sim_net_send(struct sim *s, const struct raft_message *m)
{
    int from = sim_slot(s, m->from), to = sim_slot(s, m->to);
    int copies = prng_chance_ppm(&s->net, s->rates.duplicate_ppm) ? 2 : 1;

    if (from < 0 || to < 0)
        return; /* a member that is gone for good */
    for (int i = 0; i < copies; i++) {
        struct sim_event e = { .type = SIM_EV_MESSAGE, .node = (uint32_t)to };

        if (sim_net_loses(s, (uint32_t)from, (uint32_t)to))
            continue;
        e.mem = message_copy(m);
        sim_schedule(s, sim_net_delay(s, (uint32_t)from, (uint32_t)to), &e);
    }
}

static void deliver_snapshot(struct sim *s, struct sim_event *e, struct raft_message *m)
{
    struct sim_snapshot *snapshot = (struct sim_snapshot *)(uintptr_t)e->b;
    struct sim_node *n = &s->nodes[e->node];
    struct raft_event ev = { .type = RAFT_EV_RECEIVE, .message = m };

    sim_snapshot_unref(s, n->staged);
    n->staged = sim_snapshot_ref(snapshot);
    m->snapshot = &snapshot->meta;
    (void)sim_node_step(s, e->node, &ev); /* refusals are part of the game */
}

void sim_net_deliver(struct sim *s, struct sim_event *e)
{
    struct raft_message *m = e->mem;
    struct sim_node *n = &s->nodes[e->node];
    struct raft_event ev = { .type = RAFT_EV_RECEIVE, .message = m };
    bool here = n->up && n->raft_id == m->to;

    if (m->type == RAFT_MSG_SNAPSHOT) {
        struct sim_event end = { .type = SIM_EV_TRANSFER_END, .a = m->to, .b = 0 };
        int from = sim_slot(s, m->from);

        if (here) {
            end.b = m->index;
            m->index = 0;
            deliver_snapshot(s, e, m);
        }
        if (from >= 0) {
            end.node = (uint32_t)from;
            sim_schedule(s, sim_net_delay(s, e->node, (uint32_t)from), &end);
        }
        sim_snapshot_unref(s, (struct sim_snapshot *)(uintptr_t)e->b);
    } else if (here) {
        int rc = s->full ? sim_full_receive(s, e->node, m) : sim_node_step(s, e->node, &ev);

        if (rc == -ERR_PROTO)
            sim_fail(s, "node %u: message of type %d from %u breaks the protocol", e->node,
                     (int)m->type, (unsigned)sim_slot(s, m->from));
    }
    sim_message_free(m);
}

/* The shell's streaming in one piece: it takes longer than a message, and is lost more easily. */
void sim_net_send_snapshot(struct sim *s, uint32_t from, const struct raft_send_snapshot *request)
{
    struct sim_node *n = &s->nodes[from];
    int to = sim_slot(s, request->to);
    uint64_t delay = 4 * (uint64_t)s->rates.delay_min_us;
    struct sim_event e = { .type = SIM_EV_MESSAGE };
    struct raft_message m = { .type = RAFT_MSG_SNAPSHOT,
                              .from = n->raft_id,
                              .to = request->to,
                              .term = n->raft->hard.term,
                              .generation = n->raft->options.generation,
                              .incarnation = n->raft->hard.incarnation };

    if (n->disk.snapshot == NULL || n->disk.snapshot->meta.index < request->index) {
        sim_fail(s, "R16: node %u is to send snapshot %llu, which it does not have", from,
                 (unsigned long long)request->index);
        return;
    }
    m.index = n->disk.snapshot->meta.index; /* for the sender's report only */
    if (to < 0 || sim_net_loses(s, from, (uint32_t)to) ||
        (!s->calm && prng_chance_ppm(&s->net, s->rates.snapshot_loss_ppm))) {
        e = (struct sim_event){ .type = SIM_EV_TRANSFER_END, .node = from, .a = request->to };
        sim_schedule(s, 1 * SIM_S, &e);
        return;
    }
    e.node = (uint32_t)to;
    e.mem = xmemdup(&m, sizeof(m));
    e.b = (uint64_t)(uintptr_t)sim_snapshot_ref(n->disk.snapshot);
    sim_schedule(s, delay + sim_net_delay(s, from, (uint32_t)to), &e);
}
