/* swarm init, join and leave: one at a time, from the local socket. */
#include <string.h>

#include "common/clock.h"
#include "common/enrol.h"
#include "common/log.h"
#include "common/random.h"
#include "common/x509.h"
#include "managerd/allocator/allocator.h"
#include "managerd/control/control.h"
#include "managerd/control/validate.h"
#include "managerd/manager.h"
#include "managerd/own.h"
#include "proto/raft_control.pb-c.h"

enum { SWARM_STEP_MS_MAX = 30000, LEAVE_WAIT_MS = 10000, DEFAULT_PORT = 2377 };

enum step {
    INIT_ELECTION, /* waits for our own leadership */
    INIT_COMMIT,   /* waits for the cluster object */
    JOIN_ENROL,
    JOIN_ACTIVE,   /* a manager: waits until Raft has us */
    LEAVE_REMOVED, /* waits until Raft has let us go */
};

struct swarm_task {
    struct incoming *in;
    enum step step;
    bool force_new; /* init of a new cluster from this member's data */
    struct enrol *enrol;
    struct loop_timer timer;
    char worker_token[TOKEN_CHARS + 1], manager_token[TOKEN_CHARS + 1];
    struct buf root_pem, root_key;
};

void manager_new_token(const char *digest, char *text)
{
    uint8_t secret[TOKEN_SECRET_BYTES];

    random_bytes(secret, sizeof(secret));
    struct token token = token_make(digest, secret);
    token_format(&token, text);
}

static void task_end(struct manager *m)
{
    struct swarm_task *t = m->swarm;

    m->swarm = NULL;
    loop_timer_cancel(m->loop, &t->timer);
    enrol_cancel(t->enrol);
    buf_deinit(&t->root_pem);
    if (t->root_key.data != NULL)
        explicit_bzero(t->root_key.data, t->root_key.size);
    buf_deinit(&t->root_key);
    free(t);
}

static void task_fail(struct manager *m, int rc, const struct err *e)
{
    incoming_fail(m->swarm->in, rc, e);
    task_end(m);
}

static void on_task_timeout(void *ctx, uint64_t now_ms);

/* NULL when one is under way already; in is answered then. */
static struct swarm_task *task_begin(struct incoming *in, enum step step)
{
    struct manager *m = in->manager;
    struct err e = { 0 };

    if (m->swarm != NULL) {
        (void)err_set(&e, ERR_BUSY, "this host is already joining, starting or leaving a swarm");
        incoming_fail(in, -ERR_BUSY, &e);
        return NULL;
    }
    struct swarm_task *t = xcalloc(1, sizeof(*t));

    t->in = in;
    t->step = step;
    buf_init(&t->root_pem, X509_PEM_BYTES_MAX);
    buf_init(&t->root_key, X509_PEM_BYTES_MAX);
    m->swarm = t;
    loop_timer_set(m->loop, &t->timer, loop_now_ms(m->loop) + SWARM_STEP_MS_MAX, on_task_timeout,
                   m);
    return t;
}

static bool refuse_if_member(struct incoming *in)
{
    struct err e = { 0 };

    if (in->manager->identity == NULL)
        return false;
    (void)err_set(
        &e, ERR_PRECONDITION,
        "This node is already part of a swarm. Use \"ctl swarm leave\" to leave this swarm "
        "and join another one.");
    incoming_fail(in, -ERR_PRECONDITION, &e);
    return true;
}

/* ---- addresses
 * ----------------------------------------------------------------------------------- */

static int complete_address(const char *given, const char *fallback_host, unsigned port,
                            char ret[MANAGER_ADDRESS_MAX], struct err *e)
{
    const char *host = given[0] != '\0' ? given : fallback_host;
    const char *colon = strrchr(host, ':');
    int size;

    if (colon == host)
        return err_set(e, ERR_INVALID, "\"%.100s\" has no host", host);
    size = colon != NULL ? snprintf(ret, MANAGER_ADDRESS_MAX, "%s", host)
                         : snprintf(ret, MANAGER_ADDRESS_MAX, "%s:%u", host, port);
    if (size >= MANAGER_ADDRESS_MAX)
        return err_set(e, ERR_TOO_BIG, "address: longer than %d characters",
                       MANAGER_ADDRESS_MAX - 1);
    return 0;
}

