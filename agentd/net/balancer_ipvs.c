/* The balancer by IPVS, in a namespace L beside the router R. In R itself IPVS would take the
 * answers of a backend that a task also talks to directly, from the same port, for its own
 * (network.md 5.3). So R sends virtual addresses to L with source ports below the ephemeral ones, L
 * sends what it balanced back to R, R marks these connections, and their answers go to L first.
 *
 *   client -> R: VIP via lb0, source port to 1024..32767 -> L: mark by VIP -> IPVS: backend -> R ->
 *   backend -> R: connection came out of L -> L: from VIP -> R: source port back -> client
 *
 * The client's address stays. Published ports of the mesh come to R by up0 and go on to the mesh
 * address in L; host-mode ports are translated in R. */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <unistd.h>

#include "agentd/net/balancer.h"
#include "agentd/net/balancer_internal.h"
#include "agentd/net/ipvs.h"
#include "agentd/net/layout.h"
#include "agentd/net/link.h"
#include "agentd/net/netns.h"
#include "agentd/net/nft_table.h"
#include "common/assert.h"

struct half { /* what both namespaces have */
    int ns;
    struct nft_table *table;
    struct nl route;
    const struct ways *ways; /* programmed; NULL: to be listed */
};

#define HALF_CLOSED ((struct half){ .ns = -1, .route = NL_CLOSED })

struct balancer {
    char *pin; /* of L */
    struct half router, balancer;
    int router_ns;   /* borrowed */
    struct nl links; /* in R */
    struct ipvs ipvs;
    bool ready; /* L, its link and its sockets are there */
    struct arena memory[2];
    size_t turn;
    const struct ipvs_state *state; /* programmed; NULL: to be listed */
};

/* Seconds. Swarm's 900 for TCP reset connections that were only silent; two hours and ten minutes
 * is beyond the kernel's first keepalive (7200). UDP: as long as R remembers a flow that was
 * answered; after that R may give the source port that it chose to another flow. */
static const uint32_t timeouts[3] = { 7800, 120, 120 };

/* A connection whose backend is gone is reset at its next packet; a port that is used again may go
 * to another backend; persistence ends with its backend; no estimators. */
static const struct netns_setting ipvs_settings[] = {
    { "ipv4/ip_forward", "1", false },
    { "ipv4/conf/all/rp_filter", "0", false },
    { "ipv4/conf/default/rp_filter", "0", false },
    { "ipv4/conf/all/send_redirects", "0", false },
    { "ipv4/conf/default/send_redirects", "0", false },
    { "ipv4/vs/expire_nodest_conn", "1", false },
    { "ipv4/vs/conn_reuse_mode", "1", false },
    { "ipv4/vs/expire_quiescent_template", "1", false },
    { "ipv4/vs/conntrack", "0", false },
    { "ipv4/vs/sloppy_tcp", "0", false },
    { "ipv4/vs/snat_reroute", "1", false },
    { "ipv4/vs/run_estimation", "0", true },
};

static const struct netns_setting router_settings[] = {
    { "ipv4/conf/" LAYOUT_TO_BALANCER "/rp_filter", "0", false },
    { "ipv4/conf/" LAYOUT_TO_BALANCER "/send_redirects", "0", false },
};

/* ---- halves -------------------------------------------------------------------------------------
 */

static int half_open(struct half *h, int ns, enum nft_role role, struct err *e)
{
    h->ns = ns;
    h->ways = NULL;
    h->table = nft_table_open(ns, role, e);
    return h->table != NULL ? nl_open(&h->route, NETLINK_ROUTE, ns, e) : -ERR_IO;
}

static void half_close(struct half *h, bool keep)
{
    static const struct ways none = { 0 };

    if (!keep && h->route.fd >= 0 && h->ways != NULL &&
        ways_change(&h->route, h->ways, &none, NULL) < 0)
        h->ways = NULL; /* they go with the device or the namespace */
    nft_table_close(h->table, keep);
    nl_close(&h->route);
    *h = HALF_CLOSED;
}

