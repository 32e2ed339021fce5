/* What must hold after every event. Numbers as in the table of README.md.
 *
 * The log of each node is mirrored as a rolling hash per entry ("chain"): equal chains at an index
 * mean equal logs up to it. The oracle keeps the one committed log; whoever commits, applies,
 * restores or answers is compared with it. */
#include <string.h>

#include "common/assert.h"
#include "managerd/raft/codec.h"
#include "test/sim/sim.h"

#define U(x) ((unsigned long long)(x))

/* ---- chains ---------------------------------------------------------------------------------- */

uint64_t sim_chain(uint64_t previous, const struct raft_entry *e)
{
    uint64_t hash = sim_mix(sim_mix(previous, e->index), e->term * 4 + e->type);

    for (size_t i = 0; e->data != NULL && i + 8 <= e->data->size; i += 8) {
        uint64_t word;

        memcpy(&word, e->data->bytes + i, sizeof(word));
        hash = sim_mix(hash, word);
    }
    return hash | 1; /* 0 means unknown */
}

uint64_t sim_node_chain(const struct sim_node *n, uint64_t index)
{
    if (index == n->chain_base)
        return n->chain_base_value;
    if (index < n->chain_base || index > n->chain_base + n->chain_count)
        return 0;
    return n->chains[index - n->chain_base - 1];
}

void sim_node_chain_reset(struct sim_node *n, uint64_t index, uint64_t chain)
{
    n->chain_base = index;
    n->chain_base_value = chain;
    n->chain_count = 0;
}

/* R3: same index and term, same log up to there, on all nodes for ever. */
static void check_log_matching(struct sim *s, const struct raft_entry *e, uint64_t chain)
{
    struct sim_oracle *o = &s->oracle;
    uint64_t key = sim_mix(sim_mix(1, e->index), e->term) | 1;
    size_t at;

    if (2 * (o->map_count + 1) > o->map_capacity) {
        uint64_t *keys = o->map_keys, *chains = o->map_chains;
        size_t old = o->map_capacity;

        o->map_capacity = MAX((size_t)2048, old * 2);
        o->map_keys = xcalloc(o->map_capacity, sizeof(*o->map_keys));
        o->map_chains = xcalloc(o->map_capacity, sizeof(*o->map_chains));
        for (size_t i = 0; i < old; i++) {
            if (keys[i] == 0)
                continue;
            at = keys[i] & (o->map_capacity - 1);
            while (o->map_keys[at] != 0)
                at = (at + 1) & (o->map_capacity - 1);
            o->map_keys[at] = keys[i];
            o->map_chains[at] = chains[i];
        }
        free(keys);
        free(chains);
    }
    at = key & (o->map_capacity - 1);
    while (o->map_keys[at] != 0 && o->map_keys[at] != key)
        at = (at + 1) & (o->map_capacity - 1);
    if (o->map_keys[at] == key) {
        if (o->map_chains[at] != chain)
            sim_fail(s, "R3: two logs differ below %llu@%llu", U(e->index), U(e->term));
        return;
    }
    o->map_keys[at] = key;
    o->map_chains[at] = chain;
    o->map_count++;
}

void sim_node_chain_append(struct sim *s, struct sim_node *n, const struct raft_entry *e)
{
    uint64_t previous;

    ASSERT(e->index > n->chain_base);
    ASSERT(e->index <= n->chain_base + n->chain_count + 1);
    n->chain_count = (size_t)(e->index - n->chain_base - 1);
    previous = sim_node_chain(n, e->index - 1);
    if (n->chain_count == n->chain_capacity) {
        n->chain_capacity = MAX((size_t)256, n->chain_capacity * 2);
        n->chains = xrealloc_array(n->chains, n->chain_capacity, sizeof(*n->chains));
    }
    n->chains[n->chain_count++] = sim_chain(previous, e);
    check_log_matching(s, e, n->chains[n->chain_count - 1]);
}

/* ---- appends --------------------------------------------------------------------------------- */

static void find_config(struct sim_node *n)
{
    const struct raft_log *l = &n->raft->log;

    for (uint64_t i = raft_log_last(l); i > MAX(l->base_index, l->snapshot.index); i--) {
        const struct raft_entry *e = raft_log_at(l, i);

        if (e->type == RAFT_ENTRY_CONFIG) {
            raft_config_of(e, &n->config);
            n->config_index = i;
            return;
        }
    }
    n->config = l->snapshot.config;
    n->config_index = l->snapshot.index;
}

static bool is_voter(const struct raft_config *c, uint64_t raft_id)
{
    const struct raft_member *m = raft_config_find(c, raft_id);

    return m != NULL && m->role == RAFT_VOTER;
}

/* R12: a leader's new configuration differs from the last one in at most one voter, the last one is
 * committed, and so is an entry of the leader's own term. */
