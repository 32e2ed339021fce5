#include "common/tls_engine.h"

#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <nng/supplemental/tls/engine.h>
#include <stdio.h>
#include <string.h>

#include "common/assert.h"
#include "common/mbed.h"

/* Deepest place of a verified chain: leaf 0, two cross-signed intermediates, root 3. */
enum { CHAIN_DEPTH_MAX = 3 };

struct nng_tls_engine_config {
    struct tls_context *context; /* NULL in the configs that nng makes by itself and we replace */
    bool server;
    char address[TLS_ADDRESS_CHARS_MAX];
};

struct nng_tls_engine_conn {
    void *nng; /* the argument of nng_tls_engine_send() and _recv() */
    struct tls_credentials *credentials;
    bool server;
    bool verified;  /* the verify callback saw a chain: not a resumed session */
    bool lingering; /* failed, but open until the client has read our alert */
    int failed;     /* NNG_E*, sticky: mbedTLS must not be called again after a fatal error */
    struct tls_peer peer;
    mbedtls_ssl_context ssl;
    char address[TLS_ADDRESS_CHARS_MAX];
};

static _Thread_local struct tls_context *config_context; /* into config_init() */
static _Thread_local const char *config_address;
static _Thread_local struct tls_peer *peer_slot; /* out of conn_verified() */

/* ---- config ---- */

static int config_init(nng_tls_engine_config *cfg, nng_tls_mode mode)
{
    cfg->server = mode == NNG_TLS_MODE_SERVER;
    if (config_context == NULL)
        return 0;
    cfg->context = config_context;
    tls_context_ref(cfg->context);
    (void)snprintf(cfg->address, sizeof(cfg->address), "%s", config_address); /* a cache key */
    return 0;
}

static void config_fini(nng_tls_engine_config *cfg)
{
    if (cfg->context != NULL)
        tls_context_unref(cfg->context);
}

/* The PEM-shaped part of nng's interface is not used: everything is in the context. */
static int config_server(nng_tls_engine_config *cfg, const char *name)
{
    (void)cfg, (void)name;
    return 0;
}

static int config_auth(nng_tls_engine_config *cfg, nng_tls_auth_mode mode)
{
    (void)cfg, (void)mode;
    return NNG_ENOTSUP;
}

static int config_ca_chain(nng_tls_engine_config *cfg, const char *certificates, const char *crl)
{
    (void)cfg, (void)certificates, (void)crl;
    return NNG_ENOTSUP;
}

static int config_own_cert(nng_tls_engine_config *cfg, const char *certificate, const char *key,
                           const char *password)
{
    (void)cfg, (void)certificate, (void)key, (void)password;
    return NNG_ENOTSUP;
}

static int config_version(nng_tls_engine_config *cfg, nng_tls_version low, nng_tls_version high)
{
    (void)cfg, (void)low, (void)high;
    return NNG_ENOTSUP;
}

/* ---- connections ---- */

static int net_send(void *nng, const unsigned char *mem, size_t size)
{
    int rv = nng_tls_engine_send(nng, mem, &size);

    if (rv == 0)
        return (int)size;
    return rv == NNG_EAGAIN ? MBEDTLS_ERR_SSL_WANT_WRITE : MBEDTLS_ERR_NET_SEND_FAILED;
}

static int net_recv(void *nng, unsigned char *mem, size_t size)
{
    int rv = nng_tls_engine_recv(nng, mem, &size);

    if (rv == 0)
        return (int)size;
    return rv == NNG_EAGAIN ? MBEDTLS_ERR_SSL_WANT_READ : MBEDTLS_ERR_NET_RECV_FAILED;
}

/* Called for every certificate of the chain, the leaf last (depth 0). mbedTLS's own opinion about
 * time is replaced by ours, which allows for clock skew; the flags decide which alert is sent. */
