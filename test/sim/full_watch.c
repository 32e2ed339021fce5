/* Every step of a full node's core passes by here: the linker puts this function in front of
 * raft_step() (--wrap). The same checks as for plain nodes see the same events and effects. */
#include "common/assert.h"
#include "test/sim/full.h"

int __real_raft_step(struct raft *r, const struct raft_event *ev, struct raft_effects *fx);
int __wrap_raft_step(struct raft *r, const struct raft_event *ev, struct raft_effects *fx);

static void on_start(struct sim_full *f, const struct raft_event *ev)
{
    struct sim *s = f->s;
    struct sim_node *n = &s->nodes[f->node];

    sim_disk_reload(s, f->node, &ev->start);
    n->term = n->commit = n->applied = 0;
    n->config = (struct raft_config){ 0 };
    n->config_index = 0;
    sim_node_mirror(s, f->node);
    SIM_TRACE(s, "%u> starts, term=%llu last=%llu%s", f->node,
              (unsigned long long)n->disk.hard.term, (unsigned long long)sim_disk_last(&n->disk),
              ev->start.log_may_have_gone_back ? " (moved)" : "");
}

static void on_taken(struct sim *s, struct sim_node *n, uint64_t index)
{
    struct raft_snapshot_meta meta = { .index = index, .term = raft_term_at(n->raft, index) };

    if (n->disk.snapshot != NULL && n->disk.snapshot->meta.index >= index)
        return;
    if (index < n->raft->log.snapshot.index)
        return; /* a newer one is being installed */
    raft_config_at(n->raft, index, &meta.config);
    sim_snapshot_unref(s, n->disk.snapshot);
    n->disk.snapshot = sim_snapshot_shadow(s, &meta);
}

/* G4: a manager decides from a state that holds everything committed before its term. What it knows
 * not to hold is refused anyway. */
static void on_propose(struct sim_full *f, const struct raft_event *ev)
{
    const struct raft *r = f->s->nodes[f->node].raft;

    if (f->s->kind == SIM_KIND_SKEP && r->state == RAFT_LEADER &&
        ev->propose.term == r->hard.term && f->raft->applied_index < r->term_first_index)
        sim_fail(f->s, "R21: node %u proposes before it has applied an entry of its own term",
                 f->node);
}

static void before(struct sim_full *f, const struct raft_event *ev)
{
    struct sim_node *n = &f->s->nodes[f->node];

    if (ev->type == RAFT_EV_START)
        on_start(f, ev);
    else if (ev->type == RAFT_EV_PERSISTED)
        sim_disk_persisted(f->s, &n->disk, ev->persisted_seq);
    else if (ev->type == RAFT_EV_PROPOSE)
        on_propose(f, ev);
    else if (ev->type == RAFT_EV_SNAPSHOT_TAKEN)
        on_taken(f->s, n, ev->snapshot_index);
}

static void after(struct sim_full *f, const struct raft_effects *fx, enum raft_state state)
{
    struct sim *s = f->s;
    struct sim_node *n = &s->nodes[f->node];

    n->first_index = fx->first_index;
    if (fx->install != NULL) {
        sim_snapshot_unref(s, n->staged);
        n->staged = sim_snapshot_shadow(s, fx->install);
    }
    if (s->failed)
        return;
    if (s->trace && (fx->leader_changed || fx->note != RAFT_NOTE_NONE))
        sim_tracef(s, "%u> %s term=%llu leader=%d last=%llu commit=%llu %s", f->node,
                   raft_state_str(fx->state), (unsigned long long)fx->term, sim_slot(s, fx->leader),
                   (unsigned long long)raft_log_last(&n->raft->log),
                   (unsigned long long)n->raft->log.commit_index, raft_note_str(fx->note));
    sim_check_append(s, f->node, fx, state);
    sim_check_step(s, f->node, fx);
    if (fx->write_seq != 0)
        sim_disk_queue(s, f->node, fx);
    for (size_t i = 0; i < fx->message_count; i++)
        sim_check_message(s, f->node, &fx->messages[i]);
    if (fx->leader_changed && fx->state != RAFT_LEADER)
        s->workload->forget(s, f->node);
    if (fx->compact_index != 0 && !s->failed)
        sim_disk_compact(s, f->node, fx->compact_index);
}

int __wrap_raft_step(struct raft *r, const struct raft_event *ev, struct raft_effects *fx)
{
    struct sim_full *f = sim_full_current();
    enum raft_state state;
    int rc;

    if (f == NULL) /* a plain node, whose shell checks by itself */
        return __real_raft_step(r, ev, fx);
    f->s->nodes[f->node].raft = r;
    state = r->state;
    before(f, ev);
    rc = __real_raft_step(r, ev, fx);
    after(f, fx, state);
    return rc;
}
