/* What the manager asks of Raft: proposals, reads, changes. Every call gets its callback exactly
 * once. Proposals of one loop iteration go to the core together, so they share a write. */
#include <string.h>

#include "common/assert.h"
#include "common/failpoint.h"
#include "managerd/io/raft_node_internal.h"

static void push(struct call_list *l, struct raft_done_call *c)
{
    c->next = NULL;
    *l->end = c;
    l->end = &c->next;
    l->count++;
}

static struct raft_done_call *pop(struct call_list *l)
{
    struct raft_done_call *c = l->first;

    ASSERT(c != NULL);
    l->first = c->next;
    if (l->first == NULL)
        l->end = &l->first;
    l->count--;
    return c;
}

struct raft_done_call *raft_call_new(raft_done_fn *done, void *ctx)
{
    struct raft_done_call *c = xcalloc(1, sizeof(*c));

    c->done = done;
    c->ctx = ctx;
    return c;
}

void raft_call_free(struct raft_done_call *call)
{
    raft_data_unref(call->data);
    free(call->change);
    free(call);
}

static void finish(struct raft_done_call *c, int rc)
{
    if (c->done != NULL)
        c->done(c->ctx, rc, c->index);
    raft_call_free(c);
}

/* ---- proposals and changes ---- */

static int propose_check(const struct raft_node *n, size_t size, bool removal)
{
    if (n->failed)
        return -ERR_UNAVAILABLE;
    if (n->space == WAL_SPACE_FULL || (n->space == WAL_SPACE_LOW && !removal))
        return -ERR_NO_SPACE;
    if (size > RAFT_ENTRY_BYTES_MAX || size > wal_entry_bytes_max(n->disk->wal))
        return -ERR_TOO_BIG;
    return n->proposals.count < PROPOSALS_MAX ? 0 : -ERR_BUSY;
}

static void propose(struct raft_node *n, struct raft_done_call *c, size_t size, bool removal)
{
    int rc = propose_check(n, size, removal);

    if (rc < 0) {
        raft_todo_done(n, c, rc);
        return;
    }
    push(&n->proposals, c);
    raft_node_wake(n);
}

static struct raft_done_call *proposal_new(uint64_t term, uint8_t *data, size_t size,
                                           raft_done_fn *done, void *ctx)
{
    struct raft_done_call *c = raft_call_new(done, ctx);

    c->term = term;
    if (size <= RAFT_ENTRY_BYTES_MAX)
        c->data = raft_data_take(data, size);
    else
        free(data);
    return c;
}

void raft_node_propose(struct raft_node *n, uint64_t term, uint8_t *data, size_t size,
                       raft_done_fn *done, void *ctx)
{
    propose(n, proposal_new(term, data, size, done, ctx), size, false);
}

void raft_node_propose_removal(struct raft_node *n, uint64_t term, uint8_t *data, size_t size,
                               raft_done_fn *done, void *ctx)
{
    propose(n, proposal_new(term, data, size, done, ctx), size, true);
}

void raft_node_change_config(struct raft_node *n, const struct raft_ev_config_change *change,
                             raft_done_fn *done, void *ctx)
{
    struct raft_done_call *c = raft_call_new(done, ctx);

    c->change = xmemdup(change, sizeof(*change));
    if (change->address != NULL && strlen(change->address) < sizeof(c->address)) {
        memcpy(c->address, change->address, strlen(change->address));
        c->change->address = c->address;
    } else if (change->address != NULL) {
        raft_todo_done(n, c, -ERR_TOO_BIG);
        return;
    }
    propose(n, c, 0, true);
}

int raft_node_transfer(struct raft_node *n, uint64_t target)
{
    struct raft_event ev = { .type = RAFT_EV_TRANSFER, .target = target };

    return raft_node_step(n, &ev);
}

static int flush_change(struct raft_node *n, struct raft_done_call *c)
{
    struct raft_event ev = { .type = RAFT_EV_CONFIG_CHANGE, .change = *c->change };
    struct raft_status s;

    (void)FAILPOINT("conf.propose");
    int rc = raft_node_step(n, &ev);
    if (rc < 0)
        return rc;
    raft_status(n->core, &s);
    c->index = n->first_index;
    c->term = s.term;
    return 0;
}

