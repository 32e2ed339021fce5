#include "common/clock.h"

#include <time.h>

#include "common/assert.h"

static struct timespec read_clock(clockid_t id)
{
    struct timespec t;

    ASSERT(clock_gettime(id, &t) == 0);
    return t;
}

uint64_t clock_now_ns(void)
{
    struct timespec t = read_clock(CLOCK_BOOTTIME);

    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t clock_now_ms(void)
{
    return clock_now_ns() / 1000000u;
}

uint64_t clock_thread_ns(void)
{
    struct timespec t = read_clock(CLOCK_THREAD_CPUTIME_ID);

    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int64_t clock_wall_ns(void)
{
    struct timespec t = read_clock(CLOCK_REALTIME);

    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
