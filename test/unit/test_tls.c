#include "common/tls.h"

#include <check.h>
#include <mbedtls/asn1write.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/oid.h>
#include <mbedtls/rsa.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mbed.h"
#include "common/rpc.h"
#include "common/x509.h"
#include "test/lib/pki.h"

/* Hostile clients: mbedTLS used directly, with certificates that common/x509.h would never make. */

enum { CHAIN_MAX = 12, FOREVER_MS = 30000 };

static struct pki cluster;
static struct id node, manager;
static mbedtls_pk_context root_key;
static struct loop *l;
static struct rpc *rpc;
static struct rpc_server *server;
static struct tls_context *server_tls;
static struct err e;

/* ---- crafting ---- */

struct craft {
    const char *subject; /* NULL = a proper worker */
    const char *raw_cn;  /* bytes of the CN instead of the subject's */
    size_t raw_cn_size;
    const char *second_oid, *second; /* one more attribute; mbedTLS would replace the first */
    mbedtls_md_type_t md;            /* of the signature; 0 = SHA-256 */
    mbedtls_ecp_group_id curve;      /* 0 = P-256 */
    bool rsa;
    bool no_usage, server_usage; /* extended key usage left out, or for servers only */
    bool self_signed;
    unsigned intermediates; /* proper ones */
    bool leaf_signs;        /* signed by a proper worker's certificate */
};

struct crafted {
    mbedtls_x509_crt chain;
    mbedtls_pk_context key;
};

static void make_key(mbedtls_pk_context *key, mbedtls_ecp_group_id curve, bool rsa)
{
    mbedtls_pk_init(key);
    if (rsa) {
        ck_assert_int_eq(mbedtls_pk_setup(key, mbedtls_pk_info_from_type(MBEDTLS_PK_RSA)), 0);
        ck_assert_int_eq(mbedtls_rsa_gen_key(mbedtls_pk_rsa(*key), mbed_rng, NULL, 1024, 65537), 0);
        return;
    }
    ck_assert_int_eq(mbedtls_pk_setup(key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)), 0);
    ck_assert_int_eq(mbedtls_ecp_gen_key(curve != 0 ? curve : MBEDTLS_ECP_DP_SECP256R1,
                                         mbedtls_pk_ec(*key), mbed_rng, NULL),
                     0);
}

static void set_usage(mbedtls_x509write_cert *w, bool server_only)
{
    static const unsigned char one[] = { 0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06,
                                         0x01, 0x05, 0x05, 0x07, 0x03, 0x01 };
    static const unsigned char both[] = { 0x30, 0x14, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05,
                                          0x05, 0x07, 0x03, 0x01, 0x06, 0x08, 0x2b, 0x06,
                                          0x01, 0x05, 0x05, 0x07, 0x03, 0x02 };

    ck_assert_int_eq(mbedtls_x509write_crt_set_extension(
                         w, MBEDTLS_OID_EXTENDED_KEY_USAGE,
                         MBEDTLS_OID_SIZE(MBEDTLS_OID_EXTENDED_KEY_USAGE), 0,
                         server_only ? one : both, server_only ? sizeof(one) : sizeof(both)),
                     0);
}

/* Appends what mbedtls_asn1_store_named_data() refuses to: another value of a type. */
static void add_name(mbedtls_asn1_named_data **list, const char *oid, const char *value)
{
    mbedtls_asn1_named_data *n = xcalloc(1, sizeof(*n));

    n->oid = (mbedtls_asn1_buf){ .len = strlen(oid), .p = xmemdup(oid, strlen(oid)) };
    n->val = (mbedtls_asn1_buf){ .tag = MBEDTLS_ASN1_UTF8_STRING,
                                 .len = strlen(value),
                                 .p = xmemdup(value, strlen(value)) };
    n->next = *list;
    *list = n;
}

struct link { /* of a chain */
    const char *subject, *issuer;
    mbedtls_pk_context *key, *issuer_key;
    bool authority;
};

