#include "test/sim/cluster_world.h"

#include <string.h>

#include "common/assert.h"
#include "managerd/control/control.h"
#include "test/sim/cluster_internal.h"

#define START_WALL_NS INT64_C(1700000000000000000)

struct core_env world_env(struct world *w)
{
    return (struct core_env){
        .store = w->store, .now_ms = w->now_ms, .wall_ns = w->wall_ns, .prng = &w->prng
    };
}

/* ---- transactions ---- */

static void on_event(void *ctx, const struct store_event *ev)
{
    struct world *w = ctx;

    for (size_t i = 0; i < w->core_count; i++) {
        w->cores[i].ops->on_event(w->cores[i].core, ev);
        w->cores[i].run_at_ms = w->now_ms;
    }
    if (w->dispatcher != NULL)
        dispatcher_ops.on_event(w->dispatcher, ev);
    if (w->watch != NULL)
        w->watch(w->watch_ctx, ev);
}

static int apply_packed(struct world *w, uint8_t *data, size_t size)
{
    w->index++;
    const struct store_listener to = { on_event, w };
    int rc =
        store_apply_packed(w->store, w->index, (ProtobufCBinaryData){ size, data }, &to, &w->e);
    free(data);
    if (w->check != NULL)
        w->check(w->watch_ctx);
    return rc;
}

int world_apply(struct world *w, struct store_tx *tx)
{
    uint8_t *data;
    size_t size;

    store_tx_pack(tx, w->wall_ns, NULL, &data, &size);
    store_tx_clear(tx);
    return apply_packed(w, data, size);
}

static void flush(struct world *w)
{
    if (store_tx_action_count(w->tx) > 0) {
        int rc = world_apply(w, w->tx);

        ASSERT(rc == 0); /* nothing of this is ever refused */
    }
}

/* ---- leader cores ---- */

static void land(struct world *w, struct world_core *c)
{
    uint8_t *data = c->flight;

    c->flight = NULL;
    int rc = apply_packed(w, data, c->flight_size);
    c->ops->on_result(c->core, rc);
    c->run_at_ms = w->now_ms;
}

static void launch(struct world *w, struct world_core *c)
{
    w->change_count++;
    store_tx_pack(c->tx, w->wall_ns, NULL, &c->flight, &c->flight_size);
    store_tx_clear(c->tx);
    c->flight_lands_ms = w->now_ms;
    if (w->flight_ticks_max > 0)
        c->flight_lands_ms += prng_below(&w->prng, w->flight_ticks_max + 1) * WORLD_TICK_MS;
    if (c->flight_lands_ms <= w->now_ms)
        land(w, c);
}

static void run_core(struct world *w, struct world_core *c)
{
    enum { RUNS_MAX = 1000 }; /* a core that never comes to rest is a bug */
    int runs = 0;

    if (c->flight != NULL && w->now_ms >= c->flight_lands_ms)
        land(w, c);
    while (c->flight == NULL && c->run_at_ms <= w->now_ms) {
        struct core_env env = world_env(w);

        ASSERT(++runs < RUNS_MAX);
        w->run_count++;
        c->run_at_ms = c->ops->run(c->core, &env, c->tx);
        if (store_tx_action_count(c->tx) > 0)
            launch(w, c);
    }
}

static void run_cores(struct world *w)
{
    for (size_t i = 0; i < w->core_count; i++)
        run_core(w, &w->cores[i]);
}

static void drop(struct world_core *c)
{
    free(c->flight);
    c->flight = NULL;
}

void world_drop_flight(struct world *w)
{
    for (size_t i = 0; i < w->core_count; i++) {
        struct world_core *c = &w->cores[i];

        if (c->flight == NULL)
            continue;
        drop(c);
        c->ops->on_result(c->core, -ERR_UNAVAILABLE);
        c->run_at_ms = w->now_ms;
    }
}

static void start(struct world *w, struct world_core *c)
{
    struct core_env env = world_env(w);

    c->ops->start(c->core, &env);
    c->run_at_ms = w->now_ms;
}

