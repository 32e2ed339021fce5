/* The dispatcher with a store and agents that poll assignments and networks: what the tests of
 * managerd/dispatcher's network part share. Agents are named by their node's id. */
#ifndef SKEP_TEST_LIB_NET_RIG_H
#define SKEP_TEST_LIB_NET_RIG_H

#include "managerd/dispatcher/dispatcher.h"
#include "test/lib/core_rig.h"
#include "test/lib/net_mirror.h"

enum { NET_RIG_AGENTS_MAX = 16, NET_RIG_TASKS_MAX = 10000 };

struct net_agent {
    char node_id[ID_CHARS + 1];
    char session[ID_CHARS + 1];
    struct net_mirror mirror;
    bool silent;      /* sends no heartbeats */
    bool parked;      /* its networks call waits */
    uint64_t check;   /* of the last answer that had one */
    uint64_t refused; /* networks calls given back unanswered */
    bool tasks_parked;
    uint64_t tasks_token;
    /* Assignments as told: id and desired state. */
    struct net_told_task {
        char id[ID_CHARS + 1];
        Skep__TaskState desired;
    } * tasks;
    size_t task_count;
};

struct net_rig {
    struct core_rig core;
    struct dispatcher *d;
    struct net_agent agents[NET_RIG_AGENTS_MAX];
    size_t agent_count;
    void *answered; /* the last operator's call that was answered, with its answer */
    Skep__NetworkCheckResponse check;
    struct arena arena; /* of that answer */
};

void net_rig_init(struct net_rig *r);
void net_rig_deinit(struct net_rig *r);
/* Another leader: the same store, a fresh dispatcher state; sessions are gone. */
void net_rig_new_leader(struct net_rig *r);

/* READY, data path address 10.77.0.<number>. */
void net_rig_node(struct net_rig *r, const char *id, unsigned number);
void net_rig_node_state(struct net_rig *r, const char *id, Skep__NodeState state);
/* Overlay, allocated. */
Skep__Network *net_rig_network(struct net_rig *r, const char *id, uint32_t vni);
void net_rig_ingress(struct net_rig *r, const char *id, uint32_t vni);
/* networks: ids separated by spaces; with a VIP in each, unless dnsrr. */
void net_rig_service(struct net_rig *r, const char *id, const char *networks, bool dnsrr);
/* ASSIGNED to node and attached to the networks. */
void net_rig_task(struct net_rig *r, const char *id, const char *service_id, const char *node_id,
                  const char *networks);
void net_rig_task_state(struct net_rig *r, const char *id, Skep__TaskState state);
void net_rig_task_desired(struct net_rig *r, const char *id, Skep__TaskState desired);

/* Opens a session; the agent knows nothing of the new one's tokens. */
struct net_agent *net_rig_agent(struct net_rig *r, const char *node_id);
/* One networks call with what the agent knows; true when it was answered, else it waits. */
bool net_rig_ask(struct net_rig *r, struct net_agent *a);
/* One assignments call. */
bool net_rig_ask_tasks(struct net_rig *r, struct net_agent *a);
/* Heartbeats, runs the core and hands out due calls; nobody asks again. */
void net_rig_step(struct net_rig *r);
/* Everybody asks until nothing is new. */
void net_rig_settle(struct net_rig *r);
/* Desired state that the agent was told of; -1: it has no such task. */
int net_rig_told(const struct net_agent *a, const char *task_id);
/* -1: it has no such endpoint. */
int net_rig_endpoint(const struct net_agent *a, const char *task_id);

#endif
