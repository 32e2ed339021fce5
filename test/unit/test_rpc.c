#include "common/rpc.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "proto/ca.pb-c.h"
#include "test/lib/pki.h"

/* One process plays both ends on one loop. Methods of the test server: ROOT_CA echoes the request's
 * CSR bytes back, WATCH never answers by itself, ENROL refuses with a message, INFO says who asks.
 */
enum { HELD_MAX = 4096, WAIT_MS = 10000 };

static struct pki cluster, other;
static struct loop *l;
static struct rpc *rpc;
static struct rpc_server *server;
static struct tls_context *server_tls;
static struct rpc_call *held[HELD_MAX];
static unsigned held_count;
static unsigned request_count;
static char refused[ERR_MESSAGE_BYTES_MAX]; /* why, as the server sees it */
static char url[128], ipc_url[64];
static struct err e;

static void handler(void *ctx, struct rpc_call *call, const struct rpc_peer *peer,
                    const Skep__Request *req)
{
    Skep__RootCaResponse r = SKEP__ROOT_CA_RESPONSE__INIT;
    char who[128];

    (void)ctx;
    request_count++;
    if (req->method == SKEP__METHOD__METHOD_ROOT_CA) {
        r.certificate_pem = req->body;
        rpc_reply(call, &r.base);
    } else if (req->method == SKEP__METHOD__METHOD_INFO) {
        (void)snprintf(who, sizeof(who), "%s %s %s", peer->local ? "local" : "remote",
                       tls_role_str(peer->identity.role), peer->identity.node.s);
        rpc_reply_error(call, ERR_CONFLICT, who);
    } else if (req->method == SKEP__METHOD__METHOD_ENROL) {
        rpc_reply_not_leader(call, "10.0.0.9:2377");
    } else {
        ck_assert_uint_lt(held_count, HELD_MAX);
        held[held_count++] = call;
    }
}

static void on_refused(void *ctx, const char *address, const struct err *why)
{
    (void)ctx;
    ck_assert_int_eq(strncmp(address, "127.0.0.1:", 10), 0);
    (void)snprintf(refused, sizeof(refused), "%s", why->message);
}

static void listen_on(const char *at, struct tls_context *tls)
{
    struct rpc_listen_options o = {
        .url = at, .tls = tls, .handler = handler, .refused = on_refused
    };

    server = rpc_listen(rpc, &o, &e);
    ck_assert_msg(server != NULL, "%s", e.message);
    if (tls != NULL)
        (void)snprintf(url, sizeof(url), "tls+tcp://127.0.0.1:%u", rpc_server_port(server));
}

static void stop_server(void)
{
    rpc_server_free(server);
    server = NULL;
}

