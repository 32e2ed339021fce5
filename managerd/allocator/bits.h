/* A sparse set of numbers: 1024-bit chunks, made when first needed and dropped when empty, so that
 * a /64 costs as little as a /24. Zero-initialised is empty. */
#ifndef SKEP_MANAGERD_ALLOCATOR_BITS_H
#define SKEP_MANAGERD_ALLOCATOR_BITS_H

#include "common/map.h"

struct bits {
    struct map chunks;
    uint64_t count;
};

void bits_deinit(struct bits *b);
bool bits_has(const struct bits *b, uint64_t value);
/* False when it was in already. */
bool bits_add(struct bits *b, uint64_t value);
/* False when it was not in. */
bool bits_remove(struct bits *b, uint64_t value);
/* The first number in [from, end) that is not in; end when all are. O((end - from) / 1024 + 1024)
 * where the set is dense. */
uint64_t bits_next_free(const struct bits *b, uint64_t from, uint64_t end);
bool bits_equal(const struct bits *a, const struct bits *b);

#endif
