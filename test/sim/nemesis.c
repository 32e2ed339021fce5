/* Faults: which kinds a seed has, when they strike, and how a core is healed in the end. */
#include <string.h>

#include "common/assert.h"
#include "test/sim/link/link.h"
#include "test/sim/sim.h"

static uint32_t between(struct sim *s, uint32_t low, uint32_t high)
{
    return (uint32_t)prng_range(&s->seeds, low, high);
}

static bool one_in(struct sim *s, uint32_t n)
{
    return prng_below(&s->seeds, n) == 0;
}

/* Swarm testing: a third of the seeds have one kind of fault, one in ten none, the rest a random
 * subset; a fault that is always there hides the bugs that need its absence. */
void sim_rates_draw(struct sim *s)
{
    struct sim_rates *r = &s->rates;
    uint32_t kinds =
        one_in(s, 10) ? 0 : (one_in(s, 3) ? 1u << between(s, 0, 9) : between(s, 0, 1023));

    *r = (struct sim_rates){
        .nodes = between(s, 1, 5),
        .spare_nodes = between(s, 0, 3),
        .clients = between(s, 1, SIM_CLIENTS_MAX),
        .delay_min_us = between(s, 50, 5000),
        .delay_mean_us = between(s, 100, 20000),
        .disk_us = between(s, 100, 10000),
        .snapshot_entries = between(s, 8, 64),
        .tail_entries = between(s, 0, 16),
        .propose_delay_us = one_in(s, 2) ? 0 : between(s, 0, one_in(s, 3) ? 3 * SIM_S : 20000),
        .think_us = between(s, 1000, 100000),
        .inflight = between(s, 1, 8),
        .message_bytes = between(s, 64, 2048),
        .fault_us = between(s, 10, 300) * SIM_MS,
    };
    if (r->nodes < 3 && !one_in(s, 3))
        r->nodes = 3;
    if (kinds & 1u)
        r->loss_ppm = between(s, 1000, 300000);
    if (kinds & 2u)
        r->duplicate_ppm = between(s, 1000, 500000);
    if (kinds & 4u) {
        r->clog_ppm = between(s, 100, 20000);
        r->clog_us = between(s, 10, 5000) * SIM_MS;
    }
    if (kinds & 8u) {
        r->partition_ppm = between(s, 10000, 300000);
        r->heal_ppm = between(s, 50000, 500000);
    }
    if (kinds & 16u) {
        r->crash_ppm = between(s, 10000, 300000);
        r->crash_all_ppm = one_in(s, 2) ? between(s, 1000, 50000) : 0;
    }
    if (kinds & 32u)
        r->pause_ppm = between(s, 10000, 200000);
    if (kinds & 64u) {
        r->wipe_ppm = between(s, 5000, 100000);
        r->restore_ppm = between(s, 5000, 100000);
        r->clone_ppm = between(s, 5000, 100000);
    }
    if (kinds & 128u) {
        r->disk_stall_ppm = between(s, 1000, 50000);
        r->disk_stall_us = between(s, 10, 5000) * SIM_MS;
    }
    if (kinds & 256u)
        r->clock_error_ppm = between(s, 0, 50000);
    if (kinds & 512u) {
        r->operator_ms = between(s, 50, 1000);
        r->transfer_ppm = between(s, 0, 500000);
    }
    r->snapshot_loss_ppm = r->loss_ppm;
    r->segment_bytes = 4096 << between(s, 0, 2);
    r->chunk_bytes = between(s, 100, 1200);
    if (one_in(s, 4))
        r->sync_fail_ppm = between(s, 1000, 100000);
    if (one_in(s, 4))
        r->space_ppm = between(s, 1000, 100000);
    if (one_in(s, 4))
        r->rot_ppm = between(s, 5000, 150000);
}

