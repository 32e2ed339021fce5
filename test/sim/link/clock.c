/* The wall clock of whoever runs at the moment; put in with the linker's --wrap, because the
 * simulator itself measures with the rest of common/clock.c. */
#include "common/clock.h"

#include "test/sim/link/link.h"

int64_t __wrap_clock_wall_ns(void);

static int64_t wall_ns;

void link_set_wall_ns(int64_t ns)
{
    wall_ns = ns;
}

int64_t __wrap_clock_wall_ns(void)
{
    return wall_ns;
}
