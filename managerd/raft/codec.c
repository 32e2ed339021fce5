#include "managerd/raft/codec.h"

#include <string.h>

#include "common/assert.h"
#include "proto/raft.pb-c.h"

/* ---- checks shared by bytes and structs ------------------------------------------------------ */

static bool address_valid(const char *address)
{
    size_t size = strnlen(address, RAFT_ADDRESS_BYTES_MAX);

    if (size == 0 || size == RAFT_ADDRESS_BYTES_MAX)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (address[i] <= ' ' || address[i] > '~')
            return false;
    }
    return true;
}

int raft_config_check(const struct raft_config *c, struct err *e)
{
    uint64_t previous = RAFT_NONE;

    if (c->member_count > RAFT_MEMBERS_MAX)
        return err_set(e, ERR_INVALID, "%u members are too many", c->member_count);
    for (uint32_t i = 0; i < c->member_count; i++) {
        const struct raft_member *m = &c->members[i];

        if (m->raft_id <= previous)
            return err_set(e, ERR_INVALID, "raft ids are not ascending");
        if (!id_valid(m->node_id.s))
            return err_set(e, ERR_INVALID, "a member's node id is malformed");
        if (!address_valid(m->address))
            return err_set(e, ERR_INVALID, "the address of member %s is malformed", m->node_id.s);
        if (m->role != RAFT_VOTER && m->role != RAFT_LEARNER)
            return err_set(e, ERR_INVALID, "unknown role of member %s", m->node_id.s);
        previous = m->raft_id;
    }
    if (raft_config_voter_count(c) == 0)
        return err_set(e, ERR_INVALID, "no voter");
    return 0;
}

static int entry_check(const struct raft_entry *entry, struct err *e)
{
    size_t size = entry->data != NULL ? entry->data->size : 0;
    struct raft_config c;

    if (entry->index == 0 || entry->index > RAFT_INDEX_MAX)
        return err_set(e, ERR_PROTO, "entry index out of range");
    if (entry->term == 0 || entry->term > RAFT_TERM_MAX)
        return err_set(e, ERR_PROTO, "entry term out of range");
    if (size > RAFT_ENTRY_BYTES_MAX)
        return err_set(e, ERR_PROTO, "entry of %zu bytes is too big", size);
    switch (entry->type) {
    case RAFT_ENTRY_NORMAL:
        return 0;
    case RAFT_ENTRY_NOOP:
        return size == 0 ? 0 : err_set(e, ERR_PROTO, "no-op entry with data");
    case RAFT_ENTRY_CONFIG:
        if (raft_config_unpack(size > 0 ? entry->data->bytes : NULL, size, &c, e) < 0)
            return -ERR_PROTO;
        return 0;
    }
    return err_set(e, ERR_PROTO, "unknown entry type %d", (int)entry->type);
}

/* Entries follow (index, log_term) without gaps, in terms that never decrease nor pass the
 * sender's (§5.3: a leader has entries of its own and earlier terms only). */
static int entries_check(const struct raft_message *m, struct err *e)
{
    uint64_t term = m->log_term;
    int rc;

    if (m->entry_count > RAFT_MESSAGE_ENTRIES_MAX)
        return err_set(e, ERR_PROTO, "%zu entries are too many", m->entry_count);
    for (size_t i = 0; i < m->entry_count; i++) {
        const struct raft_entry *entry = &m->entries[i];

        if (entry->index != m->index + 1 + i)
            return err_set(e, ERR_PROTO, "gap in entries");
        if (entry->term < term || entry->term > m->term)
            return err_set(e, ERR_PROTO, "entry terms out of order");
        rc = entry_check(entry, e);
        if (rc < 0)
            return rc;
        term = entry->term;
    }
    return 0;
}

