/* The operators' calls, pure: validate a request against the store, add its changes to a
 * transaction, and build the answer once that is applied. No call sees the network;
 * io/control_rpc.c decodes, proposes and replies.
 *
 * An error names the field and what would be right; it changes nothing. Answers never carry secret
 * data, private keys or registry credentials. swarmkit manager/controlapi. */
#ifndef SKEP_MANAGERD_CONTROL_CONTROL_H
#define SKEP_MANAGERD_CONTROL_CONTROL_H

#include "common/arena.h"
#include "managerd/store/core.h"
#include "proto/control.pb-c.h"
#include "proto/rpc.pb-c.h"

enum {
    CONTROL_LIST_OBJECTS_MAX = 2000,  /* per page */
    CONTROL_LIST_BYTES_MAX = 2 << 20, /* per page, packed */
    CONTROL_WATCH_EVENTS_MAX = 512,   /* per answer */
    CONTROL_WATCH_WAIT_MS_MAX = 60 * 1000,
    CONTROL_WARNINGS_MAX = 16,
};

/* What only the leader's Raft knows of a manager. */
struct control_member {
    uint64_t raft_id;
    bool leader, reachable;
};

struct control_env {
    const struct core_env *core;
    struct arena *arena; /* lives until the answer is packed */
    const struct control_member *members;
    size_t member_count;
    /* New join tokens (worker, manager), made by the shell from real randomness and used only if
     * the request rotates. NULL when it cannot. */
    char *fresh_tokens[2];
};

/* What a change is about, kept until it is applied. */
struct control_subject {
    Skep__Kind kind;
    struct id id;
    size_t warning_count;
    char *warnings[CONTROL_WARNINGS_MAX]; /* in the arena */
};

/* Adds the request's changes to tx. */
typedef int control_change_fn(const struct control_env *env, const ProtobufCMessage *request,
                              struct store_tx *tx, struct control_subject *subject, struct err *e);
/* Builds the answer from the store; pointers into store and arena, packed before the next apply. */
typedef int control_answer_fn(const struct control_env *env, const ProtobufCMessage *request,
                              const struct control_subject *subject, ProtobufCMessage **ret_answer,
                              struct err *e);

struct control_method {
    Skep__Method method;
    const ProtobufCMessageDescriptor *request;
    control_change_fn *change; /* NULL: a read */
    control_answer_fn *answer; /* NULL: an empty answer */
};

/* NULL when the method is not one of the operators'. */
const struct control_method *control_method_find(Skep__Method method);

/* WATCH on a store. *ret_ready false: nothing that the request wants happened after its `since`; go
 * on later from ret->version. */
int control_watch(const struct control_env *env, const Skep__WatchRequest *request, bool *ret_ready,
                  Skep__WatchResponse *ret, struct err *e) MUST_CHECK;

/* ---- pieces, one file per object kind ---- */

/* list.c */
control_answer_fn control_object_get, control_object_list;
/* service.c */
control_change_fn control_service_create, control_service_update, control_service_remove;
control_answer_fn control_service_created, control_service_updated;
/* node.c */
control_change_fn control_node_update, control_node_remove;
control_answer_fn control_node_updated;
/* network.c */
control_change_fn control_network_create, control_network_remove;
control_answer_fn control_network_created;
/* cluster.c */
control_change_fn control_cluster_update;
control_answer_fn control_cluster_updated;
/* Defaults of features.md 3.3, 3.16 in a. */
Skep__ClusterSpec *control_cluster_defaults(struct arena *a);

/* redact.c: the object itself, or a shallow copy in the arena without what nobody may read and with
 * what is filled in on reads (a manager's reachability). */
Skep__Object *control_redacted(const struct control_env *env, const ProtobufCMessage *object);

#endif
