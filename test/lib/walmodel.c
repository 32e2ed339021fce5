#include "test/lib/walmodel.h"

#include <string.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "test/lib/tmpdir.h"

static const char cluster_id[] = "cluster000000000000000000";

void wal_model_init(struct wal_model *m, uint32_t segment_bytes, bool crash_disk)
{
    memset(m, 0, sizeof(*m));
    m->dir = tmpdir_new_in_memory();
    m->crash = crash_disk ? crash_disk_new() : NULL;
    m->node_id = "node000000000000000000000";
    m->segment_bytes = segment_bytes;
}

void wal_model_deinit(struct wal_model *m)
{
    wal_model_close(m);
    tmpdir_remove(m->dir);
    if (m->crash != NULL)
        crash_disk_free(m->crash);
    free(m->steps);
}

/* ---- states ---- */

static uint64_t hash_state(const struct wal_model_state *s)
{
    uint8_t sum[WAL_CHECKPOINT_BYTES];
    uint64_t first = s->sum.snapshot_index + 1;
    size_t count = s->sum.last_index >= first ? (size_t)(s->sum.last_index - first + 1) : 0;

    wal_checkpoint_encode(&s->sum, sum);
    uint32_t a = crc32c(0, sum, sizeof(sum)), b = crc32c(7, sum, sizeof(sum));
    a = crc32c(a, s->terms + first, count * sizeof(s->terms[0]));
    b = crc32c(b, s->terms + first, count * sizeof(s->terms[0]));
    return (uint64_t)a << 32 | b;
}

static void step(struct wal_model *m)
{
    if ((m->step_count & (m->step_count - 1)) == 0)
        m->steps = xrealloc_array(m->steps, MAX(m->step_count * 2, (size_t)1), sizeof(*m->steps));
    m->steps[m->step_count++] = hash_state(&m->now);
}

static size_t fill_data(uint64_t index, uint64_t term, uint8_t *data)
{
    size_t size = (size_t)((index * 7919 + term * 104729) % WAL_MODEL_DATA_BYTES_MAX);

    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(index + term * 3 + i);
    return size;
}

/* ---- replay ---- */

static int replay_entry(void *ctx, const struct wal_record *r, struct err *e)
{
    struct wal_model *m = ctx;
    uint8_t data[WAL_MODEL_DATA_BYTES_MAX];

    if (r->index > WAL_MODEL_ENTRIES_MAX || r->size != fill_data(r->index, r->term, data) ||
        memcmp(r->data, data, r->size) != 0 || r->entry_type != r->index % 3)
        return err_set(e, ERR_INTERNAL, "model: other bytes replayed");
    m->replayed.terms[r->index] = r->term;
    return 0;
}

static int replay_reset(void *ctx, uint64_t index, uint64_t term, struct err *e)
{
    struct wal_model *m = ctx;

    (void)e;
    m->replayed.terms[index] = term;
    return 0;
}

static int open_all(struct wal_model *m, struct err *e)
{
    struct disk_options d = { .path = m->dir, .create = true, .hook_ctx = m->crash };
    struct keyring_options k = { 0 };
    struct wal_replay replay = { m, replay_entry, replay_reset };

    d.hook = m->crash != NULL ? crash_disk_hook : NULL;
    int rc = disk_open(&d, &m->disk, e);
    if (rc == 0)
        rc = keyring_load(m->disk, &k, &m->keyring, e);
    if (rc == -ERR_NOT_FOUND)
        rc = keyring_create(m->disk, &k, &m->keyring, e);
    if (rc < 0)
        return rc;
    struct wal_options o = { m->disk, m->keyring, cluster_id, m->node_id, m->segment_bytes, false };
    return wal_open(&o, &replay, &m->wal, e);
}

int wal_model_open(struct wal_model *m, struct err *e)
{
    memset(&m->replayed, 0, sizeof(m->replayed));
    int rc = open_all(m, e);
    if (rc < 0) {
        wal_model_close(m);
        return rc;
    }
    m->replayed.sum = *wal_state(m->wal);
    if (m->step_count == 0)
        step(m); /* the empty log */
    return 0;
}

void wal_model_close(struct wal_model *m)
{
    wal_close(m->wal);
    keyring_free(m->keyring);
    disk_close(m->disk);
    m->wal = NULL;
    m->keyring = NULL;
    m->disk = NULL;
}

const char *wal_model_check(struct wal_model *m)
{
    uint64_t hash = hash_state(&m->replayed);

    for (size_t i = m->step_count; i-- > m->promised;) {
        if (m->steps[i] == hash) {
            m->now = m->replayed;
            m->step_count = 0;
            m->promised = 0;
            step(m);
            return NULL;
        }
    }
    for (size_t i = 0; i < m->promised; i++) {
        if (m->steps[i] == hash)
            return "something promised is missing";
    }
    return "what was replayed was never written";
}

/* ---- operations ---- */

/* Records the steps of a batch up to where the log says it got; all of them on success. */
static void finish(struct wal_model *m, const struct wal_model_state *target, int rc)
{
    const struct wal_checkpoint *got = wal_state(m->wal);
    uint8_t x[WAL_CHECKPOINT_BYTES], y[WAL_CHECKPOINT_BYTES];

    wal_checkpoint_encode(got, x);
    wal_checkpoint_encode(&target->sum, y);
    ASSERT(rc < 0 || memcmp(x, y, sizeof(x)) == 0);
    m->now = *target;
    m->now.sum = *got;
}

