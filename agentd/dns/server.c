#include "agentd/dns/dns.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/dns/internal.h"
#include "agentd/net/netns.h"
#include "common/assert.h"
#include "common/log.h"
#include "common/random.h"

enum { TCP_BACKLOG = 128, UDP_RECEIVE_BYTES = 1 << 20 };

/* ---- addresses ---- */

socklen_t address_bytes(const union address *a)
{
    return a->any.sa_family == AF_INET ? sizeof(a->v4) : sizeof(a->v6);
}

struct ip address_ip(const union address *a)
{
    return a->any.sa_family == AF_INET ? ip_from_v4(&a->v4.sin_addr) : ip_from_v6(&a->v6.sin6_addr);
}

union address address_of(const struct ip *ip, uint16_t port)
{
    union address a;

    memset(&a, 0, sizeof(a));
    if (ip->family == IP_V4) {
        a.v4.sin_family = AF_INET;
        a.v4.sin_port = htons(port);
        memcpy(&a.v4.sin_addr, ip->bytes, 4);
    } else {
        a.v6.sin6_family = AF_INET6;
        a.v6.sin6_port = htons(port);
        memcpy(&a.v6.sin6_addr, ip->bytes, 16);
    }
    return a;
}

/* ---- a query ---- */

static enum verdict refuse(struct dns *d, const struct dns_query *q, enum dns_rcode rcode,
                           uint8_t *answer, size_t *ret_size)
{
    d->stats.refused++;
    *ret_size = dns_encode_refusal(answer, DNS_UDP_BYTES_MIN, q, rcode);
    return VERDICT_REPLY;
}

enum verdict dns_handle(struct dns *d, const struct incoming *in, struct dns_query *ret_query,
                        uint8_t *answer, size_t answer_max, size_t *ret_size)
{
    int rcode = dns_decode_query(in->bytes, in->size, ret_query);

    d->stats.queries++;
    if (rcode == DNS_DROP) {
        d->stats.malformed++;
        return VERDICT_DROP;
    }
    if (rcode != DNS_NOERROR) {
        d->stats.malformed += rcode == DNS_FORMERR;
        return refuse(d, ret_query, (enum dns_rcode)rcode, answer, ret_size);
    }
    struct answer_request r = { .query = ret_query,
                                .tables = d->tables,
                                .network_id = in->listener->network->id,
                                .source = in->source,
                                .tcp = in->tcp,
                                .random = &d->random };

    if (answer_query(&r, answer, answer_max, ret_size) == ANSWER_FORWARD)
        return VERDICT_FORWARD;
    d->stats.answered++;
    return VERDICT_REPLY;
}

/* ---- UDP ---- */

static void prepare_batch(struct udp_batch *b)
{
    for (size_t i = 0; i < UDP_BATCH; i++) {
        b->in_parts[i] = (struct iovec){ b->queries[i], sizeof(b->queries[i]) };
        b->in[i].msg_hdr = (struct msghdr){ .msg_name = &b->from[i],
                                            .msg_namelen = sizeof(b->from[i]),
                                            .msg_iov = &b->in_parts[i],
                                            .msg_iovlen = 1 };
    }
}

static void queue_answer(struct udp_batch *b, unsigned *count, unsigned query, size_t size)
{
    unsigned i = (*count)++;

    b->out_parts[i] = (struct iovec){ b->answers[query], size };
    b->out[i].msg_hdr = (struct msghdr){ .msg_name = &b->from[query],
                                         .msg_namelen = address_bytes(&b->from[query]),
                                         .msg_iov = &b->out_parts[i],
                                         .msg_iovlen = 1 };
}

/* A full socket buffer loses the rest, as UDP may: askers ask again. */
static void send_answers(struct dns *d, int fd, unsigned count)
{
    for (unsigned done = 0; done < count;) {
        int sent = sendmmsg(fd, &d->batch.out[done], count - done, MSG_DONTWAIT);

        if (sent > 0) {
            done += (unsigned)sent;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN || errno == ENOBUFS) {
            d->stats.dropped += count - done;
            return;
        }
        d->stats.dropped++; /* this one cannot be sent: no route, a bad address */
        done++;
    }
}

