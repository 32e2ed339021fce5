#include "agentd/worker/container.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/worker/build.h"
#include "agentd/worker/image.h"
#include "agentd/worker/networks.h"
#include "agentd/worker/plain.h"

void container_name(const Skep__TaskAssignment *a, const char *node_id, char *ret, size_t size)
{
    const Skep__Task *t = a->task;

    if (t->slot == 0) /* global services, and slot 0 of jobs */
        plain_format(ret, size, "%s.%s.%s", a->service_name, node_id, t->id);
    else
        plain_format(ret, size, "%s.%" PRIu64 ".%s", a->service_name, t->slot, t->id);
}

/* ---- pieces of the body ---- */

static void add_labels(struct build *b, json_t *body)
{
    const Skep__ContainerSpec *c = b->spec;
    const Skep__Task *t = b->assignment->task;
    json_t *o = build_object(b, body, "Labels");

    for (size_t i = 0; i < c->n_labels; i++)
        build_str(b, o, c->labels[i]->key, c->labels[i]->value);
    build_str(b, o, "com.docker.swarm.task", "");
    build_str(b, o, LABEL_TASK_ID, t->id);
    build_str(b, o, "com.docker.swarm.task.name", b->plan->name);
    build_str(b, o, LABEL_NODE_ID, b->node->node_id);
    build_str(b, o, "com.docker.swarm.service.id", t->service_id);
    build_str(b, o, "com.docker.swarm.service.name", b->assignment->service_name);
    build_str(b, o, LABEL_CLUSTER, b->node->cluster_id);
}

static void add_process(struct build *b, json_t *body)
{
    const Skep__ContainerSpec *c = b->spec;
    json_t *env;

    if (!networks_has_overlay(b->assignment)) { /* else build_gate() */
        build_strings_if(b, body, "Entrypoint", c->command, c->n_command);
        build_strings_if(b, body, "Cmd", c->args, c->n_args);
    }
    if (c->hostname[0] != '\0')
        build_str(b, body, "Hostname", build_expand(b, "hostname", c->hostname));
    if (c->n_env > 0) {
        env = build_array(b, body, "Env");
        for (size_t i = 0; i < c->n_env; i++)
            build_append_str(b, env, build_expand(b, "env", c->env[i]));
    }
    build_str_if(b, body, "WorkingDir", c->dir);
    build_str_if(b, body, "User", c->user);
    build_str_if(b, body, "StopSignal", c->stop_signal);
    if (c->stop_grace_period > 0)
        build_int(b, body, "StopTimeout", (c->stop_grace_period + 999999999) / 1000000000);
    if (c->tty)
        build_bool(b, body, "Tty", true);
    if (c->open_stdin)
        build_bool(b, body, "OpenStdin", true);
}

static void add_health(struct build *b, json_t *body)
{
    const Skep__HealthConfig *h = b->spec->healthcheck;
    json_t *o;

    if (h == NULL)
        return;
    o = build_object(b, body, "Healthcheck");
    if (h->n_test > 0)
        build_strings(b, o, "Test", h->test, h->n_test);
    build_int_if(b, o, "Interval", h->interval);
    build_int_if(b, o, "Timeout", h->timeout);
    build_int_if(b, o, "StartPeriod", h->start_period);
    build_int_if(b, o, "StartInterval", h->start_interval);
    build_int_if(b, o, "Retries", h->retries);
}

static void add_resources(struct build *b, json_t *host)
{
    const Skep__ResourceRequirements *r = b->assignment->spec->task->resources;

    if (r == NULL || r->limits == NULL)
        return;
    build_int_if(b, host, "NanoCpus", r->limits->nano_cpus);
    build_int_if(b, host, "Memory", r->limits->memory_bytes);
    build_int_if(b, host, "PidsLimit", r->limits->pids);
}

static void add_log_driver(struct build *b, json_t *host)
{
    const Skep__Driver *d = b->assignment->spec->task->log_driver;
    json_t *o;

    if (d == NULL || d->name[0] == '\0')
        return;
    o = build_object(b, host, "LogConfig");
    build_str(b, o, "Type", d->name);
    build_map(b, o, "Config", d->options, d->n_options);
}

