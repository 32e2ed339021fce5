/* What a service spec says about other objects: networks, secrets, configs, published ports. */
#include <string.h>
#include <strings.h>

#include "managerd/control/defaults.h"
#include "managerd/control/validate_internal.h"

static int check_network(const Skep__Network *n, struct err *e)
{
    const char *name = object_name(&n->base);

    if (n->spec->ingress)
        return err_set(e, ERR_INVALID,
                       "task.networks: service cannot be explicitly attached to the ingress "
                       "network \"%s\"",
                       name);
    if (n->spec->config_only)
        return err_set(e, ERR_INVALID,
                       "task.networks: %s is a configuration for other networks (config_from)",
                       name);
    return 0;
}

/* The namespaces of the host, and none at all: nothing else goes with them. */
static bool is_exclusive(const Skep__Network *n)
{
    return n->spec->driver != NULL && (strcmp(n->spec->driver->name, "host") == 0 ||
                                       strcmp(n->spec->driver->name, "null") == 0);
}

static int check_exclusive(const Skep__ServiceSpec *spec, const Skep__Network *n, struct err *e)
{
    const Skep__EndpointSpec *endpoint = spec->endpoint;

    if (!is_exclusive(n))
        return 0;
    if (spec->task->n_networks > 1)
        return err_set(e, ERR_INVALID, "task.networks: network %s goes with no other network",
                       object_name(&n->base));
    for (size_t i = 0; i < endpoint->n_ports; i++) {
        if (endpoint->ports[i]->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_INGRESS)
            return err_set(e, ERR_INVALID,
                           "endpoint.ports: port %u cannot be published in ingress mode by tasks "
                           "with network %s",
                           endpoint->ports[i]->target_port, object_name(&n->base));
    }
    return 0;
}

/* Has an interface in an overlay, the ingress network for one: then not the engine but the agent
 * publishes the ports of the host. */
static bool is_on_overlays(const Skep__ServiceSpec *spec, const struct store *s)
{
    for (size_t i = 0; i < spec->endpoint->n_ports; i++)
        if (spec->endpoint->ports[i]->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_INGRESS)
            return true;
    for (size_t i = 0; i < spec->task->n_networks; i++) {
        const Skep__Network *n = (const Skep__Network *)store_get(s, SKEP__KIND__KIND_NETWORK,
                                                                  spec->task->networks[i]->target);

        if (n != NULL && strcmp(n->spec->driver->name, "overlay") == 0)
            return true;
    }
    return false;
}

/* DEVIATION from swarm, which chooses a port of each host: only engines do that here. */
static int check_chosen_ports(const Skep__ServiceSpec *spec, const struct store *s, struct err *e)
{
    for (size_t i = 0; i < spec->endpoint->n_ports; i++) {
        const Skep__PortConfig *p = spec->endpoint->ports[i];

        if (p->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_HOST && p->published_port == 0 &&
            is_on_overlays(spec, s))
            return err_set(e, ERR_INVALID,
                           "endpoint.ports: port %u in host mode needs a published port, because "
                           "the service has an overlay network",
                           p->target_port);
    }
    return 0;
}

static int resolve_networks(const Skep__ServiceSpec *spec, const struct store *s, struct err *e)
{
    Skep__TaskSpec *t = spec->task;

    for (size_t i = 0; i < t->n_networks; i++) {
        const ProtobufCMessage *found = NULL;
        const char *target = t->networks[i]->target;

        if (store_resolve(s, SKEP__KIND__KIND_NETWORK, target, &found, e) < 0)
            return err_set(e, ERR_INVALID, "task.networks: network %s not found", target);
        const Skep__Network *n = (const Skep__Network *)found;
        int rc = check_network(n, e);

        if (rc == 0)
            rc = check_exclusive(spec, n, e);
        if (rc < 0)
            return rc;
        t->networks[i]->target = n->id;
    }
    defaults_sort_networks(t->networks, t->n_networks);
    for (size_t i = 1; i < t->n_networks; i++) {
        if (strcmp(t->networks[i - 1]->target, t->networks[i]->target) == 0)
            return err_set(e, ERR_INVALID, "task.networks: network %s is given twice",
                           t->networks[i]->target);
    }
    return 0;
}