/* Writes one certificate in front of text and replaces text. */
static void add_certificate(char **text, const struct craft *c, const struct link *k)
{
    mbedtls_x509write_cert w;
    unsigned char pem[8192];
    mbedtls_mpi serial;

    mbedtls_x509write_crt_init(&w);
    mbedtls_mpi_init(&serial);
    ck_assert_int_eq(mbedtls_mpi_lset(&serial, 77), 0);
    ck_assert_int_eq(mbedtls_x509write_crt_set_serial(&w, &serial), 0);
    mbedtls_mpi_free(&serial);
    mbedtls_x509write_crt_set_md_alg(&w, c->md != 0 ? c->md : MBEDTLS_MD_SHA256);
    ck_assert_int_eq(mbedtls_x509write_crt_set_validity(&w, "20200101000000", "20400101000000"), 0);
    ck_assert_int_eq(mbedtls_x509write_crt_set_subject_name(&w, k->subject), 0);
    if (!k->authority && c->raw_cn != NULL)
        ck_assert_ptr_nonnull(mbedtls_asn1_store_named_data(
            &w.subject, MBEDTLS_OID_AT_CN, MBEDTLS_OID_SIZE(MBEDTLS_OID_AT_CN),
            (const unsigned char *)c->raw_cn, c->raw_cn_size));
    if (!k->authority && c->second != NULL)
        add_name(&w.subject, c->second_oid, c->second);
    ck_assert_int_eq(mbedtls_x509write_crt_set_issuer_name(&w, k->issuer), 0);
    mbedtls_x509write_crt_set_subject_key(&w, k->key);
    mbedtls_x509write_crt_set_issuer_key(&w, k->issuer_key);
    if (k->authority)
        ck_assert_int_eq(mbedtls_x509write_crt_set_basic_constraints(&w, 1, -1), 0);
    else if (!c->no_usage)
        set_usage(&w, c->server_usage);
    ck_assert_int_eq(mbedtls_x509write_crt_pem(&w, pem, sizeof(pem), mbed_rng, NULL), 0);
    mbedtls_x509write_crt_free(&w);
    char *joined = xasprintf("%s%s", (const char *)pem, *text);
    free(*text);
    *text = joined;
}

static void craft(const struct craft *c, struct crafted *ret)
{
    mbedtls_pk_context keys[CHAIN_MAX], *issuer_key = &root_key;
    char issuer[128] = "CN=swarm-ca", name[128], proper[128];
    char *text = xstrdup("");
    unsigned count = c->leaf_signs ? 1 : c->intermediates;

    (void)snprintf(proper, sizeof(proper), "O=%s,OU=skep-worker,CN=%s", cluster.cluster.s, node.s);
    for (unsigned i = 0; i < count; i++) {
        make_key(&keys[i], 0, false);
        if (c->leaf_signs)
            (void)snprintf(name, sizeof(name), "%s", proper);
        else
            (void)snprintf(name, sizeof(name), "CN=middle-%u", i);
        struct link k = { name, issuer, &keys[i], issuer_key, !c->leaf_signs };
        add_certificate(&text, c, &k);
        (void)snprintf(issuer, sizeof(issuer), "%s", name);
        issuer_key = &keys[i];
    }
    make_key(&ret->key, c->curve, c->rsa);
    const char *subject = c->subject != NULL ? c->subject : proper;
    struct link leaf = { subject, c->self_signed ? subject : issuer, &ret->key,
                         c->self_signed ? &ret->key : issuer_key, false };
    add_certificate(&text, c, &leaf);
    mbedtls_x509_crt_init(&ret->chain);
    ck_assert_int_eq(
        mbedtls_x509_crt_parse(&ret->chain, (const unsigned char *)text, strlen(text) + 1), 0);
    for (unsigned i = 0; i < count; i++)
        mbedtls_pk_free(&keys[i]);
    free(text);
}

/* ---- the client, on a thread of its own ---- */

struct client {
    struct crafted *crafted; /* NULL = no certificate */
    int minor_version;       /* of TLS 1.x; 0 = 1.2 */
    int ciphersuite;         /* 0 = mbedTLS's own choice */
    bool renegotiate;
    uint16_t port;
    int handshake; /* results: of mbedTLS, and of the protocol over it */
    bool spoke;
    atomic_bool finished;
};

static const unsigned char hello[] = "SKEP\0\0\0\1"              /* preface */
                                     "\0\0\0\0\0\0\0\0\4\0\0\0"; /* ping */
enum { HELLO_BYTES = sizeof(hello) - 1 };

/* Speaks the preface and a ping, and expects the same and a pong. */
static bool speak(mbedtls_ssl_context *ssl)
{
    unsigned char answer[HELLO_BYTES];
    size_t got = 0;

    if (mbedtls_ssl_write(ssl, hello, HELLO_BYTES) != HELLO_BYTES)
        return false;
    while (got < sizeof(answer)) {
        int rc = mbedtls_ssl_read(ssl, answer + got, sizeof(answer) - got);
        if (rc <= 0)
            return false;
        got += (size_t)rc;
    }
    return answer[16] == 5;
}

