#include "agentd/net/overlay_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agentd/net/netns.h"
#include "agentd/net/place.h"
#include "common/assert.h"

/* ip_forward_use_pmtu and df: a packet that does not fit is answered with the right size, instead
 * of being cut on the way (network.md §3.9). rp_filter: replies take other ways than requests. */
static const struct netns_setting settings[] = {
    { .path = "ipv4/ip_forward", .value = "1" },
    { .path = "ipv4/ip_forward_use_pmtu", .value = "1" },
    { .path = "ipv4/conf/all/rp_filter", .value = "0" },
    { .path = "ipv4/conf/default/rp_filter", .value = "0" },
    { .path = "ipv4/conf/all/send_redirects", .value = "0" },
    { .path = "ipv4/conf/default/send_redirects", .value = "0" },
    { .path = "ipv4/conf/all/accept_redirects", .value = "0" },
    { .path = "ipv4/conf/all/accept_source_route", .value = "0" },
};
/* No addresses of the kernel's own making on our devices. */
static const struct netns_setting settings_v6[] = {
    { .path = "ipv6/conf/all/disable_ipv6", .value = "0" },
    { .path = "ipv6/conf/default/disable_ipv6", .value = "0" },
    { .path = "ipv6/conf/default/addr_gen_mode", .value = "1" },
    { .path = "ipv6/conf/default/accept_ra", .value = "0" },
    { .path = "ipv6/conf/default/accept_dad", .value = "0" },
    { .path = "ipv6/conf/all/forwarding", .value = "1" },
};
static const struct netns_setting settings_no_v6[] = {
    { .path = "ipv6/conf/default/disable_ipv6", .value = "1", .optional = true },
    { .path = "ipv6/conf/all/disable_ipv6", .value = "1", .optional = true },
};

static int check_settings(struct overlay *o, struct overlay_look *look, struct err *e)
{
    size_t changed = 0, more = 0;
    int rc = netns_settings(o->ns, settings, ARRAY_LEN(settings), look->repair, &changed, e);

    if (rc == 0 && o->v6)
        rc = netns_settings(o->ns, settings_v6, ARRAY_LEN(settings_v6), look->repair, &more, e);
    else if (rc == 0)
        rc = netns_settings(o->ns, settings_no_v6, ARRAY_LEN(settings_no_v6), look->repair, &more,
                            e);
    if (rc == 0 && changed + more > 0)
        overlay_tell(look, "setting", "of the router", "differs");
    return rc;
}

int overlay_links_load(struct overlay *o, struct err *e)
{
    int rc = links_load(&o->links, &o->nl, e);
    const struct link *l;

    if (rc < 0)
        return rc;
    o->vxlan = (l = links_by_name(&o->links, PLACE_VXLAN)) != NULL ? l->index : 0;
    o->up = (l = links_by_name(&o->links, PLACE_UP)) != NULL ? l->index : 0;
    o->lo = (l = links_by_name(&o->links, "lo")) != NULL ? l->index : 0;
    return 0;
}

/* ---- vxlan0 ---------------------------------------------------------------------------------- */

/* An address of this host's namespace can be bound. */
static bool is_local(const struct overlay_host *h, const struct ip *ip)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } to = { .any = { .sa_family = ip->family == IP_V6 ? AF_INET6 : AF_INET } };
    int previous = -1;

    if (netns_enter(h->ns, &previous, NULL) < 0)
        return false;
    CLEANUP_CLOSE int fd = socket(to.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    netns_leave(previous);
    if (ip->family == IP_V6)
        memcpy(&to.v6.sin6_addr, ip->bytes, 16);
    else
        memcpy(&to.v4.sin_addr, ip->bytes, 4);
    return fd >= 0 && bind(fd, &to.any, ip->family == IP_V6 ? sizeof(to.v6) : sizeof(to.v4)) == 0;
}

static struct ip local_address(const struct overlay *o, const struct net_plan *p)
{
    const struct ip none = { 0 };

    if (o->host->data_path.family == p->self_vtep.family)
        return o->host->data_path;
    return is_local(o->host, &p->self_vtep) ? p->self_vtep : none;
}

