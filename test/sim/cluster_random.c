#include "test/sim/cluster_random.h"

#include <inttypes.h>
#include <string.h>

#include "common/message.h"
#include "test/lib/spec_text.h"
#include "test/sim/cluster_internal.h"
#include "test/sim/cluster_rules.h"
#include "test/sim/cluster_trace.h"

enum {
    SERVICES_MAX = 5,
    NODES_MAX = 6,
    CHAOS_TICKS = 600,
    AUDIT_TICKS = 7,
    CALM_MS =
        15 * 60 * 1000, /* long enough for every delay, grace period and monitor in sequence */
    CALM_STEP_MS = 10 * 1000,
    QUIET_MS = 30 * 1000,
};
#define SMALL_SUBNET "10.9.0.0/28" /* 13 addresses */

struct life {
    struct world world;
    struct arena arena; /* one step */
    struct prng dice;
    struct random_stats stats;
    uint32_t chance[8]; /* in parts per million per tick, drawn from the seed */
    uint32_t next_node;
    bool check_due;
    bool given; /* somebody may have got or lost an address or a port */
    FILE *trace;
    int rc;
    struct err e; /* the first broken rule */
};

static uint64_t roll(struct life *l, uint64_t bound)
{
    return prng_below(&l->dice, bound);
}

static const char *pick(struct life *l, const char *const *texts, size_t count)
{
    return texts[roll(l, count)];
}
#define PICK(l, ...)                                                                               \
    pick((l), (const char *const[]){ __VA_ARGS__ },                                                \
         sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *))

/* ---- watching ---- */

static void on_event(void *ctx, const struct store_event *ev)
{
    struct life *l = ctx;

    if (l->trace != NULL)
        cluster_trace_event(l->trace, &l->world, ev);
    /* Progress of tasks breaks none of the rules. */
    l->check_due |=
        ev->kind == SKEP__KIND__KIND_SERVICE || ev->action != STORE_UPDATE ||
        (ev->kind == SKEP__KIND__KIND_TASK && ((const Skep__Task *)ev->before)->desired_state !=
                                                  ((const Skep__Task *)ev->after)->desired_state) ||
        (ev->kind == SKEP__KIND__KIND_TASK &&
         ((const Skep__Task *)ev->after)->status->state == SKEP__TASK_STATE__TASK_COMPLETE);
    l->given |=
        ev->kind != SKEP__KIND__KIND_TASK || ev->before == NULL || ev->after == NULL ||
        ((const Skep__Task *)ev->before)->n_networks != ((const Skep__Task *)ev->after)->n_networks;
    l->stats.tasks_created += ev->kind == SKEP__KIND__KIND_TASK && ev->action == STORE_CREATE;
    if (l->rc == 0)
        l->rc = cluster_rules_change(ev, &l->e);
}

static void check(void *ctx)
{
    struct life *l = ctx;

    l->stats.transactions++;
    if (l->rc == 0 && l->check_due)
        l->rc = cluster_rules_always(&l->world, &l->e);
    if (l->rc == 0 && l->given)
        l->rc = cluster_rules_addresses(&l->world, &l->e);
    l->check_due = l->given = false;
}

/* ---- services ---- */

static char *random_edit(struct life *l, bool job)
{
    struct arena *a = &l->arena;
    const char *image = PICK(l, "nginx:1", "nginx:2", "nginx:3", "slow-3:1", "stubborn-5:1",
                             "crash-1:1", "crash-20:1", "reject:1", "fail:1", "exit-5:1");
    char *edit = arena_printf(a, "task.container.image=%s task.restart.delay=%s", image,
                              PICK(l, "0s", "1s", "5s"));

    if (roll(l, 3) == 0)
        edit = arena_printf(a, "%s task.restart.condition=%s", edit,
                            PICK(l, "RESTART_ANY", "RESTART_ON_FAILURE", "RESTART_NONE"));
    if (roll(l, 3) == 0)
        edit = arena_printf(a, "%s task.restart.max_attempts=%s task.restart.window=%s", edit,
                            PICK(l, "0", "1", "3"), PICK(l, "0s", "10s"));
    if (roll(l, 3) == 0)
        edit = arena_printf(a,
                            "%s task.placement.constraints[0].key=node.labels.zone "
                            "task.placement.constraints[0].value=%s",
                            edit, PICK(l, "x", "y"));
    if (job)
        return edit;
    for (int i = 0; i < 2; i++)
        edit = arena_printf(
            a,
            "%s %s.parallelism=%s %s.delay=%s %s.monitor=%s %s.failure_action=%s "
            "%s.order=%s",
            edit, i ? "rollback" : "update", PICK(l, "0", "1", "2"), i ? "rollback" : "update",
            PICK(l, "0s", "2s"), i ? "rollback" : "update", PICK(l, "1s", "4s"),
            i ? "rollback" : "update",
            PICK(l, "FAILURE_PAUSE", "FAILURE_CONTINUE", "FAILURE_ROLLBACK"),
            i ? "rollback" : "update", PICK(l, "ORDER_STOP_FIRST", "ORDER_START_FIRST"));
    return edit;
}