static void handle_datagram(struct dns *d, struct listener *l, unsigned i, unsigned *answers)
{
    struct udp_batch *b = &d->batch;
    struct incoming in = { .listener = l,
                           .source = address_ip(&b->from[i]),
                           .bytes = b->queries[i],
                           .size = b->in[i].msg_len };
    struct dns_query q;
    size_t size;

    if ((b->in[i].msg_hdr.msg_flags & MSG_TRUNC) != 0) {
        d->stats.queries++;
        d->stats.malformed++;
        return;
    }
    enum verdict v = dns_handle(d, &in, &q, b->answers[i], sizeof(b->answers[i]), &size);

    if (v == VERDICT_FORWARD) {
        struct forward_origin o = { .listener = l, .from = b->from[i], .source = in.source };

        if (forward_start(d, &o, &q))
            return;
        v = refuse(d, &q, DNS_SERVFAIL, b->answers[i], &size);
    }
    if (v == VERDICT_REPLY)
        queue_answer(b, answers, i, size);
}

static void on_udp(void *ctx, int fd, uint32_t events)
{
    struct listener *l = ctx;
    struct dns *d = l->network->dns;

    (void)events;
    for (int round = 0; round < UDP_ROUNDS_MAX; round++) {
        unsigned answers = 0;

        for (unsigned i = 0; i < UDP_BATCH; i++)
            d->batch.in[i].msg_hdr.msg_namelen = sizeof(d->batch.from[i]);
        int got = recvmmsg(fd, d->batch.in, UDP_BATCH, MSG_DONTWAIT, NULL);

        if (got <= 0)
            return;
        for (int i = 0; i < got; i++)
            handle_datagram(d, l, (unsigned)i, &answers);
        send_answers(d, fd, answers);
        if (got < UDP_BATCH)
            return;
    }
}

/* ---- sockets ---- */

