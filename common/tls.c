#include "common/tls.h"

#include <mbedtls/ecdsa.h>
#include <mbedtls/md.h>
#include <mbedtls/oid.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "common/clock.h"
#include "common/mbed.h"
#include "common/tls_engine.h"
#include "common/x509.h"
#include "common/x509_parse.h"

/* Keys that seal session tickets; shared by successive credentials with the same roots. */
struct tls_tickets {
    atomic_uint refs;
    mbedtls_ssl_ticket_context ticket;
};

struct session {
    char address[TLS_ADDRESS_CHARS_MAX]; /* "" = free */
    uint64_t used;                       /* for evicting the least recently used */
    mbedtls_ssl_session session;
};

struct tls_context {
    atomic_uint refs;
    int64_t (*wall_now)(void);
    atomic_ullong full, resumed, refused;
    pthread_mutex_t lock;
    /* Under the lock. */
    struct tls_credentials *current;
    struct id *removed; /* sorted */
    uint32_t removed_count;
    struct session *sessions; /* TLS_SESSIONS_MAX, made when first needed */
    uint64_t session_uses;
};

static const int ciphersuites[] = { MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                                    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, 0 };
static const mbedtls_ecp_group_id curves[] = { MBEDTLS_ECP_DP_SECP256R1, MBEDTLS_ECP_DP_NONE };
static const int hashes[] = { MBEDTLS_MD_SHA256, MBEDTLS_MD_NONE };
static const mbedtls_x509_crt_profile profile = {
    .allowed_mds = MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA256),
    .allowed_pks = MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_ECKEY) | MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_ECDSA),
    .allowed_curves = MBEDTLS_X509_ID_FLAG(MBEDTLS_ECP_DP_SECP256R1),
};

static struct tls_tickets *tickets_new(void)
{
    struct tls_tickets *t = xcalloc(1, sizeof(*t));

    t->refs = 1;
    mbedtls_ssl_ticket_init(&t->ticket);
    /* Fails only without memory or AES-GCM, which the build has. */
    ASSERT(mbedtls_ssl_ticket_setup(&t->ticket, mbed_rng, NULL, MBEDTLS_CIPHER_AES_256_GCM,
                                    TLS_TICKET_LIFE_S) == 0);
    return t;
}

static void tickets_unref(struct tls_tickets *t)
{
    if (t == NULL || --t->refs > 0)
        return;
    mbedtls_ssl_ticket_free(&t->ticket);
    free(t);
}

static int on_ticket_write(void *ctx, const mbedtls_ssl_session *session, unsigned char *start,
                           const unsigned char *end, size_t *size, uint32_t *lifetime_s)
{
    const struct tls_credentials *c = ctx;

    return mbedtls_ssl_ticket_write(&c->tickets->ticket, session, start, end, size, lifetime_s);
}

/* A ticket carries the peer's certificate. It is checked anew; when it no longer passes, the ticket
 * is ignored and the full handshake that follows says why. */
static int on_ticket_parse(void *ctx, mbedtls_ssl_session *session, unsigned char *in, size_t size)
{
    const struct tls_credentials *c = ctx;
    struct tls_identity identity;
    int rc = mbedtls_ssl_ticket_parse(&c->tickets->ticket, session, in, size);

    if (rc != 0 || c->check != TLS_CHECK_CLUSTER)
        return rc;
    if (session->peer_cert == NULL ||
        tls_check_peer(c, session->peer_cert, true, &identity, NULL) < 0)
        return MBEDTLS_ERR_SSL_SESSION_TICKET_EXPIRED;
    return 0;
}

