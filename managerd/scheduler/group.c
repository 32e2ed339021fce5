#include <string.h>

#include "common/assert.h"
#include "common/hash.h"
#include "managerd/scheduler/internal.h"

enum { ITEMS_PER_BLOCK = 256 };

void list_init(struct list *l)
{
    l->prev = l->next = l;
}

bool list_empty(const struct list *l)
{
    return l->next == l;
}

void list_add(struct list *l, struct list *n)
{
    n->prev = l->prev;
    n->next = l;
    l->prev->next = n;
    l->prev = n;
}

void list_remove(struct list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    list_init(n);
}

/* ---- what a service version needs ---- */

static void learn_placement(struct needs *n, const Skep__Placement *p)
{
    n->placement = p;
    if (p == NULL)
        return;
    n->max_replicas = p->max_replicas;
    n->rule_count = MIN(p->n_constraints, (size_t)CONSTRAINTS_MAX);
    n->rules = n->rule_count > 0 ? xcalloc(n->rule_count, sizeof(*n->rules)) : NULL;
    for (size_t i = 0; i < n->rule_count; i++)
        n->rules[i] = node_rule_compile(p->constraints[i]);
    for (size_t i = 0; i < p->n_preferences && n->preference_count < PREFERENCES_MAX; i++) {
        const char *label;
        enum node_property property = node_property_parse(p->preferences[i]->descriptor, &label);

        if (property != NODE_PROPERTY_LABEL && property != NODE_PROPERTY_ENGINE_LABEL)
            continue; /* nothing else can be spread over */
        n->preferences[n->preference_count].property = property;
        n->preferences[n->preference_count++].label = label;
    }
}

static void learn_resources(struct needs *n, const Skep__ResourceRequirements *r)
{
    const Skep__Resources *reserved = r != NULL ? r->reservations : NULL;

    if (reserved == NULL)
        return;
    n->nano_cpus = MAX(reserved->nano_cpus, 0);
    n->memory_bytes = MAX(reserved->memory_bytes, 0);
    n->generic_count = MIN(reserved->n_generic, (size_t)GENERIC_MAX);
    for (size_t i = 0; i < n->generic_count; i++)
        n->generic[i] = reserved->generic[i];
}

static void learn_ports(struct needs *n, const Skep__EndpointSpec *e)
{
    if (e == NULL || e->n_ports == 0)
        return;
    n->ports = xcalloc(e->n_ports, sizeof(Skep__PortConfig *));
    for (size_t i = 0; i < e->n_ports; i++) {
        const Skep__PortConfig *p = e->ports[i];

        if (p->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_HOST && p->published_port != 0)
            n->ports[n->port_count++] = p;
    }
}

static void learn_volumes(struct needs *n, const Skep__ContainerSpec *c)
{
    if (c == NULL || c->n_mounts == 0)
        return;
    n->volume_drivers = xcalloc(c->n_mounts, sizeof(char *));
    for (size_t i = 0; i < c->n_mounts; i++) {
        const Skep__Mount *m = c->mounts[i];
        const char *name = m->volume_driver != NULL ? m->volume_driver->name : "";

        if (m->type == SKEP__MOUNT__TYPE__VOLUME && name[0] != '\0' && strcmp(name, "local") != 0)
            n->volume_drivers[n->volume_driver_count++] = name;
    }
}

static void learn_network(struct needs *n, const Skep__Network *network)
{
    const Skep__Driver *driver = network != NULL ? network->spec->driver : NULL;

    if (driver == NULL)
        return;
    n->bridge |= strcmp(driver->name, "bridge") == 0;
    n->macvlan |= strcmp(driver->name, "macvlan") == 0;
    n->ipvlan |= strcmp(driver->name, "ipvlan") == 0;
    n->overlay |= strcmp(driver->name, "overlay") == 0;
    n->encrypted |= network->n_keys > 0;
}

