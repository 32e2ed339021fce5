#include "managerd/control/defaults.h"

#include <stdlib.h>
#include <string.h>

/* Sets *field to a fresh message when it is unset. */
#define FILL(a, field, Type, init)                                                                 \
    do {                                                                                           \
        if ((field) == NULL) {                                                                     \
            (field) = ARENA_NEW((a), Type);                                                        \
            init(field);                                                                           \
        }                                                                                          \
    } while (0)

/* ---- order ---- */

static int compare_keys(const void *a, const void *b)
{
    const Skep__KeyValue *const *x = a, *const *y = b;
    int order = strcmp((*x)->key, (*y)->key);

    return order != 0 ? order : strcmp((*x)->value, (*y)->value);
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int compare_mounts(const void *a, const void *b)
{
    return strcmp((*(Skep__Mount *const *)a)->target, (*(Skep__Mount *const *)b)->target);
}

static int compare_networks(const void *a, const void *b)
{
    return strcmp((*(Skep__NetworkAttachmentConfig *const *)a)->target,
                  (*(Skep__NetworkAttachmentConfig *const *)b)->target);
}

static int compare_generic(const void *a, const void *b)
{
    return strcmp((*(Skep__NamedCount *const *)a)->kind, (*(Skep__NamedCount *const *)b)->kind);
}

static int compare_secrets(const void *a, const void *b)
{
    return strcmp((*(Skep__SecretReference *const *)a)->file->name,
                  (*(Skep__SecretReference *const *)b)->file->name);
}

static int compare_configs(const void *a, const void *b)
{
    return strcmp((*(Skep__ConfigReference *const *)a)->file->name,
                  (*(Skep__ConfigReference *const *)b)->file->name);
}

static int compare_u32(uint32_t a, uint32_t b)
{
    return (a > b) - (a < b);
}

static int compare_ports(const void *a, const void *b)
{
    const Skep__PortConfig *x = *(Skep__PortConfig *const *)a, *y = *(Skep__PortConfig *const *)b;
    int order = compare_u32(x->published_port, y->published_port);

    if (order == 0)
        order = compare_u32(x->target_port, y->target_port);
    if (order == 0)
        order = compare_u32(x->protocol, y->protocol);
    if (order == 0)
        order = compare_u32(x->publish_mode, y->publish_mode);
    return order != 0 ? order : strcmp(x->host_ip, y->host_ip);
}

static void sort(void *array, size_t count, int (*compare)(const void *, const void *))
{
    if (count > 1) /* qsort of NULL is undefined */
        qsort(array, count, sizeof(void *), compare);
}

void defaults_sort_map(Skep__KeyValue **map, size_t count)
{
    sort(map, count, compare_keys);
}

void defaults_sort_networks(Skep__NetworkAttachmentConfig **networks, size_t count)
{
    sort(networks, count, compare_networks);
}

/* ---- container ---- */

static void fill_file(Skep__FileTarget **file, struct arena *a, const char *prefix,
                      const char *name)
{
    FILL(a, *file, Skep__FileTarget, skep__file_target__init);
    if ((*file)->name[0] == '\0')
        (*file)->name = arena_printf(a, "%s%s", prefix, name);
    if ((*file)->uid[0] == '\0')
        (*file)->uid = (char *)"0";
    if ((*file)->gid[0] == '\0')
        (*file)->gid = (char *)"0";
    if ((*file)->mode == 0)
        (*file)->mode = DEFAULT_FILE_MODE;
}

/* "net_admin" and "CAP_NET_ADMIN" are the same wish; ALL stays. As the docker CLI. */
static size_t normalise_capabilities(char **caps, size_t count, struct arena *a)
{
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        char *upper = arena_strdup(a, caps[i]);

        for (char *c = upper; *c != '\0'; c++)
            *c = (char)(*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
        if (strcmp(upper, "ALL") != 0 && strncmp(upper, "CAP_", 4) != 0)
            upper = arena_printf(a, "CAP_%s", upper);
        caps[i] = upper;
    }
    sort(caps, count, compare_strings);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || strcmp(caps[kept - 1], caps[i]) != 0)
            caps[kept++] = caps[i];
    }
    return kept;
}

