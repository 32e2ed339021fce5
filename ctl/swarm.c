/* swarm init, join, join-token, leave, update, ca. */
#include <string.h>

#include "common/text.h"
#include "ctl/json.h"
#include "ctl/objects.h"
#include "ctl/parse.h"

enum { CONFLICT_RETRIES = 5, WAIT_JOIN_MS = 20000 };

static int parse_availability(struct ctl *c, Skep__NodeAvailability *ret, struct err *e)
{
    const char *text = flags_string(c->flags, "availability");

    if (availability_parse(text, ret))
        return 0;
    return err_set(e, ERR_INVALID,
                   "invalid availability \"%.40s\", only \"active\", \"pause\" and \"drain\" are "
                   "supported",
                   text);
}

/* The settings that init and update share; what was not given stays as it is in s. */
static int apply_cluster_flags(struct ctl *c, Skep__ClusterSpec *s, struct err *e)
{
    static const int64_t hour_ns = INT64_C(3600) * TEXT_NS_PER_S;

    if (flags_given(c->flags, "cert-expiry"))
        s->certificate_expiry = flags_duration(c->flags, "cert-expiry");
    if (flags_given(c->flags, "cert-expiry") && s->certificate_expiry < hour_ns)
        return err_set(e, ERR_INVALID, "minimum certificate expiry time is 1h0m0s");
    if (flags_given(c->flags, "dispatcher-heartbeat"))
        s->heartbeat_period = flags_duration(c->flags, "dispatcher-heartbeat");
    if (s->heartbeat_period < 0)
        return err_set(e, ERR_INVALID, "--dispatcher-heartbeat must not be negative");
    if (flags_given(c->flags, "snapshot-interval"))
        s->snapshot_interval = flags_u64(c->flags, "snapshot-interval");
    if (flags_given(c->flags, "task-history-limit"))
        s->task_history_limit = flags_i64(c->flags, "task-history-limit");
    return 0;
}

/* "" when the option was not given: then managerd's own options decide. */
static char *given_string(struct ctl *c, const char *flag)
{
    return arena_strdup(&c->arena, flags_given(c->flags, flag) ? flags_string(c->flags, flag) : "");
}

/* Defaults of the settings that the wire cannot leave unset. */
static Skep__ClusterSpec *default_cluster_spec(struct ctl *c)
{
    Skep__ClusterSpec *s = ARENA_NEW(&c->arena, Skep__ClusterSpec);

    skep__cluster_spec__init(s);
    s->annotations = ARENA_NEW(&c->arena, Skep__Annotations);
    skep__annotations__init(s->annotations);
    s->annotations->name = arena_strdup(&c->arena, "default");
    s->task_history_limit = 5;
    s->heartbeat_period = 5 * TEXT_NS_PER_S;
    s->certificate_expiry = INT64_C(2160) * 3600 * TEXT_NS_PER_S;
    s->snapshot_interval = 10000;
    return s;
}

static bool any_given(struct ctl *c, const char *const names[], size_t count)
{
    bool any = false;

    for (size_t i = 0; i < count; i++)
        any |= flags_given(c->flags, names[i]);
    return any;
}

/* *ret stays NULL, the manager's own defaults, when no setting was given. */
static int init_spec(struct ctl *c, Skep__ClusterSpec **ret, struct err *e)
{
    static const char *const settings[] = {
        "cert-expiry",        "dispatcher-heartbeat", "snapshot-interval",
        "task-history-limit", "data-path-port",       "default-addr-pool-mask-length",
        "default-addr-pool",
    };
    Skep__ClusterSpec *s = default_cluster_spec(c);
    uint64_t port = flags_u64(c->flags, "data-path-port");
    uint64_t mask = flags_u64(c->flags, "default-addr-pool-mask-length");
    int rc = apply_cluster_flags(c, s, e);

    if (rc < 0)
        return rc;
    if (port != 0 && (port < 1024 || port > 49151))
        return err_set(e, ERR_INVALID, "--data-path-port must be between 1024 and 49151");
    if (mask != 0 && (mask < 8 || mask > 29))
        return err_set(e, ERR_INVALID, "--default-addr-pool-mask-length must be between 8 and 29");
    for (size_t i = 0; i < flags_list_count(c->flags, "default-addr-pool"); i++)
        LIST_ADD(&c->arena, s->n_address_pools, s->address_pools,
                 arena_strdup(&c->arena, flags_list_at(c->flags, "default-addr-pool", i)));
    s->data_path_port = (uint32_t)port;
    s->subnet_size = (uint32_t)mask;
    if (any_given(c, settings, ARRAY_LEN(settings)))
        *ret = s;
    return 0;
}

