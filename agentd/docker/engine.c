/* How a call ends: libcurl reports it in engine_pump(), or its timer fires, or it is cancelled.
 * libcurl must not be entered from its own callbacks, so whatever on_data asks for (start, cancel,
 * pause, resume) is noted and carried out by the next engine_pump(), which runs after every entry
 * into libcurl. */
#include "agentd/docker/engine.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "agentd/docker/json.h"
#include "common/assert.h"
#include "common/buf.h"

struct engine_call {
    struct engine *en;
    struct engine_call *prev, *next;
    CURL *easy;
    struct curl_slist *headers;
    struct buf body;
    struct loop_timer timer;
    char *request_body, *url;
    uint64_t deadline_at_ms; /* 0 = none */
    uint64_t heard_at_ms;
    uint32_t idle_ms;
    size_t header_bytes;
    engine_head_fn *on_head;
    engine_data_fn *on_data;
    engine_done_fn *done;
    void *ctx;
    int abort_rc; /* set by our callbacks when they stop the transfer */
    bool added, canceled, paused, stalled;
    bool is_ping;
};

struct engine {
    struct loop *loop;
    CURLM *multi;
    char *socket_path;
    struct loop_timer curl_timer, kick;
    struct engine_call *calls;
    uint32_t call_count, version;
    unsigned depth; /* > 0 while inside libcurl or a callback */
};

static void engine_pump(struct engine *en);

static void kick_fired(void *ctx, uint64_t now_ms)
{
    (void)now_ms;
    engine_pump(ctx);
}

/* Schedules engine_pump() for the next iteration of the loop. */
static void engine_kick(struct engine *en)
{
    loop_timer_set(en->loop, &en->kick, loop_now_ms(en->loop), kick_fired, en);
}

/* ---- libcurl's view of the loop ---- */

static void engine_act(struct engine *en, curl_socket_t fd, int mask)
{
    int running;

    en->depth++;
    (void)curl_multi_socket_action(en->multi, fd, mask, &running);
    en->depth--;
    engine_pump(en);
}

static void socket_ready(void *ctx, int fd, uint32_t events)
{
    int mask = 0;

    if (events & (EPOLLIN | EPOLLHUP))
        mask |= CURL_CSELECT_IN;
    if (events & EPOLLOUT)
        mask |= CURL_CSELECT_OUT;
    if (events & EPOLLERR)
        mask |= CURL_CSELECT_ERR;
    engine_act(ctx, fd, mask);
}

static int socket_changed(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
    struct engine *en = ctx;
    uint32_t events = (what & CURL_POLL_IN ? (uint32_t)EPOLLIN : 0u) |
                      (what & CURL_POLL_OUT ? (uint32_t)EPOLLOUT : 0u);

    (void)easy;
    (void)socket_ctx;
    if (what == CURL_POLL_REMOVE) {
        loop_unwatch_fd(en->loop, fd);
        return 0;
    }
    return loop_watch_fd(en->loop, fd, events, socket_ready, en) < 0 ? -1 : 0;
}

static void curl_timer_fired(void *ctx, uint64_t now_ms)
{
    (void)now_ms;
    engine_act(ctx, CURL_SOCKET_TIMEOUT, 0);
}

static int timer_changed(CURLM *multi, long timeout_ms, void *ctx)
{
    struct engine *en = ctx;

    (void)multi;
    if (timeout_ms < 0)
        loop_timer_cancel(en->loop, &en->curl_timer);
    else
        loop_timer_set(en->loop, &en->curl_timer, loop_now_ms(en->loop) + (uint64_t)timeout_ms,
                       curl_timer_fired, en);
    return 0;
}

/* ---- a call's life ---- */

static void call_unlink(struct engine_call *c)
{
    struct engine *en = c->en;

    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        en->calls = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    en->call_count--;
}

static void call_free(struct engine_call *c)
{
    loop_timer_cancel(c->en->loop, &c->timer);
    if (c->added)
        (void)curl_multi_remove_handle(c->en->multi, c->easy);
    curl_easy_cleanup(c->easy);
    curl_slist_free_all(c->headers);
    call_unlink(c);
    buf_deinit(&c->body);
    free(c->request_body);
    free(c->url);
    free(c);
}

