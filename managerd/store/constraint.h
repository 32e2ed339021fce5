/* Placement constraints and platforms against nodes: for the scheduler, the global orchestrators
 * and the constraint enforcer, which meet only in the store. A rule is compiled once and matched
 * against many nodes. Rules: swarmkit manager/constraint.
 * DEVIATION: architecture names are normalised here as in the platform filter (x86_64 is amd64). */
#ifndef SKEP_MANAGERD_STORE_CONSTRAINT_H
#define SKEP_MANAGERD_STORE_CONSTRAINT_H

#include <stdbool.h>

#include "proto/objects.pb-c.h"

enum node_property {
    NODE_PROPERTY_UNKNOWN, /* never matches */
    NODE_PROPERTY_ID,
    NODE_PROPERTY_HOSTNAME,
    NODE_PROPERTY_IP,
    NODE_PROPERTY_ROLE,
    NODE_PROPERTY_OS,
    NODE_PROPERTY_ARCH,
    NODE_PROPERTY_LABEL,
    NODE_PROPERTY_ENGINE_LABEL,
};

/* Borrows its strings from what it was made of. */
struct node_rule {
    enum node_property property;
    bool not_equal;
    const char *label; /* LABEL and ENGINE_LABEL: the key after the prefix */
    const char *value;
};

struct node_rule node_rule_compile(const Skep__Constraint *c);
/* The property that a spread preference names; label as above. */
enum node_property node_property_parse(const char *key, const char **ret_label);
/* The node's value of a property; "" when it has none. Not for NODE_PROPERTY_IP. */
const char *node_property_value(const Skep__Node *node, enum node_property property,
                                const char *label);
bool node_rule_match(const struct node_rule *rule, const Skep__Node *node);

/* All constraints of a placement; NULL has none. */
bool node_constraints_match(const Skep__Placement *placement, const Skep__Node *node);
/* Any of its platforms; empty names and an empty list fit every node. */
bool node_platform_match(const Skep__Placement *placement, const Skep__Node *node);

#endif
