#include "common/enrol.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/random.h"
#include "common/renew.h"
#include "test/lib/pki.h"
#include "test/lib/tmpdir.h"

/* A manager's two doors, as far as joiners see them; the hooks below make it answer wrongly. */
enum wrong { RIGHT, WRONG_KEY, WRONG_NODE, WRONG_CLUSTER, WRONG_CLOCK, WRONG_BYTES };

enum { WAIT_MS = 10000 };

static struct pki cluster, other;
static struct loop *l;
static struct rpc *rpc;
static struct rpc_server *door, *members;
static struct tls_context *door_tls, *member_tls;
static char *dir;
static char token[TOKEN_CHARS + 1], remote[64];
static enum wrong wrong;
static unsigned enrol_count;
static unsigned puts_off; /* the first so many are answered with "unavailable" */
static struct err e;

static char *issue(const Skep__EnrolRequest *req, enum tls_role role)
{
    const struct pki *by = wrong == WRONG_CLUSTER ? &other : &cluster;
    CLEANUP_BUF struct buf pem = BUF_INIT(X509_PEM_BYTES_MAX);
    int64_t now_ns = clock_wall_ns() + (wrong == WRONG_CLOCK ? INT64_C(86400000000000) : 0);
    struct x509_issue i = { .csr_pem = req->csr_pem.data,
                            .csr_size = req->csr_pem.len,
                            .identity = { .node = pki_id(wrong == WRONG_NODE ? 78 : 77),
                                          .cluster = by->cluster,
                                          .role = role,
                                          .not_after_ns = now_ns + INT64_C(86400000000000) },
                            .now_ns = now_ns };

    if (wrong == WRONG_KEY) {
        char *pem_of_other_key = pki_node(&cluster, pki_id(77), role);
        *strstr(pem_of_other_key, "-----BEGIN EC") = '\0';
        return pem_of_other_key;
    }
    if (wrong == WRONG_BYTES)
        return xstrdup("not a certificate");
    ck_assert_msg(x509_ca_issue(by->ca, &i, &pem, &e) == 0, "%s", e.message);
    return xstrdup(buf_str(&pem));
}

static ProtobufCBinaryData bytes_of(char *text)
{
    return (ProtobufCBinaryData){ .len = strlen(text), .data = (uint8_t *)text };
}

static void answer_enrol(struct rpc_call *call, const Skep__EnrolRequest *req)
{
    Skep__EnrolResponse r = SKEP__ENROL_RESPONSE__INIT;
    Skep__ManagerAddress address = SKEP__MANAGER_ADDRESS__INIT, *addresses[] = { &address };

    enrol_count++;
    if (enrol_count <= puts_off) {
        rpc_reply_error(call, ERR_UNAVAILABLE, "");
        return;
    }
    if (!token_matches(req->token, token)) {
        rpc_reply_error(call, ERR_PERMISSION, "invalid join token");
        return;
    }
    char *pem = issue(req, TLS_ROLE_WORKER);
    char id[] = "x", manager[] = "10.9.9.9:2377";
    r.node_id = id;
    r.certificate_pem = bytes_of(pem);
    r.root_ca_pem = bytes_of(other.root_pem); /* must not be believed */
    address.address = manager;
    r.managers = addresses;
    r.n_managers = 1;
    rpc_reply(call, &r.base);
    free(pem);
}

static void handler(void *ctx, struct rpc_call *call, const struct rpc_peer *peer,
                    const Skep__Request *req)
{
    ProtobufCMessage *message = NULL;

    (void)ctx;
    if (req->method == SKEP__METHOD__METHOD_ROOT_CA) {
        Skep__RootCaResponse r = SKEP__ROOT_CA_RESPONSE__INIT;

        r.certificate_pem = bytes_of(cluster.root_pem);
        rpc_reply(call, &r.base);
    } else if (req->method == SKEP__METHOD__METHOD_ENROL) {
        ck_assert_int_eq(peer->identity.role, TLS_ROLE_NONE);
        ck_assert_int_eq(rpc_decode(&req->body, &skep__enrol_request__descriptor, &message, &e), 0);
        answer_enrol(call, (Skep__EnrolRequest *)message);
        protobuf_c_message_free_unpacked(message, NULL);
    } else if (req->method == SKEP__METHOD__METHOD_CERTIFICATE_RENEW) {
        Skep__CertificateRenewResponse r = SKEP__CERTIFICATE_RENEW_RESPONSE__INIT;
        Skep__EnrolRequest csr = SKEP__ENROL_REQUEST__INIT;

        ck_assert_int_eq(
            rpc_decode(&req->body, &skep__certificate_renew_request__descriptor, &message, &e), 0);
        csr.csr_pem = ((Skep__CertificateRenewRequest *)message)->csr_pem;
        char *pem = issue(&csr, TLS_ROLE_MANAGER);
        r.certificate_pem = bytes_of(pem);
        r.root_ca_pem = bytes_of(cluster.root_pem);
        rpc_reply(call, &r.base);
        free(pem);
        protobuf_c_message_free_unpacked(message, NULL);
    }
}

