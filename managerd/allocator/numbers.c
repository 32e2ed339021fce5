/* Sets of numbers that are handed out, and the choices of the transaction in flight. */
#include "managerd/allocator/internal.h"

#include "common/assert.h"

void numbers_init(struct numbers *n, uint64_t first, uint64_t end)
{
    *n = (struct numbers){ .first = first, .end = end, .next = first };
}

void numbers_deinit(struct numbers *n)
{
    bits_deinit(&n->used);
    bits_deinit(&n->flight);
    free(n->clashes);
    *n = (struct numbers){ 0 };
}

void numbers_take(struct numbers *n, uint64_t value)
{
    if (bits_remove(&n->flight, value))
        return; /* our own choice has come true */
    if (bits_add(&n->used, value))
        return;
    n->clashes = xrealloc_array(n->clashes, n->clash_count + 1, sizeof(*n->clashes));
    n->clashes[n->clash_count++] = value;
}

void numbers_give(struct numbers *n, uint64_t value)
{
    for (size_t i = 0; i < n->clash_count; i++) {
        if (n->clashes[i] == value) {
            n->clashes[i] = n->clashes[--n->clash_count];
            return;
        }
    }
    if (!bits_has(&n->flight, value)) /* else somebody else's, who gets it next */
        (void)bits_remove(&n->used, value);
}

bool numbers_equal(const struct numbers *a, const struct numbers *b)
{
    return a->clash_count == b->clash_count && bits_equal(&a->used, &b->used) &&
           bits_equal(&a->flight, &b->flight);
}

static void note(struct allocator *a, struct numbers *n, uint64_t value)
{
    bool is_new = bits_add(&n->used, value) && bits_add(&n->flight, value);

    ASSERT(is_new);
    if (a->claim_count == a->claim_capacity) {
        a->claim_capacity = MAX(a->claim_capacity * 2, (size_t)64);
        a->claims = xrealloc_array(a->claims, a->claim_capacity, sizeof(*a->claims));
    }
    a->claims[a->claim_count++] = (struct claim){ n, value };
}

bool claim_next(struct allocator *a, struct numbers *n, uint64_t *ret_value)
{
    uint64_t value = bits_next_free(&n->used, n->next, n->end);

    if (value == n->end) {
        value = bits_next_free(&n->used, n->first, n->next);
        if (value == n->next)
            return false;
    }
    note(a, n, value);
    n->next = value + 1 < n->end ? value + 1 : n->first;
    *ret_value = value;
    return true;
}

bool claim(struct allocator *a, struct numbers *n, uint64_t value)
{
    if (bits_has(&n->used, value))
        return false;
    note(a, n, value);
    return true;
}

size_t claims_mark(const struct allocator *a)
{
    return a->claim_count;
}

void claims_undo(struct allocator *a, size_t mark)
{
    while (a->claim_count > mark) {
        struct claim *c = &a->claims[--a->claim_count];

        if (c->numbers == NULL || !bits_remove(&c->numbers->flight, c->value))
            continue;
        (void)bits_remove(&c->numbers->used, c->value);
    }
}

void claims_settle(struct allocator *a)
{
    a->freed |= a->claim_count > 0;
    claims_undo(a, 0);
}

void claims_forget(struct allocator *a, const struct numbers *n)
{
    for (size_t i = 0; i < a->claim_count; i++) {
        if (a->claims[i].numbers == n)
            a->claims[i].numbers = NULL;
    }
}
