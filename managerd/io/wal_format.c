#include "managerd/io/wal_format.h"

#include <string.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "managerd/io/bytes.h"

enum {
    FORMAT_VERSION = 1,
    AT_CLUSTER = 80,
    AT_NODE = 144,
    AT_HEADER_CRC = WAL_HEADER_BYTES - 4,
    VOUCHED_BYTES = WAL_RECORD_HEADER_BYTES - 4 + 8 + SEAL_TAG_BYTES,
};

static const char magic[8] = { 'S', 'K', 'E', 'P', 'W', 'A', 'L', '\n' };

static_assert(AT_NODE - AT_CLUSTER == WAL_SCOPE_ID_BYTES_MAX + 1, "ids fit the header");
static_assert(AT_NODE + WAL_SCOPE_ID_BYTES_MAX + 1 <= AT_HEADER_CRC, "ids fit the header");

void wal_header_encode(const struct wal_header *h, uint8_t mem[WAL_HEADER_BYTES])
{
    memset(mem, 0, WAL_HEADER_BYTES);
    memcpy(mem, magic, sizeof(magic));
    put_u32(mem + 8, FORMAT_VERSION);
    put_u32(mem + 12, h->key_id);
    put_u64(mem + 16, h->sequence);
    put_u64(mem + 24, h->previous_end);
    memcpy(mem + 32, h->previous_tag, SEAL_TAG_BYTES);
    memcpy(mem + 48, h->salt, SEAL_SALT_BYTES);
    memcpy(mem + AT_CLUSTER, h->cluster_id, sizeof(h->cluster_id));
    memcpy(mem + AT_NODE, h->node_id, sizeof(h->node_id));
    put_u32(mem + AT_HEADER_CRC, crc32c(0, mem, AT_HEADER_CRC));
}

int wal_header_decode(const uint8_t mem[WAL_HEADER_BYTES], struct wal_header *ret_h)
{
    struct wal_header h = { 0 };

    if (memcmp(mem, magic, sizeof(magic)) != 0 ||
        get_u32(mem + AT_HEADER_CRC) != crc32c(0, mem, AT_HEADER_CRC))
        return -ERR_CORRUPT;
    if (get_u32(mem + 8) != FORMAT_VERSION)
        return -ERR_UNSUPPORTED;
    h.key_id = get_u32(mem + 12);
    h.sequence = get_u64(mem + 16);
    h.previous_end = get_u64(mem + 24);
    memcpy(h.previous_tag, mem + 32, SEAL_TAG_BYTES);
    memcpy(h.salt, mem + 48, SEAL_SALT_BYTES);
    memcpy(h.cluster_id, mem + AT_CLUSTER, sizeof(h.cluster_id));
    memcpy(h.node_id, mem + AT_NODE, sizeof(h.node_id));
    if (h.cluster_id[WAL_SCOPE_ID_BYTES_MAX] != '\0' || h.node_id[WAL_SCOPE_ID_BYTES_MAX] != '\0')
        return -ERR_CORRUPT;
    *ret_h = h;
    return 0;
}

void wal_cipher_init(struct wal_cipher *c, const struct wal_header *h,
                     const uint8_t mem[WAL_HEADER_BYTES], const uint8_t key[SEAL_KEY_BYTES])
{
    uint8_t digest[SEAL_DIGEST_BYTES];
    struct seal_scope scope = {
        .purpose = "wal", .cluster_id = h->cluster_id, .node_id = h->node_id, .number = h->sequence
    };

    memcpy(scope.salt, h->salt, SEAL_SALT_BYTES);
    c->seal = seal_new(key, &scope);
    seal_digest_of(mem, WAL_HEADER_BYTES, digest);
    memcpy(c->tag, digest, SEAL_TAG_BYTES);
}

void wal_cipher_deinit(struct wal_cipher *c)
{
    seal_free(c->seal);
    c->seal = NULL;
}

void wal_checkpoint_encode(const struct wal_checkpoint *c, uint8_t mem[WAL_CHECKPOINT_BYTES])
{
    put_u64(mem, c->hard_state.term);
    put_u64(mem + 8, c->hard_state.vote);
    put_u64(mem + 16, c->hard_state.incarnation);
    put_u64(mem + 24, c->hard_state.fenced);
    put_u64(mem + 32, c->snapshot_index);
    put_u64(mem + 40, c->snapshot_term);
    put_u64(mem + 48, c->last_index);
    put_u64(mem + 56, c->last_term);
}

