/* What a power cut leaves: `crash DIR JOURNAL LINKS SEED [none|random|all]`, after the process that
 * lostwrite.so watched was killed. Of what was not synced it keeps nothing, a random part (the
 * default: each 512-byte sector of a file, its size, and the names up to some moment, on their own)
 * or all. Prints what was taken back. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/mem.h"
#include "common/prng.h"
#include "test/torture/journal.h"

enum { FILES_MAX = 65536 };

struct entry {
    struct journal_record r;
    const uint8_t *data;
};

static struct entry *entries;
static size_t entry_count;
static struct {
    uint64_t id;
    char path[JOURNAL_PATH_BYTES * 2];
} files[FILES_MAX];
static size_t file_count;
static uint64_t seed;
static const char *links;
static enum { KEEP_NONE, KEEP_RANDOM, KEEP_ALL } keep = KEEP_RANDOM;
static size_t sectors_lost, sizes_lost, names_lost;

static void die(const char *what)
{
    fprintf(stderr, "crash: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* ---- reading ---- */

static void read_journal(const char *path)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    static uint8_t *mem; /* stays: entries point into it */
    size_t at = 0, size = 0, capacity = 0;

    if (fd < 0 || fstat(fd, &st) < 0)
        die(path);
    mem = xmalloc((size_t)st.st_size + 1);
    while (size < (size_t)st.st_size) {
        ssize_t n = read(fd, mem + size, (size_t)st.st_size - size);

        if (n <= 0)
            die(path);
        size += (size_t)n;
    }
    while (size - at >= sizeof(struct journal_record)) {
        struct journal_record r;

        memcpy(&r, mem + at, sizeof(r));
        if (size - at - sizeof(r) < r.data_size)
            break; /* cut: the change did not happen */
        if (entry_count == capacity) {
            capacity = MAX(capacity * 2, (size_t)256);
            entries = xrealloc_array(entries, capacity, sizeof(*entries));
        }
        entries[entry_count++] = (struct entry){ r, mem + at + sizeof(r) };
        at += sizeof(r) + r.data_size;
    }
}

/* Where the files are now, wherever they were when they were written. */
static void find_files(const char *folder)
{
    DIR *d = opendir(folder);

    if (d == NULL)
        return;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        CLEANUP_FREE char *path = xasprintf("%s/%s", folder, e->d_name);
        struct stat st;

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || lstat(path, &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode)) {
            find_files(path);
        } else if (S_ISREG(st.st_mode)) {
            ASSERT(file_count < FILES_MAX);
            files[file_count].id = st.st_ino;
            (void)snprintf(files[file_count++].path, sizeof(files[0].path), "%s", path);
        }
    }
    (void)closedir(d); /* only read */
}

static int open_file(uint64_t id)
{
    for (size_t i = 0; i < file_count; i++) {
        if (files[i].id == id)
            return open(files[i].path, O_RDWR | O_CLOEXEC);
    }
    return -1; /* gone for good: nobody can tell */
}

/* ---- choosing ---- */

/* Which record is the last to be kept of one sector, one file's size, or all names. */
static size_t last_kept(uint64_t kind, uint64_t id, uint64_t part)
{
    struct prng p;

    if (keep != KEEP_RANDOM)
        return keep == KEEP_ALL ? entry_count : 0;
    prng_init(&p, seed ^ (kind * 0x9e3779b97f4a7c15u + id) * 0xbf58476d1ce4e5b9u ^ part << 20);
    switch (prng_below(&p, 3)) {
    case 0:
        return 0;
    case 1:
        return entry_count;
    default:
        return (size_t)prng_below(&p, entry_count + 1);
    }
}

/* Walked from the end: what a later record says was synced. */
struct synced {
    uint64_t ids[FILES_MAX];
    size_t count;
};

static bool is_synced(const struct synced *s, uint64_t id)
{
    for (size_t i = 0; i < s->count; i++) {
        if (s->ids[i] == id)
            return true;
    }
    return false;
}

static void note_synced(struct synced *s, uint64_t id)
{
    ASSERT(s->count < FILES_MAX);
    if (!is_synced(s, id))
        s->ids[s->count++] = id;
}

/* ---- taking back ---- */

/* False on a full disk: then the change lasted, which is one of the things that may happen. */
static bool put_back(int fd, uint64_t offset, const uint8_t *mem, size_t size)
{
    ssize_t put = size > 0 ? pwrite(fd, mem, size, (off_t)offset) : 0;

    if (put != (ssize_t)size && errno != ENOSPC)
        die("write back");
    return put == (ssize_t)size;
}

