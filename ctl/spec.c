#include "ctl/spec.h"

#include <string.h>
#include <unistd.h>

#include "common/text.h"
#include "ctl/objects.h"

/* Default values where the wire has no "unset" (features.md 3.3). */
#define STOP_GRACE_NS (10 * TEXT_NS_PER_S)
#define RESTART_DELAY_NS (5 * TEXT_NS_PER_S)
#define MONITOR_NS (5 * TEXT_NS_PER_S)

#define ENSURE(a, field, Type, init)                                                               \
    do {                                                                                           \
        if ((field) == NULL) {                                                                     \
            (field) = ARENA_NEW((a), Type);                                                        \
            init(field);                                                                           \
        }                                                                                          \
    } while (0)

int spec_bad_value(struct ctl *c, const char *flag, const char *value, struct err *e)
{
    char why[ERR_MESSAGE_BYTES_MAX];

    (void)c;
    (void)snprintf(why, sizeof(why), "%s", e->message);
    return err_set(e, ERR_INVALID, "invalid argument \"%.60s\" for \"--%s\" flag: %s", value, flag,
                   why);
}

static bool given(struct ctl *c, const char *flag)
{
    return flags_given(c->flags, flag);
}

static char *string_of(struct ctl *c, const char *flag)
{
    return arena_strdup(&c->arena, flags_string(c->flags, flag));
}

void spec_fill(struct arena *a, Skep__ServiceSpec *s)
{
    ENSURE(a, s->annotations, Skep__Annotations, skep__annotations__init);
    ENSURE(a, s->task, Skep__TaskSpec, skep__task_spec__init);
    if (s->task->container == NULL) {
        ENSURE(a, s->task->container, Skep__ContainerSpec, skep__container_spec__init);
        s->task->container->stop_grace_period = STOP_GRACE_NS;
    }
    ENSURE(a, s->task->resources, Skep__ResourceRequirements, skep__resource_requirements__init);
    ENSURE(a, s->task->resources->limits, Skep__Resources, skep__resources__init);
    ENSURE(a, s->task->resources->reservations, Skep__Resources, skep__resources__init);
    ENSURE(a, s->task->placement, Skep__Placement, skep__placement__init);
    ENSURE(a, s->endpoint, Skep__EndpointSpec, skep__endpoint_spec__init);
}

/* ---- scalars ---- */

static int apply_container(struct ctl *c, Skep__ContainerSpec *k, struct err *e)
{
    struct strings words = { 0 };

    if (given(c, "entrypoint")) {
        if (parse_words(&c->arena, flags_string(c->flags, "entrypoint"), &words, e) < 0)
            return spec_bad_value(c, "entrypoint", flags_string(c->flags, "entrypoint"), e);
        k->n_command = words.count;
        k->command = words.items;
    }
    if (given(c, "hostname"))
        k->hostname = string_of(c, "hostname");
    if (given(c, "workdir"))
        k->dir = string_of(c, "workdir");
    if (given(c, "user"))
        k->user = string_of(c, "user");
    if (given(c, "tty"))
        k->tty = flags_bool(c->flags, "tty");
    if (given(c, "read-only"))
        k->read_only = flags_bool(c->flags, "read-only");
    if (given(c, "init"))
        k->init = flags_bool(c->flags, "init") ? SKEP__CONTAINER_SPEC__INIT__INIT_TRUE
                                               : SKEP__CONTAINER_SPEC__INIT__INIT_FALSE;
    if (given(c, "stop-signal"))
        k->stop_signal = string_of(c, "stop-signal");
    if (given(c, "stop-grace-period"))
        k->stop_grace_period = flags_duration(c->flags, "stop-grace-period");
    return 0;
}