void wal_checkpoint_decode(const uint8_t mem[WAL_CHECKPOINT_BYTES], struct wal_checkpoint *ret_c)
{
    *ret_c = (struct wal_checkpoint){
        .hard_state = { .term = get_u64(mem),
                        .vote = get_u64(mem + 8),
                        .incarnation = get_u64(mem + 16),
                        .fenced = get_u64(mem + 24) != 0 },
        .snapshot_index = get_u64(mem + 32),
        .snapshot_term = get_u64(mem + 40),
        .last_index = get_u64(mem + 48),
        .last_term = get_u64(mem + 56),
    };
}

void wal_state_encode(const struct raft_hard_state *h, uint8_t mem[WAL_STATE_BYTES])
{
    put_u64(mem, h->incarnation);
    mem[8] = h->fenced;
}

int wal_state_decode(const struct wal_record *r, struct raft_hard_state *ret_h)
{
    if (r->size != WAL_STATE_BYTES)
        return -ERR_CORRUPT;
    *ret_h = (struct raft_hard_state){ .term = r->term,
                                       .vote = r->index,
                                       .incarnation = get_u64(r->data),
                                       .fenced = r->data[8] != 0 };
    return 0;
}

size_t wal_record_bytes(size_t size)
{
    size_t bytes = WAL_RECORD_HEADER_BYTES + size + SEAL_TAG_BYTES;

    return (bytes + WAL_RECORD_ALIGN - 1) / WAL_RECORD_ALIGN * WAL_RECORD_ALIGN;
}

/* What the tag vouches for besides the data; head is the record's encoded header. */
static void fill_vouched(const struct wal_cipher *c, uint64_t offset, const uint8_t *head,
                         uint8_t vouched[VOUCHED_BYTES])
{
    size_t used = WAL_RECORD_HEADER_BYTES - 4;

    memcpy(vouched, head + 4, used); /* all but the CRC */
    put_u64(vouched + used, offset);
    memcpy(vouched + used + 8, c->tag, SEAL_TAG_BYTES);
}

void wal_record_encode(struct wal_cipher *c, uint64_t offset, const struct wal_record *r,
                       uint8_t *out)
{
    size_t unpadded = WAL_RECORD_HEADER_BYTES + r->size + SEAL_TAG_BYTES;
    uint8_t vouched[VOUCHED_BYTES], *tag = out + WAL_RECORD_HEADER_BYTES + r->size;
    struct seal_box box = { r->nonce, vouched, sizeof(vouched), r->data, r->size };

    put_u32(out + 4, r->size);
    put_u32(out + 8, (uint32_t)r->type | (uint32_t)r->entry_type << 8);
    put_u32(out + 12, r->durable);
    put_u64(out + 16, r->nonce);
    put_u64(out + 24, r->index);
    put_u64(out + 32, r->term);
    fill_vouched(c, offset, out, vouched);
    seal_close(c->seal, &box, out + WAL_RECORD_HEADER_BYTES, tag);
    memcpy(c->tag, tag, SEAL_TAG_BYTES);
    memset(out + unpadded, 0, wal_record_bytes(r->size) - unpadded);
    put_u32(out, crc32c(0, out + 4, wal_record_bytes(r->size) - 4));
}

bool wal_record_intact(const uint8_t *mem, size_t size, struct wal_record *ret_r)
{
    if (size < WAL_RECORD_HEADER_BYTES + SEAL_TAG_BYTES)
        return false;
    uint32_t data_size = get_u32(mem + 4), type = get_u32(mem + 8);
    if (data_size > WAL_SEGMENT_BYTES_MAX || wal_record_bytes(data_size) > size)
        return false;
    if (get_u32(mem) != crc32c(0, mem + 4, wal_record_bytes(data_size) - 4) || type == 0)
        return false;
    *ret_r = (struct wal_record){
        .type = type & 0xff,
        .entry_type = (uint8_t)(type >> 8),
        .durable = get_u32(mem + 12),
        .nonce = get_u64(mem + 16),
        .index = get_u64(mem + 24),
        .term = get_u64(mem + 32),
        .data = mem + WAL_RECORD_HEADER_BYTES,
        .size = data_size,
    };
    return true;
}

int wal_record_open(struct wal_cipher *c, uint64_t offset, uint8_t *mem, struct wal_record *r)
{
    uint8_t vouched[VOUCHED_BYTES], *data = mem + WAL_RECORD_HEADER_BYTES;
    struct seal_box box = { r->nonce, vouched, sizeof(vouched), data, r->size };

    ASSERT(r->data == data);
    fill_vouched(c, offset, mem, vouched);
    int rc = seal_open(c->seal, &box, data, data + r->size);
    if (rc < 0)
        return rc;
    memcpy(c->tag, data + r->size, SEAL_TAG_BYTES);
    return 0;
}
