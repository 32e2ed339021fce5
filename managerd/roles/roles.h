/* Who is a manager: brings Raft's membership and the nodes' observed roles to what operators want.
 * Pure; the shell (managerd/members.c) asks every MEMBERS_INTERVAL_MS on the leader and carries out
 * one change at a time. swarmkit manager/role_manager.go, features.md 3.12.
 *
 *   promotion   the node's role is set at once, so that its certificate is renewed; its managerd
 *               then joins as a learner, and is made a voter here once it has caught up
 *   demotion    its Raft member is removed first (never below a live quorum; the leader hands
 *               leadership over before), then its role is set */
#ifndef SKEP_MANAGERD_ROLES_ROLES_H
#define SKEP_MANAGERD_ROLES_ROLES_H

#include "managerd/raft/raft.h"
#include "managerd/store/core.h"

struct roles_view {
    const struct store *store;
    const struct raft_config *config;
    const struct raft_peer_status *peers; /* of the leader, peer_count of them */
    size_t peer_count;
    uint64_t self; /* the leader's raft_id */
    uint64_t commit_index;
    uint64_t now_ms, election_ms;
};

enum roles_action {
    ROLES_NOTHING,
    ROLES_CHANGE,   /* propose *ret_change */
    ROLES_TRANSFER, /* the leader itself is to go: hand over first */
};
/* The one membership change that is due. Change's strings point into view. */
enum roles_action roles_next(const struct roles_view *view,
                             struct raft_ev_config_change *ret_change);

/* Adds to tx what node objects have to say about role and Raft membership. */
void roles_fill(const struct roles_view *view, struct store_tx *tx);

#endif
