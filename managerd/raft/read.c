/* Linearizable reads without log entries: ReadIndex, thesis §6.4. A read is answered by a state
 * that includes everything committed when it began, and a quorum has to confirm, by acknowledging a
 * round of heartbeats sent after that moment, that no later leader could have committed more. All
 * reads that arrive while a round is under way share the next one. Followers ask the leader for the
 * index (one question for all that wait) and answer from their own state: reads scale with
 * managers.
 *
 * r->reads is in order of arrival on both sides, so index and round never decrease along it. */
#include <string.h>

#include "common/assert.h"
#include "managerd/raft/internal.h"

enum { READ_DEADLINE_ELECTIONS = 2 };

static void push(struct raft *r, const struct raft_pending_read *read)
{
    ASSERT(r->read_count < RAFT_READS_MAX);
    if (r->read_count == r->read_capacity) {
        r->read_capacity = MAX((size_t)16, r->read_capacity * 2);
        r->reads = xrealloc_array(r->reads, r->read_capacity, sizeof(*r->reads));
    }
    r->reads[r->read_count++] = *read;
}

static void pop(struct raft *r, size_t count)
{
    if (count == 0)
        return;
    ASSERT(count <= r->read_count);
    r->read_count -= count;
    memmove(r->reads, r->reads + count, r->read_count * sizeof(*r->reads));
}

static void done(struct raft *r, const struct raft_pending_read *read, bool failed)
{
    struct raft_message *reply;

    if (read->from != RAFT_NONE) {
        reply = raft_send(r, RAFT_MSG_READ_REPLY, read->from);
        reply->context = read->context;
        reply->reject = failed;
        reply->index = failed ? 0 : read->index;
        return;
    }
    if (r->reads_done_count == r->reads_done_capacity) {
        r->reads_done_capacity = MAX((size_t)16, r->reads_done_capacity * 2);
        r->reads_done =
            xrealloc_array(r->reads_done, r->reads_done_capacity, sizeof(*r->reads_done));
    }
    r->reads_done[r->reads_done_count++] =
        (struct raft_read){ .id = read->id, .index = failed ? 0 : read->index, .failed = failed };
}

/* ---- leader ---------------------------------------------------------------------------------- */

static bool own_term_committed(const struct raft *r)
{
    /* Until then commit_index may be behind what older leaders have acknowledged (§8). */
    return r->log.commit_index >= r->term_first_index || RAFT_MUTANT(RAFT_MUTANT_READ_BEFORE_NOOP);
}

static uint64_t confirmed_round(const struct raft *r)
{
    if (RAFT_MUTANT(RAFT_MUTANT_READ_NO_ROUND))
        return UINT64_MAX;
    if (RAFT_MUTANT(RAFT_MUTANT_READ_LEASE) &&
        r->now_ms < raft_quorum_contact_ms(r) + 2u * r->options.election_ms)
        return UINT64_MAX;
    return raft_quorum_round(r);
}

void raft_reads_advance(struct raft *r)
{
    if (r->state != RAFT_LEADER || r->read_count == 0 || !own_term_committed(r))
        return;
    for (size_t i = r->read_count; i > 0 && r->reads[i - 1].index == 0; i--) {
        r->reads[i - 1].index = r->log.commit_index;
        r->reads[i - 1].round = r->round + 1;
    }
    /* Start the round that the newest reads wait for, unless one is still under way. */
    if (r->reads[r->read_count - 1].round > r->round && raft_quorum_round(r) >= r->round)
        raft_broadcast_heartbeat(r);
}

static int leader_read(struct raft *r, uint64_t id, uint64_t from, uint64_t context)
{
    struct raft_pending_read read = {
        .id = id,
        .from = from,
        .context = context,
        .deadline_ms = r->now_ms + (uint64_t)READ_DEADLINE_ELECTIONS * r->options.election_ms,
    };

    if (r->read_count == RAFT_READS_MAX)
        return -ERR_BUSY;
    push(r, &read);
    raft_reads_advance(r);
    return 0;
}

void raft_on_read(struct raft *r, const struct raft_message *m)
{
    struct raft_message *reply;

    if (r->state == RAFT_LEADER && leader_read(r, 0, m->from, m->context) == 0)
        return;
    reply = raft_send(r, RAFT_MSG_READ_REPLY, m->from);
    reply->context = m->context;
    reply->reject = true;
}

/* ---- follower -------------------------------------------------------------------------------- */

static void ask(struct raft *r)
{
    struct raft_message *m = raft_send(r, RAFT_MSG_READ, r->leader);

    m->context = r->read_context_sent;
    r->read_sent_ms = r->now_ms;
}

static int follower_read(struct raft *r, uint64_t id)
{
    struct raft_pending_read read = {
        .id = id,
        .deadline_ms = r->now_ms + (uint64_t)READ_DEADLINE_ELECTIONS * r->options.election_ms,
    };

    if (r->leader == RAFT_NONE)
        return -ERR_UNAVAILABLE;
    if (r->read_count == RAFT_READS_MAX)
        return -ERR_BUSY;
    /* A question already sent says nothing about now: this read goes with the next one. */
    read.context = r->read_context;
    push(r, &read);
    if (r->read_context_sent == 0) {
        r->read_context_sent = r->read_context++;
        ask(r);
    }
    return 0;
}

void raft_read_retry(struct raft *r)
{
    if (r->read_context_sent != 0 && r->now_ms >= r->read_sent_ms + r->options.heartbeat_ms)
        ask(r);
}

void raft_on_read_reply(struct raft *r, const struct raft_message *m)
{
    size_t kept = 0;

    if (r->state == RAFT_LEADER || m->from != r->leader || m->context != r->read_context_sent ||
        m->context == 0)
        return;
    for (size_t i = 0; i < r->read_count; i++) {
        if (r->reads[i].context == m->context) {
            if (m->reject) {
                done(r, &r->reads[i], true);
                continue;
            }
            r->reads[i].index = m->index;
        }
        r->reads[kept++] = r->reads[i];
    }
    r->read_count = kept;
    r->read_context_sent = 0;
    if (r->read_count > 0 && r->reads[r->read_count - 1].context == r->read_context) {
        r->read_context_sent = r->read_context++;
        ask(r);
    }
}

/* ---- both ------------------------------------------------------------------------------------ */

int raft_read_index(struct raft *r, uint64_t id)
{
    return r->state == RAFT_LEADER ? leader_read(r, id, RAFT_NONE, 0) : follower_read(r, id);
}

void raft_reads_finish(struct raft *r)
{
    uint64_t confirmed;
    size_t count = 0;

    if (r->read_count == 0)
        return;
    confirmed = r->state == RAFT_LEADER ? confirmed_round(r) : 0;
    while (count < r->read_count) {
        const struct raft_pending_read *read = &r->reads[count];

        if (read->index == 0 || (r->state == RAFT_LEADER && read->round > confirmed))
            break;
        if (read->from == RAFT_NONE && read->index > r->log.applied_index)
            break;
        done(r, read, false);
        count++;
    }
    pop(r, count);
}

void raft_reads_fail(struct raft *r)
{
    for (size_t i = 0; i < r->read_count; i++)
        done(r, &r->reads[i], true);
    r->read_count = 0;
}

void raft_reads_timeout(struct raft *r)
{
    size_t count = 0;

    while (count < r->read_count && r->reads[count].deadline_ms <= r->now_ms)
        done(r, &r->reads[count++], true);
    pop(r, count);
}

uint64_t raft_reads_deadline(const struct raft *r)
{
    return r->read_count > 0 ? r->reads[0].deadline_ms : RAFT_NEVER;
}
