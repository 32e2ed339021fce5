/* Raft membership and node roles follow the store: asks managerd/roles on a timer, one change and
 * one transaction at a time. */
#include <string.h>

#include "common/log.h"
#include "managerd/manager.h"
#include "managerd/roles/roles.h"

enum { MEMBERS_INTERVAL_MS = 250 };

static void on_member_changed(void *ctx, int rc, uint64_t index)
{
    struct manager *m = ctx;

    (void)index; /* on_config tells everybody */
    m->member_change_in_flight = false;
    if (rc < 0)
        log_debug("members.change", "error=\"%s\" next=\"tried again\"", err_str(rc));
}

static void on_roles_applied(void *ctx, int rc, const struct err *e)
{
    struct manager *m = ctx;

    m->member_tx_in_flight = false;
    if (rc < 0)
        log_debug("members.roles", "error=\"%s\" next=\"tried again\"", err_message(e, rc));
}

static void change_membership(struct manager *m, const struct roles_view *view)
{
    struct raft_ev_config_change change;

    switch (roles_next(view, &change)) {
    case ROLES_NOTHING:
        break;
    case ROLES_CHANGE:
        m->member_change_in_flight = true;
        if (change.change == RAFT_CHANGE_READMIT)
            log_warn("members.readmit",
                     "raft_id=%lx reason=\"its disk went back or is a copy\" remedy=\"none; but if "
                     "this comes again and again, two machines run as one: stop one of them\"",
                     (unsigned long)change.raft_id);
        log_info("members.change", "change=%d raft_id=%lx", (int)change.change,
                 (unsigned long)change.raft_id);
        raft_node_change_config(m->raft, &change, on_member_changed, m);
        break;
    case ROLES_TRANSFER:
        log_info("members.transfer", "reason=\"this leader is being demoted\"");
        if (raft_node_transfer(m->raft, RAFT_NONE) < 0)
            log_debug("members.transfer", "next=\"tried again\"");
        break;
    default:
        break;
    }
}

static void on_members_timer(void *ctx, uint64_t now_ms)
{
    struct manager *m = ctx;
    struct raft_peer_status peers[RAFT_MEMBERS_MAX];
    struct raft_status status;

    loop_timer_set(m->loop, &m->members_timer, now_ms + MEMBERS_INTERVAL_MS, on_members_timer, m);
    if (!m->leading || m->raft == NULL || store_cluster(m->store) == NULL)
        return;
    raft_node_status(m->raft, &status);
    struct roles_view view = {
        .store = m->store,
        .config = raft_node_config(m->raft),
        .peers = peers,
        .peer_count = raft_node_peers(m->raft, peers),
        .self = status.raft_id,
        .commit_index = status.commit_index,
        .now_ms = now_ms,
        .election_ms = m->options.election_ms,
    };
    if (!m->member_change_in_flight)
        change_membership(m, &view);
    if (!m->member_tx_in_flight) {
        struct store_tx *tx = store_tx_new();

        roles_fill(&view, tx);
        if (store_tx_action_count(tx) > 0) {
            m->member_tx_in_flight = true;
            leader_propose(m, tx, NULL, on_roles_applied, m);
        }
        store_tx_free(tx);
    }
}

void members_init(struct manager *m)
{
    loop_timer_set(m->loop, &m->members_timer, loop_now_ms(m->loop) + MEMBERS_INTERVAL_MS,
                   on_members_timer, m);
}
