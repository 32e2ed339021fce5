/* What the managers last said of the overlay networks that this node takes part in: networks,
 * peers (nodes), services, endpoints (tasks). One writer, tables_apply(); plans (plan.h) and names
 * (agentd/dns) are read from here and kept nowhere else, so nothing can go stale beside it. Pure.
 *
 * Indexes, all case-insensitive where names are concerned: record by id; services and endpoints of
 * a network, in order of id; service, alias or container name within a network; endpoint by address
 * within a network; endpoints of a service. */
#ifndef SKEP_AGENTD_NETPLAN_TABLES_H
#define SKEP_AGENTD_NETPLAN_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/ip.h"
#include "proto/dispatcher.pb-c.h"

enum {
    TABLES_NETWORKS_MAX = 1024, /* records beyond a limit are ignored and counted */
    TABLES_PEERS_MAX = 20000,
    TABLES_SERVICES_MAX = 20000,
    TABLES_ENDPOINTS_MAX = 200000,
};

struct tables;

struct tables *tables_new(void);
void tables_free(struct tables *t);

/* Applies one answer; records are copied. Malformed records (ids, addresses, names) are ignored and
 * counted. After the last answer of a complete set, what it did not name is gone. Returns true when
 * anything changed. O(records of the answer · log n). */
bool tables_apply(struct tables *t, const Skep__NetworksResponse *resp);
/* The session was lost: a complete set will come; meanwhile all stays as it is. */
void tables_expect_complete(struct tables *t);
/* At least one complete set has come. */
bool tables_complete(const struct tables *t);
/* Raised by every change; per network: by every change that concerns it. 0 = no such network. */
uint64_t tables_version(const struct tables *t);
uint64_t tables_network_version(const struct tables *t, const char *network_id);
/* Records that were refused, and why the last one was ("" = none). */
uint64_t tables_refused(const struct tables *t, const char **ret_why);

/* ---- records: borrowed, valid until the next tables_apply() ---- */

const Skep__NetworkHead *tables_network(const struct tables *t, const char *id);
const Skep__NetworkPeer *tables_peer(const struct tables *t, const char *node_id);
const Skep__NetworkService *tables_service(const struct tables *t, const char *id);
const Skep__NetworkEndpoint *tables_endpoint(const struct tables *t, const char *task_id);

/* In order of id: the first with an id greater than after ("" = the first); NULL at the end. */
const Skep__NetworkHead *tables_network_after(const struct tables *t, const char *after);
const Skep__NetworkPeer *tables_peer_after(const struct tables *t, const char *after);

/* All of one network, or of one service, in order of id; *ret is borrowed like the records. */
size_t tables_network_services(const struct tables *t, const char *network_id,
                               const Skep__NetworkService *const **ret);
size_t tables_network_endpoints(const struct tables *t, const char *network_id,
                                const Skep__NetworkEndpoint *const **ret);
size_t tables_service_endpoints(const struct tables *t, const char *service_id,
                                const Skep__NetworkEndpoint *const **ret);

/* Names within a network: a service's name or one of its aliases there; a container's name, its
 * hostname or a task's alias. NULL when nobody has it. Two services may share an alias: the first
 * by id. Several endpoints may share a name or, while one ends, an address: one that is UP, or else
 * the first by id. */
const Skep__NetworkService *tables_find_service(const struct tables *t, const char *network_id,
                                                const char *name);
const Skep__NetworkEndpoint *tables_find_endpoint(const struct tables *t, const char *network_id,
                                                  const char *name);
const Skep__NetworkEndpoint *tables_find_address(const struct tables *t, const char *network_id,
                                                 const struct ip *address);
/* The service with this virtual address. */
const Skep__NetworkService *tables_find_vip(const struct tables *t, const char *network_id,
                                            const struct ip *address);
/* All that have the name, in order of id. */
size_t tables_named_services(const struct tables *t, const char *network_id, const char *name,
                             const Skep__NetworkService *const **ret);
size_t tables_named_endpoints(const struct tables *t, const char *network_id, const char *name,
                              const Skep__NetworkEndpoint *const **ret);

/* An endpoint's (or a peer's) address of one family in one network; false: it has none there. */
bool tables_address(Skep__NetworkAttachment *const *networks, size_t count, const char *network_id,
                    uint8_t family, struct ip *ret);
/* The service's virtual address in a network; false: none (dnsrr). */
bool tables_vip(const Skep__NetworkService *s, const char *network_id, struct ip *ret);

#endif
