/* Makes the calls that the session machine (worker/session.h) asks for and tells it how they ended.
 * One connection at a time; a call's context carries the connection's number, so that an answer
 * which comes after a drop changes nothing. */
#include "agentd/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentd/worker/plain.h"
#include "common/assert.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/random.h"

enum { RENEW_RETRY_MS = 60 * 1000 };

struct link_call {
    struct agent *ag;
    uint64_t epoch;
    enum session_call kind;
};

/* ---- answers ---- */

static const ProtobufCMessageDescriptor *answer_type(enum session_call kind)
{
    static const ProtobufCMessageDescriptor *const types[] = {
        [SESSION_CALL_OPEN] = &skep__session_response__descriptor,
        [SESSION_CALL_BEAT] = &skep__heartbeat_response__descriptor,
        [SESSION_CALL_ASSIGNMENTS] = &skep__assignments_response__descriptor,
        [SESSION_CALL_REPORT] = &skep__task_status_response__descriptor,
        [SESSION_CALL_LOGS] = &skep__log_subscriptions_response__descriptor,
        [SESSION_CALL_NETWORKS] = &skep__networks_response__descriptor,
    };

    ASSERT((size_t)kind < ARRAY_LEN(types));
    return types[kind];
}

static void save_managers(struct agent *ag, Skep__ManagerAddress **m, size_t count)
{
    char *addresses[IDENTITY_MANAGERS_MAX];
    struct identity *id = ag->membership.identity;
    struct err e = { 0 };
    size_t n = 0;
    bool same;

    for (size_t i = 0; i < count && n < IDENTITY_MANAGERS_MAX; i++)
        if (m[i]->address[0] != '\0' && strlen(m[i]->address) <= IDENTITY_ADDRESS_CHARS_MAX)
            addresses[n++] = m[i]->address;
    if (n == 0 || id == NULL)
        return;
    same = n == id->manager_count;
    for (size_t i = 0; i < n && same; i++)
        same = strcmp(addresses[i], id->managers[i]) == 0;
    if (same)
        return;
    log_info("managers", "count=%zu first=%s", n, addresses[0]);
    if (identity_save_managers(ag->o.state_dir, addresses, n, &e) < 0)
        log_warn("managers", "error=\"%s\" next=keep_in_memory", e.message);
    for (size_t i = 0; i < id->manager_count; i++)
        free(id->managers[i]);
    for (size_t i = 0; i < n; i++)
        id->managers[i] = xstrdup(addresses[i]);
    id->manager_count = n;
    link_set_managers(ag, id->managers, n);
}

static void save_generation(struct agent *ag, uint64_t generation)
{
    struct identity *id = ag->membership.identity;
    struct err e = { 0 };

    if (id == NULL || id->generation >= generation)
        return;
    if (identity_save_generation(ag->o.state_dir, generation, &e) < 0)
        log_warn("session.generation", "error=\"%s\" next=keep_in_memory", e.message);
    id->generation = generation;
}

static void take_open(struct agent *ag, const Skep__SessionResponse *m, struct session_event *ev)
{
    ev->session_id = m->session_id;
    ev->heartbeat_ms = m->heartbeat_ms;
    ev->generation = MAX(m->generation, (uint64_t)1); /* 0: of a version before generations */
    if (ev->generation < ag->link.session.generation) {
        log_warn("session.generation",
                 "manager=%s generation=%llu seen=%llu next=try_another "
                 "remedy=\"this manager was left behind by --force-new-cluster: "
                 "let it leave and join again\"",
                 ag->link.session.address, (unsigned long long)ev->generation,
                 (unsigned long long)ag->link.session.generation);
        return;
    }
    save_generation(ag, ev->generation);
    ag->link.described_seq = ag->link.sending_seq;
    log_info("session.open", "manager=%s session=%s heartbeat_ms=%u", ag->link.session.address,
             m->session_id, m->heartbeat_ms);
    save_managers(ag, m->managers, m->n_managers);
}

