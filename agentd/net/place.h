/* Where things are: the names, addresses and numbers that all who program the kernel share.
 *
 * Router namespace R, one per network and node, pinned at <run_dir>/netns/<network id>:
 *   vxlan0           to the other nodes; MAC from this node's VXLAN address (place_mac)
 *   v<task id[:14]>  one veth per local task; the other end is ethN in the task's namespace
 *   up0              to the host: router address of the link; the host's end is sk<index>
 *   lo               the gateways of the network (and, in the ingress network, the node's own)
 *   lb0              the balancer's, if it has a namespace of its own
 * Links between R and host are /30s out of 169.254.64.0/18, one per index. Everything tagged:
 * routes by protocol, links by alias, nftables by table name; what carries another tag is not
 * touched. */
#ifndef SKEP_AGENTD_NET_PLACE_H
#define SKEP_AGENTD_NET_PLACE_H

#include <stdint.h>

#include "common/ip.h"

#define PLACE_VXLAN "vxlan0"
#define PLACE_UP "up0"
#define PLACE_HOST_LINK "sk"             /* and the index */
#define PLACE_TASK_LINK 'v'              /* and the task's id, cut */
#define PLACE_ALIAS "skep "              /* IFLA_IFALIAS: and the network's or the task's id */
#define PLACE_ROUTER_TABLE "skep-router" /* nftables in R: egress */
#define PLACE_EGRESS_TABLE "skep-egress" /* nftables on the host: egress */

enum {
    PLACE_PROTOCOL = 77,          /* of routes and rules made by the overlay */
    PLACE_PROTOCOL_BALANCER = 78, /* … by balancers; the overlay leaves these alone */
    PLACE_PROTOCOL_ENCRYPT = 79,  /* … by tunnels of encrypted networks */
    PLACE_INDEX_MAX = 4095,       /* 169.254.64.0/18 has room for so many links and one */
    PLACE_NAME_BYTES = 16,        /* IFNAMSIZ */
};

/* The two ends of the link between the host and R number index. */
struct place_link {
    char host_device[PLACE_NAME_BYTES];
    struct ip host, router; /* /30 */
};
struct place_link place_link(uint32_t index);

/* The MAC address of the vxlan0 of the node whose VXLAN address this is. */
void place_mac(const struct ip *vtep, uint8_t ret[6]);
/* What routes to a node go "via": its VXLAN address, or for IPv6 a link-local address made of it.
 */
struct ip place_label(const struct ip *vtep, uint8_t family);
/* The name of a task's link in R. */
void place_task_link(const char *task_id, char ret[PLACE_NAME_BYTES]);
/* The MAC address of a task's interface. */
void place_task_mac(const struct ip *address, uint8_t ret[6]);

#endif
