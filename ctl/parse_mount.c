/* --mount, --secret, --config and --network: comma-separated key=value fields. */
#include <ctype.h>
#include <string.h>

#include "common/text.h"
#include "ctl/parse.h"

/* One field: key in lower case, value NULL when there is no '='. */
struct field {
    char *key;
    const char *value;
};

static struct field field_split(struct arena *a, const char *text)
{
    struct field f = { .key = arena_strdup(a, text) };
    char *equals = strchr(f.key, '=');

    if (equals != NULL) {
        *equals = '\0';
        f.value = equals + 1;
    }
    for (char *p = f.key; *p != '\0'; p++)
        *p = (char)tolower((unsigned char)*p);
    return f;
}

static bool key_is(const struct field *f, const char *name)
{
    return strcmp(f->key, name) == 0;
}

/* ---- mounts ---- */

struct mount_state {
    struct arena *arena;
    const char *cwd;
    Skep__Mount *mount;
    bool bind_options, volume_options, tmpfs_options;
};

static int mount_type(struct mount_state *s, const char *value, struct err *e)
{
    if (strcmp(value, "bind") == 0)
        s->mount->type = SKEP__MOUNT__TYPE__BIND;
    else if (strcmp(value, "volume") == 0)
        s->mount->type = SKEP__MOUNT__TYPE__VOLUME;
    else if (strcmp(value, "tmpfs") == 0)
        s->mount->type = SKEP__MOUNT__TYPE__TMPFS;
    else
        return err_set(e, ERR_INVALID, "invalid mount type \"%.40s\"; use bind, volume or tmpfs",
                       value);
    return 0;
}

static int mount_bool(const struct field *f, protobuf_c_boolean *ret, struct err *e)
{
    bool value = true;
    int rc = f->value != NULL ? text_parse_bool(f->value, &value, e) : 0;

    if (rc == 0)
        *ret = value;
    return rc < 0 ? err_wrap(e, rc, "invalid value for %s", f->key) : 0;
}

static int mount_bind_field(struct mount_state *s, const struct field *f, struct err *e)
{
    static const char *const propagations[] = { "rprivate", "private", "rshared",
                                                "shared",   "rslave",  "slave" };

    s->bind_options = true;
    if (key_is(f, "bind-create-src"))
        return mount_bool(f, &s->mount->bind_create, e);
    if (key_is(f, "bind-nonrecursive"))
        return mount_bool(f, &s->mount->bind_nonrecursive, e);
    if (f->value == NULL)
        return err_set(e, ERR_INVALID, "invalid field '%.60s' must be a key=value pair", f->key);
    if (key_is(f, "bind-recursive")) {
        if (strcmp(f->value, "enabled") != 0 && strcmp(f->value, "disabled") != 0)
            return err_set(e, ERR_INVALID,
                           "invalid bind-recursive \"%.40s\"; use enabled or disabled", f->value);
        s->mount->bind_nonrecursive = strcmp(f->value, "disabled") == 0;
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(propagations); i++) {
        if (strcmp(propagations[i], f->value) == 0) {
            s->mount->propagation = (Skep__Mount__Propagation)i;
            return 0;
        }
    }
    return err_set(
        e, ERR_INVALID,
        "invalid propagation \"%.40s\"; use rprivate, private, rshared, shared, rslave or "
        "slave",
        f->value);
}

static Skep__Driver *mount_driver(struct mount_state *s)
{
    if (s->mount->volume_driver == NULL) {
        s->mount->volume_driver = ARENA_NEW(s->arena, Skep__Driver);
        skep__driver__init(s->mount->volume_driver);
    }
    return s->mount->volume_driver;
}

static int mount_volume_field(struct mount_state *s, const struct field *f, struct err *e)
{
    s->volume_options = true;
    if (key_is(f, "volume-nocopy"))
        return mount_bool(f, &s->mount->volume_nocopy, e);
    if (f->value == NULL)
        return err_set(e, ERR_INVALID, "invalid field '%.60s' must be a key=value pair", f->key);
    if (key_is(f, "volume-label"))
        return parse_label(s->arena, f->value, &s->mount->n_volume_labels, &s->mount->volume_labels,
                           e);
    if (key_is(f, "volume-driver")) {
        mount_driver(s)->name = arena_strdup(s->arena, f->value);
        return 0;
    }
    if (key_is(f, "volume-opt"))
        return parse_label(s->arena, f->value, &mount_driver(s)->n_options,
                           &mount_driver(s)->options, e);
    return err_set(e, ERR_INVALID, "option '%.60s' is not supported", f->key);
}

