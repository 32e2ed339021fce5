#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "common/random.h"
#include "common/rpc.h"
#include "common/rpc_conn.h"

/* A call's number on the wire: its slot, and above it a count that makes late answers to a former
 * call of the slot recognisable. */
enum { SLOT_BITS = 10, SLOTS_FIRST = 8 };
static_assert(RPC_CLIENT_CALLS_MAX == 1 << SLOT_BITS, "a slot is part of a call's number");

enum client_state {
    CLIENT_IDLE,      /* no connection; maybe backing off */
    CLIENT_DIALING,   /* TCP */
    CLIENT_HANDSHAKE, /* TLS */
    CLIENT_READY,
};

struct call {
    struct call *next; /* in failing */
    struct rpc_client *client;
    uint32_t number;
    uint32_t deadline_ms; /* as asked for */
    uint64_t end_ms;      /* loop time */
    bool sent;
    Skep__Request req; /* waits for the connection; its pointers are owned until sent */
    struct loop_timer timer;
    rpc_done_fn *done;
    void *ctx;
};

struct rpc_client {
    struct rpc *rpc;
    char *url;
    struct tls_context *tls;
    enum tls_role server_role;
    struct id server_node;
    nng_stream_dialer *dialer;
    nng_aio *dial_aio;
    struct rpc_conn *conn;
    enum client_state state;
    bool dead;
    struct call **slots;
    uint32_t slot_capacity, call_count, next_slot, generation;
    struct call *failing;    /* taken out of slots, waiting for their callbacks */
    struct loop_timer timer; /* CLIENT_HANDSHAKE: its deadline; CLIENT_READY: pings */
    uint64_t ping_at_ms;     /* an unanswered ping was sent then; 0 = none */
    bool proved;             /* the connection brought at least one answer */
    uint64_t retry_at_ms;    /* no attempt to connect before */
    uint32_t backoff_ms;
    struct err last_failure;
};

/* ---- calls ---- */

static void request_free(Skep__Request *req)
{
    if (req->body.data != NULL)
        xfree_secret(req->body.data, req->body.len);
    free(req->request_id.data);
    if (req->on_behalf_of != NULL)
        skep__caller__free_unpacked(req->on_behalf_of, NULL);
    req->body.data = NULL;
    req->request_id.data = NULL;
    req->on_behalf_of = NULL;
}

/* Takes the call out of its slot; its number means nothing any more. */
static void call_detach(struct call *call)
{
    struct rpc_client *c = call->client;

    c->slots[call->number & (RPC_CLIENT_CALLS_MAX - 1)] = NULL;
    c->call_count--;
    loop_timer_cancel(c->rpc->loop, &call->timer);
}

/* done may free the client, whose memory stays until the loop's turn. */
static void call_complete(struct call *call, int rc, const Skep__Response *response,
                          const struct err *e)
{
    rpc_done_fn *done = call->done;
    void *ctx = call->ctx;

    request_free(&call->req);
    free(call);
    done(ctx, rc, response, e);
}

static void call_finish(struct call *call, int rc, const Skep__Response *response,
                        const struct err *e)
{
    call_detach(call);
    call_complete(call, rc, response, e);
}

/* Every call that was there when it began. A callback may start others, or free the client, which
 * then completes the rest of the list itself. */
static void fail_calls(struct rpc_client *c, const struct err *why)
{
    for (uint32_t i = 0; i < c->slot_capacity; i++) {
        struct call *call = c->slots[i];

        if (call == NULL)
            continue;
        call_detach(call);
        call->next = c->failing;
        c->failing = call;
    }
    for (struct call *call; (call = c->failing) != NULL;) {
        c->failing = call->next;
        call_complete(call, -why->code, NULL, why);
    }
}

static void on_deadline(void *ctx, uint64_t now_ms)
{
    struct call *call = ctx;
    struct rpc_client *c = call->client;
    const char *address = rpc_address_of(c->url);
    struct err e = { 0 };

    (void)now_ms;
    if (call->sent) {
        (void)err_set(&e, ERR_TIMEOUT, "%s: no answer within %u ms", address, call->deadline_ms);
        if (c->state == CLIENT_READY)
            rpc_conn_notify(c->conn, RPC_FRAME_CANCEL, call->number);
    } else {
        (void)err_set(&e, ERR_TIMEOUT, "%s: no connection within %u ms", address,
                      call->deadline_ms);
    }
    call_finish(call, -ERR_TIMEOUT, NULL, &e);
}

