/* From an assignment to what the engine is asked for (docker_api.md §5.2, §5.3, §5.5): the body of
 * `POST /containers/create`, the container's name, volumes to create, host paths to check, and the
 * secret and config files to write first. Pure: the shell does the rest. */
#ifndef SKEP_AGENTD_WORKER_CONTAINER_H
#define SKEP_AGENTD_WORKER_CONTAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "proto/dispatcher.pb-c.h"

#define LABEL_CLUSTER                                                                              \
    "io.skep.cluster" /* two orchestrators never touch each other's containers                     \
                       */
#define LABEL_NODE_ID "com.docker.swarm.node.id"
#define LABEL_TASK_ID "com.docker.swarm.task.id"

enum {
    CONTAINER_NAME_BYTES_MAX = 192, /* <service>.<slot or node id>.<task id> */
    CONTAINER_FILES_MAX = 256,      /* secrets and configs of one task */
    CONTAINER_ARGS_MAX = 4096,      /* of an image's entrypoint or command */
    CONTAINER_ENV_BYTES_MAX = 64 << 10,
};

#define CONTAINER_GATE_DIR "gate" /* below a task's files; the container sees it */

struct container_overlay {    /* what a task with overlay networks needs besides; borrowed */
    const char *gate_program; /* on this host */
    char *const *entrypoint, *const *cmd; /* the image's */
    size_t entrypoint_count, cmd_count;
    const char *const *nameservers;
    size_t nameserver_count;
};

struct container_node { /* what the agent knows about itself; borrowed strings */
    const char *cluster_id, *node_id, *hostname, *architecture, *os;
    const char *files_dir; /* holds this task's secret and config files; absolute */
    const struct container_overlay *overlay; /* NULL: this node has no overlays */
};

struct container_bind {
    char *source;
    bool create; /* make the directory when it is missing */
};

struct container_file { /* <files_dir>/<name>, from a secret or a config */
    char name[24];
    const char *object_id; /* borrowed from the assignment */
    bool is_secret;
    uint32_t uid, gid, mode;
};

struct container_network { /* one that the engine makes */
    char *name;            /* in the engine */
    const char *id;        /* borrowed from the assignment; "" for the engine's own */
    char *create_body;     /* JSON of POST /networks/create; NULL: the engine's own */
    char *connect_body; /* JSON of the connection, without the container; NULL: part of the body */
};

struct container_plan {
    char name[CONTAINER_NAME_BYTES_MAX];
    char *body;     /* JSON */
    char **volumes; /* JSON bodies of POST /volumes/create */
    size_t volume_count;
    struct container_bind *binds; /* of the user; not the files below */
    size_t bind_count;
    struct container_file *files;
    size_t file_count;
    struct container_network *networks;
    size_t network_count;
    bool host_ports; /* the bound ports are part of the status */
    bool gate;       /* it starts at the entrypoint gate (gate.h), whose pipes must be made first */
};

/* -ERR_INVALID naming what cannot be honoured (template, user of a file, image reference). */
int container_plan_make(const Skep__TaskAssignment *a, const struct container_node *n,
                        struct container_plan *ret, struct err *e) MUST_CHECK;
/* Only the networks of the plan. */
int container_plan_networks(const Skep__TaskAssignment *a, const struct container_node *n,
                            struct container_plan *ret, struct err *e) MUST_CHECK;
void container_plan_deinit(struct container_plan *p);

/* The name alone. */
void container_name(const Skep__TaskAssignment *a, const char *node_id, char *ret, size_t size);

#endif
