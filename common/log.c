#include "common/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/err.h"

static struct {
    pthread_mutex_t lock;
    enum log_level level;
    uint64_t written, dropped;
    char ring[LOG_RING_LINES][LOG_LINE_BYTES_MAX];
} logger = { .lock = PTHREAD_MUTEX_INITIALIZER, .level = LOG_INFO };

static const char *const level_names[] = { "error", "warn", "info", "debug" };

void log_set_level(enum log_level level)
{
    logger.level = level;
}

int log_level_parse(const char *text, enum log_level *ret_level)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *ret_level = (enum log_level)i;
            return 0;
        }
    }
    return -ERR_INVALID;
}

/* A log line is one line: control characters of foreign text must not forge another. */
static void sanitize(char *line, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)line[i] < ' ' || line[i] == 127)
            line[i] = '?';
    }
}

static bool stderr_writable(void)
{
    struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };

    return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) != 0;
}

void log_write(enum log_level level, const char *event, const char *format, ...)
{
    va_list args;

    (void)pthread_mutex_lock(&logger.lock);
    char *line = logger.ring[logger.written++ % LOG_RING_LINES];
    int used = snprintf(line, LOG_LINE_BYTES_MAX - 1, "%s %s ", level_names[level], event);

    va_start(args, format);
    if (used < LOG_LINE_BYTES_MAX - 1)
        (void)vsnprintf(line + used, (size_t)(LOG_LINE_BYTES_MAX - 1 - used), format, args);
    va_end(args);
    size_t size = strlen(line);
    sanitize(line, size);
    line[size++] = '\n';
    line[size] = '\0';
    if (level <= logger.level) {
        if (!stderr_writable() || write(STDERR_FILENO, line, size) != (ssize_t)size)
            logger.dropped++;
    }
    (void)pthread_mutex_unlock(&logger.lock);
}

void log_dump_ring(int fd)
{
    uint64_t first = logger.written > LOG_RING_LINES ? logger.written - LOG_RING_LINES : 0;

    for (uint64_t i = first; i < logger.written; i++) {
        const char *line = logger.ring[i % LOG_RING_LINES];

        if (write(fd, line, strnlen(line, LOG_LINE_BYTES_MAX)) < 0)
            return;
    }
}

uint64_t log_dropped_count(void)
{
    return logger.dropped;
}

_Noreturn void assert_fail(const char *expression, const char *file, int line)
{
    static const char head[] = "last log lines:\n";

    (void)dprintf(STDERR_FILENO, "assertion failed: %s at %s:%d\n", expression, file, line);
    if (write(STDERR_FILENO, head, sizeof(head) - 1) > 0)
        log_dump_ring(STDERR_FILENO);
    abort();
}
