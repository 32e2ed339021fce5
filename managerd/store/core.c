#include "managerd/store/core.h"

#include <string.h>

void core_random(const struct core_env *env, void *mem, size_t size)
{
    if (env->random != NULL) {
        env->random(mem, size);
        return;
    }
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t word = prng_next(env->prng);

        memcpy((uint8_t *)mem + at, &word, MIN(size - at, sizeof(word)));
    }
}