/* Two networks, one of which is too small for all of them, and few enough ports to clash. */
static void random_networks(struct life *l, Skep__ServiceSpec *spec)
{
    const char *networks =
        PICK(l, "", "task.networks[0].target=front", "task.networks[0].target=small",
             "task.networks[0].target=small task.networks[1].target=front");
    const char *ports =
        PICK(l, "", "endpoint.ports[0].target_port=80",
             "endpoint.ports[0].target_port=80 endpoint.ports[0].published_port=8080",
             "endpoint.ports[0].target_port=80 endpoint.ports[1].target_port=53 "
             "endpoint.ports[1].protocol=PROTOCOL_UDP endpoint.ports[1].published_port=30001");

    if (l->world.allocator == NULL)
        return;
    if (spec->task != NULL)
        spec->task->n_networks = 0;
    if (spec->endpoint != NULL)
        spec->endpoint->n_ports = 0;
    spec_set_all(&spec->base, &l->arena, networks);
    spec_set_all(&spec->base, &l->arena, ports);
}

static const char *random_mode(struct life *l, const Skep__Service *old)
{
    uint64_t mode = old == NULL
                        ? roll(l, 4)
                        : (uint64_t)old->spec->mode_case - SKEP__SERVICE_SPEC__MODE_REPLICATED;

    if (mode == 0)
        return arena_printf(&l->arena, "replicated.replicas=%" PRIu64, roll(l, 7));
    if (mode == 1)
        return "global=";
    if (mode == 3)
        return "global_job=";
    uint64_t total = 1 + roll(l, 6);
    return arena_printf(&l->arena,
                        "replicated_job.total_completions=%" PRIu64
                        " replicated_job.max_concurrent=%" PRIu64,
                        total, 1 + roll(l, total));
}

static void edit_service(struct life *l)
{
    const char *name = arena_printf(&l->arena, "s%" PRIu64, roll(l, SERVICES_MAX));
    const Skep__Service *old = world_service(&l->world, name);
    const char *mode = random_mode(l, old);
    bool job = strstr(mode, "_job") != NULL;

    if (old != NULL && roll(l, 8) == 0) {
        (void)world_service_remove(&l->world, name);
        return;
    }
    if (old != NULL && !job && roll(l, 6) == 0) {
        (void)world_service_update(&l->world, name, NULL); /* refused without a previous spec */
        return;
    }
    if (old == NULL) {
        Skep__ServiceSpec *spec = spec_service(&l->arena, name, mode);

        spec_set_all(&spec->base, &l->arena, random_edit(l, job));
        random_networks(l, spec);
        l->stats.services_created++;
        (void)world_service_create(&l->world, spec);
        return;
    }
    Skep__ServiceSpec *spec = (Skep__ServiceSpec *)message_clone_arena(&l->arena, &old->spec->base);
    spec_set_all(&spec->base, &l->arena, mode);
    if (roll(l, 3) != 0) /* else only the scale changes */
        spec_set_all(&spec->base, &l->arena, random_edit(l, job));
    if (roll(l, 3) == 0)
        random_networks(l, spec);
    (void)world_service_update(&l->world, name, spec);
}

/* ---- nodes ---- */

static void add_node(struct life *l)
{
    const char *id = arena_printf(&l->arena, "n%02u", l->next_node++);

    if (l->world.agent_count >= WORLD_AGENTS_MAX ||
        store_count(l->world.store, SKEP__KIND__KIND_NODE) >= NODES_MAX)
        return;
    world_node_add(&l->world, id);
    world_node_label(&l->world, id, "zone", PICK(l, "x", "y"));
}

static const Skep__Node *random_node(struct life *l)
{
    size_t count = store_count(l->world.store, SKEP__KIND__KIND_NODE);
    uint64_t index = roll(l, count);
    const ProtobufCMessage *m = store_first(l->world.store, SKEP__KIND__KIND_NODE);

    for (; index > 0; index--)
        m = store_after(l->world.store, SKEP__KIND__KIND_NODE, object_id(m));
    return (const Skep__Node *)m;
}