/* "IP name…" to "name:IP"; as in swarm only the first name counts. */
static void add_hosts(struct build *b, json_t *host)
{
    const Skep__ContainerSpec *c = b->spec;
    json_t *list;

    if (c->n_hosts == 0)
        return;
    list = build_array(b, host, "ExtraHosts");
    for (size_t i = 0; i < c->n_hosts; i++) {
        size_t ip = strcspn(c->hosts[i], " \t");
        const char *name = c->hosts[i] + ip + strspn(c->hosts[i] + ip, " \t");
        size_t name_size = strcspn(name, " \t");
        char line[512];

        if (ip == 0 || name_size == 0) {
            build_fail(b, "hosts: '%s' is not 'IP name'", c->hosts[i]);
            return;
        }
        plain_format(line, sizeof(line), "%.*s:%.*s", (int)MIN(name_size, (size_t)255), name,
                     (int)MIN(ip, (size_t)64), c->hosts[i]);
        build_append_str(b, list, line);
    }
}

/* "name=soft[:hard]", as `docker run --ulimit`. */
static void add_ulimits(struct build *b, json_t *host)
{
    const Skep__ContainerSpec *c = b->spec;
    json_t *list;

    if (c->n_ulimits == 0)
        return;
    list = build_array(b, host, "Ulimits");
    for (size_t i = 0; i < c->n_ulimits; i++) {
        const char *text = c->ulimits[i], *equals = strchr(text, '=');
        char name[64], *end = NULL;
        long long soft, hard;
        json_t *o;

        if (equals == NULL || equals == text || (size_t)(equals - text) >= sizeof(name)) {
            build_fail(b, "ulimits: '%s' is not name=soft:hard", text);
            return;
        }
        plain_format(name, sizeof(name), "%.*s", (int)(equals - text), text);
        soft = hard = strtoll(equals + 1, &end, 10);
        if (end != equals + 1 && *end == ':') {
            const char *second = end + 1;

            hard = strtoll(second, &end, 10);
            if (end == second)
                end = NULL;
        }
        if (end == NULL || end == equals + 1 || *end != '\0') {
            build_fail(b, "ulimits: '%s' is not name=soft:hard", text);
            return;
        }
        o = build_append_object(b, list);
        build_str(b, o, "Name", name);
        build_int(b, o, "Soft", soft);
        build_int(b, o, "Hard", hard);
    }
}

static const char *protocol_str(Skep__Protocol p)
{
    switch (p) {
    case SKEP__PROTOCOL__PROTOCOL_UDP:
        return "udp";
    case SKEP__PROTOCOL__PROTOCOL_SCTP:
        return "sctp";
    case SKEP__PROTOCOL__PROTOCOL_TCP:
    case _SKEP__PROTOCOL_IS_INT_SIZE:
    default:
        return "tcp";
    }
}

/* Host-mode ports; ingress ports are the routing mesh's, and all ports of tasks with overlay
 * networks are agentd/net's. Published 0: the engine chooses. */
static void add_ports(struct build *b, json_t *body, json_t *host)
{
    const Skep__EndpointSpec *ep = b->assignment->spec->endpoint;
    json_t *exposed = NULL, *bindings = NULL, *list, *o;

    for (size_t i = 0; ep != NULL && i < ep->n_ports; i++) {
        const Skep__PortConfig *p = ep->ports[i];
        char key[32], published[16];

        if (p->publish_mode != SKEP__PUBLISH_MODE__PUBLISH_HOST)
            continue;
        if (exposed == NULL) {
            exposed = build_object(b, body, "ExposedPorts");
            bindings = build_object(b, host, "PortBindings");
        }
        plain_format(key, sizeof(key), "%" PRIu32 "/%s", p->target_port, protocol_str(p->protocol));
        plain_format(published, sizeof(published), "%" PRIu32, p->published_port);
        if (json_object_get(exposed, key) == NULL)
            (void)build_object(b, exposed, key);
        list = json_object_get(bindings, key);
        if (list == NULL)
            list = build_array(b, bindings, key);
        o = build_append_object(b, list);
        build_str_if(b, o, "HostIp", p->host_ip);
        if (p->published_port != 0)
            build_str(b, o, "HostPort", published);
        b->plan->host_ports = true;
    }
}

static void add_dns(struct build *b, json_t *host, bool overlay)
{
    const Skep__ContainerSpec *c = b->spec;

    build_strings_if(b, host, "DnsSearch", c->dns_search, c->n_dns_search);
    if (overlay) {
        build_overlay_dns(b, host);
        return;
    }
    build_strings_if(b, host, "Dns", c->dns_nameservers, c->n_dns_nameservers);
    build_strings_if(b, host, "DnsOptions", c->dns_options, c->n_dns_options);
}

