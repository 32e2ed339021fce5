/* Elections: PreVote, votes, stickiness, stepping down, leadership transfer, fencing. */
#include "common/assert.h"
#include "managerd/raft/internal.h"

/* Election timeouts without a leader after which even a non-voter campaigns. */
enum { LONELY_TIMEOUTS_MAX = 8 };

/* §5.2: randomised, so that split votes are rare and resolved quickly. */
void raft_reset_election_timer(struct raft *r)
{
    uint64_t election_ms = r->options.election_ms;

    r->election_at_ms = r->now_ms + election_ms + prng_below(&r->prng, election_ms);
}

static void leave_leadership(struct raft *r)
{
    for (uint32_t i = 0; i < r->progress_count; i++)
        raft_progress_deinit(&r->progress[i]);
    r->progress_count = 0;
    r->send_snapshot_count = 0;
    r->transfer_target = RAFT_NONE;
}

void raft_become_follower(struct raft *r, uint64_t term, uint64_t leader)
{
    bool new_term = term > r->hard.term;

    ASSERT(term >= r->hard.term);
    ASSERT(leader != r->options.raft_id);
    if (r->state == RAFT_LEADER)
        leave_leadership(r);
    /* Only a leader's word or a lost role restarts the timer: seeing a candidate must not. */
    if (leader != RAFT_NONE || r->state != RAFT_FOLLOWER)
        raft_reset_election_timer(r);
    if (leader != RAFT_NONE)
        r->lonely_timeouts = 0;
    if (new_term) {
        r->hard.term = term;
        r->hard.vote = RAFT_NONE;
        r->hard_dirty = true;
        r->held_count = 0; /* answers given in an older term help nobody */
    }
    if (r->state != RAFT_FOLLOWER || leader != r->leader || new_term) {
        raft_reads_fail(r);
        /* What is committed is the same everywhere; of the rest we know nothing under this leader.
         */
        r->match_index = r->log.commit_index;
        r->round_seen = 0;
        r->ack_sent = 0;
        r->ack_due = false;
        r->read_context_sent = 0;
    }
    r->state = RAFT_FOLLOWER;
    r->leader = leader;
    r->votes_granted = 0;
    r->votes_refused = 0;
}

/* Thesis §4.2.2: a voter that an uncommitted configuration leaves out may be the only one whose log
 * is long enough, and has to lead until that entry is committed. It does not count itself. */
static bool was_voter(const struct raft *r)
{
    const struct raft_member *self;
    struct raft_config c;

    if (r->config_index <= r->log.commit_index)
        return false;
    raft_config_at(r, MAX(r->log.commit_index, r->config_index - 1), &c);
    self = raft_config_find(&c, r->options.raft_id);
    return self != NULL && self->role == RAFT_VOTER && raft_is_self(r, self);
}

static bool may_campaign(const struct raft *r)
{
    return raft_config_voter_count(&r->config) > 0 && !r->hard.fenced && r->install_seq == 0 &&
           !r->install_dirty && !raft_writes_full(r) && r->hard.term < RAFT_TERM_MAX;
}

static void grant(struct raft *r, uint64_t raft_id, bool granted)
{
    int at = raft_position(r, raft_id);

    if (at < 0 || r->config.members[at].role != RAFT_VOTER)
        return;
    if (granted)
        r->votes_granted |= 1u << at;
    else
        r->votes_refused |= 1u << at;
    r->votes_refused &= ~r->votes_granted;
}

/* Nothing, if the configuration is without us, or counts another life of us. */
static void grant_self(struct raft *r)
{
    if (raft_is_voter(r))
        grant(r, r->options.raft_id, true);
}

