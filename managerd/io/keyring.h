/* The data-encryption keys of one manager, in the file `keyring` of its state directory.
 *
 * Every WAL segment and snapshot names the key that it is sealed under. Rotation adds a key, which
 * new files use from then on; an old key is dropped when no file names it any more. With an unlock
 * key (autolock) the keys are sealed under it; without, they lie next to the data in a 0600 file
 * and protect a stolen snapshot or segment, not a stolen disk.
 *
 * Threads: the disk thread, or the loop thread before that one starts. */
#ifndef SKEP_MANAGERD_IO_KEYRING_H
#define SKEP_MANAGERD_IO_KEYRING_H

#include <stdbool.h>
#include <stdint.h>

#include "managerd/io/disk.h"
#include "managerd/io/seal.h"

enum { KEYRING_KEYS_MAX = 16 };

struct keyring;

struct keyring_options {
    const uint8_t *unlock_key;   /* SEAL_KEY_BYTES bytes, or NULL */
    uint64_t unlock_key_version; /* 0 without one */
};

/* Draws a first key and stores it. -ERR_EXISTS when the directory has a keyring. */
int keyring_create(struct disk *d, const struct keyring_options *o, struct keyring **ret_keyring,
                   struct err *e) MUST_CHECK;
/* -ERR_NOT_FOUND; -ERR_PRECONDITION when it is locked and no unlock key was given;
 * -ERR_PERMISSION for a wrong unlock key; -ERR_CORRUPT. */
int keyring_load(struct disk *d, const struct keyring_options *o, struct keyring **ret_keyring,
                 struct err *e) MUST_CHECK;
/* Wipes the keys from memory. NULL is allowed. */
void keyring_free(struct keyring *k);

/* The key that new files use. Ids grow by one with every rotation. */
uint32_t keyring_current(const struct keyring *k);
/* The key's bytes, or NULL when it is not kept (any more). */
const uint8_t *keyring_key(const struct keyring *k, uint32_t id);
uint64_t keyring_unlock_version(const struct keyring *k);
bool keyring_locked(const struct keyring *k);

/* Adds a key and makes it current; durable on return. -ERR_BUSY when KEYRING_KEYS_MAX are kept. */
int keyring_rotate(struct keyring *k, struct err *e) MUST_CHECK;
/* Drops the keys with an id below oldest_in_use. */
int keyring_retire(struct keyring *k, uint32_t oldest_in_use, struct err *e) MUST_CHECK;
/* Seals the keyring under another unlock key or, with NULL, none. -ERR_STALE for a version below
 * the present one. */
int keyring_rewrap(struct keyring *k, const struct keyring_options *o, struct err *e) MUST_CHECK;

#endif
