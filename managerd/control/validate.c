#include "managerd/control/validate.h"

#include <inttypes.h>
#include <string.h>

#include "common/ip.h"
#include "common/message.h"
#include "common/text.h"
#include "managerd/control/defaults.h"
#include "managerd/control/validate_internal.h"

/* ---- resources ---- */

static int check_generic(const char *at, const Skep__Resources *r, struct err *e)
{
    int rc = validate_count(at, r->n_generic, VALIDATE_LIST_MAX, e);

    for (size_t i = 0; rc == 0 && i < r->n_generic; i++) {
        const Skep__NamedCount *g = r->generic[i];

        if (!validate_chars(g->kind, VALIDATE_ALNUM "-_.") || g->kind[0] == '\0' ||
            strlen(g->kind) > 128)
            rc = err_set(e, ERR_INVALID, "%s: \"%.64s\" is no name of a generic resource", at,
                         g->kind);
        else if (g->value <= 0)
            rc = err_set(e, ERR_INVALID, "%s: %.64s=%" PRId64 " must be more than 0", at, g->kind,
                         g->value);
        else if (i > 0 && strcmp(r->generic[i - 1]->kind, g->kind) == 0)
            rc = err_set(e, ERR_INVALID, "%s: %.64s is given twice", at, g->kind);
    }
    return rc;
}

static int check_resources(const char *at, const Skep__Resources *r, struct err *e)
{
    if (r->nano_cpus != 0 && r->nano_cpus < VALIDATE_NANO_CPUS_MIN)
        return err_set(e, ERR_INVALID, "%s: invalid cpu value %g: must be at least 0.001", at,
                       (double)r->nano_cpus / 1e9);
    if (r->memory_bytes != 0 && r->memory_bytes < VALIDATE_MEMORY_BYTES_MIN)
        return err_set(e, ERR_INVALID,
                       "%s: invalid memory value %" PRId64 ": must be at least 4MiB", at,
                       r->memory_bytes);
    if (r->pids < 0)
        return err_set(e, ERR_INVALID, "%s: pids cannot be negative", at);
    return check_generic(at, r, e);
}

static int check_requirements(const Skep__ResourceRequirements *r, struct err *e)
{
    int rc = check_resources("task.resources.limits", r->limits, e);

    if (rc == 0)
        rc = check_resources("task.resources.reservations", r->reservations, e);
    if (rc == 0 && r->reservations->pids != 0)
        rc = err_set(e, ERR_INVALID, "task.resources.reservations: pids can only be limited");
    if (rc == 0 && r->limits->n_generic > 0)
        rc = err_set(e, ERR_INVALID,
                     "task.resources.limits: generic resources can only be reserved");
    if (rc == 0 && r->limits->memory_bytes != 0 &&
        r->reservations->memory_bytes > r->limits->memory_bytes)
        rc = err_set(e, ERR_INVALID,
                     "task.resources.reservations: more memory than task.resources.limits allows");
    return rc;
}

/* ---- policies ---- */

static int check_restart(const Skep__RestartPolicy *r, struct err *e)
{
    int rc = validate_duration("task.restart.delay: restart-delay", r->delay, e);

    return rc == 0 ? validate_duration("task.restart.window: restart-window", r->window, e) : rc;
}

/* DEVIATION: SwarmKit checks the update config only (features.md B11). */
static int check_update(const char *at, const Skep__UpdateConfig *u, struct err *e)
{
    char field[48];

    if (u->parallelism > VALIDATE_REPLICAS_MAX)
        return err_set(e, ERR_INVALID, "%s.parallelism: %" PRIu64 " is more than %d", at,
                       u->parallelism, VALIDATE_REPLICAS_MAX);
    (void)snprintf(field, sizeof(field), "%s.delay: %s-delay", at, at);
    int rc = validate_duration(field, u->delay, e);
    if (rc == 0) {
        (void)snprintf(field, sizeof(field), "%s.monitor: %s-monitor", at, at);
        rc = validate_duration(field, u->monitor, e);
    }
    if (rc == 0 && u->max_failure_ratio_ppm > 1000000)
        rc = err_set(e, ERR_INVALID, "%s.max_failure_ratio: cannot be less than 0 or bigger than 1",
                     at);
    return rc;
}

