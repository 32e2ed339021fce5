#include "test/lib/netrig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/net/netns.h"
#include "agentd/net/nft.h"
#include "common/assert.h"

extern char **environ;

enum { SERVED_MAX = 4096 };

struct served {
    int fd;
    bool listening, tcp;
    char name[NETRIG_TEXT];
    char peer[NETRIG_TEXT];
};

struct rig_task {
    int host, last;
    enum plan_state state;
    bool gone;
};

struct rig_host {
    int ns, router;
    struct balancer *balancer;
    struct ingress *ingress;
};

struct rig_port {
    struct plan_port port;
    int host_mode;
};

struct netrig {
    const struct balancer_ops *ops;
    int hosts;
    struct rig_host host[NETRIG_HOSTS_MAX + 1]; /* from 1 */
    struct rig_task tasks[NETRIG_TASKS_MAX];
    size_t task_count;
    struct rig_port ports[NETRIG_PORTS_MAX];
    size_t port_count;
    struct arena plans;
    char text[NETRIG_TEXT];
    char problem[ERR_MESSAGE_BYTES_MAX];

    pthread_t server;
    int wake[2];
    pthread_mutex_t lock;
    struct served served[SERVED_MAX];
    size_t served_count;
};

/* ---- shell --------------------------------------------------------------------------------------
 */

void netrig_shell(const char *format, ...)
{
    char *script, *command;
    char shell[] = "sh", dash_c[] = "-c";
    va_list args;
    int status = -1;
    pid_t pid;

    va_start(args, format);
    if (vasprintf(&script, format, args) < 0)
        abort();
    va_end(args);
    command = xasprintf("set -e\n%s", script);
    ASSERT(posix_spawnp(&pid, "sh", NULL, NULL, (char *[]){ shell, dash_c, command, NULL },
                        environ) == 0);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (status != 0) {
        (void)fprintf(stderr, "netrig: failed (%d): %s\n", status, script);
        abort();
    }
    free(command);
    free(script);
}