static void take_beat(struct agent *ag, const Skep__HeartbeatResponse *m, struct session_event *ev)
{
    ev->heartbeat_ms = m->heartbeat_ms;
    ag->link.described_seq = ag->link.sending_seq;
    if (m->renew_certificate && ag->link.renew_at_ms != UINT64_MAX)
        ag->link.renew_at_ms = MAX((uint64_t)1, MIN(ag->link.renew_at_ms, ev->now_ms));
    save_managers(ag, m->managers, m->n_managers);
}

static void take_report(struct agent *ag, const Skep__TaskStatusResponse *m,
                        struct session_event *ev)
{
    roster_report_done(&ag->roster, true);
    for (size_t i = 0; i < m->n_unknown_tasks; i++) {
        struct roster_entry *en = roster_find(&ag->roster, m->unknown_tasks[i]);

        if (en != NULL && !en->task.unassigned) {
            log_info("task.unknown", "task=%s next=remove", en->id);
            agent_feed_type(ag, en, TASK_EV_UNASSIGNED);
        }
    }
    ev->more = roster_has_reports(&ag->roster);
}

/* Acts on an answer before the machine hears of it. */
static void take_answer(struct agent *ag, enum session_call kind, const ProtobufCMessage *m,
                        struct session_event *ev)
{
    switch (kind) {
    case SESSION_CALL_OPEN:
        take_open(ag, (const Skep__SessionResponse *)m, ev);
        break;
    case SESSION_CALL_BEAT:
        take_beat(ag, (const Skep__HeartbeatResponse *)m, ev);
        break;
    case SESSION_CALL_ASSIGNMENTS:
        ev->token = ((const Skep__AssignmentsResponse *)m)->token;
        agent_apply(ag, (const Skep__AssignmentsResponse *)m);
        break;
    case SESSION_CALL_REPORT:
        take_report(ag, (const Skep__TaskStatusResponse *)m, ev);
        break;
    case SESSION_CALL_LOGS:
        ev->token = ((const Skep__LogSubscriptionsResponse *)m)->token;
        relay_apply(ag, (const Skep__LogSubscriptionsResponse *)m);
        break;
    case SESSION_CALL_NETWORKS:
        ev->token = ((const Skep__NetworksResponse *)m)->token;
        networks_apply(ag, (const Skep__NetworksResponse *)m);
        break;
    case SESSION_CALL_COUNT:
    default:
        UNREACHABLE();
    }
}

static void tell_failure(struct agent *ag, enum session_call kind, int rc, const struct err *e)
{
    static const char *const names[] = { "session", "heartbeat", "assignments",
                                         "report",  "logs",      "networks" };

    if (kind == SESSION_CALL_REPORT) {
        roster_report_done(&ag->roster, false);
        link_step_type(ag, SESSION_EV_REPORTS);
    }
    if (kind == SESSION_CALL_LOGS || (kind == SESSION_CALL_NETWORKS && rc == -ERR_UNSUPPORTED))
        log_debug("session.call", "call=%s error=\"%s\"", names[kind], err_message(e, rc));
    else
        log_warn("session.call", "call=%s manager=%s error=\"%s\" next=retry", names[kind],
                 ag->link.session.address, err_message(e, rc));
}

static void call_done(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    struct link_call call = *(struct link_call *)ctx;
    struct agent *ag = call.ag;
    struct session_event ev = { .type = SESSION_EV_DONE,
                                .now_ms = loop_now_ms(ag->loop),
                                .call = call.kind,
                                .session_id = "" };
    ProtobufCMessage *m = NULL;
    struct err why = { 0 };

    free(ctx);
    if (call.epoch != ag->link.epoch)
        return;
    if (e != NULL)
        why = *e;
    if (rc == 0)
        rc = rpc_decode(&response->body, answer_type(call.kind), &m, &why);
    ev.rc = rc;
    ev.leader_address = response == NULL ? "" : response->leader_address;
    if (rc == 0)
        take_answer(ag, call.kind, m, &ev);
    else
        tell_failure(ag, call.kind, rc, &why);
    if (call.epoch == ag->link.epoch)
        link_step(ag, &ev);
    if (m != NULL)
        protobuf_c_message_free_unpacked(m, NULL);
}

