#include "test/lib/fake_manager.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/arena.h"
#include "common/assert.h"
#include "common/clock.h"
#include "common/identity.h"
#include "common/message.h"
#include "proto/ca.pb-c.h"
#include "test/lib/pki.h"

enum { TASKS_MAX = 2000, OBJECTS_MAX = 64, HEARTBEAT_MS = 200, NODE = 1, MANAGER = 2 };

struct fake_task {
    Skep__TaskAssignment *a;  /* NULL: removed or forgotten */
    Skep__TaskStatus *status; /* NULL: none yet */
    bool dirty, removed;
};

struct fake_manager {
    struct loop *loop;
    struct rpc *rpc;
    struct pki pki;
    struct tls_context *tls;
    struct rpc_server *server;
    unsigned port;
    struct fake_task tasks[TASKS_MAX + 1]; /* by number */
    Skep__Secret *secrets[OBJECTS_MAX];
    Skep__Config *configs[OBJECTS_MAX];
    size_t secret_count, config_count, secrets_sent, configs_sent;
    char session[16];
    uint64_t token, logs_token;
    struct rpc_call *parked, *logs_parked;
    Skep__NodeDescription *description;
    struct fake_manager_stats stats;
    Skep__LogSubscription *subscription;
    enum tls_role renew_role; /* NONE: nothing to renew */
    bool logs_changed, logs_done, logs_stop;
    uint32_t logs_pause_ms;
    struct buf logs, logs_error;
    Skep__NetworksResponse *networks; /* the latest answer; NULL: does not know the call */
    bool networks_sent;
    uint64_t networks_since, networks_token;
    struct rpc_call *networks_parked;
    Skep__NetworkCheckReport *check_report;
};

const char *fake_manager_task_id(unsigned number)
{
    static char ids[8][ID_CHARS + 1];
    static unsigned next;
    char *id = ids[next++ % 8];

    /* The number comes early: interfaces are named by the first characters of an id. */
    (void)snprintf(id, ID_CHARS + 1, "task%05u%016u", number % 100000, 0u);
    return id;
}

static unsigned number_of(const char *task_id)
{
    char digits[6] = "";
    unsigned number;

    if (strlen(task_id) == ID_CHARS && strncmp(task_id, "task", 4) == 0)
        memcpy(digits, task_id + 4, 5);
    number = (unsigned)strtoul(digits, NULL, 10);
    return number <= TASKS_MAX ? number : 0;
}

/* ---- answers ---- */

static void answer_assignments(struct fake_manager *m, struct rpc_call *call, bool complete)
{
    Skep__AssignmentsResponse r = SKEP__ASSIGNMENTS_RESPONSE__INIT;
    struct arena a = { 0 };

    r.token = ++m->token;
    r.complete = complete;
    r.tasks = arena_array(&a, TASKS_MAX, sizeof(r.tasks[0]));
    r.removed_tasks = arena_array(&a, TASKS_MAX, sizeof(r.removed_tasks[0]));
    for (unsigned i = 1; i <= TASKS_MAX; i++) {
        struct fake_task *t = &m->tasks[i];

        if (t->a != NULL && (complete || t->dirty)) {
            t->a->task->status = t->status == NULL ? t->a->task->status : t->status;
            r.tasks[r.n_tasks++] = t->a;
        } else if (t->removed && !complete) {
            r.removed_tasks[r.n_removed_tasks++] = arena_strdup(&a, fake_manager_task_id(i));
        }
        t->dirty = t->removed = false;
    }
    if (complete)
        m->secrets_sent = m->configs_sent = 0;
    r.secrets = m->secrets + m->secrets_sent;
    r.n_secrets = m->secret_count - m->secrets_sent;
    r.configs = m->configs + m->configs_sent;
    r.n_configs = m->config_count - m->configs_sent;
    m->secrets_sent = m->secret_count;
    m->configs_sent = m->config_count;
    rpc_reply(call, &r.base);
    arena_deinit(&a);
}

static void wake(struct fake_manager *m)
{
    struct rpc_call *call = m->parked;

    m->parked = NULL;
    if (call != NULL)
        answer_assignments(m, call, false);
}

static bool anything_new(const struct fake_manager *m)
{
    for (unsigned i = 1; i <= TASKS_MAX; i++)
        if (m->tasks[i].dirty || m->tasks[i].removed)
            return true;
    return m->secrets_sent != m->secret_count || m->configs_sent != m->config_count;
}