static unsigned call_status(const struct engine_call *c)
{
    long status = 0;

    (void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    return status < 0 || status > 999 ? 0 : (unsigned)status;
}

/* Ends a call outside of libcurl: frees it, then tells its owner. */
static void call_finish(struct engine_call *c, int rc, const struct err *why)
{
    struct engine *en = c->en;
    struct engine_response r = { .rc = rc, .body = "" };
    struct buf body = c->body;
    engine_done_fn *done = c->done;
    void *ctx = c->ctx;

    if (rc == 0) {
        r.status = call_status(c);
        r.body = buf_str(&body);
        r.size = body.size;
        if (r.status >= 400)
            (void)docker_json_error(r.body, r.size, r.status, ERR_INTERNAL, &r.err);
    } else if (why != NULL) {
        r.err = *why;
    }
    c->body = (struct buf)BUF_INIT(0);
    call_free(c);
    en->depth++;
    done(ctx, &r);
    en->depth--;
    buf_deinit(&body);
}

static void call_arm(struct engine_call *c);

static void call_timer_fired(void *ctx, uint64_t now_ms)
{
    struct engine_call *c = ctx;
    struct engine *en = c->en;
    struct err e = { 0 };

    if (c->deadline_at_ms != 0 && now_ms >= c->deadline_at_ms) {
        (void)err_set(&e, ERR_TIMEOUT, "engine did not answer in time");
    } else if (c->idle_ms != 0 && !c->paused && now_ms >= c->heard_at_ms + c->idle_ms) {
        (void)err_set(&e, ERR_TIMEOUT, "engine was silent for %u s", c->idle_ms / 1000);
    } else {
        call_arm(c);
        return;
    }
    call_finish(c, -ERR_TIMEOUT, &e);
    engine_pump(en);
}

/* The timer is not moved with every received byte: when it fires early it is set again. */
static void call_arm(struct engine_call *c)
{
    uint64_t at_ms = UINT64_MAX;

    if (c->deadline_at_ms != 0)
        at_ms = c->deadline_at_ms;
    if (c->idle_ms != 0 && !c->paused)
        at_ms = MIN(at_ms, c->heard_at_ms + c->idle_ms);
    if (at_ms == UINT64_MAX)
        loop_timer_cancel(c->en->loop, &c->timer);
    else
        loop_timer_set(c->en->loop, &c->timer, at_ms, call_timer_fired, c);
}

static size_t header_received(char *data, size_t unit, size_t size, void *ctx)
{
    struct engine_call *c = ctx;

    size *= unit;
    c->header_bytes += size;
    c->heard_at_ms = loop_now_ms(c->en->loop);
    if (c->header_bytes > ENGINE_HEADER_BYTES_MAX) {
        c->abort_rc = -ERR_TOO_BIG;
        return 0;
    }
    if (c->on_head != NULL && !c->canceled && size <= 2 && data[0] == '\r' &&
        call_status(c) >= 200 && call_status(c) < 300) {
        c->on_head(c->ctx);
        c->on_head = NULL;
    }
    return size;
}

static size_t body_received(char *data, size_t unit, size_t size, void *ctx)
{
    struct engine_call *c = ctx;
    int rc;

    if (c->canceled)
        return 0;
    if (c->paused) {
        c->stalled = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    size *= unit;
    c->heard_at_ms = loop_now_ms(c->en->loop);
    if (c->on_data != NULL && call_status(c) < 300)
        rc = c->on_data(c->ctx, data, size);
    else
        rc = buf_append(&c->body, data, size);
    if (rc < 0)
        c->abort_rc = rc;
    return rc < 0 || c->canceled ? 0 : size;
}

/* What libcurl's result means; refused connections and cut answers are the same to callers. */
static int call_result(const struct engine_call *c, CURLcode code, struct err *e)
{
    if (c->abort_rc != 0)
        return err_set(e, (enum err_code) - c->abort_rc, "answer refused: %s",
                       err_str(c->abort_rc));
    if (code == CURLE_OK)
        return call_status(c) == 0 ? err_set(e, ERR_PROTO, "no HTTP status") : 0;
    if (code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_WEIRD_SERVER_REPLY ||
        code == CURLE_BAD_CONTENT_ENCODING)
        return err_set(e, ERR_PROTO, "engine's answer is not HTTP: %s", curl_easy_strerror(code));
    return err_set(e, ERR_UNAVAILABLE, "engine: %s", curl_easy_strerror(code));
}

static struct engine_call *call_of(CURL *easy)
{
    char *c = NULL;

    (void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &c);
    return (struct engine_call *)c;
}

static void engine_finish_done(struct engine *en)
{
    CURLMsg *m;
    int left;

    while ((m = curl_multi_info_read(en->multi, &left)) != NULL) {
        struct engine_call *c = call_of(m->easy_handle);
        struct err e = { 0 };

        if (m->msg != CURLMSG_DONE)
            continue;
        if (c->canceled)
            call_free(c);
        else
            call_finish(c, call_result(c, m->data.result, &e), &e);
    }
}

/* Carries out what callbacks asked for. Calls are few (ENGINE_CALLS_MAX), the list is short. */
static void engine_carry_out(struct engine *en)
{
    struct engine_call *c = en->calls;

    while (c != NULL) {
        struct engine_call *next = c->next;

        if (c->canceled) {
            call_free(c);
        } else if (!c->added) {
            c->added = curl_multi_add_handle(en->multi, c->easy) == CURLM_OK;
            if (!c->added) {
                struct err e = { 0 };

                (void)err_set(&e, ERR_INTERNAL, "curl_multi_add_handle failed");
                call_finish(c, -ERR_INTERNAL, &e);
                engine_kick(en); /* the list may have changed under us */
                return;
            }
        } else if (c->stalled && !c->paused) {
            c->stalled = false;
            en->depth++;
            (void)curl_easy_pause(c->easy, CURLPAUSE_CONT);
            en->depth--;
            engine_kick(en);
            return;
        }
        c = next;
    }
}

static void engine_pump(struct engine *en)
{
    if (en->depth > 0) {
        engine_kick(en);
        return;
    }
    engine_finish_done(en);
    engine_carry_out(en);
}

/* ---- starting ---- */

static int call_url(const struct engine *en, const struct engine_request *q, char **ret_url,
                    struct err *e)
{
    if (strlen(q->path) > ENGINE_PATH_BYTES_MAX)
        return err_set(e, ERR_TOO_BIG, "engine path longer than %d bytes", ENGINE_PATH_BYTES_MAX);
    if (q->unversioned)
        *ret_url = xasprintf("http://docker%s", q->path);
    else if (en->version == 0)
        return err_set(e, ERR_UNAVAILABLE, "engine is not reachable");
    else
        *ret_url =
            xasprintf("http://docker/v%u.%u%s", en->version / 100, en->version % 100, q->path);
    return 0;
}

static void call_headers(struct engine_call *c, const struct engine_request *q)
{
    c->headers = curl_slist_append(NULL, "User-Agent: skep/" SKEP_VERSION);
    c->headers = curl_slist_append(c->headers, "Expect:");
    if (q->body != NULL)
        c->headers = curl_slist_append(c->headers, "Content-Type: application/json");
    if (q->registry_auth != NULL && q->registry_auth[0] != '\0') {
        char *line = xasprintf("X-Registry-Auth: %s", q->registry_auth);

        c->headers = curl_slist_append(c->headers, line);
        xfree_secret(line, strlen(line));
    }
}

static void call_method(struct engine_call *c, const struct engine_request *q)
{
    CURL *h = c->easy;

    if (strcmp(q->method, "HEAD") == 0) {
        (void)curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
    } else if (strcmp(q->method, "POST") == 0) {
        (void)curl_easy_setopt(h, CURLOPT_POST, 1L);
        c->request_body = xstrdup(q->body == NULL ? "" : q->body);
        (void)curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(c->request_body));
        (void)curl_easy_setopt(h, CURLOPT_POSTFIELDS, c->request_body);
    } else if (strcmp(q->method, "GET") != 0) {
        (void)curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, q->method);
    }
}