static int on_verify(void *ctx, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    nng_tls_engine_conn *conn = ctx;
    struct tls_identity identity;
    struct err *why = &conn->peer.why;

    conn->verified = true;
    *flags &= ~(uint32_t)(MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE);
    *flags |= tls_check_time(conn->credentials->context, crt);
    if (depth > CHAIN_DEPTH_MAX)
        *flags |= MBEDTLS_X509_BADCERT_OTHER;
    if (depth > 0)
        return 0;
    if (*flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) {
        (void)err_set(why, ERR_UNAUTHENTICATED, "its certificate is not signed by our root CA");
        return 0;
    }
    int rc = tls_check_peer(conn->credentials, crt, conn->server, &identity, why);
    if (rc == -ERR_PERMISSION)
        *flags |= MBEDTLS_X509_BADCERT_REVOKED;
    else if (rc < 0 && *flags == 0) /* else a flag that the alert can tell is there already */
        *flags |= MBEDTLS_X509_BADCERT_OTHER;
    return 0;
}

static int conn_init(nng_tls_engine_conn *conn, void *nng, nng_tls_engine_config *cfg)
{
    if (cfg->context == NULL)
        return NNG_ENOTSUP;
    conn->nng = nng;
    conn->server = cfg->server;
    memcpy(conn->address, cfg->address, sizeof(conn->address));
    mbedtls_ssl_init(&conn->ssl);
    conn->credentials = tls_credentials_get(cfg->context);
    struct tls_credentials *c = conn->credentials;
    if (mbedtls_ssl_setup(&conn->ssl, conn->server ? &c->server : &c->client) != 0)
        return NNG_ENOMEM;
    mbedtls_ssl_set_bio(&conn->ssl, nng, net_send, net_recv, NULL);
    mbedtls_ssl_set_verify(&conn->ssl, on_verify, conn);
    if (conn->server)
        return 0;
    /* Managers carry their role as a SAN, so that mbedTLS checks a server name too. */
    if (mbedtls_ssl_set_hostname(&conn->ssl, "skep-manager") != 0)
        return NNG_ENOMEM;
    (void)tls_session_load(c, conn->address, &conn->ssl); /* without one: a full handshake */
    return 0;
}

static void conn_fini(nng_tls_engine_conn *conn)
{
    if (conn->credentials == NULL)
        return; /* never initialised: the TCP connection failed */
    if (!conn->peer.handshake_done)
        tls_context_count(conn->credentials->context, &conn->peer);
    mbedtls_ssl_free(&conn->ssl);
    tls_credentials_put(conn->credentials);
}

static const char *alert_text(unsigned char alert)
{
    switch (alert) {
    case MBEDTLS_SSL_ALERT_MSG_CERT_EXPIRED:
        return "it says that our certificate has expired";
    case MBEDTLS_SSL_ALERT_MSG_CERT_REVOKED:
        return "it says that this node was removed from the cluster";
    case MBEDTLS_SSL_ALERT_MSG_UNKNOWN_CA:
        return "it does not know our root CA";
    case MBEDTLS_SSL_ALERT_MSG_NO_CERT:
        return "it wants a certificate and we have none";
    case MBEDTLS_SSL_ALERT_MSG_BAD_CERT:
    case MBEDTLS_SSL_ALERT_MSG_UNSUPPORTED_CERT:
    case MBEDTLS_SSL_ALERT_MSG_CERT_UNKNOWN:
    case MBEDTLS_SSL_ALERT_MSG_ACCESS_DENIED:
        return "it refused our certificate";
    default:
        return NULL;
    }
}