static int apply_health(struct ctl *c, Skep__ContainerSpec *k, struct err *e)
{
    static const char *const flags[] = { "health-cmd",          "health-interval",
                                         "health-retries",      "health-start-interval",
                                         "health-start-period", "health-timeout" };
    bool any = false;
    Skep__HealthConfig *h;

    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        any |= given(c, flags[i]);
    if (flags_bool(c->flags, "no-healthcheck")) {
        if (any)
            return err_set(e, ERR_INVALID, "--no-healthcheck conflicts with --health-* options");
        k->healthcheck = ARENA_NEW(&c->arena, Skep__HealthConfig);
        skep__health_config__init(k->healthcheck);
        LIST_ADD(&c->arena, k->healthcheck->n_test, k->healthcheck->test,
                 arena_strdup(&c->arena, "NONE"));
        return 0;
    }
    if (!any)
        return 0;
    ENSURE(&c->arena, k->healthcheck, Skep__HealthConfig, skep__health_config__init);
    h = k->healthcheck;
    if (h->n_test > 0 && strcmp(h->test[0], "NONE") == 0)
        h->n_test = 0;
    if (given(c, "health-cmd")) {
        h->n_test = 0;
        if (flags_string(c->flags, "health-cmd")[0] != '\0') {
            LIST_ADD(&c->arena, h->n_test, h->test, arena_strdup(&c->arena, "CMD-SHELL"));
            LIST_ADD(&c->arena, h->n_test, h->test, string_of(c, "health-cmd"));
        }
    }
    if (given(c, "health-interval"))
        h->interval = flags_duration(c->flags, "health-interval");
    if (given(c, "health-timeout"))
        h->timeout = flags_duration(c->flags, "health-timeout");
    if (given(c, "health-start-period"))
        h->start_period = flags_duration(c->flags, "health-start-period");
    if (given(c, "health-start-interval"))
        h->start_interval = flags_duration(c->flags, "health-start-interval");
    if (given(c, "health-retries"))
        h->retries = (uint32_t)MIN(flags_u64(c->flags, "health-retries"), UINT32_MAX);
    return 0;
}

static int apply_resources(struct ctl *c, Skep__ResourceRequirements *r, struct err *e)
{
    if (given(c, "limit-cpu"))
        r->limits->nano_cpus = flags_cpus(c->flags, "limit-cpu");
    if (given(c, "limit-memory"))
        r->limits->memory_bytes = flags_bytes(c->flags, "limit-memory");
    if (given(c, "limit-pids"))
        r->limits->pids = flags_i64(c->flags, "limit-pids");
    if (given(c, "reserve-cpu"))
        r->reservations->nano_cpus = flags_cpus(c->flags, "reserve-cpu");
    if (given(c, "reserve-memory"))
        r->reservations->memory_bytes = flags_bytes(c->flags, "reserve-memory");
    if (r->limits->pids < 0)
        return err_set(e, ERR_INVALID, "--limit-pids must not be negative");
    return 0;
}

static int apply_restart(struct ctl *c, Skep__TaskSpec *t, struct err *e)
{
    static const char *const words[] = { "any", "on-failure", "none" }; /* in the enum's order */
    const char *condition = flags_string(c->flags, "restart-condition");
    size_t i = 0;

    if (!given(c, "restart-condition") && !given(c, "restart-delay") &&
        !given(c, "restart-max-attempts") && !given(c, "restart-window"))
        return 0;
    if (t->restart == NULL) {
        ENSURE(&c->arena, t->restart, Skep__RestartPolicy, skep__restart_policy__init);
        t->restart->delay = RESTART_DELAY_NS;
    }
    if (given(c, "restart-condition")) {
        while (i < ARRAY_LEN(words) && strcmp(words[i], condition) != 0)
            i++;
        if (i == ARRAY_LEN(words))
            return err_set(e, ERR_INVALID,
                           "invalid restart-condition \"%.40s\": use none, on-failure or any",
                           condition);
        t->restart->condition = (Skep__RestartCondition)i;
    }
    if (given(c, "restart-delay"))
        t->restart->delay = flags_duration(c->flags, "restart-delay");
    if (given(c, "restart-max-attempts"))
        t->restart->max_attempts = flags_u64(c->flags, "restart-max-attempts");
    if (given(c, "restart-window"))
        t->restart->window = flags_duration(c->flags, "restart-window");
    if (t->restart->delay < 0 || t->restart->window < 0)
        return err_set(e, ERR_INVALID, "--restart-delay and --restart-window must not be negative");
    return 0;
}

/* "update" or "rollback" and the rest of a flag's name. */
static const char *named(struct ctl *c, const char *prefix, const char *rest)
{
    return arena_printf(&c->arena, "%s-%s", prefix, rest);
}

