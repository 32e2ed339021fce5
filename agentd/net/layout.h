/* Names and numbers that the parts of agentd/net share: devices, routing tables, marks. All of them
 * live in namespaces of ours (R: a network's router; L: its IPVS balancer), so they cannot meet an
 * operator's own; in the host's namespace only the links and the nft table `skep-ingress` are ours.
 *
 *   host ns     link (169.254.x.1) ---- up0 (169.254.x.2)            one pair per network
 *   R           vxlan0, up0, a veth per task, lb0 (169.254.7.1)
 *   L           o0 (169.254.7.2); virtual addresses and the mesh address on lo     (IPVS only)
 */
#ifndef SKEP_AGENTD_NET_LAYOUT_H
#define SKEP_AGENTD_NET_LAYOUT_H

#define LAYOUT_VXLAN "vxlan0"
#define LAYOUT_UPLINK "up0"
#define LAYOUT_HOST_LINK "sk"    /* and the network's index: the host's end of up0 */
#define LAYOUT_TO_BALANCER "lb0" /* in R */
#define LAYOUT_TO_ROUTER "o0"    /* in L */

/* Inside R and L only; the host's link addresses must not be these. */
#define LAYOUT_ROUTER_ADDRESS "169.254.7.1"   /* of lb0 */
#define LAYOUT_BALANCER_ADDRESS "169.254.7.2" /* of o0 */
#define LAYOUT_MESH_ADDRESS "169.254.7.9"     /* in L: published ports */

/* nft tables of family ip. */
#define LAYOUT_TABLE "skep"                 /* in R and in L: the balancer's */
#define LAYOUT_INGRESS_TABLE "skep-ingress" /* in the host's namespace */

enum {
    /* rtm_protocol: who made a route. Each part compares and removes its own only. */
    LAYOUT_PROTOCOL_NET = 77,      /* agentd/net/net.c and its parts */
    LAYOUT_PROTOCOL_BALANCER = 78, /* virtual addresses, steering (route and rule) */

    /* Marks of packets and connections in R. The low half is the index (from 1) of the peer that a
     * connection came in by: preserved client addresses. */
    LAYOUT_MARK_PEER_MASK = 0xffff,
    LAYOUT_MARK_STEER = 0x20000, /* came out of L: replies go back there */
    LAYOUT_MARK_SNAT = 0x40000,  /* leaves with the node's own address in the network */

    /* Routing tables and rule preferences in R; 32766 and up are the kernel's. */
    LAYOUT_STEER_TABLE = 200, /* default via L */
    LAYOUT_STEER_PREFERENCE = 90,
    LAYOUT_PEER_TABLE = 1000, /* + index: default via that peer */
    LAYOUT_PEER_PREFERENCE = 100,
};

#endif
