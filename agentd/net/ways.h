/* Routes and policy rules of a balancer (rtm_protocol LAYOUT_PROTOCOL_BALANCER) in one namespace:
 * which addresses are answered here, which way the rest goes. Wanted state in, differences to the
 * kernel; what carries another protocol is not looked at. IPv4 destinations. */
#ifndef SKEP_AGENTD_NET_WAYS_H
#define SKEP_AGENTD_NET_WAYS_H

#include <stdbool.h>

#include "agentd/net/differences.h"
#include "agentd/net/nl.h"
#include "common/ip.h"

struct way {
    uint32_t table;
    uint32_t address; /* host order */
    uint8_t prefix;
    bool local;         /* an address of this namespace */
    struct ip gateway;  /* family 0: none */
    const char *device; /* borrowed */
    bool onlink;
};

struct way_rule { /* packets with this mark use that table */
    uint32_t preference, mark, mask, table;
};

struct ways {
    struct way *routes;
    size_t route_count;
    struct way_rule *rules;
    size_t rule_count;
};

/* Puts the lists in order; do it before all else. */
void ways_sort(struct ways *w);
/* Makes was into want (was NULL: nothing is there), new ones before old ones go. Routes that exist
 * already and those that are gone already are fine. */
int ways_change(struct nl *route, const struct ways *was, const struct ways *want,
                struct err *e) MUST_CHECK;
/* What the kernel has; memory in a. */
int ways_dump(struct nl *route, struct ways *ret, struct arena *a, struct err *e) MUST_CHECK;
void ways_compare(const struct ways *want, const struct ways *have, struct differences *d);

#endif
