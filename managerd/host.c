/* What this host is in the cluster, and the parts that follow from it.
 *
 *   INACTIVE --identity of a manager, Raft data-------------------> ACTIVE
 *   INACTIVE --identity of a manager, none--> JOINING --in config--> ACTIVE
 *   ACTIVE, JOINING --removed from Raft, or the identity went------> INACTIVE
 *
 * The identity directory is the truth, and agentd may write it too: a timer compares its stamp and
 * follows. The certificate is renewed here as well, so a host without agentd keeps one. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "common/random.h"
#include "common/renew.h"
#include "managerd/manager.h"
#include "managerd/own.h"
#include "proto/raft_control.pb-c.h"

enum {
    IDENTITY_INTERVAL_MS = 1000,
    JOIN_INTERVAL_MS = 500,
    JOIN_CALL_MS = 10000,
    RENEW_RETRY_MS = 5000,
    EXPELLED_AFTER_MS = 5000,  /* without a leader */
    EXPELLED_NOTICE_MS = 3000, /* how recent the leader's word has to be */
    ADDRESS_FILE_BYTES_MAX = 2 * MANAGER_ADDRESS_MAX + 2,
};

/* ---- addresses ----------------------------------------------------------------------------------
 */

static void load_addresses(struct manager *m)
{
    CLEANUP_FREE char *path = xasprintf("%s/managerd.addresses", m->state_dir);
    CLEANUP_BUF struct buf b = BUF_INIT(ADDRESS_FILE_BYTES_MAX);
    char *save = NULL;

    if (buf_read_file(&b, path, NULL) < 0 || b.size == 0)
        return;
    const char *listen = strtok_r((char *)b.data, "\n", &save);
    const char *advertise = strtok_r(NULL, "\n", &save);

    if (m->listen[0] == '\0' && listen != NULL)
        (void)snprintf(m->listen, sizeof(m->listen), "%s", listen);
    if (m->advertise[0] == '\0' && advertise != NULL)
        (void)snprintf(m->advertise, sizeof(m->advertise), "%s", advertise);
}

int host_own_address(const char *toward, char *ret, size_t size, struct err *e)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_DGRAM };
    struct addrinfo *list = NULL;
    struct sockaddr_storage own = { 0 };
    socklen_t own_size = sizeof(own);
    char host[MANAGER_ADDRESS_MAX];

    (void)snprintf(host, sizeof(host), "%s", toward);
    char *colon = strrchr(host, ':');
    if (colon != NULL)
        *colon = '\0';
    int rc = getaddrinfo(host, "2377", &hints, &list);
    if (rc != 0)
        return err_set(e, ERR_INVALID, "%s: %s", host, gai_strerror(rc));
    CLEANUP_CLOSE int fd = socket(list->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && connect(fd, list->ai_addr, list->ai_addrlen) == 0 &&
              getsockname(fd, (struct sockaddr *)&own, &own_size) == 0 &&
              getnameinfo((struct sockaddr *)&own, own_size, ret, (socklen_t)size, NULL, 0,
                          NI_NUMERICHOST) == 0;
    freeaddrinfo(list);
    if (!ok)
        return err_set(
            e, ERR_INVALID,
            "could not choose an IP address to advertise: give one with --advertise-addr");
    return 0;
}

/* ---- listening ----------------------------------------------------------------------------------
 */

static int split_port(const char *address, char *ret_host, size_t size, unsigned *ret_port,
                      struct err *e)
{
    const char *colon = strrchr(address, ':');
    char *end = NULL;
    unsigned long port = colon != NULL ? strtoul(colon + 1, &end, 10) : 0;

    if (colon == NULL || port == 0 || port > 65534 || *end != '\0' ||
        (size_t)(colon - address) >= size)
        return err_set(e, ERR_INVALID, "\"%s\" is not host:port", address);
    memcpy(ret_host, address, (size_t)(colon - address));
    ret_host[colon - address] = '\0';
    *ret_port = (unsigned)port;
    return 0;
}

static struct tls_context *make_context(const struct manager *m, enum tls_peer_check check,
                                        struct err *e)
{
    struct tls_context_options o = { .check = check,
                                     .root_ca_pem = m->identity->root_ca_pem,
                                     .node_pem = m->identity->node_pem };

    return tls_context_new(&o, e);
}

