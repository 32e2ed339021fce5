#include "agentd/docker/events.h"

#include <stdlib.h>
#include <string.h>

#include "agentd/docker/json.h"
#include "agentd/worker/container.h"
#include "agentd/worker/plain.h"
#include "common/assert.h"

struct events {
    struct events_options o;
    char *path;
    struct engine_call *call;
    struct buf line;
    struct loop_timer retry;
    uint32_t retry_ms;
    uint64_t window_ms;
    uint32_t window_count;
};

static void events_start(struct events *ev);

bool events_parse(const char *line, size_t size, char ret_id[CONTAINER_ID_CHARS + 1],
                  char ret_task_id[ID_CHARS + 1])
{
    json_t *o = docker_json_parse(line, size, NULL);
    const json_t *actor = docker_json_get(o, "Actor");
    const char *id = docker_json_str(actor, "ID");
    const char *task = docker_json_str(docker_json_get(actor, "Attributes"), LABEL_TASK_ID);
    bool matters = strcmp(docker_json_str(o, "Type"), "container") == 0 && container_id_valid(id);

    if (matters) {
        plain_format(ret_id, CONTAINER_ID_CHARS + 1, "%s", id);
        plain_format(ret_task_id, ID_CHARS + 1, "%s", id_valid(task) ? task : "");
    }
    json_decref(o);
    return matters;
}

static void events_head(void *ctx)
{
    struct events *ev = ctx;

    ev->retry_ms = EVENTS_RETRY_MS_MIN;
    ev->o.up(ev->o.ctx);
}

static int event_line(struct events *ev)
{
    char id[CONTAINER_ID_CHARS + 1], task_id[ID_CHARS + 1];
    uint64_t now_ms = loop_now_ms(ev->o.loop);

    if (now_ms >= ev->window_ms + EVENTS_WINDOW_MS) {
        ev->window_ms = now_ms;
        ev->window_count = 0;
    }
    if (++ev->window_count > EVENTS_PER_WINDOW_MAX)
        return -ERR_RATE;
    if (events_parse(buf_str(&ev->line), ev->line.size, id, task_id))
        ev->o.hint(ev->o.ctx, id, task_id);
    return 0;
}

static int events_data(void *ctx, const char *data, size_t size)
{
    struct events *ev = ctx;

    while (size > 0) {
        const char *end = memchr(data, '\n', size);
        size_t part = end == NULL ? size : (size_t)(end - data);
        int rc = buf_append(&ev->line, data, part);

        if (rc < 0 || end == NULL)
            return rc;
        rc = event_line(ev);
        if (rc < 0)
            return rc;
        buf_clear(&ev->line);
        data += part + 1;
        size -= part + 1;
    }
    return 0;
}

static void retry_fired(void *ctx, uint64_t now_ms)
{
    (void)now_ms;
    events_start(ctx);
}

static void events_later(struct events *ev)
{
    loop_timer_set(ev->o.loop, &ev->retry, loop_now_ms(ev->o.loop) + ev->retry_ms, retry_fired, ev);
    ev->retry_ms = MIN(ev->retry_ms * 2, (uint32_t)EVENTS_RETRY_MS_MAX);
}

static void events_done(void *ctx, const struct engine_response *r)
{
    struct events *ev = ctx;
    struct err why = r->err;

    ev->call = NULL;
    if (why.message[0] == '\0')
        (void)err_set(&why, ERR_UNAVAILABLE, "engine closed the event stream");
    ev->o.down(ev->o.ctx, &why);
    events_later(ev);
}

static void events_start(struct events *ev)
{
    struct engine_request q = { .method = "GET",
                                .path = ev->path,
                                .on_head = events_head,
                                .on_data = events_data,
                                .once = true,
                                .done = events_done,
                                .ctx = ev };

    loop_timer_cancel(ev->o.loop, &ev->retry);
    buf_clear(&ev->line);
    ev->call = engine_call_start(ev->o.engine, &q, NULL);
    if (ev->call == NULL)
        events_later(ev);
}

struct events *events_new(const struct events_options *o)
{
    CLEANUP_BUF struct buf path = BUF_INIT(ENGINE_PATH_BYTES_MAX);
    struct events *ev = xcalloc(1, sizeof(*ev));
    char filters[512];

    plain_format(filters, sizeof(filters),
                 "{\"type\":[\"container\"],\"label\":[\"%s=%s\",\"%s=%s\"],"
                 "\"event\":[\"start\",\"die\",\"oom\",\"destroy\",\"health_status\"]}",
                 LABEL_CLUSTER, o->cluster_id, LABEL_NODE_ID, o->node_id);
    if (buf_append_str(&path, "/events?filters=") < 0 || url_append(&path, filters) < 0)
        UNREACHABLE(); /* ids are short */
    ev->o = *o;
    ev->path = xstrdup(buf_str(&path));
    ev->retry_ms = EVENTS_RETRY_MS_MIN;
    buf_init(&ev->line, EVENTS_LINE_BYTES_MAX);
    events_start(ev);
    return ev;
}

void events_free(struct events *ev)
{
    if (ev == NULL)
        return;
    engine_call_cancel(ev->call);
    loop_timer_cancel(ev->o.loop, &ev->retry);
    buf_deinit(&ev->line);
    free(ev->path);
    free(ev);
}

void events_kick(struct events *ev)
{
    if (ev->call == NULL)
        events_start(ev);
}
