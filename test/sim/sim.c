#include "test/sim/sim.h"

#include <stdarg.h>
#include <string.h>

#include "common/assert.h"

int raft_mutant; /* planted bug in force; product code never looks (managerd/raft/mutant.h) */

enum {
    LIVENESS_US = 60 * SIM_S,      /* a healed core has this long to agree and serve */
    STABLE_US = 20 * SIM_S,        /* then it has to stay calm this long */
    STABLE_LEADER_CHANGES_MAX = 2, /* R20 */
    LIVENESS_OPERATIONS_MIN = 20,
    FULL_EVERY = 8, /* seeds: full nodes are slower, all of Skep is more so */
    SKEP_EVERY = 16,
    OPERATOR_IDLE_MS = 300, /* between looks at fenced members, in seeds without an operator */
};

#define U(x) ((unsigned long long)(x))

uint64_t sim_mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9fb21c651e98df25u;
    return hash ^ (hash >> 29);
}

uint64_t sim_exponential(struct prng *p, uint64_t mean)
{
    /* The leading zeros of a random word are geometric: -log2(u) by whole steps and a linear rest.
     */
    uint64_t word = prng_next(p) | 1;
    int zeros = __builtin_clzll(word);
    uint64_t rest = (word << zeros) >> 48; /* 2^15 … 2^16 - 1 */
    uint64_t log2_fixed = ((uint64_t)zeros << 15) + (65535 - rest);

    return 1 + mean * log2_fixed / 32768 * 693 / 1000;
}

void sim_schedule(struct sim *s, uint64_t delay_us, const struct sim_event *e)
{
    struct sim_event scheduled = *e;

    scheduled.at_us = s->now_us + delay_us;
    sim_queue_push(&s->queue, &scheduled);
}

void sim_fail(struct sim *s, const char *format, ...)
{
    va_list args;

    if (s->failed)
        return;
    s->failed = true;
    va_start(args, format);
    (void)vsnprintf(s->reason, sizeof(s->reason), format, args); /* cut if need be */
    va_end(args);
    SIM_TRACE(s, "FAILED %s", s->reason);
}

void sim_tracef(struct sim *s, const char *format, ...)
{
    va_list args;

    printf("%10.3f ms #%llu ", (double)s->now_us / 1000, U(s->steps));
    va_start(args, format);
    (void)vprintf(format, args); /* a lost trace line is seen by who asked for it */
    va_end(args);
    printf("\n");
}

/* ---- set-up ---------------------------------------------------------------------------------- */

struct sim *sim_new(uint64_t seed, enum sim_kind kind, bool trace)
{
    static uint32_t number;
    struct sim *s = xcalloc(1, sizeof(*s));

    s->seed = seed;
    s->trace = trace;
    s->number = ++number;
    prng_init(&s->seeds, seed);
    prng_init(&s->net, prng_next(&s->seeds));
    prng_init(&s->disk, prng_next(&s->seeds));
    prng_init(&s->clock, prng_next(&s->seeds));
    prng_init(&s->client, prng_next(&s->seeds));
    prng_init(&s->fault, prng_next(&s->seeds));
    prng_init(&s->member, prng_next(&s->seeds));
    sim_rates_draw(s);
    prng_init(&s->entropy, prng_next(&s->seeds));
    s->cluster_id = id_from_prng(&s->entropy);
    s->kind = kind != SIM_KIND_DRAWN   ? kind
              : seed % SKEP_EVERY == 4 ? SIM_KIND_SKEP
              : seed % FULL_EVERY == 0 ? SIM_KIND_FULL
                                       : SIM_KIND_PLAIN;
    s->full = s->kind != SIM_KIND_PLAIN;
    s->workload = s->kind == SIM_KIND_SKEP ? &sim_skep : &sim_clients;
    s->machine = s->workload->machine;
    if (s->kind == SIM_KIND_SKEP)
        s->rates.segment_bytes = 64 << 10; /* transactions are larger than a write of a register */
    s->node_count = s->rates.nodes + s->rates.spare_nodes;
    ASSERT(s->node_count <= SIM_NODES_MAX);
    for (uint32_t i = 0; i < s->node_count; i++) {
        uint64_t error = prng_below(&s->clock, 2 * (uint64_t)s->rates.clock_error_ppm + 1);

        s->nodes[i].clock_ppm = (int64_t)error - s->rates.clock_error_ppm;
        s->nodes[i].life = 1;
    }
    return s;
}

