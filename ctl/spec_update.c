/* service update: changes of a spec that the manager gave. Removals come before additions, as in
 * docker, except for environment variables, where --env-rm has the last word. */
#include <string.h>

#include "ctl/objects.h"
#include "ctl/spec.h"

/* ---- lists of texts ---- */

typedef int text_parser(struct arena *a, const char *text, const char **ret, struct err *e);

struct text_list {
    const char *add;
    const char *rm;
    text_parser *parse;
    size_t *count;
    char ***items;
    char until; /* two entries are the same when they are equal up to this character */
};

static bool same_until(const char *a, const char *b, char until)
{
    char stop[2] = { until, '\0' };
    size_t size = until != '\0' ? strcspn(a, stop) : strlen(a);

    return (until != '\0' ? strcspn(b, stop) : strlen(b)) == size && strncmp(a, b, size) == 0;
}

static int change_texts(struct ctl *c, const struct text_list *l, struct err *e)
{
    struct strings to = { 0 };

    for (size_t i = 0; i < *l->count; i++) {
        bool removed = false;

        for (size_t k = 0; k < flags_list_count(c->flags, l->rm); k++)
            removed |= same_until((*l->items)[i], flags_list_at(c->flags, l->rm, k), l->until);
        if (!removed)
            strings_add(&c->arena, &to, (*l->items)[i]);
    }
    for (size_t i = 0; i < flags_list_count(c->flags, l->add); i++) {
        const char *value = flags_list_at(c->flags, l->add, i);
        const char *text = value;
        size_t at = 0;

        if (l->parse != NULL && l->parse(&c->arena, value, &text, e) < 0)
            return spec_bad_value(c, l->add, value, e);
        while (at < to.count && !same_until(to.items[at], text, l->until))
            at++;
        if (at < to.count)
            to.items[at] = arena_strdup(&c->arena, text);
        else
            strings_add(&c->arena, &to, text);
    }
    *l->count = to.count;
    *l->items = to.items;
    return 0;
}

static int parse_dns(struct arena *a, const char *text, const char **ret, struct err *e)
{
    (void)a;
    *ret = text;
    return parse_is_ip(text) ? 0 : err_set(e, ERR_INVALID, "IP address is not correctly formatted");
}