static int configure(struct tls_credentials *c, mbedtls_ssl_config *conf, int endpoint)
{
    bool server = endpoint == MBEDTLS_SSL_IS_SERVER;
    bool verify = c->check == TLS_CHECK_CLUSTER || (c->check == TLS_CHECK_SERVER && !server);
    int rc = mbedtls_ssl_config_defaults(conf, endpoint, MBEDTLS_SSL_TRANSPORT_STREAM,
                                         MBEDTLS_SSL_PRESET_DEFAULT);

    if (rc != 0)
        return rc;
    mbedtls_ssl_conf_rng(conf, mbed_rng, NULL);
    mbedtls_ssl_conf_authmode(conf, verify ? MBEDTLS_SSL_VERIFY_REQUIRED : MBEDTLS_SSL_VERIFY_NONE);
    mbedtls_ssl_conf_min_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_max_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_ciphersuites(conf, ciphersuites);
    mbedtls_ssl_conf_curves(conf, curves);
    mbedtls_ssl_conf_sig_hashes(conf, hashes);
    mbedtls_ssl_conf_cert_profile(conf, &profile);
    mbedtls_ssl_conf_renegotiation(conf, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
    mbedtls_ssl_conf_legacy_renegotiation(conf, MBEDTLS_SSL_LEGACY_BREAK_HANDSHAKE);
    if (c->root_digest[0] != '\0')
        mbedtls_ssl_conf_ca_chain(conf, &c->roots, NULL);
    if (server) {
        mbedtls_ssl_conf_cert_req_ca_list(conf, MBEDTLS_SSL_CERT_REQ_CA_LIST_DISABLED);
        mbedtls_ssl_conf_session_tickets_cb(conf, on_ticket_write, on_ticket_parse, c);
    } else {
        mbedtls_ssl_conf_session_tickets(conf, MBEDTLS_SSL_SESSION_TICKETS_ENABLED);
    }
    return c->has_own ? mbedtls_ssl_conf_own_cert(conf, &c->chain, &c->key) : 0;
}

/* Turns a parsed key into mbedTLS's ECDSA form, whose multiples of the base point are computed
 * once and kept; the generic form repeats that for every signature, half of its cost. The warming
 * signature makes them before threads share the key. */
static int load_key(const char *pem, mbedtls_pk_context *ret, struct err *e)
{
    mbedtls_pk_context parsed;
    unsigned char hash[32] = { 0 }, signature[MBEDTLS_ECDSA_MAX_LEN];
    size_t size;

    mbedtls_pk_init(&parsed);
    int rc = x509_parse_key(pem, &parsed, e);
    if (rc == 0 && (mbedtls_pk_get_type(&parsed) != MBEDTLS_PK_ECKEY ||
                    mbedtls_pk_ec(parsed)->grp.id != MBEDTLS_ECP_DP_SECP256R1))
        rc = err_set(e, ERR_INVALID, "private key: not P-256");
    if (rc == 0) {
        rc = mbedtls_pk_setup(ret, mbedtls_pk_info_from_type(MBEDTLS_PK_ECDSA));
        if (rc == 0)
            rc = mbedtls_ecdsa_from_keypair(ret->pk_ctx, mbedtls_pk_ec(parsed));
        if (rc == 0)
            rc = mbedtls_pk_sign(ret, MBEDTLS_MD_SHA256, hash, sizeof(hash), signature, &size,
                                 mbed_rng, NULL);
        if (rc != 0)
            rc = mbed_err(e, ERR_INVALID, rc, "private key");
    }
    mbedtls_pk_free(&parsed);
    return rc;
}

static int ignore_time(void *ctx, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    (void)ctx, (void)crt, (void)depth;
    *flags &= ~(uint32_t)(MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE);
    return 0;
}

static int check_own(struct tls_credentials *c, struct err *e)
{
    mbedtls_ecp_keypair *of_leaf = mbedtls_pk_ec(c->chain.pk), *own = c->key.pk_ctx;
    uint32_t flags;
    char when[32];

    if (mbedtls_pk_get_type(&c->chain.pk) != MBEDTLS_PK_ECKEY ||
        mbedtls_ecp_point_cmp(&of_leaf->Q, &own->Q) != 0)
        return err_set(e, ERR_INVALID, "node certificate: the private key belongs to another");
    if (tls_check_time(c->context, &c->chain) != 0) {
        const mbedtls_x509_time *t = &c->chain.valid_to;

        (void)snprintf(when, sizeof(when), "%04d-%02d-%02d", t->year, t->mon, t->day);
        if (tls_check_time(c->context, &c->chain) & MBEDTLS_X509_BADCERT_EXPIRED)
            return err_set(e, ERR_UNAUTHENTICATED,
                           "node certificate: expired on %s; join this host again", when);
        return err_set(e, ERR_UNAUTHENTICATED,
                       "node certificate: not valid yet; is this host's clock behind?");
    }
    int rc = x509_crt_identity(&c->chain, &c->own, e);
    if (rc < 0 || c->root_digest[0] == '\0')
        return rc;
    rc = mbedtls_x509_crt_verify_with_profile(&c->chain, &c->roots, NULL, &profile, NULL, &flags,
                                              ignore_time, NULL);
    return rc == 0 ? 0 : err_set(e, ERR_INVALID, "node certificate: not signed by the root CA");
}

static int load(struct tls_credentials *c, const struct tls_context_options *o, struct err *e)
{
    int rc = 0;

    if (o->root_ca_pem != NULL) {
        rc = x509_parse_chain(o->root_ca_pem, &c->roots, e);
        if (rc == 0)
            rc = x509_root_digest(o->root_ca_pem, c->root_digest, e);
        if (rc < 0)
            return err_wrap(e, rc, "root CA");
    } else if (o->check != TLS_CHECK_NONE) {
        return err_set(e, ERR_INVALID, "no root CA given");
    }
    if (o->node_pem != NULL) {
        rc = x509_parse_chain(o->node_pem, &c->chain, e);
        if (rc == 0)
            rc = load_key(o->node_pem, &c->key, e);
        if (rc == 0)
            rc = check_own(c, e);
        c->has_own = true;
    } else if (o->check == TLS_CHECK_CLUSTER) {
        rc = err_set(e, ERR_INVALID, "no node certificate given");
    }
    if (rc < 0)
        return rc;
    rc = configure(c, &c->server, MBEDTLS_SSL_IS_SERVER);
    if (rc == 0)
        rc = configure(c, &c->client, MBEDTLS_SSL_IS_CLIENT);
    return rc == 0 ? 0 : mbed_err(e, ERR_INTERNAL, rc, "configure TLS");
}

static void credentials_unref(struct tls_credentials *c)
{
    if (c == NULL || --c->refs > 0)
        return;
    mbedtls_ssl_config_free(&c->server);
    mbedtls_ssl_config_free(&c->client);
    mbedtls_x509_crt_free(&c->roots);
    mbedtls_x509_crt_free(&c->chain);
    mbedtls_pk_free(&c->key);
    tickets_unref(c->tickets);
    free(c);
}

static struct tls_credentials *credentials_new(struct tls_context *t,
                                               const struct tls_context_options *o, struct err *e)
{
    struct tls_credentials *c = xcalloc(1, sizeof(*c));

    c->refs = 1;
    c->context = t;
    c->check = o->check;
    mbedtls_x509_crt_init(&c->roots);
    mbedtls_x509_crt_init(&c->chain);
    mbedtls_pk_init(&c->key);
    mbedtls_ssl_config_init(&c->server);
    mbedtls_ssl_config_init(&c->client);
    if (load(c, o, e) < 0) {
        credentials_unref(c);
        return NULL;
    }
    return c;
}

struct tls_context *tls_context_new(const struct tls_context_options *o, struct err *e)
{
    struct tls_context *t = xcalloc(1, sizeof(*t));

    t->refs = 1;
    t->wall_now = o->wall_now != NULL ? o->wall_now : clock_wall_ns;
    ASSERT(pthread_mutex_init(&t->lock, NULL) == 0);
    t->current = credentials_new(t, o, e);
    if (t->current == NULL) {
        tls_context_unref(t);
        return NULL;
    }
    t->current->tickets = tickets_new();
    return t;
}

static void clear_sessions(struct tls_context *t)
{
    for (int i = 0; t->sessions != NULL && i < TLS_SESSIONS_MAX; i++)
        mbedtls_ssl_session_free(&t->sessions[i].session);
    free(t->sessions);
    t->sessions = NULL;
}

static bool same_leaf(const struct tls_credentials *a, const struct tls_credentials *b)
{
    return a->has_own == b->has_own && a->chain.raw.len == b->chain.raw.len &&
           (a->chain.raw.len == 0 || memcmp(a->chain.raw.p, b->chain.raw.p, a->chain.raw.len) == 0);
}

int tls_context_update(struct tls_context *t, const struct tls_context_options *o, struct err *e)
{
    struct err why = { 0 };
    struct tls_credentials *c = credentials_new(t, o, &why);

    if (c == NULL)
        return err_set(e, (enum err_code)why.code, "%s", why.message);
    (void)pthread_mutex_lock(&t->lock);
    struct tls_credentials *old = t->current;
    bool same_roots = strcmp(old->root_digest, c->root_digest) == 0 && old->check == c->check;

    if (same_roots) {
        c->tickets = old->tickets;
        c->tickets->refs++;
    } else {
        c->tickets = tickets_new();
    }
    if (!same_roots || !same_leaf(old, c))
        clear_sessions(t);
    t->current = c;
    (void)pthread_mutex_unlock(&t->lock);
    credentials_unref(old);
    return 0;
}

void tls_context_free(struct tls_context *t)
{
    if (t != NULL)
        tls_context_unref(t);
}

void tls_context_ref(struct tls_context *t)
{
    t->refs++;
}

void tls_context_unref(struct tls_context *t)
{
    if (--t->refs > 0)
        return;
    credentials_unref(t->current);
    clear_sessions(t);
    free(t->removed);
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
}

struct tls_credentials *tls_credentials_get(struct tls_context *t)
{
    tls_context_ref(t);
    (void)pthread_mutex_lock(&t->lock);
    struct tls_credentials *c = t->current;
    c->refs++;
    (void)pthread_mutex_unlock(&t->lock);
    return c;
}

void tls_credentials_put(struct tls_credentials *c)
{
    struct tls_context *t = c->context;

    credentials_unref(c);
    tls_context_unref(t);
}

int64_t tls_context_now(const struct tls_context *t)
{
    return t->wall_now();
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct id));
}

