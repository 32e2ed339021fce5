#include "agentd/net/ingress.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/net/conntrack.h"
#include "agentd/net/health.h"
#include "agentd/net/netns.h"
#include "agentd/net/nft_table.h"

enum { PROBLEM_BYTES = 512 };

struct wanted { /* a published port of this host */
    uint8_t protocol;
    uint16_t port;
    uint32_t host; /* address of the host, 0 = all; host order */
    uint32_t router;
    uint16_t link_port;
    bool mesh_local; /* source=local: asked for by external balancers */
    int local_tasks; /* that take new connections */
    int fd;          /* holds the port; -1: not held */
    int error;       /* errno why not */
};

struct wanted_list { /* in order of (protocol, port, host) */
    struct wanted *items;
    size_t count;
};

struct ingress {
    struct loop *loop;
    int ns; /* the host's */
    struct nft_table *table;
    struct nl netfilter;
    struct health *health;
    struct wanted_list ports;
    bool programmed;
    char problem[PROBLEM_BYTES];
    size_t problem_plans; /* how much of it is the plans' fault: trying again does not help */
};

static uint32_t v4(const struct ip *ip)
{
    uint32_t n;

    memcpy(&n, ip->bytes, sizeof(n));
    return ip->family == IP_V4 ? ntohl(n) : 0;
}

static const char *protocol_name(uint8_t number)
{
    return number == IPPROTO_UDP ? "udp" : number == IPPROTO_SCTP ? "sctp" : "tcp";
}

/* ---- what is wanted -----------------------------------------------------------------------------
 */

static int compare(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;

    if (x->protocol != y->protocol)
        return x->protocol < y->protocol ? -1 : 1;
    if (x->port != y->port)
        return x->port < y->port ? -1 : 1;
    return x->host < y->host ? -1 : x->host > y->host;
}

static int local_tasks(const struct plan_port *p)
{
    int count = 0;

    for (size_t i = 0; i < p->backend_count; i++)
        count += p->backends[i].local && !p->backends[i].draining;
    return count;
}

static void problem_add(struct ingress *in, const char *format, ...) PRINTF(2, 3);
static void problem_add(struct ingress *in, const char *format, ...)
{
    size_t at = strlen(in->problem);
    va_list args;

    if (at > 0 && at + 2 < sizeof(in->problem)) {
        memcpy(in->problem + at, "; ", 3);
        at += 2;
    }
    va_start(args, format);
    (void)vsnprintf(in->problem + at, sizeof(in->problem) - at, format, args); /* cut: for people */
    va_end(args);
}

static void add_network(struct wanted_list *l, const struct ingress_network *n)
{
    const struct net_plan *p = n->plan;
    uint16_t *link_ports = xcalloc(p->port_count + 1, sizeof(*link_ports));

    nft_link_ports(p, link_ports);
    for (size_t i = 0; i < p->port_count; i++) {
        const struct plan_port *port = &p->ports[i];

        if ((port->host_ip.family != 0 && port->host_ip.family != IP_V4) || link_ports[i] == 0)
            continue;
        l->items[l->count++] = (struct wanted){
            .protocol = nft_protocol_number(port->protocol),
            .port = port->published,
            .host = ip_is_any(&port->host_ip) ? 0 : v4(&port->host_ip),
            .router = v4(&n->router_address),
            .link_port = link_ports[i],
            .mesh_local = !port->host_mode && port->source == SKEP__SOURCE_POLICY__SOURCE_LOCAL,
            .local_tasks = local_tasks(port),
            .fd = -1,
        };
    }
    free(link_ports);
}

/* Sorted; of two that want the same, the first network's stays. */
static struct wanted_list wanted_of(struct ingress *in, const struct ingress_network *networks,
                                    size_t count)
{
    struct wanted_list l = { NULL, 0 };
    size_t room = 1, kept = 0;

    for (size_t i = 0; i < count; i++)
        room += networks[i].plan->port_count;
    l.items = xcalloc(room, sizeof(*l.items));
    for (size_t i = 0; i < count; i++)
        add_network(&l, &networks[i]);
    if (l.count > 0)
        qsort(l.items, l.count, sizeof(*l.items), compare);
    for (size_t i = 0; i < l.count; i++) {
        if (kept > 0 && compare(&l.items[kept - 1], &l.items[i]) == 0)
            problem_add(in, "port %u/%s is asked for twice", l.items[i].port,
                        protocol_name(l.items[i].protocol));
        else
            l.items[kept++] = l.items[i];
    }
    l.count = kept;
    return l;
}

