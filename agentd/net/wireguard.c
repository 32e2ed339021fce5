#include "agentd/net/wireguard.h"

#include <linux/genetlink.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/wireguard.h>
#include <mbedtls/platform_util.h>
#include <netinet/in.h>
#include <string.h>

#include "agentd/net/link.h"

int wg_open(struct genl *g, int netns_fd, struct err *e)
{
    return genl_open(g, WG_GENL_NAME, WG_GENL_VERSION, netns_fd, e);
}

/* ---- states ---- */

void wg_deinit(struct wg_state *s)
{
    mbedtls_platform_zeroize(s->private_key, sizeof(s->private_key));
    free(s->peers);
    s->peers = NULL;
    s->peer_count = 0;
}

struct wg_peer *wg_add_peer(struct wg_state *s)
{
    s->peers = xrealloc_array(s->peers, s->peer_count + 1, sizeof(*s->peers));
    s->peers[s->peer_count] = (struct wg_peer){ .port = 0 };
    return &s->peers[s->peer_count++];
}

static int compare_peers(const void *a, const void *b)
{
    return memcmp(((const struct wg_peer *)a)->public_key, ((const struct wg_peer *)b)->public_key,
                  ENCRYPT_X25519_BYTES);
}

void wg_sort(struct wg_state *s)
{
    if (s->peer_count > 1)
        qsort(s->peers, s->peer_count, sizeof(*s->peers), compare_peers);
}

/* ---- reading ---- */

static void read_endpoint(const struct nlattr *a, struct wg_peer *p)
{
    const void *payload = mnl_attr_get_payload(a);

    if (mnl_attr_get_payload_len(a) == sizeof(struct sockaddr_in)) {
        const struct sockaddr_in *v4 = payload;

        p->endpoint = ip_from_v4(&v4->sin_addr);
        p->port = ntohs(v4->sin_port);
    } else if (mnl_attr_get_payload_len(a) == sizeof(struct sockaddr_in6)) {
        const struct sockaddr_in6 *v6 = payload;

        p->endpoint = ip_from_v6(&v6->sin6_addr);
        p->port = ntohs(v6->sin6_port);
    }
}

/* One allowed address with its whole length is ours; anything else counts as none. */
static void read_allowed(const struct nlattr *list, struct wg_peer *p)
{
    const struct nlattr *item, *a;
    struct ip found = { 0 };
    unsigned count = 0, prefix = 0;

    mnl_attr_for_each_nested(item, list)
    {
        count++;
        mnl_attr_for_each_nested(a, item)
        {
            if (mnl_attr_get_type(a) == WGALLOWEDIP_A_CIDR_MASK)
                prefix = mnl_attr_get_u8(a);
            else if (mnl_attr_get_type(a) == WGALLOWEDIP_A_IPADDR)
                found = mnl_attr_get_payload_len(a) == 4 ? ip_from_v4(mnl_attr_get_payload(a))
                                                         : ip_from_v6(mnl_attr_get_payload(a));
        }
    }
    if (count == 1 && prefix == ip_bits(&found))
        p->allowed = found;
}

static void read_peer(const struct nlattr *peer, struct wg_state *s)
{
    const struct nlattr *a;
    struct wg_peer p = { .port = 0 };

    mnl_attr_for_each_nested(a, peer)
    {
        if (mnl_attr_get_type(a) == WGPEER_A_PUBLIC_KEY &&
            mnl_attr_get_payload_len(a) == sizeof(p.public_key))
            memcpy(p.public_key, mnl_attr_get_payload(a), sizeof(p.public_key));
        else if (mnl_attr_get_type(a) == WGPEER_A_ENDPOINT)
            read_endpoint(a, &p);
        else if (mnl_attr_get_type(a) == WGPEER_A_ALLOWEDIPS)
            read_allowed(a, &p);
    }
    if (s->peer_count > 0 && compare_peers(&s->peers[s->peer_count - 1], &p) == 0)
        s->peers[s->peer_count - 1].allowed = (struct ip){ 0 }; /* more of it: not as we made it */
    else
        *wg_add_peer(s) = p;
}

static int on_device(const struct nlattr *a, void *ctx)
{
    struct wg_state *s = ctx;
    const struct nlattr *peer;

    if (mnl_attr_get_type(a) == WGDEVICE_A_PRIVATE_KEY &&
        mnl_attr_get_payload_len(a) == sizeof(s->private_key))
        memcpy(s->private_key, mnl_attr_get_payload(a), sizeof(s->private_key));
    else if (mnl_attr_get_type(a) == WGDEVICE_A_LISTEN_PORT)
        s->port = mnl_attr_get_u16(a);
    else if (mnl_attr_get_type(a) == WGDEVICE_A_PEERS)
        mnl_attr_for_each_nested(peer, a) read_peer(peer, s);
    return MNL_CB_OK;
}

static void on_message(void *ctx, const struct nlmsghdr *h)
{
    struct wg_state *s = ctx;

    if (h == NULL)
        wg_deinit(s);
    else
        (void)mnl_attr_parse(h, sizeof(struct genlmsghdr), on_device, s);
}

int wg_read(struct genl *g, const char *device, struct wg_state *ret, struct err *e)
{
    struct nl_request r;
    struct nlmsghdr *h = genl_request(g, &r, WG_CMD_GET_DEVICE, NLM_F_DUMP);

    memset(ret, 0, sizeof(*ret));
    mnl_attr_put_strz(h, WGDEVICE_A_IFNAME, device);
    int rc = nl_ask(&g->nl, &r, on_message, ret, e);

    wg_sort(ret);
    return rc < 0 ? err_wrap(e, rc, "read %s", device) : 0;
}

