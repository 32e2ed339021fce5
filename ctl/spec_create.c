/* service create: a whole new spec. */
#include <string.h>

#include "common/buf.h"
#include "ctl/spec.h"

static int set_mode(struct ctl *c, Skep__ServiceSpec *s, struct err *e)
{
    const char *mode = flags_string(c->flags, "mode");
    uint64_t replicas = flags_given(c->flags, "replicas") ? flags_u64(c->flags, "replicas") : 1;

    if (strcmp(mode, "replicated") == 0) {
        s->mode_case = SKEP__SERVICE_SPEC__MODE_REPLICATED;
        s->replicated = ARENA_NEW(&c->arena, Skep__ReplicatedMode);
        skep__replicated_mode__init(s->replicated);
        s->replicated->replicas = replicas;
    } else if (strcmp(mode, "global") == 0) {
        s->mode_case = SKEP__SERVICE_SPEC__MODE_GLOBAL;
        s->global = ARENA_NEW(&c->arena, Skep__GlobalMode);
        skep__global_mode__init(s->global);
    } else if (strcmp(mode, "replicated-job") == 0) {
        s->mode_case = SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB;
        s->replicated_job = ARENA_NEW(&c->arena, Skep__ReplicatedJobMode);
        skep__replicated_job_mode__init(s->replicated_job);
        s->replicated_job->total_completions = replicas;
        s->replicated_job->max_concurrent = flags_given(c->flags, "max-concurrent")
                                                ? flags_u64(c->flags, "max-concurrent")
                                                : replicas;
    } else if (strcmp(mode, "global-job") == 0) {
        s->mode_case = SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB;
        s->global_job = ARENA_NEW(&c->arena, Skep__GlobalJobMode);
        skep__global_job_mode__init(s->global_job);
    } else {
        return err_set(
            e, ERR_INVALID,
            "Unknown mode: %.40s, only replicated, global, replicated-job and global-job "
            "are supported",
            mode);
    }
    return 0;
}

static int add_labels(struct ctl *c, const char *flag, size_t *count, Skep__KeyValue ***list,
                      struct err *e)
{
    for (size_t i = 0; i < flags_list_count(c->flags, flag); i++) {
        const char *value = flags_list_at(c->flags, flag, i);

        if (parse_label(&c->arena, value, count, list, e) < 0)
            return spec_bad_value(c, flag, value, e);
    }
    return 0;
}

static int add_env(struct ctl *c, Skep__ContainerSpec *k, struct err *e)
{
    struct strings env = { 0 };
    int rc;

    for (size_t i = 0; i < flags_list_count(c->flags, "env-file"); i++) {
        CLEANUP_BUF struct buf b = BUF_INIT(PARSE_FILE_BYTES_MAX);
        const char *path = flags_list_at(c->flags, "env-file", i);

        rc = buf_read_file(&b, path, e);
        if (rc < 0)
            return rc;
        rc = parse_env_file(&c->arena, buf_str(&b), getenv, &env, e);
        if (rc < 0)
            return err_wrap(e, rc, "env file %s", path);
    }
    for (size_t i = 0; i < flags_list_count(c->flags, "env"); i++) {
        const char *value = flags_list_at(c->flags, "env", i);

        if (parse_env(&c->arena, value, getenv, &env, e) < 0)
            return spec_bad_value(c, "env", value, e);
    }
    k->n_env = env.count;
    k->env = env.items;
    return 0;
}

typedef int text_parser(struct arena *a, const char *text, const char **ret, struct err *e);

static int add_texts(struct ctl *c, const char *flag, text_parser *parse, struct strings *to,
                     struct err *e)
{
    for (size_t i = 0; i < flags_list_count(c->flags, flag); i++) {
        const char *value = flags_list_at(c->flags, flag, i);
        const char *text = value;

        if (parse != NULL && parse(&c->arena, value, &text, e) < 0)
            return spec_bad_value(c, flag, value, e);
        strings_add(&c->arena, to, text);
    }
    return 0;
}

static int parse_dns(struct arena *a, const char *text, const char **ret, struct err *e)
{
    (void)a;
    *ret = text;
    return parse_is_ip(text) ? 0 : err_set(e, ERR_INVALID, "IP address is not correctly formatted");
}