static void call_options(struct engine_call *c, const struct engine_request *q)
{
    CURL *h = c->easy;

    (void)curl_easy_setopt(h, CURLOPT_PRIVATE, c);
    (void)curl_easy_setopt(h, CURLOPT_URL, c->url);
    (void)curl_easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, c->en->socket_path);
    (void)curl_easy_setopt(h, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http");
    (void)curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(h, CURLOPT_UPLOAD_BUFFERSIZE, 16384L);
    (void)curl_easy_setopt(h, CURLOPT_HTTPHEADER, c->headers);
    (void)curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, header_received);
    (void)curl_easy_setopt(h, CURLOPT_HEADERDATA, c);
    (void)curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, body_received);
    (void)curl_easy_setopt(h, CURLOPT_WRITEDATA, c);
    if (q->once)
        (void)curl_easy_setopt(h, CURLOPT_FRESH_CONNECT, 1L);
    call_method(c, q);
}

struct engine_call *engine_call_start(struct engine *en, const struct engine_request *q,
                                      struct err *e)
{
    struct engine_call *c;
    char *url = NULL;

    ASSERT(q->deadline_ms != 0 || q->idle_ms != 0 || q->on_data != NULL);
    ASSERT(q->done != NULL);
    if (en->call_count >= ENGINE_CALLS_MAX) {
        (void)err_set(e, ERR_BUSY, "more than %d calls to the engine", ENGINE_CALLS_MAX);
        return NULL;
    }
    if (call_url(en, q, &url, e) < 0)
        return NULL;
    c = xcalloc(1, sizeof(*c));
    c->en = en;
    c->url = url;
    c->easy = curl_easy_init();
    ASSERT(c->easy != NULL); /* fails for want of memory only */
    buf_init(&c->body, q->on_data != NULL       ? ENGINE_ERROR_BYTES_MAX
                       : q->body_bytes_max != 0 ? q->body_bytes_max
                                                : ENGINE_BODY_BYTES_MAX);
    c->on_head = q->on_head;
    c->on_data = q->on_data;
    c->done = q->done;
    c->ctx = q->ctx;
    c->idle_ms = q->idle_ms;
    c->heard_at_ms = loop_now_ms(en->loop);
    c->deadline_at_ms = q->deadline_ms == 0 ? 0 : c->heard_at_ms + q->deadline_ms;
    call_headers(c, q);
    call_options(c, q);
    c->next = en->calls;
    if (c->next != NULL)
        c->next->prev = c;
    en->calls = c;
    en->call_count++;
    call_arm(c);
    engine_kick(en);
    return c;
}

