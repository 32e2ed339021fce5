/* What this host knows of the cluster, answered without a quorum: that is when it is needed. */
#include <string.h>

#include "managerd/control/control.h"
#include "managerd/manager.h"

static const char *hostname_of(const struct manager *m, const char *node_id)
{
    const Skep__Node *node = store_node(m->store, node_id);

    return node != NULL && node->description != NULL ? node->description->hostname : "";
}

static void fill_member(struct manager *m, const struct raft_member *member,
                        const struct raft_status *status, Skep__ManagerInfo *out, struct arena *a)
{
    struct raft_peer_status peers[RAFT_MEMBERS_MAX];
    size_t count = raft_node_peers(m->raft, peers);
    uint64_t now = loop_now_ms(m->loop);

    skep__manager_info__init(out);
    out->raft_id = member->raft_id;
    out->node_id = arena_strdup(a, member->node_id.s);
    out->hostname = arena_strdup(a, hostname_of(m, member->node_id.s));
    out->address = arena_strdup(a, member->address);
    out->leader = member->raft_id == status->leader;
    out->voter = member->role == RAFT_VOTER;
    out->last_contact_ms = -1;
    if (member->raft_id == status->raft_id) {
        out->last_contact_ms = 0;
    } else {
        uint64_t seen = manager_last_contact_ms(m, member->raft_id);

        for (size_t i = 0; i < count; i++) {
            if (peers[i].raft_id == member->raft_id)
                seen = MAX(seen, peers[i].last_contact_ms);
        }
        if (seen != 0)
            out->last_contact_ms = (int64_t)(now - MIN(seen, now));
    }
    if (out->last_contact_ms >= 0)
        out->reachability = out->last_contact_ms < 2 * (int64_t)m->options.election_ms
                                ? SKEP__REACHABILITY__REACHABILITY_REACHABLE
                                : SKEP__REACHABILITY__REACHABILITY_UNREACHABLE;
    else
        out->reachability = SKEP__REACHABILITY__REACHABILITY_UNREACHABLE;
}

size_t info_members(struct manager *m, struct control_member *ret)
{
    const struct raft_config *config = raft_node_config(m->raft);
    CLEANUP_ARENA struct arena arena = { 0 };
    struct raft_status status;

    raft_node_status(m->raft, &status);
    for (uint32_t i = 0; i < config->member_count; i++) {
        Skep__ManagerInfo info;

        fill_member(m, &config->members[i], &status, &info, &arena);
        ret[i] = (struct control_member){ .raft_id = info.raft_id,
                                          .leader = info.leader,
                                          .reachable = info.reachability ==
                                                       SKEP__REACHABILITY__REACHABILITY_REACHABLE };
    }
    return config->member_count;
}

static bool seen_recently(const struct manager *m, const struct raft_status *status,
                          const struct raft_member *member)
{
    uint64_t seen = manager_last_contact_ms(m, member->raft_id);

    return member->raft_id == status->raft_id ||
           (seen != 0 && loop_now_ms(m->loop) - seen < 2 * (uint64_t)m->options.election_ms);
}

/* With a leader: does it reach a majority? Without one: could one be elected? A follower hears only
 * its leader, so between two leaders it goes by who was there a moment ago: the call is then worth
 * waiting for. */
static bool quorum_possible(struct manager *m, const struct raft_status *status)
{
    const struct raft_config *config = raft_node_config(m->raft);
    uint32_t recent = 0;

    if (raft_node_has_quorum(m->raft))
        return true;
    if (status->state == RAFT_LEADER)
        return false;
    for (uint32_t i = 0; i < config->member_count; i++)
        recent +=
            config->members[i].role == RAFT_VOTER && seen_recently(m, status, &config->members[i]);
    return recent > raft_config_voter_count(config) / 2;
}

static void fill_raft(struct manager *m, Skep__InfoResponse *out, struct arena *a)
{
    const struct raft_config *config = raft_node_config(m->raft);
    struct raft_status status;

    raft_node_status(m->raft, &status);
    out->raft_term = status.term;
    out->raft_index = status.applied_index;
    out->quorum = quorum_possible(m, &status);
    out->managers = config->member_count;
    out->members = arena_array(a, config->member_count, sizeof(*out->members));
    out->manager_addresses = arena_array(a, config->member_count, sizeof(char *));
    for (uint32_t i = 0; i < config->member_count; i++) {
        out->members[i] = ARENA_NEW(a, Skep__ManagerInfo);
        fill_member(m, &config->members[i], &status, out->members[i], a);
        out->manager_addresses[i] = out->members[i]->address;
        if (out->members[i]->leader)
            out->leader_id = out->members[i]->node_id;
    }
    out->n_members = out->n_manager_addresses = config->member_count;
}

