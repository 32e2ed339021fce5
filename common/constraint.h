/* The grammar of placement constraints, `key OP value` with OP one of == and != (swarmkit
 * manager/constraint). For ctl, which parses what people type, and for the managers, which check
 * what arrives. Pure, any thread. */
#ifndef SKEP_COMMON_CONSTRAINT_H
#define SKEP_COMMON_CONSTRAINT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

enum { CONSTRAINT_TEXT_CHARS_MAX = 512 };

struct constraint {
    char key[CONSTRAINT_TEXT_CHARS_MAX + 1];
    char value[CONSTRAINT_TEXT_CHARS_MAX + 1];
    bool not_equal;
};

/* -ERR_INVALID with docker's words when text is no constraint, -ERR_TOO_BIG when it is too long. */
int constraint_parse(const char *text, struct constraint *ret_constraint, struct err *e) MUST_CHECK;
/* Checks one that comes in parts. */
int constraint_check(const char *key, const char *value, struct err *e) MUST_CHECK;
/* False for a key that no node can match, e.g. a typing error: worth a warning. */
bool constraint_key_known(const char *key);

/* True in *ret_match when address lies in pattern: an address, or a network in CIDR notation, of
 * either family. -ERR_INVALID when pattern is neither. */
int constraint_address_match(const char *pattern, const char *address, bool *ret_match) MUST_CHECK;

#endif
