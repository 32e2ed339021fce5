/* network create and rm: what a network has to do with the rest of the cluster. Subnets, VNIs and
 * addresses are the allocator's; what it could only refuse later is refused here, with a sentence.
 * features.md 3.11. */
#include <string.h>

#include "common/ip.h"
#include "common/text.h"
#include "managerd/control/control.h"
#include "managerd/control/validate.h"

#define PREDEFINED_LABEL "com.docker.swarm.predefined"
#define VNI_OPTION "com.docker.network.driver.overlay.vxlanid_list"

static const Skep__Network *next_network(const struct store *s, const Skep__Network *n)
{
    return (const Skep__Network *)(n == NULL ? store_first(s, SKEP__KIND__KIND_NETWORK)
                                             : store_after(s, SKEP__KIND__KIND_NETWORK, n->id));
}

static bool is_overlay(const Skep__NetworkSpec *spec)
{
    return spec->driver != NULL && strcmp(spec->driver->name, "overlay") == 0 && !spec->config_only;
}

static bool is_predefined(const Skep__Network *n)
{
    for (size_t i = 0; i < n->spec->annotations->n_labels; i++) {
        if (strcmp(n->spec->annotations->labels[i]->key, PREDEFINED_LABEL) == 0)
            return true;
    }
    return false;
}

/* ---- create ---- */

static int check_name(const struct store *s, const Skep__NetworkSpec *spec, struct err *e)
{
    const char *name = spec->annotations->name;
    const ProtobufCMessage *found = store_find_name(s, SKEP__KIND__KIND_NETWORK, name);

    for (size_t i = 0; i < spec->annotations->n_labels; i++) {
        if (strcmp(spec->annotations->labels[i]->key, PREDEFINED_LABEL) == 0)
            return err_set(e, ERR_INVALID,
                           "annotations.labels: %s is for the cluster's own networks",
                           PREDEFINED_LABEL);
    }
    if (found != NULL && is_predefined((const Skep__Network *)found))
        return err_set(e, ERR_EXISTS, "operation is not permitted on predefined %s network", name);
    if (found != NULL)
        return err_set(e, ERR_EXISTS,
                       "name conflicts with an existing object: network %s already exists", name);
    return 0;
}

static int check_ingress(const struct store *s, const Skep__NetworkSpec *spec, struct err *e)
{
    for (const Skep__Network *n = next_network(s, NULL); spec->ingress && n != NULL;
         n = next_network(s, n)) {
        if (n->spec->ingress)
            return err_set(e, ERR_EXISTS, "ingress network (%s) is already present",
                           object_name(&n->base));
    }
    return 0;
}

static int check_config_from(const struct store *s, Skep__NetworkSpec *spec, struct err *e)
{
    const ProtobufCMessage *found = NULL;

    if (spec->config_from[0] == '\0')
        return 0;
    if (store_resolve(s, SKEP__KIND__KIND_NETWORK, spec->config_from, &found, e) < 0)
        return err_set(e, ERR_INVALID, "config_from: network %.64s not found", spec->config_from);
    if (!((const Skep__Network *)found)->spec->config_only)
        return err_set(e, ERR_INVALID, "config_from: %.64s is not a configuration network",
                       spec->config_from);
    spec->config_from = (char *)object_name(found);
    return 0;
}

static int meets(const Skep__IpamConfig *const *mine, size_t count, const struct ip_net *other,
                 struct ip_net *ret)
{
    for (size_t i = 0; i < count; i++) {
        if (ip_net_parse(mine[i]->subnet, ret, NULL) == 0 && ip_net_overlap(ret, other))
            return (int)i;
    }
    return -1;
}

/* Those that it has, else those that it asks for. */
static int check_against_network(const Skep__NetworkSpec *spec, const Skep__Network *n,
                                 struct err *e)
{
    Skep__IpamConfig *const *theirs = n->n_ipam > 0 ? n->ipam : n->spec->ipam;
    size_t count = n->n_ipam > 0 ? n->n_ipam : n->spec->n_ipam;
    struct ip_net subnet, other;

    for (size_t i = 0; is_overlay(n->spec) && i < count; i++) {
        if (ip_net_parse(theirs[i]->subnet, &other, NULL) < 0)
            continue;
        int at = meets((const Skep__IpamConfig *const *)spec->ipam, spec->n_ipam, &other, &subnet);
        if (at >= 0)
            return err_set(e, ERR_INVALID, "ipam.subnet: %s overlaps with %s of network %s",
                           spec->ipam[at]->subnet, theirs[i]->subnet, object_name(&n->base));
    }
    return 0;
}