static void on_session(struct fake_manager *m, struct rpc_call *call, const void *body)
{
    const Skep__SessionRequest *q = body;
    Skep__SessionResponse r = SKEP__SESSION_RESPONSE__INIT;

    m->stats.sessions++;
    m->parked = m->logs_parked = m->networks_parked = NULL;
    free(m->description);
    m->description = q->description == NULL
                         ? NULL
                         : (Skep__NodeDescription *)message_clone(&q->description->base);
    (void)snprintf(m->session, sizeof(m->session), "s%u", m->stats.sessions);
    r.session_id = m->session;
    r.heartbeat_ms = HEARTBEAT_MS;
    rpc_reply(call, &r.base);
}

static void on_beat(struct fake_manager *m, struct rpc_call *call, const void *body)
{
    const Skep__HeartbeatRequest *q = body;
    Skep__HeartbeatResponse r = SKEP__HEARTBEAT_RESPONSE__INIT;

    m->stats.beats++;
    if (q->description != NULL) {
        free(m->description);
        m->description = (Skep__NodeDescription *)message_clone(&q->description->base);
    }
    r.heartbeat_ms = HEARTBEAT_MS;
    r.renew_certificate = m->renew_role != TLS_ROLE_NONE;
    rpc_reply(call, &r.base);
}

static void on_renew(struct fake_manager *m, struct rpc_call *call, const void *body)
{
    const Skep__CertificateRenewRequest *q = body;
    Skep__CertificateRenewResponse r = SKEP__CERTIFICATE_RENEW_RESPONSE__INIT;
    struct buf pem = BUF_INIT(X509_PEM_BYTES_MAX);
    int64_t now_ns = clock_wall_ns();
    struct x509_issue issue = { .csr_pem = q->csr_pem.data,
                                .csr_size = q->csr_pem.len,
                                .identity = { .node = pki_id(NODE),
                                              .cluster = m->pki.cluster,
                                              .role = m->renew_role,
                                              .not_after_ns = now_ns + 86400000000000 },
                                .now_ns = now_ns };

    m->stats.renewals++;
    ASSERT(x509_ca_issue(m->pki.ca, &issue, &pem, NULL) == 0);
    m->renew_role = TLS_ROLE_NONE;
    r.certificate_pem = (ProtobufCBinaryData){ pem.size, pem.data };
    r.root_ca_pem = (ProtobufCBinaryData){ strlen(m->pki.root_pem), (uint8_t *)m->pki.root_pem };
    rpc_reply(call, &r.base);
    buf_deinit(&pem);
}

void fake_manager_renew(struct fake_manager *m, enum tls_role role)
{
    m->renew_role = role;
}

static void on_assignments(struct fake_manager *m, struct rpc_call *call, const void *body)
{
    const Skep__AssignmentsRequest *q = body;
    if (q->since == 0 || q->since != m->token || anything_new(m))
        answer_assignments(m, call, q->since == 0 || q->since != m->token);
    else
        m->parked = call;
}

static void on_report(struct fake_manager *m, struct rpc_call *call, const void *body)
{
    const Skep__TaskStatusRequest *q = body;
    Skep__TaskStatusResponse r = SKEP__TASK_STATUS_RESPONSE__INIT;
    struct arena a = { 0 };

    m->stats.reports++;
    r.unknown_tasks = arena_array(&a, q->n_updates + 1, sizeof(r.unknown_tasks[0]));
    for (size_t i = 0; i < q->n_updates; i++) {
        const Skep__TaskStatusUpdate *u = q->updates[i];
        struct fake_task *t = &m->tasks[number_of(u->task_id)];

        if (t->a == NULL) {
            r.unknown_tasks[r.n_unknown_tasks++] = u->task_id;
            continue;
        }
        if (t->status != NULL && u->status->state < t->status->state)
            m->stats.backward++;
        if (t->a->task->status == t->status)
            t->a->task->status = NULL;
        free(t->status);
        t->status = (Skep__TaskStatus *)message_clone(&u->status->base);
        t->a->task->status = t->status;
    }
    rpc_reply(call, &r.base);
    arena_deinit(&a);
}

/* ---- logs ---- */

static void answer_subscriptions(struct fake_manager *m, struct rpc_call *call)
{
    Skep__LogSubscriptionsResponse r = SKEP__LOG_SUBSCRIPTIONS_RESPONSE__INIT;

    m->logs_changed = false;
    r.token = ++m->logs_token;
    r.n_subscriptions = m->subscription != NULL;
    r.subscriptions = &m->subscription;
    rpc_reply(call, &r.base);
}

