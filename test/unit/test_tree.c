/* common/tree.c: order, neighbours and shape under random changes. */
#include "common/tree.h"

#include <check.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/mem.h"
#include "common/prng.h"

enum { NODES = 300, STEPS = 20000 };

struct number {
    struct tree_node node;
    int value;
    bool in;
};

static struct number numbers[NODES];

static int order(const struct tree_node *a, const struct tree_node *b)
{
    return CONTAINER_OF(a, struct number, node)->value -
           CONTAINER_OF(b, struct number, node)->value;
}

static int key_order(const void *key, const struct tree_node *n)
{
    return *(const int *)key - CONTAINER_OF(n, struct number, node)->value;
}

static int value_of(const struct tree_node *n)
{
    return n != NULL ? CONTAINER_OF(n, struct number, node)->value : -1;
}

/* The next value in the tree after v, by looking at all. */
static int next_of(int v)
{
    for (int i = v + 1; i < NODES; i++) {
        if (numbers[i].in)
            return i;
    }
    return -1;
}

static void check_shape(const struct tree *t)
{
    size_t count = 0;
    int last = -1;

    for (struct tree_node *n = tree_first(t); n != NULL; n = tree_next(n)) {
        ck_assert_int_eq(value_of(n), next_of(last));
        ck_assert(n->left == NULL || (n->left->parent == n && n->left->priority <= n->priority));
        ck_assert(n->right == NULL || (n->right->parent == n && n->right->priority <= n->priority));
        last = value_of(n);
        count++;
    }
    ck_assert_uint_eq(count, t->count);
    ck_assert_int_eq(next_of(last), -1);
}

START_TEST(random_changes)
{
    struct tree t = { 0 };
    struct prng p;

    prng_init(&p, 5);
    for (int i = 0; i < NODES; i++)
        numbers[i] = (struct number){ .value = i };
    for (int step = 0; step < STEPS; step++) {
        struct number *n = &numbers[prng_below(&p, NODES)];

        if (n->in)
            tree_remove(&t, &n->node);
        else
            tree_insert(&t, &n->node, order);
        n->in = !n->in;
        int key = (int)prng_below(&p, NODES);
        ck_assert_int_eq(value_of(tree_find(&t, &key, key_order)), numbers[key].in ? key : -1);
        ck_assert_int_eq(value_of(tree_after(&t, &key, key_order)), next_of(key));
        if (step % 500 == 0)
            check_shape(&t);
    }
    check_shape(&t);
}
END_TEST

static size_t depth(const struct tree_node *n)
{
    return n != NULL ? 1 + MAX(depth(n->left), depth(n->right)) : 0;
}

/* Slots come in ascending order: the tree must not become a list. */
START_TEST(sorted_input_stays_flat)
{
    enum { COUNT = 10000 };
    struct number *many = xcalloc(COUNT, sizeof(*many));
    struct tree t = { 0 };

    for (int i = 0; i < COUNT; i++) {
        many[i].value = i;
        tree_insert(&t, &many[i].node, order);
    }
    ck_assert_uint_lt(depth(t.root), 60);
    free(many);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tree");
    TCase *tc = tcase_create("tree");

    tcase_add_test(tc, random_changes);
    tcase_add_test(tc, sorted_input_stays_flat);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
