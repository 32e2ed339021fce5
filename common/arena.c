#include "common/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/assert.h"

/* Blocks double, so that large uses take few of them. */
enum { BLOCK_BYTES_MIN = 4096, BLOCK_BYTES_MAX = 1 << 18 };

struct arena_block {
    struct arena_block *next;
    size_t used, size;
    _Alignas(max_align_t) uint8_t data[];
};

void arena_deinit(struct arena *a)
{
    while (a->blocks != NULL) {
        struct arena_block *next = a->blocks->next;

        free(a->blocks);
        a->blocks = next;
    }
}

void arena_reset(struct arena *a)
{
    struct arena_block *kept = NULL;

    for (struct arena_block *b = a->blocks, *next; b != NULL; b = next) {
        next = b->next;
        if (kept == NULL || b->size > kept->size) {
            free(kept);
            kept = b;
        } else {
            free(b);
        }
    }
    if (kept != NULL) {
        memset(kept->data, 0, kept->used);
        kept->used = 0;
        kept->next = NULL;
    }
    a->blocks = kept;
}

void *arena_alloc(struct arena *a, size_t size)
{
    size_t need = (size + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);
    struct arena_block *b = a->blocks;

    if (b == NULL || b->size - b->used < need) {
        size_t grown = b == NULL ? BLOCK_BYTES_MIN : MIN(b->size * 2, (size_t)BLOCK_BYTES_MAX);
        size_t bytes = MAX(need, grown);

        b = xcalloc(1, sizeof(*b) + bytes);
        b->size = bytes;
        b->next = a->blocks;
        a->blocks = b;
    }
    void *mem = b->data + b->used;
    b->used += need;
    return mem;
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    ASSERT(size > 0 && count <= SIZE_MAX / 2 / size);
    return arena_alloc(a, count * size);
}

void *arena_dup(struct arena *a, const void *mem, size_t size)
{
    void *copy = arena_alloc(a, size);

    if (size > 0)
        memcpy(copy, mem, size);
    return copy;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_dup(a, s, strlen(s) + 1);
}

char *arena_printf(struct arena *a, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);

    ASSERT(size >= 0);
    char *text = arena_alloc(a, (size_t)size + 1);
    va_start(args, format);
    (void)vsnprintf(text, (size_t)size + 1, format, args);
    va_end(args);
    return text;
}