static int apply_update_words(struct ctl *c, const char *prefix, Skep__UpdateConfig *u,
                              struct err *e)
{
    const char *action = flags_string(c->flags, named(c, prefix, "failure-action"));
    const char *order = flags_string(c->flags, named(c, prefix, "order"));
    bool rollback = strcmp(prefix, "rollback") == 0;

    if (action[0] != '\0') {
        if (strcmp(action, "pause") == 0)
            u->failure_action = SKEP__UPDATE_FAILURE_ACTION__FAILURE_PAUSE;
        else if (strcmp(action, "continue") == 0)
            u->failure_action = SKEP__UPDATE_FAILURE_ACTION__FAILURE_CONTINUE;
        else if (strcmp(action, "rollback") == 0 && !rollback)
            u->failure_action = SKEP__UPDATE_FAILURE_ACTION__FAILURE_ROLLBACK;
        else
            return err_set(e, ERR_INVALID, "invalid %s-failure-action \"%.40s\": use pause%s",
                           prefix, action, rollback ? " or continue" : ", continue or rollback");
    }
    if (order[0] != '\0') {
        if (strcmp(order, "stop-first") != 0 && strcmp(order, "start-first") != 0)
            return err_set(e, ERR_INVALID,
                           "invalid %s-order \"%.40s\": use start-first or stop-first", prefix,
                           order);
        u->order = strcmp(order, "start-first") == 0 ? SKEP__UPDATE_ORDER__ORDER_START_FIRST
                                                     : SKEP__UPDATE_ORDER__ORDER_STOP_FIRST;
    }
    return 0;
}

static int apply_update(struct ctl *c, const char *prefix, Skep__UpdateConfig **field,
                        struct err *e)
{
    static const char *const rest[] = { "delay",   "failure-action", "max-failure-ratio",
                                        "monitor", "order",          "parallelism" };
    Skep__UpdateConfig *u;
    bool any = false;

    for (size_t i = 0; i < ARRAY_LEN(rest); i++)
        any |= given(c, named(c, prefix, rest[i]));
    if (!any)
        return 0;
    if (*field == NULL) {
        ENSURE(&c->arena, *field, Skep__UpdateConfig, skep__update_config__init);
        (*field)->parallelism = 1;
        (*field)->monitor = MONITOR_NS;
    }
    u = *field;
    if (given(c, named(c, prefix, "delay")))
        u->delay = flags_duration(c->flags, named(c, prefix, "delay"));
    if (given(c, named(c, prefix, "monitor")))
        u->monitor = flags_duration(c->flags, named(c, prefix, "monitor"));
    if (given(c, named(c, prefix, "parallelism")))
        u->parallelism = flags_u64(c->flags, named(c, prefix, "parallelism"));
    if (given(c, named(c, prefix, "max-failure-ratio")))
        u->max_failure_ratio_ppm = flags_ratio(c->flags, named(c, prefix, "max-failure-ratio"));
    if (u->delay < 0 || u->monitor < 0)
        return err_set(e, ERR_INVALID, "--%s-delay and --%s-monitor must not be negative", prefix,
                       prefix);
    return apply_update_words(c, prefix, u, e);
}

static int apply_log_driver(struct ctl *c, Skep__TaskSpec *t, struct err *e)
{
    if (!given(c, "log-driver") && !given(c, "log-opt"))
        return 0;
    if (t->log_driver == NULL || given(c, "log-driver")) {
        t->log_driver = ARENA_NEW(&c->arena, Skep__Driver);
        skep__driver__init(t->log_driver);
        t->log_driver->name = string_of(c, "log-driver");
    }
    for (size_t i = 0; i < flags_list_count(c->flags, "log-opt"); i++) {
        const char *value = flags_list_at(c->flags, "log-opt", i);

        if (parse_label(&c->arena, value, &t->log_driver->n_options, &t->log_driver->options, e) <
            0)
            return spec_bad_value(c, "log-opt", value, e);
    }
    if (t->log_driver->name[0] == '\0' && t->log_driver->n_options == 0)
        t->log_driver = NULL;
    return 0;
}