static void on_subscriptions(struct fake_manager *m, struct rpc_call *call, const void *body)
{
    const Skep__LogSubscriptionsRequest *q = body;
    if (q->since == 0 || m->logs_changed)
        answer_subscriptions(m, call);
    else
        m->logs_parked = call;
}

static void on_publish(struct fake_manager *m, struct rpc_call *call, const void *body)
{
    const Skep__LogPublishRequest *q = body;
    Skep__LogPublishResponse r = SKEP__LOG_PUBLISH_RESPONSE__INIT;

    for (size_t i = 0; i < q->n_entries; i++)
        ASSERT(buf_printf(&m->logs, "%d:%.*s\n", q->entries[i]->is_stderr ? 2 : 1,
                          (int)q->entries[i]->data.len,
                          (const char *)q->entries[i]->data.data) == 0);
    ASSERT(buf_append_str(&m->logs_error, q->error) == 0);
    m->logs_done = m->logs_done || q->done;
    r.stop = m->logs_stop;
    r.pause_ms = m->logs_pause_ms;
    rpc_reply(call, &r.base);
}

/* ---- networks ---- */

static void answer_networks(struct fake_manager *m, struct rpc_call *call)
{
    m->networks->token = ++m->networks_token;
    m->networks_sent = true;
    rpc_reply(call, &m->networks->base);
}

static void on_networks(struct fake_manager *m, struct rpc_call *call, const void *body)
{
    m->networks_since = ((const Skep__NetworksRequest *)body)->since;
    if (m->networks == NULL)
        rpc_reply_error(call, ERR_UNSUPPORTED, "method 47 is unknown to this version");
    else if (!m->networks_sent || (m->networks_since == 0 && m->networks->complete))
        answer_networks(m, call);
    else
        m->networks_parked = call;
}

static void on_check_report(struct fake_manager *m, struct rpc_call *call, const void *body)
{
    Skep__NetworkCheckReportResponse r = SKEP__NETWORK_CHECK_REPORT_RESPONSE__INIT;

    free(m->check_report);
    m->check_report = (Skep__NetworkCheckReport *)message_clone(body);
    rpc_reply(call, &r.base);
}

void fake_manager_networks(struct fake_manager *m, const Skep__NetworksResponse *r)
{
    struct rpc_call *call = m->networks_parked;

    free(m->networks);
    m->networks = (Skep__NetworksResponse *)message_clone(&r->base);
    m->networks_sent = false;
    m->networks_parked = NULL;
    if (call != NULL)
        answer_networks(m, call);
}

uint64_t fake_manager_networks_since(const struct fake_manager *m)
{
    return m->networks_since;
}

uint64_t fake_manager_networks_token(const struct fake_manager *m)
{
    return m->networks_token;
}

const Skep__NetworkCheckReport *fake_manager_check_report(const struct fake_manager *m)
{
    return m->check_report;
}

/* ---- dispatch ---- */

typedef void fake_handler(struct fake_manager *m, struct rpc_call *call, const void *q);

static const struct {
    Skep__Method method;
    const ProtobufCMessageDescriptor *type;
    fake_handler *fn;
} handlers[] = {
    { SKEP__METHOD__METHOD_SESSION, &skep__session_request__descriptor, on_session },
    { SKEP__METHOD__METHOD_HEARTBEAT, &skep__heartbeat_request__descriptor, on_beat },
    { SKEP__METHOD__METHOD_ASSIGNMENTS, &skep__assignments_request__descriptor, on_assignments },
    { SKEP__METHOD__METHOD_TASK_STATUS, &skep__task_status_request__descriptor, on_report },
    { SKEP__METHOD__METHOD_NETWORKS, &skep__networks_request__descriptor, on_networks },
    { SKEP__METHOD__METHOD_NETWORK_CHECK_REPORT, &skep__network_check_report__descriptor,
      on_check_report },
    { SKEP__METHOD__METHOD_LOG_SUBSCRIPTIONS, &skep__log_subscriptions_request__descriptor,
      on_subscriptions },
    { SKEP__METHOD__METHOD_CERTIFICATE_RENEW, &skep__certificate_renew_request__descriptor,
      on_renew },
    { SKEP__METHOD__METHOD_LOG_PUBLISH, &skep__log_publish_request__descriptor, on_publish },
};