void engine_call_cancel(struct engine_call *c)
{
    if (c == NULL)
        return;
    c->canceled = true;
    loop_timer_cancel(c->en->loop, &c->timer);
    engine_kick(c->en);
}

void engine_call_pause(struct engine_call *c)
{
    c->paused = true;
}

void engine_call_resume(struct engine_call *c)
{
    c->paused = false;
    if (c->canceled)
        return;
    c->heard_at_ms = loop_now_ms(c->en->loop);
    call_arm(c);
    if (c->stalled)
        engine_kick(c->en);
}

/* ---- version negotiation ---- */

struct engine_ping_call {
    struct engine *en;
    engine_done_fn *done;
    void *ctx;
    struct engine_call *call;
    char version[16];
};

/* "1.41" as 141, 0 for anything else. */
static unsigned version_parse(const char *text)
{
    unsigned major = 0, minor = 0, digits = 0;

    while (*text >= '0' && *text <= '9' && digits++ < 2)
        major = major * 10 + (unsigned)(*text++ - '0');
    if (digits == 0 || *text++ != '.')
        return 0;
    digits = 0;
    while (*text >= '0' && *text <= '9' && digits++ < 2)
        minor = minor * 10 + (unsigned)(*text++ - '0');
    return digits == 0 || *text != '\0' ? 0 : major * 100 + minor;
}

