#include "agentd/net/health.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/text.h"

struct client {
    struct health *health;
    int fd; /* -1: free */
    size_t size;
    char request[HEALTH_REQUEST_BYTES_MAX + 1];
    struct loop_timer timer;
};

struct health {
    struct loop *loop;
    health_count_fn *count;
    void *ctx;
    int fd;
    struct client clients[HEALTH_CLIENTS_MAX];
};

static void client_close(struct client *c)
{
    if (c->fd < 0)
        return;
    loop_timer_cancel(c->health->loop, &c->timer);
    loop_unwatch_fd(c->health->loop, c->fd);
    close(c->fd);
    c->fd = -1;
}

static void on_late(void *ctx, uint64_t now_ms)
{
    (void)now_ms;
    client_close(ctx);
}

/* "/8080/tcp", or "/8080" for TCP. False: something else. */
static bool path_parse(char *path, uint8_t *ret_protocol, uint16_t *ret_port)
{
    char *protocol = path[0] == '/' ? strchr(path + 1, '/') : NULL;
    uint64_t port;

    if (path[0] != '/')
        return false;
    if (protocol != NULL)
        *protocol++ = '\0';
    if (text_parse_u64(path + 1, &port, NULL) < 0 || port == 0 || port > UINT16_MAX)
        return false;
    *ret_port = (uint16_t)port;
    if (protocol == NULL || strcmp(protocol, "tcp") == 0)
        *ret_protocol = IPPROTO_TCP;
    else if (strcmp(protocol, "udp") == 0)
        *ret_protocol = IPPROTO_UDP;
    else if (strcmp(protocol, "sctp") == 0)
        *ret_protocol = IPPROTO_SCTP;
    else
        return false;
    return true;
}

static void answer(struct client *c)
{
    char *path = strchr(c->request, ' '), body[48], text[256];
    const char *status = "404 Not Found";
    bool head = strncmp(c->request, "HEAD ", 5) == 0;
    uint8_t protocol;
    uint16_t port;
    int count = -1, n;

    if (!head && strncmp(c->request, "GET ", 4) != 0) {
        status = "405 Method Not Allowed";
    } else {
        path++;
        path[strcspn(path, " \r\n?")] = '\0';
        if (path_parse(path, &protocol, &port))
            count = c->health->count(c->health->ctx, protocol, port);
    }
    if (count >= 0)
        status = count > 0 ? "200 OK" : "503 Service Unavailable";
    (void)snprintf(body, sizeof(body), "{\"local_tasks\":%d}\n", MAX(count, 0));
    n = snprintf(text, sizeof(text),
                 "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                 "Cache-Control: no-store\r\nConnection: close\r\n\r\n%s",
                 status, strlen(body), head ? "" : body);
    /* It fits the socket's buffer; a client that has gone is none. */
    if (send(c->fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) == n)
        (void)shutdown(c->fd, SHUT_WR);
}

static void on_client(void *ctx, int fd, uint32_t events)
{
    struct client *c = ctx;
    ssize_t n = recv(fd, c->request + c->size, HEALTH_REQUEST_BYTES_MAX - c->size, MSG_DONTWAIT);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0) {
        c->size += (size_t)n;
        c->request[c->size] = '\0';
        if (strstr(c->request, "\r\n\r\n") == NULL && c->size < HEALTH_REQUEST_BYTES_MAX)
            return; /* the rest is to come */
        answer(c);
    }
    client_close(c);
}

static void on_connection(void *ctx, int fd, uint32_t events)
{
    struct health *h = ctx;
    struct client *c = NULL;
    int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (accepted < 0)
        return;
    for (size_t i = 0; i < HEALTH_CLIENTS_MAX && c == NULL; i++)
        if (h->clients[i].fd < 0)
            c = &h->clients[i];
    if (c == NULL || loop_watch_fd(h->loop, accepted, EPOLLIN, on_client, c) < 0) {
        close(accepted);
        return;
    }
    c->health = h;
    c->fd = accepted;
    c->size = 0;
    loop_timer_set(h->loop, &c->timer, loop_now_ms(h->loop) + HEALTH_WAIT_MS, on_late, c);
}

struct health *health_new(struct loop *l, uint16_t port, health_count_fn *count, void *ctx,
                          struct err *e)
{
    struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct health *h = xcalloc(1, sizeof(*h));
    int on = 1;

    for (size_t i = 0; i < HEALTH_CLIENTS_MAX; i++)
        h->clients[i].fd = -1;
    h->loop = l;
    h->count = count;
    h->ctx = ctx;
    h->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (h->fd < 0 || setsockopt(h->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(h->fd, (struct sockaddr *)&any, sizeof(any)) != 0 || listen(h->fd, 128) != 0) {
        (void)err_errno(e, errno, "health answers on port %u", port);
        health_free(h);
        return NULL;
    }
    if (loop_watch_fd(l, h->fd, EPOLLIN, on_connection, h) < 0) {
        (void)err_set(e, ERR_IO, "health answers on port %u: not watched", port);
        health_free(h);
        return NULL;
    }
    return h;
}

void health_free(struct health *h)
{
    if (h == NULL)
        return;
    for (size_t i = 0; i < HEALTH_CLIENTS_MAX; i++)
        client_close(&h->clients[i]);
    if (h->fd >= 0) {
        loop_unwatch_fd(h->loop, h->fd);
        close(h->fd);
    }
    free(h);
}
