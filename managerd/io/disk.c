#include "managerd/io/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/failpoint.h"

enum { DIRECT_ALIGN = 4096, ZERO_CHUNK = 1 << 20 };

struct disk {
    int dir_fd;
    int lock_fd;
    char *path;
    disk_hook_fn *hook;
    void *hook_ctx;
};

static const char lock_name[] = "lock";

/* Failure points before and after an operation (common/failpoint.h). */
static const char *const steps[][2] = {
    [DISK_CREATE] = { "create.before", "create.after" },
    [DISK_OPEN] = { "open.before", "open.after" },
    [DISK_READ] = { "read.before", "read.after" },
    [DISK_WRITE] = { "write.before", "write.after" },
    [DISK_ALLOCATE] = { "allocate.before", "allocate.after" },
    [DISK_TRUNCATE] = { "truncate.before", "truncate.after" },
    [DISK_SYNC] = { "sync.before", "sync.after" },
    [DISK_RENAME] = { "rename.before", "rename.after" },
    [DISK_REMOVE] = { "remove.before", "remove.after" },
    [DISK_SYNC_DIR] = { "sync.before", "sync.after" },
};

/* 0, or the errno value with which the operation must fail. */
static int ask_hook(struct disk *d, const struct disk_call *call, uint64_t *write_size)
{
    const char *name = call->to != NULL ? call->to : call->name;

    *write_size = 0;
    if (d->hook != NULL)
        return d->hook(d->hook_ctx, call, write_size);
    return FAILPOINT_FILE(name, steps[call->op][0], write_size);
}

/* What has become of an operation. */
static int done(enum disk_op op, const char *name, int error)
{
    uint64_t unused = 0;

    return error == 0 ? FAILPOINT_FILE(name, steps[op][1], &unused) : error;
}

static int ask(struct disk *d, enum disk_op op, const char *name)
{
    struct disk_call call = { .op = op, .name = name };
    uint64_t unused;

    return ask_hook(d, &call, &unused);
}

/* Running out of descriptors or kernel memory passes, like running out of space: not fatal. */
static int shortage(int rc, int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM ? -ERR_NO_SPACE : rc;
}

/* ---- the directory ---- */

static int check_owner(const struct stat *st, const char *path, struct err *e)
{
    if (st->st_uid != geteuid())
        return err_set(e, ERR_PERMISSION, "%s belongs to uid %u, not to %u; chown it", path,
                       (unsigned)st->st_uid, (unsigned)geteuid());
    if ((st->st_mode & 077) != 0)
        return err_set(e, ERR_PERMISSION, "%s has mode %04o, open to others; chmod go= it", path,
                       (unsigned)(st->st_mode & 07777));
    return 0;
}

/* A new directory exists after its parent is synced. */
static int sync_parent(const char *path, struct err *e)
{
    CLEANUP_FREE char *copy = xstrdup(path);
    CLEANUP_CLOSE int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 || fsync(fd) < 0 ? err_errno(e, errno, "fsync the parent of %s", path) : 0;
}

