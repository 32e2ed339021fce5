#include "test/lib/nethosts.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/net/netns.h"
#include "common/assert.h"
#include "common/buf.h"
#include "common/clock.h"
#include "test/lib/networks_text.h"
#include "test/lib/tmpdir.h"

enum { COMMAND_BYTES = 2048, WAIT_MS = 60000 };

/* ---- commands -------------------------------------------------------------------------------- */

static pid_t spawn_sh(int ns, const char *command, int out)
{
    pid_t pid = fork();

    ASSERT(pid >= 0);
    if (pid > 0)
        return pid;
    if (setns(ns, CLONE_NEWNET) != 0 || (out >= 0 && dup2(out, 1) != 1))
        _exit(126);
    execl("/bin/sh", "sh", "-c", command, NULL);
    _exit(127);
}

static int wait_for(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        ASSERT(errno == EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

int netns_sh(int ns, const char *format, ...)
{
    char command[COMMAND_BYTES];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    return wait_for(spawn_sh(ns, command, -1));
}

const char *netns_read(struct nethosts *h, int ns, const char *format, ...)
{
    char command[COMMAND_BYTES];
    char *text = arena_alloc(&h->arena, 65536);
    size_t size = 0;
    int fds[2];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    ASSERT(pipe2(fds, O_CLOEXEC) == 0);
    pid_t pid = spawn_sh(ns, command, fds[1]);
    (void)close(fds[1]);
    for (ssize_t n; size < 65535 && (n = read(fds[0], text + size, 65535 - size)) > 0;)
        size += (size_t)n;
    (void)close(fds[0]);
    (void)wait_for(pid);
    while (size > 0 && text[size - 1] == '\n')
        text[--size] = '\0';
    return text;
}

/* ---- hosts ----------------------------------------------------------------------------------- */

static int new_ns(const struct nethosts *h)
{
    int fd = -1;
    struct err e = { 0 };

    ASSERT(unshare(CLONE_NEWNET) == 0);
    ASSERT(netns_open_own(&fd, &e) == 0);
    ASSERT(setns(h->own_ns, CLONE_NEWNET) == 0);
    return fd;
}

static void host_init(struct nethosts *h, unsigned number)
{
    struct nethost *x = &h->hosts[number - 1];

    x->number = number;
    x->ns = new_ns(h);
    x->run_dir = tmpdir_new();
    ASSERT(netns_sh(h->underlay_ns,
                    "ip link add u%u type veth peer name eth0 netns /proc/%d/fd/%d && "
                    "ip link set u%u master br0 up",
                    number, (int)getpid(), x->ns, number) == 0);
    ASSERT(netns_sh(x->ns,
                    "ip link set lo up; ip addr add 192.168.77.%u/24 dev eth0 && "
                    "ip -6 addr add fd77::%u/64 dev eth0 nodad && ip link set eth0 up",
                    number, number) == 0);
}

bool nethosts_begin(struct nethosts *h, size_t count)
{
    struct err e = { 0 };

    *h = (struct nethosts){ .own_ns = -1, .underlay_ns = -1 };
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return false;
    ASSERT(netns_open_own(&h->own_ns, &e) == 0);
    h->loop = loop_new(&e);
    ASSERT(h->loop != NULL);
    h->underlay_ns = new_ns(h);
    ASSERT(netns_sh(h->underlay_ns, "ip link add br0 type bridge && ip link set br0 up && "
                                    "ip addr add 192.168.77.254/24 dev br0") == 0);
    h->count = count;
    for (unsigned i = 1; i <= count; i++)
        host_init(h, i);
    return true;
}

static void on_change(void *ctx)
{
    ((struct nethost *)ctx)->changes++;
}

void nethost_start(struct nethosts *h, unsigned number)
{
    struct nethost *x = &h->hosts[number - 1];
    struct net_options o = { .run_dir = x->run_dir,
                             .balancer =
                                 h->balancer == NET_BALANCER_AUTO ? NET_BALANCER_NFT : h->balancer,
                             .on_change = on_change,
                             .ctx = x };
    struct err e = { 0 };
    char name[16];
    int previous = -1;

    ASSERT(x->net == NULL);
    ASSERT(netns_enter(x->ns, &previous, &e) == 0);
    x->net = net_new(h->loop, &o, &e);
    if (x->net == NULL)
        (void)fprintf(stderr, "net_new: %s\n", e.message);
    ASSERT(x->net != NULL);
    netns_leave(previous);
    (void)snprintf(name, sizeof(name), "m%u", number);
    net_set_identity(x->net, networks_id(&h->arena, name));
}

void nethost_stop(struct nethosts *h, unsigned number)
{
    net_free(h->hosts[number - 1].net);
    h->hosts[number - 1].net = NULL;
}

void nethost_apply(struct nethosts *h, unsigned number, const char *text)
{
    net_apply(h->hosts[number - 1].net, networks_parse(&h->arena, text));
}

void nethosts_apply(struct nethosts *h, const char *text)
{
    for (unsigned i = 1; i <= h->count; i++)
        if (h->hosts[i - 1].net != NULL)
            nethost_apply(h, i, text);
}

static size_t pins(const struct nethost *x)
{
    char command[COMMAND_BYTES];
    (void)snprintf(command, sizeof(command), "test -z \"$(ls -A %s/netns 2>/dev/null)\"",
                   x->run_dir);
    return (size_t)netns_sh(x->ns, "%s", command);
}

void nethosts_end(struct nethosts *h)
{
    for (size_t i = 0; i < h->task_count; i++)
        nettask_stop(&h->tasks[i]);
    for (size_t i = 0; i < h->count; i++) {
        struct nethost *x = &h->hosts[i];

        if (x->net != NULL)
            net_clear(x->net);
        net_free(x->net);
        ASSERT(pins(x) == 0);
        ASSERT(netns_sh(x->ns, "! ip -o link | grep -E ' (sk[0-9w]|vxlan)'") == 0);
        ASSERT(netns_sh(x->ns, "! nft list tables | grep skep") == 0);
        ASSERT(netns_sh(x->ns, "! ip rule | grep -E '^520[01]:'") == 0);
        ASSERT(netns_sh(x->ns, "! ip xfrm policy 2>/dev/null | grep .") == 0);
        ASSERT(netns_sh(x->ns, "! ip xfrm state 2>/dev/null | grep .") == 0);
        (void)close(x->ns);
        tmpdir_remove(x->run_dir);
    }
    (void)close(h->underlay_ns);
    (void)close(h->own_ns);
    loop_free(h->loop);
    arena_deinit(&h->arena);
}

bool nethosts_until(struct nethosts *h, bool (*done)(void *ctx), void *ctx)
{
    uint64_t end = clock_now_ms() + WAIT_MS;
    struct err e = { 0 };

    while (!done(ctx)) {
        if (clock_now_ms() > end)
            return false;
        ASSERT(loop_run_once(h->loop, 20, &e) == 0);
    }
    return true;
}

void nethosts_run_ms(struct nethosts *h, uint32_t ms)
{
    uint64_t end = clock_now_ms() + ms;
    struct err e = { 0 };

    while (clock_now_ms() < end)
        ASSERT(loop_run_once(h->loop, 10, &e) == 0);
}

/* ---- tasks ----------------------------------------------------------------------------------- */

struct nettask *nettask_start(struct nethosts *h)
{
    struct nettask *t = &h->tasks[h->task_count++];
    struct err e = { 0 };
    int fds[2];
    char byte;

    ASSERT(h->task_count <= NETHOST_TASKS_MAX && pipe2(fds, O_CLOEXEC) == 0);
    t->pid = fork();
    ASSERT(t->pid >= 0);
    if (t->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (unshare(CLONE_NEWNET) != 0 || write(fds[1], "x", 1) != 1)
            _exit(1);
        (void)close_range(0, ~0u, 0); /* what the agent of a host listens on is not the task's */
        for (;;)
            (void)pause();
    }
    ASSERT(read(fds[0], &byte, 1) == 1);
    (void)close(fds[0]);
    (void)close(fds[1]);
    ASSERT(netns_open_process(t->pid, &t->ns, &e) == 0);
    return t;
}

/* Its server has come up: busybox listens for both families. */
static bool is_listening(const struct nettask *t)
{
    CLEANUP_FREE char *path = xasprintf("/proc/%d/net/tcp6", (int)t->server);
    CLEANUP_BUF struct buf text = BUF_INIT(1 << 20);

    return buf_read_file(&text, path, NULL) == 0 &&
           strstr(buf_str(&text), ":0050 00000000000000000000000000000000:0000 0A") != NULL;
}

void nettask_serve(struct nettask *t, const char *name)
{
    t->server = fork();
    ASSERT(t->server >= 0);
    if (t->server > 0) {
        for (int i = 0; !is_listening(t); i++) {
            ASSERT(i < WAIT_MS);
            (void)usleep(1000);
        }
        return;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (setns(t->ns, CLONE_NEWNET) != 0 || dup2(open("/dev/null", O_RDWR), 0) != 0)
        _exit(1);
    execlp("busybox", "busybox", "nc", "-ll", "-p", "80", "-e", "busybox", "echo", name, NULL);
    _exit(127);
}

void nettask_stop(struct nettask *t)
{
    if (t->pid == 0)
        return;
    if (t->server > 0) {
        (void)kill(t->server, SIGKILL);
        (void)wait_for(t->server);
        t->server = 0;
    }
    (void)kill(t->pid, SIGKILL);
    (void)wait_for(t->pid);
    (void)close(t->ns);
    t->pid = 0;
}

int nettask_attach(struct nethosts *h, unsigned host, struct nettask *t, const char *task,
                   const char *networks, struct err *e)
{
    char line[512];

    (void)snprintf(line, sizeof(line), "endpoint %s x s m UP %s", task, networks);
    Skep__NetworksResponse *resp = networks_parse(&h->arena, line);
    const Skep__NetworkEndpoint *x = resp->records[0]->endpoint;
    struct net_task task_of = { .task_id = x->task_id,
                                .networks = x->networks,
                                .network_count = x->n_networks };

    return net_attach(h->hosts[host - 1].net, &task_of, t->pid, e);
}
