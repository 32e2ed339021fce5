/* network create, rm, prune, check. */
#include <string.h>

#include "common/ip.h"
#include "common/text.h"
#include "ctl/json.h"
#include "ctl/objects.h"
#include "ctl/output.h"
#include "ctl/parse.h"

enum { CHECK_WAIT_MS = 10 * 1000, CHECK_GRACE_MS = 5000 };

/* ---- create ---- */

/* The subnet that an address lies in; NULL when none of them has it. */
static Skep__IpamConfig *subnet_of(const Skep__NetworkSpec *s, const struct ip *ip)
{
    for (size_t i = 0; i < s->n_ipam; i++) {
        struct ip_net net;

        if (ip_net_parse(s->ipam[i]->subnet, &net, NULL) == 0 && ip_net_has(&net, ip))
            return s->ipam[i];
    }
    return NULL;
}

static int add_subnets(struct ctl *c, Skep__NetworkSpec *s, struct err *e)
{
    for (size_t i = 0; i < flags_list_count(c->flags, "subnet"); i++) {
        const char *text = flags_list_at(c->flags, "subnet", i);
        Skep__IpamConfig *config = ARENA_NEW(&c->arena, Skep__IpamConfig);
        struct ip_net net;

        if (ip_net_parse(text, &net, NULL) < 0)
            return err_set(e, ERR_INVALID, "invalid subnet %.80s: not a CIDR such as 10.1.0.0/16",
                           text);
        skep__ipam_config__init(config);
        config->subnet = arena_strdup(&c->arena, text);
        LIST_ADD(&c->arena, s->n_ipam, s->ipam, config);
    }
    return 0;
}

static int no_subnet(const char *what, const char *text, struct err *e)
{
    return err_set(e, ERR_INVALID, "no matching subnet for %s %.80s: give one with --subnet", what,
                   text);
}

static int add_ranges(struct ctl *c, Skep__NetworkSpec *s, struct err *e)
{
    for (size_t i = 0; i < flags_list_count(c->flags, "ip-range"); i++) {
        const char *text = flags_list_at(c->flags, "ip-range", i);
        Skep__IpamConfig *config;
        struct ip_net net;

        if (ip_net_parse(text, &net, NULL) < 0)
            return err_set(e, ERR_INVALID, "invalid ip-range %.80s: not a CIDR", text);
        config = subnet_of(s, &net.address);
        if (config == NULL)
            return no_subnet("range", text, e);
        if (config->range[0] != '\0')
            return err_set(e, ERR_INVALID, "multiple ranges for subnet %.80s", config->subnet);
        config->range = arena_strdup(&c->arena, text);
    }
    return 0;
}

static int add_gateways(struct ctl *c, Skep__NetworkSpec *s, struct err *e)
{
    for (size_t i = 0; i < flags_list_count(c->flags, "gateway"); i++) {
        const char *text = flags_list_at(c->flags, "gateway", i);
        Skep__IpamConfig *config;
        struct ip ip;

        if (ip_parse(text, &ip, NULL) < 0)
            return err_set(e, ERR_INVALID, "invalid gateway %.80s: not an address", text);
        config = subnet_of(s, &ip);
        if (config == NULL)
            return no_subnet("gateway", text, e);
        if (config->gateway[0] != '\0')
            return err_set(e, ERR_INVALID, "multiple gateways for subnet %.80s", config->subnet);
        config->gateway = arena_strdup(&c->arena, text);
    }
    return 0;
}

static int add_reserved(struct ctl *c, Skep__NetworkSpec *s, struct err *e)
{
    for (size_t i = 0; i < flags_list_count(c->flags, "aux-address"); i++) {
        const char *text = flags_list_at(c->flags, "aux-address", i);
        const char *equals = strchr(text, '=');
        Skep__IpamConfig *config;
        struct ip ip;

        if (equals == NULL || equals == text || ip_parse(equals + 1, &ip, NULL) < 0)
            return err_set(e, ERR_INVALID, "invalid aux-address %.80s: not NAME=ADDRESS", text);
        config = subnet_of(s, &ip);
        if (config == NULL)
            return no_subnet("aux-address", text, e);
        kv_set(&c->arena, &config->n_reserved, &config->reserved,
               arena_printf(&c->arena, "%.*s", (int)(equals - text), text), equals + 1);
    }
    return 0;
}

static int add_pairs(struct ctl *c, const char *flag, size_t *count, Skep__KeyValue ***list,
                     struct err *e)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < flags_list_count(c->flags, flag); i++)
        rc = parse_label(&c->arena, flags_list_at(c->flags, flag, i), count, list, e);
    return rc;
}

