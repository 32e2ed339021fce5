/* A manager that knows one agent: real TLS and RPC, no Raft, no scheduler. The test says what is
 * assigned and reads what is reported. Everything happens on the test's own loop. */
#ifndef SKEP_TEST_LIB_FAKE_MANAGER_H
#define SKEP_TEST_LIB_FAKE_MANAGER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "common/loop.h"
#include "common/rpc.h"
#include "common/tls.h"
#include "proto/dispatcher.pb-c.h"

struct fake_manager;

/* Makes a cluster and listens on a port of 127.0.0.1. Aborts on failure. */
struct fake_manager *fake_manager_new(struct loop *l, struct rpc *rpc);
void fake_manager_free(struct fake_manager *m);
/* Writes the identity of the agent's node, with this manager's address, into state_dir. */
void fake_manager_enrol(struct fake_manager *m, const char *state_dir);
const char *fake_manager_node_id(const struct fake_manager *m);
const char *fake_manager_cluster_id(const struct fake_manager *m);

/* Closes the port and every connection; opens it again. */
void fake_manager_down(struct fake_manager *m);
void fake_manager_up(struct fake_manager *m);

/* The next heartbeat's answer asks for a new certificate, of that role, and the call is served. */
void fake_manager_renew(struct fake_manager *m, enum tls_role role);

/* ---- what is assigned ---- */

/* A service's task with the given number: running `command` (up to the first NULL) in an image. */
struct fake_task_options {
    const char *service; /* name */
    unsigned number;     /* makes the id and is the slot; 1… */
    const char *image;
    const char *const *command; /* NULL: the image's */
    Skep__TaskState desired;    /* 0 = RUNNING */
    int64_t grace_ns;           /* of stop; 0 = 1 s */
};
/* A complete assignment, malloc'ed as one block: change it, assign it, free() it. */
Skep__TaskAssignment *fake_manager_make_task(struct fake_manager *m,
                                             const struct fake_task_options *o);
/* The id of the task with that number. */
const char *fake_manager_task_id(unsigned number);

void fake_manager_assign(struct fake_manager *m, const Skep__TaskAssignment *a); /* copied */
void fake_manager_desire(struct fake_manager *m, unsigned number, Skep__TaskState desired);
void fake_manager_remove(struct fake_manager *m, unsigned number);
/* Forgets the task without telling: the next report or complete set will. */
void fake_manager_forget(struct fake_manager *m, unsigned number);
void fake_manager_secret(struct fake_manager *m, const char *id, const void *data, size_t size);
void fake_manager_config(struct fake_manager *m, const char *id, const void *data, size_t size);

/* ---- what is reported ---- */

/* The latest status; NULL before the first report. */
const Skep__TaskStatus *fake_manager_status(const struct fake_manager *m, unsigned number);
Skep__TaskState fake_manager_state(const struct fake_manager *m, unsigned number);
/* Tasks whose last reported state is state. */
unsigned fake_manager_count(const struct fake_manager *m, Skep__TaskState state);
const Skep__NodeDescription *fake_manager_description(const struct fake_manager *m);
struct fake_manager_stats {
    unsigned sessions, beats, reports, renewals;
    unsigned backward; /* states that went down */
};
struct fake_manager_stats fake_manager_stats(const struct fake_manager *m);

/* ---- networks ---- */

/* The next answer of NETWORKS, copied; its token is filled in; a complete one is repeated to new
 * sessions. Before the first one the manager is of a version that does not know the call. */
void fake_manager_networks(struct fake_manager *m, const Skep__NetworksResponse *r);
/* What the latest request had as `since`, and the token of the latest answer: equal when the agent
 * has said that all is programmed. */
uint64_t fake_manager_networks_since(const struct fake_manager *m);
uint64_t fake_manager_networks_token(const struct fake_manager *m);
/* The latest report of a check; NULL before. */
const Skep__NetworkCheckReport *fake_manager_check_report(const struct fake_manager *m);

/* ---- logs ---- */

/* One subscription at a time; NULL ends it. */
void fake_manager_subscribe(struct fake_manager *m, const Skep__LogSubscription *s);
/* "<1|2>:<line>\n" per line received since the subscription. */
const char *fake_manager_logs(const struct fake_manager *m);
bool fake_manager_logs_done(const struct fake_manager *m);
const char *fake_manager_logs_error(const struct fake_manager *m);
/* What LOG_PUBLISH is answered from now on. */
void fake_manager_logs_answer(struct fake_manager *m, bool stop, uint32_t pause_ms);

#endif
