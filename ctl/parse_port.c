/* --publish: docker's short syntax "8080:80/udp" and long syntax "published=8080,target=80". */
#include <string.h>

#include "common/text.h"
#include "ctl/parse.h"

struct range {
    uint32_t first;
    uint32_t last;
};

/* "80" or "80-90", 1 to 65535, forwards. what names it in errors. */
static int parse_range(struct arena *a, const char *text, const char *what, struct range *ret,
                       struct err *e)
{
    const char *dash = strchr(text, '-');
    char *first = arena_strdup(a, text);
    uint64_t low;
    uint64_t high;

    if (dash != NULL)
        first[dash - text] = '\0';
    if (text_parse_u64(first, &low, NULL) < 0 ||
        text_parse_u64(dash != NULL ? dash + 1 : first, &high, NULL) < 0)
        return err_set(e, ERR_INVALID, "invalid %s: %.40s", what, text);
    if (low < 1 || high > 65535 || low > high)
        return err_set(e, ERR_INVALID, "invalid %s: %.40s is not within 1 to 65535", what, text);
    *ret = (struct range){ (uint32_t)low, (uint32_t)high };
    return 0;
}

static int parse_protocol(const char *text, Skep__Protocol *ret, struct err *e)
{
    if (strcmp(text, "tcp") == 0)
        *ret = SKEP__PROTOCOL__PROTOCOL_TCP;
    else if (strcmp(text, "udp") == 0)
        *ret = SKEP__PROTOCOL__PROTOCOL_UDP;
    else if (strcmp(text, "sctp") == 0)
        *ret = SKEP__PROTOCOL__PROTOCOL_SCTP;
    else
        return err_set(e, ERR_INVALID, "invalid proto: %.40s; use tcp, udp or sctp", text);
    return 0;
}

static Skep__PortConfig *port_new(struct arena *a)
{
    Skep__PortConfig *p = ARENA_NEW(a, Skep__PortConfig);

    skep__port_config__init(p);
    return p;
}

/* ---- short ---- */

/* Cuts text at its last ':' outside brackets; what is before it, or NULL. */
static char *cut_last(char *text, char **ret_after)
{
    char *colon = strrchr(text, ':');

    if (colon == NULL || strchr(colon, ']') != NULL) {
        *ret_after = text;
        return NULL;
    }
    *colon = '\0';
    *ret_after = colon + 1;
    return text;
}

struct short_form {
    const char *host_ip;   /* "" = all addresses */
    const char *published; /* "" = chosen by the manager */
    const char *target;
    Skep__Protocol protocol;
};

static int split_short(struct arena *a, const char *text, struct short_form *f, struct err *e)
{
    char *copy = arena_strdup(a, text);
    char *slash = strrchr(copy, '/');
    char *after;
    char *rest;

    f->host_ip = "";
    f->published = "";
    if (slash != NULL) {
        int rc = parse_protocol(slash + 1, &f->protocol, e);

        if (rc < 0)
            return rc;
        *slash = '\0';
    }
    rest = cut_last(copy, &after);
    f->target = after;
    if (rest == NULL)
        return 0;
    rest = cut_last(rest, &after);
    f->published = after;
    if (rest == NULL)
        return 0;
    if (rest[0] == '[' && rest[strlen(rest) - 1] == ']') {
        rest[strlen(rest) - 1] = '\0';
        rest++;
    }
    f->host_ip = rest;
    if (!parse_is_ip(rest))
        return err_set(e, ERR_INVALID, "invalid IP address: %.60s", rest);
    return 0;
}

static int parse_short(struct arena *a, const char *text, struct ports *ret, struct err *e)
{
    struct short_form f = { .protocol = SKEP__PROTOCOL__PROTOCOL_TCP };
    struct range target = { 0 };
    struct range published = { 0 };
    int rc = split_short(a, text, &f, e);

    if (rc == 0)
        rc = parse_range(a, f.target, "containerPort", &target, e);
    if (rc == 0 && f.published[0] != '\0')
        rc = parse_range(a, f.published, "hostPort", &published, e);
    if (rc < 0)
        return rc;
    if (f.published[0] != '\0' && published.last - published.first != target.last - target.first)
        return err_set(e, ERR_INVALID,
                       "invalid ranges specified for container and host Ports: %.40s and %.40s",
                       f.target, f.published);
    if (target.last - target.first >= PARSE_PORTS_MAX)
        return err_set(e, ERR_INVALID, "a range of more than %d ports: %.40s", PARSE_PORTS_MAX,
                       text);
    for (uint32_t i = 0; i <= target.last - target.first; i++) {
        Skep__PortConfig *p = port_new(a);

        p->protocol = f.protocol;
        p->target_port = target.first + i;
        p->published_port = f.published[0] != '\0' ? published.first + i : 0;
        p->host_ip = arena_strdup(a, f.host_ip);
        LIST_ADD(a, ret->count, ret->items, p);
    }
    return 0;
}

