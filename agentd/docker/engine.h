/* HTTP calls to the Docker Engine on its unix socket, through libcurl's multi interface driven by
 * the loop (docker_api.md §2.1, §5.1). Any number of calls run at once; every one has a deadline or
 * a longest silence, and a cap on what it may receive, so that an engine that hangs, floods or
 * talks nonsense costs one failed call.
 *
 * Loop thread only. Callbacks never run inside the function that started the call, and may start,
 * cancel, pause and resume any call. */
#ifndef SKEP_AGENTD_DOCKER_ENGINE_H
#define SKEP_AGENTD_DOCKER_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/loop.h"
#include "common/mem.h"

enum {
    ENGINE_CALLS_MAX = 1024, /* in flight; more are refused with ERR_BUSY */
    ENGINE_HEADER_BYTES_MAX = 64 << 10,
    ENGINE_BODY_BYTES_MAX = 1 << 20,   /* of a buffered answer unless the request says otherwise */
    ENGINE_ERROR_BYTES_MAX = 16 << 10, /* of an error answer to a streaming request */
    ENGINE_PATH_BYTES_MAX = 8 << 10,
    ENGINE_VERSION_MAX = 151, /* newest API spoken: 1.51, as 100 * major + minor */
    ENGINE_VERSION_MIN = 141, /* oldest: Docker 20.10 */
};

struct engine;
struct engine_call;

struct engine_response {
    int rc;           /* 0 = the engine answered, whatever the status; else -ERR_TIMEOUT,
                         -ERR_UNAVAILABLE, -ERR_TOO_BIG, -ERR_PROTO or what on_data returned */
    unsigned status;  /* 0 when rc < 0 */
    const char *body; /* NUL-terminated, never NULL; empty after a streamed success */
    size_t size;
    struct err err; /* the reason when rc < 0, the engine's message when status >= 400 */
};

/* Exactly once per started call that was not cancelled. r is borrowed. */
typedef void engine_done_fn(void *ctx, const struct engine_response *r);
/* Bytes of a 2xx answer as they arrive. 0 to go on, -ERR_* to abort the call with that code. */
typedef int engine_data_fn(void *ctx, const char *data, size_t size);
/* The head of a 2xx answer has arrived. */
typedef void engine_head_fn(void *ctx);

struct engine_request {
    const char *method; /* GET, HEAD, POST, DELETE */
    const char *path;   /* "/containers/json?all=1", percent-encoded, without version; copied */
    const char *body;   /* JSON or NULL; copied */
    const char *registry_auth; /* X-Registry-Auth or NULL; copied, never logged */
    uint32_t deadline_ms;      /* from the start; 0 = none (streams) */
    uint32_t idle_ms;          /* longest silence; 0 = not watched. One of the two is set */
    size_t body_bytes_max;     /* 0 = ENGINE_BODY_BYTES_MAX; ignored with on_data */
    bool unversioned;          /* before negotiation: /_ping */
    bool once;               /* on a fresh connection, so that no layer may send it a second time */
    engine_head_fn *on_head; /* or NULL */
    engine_data_fn *on_data;
    engine_done_fn *done;
    void *ctx;
};

/* socket_path is copied; nothing is sent yet. */
struct engine *engine_new(struct loop *l, const char *socket_path, struct err *e);
/* Calls in flight are dropped without callback. */
void engine_free(struct engine *en);

/* NULL with e set: ERR_BUSY, or ERR_UNAVAILABLE before a version was negotiated. */
struct engine_call *engine_call_start(struct engine *en, const struct engine_request *q,
                                      struct err *e) MUST_CHECK;
/* No callback follows. NULL is allowed. */
void engine_call_cancel(struct engine_call *c);
/* Stops and restarts the flow of on_data; the silence watch rests while paused. */
void engine_call_pause(struct engine_call *c);
void engine_call_resume(struct engine_call *c);

/* Asks /_ping and settles the API version: the lower of the engine's and ENGINE_VERSION_MAX. done
 * gets rc -ERR_UNSUPPORTED for an engine older than ENGINE_VERSION_MIN. */
int engine_ping(struct engine *en, uint32_t deadline_ms, engine_done_fn *done, void *ctx,
                struct err *e) MUST_CHECK;
/* As 100 * major + minor, 0 before the first successful ping. */
unsigned engine_version(const struct engine *en);
/* Calls in flight: for tests and metrics. */
uint32_t engine_call_count(const struct engine *en);

#endif
