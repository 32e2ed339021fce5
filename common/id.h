/* Object and node ids: 25 base36 characters from 128 random bits (SwarmKit's shape: 17 bytes with
 * the top bit forced, so that no padding is needed), kept by value. */
#ifndef SKEP_COMMON_ID_H
#define SKEP_COMMON_ID_H

#include <stdbool.h>
#include <stdint.h>

#include "common/prng.h"

enum { ID_CHARS = 25 };

struct id {
    char s[ID_CHARS + 1]; /* NUL-terminated; "" is no id */
};

/* Draws an id from a seeded generator: cores use this, so that a simulation reproduces. */
struct id id_from_prng(struct prng *p);
/* True for exactly 25 characters of [0-9a-z]. */
bool id_valid(const char *text);
/* Copies text; text must be id_valid() or "" (asserted). */
struct id id_from_str(const char *text);
bool id_equal(const struct id *a, const struct id *b);

#endif
