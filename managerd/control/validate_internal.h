/* Shared by the validate_*.c files: limits and small checks. `at` is the field's path in messages.
 */
#ifndef SKEP_MANAGERD_CONTROL_VALIDATE_INTERNAL_H
#define SKEP_MANAGERD_CONTROL_VALIDATE_INTERNAL_H

#include "managerd/control/validate.h"

enum {
    VALIDATE_SPEC_BYTES_MAX = 400 << 10, /* an object holds two specs and its own state */
    VALIDATE_NAME_BYTES_MAX = 63,        /* a DNS label */
    VALIDATE_FILE_NAME_BYTES_MAX = 64,   /* secrets and configs */
    VALIDATE_LABEL_KEY_BYTES_MAX = 512,
    VALIDATE_LABEL_VALUE_BYTES_MAX = 32 << 10,
    VALIDATE_LABELS_MAX = 2048,
    VALIDATE_PATH_BYTES_MAX = 4096,
    VALIDATE_REPLICAS_MAX = 1000000,
    VALIDATE_CONSTRAINTS_MAX = 256,
    VALIDATE_PREFERENCES_MAX = 16,
    VALIDATE_LIST_MAX = 1024,  /* ports, mounts, networks, secrets, configs … */
    VALIDATE_WORDS_MAX = 8192, /* env, command, args */
};
#define VALIDATE_MEMORY_BYTES_MIN (INT64_C(4) << 20)
#define VALIDATE_NANO_CPUS_MIN INT64_C(1000000)
#define VALIDATE_DURATION_NS_MAX (INT64_C(10) * 365 * 24 * 3600 * 1000000000)

int validate_name(const char *at, const char *name, struct err *e) MUST_CHECK;
/* Secrets and configs: also '.', 64 bytes. */
int validate_file_object_name(const char *at, const char *name, struct err *e) MUST_CHECK;
/* Sorted by key already. */
int validate_labels(const char *at, Skep__KeyValue *const *map, size_t count,
                    struct err *e) MUST_CHECK;
int validate_count(const char *at, size_t count, size_t max, struct err *e) MUST_CHECK;
int validate_duration(const char *at, int64_t ns, struct err *e) MUST_CHECK;
/* Every enum in m and below has a number that its .proto file names (N27). */
int validate_enums(const ProtobufCMessage *m, struct err *e) MUST_CHECK;
/* Without control characters, at most bytes_max long. */
int validate_line(const char *at, const char *text, size_t bytes_max, struct err *e) MUST_CHECK;
bool validate_chars(const char *text, const char *set);
/* "10.0.0.1" or "fd00::1". */
bool validate_is_ip(const char *text);
/* A fresh one when there is none; labels sorted. */
Skep__Annotations *validate_complete_annotations(Skep__Annotations *given, struct arena *a);
/* Of secrets, configs and networks: names may have dots. */
int validate_file_annotations(const Skep__Annotations *given, struct err *e) MUST_CHECK;
/* Placement (validate_placement.c). */
int validate_placement(const Skep__Placement *p, struct err *e) MUST_CHECK;
/* Container (validate_container.c). */
int validate_container(const Skep__ContainerSpec *c, struct err *e) MUST_CHECK;

#define VALIDATE_DIGITS "0123456789"
#define VALIDATE_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define VALIDATE_ALNUM VALIDATE_LETTERS VALIDATE_DIGITS

#endif
