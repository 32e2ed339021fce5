#include "common/hash.h"

#include <endian.h>
#include <string.h>

static const uint64_t odd_a = 0x9fb21c651e98df25u, odd_b = 0xd6e8feb86659fd93u;

/* Multiplying to 128 bits and folding spreads every input bit over the result. */
static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t load(const uint8_t *at, size_t size)
{
    uint64_t value = 0;

    memcpy(&value, at, size);
    return le64toh(value);
}

uint64_t hash_bytes(const void *mem, size_t size, uint64_t seed)
{
    const uint8_t *at = mem;
    uint64_t h = seed ^ fold(size + 1, odd_a);

    for (; size >= 8; size -= 8, at += 8)
        h = fold(h ^ load(at, 8), odd_b);
    if (size > 0)
        h = fold(h ^ load(at, size), odd_a);
    return fold(h ^ odd_a, odd_b);
}

uint64_t hash_str(const char *s, uint64_t seed)
{
    return hash_bytes(s, strlen(s), seed);
}

uint64_t hash_str_nocase(const char *s, uint64_t seed)
{
    uint64_t h = seed ^ odd_b;

    for (; *s != '\0'; s++) {
        uint64_t c = (uint8_t)*s;

        if (c >= 'A' && c <= 'Z')
            c += 'a' - 'A';
        h = fold(h ^ c, odd_a) + c;
    }
    return fold(h, odd_b);
}

uint64_t hash_u64(uint64_t value, uint64_t seed)
{
    return fold(value ^ odd_a, seed ^ odd_b);
}

uint64_t text_rank(const char *s)
{
    uint64_t rank = 0;

    memcpy(&rank, s, strnlen(s, sizeof(rank)));
    return be64toh(rank);
}
