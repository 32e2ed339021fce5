#include "test/lib/crashdisk.h"

#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "common/assert.h"

enum { FILES_MAX = 4096, CHANGES_MAX = 4096, SECTOR = 512 };

struct image {
    uint8_t *bytes;
    uint64_t size;
};

struct file {
    struct image now;    /* what the process wrote */
    struct image synced; /* what is certain */
};

struct name {
    char name[DISK_NAME_BYTES_MAX];
    struct file *file;
};

struct names {
    struct name list[FILES_MAX];
    unsigned count;
};

struct change { /* of the directory, not yet synced */
    enum disk_op op;
    char name[DISK_NAME_BYTES_MAX];
    char to[DISK_NAME_BYTES_MAX];
    struct file *file;
};

struct crash_disk {
    pthread_mutex_t lock; /* the disk thread calls the hook */
    struct file *files[FILES_MAX];
    unsigned file_count;
    struct names now;
    struct names synced;
    struct change changes[CHANGES_MAX];
    unsigned change_count;

    unsigned calls;
    unsigned fail_in; /* calls left until the failing one; 0: none */
    int fail_op;      /* -1: any */
    int fail_errno;
    bool fail_all_later;
    bool failed;
    unsigned write_share;
    uint64_t allocation_max;
};

struct crash_disk *crash_disk_new(void)
{
    struct crash_disk *c = xcalloc(1, sizeof(*c));

    c->fail_op = -1;
    ASSERT(pthread_mutex_init(&c->lock, NULL) == 0);
    return c;
}

static void forget(struct crash_disk *c)
{
    for (unsigned i = 0; i < c->file_count; i++) {
        free(c->files[i]->now.bytes);
        free(c->files[i]->synced.bytes);
        free(c->files[i]);
    }
    c->file_count = c->now.count = c->synced.count = c->change_count = 0;
}

void crash_disk_free(struct crash_disk *c)
{
    forget(c);
    (void)pthread_mutex_destroy(&c->lock); /* cannot fail when unlocked */
    free(c);
}

/* ---- names ---- */

static struct name *find(struct names *n, const char *name)
{
    for (unsigned i = 0; i < n->count; i++) {
        if (strcmp(n->list[i].name, name) == 0)
            return &n->list[i];
    }
    return NULL;
}

static void unbind(struct names *n, const char *name)
{
    struct name *at = find(n, name);

    if (at != NULL)
        *at = n->list[--n->count];
}

static void bind(struct names *n, const char *name, struct file *file)
{
    ASSERT(n->count < FILES_MAX);
    unbind(n, name);
    struct name *at = &n->list[n->count++];
    *at = (struct name){ .file = file };
    memcpy(at->name, name, strlen(name));
}

static void apply(struct names *n, const struct change *ch)
{
    if (ch->op == DISK_CREATE) {
        bind(n, ch->name, ch->file);
    } else if (ch->op == DISK_REMOVE) {
        unbind(n, ch->name);
    } else {
        if (find(n, ch->name) != NULL && find(n, ch->name)->file == ch->file)
            unbind(n, ch->name);
        bind(n, ch->to, ch->file);
    }
}

static void change(struct crash_disk *c, const struct disk_call *call, struct file *file)
{
    ASSERT(c->change_count < CHANGES_MAX);
    struct change *ch = &c->changes[c->change_count++];
    *ch = (struct change){ .op = call->op, .file = file };
    memcpy(ch->name, call->name, strlen(call->name));
    if (call->to != NULL)
        memcpy(ch->to, call->to, strlen(call->to));
    apply(&c->now, ch);
}

/* ---- content ---- */

static void resize(struct image *m, uint64_t size)
{
    m->bytes = xrealloc(m->bytes, size + 1);
    if (size > m->size)
        memset(m->bytes + m->size, 0, size - m->size);
    m->size = size;
}

static void overwrite(struct image *m, uint64_t offset, const void *data, uint64_t size)
{
    if (offset + size > m->size)
        resize(m, offset + size);
    if (size > 0)
        memcpy(m->bytes + offset, data, size);
}

static struct file *new_file(struct crash_disk *c)
{
    ASSERT(c->file_count < FILES_MAX);
    struct file *f = xcalloc(1, sizeof(*f));
    c->files[c->file_count++] = f;
    resize(&f->now, 0);
    resize(&f->synced, 0);
    return f;
}

static void note(struct crash_disk *c, const struct disk_call *call, uint64_t size)
{
    struct name *name = find(&c->now, call->name);

    if (call->op == DISK_CREATE && name != NULL) {
        resize(&name->file->now, 0); /* O_TRUNC of the old one */
    } else if (call->op == DISK_CREATE) {
        change(c, call, new_file(c));
    } else if (call->op == DISK_SYNC_DIR) {
        c->synced = c->now;
        c->change_count = 0;
    } else if (name == NULL) {
        return;
    } else if (call->op == DISK_WRITE) {
        overwrite(&name->file->now, call->offset, call->data, size);
    } else if (call->op == DISK_ALLOCATE || call->op == DISK_TRUNCATE) {
        resize(&name->file->now, call->size);
    } else if (call->op == DISK_SYNC) {
        struct file *f = name->file;

        resize(&f->synced, f->now.size);
        memcpy(f->synced.bytes, f->now.bytes, f->now.size);
    } else if (call->op == DISK_RENAME || call->op == DISK_REMOVE) {
        change(c, call, name->file);
    }
}

