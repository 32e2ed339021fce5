/* Directories of files in memory, with what disks do to them (managerd/io/disk.h, link.h).
 *
 * Each file has two contents: `now`, what the process reads and a killed process leaves (the page
 * cache), and `synced`, what the disk holds for certain. Bytes that were written and not synced lie
 * in [dirty_from, dirty_to). Names likewise: `now`, `synced`, and the changes in between. */
#include "managerd/io/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "managerd/io/wal_format.h"
#include "test/sim/link/link.h"

enum { NAMES_MAX = 256, CHANGES_MAX = 1024, OPEN_MAX = 64, SECTOR = 512, DIRS_MAX = 64 };

struct image {
    uint8_t *bytes;
    uint64_t size, capacity;
};

struct file {
    struct file *next;
    struct image now, synced;
    uint64_t dirty_from, dirty_to; /* equal: clean */
    uint64_t inode;
};

struct name {
    char name[DISK_NAME_BYTES_MAX];
    struct file *file;
};

struct names {
    struct name list[NAMES_MAX];
    uint32_t count;
};

struct change {
    enum disk_op op;
    char name[DISK_NAME_BYTES_MAX], to[DISK_NAME_BYTES_MAX];
    struct file *file;
};

struct link_dir {
    struct disk *holder; /* NULL: nobody */
    char path[64];
    uint64_t inode;
    struct prng *prng;
    struct file *files; /* all that anything refers to */
    struct names now, synced;
    struct change changes[CHANGES_MAX];
    uint32_t change_count;
    bool dead;
    uint32_t die_after;
    uint32_t sync_fails_in;
    bool sync_failed;
    uint64_t room;
};

struct disk {
    struct link_dir *dir;
    struct file *open[OPEN_MAX];
};

static struct link_dir *dirs[DIRS_MAX];
static uint64_t inode_last;

/* ---- content --------------------------------------------------------------------------------- */

static void resize(struct image *m, uint64_t size)
{
    if (size > m->capacity) {
        m->capacity = MAX(size, 2 * m->capacity);
        m->bytes = xrealloc(m->bytes, m->capacity);
    }
    if (size > m->size)
        memset(m->bytes + m->size, 0, size - m->size);
    m->size = size;
}

static void copy_image(const struct image *from, struct image *to)
{
    resize(to, from->size);
    if (from->size > 0)
        memcpy(to->bytes, from->bytes, from->size);
}

static void touch(struct file *f, uint64_t from, uint64_t to)
{
    if (f->dirty_from == f->dirty_to) {
        f->dirty_from = from;
        f->dirty_to = to;
        return;
    }
    f->dirty_from = MIN(f->dirty_from, from);
    f->dirty_to = MAX(f->dirty_to, to);
}

static void set_size(struct file *f, uint64_t size)
{
    if (size > f->now.size)
        touch(f, f->now.size, size);
    resize(&f->now, size);
}

static void flush(struct file *f)
{
    resize(&f->synced, f->now.size);
    f->dirty_to = MIN(f->dirty_to, f->now.size);
    if (f->dirty_from < f->dirty_to)
        memcpy(f->synced.bytes + f->dirty_from, f->now.bytes + f->dirty_from,
               f->dirty_to - f->dirty_from);
    f->dirty_from = f->dirty_to = 0;
}

static struct file *file_new(struct link_dir *d)
{
    struct file *f = xcalloc(1, sizeof(*f));

    f->inode = ++inode_last;
    f->next = d->files;
    d->files = f;
    return f;
}

static void file_free(struct file *f)
{
    free(f->now.bytes);
    free(f->synced.bytes);
    free(f);
}

/* ---- names ----------------------------------------------------------------------------------- */

