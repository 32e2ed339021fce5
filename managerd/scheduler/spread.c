#include <string.h>

#include "common/arena.h"
#include "common/assert.h"
#include "managerd/scheduler/internal.h"

/* Chooses nodes for the tasks of one group. Nodes are the leaves of a tree with one level per
 * placement preference and one branch per label value; every inner branch keeps its children, and
 * every last branch its nodes, in a heap. A task goes down to the least loaded branch at each
 * level, then to the best node there, and the heaps on that path are put right: O(log n) per task.
 * Without preferences the tree is one heap. */

struct candidate {
    uint64_t key;  /* lower is better */
    uint64_t rank; /* then this, then the id: never the order of arrival */
    struct snode *node;
};

struct branch {
    uint64_t tasks; /* of the service */
    uint64_t load;  /* all tasks */
    size_t order;   /* of the label value */
    struct branch **children;
    size_t child_count;
    struct candidate *nodes; /* last level */
    size_t node_count;
};

/* A node before it is in the tree. */
struct gathered {
    struct candidate c;
    uint32_t tasks;
    bool fits;
};

struct spread {
    struct group *group;
    struct branch root;
    struct candidate *candidates;
    size_t candidate_capacity;
    struct gathered *gathered;
    size_t gathered_count, gathered_capacity;
    struct arena branches;
};

enum { COUNT_BITS = 28, FAILURE_BITS = 7 };
#define COUNT_MAX (((uint64_t)1 << COUNT_BITS) - 1)

struct spread *spread_new(void)
{
    return xcalloc(1, sizeof(struct spread));
}

void spread_free(struct spread *sp)
{
    if (sp == NULL)
        return;
    free(sp->candidates);
    free(sp->gathered);
    arena_deinit(&sp->branches);
    free(sp);
}

/* Degraded nodes last; then fewer recent failures, fewer tasks of the service, fewer in total. */
static uint64_t score(const struct group *g, const struct snode *n, uint32_t tasks, int64_t now_ns)
{
    const Skep__NodeDescription *d = n->object->description;
    uint64_t degraded = d != NULL && d->degraded[0] != '\0';
    uint64_t failures = n->failure_count > 0 ? snode_failures(n, g->hash, now_ns) : 0;

    static_assert(1 + FAILURE_BITS + 2 * COUNT_BITS == 64, "a key is full");
    static_assert(FAILURES_KEPT < 1 << FAILURE_BITS, "failures fit");
    return degraded << 63 | failures << (2 * COUNT_BITS) |
           MIN((uint64_t)tasks, COUNT_MAX) << COUNT_BITS | MIN((uint64_t)n->task_count, COUNT_MAX);
}

/* ---- heaps ---- */

static bool candidate_before(const struct candidate *a, const struct candidate *b)
{
    if (a->key != b->key)
        return a->key < b->key;
    if (a->rank != b->rank)
        return a->rank < b->rank;
    return strcmp(a->node->object->id, b->node->object->id) < 0;
}

static void sift_node(struct candidate *heap, size_t count, size_t at)
{
    struct candidate moving = heap[at];

    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < count && candidate_before(&heap[child + 1], &heap[child]))
            child++;
        if (child >= count || !candidate_before(&heap[child], &moving))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

static bool branch_before(const struct branch *a, const struct branch *b)
{
    if (a->tasks != b->tasks)
        return a->tasks < b->tasks;
    return a->load != b->load ? a->load < b->load : a->order < b->order;
}

static void sift_branch(struct branch **heap, size_t count, size_t at)
{
    struct branch *moving = heap[at];

    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < count && branch_before(heap[child + 1], heap[child]))
            child++;
        if (child >= count || !branch_before(heap[child], moving))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

/* ---- the tree ---- */

static bool dead(const struct branch *b)
{
    return b->child_count == 0 && b->node_count == 0;
}

static void order_nodes(struct branch *b)
{
    for (size_t i = b->node_count / 2; i-- > 0;)
        sift_node(b->nodes, b->node_count, i);
}

static const char *label_at(const struct group *g, const struct snode *n, size_t level)
{
    return node_property_value(n->object, g->needs.preferences[level].property,
                               g->needs.preferences[level].label);
}

static int by_labels(const void *a, const void *b, void *ctx)
{
    const struct gathered *s = a, *t = b;
    const struct group *g = ctx;

    for (size_t level = 0; level < g->needs.preference_count; level++) {
        int order = strcmp(label_at(g, s->c.node, level), label_at(g, t->c.node, level));

        if (order != 0)
            return order;
    }
    return strcmp(s->c.node->object->id, t->c.node->object->id);
}

/* Fills a last branch from nodes that share all labels. Tasks on nodes that do not fit count, too:
 * they are in the branch's failure domain. */