static void event_free(struct sim *s, struct sim_event *e)
{
    if (e->type == SIM_EV_MESSAGE) {
        if (e->mem != NULL && ((struct raft_message *)e->mem)->type == RAFT_MSG_SNAPSHOT)
            sim_snapshot_unref(s, (struct sim_snapshot *)(uintptr_t)e->b);
        sim_message_free(e->mem);
    } else if (e->type == SIM_EV_SNAPSHOT) {
        sim_snapshot_unref(s, e->mem);
    } else {
        free(e->mem);
    }
}

void sim_free(struct sim *s)
{
    struct sim_event e;

    while (sim_queue_pop(&s->queue, &e))
        event_free(s, &e);
    free(s->queue.events);
    for (uint32_t i = 0; i < SIM_NODES_MAX; i++) {
        struct sim_node *n = &s->nodes[i];

        if (n->up)
            sim_node_crash(s, i);
        if (s->full && n->raft_id != 0)
            sim_full_forget(s, i);
        sim_disk_clear(s, &n->disk);
        sim_disk_clear(s, &n->backup);
        sim_twin_forget(s, i);
        free(n->chains);
    }
    if (s->workload_state != NULL)
        s->workload->destroy(s->workload_state);
    free(s->oracle.log);
    free(s->oracle.term_leader);
    free(s->oracle.map_keys);
    free(s->oracle.map_chains);
    free(s);
}

void sim_describe(const struct sim *s, FILE *out)
{
    static const char *const kinds[] = { "", "plain", "full", "skep" };
    const struct sim_rates *r = &s->rates;

    fprintf(
        out,
        "seed=%llu nodes=%u+%u clients=%u loss=%u dup=%u delay=%u+%uus clog=%u/%uus "
        "partition=%u/%u crash=%u/%u pause=%u wipe=%u restore=%u clone=%u disk=%uus stall=%u/%uus "
        "clock=%u operator=%ums transfer=%u snapshot=%u tail=%u propose=%uus think=%uus "
        "inflight=%u bytes=%u fault=%uus kind=%s segment=%u chunk=%u sync_fail=%u space=%u "
        "rot=%u\n",
        U(s->seed), r->nodes, r->spare_nodes, r->clients, r->loss_ppm, r->duplicate_ppm,
        r->delay_min_us, r->delay_mean_us, r->clog_ppm, r->clog_us, r->partition_ppm, r->heal_ppm,
        r->crash_ppm, r->crash_all_ppm, r->pause_ppm, r->wipe_ppm, r->restore_ppm, r->clone_ppm,
        r->disk_us, r->disk_stall_ppm, r->disk_stall_us, r->clock_error_ppm, r->operator_ms,
        r->transfer_ppm, r->snapshot_entries, r->tail_entries, r->propose_delay_us, r->think_us,
        r->inflight, r->message_bytes, r->fault_us, kinds[s->kind], r->segment_bytes,
        r->chunk_bytes, r->sync_fail_ppm, r->space_ppm, r->rot_ppm);
}

/* ---- one event ------------------------------------------------------------------------------- */

static bool for_this_life(const struct sim *s, const struct sim_event *e)
{
    return s->nodes[e->node].up && s->nodes[e->node].life == e->a;
}

/* A paused node's events wait; its clock does not. */
static bool postponed(struct sim *s, struct sim_event *e)
{
    uint64_t until;

    if (e->type == SIM_EV_WORKLOAD || e->type == SIM_EV_FAULT || e->type == SIM_EV_OPERATOR ||
        e->type == SIM_EV_RESTART)
        return false;
    until = s->nodes[e->node].paused_until_us;
    if (until <= s->now_us || !s->nodes[e->node].up)
        return false;
    e->at_us = until;
    sim_queue_push(&s->queue, e);
    return true;
}

