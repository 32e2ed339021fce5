/* The whole of Skep in the simulator: full nodes whose machine is a manager (store, orchestrators,
 * scheduler, dispatcher, run by managerd/leader.c), agents (session, roster and task machines of
 * agentd/worker on a simulated engine), and operators. Shared by skep_*.c.
 *
 * A reference store applies every entry once, when the first manager does: its events and its
 * content are what the rules O1–O3, O6, O7 and G7 are held against (cluster_rules.h). */
#ifndef SKEP_TEST_SIM_SKEP_H
#define SKEP_TEST_SIM_SKEP_H

#include "agentd/worker/roster.h"
#include "agentd/worker/session.h"
#include "managerd/manager.h"
#include "test/sim/cluster_world.h"
#include "test/sim/full.h"

enum {
    SKEP_AGENTS_MAX = 3,
    SKEP_CONTAINERS_MAX = 256,
    SKEP_OPERATORS = 2,
    SKEP_SERVICES = 4,
    SKEP_REQUEST_BYTES_MAX = 16 << 10,
};

/* ---- parcels: what travels, and what wakes ---- */

enum skep_what {
    SKEP_AGENT_TIMER,
    SKEP_AGENT_REQUEST,  /* at a node */
    SKEP_AGENT_RESPONSE, /* at an agent */
    SKEP_ENGINE_DONE,    /* an operation has ended */
    SKEP_ENGINE_EXIT,    /* a process has */
    SKEP_AGENT_FAULT,
    SKEP_OPERATOR_WAKE,
    SKEP_OPERATOR_REQUEST, /* at a node */
    SKEP_OPERATOR_RESPONSE,
};
struct skep_parcel { /* mem of the workload's events, followed by size bytes */
    enum skep_what what;
    uint32_t who;    /* agent or operator */
    uint32_t node;   /* asked */
    uint64_t life;   /* of the agent, or of its host: ENGINE_* */
    uint64_t number; /* of the call, attempt or job */
    enum session_call kind;
    int rc;
    int leader; /* RESPONSE with NOT_LEADER: slot, -1 unknown */
    uint32_t container;
    size_t size;
    uint8_t bytes[];
};
struct skep_parcel *skep_parcel_new(const struct skep_parcel *like, const uint8_t *bytes,
                                    size_t size);
/* Takes p over. node < 0: outside of the nodes. */
void skep_post(struct sim *s, uint64_t delay_us, int node, struct skep_parcel *p);
struct skep_parcel *skep_parcel_pack(const struct skep_parcel *like, const ProtobufCMessage *m);

/* ---- agents ---- */

struct skep_container { /* what the engine has; index is its name */
    char task_id[ID_CHARS + 1];
    char image[64];
    enum container_phase phase; /* ABSENT: free */
    int32_t exit_code;
    uint32_t starts;
    uint64_t serial;
};

struct skep_agent {
    struct sim *s;
    uint32_t index;
    char node_id[ID_CHARS + 1];
    bool up, cut;
    uint64_t life, host_life;
    struct prng prng;
    struct session session;
    struct roster roster;
    uint64_t numbers[SESSION_CALL_COUNT]; /* of the calls in flight, 0: none */
    uint64_t number_last;
    int manager; /* slot it is connected to, -1 none */
    uint64_t timer_us;
    struct skep_container containers[SKEP_CONTAINERS_MAX];
    uint64_t job_last, serial_last;
};

struct skep_call { /* parked with a dispatcher */
    uint32_t agent, node;
    uint64_t life, number;
    enum session_call kind;
};

struct skep_operator {
    struct skep_parcel *request; /* under way, kept for repetition */
    uint64_t attempt;
    uint32_t node;
    bool hinted;
    bool calm; /* asked after the last fault */
    uint8_t request_id[STORE_REQUEST_ID_BYTES];
};

struct skep {
    struct sim *s;
    struct prng prng, agent_prng;
    struct skep_agent agents[SKEP_AGENTS_MAX];
    uint32_t agent_count;
    struct skep_operator operators[SKEP_OPERATORS];
    struct world view; /* of the reference store, for the rules */
    bool check_due;
    uint64_t repairs; /* services repaired so far, in the calm */
    uint32_t agent_fault_us, agent_crash_ppm, agent_cut_ppm, task_end_ppm;
    uint64_t requests;
    struct arena arena; /* one event */
};

static inline struct skep *skep_of(const struct sim *s)
{
    return s->workload_state;
}

/* skep_agent.c */
void skep_agent_start(struct skep_agent *a);
void skep_agent_stop(struct skep_agent *a, bool host);
void skep_agent_timer(struct skep_agent *a, const struct skep_parcel *p);
void skep_agent_response(struct skep_agent *a, const struct skep_parcel *p);
void skep_agent_fault(struct skep *w);
void skep_agent_feed(struct skep_agent *a, struct roster_entry *en, const struct task_event *ev);
/* skep_engine.c */
void skep_engine_start(struct skep_agent *a, struct roster_entry *en, enum task_op op);
void skep_engine_done(struct skep_agent *a, const struct skep_parcel *p);
void skep_engine_exit(struct skep_agent *a, const struct skep_parcel *p);
struct skep_container *skep_engine_find(struct skep_agent *a, const char *task_id);
void skep_engine_stop_all(struct skep_agent *a);
/* skep_manager.c */
extern const struct sim_machine_ops skep_manager;
void skep_manager_bind(struct sim *s, uint32_t node);
void skep_manager_started(struct sim *s, uint32_t node);
void skep_manager_leader(struct sim *s, uint32_t node, const struct raft_status *status);
uint64_t skep_manager_run(struct sim *s, uint32_t node);
void skep_manager_agent_call(struct sim *s, uint32_t node, const struct skep_parcel *p);
/* The content that every cluster starts with. */
void skep_manager_fill(struct store *s);
const char *skep_agent_id(uint32_t index, char id[ID_CHARS + 1]);
/* skep_operator.c */
void skep_operator_wake(struct skep *w, const struct skep_parcel *p);
void skep_operator_response(struct skep *w, const struct skep_parcel *p);
void skep_operator_call(struct sim *s, uint32_t node, const struct skep_parcel *p);
/* skep.c */
int skep_pick_node(struct skep *w);
uint64_t skep_delay(struct skep *w);
bool skep_loses(struct skep *w);

#endif
