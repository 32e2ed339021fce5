/* How tasks reach the world: the host's half of the links to the routers. Their addresses and
 * routes, forwarding, a masquerade for what comes from the links (nft table skep-egress), and,
 * where the host's iptables forwards nothing by itself (Docker sets FORWARD to DROP), rules that
 * let the links through. An accept in one nftables table does not undo a drop in another, so these
 * go into the chains of iptables themselves, in a form that iptables also reads and writes. Loop
 * thread. */
#ifndef SKEP_AGENTD_NET_EGRESS_H
#define SKEP_AGENTD_NET_EGRESS_H

#include "agentd/net/differences.h"
#include "agentd/net/entry.h"
#include "agentd/net/keeper.h"
#include "agentd/net/nl.h"

struct egress_link {
    uint32_t index;
    int device; /* of the host's end */
};

struct egress {
    int ns;
    struct nl *nl; /* in the host's namespace; borrowed */
    struct nft *nft;
    struct keeper table;
    uint32_t filter_generation; /* of nftables when iptables' chains were looked at; 0 = never */
    struct entries want, found, programmed;
    bool known;
    struct egress_link *links;
    size_t link_count;
};

/* ns and nl: of the host; borrowed. */
int egress_open(struct egress *x, int ns, struct nl *nl, struct err *e) MUST_CHECK;
/* keep: the kernel stays as it is. */
void egress_close(struct egress *x, bool keep);
/* All links there are, in any order. Does nothing when they are those of the last call. */
int egress_apply(struct egress *x, const struct egress_link *links, size_t count,
                 struct err *e) MUST_CHECK;
/* As overlay_check(). */
int egress_check(struct egress *x, bool repair, struct differences *d, uint32_t *ret_found,
                 struct err *e) MUST_CHECK;

/* ---- iptables' chains (forward.c) ---- */

/* Looks whether FORWARD of iptables (nftables' tables of that name) lets the links through. repair:
 * inserts the rules. *ret_changed: they were missing. */
int forward_check(struct nft *nft, bool repair, bool *ret_changed, struct err *e) MUST_CHECK;
/* Removes them. */
void forward_remove(struct nft *nft);

#endif
