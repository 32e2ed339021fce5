#include "common/backup_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <mbedtls/sha256.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/assert.h"

enum { FORMAT = 1, PIECE_BYTES = 256 << 10 };

static const char magic[8] = { 'S', 'K', 'E', 'P', 'B', 'K', 'U', 'P' };

struct backup_writer {
    char *path, *temporary;
    int fd;
    uint64_t size;
    mbedtls_sha256_context digest;
};

static void put(uint8_t *to, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *from, size_t bytes)
{
    uint64_t value = 0;

    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)from[i] << (8 * i);
    return value;
}

/* ---- writing ---- */

static int append(struct backup_writer *w, const uint8_t *mem, size_t size, struct err *e)
{
    while (size > 0) {
        ssize_t n = write(w->fd, mem, size);

        if (n < 0 && errno != EINTR)
            return err_errno(e, errno, "write %s", w->temporary);
        if (n < 0)
            continue;
        mem += n;
        size -= (size_t)n;
        w->size += (uint64_t)n;
    }
    return 0;
}

int backup_writer_add(struct backup_writer *w, const void *mem, size_t size, struct err *e)
{
    if (mbedtls_sha256_update_ret(&w->digest, mem, size) != 0)
        return err_set(e, ERR_INTERNAL, "SHA-256");
    return append(w, mem, size, e);
}

int backup_writer_new(const char *path, const struct backup_header *h,
                      struct backup_writer **ret_writer, struct err *e)
{
    struct backup_writer *w = xcalloc(1, sizeof(*w));
    uint8_t head[BACKUP_HEADER_BYTES] = { 0 };

    static_assert(32 + ID_CHARS < BACKUP_HEADER_BYTES, "the id ends in the header");
    mbedtls_sha256_init(&w->digest);
    w->path = xstrdup(path);
    w->temporary = xasprintf("%s.XXXXXX", path);
    w->fd = mkostemp(w->temporary, O_CLOEXEC); /* 0600 */
    int rc = w->fd < 0 ? err_errno(e, errno, "create %s", path) : 0;
    memcpy(head, magic, sizeof(magic));
    put(head + 8, FORMAT, 4);
    put(head + 12, BACKUP_HEADER_BYTES, 4);
    put(head + 16, h->version, 8);
    put(head + 24, (uint64_t)h->created_ns, 8);
    memcpy(head + 32, h->cluster_id.s, strlen(h->cluster_id.s));
    if (rc == 0 && mbedtls_sha256_starts_ret(&w->digest, 0) != 0)
        rc = err_set(e, ERR_INTERNAL, "SHA-256");
    if (rc == 0)
        rc = backup_writer_add(w, head, sizeof(head), e);
    if (rc < 0) {
        backup_writer_abort(w);
        return rc;
    }
    *ret_writer = w;
    return 0;
}

static void writer_free(struct backup_writer *w)
{
    mem_cleanup_close(&w->fd);
    mbedtls_sha256_free(&w->digest);
    free(w->path);
    free(w->temporary);
    free(w);
}

void backup_writer_abort(struct backup_writer *w)
{
    if (w == NULL)
        return;
    if (w->fd >= 0)
        (void)unlink(w->temporary); /* nothing more can be done about it */
    writer_free(w);
}

static int sync_directory(const char *path, struct err *e)
{
    CLEANUP_FREE char *copy = xstrdup(path);
    const char *directory = dirname(copy);
    CLEANUP_CLOSE int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0)
        return err_errno(e, errno, "sync %s", directory);
    return 0;
}

int backup_writer_commit(struct backup_writer *w, uint64_t *ret_size, struct err *e)
{
    uint8_t digest[BACKUP_DIGEST_BYTES];
    int rc = 0;

    if (mbedtls_sha256_finish_ret(&w->digest, digest) != 0)
        rc = err_set(e, ERR_INTERNAL, "SHA-256");
    if (rc == 0)
        rc = append(w, digest, sizeof(digest), e);
    if (rc == 0 && fsync(w->fd) < 0)
        rc = err_errno(e, errno, "sync %s", w->temporary);
    if (rc == 0 && rename(w->temporary, w->path) < 0)
        rc = err_errno(e, errno, "rename %s to %s", w->temporary, w->path);
    if (rc < 0) {
        backup_writer_abort(w);
        return rc;
    }
    rc = sync_directory(w->path, e);
    if (rc == 0)
        *ret_size = w->size;
    writer_free(w);
    return rc;
}

/* ---- reading ---- */

static int read_at(int fd, const char *path, uint8_t *mem, size_t size, struct err *e)
{
    while (size > 0) {
        ssize_t n = read(fd, mem, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, errno, "read %s", path);
        if (n == 0)
            return err_set(e, ERR_CORRUPT, "%s: it became shorter while it was read", path);
        mem += n;
        size -= (size_t)n;
    }
    return 0;
}

