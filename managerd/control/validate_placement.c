/* Placement: the constraint grammar of features.md 3.7. */
#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "managerd/control/validate_internal.h"

#define VALUE_CHARS VALIDATE_ALNUM ":-_. \t*()?+[]\\^$|/"
#define KEY_CHARS VALIDATE_ALNUM "-_."
enum { CONSTRAINT_BYTES_MAX = 1024 };

/* What a node can be asked for. */
static bool key_known(const char *key)
{
    static const char *const keys[] = { "node.id",   "node.hostname",    "node.ip",
                                        "node.role", "node.platform.os", "node.platform.arch" };
    static const char *const prefixes[] = { "node.labels.", "engine.labels." };

    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (strcasecmp(key, keys[i]) == 0)
            return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        size_t size = strlen(prefixes[i]);

        if (strncasecmp(key, prefixes[i], size) == 0 && key[size] != '\0')
            return true;
    }
    return false;
}

static bool key_valid(const char *key)
{
    return strlen(key) >= 2 && strchr(VALIDATE_LETTERS "_", key[0]) != NULL &&
           validate_chars(key, KEY_CHARS);
}

static bool is_cidr(const char *text)
{
    char address[64];
    const char *slash = strchr(text, '/');
    size_t size = slash != NULL ? (size_t)(slash - text) : strlen(text);

    if (size >= sizeof(address))
        return false;
    memcpy(address, text, size);
    address[size] = '\0';
    if (!validate_is_ip(address))
        return false;
    if (slash == NULL)
        return true;
    const char *bits = slash + 1;
    size_t digits = strspn(bits, VALIDATE_DIGITS);
    unsigned value = 0;

    if (digits == 0 || digits > 3 || bits[digits] != '\0')
        return false;
    for (size_t i = 0; i < digits; i++)
        value = value * 10 + (unsigned)(bits[i] - '0');
    return value <= (strchr(address, ':') != NULL ? 128u : 32u);
}

/* DEVIATION: SwarmKit takes unknown keys, a node.ip that is none and roles that do not exist, and
 * then never finds a node; here they are refused. */
static int check_constraint(const Skep__Constraint *c, struct err *e)
{
    if (strlen(c->key) + strlen(c->value) > CONSTRAINT_BYTES_MAX)
        return err_set(e, ERR_INVALID, "placement.constraints: longer than %d bytes",
                       CONSTRAINT_BYTES_MAX);
    if (!key_valid(c->key))
        return err_set(e, ERR_INVALID, "placement.constraints: key '%.64s' is invalid", c->key);
    if (!key_known(c->key))
        return err_set(e, ERR_INVALID,
                       "placement.constraints: unknown key '%.64s'; there are node.id, "
                       "node.hostname, node.ip, node.role, node.platform.os, node.platform.arch, "
                       "node.labels.NAME and engine.labels.NAME",
                       c->key);
    if (c->value[0] == '\0' || !validate_chars(c->value, VALUE_CHARS))
        return err_set(e, ERR_INVALID, "placement.constraints: value '%.64s' of %.64s is invalid",
                       c->value, c->key);
    if (strcasecmp(c->key, "node.role") == 0 && strcasecmp(c->value, "manager") != 0 &&
        strcasecmp(c->value, "worker") != 0)
        return err_set(e, ERR_INVALID,
                       "placement.constraints: node.role is manager or worker, not '%.64s'",
                       c->value);
    if (strcasecmp(c->key, "node.ip") == 0 && !is_cidr(c->value))
        return err_set(e, ERR_INVALID,
                       "placement.constraints: node.ip '%.64s' is no IP address or CIDR subnet",
                       c->value);
    return 0;
}

static int check_preference(const char *descriptor, struct err *e)
{
    if ((strncmp(descriptor, "node.labels.", 12) == 0 && descriptor[12] != '\0') ||
        (strncmp(descriptor, "engine.labels.", 14) == 0 && descriptor[14] != '\0'))
        return validate_line("placement.preferences", descriptor, VALIDATE_LABEL_KEY_BYTES_MAX, e);
    return err_set(e, ERR_INVALID,
                   "placement.preferences: spread '%.64s' must be node.labels.NAME or "
                   "engine.labels.NAME",
                   descriptor);
}

int validate_placement(const Skep__Placement *p, struct err *e)
{
    int rc = validate_count("placement.constraints", p->n_constraints, VALIDATE_CONSTRAINTS_MAX, e);

    for (size_t i = 0; rc == 0 && i < p->n_constraints; i++)
        rc = check_constraint(p->constraints[i], e);
    if (rc == 0)
        rc = validate_count("placement.preferences", p->n_preferences, VALIDATE_PREFERENCES_MAX, e);
    for (size_t i = 0; rc == 0 && i < p->n_preferences; i++)
        rc = check_preference(p->preferences[i]->descriptor, e);
    if (rc == 0)
        rc = validate_count("placement.platforms", p->n_platforms, VALIDATE_LIST_MAX, e);
    if (rc == 0 && p->max_replicas > VALIDATE_REPLICAS_MAX)
        rc = err_set(e, ERR_INVALID, "placement.max_replicas: %u is more than %d", p->max_replicas,
                     VALIDATE_REPLICAS_MAX);
    return rc;
}
