#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "common/rpc.h"
#include "common/rpc_conn.h"

enum {
    SWEEPS_PER_HANDSHAKE = 10,
    TRIM_AFTER_CLOSED = 128,
    ACCEPT_RETRY_MS = 100,
    PINGS_PER_SWEEP_MAX = 16
};

/* One accepted connection. */
struct link {
    struct link *next, **at;
    struct rpc_server *server;
    struct rpc_conn *conn;
    struct rpc_peer peer;
    struct rpc_call *calls;
    uint32_t call_count, ping_count;
    size_t held_bytes; /* of the requests in calls */
    bool stranger;     /* connected by TLS, but showed no certificate */
    uint64_t accepted_ms;
    size_t ip_chars; /* of peer.address without the port */
};

struct rpc_call {
    struct rpc_call *next, **at; /* of the link; unlinked when that is gone */
    struct rpc_server *server;
    struct link *link; /* NULL when nobody waits any more */
    struct rpc_call *all_next, **all_at;
    uint32_t number;
    size_t bytes;
    uint64_t deadline_ms;
    struct rpc_peer peer;
    Skep__Request *req;
};

struct rpc_server {
    struct rpc *rpc;
    struct rpc_listen_options o; /* url and tls are not kept */
    nng_stream_listener *listener;
    struct tls_context *tls;
    nng_aio *accept_aio;
    struct loop_timer accept_timer, sweep_timer;
    struct link *links;      /* established */
    struct link *handshakes; /* newest first */
    struct rpc_call *calls;
    struct rpc_server_stats stats;
    uint32_t closed_count; /* since memory was last given back */
    bool dead;
};

static void link_insert(struct link **list, struct link *l)
{
    l->next = *list;
    l->at = list;
    if (l->next != NULL)
        l->next->at = &l->next;
    *list = l;
}

static void link_remove(struct link *l)
{
    *l->at = l->next;
    if (l->next != NULL)
        l->next->at = l->at;
}

/* ---- calls ---- */

/* The caller is gone or gave up; the handler still owes its answer. */
static void call_detach(struct rpc_call *call)
{
    struct link *l = call->link;

    if (l == NULL)
        return;
    *call->at = call->next;
    if (call->next != NULL)
        call->next->at = call->at;
    l->call_count--;
    l->held_bytes -= call->bytes;
    call->link = NULL;
}

static void call_free(struct rpc_call *call)
{
    call_detach(call);
    *call->all_at = call->all_next;
    if (call->all_next != NULL)
        call->all_next->all_at = call->all_at;
    call->server->stats.call_count--;
    skep__request__free_unpacked(call->req, NULL);
    free(call);
}

static struct rpc_call *call_new(struct link *l, uint32_t number, Skep__Request *req, size_t size)
{
    struct rpc_server *s = l->server;
    struct rpc_call *call = xcalloc(1, sizeof(*call));
    uint64_t wait_ms = MIN(req->deadline_ms, (uint32_t)RPC_DEADLINE_MS_MAX);

    *call = (struct rpc_call){ .server = s,
                               .link = l,
                               .number = number,
                               .bytes = size,
                               .deadline_ms = loop_now_ms(s->rpc->loop) + wait_ms,
                               .peer = l->peer,
                               .req = req };
    call->next = l->calls;
    call->at = &l->calls;
    if (call->next != NULL)
        call->next->at = &call->next;
    l->calls = call;
    l->call_count++;
    l->held_bytes += size;
    call->all_next = s->calls;
    call->all_at = &s->calls;
    if (call->all_next != NULL)
        call->all_next->all_at = &call->all_next;
    s->calls = call;
    s->stats.call_count++;
    return call;
}

static void link_close(struct link *l)
{
    struct rpc_server *s = l->server;

    for (struct rpc_call *c; (c = l->calls) != NULL;)
        call_detach(c);
    if (rpc_conn_ready(l->conn))
        s->stats.connection_count--;
    else
        s->stats.handshake_count--;
    link_remove(l);
    rpc_conn_free(l->conn);
    rpc_bury(s->rpc, l);
    s->closed_count++;
}

/* A link that cannot take its answer is of no use to anybody. */
static void link_respond(struct link *l, uint32_t number, const Skep__Response *response)
{
    struct err e;
    int rc = rpc_conn_send(l->conn, RPC_FRAME_RESPONSE, number, &response->base, &e);

    if (rc == -ERR_TOO_BIG) {
        Skep__Response r = SKEP__RESPONSE__INIT;

        r.code = ERR_TOO_BIG;
        r.message = e.message;
        rc = rpc_conn_send(l->conn, RPC_FRAME_RESPONSE, number, &r.base, &e);
    }
    if (rc < 0)
        link_close(l);
}

