#include "common/enrol.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "common/random.h"
#include "common/x509.h"

enum {
    ROOT_DEADLINE_MS = 5000,
    ENROL_DEADLINE_MS = 15000,
    DEFAULT_PORT = 2377,
    PUT_OFF_MAX = 10, /* times that a manager may say that it cannot just now … */
    PUT_OFF_MS = 1000,
};

struct enrol {
    struct rpc *rpc;
    struct loop *loop;
    char *state_dir, *token;
    struct token parsed;
    char *urls[IDENTITY_MANAGERS_MAX];
    char *addresses[IDENTITY_MANAGERS_MAX]; /* as given, with port: for messages and the list */
    size_t remote_count, current;
    unsigned put_off;
    Skep__NodeAvailability availability;
    uint8_t request_id[16]; /* the same over all attempts: one node, however often we ask */

    struct tls_context *tls;
    struct rpc_client *client;
    struct loop_timer step; /* leaves the client's callback before it frees the client */
    void (*next)(struct enrol *en);
    struct buf key, root;
    struct err last;
    struct identity *result;
    bool finished;
    enrol_done_fn *done;
    void *ctx;
};

static void begin_remote(struct enrol *en);

static void disconnect(struct enrol *en)
{
    rpc_client_free(TAKE_PTR(en->client));
    tls_context_free(TAKE_PTR(en->tls));
}

void enrol_cancel(struct enrol *en)
{
    if (en == NULL)
        return;
    loop_timer_cancel(en->loop, &en->step);
    en->finished = true;
    disconnect(en);
    for (size_t i = 0; i < en->remote_count; i++) {
        free(en->urls[i]);
        free(en->addresses[i]);
    }
    if (en->key.data != NULL)
        explicit_bzero(en->key.data, en->key.size);
    buf_deinit(&en->key);
    buf_deinit(&en->root);
    identity_free(en->result);
    xfree_secret(en->token, strlen(en->token));
    free(en->state_dir);
    free(en);
}

static void on_step(void *ctx, uint64_t now_ms)
{
    struct enrol *en = ctx;

    (void)now_ms; /* as soon as possible */
    en->next(en);
}

static void next_step(struct enrol *en, void (*step)(struct enrol *en))
{
    en->next = step;
    loop_timer_set(en->loop, &en->step, loop_now_ms(en->loop), on_step, en);
}

static void finish(struct enrol *en, int rc, const struct identity *id, const struct err *e)
{
    en->finished = true;
    disconnect(en);
    en->done(en->ctx, rc, id, e);
}

/* The next remote, or the end with the last reason. A refusal by a manager that the token proves is
 * final: the others would say the same. */
static void remote_failed(struct enrol *en)
{
    disconnect(en);
    if (++en->current < en->remote_count)
        begin_remote(en);
    else
        finish(en, -en->last.code, NULL, &en->last);
}

static void fail_here(struct enrol *en, const struct err *e, int rc)
{
    en->last = *e;
    if (en->last.code == 0 || en->last.message[0] == '\0')
        (void)err_set(&en->last, (enum err_code) - rc, "%s: %s", en->addresses[en->current],
                      err_str(rc));
    next_step(en, remote_failed);
}

/* The cluster is between two leaders, or busy: it will be able to. */
static bool is_put_off(int rc)
{
    return rc == -ERR_UNAVAILABLE || rc == -ERR_NOT_LEADER || rc == -ERR_BUSY;
}

static void ask_again(struct enrol *en)
{
    disconnect(en);
    begin_remote(en);
}

static bool final_refusal(int rc)
{
    return rc == -ERR_PERMISSION || rc == -ERR_INVALID;
}

static void succeed(struct enrol *en)
{
    struct err none = { 0 };

    finish(en, 0, en->result, &none);
}

/* ---- step 3: the certificate ---- */

static void remember_managers(struct enrol *en, const Skep__EnrolResponse *a)
{
    char *addresses[IDENTITY_MANAGERS_MAX];
    size_t count = 0;

    for (size_t i = 0; i < a->n_managers && count < IDENTITY_MANAGERS_MAX; i++)
        addresses[count++] = a->managers[i]->address;
    if (count == 0) {
        addresses[count++] = en->addresses[en->current];
    }
    if (identity_save_managers(en->state_dir, addresses, count, NULL) < 0)
        return; /* heartbeats bring the list again */
}

