/* Taking a snapshot without a pause, and loading one. The state machine hands out references; they
 * are serialised piece by piece on the disk thread, between writes of the log. */
#include <inttypes.h>

#include "common/assert.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "managerd/io/raft_node_internal.h"
#include "managerd/raft/mutant.h"

enum { PIECES_PER_JOB = 4 }; /* of SNAP_CHUNK_BYTES: how long a write of the log may have to wait */

/* ---- taking ---- */

static int take_finish(struct take *t)
{
    struct snap_writer *w = t->writer;
    int rc = snap_writer_finish(w, NULL, &t->err);

    if (rc < 0)
        return rc;
    t->writer = NULL;
    t->finished = true;
    return snap_writer_commit(w, &t->err);
}

/* Disk thread. */
static void run_take(void *arg)
{
    struct take *t = arg;

    (void)FAILPOINT("snap.take.piece");
    t->rc = 0;
    if (t->writer == NULL)
        t->rc = snap_writer_new(t->store, "taken", &t->meta, &t->writer, &t->err);
    for (int i = 0; t->rc == 0 && !t->finished && i < PIECES_PER_JOB; i++) {
        size_t size = t->node->o.fsm->snapshot_next(t->snapshot, t->mem, SNAP_CHUNK_BYTES);

        ASSERT(size <= SNAP_CHUNK_BYTES);
        t->rc = size > 0 ? snap_writer_add(t->writer, t->mem, size, &t->err) : take_finish(t);
    }
    if (t->rc < 0) {
        snap_writer_abort(t->writer);
        t->writer = NULL;
    }
}

void raft_take_free(struct raft_node *n)
{
    struct take *t = n->take;

    if (t == NULL)
        return;
    n->take = NULL;
    snap_writer_abort(t->writer);
    n->o.fsm->snapshot_end(n->o.ctx, t->snapshot);
    free(t->mem);
    free(t);
}

static void on_taken(void *ctx, void *arg)
{
    struct raft_node *n = ctx;
    struct take *t = arg;

    ASSERT(n->take == t);
    if (t->rc == 0 && !t->finished) {
        raft_node_submit(n, run_take, on_taken, t);
        return;
    }
    if (t->rc == 0) {
        log_info("raft.snapshot_taken", "index=%" PRIu64 " term=%" PRIu64, t->meta.raft.index,
                 t->meta.raft.term);
        (void)FAILPOINT("snap.take.done");
        raft_write_taken(n, t->meta.raft.index, t->meta.raft.term);
    } else if (t->rc != -ERR_IO) {
        log_warn("raft.snapshot_failed", "reason=\"%s\" retry_ms=%d", t->err.message,
                 TAKE_RETRY_MS);
        n->take_after_ms = raft_node_now(n) + TAKE_RETRY_MS;
        n->entries_since_snapshot = n->o.snapshot_entries; /* still due */
    } else {
        raft_node_fail(n, &t->err);
    }
    raft_take_free(n);
}

/* The compaction policy. Called when the state machine is exactly at applied_index. */
void raft_take_consider(struct raft_node *n)
{
    struct raft_status s;
    struct take *t;

    if (n->take != NULL || n->load != NULL || n->install_pending || n->failed ||
        (n->entries_since_snapshot < n->o.snapshot_entries &&
         n->bytes_since_snapshot < n->o.snapshot_bytes) ||
        raft_node_now(n) < n->take_after_ms)
        return;
    raft_status(n->core, &s);
    if (n->applied_index <= s.snapshot_index || n->applied_index <= n->snapshot_index)
        return; /* a received snapshot is on its way in */
    t = xcalloc(1, sizeof(*t));
    t->node = n;
    t->store = &n->disk->store;
    t->mem = xmalloc(SNAP_CHUNK_BYTES);
    t->meta.generation = n->core_options.generation;
    t->meta.raft.index = n->applied_index;
    if (RAFT_MUTANT(RAFT_MUTANT_STATE_LATER) && n->applied_index > s.snapshot_index + 1)
        t->meta.raft.index--;
    t->meta.raft.term = raft_term_at(n->core, t->meta.raft.index);
    ASSERT(t->meta.raft.term != 0);
    raft_config_at(n->core, t->meta.raft.index, &t->meta.raft.config);
    t->snapshot = n->o.fsm->snapshot_begin(n->o.ctx);
    (void)FAILPOINT("snap.take.begin");
    n->take = t;
    n->entries_since_snapshot = 0;
    n->bytes_since_snapshot = 0;
    raft_node_submit(n, run_take, on_taken, t);
}

