/* Looking inside without touching: what the manager shows, and what tests assert. */
#include "common/assert.h"
#include "managerd/raft/internal.h"

void raft_status(const struct raft *r, struct raft_status *ret_status)
{
    const struct raft_log *l = &r->log;

    *ret_status = (struct raft_status){
        .raft_id = r->options.raft_id,
        .leader = r->leader,
        .term = r->hard.term,
        .vote = r->hard.vote,
        .incarnation = r->hard.incarnation,
        .state = r->state,
        .fenced = r->hard.fenced,
        .established = r->state == RAFT_LEADER && l->applied_index >= r->term_first_index,
        .first_index = l->base_index + 1,
        .last_index = raft_log_last(l),
        .durable_index = l->durable_index,
        .commit_index = l->commit_index,
        .applied_index = l->applied_index,
        .snapshot_index = l->snapshot.index,
        .config_index = r->config_index,
        .uncommitted_bytes = r->state == RAFT_LEADER ? r->uncommitted_bytes : 0,
        .transfer_target = r->state == RAFT_LEADER ? r->transfer_target : RAFT_NONE,
        .messages_dropped = r->dropped_count,
    };
}

const struct raft_config *raft_config(const struct raft *r)
{
    return &r->config;
}

uint64_t raft_term_at(const struct raft *r, uint64_t index)
{
    return raft_log_term(&r->log, index);
}

size_t raft_peers(const struct raft *r, struct raft_peer_status *ret_peers)
{
    size_t count = 0;

    if (r->state != RAFT_LEADER)
        return 0;
    for (uint32_t i = 0; i < r->progress_count; i++) {
        const struct raft_progress *p = &r->progress[i];

        if (p->raft_id == r->options.raft_id)
            continue;
        ret_peers[count++] = (struct raft_peer_status){
            .raft_id = p->raft_id,
            .role = r->config.members[i].role,
            .state = p->state,
            .counted = raft_counts(r, i),
            .incarnation = p->incarnation,
            .match_index = p->match_index,
            .next_index = p->next_index,
            .last_contact_ms = p->contacted ? p->last_contact_ms : 0,
            .snapshot_index = p->snapshot_index,
            .inflight_messages = p->inflight_count,
            .inflight_bytes = p->inflight_bytes,
        };
    }
    return count;
}

bool raft_has_quorum(const struct raft *r, uint64_t now_ms)
{
    uint64_t contact_ms;

    if (r->leader == RAFT_NONE)
        return false;
    contact_ms = r->state == RAFT_LEADER ? raft_quorum_contact_ms(r) : r->leader_contact_ms;
    return now_ms < contact_ms + r->options.election_ms;
}

/* ---- invariants ------------------------------------------------------------------------------ */

#define HOLDS(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            return #x;                                                                             \
    } while (0)

static const char *log_invariants(const struct raft *r, bool deep)
{
    const struct raft_log *l = &r->log;
    uint64_t last = raft_log_last(l), term = l->base_term;

    HOLDS(l->base_index <= l->snapshot.index);
    HOLDS(l->snapshot.index <= l->commit_index);
    HOLDS(l->applied_index <= l->commit_index);
    HOLDS(l->commit_index <= last);
    HOLDS(l->durable_index <= last);
    HOLDS(raft_log_last_term(l) <= r->hard.term);
    HOLDS(r->config_index <= last);
    HOLDS(l->start + l->count <= l->capacity);
    for (uint64_t i = l->base_index + 1; deep && i <= last; i++) {
        const struct raft_entry *e = raft_log_at(l, i);

        HOLDS(e->index == i);
        HOLDS(e->term >= term);
        HOLDS(e->data == NULL || e->data->references > 0);
        HOLDS(e->type != RAFT_ENTRY_CONFIG || i <= r->config_index);
        term = e->term;
    }
    return NULL;
}

