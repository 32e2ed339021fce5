/* The WireGuard tunnel of an encrypted network: devices, peers, and the routes into them. */
#include "agentd/net/encrypt_internal.h"

#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#include "agentd/net/link.h"
#include "agentd/net/netns.h"

enum { WG_MTU_OVER_OVERLAY = 50 }; /* VXLAN's own: Ethernet, VXLAN, UDP, IPv4 */

void encrypt_device(const struct secured *s, unsigned slot, char ret[ENCRYPT_DEVICE_BYTES])
{
    (void)snprintf(ret, ENCRYPT_DEVICE_BYTES, "skw%x%c", s->vni, 'a' + (int)slot);
}

/* ---- wanted ---- */

/* Of two epochs with one parity the newer one has the device: the sending epoch and the one after
 * it, or, when there is none yet, the one before. */
static const Skep__NetworkKey *key_of_slot(const Skep__NetworkHead *head, unsigned slot)
{
    const Skep__NetworkKey *best = NULL;

    for (size_t i = 0; i < head->n_keys; i++) {
        const Skep__NetworkKey *k = head->keys[i];

        if (k->epoch % ENCRYPT_SLOTS != slot || (best != NULL && best->epoch > k->epoch))
            continue;
        if (best == NULL || best->epoch != head->key_epoch)
            best = k;
    }
    return best;
}

static int want_peer(struct wg_state *w, const struct encrypt_secret *secret,
                     const struct plan_peer *peer, struct err *e)
{
    struct encrypt_pair pair;
    int rc = encrypt_wireguard_pair(secret, peer->node_id, &pair, e);

    if (rc < 0)
        return rc;
    struct wg_peer *p = wg_add_peer(w);

    memcpy(p->public_key, pair.public_key, sizeof(p->public_key));
    p->endpoint = p->allowed = peer->vtep;
    p->port = w->port;
    return 0;
}

static int want_slot(struct encrypt *x, struct secured *s, unsigned slot, struct err *e)
{
    const Skep__NetworkKey *key = key_of_slot(s->plan->head, slot);
    struct wg_state *w = &s->wg[slot];
    struct encrypt_pair own;

    wg_deinit(w);
    s->used[slot] = key != NULL;
    if (key == NULL)
        return 0;
    struct encrypt_secret secret = { .network_id = s->id, .epoch = key->epoch };
    memcpy(secret.key, key->key.data, sizeof(secret.key));
    w->port = (uint16_t)(s->plan->head->encryption_port + slot);
    int rc = encrypt_wireguard_pair(&secret, x->self, &own, e);

    if (rc == 0)
        memcpy(w->private_key, own.private_key, sizeof(w->private_key));
    for (size_t i = 0; rc == 0 && i < s->plan->peer_count; i++)
        rc = want_peer(w, &secret, &s->plan->peers[i], e);
    wg_sort(w);
    return rc;
}

int encrypt_wg_want(struct encrypt *x, struct secured *s, struct err *e)
{
    int rc = 0;

    s->send = s->plan->head->key_epoch % ENCRYPT_SLOTS;
    for (unsigned slot = 0; rc == 0 && slot < ENCRYPT_SLOTS; slot++)
        rc = want_slot(x, s, slot, e);
    return rc;
}

/* ---- devices ---- */

static int program_device(struct encrypt *x, const struct secured *s, unsigned slot, bool write,
                          struct err *e)
{
    struct wg_state have;
    char name[ENCRYPT_DEVICE_BYTES];

    encrypt_device(s, slot, name);
    int rc = wg_read(&x->wg, name, &have, e);

    if (rc == 0)
        rc = wg_program(&x->wg, name, &have, &s->wg[slot], write, e);
    wg_deinit(&have);
    return rc;
}

