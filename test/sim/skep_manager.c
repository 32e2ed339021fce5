/* A manager as the machine of a full node: store and cores, run by managerd/leader.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "common/hash.h"
#include "managerd/allocator/allocator.h"
#include "managerd/control/control.h"
#include "managerd/logs/broker.h"
#include "test/sim/skep.h"

enum { HASH_EVERY = 8, TICK_MS = 500 }; /* hashing takes longer than applying */

#define WALL_NS INT64_C(1700000000000000000)

/* ---- content --------------------------------------------------------------------------------- */

const char *skep_agent_id(uint32_t index, char id[ID_CHARS + 1])
{
    memset(id, 'a', ID_CHARS);
    id[ID_CHARS - 1] = (char)('0' + index);
    id[ID_CHARS] = '\0';
    return id;
}

static void add_node(struct store_tx *tx, uint32_t index)
{
    Skep__Node node = SKEP__NODE__INIT;
    Skep__NodeSpec spec = SKEP__NODE_SPEC__INIT;
    Skep__Annotations annotations = SKEP__ANNOTATIONS__INIT;
    Skep__NodeStatus status = SKEP__NODE_STATUS__INIT;
    Skep__NodeDescription description = SKEP__NODE_DESCRIPTION__INIT;
    Skep__KeyValue label = SKEP__KEY_VALUE__INIT, *labels = &label;
    char id[ID_CHARS + 1];

    skep_agent_id(index, id);
    label.key = (char *)"zone";
    label.value = (char *)(index % 2 == 0 ? "x" : "y");
    annotations.n_labels = 1;
    annotations.labels = &labels;
    spec.annotations = &annotations;
    description.hostname = id;
    node.id = id;
    node.spec = &spec;
    node.status = &status;
    node.description = &description;
    store_tx_create(tx, &node.base);
}

void skep_manager_fill(struct store *s)
{
    CLEANUP_ARENA struct arena a = { 0 };
    struct store_tx *tx = store_tx_new();
    struct prng prng;
    Skep__Cluster cluster = SKEP__CLUSTER__INIT;
    struct err e = { 0 };
    uint8_t *data;
    size_t size;

    cluster.id = (char *)"cluster";
    cluster.spec = control_cluster_defaults(&a);
    store_tx_create(tx, &cluster.base);
    for (uint32_t i = 0; i < SKEP_AGENTS_MAX; i++)
        add_node(tx, i);
    prng_init(&prng, 1); /* the same for all */
    allocator_predefined(s, &prng, true, tx);
    store_tx_pack(tx, WALL_NS, NULL, &data, &size);
    int rc = store_apply_packed(s, 1, (ProtobufCBinaryData){ size, data }, NULL, &e);
    ASSERT(rc == 0);
    free(data);
    store_tx_free(tx);
}

/* ---- machine --------------------------------------------------------------------------------- */

static void *manager_create(void)
{
    struct manager *m = xcalloc(1, sizeof(*m));

    m->state_dir = (char *)"skep";
    m->store = store_new();
    m->logs = log_broker_new();
    skep_manager_fill(m->store);
    leader_init(m);
    return m;
}

static void manager_destroy(void *machine)
{
    struct manager *m = machine;

    leader_deinit(m);
    store_loader_free(m->loader);
    log_broker_free(m->logs);
    store_free(m->store);
    free(m);
}

static void manager_apply(void *machine, const struct raft_entry *e, struct sim_result *ret_result)
{
    (void)ret_result;
    manager_fsm.apply(machine, e->index, e->term, e->data->bytes, e->data->size);
}

static uint8_t *manager_pack(const void *machine, size_t *ret_size)
{
    enum { PIECE = 4096 };
    void *m = (void *)(uintptr_t)machine, *snapshot = manager_fsm.snapshot_begin(m);
    uint8_t *bytes = NULL;
    size_t size = 0, got;

    do {
        bytes = xrealloc(bytes, size + PIECE);
        got = manager_fsm.snapshot_next(snapshot, bytes + size, PIECE);
        size += got;
    } while (got > 0);
    manager_fsm.snapshot_end(m, snapshot);
    *ret_size = size;
    return bytes;
}

/* Of the content: a store's version stands still where entries hold no transaction. */
static uint64_t manager_hash(const void *machine)
{
    size_t size;
    CLEANUP_FREE uint8_t *bytes = manager_pack(machine, &size);

    return hash_bytes(bytes, size, 0);
}

