#include "agentd/net/nl.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "agentd/net/netns.h"
#include "common/assert.h"

enum {
    RECEIVE_BYTES = 64 * 1024,
    SOCKET_BYTES = 4 << 20,
    ANSWER_SECONDS = 2, /* the kernel answers at once; a bound all the same */
    MONITOR_READS_MAX = 256,
};

static int socket_setup(int fd, bool monitor)
{
    const int on = 1, bytes = SOCKET_BYTES;
    const struct timeval bound = { .tv_sec = ANSWER_SECONDS };
    struct sockaddr_nl any = { .nl_family = AF_NETLINK };

    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0 &&
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)) != 0)
        return -errno;
    if (!monitor) {
        /* Extended errors and strict checking came with 4.12 and 4.20; without them texts are
         * shorter and dumps longer. */
        (void)setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
        (void)setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
        (void)setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
        if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof(bound)) != 0)
            return -errno;
    }
    return bind(fd, (struct sockaddr *)&any, sizeof(any)) == 0 ? 0 : -errno;
}

static int open_socket(struct nl *n, int protocol, int netns_fd, bool monitor, struct err *e)
{
    int previous = -1, rc = 0;

    memset(n, 0, sizeof(*n));
    n->fd = -1;
    if (netns_fd >= 0 && (rc = netns_enter(netns_fd, &previous, e)) < 0)
        return rc;
    CLEANUP_CLOSE int fd =
        socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | (monitor ? SOCK_NONBLOCK : 0), protocol);
    rc = fd >= 0 ? socket_setup(fd, monitor) : -errno;
    if (netns_fd >= 0)
        netns_leave(previous);
    struct sockaddr_nl own = { 0 };
    socklen_t size = sizeof(own);
    if (rc == 0 && getsockname(fd, (struct sockaddr *)&own, &size) != 0)
        rc = -errno;
    if (rc != 0)
        return err_errno(e, -rc, "netlink socket");
    n->fd = TAKE_FD(fd);
    n->port = own.nl_pid;
    return 0;
}

int nl_open(struct nl *n, int protocol, int netns_fd, struct err *e)
{
    return open_socket(n, protocol, netns_fd, false, e);
}

void nl_close(struct nl *n)
{
    if (n->fd >= 0)
        (void)close(n->fd);
    free(n->mem);
    memset(n, 0, sizeof(*n));
    n->fd = -1;
}

/* ---- errors ---------------------------------------------------------------------------------- */

static int on_text(const struct nlattr *a, void *ctx)
{
    char *text = ctx;

    if (mnl_attr_get_type(a) == NLMSGERR_ATTR_MSG && mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
        (void)snprintf(text, NL_TEXT_BYTES, "%s", mnl_attr_get_str(a));
    return MNL_CB_OK;
}

/* The code and, if given, the text of an NLMSG_ERROR (or of a DONE that carries an error). */
static int error_of(const struct nlmsghdr *nlh, char text[NL_TEXT_BYTES])
{
    const struct nlmsgerr *x = mnl_nlmsg_get_payload(nlh);

    text[0] = '\0';
    if (nlh->nlmsg_type == NLMSG_DONE)
        return mnl_nlmsg_get_payload_len(nlh) >= sizeof(int) ? *(const int *)(const void *)x : 0;
    if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*x))
        return -EPROTO;
    if (x->error != 0 && (nlh->nlmsg_flags & NLM_F_ACK_TLVS) != 0) {
        size_t skip = sizeof(*x);

        if ((nlh->nlmsg_flags & NLM_F_CAPPED) == 0)
            skip += x->msg.nlmsg_len - sizeof(struct nlmsghdr);
        if (MNL_ALIGN(skip) <= mnl_nlmsg_get_payload_len(nlh))
            (void)mnl_attr_parse(nlh, (unsigned)skip, on_text, text);
    }
    return x->error;
}

static int error_set(struct err *e, int error, const char *text, const char *what)
{
    char reason[64];

    int rc = error == ENODEV ? -ERR_NOT_FOUND : err_from_errno(error);
    return err_set(e, (enum err_code) - rc, "%s: %s%s%s%s", what,
                   strerror_r(error, reason, sizeof(reason)), text[0] != '\0' ? " (" : "", text,
                   text[0] != '\0' ? ")" : "");
}

/* ---- batches --------------------------------------------------------------------------------- */

