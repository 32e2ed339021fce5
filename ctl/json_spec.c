/* Service and task specs in the Engine API's shape. */
#include <string.h>

#include "common/mem.h"
#include "common/text.h"
#include "ctl/json.h"

void json_set_string(json_t *o, const char *key, const char *value)
{
    if (value[0] != '\0')
        (void)json_object_set_new(o, key, json_string(value));
}

void json_set_integer(json_t *o, const char *key, int64_t value)
{
    if (value != 0)
        (void)json_object_set_new(o, key, json_integer(value));
}

void json_set_true(json_t *o, const char *key, bool value)
{
    if (value)
        (void)json_object_set_new(o, key, json_true());
}

void json_set_strings(json_t *o, const char *key, size_t count, char *const *items)
{
    json_t *list;

    if (count == 0)
        return;
    list = json_array();
    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(list, json_string(items[i]));
    (void)json_object_set_new(o, key, list);
}

json_t *json_map(size_t count, Skep__KeyValue *const *items)
{
    json_t *map = json_object();

    for (size_t i = 0; i < count; i++)
        (void)json_object_set_new(map, items[i]->key, json_string(items[i]->value));
    return map;
}

void json_set_map(json_t *o, const char *key, size_t count, Skep__KeyValue *const *items)
{
    if (count > 0)
        (void)json_object_set_new(o, key, json_map(count, items));
}

/* Takes list; leaves an empty one out. */
static void set_list(json_t *o, const char *key, json_t *list)
{
    if (json_array_size(list) > 0)
        (void)json_object_set(o, key, list);
    json_decref(list);
}

/* ---- container ---- */

static json_t *mount_json(const Skep__Mount *m)
{
    static const char *const propagations[] = { "rprivate", "private", "rshared",
                                                "shared",   "rslave",  "slave" };
    json_t *o = json_object();
    json_t *options = json_object();
    bool bind = m->type == SKEP__MOUNT__TYPE__BIND;

    json_set_string(o, "Type", text_mount_type(m->type));
    json_set_string(o, "Source", m->source);
    json_set_string(o, "Target", m->target);
    json_set_true(o, "ReadOnly", m->read_only);
    if (bind && m->propagation != SKEP__MOUNT__PROPAGATION__RPRIVATE &&
        (size_t)m->propagation < ARRAY_LEN(propagations))
        json_set_string(options, "Propagation", propagations[m->propagation]);
    json_set_true(options, "NonRecursive", m->bind_nonrecursive);
    json_set_true(options, "CreateMountpoint", m->bind_create);
    json_set_true(options, "NoCopy", m->volume_nocopy);
    json_set_map(options, "Labels", m->n_volume_labels, m->volume_labels);
    if (m->volume_driver != NULL) {
        json_t *driver = json_object();

        json_set_string(driver, "Name", m->volume_driver->name);
        json_set_map(driver, "Options", m->volume_driver->n_options, m->volume_driver->options);
        (void)json_object_set_new(options, "DriverConfig", driver);
    }
    json_set_integer(options, "SizeBytes", m->tmpfs_size_bytes);
    json_set_integer(options, "Mode", m->tmpfs_mode);
    if (json_object_size(options) > 0)
        (void)json_object_set(o,
                              bind                                   ? "BindOptions"
                              : m->type == SKEP__MOUNT__TYPE__VOLUME ? "VolumeOptions"
                                                                     : "TmpfsOptions",
                              options);
    json_decref(options);
    return o;
}

static void set_health(json_t *o, const Skep__HealthConfig *h)
{
    json_t *health;

    if (h == NULL)
        return;
    health = json_object();
    json_set_strings(health, "Test", h->n_test, h->test);
    json_set_integer(health, "Interval", h->interval);
    json_set_integer(health, "Timeout", h->timeout);
    json_set_integer(health, "StartPeriod", h->start_period);
    json_set_integer(health, "StartInterval", h->start_interval);
    json_set_integer(health, "Retries", h->retries);
    (void)json_object_set_new(o, "Healthcheck", health);
}

static json_t *file_json(const Skep__FileTarget *f)
{
    json_t *o = json_object();

    if (f == NULL)
        return o;
    (void)json_object_set_new(o, "Name", json_string(f->name));
    (void)json_object_set_new(o, "UID", json_string(f->uid));
    (void)json_object_set_new(o, "GID", json_string(f->gid));
    (void)json_object_set_new(o, "Mode", json_integer(f->mode));
    return o;
}

