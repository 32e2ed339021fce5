/* Snapshots: §7. The shell moves the bytes; the core decides who needs one, whether a received one
 * replaces the log, and what may be forgotten. */
#include "common/assert.h"
#include "managerd/raft/internal.h"

/* ---- leader ---------------------------------------------------------------------------------- */

void raft_request_snapshot(struct raft *r, struct raft_progress *p)
{
    ASSERT(r->log.snapshot.index >= r->log.base_index || RAFT_MUTANT(RAFT_MUTANT_COMPACT_BEYOND));
    ASSERT(r->send_snapshot_count < RAFT_MEMBERS_MAX);
    raft_progress_send_snapshot(p, r->log.snapshot.index);
    r->send_snapshots[r->send_snapshot_count++] =
        (struct raft_send_snapshot){ .to = p->raft_id, .index = p->snapshot_index };
}

void raft_snapshot_sent(struct raft *r, const struct raft_ev_peer *peer, bool ok)
{
    int at = raft_position(r, peer->raft_id);
    struct raft_progress *p;

    if (r->state != RAFT_LEADER || at < 0)
        return;
    p = &r->progress[at];
    if (p->state != RAFT_SENDING_SNAPSHOT)
        return; /* it has caught up by other means */
    if (ok)
        raft_progress_probe(p, MAX(p->match_index, peer->snapshot_index) + 1);
    else
        raft_progress_probe(p, p->match_index + 1);
    /* Its answer, or a heartbeat's, says how to go on: it may still be installing, or be gone. */
    p->paused = true;
}

/* ---- follower -------------------------------------------------------------------------------- */

static void install(struct raft *r, const struct raft_snapshot_meta *s)
{
    struct raft_log *l = &r->log;

    raft_log_reset(l, s->index, s->term);
    for (uint32_t i = 0; i < r->write_count; i++) /* they are about a log that is gone */
        r->writes[(r->write_head + i) % RAFT_WRITES_MAX].last_index = 0;
    l->snapshot = *s;
    l->commit_index = s->index;
    r->match_index = s->index;
    r->install_dirty = true;
    raft_config_set(r, &s->config, s->index);
    raft_config_committed(r, &s->config);
}

void raft_on_snapshot(struct raft *r, const struct raft_message *m)
{
    const struct raft_snapshot_meta *s = m->snapshot;

    r->ack_due = true;
    if (s->index <= r->log.commit_index && !RAFT_MUTANT(RAFT_MUTANT_SNAPSHOT_OLDER)) {
        raft_note(r, RAFT_NOTE_SNAPSHOT_OLD, m->from);
        return;
    }
    if (raft_log_term(&r->log, s->index) == s->term && !RAFT_MUTANT(RAFT_MUTANT_SNAPSHOT_OLDER)) {
        /* §7: the log already holds the snapshot's last entry, so it is a prefix of the log, and
         * being snapshotted says that it is committed. */
        raft_note(r, RAFT_NOTE_SNAPSHOT_OLD, m->from);
        r->match_index = MAX(r->match_index, s->index);
        raft_commit_to(r, s->index);
        return;
    }
    install(r, s);
}

void raft_install_done(struct raft *r)
{
    struct raft_log *l = &r->log;

    ASSERT(r->install_seq != 0);
    ASSERT(l->durable_index >= l->snapshot.index);
    r->install_seq = 0;
    l->applied_index = l->snapshot.index;
    r->load_snapshot = l->snapshot.index;
}

/* ---- both ------------------------------------------------------------------------------------ */

/* §7, with a tail kept: a slow follower that is a little behind is served from the log, and so is
 * one that will have installed the snapshot it is being sent. */
void raft_snapshot_taken(struct raft *r, uint64_t index)
{
    struct raft_log *l = &r->log;
    uint64_t keep_from = index > r->options.tail_entries ? index - r->options.tail_entries : 0;

    if (index <= l->snapshot.index || index > l->applied_index || r->install_seq != 0)
        return; /* overtaken by a snapshot from the leader */
    l->snapshot.term = raft_log_term(l, index);
    raft_config_at(r, index, &l->snapshot.config);
    l->snapshot.index = index;
    l->durable_index = MAX(l->durable_index, index); /* the snapshot is */
    if (RAFT_MUTANT(RAFT_MUTANT_COMPACT_BEYOND))
        keep_from = l->applied_index;
    for (uint32_t i = 0; i < r->progress_count; i++) {
        if (r->progress[i].state == RAFT_SENDING_SNAPSHOT)
            keep_from = MIN(keep_from, r->progress[i].snapshot_index);
    }
    if (keep_from <= l->base_index)
        return;
    raft_log_compact(l, keep_from);
    r->compact_index = keep_from;
}