static void become_leader(struct raft *r)
{
    struct raft_entry noop = { .index = raft_log_last(&r->log) + 1,
                               .term = r->hard.term,
                               .type = RAFT_ENTRY_NOOP };

    ASSERT(r->state == RAFT_CANDIDATE);
    ASSERT(r->hard.vote == r->options.raft_id);
    ASSERT(!r->hard.fenced);
    raft_reads_fail(r);
    if (RAFT_MUTANT(RAFT_MUTANT_LEADER_TRUNCATES) && noop.index - 1 > r->log.commit_index) {
        raft_truncate(r, r->log.commit_index + 1);
        noop.index = raft_log_last(&r->log) + 1;
    }
    r->state = RAFT_LEADER;
    r->leader = r->options.raft_id;
    r->round = 0;
    r->transfer_target = RAFT_NONE;
    r->progress_count = r->config.member_count;
    for (uint32_t i = 0; i < r->progress_count; i++) {
        struct raft_progress *p = &r->progress[i];

        raft_progress_init(p, r->config.members[i].raft_id, r->options.inflight_messages_max);
        raft_progress_reset(p, r->config.members[i].incarnation, noop.index);
        p->last_contact_ms = r->now_ms; /* a quorum has just voted: CheckQuorum starts here */
    }
    r->uncommitted_bytes = 0;
    for (uint64_t i = r->log.commit_index + 1; i < noop.index; i++)
        r->uncommitted_bytes += raft_entry_bytes(raft_log_at(&r->log, i));

    /* §5.4.2, §8: entries of older terms commit only below one of our own: make one at once. */
    r->term_first_index = noop.index;
    raft_append(r, &noop);
    raft_broadcast_append(r);
    raft_broadcast_heartbeat(r);
}

static void become_candidate(struct raft *r, bool transfer);

/* Counts the votes of the current pre-candidacy or candidacy. */
static void tally(struct raft *r)
{
    uint32_t voters = raft_config_voter_count(&r->config);
    enum raft_vote_result result =
        raft_quorum_vote((uint32_t)__builtin_popcount(r->votes_granted),
                         (uint32_t)__builtin_popcount(r->votes_refused), voters);

    if (result == RAFT_VOTE_LOST) {
        raft_become_follower(r, r->hard.term, RAFT_NONE);
    } else if (result == RAFT_VOTE_WON) {
        if (r->state == RAFT_PRE_CANDIDATE)
            become_candidate(r, false);
        else
            become_leader(r);
    }
}

static void ask_for_votes(struct raft *r, enum raft_message_type type, bool transfer)
{
    for (uint32_t i = 0; i < r->config.member_count; i++) {
        const struct raft_member *member = &r->config.members[i];
        struct raft_message *m;

        if (member->role != RAFT_VOTER || member->raft_id == r->options.raft_id)
            continue;
        /* A vote request promises that our log is what it says: the write it waits for comes after
         * every entry of it. A pre-vote promises nothing. */
        if (type == RAFT_MSG_VOTE && !RAFT_MUTANT(RAFT_MUTANT_SELF_VOTE_UNSYNCED))
            m = raft_send_durable(r, type, member->raft_id);
        else
            m = raft_send(r, type, member->raft_id);
        m->index = raft_log_last(&r->log);
        m->log_term = raft_log_last_term(&r->log);
        m->flag = transfer;
    }
}

static void become_pre_candidate(struct raft *r)
{
    raft_become_follower(r, r->hard.term, RAFT_NONE);
    raft_reset_election_timer(r);
    r->state = RAFT_PRE_CANDIDATE;
    grant_self(r);
    ask_for_votes(r, RAFT_MSG_PRE_VOTE, false);
    tally(r);
}

/* §5.2: increments its term, votes for itself, asks all others. */
static void become_candidate(struct raft *r, bool transfer)
{
    raft_become_follower(r, r->hard.term + 1, RAFT_NONE);
    raft_reset_election_timer(r);
    r->state = RAFT_CANDIDATE;
    r->hard.vote = r->options.raft_id;
    r->hard_dirty = true;
    r->self_voted = false;
    r->self_vote_seq = r->write_seq + 1; /* the write that step_finish makes of this */
    ask_for_votes(r, RAFT_MSG_VOTE, transfer);
    if (RAFT_MUTANT(RAFT_MUTANT_SELF_VOTE_UNSYNCED))
        raft_self_vote(r);
}

void raft_campaign(struct raft *r, bool transfer)
{
    ASSERT(may_campaign(r));
    if (transfer || RAFT_MUTANT(RAFT_MUTANT_NO_STICKINESS))
        become_candidate(r, transfer);
    else
        become_pre_candidate(r);
}

