/* Which record is in which network, kept from store events, so that a change costs no more than the
 * sessions that have its network. Loop thread only.
 *
 * Every network has a log: one entry for each record that is in it, in order of the last change. A
 * session needs no set of what it knows, only a position in the log of each of its networks: what
 * lies behind that is new to it. A record that leaves a network leaves its entry as `gone` until
 * the log has too many of those; a session that is further behind then starts anew.
 *
 *   net ──log──▶ entry ▶ entry ▶ entry      network, nodes (places), services, endpoints
 *    │             │
 *    │             ▼
 *    │           record ──object──▶ the store's Network, Node, Service or Task
 *    └─places─▶ nodes with tasks in the network; their sessions have it "present"
 */
#ifndef SKEP_MANAGERD_DISPATCHER_INDEX_H
#define SKEP_MANAGERD_DISPATCHER_INDEX_H

#include <uthash.h>

#include "managerd/dispatcher/dispatcher.h"

enum {
    INDEX_KINDS = 4,          /* of records: SKEP__NETWORK_RECORD_KIND__RECORD_ENDPOINT + 1 */
    INDEX_GONE_MIN = 1024,    /* so many gone entries are kept in any log */
    INDEX_RECORD_NETS = 1024, /* networks of one record; more are ignored */
};

struct net;
struct place;
struct hold;

/* A record in a network. */
struct entry {
    struct net *net;
    struct record *record;
    uint64_t version; /* of index.clock at the last change; unique */
    bool gone;
    struct entry *prev, *next; /* the log (utlist) */
    struct entry *sibling;     /* of the same record */
};

/* Lives as long as its object or any entry; endpoints and places also as said below. */
struct record {
    Skep__NetworkRecordKind kind;
    char id[ID_CHARS + 1];
    const ProtobufCMessage *object; /* a reference; NULL: gone from the store */
    struct entry *entries;
    uint64_t stamp; /* of the answer that has it already */
    UT_hash_handle hh;
};

struct net {
    char id[ID_CHARS + 1];
    struct record *head; /* NULL: the store has no such network */
    bool ready;          /* an overlay network with a VNI: what agents are told of */
    bool ingress;        /* present on every node */
    struct entry *log;   /* the oldest first; log->prev is the newest */
    size_t live_count, gone_count;
    uint64_t horizon; /* gone entries up to here are forgotten */
    struct place **places;
    size_t place_count, place_capacity;
    size_t told_count; /* sessions that have been told of it */
    /* Of the session that is being looked at: present there; told of. */
    uint64_t stamp, told_stamp;
    bool woken;
    struct net *woken_next;
    UT_hash_handle hh;
};

struct presence {
    struct net *net;
    size_t count; /* of the node's tasks */
};

/* A node: a peer record, what is present on it, and its endpoints. */
struct place {
    struct record record; /* first; found in records[RECORD_PEER] */
    bool up;              /* in the store and not DOWN */
    struct presence *nets;
    size_t net_count, net_capacity;
    struct endpoint *endpoints;
};

enum endpoint_state { ENDPOINT_NONE, ENDPOINT_STARTING, ENDPOINT_UP, ENDPOINT_DRAINING };

/* A task that is assigned and has not ended. */
struct endpoint {
    struct record record; /* first */
    enum endpoint_state state;
    bool removed; /* from the store; kept until its hold is over */
    struct place *place;
    struct net **nets; /* of the task; they count in place->nets */
    size_t net_count;
    char *name, *hostname;
    struct hold *hold;            /* NULL: its node may know its desired state */
    struct endpoint *prev, *next; /* of the place */
};

struct index {
    const struct store *store;
    uint64_t clock; /* raised by every change of an entry */
    uint64_t stamp;
    struct net *nets;
    struct record *records[INDEX_KINDS];
    struct net **ingress; /* those that are present everywhere */
    size_t ingress_count;
    struct net *woken; /* networks that changed since their sessions were last woken */
    uint32_t data_path_port;
};

/* index.c */
struct net *index_net(struct index *x, const char *id);
struct net *index_net_get(struct index *x, const char *id);
void index_net_put(struct index *x, struct net *n); /* frees it when nothing needs it */
void index_wake(struct index *x, struct net *n);
/* True when that changes anything. */
bool index_set_ingress(struct index *x, struct net *n, bool ingress);
struct record *index_record(const struct index *x, Skep__NetworkRecordKind kind, const char *id);
/* record: zeroed memory of its kind's struct. */
void index_record_add(struct index *x, struct record *r, Skep__NetworkRecordKind kind,
                      const char *id);
void index_record_put(struct index *x, struct record *r);
void index_set_object(struct record *r, const ProtobufCMessage *object);
/* From now on r is in these networks and in no other; changed: its content is another, too. */
void index_record_sync(struct index *x, struct record *r, struct net *const *nets, size_t count,
                       bool changed);
struct place *index_place(const struct index *x, const char *node_id);
struct place *index_place_get(struct index *x, const char *node_id);
/* True when it was not present before, or is not any more: then index_net_put() is due. */
bool index_presence_add(struct place *p, struct net *n);
bool index_presence_drop(struct place *p, struct net *n);
void index_clear(struct index *x);

#endif
