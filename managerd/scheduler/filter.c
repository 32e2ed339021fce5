#include <string.h>

#include "managerd/scheduler/internal.h"

enum { NOT_ASKED = 0xff };

/* ---- what the node is ---- */

static bool has_plugin(const Skep__EngineDescription *e, const char *type, const char *name)
{
    for (size_t i = 0; i < e->n_plugins; i++) {
        if (strcmp(e->plugins[i]->key, type) == 0 && strcmp(e->plugins[i]->value, name) == 0)
            return true;
    }
    return false;
}

/* A node that reports no plugins is trusted to have them. */
static bool plugins_fit(const struct scheduler *s, const struct needs *needs,
                        const Skep__Node *node)
{
    const Skep__EngineDescription *e = node->description != NULL ? node->description->engine : NULL;
    const char *log = needs->log_driver[0] != '\0' ? needs->log_driver
                      : s->log_driver != NULL      ? s->log_driver
                                                   : "";

    if (e == NULL || e->n_plugins == 0)
        return true;
    if (log[0] != '\0' && strcmp(log, "none") != 0 && !has_plugin(e, "Log", log))
        return false;
    if ((needs->bridge && !has_plugin(e, "Network", "bridge")) ||
        (needs->macvlan && !has_plugin(e, "Network", "macvlan")) ||
        (needs->ipvlan && !has_plugin(e, "Network", "ipvlan")))
        return false;
    for (size_t i = 0; i < needs->volume_driver_count; i++) {
        if (!has_plugin(e, "Volume", needs->volume_drivers[i]))
            return false;
    }
    return true;
}

static bool rules_fit(const struct needs *needs, const Skep__Node *node)
{
    for (size_t i = 0; i < needs->rule_count; i++) {
        if (!node_rule_match(&needs->rules[i], node))
            return false;
    }
    return true;
}

const char *network_error(const struct needs *needs, const Skep__Node *node)
{
    const Skep__NodeNetwork *n = node->description != NULL ? node->description->network : NULL;

    if (!needs->overlay)
        return NULL;
    if (n == NULL)
        return "the agent does not offer any";
    if (n->error[0] != '\0')
        return n->error;
    if (needs->encrypted && n->encryption[0] == '\0')
        return "the kernel has neither WireGuard nor ESP for encrypted ones";
    return NULL;
}

static enum scheduler_filter ask_static(const struct scheduler *s, const struct group *g,
                                        const struct snode *n)
{
    if (!n->ready)
        return SCHEDULER_READY;
    if (!plugins_fit(s, &g->needs, n->object))
        return SCHEDULER_PLUGIN;
    if (!rules_fit(&g->needs, n->object))
        return SCHEDULER_CONSTRAINT;
    if (!node_platform_match(g->needs.placement, n->object))
        return SCHEDULER_PLATFORM;
    return network_error(&g->needs, n->object) == NULL ? SCHEDULER_PASS : SCHEDULER_NETWORK;
}

enum scheduler_filter filter_static(struct scheduler *s, struct group *g, const struct snode *n)
{
    if (g->verdict_capacity < s->nodes.capacity) {
        g->verdicts = xrealloc(g->verdicts, s->nodes.capacity);
        memset(g->verdicts + g->verdict_capacity, NOT_ASKED,
               s->nodes.capacity - g->verdict_capacity);
        g->verdict_capacity = s->nodes.capacity;
    }
    if (g->verdicts[n->index] == NOT_ASKED)
        g->verdicts[n->index] = (uint8_t)ask_static(s, g, n);
    return (enum scheduler_filter)g->verdicts[n->index];
}

/* ---- what is left on it ---- */

static int64_t generic_used(const struct snode *n, const char *kind)
{
    for (size_t i = 0; i < n->generic_count; i++) {
        if (strcmp(n->generic[i].kind, kind) == 0)
            return n->generic[i].value;
    }
    return 0;
}