int swarm_init(struct ctl *c)
{
    Skep__SwarmInitRequest body = SKEP__SWARM_INIT_REQUEST__INIT;
    struct client_request r = {
        .method = SKEP__METHOD__METHOD_SWARM_INIT,
        .body = &body.base,
        .answer = &skep__swarm_init_response__descriptor,
        .wait_ms = WAIT_JOIN_MS,
    };
    const Skep__SwarmInitResponse *answer;
    ProtobufCMessage *m = NULL;
    struct err e = { 0 };
    int rc = parse_availability(c, &body.availability, &e);

    if (rc == 0)
        rc = init_spec(c, &body.spec, &e);
    if (rc < 0)
        return ctl_error(c, rc, &e);
    body.advertise_addr = arena_strdup(&c->arena, flags_string(c->flags, "advertise-addr"));
    body.listen_addr = given_string(c, "listen-addr");
    body.force_new_cluster = flags_bool(c->flags, "force-new-cluster");
    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    rc = ctl_call(c, &r, &m, &e);
    if (rc < 0)
        return ctl_error(c, rc, &e);
    answer = (const Skep__SwarmInitResponse *)m;
    (void)fprintf(c->out,
                  "Swarm initialized: current node (%s) is now a manager.\n\n"
                  "To add a worker to this swarm, run the following command:\n\n"
                  "    ctl swarm join --token %s %s\n\n"
                  "To add a manager to this swarm, run 'ctl swarm join-token manager' and follow "
                  "the instructions.\n\n",
                  answer->node_id, answer->worker_token, answer->address);
    return 0;
}

int swarm_join(struct ctl *c)
{
    Skep__SwarmJoinRequest body = SKEP__SWARM_JOIN_REQUEST__INIT;
    struct client_request r = {
        .method = SKEP__METHOD__METHOD_SWARM_JOIN,
        .body = &body.base,
        .answer = &skep__swarm_join_response__descriptor,
        .wait_ms = WAIT_JOIN_MS,
    };
    ProtobufCMessage *m = NULL;
    struct err e = { 0 };
    int rc = parse_availability(c, &body.availability, &e);

    if (rc < 0)
        return ctl_error(c, rc, &e);
    if (flags_string(c->flags, "token")[0] == '\0')
        return ctl_fail(c, "--token is missing; 'ctl swarm join-token worker' on a manager of the "
                           "swarm prints it");
    for (int i = 0; i < flags_arg_count(c->flags); i++)
        LIST_ADD(&c->arena, body.n_remotes, body.remotes,
                 arena_strdup(&c->arena, flags_arg(c->flags, i)));
    body.token = arena_strdup(&c->arena, flags_string(c->flags, "token"));
    body.advertise_addr = arena_strdup(&c->arena, flags_string(c->flags, "advertise-addr"));
    body.listen_addr = given_string(c, "listen-addr");
    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    rc = ctl_call(c, &r, &m, &e);
    if (rc == -ERR_TIMEOUT)
        return ctl_fail(c, "Error response from daemon: Timeout was reached before node joined. "
                           "The attempt to join the swarm will continue in the background. Use the "
                           "\"ctl info\" command to see the current swarm status of your node.");
    if (rc < 0)
        return ctl_error(c, rc, &e);
    (void)fprintf(c->out, "This node joined a swarm as a %s.\n",
                  ((const Skep__SwarmJoinResponse *)m)->manager ? "manager" : "worker");
    return 0;
}

/* ---- settings ---- */

static int cluster_update(struct ctl *c, Skep__ClusterUpdateRequest *body, Skep__Cluster **ret,
                          struct err *e)
{
    struct client_request r = {
        .method = SKEP__METHOD__METHOD_CLUSTER_UPDATE,
        .body = &body->base,
        .answer = &skep__cluster_update_response__descriptor,
        .mutation = true,
    };
    ProtobufCMessage *m = NULL;
    int rc = ctl_call(c, &r, &m, e);

    if (rc == 0)
        *ret = ((Skep__ClusterUpdateResponse *)m)->cluster;
    if (rc == 0 && *ret == NULL)
        return err_set(e, ERR_PROTO, "managerd answered without the cluster");
    return rc;
}

static int rotate_token(struct ctl *c, bool manager, Skep__Cluster **cluster, struct err *e)
{
    for (int attempt = 0;; attempt++) {
        Skep__ClusterUpdateRequest body = SKEP__CLUSTER_UPDATE_REQUEST__INIT;
        int rc;

        body.spec_version = (*cluster)->meta != NULL ? (*cluster)->meta->spec_version : 0;
        body.rotate_manager_token = manager;
        body.rotate_worker_token = !manager;
        rc = cluster_update(c, &body, cluster, e);
        if (rc != -ERR_CONFLICT || attempt == CONFLICT_RETRIES)
            return rc;
        rc = cluster_get(c, cluster, e);
        if (rc < 0)
            return rc;
    }
}

