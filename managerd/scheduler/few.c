#include <string.h>

#include "common/assert.h"
#include "managerd/scheduler/internal.h"

/* Most groups have one task to place, and asking every node for it would cost more than all the
 * rest. The score of a node is (degraded, failures, tasks of the service, all tasks, id), so the
 * first node in the order (degraded, all tasks, id) that passes the filters, has no task of the
 * service and no failures is the best of all. It is nearly always among the first few; when it is
 * not, the caller asks all nodes.
 *
 * The order is a heap over all nodes. Other bookings only mark it stale; it is then made anew once
 * for all groups of a run. */

enum {
    VISITS_MAX = 32,
    NODES_PER_TASK = 16, /* with fewer nodes than that, asking them all is as good */
};

static bool is_degraded(const struct snode *n)
{
    const Skep__NodeDescription *d = n->object->description;

    return d != NULL && d->degraded[0] != '\0';
}

static bool before(const struct snode *a, const struct snode *b)
{
    bool a_degraded = is_degraded(a), b_degraded = is_degraded(b);

    if (a_degraded != b_degraded)
        return b_degraded;
    if (a->task_count != b->task_count)
        return a->task_count < b->task_count;
    if (a->rank != b->rank)
        return a->rank < b->rank;
    return strcmp(a->object->id, b->object->id) < 0;
}

static void sift(struct nodeset *set, size_t at)
{
    struct snode **heap = set->by_load, *moving = heap[at];

    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < set->count && before(heap[child + 1], heap[child]))
            child++;
        if (child >= set->count || !before(heap[child], moving))
            break;
        heap[at] = heap[child];
        heap[at]->by_load = (uint32_t)at;
        at = child;
    }
    heap[at] = moving;
    moving->by_load = (uint32_t)at;
}

static void order_nodes(struct nodeset *set)
{
    size_t count = 0;

    if (!set->by_load_stale)
        return;
    if (set->count > set->by_load_capacity) {
        set->by_load_capacity = set->capacity;
        set->by_load = xrealloc_array(set->by_load, set->by_load_capacity, sizeof(struct snode *));
    }
    for (size_t i = 0; i < set->capacity; i++) {
        if (set->nodes[i] == NULL)
            continue;
        set->nodes[i]->by_load = (uint32_t)count;
        set->by_load[count++] = set->nodes[i];
    }
    ASSERT(count == set->count);
    for (size_t i = count / 2; i-- > 0;)
        sift(set, i);
    set->by_load_stale = false;
}

bool few_suits(const struct scheduler *s, const struct group *g)
{
    return g->needs.preference_count == 0 && g->waiting_count <= s->nodes.count / NODES_PER_TASK;
}

/* The first of the places in ahead, by the order of their nodes. */
static size_t first_of(const struct nodeset *set, const size_t *ahead, size_t count)
{
    size_t best = 0;

    for (size_t i = 1; i < count; i++) {
        if (before(set->by_load[ahead[i]], set->by_load[ahead[best]]))
            best = i;
    }
    return best;
}

static struct snode *find(const struct scheduler *s, const struct group *g, int64_t now_ns)
{
    const struct nodeset *set = &s->nodes;
    size_t ahead[VISITS_MAX + 1] = { 0 }, count = set->count > 0 ? 1 : 0;

    for (int visit = 0; visit < VISITS_MAX && count > 0; visit++) {
        size_t which = first_of(set, ahead, count), at = ahead[which];
        struct snode *n = set->by_load[at];

        ahead[which] = ahead[--count];
        if (is_degraded(n))
            return NULL;
        if (service_count(g->service, n) == 0 && snode_failures(n, g->hash, now_ns) == 0 &&
            filter_all(s, g, n, 0) == SCHEDULER_PASS)
            return n;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < set->count; child++)
            ahead[count++] = child;
    }
    return NULL;
}

struct snode *few_take(struct scheduler *s, struct group *g, int64_t now_ns)
{
    order_nodes(&s->nodes);
    struct snode *n = find(s, g, now_ns);
    if (n == NULL)
        return NULL;
    snode_use(n, g, true);
    sift(&s->nodes, n->by_load); /* nothing else has changed */
    s->nodes.by_load_stale = false;
    return n;
}
