#include "managerd/io/wal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/assert.h"
#include "common/random.h"
#include "managerd/io/wal_internal.h"
#include "managerd/raft/mutant.h"

enum {
    FIRST_RECORD_END =
        WAL_HEADER_BYTES + WAL_RECORD_HEADER_BYTES + WAL_CHECKPOINT_BYTES + SEAL_TAG_BYTES,
    MARK_BYTES = WAL_RECORD_HEADER_BYTES + SEAL_TAG_BYTES,
    /* Without a reserve, the last part of a segment belongs to hard states: 3 000 votes. */
    STATE_ROOM_SHARE = 4,
    STATE_ROOM_BYTES_MAX = 256 << 10,
    FULL_EIGHTHS = 3, /* left of a segment without successor when the log calls itself full */
    SMALL_SEGMENT_SHIFTS = 8, /* how often the first segment is halved to fit a full disk */
};

static_assert(FIRST_RECORD_END % WAL_RECORD_ALIGN == 0, "records are aligned");
static_assert(MARK_BYTES % WAL_RECORD_ALIGN == 0, "records are aligned");

const char wal_reserve_name[] = "wal-reserve";

void wal_segment_name(uint64_t sequence, char name[DISK_NAME_BYTES_MAX])
{
    (void)snprintf(name, DISK_NAME_BYTES_MAX, "wal-%016" PRIx64, sequence); /* fits by far */
}

struct wal_segment *wal_segment_add(struct wal *w, uint64_t sequence)
{
    w->segments = xrealloc_array(w->segments, w->segment_count + 1, sizeof(*w->segments));
    struct wal_segment *s = &w->segments[w->segment_count++];
    *s = (struct wal_segment){ .sequence = sequence };
    return s;
}

static struct wal_segment *active_segment(struct wal *w)
{
    ASSERT(w->active.fd >= 0);
    return &w->segments[w->segment_count - 1];
}

/* After an I/O error nothing is known about the file any more. */
static int fail_on_io(struct wal *w, int rc)
{
    if (rc < 0 && rc != -ERR_NO_SPACE)
        w->failed = true;
    return rc;
}

/* ---- rules ---- */

const char *wal_check_entry(struct wal_checkpoint *c, uint64_t index, uint64_t term)
{
    if (index == 0 || index > c->last_index + 1)
        return "a gap in the log";
    if (index <= c->snapshot_index)
        return "an entry below the snapshot";
    if (term == 0 || term > c->hard_state.term)
        return "an entry of a term that was never reached";
    if (index == c->last_index + 1 && term < c->last_term)
        return "an entry with a lower term than the one before";
    c->last_index = index;
    c->last_term = term;
    return NULL;
}

const char *wal_check_state(struct wal_checkpoint *c, const struct raft_hard_state *h)
{
    const struct raft_hard_state *old = &c->hard_state;

    if (h->term < old->term)
        return "a term that goes back";
    if (h->term == old->term && old->vote != RAFT_NONE && h->vote != old->vote &&
        h->incarnation == old->incarnation)
        return "a second vote in one term";
    c->hard_state = *h;
    return NULL;
}

const char *wal_check_snapshot(struct wal_checkpoint *c, uint64_t index, uint64_t term)
{
    if (index < c->snapshot_index || index > c->last_index || term > c->hard_state.term)
        return "a snapshot outside the log";
    c->snapshot_index = index;
    c->snapshot_term = term;
    return NULL;
}

const char *wal_check_reset(struct wal_checkpoint *c, uint64_t index, uint64_t term)
{
    if (index < c->snapshot_index || term == 0 || term > c->hard_state.term)
        return "a snapshot that goes back";
    c->snapshot_index = c->last_index = index;
    c->snapshot_term = c->last_term = term;
    return NULL;
}

/* ---- the reserve ---- */

static void drop_reserve(struct wal *w)
{
    disk_file_close(&w->reserve);
    (void)disk_remove(w->o.disk, wal_reserve_name, NULL); /* tried again when one is made */
}

static int make_reserve(struct wal *w, uint32_t bytes, struct err *e)
{
    int rc = disk_file_create(w->o.disk, wal_reserve_name, &w->reserve, e);

    if (rc < 0)
        return rc;
    rc = disk_file_allocate(&w->reserve, bytes, e);
    if (rc == 0)
        rc = disk_file_sync(&w->reserve, e);
    if (rc < 0)
        drop_reserve(w);
    return rc;
}

