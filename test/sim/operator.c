/* Membership: what an operator and the manager's role loop do. Adds, promotes, demotes, removes and
 * readmits members through whichever node leads, and hands leadership around. */
#include <stdio.h>
#include <string.h>

#include "common/assert.h"
#include "test/sim/sim.h"

static struct raft_member new_member(struct sim *s, uint32_t slot)
{
    struct raft_member m = { .raft_id = ++s->raft_id_next * 16 + slot,
                             .node_id = id_from_prng(&s->seeds),
                             .role = RAFT_VOTER };

    (void)snprintf(m.address, sizeof(m.address), "10.0.0.%u:2377", slot + 1); /* always fits */
    return m;
}

/* All first members start from the same log, as if a founder had added them. */
void sim_operator_bootstrap(struct sim *s)
{
    struct raft_snapshot_meta meta = { .index = 1, .term = 1 };
    uint64_t state_hash = 0;

    for (uint32_t i = 0; i < s->rates.nodes; i++)
        meta.config.members[meta.config.member_count++] = new_member(s, i);
    for (uint32_t i = 0; i < s->rates.nodes; i++) {
        struct sim_node *n = &s->nodes[i];
        struct sim_snapshot *snapshot = xcalloc(1, sizeof(*snapshot));

        snapshot->references = 1;
        snapshot->meta = meta;
        snapshot->machine = s->machine->create();
        snapshot->hash = s->machine->hash(snapshot->machine);
        snapshot->chain = SIM_CHAIN_EMPTY + 2;
        state_hash = s->machine->hash_every == 0 ? snapshot->hash : 0; /* index 1 is not compared */
        n->raft_id = meta.config.members[i].raft_id;
        n->node_id = meta.config.members[i].node_id;
        n->used = true;
        n->disk.hard.term = 1;
        n->disk.snapshot = snapshot;
        if (s->full)
            sim_full_bootstrap(s, i, &meta);
    }
    s->oracle.capacity = 1024;
    s->oracle.log = xcalloc(s->oracle.capacity, sizeof(*s->oracle.log));
    s->oracle.count = 1;
    s->oracle.log[0] = (struct sim_committed){
        .commit_term = 1, .chain = SIM_CHAIN_EMPTY + 2, .state_hash = state_hash, .applied = true
    };
    for (uint32_t i = 0; i < s->rates.nodes; i++)
        sim_node_start(s, i);
}

static int change(struct sim *s, uint32_t leader, struct raft_ev_config_change *c)
{
    struct raft_event ev = { .type = RAFT_EV_CONFIG_CHANGE, .change = *c };
    int rc = sim_node_step(s, leader, &ev);

    SIM_TRACE(s, "%u> change %d of %d: %s", leader, (int)c->change, sim_slot(s, c->raft_id),
              rc == 0 ? "proposed" : err_str(rc));
    return rc;
}

static void give_back(struct sim *s, uint32_t slot)
{
    struct sim_node *n = &s->nodes[slot];

    SIM_TRACE(s, "%u> retired", slot);
    if (n->up)
        sim_node_crash(s, slot);
    n->life++;
    sim_disk_clear(s, &n->disk);
    sim_disk_clear(s, &n->backup);
    sim_twin_forget(s, slot);
    if (s->full)
        sim_full_forget(s, slot);
    n->has_backup = n->rotten = n->gone = n->used = false;
}

/* Slots whose member no configuration knows any more are given back. */
static void retire_slots(struct sim *s)
{
    for (uint32_t i = 0; i < s->node_count; i++) {
        struct sim_node *n = &s->nodes[i];
        bool known = false;

        if (!n->used)
            continue;
        for (uint32_t j = 0; j < s->node_count && !known; j++) {
            if (s->nodes[j].used && !s->nodes[j].up && !s->nodes[j].gone)
                return; /* it may hold a configuration that is not in sight */
            known = s->nodes[j].used && i != j &&
                    raft_config_find(&s->nodes[j].config, n->raft_id) != NULL;
        }
        if (known ||
            (n->config.member_count > 0 && raft_config_find(&n->config, n->raft_id) != NULL))
            continue;
        give_back(s, i);
    }
}

/* Members whose files are lost do not come back: they are removed, and their slots given back once
 * that is committed. */
static bool remove_gone(struct sim *s, uint32_t leader)
{
    for (uint32_t i = 0; i < s->node_count; i++) {
        struct sim_node *n = &s->nodes[i], *l = &s->nodes[leader];
        struct raft_ev_config_change c = { .change = RAFT_CHANGE_REMOVE,
                                           .raft_id = n->raft_id,
                                           .force = true };

        if (!n->used || !n->gone)
            continue;
        if (raft_config_find(raft_config(l->raft), n->raft_id) == NULL) {
            if (l->config_index <= l->commit)
                give_back(s, i);
            continue;
        }
        if (change(s, leader, &c) == 0)
            return true;
    }
    return false;
}

static void join_full(struct sim *s, uint32_t slot, uint32_t leader,
                      struct raft_ev_config_change *c)
{
    struct sim_node *n = &s->nodes[slot];

    n->used = true;
    n->life++;
    sim_node_start(s, slot);
    if (!n->up)
        return;
    c->incarnation = sim_full_incarnation(s, slot);
    (void)change(s, leader, c); /* refusals are part of the game */
}

