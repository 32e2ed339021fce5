/* {{…}} in environment, hostname and mounts: the part of Go's text/template that swarm documents
 * (docker_api.md §5.2). Fields .Service.{ID,Name,Labels}, .Node.{ID,Hostname,Platform.Architecture,
 * Platform.OS}, .Task.{ID,Name,Slot}; `.Service.Labels.key`, `index .Service.Labels "key"`,
 * `join SEP A B …`; string literals; trim markers. A label that is not there is an error, as is
 * everything else. Pure. */
#ifndef SKEP_AGENTD_WORKER_TEMPLATE_H
#define SKEP_AGENTD_WORKER_TEMPLATE_H

#include "common/buf.h"
#include "common/err.h"
#include "proto/types.pb-c.h"

enum { TEMPLATE_BYTES_MAX = 64 << 10, TEMPLATE_ARGS_MAX = 16 };

struct template_context {
    const char *service_id, *service_name;
    Skep__KeyValue **service_labels;
    size_t service_label_count;
    const char *node_id, *node_hostname, *node_architecture, *node_os;
    const char *task_id, *task_name, *task_slot;
};

/* Replaces *ret's content. -ERR_INVALID naming the part that is not understood, -ERR_TOO_BIG beyond
 * ret's maximum. */
int template_expand(const char *text, const struct template_context *t, struct buf *ret,
                    struct err *e) MUST_CHECK;

#endif
