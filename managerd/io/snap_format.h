/* The bytes of a snapshot file's header and pieces; see snapfile.h. Only snap_*.c include this. */
#ifndef SKEP_MANAGERD_IO_SNAP_FORMAT_H
#define SKEP_MANAGERD_IO_SNAP_FORMAT_H

#include "common/buf.h"
#include "managerd/io/snapfile.h"

enum {
    SNAP_HEADER_BYTES = 512,
    SNAP_PIECE_HEADER_BYTES = 20,
    SNAP_PIECE_BYTES_MAX = SNAP_PIECE_HEADER_BYTES + SNAP_CHUNK_BYTES + SEAL_TAG_BYTES,
    SNAP_FOOTER_DATA_BYTES = 8 + SEAL_DIGEST_BYTES,
    SNAP_FOOTER_BYTES = SNAP_PIECE_HEADER_BYTES + SNAP_FOOTER_DATA_BYTES + SEAL_TAG_BYTES,
    SNAP_ID_BYTES_MAX = 63,
};

enum snap_piece_type { SNAP_META = 1, SNAP_CHUNK = 2, SNAP_FOOTER = 3 };

struct snap_header {
    uint32_t key_id;
    uint32_t meta_size; /* data of the meta piece */
    uint64_t index;
    uint64_t term;
    uint8_t salt[SEAL_SALT_BYTES];
    char cluster_id[SNAP_ID_BYTES_MAX + 1];
    char node_id[SNAP_ID_BYTES_MAX + 1];
};

void snap_header_encode(const struct snap_header *h, uint8_t mem[SNAP_HEADER_BYTES]);
/* -ERR_CORRUPT, -ERR_UNSUPPORTED. */
int snap_header_decode(const uint8_t mem[SNAP_HEADER_BYTES], struct snap_header *ret_h) MUST_CHECK;

struct snap_cipher {
    struct seal *seal;
    uint8_t header_digest[SEAL_DIGEST_BYTES]; /* vouched for by every piece */
};
void snap_cipher_init(struct snap_cipher *c, const struct snap_header *h,
                      const uint8_t mem[SNAP_HEADER_BYTES], const uint8_t key[SEAL_KEY_BYTES]);
void snap_cipher_deinit(struct snap_cipher *c);

struct snap_piece_name {
    enum snap_piece_type type;
    uint64_t number; /* meta 0, chunks 1…, then the footer */
};
static inline size_t snap_piece_bytes(size_t data_size)
{
    return SNAP_PIECE_HEADER_BYTES + data_size + SEAL_TAG_BYTES;
}
/* Seals size bytes of data into out (snap_piece_bytes(size) long). */
void snap_piece_encode(struct snap_cipher *c, struct snap_piece_name name, const void *data,
                       size_t size, uint8_t *out);
/* Opens the piece in mem in place; *ret_data points into it. The piece must fill size bytes.
 * -ERR_CORRUPT. */
int snap_piece_decode(struct snap_cipher *c, struct snap_piece_name name, uint8_t *mem, size_t size,
                      uint8_t **ret_data) MUST_CHECK;

/* "snap-<index>-<term>" */
void snap_file_name(uint64_t index, uint64_t term, char name[DISK_NAME_BYTES_MAX]);
/* "snap.<what>.tmp" */
void snap_temporary_name(const char *what, char name[DISK_NAME_BYTES_MAX]);

/* The meta piece's data. */
int snap_meta_pack(const struct snap_meta *m, struct buf *b) MUST_CHECK;
int snap_meta_unpack(const uint8_t *mem, size_t size, struct snap_meta *ret_m) MUST_CHECK;

#endif