static struct name *find(struct names *n, const char *name)
{
    for (uint32_t i = 0; i < n->count; i++) {
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

static void bind_name(struct names *n, const char *name, struct file *file)
{
    unbind(n, name);
    ASSERT(n->count < NAMES_MAX);
    struct name *at = &n->list[n->count++];
    *at = (struct name){ .file = file };
    memcpy(at->name, name, strlen(name));
}

static void apply_change(struct names *n, const struct change *c)
{
    if (c->op == DISK_CREATE) {
        bind_name(n, c->name, c->file);
    } else if (c->op == DISK_REMOVE) {
        unbind(n, c->name);
    } else {
        if (find(n, c->name) != NULL && find(n, c->name)->file == c->file)
            unbind(n, c->name);
        bind_name(n, c->to, c->file);
    }
}

static void change(struct link_dir *d, enum disk_op op, const char *name, const char *to)
{
    ASSERT(d->change_count < CHANGES_MAX);
    struct change *c = &d->changes[d->change_count++];
    *c = (struct change){ .op = op };
    c->file = op == DISK_CREATE ? file_new(d) : find(&d->now, name)->file;
    memcpy(c->name, name, strlen(name));
    if (to != NULL)
        memcpy(c->to, to, strlen(to));
    apply_change(&d->now, c);
}

static bool named(const struct names *n, const struct file *f)
{
    for (uint32_t i = 0; i < n->count; i++) {
        if (n->list[i].file == f)
            return true;
    }
    return false;
}

static bool opened(const struct link_dir *d, const struct file *f)
{
    for (int fd = 0; d->holder != NULL && fd < OPEN_MAX; fd++) {
        if (d->holder->open[fd] == f)
            return true;
    }
    return false;
}

/* Frees files that have no name and are not open. */
static void sweep(struct link_dir *d)
{
    struct file **at = &d->files;

    ASSERT(d->change_count == 0);
    while (*at != NULL) {
        struct file *f = *at;

        if (named(&d->now, f) || named(&d->synced, f) || opened(d, f)) {
            at = &f->next;
        } else {
            *at = f->next;
            file_free(f);
        }
    }
}

/* ---- for the simulator ----------------------------------------------------------------------- */

static struct link_dir **slot_of(const char *path)
{
    for (uint32_t i = 0; i < DIRS_MAX; i++) {
        if (dirs[i] != NULL && strcmp(dirs[i]->path, path) == 0)
            return &dirs[i];
    }
    return NULL;
}

static struct link_dir *lookup(const char *path)
{
    struct link_dir **slot = slot_of(path);

    return slot != NULL ? *slot : NULL;
}

struct link_dir *link_dir_get(const char *path, struct prng *p)
{
    struct link_dir *d = lookup(path);

    for (uint32_t i = 0; d == NULL && i < DIRS_MAX; i++) {
        if (dirs[i] != NULL)
            continue;
        d = dirs[i] = xcalloc(1, sizeof(*d));
        (void)snprintf(d->path, sizeof(d->path), "%s", path); /* short, made by the simulator */
        d->inode = ++inode_last;
        d->die_after = UINT32_MAX;
        d->room = UINT64_MAX;
    }
    ASSERT(d != NULL);
    d->prng = p;
    return d;
}

static void clear(struct link_dir *d)
{
    d->now.count = d->synced.count = d->change_count = 0;
    sweep(d);
}

void link_dir_remove(const char *path)
{
    struct link_dir **slot = slot_of(path);

    if (slot == NULL)
        return;
    ASSERT((*slot)->holder == NULL);
    clear(*slot);
    free(*slot);
    *slot = NULL;
}

void link_dir_copy(const struct link_dir *from, const char *path, struct prng *p)
{
    struct link_dir *d;

    link_dir_remove(path);
    d = link_dir_get(path, p);
    for (uint32_t i = 0; i < from->now.count; i++) {
        struct file *f = file_new(d);

        copy_image(&from->now.list[i].file->now, &f->now);
        copy_image(&f->now, &f->synced);
        bind_name(&d->now, from->now.list[i].name, f);
    }
    d->synced = d->now;
}

void link_dir_swap(const char *a, const char *b)
{
    struct link_dir *x = lookup(a), *y = lookup(b);

    ASSERT(x != NULL && y != NULL && x->holder == NULL && y->holder == NULL);
    (void)snprintf(x->path, sizeof(x->path), "%s", b); /* both were one's before */
    (void)snprintf(y->path, sizeof(y->path), "%s", a);
}

/* One sector that differs between what was written and what was synced. What the two share at its
 * front is never damaged: rewriting it with the same bytes is harmless. */
static void draw_sector(struct link_dir *d, uint8_t *out, const uint8_t *now, size_t size,
                        bool garbage)
{
    size_t same = 0, cut;

    while (same < size && out[same] == now[same])
        same++;
    switch (prng_below(d->prng, garbage ? 4 : 3)) {
    case 0: /* old */
        break;
    case 1:
        memcpy(out, now, size);
        break;
    case 2:
        cut = (size_t)prng_range(d->prng, same, size);
        memcpy(out + same, now + same, cut - same);
        break;
    default:
        for (size_t i = same; i < size; i++)
            out[i] = (uint8_t)prng_next(d->prng);
    }
}

static void draw_content(struct link_dir *d, struct file *f, bool garbage)
{
    uint64_t size;

    if (f->now.size != f->synced.size && prng_below(d->prng, 2) == 0)
        resize(&f->synced, f->now.size);
    size = MIN(f->now.size, f->synced.size);
    for (uint64_t at = f->dirty_from / SECTOR * SECTOR; at < MIN(f->dirty_to, size); at += SECTOR) {
        size_t part = (size_t)MIN(size - at, (uint64_t)SECTOR);

        if (memcmp(f->synced.bytes + at, f->now.bytes + at, part) != 0)
            draw_sector(d, f->synced.bytes + at, f->now.bytes + at, part, garbage);
    }
    copy_image(&f->synced, &f->now);
    f->dirty_from = f->dirty_to = 0;
}

void link_dir_power_cut(struct link_dir *d, bool garbage)
{
    ASSERT(d->holder == NULL);
    for (uint32_t i = 0; i < d->change_count; i++) {
        if (prng_below(d->prng, 2) == 0)
            apply_change(&d->synced, &d->changes[i]);
    }
    d->change_count = 0;
    d->now = d->synced;
    sweep(d);
    for (struct file *f = d->files; f != NULL; f = f->next)
        draw_content(d, f, garbage);
}

void link_dir_die_after(struct link_dir *d, uint32_t operations)
{
    d->dead = operations == 0;
    d->die_after = operations;
}

bool link_dir_dead(const struct link_dir *d)
{
    return d->dead;
}

void link_dir_fail_sync(struct link_dir *d, uint32_t n)
{
    d->sync_fails_in = n;
}

bool link_dir_sync_failed(struct link_dir *d)
{
    bool failed = d->sync_failed;

    d->sync_failed = false;
    return failed;
}

void link_dir_limit(struct link_dir *d, uint64_t bytes)
{
    d->room = bytes;
}

bool link_dir_full(const struct link_dir *d)
{
    return d->room != UINT64_MAX;
}

uint32_t link_dir_count(const struct link_dir *d, const char *start)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < d->now.count; i++)
        count += strncmp(d->now.list[i].name, start, strlen(start)) == 0;
    return count;
}