/* Routes and rules; what stands is listed when it is not known. */
static int half_ways(struct half *h, const struct net_plan *p, struct arena *a, struct err *e)
{
    const struct ways *want = balancer_ways(nft_table_model(h->table), p, a);
    struct ways found, *was = NULL;
    int rc;

    if (h->ways == NULL && ways_dump(&h->route, &found, a, NULL) == 0)
        was = &found;
    rc = ways_change(&h->route, h->ways != NULL ? h->ways : was, want, e);
    h->ways = rc == 0 ? want : NULL;
    return rc;
}

static int half_check(struct half *h, bool repair, struct differences *d, struct err *e)
{
    CLEANUP_ARENA struct arena a = { 0 };
    struct ways have;
    size_t before;
    int rc = nft_table_check(h->table, repair, d, e);

    if (rc < 0 || h->ways == NULL)
        return rc;
    before = d->count;
    rc = ways_dump(&h->route, &have, &a, e);
    if (rc < 0)
        return rc;
    ways_compare(h->ways, &have, d);
    return repair && d->count > before ? ways_change(&h->route, &have, h->ways, e) : 0;
}

/* ---- L ------------------------------------------------------------------------------------------
 */

static void close_balancer(struct balancer *b, bool keep)
{
    struct link link;

    if (b->ready)
        ipvs_close(&b->ipvs);
    b->ready = false;
    b->state = NULL;
    if (b->balancer.ns >= 0)
        close(b->balancer.ns);
    half_close(&b->balancer, true); /* all of it goes with the namespace */
    if (keep)
        return;
    if (link_find(&b->links, LAYOUT_TO_BALANCER, &link, NULL) == 0) {
        link_put_delete(&b->links, link.index, 0);
        if (nl_commit(&b->links)->failed > 0)
            return; /* it goes with the router */
    }
    netns_unpin(b->pin);
}

static int add_address(struct nl *n, int device, const char *text, struct err *e)
{
    struct ifaddrmsg m = { .ifa_family = AF_INET,
                           .ifa_prefixlen = 30,
                           .ifa_index = (uint32_t)device };
    struct ip ip = { 0 };
    struct nlmsghdr *h;

    ASSERT(ip_parse(text, &ip, NULL) == 0);
    h = nl_message(n, RTM_NEWADDR, NLM_F_CREATE, &m, sizeof(m), 0);
    mnl_attr_put(h, IFA_LOCAL, 4, ip.bytes);
    mnl_attr_put(h, IFA_ADDRESS, 4, ip.bytes);
    return nl_commit_all(n, e, "address %s", text);
}

/* One end of the link: up, with its address. */
static int set_up(struct nl *n, const char *device, const char *address, struct err *e)
{
    struct link_change change = { .up = true };
    struct link link;
    int rc = link_find(n, device, &link, e);

    if (rc < 0)
        return rc;
    change.index = link.index;
    link_put_change(n, &change, 0);
    rc = nl_commit_all(n, e, "device %s", device);
    return rc < 0 || address == NULL ? rc : add_address(n, link.index, address, e);
}

/* The link between R and L, made anew when one end is missing. */
static int join(struct balancer *b, struct nl *inside, struct err *e)
{
    struct link_veth veth = { .name = LAYOUT_TO_BALANCER,
                              .peer_name = LAYOUT_TO_ROUTER,
                              .peer_ns = b->balancer.ns,
                              .mtu = 9216 };
    struct link here, there;
    bool have = link_find(&b->links, LAYOUT_TO_BALANCER, &here, NULL) == 0;
    int rc = 0;

    if (have && link_find(inside, LAYOUT_TO_ROUTER, &there, NULL) < 0) {
        link_put_delete(&b->links, here.index, 0);
        rc = nl_commit_all(&b->links, e, "device %s", LAYOUT_TO_BALANCER);
        have = false;
    }
    if (rc == 0 && !have) {
        link_put_veth(&b->links, &veth, 0);
        rc = nl_commit_all(&b->links, e, "device %s", LAYOUT_TO_BALANCER);
    }
    if (rc == 0)
        rc = set_up(&b->links, LAYOUT_TO_BALANCER, LAYOUT_ROUTER_ADDRESS, e);
    if (rc == 0)
        rc = set_up(inside, "lo", NULL, e);
    if (rc == 0)
        rc = set_up(inside, LAYOUT_TO_ROUTER, LAYOUT_BALANCER_ADDRESS, e);
    if (rc == 0)
        rc = netns_settings(b->router_ns, router_settings, ARRAY_LEN(router_settings), true, NULL,
                            e);
    return rc;
}

