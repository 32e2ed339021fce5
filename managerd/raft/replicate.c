/* Log replication: appends, acknowledgements, heartbeats, commit, CheckQuorum, proposals. */
#include "common/assert.h"
#include "managerd/raft/internal.h"

/* ---- what a leader may count ----------------------------------------------------------------- */

bool raft_counts(const struct raft *r, uint32_t position)
{
    const struct raft_member *member = &r->config.members[position];
    const struct raft_progress *p = &r->progress[position];

    if (RAFT_MUTANT(RAFT_MUTANT_FENCED_COUNTED))
        return true;
    if (member->raft_id == r->options.raft_id)
        return raft_is_self(r, member);
    return p->incarnation == member->incarnation && !p->fence_order;
}

bool raft_active(const struct raft *r, uint32_t position)
{
    const struct raft_progress *p = &r->progress[position];

    if (p->raft_id == r->options.raft_id)
        return raft_counts(r, position);
    return raft_counts(r, position) && p->contacted &&
           r->now_ms < p->last_contact_ms + r->options.election_ms;
}

enum leader_value { VALUE_MATCH, VALUE_ROUND, VALUE_CONTACT };

static uint64_t member_value(const struct raft *r, uint32_t position, enum leader_value what)
{
    const struct raft_progress *p = &r->progress[position];
    bool self = p->raft_id == r->options.raft_id;

    if (!raft_counts(r, position))
        return 0;
    switch (what) {
    case VALUE_MATCH:
        /* Thesis §10.2.1: the leader is one of the replicas, and counts when its own disk has it.
         */
        if (self)
            return RAFT_MUTANT(RAFT_MUTANT_SELF_UNSYNCED) ? raft_log_last(&r->log)
                                                          : r->log.durable_index;
        return p->match_index;
    case VALUE_ROUND:
        return self ? r->round : p->round_acked;
    case VALUE_CONTACT:
        return self ? r->now_ms : p->last_contact_ms;
    }
    UNREACHABLE();
}

/* The value that a quorum of the voters has reached; 0 without voters. */
static uint64_t leader_quorum_value(const struct raft *r, enum leader_value what)
{
    uint64_t values[RAFT_MEMBERS_MAX];
    uint32_t count = 0;

    for (uint32_t i = 0; i < r->progress_count; i++) {
        if (r->config.members[i].role == RAFT_VOTER || RAFT_MUTANT(RAFT_MUTANT_LEARNER_COUNTED))
            values[count++] = member_value(r, i, what);
    }
    if (RAFT_MUTANT(RAFT_MUTANT_REMOVED_COUNTS) && !raft_is_voter(r))
        values[count++] = what == VALUE_MATCH ? raft_log_last(&r->log)
                                              : (what == VALUE_ROUND ? r->round : r->now_ms);
    return count > 0 ? raft_quorum_value(values, count) : 0;
}

uint64_t raft_quorum_contact_ms(const struct raft *r)
{
    return leader_quorum_value(r, VALUE_CONTACT);
}

uint64_t raft_quorum_round(const struct raft *r)
{
    return leader_quorum_value(r, VALUE_ROUND);
}

/* ---- leader: sending ------------------------------------------------------------------------- */

static bool recently_heard(const struct raft *r, const struct raft_progress *p)
{
    return r->now_ms < p->last_contact_ms + r->options.election_ms;
}

/* Sends one append. False when the follower needs a snapshot instead. */
static bool send_one_append(struct raft *r, struct raft_progress *p)
{
    uint64_t previous = p->next_index - 1, bytes;
    struct raft_message *m;
    size_t count;

    if (previous < r->log.base_index) {
        if (p->contacted && recently_heard(r, p))
            raft_request_snapshot(r, p);
        return false;
    }
    count = raft_log_fit(&r->log, p->next_index, RAFT_MESSAGE_ENTRIES_MAX,
                         r->options.message_bytes_max, &bytes);
    m = raft_send(r, RAFT_MSG_APPEND, p->raft_id);
    m->index = previous;
    m->log_term = raft_log_term(&r->log, previous);
    m->entry_count = count; /* entries: step_finish points them into the log */
    m->commit = r->log.commit_index;
    m->round = r->round;
    m->flag = p->fence_order;
    p->commit_sent = r->log.commit_index;
    if (p->state == RAFT_PROBE || count > 0)
        raft_progress_sent(p, previous + count, bytes);
    return true;
}

