#include "common/assert.h"
#include "managerd/raft/internal.h"

uint32_t raft_quorum(uint32_t n)
{
    if (RAFT_MUTANT(RAFT_MUTANT_QUORUM_HALF))
        return MAX((n + 1) / 2, 1u);
    return n / 2 + 1;
}

uint64_t raft_quorum_value(uint64_t *values, uint32_t n)
{
    ASSERT(n > 0);
    ASSERT(n <= RAFT_MEMBERS_MAX);
    /* Insertion sort, largest first: n is at most a handful. Then exactly a quorum of values is at
     * least as large as the one at position quorum - 1. */
    for (uint32_t i = 1; i < n; i++) {
        uint64_t value = values[i];
        uint32_t at = i;

        for (; at > 0 && values[at - 1] < value; at--)
            values[at] = values[at - 1];
        values[at] = value;
    }
    return values[raft_quorum(n) - 1];
}

enum raft_vote_result raft_quorum_vote(uint32_t granted, uint32_t refused, uint32_t n)
{
    uint32_t needed = raft_quorum(n);

    ASSERT(granted + refused <= n);
    if (granted >= needed)
        return RAFT_VOTE_WON;
    /* Those who have not answered could still make a majority. */
    return n - refused >= needed ? RAFT_VOTE_PENDING : RAFT_VOTE_LOST;
}