/* Takes over a reserve of an earlier run if it is whole and still empty. */
static int find_reserve(struct wal *w, struct err *e)
{
    static const uint8_t zeros[FIRST_RECORD_END];
    uint8_t head[FIRST_RECORD_END];
    uint64_t size = 0;
    int rc = disk_file_open(w->o.disk, wal_reserve_name, &w->reserve, e);

    if (rc == -ERR_NOT_FOUND)
        return 0;
    if (rc == 0)
        rc = disk_file_size(&w->reserve, &size, e);
    if (rc == 0 && size == w->o.segment_bytes)
        rc = disk_file_read(&w->reserve, 0, head, sizeof(head), e);
    if (rc == 0 && (size != w->o.segment_bytes || memcmp(head, zeros, sizeof(head)) != 0))
        drop_reserve(w);
    return rc;
}

int wal_maintain(struct wal *w, struct err *e)
{
    int rc = 0;

    if (w->failed)
        return err_set(e, ERR_IO, "the log failed before");
    if (w->active.fd < 0) /* opened on a full disk */
        rc = wal_roll(w, e);
    if (rc == 0 && w->reserve.fd < 0)
        rc = make_reserve(w, w->o.segment_bytes, e);
    return fail_on_io(w, rc);
}

/* ---- writing ---- */

static void begin_buffer(struct wal *w)
{
    ASSERT(w->buffer_size == 0);
    memcpy(w->buffer_tag, w->cipher.tag, SEAL_TAG_BYTES);
    w->next = w->state;
    w->next_entry_min = active_segment(w)->entry_min;
    w->next_entry_max = active_segment(w)->entry_max;
}

static void put_record(struct wal *w, struct wal_record *r)
{
    size_t bytes = wal_record_bytes(r->size);

    if (w->buffer_size + bytes > w->buffer_capacity) {
        w->buffer_capacity = MAX(w->buffer_size + bytes, w->buffer_capacity * 2);
        w->buffer = xrealloc(w->buffer, w->buffer_capacity);
    }
    r->nonce = w->nonce++;
    r->durable = (uint32_t)w->promised;
    wal_record_encode(&w->cipher, w->end + w->buffer_size, r, w->buffer + w->buffer_size);
    w->buffer_size += bytes;
}

/* Writes what was encoded. On failure it is as if it had never been encoded. */
static int flush(struct wal *w, struct err *e)
{
    size_t size = w->buffer_size;

    w->buffer_size = 0;
    if (size == 0)
        return 0;
    int rc = disk_file_write(&w->active, w->end, w->buffer, size, e);
    if (rc < 0) {
        memcpy(w->cipher.tag, w->buffer_tag, SEAL_TAG_BYTES);
        w->tail_unknown = true;
        return fail_on_io(w, rc);
    }
    w->end += size;
    w->append_bytes += size;
    w->state = w->next;
    active_segment(w)->entry_min = w->next_entry_min;
    active_segment(w)->entry_max = w->next_entry_max;
    return 0;
}

static int sync_active(struct wal *w, struct err *e)
{
    int rc = RAFT_MUTANT(RAFT_MUTANT_WAL_NO_SYNC) ? 0 : disk_file_sync(&w->active, e);

    if (rc < 0 && RAFT_MUTANT(RAFT_MUTANT_SYNC_RETRIED))
        rc = disk_file_sync(&w->active, e);
    if (rc < 0)
        return fail_on_io(w, rc);
    w->synced = w->promised = w->end;
    w->sync_count++;
    return 0;
}

/* Tells later readers how much was promised. Losing it costs only that knowledge, so it waits for
 * the next sync. */
static int write_mark(struct wal *w, struct err *e)
{
    struct wal_record mark = { .type = WAL_MARK };

    if (w->end + MARK_BYTES > active_segment(w)->bytes)
        return 0;
    begin_buffer(w);
    put_record(w, &mark);
    int rc = flush(w, e);
    return rc == -ERR_NO_SPACE ? 0 : rc; /* the next append starts a new segment */
}

