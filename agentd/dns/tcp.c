#include "agentd/dns/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/log.h"

/* DNS over TCP (RFC 7766). One question of a connection is worked on at a time, and nothing more is
 * read before its answer has left: a client cannot make us hold more than one message. */

enum { ACCEPTS_MAX = 16 };

static void client_close(struct client *c)
{
    struct dns_network *n = c->listener->network;
    struct client **at = &n->clients;

    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    n->client_count--;
    if (c->forward != NULL)
        forward_cancel(c->forward);
    loop_timer_cancel(n->dns->loop, &c->idle);
    loop_unwatch_fd(n->dns->loop, c->fd);
    (void)close(c->fd);
    free(c->out);
    free(c);
}

void clients_close(struct dns_network *n, const struct listener *only)
{
    for (struct client *c = n->clients, *next; c != NULL; c = next) {
        next = c->next;
        if (c->listener == only)
            client_close(c);
    }
}

static void on_idle(void *ctx, uint64_t now_ms)
{
    (void)now_ms;
    client_close(ctx);
}

static void on_client(void *ctx, int fd, uint32_t events);

/* A whole question or a whole answer passed: idle time starts anew. Single bytes do not count, so
 * that nobody holds a connection with them. */
static void client_progress(struct client *c)
{
    struct loop *l = c->listener->network->dns->loop;

    loop_timer_set(l, &c->idle, loop_now_ms(l) + CLIENT_IDLE_MS, on_idle, c);
}

/* Waits for what comes next, or closes. */
static void client_wait(struct client *c)
{
    struct loop *l = c->listener->network->dns->loop;
    uint32_t events = c->out != NULL ? EPOLLOUT : c->forward != NULL ? 0 : EPOLLIN;

    if (c->forward != NULL) /* which has its own bounds */
        loop_timer_cancel(l, &c->idle);
    if (loop_watch_fd(l, c->fd, events, on_client, c) < 0)
        client_close(c);
}

/* Sends from memory and keeps what does not go. -ERR_IO: the connection is broken. */
static int send_message(struct client *c, const uint8_t *message, size_t size)
{
    uint8_t head[2] = { (uint8_t)(size >> 8), (uint8_t)size };
    struct iovec parts[2] = { { head, 2 }, { (void *)(uintptr_t)message, size } };
    struct msghdr m = { .msg_iov = parts, .msg_iovlen = 2 };
    ssize_t sent = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        return -ERR_IO;
    sent = MAX(sent, 0);
    if ((size_t)sent == size + 2)
        return 0;
    c->out = xmalloc(size + 2);
    memcpy(c->out, head, 2);
    memcpy(c->out + 2, message, size);
    c->out_bytes = size + 2;
    c->out_sent = (size_t)sent;
    return 0;
}

