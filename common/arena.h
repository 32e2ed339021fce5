/* A bump allocator for one request or one loop iteration: everything is freed at once. Memory comes
 * zeroed. Building a protobuf answer out of borrowed store objects and arena arrays needs no copy
 * of the objects. */
#ifndef SKEP_COMMON_ARENA_H
#define SKEP_COMMON_ARENA_H

#include <stddef.h>

#include "common/mem.h"

struct arena_block;
struct arena {
    struct arena_block *blocks;
};

void arena_deinit(struct arena *a);
/* Empties the arena and keeps its largest block for the next use. */
void arena_reset(struct arena *a);
#define CLEANUP_ARENA __attribute__((cleanup(arena_deinit)))

/* Aligned for any type. Never NULL. */
void *arena_alloc(struct arena *a, size_t size);
void *arena_array(struct arena *a, size_t count, size_t size);
void *arena_dup(struct arena *a, const void *mem, size_t size);
char *arena_strdup(struct arena *a, const char *s);
char *arena_printf(struct arena *a, const char *format, ...) PRINTF(2, 3);
#define ARENA_NEW(a, type) ((type *)arena_alloc((a), sizeof(type)))

#endif