static void set_files(json_t *o, const Skep__ContainerSpec *c)
{
    json_t *secrets = json_array();
    json_t *configs = json_array();

    for (size_t i = 0; i < c->n_secrets; i++) {
        json_t *r = json_object();

        (void)json_object_set_new(r, "File", file_json(c->secrets[i]->file));
        json_set_string(r, "SecretID", c->secrets[i]->secret_id);
        json_set_string(r, "SecretName", c->secrets[i]->secret_name);
        (void)json_array_append_new(secrets, r);
    }
    for (size_t i = 0; i < c->n_configs; i++) {
        json_t *r = json_object();

        (void)json_object_set_new(r, "File", file_json(c->configs[i]->file));
        json_set_string(r, "ConfigID", c->configs[i]->config_id);
        json_set_string(r, "ConfigName", c->configs[i]->config_name);
        (void)json_array_append_new(configs, r);
    }
    set_list(o, "Secrets", secrets);
    set_list(o, "Configs", configs);
}

/* "name=soft:hard" */
static void set_ulimits(json_t *o, const Skep__ContainerSpec *c)
{
    json_t *list = json_array();

    for (size_t i = 0; i < c->n_ulimits; i++) {
        const char *equals = strchr(c->ulimits[i], '=');
        const char *colon = equals != NULL ? strchr(equals, ':') : NULL;
        json_t *u = json_object();

        if (colon == NULL) {
            json_set_string(u, "Name", c->ulimits[i]);
        } else {
            (void)json_object_set_new(
                u, "Name", json_stringn(c->ulimits[i], (size_t)(equals - c->ulimits[i])));
            (void)json_object_set_new(u, "Hard", json_integer(strtoll(colon + 1, NULL, 10)));
            (void)json_object_set_new(u, "Soft", json_integer(strtoll(equals + 1, NULL, 10)));
        }
        (void)json_array_append_new(list, u);
    }
    set_list(o, "Ulimits", list);
}

static json_t *container_json(const Skep__ContainerSpec *c)
{
    json_t *o = json_object();
    json_t *dns = json_object();
    json_t *mounts = json_array();

    json_set_string(o, "Image", c->image);
    json_set_map(o, "Labels", c->n_labels, c->labels);
    json_set_strings(o, "Command", c->n_command, c->command);
    json_set_strings(o, "Args", c->n_args, c->args);
    json_set_string(o, "Hostname", c->hostname);
    json_set_strings(o, "Env", c->n_env, c->env);
    json_set_string(o, "Dir", c->dir);
    json_set_string(o, "User", c->user);
    json_set_strings(o, "Groups", c->n_groups, c->groups);
    if (c->init != SKEP__CONTAINER_SPEC__INIT__INIT_DEFAULT)
        (void)json_object_set_new(o, "Init",
                                  json_boolean(c->init == SKEP__CONTAINER_SPEC__INIT__INIT_TRUE));
    json_set_string(o, "StopSignal", c->stop_signal);
    json_set_true(o, "TTY", c->tty);
    json_set_true(o, "OpenStdin", c->open_stdin);
    json_set_true(o, "ReadOnly", c->read_only);
    for (size_t i = 0; i < c->n_mounts; i++)
        (void)json_array_append_new(mounts, mount_json(c->mounts[i]));
    set_list(o, "Mounts", mounts);
    json_set_integer(o, "StopGracePeriod", c->stop_grace_period);
    set_health(o, c->healthcheck);
    json_set_strings(o, "Hosts", c->n_hosts, c->hosts);
    json_set_strings(dns, "Nameservers", c->n_dns_nameservers, c->dns_nameservers);
    json_set_strings(dns, "Search", c->n_dns_search, c->dns_search);
    json_set_strings(dns, "Options", c->n_dns_options, c->dns_options);
    (void)json_object_set_new(o, "DNSConfig", dns);
    set_files(o, c);
    json_set_string(o, "Isolation", "default");
    json_set_map(o, "Sysctls", c->n_sysctls, c->sysctls);
    json_set_strings(o, "CapabilityAdd", c->n_cap_add, c->cap_add);
    json_set_strings(o, "CapabilityDrop", c->n_cap_drop, c->cap_drop);
    set_ulimits(o, c);
    return o;
}

/* ---- task ---- */

static json_t *resources_json(const Skep__Resources *r)
{
    json_t *o = json_object();

    if (r == NULL)
        return o;
    json_set_integer(o, "NanoCPUs", r->nano_cpus);
    json_set_integer(o, "MemoryBytes", r->memory_bytes);
    json_set_integer(o, "Pids", r->pids);
    return o;
}

