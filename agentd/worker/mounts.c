#include "agentd/worker/build.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/worker/plain.h"

static const char *propagation_str(Skep__Mount__Propagation p)
{
    static const char *const names[] = { "rprivate", "private", "rshared",
                                         "shared",   "rslave",  "slave" };

    return (size_t)p < ARRAY_LEN(names) ? names[p] : names[0];
}

static void plan_bind(struct build *b, const char *source, bool create)
{
    struct container_plan *p = b->plan;

    p->binds = xrealloc_array(p->binds, p->bind_count + 1, sizeof(p->binds[0]));
    p->binds[p->bind_count++] = (struct container_bind){ xstrdup(source), create };
}

static void add_bind(struct build *b, const Skep__Mount *m, json_t *o)
{
    const char *source = json_string_value(json_object_get(o, "Source"));
    json_t *options;

    if (source == NULL || source[0] != '/') {
        build_fail(b, "invalid mount path: '%s' mount path must be absolute",
                   source == NULL ? "" : source);
        return;
    }
    plan_bind(b, source, m->bind_create);
    if (m->propagation == SKEP__MOUNT__PROPAGATION__RPRIVATE && !m->bind_nonrecursive)
        return;
    options = build_object(b, o, "BindOptions");
    build_str(b, options, "Propagation", propagation_str(m->propagation));
    if (m->bind_nonrecursive)
        build_bool(b, options, "NonRecursive", true);
}

static void add_driver_options(struct build *b, const Skep__Driver *d, json_t *o, const char *key)
{
    json_t *map = build_object(b, o, key);

    for (size_t i = 0; i < d->n_options; i++)
        build_str(b, map, d->options[i]->key,
                  build_expand(b, "volume option", d->options[i]->value));
}

/* POST /volumes/create: only named volumes with a driver; others are made on the way. */
static void plan_volume(struct build *b, const Skep__Mount *m, const char *name,
                        const json_t *labels)
{
    struct container_plan *p = b->plan;
    json_t *o = json_object();
    char *text;

    build_str(b, o, "Name", name);
    build_str(b, o, "Driver", m->volume_driver->name);
    add_driver_options(b, m->volume_driver, o, "DriverOpts");
    if (labels != NULL)
        (void)json_object_set(o, "Labels", (json_t *)labels);
    text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(o);
    if (text == NULL) {
        build_fail(b, "volume: not valid text");
        return;
    }
    p->volumes = xrealloc_array(p->volumes, p->volume_count + 1, sizeof(p->volumes[0]));
    p->volumes[p->volume_count++] = text;
}

static void add_volume(struct build *b, const Skep__Mount *m, json_t *o)
{
    const char *name = json_string_value(json_object_get(o, "Source"));
    bool driver = m->volume_driver != NULL && m->volume_driver->name[0] != '\0';
    json_t *options, *labels = NULL, *config;

    if (!m->volume_nocopy && m->n_volume_labels == 0 && !driver)
        return;
    options = build_object(b, o, "VolumeOptions");
    if (m->volume_nocopy)
        build_bool(b, options, "NoCopy", true);
    if (m->n_volume_labels > 0) {
        labels = build_object(b, options, "Labels");
        for (size_t i = 0; i < m->n_volume_labels; i++)
            build_str(b, labels, m->volume_labels[i]->key,
                      build_expand(b, "volume label", m->volume_labels[i]->value));
    }
    if (!driver)
        return;
    config = build_object(b, options, "DriverConfig");
    build_str(b, config, "Name", m->volume_driver->name);
    add_driver_options(b, m->volume_driver, config, "Options");
    if (name != NULL && name[0] != '\0')
        plan_volume(b, m, name, labels);
}

