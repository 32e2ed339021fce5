/* A growing byte buffer born with a maximum (curl's dynbuf idea): appending beyond it fails with
 * -ERR_TOO_BIG and leaves the content as it was. Always NUL-terminated after the content, so
 * `data` is a C string when no NUL was appended. */
#ifndef SKEP_COMMON_BUF_H
#define SKEP_COMMON_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct buf {
    uint8_t *data; /* NULL while empty and never grown */
    size_t size;
    size_t capacity;
    size_t size_max;
};

#define BUF_INIT(max)                                                                              \
    {                                                                                              \
        .size_max = (max)                                                                          \
    }

void buf_init(struct buf *b, size_t size_max);
void buf_deinit(struct buf *b);
void buf_cleanup(struct buf *b);
#define CLEANUP_BUF __attribute__((cleanup(buf_cleanup)))

/* Makes the content empty and keeps the memory. */
void buf_clear(struct buf *b);
int buf_append(struct buf *b, const void *mem, size_t size) MUST_CHECK;
int buf_append_str(struct buf *b, const char *s) MUST_CHECK;
int buf_printf(struct buf *b, const char *format, ...) PRINTF(2, 3) MUST_CHECK;
/* Makes room for size more bytes and returns where they go, or NULL when that exceeds the maximum.
 * The caller then sets b->size itself through buf_commit. */
uint8_t *buf_reserve(struct buf *b, size_t size);
void buf_commit(struct buf *b, size_t size);
/* Removes the first size bytes. O(size of the rest). */
void buf_consume(struct buf *b, size_t size);
/* Content as a C string, "" when empty. */
const char *buf_str(const struct buf *b);
/* Reads fd to its end. -ERR_TOO_BIG when it holds more than the maximum. */
int buf_read_all(struct buf *b, int fd, struct err *e) MUST_CHECK;
/* Reads a whole file; the error names path. */
int buf_read_file(struct buf *b, const char *path, struct err *e) MUST_CHECK;
/* Writes a small file of ours (0600) so that after a crash either the old or the new one is there.
 */
int buf_replace_file(const char *directory, const char *name, const char *text,
                     struct err *e) MUST_CHECK;

#endif
