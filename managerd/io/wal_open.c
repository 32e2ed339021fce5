#include <inttypes.h>
#include <string.h>

#include "common/assert.h"
#include "managerd/io/wal_internal.h"

/* Verification and replay of all segments. The order of trust: a segment's header says how the one
 * before ends, so only the newest can be torn; its first record holds the sum of everything before,
 * so old segments can go. */

struct load {
    struct wal *w;
    const struct wal_replay *replay;
    struct wal_segment *segment; /* being read */
    struct wal_checkpoint state;
    uint64_t held_first; /* entries that the segments hold; 0: none */
    bool started;        /* a checkpoint was seen */
};

static int bad_segment(struct wal *w, uint64_t sequence, const char *what, struct err *e)
{
    return err_set(e, ERR_CORRUPT, "%s/wal-%016" PRIx64 " at offset 0: %s; remedy: %s",
                   disk_path(w->o.disk), sequence, what, WAL_REMEDY);
}

/* ---- replay ---- */

static int refuse(const char *why, struct err *e)
{
    return why == NULL ? 0 : err_set(e, ERR_CORRUPT, "%s; remedy: %s", why, WAL_REMEDY);
}

static bool checkpoints_equal(const struct wal_checkpoint *a, const struct wal_checkpoint *b)
{
    uint8_t x[WAL_CHECKPOINT_BYTES], y[WAL_CHECKPOINT_BYTES];

    wal_checkpoint_encode(a, x);
    wal_checkpoint_encode(b, y);
    return memcmp(x, y, sizeof(x)) == 0;
}

static int on_checkpoint(struct load *l, const struct wal_record *r, struct err *e)
{
    struct wal_checkpoint c;

    if (r->size != WAL_CHECKPOINT_BYTES)
        return refuse("a checkpoint of another size", e);
    wal_checkpoint_decode(r->data, &c);
    if (l->started && !checkpoints_equal(&c, &l->state))
        return refuse("a checkpoint that differs from the records before it", e);
    l->state = c;
    l->started = true;
    return 0;
}

static int on_entry(struct load *l, const struct wal_record *r, struct err *e)
{
    int rc = refuse(wal_check_entry(&l->state, r->index, r->term), e);

    if (rc < 0)
        return rc;
    if (l->held_first == 0 || r->index < l->held_first)
        l->held_first = r->index;
    if (l->segment->entry_min == 0 || r->index < l->segment->entry_min)
        l->segment->entry_min = r->index;
    l->segment->entry_max = MAX(l->segment->entry_max, r->index);
    return l->replay->entry(l->replay->ctx, r, e);
}

static int on_reset(struct load *l, const struct wal_record *r, struct err *e)
{
    int rc = refuse(wal_check_reset(&l->state, r->index, r->term), e);

    if (rc < 0)
        return rc;
    l->held_first = 0;
    return l->replay->reset(l->replay->ctx, r->index, r->term, e);
}

static int on_state(struct load *l, const struct wal_record *r, struct err *e)
{
    struct raft_hard_state h;

    if (wal_state_decode(r, &h) < 0)
        return refuse("a hard state of another size", e);
    return refuse(wal_check_state(&l->state, &h), e);
}

static int on_record(void *ctx, const struct wal_record *r, struct err *e)
{
    struct load *l = ctx;

    switch (r->type) {
    case WAL_CHECKPOINT:
        return on_checkpoint(l, r, e);
    case WAL_STATE:
        return on_state(l, r, e);
    case WAL_ENTRY:
        return on_entry(l, r, e);
    case WAL_SNAPSHOT:
        return refuse(wal_check_snapshot(&l->state, r->index, r->term), e);
    case WAL_RESET:
        return on_reset(l, r, e);
    case WAL_MARK:
        return 0;
    }
    UNREACHABLE(); /* wal_scan() refuses other types */
}

/* ---- segments ---- */

static int read_header(struct wal *w, uint64_t sequence, struct wal_header *ret_h, struct err *e)
{
    char name[DISK_NAME_BYTES_MAX];
    uint8_t head[WAL_HEADER_BYTES];
    struct disk_file f;

    wal_segment_name(sequence, name);
    int rc = disk_file_open(w->o.disk, name, &f, e);
    if (rc < 0)
        return rc;
    rc = disk_file_read(&f, 0, head, sizeof(head), e);
    disk_file_close(&f);
    if (rc < 0 && rc != -ERR_CORRUPT)
        return rc;
    if (rc == 0)
        rc = wal_header_decode(head, ret_h);
    if (rc == -ERR_UNSUPPORTED)
        return err_set(e, ERR_UNSUPPORTED, "%s/%s was written by a newer version",
                       disk_path(w->o.disk), name);
    return rc < 0 ? bad_segment(w, sequence, "damaged header", e) : 0;
}

static int check_header(struct wal *w, uint64_t sequence, const struct wal_header *h, struct err *e)
{
    if (strcmp(h->cluster_id, w->cluster_id) != 0)
        return bad_segment(w, sequence, "belongs to another cluster", e);
    if (strcmp(h->node_id, w->node_id) != 0)
        return bad_segment(w, sequence, "belongs to another node", e);
    if (h->sequence != sequence)
        return bad_segment(w, sequence, "is another segment under this name", e);
    if (keyring_key(w->o.keyring, h->key_id) == NULL)
        return bad_segment(w, sequence, "sealed under a key that the keyring does not hold", e);
    return 0;
}

