/* The one entrance: checks an event, hands it to its handler, turns what the handler recorded into
 * effects. Also the bookkeeping of writes and of messages that wait for them. */
#include <string.h>

#include "common/assert.h"
#include "managerd/raft/codec.h"
#include "managerd/raft/internal.h"

/* ---- life ------------------------------------------------------------------------------------ */

struct raft *raft_new(const struct raft_options *o)
{
    struct raft *r;

    ASSERT(o->raft_id != RAFT_NONE);
    ASSERT(o->heartbeat_ms > 0);
    ASSERT(o->election_ms >= 2 * o->heartbeat_ms);
    ASSERT(o->inflight_messages_max > 0);
    ASSERT(o->inflight_messages_max <= RAFT_INFLIGHT_MESSAGES_MAX);
    ASSERT(o->message_bytes_max <= RAFT_MESSAGE_BYTES_MAX / 2);
    r = xcalloc(1, sizeof(*r));
    r->options = *o;
    prng_init(&r->prng, o->seed);
    /* Answers to questions of an earlier life must not fit ours. */
    r->read_context = prng_next(&r->prng) / 2 + 1;
    return r;
}

void raft_free(struct raft *r)
{
    if (r == NULL)
        return;
    for (uint32_t i = 0; i < r->progress_count; i++)
        raft_progress_deinit(&r->progress[i]);
    raft_log_deinit(&r->log);
    free(r->reads);
    free(r->reads_done);
    free(r->out);
    free(r);
}

void raft_bootstrap(const struct raft_member *founder, struct raft_entry *ret_entry,
                    struct raft_hard_state *ret_hard_state)
{
    CLEANUP_BUF struct buf packed = BUF_INIT(RAFT_ENTRY_BYTES_MAX);
    struct raft_config c = { .member_count = 1, .members = { *founder } };
    int rc;

    ASSERT(founder->role == RAFT_VOTER);
    rc = raft_config_pack(&c, &packed);
    ASSERT(rc == 0);
    *ret_entry = (struct raft_entry){ .index = 1,
                                      .term = 1,
                                      .type = RAFT_ENTRY_CONFIG,
                                      .data = raft_data_new(packed.data, packed.size) };
    *ret_hard_state = (struct raft_hard_state){ .term = 1, .incarnation = founder->incarnation };
}

/* ---- recording consequences ------------------------------------------------------------------ */

void raft_note(struct raft *r, enum raft_note note, uint64_t peer)
{
    if (r->note != RAFT_NOTE_NONE)
        return; /* the cause, not what followed from it */
    r->note = note;
    r->note_peer = peer;
}

static void fill_header(const struct raft *r, struct raft_message *m, enum raft_message_type type,
                        uint64_t to)
{
    ASSERT(to != RAFT_NONE);
    ASSERT(to != r->options.raft_id);
    *m = (struct raft_message){ .type = type,
                                .from = r->options.raft_id,
                                .to = to,
                                .term = r->hard.term,
                                .generation = r->options.generation,
                                .incarnation = r->hard.incarnation };
}

struct raft_message *raft_send(struct raft *r, enum raft_message_type type, uint64_t to)
{
    if (r->out_count == r->out_capacity) {
        r->out_capacity = MAX((size_t)16, r->out_capacity * 2);
        r->out = xrealloc_array(r->out, r->out_capacity, sizeof(*r->out));
    }
    fill_header(r, &r->out[r->out_count], type, to);
    return &r->out[r->out_count++];
}

struct raft_message *raft_send_durable(struct raft *r, enum raft_message_type type, uint64_t to)
{
    struct raft_held *held;

    if (r->held_count == RAFT_HELD_MAX) {
        r->dropped_count++;
        fill_header(r, &r->scratch, type, to);
        return &r->scratch;
    }
    held = &r->held[r->held_count++];
    held->seq = 0;
    fill_header(r, &held->message, type, to);
    return &held->message;
}

bool raft_writes_full(const struct raft *r)
{
    return r->write_count >= RAFT_WRITES_MAX - 1;
}

