#include "common/random.h"

#include <errno.h>
#include <sys/random.h>

#include "common/assert.h"

void random_bytes(void *mem, size_t size)
{
    uint8_t *at = mem;

    while (size > 0) {
        ssize_t got = getrandom(at, size, 0);

        if (got < 0 && errno == EINTR)
            continue;
        ASSERT(got > 0);
        at += got;
        size -= (size_t)got;
    }
}

uint64_t random_u64(void)
{
    uint64_t value;

    random_bytes(&value, sizeof(value));
    return value;
}