static json_t *placement_json(const Skep__Placement *p)
{
    json_t *o = json_object();
    json_t *constraints = json_array();
    json_t *preferences = json_array();
    json_t *platforms = json_array();

    for (size_t i = 0; i < p->n_constraints; i++) {
        CLEANUP_FREE char *text =
            xasprintf("%s%s%s", p->constraints[i]->key,
                      p->constraints[i]->not_equal ? "!=" : "==", p->constraints[i]->value);

        (void)json_array_append_new(constraints, json_string(text));
    }
    for (size_t i = 0; i < p->n_preferences; i++)
        (void)json_array_append_new(preferences, json_pack("{s{ss}}", "Spread", "SpreadDescriptor",
                                                           p->preferences[i]->descriptor));
    for (size_t i = 0; i < p->n_platforms; i++) {
        json_t *platform = json_object();

        json_set_string(platform, "Architecture", p->platforms[i]->architecture);
        json_set_string(platform, "OS", p->platforms[i]->os);
        (void)json_array_append_new(platforms, platform);
    }
    set_list(o, "Constraints", constraints);
    set_list(o, "Preferences", preferences);
    json_set_integer(o, "MaxReplicas", p->max_replicas);
    set_list(o, "Platforms", platforms);
    return o;
}

static json_t *networks_json(const Skep__TaskSpec *t)
{
    json_t *list = json_array();

    for (size_t i = 0; i < t->n_networks; i++) {
        json_t *n = json_object();

        json_set_string(n, "Target", t->networks[i]->target);
        json_set_strings(n, "Aliases", t->networks[i]->n_aliases, t->networks[i]->aliases);
        json_set_map(n, "DriverOpts", t->networks[i]->n_driver_options,
                     t->networks[i]->driver_options);
        (void)json_array_append_new(list, n);
    }
    return list;
}

json_t *json_task_spec(const Skep__TaskSpec *t)
{
    json_t *o = json_object();

    if (t->container != NULL)
        (void)json_object_set_new(o, "ContainerSpec", container_json(t->container));
    if (t->resources != NULL) {
        json_t *r = json_object();

        (void)json_object_set_new(r, "Limits", resources_json(t->resources->limits));
        (void)json_object_set_new(r, "Reservations", resources_json(t->resources->reservations));
        (void)json_object_set_new(o, "Resources", r);
    }
    if (t->restart != NULL) {
        json_t *r = json_object();

        json_set_string(r, "Condition", text_restart_condition(t->restart->condition));
        json_set_integer(r, "Delay", t->restart->delay);
        (void)json_object_set_new(r, "MaxAttempts",
                                  json_integer((json_int_t)t->restart->max_attempts));
        json_set_integer(r, "Window", t->restart->window);
        (void)json_object_set_new(o, "RestartPolicy", r);
    }
    if (t->placement != NULL)
        (void)json_object_set_new(o, "Placement", placement_json(t->placement));
    if (t->n_networks > 0)
        (void)json_object_set_new(o, "Networks", networks_json(t));
    if (t->log_driver != NULL) {
        json_t *d = json_object();

        json_set_string(d, "Name", t->log_driver->name);
        json_set_map(d, "Options", t->log_driver->n_options, t->log_driver->options);
        (void)json_object_set_new(o, "LogDriver", d);
    }
    (void)json_object_set_new(o, "ForceUpdate", json_integer((json_int_t)t->force_update));
    return o;
}

/* ---- service ---- */

static json_t *mode_json(const Skep__ServiceSpec *s)
{
    switch (s->mode_case) {
    case SKEP__SERVICE_SPEC__MODE_GLOBAL:
        return json_pack("{s{}}", "Global");
    case SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB:
        return json_pack("{s{sIsI}}", "ReplicatedJob", "MaxConcurrent",
                         (json_int_t)s->replicated_job->max_concurrent, "TotalCompletions",
                         (json_int_t)s->replicated_job->total_completions);
    case SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB:
        return json_pack("{s{}}", "GlobalJob");
    case SKEP__SERVICE_SPEC__MODE_REPLICATED:
        return json_pack("{s{sI}}", "Replicated", "Replicas", (json_int_t)s->replicated->replicas);
    case SKEP__SERVICE_SPEC__MODE__NOT_SET:
    case _SKEP__SERVICE_SPEC__MODE__CASE_IS_INT_SIZE:
        break;
    }
    return json_object();
}

static void set_update(json_t *o, const char *key, const Skep__UpdateConfig *u)
{
    json_t *v;

    if (u == NULL)
        return;
    v = json_object();
    (void)json_object_set_new(v, "Parallelism", json_integer((json_int_t)u->parallelism));
    json_set_integer(v, "Delay", u->delay);
    json_set_string(v, "FailureAction", text_failure_action(u->failure_action));
    json_set_integer(v, "Monitor", u->monitor);
    (void)json_object_set_new(v, "MaxFailureRatio",
                              u->max_failure_ratio_ppm % 1000000 == 0
                                  ? json_integer(u->max_failure_ratio_ppm / 1000000)
                                  : json_real((double)u->max_failure_ratio_ppm / 1e6));
    json_set_string(v, "Order", text_order(u->order));
    (void)json_object_set_new(o, key, v);
}

