#include "agentd/net/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/mem.h"

#define OWN_PATH "/proc/thread-self/ns/net"
enum { SETTING_BYTES = 128 };

int netns_open_own(int *ret_fd, struct err *e)
{
    int fd = open(OWN_PATH, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_errno(e, errno, "open " OWN_PATH);
    *ret_fd = fd;
    return 0;
}

int netns_open_process(pid_t pid, int *ret_fd, struct err *e)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, errno, "network namespace of process %d", (int)pid);
    *ret_fd = fd;
    return 0;
}

uint64_t netns_inode(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

bool netns_same(int a, int b)
{
    struct stat x, y;

    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* A directory whose parent is on another device or at another mount is a mount point; a bind mount
 * of itself is on the same device, so mount flags decide: only our mount of it can be remounted. */
static bool is_mount(const char *dir)
{
    struct statx x;

    if (statx(AT_FDCWD, dir, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &x) != 0)
        return false;
    return (x.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0 &&
           (x.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

int netns_dir_open(const char *dir, struct err *e)
{
    if (mkdir(dir, 0755) != 0 && errno != EEXIST)
        return err_errno(e, errno, "mkdir %s", dir);
    if (!is_mount(dir) && mount(dir, dir, NULL, MS_BIND, NULL) != 0)
        return err_errno(e, errno, "mount %s", dir);
    if (mount(NULL, dir, NULL, MS_PRIVATE, NULL) != 0)
        return err_errno(e, errno, "make %s a private mount", dir);
    return 0;
}

void netns_dir_close(const char *dir)
{
    if (is_mount(dir))
        (void)umount2(dir, MNT_DETACH); /* pins below, if any, go with it */
    (void)rmdir(dir);
}

static int pin_here(const char *path, struct err *e)
{
    if (mount(OWN_PATH, path, NULL, MS_BIND, NULL) != 0)
        return err_errno(e, errno, "pin network namespace at %s", path);
    return 0;
}

int netns_create(const char *path, int *ret_fd, struct err *e)
{
    int previous = -1, fd = -1;
    int rc = netns_open_own(&previous, e);

    if (rc < 0)
        return rc;
    CLEANUP_CLOSE int file = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    if (file < 0) {
        rc = err_errno(e, errno, "create %s", path);
        (void)close(previous);
        return rc;
    }
    if (unshare(CLONE_NEWNET) != 0) {
        rc = err_errno(e, errno, "new network namespace");
        (void)close(previous);
    } else {
        rc = pin_here(path, e);
        if (rc == 0)
            rc = netns_open_own(&fd, e);
        netns_leave(previous);
    }
    if (rc < 0) {
        netns_unpin(path);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

int netns_open_pin(const char *path, int *ret_fd, struct err *e)
{
    struct statfs fs;
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_errno(e, errno, "open %s", path);
    if (fstatfs(fd, &fs) != 0 || fs.f_type != NSFS_MAGIC)
        return err_set(e, ERR_NOT_FOUND, "%s is not a namespace", path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

void netns_unpin(const char *path)
{
    (void)umount2(path, MNT_DETACH);
    (void)unlink(path);
}

int netns_enter(int fd, int *ret_previous, struct err *e)
{
    int previous = -1;
    int rc = netns_open_own(&previous, e);

    if (rc < 0)
        return rc;
    if (setns(fd, CLONE_NEWNET) != 0) {
        rc = err_errno(e, errno, "enter network namespace");
        (void)close(previous);
        return rc;
    }
    *ret_previous = previous;
    return 0;
}

void netns_leave(int previous)
{
    int rc = setns(previous, CLONE_NEWNET);

    ASSERT(rc == 0);
    (void)close(previous);
}

int netns_inside(int fd, int (*fn)(void *ctx, struct err *e), void *ctx, struct err *e)
{
    int previous = -1, rc;

    if (fd < 0)
        return fn(ctx, e);
    rc = netns_enter(fd, &previous, e);
    if (rc < 0)
        return rc;
    rc = fn(ctx, e);
    netns_leave(previous);
    return rc;
}

int netns_scratch(int (*fn)(void *ctx, struct err *e), void *ctx, struct err *e)
{
    int previous = -1, rc = netns_open_own(&previous, e);

    if (rc < 0)
        return rc;
    if (unshare(CLONE_NEWNET) != 0) {
        rc = err_errno(e, errno, "new network namespace");
        (void)close(previous);
        return rc;
    }
    rc = fn(ctx, e);
    netns_leave(previous);
    return rc;
}

/* ---- settings -------------------------------------------------------------------------------- */

/* 1: it differed, and was written if asked to. */
static int setting_apply(const struct netns_setting *s, bool write_it, struct err *e)
{
    char path[SETTING_BYTES], have[SETTING_BYTES];

    (void)snprintf(path, sizeof(path), "/proc/sys/net/%s", s->path);
    CLEANUP_CLOSE int fd = open(path, (write_it ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (fd < 0)
        return s->optional && errno == ENOENT ? 0 : err_errno(e, errno, "%s", path);
    ssize_t size = read(fd, have, sizeof(have) - 1);
    if (size < 0)
        return err_errno(e, errno, "%s", path);
    have[size] = '\0';
    have[strcspn(have, "\n")] = '\0';
    if (strcmp(have, s->value) == 0)
        return 0;
    size_t length = strlen(s->value);
    if (write_it && pwrite(fd, s->value, length, 0) != (ssize_t)length)
        return err_errno(e, errno, "%s", path);
    return 1;
}

int netns_settings(int fd, const struct netns_setting *s, size_t count, bool write_it,
                   size_t *ret_changed, struct err *e)
{
    size_t changed = 0;
    int previous = -1, rc = netns_enter(fd, &previous, e);

    if (rc < 0)
        return rc;
    for (size_t i = 0; rc >= 0 && i < count; i++) {
        rc = setting_apply(&s[i], write_it, e);
        changed += rc > 0;
    }
    netns_leave(previous);
    if (rc < 0)
        return rc;
    if (ret_changed != NULL)
        *ret_changed = changed;
    return 0;
}
