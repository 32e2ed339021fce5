/* A container's log as lines: the engine's stream with its 8-byte frames (docker_api.md §2.7), or
 * the raw stream of a container with a terminal, each line starting with its time. Loop thread; the
 * demultiplexer is a value of its own. */
#ifndef SKEP_AGENTD_DOCKER_LOGS_H
#define SKEP_AGENTD_DOCKER_LOGS_H

#include "agentd/docker/container.h"

enum {
    LOGS_FRAME_BYTES_MAX = 1 << 20, /* the engine cuts lines at 16 KiB */
    LOGS_LINE_BYTES_MAX = 64 << 10, /* longer lines are handed out in pieces */
    LOGS_IDLE_MS_MAX = 60 * 1000,   /* silence of a stream that does not follow */
};

struct log_line {
    int64_t timestamp_ns; /* 0 when the engine gave none */
    bool is_stderr;
    const char *data; /* without the line's end */
    size_t size;
};
/* Must not free the stream it comes from. line is borrowed. */
typedef void log_line_fn(void *ctx, const struct log_line *line);

struct log_demux {
    bool tty;
    uint8_t header[8];
    unsigned header_size;
    uint8_t stream; /* of the current frame */
    uint32_t frame_left;
    struct buf line[2]; /* stdout, stderr */
    log_line_fn *fn;
    void *ctx;
};
void log_demux_init(struct log_demux *d, bool tty, log_line_fn *fn, void *ctx);
void log_demux_deinit(struct log_demux *d);
/* -ERR_PROTO for a frame of an unknown kind or beyond LOGS_FRAME_BYTES_MAX. */
int log_demux_feed(struct log_demux *d, const char *data, size_t size) MUST_CHECK;
/* Hands out what was not ended by a newline. */
void log_demux_end(struct log_demux *d);

struct log_options {
    const char *container_id;
    bool tty, follow, no_stdout, no_stderr;
    int64_t tail;     /* lines; negative = all */
    int64_t since_ns; /* 0 = from the start */
};
struct log_stream;
/* rc 0: the log ended. Not called after log_stream_free(). */
typedef void log_done_fn(void *ctx, int rc, const struct err *why);

struct log_stream *log_stream_start(struct engine *en, const struct log_options *o,
                                    log_line_fn *line, log_done_fn *done, void *ctx);
void log_stream_free(struct log_stream *s);
void log_stream_pause(struct log_stream *s);
void log_stream_resume(struct log_stream *s);

#endif
