/* Unary calls over nng's byte streams: `tls+tcp://` with mutual TLS between hosts (common/tls.h),
 * `ipc://` for the local socket. One envelope (proto/rpc.proto), many calls at once on one
 * connection, a deadline on every call, size limits before any parsing, the verified peer handed
 * over with every request. A call is executed at most once: nothing is ever sent again (why not
 * nng's REQ/REP sockets: common/rpc_conn.h).
 *
 * Threads: every function and callback here belongs to the loop thread; nng's threads only post to
 * the inbox that the rpc object owns. */
#ifndef SKEP_COMMON_RPC_H
#define SKEP_COMMON_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/id.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/tls.h"
#include "proto/rpc.pb-c.h"

enum {
    RPC_MESSAGE_BYTES_MAX = 4 << 20, /* a whole request or response */
    RPC_SERVER_SLOTS = 32768,        /* calls that one listener holds open (blocking queries) */
    RPC_CLIENT_CALLS_MAX = 1024,     /* calls that one peer object keeps in flight */
    RPC_DEADLINE_MS_MAX = 10 * 60 * 1000,
    RPC_CONNECTIONS_MAX = 16384,   /* of one listener */
    RPC_HANDSHAKES_MAX = 512,      /* of these, not yet through the handshake */
    RPC_STRANGERS_MAX = 512,       /* of these, without a certificate (enrolment) … */
    RPC_STRANGERS_PER_SOURCE = 64, /* … and from one address … */
    RPC_STRANGER_MS_MAX = 30000,   /* … each for this long */
    RPC_CONNECT_MS_MAX = 5000,
    RPC_BACKOFF_MS_MIN = 50, /* between attempts to connect; doubles, with jitter */
    RPC_BACKOFF_MS_MAX = 1000,
};

struct rpc; /* one per process: the bridge between nng and a loop */

struct rpc *rpc_new(struct loop *l, struct err *e);
/* After every server and client of it was freed; not from a callback. */
void rpc_free(struct rpc *rpc);

/* ---- serving ---- */

struct rpc_server;
struct rpc_call; /* one request that waits for its answer */

/* The peer as proved by its certificate; for the ipc socket `local` is set and the rest is empty.
 */
struct rpc_peer {
    bool local;
    struct tls_identity
        identity;     /* node id, cluster id, role; zero when no certificate was asked */
    char address[64]; /* remote ip:port, "" for ipc */
};

/* Called for every well-formed request. The handler must call one of the rpc_reply functions
 * exactly once, now or later. peer and req are borrowed until then. */
typedef void rpc_handler_fn(void *ctx, struct rpc_call *call, const struct rpc_peer *peer,
                            const Skep__Request *req);

/* A connection that did not get through the handshake, or was cut for what it sent; for a log line
 * that the caller limits in rate. address: ip:port, "" for ipc. */
typedef void rpc_refused_fn(void *ctx, const char *address, const struct err *why);

struct rpc_listen_options {
    const char *url;           /* "tls+tcp://0.0.0.0:2377" or "ipc:///run/skep/control.sock" */
    struct tls_context *tls;   /* NULL for ipc; may be updated later (certificate renewal) */
    size_t message_bytes_max;  /* 0 = RPC_MESSAGE_BYTES_MAX */
    uint32_t slot_count;       /* 0 = RPC_SERVER_SLOTS; beyond it calls are answered ERR_BUSY */
    uint32_t connection_count; /* 0 = RPC_CONNECTIONS_MAX; beyond it connections are closed */
    uint32_t handshake_ms_max; /* 0 = TLS_HANDSHAKE_MS_MAX */
    rpc_handler_fn *handler;
    rpc_refused_fn *refused; /* NULL = nobody wants to know */
    void *ctx;               /* of both */
};
/* Returns NULL with e naming the address (in use, permission). */
struct rpc_server *rpc_listen(struct rpc *rpc, const struct rpc_listen_options *o, struct err *e);
/* Refuses new calls, drops the unanswered ones and closes. Their rpc_call pointers are dead. */
void rpc_server_free(struct rpc_server *s);
/* The TCP port that is listened on (the url may say 0); 0 for ipc. */
uint16_t rpc_server_port(const struct rpc_server *s);

