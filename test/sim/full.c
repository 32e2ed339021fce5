/* Life of a full node: start, crash, jobs, and what the simulator asks of it. */
#include "test/sim/full.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"

enum {
    DIE_WITHIN_OPERATIONS = 16, /* of the disk, when a process dies in a job */
    START_OPERATIONS = 40,      /* about as many as a start takes */
};

#define WALL_START_NS INT64_C(1700000000000000000)

static struct sim_full *current;

struct sim_full *sim_full_current(void)
{
    return current;
}

/* ---- directories ----------------------------------------------------------------------------- */

static void path_of(const struct sim *s, uint32_t node, const char *kind, char path[64])
{
    (void)snprintf(path, 64, "/%s%u/%llx", kind, s->number, /* fits */
                   (unsigned long long)s->nodes[node].raft_id);
}

struct link_dir *sim_full_dir(struct sim *s, uint32_t node)
{
    char path[64];

    path_of(s, node, "raft", path);
    return link_dir_get(path, &s->disk);
}

void sim_full_wipe(struct sim *s, uint32_t node)
{
    char path[64];

    path_of(s, node, "raft", path);
    link_dir_remove(path);
}

void sim_full_copy_twin(struct sim *s, uint32_t node)
{
    char path[64];

    path_of(s, node, "twin", path);
    link_dir_copy(sim_full_dir(s, node), path, &s->disk);
}

void sim_full_swap_twin(struct sim *s, uint32_t node)
{
    char twin[64], path[64];

    path_of(s, node, "twin", twin);
    path_of(s, node, "raft", path);
    link_dir_swap(twin, path);
}

void sim_full_remove_twin(struct sim *s, uint32_t node)
{
    char path[64];

    path_of(s, node, "twin", path);
    link_dir_remove(path);
}

void sim_full_forget(struct sim *s, uint32_t node)
{
    char path[64];

    sim_full_wipe(s, node);
    path_of(s, node, "backup", path);
    link_dir_remove(path);
}

void sim_full_back_up(struct sim *s, uint32_t node)
{
    char path[64];

    path_of(s, node, "backup", path);
    link_dir_copy(sim_full_dir(s, node), path, &s->disk);
}

void sim_full_restore(struct sim *s, uint32_t node)
{
    char backup[64], path[64];

    path_of(s, node, "backup", backup);
    path_of(s, node, "raft", path);
    link_dir_copy(link_dir_get(backup, &s->disk), path, &s->disk);
}

/* ---- in and out of the product --------------------------------------------------------------- */

static uint64_t loop_time_ms(const struct sim *s, uint32_t node)
{
    if (RAFT_MUTANT(RAFT_MUTANT_WALL_TIMERS))
        return sim_node_now_ms(s, node) + (uint64_t)s->nodes[node].wall_offset_ns / 1000000;
    return sim_node_now_ms(s, node);
}

void sim_full_enter(struct sim_full *f)
{
    struct sim *s = f->s;

    ASSERT(current == NULL);
    current = f;
    link_set_random(&s->entropy);
    link_set_wall_ns(WALL_START_NS + s->nodes[f->node].wall_offset_ns + (int64_t)s->now_us * 1000);
    link_set_log(s->trace);
    link_loop_set_now(f->loop, loop_time_ms(s, f->node));
}

static void schedule_job(struct sim_full *f)
{
    struct sim *s = f->s;
    struct sim_event e = { .type = SIM_EV_DISK, .node = f->node, .a = s->nodes[f->node].life };
    uint64_t delay = sim_exponential(&s->disk, s->rates.disk_us);

    if (f->job_due || f->raft == NULL || !link_worker_busy(f->raft->worker))
        return;
    if (!s->calm && prng_chance_ppm(&s->disk, s->rates.disk_stall_ppm))
        delay += s->rates.disk_stall_us;
    f->job_due = true;
    sim_schedule(s, delay, &e);
}

/* One iteration of the loop after another, until there is nothing to do. When it has to wake. */
static uint64_t run_loop(struct sim_full *f)
{
    enum { ROUNDS_MAX = 1000 };
    struct sim *s = f->s;
    uint64_t now_ms = loop_time_ms(s, f->node), own_ms = UINT64_MAX;

    for (int round = 0; f->raft != NULL; round++) {
        if (!link_loop_advance(f->loop, now_ms) || round == ROUNDS_MAX) {
            sim_fail(s, "node %u never comes to rest", f->node);
            break;
        }
        if (s->workload->before_sleep != NULL && !f->fatal)
            own_ms = s->workload->before_sleep(s, f->node);
        if (MIN(link_loop_next_ms(f->loop), own_ms) > now_ms)
            break;
    }
    return MIN(link_loop_next_ms(f->loop), own_ms);
}

void sim_full_leave(struct sim_full *f)
{
    struct sim *s = f->s;
    uint32_t node = f->node;

    ASSERT(current == f);
    sim_node_arm(s, node, run_loop(f));
    schedule_job(f);
    current = NULL;
    if (!f->fatal)
        return;
    SIM_TRACE(s, "%u> ends its process: %s", node, f->reason);
    sim_node_crash(s, node);
    sim_nemesis_restart_later(s, node);
}