/* Whether something behind a sector of the log says that what was in it had been promised. */
static bool vouched_for(const char *name, const struct image *m, uint64_t sector, uint64_t end)
{
    struct wal_record r;

    if (strncmp(name, "wal-", 4) != 0)
        return true;
    for (uint64_t at = end; at + WAL_RECORD_HEADER_BYTES <= m->size; at += WAL_RECORD_ALIGN) {
        if (wal_record_intact(m->bytes + at, (size_t)(m->size - at), &r) && r.durable > sector &&
            r.durable <= at)
            return true;
    }
    return false;
}

/* The log's last sector is not lost: with it goes, unnoticed, what vouches for it, and nobody could
 * tell that from a write that was never made. */
static void rot(struct link_dir *d, const struct name *name, char *text, size_t size)
{
    struct file *f = name->file;
    uint64_t at = prng_below(d->prng, f->now.size), sector = at / SECTOR * SECTOR;
    size_t part = (size_t)MIN(f->now.size - sector, (uint64_t)SECTOR);
    uint64_t other = prng_below(d->prng, f->now.size - part + 1) / SECTOR * SECTOR;

    switch (vouched_for(name->name, &f->now, sector, sector + part) ? prng_below(d->prng, 4) : 2) {
    case 0: /* a write that never happened */
        memset(f->now.bytes + sector, 0, part);
        (void)snprintf(text, size, "sector at %llu lost", (unsigned long long)sector);
        break;
    case 1: /* a write to the wrong place */
        memmove(f->now.bytes + sector, f->now.bytes + other, part);
        (void)snprintf(text, size, "sector at %llu misdirected", (unsigned long long)sector);
        break;
    default:
        f->now.bytes[at] ^= (uint8_t)(1u << prng_below(d->prng, 8));
        (void)snprintf(text, size, "byte %llu flipped", (unsigned long long)at);
        break;
    }
    copy_image(&f->now, &f->synced);
}