void raft_append(struct raft *r, const struct raft_entry *e)
{
    struct raft_config c;

    raft_log_append(&r->log, e);
    if (r->append_from == 0)
        r->append_from = e->index;
    if (r->state == RAFT_LEADER)
        r->uncommitted_bytes += raft_entry_bytes(e);
    if (e->type != RAFT_ENTRY_CONFIG)
        return;
    raft_config_of(e, &c);
    if (RAFT_MUTANT(RAFT_MUTANT_UNFENCE_EARLY))
        raft_config_committed(r, &c);
    if (!RAFT_MUTANT(RAFT_MUTANT_CONFIG_AT_COMMIT) || r->state != RAFT_LEADER)
        raft_config_set(r, &c, e->index);
}

void raft_truncate(struct raft *r, uint64_t index)
{
    ASSERT(r->append_from == 0); /* one range per write */
    raft_log_truncate(&r->log, index);
    /* Writes under way are about entries that may be gone: what they make durable is less now, and
     * an entry that later takes the same index needs its own write (no ABA). */
    for (uint32_t i = 0; i < r->write_count; i++) {
        struct raft_write *w = &r->writes[(r->write_head + i) % RAFT_WRITES_MAX];

        if (!RAFT_MUTANT(RAFT_MUTANT_TRUNCATE_ABA))
            w->last_index = MIN(w->last_index, index - 1);
    }
    raft_config_revert(r);
}

void raft_commit_to(struct raft *r, uint64_t index)
{
    uint64_t first = r->log.commit_index + 1;
    struct raft_config c;

    if (index < first)
        return;
    ASSERT(index <= raft_log_last(&r->log));
    r->log.commit_index = index;
    if (r->state != RAFT_LEADER && !r->hard.fenced)
        return;
    for (uint64_t i = first; i <= index; i++) {
        const struct raft_entry *e = raft_log_at(&r->log, i);

        if (r->state == RAFT_LEADER)
            r->uncommitted_bytes -= raft_entry_bytes(e);
        if (e->type != RAFT_ENTRY_CONFIG)
            continue;
        raft_config_of(e, &c);
        raft_config_committed(r, &c);
        if (RAFT_MUTANT(RAFT_MUTANT_CONFIG_AT_COMMIT) && i > r->config_index)
            raft_config_set(r, &c, i);
    }
    if (r->state == RAFT_LEADER)
        raft_leader_committed(r);
}

/* ---- START ----------------------------------------------------------------------------------- */

static int start_check(const struct raft_ev_start *s)
{
    uint64_t snapshot_index = s->snapshot != NULL ? s->snapshot->index : 0;
    uint64_t term = 0;

    if (s->snapshot != NULL && (snapshot_index == 0 || s->snapshot->term == 0 ||
                                raft_config_check(&s->snapshot->config, NULL) < 0))
        return -ERR_CORRUPT;
    for (size_t i = 0; i < s->entry_count; i++) {
        const struct raft_entry *e = &s->entries[i];
        struct raft_config c;

        if (e->index != s->entries[0].index + i || e->term < term || e->term == 0)
            return -ERR_CORRUPT;
        if (e->type == RAFT_ENTRY_CONFIG &&
            (e->data == NULL || raft_config_unpack(e->data->bytes, e->data->size, &c, NULL) < 0))
            return -ERR_CORRUPT;
        term = e->term;
    }
    if (s->entry_count > 0 &&
        (s->entries[0].index == 0 || s->entries[0].index > snapshot_index + 1))
        return -ERR_CORRUPT; /* a hole between snapshot and log */
    if (s->hard_state.term < term)
        return -ERR_CORRUPT; /* an entry of a term never entered */
    if (s->hard_state.term > RAFT_TERM_MAX)
        return -ERR_CORRUPT;
    return 0;
}

/* Snapshots of our own state are not written in the order of the log: one may be durable while the
 * writes of the entries it covers, and of their term, were lost. What is stored then ends before
 * the snapshot or holds entries that were replaced. §7: if the log lacks the snapshot's last entry
 * it is of no use, none of it beyond the snapshot was ever committed. */
static bool log_useless(const struct raft_ev_start *s)
{
    const struct raft_entry *first = s->entries;

    if (s->snapshot == NULL || s->entry_count == 0)
        return false;
    if (first->index > s->snapshot->index) /* follows it */
        return false;
    if (first[s->entry_count - 1].index < s->snapshot->index)
        return true;
    return first[s->snapshot->index - first->index].term != s->snapshot->term;
}