static void check_new_config(struct sim *s, uint32_t node, const struct raft_config *before,
                             uint64_t before_index)
{
    struct sim_node *n = &s->nodes[node];
    const struct raft_log *l = &n->raft->log;
    int differences = 0;

    for (uint32_t i = 0; i < before->member_count; i++)
        differences += before->members[i].role == RAFT_VOTER &&
                       !is_voter(&n->config, before->members[i].raft_id);
    for (uint32_t i = 0; i < n->config.member_count; i++)
        differences += n->config.members[i].role == RAFT_VOTER &&
                       !is_voter(before, n->config.members[i].raft_id);
    if (differences > 1)
        sim_fail(s, "R12: node %u changes %d voters at once", node, differences);
    if (before_index > l->commit_index)
        sim_fail(s, "R12: node %u changes an uncommitted configuration", node);
    if (raft_log_term(l, l->commit_index) != n->raft->hard.term)
        sim_fail(s, "R12: node %u changes the configuration before its term committed", node);
}

void sim_check_append(struct sim *s, uint32_t node, const struct raft_effects *fx,
                      enum raft_state before)
{
    struct sim_node *n = &s->nodes[node];
    bool scan = n->config_index > n->chain_base + n->chain_count || n->config.member_count == 0;

    if (fx->drop_log) {
        const struct sim_snapshot *snapshot = fx->install != NULL ? n->staged : n->disk.snapshot;

        if (fx->install != NULL && snapshot->meta.index < n->commit)
            sim_fail(s, "R5: node %u installs snapshot %llu over commit %llu", node,
                     U(snapshot->meta.index), U(n->commit));
        sim_node_chain_reset(n, snapshot->meta.index, snapshot->chain);
        scan = true;
    }
    if (fx->append_count > 0 && fx->append[0].index <= n->chain_base + n->chain_count) {
        if (before == RAFT_LEADER && fx->state == RAFT_LEADER)
            sim_fail(s, "R2: leader %u rewrites its log at %llu", node, U(fx->append[0].index));
        if (fx->append[0].index <= n->commit)
            sim_fail(s, "R4: node %u replaces committed entry %llu", node, U(fx->append[0].index));
        scan = scan || fx->append[0].index <= n->config_index;
    }
    for (size_t i = 0; i < fx->append_count && !s->failed; i++) {
        sim_node_chain_append(s, n, &fx->append[i]);
        scan = scan || fx->append[i].type == RAFT_ENTRY_CONFIG;
    }
    if (scan && !s->failed) {
        struct raft_config config_before = n->config;
        uint64_t index_before = n->config_index;

        find_config(n);
        if (before == RAFT_LEADER && n->config_index > index_before)
            check_new_config(s, node, &config_before, index_before);
    }
}

/* ---- leadership ------------------------------------------------------------------------------ */

static void check_new_leader(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];
    struct sim_oracle *o = &s->oracle;
    uint64_t term = n->raft->hard.term;
    size_t i = o->count;

    if (term >= o->term_capacity) {
        size_t capacity = MAX((size_t)256, (size_t)term * 2);

        o->term_leader = xrealloc_array(o->term_leader, capacity, sizeof(*o->term_leader));
        memset(o->term_leader + o->term_capacity, 0,
               (capacity - o->term_capacity) * sizeof(*o->term_leader));
        o->term_capacity = capacity;
    }
    SIM_TRACE(s, "%u> leads term %llu", node, U(term));
    if (o->term_leader[term] != 0)
        sim_fail(s, "R1: second leader in term %llu: node %u", U(term), node);
    o->term_leader[term] = n->raft_id;
    o->leader_changes++;
    if (n->disk.hard.term != term || n->disk.hard.vote != n->raft_id)
        sim_fail(s, "R9: node %u leads term %llu without its own vote on disk", node, U(term));
    if (n->disk.lost)
        sim_fail(s, "R9: node %u leads although its disk went back", node);
    /* R4, for what was committed in earlier terms (a late winner of an old term knows no better).
     */
    while (i > 0 && o->log[i - 1].commit_term >= term)
        i--;
    if (i > n->chain_base && sim_node_chain(n, i) != o->log[i - 1].chain)
        sim_fail(s, "R4: leader %u of term %llu lacks committed entry %llu", node, U(term), U(i));
}

/* ---- commit ---------------------------------------------------------------------------------- */

/* R6, R7, R11: on a quorum of the voters of the leader's latest configuration, on disk. A disk that
 * was lost since counts as holding: its node is no different from a crashed one (raft.h, fencing).
 */
