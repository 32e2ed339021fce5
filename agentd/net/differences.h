/* What a comparison of plan and kernel found. */
#ifndef SKEP_AGENTD_NET_DIFFERENCES_H
#define SKEP_AGENTD_NET_DIFFERENCES_H

#include <stddef.h>

#include "common/arena.h"
#include "common/mem.h"
#include "proto/dispatcher.pb-c.h"

enum { DIFFERENCES_MAX = 256 }; /* kept; more are only counted */

struct differences {
    struct arena *arena;
    const char *network_id; /* of those added from now on; "" = the host */
    Skep__NetworkDifference *items[DIFFERENCES_MAX];
    size_t count; /* may be greater than DIFFERENCES_MAX */
};

/* problem: "missing", "unexpected" or "differs: …". */
void differences_add(struct differences *d, const char *what, const char *problem,
                     const char *object_format, ...) PRINTF(4, 5);

#endif
