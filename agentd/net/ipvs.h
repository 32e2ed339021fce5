/* IP Virtual Server by generic netlink (linux/ip_vs.h): services by firewall mark, IPv4,
 * masquerading. All of it belongs to the namespace of the socket, the timeouts too. */
#ifndef SKEP_AGENTD_NET_IPVS_H
#define SKEP_AGENTD_NET_IPVS_H

#include "agentd/net/differences.h"
#include "agentd/net/genl.h"

struct ipvs_destination {
    uint32_t address; /* host order */
    uint16_t port;    /* 0 = as it came */
    uint32_t weight;  /* 0 = no new connections */
};

struct ipvs_service {
    uint32_t mark;
    struct ipvs_destination *destinations; /* in order of (address, port) */
    size_t count;
};

struct ipvs_state {
    struct ipvs_service *services; /* in order of mark */
    size_t count;
};

struct ipvs {
    struct genl genl;
};

/* -ERR_UNSUPPORTED: this kernel has no IPVS. ns is borrowed for the call; -1 = the thread's own. */
int ipvs_open(struct ipvs *v, int ns, struct err *e) MUST_CHECK;
void ipvs_close(struct ipvs *v);
/* Seconds that a silent connection is remembered: TCP, TCP that one side has closed, UDP. */
int ipvs_set_timeouts(struct ipvs *v, const uint32_t seconds[3], struct err *e) MUST_CHECK;

void ipvs_sort(struct ipvs_state *s);
/* Makes was into want: new services and destinations first, then weights, then removals. After an
 * error the state is to be dumped anew. */
int ipvs_change(struct ipvs *v, const struct ipvs_state *was, const struct ipvs_state *want,
                struct err *e) MUST_CHECK;
/* What the kernel has; memory in a. Services without a mark are not ours and are left out. */
int ipvs_dump(struct ipvs *v, struct ipvs_state *ret, struct arena *a, struct err *e) MUST_CHECK;
void ipvs_compare(const struct ipvs_state *want, const struct ipvs_state *have,
                  struct differences *d);

#endif
