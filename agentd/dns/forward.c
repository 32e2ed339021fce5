#include "agentd/dns/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/random.h"

/* Questions for the task's or the host's resolvers, asked from the host's own namespace. Each
 * attempt has a socket of its own, connected to one server: a random port, a random id, and the
 * kernel drops what others send. A question that came over TCP is asked over TCP. */

enum { PREFER_MS = 30000 };

static void close_socket(struct forward *f)
{
    if (f->fd < 0)
        return;
    loop_unwatch_fd(f->dns->loop, f->fd);
    (void)close(f->fd);
    f->fd = -1;
    f->stream_bytes = 0;
    f->sent = false;
}

void forward_cancel(struct forward *f)
{
    struct dns *d = f->dns;
    struct forward **at = &d->forwards;

    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    d->forward_count--;
    f->listener->network->forward_count--;
    if (f->client != NULL)
        f->client->forward = NULL;
    loop_timer_cancel(d->loop, &f->timeout);
    close_socket(f);
    free(f->stream);
    free(f);
}

void forwards_cancel(struct dns *d, const struct listener *of)
{
    for (struct forward *f = d->forwards, *next; f != NULL; f = next) {
        next = f->next;
        if (f->listener == of)
            forward_cancel(f);
    }
}

/* Ends f. message may be f's own memory or d->message. */
static void reply(struct forward *f, const uint8_t *message, size_t size)
{
    struct dns *d = f->dns;
    struct client *c = f->client;

    if (c == NULL) {
        if (sendto(f->listener->udp, message, size, MSG_DONTWAIT, &f->from.any,
                   address_bytes(&f->from)) < 0)
            d->stats.dropped++;
        forward_cancel(f);
        return;
    }
    if (message != d->message)
        memcpy(d->message, message, size);
    forward_cancel(f);
    client_reply(c, d->message, size);
}

static void reply_refusal(struct forward *f, enum dns_rcode rcode)
{
    struct dns *d = f->dns;

    reply(f, d->message, dns_encode_refusal(d->message, sizeof(d->message), &f->query, rcode));
}

static void reply_truncated(struct forward *f)
{
    struct dns *d = f->dns;
    struct dns_builder b;

    dns_build(&b, d->message, sizeof(d->message), &f->query);
    reply(f, d->message, dns_build_end(&b, DNS_NOERROR, false, true));
}

static void try_next(struct forward *f);

/* A server's answer. False: not what was asked; f goes on waiting. */
static bool take_answer(struct forward *f, uint8_t *message, size_t size)
{
    struct dns *d = f->dns;
    struct resolvers *r = &d->resolvers;
    struct dns_answer_info info;

    if (dns_check_answer(message, size, &f->query, f->id, &info) < 0)
        return false;
    if (info.rcode == DNS_SERVFAIL || info.rcode == DNS_REFUSED || info.rcode == DNS_NOTIMP ||
        info.rcode == DNS_FORMERR) {
        try_next(f);
        return true;
    }
    if (f->attempt > 1 && !f->of_task) { /* those before it did not answer */
        r->preferred = f->server;
        r->preferred_until_ms = loop_now_ms(d->loop) + PREFER_MS;
    }
    if (info.rcode == DNS_NXDOMAIN && !tables_complete(d->tables)) {
        reply_refusal(f, DNS_SERVFAIL); /* it may be a name of ours that has not come yet */
        return true;
    }
    if (f->client == NULL && size > f->query.udp_bytes_max) {
        reply_truncated(f);
        return true;
    }
    message[0] = (uint8_t)(f->query.id >> 8);
    message[1] = (uint8_t)f->query.id;
    memcpy(message + DNS_HEADER_BYTES, f->query.question, f->query.question_bytes);
    reply(f, message, size);
    return true;
}

/* ---- one attempt ---- */

static void on_timeout(void *ctx, uint64_t now_ms)
{
    (void)now_ms;
    try_next(ctx);
}

static void on_udp(void *ctx, int fd, uint32_t events)
{
    struct forward *f = ctx;
    uint8_t message[4096]; /* more than was allowed: no answer to us */

    (void)events;
    for (int i = 0; i < UDP_BATCH; i++) {
        ssize_t got = recv(fd, message, sizeof(message), MSG_DONTWAIT | MSG_TRUNC);

        if (got < 0) {
            if (errno != EAGAIN && errno != EINTR)
                try_next(f); /* nobody listens there */
            return;
        }
        if ((size_t)got <= sizeof(message) && take_answer(f, message, (size_t)got))
            return;
    }
}

static int send_stream(struct forward *f)
{
    uint8_t message[2 + DNS_HEADER_BYTES + DNS_QUESTION_BYTES_MAX + DNS_OPT_BYTES];
    size_t size = dns_encode_query(message + 2, &f->query, f->id);

    message[0] = (uint8_t)(size >> 8);
    message[1] = (uint8_t)size;
    /* A fresh connection takes this much at once. */
    if (send(f->fd, message, size + 2, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)(size + 2))
        return -ERR_IO;
    f->sent = true;
    return 0;
}

