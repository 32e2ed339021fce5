#include "agentd/net/flows.h"

#include <arpa/inet.h>
#include <string.h>

static uint32_t v4(const struct ip *ip)
{
    uint32_t n;

    memcpy(&n, ip->bytes, sizeof(n));
    return ntohl(n);
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

/* By one byte, the equal ones in their order. */
static void sort_byte(const uint32_t *from, uint32_t *to, size_t count, unsigned shift)
{
    size_t at[256] = { 0 }, sum = 0;

    for (size_t i = 0; i < count; i++)
        at[from[i] >> shift & 0xff]++;
    for (size_t i = 0; i < 256; i++) {
        size_t n = at[i];

        at[i] = sum;
        sum += n;
    }
    for (size_t i = 0; i < count; i++)
        to[at[from[i] >> shift & 0xff]++] = from[i];
}

/* Least significant byte first: every change sorts tens of thousands, and qsort() took a tenth of
 * its time. Returns how many different ones there are, at the front. */
static size_t sort(uint32_t *items, size_t count, struct arena *a)
{
    uint32_t *spare = arena_array(a, count + 1, sizeof(*spare));
    size_t kept = 0;

    for (unsigned shift = 0; shift < 32; shift += 16) {
        sort_byte(items, spare, count, shift);
        sort_byte(spare, items, count, shift + 8);
    }
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || items[kept - 1] != items[i])
            items[kept++] = items[i];
    return kept;
}

static bool has(const uint32_t *items, size_t count, uint32_t wanted)
{
    return count > 0 && bsearch(&wanted, items, count, sizeof(wanted), compare) != NULL;
}

static void add_live(struct flows *f, const struct plan_backend *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (b[i].address.family == IP_V4)
            f->live[f->live_count++] = v4(&b[i].address);
}

static void add_direct(struct flows *f, const struct ip *ip)
{
    if (ip->family == IP_V4)
        f->direct[f->direct_count++] = v4(ip);
}

const struct flows *flows_make(const struct net_plan *p, struct arena *a)
{
    struct flows *f = ARENA_NEW(a, struct flows);
    size_t backends = 0;

    for (size_t i = 0; i < p->service_count; i++)
        backends += p->services[i].backend_count;
    for (size_t i = 0; i < p->port_count; i++)
        backends += p->ports[i].backend_count;
    f->live = arena_array(a, backends + 1, sizeof(*f->live));
    for (size_t i = 0; i < p->service_count; i++)
        add_live(f, p->services[i].backends, p->services[i].backend_count);
    for (size_t i = 0; i < p->port_count; i++)
        add_live(f, p->ports[i].backends, p->ports[i].backend_count);
    f->live_count = sort(f->live, f->live_count, a);

    f->direct =
        arena_array(a, p->endpoint_count + p->subnet_count + p->peer_count + 1, sizeof(*f->direct));
    f->subnets = arena_array(a, p->subnet_count + 1, sizeof(*f->subnets));
    for (size_t i = 0; i < p->endpoint_count; i++)
        add_direct(f, &p->endpoints[i].v4);
    for (size_t i = 0; i < p->peer_count; i++)
        add_direct(f, &p->peers[i].address);
    add_direct(f, &p->self_address);
    for (size_t i = 0; i < p->subnet_count; i++) {
        struct ip_net base = ip_net_base(&p->subnets[i].subnet);
        struct ip last = ip_net_last(&p->subnets[i].subnet);

        if (base.address.family != IP_V4)
            continue;
        add_direct(f, &p->subnets[i].gateway);
        f->subnets[f->subnet_count++] = (struct flows_span){ v4(&base.address), v4(&last) };
    }
    f->direct_count = sort(f->direct, f->direct_count, a);
    return f;
}

static bool all_in(const struct nft_set *x, const struct nft_set *y)
{
    size_t j = 0;

    for (size_t i = 0; i < x->count; i++) {
        while (j < y->count && y->items[j].key < x->items[i].key)
            j++;
        if (j == y->count || y->items[j].key != x->items[i].key)
            return false;
    }
    return true;
}

bool flows_changed(const struct flows *was, const struct flows *now, const struct nft_model *old,
                   const struct nft_model *want)
{
    if (was == NULL || old == NULL)
        return true;
    for (size_t i = 0, j = 0; i < was->live_count; i++) {
        while (j < now->live_count && now->live[j] < was->live[i])
            j++;
        if (j == now->live_count || now->live[j] != was->live[i])
            return true;
    }
    /* The first backend of an address: what came before was refused, and is remembered as that. */
    return !all_in(&want->sets[NFT_VIP], &old->sets[NFT_VIP]) ||
           !all_in(&want->sets[NFT_PORT], &old->sets[NFT_PORT]);
}

bool flows_stale(void *ctx, const struct conntrack_flow *f)
{
    const struct flows *w = ctx;
    bool ours = f->destination >> 16 == 0xa9fe; /* the link to the host: published ports */

    for (size_t i = 0; i < w->subnet_count && !ours; i++)
        ours = f->destination >= w->subnets[i].first && f->destination <= w->subnets[i].last;
    return ours && !has(w->direct, w->direct_count, f->destination) &&
           !has(w->live, w->live_count, f->server);
}
