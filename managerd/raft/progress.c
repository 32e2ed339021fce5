#include "common/assert.h"
#include "managerd/raft/internal.h"

void raft_progress_init(struct raft_progress *p, uint64_t raft_id, uint32_t inflight_capacity)
{
    ASSERT(inflight_capacity > 0);
    *p = (struct raft_progress){
        .raft_id = raft_id,
        .state = RAFT_PROBE,
        .next_index = 1,
        .inflight_capacity = inflight_capacity,
        .inflight = xrealloc_array(NULL, inflight_capacity, sizeof(struct raft_inflight)),
    };
}

void raft_progress_deinit(struct raft_progress *p)
{
    free(p->inflight);
    p->inflight = NULL;
}

static void clear_inflight(struct raft_progress *p)
{
    p->inflight_head = 0;
    p->inflight_count = 0;
    p->inflight_bytes = 0;
}

void raft_progress_reset(struct raft_progress *p, uint64_t incarnation, uint64_t next_index)
{
    p->incarnation = incarnation;
    p->challenge_round = 0;
    p->match_index = 0;
    p->match_round = 0;
    p->round_acked = 0;
    p->commit_sent = 0;
    p->fence_order = false;
    raft_progress_probe(p, next_index);
}

void raft_progress_probe(struct raft_progress *p, uint64_t next_index)
{
    ASSERT(next_index > p->match_index);
    p->state = RAFT_PROBE;
    p->paused = false;
    p->snapshot_index = 0;
    p->next_index = next_index;
    clear_inflight(p);
}

void raft_progress_replicate(struct raft_progress *p)
{
    p->state = RAFT_REPLICATE;
    p->paused = false;
    p->snapshot_index = 0;
    p->next_index = p->match_index + 1;
    clear_inflight(p);
}

void raft_progress_send_snapshot(struct raft_progress *p, uint64_t index)
{
    ASSERT(index > 0);
    p->state = RAFT_SENDING_SNAPSHOT;
    p->paused = false;
    p->snapshot_index = index;
    clear_inflight(p);
}

bool raft_progress_ready(const struct raft_progress *p, uint64_t inflight_bytes_max)
{
    switch (p->state) {
    case RAFT_PROBE:
        return !p->paused;
    case RAFT_REPLICATE:
        return p->inflight_count < p->inflight_capacity && p->inflight_bytes < inflight_bytes_max;
    case RAFT_SENDING_SNAPSHOT:
        return false;
    }
    UNREACHABLE();
}

void raft_progress_sent(struct raft_progress *p, uint64_t last_index, uint64_t bytes)
{
    uint32_t at = (p->inflight_head + p->inflight_count) % p->inflight_capacity;

    if (p->state == RAFT_PROBE) {
        p->paused = true;
        return;
    }
    ASSERT(p->state == RAFT_REPLICATE);
    ASSERT(last_index >= p->next_index);
    p->next_index = last_index + 1;
    ASSERT(p->inflight_count < p->inflight_capacity || RAFT_MUTANT(RAFT_MUTANT_INFLIGHT_UNLIMITED));
    p->inflight[at] = (struct raft_inflight){ last_index, bytes };
    p->inflight_count++;
    p->inflight_bytes += bytes;
}

void raft_progress_free_oldest(struct raft_progress *p)
{
    ASSERT(p->inflight_count > 0);
    p->inflight_bytes -= p->inflight[p->inflight_head].bytes;
    p->inflight_head = (p->inflight_head + 1) % p->inflight_capacity;
    p->inflight_count--;
}

bool raft_progress_acked(struct raft_progress *p, uint64_t index)
{
    while (p->inflight_count > 0 && p->inflight[p->inflight_head].last_index <= index)
        raft_progress_free_oldest(p);
    p->next_index = MAX(p->next_index, index + 1);
    if (index <= p->match_index)
        return false;
    p->match_index = index;
    return true;
}

bool raft_progress_rejected(struct raft_progress *p, uint64_t refused_index, uint64_t next_index)
{
    switch (p->state) {
    case RAFT_REPLICATE:
        if (refused_index <= p->match_index)
            return false; /* the entry was acknowledged since: a late message */
        raft_progress_probe(p, p->match_index + 1);
        return true;
    case RAFT_PROBE:
        if (refused_index != p->next_index - 1)
            return false; /* an answer to an earlier probe */
        raft_progress_probe(p, MAX(p->match_index + 1, MIN(refused_index, next_index)));
        return true;
    case RAFT_SENDING_SNAPSHOT:
        return false;
    }
    UNREACHABLE();
}