struct rpc_server_stats {
    uint32_t connection_count, handshake_count, call_count; /* now */
    uint64_t accepted, refused, requests, malformed;        /* since the start */
};
void rpc_server_stats(const struct rpc_server *s, struct rpc_server_stats *ret);

/* body may be NULL for an empty answer; it is packed before return and stays the caller's. */
void rpc_reply(struct rpc_call *call, const ProtobufCMessage *body);
void rpc_reply_error(struct rpc_call *call, int code, const char *message);
/* With ERR_NOT_LEADER: where to go. */
void rpc_reply_not_leader(struct rpc_call *call, const char *leader_address);
/* Answers with a response that another manager gave (forwarding). */
void rpc_reply_raw(struct rpc_call *call, const Skep__Response *response);
/* True when the caller's deadline has passed, it gave up or its connection is gone: the answer has
 * no reader (but must still be given). */
bool rpc_call_expired(const struct rpc_call *call, uint64_t now_ms);
/* Loop time by which the caller wants the answer. */
uint64_t rpc_call_deadline_ms(const struct rpc_call *call);

/* ---- calling ---- */

/* One remote address. Connects when there is a call, keeps the connection, and connects again, at
 * most every RPC_BACKOFF_MS; calls that start in between fail at once with the last reason. */
struct rpc_client;

struct rpc_client_options {
    const char *url;         /* "tls+tcp://10.77.0.11:2377" or "ipc://…" */
    struct tls_context *tls; /* NULL for ipc */
    /* What the server's certificate must say; all optional. A mismatch fails the calls with
     * -ERR_UNAUTHENTICATED. */
    enum tls_role server_role;
    const char *server_node_id; /* NULL or "" = any */
};
struct rpc_client *rpc_client_new(struct rpc *rpc, const struct rpc_client_options *o,
                                  struct err *e);
/* Calls in flight complete with -ERR_CANCELED before this returns. */
void rpc_client_free(struct rpc_client *c);
/* True while the handshake is behind and the connection stands. */
bool rpc_client_connected(const struct rpc_client *c);

/* Exactly one callback per successful rpc_call_start(), never from inside it. rc: 0 or -ERR_*: the
 * transport's (TIMEOUT, UNAVAILABLE, UNAUTHENTICATED, …), with a message that names the address and
 * the reason, or the server's code with its message in e. response is borrowed for the callback and
 * NULL when the transport failed; response->body holds the answer. After UNAVAILABLE or TIMEOUT the
 * call may or may not have been executed. The callback may free the client. */
typedef void rpc_done_fn(void *ctx, int rc, const Skep__Response *response, const struct err *e);

struct rpc_request {
    Skep__Method method;
    const ProtobufCMessage *body; /* packed before return; may be NULL */
    uint32_t deadline_ms;
    const Skep__Caller *on_behalf_of;    /* forwarding only */
    const uint8_t *request_id;           /* 16 bytes or NULL */
    const ProtobufCBinaryData *raw_body; /* instead of body: already packed (forwarding) */
};
int rpc_call_start(struct rpc_client *c, const struct rpc_request *r, rpc_done_fn *done, void *ctx,
                   struct err *e) MUST_CHECK;

/* Decodes an answer's or a request's body into a new message (free with
 * protobuf_c_message_free_unpacked). Refuses malformed bytes, nesting, invalid UTF-8 and embedded
 * NULs with -ERR_PROTO. */
int rpc_decode(const ProtobufCBinaryData *body, const ProtobufCMessageDescriptor *type,
               ProtobufCMessage **ret_message, struct err *e) MUST_CHECK;

#endif
