/* Operators: they create, scale, change, roll back and remove services, drain and return nodes,
 * through whichever manager they reach, and repeat a request with its id until it is answered. In
 * the calm they repair what they broke, and then only look. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "common/message.h"
#include "managerd/control/control.h"
#include "test/lib/spec_text.h"
#include "test/sim/skep.h"

enum {
    TIMEOUT_US = 3 * SIM_S,
    RETRY_US = 200 * SIM_MS,
    THINK_US = 1500 * SIM_MS,
    THINK_CALM_US = 500 * SIM_MS,
};

enum operation { CREATE, UPDATE, REMOVE, NODE, NETWORK, LOOK };

static control_change_fn *const changes[] = { [CREATE] = control_service_create,
                                              [UPDATE] = control_service_update,
                                              [REMOVE] = control_service_remove,
                                              [NODE] = control_node_update,
                                              [NETWORK] = control_network_create };
static const ProtobufCMessageDescriptor *const requests[] = {
    [CREATE] = &skep__service_create_request__descriptor,
    [UPDATE] = &skep__service_update_request__descriptor,
    [REMOVE] = &skep__service_remove_request__descriptor,
    [NODE] = &skep__node_update_request__descriptor,
    [NETWORK] = &skep__network_create_request__descriptor,
};

/* ---- what to ask for ------------------------------------------------------------------------- */

static uint64_t roll(struct skep *w, uint64_t bound)
{
    return prng_below(&w->prng, bound);
}

static const char *pick(struct skep *w, const char *const *texts, size_t count)
{
    return texts[roll(w, count)];
}
#define PICK(w, ...)                                                                               \
    pick((w), (const char *const[]){ __VA_ARGS__ },                                                \
         sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *))

static const char *random_edit(struct skep *w, bool job)
{
    struct arena *a = &w->arena;
    const char *edit =
        arena_printf(a, "task.container.image=%s task.restart.delay=%s",
                     PICK(w, "nginx:1", "nginx:2", "nginx:3", "slow-3:1", "stubborn-5:1",
                          "crash-1:1", "crash-20:1", "reject:1", "fail:1", "exit-5:1"),
                     PICK(w, "0s", "1s", "5s"));

    if (roll(w, 3) == 0)
        edit = arena_printf(a, "%s task.restart.condition=%s", edit,
                            PICK(w, "RESTART_ANY", "RESTART_ON_FAILURE", "RESTART_NONE"));
    if (roll(w, 3) == 0)
        edit = arena_printf(a,
                            "%s task.placement.constraints[0].key=node.labels.zone "
                            "task.placement.constraints[0].value=%s",
                            edit, PICK(w, "x", "y"));
    if (job)
        return edit;
    return arena_printf(a,
                        "%s update.parallelism=%s update.delay=%s update.monitor=%s "
                        "update.failure_action=%s update.order=%s",
                        edit, PICK(w, "0", "1", "2"), PICK(w, "0s", "2s"), PICK(w, "1s", "4s"),
                        PICK(w, "FAILURE_PAUSE", "FAILURE_CONTINUE", "FAILURE_ROLLBACK"),
                        PICK(w, "ORDER_STOP_FIRST", "ORDER_START_FIRST"));
}

static const char *random_mode(struct skep *w, const Skep__Service *old)
{
    uint64_t total = 1 + roll(w, 4);
    uint64_t mode = old == NULL
                        ? roll(w, 4)
                        : (uint64_t)old->spec->mode_case - SKEP__SERVICE_SPEC__MODE_REPLICATED;

    if (mode == 0)
        return arena_printf(&w->arena, "replicated.replicas=%" PRIu64, roll(w, 6));
    if (mode == 1)
        return "global=";
    if (mode == 3)
        return "global_job=";
    return arena_printf(&w->arena,
                        "replicated_job.total_completions=%" PRIu64
                        " replicated_job.max_concurrent=%" PRIu64,
                        total, 1 + roll(w, total));
}