static bool is_job(const Skep__ServiceSpec *spec)
{
    return spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB ||
           spec->mode_case == SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB;
}

static int check_count(const char *at, uint64_t count, struct err *e)
{
    if (count > VALIDATE_REPLICAS_MAX)
        return err_set(e, ERR_INVALID, "%s: %" PRIu64 " is not between 0 and %d", at, count,
                       VALIDATE_REPLICAS_MAX);
    return 0;
}

static int check_mode(const Skep__ServiceSpec *spec, struct err *e)
{
    int rc = 0;

    if (spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED) {
        rc = check_count("replicas", spec->replicated->replicas, e);
    } else if (spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB) {
        rc = check_count("max_concurrent", spec->replicated_job->max_concurrent, e);
        if (rc == 0)
            rc = check_count("total_completions", spec->replicated_job->total_completions, e);
    } else if (spec->task->placement->max_replicas != 0) {
        rc = err_set(e, ERR_INVALID,
                     "placement.max_replicas: only for replicated services and replicated jobs");
    }
    if (rc < 0)
        return rc;
    if (!is_job(spec)) {
        rc = check_update("update", spec->update, e);
        return rc == 0 ? check_update("rollback", spec->rollback, e) : rc;
    }
    if (spec->update != NULL || spec->rollback != NULL)
        return err_set(e, ERR_INVALID, "update config is not allowed for jobs");
    return 0;
}

/* ---- endpoint ---- */

static int check_port(const Skep__EndpointSpec *endpoint, const Skep__PortConfig *p, struct err *e)
{
    if (p->target_port == 0 || p->target_port > 65535)
        return err_set(e, ERR_INVALID, "endpoint.ports: target port %u is not between 1 and 65535",
                       p->target_port);
    if (p->published_port > 65535)
        return err_set(e, ERR_INVALID,
                       "endpoint.ports: published port %u is not between 0 and 65535",
                       p->published_port);
    if (p->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_INGRESS &&
        endpoint->mode == SKEP__ENDPOINT_MODE__ENDPOINT_DNSRR)
        return err_set(e, ERR_INVALID,
                       "endpoint: port published with ingress mode can't be used with dnsrr mode; "
                       "publish port %u in host mode or use mode vip",
                       p->published_port);
    if (p->host_ip[0] != '\0' && !validate_is_ip(p->host_ip))
        return err_set(e, ERR_INVALID,
                       "endpoint.ports: host address \"%.64s\" is not an IP address", p->host_ip);
    if (p->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_HOST &&
        p->source != SKEP__SOURCE_POLICY__SOURCE_SNAT)
        return err_set(e, ERR_INVALID,
                       "endpoint.ports: a source policy is for ingress ports; port %u is published "
                       "in host mode",
                       p->published_port);
    return validate_line("endpoint.ports.name", p->name, VALIDATE_NAME_BYTES_MAX, e);
}

/* Host-mode ports on different addresses of a host do not meet. */
static bool ports_meet(const Skep__PortConfig *a, const Skep__PortConfig *b)
{
    bool host = a->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_HOST &&
                b->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_HOST;

    if (a->published_port == 0 || a->published_port != b->published_port ||
        a->protocol != b->protocol)
        return false;
    return !host || a->host_ip[0] == '\0' || b->host_ip[0] == '\0' ||
           strcmp(a->host_ip, b->host_ip) == 0;
}

static int check_endpoint(const Skep__EndpointSpec *endpoint, struct err *e)
{
    int rc = validate_count("endpoint.ports", endpoint->n_ports, VALIDATE_LIST_MAX, e);

    for (size_t i = 0; rc == 0 && i < endpoint->n_ports; i++) {
        rc = check_port(endpoint, endpoint->ports[i], e);
        for (size_t k = 0; rc == 0 && k < i; k++) {
            if (ports_meet(endpoint->ports[k], endpoint->ports[i]))
                rc = err_set(e, ERR_INVALID,
                             "endpoint.ports: duplicate published ports provided: port %u twice",
                             endpoint->ports[i]->published_port);
        }
    }
    return rc;
}

/* ---- task ---- */