/* Opens L as it stands, or makes it. */
static int open_balancer(struct balancer *b, struct err *e)
{
    struct nl inside = NL_CLOSED;
    int ns = -1, rc = netns_open_pin(b->pin, &ns, e);

    if (rc == -ERR_NOT_FOUND) {
        netns_unpin(b->pin); /* a file that is no namespace any more */
        rc = netns_create(b->pin, &ns, e);
    }
    if (rc == 0) {
        rc = half_open(&b->balancer, ns, NFT_MARKS, e);
        if (rc == 0)
            rc = nl_open(&inside, NETLINK_ROUTE, ns, e);
    }
    if (rc == 0)
        rc = join(b, &inside, e);
    nl_close(&inside);
    if (rc == 0)
        rc = ipvs_open(&b->ipvs, ns, e);
    if (rc == 0) {
        b->ready = true;
        rc = ipvs_set_timeouts(&b->ipvs, timeouts, e);
    }
    if (rc == 0)
        rc = netns_settings(ns, ipvs_settings, ARRAY_LEN(ipvs_settings), true, NULL, e);
    if (rc < 0)
        close_balancer(b, true);
    return rc;
}

/* Whether somebody has taken the link or L away. */
static bool is_whole(struct balancer *b)
{
    struct link link;

    return b->ready && link_find(&b->links, LAYOUT_TO_BALANCER, &link, NULL) == 0 && link.running;
}

/* ---- services -----------------------------------------------------------------------------------
 */

static uint32_t v4(const struct ip *ip)
{
    return (uint32_t)ip->bytes[0] << 24 | (uint32_t)ip->bytes[1] << 16 |
           (uint32_t)ip->bytes[2] << 8 | ip->bytes[3];
}

static const struct ipvs_state *state_of(const struct nft_model *m, struct arena *a)
{
    struct ipvs_state *s = ARENA_NEW(a, struct ipvs_state);

    s->services = arena_array(a, m->service_count + 1, sizeof(*s->services));
    for (size_t i = 0; i < m->service_count; i++) {
        const struct nft_service *v = &m->services[i];
        struct ipvs_service *next = &s->services[s->count++];

        next->mark = NFT_MARK_BASE + v->slot;
        next->destinations = arena_array(a, v->backend_count + 1, sizeof(*next->destinations));
        for (size_t k = 0; k < v->backend_count; k++) {
            const struct plan_backend *b = &v->backends[k];

            if (b->address.family == IP_V4 && (!v->local_only || b->local))
                next->destinations[next->count++] =
                    (struct ipvs_destination){ v4(&b->address), v->target, b->draining ? 0 : 1 };
        }
    }
    ipvs_sort(s);
    return s;
}

static int apply_services(struct balancer *b, struct arena *a, struct err *e)
{
    const struct ipvs_state *want = state_of(nft_table_model(b->balancer.table), a);
    struct ipvs_state found;
    int rc = 0;

    if (b->state == NULL)
        rc = ipvs_dump(&b->ipvs, &found, a, e);
    if (rc == 0)
        rc = ipvs_change(&b->ipvs, b->state != NULL ? b->state : &found, want, e);
    b->state = rc == 0 ? want : NULL;
    return rc;
}

/* L before R, so that what R sends there finds its service. */
static int apply(struct balancer *b, const struct net_plan *p, struct err *e)
{
    struct arena *a = &b->memory[b->turn];
    const struct nft_model *was;
    int rc = 0;

    if (!b->ready)
        rc = open_balancer(b, e);
    if (rc < 0)
        return err_wrap(e, rc, "ipvs balancer");
    arena_reset(a);
    b->turn ^= 1;
    rc = nft_table_apply_plan(b->balancer.table, p, &was, e);
    if (rc == 0)
        rc = apply_services(b, a, e);
    if (rc == 0)
        rc = half_ways(&b->balancer, p, a, e);
    if (rc == 0)
        rc = nft_table_apply_plan(b->router.table, p, &was, e);
    if (rc == 0)
        rc = half_ways(&b->router, p, a, e);
    if (rc == 0)
        return 0;
    /* What refers to older memory than the last two calls must not stay. */
    b->state = NULL;
    b->balancer.ways = b->router.ways = NULL;
    return err_wrap(e, rc, "ipvs balancer");
}