static int check_header(const char *path, const uint8_t head[BACKUP_HEADER_BYTES], struct err *e)
{
    if (memcmp(head, magic, sizeof(magic)) != 0)
        return err_set(e, ERR_CORRUPT, "%s is no backup of a cluster", path);
    if (get(head + 8, 4) != FORMAT || get(head + 12, 4) != BACKUP_HEADER_BYTES)
        return err_set(e, ERR_UNSUPPORTED, "%s was written by a newer version, or is damaged",
                       path);
    return 0;
}

/* Passes left bytes on; the digest may be NULL, as may feed. */
struct pass {
    int fd;
    const char *path;
    uint64_t left;
    mbedtls_sha256_context *digest;
    backup_feed_fn *feed;
    void *ctx;
};

static int run_pass(struct pass *p, struct err *e)
{
    CLEANUP_FREE uint8_t *mem = xmalloc(PIECE_BYTES);
    int rc = 0;

    while (rc == 0 && p->left > 0) {
        size_t size = (size_t)MIN(p->left, (uint64_t)PIECE_BYTES);

        rc = read_at(p->fd, p->path, mem, size, e);
        if (rc == 0 && p->digest != NULL && mbedtls_sha256_update_ret(p->digest, mem, size) != 0)
            rc = err_set(e, ERR_INTERNAL, "SHA-256");
        if (rc == 0 && p->feed != NULL)
            rc = p->feed(p->ctx, mem, size, e);
        p->left -= size;
    }
    explicit_bzero(mem, PIECE_BYTES);
    return rc;
}

static int verify(int fd, const char *path, uint64_t size, struct err *e)
{
    uint8_t want[BACKUP_DIGEST_BYTES], got[BACKUP_DIGEST_BYTES];
    mbedtls_sha256_context digest;
    struct pass p = { fd, path, size - BACKUP_DIGEST_BYTES, &digest, NULL, NULL };

    mbedtls_sha256_init(&digest);
    int rc = mbedtls_sha256_starts_ret(&digest, 0) != 0 ? err_set(e, ERR_INTERNAL, "SHA-256") : 0;
    if (rc == 0)
        rc = run_pass(&p, e);
    if (rc == 0 && mbedtls_sha256_finish_ret(&digest, got) != 0)
        rc = err_set(e, ERR_INTERNAL, "SHA-256");
    if (rc == 0)
        rc = read_at(fd, path, want, sizeof(want), e);
    if (rc == 0 && memcmp(want, got, sizeof(want)) != 0)
        rc = err_set(e, ERR_CORRUPT,
                     "%s: damaged or cut off, its SHA-256 does not fit; remedy: use another backup",
                     path);
    mbedtls_sha256_free(&digest);
    return rc;
}

static int read_open(int fd, const char *path, struct backup_header *ret_header, struct pass *body,
                     struct err *e)
{
    uint8_t head[BACKUP_HEADER_BYTES + 1] = { 0 };
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_errno(e, errno, "stat %s", path);
    if (!S_ISREG(st.st_mode) || st.st_size < BACKUP_HEADER_BYTES + BACKUP_DIGEST_BYTES)
        return err_set(e, ERR_CORRUPT, "%s is no backup of a cluster, or cut off", path);
    int rc = read_at(fd, path, head, BACKUP_HEADER_BYTES, e);
    if (rc == 0)
        rc = check_header(path, head, e);
    if (rc == 0 && lseek(fd, 0, SEEK_SET) < 0)
        rc = err_errno(e, errno, "seek %s", path);
    if (rc == 0)
        rc = verify(fd, path, (uint64_t)st.st_size, e);
    if (rc == 0 && !id_valid((const char *)head + 32))
        rc = err_set(e, ERR_CORRUPT, "%s: names no cluster", path);
    if (rc == 0 && lseek(fd, BACKUP_HEADER_BYTES, SEEK_SET) < 0)
        rc = err_errno(e, errno, "seek %s", path);
    if (rc < 0)
        return rc;
    *ret_header = (struct backup_header){ .version = get(head + 16, 8),
                                          .created_ns = (int64_t)get(head + 24, 8),
                                          .cluster_id = id_from_str((const char *)head + 32) };
    body->left = (uint64_t)st.st_size - BACKUP_HEADER_BYTES - BACKUP_DIGEST_BYTES;
    return 0;
}

int backup_file_read(const char *path, struct backup_header *ret_header, backup_feed_fn *feed,
                     void *ctx, struct err *e)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct pass body = { fd, path, 0, NULL, feed, ctx };

    if (fd < 0)
        return err_errno(e, errno, "open %s", path);
    int rc = read_open(fd, path, ret_header, &body, e);
    return rc == 0 ? run_pass(&body, e) : rc;
}
