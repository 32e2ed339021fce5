#include "agentd/docker/logs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/worker/plain.h"
#include "common/assert.h"
#include "common/text.h"

/* ---- demultiplexing ---- */

void log_demux_init(struct log_demux *d, bool tty, log_line_fn *fn, void *ctx)
{
    memset(d, 0, sizeof(*d));
    d->tty = tty;
    d->fn = fn;
    d->ctx = ctx;
    buf_init(&d->line[0], LOGS_LINE_BYTES_MAX);
    buf_init(&d->line[1], LOGS_LINE_BYTES_MAX);
}

void log_demux_deinit(struct log_demux *d)
{
    buf_deinit(&d->line[0]);
    buf_deinit(&d->line[1]);
}

/* "2026-11-21T00:33:31.894552085Z text": cuts the time off. */
static void take_time(struct log_line *l)
{
    char text[TEXT_TIME_MAX];
    const char *space = memchr(l->data, ' ', MIN(l->size, sizeof(text)));
    size_t size = space == NULL ? l->size : (size_t)(space - l->data);

    if (size < 20 || size >= sizeof(text) || l->data[4] != '-')
        return;
    memcpy(text, l->data, size);
    text[size] = '\0';
    if (text_parse_time(text, &l->timestamp_ns, NULL) < 0)
        return;
    size += space == NULL ? 0 : 1;
    l->data += size;
    l->size -= size;
}

static void hand_out(struct log_demux *d, bool is_stderr)
{
    struct buf *b = &d->line[is_stderr];
    struct log_line l = { .is_stderr = is_stderr, .data = buf_str(b), .size = b->size };

    if (l.size > 0 && l.data[l.size - 1] == '\r')
        l.size--;
    take_time(&l);
    d->fn(d->ctx, &l);
    buf_clear(b);
}

static void take_text(struct log_demux *d, bool is_stderr, const char *data, size_t size)
{
    struct buf *b = &d->line[is_stderr];

    while (size > 0) {
        const char *end = memchr(data, '\n', size);
        size_t part = end == NULL ? size : (size_t)(end - data);
        size_t room = LOGS_LINE_BYTES_MAX - b->size, take = MIN(part, room);

        if (buf_append(b, data, take) < 0)
            UNREACHABLE(); /* take fits */
        data += take;
        size -= take;
        if (take < part) {
            hand_out(d, is_stderr); /* a piece; the rest follows as a line of its own */
        } else if (end != NULL) {
            hand_out(d, is_stderr);
            data++;
            size--;
        }
    }
}

/* docker_api.md §2.7: stream, 0, 0, 0, length in network order. */
static int take_header(struct log_demux *d)
{
    const uint8_t *h = d->header;

    d->stream = h[0];
    d->frame_left = (uint32_t)h[4] << 24 | (uint32_t)h[5] << 16 | (uint32_t)h[6] << 8 | h[7];
    d->header_size = 0;
    if (d->stream > 3 || h[1] != 0 || h[2] != 0 || h[3] != 0 ||
        d->frame_left > LOGS_FRAME_BYTES_MAX)
        return -ERR_PROTO;
    return 0;
}

int log_demux_feed(struct log_demux *d, const char *data, size_t size)
{
    if (d->tty) {
        take_text(d, false, data, size);
        return 0;
    }
    while (size > 0) {
        size_t part;

        if (d->frame_left > 0) {
            part = MIN(size, (size_t)d->frame_left);
            take_text(d, d->stream >= 2, data, part);
            d->frame_left -= (uint32_t)part;
        } else {
            part = MIN(size, sizeof(d->header) - d->header_size);
            memcpy(d->header + d->header_size, data, part);
            d->header_size += (unsigned)part;
            if (d->header_size == sizeof(d->header) && take_header(d) < 0)
                return -ERR_PROTO;
        }
        data += part;
        size -= part;
    }
    return 0;
}

void log_demux_end(struct log_demux *d)
{
    for (int i = 0; i < 2; i++)
        if (d->line[i].size > 0)
            hand_out(d, i == 1);
}

/* ---- the call ---- */

struct log_stream {
    struct engine_call *call;
    struct log_demux demux;
    log_done_fn *done;
    void *ctx;
};

static int stream_data(void *ctx, const char *data, size_t size)
{
    struct log_stream *s = ctx;

    return log_demux_feed(&s->demux, data, size);
}

static void stream_done(void *ctx, const struct engine_response *r)
{
    struct log_stream *s = ctx;
    int rc = r->rc;

    s->call = NULL;
    if (rc == 0 && r->status >= 400)
        rc = r->status == 404 ? -ERR_NOT_FOUND : -ERR_INTERNAL;
    if (rc == 0)
        log_demux_end(&s->demux);
    s->done(s->ctx, rc, &r->err);
}

struct log_stream *log_stream_start(struct engine *en, const struct log_options *o,
                                    log_line_fn *line, log_done_fn *done, void *ctx)
{
    CLEANUP_BUF struct buf path = BUF_INIT(ENGINE_PATH_BYTES_MAX);
    struct log_stream *s = xcalloc(1, sizeof(*s));
    struct engine_request q = { .method = "GET",
                                .idle_ms = o->follow ? 0 : LOGS_IDLE_MS_MAX,
                                .on_data = stream_data,
                                .done = stream_done,
                                .ctx = s };
    int rc = buf_printf(&path, "/containers/%s/logs?timestamps=1&stdout=%d&stderr=%d&follow=%d",
                        o->container_id, !o->no_stdout, !o->no_stderr, o->follow);

    if (rc == 0 && o->tail >= 0)
        rc = buf_printf(&path, "&tail=%" PRId64, o->tail);
    if (rc == 0 && o->since_ns > 0)
        rc = buf_printf(&path, "&since=%" PRId64 ".%09" PRId64, o->since_ns / TEXT_NS_PER_S,
                        o->since_ns % TEXT_NS_PER_S);
    log_demux_init(&s->demux, o->tty, line, ctx);
    s->done = done;
    s->ctx = ctx;
    q.path = buf_str(&path);
    s->call = rc < 0 ? NULL : engine_call_start(en, &q, NULL);
    if (s->call == NULL) {
        log_stream_free(s);
        return NULL;
    }
    return s;
}

void log_stream_free(struct log_stream *s)
{
    if (s == NULL)
        return;
    engine_call_cancel(s->call);
    log_demux_deinit(&s->demux);
    free(s);
}

void log_stream_pause(struct log_stream *s)
{
    if (s->call != NULL)
        engine_call_pause(s->call);
}

void log_stream_resume(struct log_stream *s)
{
    if (s->call != NULL)
        engine_call_resume(s->call);
}
