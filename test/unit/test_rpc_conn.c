#include "common/rpc_conn.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/rpc.h"
#include "test/lib/pki.h"

/* What strangers may do to a listener: reliability.md 4.4, N16 to N23. */
enum { WAIT_MS = 10000 };

static struct pki cluster;
static struct loop *l;
static struct rpc *rpc;
static struct rpc_server *server;
static struct tls_context *server_tls;
static unsigned request_count;
static char ipc_url[64];
static struct err e;

static struct rpc_call *held[64];
static unsigned held_count;

static void handler(void *ctx, struct rpc_call *call, const struct rpc_peer *peer,
                    const Skep__Request *req)
{
    (void)ctx, (void)peer;
    request_count++;
    if (req->method == SKEP__METHOD__METHOD_WATCH)
        held[held_count++] = call;
    else
        rpc_reply(call, NULL);
}

static void listen_on(const char *at, struct tls_context *tls)
{
    struct rpc_listen_options o = { .url = at, .tls = tls, .handler = handler };

    server = rpc_listen(rpc, &o, &e);
    ck_assert_msg(server != NULL, "%s", e.message);
}

static void stop_server(void)
{
    rpc_server_free(server);
    server = NULL;
}

static void make_cluster(void)
{
    cluster = pki_new(1000);
    (void)snprintf(ipc_url, sizeof(ipc_url), "ipc:///tmp/skep-test-conn-%d.sock", (int)getpid());
}

static void drop_cluster(void)
{
    pki_free(&cluster);
}

static void setup(void)
{
    request_count = 0;
    held_count = 0;
    l = loop_new(&e);
    rpc = rpc_new(l, &e);
    ck_assert_msg(rpc != NULL, "%s", e.message);
    server_tls = pki_context(&cluster, pki_id(100), TLS_ROLE_MANAGER);
    listen_on("tls+tcp://127.0.0.1:0", server_tls);
}

static void teardown(void)
{
    stop_server();
    tls_context_free(server_tls);
    rpc_free(rpc);
    loop_free(l);
}

static void on_done(void *ctx, int rc, const Skep__Response *response, const struct err *why)
{
    (void)response, (void)why;
    *(int *)ctx = rc;
}

/* One call of a proper member; its result. */
static int ask(struct tls_context *tls)
{
    char url[64];
    struct rpc_client_options o = { .url = url, .tls = tls };
    struct rpc_request q = { .method = SKEP__METHOD__METHOD_INFO, .deadline_ms = WAIT_MS };
    int rc = 1;

    (void)snprintf(url, sizeof(url), "tls+tcp://127.0.0.1:%u", rpc_server_port(server));
    struct rpc_client *c = rpc_client_new(rpc, &o, &e);
    ck_assert_int_eq(rpc_call_start(c, &q, on_done, &rc, &e), 0);
    while (rc == 1)
        ck_assert_int_eq(loop_run_once(l, 100, &e), 0);
    rpc_client_free(c);
    return rc;
}

static int raw_connect(const char *source, int flags)
{
    struct sockaddr_in from = { .sin_family = AF_INET }, to = { .sin_family = AF_INET };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

    ck_assert_int_eq(inet_pton(AF_INET, source, &from.sin_addr), 1);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
    ck_assert_int_eq(inet_pton(AF_INET, "127.0.0.1", &to.sin_addr), 1);
    to.sin_port = htons(rpc_server_port(server));
    ck_assert(connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 || errno == EINPROGRESS);
    return fd;
}

static void wait_closed(int fd, const char *why)
{
    uint64_t end_ms = clock_now_ms() + WAIT_MS;
    char waste[4096];
    ssize_t got = -1;

    while (clock_now_ms() < end_ms) {
        ck_assert_int_eq(loop_run_once(l, 10, &e), 0);
        got = recv(fd, waste, sizeof(waste), MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN))
            break;
    }
    ck_assert_msg(got == 0 || (got < 0 && errno == ECONNRESET), "%s: still open", why);
    (void)close(fd);
}

