/* Agents' calls: decode, ask the dispatcher, answer now or when it says so. */
#include <string.h>

#include "common/assert.h"
#include "managerd/control/validate.h"
#include "managerd/manager.h"

enum { AGENT_WAIT_MS_MAX = 60 * 1000, CHECK_MARGIN_MS = 500 };

/* The port of a connection says nothing about the node. */
static void host_of(const char *address, char ret_host[64])
{
    (void)snprintf(ret_host, 64, "%s", address);
    char *colon = strrchr(ret_host, ':');

    if (colon != NULL)
        *colon = 0;
}

void session_call(struct incoming *in)
{
    struct manager *m = in->manager;
    const Skep__SessionRequest *req = (const Skep__SessionRequest *)in->request;
    struct core_env env = manager_env(m);
    char address[64];
    struct dispatcher_call c = { .env = &env,
                                 .node_id = in->caller.node_id,
                                 .address = address,
                                 .arena = &in->arena,
                                 .call = in };
    Skep__SessionResponse answer;
    struct err e = { 0 };
    host_of(in->caller.address, address);
    int rc = req->description != NULL ? control_validate_description(req->description, &e) : 0;

    if (rc == 0)
        rc = dispatcher_open(m->dispatcher, &c, req, &answer, &e);
    if (rc < 0) {
        incoming_fail(in, rc, &e);
        return;
    }
    answer.n_managers = peers_addresses(m, &in->arena, &answer.managers);
    m->cores_due = true;
    incoming_reply(in, &answer.base);
}

/* The certificate it holds says another role than the store: time for a new one. */
static bool role_changed(const struct incoming *in, const Skep__HeartbeatRequest *req)
{
    const Skep__Node *node = store_node(in->manager->store, in->caller.node_id);
    bool manager =
        req->certificate_role != 0 ? req->certificate_role == TLS_ROLE_MANAGER : in->caller.manager;

    return node != NULL && (node->role == SKEP__NODE_ROLE__ROLE_MANAGER) != manager;
}

void heartbeat_call(struct incoming *in)
{
    struct manager *m = in->manager;
    const Skep__HeartbeatRequest *req = (const Skep__HeartbeatRequest *)in->request;
    struct core_env env = manager_env(m);
    char address[64];
    struct dispatcher_call c = { .env = &env,
                                 .node_id = in->caller.node_id,
                                 .address = address,
                                 .arena = &in->arena,
                                 .call = in };
    Skep__HeartbeatResponse answer = SKEP__HEARTBEAT_RESPONSE__INIT;
    struct err e = { 0 };
    host_of(in->caller.address, address);
    int rc = req->description != NULL ? control_validate_description(req->description, &e) : 0;

    if (rc == 0)
        rc = dispatcher_beat(m->dispatcher, &c, req, &answer.heartbeat_ms, &e);
    if (rc < 0) {
        incoming_fail(in, rc, &e);
        return;
    }
    answer.n_managers = peers_addresses(m, &in->arena, &answer.managers);
    answer.renew_certificate = role_changed(in, req);
    m->cores_due = m->cores_due || req->description != NULL;
    incoming_reply(in, &answer.base);
}

void assignments_call(struct incoming *in)
{
    struct manager *m = in->manager;
    const Skep__AssignmentsRequest *req = (const Skep__AssignmentsRequest *)in->request;
    struct core_env env = manager_env(m);
    struct dispatcher_call c = {
        .env = &env,
        .node_id = in->caller.node_id,
        .arena = &in->arena,
        .call = in,
        .until_ms = env.now_ms + MIN(req->wait_ms, (uint32_t)AGENT_WAIT_MS_MAX),
    };
    Skep__AssignmentsResponse answer;
    struct err e = { 0 };
    int rc = dispatcher_assignments(m->dispatcher, &c, req, &answer, &e);

    if (rc < 0)
        incoming_fail(in, rc, &e);
    else if (rc != DISPATCHER_PARKED)
        incoming_reply(in, &answer.base);
}