/* Sends what the follower lacks and its limits allow. */
void raft_send_append(struct raft *r, struct raft_progress *p, bool may_be_empty)
{
    ASSERT(r->state == RAFT_LEADER);
    while (raft_progress_ready(p, r->options.inflight_bytes_max) ||
           (RAFT_MUTANT(RAFT_MUTANT_INFLIGHT_UNLIMITED) && p->state == RAFT_REPLICATE)) {
        if (p->next_index > raft_log_last(&r->log) && !may_be_empty)
            return;
        may_be_empty = false;
        if (!send_one_append(r, p))
            return;
    }
}

void raft_broadcast_append(struct raft *r)
{
    for (uint32_t i = 0; i < r->progress_count; i++) {
        if (r->progress[i].raft_id != r->options.raft_id)
            raft_send_append(r, &r->progress[i], false);
    }
}

static void send_heartbeat(struct raft *r, struct raft_progress *p, uint64_t round)
{
    struct raft_message *m = raft_send(r, RAFT_MSG_HEARTBEAT, p->raft_id);

    /* Never beyond what it has acknowledged: its log may hold other entries there. */
    m->commit = MIN(r->log.commit_index, p->match_index);
    m->round = round;
    m->flag = p->fence_order;
    p->commit_sent = MAX(p->commit_sent, m->commit);
}

/* Starts a round: whoever echoes it (or a later one) held us for the leader after this moment. */
void raft_broadcast_heartbeat(struct raft *r)
{
    ASSERT(r->state == RAFT_LEADER);
    r->round++;
    r->heartbeat_at_ms = r->now_ms + r->options.heartbeat_ms;
    for (uint32_t i = 0; i < r->progress_count; i++) {
        if (r->progress[i].raft_id != r->options.raft_id)
            send_heartbeat(r, &r->progress[i], r->round);
    }
}

/* Tells followers of a new commit index at once; round 0 asks for no answer. */
static void broadcast_commit(struct raft *r)
{
    for (uint32_t i = 0; i < r->progress_count; i++) {
        struct raft_progress *p = &r->progress[i];

        if (p->raft_id != r->options.raft_id && p->state == RAFT_REPLICATE &&
            p->commit_sent < MIN(r->log.commit_index, p->match_index))
            send_heartbeat(r, p, 0);
    }
}

void raft_leader_timeout(struct raft *r)
{
    ASSERT(r->state == RAFT_LEADER);
    /* Thesis §6.2: a leader that cannot reach a quorum steps down, so that clients look elsewhere
     * and the others' stickiness ends. */
    if (r->now_ms >= raft_quorum_contact_ms(r) + r->options.election_ms &&
        !RAFT_MUTANT(RAFT_MUTANT_NO_CHECK_QUORUM)) {
        raft_note(r, RAFT_NOTE_STEP_DOWN_QUORUM, RAFT_NONE);
        raft_become_follower(r, r->hard.term, RAFT_NONE);
        return;
    }
    if (r->transfer_target != RAFT_NONE && r->now_ms >= r->transfer_deadline_ms) {
        raft_note(r, RAFT_NOTE_TRANSFER_ABORTED, r->transfer_target);
        r->transfer_target = RAFT_NONE;
    }
    if (r->now_ms >= r->heartbeat_at_ms)
        raft_broadcast_heartbeat(r);
}

/* ---- leader: commit -------------------------------------------------------------------------- */

/* Thesis §4.2.2: a leader outside the committed configuration has done its duty. It hands over to
 * the member that needs no catching up, so that the cluster does not wait for a timeout. */
static void step_down_removed(struct raft *r)
{
    uint64_t best = RAFT_NONE, best_match = 0;

    for (uint32_t i = 0; i < r->config.member_count; i++) {
        if (r->config.members[i].role == RAFT_VOTER && r->progress[i].match_index > best_match) {
            best = r->config.members[i].raft_id;
            best_match = r->progress[i].match_index;
        }
    }
    raft_broadcast_heartbeat(r); /* carries the commit */
    if (best_match == raft_log_last(&r->log))
        raft_send(r, RAFT_MSG_TIMEOUT_NOW, best);
    raft_note(r, RAFT_NOTE_STEP_DOWN_REMOVED, RAFT_NONE);
    raft_become_follower(r, r->hard.term, RAFT_NONE);
}

