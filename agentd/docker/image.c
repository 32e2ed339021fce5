#include "agentd/docker/image.h"

#include <stdlib.h>
#include <string.h>

#include "agentd/docker/json.h"
#include "agentd/worker/container.h"
#include "agentd/worker/plain.h"

struct engine_call *image_inspect(struct engine *en, const char *full, struct docker_reply to,
                                  struct err *e)
{
    char path[IMAGE_REPO_BYTES_MAX + IMAGE_TAG_BYTES_MAX + 64];
    struct engine_request q = { .method = "GET",
                                .path = path,
                                .deadline_ms = CONTAINER_LOOK_MS_MAX,
                                .done = to.done,
                                .ctx = to.ctx };

    /* image_ref_parse() let only characters pass that a path may contain */
    plain_format(path, sizeof(path), "/images/%s/json", full);
    return engine_call_start(en, &q, e);
}

/* ---- what it runs ---- */

/* A list of strings; engines also store null, and very old ones a single string. */
static size_t take_strings(const json_t *o, char ***ret)
{
    size_t size = json_is_string(o) ? 1 : json_array_size(o), count = 0;

    size = MIN(size, (size_t)CONTAINER_ARGS_MAX);
    *ret = xcalloc(size + 1, sizeof(**ret));
    for (size_t i = 0; i < size; i++) {
        const json_t *item = json_is_string(o) ? o : json_array_get(o, i);

        if (json_is_string(item))
            (*ret)[count++] = xstrdup(json_string_value(item));
    }
    return count;
}

int image_parse_config(const struct engine_response *r, struct image_config *ret, struct err *e)
{
    json_t *o = docker_json_parse(r->body, r->size, e);
    const json_t *config = docker_json_get(o, "Config");

    if (o == NULL)
        return -ERR_PROTO;
    ret->entrypoint_count = take_strings(docker_json_get(config, "Entrypoint"), &ret->entrypoint);
    ret->cmd_count = take_strings(docker_json_get(config, "Cmd"), &ret->cmd);
    json_decref(o);
    return 0;
}

void image_config_deinit(struct image_config *c)
{
    for (size_t i = 0; i < c->entrypoint_count; i++)
        free(c->entrypoint[i]);
    for (size_t i = 0; i < c->cmd_count; i++)
        free(c->cmd[i]);
    free(c->entrypoint);
    free(c->cmd);
    memset(c, 0, sizeof(*c));
}

/* ---- the progress stream ---- */

void pull_stream_init(struct pull_stream *s)
{
    memset(s, 0, sizeof(*s));
    buf_init(&s->line, IMAGE_LINE_BYTES_MAX);
}

void pull_stream_deinit(struct pull_stream *s)
{
    buf_deinit(&s->line);
}

/* One object: only an error in it matters; the first one stays. */
static int pull_stream_line(struct pull_stream *s)
{
    json_t *o;
    const char *text;

    if (s->line.size == 0 || strspn(buf_str(&s->line), " \r\t") == s->line.size)
        return 0;
    o = docker_json_parse(buf_str(&s->line), s->line.size, &s->why);
    if (o == NULL)
        return -ERR_PROTO;
    text = docker_json_str(o, "error");
    if (text[0] == '\0')
        text = docker_json_str(docker_json_get(o, "errorDetail"), "message");
    if (text[0] != '\0' && !s->failed) {
        s->failed = true;
        (void)err_set(&s->why, ERR_NOT_FOUND, "%s", text);
        plain_cut(s->why.message);
        plain_clean(s->why.message);
    }
    json_decref(o);
    return 0;
}

int pull_stream_feed(struct pull_stream *s, const char *data, size_t size)
{
    s->total += size;
    if (s->total > IMAGE_PULL_BYTES_MAX)
        return -ERR_TOO_BIG;
    while (size > 0) {
        const char *end = memchr(data, '\n', size);
        size_t part = end == NULL ? size : (size_t)(end - data);
        int rc = buf_append(&s->line, data, part);

        if (rc < 0 || end == NULL)
            return rc;
        rc = pull_stream_line(s);
        if (rc < 0)
            return rc;
        buf_clear(&s->line);
        data += part + 1;
        size -= part + 1;
    }
    return 0;
}

int pull_stream_end(struct pull_stream *s)
{
    int rc = pull_stream_line(s);

    if (rc < 0)
        return rc;
    return s->failed ? -s->why.code : 0;
}

/* ---- the call ---- */

struct image_pull {
    struct engine_call *call;
    struct pull_stream stream;
    image_pull_fn *done;
    void *ctx;
};

static void pull_free(struct image_pull *p)
{
    pull_stream_deinit(&p->stream);
    free(p);
}

static int pull_data(void *ctx, const char *data, size_t size)
{
    struct image_pull *p = ctx;

    return pull_stream_feed(&p->stream, data, size);
}

static void pull_done(void *ctx, const struct engine_response *r)
{
    struct image_pull *p = ctx;
    struct err why = r->err;
    int rc = r->rc;

    if (rc == 0 && r->status == 404)
        rc = -ERR_NOT_FOUND;
    else if (rc == 0 && r->status >= 400)
        rc = -ERR_INTERNAL;
    else if (rc == 0) {
        rc = pull_stream_end(&p->stream);
        why = p->stream.why;
    }
    if (rc < 0)
        why.code = -rc;
    p->done(p->ctx, rc, &why);
    pull_free(p);
}

struct image_pull *image_pull_start(struct engine *en, const struct image_ref *ref,
                                    const char *registry_auth, image_pull_fn *done, void *ctx)
{
    CLEANUP_BUF struct buf path = BUF_INIT(ENGINE_PATH_BYTES_MAX);
    struct image_pull *p = xcalloc(1, sizeof(*p));
    struct engine_request q = { .method = "POST",
                                .registry_auth = registry_auth,
                                .deadline_ms = IMAGE_PULL_MS_MAX,
                                .idle_ms = IMAGE_IDLE_MS_MAX,
                                .on_data = pull_data,
                                .done = pull_done,
                                .ctx = p };

    pull_stream_init(&p->stream);
    p->done = done;
    p->ctx = ctx;
    if (buf_append_str(&path, "/images/create?fromImage=") == 0 &&
        url_append(&path, ref->repo) == 0 && buf_append_str(&path, "&tag=") == 0 &&
        url_append(&path, ref->tag) == 0) {
        q.path = buf_str(&path);
        p->call = engine_call_start(en, &q, NULL);
    }
    if (p->call == NULL) {
        pull_free(p);
        return NULL;
    }
    return p;
}

void image_pull_cancel(struct image_pull *p)
{
    if (p == NULL)
        return;
    engine_call_cancel(p->call);
    pull_free(p);
}
