/* Snapshots to other members: one chunk at a time and member, read on the disk thread, resumed
 * where the receiver says. Each ends in SNAPSHOT_SENT or SNAPSHOT_FAILED, exactly once. */
#include <inttypes.h>

#include "common/assert.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "common/random.h"
#include "managerd/io/raft_node_internal.h"
#include "managerd/raft/codec.h"
#include "proto/raft.pb-c.h"

enum {
    FAILURES_MAX = 10, /* in a row */
    RETRY_MS = 300,
    ANSWER_MS = 60 * 1000, /* longer than any transport's own deadline */
    CHUNK_BYTES_MAX = SNAP_CHUNK_BYTES + SNAP_META_BYTES_MAX + 1024,
};

static void sender_free(struct sender *s)
{
    struct sender **at = &s->node->all_senders;

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    loop_timer_cancel(s->node->o.loop, &s->retry);
    snap_reader_close(s->reader);
    free(s->mem);
    free(s);
}

static struct sender **slot_of(struct raft_node *n, const struct sender *s)
{
    for (int i = 0; i < SENDERS_MAX; i++) {
        if (n->senders[i] == s)
            return &n->senders[i];
    }
    return NULL;
}

/* Out of the table; freed now, or by the job that has it. */
static void drop(struct sender *s)
{
    struct sender **slot = slot_of(s->node, s);

    if (slot != NULL)
        *slot = NULL;
    s->dead = true;
    if (!s->reading)
        sender_free(s);
}

static void finish(struct sender *s, bool sent, const char *reason)
{
    struct raft_node *n = s->node;
    struct raft_event ev = { .type = sent ? RAFT_EV_SNAPSHOT_SENT : RAFT_EV_SNAPSHOT_FAILED,
                             .peer = { s->to.raft_id, s->name.index } };

    log_info("raft.snapshot_sent", "to=%s index=%" PRIu64 " ok=%d reason=\"%s\"", s->to.node_id.s,
             s->name.index, sent, reason);
    drop(s); /* frees s, unless a job has it */
    raft_node_step_sure(n, &ev);
}

/* ---- one chunk ---- */

static int pack(const struct sender *s, const struct raft_status *status, struct buf *b)
{
    Skep__RaftSnapshotChunk c = SKEP__RAFT_SNAPSHOT_CHUNK__INIT;
    CLEANUP_BUF struct buf meta = BUF_INIT(SNAP_META_BYTES_MAX);
    Skep__RaftSnapshotMeta *m;

    int rc = raft_snapshot_meta_pack(&s->meta.raft, &meta);
    if (rc < 0)
        return rc;
    m = skep__raft_snapshot_meta__unpack(NULL, meta.size, meta.data);
    ASSERT(m != NULL);
    c.from = s->node->raft_id;
    c.to = s->to.raft_id;
    c.term = status->term;
    c.generation = s->node->core_options.generation;
    c.incarnation = status->incarnation;
    c.transfer_id = s->transfer_id;
    c.meta = m;
    c.size = snap_reader_size(s->reader);
    c.offset = s->offset;
    c.data = (ProtobufCBinaryData){ s->size, s->mem };
    if (s->offset + s->size == c.size)
        c.sha256 = (ProtobufCBinaryData){ SEAL_DIGEST_BYTES,
                                          (uint8_t *)(uintptr_t)snap_reader_sha256(s->reader) };
    size_t size = skep__raft_snapshot_chunk__get_packed_size(&c);
    uint8_t *to = buf_reserve(b, size);
    if (to != NULL)
        buf_commit(b, skep__raft_snapshot_chunk__pack(&c, to));
    skep__raft_snapshot_meta__free_unpacked(m, NULL);
    return to != NULL ? 0 : -ERR_TOO_BIG;
}

/* Disk thread. */
static void run_read(void *arg)
{
    struct sender *s = arg;
    struct snap_piece piece = { s->offset, s->mem, s->node->o.chunk_bytes };

    s->rc = 0;
    if (s->reader == NULL) {
        s->rc = snap_reader_open(s->store, s->name.index, s->name.term, &s->reader, &s->err);
        if (s->rc == 0)
            s->meta = *snap_reader_meta(s->reader);
    }
    if (s->rc == 0)
        s->rc = snap_reader_read(s->reader, &piece, &s->size, &s->err);
}

static void on_retry(void *ctx, uint64_t now_ms);

static void send_chunk(struct sender *s)
{
    CLEANUP_BUF struct buf b = BUF_INIT(CHUNK_BYTES_MAX);
    struct raft_node *n = s->node;
    struct raft_status status;

    raft_status(n->core, &status);
    if (status.state != RAFT_LEADER || status.term != s->term) {
        finish(s, false, "leadership lost");
        return;
    }
    if (pack(s, &status, &b) < 0) {
        finish(s, false, "chunk too big");
        return;
    }
    (void)FAILPOINT("snap.send.chunk");
    s->token = ++n->token_last;
    loop_timer_set(n->o.loop, &s->retry, raft_node_now(n) + ANSWER_MS, on_retry, s);
    n->o.transport->send_chunk(n->o.ctx, &s->to, b.data, b.size, s->token);
}

