/* Nodes, tasks and the cluster in the Engine API's shape. */
#include "ctl/json.h"

#include <string.h>

#include "common/mem.h"
#include "common/text.h"

static void set_time(json_t *o, const char *key, int64_t ns)
{
    char time[TEXT_TIME_MAX];

    (void)json_object_set_new(o, key, json_string(text_format_time(time, ns)));
}

json_t *json_object_head(const char *id, const Skep__Meta *meta)
{
    json_t *o = json_object();
    json_t *version = json_object();

    json_set_string(o, "ID", id);
    json_set_integer(version, "Index", meta != NULL ? (int64_t)meta->version : 0);
    (void)json_object_set_new(o, "Version", version);
    set_time(o, "CreatedAt", meta != NULL ? meta->created_at : 0);
    set_time(o, "UpdatedAt", meta != NULL ? meta->updated_at : 0);
    return o;
}

/* ---- tasks ---- */

static json_t *host_ports_json(const Skep__TaskStatus *s)
{
    json_t *list = json_array();

    for (size_t i = 0; i < s->n_host_ports; i++) {
        json_t *p = json_object();

        json_set_string(p, "Protocol", text_protocol(s->host_ports[i]->protocol));
        json_set_integer(p, "TargetPort", s->host_ports[i]->target_port);
        json_set_integer(p, "PublishedPort", s->host_ports[i]->published_port);
        json_set_string(p, "PublishMode", text_publish_mode(s->host_ports[i]->publish_mode));
        (void)json_array_append_new(list, p);
    }
    return list;
}

static json_t *status_json(const Skep__TaskStatus *s)
{
    json_t *o = json_object();
    json_t *ports = json_object();

    if (s == NULL) {
        json_decref(ports);
        return o;
    }
    set_time(o, "Timestamp", s->timestamp);
    json_set_string(o, "State", text_task_state(s->state));
    json_set_string(o, "Message", s->message);
    json_set_string(o, "Err", s->error);
    if (s->container != NULL)
        (void)json_object_set_new(o, "ContainerStatus",
                                  json_pack("{sssisi}", "ContainerID", s->container->container_id,
                                            "PID", (int)s->container->pid, "ExitCode",
                                            (int)s->container->exit_code));
    if (s->n_host_ports > 0)
        (void)json_object_set_new(ports, "Ports", host_ports_json(s));
    (void)json_object_set_new(o, "PortStatus", ports);
    return o;
}

static json_t *attachments_json(const Skep__Task *t)
{
    json_t *list = json_array();

    for (size_t i = 0; i < t->n_networks; i++) {
        json_t *n = json_object();
        json_t *network = json_object();

        json_set_string(network, "ID", t->networks[i]->network_id);
        (void)json_object_set_new(n, "Network", network);
        json_set_strings(n, "Addresses", t->networks[i]->n_addresses, t->networks[i]->addresses);
        (void)json_array_append_new(list, n);
    }
    return list;
}

json_t *json_task(const Skep__Task *t, const Skep__ServiceSpec *spec)
{
    json_t *o = json_object_head(t->id, t->meta);

    (void)json_object_set_new(o, "Labels", json_object());
    (void)json_object_set_new(
        o, "Spec", spec != NULL && spec->task != NULL ? json_task_spec(spec->task) : json_object());
    json_set_string(o, "ServiceID", t->service_id);
    json_set_integer(o, "Slot", (int64_t)t->slot);
    json_set_string(o, "NodeID", t->node_id);
    (void)json_object_set_new(o, "Status", status_json(t->status));
    json_set_string(o, "DesiredState", text_task_state(t->desired_state));
    if (t->n_networks > 0)
        (void)json_object_set_new(o, "NetworksAttachments", attachments_json(t));
    if (t->job_iteration != 0)
        (void)json_object_set_new(o, "JobIteration",
                                  json_pack("{sI}", "Index", (json_int_t)t->job_iteration));
    return o;
}

/* ---- nodes ---- */

static json_t *engine_json(const Skep__EngineDescription *e)
{
    json_t *o = json_object();
    json_t *plugins = json_array();

    if (e == NULL) {
        json_decref(plugins);
        return o;
    }
    json_set_string(o, "EngineVersion", e->version);
    json_set_map(o, "Labels", e->n_labels, e->labels);
    for (size_t i = 0; i < e->n_plugins; i++)
        (void)json_array_append_new(
            plugins, json_pack("{ssss}", "Type", e->plugins[i]->key, "Name", e->plugins[i]->value));
    if (e->n_plugins > 0)
        (void)json_object_set(o, "Plugins", plugins);
    json_decref(plugins);
    return o;
}