/* ---- loading ---- */

/* Disk thread: the next piece. */
static void run_load(void *arg)
{
    struct load *l = arg;
    struct snap_piece piece = { l->offset, l->mem, SNAP_CHUNK_BYTES };

    l->rc = 0;
    if (l->reader == NULL)
        l->rc = snap_reader_open(l->store, l->name.index, l->name.term, &l->reader, &l->err);
    if (l->rc == 0)
        l->rc = snap_reader_read(l->reader, &piece, &l->size, &l->err);
}

void raft_load_free(struct raft_node *n)
{
    struct load *l = n->load;

    if (l == NULL)
        return;
    n->load = NULL;
    snap_reader_close(l->reader);
    free(l->mem);
    free(l);
}

static void load_done(struct raft_node *n, uint64_t index)
{
    n->applied_index = index;
    n->entries_since_snapshot = 0;
    n->bytes_since_snapshot = 0;
    log_info("raft.snapshot_loaded", "index=%" PRIu64, index);
    (void)FAILPOINT("snap.load.done");
    raft_node_wake(n);
}

static void on_loaded(void *ctx, void *arg)
{
    struct raft_node *n = ctx;
    struct load *l = arg;

    ASSERT(n->load == l);
    if (l->rc == 0 && l->size > 0)
        l->rc = n->o.fsm->install_feed(n->o.ctx, l->mem, l->size, &l->err);
    if (l->rc == 0 && l->size > 0) {
        l->offset += l->size;
        raft_node_submit(n, run_load, on_loaded, l);
        return;
    }
    if (l->rc == 0)
        l->rc = n->o.fsm->install_finish(n->o.ctx, l->name.index, &l->err);
    if (l->rc == 0)
        load_done(n, l->name.index);
    else
        raft_node_fail(n, &l->err); /* committed state that cannot be had: never go on without */
    raft_load_free(n);
}

static struct load *load_new(struct raft_node *n, struct snap_name name)
{
    struct load *l = xcalloc(1, sizeof(*l));

    l->node = n;
    l->store = &n->disk->store;
    l->name = name;
    l->mem = xmalloc(SNAP_CHUNK_BYTES);
    return l;
}

void raft_load_start(struct raft_node *n, uint64_t index)
{
    struct err e = { 0 };

    ASSERT(n->load == NULL);
    ASSERT(n->snapshot_index >= index); /* installed, hence durable */
    (void)FAILPOINT("snap.load.begin");
    if (n->o.fsm->install_begin(n->o.ctx, index) < 0) {
        (void)err_set(&e, ERR_INTERNAL, "the store refuses snapshot %" PRIu64, index);
        raft_node_fail(n, &e);
        return;
    }
    n->load = load_new(n, (struct snap_name){ index, n->snapshot_term });
    raft_node_submit(n, run_load, on_loaded, n->load);
}

int raft_load_now(struct raft_node *n, const struct raft_snapshot_meta *meta, struct err *e)
{
    struct load *l = load_new(n, (struct snap_name){ meta->index, meta->term });
    int rc = n->o.fsm->install_begin(n->o.ctx, meta->index);

    n->load = l;
    do {
        if (rc == 0)
            run_load(l);
        rc = rc < 0 ? rc : l->rc;
        if (rc == 0 && l->size > 0)
            rc = n->o.fsm->install_feed(n->o.ctx, l->mem, l->size, &l->err);
        l->offset += l->size;
    } while (rc == 0 && l->size > 0);
    if (rc == 0)
        rc = n->o.fsm->install_finish(n->o.ctx, meta->index, &l->err);
    if (rc < 0)
        (void)err_set(e, (enum err_code) - rc, "load snapshot %" PRIu64 ": %s", meta->index,
                      err_message(&l->err, rc));
    raft_load_free(n);
    n->applied_index = n->snapshot_index = meta->index;
    n->snapshot_term = meta->term;
    n->was_member = raft_config_find(&meta->config, n->raft_id) != NULL;
    return rc;
}

void raft_node_set_snapshot_entries(struct raft_node *n, uint64_t entries)
{
    n->o.snapshot_entries = entries != 0 ? entries : RAFT_NODE_SNAPSHOT_ENTRIES;
}