static int ns_open(const char *name)
{
    CLEANUP_FREE char *path = xasprintf("/run/netns/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    ASSERT(fd >= 0);
    return fd;
}

/* ---- servers ------------------------------------------------------------------------------------
 */

static void serve(struct netrig *r, const struct served *s)
{
    ASSERT(pthread_mutex_lock(&r->lock) == 0);
    ASSERT(r->served_count < SERVED_MAX);
    r->served[r->served_count++] = *s;
    ASSERT(pthread_mutex_unlock(&r->lock) == 0);
}

static void on_accept(struct netrig *r, const struct served *s)
{
    struct sockaddr_in peer;
    socklen_t size = sizeof(peer);
    struct served c = { .tcp = true };
    char line[2 * NETRIG_TEXT + 2];

    c.fd = accept4(s->fd, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (c.fd < 0)
        return;
    ASSERT(inet_ntop(AF_INET, &peer.sin_addr, c.peer, sizeof(c.peer)) != NULL);
    memcpy(c.name, s->name, sizeof(c.name));
    (void)snprintf(line, sizeof(line), "%s %s\n", c.name, c.peer);
    if (send(c.fd, line, strlen(line), MSG_NOSIGNAL) < 0) {
        close(c.fd);
        return;
    }
    serve(r, &c);
}

/* False: the connection has ended. */
static bool on_bytes(const struct served *s)
{
    struct sockaddr_in peer;
    socklen_t size = sizeof(peer);
    char mem[512], address[NETRIG_TEXT], line[2 * NETRIG_TEXT + 2];
    ssize_t n;

    if (s->tcp) {
        n = recv(s->fd, mem, sizeof(mem), 0);
        return n > 0 && send(s->fd, mem, (size_t)n, MSG_NOSIGNAL) == n;
    }
    n = recvfrom(s->fd, mem, sizeof(mem), 0, (struct sockaddr *)&peer, &size);
    if (n < 0)
        return true;
    ASSERT(inet_ntop(AF_INET, &peer.sin_addr, address, sizeof(address)) != NULL);
    (void)snprintf(line, sizeof(line), "%s %s\n", s->name, address);
    return sendto(s->fd, line, strlen(line), 0, (struct sockaddr *)&peer, size) >= 0 || true;
}

static void *server_thread(void *ctx)
{
    static struct pollfd p[SERVED_MAX + 1];
    struct netrig *r = ctx;

    for (;;) {
        size_t count;

        ASSERT(pthread_mutex_lock(&r->lock) == 0);
        count = r->served_count;
        for (size_t i = 0; i < count; i++)
            p[i] = (struct pollfd){ .fd = r->served[i].fd, .events = POLLIN };
        ASSERT(pthread_mutex_unlock(&r->lock) == 0);
        p[count] = (struct pollfd){ .fd = r->wake[0], .events = POLLIN };
        if (poll(p, count + 1, -1) < 0)
            continue;
        if (p[count].revents & POLLHUP)
            return NULL;
        if (p[count].revents & POLLIN) {
            char c[64];

            (void)!read(r->wake[0], c, sizeof(c));
        }
        for (size_t i = count; i-- > 0;) {
            struct served s = r->served[i];

            if (p[i].revents == 0)
                continue;
            if (s.listening)
                on_accept(r, &s);
            else if (!on_bytes(&s)) {
                close(s.fd);
                ASSERT(pthread_mutex_lock(&r->lock) == 0);
                r->served[i] = r->served[--r->served_count];
                ASSERT(pthread_mutex_unlock(&r->lock) == 0);
            }
        }
    }
}

struct binding {
    bool tcp, sctp;
    int fd; /* -1: the kernel has no such protocol */
};

static int new_socket(bool tcp, bool sctp, int flags)
{
    return socket(AF_INET, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | flags,
                  sctp ? IPPROTO_SCTP : 0);
}

static int bind_in(void *ctx, struct err *e)
{
    struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(80) };
    struct binding *b = ctx;
    int on = 1;

    (void)e;
    b->fd = new_socket(b->tcp, b->sctp, SOCK_NONBLOCK);
    if (b->fd < 0 && b->sctp)
        return 0;
    ASSERT(b->fd >= 0);
    ASSERT(setsockopt(b->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0);
    ASSERT(bind(b->fd, (struct sockaddr *)&any, sizeof(any)) == 0);
    ASSERT(!b->tcp || listen(b->fd, 1024) == 0);
    return 0;
}

static void serve_in(struct netrig *r, int ns, const char *name)
{
    static const struct binding protocols[] = { { .tcp = true },
                                                { .tcp = false },
                                                { .tcp = true, .sctp = true } };

    for (size_t i = 0; i < ARRAY_LEN(protocols); i++) {
        struct binding b = protocols[i];
        struct served s = { .tcp = b.tcp, .listening = b.tcp };

        ASSERT(netns_inside(ns, bind_in, &b, NULL) == 0);
        s.fd = b.fd;
        (void)snprintf(s.name, sizeof(s.name), "%s", name);
        if (s.fd >= 0)
            serve(r, &s);
    }
    ASSERT(write(r->wake[1], "x", 1) == 1);
}

/* ---- topology -----------------------------------------------------------------------------------
 */

/* Commands of ip (or bridge) in one namespace, one a line, by one process: in a virtual machine
 * without hardware support processes are what a test costs. */
static void batch(const char *tool, const char *ns, const char *format, ...) PRINTF(3, 4);
static void batch(const char *tool, const char *ns, const char *format, ...)
{
    char *lines;
    va_list args;

    va_start(args, format);
    if (vasprintf(&lines, format, args) < 0)
        abort();
    va_end(args);
    netrig_shell("%s %s %s -batch - <<'END'\n%s\nEND\n", tool, ns[0] != '\0' ? "-n" : "", ns,
                 lines);
    free(lines);
}

static int ns_create(const char *name)
{
    CLEANUP_FREE char *path = xasprintf("/run/netns/%s", name);
    int fd = -1;

    ASSERT(netns_create(path, &fd, NULL) == 0);
    return fd;
}

static void settings(int ns, const struct netns_setting *s, size_t count)
{
    ASSERT(netns_settings(ns, s, count, true, NULL, NULL) == 0);
}

/* The world, as agentd/net/egress.c has it. */
static void egress(int ns, const char *table, const char *rule)
{
    CLEANUP_FREE char *text =
        xasprintf("table ip %s {\nchain post { type nat hook postrouting priority "
                  "srcnat;\n%s\n}\n}\n",
                  table, rule);
    struct nft *nft = nft_open(ns, NULL);

    ASSERT(nft != NULL && nft_apply(nft, text, NULL) == 0);
    nft_close(nft);
}

static void make_host(struct netrig *r, int i)
{
    static const struct netns_setting router[] = {
        { "ipv4/ip_forward", "1", false },
        { "ipv4/conf/all/rp_filter", "0", false },
        { "ipv4/conf/default/rp_filter", "0", false },
        { "ipv4/conf/all/send_redirects", "0", false },
        { "ipv4/conf/default/send_redirects", "0", false },
    };
    char h[16], n[16];

    (void)snprintf(h, sizeof(h), "h%d", i);
    (void)snprintf(n, sizeof(n), "r%d", i);
    r->host[i].ns = ns_create(h);
    r->host[i].router = ns_create(n);
    settings(r->host[i].ns, router, 1);
    settings(r->host[i].router, router, ARRAY_LEN(router));
    batch("ip", "", "link add u%d type veth peer name eth0 netns h%d\nlink set u%d master ub up", i,
          i, i);
    batch("ip", h,
          "link set lo up\naddr add 192.168.77.%d/24 dev eth0\nlink set eth0 up\n"
          "link add vxlan0 netns r%d address 02:43:c0:a8:4d:%02x mtu 1450 type vxlan id 4097 "
          "dstport 4789 local 192.168.77.%d nolearning\n"
          "link add sk1 type veth peer name up0 netns r%d\n"
          "addr add 169.254.8.1/30 dev sk1\nlink set sk1 up",
          i, i, i, i, i);
    batch("ip", n,
          "link set lo up\naddr add 10.77.0.1/32 dev lo\nlink set vxlan0 up\n"
          "addr add 169.254.8.2/30 dev up0\nlink set up0 up\nroute add default via 169.254.8.1");
    egress(r->host[i].router, "skep-router", "oifname \"up0\" masquerade");
    egress(r->host[i].ns, "skep-egress", "ip saddr 169.254.0.0/16 oifname != \"sk*\" masquerade");
}

static void join_hosts(struct netrig *r)
{
    for (int i = 1; i <= r->hosts; i++)
        for (int j = 1; j <= r->hosts; j++) {
            char n[16];

            (void)snprintf(n, sizeof(n), "r%d", i);
            if (i == j)
                continue;
            batch(
                "ip", n,
                "neigh replace 192.168.77.%d lladdr 02:43:c0:a8:4d:%02x nud permanent dev vxlan0\n"
                "route add 10.77.0.24%d/32 via 192.168.77.%d dev vxlan0 onlink",
                j, j, j, j);
            batch("bridge", n,
                  "fdb replace 02:43:c0:a8:4d:%02x dev vxlan0 dst 192.168.77.%d self permanent", j,
                  j);
        }
}

static void open_host(struct netrig *r, int i)
{
    char name[16];
    struct balancer_place place = { name, r->host[i].router, "/run/netns", (uint32_t)i };
    struct err e = { 0 };

    (void)snprintf(name, sizeof(name), "net%d", i);

    if (r->ops == NULL)
        return;
    r->host[i].balancer = r->ops->open(&place, &e);
    if (r->host[i].balancer == NULL) {
        (void)fprintf(stderr, "netrig: %s\n", e.message);
        abort();
    }
}

struct netrig *netrig_new(int hosts, const struct balancer_ops *ops)
{
    struct netrig *r = xcalloc(1, sizeof(*r));

    r->ops = ops;
    r->hosts = hosts;
    ASSERT(hosts <= NETRIG_HOSTS_MAX);
    ASSERT(unshare(CLONE_NEWNS | CLONE_NEWNET) == 0);
    ASSERT(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    ASSERT(mkdir("/run/netns", 0755) == 0 || errno == EEXIST);
    ASSERT(mount("none", "/run/netns", "tmpfs", 0, NULL) == 0);
    ASSERT(pthread_mutex_init(&r->lock, NULL) == 0);
    ASSERT(pipe2(r->wake, O_CLOEXEC) == 0);
    ASSERT(pthread_create(&r->server, NULL, server_thread, r) == 0);
    close(ns_create("client"));
    batch("ip", "",
          "link add ub type bridge\nlink set ub up\nlink add uc type veth peer name eth0 netns "
          "client\n"
          "link set uc master ub up");
    batch("ip", "client", "link set lo up\naddr add 192.168.77.100/24 dev eth0\nlink set eth0 up");
    for (int i = 1; i <= hosts; i++)
        make_host(r, i);
    join_hosts(r);
    for (int i = 1; i <= hosts; i++)
        open_host(r, i);
    return r;
}

static int open_ingress(void *ctx, struct err *e)
{
    struct ingress **ret = ctx;

    *ret = ingress_new(NULL, e);
    return *ret != NULL ? 0 : -ERR_IO;
}

struct ingress *netrig_ingress(struct netrig *r, int host)
{
    struct err e = { 0 };

    if (r->host[host].ingress == NULL &&
        netns_inside(r->host[host].ns, open_ingress, &r->host[host].ingress, &e) < 0) {
        (void)fprintf(stderr, "netrig: %s\n", e.message);
        abort();
    }
    return r->host[host].ingress;
}

void netrig_restart(struct netrig *r, int host)
{
    if (r->host[host].balancer != NULL)
        r->ops->close(r->host[host].balancer, true);
    ingress_free(r->host[host].ingress, true);
    r->host[host].ingress = NULL;
    open_host(r, host);
}

void netrig_free(struct netrig *r)
{
    for (int i = 1; i <= r->hosts; i++) {
        if (r->host[i].balancer != NULL)
            r->ops->close(r->host[i].balancer, false);
        ingress_free(r->host[i].ingress, false);
        close(r->host[i].ns);
        close(r->host[i].router);
    }
    close(r->wake[1]);
    ASSERT(pthread_join(r->server, NULL) == 0);
    close(r->wake[0]);
    for (size_t i = 0; i < r->served_count; i++)
        close(r->served[i].fd);
    ASSERT(umount2("/run/netns", MNT_DETACH) == 0);
    arena_deinit(&r->plans);
    free(r);
}

void netrig_task(struct netrig *r, int host, int last, enum plan_state state)
{
    char name[16], router[16], arp[64], delay[64];
    const struct netns_setting link[] = { { arp, "1", false }, { delay, "0", false } };
    CLEANUP_CLOSE int ns = -1;

    ASSERT(r->task_count < NETRIG_TASKS_MAX);
    (void)snprintf(name, sizeof(name), "t%d", last);
    (void)snprintf(router, sizeof(router), "r%d", host);
    (void)snprintf(arp, sizeof(arp), "ipv4/conf/v%d/proxy_arp", last);
    (void)snprintf(delay, sizeof(delay), "ipv4/neigh/v%d/proxy_delay", last);
    ns = ns_create(name);
    batch("ip", router,
          "link add v%d mtu 1450 type veth peer name eth0 netns t%d address 02:42:0a:4d:00:%02x\n"
          "link set v%d up\nroute add 10.77.0.%d/32 dev v%d\n"
          "neigh replace 10.77.0.%d lladdr 02:42:0a:4d:00:%02x nud permanent dev v%d",
          last, last, last, last, last, last, last, last, last);
    settings(r->host[host].router, link, ARRAY_LEN(link));
    batch("ip", name,
          "link set lo up\nlink set eth0 mtu 1450 up\naddr add 10.77.0.%d/24 dev eth0\n"
          "route add default via 10.77.0.1",
          last);
    for (int i = 1; i <= r->hosts; i++) {
        (void)snprintf(router, sizeof(router), "r%d", i);
        if (i != host)
            batch("ip", router, "route add 10.77.0.%d/32 via 192.168.77.%d dev vxlan0 onlink", last,
                  host);
    }
    r->tasks[r->task_count++] = (struct rig_task){ host, last, state, false };
    serve_in(r, ns, name);
}

static struct rig_task *task_of(struct netrig *r, int last)
{
    for (size_t i = 0; i < r->task_count; i++)
        if (r->tasks[i].last == last)
            return &r->tasks[i];
    abort();
}

void netrig_state(struct netrig *r, int last, enum plan_state state)
{
    task_of(r, last)->state = state;
}

/* As when its host lost power: nobody says good-bye. */
void netrig_gone(struct netrig *r, int last)
{
    struct rig_task *t = task_of(r, last);

    t->gone = true;
    netrig_shell("ip -n r%d link del v%d", t->host, last);
    for (int i = 1; i <= r->hosts; i++)
        if (i != t->host)
            netrig_shell("ip -n r%d route del 10.77.0.%d/32", i, last);
}

void netrig_port(struct netrig *r, struct plan_port port, int host_mode)
{
    ASSERT(r->port_count < NETRIG_PORTS_MAX);
    r->ports[r->port_count++] = (struct rig_port){ port, host_mode };
}

/* ---- plans --------------------------------------------------------------------------------------
 */

static struct ip address(int last)
{
    return (struct ip){ IP_V4, { 10, 77, 0, (uint8_t)last } };
}

static struct plan_backend *backends(struct netrig *r, int host, int only, size_t *ret_count)
{
    struct plan_backend *b = arena_array(&r->plans, NETRIG_TASKS_MAX, sizeof(*b));
    size_t count = 0;

    for (size_t i = 0; i < r->task_count; i++) {
        const struct rig_task *t = &r->tasks[i];

        if (!t->gone && t->state != PLAN_STARTING &&
            (only == 0 || (only == t->last && t->host == host)))
            b[count++] = (struct plan_backend){ address(t->last), t->state == PLAN_DRAINING,
                                                t->host == host };
    }
    *ret_count = count;
    return b;
}

static void plan_tasks(struct netrig *r, int host, struct net_plan *p)
{
    struct plan_peer *peers = arena_array(&r->plans, NETRIG_HOSTS_MAX, sizeof(*peers));
    struct plan_endpoint *ends = arena_array(&r->plans, NETRIG_TASKS_MAX, sizeof(*ends));
    int peer_of[NETRIG_HOSTS_MAX + 1] = { 0 };

    for (int i = 1; i <= r->hosts; i++) {
        peer_of[i] = i == host ? -1 : (int)p->peer_count;
        if (i != host)
            peers[p->peer_count++] = (struct plan_peer){
                "peer", { IP_V4, { 192, 168, 77, (uint8_t)i } }, address(240 + i), ""
            };
    }
    for (size_t i = 0; i < r->task_count; i++)
        if (!r->tasks[i].gone)
            ends[p->endpoint_count++] = (struct plan_endpoint){ "task",
                                                                "service",
                                                                address(r->tasks[i].last),
                                                                { 0 },
                                                                peer_of[r->tasks[i].host],
                                                                r->tasks[i].state };
    p->peers = peers;
    p->endpoints = ends;
}

const struct net_plan *netrig_plan(struct netrig *r, int host)
{
    static const struct plan_subnet subnet = { { { IP_V4, { 10, 77, 0, 0 } }, 24 },
                                               { IP_V4, { 10, 77, 0, 1 } } };
    struct net_plan *p = ARENA_NEW(&r->plans, struct net_plan);
    struct plan_service *s = ARENA_NEW(&r->plans, struct plan_service);
    struct plan_port *ports = arena_array(&r->plans, NETRIG_PORTS_MAX, sizeof(*ports));

    *s = (struct plan_service){ .id = "service", .name = "web", .vip = address(200) };
    s->backends = backends(r, host, 0, &s->backend_count);
    for (size_t i = 0; i < r->port_count; i++) {
        struct plan_port *port = &ports[p->port_count];
        int only = r->ports[i].host_mode;

        *port = r->ports[i].port;
        port->host_mode = only != 0;
        port->service_id = "service";
        port->backends = backends(r, host, only, &port->backend_count);
        if (only == 0 || task_of(r, only)->host == host)
            p->port_count++;
    }
    p->id = "net";
    p->name = "rig";
    p->ingress = true;
    p->self_vtep = (struct ip){ IP_V4, { 192, 168, 77, (uint8_t)host } };
    p->self_address = address(240 + host);
    p->subnets = &subnet;
    p->subnet_count = 1;
    p->services = s;
    p->service_count = 1;
    p->ports = ports;
    plan_tasks(r, host, p);
    return p;
}

struct applying {
    struct netrig *r;
    int host;
};

static int apply_ingress(void *ctx, struct err *e)
{
    struct applying *a = ctx;
    struct ingress_network n = { .plan = netrig_plan(a->r, a->host), .link = "sk1" };

    n.host_address = (struct ip){ IP_V4, { 169, 254, 8, 1 } };
    n.router_address = (struct ip){ IP_V4, { 169, 254, 8, 2 } };
    return ingress_apply(a->r->host[a->host].ingress, &n, 1, e);
}

const char *netrig_try(struct netrig *r)
{
    struct err e = { 0 };
    int rc = 0;

    for (int i = 1; rc == 0 && i <= r->hosts; i++) {
        struct applying a = { r, i };

        rc = r->ops->apply(r->host[i].balancer, netrig_plan(r, i), &e);
        if (rc == 0 && r->ops->settle != NULL)
            rc = r->ops->settle(r->host[i].balancer, &e);
        if (rc == 0 && r->port_count > 0) {
            (void)netrig_ingress(r, i);
            rc = netns_inside(r->host[i].ns, apply_ingress, &a, &e);
        }
    }
    (void)snprintf(r->problem, sizeof(r->problem), "%s", rc < 0 ? err_message(&e, rc) : "");
    return r->problem;
}

void netrig_apply(struct netrig *r)
{
    const char *problem = netrig_try(r);

    if (problem[0] != '\0') {
        (void)fprintf(stderr, "netrig: %s\n", problem);
        abort();
    }
}

struct balancer *netrig_balancer(struct netrig *r, int host)
{
    return r->host[host].balancer;
}

int netrig_check(struct netrig *r, int host, bool repair, struct differences *d)
{
    struct err e = { 0 };
    int rc = r->ops->check(r->host[host].balancer, netrig_plan(r, host), repair, d, &e);

    if (rc < 0)
        (void)fprintf(stderr, "netrig: %s\n", e.message);
    return rc;
}

/* ---- clients ------------------------------------------------------------------------------------
 */

int netrig_router(struct netrig *r, int host)
{
    return r->host[host].router;
}

/* A new fd. */
int netrig_ns(struct netrig *r, int who)
{
    char name[16] = "client";

    if (who <= NETRIG_HOST)
        return dup(r->host[NETRIG_HOST - who].ns);
    if (who != NETRIG_CLIENT)
        (void)snprintf(name, sizeof(name), "t%d", who);
    return ns_open(name);
}

struct connecting {
    struct netrig_call call;
    int fd; /* or -errno */
};

static int connect_in(void *ctx, struct err *e)
{
    struct connecting *c = ctx;
    struct sockaddr_in from = { .sin_family = AF_INET, .sin_port = htons((uint16_t)c->call.from) };
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)c->call.port) };
    struct timeval wait = { NETRIG_WAIT_MS / 1000, 0 };
    struct linger hard = { 1, 0 };
    int on = 1, problem;

    (void)e;
    ASSERT(inet_pton(AF_INET, c->call.address, &to.sin_addr) == 1);
    c->fd = new_socket(c->call.tcp, c->call.sctp, 0);
    ASSERT(c->fd >= 0);
    ASSERT(setsockopt(c->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0);
    ASSERT(setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) == 0);
    ASSERT(setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) == 0);
    /* A reset at the end: no port waits. */
    ASSERT(setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)) == 0);
    if ((c->call.from != 0 && bind(c->fd, (struct sockaddr *)&from, sizeof(from)) != 0) ||
        connect(c->fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        problem = errno;
        close(c->fd);
        c->fd = -problem;
    }
    return 0;
}