static void setup(void)
{
    e = (struct err){ 0 };
    held_count = 0;
    request_count = 0;
    refused[0] = '\0';
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

struct result {
    int rc, count;
    char message[ERR_MESSAGE_BYTES_MAX];
    char leader[64];
    size_t body_size;
    struct rpc_client *free_client;
};

static void on_done(void *ctx, int rc, const Skep__Response *response, const struct err *why)
{
    struct result *r = ctx;

    r->rc = rc;
    r->count++;
    (void)snprintf(r->message, sizeof(r->message), "%s", why->message);
    if (response != NULL) {
        r->body_size = response->body.len;
        (void)snprintf(r->leader, sizeof(r->leader), "%s", response->leader_address);
    }
    if (r->free_client != NULL)
        rpc_client_free(r->free_client);
}

static void call(struct rpc_client *c, Skep__Method method, size_t body_size, uint32_t deadline_ms,
                 struct result *r)
{
    Skep__CertificateRenewRequest body = SKEP__CERTIFICATE_RENEW_REQUEST__INIT;
    struct rpc_request q = { .method = method, .body = &body.base, .deadline_ms = deadline_ms };

    body.csr_pem.len = body_size;
    body.csr_pem.data = xcalloc(1, body_size);
    ck_assert_msg(rpc_call_start(c, &q, on_done, r, &e) == 0, "%s", e.message);
    free(body.csr_pem.data);
    ck_assert_int_eq(r->count, 0); /* never from inside */
}

static void wait_for(const struct result *r)
{
    uint64_t end_ms = clock_now_ms() + WAIT_MS;

    while (r->count == 0 && clock_now_ms() < end_ms)
        ck_assert_int_eq(loop_run_once(l, 100, &e), 0);
    ck_assert_int_eq(r->count, 1);
}

static struct rpc_client *client_of(struct tls_context *tls)
{
    struct rpc_client_options o = { .url = url, .tls = tls };
    struct rpc_client *c = rpc_client_new(rpc, &o, &e);

    ck_assert_msg(c != NULL, "%s", e.message);
    return c;
}

START_TEST(answers_over_mutual_tls)
{
    struct tls_context *tls = pki_context(&cluster, pki_id(1), TLS_ROLE_WORKER);
    struct rpc_client *c = client_of(tls);
    struct result r = { 0 }, who = { 0 }, leader = { 0 };

    call(c, SKEP__METHOD__METHOD_ROOT_CA, 200, 5000, &r);
    wait_for(&r);
    ck_assert_msg(r.rc == 0, "%s", r.message);
    ck_assert_uint_gt(r.body_size, 200);
    call(c, SKEP__METHOD__METHOD_INFO, 0, 5000, &who);
    call(c, SKEP__METHOD__METHOD_ENROL, 0, 5000, &leader);
    wait_for(&who);
    wait_for(&leader);
    char want[128];
    (void)snprintf(want, sizeof(want), "remote skep-worker %s", pki_id(1).s);
    ck_assert_int_eq(who.rc, -ERR_CONFLICT);
    ck_assert_str_eq(who.message, want);
    ck_assert_int_eq(leader.rc, -ERR_NOT_LEADER);
    ck_assert_str_eq(leader.leader, "10.0.0.9:2377");
    rpc_client_free(c);
    tls_context_free(tls);
}
END_TEST

START_TEST(local_socket_needs_no_tls)
{
    struct result r = { 0 };

    stop_server();
    listen_on(ipc_url, NULL);
    struct rpc_client_options o = { .url = ipc_url };
    struct rpc_client *c = rpc_client_new(rpc, &o, &e);
    call(c, SKEP__METHOD__METHOD_INFO, 0, 5000, &r);
    wait_for(&r);
    ck_assert_str_eq(r.message, "local none ");
    rpc_client_free(c);
}
END_TEST

/* Larger than any buffer on the way, both directions. */
START_TEST(large_messages_pass)
{
    struct tls_context *tls = pki_context(&cluster, pki_id(1), TLS_ROLE_WORKER);
    struct rpc_client *c = client_of(tls);
    struct result r[3] = { 0 };

    for (int i = 0; i < 3; i++)
        call(c, SKEP__METHOD__METHOD_ROOT_CA, 3 << 20, 20000, &r[i]);
    for (int i = 0; i < 3; i++) {
        wait_for(&r[i]);
        ck_assert_msg(r[i].rc == 0, "%s", r[i].message);
        ck_assert_uint_gt(r[i].body_size, 3 << 20);
    }
    rpc_client_free(c);
    tls_context_free(tls);
}
END_TEST

START_TEST(oversize_is_refused_before_sending)
{
    struct tls_context *tls = pki_context(&cluster, pki_id(1), TLS_ROLE_WORKER);
    struct rpc_client *c = client_of(tls);
    uint8_t *big = xcalloc(1, RPC_MESSAGE_BYTES_MAX);
    ProtobufCBinaryData raw = { .len = RPC_MESSAGE_BYTES_MAX, .data = big };
    struct rpc_request q = { .method = SKEP__METHOD__METHOD_INFO,
                             .raw_body = &raw,
                             .deadline_ms = 1000 };

    ck_assert_int_eq(rpc_call_start(c, &q, on_done, NULL, &e), -ERR_TOO_BIG);
    ck_assert_ptr_nonnull(strstr(e.message, "127.0.0.1"));
    free(big);
    rpc_client_free(c);
    tls_context_free(tls);
}
END_TEST

/* A thousand blocking queries of one client do not delay a short call. */
START_TEST(long_calls_do_not_block_short_ones)
{
    enum { LONG_CALLS = RPC_CLIENT_CALLS_MAX - 1 };
    struct tls_context *tls = pki_context(&cluster, pki_id(1), TLS_ROLE_WORKER);
    struct rpc_client *c = client_of(tls);
    struct result *longs = xcalloc(LONG_CALLS, sizeof(*longs)), r = { 0 };

    for (int i = 0; i < LONG_CALLS; i++)
        call(c, SKEP__METHOD__METHOD_WATCH, 10, 60000, &longs[i]);
    call(c, SKEP__METHOD__METHOD_ROOT_CA, 10, 60000, &r);
    struct rpc_request q = { .method = SKEP__METHOD__METHOD_INFO, .deadline_ms = 1000 };
    ck_assert_int_eq(rpc_call_start(c, &q, on_done, NULL, &e), -ERR_BUSY);
    wait_for(&r);
    ck_assert_int_eq(r.rc, 0);
    ck_assert_uint_eq(held_count, LONG_CALLS);
    for (int i = LONG_CALLS; i-- > 0;) /* answered in another order than asked */
        rpc_reply(held[i], NULL);
    for (int i = 0; i < LONG_CALLS; i++) {
        wait_for(&longs[i]);
        ck_assert_int_eq(longs[i].rc, 0);
    }
    free(longs);
    rpc_client_free(c);
    tls_context_free(tls);
}
END_TEST

/* The caller's patience ends: it is told at once, and so is the server. */
START_TEST(deadline_cancels_at_both_ends)
{
    struct tls_context *tls = pki_context(&cluster, pki_id(1), TLS_ROLE_WORKER);
    struct rpc_client *c = client_of(tls);
    struct result first = { 0 }, r = { 0 }, after = { 0 };

    call(c, SKEP__METHOD__METHOD_ROOT_CA, 10, 5000, &first);
    wait_for(&first);
    call(c, SKEP__METHOD__METHOD_WATCH, 10, 50, &r);
    wait_for(&r);
    ck_assert_int_eq(r.rc, -ERR_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(r.message, "127.0.0.1"));
    call(c, SKEP__METHOD__METHOD_ROOT_CA, 10, 5000, &after);
    wait_for(&after); /* after the cancellation, on the same connection */
    ck_assert_uint_eq(held_count, 1);
    ck_assert(rpc_call_expired(held[0], 0));
    rpc_reply(held[0], NULL); /* owed all the same; goes nowhere */
    rpc_client_free(c);
    tls_context_free(tls);
}
END_TEST

static struct rpc_client *client_at(const char *at, struct tls_context *tls)
{
    struct rpc_client_options o = { .url = at, .tls = tls };
    struct rpc_client *c = rpc_client_new(rpc, &o, &e);

    ck_assert_msg(c != NULL, "%s", e.message);
    return c;
}

/* Nobody listens: the reason is there long before the deadline, and while backing off too. */
START_TEST(refused_connection_is_reported_fast)
{
    struct tls_context *tls = pki_context(&cluster, pki_id(1), TLS_ROLE_WORKER);
    struct result r = { 0 }, again = { 0 };
    uint64_t start_ms = clock_now_ms();

    stop_server();
    struct rpc_client *c = client_at(url, tls);
    call(c, SKEP__METHOD__METHOD_INFO, 0, 60000, &r);
    wait_for(&r);
    ck_assert_int_eq(r.rc, -ERR_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(r.message, url + strlen("tls+tcp://")));
    ck_assert_ptr_nonnull(strstr(r.message, "connection refused"));
    call(c, SKEP__METHOD__METHOD_INFO, 0, 60000, &again);
    wait_for(&again);
    ck_assert_str_eq(again.message, r.message);
    ck_assert_uint_lt(clock_now_ms() - start_ms, 1500);
    rpc_client_free(c);
    c = client_at("ipc:///nonexistent/skep.sock", NULL);
    r = (struct result){ 0 };
    call(c, SKEP__METHOD__METHOD_INFO, 0, 60000, &r);
    wait_for(&r);
    ck_assert_ptr_nonnull(strstr(r.message, "/nonexistent/skep.sock: "));
    ck_assert_ptr_nonnull(strstr(r.message, "is the daemon running"));
    rpc_client_free(c);
    tls_context_free(tls);
    listen_on("tls+tcp://127.0.0.1:0", server_tls);
}
END_TEST

START_TEST(server_going_away_fails_calls_in_flight)
{
    struct tls_context *tls = pki_context(&cluster, pki_id(1), TLS_ROLE_WORKER);
    struct rpc_client *c = client_of(tls);
    struct result r = { 0 }, back = { 0 };

    call(c, SKEP__METHOD__METHOD_WATCH, 10, 60000, &r);
    while (held_count == 0)
        ck_assert_int_eq(loop_run_once(l, 100, &e), 0);
    stop_server();
    wait_for(&r);
    ck_assert_int_eq(r.rc, -ERR_UNAVAILABLE);
    listen_on(url, server_tls); /* the same port again */
    for (uint64_t end_ms = clock_now_ms() + WAIT_MS; clock_now_ms() < end_ms;) {
        back = (struct result){ 0 };
        call(c, SKEP__METHOD__METHOD_ROOT_CA, 10, 5000, &back);
        wait_for(&back);
        if (back.rc == 0)
            break;
        ck_assert_int_eq(loop_run_once(l, 10, &e), 0); /* backing off */
    }
    ck_assert_uint_gt(back.body_size, 0);
    rpc_client_free(c);
    tls_context_free(tls);
}
END_TEST

START_TEST(freeing_a_client_completes_its_calls)
{
    struct tls_context *tls = pki_context(&cluster, pki_id(1), TLS_ROLE_WORKER);
    struct rpc_client *c = client_of(tls);
    struct result dialing[3] = { 0 }, ready[3] = { 0 }, freeing = { 0 };

    for (int i = 0; i < 3; i++)
        call(c, SKEP__METHOD__METHOD_WATCH, 10, 60000, &dialing[i]);
    rpc_client_free(c);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(dialing[i].rc, -ERR_CANCELED);
    c = client_of(tls);
    freeing.free_client = c; /* from inside a callback, with others waiting */
    for (int i = 0; i < 3; i++)
        call(c, SKEP__METHOD__METHOD_WATCH, 10, 60000, &ready[i]);
    call(c, SKEP__METHOD__METHOD_ROOT_CA, 10, 60000, &freeing);
    wait_for(&freeing);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(ready[i].count, 1);
        ck_assert_int_eq(ready[i].rc, -ERR_CANCELED);
    }
    tls_context_free(tls);
}
END_TEST

