#include "agentd/net/net_internal.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "agentd/net/netns.h"
#include "common/log.h"
#include "common/text.h"

/* ---- the set of networks --------------------------------------------------------------------- */

/* Where id is, or belongs. */
static size_t place_of(const struct net *n, const char *id)
{
    size_t low = 0, high = n->network_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(n->networks[middle]->id, id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct network *network_find(const struct net *n, const char *id)
{
    size_t i = place_of(n, id);

    return i < n->network_count && strcmp(n->networks[i]->id, id) == 0 ? n->networks[i] : NULL;
}

static struct network *network_add(struct net *n, const char *id)
{
    size_t i = place_of(n, id);
    struct network *w = xcalloc(1, sizeof(*w));

    w->net = n;
    w->id = xstrdup(id);
    w->monitor.fd = -1;
    n->networks = xrealloc_array(n->networks, n->network_count + 1, sizeof(*n->networks));
    memmove(&n->networks[i + 1], &n->networks[i], (n->network_count - i) * sizeof(*n->networks));
    n->networks[i] = w;
    n->network_count++;
    return w;
}

static void network_free(struct network *w, bool keep)
{
    watch_forget(w);
    if (w->net->dns != NULL)
        dns_close(w->net->dns, w->id);
    if (w->balancer != NULL)
        w->net->balancer->close(w->balancer, keep);
    overlay_close(w->overlay, keep);
    if (w->has_index)
        w->net->used[w->index / 8] &= (uint8_t) ~(1u << (w->index % 8));
    arena_deinit(&w->arena);
    free(w->id);
    free(w);
}

static void network_remove(struct net *n, size_t i)
{
    struct network *w = n->networks[i];

    log_info("net.removed", "network=%s", w->id);
    memmove(&n->networks[i], &n->networks[i + 1],
            (n->network_count - i - 1) * sizeof(*n->networks));
    n->network_count--;
    network_free(w, false);
    n->egress_ready = n->ingress_ready = false;
}

void networks_free(struct net *n, bool keep)
{
    for (size_t i = 0; i < n->network_count; i++)
        network_free(n->networks[i], keep);
    free(n->networks);
    n->networks = NULL;
    n->network_count = 0;
}

const struct net_plan *network_plan(struct network *w)
{
    const struct net *n = w->net;

    if (w->plan != NULL && w->plan_epoch == n->epoch)
        return w->plan;
    arena_reset(&w->arena);
    w->plan = n->node_id[0] != '\0' ? plan_make(n->tables, w->id, n->node_id, &w->arena) : NULL;
    w->plan_epoch = n->epoch;
    return w->plan;
}

/* ---- the links to the host ------------------------------------------------------------------- */

/* A network keeps the index of the link that stands, across restarts. */
void networks_learn_owners(struct net *n)
{
    struct links l = { 0 };
    const size_t skip = strlen(PLACE_HOST_LINK);

    if (links_load(&l, &n->host_nl, NULL) < 0)
        return;
    for (size_t i = 0; i < l.count; i++) {
        const char *tag = link_tag(&l.items[i]);
        uint64_t index;

        if (strncmp(l.items[i].name, PLACE_HOST_LINK, skip) != 0 ||
            text_parse_u64(l.items[i].name + skip, &index, NULL) < 0 || index > PLACE_INDEX_MAX)
            continue;
        n->used[index / 8] |= (uint8_t)(1u << (index % 8)); /* another's: we stay away */
        if (tag == NULL)
            continue;
        n->owners = xrealloc_array(n->owners, n->owner_count + 1, sizeof(*n->owners));
        struct link_owner *o = &n->owners[n->owner_count++];
        o->index = (uint32_t)index;
        (void)snprintf(o->id, sizeof(o->id), "%s", tag);
    }
    links_deinit(&l);
}

static int take_index(struct network *w, struct err *e)
{
    struct net *n = w->net;

    for (size_t i = 0; i < n->owner_count; i++) {
        if (strcmp(n->owners[i].id, w->id) != 0)
            continue;
        w->index = n->owners[i].index;
        w->has_index = true;
        n->owners[i] = n->owners[--n->owner_count];
        return 0;
    }
    for (uint32_t i = 0; i <= PLACE_INDEX_MAX; i++) {
        if ((n->used[i / 8] & (1u << (i % 8))) != 0)
            continue;
        n->used[i / 8] |= (uint8_t)(1u << (i % 8));
        w->index = i;
        w->has_index = true;
        return 0;
    }
    return err_set(e, ERR_NO_SPACE, "no link to the host is free");
}

/* ---- one network ----------------------------------------------------------------------------- */

static int open_parts(struct network *w, struct err *e)
{
    struct net *n = w->net;
    int rc = w->has_index ? 0 : take_index(w, e);

    if (rc < 0 || w->overlay != NULL)
        return rc;
    rc = netns_dir_open(n->pin_dir, e);
    if (rc == 0) {
        rc = overlay_open(&n->host, w->id, w->index, &w->overlay, e);
        if (rc == 0)
            watch_network(w);
    }
    return rc;
}

static int open_balancer(struct network *w, struct err *e)
{
    struct net *n = w->net;
    const struct balancer_place place = {
        .network_id = w->id, .router_ns = w->overlay->ns, .pin_dir = n->pin_dir, .index = w->index
    };

    if (w->balancer != NULL || n->balancer == NULL)
        return 0;
    w->balancer = n->balancer->open(&place, e);
    return w->balancer != NULL ? 0 : -ERR_IO;
}

static int listen_dns(struct network *w, const struct net_plan *p, struct err *e)
{
    CLEANUP_ARENA struct arena a = { 0 };
    struct ip *gateways = arena_array(&a, p->subnet_count, sizeof(*gateways));
    size_t count = 0;

    for (size_t i = 0; i < p->subnet_count; i++)
        if (p->subnets[i].gateway.family != 0)
            gateways[count++] = p->subnets[i].gateway;
    return dns_listen(w->net->dns, w->id, w->overlay->ns, gateways, count, e);
}

/* Neighbours, FDB, routes; then the balancer; then names that lead to them. */
static int program(struct network *w, const struct net_plan *p, struct err *e)
{
    int rc = 0;

    if (p->encrypted && encrypt_problem(w->net->encrypt, w->id)[0] != '\0') /* never in the clear */
        rc = err_set(e, ERR_UNAVAILABLE, "%s", encrypt_problem(w->net->encrypt, w->id));
    if (rc == 0)
        rc = open_parts(w, e);
    if (rc == 0)
        rc = overlay_apply(w->overlay, p, e);
    if (rc == 0)
        rc = open_balancer(w, e);
    if (rc == 0 && w->balancer != NULL)
        rc = w->net->balancer->apply(w->balancer, p, e);
    w->unsettled = w->balancer != NULL && w->net->balancer->settle != NULL;
    if (rc == 0)
        rc = listen_dns(w, p, e);
    return rc;
}

static void network_sync(struct network *w)
{
    struct net *n = w->net;
    const struct net_plan *p = network_plan(w);
    uint64_t version = tables_network_version(n->tables, w->id);
    bool was_ready = w->ready;
    struct err e = { 0 };
    int rc;

    if (p == NULL)
        return;
    bool ports = p->ingress || p->port_count > 0;
    rc = program(w, p, &e);
    w->ready = rc == 0;
    w->version = version;
    n->ingress_ready = n->ingress_ready && !ports;
    n->egress_ready = n->egress_ready && was_ready;
    if (rc == 0)
        describe_overlap(w, p);
    if (rc == 0 && !was_ready)
        log_info("net.ready", "network=%s name=%s vni=%u", w->id, p->name, p->vni);
    if (rc < 0) {
        n->stats.failures++;
        if (strcmp(w->error, e.message) != 0)
            log_warn("net.failed", "network=%s name=%s error=\"%s\" retry=yes", w->id, p->name,
                     err_message(&e, rc));
    }
    (void)snprintf(w->error, sizeof(w->error), "%s", rc < 0 ? err_message(&e, rc) : "");
    n->change_pending = true;
}

/* ---- the host -------------------------------------------------------------------------------- */

static int apply_egress(struct net *n, struct err *e)
{
    CLEANUP_ARENA struct arena a = { 0 };
    struct egress_link *links = arena_array(&a, n->network_count, sizeof(*links));
    size_t count = 0;

    for (size_t i = 0; i < n->network_count; i++) {
        const struct network *w = n->networks[i];

        if (w->overlay != NULL && w->overlay->host_link != 0)
            links[count++] =
                (struct egress_link){ .index = w->index, .device = w->overlay->host_link };
    }
    return egress_apply(&n->egress, links, count, e);
}

static int apply_ingress(struct net *n, struct err *e)
{
    CLEANUP_ARENA struct arena a = { 0 };
    struct ingress_network *all = arena_array(&a, n->network_count, sizeof(*all));
    struct place_link *links = arena_array(&a, n->network_count, sizeof(*links));
    size_t count = 0;
    int previous = -1, rc;

    for (size_t i = 0; i < n->network_count; i++) {
        struct network *w = n->networks[i];
        const struct net_plan *p = w->ready ? network_plan(w) : NULL;

        if (p == NULL || (!p->ingress && p->port_count == 0))
            continue;
        links[count] = place_link(w->index);
        all[count] = (struct ingress_network){ .plan = p,
                                               .link = links[count].host_device,
                                               .host_address = links[count].host,
                                               .router_address = links[count].router };
        count++;
    }
    rc = netns_enter(n->host_ns, &previous, e);
    if (rc < 0)
        return rc;
    rc = ingress_apply(n->ingress, all, count, e);
    netns_leave(previous);
    return rc;
}

int networks_host_apply(struct net *n, struct err *e)
{
    int rc = 0;

    if (!n->egress_ready) {
        rc = apply_egress(n, e);
        n->egress_ready = rc == 0;
        if (rc < 0)
            return err_wrap(e, rc, "egress");
    }
    if (!n->ingress_ready && n->ingress != NULL) {
        rc = apply_ingress(n, e);
        n->ingress_ready = rc == 0;
    }
    return rc < 0 ? err_wrap(e, rc, "published ports") : 0;
}

static void sync_host(struct net *n)
{
    struct err e = { 0 };
    int rc;

    if (n->egress_ready && n->ingress_ready)
        return;
    rc = networks_host_apply(n, &e);
    if (rc < 0 && strcmp(n->host_error, e.message) != 0)
        log_warn("net.failed", "error=\"%s\" retry=yes", err_message(&e, rc));
    if (n->balancer != NULL)
        (void)snprintf(n->host_error, sizeof(n->host_error), "%s",
                       rc < 0 ? err_message(&e, rc) : "");
    n->stats.failures += rc < 0;
}

/* ---- all ------------------------------------------------------------------------------------- */

/* A pin that no network of the tables has: of a network that ended while no agent was there. Names
 * with a dot are the balancer's; it goes with its network. */
static void sweep_pin(struct net *n, const char *id)
{
    struct network *w = network_add(n, id);
    struct err e = { 0 };
    size_t i = place_of(n, id);

    if (open_parts(w, &e) < 0 || open_balancer(w, &e) < 0)
        log_warn("net.sweep", "network=%s error=\"%s\"", id, e.message);
    network_remove(n, i);
    overlay_remove_pin(&n->host, id);
}

static void sweep_pins(struct net *n)
{
    DIR *d = opendir(n->pin_dir);

    n->pins_swept = true;
    for (struct dirent *x; d != NULL && (x = readdir(d)) != NULL;) {
        char id[LINK_ALIAS_BYTES];
        size_t size = strcspn(x->d_name, ".");

        if (size == 0 || size >= sizeof(id))
            continue;
        (void)snprintf(id, sizeof(id), "%.*s", (int)size, x->d_name);
        if (network_find(n, id) != NULL)
            continue;
        if (x->d_name[size] == '\0') {
            sweep_pin(n, id);
        } else {
            CLEANUP_FREE char *path = xasprintf("%s/%s", n->pin_dir, x->d_name);

            netns_unpin(path);
        }
    }
    if (d != NULL)
        (void)closedir(d);
}

static void remove_gone(struct net *n)
{
    if (!tables_complete(n->tables))
        return;
    for (size_t i = n->network_count; i-- > 0;)
        if (!n->networks[i]->seen)
            network_remove(n, i);
    if (!n->pins_swept)
        sweep_pins(n);
}

/* Tunnels come before the devices that use them and go after them. */
static void sync_encryption(struct net *n)
{
    CLEANUP_ARENA struct arena a = { 0 };
    const struct net_plan **plans = arena_array(&a, n->network_count, sizeof(struct net_plan *));
    size_t count = 0;

    for (size_t i = 0; i < n->network_count; i++) {
        const Skep__NetworkHead *h = tables_network(n->tables, n->networks[i]->id);
        const struct net_plan *p = h != NULL && h->encrypted ? network_plan(n->networks[i]) : NULL;

        if (p != NULL)
            plans[count++] = p;
    }
    encrypt_apply(n->encrypt, plans, count, tables_complete(n->tables), n->node_id);
}

/* Networks that end go first: a new one may have the VNI of an old one. */
void networks_sync(struct net *n, bool all)
{
    if (n->node_id[0] == '\0')
        return;
    for (size_t i = 0; i < n->network_count; i++)
        n->networks[i]->seen = false;
    for (const Skep__NetworkHead *h = tables_network_after(n->tables, ""); h != NULL;
         h = tables_network_after(n->tables, h->id)) {
        struct network *w = network_find(n, h->id);

        if (w == NULL)
            w = network_add(n, h->id);
        w->seen = true;
    }
    remove_gone(n);
    sync_encryption(n);
    for (size_t i = 0; i < n->network_count; i++) {
        struct network *w = n->networks[i];

        if (w->seen && (all || !w->ready || w->version != tables_network_version(n->tables, w->id)))
            network_sync(w);
    }
    sync_host(n);
    describe_update(n, false);
}