/* Ports in the routing mesh mean an address in the ingress network. A network's driver and keys
 * never change while a task uses it. */
static void learn_networks(struct needs *n, const Skep__ServiceSpec *spec, const struct store *s)
{
    for (size_t i = 0; spec->task != NULL && i < spec->task->n_networks; i++)
        learn_network(n, (const Skep__Network *)store_get(s, SKEP__KIND__KIND_NETWORK,
                                                          spec->task->networks[i]->target));
    for (size_t i = 0; spec->endpoint != NULL && i < spec->endpoint->n_ports; i++)
        n->overlay |= spec->endpoint->ports[i]->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_INGRESS;
}

static void learn_needs(struct needs *n, const Skep__ServiceSpec *spec, const struct store *s)
{
    const Skep__TaskSpec *task = spec->task;

    n->log_driver = "";
    learn_ports(n, spec->endpoint);
    learn_networks(n, spec, s);
    if (task != NULL) {
        learn_placement(n, task->placement);
        learn_resources(n, task->resources);
        learn_volumes(n, task->container);
        if (task->log_driver != NULL)
            n->log_driver = task->log_driver->name;
    }
    n->bounded = n->nano_cpus > 0 || n->memory_bytes > 0 || n->generic_count > 0 ||
                 n->port_count > 0 || n->max_replicas > 0;
}

/* ---- groups ---- */

struct group_key {
    const char *service_id;
    uint64_t spec_version;
};

static uint64_t group_hash(const char *service_id, uint64_t spec_version)
{
    return hash_str(service_id, spec_version);
}

static bool group_match(const void *value, const void *key)
{
    const struct group *g = value;
    const struct group_key *k = key;

    return g->spec_version == k->spec_version && strcmp(g->service->id, k->service_id) == 0;
}

static bool service_match(const void *value, const void *key)
{
    return strcmp(((const struct service *)value)->id, key) == 0;
}

struct group *group_find(const struct scheduler *s, const char *service_id, uint64_t spec_version)
{
    struct group_key key = { service_id, spec_version };

    /* Changes come in runs of one service. */
    if (s->last_group != NULL && group_match(s->last_group, &key))
        return s->last_group;
    return map_find(&s->groups, group_hash(service_id, spec_version), group_match, &key);
}

static struct service *service_get(struct scheduler *s, const char *id)
{
    uint64_t hash = hash_str(id, 0);
    struct service *service = map_find(&s->services, hash, service_match, id);

    if (service == NULL) {
        service = xcalloc(1, sizeof(*service));
        (void)snprintf(service->id, sizeof(service->id), "%s", id);
        map_add(&s->services, hash, service);
    }
    service->group_count++;
    return service;
}

struct group *group_get(struct scheduler *s, const char *service_id, uint64_t spec_version)
{
    struct group *g = group_find(s, service_id, spec_version);

    if (g != NULL) {
        s->last_group = g;
        return g;
    }
    const Skep__Revision *r = store_revision(s->store, service_id, spec_version);
    g = xcalloc(1, sizeof(*g));
    list_init(&g->queue);
    list_init(&g->waiting);
    g->service = service_get(s, service_id);
    g->spec_version = spec_version;
    g->hash = group_hash(service_id, spec_version);
    g->explain_at_ms = CORE_NEVER;
    g->needs.log_driver = "";
    if (r != NULL) {
        g->revision = object_ref(r);
        learn_needs(&g->needs, r->spec, s->store);
    }
    map_add(&s->groups, g->hash, g);
    return g;
}

static void free_group(struct scheduler *s, struct group *g)
{
    struct service *service = g->service;

    if (s->last_group == g)
        s->last_group = NULL;
    if (--service->group_count == 0) {
        map_remove(&s->services, hash_str(service->id, 0), service);
        free(service->counts);
        free(service);
    }
    free(g->needs.rules);
    free(g->needs.ports);
    free(g->needs.volume_drivers);
    object_unref(g->revision);
    free(g->verdicts);
    free(g);
}