static void batch_failed(struct nl *n, uint32_t index, int error, const char *text)
{
    struct nl_result *r = &n->result;

    if (r->failed++ > 0)
        return;
    r->error = error;
    r->tag = n->slots[index].tag;
    (void)snprintf(r->text, sizeof(r->text), "%s", text);
}

static void batch_answer(struct nl *n, const struct nlmsghdr *nlh, uint32_t index)
{
    char text[NL_TEXT_BYTES];
    int error = -error_of(nlh, text);
    const struct nl_slot *s = &n->slots[index];

    if (error == 0 || (s->exists_ok && error == EEXIST))
        return;
    if (s->missing_ok && (error == ENOENT || error == ESRCH || error == ENODEV ||
                          error == EADDRNOTAVAIL || error == ENXIO))
        return;
    batch_failed(n, index, error, text);
}

/* Reads until every message is acknowledged. */
static void batch_receive(struct nl *n)
{
    uint32_t answered = 0;
    static uint8_t mem[RECEIVE_BYTES]; /* loop thread only */

    while (answered < n->count) {
        ssize_t size = recv(n->fd, mem, sizeof(mem), 0);
        if (size < 0 && errno == EINTR)
            continue;
        if (size <= 0) {
            n->result.unknown = true;
            if (n->result.failed == 0)
                batch_failed(n, answered, size < 0 ? errno : EPROTO, "acknowledgements were lost");
            return;
        }
        int left = (int)size;
        for (struct nlmsghdr *h = (void *)mem; mnl_nlmsg_ok(h, left);
             h = mnl_nlmsg_next(h, &left)) {
            uint32_t index = h->nlmsg_seq - n->first_seq;

            if (h->nlmsg_type != NLMSG_ERROR || h->nlmsg_pid != n->port || index >= n->count)
                continue;
            batch_answer(n, h, index);
            answered++;
        }
    }
}

static void batch_send(struct nl *n)
{
    if (n->count == 0)
        return;
    size_t size = (size_t)((uint8_t *)mnl_nlmsg_get_payload_tail(n->last) - n->mem);
    ASSERT(size <= NL_BATCH_BYTES);
    if (n->result.unknown) { /* somebody will have to look at all of it anyway */
        n->result.failed += n->count;
        n->count = 0;
        n->last = NULL;
        return;
    }
    n->result.sent += n->count;
    if (send(n->fd, n->mem, size, 0) == (ssize_t)size) {
        batch_receive(n);
    } else {
        n->result.unknown = true;
        batch_failed(n, 0, errno, "send");
    }
    n->count = 0;
    n->last = NULL;
}

static struct nlmsghdr *message_at(uint8_t *mem, uint16_t type, const void *header, size_t size)
{
    struct nlmsghdr *h = mnl_nlmsg_put_header(mem);

    h->nlmsg_type = type;
    memcpy(mnl_nlmsg_put_extra_header(h, size), header, size);
    return h;
}

struct nlmsghdr *nl_message(struct nl *n, uint16_t type, uint16_t flags, const void *header,
                            size_t header_size, uint32_t tag)
{
    uint8_t *at = n->last != NULL ? mnl_nlmsg_get_payload_tail(n->last) : NULL;

    ASSERT(n->fd >= 0);
    if (n->mem == NULL)
        n->mem = xmalloc(NL_BATCH_BYTES);
    if (n->count == NL_BATCH_MESSAGES ||
        (at != NULL && at + NL_MESSAGE_BYTES > n->mem + NL_BATCH_BYTES))
        batch_send(n);
    if (n->count == 0) {
        at = n->mem;
        n->first_seq = n->seq + 1;
    }
    n->last = message_at(at, type, header, header_size);
    n->last->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    n->last->nlmsg_seq = ++n->seq;
    n->slots[n->count++] =
        (struct nl_slot){ .tag = tag,
                          .missing_ok = (type & 3) == 1, /* RTM_DEL* */
                          .exists_ok = (type & 3) == 0 && (flags & NLM_F_EXCL) == 0 };
    return n->last;
}

const struct nl_result *nl_commit(struct nl *n)
{
    static struct nl_result result; /* loop thread only */

    batch_send(n);
    result = n->result;
    memset(&n->result, 0, sizeof(n->result));
    return &result;
}

