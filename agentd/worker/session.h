/* The agent's side of its session with the managers (features.md §3.10): which manager to talk to,
 * when to register, beat, ask and report, and how long to wait after a failure. The shell makes the
 * calls and tells how they ended. Pure: time and randomness come in with the event.
 *
 *   IDLE --managers known--> WAIT --back-off over--> OPENING --SESSION ok--> LIVE
 *   OPENING, LIVE --failure--> WAIT (another manager, back-off doubles)
 *   OPENING, LIVE --NOT_LEADER with an address--> OPENING there at once
 *
 * While LIVE at most one call of each kind is in flight. Losing every manager stops nothing.
 *
 * Generations: `swarm init --force-new-cluster` raises the cluster's. Who has served a newer one
 * does not go back to managers of an older one, which may still be alive behind a partition. */
#ifndef SKEP_AGENTD_WORKER_SESSION_H
#define SKEP_AGENTD_WORKER_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/prng.h"

enum {
    SESSION_MANAGERS_MAX = 64,
    SESSION_ADDRESS_BYTES_MAX = 280,
    SESSION_ID_BYTES_MAX = 64,
    SESSION_CALL_MS = 5000,  /* deadline of SESSION and HEARTBEAT */
    SESSION_WAIT_MS = 30000, /* what blocking queries ask the manager to wait */
    SESSION_BACKOFF_MS_FIRST = 100,
    SESSION_BACKOFF_MS_MAX = 8000,
    SESSION_REDIRECTS_MAX = 4, /* in a row, then back off */
    SESSION_COALESCE_MS = 50,  /* reports gather this long */
    SESSION_RETRY_MS = 1000,   /* a call that was refused without losing the session */
    SESSION_WEIGHT_MAX = 100,  /* swarmkit remotes: +10 on success, -10 on failure */
    SESSION_WEIGHT_STEP = 10,
};

enum session_phase { SESSION_IDLE, SESSION_WAIT, SESSION_OPENING, SESSION_LIVE };

enum session_call {
    SESSION_CALL_OPEN,
    SESSION_CALL_BEAT,
    SESSION_CALL_ASSIGNMENTS,
    SESSION_CALL_REPORT,
    SESSION_CALL_LOGS,
    SESSION_CALL_NETWORKS,
    SESSION_CALL_COUNT,
};

struct session_manager {
    char address[SESSION_ADDRESS_BYTES_MAX]; /* host:port */
    int32_t weight;
};

enum session_event_type {
    SESSION_EV_MANAGERS, /* the list changed: addresses, address_count */
    SESSION_EV_STOP,     /* no identity any more: back to IDLE */
    SESSION_EV_TIMER,
    SESSION_EV_DONE,     /* call ended with rc; see the fields below */
    SESSION_EV_REPORTS,  /* there are statuses to report */
    SESSION_EV_DESCRIBE, /* the node's description changed: beat at once */
};

struct session_event {
    enum session_event_type type;
    uint64_t now_ms;
    struct prng *prng;
    const char *const *addresses; /* MANAGERS */
    size_t address_count;
    enum session_call call;     /* DONE */
    int rc;                     /* DONE: 0 or -ERR_* */
    const char *leader_address; /* DONE with NOT_LEADER; "" when unknown */
    const char *session_id;     /* DONE of OPEN */
    uint64_t generation;        /* MANAGERS: as remembered; DONE of OPEN: the manager's */
    uint32_t heartbeat_ms;      /* DONE of OPEN and BEAT */
    uint64_t token;             /* DONE of ASSIGNMENTS, LOGS and NETWORKS */
    bool more;                  /* DONE of ASSIGNMENTS: ask again at once; of REPORT: more waits */
};

struct session_effects { /* in this order */
    bool drop;           /* cancel all calls and close the connection */
    const char *connect; /* to this address; NULL: none. Points into the session */
    bool start[SESSION_CALL_COUNT];
    uint64_t timer_at_ms; /* 0 = none */
};

struct session {
    enum session_phase phase;
    struct session_manager managers[SESSION_MANAGERS_MAX];
    size_t manager_count;
    char address[SESSION_ADDRESS_BYTES_MAX]; /* of the manager in use or tried last */
    char redirect[SESSION_ADDRESS_BYTES_MAX];
    uint32_t redirects;
    char id[SESSION_ID_BYTES_MAX];
    uint32_t backoff_ms;
    uint64_t wait_until_ms;
    bool in_flight[SESSION_CALL_COUNT];
    uint64_t due_ms[SESSION_CALL_COUNT]; /* while LIVE: when to start; UINT64_MAX = not wanted */
    uint32_t heartbeat_ms;
    uint64_t assignments_token, logs_token, networks_token;
    bool networks;       /* this node asks for NETWORKS; set by the owner while not LIVE */
    uint64_t generation; /* highest seen */
};

void session_step(struct session *s, const struct session_event *ev,
                  struct session_effects *ret_fx);

#endif
