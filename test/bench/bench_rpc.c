/* Calls per second, handshakes per second and memory per connection of common/rpc.h, with the
 * server in a process of its own on the same machine. Goals: 16000 calls/s of 200 bytes over mutual
 * TLS, 775 resumed handshakes/s. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/clock.h"
#include "common/rpc.h"
#include "proto/ca.pb-c.h"
#include "test/lib/pki.h"

enum { MEASURE_MS = 3000, BODY_BYTES = 200, CONNECTIONS = 1000 };

static struct pki cluster;
static char *node_pem;
static struct loop *l;
static struct rpc *rpc;
static struct err e;
static char url[64];
static uint64_t answered, failed;
static uint32_t outstanding;
static uint64_t end_ms;

static void handler(void *ctx, struct rpc_call *call, const struct rpc_peer *peer,
                    const Skep__Request *req)
{
    Skep__RootCaResponse r = SKEP__ROOT_CA_RESPONSE__INIT;

    (void)ctx, (void)peer;
    if (req->method == SKEP__METHOD__METHOD_WATCH)
        return; /* a blocking query; freed with the server */
    r.certificate_pem = req->body;
    rpc_reply(call, &r.base);
}

static long rss_kb(pid_t pid)
{
    char path[64], line[256];
    long kb = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    ASSERT(f != NULL);
    while (fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, "VmRSS:", 6) == 0)
            kb = strtol(line + 6, NULL, 10);
    }
    (void)fclose(f);
    return kb;
}

/* Tells the port through the pipe and serves until killed. */
static void serve(int out)
{
    l = loop_new(&e);
    rpc = rpc_new(l, &e);
    struct rpc_listen_options o = { .url = "tls+tcp://127.0.0.1:0",
                                    .tls = pki_context(&cluster, pki_id(1), TLS_ROLE_MANAGER),
                                    .handler = handler };
    struct rpc_server *s = rpc_listen(rpc, &o, &e);
    ASSERT(s != NULL);
    int port = rpc_server_port(s);
    ASSERT(write(out, &port, sizeof(port)) == (ssize_t)sizeof(port));
    _exit(loop_run(l, &e) == 0 ? 0 : 1);
}

static struct rpc_client *client_new(struct tls_context *t)
{
    struct rpc_client_options o = { .url = url, .tls = t };
    struct rpc_client *c = rpc_client_new(rpc, &o, &e);

    ASSERT(c != NULL);
    return c;
}

static void on_call(void *ctx, int rc, const Skep__Response *response, const struct err *why);

static void start_call(struct rpc_client *c, Skep__Method method, rpc_done_fn *done, void *ctx)
{
    static uint8_t bytes[BODY_BYTES];
    Skep__CertificateRenewRequest body = SKEP__CERTIFICATE_RENEW_REQUEST__INIT;
    struct rpc_request q = { .method = method, .body = &body.base, .deadline_ms = 60000 };

    body.csr_pem = (ProtobufCBinaryData){ .len = sizeof(bytes), .data = bytes };
    ASSERT(rpc_call_start(c, &q, done, ctx, &e) == 0);
    outstanding++;
}

static void on_call(void *ctx, int rc, const Skep__Response *response, const struct err *why)
{
    (void)response, (void)why;
    outstanding--;
    if (rc == 0)
        answered++;
    else
        failed++;
    if (loop_now_ms(l) < end_ms)
        start_call(ctx, SKEP__METHOD__METHOD_ROOT_CA, on_call, ctx);
}

static void drain(void)
{
    while (outstanding > 0)
        ASSERT(loop_run_once(l, 100, &e) == 0);
}

static void bench_calls(struct tls_context *t, uint32_t clients, uint32_t window)
{
    struct rpc_client *c[64];

    for (uint32_t i = 0; i < clients; i++) {
        c[i] = client_new(t);
        start_call(c[i], SKEP__METHOD__METHOD_ROOT_CA, on_call, c[i]); /* connects */
    }
    end_ms = 0;
    drain();
    ASSERT(loop_run_once(l, 0, &e) == 0);
    answered = 0;
    uint64_t start_ns = clock_now_ns();
    end_ms = clock_now_ms() + MEASURE_MS;
    for (uint32_t i = 0; i < clients * window; i++)
        start_call(c[i % clients], SKEP__METHOD__METHOD_ROOT_CA, on_call, c[i % clients]);
    drain();
    double seconds = (double)(clock_now_ns() - start_ns) / 1e9;
    printf("calls          %2" PRIu32 " connections x %3" PRIu32 " in flight  %8.0f /s%s\n",
           clients, window, (double)answered / seconds, window > 1 ? "  (goal 16000)" : "");
    for (uint32_t i = 0; i < clients; i++)
        rpc_client_free(c[i]);
}