/* ---- who may speak ---- */

static int64_t shift_ns; /* of the clock of contexts made by context_at() */

static int64_t shifted_now(void)
{
    return clock_wall_ns() + shift_ns;
}

static const int64_t minute_ns = 60LL * 1000000000;

/* The server's rules about a client, and what either side then says. */
static const struct client_case {
    const char *why;
    const struct pki *issuer;
    int64_t born_minutes, life_minutes; /* relative to now */
    bool removed;
    const char *want; /* in the client's message; NULL = accepted */
    const char *seen; /* in the server's */
} client_cases[] = {
    { "a worker of this cluster", &cluster, 0, 60, false, NULL, NULL },
    { "N3 certificate of another cluster", &other, 0, 60, false, "root CA",
      "not signed by our root CA" },
    { "N4 expired beyond the skew", &cluster, -90, 29, false, "expired", "has expired" },
    { "expired within the skew", &cluster, -90, 31, false, NULL, NULL },
    { "N5 not valid for more than an hour yet", &cluster, 121, 99, false, "refused our cert",
      "not valid yet" },
    { "not valid yet, within the skew", &cluster, 119, 99, false, NULL, NULL },
    { "N6 removed node", &cluster, 0, 60, true, "removed from the cluster", "was removed" },
};

/* The client believes in its certificate: its clock is the one that makes it valid. */
START_TEST(server_judges_clients)
{
    const struct client_case *c = &client_cases[_i];
    int64_t now_ns = clock_wall_ns();
    char *pem =
        pki_node_until(c->issuer, pki_id(5), TLS_ROLE_WORKER, now_ns + c->born_minutes * minute_ns,
                       now_ns + (c->born_minutes + c->life_minutes) * minute_ns);
    char *roots = xasprintf("%s%s", cluster.root_pem, other.root_pem);
    struct tls_context_options o = { .check = TLS_CHECK_SERVER, /* with own cluster unchecked */
                                     .root_ca_pem = roots,
                                     .node_pem = pem,
                                     .wall_now = shifted_now };
    struct id removed = pki_id(5);
    struct result r = { 0 };

    shift_ns = c->born_minutes * minute_ns;
    struct tls_context *tls = tls_context_new(&o, &e);
    ck_assert_msg(tls != NULL, "%s", e.message);
    shift_ns = 0;
    if (c->removed)
        tls_context_set_removed(server_tls, &removed, 1);
    struct rpc_client *client = client_of(tls);
    call(client, SKEP__METHOD__METHOD_ROOT_CA, 10, 5000, &r);
    wait_for(&r);
    if (c->want == NULL) {
        ck_assert_msg(r.rc == 0, "%s: %s", c->why, r.message);
    } else {
        ck_assert_msg(r.rc == -ERR_UNAUTHENTICATED, "%s: %d %s", c->why, r.rc, r.message);
        ck_assert_msg(strstr(r.message, c->want) != NULL, "%s: %s", c->why, r.message);
        ck_assert_uint_eq(request_count, 0);
        for (int i = 0; i < 100 && refused[0] == '\0'; i++)
            ck_assert_int_eq(loop_run_once(l, 100, &e), 0);
        ck_assert_msg(strstr(refused, c->seen) != NULL, "%s: %s", c->why, refused);
    }
    rpc_client_free(client);
    tls_context_free(tls);
    free(pem);
    free(roots);
}
END_TEST