int sim_slot(const struct sim *s, uint64_t raft_id)
{
    uint32_t slot = (uint32_t)(raft_id % 16);

    if (raft_id == RAFT_NONE || slot >= SIM_NODES_MAX || s->nodes[slot].raft_id != raft_id)
        return -1;
    return (int)slot;
}

/* ---- links ----------------------------------------------------------------------------------- */

static void heal_links(struct sim *s)
{
    memset(s->blocked, 0, sizeof(s->blocked));
    memset(s->clogged_until_us, 0, sizeof(s->clogged_until_us));
}

static void cut_links(struct sim *s)
{
    uint64_t kind = prng_below(&s->fault, 6);
    uint32_t victim = (uint32_t)prng_below(&s->fault, s->node_count);
    uint64_t side = prng_next(&s->fault);
    bool one_way = prng_below(&s->fault, 3) == 0;

    heal_links(s);
    for (uint32_t a = 0; a < s->node_count; a++) {
        for (uint32_t b = a + 1; b < s->node_count; b++) {
            bool cut = false;

            switch (kind) {
            case 0: /* isolate one */
                cut = a == victim || b == victim;
                break;
            case 1: /* bisect */
            case 2:
                cut = ((side >> a) & 1) != ((side >> b) & 1);
                break;
            case 3: /* ring: neighbours only */
                cut = b - a != 1 && !(a == 0 && b == s->node_count - 1);
                break;
            case 4: /* partial mesh */
                cut = prng_below(&s->fault, 3) == 0;
                break;
            default: /* bridge: all see one node, and only that */
                cut = a != victim && b != victim;
                break;
            }
            if (!cut)
                continue;
            s->blocked[a][b] = !one_way || (side >> (a + b)) & 1;
            s->blocked[b][a] = !one_way || !s->blocked[a][b];
        }
    }
    SIM_TRACE(s, "links cut, kind %llu%s", (unsigned long long)kind, one_way ? ", one way" : "");
}

/* ---- nodes ----------------------------------------------------------------------------------- */

/* Nobody depends on which of two twins is heard next. */
static bool quorum_in(const struct sim *s, const struct raft_config *c, const bool *of)
{
    uint32_t voters = 0, present = 0;

    for (uint32_t i = 0; i < c->member_count; i++) {
        int slot = sim_slot(s, c->members[i].raft_id);

        if (c->members[i].role != RAFT_VOTER)
            continue;
        voters++;
        present += slot >= 0 && of[slot] && !s->nodes[slot].disk.lost && !s->nodes[slot].has_twin;
    }
    return present >= voters / 2 + 1;
}

/* The fault atlas: a disk may be lost only while every configuration in use keeps a quorum of disks
 * that were not. */
static bool may_lose_disk(const struct sim *s, uint32_t node)
{
    bool others[SIM_NODES_MAX];

    for (uint32_t i = 0; i < SIM_NODES_MAX; i++)
        others[i] = i != node && s->nodes[i].used;
    for (uint32_t i = 0; i < s->node_count; i++) {
        const struct sim_node *n = &s->nodes[i];

        if (!n->used)
            continue;
        if (n->disk.lost || n->has_twin || (n->rotten && i != node) || (!n->up && i != node) ||
            n->config.member_count == 0)
            return false; /* one at a time, and only while all configurations are in sight */
        if (!quorum_in(s, &n->config, others))
            return false;
    }
    return true;
}

void sim_nemesis_restart_later(struct sim *s, uint32_t node)
{
    struct sim_event e = { .type = SIM_EV_RESTART, .node = node, .a = s->nodes[node].life };

    sim_schedule(s, 1 + prng_below(&s->fault, 3 * SIM_S), &e);
}