bool link_dir_rot(struct link_dir *d, char *text, size_t size)
{
    uint32_t at;
    int used;

    ASSERT(d->holder == NULL);
    for (int tries = 0; tries < 16 && d->now.count > 0; tries++) {
        at = (uint32_t)prng_below(d->prng, d->now.count);
        if (d->now.list[at].file->now.size == 0)
            continue;
        used = snprintf(text, size, "%s: ", d->now.list[at].name);
        rot(d, &d->now.list[at], text + used, size - (size_t)used);
        return true;
    }
    return false;
}

/* ---- managerd/io/disk.h ---------------------------------------------------------------------- */

static int failed(const struct disk *d, int error, const char *what, const char *name,
                  struct err *e)
{
    return err_errno(e, error, "%s %s/%s", what, d->dir->path, name);
}

/* 0, or EIO for a dead process. */
static int gate(struct disk *d)
{
    struct link_dir *dir = d->dir;

    if (!dir->dead && dir->die_after != UINT32_MAX && dir->die_after-- == 0)
        dir->dead = true;
    return dir->dead ? EIO : 0;
}

int disk_open(const struct disk_options *o, struct disk **ret_disk, struct err *e)
{
    struct link_dir *dir = lookup(o->path);
    struct disk *d;

    if (dir == NULL)
        return err_set(e, ERR_NOT_FOUND, "%s", o->path);
    if (dir->holder != NULL)
        return err_set(e, ERR_BUSY, "%s is in use", o->path);

    d = xcalloc(1, sizeof(*d));
    d->dir = dir;
    dir->holder = d;
    *ret_disk = d;
    return 0;
}

void disk_close(struct disk *d)
{
    if (d == NULL)
        return;
    d->dir->holder = NULL;
    free(d);
}

const char *disk_path(const struct disk *d)
{
    return d->dir->path;
}

