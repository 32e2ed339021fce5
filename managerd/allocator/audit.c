/* What the index says against what the store says, and where searches go on after a restart. */
#include <string.h>
#include <utlist.h>

#include "managerd/allocator/internal.h"

/* ---- audit ---- */

static int audit_net(const struct net *n, const struct net *fresh, struct err *e)
{
    if (fresh == NULL || n->pool_count != fresh->pool_count || n->allocated != fresh->allocated)
        return err_set(e, ERR_INTERNAL, "network %s is not in the store as in memory", n->name);
    for (size_t i = 0; i < n->pool_count; i++) {
        const struct pool *p = &n->pools[i], *q = &fresh->pools[i];

        if (q->numbers.clash_count > 0)
            return err_set(e, ERR_INTERNAL, "network %s: an address was given twice: number %lu",
                           n->name, (unsigned long)q->numbers.clashes[0]);
        if (!ip_net_equal(&p->subnet, &q->subnet) || p->reserved != q->reserved ||
            !numbers_equal(&p->numbers, &q->numbers))
            return err_set(e, ERR_INTERNAL, "network %s: %lu addresses taken, should be %lu",
                           n->name, (unsigned long)pool_used(p), (unsigned long)pool_used(q));
    }
    return 0;
}

/* No two subnets meet. */
static int audit_overlap(const struct allocator *a, struct err *e)
{
    const struct net *n;

    DL_FOREACH(a->nets, n)
    {
        for (size_t i = 0; i < n->pool_count; i++) {
            const struct net *other = subnet_clash(a, &n->pools[i].subnet, n);

            if (other != NULL)
                return err_set(e, ERR_INTERNAL, "networks %s and %s overlap", n->name, other->name);
        }
    }
    return 0;
}

static int audit_numbers(const char *what, const struct numbers *n, const struct numbers *fresh,
                         struct err *e)
{
    if (fresh->clash_count > 0)
        return err_set(e, ERR_INTERNAL, "%s %lu was given twice", what,
                       (unsigned long)fresh->clashes[0]);
    if (!numbers_equal(n, fresh))
        return err_set(e, ERR_INTERNAL, "%s: %lu taken, should be %lu", what,
                       (unsigned long)n->used.count, (unsigned long)fresh->used.count);
    return 0;
}

static int compare(const struct allocator *a, const struct allocator *fresh, struct err *e)
{
    const struct net *n;
    int rc = 0;

    if (a->claim_count > 0 || a->tentative_count > 0)
        return err_set(e, ERR_INTERNAL, "a choice is left over");
    if (a->nets_by_id.count != fresh->nets_by_id.count)
        return err_set(e, ERR_INTERNAL, "%zu networks, should be %zu", a->nets_by_id.count,
                       fresh->nets_by_id.count);
    DL_FOREACH(a->nets, n)
    {
        if (rc == 0)
            rc = audit_net(n, net_find(fresh, n->id), e);
    }
    if (rc == 0)
        rc = audit_overlap(a, e);
    if (rc == 0)
        rc = audit_numbers("VNI", &a->vnis, &fresh->vnis, e);
    if (rc == 0)
        rc = audit_numbers("encryption port", &a->encryption_ports, &fresh->encryption_ports, e);
    for (size_t i = 0; i < PROTOCOLS && rc == 0; i++)
        rc = audit_numbers("published port", &a->ports[i], &fresh->ports[i], e);
    if (rc == 0 && a->items_by_id.count != fresh->items_by_id.count)
        rc = err_set(e, ERR_INTERNAL, "%zu tasks wait, should be %zu", a->items_by_id.count,
                     fresh->items_by_id.count);
    if (rc == 0 && a->services_by_id.count != fresh->services_by_id.count)
        rc = err_set(e, ERR_INTERNAL, "%zu services, should be %zu", a->services_by_id.count,
                     fresh->services_by_id.count);
    return rc;
}

int allocator_audit(const struct allocator *a, const struct store *s, struct err *e)
{
    struct allocator *fresh = allocator_new();
    const struct core_env env = { .store = s };

    allocator_ops.start(fresh, &env);
    int rc = compare(a, fresh, e);
    allocator_free(fresh);
    return rc;
}

/* ---- after a restart ---- */

static void go_on_behind(struct allocator *a, const char *network_id, const char *address)
{
    struct net *n = net_find(a, network_id);
    struct ip_net net;

    if (n == NULL || ip_net_parse_host(address, &net, NULL) < 0)
        return;
    for (size_t i = 0; i < n->pool_count; i++) {
        struct numbers *numbers = &n->pools[i].numbers;
        uint64_t at;

        if (pool_number(&n->pools[i], &net.address, &at))
            numbers->next = at + 1 < numbers->end ? at + 1 : numbers->first;
    }
}

/* Ended tasks count: their addresses rest. */
void cursors_task(struct allocator *a, const Skep__Task *t)
{
    for (size_t i = 0; i < t->n_networks; i++) {
        struct net *n = net_find(a, t->networks[i]->network_id);

        if (n == NULL || t->meta->created_at < n->newest_ns)
            continue;
        n->newest_ns = t->meta->created_at;
        for (size_t k = 0; k < t->networks[i]->n_addresses; k++)
            go_on_behind(a, n->id, t->networks[i]->addresses[k]);
    }
}

void cursors_networks(struct allocator *a)
{
    int64_t newest_ns = INT64_MIN;
    const struct net *n;

    DL_FOREACH(a->nets, n)
    {
        const ProtobufCMessage *o = store_get(a->store, SKEP__KIND__KIND_NETWORK, n->id);

        if (o == NULL || !n->allocated || object_meta(o)->created_at < newest_ns)
            continue;
        newest_ns = object_meta(o)->created_at;
        struct ip last = ip_net_last(&n->pools[0].subnet);

        a->subnet_next = ip_add(&last, 1);
        if (n->vni >= a->vnis.first && n->vni + 1 < a->vnis.end)
            a->vnis.next = n->vni + 1;
    }
}
