#include "agentd/netplan/tables_internal.h"

#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "common/hash.h"

/* ---- groups ---- */

struct group_key {
    enum group_kind kind;
    const struct group *network;
    const char *key;
    size_t size;
};

static bool is_group(const void *value, const void *key)
{
    const struct group *g = value;
    const struct group_key *k = key;

    return g->kind == k->kind && g->network == k->network && g->size == k->size &&
           memcmp(g->key, k->key, k->size) == 0;
}

static uint64_t hash_of(const struct group_key *k)
{
    uint64_t seed = k->network == NULL ? k->kind : k->network->hash + k->kind;

    return hash_bytes(k->key, k->size, seed);
}

struct group *group_find(const struct tables *t, enum group_kind kind, const struct group *network,
                         const char *key, size_t size)
{
    struct group_key k = { kind, network, key, size };

    return map_find(&t->groups, hash_of(&k), is_group, &k);
}

/* In lower case; 0: too long, which nobody's name is. */
static size_t lower(char ret[TABLES_NAME_CHARS_MAX + 1], const char *name)
{
    size_t size = 0;

    for (; name[size] != '\0'; size++) {
        if (size == TABLES_NAME_CHARS_MAX)
            return 0;
        ret[size] = name[size];
        if (name[size] >= 'A' && name[size] <= 'Z')
            ret[size] = (char)(name[size] - 'A' + 'a');
    }
    return size;
}

static size_t address_key(char ret[1 + sizeof(struct ip)], const struct ip *a)
{
    ret[0] = (char)a->family;
    memcpy(ret + 1, a->bytes, ip_bytes(a));
    return 1 + ip_bytes(a);
}

struct group *group_find_name(const struct tables *t, const char *network_id, const char *name)
{
    const struct group *n = group_find(t, GROUP_NETWORK, NULL, network_id, strlen(network_id));
    char key[TABLES_NAME_CHARS_MAX + 1];
    size_t size = lower(key, name);

    return n == NULL || size == 0 ? NULL : group_find(t, GROUP_NAME, n, key, size);
}

struct group *group_find_address(const struct tables *t, const char *network_id,
                                 const struct ip *address)
{
    const struct group *n = group_find(t, GROUP_NETWORK, NULL, network_id, strlen(network_id));
    char key[1 + sizeof(struct ip)];

    return n == NULL ? NULL : group_find(t, GROUP_ADDRESS, n, key, address_key(key, address));
}

static void group_free(struct group *g)
{
    set_deinit(&g->services);
    set_deinit(&g->endpoints);
    free(g);
}

void groups_flush(struct tables *t)
{
    for (struct group *g; (g = t->dirty) != NULL;) {
        t->dirty = g->dirty_next;
        g->dirty = false;
        set_flush(&g->services);
        set_flush(&g->endpoints);
        if (g->services.count == 0 && g->endpoints.count == 0 && g->head == NULL) {
            map_remove(&t->groups, g->hash, g);
            group_free(g);
        }
    }
}

void groups_deinit(struct tables *t)
{
    size_t at = 0;

    for (struct group *g; (g = map_each(&t->groups, &at)) != NULL;)
        group_free(g);
    map_deinit(&t->groups);
}

/* ---- where a record belongs ---- */

struct change {
    struct tables *t;
    const struct record *record;
    enum group_change what;
};

/* The group of a key, marked for the next flush; made when members come, NULL when there is none
 * and they go. */
static struct group *group_open(const struct change *c, enum group_kind kind,
                                const struct group *network, const char *key, size_t size)
{
    struct group *g = group_find(c->t, kind, network, key, size);

    if (g == NULL && c->what == GROUP_ADD) {
        struct group_key k = { kind, network, key, size };

        ASSERT(size <= UINT8_MAX);
        g = xcalloc(1, sizeof(*g) + size + 1);
        g->hash = hash_of(&k);
        g->kind = (uint8_t)kind;
        g->size = (uint8_t)size;
        g->network = (struct group *)(uintptr_t)network;
        memcpy(g->key, key, size);
        map_add(&c->t->groups, g->hash, g);
    }
    if (g != NULL && !g->dirty && c->what != GROUP_TOUCH) {
        g->dirty = true;
        g->dirty_next = c->t->dirty;
        c->t->dirty = g;
    }
    return g;
}

static void change_member(const struct change *c, struct group *g)
{
    struct set *s =
        c->record->kind == SKEP__NETWORK_RECORD_KIND__RECORD_SERVICE ? &g->services : &g->endpoints;

    if (c->what == GROUP_ADD)
        set_add(s, &c->record->m);
    else if (c->what == GROUP_REMOVE)
        set_remove(s, &c->record->m);
}

