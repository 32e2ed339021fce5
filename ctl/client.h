/* A connection to one manager: typed calls, answered or explained.
 *
 * A call returns within seconds whatever state the cluster is in. When the answer takes longer than
 * CLIENT_PATIENCE_MS the same manager is asked INFO, which it answers without a quorum; if it has
 * none, the call ends with -ERR_UNAVAILABLE and client_advice() tells which managers were last seen
 * when and what to do. Mutations carry a request id and are repeated while a leader is elected.
 *
 * client_rpc.c has the real transport (common/rpc.h); tests bring a fake one. One thread. */
#ifndef SKEP_CTL_CLIENT_H
#define SKEP_CTL_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/err.h"
#include "proto/control.pb-c.h"
#include "proto/rpc.pb-c.h"

enum {
    CLIENT_PATIENCE_MS = 1400, /* then the manager is asked what is wrong */
    CLIENT_INFO_MS = 400,      /* patience for that answer: together below 2 s */
    CLIENT_RETRY_MS = 100,     /* between attempts while there is no leader */
    CLIENT_REQUEST_ID_BYTES = 16,
    CLIENT_PORT = 2377,
};

struct client;

/* One call on its way. Filled in by the transport, which may free it when it was abandoned. */
struct client_flight {
    bool done;
    bool abandoned; /* nobody reads it any more; the transport frees it when it ends */
    bool answered;  /* the manager answered; else rc is the transport's own */
    int rc;         /* 0 or -ERR_* */
    struct err e;
    uint8_t *body; /* malloc'd */
    size_t body_size;
};

struct client_wire {
    Skep__Method method;
    const ProtobufCMessage *body;
    uint32_t deadline_ms;
    const uint8_t *request_id; /* NULL for reads */
};

struct client_transport {
    /* Starts a call; f is malloc'd by the caller and stays valid until done or abandoned. */
    int (*start)(void *ctx, const struct client_wire *w, struct client_flight *f, struct err *e);
    /* Waits at most wait_ms for something to happen. Returns 0, or -ERR_CANCELED after Ctrl-C. */
    int (*wait)(void *ctx, uint32_t wait_ms, struct err *e);
    /* From now on Ctrl-C makes wait() return -ERR_CANCELED instead of ending the process. */
    void (*catch_interrupt)(void *ctx);
    /* One line about why nothing answers ("connection refused"), or "". */
    const char *(*diagnose)(void *ctx);
    void (*free)(void *ctx);
    uint64_t (*now_ms)(void *ctx);
    void *ctx;
    const char *name; /* "unix:///run/skep/control.sock", for messages; lives as long as ctx */
};

struct client_options {
    const char *host;         /* unix:///PATH, HOST[:PORT] or tcp://HOST[:PORT] */
    const char *identity_dir; /* for remote managers */
    int64_t timeout_ns;
};

/* The real thing; NULL with e saying why and what to do. client_rpc.c */
struct client *client_open(const struct client_options *o, struct err *e);
/* Takes over t. */
struct client *client_new(const struct client_transport *t, uint32_t timeout_ms);
void client_close(struct client *c);

struct client_request {
    Skep__Method method;
    const ProtobufCMessage *body;             /* may be NULL */
    const ProtobufCMessageDescriptor *answer; /* may be NULL: nothing to decode */
    uint32_t wait_ms;  /* a blocking query: how long the manager may hold it; 0 = not one */
    uint32_t grace_ms; /* how much later its answer may come; 0 = CLIENT_PATIENCE_MS */
    bool mutation;
};
/* *ret (may be NULL) is the decoded answer in a. -ERR_* with "Error response from daemon: …" when
 * the manager refused; -ERR_CANCELED after Ctrl-C. */
int client_call(struct client *c, const struct client_request *r, struct arena *a,
                ProtobufCMessage **ret, struct err *e) MUST_CHECK;

/* Sentences to print below the last error, lines with ends; "" when there are none. */
const char *client_advice(const struct client *c);
void client_catch_interrupt(struct client *c);
/* Lets time pass; -ERR_CANCELED after Ctrl-C. */
int client_sleep(struct client *c, uint32_t ms, struct err *e) MUST_CHECK;
uint64_t client_now_ms(const struct client *c);

/* "unix:///p" -> "ipc:///p"; "h", "h:1", "tcp://h:1" -> "tls+tcp://h:1" with the default port.
 * Pure. */
int client_url(struct arena *a, const char *host, char **ret_url, struct err *e) MUST_CHECK;
/* Decodes into a with the checks of rpc_decode left to the transport. NULL when it is malformed. */
ProtobufCMessage *client_unpack(struct arena *a, const ProtobufCMessageDescriptor *type,
                                const uint8_t *body, size_t size);
/* A deep copy in a, to be changed freely. */
ProtobufCMessage *client_clone(struct arena *a, const ProtobufCMessage *m);
/* What to tell when info says that there is no leader or this is no manager; "" when all is well.
 * Pure. */
const char *client_explain(struct arena *a, const Skep__InfoResponse *info);

#endif
