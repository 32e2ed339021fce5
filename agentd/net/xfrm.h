/* ESP between VXLAN addresses (linux/xfrm.h): transport mode, AES-256-GCM with extended sequence
 * numbers, one security association per direction and epoch, one outgoing policy per peer that
 * takes only packets with the network's mark. IPv4. Loop thread. */
#ifndef SKEP_AGENTD_NET_XFRM_H
#define SKEP_AGENTD_NET_XFRM_H

#include "agentd/net/encrypt_keys.h"
#include "agentd/net/nl.h"

struct xfrm_sa {
    struct ip from, to;
    struct encrypt_esp esp;
};

struct xfrm_policy {
    struct ip from, to;
    uint16_t port; /* UDP, destination */
    uint32_t spi;  /* of the association that it sends by */
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

/* rt: opened with NETLINK_XFRM. What carries the mark (associations: as their reqid). */
int xfrm_read(struct nl *x, uint32_t mark, struct xfrm_set *ret, struct err *e) MUST_CHECK;
/* Makes the kernel like want: associations first, then policies, then what is too many. Returns how
 * many things differed (with write false nothing is changed), or -ERR_*. */
int xfrm_program(struct nl *x, uint32_t mark, const struct xfrm_set *have,
                 const struct xfrm_set *want, bool write, struct err *e) MUST_CHECK;

/* 0: this kernel can (an association of the wanted kind is made and removed in the namespace). */
int xfrm_probe(struct nl *x, struct err *e) MUST_CHECK;

#endif
