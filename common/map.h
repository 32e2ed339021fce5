/* A hash table of pointers. Values carry their own keys: the caller hashes (common/hash.h) and says
 * when a value has the wanted key. Open addressing with the hash beside each pointer, so a lookup
 * touches one line of the table and the value itself. Iteration order means nothing: never let it
 * reach a decision. Zero-initialised is empty. Not across threads. */
#ifndef SKEP_COMMON_MAP_H
#define SKEP_COMMON_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_slot {
    uint64_t hash;
    void *value; /* NULL: free */
};

struct map {
    struct map_slot *slots;
    size_t capacity; /* a power of two, or 0 */
    size_t count;
};

typedef bool map_match_fn(const void *value, const void *key);

/* The values stay; they belong to the caller. */
void map_deinit(struct map *m);
void *map_find(const struct map *m, uint64_t hash, map_match_fn *match, const void *key);
/* value must not be in the map yet; one hash may hold several values. */
void map_add(struct map *m, uint64_t hash, void *value);
/* Removes exactly this pointer; it must be in the map (asserted). */
void map_remove(struct map *m, uint64_t hash, const void *value);
/* Makes room for count values without growing on the way. */
void map_reserve(struct map *m, size_t count);
/* for (void *v = NULL; (v = map_each(m, &at)) != NULL;) with size_t at = 0; no changes meanwhile.
 */
void *map_each(const struct map *m, size_t *at);

#endif