static int mount_tmpfs_field(struct mount_state *s, const struct field *f, struct err *e)
{
    uint64_t mode = 0;
    int rc;

    s->tmpfs_options = true;
    if (f->value == NULL)
        return err_set(e, ERR_INVALID, "invalid field '%.60s' must be a key=value pair", f->key);
    if (key_is(f, "tmpfs-size")) {
        rc = text_parse_bytes(f->value, &s->mount->tmpfs_size_bytes, e);
        return rc < 0 ? err_wrap(e, rc, "invalid value for tmpfs-size") : 0;
    }
    if (!key_is(f, "tmpfs-mode"))
        return err_set(e, ERR_INVALID, "option '%.60s' is not supported", f->key);
    for (const char *p = f->value; *p != '\0' && mode <= 07777; p++) {
        if (*p < '0' || *p > '7')
            mode = UINT32_MAX;
        mode = mode * 8 + (uint64_t)(*p - '0');
    }
    if (f->value[0] == '\0' || mode > 07777)
        return err_set(e, ERR_INVALID, "invalid value for tmpfs-mode: \"%.40s\" is not octal",
                       f->value);
    s->mount->tmpfs_mode = (uint32_t)mode;
    return 0;
}

static int mount_field(struct mount_state *s, const struct field *f, struct err *e)
{
    if (key_is(f, "readonly") || key_is(f, "ro"))
        return mount_bool(f, &s->mount->read_only, e);
    if (strncmp(f->key, "bind-", 5) == 0)
        return mount_bind_field(s, f, e);
    if (strncmp(f->key, "volume-", 7) == 0)
        return mount_volume_field(s, f, e);
    if (strncmp(f->key, "tmpfs-", 6) == 0)
        return mount_tmpfs_field(s, f, e);
    if (f->value == NULL)
        return err_set(e, ERR_INVALID, "invalid field '%.60s' must be a key=value pair", f->key);
    if (key_is(f, "type"))
        return mount_type(s, f->value, e);
    if (key_is(f, "source") || key_is(f, "src")) {
        bool relative = f->value[0] == '.' && (f->value[1] == '/' || f->value[1] == '\0');

        s->mount->source = relative ? arena_printf(s->arena, "%s%s", s->cwd, f->value + 1)
                                    : arena_strdup(s->arena, f->value);
        return 0;
    }
    if (key_is(f, "target") || key_is(f, "dst") || key_is(f, "destination")) {
        s->mount->target = arena_strdup(s->arena, f->value);
        return 0;
    }
    if (key_is(f, "consistency"))
        return 0; /* docker accepts it for other platforms; it means nothing on Linux */
    return err_set(e, ERR_INVALID, "unexpected key '%.60s' in '%.60s=%.60s'", f->key, f->key,
                   f->value);
}

/* What only the whole shows. */
static int mount_check(const struct mount_state *s, struct err *e)
{
    const Skep__Mount *m = s->mount;
    const char *type = m->type == SKEP__MOUNT__TYPE__BIND     ? "bind"
                       : m->type == SKEP__MOUNT__TYPE__VOLUME ? "volume"
                                                              : "tmpfs";

    if (m->target[0] == '\0')
        return err_set(e, ERR_INVALID, "target is required");
    if (m->target[0] != '/')
        return err_set(e, ERR_INVALID, "invalid mount target, must be an absolute path: \"%.80s\"",
                       m->target);
    if (m->type == SKEP__MOUNT__TYPE__BIND && m->source[0] == '\0')
        return err_set(e, ERR_INVALID, "source is required for a bind mount");
    if (m->type == SKEP__MOUNT__TYPE__BIND && m->source[0] != '/')
        return err_set(e, ERR_INVALID, "invalid mount source, must be an absolute path: \"%.80s\"",
                       m->source);
    if (m->type == SKEP__MOUNT__TYPE__VOLUME && m->source[0] == '/')
        return err_set(e, ERR_INVALID,
                       "invalid volume name \"%.80s\"; for a path of the host use type=bind",
                       m->source);
    if (m->type == SKEP__MOUNT__TYPE__TMPFS && m->source[0] != '\0')
        return err_set(e, ERR_INVALID, "a tmpfs mount has no source");
    if (s->bind_options && m->type != SKEP__MOUNT__TYPE__BIND)
        return err_set(e, ERR_INVALID, "cannot mix 'bind-*' options with mount type '%s'", type);
    if (s->volume_options && m->type != SKEP__MOUNT__TYPE__VOLUME)
        return err_set(e, ERR_INVALID, "cannot mix 'volume-*' options with mount type '%s'", type);
    if (s->tmpfs_options && m->type != SKEP__MOUNT__TYPE__TMPFS)
        return err_set(e, ERR_INVALID, "cannot mix 'tmpfs-*' options with mount type '%s'", type);
    return 0;
}