static void check_commit_durable(struct sim *s, uint32_t node, uint64_t index, uint64_t chain)
{
    const struct raft_config *c = &s->nodes[node].config;
    uint32_t voters = 0, holders = 0;

    for (uint32_t i = 0; i < c->member_count; i++) {
        int slot = sim_slot(s, c->members[i].raft_id);
        const struct sim_disk *d;

        if (c->members[i].role != RAFT_VOTER)
            continue;
        voters++;
        d = slot < 0 ? NULL : sim_twin_counted(&s->nodes[slot], c->members[i].incarnation);
        if (d == NULL)
            continue;
        /* What it may have acknowledged before; nothing since, until it is readmitted. */
        if (d->lost && (d->fence_due || s->oracle.incarnation[slot] != d->hard.incarnation))
            holders += index <= d->lost_last;
        else
            holders += sim_disk_chain(d, index) == chain ||
                       (d->snapshot != NULL && d->snapshot->meta.index >= index);
    }
    if (holders < voters / 2 + 1)
        sim_fail(s, "R7: node %u commits %llu, which %u of %u voters hold", node, U(index), holders,
                 voters);
}

static void note_committed_config(struct sim *s, const struct raft_entry *e)
{
    struct sim_oracle *o = &s->oracle;
    struct raft_config c;

    raft_config_of(e, &c);
    for (uint32_t i = 0; i < c.member_count; i++) {
        int slot = sim_slot(s, c.members[i].raft_id);

        if (slot < 0 || o->incarnation[slot] == c.members[i].incarnation)
            continue;
        o->incarnation[slot] = c.members[i].incarnation;
        o->recorded[slot][o->recorded_count[slot]++ % SIM_RECORDED_MAX] = c.members[i].incarnation;
    }
}

/* A life that another one has followed unfences itself as well, when it hears of its own time. */
static bool was_recorded(const struct sim *s, uint32_t node, uint64_t incarnation)
{
    for (uint32_t i = 0; i < SIM_RECORDED_MAX; i++)
        if (s->oracle.recorded[node][i] == incarnation)
            return true;
    return false;
}

static void check_commit(struct sim *s, uint32_t node, uint64_t index)
{
    struct sim_node *n = &s->nodes[node];
    struct sim_oracle *o = &s->oracle;
    uint64_t first = MAX(n->commit, n->chain_base) + 1;

    for (uint64_t i = first; i <= index && i <= o->count; i++) {
        if (o->log[i - 1].chain != sim_node_chain(n, i)) {
            sim_fail(s, "R5: node %u commits another entry %llu", node, U(i));
            return;
        }
    }
    if (index <= o->count)
        return;
    check_commit_durable(s, node, index, sim_node_chain(n, index));
    if (raft_log_term(&n->raft->log, index) != n->raft->hard.term)
        sim_fail(s, "R4: node %u commits %llu@%llu by counting, in term %llu (Figure 8)", node,
                 U(index), U(raft_log_term(&n->raft->log, index)), U(n->raft->hard.term));
    while (o->count < index && !s->failed) {
        uint64_t chain = sim_node_chain(n, o->count + 1);
        const struct raft_entry *e = raft_log_at(&n->raft->log, o->count + 1);

        if (e->type == RAFT_ENTRY_CONFIG)
            note_committed_config(s, e);

        if (o->count == o->capacity) {
            o->capacity = MAX((size_t)1024, o->capacity * 2);
            o->log = xrealloc_array(o->log, o->capacity, sizeof(*o->log));
        }
        o->log[o->count] =
            (struct sim_committed){ .commit_term = n->raft->hard.term, .chain = chain };
        o->count++;
    }
}

void sim_check_step(struct sim *s, uint32_t node, const struct raft_effects *fx)
{
    struct sim_node *n = &s->nodes[node];
    const struct raft *r = n->raft;
    const char *broken;

    if (s->failed)
        return;
    if (fx->state == RAFT_LEADER && (r->hard.term != n->term || fx->leader_changed))
        check_new_leader(s, node);
    if (r->hard.term < n->term)
        sim_fail(s, "R10: node %u goes back to term %llu", node, U(r->hard.term));
    if (r->log.commit_index < n->commit)
        sim_fail(s, "R10: node %u goes back to commit %llu", node, U(r->log.commit_index));
    if (r->log.applied_index < n->applied)
        sim_fail(s, "R10: node %u goes back to applied %llu", node, U(r->log.applied_index));
    if (r->log.commit_index > n->commit)
        check_commit(s, node, r->log.commit_index);
    if (fx->hard_state_changed && n->disk.lost && !r->hard.fenced &&
        !was_recorded(s, node, r->hard.incarnation))
        sim_fail(s, "R9: node %u unfences itself, though no committed entry says so", node);
    n->term = r->hard.term;
    n->commit = r->log.commit_index;
    n->applied = r->log.applied_index;
    broken = raft_invariants(r, s->steps % 64 == 0);
    if (broken != NULL)
        sim_fail(s, "node %u: internal contradiction: %s", node, broken);
}

