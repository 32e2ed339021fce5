/* What encrypt.c (which networks, the nft table) shares with the two tunnels. */
#ifndef SKEP_AGENTD_NET_ENCRYPT_INTERNAL_H
#define SKEP_AGENTD_NET_ENCRYPT_INTERNAL_H

#include "agentd/net/encrypt.h"
#include "agentd/net/keeper.h"
#include "agentd/net/wireguard.h"
#include "agentd/net/xfrm.h"
#include "common/id.h"

enum {
    ENCRYPT_SLOTS = 2,         /* WireGuard devices per network: even and odd epochs */
    ENCRYPT_DEVICE_BYTES = 16, /* IFNAMSIZ */
    ENCRYPT_PREFERENCE = 5200, /* of the rules into tunnels; the next one: that prohibit */
    ENCRYPT_PROBLEM_BYTES = ERR_MESSAGE_BYTES_MAX,
};

/* Public keys of one epoch, in order of node: a computation takes a millisecond (X25519). */
struct known_keys {
    struct encrypt_secret secret; /* its network_id is not used; all zero: none yet */
    struct known_key {
        char node_id[ID_CHARS + 1];
        uint8_t public_key[ENCRYPT_X25519_BYTES];
    } * items;
    size_t count;
};

/* One encrypted network that is here. */
struct secured {
    char *id;
    uint32_t vni, mtu;
    uint16_t port;               /* of its VXLAN */
    const struct net_plan *plan; /* during encrypt_apply() only */
    struct xfrm_set esp;         /* wanted */
    struct wg_state wg[ENCRYPT_SLOTS];
    struct known_keys known[ENCRYPT_SLOTS];
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
    char instance[ENCRYPT_INSTANCE_BYTES]; /* kind "esp" */
    uint8_t marker[ENCRYPT_ESP_BYTES];
    bool marked; /* the kernel has it */
    bool ending; /* nothing is to stay */
    bool swept;  /* what nobody needs was looked for */
    const char *self;
};

static inline uint32_t encrypt_tag(const struct secured *s)
{
    return (uint32_t)ENCRYPT_TAG | s->vni;
}
/* The network of a tag, NULL = none here. */
const struct secured *encrypt_by_tag(const struct encrypt *x, uint32_t tag);
void encrypt_forget_keys(struct known_keys *k);
void encrypt_device(uint32_t vni, unsigned slot, char ret[ENCRYPT_DEVICE_BYTES]);

/* Each: want fills the wanted state from s->plan; program makes the kernel so (write) or only
 * counts (write false): differences, or -ERR_*; sweep removes what no network of x has. */
int encrypt_wg_want(struct encrypt *x, struct secured *s, struct err *e) MUST_CHECK;
int encrypt_wg_program(struct encrypt *x, struct secured *s, bool write, struct err *e) MUST_CHECK;
int encrypt_wg_sweep(struct encrypt *x, struct err *e) MUST_CHECK;
int encrypt_esp_want(struct encrypt *x, struct secured *s, struct err *e) MUST_CHECK;
int encrypt_esp_program(struct encrypt *x, struct secured *s, bool write, struct err *e) MUST_CHECK;
/* Learns x->instance from the kernel, or chooses one; marks the kernel with it; takes another. */
enum encrypt_instance_step {
    ENCRYPT_INSTANCE_LEARN,
    ENCRYPT_INSTANCE_MARK,
    ENCRYPT_INSTANCE_RENEW
};
int encrypt_esp_instance(struct encrypt *x, enum encrypt_instance_step step,
                         struct err *e) MUST_CHECK;
int encrypt_esp_sweep(struct encrypt *x, struct err *e) MUST_CHECK;

/* Routing rules of the WireGuard tunnels (encrypt_rules.c): as encrypt_wg_*. */
int encrypt_rules_program(struct encrypt *x, const struct secured *s, bool write,
                          struct err *e) MUST_CHECK;
int encrypt_rules_sweep(struct encrypt *x, struct err *e) MUST_CHECK;

#endif
