/* Randomness from the kernel, for keys, tokens and seeds. Cores get theirs from a struct prng. */
#ifndef SKEP_COMMON_RANDOM_H
#define SKEP_COMMON_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* Fills mem; aborts if the kernel cannot deliver (it can, after boot). */
void random_bytes(void *mem, size_t size);
uint64_t random_u64(void);

#endif