/* Hands the proposals at the front that were computed under one term to the core. */
static int flush_batch(struct raft_node *n, size_t *ret_count)
{
    static struct raft_data *data[RAFT_PROPOSE_ENTRIES_MAX]; /* borrowed for the call */
    struct raft_event ev = { .type = RAFT_EV_PROPOSE };
    size_t count = 0, bytes = 0;

    ev.propose.term = n->proposals.first->term;
    for (struct raft_done_call *c = n->proposals.first;
         c != NULL && c->change == NULL && c->term == ev.propose.term && count < ARRAY_LEN(data) &&
         (count == 0 || bytes + c->data->size <= RAFT_ENTRY_BYTES_MAX);
         c = c->next) {
        bytes += c->data->size;
        data[count++] = c->data;
    }
    ev.propose.data = data;
    ev.propose.count = count;
    *ret_count = count;
    return raft_node_step(n, &ev);
}

/* The first count proposals are in the log, or refused. */
static void settle(struct raft_node *n, size_t count, int rc)
{
    for (size_t i = 0; i < count; i++) {
        struct raft_done_call *c = pop(&n->proposals);

        raft_data_unref(c->data); /* the log has its own */
        c->data = NULL;
        if (rc < 0) {
            raft_todo_done(n, c, rc);
            continue;
        }
        if (c->change == NULL)
            c->index = n->first_index + i;
        push(&n->pending, c);
    }
}

void raft_ask_flush(struct raft_node *n)
{
    while (n->proposals.first != NULL && !n->failed && raft_node_now(n) >= n->busy_until_ms) {
        struct raft_done_call *c = n->proposals.first;
        size_t count = 1;
        (void)FAILPOINT("propose.before");
        int rc = c->change != NULL ? flush_change(n, c) : flush_batch(n, &count);
        (void)FAILPOINT("propose.after");

        if (rc == -ERR_BUSY && c->change == NULL) { /* back-pressure: they wait */
            n->busy_until_ms = raft_node_now(n) + BUSY_RETRY_MS;
            raft_node_wake_at(n, n->busy_until_ms);
            return;
        }
        settle(n, count, rc);
    }
}

void raft_ask_applied(struct raft_node *n, const struct raft_entry *entry)
{
    while (n->pending.first != NULL && n->pending.first->index <= entry->index) {
        struct raft_done_call *c = pop(&n->pending);
        bool ours = c->index == entry->index && c->term == entry->term;

        (void)FAILPOINT("answer.before");
        finish(c, ours ? 0 : -ERR_STALE);
    }
}

void raft_ask_leader(struct raft_node *n, const struct raft_status *status)
{
    /* Terms rise along the list. */
    while (n->pending.first != NULL &&
           (status->state != RAFT_LEADER || n->pending.first->term != status->term))
        finish(pop(&n->pending), -ERR_UNAVAILABLE);
}

/* ---- reads ---- */

static void unlink_read(struct raft_node *n, struct raft_done_call *c)
{
    if (c->previous != NULL)
        c->previous->next = c->next;
    else
        n->reads = c->next;
    if (c->next != NULL)
        c->next->previous = c->previous;
}

/* The read's id is its address: unique while it waits. */
void raft_node_read(struct raft_node *n, raft_done_fn *done, void *ctx)
{
    struct raft_done_call *c = raft_call_new(done, ctx);
    struct raft_event ev = { .type = RAFT_EV_READ_INDEX, .read_id = (uint64_t)(uintptr_t)c };

    c->next = n->reads;
    if (c->next != NULL)
        c->next->previous = c;
    n->reads = c;
    int rc = raft_node_step(n, &ev);
    if (rc < 0) {
        unlink_read(n, c);
        raft_todo_done(n, c, rc);
    }
}

void raft_ask_read_done(struct raft_node *n, struct raft_done_call *call, int rc)
{
    unlink_read(n, call);
    call->index = rc == 0 ? n->applied_index : 0;
    finish(call, rc);
}

void raft_ask_cancel_all(struct raft_node *n)
{
    while (n->proposals.first != NULL)
        finish(pop(&n->proposals), -ERR_CANCELED);
    while (n->pending.first != NULL)
        finish(pop(&n->pending), -ERR_CANCELED);
    while (n->reads != NULL)
        raft_ask_read_done(n, n->reads, -ERR_CANCELED);
}
