/* Log calls of readers and agents, answered by the broker (managerd/logs). */
#include "managerd/logs/broker.h"
#include "managerd/manager.h"

enum { LOGS_WAIT_MS_MAX = 60 * 1000, LOGS_SCAN_MS = 200 };

static struct log_call log_call_of(struct incoming *in, const struct core_env *env,
                                   uint32_t wait_ms)
{
    return (struct log_call){ .env = env,
                              .node_id = in->caller.node_id,
                              .arena = &in->arena,
                              .call = in,
                              .until_ms = env->now_ms + MIN(wait_ms, (uint32_t)LOGS_WAIT_MS_MAX) };
}

void logs_open_call(struct incoming *in)
{
    struct manager *m = in->manager;
    struct core_env env = manager_env(m);
    Skep__LogsOpenResponse answer = SKEP__LOGS_OPEN_RESPONSE__INIT;
    struct id id;
    struct err e = { 0 };
    int rc = log_broker_open(m->logs, &env, (const Skep__LogsOpenRequest *)in->request, &id, &e);

    if (rc < 0) {
        incoming_fail(in, rc, &e);
        return;
    }
    answer.subscription_id = id.s;
    m->logs_due_ms = 0;
    incoming_reply(in, &answer.base);
}

void logs_read_call(struct incoming *in)
{
    struct manager *m = in->manager;
    const Skep__LogsReadRequest *req = (const Skep__LogsReadRequest *)in->request;
    struct core_env env = manager_env(m);
    struct log_call c = log_call_of(in, &env, req->wait_ms);
    Skep__LogsReadResponse answer;
    struct err e = { 0 };
    int rc = log_broker_read(m->logs, &c, req->subscription_id, &answer, &e);

    if (rc < 0)
        incoming_fail(in, rc, &e);
    else if (rc != LOGS_PARKED)
        incoming_reply(in, &answer.base);
}

static int check_session(const struct incoming *in, const char *session_id, struct err *e)
{
    if (!dispatcher_session_valid(in->manager->dispatcher, in->caller.node_id, session_id))
        return err_set(e, ERR_STALE, "session invalid: register again");
    return 0;
}

void log_subscriptions_call(struct incoming *in)
{
    struct manager *m = in->manager;
    const Skep__LogSubscriptionsRequest *req = (const Skep__LogSubscriptionsRequest *)in->request;
    struct core_env env = manager_env(m);
    struct log_call c = log_call_of(in, &env, req->wait_ms);
    Skep__LogSubscriptionsResponse answer;
    struct err e = { 0 };
    int rc = check_session(in, req->session_id, &e);

    if (rc == 0)
        rc = log_broker_listen(m->logs, &c, req->since, &answer, &e);
    if (rc < 0)
        incoming_fail(in, rc, &e);
    else if (rc != LOGS_PARKED)
        incoming_reply(in, &answer.base);
}

void log_publish_call(struct incoming *in)
{
    struct manager *m = in->manager;
    const Skep__LogPublishRequest *req = (const Skep__LogPublishRequest *)in->request;
    struct core_env env = manager_env(m);
    struct log_call c = log_call_of(in, &env, 0);
    Skep__LogPublishResponse answer;
    struct err e = { 0 };
    int rc = check_session(in, req->session_id, &e);

    if (rc < 0) {
        incoming_fail(in, rc, &e);
        return;
    }
    log_broker_publish(m->logs, &c, req, &answer);
    m->logs_due_ms = 0;
    incoming_reply(in, &answer.base);
}

static void fail_stale(struct incoming *in)
{
    struct err e = { 0 };

    (void)err_set(&e, ERR_STALE, "replaced by a newer call");
    incoming_fail(in, -ERR_STALE, &e);
}

void log_calls_run(struct manager *m)
{
    struct core_env env = manager_env(m);
    struct log_due due;
    void *displaced;

    if (!m->leading || env.now_ms < m->logs_due_ms)
        return;
    m->logs_due_ms = env.now_ms + LOGS_SCAN_MS;
    while (log_broker_take_returned(m->logs, &displaced))
        fail_stale(displaced);
    for (;;) {
        CLEANUP_ARENA struct arena arena = { 0 };

        if (!log_broker_next_call(m->logs, &env, &arena, &due))
            return;
        incoming_reply(due.call, due.is_read ? &due.read.base : &due.subscriptions.base);
    }
}

void log_calls_drop(struct manager *m)
{
    struct incoming *in;

    while ((in = log_broker_take_call(m->logs)) != NULL) {
        if (in->method == SKEP__METHOD__METHOD_LOG_SUBSCRIPTIONS) {
            rpc_reply_not_leader(in->call, peers_leader_address(m));
            incoming_free(in);
        } else {
            fail_stale(in);
        }
    }
    log_broker_clear(m->logs);
}
