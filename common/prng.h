/* Seeded pseudo-random numbers for decisions: xoshiro256** started by splitmix64 (Blackman and
 * Vigna, 2018). Deterministic, so a simulation reproduces from its seed; never for keys or tokens
 * (common/random.h). */
#ifndef SKEP_COMMON_PRNG_H
#define SKEP_COMMON_PRNG_H

#include <stdbool.h>
#include <stdint.h>

struct prng {
    uint64_t s[4];
};

void prng_init(struct prng *p, uint64_t seed);
uint64_t prng_next(struct prng *p);
/* Uniform in [0, bound); bound > 0. */
uint64_t prng_below(struct prng *p, uint64_t bound);
/* Uniform in [low, high], both included. */
uint64_t prng_range(struct prng *p, uint64_t low, uint64_t high);
/* True with the given chance in parts per million. */
bool prng_chance_ppm(struct prng *p, uint32_t ppm);

#endif
