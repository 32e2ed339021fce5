/* What the agent's own files share: agent.c wires, executor.c runs the operations of task machines
 * on the engine, watch.c watches the engine, link.c talks to managers, relay.c ships logs,
 * membership.c follows this host's identity. Loop thread only. */
#ifndef SKEP_AGENTD_INTERNAL_H
#define SKEP_AGENTD_INTERNAL_H

#include "agentd/agent.h"
#include "agentd/docker/container.h"
#include "agentd/docker/engine.h"
#include "agentd/docker/events.h"
#include "agentd/net/net.h"
#include "agentd/worker/container.h"
#include "agentd/worker/networks.h"
#include "agentd/worker/roster.h"
#include "agentd/worker/session.h"
#include "common/enrol.h"
#include "common/identity.h"
#include "common/inbox.h"
#include "common/prng.h"
#include "common/renew.h"
#include "common/rpc.h"
#include "common/worker.h"

enum {
    EXECUTOR_PULL_MAX = 16, /* jobs; one pull per image serves all of its jobs */
    EXECUTOR_BUILD_MAX = 4, /* creates and starts at once: what an engine does best */
    EXECUTOR_LOOK_MAX = 16, /* inspects */
    EXECUTOR_ATTACH_MAX = 64,
    EXECUTOR_STOP_MAX = 256, /* stops mostly wait for grace periods */
    EXECUTOR_REMOVE_MAX = 4,
    EXECUTOR_PULL_KEEP_MS = 10 * 1000, /* a pull's result serves tasks that come this late */
    EXECUTOR_CHECKS_MAX = 64,          /* host path checks waiting for the blocking thread */
    WATCH_PING_MS = 5000,
    WATCH_PING_MS_DOWN = 1000, /* while the engine does not answer */
    WATCH_LIST_MS = 30 * 1000,
    WATCH_DESCRIBE_MS = 20 * 1000,
    RELAY_SUBSCRIPTIONS_MAX = 64,
    RELAY_STREAMS_MAX = 128,
    RELAY_BUFFER_BYTES_MAX = 256 << 10, /* per subscription; then its streams pause */
    RELAY_BATCH_BYTES_MAX = 128 << 10,
    RELAY_BATCH_ENTRIES_MAX = 1000,
    MEMBERSHIP_POLL_MS = 1000,
};

enum executor_lane {
    LANE_PULL,
    LANE_BUILD,
    LANE_ATTACH,
    LANE_LOOK,
    LANE_STOP,
    LANE_REMOVE,
    LANE_COUNT
};

struct job;
struct pull;
struct job_list {
    struct job *first, *last;
};
struct executor {
    struct job_list queue[LANE_COUNT]; /* waiting for a place */
    uint32_t running[LANE_COUNT];
    bool filling[LANE_COUNT]; /* lane_fill() is on the stack */
    struct pull *pulls;
    struct worker *blocking; /* started with the first bind mount */
    struct inbox *inbox;
};

/* Which of the engine's duties fails at present: the reason, or "". */
enum watch_fault {
    FAULT_PING,
    FAULT_LIST,
    FAULT_INFO,
    FAULT_OPERATION,
    FAULT_NETWORK,
    FAULT_COUNT
};
struct watch {
    struct events *events;
    struct loop_timer ping_timer, list_timer, info_timer;
    struct engine_call *list_call, *info_call;
    bool ping_busy, list_again, events_up;
    bool up;     /* the last ping was answered */
    bool listed; /* `found` is a list of this identity's containers */
    char fault[FAULT_COUNT][128];
    struct container_entry *found; /* of the last list; for adoption */
    size_t found_count;
    struct arena description_arena;
    Skep__NodeDescription *description; /* never NULL once started */
    uint64_t description_seq;
};

struct link {
    struct session session;
    struct prng prng;
    struct loop_timer timer;
    struct rpc_client *client;
    uint64_t epoch;         /* of the connection: answers of older ones are ignored */
    uint64_t described_seq; /* of the description that the managers have; 0 = none */
    uint64_t sending_seq;
    char boot_id[40];
    bool renewing;
    uint64_t renew_at_ms; /* 0 = not planned; UINT64_MAX: done, the new one is being loaded */
};

struct networks {
    struct net *net;                 /* NULL: no overlays on this host … */
    char why[ERR_MESSAGE_BYTES_MAX]; /* … for this reason */
    char *gate_program;
    Skep__NodeNetwork *description; /* NULL: switched off */
    struct loop_timer changed_timer;
    uint64_t checked; /* the last check that was answered */
    bool adopted;     /* agentd/net knows which tasks have containers */
    struct engine_call *sweep_call;
    struct id sweep_cluster;
    bool sweep_again;
};

struct subscription;
struct relay {
    struct subscription *subscriptions;
    uint32_t subscription_count, stream_count;
    bool told_full; /* logged that a limit was hit */
};

struct membership {
    struct identity *identity; /* NULL: none */
    struct tls_context *tls;
    uint64_t stamp;
    struct loop_timer timer;
    struct enrol *enrol;
    uint32_t enrol_backoff_ms;
    uint64_t enrol_at_ms;
    bool leaving; /* the identity went: containers are being removed */
};

