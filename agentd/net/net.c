#include "agentd/net/net.h"

#include <inttypes.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agentd/net/net_internal.h"
#include "agentd/net/netns.h"
#include "common/log.h"

/* ---- life ------------------------------------------------------------------------------------ */

static void pick_balancer(struct net *n)
{
    const struct balancer_ops *all[] = { &balancer_ipvs, &balancer_nft }; /* the best first */
    struct err e = { 0 };

    (void)snprintf(e.message, sizeof(e.message), "not known to this agent");
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if ((n->options.balancer == NET_BALANCER_NFT && strcmp(all[i]->name, "nftables") != 0) ||
            (n->options.balancer == NET_BALANCER_IPVS && strcmp(all[i]->name, "ipvs") != 0))
            continue;
        if (all[i]->probe(&e) == 0) {
            n->balancer = all[i];
            log_info("net.balancer", "name=%s", all[i]->name);
            return;
        }
        log_info("net.balancer_unavailable", "name=%s reason=\"%s\"", all[i]->name, e.message);
    }
    (void)snprintf(n->host_error, sizeof(n->host_error), "no balancer works: %.200s", e.message);
}

/* Whether VXLAN devices can be made at all: asked of a namespace that is thrown away. */
static int probe_vxlan(struct net *n, struct err *e)
{
    CLEANUP_FREE char *path = xasprintf("%s/.probe", n->pin_dir);
    CLEANUP_CLOSE int ns = -1;
    struct nl nl = NL_CLOSED;
    const uint8_t mac[6] = { 0x02, 0x43 };
    struct link_vxlan v = { .name = PLACE_VXLAN, .vni = 1, .mtu = 1450, .port = 4789, .mac = mac };
    int rc;

    netns_unpin(path);
    rc = netns_create(path, &ns, e);
    if (rc == 0)
        rc = nl_open(&nl, NETLINK_ROUTE, ns, e);
    if (rc == 0) {
        v.ns = ns;
        link_put_vxlan(&nl, &v, 0);
        rc = nl_commit_all(&nl, e, "VXLAN");
    }
    nl_close(&nl);
    netns_unpin(path);
    return rc;
}

static int open_host(struct net *n, struct err *e)
{
    int rc = netns_open_own(&n->host_ns, e);

    if (rc == 0)
        rc = netns_dir_open(n->pin_dir, e);
    if (rc == 0)
        rc = probe_vxlan(n, e);
    if (rc == 0)
        rc = nl_open(&n->host_nl, NETLINK_ROUTE, n->host_ns, e);
    if (rc == 0)
        rc = egress_open(&n->egress, n->host_ns, &n->host_nl, e);
    if (rc == 0 && (n->ingress = ingress_new(n->loop, e)) == NULL)
        rc = -ERR_UNSUPPORTED;
    if (rc == 0 && (n->encrypt = encrypt_new(n->host_ns, e)) == NULL)
        rc = -ERR_UNSUPPORTED;
    if (rc == 0)
        rc = net_watch_start(n, e);
    n->host = (struct overlay_host){ .ns = n->host_ns,
                                     .nl = &n->host_nl,
                                     .pin_dir = n->pin_dir,
                                     .data_path = n->options.data_path };
    return rc;
}

static void open_dns(struct net *n)
{
    const struct dns_options o = { "/etc/resolv.conf", tasks_nameservers, n };

    n->dns = dns_new(n->loop, n->tables, &o);
}

struct net *net_new(struct loop *l, const struct net_options *o, struct err *e)
{
    struct net *n = xcalloc(1, sizeof(*n));

    n->loop = l;
    n->options = *o;
    n->host_ns = -1;
    n->host_nl.fd = n->host_monitor.fd = -1;
    n->pin_dir = xasprintf("%s/netns", o->run_dir);
    n->node_id = xstrdup("");
    n->tables = tables_new();
    n->epoch = 1;
    if (open_host(n, e) < 0) {
        net_free(n);
        return NULL;
    }
    open_dns(n);
    networks_learn_owners(n);
    pick_balancer(n);
    describe_update(n, false);
    return n;
}

void net_free(struct net *n)
{
    if (n == NULL)
        return;
    net_watch_stop(n);
    tasks_free(n);
    networks_free(n, true);
    encrypt_free(n->encrypt, true);
    ingress_free(n->ingress, true);
    if (n->egress.nft != NULL)
        egress_close(&n->egress, true);
    dns_free(n->dns);
    nl_close(&n->host_nl);
    if (n->host_ns >= 0)
        (void)close(n->host_ns);
    tables_free(n->tables);
    arena_deinit(&n->check_arena);
    free(n->owners);
    free(n->node_id);
    free(n->pin_dir);
    free(n);
}

/* The sockets of the server borrow the tables: both begin anew. */
static void forget_tables(struct net *n)
{
    dns_free(n->dns);
    tables_free(n->tables);
    n->tables = tables_new();
    open_dns(n);
    n->epoch++;
}

void net_clear(struct net *n)
{
    struct err e = { 0 };

    tasks_free(n);
    networks_free(n, false);
    encrypt_free(n->encrypt, false);
    ingress_free(n->ingress, false);
    egress_close(&n->egress, false);
    netns_dir_close(n->pin_dir);
    forget_tables(n);
    n->egress_ready = n->ingress_ready = n->pins_swept = false;
    n->ingress = ingress_new(n->loop, &e);
    n->encrypt = encrypt_new(n->host_ns, &e);
    if (egress_open(&n->egress, n->host_ns, &n->host_nl, &e) < 0 || n->ingress == NULL ||
        n->encrypt == NULL)
        (void)snprintf(n->host_error, sizeof(n->host_error), "%s", e.message);
    log_info("net.cleared", "dir=%s", n->pin_dir);
}

/* ---- what the managers say ------------------------------------------------------------------- */

void net_set_identity(struct net *n, const char *node_id)
{
    if (strcmp(n->node_id, node_id) == 0)
        return;
    if (n->node_id[0] != '\0')
        forget_tables(n);
    free(n->node_id);
    n->node_id = xstrdup(node_id);
    n->epoch++;
    networks_sync(n, true);
}

void net_apply(struct net *n, const Skep__NetworksResponse *resp)
{
    uint64_t began = clock_now_ns();

    const char *why = "";
    uint64_t refused = tables_refused(n->tables, &why);

    (void)tables_apply(n->tables, resp); /* versions tell what changed */
    if (tables_refused(n->tables, &why) > refused)
        log_warn("net.refused", "records=%" PRIu64 " last=\"%s\" next=go_on_without_them",
                 tables_refused(n->tables, &why) - refused, why);
    n->epoch++;
    networks_sync(n, false);
    n->stats.applies++;
    n->stats.last_apply_us = (uint32_t)((clock_now_ns() - began) / 1000);
}

void net_expect_complete(struct net *n)
{
    tables_expect_complete(n->tables);
}
