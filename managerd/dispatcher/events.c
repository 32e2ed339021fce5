/* Store events into the index: which object is a record of which networks, and how a task's states
 * make its endpoint's. */
#include <inttypes.h>
#include <string.h>
#include <utlist.h>

#include "common/assert.h"
#include "common/message.h"
#include "managerd/dispatcher/internal.h"

enum { VXLAN_PORT_DEFAULT = 4789 };

/* Networks of one record, without repetition. */
struct net_list {
    struct net *nets[INDEX_RECORD_NETS];
    size_t count;
};

static void list_add(struct net_list *l, struct net *n)
{
    for (size_t i = 0; i < l->count; i++) {
        if (l->nets[i] == n)
            return;
    }
    if (l->count < ARRAY_LEN(l->nets))
        l->nets[l->count++] = n;
}

static bool attachments_equal(Skep__NetworkAttachment *const *a, size_t a_count,
                              Skep__NetworkAttachment *const *b, size_t b_count)
{
    if (a_count != b_count)
        return false;
    for (size_t i = 0; i < a_count; i++) {
        if (!message_equal(&a[i]->base, &b[i]->base))
            return false;
    }
    return true;
}

/* ---- peers ---- */

const char *peer_address(const Skep__Node *node)
{
    if (node->description != NULL && node->description->network != NULL &&
        node->description->network->data_path_address[0] != '\0')
        return node->description->network->data_path_address;
    return node->status != NULL ? node->status->address : "";
}

static const char *node_hostname(const Skep__Node *node)
{
    return node->description != NULL ? node->description->hostname : "";
}

const char *peer_instance(const Skep__Node *node)
{
    return node->description != NULL && node->description->network != NULL
               ? node->description->network->encryption_instance
               : "";
}

static bool peer_changed(const Skep__Node *a, const Skep__Node *b)
{
    return a == NULL || b == NULL || strcmp(peer_address(a), peer_address(b)) != 0 ||
           strcmp(node_hostname(a), node_hostname(b)) != 0 ||
           strcmp(peer_instance(a), peer_instance(b)) != 0 ||
           !attachments_equal(a->networks, a->n_networks, b->networks, b->n_networks);
}

static void peer_sync(struct dispatcher *d, struct place *p, bool changed)
{
    const Skep__Node *node = (const Skep__Node *)p->record.object;
    struct net_list l;

    l.count = 0;
    if (p->up && peer_address(node)[0] != '\0') {
        for (size_t i = 0; i < p->net_count; i++)
            list_add(&l, p->nets[i].net);
        for (size_t i = 0; i < node->n_networks; i++)
            list_add(&l, index_net_get(&d->index, node->networks[i]->network_id));
    }
    index_record_sync(&d->index, &p->record, l.nets, l.count, changed);
}

/* ---- endpoints ---- */

static bool is_assigned(const Skep__Task *t)
{
    return t != NULL && t->node_id[0] != '\0' && t->n_networks > 0 && t->status != NULL &&
           t->status->state >= SKEP__TASK_STATE__TASK_ASSIGNED &&
           t->status->state <= SKEP__TASK_STATE__TASK_RUNNING;
}

/* Jobs want COMPLETE of a task that runs: that is no reason to drain it. */
static enum endpoint_state state_of(const struct endpoint *ep, const Skep__Task *t)
{
    if (!is_assigned(t) || !ep->place->up)
        return ENDPOINT_NONE;
    if (t->status->state < SKEP__TASK_STATE__TASK_RUNNING)
        return ENDPOINT_STARTING;
    return t->desired_state < SKEP__TASK_STATE__TASK_SHUTDOWN ? ENDPOINT_UP : ENDPOINT_DRAINING;
}

static void endpoint_sync(struct dispatcher *d, struct endpoint *ep, bool changed)
{
    size_t count = ep->state != ENDPOINT_NONE ? ep->net_count : 0;

    index_record_sync(&d->index, &ep->record, ep->nets, count, changed);
}