static void add_member(struct sim *s, uint32_t leader)
{
    for (uint32_t i = 0; i < s->node_count; i++) {
        struct sim_node *n = &s->nodes[i];
        struct raft_member m;
        struct raft_ev_config_change c;

        if (n->used)
            continue;
        m = new_member(s, i);
        c = (struct raft_ev_config_change){ .change = RAFT_CHANGE_ADD_LEARNER,
                                            .raft_id = m.raft_id,
                                            .node_id = m.node_id,
                                            .address = m.address };
        n->raft_id = m.raft_id;
        n->node_id = m.node_id;
        if (s->full) { /* it has to say its incarnation; refused, it waits until it is given back */
            join_full(s, i, leader, &c);
            return;
        }
        if (change(s, leader, &c) < 0) {
            n->raft_id = 0;
            return;
        }
        n->used = true;
        n->life++;
        sim_node_start(s, i);
        return;
    }
}

/* Once a core is healed, the operator leaves the rest alone: it is broken for good. */
static bool hands_off(const struct sim *s, uint64_t raft_id)
{
    int slot = sim_slot(s, raft_id);

    return slot < 0 || (s->calm && !s->core[slot]);
}

static bool readmit(struct sim *s, uint32_t leader)
{
    struct raft_peer_status peers[RAFT_MEMBERS_MAX];
    size_t count = raft_peers(s->nodes[leader].raft, peers);

    for (size_t i = 0; i < count; i++) {
        struct raft_ev_config_change c = { .change = RAFT_CHANGE_READMIT,
                                           .raft_id = peers[i].raft_id,
                                           .incarnation = peers[i].incarnation };

        if (!peers[i].counted && !hands_off(s, peers[i].raft_id) && change(s, leader, &c) == 0)
            return true;
    }
    return false;
}

static int find_leader(const struct sim *s)
{
    int leader = -1;

    for (uint32_t i = 0; i < s->node_count; i++) {
        const struct sim_node *n = &s->nodes[i];

        if (n->up && n->raft->state == RAFT_LEADER && n->paused_until_us <= s->now_us &&
            (leader < 0 || n->raft->hard.term > s->nodes[leader].raft->hard.term))
            leader = (int)i;
    }
    return leader;
}

static void act(struct sim *s, uint32_t leader)
{
    const struct raft_config *config = raft_config(s->nodes[leader].raft);
    uint32_t at = (uint32_t)prng_below(&s->member, config->member_count);
    const struct raft_member *member = &config->members[at];
    struct raft_ev_config_change c = { .raft_id = member->raft_id,
                                       .force = prng_below(&s->member, 4) == 0 };

    switch (prng_below(&s->member, 8)) {
    case 0:
    case 1:
        add_member(s, leader);
        return;
    case 2:
    case 3:
    case 4:
        c.change = member->role == RAFT_LEARNER ? RAFT_CHANGE_PROMOTE : RAFT_CHANGE_DEMOTE;
        if (c.change == RAFT_CHANGE_DEMOTE && prng_below(&s->member, 2) == 0)
            return;
        break;
    case 5:
        c.change = RAFT_CHANGE_REMOVE;
        break;
    case 6:
        c.change = RAFT_CHANGE_ADDRESS;
        c.address = "10.1.1.1:2377";
        break;
    default:
        c.change = RAFT_CHANGE_PROMOTE;
        break;
    }
    (void)change(s, leader, &c); /* refusals are part of the game */
}

/* The old leader is the last to hear of the new one: what reaches it is late. */
static void deafen(struct sim *s, uint32_t node)
{
    uint64_t until_us = s->now_us + (200 + prng_below(&s->member, 1800)) * SIM_MS;

    for (uint32_t from = 0; from < s->node_count; from++)
        s->clogged_until_us[from][node] = MAX(s->clogged_until_us[from][node], until_us);
}

void sim_operator_step(struct sim *s)
{
    int leader = find_leader(s);

    if (leader < 0 || hands_off(s, s->nodes[leader].raft_id))
        return;
    if (readmit(s, (uint32_t)leader) || remove_gone(s, (uint32_t)leader))
        return;
    leader = find_leader(s); /* a change may have ended its process */
    if (leader < 0)
        return;
    if (s->rates.operator_ms == 0 || s->calm) {
        /* Only wiped disks need a hand: readmitted learners become voters again. */
        const struct raft_config *config = raft_config(s->nodes[leader].raft);

        for (uint32_t i = 0; i < config->member_count; i++) {
            struct raft_ev_config_change c = { .change = RAFT_CHANGE_PROMOTE,
                                               .raft_id = config->members[i].raft_id };

            if (config->members[i].role == RAFT_LEARNER && !hands_off(s, c.raft_id) &&
                !s->nodes[sim_slot(s, c.raft_id)].disk.lost && change(s, (uint32_t)leader, &c) == 0)
                return;
        }
        return;
    }
    if (prng_chance_ppm(&s->member, s->rates.transfer_ppm)) {
        struct raft_event ev = { .type = RAFT_EV_TRANSFER };
        uint32_t target = (uint32_t)prng_below(&s->member, s->node_count);

        ev.target = prng_below(&s->member, 2) == 0 ? RAFT_NONE : s->nodes[target].raft_id;
        SIM_TRACE(s, "%d> transfer to %d", leader, sim_slot(s, ev.target));
        (void)sim_node_step(s, (uint32_t)leader, &ev); /* refusals are part of the game */
        if (!s->calm && prng_below(&s->member, 2) == 0)
            deafen(s, (uint32_t)leader);
        return;
    }
    retire_slots(s);
    leader = find_leader(s);
    if (leader >= 0)
        act(s, (uint32_t)leader);
}
