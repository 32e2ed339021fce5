/* The real transport of ctl's calls: common/rpc.h on a loop of our own, over the local socket or
 * over mutual TLS with the identity of a node. */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/loop.h"
#include "common/rpc.h"
#include "common/tls.h"
#include "ctl/client.h"

enum { PEM_BYTES_MAX = 1 << 20, PROBE_MS = 300 };

struct transport {
    struct loop *loop;
    struct rpc *rpc;
    struct rpc_client *client;
    struct tls_context *tls;
    struct arena arena;
    const char *url;
    bool watching; /* the interrupt descriptor is in the loop */
    bool interrupted;
};

/* What the signal handler may touch: a descriptor to write to. */
static volatile sig_atomic_t interrupt_fd = -1;

static void on_interrupt(int number)
{
    int saved = errno;
    uint64_t one = 1;

    (void)number;
    if (interrupt_fd >= 0) {
        ssize_t unused = write(interrupt_fd, &one, sizeof(one));

        (void)unused; /* a full eventfd is set already */
    }
    errno = saved;
}

static void on_interrupt_fd(void *ctx, int fd, uint32_t events)
{
    struct transport *t = ctx;
    uint64_t count;

    (void)events;
    if (read(fd, &count, sizeof(count)) == (ssize_t)sizeof(count))
        t->interrupted = true;
}

static void transport_catch_interrupt(void *ctx)
{
    struct transport *t = ctx;
    struct sigaction action = { .sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND };
    int fd;

    if (t->watching)
        return;
    fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return; /* then Ctrl-C ends the process at once, which is safe too */
    if (loop_watch_fd(t->loop, fd, EPOLLIN, on_interrupt_fd, t) < 0) {
        (void)close(fd);
        return;
    }
    t->watching = true;
    interrupt_fd = fd;
    (void)sigaction(SIGINT, &action, NULL); /* reset by the first: a second one kills */
}

static void transport_done(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    struct client_flight *f = ctx;

    if (f->abandoned) {
        free(f);
        return;
    }
    f->done = true;
    f->answered = response != NULL;
    f->rc = rc;
    if (rc < 0 && e != NULL)
        f->e = *e;
    if (rc == 0 && response != NULL) {
        f->body = xmemdup(response->body.data, response->body.len);
        f->body_size = response->body.len;
    }
}

static int transport_start(void *ctx, const struct client_wire *w, struct client_flight *f,
                           struct err *e)
{
    struct transport *t = ctx;
    struct rpc_request r = {
        .method = w->method,
        .body = w->body,
        .deadline_ms = w->deadline_ms,
        .request_id = w->request_id,
    };

    return rpc_call_start(t->client, &r, transport_done, f, e);
}

static int transport_wait(void *ctx, uint32_t wait_ms, struct err *e)
{
    struct transport *t = ctx;
    int rc = loop_run_once(t->loop, wait_ms, e);

    if (t->interrupted)
        return err_set(e, ERR_CANCELED, "interrupted");
    return rc;
}

static uint64_t transport_now_ms(void *ctx)
{
    (void)ctx;
    return clock_now_ms();
}

static void transport_free(void *ctx)
{
    struct transport *t = ctx;

    if (t->watching) {
        int fd = interrupt_fd;

        interrupt_fd = -1;
        loop_unwatch_fd(t->loop, fd);
        (void)close(fd);
    }
    if (t->client != NULL)
        rpc_client_free(t->client);
    if (t->rpc != NULL)
        rpc_free(t->rpc);
    if (t->tls != NULL)
        tls_context_free(t->tls);
    if (t->loop != NULL)
        loop_free(t->loop);
    arena_deinit(&t->arena);
    free(t);
}

/* ---- why nothing answers ---- */

/* Connects with a plain socket; 0 or an errno. */
static int probe(const struct sockaddr *address, socklen_t size)
{
    CLEANUP_CLOSE int fd =
        socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct pollfd p = { .fd = fd, .events = POLLOUT };
    int error = 0;
    socklen_t error_size = sizeof(error);

    if (fd < 0)
        return errno;
    if (connect(fd, address, size) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return errno;
    if (poll(&p, 1, PROBE_MS) != 1)
        return ETIMEDOUT;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_size) == 0 ? error : errno;
}

static int probe_unix(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    if (strlen(path) >= sizeof(address.sun_path))
        return ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    return probe((const struct sockaddr *)&address, sizeof(address));
}