/* One line per second at most, however many knock. */
static void on_refused(void *ctx, const char *address, const struct err *why)
{
    struct manager *m = ctx;
    uint64_t now = loop_now_ms(m->loop);

    m->refused_count++;
    if (now < m->refused_log_ms)
        return;
    log_warn("connection.refused", "from=%s error=\"%s\" refused=%lu", address, why->message,
             (unsigned long)m->refused_count);
    m->refused_log_ms = now + 1000;
}

static int listen_cluster(struct manager *m, struct err *e)
{
    char host[MANAGER_ADDRESS_MAX];
    unsigned port = 0;
    int rc = split_port(m->listen, host, sizeof(host), &port, e);

    if (rc < 0)
        return rc;
    m->tls = make_context(m, TLS_CHECK_CLUSTER, e);
    m->tls_enrol = m->tls != NULL ? make_context(m, TLS_CHECK_SERVER, e) : NULL;
    if (m->tls_enrol == NULL)
        return -ERR_INVALID;
    CLEANUP_FREE char *url = xasprintf("tls+tcp://%s:%u", host, port);
    CLEANUP_FREE char *enrol_url = xasprintf("tls+tcp://%s:%u", host, port + 1);
    struct rpc_listen_options o = {
        .url = url, .tls = m->tls, .handler = calls_on_request, .refused = on_refused, .ctx = m
    };
    struct rpc_listen_options enrol = { .url = enrol_url,
                                        .tls = m->tls_enrol,
                                        .message_bytes_max = 64 << 10,
                                        .slot_count = 64,
                                        .handler = calls_on_enrol_request,
                                        .refused = on_refused,
                                        .ctx = m };

    m->cluster = rpc_listen(m->rpc, &o, e);
    m->enrol = m->cluster != NULL ? rpc_listen(m->rpc, &enrol, e) : NULL;
    return m->enrol != NULL ? 0 : -ERR_UNAVAILABLE;
}

/* ---- Raft
 * ---------------------------------------------------------------------------------------- */

static bool in_config(const struct manager *m)
{
    return raft_config_find(raft_node_config(m->raft), raft_node_id(m->raft)) != NULL;
}

static void on_leader(void *ctx, const struct raft_status *status)
{
    struct manager *m = ctx;

    if (status->state == RAFT_LEADER && status->established)
        leader_start(m, status->term);
    else if (status->state != RAFT_LEADER)
        leader_stop(m);
    log_info("raft.state", "state=%s term=%lu leader=%lx", raft_state_str(status->state),
             (unsigned long)status->term, (unsigned long)status->leader);
    calls_on_leader(m);
    swarm_on_leader(m);
}

static void remember_managers(struct manager *m, const struct raft_config *config)
{
    char *addresses[RAFT_MEMBERS_MAX];
    struct err e = { 0 };

    for (uint32_t i = 0; i < config->member_count; i++)
        addresses[i] = (char *)config->members[i].address;
    if (identity_save_managers(m->state_dir, addresses,
                               MIN(config->member_count, (uint32_t)IDENTITY_MANAGERS_MAX), &e) < 0)
        log_warn("identity.managers", "error=\"%s\" next=\"tried again at the next change\"",
                 e.message);
}

static void on_config(void *ctx, const struct raft_config *config)
{
    struct manager *m = ctx;

    if (m->raft == NULL)
        return; /* replaying; looked at once it runs */
    if (m->state == MANAGER_JOINING && in_config(m)) {
        (void)FAILPOINT("conf.joined");
        m->state = MANAGER_ACTIVE;
        m->join_error[0] = '\0';
        log_info("host.joined", "raft_id=%lx", (unsigned long)raft_node_id(m->raft));
        swarm_on_active(m);
    }
    if (config->member_count > 0)
        remember_managers(m, config);
}

static void on_removed(void *ctx)
{
    struct manager *m = ctx;

    log_info("host.removed", "reason=\"no longer a manager\"");
    m->removed = true; /* acted on outside of Raft's callback */
    loop_timer_set(m->loop, &m->identity_timer, loop_now_ms(m->loop), m->identity_timer.fn, m);
}

static void on_fatal(void *ctx, const struct err *e)
{
    manager_fatal(ctx, e);
}

static const struct raft_node_events raft_events = {
    .on_leader = on_leader, .on_config = on_config, .on_removed = on_removed, .on_fatal = on_fatal
};