struct agent {
    struct loop *loop;
    struct agent_options o;
    struct rpc *rpc;
    struct engine *engine;
    char *files_dir;
    struct roster roster;
    struct loop_timer retry_timer;
    uint64_t retry_at_ms;
    struct executor executor;
    struct watch watch;
    struct link link;
    struct networks networks;
    struct relay relay;
    struct membership membership;
    struct id node_id, cluster_id; /* of the identity in use, or the one being left */
};

/* agent.c */
/* Feeds one event to an entry's machine and carries out what it wants; the entry may be gone
 * afterwards. */
void agent_feed(struct agent *ag, struct roster_entry *en, const struct task_event *ev);
void agent_feed_type(struct agent *ag, struct roster_entry *en, enum task_event_type type);
/* The same event for every entry, safe against entries that go. */
void agent_feed_all(struct agent *ag, enum task_event_type type);
void agent_apply(struct agent *ag, const Skep__AssignmentsResponse *resp);
/* A container of ours without a task: stop, remove. */
void agent_adopt_orphan(struct agent *ag, const struct container_entry *found);
/* After a complete set of assignments and a list are both known. */
void agent_reconcile_found(struct agent *ag);
/* Stops and removes everything of the present node and cluster. */
void agent_drop_all(struct agent *ag);
void agent_node(const struct agent *ag, struct container_node *ret);

/* executor.c */
void executor_start(struct agent *ag, struct roster_entry *en, enum task_op op);
void executor_cancel(struct agent *ag, struct roster_entry *en);
void executor_free(struct agent *ag);

/* watch.c */
void watch_start(struct agent *ag);
void watch_stop(struct agent *ag);
/* The identity changed: which containers are ours did, too. */
void watch_restart(struct agent *ag);
void watch_list(struct agent *ag);
/* NULL: none. Borrowed until the next call. */
void watch_set_network(struct agent *ag, Skep__NodeNetwork *network);
void watch_set_fault(struct agent *ag, enum watch_fault which, const char *why);
/* "" or why this node cannot do all its work. */
const char *watch_degraded(const struct agent *ag);

/* link.c */
void link_start(struct agent *ag);
void link_stop(struct agent *ag);
void link_step(struct agent *ag, const struct session_event *ev);
void link_step_type(struct agent *ag, enum session_event_type type);
void link_set_managers(struct agent *ag, char *const *addresses, size_t count);
/* A call outside of the session's own kinds, on the connection in use; -ERR_UNAVAILABLE without
 * one. done may run with -ERR_CANCELED from inside link_step(). */
int link_call(struct agent *ag, const struct rpc_request *r, rpc_done_fn *done, void *ctx,
              struct err *e) MUST_CHECK;
/* A certificate that lives from not_before to not_after is to be renewed some time from half to
 * four fifths of its life. */
void link_plan_renewal(struct agent *ag, int64_t not_before_ns, int64_t not_after_ns);
void link_check_renewal(struct agent *ag, uint64_t now_ms);

/* networks.c */
void networks_start(struct agent *ag);
void networks_stop(struct agent *ag);
/* An answer of NETWORKS: in the kernel when this returns, as far as it can be. */
void networks_apply(struct agent *ag, const Skep__NetworksResponse *resp);
void networks_expect_complete(struct agent *ag);
/* An identity was taken up; all of it is gone. */
void networks_take_up(struct agent *ag);
void networks_leave(struct agent *ag);
/* Which tasks have containers is known; only the first time after take_up counts. */
void networks_adopt(struct agent *ag, bool (*has)(void *ctx, const char *task_id), void *ctx);
/* -ERR_UNAVAILABLE: not yet; TASK_EV_NETWORKS comes when it may have changed. */
int networks_attach(struct agent *ag, struct roster_entry *en, int32_t pid,
                    struct err *e) MUST_CHECK;
void networks_detach(struct agent *ag, struct roster_entry *en);
/* A container that was found running, its gate long open: agentd/net learns of it. To be called
 * when the engine has just said that it runs. */
void networks_hold(struct agent *ag, struct roster_entry *en);
/* The name servers of a task with overlay networks. -ERR_UNAVAILABLE as above. */
int networks_of_task(struct agent *ag, const struct roster_entry *en,
                     char ret_nameservers[NET_NAMESERVERS_MAX][IP_CHARS + 1], size_t *ret_count,
                     struct err *e) MUST_CHECK;

/* engine_networks.c: removes those that no task needs any more. */
void engine_networks_sweep(struct agent *ag);

/* relay.c */
void relay_apply(struct agent *ag, const Skep__LogSubscriptionsResponse *resp);
/* The task may have a container to read from now. */
void relay_task_changed(struct agent *ag, const struct roster_entry *en);
/* The session is over: nobody reads any more. */
void relay_drop(struct agent *ag);

/* membership.c */
int membership_start(struct agent *ag, struct err *e) MUST_CHECK;
void membership_stop(struct agent *ag);
/* All containers of an identity that was left are gone. */
void membership_left(struct agent *ag);

#endif
