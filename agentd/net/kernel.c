#include "agentd/net/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/assert.h"

enum { RECEIVE_BYTES = 1 << 20, ANSWER_BYTES = 64 * 1024 };

struct kernel {
    struct mnl_socket *socket;
    uint32_t port, sequence;
    char answer[ANSWER_BYTES];
};

/* ns < 0: a new one. */
static int inside(int ns, int (*fn)(void *ctx, struct err *e), void *ctx, struct err *e)
{
    CLEANUP_CLOSE int back = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    bool returned;
    int rc;

    if (back < 0)
        return err_errno(e, errno, "open this thread's network namespace");
    if ((ns < 0 ? unshare(CLONE_NEWNET) : setns(ns, CLONE_NEWNET)) != 0)
        return err_errno(e, errno, "enter a network namespace");
    rc = fn(ctx, e);
    returned = setns(back, CLONE_NEWNET) == 0;
    ASSERT(returned);
    return rc;
}

int kernel_inside(int ns, int (*fn)(void *ctx, struct err *e), void *ctx, struct err *e)
{
    return ns < 0 ? fn(ctx, e) : inside(ns, fn, ctx, e);
}

int kernel_scratch(int (*fn)(void *ctx, struct err *e), void *ctx, struct err *e)
{
    return inside(-1, fn, ctx, e);
}

struct setting {
    const char *name, *value;
};

static int set_in(void *ctx, struct err *e)
{
    const struct setting *s = ctx;
    CLEANUP_FREE char *path = xasprintf("/proc/sys/%s", s->name);
    CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
    size_t size = strlen(s->value);

    if (fd < 0)
        return err_errno(e, errno, "open %s", path);
    if (write(fd, s->value, size) != (ssize_t)size)
        return err_errno(e, errno, "write %s to %s", s->value, path);
    return 0;
}

int kernel_sysctl(int ns, const char *name, const char *value, struct err *e)
{
    struct setting s = { name, value };

    return kernel_inside(ns, set_in, &s, e);
}

struct opening {
    struct kernel *k;
    int bus;
};

static int open_in(void *ctx, struct err *e)
{
    struct opening *o = ctx;
    struct kernel *k = o->k;

    k->socket = mnl_socket_open2(o->bus, SOCK_CLOEXEC);
    if (k->socket == NULL)
        return err_errno(e, errno, "netlink bus %d", o->bus);
    if (mnl_socket_bind(k->socket, 0, MNL_SOCKET_AUTOPID) != 0)
        return err_errno(e, errno, "bind netlink bus %d", o->bus);
    return 0;
}

struct kernel *kernel_open(int ns, int bus, struct err *e)
{
    struct kernel *k = xcalloc(1, sizeof(*k));
    struct opening o = { k, bus };
    int size = RECEIVE_BYTES, on = 1;

    if (kernel_inside(ns, open_in, &o, e) < 0) {
        kernel_close(k);
        return NULL;
    }
    k->port = mnl_socket_get_portid(k->socket);
    /* Without them requests work too, only dumps of many objects may need more rounds. */
    (void)setsockopt(mnl_socket_get_fd(k->socket), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
    (void)mnl_socket_setsockopt(k->socket, NETLINK_CAP_ACK, &on, sizeof(on));
    return k;
}

void kernel_close(struct kernel *k)
{
    if (k == NULL)
        return;
    if (k->socket != NULL)
        mnl_socket_close(k->socket);
    free(k);
}

struct nlmsghdr *kernel_message(char mem[KERNEL_SMALL_BYTES], uint16_t type, uint16_t flags)
{
    struct nlmsghdr *m;

    memset(mem, 0, KERNEL_SMALL_BYTES);
    m = mnl_nlmsg_put_header(mem);
    m->nlmsg_type = type;
    m->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    return m;
}

int kernel_ask(struct kernel *k, struct nlmsghdr *m, mnl_cb_t fn, void *ctx)
{
    bool dump = (m->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
    ssize_t n;
    int rc;

    ASSERT(m->nlmsg_len <= KERNEL_SMALL_BYTES);
    m->nlmsg_seq = ++k->sequence;
    if (!dump)
        m->nlmsg_flags |= NLM_F_ACK;
    if (mnl_socket_sendto(k->socket, m, m->nlmsg_len) < 0)
        return -errno;
    for (;;) {
        n = mnl_socket_recvfrom(k->socket, k->answer, sizeof(k->answer));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        /* What an earlier, given up request left behind is not ours. */
        if ((size_t)n >= sizeof(struct nlmsghdr) &&
            ((struct nlmsghdr *)(void *)k->answer)->nlmsg_seq != k->sequence)
            continue;
        rc = mnl_cb_run(k->answer, (size_t)n, k->sequence, k->port, fn, ctx);
        if (rc < 0)
            return -errno;
        if (rc == MNL_CB_STOP)
            return 0;
    }
}

int kernel_tell(struct kernel *k, struct nlmsghdr *m)
{
    return kernel_ask(k, m, NULL, NULL);
}
