#include <string.h>

#include "common/assert.h"
#include "managerd/raft/internal.h"

/* Index, term, type and framing: what an entry without data costs. */
enum { ENTRY_OVERHEAD_BYTES = 32 };

struct raft_data *raft_data_new(const void *bytes, size_t size)
{
    struct raft_data *d;
    uint8_t *copy;

    ASSERT(size <= RAFT_ENTRY_BYTES_MAX);
    d = xmalloc(sizeof(*d) + size);
    copy = (uint8_t *)(d + 1);
    if (size > 0)
        memcpy(copy, bytes, size);
    *d = (struct raft_data){ .references = 1, .size = (uint32_t)size, .bytes = copy };
    return d;
}

struct raft_data *raft_data_take(uint8_t *bytes, size_t size)
{
    struct raft_data *d = xmalloc(sizeof(*d));

    ASSERT(size <= RAFT_ENTRY_BYTES_MAX);
    *d = (struct raft_data){
        .references = 1, .size = (uint32_t)size, .bytes = bytes, .owned = bytes
    };
    return d;
}

struct raft_data *raft_data_ref(struct raft_data *d)
{
    if (d == NULL)
        return NULL;
    ASSERT(d->references > 0);
    d->references++;
    ASSERT(d->references > 0); /* wrapped */
    return d;
}

void raft_data_unref(struct raft_data *d)
{
    if (d == NULL)
        return;
    ASSERT(d->references > 0);
    d->references--;
    if (d->references > 0)
        return;
    free(d->owned);
    free(d);
}

size_t raft_entry_bytes(const struct raft_entry *e)
{
    return ENTRY_OVERHEAD_BYTES + (e->data != NULL ? e->data->size : 0);
}

struct raft_entry *raft_entries_clone(const struct raft_entry *entries, size_t count)
{
    struct raft_entry *copy;

    if (count == 0)
        return NULL;
    copy = xrealloc_array(NULL, count, sizeof(*copy));
    for (size_t i = 0; i < count; i++) {
        copy[i] = entries[i];
        (void)raft_data_ref(copy[i].data); /* the same pointer */
    }
    return copy;
}

void raft_entries_free(struct raft_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++)
        raft_data_unref(entries[i].data);
    free(entries);
}

const struct raft_member *raft_config_find(const struct raft_config *c, uint64_t raft_id)
{
    for (uint32_t i = 0; i < c->member_count; i++) {
        if (c->members[i].raft_id == raft_id)
            return &c->members[i];
    }
    return NULL;
}

uint32_t raft_config_voter_count(const struct raft_config *c)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < c->member_count; i++)
        count += c->members[i].role == RAFT_VOTER;
    return count;
}

const char *raft_note_str(enum raft_note note)
{
    static const char *const texts[] = {
#define X(name, text) [RAFT_NOTE_##name] = (text),
        RAFT_NOTES(X)
#undef X
    };

    ASSERT((size_t)note < ARRAY_LEN(texts));
    return texts[note];
}

const char *raft_state_str(enum raft_state state)
{
    static const char *const texts[] = {
        [RAFT_FOLLOWER] = "follower",
        [RAFT_PRE_CANDIDATE] = "pre-candidate",
        [RAFT_CANDIDATE] = "candidate",
        [RAFT_LEADER] = "leader",
    };

    ASSERT((size_t)state < ARRAY_LEN(texts));
    return texts[state];
}

void raft_options_default(struct raft_options *o)
{
    *o = (struct raft_options){
        .heartbeat_ms = 100,
        .election_ms = 1000,
        .message_bytes_max = 256 << 10,
        .inflight_messages_max = 64,
        .inflight_bytes_max = 8 << 20,
        .uncommitted_bytes_max = 64 << 20,
        .promote_lag_max = 1000,
        .tail_entries = 500,
    };
}