void world_change_leader(struct world *w)
{
    for (size_t i = 0; i < w->core_count; i++) {
        w->cores[i].ops->stop(w->cores[i].core);
        drop(&w->cores[i]);
    }
    for (size_t i = 0; i < w->core_count; i++)
        start(w, &w->cores[i]);
    world_networks_restart(w);
}

static void add_core(struct world *w, const struct core_ops *ops, void *core)
{
    ASSERT(w->core_count < WORLD_CORES);
    struct world_core *c = &w->cores[w->core_count++];

    *c = (struct world_core){ .ops = ops, .core = core, .tx = store_tx_new() };
    start(w, c);
}

void world_use_allocator(struct world *w)
{
    w->allocator = allocator_new();
    allocator_predefined(w->store, &w->prng, true, w->tx);
    flush(w);
    add_core(w, &allocator_ops, w->allocator);
}

void world_use_scheduler(struct world *w)
{
    w->scheduler = scheduler_new();
    add_core(w, &scheduler_ops, w->scheduler);
}

/* ---- allocator and scheduler ---- */

static void delta_state(struct world *w, const Skep__Task *t, Skep__TaskState state,
                        const char *message, const char *node_id)
{
    Skep__TaskDelta d = SKEP__TASK_DELTA__INIT;
    Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;

    status.state = state;
    status.timestamp = w->wall_ns;
    status.message = (char *)message;
    d.task_id = t->id;
    d.node_id = (char *)node_id;
    d.status = &status;
    store_tx_task(w->tx, &d);
}

static const Skep__Task *next_task(const struct world *w, const Skep__Task *t)
{
    return (const Skep__Task *)(t == NULL ? store_first(w->store, SKEP__KIND__KIND_TASK)
                                          : store_after(w->store, SKEP__KIND__KIND_TASK, t->id));
}

/* The node with the fewest tasks of the service, then of all; the first of equals. */
static const char *choose_node(struct world *w, const Skep__Task *t)
{
    const Skep__Revision *r = store_task_revision(w->store, t);
    const char *best = "";
    size_t best_own = 0, best_all = 0;

    for (const ProtobufCMessage *m = store_first(w->store, SKEP__KIND__KIND_NODE); m != NULL;
         m = store_after(w->store, SKEP__KIND__KIND_NODE, object_id(m))) {
        const Skep__Node *node = (const Skep__Node *)m;
        size_t own = 0, all = 0;
        struct store_iter it;

        if (!world_node_takes(node, r))
            continue;
        for (const Skep__Task *other = store_node_tasks(w->store, node->id, &it); other != NULL;
             other = store_iter_next(&it)) {
            bool counts = other->status->state <= SKEP__TASK_STATE__TASK_RUNNING &&
                          other->desired_state <= SKEP__TASK_STATE__TASK_COMPLETE;

            all += counts;
            own += counts && strcmp(other->service_id, t->service_id) == 0;
        }
        if (best[0] == '\0' || own < best_own || (own == best_own && all < best_all)) {
            best = node->id;
            best_own = own;
            best_all = all;
        }
    }
    return best;
}

static void schedule(struct world *w)
{
    for (const Skep__Task *t = next_task(w, NULL); t != NULL;) {
        char id[ID_CHARS + 1];
        bool wanted = t->desired_state <= SKEP__TASK_STATE__TASK_COMPLETE;

        world_copy_id(id, t->id);
        if (t->status->state == SKEP__TASK_STATE__TASK_NEW && wanted && w->allocator == NULL) {
            delta_state(w, t, SKEP__TASK_STATE__TASK_PENDING, "pending task scheduling", "");
        } else if (t->status->state == SKEP__TASK_STATE__TASK_PENDING && wanted &&
                   w->scheduler == NULL) {
            const Skep__Node *own = store_node(w->store, t->node_id);
            const char *node_id = t->node_id;

            if (node_id[0] == '\0')
                node_id = choose_node(w, t);
            else if (own == NULL || !world_node_takes(own, store_task_revision(w->store, t)))
                node_id = "";
            if (node_id[0] != '\0')
                delta_state(w, t, SKEP__TASK_STATE__TASK_ASSIGNED, "assigned", node_id);
        }
        flush(w); /* each placement sees the ones before it */
        t = (const Skep__Task *)store_after(w->store, SKEP__KIND__KIND_TASK, id);
    }
}