int wal_sync(struct wal *w, struct err *e)
{
    if (w->failed)
        return err_set(e, ERR_IO, "the log failed before");
    if (w->active.fd < 0 || w->end == w->synced)
        return 0;
    int rc = sync_active(w, e);
    return rc < 0 ? rc : write_mark(w, e);
}

/* ---- segments ---- */

/* Fills the reserve's beginning and makes it ready to be renamed. */
static int prepare_segment(struct wal *w, const struct wal_header *h, struct wal_cipher *ret_cipher,
                           struct err *e)
{
    uint8_t first[FIRST_RECORD_END], checkpoint[WAL_CHECKPOINT_BYTES];
    const uint8_t *key = keyring_key(w->o.keyring, h->key_id);
    struct wal_record r = { .type = WAL_CHECKPOINT,
                            .data = checkpoint,
                            .size = sizeof(checkpoint) };
    struct wal_cipher cipher;

    ASSERT(key != NULL);
    wal_header_encode(h, first);
    wal_cipher_init(&cipher, h, first, key);
    struct wal_checkpoint sum = w->state;
    if (RAFT_MUTANT(RAFT_MUTANT_STATE_AFTER_GC))
        sum.hard_state = (struct raft_hard_state){ 0 };
    wal_checkpoint_encode(&sum, checkpoint);
    wal_record_encode(&cipher, WAL_HEADER_BYTES, &r, first + WAL_HEADER_BYTES);
    int rc = disk_file_write(&w->reserve, 0, first, sizeof(first), e);
    if (rc == 0)
        rc = disk_file_sync(&w->reserve, e);
    if (rc < 0) {
        wal_cipher_deinit(&cipher);
        return rc;
    }
    *ret_cipher = cipher;
    return 0;
}

static void fill_header(struct wal *w, struct wal_header *h)
{
    *h = (struct wal_header){ .key_id = keyring_current(w->o.keyring), .sequence = 1 };
    if (w->segment_count > 0)
        h->sequence = w->segments[w->segment_count - 1].sequence + 1;
    h->previous_end = w->active.fd >= 0 ? w->end : w->previous_end;
    memcpy(h->previous_tag, w->active.fd >= 0 ? w->cipher.tag : w->previous_tag, SEAL_TAG_BYTES);
    random_bytes(h->salt, sizeof(h->salt));
    memcpy(h->cluster_id, w->cluster_id, sizeof(h->cluster_id));
    memcpy(h->node_id, w->node_id, sizeof(h->node_id));
}

/* The segment that ended gives its unused bytes back. Failing costs only space: the header of the
 * new one tells where it ends. */
static void close_active(struct wal *w)
{
    struct wal_segment *s = active_segment(w);

    if (disk_file_truncate(&w->active, w->end, NULL) == 0)
        s->bytes = w->end;
    disk_file_close(&w->active);
    wal_cipher_deinit(&w->cipher);
}

static void start_segment(struct wal *w, const struct wal_header *h,
                          const struct wal_cipher *cipher, uint64_t bytes)
{
    char name[DISK_NAME_BYTES_MAX] = { 0 };

    if (w->active.fd >= 0)
        close_active(w);
    struct wal_segment *s = wal_segment_add(w, h->sequence);
    s->key_id = h->key_id;
    s->bytes = bytes;
    w->active = w->reserve;
    wal_segment_name(h->sequence, name);
    memcpy(w->active.name, name, sizeof(name));
    w->reserve.fd = -1;
    w->cipher = *cipher;
    w->end = w->synced = w->promised = FIRST_RECORD_END;
    w->nonce = 1; /* 0 sealed the checkpoint */
    w->tail_unknown = false;
}

