#include "managerd/roles/roles.h"

#include <string.h>

#include "common/assert.h"

enum { CAUGHT_UP_LAG_MAX = 500 };

static const struct raft_peer_status *peer_find(const struct roles_view *v, uint64_t raft_id)
{
    for (size_t i = 0; i < v->peer_count; i++) {
        if (v->peers[i].raft_id == raft_id)
            return &v->peers[i];
    }
    return NULL;
}

static bool peer_active(const struct roles_view *v, uint64_t raft_id)
{
    const struct raft_peer_status *p = peer_find(v, raft_id);

    if (raft_id == v->self)
        return true;
    return p != NULL && p->counted && p->last_contact_ms != 0 &&
           v->now_ms - p->last_contact_ms < 2 * v->election_ms;
}

/* Would the voters that are left without `gone` still have a live majority? */
static bool quorum_without(const struct roles_view *v, uint64_t gone)
{
    uint32_t voters = 0, active = 0;

    for (uint32_t i = 0; i < v->config->member_count; i++) {
        const struct raft_member *member = &v->config->members[i];

        if (member->role != RAFT_VOTER || member->raft_id == gone)
            continue;
        voters++;
        active += peer_active(v, member->raft_id);
    }
    return voters > 0 && active >= voters / 2 + 1;
}

/* A member whose node is gone or is to be a worker. */
static bool member_unwanted(const struct roles_view *v, const struct raft_member *member)
{
    const Skep__Node *node = store_node(v->store, member->node_id.s);

    return node == NULL || node->spec->desired_role != SKEP__NODE_ROLE__ROLE_MANAGER;
}

static bool learner_ready(const struct roles_view *v, const struct raft_member *member)
{
    const struct raft_peer_status *p = peer_find(v, member->raft_id);

    return member->role == RAFT_LEARNER && p != NULL && peer_active(v, member->raft_id) &&
           p->match_index + CAUGHT_UP_LAG_MAX >= v->commit_index;
}

/* Speaks with another incarnation than recorded: its disk went back and it waits to be let in
 * again (managerd/raft/raft.h, fencing). */
static bool member_fenced(const struct roles_view *v, const struct raft_member *member)
{
    const struct raft_peer_status *p = peer_find(v, member->raft_id);

    return p != NULL && !p->counted && p->incarnation != 0 && p->last_contact_ms != 0 &&
           v->now_ms - p->last_contact_ms < v->election_ms;
}

enum roles_action roles_next(const struct roles_view *v, struct raft_ev_config_change *ret)
{
    memset(ret, 0, sizeof(*ret));
    for (uint32_t i = 0; i < v->config->member_count; i++) {
        const struct raft_member *member = &v->config->members[i];

        ret->raft_id = member->raft_id;
        if (member_unwanted(v, member)) {
            if (member->role == RAFT_VOTER && !quorum_without(v, member->raft_id))
                continue; /* asked again: a manager may come back or a learner become a voter */
            ret->change = RAFT_CHANGE_REMOVE;
            return member->raft_id == v->self ? ROLES_TRANSFER : ROLES_CHANGE;
        }
        if (member_fenced(v, member)) {
            ret->change = RAFT_CHANGE_READMIT;
            ret->incarnation = peer_find(v, member->raft_id)->incarnation;
            return ROLES_CHANGE;
        }
        if (learner_ready(v, member)) {
            ret->change = RAFT_CHANGE_PROMOTE;
            return ROLES_CHANGE;
        }
    }
    return ROLES_NOTHING;
}

static const struct raft_member *member_of(const struct roles_view *v, const char *node_id)
{
    for (uint32_t i = 0; i < v->config->member_count; i++) {
        if (strcmp(v->config->members[i].node_id.s, node_id) == 0)
            return &v->config->members[i];
    }
    return NULL;
}

static bool manager_status_differs(const Skep__Node *node, const struct raft_member *member)
{
    if (member == NULL || node->manager == NULL)
        return (member == NULL) != (node->manager == NULL);
    return node->manager->raft_id != member->raft_id ||
           strcmp(node->manager->address, member->address) != 0;
}

static void fill_node(const struct roles_view *v, const Skep__Node *old, struct store_tx *tx)
{
    const struct raft_member *member = member_of(v, old->id);
    Skep__NodeRole role = old->role;
    Skep__Node node = *old;
    Skep__ManagerStatus status = SKEP__MANAGER_STATUS__INIT;

    if (old->spec->desired_role == SKEP__NODE_ROLE__ROLE_MANAGER)
        role = SKEP__NODE_ROLE__ROLE_MANAGER;
    else if (member == NULL)
        role = SKEP__NODE_ROLE__ROLE_WORKER;
    if (role == old->role && !manager_status_differs(old, member))
        return;
    node.role = role;
    node.manager = NULL;
    if (member != NULL) {
        status.raft_id = member->raft_id;
        status.address = (char *)member->address;
        node.manager = &status;
    }
    store_tx_update(tx, &node.base, old->meta->version, 0);
}

void roles_fill(const struct roles_view *v, struct store_tx *tx)
{
    const ProtobufCMessage *o;

    for (o = store_first(v->store, SKEP__KIND__KIND_NODE); o != NULL && !store_tx_full(tx);
         o = store_after(v->store, SKEP__KIND__KIND_NODE, object_id(o)))
        fill_node(v, (const Skep__Node *)o, tx);
}
