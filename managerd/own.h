/* What makes a host the first manager of a cluster: its certificate, its addresses, its node object
 * and the new generation. Shared by swarm init, --force-new-cluster and restore. Loop thread, or a
 * program of one thread. */
#ifndef SKEP_MANAGERD_OWN_H
#define SKEP_MANAGERD_OWN_H

#include "common/id.h"
#include "common/tls.h"
#include "managerd/store/store.h"

struct own_identity {
    const char *state_dir;
    const char *advertise;           /* host:port */
    const char *root_pem, *root_key; /* of the cluster's CA */
    int64_t now_ns, life_ns;
    struct id node, cluster;
};
/* Issues a manager's certificate and saves it as this host's identity. */
int own_identity_save(const struct own_identity *o, struct err *e) MUST_CHECK;
/* Where the next start listens and what it says to others. */
int own_addresses_save(const char *state_dir, const char *listen, const char *advertise,
                       struct err *e) MUST_CHECK;

/* The cluster goes on in this generation with own_id as its only manager: the others become workers
 * and may come back as that, with a new certificate. */
void own_generation_add(const struct store *s, uint64_t generation, const char *own_id,
                        struct store_tx *tx);
/* The node object of a first manager. */
void own_node_add(const struct tls_identity *id, Skep__NodeAvailability availability,
                  struct store_tx *tx);

#endif