/* Records why a connection ended, unless the verify callback knows better, and makes it final. */
static int fail(nng_tls_engine_conn *conn, int mbed_rc)
{
    struct err *why = &conn->peer.why;
    const char *text = NULL;

    conn->failed = NNG_ECLOSED;
    if (conn->peer.handshake_done)
        return conn->failed; /* an end like any other; the RPC layer names it */
    conn->failed = NNG_EPEERAUTH;
    if (why->code != 0)
        return conn->failed;
    switch (mbed_rc) {
    case MBEDTLS_ERR_NET_RECV_FAILED:
    case MBEDTLS_ERR_NET_SEND_FAILED:
    case MBEDTLS_ERR_SSL_CONN_EOF:
        conn->failed = NNG_ECLOSED;
        (void)err_set(why, ERR_UNAVAILABLE, "connection closed during the TLS handshake");
        break;
    case MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE:
        text = alert_text(conn->ssl.in_msg[1]);
        if (text != NULL)
            (void)err_set(why, ERR_UNAUTHENTICATED, "%s", text);
        else
            (void)err_set(why, ERR_UNAVAILABLE, "TLS handshake refused (alert %d)",
                          conn->ssl.in_msg[1]);
        break;
    case MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE:
        (void)err_set(why, ERR_UNAUTHENTICATED, "it has no certificate");
        /* mbedTLS fails without a word here. */
        (void)mbedtls_ssl_send_alert_message(&conn->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
                                             MBEDTLS_SSL_ALERT_MSG_NO_CERT);
        break;
    default:
        (void)mbed_err(why, ERR_UNAUTHENTICATED, mbed_rc, "TLS handshake");
        break;
    }
    return conn->failed;
}

/* Full and resumed handshakes end here: the peer's certificate, which a resumed session carries,
 * is read and judged by the rules of now. */
static int finish(nng_tls_engine_conn *conn)
{
    struct tls_credentials *c = conn->credentials;
    const mbedtls_x509_crt *leaf = mbedtls_ssl_get_peer_cert(&conn->ssl);
    bool must = c->check == TLS_CHECK_CLUSTER || (c->check == TLS_CHECK_SERVER && !conn->server);

    if (must) {
        int rc = leaf == NULL
                     ? err_set(&conn->peer.why, ERR_UNAUTHENTICATED, "no certificate")
                     : tls_check_peer(c, leaf, conn->server, &conn->peer.identity, &conn->peer.why);
        if (rc < 0) {
            tls_session_forget(c->context, conn->address);
            (void)mbedtls_ssl_send_alert_message(&conn->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
                                                 MBEDTLS_SSL_ALERT_MSG_ACCESS_DENIED);
            conn->failed = NNG_EPEERAUTH;
            conn->lingering = conn->server;
            return conn->lingering ? NNG_EAGAIN : conn->failed;
        }
        conn->peer.has_identity = true;
        conn->peer.resumed = !conn->verified;
        if (!conn->server && conn->verified)
            tls_session_save(c, conn->address, &conn->ssl);
    }
    conn->peer.handshake_done = true;
    tls_context_count(c->context, &conn->peer);
    return 0;
}

/* nng closes at once on an error, and bytes of the client that arrive then make the kernel send a
 * reset, which can overtake the alert that tells the client why. A client whose certificate is
 * refused has more on the way, so the server reads on until the client closes, or the RPC layer's
 * handshake deadline does. */
static int linger(nng_tls_engine_conn *conn)
{
    uint8_t waste[512];
    size_t size = sizeof(waste);

    while (nng_tls_engine_recv(conn->nng, waste, &size) == 0)
        size = sizeof(waste);
    return NNG_EAGAIN;
}

static int conn_handshake(nng_tls_engine_conn *conn)
{
    if (conn->lingering)
        return linger(conn);
    if (conn->failed != 0)
        return conn->failed;
    if (conn->peer.handshake_done)
        return 0;
    int rc = mbedtls_ssl_handshake(&conn->ssl);
    if (rc == MBEDTLS_ERR_SSL_WANT_READ || rc == MBEDTLS_ERR_SSL_WANT_WRITE)
        return NNG_EAGAIN;
    if (rc != 0) {
        /* Whatever the peer disliked about a resumed session, a new one may pass. */
        if (!conn->server)
            tls_session_forget(conn->credentials->context, conn->address);
        conn->lingering = conn->server && (rc == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED ||
                                           rc == MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE);
        rc = fail(conn, rc);
        return conn->lingering ? linger(conn) : rc;
    }
    return finish(conn);
}