static int add_lists(struct ctl *c, Skep__ContainerSpec *k, struct err *e)
{
    struct {
        const char *flag;
        text_parser *parse;
        size_t *count;
        char ***items;
    } const lists[] = {
        { "group", NULL, &k->n_groups, &k->groups },
        { "host", parse_host, &k->n_hosts, &k->hosts },
        { "dns", parse_dns, &k->n_dns_nameservers, &k->dns_nameservers },
        { "dns-search", NULL, &k->n_dns_search, &k->dns_search },
        { "dns-option", NULL, &k->n_dns_options, &k->dns_options },
        { "cap-add", parse_capability, &k->n_cap_add, &k->cap_add },
        { "cap-drop", parse_capability, &k->n_cap_drop, &k->cap_drop },
        { "ulimit", parse_ulimit, &k->n_ulimits, &k->ulimits },
    };

    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        struct strings to = { 0 };
        int rc = add_texts(c, lists[i].flag, lists[i].parse, &to, e);

        if (rc < 0)
            return rc;
        *lists[i].count = to.count;
        *lists[i].items = to.items;
    }
    return 0;
}

static int add_placement(struct ctl *c, Skep__Placement *p, struct err *e)
{
    for (size_t i = 0; i < flags_list_count(c->flags, "constraint"); i++) {
        const char *value = flags_list_at(c->flags, "constraint", i);
        Skep__Constraint *constraint = NULL;

        if (parse_constraint(&c->arena, value, &constraint, e) < 0)
            return spec_bad_value(c, "constraint", value, e);
        LIST_ADD(&c->arena, p->n_constraints, p->constraints, constraint);
    }
    for (size_t i = 0; i < flags_list_count(c->flags, "placement-pref"); i++) {
        const char *value = flags_list_at(c->flags, "placement-pref", i);
        Skep__SpreadPreference *preference = NULL;

        if (parse_preference(&c->arena, value, &preference, e) < 0)
            return spec_bad_value(c, "placement-pref", value, e);
        LIST_ADD(&c->arena, p->n_preferences, p->preferences, preference);
    }
    return 0;
}

static int add_networks(struct ctl *c, Skep__TaskSpec *t, struct err *e)
{
    for (size_t i = 0; i < flags_list_count(c->flags, "network"); i++) {
        const char *value = flags_list_at(c->flags, "network", i);
        Skep__NetworkAttachmentConfig *n = NULL;

        if (parse_network(&c->arena, value, &n, e) < 0)
            return spec_bad_value(c, "network", value, e);
        LIST_ADD(&c->arena, t->n_networks, t->networks, n);
    }
    return 0;
}

static int set_image_and_args(struct ctl *c, Skep__ContainerSpec *k, struct err *e)
{
    const char *image;
    int rc = parse_image(&c->arena, flags_arg(c->flags, 0), &image, e);

    if (rc < 0)
        return rc;
    k->image = arena_strdup(&c->arena, image);
    for (int i = 1; i < flags_arg_count(c->flags); i++)
        LIST_ADD(&c->arena, k->n_args, k->args, arena_strdup(&c->arena, flags_arg(c->flags, i)));
    return 0;
}

int spec_create(struct ctl *c, Skep__ServiceSpec **ret, struct err *e)
{
    Skep__ServiceSpec *s = ARENA_NEW(&c->arena, Skep__ServiceSpec);
    Skep__ContainerSpec *k;
    const char *name = flags_string(c->flags, "name");
    int rc;

    skep__service_spec__init(s);
    spec_fill(&c->arena, s);
    k = s->task->container;
    s->annotations->name = arena_strdup(&c->arena, name);
    rc = set_mode(c, s, e);
    if (rc == 0 && name[0] != '\0')
        rc = parse_service_name(name, e);
    if (rc == 0)
        rc = set_image_and_args(c, k, e);
    if (rc == 0)
        rc = add_labels(c, "label", &s->annotations->n_labels, &s->annotations->labels, e);
    if (rc == 0)
        rc = add_labels(c, "container-label", &k->n_labels, &k->labels, e);
    if (rc == 0)
        rc = add_labels(c, "sysctl", &k->n_sysctls, &k->sysctls, e);
    if (rc == 0)
        rc = add_env(c, k, e);
    if (rc == 0)
        rc = add_lists(c, k, e);
    if (rc == 0)
        rc = add_placement(c, s->task->placement, e);
    if (rc == 0)
        rc = add_networks(c, s->task, e);
    if (rc == 0)
        rc = spec_add_mounts(c, "mount", k, e);
    if (rc == 0)
        rc = spec_add_ports(c, "publish", s->endpoint, e);
    if (rc == 0)
        rc = spec_apply(c, s, e);
    if (rc == 0)
        rc = spec_check(c, s, e);
    if (rc == 0)
        rc = spec_add_secrets(c, "secret", k, e);
    if (rc == 0)
        rc = spec_add_configs(c, "config", k, e);
    if (rc < 0)
        return rc;
    *ret = s;
    return 0;
}