void tls_context_set_removed(struct tls_context *t, const struct id *ids, uint32_t count)
{
    struct id *sorted = xmemdup(ids, count * sizeof(*ids));

    if (count > 0)
        qsort(sorted, count, sizeof(*sorted), compare_ids);
    (void)pthread_mutex_lock(&t->lock);
    struct id *old = t->removed;
    t->removed = sorted;
    t->removed_count = count;
    (void)pthread_mutex_unlock(&t->lock);
    free(old);
}

bool tls_context_is_removed(struct tls_context *t, const struct id *node)
{
    (void)pthread_mutex_lock(&t->lock);
    bool found = t->removed_count > 0 &&
                 bsearch(node, t->removed, t->removed_count, sizeof(*node), compare_ids) != NULL;
    (void)pthread_mutex_unlock(&t->lock);
    return found;
}

bool tls_context_own(struct tls_context *t, struct tls_identity *ret)
{
    (void)pthread_mutex_lock(&t->lock);
    bool has_own = t->current->has_own;
    if (has_own)
        *ret = t->current->own;
    (void)pthread_mutex_unlock(&t->lock);
    return has_own;
}

uint32_t tls_check_time(const struct tls_context *t, const mbedtls_x509_crt *crt)
{
    int64_t now_ns = t->wall_now();

    if (now_ns - TLS_CLOCK_SKEW_NS > x509_crt_not_after_ns(crt))
        return MBEDTLS_X509_BADCERT_EXPIRED;
    if (now_ns + TLS_CLOCK_SKEW_NS < x509_crt_not_before_ns(crt))
        return MBEDTLS_X509_BADCERT_FUTURE;
    return 0;
}

