#include "agentd/docker/info.h"

#include <stdlib.h>
#include <string.h>

#include "agentd/docker/json.h"

struct engine_call *info_get(struct engine *en, struct docker_reply to, struct err *e)
{
    struct engine_request q = {
        .method = "GET", .path = "/info", .deadline_ms = INFO_MS_MAX, .done = to.done, .ctx = to.ctx
    };

    return engine_call_start(en, &q, e);
}

static int compare_pairs(const void *a, const void *b)
{
    const Skep__KeyValue *x = *(Skep__KeyValue *const *)a, *y = *(Skep__KeyValue *const *)b;
    int rc = strcmp(x->key, y->key);

    return rc != 0 ? rc : strcmp(x->value, y->value);
}

static Skep__KeyValue *pair(struct arena *a, const char *key, size_t key_size, const char *value)
{
    Skep__KeyValue *kv = ARENA_NEW(a, Skep__KeyValue);
    char *copy = arena_alloc(a, key_size + 1);

    skep__key_value__init(kv);
    memcpy(copy, key, key_size);
    copy[key_size] = '\0';
    kv->key = copy;
    kv->value = arena_strdup(a, value);
    return kv;
}

/* Engine labels are "key=value" strings. */
static void parse_labels(const json_t *info, struct arena *a, Skep__EngineDescription *d)
{
    const json_t *list = docker_json_get(info, "Labels"), *item;
    size_t i;

    d->labels = arena_array(a, INFO_LABELS_MAX, sizeof(d->labels[0]));
    json_array_foreach((json_t *)list, i, item)
    {
        const char *text = json_string_value(item);
        size_t key_size;

        if (text == NULL || d->n_labels == INFO_LABELS_MAX)
            continue;
        key_size = strcspn(text, "=");
        d->labels[d->n_labels++] =
            pair(a, text, key_size, text[key_size] == '=' ? text + key_size + 1 : "");
    }
    qsort(d->labels, d->n_labels, sizeof(d->labels[0]), compare_pairs);
}

static void parse_plugins(const json_t *info, struct arena *a, Skep__EngineDescription *d)
{
    static const char *const types[] = { "Log", "Network", "Volume" };
    const json_t *plugins = docker_json_get(info, "Plugins"), *item;
    size_t i;

    d->plugins = arena_array(a, INFO_PLUGINS_MAX, sizeof(d->plugins[0]));
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        json_array_foreach((json_t *)docker_json_get(plugins, types[t]), i, item)
        {
            const char *name = json_string_value(item);

            if (name != NULL && d->n_plugins < INFO_PLUGINS_MAX)
                d->plugins[d->n_plugins++] = pair(a, types[t], strlen(types[t]), name);
        }
    }
    qsort(d->plugins, d->n_plugins, sizeof(d->plugins[0]), compare_pairs);
}

static int compare_kinds(const void *a, const void *b)
{
    return strcmp((*(Skep__NamedCount *const *)a)->kind, (*(Skep__NamedCount *const *)b)->kind);
}

static void add_kind(struct arena *a, Skep__Resources *r, const char *kind, int64_t value)
{
    Skep__NamedCount *n;

    for (size_t i = 0; i < r->n_generic; i++) {
        if (strcmp(r->generic[i]->kind, kind) == 0) {
            r->generic[i]->value += value;
            return;
        }
    }
    if (r->n_generic == INFO_KINDS_MAX || kind[0] == '\0' || value <= 0)
        return;
    n = ARENA_NEW(a, Skep__NamedCount);
    skep__named_count__init(n);
    n->kind = arena_strdup(a, kind);
    n->value = value;
    r->generic[r->n_generic++] = n;
}

/* Discrete resources have a count; of named ones each value counts for one. */
static void parse_generic(const json_t *info, struct arena *a, Skep__Resources *r)
{
    const json_t *list = docker_json_get(info, "GenericResources"), *item;
    size_t i;

    r->generic = arena_array(a, INFO_KINDS_MAX, sizeof(r->generic[0]));
    json_array_foreach((json_t *)list, i, item)
    {
        const json_t *discrete = docker_json_get(item, "DiscreteResourceSpec");
        const json_t *named = docker_json_get(item, "NamedResourceSpec");

        if (discrete != NULL)
            add_kind(a, r, docker_json_str(discrete, "Kind"), docker_json_int(discrete, "Value"));
        else if (named != NULL)
            add_kind(a, r, docker_json_str(named, "Kind"), 1);
    }
    qsort(r->generic, r->n_generic, sizeof(r->generic[0]), compare_kinds);
}

int info_parse(const char *body, size_t size, struct arena *a, Skep__NodeDescription **ret,
               struct err *e)
{
    json_t *o = docker_json_parse(body, size, e);
    Skep__NodeDescription *d;
    int64_t cpus;

    if (o == NULL)
        return -ERR_PROTO;
    cpus = docker_json_int(o, "NCPU");
    if (docker_json_str(o, "OSType")[0] == '\0' || cpus <= 0 || cpus > 1 << 20 ||
        docker_json_int(o, "MemTotal") < 0) {
        json_decref(o);
        return err_set(e, ERR_PROTO, "engine's /info lacks platform or CPU count");
    }
    d = ARENA_NEW(a, Skep__NodeDescription);
    skep__node_description__init(d);
    d->hostname = arena_strdup(a, docker_json_str(o, "Name"));
    d->agent_version = arena_strdup(a, SKEP_VERSION);
    d->platform = ARENA_NEW(a, Skep__Platform);
    skep__platform__init(d->platform);
    d->platform->architecture = arena_strdup(a, docker_json_str(o, "Architecture"));
    d->platform->os = arena_strdup(a, docker_json_str(o, "OSType"));
    d->resources = ARENA_NEW(a, Skep__Resources);
    skep__resources__init(d->resources);
    d->resources->nano_cpus = cpus * 1000000000;
    d->resources->memory_bytes = docker_json_int(o, "MemTotal");
    parse_generic(o, a, d->resources);
    d->engine = ARENA_NEW(a, Skep__EngineDescription);
    skep__engine_description__init(d->engine);
    d->engine->version = arena_strdup(a, docker_json_str(o, "ServerVersion"));
    parse_labels(o, a, d->engine);
    parse_plugins(o, a, d->engine);
    json_decref(o);
    *ret = d;
    return 0;
}