static int spec_from_flags(struct ctl *c, Skep__NetworkSpec *s, struct err *e)
{
    int rc;

    skep__network_spec__init(s);
    s->annotations = ARENA_NEW(&c->arena, Skep__Annotations);
    skep__annotations__init(s->annotations);
    s->annotations->name = arena_strdup(&c->arena, flags_arg(c->flags, 0));
    s->driver = ARENA_NEW(&c->arena, Skep__Driver);
    skep__driver__init(s->driver);
    s->driver->name = arena_strdup(&c->arena, flags_string(c->flags, "driver"));
    s->ipv6 = flags_bool(c->flags, "ipv6");
    s->internal = flags_bool(c->flags, "internal");
    s->attachable = flags_bool(c->flags, "attachable");
    s->ingress = flags_bool(c->flags, "ingress");
    s->scope = arena_strdup(&c->arena, flags_string(c->flags, "scope"));
    s->config_only = flags_bool(c->flags, "config-only");
    s->config_from = arena_strdup(&c->arena, flags_string(c->flags, "config-from"));
    if (strcmp(flags_string(c->flags, "ipam-driver"), "default") != 0)
        return err_set(e, ERR_INVALID, "IPAM driver \"%.40s\" is not known; use default",
                       flags_string(c->flags, "ipam-driver"));
    rc = add_pairs(c, "label", &s->annotations->n_labels, &s->annotations->labels, e);
    if (rc == 0)
        rc = add_pairs(c, "opt", &s->driver->n_options, &s->driver->options, e);
    if (rc == 0)
        rc = add_subnets(c, s, e);
    if (rc == 0)
        rc = add_ranges(c, s, e);
    if (rc == 0)
        rc = add_gateways(c, s, e);
    return rc == 0 ? add_reserved(c, s, e) : rc;
}

int network_create(struct ctl *c)
{
    Skep__NetworkCreateRequest body = SKEP__NETWORK_CREATE_REQUEST__INIT;
    struct client_request r = {
        .method = SKEP__METHOD__METHOD_NETWORK_CREATE,
        .body = &body.base,
        .answer = &skep__network_create_response__descriptor,
        .mutation = true,
    };
    Skep__NetworkSpec spec;
    ProtobufCMessage *m = NULL;
    struct err e = { 0 };
    int rc = spec_from_flags(c, &spec, &e);

    if (rc < 0)
        return ctl_error(c, rc, &e);
    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    body.spec = &spec;
    rc = ctl_call(c, &r, &m, &e);
    if (rc < 0)
        return ctl_error(c, rc, &e);
    const Skep__Network *n = ((Skep__NetworkCreateResponse *)m)->network;

    (void)fprintf(c->out, "%s\n", n != NULL ? n->id : spec.annotations->name);
    return 0;
}

/* ---- rm, prune ---- */

static int network_remove(struct ctl *c, const char *ref, struct err *e)
{
    Skep__NetworkRemoveRequest body = SKEP__NETWORK_REMOVE_REQUEST__INIT;
    struct client_request r = {
        .method = SKEP__METHOD__METHOD_NETWORK_REMOVE,
        .body = &body.base,
        .mutation = true,
    };

    body.ref = arena_strdup(&c->arena, ref);
    return ctl_call(c, &r, NULL, e);
}

/* What a person answers to a warning; everything but yes is no. */
static bool confirmed(struct ctl *c, const char *warning)
{
    char answer[16];

    (void)fprintf(c->out, "%s [y/N] ", warning);
    (void)fflush(c->out);
    return fgets(answer, sizeof(answer), stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y');
}

static int remove_one(struct ctl *c, const char *ref, void *ctx, struct err *e)
{
    bool force = flags_bool(c->flags, "force");
    Skep__Network *n = NULL;
    int rc = network_get(c, ref, &n, e);

    (void)ctx; /* has none */
    if (rc == 0 && n->spec->ingress && !force &&
        !confirmed(c, "WARNING! Before removing the routing-mesh network, make sure that no "
                      "service publishes ports through it. Otherwise, removal is refused.\n"
                      "Are you sure you want to continue?"))
        return 0;
    if (rc == 0)
        rc = network_remove(c, n->id, e);
    if (rc == 0)
        (void)fprintf(c->out, "%s\n", ref);
    return force && rc == -ERR_NOT_FOUND ? 0 : rc;
}

int network_rm(struct ctl *c)
{
    return ctl_each(c, remove_one, NULL);
}

/* Networks that somebody made and nothing uses. */
static bool is_unused(const Skep__Network *n, const struct objects *services)
{
    if (n->spec->ingress || network_is_predefined(n))
        return false;
    for (size_t i = 0; i < services->count; i++) {
        const Skep__TaskSpec *t = services->items[i]->service->spec->task;

        for (size_t k = 0; t != NULL && k < t->n_networks; k++)
            if (strcmp(t->networks[k]->target, n->id) == 0)
                return false;
    }
    return true;
}

static int prune_filter(struct ctl *c, Skep__ObjectFilter *f, struct err *e)
{
    static const char *const keys[] = { "label", NULL };
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < flags_list_count(c->flags, "filter"); i++) {
        const char *key, *value;

        rc = filter_parse(&c->arena, flags_list_at(c->flags, "filter", i), keys, &key, &value, e);
        if (rc == 0)
            rc = parse_label(&c->arena, value, &f->n_labels, &f->labels, e);
    }
    return rc;
}