int tls_context_check(struct tls_context *t, const struct tls_identity *peer, struct err *e)
{
    if (tls_context_is_removed(t, &peer->node))
        return err_set(e, ERR_PERMISSION, "node %s was removed from the cluster", peer->node.s);
    if (t->wall_now() - TLS_CLOCK_SKEW_NS > peer->not_after_ns)
        return err_set(e, ERR_UNAUTHENTICATED, "the certificate of node %s has expired",
                       peer->node.s);
    return 0;
}

int tls_check_peer(const struct tls_credentials *c, const mbedtls_x509_crt *leaf, bool server_side,
                   struct tls_identity *ret, struct err *e)
{
    struct tls_identity identity;
    const char *usage = server_side ? MBEDTLS_OID_CLIENT_AUTH : MBEDTLS_OID_SERVER_AUTH;
    uint32_t time_flag = tls_check_time(c->context, leaf);
    int rc = x509_crt_identity(leaf, &identity, e);

    if (rc < 0)
        return rc;
    if (time_flag == MBEDTLS_X509_BADCERT_FUTURE)
        return err_set(e, ERR_UNAUTHENTICATED,
                       "the certificate of node %s is not valid yet; are the clocks right?",
                       identity.node.s);
    if (time_flag != 0)
        return err_set(e, ERR_UNAUTHENTICATED,
                       "the certificate of node %s has expired; are the clocks right?",
                       identity.node.s);
    if (c->check == TLS_CHECK_CLUSTER && !id_equal(&identity.cluster, &c->own.cluster))
        return err_set(e, ERR_UNAUTHENTICATED, "node %s belongs to another cluster",
                       identity.node.s);
    if (!server_side && identity.role != TLS_ROLE_MANAGER)
        return err_set(e, ERR_UNAUTHENTICATED, "node %s is not a manager", identity.node.s);
    if ((leaf->ext_types & MBEDTLS_X509_EXT_EXTENDED_KEY_USAGE) == 0 ||
        mbedtls_x509_crt_check_extended_key_usage(leaf, usage,
                                                  MBEDTLS_OID_SIZE(MBEDTLS_OID_CLIENT_AUTH)) != 0)
        return err_set(e, ERR_UNAUTHENTICATED, "the certificate of node %s is for another use",
                       identity.node.s);
    if (tls_context_is_removed(c->context, &identity.node))
        return err_set(e, ERR_PERMISSION, "node %s was removed from the cluster", identity.node.s);
    *ret = identity;
    return 0;
}