/* Where joining nodes reach the manager that answers. */
static const char *join_address(struct ctl *c)
{
    Skep__InfoResponse *info = NULL;

    if (info_get(c, &info, NULL) < 0 || info->address[0] == '\0')
        return "HOST:2377";
    return strchr(info->address, ':') != NULL
               ? info->address
               : arena_printf(&c->arena, "%s:%d", info->address, CLIENT_PORT);
}

int swarm_join_token(struct ctl *c)
{
    const char *role = flags_arg(c->flags, 0);
    bool manager = strcmp(role, "manager") == 0;
    bool quiet = flags_bool(c->flags, "quiet");
    Skep__Cluster *cluster = NULL;
    const char *token;
    struct err e = { 0 };
    int rc;

    if (!manager && strcmp(role, "worker") != 0)
        return ctl_fail(c, "unknown role %s: use worker or manager", role);
    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    rc = cluster_get(c, &cluster, &e);
    if (rc == 0 && flags_bool(c->flags, "rotate"))
        rc = rotate_token(c, manager, &cluster, &e);
    if (rc < 0)
        return ctl_error(c, rc, &e);
    token = manager ? cluster->join_token_manager : cluster->join_token_worker;
    if (quiet) {
        (void)fprintf(c->out, "%s\n", token);
        return 0;
    }
    if (flags_bool(c->flags, "rotate"))
        (void)fprintf(c->out, "Successfully rotated %s join token.\n\n", role);
    (void)fprintf(c->out,
                  "To add a %s to this swarm, run the following command:\n\n"
                  "    ctl swarm join --token %s %s\n\n",
                  role, token, join_address(c));
    return 0;
}

int swarm_leave(struct ctl *c)
{
    Skep__SwarmLeaveRequest body = SKEP__SWARM_LEAVE_REQUEST__INIT;
    struct client_request r = {
        .method = SKEP__METHOD__METHOD_SWARM_LEAVE,
        .body = &body.base,
        .wait_ms = WAIT_JOIN_MS,
    };
    struct err e = { 0 };
    int rc;

    body.force = flags_bool(c->flags, "force");
    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    rc = ctl_call(c, &r, NULL, &e);
    if (rc < 0)
        return ctl_error(c, rc, &e);
    (void)fprintf(c->out, "Node left the swarm.\n");
    return 0;
}

static int apply_log_driver(struct ctl *c, Skep__ClusterSpec *s, struct err *e)
{
    if (!flags_given(c->flags, "log-driver") && !flags_given(c->flags, "log-opt"))
        return 0;
    if (s->log_driver == NULL || flags_given(c->flags, "log-driver")) {
        s->log_driver = ARENA_NEW(&c->arena, Skep__Driver);
        skep__driver__init(s->log_driver);
        s->log_driver->name = arena_strdup(&c->arena, flags_string(c->flags, "log-driver"));
    }
    for (size_t i = 0; i < flags_list_count(c->flags, "log-opt"); i++) {
        int rc = parse_label(&c->arena, flags_list_at(c->flags, "log-opt", i),
                             &s->log_driver->n_options, &s->log_driver->options, e);

        if (rc < 0)
            return rc;
    }
    if (s->log_driver->name[0] == '\0' && s->log_driver->n_options == 0)
        s->log_driver = NULL; /* --log-driver "" takes the default away */
    return 0;
}

int swarm_update(struct ctl *c)
{
    struct err e = { 0 };

    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    for (int attempt = 0;; attempt++) {
        Skep__ClusterUpdateRequest body = SKEP__CLUSTER_UPDATE_REQUEST__INIT;
        Skep__Cluster *cluster = NULL;
        int rc = cluster_get(c, &cluster, &e);

        if (rc == 0)
            rc = apply_cluster_flags(c, cluster->spec, &e);
        if (rc == 0)
            rc = apply_log_driver(c, cluster->spec, &e);
        if (rc < 0)
            return ctl_error(c, rc, &e);
        body.spec_version = cluster->meta != NULL ? cluster->meta->spec_version : 0;
        body.spec = cluster->spec;
        rc = cluster_update(c, &body, &cluster, &e);
        if (rc == -ERR_CONFLICT && attempt < CONFLICT_RETRIES)
            continue;
        if (rc < 0)
            return ctl_error(c, rc, &e);
        (void)fprintf(c->out, "Swarm updated.\n");
        return 0;
    }
}

int swarm_ca(struct ctl *c)
{
    Skep__Cluster *cluster = NULL;
    const ProtobufCBinaryData *pem;
    struct err e = { 0 };
    int rc;

    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    rc = cluster_get(c, &cluster, &e);
    if (rc < 0)
        return ctl_error(c, rc, &e);
    if (cluster->root_ca == NULL || cluster->root_ca->certificate_pem.len == 0)
        return ctl_fail(c, "the manager knows no root certificate");
    pem = &cluster->root_ca->certificate_pem;
    (void)fwrite(pem->data, 1, pem->len, c->out);
    if (pem->data[pem->len - 1] != '\n')
        (void)fputc('\n', c->out);
    return 0;
}