/* The client's rules about a server. */
static const struct server_case {
    const char *why;
    const struct pki *issuer;
    enum tls_role role, wanted_role;
    int64_t born_minutes, life_minutes;
    uint64_t wanted_node;
    const char *want;
} server_cases[] = {
    { "a manager", &cluster, TLS_ROLE_MANAGER, TLS_ROLE_MANAGER, 0, 99, 50, NULL },
    { "N7 a worker as server", &cluster, TLS_ROLE_WORKER, TLS_ROLE_NONE, 0, 99, 0,
      "is not a manager" },
    { "another cluster", &other, TLS_ROLE_MANAGER, TLS_ROLE_NONE, 0, 99, 0,
      "not signed by our root CA" },
    { "expired", &cluster, TLS_ROLE_MANAGER, TLS_ROLE_NONE, -90, 29, 0, "expired" },
    { "not yet valid", &cluster, TLS_ROLE_MANAGER, TLS_ROLE_NONE, 121, 99, 0, "not valid yet" },
    { "another node than expected", &cluster, TLS_ROLE_MANAGER, TLS_ROLE_NONE, 0, 99, 51,
      "not node" },
};

START_TEST(client_judges_servers)
{
    const struct server_case *c = &server_cases[_i];
    int64_t now_ns = clock_wall_ns();
    char *pem = pki_node_until(c->issuer, pki_id(50), c->role, now_ns + c->born_minutes * minute_ns,
                               now_ns + (c->born_minutes + c->life_minutes) * minute_ns);
    char *manager = pki_node(&cluster, pki_id(50), TLS_ROLE_MANAGER);
    struct tls_context_options o = { .check = TLS_CHECK_CLUSTER,
                                     .root_ca_pem = cluster.root_pem,
                                     .node_pem = manager,
                                     .wall_now = shifted_now };
    struct tls_context *tls = tls_context_new(&o, &e);
    struct tls_context *own = pki_context(&cluster, pki_id(1), TLS_ROLE_WORKER);
    struct result r = { 0 };

    stop_server();
    listen_on("tls+tcp://127.0.0.1:0", tls); /* would not listen with the bad one */
    o.node_pem = pem;
    o.root_ca_pem = c->issuer->root_pem;
    shift_ns = c->born_minutes * minute_ns;
    ck_assert_int_eq(tls_context_update(tls, &o, &e), 0);
    shift_ns = 0;
    struct rpc_client_options co = { .url = url, .tls = own, .server_role = c->wanted_role };
    struct id wanted = pki_id(c->wanted_node);
    if (c->wanted_node != 0)
        co.server_node_id = wanted.s;
    struct rpc_client *client = rpc_client_new(rpc, &co, &e);
    call(client, SKEP__METHOD__METHOD_ROOT_CA, 10, 5000, &r);
    wait_for(&r);
    if (c->want == NULL) {
        ck_assert_msg(r.rc == 0, "%s: %s", c->why, r.message);
    } else {
        ck_assert_msg(r.rc == -ERR_UNAUTHENTICATED, "%s: %d %s", c->why, r.rc, r.message);
        ck_assert_msg(strstr(r.message, c->want) != NULL, "%s: %s", c->why, r.message);
        ck_assert_uint_eq(request_count, 0); /* verified before anything is sent */
    }
    rpc_client_free(client);
    tls_context_free(own);
    tls_context_free(tls);
    free(pem);
    free(manager);
}
END_TEST