/* ---- holding ports ------------------------------------------------------------------------------
 */

/* Bound and not listening: whoever binds the port after us is refused, and a connection that no
 * rule catches is reset. */
static int hold_in(void *ctx, struct err *e)
{
    struct wanted *w = ctx;
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons(w->port),
                              .sin_addr.s_addr = htonl(w->host) };
    int type = w->protocol == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM, on = 1;
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, w->protocol);

    (void)e;
    if (fd < 0) { /* without the protocol (SCTP) nobody can take the port either */
        w->error = errno == EPROTONOSUPPORT || errno == ESOCKTNOSUPPORT ? 0 : errno;
        return 0;
    }
    (void)setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof(on)); /* the address may come later */
    if (bind(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        w->error = errno;
        close(fd);
        return 0;
    }
    w->error = 0;
    w->fd = fd;
    return 0;
}

static void hold_all(struct ingress *in)
{
    for (size_t i = 0; i < in->ports.count; i++) {
        struct wanted *w = &in->ports.items[i];

        if (w->fd >= 0)
            continue;
        if (netns_inside(in->ns, hold_in, w, NULL) < 0)
            w->error = EIO;
        if (w->error == EADDRINUSE)
            problem_add(in, "port %u/%s is in use on this host", w->port,
                        protocol_name(w->protocol));
        else if (w->error != 0)
            problem_add(in, "port %u/%s: %s", w->port, protocol_name(w->protocol),
                        strerror(w->error));
    }
}

/* Sockets go on to the same port of the new list; others are closed. */
static void take_over(struct wanted_list *from, struct wanted_list *to)
{
    for (size_t i = 0; i < from->count; i++) {
        struct wanted *w = &from->items[i], *next = NULL;

        if (to != NULL && to->count > 0)
            next = bsearch(w, to->items, to->count, sizeof(*w), compare);
        if (next != NULL)
            next->fd = w->fd;
        else if (w->fd >= 0)
            close(w->fd);
    }
    free(from->items);
}

/* ---- health -------------------------------------------------------------------------------------
 */

static int count_tasks(void *ctx, uint8_t protocol, uint16_t port)
{
    const struct ingress *in = ctx;
    int count = -1;

    for (size_t i = 0; i < in->ports.count; i++) {
        const struct wanted *w = &in->ports.items[i];

        if (w->mesh_local && w->protocol == protocol && w->port == port)
            count = MAX(count, 0) + (w->error == 0 ? w->local_tasks : 0);
    }
    return count;
}

static int listen_in(void *ctx, struct err *e)
{
    struct ingress *in = ctx;

    in->health = health_new(in->loop, INGRESS_HEALTH_PORT, count_tasks, in, e);
    return in->health != NULL ? 0 : -ERR_BUSY;
}

static void serve_health(struct ingress *in)
{
    struct err e = { 0 };
    bool wanted = false;

    for (size_t i = 0; i < in->ports.count; i++)
        wanted |= in->ports.items[i].mesh_local;
    if (!wanted || in->loop == NULL) {
        health_free(in->health);
        in->health = NULL;
    } else if (in->health == NULL && netns_inside(in->ns, listen_in, in, &e) < 0) {
        problem_add(in, "%s", e.message);
    }
}

/* ---- the kernel ---------------------------------------------------------------------------------
 */

static const struct nft_model *make(void *ctx, const struct nft_model *prev, struct arena *a)
{
    const struct ingress *in = ctx;
    struct nft_model *m = ARENA_NEW(a, struct nft_model);
    struct nft_set *all = &m->sets[NFT_HOST_PORT], *one = &m->sets[NFT_HOST_ADDRESS];

    (void)prev;
    m->role = NFT_HOST;
    all->items = arena_array(a, in->ports.count + 1, sizeof(*all->items));
    one->items = arena_array(a, in->ports.count + 1, sizeof(*one->items));
    for (size_t i = 0; i < in->ports.count; i++) {
        const struct wanted *w = &in->ports.items[i];
        struct nft_set *s = w->host == 0 ? all : one;
        uint64_t key = (uint64_t)w->protocol << 16 | w->port;

        if (w->error == 0)
            s->items[s->count++] = (struct nft_element){
                w->host == 0 ? key : (uint64_t)w->host << 24 | key,
                (uint64_t)w->router << 16 | w->link_port,
            };
    }
    if (one->count > 1)
        qsort(one->items, one->count, sizeof(*one->items), nft_element_compare);
    return m;
}

