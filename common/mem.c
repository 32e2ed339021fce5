#include "common/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "common/assert.h"

static void *checked(void *mem)
{
    if (mem == NULL)
        assert_fail("out of memory", __FILE__, __LINE__);
    return mem;
}

void *xmalloc(size_t size)
{
    return checked(malloc(size > 0 ? size : 1));
}

void *xcalloc(size_t count, size_t size)
{
    return checked(calloc(count > 0 ? count : 1, size > 0 ? size : 1));
}

void *xrealloc(void *mem, size_t size)
{
    return checked(realloc(mem, size > 0 ? size : 1));
}

void *xrealloc_array(void *mem, size_t count, size_t size)
{
    ASSERT(size > 0);
    ASSERT(count <= SIZE_MAX / size);
    return xrealloc(mem, count * size);
}

char *xstrdup(const char *s)
{
    return xmemdup(s, strlen(s) + 1);
}

char *xstrndup(const char *s, size_t size)
{
    return checked(strndup(s, size));
}

char *xasprintf(const char *format, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    return checked(text);
}

void *xmemdup(const void *mem, size_t size)
{
    void *copy = xmalloc(size);

    if (size > 0)
        memcpy(copy, mem, size);
    return copy;
}

void xfree_secret(void *mem, size_t size)
{
    if (mem == NULL)
        return;
    explicit_bzero(mem, size);
    free(mem);
}

void mem_cleanup_free(void *pointer_to_pointer)
{
    void *mem;

    memcpy(&mem, pointer_to_pointer, sizeof(mem));
    free(mem);
}

void mem_cleanup_close(const int *fd)
{
    if (*fd >= 0)
        (void)close(*fd); /* nothing was promised about this file: errors have no reader */
}

void mem_cleanup_file(FILE **file)
{
    if (*file != NULL)
        (void)fclose(*file); /* readers only; writers close by hand and check */
}

int mem_take_fd(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}
