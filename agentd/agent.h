/* The agent of one host: reconciles the containers of the local Docker Engine with what the
 * managers assign to this node, and relays logs. Stateless: after a restart it adopts its
 * containers by their labels. The decisions are in worker/; this is the shell around them, one loop
 * thread that never waits for the engine, a manager or a disk. */
#ifndef SKEP_AGENTD_AGENT_H
#define SKEP_AGENTD_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agentd/net/net.h"
#include "common/err.h"
#include "common/ip.h"
#include "common/loop.h"
#include "proto/types.pb-c.h"

struct agent;

enum agent_pull { AGENT_PULL_ALWAYS, AGENT_PULL_MISSING };

struct agent_options {         /* strings are borrowed for the life of the agent */
    const char *state_dir;     /* identity/ is below */
    const char *run_dir;       /* tasks/ is below */
    const char *engine_socket; /* path of the unix socket */
    char *const *join;         /* managers to enrol with, host[:port]; may be empty */
    size_t join_count;
    const char *token;                   /* "" without */
    Skep__NodeAvailability availability; /* of a new node */
    enum agent_pull pull;
    uint32_t ping_ms;    /* how often, and how long the engine may take to answer; 0 = 5000 */
    struct ip data_path; /* family 0: as the managers see this node */
    enum net_balancer balancer;
    const char *gate; /* path of skep-gate; NULL or "": beside this program, or where installed */
    bool no_overlays; /* leaves this host's network alone; tasks with networks go elsewhere */
    bool allow_engine_access; /* tasks may mount the engine's socket and the agent's directories */
};

/* Starts everything; NULL with e set when a directory cannot be used. */
struct agent *agent_new(struct loop *l, const struct agent_options *o, struct err *e);
/* Leaves every container as it is. */
void agent_free(struct agent *ag);

/* One line for systemd's STATUS= and for people. */
void agent_describe(const struct agent *ag, char *ret, size_t size);

#endif