/* By id when there is one, else by name; both are filled in. */
static int resolve_file(const struct store *s, Skep__Kind kind, char **id, char **name,
                        struct err *e)
{
    const char *what = kind == SKEP__KIND__KIND_SECRET ? "secret" : "config";
    const ProtobufCMessage *found =
        (*id)[0] != '\0' ? store_get(s, kind, *id) : store_find_name(s, kind, *name);

    if (found == NULL || strcasecmp(object_name(found), *name) != 0)
        return err_set(e, ERR_INVALID, "%s not found: %s", what, *name);
    *id = (char *)object_id(found);
    *name = (char *)object_name(found);
    return 0;
}

static int resolve_files(Skep__ContainerSpec *c, const struct store *s, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < c->n_secrets; i++)
        rc = resolve_file(s, SKEP__KIND__KIND_SECRET, &c->secrets[i]->secret_id,
                          &c->secrets[i]->secret_name, e);
    for (size_t i = 0; rc == 0 && i < c->n_configs; i++)
        rc = resolve_file(s, SKEP__KIND__KIND_CONFIG, &c->configs[i]->config_id,
                          &c->configs[i]->config_name, e);
    return rc;
}

/* An ingress port belongs to one service of the cluster; host ports of different services meet only
 * when the scheduler puts them on one node, which it does not. */
static int check_pair(const Skep__PortConfig *mine, const Skep__PortConfig *theirs,
                      const Skep__Service *other, struct err *e)
{
    bool mine_host = mine->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_HOST;
    bool theirs_host = theirs->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_HOST;

    if (mine->published_port == 0 || mine->published_port != theirs->published_port ||
        mine->protocol != theirs->protocol || (mine_host && theirs_host))
        return 0;
    return err_set(e, ERR_INVALID,
                   "endpoint.ports: port '%u' is already in use by service '%s' (%s) as %s",
                   mine->published_port, other->spec->annotations->name, other->id,
                   theirs_host ? "a host-published port" : "an ingress port");
}

static int check_ports_of(const Skep__EndpointSpec *mine, Skep__PortConfig *const *theirs,
                          size_t count, const Skep__Service *other, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < mine->n_ports; i++) {
        for (size_t k = 0; rc == 0 && k < count; k++)
            rc = check_pair(mine->ports[i], theirs[k], other, e);
    }
    return rc;
}

/* O(services x ports). */
static int check_ports(const Skep__EndpointSpec *mine, const struct store *s,
                       const char *service_id, struct err *e)
{
    const ProtobufCMessage *o;
    int rc = 0;

    for (o = store_first(s, SKEP__KIND__KIND_SERVICE); rc == 0 && o != NULL && mine->n_ports > 0;
         o = store_after(s, SKEP__KIND__KIND_SERVICE, object_id(o))) {
        const Skep__Service *other = (const Skep__Service *)o;

        if (strcmp(other->id, service_id) == 0)
            continue;
        if (other->spec->endpoint != NULL)
            rc = check_ports_of(mine, other->spec->endpoint->ports, other->spec->endpoint->n_ports,
                                other, e);
        if (rc == 0 && other->endpoint != NULL) /* also those that were chosen for it */
            rc = check_ports_of(mine, other->endpoint->ports, other->endpoint->n_ports, other, e);
    }
    return rc;
}

int control_validate_service_in(Skep__ServiceSpec *spec, const struct store *s,
                                const char *service_id, struct err *e)
{
    int rc = resolve_networks(spec, s, e);

    if (rc == 0)
        rc = check_chosen_ports(spec, s, e);
    if (rc == 0)
        rc = resolve_files(spec->task->container, s, e);
    return rc == 0 ? check_ports(spec->endpoint, s, service_id, e) : rc;
}