static void configure(struct client *c, mbedtls_ssl_config *conf, int *suites)
{
    (void)mbedtls_ssl_config_defaults(conf, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                      MBEDTLS_SSL_PRESET_DEFAULT);
    mbedtls_ssl_conf_rng(conf, mbed_rng, NULL);
    mbedtls_ssl_conf_authmode(conf, MBEDTLS_SSL_VERIFY_NONE);
    mbedtls_ssl_conf_read_timeout(conf, FOREVER_MS);
    mbedtls_ssl_conf_renegotiation(conf, MBEDTLS_SSL_RENEGOTIATION_ENABLED);
    if (c->minor_version != 0)
        mbedtls_ssl_conf_max_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, c->minor_version);
    if (c->ciphersuite != 0) {
        suites[0] = c->ciphersuite;
        suites[1] = 0;
        mbedtls_ssl_conf_ciphersuites(conf, suites);
    }
    if (c->crafted != NULL)
        (void)mbedtls_ssl_conf_own_cert(conf, &c->crafted->chain, &c->crafted->key);
}

static void *client_main(void *arg)
{
    struct client *c = arg;
    mbedtls_net_context net;
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config conf;
    int suites[2];
    char port[8];

    mbedtls_net_init(&net);
    mbedtls_ssl_init(&ssl);
    mbedtls_ssl_config_init(&conf);
    configure(c, &conf, suites);
    (void)snprintf(port, sizeof(port), "%u", c->port);
    c->handshake = mbedtls_net_connect(&net, "127.0.0.1", port, MBEDTLS_NET_PROTO_TCP);
    if (c->handshake == 0)
        c->handshake = mbedtls_ssl_setup(&ssl, &conf);
    if (c->handshake == 0) {
        mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, NULL, mbedtls_net_recv_timeout);
        c->handshake = mbedtls_ssl_handshake(&ssl);
    }
    if (c->handshake == 0 && c->renegotiate)
        c->handshake = mbedtls_ssl_renegotiate(&ssl);
    if (c->handshake == 0)
        c->spoke = speak(&ssl);
    mbedtls_ssl_free(&ssl);
    mbedtls_ssl_config_free(&conf);
    mbedtls_net_free(&net);
    c->finished = true;
    return NULL;
}

