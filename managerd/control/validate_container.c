/* The container part of a task spec. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "managerd/control/image_ref.h"
#include "managerd/control/validate_internal.h"

#define AT "task.container."
#define HEALTH_NS_MIN INT64_C(1000000)
enum { ARGUMENT_BYTES_MAX = 128 << 10 /* the kernel's MAX_ARG_STRLEN */ };

/* ---- words ---- */

static int check_words(const char *at, char *const *words, size_t count, struct err *e)
{
    int rc = validate_count(at, count, VALIDATE_WORDS_MAX, e);

    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (strlen(words[i]) >= ARGUMENT_BYTES_MAX)
            rc = err_set(e, ERR_INVALID, "%s[%zu]: longer than %d bytes", at, i,
                         ARGUMENT_BYTES_MAX - 1);
    }
    return rc;
}

static int check_env(const Skep__ContainerSpec *c, struct err *e)
{
    int rc = check_words(AT "env", c->env, c->n_env, e);

    for (size_t i = 0; rc == 0 && i < c->n_env; i++) {
        if (c->env[i][0] == '\0' || c->env[i][0] == '=')
            rc = err_set(e, ERR_INVALID,
                         AT "env: invalid environment variable \"%.64s\", it must "
                            "be NAME=value",
                         c->env[i]);
    }
    return rc;
}

static bool is_template(const char *text)
{
    return strstr(text, "{{") != NULL;
}

static int check_identity(const Skep__ContainerSpec *c, struct err *e)
{
    int rc = validate_line(AT "hostname", c->hostname, VALIDATE_PATH_BYTES_MAX, e);

    if (rc == 0 && !is_template(c->hostname) &&
        (!validate_chars(c->hostname, VALIDATE_ALNUM "-.") || strlen(c->hostname) > 63 ||
         c->hostname[0] == '-' || c->hostname[0] == '.'))
        rc = err_set(e, ERR_INVALID, AT "hostname: invalid hostname \"%.70s\"", c->hostname);
    if (rc == 0)
        rc = validate_line(AT "dir", c->dir, VALIDATE_PATH_BYTES_MAX, e);
    if (rc == 0 && c->dir[0] != '\0' && c->dir[0] != '/' && !is_template(c->dir))
        rc = err_set(e, ERR_INVALID, AT "dir: \"%.64s\" needs to be an absolute path", c->dir);
    if (rc == 0)
        rc = validate_line(AT "user", c->user, 256, e);
    if (rc == 0)
        rc = validate_line(AT "stop_signal", c->stop_signal, 32, e);
    if (rc == 0 && !validate_chars(c->stop_signal, VALIDATE_ALNUM "+-"))
        rc = err_set(e, ERR_INVALID, AT "stop_signal: \"%s\" is no signal, as SIGTERM or 15",
                     c->stop_signal);
    return rc == 0 ? validate_duration(AT "stop_grace_period", c->stop_grace_period, e) : rc;
}

/* ---- health ---- */

static int check_health_duration(const char *name, int64_t ns, struct err *e)
{
    if (ns != 0 && ns < HEALTH_NS_MIN)
        return err_set(e, ERR_INVALID, AT "healthcheck: %s in HealthConfig cannot be less than 1ms",
                       name);
    return validate_duration(name, ns, e);
}

