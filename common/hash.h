/* Hashes of short keys for tables in memory, and of long data for comparing copies of the store.
 * Not cryptographic. Independent of byte order and address, so that a seed reproduces. */
#ifndef SKEP_COMMON_HASH_H
#define SKEP_COMMON_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const void *mem, size_t size, uint64_t seed);
uint64_t hash_str(const char *s, uint64_t seed);
/* The same for texts that differ only in ASCII case; not the values of hash_str(). */
uint64_t hash_str_nocase(const char *s, uint64_t seed);
/* The first 8 characters as a number that sorts like the text: most comparisons of ids end here. */
uint64_t text_rank(const char *s);
uint64_t hash_u64(uint64_t value, uint64_t seed);

#endif