static void run_client(struct client *c)
{
    pthread_t thread;

    c->port = rpc_server_port(server);
    ck_assert_int_eq(pthread_create(&thread, NULL, client_main, c), 0);
    while (!c->finished)
        ck_assert_int_eq(loop_run_once(l, 5, &e), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

/* ---- tests ---- */

static void handler(void *ctx, struct rpc_call *call, const struct rpc_peer *peer,
                    const Skep__Request *req)
{
    (void)ctx, (void)peer, (void)req;
    rpc_reply(call, NULL);
}

static void setup(void)
{
    cluster = pki_new(1000);
    node = pki_id(1);
    manager = pki_id(2);
    mbedtls_pk_init(&root_key);
    ck_assert_int_eq(mbedtls_pk_parse_key(&root_key, (const unsigned char *)cluster.root_key_pem,
                                          strlen(cluster.root_key_pem) + 1, NULL, 0),
                     0);
    l = loop_new(&e);
    rpc = rpc_new(l, &e);
    server_tls = pki_context(&cluster, manager, TLS_ROLE_MANAGER);
    struct rpc_listen_options o = { .url = "tls+tcp://127.0.0.1:0",
                                    .tls = server_tls,
                                    .handler = handler };
    server = rpc_listen(rpc, &o, &e);
    ck_assert_msg(server != NULL, "%s", e.message);
}

static void teardown(void)
{
    rpc_server_free(server);
    tls_context_free(server_tls);
    rpc_free(rpc);
    loop_free(l);
    mbedtls_pk_free(&root_key);
    pki_free(&cluster);
}

#define O "O=00000000000000000000000aa"
#define CN "CN=11111111111111111111111bb"

static const struct client_case {
    const char *why;
    struct craft craft;
    bool none; /* no certificate at all */
    bool passes;
} client_cases[] = {
    { .why = "a proper worker", .passes = true },
    { .why = "two intermediates, as in a root rotation", .craft.intermediates = 2, .passes = true },
    { .why = "N1 no certificate", .none = true },
    { .why = "N2 self-signed", .craft.self_signed = true },
    { .why = "N3 our root, another cluster's id", .craft.subject = O ",OU=skep-worker," CN },
    { .why = "N8 signed by a worker's certificate", .craft.leaf_signs = true },
    { .why = "N9 three intermediates", .craft.intermediates = 3 },
    { .why = "N9 twelve intermediates", .craft.intermediates = 12 },
    { .why = "N11 no role", .craft.subject = "%O," CN },
    { .why = "N11 two roles",
      .craft.second_oid = MBEDTLS_OID_AT_ORG_UNIT,
      .craft.second = "skep-manager" },
    { .why = "N11 unknown role", .craft.subject = "%O,OU=skep-admin," CN },
    { .why = "N11 role in other case", .craft.subject = "%O,OU=Skep-Manager," CN },
    { .why = "N12 no CN", .craft.subject = "%O,OU=skep-worker" },
    { .why = "N12 two CNs",
      .craft.second_oid = MBEDTLS_OID_AT_CN,
      .craft.second = "11111111111111111111111bb" },
    { .why = "two clusters",
      .craft.second_oid = MBEDTLS_OID_AT_ORGANIZATION,
      .craft.second = "11111111111111111111111bb" },
    { .why = "N12 CN is not an id", .craft.subject = "%O,OU=skep-worker,CN=hello" },
    { .why = "N12 CN with NUL",
      .craft.raw_cn = "11111111111111111111111b\0",
      .craft.raw_cn_size = 25 },
    { .why = "N12 id and a NUL",
      .craft.raw_cn = "11111111111111111111111bb\0",
      .craft.raw_cn_size = 26 },
    { .why = "N12 CN with newline",
      .craft.raw_cn = "11111111111111111111111b\n",
      .craft.raw_cn_size = 25 },
    { .why = "for servers only", .craft.server_usage = true },
    { .why = "for nothing in particular", .craft.no_usage = true },
    { .why = "N13 RSA key", .craft.rsa = true },
    { .why = "N13 SHA-1 signature", .craft.md = MBEDTLS_MD_SHA1 },
    { .why = "N37 another curve", .craft.curve = MBEDTLS_ECP_DP_SECP384R1 },
    { .why = "N37 a weak curve", .craft.curve = MBEDTLS_ECP_DP_SECP192R1 },
};

/* reliability.md 4.4: refused in the handshake, before anything is parsed. */
START_TEST(refuses_bad_certificates)
{
    const struct client_case *c = &client_cases[_i];
    struct craft how = c->craft;
    struct crafted crafted;
    struct rpc_server_stats stats;
    struct client client = { .crafted = c->none ? NULL : &crafted };
    char subject[256];

    if (how.subject != NULL) { /* "%O" stands for this cluster's O */
        (void)snprintf(subject, sizeof(subject), "O=%s%s", cluster.cluster.s, how.subject + 2);
        if (how.subject[0] == '%')
            how.subject = subject;
    }
    craft(&how, &crafted);
    run_client(&client);
    rpc_server_stats(server, &stats);
    ck_assert_msg((client.handshake == 0 && client.spoke) == c->passes, "%s: handshake -0x%x %s",
                  c->why, (unsigned)-client.handshake, client.spoke ? "and spoke" : "");
    ck_assert_uint_eq(tls_context_stats(server_tls).full, c->passes);
    mbedtls_x509_crt_free(&crafted.chain);
    mbedtls_pk_free(&crafted.key);
}
END_TEST

static const struct protocol_case {
    const char *why;
    int minor_version, ciphersuite;
    bool renegotiate;
    bool passes;
} protocol_cases[] = {
    { "AES-128-GCM", 0, MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, false, true },
    { "AES-256-GCM", 0, MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, false, true },
    { "N14 TLS 1.1", MBEDTLS_SSL_MINOR_VERSION_2, 0, false, false },
    { "N14 TLS 1.0", MBEDTLS_SSL_MINOR_VERSION_1, 0, false, false },
    { "N14 CBC", 0, MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, false, false },
    { "N14 static ECDH", 0, MBEDTLS_TLS_ECDH_ECDSA_WITH_AES_128_GCM_SHA256, false, false },
    { "ChaCha20", 0, MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, false, false },
    { "renegotiation", 0, 0, true, false },
};

START_TEST(speaks_one_kind_of_tls)
{
    const struct protocol_case *c = &protocol_cases[_i];
    struct craft proper = { 0 };
    struct crafted crafted;
    struct client client = { .crafted = &crafted,
                             .minor_version = c->minor_version,
                             .ciphersuite = c->ciphersuite,
                             .renegotiate = c->renegotiate };

    craft(&proper, &crafted);
    run_client(&client);
    ck_assert_msg((client.handshake == 0 && client.spoke) == c->passes, "%s: handshake -0x%x",
                  c->why, (unsigned)-client.handshake);
    mbedtls_x509_crt_free(&crafted.chain);
    mbedtls_pk_free(&crafted.key);
}
END_TEST

/* ---- contexts ---- */

START_TEST(context_explains_what_is_wrong)
{
    struct pki other = pki_new(9);
    char *good = pki_node(&cluster, node, TLS_ROLE_WORKER);
    char *foreign = pki_node(&other, node, TLS_ROLE_WORKER);
    char *expired = pki_node_until(&cluster, node, TLS_ROLE_WORKER, 1, 2000000000);
    char *mixed = xasprintf("%.*s%s", (int)(strstr(good, "-----BEGIN EC") - good), good,
                            strstr(foreign, "-----BEGIN EC"));
    const struct context_case {
        const char *why;
        enum tls_peer_check check;
        const char *root, *node;
        const char *want; /* NULL = made */
    } cases[] = {
        { "a node", TLS_CHECK_CLUSTER, cluster.root_pem, good, NULL },
        { "a joiner", TLS_CHECK_SERVER, cluster.root_pem, NULL, NULL },
        { "nothing to check", TLS_CHECK_NONE, NULL, NULL, NULL },
        { "no root", TLS_CHECK_CLUSTER, NULL, good, "no root CA" },
        { "no certificate", TLS_CHECK_CLUSTER, cluster.root_pem, NULL, "no node certificate" },
        { "noise as root", TLS_CHECK_SERVER, "hello", NULL, "root CA: certificate" },
        { "another root", TLS_CHECK_CLUSTER, other.root_pem, good, "not signed by the root CA" },
        { "another key", TLS_CHECK_CLUSTER, cluster.root_pem, mixed, "belongs to another" },
        { "expired", TLS_CHECK_CLUSTER, cluster.root_pem, expired, "expired on 1970-01-01" },
        { "no key", TLS_CHECK_CLUSTER, cluster.root_pem, cluster.root_pem, "private key" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tls_context_options o = { .check = cases[i].check,
                                         .root_ca_pem = cases[i].root,
                                         .node_pem = cases[i].node };
        e = (struct err){ 0 };
        struct tls_context *t = tls_context_new(&o, &e);

        ck_assert_msg((t != NULL) == (cases[i].want == NULL), "%s: %s", cases[i].why, e.message);
        ck_assert_msg(cases[i].want == NULL || strstr(e.message, cases[i].want) != NULL, "%s: %s",
                      cases[i].why, e.message);
        /* A failed update changes nothing. */
        if (t == NULL)
            ck_assert_int_lt(tls_context_update(server_tls, &o, &e), 0);
        tls_context_free(t);
    }
    struct tls_identity own;
    ck_assert(tls_context_own(server_tls, &own));
    ck_assert(id_equal(&own.node, &manager));
    free(good);
    free(foreign);
    free(expired);
    free(mixed);
    pki_free(&other);
}
END_TEST

START_TEST(removed_and_expired_peers_are_known)
{
    struct id ids[] = { pki_id(30), pki_id(10), pki_id(20) };
    struct tls_identity peer = { .node = pki_id(10), .not_after_ns = INT64_MAX };

    ck_assert_int_eq(tls_context_check(server_tls, &peer, &e), 0);
    tls_context_set_removed(server_tls, ids, ARRAY_LEN(ids));
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        peer.node = ids[i];
        ck_assert_int_eq(tls_context_check(server_tls, &peer, &e), -ERR_PERMISSION);
    }
    peer.node = pki_id(40);
    ck_assert_int_eq(tls_context_check(server_tls, &peer, &e), 0);
    peer.not_after_ns = 1;
    ck_assert_int_eq(tls_context_check(server_tls, &peer, &e), -ERR_UNAUTHENTICATED);
    tls_context_set_removed(server_tls, NULL, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tls");
    TCase *tc = tcase_create("all");

    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, refuses_bad_certificates, 0, ARRAY_LEN(client_cases));
    tcase_add_loop_test(tc, speaks_one_kind_of_tls, 0, ARRAY_LEN(protocol_cases));
    tcase_add_test(tc, context_explains_what_is_wrong);
    tcase_add_test(tc, removed_and_expired_peers_are_known);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