int parse_mount(struct arena *a, const char *text, const char *cwd, Skep__Mount **ret,
                struct err *e)
{
    struct mount_state s = { .arena = a, .cwd = cwd, .mount = ARENA_NEW(a, Skep__Mount) };
    struct strings fields = { 0 };
    int rc = parse_csv(a, text, &fields, e);

    skep__mount__init(s.mount);
    s.mount->type = SKEP__MOUNT__TYPE__VOLUME;
    for (size_t i = 0; i < fields.count && rc == 0; i++) {
        struct field f = field_split(a, fields.items[i]);

        rc = mount_field(&s, &f, e);
    }
    if (rc == 0)
        rc = mount_check(&s, e);
    if (rc < 0)
        return rc;
    *ret = s.mount;
    return 0;
}

/* ---- secrets and configs ---- */

static int file_mode(const char *value, uint32_t *ret, struct err *e)
{
    uint32_t mode = 0;

    for (const char *p = value; *p != '\0'; p++) {
        if (*p < '0' || *p > '7' || mode > 0777)
            return err_set(e, ERR_INVALID, "invalid mode specified: \"%.40s\" is not octal", value);
        mode = mode * 8 + (uint32_t)(*p - '0');
    }
    if (value[0] == '\0')
        return err_set(e, ERR_INVALID, "invalid mode specified: empty");
    *ret = mode;
    return 0;
}

static int file_field(struct arena *a, const struct field *f, struct file_ref *r, struct err *e)
{
    if (f->value == NULL)
        return err_set(e, ERR_INVALID, "invalid field '%.60s' must be a key=value pair", f->key);
    if (key_is(f, "source") || key_is(f, "src"))
        r->source = arena_strdup(a, f->value);
    else if (key_is(f, "target"))
        r->file->name = arena_strdup(a, f->value);
    else if (key_is(f, "uid"))
        r->file->uid = arena_strdup(a, f->value);
    else if (key_is(f, "gid"))
        r->file->gid = arena_strdup(a, f->value);
    else if (key_is(f, "mode"))
        return file_mode(f->value, &r->file->mode, e);
    else
        return err_set(e, ERR_INVALID,
                       "invalid field in request: %.60s; use source, target, uid, "
                       "gid or mode",
                       f->key);
    return 0;
}

int parse_file_ref(struct arena *a, const char *text, struct file_ref *ret, struct err *e)
{
    struct file_ref r = { .source = "", .file = ARENA_NEW(a, Skep__FileTarget) };
    struct strings fields = { 0 };
    int rc = parse_csv(a, text, &fields, e);

    skep__file_target__init(r.file);
    r.file->uid = arena_strdup(a, "0");
    r.file->gid = arena_strdup(a, "0");
    r.file->mode = 0444;
    if (rc == 0 && fields.count == 1 && strchr(text, '=') == NULL) {
        r.source = fields.items[0];
    } else {
        for (size_t i = 0; i < fields.count && rc == 0; i++) {
            struct field f = field_split(a, fields.items[i]);

            rc = file_field(a, &f, &r, e);
        }
    }
    if (rc < 0)
        return rc;
    if (r.source[0] == '\0')
        return err_set(e, ERR_INVALID, "source is required");
    if (r.file->name[0] == '\0')
        r.file->name = arena_strdup(a, r.source);
    *ret = r;
    return 0;
}

/* ---- networks ---- */

int parse_network(struct arena *a, const char *text, Skep__NetworkAttachmentConfig **ret,
                  struct err *e)
{
    Skep__NetworkAttachmentConfig *n = ARENA_NEW(a, Skep__NetworkAttachmentConfig);
    struct strings fields = { 0 };
    int rc = parse_csv(a, text, &fields, e);

    skep__network_attachment_config__init(n);
    if (rc == 0 && strchr(text, '=') == NULL) {
        n->target = arena_strdup(a, text);
        fields.count = 0;
    }
    for (size_t i = 0; i < fields.count && rc == 0; i++) {
        struct field f = field_split(a, fields.items[i]);

        if (f.value == NULL)
            rc = err_set(e, ERR_INVALID, "invalid field '%.60s' must be a key=value pair", f.key);
        else if (key_is(&f, "name"))
            n->target = arena_strdup(a, f.value);
        else if (key_is(&f, "alias"))
            LIST_ADD(a, n->n_aliases, n->aliases, arena_strdup(a, f.value));
        else if (key_is(&f, "driver-opt"))
            rc = parse_label(a, f.value, &n->n_driver_options, &n->driver_options, e);
        else
            rc = err_set(e, ERR_INVALID, "invalid field key %.60s; use name, alias or driver-opt",
                         f.key);
    }
    if (rc < 0)
        return rc;
    if (n->target[0] == '\0')
        return err_set(e, ERR_INVALID, "network name/id is not specified");
    *ret = n;
    return 0;
}
