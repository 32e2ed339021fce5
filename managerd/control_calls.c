/* Operators' calls: reads wait for a read index unless stale ones do, changes for their commit,
 * watches for news. */
#include <string.h>

#include "common/log.h"
#include "common/token.h"
#include "managerd/control/control.h"
#include "managerd/manager.h"

/* One call on its way through Raft. */
struct control_work {
    struct incoming *in;
    const struct control_method *method;
    struct control_subject subject;
    bool confirmed; /* what this leader knows was confirmed by a majority since the call came */
};

static void work_answer(struct control_work *w)
{
    struct incoming *in = w->in;
    struct core_env core = manager_env(in->manager);
    struct control_member members[RAFT_MEMBERS_MAX];
    struct control_env env = { .core = &core,
                               .arena = &in->arena,
                               .members = members,
                               .member_count = info_members(in->manager, members) };
    ProtobufCMessage *answer = NULL;
    struct err e = { 0 };
    int rc = 0;

    if (w->method->answer != NULL)
        rc = w->method->answer(&env, in->request, &w->subject, &answer, &e);
    if (rc < 0)
        incoming_fail(in, rc, &e);
    else
        incoming_reply(in, answer);
    free(w);
}

static void work_fail(struct control_work *w, int rc, const struct err *e)
{
    incoming_fail(w->in, rc, e);
    free(w);
}

static void on_read_ready(void *ctx, int rc, uint64_t index)
{
    struct control_work *w = ctx;
    struct err e = { 0 };

    (void)index; /* the store is at least this new */
    if (rc < 0) {
        calls_explain_no_leader(w->in->manager, &e);
        work_fail(w, rc, &e);
        return;
    }
    work_answer(w);
}

static void on_applied(void *ctx, int rc, const struct err *e)
{
    struct control_work *w = ctx;
    struct store_result result;
    struct err why = *e;

    if (rc == 0) {
        /* Asked again before the first attempt was applied: that one made the object. */
        if (w->in->has_request_id &&
            store_find_result(w->in->manager->store, w->in->request_id, &result) &&
            id_valid(result.object_id))
            w->subject.id = id_from_str(result.object_id);
        work_answer(w);
        return;
    }
    if (rc == -ERR_UNAVAILABLE && why.message[0] == '\0')
        (void)err_set(&why, ERR_UNAVAILABLE,
                      "leadership was lost while the change was under way: it may or may not have "
                      "happened; look before you repeat it");
    work_fail(w, rc, &why);
}

static void change(struct control_work *w);

static void on_refusal_confirmed(void *ctx, int rc, uint64_t index)
{
    struct control_work *w = ctx;
    struct err e = { 0 };

    (void)index; /* the store is at least this new */
    if (rc == 0) {
        w->confirmed = true;
        change(w);
        return;
    }
    calls_explain_no_leader(w->in->manager, &e);
    work_fail(w, rc, &e);
}

/* A refusal is a read: "not found", "exists already", "out of sequence" tell what the store holds.
 * A leader that was replaced without having noticed must not tell from what it last knew. */
static void refuse(struct control_work *w, int rc, const struct err *e)
{
    if (w->confirmed)
        work_fail(w, rc, e);
    else
        raft_node_read(w->in->manager->raft, on_refusal_confirmed, w);
}

static void change(struct control_work *w)
{
    struct incoming *in = w->in;
    struct manager *m = in->manager;
    struct core_env core = manager_env(m);
    struct control_env env = { .core = &core, .arena = &in->arena };
    struct store_tx *tx = store_tx_new();
    struct err e = { 0 };
    const Skep__Cluster *cluster = store_cluster(m->store);

    if (in->method == SKEP__METHOD__METHOD_CLUSTER_UPDATE && cluster != NULL &&
        cluster->root_ca != NULL) {
        for (size_t i = 0; i < ARRAY_LEN(env.fresh_tokens); i++) {
            env.fresh_tokens[i] = arena_alloc(&in->arena, TOKEN_CHARS + 1);
            manager_new_token(cluster->root_ca->digest, env.fresh_tokens[i]);
        }
    }
    int rc = w->method->change(&env, in->request, tx, &w->subject, &e);
    if (rc < 0)
        refuse(w, rc, &e);
    else
        leader_propose(m, tx, in->has_request_id ? in->request_id : NULL, on_applied, w);
    store_tx_free(tx);
}

/* A client that never saw its answer asks again with the same request id: it gets the first one's
 * result, and nothing happens twice. True when w was answered. */
