/* An ordered tree of nodes embedded in their owners: a treap (Seidel and Aragon, 1996) with parent
 * links. Insert, remove and search take O(log n) steps on average, tree_next O(1). Priorities come
 * from a counter, so equal histories give equal shapes. Zero-initialised is empty. Not across
 * threads. */
#ifndef SKEP_COMMON_TREE_H
#define SKEP_COMMON_TREE_H

#include <stddef.h>
#include <stdint.h>

struct tree_node {
    struct tree_node *parent, *left, *right;
    uint64_t priority; /* a parent's is never smaller */
};

struct tree {
    struct tree_node *root;
    uint64_t inserted; /* ever */
    size_t count;
};

/* <0, 0, >0 as a sorts before, at, after b. */
typedef int tree_compare_fn(const struct tree_node *a, const struct tree_node *b);
/* The same for a key against a node. */
typedef int tree_key_fn(const void *key, const struct tree_node *n);

/* n must not be in a tree, and no equal node may be in this one (asserted). */
void tree_insert(struct tree *t, struct tree_node *n, tree_compare_fn *compare);
void tree_remove(struct tree *t, struct tree_node *n);
struct tree_node *tree_find(const struct tree *t, const void *key, tree_key_fn *compare);
/* The first node that sorts after key. */
struct tree_node *tree_after(const struct tree *t, const void *key, tree_key_fn *compare);
struct tree_node *tree_first(const struct tree *t);
struct tree_node *tree_next(const struct tree_node *n);

#endif
