/* Images: is it here, and the pull with its streamed progress (docker_api.md §5.1). A pull's
 * failure arrives inside a 200 answer; nothing new for IMAGE_IDLE_MS_MAX ends it. Loop thread. */
#ifndef SKEP_AGENTD_DOCKER_IMAGE_H
#define SKEP_AGENTD_DOCKER_IMAGE_H

#include "agentd/docker/container.h"
#include "agentd/worker/image.h"

enum {
    IMAGE_IDLE_MS_MAX = 60 * 1000,      /* without progress */
    IMAGE_PULL_MS_MAX = 30 * 60 * 1000, /* the whole pull, while it makes progress */
    IMAGE_LINE_BYTES_MAX = 64 << 10,    /* one progress object */
    IMAGE_PULL_BYTES_MAX = 64 << 20,    /* all progress of one pull */
};

/* 200 or 404; full: as image_ref_full() gives it. */
struct engine_call *image_inspect(struct engine *en, const char *full, struct docker_reply to,
                                  struct err *e) MUST_CHECK;

struct image_config { /* what a container of it runs; both may be empty */
    char **entrypoint, **cmd;
    size_t entrypoint_count, cmd_count;
};
/* A 200 of image_inspect(). */
int image_parse_config(const struct engine_response *r, struct image_config *ret,
                       struct err *e) MUST_CHECK;
void image_config_deinit(struct image_config *c);

struct image_pull;
/* rc 0, or -ERR_* with why: NOT_FOUND, PERMISSION, … as far as the engine tells; TIMEOUT and
 * UNAVAILABLE may pass. Not called after image_pull_cancel(). */
typedef void image_pull_fn(void *ctx, int rc, const struct err *why);

struct image_pull *image_pull_start(struct engine *en, const struct image_ref *ref,
                                    const char *registry_auth, image_pull_fn *done, void *ctx);
void image_pull_cancel(struct image_pull *p);

/* The progress stream as a value, for tests: feed bytes, then end it. */
struct pull_stream {
    struct buf line;
    size_t total;
    bool failed;
    struct err why;
};
void pull_stream_init(struct pull_stream *s);
void pull_stream_deinit(struct pull_stream *s);
/* -ERR_TOO_BIG beyond a limit, -ERR_PROTO for what is no JSON. */
int pull_stream_feed(struct pull_stream *s, const char *data, size_t size) MUST_CHECK;
/* 0 when the stream told of no error. */
int pull_stream_end(struct pull_stream *s) MUST_CHECK;

#endif
