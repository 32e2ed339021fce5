/* What the core has decided and the manager must hear of, in one queue in the order of decision:
 * entries to apply, reads to answer, changes of leadership and configuration, callbacks. The queue
 * runs from the loop, never inside the call that caused an item, and stops while a snapshot is
 * being loaded. The core takes an entry for applied as soon as it is queued; nothing can tell the
 * difference, because everything that depends on it waits in the same queue. */
#include "common/assert.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "managerd/io/raft_node_internal.h"
#include "managerd/raft/codec.h"

static struct todo *push(struct raft_node *n, enum todo_type type)
{
    struct todo *t = xcalloc(1, sizeof(*t));

    t->type = type;
    *n->todo_end = t;
    n->todo_end = &t->next;
    return t;
}

void raft_todo_add(struct raft_node *n, const struct raft_effects *fx)
{
    struct raft_status status;

    if (fx->load_snapshot != 0)
        push(n, TODO_LOAD)->index = fx->load_snapshot;
    if (fx->apply_count > 0) {
        struct todo *t = push(n, TODO_APPLY);

        t->entries = raft_entries_clone(fx->apply, fx->apply_count);
        t->entry_count = fx->apply_count;
    }
    for (size_t i = 0; i < fx->read_count; i++) {
        struct todo *t = push(n, TODO_READ);

        t->call = (struct raft_done_call *)(uintptr_t)fx->reads[i].id; /* see raft_node_read() */
        t->rc = fx->reads[i].failed ? -ERR_UNAVAILABLE : 0;
    }
    raft_status(n->core, &status);
    if (fx->leader_changed || status.established != n->core_established) {
        push(n, TODO_LEADER)->status = status;
        n->core_established = status.established;
    }
    if (fx->config_changed)
        push(n, TODO_CONFIG);
}

void raft_todo_done(struct raft_node *n, struct raft_done_call *call, int rc)
{
    struct todo *t = push(n, TODO_DONE);

    t->call = call;
    t->rc = rc;
    raft_node_wake(n);
}

void raft_todo_chunk(struct raft_node *n, struct chunk_call *call)
{
    push(n, TODO_CHUNK)->chunk = call;
    raft_node_wake(n);
}

/* ---- running ---- */

/* A committed configuration: are we still in it? */
static void note_config(struct raft_node *n, const struct raft_entry *entry)
{
    struct raft_config c;
    int rc = raft_config_unpack(entry->data->bytes, entry->data->size, &c, NULL);

    ASSERT(rc == 0); /* the core has checked it */
    (void)FAILPOINT("conf.applied");
    if (raft_config_find(&c, n->raft_id) != NULL) {
        n->was_member = true;
    } else if (n->was_member && !n->removed_told) {
        n->removed_told = true;
        (void)FAILPOINT("conf.removed");
        log_info("raft.removed", "index=%llu", (unsigned long long)entry->index);
        if (n->o.events->on_removed != NULL)
            n->o.events->on_removed(n->o.ctx);
    }
}

static void apply(struct raft_node *n, const struct todo *t)
{
    for (size_t i = 0; i < t->entry_count; i++) {
        const struct raft_entry *entry = &t->entries[i];
        const struct raft_data *data = entry->data;

        ASSERT(entry->index == n->applied_index + 1);
        (void)FAILPOINT("apply.before");
        if (entry->type == RAFT_ENTRY_NORMAL)
            n->o.fsm->apply(n->o.ctx, entry->index, entry->term, data != NULL ? data->bytes : NULL,
                            data != NULL ? data->size : 0);
        n->applied_index = entry->index;
        n->bytes_since_snapshot += raft_entry_bytes(entry);
        (void)FAILPOINT("apply.after");
        if (entry->type == RAFT_ENTRY_CONFIG)
            note_config(n, entry);
        raft_ask_applied(n, entry);
    }
    n->entries_since_snapshot += t->entry_count;
}

static void tell_leader(struct raft_node *n, struct todo *t)
{
    n->established = t->status.established;
    t->status.applied_index = n->applied_index;
    raft_ask_leader(n, &t->status);
    if (t->status.state != RAFT_LEADER)
        raft_send_stop_all(n);
    if (n->o.events->on_leader != NULL)
        n->o.events->on_leader(n->o.ctx, &t->status);
}

static void run_one(struct raft_node *n, struct todo *t)
{
    switch (t->type) {
    case TODO_LOAD:
        raft_load_start(n, t->index);
        break;
    case TODO_APPLY:
        apply(n, t);
        break;
    case TODO_READ:
        (void)FAILPOINT("read.before");
        raft_ask_read_done(n, t->call, t->rc);
        break;
    case TODO_LEADER:
        tell_leader(n, t);
        break;
    case TODO_CONFIG:
        (void)FAILPOINT("conf.told");
        if (n->o.events->on_config != NULL)
            n->o.events->on_config(n->o.ctx, raft_config(n->core));
        break;
    case TODO_DONE:
        if (t->call->done != NULL)
            t->call->done(t->call->ctx, t->rc, t->call->index);
        raft_call_free(t->call);
        break;
    case TODO_CHUNK:
        raft_receive_reply(t->chunk);
        break;
    }
}

static void todo_free(struct todo *t)
{
    raft_entries_free(t->entries, t->entry_count);
    free(t);
}

void raft_todo_run(struct raft_node *n)
{
    if (n->running_todo || n->failed)
        return;
    n->running_todo = true;
    while (n->todo_first != NULL && n->load == NULL && !n->failed) {
        struct todo *t = n->todo_first;

        n->todo_first = t->next;
        if (n->todo_first == NULL)
            n->todo_end = &n->todo_first;
        run_one(n, t);
        todo_free(t);
    }
    n->running_todo = false;
    if (n->todo_first == NULL && n->load == NULL)
        raft_take_consider(n);
}

/* Only calls that nobody else holds are owed here; reads are in their own list. */
void raft_todo_free_all(struct raft_node *n)
{
    for (struct todo *t; (t = n->todo_first) != NULL;) {
        n->todo_first = t->next;
        if (t->type == TODO_DONE) {
            if (t->call->done != NULL)
                t->call->done(t->call->ctx, t->rc, t->call->index);
            raft_call_free(t->call);
        }
        if (t->type == TODO_CHUNK) {
            t->chunk->rc = -ERR_CANCELED;
            raft_receive_reply(t->chunk);
        }
        todo_free(t);
    }
    n->todo_end = &n->todo_first;
}
