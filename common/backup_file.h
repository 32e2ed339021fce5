/* A backup of the replicated store in one file, written by ctl and read by managerd restore.
 *
 *   file   := header (64 bytes) body SHA-256 (32 bytes, of everything before)
 *   header := "SKEPBKUP", format (4), header bytes (4), store version (8), created (8, ns since
 * 1970), cluster id (32, zero padded); little endian
 *
 * The body is the store's snapshot. It holds the root CA's key, join tokens and secrets: the file
 * is made 0600, and appears under its name only when it is complete and durable. One thread. */
#ifndef SKEP_COMMON_BACKUP_FILE_H
#define SKEP_COMMON_BACKUP_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/id.h"
#include "common/mem.h"

enum { BACKUP_HEADER_BYTES = 64, BACKUP_DIGEST_BYTES = 32 };

struct backup_header {
    uint64_t version; /* of the store */
    int64_t created_ns;
    struct id cluster_id;
};

struct backup_writer;

/* Begins a file beside path, which stays as it is until the commit. */
int backup_writer_new(const char *path, const struct backup_header *h,
                      struct backup_writer **ret_writer, struct err *e) MUST_CHECK;
int backup_writer_add(struct backup_writer *w, const void *mem, size_t size,
                      struct err *e) MUST_CHECK;
/* Appends the digest and gives the file its name, durably. Frees w in any case; *ret_size: bytes of
 * the whole file. */
int backup_writer_commit(struct backup_writer *w, uint64_t *ret_size, struct err *e) MUST_CHECK;
/* Removes what was written. NULL is allowed. */
void backup_writer_abort(struct backup_writer *w);

/* Returns 0 or -ERR_* with e set to stop. */
typedef int backup_feed_fn(void *ctx, const uint8_t *mem, size_t size, struct err *e);
/* Verifies the whole file, then hands out the body in pieces. -ERR_NOT_FOUND; -ERR_CORRUPT when it
 * is no backup, damaged or cut off; -ERR_UNSUPPORTED for a newer format. */
int backup_file_read(const char *path, struct backup_header *ret_header, backup_feed_fn *feed,
                     void *ctx, struct err *e) MUST_CHECK;

#endif
