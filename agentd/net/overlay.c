#include "agentd/net/overlay_internal.h"

#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agentd/net/netns.h"
#include "agentd/net/place.h"
#include "common/assert.h"

enum { PIN_PATH_BYTES = 512 };

static void pin_path(const struct overlay_host *h, const char *id, char ret[PIN_PATH_BYTES])
{
    (void)snprintf(ret, PIN_PATH_BYTES, "%s/%s", h->pin_dir, id);
}

void overlay_tell(struct overlay_look *look, const char *what, const char *object,
                  const char *problem)
{
    look->found++;
    if (look->d != NULL)
        differences_add(look->d, what, problem, "%s", object);
}

int overlay_open(const struct overlay_host *host, const char *id, uint32_t index,
                 struct overlay **ret, struct err *e)
{
    char path[PIN_PATH_BYTES];
    struct overlay *o = xcalloc(1, sizeof(*o));

    *o = (struct overlay){
        .host = host, .id = xstrdup(id), .index = index, .ns = -1, .nl = NL_CLOSED
    };
    pin_path(host, id, path);
    int rc = netns_open_pin(path, &o->ns, NULL);
    if (rc < 0) {
        netns_unpin(path); /* a file that is no namespace */
        rc = netns_create(path, &o->ns, e);
    }
    if (rc == 0)
        rc = nl_open(&o->nl, NETLINK_ROUTE, o->ns, e);
    if (rc == 0 && (o->nft = nft_open(o->ns, e)) == NULL)
        rc = -ERR_IO;
    if (rc == 0)
        rc = overlay_links_load(o, e);
    if (rc < 0) {
        overlay_close(o, true);
        return rc;
    }
    keeper_init(&o->router_table, o->nft, PLACE_ROUTER_TABLE);
    *ret = o;
    return 0;
}

/* A namespace ends some time after its last user: its devices, and with them the VNI and the names
 * on the host, must be free when this returns. */
static void remove_devices(struct nl *n, struct links *l)
{
    if (links_load(l, n, NULL) < 0)
        return;
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->items[i].kind, "vxlan") == 0 || strcmp(l->items[i].kind, "veth") == 0)
            link_put_delete(n, l->items[i].index, 0);
    (void)nl_commit(n); /* what is left goes with the namespace */
}

void overlay_close(struct overlay *o, bool keep)
{
    char path[PIN_PATH_BYTES];

    if (o == NULL)
        return;
    keeper_deinit(&o->router_table);
    if (o->nft != NULL)
        nft_close(o->nft);
    if (!keep) {
        if (o->nl.fd >= 0)
            remove_devices(&o->nl, &o->links);
        pin_path(o->host, o->id, path);
        netns_unpin(path);
    }
    nl_close(&o->nl);
    if (o->ns >= 0)
        (void)close(o->ns);
    links_deinit(&o->links);
    entries_deinit(&o->programmed);
    entries_deinit(&o->wanted);
    entries_deinit(&o->found);
    free(o->id);
    free(o);
}

void overlay_remove_pin(const struct overlay_host *host, const char *id)
{
    char path[PIN_PATH_BYTES];
    CLEANUP_CLOSE int ns = -1;
    struct nl n = NL_CLOSED;
    struct links l = { 0 };

    pin_path(host, id, path);
    if (netns_open_pin(path, &ns, NULL) == 0 && nl_open(&n, NETLINK_ROUTE, ns, NULL) == 0)
        remove_devices(&n, &l);
    links_deinit(&l);
    nl_close(&n);
    netns_unpin(path);
}

void overlay_doubt(struct overlay *o)
{
    o->known = false;
    o->devices_known = false;
}

/* ---- programming ----------------------------------------------------------------------------- */

/* What leaves to the host has the link's address, so that networks may have the same subnets; what
 * the host sent in keeps its own. An internal network answers only. */
