/* Writes of the Raft shell. One job at a time goes to the disk thread; whatever arrives meanwhile
 * waits and goes with the next one, under one fsync (group commit). */
#include <inttypes.h>

#include "common/assert.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "managerd/io/raft_node_internal.h"

/* ---- on the loop thread: gathering ---- */

static void push(struct write_list *l, struct write *w)
{
    w->next = NULL;
    *l->end = w;
    l->end = &w->next;
}

static void write_free(struct write *w)
{
    snap_writer_abort(w->received);
    raft_entries_free(w->entries, w->entry_count);
    free(w->install);
    free(w->member);
    free(w);
}

static void list_free(struct write_list *l)
{
    for (struct write *w; (w = l->first) != NULL;) {
        l->first = w->next;
        write_free(w);
    }
    l->end = &l->first;
}

void raft_write_add(struct raft_node *n, const struct raft_effects *fx)
{
    struct write *w;

    if (fx->write_seq == 0 && fx->compact_index == 0)
        return;
    w = xcalloc(1, sizeof(*w));
    w->seq = fx->write_seq;
    w->compact_index = fx->compact_index;
    if (fx->write_seq != 0) {
        w->hard_state_changed = fx->hard_state_changed;
        w->hard_state = fx->hard_state;
        w->entries = raft_entries_clone(fx->append, fx->append_count);
        w->entry_count = fx->append_count;
    }
    if (fx->write_seq != 0 && fx->install != NULL) {
        w->install = xmemdup(fx->install, sizeof(*w->install));
        w->received = raft_receive_take_writer(n);
    } else if (fx->write_seq != 0 && fx->drop_log) { /* the snapshot that is there replaces it */
        w->install = xcalloc(1, sizeof(*w->install));
        w->install->index = n->snapshot_index;
        w->install->term = n->snapshot_term;
    }
    push(&n->writes, w);
}

void raft_write_taken(struct raft_node *n, uint64_t index, uint64_t term)
{
    struct write *w = xcalloc(1, sizeof(*w));

    w->taken_index = index;
    w->taken_term = term;
    push(&n->writes, w);
    raft_node_wake(n);
}

void raft_write_member(struct raft_node *n)
{
    struct write *w = xcalloc(1, sizeof(*w));
    struct member m = { .raft_id = n->raft_id, .generation = n->core_options.generation };

    w->member = xmemdup(&m, sizeof(m));
    push(&n->writes, w);
    raft_node_wake(n);
}

/* ---- on the disk thread ---- */

/* The snapshot gets its name before the log says that it counts; what the log said before must be
 * durable by then, because the snapshot may be of the term that begins there. */
static int run_install(struct raft_disk *d, struct write *w, struct err *e)
{
    struct wal_batch b = { .installed = w->install };
    struct snap_writer *received = TAKE_PTR(w->received);
    int rc = wal_sync(d->wal, e);

    if (rc < 0 || received == NULL) { /* NULL: has its name already */
        snap_writer_abort(received);
        return rc < 0 ? rc : wal_append(d->wal, &b, e);
    }
    (void)FAILPOINT("snap.install.before");
    rc = snap_writer_commit(received, e);
    (void)FAILPOINT("snap.install.after");
    if (rc == -ERR_NO_SPACE) /* not even a name: it cannot be tried again */
        return -ERR_IO;
    return rc == 0 ? wal_append(d->wal, &b, e) : rc;
}

static int run_write(struct raft_disk *d, struct write *w, struct err *e)
{
    struct wal_batch state = { .hard_state = w->hard_state_changed ? &w->hard_state : NULL };
    struct wal_batch rest = { .entries = w->entries, .entry_count = w->entry_count };
    int rc = 0;

    /* An older one would follow a snapshot that was received meanwhile. */
    if (w->taken_index > wal_state(d->wal)->snapshot_index) {
        rest.taken_index = w->taken_index;
        rest.taken_term = w->taken_term;
    }
    if (w->install == NULL && w->member == NULL) {
        rest.hard_state = state.hard_state;
        return wal_append(d->wal, &rest, e);
    }
    if (state.hard_state != NULL)
        rc = wal_append(d->wal, &state, e);
    if (rc == 0 && w->install != NULL)
        rc = run_install(d, w, e);
    if (rc == 0 && w->member != NULL) {
        rc = wal_sync(d->wal, e);
        d->member = *w->member;
        if (rc == 0)
            rc = member_store(&d->store, w->member, e);
    }
    return rc;
}

static int run_all(struct write_job *job)
{
    uint64_t compact_index = 0;
    bool taken = false;
    int rc = 0;

    for (struct write *w = job->writes.first; w != NULL; w = w->next) {
        rc = run_write(job->disk, w, &job->err);
        if (rc < 0) {
            job->failed = w;
            break;
        }
        compact_index = MAX(compact_index, w->compact_index);
        taken = taken || w->taken_index != 0;
    }
    if (rc < 0 && rc != -ERR_NO_SPACE)
        return rc;
    int synced = wal_sync(job->disk->wal, &job->err);
    if (synced < 0)
        return synced;
    /* What could not be removed is removed with the next snapshot. With each one older ones go,
     * even while the log has to stay for a member that is being sent one. */
    if ((compact_index != 0 || taken) &&
        raft_disk_compact(job->disk, compact_index, &job->err) == -ERR_IO)
        return -ERR_IO;
    return rc;
}

