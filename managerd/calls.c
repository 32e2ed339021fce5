/* Every RPC comes through here: who calls, may they, where does it run, does it decode.
 *
 * A method is one row of the table. Methods that need the leader are forwarded by followers with
 * the caller's identity; agents are told the leader's address instead and go there themselves. */
#include <string.h>
#include <utlist.h>

#include "common/assert.h"
#include "common/log.h"
#include "managerd/control/control.h"
#include "managerd/manager.h"
#include "proto/ca.pb-c.h"
#include "proto/dispatcher.pb-c.h"
#include "proto/raft_control.pb-c.h"

enum who { LOCAL = 1, OPERATOR = 2, MANAGERS = 4, AGENTS = 8, ANYONE = 16 };
enum where { HERE, LEADER_FORWARD, LEADER_REDIRECT };

struct method {
    Skep__Method method;
    unsigned who; /* enum who, ORed */
    enum where where;
    const ProtobufCMessageDescriptor *request; /* NULL: raw body, not decoded here */
    handler_fn *handler;
};

/* clang-format off */
#define M(name) SKEP__METHOD__METHOD_##name
#define OPERATORS (LOCAL | OPERATOR)
static const struct method methods[] = {
    { M(OBJECT_GET),         OPERATORS, LEADER_FORWARD,  &skep__object_get_request__descriptor,         control_call },
    { M(OBJECT_LIST),        OPERATORS, LEADER_FORWARD,  &skep__object_list_request__descriptor,        control_call },
    { M(WATCH),              OPERATORS, HERE,            &skep__watch_request__descriptor,              control_watch_call },
    { M(INFO),               OPERATORS, HERE,            &skep__info_request__descriptor,               info_call },
    { M(SERVICE_CREATE),     OPERATORS, LEADER_FORWARD,  &skep__service_create_request__descriptor,     control_call },
    { M(SERVICE_UPDATE),     OPERATORS, LEADER_FORWARD,  &skep__service_update_request__descriptor,     control_call },
    { M(SERVICE_REMOVE),     OPERATORS, LEADER_FORWARD,  &skep__service_remove_request__descriptor,     control_call },
    { M(NODE_UPDATE),        OPERATORS, LEADER_FORWARD,  &skep__node_update_request__descriptor,        control_call },
    { M(NODE_REMOVE),        OPERATORS, LEADER_FORWARD,  &skep__node_remove_request__descriptor,        control_call },
    { M(CLUSTER_UPDATE),     OPERATORS, LEADER_FORWARD,  &skep__cluster_update_request__descriptor,     control_call },
    { M(NETWORK_CREATE),     OPERATORS, LEADER_FORWARD,  &skep__network_create_request__descriptor,     control_call },
    { M(NETWORK_REMOVE),     OPERATORS, LEADER_FORWARD,  &skep__network_remove_request__descriptor,     control_call },
    { M(CLUSTER_BACKUP),     OPERATORS, HERE,            &skep__cluster_backup_request__descriptor,     cluster_backup_call },
    { M(LOGS_OPEN),          OPERATORS, LEADER_FORWARD,  &skep__logs_open_request__descriptor,          logs_open_call },
    { M(LOGS_READ),          OPERATORS, LEADER_FORWARD,  &skep__logs_read_request__descriptor,          logs_read_call },
    { M(NETWORK_CHECK),      OPERATORS, LEADER_FORWARD,  &skep__network_check_request__descriptor,      network_check_call },
    { M(SWARM_INIT),         LOCAL,     HERE,            &skep__swarm_init_request__descriptor,         swarm_init_call },
    { M(SWARM_JOIN),         LOCAL,     HERE,            &skep__swarm_join_request__descriptor,         swarm_join_call },
    { M(SWARM_LEAVE),        LOCAL,     HERE,            &skep__swarm_leave_request__descriptor,        swarm_leave_call },
    { M(SESSION),            AGENTS,    LEADER_REDIRECT, &skep__session_request__descriptor,            session_call },
    { M(HEARTBEAT),          AGENTS,    LEADER_REDIRECT, &skep__heartbeat_request__descriptor,          heartbeat_call },
    { M(ASSIGNMENTS),        AGENTS,    LEADER_REDIRECT, &skep__assignments_request__descriptor,        assignments_call },
    { M(NETWORKS),           AGENTS,    LEADER_REDIRECT, &skep__networks_request__descriptor,           networks_call },
    { M(TASK_STATUS),        AGENTS,    LEADER_REDIRECT, &skep__task_status_request__descriptor,        report_call },
    { M(NETWORK_CHECK_REPORT), AGENTS,  LEADER_REDIRECT, &skep__network_check_report__descriptor,       network_check_report_call },
    { M(LOG_SUBSCRIPTIONS),  AGENTS,    LEADER_REDIRECT, &skep__log_subscriptions_request__descriptor,  log_subscriptions_call },
    { M(LOG_PUBLISH),        AGENTS,    LEADER_REDIRECT, &skep__log_publish_request__descriptor,        log_publish_call },
    { M(CERTIFICATE_RENEW),  AGENTS,    LEADER_FORWARD,  &skep__certificate_renew_request__descriptor,  renew_call },
    { M(RAFT),               MANAGERS,  HERE,            NULL,                                          raft_call },
    { M(RAFT_SNAPSHOT),      MANAGERS,  HERE,            NULL,                                          raft_snapshot_call },
    { M(RAFT_JOIN),          MANAGERS,  LEADER_FORWARD,  &skep__raft_join_request__descriptor,          raft_join_call },
    { M(RAFT_LEAVE),         MANAGERS,  LEADER_FORWARD,  &skep__raft_leave_request__descriptor,         raft_leave_call },
    { M(ROOT_CA),            ANYONE,    HERE,            &skep__root_ca_request__descriptor,            root_ca_call },
    { M(ENROL),              ANYONE,    LEADER_FORWARD,  &skep__enrol_request__descriptor,              enrol_call },
};
/* clang-format on */

