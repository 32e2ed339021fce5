#include "managerd/io/raft_node.h"

#include <inttypes.h>
#include <string.h>

#include "common/assert.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "common/random.h"
#include "managerd/io/raft_node_internal.h"
#include "managerd/raft/codec.h"

enum {
    SNAPSHOT_BYTES = 64 << 20,
    TAIL_ENTRIES = 500,
};

uint64_t raft_node_now(const struct raft_node *n)
{
    return loop_now_ms(n->o.loop);
}

/* ---- stepping ---- */

void raft_node_fail(struct raft_node *n, const struct err *e)
{
    if (n->failed)
        return;
    n->failed = true;
    log_error("raft.failed", "reason=\"%s\"", e->message);
    n->o.events->on_fatal(n->o.ctx, e);
}

static void on_flush(void *ctx, uint64_t now_ms)
{
    struct raft_node *n = ctx;

    (void)now_ms;
    raft_ask_flush(n);
    raft_todo_run(n);
    raft_write_submit(n);
}

void raft_node_wake_at(struct raft_node *n, uint64_t at_ms)
{
    if (!loop_timer_armed(&n->flush_timer) || n->flush_timer.entry.at_ms > at_ms)
        loop_timer_set(n->o.loop, &n->flush_timer, at_ms, on_flush, n);
}

void raft_node_wake(struct raft_node *n)
{
    raft_node_wake_at(n, raft_node_now(n));
}

static void on_core_timer(void *ctx, uint64_t now_ms)
{
    struct raft_event ev = { .type = RAFT_EV_TIMEOUT };

    (void)now_ms;
    raft_node_step_sure(ctx, &ev);
}

bool raft_node_find(const struct raft_node *n, uint64_t raft_id, struct raft_member *ret_member)
{
    const struct raft_member *m = raft_config_find(raft_config(n->core), raft_id);

    if (m != NULL) {
        *ret_member = *m;
        return true;
    }
    for (uint32_t i = 0; i < SEEN_MAX; i++) {
        if (n->seen[i].raft_id != raft_id)
            continue;
        *ret_member = (struct raft_member){ .raft_id = raft_id, .node_id = n->seen[i].node_id };
        return true;
    }
    return false;
}

static void send_messages(struct raft_node *n, const struct raft_effects *fx)
{
    for (size_t i = 0; i < fx->message_count; i++) {
        struct raft_member to;

        (void)FAILPOINT("send.before");
        if (raft_node_find(n, fx->messages[i].to, &to))
            n->o.transport->send(n->o.ctx, &to, &fx->messages[i]);
        (void)FAILPOINT("send.after");
    }
}

static void log_note(const struct raft_effects *fx)
{
    if (fx->note == RAFT_NOTE_FENCED || fx->note == RAFT_NOTE_LOG_WENT_BACK)
        log_error("raft.note", "note=\"%s\" peer=%" PRIu64 " term=%" PRIu64,
                  raft_note_str(fx->note), fx->note_peer, fx->term);
    else if (fx->note == RAFT_NOTE_OVERLOADED)
        log_warn("raft.note", "note=\"%s\"", raft_note_str(fx->note));
    else if (fx->note != RAFT_NOTE_NONE)
        log_debug("raft.note", "note=\"%s\" peer=%" PRIu64, raft_note_str(fx->note), fx->note_peer);
}

/* In the order that raft.h prescribes; what calls back goes through the todo queue. */
static void execute(struct raft_node *n, const struct raft_effects *fx)
{
    n->first_index = fx->first_index;
    raft_write_add(n, fx);
    send_messages(n, fx);
    for (size_t i = 0; i < fx->send_snapshot_count; i++)
        raft_send_start(n, &fx->send_snapshots[i]);
    raft_todo_add(n, fx);
    log_note(fx);
    if (fx->timer_at_ms == RAFT_NEVER)
        loop_timer_cancel(n->o.loop, &n->core_timer);
    else
        loop_timer_set(n->o.loop, &n->core_timer, fx->timer_at_ms, on_core_timer, n);
    if (n->writes.first != NULL || n->todo_first != NULL)
        raft_node_wake(n);
}

