/* Validation and completion of specs, pure. What passes is complete (every default filled in) and
 * normal (maps sorted by key), so that equal wishes are equal bytes; what does not pass is refused
 * with -ERR_INVALID and a message that names the field, its value and what would be right.
 * Rules: features.md 3.3, reliability.md N65-N78. */
#ifndef SKEP_MANAGERD_CONTROL_VALIDATE_H
#define SKEP_MANAGERD_CONTROL_VALIDATE_H

#include "common/arena.h"
#include "managerd/store/store.h"
#include "proto/specs.pb-c.h"

/* *ret_spec lives in a and may share memory with in. */
int control_validate_service(const Skep__ServiceSpec *in, struct arena *a,
                             Skep__ServiceSpec **ret_spec, struct err *e) MUST_CHECK;
/* What needs the store: published ports taken by other services, references to networks, secrets
 * and configs (names are resolved to ids in spec). service_id "" for a new service. */
int control_validate_service_in(Skep__ServiceSpec *spec, const struct store *s,
                                const char *service_id, struct err *e) MUST_CHECK;
int control_validate_node(const Skep__NodeSpec *in, struct arena *a, Skep__NodeSpec **ret_spec,
                          struct err *e) MUST_CHECK;
/* Zeros become defaults, except in task_history_limit. */
int control_validate_cluster(const Skep__ClusterSpec *in, struct arena *a,
                             Skep__ClusterSpec **ret_spec, struct err *e) MUST_CHECK;
/* 1 to 500 KiB of data for secrets, 1000 KiB for configs (N68, N69). */
int control_validate_secret(const Skep__SecretSpec *in, struct arena *a,
                            Skep__SecretSpec **ret_spec, struct err *e) MUST_CHECK;
int control_validate_config(const Skep__ConfigSpec *in, struct arena *a,
                            Skep__ConfigSpec **ret_spec, struct err *e) MUST_CHECK;
/* Names, drivers and address ranges for themselves; what they have to do with other objects is
 * control_network_create()'s. */
int control_validate_network(const Skep__NetworkSpec *in, struct arena *a,
                             Skep__NetworkSpec **ret_spec, struct err *e) MUST_CHECK;
/* Description reported by a worker: sizes and characters (N65, N66). */
int control_validate_description(const Skep__NodeDescription *d, struct err *e) MUST_CHECK;

#endif