static int change_lists(struct ctl *c, Skep__ContainerSpec *k, struct err *e)
{
    const struct text_list lists[] = {
        { "group-add", "group-rm", NULL, &k->n_groups, &k->groups, '\0' },
        { "dns-add", "dns-rm", parse_dns, &k->n_dns_nameservers, &k->dns_nameservers, '\0' },
        { "dns-search-add", "dns-search-rm", NULL, &k->n_dns_search, &k->dns_search, '\0' },
        { "dns-option-add", "dns-option-rm", NULL, &k->n_dns_options, &k->dns_options, '\0' },
        { "ulimit-add", "ulimit-rm", parse_ulimit, &k->n_ulimits, &k->ulimits, '=' },
    };

    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        int rc = change_texts(c, &lists[i], e);

        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Stored as "IP name"; typed as "name:IP", and for removal also as "name". */
static int change_hosts(struct ctl *c, Skep__ContainerSpec *k, struct err *e)
{
    struct strings to = { 0 };

    for (size_t i = 0; i < k->n_hosts; i++) {
        bool removed = false;

        for (size_t r = 0; r < flags_list_count(c->flags, "host-rm"); r++) {
            const char *typed = flags_list_at(c->flags, "host-rm", r);
            const char *stored = NULL;
            const char *name = strchr(k->hosts[i], ' ');

            if (parse_host(&c->arena, typed, &stored, NULL) == 0)
                removed |= strcmp(stored, k->hosts[i]) == 0;
            else
                removed |= name != NULL && strcmp(name + 1, typed) == 0;
        }
        if (!removed)
            strings_add(&c->arena, &to, k->hosts[i]);
    }
    for (size_t i = 0; i < flags_list_count(c->flags, "host-add"); i++) {
        const char *value = flags_list_at(c->flags, "host-add", i);
        const char *stored = NULL;

        if (parse_host(&c->arena, value, &stored, e) < 0)
            return spec_bad_value(c, "host-add", value, e);
        if (!strings_has(&to, stored))
            strings_add(&c->arena, &to, stored);
    }
    k->n_hosts = to.count;
    k->hosts = to.items;
    return 0;
}

static int change_env(struct ctl *c, Skep__ContainerSpec *k, struct err *e)
{
    struct strings env = { 0 };

    for (size_t i = 0; i < k->n_env; i++)
        strings_add(&c->arena, &env, k->env[i]);
    for (size_t i = 0; i < flags_list_count(c->flags, "env-add"); i++) {
        const char *value = flags_list_at(c->flags, "env-add", i);

        if (parse_env(&c->arena, value, getenv, &env, e) < 0)
            return spec_bad_value(c, "env-add", value, e);
    }
    for (size_t i = 0; i < flags_list_count(c->flags, "env-rm"); i++)
        env_remove(&env, flags_list_at(c->flags, "env-rm", i));
    k->n_env = env.count;
    k->env = env.items;
    return 0;
}

/* ---- labels ---- */

static int change_map(struct ctl *c, const char *flag, size_t *count, Skep__KeyValue ***list,
                      struct err *e)
{
    const char *add = arena_printf(&c->arena, "%s-add", flag);
    const char *rm = arena_printf(&c->arena, "%s-rm", flag);

    for (size_t i = 0; i < flags_list_count(c->flags, rm); i++)
        (void)kv_remove(count, *list, flags_list_at(c->flags, rm, i)); /* as docker: no error */
    for (size_t i = 0; i < flags_list_count(c->flags, add); i++) {
        const char *value = flags_list_at(c->flags, add, i);

        if (parse_label(&c->arena, value, count, list, e) < 0)
            return spec_bad_value(c, add, value, e);
    }
    return 0;
}

/* ---- capabilities ---- */

/* A capability that was dropped and is now added just leaves the other list, and the reverse; one
 * that is both added and dropped is added; RESET empties the list. */
static int change_capabilities(struct ctl *c, Skep__ContainerSpec *k, struct err *e)
{
    static const char *const flags[] = { "cap-drop", "cap-add" };
    struct strings lists[2] = { 0 };

    for (size_t i = 0; i < k->n_cap_drop; i++)
        strings_add(&c->arena, &lists[0], k->cap_drop[i]);
    for (size_t i = 0; i < k->n_cap_add; i++)
        strings_add(&c->arena, &lists[1], k->cap_add[i]);
    for (size_t which = 0; which < 2; which++) {
        for (size_t i = 0; i < flags_list_count(c->flags, flags[which]); i++) {
            const char *value = flags_list_at(c->flags, flags[which], i);
            const char *cap = NULL;

            if (parse_capability(&c->arena, value, &cap, e) < 0)
                return spec_bad_value(c, flags[which], value, e);
            if (strcmp(cap, "RESET") == 0)
                lists[which].count = 0;
            else if (strings_has(&lists[1 - which], cap))
                env_remove(&lists[1 - which], cap);
            else if (!strings_has(&lists[which], cap))
                strings_add(&c->arena, &lists[which], cap);
        }
    }
    k->n_cap_drop = lists[0].count;
    k->cap_drop = lists[0].items;
    k->n_cap_add = lists[1].count;
    k->cap_add = lists[1].items;
    return 0;
}

/* ---- placement and networks ---- */

static int change_constraints(struct ctl *c, Skep__Placement *p, struct err *e)
{
    size_t kept = 0;

    for (size_t i = 0; i < p->n_constraints; i++) {
        const char *text = constraint_text(&c->arena, p->constraints[i]);
        bool removed = false;

        for (size_t r = 0; r < flags_list_count(c->flags, "constraint-rm"); r++) {
            Skep__Constraint *typed = NULL;
            const char *value = flags_list_at(c->flags, "constraint-rm", r);

            if (parse_constraint(&c->arena, value, &typed, NULL) == 0)
                removed |= strcmp(constraint_text(&c->arena, typed), text) == 0;
        }
        if (!removed)
            p->constraints[kept++] = p->constraints[i];
    }
    p->n_constraints = kept;
    for (size_t i = 0; i < flags_list_count(c->flags, "constraint-add"); i++) {
        const char *value = flags_list_at(c->flags, "constraint-add", i);
        Skep__Constraint *typed = NULL;
        struct strings there = { 0 };

        if (parse_constraint(&c->arena, value, &typed, e) < 0)
            return spec_bad_value(c, "constraint-add", value, e);
        for (size_t k = 0; k < p->n_constraints; k++)
            strings_add(&c->arena, &there, constraint_text(&c->arena, p->constraints[k]));
        if (!strings_has(&there, constraint_text(&c->arena, typed)))
            LIST_ADD(&c->arena, p->n_constraints, p->constraints, typed);
    }
    return 0;
}

static int change_preferences(struct ctl *c, Skep__Placement *p, struct err *e)
{
    size_t kept = 0;

    for (size_t i = 0; i < p->n_preferences; i++) {
        bool removed = false;

        for (size_t r = 0; r < flags_list_count(c->flags, "placement-pref-rm"); r++) {
            const char *value = flags_list_at(c->flags, "placement-pref-rm", r);
            Skep__SpreadPreference *typed = NULL;

            if (parse_preference(&c->arena, value, &typed, e) < 0)
                return spec_bad_value(c, "placement-pref-rm", value, e);
            removed |= strcmp(typed->descriptor, p->preferences[i]->descriptor) == 0;
        }
        if (!removed)
            p->preferences[kept++] = p->preferences[i];
    }
    p->n_preferences = kept;
    for (size_t i = 0; i < flags_list_count(c->flags, "placement-pref-add"); i++) {
        const char *value = flags_list_at(c->flags, "placement-pref-add", i);
        Skep__SpreadPreference *typed = NULL;

        if (parse_preference(&c->arena, value, &typed, e) < 0)
            return spec_bad_value(c, "placement-pref-add", value, e);
        LIST_ADD(&c->arena, p->n_preferences, p->preferences, typed);
    }
    return 0;
}

/* A stored target is an id; what people remove is mostly a name. */
static const char *network_id(struct ctl *c, const char *typed)
{
    Skep__Object *o = NULL;

    if (c->client != NULL && object_get(c, SKEP__KIND__KIND_NETWORK, typed, &o, NULL) == 0 &&
        o->object_case == SKEP__OBJECT__OBJECT_NETWORK)
        return o->network->id;
    return typed;
}

static int change_networks(struct ctl *c, Skep__TaskSpec *t, struct err *e)
{
    size_t kept = 0;

    for (size_t i = 0; i < t->n_networks; i++) {
        bool removed = false;

        for (size_t r = 0; r < flags_list_count(c->flags, "network-rm"); r++) {
            const char *typed = flags_list_at(c->flags, "network-rm", r);

            removed |= strcmp(t->networks[i]->target, typed) == 0 ||
                       strcmp(t->networks[i]->target, network_id(c, typed)) == 0;
        }
        if (!removed)
            t->networks[kept++] = t->networks[i];
    }
    t->n_networks = kept;
    for (size_t i = 0; i < flags_list_count(c->flags, "network-add"); i++) {
        const char *value = flags_list_at(c->flags, "network-add", i);
        Skep__NetworkAttachmentConfig *n = NULL;

        if (parse_network(&c->arena, value, &n, e) < 0)
            return spec_bad_value(c, "network-add", value, e);
        n->target = arena_strdup(&c->arena, network_id(c, n->target));
        for (size_t k = 0; k < t->n_networks; k++) {
            if (strcmp(t->networks[k]->target, n->target) == 0)
                return err_set(e, ERR_INVALID, "service is already attached to network %.80s",
                               n->target);
        }
        LIST_ADD(&c->arena, t->n_networks, t->networks, n);
    }
    return 0;
}

/* ---- mounts, files, ports ---- */

static int change_mounts(struct ctl *c, Skep__ContainerSpec *k, struct err *e)
{
    size_t kept = 0;

    for (size_t i = 0; i < k->n_mounts; i++) {
        bool removed = false;

        for (size_t r = 0; r < flags_list_count(c->flags, "mount-rm"); r++)
            removed |= strcmp(k->mounts[i]->target, flags_list_at(c->flags, "mount-rm", r)) == 0;
        if (!removed)
            k->mounts[kept++] = k->mounts[i];
    }
    k->n_mounts = kept;
    return spec_add_mounts(c, "mount-add", k, e);
}

static int change_files(struct ctl *c, Skep__ContainerSpec *k, struct err *e)
{
    size_t kept = 0;
    int rc;

    for (size_t i = 0; i < k->n_secrets; i++) {
        bool removed = false;

        for (size_t r = 0; r < flags_list_count(c->flags, "secret-rm"); r++)
            removed |=
                strcmp(k->secrets[i]->secret_name, flags_list_at(c->flags, "secret-rm", r)) == 0;
        if (!removed)
            k->secrets[kept++] = k->secrets[i];
    }
    k->n_secrets = kept;
    kept = 0;
    for (size_t i = 0; i < k->n_configs; i++) {
        bool removed = false;

        for (size_t r = 0; r < flags_list_count(c->flags, "config-rm"); r++)
            removed |=
                strcmp(k->configs[i]->config_name, flags_list_at(c->flags, "config-rm", r)) == 0;
        if (!removed)
            k->configs[kept++] = k->configs[i];
    }
    k->n_configs = kept;
    rc = spec_add_secrets(c, "secret-add", k, e);
    return rc < 0 ? rc : spec_add_configs(c, "config-add", k, e);
}

/* By target port and protocol; a publish mode only counts when it was typed. */
static int change_ports(struct ctl *c, Skep__EndpointSpec *ep, struct err *e)
{
    for (size_t r = 0; r < flags_list_count(c->flags, "publish-rm"); r++) {
        const char *value = flags_list_at(c->flags, "publish-rm", r);
        bool any_mode = strstr(value, "mode=") == NULL;
        struct ports typed = { 0 };
        size_t kept = 0;

        if (parse_ports(&c->arena, value, &typed, e) < 0)
            return spec_bad_value(c, "publish-rm", value, e);
        for (size_t i = 0; i < ep->n_ports; i++) {
            bool removed = false;

            for (size_t k = 0; k < typed.count; k++)
                removed |= typed.items[k]->target_port == ep->ports[i]->target_port &&
                           typed.items[k]->protocol == ep->ports[i]->protocol &&
                           (any_mode || typed.items[k]->publish_mode == ep->ports[i]->publish_mode);
            if (!removed)
                ep->ports[kept++] = ep->ports[i];
        }
        ep->n_ports = kept;
    }
    return spec_add_ports(c, "publish-add", ep, e);
}

/* ---- the whole ---- */

static void change_mode(struct ctl *c, Skep__ServiceSpec *s)
{
    if (flags_given(c->flags, "replicas") && s->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED)
        s->replicated->replicas = flags_u64(c->flags, "replicas");
    if (s->mode_case != SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB)
        return;
    if (flags_given(c->flags, "replicas"))
        s->replicated_job->total_completions = flags_u64(c->flags, "replicas");
    if (flags_given(c->flags, "max-concurrent"))
        s->replicated_job->max_concurrent = flags_u64(c->flags, "max-concurrent");
}

static int change_image(struct ctl *c, Skep__TaskSpec *t, struct err *e)
{
    struct strings words = { 0 };
    const char *image;

    if (flags_given(c->flags, "image")) {
        int rc = parse_image(&c->arena, flags_string(c->flags, "image"), &image, e);

        if (rc < 0)
            return rc;
        t->container->image = arena_strdup(&c->arena, image);
    }
    if (flags_given(c->flags, "args")) {
        if (parse_words(&c->arena, flags_string(c->flags, "args"), &words, e) < 0)
            return spec_bad_value(c, "args", flags_string(c->flags, "args"), e);
        t->container->n_args = words.count;
        t->container->args = words.items;
    }
    if (flags_bool(c->flags, "force"))
        t->force_update++;
    return 0;
}

int spec_update(struct ctl *c, Skep__ServiceSpec *s, struct err *e)
{
    Skep__ContainerSpec *k;
    int rc;

    spec_fill(&c->arena, s);
    k = s->task->container;
    change_mode(c, s);
    rc = change_image(c, s->task, e);
    if (rc == 0)
        rc = change_map(c, "label", &s->annotations->n_labels, &s->annotations->labels, e);
    if (rc == 0)
        rc = change_map(c, "container-label", &k->n_labels, &k->labels, e);
    if (rc == 0)
        rc = change_map(c, "sysctl", &k->n_sysctls, &k->sysctls, e);
    if (rc == 0)
        rc = change_env(c, k, e);
    if (rc == 0)
        rc = change_lists(c, k, e);
    if (rc == 0)
        rc = change_hosts(c, k, e);
    if (rc == 0)
        rc = change_capabilities(c, k, e);
    if (rc == 0)
        rc = change_constraints(c, s->task->placement, e);
    if (rc == 0)
        rc = change_preferences(c, s->task->placement, e);
    if (rc == 0)
        rc = change_networks(c, s->task, e);
    if (rc == 0)
        rc = change_mounts(c, k, e);
    if (rc == 0)
        rc = change_files(c, k, e);
    if (rc == 0)
        rc = change_ports(c, s->endpoint, e);
    if (rc == 0)
        rc = spec_apply(c, s, e);
    return rc < 0 ? rc : spec_check(c, s, e);
}
