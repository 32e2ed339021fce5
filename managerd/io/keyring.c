#include "managerd/io/keyring.h"

#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "common/random.h"
#include "managerd/io/bytes.h"

/* File: magic 8, version 4, flags 4, unlock key version 8, salt 32, key count 4, reserved 4,
 * key count times {id 4, key 32}, tag 16, CRC-32C of all before 4. */
enum {
    FORMAT_VERSION = 1,
    HEADER_BYTES = 64,
    KEY_BYTES = 4 + SEAL_KEY_BYTES,
    FILE_BYTES_MAX = HEADER_BYTES + KEYRING_KEYS_MAX * KEY_BYTES + SEAL_TAG_BYTES + 4,
    FLAG_SEALED = 1,
};

static const char file_name[] = "keyring";
static const char magic[8] = { 'S', 'K', 'E', 'P', 'K', 'E', 'Y', '\n' };

struct key {
    uint32_t id;
    uint8_t bytes[SEAL_KEY_BYTES];
};

struct keyring {
    struct disk *disk;
    struct key keys[KEYRING_KEYS_MAX]; /* ascending ids, the last is current */
    uint32_t key_count;
    bool sealed;
    uint8_t unlock_key[SEAL_KEY_BYTES];
    uint64_t unlock_version;
};

static struct seal *sealer(const struct keyring *k, const uint8_t *salt)
{
    struct seal_scope scope = {
        .purpose = "keyring", .cluster_id = "", .node_id = "", .number = k->unlock_version
    };

    memcpy(scope.salt, salt, SEAL_SALT_BYTES);
    return seal_new(k->unlock_key, &scope);
}

static struct seal_box box_of(const uint8_t *file, size_t body)
{
    return (struct seal_box){
        .vouched = file, .vouched_size = HEADER_BYTES, .data = file + HEADER_BYTES, .size = body
    };
}

/* Pages that hold keys stay out of core dumps; the kernel may lack the flag, which costs only that.
 */
static struct keyring *keyring_alloc(struct disk *d, const struct keyring_options *o)
{
    struct keyring *k =
        mmap(NULL, sizeof(*k), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    ASSERT(k != MAP_FAILED);
    (void)madvise(k, sizeof(*k), MADV_DONTDUMP);
    k->disk = d;
    if (o->unlock_key != NULL) {
        k->sealed = true;
        k->unlock_version = o->unlock_key_version;
        memcpy(k->unlock_key, o->unlock_key, SEAL_KEY_BYTES);
    }
    return k;
}

void keyring_free(struct keyring *k)
{
    if (k == NULL)
        return;
    explicit_bzero(k, sizeof(*k));
    (void)munmap(k, sizeof(*k)); /* an address we mapped */
}

static int store(struct keyring *k, struct err *e)
{
    uint8_t file[FILE_BYTES_MAX] = { 0 };
    size_t body = k->key_count * KEY_BYTES;

    memcpy(file, magic, sizeof(magic));
    put_u32(file + 8, FORMAT_VERSION);
    put_u32(file + 12, k->sealed ? FLAG_SEALED : 0);
    put_u64(file + 16, k->unlock_version);
    random_bytes(file + 24, SEAL_SALT_BYTES);
    put_u32(file + 56, k->key_count);
    for (uint32_t i = 0; i < k->key_count; i++) {
        uint8_t *at = file + HEADER_BYTES + i * KEY_BYTES;

        put_u32(at, k->keys[i].id);
        memcpy(at + 4, k->keys[i].bytes, SEAL_KEY_BYTES);
    }
    if (k->sealed) {
        struct seal *s = sealer(k, file + 24);
        struct seal_box box = box_of(file, body);

        seal_close(s, &box, file + HEADER_BYTES, file + HEADER_BYTES + body);
        seal_free(s);
    }
    size_t size = HEADER_BYTES + body + SEAL_TAG_BYTES;
    put_u32(file + size, crc32c(0, file, size));
    int rc = disk_replace(k->disk, file_name, file, size + 4, e);
    explicit_bzero(file, sizeof(file));
    return rc;
}

static int damaged(struct keyring *k, const char *what, struct err *e)
{
    return err_set(e, ERR_CORRUPT,
                   "%s/%s: %s; remedy: restore this file from a backup, or wipe this manager's "
                   "raft state and let it join again",
                   disk_path(k->disk), file_name, what);
}

/* Checks everything in front of the keys. */
static int check_header(struct keyring *k, const uint8_t *file, size_t size, struct err *e)
{
    if (size < HEADER_BYTES + KEY_BYTES + SEAL_TAG_BYTES + 4 ||
        memcmp(file, magic, sizeof(magic)) != 0)
        return damaged(k, "not a keyring", e);
    if (crc32c(0, file, size - 4) != get_u32(file + size - 4))
        return damaged(k, "checksum differs", e);
    if (get_u32(file + 8) != FORMAT_VERSION)
        return err_set(e, ERR_UNSUPPORTED, "%s/%s was written by a newer version",
                       disk_path(k->disk), file_name);
    uint32_t count = get_u32(file + 56);
    if (count == 0 || count > KEYRING_KEYS_MAX ||
        size != HEADER_BYTES + count * KEY_BYTES + SEAL_TAG_BYTES + 4)
        return damaged(k, "key count and size differ", e);
    bool sealed = (get_u32(file + 12) & FLAG_SEALED) != 0;
    if (sealed && !k->sealed)
        return err_set(e, ERR_PRECONDITION, "%s is locked and needs its unlock key",
                       disk_path(k->disk));
    k->sealed = sealed;
    k->unlock_version = get_u64(file + 16);
    k->key_count = count;
    return 0;
}

static int decode(struct keyring *k, uint8_t *file, size_t size, struct err *e)
{
    int rc = check_header(k, file, size, e);

    if (rc < 0)
        return rc;
    size_t body = k->key_count * KEY_BYTES;
    if (k->sealed) {
        struct seal *s = sealer(k, file + 24);
        struct seal_box box = box_of(file, body);

        rc = seal_open(s, &box, file + HEADER_BYTES, file + HEADER_BYTES + body);
        seal_free(s);
        if (rc < 0)
            return err_set(e, ERR_PERMISSION, "wrong unlock key");
    }
    for (uint32_t i = 0; i < k->key_count; i++) {
        const uint8_t *at = file + HEADER_BYTES + i * KEY_BYTES;

        k->keys[i].id = get_u32(at);
        memcpy(k->keys[i].bytes, at + 4, SEAL_KEY_BYTES);
        if (k->keys[i].id == 0 || (i > 0 && k->keys[i].id != k->keys[i - 1].id + 1))
            return damaged(k, "key ids out of order", e);
    }
    return 0;
}

static void add_key(struct keyring *k)
{
    ASSERT(k->key_count < KEYRING_KEYS_MAX);
    struct key *key = &k->keys[k->key_count];
    key->id = k->key_count > 0 ? k->keys[k->key_count - 1].id + 1 : 1;
    random_bytes(key->bytes, SEAL_KEY_BYTES);
    k->key_count++;
}

static int file_exists(struct disk *d, bool *ret_exists, struct err *e)
{
    struct disk_file f;
    int rc = disk_file_open(d, file_name, &f, e);

    if (rc == 0)
        disk_file_close(&f);
    if (rc < 0 && rc != -ERR_NOT_FOUND)
        return rc;
    *ret_exists = rc == 0;
    return 0;
}

int keyring_create(struct disk *d, const struct keyring_options *o, struct keyring **ret_keyring,
                   struct err *e)
{
    bool exists = false;
    int rc = file_exists(d, &exists, e);

