/* Membership: single-server changes (thesis §4). A configuration is in effect from the moment it is
 * in the log, committed or not; a truncation takes it out of effect again. Guard of July 2015: no
 * change before an entry of the leader's own term is committed, for otherwise two leaders could
 * commit changes that were made of different parents and share no quorum. */
#include <string.h>

#include "common/assert.h"
#include "managerd/raft/codec.h"
#include "managerd/raft/internal.h"

void raft_config_of(const struct raft_entry *e, struct raft_config *ret_config)
{
    int rc;

    ASSERT(e->type == RAFT_ENTRY_CONFIG);
    ASSERT(e->data != NULL);
    rc = raft_config_unpack(e->data->bytes, e->data->size, ret_config, NULL);
    ASSERT(rc == 0); /* checked on its way into the log */
}

int raft_position(const struct raft *r, uint64_t raft_id)
{
    for (uint32_t i = 0; i < r->config.member_count; i++) {
        if (r->config.members[i].raft_id == raft_id)
            return (int)i;
    }
    return -1;
}

bool raft_is_self(const struct raft *r, const struct raft_member *member)
{
    return member->raft_id == r->options.raft_id &&
           (member->incarnation == r->hard.incarnation || RAFT_MUTANT(RAFT_MUTANT_TWIN_COUNTS));
}

bool raft_is_voter(const struct raft *r)
{
    const struct raft_member *self = raft_config_find(&r->config, r->options.raft_id);

    return self != NULL && self->role == RAFT_VOTER && raft_is_self(r, self);
}

/* The leader keeps what it knows of those who stay. */
static void remap_progress(struct raft *r, const struct raft_config *c)
{
    struct raft_progress old[RAFT_MEMBERS_MAX];
    uint32_t old_count = r->progress_count;

    memcpy(old, r->progress, old_count * sizeof(old[0]));
    r->progress_count = c->member_count;
    for (uint32_t i = 0; i < c->member_count; i++) {
        const struct raft_member *member = &c->members[i];
        uint32_t at = 0;

        while (at < old_count && (old[at].inflight == NULL || old[at].raft_id != member->raft_id))
            at++;
        if (at < old_count) {
            r->progress[i] = old[at];
            old[at].inflight = NULL; /* moved */
            continue;
        }
        raft_progress_init(&r->progress[i], member->raft_id, r->options.inflight_messages_max);
        raft_progress_reset(&r->progress[i], member->incarnation, raft_log_last(&r->log) + 1);
        r->progress[i].last_contact_ms = r->now_ms;
    }
    for (uint32_t i = 0; i < old_count; i++)
        raft_progress_deinit(&old[i]);
}

void raft_config_set(struct raft *r, const struct raft_config *c, uint64_t index)
{
    if (r->state == RAFT_LEADER)
        remap_progress(r, c);
    r->config = *c;
    r->config_index = index;
    r->config_changed = true;
}

/* The index of the configuration entry in effect at index; snapshot.index when it is the snapshot's
 * or older. */
static uint64_t config_entry_before(const struct raft *r, uint64_t index)
{
    uint64_t lowest = MAX(r->log.base_index, r->log.snapshot.index);

    while (index > lowest && raft_log_at(&r->log, index)->type != RAFT_ENTRY_CONFIG)
        index--;
    return MAX(index, lowest);
}

void raft_config_at(const struct raft *r, uint64_t index, struct raft_config *ret_config)
{
    uint64_t at;

    ASSERT(index >= r->log.snapshot.index);
    ASSERT(index <= raft_log_last(&r->log));
    if (index >= r->config_index) {
        *ret_config = r->config;
        return;
    }
    at = config_entry_before(r, index);
    if (at > r->log.snapshot.index)
        raft_config_of(raft_log_at(&r->log, at), ret_config);
    else
        *ret_config = r->log.snapshot.config;
}

void raft_config_revert(struct raft *r)
{
    uint64_t last = raft_log_last(&r->log);
    struct raft_config config;

    if (r->config_index <= last || RAFT_MUTANT(RAFT_MUTANT_CONFIG_NO_REVERT))
        return;
    raft_config_at(r, last, &config);
    raft_config_set(r, &config, config_entry_before(r, last));
}

void raft_config_committed(struct raft *r, const struct raft_config *c)
{
    const struct raft_member *self = raft_config_find(c, r->options.raft_id);

    if (!r->hard.fenced || self == NULL || self->incarnation != r->hard.incarnation)
        return;
    r->hard.fenced = false;
    r->hard_dirty = true;
    raft_note(r, RAFT_NOTE_UNFENCED, RAFT_NONE);
}

/* ---- making a change ------------------------------------------------------------------------- */

static int member_set_address(struct raft_member *member, const char *address)
{
    if (address == NULL || address[0] == '\0')
        return -ERR_INVALID;
    if (strlen(address) >= sizeof(member->address))
        return -ERR_TOO_BIG;
    memset(member->address, 0, sizeof(member->address));
    memcpy(member->address, address, strlen(address));
    return 0;
}

