/* inspect --pretty: docker's layouts of services and nodes. */
#include <inttypes.h>
#include <string.h>

#include "common/text.h"
#include "ctl/json.h"
#include "ctl/objects.h"
#include "ctl/parse.h"

static void lines(FILE *out, const char *title, size_t count, char *const *items)
{
    if (count == 0)
        return;
    (void)fprintf(out, "%s", title);
    for (size_t i = 0; i < count; i++)
        (void)fprintf(out, "%s%s", i > 0 ? " " : "", items[i]);
    (void)fputc('\n', out);
}

static void labels(FILE *out, const char *title, const char *indent, size_t count,
                   Skep__KeyValue *const *items)
{
    if (count == 0)
        return;
    (void)fprintf(out, "%s\n", title);
    for (size_t i = 0; i < count; i++)
        (void)fprintf(out, "%s%s=%s\n", indent, items[i]->key, items[i]->value);
}

/* ---- service ---- */

static void pretty_mode(FILE *out, const Skep__ServiceSpec *s)
{
    switch (s->mode_case) {
    case SKEP__SERVICE_SPEC__MODE_GLOBAL:
        (void)fprintf(out, "Service Mode:\tGlobal\n");
        break;
    case SKEP__SERVICE_SPEC__MODE_REPLICATED:
        (void)fprintf(out, "Service Mode:\tReplicated\n Replicas:\t%" PRIu64 "\n",
                      s->replicated->replicas);
        break;
    case SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB:
        (void)fprintf(out,
                      "Service Mode:\tReplicatedJob\n Completions:\t%" PRIu64
                      "\n Concurrent:\t%" PRIu64 "\n",
                      s->replicated_job->total_completions, s->replicated_job->max_concurrent);
        break;
    case SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB:
        (void)fprintf(out, "Service Mode:\tGlobalJob\n");
        break;
    case SKEP__SERVICE_SPEC__MODE__NOT_SET:
    case _SKEP__SERVICE_SPEC__MODE__CASE_IS_INT_SIZE:
        break;
    }
}

static void ago(struct ctl *c, FILE *out, const char *title, int64_t at)
{
    char age[TEXT_SHORT_MAX];

    if (at == 0)
        return;
    (void)text_format_age(age, c->now_ns - at);
    if (age[0] >= 'A' && age[0] <= 'Z')
        age[0] = (char)(age[0] + ('a' - 'A'));
    (void)fprintf(out, "%s%s ago\n", title, age);
}

static void pretty_update_status(struct ctl *c, FILE *out, const Skep__UpdateStatus *u)
{
    if (u == NULL || u->state == SKEP__UPDATE_STATUS__STATE__NONE)
        return;
    (void)fprintf(out, "UpdateStatus:\n State:\t\t%s\n", text_update_state(u->state));
    ago(c, out, " Started:\t", u->started_at);
    ago(c, out, " Completed:\t", u->completed_at);
    (void)fprintf(out, " Message:\t%s\n", u->message);
}

static void pretty_placement(struct ctl *c, FILE *out, const Skep__Placement *p)
{
    if (p == NULL)
        return;
    (void)fprintf(out, "Placement:\n");
    if (p->n_constraints > 0)
        (void)fprintf(out, " Constraints:\t[");
    for (size_t i = 0; i < p->n_constraints; i++)
        (void)fprintf(out, "%s%s", i > 0 ? " " : "", constraint_text(&c->arena, p->constraints[i]));
    (void)fprintf(out, "%s", p->n_constraints > 0 ? "]\n" : "");
    if (p->n_preferences > 0)
        (void)fprintf(out, " Preferences:\t[");
    for (size_t i = 0; i < p->n_preferences; i++)
        (void)fprintf(out, "%sspread=%s", i > 0 ? " " : "", p->preferences[i]->descriptor);
    (void)fprintf(out, "%s", p->n_preferences > 0 ? "]\n" : "");
    if (p->max_replicas > 0)
        (void)fprintf(out, " Max Replicas Per Node:   %" PRIu32 "\n", p->max_replicas);
}

static void pretty_restart(FILE *out, const Skep__RestartPolicy *r)
{
    char text[TEXT_SHORT_MAX];

    if (r == NULL)
        return;
    (void)fprintf(out, "RestartPolicy:\n Condition:\t%s\n Delay:\t\t%s\n",
                  text_restart_condition(r->condition), text_format_duration(text, r->delay));
    if (r->max_attempts > 0)
        (void)fprintf(out, " Max attempts:\t%" PRIu64 "\n", r->max_attempts);
    if (r->window > 0)
        (void)fprintf(out, " Window:\t%s\n", text_format_duration(text, r->window));
}