void networks_call(struct incoming *in)
{
    struct manager *m = in->manager;
    const Skep__NetworksRequest *req = (const Skep__NetworksRequest *)in->request;
    struct core_env env = manager_env(m);
    struct dispatcher_call c = {
        .env = &env,
        .node_id = in->caller.node_id,
        .arena = &in->arena,
        .call = in,
        .until_ms = env.now_ms + MIN(req->wait_ms, (uint32_t)AGENT_WAIT_MS_MAX),
    };
    Skep__NetworksResponse answer;
    struct err e = { 0 };
    int rc = dispatcher_networks(m->dispatcher, &c, req, &answer, &e);

    if (rc < 0)
        incoming_fail(in, rc, &e);
    else if (rc != DISPATCHER_PARKED)
        incoming_reply(in, &answer.base);
}

void network_check_report_call(struct incoming *in)
{
    struct manager *m = in->manager;
    struct core_env env = manager_env(m);
    struct dispatcher_call c = { .env = &env, .node_id = in->caller.node_id };
    Skep__NetworkCheckReportResponse answer = SKEP__NETWORK_CHECK_REPORT_RESPONSE__INIT;
    struct err e = { 0 };
    int rc = dispatcher_check_report(m->dispatcher, &c,
                                     (const Skep__NetworkCheckReport *)in->request, &e);

    if (rc < 0)
        incoming_fail(in, rc, &e);
    else
        incoming_reply(in, &answer.base);
}

/* An operator's call, here because the agents' answers end it. */
void network_check_call(struct incoming *in)
{
    struct manager *m = in->manager;
    struct core_env env = manager_env(m);
    uint64_t deadline = rpc_call_deadline_ms(in->call);
    struct dispatcher_call c = { .env = &env, .arena = &in->arena, .call = in };
    struct err e = { 0 };
    c.until_ms = deadline > CHECK_MARGIN_MS ? deadline - CHECK_MARGIN_MS : 0;
    int rc =
        dispatcher_check(m->dispatcher, &c, (const Skep__NetworkCheckRequest *)in->request, &e);

    if (rc < 0)
        incoming_fail(in, rc, &e);
}

void report_call(struct incoming *in)
{
    struct manager *m = in->manager;
    struct core_env env = manager_env(m);
    struct dispatcher_call c = { .env = &env, .node_id = in->caller.node_id, .call = in };
    struct err e = { 0 };
    int rc = dispatcher_report(m->dispatcher, &c, (const Skep__TaskStatusRequest *)in->request, &e);

    if (rc < 0)
        incoming_fail(in, rc, &e);
    else
        m->cores_due = true;
}

static const ProtobufCMessage *due_answer(const struct dispatcher_due *due)
{
    switch (due->kind) {
    case DISPATCHER_ASSIGNMENTS:
        return &due->assignments.base;
    case DISPATCHER_REPORT:
        return &due->report.base;
    case DISPATCHER_NETWORKS:
        return &due->networks.base;
    case DISPATCHER_CHECK:
        return &due->check.base;
    }
    UNREACHABLE();
}

void agent_calls_run(struct manager *m)
{
    struct core_env env = manager_env(m);
    struct dispatcher_due due;

    for (;;) {
        CLEANUP_ARENA struct arena arena = { 0 };

        if (!dispatcher_next_call(m->dispatcher, &env, &arena, &due))
            return;
        struct incoming *in = due.call;

        if (due.rc < 0) {
            struct err e = { 0 };

            (void)err_set(&e, ERR_STALE, "session invalid: register again");
            incoming_fail(in, due.rc, &e);
        } else {
            incoming_reply(in, due_answer(&due));
        }
    }
}

void agent_calls_drop(struct manager *m)
{
    struct incoming *in;

    while ((in = dispatcher_take_call(m->dispatcher)) != NULL) {
        if (in->method == SKEP__METHOD__METHOD_NETWORK_CHECK) {
            struct err e = { 0 };

            (void)err_set(&e, ERR_UNAVAILABLE, "leadership moved during the check; try again");
            incoming_fail(in, -ERR_UNAVAILABLE, &e);
            continue;
        }
        rpc_reply_not_leader(in->call, peers_leader_address(m));
        incoming_free(in);
    }
}
