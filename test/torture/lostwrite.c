/* A disk that loses what was not synced (LazyFS's idea, VLDB'24, without FUSE): preloaded into a
 * manager, it notes in a journal what every write, truncation, creation, rename and removal below
 * one folder replaces, and forgets it when the file, or the folder for names, is synced. After
 * kill -9 the crash tool (crash.c) takes back what a power cut could have taken.
 *
 *   LOSTWRITE_DIR    the folder that is watched
 *   LOSTWRITE_LOG    the journal
 *   LOSTWRITE_LINKS  a folder on the same file system, for what was removed or renamed over
 *
 * Files that stdio opens inside libc are not seen. One lock: a manager writes from one thread. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test/torture/journal.h"

enum { FDS_MAX = 4096, DIRTY_MAX = 256, PIECE_BYTES = 1 << 20 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *root, *links;
static int log_fd = -1;
static ino_t tracked[FDS_MAX];    /* regular files below root; 0: no */
static uint64_t dirty[DIRTY_MAX]; /* files with changes that are not durable */
static uint64_t dirty_dirs[DIRTY_MAX];
static uint64_t removed[DIRTY_MAX]; /* files without a name; gone for good with the next sync */
static size_t dirty_count, dirty_dir_count, removed_count;
static unsigned saved_count;
static char piece[PIECE_BYTES];

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void fail(const char *what)
{
    (void)dprintf(STDERR_FILENO, "lostwrite: %s: %s\n", what, strerror(errno));
    _exit(99); /* a test that goes on would prove nothing */
}

/* ---- what is not durable ---- */

static void dirty_add(uint64_t *set, size_t *count, uint64_t id)
{
    for (size_t i = 0; i < *count; i++) {
        if (set[i] == id)
            return;
    }
    if (*count < DIRTY_MAX)
        set[(*count)++] = id;
}

static void dirty_remove(uint64_t *set, size_t *count, uint64_t id)
{
    for (size_t i = 0; i < *count; i++) {
        if (set[i] == id)
            set[i--] = set[--*count];
    }
}

/* Everything is durable: the journal starts again. */
static void forget_if_clean(void)
{
    if (dirty_count > 0 || dirty_dir_count > 0)
        return;
    if (syscall(SYS_ftruncate, log_fd, 0) < 0)
        fail("ftruncate the journal");
    for (unsigned i = 0; i < saved_count; i++) {
        char path[PATH_MAX];

        (void)snprintf(path, sizeof(path), "%s/%u", links, i);
        (void)syscall(SYS_unlink, path);
    }
    saved_count = 0;
}