int raft_node_step(struct raft_node *n, struct raft_event *ev)
{
    struct raft_effects fx;

    ASSERT(!n->stepping); /* the transport must not call back from send */
    if (n->failed)
        return -ERR_UNAVAILABLE;
    ev->now_ms = raft_node_now(n);
    n->stepping = true;
    int rc = raft_step(n->core, ev, &fx);
    execute(n, &fx);
    n->stepping = false;
    return rc;
}

void raft_node_step_sure(struct raft_node *n, struct raft_event *ev)
{
    int rc = raft_node_step(n, ev);

    ASSERT(rc == 0 || n->failed);
}

void raft_node_submit(struct raft_node *n, worker_run_fn *run, worker_done_fn *done, void *job)
{
    int rc = worker_submit(n->worker, run, done, n, job);

    ASSERT(rc == 0); /* one job per write, take, load, chunk and sender: RAFT_NODE_INBOX_MAX */
}

/* ---- starting ---- */

static void fill_core_options(struct raft_node *n)
{
    struct raft_options *c = &n->core_options;

    raft_options_default(c);
    c->raft_id = n->raft_id;
    c->generation = n->disk->member.generation;
    c->seed = random_u64();
    if (n->o.heartbeat_ms != 0)
        c->heartbeat_ms = n->o.heartbeat_ms;
    if (n->o.election_ms != 0)
        c->election_ms = n->o.election_ms;
    c->tail_entries = n->o.tail_entries;
}

static struct raft_disk_options disk_options(const struct raft_node_options *o,
                                             struct keyring_options *unlock)
{
    *unlock = (struct keyring_options){ o->unlock_key, o->unlock_key_version };
    return (struct raft_disk_options){
        .directory = o->directory,
        .cluster_id = o->cluster_id.s,
        .node_id = o->node_id.s,
        .unlock = unlock,
        .segment_bytes = o->segment_bytes,
        .tail_entries = o->tail_entries != 0 ? o->tail_entries : TAIL_ENTRIES,
        .hook = o->disk_hook,
        .hook_ctx = o->disk_hook_ctx,
    };
}

static struct raft_member self_as_founder(const struct raft_node_options *o, uint64_t raft_id,
                                          uint64_t incarnation)
{
    struct raft_member m = {
        .raft_id = raft_id, .incarnation = incarnation, .node_id = o->node_id, .role = RAFT_VOTER
    };

    ASSERT(strlen(o->address) < sizeof(m.address));
    memcpy(m.address, o->address, strlen(o->address));
    return m;
}

/* BOOTSTRAP and JOIN: makes the directory. */
static int create(const struct raft_node_options *o, struct err *e)
{
    struct keyring_options unlock;
    struct raft_disk_options disk = disk_options(o, &unlock);
    struct raft_member founder = self_as_founder(o, o->raft_id, random_u64() | 1);
    struct raft_disk_seed seed = { .member = { .raft_id = o->raft_id } };
    struct raft_entry entry = { 0 };

    ASSERT(o->raft_id != RAFT_NONE);
    if (o->start == RAFT_NODE_BOOTSTRAP) {
        raft_bootstrap(&founder, &entry, &seed.hard_state);
        seed.member.generation = 1;
        seed.entry = &entry;
    } else {
        seed.hard_state.incarnation = founder.incarnation;
    }
    int rc = raft_disk_create(&disk, &seed, e);
    raft_data_unref(entry.data);
    return rc;
}

int raft_node_restore(const struct raft_node_options *o, const struct raft_node_seed *s,
                      struct err *e)
{
    struct keyring_options unlock;
    struct raft_disk_options disk = disk_options(o, &unlock);
    struct raft_member founder = self_as_founder(o, o->raft_id, random_u64() | 1);
    struct raft_snapshot_meta meta = { .index = s->index,
                                       .term = 1,
                                       .config = { .member_count = 1, .members = { founder } } };
    struct raft_disk_seed seed = {
        .member = { .raft_id = o->raft_id, .generation = s->generation },
        .hard_state = { .term = 1, .incarnation = founder.incarnation },
        .snapshot = &meta,
        .next = s->next,
        .next_ctx = s->ctx,
    };

    ASSERT(o->raft_id != RAFT_NONE && s->index > 0 && s->generation > 0);
    return raft_disk_create(&disk, &seed, e);
}