static int store_identity(struct enrol *en, const Skep__EnrolResponse *a, struct err *e)
{
    CLEANUP_BUF struct buf pem = BUF_INIT(X509_PEM_BYTES_MAX);
    int rc = buf_append(&pem, a->certificate_pem.data, a->certificate_pem.len);

    if (rc < 0)
        return err_set(e, ERR_TOO_BIG, "a certificate of more than %d bytes", X509_PEM_BYTES_MAX);
    rc = buf_append(&pem, en->key.data, en->key.size);
    if (rc == 0)
        rc = identity_check(buf_str(&pem), buf_str(&en->root), e);
    if (rc < 0)
        rc = err_wrap(e, rc, "certificate from %s", en->addresses[en->current]);
    if (rc == 0)
        remember_managers(en, a);
    if (rc == 0)
        rc = identity_save(en->state_dir, buf_str(&pem), buf_str(&en->root), e);
    if (pem.data != NULL)
        explicit_bzero(pem.data, pem.size);
    return rc;
}

static void on_enrolled(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    struct enrol *en = ctx;
    struct err err = *e;
    ProtobufCMessage *answer = NULL;
    struct identity *id = NULL;

    if (en->finished)
        return;
    if (response != NULL && is_put_off(rc) && en->put_off < PUT_OFF_MAX) {
        en->put_off++;
        en->next = ask_again;
        loop_timer_set(en->loop, &en->step, loop_now_ms(en->loop) + PUT_OFF_MS, on_step, en);
        return;
    }
    if (rc < 0) {
        if (response != NULL && final_refusal(rc))
            en->current = en->remote_count - 1;
        fail_here(en, e, rc);
        return;
    }
    rc = rpc_decode(&response->body, &skep__enrol_response__descriptor, &answer, &err);
    if (rc == 0)
        rc = store_identity(en, (const Skep__EnrolResponse *)answer, &err);
    if (rc == 0)
        rc = identity_load(en->state_dir, &id, &err);
    if (answer != NULL)
        protobuf_c_message_free_unpacked(answer, NULL);
    if (rc < 0) {
        fail_here(en, &err, rc);
        return;
    }
    en->result = id;
    next_step(en, succeed);
}

/* ---- step 2: connect again, now that the root is known ---- */

static int connect_verified(struct enrol *en, struct err *e)
{
    struct tls_context_options tls = { .check = TLS_CHECK_SERVER,
                                       .root_ca_pem = buf_str(&en->root) };
    struct rpc_client_options o = { .url = en->urls[en->current], .server_role = TLS_ROLE_MANAGER };

    disconnect(en);
    en->tls = tls_context_new(&tls, e);
    o.tls = en->tls;
    en->client = en->tls != NULL ? rpc_client_new(en->rpc, &o, e) : NULL;
    return en->client != NULL ? 0 : -ERR_UNAVAILABLE;
}

static void send_csr(struct enrol *en)
{
    CLEANUP_BUF struct buf csr = BUF_INIT(X509_PEM_BYTES_MAX);
    Skep__EnrolRequest req = SKEP__ENROL_REQUEST__INIT;
    char hostname[HOST_NAME_MAX + 1] = "";
    struct rpc_request r = { .method = SKEP__METHOD__METHOD_ENROL,
                             .body = &req.base,
                             .deadline_ms = ENROL_DEADLINE_MS,
                             .request_id = en->request_id };
    struct err e = { 0 };
    int rc = connect_verified(en, &e);

    if (rc == 0)
        rc = x509_create_csr(buf_str(&en->key), &csr, &e);
    req.token = en->token;
    req.csr_pem = (ProtobufCBinaryData){ .len = csr.size, .data = csr.data };
    req.availability = en->availability;
    if (gethostname(hostname, sizeof(hostname) - 1) == 0)
        req.hostname = hostname;
    if (rc == 0)
        rc = rpc_call_start(en->client, &r, on_enrolled, en, &e);
    if (rc < 0)
        fail_here(en, &e, rc);
}

/* ---- step 1: the root, unverified until its digest is ---- */

