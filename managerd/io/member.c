#include "managerd/io/member.h"

#include <string.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "common/random.h"
#include "managerd/io/bytes.h"

/* File: magic 8, version 4, key id 4, salt 32, sealed {raft id, generation, inode of the file and
 * of the directory} 32, tag 16, CRC-32C 4. */
enum {
    FORMAT_VERSION = 1,
    HEADER_BYTES = 48,
    BODY_BYTES = 32,
    FILE_BYTES = HEADER_BYTES + BODY_BYTES + SEAL_TAG_BYTES + 4,
};

static const char file_name[] = "member";
static const char temporary_name[] = "member.tmp";
static const char magic[8] = { 'S', 'K', 'E', 'P', 'M', 'B', 'R', '\n' };

static int corrupt(const struct snap_store *s, const char *what, struct err *e)
{
    return err_set(e, ERR_CORRUPT,
                   "%s/member at offset 0: %s; remedy: remove this manager from the cluster, wipe "
                   "its raft state and let it join again",
                   disk_path(s->disk), what);
}

static struct seal *sealer(const struct snap_store *s, uint32_t key_id, const uint8_t *salt)
{
    struct seal_scope scope = { .purpose = "member",
                                .cluster_id = s->cluster_id,
                                .node_id = s->node_id };

    memcpy(scope.salt, salt, SEAL_SALT_BYTES);
    return seal_new(keyring_key(s->keyring, key_id), &scope);
}

static struct seal_box box_of(const uint8_t *file)
{
    return (struct seal_box){ .vouched = file,
                              .vouched_size = HEADER_BYTES,
                              .data = file + HEADER_BYTES,
                              .size = BODY_BYTES };
}

static int decode(const struct snap_store *s, uint8_t *file, struct err *e)
{
    if (memcmp(file, magic, sizeof(magic)) != 0 ||
        get_u32(file + FILE_BYTES - 4) != crc32c(0, file, FILE_BYTES - 4))
        return corrupt(s, "damaged", e);
    if (get_u32(file + 8) != FORMAT_VERSION)
        return err_set(e, ERR_UNSUPPORTED, "%s/member was written by a newer version",
                       disk_path(s->disk));
    if (keyring_key(s->keyring, get_u32(file + 12)) == NULL)
        return corrupt(s, "sealed under a key that the keyring does not hold", e);
    struct seal *seal = sealer(s, get_u32(file + 12), file + 16);
    struct seal_box box = box_of(file);
    int rc = seal_open(seal, &box, file + HEADER_BYTES, file + HEADER_BYTES + BODY_BYTES);
    seal_free(seal);
    return rc < 0 ? corrupt(s, "of another node or cluster", e) : 0;
}

int member_load(const struct snap_store *s, struct member *ret_member, bool *ret_moved,
                struct err *e)
{
    uint8_t file[FILE_BYTES];
    uint64_t at_file = 0, at_dir = 0;
    struct disk_file f;
    int rc = disk_file_open(s->disk, file_name, &f, e);

    if (rc < 0)
        return rc;
    rc = disk_file_read(&f, 0, file, sizeof(file), e);
    if (rc == -ERR_CORRUPT)
        rc = corrupt(s, "cut off", e);
    if (rc == 0)
        rc = disk_file_place(&f, &at_file, &at_dir, e);
    disk_file_close(&f);
    if (rc == 0)
        rc = decode(s, file, e);
    if (rc < 0)
        return rc;
    const uint8_t *body = file + HEADER_BYTES;
    *ret_member = (struct member){ get_u64(body), get_u64(body + 8) };
    *ret_moved = get_u64(body + 16) != at_file || get_u64(body + 24) != at_dir;
    return 0;
}

static void encode(const struct snap_store *s, const struct member *m, const uint64_t place[2],
                   uint8_t file[FILE_BYTES])
{
    uint32_t key_id = keyring_current(s->keyring);

    memcpy(file, magic, sizeof(magic));
    put_u32(file + 8, FORMAT_VERSION);
    put_u32(file + 12, key_id);
    random_bytes(file + 16, SEAL_SALT_BYTES);
    put_u64(file + HEADER_BYTES, m->raft_id);
    put_u64(file + HEADER_BYTES + 8, m->generation);
    put_u64(file + HEADER_BYTES + 16, place[0]);
    put_u64(file + HEADER_BYTES + 24, place[1]);
    struct seal *seal = sealer(s, key_id, file + 16);
    struct seal_box box = box_of(file);
    seal_close(seal, &box, file + HEADER_BYTES, file + HEADER_BYTES + BODY_BYTES);
    seal_free(seal);
    put_u32(file + FILE_BYTES - 4, crc32c(0, file, FILE_BYTES - 4));
}

int member_store(const struct snap_store *s, const struct member *m, struct err *e)
{
    uint8_t file[FILE_BYTES];
    uint64_t place[2];
    struct disk_file f;
    int rc = disk_file_create(s->disk, temporary_name, &f, e);

    if (rc < 0)
        return rc;
    rc = disk_file_place(&f, &place[0], &place[1], e);
    if (rc == 0) {
        encode(s, m, place, file);
        rc = disk_file_write(&f, 0, file, sizeof(file), e);
    }
    if (rc == 0)
        rc = disk_file_sync(&f, e);
    disk_file_close(&f);
    if (rc == 0)
        rc = disk_rename(s->disk, temporary_name, file_name, e);
    return rc == 0 ? disk_sync_dir(s->disk, e) : rc;
}

bool member_exists(const char *directory)
{
    return disk_exists(directory, file_name);
}