/* Few ports, so that they clash. */
static void random_networks(struct skep *w, Skep__ServiceSpec *spec)
{
    static const char *const ports[] = {
        "",
        "endpoint.ports[0].target_port=80",
        "endpoint.ports[0].target_port=80 endpoint.ports[0].published_port=8080",
        "endpoint.ports[0].target_port=53 endpoint.ports[0].protocol=PROTOCOL_UDP",
    };

    if (spec->task != NULL)
        spec->task->n_networks = 0;
    if (spec->endpoint != NULL)
        spec->endpoint->n_ports = 0;
    spec_set_all(&spec->base, &w->arena, ports[roll(w, ARRAY_LEN(ports))]);
    if (store_find_name(w->view.store, SKEP__KIND__KIND_NETWORK, "front") != NULL &&
        roll(w, 2) == 0)
        spec_set_all(&spec->base, &w->arena, "task.networks[0].target=front");
}

static enum operation ask_network(struct skep *w, ProtobufCMessage **ret_request)
{
    Skep__NetworkCreateRequest *create = arena_alloc(&w->arena, sizeof(*create));

    skep__network_create_request__init(create);
    create->spec = arena_alloc(&w->arena, sizeof(*create->spec));
    skep__network_spec__init(create->spec);
    create->spec->annotations = arena_alloc(&w->arena, sizeof(*create->spec->annotations));
    skep__annotations__init(create->spec->annotations);
    create->spec->annotations->name = (char *)"front";
    *ret_request = &create->base;
    return NETWORK;
}

static const Skep__Service *service(const struct skep *w, const char *name)
{
    return (const Skep__Service *)store_find_name(w->view.store, SKEP__KIND__KIND_SERVICE, name);
}

static enum operation ask_service(struct skep *w, ProtobufCMessage **ret_request)
{
    const char *name = arena_printf(&w->arena, "s%" PRIu64, roll(w, SKEP_SERVICES));
    const Skep__Service *old = service(w, name);
    const char *mode = random_mode(w, old);
    bool job = strstr(mode, "_job") != NULL;
    Skep__ServiceCreateRequest *create = arena_alloc(&w->arena, sizeof(*create));
    Skep__ServiceUpdateRequest *update = arena_alloc(&w->arena, sizeof(*update));
    Skep__ServiceRemoveRequest *removal = arena_alloc(&w->arena, sizeof(*removal));

    if (old == NULL) {
        skep__service_create_request__init(create);
        create->spec = spec_service(&w->arena, name, mode);
        spec_set_all(&create->spec->base, &w->arena, random_edit(w, job));
        random_networks(w, create->spec);
        *ret_request = &create->base;
        return CREATE;
    }
    if (roll(w, 8) == 0) {
        skep__service_remove_request__init(removal);
        removal->ref = (char *)name;
        *ret_request = &removal->base;
        return REMOVE;
    }
    skep__service_update_request__init(update);
    update->id = (char *)name;
    *ret_request = &update->base;
    update->rollback = !job && roll(w, 6) == 0;
    if (update->rollback)
        return UPDATE;
    update->spec = (Skep__ServiceSpec *)message_clone_arena(&w->arena, &old->spec->base);
    spec_set_all(&update->spec->base, &w->arena, mode);
    if (roll(w, 3) != 0) /* else only the scale changes */
        spec_set_all(&update->spec->base, &w->arena, random_edit(w, job));
    if (roll(w, 3) == 0)
        random_networks(w, update->spec);
    return UPDATE;
}

static enum operation ask_node(struct skep *w, uint32_t index, Skep__NodeAvailability availability,
                               ProtobufCMessage **ret_request)
{
    Skep__NodeUpdateRequest *update = arena_alloc(&w->arena, sizeof(*update));
    char *id = arena_alloc(&w->arena, ID_CHARS + 1);
    const Skep__Node *node = store_node(w->view.store, skep_agent_id(index, id));

    skep__node_update_request__init(update);
    update->id = id;
    update->spec = (Skep__NodeSpec *)message_clone_arena(&w->arena, &node->spec->base);
    update->spec->availability = availability;
    *ret_request = &update->base;
    return NODE;
}

static bool chaos_under_way(const struct skep *w)
{
    for (uint32_t i = 0; i < SKEP_OPERATORS; i++) {
        if (w->operators[i].request != NULL && !w->operators[i].calm)
            return true;
    }
    return false;
}