static void disturb_node(struct life *l)
{
    char id[ID_CHARS + 1];

    world_copy_id(id, random_node(l)->id);
    switch (roll(l, 8)) {
    case 0:
    case 1:
        world_node_connect(&l->world, id, false);
        break;
    case 2:
        world_node_connect(&l->world, id, true);
        break;
    case 3:
        world_node_availability(&l->world, id, SKEP__NODE_AVAILABILITY__AVAILABILITY_DRAIN);
        break;
    case 4:
        world_node_availability(&l->world, id, SKEP__NODE_AVAILABILITY__AVAILABILITY_ACTIVE);
        break;
    case 5:
        world_node_availability(&l->world, id, SKEP__NODE_AVAILABILITY__AVAILABILITY_PAUSE);
        break;
    case 6:
        world_node_label(&l->world, id, "zone", PICK(l, "x", "y"));
        break;
    default:
        if (store_count(l->world.store, SKEP__KIND__KIND_NODE) > 2)
            world_node_remove(&l->world, id);
        break;
    }
}

/* ---- tasks, transactions, leaders ---- */

static void end_random_task(struct life *l)
{
    size_t count = store_count(l->world.store, SKEP__KIND__KIND_TASK);
    const ProtobufCMessage *m = store_first(l->world.store, SKEP__KIND__KIND_TASK);

    if (count == 0)
        return;
    for (uint64_t index = roll(l, count); index > 0; index--)
        m = store_after(l->world.store, SKEP__KIND__KIND_TASK, object_id(m));
    (void)world_task_end(&l->world, object_id(m),
                         roll(l, 3) == 0 ? SKEP__TASK_STATE__TASK_COMPLETE
                                         : SKEP__TASK_STATE__TASK_FAILED);
}

/* The new leader's clocks differ from the old one's. */
static void change_leader(struct life *l)
{
    int64_t skew_ms = (int64_t)roll(l, 20000) - 10000;

    l->world.wall_ns += skew_ms * 1000000;
    l->world.now_ms += roll(l, 100000);
    l->stats.leader_changes++;
    world_change_leader(&l->world);
}

static void chaos(struct life *l)
{
    void (*const acts[])(struct life *) = { edit_service, disturb_node, end_random_task,
                                            change_leader, add_node };

    for (size_t i = 0; i < ARRAY_LEN(acts); i++) {
        if (prng_chance_ppm(&l->dice, l->chance[i]))
            acts[i](l);
    }
    if (prng_chance_ppm(&l->dice, l->chance[5]))
        world_drop_flight(&l->world);
    if (l->world.allocator != NULL && prng_chance_ppm(&l->dice, l->chance[6])) {
        (void)world_network_remove(&l->world, "small"); /* refused while it is in use */
        (void)world_network_create(&l->world, "small", SMALL_SUBNET);
    }
    arena_reset(&l->arena);
}

/* ---- the end of all faults ---- */

/* Every service gets a spec that can be met. */
static void repair_service(struct life *l, const char *name)
{
    const Skep__Service *s = world_service(&l->world, name);

    if (s == NULL)
        return;
    bool job = s->spec->mode_case > SKEP__SERVICE_SPEC__MODE_GLOBAL;
    Skep__ServiceSpec *spec = (Skep__ServiceSpec *)message_clone_arena(&l->arena, &s->spec->base);
    spec->task->placement->n_constraints = 0;
    if (l->world.allocator != NULL) { /* room for all */
        spec->task->n_networks = spec->endpoint->n_ports = 0;
        spec_set_all(&spec->base, &l->arena,
                     "task.networks[0].target=front endpoint.ports[0].target_port=80");
    }
    spec_set_all(&spec->base, &l->arena,
                 job ? "task.container.image=exit-2:9" : "task.container.image=nginx:9");
    spec_set_all(&spec->base, &l->arena,
                 "task.restart.max_attempts=0 task.restart.condition=RESTART_ANY");
    int rc = world_service_update(&l->world, name, spec);
    if (rc < 0 && l->rc == 0)
        l->rc = err_set(&l->e, ERR_INTERNAL, "the last update of %s was refused: %s", name,
                        l->world.e.message);
}

static void repair_services(struct life *l)
{
    for (uint64_t i = 0; i < SERVICES_MAX; i++)
        repair_service(l, arena_printf(&l->arena, "s%" PRIu64, i));
}