static void pretty_update(FILE *out, const char *title, const char *order,
                          const Skep__UpdateConfig *u)
{
    char text[TEXT_SHORT_MAX];

    if (u == NULL)
        return;
    (void)fprintf(out, "%s:\n Parallelism:\t%" PRIu64 "\n", title, u->parallelism);
    if (u->delay > 0)
        (void)fprintf(out, " Delay:\t\t%s\n", text_format_duration(text, u->delay));
    (void)fprintf(out, " On failure:\t%s\n", text_failure_action(u->failure_action));
    (void)fprintf(out, " Monitoring Period: %s\n", text_format_duration(text, u->monitor));
    (void)fprintf(out, " Max failure ratio: %s\n",
                  text_format_ratio(text, u->max_failure_ratio_ppm));
    (void)fprintf(out, " %s%s\n", order, text_order(u->order));
}

static void pretty_container(FILE *out, const Skep__ContainerSpec *k)
{
    (void)fprintf(out, "ContainerSpec:\n Image:\t\t%s\n", k->image);
    lines(out, " Entrypoint:\t", k->n_command, k->command);
    lines(out, " Args:\t\t", k->n_args, k->args);
    lines(out, " Env:\t\t", k->n_env, k->env);
    if (k->dir[0] != '\0')
        (void)fprintf(out, " Dir:\t\t%s\n", k->dir);
    if (k->init != SKEP__CONTAINER_SPEC__INIT__INIT_DEFAULT)
        (void)fprintf(out, " Init:\t\t%s\n",
                      k->init == SKEP__CONTAINER_SPEC__INIT__INIT_TRUE ? "true" : "false");
    if (k->user[0] != '\0')
        (void)fprintf(out, " User: %s\n", k->user);
    lines(out, " Groups:\t", k->n_groups, k->groups);
    if (k->hostname[0] != '\0')
        (void)fprintf(out, " Hostname:\t%s\n", k->hostname);
    lines(out, " Hosts:\t\t", k->n_hosts, k->hosts);
    lines(out, " DNS:\t\t", k->n_dns_nameservers, k->dns_nameservers);
    if (k->n_cap_add + k->n_cap_drop > 0)
        (void)fprintf(out, "Capabilities:\n");
    lines(out, " Add: ", k->n_cap_add, k->cap_add);
    lines(out, " Drop: ", k->n_cap_drop, k->cap_drop);
    labels(out, "SysCtls:", " ", k->n_sysctls, k->sysctls);
    if (k->n_ulimits > 0)
        (void)fprintf(out, "Ulimits:\n");
    for (size_t i = 0; i < k->n_ulimits; i++)
        (void)fprintf(out, " %s\n", k->ulimits[i]);
}

static void pretty_mounts(FILE *out, const Skep__ContainerSpec *k)
{
    if (k->n_mounts > 0)
        (void)fprintf(out, "Mounts:\n");
    for (size_t i = 0; i < k->n_mounts; i++)
        (void)fprintf(out, " Target:\t%s\n  Source:\t%s\n  ReadOnly:\t%s\n  Type:\t\t%s\n",
                      k->mounts[i]->target, k->mounts[i]->source,
                      k->mounts[i]->read_only ? "true" : "false",
                      text_mount_type(k->mounts[i]->type));
    if (k->n_configs > 0)
        (void)fprintf(out, "Configs:\n");
    for (size_t i = 0; i < k->n_configs; i++)
        (void)fprintf(out, " Target:\t%s\n  Source:\t%s\n",
                      k->configs[i]->file != NULL ? k->configs[i]->file->name : "",
                      k->configs[i]->config_name);
    if (k->n_secrets > 0)
        (void)fprintf(out, "Secrets:\n");
    for (size_t i = 0; i < k->n_secrets; i++)
        (void)fprintf(out, " Target:\t%s\n  Source:\t%s\n",
                      k->secrets[i]->file != NULL ? k->secrets[i]->file->name : "",
                      k->secrets[i]->secret_name);
}

static void pretty_resource(FILE *out, const char *title, const Skep__Resources *r)
{
    char text[TEXT_SHORT_MAX];

    if (r == NULL || (r->nano_cpus == 0 && r->memory_bytes == 0 && r->pids == 0))
        return;
    (void)fprintf(out, " %s:\n", title);
    if (r->nano_cpus > 0)
        (void)fprintf(out, "  CPU:\t\t%s\n", text_format_nano(text, r->nano_cpus));
    if (r->memory_bytes > 0)
        (void)fprintf(out, "  Memory:\t%s\n", text_format_bytes(text, r->memory_bytes));
    if (r->pids > 0)
        (void)fprintf(out, "  PIDs:\t\t%" PRId64 "\n", r->pids);
}