/* An address that the caller leaves open is managerd's own option, then the default. */
static int set_addresses(struct manager *m, const char *listen, const char *advertise,
                         const char *toward, struct err *e)
{
    char own[64] = "";
    CLEANUP_FREE char *option = xstrdup(m->listen[0] != '\0' ? m->listen : "0.0.0.0");
    int rc = complete_address(listen, option, DEFAULT_PORT, m->listen, e);
    unsigned port = rc == 0 ? (unsigned)strtoul(strrchr(m->listen, ':') + 1, NULL, 10) : 0;

    if (rc == 0 && (port == 0 || port > 65534))
        rc = err_set(e, ERR_INVALID, "listen-addr: \"%s\" has no valid port", m->listen);
    if (rc == 0 && advertise[0] == '\0')
        rc = host_own_address(toward, own, sizeof(own), e);
    if (rc == 0)
        rc = complete_address(advertise, own, port, m->advertise, e);
    if (rc == 0 && strncmp(m->advertise, "0.0.0.0:", 8) == 0)
        rc = err_set(
            e, ERR_INVALID,
            "advertise-addr: 0.0.0.0 cannot be reached by others; give this host's address");
    return rc;
}

/* ---- init
 * ---------------------------------------------------------------------------------------- */

static int make_root(struct swarm_task *t, int64_t now, struct err *e)
{
    int rc = x509_generate_key(&t->root_key, e);

    if (rc == 0)
        rc = x509_create_root(buf_str(&t->root_key), now, &t->root_pem, e);
    return rc;
}

static int make_own_certificate(struct manager *m, struct swarm_task *t, int64_t now, int64_t life,
                                struct err *e)
{
    const struct own_identity o = { .state_dir = m->state_dir,
                                    .advertise = m->advertise,
                                    .root_pem = buf_str(&t->root_pem),
                                    .root_key = buf_str(&t->root_key),
                                    .now_ns = now,
                                    .life_ns = life,
                                    .node = id_from_prng(&m->prng),
                                    .cluster = id_from_prng(&m->prng) };

    return own_identity_save(&o, e);
}

static int load_identity(struct manager *m, struct err *e)
{
    struct identity *id = NULL;
    int rc = identity_load(m->state_dir, &id, e);

    if (rc == 0)
        host_set_identity(m, id);
    return rc;
}

static void undo_init(struct manager *m)
{
    struct err e = { 0 };

    host_deactivate(m);
    if (raft_node_wipe(m->raft_dir, &e) < 0 || identity_remove(m->state_dir, &e) < 0)
        log_error("swarm.undo", "error=\"%s\" remedy=\"run ctl swarm leave --force\"", e.message);
    host_set_identity(m, NULL);
    m->listen[0] = m->advertise[0] = '\0';
}

/* The majority is lost for good: this member alone becomes the cluster, with all it knows. The
 * raised generation keeps the old members out should they come back. */
static void force_new_cluster(struct incoming *in)
{
    struct manager *m = in->manager;
    struct err e = { 0 };
    int rc = 0;

    if (m->identity == NULL || m->identity->tls.role != TLS_ROLE_MANAGER ||
        !raft_node_exists(m->raft_dir)) {
        (void)err_set(&e, ERR_PRECONDITION,
                      "--force-new-cluster needs a manager's data on this host, and there is none");
        incoming_fail(in, -ERR_PRECONDITION, &e);
        return;
    }
    struct swarm_task *t = task_begin(in, INIT_ELECTION);
    if (t == NULL)
        return;
    t->force_new = true;
    log_warn("swarm.force_new_cluster", "node=%s next=\"the other managers are out\"",
             m->identity->tls.node.s);
    host_deactivate(m);
    rc = host_activate(m, RAFT_NODE_FORCE_NEW, &e);
    if (rc < 0)
        task_fail(m, rc, &e);
}