static struct rpc_server *listen_with(struct tls_context *tls)
{
    struct rpc_listen_options o = { .url = "tls+tcp://127.0.0.1:0",
                                    .tls = tls,
                                    .handler = handler };
    struct rpc_server *s = rpc_listen(rpc, &o, &e);

    ck_assert_msg(s != NULL, "%s", e.message);
    return s;
}

static void make_clusters(void)
{
    uint8_t random[TOKEN_SECRET_BYTES];
    char digest[TOKEN_DIGEST_CHARS + 1];
    struct token t;

    cluster = pki_new(1000);
    other = pki_new(2000);
    ck_assert_int_eq(x509_root_digest(cluster.root_pem, digest, &e), 0);
    random_bytes(random, sizeof(random));
    t = token_make(digest, random);
    token_format(&t, token);
}

static void drop_clusters(void)
{
    pki_free(&cluster);
    pki_free(&other);
}

static void setup(void)
{
    char *pem = pki_node(&cluster, pki_id(1), TLS_ROLE_MANAGER);
    struct tls_context_options o = { .check = TLS_CHECK_SERVER,
                                     .root_ca_pem = cluster.root_pem,
                                     .node_pem = pem };

    wrong = RIGHT;
    enrol_count = puts_off = 0;
    e = (struct err){ 0 };
    dir = tmpdir_new_in_memory();
    l = loop_new(&e);
    rpc = rpc_new(l, &e);
    door_tls = tls_context_new(&o, &e);
    o.check = TLS_CHECK_CLUSTER;
    member_tls = tls_context_new(&o, &e);
    free(pem);
    door = listen_with(door_tls);
    members = listen_with(member_tls);
    (void)snprintf(remote, sizeof(remote), "127.0.0.1:%d",
                   rpc_server_port(door) - ENROL_PORT_OFFSET);
}

static void teardown(void)
{
    rpc_server_free(door);
    rpc_server_free(members);
    tls_context_free(door_tls);
    tls_context_free(member_tls);
    rpc_free(rpc);
    loop_free(l);
    tmpdir_remove(dir);
}

struct result {
    int count, rc;
    struct err e;
    struct id node;
};

static void on_enrolled(void *ctx, int rc, const struct identity *id, const struct err *why)
{
    struct result *r = ctx;

    r->count++;
    r->rc = rc;
    r->e = *why;
    ck_assert_int_eq(rc == 0, id != NULL);
    if (id != NULL)
        r->node = id->tls.node;
}

static void on_renewed(void *ctx, int rc, const struct err *why)
{
    struct result *r = ctx;

    r->count++;
    r->rc = rc;
    r->e = *why;
}

static void wait_for(const struct result *r)
{
    uint64_t end_ms = clock_now_ms() + WAIT_MS;

    while (r->count == 0 && clock_now_ms() < end_ms)
        ck_assert_int_eq(loop_run_once(l, 100, &e), 0);
    ck_assert_int_eq(r->count, 1);
}

static struct result enrol_at(char *const *remotes, size_t count, const char *with)
{
    struct enrol_options o = {
        .state_dir = dir, .remotes = remotes, .remote_count = count, .token = with
    };
    struct result r = { 0 };
    struct enrol *en = enrol_start(rpc, l, &o, on_enrolled, &r, &e);

    ck_assert_msg(en != NULL, "%s", e.message);
    wait_for(&r);
    enrol_cancel(en);
    return r;
}

static struct result enrol_once(const char *with)
{
    char *remotes[] = { remote };

    return enrol_at(remotes, 1, with);
}

static void check_nothing_stored(void)
{
    struct identity *id;

    ck_assert_int_eq(identity_load(dir, &id, NULL), -ERR_NOT_FOUND);
}

START_TEST(stores_the_identity)
{
    struct result r = enrol_once(token);
    struct identity *id = NULL;

    ck_assert_msg(r.rc == 0, "%s", r.e.message);
    ck_assert_str_eq(r.node.s, pki_id(77).s);
    ck_assert_msg(identity_load(dir, &id, &e) == 0, "%s", e.message);
    ck_assert_int_eq(id->tls.role, TLS_ROLE_WORKER);
    ck_assert_str_eq(id->root_ca_pem, cluster.root_pem); /* the one that the token pins */
    ck_assert_uint_eq(id->manager_count, 1);
    ck_assert_str_eq(id->managers[0], "10.9.9.9:2377");
    identity_free(id);
}
END_TEST