static void load_log(struct raft *r, const struct raft_ev_start *s)
{
    struct raft_log *l = &r->log;
    const struct raft_entry *e = s->entries;
    size_t i = 0;

    if (s->snapshot != NULL)
        l->snapshot = *s->snapshot;
    r->drop_dirty = log_useless(s);
    if (r->hard.term < l->snapshot.term) {
        r->hard.term = l->snapshot.term;
        r->hard.vote = RAFT_NONE; /* a vote is sent after it is durable: none was */
        r->hard_dirty = true;
    }
    if (s->entry_count == 0 || r->drop_dirty) {
        raft_log_reset(l, l->snapshot.index, l->snapshot.term);
        i = s->entry_count;
    } else if (e[0].index == 1) {
        raft_log_reset(l, 0, 0);
    } else if (e[0].index == l->snapshot.index + 1) {
        raft_log_reset(l, l->snapshot.index, l->snapshot.term);
    } else { /* the term before the first entry is not stored: that entry becomes the base */
        raft_log_reset(l, e[0].index, e[0].term);
        i = 1;
    }
    for (; i < s->entry_count; i++)
        raft_log_append(l, &e[i]);
    l->durable_index = raft_log_last(l);
    l->commit_index = l->snapshot.index; /* the rest is learned from a leader, or by being one */
    l->applied_index = l->snapshot.index;
    if (RAFT_MUTANT(RAFT_MUTANT_APPLY_TWICE) && l->snapshot.index > l->base_index)
        l->applied_index--;
}

static int step_start(struct raft *r, const struct raft_ev_start *s)
{
    int rc = start_check(s);

    ASSERT(!r->started);
    if (rc < 0)
        return rc;
    r->started = true;
    r->hard = s->hard_state;
    load_log(r, s);
    r->config = r->log.snapshot.config;
    r->config_index = r->log.snapshot.index;
    for (uint64_t i = raft_log_last(&r->log); i > r->log.snapshot.index; i--) {
        if (raft_log_at(&r->log, i)->type == RAFT_ENTRY_CONFIG) {
            raft_config_of(raft_log_at(&r->log, i), &r->config);
            r->config_index = i;
            break;
        }
    }
    r->config_changed = true;
    r->match_index = r->log.commit_index;
    raft_reset_election_timer(r);
    if (s->log_may_have_gone_back)
        raft_fence(r);
    else if (raft_is_voter(r) && raft_config_voter_count(&r->config) == 1)
        r->election_at_ms = r->now_ms; /* nobody to wait for */
    return 0;
}

/* ---- RECEIVE --------------------------------------------------------------------------------- */

static bool from_leader(enum raft_message_type type)
{
    return type == RAFT_MSG_APPEND || type == RAFT_MSG_HEARTBEAT || type == RAFT_MSG_SNAPSHOT;
}

static bool is_reply(enum raft_message_type type)
{
    return type == RAFT_MSG_PRE_VOTE_REPLY || type == RAFT_MSG_VOTE_REPLY ||
           type == RAFT_MSG_APPEND_REPLY || type == RAFT_MSG_HEARTBEAT_REPLY ||
           type == RAFT_MSG_READ_REPLY;
}

/* Everything that could be wrong with a message, before it changes anything. */
static int receive_check(const struct raft *r, const struct raft_message *m)
{
    int rc = raft_message_check(m, NULL);

    if (rc < 0)
        return rc;
    if (m->to != r->options.raft_id || m->generation != r->options.generation)
        return -ERR_STALE;
    if (m->from == r->options.raft_id)
        return -ERR_PROTO;
    if (m->term < r->hard.term)
        return 0; /* only its term will be looked at */
    if (from_leader(m->type) && m->term == r->hard.term && r->leader != RAFT_NONE &&
        r->leader != m->from)
        return -ERR_PROTO; /* §5.2: two leaders in one term */
    if (m->type == RAFT_MSG_APPEND)
        return raft_check_append(r, m);
    if ((m->type == RAFT_MSG_APPEND_REPLY || m->type == RAFT_MSG_HEARTBEAT_REPLY) &&
        r->state == RAFT_LEADER && m->term == r->hard.term &&
        (m->index > raft_log_last(&r->log) || m->round > r->round))
        return -ERR_PROTO; /* acknowledges what we never had, answers what we never asked */
    return 0;
}

