#include "common/prng.h"

#include "common/assert.h"

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotate_left(uint64_t x, int bits)
{
    return (x << bits) | (x >> (64 - bits));
}

void prng_init(struct prng *p, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        p->s[i] = splitmix64(&seed);
}

uint64_t prng_next(struct prng *p)
{
    uint64_t result = rotate_left(p->s[1] * 5, 7) * 9;
    uint64_t t = p->s[1] << 17;

    p->s[2] ^= p->s[0];
    p->s[3] ^= p->s[1];
    p->s[1] ^= p->s[2];
    p->s[0] ^= p->s[3];
    p->s[2] ^= t;
    p->s[3] = rotate_left(p->s[3], 45);
    return result;
}

uint64_t prng_below(struct prng *p, uint64_t bound)
{
    ASSERT(bound > 0);
    /* The bias of the multiply-shift is below 2^-64 * bound: irrelevant for decisions. */
    return (uint64_t)(((unsigned __int128)prng_next(p) * bound) >> 64);
}

uint64_t prng_range(struct prng *p, uint64_t low, uint64_t high)
{
    ASSERT(low <= high);
    ASSERT(high - low < UINT64_MAX);
    return low + prng_below(p, high - low + 1);
}

bool prng_chance_ppm(struct prng *p, uint32_t ppm)
{
    return prng_below(p, 1000000) < ppm;
}