/* Sector by sector; a write that made the file longer leaves zeros, its size is another matter. */
static void undo_write(size_t i, int fd)
{
    const struct journal_record *r = &entries[i].r;
    uint64_t end = r->offset + r->size;

    for (uint64_t at = r->offset; at < end;) {
        uint64_t sector = at / JOURNAL_SECTOR, next = (sector + 1) * JOURNAL_SECTOR;
        uint8_t old[JOURNAL_SECTOR] = { 0 };
        uint64_t from = at - r->offset, size = MIN(next, end) - at;

        if (i >= last_kept(1, r->file, sector)) {
            if (from < r->data_size)
                memcpy(old, entries[i].data + from, MIN(size, r->data_size - from));
            sectors_lost += put_back(fd, at, old, size);
        }
        at += size;
    }
    if (r->size_before < end && i >= last_kept(2, r->file, 0)) {
        if (ftruncate(fd, (off_t)r->size_before) < 0)
            die("truncate");
        sizes_lost++;
    }
}

static void undo_resize(size_t i, int fd)
{
    const struct journal_record *r = &entries[i].r;

    if (i < last_kept(2, r->file, 0))
        return;
    if (ftruncate(fd, (off_t)r->size_before) < 0)
        die("truncate");
    if (put_back(fd, r->size, entries[i].data, r->data_size))
        sizes_lost++;
    else if (ftruncate(fd, (off_t)r->offset) < 0)
        die("truncate");
}

static bool is_at(const char *path, uint64_t id)
{
    struct stat st;

    return lstat(path, &st) == 0 && st.st_ino == id;
}

static void undo_name(const struct journal_record *r)
{
    CLEANUP_FREE char *away = xasprintf("%s/lost-%zu", links, names_lost);

    switch (r->type) {
    case JOURNAL_CREATE:
        if (unlink(r->path) == 0)
            names_lost++;
        break;
    case JOURNAL_MKDIR:
        if (rename(r->path, away) == 0) /* with all that is in it */
            names_lost++;
        break;
    case JOURNAL_RENAME:
        if (!is_at(r->other, r->file) || rename(r->other, r->path) < 0)
            break; /* it was killed before that */
        if (r->saved[0] != '\0' && link(r->saved, r->other) < 0)
            die(r->saved);
        names_lost++;
        break;
    case JOURNAL_UNLINK:
        if (link(r->saved, r->path) == 0)
            names_lost++;
        break;
    default:
        break;
    }
}

static void undo_content(size_t i)
{
    CLEANUP_CLOSE int fd = open_file(entries[i].r.file);

    if (fd >= 0 && entries[i].r.type == JOURNAL_WRITE)
        undo_write(i, fd);
    else if (fd >= 0)
        undo_resize(i, fd);
}

static void undo_all(void)
{
    static struct synced content, names;
    size_t names_kept = last_kept(3, 0, 0);

    for (size_t i = entry_count; i-- > 0;) {
        const struct journal_record *r = &entries[i].r;
        bool is_content = r->type == JOURNAL_WRITE || r->type == JOURNAL_RESIZE;

        if (r->type == JOURNAL_SYNC)
            note_synced(&content, r->file);
        else if (is_content && !is_synced(&content, r->file))
            undo_content(i);
    }
    for (size_t i = entry_count; i-- > names_kept;) {
        const struct journal_record *r = &entries[i].r;

        if (r->type == JOURNAL_SYNC_DIR)
            note_synced(&names, r->file);
        else if (r->type != JOURNAL_WRITE && r->type != JOURNAL_RESIZE && r->type != JOURNAL_SYNC &&
                 !is_synced(&names, r->size))
            undo_name(r);
    }
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fputs("usage: crash DIR JOURNAL LINKS SEED [none|random|all]\n", stderr);
        return 2;
    }
    links = argv[3];
    seed = strtoull(argv[4], NULL, 10);
    if (argc > 5)
        keep = strcmp(argv[5], "none") == 0  ? KEEP_NONE
               : strcmp(argv[5], "all") == 0 ? KEEP_ALL
                                             : KEEP_RANDOM;
    if (access(argv[2], F_OK) < 0)
        return 0; /* nothing was ever written */
    read_journal(argv[2]);
    find_files(argv[1]);
    find_files(argv[3]);
    undo_all();
    sync();
    if (truncate(argv[2], 0) < 0) /* what is there now is durable */
        die(argv[2]);
    printf("lost: %zu sectors, %zu sizes, %zu names of %zu records\n", sectors_lost, sizes_lost,
           names_lost, entry_count);
    return 0;
}
