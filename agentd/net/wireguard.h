/* WireGuard devices by generic netlink (linux/wireguard.h): what one should be, what it is, and the
 * difference. Peers that stay are not touched, so their sessions go on. Loop thread. */
#ifndef SKEP_AGENTD_NET_WIREGUARD_H
#define SKEP_AGENTD_NET_WIREGUARD_H

#include "agentd/net/encrypt_keys.h"
#include "agentd/net/genl.h"

struct wg_peer {
    uint8_t public_key[ENCRYPT_X25519_BYTES];
    struct ip endpoint;
    uint16_t port;
    struct ip allowed; /* the only address behind it; family 0: none or something else */
};

struct wg_state {
    uint8_t private_key[ENCRYPT_X25519_BYTES];
    uint16_t port;         /* listens here */
    struct wg_peer *peers; /* sorted by public key */
    size_t peer_count;
};

int wg_open(struct genl *g, int netns_fd, struct err *e) MUST_CHECK; /* as genl_open() */

void wg_deinit(struct wg_state *s);
/* Room for one more; sort when all are there. */
struct wg_peer *wg_add_peer(struct wg_state *s);
void wg_sort(struct wg_state *s);

/* -ERR_NOT_FOUND: no such device. */
int wg_read(struct genl *g, const char *device, struct wg_state *ret, struct err *e) MUST_CHECK;
/* Makes the device like want; have: what wg_read() said. Returns how many things differed (with
 * write false nothing is changed), or -ERR_*. */
int wg_program(struct genl *g, const char *device, const struct wg_state *have,
               const struct wg_state *want, bool write, struct err *e) MUST_CHECK;

/* A device of this name in the namespace of the rtnetlink socket; it may exist. */
int wg_create(struct nl *rt, const char *device, uint32_t mtu, struct err *e) MUST_CHECK;

#endif
