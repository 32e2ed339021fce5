#include "agentd/net/nft_model.h"

#include <arpa/inet.h>
#include <endian.h>
#include <netinet/in.h>
#include <string.h>

#include "agentd/net/nft_internal.h"
#include "agentd/net/place.h"

/* What is being made: elements are appended without order and sorted at the end. */
struct making {
    struct arena *arena;
    struct nft_model *m;
    const struct nft_model *prev;
    size_t capacity[NFT_KINDS];
    uint8_t *slots; /* in use: bytes */
    uint32_t slot_next;
};

uint8_t nft_protocol_number(Skep__Protocol protocol)
{
    return protocol == SKEP__PROTOCOL__PROTOCOL_UDP    ? IPPROTO_UDP
           : protocol == SKEP__PROTOCOL__PROTOCOL_SCTP ? IPPROTO_SCTP
                                                       : IPPROTO_TCP;
}

const char *nft_protocol_name(Skep__Protocol protocol)
{
    return protocol == SKEP__PROTOCOL__PROTOCOL_UDP    ? "udp"
           : protocol == SKEP__PROTOCOL__PROTOCOL_SCTP ? "sctp"
                                                       : "tcp";
}

static uint64_t v4(const struct ip *ip)
{
    uint32_t n;

    memcpy(&n, ip->bytes, sizeof(n));
    return ntohl(n);
}

static void put(struct making *k, enum nft_kind kind, uint64_t key, uint64_t value)
{
    struct nft_set *s = &k->m->sets[kind];
    struct nft_element *grown;

    if (s->count == k->capacity[kind]) {
        k->capacity[kind] = MAX(16, s->count * 2);
        grown = arena_array(k->arena, k->capacity[kind], sizeof(*grown));
        if (s->count > 0)
            memcpy(grown, s->items, s->count * sizeof(*grown));
        s->items = grown;
    }
    s->items[s->count++] = (struct nft_element){ key, value };
}

int nft_element_compare(const void *a, const void *b)
{
    const struct nft_element *x = a, *y = b;

    return x->key < y->key ? -1 : x->key > y->key;
}

bool nft_sets_equal(const struct nft_model *a, const struct nft_model *b)
{
    for (size_t i = 0; i < NFT_KINDS; i++) {
        const struct nft_set *x = &a->sets[i], *y = &b->sets[i];

        if (x->count != y->count)
            return false;
        for (size_t j = 0; j < x->count; j++)
            if (x->items[j].key != y->items[j].key || x->items[j].value != y->items[j].value)
                return false;
    }
    return true;
}

