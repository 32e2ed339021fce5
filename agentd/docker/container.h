/* Containers and volumes: the requests (docker_api.md §5.1) and what their answers mean. Every
 * function that sends returns the call, or NULL with e set; its answer goes to done. Loop thread.
 */
#ifndef SKEP_AGENTD_DOCKER_CONTAINER_H
#define SKEP_AGENTD_DOCKER_CONTAINER_H

#include "agentd/docker/engine.h"
#include "agentd/worker/facts.h"
#include "common/buf.h"
#include "common/id.h"

enum {
    /* The engine may be busy for minutes with a slow disk; a hang is found by the pings. */
    CONTAINER_CREATE_MS_MAX = 120 * 1000,
    CONTAINER_START_MS_MAX = 120 * 1000,
    CONTAINER_STOP_MS_MARGIN = 30 * 1000, /* on top of the grace period */
    CONTAINER_REMOVE_MS_MAX = 60 * 1000,
    CONTAINER_LOOK_MS_MAX = 20 * 1000,
    CONTAINER_WAIT_MS_MAX = 10 * 1000,
    CONTAINER_INSPECT_BYTES_MAX = 1 << 20,
    CONTAINER_LIST_BYTES_MAX = 32 << 20, /* some 10 000 containers */
    CONTAINER_LIST_MAX = 20000,
};

/* Where an answer goes. */
struct docker_reply {
    engine_done_fn *done;
    void *ctx;
};

struct engine_call *container_create(struct engine *en, const char *name, const char *body,
                                     struct docker_reply to, struct err *e) MUST_CHECK;
/* Sent once: a start that may have been carried out is never repeated by the HTTP layer. */
struct engine_call *container_start(struct engine *en, const char *id, struct docker_reply to,
                                    struct err *e) MUST_CHECK;
/* ref: id or name. */
struct engine_call *container_inspect(struct engine *en, const char *ref, struct docker_reply to,
                                      struct err *e) MUST_CHECK;
/* The container's stop signal, then SIGKILL after grace_s. Answers when it has stopped. */
struct engine_call *container_stop(struct engine *en, const char *id, uint32_t grace_s,
                                   struct docker_reply to, struct err *e) MUST_CHECK;
struct engine_call *container_kill(struct engine *en, const char *id, struct docker_reply to,
                                   struct err *e) MUST_CHECK;
/* Answers once the container does not run; the answer itself is not needed. */
struct engine_call *container_wait(struct engine *en, const char *id, struct docker_reply to,
                                   struct err *e) MUST_CHECK;
/* With its anonymous volumes, running or not. */
struct engine_call *container_remove(struct engine *en, const char *ref, struct docker_reply to,
                                     struct err *e) MUST_CHECK;
/* All containers of cluster_id on node_id, whatever their state. */
struct engine_call *container_list(struct engine *en, const char *cluster_id, const char *node_id,
                                   struct docker_reply to, struct err *e) MUST_CHECK;
/* body: {"Name": …}; idempotent. */
struct engine_call *volume_create(struct engine *en, const char *body, struct docker_reply to,
                                  struct err *e) MUST_CHECK;

/* ---- answers ---- */

/* The id in a 201 of container_create(). */
int container_parse_created(const struct engine_response *r, char ret_id[CONTAINER_ID_CHARS + 1],
                            struct err *e) MUST_CHECK;

struct container_identity { /* whose container it says it is */
    char task_id[ID_CHARS + 1], cluster_id[ID_CHARS + 1];
};
/* A 200 or 404 of container_inspect(). ref: what was asked for; an answer about another container
 * is -ERR_PROTO. ret_facts->ports is malloc'ed for the caller. */
int container_parse_inspect(const struct engine_response *r, const char *ref,
                            struct container_facts *ret_facts,
                            struct container_identity *ret_identity, struct err *e) MUST_CHECK;

struct container_place { /* where its names are */
    char *hosts_path;    /* its /etc/hosts, on the host; malloc'ed; "" when the engine has none */
    char hostname[256];
};
/* Of the same 200. */
int container_parse_place(const struct engine_response *r, struct container_place *ret,
                          struct err *e) MUST_CHECK;

struct container_entry { /* of a list */
    char id[CONTAINER_ID_CHARS + 1];
    char task_id[ID_CHARS + 1]; /* "" when its label is missing or no id */
    enum container_phase phase;
};
/* A 200 of container_list(); *ret is malloc'ed. */
int container_parse_list(const struct engine_response *r, struct container_entry **ret,
                         size_t *ret_count, struct err *e) MUST_CHECK;

/* True for 64 lower-case hexadecimal digits. */
bool container_id_valid(const char *text);
/* Appends text percent-encoded for a path or query. */
int url_append(struct buf *b, const char *text) MUST_CHECK;
/* Starts q with a path made of parts[0], parts[1] percent-encoded, and parts[2]. */
struct engine_call *docker_send(struct engine *en, struct engine_request *q, const char *parts[3],
                                struct docker_reply to, struct err *e) MUST_CHECK;

#endif
