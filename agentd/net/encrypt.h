/* Encrypted networks: what their VXLAN sends from host to host is diverted, by its VNI, into
 * WireGuard where the kernel has it, else into ESP. VXLAN itself knows nothing of it. network.md
 * §3.8.
 *
 *   host's nft table skep-encrypt (family ip)
 *     output       udp to the VXLAN port with the VNI: mark = ENCRYPT_MARK | VNI
 *     postrouting  … and not on its way into the tunnel: drop
 *     input        … and not out of the tunnel: drop
 *   WireGuard: rule mark -> table of that number -> device skw<VNI><a|b>, a peer's VXLAN address
 * behind each peer. Epochs alternate between a and b: both receive, the route says which one sends.
 *   ESP: policies for the mark, transport mode between the VXLAN addresses; associations of all
 *   epochs receive, the policy says by which SPI is sent.
 *
 * It fails closed: the drop rules come first and stay while the network is here, also when no
 * tunnel can be made; then encrypt_problem() says why and no task may be attached. Keys come from
 * the managers a minute before anybody sends by them, so a rotation loses nothing. Loop thread. */
#ifndef SKEP_AGENTD_NET_ENCRYPT_H
#define SKEP_AGENTD_NET_ENCRYPT_H

#include "agentd/net/differences.h"
#include "agentd/netplan/plan.h"

enum { ENCRYPT_MARK = 0x5e000000 };

struct encrypt;

/* Every call takes a NULL encrypt: then nothing can be encrypted. host_ns: borrowed. Finds out what
 * the kernel has; NULL with e set when not even that can be asked.
 */
struct encrypt *encrypt_new(int host_ns, struct err *e);
/* keep: the kernel stays as it is; else devices, policies and rules go. */
void encrypt_free(struct encrypt *x, bool keep);
/* "wireguard", "esp" or "": what NodeNetwork.encryption says. */
const char *encrypt_kind(const struct encrypt *x);

/* All plans of this host; those that are not encrypted are passed over. To be called before a
 * network's VXLAN device is made and after it was removed. An error of one network is its
 * encrypt_problem(); the others are done all the same. Cheap when nothing changed. */
void encrypt_apply(struct encrypt *x, const struct net_plan *const *plans, size_t count,
                   const char *self_node_id);
/* "" = what this network sends is encrypted; else why nothing may be attached to it. Valid until
 * the next encrypt_apply(). */
const char *encrypt_problem(const struct encrypt *x, const char *network_id);
/* Compares with the kernel; d (may be NULL) is told what differs; repair: and mends it. Returns how
 * many differences there are, or -ERR_*. */
int encrypt_check(struct encrypt *x, bool repair, struct differences *d, struct err *e);

#endif