static const struct method *method_find(Skep__Method method)
{
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (methods[i].method == method)
            return &methods[i];
    }
    return NULL;
}

void calls_fail(struct rpc_call *call, int rc, const struct err *e)
{
    ASSERT(rc < 0);
    rpc_reply_error(call, -rc, err_message(e, rc));
}

/* ---- who ----------------------------------------------------------------------------------------
 */

static void caller_from_peer(struct caller *c, const struct rpc_peer *peer)
{
    memset(c, 0, sizeof(*c));
    c->local = peer->local;
    c->manager = peer->identity.role == TLS_ROLE_MANAGER;
    memcpy(c->node_id, peer->identity.node.s, sizeof(c->node_id));
    (void)snprintf(c->address, sizeof(c->address), "%s", peer->address);
}

/* A follower speaks for someone else: believed from a manager's certificate only. */
static int caller_forwarded(struct caller *c, const Skep__Caller *on_behalf_of, struct err *e)
{
    if (!c->manager)
        return err_set(e, ERR_PERMISSION, "on_behalf_of: only managers forward calls");
    if (on_behalf_of->node_id[0] != '\0' && !id_valid(on_behalf_of->node_id))
        return err_set(e, ERR_INVALID, "on_behalf_of.node_id: not an id");
    c->local = on_behalf_of->local;
    c->manager = on_behalf_of->manager;
    (void)snprintf(c->node_id, sizeof(c->node_id), "%s", on_behalf_of->node_id);
    return 0;
}

static int check_allowed(const struct method *method, const struct caller *c, bool enrol_port,
                         struct err *e)
{
    unsigned who = enrol_port ? ANYONE : 0;

    if (!enrol_port && c->local)
        who = LOCAL | ANYONE;
    else if (!enrol_port && c->node_id[0] != '\0')
        who = AGENTS | (c->manager ? OPERATOR | MANAGERS : 0);
    else if (!enrol_port)
        who = ANYONE; /* forwarded from an enrolment port */
    if ((method->who & who) != 0)
        return 0;
    if (method->who == LOCAL)
        return err_set(e, ERR_PERMISSION, "this call changes a host and works only on that host");
    return err_set(e, ERR_PERMISSION, "a %s's certificate does not allow this call",
                   c->manager ? "manager" : "worker");
}