/* Everything gets a spec that can be met, once nothing else is asked for any more. */
static enum operation ask_repair(struct skep *w, ProtobufCMessage **ret_request)
{
    while (!chaos_under_way(w) && w->repairs < SKEP_SERVICES + SKEP_AGENTS_MAX) {
        uint64_t i = w->repairs++;
        char *name = arena_printf(&w->arena, "s%" PRIu64, i);
        const Skep__Service *s = i < SKEP_SERVICES ? service(w, name) : NULL;
        Skep__ServiceUpdateRequest *update = arena_alloc(&w->arena, sizeof(*update));

        if (i >= SKEP_SERVICES)
            return ask_node(w, (uint32_t)i - SKEP_SERVICES,
                            SKEP__NODE_AVAILABILITY__AVAILABILITY_ACTIVE, ret_request);
        if (s == NULL)
            continue;
        skep__service_update_request__init(update);
        update->id = name;
        update->spec = (Skep__ServiceSpec *)message_clone_arena(&w->arena, &s->spec->base);
        update->spec->task->placement->n_constraints = 0;
        update->spec->task->n_networks = update->spec->endpoint->n_ports = 0;
        /* What fails before all nodes are back is tried again, not taken back. */
        spec_set_all(&update->spec->base, &w->arena,
                     s->spec->mode_case > SKEP__SERVICE_SPEC__MODE_GLOBAL
                         ? "task.container.image=exit-2:9"
                         : "task.container.image=nginx:9 update.failure_action=FAILURE_CONTINUE");
        spec_set_all(&update->spec->base, &w->arena,
                     "task.restart.max_attempts=0 task.restart.condition=RESTART_ANY");
        *ret_request = &update->base;
        return UPDATE;
    }
    *ret_request = NULL;
    return LOOK;
}