void raft_self_vote(struct raft *r)
{
    ASSERT(r->state == RAFT_CANDIDATE);
    ASSERT(r->hard.vote == r->options.raft_id);
    r->self_voted = true;
    grant_self(r);
    tally(r);
}

/* A learner or a removed member keeps out of elections, but not for ever: its log may be the one
 * that others, who still count it by a configuration that was never committed, have to wait for.
 * Leading, it does not count itself, and hands over as soon as the configuration is committed. */
static bool last_resort(struct raft *r)
{
    r->lonely_timeouts++;
    return r->lonely_timeouts > LONELY_TIMEOUTS_MAX;
}

void raft_election_timeout(struct raft *r)
{
    ASSERT(r->state != RAFT_LEADER);
    if (may_campaign(r) && (raft_is_voter(r) || was_voter(r) || last_resort(r))) {
        raft_campaign(r, false);
        return;
    }
    /* It cannot help itself, and only stops believing in the leader. */
    raft_become_follower(r, r->hard.term, RAFT_NONE);
    raft_reset_election_timer(r);
}

bool raft_leader_alive(const struct raft *r)
{
    uint64_t contact_ms;

    if (r->leader == RAFT_NONE || RAFT_MUTANT(RAFT_MUTANT_NO_STICKINESS))
        return false;
    contact_ms = r->state == RAFT_LEADER ? raft_quorum_contact_ms(r) : r->leader_contact_ms;
    return r->now_ms < contact_ms + r->options.election_ms;
}

/* A cloned member exists twice and campaigns twice, perhaps in one term: the vote is one life's.
 * Whose it was is not on the disk; after a start it is nobody's. */
static bool voted_for(const struct raft *r, const struct raft_message *m)
{
    return r->hard.vote == m->from && r->vote_incarnation == m->incarnation;
}

/* Decides one vote or pre-vote. Pure. §5.2 (one vote per term), §5.4.1 (up-to-date log), thesis
 * §9.6 (a pre-vote is what a vote in the next term would be). */
static enum raft_note vote_decide(const struct raft *r, const struct raft_message *m)
{
    bool pre = m->type == RAFT_MSG_PRE_VOTE;

    if (m->term < r->hard.term)
        return RAFT_NOTE_VOTE_TERM;
    if (r->hard.fenced && !RAFT_MUTANT(RAFT_MUTANT_FENCED_VOTES))
        return RAFT_NOTE_VOTE_FENCED;
    if (!pre && r->hard.vote != RAFT_NONE && !voted_for(r, m) &&
        !RAFT_MUTANT(RAFT_MUTANT_VOTE_TWICE))
        return RAFT_NOTE_VOTE_TAKEN;
    if (!raft_log_up_to_date(&r->log, m->index, m->log_term) &&
        !RAFT_MUTANT(RAFT_MUTANT_VOTE_NO_LOG_CHECK))
        return m->log_term < raft_log_last_term(&r->log) ? RAFT_NOTE_VOTE_LOG_TERM
                                                         : RAFT_NOTE_VOTE_LOG_SHORT;
    return RAFT_NOTE_VOTE_GRANTED;
}

/* m->term <= our term for VOTE: raft_step adopted a higher one. Learners answer too: a candidate
 * whose configuration is newer than ours may count us. */
void raft_on_vote(struct raft *r, const struct raft_message *m)
{
    bool pre = m->type == RAFT_MSG_PRE_VOTE;
    enum raft_note decision = vote_decide(r, m);
    bool granted = decision == RAFT_NOTE_VOTE_GRANTED;
    struct raft_message *reply;

    raft_note(r, decision, m->from);
    if (pre) {
        reply = raft_send(r, RAFT_MSG_PRE_VOTE_REPLY, m->from);
        reply->context = m->term;
        reply->reject = !granted;
        return;
    }
    if (granted && r->hard.vote != m->from) {
        r->hard.vote = m->from;
        r->vote_incarnation = m->incarnation;
        r->hard_dirty = true;
        raft_reset_election_timer(r); /* §5.2: granting a vote restarts the timer */
    }
    if (RAFT_MUTANT(RAFT_MUTANT_VOTE_UNSYNCED))
        reply = raft_send(r, RAFT_MSG_VOTE_REPLY, m->from);
    else
        reply = raft_send_durable(r, RAFT_MSG_VOTE_REPLY, m->from);
    reply->reject = !granted;
}