/* ---- time ---- */

void world_tick(struct world *w)
{
    run_cores(w);
    schedule(w);
    world_agents_tick(w);
    run_cores(w);
    world_networks_tick(w);
    w->now_ms += WORLD_TICK_MS;
    w->wall_ns += WORLD_TICK_MS * INT64_C(1000000);
}

void world_run_ms(struct world *w, uint64_t ms)
{
    for (uint64_t end = w->now_ms + ms; w->now_ms < end;)
        world_tick(w);
}

/* ---- nodes ---- */

static Skep__Node *edit(struct world *w, const char *id, Skep__Node *copy, Skep__NodeSpec *spec,
                        Skep__NodeStatus *status)
{
    const Skep__Node *node = store_node(w->store, id);

    ASSERT(node != NULL);
    *copy = *node;
    *spec = *node->spec;
    *status = *node->status;
    copy->spec = spec;
    copy->status = status;
    return copy;
}

static void put(struct world *w, const Skep__Node *node)
{
    store_tx_update(w->tx, &node->base, 0, 0);
    flush(w);
}

void world_node_add(struct world *w, const char *id)
{
    Skep__Node node = SKEP__NODE__INIT;
    Skep__NodeSpec spec = SKEP__NODE_SPEC__INIT;
    Skep__Annotations annotations = SKEP__ANNOTATIONS__INIT;
    Skep__NodeStatus status = SKEP__NODE_STATUS__INIT;
    Skep__NodeDescription description = SKEP__NODE_DESCRIPTION__INIT;
    Skep__NodeNetwork network = SKEP__NODE_NETWORK__INIT;
    char address[32];

    ASSERT(w->agent_count < WORLD_AGENTS_MAX);
    (void)snprintf(address, sizeof(address), "10.77.0.%zu", w->agent_count + 1);
    network.data_path_address = address;
    struct world_agent *a = &w->agents[w->agent_count++];
    *a = (struct world_agent){ .connected = true };
    world_copy_id(a->node_id, id);
    node.id = (char *)id;
    spec.annotations = &annotations;
    node.spec = &spec;
    status.state = SKEP__NODE_STATE__NODE_READY;
    node.status = &status;
    description.hostname = (char *)id;
    description.network = &network;
    node.description = &description;
    store_tx_create(w->tx, &node.base);
    flush(w);
}

void world_node_remove(struct world *w, const char *id)
{
    world_agent(w, id)->connected = false;
    store_tx_remove(w->tx, SKEP__KIND__KIND_NODE, id, 0);
    flush(w);
}

void world_node_connect(struct world *w, const char *id, bool connected)
{
    Skep__Node node;
    Skep__NodeSpec spec;
    Skep__NodeStatus status;

    world_agent(w, id)->connected = connected;
    edit(w, id, &node, &spec, &status);
    status.state = connected ? SKEP__NODE_STATE__NODE_READY : SKEP__NODE_STATE__NODE_DOWN;
    status.since = w->wall_ns;
    put(w, &node);
}

void world_node_availability(struct world *w, const char *id, Skep__NodeAvailability availability)
{
    Skep__Node node;
    Skep__NodeSpec spec;
    Skep__NodeStatus status;

    edit(w, id, &node, &spec, &status);
    spec.availability = availability;
    put(w, &node);
}

void world_node_label(struct world *w, const char *id, const char *key, const char *value)
{
    Skep__Node node;
    Skep__NodeSpec spec;
    Skep__NodeStatus status;
    Skep__Annotations annotations = SKEP__ANNOTATIONS__INIT;
    Skep__KeyValue label = SKEP__KEY_VALUE__INIT, *labels = &label;

    edit(w, id, &node, &spec, &status);
    label.key = (char *)key;
    label.value = (char *)value;
    annotations.n_labels = 1;
    annotations.labels = &labels;
    spec.annotations = &annotations;
    put(w, &node);
}