static void on_read(void *ctx, void *arg)
{
    struct sender *s = arg;

    (void)ctx;
    s->reading = false;
    if (s->dead) {
        sender_free(s);
        return;
    }
    if (s->rc < 0) { /* of the files here: the core will ask for the then newest again */
        log_error("raft.snapshot_read", "reason=\"%s\"", err_message(&s->err, s->rc));
        finish(s, false, "unreadable");
        return;
    }
    send_chunk(s);
}

static void read_on(struct sender *s)
{
    s->reading = true;
    s->token = 0;
    raft_node_submit(s->node, run_read, on_read, s);
}

static void on_retry(void *ctx, uint64_t now_ms)
{
    struct sender *s = ctx;

    (void)now_ms;
    if (s->token != 0 && ++s->failures > FAILURES_MAX) /* no answer at all */
        finish(s, false, "no answer");
    else
        send_chunk(s);
}

/* ---- answers ---- */

static struct sender *by_token(struct raft_node *n, uint64_t token)
{
    for (int i = 0; i < SENDERS_MAX; i++) {
        if (n->senders[i] != NULL && n->senders[i]->token == token)
            return n->senders[i];
    }
    return NULL;
}

static void on_reply(struct sender *s, const Skep__RaftSnapshotChunkReply *r)
{
    uint64_t size = snap_reader_size(s->reader);

    if (r->refused) {
        finish(s, false, "refused");
    } else if (r->transfer_id != s->transfer_id || r->next_offset > size) {
        finish(s, false, "wrong answer");
    } else if (r->next_offset == size && s->offset + s->size == size) {
        finish(s, true, "");
    } else {
        /* Going back is allowed (the receiver was restarted), for ever is not. */
        s->failures = r->next_offset > s->offset ? 0 : s->failures + 1;
        s->offset = r->next_offset == size ? s->offset : r->next_offset;
        if (s->failures > FAILURES_MAX)
            finish(s, false, "no progress");
        else
            read_on(s);
    }
}

void raft_node_chunk_done(struct raft_node *n, uint64_t token, int rc, const uint8_t *reply,
                          size_t size)
{
    struct sender *s = token != 0 ? by_token(n, token) : NULL;
    Skep__RaftSnapshotChunkReply *r;

    if (s == NULL || n->failed)
        return; /* given up meanwhile */
    s->token = 0;
    loop_timer_cancel(n->o.loop, &s->retry);
    r = rc == 0 ? skep__raft_snapshot_chunk_reply__unpack(NULL, size, reply) : NULL;
    if (r != NULL) {
        on_reply(s, r);
        skep__raft_snapshot_chunk_reply__free_unpacked(r, NULL);
    } else if (++s->failures > FAILURES_MAX) {
        finish(s, false, err_str(rc));
    } else {
        loop_timer_set(n->o.loop, &s->retry, raft_node_now(n) + RETRY_MS, on_retry, s);
    }
}

/* ---- starting and stopping ---- */

void raft_send_start(struct raft_node *n, const struct raft_send_snapshot *want)
{
    struct sender *s = xcalloc(1, sizeof(*s)), **slot;
    struct raft_status status;

    raft_status(n->core, &status);
    s->node = n;
    s->store = &n->disk->store;
    s->term = status.term;
    s->name = (struct snap_name){ n->snapshot_index, n->snapshot_term };
    ASSERT(s->name.index >= want->index); /* the core knows of durable ones only */
    s->transfer_id = random_u64();
    s->mem = xmalloc(SNAP_CHUNK_BYTES);
    bool known = raft_node_find(n, want->to, &s->to);
    ASSERT(known); /* a leader sends to its configuration */
    for (int i = 0; i < SENDERS_MAX; i++) {
        if (n->senders[i] != NULL && n->senders[i]->to.raft_id == want->to)
            drop(n->senders[i]); /* of an earlier leadership */
    }
    slot = slot_of(n, NULL);
    ASSERT(slot != NULL);
    *slot = s;
    s->next = n->all_senders;
    n->all_senders = s;
    read_on(s);
}

void raft_send_stop_all(struct raft_node *n)
{
    for (int i = 0; i < SENDERS_MAX; i++) {
        if (n->senders[i] != NULL)
            drop(n->senders[i]);
    }
}

/* After the worker is gone: no job has any of them. */
void raft_send_free_all(struct raft_node *n)
{
    while (n->all_senders != NULL)
        sender_free(n->all_senders);
}

void raft_node_unreachable(struct raft_node *n, uint64_t to_raft_id)
{
    struct raft_event ev = { .type = RAFT_EV_UNREACHABLE, .peer = { .raft_id = to_raft_id } };

    if (!n->failed && !n->stepping) /* from inside a send it is a hint too early: left out */
        raft_node_step_sure(n, &ev);
}
