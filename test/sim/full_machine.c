/* The replicated machine of a full node, as managerd/io sees it: entries, snapshots as bytes. */
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "test/sim/full.h"

void sim_full_catch_up(struct sim_full *f, uint64_t index)
{
    struct sim_node *n = &f->s->nodes[f->node];

    while (n->machine_index < index && !f->s->failed) {
        struct raft_entry nothing = { .index = n->machine_index + 1, .type = RAFT_ENTRY_NOOP };
        struct sim_result result = { 0 };

        n->machine_index++;
        sim_check_apply(f->s, f->node, &nothing);
        f->s->workload->applied(f->s, f->node, &nothing, &result);
    }
}

static void on_apply(void *ctx, uint64_t index, uint64_t term, const uint8_t *data, size_t size)
{
    struct sim_full *f = ctx;
    struct sim *s = f->s;
    struct sim_node *n = &s->nodes[f->node];
    struct raft_data bytes = { .references = 1, .size = (uint32_t)size, .bytes = data };
    struct raft_entry e = { .index = index, .term = term, .data = &bytes };
    struct sim_result result = { 0 };

    if (index <= n->machine_index) {
        sim_fail(s, "R5: node %u applies %llu after %llu", f->node, (unsigned long long)index,
                 (unsigned long long)n->machine_index);
        return;
    }
    sim_full_catch_up(f, index - 1);
    s->machine->apply(n->machine, &e, &result);
    n->machine_index = index;
    sim_check_apply(s, f->node, &e);
    s->workload->applied(s, f->node, &e, &result);
}

struct packed {
    uint8_t *bytes;
    size_t size, at;
};

static void *on_snapshot_begin(void *ctx)
{
    struct sim_full *f = ctx;
    struct sim *s = f->s;
    struct packed *p = xcalloc(1, sizeof(*p));

    sim_full_catch_up(f, f->raft->applied_index);
    p->bytes = s->machine->pack(s->nodes[f->node].machine, &p->size);
    return p;
}

static size_t on_snapshot_next(void *snapshot, uint8_t *mem, size_t max)
{
    struct packed *p = snapshot;
    size_t size = MIN(max, p->size - p->at);

    if (size > 0)
        memcpy(mem, p->bytes + p->at, size);
    p->at += size;
    return size;
}

static void on_snapshot_end(void *ctx, void *snapshot)
{
    struct packed *p = snapshot;

    (void)ctx; /* the bytes are a copy */
    free(p->bytes);
    free(p);
}

static int on_install_begin(void *ctx, uint64_t index)
{
    struct sim_full *f = ctx;

    (void)index; /* known again at the end */
    buf_clear(&f->install);
    return 0;
}

static int on_install_feed(void *ctx, const uint8_t *mem, size_t size, struct err *e)
{
    struct sim_full *f = ctx;

    return buf_append(&f->install, mem, size) == 0 ? 0 : err_set(e, ERR_TOO_BIG, "snapshot");
}

static int on_install_finish(void *ctx, uint64_t index, struct err *e)
{
    struct sim_full *f = ctx;
    struct sim *s = f->s;
    struct sim_node *n = &s->nodes[f->node];
    bool good = s->machine->load(n->machine, f->install.data, f->install.size, index);
    struct raft_snapshot_meta meta = { .index = index };
    struct sim_snapshot *shadow;

    if (!good)
        sim_fail(s, "R15: node %u gets a snapshot %llu that makes no sense", f->node,
                 (unsigned long long)index);
    if (!good)
        return err_set(e, ERR_CORRUPT, "snapshot %llu makes no sense", (unsigned long long)index);
    n->machine_index = index;
    shadow = sim_snapshot_shadow(s, &meta);
    sim_check_restore(s, f->node, shadow);
    sim_snapshot_unref(s, shadow);
    return 0;
}

const struct raft_fsm_ops sim_full_fsm = {
    .apply = on_apply,
    .snapshot_begin = on_snapshot_begin,
    .snapshot_next = on_snapshot_next,
    .snapshot_end = on_snapshot_end,
    .install_begin = on_install_begin,
    .install_feed = on_install_feed,
    .install_finish = on_install_finish,
};