/* The address need not exist yet; answers leave from it, since the socket is bound to it. */
static int open_socket(const struct ip *ip, int type, struct err *e)
{
    union address a = address_of(ip, DNS_PORT);
    int on = 1, bytes = UDP_RECEIVE_BYTES;
    char text[IP_CHARS + 1];
    CLEANUP_CLOSE int fd = socket(a.any.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return err_errno(e, errno, "socket for DNS on %s", ip_format(ip, text));
    if (setsockopt(fd, SOL_IP, IP_FREEBIND, &on, sizeof(on)) < 0 ||
        (ip->family == IP_V6 && setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
        (type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0))
        return err_errno(e, errno, "options of DNS on %s", ip_format(ip, text));
    if (type == SOCK_DGRAM) /* a smaller one does as well */
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
    if (bind(fd, &a.any, address_bytes(&a)) < 0)
        return err_errno(e, errno, "bind DNS to %s", ip_format(ip, text));
    if (type == SOCK_STREAM && listen(fd, TCP_BACKLOG) < 0)
        return err_errno(e, errno, "listen for DNS on %s", ip_format(ip, text));
    return TAKE_FD(fd);
}

/* Sockets belong to the namespace that their maker stands in. */
static int open_sockets(int netns_fd, const struct ip *ip, int ret[2], struct err *e)
{
    int own, rc = netns_enter(netns_fd, &own, e);

    if (rc < 0)
        return rc;
    CLEANUP_CLOSE int udp = open_socket(ip, SOCK_DGRAM, e);
    CLEANUP_CLOSE int tcp = udp < 0 ? udp : open_socket(ip, SOCK_STREAM, e);
    netns_leave(own);

    if (udp < 0 || tcp < 0)
        return MIN(udp, tcp);
    ret[0] = TAKE_FD(udp);
    ret[1] = TAKE_FD(tcp);
    return 0;
}

/* ---- listeners ---- */

static void listener_close(struct listener *l)
{
    struct dns *d = l->network->dns;

    d->resolvers.read = false;
    clients_close(l->network, l);
    forwards_cancel(d, l);
    loop_timer_cancel(d->loop, &l->accept_pause);
    loop_unwatch_fd(d->loop, l->udp);
    loop_unwatch_fd(d->loop, l->tcp);
    (void)close(l->udp);
    (void)close(l->tcp);
    free(l);
}

static bool contains(const struct ip *addresses, size_t count, const struct ip *ip)
{
    for (size_t i = 0; i < count; i++) {
        if (ip_equal(&addresses[i], ip))
            return true;
    }
    return false;
}

static void close_listeners(struct dns_network *n, const struct ip *keep, size_t count)
{
    for (struct listener **at = &n->listeners; *at != NULL;) {
        struct listener *l = *at;

        if (contains(keep, count, &l->address)) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        listener_close(l);
    }
}

static struct listener *find_listener(const struct dns_network *n, const struct ip *ip)
{
    for (struct listener *l = n->listeners; l != NULL; l = l->next) {
        if (ip_equal(&l->address, ip))
            return l;
    }
    return NULL;
}

static int listener_open(struct dns_network *n, int netns_fd, const struct ip *ip, struct err *e)
{
    struct loop *loop = n->dns->loop;
    int fds[2] = { -1, -1 };
    int rc = open_sockets(netns_fd, ip, fds, e);

    if (rc < 0)
        return rc;
    struct listener *l = xcalloc(1, sizeof(*l));

    l->network = n;
    l->address = *ip;
    l->udp = fds[0];
    l->tcp = fds[1];
    if (loop_watch_fd(loop, l->udp, EPOLLIN, on_udp, l) < 0 ||
        loop_watch_fd(loop, l->tcp, EPOLLIN, listener_on_tcp, l) < 0) {
        listener_close(l);
        return err_set(e, ERR_IO, "cannot watch the sockets of DNS");
    }
    l->next = n->listeners;
    n->listeners = l;
    n->dns->resolvers.read = false; /* one of them may be us now */
    return 0;
}

static struct dns_network *find_network(const struct dns *d, const char *network_id)
{
    for (struct dns_network *n = d->networks; n != NULL; n = n->next) {
        if (strcmp(n->id, network_id) == 0)
            return n;
    }
    return NULL;
}

static struct dns_network *open_network(struct dns *d, const char *network_id)
{
    struct dns_network *n = find_network(d, network_id);

    if (n != NULL)
        return n;
    n = xcalloc(1, sizeof(*n));
    n->dns = d;
    memcpy(n->id, id_from_str(network_id).s, sizeof(n->id));
    n->next = d->networks;
    d->networks = n;
    return n;
}

int dns_listen(struct dns *d, const char *network_id, int netns_fd, const struct ip *addresses,
               size_t count, struct err *e)
{
    struct dns_network *n = open_network(d, network_id);
    struct stat st;
    int rc = 0;

    n->wanted = count;
    if (fstat(netns_fd, &st) < 0)
        return err_errno(e, errno, "network %s: its namespace", network_id);
    if (st.st_dev != n->ns_device || st.st_ino != n->ns_inode)
        close_listeners(n, NULL, 0); /* those are in a namespace that was */
    n->ns_device = st.st_dev;
    n->ns_inode = st.st_ino;
    close_listeners(n, addresses, count);
    for (size_t i = 0; i < count && rc == 0; i++) {
        if (find_listener(n, &addresses[i]) == NULL)
            rc = listener_open(n, netns_fd, &addresses[i], e);
    }
    return rc < 0 ? err_wrap(e, rc, "network %s", network_id) : 0;
}

void dns_close(struct dns *d, const char *network_id)
{
    for (struct dns_network **at = &d->networks; *at != NULL; at = &(*at)->next) {
        struct dns_network *n = *at;

        if (strcmp(n->id, network_id) != 0)
            continue;
        close_listeners(n, NULL, 0);
        *at = n->next;
        free(n);
        return;
    }
}

bool dns_listening(const struct dns *d, const char *network_id)
{
    const struct dns_network *n = find_network(d, network_id);
    size_t count = 0;

    if (n == NULL)
        return false;
    for (const struct listener *l = n->listeners; l != NULL; l = l->next)
        count++;
    return count == n->wanted;
}

/* ---- life ---- */

struct dns *dns_new(struct loop *l, const struct tables *t, const struct dns_options *o)
{
    struct dns *d = xcalloc(1, sizeof(*d));

    d->loop = l;
    d->tables = t;
    d->options = *o;
    d->resolvers.path = xstrdup(o->resolv_conf);
    prng_init(&d->random, random_u64());
    prepare_batch(&d->batch);
    return d;
}

void dns_free(struct dns *d)
{
    if (d == NULL)
        return;
    while (d->networks != NULL)
        dns_close(d, d->networks->id);
    ASSERT(d->forwards == NULL);
    free(d->resolvers.path);
    free(d);
}

void dns_stats(const struct dns *d, struct dns_stats *ret)
{
    *ret = d->stats;
}