void swarm_init_call(struct incoming *in)
{
    struct manager *m = in->manager;
    Skep__SwarmInitRequest *req = (Skep__SwarmInitRequest *)in->request;
    int64_t now = clock_wall_ns();
    struct err e = { 0 };

    if (req->force_new_cluster) {
        force_new_cluster(in);
        return;
    }
    if (refuse_if_member(in))
        return;
    struct swarm_task *t = task_begin(in, INIT_ELECTION);
    if (t == NULL)
        return;
    Skep__ClusterSpec *spec = control_cluster_defaults(&in->arena);
    int rc = req->spec != NULL ? control_validate_cluster(req->spec, &in->arena, &spec, &e) : 0;

    if (rc == 0)
        rc = set_addresses(m, req->listen_addr, req->advertise_addr, "192.0.2.1", &e);
    if (rc == 0)
        rc = make_root(t, now, &e);
    if (rc == 0)
        rc = make_own_certificate(m, t, now, spec->certificate_expiry, &e);
    if (rc == 0)
        rc = load_identity(m, &e);
    if (rc == 0)
        rc = host_activate(m, RAFT_NODE_BOOTSTRAP, &e);
    if (rc < 0) {
        undo_init(m);
        task_fail(m, rc, &e);
    }
}

static void on_cluster_stored(void *ctx, int rc, const struct err *e)
{
    struct manager *m = ctx;
    struct swarm_task *t = m->swarm;
    Skep__SwarmInitResponse answer = SKEP__SWARM_INIT_RESPONSE__INIT;

    if (t == NULL)
        return;
    if (rc < 0) {
        task_fail(m, rc, e);
        return;
    }
    answer.node_id = m->identity->tls.node.s;
    answer.worker_token =
        t->force_new ? store_cluster(m->store)->join_token_worker : t->worker_token;
    answer.address = m->advertise;
    incoming_reply(t->in, &answer.base);
    task_end(m);
}

static void add_cluster(struct manager *m, struct swarm_task *t, struct store_tx *tx)
{
    const Skep__SwarmInitRequest *req = (const Skep__SwarmInitRequest *)t->in->request;
    Skep__Cluster cluster = SKEP__CLUSTER__INIT;
    Skep__RootCa root = SKEP__ROOT_CA__INIT;
    char digest[TOKEN_DIGEST_CHARS + 1] = "";
    struct err e = { 0 };

    cluster.spec = control_cluster_defaults(&t->in->arena);
    if (req->spec != NULL &&
        control_validate_cluster(req->spec, &t->in->arena, &cluster.spec, &e) < 0)
        return; /* it was valid when the call came */
    if (x509_root_digest(buf_str(&t->root_pem), digest, &e) < 0)
        return; /* we have just made it */
    manager_new_token(digest, t->worker_token);
    manager_new_token(digest, t->manager_token);
    root.certificate_pem =
        (ProtobufCBinaryData){ .len = t->root_pem.size, .data = t->root_pem.data };
    root.key_pem = (ProtobufCBinaryData){ .len = t->root_key.size, .data = t->root_key.data };
    root.digest = digest;
    cluster.id = m->identity->tls.cluster.s;
    cluster.root_ca = &root;
    cluster.join_token_worker = t->worker_token;
    cluster.join_token_manager = t->manager_token;
    store_tx_create(tx, &cluster.base);
    allocator_predefined(m->store, &m->prng, true, tx);
}

void swarm_on_leader(struct manager *m)
{
    struct swarm_task *t = m->swarm;

    if (t == NULL || t->step != INIT_ELECTION || !m->leading)
        return;
    struct store_tx *tx = store_tx_new();

    t->step = INIT_COMMIT;
    if (t->force_new) {
        own_generation_add(m->store, raft_node_generation(m->raft), m->identity->tls.node.s, tx);
    } else {
        const Skep__SwarmInitRequest *req = (const Skep__SwarmInitRequest *)t->in->request;

        add_cluster(m, t, tx);
        own_node_add(&m->identity->tls, req->availability, tx);
    }
    leader_propose(m, tx, NULL, on_cluster_stored, m);
    store_tx_free(tx);
}

