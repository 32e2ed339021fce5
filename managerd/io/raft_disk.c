#include "managerd/io/raft_disk.h"

#include <inttypes.h>
#include <string.h>

#include "common/assert.h"
#include "common/failpoint.h"
#include "managerd/io/snap_format.h"

enum { ENTRIES_CAPACITY_MIN = 1024 };

/* ---- replay ---- */

struct replay {
    struct raft_entry *entries;
    size_t count;
    size_t capacity;
};

static void cut(struct replay *r, uint64_t index)
{
    while (r->count > 0 && r->entries[r->count - 1].index >= index)
        raft_data_unref(r->entries[--r->count].data);
}

static int on_entry(void *ctx, const struct wal_record *rec, struct err *e)
{
    struct replay *r = ctx;

    if (rec->size > RAFT_ENTRY_BYTES_MAX || rec->entry_type > RAFT_ENTRY_CONFIG)
        return err_set(e, ERR_UNSUPPORTED,
                       "entry %" PRIu64 " has a type or size of a newer version", rec->index);
    cut(r, rec->index);
    if (r->count == r->capacity) {
        r->capacity = MAX(r->capacity * 2, (size_t)ENTRIES_CAPACITY_MIN);
        r->entries = xrealloc_array(r->entries, r->capacity, sizeof(*r->entries));
    }
    r->entries[r->count++] =
        (struct raft_entry){ .index = rec->index,
                             .term = rec->term,
                             .type = (enum raft_entry_type)rec->entry_type,
                             .data = rec->size > 0 ? raft_data_new(rec->data, rec->size) : NULL };
    return 0;
}

static int on_reset(void *ctx, uint64_t index, uint64_t term, struct err *e)
{
    (void)index;
    (void)term;
    (void)e;
    cut(ctx, 0);
    return 0;
}

/* Drops the entries before position first. */
static void drop_front(struct replay *r, size_t first)
{
    for (size_t i = 0; i < first; i++)
        raft_data_unref(r->entries[i].data);
    r->count -= first;
    if (first > 0)
        memmove(r->entries, r->entries + first, r->count * sizeof(*r->entries));
}

/* ---- which snapshot ---- */

static int try_snapshot(struct raft_disk *d, struct snap_name name, struct raft_loaded *l,
                        struct err *e)
{
    struct snap_reader *r;
    int rc = snap_reader_open(&d->store, name.index, name.term, &r, e);

    if (rc < 0)
        return rc;
    rc = snap_reader_verify(r, e);
    if (rc == 0)
        l->snapshot = xmemdup(&snap_reader_meta(r)->raft, sizeof(*l->snapshot));
    snap_reader_close(r);
    return rc;
}

/* Puts a damaged snapshot out of the way, for a person to look at. */
static int set_aside(struct raft_disk *d, struct snap_name name, struct err *e)
{
    char from[DISK_NAME_BYTES_MAX], to[DISK_NAME_BYTES_MAX];

    snap_file_name(name.index, name.term, from);
    (void)snprintf(to, sizeof(to), "broken-%.40s", from); /* fits */
    return disk_rename(d->disk, from, to, e);
}

/* Picks the newest snapshot that verifies; whether the log makes up for newer ones that do not, or
 * for all of them, is for fit() to say. */
static int pick_snapshot(struct raft_disk *d, struct raft_loaded *l, struct err *e)
{
    struct snap_name names[SNAP_KEEP + 1];
    size_t count = 0;
    int rc = snap_list(&d->store, names, ARRAY_LEN(names), &count, e);

    for (size_t i = 0; rc == 0 && i < count && l->snapshot == NULL; i++) {
        rc = try_snapshot(d, names[i], l, e);
        if (rc == 0 && i + 1 < count)
            d->older_snapshot = names[i + 1].index;
        if (rc != -ERR_CORRUPT)
            continue;
        l->broken = MAX(l->broken, names[i].index);
        l->broken_names[l->broken_count++] = names[i];
        rc = 0;
    }
    return rc;
}

/* ---- fitting log and snapshot together ---- */

static int no_cover(struct raft_disk *d, uint64_t index, const struct raft_loaded *l, struct err *e)
{
    if (l->broken != 0)
        return err_set(e, ERR_CORRUPT,
                       "%s: snapshot %" PRIu64 " is damaged and the log does not reach back to the "
                       "older one; remedy: %s",
                       disk_path(d->disk), l->broken, WAL_REMEDY);
    return err_set(e, ERR_CORRUPT,
                   "%s: no entry %" PRIu64 " behind the newest snapshot; remedy: %s",
                   disk_path(d->disk), index, WAL_REMEDY);
}

/* The snapshot is newer than the log, or of another history: the log starts again behind it. A
 * snapshot of the own state may be durable before the write that began its term: whoever died in
 * between goes on in that term. No vote of it is forgotten, since a vote leaves after the term is
 * durable. */
static int replace_log(struct raft_disk *d, struct replay *r, const struct raft_snapshot_meta *s,
                       struct err *e)
{
    struct raft_hard_state h = wal_state(d->wal)->hard_state;
    struct wal_batch b = { .installed = s };

