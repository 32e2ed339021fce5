/* Text that ends up in messages to managers: they must be UTF-8, of bounded length, on one line.
 * Pure. */
#ifndef SKEP_AGENTD_WORKER_PLAIN_H
#define SKEP_AGENTD_WORKER_PLAIN_H

#include <stddef.h>

#include "common/mem.h"

/* Shortens text in place so that its last character is whole, for text cut to a size. */
void plain_cut(char *text);
/* snprintf that never leaves half a character. */
void plain_format(char *ret, size_t size, const char *format, ...) PRINTF(3, 4);
enum { PLAIN_QUOTABLE_MAX = 256 };
/* A copy for a quoted value of a log line: double quotes become single ones. Returns ret. */
const char *plain_quotable(char ret[PLAIN_QUOTABLE_MAX], const char *text);
/* Replaces control characters by spaces and bytes that are not UTF-8 by '?', in place. */
void plain_clean(char *text);

#endif