/* "" or what about it cannot be changed in place. */
static const char *vxlan_differs(const struct link *l, const struct net_plan *p,
                                 const struct ip *local)
{
    if (strcmp(l->kind, "vxlan") != 0)
        return "differs: kind";
    if (l->vni != p->vni)
        return "differs: VNI";
    if (l->port != p->vxlan_port || (p->encrypted && l->source_port != l->port))
        return "differs: port";
    if (!ip_equal(&l->local, local) && (local->family != 0 || !ip_is_any(&l->local)))
        return "differs: local address";
    if (l->learning || !l->df)
        return "differs: learning or fragmentation";
    return "";
}

static int vxlan_make(struct overlay *o, const struct net_plan *p, const struct ip *local,
                      struct err *e)
{
    uint8_t mac[6];
    struct link_vxlan v = { .name = PLACE_VXLAN,
                            .ns = o->ns,
                            .vni = p->vni,
                            .mtu = p->mtu,
                            .port = p->vxlan_port,
                            .same_port = p->encrypted,
                            .local = *local,
                            .v6 = p->self_vtep.family == IP_V6,
                            .mac = mac };

    place_mac(&p->self_vtep, mac);
    link_put_vxlan(o->host->nl, &v, 0);
    int rc =
        nl_commit_all(o->host->nl, e, "VXLAN device with VNI %u on port %u", p->vni, p->vxlan_port);
    return rc == 0 ? overlay_links_load(o, e) : rc;
}

static int check_vxlan(struct overlay *o, const struct net_plan *p, struct overlay_look *look,
                       struct err *e)
{
    const struct link *l = links_by_name(&o->links, PLACE_VXLAN);
    const struct ip local = local_address(o, p);
    const char *problem = l == NULL ? "missing" : vxlan_differs(l, p, &local);
    uint8_t mac[6];
    int rc = 0;

    place_mac(&p->self_vtep, mac);
    if (problem[0] != '\0') {
        overlay_tell(look, "link", PLACE_VXLAN, problem);
        if (!look->repair)
            return 0;
        if (l != NULL) {
            link_put_delete(&o->nl, l->index, 0);
            rc = nl_commit_all(&o->nl, e, "remove " PLACE_VXLAN);
        }
        if (rc == 0)
            rc = vxlan_make(o, p, &local, e);
        if (rc < 0)
            return rc;
        l = links_by_name(&o->links, PLACE_VXLAN);
        if (l == NULL)
            return err_set(e, ERR_IO, PLACE_VXLAN " vanished");
    } else if (l->mtu != p->mtu || !l->up || memcmp(l->mac, mac, sizeof(mac)) != 0) {
        overlay_tell(look, "link", PLACE_VXLAN, "differs: state, MTU or address");
    } else {
        return 0;
    }
    struct link_change c = { .index = l->index, .mtu = p->mtu, .up = true, .tag = o->id };
    if (memcmp(l->mac, mac, sizeof(mac)) != 0)
        c.mac = mac;
    if (!look->repair)
        return 0;
    link_put_change(&o->nl, &c, 0);
    return nl_commit_all(&o->nl, e, "set " PLACE_VXLAN);
}

/* ---- the link to the host -------------------------------------------------------------------- */

static int uplink_make(struct overlay *o, const struct link *old, const struct link *old_host,
                       struct err *e)
{
    struct place_link place = place_link(o->index);
    struct link_veth v = {
        .name = PLACE_UP, .peer_name = place.host_device, .peer_ns = o->host->ns, .mtu = 1500
    };
    int rc = 0;

    if (old != NULL) {
        link_put_delete(&o->nl, old->index, 0);
        rc = nl_commit_all(&o->nl, e, "remove " PLACE_UP);
    }
    if (rc == 0 && old_host != NULL && old == NULL) {
        if (link_tag(old_host) == NULL)
            return err_set(e, ERR_EXISTS, "the host has a device %s that is not ours",
                           place.host_device);
        link_put_delete(o->host->nl, old_host->index, 0);
        rc = nl_commit_all(o->host->nl, e, "remove %s", place.host_device);
    }
    if (rc < 0)
        return rc;
    link_put_veth(&o->nl, &v, 0);
    rc = nl_commit_all(&o->nl, e, "link to the host %s", place.host_device);
    return rc == 0 ? overlay_links_load(o, e) : rc;
}