static int check_health(const Skep__HealthConfig *h, struct err *e)
{
    int rc;

    if (h == NULL)
        return 0;
    rc = check_words(AT "healthcheck.test", h->test, h->n_test, e);
    if (rc == 0 && h->n_test > 0) {
        const char *kind = h->test[0];
        bool command = strcmp(kind, "CMD") == 0, shell = strcmp(kind, "CMD-SHELL") == 0;

        if (!command && !shell && strcmp(kind, "NONE") != 0)
            rc = err_set(e, ERR_INVALID,
                         AT "healthcheck.test: begins with CMD, CMD-SHELL or NONE, not \"%.32s\"",
                         kind);
        else if ((command || shell) && h->n_test < 2)
            rc = err_set(e, ERR_INVALID, AT "healthcheck.test: no command after %s", kind);
    }
    if (rc == 0)
        rc = check_health_duration("Interval", h->interval, e);
    if (rc == 0)
        rc = check_health_duration("Timeout", h->timeout, e);
    if (rc == 0)
        rc = check_health_duration("StartPeriod", h->start_period, e);
    if (rc == 0)
        rc = check_health_duration("StartInterval", h->start_interval, e);
    if (rc == 0 && h->retries > INT32_MAX)
        rc = err_set(e, ERR_INVALID, AT "healthcheck: Retries in HealthConfig cannot be negative");
    return rc;
}

/* ---- mounts ---- */

static bool volume_name_valid(const char *name)
{
    return strchr(VALIDATE_ALNUM, name[0]) != NULL && strlen(name) >= 2 && strlen(name) <= 255 &&
           validate_chars(name, VALIDATE_ALNUM "_.-");
}

static int check_mount_source(const Skep__Mount *m, struct err *e)
{
    switch (m->type) {
    case SKEP__MOUNT__TYPE__BIND:
        if (m->source[0] != '/' && !is_template(m->source))
            return err_set(e, ERR_INVALID,
                           AT "mounts: invalid bind mount source \"%.64s\", must be an absolute "
                              "path",
                           m->source);
        return 0;
    case SKEP__MOUNT__TYPE__VOLUME:
        if (m->source[0] != '\0' && !is_template(m->source) && !volume_name_valid(m->source))
            return err_set(e, ERR_INVALID,
                           AT "mounts: invalid volume name \"%.64s\": letters, digits, '_', '.' "
                              "and '-'; for a host path use type bind",
                           m->source);
        return 0;
    case SKEP__MOUNT__TYPE__TMPFS:
        if (m->source[0] != '\0')
            return err_set(e, ERR_INVALID,
                           AT "mounts: invalid tmpfs source \"%.64s\", must be empty", m->source);
        return 0;
    case _SKEP__MOUNT__TYPE_IS_INT_SIZE:
        break;
    }
    return err_set(e, ERR_INVALID, AT "mounts: unknown type");
}

static int check_mount_options(const Skep__Mount *m, struct err *e)
{
    bool bind = m->type == SKEP__MOUNT__TYPE__BIND, volume = m->type == SKEP__MOUNT__TYPE__VOLUME,
         tmpfs = m->type == SKEP__MOUNT__TYPE__TMPFS;

    if (!bind && (m->propagation != SKEP__MOUNT__PROPAGATION__RPRIVATE || m->bind_create ||
                  m->bind_nonrecursive))
        return err_set(e, ERR_INVALID, AT "mounts: %.64s: bind options are for type bind only",
                       m->target);
    if (!volume && (m->volume_nocopy || m->n_volume_labels > 0 || m->volume_driver != NULL))
        return err_set(e, ERR_INVALID, AT "mounts: %.64s: volume options are for type volume only",
                       m->target);
    if (!tmpfs && (m->tmpfs_size_bytes != 0 || m->tmpfs_mode != 0))
        return err_set(e, ERR_INVALID, AT "mounts: %.64s: tmpfs options are for type tmpfs only",
                       m->target);
    if (m->tmpfs_size_bytes < 0 || m->tmpfs_mode > 07777)
        return err_set(e, ERR_INVALID,
                       AT "mounts: %.64s: tmpfs size cannot be negative, mode is at most 7777",
                       m->target);
    if (m->source[0] == '\0' && (m->n_volume_labels > 0))
        return err_set(e, ERR_INVALID, AT "mounts: %.64s: labels need a named volume", m->target);
    return validate_labels(AT "mounts.volume_labels", m->volume_labels, m->n_volume_labels, e);
}

