/* The balancer by nftables in the router itself: destination translation by connection tracking, so
 * that the client's address stays and what is established does not depend on the rules any more.
 *
 * A virtual address is an address of R ("local … dev lo"): the router answers for it (ARP by its
 * proxy_arp, ping), and what no rule translates, because there is no backend, is refused by its
 * own stack with a TCP reset or an ICMP error. */
#include "agentd/net/balancer.h"

#include <linux/netlink.h>

#include "agentd/net/balancer_internal.h"
#include "agentd/net/flows.h"
#include "agentd/net/netns.h"
#include "agentd/net/nft_table.h"

struct balancer {
    struct nft_table *table;
    struct nl route, netfilter;
    struct arena memory[2]; /* of what was programmed last and before */
    size_t turn;
    const struct flows *flows; /* NULL: nothing yet */
    const struct ways *ways;
    bool purge; /* connections are to be looked through */
};

static int try_kernel(void *ctx, struct err *e)
{
    struct nft_table *t = nft_table_open(-1, NFT_ROUTER, e);
    const struct nft_model *was;
    int rc;

    (void)ctx;
    if (t == NULL)
        return -ERR_UNSUPPORTED;
    rc = nft_table_apply_plan(t, balancer_trial_plan(), &was, e);
    nft_table_close(t, true);
    return rc;
}

static int probe(struct err *e)
{
    int rc = netns_scratch(try_kernel, NULL, e);

    return rc < 0 ? err_wrap(e, rc, "nftables balancer") : 0;
}

static void close_all(struct balancer *b, bool keep)
{
    static const struct ways none = { 0 };

    if (b == NULL)
        return;
    if (!keep && b->route.fd >= 0 && b->ways != NULL &&
        ways_change(&b->route, b->ways, &none, NULL) < 0)
        b->ways = NULL; /* they go with the namespace */
    nft_table_close(b->table, keep);
    nl_close(&b->route);
    nl_close(&b->netfilter);
    arena_deinit(&b->memory[0]);
    arena_deinit(&b->memory[1]);
    free(b);
}

static struct balancer *open_in(const struct balancer_place *place, struct err *e)
{
    struct balancer *b = xcalloc(1, sizeof(*b));

    b->route = b->netfilter = (struct nl)NL_CLOSED;
    b->purge = true;
    b->table = nft_table_open(place->router_ns, NFT_ROUTER, e);
    if (b->table == NULL || nl_open(&b->route, NETLINK_ROUTE, place->router_ns, e) < 0 ||
        nl_open(&b->netfilter, NETLINK_NETFILTER, place->router_ns, e) < 0) {
        close_all(b, true);
        return NULL;
    }
    balancer_tune(place->router_ns);
    return b;
}

/* The first time: what is there of an earlier life of the agent is the state to start from. */
static const struct ways *standing(struct balancer *b, struct arena *a)
{
    struct ways *w = ARENA_NEW(a, struct ways);

    return ways_dump(&b->route, w, a, NULL) < 0 ? NULL : w;
}

static int forget_stale(struct balancer *b, struct err *e)
{
    if (!b->purge || b->flows == NULL)
        return 0;
    struct flows flows = *b->flows; /* the predicate takes what is not const */
    size_t count;
    int rc;

    rc = conntrack_forget(&b->netfilter, flows_stale, &flows, &count, e);
    if (rc == 0)
        b->purge = false;
    return rc;
}

static int apply(struct balancer *b, const struct net_plan *p, struct err *e)
{
    struct arena *a = &b->memory[b->turn];
    const struct nft_model *was, *want;
    const struct flows *flows;
    const struct ways *ways;
    int rc;

    arena_reset(a);
    rc = nft_table_apply_plan(b->table, p, &was, e);
    if (rc < 0)
        return rc;
    want = nft_table_model(b->table);
    flows = flows_make(p, a);
    b->purge = b->purge || flows_changed(b->flows, flows, was, want);
    ways = balancer_ways(want, p, a);
    rc = ways_change(&b->route, b->ways != NULL ? b->ways : standing(b, a), ways, e);
    /* What was only half done is found by listing it the next time. */
    b->ways = rc == 0 ? ways : NULL;
    b->flows = flows;
    b->turn ^= 1;
    return rc;
}

static int check(struct balancer *b, const struct net_plan *p, bool repair, struct differences *d,
                 struct err *e)
{
    CLEANUP_ARENA struct arena a = { 0 };
    struct ways have;
    size_t before;
    int rc;

    (void)p; /* is what was applied */
    rc = nft_table_check(b->table, repair, d, e);
    if (rc < 0 || b->ways == NULL)
        return rc;
    before = d->count;
    rc = ways_dump(&b->route, &have, &a, e);
    if (rc < 0)
        return rc;
    ways_compare(b->ways, &have, d);
    return repair && d->count > before ? ways_change(&b->route, &have, b->ways, e) : 0;
}

const struct balancer_ops balancer_nft = {
    .name = "nftables",
    .probe = probe,
    .open = open_in,
    .close = close_all,
    .apply = apply,
    .settle = forget_stale,
    .check = check,
};
