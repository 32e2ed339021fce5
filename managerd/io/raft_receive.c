/* What comes from other members: messages, and snapshots in chunks. One transfer is received at a
 * time; it is written beside the current snapshots and becomes one of them only when the core says
 * so. Nothing here trusts the sender: ids, sizes, offsets and digests are checked first. */
#include <inttypes.h>
#include <string.h>

#include "common/assert.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "managerd/io/raft_node_internal.h"
#include "managerd/raft/codec.h"
#include "proto/raft.pb-c.h"
#include "managerd/raft/mutant.h"

/* ---- who is it ---- */

static void note_seen(struct raft_node *n, uint64_t raft_id, const char *node_id)
{
    for (uint32_t i = 0; i < SEEN_MAX; i++) {
        if (n->seen[i].raft_id == raft_id) {
            n->seen[i].node_id = id_from_str(node_id);
            return;
        }
    }
    n->seen[n->seen_next] = (struct seen){ raft_id, id_from_str(node_id) };
    n->seen_next = (n->seen_next + 1) % SEEN_MAX;
}

/* The sender's certificate must be the one that the configuration names for its raft id. An id that
 * the configuration does not name may be a member that we have not heard of yet: a new leader. */
static int check_sender(struct raft_node *n, const char *from_node_id, uint64_t from, struct err *e)
{
    const struct raft_member *m = raft_config_find(raft_config(n->core), from);

    if (n->failed)
        return err_set(e, ERR_UNAVAILABLE, "storage failed");
    if (!id_valid(from_node_id) || from == RAFT_NONE || from == n->raft_id)
        return err_set(e, ERR_PERMISSION, "no such sender");
    if (m != NULL && strcmp(m->node_id.s, from_node_id) != 0)
        return err_set(e, ERR_PERMISSION, "raft id %" PRIu64 " does not belong to node %s", from,
                       from_node_id);
    if (m == NULL)
        note_seen(n, from, from_node_id);
    return 0;
}

/* True when the message is of our generation, which an empty member takes from the first one. */
static bool same_generation(struct raft_node *n, uint64_t generation)
{
    if (n->core_options.generation == 0 && generation != 0 && n->writes.first == NULL &&
        n->writing == NULL)
        raft_node_adopt_generation(n, generation);
    return generation != 0 && n->core_options.generation == generation;
}

int raft_node_receive(struct raft_node *n, const char *from_node_id, const struct raft_message *m,
                      struct err *e)
{
    struct raft_event ev = { .type = RAFT_EV_RECEIVE, .message = m };
    int rc = check_sender(n, from_node_id, m->from, e);

    if (rc < 0)
        return rc;
    if (m->to != n->raft_id || !same_generation(n, m->generation))
        return err_set(e, ERR_STALE, "for raft id %" PRIu64 " of generation %" PRIu64, m->to,
                       m->generation);
    if (m->entry_count > 0 && n->space == WAL_SPACE_FULL)
        return 0; /* lost on the way, so to speak: nothing that cannot be stored is taken */
    (void)FAILPOINT("receive.before");
    rc = raft_node_step(n, &ev);
    (void)FAILPOINT("receive.after");
    return rc < 0 ? err_set(e, (enum err_code) - rc, "message of type %d refused", (int)m->type)
                  : 0;
}

/* ---- chunks: answering ---- */

static void pack_reply(const struct chunk_call *c, struct buf *b)
{
    Skep__RaftSnapshotChunkReply r = SKEP__RAFT_SNAPSHOT_CHUNK_REPLY__INIT;

    r.transfer_id = c->transfer_id;
    r.next_offset = c->next_offset;
    r.refused = c->refused;
    uint8_t *to = buf_reserve(b, skep__raft_snapshot_chunk_reply__get_packed_size(&r));
    ASSERT(to != NULL);
    buf_commit(b, skep__raft_snapshot_chunk_reply__pack(&r, to));
}

void raft_receive_reply(struct chunk_call *c)
{
    CLEANUP_BUF struct buf b = BUF_INIT(256);

    pack_reply(c, &b);
    if (c->rc == 0)
        c->done(c->ctx, 0, b.data, b.size, NULL);
    else
        c->done(c->ctx, c->rc, NULL, 0, &c->err);
    free(c->data);
    free(c);
}