static int start_raft(struct manager *m, enum raft_node_start start, struct err *e)
{
    struct raft_node_options o = {
        .loop = m->loop,
        .inbox = m->inbox,
        .directory = m->raft_dir,
        .start = start,
        .raft_id = (random_u64() >> 1) | 1,
        .cluster_id = m->identity->tls.cluster,
        .node_id = m->identity->tls.node,
        .address = m->advertise,
        .heartbeat_ms = m->options.heartbeat_ms,
        .election_ms = m->options.election_ms,
        .fsm = &manager_fsm,
        .transport = &manager_transport,
        .events = &raft_events,
        .ctx = m,
    };

    m->raft = raft_node_new(&o, e);
    return m->raft != NULL ? 0 : -ERR_IO;
}

/* ---- joining
 * ------------------------------------------------------------------------------------- */

static void on_join_timer(void *ctx, uint64_t now_ms);

static void on_join_answer(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    struct manager *m = ctx;

    m->join_in_flight = false;
    if (rc == 0)
        peers_learn(m, &response->body); /* membership itself shows in the configuration */
    if (rc == -ERR_CANCELED || m->state != MANAGER_JOINING)
        return;
    if (rc < 0) {
        (void)snprintf(m->join_error, sizeof(m->join_error), "joining the managers: %s",
                       err_message(e, rc));
        log_warn("host.join", "error=\"%s\" next=\"tried again\"", err_message(e, rc));
    }
}

static void ask_to_join(struct manager *m)
{
    Skep__RaftJoinRequest req = SKEP__RAFT_JOIN_REQUEST__INIT;
    const struct identity *id = m->identity;
    struct err e = { 0 };

    if (id->manager_count == 0 || m->join_in_flight)
        return;
    const char *address = id->managers[m->join_next++ % id->manager_count];
    struct rpc_client *client =
        strcmp(address, m->advertise) == 0 ? NULL : peers_client(m, address, &e);
    struct rpc_request r = { .method = SKEP__METHOD__METHOD_RAFT_JOIN,
                             .body = &req.base,
                             .deadline_ms = JOIN_CALL_MS };

    if (client == NULL)
        return;
    req.address = m->advertise;
    req.raft_id = raft_node_id(m->raft);
    req.incarnation = raft_node_incarnation(m->raft);
    m->join_in_flight = rpc_call_start(client, &r, on_join_answer, m, &e) == 0;
}

static void on_join_timer(void *ctx, uint64_t now_ms)
{
    struct manager *m = ctx;

    if (m->state != MANAGER_JOINING)
        return;
    ask_to_join(m);
    loop_timer_set(m->loop, &m->join_timer, now_ms + JOIN_INTERVAL_MS, on_join_timer, m);
}

/* ---- becoming
 * ------------------------------------------------------------------------------------ */

static int default_addresses(struct manager *m, struct err *e)
{
    load_addresses(m);
    if (m->listen[0] == '\0')
        (void)snprintf(m->listen, sizeof(m->listen), "0.0.0.0:2377");
    if (m->advertise[0] != '\0')
        return 0;
    char ip[64];
    const char *toward = m->identity->manager_count > 0 ? m->identity->managers[0] : "192.0.2.1:1";
    int rc = host_own_address(toward, ip, sizeof(ip), e);

    if (rc == 0)
        (void)snprintf(m->advertise, sizeof(m->advertise), "%s%s", ip, strrchr(m->listen, ':'));
    return rc;
}

int host_activate(struct manager *m, enum raft_node_start start, struct err *e)
{
    ASSERT(m->identity != NULL && m->raft == NULL);
    int rc = default_addresses(m, e);

    if (rc == 0)
        rc = listen_cluster(m, e);
    if (rc == 0)
        rc = start_raft(m, start, e);
    if (rc == 0)
        rc = own_addresses_save(m->state_dir, m->listen, m->advertise, e);
    if (rc < 0) {
        host_deactivate(m);
        return rc;
    }
    m->state = in_config(m) ? MANAGER_ACTIVE : MANAGER_JOINING;
    if (m->state == MANAGER_JOINING)
        on_join_timer(m, loop_now_ms(m->loop));
    else
        remember_managers(m, raft_node_config(m->raft));
    struct raft_status status;
    raft_node_status(m->raft, &status);
    on_leader(m, &status);
    log_info("host.active", "state=%s listen=%s advertise=%s node=%s",
             m->state == MANAGER_ACTIVE ? "active" : "joining", m->listen, m->advertise,
             m->identity->tls.node.s);
    return 0;
}

