/* The node's description for the managers, out of the engine's /info. Loop thread. */
#ifndef SKEP_AGENTD_DOCKER_INFO_H
#define SKEP_AGENTD_DOCKER_INFO_H

#include "agentd/docker/container.h"
#include "common/arena.h"
#include "proto/types.pb-c.h"

enum {
    INFO_MS_MAX = 15 * 1000,
    INFO_LABELS_MAX = 256,
    INFO_PLUGINS_MAX = 256,
    INFO_KINDS_MAX = 64, /* generic resources */
};

struct engine_call *info_get(struct engine *en, struct docker_reply to, struct err *e) MUST_CHECK;

/* Parses the answer's body. *ret lives in a: host name, platform, resources and engine are set;
 * lists are sorted, so that equal engines give equal bytes. */
int info_parse(const char *body, size_t size, struct arena *a, Skep__NodeDescription **ret,
               struct err *e) MUST_CHECK;

#endif
