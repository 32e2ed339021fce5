/* The values of ctl's options as people write them, turned into parts of specs: docker's syntax for
 * mounts, ports, environment files, placement, secrets, limits, images and command lines.
 *
 * Pure: every function takes text and gives objects in the arena, or -ERR_INVALID with a sentence
 * that names the bad part and what would be right. Repeated protobuf fields grow with LIST_ADD. */
#ifndef SKEP_CTL_PARSE_H
#define SKEP_CTL_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/err.h"
#include "proto/specs.pb-c.h"
#include "proto/types.pb-c.h"

enum {
    PARSE_PORTS_MAX = 1024, /* of one --publish range */
    PARSE_IMAGE_BYTES_MAX = 512,
    PARSE_FILE_BYTES_MAX = 1 << 20, /* an --env-file */
};

/* Appends item to the repeated field list[0..count). */
void list_grow(struct arena *a, size_t count, void **list);
#define LIST_ADD(a, count, list, item)                                                             \
    do {                                                                                           \
        void *list_ = (list);                                                                      \
        list_grow((a), (count), &list_);                                                           \
        (list) = list_;                                                                            \
        (list)[(count)++] = (item);                                                                \
    } while (0)

/* A growing list of strings in an arena. */
struct strings {
    size_t count;
    char **items;
};
void strings_add(struct arena *a, struct strings *s, const char *text);
bool strings_has(const struct strings *s, const char *text);

/* Comma-separated fields with "quoted, fields". */
int parse_csv(struct arena *a, const char *text, struct strings *ret, struct err *e) MUST_CHECK;
/* A command line cut into words as a POSIX shell would (quotes and backslashes, no expansion). */
int parse_words(struct arena *a, const char *text, struct strings *ret, struct err *e) MUST_CHECK;

/* "key=value" or "key" into a list that is kept sorted by key; a key that is there is replaced. */
int parse_label(struct arena *a, const char *text, size_t *count, Skep__KeyValue ***list,
                struct err *e) MUST_CHECK;
void kv_set(struct arena *a, size_t *count, Skep__KeyValue ***list, const char *key,
            const char *value);
/* False when there is no such key. */
bool kv_remove(size_t *count, Skep__KeyValue **list, const char *key);
/* "" when there is no such key. */
const char *kv_get(size_t count, Skep__KeyValue *const *list, const char *key);

/* "NAME=value", or "NAME" for the value that get (getenv) gives; a NAME without a value anywhere is
 * left out. Replaces an earlier NAME in its place. */
typedef char *parse_env_fn(const char *name);
int parse_env(struct arena *a, const char *text, parse_env_fn *get, struct strings *env,
              struct err *e) MUST_CHECK;
/* The text of an --env-file: one variable per line, # starts a comment. */
int parse_env_file(struct arena *a, const char *text, parse_env_fn *get, struct strings *env,
                   struct err *e) MUST_CHECK;
/* "NAME=value" in the place of an earlier NAME, else at the end. */
void env_set(struct arena *a, struct strings *env, const char *entry);
void env_remove(struct strings *env, const char *name);

/* Adds :latest when there is neither tag nor digest. */
int parse_image(struct arena *a, const char *text, const char **ret, struct err *e) MUST_CHECK;
/* Without digest, and without "docker.io/library/", for people. */
const char *image_familiar(struct arena *a, const char *image);
/* "docker.io", "ghcr.io", "localhost:5000": the registry of an image. */
const char *image_registry(struct arena *a, const char *image);

/* type=bind,source=/a,target=/b,readonly: cwd makes a source like ./x absolute. */
int parse_mount(struct arena *a, const char *text, const char *cwd, Skep__Mount **ret,
                struct err *e) MUST_CHECK;

struct ports {
    size_t count;
    Skep__PortConfig **items;
};
/* [IP:][PUBLISHED:]TARGET[/PROTOCOL] with ranges, or target=…,published=…,protocol=…,mode=…,
 * source=…,host_ip=…. */
int parse_ports(struct arena *a, const char *text, struct ports *ret, struct err *e) MUST_CHECK;

/* node.labels.zone==a, node.role!=manager */
int parse_constraint(struct arena *a, const char *text, Skep__Constraint **ret,
                     struct err *e) MUST_CHECK;
const char *constraint_text(struct arena *a, const Skep__Constraint *c);
/* spread=node.labels.zone */
int parse_preference(struct arena *a, const char *text, Skep__SpreadPreference **ret,
                     struct err *e) MUST_CHECK;
/* NAME, or source=NAME,target=FILE,uid=0,gid=0,mode=0444 */
struct file_ref {
    const char *source;
    Skep__FileTarget *file; /* target: as given, else the source */
};
int parse_file_ref(struct arena *a, const char *text, struct file_ref *ret,
                   struct err *e) MUST_CHECK;
/* NAME, or name=NAME,alias=A,driver-opt=k=v */
int parse_network(struct arena *a, const char *text, Skep__NetworkAttachmentConfig **ret,
                  struct err *e) MUST_CHECK;
/* "name:IP" -> "IP name" */
int parse_host(struct arena *a, const char *text, const char **ret, struct err *e) MUST_CHECK;
/* "nofile=1024:2048" checked; soft alone counts for both. */
int parse_ulimit(struct arena *a, const char *text, const char **ret, struct err *e) MUST_CHECK;
/* "net_admin" -> "CAP_NET_ADMIN"; "ALL" stays. */
int parse_capability(struct arena *a, const char *text, const char **ret, struct err *e) MUST_CHECK;
/* A name that the manager will accept for a service. */
int parse_service_name(const char *text, struct err *e) MUST_CHECK;
/* True for an IPv4 or IPv6 address. */
bool parse_is_ip(const char *text);

#endif