static int send_rest(struct client *c)
{
    ssize_t sent =
        send(c->fd, c->out + c->out_sent, c->out_bytes - c->out_sent, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (sent < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -ERR_IO;
    c->out_sent += (size_t)sent;
    if (c->out_sent == c->out_bytes) {
        free(c->out);
        c->out = NULL;
        client_progress(c);
    }
    return 0;
}

/* One whole query is at the start of c->in. */
static int handle_query(struct client *c, size_t size)
{
    struct dns *d = c->listener->network->dns;
    struct incoming in = {
        .listener = c->listener, .source = c->source, .tcp = true, .bytes = c->in + 2, .size = size
    };
    struct forward_origin o = { .listener = c->listener, .client = c, .source = c->source };
    struct dns_query q;
    size_t answer_size;
    enum verdict v = dns_handle(d, &in, &q, d->message, sizeof(d->message), &answer_size);

    if (v == VERDICT_DROP)
        return -ERR_PROTO;
    if (v == VERDICT_FORWARD) {
        if (forward_start(d, &o, &q))
            return 0;
        d->stats.refused++;
        answer_size = dns_encode_refusal(d->message, sizeof(d->message), &q, DNS_SERVFAIL);
    }
    return send_message(c, d->message, answer_size);
}

/* Works on what has come, until a question has to wait. */
static int handle_input(struct client *c)
{
    while (c->out == NULL && c->forward == NULL && c->in_bytes >= 2) {
        size_t size = (size_t)c->in[0] << 8 | c->in[1];

        if (size < DNS_HEADER_BYTES || size > QUERY_BYTES_MAX)
            return -ERR_PROTO;
        if (c->in_bytes < 2 + size)
            break;
        int rc = handle_query(c, size);

        if (rc < 0)
            return rc;
        client_progress(c);
        c->in_bytes -= 2 + size;
        memmove(c->in, c->in + 2 + size, c->in_bytes);
    }
    return 0;
}

static int read_input(struct client *c)
{
    ssize_t got = recv(c->fd, c->in + c->in_bytes, sizeof(c->in) - c->in_bytes, MSG_DONTWAIT);

    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -ERR_IO;
    if (got == 0)
        c->closing = true;
    c->in_bytes += (size_t)got;
    return 0;
}

/* After any progress. */
static void client_go_on(struct client *c, int rc)
{
    if (rc == 0)
        rc = handle_input(c);
    if (rc < 0 || (c->closing && c->out == NULL && c->forward == NULL))
        client_close(c);
    else
        client_wait(c);
}

static void on_client(void *ctx, int fd, uint32_t events)
{
    struct client *c = ctx;
    int rc = 0;

    (void)fd;
    if ((events & (EPOLLERR | EPOLLHUP)) != 0)
        rc = -ERR_IO;
    else if (c->out != NULL)
        rc = send_rest(c);
    else if (c->forward == NULL)
        rc = read_input(c);
    client_go_on(c, rc);
}

void client_reply(struct client *c, const uint8_t *message, size_t size)
{
    ASSERT(c->forward == NULL && c->out == NULL);
    client_progress(c);
    client_go_on(c, send_message(c, message, size));
}

/* ---- accepting ---- */

static bool has_room(const struct dns_network *n, const struct ip *source)
{
    unsigned of_source = 0;

    if (n->client_count >= CLIENTS_NETWORK_MAX)
        return false;
    for (const struct client *c = n->clients; c != NULL; c = c->next)
        of_source += ip_equal(&c->source, source);
    return of_source < CLIENTS_SOURCE_MAX;
}

static void on_accept_pause(void *ctx, uint64_t now_ms)
{
    struct listener *l = ctx;
    struct loop *loop = l->network->dns->loop;

    if (loop_watch_fd(loop, l->tcp, EPOLLIN, listener_on_tcp, l) < 0)
        loop_timer_set(loop, &l->accept_pause, now_ms + ACCEPT_PAUSE_MS, on_accept_pause, l);
}

static void client_new(struct listener *l, int fd, const union address *from)
{
    struct dns_network *n = l->network;
    struct client *c = xcalloc(1, sizeof(*c));

    c->listener = l;
    c->fd = fd;
    c->source = address_ip(from);
    c->next = n->clients;
    n->clients = c;
    n->client_count++;
    client_progress(c);
    client_wait(c);
}

void listener_on_tcp(void *ctx, int fd, uint32_t events)
{
    struct listener *l = ctx;
    struct dns *d = l->network->dns;

    (void)events;
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        union address from;
        socklen_t bytes = sizeof(from);
        int client = accept4(fd, &from.any, &bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (client < 0 && (errno == EMFILE || errno == ENFILE)) {
            log_warn("dns.accept", "network=%s error=\"no descriptors\" next=pause",
                     l->network->id);
            loop_unwatch_fd(d->loop, fd);
            loop_timer_set(d->loop, &l->accept_pause, loop_now_ms(d->loop) + ACCEPT_PAUSE_MS,
                           on_accept_pause, l);
        }
        if (client < 0)
            return;
        struct ip source = address_ip(&from);

        if (has_room(l->network, &source)) {
            client_new(l, client, &from);
        } else {
            d->stats.dropped++;
            (void)close(client);
        }
    }
}
