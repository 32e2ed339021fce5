/* One framed connection over an nng byte stream; the part that rpc_server.c and rpc_client.c share.
 *
 * Wire, after the TLS handshake where there is one: each side sends the 8-byte preface once, then
 * frames of a 12-byte header (big endian: u32 size of what follows, u32 call, u8 kind, 3 zero
 * bytes) and the packed envelope. Many calls share a connection; answers come in any order.
 *
 * Why not nng's REQ/REP sockets: they accept without a limit, give a handshake 10 s, never say why
 * a connection failed, send a request again after a cut although it may have been executed, and
 * keep an abandoned blocking query open. Byte streams of the same library leave that to us.
 *
 * Threads: everything runs on the loop thread except the two aio callbacks, which continue a
 * partial write or post to the inbox. */
#ifndef SKEP_COMMON_RPC_CONN_H
#define SKEP_COMMON_RPC_CONN_H

#include <nng/nng.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/inbox.h"
#include "common/loop.h"
#include "common/rpc.h"
#include "common/tls_engine.h"

enum rpc_frame_kind {
    RPC_FRAME_REQUEST = 1, /* call: chosen by the client, unique among its open calls */
    RPC_FRAME_RESPONSE = 2,
    RPC_FRAME_CANCEL = 3, /* the client no longer waits for call; no body */
    RPC_FRAME_PING = 4,   /* answered by PONG; no body */
    RPC_FRAME_PONG = 5,
};

enum {
    RPC_PREFACE_BYTES = 8,
    RPC_HEADER_BYTES = 12,
    RPC_INBOX_RECORDS_MAX = 1 << 17, /* two for each end of a connection, one per accept and dial */
    RPC_UNSENT_MESSAGES_MAX = 4,     /* of the greatest size, held for one connection */
    RPC_PING_MS = 5000,              /* silence on a busy connection before a ping */
    RPC_SILENCE_MS_MAX = 10000,      /* … before it counts as dead */
    RPC_IDLE_PING_MS = 30000,        /* keeps an idle connection from being closed by the server */
    RPC_IDLE_MS_MAX = 90000,         /* silence after which a server closes */
};

/* Freed objects whose memory a caller up the stack may still look at; released by the loop. */
struct rpc_grave {
    struct rpc_grave *next;
    void *mem;
};

struct rpc {
    struct loop *loop;
    struct inbox *inbox;
    struct buf scratch; /* a body while its envelope is packed */
    struct rpc_grave *graves;
    struct loop_timer graves_timer;
};

/* Frees mem when no callback is on the stack any more. */
void rpc_bury(struct rpc *rpc, void *mem);
/* A code and sentence for an nng error, without an address. */
int rpc_nng_err(struct err *e, int nng_rc);
/* "10.0.0.1:2377" of "tls+tcp://10.0.0.1:2377", the path of ipc. Points into url. */
const char *rpc_address_of(const char *url);

struct rpc_conn;

struct rpc_conn_ops {
    /* A server: the client's preface came; a client: the handshake is done. Both: the peer is
     * known. A negative return closes, with e for on_closed. */
    int (*on_ready)(void *ctx, struct err *e);
    /* A negative return closes. body is borrowed. */
    int (*on_frame)(void *ctx, enum rpc_frame_kind kind, uint32_t call, const uint8_t *body,
                    size_t size, struct err *e);
    /* The connection ended by itself; the owner must free it. */
    void (*on_closed)(void *ctx, const struct err *why);
};

struct rpc_conn_options {
    bool server;
    size_t message_bytes_max;
    const struct rpc_conn_ops *ops;
    void *ctx;
};

/* Takes the stream and starts the handshake. */
struct rpc_conn *rpc_conn_new(struct rpc *rpc, nng_stream *stream,
                              const struct rpc_conn_options *o);
/* Closes; no callback follows. May be called from one. */
void rpc_conn_free(struct rpc_conn *c);

/* Queues a frame; body may be NULL (none). -ERR_TOO_BIG beyond the message size, -ERR_BUSY when
 * the other end does not keep up. */
int rpc_conn_send(struct rpc_conn *c, enum rpc_frame_kind kind, uint32_t call,
                  const ProtobufCMessage *body, struct err *e) MUST_CHECK;
/* Queues a frame without a body whose loss does no harm. */
void rpc_conn_notify(struct rpc_conn *c, enum rpc_frame_kind kind, uint32_t call);
/* Loop time of the last bytes from the other end. */
uint64_t rpc_conn_received_ms(const struct rpc_conn *c);
bool rpc_conn_ready(const struct rpc_conn *c);
/* false for ipc. */
bool rpc_conn_peer(const struct rpc_conn *c, struct tls_peer *ret);
/* Remote "ip:port", "" for ipc. */
void rpc_conn_address(const struct rpc_conn *c, char *ret_text, size_t size);

#endif
