/* Does an object pass a list call's filter? Pure; features.md 4.1. */
#ifndef SKEP_MANAGERD_CONTROL_FILTER_H
#define SKEP_MANAGERD_CONTROL_FILTER_H

#include "managerd/store/store.h"
#include "proto/control.pb-c.h"

/* f may be NULL: everything passes. */
bool control_filter_matches(const Skep__ObjectFilter *f, const ProtobufCMessage *o,
                            const struct store *s);
/* "replicated", "global", "replicated-job" or "global-job". */
const char *control_service_mode(const Skep__ServiceSpec *spec);

#endif