int wal_model_append(struct wal_model *m, uint64_t index, size_t count, uint64_t term)
{
    static uint8_t bytes[64][WAL_MODEL_DATA_BYTES_MAX];
    static struct wal_model_state target;
    struct raft_data data[64];
    struct raft_entry entries[64];
    struct raft_hard_state h = m->now.sum.hard_state;
    struct wal_batch b = { .entries = entries, .entry_count = count };

    ASSERT(count <= ARRAY_LEN(entries));
    if (term > h.term) {
        h = (struct raft_hard_state){ .term = term, .incarnation = h.incarnation };
        b.hard_state = &h;
        m->now.sum.hard_state = h;
        step(m);
    }
    for (size_t i = 0; i < count; i++) {
        data[i] = (struct raft_data){ .references = 1, .bytes = bytes[i] };
        data[i].size = (uint32_t)fill_data(index + i, term, bytes[i]);
        entries[i] = (struct raft_entry){ index + i, term, (index + i) % 3, &data[i] };
        m->now.terms[index + i] = term;
        m->now.sum.last_index = index + i;
        m->now.sum.last_term = term;
        step(m);
    }
    target = m->now;
    int rc = wal_append(m->wal, &b, NULL);
    finish(m, &target, rc);
    return rc;
}

int wal_model_vote(struct wal_model *m, uint64_t term, uint64_t vote)
{
    static struct wal_model_state target;
    struct raft_hard_state h = { term, vote, m->now.sum.hard_state.incarnation + 1, term % 2 == 0 };
    struct wal_batch b = { .hard_state = &h };

    target = m->now;
    m->now.sum.hard_state = target.sum.hard_state = h;
    step(m);
    int rc = wal_append(m->wal, &b, NULL);
    finish(m, &target, rc);
    return rc;
}

int wal_model_snapshot(struct wal_model *m, uint64_t index)
{
    static struct wal_model_state target;
    struct wal_batch b = { .taken_index = index, .taken_term = m->now.terms[index] };

    m->now.sum.snapshot_index = index;
    m->now.sum.snapshot_term = m->now.terms[index];
    target = m->now;
    step(m);
    int rc = wal_append(m->wal, &b, NULL);
    finish(m, &target, rc);
    return rc;
}

int wal_model_reset(struct wal_model *m, uint64_t index, uint64_t term)
{
    static struct wal_model_state target;
    struct raft_snapshot_meta meta = { .index = index, .term = term };
    struct wal_batch b = { .installed = &meta };

    m->now.sum.snapshot_index = m->now.sum.last_index = index;
    m->now.sum.snapshot_term = m->now.sum.last_term = term;
    m->now.terms[index] = term;
    target = m->now;
    step(m);
    int rc = wal_append(m->wal, &b, NULL);
    finish(m, &target, rc);
    return rc;
}

int wal_model_sync(struct wal_model *m)
{
    int rc = wal_sync(m->wal, NULL);

    if (rc == 0)
        m->promised = m->step_count - 1;
    return rc;
}

static int random_append(struct wal_model *m, struct prng *p)
{
    const struct wal_checkpoint *c = &m->now.sum;
    uint64_t term = c->hard_state.term + prng_below(p, 8) / 7, index = c->last_index + 1;

    if (prng_below(p, 10) == 0) { /* a new leader overwrites */
        term = c->hard_state.term + 1;
        index = prng_range(p, c->snapshot_index + 1, c->last_index + 1);
    }
    size_t count = (size_t)prng_range(p, 1, prng_below(p, 5) == 0 ? 40 : 4);
    return wal_model_append(m, index, count, MAX(term, (uint64_t)1));
}

int wal_model_random(struct wal_model *m, struct prng *p)
{
    const struct wal_checkpoint *c = &m->now.sum;
    int rc = 0;

    switch (prng_below(p, 12)) {
    case 0:
        rc = wal_model_vote(m, c->hard_state.term + 1, prng_below(p, 3));
        break;
    case 1:
        if (c->last_index > c->snapshot_index)
            rc = wal_model_snapshot(m, prng_range(p, c->snapshot_index + 1, c->last_index));
        if (rc == 0)
            rc = wal_model_sync(m);
        if (rc == 0)
            rc = wal_compact(m->wal, c->snapshot_index, NULL);
        break;
    case 2:
        if (c->hard_state.term > 0 && prng_below(p, 4) == 0)
            rc = wal_model_reset(m, c->last_index + prng_below(p, 30) + 1, c->hard_state.term);
        break;
    case 3:
        rc = prng_below(p, 4) == 0 ? wal_maintain(m->wal, NULL) : 0;
        break;
    case 4:
        rc = prng_below(p, 6) == 0 ? wal_roll(m->wal, NULL) : 0;
        break;
    default:
        rc = random_append(m, p);
        break;
    }
    return rc == 0 && prng_below(p, 3) > 0 ? wal_model_sync(m) : rc;
}

char *wal_model_segment_path(const struct wal_model *m, unsigned back)
{
    struct disk_options o = { .path = m->dir };
    struct disk_names names;
    struct disk *d = m->disk;
    char *path = NULL;

    if (d == NULL)
        ASSERT(disk_open(&o, &d, NULL) == 0);
    ASSERT(disk_list(d, &names, NULL) == 0);
    for (size_t i = names.count; i-- > 0 && path == NULL;) {
        bool segment = strncmp(names.names[i], "wal-0", 5) == 0;

        if (segment && back-- == 0)
            path = xasprintf("%s/%s", m->dir, names.names[i]);
    }
    disk_names_free(&names);
    if (m->disk == NULL)
        disk_close(d);
    return path;
}