static void run_job(void *arg)
{
    struct write_job *job = arg;
    int rc = 0;

    if (job->maintain)
        rc = wal_maintain(job->disk->wal, &job->err);
    job->shortage = rc == -ERR_NO_SPACE;
    if (rc == 0 || rc == -ERR_NO_SPACE)
        rc = run_all(job);
    job->rc = rc;
    job->space = wal_space(job->disk->wal);
}

/* ---- back on the loop thread ---- */

static void on_space_timer(void *ctx, uint64_t now_ms)
{
    struct raft_node *n = ctx;

    (void)now_ms;
    n->maintain_due = true;
    raft_write_submit(n);
}

/* The reserve was just used, or space is short: a job with maintenance makes a new one, or finds
 * out that there is no room for it. */
static void watch_space(struct raft_node *n, const struct write_job *job)
{
    if (job->space == WAL_SPACE_OK) {
        if (n->space != WAL_SPACE_OK)
            log_info("raft.space", "state=ok directory=%s", n->directory);
        n->space = WAL_SPACE_OK;
        n->stalled = false;
        return;
    }
    if (job->shortage && n->space == WAL_SPACE_OK)
        log_error("raft.space",
                  "state=%s directory=%s next=\"proposals are refused until space returns\"",
                  job->space == WAL_SPACE_FULL ? "full" : "low", n->directory);
    if (job->shortage || n->space != WAL_SPACE_OK)
        n->space = job->space;
    if (!loop_timer_armed(&n->space_timer))
        loop_timer_set(n->o.loop, &n->space_timer,
                       raft_node_now(n) + (job->shortage ? SPACE_RETRY_MS : 0), on_space_timer, n);
}

/* The disk hangs. The others go on committing, but every one of their disks is needed for it then:
 * a leader hands over to one whose disk works. A loop that hangs is silent, and the others elect.
 */
static void on_slow_timer(void *ctx, uint64_t now_ms)
{
    struct raft_node *n = ctx;

    if (raft_node_transfer(n, RAFT_NONE) == 0)
        log_warn("raft.disk_hangs", "directory=%s ms=%d next=hand_leadership_over", n->directory,
                 SLOW_MS);
    loop_timer_set(n->o.loop, &n->slow_timer, now_ms + SLOW_MS, on_slow_timer, n);
}

/* What could not be written goes back to the front of the queue. */
static void put_back(struct raft_node *n, struct write_job *job)
{
    struct write **at = &job->writes.first;

    if (job->failed == NULL)
        return;
    while (*at != job->failed)
        at = &(*at)->next;
    *at = NULL;
    struct write **end = job->writes.end;
    job->writes.end = at;
    *end = n->writes.first;
    if (n->writes.first == NULL)
        n->writes.end = end;
    n->writes.first = job->failed;
    n->stalled = true;
}

static void report(struct raft_node *n, const struct write_list *done)
{
    uint64_t seq = 0;

    for (const struct write *w = done->first; w != NULL; w = w->next) {
        seq = MAX(seq, w->seq);
        if (w->install != NULL) {
            n->snapshot_index = w->install->index;
            n->snapshot_term = w->install->term;
            raft_receive_installed(n);
        }
    }
    if (seq != 0) {
        struct raft_event ev = { .type = RAFT_EV_PERSISTED, .persisted_seq = seq };

        (void)FAILPOINT("persisted.before");
        raft_node_step_sure(n, &ev);
        (void)FAILPOINT("persisted.after");
    }
    for (const struct write *w = done->first; w != NULL; w = w->next) {
        struct raft_event ev = { .type = RAFT_EV_SNAPSHOT_TAKEN, .snapshot_index = w->taken_index };

        if (w->taken_index > n->snapshot_index) {
            n->snapshot_index = w->taken_index;
            n->snapshot_term = w->taken_term;
            raft_node_step_sure(n, &ev);
        }
    }
}

static void on_done(void *ctx, void *arg)
{
    struct raft_node *n = ctx;
    struct write_job *job = arg;

    n->writing = NULL;
    loop_timer_cancel(n->o.loop, &n->slow_timer);
    if (job->rc < 0 && job->rc != -ERR_NO_SPACE) {
        raft_node_fail(n, &job->err);
    } else {
        put_back(n, job);
        watch_space(n, job);
        report(n, &job->writes);
    }
    list_free(&job->writes);
    free(job);
    raft_todo_run(n);
    raft_node_wake(n);
}

void raft_write_start(struct raft_node *n)
{
    n->space = wal_space(n->disk->wal); /* no job runs yet */
    if (n->space != WAL_SPACE_OK)
        loop_timer_set(n->o.loop, &n->space_timer, raft_node_now(n), on_space_timer, n);
}

void raft_write_submit(struct raft_node *n)
{
    struct write_job *job;

    if (n->failed || n->writing != NULL)
        return;
    if (!n->maintain_due && (n->stalled || n->writes.first == NULL))
        return;
    job = xcalloc(1, sizeof(*job));
    job->node = n;
    job->disk = n->disk;
    job->maintain = n->maintain_due;
    n->maintain_due = false;
    job->writes.end = &job->writes.first;
    if (n->writes.first != NULL) {
        job->writes = n->writes;
        n->writes = (struct write_list){ 0 };
        n->writes.end = &n->writes.first;
    }
    n->writing = job;
    loop_timer_set(n->o.loop, &n->slow_timer, raft_node_now(n) + SLOW_MS, on_slow_timer, n);
    raft_node_submit(n, run_job, on_done, job);
}

void raft_write_free_all(struct raft_node *n)
{
    if (n->writing != NULL) {
        list_free(&n->writing->writes);
        free(n->writing);
    }
    list_free(&n->writes);
}