static struct result ask(struct tls_context *tls, Skep__Method method)
{
    struct rpc_client *c = client_of(tls);
    struct result r = { 0 };

    call(c, method, 0, 5000, &r);
    wait_for(&r);
    rpc_client_free(c);
    return r;
}

/* A resumed session shows the same peer, and is judged by the rules of now. */
START_TEST(resumption_keeps_and_rechecks_the_identity)
{
    struct tls_context *tls = pki_context(&cluster, pki_id(5), TLS_ROLE_WORKER);
    struct id removed = pki_id(5);
    char want[128];

    (void)snprintf(want, sizeof(want), "remote skep-worker %s", removed.s);
    for (int i = 0; i < 3; i++) {
        struct result r = ask(tls, SKEP__METHOD__METHOD_INFO);
        ck_assert_str_eq(r.message, want);
    }
    struct tls_stats stats = tls_context_stats(tls);
    ck_assert_uint_eq(stats.full, 1);
    ck_assert_uint_eq(stats.resumed, 2);
    tls_context_set_removed(server_tls, &removed, 1);
    struct result r = ask(tls, SKEP__METHOD__METHOD_INFO);
    ck_assert_int_eq(r.rc, -ERR_UNAUTHENTICATED);
    ck_assert_msg(strstr(r.message, "removed") != NULL, "%s", r.message);
    tls_context_free(tls);
}
END_TEST