static int apply_endpoint(struct ctl *c, Skep__EndpointSpec *ep, struct err *e)
{
    const char *mode = flags_string(c->flags, "endpoint-mode");

    if (mode[0] == '\0')
        return 0;
    if (strcmp(mode, "vip") != 0 && strcmp(mode, "dnsrr") != 0)
        return err_set(e, ERR_INVALID, "invalid endpoint-mode \"%.40s\": use vip or dnsrr", mode);
    ep->mode = strcmp(mode, "vip") == 0 ? SKEP__ENDPOINT_MODE__ENDPOINT_VIP
                                        : SKEP__ENDPOINT_MODE__ENDPOINT_DNSRR;
    return 0;
}

static int apply_registry_auth(struct ctl *c, Skep__ContainerSpec *k, struct err *e)
{
    const char *auth;
    int rc;

    if (!flags_bool(c->flags, "with-registry-auth"))
        return 0;
    rc = registry_auth_read(c, k->image, &auth, e);
    if (rc == 0)
        k->registry_auth = arena_strdup(&c->arena, auth);
    return rc;
}

/* The image is in the spec already. */
int spec_apply(struct ctl *c, Skep__ServiceSpec *s, struct err *e)
{
    int rc;

    spec_fill(&c->arena, s);
    rc = apply_container(c, s->task->container, e);
    if (rc == 0)
        rc = apply_health(c, s->task->container, e);
    if (rc == 0)
        rc = apply_resources(c, s->task->resources, e);
    if (rc == 0)
        rc = apply_restart(c, s->task, e);
    if (rc == 0)
        rc = apply_update(c, "update", &s->update, e);
    if (rc == 0)
        rc = apply_update(c, "rollback", &s->rollback, e);
    if (rc == 0)
        rc = apply_log_driver(c, s->task, e);
    if (rc == 0)
        rc = apply_endpoint(c, s->endpoint, e);
    if (rc == 0 && given(c, "replicas-max-per-node"))
        s->task->placement->max_replicas =
            (uint32_t)MIN(flags_u64(c->flags, "replicas-max-per-node"), UINT32_MAX);
    if (rc == 0)
        rc = apply_registry_auth(c, s->task->container, e);
    return rc;
}

int spec_check(struct ctl *c, const Skep__ServiceSpec *s, struct err *e)
{
    bool counted = s->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED ||
                   s->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB;

    if (given(c, "replicas") && !counted)
        return err_set(e, ERR_INVALID,
                       "replicas can only be used with replicated or replicated-job mode");
    if (given(c, "replicas-max-per-node") && !counted)
        return err_set(e, ERR_INVALID,
                       "replicas-max-per-node can only be used with replicated or "
                       "replicated-job mode");
    if (given(c, "max-concurrent") && s->mode_case != SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB)
        return err_set(e, ERR_INVALID, "max-concurrent can only be used with replicated-job mode");
    for (size_t i = 0;
         s->endpoint->mode == SKEP__ENDPOINT_MODE__ENDPOINT_DNSRR && i < s->endpoint->n_ports;
         i++) {
        if (s->endpoint->ports[i]->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_INGRESS)
            return err_set(
                e, ERR_INVALID,
                "port published with ingress mode can't be used with dnsrr mode; publish "
                "%u with mode=host or use --endpoint-mode vip",
                s->endpoint->ports[i]->target_port);
    }
    return 0;
}

/* ---- lists that create and update share ---- */

int spec_add_mounts(struct ctl *c, const char *flag, Skep__ContainerSpec *k, struct err *e)
{
    char cwd[4096];
    const char *dir = getcwd(cwd, sizeof(cwd)) != NULL ? cwd : "";

    for (size_t i = 0; i < flags_list_count(c->flags, flag); i++) {
        const char *value = flags_list_at(c->flags, flag, i);
        Skep__Mount *m = NULL;
        size_t at = 0;

        if (parse_mount(&c->arena, value, dir, &m, e) < 0)
            return spec_bad_value(c, flag, value, e);
        while (at < k->n_mounts && strcmp(k->mounts[at]->target, m->target) != 0)
            at++;
        if (at < k->n_mounts)
            k->mounts[at] = m; /* update: the same target is replaced */
        else
            LIST_ADD(&c->arena, k->n_mounts, k->mounts, m);
    }
    return 0;
}