/* FORCE_NEW: the new generation first. Whoever dies in between has a new generation with the old
 * members, which do not listen to it: safe, and the operator asks again. */
static int force_new(struct raft_node *n, struct raft_loaded *l, struct err *e)
{
    struct raft_disk *d = n->disk;
    struct raft_hard_state h = { .term = l->hard_state.term + 1,
                                 .vote = d->member.raft_id,
                                 .incarnation = random_u64() | 1 };
    struct raft_member founder = self_as_founder(&n->o, d->member.raft_id, h.incarnation);
    struct raft_hard_state unused;
    struct raft_entry entry;

    d->member.generation++;
    int rc = member_store(&d->store, &d->member, e);
    if (rc < 0)
        return rc;
    raft_bootstrap(&founder, &entry, &unused);
    entry.index = wal_state(d->wal)->last_index + 1;
    entry.term = h.term;
    rc = raft_disk_append(d, &h, &entry, e);
    l->entries = xrealloc_array(l->entries, l->entry_count + 1, sizeof(*l->entries));
    l->entries[l->entry_count++] = entry;
    l->hard_state = h;
    l->moved = false; /* the old promises are void */
    return rc;
}

static int start_core(struct raft_node *n, const struct raft_loaded *l, struct err *e)
{
    struct raft_event ev = { .type = RAFT_EV_START,
                             .start = { .hard_state = l->hard_state,
                                        .snapshot = l->snapshot,
                                        .entries = l->entries,
                                        .entry_count = l->entry_count,
                                        .log_may_have_gone_back = l->moved } };

    n->core = raft_new(&n->core_options);
    int rc = raft_node_step(n, &ev);
    if (rc < 0)
        return err_set(e, ERR_CORRUPT,
                       "%s: log, snapshot and hard state contradict each other; remedy: %s",
                       n->directory, WAL_REMEDY);
    if (l->moved)
        raft_write_member(n); /* after the fence, which the step above has put in front */
    return 0;
}

static void log_loaded(const struct raft_node *n, const struct raft_loaded *l)
{
    uint64_t snapshot = l->snapshot != NULL ? l->snapshot->index : 0;

    log_info("raft.loaded",
             "raft_id=%" PRIu64 " generation=%" PRIu64 " term=%" PRIu64 " snapshot=%" PRIu64
             " last=%" PRIu64 " torn_bytes=%" PRIu64,
             n->raft_id, n->disk->member.generation, l->hard_state.term, snapshot,
             wal_state(n->disk->wal)->last_index, l->torn_bytes);
    if (l->broken != 0)
        log_error("raft.snapshot_broken", "index=%" PRIu64 " used=%" PRIu64, l->broken, snapshot);
    if (l->moved)
        log_error("raft.moved",
                  "directory=%s remedy=\"a copy or backup: wait to be readmitted, or start with "
                  "--force-new-cluster if the other managers are lost\"",
                  n->directory);
}

static int open_disk(struct raft_node *n, struct raft_loaded *l, struct err *e)
{
    struct keyring_options unlock;
    struct raft_disk_options disk = disk_options(&n->o, &unlock);
    int rc = raft_disk_open(&disk, &n->disk, l, e);

    if (rc < 0)
        return rc;
    n->raft_id = n->disk->member.raft_id;
    n->unlock_version = keyring_unlock_version(n->disk->keyring);
    if (n->o.start == RAFT_NODE_FORCE_NEW)
        rc = force_new(n, l, e);
    if (rc == 0 && l->snapshot != NULL)
        rc = raft_load_now(n, l->snapshot, e);
    return rc;
}

static int start(struct raft_node *n, struct err *e)
{
    struct raft_loaded l = { 0 };
    int rc = 0;

    if (n->o.start == RAFT_NODE_BOOTSTRAP || n->o.start == RAFT_NODE_JOIN)
        rc = create(&n->o, e);
    if (rc == 0)
        rc = open_disk(n, &l, e);
    if (rc == 0) {
        n->worker = worker_new("raft-disk", n->o.inbox, RAFT_NODE_INBOX_MAX, e);
        rc = n->worker != NULL ? 0 : -ERR_IO;
    }
    (void)FAILPOINT("open.done");
    if (rc == 0) {
        log_loaded(n, &l);
        raft_write_start(n);
        fill_core_options(n);
        rc = start_core(n, &l, e);
    }
    raft_loaded_deinit(&l);
    return rc;
}