static int call_send(struct call *call, struct err *e)
{
    struct rpc_client *c = call->client;
    uint64_t now_ms = loop_now_ms(c->rpc->loop), end_ms = call->end_ms;

    call->req.deadline_ms = end_ms > now_ms ? (uint32_t)(end_ms - now_ms) : 1;
    int rc = rpc_conn_send(c->conn, RPC_FRAME_REQUEST, call->number, &call->req.base, e);

    if (rc == 0) {
        call->sent = true;
        request_free(&call->req);
    }
    return rc < 0 ? err_wrap(e, rc, "%s", rpc_address_of(c->url)) : 0;
}

/* ---- connection ---- */

static void connection_close(struct rpc_client *c)
{
    loop_timer_cancel(c->rpc->loop, &c->timer);
    rpc_conn_free(c->conn);
    c->conn = NULL;
    c->state = CLIENT_IDLE;
}

/* The attempt or the connection failed: everybody waiting learns why. Later calls learn it too,
 * until the next attempt is due. */
static void connection_failed(struct rpc_client *c, const struct err *why)
{
    uint64_t now_ms = loop_now_ms(c->rpc->loop);
    struct err e;

    connection_close(c);
    (void)err_set(&e, (enum err_code)why->code, "%s: %s", rpc_address_of(c->url), why->message);
    if (c->proved) {
        c->backoff_ms = 0; /* a cut, not a failed attempt: try again at once */
        c->retry_at_ms = now_ms;
    } else {
        c->backoff_ms =
            MIN(MAX(2 * c->backoff_ms, (uint32_t)RPC_BACKOFF_MS_MIN), (uint32_t)RPC_BACKOFF_MS_MAX);
        c->retry_at_ms = now_ms + c->backoff_ms / 2 + random_u64() % c->backoff_ms;
    }
    c->last_failure = e;
    fail_calls(c, &e);
}

static void on_handshake_late(void *ctx, uint64_t now_ms)
{
    struct rpc_client *c = ctx;
    struct err e = { 0 };

    (void)now_ms;
    (void)err_set(&e, ERR_UNAVAILABLE, "TLS handshake not finished within %d ms",
                  TLS_HANDSHAKE_MS_MAX);
    connection_failed(c, &e);
}

/* A dead peer answers no pings; without calls in flight there is no hurry to know. */
static void on_ping_timer(void *ctx, uint64_t now_ms)
{
    struct rpc_client *c = ctx;
    uint64_t received_ms = rpc_conn_received_ms(c->conn);
    uint64_t silent_ms = now_ms - received_ms;
    struct err e = { 0 };

    if (received_ms >= c->ping_at_ms)
        c->ping_at_ms = 0;
    if (c->ping_at_ms != 0 && now_ms - c->ping_at_ms >= RPC_SILENCE_MS_MAX - RPC_PING_MS) {
        (void)err_set(&e, ERR_UNAVAILABLE, "no sign of life for %u ms", (unsigned)silent_ms);
        connection_failed(c, &e);
        return;
    }
    if (c->ping_at_ms == 0 &&
        silent_ms >= (c->call_count > 0 ? (uint64_t)RPC_PING_MS : (uint64_t)RPC_IDLE_PING_MS)) {
        rpc_conn_notify(c->conn, RPC_FRAME_PING, 0);
        c->ping_at_ms = now_ms;
    }
    loop_timer_set(c->rpc->loop, &c->timer, now_ms + RPC_PING_MS / 2, on_ping_timer, c);
}

static int check_server(struct rpc_client *c, struct err *e)
{
    struct tls_peer peer;

    if (c->tls == NULL)
        return 0;
    if (!rpc_conn_peer(c->conn, &peer) || !peer.handshake_done)
        return err_set(e, ERR_UNAUTHENTICATED, "no TLS handshake");
    if (c->server_role != TLS_ROLE_NONE &&
        (!peer.has_identity || peer.identity.role != c->server_role))
        return err_set(e, ERR_UNAUTHENTICATED, "the server has another role than expected");
    if (c->server_node.s[0] != '\0' &&
        (!peer.has_identity || !id_equal(&peer.identity.node, &c->server_node)))
        return err_set(e, ERR_UNAUTHENTICATED, "this is node %s, not node %s",
                       peer.has_identity ? peer.identity.node.s : "?", c->server_node.s);
    return 0;
}

