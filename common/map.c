#include "common/map.h"

#include <stdlib.h>

#include "common/assert.h"
#include "common/mem.h"

enum { CAPACITY_MIN = 16 };

void map_deinit(struct map *m)
{
    free(m->slots);
    *m = (struct map){ 0 };
}

void *map_find(const struct map *m, uint64_t hash, map_match_fn *match, const void *key)
{
    if (m->count == 0)
        return NULL;
    size_t mask = m->capacity - 1;
    for (size_t i = hash & mask; m->slots[i].value != NULL; i = (i + 1) & mask) {
        if (m->slots[i].hash == hash && match(m->slots[i].value, key))
            return m->slots[i].value;
    }
    return NULL;
}

static void place(struct map *m, uint64_t hash, void *value)
{
    size_t mask = m->capacity - 1, i = hash & mask;

    while (m->slots[i].value != NULL)
        i = (i + 1) & mask;
    m->slots[i] = (struct map_slot){ hash, value };
}

static void resize(struct map *m, size_t capacity)
{
    struct map old = *m;

    m->slots = xcalloc(capacity, sizeof(*m->slots));
    m->capacity = capacity;
    for (size_t i = 0; i < old.capacity; i++) {
        if (old.slots[i].value != NULL)
            place(m, old.slots[i].hash, old.slots[i].value);
    }
    free(old.slots);
}

void map_reserve(struct map *m, size_t count)
{
    size_t capacity = MAX(m->capacity, (size_t)CAPACITY_MIN);

    ASSERT(count < SIZE_MAX / 4);
    while (count > capacity / 4 * 3)
        capacity *= 2;
    if (capacity > m->capacity)
        resize(m, capacity);
}

void map_add(struct map *m, uint64_t hash, void *value)
{
    ASSERT(value != NULL);
    map_reserve(m, m->count + 1);
    place(m, hash, value);
    m->count++;
}

/* Moves later values of the same run back into the hole (Knuth 6.4, algorithm R), so that there
 * are no tombstones to clean up. */
static void close_hole(struct map *m, size_t hole)
{
    size_t mask = m->capacity - 1;

    for (size_t i = (hole + 1) & mask; m->slots[i].value != NULL; i = (i + 1) & mask) {
        size_t home = m->slots[i].hash & mask;

        if (((i - home) & mask) >= ((i - hole) & mask)) {
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole] = (struct map_slot){ 0 };
}

void map_remove(struct map *m, uint64_t hash, const void *value)
{
    size_t mask = m->capacity - 1, i = hash & mask;

    ASSERT(m->count > 0);
    while (m->slots[i].value != value) {
        ASSERT(m->slots[i].value != NULL);
        i = (i + 1) & mask;
    }
    close_hole(m, i);
    m->count--;
    if (m->capacity > CAPACITY_MIN && m->count < m->capacity / 16)
        resize(m, m->capacity / 4);
}

void *map_each(const struct map *m, size_t *at)
{
    while (*at < m->capacity) {
        void *value = m->slots[(*at)++].value;

        if (value != NULL)
            return value;
    }
    return NULL;
}