/* ---- promises in messages -------------------------------------------------------------------- */

static void check_vote_sent(struct sim *s, uint32_t node, const struct raft_message *m)
{
    const struct sim_node *n = &s->nodes[node];
    uint64_t candidate = m->type == RAFT_MSG_VOTE ? m->from : m->to;

    if (n->disk.lost)
        sim_fail(s, "R9: node %u votes although its disk went back", node);
    if (n->disk.hard.term != m->term || n->disk.hard.vote != candidate)
        sim_fail(s, "R9: node %u sends a vote of term %llu that is not on its disk", node,
                 U(m->term));
}

static void check_ack_sent(struct sim *s, uint32_t node, const struct raft_message *m)
{
    const struct sim_node *n = &s->nodes[node];
    uint64_t covered = n->disk.snapshot != NULL ? n->disk.snapshot->meta.index : 0;
    uint64_t chain = sim_node_chain(n, m->index);

    /* Said before a snapshot, still being installed, replaced the log in memory. */
    if (m->index < n->chain_base && m->index > 0)
        chain = s->oracle.log[m->index - 1].chain;
    if (m->index > covered && sim_disk_chain(&n->disk, m->index) != chain)
        sim_fail(s, "R7: node %u acknowledges %llu, which is not on its disk", node, U(m->index));
}

/* Thesis §3.10: the target of a transfer has the whole log. */
static void check_timeout_now(struct sim *s, uint32_t node, const struct raft_message *m)
{
    const struct sim_node *n = &s->nodes[node];
    uint64_t last = raft_log_last(&n->raft->log);
    int slot = sim_slot(s, m->to);
    const struct sim_disk *d = slot < 0 ? NULL : &s->nodes[slot].disk;

    if (d == NULL || d->lost || s->nodes[slot].has_twin)
        return;
    if (sim_disk_chain(d, last) != sim_node_chain(n, last) &&
        (d->snapshot == NULL || d->snapshot->meta.index < last))
        sim_fail(s, "node %u hands leadership to %d, which lags", node, slot);
}

void sim_check_message(struct sim *s, uint32_t node, const struct raft_message *m)
{
    if (s->failed)
        return;
    if (raft_message_check(m, NULL) < 0)
        sim_fail(s, "R18: node %u sends a malformed message of type %d", node, (int)m->type);
    if (m->type == RAFT_MSG_VOTE || (m->type == RAFT_MSG_VOTE_REPLY && !m->reject))
        check_vote_sent(s, node, m);
    else if (m->type == RAFT_MSG_APPEND_REPLY || m->type == RAFT_MSG_HEARTBEAT_REPLY)
        check_ack_sent(s, node, m);
    else if (m->type == RAFT_MSG_TIMEOUT_NOW)
        check_timeout_now(s, node, m);
}

/* ---- state machine --------------------------------------------------------------------------- */

void sim_check_apply(struct sim *s, uint32_t node, const struct raft_entry *e)
{
    struct sim_node *n = &s->nodes[node];
    struct sim_oracle *o = &s->oracle;
    struct sim_committed *c;
    bool compare = s->machine->hash_every == 0 || e->index % s->machine->hash_every == 0;
    uint64_t hash = compare ? s->machine->hash(n->machine) : 0;

    if (e->index > o->count) {
        sim_fail(s, "R5: node %u applies uncommitted entry %llu", node, U(e->index));
        return;
    }
    c = &o->log[e->index - 1];
    if (sim_node_chain(n, e->index) != 0 && c->chain != sim_node_chain(n, e->index))
        sim_fail(s, "R5: node %u applies another entry %llu", node, U(e->index));
    if (!c->applied) {
        c->applied = true;
        c->state_hash = hash;
    } else if (c->state_hash != hash) {
        sim_fail(s, "R5: the state of node %u after %llu is different", node, U(e->index));
    }
    s->hash = sim_mix(s->hash, hash ^ e->index ^ ((uint64_t)node << 60));
}

void sim_check_restore(struct sim *s, uint32_t node, const struct sim_snapshot *snapshot)
{
    const struct sim_oracle *o = &s->oracle;
    uint64_t index = snapshot->meta.index;

    if (index > o->count || !o->log[index - 1].applied)
        sim_fail(s, "R15: node %u restores %llu, which was never committed", node, U(index));
    else if (o->log[index - 1].chain != snapshot->chain)
        sim_fail(s, "R15: node %u restores another log's %llu", node, U(index));
    else if ((s->machine->hash_every == 0 || index % s->machine->hash_every == 0) &&
             o->log[index - 1].state_hash != s->machine->hash(s->nodes[node].machine))
        sim_fail(s, "R15: node %u restores a state that is not the one after %llu", node, U(index));
}