/* Its networks count for its node. */
static void endpoint_place(struct dispatcher *d, struct endpoint *ep, const Skep__Task *t)
{
    struct net_list l;
    struct net **old = ep->nets;
    size_t old_count = ep->net_count;
    bool moved = false;

    l.count = 0;
    for (size_t i = 0; t != NULL && i < t->n_networks; i++)
        list_add(&l, index_net_get(&d->index, t->networks[i]->network_id));
    for (size_t i = 0; i < l.count; i++)
        moved = index_presence_add(ep->place, l.nets[i]) || moved;
    ep->nets = NULL;
    ep->net_count = l.count;
    if (l.count > 0)
        ep->nets = xmemdup(l.nets, l.count * sizeof(struct net *));
    if (t != NULL)
        endpoint_sync(d, ep, false); /* out of networks before they may go */
    for (size_t i = 0; i < old_count; i++)
        moved = index_presence_drop(ep->place, old[i]) || moved;
    if (moved) {
        peer_sync(d, ep->place, false);
        networks_wake_node(d, ep->place->record.id);
    }
    for (size_t i = 0; i < old_count; i++)
        index_net_put(&d->index, old[i]);
    free(old);
}

static void endpoint_names(struct dispatcher *d, struct endpoint *ep, const Skep__Task *t)
{
    const Skep__Revision *r = store_task_revision(d->index.store, t);

    if (r == NULL || r->spec == NULL)
        return;
    const char *service = r->spec->annotations->name;
    const char *hostname =
        r->spec->task->container != NULL ? r->spec->task->container->hostname : "";
    /* As agentd names the container (container_name()). */
    ep->name = t->slot == 0 ? xasprintf("%s.%s.%s", service, t->node_id, t->id)
                            : xasprintf("%s.%" PRIu64 ".%s", service, t->slot, t->id);
    if (strstr(hostname, "{{") == NULL) /* a template is known to the node alone */
        ep->hostname = xstrdup(hostname);
}

static struct endpoint *endpoint_new(struct dispatcher *d, const Skep__Task *t)
{
    struct endpoint *ep = (struct endpoint *)index_record(&d->index, RECORD_KIND(ENDPOINT), t->id);

    if (ep == NULL) {
        ep = xcalloc(1, sizeof(*ep));
        index_record_add(&d->index, &ep->record, RECORD_KIND(ENDPOINT), t->id);
    }
    ep->place = index_place_get(&d->index, t->node_id);
    DL_APPEND(ep->place->endpoints, ep);
    if (ep->name == NULL)
        endpoint_names(d, ep, t);
    return ep;
}

void endpoint_end(struct dispatcher *d, struct endpoint *ep)
{
    struct place *p = ep->place;

    ep->state = ENDPOINT_NONE;
    ep->removed = false;
    endpoint_sync(d, ep, false);
    endpoint_place(d, ep, NULL);
    drain_cancel(d, ep);
    DL_DELETE(p->endpoints, ep);
    ep->place = NULL;
    index_set_object(&ep->record, NULL);
    index_record_put(&d->index, &ep->record);
    index_record_put(&d->index, &p->record);
}

/* The task left the store. While others may still send it requests its node is not told. */
static void endpoint_removed(struct dispatcher *d, struct endpoint *ep)
{
    bool was_up = ep->state == ENDPOINT_UP;

    if (was_up) {
        ep->state = ENDPOINT_DRAINING;
        endpoint_sync(d, ep, true);
        drain_begin(d, ep);
    }
    ep->removed = true;
    if (ep->hold == NULL)
        endpoint_end(d, ep);
}

static void endpoint_move(struct dispatcher *d, struct endpoint *ep, enum endpoint_state state,
                          bool changed)
{
    enum endpoint_state old = ep->state;

    ep->state = state;
    endpoint_sync(d, ep, changed || old != state);
    if (state == ENDPOINT_DRAINING && old == ENDPOINT_UP)
        drain_begin(d, ep);
    else if (state == ENDPOINT_NONE)
        drain_cancel(d, ep);
}