/* A wiped full node has no identity in the log any more: it is removed, and joins as another. */
static void lose_files(struct sim *s, uint32_t node, bool restore)
{
    struct sim_node *n = &s->nodes[node];
    uint64_t last = sim_disk_last(&n->disk);

    sim_node_crash(s, node);
    n->disk.lost = n->disk.fence_due = n->replaced = true;
    n->disk.lost_last = last;
    SIM_TRACE(s, "%u> its disk is %s", node, restore ? "restored from a backup" : "wiped");
    if (!restore) {
        sim_full_wipe(s, node);
        n->gone = true;
        return;
    }
    sim_full_restore(s, node);
    sim_nemesis_restart_later(s, node);
}

static void lose_disk(struct sim *s, uint32_t node, bool restore)
{
    struct sim_node *n = &s->nodes[node];
    uint64_t last;

    if (!n->up || !may_lose_disk(s, node) || (restore && !n->has_backup))
        return;
    if (s->full) {
        lose_files(s, node, restore);
        return;
    }
    sim_node_crash(s, node);
    last = sim_disk_last(&n->disk);
    sim_disk_clear(s, &n->disk);
    if (restore)
        sim_disk_copy(&n->backup, &n->disk);
    n->disk.lost = true;
    n->disk.fence_due = true;
    n->disk.lost_last = last;
    SIM_TRACE(s, "%u> its disk is %s", node, restore ? "restored from a backup" : "wiped");
    sim_nemesis_restart_later(s, node);
}

/* The copy and the original take turns to the end. */
static void clone_disk(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];

    if (n->has_twin) {
        if (prng_below(&s->fault, 3) == 0)
            sim_twin_swap(s, node);
    } else if (n->up && !n->rotten && prng_chance_ppm(&s->fault, s->rates.clone_ppm) &&
               may_lose_disk(s, node)) {
        sim_twin_make(s, node);
    }
}

static void back_up(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];

    if (n->has_backup && prng_below(&s->fault, 4) != 0)
        return;
    if (s->full) {
        sim_full_back_up(s, node);
    } else {
        sim_disk_clear(s, &n->backup);
        sim_disk_copy(&n->disk, &n->backup);
    }
    n->has_backup = true;
}

/* ---- files of full nodes --------------------------------------------------------------------- */

/* Bits rot while the process is away. What was written is on the disk by then: a damaged record
 * that nothing vouches for may be dropped as torn, and that would be the nemesis's doing. */
static void rot(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];
    char text[128];

    if (n->gone || !may_lose_disk(s, node))
        return;
    sim_node_kill(s, node);
    if (link_dir_rot(sim_full_dir(s, node), text, sizeof(text))) {
        n->rotten = true;
        SIM_TRACE(s, "%u> %s", node, text);
    }
    sim_nemesis_restart_later(s, node);
}

static void disturb_files(struct sim *s, uint32_t node)
{
    const struct sim_rates *r = &s->rates;
    struct sim_node *n = &s->nodes[node];

    if (n->up && prng_chance_ppm(&s->fault, r->sync_fail_ppm))
        link_dir_fail_sync(sim_full_dir(s, node), 1 + (uint32_t)prng_below(&s->fault, 4));
    if (n->up && prng_chance_ppm(&s->fault, r->space_ppm))
        link_dir_limit(sim_full_dir(s, node), prng_below(&s->fault, 4 * r->segment_bytes));
    else if (!n->gone && prng_below(&s->fault, 4) == 0)
        link_dir_limit(sim_full_dir(s, node), UINT64_MAX);
    if (n->up && prng_chance_ppm(&s->fault, r->rot_ppm))
        rot(s, node);
    /* The wall clock jumps, by an hour or by years, either way: nothing may depend on it (F17). */
    if (r->clock_error_ppm != 0 && prng_below(&s->fault, 16) == 0)
        n->wall_offset_ns =
            ((int64_t)prng_below(&s->fault, 2001) - 1000) *
            (prng_below(&s->fault, 2) == 0 ? INT64_C(3600000000) : INT64_C(315360000000000));
}