static int make_device(struct encrypt *x, const struct secured *s, unsigned slot,
                       const struct link *found, struct err *e)
{
    char name[ENCRYPT_DEVICE_BYTES], path[64];
    struct netns_setting loose = { .path = path, .value = "2" };
    struct link device;
    int rc = 0;

    encrypt_device(s, slot, name);
    if (found == NULL)
        rc = wg_create(&x->rt, name, s->mtu + WG_MTU_OVER_OVERLAY, e);
    if (rc == 0)
        rc = link_find(&x->rt, name, &device, e);
    if (rc < 0)
        return rc;
    struct link_change up = { .index = device.index,
                              .up = true,
                              .mtu = s->mtu + WG_MTU_OVER_OVERLAY };
    link_put_change(&x->rt, &up, 0);
    rc = nl_commit_all(&x->rt, e, "set %s up", name);
    /* What comes out has the peer's address, which is behind another device. */
    (void)snprintf(path, sizeof(path), "ipv4/conf/%s/rp_filter", name);
    return rc < 0 ? rc : netns_settings(x->host_ns, &loose, 1, true, NULL, e);
}

static void remove_device(struct encrypt *x, const struct link *found)
{
    if (found != NULL)
        link_put_delete(&x->rt, found->index, 0);
}

/* ---- routes ---- */

struct rule_search {
    uint32_t mark;
    bool found;
};

static int on_rule_attribute(const struct nlattr *a, void *ctx)
{
    struct rule_search *r = ctx;

    if (mnl_attr_get_type(a) == FRA_FWMARK && mnl_attr_get_u32(a) == r->mark)
        r->found = true;
    return MNL_CB_OK;
}

static void on_rule(void *ctx, const struct nlmsghdr *h)
{
    if (h != NULL && h->nlmsg_type == RTM_NEWRULE)
        (void)mnl_attr_parse(h, sizeof(struct fib_rule_hdr), on_rule_attribute, ctx);
}

static int rule_exists(struct encrypt *x, uint32_t mark, bool *ret, struct err *e)
{
    struct fib_rule_hdr all = { .family = AF_INET };
    struct rule_search search = { .mark = mark };
    struct nl_request r;

    (void)nl_request(&r, RTM_GETRULE, NLM_F_DUMP, &all, sizeof(all));
    int rc = nl_ask(&x->rt, &r, on_rule, &search, e);

    *ret = search.found;
    return rc;
}

static void put_rule(struct encrypt *x, uint32_t mark, bool remove)
{
    struct fib_rule_hdr rule = { .family = AF_INET, .action = FR_ACT_TO_TBL };
    struct nlmsghdr *h = nl_message(&x->rt, remove ? RTM_DELRULE : RTM_NEWRULE,
                                    remove ? 0 : NLM_F_CREATE | NLM_F_EXCL, &rule, sizeof(rule), 0);

    mnl_attr_put_u32(h, FRA_PRIORITY, ENCRYPT_PREFERENCE);
    mnl_attr_put_u32(h, FRA_FWMARK, mark);
    mnl_attr_put_u32(h, FRA_FWMASK, UINT32_MAX);
    mnl_attr_put_u32(h, FRA_TABLE, mark);
    x->rt.slots[x->rt.count - 1].exists_ok = true;
}

struct route_search {
    uint32_t table, device;
};

static int on_route_attribute(const struct nlattr *a, void *ctx)
{
    struct route_search *r = ctx;

    if (mnl_attr_get_type(a) == RTA_TABLE)
        r->table = mnl_attr_get_u32(a);
    else if (mnl_attr_get_type(a) == RTA_OIF)
        r->device = mnl_attr_get_u32(a);
    return MNL_CB_OK;
}

struct table_search {
    uint32_t table, device; /* 0 = no route */
};

static void on_route(void *ctx, const struct nlmsghdr *h)
{
    struct table_search *t = ctx;
    struct route_search one = { 0 };

    if (h == NULL || h->nlmsg_type != RTM_NEWROUTE)
        return;
    (void)mnl_attr_parse(h, sizeof(struct rtmsg), on_route_attribute, &one);
    if (one.table == t->table)
        t->device = one.device;
}

static int route_device(struct encrypt *x, uint32_t table, uint32_t *ret, struct err *e)
{
    struct rtmsg all = { .rtm_family = AF_INET };
    struct table_search search = { .table = table };
    struct nl_request r;
    struct nlmsghdr *h = nl_request(&r, RTM_GETROUTE, NLM_F_DUMP, &all, sizeof(all));

    mnl_attr_put_u32(h, RTA_TABLE, table);
    int rc = nl_ask(&x->rt, &r, on_route, &search, e);

    *ret = search.device;
    return rc == -ERR_NOT_FOUND ? 0 : rc; /* no such table yet */
}