/* After the services, so that what nodes become is acted upon for its own sake. */
static void repair_nodes(struct life *l)
{
    char id[ID_CHARS + 1] = "";
    const ProtobufCMessage *m;

    while ((m = store_after(l->world.store, SKEP__KIND__KIND_NODE, id)) != NULL) {
        bool last;

        world_copy_id(id, object_id(m));
        last = store_after(l->world.store, SKEP__KIND__KIND_NODE, id) == NULL;
        world_node_connect(&l->world, id, true);
        world_node_availability(&l->world, id,
                                last || roll(l, 4) != 0
                                    ? SKEP__NODE_AVAILABILITY__AVAILABILITY_ACTIVE
                                    : SKEP__NODE_AVAILABILITY__AVAILABILITY_DRAIN);
    }
    if (store_count(l->world.store, SKEP__KIND__KIND_NODE) < NODES_MAX)
        add_node(l);
}

/* O4: with the last service all that it had is free again. */
static int end_services(struct life *l)
{
    for (uint64_t i = 0; i < SERVICES_MAX; i++)
        (void)world_service_remove(&l->world, arena_printf(&l->arena, "s%" PRIu64, i));
    world_run_ms(&l->world, QUIET_MS + CALM_STEP_MS);
    if (l->rc == 0 && store_count(l->world.store, SKEP__KIND__KIND_TASK) > 0)
        l->rc = err_set(&l->e, ERR_INTERNAL, "a task outlives all services");
    return l->rc == 0 ? cluster_rules_audit(&l->world, &l->e) : l->rc;
}

static int calm(struct life *l)
{
    int rc = -ERR_INTERNAL;

    repair_services(l);
    world_run_ms(&l->world, roll(l, CALM_STEP_MS));
    repair_nodes(l);
    for (uint64_t end = l->world.now_ms + CALM_MS; rc < 0 && l->world.now_ms < end;) {
        world_run_ms(&l->world, CALM_STEP_MS);
        if (l->rc < 0)
            return l->rc;
        rc = cluster_rules_converged(&l->world, &l->e);
    }
    if (rc < 0)
        return rc;
    world_run_ms(&l->world, QUIET_MS); /* monitor periods end */
    l->e = (struct err){ 0 };
    rc = cluster_rules_converged(&l->world, &l->e);
    if (rc < 0)
        return rc;
    uint64_t changes = l->world.change_count, version = store_version(l->world.store);
    world_run_ms(&l->world, QUIET_MS);
    if (l->world.change_count != changes || store_version(l->world.store) != version)
        return err_set(&l->e, ERR_INTERNAL, "it never comes to rest");
    return l->rc == 0 ? end_services(l) : l->rc;
}

int cluster_random_run(uint64_t seed, FILE *trace, struct random_stats *ret_stats, struct err *e)
{
    struct life *l = xcalloc(1, sizeof(*l));
    static const uint32_t most[] = { 60000, 60000, 60000, 20000, 20000, 50000, 30000 };

    l->trace = trace;
    world_init(&l->world, seed);
    prng_init(&l->dice, seed ^ 0x5eed);
    l->world.watch = on_event;
    l->world.check = check;
    l->world.watch_ctx = l;
    l->world.flight_ticks_max = (uint32_t)roll(l, 5);
    if (roll(l, 4) != 0) {
        world_use_allocator(&l->world);
        (void)world_network_create(&l->world, "front", "");
        (void)world_network_create(&l->world, "small", SMALL_SUBNET);
        world_use_dispatcher(&l->world);
    }
    if (roll(l, 3) != 0)
        world_use_scheduler(&l->world);
    for (size_t i = 0; i < ARRAY_LEN(most); i++)
        l->chance[i] = (uint32_t)roll(l, most[i]);
    for (uint64_t i = 2 + roll(l, 3); i > 0; i--)
        add_node(l);
    for (int i = 0; i < CHAOS_TICKS && l->rc == 0; i++) {
        chaos(l);
        world_tick(&l->world);
        if (l->rc == 0 && i % AUDIT_TICKS == 0)
            l->rc = cluster_rules_audit(&l->world, &l->e);
    }
    int rc = l->rc < 0 ? l->rc : calm(l);
    l->stats.orchestrator_changes = l->world.change_count;
    l->stats.store_hash = store_hash(l->world.store);
    if (e != NULL)
        *e = l->e;
    *ret_stats = l->stats;
    world_deinit(&l->world);
    arena_deinit(&l->arena);
    free(l);
    return rc;
}