static int64_t generic_total(const Skep__Resources *r, const char *kind)
{
    int64_t total = 0;

    for (size_t i = 0; r != NULL && i < r->n_generic; i++) {
        if (strcmp(r->generic[i]->kind, kind) == 0)
            total += r->generic[i]->value;
    }
    return total;
}

static bool resources_fit(const struct needs *needs, const struct snode *n)
{
    const Skep__Resources *have =
        n->object->description != NULL ? n->object->description->resources : NULL;

    if (needs->nano_cpus > 0 &&
        needs->nano_cpus > (have != NULL ? have->nano_cpus : 0) - n->nano_cpus)
        return false;
    if (needs->memory_bytes > 0 &&
        needs->memory_bytes > (have != NULL ? have->memory_bytes : 0) - n->memory_bytes)
        return false;
    for (size_t i = 0; i < needs->generic_count; i++) {
        const Skep__NamedCount *r = needs->generic[i];

        if (r->value > generic_total(have, r->kind) - generic_used(n, r->kind))
            return false;
    }
    return true;
}

static bool any_address(const char *ip)
{
    return ip[0] == '\0' || strcmp(ip, "0.0.0.0") == 0 || strcmp(ip, "::") == 0;
}

static bool ports_fit(const struct needs *needs, const struct snode *n)
{
    for (size_t i = 0; i < needs->port_count; i++) {
        const Skep__PortConfig *p = needs->ports[i];

        for (size_t k = 0; k < n->port_count; k++) {
            const struct used_port *u = &n->ports[k];

            if (u->protocol == (uint32_t)p->protocol && u->port == p->published_port &&
                (any_address(p->host_ip) || any_address(u->host_ip) ||
                 strcmp(p->host_ip, u->host_ip) == 0))
                return false;
        }
    }
    return true;
}

static bool replicas_fit(const struct group *g, const struct snode *n, uint32_t allowance)
{
    uint32_t count = g->needs.max_replicas > 0 ? service_count(g->service, n) : 0;

    return count <= allowance || count - allowance < g->needs.max_replicas;
}

enum scheduler_filter filter_use(const struct group *g, const struct snode *n, uint32_t allowance)
{
    if (!g->needs.bounded)
        return SCHEDULER_PASS;
    if (!resources_fit(&g->needs, n))
        return SCHEDULER_RESOURCE;
    if (!ports_fit(&g->needs, n))
        return SCHEDULER_HOST_PORT;
    return replicas_fit(g, n, allowance) ? SCHEDULER_PASS : SCHEDULER_MAX_REPLICAS;
}

enum scheduler_filter filter_all(const struct scheduler *s, const struct group *g,
                                 const struct snode *n, uint32_t allowance)
{
    enum scheduler_filter fixed = ask_static(s, g, n), use = filter_use(g, n, allowance);

    if (fixed == SCHEDULER_PASS || use == SCHEDULER_PASS)
        return fixed != SCHEDULER_PASS ? fixed : use;
    return MIN(fixed, use); /* the enum is in the order of asking */
}

const char *filter_network_error(const struct scheduler *s, const struct group *g)
{
    for (size_t i = 0; i < s->nodes.capacity; i++) {
        const struct snode *n = s->nodes.nodes[i];

        if (n != NULL && ask_static(s, g, n) == SCHEDULER_NETWORK)
            return network_error(&g->needs, n->object);
    }
    return "";
}

void filter_count(const struct scheduler *s, const struct group *g,
                  size_t ret_nodes[SCHEDULER_FILTER_COUNT])
{
    memset(ret_nodes, 0, SCHEDULER_FILTER_COUNT * sizeof(*ret_nodes));
    for (size_t i = 0; i < s->nodes.capacity; i++) {
        if (s->nodes.nodes[i] != NULL)
            ret_nodes[filter_all(s, g, s->nodes.nodes[i], 0)]++;
    }
}
