#include "managerd/allocator/bits.h"

#include <string.h>

#include "common/hash.h"
#include "common/mem.h"

enum { WORD_BITS = 64, CHUNK_WORDS = 16, CHUNK_BITS = CHUNK_WORDS * WORD_BITS };

struct chunk {
    uint64_t number, count;
    uint64_t words[CHUNK_WORDS];
};

static bool chunk_match(const void *value, const void *key)
{
    return ((const struct chunk *)value)->number == *(const uint64_t *)key;
}

static struct chunk *find(const struct bits *b, uint64_t value)
{
    uint64_t number = value / CHUNK_BITS;

    return map_find(&b->chunks, hash_u64(number, 0), chunk_match, &number);
}

static uint64_t *word_of(struct chunk *c, uint64_t value)
{
    return &c->words[value % CHUNK_BITS / WORD_BITS];
}

static uint64_t mask_of(uint64_t value)
{
    return UINT64_C(1) << value % WORD_BITS;
}

void bits_deinit(struct bits *b)
{
    size_t at = 0;

    for (void *c = map_each(&b->chunks, &at); c != NULL; c = map_each(&b->chunks, &at))
        free(c);
    map_deinit(&b->chunks);
    *b = (struct bits){ 0 };
}

bool bits_has(const struct bits *b, uint64_t value)
{
    struct chunk *c = find(b, value);

    return c != NULL && (*word_of(c, value) & mask_of(value)) != 0;
}

bool bits_add(struct bits *b, uint64_t value)
{
    struct chunk *c = find(b, value);

    if (c == NULL) {
        c = xcalloc(1, sizeof(*c));
        c->number = value / CHUNK_BITS;
        map_add(&b->chunks, hash_u64(c->number, 0), c);
    }
    if ((*word_of(c, value) & mask_of(value)) != 0)
        return false;
    *word_of(c, value) |= mask_of(value);
    c->count++;
    b->count++;
    return true;
}

bool bits_remove(struct bits *b, uint64_t value)
{
    struct chunk *c = find(b, value);

    if (c == NULL || (*word_of(c, value) & mask_of(value)) == 0)
        return false;
    *word_of(c, value) &= ~mask_of(value);
    b->count--;
    if (--c->count == 0) {
        map_remove(&b->chunks, hash_u64(c->number, 0), c);
        free(c);
    }
    return true;
}

/* In one chunk, from value on; the chunk's end when it has none. */
static uint64_t chunk_next_free(struct chunk *c, uint64_t value)
{
    uint64_t end = (c->number + 1) * CHUNK_BITS;

    if (c->count == CHUNK_BITS)
        return end;
    while (value < end) {
        uint64_t open = ~*word_of(c, value) & ~(mask_of(value) - 1);

        if (open != 0)
            return value - value % WORD_BITS + (uint64_t)__builtin_ctzll(open);
        value += WORD_BITS - value % WORD_BITS;
    }
    return end;
}

uint64_t bits_next_free(const struct bits *b, uint64_t from, uint64_t end)
{
    while (from < end) {
        struct chunk *c = find(b, from);

        if (c == NULL)
            return from;
        uint64_t found = chunk_next_free(c, from);

        if (found < (c->number + 1) * CHUNK_BITS)
            return found < end ? found : end;
        from = found;
    }
    return end;
}

bool bits_equal(const struct bits *a, const struct bits *b)
{
    size_t at = 0;

    if (a->count != b->count || a->chunks.count != b->chunks.count)
        return false;
    for (struct chunk *c; (c = map_each(&a->chunks, &at)) != NULL;) {
        const struct chunk *other = find(b, c->number * CHUNK_BITS);

        if (other == NULL || memcmp(c->words, other->words, sizeof(c->words)) != 0)
            return false;
    }
    return true;
}
