/* Encrypted networks: their VXLAN has a UDP port of its own, source and destination, and what is
 * sent by it from host to host goes through WireGuard where the kernel has it, else through ESP.
 * VXLAN itself knows nothing of it. network.md §3.8.
 *
 *   WireGuard: rule udp, port to port -> table of the network -> device skw<VNI><a|b>, a peer's
 * VXLAN address behind each peer; a second rule prohibits what found no route there. Epochs
 * alternate between a and b: both receive, the route says which one sends.
 *   ESP: policies for the port, transport mode between the VXLAN addresses; associations of all
 * epochs receive, the policy says by which SPI is sent; a last policy blocks what has no other.
 * The peers must know this host's instance (encrypt_instance()).
 *   host's nft table skep-encrypt (family ip), the second line for both
 *     leave        udp, port to port, and not on its way into the tunnel: drop
 *     arrive       … and not out of the tunnel: drop
 *
 * It fails closed, twice: whoever flushes the host's nftables, or its rules, devices or IPsec
 * state, stops the network until that is repaired, and no packet leaves in clear. All of it is
 * there before the VXLAN device is, also when no tunnel can be made; then encrypt_problem() says
 * why and no task may be attached. Keys come from the managers a minute before anybody sends by
 * them, so a rotation loses nothing. Loop thread. */
#ifndef SKEP_AGENTD_NET_ENCRYPT_H
#define SKEP_AGENTD_NET_ENCRYPT_H

#include "agentd/net/differences.h"
#include "agentd/netplan/plan.h"

/* | VNI: number of the routing table, or reqid of the associations: how a network's are known. */
enum { ENCRYPT_TAG = 0x5e000000, ENCRYPT_INSTANCE_BYTES = 32 };

struct encrypt;

/* Every call takes a NULL encrypt: then nothing can be encrypted. host_ns: borrowed. Finds out what
 * the kernel has; NULL with e set when not even that can be asked.
 */
struct encrypt *encrypt_new(int host_ns, struct err *e);
/* keep: the kernel stays as it is; else all that is ours goes. */
void encrypt_free(struct encrypt *x, bool keep);
/* "wireguard", "esp" or "": what NodeNetwork.encryption says. */
const char *encrypt_kind(const struct encrypt *x);
/* What NodeNetwork.encryption_instance says: changes when the keys have to. */
const char *encrypt_instance(const struct encrypt *x);

/* All plans of this host; those that are not encrypted are passed over. complete: networks without
 * a plan are no more, and whatever of them stands in the kernel goes, also what an agent before
 * this one made. To be called before a network's VXLAN device is made and after it was removed. An
 * error of one network is its encrypt_problem(); the others are done all the same. Cheap when
 * nothing changed. */
void encrypt_apply(struct encrypt *x, const struct net_plan *const *plans, size_t count,
                   bool complete, const char *self_node_id);
/* "" = what this network sends is encrypted; else why nothing may be attached to it. Valid until
 * the next encrypt_apply(). */
const char *encrypt_problem(const struct encrypt *x, const char *network_id);
/* Compares with the kernel; d (may be NULL) is told what differs; repair: and mends it. Returns how
 * many differences there are, or -ERR_*. After differences, encrypt_apply() has to follow: lost
 * IPsec state is made anew by that. */
int encrypt_check(struct encrypt *x, bool repair, struct differences *d, struct err *e);

#endif