    if (s->term > h.term) {
        h.term = s->term;
        h.vote = RAFT_NONE;
        b.hard_state = &h;
    }
    cut(r, 0);
    if (d->read_only)
        return 0;
    int rc = wal_append(d->wal, &b, e);
    return rc == 0 ? wal_sync(d->wal, e) : rc;
}

static int fit(struct raft_disk *d, struct replay *r, struct raft_loaded *l, uint32_t tail,
               struct err *e)
{
    uint64_t index = l->snapshot != NULL ? l->snapshot->index : 0;
    uint64_t keep = index > tail ? index - tail : 0;
    size_t first = 0;

    if (index < wal_state(d->wal)->snapshot_index && l->broken == 0)
        return err_set(e, ERR_CORRUPT, "%s: snapshot %" PRIu64 " is missing; remedy: %s",
                       disk_path(d->disk), wal_state(d->wal)->snapshot_index, WAL_REMEDY);
    if (wal_state(d->wal)->last_index < index)
        return replace_log(d, r, l->snapshot, e);
    if (r->count == 0) /* the log ends at the newest snapshot */
        return wal_state(d->wal)->last_index > index ? no_cover(d, index + 1, l, e) : 0;
    if (r->entries[0].index > index + 1)
        return no_cover(d, index + 1, l, e);
    if (index >= r->entries[0].index &&
        r->entries[(size_t)(index - r->entries[0].index)].term != l->snapshot->term)
        return replace_log(d, r, l->snapshot, e);
    while (first < r->count && r->entries[first].index < keep)
        first++;
    drop_front(r, first);
    return 0;
}

/* ---- opening ---- */

static int open_base(const struct raft_disk_options *o, bool create, struct raft_disk *d,
                     struct err *e)
{
    struct disk_options disk = {
        .path = o->directory, .create = create, .hook = o->hook, .hook_ctx = o->hook_ctx
    };
    static const struct keyring_options no_lock;
    const struct keyring_options *unlock = o->unlock != NULL ? o->unlock : &no_lock;
    int rc = disk_open(&disk, &d->disk, e);

    if (rc == 0)
        rc = create ? keyring_create(d->disk, unlock, &d->keyring, e)
                    : keyring_load(d->disk, unlock, &d->keyring, e);
    d->store = (struct snap_store){ d->disk, d->keyring, o->cluster_id, o->node_id };
    return rc;
}

static int open_log(const struct raft_disk_options *o, struct raft_disk *d, struct replay *r,
                    struct err *e)
{
    struct wal_options wal = { d->disk,    d->keyring,       o->cluster_id,
                               o->node_id, o->segment_bytes, o->read_only };
    struct wal_replay replay = { r, on_entry, on_reset };

    return wal_open(&wal, &replay, &d->wal, e);
}

static int open_all(const struct raft_disk_options *o, struct raft_disk *d, struct raft_loaded *l,
                    struct err *e)
{
    struct replay r = { 0 };
    struct wal_stats stats;
    int rc = open_base(o, false, d, e);

    if (rc == 0)
        rc = member_load(&d->store, &d->member, &l->moved, e);
    if (rc == 0 && !o->read_only)
        rc = snap_remove_temporaries(&d->store, e);
    if (rc == 0)
        rc = pick_snapshot(d, l, e);
    if (rc == 0)
        rc = open_log(o, d, &r, e);
    (void)FAILPOINT("open.verified");
    if (rc == 0)
        rc = fit(d, &r, l, o->tail_entries, e);
    l->entries = r.entries;
    l->entry_count = r.count;
    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && !o->read_only && i < l->broken_count; i++)
        rc = set_aside(d, l->broken_names[i], e);
    wal_stats(d->wal, &stats);
    l->torn_bytes = stats.torn_bytes;
    l->hard_state = wal_state(d->wal)->hard_state;
    return rc;
}

int raft_disk_open(const struct raft_disk_options *o, struct raft_disk **ret_disk,
                   struct raft_loaded *ret_loaded, struct err *e)
{
    struct raft_disk *d = xcalloc(1, sizeof(*d));
    struct raft_loaded l = { 0 };

    d->read_only = o->read_only;
    int rc = open_all(o, d, &l, e);

    if (rc < 0) {
        raft_loaded_deinit(&l);
        raft_disk_close(d);
        return rc;
    }
    *ret_disk = d;
    *ret_loaded = l;
    return 0;
}

void raft_loaded_deinit(struct raft_loaded *l)
{
    raft_entries_free(l->entries, l->entry_count);
    free(l->snapshot);
    *l = (struct raft_loaded){ 0 };
}

void raft_disk_close(struct raft_disk *d)
{
    if (d == NULL)
        return;
    wal_close(d->wal);
    keyring_free(d->keyring);
    disk_close(d->disk);
    free(d);
}

/* ---- making ---- */

