/* Messages from text, for tables and scenarios: "task.container.env[1]=A=b",
 * "replicated.replicas=3", "update.order=ORDER_START_FIRST". A path goes through sub-messages (made
 * when missing, which also chooses a oneof) and list elements (lists grow); the value is a number,
 * true or false, the name of an enum value, a duration or size with a unit ("10s", "4MiB") for
 * 64-bit fields, or text. */
#ifndef SKEP_TEST_LIB_SPEC_TEXT_H
#define SKEP_TEST_LIB_SPEC_TEXT_H

#include "common/arena.h"
#include "proto/specs.pb-c.h"

/* Aborts with a message on a path or value that does not exist: the test is wrong. */
void spec_set(ProtobufCMessage *m, struct arena *a, const char *assignment);
/* Several assignments separated by spaces; values then hold none. */
void spec_set_all(ProtobufCMessage *m, struct arena *a, const char *assignments);
/* name, image "nginx:1" and what the assignments add; not completed. */
Skep__ServiceSpec *spec_service(struct arena *a, const char *name, const char *assignments);

#endif