bool disk_exists(const char *path, const char *name)
{
    struct link_dir *d = lookup(path);

    return d != NULL && find(&d->now, name) != NULL;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

int disk_list(struct disk *d, struct disk_names *ret_names, struct err *e)
{
    const struct names *now = &d->dir->now;
    struct disk_names n = { .names = xcalloc(now->count + 1, sizeof(*n.names)) };

    (void)e;
    for (uint32_t i = 0; i < now->count; i++)
        memcpy(n.names[n.count++], now->list[i].name, DISK_NAME_BYTES_MAX);
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
    int error = gate(d);

    if (error == 0 && find(&d->dir->now, from) == NULL)
        error = ENOENT;
    if (error != 0)
        return failed(d, error, "rename", from, e);
    change(d->dir, DISK_RENAME, from, to);
    return 0;
}

int disk_remove(struct disk *d, const char *name, struct err *e)
{
    int error = gate(d);

    if (error != 0)
        return failed(d, error, "remove", name, e);
    if (find(&d->dir->now, name) != NULL)
        change(d->dir, DISK_REMOVE, name, NULL);
    return 0;
}

/* Whether the sync about to happen is the one that fails. */
static bool strikes(struct link_dir *d)
{
    if (d->sync_fails_in == 0 || --d->sync_fails_in > 0)
        return false;
    d->sync_failed = true;
    return true;
}

int disk_sync_dir(struct disk *d, struct err *e)
{
    if (gate(d) != 0 || strikes(d->dir)) {
        (void)failed(d, EIO, "fsync", "", e);
        return -ERR_IO;
    }
    d->dir->synced = d->dir->now;
    d->dir->change_count = 0;
    sweep(d->dir);
    return 0;
}

static int open_file(struct disk *d, const char *name, struct disk_file *ret_file)
{
    for (int fd = 0; fd < OPEN_MAX; fd++) {
        if (d->open[fd] != NULL)
            continue;
        d->open[fd] = find(&d->dir->now, name)->file;
        *ret_file = (struct disk_file){ .disk = d, .fd = fd };
        memcpy(ret_file->name, name, strlen(name));
        return 0;
    }
    return -ERR_NO_SPACE;
}

int disk_file_create(struct disk *d, const char *name, struct disk_file *ret_file, struct err *e)
{
    int error = gate(d);

    if (error == 0 && d->dir->room < SECTOR)
        return err_set(e, ERR_NO_SPACE, "create %s/%s", d->dir->path, name);
    if (error != 0)
        return failed(d, error, "create", name, e);
    if (find(&d->dir->now, name) == NULL)
        change(d->dir, DISK_CREATE, name, NULL);
    else
        set_size(find(&d->dir->now, name)->file, 0);
    return open_file(d, name, ret_file);
}

int disk_file_open(struct disk *d, const char *name, struct disk_file *ret_file, struct err *e)
{
    if (find(&d->dir->now, name) == NULL)
        return failed(d, ENOENT, "open", name, e);
    return open_file(d, name, ret_file);
}

void disk_file_close(struct disk_file *f)
{
    if (f->fd >= 0 && f->disk != NULL)
        f->disk->open[f->fd] = NULL;
    f->fd = -1;
}

static struct file *file_of(struct disk_file *f)
{
    ASSERT(f->fd >= 0 && f->disk->open[f->fd] != NULL);
    return f->disk->open[f->fd];
}

int disk_file_size(struct disk_file *f, uint64_t *ret_size, struct err *e)
{
    (void)e;
    *ret_size = file_of(f)->now.size;
    return 0;
}

int disk_file_place(struct disk_file *f, uint64_t *ret_file, uint64_t *ret_dir, struct err *e)
{
    (void)e;
    *ret_file = file_of(f)->inode;
    *ret_dir = f->disk->dir->inode;
    return 0;
}

/* As much of a growth as there is room for. */
static uint64_t grow(struct link_dir *d, struct file *f, uint64_t to)
{
    uint64_t more = to > f->now.size ? to - f->now.size : 0;
    uint64_t granted = MIN(more, d->room);

    if (d->room != UINT64_MAX)
        d->room -= granted;
    return f->now.size + granted;
}

int disk_file_write(struct disk_file *f, uint64_t offset, const void *data, size_t size,
                    struct err *e)
{
    struct link_dir *d = f->disk->dir;
    struct file *file = file_of(f);
    bool was_dead = d->dead;
    int error = gate(f->disk);
    uint64_t fits = size;

    if (error != 0 && was_dead)
        return failed(f->disk, error, "write", f->name, e);
    if (error != 0)
        fits = prng_below(d->prng, size + 1);
    else if (offset + size > file->now.size && grow(d, file, offset + size) < offset + size) {
        error = ENOSPC;
        fits = file->now.size > offset ? file->now.size - offset : 0;
    }
    if (fits > 0) {
        if (offset + fits > file->now.size)
            set_size(file, offset + fits);
        memcpy(file->now.bytes + offset, data, fits);
        touch(file, offset, offset + fits);
    }
    return error != 0 ? failed(f->disk, error, "write", f->name, e) : 0;
}

int disk_file_read(struct disk_file *f, uint64_t offset, void *mem, size_t size, struct err *e)
{
    const struct image *m = &file_of(f)->now;

    if (offset > m->size || size > m->size - offset)
        return err_set(e, ERR_CORRUPT, "%s/%s ends at %llu", f->disk->dir->path, f->name,
                       (unsigned long long)m->size);
    if (size > 0)
        memcpy(mem, m->bytes + offset, size);
    return 0;
}

int disk_file_allocate(struct disk_file *f, uint64_t size, struct err *e)
{
    struct file *file = file_of(f);
    int error = gate(f->disk);

    if (error == 0 && grow(f->disk->dir, file, size) < size)
        error = ENOSPC;
    if (error != 0)
        return failed(f->disk, error, "allocate", f->name, e);
    set_size(file, size);
    memset(file->now.bytes, 0, size);
    touch(file, 0, size);
    return 0;
}

int disk_file_truncate(struct disk_file *f, uint64_t size, struct err *e)
{
    int error = gate(f->disk);

    if (error != 0)
        return failed(f->disk, error, "truncate", f->name, e);
    set_size(file_of(f), size);
    return 0;
}

/* What a failed sync leaves: pages marked clean, with none, all or some of them on the disk. */
static void fail_sync(struct link_dir *d, struct file *f)
{
    uint64_t kind = prng_below(d->prng, 3);

    if (kind == 1) {
        flush(f);
    } else if (kind == 2) {
        resize(&f->synced, f->now.size);
        for (uint64_t at = f->dirty_from / SECTOR * SECTOR; at < MIN(f->dirty_to, f->now.size);
             at += SECTOR) {
            if (prng_below(d->prng, 2) == 0)
                memcpy(f->synced.bytes + at, f->now.bytes + at,
                       MIN(f->now.size - at, (uint64_t)SECTOR));
        }
    }
    f->dirty_from = f->dirty_to = 0;
}

int disk_file_sync(struct disk_file *f, struct err *e)
{
    struct file *file = file_of(f);

    if (gate(f->disk) != 0) {
        (void)failed(f->disk, EIO, "fdatasync", f->name, e);
        return -ERR_IO;
    }
    if (strikes(f->disk->dir)) {
        fail_sync(f->disk->dir, file);
        (void)failed(f->disk, EIO, "fdatasync", f->name, e);
        return -ERR_IO;
    }
    flush(file);
    return 0;
}

int disk_read_whole(struct disk *d, const char *name, size_t size_max, struct disk_bytes *ret_bytes,
                    struct err *e)
{
    struct disk_file f;
    int rc = disk_file_open(d, name, &f, e);

    if (rc < 0)
        return rc;
    rc = disk_file_sync(&f, e);
    if (rc == 0 && file_of(&f)->now.size > size_max)
        rc = err_set(e, ERR_TOO_BIG, "%s/%s", d->dir->path, name);
    if (rc == 0) {
        const struct file *file = file_of(&f);
        uint8_t *mem = xcalloc(1, file->now.size + 1);

        /* Past the page cache. */
        memcpy(mem, file->synced.bytes, MIN(file->now.size, file->synced.size));
        *ret_bytes = (struct disk_bytes){ mem, (size_t)file->now.size };
    }
    disk_file_close(&f);
    return rc;
}
