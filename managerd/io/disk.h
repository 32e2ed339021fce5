/* The files of one state directory. Everything that managerd keeps durably goes through here, so
 * that each step has one name, one error text and one place where a test can make it fail.
 *
 * -ERR_NO_SPACE also stands for a lack of descriptors or kernel memory: both pass.
 *
 * The directory must be a real one (no symlink), ours and closed to others (0700); its files are
 * 0600. One process holds it at a time (flock on `lock`).
 *
 * Rules kept by callers: a created or renamed file exists after disk_sync_dir() only; a failed sync
 * is never tried again, because kernels mark the pages clean (Rebello et al., ATC'20): the process
 * ends, and the next start reads the tail past the page cache.
 *
 * Threads: the disk thread, or the loop thread before that one starts. */
#ifndef SKEP_MANAGERD_IO_DISK_H
#define SKEP_MANAGERD_IO_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/mem.h"

enum { DISK_NAME_BYTES_MAX = 64, DISK_FILES_MAX = 65536 };

struct disk;

enum disk_op {
    DISK_CREATE,
    DISK_OPEN,
    DISK_READ,
    DISK_WRITE,
    DISK_ALLOCATE,
    DISK_TRUNCATE,
    DISK_SYNC,
    DISK_RENAME,
    DISK_REMOVE,
    DISK_SYNC_DIR,
};

/* One operation, as seen by a hook before it happens. */
struct disk_call {
    enum disk_op op;
    const char *name; /* "" for DISK_SYNC_DIR */
    const char *to;   /* DISK_RENAME only, else NULL */
    uint64_t offset;
    const void *data; /* DISK_WRITE only, else NULL */
    uint64_t size;    /* bytes written, allocated or left by a truncation */
};
/* Returns 0 to let it happen or an errno value to fail it. With an error a write first stores
 * *write_size bytes (0 unless the hook sets it): a torn write. Runs on the caller's thread. */
typedef int disk_hook_fn(void *ctx, const struct disk_call *call, uint64_t *write_size);

struct disk_options {
    const char *path;
    bool create; /* makes the directory (not its parents) when it is missing */
    disk_hook_fn *hook;
    void *hook_ctx;
};

/* -ERR_NOT_FOUND; -ERR_PERMISSION for a symlink, a foreign owner or open modes; -ERR_BUSY when
 * another process has it. */
int disk_open(const struct disk_options *o, struct disk **ret_disk, struct err *e) MUST_CHECK;
void disk_close(struct disk *d);
const char *disk_path(const struct disk *d);

/* True when the directory at path, which need not be open, has such a file. */
bool disk_exists(const char *path, const char *name);

/* Names of the regular files, sorted, without `lock`; free with disk_names_free. */
struct disk_names {
    char (*names)[DISK_NAME_BYTES_MAX];
    size_t count;
};
int disk_list(struct disk *d, struct disk_names *ret_names, struct err *e) MUST_CHECK;
void disk_names_free(struct disk_names *n);

struct disk_file {
    struct disk *disk;
    int fd; /* -1: closed */
    char name[DISK_NAME_BYTES_MAX];
};

/* A new, empty file; an old one of that name is replaced. */
int disk_file_create(struct disk *d, const char *name, struct disk_file *ret_file,
                     struct err *e) MUST_CHECK;
/* -ERR_NOT_FOUND; -ERR_PERMISSION as for the directory. */
int disk_file_open(struct disk *d, const char *name, struct disk_file *ret_file,
                   struct err *e) MUST_CHECK;
void disk_file_close(struct disk_file *f);
int disk_file_size(struct disk_file *f, uint64_t *ret_size, struct err *e) MUST_CHECK;
/* Writes all of it. -ERR_NO_SPACE: some of it may be there. */
int disk_file_write(struct disk_file *f, uint64_t offset, const void *data, size_t size,
                    struct err *e) MUST_CHECK;
/* Where it lies: inode numbers of the file and of its directory. A copy lies elsewhere. */
int disk_file_place(struct disk_file *f, uint64_t *ret_file, uint64_t *ret_dir,
                    struct err *e) MUST_CHECK;
/* Reads exactly size bytes; -ERR_CORRUPT when the file ends before. */
int disk_file_read(struct disk_file *f, uint64_t offset, void *mem, size_t size,
                   struct err *e) MUST_CHECK;
/* Makes the file size bytes of zeros with every block reserved on disk. */
int disk_file_allocate(struct disk_file *f, uint64_t size, struct err *e) MUST_CHECK;
int disk_file_truncate(struct disk_file *f, uint64_t size, struct err *e) MUST_CHECK;
/* fdatasync. Any failure is -ERR_IO and fatal. */
int disk_file_sync(struct disk_file *f, struct err *e) MUST_CHECK;

int disk_rename(struct disk *d, const char *from, const char *to, struct err *e) MUST_CHECK;
/* Removing what is not there succeeds. The result may be ignored where a leftover does no harm. */
int disk_remove(struct disk *d, const char *name, struct err *e);
int disk_sync_dir(struct disk *d, struct err *e) MUST_CHECK;

struct disk_bytes {
    uint8_t *mem; /* free() */
    size_t size;
};
/* A whole file as the disk holds it: synced first, then read past the page cache where the file
 * system allows (O_DIRECT), so that pages which a failed sync left clean do not deceive us.
 * -ERR_TOO_BIG above size_max. */
int disk_read_whole(struct disk *d, const char *name, size_t size_max, struct disk_bytes *ret_bytes,
                    struct err *e) MUST_CHECK;
/* Writes a small file so that after a crash either the old or the new one is there. */
int disk_replace(struct disk *d, const char *name, const void *data, size_t size,
                 struct err *e) MUST_CHECK;

#endif