/* ---- answering later ----------------------------------------------------------------------------
 */

void incoming_free(struct incoming *in)
{
    if (in == NULL)
        return;
    if (in->request != NULL)
        protobuf_c_message_free_unpacked(in->request, NULL);
    arena_deinit(&in->arena);
    free(in);
}

void incoming_reply(struct incoming *in, const ProtobufCMessage *answer)
{
    rpc_reply(in->call, answer);
    incoming_free(in);
}

void incoming_fail(struct incoming *in, int rc, const struct err *e)
{
    calls_fail(in->call, rc, e);
    incoming_free(in);
}

/* ---- forwarding ---------------------------------------------------------------------------------
 */

/* A call on its way to the leader. Answered early when another manager leads: the old one may be
 * cut off, and its answer may never come. */
struct forwarded {
    struct incoming *in; /* NULL: answered already */
    char leader[MANAGER_ADDRESS_MAX];
    struct forwarded *prev, *next;
};

static void on_forwarded(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    struct forwarded *f = ctx;
    struct incoming *in = f->in;
    struct err why = *e;

    if (in == NULL) {
        free(f);
        return;
    }
    DL_DELETE(in->manager->forwarded, f);
    free(f);
    if (response == NULL && in->manager->raft != NULL &&
        peers_leader_address(in->manager)[0] == '\0')
        calls_explain_no_leader(in->manager, &why);
    if (response != NULL)
        rpc_reply_raw(in->call, response);
    else
        calls_fail(in->call, rc, &why);
    incoming_free(in);
}

void calls_on_leader(struct manager *m)
{
    const char *leader = peers_leader_address(m);
    struct forwarded *f, *next;

    DL_FOREACH_SAFE(m->forwarded, f, next)
    {
        struct err e = { 0 };

        if (strcmp(f->leader, leader) == 0)
            continue;
        DL_DELETE(m->forwarded, f);
        (void)err_set(&e, ERR_UNAVAILABLE,
                      "leadership moved while the call was forwarded; try again");
        incoming_fail(f->in, -ERR_UNAVAILABLE, &e);
        f->in = NULL; /* f itself belongs to the call in flight */
    }
}

static void forward(struct incoming *in, const Skep__Request *req)
{
    struct manager *m = in->manager;
    Skep__Caller on_behalf_of = SKEP__CALLER__INIT;
    struct err e = { 0 };
    const char *leader = peers_leader_address(m);

    if (leader[0] == '\0') {
        calls_explain_no_leader(m, &e);
        incoming_fail(in, -ERR_UNAVAILABLE, &e);
        return;
    }
    if (req->on_behalf_of != NULL) {
        (void)err_set(&e, ERR_NOT_LEADER,
                      "leadership moved while the call was forwarded; try again");
        incoming_fail(in, -ERR_NOT_LEADER, &e);
        return;
    }
    on_behalf_of.local = in->caller.local;
    on_behalf_of.manager = in->caller.manager;
    on_behalf_of.node_id = in->caller.node_id;
    struct rpc_client *client = peers_client(m, leader, &e);
    struct rpc_request r = {
        .method = req->method,
        .raw_body = &req->body,
        .deadline_ms = req->deadline_ms,
        .on_behalf_of = &on_behalf_of,
        .request_id = in->has_request_id ? in->request_id : NULL,
    };
    struct forwarded *f = xcalloc(1, sizeof(*f));
    int rc = client == NULL ? -ERR_UNAVAILABLE : rpc_call_start(client, &r, on_forwarded, f, &e);
    if (rc < 0) {
        free(f);
        incoming_fail(in, rc, &e);
        return;
    }
    f->in = in;
    (void)snprintf(f->leader, sizeof(f->leader), "%s", leader);
    DL_APPEND(m->forwarded, f);
}

/* ---- the way in ---------------------------------------------------------------------------------
 */