static int check_services(struct balancer *b, bool repair, struct differences *d, struct err *e)
{
    CLEANUP_ARENA struct arena a = { 0 };
    struct ipvs_state have;
    size_t before = d->count;
    int rc;

    if (b->state == NULL)
        return 0;
    rc = ipvs_dump(&b->ipvs, &have, &a, e);
    if (rc < 0)
        return rc;
    ipvs_compare(b->state, &have, d);
    return repair && d->count > before ? ipvs_change(&b->ipvs, &have, b->state, e) : 0;
}

static int check(struct balancer *b, const struct net_plan *p, bool repair, struct differences *d,
                 struct err *e)
{
    size_t changed = 0;
    int rc;

    if (!is_whole(b)) {
        differences_add(d, "link", "missing", LAYOUT_TO_BALANCER);
        if (!repair)
            return 0;
        close_balancer(b, true);
        b->router.ways = NULL;
        rc = apply(b, p, e);
        if (rc < 0)
            return rc;
    }
    rc = netns_settings(b->balancer.ns, ipvs_settings, ARRAY_LEN(ipvs_settings), repair, &changed,
                        e);
    if (rc == 0 && changed > 0)
        differences_add(d, "setting", "differs: was changed", "%zu of the balancer", changed);
    if (rc == 0)
        rc = half_check(&b->balancer, repair, d, e);
    if (rc == 0)
        rc = check_services(b, repair, d, e);
    if (rc == 0)
        rc = half_check(&b->router, repair, d, e);
    return rc;
}

/* ---- life ---------------------------------------------------------------------------------------
 */

static void close_all(struct balancer *b, bool keep)
{
    if (b == NULL)
        return;
    half_close(&b->router, keep);
    close_balancer(b, keep);
    nl_close(&b->links);
    arena_deinit(&b->memory[0]);
    arena_deinit(&b->memory[1]);
    free(b->pin);
    free(b);
}

static struct balancer *open_at(const struct balancer_place *place, struct err *e)
{
    struct balancer *b = xcalloc(1, sizeof(*b));

    b->pin = xasprintf("%s/%s.balancer", place->pin_dir, place->network_id);
    b->router_ns = place->router_ns;
    b->links = (struct nl)NL_CLOSED;
    b->balancer = b->router = HALF_CLOSED;
    if (nl_open(&b->links, NETLINK_ROUTE, place->router_ns, e) < 0 ||
        half_open(&b->router, place->router_ns, NFT_STEER, e) < 0 || open_balancer(b, e) < 0) {
        close_all(b, true);
        return NULL;
    }
    balancer_tune(place->router_ns);
    return b;
}

/* The family is there and a service with a scheduler can be made; the tables load. */
static int try_kernel(void *ctx, struct err *e)
{
    struct ipvs_service service = { .mark = NFT_MARK_BASE };
    const struct ipvs_state none = { NULL, 0 }, one = { &service, 1 };
    const enum nft_role roles[] = { NFT_MARKS, NFT_STEER };
    const struct nft_model *was;
    struct ipvs v;
    int rc = ipvs_open(&v, -1, e);

    (void)ctx;
    if (rc < 0)
        return rc;
    rc = ipvs_change(&v, &none, &one, e);
    if (rc == 0)
        rc = ipvs_change(&v, &one, &none, e);
    ipvs_close(&v);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(roles); i++) {
        struct nft_table *t = nft_table_open(-1, roles[i], e);

        rc = t != NULL ? nft_table_apply_plan(t, balancer_trial_plan(), &was, e) : -ERR_UNSUPPORTED;
        nft_table_close(t, true);
    }
    return rc;
}

static int probe(struct err *e)
{
    int rc = netns_scratch(try_kernel, NULL, e);

    return rc < 0 ? err_wrap(e, rc, "ipvs balancer") : 0;
}

const struct balancer_ops balancer_ipvs = {
    .name = "ipvs",
    .probe = probe,
    .open = open_at,
    .close = close_all,
    .apply = apply,
    .check = check,
};