/* As while a leader is elected. */
START_TEST(asks_again_when_put_off)
{
    puts_off = 2;
    struct result r = enrol_once(token);

    ck_assert_msg(r.rc == 0, "%s", r.e.message);
    ck_assert_uint_eq(enrol_count, 3);
}
END_TEST

/* N32: nothing is sent to a manager whose CA is not the token's. */
START_TEST(token_of_another_cluster_stays_secret)
{
    uint8_t random[TOKEN_SECRET_BYTES] = { 1 };
    char digest[TOKEN_DIGEST_CHARS + 1], text[TOKEN_CHARS + 1];

    ck_assert_int_eq(x509_root_digest(other.root_pem, digest, &e), 0);
    struct token t = token_make(digest, random);
    token_format(&t, text);
    struct result r = enrol_once(text);
    ck_assert_int_eq(r.rc, -ERR_PERMISSION);
    ck_assert_msg(strstr(r.e.message, "does not match the token") != NULL, "%s", r.e.message);
    ck_assert_msg(strstr(r.e.message, remote) != NULL, "%s", r.e.message);
    ck_assert_uint_eq(enrol_count, 0);
    check_nothing_stored();
}
END_TEST

/* The manager's refusal is final and is passed on; other remotes would say the same. */
START_TEST(refused_token_asks_nobody_else)
{
    char text[TOKEN_CHARS + 1], *remotes[] = { remote, remote };

    memcpy(text, token, sizeof(text));
    text[TOKEN_CHARS - 1] = text[TOKEN_CHARS - 1] == '0' ? '1' : '0';
    struct result r = enrol_at(remotes, 2, text);
    ck_assert_int_eq(r.rc, -ERR_PERMISSION);
    ck_assert_msg(strstr(r.e.message, "invalid join token") != NULL, "%s", r.e.message);
    ck_assert_uint_eq(enrol_count, 1);
    check_nothing_stored();
}
END_TEST

START_TEST(tries_the_next_remote)
{
    char dead[] = "127.0.0.1:9", *remotes[] = { dead, remote };
    struct result r = enrol_at(remotes, 2, token);

    ck_assert_msg(r.rc == 0, "%s", r.e.message);
}
END_TEST

START_TEST(unreachable_names_the_address)
{
    char dead[] = "127.0.0.1:9", *remotes[] = { dead };
    struct result r = enrol_at(remotes, 1, token);

    ck_assert_int_eq(r.rc, -ERR_UNAVAILABLE);
    ck_assert_str_eq(r.e.message, "127.0.0.1:10: connection refused");
}
END_TEST

static const struct wrong_case {
    const char *why;
    enum wrong wrong;
    const char *want;
} wrong_cases[] = {
    { "a certificate of another key", WRONG_KEY, "belongs to another" },
    { "a certificate of another root", WRONG_CLUSTER, "root CA" },
    { "this host's clock is a day behind", WRONG_CLOCK, "clock" },
    { "no certificate", WRONG_BYTES, "certificate" },
};

START_TEST(useless_answers_are_not_stored)
{
    const struct wrong_case *c = &wrong_cases[_i];

    wrong = c->wrong;
    struct result r = enrol_once(token);
    ck_assert_msg(r.rc < 0, "%s", c->why);
    ck_assert_msg(strstr(r.e.message, c->want) != NULL, "%s: %s", c->why, r.e.message);
    check_nothing_stored();
}
END_TEST

static const struct bad_case {
    const char *why;
    const char *remote, *token;
    const char *want;
} bad_cases[] = {
    { "no token", "h", "", "join token" },
    { "no host", ":2377", NULL, "HOST" },
    { "no port after the colon", "h:", NULL, "HOST" },
    { "port 0", "h:0", NULL, "HOST" },
    { "port 65535 leaves no room for the next", "h:65535", NULL, "HOST" },
    { "not a port", "h:23x", NULL, "HOST" },
};

START_TEST(malformed_input_fails_at_once)
{
    const struct bad_case *c = &bad_cases[_i];
    char *text = xstrdup(c->remote), *remotes[] = { text };
    struct enrol_options o = { .state_dir = dir,
                               .remotes = remotes,
                               .remote_count = 1,
                               .token = c->token != NULL ? c->token : token };

    ck_assert_msg(enrol_start(rpc, l, &o, on_enrolled, NULL, &e) == NULL, "%s", c->why);
    ck_assert_msg(strstr(e.message, c->want) != NULL, "%s: %s", c->why, e.message);
    free(text);
}
END_TEST