static int add_learner(struct raft_config *c, const struct raft_ev_config_change *change)
{
    struct raft_member member = { .raft_id = change->raft_id,
                                  .incarnation = change->incarnation,
                                  .node_id = change->node_id,
                                  .role = RAFT_LEARNER };
    uint32_t at = 0;
    int rc = member_set_address(&member, change->address);

    if (rc < 0)
        return rc;
    if (change->raft_id == RAFT_NONE || !id_valid(change->node_id.s))
        return -ERR_INVALID;
    if (c->member_count == RAFT_MEMBERS_MAX)
        return -ERR_TOO_BIG;
    for (uint32_t i = 0; i < c->member_count; i++) {
        if (c->members[i].raft_id == change->raft_id)
            return -ERR_EXISTS;
        at += c->members[i].raft_id < change->raft_id;
    }
    memmove(&c->members[at + 1], &c->members[at], (c->member_count - at) * sizeof(member));
    c->members[at] = member;
    c->member_count++;
    return 0;
}

/* A learner that is promoted too early would hold up commits until it has caught up (§6). */
static int promote(const struct raft *r, struct raft_member *member, uint32_t at)
{
    if (member->role == RAFT_VOTER)
        return -ERR_INVALID;
    if (!raft_active(r, at) || r->progress[at].match_index < r->config_index ||
        r->progress[at].match_index + r->options.promote_lag_max < raft_log_last(&r->log))
        return -ERR_PRECONDITION; /* also: one not yet readmitted in its own log could not vote */
    member->role = RAFT_VOTER;
    return 0;
}

/* c is the current configuration on entry and the changed one on success. */
static int change_build(const struct raft *r, const struct raft_ev_config_change *change,
                        struct raft_config *c)
{
    int at = raft_position(r, change->raft_id);
    struct raft_member *member = at < 0 ? NULL : &c->members[at];

    if (change->change == RAFT_CHANGE_ADD_LEARNER)
        return add_learner(c, change);
    if (member == NULL)
        return -ERR_NOT_FOUND;
    switch (change->change) {
    case RAFT_CHANGE_PROMOTE:
        return promote(r, member, (uint32_t)at);
    case RAFT_CHANGE_DEMOTE:
        if (member->role == RAFT_LEARNER)
            return -ERR_INVALID;
        member->role = RAFT_LEARNER;
        return 0;
    case RAFT_CHANGE_REMOVE:
        memmove(member, member + 1,
                (c->member_count - (uint32_t)at - 1) * sizeof(struct raft_member));
        c->member_count--;
        return 0;
    case RAFT_CHANGE_ADDRESS:
        return member_set_address(member, change->address);
    case RAFT_CHANGE_READMIT:
        /* Only the life that is known to last, see new_life in replicate.c. */
        if (change->raft_id == r->options.raft_id || change->incarnation == member->incarnation ||
            change->incarnation != r->progress[at].incarnation)
            return -ERR_INVALID;
        member->role = RAFT_LEARNER;
        member->incarnation = change->incarnation;
        return 0;
    case RAFT_CHANGE_ADD_LEARNER:
        break;
    }
    return -ERR_INVALID;
}

/* Would a quorum of c be active, judged by what we hear now? */
static bool quorum_stays(const struct raft *r, const struct raft_config *c)
{
    uint32_t active = 0;

    for (uint32_t i = 0; i < c->member_count; i++) {
        int at = raft_position(r, c->members[i].raft_id);

        if (c->members[i].role == RAFT_VOTER && at >= 0 && raft_active(r, (uint32_t)at))
            active++;
    }
    return active >= raft_quorum(raft_config_voter_count(c));
}

static int change_check(const struct raft *r)
{
    if (r->state != RAFT_LEADER)
        return -ERR_NOT_LEADER;
    if (r->transfer_target != RAFT_NONE || raft_writes_full(r))
        return -ERR_BUSY;
    if (r->log.commit_index < r->term_first_index && !RAFT_MUTANT(RAFT_MUTANT_CONFIG_BEFORE_NOOP))
        return -ERR_PRECONDITION; /* the 2015 guard */
    if (r->config_index > r->log.commit_index && !RAFT_MUTANT(RAFT_MUTANT_CONFIG_TWO_PENDING))
        return -ERR_BUSY; /* thesis §4.1: one at a time */
    return 0;
}

int raft_config_change(struct raft *r, const struct raft_ev_config_change *change)
{
    CLEANUP_BUF struct buf packed = BUF_INIT(RAFT_ENTRY_BYTES_MAX);
    struct raft_config c = r->config;
    struct raft_entry e = { .type = RAFT_ENTRY_CONFIG };
    int rc = change_check(r);

    if (rc == 0)
        rc = change_build(r, change, &c);
    if (rc == 0)
        rc = raft_config_check(&c, NULL); /* e.g. no voter left */
    if (rc < 0)
        return rc;
    if (!change->force && change->change != RAFT_CHANGE_ADDRESS &&
        change->change != RAFT_CHANGE_ADD_LEARNER && !quorum_stays(r, &c))
        return -ERR_PRECONDITION;
    rc = raft_config_pack(&c, &packed);
    ASSERT(rc == 0); /* RAFT_MEMBERS_MAX members are far smaller */
    e.index = raft_log_last(&r->log) + 1;
    e.term = r->hard.term;
    e.data = raft_data_new(packed.data, packed.size);
    r->first_index = e.index;
    raft_append(r, &e);
    raft_data_unref(e.data);
    raft_broadcast_append(r);
    return 0;
}
