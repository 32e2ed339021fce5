/* The tables' parts: records, the sets that index them, and the check of what comes in. A group is
 * one key of an index (a network, a service, a name or address within a network …) with its members
 * in order of id. A record keeps its place in memory when its content is replaced, so that only a
 * change of membership touches a set. */
#ifndef SKEP_AGENTD_NETPLAN_TABLES_INTERNAL_H
#define SKEP_AGENTD_NETPLAN_TABLES_INTERNAL_H

#include "agentd/netplan/tables.h"
#include "common/map.h"

enum {
    TABLES_ATTACHMENTS_MAX = 1024, /* networks of one record, aliases in one network, ports … */
    TABLES_ADDRESSES_MAX = 8,      /* of one attachment */
    TABLES_NAME_CHARS_MAX = 253,   /* of a domain name in text (RFC 1035 §2.3.4) */
};

struct record {
    Skep__NetworkRecordKind kind;
    const char *id;
    uint64_t hash;
    uint64_t generation; /* of the complete set that named it last */
    void *block;         /* what m points into */
    union record_message {
        ProtobufCMessage base;
        Skep__NetworkHead head;
        Skep__NetworkPeer peer;
        Skep__NetworkService service;
        Skep__NetworkEndpoint endpoint;
    } m;
};

/* Pointers to members m of records, in order of id. Many additions, or many removals, wait in
 * pending and go in together: one pass over the set, however many they are. */
struct set {
    const void **items;
    const void **pending;
    uint32_t count, capacity;
    uint32_t pending_count, pending_capacity;
    bool removing; /* what pending means */
};

/* Adding a member and removing a stranger do nothing. */
void set_add(struct set *s, const void *item);
void set_remove(struct set *s, const void *item);
void set_flush(struct set *s);
void set_deinit(struct set *s);
const void *set_after(const struct set *s, const char *id);

enum group_kind { GROUP_NETWORK, GROUP_SERVICE, GROUP_NAME, GROUP_ADDRESS, GROUP_NODE };

struct group {
    uint64_t hash;
    uint64_t version;          /* of a network */
    const struct record *head; /* of a network */
    struct group *network;     /* that a name, address or node is in */
    struct group *dirty_next;
    bool dirty;
    uint8_t kind;
    uint8_t size;
    struct set services, endpoints;
    char key[]; /* names in lower case */
};

struct tables {
    struct map records; /* by kind and id */
    struct map groups;
    struct set networks, peers;
    size_t counts[4]; /* records, by kind */
    struct group *dirty;
    uint64_t version, generation;
    bool completing, complete;
    uint64_t refused;
    char why[ERR_MESSAGE_BYTES_MAX];
};

/* NULL when there is none. network: NULL for networks and services. */
struct group *group_find(const struct tables *t, enum group_kind kind, const struct group *network,
                         const char *key, size_t size);
struct group *group_find_name(const struct tables *t, const char *network_id, const char *name);
struct group *group_find_address(const struct tables *t, const char *network_id,
                                 const struct ip *address);
/* Puts a record's m in, or takes it out of, every group that it belongs in; or only says that it
 * changed. In each case its networks get the tables' version. */
enum group_change { GROUP_ADD, GROUP_REMOVE, GROUP_TOUCH };
void groups_apply(struct tables *t, const struct record *r, enum group_change change);
/* Everything pending goes in; groups without members go. Records that were taken out must live
 * until then. */
void groups_flush(struct tables *t);
void groups_deinit(struct tables *t);

/* The record inside r and its id; -ERR_INVALID when it is not as it should be, with e naming it. */
int tables_check_record(const Skep__NetworkRecord *r, Skep__NetworkRecordKind *ret_kind,
                        const ProtobufCMessage **ret_message, struct err *e) MUST_CHECK;
const char *tables_message_id(Skep__NetworkRecordKind kind, const ProtobufCMessage *m);

#endif