/* Which fields a type may use: see the table in raft.h. */
enum {
    USES_INDEX = 1 << 0,
    USES_LOG_TERM = 1 << 1,
    USES_COMMIT = 1 << 2,
    USES_ROUND = 1 << 3,
    USES_CONTEXT = 1 << 4,
    USES_HINT_INDEX = 1 << 5,
    USES_HINT_TERM = 1 << 6,
    USES_REJECT = 1 << 7,
    USES_FLAG = 1 << 8,
    USES_ENTRIES = 1 << 9,
    USES_SNAPSHOT = 1 << 10,
};

static const uint32_t message_uses[RAFT_MSG_TYPE_MAX + 1] = {
    [RAFT_MSG_PRE_VOTE] = USES_INDEX | USES_LOG_TERM | USES_FLAG,
    [RAFT_MSG_PRE_VOTE_REPLY] = USES_CONTEXT | USES_REJECT,
    [RAFT_MSG_VOTE] = USES_INDEX | USES_LOG_TERM | USES_FLAG,
    [RAFT_MSG_VOTE_REPLY] = USES_REJECT,
    [RAFT_MSG_APPEND] =
        USES_INDEX | USES_LOG_TERM | USES_COMMIT | USES_ROUND | USES_FLAG | USES_ENTRIES,
    [RAFT_MSG_APPEND_REPLY] =
        USES_INDEX | USES_ROUND | USES_CONTEXT | USES_HINT_INDEX | USES_HINT_TERM | USES_REJECT,
    [RAFT_MSG_HEARTBEAT] = USES_COMMIT | USES_ROUND | USES_FLAG,
    [RAFT_MSG_HEARTBEAT_REPLY] = USES_INDEX | USES_ROUND | USES_HINT_INDEX,
    [RAFT_MSG_SNAPSHOT] = USES_SNAPSHOT,
    [RAFT_MSG_TIMEOUT_NOW] = 0,
    [RAFT_MSG_READ] = USES_CONTEXT,
    [RAFT_MSG_READ_REPLY] = USES_CONTEXT | USES_INDEX | USES_REJECT,
};

static uint32_t fields_set(const struct raft_message *m)
{
    return (m->index != 0 ? USES_INDEX : 0u) | (m->log_term != 0 ? USES_LOG_TERM : 0u) |
           (m->commit != 0 ? USES_COMMIT : 0u) | (m->round != 0 ? USES_ROUND : 0u) |
           (m->context != 0 ? USES_CONTEXT : 0u) | (m->hint_index != 0 ? USES_HINT_INDEX : 0u) |
           (m->hint_term != 0 ? USES_HINT_TERM : 0u) | (m->reject ? USES_REJECT : 0u) |
           (m->flag ? USES_FLAG : 0u) | (m->entry_count != 0 ? USES_ENTRIES : 0u) |
           (m->snapshot != NULL ? USES_SNAPSHOT : 0u);
}

static int snapshot_check(const struct raft_message *m, struct err *e)
{
    const struct raft_snapshot_meta *s = m->snapshot;

    if (s == NULL || s->index == 0 || s->index > RAFT_INDEX_MAX || s->term == 0 ||
        s->term > m->term)
        return err_set(e, ERR_PROTO, "snapshot index or term out of range");
    return raft_config_check(&s->config, e) < 0 ? -ERR_PROTO : 0;
}

int raft_message_check(const struct raft_message *m, struct err *e)
{
    if ((int)m->type <= 0 || (int)m->type > RAFT_MSG_TYPE_MAX)
        return err_set(e, ERR_PROTO, "unknown message type %d", (int)m->type);
    if (m->from == RAFT_NONE || m->to == RAFT_NONE)
        return err_set(e, ERR_PROTO, "message without sender or receiver");
    if (m->term > RAFT_TERM_MAX || m->log_term > m->term || m->hint_term > m->term)
        return err_set(e, ERR_PROTO, "term out of range");
    if (m->term == 0 && m->type != RAFT_MSG_PRE_VOTE && m->type != RAFT_MSG_PRE_VOTE_REPLY)
        return err_set(e, ERR_PROTO, "message without term");
    if (m->index > RAFT_INDEX_MAX || m->commit > RAFT_INDEX_MAX || m->hint_index > RAFT_INDEX_MAX)
        return err_set(e, ERR_PROTO, "index out of range");
    if ((m->index == 0) != (m->log_term == 0) && (message_uses[m->type] & USES_LOG_TERM) != 0)
        return err_set(e, ERR_PROTO, "an index without its term");
    if ((fields_set(m) & ~message_uses[m->type]) != 0)
        return err_set(e, ERR_PROTO, "message type %d with fields of another", (int)m->type);
    if (m->type == RAFT_MSG_SNAPSHOT)
        return snapshot_check(m, e);
    return entries_check(m, e);
}