static int client_on_ready(void *ctx, struct err *e)
{
    struct rpc_client *c = ctx;
    int rc = check_server(c, e);

    if (rc < 0)
        return rc;
    c->state = CLIENT_READY;
    c->proved = false;
    c->ping_at_ms = 0;
    loop_timer_set(c->rpc->loop, &c->timer, loop_now_ms(c->rpc->loop) + RPC_PING_MS, on_ping_timer,
                   c);
    for (uint32_t i = 0; i < c->slot_capacity; i++) {
        struct call *call = c->slots[i];
        struct err why = { 0 };

        if (call == NULL || call->sent)
            continue;
        rc = call_send(call, &why);
        if (rc < 0)
            call_finish(call, rc, NULL, &why);
        if (c->dead)
            return 0;
    }
    return 0;
}

static void on_response(struct call *call, const uint8_t *body, size_t size, struct err *e)
{
    struct rpc_client *c = call->client;
    ProtobufCBinaryData data = { .len = size, .data = (uint8_t *)body };
    ProtobufCMessage *message;
    int rc = rpc_decode(&data, &skep__response__descriptor, &message, e);

    if (rc < 0) {
        (void)err_wrap(e, rc, "%s: bad answer", rpc_address_of(c->url));
        call_finish(call, rc, NULL, e);
        return;
    }
    Skep__Response *response = (Skep__Response *)message;
    struct err why = { 0 };
    if (response->code != 0) {
        rc = response->code <= ERR_INTERNAL ? -(int)response->code : -ERR_INTERNAL;
        (void)err_set(&why, (enum err_code) - rc, "%s",
                      response->message[0] != '\0' ? response->message : err_str(rc));
    }
    call_finish(call, rc, response, &why);
    skep__response__free_unpacked(response, NULL);
}

static int client_on_frame(void *ctx, enum rpc_frame_kind kind, uint32_t number,
                           const uint8_t *body, size_t size, struct err *e)
{
    struct rpc_client *c = ctx;
    uint32_t slot = number & (RPC_CLIENT_CALLS_MAX - 1);

    c->proved = true;
    if (kind == RPC_FRAME_PONG)
        return 0;
    if (kind != RPC_FRAME_RESPONSE)
        return err_set(e, ERR_PROTO, "unexpected frame");
    struct call *call = slot < c->slot_capacity ? c->slots[slot] : NULL;
    if (call != NULL && call->number == number && call->sent)
        on_response(call, body, size, e);
    return 0; /* else the answer to a call that timed out */
}

static void client_on_closed(void *ctx, const struct err *why)
{
    connection_failed(ctx, why);
}

static const struct rpc_conn_ops client_ops = { .on_ready = client_on_ready,
                                                .on_frame = client_on_frame,
                                                .on_closed = client_on_closed };

static void on_dialed(void *ctx, void *arg)
{
    struct rpc_client *c = ctx;
    int rv = nng_aio_result(c->dial_aio);
    struct rpc_conn_options o = { .message_bytes_max = RPC_MESSAGE_BYTES_MAX,
                                  .ops = &client_ops,
                                  .ctx = c };
    struct err why = { 0 };

    (void)arg;
    ASSERT(c->state == CLIENT_DIALING);
    if (rv != 0) {
        if (rv == NNG_ETIMEDOUT)
            (void)err_set(&why, ERR_UNAVAILABLE, "no connection within %d ms", RPC_CONNECT_MS_MAX);
        else if (rv == NNG_ECONNREFUSED && c->tls == NULL) /* nng says that of a missing file too */
            (void)err_set(&why, ERR_UNAVAILABLE, "nobody listens there; is the daemon running?");
        else
            (void)rpc_nng_err(&why, rv);
        connection_failed(c, &why);
        return;
    }
    c->conn = rpc_conn_new(c->rpc, nng_aio_get_output(c->dial_aio, 0), &o);
    c->state = CLIENT_HANDSHAKE;
    loop_timer_set(c->rpc->loop, &c->timer, loop_now_ms(c->rpc->loop) + TLS_HANDSHAKE_MS_MAX,
                   on_handshake_late, c);
}