void tls_context_count(struct tls_context *t, const struct tls_peer *peer)
{
    if (!peer->handshake_done)
        t->refused++;
    else if (peer->resumed)
        t->resumed++;
    else
        t->full++;
}

struct tls_stats tls_context_stats(const struct tls_context *t)
{
    return (struct tls_stats){ .full = t->full, .resumed = t->resumed, .refused = t->refused };
}

/* The slot of address; with make also a free or the least recently used one, emptied. */
static struct session *find_session(struct tls_context *t, const char *address, bool make)
{
    struct session *oldest = NULL;

    if (t->sessions == NULL) {
        if (!make)
            return NULL;
        t->sessions = xcalloc(TLS_SESSIONS_MAX, sizeof(*t->sessions));
    }
    for (int i = 0; i < TLS_SESSIONS_MAX; i++) {
        struct session *s = &t->sessions[i];

        if (strcmp(s->address, address) == 0)
            return s;
        if (oldest == NULL || s->used < oldest->used)
            oldest = s;
    }
    if (!make)
        return NULL;
    mbedtls_ssl_session_free(&oldest->session);
    mbedtls_ssl_session_init(&oldest->session);
    (void)snprintf(oldest->address, sizeof(oldest->address), "%s", address); /* fits: same array */
    return oldest;
}

bool tls_session_load(const struct tls_credentials *c, const char *address,
                      mbedtls_ssl_context *ssl)
{
    struct tls_context *t = c->context;
    bool loaded = false;

    (void)pthread_mutex_lock(&t->lock);
    struct session *s = c == t->current ? find_session(t, address, false) : NULL;
    if (s != NULL) {
        s->used = ++t->session_uses;
        loaded = mbedtls_ssl_set_session(ssl, &s->session) == 0;
    }
    (void)pthread_mutex_unlock(&t->lock);
    return loaded;
}

void tls_session_save(const struct tls_credentials *c, const char *address,
                      const mbedtls_ssl_context *ssl)
{
    struct tls_context *t = c->context;

    (void)pthread_mutex_lock(&t->lock);
    if (c == t->current) { /* else the credentials were replaced: this session shows the old ones */
        struct session *s = find_session(t, address, true);

        mbedtls_ssl_session_free(&s->session);
        mbedtls_ssl_session_init(&s->session);
        s->used = ++t->session_uses;
        if (mbedtls_ssl_get_session(ssl, &s->session) != 0)
            s->address[0] = '\0';
    }
    (void)pthread_mutex_unlock(&t->lock);
}

void tls_session_forget(struct tls_context *t, const char *address)
{
    (void)pthread_mutex_lock(&t->lock);
    struct session *s = find_session(t, address, false);
    if (s != NULL) {
        s->address[0] = '\0';
        s->used = 0;
    }
    (void)pthread_mutex_unlock(&t->lock);
}
