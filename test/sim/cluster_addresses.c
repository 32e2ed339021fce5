/* O4: no address, port or VNI is given twice, whoever asks; and nothing is left when nobody has
 * anything. Read off the store alone, without the allocator's help. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "test/sim/cluster_internal.h"
#include "test/sim/cluster_rules.h"

/* What one object has, as text: "<network> 10.0.0.5", "port 0 80", "vni 4096". */
struct given {
    char text[96];
    const char *owner;
};
struct givens {
    struct given *list;
    size_t count, capacity;
};

static struct given *add(struct givens *g, const char *owner)
{
    if (g->count == g->capacity) {
        g->capacity = MAX(g->capacity * 2, (size_t)64);
        g->list = xrealloc_array(g->list, g->capacity, sizeof(*g->list));
    }
    g->list[g->count].owner = owner;
    return &g->list[g->count++];
}

static void add_address(struct givens *g, const char *owner, const char *network,
                        const char *address)
{
    (void)snprintf(add(g, owner)->text, sizeof(g->list->text), "%s %.*s", network,
                   (int)strcspn(address, "/"), address);
}

static void add_attachments(struct givens *g, const char *owner, Skep__NetworkAttachment **list,
                            size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < list[i]->n_addresses; k++)
            add_address(g, owner, list[i]->network_id, list[i]->addresses[k]);
    }
}

static void add_service(struct givens *g, const Skep__Service *s)
{
    const Skep__Endpoint *e = s->endpoint;

    for (size_t i = 0; e != NULL && i < e->n_virtual_ips; i++)
        add_address(g, s->id, e->virtual_ips[i]->network_id, e->virtual_ips[i]->address);
    for (size_t i = 0; e != NULL && i < e->n_ports; i++) {
        if (e->ports[i]->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_INGRESS)
            (void)snprintf(add(g, s->id)->text, sizeof(g->list->text), "port %d %u",
                           (int)e->ports[i]->protocol, e->ports[i]->published_port);
    }
}

static void add_network(struct givens *g, const Skep__Network *n)
{
    for (size_t i = 0; i < n->n_ipam; i++)
        add_address(g, n->id, n->id, n->ipam[i]->gateway);
    if (n->vni != 0)
        (void)snprintf(add(g, n->id)->text, sizeof(g->list->text), "vni %u", n->vni);
}

static void gather(const struct store *s, struct givens *g)
{
    static const Skep__Kind kinds[] = { SKEP__KIND__KIND_NETWORK, SKEP__KIND__KIND_NODE,
                                        SKEP__KIND__KIND_SERVICE, SKEP__KIND__KIND_TASK };

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        for (const ProtobufCMessage *o = store_first(s, kinds[i]); o != NULL;
             o = store_after(s, kinds[i], object_id(o))) {
            const Skep__Task *t = (const Skep__Task *)o;
            const Skep__Node *n = (const Skep__Node *)o;

            if (kinds[i] == SKEP__KIND__KIND_NETWORK)
                add_network(g, (const Skep__Network *)o);
            else if (kinds[i] == SKEP__KIND__KIND_NODE)
                add_attachments(g, n->id, n->networks, n->n_networks);
            else if (kinds[i] == SKEP__KIND__KIND_SERVICE)
                add_service(g, (const Skep__Service *)o);
            else if (t->status->state <= SKEP__TASK_STATE__TASK_RUNNING)
                add_attachments(g, t->id, t->networks, t->n_networks);
        }
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(((const struct given *)a)->text, ((const struct given *)b)->text);
}

int cluster_rules_given(const struct store *s, struct err *e)
{
    struct givens g = { 0 };
    int rc = 0;

    gather(s, &g);
    if (g.count > 1)
        qsort(g.list, g.count, sizeof(*g.list), by_text);
    for (size_t i = 1; i < g.count && rc == 0; i++) {
        if (strcmp(g.list[i - 1].text, g.list[i].text) == 0)
            rc =
                err_set(e, ERR_INTERNAL, "O4: %s is given twice, to %s and %s, at version %" PRIu64,
                        g.list[i].text, g.list[i - 1].owner, g.list[i].owner, store_version(s));
    }
    free(g.list);
    return rc;
}

int cluster_rules_addresses(const struct world *w, struct err *e)
{
    return w->allocator != NULL ? cluster_rules_given(w->store, e) : 0;
}

/* The allocator's choices in flight are not in the store yet. */
static bool in_flight(const struct world *w)
{
    for (size_t i = 0; i < w->core_count; i++) {
        if (w->cores[i].core == w->allocator && w->cores[i].flight != NULL)
            return true;
    }
    return false;
}

int cluster_rules_audit(const struct world *w, struct err *e)
{
    if (w->allocator == NULL || in_flight(w))
        return 0;
    return allocator_audit(w->allocator, w->store, e);
}
