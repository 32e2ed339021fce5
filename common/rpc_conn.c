#include "common/rpc_conn.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"

/* The input buffer of an idle connection is small: a manager holds thousands of them. */
enum { INPUT_BYTES_IDLE = 1024, INPUT_BYTES_STEP_MAX = 64 << 10 };

struct rpc_conn {
    struct rpc *rpc;
    nng_stream *stream;
    nng_aio *recv_aio, *send_aio;
    struct rpc_conn_options o;
    bool dead;    /* freed; memory still there for the callers on the stack */
    bool closing; /* on_closed was called */
    bool ready;
    bool preface_received;
    uint64_t received_ms;
    struct buf in;
    size_t step; /* bytes asked for at once: doubles while reads come back full */
    /* out collects frames; sending is with nng. */
    struct buf out, sending;
    struct loop_timer flush_timer;
    size_t sent; /* of sending; nng's thread while a send is in flight */
    bool send_active;
};

static const uint8_t preface[RPC_PREFACE_BYTES] = { 'S', 'K', 'E', 'P', 0, 0, 0, 1 };

static void put_u32(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 24);
    at[1] = (uint8_t)(value >> 16);
    at[2] = (uint8_t)(value >> 8);
    at[3] = (uint8_t)value;
}

static uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static size_t frame_bytes_max(const struct rpc_conn *c)
{
    return RPC_HEADER_BYTES + c->o.message_bytes_max;
}

/* ---- ending ---- */

static void close_with(struct rpc_conn *c, const struct err *why)
{
    if (c->dead || c->closing)
        return;
    c->closing = true;
    c->o.ops->on_closed(c->o.ctx, why);
}

/* The transport failed. During the handshake the TLS engine knows why. */
static void close_nng(struct rpc_conn *c, int nng_rc)
{
    struct tls_peer peer;
    struct err why = { 0 };

    if (tls_stream_peer(c->stream, &peer) && !peer.handshake_done && peer.why.code != 0)
        why = peer.why;
    else
        (void)rpc_nng_err(&why, nng_rc);
    close_with(c, &why);
}

void rpc_conn_free(struct rpc_conn *c)
{
    if (c == NULL)
        return;
    ASSERT(!c->dead);
    c->dead = true;
    nng_stream_close(c->stream);
    nng_aio_stop(c->recv_aio); /* waits for callbacks, which never wait for this thread */
    nng_aio_stop(c->send_aio);
    (void)inbox_cancel(c->rpc->inbox, c); /* at most the two that were just completed */
    loop_timer_cancel(c->rpc->loop, &c->flush_timer);
    nng_aio_free(c->recv_aio);
    nng_aio_free(c->send_aio);
    nng_stream_free(c->stream);
    buf_deinit(&c->out);
    buf_deinit(&c->sending);
    buf_deinit(&c->in);
    rpc_bury(c->rpc, c);
}

/* ---- sending ---- */

static void on_sent(void *ctx, void *arg);

static void send_rest(struct rpc_conn *c)
{
    nng_iov iov = { .iov_buf = c->sending.data + c->sent, .iov_len = c->sending.size - c->sent };

    (void)nng_aio_set_iov(c->send_aio, 1, &iov); /* fails only beyond 8 vectors */
    nng_stream_send(c->stream, c->send_aio);
}

/* nng's thread. Streams take what fits (16 KiB over TLS): the rest follows without the loop. */
static void on_send_aio(void *arg)
{
    struct rpc_conn *c = arg;

    if (nng_aio_result(c->send_aio) == 0) {
        c->sent += nng_aio_count(c->send_aio);
        if (c->sent < c->sending.size) {
            send_rest(c);
            return;
        }
    }
    inbox_post(c->rpc->inbox, on_sent, c, NULL);
}

static void flush(void *ctx, uint64_t now_ms)
{
    struct rpc_conn *c = ctx;

    (void)now_ms;
    if (c->send_active || c->closing || c->out.size == 0)
        return;
    struct buf empty = c->sending;
    c->sending = c->out;
    c->out = empty;
    c->sent = 0;
    c->send_active = true;
    send_rest(c);
}

/* At the end of this iteration, so that what it produces goes out in one write. */
static void flush_soon(struct rpc_conn *c)
{
    if (!c->send_active && !loop_timer_armed(&c->flush_timer))
        loop_timer_set(c->rpc->loop, &c->flush_timer, 0, flush, c);
}