int wal_roll(struct wal *w, struct err *e)
{
    char name[DISK_NAME_BYTES_MAX];
    struct wal_cipher cipher;
    struct wal_header h;
    uint64_t bytes = 0;
    int rc = 0;

    ASSERT(w->buffer_size == 0);
    if (w->failed)
        return err_set(e, ERR_IO, "the log failed before");
    if (w->reserve.fd < 0)
        rc = make_reserve(w, w->o.segment_bytes, e);
    if (rc == 0)
        rc = disk_file_size(&w->reserve, &bytes, e);
    if (rc == 0 && w->active.fd >= 0 && w->end != w->synced)
        rc = sync_active(w, e);
    if (rc < 0)
        return fail_on_io(w, rc);
    fill_header(w, &h);
    rc = prepare_segment(w, &h, &cipher, e);
    if (rc < 0)
        return fail_on_io(w, rc);
    wal_segment_name(h.sequence, name);
    rc = disk_rename(w->o.disk, wal_reserve_name, name, e);
    if (rc < 0) {
        wal_cipher_deinit(&cipher);
        return fail_on_io(w, rc);
    }
    start_segment(w, &h, &cipher, bytes);
    rc = RAFT_MUTANT(RAFT_MUTANT_NAME_NO_SYNC) ? 0 : disk_sync_dir(w->o.disk, e);
    if (rc < 0)
        w->failed = true; /* the new name may be lost: nothing may be written under it */
    return rc;
}

/* ---- appending ---- */

size_t wal_entry_bytes_max(const struct wal *w)
{
    size_t room = w->o.segment_bytes - FIRST_RECORD_END - MARK_BYTES - WAL_RECORD_HEADER_BYTES -
                  SEAL_TAG_BYTES - WAL_RECORD_ALIGN;

    return MIN(room, (size_t)RAFT_ENTRY_BYTES_MAX);
}

static uint32_t entry_size(const struct raft_entry *entry)
{
    return entry->data != NULL ? entry->data->size : 0;
}

/* Bytes that must stay free in the active segment for hard states. */
static uint64_t state_room(const struct wal *w)
{
    uint64_t bytes = w->segments[w->segment_count - 1].bytes;

    return w->reserve.fd >= 0 ? 0 : MIN(bytes / STATE_ROOM_SHARE, (uint64_t)STATE_ROOM_BYTES_MAX);
}

enum wal_space wal_space(const struct wal *w)
{
    if (w->active.fd < 0 || w->tail_unknown)
        return WAL_SPACE_FULL;
    if (w->reserve.fd >= 0)
        return WAL_SPACE_OK;
    uint64_t bytes = w->segments[w->segment_count - 1].bytes;
    return w->end + bytes * FULL_EIGHTHS / 8 > bytes ? WAL_SPACE_FULL : WAL_SPACE_LOW;
}

/* Makes room for a record of the given size in the active segment, perhaps a new one. */
static int make_room(struct wal *w, const struct wal_record *r, struct err *e)
{
    size_t bytes = wal_record_bytes(r->size) + MARK_BYTES;
    bool entry = r->type == WAL_ENTRY;

    if (w->end + w->buffer_size + bytes <= active_segment(w)->bytes) {
        uint64_t room = active_segment(w)->bytes - w->end - w->buffer_size - bytes;

        if (!entry || room >= state_room(w))
            return 0;
        int rc = wal_maintain(w, e); /* the reserve is missing: can it be had by now? */
        return rc;
    }
    int rc = flush(w, e);
    if (rc == 0)
        rc = wal_roll(w, e);
    if (rc < 0)
        return rc;
    begin_buffer(w);
    if (w->end + bytes <= active_segment(w)->bytes)
        return 0;
    return err_set(e, ERR_NO_SPACE, "no room in a small segment");
}

static int append_record(struct wal *w, struct wal_record *r, struct err *e)
{
    int rc = make_room(w, r, e);

    if (rc == 0 && w->buffer_size > WAL_BUFFER_BYTES) {
        rc = flush(w, e);
        if (rc == 0)
            begin_buffer(w);
    }
    if (rc == 0)
        put_record(w, r);
    return rc;
}

static int append_state(struct wal *w, const struct raft_hard_state *h, struct err *e)
{
    uint8_t data[WAL_STATE_BYTES];
    struct wal_record r = {
        .type = WAL_STATE, .index = h->vote, .term = h->term, .data = data, .size = sizeof(data)
    };

    wal_state_encode(h, data);
    int rc = append_record(w, &r, e);
    if (rc == 0)
        ASSERT(wal_check_state(&w->next, h) == NULL);
    return rc;
}

