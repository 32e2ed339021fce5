#include "test/lib/tmpdir.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/buf.h"
#include "common/mem.h"

enum { COPY_BYTES_MAX = 256 << 20 };

char *tmpdir_new(void)
{
    const char *base = getenv("SKEP_TEST_DIR");
    char *path = xasprintf("%s/skep-test-XXXXXX", base != NULL ? base : "build");

    if (mkdtemp(path) == NULL) { /* run outside the tree */
        free(path);
        path = xstrdup("/tmp/skep-test-XXXXXX");
        ASSERT(mkdtemp(path) != NULL);
    }
    return path;
}

char *tmpdir_new_in_memory(void)
{
    char *path = xstrdup("/dev/shm/skep-test-XXXXXX");

    if (mkdtemp(path) != NULL)
        return path;
    free(path);
    return tmpdir_new();
}

typedef void entry_fn(const char *path, const char *name, const char *to);

static void each_entry(const char *path, entry_fn *fn, const char *to)
{
    DIR *dir = opendir(path);

    if (dir == NULL)
        return;
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
            fn(path, d->d_name, to);
    }
    (void)closedir(dir); /* read only */
}

static void remove_file(const char *path, const char *name, const char *to)
{
    CLEANUP_FREE char *full = xasprintf("%s/%s", path, name);

    (void)to;
    (void)unlink(full); /* what stays makes rmdir fail, and is seen */
}

static void remove_entry(const char *path, const char *name, const char *to)
{
    CLEANUP_FREE char *full = xasprintf("%s/%s", path, name);

    if (unlink(full) == 0)
        return;
    each_entry(full, remove_file, to);
    (void)rmdir(full);
}

void tmpdir_empty(const char *path)
{
    each_entry(path, remove_entry, NULL);
}

void tmpdir_remove(char *path)
{
    tmpdir_empty(path);
    (void)rmdir(path);
    free(path);
}

static void copy_entry(const char *path, const char *name, const char *to)
{
    CLEANUP_FREE char *from = xasprintf("%s/%s", path, name);
    CLEANUP_FREE char *target = xasprintf("%s/%s", to, name);
    CLEANUP_BUF struct buf b = BUF_INIT(COPY_BYTES_MAX);
    CLEANUP_CLOSE int fd = open(target, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    ASSERT(fd >= 0);
    ASSERT(buf_read_file(&b, from, NULL) == 0);
    ASSERT(b.size == 0 || write(fd, b.data, b.size) == (ssize_t)b.size);
}

void tmpdir_copy(const char *from, const char *to)
{
    each_entry(from, copy_entry, to);
}