static void on_fatal(void *ctx, const struct err *e)
{
    struct sim_full *f = ctx;

    f->fatal = true;
    (void)snprintf(f->reason, sizeof(f->reason), "%s", e->message);
    if (f->s->calm)
        sim_fail(f->s, "node %u ends its process without a fault: %s", f->node, e->message);
}

static void on_leader(void *ctx, const struct raft_status *status)
{
    struct sim_full *f = ctx;

    if (!f->dying && f->s->workload->leader != NULL)
        f->s->workload->leader(f->s, f->node, status);
}

static const struct raft_node_events events = { .on_leader = on_leader, .on_fatal = on_fatal };

/* ---- life ------------------------------------------------------------------------------------ */

static struct raft_node_options options_of(struct sim_full *f, const char *path)
{
    const struct sim *s = f->s;
    const struct sim_node *n = &s->nodes[f->node];

    return (struct raft_node_options){
        .loop = f->loop,
        .directory = path,
        .start = disk_exists(path, "member") ? RAFT_NODE_EXISTING : RAFT_NODE_JOIN,
        .raft_id = n->raft_id,
        .cluster_id = s->cluster_id,
        .node_id = n->node_id,
        .address = "10.0.0.1:2377",
        .snapshot_entries = s->rates.snapshot_entries,
        .segment_bytes = s->rates.segment_bytes,
        .tail_entries = MAX(s->rates.tail_entries, 1u),
        .chunk_bytes = s->rates.chunk_bytes,
        .fsm = &sim_full_fsm,
        .transport = &sim_full_transport,
        .events = &events,
        .ctx = f,
    };
}

struct bytes { /* a machine, packed, piece by piece */
    uint8_t *bytes;
    size_t size, at;
};

static size_t next_bytes(void *ctx, uint8_t *mem, size_t max)
{
    struct bytes *b = ctx;
    size_t size = MIN(max, b->size - b->at);

    if (size > 0)
        memcpy(mem, b->bytes + b->at, size);
    b->at += size;
    return size;
}

void sim_full_bootstrap(struct sim *s, uint32_t node, const struct raft_snapshot_meta *meta)
{
    struct sim_node *n = &s->nodes[node];
    struct bytes b = { 0 };
    void *machine = s->machine->create();
    char path[64];
    struct raft_disk_options o = { .directory = path,
                                   .cluster_id = s->cluster_id.s,
                                   .node_id = n->node_id.s,
                                   .segment_bytes = s->rates.segment_bytes,
                                   .tail_entries = 1 };
    struct raft_disk_seed seed = { .member = { .raft_id = n->raft_id, .generation = 1 },
                                   .hard_state = { .term = 1 },
                                   .snapshot = meta,
                                   .next = next_bytes,
                                   .next_ctx = &b };
    struct err e = { 0 };

    path_of(s, node, "raft", path);
    (void)sim_full_dir(s, node);
    link_set_random(&s->entropy);
    b.bytes = s->machine->pack(machine, &b.size);
    if (raft_disk_create(&o, &seed, &e) < 0)
        sim_fail(s, "node %u cannot be made: %s", node, e.message);
    free(b.bytes);
    s->machine->destroy(machine);
}

/* What a start that failed means. */
static void start_failed(struct sim *s, uint32_t node, bool faulty, const struct err *e)
{
    struct sim_node *n = &s->nodes[node];

    if (faulty) { /* what the nemesis has done to this start passes */
        sim_nemesis_restart_later(s, node);
    } else if (n->rotten &&
               (e->code == ERR_CORRUPT || e->code == ERR_UNSUPPORTED || e->code == ERR_TOO_BIG)) {
        SIM_TRACE(s, "%u> will not start any more: %s", node, e->message);
        n->gone = true;
        if (!n->disk.lost)
            n->disk.lost_last = sim_disk_last(&n->disk);
        n->disk.lost = n->disk.fence_due = true;
        if (e->code == ERR_CORRUPT && strstr(e->message, "remedy") == NULL) /* G3 */
            sim_fail(s, "node %u does not say what to do: %s", node, e->message);
    } else {
        sim_fail(s, "node %u refuses to start: %s", node, e->message);
    }
}

/* Ends f's process in any state. */
static void end(struct sim_full *f, bool power)
{
    struct sim *s = f->s;

    f->dying = true;
    link_dir_die_after(f->dir, 0);
    link_set_random(&s->entropy);
    raft_node_free(f->raft);
    loop_free(f->loop);
    buf_deinit(&f->install);
    link_dir_die_after(f->dir, UINT32_MAX);
    link_dir_fail_sync(f->dir, 0);
    (void)link_dir_sync_failed(f->dir); /* told */
    if (power)
        link_dir_power_cut(f->dir, prng_below(&s->disk, 2) == 0);
    s->nodes[f->node].full = NULL;
    s->nodes[f->node].raft = NULL;
    free(f);
}

