/* cluster backup. */
#include "common/backup_file.h"
#include "common/text.h"
#include "ctl/objects.h"

struct backup {
    struct backup_writer *writer;
    Skep__ClusterBackupRequest body;
    char id[ID_CHARS + 1];
    uint64_t objects, version;
    bool done;
};

static int begin_file(struct backup *b, const char *path, const Skep__ClusterBackupResponse *a,
                      struct err *e)
{
    struct backup_header h = { .version = a->version, .created_ns = a->created_at };

    if (!id_valid(a->backup_id) || !id_valid(a->cluster_id))
        return err_set(e, ERR_PROTO, "the manager answered without ids");
    h.cluster_id = id_from_str(a->cluster_id);
    (void)snprintf(b->id, sizeof(b->id), "%s", a->backup_id);
    b->body.backup_id = b->id;
    b->objects = a->objects;
    b->version = a->version;
    return backup_writer_new(path, &h, &b->writer, e);
}

/* One piece, in an arena of its own: a backup may be larger than what should stay in memory. */
static int take_piece(struct ctl *c, struct backup *b, const char *path, struct err *e)
{
    CLEANUP_ARENA struct arena arena = { 0 };
    struct client_request r = {
        .method = SKEP__METHOD__METHOD_CLUSTER_BACKUP,
        .body = &b->body.base,
        .answer = &skep__cluster_backup_response__descriptor,
    };
    ProtobufCMessage *m = NULL;
    int rc = client_call(c->client, &r, &arena, &m, e);

    if (rc < 0)
        return rc;
    const Skep__ClusterBackupResponse *a = (const Skep__ClusterBackupResponse *)m;
    if (b->writer == NULL)
        rc = begin_file(b, path, a, e);
    if (rc == 0 && a->data.len == 0 && !a->done)
        rc = err_set(e, ERR_PROTO, "the manager sent an empty piece");
    if (rc == 0)
        rc = backup_writer_add(b->writer, a->data.data, a->data.len, e);
    b->body.offset += a->data.len;
    b->done = a->done;
    return rc;
}

int cluster_backup(struct ctl *c)
{
    const char *path = flags_arg(c->flags, 0);
    struct backup b = { .body = SKEP__CLUSTER_BACKUP_REQUEST__INIT };
    char text[TEXT_SHORT_MAX];
    struct err e = { 0 };
    uint64_t size = 0;
    int rc = 0;

    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    b.body.stale = flags_bool(c->flags, "stale");
    while (rc == 0 && !b.done)
        rc = take_piece(c, &b, path, &e);
    if (rc == 0)
        rc = backup_writer_commit(TAKE_PTR(b.writer), &size, &e);
    backup_writer_abort(b.writer);
    if (rc < 0)
        return ctl_error(c, rc, &e);
    (void)fprintf(c->out, "%s: %s, %llu objects at version %llu\n", path,
                  text_format_bytes(text, (int64_t)size), (unsigned long long)b.objects,
                  (unsigned long long)b.version);
    return 0;
}