static int check_root(struct enrol *en, struct err *e)
{
    char digest[TOKEN_DIGEST_CHARS + 1];
    int rc = x509_root_digest(buf_str(&en->root), digest, e);

    if (rc < 0)
        return err_wrap(e, rc, "%s: root CA", en->addresses[en->current]);
    if (strcmp(digest, en->parsed.digest) != 0)
        return err_set(e, ERR_PERMISSION,
                       "the CA of %s does not match the token: the token is of another cluster, "
                       "or somebody is in between",
                       en->addresses[en->current]);
    return 0;
}

static void on_root(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    struct enrol *en = ctx;
    struct err err = *e;
    ProtobufCMessage *answer = NULL;

    if (en->finished)
        return;
    if (rc == 0)
        rc = rpc_decode(&response->body, &skep__root_ca_response__descriptor, &answer, &err);
    if (rc == 0) {
        const Skep__RootCaResponse *a = (const Skep__RootCaResponse *)answer;

        buf_clear(&en->root);
        rc = buf_append(&en->root, a->certificate_pem.data, a->certificate_pem.len);
        if (rc == 0)
            rc = check_root(en, &err);
    }
    if (answer != NULL)
        protobuf_c_message_free_unpacked(answer, NULL);
    if (rc < 0)
        fail_here(en, &err, rc);
    else
        next_step(en, send_csr);
}

static void begin_remote(struct enrol *en)
{
    struct tls_context_options tls = { .check = TLS_CHECK_NONE };
    struct rpc_client_options o = { .url = en->urls[en->current] };
    struct rpc_request r = { .method = SKEP__METHOD__METHOD_ROOT_CA,
                             .deadline_ms = ROOT_DEADLINE_MS };
    struct err e = { 0 };

    en->tls = tls_context_new(&tls, &e);
    o.tls = en->tls;
    en->client = en->tls != NULL ? rpc_client_new(en->rpc, &o, &e) : NULL;
    int rc =
        en->client == NULL ? -ERR_UNAVAILABLE : rpc_call_start(en->client, &r, on_root, en, &e);
    if (rc < 0)
        fail_here(en, &e, rc);
}

/* ---- the beginning ---- */

/* "host" or "host:port" of the cluster port → address with port and the enrolment port's url. */
static int add_remote(struct enrol *en, const char *remote, struct err *e)
{
    const char *colon = strrchr(remote, ':');
    size_t host_size = colon != NULL ? (size_t)(colon - remote) : strlen(remote);
    char *end = NULL;
    unsigned long port = colon != NULL ? strtoul(colon + 1, &end, 10) : DEFAULT_PORT;

    if (host_size == 0 || host_size > IDENTITY_ADDRESS_CHARS_MAX - 6 || port == 0 || port > 65534 ||
        (end != NULL && (*end != '\0' || end == colon + 1)))
        return err_set(e, ERR_INVALID, "remote \"%.100s\": give HOST or HOST:PORT", remote);
    en->addresses[en->remote_count] = xasprintf("%.*s:%lu", (int)host_size, remote, port);
    en->urls[en->remote_count] =
        xasprintf("tls+tcp://%.*s:%lu", (int)host_size, remote, port + ENROL_PORT_OFFSET);
    en->remote_count++;
    return 0;
}

struct enrol *enrol_start(struct rpc *rpc, struct loop *l, const struct enrol_options *o,
                          enrol_done_fn *done, void *ctx, struct err *e)
{
    struct enrol *en = xcalloc(1, sizeof(*en));
    int rc = 0;

    en->rpc = rpc;
    en->loop = l;
    en->state_dir = xstrdup(o->state_dir);
    en->token = xstrdup(o->token);
    en->availability = o->availability;
    en->done = done;
    en->ctx = ctx;
    buf_init(&en->key, X509_PEM_BYTES_MAX);
    buf_init(&en->root, X509_PEM_BYTES_MAX);
    random_bytes(en->request_id, sizeof(en->request_id));
    if (o->remote_count == 0 || o->remote_count > IDENTITY_MANAGERS_MAX)
        rc = err_set(e, ERR_INVALID, "give 1 to %d managers to join", IDENTITY_MANAGERS_MAX);
    if (rc == 0)
        rc = token_parse(o->token, &en->parsed, e);
    for (size_t i = 0; rc == 0 && i < o->remote_count; i++)
        rc = add_remote(en, o->remotes[i], e);
    if (rc == 0)
        rc = x509_generate_key(&en->key, e);
    if (rc < 0) {
        enrol_cancel(en);
        return NULL;
    }
    next_step(en, begin_remote);
    return en;
}