    if (rc < 0)
        return rc;
    if (exists)
        return err_set(e, ERR_EXISTS, "%s/%s is there already", disk_path(d), file_name);
    struct keyring *k = keyring_alloc(d, o);
    add_key(k);
    rc = store(k, e);
    if (rc < 0) {
        keyring_free(k);
        return rc;
    }
    *ret_keyring = k;
    return 0;
}

int keyring_load(struct disk *d, const struct keyring_options *o, struct keyring **ret_keyring,
                 struct err *e)
{
    struct disk_bytes file;
    int rc = disk_read_whole(d, file_name, FILE_BYTES_MAX, &file, e);

    if (rc < 0)
        return rc;
    struct keyring *k = keyring_alloc(d, o);
    rc = decode(k, file.mem, file.size, e);
    xfree_secret(file.mem, file.size);
    if (rc < 0) {
        keyring_free(k);
        return rc;
    }
    *ret_keyring = k;
    return 0;
}

uint32_t keyring_current(const struct keyring *k)
{
    return k->keys[k->key_count - 1].id;
}

const uint8_t *keyring_key(const struct keyring *k, uint32_t id)
{
    for (uint32_t i = 0; i < k->key_count; i++) {
        if (k->keys[i].id == id)
            return k->keys[i].bytes;
    }
    return NULL;
}

uint64_t keyring_unlock_version(const struct keyring *k)
{
    return k->unlock_version;
}

bool keyring_locked(const struct keyring *k)
{
    return k->sealed;
}

int keyring_rotate(struct keyring *k, struct err *e)
{
    if (k->key_count == KEYRING_KEYS_MAX)
        return err_set(e, ERR_BUSY, "%d keys are still in use by files", KEYRING_KEYS_MAX);
    add_key(k);
    int rc = store(k, e);
    if (rc < 0)
        k->key_count--; /* no file may name a key that is not durable */
    return rc;
}

int keyring_retire(struct keyring *k, uint32_t oldest_in_use, struct err *e)
{
    struct keyring before = *k;
    uint32_t drop = 0;

    while (drop + 1 < k->key_count && k->keys[drop].id < oldest_in_use)
        drop++;
    if (drop == 0)
        return 0;
    k->key_count -= drop;
    memmove(k->keys, k->keys + drop, k->key_count * sizeof(k->keys[0]));
    explicit_bzero(k->keys + k->key_count, drop * sizeof(k->keys[0]));
    int rc = store(k, e);
    if (rc < 0)
        *k = before;
    explicit_bzero(&before, sizeof(before));
    return rc;
}

int keyring_rewrap(struct keyring *k, const struct keyring_options *o, struct err *e)
{
    struct keyring before = *k;

    if (o->unlock_key_version < k->unlock_version)
        return err_set(e, ERR_STALE, "unlock key version %" PRIu64 " is below %" PRIu64,
                       o->unlock_key_version, k->unlock_version);
    k->sealed = o->unlock_key != NULL;
    k->unlock_version = o->unlock_key_version;
    if (o->unlock_key != NULL)
        memcpy(k->unlock_key, o->unlock_key, SEAL_KEY_BYTES);
    else
        explicit_bzero(k->unlock_key, sizeof(k->unlock_key));
    int rc = store(k, e);
    if (rc < 0)
        *k = before;
    explicit_bzero(&before, sizeof(before));
    return rc;
}
