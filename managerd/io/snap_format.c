#include "managerd/io/snap_format.h"

#include <inttypes.h>
#include <string.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "managerd/io/bytes.h"
#include "managerd/raft/codec.h"

enum {
    FORMAT_VERSION = 1,
    AT_CLUSTER = 72,
    AT_NODE = 136,
    AT_HEADER_CRC = SNAP_HEADER_BYTES - 4,
    VOUCHED_BYTES = SNAP_PIECE_HEADER_BYTES - 4 + SEAL_DIGEST_BYTES,
};

static const char magic[8] = { 'S', 'K', 'E', 'P', 'S', 'N', 'P', '\n' };

void snap_header_encode(const struct snap_header *h, uint8_t mem[SNAP_HEADER_BYTES])
{
    memset(mem, 0, SNAP_HEADER_BYTES);
    memcpy(mem, magic, sizeof(magic));
    put_u32(mem + 8, FORMAT_VERSION);
    put_u32(mem + 12, h->key_id);
    put_u32(mem + 16, h->meta_size);
    put_u64(mem + 24, h->index);
    put_u64(mem + 32, h->term);
    memcpy(mem + 40, h->salt, SEAL_SALT_BYTES);
    memcpy(mem + AT_CLUSTER, h->cluster_id, sizeof(h->cluster_id));
    memcpy(mem + AT_NODE, h->node_id, sizeof(h->node_id));
    put_u32(mem + AT_HEADER_CRC, crc32c(0, mem, AT_HEADER_CRC));
}

int snap_header_decode(const uint8_t mem[SNAP_HEADER_BYTES], struct snap_header *ret_h)
{
    struct snap_header h = { 0 };

    if (memcmp(mem, magic, sizeof(magic)) != 0 ||
        get_u32(mem + AT_HEADER_CRC) != crc32c(0, mem, AT_HEADER_CRC))
        return -ERR_CORRUPT;
    if (get_u32(mem + 8) != FORMAT_VERSION)
        return -ERR_UNSUPPORTED;
    h.key_id = get_u32(mem + 12);
    h.meta_size = get_u32(mem + 16);
    h.index = get_u64(mem + 24);
    h.term = get_u64(mem + 32);
    memcpy(h.salt, mem + 40, SEAL_SALT_BYTES);
    memcpy(h.cluster_id, mem + AT_CLUSTER, sizeof(h.cluster_id));
    memcpy(h.node_id, mem + AT_NODE, sizeof(h.node_id));
    if (h.cluster_id[SNAP_ID_BYTES_MAX] != '\0' || h.node_id[SNAP_ID_BYTES_MAX] != '\0' ||
        h.meta_size > SNAP_META_BYTES_MAX)
        return -ERR_CORRUPT;
    *ret_h = h;
    return 0;
}

void snap_cipher_init(struct snap_cipher *c, const struct snap_header *h,
                      const uint8_t mem[SNAP_HEADER_BYTES], const uint8_t key[SEAL_KEY_BYTES])
{
    struct seal_scope scope = { .purpose = "snapshot",
                                .cluster_id = h->cluster_id,
                                .node_id = h->node_id,
                                .number = h->index };

    memcpy(scope.salt, h->salt, SEAL_SALT_BYTES);
    c->seal = seal_new(key, &scope);
    seal_digest_of(mem, SNAP_HEADER_BYTES, c->header_digest);
}

void snap_cipher_deinit(struct snap_cipher *c)
{
    seal_free(c->seal);
    c->seal = NULL;
}

static void fill_vouched(const struct snap_cipher *c, const uint8_t *head, uint8_t *vouched)
{
    memcpy(vouched, head + 4, SNAP_PIECE_HEADER_BYTES - 4);
    memcpy(vouched + SNAP_PIECE_HEADER_BYTES - 4, c->header_digest, SEAL_DIGEST_BYTES);
}

void snap_piece_encode(struct snap_cipher *c, struct snap_piece_name name, const void *data,
                       size_t size, uint8_t *out)
{
    uint8_t vouched[VOUCHED_BYTES], *body = out + SNAP_PIECE_HEADER_BYTES;
    struct seal_box box = { name.number, vouched, sizeof(vouched), data, size };

    put_u32(out + 4, (uint32_t)size);
    put_u32(out + 8, (uint32_t)name.type);
    put_u64(out + 12, name.number);
    fill_vouched(c, out, vouched);
    seal_close(c->seal, &box, body, body + size);
    put_u32(out, crc32c(0, out + 4, snap_piece_bytes(size) - 4));
}

int snap_piece_decode(struct snap_cipher *c, struct snap_piece_name name, uint8_t *mem, size_t size,
                      uint8_t **ret_data)
{
    uint8_t vouched[VOUCHED_BYTES], *data = mem + SNAP_PIECE_HEADER_BYTES;

    if (size < snap_piece_bytes(0) || get_u32(mem) != crc32c(0, mem + 4, size - 4))
        return -ERR_CORRUPT;
    size_t data_size = size - snap_piece_bytes(0);
    if (get_u32(mem + 4) != data_size || get_u32(mem + 8) != (uint32_t)name.type ||
        get_u64(mem + 12) != name.number)
        return -ERR_CORRUPT;
    struct seal_box box = { name.number, vouched, sizeof(vouched), data, data_size };
    fill_vouched(c, mem, vouched);
    int rc = seal_open(c->seal, &box, data, data + data_size);
    if (rc == 0)
        *ret_data = data;
    return rc;
}

void snap_file_name(uint64_t index, uint64_t term, char name[DISK_NAME_BYTES_MAX])
{
    (void)snprintf(name, DISK_NAME_BYTES_MAX, "snap-%016" PRIx64 "-%016" PRIx64, index, term);
}

void snap_temporary_name(const char *what, char name[DISK_NAME_BYTES_MAX])
{
    int size = snprintf(name, DISK_NAME_BYTES_MAX, "snap.%s.tmp", what);

    ASSERT(size < DISK_NAME_BYTES_MAX);
}

int snap_meta_pack(const struct snap_meta *m, struct buf *b)
{
    uint8_t generation[8];

    put_u64(generation, m->generation);
    int rc = buf_append(b, generation, sizeof(generation));
    return rc < 0 ? rc : raft_snapshot_meta_pack(&m->raft, b);
}

int snap_meta_unpack(const uint8_t *mem, size_t size, struct snap_meta *ret_m)
{
    if (size < 8)
        return -ERR_CORRUPT;
    int rc = raft_snapshot_meta_unpack(mem + 8, size - 8, &ret_m->raft, NULL);
    ret_m->generation = get_u64(mem);
    return rc < 0 ? -ERR_CORRUPT : 0;
}
