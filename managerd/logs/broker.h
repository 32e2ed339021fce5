/* The log broker: which agents send which tasks' logs to which reader. Lives in the leader's memory
 * only; a reader whose leader is gone opens again. Pure: calls that wait are opaque pointers.
 *
 * Bounded everywhere: subscriptions, bytes waiting per subscription (agents are asked to pause, and
 * what comes anyway is dropped and counted), and a subscription that nobody reads ends by itself.
 * swarmkit manager/logbroker; features.md 3.15. */
#ifndef SKEP_MANAGERD_LOGS_BROKER_H
#define SKEP_MANAGERD_LOGS_BROKER_H

#include "common/arena.h"
#include "managerd/store/core.h"
#include "proto/control.pb-c.h"
#include "proto/dispatcher.pb-c.h"

enum {
    LOGS_SUBSCRIPTIONS_MAX = 256,
    LOGS_QUEUE_BYTES_MAX = 1 << 20,      /* above: agents pause */
    LOGS_QUEUE_BYTES_HARD_MAX = 4 << 20, /* above: dropped and counted */
    LOGS_ANSWER_BYTES_MAX = 1 << 20,
    LOGS_IDLE_MS_MAX = 30000, /* without a read: closed */
    LOGS_PAUSE_MS = 100,
    LOGS_SELECTORS_MAX = 1000,
    LOGS_LISTENERS_MAX = 20000,
};

struct log_broker;
struct log_broker *log_broker_new(void);
void log_broker_free(struct log_broker *b);

/* ---- readers ---- */

int log_broker_open(struct log_broker *b, const struct core_env *env,
                    const Skep__LogsOpenRequest *req, struct id *ret_id, struct err *e) MUST_CHECK;
/* A call of a reader or an agent. */
struct log_call {
    const struct core_env *env;
    const char *node_id; /* agents: from the verified certificate */
    struct arena *arena; /* where answers are built */
    void *call;          /* what is given back when a waiting call is due */
    uint64_t until_ms;
};
enum { LOGS_PARKED = 1 };

/* 0: *ret is the answer. LOGS_PARKED: the call waits; an older one of the same subscription is
 * given back. */
int log_broker_read(struct log_broker *b, const struct log_call *c, const char *id,
                    Skep__LogsReadResponse *ret, struct err *e) MUST_CHECK;

/* ---- agents ---- */

/* As log_broker_read, for the subscriptions that concern a node. */
int log_broker_listen(struct log_broker *b, const struct log_call *c, uint64_t since,
                      Skep__LogSubscriptionsResponse *ret, struct err *e) MUST_CHECK;
void log_broker_publish(struct log_broker *b, const struct log_call *c,
                        const Skep__LogPublishRequest *req, Skep__LogPublishResponse *ret);

/* ---- waiting calls ---- */

/* Tasks that appear or move change what agents have to listen for. */
void log_broker_on_event(struct log_broker *b, const struct store_event *ev);
struct log_due {
    void *call;
    bool is_read;
    Skep__LogsReadResponse read;
    Skep__LogSubscriptionsResponse subscriptions;
};
bool log_broker_next_call(struct log_broker *b, const struct core_env *env, struct arena *a,
                          struct log_due *ret);
/* Calls displaced by newer ones of the same reader or agent: answer them with -ERR_STALE. */
bool log_broker_take_returned(struct log_broker *b, void **ret_call);
/* Any waiting call, NULL when none: leadership is over. */
void *log_broker_take_call(struct log_broker *b);
/* Forgets everything. */
void log_broker_clear(struct log_broker *b);

#endif