/* Everything that owes an answer gives it before the listeners go, and the calls with them. */
void host_deactivate(struct manager *m)
{
    loop_timer_cancel(m->loop, &m->join_timer);
    leader_stop(m);
    control_watches_drop(m);
    backup_calls_drop(m);
    ca_calls_drop(m);
    raft_node_free(TAKE_PTR(m->raft));
    peers_free(m);
    rpc_server_free(TAKE_PTR(m->cluster));
    rpc_server_free(TAKE_PTR(m->enrol));
    tls_context_free(TAKE_PTR(m->tls));
    tls_context_free(TAKE_PTR(m->tls_enrol));
    m->state = MANAGER_INACTIVE;
    m->join_in_flight = false;
    m->cluster_version = 0;
    m->member_change_in_flight = m->member_tx_in_flight = false;
    if (store_version(m->store) != 0) {
        store_free(m->store);
        m->store = store_new();
    }
}

/* ---- following the identity
 * ----------------------------------------------------------------------- */

static void update_contexts(struct manager *m)
{
    struct tls_context_options o = { .check = TLS_CHECK_CLUSTER,
                                     .root_ca_pem = m->identity->root_ca_pem,
                                     .node_pem = m->identity->node_pem };
    struct err e = { 0 };

    if (m->tls != NULL && tls_context_update(m->tls, &o, &e) < 0)
        log_error("identity.update", "error=\"%s\"", e.message);
    o.check = TLS_CHECK_SERVER;
    if (m->tls_enrol != NULL && tls_context_update(m->tls_enrol, &o, &e) < 0)
        log_error("identity.update", "error=\"%s\"", e.message);
}

void host_set_identity(struct manager *m, struct identity *id)
{
    identity_free(m->identity);
    m->identity = id;
    m->identity_stamp = identity_stamp(m->state_dir);
    if (id != NULL)
        m->renew_at_ns = ca_renew_at(id->not_before_ns, id->tls.not_after_ns, &m->prng);
}

static void leave_raft(struct manager *m)
{
    struct err e = { 0 };

    host_deactivate(m);
    if (raft_node_wipe(m->raft_dir, &e) < 0)
        log_error("raft.wipe", "error=\"%s\" remedy=\"remove the directory\"", e.message);
}

static void follow_identity(struct manager *m)
{
    struct identity *id = NULL;
    struct err e = { 0 };
    int rc = identity_load(m->state_dir, &id, &e);

    if (rc < 0) {
        log_info("identity.gone", "reason=\"%s\"", e.message);
        if (m->raft != NULL)
            leave_raft(m);
        host_set_identity(m, NULL);
        return;
    }
    log_info("identity.changed", "node=%s role=%d", id->tls.node.s, (int)id->tls.role);
    host_set_identity(m, id);
    update_contexts(m);
    if (id->tls.role == TLS_ROLE_WORKER && m->raft != NULL) {
        log_info("host.demoted", "reason=\"the certificate is a worker's\"");
        leave_raft(m);
        swarm_on_removed(m);
        return;
    }
    if (id->tls.role == TLS_ROLE_MANAGER && m->raft == NULL) {
        m->advertise[0] = '\0';
        enum raft_node_start how =
            raft_node_exists(m->raft_dir) ? RAFT_NODE_EXISTING : RAFT_NODE_JOIN;

        if (host_activate(m, how, &e) < 0)
            log_error("host.activate", "error=\"%s\"", e.message);
    }
}

static void on_renewed(void *ctx, int rc, const struct err *e)
{
    struct manager *m = ctx;

    m->renew_in_flight = false;
    if (rc < 0) {
        log_warn("identity.renew", "error=\"%s\" next=\"tried again\"", err_message(e, rc));
        m->renew_retry_ms = loop_now_ms(m->loop) + RENEW_RETRY_MS;
    }
}

/* Over any other manager, or over ourselves when we are alone. */
static void renew(struct manager *m)
{
    struct err e = { 0 };
    const char *address = peers_leader_address(m);

    if (address[0] == '\0' && m->identity->manager_count > 0)
        address = m->identity->managers[m->join_next++ % m->identity->manager_count];
    if (address[0] == '\0')
        return;
    if (m->tls == NULL)
        m->tls = make_context(m, TLS_CHECK_CLUSTER, &e);
    struct rpc_client *client = m->tls != NULL ? peers_client(m, address, &e) : NULL;

    m->renew_in_flight =
        client != NULL && renew_start(client, m->state_dir, m->identity, on_renewed, m, &e) == 0;
    m->renew_retry_ms = loop_now_ms(m->loop) + RENEW_RETRY_MS;
}

