/* Completion and normal form of service specs: defaults of features.md 3.3 filled in, maps and sets
 * sorted, so that equal wishes are equal bytes and a rolling update starts only when something
 * differs. Pure. Runs before validation, on a copy in the arena, and never fails. */
#ifndef SKEP_MANAGERD_CONTROL_DEFAULTS_H
#define SKEP_MANAGERD_CONTROL_DEFAULTS_H

#include "common/arena.h"
#include "proto/specs.pb-c.h"

#define DEFAULT_STOP_GRACE_NS (INT64_C(10) * 1000000000)
#define DEFAULT_RESTART_DELAY_NS (INT64_C(5) * 1000000000)
#define DEFAULT_MONITOR_NS (INT64_C(5) * 1000000000)
enum {
    DEFAULT_PARALLELISM = 1,
    DEFAULT_FILE_MODE = 0444,
};

/* spec and all it points to are in a, or in memory that may be written to. Set afterwards:
 * annotations, task, task.resources with limits and reservations, task.restart, task.placement,
 * endpoint, mode; update and rollback except for jobs; a container's stop_grace_period and file
 * targets when there is a container. */
void defaults_fill_service(Skep__ServiceSpec *spec, struct arena *a);

/* By key. */
void defaults_sort_map(Skep__KeyValue **map, size_t count);
/* By target; once more after names became ids. */
void defaults_sort_networks(Skep__NetworkAttachmentConfig **networks, size_t count);

#endif
