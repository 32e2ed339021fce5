#include "managerd/store/constraint.h"

#include <string.h>
#include <strings.h>

#include "common/constraint.h"

enum node_property node_property_parse(const char *key, const char **ret_label)
{
    static const struct {
        const char *key;
        enum node_property property;
    } names[] = {
        { "node.id", NODE_PROPERTY_ID },          { "node.hostname", NODE_PROPERTY_HOSTNAME },
        { "node.ip", NODE_PROPERTY_IP },          { "node.role", NODE_PROPERTY_ROLE },
        { "node.platform.os", NODE_PROPERTY_OS }, { "node.platform.arch", NODE_PROPERTY_ARCH },
    };

    *ret_label = "";
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcasecmp(key, names[i].key) == 0)
            return names[i].property;
    }
    if (!constraint_key_known(key))
        return NODE_PROPERTY_UNKNOWN;
    *ret_label = strchr(strchr(key, '.') + 1, '.') + 1; /* after the second dot */
    return strncasecmp(key, "node.", 5) == 0 ? NODE_PROPERTY_LABEL : NODE_PROPERTY_ENGINE_LABEL;
}

struct node_rule node_rule_compile(const Skep__Constraint *c)
{
    struct node_rule rule = { .not_equal = c->not_equal, .value = c->value };

    rule.property = node_property_parse(c->key, &rule.label);
    return rule;
}

/* x86_64 and amd64 are one thing, as are aarch64 and arm64. */
static const char *arch_name(const char *arch)
{
    if (strcasecmp(arch, "x86_64") == 0)
        return "amd64";
    return strcasecmp(arch, "aarch64") == 0 ? "arm64" : arch;
}

static const char *label_value(size_t count, Skep__KeyValue *const *labels, const char *key)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(labels[i]->key, key) == 0)
            return labels[i]->value;
    }
    return "";
}

const char *node_property_value(const Skep__Node *node, enum node_property property,
                                const char *label)
{
    const Skep__NodeDescription *d = node->description;
    const Skep__Annotations *a = node->spec != NULL ? node->spec->annotations : NULL;

    switch (property) {
    case NODE_PROPERTY_ID:
        return node->id;
    case NODE_PROPERTY_HOSTNAME:
        return d != NULL ? d->hostname : "";
    case NODE_PROPERTY_ROLE:
        return node->role == SKEP__NODE_ROLE__ROLE_MANAGER ? "manager" : "worker";
    case NODE_PROPERTY_OS:
        return d != NULL && d->platform != NULL ? d->platform->os : "";
    case NODE_PROPERTY_ARCH:
        return d != NULL && d->platform != NULL ? arch_name(d->platform->architecture) : "";
    case NODE_PROPERTY_LABEL:
        return a != NULL ? label_value(a->n_labels, a->labels, label) : "";
    case NODE_PROPERTY_ENGINE_LABEL:
        return d != NULL && d->engine != NULL
                   ? label_value(d->engine->n_labels, d->engine->labels, label)
                   : "";
    case NODE_PROPERTY_UNKNOWN:
    case NODE_PROPERTY_IP:
        break;
    }
    return "";
}

bool node_rule_match(const struct node_rule *rule, const Skep__Node *node)
{
    if (rule->property == NODE_PROPERTY_UNKNOWN)
        return false;
    if (rule->property == NODE_PROPERTY_IP) {
        const char *address = node->status != NULL ? node->status->address : "";
        bool match;

        return constraint_address_match(rule->value, address, &match) == 0 &&
               match != rule->not_equal;
    }
    const char *value = node_property_value(node, rule->property, rule->label);
    const char *want = rule->property == NODE_PROPERTY_ARCH ? arch_name(rule->value) : rule->value;
    return (strcasecmp(value, want) == 0) != rule->not_equal;
}

bool node_constraints_match(const Skep__Placement *placement, const Skep__Node *node)
{
    for (size_t i = 0; placement != NULL && i < placement->n_constraints; i++) {
        struct node_rule rule = node_rule_compile(placement->constraints[i]);

        if (!node_rule_match(&rule, node))
            return false;
    }
    return true;
}

bool node_platform_match(const Skep__Placement *placement, const Skep__Node *node)
{
    const char *os = node_property_value(node, NODE_PROPERTY_OS, "");
    const char *arch = node_property_value(node, NODE_PROPERTY_ARCH, "");

    if (placement == NULL || placement->n_platforms == 0)
        return true;
    for (size_t i = 0; i < placement->n_platforms; i++) {
        const Skep__Platform *p = placement->platforms[i];

        if ((p->os[0] == '\0' || strcasecmp(p->os, os) == 0) &&
            (p->architecture[0] == '\0' || strcasecmp(arch_name(p->architecture), arch) == 0))
            return true;
    }
    return false;
}