int nl_commit_all(struct nl *n, struct err *e, const char *format, ...)
{
    const struct nl_result *r = nl_commit(n);
    char what[NL_TEXT_BYTES];
    va_list args;

    if (r->failed == 0)
        return 0;
    va_start(args, format);
    (void)vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    return error_set(e, r->error, r->text, what);
}

/* ---- questions ------------------------------------------------------------------------------- */

struct nlmsghdr *nl_request(struct nl_request *r, uint16_t type, uint16_t flags, const void *header,
                            size_t header_size)
{
    struct nlmsghdr *h = message_at(r->mem, type, header, header_size);

    h->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    if ((flags & NLM_F_DUMP) == 0)
        h->nlmsg_flags |= NLM_F_ACK;
    return h;
}

struct answer {
    nl_message_fn *fn;
    void *ctx;
    uint32_t seq;
    bool interrupted, done;
    int error;
    char text[NL_TEXT_BYTES];
};

static void ask_take(const struct nl *n, struct answer *a, uint8_t *mem, size_t size)
{
    int left = (int)size;

    for (struct nlmsghdr *h = (void *)mem; !a->done && mnl_nlmsg_ok(h, left);
         h = mnl_nlmsg_next(h, &left)) {
        if (h->nlmsg_seq != a->seq || h->nlmsg_pid != n->port)
            continue;
        if ((h->nlmsg_flags & NLM_F_DUMP_INTR) != 0)
            a->interrupted = true;
        if (h->nlmsg_type == NLMSG_ERROR || h->nlmsg_type == NLMSG_DONE) {
            a->error = -error_of(h, a->text);
            a->done = true;
        } else if (h->nlmsg_type >= NLMSG_MIN_TYPE) {
            a->fn(a->ctx, h);
        }
    }
}

static int ask_once(const struct nl *n, const struct nlmsghdr *h, struct answer *a)
{
    static uint8_t mem[RECEIVE_BYTES]; /* loop thread only; callbacks do not ask */

    a->fn(a->ctx, NULL);
    if (send(n->fd, h, h->nlmsg_len, 0) != (ssize_t)h->nlmsg_len)
        return errno;
    while (!a->done) {
        ssize_t size = recv(n->fd, mem, sizeof(mem), 0);

        if (size < 0 && errno == EINTR)
            continue;
        if (size <= 0)
            return size < 0 ? errno : EPROTO;
        ask_take(n, a, mem, (size_t)size);
    }
    return a->error;
}

int nl_ask(struct nl *n, struct nl_request *r, nl_message_fn *fn, void *ctx, struct err *e)
{
    struct nlmsghdr *h = (void *)r->mem;
    int error = 0;

    ASSERT(n->fd >= 0 && n->count == 0);
    for (int i = 0; i < NL_DUMP_TRIES; i++) {
        struct answer a = { .fn = fn, .ctx = ctx, .seq = ++n->seq };

        h->nlmsg_seq = a.seq;
        error = ask_once(n, h, &a);
        if (error == ENOBUFS) /* the answer was cut: once more */
            continue;
        if (error != 0)
            return error_set(e, error, a.text, "netlink");
        if (!a.interrupted)
            return 0;
    }
    return error == 0 ? 0 : err_errno(e, error, "netlink");
}

/* ---- listening ------------------------------------------------------------------------------- */

int nl_monitor_open(struct nl *n, int protocol, int netns_fd, const unsigned *groups, size_t count,
                    struct err *e)
{
    int rc = open_socket(n, protocol, netns_fd, true, e);

    for (size_t i = 0; rc == 0 && i < count; i++)
        if (setsockopt(n->fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i], sizeof(groups[i])) !=
            0)
            rc = err_errno(e, errno, "netlink group %u", groups[i]);
    if (rc < 0)
        nl_close(n);
    return rc;
}

bool nl_monitor_read(struct nl *n, nl_message_fn *fn, void *ctx)
{
    static uint8_t mem[RECEIVE_BYTES]; /* loop thread only */

    for (int i = 0; i < MONITOR_READS_MAX; i++) {
        ssize_t size = recv(n->fd, mem, sizeof(mem), MSG_DONTWAIT);

        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return errno == EAGAIN;
        int left = (int)size;
        for (struct nlmsghdr *h = (void *)mem; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left))
            if (h->nlmsg_type >= NLMSG_MIN_TYPE)
                fn(ctx, h);
    }
    return true; /* more waits: the socket stays readable */
}