static void answer(struct raft_node *n, struct chunk_call *c, int rc)
{
    c->rc = rc;
    raft_todo_chunk(n, c);
}

static void refuse(struct raft_node *n, struct chunk_call *c, const char *why)
{
    log_warn("raft.snapshot_refused", "from=%" PRIu64 " reason=\"%s\"", c->from, why);
    c->refused = true;
    answer(n, c, 0);
}

/* ---- chunks: writing ---- */

/* Disk thread. The writer is aborted here when anything fails. */
static void run_chunk(void *arg)
{
    struct chunk_call *c = arg;

    (void)FAILPOINT("snap.receive.chunk");
    c->rc = 0;
    if (c->offset == 0) {
        snap_writer_abort(c->writer); /* of an earlier transfer */
        c->writer = NULL;
        c->rc = snap_writer_new(c->store, "received", &c->meta, &c->writer, &c->err);
    }
    if (c->rc == 0)
        c->rc = snap_writer_add(c->writer, c->data, c->size, &c->err);
    if (c->rc == 0 && c->last)
        c->rc = snap_writer_finish(
            c->writer, RAFT_MUTANT(RAFT_MUTANT_CHUNK_REPLAY) ? NULL : c->sha256, &c->err);
    if (c->rc < 0) {
        snap_writer_abort(c->writer);
        c->writer = NULL;
    }
}

/* The whole snapshot is durable: the core decides what it is good for. */
static void offer(struct raft_node *n, const struct chunk_call *c)
{
    struct receiver *r = &n->receiver;
    struct raft_message m = { .type = RAFT_MSG_SNAPSHOT,
                              .from = c->from,
                              .to = n->raft_id,
                              .term = c->term,
                              .generation = n->core_options.generation,
                              .incarnation = c->incarnation,
                              .snapshot = &r->meta.raft };
    struct raft_event ev = { .type = RAFT_EV_RECEIVE, .message = &m };

    (void)FAILPOINT("snap.receive.last");
    r->complete = true;
    int rc = raft_node_step(n, &ev);
    if (rc < 0)
        log_warn("raft.snapshot_refused", "from=%" PRIu64 " reason=\"%s\"", c->from, err_str(rc));
}

static void on_chunk(void *ctx, void *arg)
{
    struct raft_node *n = ctx;
    struct chunk_call *c = arg;
    struct receiver *r = &n->receiver;

    ASSERT(r->call == c);
    r->call = NULL;
    r->writer = TAKE_PTR(c->writer);
    if (c->rc == 0) {
        r->offset = c->next_offset = c->offset + c->size;
        if (c->last)
            offer(n, c);
        raft_todo_chunk(n, c);
        return;
    }
    memset(r, 0, sizeof(*r));
    if (c->rc == -ERR_IO) {
        raft_node_fail(n, &c->err);
        raft_receive_reply(c);
        return;
    }
    refuse(n, c, c->err.message);
}

/* ---- chunks: judging ---- */

/* Copies what the job needs; the message goes back to the caller. NULL or why it is refused. */
static const char *parse(struct raft_node *n, const Skep__RaftSnapshotChunk *m,
                         struct chunk_call *c)
{
    CLEANUP_BUF struct buf meta = BUF_INIT(SNAP_META_BYTES_MAX);

    if (m->to != n->raft_id)
        return "not for us";
    if (!same_generation(n, m->generation))
        return "other generation";
    if (m->meta == NULL || m->size > SNAP_BODY_BYTES_MAX || m->data.len > SNAP_CHUNK_BYTES)
        return "too big"; /* N59: before anything is allocated for it */
    if (m->offset > m->size || m->data.len > m->size - m->offset ||
        (m->data.len == 0 && m->size > m->offset))
        return "pieces do not fit the size";
    c->last = m->offset + m->data.len == m->size;
    if (c->last && m->sha256.len != SEAL_DIGEST_BYTES)
        return "no digest";
    uint8_t *to = buf_reserve(&meta, skep__raft_snapshot_meta__get_packed_size(m->meta));
    if (to == NULL)
        return "too large a configuration";
    buf_commit(&meta, skep__raft_snapshot_meta__pack(m->meta, to));
    if (raft_snapshot_meta_unpack(meta.data, meta.size, &c->meta.raft, NULL) < 0)
        return "malformed meta data";
    c->meta.generation = m->generation;
    c->incarnation = m->incarnation;
    c->total = m->size;
    c->offset = m->offset;
    c->size = m->data.len;
    c->data = xmemdup(m->data.data, m->data.len);
    if (c->last)
        memcpy(c->sha256, m->sha256.data, SEAL_DIGEST_BYTES);
    return NULL;
}