static void transfer_end(struct sim *s, const struct sim_event *e)
{
    struct raft_event ev = { .type = e->b != 0 ? RAFT_EV_SNAPSHOT_SENT : RAFT_EV_SNAPSHOT_FAILED,
                             .peer = { .raft_id = e->a, .snapshot_index = e->b } };

    (void)sim_node_step(s, e->node, &ev); /* cannot be refused */
}

static void recur(struct sim *s, enum sim_event_type type, uint64_t delay_us)
{
    struct sim_event e = { .type = type };

    sim_schedule(s, delay_us, &e);
}

static void handle(struct sim *s, struct sim_event *e)
{
    switch (e->type) {
    case SIM_EV_MESSAGE:
        sim_net_deliver(s, e);
        return; /* which consumed it */
    case SIM_EV_TIMER:
        if (for_this_life(s, e))
            sim_node_timer(s, e->node);
        return;
    case SIM_EV_DISK:
        if (for_this_life(s, e))
            (s->full ? sim_full_job : sim_disk_done)(s, e->node);
        return;
    case SIM_EV_SNAPSHOT:
        if (for_this_life(s, e))
            sim_node_snapshot_written(s, e);
        else
            event_free(s, e);
        return;
    case SIM_EV_TRANSFER_END:
        transfer_end(s, e);
        return;
    case SIM_EV_CHUNK:
        sim_full_chunk(s, e);
        free(e->mem);
        return;
    case SIM_EV_CHUNK_REPLY:
        if (for_this_life(s, e))
            sim_full_chunk_reply(s, e);
        free(e->mem);
        return;
    case SIM_EV_RESTART:
        if (!s->nodes[e->node].up && s->nodes[e->node].life == e->a && s->nodes[e->node].used &&
            !s->nodes[e->node].gone)
            sim_node_start(s, e->node);
        return;
    case SIM_EV_WORKLOAD:
    case SIM_EV_WORKLOAD_AT:
        s->workload->event(s, e);
        free(e->mem);
        return;
    case SIM_EV_FAULT:
        if (!s->calm) {
            sim_nemesis_step(s);
            recur(s, SIM_EV_FAULT, sim_exponential(&s->fault, s->rates.fault_us));
        }
        return;
    case SIM_EV_OPERATOR:
        sim_operator_step(s);
        recur(s, SIM_EV_OPERATOR,
              sim_exponential(&s->member,
                              (s->rates.operator_ms != 0 && !s->calm ? s->rates.operator_ms
                                                                     : OPERATOR_IDLE_MS) *
                                  (uint64_t)SIM_MS));
        return;
    }
}

static bool step(struct sim *s)
{
    struct sim_event e;

    if (s->failed || !sim_queue_pop(&s->queue, &e))
        return false;
    ASSERT(e.at_us >= s->now_us);
    s->now_us = e.at_us;
    if (postponed(s, &e))
        return true;
    s->steps++;
    handle(s, &e);
    return true;
}

/* ---- phases ---------------------------------------------------------------------------------- */

/* The leader that a whole core follows, having applied all it committed; -1 if there is none. */
static int agreed_leader(const struct sim *s)
{
    int leader = -1;

    for (uint32_t i = 0; i < s->node_count; i++) {
        const struct raft *r = s->nodes[i].raft;

        if (s->core[i] && s->nodes[i].up && r->state == RAFT_LEADER &&
            r->log.applied_index >= r->term_first_index)
            leader = (int)i;
    }
    for (uint32_t i = 0; leader >= 0 && i < s->node_count; i++) {
        const struct raft *r = s->nodes[i].raft;
        const struct raft *l = s->nodes[leader].raft;

        if (!s->core[i] || i == (uint32_t)leader ||
            raft_config_find(&l->config, s->nodes[i].raft_id) == NULL)
            continue;
        if (r->hard.term != l->hard.term || r->leader != s->nodes[leader].raft_id ||
            r->log.applied_index + 10 < l->log.commit_index)
            return -1;
    }
    return leader;
}