void group_unref(struct scheduler *s, struct group *g)
{
    ASSERT(g->refs > 0);
    if (--g->refs > 0)
        return;
    ASSERT(list_empty(&g->waiting));
    list_remove(&g->queue);
    map_remove(&s->groups, g->hash, g);
    free_group(s, g);
}

void group_drop_verdicts(struct group *g)
{
    free(g->verdicts);
    g->verdicts = NULL;
    g->verdict_capacity = 0;
}

void group_queue(struct scheduler *s, struct group *g, bool blocked)
{
    list_remove(&g->queue);
    g->blocked = blocked;
    list_add(blocked ? &s->blocked : &s->fresh, &g->queue);
}

/* ---- waiting tasks ---- */

static bool item_match(const void *value, const void *key)
{
    return strcmp(((const struct item *)value)->id, key) == 0;
}

struct item *item_find(const struct scheduler *s, const char *id)
{
    /* Events of a transaction come in the order of its decisions. */
    if (s->flight_confirmed < s->flight_count) {
        struct item *next = s->flight[s->flight_confirmed];

        if (next != NULL && strcmp(next->id, id) == 0)
            return next;
    }
    return map_find(&s->items, hash_str(id, 0), item_match, id);
}

static struct item *item_alloc(struct scheduler *s)
{
    if (s->free_items == NULL) {
        struct item *block = xcalloc(ITEMS_PER_BLOCK, sizeof(*block));

        s->item_blocks =
            xrealloc_array(s->item_blocks, s->item_block_count + 1, sizeof(*s->item_blocks));
        s->item_blocks[s->item_block_count++] = block;
        for (size_t i = ITEMS_PER_BLOCK; i-- > 0;) {
            block[i].link.next = (struct list *)s->free_items;
            s->free_items = &block[i];
        }
    }
    struct item *item = s->free_items;

    s->free_items = (struct item *)item->link.next;
    return item;
}

struct item *item_add(struct scheduler *s, struct group *g, const Skep__Task *task)
{
    struct item *item = item_alloc(s);

    *item = (struct item){ .group = g,
                           .hash = hash_str(task->id, 0),
                           .slot = task->slot,
                           .preassigned = task->node_id[0] != '\0' };
    (void)memcpy(item->id, task->id, MIN(strlen(task->id), (size_t)ID_CHARS));
    if (task->status->error[0] != '\0')
        item->text_hash = hash_str(task->status->error, 0);
    list_init(&item->link);
    map_add(&s->items, item->hash, item);
    g->refs++;
    item_wait(item);
    return item;
}

void item_wait(struct item *item)
{
    list_add(&item->group->waiting, &item->link);
    item->group->waiting_count++;
}

void item_unwait(struct item *item)
{
    list_remove(&item->link);
    if (--item->group->waiting_count == 0) {
        list_remove(&item->group->queue);
        item->group->blocked = false;
        group_drop_verdicts(item->group);
    }
}

void item_drop(struct scheduler *s, struct item *item)
{
    struct group *g = item->group;

    if (!list_empty(&item->link))
        item_unwait(item);
    map_remove(&s->items, item->hash, item);
    item->link.next = (struct list *)s->free_items;
    s->free_items = item;
    group_unref(s, g);
}

void groups_clear(struct scheduler *s)
{
    size_t at = 0;

    for (struct group *g; (g = map_each(&s->groups, &at)) != NULL;)
        free_group(s, g);
    map_deinit(&s->groups);
    map_deinit(&s->services);
    map_deinit(&s->items);
    for (size_t i = 0; i < s->item_block_count; i++)
        free(s->item_blocks[i]);
    free(s->item_blocks);
    s->item_blocks = NULL;
    s->item_block_count = 0;
    s->free_items = NULL;
    list_init(&s->fresh);
    list_init(&s->blocked);
}