static int conn_recv(nng_tls_engine_conn *conn, uint8_t *mem, size_t *size)
{
    int rc = conn_handshake(conn);

    if (rc != 0)
        return rc;
    rc = mbedtls_ssl_read(&conn->ssl, mem, *size);
    if (rc == MBEDTLS_ERR_SSL_WANT_READ || rc == MBEDTLS_ERR_SSL_WANT_WRITE)
        return NNG_EAGAIN;
    if (rc <= 0)
        return fail(conn, rc);
    *size = (size_t)rc;
    return 0;
}

static int conn_send(nng_tls_engine_conn *conn, const uint8_t *mem, size_t *size)
{
    int rc = conn_handshake(conn);

    if (rc != 0)
        return rc;
    rc = mbedtls_ssl_write(&conn->ssl, mem, *size);
    if (rc == MBEDTLS_ERR_SSL_WANT_READ || rc == MBEDTLS_ERR_SSL_WANT_WRITE)
        return NNG_EAGAIN;
    if (rc < 0)
        return fail(conn, rc);
    *size = (size_t)rc;
    return 0;
}

static void conn_close(nng_tls_engine_conn *conn)
{
    if (conn->credentials != NULL && conn->peer.handshake_done && conn->failed == 0)
        (void)mbedtls_ssl_close_notify(&conn->ssl); /* a courtesy: the stream closes anyway */
    if (conn->failed == 0)
        conn->failed = NNG_ECLOSED;
}

static bool conn_verified(nng_tls_engine_conn *conn)
{
    if (peer_slot != NULL)
        *peer_slot = conn->peer;
    return conn->peer.has_identity;
}

/* ---- nng ---- */

int tls_engine_register(struct err *e)
{
    static nng_tls_engine_config_ops config_ops = {
        .size = sizeof(struct nng_tls_engine_config),
        .init = config_init,
        .fini = config_fini,
        .server = config_server,
        .auth = config_auth,
        .ca_chain = config_ca_chain,
        .own_cert = config_own_cert,
        .version = config_version,
    };
    static nng_tls_engine_conn_ops conn_ops = {
        .size = sizeof(struct nng_tls_engine_conn),
        .init = conn_init,
        .fini = conn_fini,
        .close = conn_close,
        .handshake = conn_handshake,
        .recv = conn_recv,
        .send = conn_send,
        .verified = conn_verified,
    };
    static const nng_tls_engine engine = {
        .version = NNG_TLS_ENGINE_VERSION,
        .config_ops = &config_ops,
        .conn_ops = &conn_ops,
        .name = "skep",
        .description = "mbedTLS with cluster identities",
    };

    (void)nng_tls_engine_name(); /* initialises nng, which would else forget the registration */
    int rv = nng_tls_engine_register(&engine);
    return rv == 0 ? 0 : err_set(e, ERR_INTERNAL, "register TLS with nng: %s", nng_strerror(rv));
}

nng_tls_config *tls_config_new(struct tls_context *t, nng_tls_mode mode, const char *address,
                               struct err *e)
{
    nng_tls_config *cfg = NULL;
    int rv;

    config_context = t;
    config_address = address;
    rv = nng_tls_config_alloc(&cfg, mode);
    config_context = NULL;
    config_address = NULL;
    if (rv != 0)
        (void)err_set(e, ERR_INTERNAL, "TLS configuration: %s", nng_strerror(rv));
    return rv == 0 ? cfg : NULL;
}

bool tls_stream_peer(nng_stream *s, struct tls_peer *ret)
{
    struct tls_peer peer = { 0 };
    bool verified;

    peer_slot = &peer;
    int rv = nng_stream_get_bool(s, NNG_OPT_TLS_VERIFIED, &verified);
    peer_slot = NULL;
    if (rv != 0)
        return false;
    *ret = peer;
    return true;
}