static void pretty_health(FILE *out, const Skep__HealthConfig *h)
{
    char text[TEXT_SHORT_MAX];

    if (h == NULL)
        return;
    (void)fprintf(out, "Healthcheck:\n");
    if (h->interval > 0)
        (void)fprintf(out, " Interval:\t%s\n", text_format_duration(text, h->interval));
    if (h->retries > 0)
        (void)fprintf(out, " Retries:\t%" PRIu32 "\n", h->retries);
    if (h->start_period > 0)
        (void)fprintf(out, " StartPeriod:\t%s\n", text_format_duration(text, h->start_period));
    if (h->timeout > 0)
        (void)fprintf(out, " Timeout:\t%s\n", text_format_duration(text, h->timeout));
    if (h->n_test > 0)
        (void)fprintf(out, " Tests:\n");
    for (size_t i = 0; i < h->n_test; i++)
        (void)fprintf(out, "\t  Test = %s\n", h->test[i]);
}

static void pretty_task(struct ctl *c, FILE *out, const Skep__TaskSpec *t)
{
    if (t->container != NULL) {
        pretty_container(out, t->container);
        pretty_mounts(out, t->container);
    }
    if (t->log_driver != NULL) {
        (void)fprintf(out, "Log Driver:\n");
        if (t->log_driver->name[0] != '\0')
            (void)fprintf(out, " Name:\t\t%s\n", t->log_driver->name);
        labels(out, " LogOpts:", "  ", t->log_driver->n_options, t->log_driver->options);
    }
    (void)fprintf(out, "Resources:\n");
    if (t->resources != NULL) {
        pretty_resource(out, "Reservations", t->resources->reservations);
        pretty_resource(out, "Limits", t->resources->limits);
    }
    if (t->n_networks > 0)
        (void)fprintf(out, "Networks:");
    for (size_t i = 0; i < t->n_networks; i++) {
        Skep__Object *o = NULL;
        const char *name = t->networks[i]->target;

        if (object_get(c, SKEP__KIND__KIND_NETWORK, name, &o, NULL) == 0 &&
            o->object_case == SKEP__OBJECT__OBJECT_NETWORK && o->network->spec != NULL &&
            o->network->spec->annotations != NULL)
            name = o->network->spec->annotations->name;
        (void)fprintf(out, " %s", name);
    }
    (void)fprintf(out, "%s", t->n_networks > 0 ? "\n" : "");
}

static void pretty_endpoint(FILE *out, const Skep__Service *s)
{
    const Skep__Endpoint *ep = s->endpoint;

    (void)fprintf(out, "Endpoint Mode:\t%s\n",
                  text_endpoint_mode(s->spec->endpoint != NULL
                                         ? s->spec->endpoint->mode
                                         : SKEP__ENDPOINT_MODE__ENDPOINT_VIP));
    if (ep == NULL || ep->n_ports == 0)
        return;
    (void)fprintf(out, "Ports:\n");
    for (size_t i = 0; i < ep->n_ports; i++)
        (void)fprintf(out,
                      " PublishedPort = %" PRIu32 "\n  Protocol = %s\n  TargetPort = %" PRIu32
                      "\n  PublishMode = %s\n",
                      ep->ports[i]->published_port, text_protocol(ep->ports[i]->protocol),
                      ep->ports[i]->target_port, text_publish_mode(ep->ports[i]->publish_mode));
}

void pretty_service(struct ctl *c, FILE *out, const Skep__Service *s)
{
    const Skep__Annotations *a = s->spec->annotations;
    const Skep__TaskSpec *t = s->spec->task;

    (void)fprintf(out, "\nID:\t\t%s\nName:\t\t%s\n", s->id, service_name(s));
    if (a != NULL)
        labels(out, "Labels:", " ", a->n_labels, a->labels);
    pretty_mode(out, s->spec);
    pretty_update_status(c, out, s->update_status);
    pretty_placement(c, out, t != NULL ? t->placement : NULL);
    pretty_restart(out, t != NULL ? t->restart : NULL);
    pretty_update(out, "UpdateConfig", "Update order:      ", s->spec->update);
    pretty_update(out, "RollbackConfig", "Rollback order:    ", s->spec->rollback);
    if (t != NULL)
        pretty_task(c, out, t);
    pretty_endpoint(out, s);
    if (t != NULL && t->container != NULL)
        pretty_health(out, t->container->healthcheck);
    (void)fputc('\n', out);
}

