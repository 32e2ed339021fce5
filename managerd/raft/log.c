#include <string.h>

#include "common/assert.h"
#include "managerd/raft/internal.h"

enum { LOG_CAPACITY_MIN = 64 };

void raft_log_deinit(struct raft_log *l)
{
    raft_log_reset(l, 0, 0);
    free(l->entries);
    l->entries = NULL;
}

uint64_t raft_log_last(const struct raft_log *l)
{
    return l->base_index + l->count;
}

uint64_t raft_log_last_term(const struct raft_log *l)
{
    return l->count > 0 ? l->entries[l->start + l->count - 1].term : l->base_term;
}

uint64_t raft_log_term(const struct raft_log *l, uint64_t index)
{
    if (index < l->base_index || index > raft_log_last(l))
        return 0;
    if (index == l->base_index)
        return l->base_term;
    return l->entries[l->start + (size_t)(index - l->base_index) - 1].term;
}

const struct raft_entry *raft_log_at(const struct raft_log *l, uint64_t index)
{
    ASSERT(index > l->base_index);
    ASSERT(index <= raft_log_last(l));
    return &l->entries[l->start + (size_t)(index - l->base_index) - 1];
}

static void make_room(struct raft_log *l)
{
    if (l->start + l->count < l->capacity)
        return;
    /* At least half is free in front: slide, so that appending stays O(1) amortised. */
    if (l->start >= l->count && l->start > 0) {
        memmove(l->entries, l->entries + l->start, l->count * sizeof(*l->entries));
        l->start = 0;
        return;
    }
    l->capacity = MAX((size_t)LOG_CAPACITY_MIN, l->capacity * 2);
    l->entries = xrealloc_array(l->entries, l->capacity, sizeof(*l->entries));
}

void raft_log_append(struct raft_log *l, const struct raft_entry *e)
{
    ASSERT(e->index == raft_log_last(l) + 1);
    ASSERT(e->term >= raft_log_last_term(l));
    make_room(l);
    l->entries[l->start + l->count] = *e;
    (void)raft_data_ref(e->data); /* the same pointer */
    l->count++;
}

static void unref_range(struct raft_log *l, size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++)
        raft_data_unref(l->entries[i].data);
}

void raft_log_truncate(struct raft_log *l, uint64_t index)
{
    size_t keep;

    ASSERT(index > l->base_index);
    ASSERT(index > l->commit_index); /* Figure 3, state machine safety */
    ASSERT(index <= raft_log_last(l));
    keep = (size_t)(index - l->base_index) - 1;
    unref_range(l, l->start + keep, l->count - keep);
    l->count = keep;
    if (!RAFT_MUTANT(RAFT_MUTANT_TRUNCATE_ABA))
        l->durable_index = MIN(l->durable_index, index - 1);
}

void raft_log_compact(struct raft_log *l, uint64_t index)
{
    size_t drop;

    ASSERT(index >= l->base_index);
    ASSERT(index <= l->snapshot.index || RAFT_MUTANT(RAFT_MUTANT_COMPACT_BEYOND));
    drop = (size_t)(index - l->base_index);
    if (drop == 0)
        return;
    l->base_term = raft_log_term(l, index);
    unref_range(l, l->start, drop);
    l->start += drop;
    l->count -= drop;
    l->base_index = index;
}

void raft_log_reset(struct raft_log *l, uint64_t index, uint64_t term)
{
    unref_range(l, l->start, l->count);
    l->start = 0;
    l->count = 0;
    l->base_index = index;
    l->base_term = term;
    l->durable_index = 0;
}

uint64_t raft_log_find(const struct raft_log *l, uint64_t index, uint64_t term)
{
    uint64_t low = l->base_index, high = MIN(index, raft_log_last(l));

    if (high <= low)
        return low;
    while (low < high) { /* terms never decrease along a log: bisect */
        uint64_t middle = low + (high - low + 1) / 2;

        if (raft_log_term(l, middle) <= term)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

size_t raft_log_fit(const struct raft_log *l, uint64_t index, size_t count_max, uint64_t bytes_max,
                    uint64_t *ret_bytes)
{
    uint64_t bytes = 0, last = raft_log_last(l);
    size_t count = 0;

    for (uint64_t i = index; i <= last && count < count_max; i++) {
        uint64_t more = raft_entry_bytes(raft_log_at(l, i));

        if (count > 0 && bytes + more > bytes_max)
            break;
        bytes += more;
        count++;
    }
    *ret_bytes = bytes;
    return count;
}

bool raft_log_up_to_date(const struct raft_log *l, uint64_t last_index, uint64_t last_term)
{
    uint64_t our_term = raft_log_last_term(l);

    return last_term > our_term || (last_term == our_term && last_index >= raft_log_last(l));
}