static const char *probe_tcp(struct arena *a, const char *host_port)
{
    const char *colon = strrchr(host_port, ':');
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    struct addrinfo *found = NULL;
    char host[256];
    size_t size = (size_t)(colon - host_port);
    int rc;

    if (host_port[0] == '[') {
        host_port++;
        size -= 2;
    }
    if (size >= sizeof(host))
        return "the host name is too long";
    memcpy(host, host_port, size);
    host[size] = '\0';
    rc = getaddrinfo(host, colon + 1, &hints, &found);
    if (rc != 0)
        return arena_strdup(a, gai_strerror(rc));
    rc = probe(found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return rc != 0 ? arena_strdup(a, strerror(rc)) : "it accepts connections but not this call";
}

static const char *transport_diagnose(void *ctx)
{
    struct transport *t = ctx;
    int rc;

    if (strncmp(t->url, "ipc://", 6) != 0)
        return probe_tcp(&t->arena, t->url + strlen("tls+tcp://"));
    rc = probe_unix(t->url + 6);
    return rc != 0 ? arena_strdup(&t->arena, strerror(rc)) : "";
}

/* Before the first call: is there a managerd at the socket at all? */
static int check_socket(const char *path, struct err *e)
{
    int rc = probe_unix(path);

    if (rc == ENOENT || rc == ECONNREFUSED)
        return err_set(
            e, ERR_UNAVAILABLE,
            "Cannot connect to managerd at unix://%.80s. managerd is not running on this "
            "host: start it (systemctl start managerd), or name a manager with --host "
            "HOST:PORT.",
            path);
    if (rc == EACCES || rc == EPERM)
        return err_set(e, ERR_PERMISSION,
                       "permission denied while trying to connect to managerd at unix://%.80s: run "
                       "ctl as root (sudo ctl ...)",
                       path);
    if (rc != 0)
        return err_errno(e, rc, "Cannot connect to managerd at unix://%.120s", path);
    return 0;
}

/* ---- opening ---- */

static int read_identity(struct transport *t, const char *dir, struct err *e)
{
    CLEANUP_BUF struct buf root = BUF_INIT(PEM_BYTES_MAX);
    CLEANUP_BUF struct buf node = BUF_INIT(PEM_BYTES_MAX);
    struct tls_context_options o = { .check = TLS_CHECK_CLUSTER };
    int rc = buf_read_file(&root, arena_printf(&t->arena, "%s/ca.pem", dir), e);

    if (rc == 0)
        rc = buf_read_file(&node, arena_printf(&t->arena, "%s/node.pem", dir), e);
    if (rc == 0) {
        o.root_ca_pem = buf_str(&root);
        o.node_pem = buf_str(&node);
        t->tls = tls_context_new(&o, e);
        rc = t->tls == NULL ? -e->code : 0;
    }
    explicit_bzero(node.data, node.size);
    if (rc < 0)
        return err_wrap(e, rc, "a remote manager needs an identity (--identity DIR)");
    return 0;
}

static int connect_to(struct transport *t, const struct client_options *o, struct err *e)
{
    struct rpc_client_options co = { 0 };
    char *url = NULL;
    int rc = client_url(&t->arena, o->host, &url, e);

    if (rc < 0)
        return rc;
    t->url = url;
    if (strncmp(url, "ipc://", 6) == 0) {
        rc = check_socket(url + 6, e);
    } else {
        rc = read_identity(t, o->identity_dir, e);
        co.server_role = TLS_ROLE_MANAGER;
    }
    if (rc < 0)
        return rc;
    co.url = url;
    co.tls = t->tls;
    t->loop = loop_new(e);
    t->rpc = t->loop != NULL ? rpc_new(t->loop, e) : NULL;
    t->client = t->rpc != NULL ? rpc_client_new(t->rpc, &co, e) : NULL;
    return t->client != NULL ? 0 : -e->code;
}

struct client *client_open(const struct client_options *o, struct err *e)
{
    struct transport *t = xcalloc(1, sizeof(*t));
    struct client_transport ops = {
        .start = transport_start,
        .wait = transport_wait,
        .catch_interrupt = transport_catch_interrupt,
        .diagnose = transport_diagnose,
        .free = transport_free,
        .now_ms = transport_now_ms,
        .ctx = t,
    };
    struct err own = { 0 };

    if (e == NULL)
        e = &own;
    if (connect_to(t, o, e) < 0) {
        transport_free(t);
        return NULL;
    }
    ops.name = arena_strdup(&t->arena, o->host);
    return client_new(&ops, (uint32_t)MIN(MAX(o->timeout_ns / 1000000, 1), RPC_DEADLINE_MS_MAX));
}
