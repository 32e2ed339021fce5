#include "test/lib/fake_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/mem.h"

static void connection_ready(void *ctx, int fd, uint32_t events);

static void connection_close(struct connection *c)
{
    if (c->fd < 0)
        return;
    loop_unwatch_fd(c->f->loop, c->fd);
    loop_timer_cancel(c->f->loop, &c->drip);
    (void)close(c->fd);
    c->fd = -1;
    buf_deinit(&c->in);
    buf_deinit(&c->out);
}

static void connection_watch(struct connection *c, bool write)
{
    if (loop_watch_fd(c->f->loop, c->fd, EPOLLIN | (write ? (uint32_t)EPOLLOUT : 0u),
                      connection_ready, c) < 0)
        abort();
}

static void must(int rc)
{
    ASSERT(rc == 0);
}

static void connection_write(struct connection *c)
{
    static const char junk[4096] = "flood";

    while (c->fd >= 0) {
        ssize_t n;

        if (c->flood && c->out.size == 0)
            must(buf_append(&c->out, junk, sizeof(junk)));
        if (c->out.size == 0)
            break;
        n = send(c->fd, c->out.data, c->out.size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            connection_watch(c, true);
            return;
        }
        if (n <= 0) {
            connection_close(c);
            return;
        }
        buf_consume(&c->out, (size_t)n);
    }
    if (c->fd < 0)
        return;
    if (c->close_after)
        connection_close(c);
    else
        connection_watch(c, false);
}

static void drip(void *ctx, uint64_t now_ms)
{
    struct connection *c = ctx;

    if (c->drip_left == 0)
        return;
    c->drip_left--;
    must(buf_append_str(&c->out, "x"));
    loop_timer_set(c->f->loop, &c->drip, now_ms + FAKE_DRIP_MS, drip, c);
    connection_write(c);
}

static void chunk(struct connection *c, const char *data)
{
    if (data[0] != '\0')
        must(buf_printf(&c->out, "%zx\r\n%s\r\n", strlen(data), data));
}

static const struct fake_rule *rule_for(struct fake_engine *f, const char *request)
{
    for (unsigned i = f->rule_count; i-- > 0;) {
        struct fake_rule *r = &f->rules[i];

        if (strncmp(request, r->match, strlen(r->match)) != 0 || r->times == UINT32_MAX)
            continue;
        if (r->times > 0 && --r->times == 0)
            r->times = UINT32_MAX;
        return r;
    }
    return NULL;
}

void fake_reply(struct connection *c, unsigned status, const char *body)
{
    if (c->muted)
        return;
    must(buf_printf(&c->out, "HTTP/1.1 %u X\r\nApi-Version: 1.41\r\nContent-Length: %zu\r\n\r\n%s",
                    status, status == 204 || status == 304 ? (size_t)0 : strlen(body),
                    status == 204 || status == 304 ? "" : body));
    connection_write(c);
}

void fake_open(struct connection *c)
{
    if (c->muted)
        return;
    must(buf_append_str(&c->out, "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"));
    c->open = true;
    connection_write(c);
}

void fake_close(struct connection *c)
{
    connection_close(c);
}

static void answer(struct connection *c, const char *request_body)
{
    static const struct fake_rule missing = { .status = 404, .body = "{\"message\":\"no rule\"}" };
    static const struct fake_rule ping = { .body = "OK" };
    bool is_ping = strncmp(c->request, "GET /_ping", 10) == 0;
    const struct fake_rule *r = rule_for(c->f, c->request);
    const char *body;
    unsigned status;

    if (r == NULL && !is_ping && c->f->model) {
        fake_model_answer(c, request_body);
        return;
    }
    if (r == NULL)
        r = is_ping ? &ping : &missing;
    body = r->body == NULL ? "" : r->body;
    status = r->status == 0 ? 200 : r->status;
    if (r->how == FAKE_HANG)
        return;
    if (r->how == FAKE_REFUSE) {
        connection_close(c);
        return;
    }
    if (r->how == FAKE_RAW) {
        must(buf_append_str(&c->out, body));
        c->close_after = true;
    } else {
        must(buf_printf(&c->out, "HTTP/1.1 %u X\r\nApi-Version: 1.41\r\n", status));
        if (r->how == FAKE_OPEN)
            must(buf_append_str(&c->out, "Transfer-Encoding: chunked\r\n\r\n"));
        else
            must(buf_printf(&c->out, "Content-Length: %zu\r\n\r\n",
                            r->how == FAKE_FLOOD  ? (size_t)10 << 30
                            : r->how == FAKE_DRIP ? (size_t)1000000
                                                  : strlen(body) + (r->how == FAKE_CUT)));
        if (r->how == FAKE_OPEN)
            chunk(c, body);
        else
            must(buf_append_str(&c->out, body));
    }
    c->open = r->how == FAKE_OPEN;
    c->flood = r->how == FAKE_FLOOD;
    c->close_after = c->close_after || r->how == FAKE_CUT;
    if (r->how == FAKE_DRIP) {
        c->drip_left = 1000000;
        loop_timer_set(c->f->loop, &c->drip, loop_now_ms(c->f->loop) + FAKE_DRIP_MS, drip, c);
    }
    connection_write(c);
}

