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

static void listen_on(const char *at, struct tls_context *tls)
{
    struct rpc_listen_options o = { .url = at, .tls = tls, .handler = handler };

    server = rpc_listen(rpc, &o, &e);
    ck_assert_msg(server != NULL, "%s", e.message);
    if (tls != NULL)
        (void)snprintf(url, sizeof(url), "tls+tcp://127.0.0.1:%u", rpc_server_port(server));
}

static void setup(void)
{
    e = (struct err){ 0 };
    held_count = 0;
    request_count = 0;
    l = loop_new(&e);
    rpc = rpc_new(l, &e);
    ck_assert_msg(rpc != NULL, "%s", e.message);
    server_tls = pki_context(&cluster, pki_id(100), TLS_ROLE_MANAGER);
    listen_on("tls+tcp://127.0.0.1:0", server_tls);
}

static void teardown(void)
{
    rpc_server_free(server);
    server = NULL;
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

int main(void)
{
    cluster = pki_new(1000);
    other = pki_new(2000);
    (void)snprintf(ipc_url, sizeof(ipc_url), "ipc:///tmp/skep-test-rpc-%d.sock", (int)getpid());
    Suite *s = suite_create("rpc");
    TCase *tc = tcase_create("all");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, answers_over_mutual_tls);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    pki_free(&cluster);
    pki_free(&other);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