/* N16, N19: silence and foreign protocols before the handshake. */
START_TEST(handshake_has_a_deadline)
{
    struct rpc_listen_options o = { .url = "tls+tcp://127.0.0.1:0",
                                    .tls = server_tls,
                                    .handshake_ms_max = 100,
                                    .handler = handler };

    stop_server();
    server = rpc_listen(rpc, &o, &e);
    wait_closed(raw_connect("127.0.0.1", 0), "silence");
    int fd = raw_connect("127.0.0.1", 0);
    ck_assert_int_eq(write(fd, "\x16\x03\x01", 3), 3);
    wait_closed(fd, "a third of a record header");
    fd = raw_connect("127.0.0.1", 0);
    static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    ck_assert_int_eq(write(fd, http, sizeof(http) - 1), (ssize_t)sizeof(http) - 1);
    wait_closed(fd, "HTTP");
}
END_TEST

/* N18: one source opens more connections than there is room for; others still get through. */
START_TEST(half_open_flood_keeps_nobody_out)
{
    enum { FLOOD = RPC_HANDSHAKES_MAX + 100 };
    struct tls_context *tls = pki_context(&cluster, pki_id(5), TLS_ROLE_WORKER);
    struct rpc_server_stats stats;
    int fds[FLOOD];

    for (int i = 0; i < FLOOD; i++) {
        fds[i] = raw_connect("127.0.0.2", SOCK_NONBLOCK);
        ck_assert_int_eq(loop_run_once(l, 1, &e), 0);
    }
    do {
        ck_assert_int_eq(loop_run_once(l, 10, &e), 0);
        rpc_server_stats(server, &stats);
    } while (stats.accepted < FLOOD);
    ck_assert_uint_eq(stats.handshake_count, RPC_HANDSHAKES_MAX);
    ck_assert_int_eq(ask(tls), 0);
    for (int i = 0; i < FLOOD; i++)
        (void)close(fds[i]);
    tls_context_free(tls);
}
END_TEST

#define PREFACE "SKEP\0\0\0\1"

static const struct bytes_case {
    const char *why;
    const char *bytes;
    size_t size, repeat;
} bytes_cases[] = {
    { "another protocol", "GET / HT", 8, 1 },
    { "another version", "SKEP\0\0\0\2", 8, 1 },
    { "N21 an empty request", PREFACE "\0\0\0\0\0\0\0\1\1\0\0\0", 20, 1 },
    { "N22 the greatest length", PREFACE "\377\377\377\377\0\0\0\1\1\0\0\0", 20, 1 },
    { "N23 a length beyond the limit", PREFACE "\0\100\0\1\0\0\0\1\1\0\0\0", 20, 1 },
    { "an unknown kind", PREFACE "\0\0\0\0\0\0\0\1\11\0\0\0", 20, 1 },
    { "reserved bytes", PREFACE "\0\0\0\0\0\0\0\1\4\0\0\1", 20, 1 },
    { "a ping with a body", PREFACE "\0\0\0\1\0\0\0\1\4\0\0\0x", 21, 1 },
    { "an answer nobody asked for", PREFACE "\0\0\0\1\0\0\0\1\2\0\0\0x", 21, 1 },
    { "N20 a request of noise", PREFACE "\0\0\0\4\0\0\0\1\1\0\0\0\377\377\377\377", 24, 1 },
};

/* Over the local socket, where the bytes reach the framing without TLS. */
START_TEST(malformed_frames_close_the_connection)
{
    const struct bytes_case *c = &bytes_cases[_i];
    struct sockaddr_un to = { .sun_family = AF_UNIX };

    stop_server();
    listen_on(ipc_url, NULL);
    (void)snprintf(to.sun_path, sizeof(to.sun_path), "%s", ipc_url + strlen("ipc://"));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    ck_assert_int_eq(write(fd, c->bytes, c->size), (ssize_t)c->size);
    wait_closed(fd, c->why);
    ck_assert_uint_eq(request_count, 0);
}
END_TEST

START_TEST(ping_flood_closes_the_connection)
{
    static const char ping[12] = { 0, 0, 0, 0, 0, 0, 0, 0, RPC_FRAME_PING };
    struct sockaddr_un to = { .sun_family = AF_UNIX };

    stop_server();
    listen_on(ipc_url, NULL);
    (void)snprintf(to.sun_path, sizeof(to.sun_path), "%s", ipc_url + strlen("ipc://"));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    ck_assert_int_eq(write(fd, PREFACE, 8), 8);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(write(fd, ping, sizeof(ping)), (ssize_t)sizeof(ping));
    wait_closed(fd, "pings");
}
END_TEST