/* "POST /v1.41/x HTTP/1.1" to "POST /x". */
static void take_request_line(struct connection *c, const char *head)
{
    const char *space = strchr(head, ' '), *path = space + 1, *end;

    ASSERT(space != NULL);
    if (path[0] == '/' && path[1] == 'v' && path[2] >= '0' && path[2] <= '9')
        path = strchr(path + 1, '/');
    ASSERT(path != NULL);
    end = strchr(path, ' ');
    ASSERT(end != NULL);
    (void)snprintf(c->request, sizeof(c->request), "%.*s %.*s", (int)(space - head), head,
                   (int)(end - path), path);
}

static void take_requests(struct connection *c)
{
    struct fake_engine *f = c->f;
    const char *head, *end, *length;
    size_t head_size, body_size;

    while (c->fd >= 0 && (head = buf_str(&c->in), end = strstr(head, "\r\n\r\n")) != NULL) {
        struct logged *l = &f->log[f->log_count];

        ASSERT(f->log_count < LOG_MAX);
        head_size = (size_t)(end - head) + 4;
        length = strcasestr(head, "content-length:");
        body_size = length == NULL || length > end ? 0 : strtoul(length + 15, NULL, 10);
        if (c->in.size < head_size + body_size)
            return;
        take_request_line(c, head);
        l->request = xstrdup(c->request);
        l->head = xstrndup(head, head_size);
        l->body = xstrndup(head + head_size, body_size);
        f->log_count++;
        buf_consume(&c->in, head_size + body_size);
        answer(c, l->body);
    }
}

static void connection_ready(void *ctx, int fd, uint32_t events)
{
    struct connection *c = ctx;
    char mem[16384];

    if (events & EPOLLOUT) {
        connection_write(c);
        return;
    }
    ssize_t n = recv(fd, mem, sizeof(mem), MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        connection_close(c);
        return;
    }
    must(buf_append(&c->in, mem, (size_t)n));
    take_requests(c);
}

static void accept_ready(void *ctx, int fd, uint32_t events)
{
    struct fake_engine *f = ctx;
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct connection *c = NULL;

    (void)events;
    if (peer < 0)
        return;
    for (unsigned i = 0; i < FAKE_CONNECTIONS_MAX && c == NULL; i++)
        if (f->connections[i].fd < 0)
            c = &f->connections[i];
    ASSERT(c != NULL);
    memset(c, 0, sizeof(*c));
    c->f = f;
    c->fd = peer;
    buf_init(&c->in, REQUEST_BYTES_MAX);
    buf_init(&c->out, REQUEST_BYTES_MAX);
    connection_watch(c, false);
}

struct fake_engine *fake_engine_new(struct loop *l, const char *socket_path)
{
    struct fake_engine *f = xcalloc(1, sizeof(*f));
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    f->loop = l;
    f->path = xstrdup(socket_path);
    f->log = xcalloc(LOG_MAX, sizeof(*f->log));
    for (unsigned i = 0; i < FAKE_CONNECTIONS_MAX; i++)
        f->connections[i].fd = -1;
    ASSERT(strlen(socket_path) < sizeof(address.sun_path));
    memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
    f->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)unlink(socket_path); /* of an earlier run */
    if (f->fd < 0 || bind(f->fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(f->fd, 64) < 0 || loop_watch_fd(l, f->fd, EPOLLIN, accept_ready, f) < 0)
        abort();
    return f;
}

void fake_engine_hang_up(struct fake_engine *f)
{
    for (unsigned i = 0; i < FAKE_CONNECTIONS_MAX; i++)
        connection_close(&f->connections[i]);
}

void fake_engine_free(struct fake_engine *f)
{
    fake_engine_hang_up(f);
    loop_unwatch_fd(f->loop, f->fd);
    (void)close(f->fd);
    (void)unlink(f->path);
    for (size_t i = 0; i < f->log_count; i++) {
        free(f->log[i].request);
        free(f->log[i].head);
        free(f->log[i].body);
    }
    fake_model_free(f);
    free(f->log);
    free(f->path);
    free(f);
}

void fake_engine_rule(struct fake_engine *f, const struct fake_rule *r)
{
    ASSERT(f->rule_count < FAKE_RULES_MAX);
    f->rules[f->rule_count++] = *r;
}

static const struct logged *logged_find(const struct fake_engine *f, const char *match)
{
    for (size_t i = f->log_count; i-- > 0;)
        if (strncmp(f->log[i].request, match, strlen(match)) == 0)
            return &f->log[i];
    return NULL;
}

unsigned fake_engine_count(const struct fake_engine *f, const char *match)
{
    unsigned count = 0;

    for (size_t i = 0; i < f->log_count; i++)
        count += strncmp(f->log[i].request, match, strlen(match)) == 0;
    return count;
}

const char *fake_engine_body(const struct fake_engine *f, const char *match)
{
    const struct logged *l = logged_find(f, match);

    return l == NULL ? "" : l->body;
}

const char *fake_engine_head(const struct fake_engine *f, const char *match)
{
    const struct logged *l = logged_find(f, match);

    return l == NULL ? "" : l->head;
}

void fake_engine_push(struct fake_engine *f, const char *match, const char *data)
{
    for (unsigned i = 0; i < FAKE_CONNECTIONS_MAX; i++) {
        struct connection *c = &f->connections[i];

        if (c->fd < 0 || !c->open || strncmp(c->request, match, strlen(match)) != 0)
            continue;
        chunk(c, data);
        connection_write(c);
    }
}

unsigned fake_engine_connections(const struct fake_engine *f)
{
    unsigned count = 0;

    for (unsigned i = 0; i < FAKE_CONNECTIONS_MAX; i++)
        count += f->connections[i].fd >= 0;
    return count;
}
