/* The manager process: what its parts share. main.c reads flags; manager.c starts and stops; the
 * other files of this folder are one concern each:
 *
 *   leader.c   runs the leader-only cores: events in, one transaction per core in flight
 *   calls.c    every RPC: who may, where it runs (here, leader), decode, hand over
 *   *_calls.c, info.c   the handlers
 *   members.c  raft membership and roles follow the store
 *   host.c     what this host is: identity, listeners, Raft up and down
 *   peers.c    connections to the other managers; raft's transport
 *   swarm.c    init, join, leave
 *
 * Threads: all of it is the loop thread's. */
#ifndef SKEP_MANAGERD_MANAGER_H
#define SKEP_MANAGERD_MANAGER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/identity.h"
#include "common/inbox.h"
#include "common/loop.h"
#include "common/prng.h"
#include "common/rpc.h"
#include "common/tls.h"
#include "common/worker.h"
#include "managerd/ca/ca.h"
#include "managerd/dispatcher/dispatcher.h"
#include "managerd/io/raft_node.h"
#include "managerd/store/core.h"

enum {
    MANAGER_INBOX_RECORDS = 1024,
    MANAGER_JOBS_MAX = 256,
    MANAGER_WATCHES_MAX = 1024,
    MANAGER_ADDRESS_MAX = RAFT_ADDRESS_BYTES_MAX,
};

struct manager_options {
    const char *state_dir;
    const char *run_dir;
    const char *listen;    /* host:port; "" = 0.0.0.0:2377 */
    const char *advertise; /* host:port or ""; remembered from init and join */
    uint32_t heartbeat_ms, election_ms;
};

enum manager_state {
    MANAGER_INACTIVE, /* no manager identity on this host: only the local socket */
    MANAGER_JOINING,  /* a manager identity, not yet a member of Raft */
    MANAGER_ACTIVE,
};

/* A leader-only core and its transaction. */
struct core_slot {
    const struct core_ops *ops;
    void *core;
    struct store_tx *tx;
    bool in_flight;
    uint64_t wake_ms;
    struct manager *manager;
};
enum { MANAGER_CORES_MAX = 8 };

/* Who a call is from, after on_behalf_of was checked. */
struct caller {
    bool local;
    bool manager;
    char node_id[ID_CHARS + 1]; /* "" for local */
    char address[64];           /* ip:port or "" */
};

struct manager {
    struct manager_options options;
    char *state_dir, *run_dir, *raft_dir;
    char listen[MANAGER_ADDRESS_MAX], advertise[MANAGER_ADDRESS_MAX];

    struct loop *loop;
    struct inbox *inbox;
    struct worker *worker; /* signing, name lookups */
    struct rpc *rpc;
    struct prng prng;
    int fatal_rc;        /* set when the process has to end */
    uint64_t stop_by_ms; /* asked to stop: leadership is being handed over until then */

    enum manager_state state;
    struct identity *identity; /* NULL: this host belongs to no cluster */
    struct tls_context *tls;   /* our certificate, both directions */
    struct tls_context *tls_enrol;
    struct rpc_server *local, *cluster, *enrol;

    struct store *store;
    struct raft_node *raft;
    struct store_loader *loader; /* while a snapshot is being installed */
    bool leading;
    uint64_t term; /* of our leadership */

    struct core_slot cores[MANAGER_CORES_MAX];
    size_t core_count;
    struct issue_job *signing;                 /* certificates at the worker */
    struct refusal *refusals, **refusals_last; /* of applied transactions, for their proposers */
    bool cores_due;                            /* a call gave a core something to do */
    struct dispatcher *dispatcher;
    struct log_broker *logs;
    struct ca_policy *ca;
    uint64_t logs_due_ms;

    struct peer *peers;
    struct forwarded *forwarded; /* calls on their way to the leader */
    struct pending_watch *watches;
    struct backups *backups; /* being read; NULL before the first */
    size_t watch_count;
    uint64_t watched_version, watch_due_ms;
    struct swarm_task *swarm; /* init, join or leave under way */
    struct loop_timer tick_timer, members_timer, identity_timer, join_timer;
    struct {
        uint64_t raft_id, ms;
    } contacts[RAFT_MEMBERS_MAX];
    struct learned_address {
        struct id node_id;
        char address[MANAGER_ADDRESS_MAX];
    } learned[RAFT_MEMBERS_MAX]; /* managers as a join's answer named them */
    size_t learned_count;
    char join_error[ERR_MESSAGE_BYTES_MAX]; /* why joining takes so long */
    uint64_t identity_stamp;
    int64_t renew_at_ns; /* wall clock */
    uint64_t renew_retry_ms;
    uint64_t refused_count, refused_log_ms; /* connections turned away, and when to say so again */
    uint64_t cluster_version;               /* of the cluster object this process follows */
    uint32_t join_next;                     /* which manager is asked next */
    bool join_in_flight, renew_in_flight;
    uint64_t leaderless_ms; /* since when nobody leads us; 0 = somebody does */
    uint64_t expelled_ms;   /* when a leader last said that it does not know us */
    bool removed;           /* Raft said so; the timer acts */
    bool demoted;           /* wants a worker's certificate */
    bool member_change_in_flight, member_tx_in_flight;
};

/* manager.c */
struct manager *manager_new(const struct manager_options *o, struct loop *l, struct err *e);
void manager_free(struct manager *m);
/* SIGTERM: stops the loop, after leadership was handed over where that is possible. */
void manager_shutdown(struct manager *m);
struct core_env manager_env(struct manager *m);
/* Ends the process with this reason: a supervisor restarts it. */
void manager_fatal(struct manager *m, const struct err *e);