static void begin(struct skep *w, uint32_t who)
{
    struct skep_operator *o = &w->operators[who];
    struct skep_parcel like = { .what = SKEP_OPERATOR_REQUEST, .who = who };
    ProtobufCMessage *request = NULL;
    static const Skep__NodeAvailability availabilities[] = {
        SKEP__NODE_AVAILABILITY__AVAILABILITY_ACTIVE, SKEP__NODE_AVAILABILITY__AVAILABILITY_DRAIN,
        SKEP__NODE_AVAILABILITY__AVAILABILITY_PAUSE
    };

    if (w->s->calm)
        like.container = ask_repair(w, &request);
    else if (store_find_name(w->view.store, SKEP__KIND__KIND_NETWORK, "front") == NULL &&
             roll(w, 6) == 0)
        like.container = ask_network(w, &request);
    else if (roll(w, 5) == 0)
        like.container = ask_node(w, (uint32_t)roll(w, SKEP_AGENTS_MAX),
                                  availabilities[roll(w, ARRAY_LEN(availabilities))], &request);
    else
        like.container = ask_service(w, &request);
    for (size_t i = 0; i < sizeof(o->request_id); i++)
        o->request_id[i] = (uint8_t)prng_next(&w->prng);
    o->request = skep_parcel_pack(&like, request);
    o->calm = w->s->calm;
    SIM_TRACE(w->s, "operator %u asks %u", who, like.container);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void wake_later(struct skep *w, uint32_t who, uint64_t attempt, uint64_t delay_us)
{
    struct skep_parcel like = { .what = SKEP_OPERATOR_WAKE, .who = who, .number = attempt };

    skep_post(w->s, delay_us, -1, skep_parcel_new(&like, NULL, 0));
}

void skep_operator_wake(struct skep *w, const struct skep_parcel *p)
{
    struct skep_operator *o = &w->operators[p->who];

    if (p->number != o->attempt)
        return;
    if (o->request == NULL)
        begin(w, p->who);
    if (!o->hinted)
        o->node = (uint32_t)skep_pick_node(w);
    o->hinted = false;
    o->attempt = ++w->requests;
    o->request->number = o->attempt;
    wake_later(w, p->who, o->attempt, TIMEOUT_US);
    if (!skep_loses(w))
        skep_post(w->s, skep_delay(w), (int)o->node,
                  skep_parcel_new(o->request, o->request->bytes, o->request->size));
}

void skep_operator_response(struct skep *w, const struct skep_parcel *p)
{
    struct skep_operator *o = &w->operators[p->who];

    if (o->request == NULL || p->number != o->attempt)
        return;
    if (p->rc == -ERR_NOT_LEADER || p->rc == -ERR_UNAVAILABLE || p->rc == -ERR_STALE ||
        p->rc == -ERR_BUSY || p->rc == -ERR_NO_SPACE) {
        o->hinted = p->leader >= 0 && (!w->s->calm || w->s->core[p->leader]);
        if (o->hinted)
            o->node = (uint32_t)p->leader;
        wake_later(w, p->who, o->attempt, RETRY_US);
        return;
    }
    SIM_TRACE(w->s, "operator %u is answered: %s", p->who, err_str(p->rc));
    if (o->calm && p->rc == -ERR_CONFLICT)
        w->repairs = 0; /* overtaken, by a rollback for instance: all of them once more */
    free(o->request);
    o->request = NULL;
    w->s->completed++;
    wake_later(w, p->who, o->attempt,
               sim_exponential(&w->prng, w->s->calm ? THINK_CALM_US : THINK_US));
}

/* ---- at the manager -------------------------------------------------------------------------- */

struct answer {
    struct sim *s;
    struct sim_full *f;
    uint32_t who, node;
    uint64_t attempt;
};

static void respond(const struct answer *a, int rc)
{
    struct skep *w = skep_of(a->s);
    struct skep_parcel like = {
        .what = SKEP_OPERATOR_RESPONSE, .who = a->who, .number = a->attempt, .rc = rc, .leader = -1
    };

    if (rc == -ERR_NOT_LEADER)
        like.leader = sim_slot(a->s, a->s->nodes[a->node].raft->leader);
    if (!skep_loses(w))
        skep_post(a->s, skep_delay(w), -1, skep_parcel_new(&like, NULL, 0));
}

static void on_done(void *ctx, int rc, const struct err *e)
{
    struct answer *a = ctx;

    (void)e;
    if (!a->f->dying)
        respond(a, rc);
    free(a);
}

static void on_looked(void *ctx, int rc, uint64_t index)
{
    struct answer *a = ctx;

    (void)index;
    if (!a->f->dying)
        respond(a, rc);
    free(a);
}

/* As control_calls.c: what was answered before is answered again. */
static void change(struct manager *m, struct answer *a, const struct skep_parcel *p)
{
    CLEANUP_ARENA struct arena arena = { 0 };
    const uint8_t *request_id = skep_of(a->s)->operators[p->who].request_id;
    struct core_env core = manager_env(m);
    struct control_env env = { .core = &core, .arena = &arena };
    struct control_subject subject = { .warning_count = 0 };
    struct store_result result;
    struct err e = { 0 };

    if (store_find_result(m->store, request_id, &result)) {
        on_done(a, result.rc, &e);
        return;
    }
    ProtobufCMessage *request =
        protobuf_c_message_unpack(requests[p->container], NULL, p->size, p->bytes);
    struct store_tx *tx = store_tx_new();
    int rc = changes[p->container](&env, request, tx, &subject, &e);

    if (rc < 0)
        on_done(a, rc, &e);
    else
        leader_propose(m, tx, request_id, on_done, a);
    store_tx_free(tx);
    protobuf_c_message_free_unpacked(request, NULL);
}

void skep_operator_call(struct sim *s, uint32_t node, const struct skep_parcel *p)
{
    struct sim_full *f = s->nodes[node].full;
    struct manager *m = s->nodes[node].machine;
    struct answer *a;

    if (p->number != skep_of(s)->operators[p->who].attempt)
        return; /* the operator has moved on: this connection is closed */
    a = xcalloc(1, sizeof(*a));
    *a = (struct answer){ s, f, p->who, node, p->number };
    sim_full_enter(f);
    if (p->container == LOOK)
        raft_node_read(f->raft, on_looked, a);
    else if (!m->leading)
        on_done(a, -ERR_NOT_LEADER, NULL);
    else
        change(m, a, p);
    sim_full_leave(f);
}