static int check_envelope(struct manager *m, const Skep__Request *req, struct err *e)
{
    if (req->cluster_id[0] != '\0' && m->identity != NULL &&
        strcmp(req->cluster_id, m->identity->tls.cluster.s) != 0)
        return err_set(e, ERR_PERMISSION, "cluster_id: this manager belongs to another cluster");
    if (req->request_id.len != 0 && req->request_id.len != 16)
        return err_set(e, ERR_INVALID, "request_id: %zu bytes, must be 16", req->request_id.len);
    return 0;
}

/* Methods that need an active member of a cluster. */
static int check_active(struct manager *m, const struct method *method, struct err *e)
{
    if (m->state == MANAGER_ACTIVE || method->handler == info_call || method->who == LOCAL)
        return 0;
    if (m->raft != NULL && (method->handler == raft_call || method->handler == raft_snapshot_call))
        return 0; /* how a joining manager learns that it is a member */
    if (m->state == MANAGER_JOINING)
        return err_set(e, ERR_UNAVAILABLE,
                       "this manager is still joining the cluster; try again in a moment");
    return err_set(e, ERR_PRECONDITION,
                   "This node is not a swarm manager. Use \"ctl swarm init\" or \"ctl swarm join\" "
                   "to connect this node to swarm and try again.");
}

/* To where it is answered, when that is not here. */
static bool sent_on(struct incoming *in, const struct method *method, const Skep__Request *req)
{
    struct manager *m = in->manager;

    if (method->where == HERE || m->leading || control_stale(in))
        return false;
    if (method->where == LEADER_FORWARD) {
        forward(in, req);
        return true;
    }
    rpc_reply_not_leader(in->call, peers_leader_address(m));
    incoming_free(in);
    return true;
}

static void dispatch(struct incoming *in, const struct method *method, const Skep__Request *req)
{
    struct err e = { 0 };
    int rc = check_active(in->manager, method, &e);

    if (rc == 0 && method->request != NULL)
        rc = rpc_decode(&req->body, method->request, &in->request, &e);
    if (rc < 0) {
        incoming_fail(in, rc, &e);
        return;
    }
    in->raw = &req->body;
    in->method = req->method;
    if (!sent_on(in, method, req))
        method->handler(in);
}

static void on_request(struct manager *m, struct rpc_call *call, const struct rpc_peer *peer,
                       const Skep__Request *req, bool enrol_port)
{
    const struct method *method = method_find(req->method);
    struct incoming *in;
    struct caller caller;
    struct err e = { 0 };
    int rc = 0;

    if (method == NULL) {
        (void)err_set(&e, ERR_UNSUPPORTED, "method %d is unknown to this version",
                      (int)req->method);
        calls_fail(call, -ERR_UNSUPPORTED, &e);
        return;
    }
    caller_from_peer(&caller, peer);
    if (req->on_behalf_of != NULL)
        rc = enrol_port ? err_set(&e, ERR_PERMISSION, "on_behalf_of: not on this port")
                        : caller_forwarded(&caller, req->on_behalf_of, &e);
    if (rc == 0)
        rc = check_allowed(method, &caller, enrol_port, &e);
    if (rc == 0)
        rc = check_envelope(m, req, &e);
    if (rc < 0) {
        log_warn("call.refused", "method=%d from=%s node=%s error=\"%s\"", (int)req->method,
                 caller.address, caller.node_id, e.message);
        calls_fail(call, rc, &e);
        return;
    }
    in = xcalloc(1, sizeof(*in));
    in->manager = m;
    in->call = call;
    in->caller = caller;
    in->has_request_id = req->request_id.len == sizeof(in->request_id);
    if (in->has_request_id)
        memcpy(in->request_id, req->request_id.data, sizeof(in->request_id));
    dispatch(in, method, req);
}

void calls_on_request(void *ctx, struct rpc_call *call, const struct rpc_peer *peer,
                      const Skep__Request *req)
{
    on_request(ctx, call, peer, req, false);
}

void calls_on_enrol_request(void *ctx, struct rpc_call *call, const struct rpc_peer *peer,
                            const Skep__Request *req)
{
    on_request(ctx, call, peer, req, true);
}