/* Cancelling at any point is silent and leaves nothing. */
START_TEST(cancel_is_silent)
{
    char *remotes[] = { remote };
    struct enrol_options o = {
        .state_dir = dir, .remotes = remotes, .remote_count = 1, .token = token
    };
    struct result r = { 0 };
    struct enrol *en = enrol_start(rpc, l, &o, on_enrolled, &r, &e);

    for (int i = 0; i < _i && r.count == 0; i++)
        ck_assert_int_eq(loop_run_once(l, 20, &e), 0);
    int before = r.count;
    enrol_cancel(en);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(loop_run_once(l, 5, &e), 0);
    ck_assert_int_eq(r.count, before);
}
END_TEST

static struct result renew_once(struct identity *id)
{
    char url[64];
    struct tls_context_options o = { .check = TLS_CHECK_CLUSTER,
                                     .root_ca_pem = id->root_ca_pem,
                                     .node_pem = id->node_pem };
    struct rpc_client_options co = { .url = url };
    struct result r = { 0 };

    (void)snprintf(url, sizeof(url), "tls+tcp://127.0.0.1:%u", rpc_server_port(members));
    co.tls = tls_context_new(&o, &e);
    struct rpc_client *c = rpc_client_new(rpc, &co, &e);
    ck_assert_msg(renew_start(c, dir, id, on_renewed, &r, &e) == 0, "%s", e.message);
    wait_for(&r);
    rpc_client_free(c);
    tls_context_free(co.tls);
    return r;
}

/* Promotion is a new certificate with another role for the same node, and a new key. */
START_TEST(renewal_replaces_certificate_and_key)
{
    struct identity *before = NULL, *after = NULL;

    ck_assert_int_eq(enrol_once(token).rc, 0);
    ck_assert_int_eq(identity_load(dir, &before, &e), 0);
    uint64_t stamp = identity_stamp(dir);
    struct result r = renew_once(before);
    ck_assert_msg(r.rc == 0, "%s", r.e.message);
    ck_assert_int_eq(identity_load(dir, &after, &e), 0);
    ck_assert_int_eq(after->tls.role, TLS_ROLE_MANAGER);
    ck_assert(id_equal(&after->tls.node, &before->tls.node));
    ck_assert_str_ne(strstr(after->node_pem, "-----BEGIN EC"),
                     strstr(before->node_pem, "-----BEGIN EC"));
    ck_assert_uint_ne(identity_stamp(dir), stamp);
    identity_free(before);
    identity_free(after);
}
END_TEST

static const struct wrong_case renew_cases[] = {
    { "a certificate of another node", WRONG_NODE, "not for us" },
    { "a certificate of another key", WRONG_KEY, "belongs to another" },
    { "a certificate of another cluster", WRONG_CLUSTER, "not for us" },
    { "no certificate", WRONG_BYTES, "certificate" },
};

START_TEST(useless_renewals_change_nothing)
{
    const struct wrong_case *c = &renew_cases[_i];
    struct identity *before = NULL;

    ck_assert_int_eq(enrol_once(token).rc, 0);
    ck_assert_int_eq(identity_load(dir, &before, &e), 0);
    uint64_t stamp = identity_stamp(dir);
    wrong = c->wrong;
    struct result r = renew_once(before);
    ck_assert_msg(r.rc < 0, "%s", c->why);
    ck_assert_msg(strstr(r.e.message, c->want) != NULL, "%s: %s", c->why, r.e.message);
    ck_assert_uint_eq(identity_stamp(dir), stamp);
    identity_free(before);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("enrol");
    TCase *tc = tcase_create("all");

    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, make_clusters, drop_clusters);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, stores_the_identity);
    tcase_add_test(tc, asks_again_when_put_off);
    tcase_add_test(tc, token_of_another_cluster_stays_secret);
    tcase_add_test(tc, refused_token_asks_nobody_else);
    tcase_add_test(tc, tries_the_next_remote);
    tcase_add_test(tc, unreachable_names_the_address);
    tcase_add_loop_test(tc, useless_answers_are_not_stored, 0, ARRAY_LEN(wrong_cases));
    tcase_add_loop_test(tc, malformed_input_fails_at_once, 0, ARRAY_LEN(bad_cases));
    tcase_add_loop_test(tc, cancel_is_silent, 0, 12);
    tcase_add_test(tc, renewal_replaces_certificate_and_key);
    tcase_add_loop_test(tc, useless_renewals_change_nothing, 0, ARRAY_LEN(renew_cases));
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