/* Without a certificate (the enrolment port), one address gets only so many connections. */
START_TEST(strangers_are_limited)
{
    char *pem = pki_node(&cluster, pki_id(100), TLS_ROLE_MANAGER);
    struct tls_context_options so = { .check = TLS_CHECK_SERVER,
                                      .root_ca_pem = cluster.root_pem,
                                      .node_pem = pem };
    struct tls_context_options co = { .check = TLS_CHECK_NONE };
    struct tls_context *door = tls_context_new(&so, &e), *none = tls_context_new(&co, &e);
    enum { MANY = RPC_STRANGERS_PER_SOURCE + 2 };
    struct rpc_client *c[MANY];
    int rc[MANY], refused = 0;
    char url[64];
    struct rpc_client_options o = { .url = url, .tls = none };
    struct rpc_request q = { .method = SKEP__METHOD__METHOD_INFO, .deadline_ms = WAIT_MS };

    stop_server();
    listen_on("tls+tcp://127.0.0.1:0", door);
    (void)snprintf(url, sizeof(url), "tls+tcp://127.0.0.1:%u", rpc_server_port(server));
    for (int i = 0; i < MANY; i++) {
        c[i] = rpc_client_new(rpc, &o, &e);
        rc[i] = 1;
        ck_assert_int_eq(rpc_call_start(c[i], &q, on_done, &rc[i], &e), 0);
        while (rc[i] == 1)
            ck_assert_int_eq(loop_run_once(l, 100, &e), 0);
        refused += rc[i] == -ERR_UNAVAILABLE;
    }
    ck_assert_int_eq(refused, MANY - RPC_STRANGERS_PER_SOURCE);
    for (int i = 0; i < MANY; i++)
        rpc_client_free(c[i]);
    stop_server();
    tls_context_free(door);
    tls_context_free(none);
    free(pem);
}
END_TEST

/* Calls that wait hold memory: big ones only a few at a time. */
START_TEST(held_requests_are_limited)
{
    enum { CALLS = 6, SIZE = RPC_MESSAGE_BYTES_MAX - 4096 };
    struct tls_context *tls = pki_context(&cluster, pki_id(5), TLS_ROLE_WORKER);
    uint8_t *big = xcalloc(1, SIZE);
    ProtobufCBinaryData raw = { .len = SIZE, .data = big };
    struct rpc_request q = { .method = SKEP__METHOD__METHOD_WATCH,
                             .raw_body = &raw,
                             .deadline_ms = WAIT_MS };
    char url[64];
    struct rpc_client_options o = { .url = url, .tls = tls };
    int rc[CALLS];

    (void)snprintf(url, sizeof(url), "tls+tcp://127.0.0.1:%u", rpc_server_port(server));
    struct rpc_client *c = rpc_client_new(rpc, &o, &e);
    for (unsigned i = 0; i < CALLS; i++) {
        rc[i] = 1;
        ck_assert_int_eq(rpc_call_start(c, &q, on_done, &rc[i], &e), 0);
        while (rc[i] == 1 && held_count == i)
            ck_assert_int_eq(loop_run_once(l, 100, &e), 0);
        ck_assert_int_eq(rc[i], i < RPC_UNSENT_MESSAGES_MAX ? 1 : -ERR_BUSY);
        if (rc[i] == -ERR_BUSY)
            break;
    }
    rpc_reply(held[0], NULL);
    while (rc[0] == 1)
        ck_assert_int_eq(loop_run_once(l, 100, &e), 0);
    ck_assert_int_eq(rc[0], 0);
    rpc_client_free(c);
    tls_context_free(tls);
    free(big);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rpc_conn");
    TCase *tc = tcase_create("all");

    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, make_cluster, drop_cluster);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, handshake_has_a_deadline);
    tcase_add_test(tc, half_open_flood_keeps_nobody_out);
    tcase_add_loop_test(tc, malformed_frames_close_the_connection, 0, ARRAY_LEN(bytes_cases));
    tcase_add_test(tc, ping_flood_closes_the_connection);
    tcase_add_test(tc, strangers_are_limited);
    tcase_add_test(tc, held_requests_are_limited);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