/* ---- packing --------------------------------------------------------------------------------- */

static int pack(const ProtobufCMessage *m, struct buf *b)
{
    size_t size = protobuf_c_message_get_packed_size(m);
    uint8_t *mem = buf_reserve(b, size);

    if (mem == NULL)
        return -ERR_TOO_BIG;
    buf_commit(b, protobuf_c_message_pack(m, mem));
    return 0;
}

static void entry_to_proto(const struct raft_entry *e, Skep__RaftEntry *ret_p)
{
    skep__raft_entry__init(ret_p);
    ret_p->index = e->index;
    ret_p->term = e->term;
    ret_p->type = (Skep__RaftEntryType)e->type;
    if (e->data != NULL && e->data->size > 0) {
        ret_p->data.len = e->data->size;
        ret_p->data.data = (uint8_t *)(uintptr_t)e->data->bytes; /* packing only reads it */
    }
}

int raft_entry_pack(const struct raft_entry *e, struct buf *b)
{
    Skep__RaftEntry p;

    ASSERT(entry_check(e, NULL) == 0);
    entry_to_proto(e, &p);
    return pack(&p.base, b);
}

int raft_message_pack(const struct raft_message *m, struct buf *b)
{
    CLEANUP_FREE Skep__RaftEntry *entries = NULL;
    CLEANUP_FREE Skep__RaftEntry **pointers = NULL;
    Skep__RaftMessage p = SKEP__RAFT_MESSAGE__INIT;

    ASSERT(m->type != RAFT_MSG_SNAPSHOT);
    p.type = (Skep__RaftMessageType)m->type;
    p.from = m->from;
    p.to = m->to;
    p.term = m->term;
    p.generation = m->generation;
    p.incarnation = m->incarnation;
    p.index = m->index;
    p.log_term = m->log_term;
    p.commit = m->commit;
    p.round = m->round;
    p.context = m->context;
    p.hint_index = m->hint_index;
    p.hint_term = m->hint_term;
    p.reject = m->reject;
    p.flag = m->flag;
    if (m->entry_count > 0) {
        entries = xcalloc(m->entry_count, sizeof(*entries));
        pointers = xcalloc(m->entry_count, sizeof(*pointers));
        for (size_t i = 0; i < m->entry_count; i++) {
            entry_to_proto(&m->entries[i], &entries[i]);
            pointers[i] = &entries[i];
        }
        p.n_entries = m->entry_count;
        p.entries = pointers;
    }
    return pack(&p.base, b);
}

struct packed_config {
    Skep__RaftConfig config;
    Skep__RaftMember members[RAFT_MEMBERS_MAX];
    Skep__RaftMember *pointers[RAFT_MEMBERS_MAX];
};

static void config_to_proto(const struct raft_config *c, struct packed_config *ret_p)
{
    ASSERT(raft_config_check(c, NULL) == 0);
    skep__raft_config__init(&ret_p->config);
    for (uint32_t i = 0; i < c->member_count; i++) {
        const struct raft_member *m = &c->members[i];
        Skep__RaftMember *p = &ret_p->members[i];

        skep__raft_member__init(p);
        p->raft_id = m->raft_id;
        p->incarnation = m->incarnation;
        p->role = (Skep__RaftRole)m->role;
        p->node_id = (char *)(uintptr_t)m->node_id.s; /* packing only reads them */
        p->address = (char *)(uintptr_t)m->address;
        ret_p->pointers[i] = p;
    }
    ret_p->config.n_members = c->member_count;
    ret_p->config.members = ret_p->pointers;
}