/* nng's thread. */
static void on_dial_aio(void *arg)
{
    struct rpc_client *c = arg;

    inbox_post(c->rpc->inbox, on_dialed, c, NULL);
}

static void connect_now(struct rpc_client *c)
{
    c->state = CLIENT_DIALING;
    c->proved = false;
    nng_aio_set_timeout(c->dial_aio, RPC_CONNECT_MS_MAX);
    nng_stream_dialer_dial(c->dialer, c->dial_aio);
}

static void on_backing_off(void *ctx, uint64_t now_ms)
{
    struct call *call = ctx;
    struct err why = call->client->last_failure;

    (void)now_ms;
    call_finish(call, -why.code, NULL, &why);
}

/* ---- public ---- */

static int set_up_dialer(struct rpc_client *c, struct err *e)
{
    bool wants_tls = strncmp(c->url, "tls+", 4) == 0;

    if (wants_tls != (c->tls != NULL))
        return err_set(e, ERR_INVALID, "TLS context and scheme do not fit");
    int rv = nng_stream_dialer_alloc(&c->dialer, c->url);
    if (rv != 0)
        return rpc_nng_err(e, rv);
    if (c->tls == NULL)
        return 0;
    nng_tls_config *cfg = tls_config_new(c->tls, NNG_TLS_MODE_CLIENT, rpc_address_of(c->url), e);
    if (cfg == NULL)
        return -ERR_INTERNAL;
    rv = nng_stream_dialer_set_ptr(c->dialer, NNG_OPT_TLS_CONFIG, cfg);
    nng_tls_config_free(cfg);
    if (rv == 0) /* the parts of a handshake are small writes, each waited for */
        rv = nng_stream_dialer_set_bool(c->dialer, NNG_OPT_TCP_NODELAY, true);
    return rv == 0 ? 0 : rpc_nng_err(e, rv);
}

struct rpc_client *rpc_client_new(struct rpc *rpc, const struct rpc_client_options *o,
                                  struct err *e)
{
    struct rpc_client *c = xcalloc(1, sizeof(*c));

    c->rpc = rpc;
    c->url = xstrdup(o->url);
    c->tls = o->tls;
    if (c->tls != NULL)
        tls_context_ref(c->tls);
    c->server_role = o->server_role;
    if (o->server_node_id != NULL)
        c->server_node = id_from_str(o->server_node_id);
    int rc = set_up_dialer(c, e);
    if (rc < 0) {
        (void)err_wrap(e, rc, "%s", rpc_address_of(o->url));
        rpc_client_free(c);
        return NULL;
    }
    ASSERT(nng_aio_alloc(&c->dial_aio, on_dial_aio, c) == 0); /* fails only without memory */
    return c;
}

static void stop_dialing(struct rpc_client *c)
{
    if (c->dialer != NULL)
        nng_stream_dialer_close(c->dialer);
    if (c->dial_aio != NULL) {
        nng_aio_wait(c->dial_aio); /* not stop: nng's cancelling may touch what closing frees */
        /* Connected, but not yet handed over. */
        if (inbox_cancel(c->rpc->inbox, c) > 0 && nng_aio_result(c->dial_aio) == 0)
            nng_stream_free(nng_aio_get_output(c->dial_aio, 0));
        nng_aio_free(c->dial_aio);
    }
    if (c->dialer != NULL)
        nng_stream_dialer_free(c->dialer);
}

void rpc_client_free(struct rpc_client *c)
{
    struct err why = { 0 };

    if (c == NULL)
        return;
    ASSERT(!c->dead);
    c->dead = true;
    connection_close(c);
    stop_dialing(c);
    (void)err_set(&why, ERR_CANCELED, "%s: canceled", rpc_address_of(c->url));
    fail_calls(c, &why);
    if (c->tls != NULL)
        tls_context_unref(c->tls);
    free(c->url);
    free(c->slots);
    c->slots = NULL;
    c->slot_capacity = 0;
    rpc_bury(c->rpc, c);
}

bool rpc_client_connected(const struct rpc_client *c)
{
    return c->state == CLIENT_READY;
}