/* ---- writing ---- */

static void put_endpoint(struct nlmsghdr *h, const struct wg_peer *p)
{
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(p->port) };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(p->port) };

    if (p->endpoint.family == IP_V4) {
        memcpy(&v4.sin_addr, p->endpoint.bytes, 4);
        mnl_attr_put(h, WGPEER_A_ENDPOINT, sizeof(v4), &v4);
    } else {
        memcpy(&v6.sin6_addr, p->endpoint.bytes, 16);
        mnl_attr_put(h, WGPEER_A_ENDPOINT, sizeof(v6), &v6);
    }
}

/* One message per peer: they fit whatever their number. */
static void put_peer(struct genl *g, const char *device, const struct wg_peer *p, uint32_t flags)
{
    struct nlmsghdr *h = genl_message(g, WG_CMD_SET_DEVICE, 0);

    mnl_attr_put_strz(h, WGDEVICE_A_IFNAME, device);
    struct nlattr *peers = mnl_attr_nest_start(h, WGDEVICE_A_PEERS);
    struct nlattr *peer = mnl_attr_nest_start(h, 0);
    mnl_attr_put(h, WGPEER_A_PUBLIC_KEY, sizeof(p->public_key), p->public_key);
    mnl_attr_put_u32(h, WGPEER_A_FLAGS, flags);
    if ((flags & WGPEER_F_REMOVE_ME) == 0) {
        put_endpoint(h, p);
        struct nlattr *list = mnl_attr_nest_start(h, WGPEER_A_ALLOWEDIPS);
        struct nlattr *item = mnl_attr_nest_start(h, 0);
        mnl_attr_put_u16(h, WGALLOWEDIP_A_FAMILY, p->allowed.family == IP_V4 ? AF_INET : AF_INET6);
        mnl_attr_put(h, WGALLOWEDIP_A_IPADDR, ip_bytes(&p->allowed), p->allowed.bytes);
        mnl_attr_put_u8(h, WGALLOWEDIP_A_CIDR_MASK, (uint8_t)ip_bits(&p->allowed));
        mnl_attr_nest_end(h, item);
        mnl_attr_nest_end(h, list);
    }
    mnl_attr_nest_end(h, peer);
    mnl_attr_nest_end(h, peers);
}

static void put_device(struct genl *g, const char *device, const struct wg_state *want)
{
    struct nlmsghdr *h = genl_message(g, WG_CMD_SET_DEVICE, 0);

    mnl_attr_put_strz(h, WGDEVICE_A_IFNAME, device);
    mnl_attr_put_u32(h, WGDEVICE_A_FLAGS, 0);
    mnl_attr_put(h, WGDEVICE_A_PRIVATE_KEY, sizeof(want->private_key), want->private_key);
    mnl_attr_put_u16(h, WGDEVICE_A_LISTEN_PORT, want->port);
}

/* An endpoint may roam in the kernel; ours do not, but a difference is only what we would set. */
static bool peer_differs(const struct wg_peer *have, const struct wg_peer *want)
{
    return !ip_equal(&have->endpoint, &want->endpoint) || have->port != want->port ||
           !ip_equal(&have->allowed, &want->allowed);
}

static int program_peers(struct genl *g, const char *device, const struct wg_state *have,
                         const struct wg_state *want, bool write)
{
    size_t h = 0, w = 0;
    int differing = 0;

    while (h < have->peer_count || w < want->peer_count) {
        int order = h == have->peer_count   ? 1
                    : w == want->peer_count ? -1
                                            : compare_peers(&have->peers[h], &want->peers[w]);
        bool put = order > 0 || (order == 0 && peer_differs(&have->peers[h], &want->peers[w]));

        differing += order != 0 || put;
        if (write && order < 0)
            put_peer(g, device, &have->peers[h], WGPEER_F_REMOVE_ME);
        else if (write && put)
            put_peer(g, device, &want->peers[w], WGPEER_F_REPLACE_ALLOWEDIPS);
        h += order <= 0;
        w += order >= 0;
    }
    return differing;
}

int wg_program(struct genl *g, const char *device, const struct wg_state *have,
               const struct wg_state *want, bool write, struct err *e)
{
    bool device_differs = have->port != want->port || memcmp(have->private_key, want->private_key,
                                                             sizeof(want->private_key)) != 0;

    if (device_differs && write)
        put_device(g, device, want);
    int differing = device_differs + program_peers(g, device, have, want, write);
    int rc = nl_commit_all(&g->nl, e, "set up %s", device);

    return rc < 0 ? rc : differing;
}

int wg_create(struct nl *rt, const char *device, uint32_t mtu, struct err *e)
{
    struct ifinfomsg none = { .ifi_family = AF_UNSPEC };
    struct nlmsghdr *h =
        nl_message(rt, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &none, sizeof(none), 0);

    mnl_attr_put_strz(h, IFLA_IFNAME, device);
    mnl_attr_put_u32(h, IFLA_MTU, mtu);
    struct nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO);
    mnl_attr_put_strz(h, IFLA_INFO_KIND, "wireguard");
    mnl_attr_nest_end(h, info);
    rt->slots[rt->count - 1].exists_ok = true;
    return nl_commit_all(rt, e, "make %s", device);
}