static bool answered_before(struct control_work *w)
{
    struct incoming *in = w->in;
    struct store_result result;
    struct err e = { 0 };

    if (!in->has_request_id || !store_find_result(in->manager->store, in->request_id, &result))
        return false;
    if (result.rc < 0) {
        (void)err_set(&e, (enum err_code) - result.rc, "%s", result.message);
        work_fail(w, result.rc, &e);
        return true;
    }
    if (id_valid(result.object_id))
        w->subject.id = id_from_str(result.object_id);
    work_answer(w);
    return true;
}

bool control_stale(const struct incoming *in)
{
    if (in->method == SKEP__METHOD__METHOD_OBJECT_GET)
        return ((const Skep__ObjectGetRequest *)in->request)->stale;
    if (in->method == SKEP__METHOD__METHOD_OBJECT_LIST)
        return ((const Skep__ObjectListRequest *)in->request)->stale;
    return false;
}

void control_call(struct incoming *in)
{
    struct control_work *w = xcalloc(1, sizeof(*w));

    w->in = in;
    w->method = control_method_find(in->method);
    if (w->method->change != NULL && answered_before(w))
        return;
    if (w->method->change != NULL)
        change(w);
    else if (control_stale(in))
        work_answer(w);
    else
        raft_node_read(in->manager->raft, on_read_ready, w);
}

/* ---- watches ------------------------------------------------------------------------------------
 */

struct pending_watch {
    struct incoming *in;
    uint64_t until_ms;
    struct pending_watch *next;
};

/* True when the watch was answered and freed. */
static bool watch_try(struct incoming *in, bool last_chance)
{
    struct core_env core = manager_env(in->manager);
    struct control_env env = { .core = &core, .arena = &in->arena };
    Skep__WatchRequest *req = (Skep__WatchRequest *)in->request;
    Skep__WatchResponse answer;
    struct err e = { 0 };
    bool ready;
    int rc = control_watch(&env, req, &ready, &answer, &e);

    if (rc < 0) {
        incoming_fail(in, rc, &e);
        return true;
    }
    if (ready || last_chance) {
        incoming_reply(in, &answer.base);
        return true;
    }
    req->since = answer.version;
    arena_deinit(&in->arena);
    return false;
}

void control_watch_call(struct incoming *in)
{
    struct manager *m = in->manager;
    const Skep__WatchRequest *req = (const Skep__WatchRequest *)in->request;
    uint64_t now = loop_now_ms(m->loop);
    struct err e = { 0 };

    if (m->watch_count >= MANAGER_WATCHES_MAX) {
        (void)err_set(&e, ERR_BUSY, "more than %d watches; try again later", MANAGER_WATCHES_MAX);
        incoming_fail(in, -ERR_BUSY, &e);
        return;
    }
    if (watch_try(in, req->wait_ms == 0))
        return;
    struct pending_watch *w = xcalloc(1, sizeof(*w));
    uint64_t deadline = rpc_call_deadline_ms(in->call);

    w->in = in;
    w->until_ms = MIN(now + MIN(req->wait_ms, (uint32_t)CONTROL_WATCH_WAIT_MS_MAX), deadline);
    w->next = m->watches;
    m->watches = w;
    m->watch_count++;
    m->watch_due_ms = MIN(m->watch_due_ms, w->until_ms);
}

void control_watches_run(struct manager *m)
{
    uint64_t now = loop_now_ms(m->loop), version = store_version(m->store);
    struct pending_watch **at = &m->watches;

    if (version == m->watched_version && now < m->watch_due_ms)
        return;
    m->watched_version = version;
    m->watch_due_ms = UINT64_MAX;
    while (*at != NULL) {
        struct pending_watch *w = *at;

        if (watch_try(w->in, now >= w->until_ms)) {
            *at = w->next;
            m->watch_count--;
            free(w);
            continue;
        }
        m->watch_due_ms = MIN(m->watch_due_ms, w->until_ms);
        at = &w->next;
    }
}

void control_watches_drop(struct manager *m)
{
    while (m->watches != NULL) {
        struct pending_watch *w = m->watches;
        Skep__WatchResponse answer = SKEP__WATCH_RESPONSE__INIT;

        m->watches = w->next;
        m->watch_count--;
        answer.resync = true;
        answer.version = store_version(m->store);
        incoming_reply(w->in, &answer.base);
        free(w);
    }
}
