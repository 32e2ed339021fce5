/* Committed transactions per second: three managers' Raft shells with their logs on one real disk,
 * every commit synced on a majority. Writers are in the leader; each has one transaction of 200
 * bytes in flight. Messages go through memory first (encoded), then through common/rpc.h with
 * mutual TLS over loopback; all three members share one loop thread and this machine either way.
 * Then: how long a member takes to start with 100 000 entries in its log. SKEP_TEST_DIR=… puts the
 * logs on another disk; SKEP_BENCH_SECONDS=3 per figure. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/rpc.h"
#include "managerd/raft/codec.h"
#include "test/lib/pki.h"
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

/* Of the whole process: all three members. Says more than a rate on a machine that is busy. */
static double cpu_us(void)
{
    struct rusage u;

    ASSERT(getrusage(RUSAGE_SELF, &u) == 0);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void run_writers(struct cluster *c, size_t count, uint32_t seconds, unsigned goal)
{
    const char *way = c->transport != NULL ? "TLS   " : "memory";
    static uint64_t latencies[LATENCIES_MAX];
    struct writer writers[WRITERS_MAX] = { { 0 } };
    struct raft_status s;
    uint64_t done = 0;

    latencies[0] = 0;
    ASSERT(cluster_run(c, cluster_has_leader, NULL, 10000));
    raft_node_status(c->nodes[cluster_leader(c)].node, &s);
    double cpu = cpu_us();
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
    cpu = cpu_us() - cpu;
    for (size_t i = 0; i < count; i++) {
        done += writers[i].done;
        writers[i].stop = true;
    }
    ASSERT(cluster_run(c, all_idle, writers, 10000));
    qsort(latencies + 1, latencies[0], sizeof(latencies[0]), compare);
    printf("commit, %zu members, %s, %2zu writers: %7.0f /s (goal %u), p50 %.0f us, p99 %.0f us, "
           "%.0f us of CPU each\n",
           c->count, way, count, (double)done * 1e9 / (double)took, goal,
           (double)latencies[1 + latencies[0] / 2] / 1e3,
           (double)latencies[1 + latencies[0] * 99 / 100] / 1e3, cpu / (double)done);
}

/* ---- messages over mutual TLS ---- */

struct net {
    struct cluster *cluster;
    struct rpc *rpc;
    struct pki pki;
    struct tls_context *tls[CLUSTER_NODES_MAX];
    struct rpc_server *servers[CLUSTER_NODES_MAX];
    struct rpc_client *clients[CLUSTER_NODES_MAX][CLUSTER_NODES_MAX];
};

static void on_sent(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    (void)ctx, (void)rc, (void)response, (void)e; /* losing messages is allowed */
}

static void tls_send(void *ctx, const struct raft_member *to, const struct raft_message *m)
{
    struct cluster_node *from = ctx;
    struct cluster *c = from->cluster;
    struct net *net = c->transport_ctx;
    CLEANUP_BUF struct buf b = BUF_INIT(RAFT_MESSAGE_BYTES_MAX);
    size_t i = 0;

    while (i < c->count && !id_equal(&c->nodes[i].node_id, &to->node_id))
        i++;
    ASSERT(i < c->count);
    ASSERT(raft_message_pack(m, &b) == 0);
    ProtobufCBinaryData body = { .len = b.size, .data = b.data };
    struct rpc_request r = { .method = SKEP__METHOD__METHOD_RAFT,
                             .raw_body = &body,
                             .deadline_ms = 2000 };
    struct rpc_client *client = net->clients[from - c->nodes][i];
    if (rpc_call_start(client, &r, on_sent, NULL, NULL) < 0)
        return; /* too many in flight: lost */
}

static void tls_send_chunk(void *ctx, const struct raft_member *to, const uint8_t *chunk,
                           size_t size, uint64_t token)
{
    (void)ctx, (void)to, (void)chunk, (void)size, (void)token;
    UNREACHABLE(); /* no member falls that far behind here */
}

static const struct raft_transport_ops tls_transport = { tls_send, tls_send_chunk };

static void on_request(void *ctx, struct rpc_call *call, const struct rpc_peer *peer,
                       const Skep__Request *req)
{
    struct cluster_node *n = ctx;
    struct raft_message *m;

    if (raft_message_unpack(req->body.data, req->body.len, &m, NULL) == 0) {
        if (n->node != NULL && raft_node_receive(n->node, peer->identity.node.s, m, NULL) < 0)
            n->refused++;
        raft_message_free(m);
    }
    rpc_reply(call, NULL);
}

static void net_start(struct net *net, struct cluster *c)
{
    net->cluster = c;
    net->pki = pki_new(1);
    net->rpc = rpc_new(c->loop, NULL);
    ASSERT(net->rpc != NULL);
    c->cluster_id = net->pki.cluster;
    for (size_t i = 0; i < c->count; i++) {
        net->tls[i] = pki_context(&net->pki, c->nodes[i].node_id, TLS_ROLE_MANAGER);
        struct rpc_listen_options o = { .url = "tls+tcp://127.0.0.1:0",
                                        .tls = net->tls[i],
                                        .handler = on_request,
                                        .ctx = &c->nodes[i] };
        net->servers[i] = rpc_listen(net->rpc, &o, NULL);
        ASSERT(net->servers[i] != NULL);
    }
    for (size_t i = 0; i < c->count * c->count; i++) {
        CLEANUP_FREE char *url =
            xasprintf("tls+tcp://127.0.0.1:%d", rpc_server_port(net->servers[i % c->count]));
        struct rpc_client_options o = { .url = url, .tls = net->tls[i / c->count] };

        net->clients[i / c->count][i % c->count] = rpc_client_new(net->rpc, &o, NULL);
    }
    c->transport = &tls_transport;
    c->transport_ctx = net;
}

static void net_stop(struct net *net)
{
    struct cluster *c = net->cluster;

    for (size_t i = 0; i < c->count; i++) {
        cluster_stop(c, i);
        for (size_t j = 0; j < c->count; j++)
            rpc_client_free(net->clients[i][j]);
    }
    for (size_t i = 0; i < c->count; i++)
        rpc_server_free(net->servers[i]);
    rpc_free(net->rpc);
    for (size_t i = 0; i < c->count; i++)
        tls_context_free(net->tls[i]);
    pki_free(&net->pki);
}

/* ---- the rest ---- */

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
    static struct net net;

    log_set_level(LOG_ERROR);
    for (int tls = 0; tls < 2; tls++) {
        cluster_init(&c, 3, tmpdir_new());
        run_disk(c.base, 1);
        c.options.heartbeat_ms = 100;
        c.options.election_ms = 1000;
        c.options.segment_bytes = 0;
        if (tls)
            net_start(&net, &c);
        ASSERT(cluster_form(&c));
        for (size_t i = 0; i < ARRAY_LEN(runs); i++)
            run_writers(&c, runs[i].writers, seconds, runs[i].goal);
        if (tls)
            net_stop(&net);
        cluster_deinit(&c);
    }
    run_restart();
    return 0;
}
