/* What a namespace holds besides devices — addresses, neighbours, FDB entries, routes, rules — as
 * values that can be sorted and compared. One wanted set, one set of what is there (a dump, or what
 * was programmed last), and the difference is what to do: the same for a router with 10 000 routes
 * and for a task with three.
 *
 * Only what is ours enters a dump: routes and rules by protocol, the others by device. */
#ifndef SKEP_AGENTD_NET_ENTRY_H
#define SKEP_AGENTD_NET_ENTRY_H

#include "agentd/net/differences.h"
#include "agentd/net/nl.h"
#include "common/ip.h"

/* In the order in which they are added; removed in the reverse one. */
enum entry_kind { ENTRY_ADDRESS = 1, ENTRY_NEIGHBOUR, ENTRY_FDB, ENTRY_ROUTE, ENTRY_RULE };

struct entry {
    /* the key */
    uint8_t kind, family;
    uint8_t prefix; /* address, route, rule */
    uint8_t zero;
    uint32_t device; /* index; address, neighbour, FDB */
    uint32_t table;  /* route, rule */
    uint32_t metric; /* route; rule: its preference */
    uint8_t key[16]; /* address, destination, rule's source; FDB: MAC in the first six */
    /* the value */
    uint32_t out;   /* route: device, 0 = unreachable */
    uint8_t mac[6]; /* neighbour */
    uint8_t via_family;
    uint8_t foreign;   /* in a dump: of a kind that we do not make */
    uint8_t via[16];   /* route: next hop; FDB: node */
    uint8_t source[4]; /* route, IPv4: preferred source */
};
enum { ENTRY_KEY_BYTES = 32, ENTRY_BYTES = 64 };

struct entries {
    struct entry *items;
    size_t count, capacity;
};
void entries_deinit(struct entries *s);
void entries_clear(struct entries *s);
/* By key; of several with one key the last one counts. Comes before every comparison. */
void entries_sort(struct entries *s);

/* Each adds one entry. Routes are in table main unless table != 0. */
void entries_add_address(struct entries *s, int device, const struct ip *ip, uint8_t prefix);
void entries_add_neighbour(struct entries *s, int device, const struct ip *ip,
                           const uint8_t mac[6]);
void entries_add_fdb(struct entries *s, int device, const uint8_t mac[6], const struct ip *vtep);
struct entry_route {
    struct ip_net destination;
    int device;       /* 0: unreachable */
    struct ip via;    /* family 0: the destination is on the device's link */
    struct ip source; /* family 0: the kernel's choice */
    uint32_t table;
};
void entries_add_route(struct entries *s, const struct entry_route *r);
/* What comes from this address looks in the table first. */
void entries_add_rule(struct entries *s, uint32_t preference, const struct ip *source,
                      uint32_t table);

/* Which entries of a namespace are ours; ctx and the devices' indices are the caller's. */
typedef bool entry_device_fn(void *ctx, uint8_t kind, int device);
struct entry_scope {
    entry_device_fn *ours; /* addresses, neighbours, FDB entries of which devices */
    void *ctx;
    bool rules, fdb, neighbours; /* what to look at besides addresses and routes */
};
/* Replaces the content of s by what the namespace of the socket has, sorted. */
int entries_load(struct entries *s, struct nl *n, const struct entry_scope *scope,
                 struct err *e) MUST_CHECK;

struct entry_change {
    uint32_t added, replaced, removed;
};
/* Makes have (sorted) like want (sorted): additions and replacements first, then removals. NULL n:
 * only counts. d, if given, is told every difference; names: how devices are called there. 0, or
 * -ERR_* with e naming the first entry that failed; the namespace may then be anywhere between. */
struct entry_diff {
    const struct entries *have, *want;
    struct differences *d;
    const char *(*device_name)(void *ctx, int device);
    void *ctx;
};
int entries_program(struct nl *n, const struct entry_diff *diff, struct entry_change *ret,
                    struct err *e) MUST_CHECK;

enum { ENTRY_TEXT = 160 };
const char *entry_what(const struct entry *x); /* "route", "fdb" … */
const char *entry_format(const struct entry *x, const struct entry_diff *names,
                         char ret[ENTRY_TEXT]);

#endif