void raft_leader_commit(struct raft *r)
{
    uint64_t index = leader_quorum_value(r, VALUE_MATCH);
    bool first;

    ASSERT(r->state == RAFT_LEADER);
    if (index <= r->log.commit_index)
        return;
    /* §5.4.2, Figure 8: only entries of the current term are committed by counting replicas. */
    if (raft_log_term(&r->log, index) != r->hard.term && !RAFT_MUTANT(RAFT_MUTANT_COMMIT_OLD_TERM))
        return;
    first = r->log.commit_index < r->term_first_index;
    raft_commit_to(r, index);
    if (r->state != RAFT_LEADER) /* the committed configuration is without us */
        return;
    broadcast_commit(r);
    if (first)
        raft_reads_advance(r);
}

/* Called by raft_commit_to for the leader once commit_index moved. */
void raft_leader_committed(struct raft *r)
{
    if (r->config_index <= r->log.commit_index && !raft_is_voter(r) &&
        !RAFT_MUTANT(RAFT_MUTANT_REMOVED_COUNTS))
        step_down_removed(r);
}

/* ---- leader: answers ------------------------------------------------------------------------- */

/* Another incarnation speaks: a new life of the member, or a late message of one that is over. Only
 * a life that still lasts can answer a round that begins now, so wait for that. Going back to a
 * dead life would count what its successor does not know of. */
static bool new_life(struct raft *r, struct raft_progress *p, const struct raft_message *m)
{
    if (p->challenge_round == 0)
        p->challenge_round = r->round + 1;
    if (m->round < p->challenge_round)
        return false;
    raft_progress_reset(p, m->incarnation, raft_log_last(&r->log) + 1);
    return true;
}

/* The follower's progress after a message of its, or NULL when it is not ours to hear. */
static struct raft_progress *heard_from(struct raft *r, const struct raft_message *m)
{
    int at = raft_position(r, m->from);
    struct raft_progress *p;

    if (r->state != RAFT_LEADER || m->term != r->hard.term || at < 0)
        return NULL;
    p = &r->progress[at];
    if (m->incarnation != p->incarnation && !new_life(r, p, m))
        return NULL;
    p->contacted = true;
    p->last_contact_ms = r->now_ms;
    p->round_acked = MAX(p->round_acked, m->round);
    return p;
}

static void acknowledged(struct raft *r, struct raft_progress *p, uint64_t index)
{
    if (!raft_progress_acked(p, index))
        return;
    p->match_round = r->round;
    if (p->state == RAFT_PROBE ||
        (p->state == RAFT_SENDING_SNAPSHOT && p->match_index >= r->log.base_index))
        raft_progress_replicate(p);
}

void raft_on_append_reply(struct raft *r, const struct raft_message *m)
{
    struct raft_progress *p = heard_from(r, m);
    uint64_t hint;

    if (p == NULL)
        return;
    acknowledged(r, p, m->index);
    if (m->reject) {
        /* §5.3: skip back over whole terms. No entry above the hint, and none of a term above the
         * hint's, can be equal on both sides. */
        hint = raft_log_find(&r->log, m->hint_index, m->hint_term);
        if (m->hint_index < r->log.base_index)
            hint = m->hint_index;
        (void)raft_progress_rejected(p, m->context,
                                     hint + 1); /* stale: the next lines do no harm */
    } else if (p->state == RAFT_PROBE) {
        /* Accepted, though nothing new is durable: the place is found. */
        if (m->index + 1 == p->next_index)
            raft_progress_replicate(p);
    }
    raft_leader_commit(r);
    if (r->state != RAFT_LEADER)
        return;
    raft_send_append(r, p, m->reject);
    raft_transfer_progress(r);
    raft_reads_advance(r);
}