static int judge(struct crash_disk *c, const struct disk_call *call, uint64_t *write_size)
{
    bool counts = c->fail_op < 0 || (int)call->op == c->fail_op;

    if (call->op == DISK_OPEN || call->op == DISK_READ)
        return 0;
    c->calls++;
    if (call->op == DISK_ALLOCATE && c->allocation_max > 0 && call->size > c->allocation_max)
        return ENOSPC;
    if (counts && c->fail_in > 0 && --c->fail_in == 0)
        c->failed = true;
    else if (!(counts && c->failed && c->fail_all_later)) {
        note(c, call, call->size);
        return 0;
    }
    if (call->op == DISK_WRITE) {
        *write_size = call->size * c->write_share / 256;
        note(c, call, *write_size);
    }
    return c->fail_errno;
}

int crash_disk_hook(void *ctx, const struct disk_call *call, uint64_t *write_size)
{
    struct crash_disk *c = ctx;

    (void)pthread_mutex_lock(&c->lock); /* cannot fail: not recursive */
    int error = judge(c, call, write_size);
    (void)pthread_mutex_unlock(&c->lock);
    return error;
}

unsigned crash_disk_calls(const struct crash_disk *c)
{
    return c->calls;
}

void crash_disk_fail(struct crash_disk *c, unsigned n, int errno_value, bool all_later,
                     unsigned write_share)
{
    (void)pthread_mutex_lock(&c->lock);
    c->fail_in = n;
    c->fail_op = -1;
    c->fail_errno = errno_value;
    c->fail_all_later = all_later;
    c->write_share = write_share;
    c->failed = false;
    (void)pthread_mutex_unlock(&c->lock);
}

void crash_disk_fail_op(struct crash_disk *c, enum disk_op op, unsigned n, int errno_value,
                        bool all_later)
{
    crash_disk_fail(c, n, errno_value, all_later, 0);
    c->fail_op = (int)op;
}

void crash_disk_limit_allocation(struct crash_disk *c, uint64_t bytes)
{
    c->allocation_max = bytes;
}

bool crash_disk_failed(const struct crash_disk *c)
{
    return c->failed;
}

/* ---- the power cut ---- */

/* One sector that differs between what was written and what was synced. */
static void draw_sector(uint8_t *out, const uint8_t *now, size_t size, struct prng *p, bool garbage)
{
    size_t same = 0, cut;

    while (same < size && out[same] == now[same])
        same++;
    switch (prng_below(p, garbage ? 4 : 3)) {
    case 0: /* old */
        break;
    case 1:
        memcpy(out, now, size);
        break;
    case 2:
        cut = (size_t)prng_range(p, same, size);
        memcpy(out + same, now + same, cut - same);
        break;
    default:
        for (size_t i = same; i < size; i++)
            out[i] = (uint8_t)prng_next(p);
    }
}

static void draw_content(struct file *f, struct prng *p, bool garbage)
{
    if (f->now.size != f->synced.size && prng_below(p, 2) == 0)
        resize(&f->synced, f->now.size);
    uint64_t size = MIN(f->now.size, f->synced.size);
    for (uint64_t at = 0; at < size; at += SECTOR) {
        size_t part = (size_t)MIN(size - at, (uint64_t)SECTOR);

        if (memcmp(f->synced.bytes + at, f->now.bytes + at, part) != 0)
            draw_sector(f->synced.bytes + at, f->now.bytes + at, part, p, garbage);
    }
    resize(&f->now, f->synced.size);
    memcpy(f->now.bytes, f->synced.bytes, f->synced.size);
}

static void write_file(const char *dir, const struct name *n)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", dir, n->name);
    CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    const struct image *m = &n->file->now;

    ASSERT(fd >= 0);
    ASSERT(m->size == 0 || write(fd, m->bytes, m->size) == (ssize_t)m->size);
}

/* Files that stay keep their inodes, as they would. */
static void remove_others(struct crash_disk *c, const char *path)
{
    DIR *dir = opendir(path);

    ASSERT(dir != NULL);
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        if (d->d_name[0] != '.' && find(&c->now, d->d_name) == NULL)
            (void)unlinkat(dirfd(dir), d->d_name, 0); /* seen by what is read later */
    }
    (void)closedir(dir); /* read only */
}

void crash_disk_power_cut(struct crash_disk *c, const char *dir, struct prng *p, bool garbage)
{
    for (unsigned i = 0; i < c->change_count; i++) {
        if (prng_below(p, 2) == 0)
            apply(&c->synced, &c->changes[i]);
    }
    c->change_count = 0;
    for (unsigned i = 0; i < c->file_count; i++)
        draw_content(c->files[i], p, garbage);
    c->now = c->synced;
    remove_others(c, dir);
    for (unsigned i = 0; i < c->now.count; i++)
        write_file(dir, &c->now.list[i]);
    crash_disk_fail(c, 0, 0, false, 0);
}