/* ---- node ---- */

static void pretty_plugins(struct ctl *c, FILE *out, const Skep__EngineDescription *e)
{
    static const char *const types[] = { "Log", "Network", "Volume" };

    (void)fprintf(out, "Plugins:\n");
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        const char *names = "";

        for (size_t i = 0; i < e->n_plugins; i++) {
            if (strcmp(e->plugins[i]->key, types[t]) == 0)
                names = arena_printf(&c->arena, "%s%s%s", names, names[0] != '\0' ? ", " : "",
                                     e->plugins[i]->value);
        }
        if (names[0] != '\0')
            (void)fprintf(out, " %s:\t\t%s\n", types[t], names);
    }
    (void)fprintf(out, "Engine Version:\t\t%s\n", e->version);
    labels(out, "Engine Labels:", " - ", e->n_labels, e->labels);
}

static void pretty_node_network(FILE *out, const Skep__NodeNetwork *n)
{
    (void)fprintf(out, "Networks:\n");
    if (n->data_path_address[0] != '\0')
        (void)fprintf(out, " Data Path Address:\t%s\n", n->data_path_address);
    (void)fprintf(out, " MTU:\t\t\t%" PRIu32 "\n Balancer:\t\t%s\n Encryption:\t\t%s\n", n->mtu,
                  n->balancer[0] != '\0' ? n->balancer : "none",
                  n->encryption[0] != '\0' ? n->encryption : "none");
    if (n->error[0] != '\0')
        (void)fprintf(out, " Error:\t\t\t%s\n", n->error);
}

static void pretty_description(struct ctl *c, FILE *out, const Skep__NodeDescription *d)
{
    char text[TEXT_SHORT_MAX];

    if (d->platform != NULL)
        (void)fprintf(out, "Platform:\n Operating System:\t%s\n Architecture:\t\t%s\n",
                      d->platform->os, d->platform->architecture);
    if (d->resources != NULL)
        (void)fprintf(out, "Resources:\n CPUs:\t\t\t%s\n Memory:\t\t%s\n",
                      text_format_nano(text, d->resources->nano_cpus),
                      text_format_bytes((char[TEXT_SHORT_MAX]){ 0 }, d->resources->memory_bytes));
    if (d->engine != NULL)
        pretty_plugins(c, out, d->engine);
    if (d->agent_version[0] != '\0')
        (void)fprintf(out, "Agent Version:\t\t%s\n", d->agent_version);
    if (d->degraded[0] != '\0')
        (void)fprintf(out, "Degraded:\t\t%s\n", d->degraded);
    if (d->network != NULL)
        pretty_node_network(out, d->network);
}

void pretty_node(struct ctl *c, FILE *out, const Skep__Node *n)
{
    const Skep__Annotations *a = n->spec->annotations;
    char time[TEXT_TIME_MAX];

    (void)fprintf(out, "ID:\t\t\t%s\n", n->id);
    if (a != NULL && a->name[0] != '\0')
        (void)fprintf(out, "Name:\t\t\t%s\n", a->name);
    if (a != NULL)
        labels(out, "Labels:", " - ", a->n_labels, a->labels);
    (void)fprintf(out, "Hostname:              \t%s\n", node_name(n));
    (void)fprintf(out, "Joined at:             \t%s\n",
                  text_format_time_utc(time, n->meta != NULL ? n->meta->created_at : 0));
    (void)fprintf(out, "Status:\n State:\t\t\t%s\n",
                  text_title(&c->arena, text_node_state(n->status != NULL ? n->status->state : 0)));
    if (n->status != NULL && n->status->message[0] != '\0')
        (void)fprintf(out, " Message:\t\t%s\n", n->status->message);
    (void)fprintf(out, " Availability:         \t%s\n Address:\t\t%s\n",
                  text_title(&c->arena, text_availability(n->spec->availability)),
                  n->status != NULL ? n->status->address : "");
    if (n->manager != NULL)
        (void)fprintf(
            out, "Manager Status:\n Address:\t\t%s\n Raft Status:\t\t%s\n Leader:\t\t%s\n",
            n->manager->address, text_title(&c->arena, text_reachability(n->manager->reachability)),
            n->manager->leader ? "Yes" : "No");
    if (n->description != NULL)
        pretty_description(c, out, n->description);
    (void)fputc('\n', out);
}
