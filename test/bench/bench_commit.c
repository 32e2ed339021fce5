/* Committed transactions per second: three managers' Raft shells with their logs on one real disk,
 * every commit synced on a majority, transport inside the process (messages are encoded). Writers
 * are in the leader; each has one transaction of 200 bytes in flight. Then: how long a member takes
 * to start with 100 000 entries in its log.
 *   SKEP_TEST_DIR=… puts the logs on another disk; SKEP_BENCH_SECONDS=3 per figure. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/clock.h"
#include "common/log.h"
#include "test/lib/raftcluster.h"
#include "test/lib/tmpdir.h"

enum { WRITERS_MAX = 64, ENTRY_BYTES = 200, RESTART_ENTRIES = 100000, LATENCIES_MAX = 1 << 20 };

struct writer {
    struct cluster *cluster;
    struct raft_node *leader;
    uint64_t term;
    uint64_t done;
    uint64_t started_ns;
    uint64_t *latencies; /* shared: [0] is the count */
    bool stop;
    bool idle;
};

static void next(struct writer *w);

static void on_done(void *ctx, int rc, uint64_t index)
{
    struct writer *w = ctx;

    (void)index;
    ASSERT(rc == 0);
    w->done++;
    if (w->latencies[0] + 1 < LATENCIES_MAX)
        w->latencies[++w->latencies[0]] = clock_now_ns() - w->started_ns;
    if (w->stop)
        w->idle = true;
    else
        next(w);
}

static void next(struct writer *w)
{
    uint8_t *data = xcalloc(1, ENTRY_BYTES);

    memcpy(data, &w->done, sizeof(w->done));
    w->started_ns = clock_now_ns();
    raft_node_propose(w->leader, w->term, data, ENTRY_BYTES, on_done, w);
}

static bool all_idle(struct cluster *c, void *arg)
{
    struct writer *w = arg;

    (void)c;
    for (size_t i = 0; i < WRITERS_MAX; i++) {
        if (w[i].leader != NULL && !w[i].idle)
            return false;
    }
    return true;
}

static int compare(const void *a, const void *b)
{
    uint64_t x, y;

    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return (x > y) - (x < y);
}

static void run_writers(struct cluster *c, size_t count, uint32_t seconds, unsigned goal)
{
    static uint64_t latencies[LATENCIES_MAX];
    struct writer writers[WRITERS_MAX] = { { 0 } };
    struct raft_status s;
    uint64_t done = 0;

    latencies[0] = 0;
    ASSERT(cluster_run(c, cluster_has_leader, NULL, 10000));
    raft_node_status(c->nodes[cluster_leader(c)].node, &s);
    uint64_t start = clock_now_ns();
    for (size_t i = 0; i < count; i++) {
        writers[i] = (struct writer){ .cluster = c,
                                      .leader = c->nodes[cluster_leader(c)].node,
                                      .term = s.term,
                                      .latencies = latencies };
        next(&writers[i]);
    }
    while (clock_now_ns() - start < (uint64_t)seconds * 1000000000u)
        ASSERT(loop_run_once(c->loop, 10, NULL) == 0);
    uint64_t took = clock_now_ns() - start;
    for (size_t i = 0; i < count; i++) {
        done += writers[i].done;
        writers[i].stop = true;
    }
    ASSERT(cluster_run(c, all_idle, writers, 10000));
    qsort(latencies + 1, latencies[0], sizeof(latencies[0]), compare);
    printf("commit, %zu members, %2zu writers: %7.0f /s (goal %u), p50 %.0f us, p99 %.0f us\n",
           c->count, count, (double)done * 1e9 / (double)took, goal,
           (double)latencies[1 + latencies[0] / 2] / 1e3,
           (double)latencies[1 + latencies[0] * 99 / 100] / 1e3);
}

/* What the disk itself can do: one small write and fdatasync after another. */
static void run_disk(const char *base, uint32_t seconds)
{
    CLEANUP_FREE char *path = xasprintf("%s/probe", base);
    CLEANUP_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    static uint8_t block[1 << 20];
    uint64_t count = 0, start;

    ASSERT(fd >= 0);
    ASSERT(write(fd, block, sizeof(block)) == (ssize_t)sizeof(block));
    ASSERT(fsync(fd) == 0);
    for (start = clock_now_ns(); clock_now_ns() - start < seconds * 1000000000ull; count++) {
        ASSERT(pwrite(fd, block, 256, (off_t)(count * 256 % sizeof(block))) == 256);
        ASSERT(fdatasync(fd) == 0);
    }
    printf("disk: %.0f fdatasync/s, one file, one thread\n",
           (double)count * 1e9 / (double)(clock_now_ns() - start));
}

static void run_restart(void)
{
    static struct cluster c;

    cluster_init(&c, 1, tmpdir_new());
    c.options.segment_bytes = 0;
    c.options.snapshot_entries = UINT64_MAX;
    c.options.snapshot_bytes = UINT64_MAX;
    ASSERT(cluster_form(&c));
    for (uint64_t i = 0; i < RESTART_ENTRIES; i += 2000)
        ASSERT(cluster_write(&c, i, 2000));
    cluster_stop(&c, 0);
    uint64_t start = clock_now_ns();
    ASSERT(cluster_start(&c, 0, RAFT_NODE_EXISTING, NULL) == 0);
    uint64_t opened = clock_now_ns();
    ASSERT(cluster_run(&c, cluster_even, NULL, 60000));
    printf("restart with %d entries: verified and replayed in %.0f ms, leader and applied after "
           "%.0f ms\n",
           RESTART_ENTRIES, (double)(opened - start) / 1e6, (double)(clock_now_ns() - start) / 1e6);
    cluster_deinit(&c);
}

int main(void)
{
    static const struct {
        size_t writers;
        unsigned goal;
    } runs[] = { { 1, 1500 }, { 8, 8000 }, { 64, 30000 } };
    const char *wanted = getenv("SKEP_BENCH_SECONDS");
    uint32_t seconds = wanted != NULL ? (uint32_t)strtoul(wanted, NULL, 10) : 3;
    static struct cluster c;

    log_set_level(LOG_ERROR);
    cluster_init(&c, 3, tmpdir_new());
    run_disk(c.base, 1);
    c.options.heartbeat_ms = 100;
    c.options.election_ms = 1000;
    c.options.segment_bytes = 0;
    ASSERT(cluster_form(&c));
    for (size_t i = 0; i < ARRAY_LEN(runs); i++)
        run_writers(&c, runs[i].writers, seconds, runs[i].goal);
    cluster_deinit(&c);
    run_restart();
    return 0;
}
