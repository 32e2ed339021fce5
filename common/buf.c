#include "common/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/assert.h"

void buf_init(struct buf *b, size_t size_max)
{
    *b = (struct buf)BUF_INIT(size_max);
}

void buf_deinit(struct buf *b)
{
    free(b->data);
    *b = (struct buf)BUF_INIT(b->size_max);
}

void buf_cleanup(struct buf *b)
{
    buf_deinit(b);
}

void buf_clear(struct buf *b)
{
    b->size = 0;
    if (b->data != NULL)
        b->data[0] = '\0';
}

uint8_t *buf_reserve(struct buf *b, size_t size)
{
    ASSERT(b->size <= b->size_max);
    if (size > b->size_max - b->size)
        return NULL;
    size_t needed = b->size + size + 1; /* the NUL is not counted in size_max */
    if (needed > b->capacity) {
        size_t capacity = MAX(needed, MIN(b->capacity * 2, b->size_max + 1));

        b->data = xrealloc(b->data, MAX(capacity, (size_t)64));
        b->capacity = MAX(capacity, (size_t)64);
    }
    return b->data + b->size;
}

void buf_commit(struct buf *b, size_t size)
{
    ASSERT(b->size + size < b->capacity);
    b->size += size;
    b->data[b->size] = '\0';
}

int buf_append(struct buf *b, const void *mem, size_t size)
{
    uint8_t *to = buf_reserve(b, size);

    if (to == NULL)
        return -ERR_TOO_BIG;
    if (size > 0)
        memcpy(to, mem, size);
    buf_commit(b, size);
    return 0;
}

int buf_append_str(struct buf *b, const char *s)
{
    return buf_append(b, s, strlen(s));
}

int buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);

    ASSERT(size >= 0);
    char *to = (char *)buf_reserve(b, (size_t)size);
    if (to == NULL)
        return -ERR_TOO_BIG;
    va_start(args, format);
    (void)vsnprintf(to, (size_t)size + 1, format, args);
    va_end(args);
    buf_commit(b, (size_t)size);
    return 0;
}

void buf_consume(struct buf *b, size_t size)
{
    ASSERT(size <= b->size);
    if (size == 0)
        return;
    memmove(b->data, b->data + size, b->size - size);
    b->size -= size;
    b->data[b->size] = '\0';
}

const char *buf_str(const struct buf *b)
{
    return b->data != NULL ? (const char *)b->data : "";
}

int buf_read_all(struct buf *b, int fd, struct err *e)
{
    for (;;) {
        size_t room = MIN(b->size_max - b->size, (size_t)65536);
        uint8_t extra, *to = room > 0 ? buf_reserve(b, room) : &extra;
        ssize_t got = read(fd, to, room > 0 ? room : 1);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(e, errno, "read");
        if (got == 0)
            return 0;
        if (room == 0)
            return err_set(e, ERR_TOO_BIG, "more than %zu bytes", b->size_max);
        buf_commit(b, (size_t)got);
    }
}

int buf_read_file(struct buf *b, const char *path, struct err *e)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_errno(e, errno, "open %s", path);
    int rc = buf_read_all(b, fd, e);
    return rc < 0 ? err_wrap(e, rc, "%s", path) : 0;
}