/* ---- join
 * ---------------------------------------------------------------------------------------- */

static void join_answer(struct manager *m, bool manager)
{
    Skep__SwarmJoinResponse answer = SKEP__SWARM_JOIN_RESPONSE__INIT;

    answer.node_id = m->identity->tls.node.s;
    answer.manager = manager;
    incoming_reply(m->swarm->in, &answer.base);
    task_end(m);
}

static void on_enrolled(void *ctx, int rc, const struct identity *id, const struct err *e)
{
    struct manager *m = ctx;
    struct swarm_task *t = m->swarm;
    struct err err = { 0 };

    if (rc < 0) {
        task_fail(m, rc, e);
        return;
    }
    log_info("swarm.enrolled", "node=%s role=%d", id->tls.node.s, (int)id->tls.role);
    rc = load_identity(m, &err);
    if (rc == 0 && m->identity->tls.role != TLS_ROLE_MANAGER) {
        join_answer(m, false);
        return;
    }
    t->step = JOIN_ACTIVE;
    if (rc == 0)
        rc = host_activate(m, RAFT_NODE_JOIN, &err);
    if (rc < 0) {
        undo_init(m);
        task_fail(m, rc, &err);
    }
}

void swarm_on_active(struct manager *m)
{
    if (m->swarm != NULL && m->swarm->step == JOIN_ACTIVE)
        join_answer(m, true);
}

void swarm_join_call(struct incoming *in)
{
    struct manager *m = in->manager;
    const Skep__SwarmJoinRequest *req = (const Skep__SwarmJoinRequest *)in->request;
    struct err e = { 0 };
    int rc = 0;

    if (refuse_if_member(in))
        return;
    struct swarm_task *t = task_begin(in, JOIN_ENROL);
    if (t == NULL)
        return;
    if (req->n_remotes == 0)
        rc = err_set(&e, ERR_INVALID, "remotes: name at least one manager, HOST:PORT");
    if (rc == 0 && raft_node_exists(m->raft_dir))
        rc = err_set(&e, ERR_PRECONDITION,
                     "%s holds data of another swarm; run 'ctl swarm leave --force' first",
                     m->raft_dir);
    if (rc == 0)
        rc = set_addresses(m, req->listen_addr, req->advertise_addr, req->remotes[0], &e);
    if (rc == 0) {
        struct enrol_options o = { .state_dir = m->state_dir,
                                   .remotes = req->remotes,
                                   .remote_count = req->n_remotes,
                                   .token = req->token,
                                   .availability = req->availability };

        t->enrol = enrol_start(m->rpc, m->loop, &o, on_enrolled, m, &e);
        rc = t->enrol != NULL ? 0 : (e.code != 0 ? -e.code : -ERR_INVALID);
    }
    if (rc < 0)
        task_fail(m, rc, &e);
}

/* ---- leave
 * --------------------------------------------------------------------------------------- */

static void finish_leave(struct manager *m)
{
    struct err e = { 0 };
    int rc;

    host_deactivate(m);
    rc = raft_node_wipe(m->raft_dir, &e);
    if (rc == 0)
        rc = identity_remove(m->state_dir, &e);
    host_set_identity(m, NULL);
    m->demoted = false;
    m->listen[0] = m->advertise[0] = '\0';
    log_info("swarm.left", "rc=%d", rc);
    if (rc < 0) {
        task_fail(m, rc, &e);
        return;
    }
    incoming_reply(m->swarm->in, NULL);
    task_end(m);
}

void swarm_on_removed(struct manager *m)
{
    if (m->swarm != NULL && m->swarm->step == LEAVE_REMOVED)
        finish_leave(m);
}