void world_node_memory(struct world *w, const char *id, int64_t bytes)
{
    Skep__Node node;
    Skep__NodeSpec spec;
    Skep__NodeStatus status;
    Skep__NodeDescription description = SKEP__NODE_DESCRIPTION__INIT;
    Skep__Resources resources = SKEP__RESOURCES__INIT;

    edit(w, id, &node, &spec, &status);
    description.hostname = (char *)id;
    resources.memory_bytes = bytes;
    description.resources = &resources;
    node.description = &description;
    put(w, &node);
}

/* ---- services and networks ---- */

static int change(struct world *w, control_change_fn *fn, const ProtobufCMessage *request)
{
    CLEANUP_ARENA struct arena a = { 0 };
    struct core_env core = world_env(w);
    struct control_env env = { .core = &core, .arena = &a };
    struct control_subject subject = { .warning_count = 0 };
    int rc = fn(&env, request, w->tx, &subject, &w->e);

    if (rc == 0)
        return world_apply(w, w->tx);
    store_tx_clear(w->tx);
    return rc;
}

const Skep__Service *world_service(const struct world *w, const char *name)
{
    return (const Skep__Service *)store_find_name(w->store, SKEP__KIND__KIND_SERVICE, name);
}

int world_service_create(struct world *w, Skep__ServiceSpec *spec)
{
    Skep__ServiceCreateRequest request = SKEP__SERVICE_CREATE_REQUEST__INIT;

    request.spec = spec;
    return change(w, control_service_create, &request.base);
}

int world_service_update(struct world *w, const char *name, Skep__ServiceSpec *spec)
{
    Skep__ServiceUpdateRequest request = SKEP__SERVICE_UPDATE_REQUEST__INIT;

    request.id = (char *)name;
    request.spec = spec;
    request.rollback = spec == NULL;
    return change(w, control_service_update, &request.base);
}

int world_service_remove(struct world *w, const char *name)
{
    Skep__ServiceRemoveRequest request = SKEP__SERVICE_REMOVE_REQUEST__INIT;

    request.ref = (char *)name;
    return change(w, control_service_remove, &request.base);
}

int world_network_create(struct world *w, const char *name, const char *subnet)
{
    Skep__NetworkCreateRequest request = SKEP__NETWORK_CREATE_REQUEST__INIT;
    Skep__NetworkSpec spec = SKEP__NETWORK_SPEC__INIT;
    Skep__Annotations annotations = SKEP__ANNOTATIONS__INIT;
    Skep__IpamConfig ipam = SKEP__IPAM_CONFIG__INIT, *ipams = &ipam;

    annotations.name = (char *)name;
    ipam.subnet = (char *)subnet;
    spec.annotations = &annotations;
    spec.n_ipam = subnet[0] != '\0';
    spec.ipam = &ipams;
    request.spec = &spec;
    return change(w, control_network_create, &request.base);
}

int world_network_remove(struct world *w, const char *name)
{
    Skep__NetworkRemoveRequest request = SKEP__NETWORK_REMOVE_REQUEST__INIT;

    request.ref = (char *)name;
    return change(w, control_network_remove, &request.base);
}

/* ---- life ---- */

static void add_cluster(struct world *w)
{
    CLEANUP_ARENA struct arena a = { 0 };
    Skep__Cluster cluster = SKEP__CLUSTER__INIT;

    cluster.id = (char *)"cluster";
    cluster.spec = control_cluster_defaults(&a);
    store_tx_create(w->tx, &cluster.base);
    flush(w);
}

void world_init(struct world *w, uint64_t seed)
{
    *w = (struct world){ .wall_ns = START_WALL_NS };
    prng_init(&w->prng, seed);
    w->store = store_new();
    w->tx = store_tx_new();
    w->orch = orchestrator_new();
    add_cluster(w);
    add_core(w, &orchestrator_ops, w->orch);
}

void world_deinit(struct world *w)
{
    for (size_t i = 0; i < w->agent_count; i++)
        free(w->agents[i].containers);
    for (size_t i = 0; i < w->core_count; i++) {
        drop(&w->cores[i]);
        store_tx_free(w->cores[i].tx);
    }
    world_networks_deinit(w);
    orchestrator_free(w->orch);
    allocator_free(w->allocator);
    scheduler_free(w->scheduler);
    store_tx_free(w->tx);
    store_free(w->store);
}
