/* What a container is told: a query, the tables and who asks give an answer, or the advice to ask
 * the host's resolvers. Pure.
 *
 *   web, its aliases      the virtual address; in dnsrr mode the addresses of its tasks
 *   tasks.web             the addresses of its tasks
 *   web.1.<id>, hostname, task aliases       that task's address
 *   any of these .<network>                  in this one of the asker's networks
 *   5.1.0.10.in-addr.arpa                    web.1.<id>.<network>
 *
 * A task may ask for the names of all networks that it is in: that of the socket comes first, then
 * the others in the order of its spec; the first one that knows the name answers. Only endpoints
 * that are UP are ever told. A known name without addresses of the wanted family gives an empty
 * answer; names below tasks. and below one of the asker's networks that nobody has do not exist,
 * all others are the host's matter.
 *
 * Times to live: tasks 1 s, so that a client that caches follows tasks as they come and go. Virtual
 * addresses 5 s: they last as long as their service, but a service that was removed and created
 * again has another one, and its old one belongs to somebody else after a while; a query costs 20
 * us. Negative answers carry no SOA, hence are not cached at all (RFC 2308 §5). */
#ifndef SKEP_AGENTD_DNS_ANSWER_H
#define SKEP_AGENTD_DNS_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agentd/dns/codec.h"
#include "agentd/netplan/tables.h"
#include "common/prng.h"

enum {
    ANSWER_VIP_TTL_S = 5,
    ANSWER_TASK_TTL_S = 1,
    ANSWER_UDP_ADDRESSES_MAX = 20, /* more: truncated, TCP gives all */
};

struct answer_request {
    const struct dns_query *query;
    const struct tables *tables;
    const char *network_id; /* of the socket */
    struct ip source;
    bool tcp;
    struct prng *random; /* order of addresses */
};

enum answer {
    ANSWER_REPLY,
    ANSWER_FORWARD, /* nothing was written */
};

/* mem: at least DNS_UDP_BYTES_MIN, for TCP up to DNS_MESSAGE_BYTES_MAX bytes. */
enum answer answer_query(const struct answer_request *r, uint8_t *mem, size_t max,
                         size_t *ret_size);

#endif
