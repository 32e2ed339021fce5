#include "agentd/netplan/tables.h"

#include <stdlib.h>
#include <string.h>

#include "agentd/netplan/tables_internal.h"
#include "common/assert.h"
#include "common/hash.h"
#include "common/message.h"

enum { KINDS = SKEP__NETWORK_RECORD_KIND__RECORD_ENDPOINT + 1 };

static const size_t count_max[KINDS] = { TABLES_NETWORKS_MAX, TABLES_PEERS_MAX, TABLES_SERVICES_MAX,
                                         TABLES_ENDPOINTS_MAX };

static_assert(ARRAY_LEN(((struct tables *)NULL)->counts) == KINDS, "one count per kind");

struct tables *tables_new(void)
{
    return xcalloc(1, sizeof(struct tables));
}

static void record_free(struct record *r)
{
    free(r->block);
    free(r);
}

void tables_free(struct tables *t)
{
    size_t at = 0;

    if (t == NULL)
        return;
    for (struct record *r; (r = map_each(&t->records, &at)) != NULL;)
        record_free(r);
    map_deinit(&t->records);
    groups_deinit(t);
    set_deinit(&t->networks);
    set_deinit(&t->peers);
    free(t);
}

/* ---- records ---- */

struct record_key {
    Skep__NetworkRecordKind kind;
    const char *id;
};

static bool is_record(const void *value, const void *key)
{
    const struct record *r = value;
    const struct record_key *k = key;

    return r->kind == k->kind && strcmp(r->id, k->id) == 0;
}

static struct record *find(const struct tables *t, Skep__NetworkRecordKind kind, const char *id)
{
    struct record_key k = { kind, id };

    return map_find(&t->records, hash_str(id, kind), is_record, &k);
}

/* In order of id, for those kinds that are asked for so. */
static struct set *set_of_all(struct tables *t, Skep__NetworkRecordKind kind)
{
    if (kind == SKEP__NETWORK_RECORD_KIND__RECORD_NETWORK)
        return &t->networks;
    return kind == SKEP__NETWORK_RECORD_KIND__RECORD_PEER ? &t->peers : NULL;
}

static void set_content(struct record *r, const ProtobufCMessage *m)
{
    ProtobufCMessage *copy = message_clone(m);

    free(r->block);
    r->block = copy;
    memcpy(&r->m, copy, copy->descriptor->sizeof_message);
    r->id = tables_message_id(r->kind, &r->m.base);
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a == NULL ? "" : a, b == NULL ? "" : b) == 0;
}

static bool same_messages(void *a, size_t a_count, void *b, size_t b_count)
{
    ProtobufCMessage *const *x = a, *const *y = b;

    if (a_count != b_count)
        return false;
    for (size_t i = 0; i < a_count; i++) {
        if (!message_equal(x[i], y[i]))
            return false;
    }
    return true;
}

/* A new content leaves the record in the groups where it is: the usual case, a change of state. */
static bool same_groups(const struct record *r, const ProtobufCMessage *m)
{
    if (r->kind == SKEP__NETWORK_RECORD_KIND__RECORD_ENDPOINT) {
        const Skep__NetworkEndpoint *a = &r->m.endpoint, *b = (const void *)m;

        return same_text(a->name, b->name) && same_text(a->hostname, b->hostname) &&
               same_text(a->service_id, b->service_id) && same_text(a->node_id, b->node_id) &&
               same_messages(a->networks, a->n_networks, b->networks, b->n_networks);
    }
    if (r->kind == SKEP__NETWORK_RECORD_KIND__RECORD_SERVICE) {
        const Skep__NetworkService *a = &r->m.service, *b = (const void *)m;

        return same_text(a->name, b->name) &&
               same_messages(a->virtual_ips, a->n_virtual_ips, b->virtual_ips, b->n_virtual_ips) &&
               same_messages(a->aliases, a->n_aliases, b->aliases, b->n_aliases);
    }
    return r->kind == SKEP__NETWORK_RECORD_KIND__RECORD_NETWORK;
}

static void record_add(struct tables *t, Skep__NetworkRecordKind kind, const ProtobufCMessage *m)
{
    struct record *r = xcalloc(1, sizeof(*r));
    struct set *all = set_of_all(t, kind);

    r->kind = kind;
    set_content(r, m);
    r->hash = hash_str(r->id, kind);
    r->generation = t->generation;
    map_add(&t->records, r->hash, r);
    t->counts[kind]++;
    if (all != NULL)
        set_add(all, &r->m);
    groups_apply(t, r, GROUP_ADD);
}

static void record_change(struct tables *t, struct record *r, const ProtobufCMessage *m)
{
    bool stays = same_groups(r, m);

    if (!stays)
        groups_apply(t, r, GROUP_REMOVE);
    set_content(r, m);
    groups_apply(t, r, stays ? GROUP_TOUCH : GROUP_ADD);
}