static uint64_t folder_of(const char *path)
{
    char folder[JOURNAL_PATH_BYTES];
    struct stat st;

    (void)snprintf(folder, sizeof(folder), "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash != NULL)
        *slash = '\0';
    return stat(folder, &st) == 0 ? st.st_ino : 0;
}

static void note_dirty(const struct journal_record *r)
{
    switch (r->type) {
    case JOURNAL_WRITE:
    case JOURNAL_RESIZE:
        dirty_add(dirty, &dirty_count, r->file);
        break;
    case JOURNAL_SYNC:
        dirty_remove(dirty, &dirty_count, r->file);
        break;
    case JOURNAL_SYNC_DIR:
        dirty_remove(dirty_dirs, &dirty_dir_count, r->file);
        while (removed_count > 0)
            dirty_remove(dirty, &dirty_count, removed[--removed_count]);
        break;
    default:
        if (r->type == JOURNAL_UNLINK && removed_count < DIRTY_MAX)
            removed[removed_count++] = r->file;
        dirty_add(dirty_dirs, &dirty_dir_count, r->size);
        if (r->saved[0] != '\0')
            saved_count = (unsigned)strtoul(strrchr(r->saved, '/') + 1, NULL, 10) + 1;
    }
}

static void put(const void *mem, size_t size)
{
    const char *at = mem;

    while (size > 0) {
        ssize_t n = syscall(SYS_write, log_fd, at, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            fail("write the journal");
        at += n;
        size -= (size_t)n;
    }
}

static void note(struct journal_record *r, const void *data)
{
    put(r, sizeof(*r));
    put(data, r->data_size);
    note_dirty(r);
}

static void note_name(enum journal_type type, const char *path, struct journal_record *r)
{
    r->type = type;
    r->size = folder_of(path);
    (void)snprintf(r->path, sizeof(r->path), "%s", path);
    note(r, "");
}

/* ---- starting ---- */

/* Changes of a process that was killed are still not durable. */
static void resume(void)
{
    struct journal_record r;
    off_t at = 0;

    while (pread(log_fd, &r, sizeof(r), at) == (ssize_t)sizeof(r)) {
        at += (off_t)sizeof(r) + r.data_size;
        note_dirty(&r);
    }
}

static void __attribute__((constructor)) begin(void)
{
    const char *path = getenv("LOSTWRITE_LOG");

    root = getenv("LOSTWRITE_DIR");
    links = getenv("LOSTWRITE_LINKS");
    if (root == NULL || path == NULL || links == NULL) {
        root = NULL;
        return;
    }
    log_fd =
        (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0)
        fail(path);
    resume();
}

/* ---- names ---- */

/* The absolute path of a name below root; false when it is elsewhere. */
static bool below_root(int dir_fd, const char *name, char path[JOURNAL_PATH_BYTES])
{
    char proc[64], folder[JOURNAL_PATH_BYTES] = "";
    int size;

    if (root == NULL)
        return false;
    if (name[0] == '/') {
        size = snprintf(path, JOURNAL_PATH_BYTES, "%s", name);
    } else {
        if (dir_fd == AT_FDCWD)
            (void)snprintf(proc, sizeof(proc), "/proc/self/cwd");
        else
            (void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", dir_fd);
        if (readlink(proc, folder, sizeof(folder) - 1) < 0)
            return false;
        size = snprintf(path, JOURNAL_PATH_BYTES, "%.200s/%s", folder, name);
    }
    return size < JOURNAL_PATH_BYTES && strncmp(path, root, strlen(root)) == 0;
}

/* Keeps what is at path, if anything, under another name. */
static void save(const char *path, struct journal_record *r)
{
    char saved[JOURNAL_PATH_BYTES];

    (void)snprintf(saved, sizeof(saved), "%s/%u", links, saved_count);
    (void)syscall(SYS_unlink, saved);
    if (linkat(AT_FDCWD, path, AT_FDCWD, saved, 0) == 0)
        memcpy(r->saved, saved, sizeof(saved));
}

static void track(int fd)
{
    struct stat st;

    if (fd >= 0 && fd < FDS_MAX)
        tracked[fd] = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? st.st_ino : 0;
}

/* The file behind fd if it is watched; its size in *ret_size. */
static bool is_tracked(int fd, struct stat *st)
{
    return root != NULL && fd >= 0 && fd < FDS_MAX && tracked[fd] != 0 && fstat(fd, st) == 0 &&
           st->st_ino == tracked[fd];
}

static int open_watched(int dir_fd, const char *name, int flags, mode_t mode)
{
    char path[JOURNAL_PATH_BYTES];
    struct stat st;

    if (!below_root(dir_fd, name, path))
        return (int)syscall(SYS_openat, dir_fd, name, flags, mode);
    (void)pthread_mutex_lock(&lock);
    bool there = lstat(path, &st) == 0;
    if (!there && (flags & O_CREAT) != 0) {
        struct journal_record r = { 0 };

        note_name(JOURNAL_CREATE, path, &r);
    }
    /* Emptying is a truncation of its own, so that it can be taken back. */
    int fd = (int)syscall(SYS_openat, dir_fd, name, flags & ~O_TRUNC, mode);
    int error = errno;
    track(fd);
    (void)pthread_mutex_unlock(&lock);
    if (fd >= 0 && there && (flags & O_TRUNC) != 0 && ftruncate(fd, 0) < 0)
        fail("truncate");
    errno = error;
    return fd;
}

static mode_t mode_of(int flags, va_list args)
{
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
}

#define OPEN_BODY(dir_fd)                                                                          \
    va_list args;                                                                                  \
    va_start(args, flags);                                                                         \
    mode_t mode = mode_of(flags, args);                                                            \
    va_end(args);                                                                                  \
    return open_watched((dir_fd), name, flags, mode)

int open(const char *name, int flags, ...)
{
    OPEN_BODY(AT_FDCWD);
}

int open64(const char *name, int flags, ...)
{
    OPEN_BODY(AT_FDCWD);
}

int openat(int dir_fd, const char *name, int flags, ...)
{
    OPEN_BODY(dir_fd);
}

int openat64(int dir_fd, const char *name, int flags, ...)
{
    OPEN_BODY(dir_fd);
}

int close(int fd)
{
    if (fd >= 0 && fd < FDS_MAX)
        tracked[fd] = 0;
    return (int)syscall(SYS_close, fd);
}

/* ---- content ---- */

/* Notes what size bytes at offset were. */
static void note_old(int fd, const struct stat *st, struct journal_record *r, uint64_t size)
{
    uint64_t end = r->offset + size;

    r->file = st->st_ino;
    r->size_before = (uint64_t)st->st_size;
    for (uint64_t at = r->offset; at < end; at += PIECE_BYTES) {
        struct journal_record one = *r;
        uint64_t want = end - at < PIECE_BYTES ? end - at : PIECE_BYTES;
        ssize_t got = pread(fd, piece, want, (off_t)at);

        while (got > 0 && piece[got - 1] == 0)
            got--;
        if (r->type == JOURNAL_WRITE) {
            one.offset = at;
            one.size = want;
        } else {
            one.size = at; /* where the bytes that are cut off belong */
        }
        one.data_size = got > 0 ? (uint32_t)got : 0;
        note(&one, piece);
    }
}

static void note_write(int fd, off_t offset, size_t size)
{
    struct journal_record r = { .type = JOURNAL_WRITE, .offset = (uint64_t)offset };
    int flags = fcntl(fd, F_GETFL);
    struct stat st;

    if (fstat(fd, &st) < 0)
        return;
    if ((flags & O_ACCMODE) != O_WRONLY) {
        note_old(fd, &st, &r, size);
        return;
    }
    r.file = st.st_ino; /* write-only files of ours are new ones: nothing was there */
    r.size_before = (uint64_t)st.st_size;
    r.size = size;
    note(&r, "");
}

ssize_t pwrite(int fd, const void *mem, size_t size, off_t offset)
{
    struct stat st;

    if (!is_tracked(fd, &st))
        return syscall(SYS_pwrite64, fd, mem, size, offset);
    (void)pthread_mutex_lock(&lock);
    note_write(fd, offset, size);
    ssize_t rc = syscall(SYS_pwrite64, fd, mem, size, offset);
    int error = errno;
    (void)pthread_mutex_unlock(&lock);
    errno = error;
    return rc;
}

ssize_t pwrite64(int fd, const void *mem, size_t size, off_t offset)
{
    return pwrite(fd, mem, size, offset);
}

ssize_t write(int fd, const void *mem, size_t size)
{
    struct stat st;

    if (!is_tracked(fd, &st))
        return syscall(SYS_write, fd, mem, size);
    (void)pthread_mutex_lock(&lock);
    note_write(fd, lseek(fd, 0, SEEK_CUR), size);
    ssize_t rc = syscall(SYS_write, fd, mem, size);
    int error = errno;
    (void)pthread_mutex_unlock(&lock);
    errno = error;
    return rc;
}

static void note_resize(int fd, const struct stat *st, uint64_t size)
{
    struct journal_record r = { .type = JOURNAL_RESIZE, .offset = size };

    if (size < (uint64_t)st->st_size) {
        uint64_t cut = (uint64_t)st->st_size - size;

        note_old(fd, st, &r, cut);
        return;
    }
    r.file = st->st_ino;
    r.size_before = (uint64_t)st->st_size;
    note(&r, "");
}

int ftruncate(int fd, off_t size)
{
    struct stat st;

    if (!is_tracked(fd, &st))
        return (int)syscall(SYS_ftruncate, fd, size);
    (void)pthread_mutex_lock(&lock);
    note_resize(fd, &st, (uint64_t)size);
    int rc = (int)syscall(SYS_ftruncate, fd, size), error = errno;
    (void)pthread_mutex_unlock(&lock);
    errno = error;
    return rc;
}

int ftruncate64(int fd, off_t size)
{
    return ftruncate(fd, size);
}

int posix_fallocate(int fd, off_t offset, off_t size)
{
    struct stat st;
    bool watched = is_tracked(fd, &st);

    (void)pthread_mutex_lock(&lock);
    if (watched && offset + size > st.st_size)
        note_resize(fd, &st, (uint64_t)(offset + size));
    int rc = REAL(posix_fallocate)(fd, offset, size);
    (void)pthread_mutex_unlock(&lock);
    return rc;
}

int posix_fallocate64(int fd, off_t offset, off_t size)
{
    return posix_fallocate(fd, offset, size);
}

/* ---- durable ---- */

static int sync_watched(int fd, long number)
{
    struct journal_record r = { .type = JOURNAL_SYNC };
    char proc[64], path[JOURNAL_PATH_BYTES] = "";
    struct stat st;

    if (root == NULL || fstat(fd, &st) < 0)
        return (int)syscall(number, fd);
    (void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
    bool watched = readlink(proc, path, sizeof(path) - 1) > 0;
    (void)pthread_mutex_lock(&lock);
    int rc = (int)syscall(number, fd), error = errno;
    if (rc == 0 && (is_tracked(fd, &st) || (watched && S_ISDIR(st.st_mode)))) {
        r.type = S_ISDIR(st.st_mode) ? JOURNAL_SYNC_DIR : JOURNAL_SYNC;
        r.file = st.st_ino;
        memcpy(r.path, path, sizeof(path));
        note(&r, "");
        forget_if_clean();
    }
    (void)pthread_mutex_unlock(&lock);
    errno = error;
    return rc;
}

int fsync(int fd)
{
    return sync_watched(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return sync_watched(fd, SYS_fdatasync);
}

/* ---- directories ---- */

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    struct journal_record r = { 0 };
    char path[JOURNAL_PATH_BYTES];
    struct stat st;

    if (!below_root(from_fd, from, path) || !below_root(to_fd, to, r.other))
        return (int)syscall(SYS_renameat, from_fd, from, to_fd, to);
    (void)pthread_mutex_lock(&lock);
    if (lstat(path, &st) == 0) {
        r.file = st.st_ino;
        save(r.other, &r);
        note_name(JOURNAL_RENAME, path, &r);
    }
    int rc = (int)syscall(SYS_renameat, from_fd, from, to_fd, to), error = errno;
    (void)pthread_mutex_unlock(&lock);
    errno = error;
    return rc;
}

int rename(const char *from, const char *to)
{
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int unlinkat(int dir_fd, const char *name, int flags)
{
    struct journal_record r = { 0 };
    char path[JOURNAL_PATH_BYTES];
    struct stat st;

    if (!below_root(dir_fd, name, path) || (flags & AT_REMOVEDIR) != 0)
        return (int)syscall(SYS_unlinkat, dir_fd, name, flags);
    (void)pthread_mutex_lock(&lock);
    if (lstat(path, &st) == 0) {
        r.file = st.st_ino;
        save(path, &r);
    }
    if (r.saved[0] != '\0')
        note_name(JOURNAL_UNLINK, path, &r);
    int rc = (int)syscall(SYS_unlinkat, dir_fd, name, flags), error = errno;
    (void)pthread_mutex_unlock(&lock);
    errno = error;
    return rc;
}

int unlink(const char *name)
{
    return unlinkat(AT_FDCWD, name, 0);
}

int mkdir(const char *name, mode_t mode)
{
    char path[JOURNAL_PATH_BYTES];
    struct journal_record r = { 0 };
    struct stat st;

    if (below_root(AT_FDCWD, name, path) && lstat(path, &st) < 0) {
        (void)pthread_mutex_lock(&lock);
        note_name(JOURNAL_MKDIR, path, &r);
        (void)pthread_mutex_unlock(&lock);
    }
    return (int)syscall(SYS_mkdirat, AT_FDCWD, name, mode);
}
