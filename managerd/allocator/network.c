/* Networks: their subnets, VNI, MTU, keys, and what is to be known about them. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <utlist.h>

#include "common/assert.h"
#include "common/hash.h"
#include "common/message.h"
#include "common/text.h"
#include "managerd/allocator/internal.h"

#define MTU_OPTION "com.docker.network.driver.mtu"
enum { FULLNESS_STEP = 5, NS_PER_MS = 1000000 };

/* ---- options ---- */

const char *net_option(const Skep__NetworkSpec *spec, const char *key)
{
    for (size_t i = 0; spec->driver != NULL && i < spec->driver->n_options; i++) {
        if (strcmp(spec->driver->options[i]->key, key) == 0)
            return spec->driver->options[i]->value;
    }
    return NULL;
}

bool net_encrypted(const Skep__NetworkSpec *spec)
{
    const char *value = net_option(spec, "encrypted");

    return value != NULL && strcasecmp(value, "false") != 0 && strcmp(value, "0") != 0;
}

/* ---- the index ---- */

static bool net_match(const void *value, const void *key)
{
    return strcmp(((const struct net *)value)->id, key) == 0;
}

struct net *net_find(const struct allocator *a, const char *id)
{
    return map_find(&a->nets_by_id, hash_str(id, 0), net_match, id);
}

struct net *net_ingress(const struct allocator *a)
{
    struct net *n;

    DL_FOREACH(a->nets, n)
    {
        if (n->ingress && n->overlay)
            return n;
    }
    return NULL;
}

static void drop_pools(struct allocator *a, struct net *n)
{
    for (size_t i = 0; i < n->pool_count; i++) {
        claims_forget(a, &n->pools[i].numbers);
        pool_deinit(&n->pools[i]);
    }
    n->pool_count = 0;
    if (n->tentative)
        a->tentative_count--;
    n->tentative = false;
}

/* Fills the pools; false when one does not parse. */
static bool make_pools(struct net *n, Skep__IpamConfig *const *ipam, size_t count)
{
    ASSERT(n->pool_count == 0);
    for (size_t i = 0; i < count && i < POOLS_MAX; i++) {
        if (!pool_init(&n->pools[i], ipam[i]))
            return false;
        n->pool_count++;
    }
    return true;
}

static void adopt(struct allocator *a, struct net *n, const Skep__Network *object)
{
    n->fullness = object->fullness_percent;
    if (n->allocated || !n->overlay || object->n_ipam == 0 || object->vni == 0)
        return; /* what is allocated never changes */
    drop_pools(a, n);
    if (!make_pools(n, object->ipam, object->n_ipam)) {
        drop_pools(a, n);
        return;
    }
    n->allocated = true;
    n->vni = object->vni;
    n->encryption_port = object->encryption_port;
    vni_take(a, n);
    a->woken = true;
    a->nodes_due |= n->ingress;
}

static struct net *add(struct allocator *a, const Skep__Network *object)
{
    struct net *n = xcalloc(1, sizeof(*n));
    const Skep__NetworkSpec *spec = object->spec;

    (void)snprintf(n->id, sizeof(n->id), "%s", object->id);
    (void)snprintf(n->name, sizeof(n->name), "%s", object_name(&object->base));
    n->overlay =
        spec->driver != NULL && strcmp(spec->driver->name, "overlay") == 0 && !spec->config_only;
    n->ingress = spec->ingress;
    map_add(&a->nets_by_id, hash_str(n->id, 0), n);
    DL_APPEND(a->nets, n);
    return n;
}

static void drop(struct allocator *a, struct net *n)
{
    vni_give(a, n);
    drop_pools(a, n);
    map_remove(&a->nets_by_id, hash_str(n->id, 0), n);
    DL_DELETE(a->nets, n);
    free(n);
}

void net_event(struct allocator *a, const Skep__Network *before, const Skep__Network *after)
{
    struct net *n = net_find(a, before != NULL ? before->id : after->id);

    a->nets_due = true;
    if (after == NULL) {
        if (n != NULL) {
            a->nodes_due |= n->ingress;
            drop(a, n);
        }
        a->freed = a->services_due = true;
        return;
    }
    if (n == NULL)
        n = add(a, after);
    /* Services and tasks that wait for it tell its error. */
    a->woken |= before == NULL || strcmp(before->error, after->error) != 0;
    adopt(a, n, after);
}

void nets_clear(struct allocator *a)
{
    while (a->nets != NULL)
        drop(a, a->nets);
    map_deinit(&a->nets_by_id);
    a->nets_by_id = (struct map){ 0 };
}

void nets_settle(struct allocator *a)
{
    struct net *n;

    if (a->tentative_count == 0)
        return;
    DL_FOREACH(a->nets, n)
    {
        if (n->tentative)
            drop_pools(a, n);
    }
    a->nets_due = true;
}

/* ---- addresses ---- */