json_t *json_node_network(const Skep__NodeNetwork *n)
{
    json_t *o = json_object();

    json_set_string(o, "DataPathAddr", n->data_path_address);
    json_set_integer(o, "MTU", n->mtu);
    json_set_string(o, "Balancer", n->balancer);
    json_set_string(o, "Encryption", n->encryption);
    json_set_string(o, "Error", n->error);
    json_set_strings(o, "Routes", n->n_routes, n->routes);
    return o;
}

static json_t *description_json(const Skep__NodeDescription *d)
{
    json_t *o = json_object();
    json_t *platform = json_object();
    json_t *resources = json_object();

    if (d != NULL) {
        json_set_string(o, "Hostname", d->hostname);
        if (d->platform != NULL) {
            json_set_string(platform, "Architecture", d->platform->architecture);
            json_set_string(platform, "OS", d->platform->os);
        }
        if (d->resources != NULL) {
            json_set_integer(resources, "NanoCPUs", d->resources->nano_cpus);
            json_set_integer(resources, "MemoryBytes", d->resources->memory_bytes);
        }
    }
    (void)json_object_set_new(o, "Platform", platform);
    (void)json_object_set_new(o, "Resources", resources);
    (void)json_object_set_new(o, "Engine", engine_json(d != NULL ? d->engine : NULL));
    if (d != NULL) {
        json_set_string(o, "AgentVersion", d->agent_version);
        json_set_string(o, "Degraded", d->degraded);
        if (d->network != NULL)
            (void)json_object_set_new(o, "Network", json_node_network(d->network));
    }
    return o;
}

json_t *json_node(const Skep__Node *n)
{
    json_t *o = json_object_head(n->id, n->meta);
    json_t *spec = json_object();
    json_t *status = json_object();
    const Skep__Annotations *a = n->spec != NULL ? n->spec->annotations : NULL;

    json_set_string(spec, "Name", a != NULL ? a->name : "");
    (void)json_object_set_new(spec, "Labels",
                              a != NULL ? json_map(a->n_labels, a->labels) : json_object());
    json_set_string(spec, "Role", text_role(n->spec != NULL ? n->spec->desired_role : n->role));
    json_set_string(spec, "Availability",
                    text_availability(n->spec != NULL ? n->spec->availability : 0));
    (void)json_object_set_new(o, "Spec", spec);
    (void)json_object_set_new(o, "Description", description_json(n->description));
    if (n->status != NULL) {
        json_set_string(status, "State", text_node_state(n->status->state));
        json_set_string(status, "Message", n->status->message);
        json_set_string(status, "Addr", n->status->address);
    }
    (void)json_object_set_new(o, "Status", status);
    if (n->manager != NULL) {
        json_t *m = json_object();

        json_set_true(m, "Leader", n->manager->leader);
        json_set_string(m, "Reachability", text_reachability(n->manager->reachability));
        json_set_string(m, "Addr", n->manager->address);
        (void)json_object_set_new(o, "ManagerStatus", m);
    }
    return o;
}

/* ---- cluster ---- */

static json_t *cluster_spec_json(const Skep__ClusterSpec *s)
{
    json_t *o = json_object();
    json_t *tasks = json_object();
    const Skep__Annotations *a = s->annotations;

    (void)json_object_set_new(o, "Name", json_string(a != NULL ? a->name : "default"));
    (void)json_object_set_new(o, "Labels",
                              a != NULL ? json_map(a->n_labels, a->labels) : json_object());
    (void)json_object_set_new(
        o, "Orchestration",
        json_pack("{sI}", "TaskHistoryRetentionLimit", (json_int_t)s->task_history_limit));
    (void)json_object_set_new(
        o, "Raft", json_pack("{sI}", "SnapshotInterval", (json_int_t)s->snapshot_interval));
    (void)json_object_set_new(
        o, "Dispatcher", json_pack("{sI}", "HeartbeatPeriod", (json_int_t)s->heartbeat_period));
    (void)json_object_set_new(
        o, "CAConfig", json_pack("{sI}", "NodeCertExpiry", (json_int_t)s->certificate_expiry));
    if (s->log_driver != NULL) {
        json_t *d = json_object();

        json_set_string(d, "Name", s->log_driver->name);
        json_set_map(d, "Options", s->log_driver->n_options, s->log_driver->options);
        (void)json_object_set_new(tasks, "LogDriver", d);
    }
    (void)json_object_set_new(o, "TaskDefaults", tasks);
    return o;
}

json_t *json_cluster(const Skep__Cluster *c)
{
    json_t *o = json_object_head(c->id, c->meta);

    if (c->spec != NULL) {
        (void)json_object_set_new(o, "Spec", cluster_spec_json(c->spec));
        json_set_strings(o, "DefaultAddrPool", c->spec->n_address_pools, c->spec->address_pools);
        json_set_integer(o, "SubnetSize", c->spec->subnet_size);
        json_set_integer(o, "DataPathPort", c->spec->data_path_port);
    }
    return o;
}
