#include "common/random.h"

#include <string.h>

#include "common/assert.h"
#include "test/sim/link/link.h"

static struct prng *source;

void link_set_random(struct prng *p)
{
    source = p;
}

uint64_t random_u64(void)
{
    ASSERT(source != NULL);
    return prng_next(source);
}

void random_bytes(void *mem, size_t size)
{
    uint8_t *to = mem;

    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t word = random_u64();

        memcpy(to + at, &word, MIN(size - at, sizeof(word)));
    }
}