static void link_respond_error(struct link *l, uint32_t number, int code, const char *message)
{
    Skep__Response r = SKEP__RESPONSE__INIT;

    r.code = (uint32_t)code;
    r.message = (char *)message; /* only packed */
    link_respond(l, number, &r);
}

void rpc_reply_raw(struct rpc_call *call, const Skep__Response *response)
{
    struct link *l = call->link;
    uint32_t number = call->number;

    call_free(call);
    if (l != NULL)
        link_respond(l, number, response);
}

void rpc_reply(struct rpc_call *call, const ProtobufCMessage *body)
{
    struct buf *scratch = &call->server->rpc->scratch;
    Skep__Response r = SKEP__RESPONSE__INIT;
    size_t size = body != NULL ? protobuf_c_message_get_packed_size(body) : 0;

    buf_clear(scratch);
    uint8_t *at = buf_reserve(scratch, size);
    if (at == NULL) {
        rpc_reply_error(call, ERR_TOO_BIG, "the answer is too big; ask for less");
        return;
    }
    if (body != NULL)
        (void)protobuf_c_message_pack(body, at); /* returns size */
    r.body = (ProtobufCBinaryData){ .len = size, .data = at };
    rpc_reply_raw(call, &r);
    if (scratch->capacity > 64 << 10)
        buf_deinit(scratch);
}

void rpc_reply_error(struct rpc_call *call, int code, const char *message)
{
    Skep__Response r = SKEP__RESPONSE__INIT;

    ASSERT(code != 0);
    r.code = (uint32_t)(code < 0 ? -code : code);
    r.message = (char *)(message != NULL ? message : err_str(code)); /* only packed */
    rpc_reply_raw(call, &r);
}

void rpc_reply_not_leader(struct rpc_call *call, const char *leader_address)
{
    Skep__Response r = SKEP__RESPONSE__INIT;

    r.code = ERR_NOT_LEADER;
    r.message = (char *)err_str(ERR_NOT_LEADER); /* only packed */
    r.leader_address = (char *)(leader_address != NULL ? leader_address : "");
    rpc_reply_raw(call, &r);
}

bool rpc_call_expired(const struct rpc_call *call, uint64_t now_ms)
{
    return call->link == NULL || now_ms >= call->deadline_ms;
}

uint64_t rpc_call_deadline_ms(const struct rpc_call *call)
{
    return call->deadline_ms;
}

/* ---- frames ---- */

/* What a certificate may no longer do, although its connection stands. */
static int check_still_welcome(struct link *l, struct err *e)
{
    if (l->server->tls == NULL || l->peer.identity.role == TLS_ROLE_NONE)
        return 0;
    return tls_context_check(l->server->tls, &l->peer.identity, e);
}

static int check_request(const struct link *l, const Skep__Request *req, struct err *e)
{
    const struct id *own = &l->peer.identity.cluster;

    if (req->method == SKEP__METHOD__METHOD_NONE)
        return err_set(e, ERR_INVALID, "method: missing");
    if (req->deadline_ms == 0)
        return err_set(e, ERR_INVALID, "deadline_ms: missing");
    if (req->request_id.len != 0 && req->request_id.len != 16)
        return err_set(e, ERR_INVALID, "request_id: not 16 bytes");
    if (req->cluster_id[0] != '\0' && own->s[0] != '\0' && strcmp(req->cluster_id, own->s) != 0)
        return err_set(e, ERR_INVALID, "cluster_id: this is another cluster");
    return 0;
}

static int on_request(struct link *l, uint32_t number, const uint8_t *body, size_t size,
                      struct err *e)
{
    struct rpc_server *s = l->server;
    ProtobufCBinaryData data = { .len = size, .data = (uint8_t *)body };
    ProtobufCMessage *message;