static bool same_transfer(const struct receiver *r, const struct chunk_call *c)
{
    return r->transfer_id == c->transfer_id && r->from == c->from && r->term == c->term &&
           r->total == c->total && r->meta.raft.index == c->meta.raft.index &&
           r->meta.raft.term == c->meta.raft.term;
}

static void begin_transfer(struct raft_node *n, const struct chunk_call *c)
{
    struct receiver *r = &n->receiver;
    struct snap_writer *old = r->writer; /* aborted by the job, on its thread */

    *r = (struct receiver){ .transfer_id = c->transfer_id,
                            .from = c->from,
                            .term = c->term,
                            .total = c->total,
                            .meta = c->meta,
                            .writer = old };
}

static void take_chunk(struct raft_node *n, struct chunk_call *c)
{
    struct receiver *r = &n->receiver;
    struct raft_status s;

    raft_status(n->core, &s);
    if (c->term < s.term || c->meta.raft.term > c->term) {
        refuse(n, c, "old term"); /* N58 */
        return;
    }
    if (n->space != WAL_SPACE_OK) {
        refuse(n, c, "no space");
        return;
    }
    bool same = same_transfer(r, c);
    if (same && r->complete) {
        c->next_offset = r->total;
        answer(n, c, 0);
        return;
    }
    if (r->call != NULL || n->install_pending) {
        (void)err_set(&c->err, ERR_BUSY, "a snapshot is being written");
        answer(n, c, -ERR_BUSY);
        return;
    }
    bool replay = RAFT_MUTANT(RAFT_MUTANT_CHUNK_REPLAY) && same && c->offset != 0;
    if (c->offset != (same ? r->offset : 0) && !replay) { /* says where to go on */
        c->next_offset = same ? r->offset : 0;
        answer(n, c, 0);
        return;
    }
    if (c->offset == 0)
        begin_transfer(n, c);
    c->store = &n->disk->store;
    c->writer = TAKE_PTR(r->writer);
    r->call = c;
    raft_node_submit(n, run_chunk, on_chunk, c);
}

void raft_node_receive_chunk(struct raft_node *n, const char *from_node_id, const uint8_t *chunk,
                             size_t size, raft_chunk_done_fn *done, void *ctx)
{
    struct chunk_call *c = xcalloc(1, sizeof(*c));
    Skep__RaftSnapshotChunk *m = NULL;

    c->node = n;
    c->done = done;
    c->ctx = ctx;
    if (size <= SNAP_CHUNK_BYTES + SNAP_META_BYTES_MAX + 1024)
        m = skep__raft_snapshot_chunk__unpack(NULL, size, chunk);
    if (m == NULL) {
        (void)err_set(&c->err, ERR_PROTO, "snapshot chunk does not decode");
        answer(n, c, -ERR_PROTO);
        return;
    }
    c->transfer_id = m->transfer_id;
    c->from = m->from;
    c->term = m->term;
    int rc = check_sender(n, from_node_id, m->from, &c->err);
    const char *why = rc == 0 ? parse(n, m, c) : NULL;
    skep__raft_snapshot_chunk__free_unpacked(m, NULL);
    if (rc < 0)
        answer(n, c, rc);
    else if (why != NULL)
        refuse(n, c, why);
    else
        take_chunk(n, c);
}

/* ---- after the transfer ---- */

struct snap_writer *raft_receive_take_writer(struct raft_node *n)
{
    struct receiver *r = &n->receiver;

    ASSERT(r->complete); /* the core installs only what was offered */
    ASSERT(r->writer != NULL);
    n->install_pending = true;
    return TAKE_PTR(r->writer);
}

void raft_receive_installed(struct raft_node *n)
{
    n->install_pending = false;
}

void raft_receive_free(struct raft_node *n)
{
    struct receiver *r = &n->receiver;

    if (r->call != NULL) {
        snap_writer_abort(r->call->writer);
        r->call->rc = -ERR_CANCELED;
        raft_receive_reply(r->call);
    }
    snap_writer_abort(r->writer);
    memset(r, 0, sizeof(*r));
}