static void on_task(struct dispatcher *d, const Skep__Task *before, const Skep__Task *after)
{
    const char *id = after != NULL ? after->id : before->id;
    struct endpoint *ep = (struct endpoint *)index_record(&d->index, RECORD_KIND(ENDPOINT), id);

    if (ep != NULL && ep->place == NULL)
        ep = NULL; /* what is left of it are entries that say so */
    if (ep == NULL && !is_assigned(after))
        return;
    if (ep != NULL && after == NULL) {
        endpoint_removed(d, ep);
        return;
    }
    if (ep != NULL && !is_assigned(after)) {
        endpoint_end(d, ep);
        return;
    }
    bool fresh = ep == NULL;
    if (fresh)
        ep = endpoint_new(d, after);
    const Skep__Task *old = (const Skep__Task *)ep->record.object;
    bool same_nets = old != NULL && attachments_equal(old->networks, old->n_networks,
                                                      after->networks, after->n_networks);

    index_set_object(&ep->record, &after->base);
    if (!same_nets)
        endpoint_place(d, ep, after);
    endpoint_move(d, ep, state_of(ep, after), !same_nets);
}

/* ---- nodes ---- */

static void on_node(struct dispatcher *d, const Skep__Node *before, const Skep__Node *after)
{
    struct place *p = index_place_get(&d->index, after != NULL ? after->id : before->id);
    bool was_up = p->up;
    struct endpoint *ep, *next;

    bool changed = peer_changed((const Skep__Node *)p->record.object, after);
    index_set_object(&p->record, after != NULL ? &after->base : NULL);
    p->up = after != NULL &&
            (after->status == NULL || after->status->state != SKEP__NODE_STATE__NODE_DOWN);
    if (changed || p->up != was_up)
        peer_sync(d, p, changed);
    if (p->up != was_up) {
        DL_FOREACH_SAFE(p->endpoints, ep, next)
        {
            if (ep->removed)
                endpoint_end(d, ep);
            else
                endpoint_move(d, ep, state_of(ep, (const Skep__Task *)ep->record.object), false);
        }
    }
    index_record_put(&d->index, &p->record);
}

/* ---- services ---- */

bool service_is_dnsrr(const Skep__Service *s)
{
    const Skep__EndpointSpec *spec =
        s->endpoint != NULL && s->endpoint->spec != NULL ? s->endpoint->spec : s->spec->endpoint;

    return spec != NULL && spec->mode == SKEP__ENDPOINT_MODE__ENDPOINT_DNSRR;
}

static bool service_changed(const Skep__Service *a, const Skep__Service *b)
{
    if (a == NULL || b == NULL || a->spec->task->n_networks != b->spec->task->n_networks ||
        strcmp(a->spec->annotations->name, b->spec->annotations->name) != 0 ||
        service_is_dnsrr(a) != service_is_dnsrr(b) ||
        (a->endpoint == NULL) != (b->endpoint == NULL))
        return true;
    if (a->endpoint != NULL && !message_equal(&a->endpoint->base, &b->endpoint->base))
        return true;
    for (size_t i = 0; i < a->spec->task->n_networks; i++) {
        if (!message_equal(&a->spec->task->networks[i]->base, &b->spec->task->networks[i]->base))
            return true;
    }
    return false;
}

static void on_service(struct dispatcher *d, const Skep__Service *before,
                       const Skep__Service *after)
{
    const char *id = after != NULL ? after->id : before->id;
    struct record *r = index_record(&d->index, RECORD_KIND(SERVICE), id);
    struct net_list l;

    l.count = 0;
    if (r == NULL) {
        r = xcalloc(1, sizeof(*r));
        index_record_add(&d->index, r, RECORD_KIND(SERVICE), id);
    }
    if (after != NULL && service_is_dnsrr(after)) {
        for (size_t i = 0; i < after->spec->task->n_networks; i++)
            list_add(&l, index_net_get(&d->index, after->spec->task->networks[i]->target));
    } else if (after != NULL && after->endpoint != NULL) {
        for (size_t i = 0; i < after->endpoint->n_virtual_ips; i++)
            list_add(&l, index_net_get(&d->index, after->endpoint->virtual_ips[i]->network_id));
    }
    bool changed = service_changed((const Skep__Service *)r->object, after);
    index_set_object(r, after != NULL ? &after->base : NULL);
    index_record_sync(&d->index, r, l.nets, l.count, changed);
    index_record_put(&d->index, r);
}