    s->stats.requests++;
    if (size == 0 || l->call_count >= RPC_CLIENT_CALLS_MAX) {
        s->stats.malformed++;
        return err_set(e, ERR_PROTO, size == 0 ? "empty request" : "too many calls at once");
    }
    int rc = rpc_decode(&data, &skep__request__descriptor, &message, e);
    if (rc < 0) {
        s->stats.malformed++;
        return rc;
    }
    Skep__Request *req = (Skep__Request *)message;
    rc = check_still_welcome(l, e);
    if (rc == 0)
        rc = check_request(l, req, e);
    if (rc == 0 && s->stats.call_count >= s->o.slot_count)
        rc = err_set(e, ERR_BUSY, "too many calls wait for their answer");
    if (rc == 0 && l->held_bytes + size > RPC_UNSENT_MESSAGES_MAX * s->o.message_bytes_max)
        rc = err_set(e, ERR_BUSY, "too many big calls wait for their answer");
    if (rc < 0) {
        skep__request__free_unpacked(req, NULL);
        link_respond_error(l, number, -rc, e->message);
        return 0;
    }
    struct rpc_call *call = call_new(l, number, req, size);
    s->o.handler(s->o.ctx, call, &call->peer, req);
    return 0;
}

static int link_on_frame(void *ctx, enum rpc_frame_kind kind, uint32_t number, const uint8_t *body,
                         size_t size, struct err *e)
{
    struct link *l = ctx;

    switch (kind) {
    case RPC_FRAME_REQUEST:
        return on_request(l, number, body, size, e);
    case RPC_FRAME_CANCEL:
        for (struct rpc_call *c = l->calls; c != NULL; c = c->next) {
            if (c->number == number) {
                call_detach(c);
                break;
            }
        }
        return 0;
    case RPC_FRAME_PING:
        if (++l->ping_count > PINGS_PER_SWEEP_MAX)
            return err_set(e, ERR_RATE, "too many pings");
        rpc_conn_notify(l->conn, RPC_FRAME_PONG, 0);
        return 0;
    case RPC_FRAME_RESPONSE:
    case RPC_FRAME_PONG:
        break;
    }
    l->server->stats.malformed++;
    return err_set(e, ERR_PROTO, "unexpected frame");
}

static bool same_source(const struct link *a, const struct link *b)
{
    return a->ip_chars == b->ip_chars && memcmp(a->peer.address, b->peer.address, a->ip_chars) == 0;
}

/* Anybody may come to the enrolment port and say nothing: few at once, and fewer of one address. */
static int admit_stranger(const struct link *l, struct err *e)
{
    uint32_t count = 0, of_source = 0;

    for (const struct link *other = l->server->links; other != NULL; other = other->next) {
        count += other->stranger;
        of_source += other->stranger && same_source(other, l);
    }
    if (count > RPC_STRANGERS_MAX || of_source > RPC_STRANGERS_PER_SOURCE)
        return err_set(e, ERR_RATE, "too many connections without a certificate");
    return 0;
}

static int link_on_ready(void *ctx, struct err *e)
{
    struct link *l = ctx;
    struct rpc_server *s = l->server;
    struct tls_peer peer;

    link_remove(l);
    link_insert(&s->links, l);
    s->stats.handshake_count--;
    s->stats.connection_count++;
    if (s->tls == NULL) {
        l->peer.local = true;
        return 0;
    }
    if (!rpc_conn_peer(l->conn, &peer) || !peer.handshake_done)
        return err_set(e, ERR_UNAUTHENTICATED, "no TLS handshake");
    if (peer.has_identity) {
        l->peer.identity = peer.identity;
        return 0;
    }
    l->stranger = true;
    return admit_stranger(l, e);
}

static void report(struct link *l, const struct err *why)
{
    struct rpc_server *s = l->server;

    s->stats.refused++;
    if (s->o.refused != NULL)
        s->o.refused(s->o.ctx, l->peer.address, why);
}

static void link_on_closed(void *ctx, const struct err *why)
{
    struct link *l = ctx;

    /* An end that is nobody's fault is not worth a word. */
    if (!rpc_conn_ready(l->conn) || why->code != ERR_UNAVAILABLE)
        report(l, why);
    link_close(l);
}

static const struct rpc_conn_ops link_ops = { .on_ready = link_on_ready,
                                              .on_frame = link_on_frame,
                                              .on_closed = link_on_closed };

/* ---- accepting ---- */

static uint32_t source_bucket(const struct link *l)
{
    uint32_t h = 2166136261u; /* FNV-1a */

    for (size_t i = 0; i < l->ip_chars; i++)
        h = (h ^ (uint8_t)l->peer.address[i]) * 16777619u;
    return h % RPC_HANDSHAKES_MAX;
}

/* With every place for handshakes taken, the source that holds most of them gives way: its newest
 * goes, which is the newcomer itself when the source is its own. So a flood from one address keeps
 * nobody else out, and a fleet behind one address does not restart its own handshakes. */