static json_t *ports_json(size_t count, Skep__PortConfig *const *ports)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++) {
        json_t *p = json_object();

        json_set_string(p, "Name", ports[i]->name);
        json_set_string(p, "Protocol", text_protocol(ports[i]->protocol));
        json_set_integer(p, "TargetPort", ports[i]->target_port);
        json_set_integer(p, "PublishedPort", ports[i]->published_port);
        json_set_string(p, "PublishMode", text_publish_mode(ports[i]->publish_mode));
        json_set_string(p, "HostIP", ports[i]->host_ip);
        if (ports[i]->source != SKEP__SOURCE_POLICY__SOURCE_SNAT)
            json_set_string(p, "Source", text_source(ports[i]->source));
        json_set_string(p, "HostIP", ports[i]->host_ip);
        (void)json_array_append_new(list, p);
    }
    return list;
}

static json_t *endpoint_spec_json(const Skep__EndpointSpec *e)
{
    json_t *o = json_object();

    if (e == NULL)
        return o;
    json_set_string(o, "Mode", text_endpoint_mode(e->mode));
    if (e->n_ports > 0)
        (void)json_object_set_new(o, "Ports", ports_json(e->n_ports, e->ports));
    return o;
}

json_t *json_service_spec(const Skep__ServiceSpec *s)
{
    json_t *o = json_object();
    json_t *task;

    json_set_string(o, "Name", s->annotations != NULL ? s->annotations->name : "");
    (void)json_object_set_new(o, "Labels",
                              s->annotations != NULL
                                  ? json_map(s->annotations->n_labels, s->annotations->labels)
                                  : json_object());
    task = s->task != NULL ? json_task_spec(s->task) : json_object();
    (void)json_object_set_new(task, "Runtime", json_string("container"));
    (void)json_object_set_new(o, "TaskTemplate", task);
    (void)json_object_set_new(o, "Mode", mode_json(s));
    set_update(o, "UpdateConfig", s->update);
    set_update(o, "RollbackConfig", s->rollback);
    if (s->endpoint != NULL)
        (void)json_object_set_new(o, "EndpointSpec", endpoint_spec_json(s->endpoint));
    return o;
}

static json_t *endpoint_json(const Skep__Endpoint *e)
{
    json_t *o = json_object();
    json_t *vips = json_array();

    (void)json_object_set_new(o, "Spec", endpoint_spec_json(e != NULL ? e->spec : NULL));
    if (e != NULL && e->n_ports > 0)
        (void)json_object_set_new(o, "Ports", ports_json(e->n_ports, e->ports));
    for (size_t i = 0; e != NULL && i < e->n_virtual_ips; i++) {
        json_t *v = json_object();

        json_set_string(v, "NetworkID", e->virtual_ips[i]->network_id);
        json_set_string(v, "Addr", e->virtual_ips[i]->address);
        (void)json_array_append_new(vips, v);
    }
    set_list(o, "VirtualIPs", vips);
    json_set_string(o, "Error", e != NULL ? e->error : "");
    return o;
}

json_t *json_service(const Skep__Service *s)
{
    json_t *o = json_object_head(s->id, s->meta);
    char time[TEXT_TIME_MAX];

    if (s->spec != NULL)
        (void)json_object_set_new(o, "Spec", json_service_spec(s->spec));
    if (s->previous_spec != NULL)
        (void)json_object_set_new(o, "PreviousSpec", json_service_spec(s->previous_spec));
    (void)json_object_set_new(o, "Endpoint", endpoint_json(s->endpoint));
    if (s->update_status != NULL && s->update_status->state != SKEP__UPDATE_STATUS__STATE__NONE) {
        json_t *u = json_object();

        json_set_string(u, "State", text_update_state(s->update_status->state));
        if (s->update_status->started_at != 0)
            json_set_string(u, "StartedAt", text_format_time(time, s->update_status->started_at));
        if (s->update_status->completed_at != 0)
            json_set_string(u, "CompletedAt",
                            text_format_time(time, s->update_status->completed_at));
        json_set_string(u, "Message", s->update_status->message);
        (void)json_object_set_new(o, "UpdateStatus", u);
    }
    if (s->spec != NULL && (s->spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB ||
                            s->spec->mode_case == SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB)) {
        json_t *job = json_object();
        json_t *iteration = json_object();

        json_set_integer(iteration, "Index", (int64_t)s->job_iteration);
        (void)json_object_set_new(job, "JobIteration", iteration);
        (void)json_object_set_new(o, "JobStatus", job);
    }
    return o;
}
