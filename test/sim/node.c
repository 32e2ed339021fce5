/* A node's shell: feeds its raft, executes the effects in the documented order, owns its machine.
 */
#include <string.h>

#include "common/assert.h"
#include "test/sim/sim.h"

enum { TIMER_SLACK_US = 10 };

uint64_t sim_node_now_ms(const struct sim *s, uint32_t node)
{
    int64_t rate = 1000000 + s->nodes[node].clock_ppm;

    return 1000 + s->now_us / 1000 * (uint64_t)rate / 1000000;
}

void sim_node_arm(struct sim *s, uint32_t node, uint64_t want_ms)
{
    struct sim_node *n = &s->nodes[node];
    uint64_t now_ms = sim_node_now_ms(s, node), delay_us;
    struct sim_event e = { .type = SIM_EV_TIMER, .node = node, .a = n->life };

    n->timer_want_ms = want_ms;
    if (want_ms == RAFT_NEVER)
        return;
    delay_us = want_ms > now_ms ? (want_ms - now_ms) * 1000 : 0;
    delay_us = delay_us * 1000000 / (uint64_t)(1000000 + n->clock_ppm) + TIMER_SLACK_US;
    if (n->timer_at_us != 0 && n->timer_at_us <= s->now_us + delay_us)
        return;
    n->timer_at_us = s->now_us + delay_us;
    sim_schedule(s, delay_us, &e);
}

void sim_node_timer(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];
    struct raft_event ev = { .type = RAFT_EV_TIMEOUT };

    if (s->now_us < n->timer_at_us)
        return; /* superseded by an earlier one, which has armed this one's successor */
    n->timer_at_us = 0;
    if (sim_node_now_ms(s, node) < n->timer_want_ms) {
        sim_node_arm(s, node, n->timer_want_ms);
        return;
    }
    if (s->full) {
        sim_full_timer(s, node);
        return;
    }
    (void)sim_node_step(s, node, &ev); /* cannot be refused */
}

static void take_snapshot(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];
    struct sim_snapshot *snapshot;
    struct sim_event e = { .type = SIM_EV_SNAPSHOT, .node = node, .a = n->life };
    uint64_t covered = n->disk.snapshot != NULL ? n->disk.snapshot->meta.index : 0;

    if (n->snapshot_writing || n->machine_index < covered + s->rates.snapshot_entries)
        return;
    snapshot = xcalloc(1, sizeof(*snapshot));
    snapshot->references = 1;
    snapshot->meta.index = n->machine_index;
    snapshot->meta.term = raft_term_at(n->raft, n->machine_index);
    raft_config_at(n->raft, n->machine_index, &snapshot->meta.config);
    snapshot->chain = sim_node_chain(n, n->machine_index);
    snapshot->machine = s->machine->copy(n->machine);
    if (RAFT_MUTANT(RAFT_MUTANT_STORE_NO_SESSIONS))
        s->machine->lose_sessions(snapshot->machine);
    snapshot->hash = s->machine->hash(snapshot->machine);
    n->snapshot_writing = true;
    e.mem = snapshot;
    sim_schedule(s, sim_exponential(&s->disk, 4 * (uint64_t)s->rates.disk_us), &e);
}

void sim_node_snapshot_written(struct sim *s, struct sim_event *e)
{
    struct sim_node *n = &s->nodes[e->node];
    struct sim_snapshot *snapshot = e->mem;
    struct raft_event ev = { .type = RAFT_EV_SNAPSHOT_TAKEN,
                             .snapshot_index = snapshot->meta.index };

    n->snapshot_writing = false;
    if (n->disk.snapshot != NULL && n->disk.snapshot->meta.index >= snapshot->meta.index) {
        sim_snapshot_unref(s, snapshot); /* overtaken by one from the leader */
        return;
    }
    sim_snapshot_unref(s, n->disk.snapshot);
    n->disk.snapshot = snapshot;
    (void)sim_node_step(s, e->node, &ev); /* cannot be refused */
}

static void load_snapshot(struct sim *s, uint32_t node, const struct sim_snapshot *snapshot)
{
    struct sim_node *n = &s->nodes[node];

    s->machine->destroy(n->machine);
    n->machine = s->machine->copy(snapshot->machine);
    n->machine_index = snapshot->meta.index;
    sim_check_restore(s, node, snapshot);
}

static void apply(struct sim *s, uint32_t node, const struct raft_effects *fx)
{
    struct sim_node *n = &s->nodes[node];

    if (fx->load_snapshot != 0) {
        ASSERT(n->disk.snapshot->meta.index >= fx->load_snapshot);
        load_snapshot(s, node, n->disk.snapshot);
    }
    for (size_t i = 0; i < fx->apply_count; i++) {
        const struct raft_entry *e = &fx->apply[i];
        struct sim_result result = { 0 };

        if (e->index != n->machine_index + 1) {
            sim_fail(s, "R5: node %u applies %llu after %llu", node, (unsigned long long)e->index,
                     (unsigned long long)n->machine_index);
            return;
        }
        if (e->type == RAFT_ENTRY_NORMAL)
            s->machine->apply(n->machine, e, &result);
        n->machine_index = e->index;
        sim_check_apply(s, node, e);
        s->workload->applied(s, node, e, &result);
    }
}