static void on_leave_answer(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    struct manager *m = ctx;

    (void)response; /* Raft tells when it has let us go */
    if (rc < 0)
        log_warn("swarm.leave", "error=\"%s\" next=\"leaving without the others' consent\"",
                 err_message(e, rc));
    if (rc < 0 && m->swarm != NULL && m->swarm->step == LEAVE_REMOVED)
        loop_timer_set(m->loop, &m->swarm->timer, loop_now_ms(m->loop), on_task_timeout, m);
}

/* Asks the leader (maybe ourselves, through our own port) to be let go. */
static int ask_to_leave(struct manager *m, struct err *e)
{
    Skep__RaftLeaveRequest req = SKEP__RAFT_LEAVE_REQUEST__INIT;
    const char *leader = peers_leader_address(m);
    struct rpc_request r = { .method = SKEP__METHOD__METHOD_RAFT_LEAVE,
                             .body = &req.base,
                             .deadline_ms = LEAVE_WAIT_MS };

    if (leader[0] == '\0' || raft_config_voter_count(raft_node_config(m->raft)) < 2)
        return err_set(e, ERR_UNAVAILABLE, "nobody to ask");
    struct rpc_client *client = peers_client(m, leader, e);

    if (client == NULL)
        return -ERR_UNAVAILABLE;
    return rpc_call_start(client, &r, on_leave_answer, m, e);
}

void swarm_leave_call(struct incoming *in)
{
    struct manager *m = in->manager;
    const Skep__SwarmLeaveRequest *req = (const Skep__SwarmLeaveRequest *)in->request;
    struct err e = { 0 };
    bool manager = m->raft != NULL;

    if (m->identity == NULL && !raft_node_exists(m->raft_dir)) {
        (void)err_set(&e, ERR_PRECONDITION, "This node is not part of a swarm");
        incoming_fail(in, -ERR_PRECONDITION, &e);
        return;
    }
    if (manager && !req->force) {
        (void)err_set(&e, ERR_PRECONDITION,
                      "You are attempting to leave the swarm on a node that is participating as a "
                      "manager. Demote it first (ctl node demote), or use --force: with the last "
                      "manager all of the swarm's state is lost.");
        incoming_fail(in, -ERR_PRECONDITION, &e);
        return;
    }
    struct swarm_task *t = task_begin(in, LEAVE_REMOVED);
    if (t == NULL)
        return;
    loop_timer_set(m->loop, &t->timer, loop_now_ms(m->loop) + LEAVE_WAIT_MS, on_task_timeout, m);
    if (!manager || ask_to_leave(m, &e) < 0)
        finish_leave(m);
}

/* ---- time's up
 * ----------------------------------------------------------------------------------- */

static void on_task_timeout(void *ctx, uint64_t now_ms)
{
    struct manager *m = ctx;
    struct err e = { 0 };

    (void)now_ms; /* the timer was for this */
    switch (m->swarm->step) {
    case INIT_ELECTION:
    case INIT_COMMIT:
        (void)err_set(&e, ERR_TIMEOUT,
                      "the new swarm did not start within %d s; see managerd's log",
                      SWARM_STEP_MS_MAX / 1000);
        break;
    case JOIN_ENROL:
        (void)err_set(&e, ERR_TIMEOUT, "no manager answered within %d s", SWARM_STEP_MS_MAX / 1000);
        break;
    case JOIN_ACTIVE:
        (void)err_set(&e, ERR_TIMEOUT,
                      "Timeout was reached before node joined (%s). The attempt to join the swarm "
                      "will continue in the background. Use \"ctl info\" to see the state.",
                      m->join_error);
        break;
    case LEAVE_REMOVED:
        finish_leave(m);
        return;
    default:
        break;
    }
    task_fail(m, -ERR_TIMEOUT, &e);
}

void swarm_free(struct manager *m)
{
    if (m->swarm == NULL)
        return;
    struct err e = { 0 };

    (void)err_set(&e, ERR_CANCELED, "managerd is shutting down");
    task_fail(m, -ERR_CANCELED, &e);
}