static int check_against_text(const Skep__NetworkSpec *spec, const char *text,
                              const Skep__Node *node, struct err *e)
{
    char host[IP_NET_CHARS + 1];
    const char *colon = strchr(text, '.') != NULL ? strrchr(text, ':') : NULL;
    struct ip_net subnet, other;

    (void)snprintf(host, sizeof(host), "%.*s",
                   (int)(colon != NULL ? (size_t)(colon - text) : strlen(text)), text);
    if (ip_net_parse_host(host, &other, NULL) < 0)
        return 0;
    int at = meets((const Skep__IpamConfig *const *)spec->ipam, spec->n_ipam, &other, &subnet);
    if (at < 0)
        return 0;
    return err_set(e, ERR_INVALID, "ipam.subnet: %s overlaps with %s, which node %s needs itself",
                   spec->ipam[at]->subnet, host, object_name(&node->base));
}

/* Hosts' own addresses and routes. */
static int check_against_node(const Skep__NetworkSpec *spec, const Skep__Node *node, struct err *e)
{
    const Skep__NodeNetwork *n = node->description != NULL ? node->description->network : NULL;
    int rc = 0;

    if (node->status != NULL)
        rc = check_against_text(spec, node->status->address, node, e);
    if (rc == 0 && node->manager != NULL)
        rc = check_against_text(spec, node->manager->address, node, e);
    if (rc == 0 && n != NULL)
        rc = check_against_text(spec, n->data_path_address, node, e);
    for (size_t i = 0; rc == 0 && n != NULL && i < n->n_routes; i++)
        rc = check_against_text(spec, n->routes[i], node, e);
    return rc;
}

static int check_subnets(const struct store *s, const Skep__NetworkSpec *spec, struct err *e)
{
    int rc = 0;

    if (!is_overlay(spec) || spec->n_ipam == 0)
        return 0;
    for (const Skep__Network *n = next_network(s, NULL); rc == 0 && n != NULL;
         n = next_network(s, n))
        rc = check_against_network(spec, n, e);
    for (const ProtobufCMessage *o = store_first(s, SKEP__KIND__KIND_NODE); rc == 0 && o != NULL;
         o = store_after(s, SKEP__KIND__KIND_NODE, object_id(o)))
        rc = check_against_node(spec, (const Skep__Node *)o, e);
    return rc;
}

static int check_vni(const struct store *s, const Skep__NetworkSpec *spec, struct err *e)
{
    uint64_t vni = 0;

    for (size_t i = 0; is_overlay(spec) && i < spec->driver->n_options; i++) {
        if (strcmp(spec->driver->options[i]->key, VNI_OPTION) == 0 &&
            text_parse_u64(spec->driver->options[i]->value, &vni, NULL) < 0)
            vni = 0; /* validated */
    }
    for (const Skep__Network *n = next_network(s, NULL); vni != 0 && n != NULL;
         n = next_network(s, n)) {
        if (n->vni == vni)
            return err_set(e, ERR_INVALID, "driver.options: VNI %u is used by network %s",
                           (unsigned)vni, object_name(&n->base));
    }
    return 0;
}

int control_network_create(const struct control_env *env, const ProtobufCMessage *request,
                           struct store_tx *tx, struct control_subject *subject, struct err *e)
{
    const Skep__NetworkCreateRequest *req = (const Skep__NetworkCreateRequest *)request;
    const struct store *store = env->core->store;
    Skep__Network network = SKEP__NETWORK__INIT;
    struct id id = id_from_prng(env->core->prng);

    if (req->spec == NULL)
        return err_set(e, ERR_INVALID, "spec: missing");
    int rc = control_validate_network(req->spec, env->arena, &network.spec, e);
    if (rc == 0)
        rc = check_name(store, network.spec, e);
    if (rc == 0)
        rc = check_ingress(store, network.spec, e);
    if (rc == 0)
        rc = check_config_from(store, network.spec, e);
    if (rc == 0)
        rc = check_subnets(store, network.spec, e);
    if (rc == 0)
        rc = check_vni(store, network.spec, e);
    if (rc < 0)
        return rc;
    network.id = id.s;
    store_tx_create(tx, &network.base);
    subject->kind = SKEP__KIND__KIND_NETWORK;
    subject->id = id;
    return 0;
}

int control_network_created(const struct control_env *env, const ProtobufCMessage *request,
                            const struct control_subject *subject, ProtobufCMessage **ret_answer,
                            struct err *e)
{
    Skep__NetworkCreateResponse *answer = ARENA_NEW(env->arena, Skep__NetworkCreateResponse);
    const ProtobufCMessage *network =
        store_get(env->core->store, SKEP__KIND__KIND_NETWORK, subject->id.s);

    (void)request; /* everything is in the subject */
    if (network == NULL)
        return err_set(e, ERR_NOT_FOUND, "network %s was removed meanwhile", subject->id.s);
    skep__network_create_response__init(answer);
    answer->network = control_redacted(env, network)->network;
    *ret_answer = &answer->base;
    return 0;
}