void raft_on_heartbeat_reply(struct raft *r, const struct raft_message *m)
{
    struct raft_progress *p = heard_from(r, m);

    if (p == NULL)
        return;
    /* Fencing: it answers a round that began after it had acknowledged match_index under this very
     * term, and its durable log (hint_index) does not reach that far. */
    if (m->round > p->match_round && m->hint_index < p->match_index && !p->fence_order) {
        p->fence_order = true;
        raft_note(r, RAFT_NOTE_LOG_WENT_BACK, p->raft_id);
    }
    acknowledged(r, p, m->index);
    p->paused = false;
    if (p->inflight_count > 0 && !raft_progress_ready(p, r->options.inflight_bytes_max))
        raft_progress_free_oldest(p); /* all may be lost: let one through to find out */
    raft_leader_commit(r);
    if (r->state != RAFT_LEADER)
        return;
    /* Not all acknowledged: entries may be lost, or still on their way to its disk. An empty append
     * tells the two apart. */
    raft_send_append(r, p, m->index < raft_log_last(&r->log));
    raft_transfer_progress(r);
    raft_reads_advance(r);
}

/* ---- follower -------------------------------------------------------------------------------- */

/* What we may acknowledge: durable here, and equal to the leader's log. */
static uint64_t ackable(const struct raft *r)
{
    uint64_t equal = MAX(r->match_index, r->log.commit_index);

    if (RAFT_MUTANT(RAFT_MUTANT_ACK_UNSYNCED))
        return equal;
    return MIN(equal, r->log.durable_index);
}

static struct raft_message *send_append_reply(struct raft *r)
{
    struct raft_message *m = raft_send_durable(r, RAFT_MSG_APPEND_REPLY, r->leader);

    m->index = ackable(r);
    m->round = r->round_seen;
    return m;
}

/* Acknowledges once the disk has caught up, or halfway when it has news. */
void raft_send_ack(struct raft *r)
{
    uint64_t index = ackable(r);
    bool complete = index >= r->match_index;

    if (!r->ack_due || r->leader == RAFT_NONE || r->state != RAFT_FOLLOWER)
        return;
    if (!complete && index <= r->ack_sent)
        return;
    send_append_reply(r);
    r->ack_sent = index;
    r->ack_due = !complete;
}

static void refuse_append(struct raft *r, const struct raft_message *m, enum raft_note why)
{
    uint64_t hint = raft_log_last(&r->log);
    struct raft_message *reply;

    if (why == RAFT_NOTE_APPEND_CONFLICT)
        hint = raft_log_find(&r->log, m->index - 1, m->log_term);
    raft_note(r, why, m->from);
    reply = send_append_reply(r);
    reply->reject = true;
    reply->context = m->index;
    reply->hint_index = hint;
    reply->hint_term = raft_log_term(&r->log, hint);
}

/* Where the message's entries begin to differ from our log: the position of the first entry that is
 * missing or has another term, or entry_count. */
static size_t first_new_entry(const struct raft *r, const struct raft_message *m)
{
    uint64_t last = raft_log_last(&r->log);
    size_t i = 0;

    if (m->index < r->log.base_index) /* compacted, hence committed, hence equal */
        i = (size_t)MIN(r->log.base_index - m->index, (uint64_t)m->entry_count);
    for (; i < m->entry_count; i++) {
        const struct raft_entry *e = &m->entries[i];

        if (e->index > last || raft_log_term(&r->log, e->index) != e->term)
            break;
    }
    return i;
}

static bool previous_matches(const struct raft *r, const struct raft_message *m)
{
    return m->index < r->log.base_index ||
           (m->index <= raft_log_last(&r->log) && raft_log_term(&r->log, m->index) == m->log_term);
}

/* A leader has every committed entry (§5.4.3) and never changes its own log (§5.3): an append that
 * contradicts what is committed, or what this leader sent before, is no leader's. */
int raft_check_append(const struct raft *r, const struct raft_message *m)
{
    bool same_leader = m->term == r->hard.term && r->leader == m->from;
    uint64_t fixed = same_leader ? MAX(r->match_index, r->log.commit_index) : r->log.commit_index;
    size_t i;

    if (RAFT_MUTANT(RAFT_MUTANT_NO_PREV_CHECK) || RAFT_MUTANT(RAFT_MUTANT_STALE_TRUNCATE))
        return 0;
    if (!previous_matches(r, m))
        return m->index <= fixed ? -ERR_PROTO : 0;
    i = first_new_entry(r, m);
    if (i < m->entry_count && m->entries[i].index <= fixed)
        return -ERR_PROTO;
    return 0;
}

