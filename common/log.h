/* Logfmt lines on stderr: `<level> <event> key=value …`. Only shells and main programs log; cores
 * and the rest of common/ return errors instead. The event name is stable and documented; the same
 * id always has the same key; durations are `took_ms`. Thread safe; never blocks on a full pipe:
 * lines that do not fit are dropped and counted. The last LOG_RING_LINES lines (all levels) are
 * kept and printed when an assertion fails.
 *
 *   error: an operator must act.   warn: degraded, heals itself; say what happens next.
 *   info: objects change state.    debug: steps. */
#ifndef SKEP_COMMON_LOG_H
#define SKEP_COMMON_LOG_H

#include <stdint.h>

#include "common/mem.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum { LOG_RING_LINES = 64, LOG_LINE_BYTES_MAX = 1024 };

void log_set_level(enum log_level level);
/* Parses "error", "warn", "info" or "debug". Returns 0 or -ERR_INVALID. */
int log_level_parse(const char *text, enum log_level *ret_level) MUST_CHECK;

void log_write(enum log_level level, const char *event, const char *format, ...) PRINTF(3, 4);
#define log_error(event, ...) log_write(LOG_ERROR, event, __VA_ARGS__)
#define log_warn(event, ...) log_write(LOG_WARN, event, __VA_ARGS__)
#define log_info(event, ...) log_write(LOG_INFO, event, __VA_ARGS__)
#define log_debug(event, ...) log_write(LOG_DEBUG, event, __VA_ARGS__)

/* Writes the ring to fd. Async-signal-safe enough for an abort path. */
void log_dump_ring(int fd);
/* Lines dropped because stderr could not take them. */
uint64_t log_dropped_count(void);

#endif