/* ---- requests ---- */

static int call_start(struct agent *ag, enum session_call kind, Skep__Method method,
                      const ProtobufCMessage *body, uint32_t deadline_ms)
{
    struct link_call *call = xcalloc(1, sizeof(*call));
    struct rpc_request r = { .method = method, .body = body, .deadline_ms = deadline_ms };
    int rc;

    *call = (struct link_call){ ag, ag->link.epoch, kind };
    rc = ag->link.client == NULL ? -ERR_UNAVAILABLE
                                 : rpc_call_start(ag->link.client, &r, call_done, call, NULL);
    if (rc < 0)
        free(call);
    return rc;
}

static int send_open(struct agent *ag)
{
    Skep__SessionRequest m = SKEP__SESSION_REQUEST__INIT;

    m.description = ag->watch.description;
    m.boot_id = ag->link.boot_id;
    m.generation = ag->link.session.generation;
    ag->link.sending_seq = ag->watch.description_seq;
    return call_start(ag, SESSION_CALL_OPEN, SKEP__METHOD__METHOD_SESSION, &m.base,
                      SESSION_CALL_MS);
}

static int send_beat(struct agent *ag)
{
    Skep__HeartbeatRequest m = SKEP__HEARTBEAT_REQUEST__INIT;

    m.session_id = ag->link.session.id;
    if (ag->membership.identity != NULL)
        m.certificate_role = (uint32_t)ag->membership.identity->tls.role;
    ag->link.sending_seq = ag->watch.description_seq;
    if (ag->link.described_seq != ag->link.sending_seq)
        m.description = ag->watch.description;
    return call_start(ag, SESSION_CALL_BEAT, SKEP__METHOD__METHOD_HEARTBEAT, &m.base,
                      SESSION_CALL_MS);
}

static int send_assignments(struct agent *ag)
{
    Skep__AssignmentsRequest m = SKEP__ASSIGNMENTS_REQUEST__INIT;

    m.session_id = ag->link.session.id;
    m.since = ag->link.session.assignments_token;
    m.wait_ms = SESSION_WAIT_MS;
    if (m.since == 0)
        roster_expect_complete(&ag->roster);
    return call_start(ag, SESSION_CALL_ASSIGNMENTS, SKEP__METHOD__METHOD_ASSIGNMENTS, &m.base,
                      SESSION_WAIT_MS + SESSION_CALL_MS);
}

static int send_report(struct agent *ag)
{
    Skep__TaskStatusRequest m = SKEP__TASK_STATUS_REQUEST__INIT;
    struct arena a = { 0 };
    int rc = 0;

    m.session_id = ag->link.session.id;
    if (roster_report(&ag->roster, &a, &m) > 0)
        rc = call_start(ag, SESSION_CALL_REPORT, SKEP__METHOD__METHOD_TASK_STATUS, &m.base,
                        2 * SESSION_CALL_MS);
    else
        rc = -ERR_CANCELED; /* nothing to say: ends without a call */
    arena_deinit(&a);
    if (rc < 0)
        roster_report_done(&ag->roster, false);
    return rc;
}

static int send_logs(struct agent *ag)
{
    Skep__LogSubscriptionsRequest m = SKEP__LOG_SUBSCRIPTIONS_REQUEST__INIT;

    m.session_id = ag->link.session.id;
    m.since = ag->link.session.logs_token;
    m.wait_ms = SESSION_WAIT_MS;
    return call_start(ag, SESSION_CALL_LOGS, SKEP__METHOD__METHOD_LOG_SUBSCRIPTIONS, &m.base,
                      SESSION_WAIT_MS + SESSION_CALL_MS);
}