static int append_entry(struct wal *w, const struct raft_entry *entry, struct err *e)
{
    struct wal_record r = { .type = WAL_ENTRY,
                            .entry_type = (uint8_t)entry->type,
                            .index = entry->index,
                            .term = entry->term,
                            .data = entry->data != NULL ? entry->data->bytes : NULL,
                            .size = entry_size(entry) };
    int rc = append_record(w, &r, e);

    if (rc < 0)
        return rc;
    ASSERT(wal_check_entry(&w->next, entry->index, entry->term) == NULL);
    if (w->next_entry_min == 0 || entry->index < w->next_entry_min)
        w->next_entry_min = entry->index;
    w->next_entry_max = MAX(w->next_entry_max, entry->index);
    return 0;
}

static int append_marker(struct wal *w, enum wal_type type, uint64_t index, uint64_t term,
                         struct err *e)
{
    struct wal_record r = { .type = type, .index = index, .term = term };
    int rc = append_record(w, &r, e);

    if (rc == 0)
        ASSERT((type == WAL_RESET ? wal_check_reset(&w->next, index, term)
                                  : wal_check_snapshot(&w->next, index, term)) == NULL);
    return rc;
}

static int append_all(struct wal *w, const struct wal_batch *b, struct err *e)
{
    int rc = 0;

    /* A received snapshot may be of the term that the hard state beside it begins. */
    if (b->hard_state != NULL)
        rc = append_state(w, b->hard_state, e);
    if (rc == 0 && b->installed != NULL)
        rc = append_marker(w, WAL_RESET, b->installed->index, b->installed->term, e);
    if (rc == 0 && b->taken_index != 0)
        rc = append_marker(w, WAL_SNAPSHOT, b->taken_index, b->taken_term, e);
    for (size_t i = 0; rc == 0 && i < b->entry_count; i++)
        rc = append_entry(w, &b->entries[i], e);
    return rc;
}

int wal_append(struct wal *w, const struct wal_batch *b, struct err *e)
{
    int rc = 0;

    ASSERT(!w->o.read_only);
    if (w->failed)
        return err_set(e, ERR_IO, "the log failed before");
    for (size_t i = 0; i < b->entry_count; i++) {
        if (entry_size(&b->entries[i]) > wal_entry_bytes_max(w))
            return err_set(e, ERR_TOO_BIG, "entry of %u bytes, more than %zu",
                           entry_size(&b->entries[i]), wal_entry_bytes_max(w));
    }
    if (w->active.fd < 0 || w->tail_unknown)
        rc = wal_roll(w, e);
    if (rc < 0)
        return rc;
    begin_buffer(w);
    rc = append_all(w, b, e);
    /* What fitted goes out even when the rest does not: a hard state must not wait for entries. */
    int flushed = w->failed || w->tail_unknown ? 0 : flush(w, e);
    w->buffer_size = 0;
    return rc < 0 ? rc : flushed;
}

/* ---- opening, closing, removing ---- */

/* Gives back what the newest segment of the last run does not use. Nothing behind its end was kept,
 * so this changes no meaning, and failing costs only space. */
static void trim_previous(struct wal *w)
{
    char name[DISK_NAME_BYTES_MAX];
    struct disk_file f;

    if (w->segment_count == 0)
        return;
    wal_segment_name(w->segments[w->segment_count - 1].sequence, name);
    if (disk_file_open(w->o.disk, name, &f, NULL) < 0)
        return;
    if (disk_file_truncate(&f, w->previous_end, NULL) == 0)
        w->segments[w->segment_count - 1].bytes = w->previous_end;
    disk_file_close(&f);
}

/* The first segment of this run. On a full disk a small one will do: elections need little. */
static int start_first(struct wal *w, struct err *e)
{
    uint32_t bytes = w->o.segment_bytes;
    int rc = 0;

    for (int i = 0; i < SMALL_SEGMENT_SHIFTS && w->reserve.fd < 0; i++) {
        rc = make_reserve(w, MAX(bytes >> i, (uint32_t)WAL_SEGMENT_BYTES_MIN), e);
        if (rc < 0 && rc != -ERR_NO_SPACE)
            return rc;
    }
    rc = rc < 0 ? rc : wal_roll(w, e);
    if (rc == 0 && w->segments[w->segment_count - 1].bytes == w->o.segment_bytes)
        rc = wal_maintain(w, e);
    if (rc == -ERR_NO_SPACE && e != NULL)
        *e = (struct err){ 0 };
    return rc == -ERR_NO_SPACE ? 0 : rc;
}

