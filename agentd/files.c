#include "agentd/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "agentd/worker/gate.h"
#include "common/id.h"

#define GATE_MARK "gate-open"

enum { TMPFS_PERCENT = 10 }; /* of the host's memory, for all tasks together */

static int make_dir(const char *path, mode_t mode, struct err *e)
{
    if (mkdir(path, mode) < 0 && errno != EEXIST)
        return err_errno(e, errno, "mkdir %s", path);
    return 0;
}

int files_open(const char *run_dir, char **ret_dir, struct err *e)
{
    CLEANUP_FREE char *dir = xasprintf("%s/tasks", run_dir);
    struct statfs fs;
    int rc = make_dir(run_dir, 0755, e);

    if (rc == 0)
        rc = make_dir(dir, 0700, e);
    if (rc < 0)
        return rc;
    if (statfs(dir, &fs) < 0)
        return err_errno(e, errno, "statfs %s", dir);
    if ((unsigned long)fs.f_type != TMPFS_MAGIC) {
        char options[32];

        (void)snprintf(options, sizeof(options), "mode=0700,size=%d%%", TMPFS_PERCENT);
        if (mount("skep", dir, "tmpfs", MS_NODEV | MS_NOSUID | MS_NOEXEC, options) < 0)
            return err_errno(e, errno, "mount tmpfs on %s", dir);
    }
    if (chmod(dir, 0700) < 0)
        return err_errno(e, errno, "chmod %s", dir);
    *ret_dir = TAKE_PTR(dir);
    return 0;
}

char *files_task_dir(const char *dir, const char *task_id)
{
    return xasprintf("%s/%s", dir, task_id);
}

static int write_all(int fd, const void *data, size_t size)
{
    const char *at = data;

    while (size > 0) {
        ssize_t n = write(fd, at, size);

        if (n < 0 && errno != EINTR)
            return -1;
        if (n > 0) {
            at += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

static int write_file(int dir_fd, const struct container_file *f,
                      const struct files_content *content, struct err *e)
{
    CLEANUP_CLOSE int fd =
        openat(dir_fd, f->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);

    if (fd < 0)
        return err_errno(e, errno, "create file of %s", f->object_id);
    if (write_all(fd, content->data, content->size) < 0 || fchown(fd, f->uid, f->gid) < 0 ||
        fchmod(fd, f->mode) < 0)
        return err_errno(e, errno, "write file of %s", f->object_id);
    return 0;
}

/* Whoever the container's user is must be able to open the pipes for reading and writing; only the
 * container sees the directory, and it read-only. */
static int make_gate(int dir_fd, const char *task_id, struct err *e)
{
    static const char *const names[] = { GATE_FIFO, GATE_RESULT_FIFO };
    CLEANUP_CLOSE int fd = -1;

    if (mkdirat(dir_fd, CONTAINER_GATE_DIR, 0755) < 0)
        return err_errno(e, errno, "make the gate of %s", task_id);
    fd = openat(dir_fd, CONTAINER_GATE_DIR, O_DIRECTORY | O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fchmod(fd, 0755) < 0)
        return err_errno(e, errno, "make the gate of %s", task_id);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (mkfifoat(fd, names[i], 0666) < 0 || fchmodat(fd, names[i], 0666, 0) < 0)
            return err_errno(e, errno, "make the gate of %s", task_id);
    return 0;
}

int files_write(const char *dir, const char *task_id, const struct container_plan *plan,
                const struct files_content *contents, struct err *e)
{
    CLEANUP_FREE char *path = files_task_dir(dir, task_id);
    CLEANUP_CLOSE int fd = -1;
    int rc;

    if (plan->file_count == 0 && !plan->gate)
        return 0;
    files_wipe(dir, task_id);
    rc = make_dir(path, 0700, e);
    if (rc < 0)
        return rc;
    fd = open(path, O_DIRECTORY | O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, errno, "open %s", path);
    for (size_t i = 0; i < plan->file_count && rc == 0; i++)
        rc = write_file(fd, &plan->files[i], &contents[i], e);
    if (rc == 0 && plan->gate)
        rc = make_gate(fd, task_id, e);
    return rc;
}

/* ---- the gate ---- */

static int open_fifo(const char *dir, const char *task_id, const char *name, int flags,
                     struct err *e)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s/" CONTAINER_GATE_DIR "/%s", dir, task_id, name);
    CLEANUP_CLOSE int fd = open(path, flags | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd < 0 && errno == ENXIO)
        return err_set(e, ERR_UNAVAILABLE, "nobody waits at the gate");
    if (fd < 0)
        return err_errno(e, errno, "gate of %s", task_id);
    if (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode))
        return err_set(e, ERR_INVALID, "gate of %s is no pipe", task_id);
    return TAKE_FD(fd);
}

int files_gate_open(const char *dir, const char *task_id, int *ret_fd, struct err *e)
{
    int fd = open_fifo(dir, task_id, GATE_FIFO, O_WRONLY, e);

    if (fd < 0)
        return fd;
    *ret_fd = fd;
    return 0;
}

int files_gate_result(const char *dir, const char *task_id, int *ret_fd, struct err *e)
{
    int fd = open_fifo(dir, task_id, GATE_RESULT_FIFO, O_RDONLY, e);

    if (fd < 0)
        return fd;
    *ret_fd = fd;
    return 0;
}

int files_gate_mark(const char *dir, const char *task_id, struct err *e)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s/" GATE_MARK, dir, task_id);
    CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0400);

    return fd < 0 ? err_errno(e, errno, "create %s", path) : 0;
}

bool files_gate_marked(const char *dir, const char *task_id)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s/" GATE_MARK, dir, task_id);

    return access(path, F_OK) == 0;
}

/* ---- removing ---- */

/* Zeroes over the content, so that freed pages of memory hold nothing. */
static void wipe_file(int dir_fd, const char *name)
{
    static const char zeroes[4096];
    CLEANUP_CLOSE int fd = openat(dir_fd, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        for (off_t at = 0; at < st.st_size; at += (off_t)sizeof(zeroes))
            if (pwrite(fd, zeroes, (size_t)MIN((off_t)sizeof(zeroes), st.st_size - at), at) < 0)
                break;
    (void)unlinkat(dir_fd, name, 0); /* the directory's removal tells */
}

static void wipe_gate(int dir_fd)
{
    int fd = openat(dir_fd, CONTAINER_GATE_DIR, O_DIRECTORY | O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return;
    (void)unlinkat(fd, GATE_FIFO, 0); /* the directory's removal tells */
    (void)unlinkat(fd, GATE_RESULT_FIFO, 0);
    (void)close(fd);
    (void)unlinkat(dir_fd, CONTAINER_GATE_DIR, AT_REMOVEDIR);
}

void files_wipe(const char *dir, const char *task_id)
{
    CLEANUP_FREE char *path = files_task_dir(dir, task_id);
    int fd = open(path, O_DIRECTORY | O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    if (d == NULL) {
        if (fd >= 0)
            (void)close(fd);
        return;
    }
    wipe_gate(dirfd(d));
    while ((entry = readdir(d)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            wipe_file(dirfd(d), entry->d_name);
    (void)closedir(d);
    (void)rmdir(path); /* stays only while a file could not be removed; swept later */
}

void files_sweep(const char *dir, bool (*keep)(void *ctx, const char *task_id), void *ctx)
{
    DIR *d = opendir(dir);
    struct dirent *entry;

    if (d == NULL)
        return;
    while ((entry = readdir(d)) != NULL)
        if (id_valid(entry->d_name) && !keep(ctx, entry->d_name))
            files_wipe(dir, entry->d_name);
    (void)closedir(d);
}