static void execute(struct sim *s, uint32_t node, const struct raft_effects *fx)
{
    struct sim_node *n = &s->nodes[node];

    if (fx->write_seq != 0)
        sim_disk_write(s, node, fx);
    for (size_t i = 0; i < fx->message_count; i++) {
        sim_check_message(s, node, &fx->messages[i]);
        sim_net_send(s, &fx->messages[i]);
    }
    for (size_t i = 0; i < fx->send_snapshot_count; i++)
        sim_net_send_snapshot(s, node, &fx->send_snapshots[i]);
    apply(s, node, fx);
    for (size_t i = 0; i < fx->read_count; i++)
        s->workload->read_done(s, node, &fx->reads[i]);
    if (fx->leader_changed && fx->state != RAFT_LEADER)
        s->workload->forget(s, node);
    if (fx->compact_index != 0)
        sim_disk_compact(s, node, fx->compact_index);
    if (n->raft->install_seq == 0)
        take_snapshot(s, node);
    sim_node_arm(s, node, fx->timer_at_ms);
}

int sim_node_step(struct sim *s, uint32_t node, struct raft_event *ev)
{
    struct sim_node *n = &s->nodes[node];
    struct raft_effects fx;
    enum raft_state before;
    int rc;

    if (!n->up || s->failed)
        return 0;
    if (s->full)
        return sim_full_step(s, node, ev);
    before = n->raft->state;
    ev->now_ms = sim_node_now_ms(s, node);
    rc = raft_step(n->raft, ev, &fx);
    n->first_index = fx.first_index;
    if (s->trace && (fx.leader_changed || fx.note != RAFT_NOTE_NONE))
        sim_tracef(s, "%u> %s term=%llu leader=%d last=%llu commit=%llu %s", node,
                   raft_state_str(fx.state), (unsigned long long)fx.term, sim_slot(s, fx.leader),
                   (unsigned long long)raft_log_last(&n->raft->log),
                   (unsigned long long)n->raft->log.commit_index, raft_note_str(fx.note));
    sim_check_append(s, node, &fx, before);
    sim_check_step(s, node, &fx);
    if (!s->failed)
        execute(s, node, &fx);
    return rc;
}

void sim_node_mirror(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];
    struct sim_disk *d = &n->disk;

    sim_node_chain_reset(n, 0, SIM_CHAIN_EMPTY);
    if (d->snapshot != NULL)
        sim_node_chain_reset(n, d->snapshot->meta.index, d->snapshot->chain);
    /* Entries that contradict the snapshot are about to be dropped (drop_log). */
    if (d->snapshot != NULL && sim_disk_chain(d, d->snapshot->meta.index) != d->snapshot->chain)
        return;
    for (size_t i = 0; i < d->entry_count; i++) {
        if (d->entries[i].index > n->chain_base)
            sim_node_chain_append(s, n, &d->entries[i]);
    }
}

void sim_node_reset(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];

    n->term = n->commit = n->applied = 0;
    n->config = (struct raft_config){ 0 };
    n->config_index = 0;
    n->timer_at_us = 0;
    s->workload->forget(s, node);
    n->machine = s->machine->create();
    n->machine_index = 0;
}

static void start_plain(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];
    struct sim_disk *d = &n->disk;
    struct raft_options o;
    struct raft_event ev = { .type = RAFT_EV_START };
    int rc;

    raft_options_default(&o);
    o.raft_id = n->raft_id;
    o.generation = 1;
    o.seed = prng_next(&s->seeds);
    o.tail_entries = s->rates.tail_entries;
    o.inflight_messages_max = s->rates.inflight;
    o.message_bytes_max = s->rates.message_bytes;
    o.inflight_bytes_max = 4 * (uint64_t)s->rates.message_bytes;
    o.uncommitted_bytes_max = 16 << 10;
    o.promote_lag_max = 20;
    n->raft = raft_new(&o);
    n->up = true;
    sim_node_reset(s, node);
    ev.start.hard_state = d->hard;
    ev.start.entries = d->entries;
    ev.start.entry_count = d->entry_count;
    ev.start.log_may_have_gone_back = d->fence_due;
    if (d->snapshot != NULL) {
        ev.start.snapshot = &d->snapshot->meta;
        load_snapshot(s, node, d->snapshot);
    }
    sim_node_mirror(s, node);
    SIM_TRACE(s, "%u> starts, term=%llu last=%llu%s", node, (unsigned long long)d->hard.term,
              (unsigned long long)sim_disk_last(d), d->fence_due ? " (fenced)" : "");
    rc = sim_node_step(s, node, &ev);
    if (rc < 0)
        sim_fail(s, "node %u refuses to start: %s", node, err_str(rc));
}

void sim_node_start(struct sim *s, uint32_t node)
{
    ASSERT(!s->nodes[node].up);
    if (s->full)
        sim_full_start(s, node);
    else
        start_plain(s, node);
}

static void crash(struct sim *s, uint32_t node, enum sim_death how)
{
    struct sim_node *n = &s->nodes[node];

    ASSERT(n->up);
    SIM_TRACE(s, "%u> crashes", node);
    n->up = false;
    n->life++;
    n->paused_until_us = 0;
    n->snapshot_writing = false;
    sim_disk_crash(s, node);
    if (s->full)
        sim_full_crash(s, node, how);
    else
        raft_free(n->raft);
    n->raft = NULL;
    s->machine->destroy(n->machine);
    n->machine = NULL;
    sim_snapshot_unref(s, n->staged);
    n->staged = NULL;
}

void sim_node_crash(struct sim *s, uint32_t node)
{
    crash(s, node, prng_below(&s->disk, 2) == 0 ? SIM_DEATH_POWER : SIM_DEATH_KILLED);
}

void sim_node_kill(struct sim *s, uint32_t node)
{
    crash(s, node, SIM_DEATH_QUIET);
}
