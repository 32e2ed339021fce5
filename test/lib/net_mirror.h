/* An agent's copy of the network records, made from NETWORKS answers as the contract says
 * (proto/dispatcher.proto), and what the store says it should be, worked out anew from all objects.
 */
#ifndef SKEP_TEST_LIB_NET_MIRROR_H
#define SKEP_TEST_LIB_NET_MIRROR_H

#include "managerd/store/store.h"
#include "proto/dispatcher.pb-c.h"

struct mirror_record;

struct net_mirror {
    struct mirror_record *records;
    bool completing; /* between the first and the last piece of a complete set */
    uint64_t token;  /* to ask on with */
    size_t pieces;   /* answers taken */
};

void net_mirror_deinit(struct net_mirror *m);
void net_mirror_apply(struct net_mirror *m, const Skep__NetworksResponse *resp);
size_t net_mirror_count(const struct net_mirror *m);
/* NULL when there is none. Borrowed. */
const Skep__NetworkRecord *net_mirror_find(const struct net_mirror *m, Skep__NetworkRecordKind kind,
                                           const char *id);
/* -ERR_INTERNAL naming the first record that is missing, too much or different. */
int net_mirror_check(const struct net_mirror *m, const struct store *s, const char *node_id,
                     struct err *e) MUST_CHECK;

#endif