/* Sorted by target already. */
static int check_mounts(const Skep__ContainerSpec *c, struct err *e)
{
    int rc = validate_count(AT "mounts", c->n_mounts, VALIDATE_LIST_MAX, e);

    for (size_t i = 0; rc == 0 && i < c->n_mounts; i++) {
        const Skep__Mount *m = c->mounts[i];

        rc = validate_line(AT "mounts.target", m->target, VALIDATE_PATH_BYTES_MAX, e);
        if (rc == 0)
            rc = validate_line(AT "mounts.source", m->source, VALIDATE_PATH_BYTES_MAX, e);
        if (rc < 0)
            return rc;
        if (m->target[0] != '/' || m->target[strspn(m->target, "/")] == '\0')
            return err_set(e, ERR_INVALID,
                           AT "mounts: target \"%.64s\" must be an absolute path, not /",
                           m->target);
        if (i > 0 && strcmp(c->mounts[i - 1]->target, m->target) == 0)
            return err_set(e, ERR_INVALID, AT "mounts: duplicate mount point: %.128s", m->target);
        rc = check_mount_source(m, e);
        if (rc == 0)
            rc = check_mount_options(m, e);
    }
    return rc;
}

/* ---- secrets and configs ---- */

/* A target inside the container; ".." could leave the place it is meant for (N70). */
static int check_file(const char *what, const char *name, const Skep__FileTarget *file,
                      struct err *e)
{
    size_t size = strlen(file->name);
    int rc = validate_line(what, file->name, VALIDATE_PATH_BYTES_MAX, e);

    if (rc < 0)
        return rc;
    if (size == 0 || file->name[size - 1] == '/' || strcmp(file->name, ".") == 0)
        return err_set(e, ERR_INVALID, "%s %.64s: target \"%.64s\" names no file", what, name,
                       file->name);
    for (const char *part = file->name; part != NULL; part = strchr(part, '/')) {
        part += *part == '/';
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0'))
            return err_set(e, ERR_INVALID, "%s %.64s: target \"%.64s\" must not contain ..", what,
                           name, file->name);
    }
    if (file->mode > 07777)
        return err_set(e, ERR_INVALID, "%s %.64s: mode %o is more than 7777", what, name,
                       file->mode);
    if (!validate_chars(file->uid, VALIDATE_DIGITS) ||
        !validate_chars(file->gid, VALIDATE_DIGITS) || strlen(file->uid) > 10 ||
        strlen(file->gid) > 10)
        return err_set(e, ERR_INVALID, "%s %.64s: uid and gid must be numbers", what, name);
    return 0;
}

static int check_secrets(const Skep__ContainerSpec *c, struct err *e)
{
    int rc = validate_count(AT "secrets", c->n_secrets, VALIDATE_LIST_MAX, e);

    for (size_t i = 0; rc == 0 && i < c->n_secrets; i++) {
        const Skep__SecretReference *r = c->secrets[i];

        if (r->secret_name[0] == '\0')
            return err_set(e, ERR_INVALID, AT "secrets: malformed secret reference without a name");
        rc = check_file("secret", r->secret_name, r->file, e);
        if (rc == 0 && i > 0 && strcmp(c->secrets[i - 1]->file->name, r->file->name) == 0)
            rc = err_set(e, ERR_INVALID,
                         "secret references '%.64s' and '%.64s' have a conflicting target: '%.64s'",
                         c->secrets[i - 1]->secret_name, r->secret_name, r->file->name);
    }
    return rc;
}

static int check_configs(const Skep__ContainerSpec *c, struct err *e)
{
    int rc = validate_count(AT "configs", c->n_configs, VALIDATE_LIST_MAX, e);

    for (size_t i = 0; rc == 0 && i < c->n_configs; i++) {
        const Skep__ConfigReference *r = c->configs[i];

        if (r->config_name[0] == '\0')
            return err_set(e, ERR_INVALID, AT "configs: malformed config reference without a name");
        rc = check_file("config", r->config_name, r->file, e);
        if (rc == 0 && i > 0 && strcmp(c->configs[i - 1]->file->name, r->file->name) == 0)
            rc = err_set(e, ERR_INVALID,
                         "config references '%.64s' and '%.64s' have a conflicting target: '%.64s'",
                         c->configs[i - 1]->config_name, r->config_name, r->file->name);
    }
    return rc;
}