static void fill_leaf(struct spread *sp, struct branch *b, const struct gathered *from,
                      size_t count)
{
    b->nodes = sp->candidates + (from - sp->gathered); /* each leaf has its own part */
    for (size_t i = 0; i < count; i++) {
        b->tasks += from[i].tasks;
        b->load += from[i].c.node->task_count;
        if (from[i].fits)
            b->nodes[b->node_count++] = from[i].c;
    }
    order_nodes(b);
}

/* from: sorted by labels; all share those above this level. Depth: PREFERENCES_MAX. */
static void fill(struct spread *sp, struct branch *b, size_t level, const struct gathered *from,
                 size_t count)
{
    const struct group *g = sp->group;

    if (level == g->needs.preference_count) {
        fill_leaf(sp, b, from, count);
        return;
    }
    b->children = arena_array(&sp->branches, count, sizeof(struct branch *));
    for (size_t first = 0, end; first < count; first = end) {
        const char *label = label_at(g, from[first].c.node, level);
        struct branch *child = ARENA_NEW(&sp->branches, struct branch);

        for (end = first + 1; end < count; end++) {
            if (strcmp(label_at(g, from[end].c.node, level), label) != 0)
                break;
        }
        child->order = first;
        fill(sp, child, level + 1, from + first, end - first);
        b->tasks += child->tasks;
        b->load += child->load;
        if (!dead(child))
            b->children[b->child_count++] = child;
    }
    for (size_t i = b->child_count / 2; i-- > 0;)
        sift_branch(b->children, b->child_count, i);
}

static void reserve(struct spread *sp, size_t count)
{
    if (count > sp->candidate_capacity) {
        sp->candidates = xrealloc_array(sp->candidates, count, sizeof(*sp->candidates));
        sp->candidate_capacity = count;
    }
    if (sp->group->needs.preference_count > 0 && count > sp->gathered_capacity) {
        sp->gathered = xrealloc_array(sp->gathered, count, sizeof(*sp->gathered));
        sp->gathered_capacity = count;
    }
}

void spread_begin(struct spread *sp, struct scheduler *s, struct group *g, int64_t now_ns)
{
    bool flat = g->needs.preference_count == 0;

    sp->group = g;
    sp->root = (struct branch){ 0 };
    arena_reset(&sp->branches);
    reserve(sp, s->nodes.count);
    sp->root.nodes = sp->candidates;
    sp->gathered_count = 0;
    g->blocked_by_use = false;
    for (size_t i = 0; i < s->nodes.capacity; i++) {
        struct snode *n = s->nodes.nodes[i];

        if (n == NULL)
            continue;
        bool able = filter_static(s, g, n) == SCHEDULER_PASS;
        bool fits = able && filter_use(g, n, 0) == SCHEDULER_PASS;
        if (able && !fits)
            g->blocked_by_use = true;
        if (!fits && flat)
            continue;
        uint32_t tasks = service_count(g->service, n);
        struct candidate c = { .key = score(g, n, tasks, now_ns), .rank = n->rank, .node = n };
        if (flat)
            sp->root.nodes[sp->root.node_count++] = c;
        else
            sp->gathered[sp->gathered_count++] = (struct gathered){ c, tasks, fits };
    }
    if (flat) {
        order_nodes(&sp->root);
        return;
    }
    qsort_r(sp->gathered, sp->gathered_count, sizeof(*sp->gathered), by_labels, g);
    fill(sp, &sp->root, 0, sp->gathered, sp->gathered_count);
}

/* Books the best node of a last branch. */
static struct snode *take_node(struct spread *sp, struct branch *b)
{
    struct candidate *best = &b->nodes[0];
    struct snode *n = best->node;

    snode_use(n, sp->group, true);
    best->key += ((uint64_t)1 << COUNT_BITS) + 1;
    if (filter_use(sp->group, n, 0) != SCHEDULER_PASS) {
        sp->group->blocked_by_use = true;
        *best = b->nodes[--b->node_count];
    }
    if (b->node_count > 0)
        sift_node(b->nodes, b->node_count, 0);
    return n;
}

struct snode *spread_take(struct spread *sp)
{
    struct branch *path[PREFERENCES_MAX + 1], *b = &sp->root;
    size_t depth = 0;

    if (dead(b))
        return NULL;
    while (b->child_count > 0) {
        path[depth++] = b;
        b = b->children[0];
    }
    struct snode *n = take_node(sp, b);
    for (;;) {
        b->tasks++;
        b->load++;
        if (depth == 0)
            break;
        struct branch *parent = path[--depth];

        if (dead(b))
            parent->children[0] = parent->children[--parent->child_count];
        if (parent->child_count > 0)
            sift_branch(parent->children, parent->child_count, 0);
        b = parent;
    }
    return n;
}