static void explain_standstill(struct sim *s)
{
    size_t used = 0;
    char *out = s->reason;

    sim_fail(s, "R20: no agreement in time:");
    used = strlen(out);
    for (uint32_t i = 0; i < s->node_count && used + 64 < sizeof(s->reason); i++) {
        const struct sim_node *n = &s->nodes[i];

        if (!n->up)
            continue;
        used += (size_t)snprintf(
            out + used, sizeof(s->reason) - used, " %u%s:%s%s t%llu l%llu c%llu cfg%llu[", i,
            s->core[i] ? "*" : "", raft_state_str(n->raft->state),
            n->raft->hard.fenced ? " fenced" : "", U(n->raft->hard.term),
            U(raft_log_last(&n->raft->log)), U(n->raft->log.commit_index), U(n->config_index));
        used = MIN(used, sizeof(s->reason) - 1);
        for (uint32_t j = 0; j < n->config.member_count && used + 8 < sizeof(s->reason); j++)
            used +=
                (size_t)snprintf(out + used, 8, "%d%s ", sim_slot(s, n->config.members[j].raft_id),
                                 n->config.members[j].role == RAFT_VOTER ? "" : "l");
        out[used - 1] = ']';
    }
}

/* R20: a core with a quorum agrees on a leader, serves, and does not keep changing its mind. */
static void liveness(struct sim *s)
{
    uint64_t deadline_us = s->now_us + LIVENESS_US, completed = s->completed, changes, stable_us;
    int leader = -1;

    while (s->now_us < deadline_us && step(s)) {
        if (s->steps % 64 == 0 && s->completed >= completed + LIVENESS_OPERATIONS_MIN) {
            leader = agreed_leader(s);
            if (leader >= 0)
                break;
        }
    }
    if (s->failed)
        return;
    if (leader < 0) {
        explain_standstill(s);
        return;
    }
    SIM_TRACE(s, "the core follows %d", leader);
    changes = s->oracle.leader_changes;
    completed = s->completed;
    stable_us = s->now_us + STABLE_US;
    for (uint64_t events = 0; s->now_us < stable_us && events < 20000 && step(s); events++)
        ;
    if (s->oracle.leader_changes > changes + STABLE_LEADER_CHANGES_MAX)
        sim_fail(s, "R20: %llu leader changes after the core had agreed",
                 U(s->oracle.leader_changes - changes));
    else if (s->completed == completed)
        sim_fail(s, "R20: nothing was served after the core had agreed");
}

/* O7 */
static void settle(struct sim *s)
{
    uint64_t end_us = s->now_us + s->workload->settle_us, poll_us = s->now_us;
    struct err e = { 0 };

    while (s->now_us < end_us && step(s)) {
        if (s->now_us < poll_us)
            continue;
        if (s->workload->settled(s, &e))
            return;
        poll_us = s->now_us + s->workload->settle_poll_us;
    }
    if (!s->failed)
        sim_fail(s, "%s", e.message);
}

bool sim_run(struct sim *s, uint64_t events)
{
    s->workload_state = s->workload->create(s);
    sim_operator_bootstrap(s);
    recur(s, SIM_EV_FAULT, s->rates.fault_us);
    recur(s, SIM_EV_OPERATOR, 100 * SIM_MS);
    while (s->steps < events && step(s))
        ;
    SIM_TRACE(s, "safety phase over: %llu operations, %llu entries, %llu leaders", U(s->completed),
              U(s->oracle.count), U(s->oracle.leader_changes));
    if (!s->failed)
        s->core_found = sim_nemesis_heal(s);
    if (s->core_found && !s->failed)
        liveness(s);
    if (s->core_found && !s->failed && s->workload->settled != NULL)
        settle(s);
    return !s->failed;
}