static void fill_cluster(struct manager *m, Skep__InfoResponse *out, struct arena *a)
{
    const Skep__Cluster *cluster = store_cluster(m->store);
    const Skep__Node *self = store_node(m->store, m->identity->tls.node.s);

    if (self != NULL && self->description != NULL)
        out->network = self->description->network;
    out->nodes = (uint32_t)store_count(m->store, SKEP__KIND__KIND_NODE);
    if (cluster == NULL)
        return;
    out->cluster = cluster->spec;
    out->created_at = cluster->meta->created_at;
    if (cluster->root_ca != NULL)
        out->root_digest = arena_strdup(a, cluster->root_ca->digest);
}

void info_call(struct incoming *in)
{
    struct manager *m = in->manager;
    Skep__InfoResponse answer = SKEP__INFO_RESPONSE__INIT;
    struct err e = { 0 };

    answer.version = (char *)SKEP_VERSION;
    answer.state = SKEP__INFO_RESPONSE__STATE__INACTIVE;
    answer.address = m->advertise;
    if (m->identity != NULL) {
        answer.node_id = m->identity->tls.node.s;
        answer.cluster_id = m->identity->tls.cluster.s;
        answer.is_manager = m->state == MANAGER_ACTIVE;
        answer.state = m->state == MANAGER_JOINING ? SKEP__INFO_RESPONSE__STATE__PENDING
                                                   : SKEP__INFO_RESPONSE__STATE__ACTIVE;
    }
    if (m->state == MANAGER_JOINING)
        answer.error = m->join_error;
    if (m->raft != NULL && m->state == MANAGER_ACTIVE) {
        fill_raft(m, &answer, &in->arena);
        fill_cluster(m, &answer, &in->arena);
        if (answer.leader_id[0] == '\0' || !answer.quorum) {
            calls_explain_no_leader(m, &e);
            answer.error = e.message;
            answer.state = SKEP__INFO_RESPONSE__STATE__ERROR;
        }
    }
    incoming_reply(in, &answer.base);
}

/* One sentence within err's size; `ctl info` has the member list. */
void calls_explain_no_leader(struct manager *m, struct err *e)
{
    if (m->raft == NULL) {
        (void)err_set(e, ERR_UNAVAILABLE, "this manager is leaving or stopping; ask another one");
        return;
    }
    const struct raft_config *config = raft_node_config(m->raft);
    uint64_t now = loop_now_ms(m->loop);
    uint32_t voters = raft_config_voter_count(config), seen_count = 0;
    char last[96] = "";
    struct raft_status status;

    raft_node_status(m->raft, &status);
    if (status.fenced) {
        (void)err_set(e, ERR_UNAVAILABLE,
                      "this manager's data is a copy or went back, so it waits for the others to "
                      "let it in again; if they are lost for good, run 'ctl swarm init "
                      "--force-new-cluster' here");
        return;
    }
    for (uint32_t i = 0; i < config->member_count; i++) {
        const struct raft_member *member = &config->members[i];
        uint64_t seen = manager_last_contact_ms(m, member->raft_id);
        bool recent = seen_recently(m, &status, member);

        if (member->role != RAFT_VOTER)
            continue;
        seen_count += recent;
        if (recent)
            continue;
        size_t used = strlen(last);
        const char *name = hostname_of(m, member->node_id.s);

        if (seen == 0)
            (void)snprintf(last + used, sizeof(last) - used, "%s%s never", used > 0 ? ", " : "",
                           name[0] != '\0' ? name : member->address);
        else
            (void)snprintf(last + used, sizeof(last) - used, "%s%s %lu s ago", used > 0 ? ", " : "",
                           name[0] != '\0' ? name : member->address,
                           (unsigned long)((now - seen) / 1000));
    }
    (void)err_set(e, ERR_UNAVAILABLE,
                  "The swarm does not have a leader: %u of %u managers are online, %u are needed; "
                  "last seen: %s. Start managerd there",
                  seen_count, voters, voters / 2 + 1,
                  last[0] != '\0' ? last : "all now (electing)");
}