int netrig_connect(struct netrig *r, struct netrig_call call)
{
    CLEANUP_CLOSE int ns = netrig_ns(r, call.who);
    struct connecting c = { .call = call };

    ASSERT(netns_inside(ns, connect_in, &c, NULL) == 0);
    return c.fd;
}

int netrig_talk(int fd, const char *line, char ret[NETRIG_TEXT])
{
    ssize_t n;

    if (line != NULL && send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
        return -errno;
    n = recv(fd, ret, NETRIG_TEXT - 1, 0);
    if (n <= 0)
        return n == 0 ? -EPIPE : -errno;
    ret[n] = '\0';
    ret[strcspn(ret, "\n")] = '\0';
    return 0;
}

const char *netrig_ask(struct netrig *r, struct netrig_call call)
{
    int fd = netrig_connect(r, call);
    int rc = fd;

    r->text[0] = '\0';
    if (fd >= 0) {
        rc = netrig_talk(fd, call.tcp ? NULL : "?", r->text);
        close(fd);
    }
    if (rc < 0)
        r->text[0] = '\0';
    errno = rc < 0 ? -rc : 0;
    return r->text;
}

void netrig_spread(struct netrig *r, struct netrig_call call, int count, struct netrig_spread *ret)
{
    memset(ret, 0, sizeof(*ret));
    for (int i = 0; i < count; i++) {
        const char *answer = netrig_ask(r, call);
        unsigned task = 0;

        if (sscanf(answer, "t%3u %63s", &task, ret->client) == 2 && task < 256)
            ret->by_task[task]++;
        else
            ret->failed++;
    }
}