int spec_add_ports(struct ctl *c, const char *flag, Skep__EndpointSpec *ep, struct err *e)
{
    for (size_t i = 0; i < flags_list_count(c->flags, flag); i++) {
        const char *value = flags_list_at(c->flags, flag, i);
        struct ports ports = { 0 };

        if (parse_ports(&c->arena, value, &ports, e) < 0)
            return spec_bad_value(c, flag, value, e);
        for (size_t p = 0; p < ports.count; p++) {
            const Skep__PortConfig *new = ports.items[p];
            bool there = false;

            for (size_t k = 0; k < ep->n_ports; k++)
                there |= ep->ports[k]->target_port == new->target_port &&
                         ep->ports[k]->published_port == new->published_port &&
                         ep->ports[k]->protocol == new->protocol &&
                         ep->ports[k]->publish_mode ==
                             new->publish_mode &&strcmp(ep->ports[k]->host_ip, new->host_ip) == 0;
            if (!there)
                LIST_ADD(&c->arena, ep->n_ports, ep->ports, ports.items[p]);
        }
    }
    return 0;
}

/* The id of a secret or config by its name. */
static int find_file(struct ctl *c, Skep__Kind kind, const char *name, const char **ret_id,
                     struct err *e)
{
    const char *what = kind == SKEP__KIND__KIND_SECRET ? "secret" : "config";
    Skep__Object *o = NULL;
    int rc;

    if (ctl_client(c) == NULL)
        return err_set(e, ERR_UNAVAILABLE, "cannot look up %s %.80s", what, name);
    rc = object_get(c, kind, name, &o, e);
    if (rc == -ERR_NOT_FOUND)
        return err_set(e, ERR_NOT_FOUND, "%s not found: %.80s", what, name);
    if (rc < 0)
        return rc;
    *ret_id = o->object_case == SKEP__OBJECT__OBJECT_SECRET   ? o->secret->id
              : o->object_case == SKEP__OBJECT__OBJECT_CONFIG ? o->config->id
                                                              : "";
    return 0;
}

int spec_add_secrets(struct ctl *c, const char *flag, Skep__ContainerSpec *k, struct err *e)
{
    for (size_t i = 0; i < flags_list_count(c->flags, flag); i++) {
        const char *value = flags_list_at(c->flags, flag, i);
        Skep__SecretReference *r = ARENA_NEW(&c->arena, Skep__SecretReference);
        struct file_ref f;
        const char *id = "";
        int rc;

        if (parse_file_ref(&c->arena, value, &f, e) < 0)
            return spec_bad_value(c, flag, value, e);
        rc = find_file(c, SKEP__KIND__KIND_SECRET, f.source, &id, e);
        if (rc < 0)
            return rc;
        skep__secret_reference__init(r);
        r->secret_id = arena_strdup(&c->arena, id);
        r->secret_name = arena_strdup(&c->arena, f.source);
        r->file = f.file;
        LIST_ADD(&c->arena, k->n_secrets, k->secrets, r);
    }
    return 0;
}

int spec_add_configs(struct ctl *c, const char *flag, Skep__ContainerSpec *k, struct err *e)
{
    for (size_t i = 0; i < flags_list_count(c->flags, flag); i++) {
        const char *value = flags_list_at(c->flags, flag, i);
        Skep__ConfigReference *r = ARENA_NEW(&c->arena, Skep__ConfigReference);
        struct file_ref f;
        const char *id = "";
        int rc;

        if (parse_file_ref(&c->arena, value, &f, e) < 0)
            return spec_bad_value(c, flag, value, e);
        rc = find_file(c, SKEP__KIND__KIND_CONFIG, f.source, &id, e);
        if (rc < 0)
            return rc;
        skep__config_reference__init(r);
        r->config_id = arena_strdup(&c->arena, id);
        r->config_name = arena_strdup(&c->arena, f.source);
        r->file = f.file;
        if (f.file->name[0] != '/' && strcmp(f.file->name, f.source) == 0)
            f.file->name = arena_printf(&c->arena, "/%s", f.source);
        LIST_ADD(&c->arena, k->n_configs, k->configs, r);
    }
    return 0;
}
