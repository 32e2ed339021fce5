/* Subnets and the addresses in them. */
#include "managerd/allocator/internal.h"

#include <string.h>
#include <utlist.h>

#include "common/hash.h"

/* ---- addresses of one subnet ---- */

/* Addresses beyond are never reached: a /64 needs no more. */
#define POOL_ADDRESSES_MAX (UINT64_C(1) << 48)

bool pool_number(const struct pool *p, const struct ip *ip, uint64_t *ret)
{
    if (!ip_net_has(&p->subnet, ip) || ip_compare(ip, &p->origin) < 0)
        return false;
    *ret = ip_distance(&p->origin, ip);
    return *ret < POOL_ADDRESSES_MAX;
}

static void reserve(struct pool *p, const char *address)
{
    struct ip ip;
    uint64_t at;

    if (ip_parse(address, &ip, NULL) < 0 || !pool_number(p, &ip, &at) ||
        !bits_add(&p->numbers.used, at))
        return;
    p->reserved++;
    p->capacity -= at >= p->numbers.first && at < p->numbers.end;
}

static void reserve_ends(struct pool *p)
{
    char last[IP_CHARS + 1], first[IP_CHARS + 1];
    struct ip end = ip_net_last(&p->subnet);

    reserve(p, ip_format(&p->subnet.address, first));
    if (p->subnet.address.family == IP_V4 && ip_net_size(&p->subnet) > 2)
        reserve(p, ip_format(&end, last)); /* broadcast */
}

bool pool_init(struct pool *p, const Skep__IpamConfig *c)
{
    struct ip_net range;

    *p = (struct pool){ 0 };
    if (ip_net_parse(c->subnet, &range, NULL) < 0)
        return false;
    p->subnet = ip_net_base(&range);
    if (c->range[0] == '\0' || ip_net_parse(c->range, &range, NULL) < 0 ||
        !ip_net_within(&range, &p->subnet))
        range = p->subnet;
    range = ip_net_base(&range);
    p->origin = range.address;
    p->capacity = MIN(ip_net_size(&range), POOL_ADDRESSES_MAX);
    numbers_init(&p->numbers, 0, p->capacity);
    reserve_ends(p);
    reserve(p, c->gateway);
    for (size_t i = 0; i < c->n_reserved; i++)
        reserve(p, c->reserved[i]->value);
    return true;
}

void pool_deinit(struct pool *p)
{
    numbers_deinit(&p->numbers);
    *p = (struct pool){ 0 };
}

uint64_t pool_used(const struct pool *p)
{
    return p->numbers.used.count - p->reserved;
}

char *pool_claim(struct allocator *a, struct pool *p)
{
    struct ip_net net = p->subnet;
    uint64_t value;
    char *address;

    if (!claim_next(a, &p->numbers, &value))
        return NULL;
    net.address = ip_add(&p->origin, value);
    address = arena_alloc(&a->scratch, IP_NET_CHARS + 1);
    (void)ip_net_format(&net, address);
    return address;
}

/* ---- subnets ---- */

const struct net *subnet_clash(const struct allocator *a, const struct ip_net *subnet,
                               const struct net *self)
{
    const struct net *n;

    DL_FOREACH(a->nets, n)
    {
        for (size_t i = 0; n != self && i < n->pool_count; i++) {
            if (ip_net_overlap(&n->pools[i].subnet, subnet))
                return n;
        }
    }
    return NULL;
}

struct ip_net subnet_ula(const struct allocator *a, const struct net *self)
{
    struct ip_net subnet = { .prefix = 64, .address = { .family = IP_V6 } };

    for (uint64_t seed = 0;; seed++) {
        uint64_t hash = hash_str(self->id, seed);

        memset(subnet.address.bytes, 0, sizeof(subnet.address.bytes));
        subnet.address.bytes[0] = 0xfd;
        for (int i = 1; i < 8; i++, hash >>= 8)
            subnet.address.bytes[i] = (uint8_t)hash;
        if (subnet_clash(a, &subnet, self) == NULL)
            return subnet;
    }
}

/* What a new IPv4 subnet must not meet, as numbers. */
struct span {
    uint64_t first, last;
};
struct spans {
    struct span *spans;
    size_t count, capacity;
    struct arena *arena;
};

static uint64_t number_of(const struct ip *ip)
{
    return (uint64_t)ip->bytes[0] << 24 | (uint64_t)ip->bytes[1] << 16 |
           (uint64_t)ip->bytes[2] << 8 | ip->bytes[3];
}

static struct ip ip_of(uint64_t number)
{
    uint8_t bytes[4] = { (uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8),
                         (uint8_t)number };

    return ip_from_v4(bytes);
}

static void add_span(struct spans *s, const struct ip_net *net)
{
    struct ip_net base = ip_net_base(net);
    struct ip last = ip_net_last(net);

    if (net->address.family != IP_V4)
        return;
    if (s->count == s->capacity) {
        size_t capacity = MAX(s->capacity * 2, (size_t)64);
        struct span *grown = arena_array(s->arena, capacity, sizeof(*grown));

        if (s->count > 0)
            memcpy(grown, s->spans, s->count * sizeof(*grown));
        s->spans = grown;
        s->capacity = capacity;
    }
    s->spans[s->count++] = (struct span){ number_of(&base.address), number_of(&last) };
}

