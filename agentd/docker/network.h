/* Networks that the engine itself makes (docker_api.md §5.2): those of drivers other than overlay.
 * Ours carry labels (agentd/worker/networks.h); no other is ever touched. Loop thread. */
#ifndef SKEP_AGENTD_DOCKER_NETWORK_H
#define SKEP_AGENTD_DOCKER_NETWORK_H

#include "agentd/docker/container.h"

enum {
    NETWORK_CREATE_MS_MAX = 60 * 1000,
    NETWORK_BYTES_MAX = 4 << 20, /* of an answer; it lists the network's containers */
    NETWORK_LIST_MAX = 4096,
};

struct engine_call *network_inspect(struct engine *en, const char *name, struct docker_reply to,
                                    struct err *e) MUST_CHECK;
/* 201; 409 when the name is in use. */
struct engine_call *network_create(struct engine *en, const char *body, struct docker_reply to,
                                   struct err *e) MUST_CHECK;
/* body: as container_network.connect_body; the container need not run. */
struct engine_call *network_connect(struct engine *en, const char *name, const char *container,
                                    const char *body, struct docker_reply to,
                                    struct err *e) MUST_CHECK;
/* 403 while containers use it. */
struct engine_call *network_remove(struct engine *en, const char *ref, struct docker_reply to,
                                   struct err *e) MUST_CHECK;
/* Those with a label of cluster_id. */
struct engine_call *network_list(struct engine *en, const char *cluster_id, struct docker_reply to,
                                 struct err *e) MUST_CHECK;

/* ---- answers ---- */

struct network_entry {
    char id[CONTAINER_ID_CHARS + 1]; /* the engine's */
    char network_id[ID_CHARS + 1];   /* ours; "" when the label is missing or no id */
    char cluster_id[ID_CHARS + 1];   /* likewise */
};
/* A 200 of network_inspect(). */
int network_parse_inspect(const struct engine_response *r, struct network_entry *ret,
                          struct err *e) MUST_CHECK;
/* A 200 of network_list(); *ret is malloc'ed. */
int network_parse_list(const struct engine_response *r, struct network_entry **ret,
                       size_t *ret_count, struct err *e) MUST_CHECK;
/* True for the answer to a connection that stands already. */
bool network_is_connected(const struct engine_response *r);

#endif