/* leader.c */
void leader_init(struct manager *m);
void leader_deinit(struct manager *m);
void leader_start(struct manager *m, uint64_t term);
void leader_stop(struct manager *m);
/* Runs due cores and answers parked calls; called before every sleep. */
void leader_run(struct manager *m);
void leader_on_event(struct manager *m, const struct store_event *ev);
/* Proposes tx under the current leadership. done: as raft_node_propose, or the state machine's
 * refusal with its message in e. */
typedef void manager_done_fn(void *ctx, int rc, const struct err *e);
/* Loop time at which a message of a member last arrived; 0 = never. */
uint64_t manager_last_contact_ms(const struct manager *m, uint64_t raft_id);
void manager_note_contact(struct manager *m, uint64_t raft_id);
void leader_propose(struct manager *m, const struct store_tx *tx, const uint8_t *request_id,
                    manager_done_fn *done, void *ctx);
extern const struct raft_fsm_ops manager_fsm;

/* calls.c */
rpc_handler_fn calls_on_request;       /* 2377 and the local socket */
rpc_handler_fn calls_on_enrol_request; /* 2378 */
/* Replies with what rc and e say. */
void calls_fail(struct rpc_call *call, int rc, const struct err *e);
/* The leader is another one now, or unknown: gives up calls forwarded to the old one. */
void calls_on_leader(struct manager *m);
/* Why there is no leader, who was last seen when, and what to do. */
void calls_explain_no_leader(struct manager *m, struct err *e);
/* A request that was taken out of its call, for handlers that answer later. */
struct incoming {
    struct manager *manager;
    struct rpc_call *call; /* NULL: answered, and only the request is still needed */
    struct caller caller;
    Skep__Method method;
    ProtobufCMessage *request;      /* decoded; freed with the incoming */
    const ProtobufCBinaryData *raw; /* the body as it came; valid until the answer */
    uint8_t request_id[16];
    bool has_request_id;
    struct arena arena;
};
void incoming_free(struct incoming *in);
void incoming_reply(struct incoming *in, const ProtobufCMessage *answer); /* and free */
void incoming_fail(struct incoming *in, int rc, const struct err *e);     /* and free */
/* A handler takes over in. */
typedef void handler_fn(struct incoming *in);

handler_fn control_call, control_watch_call, info_call; /* control_calls.c, info.c */
/* A decoded read that does without a leader: this manager answers with what it has. */
bool control_stale(const struct incoming *in);
handler_fn session_call, heartbeat_call, assignments_call, networks_call, report_call,
    network_check_call, network_check_report_call; /* agent_calls.c */
handler_fn logs_open_call, logs_read_call, log_subscriptions_call,
    log_publish_call;                                                      /* log_calls.c */
handler_fn raft_call, raft_snapshot_call, raft_join_call, raft_leave_call; /* raft_calls.c */
handler_fn root_ca_call, enrol_call, renew_call;                           /* ca_calls.c */
handler_fn cluster_backup_call;                                            /* backup_calls.c */
handler_fn swarm_init_call, swarm_join_call, swarm_leave_call;             /* swarm.c */
/* After commits and timers: answers what waits. */
void control_watches_run(struct manager *m);
void control_watches_drop(struct manager *m);
void agent_calls_run(struct manager *m);
void agent_calls_drop(struct manager *m); /* leadership is over: all are answered */
void log_calls_run(struct manager *m);
void log_calls_drop(struct manager *m);

void backup_calls_drop(struct manager *m);
void ca_calls_drop(struct manager *m);

/* info.c: what Raft knows of the managers; ret has room for RAFT_MEMBERS_MAX. */
struct control_member;
size_t info_members(struct manager *m, struct control_member *ret);

/* members.c */
void members_init(struct manager *m);

/* peers.c */
extern const struct raft_transport_ops manager_transport;
/* Connection to a manager by address, made on first use. NULL with e when it cannot be made. */
struct rpc_client *peers_client(struct manager *m, const char *address, struct err *e);
/* Closes connections that nobody used for a while. */
void peers_free(struct manager *m);
/* Remembers the managers of a packed RaftJoinResponse. */
void peers_learn(struct manager *m, const ProtobufCBinaryData *join_response);
/* Address of the current leader or "". */
const char *peers_leader_address(const struct manager *m);
/* Managers as agents shall know them. */
size_t peers_addresses(const struct manager *m, struct arena *a, Skep__ManagerAddress ***ret);

/* host.c */
/* With what the identity directory holds; an error refuses to start. */
int host_start(struct manager *m, struct err *e);
void host_stop(struct manager *m);
/* The identity is that of a manager: listen and take part in Raft. */
int host_activate(struct manager *m, enum raft_node_start start, struct err *e);
void host_deactivate(struct manager *m);
/* Takes over id, which may be NULL. */
void host_set_identity(struct manager *m, struct identity *id);
/* The local address that packets toward a host (host or host:port) leave from. */
int host_own_address(const char *toward, char *ret, size_t size, struct err *e);

/* swarm.c: what host.c tells the calls under way */
void swarm_on_leader(struct manager *m);
void swarm_on_active(struct manager *m);
void swarm_on_removed(struct manager *m);
void swarm_free(struct manager *m);
/* A fresh join token for the root with this digest; text has TOKEN_CHARS + 1 bytes. */
void manager_new_token(const char *digest, char *text);

#endif