/* UDP flows from before the port led where it leads now would go on as they were. */
static bool stale(void *ctx, const struct conntrack_flow *f)
{
    const struct ingress *in = ctx;
    bool known = false;

    if (f->protocol != IPPROTO_UDP)
        return false;
    for (size_t i = 0; i < in->ports.count; i++) {
        const struct wanted *w = &in->ports.items[i];

        if (w->protocol != f->protocol || w->port != f->destination_port || w->error != 0)
            continue;
        if (w->router == f->server)
            return false;
        known = true;
    }
    /* Either one of ours that is not there any more, or one that came before it was. */
    return f->server >> 16 == 0xa9fe || (known && f->server == f->destination);
}

static int program(struct ingress *in, struct err *e)
{
    const struct nft_model *was, *now;
    size_t count;
    int rc;

    hold_all(in);
    serve_health(in);
    rc = nft_table_apply(in->table, make, in, &was, e);
    now = nft_table_model(in->table);
    if (rc == 0 && (!in->programmed || was == NULL || !nft_sets_equal(was, now)))
        rc = conntrack_forget(&in->netfilter, stale, in, &count, e);
    in->programmed = rc == 0;
    return rc < 0 ? err_wrap(e, rc, "published ports") : 0;
}

static int tune_links(const struct ingress *in, const struct ingress_network *networks,
                      size_t count, struct err *e)
{
    const struct netns_setting forward = { "ipv4/ip_forward", "1", false };
    int rc = netns_settings(in->ns, &forward, 1, true, NULL, e);

    for (size_t i = 0; rc == 0 && i < count; i++) {
        CLEANUP_FREE char *name = xasprintf("ipv4/conf/%s/route_localnet", networks[i].link);
        const struct netns_setting localnet = { name, "1", false };

        rc = netns_settings(in->ns, &localnet, 1, true, NULL, e);
    }
    return rc;
}

struct ingress *ingress_new(struct loop *loop, struct err *e)
{
    struct ingress *in = xcalloc(1, sizeof(*in));

    in->loop = loop;
    in->netfilter = (struct nl)NL_CLOSED;
    in->ns = -1;
    if (netns_open_own(&in->ns, e) == 0)
        in->table = nft_table_open(in->ns, NFT_HOST, e);
    if (in->table != NULL && nl_open(&in->netfilter, NETLINK_NETFILTER, in->ns, e) == 0)
        return in;
    ingress_free(in, true);
    return NULL;
}

void ingress_free(struct ingress *in, bool keep)
{
    if (in == NULL)
        return;
    health_free(in->health);
    nft_table_close(in->table, keep);
    nl_close(&in->netfilter);
    take_over(&in->ports, NULL);
    if (in->ns >= 0)
        close(in->ns);
    free(in);
}

int ingress_apply(struct ingress *in, const struct ingress_network *networks, size_t count,
                  struct err *e)
{
    struct wanted_list wanted;
    int rc;

    in->problem[0] = '\0';
    in->problem_plans = 0;
    rc = tune_links(in, networks, count, e);
    if (rc < 0)
        return err_wrap(e, rc, "published ports");
    wanted = wanted_of(in, networks, count);
    in->problem_plans = strlen(in->problem);
    take_over(&in->ports, &wanted);
    in->ports = wanted;
    return program(in, e);
}

int ingress_check(struct ingress *in, bool repair, struct differences *d, struct err *e)
{
    bool waiting = in->problem[in->problem_plans] != '\0' || !in->programmed;
    int rc;

    if (repair && waiting && in->ports.items != NULL) {
        in->problem[in->problem_plans] = '\0';
        rc = program(in, e);
        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < in->ports.count; i++)
        if (in->ports.items[i].error != 0)
            differences_add(d, "port", "missing", "%u/%s", in->ports.items[i].port,
                            protocol_name(in->ports.items[i].protocol));
    return nft_table_check(in->table, repair, d, e);
}

const char *ingress_problem(const struct ingress *in)
{
    return in->problem;
}
