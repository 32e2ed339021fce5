/* Entries (entry.h) as rtnetlink messages. */
#ifndef SKEP_AGENTD_NET_ENTRY_WIRE_H
#define SKEP_AGENTD_NET_ENTRY_WIRE_H

#include "agentd/net/entry.h"

/* A zeroed one at the end. */
struct entry *entries_append(struct entries *s);
/* Adds the message that makes x, replacing what has its key, or that removes it. */
void entry_put(struct nl *n, const struct entry *x, bool add, uint32_t tag);

#endif
