/* The data key's life while the node runs: rotation, and the unlock key around it (autolock). A new
 * key is used by the next segment and the next snapshot, both of which are made at once; the old
 * key goes with the last file that names it (raft_disk_compact). */
#include <string.h>

#include "common/log.h"
#include "managerd/io/raft_node_internal.h"

struct key_job {
    struct raft_node *node;
    struct raft_disk *disk;
    struct raft_done_call *call;
    bool rotate;
    bool rewrap;
    struct keyring_options unlock;
    uint8_t unlock_key[SEAL_KEY_BYTES];
    int rc;
    struct err err;
};

/* Disk thread. */
static void run_keys(void *arg)
{
    struct key_job *job = arg;

    job->rc = 0;
    if (job->rewrap)
        job->rc = keyring_rewrap(job->disk->keyring, &job->unlock, &job->err);
    if (job->rc == 0 && job->rotate)
        job->rc = keyring_rotate(job->disk->keyring, &job->err);
    if (job->rc == 0 && job->rotate)
        job->rc = wal_roll(job->disk->wal, &job->err);
}

static void job_free(struct key_job *job)
{
    explicit_bzero(job->unlock_key, sizeof(job->unlock_key));
    free(job);
}

static void on_keys(void *ctx, void *arg)
{
    struct raft_node *n = ctx;
    struct key_job *job = arg;

    n->key_job = NULL;
    if (job->rc == -ERR_IO)
        raft_node_fail(n, &job->err);
    else if (job->rc < 0)
        log_warn("raft.keys", "reason=\"%s\"", err_message(&job->err, job->rc));
    if (job->rc == 0 && job->rotate)
        n->entries_since_snapshot = n->o.snapshot_entries; /* one is due */
    if (job->rc == 0 && job->rewrap)
        n->unlock_version = job->unlock.unlock_key_version;
    raft_todo_done(n, job->call, job->rc);
    job_free(job);
}

void raft_node_change_keys(struct raft_node *n, const struct raft_node_keys *k, raft_done_fn *done,
                           void *ctx)
{
    struct raft_done_call *call = raft_call_new(done, ctx);
    struct key_job *job;

    if (n->key_job != NULL || n->failed) {
        raft_todo_done(n, call, n->failed ? -ERR_UNAVAILABLE : -ERR_BUSY);
        return;
    }
    job = xcalloc(1, sizeof(*job));
    job->node = n;
    job->disk = n->disk;
    job->call = call;
    job->rotate = k->rotate;
    job->rewrap = k->set_unlock_key;
    job->unlock.unlock_key_version = k->unlock_key_version;
    if (k->unlock_key != NULL) {
        memcpy(job->unlock_key, k->unlock_key, SEAL_KEY_BYTES);
        job->unlock.unlock_key = job->unlock_key;
    }
    n->key_job = job;
    raft_node_submit(n, run_keys, on_keys, job);
}

uint64_t raft_node_unlock_version(const struct raft_node *n)
{
    return n->unlock_version;
}

void raft_keys_free(struct raft_node *n)
{
    if (n->key_job == NULL)
        return;
    raft_todo_done(n, n->key_job->call, -ERR_CANCELED);
    job_free(n->key_job);
    n->key_job = NULL;
}
