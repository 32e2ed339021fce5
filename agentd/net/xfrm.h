/* ESP between VXLAN addresses (linux/xfrm.h): transport mode, AES-256-GCM with extended sequence
 * numbers, one security association per direction and epoch, one outgoing policy per peer for UDP
 * from the network's port to that port, and one that blocks what else goes so. IPv4. Loop thread.
 */
#ifndef SKEP_AGENTD_NET_XFRM_H
#define SKEP_AGENTD_NET_XFRM_H

#include "agentd/net/encrypt_keys.h"
#include "agentd/net/nl.h"

/* One that is not wanted any more stays until its keys are certainly no longer in use: were it made
 * again with them, its sequence numbers would start again (encrypt_esp.c). */
enum { XFRM_KEEP_SECONDS = 48 * 3600 };

struct xfrm_sa {
    struct ip from, to;
    struct encrypt_esp esp;
    bool old; /* read: made more than XFRM_KEEP_SECONDS ago */
};

struct xfrm_policy {
    struct ip from, to; /* family 0: any; what goes by this one is blocked */
    uint16_t port;      /* UDP, source and destination */
    uint32_t spi;       /* of the association that it sends by */
};

struct xfrm_set { /* of one network; sorted */
    struct xfrm_sa *sas;
    size_t sa_count;
    struct xfrm_policy *policies;
    size_t policy_count;
};

void xfrm_deinit(struct xfrm_set *s);
struct xfrm_sa *xfrm_add_sa(struct xfrm_set *s);
struct xfrm_policy *xfrm_add_policy(struct xfrm_set *s);
void xfrm_sort(struct xfrm_set *s);
int xfrm_compare_sas(const struct xfrm_sa *a, const struct xfrm_sa *b); /* as sorted */

/* Of one network: tag is the associations' reqid. x: opened with NETLINK_XFRM. */
struct xfrm_scope {
    uint32_t tag;
    uint16_t port;
};
int xfrm_read(struct nl *x, const struct xfrm_scope *scope, struct xfrm_set *ret,
              struct err *e) MUST_CHECK;
/* Makes the kernel like want: associations first, then policies, then what is too many (of the
 * associations: and old). Returns how many things differed (with write false nothing is changed),
 * or -ERR_*. */
int xfrm_program(struct nl *x, uint32_t tag, const struct xfrm_set *have,
                 const struct xfrm_set *want, bool write, struct err *e) MUST_CHECK;
/* Removes what is Skep's (tag_base is in the tag) but not to be kept; all: young associations too.
 * tag or port may be 0: unknown. */
typedef bool xfrm_keep_fn(void *ctx, uint32_t tag, uint16_t port);
struct xfrm_broom {
    uint32_t tag_base;
    bool all;
    xfrm_keep_fn *keep;
    void *ctx;
};
int xfrm_sweep(struct nl *x, const struct xfrm_broom *b, struct err *e) MUST_CHECK;

/* 0: this kernel can (an association of the wanted kind is made and removed in the namespace). */
int xfrm_probe(struct nl *x, struct err *e) MUST_CHECK;

#endif