static int send_networks(struct agent *ag)
{
    Skep__NetworksRequest m = SKEP__NETWORKS_REQUEST__INIT;

    m.session_id = ag->link.session.id;
    m.since = ag->link.session.networks_token;
    m.wait_ms = SESSION_WAIT_MS;
    if (m.since == 0)
        networks_expect_complete(ag);
    return call_start(ag, SESSION_CALL_NETWORKS, SKEP__METHOD__METHOD_NETWORKS, &m.base,
                      SESSION_WAIT_MS + SESSION_CALL_MS);
}

static int send_call(struct agent *ag, enum session_call kind)
{
    static int (*const senders[])(struct agent *) = {
        [SESSION_CALL_OPEN] = send_open,
        [SESSION_CALL_BEAT] = send_beat,
        [SESSION_CALL_ASSIGNMENTS] = send_assignments,
        [SESSION_CALL_REPORT] = send_report,
        [SESSION_CALL_LOGS] = send_logs,
        [SESSION_CALL_NETWORKS] = send_networks,
    };

    ASSERT((size_t)kind < ARRAY_LEN(senders));
    return senders[kind](ag);
}

/* ---- connection ---- */

static void disconnect(struct agent *ag)
{
    struct rpc_client *old = ag->link.client;

    ag->link.epoch++;
    ag->link.client = NULL;
    ag->link.described_seq = 0;
    roster_report_done(&ag->roster, false);
    relay_drop(ag);
    if (old != NULL)
        rpc_client_free(old);
}

static void connect_to(struct agent *ag, const char *address)
{
    char url[SESSION_ADDRESS_BYTES_MAX + 16];
    struct rpc_client_options o = {
        .url = url,
        .tls = ag->membership.tls,
        .server_role = TLS_ROLE_MANAGER,
    };
    struct err e = { 0 };

    if (ag->link.client != NULL)
        disconnect(ag);
    ag->link.epoch++;
    plain_format(url, sizeof(url), "tls+tcp://%s", address);
    ag->link.client = rpc_client_new(ag->rpc, &o, &e);
    if (ag->link.client == NULL)
        log_warn("session.connect", "manager=%s error=\"%s\" next=retry", address, e.message);
}

/* ---- driving the machine ---- */

static void link_timer_fired(void *ctx, uint64_t now_ms)
{
    (void)now_ms;
    link_step_type(ctx, SESSION_EV_TIMER);
}

static void call_failed_at_once(struct agent *ag, enum session_call kind, int rc)
{
    struct session_event ev = { .type = SESSION_EV_DONE,
                                .now_ms = loop_now_ms(ag->loop),
                                .call = kind,
                                .rc = rc == -ERR_CANCELED ? 0 : rc,
                                .session_id = "",
                                .leader_address = "" };

    link_step(ag, &ev);
}

void link_step(struct agent *ag, const struct session_event *event)
{
    struct link *l = &ag->link;
    struct session_event ev = *event;
    struct session_effects fx;
    uint64_t epoch;

    ev.prng = &l->prng;
    session_step(&l->session, &ev, &fx);
    if (fx.drop)
        disconnect(ag);
    if (fx.connect != NULL)
        connect_to(ag, fx.connect);
    if (fx.timer_at_ms == 0)
        loop_timer_cancel(ag->loop, &l->timer);
    else
        loop_timer_set(ag->loop, &l->timer, fx.timer_at_ms, link_timer_fired, ag);
    epoch = l->epoch;
    for (size_t i = 0; i < SESSION_CALL_COUNT; i++) {
        int rc = fx.start[i] && epoch == l->epoch ? send_call(ag, (enum session_call)i) : 0;

        if (rc < 0)
            call_failed_at_once(ag, (enum session_call)i, rc);
    }
}

void link_step_type(struct agent *ag, enum session_event_type type)
{
    struct session_event ev = { .type = type, .now_ms = loop_now_ms(ag->loop) };

    link_step(ag, &ev);
}

