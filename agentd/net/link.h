/* Network devices: what is there, and messages that make and change them (rtnetlink RTM_*LINK; the
 * attributes are those of linux/if_link.h). The functions that put add one message to the batch of
 * a socket; nl_commit() sends. */
#ifndef SKEP_AGENTD_NET_LINK_H
#define SKEP_AGENTD_NET_LINK_H

#include "agentd/net/nl.h"
#include "agentd/net/place.h"
#include "common/ip.h"

enum { LINK_ALIAS_BYTES = 64, LINKS_MAX = 100000 };

struct link {
    int index;
    char name[PLACE_NAME_BYTES], kind[PLACE_NAME_BYTES];
    char alias[LINK_ALIAS_BYTES];
    uint32_t mtu;
    bool up, running;
    uint8_t mac[6];
    /* kind vxlan */
    uint32_t vni;
    uint16_t port;
    struct ip local;
    bool learning, df;
    uint16_t source_port; /* 0: any of a range */
};

struct links { /* in no order */
    struct link *items;
    size_t count, capacity;
};
void links_deinit(struct links *l);
/* Replaces the content by all devices of the socket's namespace. */
int links_load(struct links *l, struct nl *n, struct err *e) MUST_CHECK;
const struct link *links_by_name(const struct links *l, const char *name);
const struct link *links_by_index(const struct links *l, int index);
/* The device whose alias is "skep <id>". */
const struct link *links_by_tag(const struct links *l, const char *id);
/* One device of the namespace: -ERR_NOT_FOUND. */
int link_find(struct nl *n, const char *name, struct link *ret, struct err *e) MUST_CHECK;
/* The id in a device's alias, NULL = not ours. */
const char *link_tag(const struct link *l);

struct link_veth {
    const char *name, *peer_name;
    int peer_ns; /* where the peer is made */
    uint32_t mtu;
    const uint8_t *mac, *peer_mac; /* NULL = as the kernel likes */
};
void link_put_veth(struct nl *n, const struct link_veth *v, uint32_t tag);

struct link_vxlan {
    const char *name;
    int ns; /* where the device is made; its packets stay in the socket's namespace */
    uint32_t vni, mtu;
    uint16_t port;
    bool same_port;  /* sends from that port too */
    struct ip local; /* family 0 = by route */
    bool v6;         /* of the addresses between which packets go */
    const uint8_t *mac;
};
void link_put_vxlan(struct nl *n, const struct link_vxlan *v, uint32_t tag);

struct link_change { /* of a device that exists; zero values leave it as it is */
    int index;
    const char *tag; /* the alias becomes "skep <tag>" */
    uint32_t mtu;
    const uint8_t *mac;
    bool up;
};
void link_put_change(struct nl *n, const struct link_change *c, uint32_t tag);
void link_put_delete(struct nl *n, int index, uint32_t tag);

#endif