uint32_t net_percent(const struct net *n)
{
    uint64_t most = 0;

    for (size_t i = 0; i < n->pool_count; i++) {
        const struct pool *p = &n->pools[i];
        uint64_t used = MIN(pool_used(p), p->capacity);

        if (p->capacity > 0)
            most = MAX(most, used < UINT32_MAX ? used * 100 / p->capacity : 100);
    }
    return (uint32_t)most;
}

/* In steps, and down only when it is clearly less: each change is a write. */
static uint32_t fullness(const struct net *n)
{
    uint32_t percent = net_percent(n);

    if (percent >= n->fullness + FULLNESS_STEP || percent + FULLNESS_STEP < n->fullness ||
        (n->fullness == 0 && percent >= ALLOCATOR_FULL_PERCENT))
        return percent < ALLOCATOR_FULL_PERCENT ? 0 : percent - percent % FULLNESS_STEP;
    return n->fullness;
}

static void move(struct allocator *a, const char *network_id, const char *address, bool take)
{
    struct net *n = net_find(a, network_id);
    struct ip_net net;
    uint64_t number;

    if (n == NULL || !n->allocated || ip_net_parse_host(address, &net, NULL) < 0)
        return;
    for (size_t i = 0; i < n->pool_count; i++) {
        struct pool *p = &n->pools[i];

        if (!pool_number(p, &net.address, &number))
            continue;
        if (take)
            numbers_take(&p->numbers, number);
        else
            numbers_give(&p->numbers, number);
    }
    a->freed |= !take;
    a->nodes_due |= !take && n->ingress && a->nodes_blocked;
    a->nets_due |= fullness(n) != n->fullness;
}

void net_take(struct allocator *a, const char *network_id, const char *address)
{
    move(a, network_id, address, true);
}

void net_give(struct allocator *a, const char *network_id, const char *address)
{
    move(a, network_id, address, false);
}

/* ---- allocating ---- */

static const Skep__IpamConfig *config_of(const Skep__NetworkSpec *spec, uint8_t family)
{
    for (size_t i = 0; i < spec->n_ipam; i++) {
        struct ip_net subnet;

        if (ip_net_parse(spec->ipam[i]->subnet, &subnet, NULL) == 0 &&
            subnet.address.family == family)
            return spec->ipam[i];
    }
    return NULL;
}

static void say_no_subnet(const struct allocator *a, char *reason)
{
    const Skep__Cluster *c = store_cluster(a->store);
    size_t used = 0;

    used += (size_t)snprintf(reason, TEXT_BYTES_MAX, "no free subnet of /%u in the address pools",
                             c != NULL ? c->spec->subnet_size : 0);
    for (size_t i = 0; c != NULL && i < c->spec->n_address_pools && used < TEXT_BYTES_MAX; i++)
        used += (size_t)snprintf(reason + used, TEXT_BYTES_MAX - used, " %s",
                                 c->spec->address_pools[i]);
}

/* The subnet of one family with all that goes with it; NULL: reason says why not. */
static Skep__IpamConfig *choose_subnet(struct allocator *a, const struct net *n,
                                       const Skep__NetworkSpec *spec, uint8_t family, char *reason)
{
    const Skep__IpamConfig *given = config_of(spec, family);
    Skep__IpamConfig *config = arena_alloc(&a->scratch, sizeof(*config));
    struct ip_net subnet;

    skep__ipam_config__init(config);
    if (given != NULL) {
        *config = *given;
        if (ip_net_parse(given->subnet, &subnet, NULL) < 0) /* config_of() has parsed it */
            return NULL;
        const struct net *other = subnet_clash(a, &subnet, n);
        if (other != NULL) {
            (void)snprintf(reason, TEXT_BYTES_MAX, "subnet %s overlaps with network %s",
                           given->subnet, other->name);
            return NULL;
        }
    } else if (family == IP_V6) {
        subnet = subnet_ula(a, n);
    } else if (!subnet_find(a, &subnet)) {
        say_no_subnet(a, reason);
        return NULL;
    }
    subnet = ip_net_base(&subnet);
    config->subnet = arena_alloc(&a->scratch, IP_NET_CHARS + 1);
    (void)ip_net_format(&subnet, config->subnet);
    if (config->gateway[0] == '\0') {
        struct ip gateway = ip_add(&subnet.address, 1);

        config->gateway = arena_alloc(&a->scratch, IP_CHARS + 1);
        (void)ip_format(&gateway, config->gateway);
    }
    return config;
}

/* What there is to know of all nodes: the smallest MTU, and how many have addresses. */
static void look_at_nodes(struct allocator *a)
{
    uint32_t least = UINT32_MAX;

    a->node_addresses = 0;
    for (const ProtobufCMessage *o = store_first(a->store, SKEP__KIND__KIND_NODE); o != NULL;
         o = store_after(a->store, SKEP__KIND__KIND_NODE, object_id(o))) {
        const Skep__NodeDescription *d = ((const Skep__Node *)o)->description;

        a->node_addresses += ((const Skep__Node *)o)->n_networks > 0;
        if (d != NULL && d->network != NULL && d->network->mtu != 0)
            least = MIN(least, d->network->mtu);
    }
    a->nodes_mtu = least != UINT32_MAX ? least : ALLOCATOR_MTU_DEFAULT;
}

