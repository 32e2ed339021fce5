#include <string.h>

#include "common/assert.h"
#include "common/hash.h"
#include "common/message.h"
#include "managerd/scheduler/internal.h"

/* ---- the set ---- */

static bool node_match(const void *value, const void *key)
{
    return strcmp(((const struct snode *)value)->object->id, key) == 0;
}

struct snode *nodeset_find(const struct nodeset *set, const char *id)
{
    return map_find(&set->ids, hash_str(id, 0), node_match, id);
}

void snode_describe(struct snode *n, const Skep__Node *object)
{
    const Skep__Node *old = n->object;

    n->object = object_ref(object);
    object_unref(old);
    n->set->by_load_stale = true; /* it may be degraded now */
    n->ready = object->status != NULL && object->status->state == SKEP__NODE_STATE__NODE_READY &&
               object->spec != NULL &&
               object->spec->availability == SKEP__NODE_AVAILABILITY__AVAILABILITY_ACTIVE;
}

struct snode *nodeset_add(struct nodeset *set, const Skep__Node *object)
{
    struct snode *n = xcalloc(1, sizeof(*n));
    size_t index = 0;

    while (index < set->capacity && set->nodes[index] != NULL)
        index = set->count == set->capacity ? set->capacity : index + 1;
    if (index == set->capacity) {
        size_t capacity = MAX(set->capacity * 2, (size_t)16);

        set->nodes = xrealloc_array(set->nodes, capacity, sizeof(struct snode *));
        memset(set->nodes + set->capacity, 0, (capacity - set->capacity) * sizeof(struct snode *));
        set->capacity = capacity;
    }
    ASSERT(index < UINT32_MAX);
    set->by_load_stale = true;
    n->set = set;
    n->index = (uint32_t)index;
    n->rank = text_rank(object->id);
    snode_describe(n, object);
    set->nodes[index] = n;
    set->count++;
    map_add(&set->ids, hash_str(object->id, 0), n);
    return n;
}

static void free_node(struct snode *n)
{
    for (size_t i = 0; i < n->generic_count; i++)
        free(n->generic[i].kind);
    free(n->generic);
    free(n->ports);
    free(n->failures);
    object_unref(n->object);
    free(n);
}

void nodeset_remove(struct nodeset *set, struct snode *n)
{
    map_remove(&set->ids, hash_str(n->object->id, 0), n);
    set->nodes[n->index] = NULL;
    set->by_load_stale = true;
    set->count--;
    free_node(n);
}

void nodeset_clear(struct nodeset *set)
{
    for (size_t i = 0; i < set->capacity; i++) {
        if (set->nodes[i] != NULL)
            free_node(set->nodes[i]);
    }
    free(set->nodes);
    free(set->by_load);
    map_deinit(&set->ids);
    *set = (struct nodeset){ 0 };
}

bool snode_may_help(const Skep__Node *a, const Skep__Node *b)
{
    bool same_status = a->status != NULL && b->status != NULL &&
                       a->status->state == b->status->state &&
                       strcmp(a->status->address, b->status->address) == 0;
    return !same_status || a->role != b->role ||
           !message_equal((const ProtobufCMessage *)a->spec, (const ProtobufCMessage *)b->spec) ||
           !message_equal((const ProtobufCMessage *)a->description,
                          (const ProtobufCMessage *)b->description);
}

/* ---- tasks of a service by node ---- */

static uint32_t home(const struct service *s, uint32_t key)
{
    return (key * 0x9e3779b1u >> 7) & (s->capacity - 1);
}

static struct service_count *place(const struct service *s, uint32_t key)
{
    uint32_t i = home(s, key);

    while (s->counts[i].key != 0 && s->counts[i].key != key)
        i = (i + 1) & (s->capacity - 1);
    return &s->counts[i];
}

uint32_t service_count(const struct service *s, const struct snode *n)
{
    return s->used > 0 ? place(s, n->index + 1)->count : 0;
}

static void grow(struct service *s)
{
    struct service old = *s;

    s->capacity = MAX(s->capacity * 2, (uint32_t)SERVICE_NODE_MIN);
    s->counts = xcalloc(s->capacity, sizeof(*s->counts));
    for (uint32_t i = 0; i < old.capacity; i++) {
        if (old.counts[i].key != 0)
            *place(s, old.counts[i].key) = old.counts[i];
    }
    free(old.counts);
}