void sim_full_start(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];
    struct sim_full *f = xcalloc(1, sizeof(*f));
    bool dies = !s->calm && s->rates.crash_ppm != 0 && prng_below(&s->disk, 8) == 0, faulty;
    struct raft_node_options o;
    struct err e = { 0 };
    char path[64];

    path_of(s, node, "raft", path);
    *f = (struct sim_full){ .s = s, .node = node, .dir = sim_full_dir(s, node) };
    f->loop = loop_new(&e);
    f->install = (struct buf)BUF_INIT(1 << 24);
    n->full = f;
    n->up = true;
    n->replaced = n->replaced || !disk_exists(path, "member");
    sim_node_reset(s, node);
    if (s->workload->bind != NULL)
        s->workload->bind(s, node);
    o = options_of(f, path);
    sim_full_enter(f);
    if (dies)
        link_dir_die_after(f->dir, (uint32_t)prng_below(&s->disk, START_OPERATIONS));
    f->raft = raft_node_new(&o, &e);
    if (f->raft != NULL && s->workload->started != NULL)
        s->workload->started(s, node);
    faulty = link_dir_dead(f->dir) || link_dir_sync_failed(f->dir) || link_dir_full(f->dir);
    if (f->raft != NULL && !f->fatal && !link_dir_dead(f->dir)) {
        link_dir_die_after(f->dir, UINT32_MAX);
        sim_full_leave(f);
        return;
    }
    current = NULL;
    SIM_TRACE(s, "%u> fails to start: %s", node, e.message);
    sim_node_crash(s, node);
    start_failed(s, node, faulty, &e);
}

void sim_full_crash(struct sim *s, uint32_t node, enum sim_death how)
{
    struct sim_full *f = s->nodes[node].full;

    ASSERT(current == NULL);
    if (how != SIM_DEATH_QUIET && f->raft != NULL && !f->fatal &&
        link_worker_busy(f->raft->worker) && prng_below(&s->disk, 2) == 0) {
        f->dying = true;
        link_set_random(&s->entropy);
        link_dir_die_after(f->dir, (uint32_t)prng_below(&s->disk, DIE_WITHIN_OPERATIONS));
        link_worker_run_and_die(f->raft->worker);
    }
    end(f, how == SIM_DEATH_POWER);
}

void sim_full_timer(struct sim *s, uint32_t node)
{
    struct sim_full *f = s->nodes[node].full;

    sim_full_enter(f);
    sim_full_leave(f);
}

void sim_full_job(struct sim *s, uint32_t node)
{
    struct sim_full *f = s->nodes[node].full;

    sim_full_enter(f);
    f->job_due = false;
    link_worker_run(f->raft->worker);
    if (link_dir_sync_failed(f->dir) && !f->fatal)
        sim_fail(s, "F12: node %u goes on after a failed fsync", node);
    if (link_dir_count(f->dir, "snap-") > SNAP_KEEP + 8)
        sim_fail(s, "R19: node %u keeps %u snapshots", node, link_dir_count(f->dir, "snap-"));
    sim_full_leave(f);
}

/* ---- what is asked of it --------------------------------------------------------------------- */

int sim_full_step(struct sim *s, uint32_t node, struct raft_event *ev)
{
    struct sim_full *f = s->nodes[node].full;
    int rc;

    sim_full_enter(f);
    rc = raft_node_step(f->raft, ev);
    sim_full_leave(f);
    return rc;
}

struct asked {
    struct sim_full *f;
    uint64_t token;
};

static void on_proposed(void *ctx, int rc, uint64_t index)
{
    struct asked *a = ctx;
    struct sim_full *f = a->f;

    if (!f->dying)
        f->s->workload->proposed(f->s, f->node, a->token, rc, index);
    free(a);
}

void sim_full_propose(struct sim *s, uint32_t node, uint64_t term, const struct raft_data *data,
                      uint64_t token)
{
    struct sim_full *f = s->nodes[node].full;
    struct asked *a = xcalloc(1, sizeof(*a));

    *a = (struct asked){ f, token };
    sim_full_enter(f);
    raft_node_propose(f->raft, term, xmemdup(data->bytes, data->size), data->size, on_proposed, a);
    sim_full_leave(f);
}

static void on_read(void *ctx, int rc, uint64_t index)
{
    struct asked *a = ctx;
    struct sim_full *f = a->f;
    struct raft_read read = { .id = a->token, .index = index, .failed = rc < 0 };

    if (!f->dying) {
        if (rc == 0)
            sim_full_catch_up(f, index);
        f->s->workload->read_done(f->s, f->node, &read);
    }
    free(a);
}

void sim_full_read(struct sim *s, uint32_t node, uint64_t id)
{
    struct sim_full *f = s->nodes[node].full;
    struct asked *a = xcalloc(1, sizeof(*a));

    *a = (struct asked){ f, id };
    sim_full_enter(f);
    raft_node_read(f->raft, on_read, a);
    sim_full_leave(f);
}

uint64_t sim_full_incarnation(struct sim *s, uint32_t node)
{
    return raft_node_incarnation(s->nodes[node].full->raft);
}
