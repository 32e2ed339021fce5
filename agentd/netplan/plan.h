/* What one network should look like in this node's kernel: made from the tables alone, so that the
 * same tables always give the same plan. Consumers (agentd/net) compare it with the kernel and
 * change what differs; nobody passes increments. Pure.
 *
 * The model is the routed overlay: per network and node a router namespace R with a VXLAN device, a
 * veth per local task, a /32 route per remote task via its node's VXLAN address ("label"), one
 * permanent neighbour and FDB entry per remote node. */
#ifndef SKEP_AGENTD_NETPLAN_PLAN_H
#define SKEP_AGENTD_NETPLAN_PLAN_H

#include "agentd/netplan/tables.h"
#include "common/arena.h"

/* An encrypted network has ports of its own from NetworkHead.encryption_port on: two for tunnels,
 * and the one that its VXLAN uses inside them, as source and destination, so that nothing else on a
 * host looks like it. */
enum { PLAN_ENCRYPTED_VXLAN = 2, PLAN_ENCRYPTED_PORTS = 3 };

enum plan_state { PLAN_STARTING, PLAN_UP, PLAN_DRAINING };

struct plan_subnet {
    struct ip_net subnet;
    struct ip gateway; /* on lo of every R */
};

struct plan_peer { /* a node other than this one, in order of id */
    const char *node_id;
    struct ip vtep;    /* where its VXLAN packets go: the label of routes to it */
    struct ip address; /* its own address in this network (ingress); family 0 = none */
    const char *encryption_instance;
};

struct plan_endpoint { /* in order of task id */
    const char *task_id, *service_id;
    struct ip v4, v6; /* family 0 = none */
    int32_t peer;     /* index into peers; -1: a task of this node */
    enum plan_state state;
};

struct plan_backend {
    struct ip address;
    bool draining; /* no new connections */
    bool local;
};

struct plan_service { /* with a virtual address, in order of id */
    const char *id, *name;
    struct ip vip;
    const struct plan_backend *backends; /* UP and DRAINING, in order of address */
    size_t backend_count;
};

struct plan_port { /* published; in order of (protocol, published, host_ip) */
    Skep__Protocol protocol;
    uint16_t published, target;
    bool host_mode;            /* only this node's tasks, only on this node */
    Skep__SourcePolicy source; /* ingress */
    struct ip host_ip;         /* family 0 = every address of the host */
    const char *service_id;
    const struct plan_backend *backends; /* as of its service; host mode: the local one */
    size_t backend_count;
};

struct net_plan {
    const char *id, *name;
    uint32_t vni, mtu;
    uint16_t vxlan_port; /* encrypted: its own, and the source port too */
    bool internal, ingress, encrypted;
    const Skep__NetworkHead *head; /* keys */
    struct ip self_vtep;           /* family 0: the managers do not know this node's address yet */
    struct ip self_address;        /* this node's own address in the network (ingress) */
    const struct plan_subnet *subnets;
    size_t subnet_count;
    const struct plan_peer *peers;
    size_t peer_count;
    const struct plan_endpoint *endpoints;
    size_t endpoint_count;
    const struct plan_service *services;
    size_t service_count;
    const struct plan_port *ports; /* of the ingress network: mesh ports; of any: host mode */
    size_t port_count;
};

/* The plan of one network, memory in a and borrowed from t. NULL when t has no such network. Peers
 * are those with an endpoint or an own address in the network. Host-mode ports belong to the first
 * overlay network of their task. O(records of the network). */
const struct net_plan *plan_make(const struct tables *t, const char *network_id,
                                 const char *self_node_id, struct arena *a);

#endif
