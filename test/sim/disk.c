/* One disk per node: an ordered log device with group commit. What was not reported durable may be
 * gone after a crash; being ordered, a prefix of it may also have survived. */
#include <string.h>

#include "common/assert.h"
#include "test/sim/sim.h"

struct sim_snapshot *sim_snapshot_ref(struct sim_snapshot *snapshot)
{
    if (snapshot != NULL)
        snapshot->references++;
    return snapshot;
}

void sim_snapshot_unref(struct sim *s, struct sim_snapshot *snapshot)
{
    if (snapshot == NULL || --snapshot->references > 0)
        return;
    if (snapshot->machine != NULL)
        s->machine->destroy(snapshot->machine);
    free(snapshot);
}

static uint64_t disk_base(const struct sim_disk *d)
{
    if (d->entry_count > 0)
        return d->entries[0].index - 1;
    return d->snapshot != NULL ? d->snapshot->meta.index : 0;
}

uint64_t sim_disk_last(const struct sim_disk *d)
{
    uint64_t last = disk_base(d) + d->entry_count;

    return MAX(last, d->snapshot != NULL ? d->snapshot->meta.index : 0);
}

uint64_t sim_disk_chain(const struct sim_disk *d, uint64_t index)
{
    uint64_t base = disk_base(d);

    if (index > base && index <= base + d->entry_count)
        return d->chains[index - base - 1];
    if (d->snapshot != NULL && index == d->snapshot->meta.index)
        return d->snapshot->chain;
    return 0;
}

/* Drops entries from index on. */
void sim_disk_cut(struct sim_disk *d, uint64_t index)
{
    while (d->entry_count > 0 && d->entries[d->entry_count - 1].index >= index)
        raft_data_unref(d->entries[--d->entry_count].data);
}

void sim_disk_append(struct sim_disk *d, const struct raft_entry *e, uint64_t chain)
{
    ASSERT(d->entry_count == 0 || e->index == d->entries[d->entry_count - 1].index + 1);
    if (d->entry_count == d->entry_capacity) {
        d->entry_capacity = MAX((size_t)64, d->entry_capacity * 2);
        d->entries = xrealloc_array(d->entries, d->entry_capacity, sizeof(*d->entries));
        d->chains = xrealloc_array(d->chains, d->entry_capacity, sizeof(*d->chains));
    }
    d->entries[d->entry_count] = *e;
    (void)raft_data_ref(e->data); /* the same pointer */
    d->chains[d->entry_count] = chain;
    d->entry_count++;
}

void sim_write_free(struct sim *s, struct sim_write *w)
{
    sim_snapshot_unref(s, w->install);
    raft_entries_free(w->entries, w->entry_count);
    free(w->chains);
}

/* Makes one write durable: snapshot, hard state, entries, in this order. */
static void write_apply(struct sim *s, struct sim_disk *d, struct sim_write *w)
{
    if (w->install != NULL) {
        sim_snapshot_unref(s, d->snapshot);
        d->snapshot = sim_snapshot_ref(w->install);
    }
    if (w->drop_log)
        sim_disk_cut(d, 0);
    if (w->hard)
        d->hard = w->hard_state;
    if (w->entry_count > 0)
        sim_disk_cut(d, w->entries[0].index);
    for (size_t i = 0; i < w->entry_count; i++)
        sim_disk_append(d, &w->entries[i], w->chains[i]);
    if (w->hard && w->hard_state.fenced)
        d->fence_due = false;
    else if (w->hard)
        d->lost = false;
}

static void start_batch(struct sim *s, uint32_t node)
{
    struct sim_disk *d = &s->nodes[node].disk;
    struct sim_event e = { .type = SIM_EV_DISK, .node = node, .a = s->nodes[node].life };
    uint64_t delay = sim_exponential(&s->disk, s->rates.disk_us);

    if (d->batch_seq != 0 || d->write_first == d->write_count)
        return;
    if (!s->calm && prng_chance_ppm(&s->disk, s->rates.disk_stall_ppm))
        delay += s->rates.disk_stall_us;
    d->batch_seq = d->writes[d->write_count - 1].seq;
    sim_schedule(s, delay, &e);
}