/* "10.77.0.11", "10.77.0.11:2377" or "10.77.0.0/24"; anything else is no hindrance. */
static void add_text(struct spans *s, const char *address)
{
    char host[IP_NET_CHARS + 1];
    const char *colon = strrchr(address, ':');
    size_t size = colon != NULL ? (size_t)(colon - address) : strlen(address);
    struct ip_net net;

    if (size >= sizeof(host))
        return;
    memcpy(host, address, size);
    host[size] = '\0';
    if (ip_net_parse_host(host, &net, NULL) == 0)
        add_span(s, &net);
}

/* Hosts must stay reachable: their addresses, and what their own routes lead to. */
static void add_node(struct spans *s, const Skep__Node *node)
{
    const Skep__NodeNetwork *n = node->description != NULL ? node->description->network : NULL;

    if (node->status != NULL)
        add_text(s, node->status->address);
    if (node->manager != NULL)
        add_text(s, node->manager->address);
    if (n == NULL)
        return;
    add_text(s, n->data_path_address);
    for (size_t i = 0; i < n->n_routes; i++)
        add_text(s, n->routes[i]);
}

static int by_first(const void *a, const void *b)
{
    const struct span *x = a, *y = b;

    return x->first < y->first ? -1 : x->first > y->first;
}

/* Sorted, and none touches another. */
static void merge(struct spans *s)
{
    size_t kept = 0;

    if (s->count > 1)
        qsort(s->spans, s->count, sizeof(*s->spans), by_first);
    for (size_t i = 0; i < s->count; i++) {
        if (kept > 0 && s->spans[i].first <= s->spans[kept - 1].last)
            s->spans[kept - 1].last = MAX(s->spans[kept - 1].last, s->spans[i].last);
        else
            s->spans[kept++] = s->spans[i];
    }
    s->count = kept;
}

static void gather(const struct allocator *a, struct spans *s)
{
    const ProtobufCMessage *o;
    const struct net *n;

    DL_FOREACH(a->nets, n)
    {
        for (size_t i = 0; i < n->pool_count; i++)
            add_span(s, &n->pools[i].subnet);
    }
    for (o = store_first(a->store, SKEP__KIND__KIND_NODE); o != NULL;
         o = store_after(a->store, SKEP__KIND__KIND_NODE, object_id(o)))
        add_node(s, (const Skep__Node *)o);
    merge(s);
}

/* The first subnet of `size` addresses within [from, end) that meets no span; end: none. */
static uint64_t sweep(const struct spans *s, uint64_t from, uint64_t end, uint64_t size)
{
    uint64_t at = (from + size - 1) / size * size;

    for (size_t i = 0; i < s->count && at + size <= end; i++) {
        const struct span *span = &s->spans[i];

        if (span->last < at || span->first >= at + size)
            continue;
        at = (span->last + size) / size * size;
    }
    return at + size <= end ? at : end;
}

static bool find_in(const struct spans *s, const char *pool, const struct ip *next,
                    struct ip_net *ret)
{
    struct ip_net net;

    if (ip_net_parse(pool, &net, NULL) < 0 || net.address.family != IP_V4 ||
        net.prefix > ret->prefix)
        return false;
    net = ip_net_base(&net);
    uint64_t first = number_of(&net.address), end = first + ip_net_size(&net);
    uint64_t from = next->family != 0 ? number_of(next) : first, size = ip_net_size(ret);
    uint64_t at = sweep(s, from, end, size);

    if (at == end)
        return false;
    ret->address = ip_of(at);
    return true;
}

/* The pools in turn from the one the last subnet came from, behind that subnet; then all. */
bool subnet_find(struct allocator *a, struct ip_net *ret)
{
    const Skep__Cluster *cluster = store_cluster(a->store);
    struct spans spans = { .arena = &a->scratch };
    struct ip none = { 0 };
    size_t start = 0;

    if (cluster == NULL || cluster->spec->subnet_size == 0)
        return false;
    const Skep__ClusterSpec *spec = cluster->spec;
    struct ip_net found = { .prefix = (uint8_t)spec->subnet_size, .address = ip_of(0) };
    bool done = false;

    gather(a, &spans);
    for (size_t i = 0; a->subnet_next.family != 0 && i < spec->n_address_pools; i++) {
        struct ip_net pool;

        if (ip_net_parse(spec->address_pools[i], &pool, NULL) == 0 &&
            ip_net_has(&pool, &a->subnet_next)) {
            start = i;
            done = find_in(&spans, spec->address_pools[i], &a->subnet_next, &found);
            start += done ? 0 : 1;
            break;
        }
    }
    for (size_t i = 0; !done && i < spec->n_address_pools; i++)
        done = find_in(&spans, spec->address_pools[(start + i) % spec->n_address_pools], &none,
                       &found);
    if (!done)
        return false;
    struct ip last = ip_net_last(&found);

    a->subnet_next = ip_add(&last, 1);
    *ret = found;
    return true;
}
