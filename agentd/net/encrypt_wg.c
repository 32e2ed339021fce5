/* The WireGuard tunnel of an encrypted network: devices, peers, and the routes into them. */
#include "agentd/net/encrypt_internal.h"

#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <mbedtls/platform_util.h>
#include <stdio.h>
#include <string.h>

#include "agentd/net/link.h"
#include "agentd/net/netns.h"

enum { WG_MTU_OVER_OVERLAY = 50 }; /* VXLAN's own: Ethernet, VXLAN, UDP, IPv4 */

#define DEVICE "skw" /* and the VNI in hexadecimal digits, and a letter */

void encrypt_device(uint32_t vni, unsigned slot, char ret[ENCRYPT_DEVICE_BYTES])
{
    (void)snprintf(ret, ENCRYPT_DEVICE_BYTES, DEVICE "%x%c", vni, 'a' + (int)slot);
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

void encrypt_forget_keys(struct known_keys *k)
{
    mbedtls_platform_zeroize(&k->secret, sizeof(k->secret));
    free(k->items);
    *k = (struct known_keys){ 0 };
}

/* The peers' public keys: those that are known, and those that are new. Both lists are in order. */
static int know_keys(struct known_keys *k, const struct encrypt_secret *secret,
                     const struct net_plan *p, struct err *e)
{
    struct known_keys next = { .secret = *secret };
    size_t at = 0;
    int rc = 0;

    if (k->secret.epoch != secret->epoch ||
        memcmp(k->secret.key, secret->key, sizeof(secret->key)) != 0)
        encrypt_forget_keys(k);
    next.items = xcalloc(p->peer_count + 1, sizeof(*next.items));
    for (; rc == 0 && next.count < p->peer_count; next.count++) {
        const char *id = p->peers[next.count].node_id;
        struct known_key *item = &next.items[next.count];
        struct encrypt_pair pair = { .private_key = { 0 } };

        while (at < k->count && strcmp(k->items[at].node_id, id) < 0)
            at++;
        if (at < k->count && strcmp(k->items[at].node_id, id) == 0) {
            *item = k->items[at];
            continue;
        }
        rc = encrypt_wireguard_pair(secret, id, &pair, e);
        (void)snprintf(item->node_id, sizeof(item->node_id), "%s", id);
        memcpy(item->public_key, pair.public_key, sizeof(item->public_key));
        mbedtls_platform_zeroize(&pair, sizeof(pair));
    }
    encrypt_forget_keys(k);
    *k = next;
    if (rc < 0)
        encrypt_forget_keys(k);
    return rc;
}

static int want_slot(struct encrypt *x, struct secured *s, unsigned slot, struct err *e)
{
    const struct net_plan *p = s->plan;
    const Skep__NetworkKey *key = key_of_slot(p->head, slot);
    struct wg_state *w = &s->wg[slot];
    struct encrypt_pair own;

    wg_deinit(w);
    s->used[slot] = key != NULL;
    if (key == NULL) {
        encrypt_forget_keys(&s->known[slot]);
        return 0;
    }
    struct encrypt_secret secret = { .network_id = s->id, .epoch = key->epoch };
    memcpy(secret.key, key->key.data, sizeof(secret.key));
    w->port = (uint16_t)(p->head->encryption_port + slot);
    int rc = encrypt_wireguard_pair(&secret, x->self, &own, e);

    if (rc == 0)
        memcpy(w->private_key, own.private_key, sizeof(w->private_key));
    mbedtls_platform_zeroize(&own, sizeof(own));
    if (rc == 0)
        rc = know_keys(&s->known[slot], &secret, p, e);
    for (size_t i = 0; rc == 0 && i < p->peer_count; i++) {
        struct wg_peer *peer = wg_add_peer(w);

        memcpy(peer->public_key, s->known[slot].items[i].public_key, sizeof(peer->public_key));
        peer->endpoint = peer->allowed = p->peers[i].vtep;
        peer->port = w->port;
    }
    mbedtls_platform_zeroize(&secret, sizeof(secret));
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

    encrypt_device(s->vni, slot, name);
    int rc = wg_read(&x->wg, name, &have, e);

    if (rc == 0)
        rc = wg_program(&x->wg, name, &have, &s->wg[slot], write, e);
    wg_deinit(&have);
    return rc;
}

/* What comes out of a tunnel has an address that is behind another device. The kernel takes that in
 * its loose mode, but never from a device without any address (fib_validate_source). */
static const uint8_t own_address[4] = { 169, 254, 63, 1 };

struct address_search {
    int device;
    bool found;
};

static void on_address(void *ctx, const struct nlmsghdr *h)
{
    struct address_search *search = ctx;
    const struct ifaddrmsg *m = h != NULL ? mnl_nlmsg_get_payload(h) : NULL;

    if (h != NULL && h->nlmsg_type == RTM_NEWADDR && (int)m->ifa_index == search->device)
        search->found = true;
}

static int address_exists(struct encrypt *x, int device, bool *ret, struct err *e)
{
    struct ifaddrmsg all = { .ifa_family = AF_INET };
    struct address_search search = { .device = device };
    struct nl_request r;

    (void)nl_request(&r, RTM_GETADDR, NLM_F_DUMP, &all, sizeof(all));
    int rc = nl_ask(&x->rt, &r, on_address, &search, e);

    *ret = search.found;
    return rc;
}

static void put_address(struct encrypt *x, int device)
{
    struct ifaddrmsg m = { .ifa_family = AF_INET,
                           .ifa_prefixlen = 32,
                           .ifa_scope = RT_SCOPE_LINK,
                           .ifa_index = (uint32_t)device };
    struct nlmsghdr *h = nl_message(&x->rt, RTM_NEWADDR, NLM_F_CREATE, &m, sizeof(m), 0);

    mnl_attr_put(h, IFA_LOCAL, sizeof(own_address), own_address);
    mnl_attr_put(h, IFA_ADDRESS, sizeof(own_address), own_address);
}

static int make_device(struct encrypt *x, const struct secured *s, unsigned slot,
                       const struct link *found, struct err *e)
{
    char name[ENCRYPT_DEVICE_BYTES], path[64];
    struct netns_setting loose = { .path = path, .value = "2" };
    struct link device;
    int rc = 0;

    encrypt_device(s->vni, slot, name);
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
    put_address(x, device.index);
    rc = nl_commit_all(&x->rt, e, "set %s up", name);
    (void)snprintf(path, sizeof(path), "ipv4/conf/%s/rp_filter", name);
    return rc < 0 ? rc : netns_settings(x->host_ns, &loose, 1, true, NULL, e);
}

static void remove_device(struct encrypt *x, const struct link *found)
{
    if (found != NULL)
        link_put_delete(&x->rt, found->index, 0);
}

/* ---- routes ---- */

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
                           .rtm_protocol = PLACE_PROTOCOL_ENCRYPT,
                           .rtm_scope = RT_SCOPE_LINK,
                           .rtm_type = RTN_UNICAST };
    struct nlmsghdr *h =
        nl_message(&x->rt, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &route, sizeof(route), 0);

    mnl_attr_put_u32(h, RTA_TABLE, table);
    mnl_attr_put_u32(h, RTA_OIF, device);
}