static bool renewal_due(struct manager *m, uint64_t now_ms)
{
    const Skep__Node *own;

    if (m->identity == NULL || m->identity->tls.role != TLS_ROLE_MANAGER || m->renew_in_flight ||
        now_ms < m->renew_retry_ms)
        return false;
    if (clock_wall_ns() >= m->renew_at_ns || m->demoted)
        return true;
    own = m->raft != NULL ? store_node(m->store, m->identity->tls.node.s) : NULL;
    if (own == NULL)
        return false;
    if (own->role == SKEP__NODE_ROLE__ROLE_WORKER)
        return true;
    /* To be demoted, and nobody leads us: the others may have removed us from Raft before the entry
     * that says so arrived here. The certificate says it too. */
    return own->spec->desired_role == SKEP__NODE_ROLE__ROLE_WORKER &&
           peers_leader_address(m)[0] == '\0';
}

/* What the cluster object says of this process: read again when it changed. */
static void follow_cluster(struct manager *m)
{
    const Skep__Cluster *cluster = store_cluster(m->store);

    if (cluster == NULL || m->tls == NULL || cluster->meta->version == m->cluster_version)
        return;
    if (m->raft != NULL)
        raft_node_set_snapshot_entries(m->raft, cluster->spec->snapshot_interval);
    struct id *ids = xcalloc(cluster->n_removed_nodes, sizeof(*ids));

    for (size_t i = 0; i < cluster->n_removed_nodes; i++)
        ids[i] = id_from_str(cluster->removed_nodes[i]->node_id);
    tls_context_set_removed(m->tls, ids, (uint32_t)cluster->n_removed_nodes);
    free(ids);
    m->cluster_version = cluster->meta->version;
}

/* Demoted and promoted again before we heard of either: the leader does not know our raft id any
 * more, so nobody will ever lead us. A leader that is behind would say the same of a new member,
 * but not for long, and then the real one is heard: only a lasting silence counts. */
static void rejoin_if_expelled(struct manager *m, uint64_t now_ms)
{
    struct raft_status status;
    struct err e = { 0 };

    if (m->raft == NULL || m->state != MANAGER_ACTIVE)
        return;
    raft_node_status(m->raft, &status);
    if (status.leader != RAFT_NONE || m->leaderless_ms == 0)
        m->leaderless_ms = status.leader != RAFT_NONE ? 0 : now_ms;
    if (m->leaderless_ms == 0 || now_ms - m->leaderless_ms < EXPELLED_AFTER_MS ||
        m->expelled_ms == 0 || now_ms - m->expelled_ms > EXPELLED_NOTICE_MS)
        return;
    log_warn("host.rejoin", "reason=\"the leader does not know this member any more\"");
    m->leaderless_ms = m->expelled_ms = 0;
    leave_raft(m);
    struct identity *id = NULL;
    int rc = identity_load(m->state_dir, &id, &e); /* with the managers as they are now */
    if (rc == 0) {
        host_set_identity(m, id);
        rc = host_activate(m, RAFT_NODE_JOIN, &e);
    }
    if (rc < 0)
        log_error("host.activate", "error=\"%s\"", e.message);
}

static void on_identity_timer(void *ctx, uint64_t now_ms)
{
    struct manager *m = ctx;

    loop_timer_set(m->loop, &m->identity_timer, now_ms + IDENTITY_INTERVAL_MS, on_identity_timer,
                   m);
    if (m->removed) {
        m->removed = false;
        m->demoted = true;
        leave_raft(m);
        swarm_on_removed(m);
    }
    if (identity_stamp(m->state_dir) != m->identity_stamp) {
        m->demoted = false;
        follow_identity(m);
    }
    if (renewal_due(m, now_ms))
        renew(m);
    rejoin_if_expelled(m, now_ms);
    follow_cluster(m);
}

int host_start(struct manager *m, struct err *e)
{
    struct identity *id = NULL;
    int rc = identity_load(m->state_dir, &id, e);

    if (rc < 0 && rc != -ERR_NOT_FOUND)
        return rc;
    host_set_identity(m, id);
    if (id != NULL && id->tls.role == TLS_ROLE_MANAGER) {
        rc = host_activate(m, raft_node_exists(m->raft_dir) ? RAFT_NODE_EXISTING : RAFT_NODE_JOIN,
                           e);
        if (rc < 0)
            return rc;
    }
    loop_timer_set(m->loop, &m->identity_timer, loop_now_ms(m->loop) + IDENTITY_INTERVAL_MS,
                   on_identity_timer, m);
    return 0;
}

void host_stop(struct manager *m)
{
    loop_timer_cancel(m->loop, &m->identity_timer);
    host_deactivate(m);
    identity_free(TAKE_PTR(m->identity));
}