static void change_group(const struct change *c, enum group_kind kind, const struct group *network,
                         const char *key, size_t size)
{
    struct group *g = c->what == GROUP_TOUCH ? NULL : group_open(c, kind, network, key, size);

    if (g != NULL)
        change_member(c, g);
}

static void change_name(const struct change *c, const struct group *network, const char *name)
{
    char key[TABLES_NAME_CHARS_MAX + 1];
    size_t size = lower(key, name);

    if (size > 0)
        change_group(c, GROUP_NAME, network, key, size);
}

static void change_address(const struct change *c, const struct group *network, const char *cidr)
{
    char key[1 + sizeof(struct ip)];
    struct ip_net net;

    if (cidr[0] != '\0' && ip_net_parse(cidr, &net, NULL) == 0)
        change_group(c, GROUP_ADDRESS, network, key, address_key(key, &net.address));
}

/* The network a record is in, with its new version. */
static struct group *change_network(const struct change *c, const char *id)
{
    struct group *g = group_open(c, GROUP_NETWORK, NULL, id, strlen(id));

    if (g != NULL) {
        g->version = c->t->version;
        change_member(c, g);
    }
    return g;
}

static void change_head(const struct change *c)
{
    struct group *g = group_open(c, GROUP_NETWORK, NULL, c->record->id, strlen(c->record->id));

    if (g == NULL)
        return;
    g->version = c->t->version;
    g->head = c->what == GROUP_REMOVE ? NULL : c->record;
}

static void change_endpoint(const struct change *c)
{
    const Skep__NetworkEndpoint *ep = &c->record->m.endpoint;

    if (ep->service_id[0] != '\0')
        change_group(c, GROUP_SERVICE, NULL, ep->service_id, strlen(ep->service_id));
    for (size_t i = 0; i < ep->n_networks; i++) {
        const Skep__NetworkAttachment *a = ep->networks[i];
        const struct group *n = change_network(c, a->network_id);

        if (n == NULL)
            continue;
        change_group(c, GROUP_NODE, n, ep->node_id, strlen(ep->node_id));
        change_name(c, n, ep->name);
        change_name(c, n, ep->hostname);
        for (size_t j = 0; j < a->n_aliases; j++)
            change_name(c, n, a->aliases[j]);
        for (size_t j = 0; j < a->n_addresses; j++)
            change_address(c, n, a->addresses[j]);
    }
}

static void change_service(const struct change *c)
{
    const Skep__NetworkService *s = &c->record->m.service;

    for (size_t i = 0; i < s->n_virtual_ips; i++) {
        const struct group *n = change_network(c, s->virtual_ips[i]->network_id);

        if (n != NULL) {
            change_name(c, n, s->name);
            change_address(c, n, s->virtual_ips[i]->address);
        }
    }
    for (size_t i = 0; i < s->n_aliases; i++) {
        const struct group *n = change_network(c, s->aliases[i]->network_id);

        if (n == NULL)
            continue;
        change_name(c, n, s->name);
        for (size_t j = 0; j < s->aliases[i]->n_aliases; j++)
            change_name(c, n, s->aliases[i]->aliases[j]);
    }
}

/* Of the networks where it has an address of its own, or tasks. */
static void change_peer(const struct change *c)
{
    const Skep__NetworkPeer *p = &c->record->m.peer;
    struct tables *t = c->t;

    for (size_t i = 0; i < p->n_networks; i++) {
        const char *id = p->networks[i]->network_id;
        struct group *n = group_find(t, GROUP_NETWORK, NULL, id, strlen(id));

        if (n != NULL)
            n->version = t->version;
    }
    for (size_t i = 0; i < t->networks.count; i++) {
        const Skep__NetworkHead *head = t->networks.items[i];
        struct group *n = group_find(t, GROUP_NETWORK, NULL, head->id, strlen(head->id));

        if (n != NULL && group_find(t, GROUP_NODE, n, p->node_id, strlen(p->node_id)) != NULL)
            n->version = t->version;
    }
}

void groups_apply(struct tables *t, const struct record *r, enum group_change what)
{
    struct change c = { t, r, what };

    switch (r->kind) {
    case SKEP__NETWORK_RECORD_KIND__RECORD_NETWORK:
        change_head(&c);
        break;
    case SKEP__NETWORK_RECORD_KIND__RECORD_PEER:
        change_peer(&c);
        break;
    case SKEP__NETWORK_RECORD_KIND__RECORD_SERVICE:
        change_service(&c);
        break;
    case SKEP__NETWORK_RECORD_KIND__RECORD_ENDPOINT:
        change_endpoint(&c);
        break;
    case _SKEP__NETWORK_RECORD_KIND_IS_INT_SIZE:
    default:
        ASSERT(false);
    }
}
