/* The index's records as agents get them. A node sees attachments to its own networks only: other
 * networks' addresses are none of its business. */
#include <string.h>

#include "managerd/dispatcher/internal.h"

struct builder {
    struct index *index;
    uint64_t stamp; /* of the networks that may be seen */
    struct arena *arena;
};

static bool visible(const struct builder *b, const char *network_id)
{
    const struct net *n = index_net(b->index, network_id);

    return n != NULL && n->stamp == b->stamp;
}

/* The record itself is in that network, too. A service may name networks that it is not in yet, or
 * not any more. */
static bool visible_in(const struct builder *b, const struct record *r, const char *network_id)
{
    for (const struct entry *e = r->entries; e != NULL; e = e->sibling) {
        if (!e->gone && e->net->stamp == b->stamp && strcmp(e->net->id, network_id) == 0)
            return true;
    }
    return false;
}

/* All of them without a copy in the usual case. */
static size_t visible_attachments(const struct builder *b, Skep__NetworkAttachment **all,
                                  size_t count, Skep__NetworkAttachment ***ret)
{
    size_t kept = 0;

    for (size_t i = 0; i < count; i++)
        kept += visible(b, all[i]->network_id);
    *ret = all;
    if (kept == count)
        return count;
    *ret = arena_array(b->arena, kept, sizeof(**ret));
    kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (visible(b, all[i]->network_id))
            (*ret)[kept++] = all[i];
    }
    return kept;
}

static bool is_encrypted(const Skep__NetworkSpec *spec)
{
    for (size_t i = 0; spec->driver != NULL && i < spec->driver->n_options; i++) {
        const Skep__KeyValue *o = spec->driver->options[i];

        if (strcmp(o->key, "encrypted") == 0)
            return strcmp(o->value, "false") != 0 && strcmp(o->value, "0") != 0;
    }
    return false;
}

static Skep__NetworkHead *build_head(const struct builder *b, const Skep__Network *n)
{
    Skep__NetworkHead *h = ARENA_NEW(b->arena, Skep__NetworkHead);

    skep__network_head__init(h);
    h->id = n->id;
    h->name = n->spec->annotations != NULL ? n->spec->annotations->name : n->id;
    h->vni = n->vni;
    h->mtu = n->mtu;
    h->data_path_port = b->index->data_path_port;
    h->internal = n->spec->internal;
    h->ingress = n->spec->ingress;
    h->attachable = n->spec->attachable;
    h->encrypted = is_encrypted(n->spec);
    h->n_ipam = n->n_ipam;
    h->ipam = n->ipam;
    h->n_keys = n->n_keys;
    h->keys = n->keys;
    h->key_epoch = n->key_epoch;
    h->encryption_port = n->encryption_port;
    return h;
}

static Skep__NetworkPeer *build_peer(const struct builder *b, const Skep__Node *node)
{
    Skep__NetworkPeer *p = ARENA_NEW(b->arena, Skep__NetworkPeer);

    skep__network_peer__init(p);
    p->node_id = node->id;
    if (node->description != NULL)
        p->hostname = node->description->hostname;
    p->address = (char *)peer_address(node);
    p->encryption_instance = (char *)peer_instance(node);
    p->n_networks = visible_attachments(b, node->networks, node->n_networks, &p->networks);
    return p;
}

static void build_aliases(const struct builder *b, const struct record *r,
                          Skep__NetworkService *out)
{
    const Skep__Service *s = (const Skep__Service *)r->object;
    const Skep__TaskSpec *task = s->spec->task;

    out->aliases = arena_array(b->arena, task->n_networks, sizeof(*out->aliases));
    for (size_t i = 0; i < task->n_networks; i++) {
        const Skep__NetworkAttachmentConfig *c = task->networks[i];

        if (!visible_in(b, r, c->target) || (c->n_aliases == 0 && !service_is_dnsrr(s)))
            continue; /* without a virtual address, only this tells where its name is known */
        Skep__NetworkServiceAliases *a = ARENA_NEW(b->arena, Skep__NetworkServiceAliases);

        skep__network_service_aliases__init(a);
        a->network_id = c->target;
        a->n_aliases = c->n_aliases;
        a->aliases = c->aliases;
        out->aliases[out->n_aliases++] = a;
    }
}

