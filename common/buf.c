#include "common/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/failpoint.h"

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
        b->data[b->size] = '\0'; /* also when nothing is committed: an empty file */
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

static int write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t put = write(fd, text, size);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -1;
        text += put;
        size -= (size_t)put;
    }
    return 0;
}

int buf_replace_file(const char *directory, const char *name, const char *text, struct err *e)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", directory, name);
    CLEANUP_FREE char *temporary = xasprintf("%s.%d.new", path, (int)getpid());
    CLEANUP_CLOSE int dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (dir_fd < 0)
        return err_errno(e, errno, "open %s", directory);
    (void)FAILPOINT("file.replace.before");
    CLEANUP_CLOSE int fd =
        open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(e, errno, "create %s", temporary);
    if (write_all(fd, text, strlen(text)) < 0 || fsync(fd) < 0 ||
        FAILPOINT("file.replace.written") != 0 || rename(temporary, path) < 0 ||
        fsync(dir_fd) < 0) {
        int errno_value = errno;

        (void)unlink(temporary); /* the error that matters is the first */
        return err_errno(e, errno_value, "write %s", path);
    }
    (void)FAILPOINT("file.replace.after");
    return 0;
}
