#include "test/lib/dns_upstream.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/assert.h"

/* Appends "A 192.0.2.<last>" count times to a question turned answer. */
static size_t upstream_answer(uint8_t *m, size_t size, int rcode, int count)
{
    static const uint8_t record[] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2 };

    m[2] |= 0x80;
    m[3] = (uint8_t)(0x80 | rcode);
    m[7] = (uint8_t)count;
    m[11] = 0;
    for (int i = 0; i < count; i++) {
        memcpy(m + size, record, sizeof(record));
        m[size + sizeof(record)] = (uint8_t)(80 + i);
        size += sizeof(record) + 1;
    }
    return size;
}

static size_t question_size(const uint8_t *m)
{
    size_t at = 12;

    while (m[at] != 0)
        at += 1U + m[at];
    return at + 5;
}

/* 0 = says nothing. */
static size_t upstream_work(struct dns_upstream *u, uint8_t *m, bool tcp)
{
    size_t size = question_size(m);
    const char *label = (const char *)m + 13;

    u->asked++;
    if (u->fails)
        return upstream_answer(m, size, strncmp(label, "refused", 7) == 0 ? 5 : 2, 0);
    if (strncmp(label, "silent", 6) == 0)
        return 0;
    if (strncmp(label, "nobody", 6) == 0)
        return upstream_answer(m, size, 3, 0);
    if (strncmp(label, "refused", 7) == 0)
        return upstream_answer(m, size, 5, 0);
    if (strncmp(label, "large", 5) == 0) {
        size = upstream_answer(m, size, 0, tcp ? 60 : 0);
        m[2] |= tcp ? 0 : 2;
        return size;
    }
    return upstream_answer(m, size, 0, strncmp(label, "toolarge", 8) == 0 ? 60 : 1);
}

static void on_upstream_udp(void *ctx, int fd, uint32_t events)
{
    struct dns_upstream *u = ctx;
    struct sockaddr_in from;
    socklen_t bytes = sizeof(from);
    uint8_t m[2048];
    ssize_t got = recvfrom(fd, m, sizeof(m) / 2, 0, (struct sockaddr *)&from, &bytes);

    (void)events;
    ASSERT(got > 12);
    bool liar = strncmp((const char *)m + 13, "liar", 4) == 0;
    size_t size = upstream_work(u, m, false);
    if (liar) { /* answers that are not to be believed come first */
        m[1] ^= 1;
        (void)sendto(fd, m, size, 0, (struct sockaddr *)&from, bytes);
        m[1] ^= 1;
        m[14] ^= 1;
        (void)sendto(fd, m, size, 0, (struct sockaddr *)&from, bytes);
        m[14] ^= 1;
        (void)sendto(fd, m, size - 1, 0, (struct sockaddr *)&from, bytes);
    }
    if (size > 0)
        ASSERT(sendto(fd, m, size, 0, (struct sockaddr *)&from, bytes) == (ssize_t)size);
}

/* The question has come, in one piece. */
static void on_upstream_stream(void *ctx, int fd, uint32_t events)
{
    uint8_t m[4096];
    ssize_t got = recv(fd, m, sizeof(m) / 2, 0);

    (void)events;
    loop_unwatch_fd(((struct dns_upstream *)ctx)->loop, fd);
    if (got > 0) {
        ASSERT(got == 2 + (m[0] << 8 | m[1]));
        size_t size = upstream_work(ctx, m + 2, true);
        m[0] = (uint8_t)(size >> 8);
        m[1] = (uint8_t)size;
        (void)send(fd, m, 1, MSG_NOSIGNAL); /* in two pieces; the asker may have left */
        (void)send(fd, m + 1, size + 1, MSG_NOSIGNAL);
    }
    close(fd);
}

static void on_upstream_tcp(void *ctx, int fd, uint32_t events)
{
    int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

    (void)events;
    ASSERT(c >= 0);
    ASSERT(loop_watch_fd(((struct dns_upstream *)ctx)->loop, c, EPOLLIN, on_upstream_stream, ctx) ==
           0);
}

void dns_upstream_open(struct dns_upstream *u, struct loop *l, const char *address)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(53) };
    int on = 1;

    ASSERT(inet_pton(AF_INET, address, &a.sin_addr) == 1);
    *u = (struct dns_upstream){ .loop = l,
                                .udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0),
                                .tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    (void)setsockopt(u->tcp, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    ASSERT(bind(u->udp, (struct sockaddr *)&a, sizeof(a)) == 0);
    ASSERT(bind(u->tcp, (struct sockaddr *)&a, sizeof(a)) == 0);
    ASSERT(listen(u->tcp, 16) == 0);
    ASSERT(loop_watch_fd(l, u->udp, EPOLLIN, on_upstream_udp, u) == 0);
    ASSERT(loop_watch_fd(l, u->tcp, EPOLLIN, on_upstream_tcp, u) == 0);
}

void dns_upstream_close(struct dns_upstream *u)
{
    loop_unwatch_fd(u->loop, u->udp);
    loop_unwatch_fd(u->loop, u->tcp);
    close(u->udp);
    close(u->tcp);
}