static void make_room(struct rpc_server *s)
{
    uint16_t counts[RPC_HANDSHAKES_MAX] = { 0 };
    const struct link *heaviest = NULL;
    uint32_t most = 0;

    for (const struct link *l = s->handshakes; l != NULL; l = l->next) {
        uint32_t count = ++counts[source_bucket(l)];

        if (count > most) {
            most = count;
            heaviest = l;
        }
    }
    for (struct link *l = s->handshakes; l != NULL; l = l->next) {
        if (same_source(l, heaviest)) {
            s->stats.refused++;
            link_close(l);
            return;
        }
    }
}

static void add_link(struct rpc_server *s, nng_stream *stream)
{
    struct rpc_conn_options o = { .server = true,
                                  .message_bytes_max = s->o.message_bytes_max,
                                  .ops = &link_ops };
    struct link *l = xcalloc(1, sizeof(*l));

    s->stats.accepted++;
    o.ctx = l;
    l->server = s;
    l->accepted_ms = loop_now_ms(s->rpc->loop);
    l->conn = rpc_conn_new(s->rpc, stream, &o);
    rpc_conn_address(l->conn, l->peer.address, sizeof(l->peer.address));
    const char *colon = strrchr(l->peer.address, ':');
    l->ip_chars = colon != NULL ? (size_t)(colon - l->peer.address) : 0;
    link_insert(&s->handshakes, l);
    s->stats.handshake_count++;
    if (s->stats.connection_count >= s->o.connection_count) {
        s->stats.refused++;
        link_close(l);
    } else if (s->stats.handshake_count > RPC_HANDSHAKES_MAX) {
        make_room(s);
    }
}

static void accept_next(void *ctx, uint64_t now_ms)
{
    struct rpc_server *s = ctx;

    (void)now_ms;
    nng_stream_listener_accept(s->listener, s->accept_aio);
}

static void on_accepted(void *ctx, void *arg)
{
    struct rpc_server *s = ctx;
    int rv = nng_aio_result(s->accept_aio);

    (void)arg;
    if (rv == 0) {
        add_link(s, nng_aio_get_output(s->accept_aio, 0));
        accept_next(s, 0);
    } else if (rv != NNG_ECLOSED && rv != NNG_ECANCELED) {
        /* Mostly too many open files: waiting callers stay in the kernel's queue. */
        loop_timer_set(s->rpc->loop, &s->accept_timer, loop_now_ms(s->rpc->loop) + ACCEPT_RETRY_MS,
                       accept_next, s);
    }
}

/* nng's thread. */
static void on_accept_aio(void *arg)
{
    struct rpc_server *s = arg;

    inbox_post(s->rpc->inbox, on_accepted, s, NULL);
}

static void sweep(void *ctx, uint64_t now_ms)
{
    struct rpc_server *s = ctx;
    uint64_t sweep_ms = s->o.handshake_ms_max / SWEEPS_PER_HANDSHAKE;
    struct err late = { 0 };

    (void)err_set(&late, ERR_TIMEOUT, "handshake not finished within %u ms", s->o.handshake_ms_max);

    for (struct link *l = s->handshakes, *next; l != NULL; l = next) {
        next = l->next;
        if (now_ms + sweep_ms - l->accepted_ms >= s->o.handshake_ms_max) {
            report(l, &late);
            link_close(l);
        }
    }
    for (struct link *l = s->links, *next; l != NULL; l = next) {
        next = l->next;
        l->ping_count = 0;
        if (now_ms - rpc_conn_received_ms(l->conn) >= RPC_IDLE_MS_MAX ||
            (l->stranger && now_ms - l->accepted_ms >= RPC_STRANGER_MS_MAX))
            link_close(l);
    }
    if (s->closed_count >= TRIM_AFTER_CLOSED && s->stats.handshake_count == 0) {
        (void)malloc_trim(
            0); /* a wave of connections is over: their buffers go back to the kernel */
        s->closed_count = 0;
    }
    loop_timer_set(s->rpc->loop, &s->sweep_timer, now_ms + sweep_ms, sweep, s);
}

/* ---- listening ---- */

static int set_up_tls(struct rpc_server *s, struct err *e)
{
    nng_tls_config *cfg = tls_config_new(s->tls, NNG_TLS_MODE_SERVER, "", e);

    if (cfg == NULL)
        return -ERR_INTERNAL;
    int rv = nng_stream_listener_set_ptr(s->listener, NNG_OPT_TLS_CONFIG, cfg);
    nng_tls_config_free(cfg);
    return rv == 0 ? 0 : rpc_nng_err(e, rv);
}