/* A slot that is free, preferring one not used lately. */
static uint32_t find_slot(struct rpc_client *c)
{
    if (c->call_count == c->slot_capacity) {
        uint32_t capacity = MAX(2 * c->slot_capacity, (uint32_t)SLOTS_FIRST);

        c->slots = xrealloc_array(c->slots, capacity, sizeof(struct call *));
        for (uint32_t i = c->slot_capacity; i < capacity; i++)
            c->slots[i] = NULL;
        c->next_slot = c->slot_capacity;
        c->slot_capacity = capacity;
    }
    while (c->slots[c->next_slot] != NULL)
        c->next_slot = (c->next_slot + 1) % c->slot_capacity;
    uint32_t slot = c->next_slot;
    c->next_slot = (slot + 1) % c->slot_capacity;
    return slot;
}

static int fill_body(Skep__Request *req, const struct rpc_request *r, struct err *e)
{
    size_t size = r->raw_body != NULL ? r->raw_body->len
                  : r->body != NULL   ? protobuf_c_message_get_packed_size(r->body)
                                      : 0;

    if (size > RPC_MESSAGE_BYTES_MAX - 1024) /* room for the envelope */
        return err_set(e, ERR_TOO_BIG, "request of %zu bytes, at most %d fit", size,
                       RPC_MESSAGE_BYTES_MAX - 1024);
    req->body.len = size;
    if (size == 0)
        return 0;
    req->body.data = xmalloc(size);
    if (r->raw_body != NULL)
        memcpy(req->body.data, r->raw_body->data, size);
    else
        (void)protobuf_c_message_pack(r->body, req->body.data); /* returns size */
    return 0;
}

static void fill_rest(Skep__Request *req, const struct rpc_request *r)
{
    req->method = r->method;
    if (r->request_id != NULL) {
        req->request_id.data = xmemdup(r->request_id, 16);
        req->request_id.len = 16;
    }
    if (r->on_behalf_of != NULL) {
        req->on_behalf_of = xcalloc(1, sizeof(*req->on_behalf_of));
        skep__caller__init(req->on_behalf_of);
        req->on_behalf_of->node_id = xstrdup(r->on_behalf_of->node_id);
        req->on_behalf_of->manager = r->on_behalf_of->manager;
        req->on_behalf_of->local = r->on_behalf_of->local;
    }
}

static struct call *call_new(struct rpc_client *c, const struct rpc_request *r, struct err *e)
{
    struct call *call = xcalloc(1, sizeof(*call));

    skep__request__init(&call->req);
    if (fill_body(&call->req, r, e) < 0) {
        free(call);
        return NULL;
    }
    fill_rest(&call->req, r);
    call->client = c;
    call->deadline_ms = r->deadline_ms;
    call->end_ms = loop_now_ms(c->rpc->loop) + r->deadline_ms;
    return call;
}

int rpc_call_start(struct rpc_client *c, const struct rpc_request *r, rpc_done_fn *done, void *ctx,
                   struct err *e)
{
    ASSERT(r->deadline_ms > 0);
    ASSERT(r->deadline_ms <= RPC_DEADLINE_MS_MAX);
    if (c->dead)
        return err_set(e, ERR_CANCELED, "the connection was given up");
    if (c->call_count >= RPC_CLIENT_CALLS_MAX)
        return err_set(e, ERR_BUSY, "%s: too many calls at once", rpc_address_of(c->url));
    struct call *call = call_new(c, r, e);
    if (call == NULL)
        return err_wrap(e, -ERR_TOO_BIG, "%s", rpc_address_of(c->url));
    call->done = done;
    call->ctx = ctx;
    uint32_t slot = find_slot(c);
    call->number = ++c->generation << SLOT_BITS | slot;
    int rc = c->state == CLIENT_READY ? call_send(call, e) : 0;
    if (rc < 0) {
        request_free(&call->req);
        free(call);
        return rc;
    }
    c->slots[slot] = call;
    c->call_count++;
    if (c->state == CLIENT_IDLE && loop_now_ms(c->rpc->loop) < c->retry_at_ms) {
        loop_timer_set(c->rpc->loop, &call->timer, 0, on_backing_off, call);
        return 0;
    }
    loop_timer_set(c->rpc->loop, &call->timer, call->end_ms, on_deadline, call);
    if (c->state == CLIENT_IDLE)
        connect_now(c);
    return 0;
}