/* A context that has no session to resume. */
static struct tls_context *fresh_context(void)
{
    struct tls_context_options o = { .check = TLS_CHECK_CLUSTER,
                                     .root_ca_pem = cluster.root_pem,
                                     .node_pem = node_pem };
    struct tls_context *t = tls_context_new(&o, &e);

    ASSERT(t != NULL);
    return t;
}

/* One handshake after another on each lane, with a context of its own. */
static struct lane {
    struct tls_context *tls;
    struct rpc_client *client;
    bool resume;
} lanes[8];

static void on_handshake(void *ctx, int rc, const Skep__Response *response, const struct err *why)
{
    struct lane *lane = ctx;

    (void)response;
    outstanding--;
    if (rc == 0) {
        answered++;
    } else {
        failed++;
        fprintf(stderr, "%s\n", why->message);
    }
    rpc_client_free(lane->client);
    lane->client = NULL;
    if (loop_now_ms(l) >= end_ms)
        return;
    if (!lane->resume) {
        tls_context_free(lane->tls);
        lane->tls = fresh_context();
    }
    lane->client = client_new(lane->tls);
    start_call(lane->client, SKEP__METHOD__METHOD_ROOT_CA, on_handshake, lane);
}

static void bench_handshakes(bool resume)
{
    struct tls_stats sum = { 0 };

    answered = 0;
    uint64_t start_ns = clock_now_ns();
    end_ms = clock_now_ms() + MEASURE_MS;
    for (size_t i = 0; i < ARRAY_LEN(lanes); i++) {
        lanes[i].resume = resume;
        lanes[i].tls = fresh_context();
        lanes[i].client = client_new(lanes[i].tls);
        start_call(lanes[i].client, SKEP__METHOD__METHOD_ROOT_CA, on_handshake, &lanes[i]);
    }
    drain();
    double seconds = (double)(clock_now_ns() - start_ns) / 1e9;
    for (size_t i = 0; i < ARRAY_LEN(lanes); i++) {
        struct tls_stats s = tls_context_stats(lanes[i].tls);

        sum.full += s.full;
        sum.resumed += s.resumed;
        tls_context_free(lanes[i].tls);
    }
    printf("handshakes     %-38s %8.0f /s  (%s, %" PRIu64 " resumed)\n",
           resume ? "resumed" : "full, with loading the certificate", (double)answered / seconds,
           resume ? "goal 775" : "no goal", sum.resumed);
}

static void bench_memory(struct tls_context *t, pid_t server)
{
    struct rpc_client **c = xcalloc(CONNECTIONS, sizeof(*c));
    long before = rss_kb(server), own = rss_kb(getpid());

    end_ms = 0;
    for (int i = 0; i < CONNECTIONS; i++) {
        c[i] = client_new(t);
        start_call(c[i], SKEP__METHOD__METHOD_ROOT_CA, on_call, c[i]);
        if (i % 64 == 63)
            drain();
    }
    drain();
    printf("memory         %d connections                    %8.1f KB each on the server, %.1f on "
           "the client\n",
           CONNECTIONS, (double)(rss_kb(server) - before) / CONNECTIONS,
           (double)(rss_kb(getpid()) - own) / CONNECTIONS);
    for (int i = 0; i < CONNECTIONS; i++)
        rpc_client_free(c[i]);
    free(c);
}

int main(void)
{
    int ends[2], port = 0;
    struct rlimit files = { 65536, 65536 };

    (void)setrlimit(RLIMIT_NOFILE, &files); /* without root: the default may do */
    cluster = pki_new(1);
    ASSERT(pipe(ends) == 0);
    pid_t server = fork();
    ASSERT(server >= 0);
    if (server == 0)
        serve(ends[1]);
    ASSERT(read(ends[0], &port, sizeof(port)) == (ssize_t)sizeof(port));
    (void)snprintf(url, sizeof(url), "tls+tcp://127.0.0.1:%d", port);
    l = loop_new(&e);
    rpc = rpc_new(l, &e);
    printf("idle           server %ld KB\n", rss_kb(server));
    node_pem = pki_node(&cluster, pki_id(2), TLS_ROLE_WORKER);
    struct tls_context *t = fresh_context();
    bench_calls(t, 1, 1);
    bench_calls(t, 1, 64);
    bench_calls(t, 8, 16);
    bench_calls(t, 8, 128);
    bench_handshakes(true);
    bench_handshakes(false);
    bench_memory(t, server);
    printf("failed         %" PRIu64 "\n", failed);
    tls_context_free(t);
    rpc_free(rpc);
    loop_free(l);
    pki_free(&cluster);
    free(node_pem);
    (void)kill(server, SIGKILL);
    (void)waitpid(server, NULL, 0);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
