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

/* What the dispatcher is told of a call; c points into it. */
struct agent_call {
    struct core_env env;
    char address[64];
    struct dispatcher_call c;
};

/* wait_ms: how long the agent wants to wait for news. */
static void begin(struct agent_call *a, struct incoming *in, uint32_t wait_ms)
{
    a->env = manager_env(in->manager);
    host_of(in->caller.address, a->address);
    a->c = (struct dispatcher_call){
        .env = &a->env,
        .node_id = in->caller.node_id,
        .address = a->address,
        .arena = &in->arena,
        .call = in,
        .until_ms = a->env.now_ms + MIN(wait_ms, (uint32_t)AGENT_WAIT_MS_MAX),
    };
}

static void finish(struct incoming *in, int rc, const ProtobufCMessage *answer, const struct err *e)
{
    if (rc < 0)
        incoming_fail(in, rc, e);
    else if (rc != DISPATCHER_PARKED)
        incoming_reply(in, answer);
}

void session_call(struct incoming *in)
{
    struct manager *m = in->manager;
    const Skep__SessionRequest *req = (const Skep__SessionRequest *)in->request;
    Skep__SessionResponse answer;
    struct agent_call a;
    struct err e = { 0 };
    int rc = req->description != NULL ? control_validate_description(req->description, &e) : 0;

    begin(&a, in, 0);
    if (rc == 0)
        rc = dispatcher_open(m->dispatcher, &a.c, req, &answer, &e);
    if (rc == 0) {
        answer.n_managers = peers_addresses(m, &in->arena, &answer.managers);
        m->cores_due = true;
    }
    finish(in, rc, &answer.base, &e);
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
    Skep__HeartbeatResponse answer = SKEP__HEARTBEAT_RESPONSE__INIT;
    struct agent_call a;
    struct err e = { 0 };
    int rc = req->description != NULL ? control_validate_description(req->description, &e) : 0;

    begin(&a, in, 0);
    if (rc == 0)
        rc = dispatcher_beat(m->dispatcher, &a.c, req, &answer.heartbeat_ms, &e);
    if (rc == 0) {
        answer.n_managers = peers_addresses(m, &in->arena, &answer.managers);
        answer.renew_certificate = role_changed(in, req);
        m->cores_due = m->cores_due || req->description != NULL;
    }
    finish(in, rc, &answer.base, &e);
}

void assignments_call(struct incoming *in)
{
    const Skep__AssignmentsRequest *req = (const Skep__AssignmentsRequest *)in->request;
    Skep__AssignmentsResponse answer;
    struct agent_call a;
    struct err e = { 0 };

    begin(&a, in, req->wait_ms);
    finish(in, dispatcher_assignments(in->manager->dispatcher, &a.c, req, &answer, &e),
           &answer.base, &e);
}

void networks_call(struct incoming *in)
{
    const Skep__NetworksRequest *req = (const Skep__NetworksRequest *)in->request;
    Skep__NetworksResponse answer;
    struct agent_call a;
    struct err e = { 0 };

    begin(&a, in, req->wait_ms);
    finish(in, dispatcher_networks(in->manager->dispatcher, &a.c, req, &answer, &e), &answer.base,
           &e);
}

void network_check_report_call(struct incoming *in)
{
    const Skep__NetworkCheckReport *req = (const Skep__NetworkCheckReport *)in->request;
    Skep__NetworkCheckReportResponse answer = SKEP__NETWORK_CHECK_REPORT_RESPONSE__INIT;
    struct agent_call a;
    struct err e = { 0 };

    begin(&a, in, 0);
    finish(in, dispatcher_check_report(in->manager->dispatcher, &a.c, req, &e), &answer.base, &e);
}

/* An operator's call, here because the agents' answers end it. */
void network_check_call(struct incoming *in)
{
    const Skep__NetworkCheckRequest *req = (const Skep__NetworkCheckRequest *)in->request;
    uint64_t deadline = rpc_call_deadline_ms(in->call);
    struct agent_call a;
    struct err e = { 0 };

    begin(&a, in, 0);
    a.c.until_ms = deadline > CHECK_MARGIN_MS ? deadline - CHECK_MARGIN_MS : 0;
    int rc = dispatcher_check(in->manager->dispatcher, &a.c, req, &e);
    if (rc < 0)
        incoming_fail(in, rc, &e);
}

void report_call(struct incoming *in)
{
    const Skep__TaskStatusRequest *req = (const Skep__TaskStatusRequest *)in->request;
    struct agent_call a;
    struct err e = { 0 };

    begin(&a, in, 0);
    int rc = dispatcher_report(in->manager->dispatcher, &a.c, req, &e);
    if (rc < 0)
        incoming_fail(in, rc, &e);
    else
        in->manager->cores_due = true;
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