/* A session of a certificate that has expired meanwhile is not resumed. */
START_TEST(resumption_ends_with_the_certificate)
{
    int64_t now_ns = clock_wall_ns();
    char *pem =
        pki_node_until(&cluster, pki_id(5), TLS_ROLE_WORKER, now_ns, now_ns + 120 * minute_ns);
    char *manager = pki_node(&cluster, pki_id(100), TLS_ROLE_MANAGER);
    struct tls_context_options so = { .check = TLS_CHECK_CLUSTER,
                                      .root_ca_pem = cluster.root_pem,
                                      .node_pem = manager,
                                      .wall_now = shifted_now };
    struct tls_context_options co = { .check = TLS_CHECK_CLUSTER,
                                      .root_ca_pem = cluster.root_pem,
                                      .node_pem = pem };

    shift_ns = 0;
    ck_assert_int_eq(tls_context_update(server_tls, &so, &e), 0);
    tls_context_free(server_tls);
    stop_server();
    server_tls = tls_context_new(&so, &e);
    listen_on("tls+tcp://127.0.0.1:0", server_tls);
    struct tls_context *tls = tls_context_new(&co, &e);
    ck_assert_int_eq(ask(tls, SKEP__METHOD__METHOD_ROOT_CA).rc, 0);
    shift_ns = 240 * minute_ns;
    struct result r = ask(tls, SKEP__METHOD__METHOD_ROOT_CA);
    shift_ns = 0;
    ck_assert_msg(strstr(r.message, "expired") != NULL, "%s", r.message);
    ck_assert_uint_eq(tls_context_stats(tls).resumed, 0);
    tls_context_free(tls);
    free(pem);
    free(manager);
}
END_TEST