/* ---- networks ---- */

bool network_is_overlay(const Skep__Network *n)
{
    return n->spec != NULL && !n->spec->config_only &&
           (n->spec->driver == NULL || n->spec->driver->name[0] == '\0' ||
            strcmp(n->spec->driver->name, "overlay") == 0);
}

static void on_network(struct dispatcher *d, const Skep__Network *before,
                       const Skep__Network *after)
{
    struct net *n = index_net_get(&d->index, after != NULL ? after->id : before->id);

    n->ready = after != NULL && network_is_overlay(after) && after->vni != 0;
    if (index_set_ingress(&d->index, n, n->ready && after->spec->ingress))
        d->wake_all = true;
    struct record *head = index_record(&d->index, RECORD_KIND(NETWORK), n->id);
    if (head == NULL) {
        head = xcalloc(1, sizeof(*head));
        index_record_add(&d->index, head, RECORD_KIND(NETWORK), n->id);
    }
    index_set_object(head, after != NULL ? &after->base : NULL);
    index_record_sync(&d->index, head, &n, n->ready ? 1 : 0, true);
    n->head = after != NULL ? head : NULL;
    index_wake(&d->index, n);
    index_record_put(&d->index, head);
    index_net_put(&d->index, n);
}

/* ---- all of it ---- */

static void on_cluster(struct dispatcher *d, const Skep__Cluster *cluster)
{
    uint32_t port = cluster != NULL && cluster->spec != NULL ? cluster->spec->data_path_port : 0;
    struct net *n, *next;

    port = port != 0 ? port : VXLAN_PORT_DEFAULT;
    if (port == d->index.data_path_port)
        return;
    d->index.data_path_port = port;
    HASH_ITER(hh, d->index.nets, n, next)
    {
        if (n->head != NULL)
            index_record_sync(&d->index, n->head, &n, n->ready ? 1 : 0, true);
    }
}

static void apply_object(struct dispatcher *d, Skep__Kind kind, const ProtobufCMessage *before,
                         const ProtobufCMessage *after)
{
    switch (kind) {
    case SKEP__KIND__KIND_NETWORK:
        on_network(d, (const Skep__Network *)before, (const Skep__Network *)after);
        break;
    case SKEP__KIND__KIND_NODE:
        on_node(d, (const Skep__Node *)before, (const Skep__Node *)after);
        break;
    case SKEP__KIND__KIND_SERVICE:
        on_service(d, (const Skep__Service *)before, (const Skep__Service *)after);
        break;
    case SKEP__KIND__KIND_TASK:
        on_task(d, (const Skep__Task *)before, (const Skep__Task *)after);
        break;
    case SKEP__KIND__KIND_CLUSTER:
        on_cluster(d, (const Skep__Cluster *)after);
        break;
    case SKEP__KIND__KIND_NONE:
    case SKEP__KIND__KIND_SECRET:
    case SKEP__KIND__KIND_CONFIG:
    case SKEP__KIND__KIND_REVISION:
    case _SKEP__KIND_IS_INT_SIZE:
        break;
    }
}

void events_apply(struct dispatcher *d, const struct store_event *ev)
{
    apply_object(d, ev->kind, ev->before, ev->after);
}

void events_start(struct dispatcher *d, const struct store *s)
{
    static const Skep__Kind kinds[] = { SKEP__KIND__KIND_NETWORK, SKEP__KIND__KIND_NODE,
                                        SKEP__KIND__KIND_SERVICE, SKEP__KIND__KIND_TASK };

    d->index.store = s;
    on_cluster(d, store_cluster(s));
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        const ProtobufCMessage *o = store_first(s, kinds[i]);

        for (; o != NULL; o = store_after(s, kinds[i], object_id(o)))
            apply_object(d, kinds[i], NULL, o);
    }
}