static const char *write_invariants(const struct raft *r)
{
    uint64_t seq = r->durable_seq;

    HOLDS(r->durable_seq <= r->write_seq);
    HOLDS(r->hard_seq <= r->write_seq);
    HOLDS(r->install_seq == 0 || r->install_seq > r->durable_seq);
    for (uint32_t i = 0; i < r->write_count; i++) {
        const struct raft_write *w = &r->writes[(r->write_head + i) % RAFT_WRITES_MAX];

        HOLDS(w->seq > seq);
        HOLDS(w->last_index <= raft_log_last(&r->log));
        seq = w->seq;
    }
    HOLDS(seq == r->write_seq);
    for (uint32_t i = 0; i < r->held_count; i++) {
        HOLDS(r->held[i].seq > r->durable_seq);
        HOLDS(r->held[i].message.term == r->hard.term);
        HOLDS(r->held[i].message.incarnation == r->hard.incarnation);
    }
    return NULL;
}

static const char *progress_invariants(const struct raft *r, const struct raft_progress *p)
{
    uint64_t bytes = 0;

    HOLDS(p->match_index <= raft_log_last(&r->log));
    HOLDS(p->next_index > p->match_index);
    HOLDS(p->next_index <= raft_log_last(&r->log) + 1);
    HOLDS(p->round_acked <= r->round);
    HOLDS((p->state == RAFT_SENDING_SNAPSHOT) == (p->snapshot_index != 0));
    HOLDS(p->inflight_count == 0 || p->state == RAFT_REPLICATE);
    HOLDS(p->inflight_count <= p->inflight_capacity);
    for (uint32_t i = 0; i < p->inflight_count; i++)
        bytes += p->inflight[(p->inflight_head + i) % p->inflight_capacity].bytes;
    HOLDS(bytes == p->inflight_bytes);
    /* R17: a limit may be passed by the message that reaches it, not by another one. */
    HOLDS(bytes <=
          r->options.inflight_bytes_max + r->options.message_bytes_max + RAFT_ENTRY_BYTES_MAX);
    return NULL;
}

static const char *leader_invariants(const struct raft *r, bool deep)
{
    uint64_t bytes = 0;

    HOLDS(r->leader == r->options.raft_id);
    HOLDS(r->hard.vote == r->options.raft_id);
    HOLDS(r->durable_seq >= r->self_vote_seq);
    HOLDS(r->progress_count == r->config.member_count);
    HOLDS(r->term_first_index > 0);
    HOLDS(raft_log_last_term(&r->log) == r->hard.term);
    HOLDS(!r->hard_dirty); /* a leader's term does not change while it leads */
    for (uint32_t i = 0; i < r->progress_count; i++) {
        const char *broken = progress_invariants(r, &r->progress[i]);

        if (broken != NULL)
            return broken;
        HOLDS(r->progress[i].raft_id == r->config.members[i].raft_id);
    }
    for (uint64_t i = r->log.commit_index + 1; deep && i <= raft_log_last(&r->log); i++)
        bytes += raft_entry_bytes(raft_log_at(&r->log, i));
    HOLDS(!deep || bytes == r->uncommitted_bytes);
    return NULL;
}

const char *raft_invariants(const struct raft *r, bool deep)
{
    const char *broken = log_invariants(r, deep);

    if (broken == NULL)
        broken = write_invariants(r);
    if (broken != NULL)
        return broken;
    HOLDS(r->hard.vote == RAFT_NONE || r->hard.term > 0);
    HOLDS(r->read_count <= RAFT_READS_MAX);
    HOLDS(!r->hard.fenced || r->state == RAFT_FOLLOWER || RAFT_MUTANT(RAFT_MUTANT_FENCED_VOTES));
    switch (r->state) {
    case RAFT_FOLLOWER:
        HOLDS(r->progress_count == 0);
        HOLDS(r->leader != r->options.raft_id);
        HOLDS(r->match_index <= raft_log_last(&r->log));
        return NULL;
    case RAFT_PRE_CANDIDATE:
    case RAFT_CANDIDATE:
        HOLDS(r->leader == RAFT_NONE);
        HOLDS(r->progress_count == 0);
        HOLDS(r->read_count == 0);
        return NULL;
    case RAFT_LEADER:
        return leader_invariants(r, deep);
    }
    UNREACHABLE();
}