static int check_networks(const Skep__TaskSpec *t, struct err *e)
{
    int rc = validate_count("task.networks", t->n_networks, VALIDATE_LIST_MAX, e);

    for (size_t i = 0; rc == 0 && i < t->n_networks; i++) {
        const Skep__NetworkAttachmentConfig *n = t->networks[i];

        if (n->target[0] == '\0')
            return err_set(e, ERR_INVALID, "task.networks: a network has no name");
        rc = validate_line("task.networks", n->target, 256, e);
        if (rc == 0)
            rc = validate_count("task.networks.aliases", n->n_aliases, 256, e);
        for (size_t k = 0; rc == 0 && k < n->n_aliases; k++) {
            if (n->aliases[k][0] == '\0' || strlen(n->aliases[k]) > 253 ||
                !validate_chars(n->aliases[k], VALIDATE_ALNUM "-_."))
                rc = err_set(e, ERR_INVALID, "task.networks: alias \"%.64s\" is not a DNS name",
                             n->aliases[k]);
        }
    }
    return rc;
}

static int check_task(const Skep__TaskSpec *t, struct err *e)
{
    if (t->container == NULL)
        return err_set(e, ERR_INVALID, "task.container: missing in service spec");
    int rc = validate_container(t->container, e);
    if (rc == 0)
        rc = check_requirements(t->resources, e);
    if (rc == 0)
        rc = check_restart(t->restart, e);
    if (rc == 0)
        rc = validate_placement(t->placement, e);
    if (rc == 0)
        rc = check_networks(t, e);
    if (rc == 0 && t->log_driver != NULL)
        rc = validate_line("task.log_driver", t->log_driver->name, 256, e);
    return rc;
}

/* Copies in, after its size was looked at: what follows may then be quadratic in short lists. */
static int copy(const ProtobufCMessage *in, struct arena *a, ProtobufCMessage **ret_copy,
                struct err *e)
{
    size_t size = message_measure(in).packed;

    if (size > VALIDATE_SPEC_BYTES_MAX)
        return err_set(e, ERR_INVALID, "spec: %zu bytes, at most %d are allowed", size,
                       VALIDATE_SPEC_BYTES_MAX);
    int rc = validate_enums(in, e);
    if (rc == 0)
        *ret_copy = message_clone_arena(a, in);
    return rc;
}

int control_validate_service(const Skep__ServiceSpec *in, struct arena *a,
                             Skep__ServiceSpec **ret_spec, struct err *e)
{
    ProtobufCMessage *m = NULL;
    int rc = copy(&in->base, a, &m, e);

    if (rc < 0)
        return rc;
    Skep__ServiceSpec *spec = (Skep__ServiceSpec *)m;

    defaults_fill_service(spec, a);
    rc = validate_name("annotations", spec->annotations->name, e);
    if (rc == 0)
        rc = validate_labels("annotations.labels", spec->annotations->labels,
                             spec->annotations->n_labels, e);
    if (rc == 0)
        rc = check_task(spec->task, e);
    if (rc == 0)
        rc = check_mode(spec, e);
    if (rc == 0)
        rc = check_endpoint(spec->endpoint, e);
    if (rc == 0)
        *ret_spec = spec;
    return rc;
}

/* ---- nodes ---- */

int control_validate_node(const Skep__NodeSpec *in, struct arena *a, Skep__NodeSpec **ret_spec,
                          struct err *e)
{
    ProtobufCMessage *m = NULL;
    int rc = copy(&in->base, a, &m, e);

    if (rc < 0)
        return rc;
    Skep__NodeSpec *spec = (Skep__NodeSpec *)m;

    if (spec->annotations == NULL) {
        spec->annotations = ARENA_NEW(a, Skep__Annotations);
        skep__annotations__init(spec->annotations);
    }
    defaults_sort_map(spec->annotations->labels, spec->annotations->n_labels);
    if (spec->annotations->name[0] != '\0')
        rc = validate_name("annotations", spec->annotations->name, e);
    if (rc == 0)
        rc = validate_labels("annotations.labels", spec->annotations->labels,
                             spec->annotations->n_labels, e);
    if (rc == 0)
        *ret_spec = spec;
    return rc;
}

enum {
    DESCRIPTION_BYTES_MAX = 256 << 10,
    DESCRIPTION_LIST_MAX = 1024,
    NODE_MTU_MIN = 576,
    NODE_MTU_MAX = 65536, /* loopback's */
};