static int uplink_set(struct overlay *o, const struct link *up, const struct link *host,
                      struct err *e)
{
    struct link_change here = { .index = up->index, .up = true, .tag = o->id };
    struct link_change there = { .index = host->index, .up = true, .tag = o->id };

    link_put_change(&o->nl, &here, 0);
    link_put_change(o->host->nl, &there, 0);
    int rc = nl_commit_all(&o->nl, e, "set " PLACE_UP);
    int other = nl_commit_all(o->host->nl, rc == 0 ? e : NULL, "set %s", host->name);
    return rc < 0 ? rc : other;
}

/* The host's addresses and routes for it are egress.c's. */
static int check_uplink(struct overlay *o, struct overlay_look *look, struct err *e)
{
    struct place_link place = place_link(o->index);
    const struct link *up = links_by_name(&o->links, PLACE_UP);
    struct link host = { 0 };
    int rc = link_find(o->host->nl, place.host_device, &host, e);
    bool has_host = rc == 0;

    if (rc < 0 && rc != -ERR_NOT_FOUND)
        return rc;
    const char *tag = has_host ? link_tag(&host) : NULL;
    o->host_link = has_host ? host.index : 0;
    if (up == NULL || !has_host || (tag != NULL && strcmp(tag, o->id) != 0)) {
        overlay_tell(look, "link", place.host_device,
                     up == NULL || !has_host ? "missing" : "differs: owner");
        if (!look->repair)
            return 0;
        rc = uplink_make(o, up, has_host ? &host : NULL, e);
        if (rc == 0)
            rc = link_find(o->host->nl, place.host_device, &host, e);
        if (rc < 0)
            return rc;
        o->host_link = host.index;
        up = links_by_name(&o->links, PLACE_UP);
        if (up == NULL)
            return err_set(e, ERR_IO, PLACE_UP " vanished");
    } else if (!up->up || !host.up || tag == NULL) {
        overlay_tell(look, "link", place.host_device, "differs: state");
    } else {
        return 0;
    }
    return look->repair ? uplink_set(o, up, &host, e) : 0;
}

/* ---- tasks' links ---------------------------------------------------------------------------- */

static const struct netns_setting task_settings[] = {
    { .path = "ipv4/conf/%s/proxy_arp", .value = "1" },
    { .path = "ipv4/neigh/%s/proxy_delay", .value = "0" },
    { .path = "ipv4/conf/%s/send_redirects", .value = "0" },
};

/* Programs that ask for their neighbours themselves get R's address: delays would be felt. */
static int task_settings_apply(struct overlay *o, const char *device, struct err *e)
{
    struct netns_setting s[ARRAY_LEN(task_settings)];
    char paths[ARRAY_LEN(task_settings)][80];

    for (size_t i = 0; i < ARRAY_LEN(s); i++) {
        const char *rest = strstr(task_settings[i].path, "%s");

        ASSERT(rest != NULL);
        (void)snprintf(paths[i], sizeof(paths[i]), "%.*s%s%s", (int)(rest - task_settings[i].path),
                       task_settings[i].path, device, rest + 2);
        s[i] = (struct netns_setting){ .path = paths[i], .value = task_settings[i].value };
    }
    return netns_settings(o->ns, s, ARRAY_LEN(s), true, NULL, e);
}

int overlay_task_link(const struct overlay *o, const char *task_id)
{
    char name[PLACE_NAME_BYTES];
    const struct link *l;

    place_task_link(task_id, name);
    l = links_by_name(&o->links, name);
    if (l == NULL)
        return 0;
    const char *tag = link_tag(l);
    return tag != NULL && strcmp(tag, task_id) == 0 ? l->index : 0;
}

