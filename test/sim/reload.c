/* What a full node has read from its files, against what it was told to be durable (R8). Writes
 * become durable in order, record by record, so the files must hold the shadow plus a prefix of the
 * records that were under way; and at least the shadow, whatever died how. */
#include <string.h>

#include "common/assert.h"
#include "test/sim/sim.h"

#define U(x) ((unsigned long long)(x))

struct tip { /* a state of hard state and log, in short */
    struct raft_hard_state hard;
    uint64_t last, chain;
};

static struct tip tip_of(const struct sim_disk *d)
{
    return (struct tip){ d->hard, sim_disk_last(d), sim_disk_chain(d, sim_disk_last(d)) };
}

static bool same(const struct tip *a, const struct tip *b)
{
    return a->hard.term == b->hard.term && a->hard.vote == b->hard.vote &&
           a->hard.incarnation == b->hard.incarnation && a->hard.fenced == b->hard.fenced &&
           a->last == b->last && (a->last == 0 || a->chain == b->chain);
}

struct sim_snapshot *sim_snapshot_shadow(struct sim *s, const struct raft_snapshot_meta *meta)
{
    struct sim_snapshot *snapshot = xcalloc(1, sizeof(*snapshot));

    snapshot->references = 1;
    snapshot->meta = *meta;
    if (meta->index > 0 && meta->index <= s->oracle.count)
        snapshot->chain = s->oracle.log[meta->index - 1].chain;
    else
        sim_fail(s, "R15: a snapshot of %llu, which was never committed", U(meta->index));
    return snapshot;
}

/* A snapshot of the own state is written beside the log and may be durable before what it covers,
 * or be of another history than a log not yet cut (raft.h, drop_log). Then the log starts behind
 * it, in its term at least. */
static bool starts_behind(const struct sim *s, const struct sim_disk *d, const struct tip *want,
                          const struct sim_snapshot *snapshot)
{
    struct tip now = tip_of(d);

    if (snapshot == NULL || want->last != snapshot->meta.index)
        return false;
    if (now.last >= want->last &&
        sim_disk_chain(d, want->last) == s->oracle.log[want->last - 1].chain)
        return false;
    if (now.hard.term < snapshot->meta.term) {
        now.hard.term = snapshot->meta.term;
        now.hard.vote = RAFT_NONE;
    }
    now.last = want->last;
    now.chain = want->chain;
    return same(&now, want);
}

static bool fits(const struct sim *s, const struct sim_disk *d, const struct sim_disk *read)
{
    struct tip now = tip_of(d), want = tip_of(read);

    return same(&now, &want) || starts_behind(s, d, &want, read->snapshot);
}

/* Plays the writes under way on d, as far as it takes to reach want. */
static bool reaches(struct sim *s, struct sim_disk *d, const struct sim_disk *shadow,
                    const struct sim_disk *read)
{
    for (size_t i = shadow->write_first; i < shadow->write_count; i++) {
        const struct sim_write *w = &shadow->writes[i];

        if (w->hard)
            d->hard = w->hard_state;
        if (fits(s, d, read))
            return true;
        if (w->install != NULL) {
            sim_snapshot_unref(s, d->snapshot);
            d->snapshot = sim_snapshot_ref(w->install);
        }
        if (w->drop_log)
            sim_disk_cut(d, 0);
        if (fits(s, d, read))
            return true;
        for (size_t k = 0; k < w->entry_count; k++) {
            sim_disk_cut(d, w->entries[k].index);
            sim_disk_append(d, &w->entries[k], w->chains[k]);
            if (fits(s, d, read))
                return true;
        }
    }
    return false;
}

static void compare(struct sim *s, uint32_t node, const struct sim_disk *read)
{
    const struct sim_disk *shadow = &s->nodes[node].disk;
    struct tip want = tip_of(read), now = tip_of(shadow);
    struct sim_disk copy;

    if (fits(s, shadow, read))
        return;
    sim_disk_copy(shadow, &copy);
    if (!reaches(s, &copy, shadow, read))
        sim_fail(
            s,
            "R8: node %u was told that term %llu vote %d%s last %llu is durable and reads term "
            "%llu vote %d%s last %llu%s",
            node, U(now.hard.term), sim_slot(s, now.hard.vote), now.hard.fenced ? " fenced" : "",
            U(now.last), U(want.hard.term), sim_slot(s, want.hard.vote),
            want.hard.fenced ? " fenced" : "", U(want.last),
            now.last == want.last && now.chain != want.chain ? " of another log" : "");
    sim_disk_clear(s, &copy);
}

/* The chain of an entry that was read: of the committed log up to the snapshot, then link by link.
 */
static uint64_t chain_of(const struct sim *s, const struct sim_disk *d, const struct raft_entry *e)
{
    uint64_t covered = d->snapshot != NULL ? d->snapshot->meta.index : 0;
    uint64_t previous = SIM_CHAIN_EMPTY;

    if (e->index <= covered)
        return s->oracle.log[e->index - 1].chain;
    if (e->index == covered + 1)
        previous = d->snapshot != NULL ? d->snapshot->chain : SIM_CHAIN_EMPTY;
    else if (d->entry_count > 0)
        previous = d->chains[d->entry_count - 1];
    return sim_chain(previous, e);
}

void sim_disk_reload(struct sim *s, uint32_t node, const struct raft_ev_start *start)
{
    struct sim_node *n = &s->nodes[node];
    struct sim_disk read = { .hard = start->hard_state,
                             .lost = n->disk.lost,
                             .fence_due = n->disk.fence_due,
                             .lost_last = n->disk.lost_last };

    if (start->snapshot != NULL)
        read.snapshot = sim_snapshot_shadow(s, start->snapshot);
    for (size_t i = 0; i < start->entry_count && !s->failed; i++)
        sim_disk_append(&read, &start->entries[i], chain_of(s, &read, &start->entries[i]));
    if (!n->replaced && !s->failed)
        compare(s, node, &read);
    n->replaced = false;
    sim_disk_clear(s, &n->disk);
    n->disk = read;
}