static void on_call(void *ctx, struct rpc_call *call, const struct rpc_peer *peer,
                    const Skep__Request *req)
{
    struct fake_manager *m = ctx;
    struct id node = pki_id(NODE);
    ProtobufCMessage *q;

    ASSERT(id_equal(&peer->identity.node, &node));
    for (size_t i = 0; i < ARRAY_LEN(handlers); i++) {
        if (handlers[i].method != req->method)
            continue;
        ASSERT(rpc_decode(&req->body, handlers[i].type, &q, NULL) == 0);
        handlers[i].fn(m, call, q);
        protobuf_c_message_free_unpacked(q, NULL);
        return;
    }
    rpc_reply_error(call, ERR_UNSUPPORTED, "not in this test");
}

/* ---- life ---- */

void fake_manager_up(struct fake_manager *m)
{
    char url[64];
    struct rpc_listen_options o = { .url = url, .tls = m->tls, .handler = on_call, .ctx = m };
    struct err e = { 0 };

    (void)snprintf(url, sizeof(url), "tls+tcp://127.0.0.1:%u", m->port);
    m->server = rpc_listen(m->rpc, &o, &e);
    ASSERT(m->server != NULL);
    m->port = rpc_server_port(m->server);
}

void fake_manager_down(struct fake_manager *m)
{
    rpc_server_free(m->server);
    m->server = NULL;
    m->parked = m->logs_parked = m->networks_parked = NULL;
}

struct fake_manager *fake_manager_new(struct loop *l, struct rpc *rpc)
{
    struct fake_manager *m = xcalloc(1, sizeof(*m));

    m->loop = l;
    m->rpc = rpc;
    m->pki = pki_new(7);
    m->tls = pki_context(&m->pki, pki_id(MANAGER), TLS_ROLE_MANAGER);
    buf_init(&m->logs, 64 << 20);
    buf_init(&m->logs_error, 64 << 10);
    fake_manager_up(m);
    return m;
}

static void task_clear(struct fake_task *t)
{
    if (t->a != NULL && t->a->task->status == t->status)
        t->a->task->status = NULL;
    free(t->a);
    free(t->status);
    *t = (struct fake_task){ .removed = t->a != NULL };
}

void fake_manager_free(struct fake_manager *m)
{
    if (m->server != NULL)
        fake_manager_down(m);
    for (unsigned i = 0; i <= TASKS_MAX; i++)
        task_clear(&m->tasks[i]);
    for (size_t i = 0; i < m->secret_count; i++)
        free(m->secrets[i]);
    for (size_t i = 0; i < m->config_count; i++)
        free(m->configs[i]);
    free(m->description);
    free(m->subscription);
    free(m->networks);
    free(m->check_report);
    buf_deinit(&m->logs);
    buf_deinit(&m->logs_error);
    tls_context_free(m->tls);
    pki_free(&m->pki);
    free(m);
}

void fake_manager_enrol(struct fake_manager *m, const char *state_dir)
{
    char *pem = pki_node(&m->pki, pki_id(NODE), TLS_ROLE_WORKER);
    char address[64], *addresses[] = { address };
    struct err e = { 0 };

    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", m->port);
    (void)mkdir(state_dir, 0700); /* or it is there */
    ASSERT(identity_save(state_dir, pem, m->pki.root_pem, &e) == 0);
    ASSERT(identity_save_managers(state_dir, addresses, 1, &e) == 0);
    free(pem);
}

const char *fake_manager_node_id(const struct fake_manager *m)
{
    static struct id node;

    (void)m;
    node = pki_id(NODE);
    return node.s;
}

const char *fake_manager_cluster_id(const struct fake_manager *m)
{
    return m->pki.cluster.s;
}

/* ---- assignments ---- */

Skep__TaskAssignment *fake_manager_make_task(struct fake_manager *m,
                                             const struct fake_task_options *o)
{
    Skep__TaskAssignment a = SKEP__TASK_ASSIGNMENT__INIT;
    Skep__Task t = SKEP__TASK__INIT;
    Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;
    Skep__ServiceSpec service = SKEP__SERVICE_SPEC__INIT;
    Skep__TaskSpec spec = SKEP__TASK_SPEC__INIT;
    Skep__ContainerSpec c = SKEP__CONTAINER_SPEC__INIT;
    struct id node = pki_id(NODE), service_id = pki_id(1000);

    c.image = (char *)o->image;
    c.command = (char **)o->command;
    while (c.command != NULL && c.command[c.n_command] != NULL)
        c.n_command++;
    c.stop_grace_period = o->grace_ns == 0 ? 1000000000 : o->grace_ns;
    c.init = SKEP__CONTAINER_SPEC__INIT__INIT_DEFAULT;
    spec.container = &c;
    service.task = &spec;
    status.state = SKEP__TASK_STATE__TASK_ASSIGNED;
    t.id = (char *)fake_manager_task_id(o->number);
    t.service_id = service_id.s;
    t.slot = o->number;
    t.node_id = node.s;
    t.desired_state = o->desired == 0 ? SKEP__TASK_STATE__TASK_RUNNING : o->desired;
    t.status = &status;
    a.task = &t;
    a.spec = &service;
    a.service_name = (char *)o->service;
    (void)m;
    return (Skep__TaskAssignment *)message_clone(&a.base);
}

