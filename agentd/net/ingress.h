/* Published ports on the host itself: the nft table `skep-ingress` of the host's namespace. It
 * sends what arrives for a local address and a published port to the router of a network (R, by its
 * link), where the network's balancer (balancer.h) takes it over: mesh ports (ingress mode) to the
 * router of the ingress network, host-mode ports to the router of their task's network.
 *
 * Client addresses: `snat` leaves R with the node's own ingress address, `preserve` and `local`
 * keep the client's; all of that is the balancer's work in R. Here only what the host itself sends,
 * and a task's packets to its own node, are given the link's address.
 *
 * Every published port is also held by a bound socket, so that nobody else on the host takes it; a
 * port that someone else has is not programmed (his service goes on) and told by ingress_problem().
 *
 * Health answers for external balancers in front of ports with `source=local`: while there is one,
 * a listener on INGRESS_HEALTH_PORT of every address answers `GET /<port>/<tcp|udp|sctp>` with 200
 * when this node has a task that takes new connections, 503 when not, 404 for other ports.
 *
 * How net.c uses it (loop thread, in the host's namespace):
 *   ingress_new() once; ingress_apply() with all networks after the balancers' apply(), whenever
 *   a plan or a link changed; ingress_check() every few seconds with the balancers' check();
 *   ingress_problem() for net_describe(); ingress_free(i, true) when the agent ends. net.c makes
 * the links, their addresses, and routes; forwarding and route_localnet of a link are set here. A
 *   node's own address in a network (net_plan.self_address) must not be an address of R: the kernel
 *   would keep answers that belong to the balancer; peers need the route to it. */
#ifndef SKEP_AGENTD_NET_INGRESS_H
#define SKEP_AGENTD_NET_INGRESS_H

#include "agentd/net/differences.h"
#include "agentd/netplan/plan.h"
#include "common/loop.h"

enum { INGRESS_HEALTH_PORT = 4780 };

struct ingress;

struct ingress_network { /* one per network with a link to the host; strings are borrowed */
    const struct net_plan *plan;
    const char *link;         /* the host's end */
    struct ip host_address;   /* of the host's end */
    struct ip router_address; /* of up0 in R */
};

/* loop NULL: no health answers. Adopts what stands; nothing is changed until the first apply. NULL
 * with e set: this kernel cannot. */
struct ingress *ingress_new(struct loop *loop, struct err *e);
/* keep: the table stays, traffic goes on; else it is removed. */
void ingress_free(struct ingress *i, bool keep);

/* Makes the host like the plans, atomically. Cheap when nothing differs from the last call. */
int ingress_apply(struct ingress *i, const struct ingress_network *networks, size_t count,
                  struct err *e);
/* Compares with the kernel what the last apply asked for (and tries again for ports that were taken
 * and are free now). */
int ingress_check(struct ingress *i, bool repair, struct differences *d, struct err *e);
/* "" or which published ports this host cannot open and why; valid until the next call. */
const char *ingress_problem(const struct ingress *i);

#endif
