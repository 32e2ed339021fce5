#include "agentd/net/link.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <stdio.h>
#include <string.h>

/* ---- reading --------------------------------------------------------------------------------- */

static void copy_text(char *to, size_t size, const struct nlattr *a)
{
    if (mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0 ||
        mnl_attr_validate(a, MNL_TYPE_STRING) >= 0)
        (void)snprintf(to, size, "%.*s", (int)mnl_attr_get_payload_len(a),
                       (const char *)mnl_attr_get_payload(a));
}

static uint32_t number(const struct nlattr *a)
{
    switch (mnl_attr_get_payload_len(a)) {
    case 1:
        return mnl_attr_get_u8(a);
    case 2:
        return mnl_attr_get_u16(a);
    case 4:
        return mnl_attr_get_u32(a);
    default:
        return 0;
    }
}

static int on_vxlan(const struct nlattr *a, void *ctx)
{
    struct link *l = ctx;
    const void *mem = mnl_attr_get_payload(a);

    switch (mnl_attr_get_type(a)) {
    case IFLA_VXLAN_ID:
        l->vni = number(a);
        break;
    case IFLA_VXLAN_PORT: /* network order */
        l->port = (uint16_t)__builtin_bswap16((uint16_t)number(a));
        break;
    case IFLA_VXLAN_PORT_RANGE:
        if (mnl_attr_get_payload_len(a) == sizeof(struct ifla_vxlan_port_range)) {
            const struct ifla_vxlan_port_range *range = mem;

            uint16_t low = __builtin_bswap16(range->low), high = __builtin_bswap16(range->high);

            l->source_port = high == low + 1 ? low : 0; /* the kernel never takes the last one */
        }
        break;
    case IFLA_VXLAN_LOCAL:
        if (mnl_attr_get_payload_len(a) == 4)
            l->local = ip_from_v4(mem);
        break;
    case IFLA_VXLAN_LOCAL6:
        if (mnl_attr_get_payload_len(a) == 16)
            l->local = ip_from_v6(mem);
        break;
    case IFLA_VXLAN_LEARNING:
        l->learning = number(a) != 0;
        break;
    case IFLA_VXLAN_DF:
        l->df = number(a) == VXLAN_DF_SET;
        break;
    default:
        break;
    }
    return MNL_CB_OK;
}

struct info {
    struct link *link;
    const struct nlattr *data;
};

static int on_info(const struct nlattr *a, void *ctx)
{
    struct info *i = ctx;

    if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
        copy_text(i->link->kind, sizeof(i->link->kind), a);
    else if (mnl_attr_get_type(a) == IFLA_INFO_DATA)
        i->data = a;
    return MNL_CB_OK;
}

static int on_attribute(const struct nlattr *a, void *ctx)
{
    struct link *l = ctx;
    struct info i = { .link = l };

    switch (mnl_attr_get_type(a)) {
    case IFLA_IFNAME:
        copy_text(l->name, sizeof(l->name), a);
        break;
    case IFLA_IFALIAS:
        copy_text(l->alias, sizeof(l->alias), a);
        break;
    case IFLA_MTU:
        l->mtu = number(a);
        break;
    case IFLA_ADDRESS:
        if (mnl_attr_get_payload_len(a) == sizeof(l->mac))
            memcpy(l->mac, mnl_attr_get_payload(a), sizeof(l->mac));
        break;
    case IFLA_LINKINFO:
        (void)mnl_attr_parse_nested(a, on_info, &i);
        if (i.data != NULL && strcmp(l->kind, "vxlan") == 0)
            (void)mnl_attr_parse_nested(i.data, on_vxlan, l);
        break;
    default:
        break;
    }
    return MNL_CB_OK;
}