static void add_tmpfs(struct build *b, const Skep__Mount *m, json_t *o)
{
    json_t *options;

    if (m->tmpfs_size_bytes == 0 && m->tmpfs_mode == 0)
        return;
    options = build_object(b, o, "TmpfsOptions");
    build_int_if(b, options, "SizeBytes", m->tmpfs_size_bytes);
    build_int_if(b, options, "Mode", m->tmpfs_mode);
}

static void add_mount(struct build *b, json_t *list, const Skep__Mount *m)
{
    static const char *const types[] = { "bind", "volume", "tmpfs" };
    json_t *o = build_append_object(b, list);

    if ((size_t)m->type >= ARRAY_LEN(types)) {
        build_fail(b, "mount type %d is not supported", (int)m->type);
        return;
    }
    build_str(b, o, "Type", types[m->type]);
    if (m->source[0] != '\0')
        build_str(b, o, "Source", build_expand(b, "mount source", m->source));
    build_str(b, o, "Target", build_expand(b, "mount target", m->target));
    if (m->read_only)
        build_bool(b, o, "ReadOnly", true);
    if (m->type == SKEP__MOUNT__TYPE__BIND)
        add_bind(b, m, o);
    else if (m->type == SKEP__MOUNT__TYPE__VOLUME)
        add_volume(b, m, o);
    else
        add_tmpfs(b, m, o);
}

/* ---- secrets and configs ---- */

static bool number(const char *text, uint32_t *ret)
{
    uint64_t v = 0;

    if (strlen(text) > 10)
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return false;
        v = v * 10 + (uint64_t)(*text - '0');
    }
    *ret = (uint32_t)v;
    return v <= UINT32_MAX;
}

/* One file under files_dir, mounted read-only at target_dir/name or at name if that is absolute. */
static void add_file(struct build *b, json_t *list, const Skep__FileTarget *target,
                     const struct container_file *file, const char *target_dir)
{
    struct container_plan *p = b->plan;
    struct container_file f = *file;
    const char *name = target == NULL ? "" : target->name;
    json_t *o;
    char *path;

    f.mode = 0444;
    if (target != NULL && target->mode != 0)
        f.mode = target->mode & 07777;
    if (name[0] == '\0' || strlen(name) > 255 || p->file_count >= CONTAINER_FILES_MAX) {
        build_fail(b, "secret or config target '%s' is not a usable file name", name);
        return;
    }
    if (target != NULL && (!number(target->uid, &f.uid) || !number(target->gid, &f.gid))) {
        build_fail(b, "%s: uid and gid must be numbers", name);
        return;
    }
    plain_format(f.name, sizeof(f.name), "%c%zu", f.is_secret ? 's' : 'c', p->file_count);
    p->files = xrealloc_array(p->files, p->file_count + 1, sizeof(p->files[0]));
    p->files[p->file_count++] = f;
    o = build_append_object(b, list);
    build_str(b, o, "Type", "bind");
    path = xasprintf("%s/%s", b->node->files_dir, f.name);
    build_str(b, o, "Source", path);
    free(path);
    path = xasprintf("%s%s", name[0] == '/' ? "" : target_dir, name);
    build_str(b, o, "Target", path);
    free(path);
    build_bool(b, o, "ReadOnly", true);
}

void build_mounts(struct build *b, json_t *host)
{
    const Skep__ContainerSpec *c = b->spec;
    json_t *list;

    if (c->n_mounts + c->n_secrets + c->n_configs == 0)
        return;
    list = build_array(b, host, "Mounts");
    for (size_t i = 0; i < c->n_mounts; i++)
        add_mount(b, list, c->mounts[i]);
    for (size_t i = 0; i < c->n_secrets; i++) {
        struct container_file f = { .object_id = c->secrets[i]->secret_id, .is_secret = true };

        add_file(b, list, c->secrets[i]->file, &f, "/run/secrets/");
    }
    for (size_t i = 0; i < c->n_configs; i++) {
        struct container_file f = { .object_id = c->configs[i]->config_id };

        add_file(b, list, c->configs[i]->file, &f, "/");
    }
}