static int apply_table(struct overlay *o, const struct net_plan *p, struct err *e)
{
    char text[KEEPER_TEXT_MAX];

    (void)snprintf(text, sizeof(text),
                   "chain forward { type filter hook forward priority filter; policy accept;\n"
                   "%s}\n"
                   "chain post { type nat hook postrouting priority srcnat; policy accept;\n"
                   "oifname \"" PLACE_UP "\" masquerade\n}\n",
                   p->internal ? "oifname \"" PLACE_UP "\" ct state new drop\n" : "");
    return keeper_apply(&o->router_table, text, e);
}

static const char *device_name(void *ctx, int device)
{
    const struct overlay *o = ctx;
    const struct link *l = links_by_index(&o->links, device);

    return l != NULL ? l->name : NULL;
}

/* Everything in R is ours, but the balancer's device. */
static bool is_ours(void *ctx, uint8_t kind, int device)
{
    const struct overlay *o = ctx;
    const struct link *l = links_by_index(&o->links, device);

    if (kind == ENTRY_FDB)
        return device == o->vxlan;
    return l != NULL && (device == o->vxlan || device == o->up || device == o->lo ||
                         (l->name[0] == PLACE_TASK_LINK && device != o->vxlan));
}

static int load(struct overlay *o, struct err *e)
{
    struct entry_scope scope = {
        .ours = is_ours, .ctx = o, .neighbours = true, .fdb = o->vxlan != 0
    };

    return entries_load(&o->found, &o->nl, &scope, e);
}

static int program(struct overlay *o, const struct entries *have, struct overlay_look *look,
                   struct err *e)
{
    struct entry_diff diff = {
        .have = have, .want = &o->wanted, .d = look->d, .device_name = device_name, .ctx = o
    };
    struct entry_change change;
    int rc = entries_program(look->repair ? &o->nl : NULL, &diff, &change, e);

    look->found += change.added + change.replaced + change.removed;
    if (!look->repair)
        return rc;
    o->known = rc == 0;
    if (rc == 0) {
        struct entries spare = o->programmed;

        o->programmed = o->wanted;
        o->wanted = spare;
    }
    return rc;
}

static int begin(struct overlay *o, const struct net_plan *p, struct err *e)
{
    o->v6 = false;
    for (size_t i = 0; i < p->subnet_count; i++)
        o->v6 = o->v6 || p->subnets[i].subnet.address.family == IP_V6;
    if (p->self_vtep.family == 0)
        return err_set(e, ERR_UNAVAILABLE, "the managers do not know this node's address yet");
    if (p->vni == 0 || p->vni >= 1u << 24)
        return err_set(e, ERR_INVALID, "VNI %u", p->vni);
    return 0;
}

int overlay_apply(struct overlay *o, const struct net_plan *p, struct err *e)
{
    struct overlay_look look = { .repair = true };
    int rc = begin(o, p, e);

    if (rc == 0 && (!o->devices_known || o->mtu != p->mtu || o->vni != p->vni ||
                    o->port != p->vxlan_port || !ip_equal(&o->vtep, &p->self_vtep))) {
        o->known = false;
        rc = overlay_devices(o, p, &look, e);
        o->devices_known = rc == 0;
    }
    if (rc == 0 && !o->known)
        rc = load(o, e);
    if (rc == 0) {
        overlay_want(o, p);
        rc = program(o, o->known ? &o->programmed : &o->found, &look, e);
    }
    if (rc == 0)
        rc = apply_table(o, p, e);
    if (rc < 0)
        overlay_doubt(o);
    return rc;
}

int overlay_check(struct overlay *o, const struct net_plan *p, bool repair, struct differences *d,
                  uint32_t *ret_found, struct err *e)
{
    struct overlay_look look = { .repair = repair, .d = d };
    bool changed = false;
    int rc = begin(o, p, e);

    if (rc == 0)
        rc = overlay_devices(o, p, &look, e);
    if (rc == 0)
        rc = load(o, e);
    if (rc == 0) {
        overlay_want(o, p);
        rc = program(o, &o->found, &look, e);
    }
    if (rc == 0)
        rc = keeper_check(&o->router_table, repair, d, &changed, e);
    look.found += changed;
    if (rc == 0)
        *ret_found = look.found;
    if (rc < 0 || (!repair && look.found > 0))
        overlay_doubt(o);
    return rc;
}