void fake_manager_assign(struct fake_manager *m, const Skep__TaskAssignment *a)
{
    struct fake_task *t = &m->tasks[number_of(a->task->id)];

    ASSERT(t != &m->tasks[0] && t->a == NULL);
    t->a = (Skep__TaskAssignment *)message_clone(&a->base);
    t->dirty = true;
    wake(m);
}

void fake_manager_desire(struct fake_manager *m, unsigned number, Skep__TaskState desired)
{
    m->tasks[number].a->task->desired_state = desired;
    m->tasks[number].dirty = true;
    wake(m);
}

void fake_manager_remove(struct fake_manager *m, unsigned number)
{
    task_clear(&m->tasks[number]);
    wake(m);
}

void fake_manager_forget(struct fake_manager *m, unsigned number)
{
    task_clear(&m->tasks[number]);
    m->tasks[number].removed = false;
}

void fake_manager_secret(struct fake_manager *m, const char *id, const void *data, size_t size)
{
    Skep__Secret s = SKEP__SECRET__INIT;
    Skep__SecretSpec spec = SKEP__SECRET_SPEC__INIT;

    ASSERT(m->secret_count < OBJECTS_MAX);
    s.id = (char *)id;
    s.spec = &spec;
    spec.data = (ProtobufCBinaryData){ size, (uint8_t *)data };
    m->secrets[m->secret_count++] = (Skep__Secret *)message_clone(&s.base);
    wake(m);
}

void fake_manager_config(struct fake_manager *m, const char *id, const void *data, size_t size)
{
    Skep__Config c = SKEP__CONFIG__INIT;
    Skep__ConfigSpec spec = SKEP__CONFIG_SPEC__INIT;

    ASSERT(m->config_count < OBJECTS_MAX);
    c.id = (char *)id;
    c.spec = &spec;
    spec.data = (ProtobufCBinaryData){ size, (uint8_t *)data };
    m->configs[m->config_count++] = (Skep__Config *)message_clone(&c.base);
    wake(m);
}

/* ---- reports ---- */

const Skep__TaskStatus *fake_manager_status(const struct fake_manager *m, unsigned number)
{
    return m->tasks[number].status;
}

Skep__TaskState fake_manager_state(const struct fake_manager *m, unsigned number)
{
    const Skep__TaskStatus *s = fake_manager_status(m, number);

    return s == NULL ? SKEP__TASK_STATE__TASK_NEW : s->state;
}

unsigned fake_manager_count(const struct fake_manager *m, Skep__TaskState state)
{
    unsigned count = 0;

    for (unsigned i = 1; i <= TASKS_MAX; i++)
        count += m->tasks[i].a != NULL && fake_manager_state(m, i) == state;
    return count;
}

const Skep__NodeDescription *fake_manager_description(const struct fake_manager *m)
{
    return m->description;
}

struct fake_manager_stats fake_manager_stats(const struct fake_manager *m)
{
    return m->stats;
}

/* ---- log readers ---- */

void fake_manager_subscribe(struct fake_manager *m, const Skep__LogSubscription *s)
{
    struct rpc_call *call = m->logs_parked;

    free(m->subscription);
    m->subscription = s == NULL ? NULL : (Skep__LogSubscription *)message_clone(&s->base);
    if (s != NULL) {
        buf_clear(&m->logs);
        buf_clear(&m->logs_error);
        m->logs_done = false;
    }
    m->logs_changed = true;
    m->logs_parked = NULL;
    if (call != NULL)
        answer_subscriptions(m, call);
}

const char *fake_manager_logs(const struct fake_manager *m)
{
    return buf_str(&m->logs);
}

bool fake_manager_logs_done(const struct fake_manager *m)
{
    return m->logs_done;
}

const char *fake_manager_logs_error(const struct fake_manager *m)
{
    return buf_str(&m->logs_error);
}

void fake_manager_logs_answer(struct fake_manager *m, bool stop, uint32_t pause_ms)
{
    m->logs_stop = stop;
    m->logs_pause_ms = pause_ms;
}