int raft_disk_append(struct raft_disk *d, const struct raft_hard_state *h,
                     const struct raft_entry *entry, struct err *e)
{
    struct wal_batch b = { .hard_state = h,
                           .entries = entry,
                           .entry_count = entry != NULL ? 1 : 0 };
    int rc = wal_append(d->wal, &b, e);

    return rc == 0 ? wal_sync(d->wal, e) : rc;
}

/* The snapshot is durable before the log says that it continues behind it. */
static int seed_snapshot(struct raft_disk *d, const struct raft_disk_seed *seed, struct err *e)
{
    struct snap_meta meta = { .raft = *seed->snapshot, .generation = seed->member.generation };
    struct wal_batch b = { .hard_state = &seed->hard_state, .installed = seed->snapshot };
    CLEANUP_FREE uint8_t *mem = xmalloc(SNAP_CHUNK_BYTES);
    struct snap_writer *w = NULL;
    size_t size;
    int rc = snap_writer_new(&d->store, "taken", &meta, &w, e);

    while (rc == 0 && (size = seed->next(seed->next_ctx, mem, SNAP_CHUNK_BYTES)) > 0)
        rc = snap_writer_add(w, mem, size, e);
    explicit_bzero(mem, SNAP_CHUNK_BYTES);
    if (rc == 0)
        rc = snap_writer_finish(w, NULL, e);
    if (rc < 0) {
        snap_writer_abort(w);
        return rc;
    }
    rc = snap_writer_commit(w, e);
    if (rc == 0)
        rc = wal_append(d->wal, &b, e);
    return rc == 0 ? wal_sync(d->wal, e) : rc;
}

static int create_all(const struct raft_disk_options *o, const struct raft_disk_seed *seed,
                      struct raft_disk *d, struct err *e)
{
    struct replay r = { 0 };
    int rc = open_base(o, true, d, e);

    if (rc == 0)
        rc = open_log(o, d, &r, e);
    free(r.entries);
    if (rc == 0)
        rc = seed->snapshot != NULL ? seed_snapshot(d, seed, e)
                                    : raft_disk_append(d, &seed->hard_state, seed->entry, e);
    return rc == 0 ? member_store(&d->store, &seed->member, e) : rc;
}

int raft_disk_create(const struct raft_disk_options *o, const struct raft_disk_seed *seed,
                     struct err *e)
{
    struct raft_disk *d;

    if (member_exists(o->directory))
        return err_set(e, ERR_EXISTS, "%s holds Raft data already", o->directory);
    int rc = raft_disk_wipe(o->directory, e);
    if (rc < 0)
        return rc;
    d = xcalloc(1, sizeof(*d));
    rc = create_all(o, seed, d, e);
    raft_disk_close(d);
    return rc;
}

/* ---- removing ---- */

static bool is_ours(const char *name)
{
    static const char *const starts[] = {
        "wal-", "snap-", "snap.", "broken-", "keyring", "member"
    };

    for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
        if (strncmp(name, starts[i], strlen(starts[i])) == 0)
            return true;
    }
    return false;
}

/* The member file goes first: without it, the rest is a remnant. */
int raft_disk_wipe(const char *directory, struct err *e)
{
    struct disk_options o = { .path = directory };
    struct disk_names names = { 0 };
    struct disk *d;
    int rc = disk_open(&o, &d, e);

    if (rc < 0)
        return rc == -ERR_NOT_FOUND ? 0 : rc;
    rc = disk_remove(d, "member", e);
    if (rc == 0)
        rc = disk_sync_dir(d, e);
    if (rc == 0)
        rc = disk_list(d, &names, e);
    for (size_t i = 0; rc == 0 && i < names.count; i++) {
        if (is_ours(names.names[i]))
            rc = disk_remove(d, names.names[i], e);
    }
    disk_names_free(&names);
    if (rc == 0)
        rc = disk_sync_dir(d, e);
    disk_close(d);
    return rc;
}

static int retire_keys(struct raft_disk *d, struct err *e)
{
    uint32_t oldest = 0;
    int rc = snap_oldest_key(&d->store, &oldest, e);

    if (rc < 0)
        return rc;
    oldest = MIN(oldest, wal_oldest_key(d->wal));
    if (oldest > 1 && keyring_key(d->keyring, oldest - 1) != NULL) {
        rc = member_store(&d->store, &d->member, e); /* under the current key */
        if (rc == 0)
            rc = keyring_retire(d->keyring, oldest, e);
    }
    return rc;
}

int raft_disk_compact(struct raft_disk *d, uint64_t index, struct err *e)
{
    struct snap_name names[SNAP_KEEP];
    size_t count = 0;
    (void)FAILPOINT("compact.before");
    int rc = snap_prune(&d->store, e);

    if (rc == 0)
        rc = snap_list(&d->store, names, ARRAY_LEN(names), &count, e);
    if (rc < 0)
        return rc;
    d->older_snapshot = count == SNAP_KEEP ? names[SNAP_KEEP - 1].index : 0;
    uint64_t to = MIN(index, d->older_snapshot);
    rc = wal_compact(d->wal, MIN(to, wal_state(d->wal)->snapshot_index), e);
    (void)FAILPOINT("compact.after");
    return rc == 0 ? retire_keys(d, e) : rc;
}