void raft_on_vote_reply(struct raft *r, const struct raft_message *m)
{
    const struct raft_member *member = raft_config_find(&r->config, m->from);

    if (m->type == RAFT_MSG_PRE_VOTE_REPLY) {
        if (r->state != RAFT_PRE_CANDIDATE || m->context != r->hard.term)
            return;
    } else if (r->state != RAFT_CANDIDATE || m->term != r->hard.term || !r->self_voted) {
        return; /* before our own vote is durable nobody has been asked */
    }
    if (member == NULL || member->incarnation != m->incarnation)
        return; /* not one of those we count */
    grant(r, m->from, !m->reject);
    tally(r);
}

/* ---- leadership transfer, thesis §3.10 ------------------------------------------------------- */

void raft_on_timeout_now(struct raft *r, const struct raft_message *m)
{
    if (m->from == r->leader && raft_is_voter(r) && may_campaign(r))
        raft_campaign(r, true);
}

void raft_transfer_progress(struct raft *r)
{
    int at = raft_position(r, r->transfer_target);
    const struct raft_progress *p = at < 0 ? NULL : &r->progress[at];

    ASSERT(r->state == RAFT_LEADER);
    if (r->transfer_target == RAFT_NONE || r->transfer_sent || p == NULL)
        return;
    if (p->match_index < raft_log_last(&r->log) && !RAFT_MUTANT(RAFT_MUTANT_TRANSFER_LAGGING))
        return;
    raft_send(r, RAFT_MSG_TIMEOUT_NOW, r->transfer_target);
    r->transfer_sent = true;
}

/* The active voter with the longest log. */
static uint64_t best_target(const struct raft *r)
{
    uint64_t best = RAFT_NONE, best_match = 0;

    for (uint32_t i = 0; i < r->config.member_count; i++) {
        const struct raft_member *member = &r->config.members[i];

        if (member->role != RAFT_VOTER || member->raft_id == r->options.raft_id ||
            !raft_active(r, i))
            continue;
        if (best == RAFT_NONE || r->progress[i].match_index > best_match) {
            best = member->raft_id;
            best_match = r->progress[i].match_index;
        }
    }
    return best;
}

int raft_transfer(struct raft *r, uint64_t target)
{
    int at;

    if (r->state != RAFT_LEADER)
        return -ERR_NOT_LEADER;
    if (r->transfer_target != RAFT_NONE)
        return -ERR_BUSY;
    if (target == RAFT_NONE) {
        target = best_target(r);
        if (target == RAFT_NONE)
            return -ERR_PRECONDITION;
    }
    if (target == r->options.raft_id)
        return -ERR_INVALID;
    at = raft_position(r, target);
    if (at < 0)
        return -ERR_NOT_FOUND;
    if (r->config.members[at].role != RAFT_VOTER)
        return -ERR_INVALID;
    if (!raft_active(r, (uint32_t)at))
        return -ERR_PRECONDITION;
    r->transfer_target = target;
    r->transfer_sent = false;
    r->transfer_deadline_ms = r->now_ms + r->options.election_ms;
    raft_send_append(r, &r->progress[at], false);
    raft_transfer_progress(r);
    return 0;
}

/* ---- fencing, see raft.h --------------------------------------------------------------------- */

void raft_fence(struct raft *r)
{
    if (r->state != RAFT_FOLLOWER)
        raft_become_follower(r, r->hard.term, RAFT_NONE);
    r->hard.incarnation = prng_next(&r->prng) | 1;
    r->hard.fenced = true;
    r->hard_dirty = true;
    r->held_count = 0; /* votes not yet sent must not be */
    raft_note(r, RAFT_NOTE_FENCED, RAFT_NONE);
}
