/* JSON from the Docker Engine, read defensively: nesting is limited before jansson sees the text,
 * and a member that is missing or of another type reads as the fallback, so a parser built on these
 * never dereferences what an engine did not send. Pure; any thread. */
#ifndef SKEP_AGENTD_DOCKER_JSON_H
#define SKEP_AGENTD_DOCKER_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/mem.h"

enum { DOCKER_JSON_DEPTH_MAX = 64 };

/* Parses one document. NULL with e set (ERR_PROTO) for malformed text, numbers out of range, lone
 * surrogates, NULs, trailing bytes and nesting beyond DOCKER_JSON_DEPTH_MAX. */
json_t *docker_json_parse(const char *text, size_t size, struct err *e) MUST_CHECK;

/* Members of an object; o may be NULL or anything else. Strings are borrowed from o, never NULL. */
const char *docker_json_str(const json_t *o, const char *key);
int64_t docker_json_int(const json_t *o, const char *key);
bool docker_json_bool(const json_t *o, const char *key);
const json_t *docker_json_get(const json_t *o, const char *key);

/* The engine's {"message": "…"} put into e as code; plain text is taken as it is, an empty body
 * becomes "HTTP <status>". Returns -code. */
int docker_json_error(const char *body, size_t size, unsigned status, enum err_code code,
                      struct err *e);

#endif