/* Answers that let a sender of an older term catch up; everything else of it is ignored. */
static void receive_old_term(struct raft *r, const struct raft_message *m)
{
    struct raft_message *reply;

    if (m->type == RAFT_MSG_PRE_VOTE || m->type == RAFT_MSG_VOTE) {
        raft_on_vote(r, m);
        return;
    }
    raft_note(r, RAFT_NOTE_OLD_TERM, m->from);
    if (!from_leader(m->type))
        return;
    /* §5.1: a stale leader learns of the new term and steps down. */
    reply = raft_send_durable(r, RAFT_MSG_APPEND_REPLY, m->from);
    reply->reject = true;
}

static void dispatch(struct raft *r, const struct raft_message *m)
{
    switch (m->type) {
    case RAFT_MSG_PRE_VOTE:
    case RAFT_MSG_VOTE:
        raft_on_vote(r, m);
        break;
    case RAFT_MSG_PRE_VOTE_REPLY:
    case RAFT_MSG_VOTE_REPLY:
        raft_on_vote_reply(r, m);
        break;
    case RAFT_MSG_APPEND:
        raft_on_append(r, m);
        break;
    case RAFT_MSG_APPEND_REPLY:
        raft_on_append_reply(r, m);
        break;
    case RAFT_MSG_HEARTBEAT:
        raft_on_heartbeat(r, m);
        break;
    case RAFT_MSG_HEARTBEAT_REPLY:
        raft_on_heartbeat_reply(r, m);
        break;
    case RAFT_MSG_SNAPSHOT:
        raft_on_snapshot(r, m);
        break;
    case RAFT_MSG_TIMEOUT_NOW:
        raft_on_timeout_now(r, m);
        break;
    case RAFT_MSG_READ:
        raft_on_read(r, m);
        break;
    case RAFT_MSG_READ_REPLY:
        raft_on_read_reply(r, m);
        break;
    }
}

static int step_receive(struct raft *r, const struct raft_message *m)
{
    bool asks = m->type == RAFT_MSG_PRE_VOTE || m->type == RAFT_MSG_VOTE;
    int rc = receive_check(r, m);

    if (rc < 0)
        return rc;
    if (raft_writes_full(r)) { /* a disk that does not keep up looks like a lossy network */
        r->dropped_count++;
        raft_note(r, RAFT_NOTE_OVERLOADED, m->from);
        return 0;
    }
    /* Thesis §4.2.3, §9.6: while a leader lives, whoever wants an election is not even heard. */
    if (asks && !m->flag && (m->term > r->hard.term || m->type == RAFT_MSG_PRE_VOTE) &&
        raft_leader_alive(r)) {
        raft_note(r, RAFT_NOTE_VOTE_STICKY, m->from);
        return 0;
    }
    /* A pre-vote changes no term: one granted by a member that is behind is still good. */
    if (m->term < r->hard.term && m->type != RAFT_MSG_PRE_VOTE_REPLY) {
        receive_old_term(r, m);
        return 0;
    }
    if (m->term > r->hard.term && m->type != RAFT_MSG_PRE_VOTE) {
        if (RAFT_MUTANT(RAFT_MUTANT_IGNORE_REPLY_TERM) && is_reply(m->type))
            return 0;
        if (r->state == RAFT_LEADER)
            raft_note(r, RAFT_NOTE_STEP_DOWN_TERM, m->from);
        raft_become_follower(r, m->term, RAFT_NONE); /* §5.1 */
    }
    if (from_leader(m->type)) {
        raft_become_follower(r, m->term, m->from);
        r->leader_contact_ms = r->now_ms;
    }
    dispatch(r, m);
    return 0;
}

/* ---- other events ---------------------------------------------------------------------------- */