static void become_ready(struct rpc_conn *c)
{
    struct err why = { 0 };

    c->ready = true;
    if (c->o.ops->on_ready(c->o.ctx, &why) < 0)
        close_with(c, &why);
}

static void on_sent(void *ctx, void *arg)
{
    struct rpc_conn *c = ctx;
    int rv = nng_aio_result(c->send_aio);

    (void)arg;
    c->send_active = false;
    if (rv != 0) {
        close_nng(c, rv);
        return;
    }
    if (c->sending.capacity > INPUT_BYTES_STEP_MAX || c->out.size == 0)
        buf_deinit(&c->sending); /* quiet, or once huge: give it back */
    else
        buf_clear(&c->sending);
    if (!c->ready && !c->o.server) /* the preface went through the handshake */
        become_ready(c);
    if (!c->dead && !c->closing)
        flush(c, 0);
}

int rpc_conn_send(struct rpc_conn *c, enum rpc_frame_kind kind, uint32_t call,
                  const ProtobufCMessage *body, struct err *e)
{
    size_t size = body != NULL ? protobuf_c_message_get_packed_size(body) : 0;

    if (size > c->o.message_bytes_max)
        return err_set(e, ERR_TOO_BIG, "message of %zu bytes, at most %zu fit", size,
                       c->o.message_bytes_max);
    uint8_t *at = buf_reserve(&c->out, RPC_HEADER_BYTES + size);
    if (at == NULL)
        return err_set(e, ERR_BUSY, "the other side does not read its messages");
    memset(at, 0, RPC_HEADER_BYTES);
    put_u32(at, (uint32_t)size);
    put_u32(at + 4, call);
    at[8] = (uint8_t)kind;
    if (body != NULL)
        (void)protobuf_c_message_pack(body, at + RPC_HEADER_BYTES); /* returns size */
    buf_commit(&c->out, RPC_HEADER_BYTES + size);
    flush_soon(c);
    return 0;
}

void rpc_conn_notify(struct rpc_conn *c, enum rpc_frame_kind kind, uint32_t call)
{
    int rc = rpc_conn_send(c, kind, call, NULL, NULL);

    (void)rc;
}

/* ---- receiving ---- */

static void on_received(void *ctx, void *arg);

/* nng's thread. */
static void on_recv_aio(void *arg)
{
    struct rpc_conn *c = arg;

    inbox_post(c->rpc->inbox, on_received, c, NULL);
}

/* Memory grows with what has arrived, not with what a header claims. */
static void receive_more(struct rpc_conn *c)
{
    size_t want = MIN(MAX(c->step, c->in.size), c->in.size_max - c->in.size);

    if (c->in.size == 0 && c->in.capacity > c->step + 1)
        buf_deinit(&c->in);
    nng_iov iov = { .iov_buf = buf_reserve(&c->in, want), .iov_len = want };
    ASSERT(iov.iov_buf != NULL);
    ASSERT(want > 0);
    (void)nng_aio_set_iov(c->recv_aio, 1, &iov); /* fails only beyond 8 vectors */
    nng_stream_recv(c->stream, c->recv_aio);
}

static int take_preface(struct rpc_conn *c, size_t *at, struct err *e)
{
    if (c->in.size < RPC_PREFACE_BYTES)
        return 0;
    if (memcmp(c->in.data, preface, 4) != 0)
        return err_set(e, ERR_PROTO, "does not speak this protocol");
    if (memcmp(c->in.data, preface, RPC_PREFACE_BYTES) != 0)
        return err_set(e, ERR_UNSUPPORTED, "speaks another version of this protocol");
    *at = RPC_PREFACE_BYTES;
    c->preface_received = true;
    if (c->o.server)
        become_ready(c);
    return 0;
}

static int check_header(const struct rpc_conn *c, const uint8_t *header, struct err *e)
{
    uint32_t size = get_u32(header);
    bool has_body = header[8] == RPC_FRAME_REQUEST || header[8] == RPC_FRAME_RESPONSE;

    if (header[8] < RPC_FRAME_REQUEST || header[8] > RPC_FRAME_PONG || header[9] != 0 ||
        header[10] != 0 || header[11] != 0)
        return err_set(e, ERR_PROTO, "malformed frame");
    if (size > c->o.message_bytes_max)
        return err_set(e, ERR_TOO_BIG, "message of %u bytes, at most %zu are allowed", size,
                       c->o.message_bytes_max);
    if (!has_body && size > 0)
        return err_set(e, ERR_PROTO, "malformed frame");
    return 0;
}