static bool manager_load(void *machine, const uint8_t *bytes, size_t size, uint64_t index)
{
    struct err e = { 0 };

    return manager_fsm.install_begin(machine, index) == 0 &&
           manager_fsm.install_feed(machine, bytes, size, &e) == 0 &&
           manager_fsm.install_finish(machine, index, &e) == 0;
}

const struct sim_machine_ops skep_manager = {
    .create = manager_create,
    .destroy = manager_destroy,
    .hash = manager_hash,
    .hash_every = HASH_EVERY,
    .apply = manager_apply,
    .pack = manager_pack,
    .load = manager_load,
};

/* ---- life ------------------------------------------------------------------------------------ */

void skep_manager_bind(struct sim *s, uint32_t node)
{
    struct manager *m = s->nodes[node].machine;

    m->loop = s->nodes[node].full->loop;
    prng_init(&m->prng, prng_next(&s->entropy));
}

void skep_manager_started(struct sim *s, uint32_t node)
{
    struct manager *m = s->nodes[node].machine;

    m->raft = s->nodes[node].full->raft;
}

/* As managerd/host.c does. */
void skep_manager_leader(struct sim *s, uint32_t node, const struct raft_status *status)
{
    struct manager *m = s->nodes[node].machine;

    if (status->state == RAFT_LEADER && status->established)
        leader_start(m, status->term);
    else if (status->state != RAFT_LEADER)
        leader_stop(m);
}

static void respond(struct sim *s, const struct skep_call *c, int rc, const ProtobufCMessage *m)
{
    struct skep *w = skep_of(s);
    struct skep_parcel like = { .what = SKEP_AGENT_RESPONSE,
                                .who = c->agent,
                                .node = c->node,
                                .life = c->life,
                                .number = c->number,
                                .kind = c->kind,
                                .rc = rc,
                                .leader = -1 };

    if (rc == -ERR_NOT_LEADER && s->nodes[c->node].raft != NULL)
        like.leader = sim_slot(s, s->nodes[c->node].raft->leader);
    if (w->agents[c->agent].cut || skep_loses(w))
        return;
    skep_post(s, skep_delay(w), -1, skep_parcel_pack(&like, m));
}

/* The answers of managerd/agent_calls.c. */
static void answer_due(struct sim *s, struct manager *m)
{
    struct core_env env = manager_env(m);
    struct dispatcher_due due;

    for (;;) {
        CLEANUP_ARENA struct arena arena = { 0 };
        struct skep_call *c;

        if (!dispatcher_next_call(m->dispatcher, &env, &arena, &due))
            return;
        c = due.call;
        if (due.rc < 0)
            respond(s, c, due.rc, NULL);
        else
            respond(s, c, 0,
                    due.kind == DISPATCHER_REPORT ? &due.report.base : &due.assignments.base);
        free(c);
    }
}

/* Before every sleep, like managerd/manager.c. When it has to wake. */
uint64_t skep_manager_run(struct sim *s, uint32_t node)
{
    struct manager *m = s->nodes[node].machine;
    uint64_t at_ms;

    if (m->raft == NULL || !m->leading)
        return UINT64_MAX;
    leader_run(m);
    if (!m->leading)
        return UINT64_MAX;
    answer_due(s, m);
    at_ms = loop_now_ms(m->loop) + TICK_MS;
    for (size_t i = 0; i < m->core_count; i++) {
        if (!m->cores[i].in_flight)
            at_ms = MIN(at_ms, m->cores[i].wake_ms);
    }
    return at_ms;
}

/* ---- calls of agents ------------------------------------------------------------------------- */

static int open_call(struct manager *m, const struct dispatcher_call *c,
                     const struct skep_parcel *p, ProtobufCMessage **ret_answer)
{
    Skep__SessionRequest *req = skep__session_request__unpack(NULL, p->size, p->bytes);
    Skep__SessionResponse *answer = arena_alloc(c->arena, sizeof(*answer));
    struct err e = { 0 };
    int rc = dispatcher_open(m->dispatcher, c, req, answer, &e);

    skep__session_request__free_unpacked(req, NULL);
    *ret_answer = &answer->base;
    return rc;
}