static void store_entries(struct raft *r, const struct raft_message *m)
{
    size_t i = first_new_entry(r, m);

    if (RAFT_MUTANT(RAFT_MUTANT_STALE_TRUNCATE)) {
        uint64_t end = m->index + m->entry_count;

        if (i == m->entry_count && end < raft_log_last(&r->log) && end >= r->log.commit_index)
            raft_truncate(r, end + 1);
    }
    if (i == m->entry_count)
        return;
    /* §5.3: an existing entry that conflicts with a new one goes, with all that follow it. */
    if (m->entries[i].index <= raft_log_last(&r->log))
        raft_truncate(r, m->entries[i].index);
    for (; i < m->entry_count; i++)
        raft_append(r, &m->entries[i]);
}

void raft_on_append(struct raft *r, const struct raft_message *m)
{
    uint64_t last = raft_log_last(&r->log), end;

    r->round_seen = MAX(r->round_seen, m->round);
    if (m->flag && !r->hard.fenced)
        raft_fence(r);
    if (RAFT_MUTANT(RAFT_MUTANT_NO_PREV_CHECK)) {
        if (m->index > last || (m->entry_count > 0 && m->index < r->log.commit_index))
            return;
    } else if (!previous_matches(r, m)) {
        refuse_append(r, m, m->index > last ? RAFT_NOTE_APPEND_GAP : RAFT_NOTE_APPEND_CONFLICT);
        return;
    }
    store_entries(r, m);
    end = m->index + m->entry_count;
    if (RAFT_MUTANT(RAFT_MUTANT_COMMIT_BEYOND))
        end = raft_log_last(&r->log);
    r->match_index = MAX(r->match_index, MIN(end, raft_log_last(&r->log)));
    raft_commit_to(r, MIN(m->commit, MIN(end, raft_log_last(&r->log))));
    r->ack_due = true;
}

void raft_on_heartbeat(struct raft *r, const struct raft_message *m)
{
    uint64_t known = MAX(r->match_index, r->log.commit_index);
    struct raft_message *reply;

    r->round_seen = MAX(r->round_seen, m->round);
    if (m->flag && !r->hard.fenced)
        raft_fence(r);
    if (RAFT_MUTANT(RAFT_MUTANT_COMMIT_BEYOND))
        known = raft_log_last(&r->log);
    raft_commit_to(r, MIN(m->commit, known));
    if (m->round != 0) {
        reply = raft_send_durable(r, RAFT_MSG_HEARTBEAT_REPLY, m->from);
        reply->index = ackable(r);
        reply->round = m->round;
        reply->hint_index = r->install_seq != 0 ? raft_log_last(&r->log) : r->log.durable_index;
    }
    raft_read_retry(r);
}

/* ---- proposals ------------------------------------------------------------------------------- */

static int propose_check(const struct raft *r, const struct raft_ev_propose *p)
{
    uint64_t bytes = 0;

    if (r->state != RAFT_LEADER)
        return -ERR_NOT_LEADER;
    if (p->term != r->hard.term && !RAFT_MUTANT(RAFT_MUTANT_STALE_PROPOSE))
        return -ERR_STALE;
    if (p->count == 0)
        return -ERR_INVALID;
    if (p->count > RAFT_PROPOSE_ENTRIES_MAX)
        return -ERR_TOO_BIG;
    for (size_t i = 0; i < p->count; i++) {
        struct raft_entry e = { .data = p->data[i] };

        bytes += raft_entry_bytes(&e);
    }
    if (bytes > r->options.uncommitted_bytes_max && p->count > 1)
        return -ERR_TOO_BIG;
    if (r->transfer_target != RAFT_NONE || raft_writes_full(r))
        return -ERR_BUSY;
    if (r->uncommitted_bytes > 0 && r->uncommitted_bytes + bytes > r->options.uncommitted_bytes_max)
        return -ERR_BUSY;
    return 0;
}

int raft_propose(struct raft *r, const struct raft_ev_propose *p)
{
    int rc = propose_check(r, p);

    if (rc < 0)
        return rc;
    r->first_index = raft_log_last(&r->log) + 1;
    for (size_t i = 0; i < p->count; i++) {
        struct raft_entry e = { .index = r->first_index + i,
                                .term = r->hard.term,
                                .type = RAFT_ENTRY_NORMAL,
                                .data = p->data[i] };

        raft_append(r, &e);
    }
    raft_broadcast_append(r); /* thesis §10.2.1: in parallel with our own disk */
    return 0;
}
