/* The store in pieces, for ctl cluster backup. A backup is the store at one version; it is packed
 * piece by piece as it is read, and the last piece is kept for a reader that did not get it. A
 * backup that nobody reads is dropped. */
#include <string.h>

#include "common/clock.h"
#include "managerd/manager.h"
#include "managerd/store/store.h"
#include "proto/control.pb-c.h"

enum { BACKUPS_MAX = 4, BACKUP_IDLE_MS = 60 * 1000, BACKUP_PIECE_BYTES = 512 << 10 };

struct backup {
    struct store_snapshot *snapshot; /* NULL: the place is free */
    struct id id;
    uint64_t due_ms; /* dropped then */
    uint64_t offset; /* of the piece */
    uint8_t *piece;
    size_t size;
    bool done; /* nothing follows the piece */
    uint64_t objects;
    int64_t created_ns;
};

struct backups {
    struct backup all[BACKUPS_MAX];
    struct loop_timer timer;
};

static void drop(struct backup *b)
{
    store_snapshot_free(b->snapshot);
    if (b->piece != NULL)
        explicit_bzero(b->piece, BACKUP_PIECE_BYTES);
    free(b->piece);
    *b = (struct backup){ 0 };
}

static void on_due(void *ctx, uint64_t now_ms)
{
    struct manager *m = ctx;
    uint64_t next_ms = UINT64_MAX;

    for (size_t i = 0; i < BACKUPS_MAX; i++) {
        struct backup *b = &m->backups->all[i];

        if (b->snapshot != NULL && b->due_ms <= now_ms)
            drop(b);
        if (b->snapshot != NULL)
            next_ms = MIN(next_ms, b->due_ms);
    }
    if (next_ms != UINT64_MAX)
        loop_timer_set(m->loop, &m->backups->timer, next_ms, on_due, m);
}

void backup_calls_drop(struct manager *m)
{
    if (m->backups == NULL)
        return;
    loop_timer_cancel(m->loop, &m->backups->timer);
    for (size_t i = 0; i < BACKUPS_MAX; i++)
        drop(&m->backups->all[i]);
    free(TAKE_PTR(m->backups));
}

/* A free place, or that of a backup which was read to its end. NULL when there is none. */
static struct backup *find_place(struct manager *m)
{
    struct backup *finished = NULL;

    if (m->backups == NULL)
        m->backups = xcalloc(1, sizeof(*m->backups));
    for (size_t i = 0; i < BACKUPS_MAX; i++) {
        struct backup *b = &m->backups->all[i];

        if (b->snapshot == NULL)
            return b;
        if (b->done && (finished == NULL || b->due_ms < finished->due_ms))
            finished = b;
    }
    if (finished != NULL)
        drop(finished);
    return finished;
}

static struct backup *find(struct manager *m, const char *id)
{
    for (size_t i = 0; m->backups != NULL && i < BACKUPS_MAX; i++) {
        struct backup *b = &m->backups->all[i];

        if (b->snapshot != NULL && strcmp(b->id.s, id) == 0)
            return b;
    }
    return NULL;
}

static void pack_next(struct backup *b)
{
    b->offset += b->size;
    b->size = store_snapshot_next(b->snapshot, b->piece, BACKUP_PIECE_BYTES);
    b->done = b->size < BACKUP_PIECE_BYTES;
}

static void answer(struct incoming *in, struct backup *b)
{
    struct manager *m = in->manager;
    Skep__ClusterBackupResponse a = SKEP__CLUSTER_BACKUP_RESPONSE__INIT;
    uint64_t now_ms = loop_now_ms(m->loop);

    b->due_ms = now_ms + BACKUP_IDLE_MS;
    on_due(m, now_ms);
    a.backup_id = b->id.s;
    a.data = (ProtobufCBinaryData){ .len = b->size, .data = b->piece };
    a.done = b->done;
    a.cluster_id = m->identity->tls.cluster.s;
    a.version = store_snapshot_version(b->snapshot);
    a.created_at = b->created_ns;
    a.objects = b->objects;
    incoming_reply(in, &a.base);
}

static void begin(struct incoming *in)
{
    struct manager *m = in->manager;
    struct backup *b = find_place(m);
    struct err e = { 0 };

    if (b == NULL) {
        (void)err_set(&e, ERR_BUSY, "%d backups are being read already; try again in a minute",
                      BACKUPS_MAX);
        incoming_fail(in, -ERR_BUSY, &e);
        return;
    }
    b->snapshot = store_snapshot_take(m->store);
    b->id = id_from_prng(&m->prng);
    b->piece = xmalloc(BACKUP_PIECE_BYTES);
    b->created_ns = clock_wall_ns();
    for (int kind = 1; kind < STORE_KIND_COUNT; kind++)
        b->objects += store_count(m->store, (Skep__Kind)kind);
    pack_next(b);
    answer(in, b);
}

/* The store is at least as new as every change that was acknowledged before the call. */
static void on_read_ready(void *ctx, int rc, uint64_t index)
{
    struct incoming *in = ctx;
    struct err e = { 0 };

    (void)index; /* the store is at least this new */
    if (rc < 0) {
        calls_explain_no_leader(in->manager, &e);
        incoming_fail(in, rc, &e);
        return;
    }
    begin(in);
}

void cluster_backup_call(struct incoming *in)
{
    struct manager *m = in->manager;
    const Skep__ClusterBackupRequest *req = (const Skep__ClusterBackupRequest *)in->request;
    struct err e = { 0 };
    int rc = 0;

    if (req->backup_id[0] == '\0') {
        if (req->stale)
            begin(in);
        else
            raft_node_read(m->raft, on_read_ready, in);
        return;
    }
    struct backup *b = find(m, req->backup_id);
    if (b == NULL)
        rc = err_set(&e, ERR_STALE, "this backup was not read for %d s and is gone; begin again",
                     BACKUP_IDLE_MS / 1000);
    else if (req->offset == b->offset + b->size && !b->done)
        pack_next(b);
    else if (req->offset != b->offset)
        rc = err_set(&e, ERR_INVALID, "offset: only the present piece or the next one");
    if (rc < 0)
        incoming_fail(in, rc, &e);
    else
        answer(in, b);
}