/* ---- long ---- */

static int long_port(const char *value, const char *what, uint32_t *ret, struct err *e)
{
    uint64_t port;

    if (text_parse_u64(value, &port, NULL) < 0 || port > 65535)
        return err_set(e, ERR_INVALID, "invalid %s: %.40s is not within 1 to 65535", what, value);
    *ret = (uint32_t)port;
    return 0;
}

static int long_mode(const char *value, Skep__PortConfig *p, struct err *e)
{
    if (strcmp(value, "ingress") != 0 && strcmp(value, "host") != 0)
        return err_set(e, ERR_INVALID, "invalid publish mode value \"%.40s\"; use ingress or host",
                       value);
    p->publish_mode =
        value[0] == 'h' ? SKEP__PUBLISH_MODE__PUBLISH_HOST : SKEP__PUBLISH_MODE__PUBLISH_INGRESS;
    return 0;
}

static int long_source(const char *value, Skep__PortConfig *p, struct err *e)
{
    if (strcmp(value, "snat") == 0)
        p->source = SKEP__SOURCE_POLICY__SOURCE_SNAT;
    else if (strcmp(value, "preserve") == 0)
        p->source = SKEP__SOURCE_POLICY__SOURCE_PRESERVE;
    else if (strcmp(value, "local") == 0)
        p->source = SKEP__SOURCE_POLICY__SOURCE_LOCAL;
    else
        return err_set(e, ERR_INVALID,
                       "invalid source value \"%.40s\"; use snat, preserve or local", value);
    return 0;
}

static int long_field(struct arena *a, char *field, Skep__PortConfig *p, struct err *e)
{
    char *value = strchr(field, '=');

    if (value == NULL || value == field)
        return err_set(e, ERR_INVALID, "invalid field: %.60s must be a key=value pair", field);
    *value++ = '\0';
    if (strcmp(field, "target") == 0)
        return long_port(value, "target port", &p->target_port, e);
    if (strcmp(field, "published") == 0)
        return long_port(value, "published port", &p->published_port, e);
    if (strcmp(field, "protocol") == 0)
        return parse_protocol(value, &p->protocol, e);
    if (strcmp(field, "mode") == 0)
        return long_mode(value, p, e);
    if (strcmp(field, "name") == 0) {
        p->name = arena_strdup(a, value);
        return 0;
    }
    if (strcmp(field, "source") == 0)
        return long_source(value, p, e);
    if (strcmp(field, "host_ip") == 0) {
        if (!parse_is_ip(value))
            return err_set(e, ERR_INVALID, "invalid IP address: %.60s", value);
        p->host_ip = arena_strdup(a, value);
        return 0;
    }
    return err_set(
        e, ERR_INVALID,
        "invalid field key %.60s; use target, published, protocol, mode, source, host_ip or name",
        field);
}

static int parse_long(struct arena *a, const char *text, struct ports *ret, struct err *e)
{
    Skep__PortConfig *p = port_new(a);
    struct strings fields = { 0 };
    int rc = parse_csv(a, text, &fields, e);

    for (size_t i = 0; i < fields.count && rc == 0; i++)
        rc = long_field(a, fields.items[i], p, e);
    if (rc == 0 && p->target_port == 0)
        rc = err_set(e, ERR_INVALID, "missing mandatory field \"target\"");
    if (rc == 0)
        LIST_ADD(a, ret->count, ret->items, p);
    return rc;
}

int parse_ports(struct arena *a, const char *text, struct ports *ret, struct err *e)
{
    return strchr(text, '=') != NULL ? parse_long(a, text, ret, e) : parse_short(a, text, ret, e);
}