static int compare_services(const void *a, const void *b)
{
    const struct nft_service *x = a, *y = b;

    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static const struct nft_element *find(const struct nft_set *s, uint64_t key)
{
    const struct nft_element wanted = { key, 0 };

    return s->count > 0 ? bsearch(&wanted, s->items, s->count, sizeof(wanted), nft_element_compare)
                        : NULL;
}

/* ---- slots --------------------------------------------------------------------------------------
 */

/* A service keeps its slot; slots that prev uses are not given to others in the same transaction.
 */
static void slots_mark(struct making *k)
{
    const struct nft_model *prev = k->prev;

    k->slots = arena_alloc(k->arena, NFT_SLOTS_MAX);
    for (size_t i = 0; prev != NULL && i < prev->service_count; i++)
        k->slots[prev->services[i].slot] = 1;
}

static bool slot_of(struct making *k, struct nft_service *s)
{
    const struct nft_service *was = NULL;

    if (k->prev != NULL && k->prev->service_count > 0)
        was = bsearch(s, k->prev->services, k->prev->service_count, sizeof(*s), compare_services);
    if (was != NULL) {
        s->slot = was->slot;
        return true;
    }
    while (k->slot_next < NFT_SLOTS_MAX && k->slots[k->slot_next] != 0)
        k->slot_next++;
    if (k->slot_next == NFT_SLOTS_MAX)
        return false;
    s->slot = k->slot_next++;
    return true;
}

/* ---- services and ports -------------------------------------------------------------------------
 */

static bool takes_new(const struct nft_service *s, const struct plan_backend *b)
{
    return !b->draining && b->address.family == IP_V4 && (!s->local_only || b->local);
}

static void put_backends(struct making *k, struct nft_service *s)
{
    uint64_t key = (uint64_t)s->slot * NFT_BACKENDS_MAX;

    for (size_t i = 0; i < s->backend_count; i++) {
        const struct plan_backend *b = &s->backends[i];

        if (!takes_new(s, b))
            continue;
        if (s->count == NFT_BACKENDS_MAX) {
            k->m->left_out++;
            continue;
        }
        if (s->kind == NFT_VIP && k->m->role == NFT_ROUTER)
            put(k, NFT_BACKEND, key + s->count, v4(&b->address));
        else if (s->kind == NFT_PORT && !s->mesh && k->m->role != NFT_MARKS)
            put(k, nft_backend_kind(s->id >> 16), key + s->count,
                v4(&b->address) << 16 | s->target);
        s->count++;
    }
}

static void add(struct making *k, struct nft_service *s)
{
    struct nft_model *m = k->m;

    if (!slot_of(k, s)) {
        m->left_out++;
        return;
    }
    put_backends(k, s);
    if (nft_service_has_chain(m, s))
        put(k, s->kind, s->id, s->id);
    if (m->role == NFT_MARKS)
        put(k, s->kind == NFT_VIP ? NFT_VIP_MARK : NFT_PORT_MARK, s->id, NFT_MARK_BASE + s->slot);
    m->services[m->service_count++] = *s;
}

static void add_port(struct making *k, const struct plan_port *p, uint16_t link_port)
{
    bool mesh = !p->host_mode;
    struct nft_service s = {
        .kind = NFT_PORT,
        .id = (uint64_t)nft_protocol_number(p->protocol) << 16 | link_port,
        .snat = mesh && p->source == SKEP__SOURCE_POLICY__SOURCE_SNAT && k->m->self.family == IP_V4,
        .mesh = mesh && k->m->role == NFT_STEER,
        .backends = p->backends,
        .backend_count = p->backend_count,
        .local_only = mesh && p->source == SKEP__SOURCE_POLICY__SOURCE_LOCAL,
        .target = p->target,
    };

    if (mesh && p->source == SKEP__SOURCE_POLICY__SOURCE_PRESERVE)
        k->m->preserve = true;
    if (mesh || k->m->role != NFT_MARKS)
        add(k, &s);
}

static void add_services(struct making *k, const struct net_plan *p)
{
    uint16_t *link_ports = arena_array(k->arena, p->port_count + 1, sizeof(*link_ports));

    k->m->services =
        arena_array(k->arena, p->service_count + p->port_count + 1, sizeof(struct nft_service));
    for (size_t i = 0; i < p->service_count; i++) {
        const struct plan_service *v = &p->services[i];
        struct nft_service s = { .kind = NFT_VIP,
                                 .id = v4(&v->vip),
                                 .backends = v->backends,
                                 .backend_count = v->backend_count };

        if (v->vip.family == IP_V4)
            add(k, &s);
        else
            k->m->left_out++;
    }
    nft_link_ports(p, link_ports);
    for (size_t i = 0; i < p->port_count; i++)
        if (link_ports[i] != 0)
            add_port(k, &p->ports[i], link_ports[i]);
    if (k->m->service_count > 0)
        qsort(k->m->services, k->m->service_count, sizeof(struct nft_service), compare_services);
}

/* ---- the rest -----------------------------------------------------------------------------------
 */

/* A peer keeps its index: marks of connections hold it. */
static void add_entries(struct making *k, const struct net_plan *p)
{
    uint8_t *used = arena_alloc(k->arena, NFT_PEERS_MAX + 1);
    const struct nft_set *prev = k->prev != NULL ? &k->prev->sets[NFT_ENTRY] : NULL;
    uint32_t next = 1;

    for (size_t i = 0; prev != NULL && i < prev->count; i++)
        used[prev->items[i].value & NFT_PEERS_MAX] = 1;
    for (size_t i = 0; i < p->peer_count; i++) {
        uint8_t mac[8] = { 0 };
        const struct nft_element *was;
        uint64_t key;

        place_mac(&p->peers[i].vtep, mac + 2);
        memcpy(&key, mac, sizeof(key));
        key = be64toh(key);
        was = prev != NULL ? find(prev, key) : NULL;
        while (was == NULL && next <= NFT_PEERS_MAX && used[next] != 0)
            next++;
        if (was == NULL && next > NFT_PEERS_MAX)
            k->m->left_out++;
        else if (p->peers[i].vtep.family != 0)
            put(k, NFT_ENTRY, key, was != NULL ? was->value : next++);
    }
}

static void add_subnets(struct making *k, const struct net_plan *p)
{
    CLEANUP_BUF struct buf text = BUF_INIT(800);
    struct nft_model *m = k->m;
    int rc = 0;

    for (size_t i = 0; i < p->subnet_count; i++) {
        char mem[IP_NET_CHARS + 1];
        struct ip_net base = ip_net_base(&p->subnets[i].subnet);

        if (base.address.family != IP_V4)
            continue;
        if (m->gateway.family == 0)
            m->gateway = p->subnets[i].gateway;
        if (rc == 0)
            rc = buf_printf(&text, "%s%s", text.size > 0 ? ", " : "", ip_net_format(&base, mem));
    }
    m->outside = text.size > 0 && rc == 0 ? arena_strdup(k->arena, buf_str(&text)) : NULL;
}

const struct nft_model *nft_model_make(enum nft_role role, const struct net_plan *p,
                                       const struct nft_model *prev, struct arena *a)
{
    struct nft_model *m = ARENA_NEW(a, struct nft_model);
    struct making k = { .arena = a, .m = m, .prev = prev };

    m->role = role;
    m->self = p->self_address;
    slots_mark(&k);
    add_subnets(&k, p);
    add_services(&k, p);
    if (role == NFT_MARKS)
        m->preserve = false;
    if (m->preserve && m->outside != NULL)
        add_entries(&k, p);
    for (size_t i = 0; role != NFT_MARKS && i < p->endpoint_count; i++)
        if (p->endpoints[i].peer < 0 && p->endpoints[i].v4.family == IP_V4)
            put(&k, NFT_HAIRPIN, v4(&p->endpoints[i].v4), 0);
    for (size_t i = 0; i < NFT_KINDS; i++)
        if (m->sets[i].count > 0)
            qsort(m->sets[i].items, m->sets[i].count, sizeof(struct nft_element),
                  nft_element_compare);
    return m;
}

/* ---- link ports ---------------------------------------------------------------------------------
 */

/* Ports are in order of (protocol, published, host_ip): those that share a number are neighbours.
 */
void nft_link_ports(const struct net_plan *p, uint16_t *ret)
{
    uint8_t *taken[SKEP__PROTOCOL__PROTOCOL_SCTP + 1] = { NULL };
    const struct plan_port *a = p->ports;

    for (size_t i = 0; i < p->port_count; i++) {
        uint8_t **t = &taken[a[i].protocol <= SKEP__PROTOCOL__PROTOCOL_SCTP ? a[i].protocol : 0];

        ret[i] = a[i].published;
        if (*t == NULL)
            *t = xcalloc(UINT16_MAX + 1, 1);
        if ((*t)[a[i].published] != 0)
            ret[i] = 0; /* below */
        (*t)[a[i].published] = 1;
    }
    for (size_t i = 0; i < p->port_count; i++) {
        uint8_t *t = taken[a[i].protocol <= SKEP__PROTOCOL__PROTOCOL_SCTP ? a[i].protocol : 0];
        uint16_t at = a[i].published;

        if (ret[i] != 0 || at == 0)
            continue;
        do
            at++;
        while (at != a[i].published && (at == 0 || t[at] != 0));
        ret[i] = at != a[i].published ? at : 0;
        t[at] = 1;
    }
    for (size_t i = 0; i < ARRAY_LEN(taken); i++)
        free(taken[i]);
}