/* As in common/map: later entries of the run move back, so that no tombstones are needed. */
static void erase(struct service *s, struct service_count *c)
{
    uint32_t mask = s->capacity - 1, hole = (uint32_t)(c - s->counts);

    for (uint32_t i = (hole + 1) & mask; s->counts[i].key != 0; i = (i + 1) & mask) {
        if (((i - home(s, s->counts[i].key)) & mask) >= ((i - hole) & mask)) {
            s->counts[hole] = s->counts[i];
            hole = i;
        }
    }
    s->counts[hole] = (struct service_count){ 0 };
    s->used--;
}

void service_add(struct service *s, const struct snode *n, int32_t change)
{
    if (s->used >= s->capacity / 2)
        grow(s);
    struct service_count *c = place(s, n->index + 1);

    if (c->key == 0) {
        c->key = n->index + 1;
        s->used++;
    }
    ASSERT(change > 0 || c->count > 0);
    c->count += (uint32_t)change;
    if (c->count == 0)
        erase(s, c);
}

void service_forget_node(struct service *s, const struct snode *n)
{
    if (s->used == 0)
        return;
    struct service_count *c = place(s, n->index + 1);

    if (c->key != 0)
        erase(s, c);
}

/* ---- what is used on a node ---- */

void snode_count(struct snode *n, struct group *g, int32_t change)
{
    n->task_count += (uint32_t)change;
    n->set->by_load_stale = true;
    service_add(g->service, n, change);
}

static void use_generic(struct snode *n, const Skep__NamedCount *r, int64_t sign)
{
    size_t i = 0;

    while (i < n->generic_count && strcmp(n->generic[i].kind, r->kind) != 0)
        i++;
    if (i == n->generic_count) {
        n->generic = xrealloc_array(n->generic, ++n->generic_count, sizeof(*n->generic));
        n->generic[i] = (struct generic_use){ .kind = xstrdup(r->kind) };
    }
    n->generic[i].value += sign * r->value;
}

static struct used_port port_of(const Skep__PortConfig *p)
{
    struct used_port port = { .protocol = (uint32_t)p->protocol, .port = p->published_port };

    (void)snprintf(port.host_ip, sizeof(port.host_ip), "%s", p->host_ip);
    return port;
}

static void use_port(struct snode *n, const Skep__PortConfig *p, bool take)
{
    struct used_port port = port_of(p);

    if (take) {
        n->ports = xrealloc_array(n->ports, n->port_count + 1, sizeof(*n->ports));
        n->ports[n->port_count++] = port;
        return;
    }
    for (size_t i = 0; i < n->port_count; i++) {
        if (n->ports[i].protocol == port.protocol && n->ports[i].port == port.port &&
            strcmp(n->ports[i].host_ip, port.host_ip) == 0) {
            n->ports[i] = n->ports[--n->port_count];
            return;
        }
    }
}

static void use(struct snode *n, const struct needs *needs, int64_t sign)
{
    n->nano_cpus += sign * needs->nano_cpus;
    n->memory_bytes += sign * needs->memory_bytes;
    for (size_t i = 0; i < needs->generic_count; i++)
        use_generic(n, needs->generic[i], sign);
    for (size_t i = 0; i < needs->port_count; i++)
        use_port(n, needs->ports[i], sign > 0);
}

void snode_use(struct snode *n, struct group *g, bool active)
{
    use(n, &g->needs, 1);
    if (active)
        snode_count(n, g, 1);
}

void snode_release(struct snode *n, struct group *g, bool active)
{
    use(n, &g->needs, -1);
    if (active)
        snode_count(n, g, -1);
}

/* ---- failures ---- */

void snode_failed(struct snode *n, uint64_t group_hash, int64_t at_ns)
{
    if (n->failures == NULL)
        n->failures = xcalloc(FAILURES_KEPT, sizeof(*n->failures));
    n->failures[n->failure_count++ % FAILURES_KEPT] = (struct failure){ group_hash, at_ns };
}

uint32_t snode_failures(const struct snode *n, uint64_t group_hash, int64_t now_ns)
{
    int64_t since = now_ns - (int64_t)SCHEDULER_FAILURE_WINDOW_S * 1000000000;
    uint32_t count = 0;

    for (size_t i = 0; i < MIN(n->failure_count, (size_t)FAILURES_KEPT); i++)
        count += n->failures[i].group_hash == group_hash && n->failures[i].at_ns > since;
    return count >= SCHEDULER_FAILURES_MIN ? count : 0;
}
