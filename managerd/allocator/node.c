/* Nodes' own addresses: one in the ingress network for each that takes part in overlays. */
#include <string.h>

#include "managerd/allocator/internal.h"

static bool takes_part(const Skep__Node *node)
{
    return node->description != NULL && node->description->network != NULL;
}

static void move(struct allocator *a, const Skep__Node *node, bool take)
{
    for (size_t i = 0; node != NULL && i < node->n_networks; i++) {
        const Skep__NetworkAttachment *at = node->networks[i];

        for (size_t k = 0; k < at->n_addresses; k++) {
            if (take)
                net_take(a, at->network_id, at->addresses[k]);
            else
                net_give(a, at->network_id, at->addresses[k]);
        }
    }
}

/* What decides about subnets, MTU and addresses. */
static bool same_network(const Skep__Node *a, const Skep__Node *b)
{
    if (takes_part(a) != takes_part(b))
        return false;
    if (takes_part(a) && (a->description->network->mtu != b->description->network->mtu))
        return false;
    return a->n_networks == b->n_networks;
}

static bool same_attachments(const Skep__Node *a, const Skep__Node *b)
{
    if (a->n_networks != b->n_networks)
        return false;
    for (size_t i = 0; i < a->n_networks; i++) {
        const Skep__NetworkAttachment *x = a->networks[i], *y = b->networks[i];

        if (strcmp(x->network_id, y->network_id) != 0 || x->n_addresses != y->n_addresses)
            return false;
        for (size_t k = 0; k < x->n_addresses; k++) {
            if (strcmp(x->addresses[k], y->addresses[k]) != 0)
                return false;
        }
    }
    return true;
}

void node_event(struct allocator *a, const Skep__Node *before, const Skep__Node *after)
{
    if (before == NULL || after == NULL || !same_attachments(before, after)) {
        move(a, before, false);
        move(a, after, true);
    }
    if (before == NULL || after == NULL || !same_network(before, after)) {
        a->nodes_due = true;
        a->nets_due = true;
    }
}

static bool has_address(const Skep__Node *node, const struct net *ingress)
{
    if (ingress == NULL || !takes_part(node))
        return node->n_networks == 0;
    return node->n_networks == 1 && strcmp(node->networks[0]->network_id, ingress->id) == 0 &&
           node->networks[0]->n_addresses > 0;
}

/* False when there is no address left. */
static bool give_address(struct allocator *a, const Skep__Node *old, struct net *ingress,
                         struct store_tx *tx)
{
    Skep__Node node = *old;
    Skep__NetworkAttachment at = SKEP__NETWORK_ATTACHMENT__INIT, *list = &at;
    char *address = NULL;

    node.n_networks = 0;
    if (ingress != NULL && takes_part(old)) {
        address = pool_claim(a, &ingress->pools[0]);
        if (address == NULL)
            return false;
        at.network_id = ingress->id;
        at.n_addresses = 1;
        at.addresses = &address;
        node.networks = &list;
        node.n_networks = 1;
    }
    store_tx_update(tx, &node.base, old->meta->version, 0);
    return true;
}

void nodes_run(struct allocator *a, const struct core_env *env, struct store_tx *tx)
{
    struct net *ingress = net_ingress(a);

    if (!a->nodes_due)
        return;
    a->nodes_due = a->nodes_blocked = false;
    if (ingress != NULL && !ingress->allocated)
        return; /* its allocation makes them due again */
    for (const ProtobufCMessage *o = store_first(env->store, SKEP__KIND__KIND_NODE); o != NULL;
         o = store_after(env->store, SKEP__KIND__KIND_NODE, object_id(o))) {
        const Skep__Node *node = (const Skep__Node *)o;

        if (has_address(node, ingress))
            continue;
        if (store_tx_full(tx)) {
            a->nodes_due = true;
            return;
        }
        a->nodes_blocked |=
            !give_address(a, node, ingress, tx); /* the network says that it is full */
    }
}