/* ---- names, limits, kernel knobs ---- */

static int check_hosts(const Skep__ContainerSpec *c, struct err *e)
{
    int rc = validate_count(AT "hosts", c->n_hosts, VALIDATE_LIST_MAX, e);

    for (size_t i = 0; rc == 0 && i < c->n_hosts; i++) {
        char address[64];
        size_t size = strcspn(c->hosts[i], " ");

        rc = validate_line(AT "hosts", c->hosts[i], VALIDATE_PATH_BYTES_MAX, e);
        if (rc < 0)
            return rc;
        if (size < sizeof(address)) {
            memcpy(address, c->hosts[i], size);
            address[size] = '\0';
        }
        if (size >= sizeof(address) || c->hosts[i][size] == '\0' || c->hosts[i][size + 1] == '\0' ||
            (!validate_is_ip(address) && strcmp(address, "host-gateway") != 0))
            return err_set(e, ERR_INVALID, AT "hosts: \"%.64s\" must be an IP address and a name",
                           c->hosts[i]);
    }
    return rc;
}

static int check_dns(const Skep__ContainerSpec *c, struct err *e)
{
    int rc = validate_count(AT "dns_nameservers", c->n_dns_nameservers, 32, e);

    for (size_t i = 0; rc == 0 && i < c->n_dns_nameservers; i++) {
        if (!validate_is_ip(c->dns_nameservers[i]))
            rc = err_set(e, ERR_INVALID, AT "dns_nameservers: \"%.64s\" is not an IP address",
                         c->dns_nameservers[i]);
    }
    if (rc == 0)
        rc = validate_count(AT "dns_search", c->n_dns_search, 32, e);
    for (size_t i = 0; rc == 0 && i < c->n_dns_search; i++) {
        if (c->dns_search[i][0] == '\0' || strlen(c->dns_search[i]) > 253 ||
            !validate_chars(c->dns_search[i], VALIDATE_ALNUM "-_."))
            rc = err_set(e, ERR_INVALID, AT "dns_search: \"%.64s\" is not a domain name",
                         c->dns_search[i]);
    }
    if (rc == 0)
        rc = validate_count(AT "dns_options", c->n_dns_options, 32, e);
    for (size_t i = 0; rc == 0 && i < c->n_dns_options; i++) {
        if (c->dns_options[i][0] == '\0' || strlen(c->dns_options[i]) > 64 ||
            !validate_chars(c->dns_options[i], VALIDATE_ALNUM "-_:"))
            rc = err_set(e, ERR_INVALID, AT "dns_options: \"%.64s\" is no resolver option",
                         c->dns_options[i]);
    }
    return rc;
}

static int check_sysctls(const Skep__ContainerSpec *c, struct err *e)
{
    int rc = validate_labels(AT "sysctls", c->sysctls, c->n_sysctls, e);

    for (size_t i = 0; rc == 0 && i < c->n_sysctls; i++) {
        if (!validate_chars(c->sysctls[i]->key, VALIDATE_ALNUM "_-./"))
            rc = err_set(e, ERR_INVALID, AT "sysctls: \"%.64s\" is not the name of a sysctl",
                         c->sysctls[i]->key);
    }
    return rc;
}

static int check_capabilities(const char *at, char *const *caps, size_t count, struct err *e)
{
    int rc = validate_count(at, count, 64, e);

    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (strlen(caps[i]) > 40 || strcmp(caps[i], "CAP_") == 0 ||
            !validate_chars(caps[i], VALIDATE_LETTERS "_"))
            rc = err_set(e, ERR_INVALID, "%s: unknown capability \"%.64s\"", at, caps[i]);
    }
    return rc;
}