static void fill_container(Skep__ContainerSpec *c, struct arena *a)
{
    if (c->stop_grace_period == 0)
        c->stop_grace_period = DEFAULT_STOP_GRACE_NS;
    for (size_t i = 0; i < c->n_secrets; i++)
        fill_file(&c->secrets[i]->file, a, "", c->secrets[i]->secret_name);
    for (size_t i = 0; i < c->n_configs; i++)
        fill_file(&c->configs[i]->file, a, "/", c->configs[i]->config_name);
    for (size_t i = 0; i < c->n_mounts; i++) {
        Skep__Mount *m = c->mounts[i];

        defaults_sort_map(m->volume_labels, m->n_volume_labels);
        if (m->volume_driver != NULL)
            defaults_sort_map(m->volume_driver->options, m->volume_driver->n_options);
    }
    c->n_cap_add = normalise_capabilities(c->cap_add, c->n_cap_add, a);
    c->n_cap_drop = normalise_capabilities(c->cap_drop, c->n_cap_drop, a);
    defaults_sort_map(c->labels, c->n_labels);
    defaults_sort_map(c->sysctls, c->n_sysctls);
    sort(c->mounts, c->n_mounts, compare_mounts); /* parents before what is mounted below them */
    sort(c->secrets, c->n_secrets, compare_secrets);
    sort(c->configs, c->n_configs, compare_configs);
}

/* ---- task ---- */

static void fill_resources(Skep__Resources **r, struct arena *a)
{
    FILL(a, *r, Skep__Resources, skep__resources__init);
    sort((*r)->generic, (*r)->n_generic, compare_generic);
}

/* What images and engines call the same machine. features.md 3.7 */
static void normalise_platform(Skep__Platform *p)
{
    static const char *const same[][2] = { { "x86_64", "amd64" }, { "aarch64", "arm64" } };

    for (size_t i = 0; i < ARRAY_LEN(same); i++) {
        if (strcmp(p->architecture, same[i][0]) == 0)
            p->architecture = (char *)same[i][1];
    }
}

static void fill_task(Skep__TaskSpec *t, struct arena *a)
{
    FILL(a, t->resources, Skep__ResourceRequirements, skep__resource_requirements__init);
    fill_resources(&t->resources->limits, a);
    fill_resources(&t->resources->reservations, a);
    if (t->restart == NULL) {
        FILL(a, t->restart, Skep__RestartPolicy, skep__restart_policy__init);
        t->restart->delay = DEFAULT_RESTART_DELAY_NS;
    }
    FILL(a, t->placement, Skep__Placement, skep__placement__init);
    for (size_t i = 0; i < t->placement->n_platforms; i++)
        normalise_platform(t->placement->platforms[i]);
    if (t->log_driver != NULL)
        defaults_sort_map(t->log_driver->options, t->log_driver->n_options);
    for (size_t i = 0; i < t->n_networks; i++)
        defaults_sort_map(t->networks[i]->driver_options, t->networks[i]->n_driver_options);
    defaults_sort_networks(t->networks, t->n_networks);
    if (t->container != NULL)
        fill_container(t->container, a);
}

/* ---- service ---- */

static void fill_update(Skep__UpdateConfig **u, struct arena *a)
{
    if (*u == NULL) {
        FILL(a, *u, Skep__UpdateConfig, skep__update_config__init);
        (*u)->parallelism = DEFAULT_PARALLELISM;
    }
    if ((*u)->monitor == 0)
        (*u)->monitor = DEFAULT_MONITOR_NS; /* the Engine API's 0 means unset as well */
}

static void fill_mode(Skep__ServiceSpec *spec, struct arena *a)
{
    if (spec->mode_case == SKEP__SERVICE_SPEC__MODE__NOT_SET) {
        spec->replicated = ARENA_NEW(a, Skep__ReplicatedMode);
        skep__replicated_mode__init(spec->replicated);
        spec->replicated->replicas = 1;
        spec->mode_case = SKEP__SERVICE_SPEC__MODE_REPLICATED;
    } else if (spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB) {
        Skep__ReplicatedJobMode *job = spec->replicated_job;

        if (job->total_completions == 0)
            job->total_completions = job->max_concurrent != 0 ? job->max_concurrent : 1;
        if (job->max_concurrent == 0)
            job->max_concurrent = job->total_completions;
    }
}

void defaults_fill_service(Skep__ServiceSpec *spec, struct arena *a)
{
    FILL(a, spec->annotations, Skep__Annotations, skep__annotations__init);
    defaults_sort_map(spec->annotations->labels, spec->annotations->n_labels);
    FILL(a, spec->task, Skep__TaskSpec, skep__task_spec__init);
    fill_task(spec->task, a);
    fill_mode(spec, a);
    if (spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED ||
        spec->mode_case == SKEP__SERVICE_SPEC__MODE_GLOBAL) {
        fill_update(&spec->update, a);
        fill_update(&spec->rollback, a);
    }
    FILL(a, spec->endpoint, Skep__EndpointSpec, skep__endpoint_spec__init);
    sort(spec->endpoint->ports, spec->endpoint->n_ports, compare_ports);
}
