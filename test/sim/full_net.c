/* Messages and pieces of snapshots between full nodes. */
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "test/sim/full.h"

enum { CHUNK_TIMEOUT_US = 2 * SIM_S };

static void on_send(void *ctx, const struct raft_member *to, const struct raft_message *m)
{
    struct sim_full *f = ctx;

    (void)to; /* the message says it */
    sim_net_send(f->s, m);
}

int sim_full_receive(struct sim *s, uint32_t node, const struct raft_message *m)
{
    struct sim_full *f = s->nodes[node].full;
    int from = sim_slot(s, m->from), rc = 0;

    if (from < 0)
        return 0; /* a member that is gone for good: its connection ended */
    sim_full_enter(f);
    rc = raft_node_receive(f->raft, s->nodes[from].node_id.s, m, NULL);
    sim_full_leave(f);
    return rc;
}

/* ---- pieces of snapshots --------------------------------------------------------------------- */

struct piece { /* mem of SIM_EV_CHUNK and, with the answer, of SIM_EV_CHUNK_REPLY */
    uint32_t from, to;
    uint64_t from_life;
    uint64_t to_raft_id;
    uint64_t token;
    int rc;
    size_t size;
    uint8_t bytes[];
};

static struct piece *piece_new(const struct piece *like, const uint8_t *bytes, size_t size)
{
    struct piece *p = xcalloc(1, sizeof(*p) + size);

    *p = *like;
    p->size = size;
    if (size > 0)
        memcpy(p->bytes, bytes, size);
    return p;
}

static void answer_later(struct sim *s, struct piece *p, uint64_t delay_us)
{
    struct sim_event e = {
        .type = SIM_EV_CHUNK_REPLY, .node = p->from, .a = p->from_life, .mem = p
    };

    sim_schedule(s, delay_us, &e);
}

/* A transport always tells in the end; what comes second is ignored. */
static void on_send_chunk(void *ctx, const struct raft_member *to, const uint8_t *chunk,
                          size_t size, uint64_t token)
{
    struct sim_full *f = ctx;
    struct sim *s = f->s;
    int slot = sim_slot(s, to->raft_id);
    struct piece like = { .from = f->node,
                          .from_life = s->nodes[f->node].life,
                          .to_raft_id = to->raft_id,
                          .token = token,
                          .rc = -ERR_TIMEOUT };
    int copies = prng_chance_ppm(&s->net, s->rates.duplicate_ppm) ? 2 : 1;

    answer_later(s, piece_new(&like, NULL, 0), CHUNK_TIMEOUT_US);
    if (slot < 0)
        return;
    like.to = (uint32_t)slot;
    for (int i = 0; i < copies; i++) {
        struct sim_event e = { .type = SIM_EV_CHUNK, .node = like.to };

        if (sim_net_loses(s, f->node, like.to))
            continue;
        e.mem = piece_new(&like, chunk, size);
        sim_schedule(s, sim_net_delay(s, f->node, like.to), &e);
    }
}

struct answer {
    struct sim_full *f;
    struct piece like;
};

static void on_chunk_done(void *ctx, int rc, const uint8_t *reply, size_t size, const struct err *e)
{
    struct answer *a = ctx;
    struct sim *s = a->f->s;

    (void)e;
    a->like.rc = rc;
    if (!a->f->dying && !sim_net_loses(s, a->like.to, a->like.from))
        answer_later(s, piece_new(&a->like, reply, size),
                     sim_net_delay(s, a->like.to, a->like.from));
    free(a);
}

void sim_full_chunk(struct sim *s, struct sim_event *ev)
{
    const struct piece *p = ev->mem;
    struct sim_node *n = &s->nodes[ev->node];
    struct answer *a;

    if (!n->up || n->raft_id != p->to_raft_id)
        return;
    a = xcalloc(1, sizeof(*a));
    a->f = n->full;
    a->like = (struct piece){
        .from = p->from, .to = p->to, .from_life = p->from_life, .token = p->token
    };
    sim_full_enter(n->full);
    raft_node_receive_chunk(n->full->raft, s->nodes[p->from].node_id.s, p->bytes, p->size,
                            on_chunk_done, a);
    sim_full_leave(n->full);
}

void sim_full_chunk_reply(struct sim *s, struct sim_event *ev)
{
    const struct piece *p = ev->mem;
    struct sim_full *f = s->nodes[ev->node].full;

    sim_full_enter(f);
    raft_node_chunk_done(f->raft, p->token, p->rc, p->bytes, p->size);
    sim_full_leave(f);
}

const struct raft_transport_ops sim_full_transport = { .send = on_send,
                                                       .send_chunk = on_send_chunk };