static void on_link(void *ctx, const struct nlmsghdr *nlh)
{
    struct links *l = ctx;

    if (nlh == NULL) {
        l->count = 0;
        return;
    }
    const struct ifinfomsg *i = mnl_nlmsg_get_payload(nlh);
    if (nlh->nlmsg_type != RTM_NEWLINK || mnl_nlmsg_get_payload_len(nlh) < sizeof(*i) ||
        l->count == LINKS_MAX)
        return;
    if (l->count == l->capacity) {
        l->capacity = l->capacity == 0 ? 16 : l->capacity * 2;
        l->items = xrealloc_array(l->items, l->capacity, sizeof(*l->items));
    }
    struct link *x = &l->items[l->count++];
    *x = (struct link){ .index = i->ifi_index,
                        .up = (i->ifi_flags & IFF_UP) != 0,
                        .running = (i->ifi_flags & IFF_RUNNING) != 0 };
    (void)mnl_attr_parse(nlh, sizeof(*i), on_attribute, x);
}

void links_deinit(struct links *l)
{
    free(l->items);
    *l = (struct links){ 0 };
}

int links_load(struct links *l, struct nl *n, struct err *e)
{
    struct nl_request r;
    struct ifinfomsg all = { .ifi_family = AF_UNSPEC };

    (void)nl_request(&r, RTM_GETLINK, NLM_F_DUMP, &all, sizeof(all));
    int rc = nl_ask(n, &r, on_link, l, e);
    return rc < 0 ? err_wrap(e, rc, "list devices") : 0;
}

int link_find(struct nl *n, const char *name, struct link *ret, struct err *e)
{
    struct nl_request r;
    struct ifinfomsg any = { .ifi_family = AF_UNSPEC };
    struct links l = { 0 };
    struct nlmsghdr *h = nl_request(&r, RTM_GETLINK, 0, &any, sizeof(any));

    mnl_attr_put_strz(h, IFLA_IFNAME, name);
    int rc = nl_ask(n, &r, on_link, &l, e);
    if (rc == 0 && l.count == 0)
        rc = err_set(e, ERR_NOT_FOUND, "no such device");
    if (rc == 0)
        *ret = l.items[0];
    links_deinit(&l);
    return rc < 0 ? err_wrap(e, rc, "device %s", name) : 0;
}

const struct link *links_by_name(const struct links *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->items[i].name, name) == 0)
            return &l->items[i];
    return NULL;
}

const struct link *links_by_index(const struct links *l, int index)
{
    for (size_t i = 0; i < l->count; i++)
        if (l->items[i].index == index)
            return &l->items[i];
    return NULL;
}

const char *link_tag(const struct link *l)
{
    size_t n = strlen(PLACE_ALIAS);

    return strncmp(l->alias, PLACE_ALIAS, n) == 0 ? l->alias + n : NULL;
}

const struct link *links_by_tag(const struct links *l, const char *id)
{
    for (size_t i = 0; i < l->count; i++) {
        const char *tag = link_tag(&l->items[i]);

        if (tag != NULL && strcmp(tag, id) == 0)
            return &l->items[i];
    }
    return NULL;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void put_mac(struct nlmsghdr *h, const uint8_t *mac)
{
    if (mac != NULL)
        mnl_attr_put(h, IFLA_ADDRESS, 6, mac);
}

void link_put_veth(struct nl *n, const struct link_veth *v, uint32_t tag)
{
    struct ifinfomsg none = { .ifi_family = AF_UNSPEC };
    struct nlmsghdr *h =
        nl_message(n, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &none, sizeof(none), tag);

    mnl_attr_put_strz(h, IFLA_IFNAME, v->name);
    mnl_attr_put_u32(h, IFLA_MTU, v->mtu);
    put_mac(h, v->mac);
    struct nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO);
    mnl_attr_put_strz(h, IFLA_INFO_KIND, "veth");
    struct nlattr *data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
    struct nlattr *peer = mnl_attr_nest_start(h, VETH_INFO_PEER);
    memset(mnl_nlmsg_put_extra_header(h, sizeof(none)), 0, sizeof(none));
    mnl_attr_put_strz(h, IFLA_IFNAME, v->peer_name);
    mnl_attr_put_u32(h, IFLA_MTU, v->mtu);
    put_mac(h, v->peer_mac);
    mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)v->peer_ns);
    mnl_attr_nest_end(h, peer);
    mnl_attr_nest_end(h, data);
    mnl_attr_nest_end(h, info);
}