/* Promotion: the next connection shows the new role, the old one stands. */
START_TEST(renewal_applies_to_new_connections)
{
    struct tls_context *tls = pki_context(&cluster, pki_id(5), TLS_ROLE_WORKER);
    char *pem = pki_node(&cluster, pki_id(5), TLS_ROLE_MANAGER);
    struct tls_context_options o = { .check = TLS_CHECK_CLUSTER,
                                     .root_ca_pem = cluster.root_pem,
                                     .node_pem = pem };
    struct rpc_client *old = client_of(tls);
    struct result before = { 0 }, after = { 0 };

    call(old, SKEP__METHOD__METHOD_INFO, 0, 5000, &before);
    wait_for(&before);
    ck_assert_int_eq(tls_context_update(tls, &o, &e), 0);
    call(old, SKEP__METHOD__METHOD_INFO, 0, 5000, &after);
    wait_for(&after);
    ck_assert_str_eq(after.message, before.message);
    struct result r = ask(tls, SKEP__METHOD__METHOD_INFO);
    ck_assert_msg(strstr(r.message, "skep-manager") != NULL, "%s", r.message);
    rpc_client_free(old);
    tls_context_free(tls);
    free(pem);
}
END_TEST

/* A node that is removed while connected gets no further call through. */
START_TEST(removal_applies_to_standing_connections)
{
    struct tls_context *tls = pki_context(&cluster, pki_id(5), TLS_ROLE_WORKER);
    struct rpc_client *c = client_of(tls);
    struct result before = { 0 }, after = { 0 };
    struct id removed = pki_id(5);

    call(c, SKEP__METHOD__METHOD_ROOT_CA, 0, 5000, &before);
    wait_for(&before);
    tls_context_set_removed(server_tls, &removed, 1);
    call(c, SKEP__METHOD__METHOD_ROOT_CA, 0, 5000, &after);
    wait_for(&after);
    ck_assert_int_eq(before.rc, 0);
    ck_assert_int_eq(after.rc, -ERR_PERMISSION);
    ck_assert_uint_eq(request_count, 1);
    rpc_client_free(c);
    tls_context_free(tls);
}
END_TEST

START_TEST(listening_explains_failure)
{
    struct tls_context *worker = pki_context(&cluster, pki_id(9), TLS_ROLE_WORKER);
    struct rpc_listen_options o = { .url = url, .tls = server_tls, .handler = handler };

    ck_assert_ptr_null(rpc_listen(rpc, &o, &e));
    ck_assert_msg(strstr(e.message, "address in use") != NULL, "%s", e.message);
    ck_assert_msg(strstr(e.message, url + strlen("tls+tcp://")) != NULL, "%s", e.message);
    o.tls = worker;
    ck_assert_ptr_null(rpc_listen(rpc, &o, &e));
    ck_assert_msg(strstr(e.message, "certificate of a manager") != NULL, "%s", e.message);
    o.tls = NULL;
    ck_assert_ptr_null(rpc_listen(rpc, &o, &e));
    o.url = "ipc:///nonexistent/x.sock";
    ck_assert_ptr_null(rpc_listen(rpc, &o, &e));
    tls_context_free(worker);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, answers_over_mutual_tls);
    tcase_add_test(tc, local_socket_needs_no_tls);
    tcase_add_test(tc, large_messages_pass);
    tcase_add_test(tc, oversize_is_refused_before_sending);
    tcase_add_test(tc, long_calls_do_not_block_short_ones);
    tcase_add_test(tc, deadline_cancels_at_both_ends);
    tcase_add_test(tc, refused_connection_is_reported_fast);
    tcase_add_test(tc, server_going_away_fails_calls_in_flight);
    tcase_add_test(tc, freeing_a_client_completes_its_calls);
    tcase_add_loop_test(tc, server_judges_clients, 0, ARRAY_LEN(client_cases));
    tcase_add_loop_test(tc, client_judges_servers, 0, ARRAY_LEN(server_cases));
    tcase_add_test(tc, resumption_keeps_and_rechecks_the_identity);
    tcase_add_test(tc, resumption_ends_with_the_certificate);
    tcase_add_test(tc, renewal_applies_to_new_connections);
    tcase_add_test(tc, removal_applies_to_standing_connections);
    tcase_add_test(tc, listening_explains_failure);
}

int main(void)
{
    cluster = pki_new(1000);
    other = pki_new(2000);
    (void)snprintf(ipc_url, sizeof(ipc_url), "ipc:///tmp/skep-test-rpc-%d.sock", (int)getpid());
    Suite *s = suite_create("rpc");
    TCase *tc = tcase_create("all");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    add_tests(tc);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    pki_free(&cluster);
    pki_free(&other);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