/* next: the header of the following segment, or NULL for the newest. */
static int load_segment(struct load *l, const struct wal_header *h, const struct wal_header *next,
                        struct err *e)
{
    struct wal *w = l->w;
    char file[DISK_NAME_BYTES_MAX], name[DISK_NAME_BYTES_MAX + 64];
    struct wal_scan_options o = {
        .name = name, .header = h, .key = keyring_key(w->o.keyring, h->key_id), .fn = on_record
    };
    struct wal_scan_result result;
    struct disk_bytes bytes;

    wal_segment_name(h->sequence, file);
    (void)snprintf(name, sizeof(name), "%.63s/%s", disk_path(w->o.disk), file); /* for people */
    int rc = disk_read_whole(w->o.disk, file, WAL_SEGMENT_BYTES_MAX, &bytes, e);
    if (rc < 0)
        return rc;
    CLEANUP_FREE uint8_t *mem = bytes.mem;
    if (bytes.size < WAL_HEADER_BYTES)
        return bad_segment(w, h->sequence, "too short", e);
    if (next != NULL) {
        o.closed = true;
        o.end = next->previous_end;
        memcpy(o.end_tag, next->previous_tag, SEAL_TAG_BYTES);
    }
    l->segment = wal_segment_add(w, h->sequence);
    l->segment->key_id = h->key_id;
    l->segment->bytes = bytes.size;
    o.mem = mem;
    o.size = bytes.size;
    o.ctx = l;
    rc = wal_scan(&o, &result, e);
    if (rc < 0)
        return rc;
    w->previous_end = result.end;
    memcpy(w->previous_tag, result.tag, SEAL_TAG_BYTES);
    w->torn_bytes = result.torn_bytes;
    return 0;
}

/* "wal-" and 16 hexadecimal digits. */
static bool parse_name(const char *name, uint64_t *ret_sequence)
{
    char again[DISK_NAME_BYTES_MAX];
    uint64_t sequence = 0;

    if (strncmp(name, "wal-", 4) != 0 || strlen(name) != 20)
        return false;
    sequence = strtoull(name + 4, NULL, 16);
    wal_segment_name(sequence, again); /* accepts exactly what we would write */
    *ret_sequence = sequence;
    return strcmp(again, name) == 0;
}

/* Finds the newest run of consecutive segments; what lies before a gap was about to be removed when
 * the process ended, or else check_held() misses its entries. Names are sorted. */
static void find_run(const struct disk_names *names, uint64_t *ret_first, uint64_t *ret_last)
{
    uint64_t first = 0, last = 0, sequence;

    for (size_t i = 0; i < names->count; i++) {
        if (!parse_name(names->names[i], &sequence))
            continue;
        if (last == 0 || sequence != last + 1)
            first = sequence;
        last = sequence;
    }
    *ret_first = first;
    *ret_last = last;
}

static int remove_before(struct wal *w, const struct disk_names *names, uint64_t first,
                         struct err *e)
{
    uint64_t sequence;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < names->count; i++) {
        if (parse_name(names->names[i], &sequence) && sequence < first)
            rc = disk_remove(w->o.disk, names->names[i], e);
    }
    return rc;
}

/* The segments must hold every entry behind the newest snapshot. */
static int check_held(const struct load *l, struct err *e)
{
    const struct wal_checkpoint *c = &l->state;
    uint64_t wanted = c->snapshot_index + 1;

    if (c->last_index < wanted || (l->held_first != 0 && l->held_first <= wanted))
        return 0;
    return err_set(e, ERR_CORRUPT,
                   "%s: segments are missing: no entry %" PRIu64 " behind the snapshot; remedy: %s",
                   disk_path(l->w->o.disk), wanted, WAL_REMEDY);
}

static int load_run(struct load *l, uint64_t first, uint64_t last, struct err *e)
{
    struct wal_header h, next;
    int rc = first != 0 ? read_header(l->w, first, &h, e) : 0;

    for (uint64_t sequence = first; rc == 0 && first != 0 && sequence <= last; sequence++) {
        bool newest = sequence == last;

        rc = check_header(l->w, sequence, &h, e);
        if (rc == 0 && !newest)
            rc = read_header(l->w, sequence + 1, &next, e);
        if (rc == 0)
            rc = load_segment(l, &h, newest ? NULL : &next, e);
        h = next;
    }
    return rc;
}

int wal_load(struct wal *w, const struct wal_replay *replay, struct err *e)
{
    struct load l = { .w = w, .replay = replay };
    struct disk_names names;
    uint64_t first, last;
    int rc = disk_list(w->o.disk, &names, e);

    if (rc < 0)
        return rc;
    find_run(&names, &first, &last);
    rc = load_run(&l, first, last, e);
    if (rc == 0)
        rc = check_held(&l, e);
    if (rc == 0 && !w->o.read_only)
        rc = remove_before(w, &names, first, e);
    disk_names_free(&names);
    w->state = l.state;
    return rc;
}