/* Records that go live until the sets have let go of them. */
struct graveyard {
    struct record **list;
    size_t count, capacity;
};

static void record_remove(struct tables *t, struct record *r, struct graveyard *dead)
{
    struct set *all = set_of_all(t, r->kind);

    t->version++;
    groups_apply(t, r, GROUP_REMOVE);
    if (all != NULL)
        set_remove(all, &r->m);
    map_remove(&t->records, r->hash, r);
    t->counts[r->kind]--;
    if (dead->count == dead->capacity) {
        dead->capacity = MAX(64, dead->capacity * 2);
        dead->list = xrealloc_array(dead->list, dead->capacity, sizeof(dead->list[0]));
    }
    dead->list[dead->count++] = r;
}

/* ---- answers ---- */

static void refuse(struct tables *t, const struct err *e)
{
    t->refused++;
    memcpy(t->why, e->message, sizeof(t->why));
}

static void apply_record(struct tables *t, const Skep__NetworkRecord *in)
{
    Skep__NetworkRecordKind kind;
    const ProtobufCMessage *m;
    struct err e = { 0 };

    if (tables_check_record(in, &kind, &m, &e) < 0) {
        refuse(t, &e);
        return;
    }
    struct record *r = find(t, kind, tables_message_id(kind, m));

    if (r != NULL)
        r->generation = t->generation;
    if (r != NULL && message_equal(&r->m.base, m))
        return;
    if (r == NULL && t->counts[kind] >= count_max[kind]) {
        (void)err_set(&e, ERR_TOO_BIG, "more than %zu records of kind %d", count_max[kind],
                      (int)kind);
        refuse(t, &e);
        return;
    }
    t->version++;
    if (r == NULL)
        record_add(t, kind, m);
    else
        record_change(t, r, m);
}

static void apply_removed(struct tables *t, const Skep__NetworkRecordRef *ref,
                          struct graveyard *dead)
{
    struct record *r = ref->id == NULL ? NULL : find(t, ref->kind, ref->id);

    if (r != NULL)
        record_remove(t, r, dead);
}

/* What the complete set did not name. */
static void sweep(struct tables *t, struct graveyard *dead)
{
    struct record **old = xcalloc(t->records.count + 1, sizeof(struct record *));
    size_t count = 0, at = 0;

    for (struct record *r; (r = map_each(&t->records, &at)) != NULL;) {
        if (r->generation != t->generation)
            old[count++] = r;
    }
    for (size_t i = 0; i < count; i++)
        record_remove(t, old[i], dead);
    free(old);
}

bool tables_apply(struct tables *t, const Skep__NetworksResponse *resp)
{
    uint64_t before = t->version;
    struct graveyard dead = { NULL, 0, 0 };

    if (resp->complete) { /* the first answer of the set */
        t->generation++;
        t->completing = true;
    }
    for (size_t i = 0; i < resp->n_removed; i++)
        apply_removed(t, resp->removed[i], &dead);
    for (size_t i = 0; i < resp->n_records; i++)
        apply_record(t, resp->records[i]);
    if (t->completing && !resp->more) {
        sweep(t, &dead);
        t->version += !t->complete;
        t->completing = false;
        t->complete = true;
    }
    set_flush(&t->networks);
    set_flush(&t->peers);
    groups_flush(t);
    for (size_t i = 0; i < dead.count; i++)
        record_free(dead.list[i]);
    free(dead.list);
    return t->version != before;
}

void tables_expect_complete(struct tables *t)
{
    t->completing = false;
}

bool tables_complete(const struct tables *t)
{
    return t->complete;
}

uint64_t tables_version(const struct tables *t)
{
    return t->version;
}

static const struct group *network_group(const struct tables *t, const char *id)
{
    return group_find(t, GROUP_NETWORK, NULL, id, strlen(id));
}

uint64_t tables_network_version(const struct tables *t, const char *network_id)
{
    const struct group *g = network_group(t, network_id);

    return g == NULL || g->head == NULL ? 0 : g->version;
}

uint64_t tables_refused(const struct tables *t, const char **ret_why)
{
    *ret_why = t->why;
    return t->refused;
}

/* ---- reading ---- */

const Skep__NetworkHead *tables_network(const struct tables *t, const char *id)
{
    const struct record *r = find(t, SKEP__NETWORK_RECORD_KIND__RECORD_NETWORK, id);

    return r == NULL ? NULL : &r->m.head;
}

const Skep__NetworkPeer *tables_peer(const struct tables *t, const char *node_id)
{
    const struct record *r = find(t, SKEP__NETWORK_RECORD_KIND__RECORD_PEER, node_id);

    return r == NULL ? NULL : &r->m.peer;
}