static Skep__NetworkService *build_service(const struct builder *b, const struct record *r)
{
    const Skep__Service *s = (const Skep__Service *)r->object;
    Skep__NetworkService *out = ARENA_NEW(b->arena, Skep__NetworkService);
    const Skep__Endpoint *endpoint = s->endpoint;

    skep__network_service__init(out);
    out->id = s->id;
    out->name = s->spec->annotations->name;
    if (service_is_dnsrr(s))
        out->mode = SKEP__ENDPOINT_MODE__ENDPOINT_DNSRR;
    if (endpoint != NULL) {
        out->n_ports = endpoint->n_ports;
        out->ports = endpoint->ports;
        out->virtual_ips =
            arena_array(b->arena, endpoint->n_virtual_ips, sizeof(*out->virtual_ips));
        for (size_t i = 0; i < endpoint->n_virtual_ips; i++) {
            if (visible_in(b, r, endpoint->virtual_ips[i]->network_id))
                out->virtual_ips[out->n_virtual_ips++] = endpoint->virtual_ips[i];
        }
    }
    build_aliases(b, r, out);
    return out;
}

static Skep__NetworkEndpoint *build_endpoint(const struct builder *b, const struct endpoint *ep)
{
    static const Skep__NetworkEndpoint__State states[] = {
        [ENDPOINT_NONE] = SKEP__NETWORK_ENDPOINT__STATE__DRAINING,
        [ENDPOINT_STARTING] = SKEP__NETWORK_ENDPOINT__STATE__STARTING,
        [ENDPOINT_UP] = SKEP__NETWORK_ENDPOINT__STATE__UP,
        [ENDPOINT_DRAINING] = SKEP__NETWORK_ENDPOINT__STATE__DRAINING,
    };
    const Skep__Task *t = (const Skep__Task *)ep->record.object;
    Skep__NetworkEndpoint *out = ARENA_NEW(b->arena, Skep__NetworkEndpoint);

    skep__network_endpoint__init(out);
    out->task_id = t->id;
    if (ep->name != NULL)
        out->name = ep->name;
    if (ep->hostname != NULL)
        out->hostname = ep->hostname;
    out->service_id = t->service_id;
    out->node_id = t->node_id;
    out->state = states[ep->state];
    out->n_networks = visible_attachments(b, t->networks, t->n_networks, &out->networks);
    return out;
}

Skep__NetworkRecord *record_build(struct index *x, const struct record *r, uint64_t stamp,
                                  struct arena *a)
{
    const struct builder b = { .index = x, .stamp = stamp, .arena = a };
    Skep__NetworkRecord *out = ARENA_NEW(a, Skep__NetworkRecord);

    skep__network_record__init(out);
    switch (r->kind) {
    case RECORD_KIND(NETWORK):
        out->record_case = SKEP__NETWORK_RECORD__RECORD_NETWORK;
        out->network = build_head(&b, (const Skep__Network *)r->object);
        break;
    case RECORD_KIND(PEER):
        out->record_case = SKEP__NETWORK_RECORD__RECORD_PEER;
        out->peer = build_peer(&b, (const Skep__Node *)r->object);
        break;
    case RECORD_KIND(SERVICE):
        out->record_case = SKEP__NETWORK_RECORD__RECORD_SERVICE;
        out->service = build_service(&b, r);
        break;
    case RECORD_KIND(ENDPOINT):
        out->record_case = SKEP__NETWORK_RECORD__RECORD_ENDPOINT;
        out->endpoint = build_endpoint(&b, (const struct endpoint *)r);
        break;
    case _SKEP__NETWORK_RECORD_KIND_IS_INT_SIZE:
        break;
    }
    return out;
}