static void step_persisted(struct raft *r, uint64_t seq)
{
    ASSERT(seq <= r->write_seq);
    if (seq <= r->durable_seq)
        return;
    r->durable_seq = seq;
    while (r->write_count > 0 && r->writes[r->write_head].seq <= seq) {
        uint64_t last_index = r->writes[r->write_head].last_index;

        r->log.durable_index = MAX(r->log.durable_index, last_index);
        if (RAFT_MUTANT(RAFT_MUTANT_TRUNCATE_ABA))
            r->log.durable_index = MIN(r->log.durable_index, raft_log_last(&r->log));
        r->write_head = (r->write_head + 1) % RAFT_WRITES_MAX;
        r->write_count--;
    }
    if (r->install_seq != 0 && r->install_seq <= seq)
        raft_install_done(r);
    if (r->state == RAFT_CANDIDATE && r->self_vote_seq <= seq && !r->self_voted)
        raft_self_vote(r);
    if (r->state == RAFT_LEADER) {
        raft_leader_commit(r);
        raft_reads_advance(r);
    }
}

static void step_timeout(struct raft *r)
{
    raft_reads_timeout(r);
    if (r->state == RAFT_LEADER)
        raft_leader_timeout(r);
    else if (r->now_ms >= r->election_at_ms)
        raft_election_timeout(r);
}

static void step_unreachable(struct raft *r, const struct raft_ev_peer *peer)
{
    int at = raft_position(r, peer->raft_id);

    if (r->state == RAFT_LEADER && at >= 0 && r->progress[at].state == RAFT_REPLICATE) {
        raft_progress_probe(&r->progress[at], r->progress[at].match_index + 1);
        r->progress[at].paused = true; /* until a heartbeat gets through */
    }
}

static int step_dispatch(struct raft *r, const struct raft_event *ev)
{
    switch (ev->type) {
    case RAFT_EV_START:
        return step_start(r, &ev->start);
    case RAFT_EV_TIMEOUT:
        step_timeout(r);
        return 0;
    case RAFT_EV_RECEIVE:
        return step_receive(r, ev->message);
    case RAFT_EV_PERSISTED:
        step_persisted(r, ev->persisted_seq);
        return 0;
    case RAFT_EV_SNAPSHOT_TAKEN:
        raft_snapshot_taken(r, ev->snapshot_index);
        return 0;
    case RAFT_EV_SNAPSHOT_SENT:
        raft_snapshot_sent(r, &ev->peer, true);
        return 0;
    case RAFT_EV_SNAPSHOT_FAILED:
        raft_snapshot_sent(r, &ev->peer, false);
        return 0;
    case RAFT_EV_UNREACHABLE:
        step_unreachable(r, &ev->peer);
        return 0;
    case RAFT_EV_PROPOSE:
        return raft_propose(r, &ev->propose);
    case RAFT_EV_CONFIG_CHANGE:
        return raft_config_change(r, &ev->change);
    case RAFT_EV_READ_INDEX:
        return raft_read_index(r, ev->read_id);
    case RAFT_EV_TRANSFER:
        return raft_transfer(r, ev->target);
    }
    UNREACHABLE();
}

/* ---- effects --------------------------------------------------------------------------------- */

static void step_begin(struct raft *r)
{
    r->hard_dirty = false;
    r->install_dirty = false;
    r->drop_dirty = false;
    r->append_from = 0;
    r->out_count = 0;
    r->send_snapshot_count = 0;
    r->reads_done_count = 0;
    r->load_snapshot = 0;
    r->first_index = 0;
    r->compact_index = 0;
    r->config_changed = false;
    r->note = RAFT_NOTE_NONE;
    r->note_peer = RAFT_NONE;
}

static void finish_write(struct raft *r, struct raft_effects *fx)
{
    uint64_t last = raft_log_last(&r->log);
    struct raft_write *w;

    fx->hard_state = r->hard;
    if (!r->hard_dirty && !r->install_dirty && !r->drop_dirty && r->append_from == 0)
        return;
    ASSERT(r->write_count < RAFT_WRITES_MAX);
    w = &r->writes[(r->write_head + r->write_count++) % RAFT_WRITES_MAX];
    w->seq = ++r->write_seq;
    w->last_index = r->append_from != 0 ? last : 0;
    fx->write_seq = w->seq;
    fx->drop_log = r->drop_dirty || r->install_dirty;
    if (r->hard_dirty) {
        fx->hard_state_changed = true;
        r->hard_seq = w->seq;
    }
    if (r->install_dirty) {
        ASSERT(r->append_from == 0);
        w->last_index = r->log.snapshot.index;
        fx->install = &r->log.snapshot;
        r->install_seq = w->seq;
    }
    if (r->append_from != 0) {
        fx->append = raft_log_at(&r->log, r->append_from);
        fx->append_count = (size_t)(last - r->append_from + 1);
    }
}