static int read_stream(struct forward *f)
{
    if (f->stream == NULL)
        f->stream = xmalloc(2 + DNS_MESSAGE_BYTES_MAX);
    size_t wanted = f->stream_bytes < 2 ? 2 : 2 + ((size_t)f->stream[0] << 8 | f->stream[1]);
    ssize_t got = recv(f->fd, f->stream + f->stream_bytes, wanted - f->stream_bytes, MSG_DONTWAIT);

    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -ERR_IO;
    if (got == 0)
        return -ERR_IO;
    f->stream_bytes += (size_t)got;
    return 0;
}

static bool stream_is_whole(const struct forward *f)
{
    return f->stream_bytes >= 2 &&
           f->stream_bytes == 2 + ((size_t)f->stream[0] << 8 | f->stream[1]);
}

static void on_stream(void *ctx, int fd, uint32_t events);

static int stream_step(struct forward *f, uint32_t events)
{
    if (!f->sent) {
        if ((events & (EPOLLERR | EPOLLHUP)) != 0)
            return -ERR_IO;
        int rc = send_stream(f);

        return rc < 0 ? rc : loop_watch_fd(f->dns->loop, f->fd, EPOLLIN, on_stream, f);
    }
    return read_stream(f);
}

static void on_stream(void *ctx, int fd, uint32_t events)
{
    struct forward *f = ctx;

    (void)fd;
    if (stream_step(f, events) < 0) {
        try_next(f);
        return;
    }
    if (!stream_is_whole(f))
        return;
    if (!take_answer(f, f->stream + 2, f->stream_bytes - 2))
        try_next(f);
}

static int start_attempt(struct forward *f)
{
    struct dns *d = f->dns;
    const union address *to = &f->servers[f->server];
    bool tcp = f->client != NULL;
    int type = (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;

    f->id = (uint16_t)random_u64();
    f->fd = socket(to->any.sa_family, type, 0);
    if (f->fd < 0)
        return -ERR_IO;
    if (connect(f->fd, &to->any, address_bytes(to)) < 0 && errno != EINPROGRESS)
        return -ERR_IO;
    if (tcp)
        return loop_watch_fd(d->loop, f->fd, EPOLLOUT, on_stream, f);

    uint8_t message[DNS_HEADER_BYTES + DNS_QUESTION_BYTES_MAX + DNS_OPT_BYTES];
    size_t size = dns_encode_query(message, &f->query, f->id);

    if (send(f->fd, message, size, MSG_DONTWAIT) < 0)
        return -ERR_IO;
    return loop_watch_fd(d->loop, f->fd, EPOLLIN, on_udp, f);
}

/* The next attempt, with the next server; false after the last one. */
static bool attempt(struct forward *f)
{
    struct dns *d = f->dns;

    close_socket(f);
    while (f->attempt < FORWARD_ATTEMPTS && f->server_count > 0) {
        f->server = (f->first + f->attempt) % (unsigned)f->server_count;
        f->attempt++;
        if (start_attempt(f) == 0) {
            loop_timer_set(d->loop, &f->timeout, loop_now_ms(d->loop) + FORWARD_ATTEMPT_MS,
                           on_timeout, f);
            return true;
        }
        close_socket(f);
    }
    return false;
}

static void try_next(struct forward *f)
{
    if (!attempt(f))
        reply_refusal(f, DNS_SERVFAIL);
}

static bool has_room(const struct dns *d, const struct forward_origin *o)
{
    unsigned of_source = 0;

    if (d->forward_count >= FORWARDS_MAX ||
        o->listener->network->forward_count >= FORWARDS_NETWORK_MAX)
        return false;
    if (d->forward_count < FORWARDS_SOURCE_MAX)
        return true;
    for (const struct forward *f = d->forwards; f != NULL; f = f->next)
        of_source +=
            f->listener->network == o->listener->network && ip_equal(&f->source, &o->source);
    return of_source < FORWARDS_SOURCE_MAX;
}

bool forward_start(struct dns *d, const struct forward_origin *o, const struct dns_query *q)
{
    if (!has_room(d, o))
        return false;
    struct forward *f = xcalloc(1, sizeof(*f));

    f->dns = d;
    f->listener = o->listener;
    f->client = o->client;
    f->from = o->from;
    f->source = o->source;
    f->query = *q;
    f->fd = -1;
    resolvers_choose(d, f);
    f->next = d->forwards;
    d->forwards = f;
    d->forward_count++;
    f->listener->network->forward_count++;
    if (f->client != NULL)
        f->client->forward = f;
    if (attempt(f)) {
        d->stats.forwarded++;
        return true;
    }
    forward_cancel(f); /* answered by the caller: not from within its own call */
    return false;
}
