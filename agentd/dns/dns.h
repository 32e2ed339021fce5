/* The DNS server of this host's containers: one listener (UDP and TCP) per network, inside its
 * router namespace on the gateway addresses. The socket names the network, the source address the
 * task, and so all the networks whose names it may ask for. Answers come straight from the tables
 * (agentd/netplan/tables.h); other names are forwarded to the task's own name servers or the host's
 * resolvers, from the host's own namespace. Loop thread. RFC 1035, 6891 (EDNS size), 7766 (TCP). */
#ifndef SKEP_AGENTD_DNS_DNS_H
#define SKEP_AGENTD_DNS_DNS_H

#include <stddef.h>
#include <stdint.h>

#include "agentd/netplan/tables.h"
#include "common/err.h"
#include "common/loop.h"

struct dns;

enum { DNS_SERVERS_MAX = 3 }; /* as in libc */

struct dns_options {
    const char *resolv_conf; /* "/etc/resolv.conf"; read again when it changes */
    /* Name servers that the task with this address in the network was given: other names are asked
     * for there, from the host's namespace. 0, or NULL: the host's resolvers. */
    size_t (*servers)(void *ctx, const char *network_id, const struct ip *asker,
                      struct ip ret[DNS_SERVERS_MAX]);
    void *ctx;
};

/* tables: borrowed for the server's life. */
struct dns *dns_new(struct loop *l, const struct tables *t, const struct dns_options *o);
void dns_free(struct dns *d);

/* Listens on port 53 of each address, inside the namespace. Idempotent; addresses that are no
 * longer named are closed. */
int dns_listen(struct dns *d, const char *network_id, int netns_fd, const struct ip *addresses,
               size_t count, struct err *e) MUST_CHECK;
void dns_close(struct dns *d, const char *network_id);
/* True while every listener of the network is open. */
bool dns_listening(const struct dns *d, const char *network_id);

struct dns_stats {
    uint64_t queries, answered, forwarded, refused, malformed, dropped;
};
void dns_stats(const struct dns *d, struct dns_stats *ret);

#endif