static void put_route(struct encrypt *x, uint32_t table, uint32_t device)
{
    struct rtmsg route = { .rtm_family = AF_INET,
                           .rtm_protocol = PLACE_PROTOCOL,
                           .rtm_scope = RT_SCOPE_LINK,
                           .rtm_type = RTN_UNICAST };
    struct nlmsghdr *h =
        nl_message(&x->rt, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &route, sizeof(route), 0);

    mnl_attr_put_u32(h, RTA_TABLE, table);
    mnl_attr_put_u32(h, RTA_OIF, device);
}

/* The rule, and the route into the device that sends. */
static int program_routes(struct encrypt *x, const struct secured *s, bool write, struct err *e)
{
    uint32_t mark = encrypt_mark(s), device;
    char name[ENCRYPT_DEVICE_BYTES];
    struct link sender;
    bool rule;
    int rc = rule_exists(x, mark, &rule, e);

    encrypt_device(s, s->send, name);
    if (rc == 0)
        rc = route_device(x, mark, &device, e);
    if (rc == 0)
        rc = link_find(&x->rt, name, &sender, e);
    if (rc < 0)
        return rc;
    bool route = device == (uint32_t)sender.index;

    if (write && !rule)
        put_rule(x, mark, false);
    if (write && !route)
        put_route(x, mark, (uint32_t)sender.index);
    rc = nl_commit_all(&x->rt, e, "route into %s", name);
    return rc < 0 ? rc : !rule + !route;
}

/* ---- the whole ---- */

static int program_slots(struct encrypt *x, struct secured *s, const struct links *links,
                         bool write, struct err *e)
{
    int differing = 0, rc = 0;

    for (unsigned slot = 0; rc >= 0 && slot < ENCRYPT_SLOTS; slot++) {
        char name[ENCRYPT_DEVICE_BYTES];

        encrypt_device(s, slot, name);
        const struct link *found = links_by_name(links, name);
        bool there = found != NULL && found->up;

        differing += s->used[slot] ? !there : found != NULL;
        if (write && s->used[slot] && !there)
            rc = make_device(x, s, slot, found, e);
        if (rc >= 0 && s->used[slot] && (write || found != NULL))
            rc = program_device(x, s, slot, write, e);
        differing += rc > 0 ? rc : 0;
    }
    return rc < 0 ? rc : differing;
}

int encrypt_wg_program(struct encrypt *x, struct secured *s, bool write, struct err *e)
{
    struct links links = { 0 };
    int rc = links_load(&links, &x->rt, e);
    int differing = rc == 0 ? program_slots(x, s, &links, write, e) : rc;

    if (differing >= 0) {
        rc = program_routes(x, s, write, e);
        if (rc == -ERR_NOT_FOUND && !write)
            rc = 1; /* the device is one of the differences */
        differing = rc < 0 ? rc : differing + rc;
    }
    for (unsigned slot = 0; differing >= 0 && write && slot < ENCRYPT_SLOTS; slot++) {
        char name[ENCRYPT_DEVICE_BYTES];

        encrypt_device(s, slot, name);
        if (!s->used[slot])
            remove_device(x, links_by_name(&links, name));
    }
    (void)nl_commit(&x->rt);
    links_deinit(&links);
    return differing;
}

void encrypt_wg_remove(struct encrypt *x, struct secured *s)
{
    struct links links = { 0 };
    bool rule = false;

    if (links_load(&links, &x->rt, NULL) == 0)
        for (unsigned slot = 0; slot < ENCRYPT_SLOTS; slot++) {
            char name[ENCRYPT_DEVICE_BYTES];

            encrypt_device(s, slot, name);
            remove_device(x, links_by_name(&links, name)); /* and its route */
        }
    (void)nl_commit(&x->rt);
    if (rule_exists(x, encrypt_mark(s), &rule, NULL) == 0 && rule)
        put_rule(x, encrypt_mark(s), true);
    (void)nl_commit(&x->rt);
    links_deinit(&links);
}