struct raft_node *raft_node_new(const struct raft_node_options *o, struct err *e)
{
    struct raft_node *n = xcalloc(1, sizeof(*n));

    n->o = *o;
    n->directory = xstrdup(o->directory);
    n->address = xstrdup(o->address);
    n->o.directory = n->directory;
    n->o.address = n->address;
    n->o.snapshot_entries =
        o->snapshot_entries != 0 ? o->snapshot_entries : RAFT_NODE_SNAPSHOT_ENTRIES;
    n->o.snapshot_bytes = o->snapshot_bytes != 0 ? o->snapshot_bytes : SNAPSHOT_BYTES;
    n->o.tail_entries = o->tail_entries != 0 ? o->tail_entries : TAIL_ENTRIES;
    n->o.chunk_bytes = o->chunk_bytes != 0 ? o->chunk_bytes : (uint32_t)SNAP_CHUNK_BYTES;
    ASSERT(n->o.chunk_bytes <= SNAP_CHUNK_BYTES);
    n->writes.end = &n->writes.first;
    n->todo_end = &n->todo_first;
    n->proposals.end = &n->proposals.first;
    n->pending.end = &n->pending.first;
    if (start(n, e) < 0) {
        raft_node_free(n);
        return NULL;
    }
    return n;
}

void raft_node_free(struct raft_node *n)
{
    if (n == NULL)
        return;
    n->failed = true; /* nothing starts any more */
    worker_free(n->worker);
    loop_timer_cancel(n->o.loop, &n->core_timer);
    loop_timer_cancel(n->o.loop, &n->flush_timer);
    loop_timer_cancel(n->o.loop, &n->space_timer);
    loop_timer_cancel(n->o.loop, &n->slow_timer);
    raft_ask_cancel_all(n);
    raft_take_free(n);
    raft_load_free(n);
    raft_send_free_all(n);
    raft_receive_free(n);
    raft_keys_free(n);
    raft_todo_free_all(n);
    raft_write_free_all(n);
    raft_free(n->core);
    raft_disk_close(n->disk);
    free(n->directory);
    free(n->address);
    free(n);
}

/* The core is still empty: it starts again, in the right generation. */
void raft_node_adopt_generation(struct raft_node *n, uint64_t generation)
{
    struct raft_loaded l = { 0 };
    struct raft_status s;

    raft_status(n->core, &s);
    ASSERT(s.last_index == 0);
    ASSERT(n->writes.first == NULL);
    ASSERT(n->writing == NULL);
    l.hard_state = (struct raft_hard_state){ s.term, s.vote, s.incarnation, s.fenced };
    raft_free(n->core);
    n->core_options.generation = generation;
    int rc = start_core(n, &l, NULL);
    ASSERT(rc == 0 || n->failed); /* an empty log contradicts nothing */
    raft_write_member(n);
}

int raft_node_wipe(const char *directory, struct err *e)
{
    return raft_disk_wipe(directory, e);
}

bool raft_node_exists(const char *directory)
{
    return member_exists(directory);
}

/* ---- looking ---- */

void raft_node_status(const struct raft_node *n, struct raft_status *ret)
{
    raft_status(n->core, ret);
    ret->applied_index = n->applied_index; /* the core counts what waits in the todo queue */
    ret->established = ret->established && n->established;
}

const struct raft_config *raft_node_config(const struct raft_node *n)
{
    return raft_config(n->core);
}

size_t raft_node_peers(const struct raft_node *n, struct raft_peer_status *ret_peers)
{
    return raft_peers(n->core, ret_peers);
}

bool raft_node_has_quorum(const struct raft_node *n)
{
    return raft_has_quorum(n->core, raft_node_now(n));
}

uint64_t raft_node_id(const struct raft_node *n)
{
    return n->raft_id;
}

uint64_t raft_node_incarnation(const struct raft_node *n)
{
    struct raft_status s;

    raft_status(n->core, &s);
    return s.incarnation;
}

uint64_t raft_node_generation(const struct raft_node *n)
{
    return n->core_options.generation;
}