static int check_certificate(struct tls_context *t, struct err *e)
{
    struct tls_identity own;

    if (!tls_context_own(t, &own) || own.role != TLS_ROLE_MANAGER)
        return err_set(e, ERR_UNAUTHENTICATED, "serving needs the certificate of a manager");
    return 0;
}

static int start(struct rpc_server *s, const char *url, struct err *e)
{
    bool wants_tls = strncmp(url, "tls+", 4) == 0;
    int rc = 0;

    if (wants_tls != (s->tls != NULL))
        return err_set(e, ERR_INVALID, "TLS context and scheme do not fit");
    if (s->tls != NULL)
        rc = check_certificate(s->tls, e);
    if (rc < 0)
        return rc;
    int rv = nng_stream_listener_alloc(&s->listener, url);
    if (rv != 0)
        return rpc_nng_err(e, rv);
    if (s->tls != NULL) {
        rc = set_up_tls(s, e);
        if (rc < 0)
            return rc;
        rv = nng_stream_listener_set_bool(s->listener, NNG_OPT_TCP_NODELAY, true);
        if (rv != 0)
            return rpc_nng_err(e, rv);
    } else {
        (void)nng_stream_listener_set_int(s->listener, NNG_OPT_IPC_PERMISSIONS, 0600);
    }
    rv = nng_stream_listener_listen(s->listener);
    if (rv != 0)
        return rpc_nng_err(e, rv);
    ASSERT(nng_aio_alloc(&s->accept_aio, on_accept_aio, s) == 0); /* fails only without memory */
    nng_aio_set_timeout(s->accept_aio, NNG_DURATION_INFINITE);
    accept_next(s, 0);
    sweep(s, loop_now_ms(s->rpc->loop));
    return 0;
}

struct rpc_server *rpc_listen(struct rpc *rpc, const struct rpc_listen_options *o, struct err *e)
{
    struct rpc_server *s = xcalloc(1, sizeof(*s));

    s->rpc = rpc;
    s->o = *o;
    s->o.url = NULL;
    s->tls = o->tls;
    if (s->tls != NULL)
        tls_context_ref(s->tls);
    if (s->o.message_bytes_max == 0)
        s->o.message_bytes_max = RPC_MESSAGE_BYTES_MAX;
    if (s->o.slot_count == 0)
        s->o.slot_count = RPC_SERVER_SLOTS;
    if (s->o.handshake_ms_max == 0)
        s->o.handshake_ms_max = TLS_HANDSHAKE_MS_MAX;
    if (s->o.connection_count == 0)
        s->o.connection_count = RPC_CONNECTIONS_MAX;
    int rc = start(s, o->url, e);
    if (rc < 0) {
        (void)err_wrap(e, rc, "listen on %s", rpc_address_of(o->url));
        rpc_server_free(s);
        return NULL;
    }
    return s;
}

void rpc_server_free(struct rpc_server *s)
{
    if (s == NULL)
        return;
    ASSERT(!s->dead);
    s->dead = true;
    if (s->listener != NULL)
        nng_stream_listener_close(s->listener);
    if (s->accept_aio != NULL) {
        nng_aio_wait(s->accept_aio); /* not stop: nng's cancelling may touch what closing frees */
        /* Accepted, but not yet handed over. */
        if (inbox_cancel(s->rpc->inbox, s) > 0 && nng_aio_result(s->accept_aio) == 0)
            nng_stream_free(nng_aio_get_output(s->accept_aio, 0));
        nng_aio_free(s->accept_aio);
    }
    loop_timer_cancel(s->rpc->loop, &s->accept_timer);
    loop_timer_cancel(s->rpc->loop, &s->sweep_timer);
    for (struct link *l; (l = s->links != NULL ? s->links : s->handshakes) != NULL;)
        link_close(l);
    for (struct rpc_call *c; (c = s->calls) != NULL;)
        call_free(c);
    if (s->listener != NULL)
        nng_stream_listener_free(s->listener);
    if (s->tls != NULL)
        tls_context_unref(s->tls);
    rpc_bury(s->rpc, s);
}

uint16_t rpc_server_port(const struct rpc_server *s)
{
    int port;

    return nng_stream_listener_get_int(s->listener, NNG_OPT_TCP_BOUND_PORT, &port) == 0
               ? (uint16_t)port
               : 0;
}

void rpc_server_stats(const struct rpc_server *s, struct rpc_server_stats *ret)
{
    *ret = s->stats;
}
