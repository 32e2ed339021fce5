/* Follows this host's identity, which managerd of the same host, an operator or this agent's own
 * enrolment may write, replace or take away:
 *
 *   none -> one          take it up: list its containers, open a session
 *   same node, renewed   new credentials for new connections
 *   another, or none     leave: stop and remove the old identity's containers, then take up the new
 *
 * Polled once a second: the files are the only interface between the two daemons. */
#include "agentd/internal.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"

enum { ENROL_BACKOFF_MS_FIRST = 1000, ENROL_BACKOFF_MS_MAX = 30 * 1000 };

static void poll_fired(void *ctx, uint64_t now_ms);

static int make_tls(struct agent *ag, const struct identity *id, struct err *e)
{
    struct tls_context_options o = {
        .check = TLS_CHECK_CLUSTER,
        .root_ca_pem = id->root_ca_pem,
        .node_pem = id->node_pem,
    };

    if (ag->membership.tls != NULL)
        return tls_context_update(ag->membership.tls, &o, e);
    ag->membership.tls = tls_context_new(&o, e);
    return ag->membership.tls == NULL ? -ERR_INVALID : 0;
}

/* ---- taking up and leaving ---- */

static void keep_identity(struct agent *ag, struct identity *id)
{
    identity_free(ag->membership.identity);
    ag->membership.identity = id;
    link_plan_renewal(ag, id->not_before_ns, id->tls.not_after_ns);
}

static void take_up(struct agent *ag, struct identity *id)
{
    ag->node_id = id->tls.node;
    ag->cluster_id = id->tls.cluster;
    keep_identity(ag, id);
    log_info("identity", "node=%s cluster=%s managers=%zu", id->tls.node.s, id->tls.cluster.s,
             id->manager_count);
    ag->roster.complete = false;
    networks_take_up(ag);
    watch_restart(ag);
    link_set_managers(ag, id->managers, id->manager_count);
}

static void leave(struct agent *ag)
{
    struct membership *m = &ag->membership;

    log_info("identity.left", "node=%s cluster=%s next=remove_containers", ag->node_id.s,
             ag->cluster_id.s);
    m->leaving = true;
    link_step_type(ag, SESSION_EV_STOP);
    identity_free(m->identity);
    m->identity = NULL;
    tls_context_free(m->tls);
    m->tls = NULL;
    agent_drop_all(ag);
    watch_list(ag); /* its answer finds containers that had no task here */
    if (ag->watch.listed)
        agent_reconcile_found(ag);
}

void membership_left(struct agent *ag)
{
    struct membership *m = &ag->membership;

    if (!m->leaving || !ag->watch.listed)
        return;
    log_info("identity.gone", "node=%s", ag->node_id.s);
    networks_leave(ag);
    m->leaving = false;
    m->stamp = 0; /* look for another at the next poll */
    memset(&ag->node_id, 0, sizeof(ag->node_id));
    memset(&ag->cluster_id, 0, sizeof(ag->cluster_id));
    watch_restart(ag);
}

/* ---- enrolment ---- */

static void enrolled(void *ctx, int rc, const struct identity *id, const struct err *e)
{
    struct agent *ag = ctx;
    struct membership *m = &ag->membership;

    if (rc == 0) {
        log_info("enrol.done", "node=%s", id->tls.node.s);
        m->enrol_at_ms = UINT64_MAX; /* once; what is on disk counts from now on */
    } else {
        log_warn("enrol.failed", "error=\"%s\" next=retry", err_message(e, rc));
        m->enrol_backoff_ms = m->enrol_backoff_ms == 0
                                  ? ENROL_BACKOFF_MS_FIRST
                                  : MIN(2 * m->enrol_backoff_ms, (uint32_t)ENROL_BACKOFF_MS_MAX);
        m->enrol_at_ms = loop_now_ms(ag->loop) + m->enrol_backoff_ms / 2 +
                         prng_below(&ag->link.prng, m->enrol_backoff_ms);
    }
    loop_timer_set(ag->loop, &m->timer, loop_now_ms(ag->loop), poll_fired, ag);
}

static void enrol(struct agent *ag, uint64_t now_ms)
{
    struct membership *m = &ag->membership;
    struct enrol_options o = {
        .state_dir = ag->o.state_dir,
        .remotes = ag->o.join,
        .remote_count = ag->o.join_count,
        .token = ag->o.token,
        .availability = ag->o.availability,
    };
    struct err e = { 0 };

    if (ag->o.join_count == 0 || ag->o.token[0] == '\0' || now_ms < m->enrol_at_ms)
        return;
    enrol_cancel(m->enrol);
    m->enrol_at_ms = now_ms + ENROL_TIMEOUT_MS * (ag->o.join_count + 1);
    m->enrol = enrol_start(ag->rpc, ag->loop, &o, enrolled, ag, &e);
    if (m->enrol == NULL) {
        log_error("enrol.failed", "error=\"%s\" next=none", e.message);
        m->enrol_at_ms = UINT64_MAX;
    }
}

/* ---- polling ---- */

static void load(struct agent *ag)
{
    struct membership *m = &ag->membership;
    struct identity *id = NULL;
    struct err e = { 0 };
    int rc = identity_load(ag->o.state_dir, &id, &e);
    bool same = rc == 0 && m->identity != NULL && id_equal(&id->tls.node, &m->identity->tls.node) &&
                id_equal(&id->tls.cluster, &m->identity->tls.cluster);

    if (rc < 0 && rc != -ERR_NOT_FOUND) {
        log_error("identity", "error=\"%s\" next=retry", e.message);
        return; /* being written, or damaged: never a reason to stop containers */
    }
    if (m->identity != NULL && !same) {
        identity_free(id);
        leave(ag);
        return;
    }
    if (rc < 0)
        return;
    if (make_tls(ag, id, &e) < 0) {
        log_error("identity", "error=\"%s\" next=retry", e.message);
        identity_free(id);
        m->stamp = 0;
        return;
    }
    m->enrol_at_ms = UINT64_MAX;
    if (!same) {
        take_up(ag, id);
        return;
    }
    log_info("identity.renewed", "node=%s role=%s", id->tls.node.s,
             id->tls.role == TLS_ROLE_MANAGER ? "manager" : "worker");
    keep_identity(ag, id);
}

static void poll_fired(void *ctx, uint64_t now_ms)
{
    struct agent *ag = ctx;
    struct membership *m = &ag->membership;
    uint64_t stamp = identity_stamp(ag->o.state_dir);

    loop_timer_set(ag->loop, &m->timer, now_ms + MEMBERSHIP_POLL_MS, poll_fired, ag);
    if (!m->leaving && stamp != m->stamp) {
        m->stamp = stamp;
        load(ag);
    }
    if (m->identity == NULL && !m->leaving && stamp == 0)
        enrol(ag, now_ms);
    link_check_renewal(ag, now_ms);
}

int membership_start(struct agent *ag, struct err *e)
{
    (void)e;
    poll_fired(ag, loop_now_ms(ag->loop));
    return 0;
}

void membership_stop(struct agent *ag)
{
    struct membership *m = &ag->membership;

    loop_timer_cancel(ag->loop, &m->timer);
    enrol_cancel(m->enrol);
    m->enrol = NULL;
    identity_free(m->identity);
    m->identity = NULL;
    tls_context_free(m->tls);
    m->tls = NULL;
}