void sim_disk_queue(struct sim *s, uint32_t node, const struct raft_effects *fx)
{
    struct sim_node *n = &s->nodes[node];
    struct sim_disk *d = &n->disk;
    struct sim_write *w;

    if (d->write_count == d->write_capacity) {
        if (d->write_first > d->write_capacity / 2) {
            d->write_count -= d->write_first;
            memmove(d->writes, d->writes + d->write_first, d->write_count * sizeof(*d->writes));
            d->write_first = 0;
        } else {
            d->write_capacity = MAX((size_t)16, d->write_capacity * 2);
            d->writes = xrealloc_array(d->writes, d->write_capacity, sizeof(*d->writes));
        }
    }
    w = &d->writes[d->write_count++];
    *w = (struct sim_write){ .seq = fx->write_seq,
                             .hard = fx->hard_state_changed,
                             .drop_log = fx->drop_log,
                             .hard_state = fx->hard_state,
                             .entries = raft_entries_clone(fx->append, fx->append_count),
                             .entry_count = fx->append_count };
    if (fx->append_count > 0)
        w->chains = xrealloc_array(NULL, fx->append_count, sizeof(*w->chains));
    for (size_t i = 0; i < fx->append_count; i++)
        w->chains[i] = sim_node_chain(n, fx->append[i].index);
    if (fx->install != NULL) {
        ASSERT(n->staged != NULL);
        ASSERT(n->staged->meta.index == fx->install->index);
        w->install = sim_snapshot_ref(n->staged);
    }
}

void sim_disk_write(struct sim *s, uint32_t node, const struct raft_effects *fx)
{
    sim_disk_queue(s, node, fx);
    start_batch(s, node);
}

void sim_disk_persisted(struct sim *s, struct sim_disk *d, uint64_t seq)
{
    while (d->write_first < d->write_count && d->writes[d->write_first].seq <= seq) {
        write_apply(s, d, &d->writes[d->write_first]);
        sim_write_free(s, &d->writes[d->write_first++]);
    }
    if (d->write_first == d->write_count)
        d->write_first = d->write_count = 0;
}

void sim_disk_done(struct sim *s, uint32_t node)
{
    struct sim_disk *d = &s->nodes[node].disk;
    struct raft_event ev = { .type = RAFT_EV_PERSISTED, .persisted_seq = d->batch_seq };

    ASSERT(d->batch_seq != 0);
    sim_disk_persisted(s, d, d->batch_seq);
    d->batch_seq = 0;
    (void)sim_node_step(s, node, &ev); /* cannot be refused */
    start_batch(s, node);
}

void sim_disk_crash(struct sim *s, uint32_t node)
{
    struct sim_disk *d = &s->nodes[node].disk;
    size_t pending = d->write_count - d->write_first;

    if (s->full)
        return; /* the files know, and tell when they are read */
    size_t keep = pending > 0 ? (size_t)prng_below(&s->disk, pending + 1) : 0;

    for (size_t i = d->write_first; i < d->write_count; i++) {
        if (i < d->write_first + keep)
            write_apply(s, d, &d->writes[i]);
        sim_write_free(s, &d->writes[i]);
    }
    d->write_first = d->write_count = 0;
    d->batch_seq = 0;
}

void sim_disk_compact(struct sim *s, uint32_t node, uint64_t index)
{
    struct sim_disk *d = &s->nodes[node].disk;
    size_t drop = 0;

    if (d->snapshot == NULL || index > d->snapshot->meta.index) {
        sim_fail(s, "R16: node %u drops entries up to %llu without a durable snapshot", node,
                 (unsigned long long)index);
        return;
    }
    while (drop < d->entry_count && d->entries[drop].index <= index)
        raft_data_unref(d->entries[drop++].data);
    d->entry_count -= drop;
    if (d->entry_count == 0)
        return;
    memmove(d->entries, d->entries + drop, d->entry_count * sizeof(*d->entries));
    memmove(d->chains, d->chains + drop, d->entry_count * sizeof(*d->chains));
}

void sim_disk_clear(struct sim *s, struct sim_disk *d)
{
    for (size_t i = d->write_first; i < d->write_count; i++)
        sim_write_free(s, &d->writes[i]);
    sim_disk_cut(d, 0);
    sim_snapshot_unref(s, d->snapshot);
    free(d->entries);
    free(d->chains);
    free(d->writes);
    *d = (struct sim_disk){ 0 };
}

void sim_disk_copy(const struct sim_disk *from, struct sim_disk *to)
{
    *to = (struct sim_disk){ .hard = from->hard,
                             .snapshot = sim_snapshot_ref(from->snapshot),
                             .entries = raft_entries_clone(from->entries, from->entry_count),
                             .entry_count = from->entry_count,
                             .entry_capacity = from->entry_count,
                             .lost = from->lost };
    if (from->entry_count > 0)
        to->chains = xmemdup(from->chains, from->entry_count * sizeof(*from->chains));
}