/* Moves held messages out whose write is durable. A message of this step waits for the last write
 * with hard state: it speaks in the name of the current term and vote. */
static void finish_held(struct raft *r)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < r->held_count; i++) {
        struct raft_held *held = &r->held[i];

        if (held->seq == 0)
            held->seq = r->hard_seq;
        if (held->seq <= r->durable_seq)
            *raft_send(r, held->message.type, held->message.to) = held->message;
        else
            r->held[kept++] = *held;
    }
    r->held_count = kept;
}

static void finish_apply(struct raft *r, struct raft_effects *fx)
{
    struct raft_log *l = &r->log;
    uint64_t first = l->applied_index + 1, end;

    if (r->install_seq != 0 || r->install_dirty || l->commit_index < first)
        return;
    end = MIN(l->commit_index, l->applied_index + RAFT_APPLY_ENTRIES_MAX);
    fx->apply = raft_log_at(l, first);
    fx->apply_count = (size_t)(end - l->applied_index);
    l->applied_index = end;
}

static uint64_t next_timer(const struct raft *r)
{
    uint64_t at = r->state == RAFT_LEADER ? r->heartbeat_at_ms : r->election_at_ms;

    if (r->install_seq == 0 && r->log.applied_index < r->log.commit_index)
        return r->now_ms; /* more to apply */
    if (r->state == RAFT_LEADER) {
        at = MIN(at, raft_quorum_contact_ms(r) + r->options.election_ms);
        if (r->transfer_target != RAFT_NONE)
            at = MIN(at, r->transfer_deadline_ms);
    }
    at = MIN(at, raft_reads_deadline(r));
    return MAX(at, r->now_ms);
}

static void finish_messages(struct raft *r, struct raft_effects *fx)
{
    for (size_t i = 0; i < r->out_count; i++) {
        struct raft_message *m = &r->out[i];

        /* The log does not move any more; it may have been compacted or cut since, not by leaders.
         */
        if (m->type == RAFT_MSG_APPEND && m->entry_count > 0)
            m->entries = raft_log_at(&r->log, m->index + 1);
    }
    fx->messages = r->out;
    fx->message_count = r->out_count;
    fx->send_snapshots = r->send_snapshots;
    fx->send_snapshot_count = r->send_snapshot_count;
}

static void step_finish(struct raft *r, struct raft_effects *fx)
{
    *fx = (struct raft_effects){ 0 };
    if (!r->started)
        return;
    raft_send_ack(r);
    finish_apply(r, fx);
    raft_reads_finish(r);
    finish_write(r, fx);
    finish_held(r);
    finish_messages(r, fx);
    fx->load_snapshot = r->load_snapshot;
    fx->reads = r->reads_done;
    fx->read_count = r->reads_done_count;
    fx->state = r->state;
    fx->leader = r->leader;
    fx->term = r->hard.term;
    fx->leader_changed = r->state != r->reported_state || r->leader != r->reported_leader ||
                         r->hard.term != r->reported_term;
    r->reported_state = r->state;
    r->reported_leader = r->leader;
    r->reported_term = r->hard.term;
    fx->config_changed = r->config_changed;
    fx->first_index = r->first_index;
    fx->note = r->note;
    fx->note_peer = r->note_peer;
    fx->compact_index = r->compact_index;
    fx->timer_at_ms = next_timer(r);
}

int raft_step(struct raft *r, const struct raft_event *ev, struct raft_effects *fx)
{
    int rc;

    ASSERT(r->started || ev->type == RAFT_EV_START);
    ASSERT(ev->now_ms >= r->now_ms);
    r->now_ms = ev->now_ms;
    step_begin(r);
    rc = step_dispatch(r, ev);
    step_finish(r, fx);
    return rc;
}