int network_prune(struct ctl *c)
{
    Skep__ObjectFilter f = SKEP__OBJECT_FILTER__INIT;
    struct objects networks, services;
    struct err e = { 0 };
    int status = 0, deleted = 0;
    int rc = prune_filter(c, &f, &e);

    if (rc < 0)
        return ctl_error(c, rc, &e);
    if (!flags_bool(c->flags, "force") &&
        !confirmed(c, "WARNING! This will remove all custom networks not used by at least one "
                      "service.\nAre you sure you want to continue?"))
        return 0;
    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    rc = object_list(c, SKEP__KIND__KIND_NETWORK, &f, &networks, &e);
    if (rc == 0)
        rc = object_list(c, SKEP__KIND__KIND_SERVICE, NULL, &services, &e);
    if (rc < 0)
        return ctl_error(c, rc, &e);
    for (size_t i = 0; i < networks.count; i++) {
        const Skep__Network *n = networks.items[i]->network;

        if (n->spec == NULL || !is_unused(n, &services))
            continue;
        rc = network_remove(c, n->id, &e);
        if (rc == -ERR_NOT_FOUND)
            continue;
        if (rc < 0) {
            status = ctl_error(c, rc, &e);
            continue;
        }
        (void)fprintf(c->out, "%s%s\n", deleted++ == 0 ? "Deleted Networks:\n" : "",
                      n->spec->annotations->name);
    }
    if (deleted > 0)
        (void)fputc('\n', c->out);
    return status;
}

/* ---- check ---- */

static const char *network_name_of(const struct objects *networks, const char *id)
{
    for (size_t i = 0; i < networks->count; i++) {
        const Skep__Network *n = networks->items[i]->network;

        if (strcmp(n->id, id) == 0 && n->spec != NULL)
            return n->spec->annotations->name;
    }
    return id[0] == '\0' ? "(host)" : id;
}

static const char *hostname_of(const Skep__NetworkCheckResponse *answer, const char *node_id)
{
    for (size_t i = 0; i < answer->n_nodes; i++)
        if (strcmp(answer->nodes[i]->node_id, node_id) == 0)
            return answer->nodes[i]->hostname;
    return node_id;
}

/* Differences as a table; what could not be learnt on stderr. Returns the exit status: 0 when all
 * nodes answered and nothing differs. */
static int check_print(struct ctl *c, const Skep__NetworkCheckResponse *answer,
                       const struct objects *networks)
{
    struct strings lines = { 0 };
    int status = answer->n_differences > 0 ? CMD_EXIT_FAILED : 0;
    uint64_t counted = 0;

    strings_add(&c->arena, &lines, "NODE\tNETWORK\tWHAT\tOBJECT\tPROBLEM");
    for (size_t i = 0; i < answer->n_differences; i++) {
        const Skep__NetworkDifference *d = answer->differences[i];

        strings_add(&c->arena, &lines,
                    arena_printf(&c->arena, "%s\t%s\t%s\t%s\t%s", hostname_of(answer, d->node_id),
                                 network_name_of(networks, d->network_id), d->what, d->object,
                                 d->problem));
    }
    if (answer->n_differences > 0)
        output_table(c->out, (const char *const *)lines.items, lines.count);
    for (size_t i = 0; i < answer->n_nodes; i++) {
        const Skep__NetworkCheckNode *n = answer->nodes[i];

        counted += n->difference_count;
        if (n->error[0] != '\0')
            status =
                ctl_fail(c, "%s: %s", n->hostname[0] != '\0' ? n->hostname : n->node_id, n->error);
    }
    if (counted > answer->n_differences)
        (void)fprintf(c->out, "… and %llu more\n",
                      (unsigned long long)(counted - answer->n_differences));
    if (status == 0)
        (void)fprintf(c->out, "%zu node%s checked: no differences\n", answer->n_nodes,
                      answer->n_nodes == 1 ? "" : "s");
    return status;
}

int network_check(struct ctl *c)
{
    Skep__NetworkCheckRequest body = SKEP__NETWORK_CHECK_REQUEST__INIT;
    struct client_request r = {
        .method = SKEP__METHOD__METHOD_NETWORK_CHECK,
        .body = &body.base,
        .answer = &skep__network_check_response__descriptor,
        .wait_ms = CHECK_WAIT_MS,
        .grace_ms = CHECK_GRACE_MS,
    };
    struct objects networks;
    ProtobufCMessage *m = NULL;
    struct err e = { 0 };
    int rc;

    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    body.wait_ms = CHECK_WAIT_MS;
    if (flags_arg_count(c->flags) > 0)
        body.ref = arena_strdup(&c->arena, flags_arg(c->flags, 0));
    rc = ctl_call(c, &r, &m, &e);
    if (rc == 0)
        rc = object_list(c, SKEP__KIND__KIND_NETWORK, NULL, &networks, &e);
    if (rc < 0)
        return ctl_error(c, rc, &e);
    return check_print(c, (const Skep__NetworkCheckResponse *)m, &networks);
}