/* ---- remove ---- */

static bool task_spec_uses(const Skep__TaskSpec *t, const char *network_id)
{
    for (size_t i = 0; t != NULL && i < t->n_networks; i++) {
        if (strcmp(t->networks[i]->target, network_id) == 0)
            return true;
    }
    return false;
}

static bool spec_publishes(const Skep__ServiceSpec *spec)
{
    for (size_t i = 0; spec->endpoint != NULL && i < spec->endpoint->n_ports; i++) {
        if (spec->endpoint->ports[i]->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_INGRESS)
            return true;
    }
    return false;
}

static bool spec_uses(const Skep__ServiceSpec *spec, const Skep__Network *n)
{
    return task_spec_uses(spec->task, n->id) || (n->spec->ingress && spec_publishes(spec));
}

/* Names all of them, as far as they go into a message. */
static int check_services(const struct control_env *env, const Skep__Network *n, struct err *e)
{
    const struct store *s = env->core->store;
    char *names = (char *)"";
    size_t count = 0;

    for (const ProtobufCMessage *o = store_first(s, SKEP__KIND__KIND_SERVICE); o != NULL;
         o = store_after(s, SKEP__KIND__KIND_SERVICE, object_id(o))) {
        const Skep__Service *service = (const Skep__Service *)o;

        if (service->spec == NULL || !spec_uses(service->spec, n) || ++count > 8)
            continue;
        names = arena_printf(env->arena, "%s%s%s", names, count > 1 ? ", " : "", object_name(o));
    }
    if (count == 0)
        return 0;
    if (n->spec->ingress)
        return err_set(e, ERR_PRECONDITION,
                       "ingress network cannot be removed because %s %s depend%s on it",
                       count == 1 ? "service" : "services", names, count == 1 ? "s" : "");
    return err_set(e, ERR_PRECONDITION, "network %s is in use by %s %s%s", object_name(&n->base),
                   count == 1 ? "service" : "services", names, count > 8 ? " …" : "");
}

/* Those that are wanted. What is being stopped, or has lost its service, goes away by itself. */
static bool task_uses(const struct store *s, const Skep__Task *t, const Skep__Network *n)
{
    const Skep__Revision *r = store_task_revision(s, t);

    if (t->desired_state > SKEP__TASK_STATE__TASK_RUNNING ||
        t->status->state > SKEP__TASK_STATE__TASK_RUNNING ||
        store_service(s, t->service_id) == NULL)
        return false;
    for (size_t i = 0; i < t->n_networks; i++) {
        if (strcmp(t->networks[i]->network_id, n->id) == 0)
            return true;
    }
    return r != NULL && spec_uses(r->spec, n);
}

static int check_tasks(const struct store *s, const Skep__Network *n, struct err *e)
{
    for (const ProtobufCMessage *o = store_first(s, SKEP__KIND__KIND_TASK); o != NULL;
         o = store_after(s, SKEP__KIND__KIND_TASK, object_id(o))) {
        if (task_uses(s, (const Skep__Task *)o, n))
            return err_set(e, ERR_PRECONDITION, "network %s is in use by task %s",
                           object_name(&n->base), object_id(o));
    }
    return 0;
}

static int check_dependents(const struct store *s, const Skep__Network *n, struct err *e)
{
    for (const Skep__Network *o = next_network(s, NULL); n->spec->config_only && o != NULL;
         o = next_network(s, o)) {
        if (strcmp(o->spec->config_from, object_name(&n->base)) == 0)
            return err_set(e, ERR_PRECONDITION, "configuration network %s is in use by network %s",
                           object_name(&n->base), object_name(&o->base));
    }
    return 0;
}

int control_network_remove(const struct control_env *env, const ProtobufCMessage *request,
                           struct store_tx *tx, struct control_subject *subject, struct err *e)
{
    const Skep__NetworkRemoveRequest *req = (const Skep__NetworkRemoveRequest *)request;
    const struct store *store = env->core->store;
    const ProtobufCMessage *found = NULL;
    int rc = store_resolve(store, SKEP__KIND__KIND_NETWORK, req->ref, &found, e);

    if (rc < 0)
        return rc;
    const Skep__Network *n = (const Skep__Network *)found;

    if (is_predefined(n))
        return err_set(e, ERR_PRECONDITION, "%s is a pre-defined network and cannot be removed",
                       object_name(found));
    rc = check_services(env, n, e);
    if (rc == 0)
        rc = check_tasks(store, n, e);
    if (rc == 0)
        rc = check_dependents(store, n, e);
    if (rc < 0)
        return rc;
    store_tx_remove(tx, SKEP__KIND__KIND_NETWORK, n->id, 0);
    subject->kind = SKEP__KIND__KIND_NETWORK;
    subject->id = id_from_str(n->id);
    return 0;
}