void link_set_managers(struct agent *ag, char *const *addresses, size_t count)
{
    const struct identity *id = ag->membership.identity;
    struct session_event ev = { .type = SESSION_EV_MANAGERS,
                                .now_ms = loop_now_ms(ag->loop),
                                .addresses = (const char *const *)addresses,
                                .generation = id == NULL ? 0 : id->generation,
                                .address_count = count };

    link_step(ag, &ev);
}

int link_call(struct agent *ag, const struct rpc_request *r, rpc_done_fn *done, void *ctx,
              struct err *e)
{
    if (ag->link.client == NULL || ag->link.session.phase != SESSION_LIVE)
        return err_set(e, ERR_UNAVAILABLE, "no session with a manager");
    return rpc_call_start(ag->link.client, r, done, ctx, e);
}

/* ---- renewal ---- */

static void renewed(void *ctx, int rc, const struct err *e)
{
    struct agent *ag = ctx;

    ag->link.renewing = false;
    if (rc == 0) {
        log_info("certificate.renewed", "node=%s", ag->node_id.s);
        ag->link.renew_at_ms = UINT64_MAX; /* until membership.c has loaded it */
        return;
    }
    log_warn("certificate.renew", "error=\"%s\" next=retry", err_message(e, rc));
    ag->link.renew_at_ms =
        loop_now_ms(ag->loop) + RENEW_RETRY_MS / 2 + prng_below(&ag->link.prng, RENEW_RETRY_MS);
}

void link_plan_renewal(struct agent *ag, int64_t not_before_ns, int64_t not_after_ns)
{
    int64_t life_ms = MAX((int64_t)0, not_after_ns - not_before_ns) / 1000000;
    int64_t past_ms = (clock_wall_ns() - not_before_ns) / 1000000;
    int64_t at_ms =
        life_ms / 2 + (int64_t)prng_below(&ag->link.prng, (uint64_t)(life_ms * 3 / 10) + 1);

    ag->link.renew_at_ms = loop_now_ms(ag->loop) + (uint64_t)MAX((int64_t)0, at_ms - past_ms) + 1;
}

void link_check_renewal(struct agent *ag, uint64_t now_ms)
{
    struct link *l = &ag->link;
    struct err e = { 0 };
    int rc;

    if (l->renewing || l->renew_at_ms == 0 || now_ms < l->renew_at_ms || l->client == NULL ||
        l->session.phase != SESSION_LIVE || ag->membership.identity == NULL)
        return;
    l->renewing = true;
    rc = renew_start(l->client, ag->o.state_dir, ag->membership.identity, renewed, ag, &e);
    if (rc < 0)
        renewed(ag, rc, &e);
}

/* ---- life ---- */

/* One random id per boot and host, kept below the run directory, which a reboot empties: it tells a
 * restarted agent from a clone of its disk. */
static void load_boot_id(struct agent *ag)
{
    CLEANUP_FREE char *path = xasprintf("%s/agent-boot-id", ag->o.run_dir);
    CLEANUP_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    ssize_t n = fd < 0 ? 0 : read(fd, ag->link.boot_id, sizeof(ag->link.boot_id) - 1);

    ag->link.boot_id[n > 0 ? n : 0] = '\0';
    if (id_valid(ag->link.boot_id))
        return;
    plain_format(ag->link.boot_id, sizeof(ag->link.boot_id), "%s", id_from_prng(&ag->link.prng).s);
    if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, ag->link.boot_id, ID_CHARS, 0) != ID_CHARS)
        log_warn("boot_id", "path=%s error=\"%s\" next=a_new_one_per_start", path, strerror(errno));
}

void link_start(struct agent *ag)
{
    prng_init(&ag->link.prng, random_u64());
    load_boot_id(ag);
}

void link_stop(struct agent *ag)
{
    loop_timer_cancel(ag->loop, &ag->link.timer);
    disconnect(ag);
}