void link_put_vxlan(struct nl *n, const struct link_vxlan *v, uint32_t tag)
{
    struct ifinfomsg none = { .ifi_family = AF_UNSPEC };
    struct nlmsghdr *h =
        nl_message(n, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &none, sizeof(none), tag);
    const uint8_t any[16] = { 0 };

    mnl_attr_put_strz(h, IFLA_IFNAME, v->name);
    mnl_attr_put_u32(h, IFLA_MTU, v->mtu);
    mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)v->ns);
    put_mac(h, v->mac);
    struct nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO);
    mnl_attr_put_strz(h, IFLA_INFO_KIND, "vxlan");
    struct nlattr *data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
    mnl_attr_put_u32(h, IFLA_VXLAN_ID, v->vni);
    mnl_attr_put_u16(h, IFLA_VXLAN_PORT, __builtin_bswap16(v->port));
    if (v->same_port) {
        const struct ifla_vxlan_port_range range = {
            .low = __builtin_bswap16(v->port), .high = __builtin_bswap16((uint16_t)(v->port + 1))
        };

        mnl_attr_put(h, IFLA_VXLAN_PORT_RANGE, sizeof(range), &range);
    }
    mnl_attr_put_u8(h, IFLA_VXLAN_LEARNING, 0);
    mnl_attr_put_u32(h, IFLA_VXLAN_AGEING, 0);
    if (v->local.family == IP_V4)
        mnl_attr_put(h, IFLA_VXLAN_LOCAL, 4, v->local.bytes);
    else if (v->local.family == IP_V6)
        mnl_attr_put(h, IFLA_VXLAN_LOCAL6, 16, v->local.bytes);
    else if (v->v6)
        mnl_attr_put(h, IFLA_VXLAN_LOCAL6, 16, any);
    if (v->v6) { /* checksums over IPv6 cost and protect nothing that the inner ones do not */
        mnl_attr_put_u8(h, IFLA_VXLAN_UDP_ZERO_CSUM6_TX, 0);
        mnl_attr_put_u8(h, IFLA_VXLAN_UDP_ZERO_CSUM6_RX, 1);
    }
    mnl_attr_put_u8(h, IFLA_VXLAN_DF, VXLAN_DF_SET);
    mnl_attr_nest_end(h, data);
    mnl_attr_nest_end(h, info);
}

void link_put_change(struct nl *n, const struct link_change *c, uint32_t tag)
{
    struct ifinfomsg i = { .ifi_family = AF_UNSPEC,
                           .ifi_index = c->index,
                           .ifi_flags = c->up ? IFF_UP : 0,
                           .ifi_change = c->up ? IFF_UP : 0 };
    struct nlmsghdr *h = nl_message(n, RTM_SETLINK, 0, &i, sizeof(i), tag);
    char alias[LINK_ALIAS_BYTES];

    if (c->mtu != 0)
        mnl_attr_put_u32(h, IFLA_MTU, c->mtu);
    put_mac(h, c->mac);
    if (c->tag != NULL) {
        (void)snprintf(alias, sizeof(alias), PLACE_ALIAS "%s", c->tag);
        mnl_attr_put_str(h, IFLA_IFALIAS, alias);
    }
}

void link_put_delete(struct nl *n, int index, uint32_t tag)
{
    struct ifinfomsg i = { .ifi_family = AF_UNSPEC, .ifi_index = index };

    (void)nl_message(n, RTM_DELLINK, 0, &i, sizeof(i), tag);
}