static void add_host_config(struct build *b, json_t *body)
{
    const Skep__ContainerSpec *c = b->spec;
    bool overlay = networks_has_overlay(b->assignment);
    json_t *host = build_object(b, body, "HostConfig"), *o;

    o = build_object(b, host, "RestartPolicy");
    build_str(b, o, "Name", "no"); /* a new task is the only restart there is */
    if (c->read_only)
        build_bool(b, host, "ReadonlyRootfs", true);
    if (c->init != SKEP__CONTAINER_SPEC__INIT__INIT_DEFAULT)
        build_bool(b, host, "Init", c->init == SKEP__CONTAINER_SPEC__INIT__INIT_TRUE);
    build_strings_if(b, host, "GroupAdd", c->groups, c->n_groups);
    build_networks(b, body, host);
    add_dns(b, host, overlay);
    build_strings_if(b, host, "CapAdd", c->cap_add, c->n_cap_add);
    build_strings_if(b, host, "CapDrop", c->cap_drop, c->n_cap_drop);
    if (c->n_sysctls > 0)
        build_map(b, host, "Sysctls", c->sysctls, c->n_sysctls);
    add_hosts(b, host);
    add_ulimits(b, host);
    add_resources(b, host);
    add_log_driver(b, host);
    build_mounts(b, host);
    if (overlay)
        build_gate(b, body, host);
    else
        add_ports(b, body, host);
}

static int plan_check(const Skep__TaskAssignment *a, struct err *e)
{
    if (a->task == NULL || a->spec == NULL || a->spec->task == NULL ||
        a->spec->task->container == NULL)
        return err_set(e, ERR_INVALID, "assignment without a container specification");
    return 0;
}

int container_plan_make(const Skep__TaskAssignment *a, const struct container_node *n,
                        struct container_plan *ret, struct err *e)
{
    struct container_plan plan = { .body = NULL };
    struct image_ref ref;
    char image[IMAGE_REPO_BYTES_MAX + IMAGE_TAG_BYTES_MAX];
    struct build b;
    json_t *body;
    int rc = plan_check(a, e);

    if (rc == 0)
        rc = image_ref_parse(a->spec->task->container->image, &ref, e);
    if (rc < 0)
        return rc;
    container_name(a, n->node_id, plan.name, sizeof(plan.name));
    build_init(&b, a, n, &plan, e);
    body = json_object();
    image_ref_full(b.spec->image, &ref, image, sizeof(image));
    build_str(&b, body, "Image", image);
    add_labels(&b, body);
    add_process(&b, body);
    add_health(&b, body);
    add_host_config(&b, body);
    if (b.rc == 0)
        plan.body = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
    if (b.rc == 0 && plan.body == NULL)
        build_fail(&b, "specification is not valid text");
    json_decref(body);
    rc = b.rc;
    build_deinit(&b);
    if (rc < 0)
        container_plan_deinit(&plan);
    else
        *ret = plan;
    return rc;
}

int container_plan_networks(const Skep__TaskAssignment *a, const struct container_node *n,
                            struct container_plan *ret, struct err *e)
{
    struct container_plan plan = { .body = NULL };
    struct build b;
    json_t *body;
    int rc = plan_check(a, e);

    if (rc < 0)
        return rc;
    build_init(&b, a, n, &plan, e);
    body = json_object();
    build_networks(&b, body, build_object(&b, body, "HostConfig"));
    json_decref(body);
    rc = b.rc;
    build_deinit(&b);
    if (rc < 0)
        container_plan_deinit(&plan);
    else
        *ret = plan;
    return rc;
}

void container_plan_deinit(struct container_plan *p)
{
    for (size_t i = 0; i < p->volume_count; i++)
        free(p->volumes[i]);
    for (size_t i = 0; i < p->bind_count; i++)
        free(p->binds[i].source);
    for (size_t i = 0; i < p->network_count; i++) {
        free(p->networks[i].name);
        free(p->networks[i].create_body);
        free(p->networks[i].connect_body);
    }
    free(p->networks);
    free(p->volumes);
    free(p->binds);
    free(p->files);
    free(p->body);
    memset(p, 0, sizeof(*p));
}