static void ping_done(void *ctx, const struct engine_response *r)
{
    struct engine_ping_call *p = ctx;
    struct engine_response answer = *r;
    unsigned version = version_parse(p->version);

    if (r->rc == 0 && r->status == 200 && version >= ENGINE_VERSION_MIN)
        p->en->version = MIN(version, (unsigned)ENGINE_VERSION_MAX);
    else if (r->rc == 0 && r->status == 200)
        answer.rc = err_set(&answer.err, ERR_UNSUPPORTED,
                            "engine speaks API version '%s'; 1.41 or newer is needed", p->version);
    p->done(p->ctx, &answer);
    free(p);
}

static size_t ping_header(char *data, size_t unit, size_t size, void *ctx)
{
    static const char name[] = "api-version:";
    struct engine_ping_call *p = ctx;
    size_t at = sizeof(name) - 1, out = 0;

    size *= unit;
    if (size > at && strncasecmp(data, name, at) == 0) {
        for (; at < size && out < sizeof(p->version) - 1; at++)
            if ((data[at] >= '0' && data[at] <= '9') || data[at] == '.')
                p->version[out++] = data[at];
        p->version[out] = '\0';
    }
    return header_received(data, 1, size, p->call);
}

int engine_ping(struct engine *en, uint32_t deadline_ms, engine_done_fn *done, void *ctx,
                struct err *e)
{
    struct engine_ping_call *p = xcalloc(1, sizeof(*p));
    struct engine_request q = {
        .method = "GET",
        .path = "/_ping",
        .deadline_ms = deadline_ms,
        .body_bytes_max = ENGINE_ERROR_BYTES_MAX,
        .unversioned = true,
        .done = ping_done,
        .ctx = p,
    };

    p->en = en;
    p->done = done;
    p->ctx = ctx;
    p->call = engine_call_start(en, &q, e);
    if (p->call == NULL) {
        free(p);
        return -ERR_BUSY;
    }
    p->call->is_ping = true;
    (void)curl_easy_setopt(p->call->easy, CURLOPT_HEADERFUNCTION, ping_header);
    (void)curl_easy_setopt(p->call->easy, CURLOPT_HEADERDATA, p);
    return 0;
}

/* ---- the engine ---- */

struct engine *engine_new(struct loop *l, const char *socket_path, struct err *e)
{
    struct engine *en;

    if (curl_global_init(CURL_GLOBAL_NOTHING) != CURLE_OK) {
        (void)err_set(e, ERR_INTERNAL, "libcurl does not start");
        return NULL;
    }
    en = xcalloc(1, sizeof(*en));
    en->loop = l;
    en->socket_path = xstrdup(socket_path);
    en->multi = curl_multi_init();
    ASSERT(en->multi != NULL);
    (void)curl_multi_setopt(en->multi, CURLMOPT_SOCKETFUNCTION, socket_changed);
    (void)curl_multi_setopt(en->multi, CURLMOPT_SOCKETDATA, en);
    (void)curl_multi_setopt(en->multi, CURLMOPT_TIMERFUNCTION, timer_changed);
    (void)curl_multi_setopt(en->multi, CURLMOPT_TIMERDATA, en);
    (void)curl_multi_setopt(en->multi, CURLMOPT_MAXCONNECTS, 8L);
    return en;
}

void engine_free(struct engine *en)
{
    if (en == NULL)
        return;
    while (en->calls != NULL) {
        if (en->calls->is_ping)
            free(en->calls->ctx);
        call_free(en->calls);
    }
    loop_timer_cancel(en->loop, &en->kick);
    (void)curl_multi_cleanup(en->multi);
    loop_timer_cancel(en->loop, &en->curl_timer);
    free(en->socket_path);
    free(en);
    curl_global_cleanup();
}

unsigned engine_version(const struct engine *en)
{
    return en->version;
}

uint32_t engine_call_count(const struct engine *en)
{
    return en->call_count;
}