/* Hands on every whole frame. */
static int parse(struct rpc_conn *c, struct err *e)
{
    size_t at = 0;
    int rc = c->preface_received ? 0 : take_preface(c, &at, e);

    while (rc == 0 && !c->dead && !c->closing && c->preface_received &&
           c->in.size - at >= RPC_HEADER_BYTES) {
        const uint8_t *header = c->in.data + at;
        uint32_t size = get_u32(header);

        rc = check_header(c, header, e);
        if (rc < 0 || c->in.size - at < RPC_HEADER_BYTES + size)
            break;
        at += RPC_HEADER_BYTES + size;
        rc = c->o.ops->on_frame(c->o.ctx, (enum rpc_frame_kind)header[8], get_u32(header + 4),
                                header + RPC_HEADER_BYTES, size, e);
    }
    if (!c->dead)
        buf_consume(&c->in, at);
    return rc;
}

static void on_received(void *ctx, void *arg)
{
    struct rpc_conn *c = ctx;
    int rv = nng_aio_result(c->recv_aio);
    struct err why = { 0 };

    (void)arg;
    if (rv == 0 && nng_aio_count(c->recv_aio) == 0)
        rv = NNG_ECONNSHUT;
    if (rv != 0) {
        close_nng(c, rv);
        return;
    }
    size_t count = nng_aio_count(c->recv_aio);
    c->step = count >= c->step ? MIN(2 * c->step, (size_t)INPUT_BYTES_STEP_MAX)
                               : MAX(c->step / 2, (size_t)INPUT_BYTES_IDLE);
    buf_commit(&c->in, count);
    c->received_ms = loop_now_ms(c->rpc->loop);
    int rc = parse(c, &why);
    if (rc < 0)
        close_with(c, &why);
    else if (!c->dead && !c->closing)
        receive_more(c);
}

/* ---- beginning ---- */

struct rpc_conn *rpc_conn_new(struct rpc *rpc, nng_stream *stream, const struct rpc_conn_options *o)
{
    struct rpc_conn *c = xcalloc(1, sizeof(*c));

    c->rpc = rpc;
    c->stream = stream;
    c->o = *o;
    c->step = INPUT_BYTES_IDLE;
    c->received_ms = loop_now_ms(rpc->loop);
    buf_init(&c->in, frame_bytes_max(c) + INPUT_BYTES_IDLE);
    buf_init(&c->out, RPC_UNSENT_MESSAGES_MAX * frame_bytes_max(c));
    buf_init(&c->sending, RPC_UNSENT_MESSAGES_MAX * frame_bytes_max(c));
    ASSERT(nng_aio_alloc(&c->recv_aio, on_recv_aio, c) == 0); /* fails only without memory */
    ASSERT(nng_aio_alloc(&c->send_aio, on_send_aio, c) == 0);
    nng_aio_set_timeout(c->recv_aio, NNG_DURATION_INFINITE);
    nng_aio_set_timeout(c->send_aio, NNG_DURATION_INFINITE);
    ASSERT(buf_append(&c->out, preface, sizeof(preface)) == 0);
    flush(c, 0);
    receive_more(c);
    return c;
}

uint64_t rpc_conn_received_ms(const struct rpc_conn *c)
{
    return c->received_ms;
}

bool rpc_conn_ready(const struct rpc_conn *c)
{
    return c->ready;
}

bool rpc_conn_peer(const struct rpc_conn *c, struct tls_peer *ret)
{
    return tls_stream_peer(c->stream, ret);
}

void rpc_conn_address(const struct rpc_conn *c, char *ret_text, size_t size)
{
    char ip[INET6_ADDRSTRLEN] = "";
    nng_sockaddr a;

    ret_text[0] = '\0';
    if (nng_stream_get_addr(c->stream, NNG_OPT_REMADDR, &a) != 0)
        return;
    if (a.s_family == NNG_AF_INET) {
        (void)inet_ntop(AF_INET, &a.s_in.sa_addr, ip, sizeof(ip)); /* cannot fail here */
        (void)snprintf(ret_text, size, "%s:%u", ip, ntohs(a.s_in.sa_port));
    } else if (a.s_family == NNG_AF_INET6) {
        (void)inet_ntop(AF_INET6, a.s_in6.sa_addr, ip, sizeof(ip));
        (void)snprintf(ret_text, size, "[%s]:%u", ip, ntohs(a.s_in6.sa_port));
    }
}