void sim_nemesis_step(struct sim *s)
{
    const struct sim_rates *r = &s->rates;
    uint32_t node = (uint32_t)prng_below(&s->fault, s->node_count);
    struct sim_node *n = &s->nodes[node];

    if (prng_chance_ppm(&s->fault, r->partition_ppm))
        cut_links(s);
    else if (prng_chance_ppm(&s->fault, r->heal_ppm))
        heal_links(s);
    if (!n->used)
        return;
    if (n->up && prng_chance_ppm(&s->fault, r->crash_ppm)) {
        sim_node_crash(s, node);
        sim_nemesis_restart_later(s, node);
    }
    if (n->up && prng_chance_ppm(&s->fault, r->pause_ppm)) {
        n->paused_until_us = s->now_us + sim_exponential(&s->fault, 2 * SIM_S);
        SIM_TRACE(s, "%u> paused", node);
    }
    if (s->full)
        disturb_files(s, node);
    if (prng_chance_ppm(&s->fault, r->wipe_ppm))
        lose_disk(s, node, false);
    if (r->restore_ppm != 0 && !n->gone) {
        back_up(s, node);
        if (prng_chance_ppm(&s->fault, r->restore_ppm))
            lose_disk(s, node, true);
    }
    if (r->clone_ppm != 0 && !n->gone)
        clone_disk(s, node);
    if (prng_chance_ppm(&s->fault, r->crash_all_ppm)) { /* R8 */
        SIM_TRACE(s, "power cut");
        for (uint32_t i = 0; i < s->node_count; i++) {
            if (!s->nodes[i].up)
                continue;
            sim_node_crash(s, i);
            sim_nemesis_restart_later(s, i);
        }
    }
}

/* ---- healing --------------------------------------------------------------------------------- */

/* Not empty, and every configuration in any log has a quorum in it: what the rest said last may
 * still be on its way. */
static bool is_core(const struct sim *s, const bool *core)
{
    uint32_t configs = 0;

    for (uint32_t i = 0; i < s->node_count; i++) {
        if (!s->nodes[i].used || s->nodes[i].config.member_count == 0)
            continue;
        if (!quorum_in(s, &s->nodes[i].config, core))
            return false;
        configs += core[i];
    }
    return configs > 0;
}

static bool choose_core(struct sim *s)
{
    uint32_t start = (uint32_t)prng_below(&s->fault, s->node_count);

    for (uint32_t i = 0; i < s->node_count; i++)
        s->core[i] = s->nodes[i].used && s->nodes[i].up;
    if (!is_core(s, s->core))
        return false;
    for (uint32_t i = 0; i < s->node_count; i++) {
        uint32_t node = (start + i) % s->node_count;

        if (!s->core[node] || prng_below(&s->fault, 2) == 0)
            continue;
        s->core[node] = false;
        s->core[node] = !is_core(s, s->core);
    }
    return true;
}

bool sim_nemesis_heal(struct sim *s)
{
    bool speaking = prng_below(&s->fault, 2) == 0;

    s->calm = true;
    heal_links(s);
    for (uint32_t i = 0; i < s->node_count; i++) {
        struct sim_node *n = &s->nodes[i];

        n->paused_until_us = 0;
        sim_twin_settle(s, i);
        if (s->full && n->used && !n->gone) {
            link_dir_limit(sim_full_dir(s, i), UINT64_MAX);
            link_dir_fail_sync(sim_full_dir(s, i), 0);
        }
        if (n->used && !n->up && !n->gone)
            sim_node_start(s, i);
    }
    if (s->failed || !choose_core(s))
        return false;
    /* The rest stays broken: dead, or alive and heard by all, but deaf (a half-dead switch). */
    for (uint32_t i = 0; i < s->node_count; i++) {
        if (s->core[i] || !s->nodes[i].up)
            continue;
        if (!speaking) {
            sim_node_crash(s, i);
            continue;
        }
        for (uint32_t j = 0; j < s->node_count; j++)
            s->blocked[j][i] = true;
    }
    return true;
}