/* The route into the device that sends. */
static int program_route(struct encrypt *x, const struct secured *s, bool write, struct err *e)
{
    uint32_t table = encrypt_tag(s), device;
    char name[ENCRYPT_DEVICE_BYTES];
    struct link sender;
    int rc = route_device(x, table, &device, e);

    encrypt_device(s->vni, s->send, name);
    if (rc == 0)
        rc = link_find(&x->rt, name, &sender, e);
    if (rc == -ERR_NOT_FOUND && !write)
        return 1; /* the device is one of the differences */
    if (rc < 0 || device == (uint32_t)sender.index)
        return rc;
    if (write)
        put_route(x, table, (uint32_t)sender.index);
    rc = nl_commit_all(&x->rt, e, "route into %s", name);
    return rc < 0 ? rc : 1;
}

/* ---- the whole ---- */

static int program_slots(struct encrypt *x, struct secured *s, const struct links *links,
                         bool write, struct err *e)
{
    int differing = 0, rc = 0;

    for (unsigned slot = 0; rc >= 0 && slot < ENCRYPT_SLOTS; slot++) {
        char name[ENCRYPT_DEVICE_BYTES];

        encrypt_device(s->vni, slot, name);
        const struct link *found = links_by_name(links, name);
        bool there = found != NULL && found->up;

        if (there)
            rc = address_exists(x, found->index, &there, e);
        differing += s->used[slot] ? !there : found != NULL;
        if (rc >= 0 && write && s->used[slot] && !there)
            rc = make_device(x, s, slot, found, e);
        if (rc >= 0 && s->used[slot] && (write || found != NULL))
            rc = program_device(x, s, slot, write, e);
        differing += rc > 0 ? rc : 0;
    }
    return rc < 0 ? rc : differing;
}

/* Rules first: with them nothing goes another way. */
int encrypt_wg_program(struct encrypt *x, struct secured *s, bool write, struct err *e)
{
    struct links links = { 0 };
    int differing = encrypt_rules_program(x, s, write, e);
    int rc = differing >= 0 ? links_load(&links, &x->rt, e) : differing;

    if (rc == 0)
        rc = program_slots(x, s, &links, write, e);
    if (rc >= 0) {
        differing += rc;
        rc = program_route(x, s, write, e);
    }
    for (unsigned slot = 0; rc >= 0 && write && slot < ENCRYPT_SLOTS; slot++) {
        char name[ENCRYPT_DEVICE_BYTES];

        encrypt_device(s->vni, slot, name);
        if (!s->used[slot])
            remove_device(x, links_by_name(&links, name));
    }
    (void)nl_commit(&x->rt);
    links_deinit(&links);
    return rc < 0 ? rc : differing + rc;
}

/* Named as ours, and of no network that is here. */
static bool is_left(const struct encrypt *x, const struct link *l)
{
    const size_t skip = strlen(DEVICE);
    char *end = NULL;

    if (strncmp(l->name, DEVICE, skip) != 0 || strcmp(l->kind, "wireguard") != 0)
        return false;
    unsigned long vni = strtoul(l->name + skip, &end, 16);

    /* The letter of a slot is a digit too. */
    return end[0] == '\0' &&
           encrypt_by_tag(x, (uint32_t)ENCRYPT_TAG | (uint32_t)(vni >> 4)) == NULL;
}

int encrypt_wg_sweep(struct encrypt *x, struct err *e)
{
    struct links links = { 0 };
    int rc = links_load(&links, &x->rt, e);

    for (size_t i = 0; rc == 0 && i < links.count; i++)
        if (is_left(x, &links.items[i]))
            remove_device(x, &links.items[i]); /* and its route */
    if (rc == 0)
        rc = nl_commit_all(&x->rt, e, "remove tunnels");
    links_deinit(&links);
    return rc == 0 ? encrypt_rules_sweep(x, e) : rc;
}