const Skep__NetworkService *tables_service(const struct tables *t, const char *id)
{
    const struct record *r = find(t, SKEP__NETWORK_RECORD_KIND__RECORD_SERVICE, id);

    return r == NULL ? NULL : &r->m.service;
}

const Skep__NetworkEndpoint *tables_endpoint(const struct tables *t, const char *task_id)
{
    const struct record *r = find(t, SKEP__NETWORK_RECORD_KIND__RECORD_ENDPOINT, task_id);

    return r == NULL ? NULL : &r->m.endpoint;
}

const Skep__NetworkHead *tables_network_after(const struct tables *t, const char *after)
{
    return set_after(&t->networks, after);
}

const Skep__NetworkPeer *tables_peer_after(const struct tables *t, const char *after)
{
    return set_after(&t->peers, after);
}

static size_t services_of(const struct group *g, const Skep__NetworkService *const **ret)
{
    *ret = g == NULL ? NULL : (const Skep__NetworkService *const *)g->services.items;
    return g == NULL ? 0 : g->services.count;
}

static size_t endpoints_of(const struct group *g, const Skep__NetworkEndpoint *const **ret)
{
    *ret = g == NULL ? NULL : (const Skep__NetworkEndpoint *const *)g->endpoints.items;
    return g == NULL ? 0 : g->endpoints.count;
}

size_t tables_network_services(const struct tables *t, const char *network_id,
                               const Skep__NetworkService *const **ret)
{
    return services_of(network_group(t, network_id), ret);
}

size_t tables_network_endpoints(const struct tables *t, const char *network_id,
                                const Skep__NetworkEndpoint *const **ret)
{
    return endpoints_of(network_group(t, network_id), ret);
}

size_t tables_service_endpoints(const struct tables *t, const char *service_id,
                                const Skep__NetworkEndpoint *const **ret)
{
    return endpoints_of(group_find(t, GROUP_SERVICE, NULL, service_id, strlen(service_id)), ret);
}

size_t tables_named_services(const struct tables *t, const char *network_id, const char *name,
                             const Skep__NetworkService *const **ret)
{
    return services_of(group_find_name(t, network_id, name), ret);
}

size_t tables_named_endpoints(const struct tables *t, const char *network_id, const char *name,
                              const Skep__NetworkEndpoint *const **ret)
{
    return endpoints_of(group_find_name(t, network_id, name), ret);
}

const Skep__NetworkService *tables_find_service(const struct tables *t, const char *network_id,
                                                const char *name)
{
    const Skep__NetworkService *const *list;

    return tables_named_services(t, network_id, name, &list) == 0 ? NULL : list[0];
}

/* The one in use; when none is, the first. */
static const Skep__NetworkEndpoint *best_endpoint(const struct group *g)
{
    const Skep__NetworkEndpoint *const *list;
    size_t count = endpoints_of(g, &list);

    for (size_t i = 0; i < count; i++) {
        if (list[i]->state == SKEP__NETWORK_ENDPOINT__STATE__UP)
            return list[i];
    }
    return count == 0 ? NULL : list[0];
}

const Skep__NetworkEndpoint *tables_find_endpoint(const struct tables *t, const char *network_id,
                                                  const char *name)
{
    return best_endpoint(group_find_name(t, network_id, name));
}

const Skep__NetworkEndpoint *tables_find_address(const struct tables *t, const char *network_id,
                                                 const struct ip *address)
{
    return best_endpoint(group_find_address(t, network_id, address));
}

const Skep__NetworkService *tables_find_vip(const struct tables *t, const char *network_id,
                                            const struct ip *address)
{
    const Skep__NetworkService *const *list;

    return services_of(group_find_address(t, network_id, address), &list) == 0 ? NULL : list[0];
}

bool tables_address(Skep__NetworkAttachment *const *networks, size_t count, const char *network_id,
                    uint8_t family, struct ip *ret)
{
    struct ip_net net;

    for (size_t i = 0; i < count; i++) {
        if (strcmp(networks[i]->network_id, network_id) != 0)
            continue;
        for (size_t j = 0; j < networks[i]->n_addresses; j++) {
            if (ip_net_parse(networks[i]->addresses[j], &net, NULL) < 0 ||
                net.address.family != family)
                continue;
            *ret = net.address;
            return true;
        }
    }
    return false;
}

bool tables_vip(const Skep__NetworkService *s, const char *network_id, struct ip *ret)
{
    struct ip_net net;

    for (size_t i = 0; i < s->n_virtual_ips; i++) {
        if (strcmp(s->virtual_ips[i]->network_id, network_id) != 0 ||
            ip_net_parse(s->virtual_ips[i]->address, &net, NULL) < 0)
            continue;
        *ret = net.address;
        return true;
    }
    return false;
}