/* A limit's number: -1 is unlimited. */
static bool ulimit_number(const char *text, size_t size, int64_t *ret_value)
{
    char digits[24];
    struct err ignored;

    if (size == 0 || size >= sizeof(digits))
        return false;
    memcpy(digits, text, size);
    digits[size] = '\0';
    return text_parse_i64(digits, ret_value, &ignored) == 0 && *ret_value >= -1;
}

static bool ulimit_valid(const char *text)
{
    static const char *const names[] = { "core",    "cpu",      "data",   "fsize",      "locks",
                                         "memlock", "msgqueue", "nice",   "nofile",     "nproc",
                                         "rss",     "rtprio",   "rttime", "sigpending", "stack" };
    size_t name_size = strcspn(text, "=");
    const char *soft = text + name_size + 1;
    int64_t soft_value, hard_value;
    bool known = false;

    for (size_t i = 0; i < ARRAY_LEN(names) && !known; i++)
        known = strlen(names[i]) == name_size && strncmp(names[i], text, name_size) == 0;
    if (!known || text[name_size] == '\0')
        return false;
    size_t soft_size = strcspn(soft, ":");
    if (!ulimit_number(soft, soft_size, &soft_value))
        return false;
    if (soft[soft_size] == '\0')
        return true;
    const char *hard = soft + soft_size + 1;
    if (!ulimit_number(hard, strlen(hard), &hard_value))
        return false;
    return hard_value == -1 || (soft_value != -1 && soft_value <= hard_value);
}

static int check_ulimits(const Skep__ContainerSpec *c, struct err *e)
{
    int rc = validate_count(AT "ulimits", c->n_ulimits, 64, e);

    for (size_t i = 0; rc == 0 && i < c->n_ulimits; i++) {
        if (!ulimit_valid(c->ulimits[i]))
            rc = err_set(e, ERR_INVALID,
                         AT "ulimits: \"%.64s\" must be name=soft[:hard] with a soft limit not "
                            "above the hard one, as nofile=1024:2048",
                         c->ulimits[i]);
    }
    return rc;
}

static int check_groups(const Skep__ContainerSpec *c, struct err *e)
{
    int rc = validate_count(AT "groups", c->n_groups, 256, e);

    for (size_t i = 0; rc == 0 && i < c->n_groups; i++)
        rc = validate_line(AT "groups", c->groups[i], 256, e);
    return rc;
}

static int check_image(const char *image, struct err *e)
{
    struct err why = { 0 };

    if (image[0] == '\0')
        return err_set(e, ERR_INVALID, AT "image: image reference must be provided");
    if (image_ref_check(image, &why) < 0)
        return err_set(e, ERR_INVALID, AT "image: \"%.64s\" is not a valid repository/tag: %s",
                       image, why.message);
    return 0;
}

typedef int check_fn(const Skep__ContainerSpec *c, struct err *e);

int validate_container(const Skep__ContainerSpec *c, struct err *e)
{
    static check_fn *const checks[] = {
        check_env,     check_identity, check_groups, check_mounts,  check_secrets,
        check_configs, check_hosts,    check_dns,    check_sysctls, check_ulimits,
    };
    int rc = check_image(c->image, e);

    if (rc == 0)
        rc = validate_labels(AT "labels", c->labels, c->n_labels, e);
    if (rc == 0)
        rc = check_words(AT "command", c->command, c->n_command, e);
    if (rc == 0)
        rc = check_words(AT "args", c->args, c->n_args, e);
    if (rc == 0)
        rc = check_health(c->healthcheck, e);
    if (rc == 0)
        rc = check_capabilities(AT "cap_add", c->cap_add, c->n_cap_add, e);
    if (rc == 0)
        rc = check_capabilities(AT "cap_drop", c->cap_drop, c->n_cap_drop, e);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(checks); i++)
        rc = checks[i](c, e);
    return rc;
}