static uint32_t overhead(const Skep__NetworkSpec *spec)
{
    return ALLOCATOR_VXLAN_BYTES + (net_encrypted(spec) ? ALLOCATOR_ENCRYPTION_BYTES : 0);
}

static uint32_t choose_mtu(const struct allocator *a, const Skep__NetworkSpec *spec)
{
    const char *option = net_option(spec, MTU_OPTION);
    uint64_t mtu = 0;

    if (option != NULL && text_parse_u64(option, &mtu, NULL) == 0 && mtu > 0)
        return (uint32_t)mtu;
    uint32_t least = a->nodes_mtu;
    return least > overhead(spec) ? least - overhead(spec) : least;
}

/* All or nothing: false leaves no trace but reason. */
static bool allocate(struct allocator *a, struct net *n, Skep__Network *next, char *reason)
{
    size_t mark = claims_mark(a), count = next->spec->ipv6 ? 2 : 1;
    Skep__IpamConfig **ipam = arena_array(&a->scratch, count, sizeof(*ipam));

    for (size_t i = 0; i < count; i++) {
        ipam[i] = choose_subnet(a, n, next->spec, i == 0 ? IP_V4 : IP_V6, reason);
        if (ipam[i] == NULL)
            return false;
    }
    next->vni = vni_choose(a, next->spec, reason);
    if (next->vni != 0 && net_encrypted(next->spec)) {
        next->encryption_port = encryption_port_choose(a, reason);
        if (next->encryption_port == 0)
            next->vni = 0;
    }
    if (next->vni == 0) {
        claims_undo(a, mark);
        return false;
    }
    n->tentative = true;
    a->tentative_count++;
    if (!make_pools(n, ipam, count)) {
        (void)snprintf(reason, TEXT_BYTES_MAX, "subnet %s cannot be used", ipam[0]->subnet);
        drop_pools(a, n);
        claims_undo(a, mark);
        return false;
    }
    next->mtu = choose_mtu(a, next->spec);
    next->ipam = ipam;
    next->n_ipam = count;
    return true;
}

/* ---- what is to be known ---- */

static char *mtu_warning(struct allocator *a, const Skep__Network *n)
{
    uint32_t least = a->nodes_mtu, needed = n->mtu + overhead(n->spec);

    if (n->mtu == 0 || needed <= least)
        return text("");
    return arena_printf(
        &a->scratch,
        "mtu %u of this network needs %u on the hosts' network, but a node has only "
        "%u: large packets are sent in fragments",
        n->mtu, needed, least);
}

/* Nobody but nodes has an address in it, whose devices can still change. */
static bool is_unused(const struct allocator *a, const struct net *n)
{
    uint64_t used = pool_used(&n->pools[0]);

    return used == 0 || (n->ingress && used <= a->node_addresses);
}

/* What the network shall be; true when that differs from what it is. */
static bool advance(struct allocator *a, const struct core_env *env, struct net *n,
                    Skep__Network *next)
{
    const Skep__Network was = *next;
    int64_t due_ns = INT64_MAX;
    bool changed = false;

    if (!n->allocated && !n->tentative) {
        char reason[TEXT_BYTES_MAX] = "";

        if (allocate(a, n, next, reason)) {
            changed = true;
            reason[0] = '\0';
        } else {
            *next = was;
        }
        next->error = arena_strdup(&a->scratch, reason);
    }
    if (next->vni != 0 && net_encrypted(next->spec)) {
        changed |= keys_advance(a, env, next, &due_ns);
        uint64_t due_ms = env->now_ms + (uint64_t)(due_ns / NS_PER_MS) + 1;

        a->keys_due_ms = MIN(a->keys_due_ms, due_ms);
    }
    /* The ingress network is there before any node can tell its MTU. */
    if (n->allocated && is_unused(a, n))
        next->mtu = choose_mtu(a, next->spec);
    next->fullness_percent = n->allocated ? fullness(n) : 0;
    next->warning = mtu_warning(a, next);
    return changed || was.mtu != next->mtu || strcmp(was.error, next->error) != 0 ||
           strcmp(was.warning, next->warning) != 0 ||
           was.fullness_percent != next->fullness_percent;
}

void nets_run(struct allocator *a, const struct core_env *env, struct store_tx *tx)
{
    struct net *n;

    if (!a->nets_due && env->now_ms < a->keys_due_ms)
        return;
    a->nets_due = false;
    a->keys_due_ms = CORE_NEVER;
    look_at_nodes(a);
    DL_FOREACH(a->nets, n)
    {
        const ProtobufCMessage *object = store_get(a->store, SKEP__KIND__KIND_NETWORK, n->id);

        if (!n->overlay || object == NULL)
            continue;
        if (store_tx_full(tx)) {
            a->nets_due = true;
            return;
        }
        Skep__Network next = *(const Skep__Network *)object;
        if (advance(a, env, n, &next))
            store_tx_update(tx, &next.base, next.meta->version, 0);
    }
}