static int open_dir(struct disk *d, const struct disk_options *o, struct err *e)
{
    struct stat st;

    if (o->create && mkdir(o->path, 0700) == 0) {
        int rc = sync_parent(o->path, e);

        if (rc < 0)
            return rc;
    } else if (o->create && errno != EEXIST) {
        return err_errno(e, errno, "create %s", o->path);
    }
    if (lstat(o->path, &st) < 0)
        return err_errno(e, errno, "%s", o->path);
    if (!S_ISDIR(st.st_mode))
        return err_set(e, ERR_PERMISSION, "%s is %s, not a directory", o->path,
                       S_ISLNK(st.st_mode) ? "a symbolic link" : "a file");
    d->dir_fd = open(o->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (d->dir_fd < 0)
        return err_errno(e, errno, "open %s", o->path);
    if (fstat(d->dir_fd, &st) < 0)
        return err_errno(e, errno, "%s", o->path);
    return check_owner(&st, o->path, e);
}

static int take_lock(struct disk *d, struct err *e)
{
    d->lock_fd = openat(d->dir_fd, lock_name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (d->lock_fd < 0)
        return err_errno(e, errno, "open %s/lock", d->path);
    if (flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK
                   ? err_set(e, ERR_BUSY, "%s is in use by another process", d->path)
                   : err_errno(e, errno, "lock %s", d->path);
    return 0;
}

int disk_open(const struct disk_options *o, struct disk **ret_disk, struct err *e)
{
    struct disk *d = xcalloc(1, sizeof(*d));

    *d = (struct disk){ .dir_fd = -1, .lock_fd = -1, .hook = o->hook, .hook_ctx = o->hook_ctx };
    d->path = xstrdup(o->path);
    int rc = open_dir(d, o, e);
    if (rc == 0)
        rc = take_lock(d, e);
    if (rc < 0) {
        disk_close(d);
        return rc;
    }
    *ret_disk = d;
    return 0;
}

void disk_close(struct disk *d)
{
    if (d == NULL)
        return;
    mem_cleanup_close(&d->lock_fd);
    mem_cleanup_close(&d->dir_fd);
    free(d->path);
    free(d);
}

const char *disk_path(const struct disk *d)
{
    return d->path;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int add_name(struct disk *d, struct disk_names *n, const char *name, struct err *e)
{
    struct stat st;

    if (fstatat(d->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(e, errno, "%s/%s", d->path, name);
    if (!S_ISREG(st.st_mode) || strcmp(name, lock_name) == 0)
        return 0;
    if (strlen(name) >= DISK_NAME_BYTES_MAX || n->count == DISK_FILES_MAX)
        return err_set(e, ERR_TOO_BIG, "%s: too many files or too long a name", d->path);
    if ((n->count & (n->count - 1)) == 0)
        n->names = xrealloc_array(n->names, MAX(n->count * 2, (size_t)1), sizeof(*n->names));
    memset(n->names[n->count], 0, sizeof(*n->names));
    memcpy(n->names[n->count++], name, strlen(name));
    return 0;
}

int disk_list(struct disk *d, struct disk_names *ret_names, struct err *e)
{
    struct disk_names n = { 0 };
    int fd = openat(d->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    int rc = 0;

    if (dir == NULL) {
        int error = errno;

        mem_cleanup_close(&fd);
        return shortage(err_errno(e, error, "list %s", d->path), error);
    }
    for (struct dirent *entry; rc == 0 && (entry = readdir(dir)) != NULL;)
        rc = add_name(d, &n, entry->d_name, e);
    (void)closedir(dir); /* read only */
    if (rc < 0) {
        disk_names_free(&n);
        return rc;
    }
    if (n.count > 0)
        qsort(n.names, n.count, sizeof(*n.names), compare_names);
    *ret_names = n;
    return 0;
}

void disk_names_free(struct disk_names *n)
{
    free(n->names);
    *n = (struct disk_names){ 0 };
}

int disk_rename(struct disk *d, const char *from, const char *to, struct err *e)
{
    struct disk_call call = { .op = DISK_RENAME, .name = from, .to = to };
    uint64_t unused;
    int error = ask_hook(d, &call, &unused);

    if (error == 0 && renameat(d->dir_fd, from, d->dir_fd, to) < 0)
        error = errno;
    error = done(DISK_RENAME, to, error);
    return error != 0 ? err_errno(e, error, "rename %s/%s to %s", d->path, from, to) : 0;
}

int disk_remove(struct disk *d, const char *name, struct err *e)
{
    int error = ask(d, DISK_REMOVE, name);

    if (error == 0 && unlinkat(d->dir_fd, name, 0) < 0 && errno != ENOENT)
        error = errno;
    error = done(DISK_REMOVE, name, error);
    return error != 0 ? err_errno(e, error, "remove %s/%s", d->path, name) : 0;
}

int disk_sync_dir(struct disk *d, struct err *e)
{
    int error = ask(d, DISK_SYNC_DIR, "");

    if (error == 0 && fsync(d->dir_fd) < 0)
        error = errno;
    error = done(DISK_SYNC_DIR, "", error);
    if (error == 0 || error == FAILPOINT_SKIP)
        return 0;
    (void)err_errno(e, error, "fsync %s", d->path);
    return -ERR_IO;
}

/* ---- files ---- */

static int open_file(struct disk *d, const char *name, int flags, struct disk_file *ret_file,
                     struct err *e)
{
    enum disk_op op = (flags & O_CREAT) != 0 ? DISK_CREATE : DISK_OPEN;
    int error = ask(d, op, name);
    CLEANUP_CLOSE int fd = -1;
    struct stat st;

    ASSERT(strlen(name) < DISK_NAME_BYTES_MAX);
    if (error == 0) {
        fd = openat(d->dir_fd, name, flags | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600);
        error = done(op, name, fd < 0 || fstat(fd, &st) < 0 ? errno : 0);
    }
    if (error == ELOOP)
        return err_set(e, ERR_PERMISSION, "%s/%s is a symbolic link", d->path, name);
    if (error != 0)
        return shortage(err_errno(e, error, "open %s/%s", d->path, name), error);
    int rc = check_owner(&st, name, e);
    if (rc < 0)
        return err_wrap(e, rc, "%s", d->path);
    *ret_file = (struct disk_file){ .disk = d };
    memcpy(ret_file->name, name, strlen(name));
    ret_file->fd = TAKE_FD(fd);
    return 0;
}

int disk_file_create(struct disk *d, const char *name, struct disk_file *ret_file, struct err *e)
{
    return open_file(d, name, O_CREAT | O_TRUNC, ret_file, e);
}

int disk_file_open(struct disk *d, const char *name, struct disk_file *ret_file, struct err *e)
{
    return open_file(d, name, 0, ret_file, e);
}

void disk_file_close(struct disk_file *f)
{
    mem_cleanup_close(&f->fd);
    f->fd = -1;
}

static int file_errno(struct disk_file *f, int error, const char *what, struct err *e)
{
    return err_errno(e, error, "%s %s/%s", what, f->disk->path, f->name);
}

int disk_file_size(struct disk_file *f, uint64_t *ret_size, struct err *e)
{
    struct stat st;

    if (fstat(f->fd, &st) < 0)
        return file_errno(f, errno, "stat", e);
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

static int write_all(int fd, uint64_t offset, const uint8_t *at, uint64_t size)
{
    while (size > 0) {
        ssize_t put = pwrite(fd, at, size, (off_t)offset);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put < 0 ? errno : EIO;
        at += put;
        offset += (uint64_t)put;
        size -= (uint64_t)put;
    }
    return 0;
}

int disk_file_write(struct disk_file *f, uint64_t offset, const void *data, size_t size,
                    struct err *e)
{
    struct disk_call call = {
        .op = DISK_WRITE, .name = f->name, .offset = offset, .data = data, .size = size
    };
    uint64_t torn;
    int error = ask_hook(f->disk, &call, &torn);

    if (error != 0) {
        (void)write_all(f->fd, offset, data, MIN(torn, size)); /* the tear a test asked for */
        FAILPOINT_TORN();
    } else {
        error = done(DISK_WRITE, f->name, write_all(f->fd, offset, data, size));
    }
    return error != 0 ? file_errno(f, error, "write", e) : 0;
}

int disk_file_read(struct disk_file *f, uint64_t offset, void *mem, size_t size, struct err *e)
{
    uint8_t *at = mem;
    int error = ask(f->disk, DISK_READ, f->name);

    while (error == 0 && size > 0) {
        ssize_t got = pread(f->fd, at, size, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            return err_set(e, ERR_CORRUPT, "%s/%s ends at %llu", f->disk->path, f->name,
                           (unsigned long long)offset);
        if (got < 0) {
            error = errno;
        } else {
            at += got;
            offset += (uint64_t)got;
            size -= (size_t)got;
        }
    }
    return error != 0 ? file_errno(f, error, "read", e) : 0;
}

/* Zeros are really written: blocks that fallocate() only reserves would cost a journal commit with
 * every later sync, and copy-on-write file systems reserve nothing at all. */
int disk_file_allocate(struct disk_file *f, uint64_t size, struct err *e)
{
    struct disk_call call = { .op = DISK_ALLOCATE, .name = f->name, .size = size };
    CLEANUP_FREE uint8_t *zeros = xcalloc(1, MIN(size, (uint64_t)ZERO_CHUNK));
    uint64_t unused;
    int error = ask_hook(f->disk, &call, &unused);

    while (error == 0) {
        error = posix_fallocate(f->fd, 0, (off_t)size);
        if (error != EINTR)
            break;
        error = 0;
    }
    for (uint64_t at = 0; error == 0 && at < size; at += ZERO_CHUNK)
        error = write_all(f->fd, at, zeros, MIN(size - at, (uint64_t)ZERO_CHUNK));
    error = done(DISK_ALLOCATE, f->name, error);
    return error != 0 ? file_errno(f, error, "allocate", e) : 0;
}

int disk_file_truncate(struct disk_file *f, uint64_t size, struct err *e)
{
    struct disk_call call = { .op = DISK_TRUNCATE, .name = f->name, .size = size };
    uint64_t unused;
    int error = ask_hook(f->disk, &call, &unused);

    if (error == 0 && ftruncate(f->fd, (off_t)size) < 0)
        error = errno;
    error = done(DISK_TRUNCATE, f->name, error);
    return error != 0 ? file_errno(f, error, "truncate", e) : 0;
}

int disk_file_sync(struct disk_file *f, struct err *e)
{
    int error = ask(f->disk, DISK_SYNC, f->name);

    if (error == 0 && fdatasync(f->fd) < 0)
        error = errno;
    error = done(DISK_SYNC, f->name, error);
    if (error == 0 || error == FAILPOINT_SKIP)
        return 0;
    (void)file_errno(f, error, "fdatasync", e);
    return -ERR_IO; /* even when the kernel says ENOSPC: what is on disk is unknown */
}

/* Reads size bytes into mem, which is aligned and a multiple of DIRECT_ALIGN long. */
static int read_direct(struct disk_file *f, uint8_t *mem, size_t size, struct err *e)
{
    size_t room = (size + DIRECT_ALIGN - 1) / DIRECT_ALIGN * DIRECT_ALIGN;
    int flags = fcntl(f->fd, F_GETFL);

    (void)posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED); /* where O_DIRECT is not to be had */
    if (flags < 0 || fcntl(f->fd, F_SETFL, flags | O_DIRECT) < 0)
        return disk_file_read(f, 0, mem, size, e);
    for (size_t at = 0; at < size;) {
        ssize_t got = pread(f->fd, mem + at, room - at, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got > 0 && (got % DIRECT_ALIGN == 0 || at + (size_t)got >= size)) {
            at += (size_t)got;
            continue;
        }
        if (got >= 0 || errno == EINVAL) { /* a file system with other rules */
            (void)fcntl(f->fd, F_SETFL, flags);
            return disk_file_read(f, 0, mem, size, e);
        }
        return file_errno(f, errno, "read", e);
    }
    return 0;
}

int disk_read_whole(struct disk *d, const char *name, size_t size_max, struct disk_bytes *ret_bytes,
                    struct err *e)
{
    struct disk_file f;
    uint64_t size = 0;
    void *mem = NULL;

    int rc = disk_file_open(d, name, &f, e);
    if (rc < 0)
        return rc;
    rc = disk_file_size(&f, &size, e);
    if (rc == 0 && size > size_max)
        rc = err_set(e, ERR_TOO_BIG, "%s/%s has %llu bytes, more than %zu", d->path, name,
                     (unsigned long long)size, size_max);
    if (rc == 0)
        rc = disk_file_sync(&f, e);
    if (rc == 0) {
        int error = ask(d, DISK_READ, name);

        rc = error != 0 ? file_errno(&f, error, "read", e) : 0;
    }
    if (rc == 0) {
        ASSERT(posix_memalign(&mem, DIRECT_ALIGN, (size_t)size + DIRECT_ALIGN) == 0);
        rc = read_direct(&f, mem, (size_t)size, e);
    }
    disk_file_close(&f);
    if (rc < 0) {
        free(mem);
        return rc;
    }
    *ret_bytes = (struct disk_bytes){ mem, (size_t)size };
    return 0;
}

int disk_file_place(struct disk_file *f, uint64_t *ret_file, uint64_t *ret_dir, struct err *e)
{
    struct stat file, dir;

    if (fstat(f->fd, &file) < 0 || stat(f->disk->path, &dir) < 0)
        return file_errno(f, errno, "stat", e);
    *ret_file = file.st_ino;
    *ret_dir = dir.st_ino;
    return 0;
}

bool disk_exists(const char *path, const char *name)
{
    CLEANUP_FREE char *file = xasprintf("%s/%s", path, name);
    struct stat st;

    return lstat(file, &st) == 0;
}
