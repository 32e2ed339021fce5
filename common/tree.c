#include "common/tree.h"

#include "common/assert.h"
#include "common/hash.h"

/* The pointer that holds n. */
static struct tree_node **owner(struct tree *t, const struct tree_node *n)
{
    if (n->parent == NULL)
        return &t->root;
    return n->parent->left == n ? &n->parent->left : &n->parent->right;
}

/* Lifts n above its parent; the order stays. */
static void rotate_up(struct tree *t, struct tree_node *n)
{
    struct tree_node *p = n->parent, **from = owner(t, p), *middle;

    if (p->left == n) {
        middle = n->right;
        n->right = p;
        p->left = middle;
    } else {
        middle = n->left;
        n->left = p;
        p->right = middle;
    }
    if (middle != NULL)
        middle->parent = p;
    n->parent = p->parent;
    p->parent = n;
    *from = n;
}

void tree_insert(struct tree *t, struct tree_node *n, tree_compare_fn *compare)
{
    struct tree_node *parent = NULL, **at = &t->root;

    while (*at != NULL) {
        int order = compare(n, *at);

        ASSERT(order != 0);
        parent = *at;
        at = order < 0 ? &parent->left : &parent->right;
    }
    *n = (struct tree_node){ .parent = parent, .priority = hash_u64(t->inserted++, 1) };
    *at = n;
    t->count++;
    while (n->parent != NULL && n->parent->priority < n->priority)
        rotate_up(t, n);
}

void tree_remove(struct tree *t, struct tree_node *n)
{
    ASSERT(t->count > 0);
    while (n->left != NULL && n->right != NULL)
        rotate_up(t, n->left->priority > n->right->priority ? n->left : n->right);
    struct tree_node *child = n->left != NULL ? n->left : n->right;

    *owner(t, n) = child;
    if (child != NULL)
        child->parent = n->parent;
    *n = (struct tree_node){ 0 };
    t->count--;
}

struct tree_node *tree_find(const struct tree *t, const void *key, tree_key_fn *compare)
{
    struct tree_node *n = t->root;

    while (n != NULL) {
        int order = compare(key, n);

        if (order == 0)
            return n;
        n = order < 0 ? n->left : n->right;
    }
    return NULL;
}

struct tree_node *tree_after(const struct tree *t, const void *key, tree_key_fn *compare)
{
    struct tree_node *n = t->root, *best = NULL;

    while (n != NULL) {
        if (compare(key, n) < 0) {
            best = n;
            n = n->left;
        } else {
            n = n->right;
        }
    }
    return best;
}

struct tree_node *tree_first(const struct tree *t)
{
    struct tree_node *n = t->root;

    while (n != NULL && n->left != NULL)
        n = n->left;
    return n;
}

struct tree_node *tree_next(const struct tree_node *n)
{
    if (n->right != NULL) {
        struct tree_node *m = n->right;

        while (m->left != NULL)
            m = m->left;
        return m;
    }
    while (n->parent != NULL && n->parent->right == n)
        n = n->parent;
    return n->parent;
}