int raft_config_pack(const struct raft_config *c, struct buf *b)
{
    struct packed_config p;

    config_to_proto(c, &p);
    return pack(&p.config.base, b);
}

int raft_hard_state_pack(const struct raft_hard_state *h, struct buf *b)
{
    Skep__RaftHardState p = SKEP__RAFT_HARD_STATE__INIT;

    p.term = h->term;
    p.vote = h->vote;
    p.incarnation = h->incarnation;
    p.fenced = h->fenced;
    return pack(&p.base, b);
}

int raft_snapshot_meta_pack(const struct raft_snapshot_meta *s, struct buf *b)
{
    Skep__RaftSnapshotMeta p = SKEP__RAFT_SNAPSHOT_META__INIT;
    struct packed_config c;

    ASSERT(s->index > 0 && s->term > 0);
    config_to_proto(&s->config, &c);
    p.index = s->index;
    p.term = s->term;
    p.config = &c.config;
    return pack(&p.base, b);
}

/* ---- unpacking ------------------------------------------------------------------------------- */

/* Moves the bytes out of p: unpacking made the only copy. */
static int entry_from_proto(Skep__RaftEntry *p, struct raft_entry *ret_entry, struct err *e)
{
    *ret_entry = (struct raft_entry){ .index = p->index,
                                      .term = p->term,
                                      .type = (enum raft_entry_type)p->type };
    if (p->data.len > RAFT_ENTRY_BYTES_MAX)
        return err_set(e, ERR_PROTO, "entry of %zu bytes is too big", p->data.len);
    if (p->data.len > 0) {
        ret_entry->data = raft_data_take(p->data.data, p->data.len);
        p->data = (ProtobufCBinaryData){ 0, NULL };
    }
    return 0;
}

int raft_entry_unpack(const void *mem, size_t size, struct raft_entry *ret_entry, struct err *e)
{
    Skep__RaftEntry *p = skep__raft_entry__unpack(NULL, size, mem);
    struct raft_entry entry = { 0 };
    int rc;

    if (p == NULL)
        return err_set(e, ERR_PROTO, "not a raft entry");
    rc = entry_from_proto(p, &entry, e);
    skep__raft_entry__free_unpacked(p, NULL);
    if (rc == 0)
        rc = entry_check(&entry, e);
    if (rc < 0) {
        raft_data_unref(entry.data);
        return rc;
    }
    *ret_entry = entry;
    return 0;
}

void raft_message_free(struct raft_message *m)
{
    if (m == NULL)
        return;
    raft_entries_free((struct raft_entry *)(uintptr_t)m->entries, m->entry_count);
    free(m);
}

static int entries_from_proto(Skep__RaftMessage *p, struct raft_message *m, struct err *e)
{
    struct raft_entry *entries;
    int rc = 0;

    if (p->n_entries > RAFT_MESSAGE_ENTRIES_MAX)
        return err_set(e, ERR_PROTO, "%zu entries are too many", p->n_entries);
    if (p->n_entries == 0)
        return 0;
    entries = xcalloc(p->n_entries, sizeof(*entries));
    m->entries = entries;
    m->entry_count = p->n_entries;
    for (size_t i = 0; i < p->n_entries && rc == 0; i++)
        rc = entry_from_proto(p->entries[i], &entries[i], e);
    return rc;
}