int overlay_add_task(struct overlay *o, const struct net_plan *p, const struct overlay_task *task,
                     struct err *e)
{
    char name[PLACE_NAME_BYTES];
    uint8_t mac[6];
    struct link_veth v = {
        .name = name, .peer_name = task->name, .peer_ns = task->ns, .mtu = p->mtu, .peer_mac = mac
    };

    place_task_link(task->task_id, name);
    place_task_mac(task->v4.family != 0 ? &task->v4 : &task->v6, mac);
    overlay_remove_task(o, task->task_id);
    link_put_veth(&o->nl, &v, 0);
    int rc = nl_commit_all(&o->nl, e, "link to task %s", task->task_id);
    if (rc == 0)
        rc = overlay_links_load(o, e);
    const struct link *l = rc == 0 ? links_by_name(&o->links, name) : NULL;
    if (rc == 0 && l == NULL)
        rc = err_set(e, ERR_IO, "link to task %s vanished", task->task_id);
    if (rc < 0)
        return rc;
    struct link_change c = { .index = l->index, .up = true, .tag = task->task_id };
    link_put_change(&o->nl, &c, 0);
    rc = nl_commit_all(&o->nl, e, "set link to task %s", task->task_id);
    if (rc == 0)
        rc = task_settings_apply(o, name, e);
    if (rc == 0)
        rc = overlay_links_load(o, e);
    return rc;
}

void overlay_remove_task(struct overlay *o, const char *task_id)
{
    char name[PLACE_NAME_BYTES];
    const struct link *l;

    place_task_link(task_id, name);
    if (overlay_links_load(o, NULL) < 0 || (l = links_by_name(&o->links, name)) == NULL)
        return;
    link_put_delete(&o->nl, l->index, 0);
    (void)nl_commit(&o->nl); /* if it failed, the device is still there for the next check */
    overlay_doubt(o);        /* its routes and neighbours went with it */
    if (overlay_links_load(o, NULL) < 0)
        o->links.count = 0; /* the next look loads them */
}

/* ---- all ------------------------------------------------------------------------------------- */

static int check_lo(struct overlay *o, struct overlay_look *look, struct err *e)
{
    const struct link *l = links_by_name(&o->links, "lo");
    struct link_change c = { .index = o->lo, .up = true };

    if (l == NULL)
        return err_set(e, ERR_IO, "no lo");
    if (l->up)
        return 0;
    overlay_tell(look, "link", "lo", "differs: state");
    if (!look->repair)
        return 0;
    link_put_change(&o->nl, &c, 0);
    return nl_commit_all(&o->nl, e, "set lo");
}

/* Links of tasks: up, and with the MTU of the network on our side. */
static int check_tasks(struct overlay *o, const struct net_plan *p, struct overlay_look *look,
                       struct err *e)
{
    for (size_t i = 0; i < o->links.count; i++) {
        const struct link *l = &o->links.items[i];
        struct link_change c = { .index = l->index, .up = true, .mtu = p->mtu };

        if (l->name[0] != PLACE_TASK_LINK || strcmp(l->kind, "veth") != 0 ||
            (l->up && l->mtu == p->mtu))
            continue;
        overlay_tell(look, "link", l->name, "differs: state or MTU");
        if (look->repair)
            link_put_change(&o->nl, &c, 0);
    }
    return nl_commit_all(&o->nl, e, "set link of a task");
}

int overlay_devices(struct overlay *o, const struct net_plan *p, struct overlay_look *look,
                    struct err *e)
{
    int rc = overlay_links_load(o, e);

    if (rc == 0)
        rc = check_settings(o, look, e);
    if (rc == 0)
        rc = check_lo(o, look, e);
    if (rc == 0)
        rc = check_vxlan(o, p, look, e);
    if (rc == 0)
        rc = check_uplink(o, look, e);
    if (rc == 0)
        rc = check_tasks(o, p, look, e);
    o->mtu = p->mtu;
    o->vni = p->vni;
    o->port = p->vxlan_port;
    o->vtep = p->self_vtep;
    return rc;
}