int wal_open(const struct wal_options *o, const struct wal_replay *replay, struct wal **ret_wal,
             struct err *e)
{
    struct wal *w = xcalloc(1, sizeof(*w));

    w->o = *o;
    w->active.fd = w->reserve.fd = -1;
    w->o.segment_bytes = o->segment_bytes != 0 ? o->segment_bytes : WAL_SEGMENT_BYTES;
    ASSERT(w->o.segment_bytes >= WAL_SEGMENT_BYTES_MIN);
    ASSERT(w->o.segment_bytes <= WAL_SEGMENT_BYTES_MAX);
    ASSERT(strlen(o->cluster_id) < sizeof(w->cluster_id));
    ASSERT(strlen(o->node_id) < sizeof(w->node_id));
    memcpy(w->cluster_id, o->cluster_id, strlen(o->cluster_id));
    memcpy(w->node_id, o->node_id, strlen(o->node_id));
    int rc = wal_load(w, replay, e);
    /* An earlier start may have died with its segment's name not yet on the disk. It has to be
     * before the next one is made: a gap would hide what lies before it. */
    if (rc == 0 && !o->read_only)
        rc = disk_sync_dir(w->o.disk, e);
    if (rc == 0 && !o->read_only)
        rc = find_reserve(w, e);
    if (rc == 0 && !o->read_only) {
        trim_previous(w);
        rc = start_first(w, e);
    }
    if (rc < 0) {
        wal_close(w);
        return rc;
    }
    *ret_wal = w;
    return 0;
}

void wal_close(struct wal *w)
{
    if (w == NULL)
        return;
    disk_file_close(&w->active);
    disk_file_close(&w->reserve);
    wal_cipher_deinit(&w->cipher);
    free(w->segments);
    free(w->buffer);
    free(w);
}

const struct wal_checkpoint *wal_state(const struct wal *w)
{
    return &w->state;
}

bool wal_segment_at(const struct wal *w, size_t i, struct wal_segment_info *ret_info)
{
    if (i >= w->segment_count)
        return false;
    const struct wal_segment *s = &w->segments[i];
    *ret_info = (struct wal_segment_info){ s->sequence, s->entry_min, s->entry_max, s->bytes };
    return true;
}

uint64_t wal_first_index(const struct wal *w)
{
    for (size_t i = 0; i < w->segment_count; i++) {
        if (w->segments[i].entry_min != 0)
            return w->segments[i].entry_min;
    }
    return 0;
}

void wal_stats(const struct wal *w, struct wal_stats *ret_stats)
{
    struct wal_stats s = { .segment_count = (uint32_t)w->segment_count,
                           .torn_bytes = w->torn_bytes,
                           .sync_count = w->sync_count,
                           .append_bytes = w->append_bytes };

    for (size_t i = 0; i < w->segment_count; i++)
        s.bytes += w->segments[i].bytes;
    if (w->reserve.fd >= 0)
        s.bytes += w->o.segment_bytes;
    *ret_stats = s;
}

int wal_compact(struct wal *w, uint64_t index, struct err *e)
{
    char name[DISK_NAME_BYTES_MAX];
    size_t count = 0;
    int rc = 0;

    ASSERT(index <= w->state.snapshot_index);
    if (w->failed)
        return err_set(e, ERR_IO, "the log failed before");
    while (count + 1 < w->segment_count && w->segments[count].entry_max <= index) {
        wal_segment_name(w->segments[count].sequence, name);
        rc = disk_remove(w->o.disk, name, e);
        if (rc < 0)
            break;
        count++;
    }
    w->segment_count -= count;
    memmove(w->segments, w->segments + count, w->segment_count * sizeof(*w->segments));
    if (rc == 0 && count > 0)
        rc = disk_sync_dir(w->o.disk, e);
    return fail_on_io(w, rc);
}

uint32_t wal_oldest_key(const struct wal *w)
{
    uint32_t oldest = keyring_current(w->o.keyring);

    for (size_t i = 0; i < w->segment_count; i++)
        oldest = MIN(oldest, w->segments[i].key_id);
    return oldest;
}