int raft_message_unpack(const void *mem, size_t size, struct raft_message **ret_m, struct err *e)
{
    Skep__RaftMessage *p;
    struct raft_message *m;
    int rc;

    if (size > RAFT_MESSAGE_BYTES_MAX)
        return err_set(e, ERR_PROTO, "raft message of %zu bytes is too big", size);
    p = skep__raft_message__unpack(NULL, size, mem);
    if (p == NULL)
        return err_set(e, ERR_PROTO, "not a raft message");
    m = xcalloc(1, sizeof(*m));
    m->type = (enum raft_message_type)p->type;
    m->from = p->from;
    m->to = p->to;
    m->term = p->term;
    m->generation = p->generation;
    m->incarnation = p->incarnation;
    m->index = p->index;
    m->log_term = p->log_term;
    m->commit = p->commit;
    m->round = p->round;
    m->context = p->context;
    m->hint_index = p->hint_index;
    m->hint_term = p->hint_term;
    m->reject = p->reject;
    m->flag = p->flag;
    rc = entries_from_proto(p, m, e);
    skep__raft_message__free_unpacked(p, NULL);
    if (rc == 0 && m->type == RAFT_MSG_SNAPSHOT)
        rc = err_set(e, ERR_PROTO, "a snapshot travels in chunks");
    if (rc == 0)
        rc = raft_message_check(m, e);
    if (rc < 0) {
        raft_message_free(m);
        return rc;
    }
    *ret_m = m;
    return 0;
}

static int config_from_proto(const Skep__RaftConfig *p, struct raft_config *ret_config,
                             struct err *e)
{
    struct raft_config c = { 0 };

    if (p->n_members > RAFT_MEMBERS_MAX)
        return err_set(e, ERR_PROTO, "%zu members are too many", p->n_members);
    for (size_t i = 0; i < p->n_members; i++) {
        const Skep__RaftMember *from = p->members[i];
        struct raft_member *to = &c.members[i];

        if (!id_valid(from->node_id) || !address_valid(from->address))
            return err_set(e, ERR_PROTO, "a member's node id or address is malformed");
        to->raft_id = from->raft_id;
        to->incarnation = from->incarnation;
        to->role = (enum raft_role)from->role;
        to->node_id = id_from_str(from->node_id);
        memcpy(to->address, from->address, strlen(from->address));
    }
    c.member_count = (uint32_t)p->n_members;
    if (raft_config_check(&c, e) < 0)
        return -ERR_PROTO;
    *ret_config = c;
    return 0;
}

int raft_config_unpack(const void *mem, size_t size, struct raft_config *ret_config, struct err *e)
{
    Skep__RaftConfig *p = skep__raft_config__unpack(NULL, size, mem);
    int rc;

    if (p == NULL)
        return err_set(e, ERR_PROTO, "not a raft configuration");
    rc = config_from_proto(p, ret_config, e);
    skep__raft_config__free_unpacked(p, NULL);
    return rc;
}

int raft_hard_state_unpack(const void *mem, size_t size, struct raft_hard_state *ret_hard_state,
                           struct err *e)
{
    Skep__RaftHardState *p = skep__raft_hard_state__unpack(NULL, size, mem);
    struct raft_hard_state h;

    if (p == NULL)
        return err_set(e, ERR_PROTO, "not a raft hard state");
    h = (struct raft_hard_state){ p->term, p->vote, p->incarnation, p->fenced };
    skep__raft_hard_state__free_unpacked(p, NULL);
    if (h.term > RAFT_TERM_MAX || (h.term == 0 && h.vote != RAFT_NONE))
        return err_set(e, ERR_PROTO, "hard state out of range");
    *ret_hard_state = h;
    return 0;
}

int raft_snapshot_meta_unpack(const void *mem, size_t size, struct raft_snapshot_meta *ret_meta,
                              struct err *e)
{
    Skep__RaftSnapshotMeta *p = skep__raft_snapshot_meta__unpack(NULL, size, mem);
    struct raft_snapshot_meta s = { 0 };
    int rc = 0;

    if (p == NULL)
        return err_set(e, ERR_PROTO, "not a snapshot description");
    s.index = p->index;
    s.term = p->term;
    if (s.index == 0 || s.index > RAFT_INDEX_MAX || s.term == 0 || s.term > RAFT_TERM_MAX)
        rc = err_set(e, ERR_PROTO, "snapshot index or term out of range");
    else if (p->config == NULL)
        rc = err_set(e, ERR_PROTO, "snapshot without configuration");
    else
        rc = config_from_proto(p->config, &s.config, e);
    skep__raft_snapshot_meta__free_unpacked(p, NULL);
    if (rc == 0)
        *ret_meta = s;
    return rc;
}
