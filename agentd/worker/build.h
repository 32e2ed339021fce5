/* Helpers of container.c, mounts.c and networks.c: adding members to JSON with one sticky error, so
 * that the code which builds a body reads like the body. Private to this folder. */
#ifndef SKEP_AGENTD_WORKER_BUILD_H
#define SKEP_AGENTD_WORKER_BUILD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "agentd/worker/container.h"
#include "agentd/worker/template.h"
#include "common/buf.h"
#include "common/mem.h"

struct build {
    const Skep__TaskAssignment *assignment;
    const Skep__ContainerSpec *spec;
    const struct container_node *node;
    struct container_plan *plan;
    struct template_context context;
    char slot[32];
    struct buf scratch; /* build_expand()'s answer */
    int rc;             /* the first error; everything after it does nothing harmful */
    struct err *e;
};

void build_init(struct build *b, const Skep__TaskAssignment *a, const struct container_node *n,
                struct container_plan *plan, struct err *e);
void build_deinit(struct build *b);
void build_fail(struct build *b, const char *format, ...) PRINTF(2, 3);

/* text with its templates replaced; valid until the next call; "" after an error. */
const char *build_expand(struct build *b, const char *what, const char *text);

void build_str(struct build *b, json_t *o, const char *key, const char *value);
void build_str_if(struct build *b, json_t *o, const char *key, const char *value);
void build_int(struct build *b, json_t *o, const char *key, int64_t value);
void build_int_if(struct build *b, json_t *o, const char *key, int64_t value); /* unless 0 */
void build_bool(struct build *b, json_t *o, const char *key, bool value);
void build_map(struct build *b, json_t *o, const char *key, Skep__KeyValue **kv, size_t count);
void build_strings(struct build *b, json_t *o, const char *key, char **s, size_t count);
void build_strings_if(struct build *b, json_t *o, const char *key, char **s, size_t count);
/* New members, borrowed from o. */
json_t *build_object(struct build *b, json_t *o, const char *key);
json_t *build_array(struct build *b, json_t *o, const char *key);
json_t *build_append_object(struct build *b, json_t *list);
void build_append_str(struct build *b, json_t *list, const char *value);

/* HostConfig.Mounts with the plan's volumes, binds and files (mounts.c). */
void build_mounts(struct build *b, json_t *host);

/* NetworkMode, NetworkingConfig and the plan's networks (networks.c). */
void build_networks(struct build *b, json_t *body, json_t *host);
/* For tasks with overlay networks: entrypoint, command and mounts; and Dns, DnsOptions. After
 * build_networks(). */
void build_gate(struct build *b, json_t *body, json_t *host);
void build_overlay_dns(struct build *b, json_t *host);

#endif