static int beat_call(struct manager *m, const struct dispatcher_call *c,
                     const struct skep_parcel *p, ProtobufCMessage **ret_answer)
{
    Skep__HeartbeatRequest *req = skep__heartbeat_request__unpack(NULL, p->size, p->bytes);
    Skep__HeartbeatResponse *answer = arena_alloc(c->arena, sizeof(*answer));
    struct err e = { 0 };
    int rc;

    skep__heartbeat_response__init(answer);
    rc = dispatcher_beat(m->dispatcher, c, req, &answer->heartbeat_ms, &e);
    skep__heartbeat_request__free_unpacked(req, NULL);
    *ret_answer = &answer->base;
    return rc;
}

static int take_assignments_call(struct manager *m, struct dispatcher_call *c,
                                 const struct skep_parcel *p, ProtobufCMessage **ret_answer)
{
    Skep__AssignmentsRequest *req = skep__assignments_request__unpack(NULL, p->size, p->bytes);
    Skep__AssignmentsResponse *answer = arena_alloc(c->arena, sizeof(*answer));
    struct err e = { 0 };
    int rc;

    c->until_ms = c->env->now_ms + req->wait_ms;
    rc = dispatcher_assignments(m->dispatcher, c, req, answer, &e);
    skep__assignments_request__free_unpacked(req, NULL);
    *ret_answer = &answer->base;
    return rc;
}

static int take_report_call(struct manager *m, const struct dispatcher_call *c,
                            const struct skep_parcel *p)
{
    Skep__TaskStatusRequest *req = skep__task_status_request__unpack(NULL, p->size, p->bytes);
    struct err e = { 0 };
    int rc = dispatcher_report(m->dispatcher, c, req, &e);

    skep__task_status_request__free_unpacked(req, NULL);
    return rc < 0 ? rc : DISPATCHER_PARKED;
}

static int dispatch(struct manager *m, struct dispatcher_call *c, const struct skep_parcel *p,
                    ProtobufCMessage **ret_answer)
{
    switch (p->kind) {
    case SESSION_CALL_OPEN:
        return open_call(m, c, p, ret_answer);
    case SESSION_CALL_BEAT:
        return beat_call(m, c, p, ret_answer);
    case SESSION_CALL_ASSIGNMENTS:
        return take_assignments_call(m, c, p, ret_answer);
    case SESSION_CALL_REPORT:
        return take_report_call(m, c, p);
    case SESSION_CALL_LOGS:
    case SESSION_CALL_NETWORKS:
    case SESSION_CALL_COUNT:
    default:
        UNREACHABLE();
    }
}

void skep_manager_agent_call(struct sim *s, uint32_t node, const struct skep_parcel *p)
{
    CLEANUP_ARENA struct arena arena = { 0 };
    struct sim_full *f = s->nodes[node].full;
    struct skep_call *c = xcalloc(1, sizeof(*c));
    ProtobufCMessage *answer = NULL;
    char node_id[ID_CHARS + 1];
    int rc = -ERR_NOT_LEADER;

    *c = (struct skep_call){
        .agent = p->who, .node = node, .life = p->life, .number = p->number, .kind = p->kind
    };
    sim_full_enter(f);
    struct manager *m = s->nodes[node].machine;
    if (m->leading) {
        struct core_env env = manager_env(m);
        struct dispatcher_call call = { .env = &env,
                                        .node_id = skep_agent_id(p->who, node_id),
                                        .address = "10.1.0.1",
                                        .arena = &arena,
                                        .call = c };

        rc = dispatch(m, &call, p, &answer);
        m->cores_due = true;
    }
    if (rc != DISPATCHER_PARKED) {
        respond(s, c, rc, rc == 0 ? answer : NULL);
        free(c);
    }
    sim_full_leave(f);
}

/* ---- what leader.c calls in the rest of a manager -------------------------------------------- */

/* Leadership is over. */
void skep_calls_drop(struct manager *m);
void skep_calls_drop(struct manager *m)
{
    struct sim_full *f = sim_full_current();
    struct skep_call *c;

    while ((c = dispatcher_take_call(m->dispatcher)) != NULL) {
        if (f != NULL && !f->dying)
            respond(f->s, c, -ERR_NOT_LEADER, NULL);
        free(c);
    }
}

void skep_manager_fatal(const struct err *e);
void skep_manager_fatal(const struct err *e)
{
    struct sim_full *f = sim_full_current();

    sim_fail(f->s, "node %u cannot apply an entry: %s", f->node, e->message);
}
