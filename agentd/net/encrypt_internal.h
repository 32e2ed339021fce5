/* What encrypt.c (which networks, the nft table) shares with the two tunnels. */
#ifndef SKEP_AGENTD_NET_ENCRYPT_INTERNAL_H
#define SKEP_AGENTD_NET_ENCRYPT_INTERNAL_H

#include "agentd/net/encrypt.h"
#include "agentd/net/keeper.h"
#include "agentd/net/wireguard.h"
#include "agentd/net/xfrm.h"

enum {
    ENCRYPT_SLOTS = 2,         /* WireGuard devices per network: even and odd epochs */
    ENCRYPT_DEVICE_BYTES = 16, /* IFNAMSIZ */
    ENCRYPT_PREFERENCE = 5200, /* of the rules for marks */
    ENCRYPT_PROBLEM_BYTES = ERR_MESSAGE_BYTES_MAX,
};

/* One encrypted network that is here. */
struct secured {
    char *id;
    uint32_t vni, mtu;
    uint16_t vxlan_port;
    const struct net_plan *plan; /* during encrypt_apply() only */
    struct xfrm_set esp;         /* wanted */
    struct wg_state wg[ENCRYPT_SLOTS];
    bool used[ENCRYPT_SLOTS]; /* there is an epoch for the device */
    uint8_t send;             /* the device that sends */
    bool done;                /* programmed as wanted */
    bool here;                /* still among the plans */
    uint8_t digest[32];       /* of what the wanted state was made from */
    char problem[ENCRYPT_PROBLEM_BYTES];
};

struct encrypt {
    int host_ns;
    const char *kind;
    char why_none[ENCRYPT_PROBLEM_BYTES]; /* kind "" */
    struct nl rt, xfrm;
    struct genl wg;
    struct nft *nft;
    struct keeper table;
    struct secured **items;
    size_t count;
    const char *self;
};

static inline uint32_t encrypt_mark(const struct secured *s)
{
    return (uint32_t)ENCRYPT_MARK | s->vni;
}
void encrypt_device(const struct secured *s, unsigned slot, char ret[ENCRYPT_DEVICE_BYTES]);

/* Each: want fills the wanted state from s->plan; program makes the kernel so (write) or only
 * counts (write false): differences, or -ERR_*; remove takes all of the network away. */
int encrypt_wg_want(struct encrypt *x, struct secured *s, struct err *e) MUST_CHECK;
int encrypt_wg_program(struct encrypt *x, struct secured *s, bool write, struct err *e) MUST_CHECK;
void encrypt_wg_remove(struct encrypt *x, struct secured *s);
int encrypt_esp_want(struct encrypt *x, struct secured *s, struct err *e) MUST_CHECK;
int encrypt_esp_program(struct encrypt *x, struct secured *s, bool write, struct err *e) MUST_CHECK;
void encrypt_esp_remove(struct encrypt *x, struct secured *s);

#endif