static int check_described_map(const char *at, Skep__KeyValue *const *map, size_t count,
                               struct err *e)
{
    int rc = validate_count(at, count, DESCRIPTION_LIST_MAX, e);

    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = validate_line(at, map[i]->key, VALIDATE_LABEL_KEY_BYTES_MAX, e);
        if (rc == 0 && (map[i]->key[0] == '\0' || strstr(map[i]->key, "../") != NULL))
            rc = err_set(e, ERR_INVALID, "%s: invalid name \"%.64s\"", at, map[i]->key);
        if (rc == 0)
            rc = validate_line(at, map[i]->value, VALIDATE_LABEL_VALUE_BYTES_MAX, e);
    }
    return rc;
}

static int check_engine(const Skep__EngineDescription *engine, struct err *e)
{
    if (engine == NULL)
        return 0;
    int rc = validate_line("engine.version", engine->version, 256, e);
    if (rc == 0)
        rc = check_described_map("engine.labels", engine->labels, engine->n_labels, e);
    return rc == 0 ? check_described_map("engine.plugins", engine->plugins, engine->n_plugins, e)
                   : rc;
}

static int check_node_network(const Skep__NodeNetwork *n, struct err *e)
{
    struct ip ip;
    struct ip_net net;

    if (n == NULL)
        return 0;
    if (n->data_path_address[0] != '\0' && ip_parse(n->data_path_address, &ip, NULL) < 0)
        return err_set(e, ERR_INVALID, "network.data_path_address: \"%.64s\" is not an address",
                       n->data_path_address);
    if (n->data_path_address[0] != '\0' && (ip_is_any(&ip) || ip_is_multicast(&ip)))
        return err_set(e, ERR_INVALID,
                       "network.data_path_address: %.64s is not the address of a host",
                       n->data_path_address);
    int rc = validate_line("network.balancer", n->balancer, 64, e);
    if (rc == 0)
        rc = validate_line("network.encryption", n->encryption, 64, e);
    if (rc == 0)
        rc = validate_line("network.encryption_instance", n->encryption_instance, 64, e);
    if (rc == 0)
        rc = validate_line("network.error", n->error, 4096, e);
    if (rc == 0 && n->mtu != 0 && (n->mtu < NODE_MTU_MIN || n->mtu > NODE_MTU_MAX))
        rc = err_set(e, ERR_INVALID, "network.mtu: %u is not between %d and %d", n->mtu,
                     NODE_MTU_MIN, NODE_MTU_MAX);
    if (rc == 0)
        rc = validate_count("network.routes", n->n_routes, DESCRIPTION_LIST_MAX, e);
    for (size_t i = 0; rc == 0 && i < n->n_routes; i++) {
        if (ip_net_parse(n->routes[i], &net, NULL) < 0)
            rc = err_set(e, ERR_INVALID, "network.routes: \"%.64s\" is no subnet", n->routes[i]);
    }
    return rc;
}

static int check_capacity(const Skep__Resources *r, struct err *e)
{
    if (r == NULL)
        return 0;
    if (r->nano_cpus < 0 || r->memory_bytes < 0 || r->pids < 0)
        return err_set(e, ERR_INVALID, "resources: negative");
    return check_generic("resources.generic", r, e);
}

int control_validate_description(const Skep__NodeDescription *d, struct err *e)
{
    size_t size = message_measure(&d->base).packed;

    if (size > DESCRIPTION_BYTES_MAX)
        return err_set(e, ERR_INVALID, "node description: %zu bytes, at most %d are allowed", size,
                       DESCRIPTION_BYTES_MAX);
    int rc = validate_line("hostname", d->hostname, 253, e);
    if (rc == 0)
        rc = validate_line("agent_version", d->agent_version, 256, e);
    if (rc == 0)
        rc = validate_line("degraded", d->degraded, 4096, e);
    if (rc == 0 && d->platform != NULL) {
        rc = validate_line("platform.architecture", d->platform->architecture, 64, e);
        if (rc == 0)
            rc = validate_line("platform.os", d->platform->os, 64, e);
    }
    if (rc == 0)
        rc = check_capacity(d->resources, e);
    if (rc == 0)
        rc = check_node_network(d->network, e);
    return rc == 0 ? check_engine(d->engine, e) : rc;
}
