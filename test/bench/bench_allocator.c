/* How fast tasks get their addresses: from NEW tasks in the store until all that can be are PENDING
 * there, services' addresses and ports included; decision and update of the in-memory store
 * together, without Raft, as bench_schedule counts. Prints tasks per second beside the goal (the
 * scheduler's: then the allocator takes no more of the leader's time than that), and how long a
 * leader needs to read all of it at start. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/assert.h"
#include "common/clock.h"
#include "managerd/allocator/allocator.h"
#include "test/lib/fixture.h"
#include "test/lib/spec_text.h"

enum { ROUNDS = 3 };

static const struct setting {
    const char *name;
    int tasks, services, networks; /* services have two of the networks, or the one */
    bool ports;
    const char *subnet; /* of the first; the others: "" */
    int goal;
} settings[] = {
    { "10 000 tasks, 1 service, 1 network", 10000, 1, 1, false, "10.0.0.0/16", 500000 },
    { "10 000 tasks, 100 services, 2 networks each", 10000, 100, 20, false, "", 500000 },
    { "10 000 tasks, 1 000 services, 2 networks, a port", 10000, 1000, 200, true, "10.0.0.0/16",
      0 },
    { "50 000 tasks, 100 services, 1 network", 50000, 100, 1, false, "10.0.0.0/16", 300000 },
    { "10 000 tasks for 4 092 addresses", 10000, 1, 1, false, "10.0.0.0/20", 0 },
};

static void flush(struct fixture *f, bool all)
{
    if (!all && !store_tx_full(f->tx))
        return;
    ASSERT(fixture_apply(f, NULL, NULL) == 0);
    arena_reset(&f->arena);
}

static void add_network(struct fixture *f, const char *name, const char *set)
{
    Skep__Network *n = ARENA_NEW(&f->arena, Skep__Network);

    skep__network__init(n);
    n->id = fixture_str(f, name);
    spec_set(&n->base, &f->arena, arena_printf(&f->arena, "spec.annotations.name=%s", name));
    spec_set(&n->base, &f->arena, "spec.driver.name=overlay");
    spec_set_all(&n->base, &f->arena, set);
    store_tx_create(f->tx, &n->base);
    flush(f, false);
}

static void add_networks(struct fixture *f, const struct setting *c)
{
    add_network(f, "ingress", "spec.ingress=true spec.ipam[0].subnet=11.0.0.0/16");
    for (int i = 0; i < c->networks; i++)
        add_network(f, arena_printf(&f->arena, "net%d", i),
                    i == 0 && c->subnet[0] != '\0'
                        ? arena_printf(&f->arena, "spec.ipam[0].subnet=%s", c->subnet)
                        : "");
}

static void add_service(struct fixture *f, const struct setting *c, int i)
{
    char name[32];

    (void)snprintf(name, sizeof(name), "service-%d", i);
    Skep__Service *s = fixture_service(f, name, name, 1);
    for (int k = 0; k < MIN(c->networks, 2); k++)
        spec_set(&s->base, &f->arena,
                 arena_printf(&f->arena, "spec.task.networks[%d].target=net%d", k,
                              (i + k) % c->networks));
    if (c->ports)
        spec_set(&s->base, &f->arena, "spec.endpoint.ports[0].target_port=80");
    store_tx_create(f->tx, &s->base);
    flush(f, false);
}

static void fill(struct fixture *f, const struct setting *c)
{
    Skep__Cluster *cluster = fixture_cluster(f, "cluster");

    spec_set(&cluster->base, &f->arena, "spec.address_pools[0]=20.0.0.0/8");
    cluster->spec->subnet_size = 20;
    store_tx_create(f->tx, &cluster->base);
    add_networks(f, c);
    for (int i = 0; i < c->services; i++)
        add_service(f, c, i);
    flush(f, true);
    for (int i = 0; i < c->tasks; i++) {
        struct id id = id_from_prng(&f->prng);
        Skep__Task *t =
            fixture_task(f, id.s, arena_printf(&f->arena, "service-%d", i % c->services),
                         (uint64_t)(1 + i / c->services));

        t->status->state = SKEP__TASK_STATE__TASK_NEW;
        store_tx_create(f->tx, &t->base);
        flush(f, false);
    }
    flush(f, true);
}

static void event(void *ctx, const struct store_event *ev)
{
    allocator_ops.on_event(ctx, ev);
}

struct speed {
    double wall, cpu; /* tasks per second */
    double start_ms;
};

static void run_all(struct fixture *f, struct allocator *a, const struct core_env *env)
{
    const struct store_listener to = { event, a };

    for (;;) {
        struct err e = { 0 };

        (void)allocator_ops.run(a, env, f->tx);
        if (store_tx_action_count(f->tx) == 0)
            break;
        int rc = store_apply(f->s, ++f->index, store_tx_message(f->tx), &to, &e);
        ASSERT(rc == 0);
        allocator_ops.on_result(a, rc);
        store_tx_clear(f->tx);
    }
}

static struct speed run(const struct setting *c)
{
    struct fixture f;
    struct allocator *a = allocator_new();
    struct err e = { 0 };

    fixture_init(&f, 1);
    fill(&f, c);
    struct core_env env = { .store = f.s, .now_ms = 1, .wall_ns = f.wall_ns, .prng = &f.prng };
    allocator_ops.start(a, &env);
    uint64_t cpu_began = clock_thread_ns(), began = clock_now_ns();
    run_all(&f, a, &env);
    double took = (double)(clock_now_ns() - began) / 1e9;
    double cpu = (double)(clock_thread_ns() - cpu_began) / 1e9;
    int rc = allocator_audit(a, f.s, &e);
    ASSERT(rc == 0);
    began = clock_now_ns();
    allocator_ops.start(a, &env);
    double start_ms = (double)(clock_now_ns() - began) / 1e6;
    for (const ProtobufCMessage *o = store_first(f.s, SKEP__KIND__KIND_TASK); o != NULL;
         o = store_after(f.s, SKEP__KIND__KIND_TASK, object_id(o))) {
        const Skep__TaskStatus *status = ((const Skep__Task *)o)->status;

        ASSERT(status->state == SKEP__TASK_STATE__TASK_PENDING || status->error[0] != '\0');
    }
    allocator_free(a);
    fixture_deinit(&f);
    return (struct speed){ (double)c->tasks / took, (double)c->tasks / cpu, start_ms };
}

/* Argument: only the setting with this number. */
int main(int argc, char **argv)
{
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        struct speed best = { 0, 0, 1e9 };

        if (argc > 1 && strtoul(argv[1], NULL, 10) != i)
            continue;
        for (int round = 0; round < ROUNDS; round++) {
            struct speed one = run(&settings[i]);

            best.wall = MAX(best.wall, one.wall);
            best.cpu = MAX(best.cpu, one.cpu);
            best.start_ms = MIN(best.start_ms, one.start_ms);
        }
        printf("%-50s %8.0f tasks/s, %8.0f by processor time, new leader %.1f ms", settings[i].name,
               best.wall, best.cpu, best.start_ms);
        if (settings[i].goal > 0)
            printf("  (goal %d)", settings[i].goal);
        printf("\n");
        (void)fflush(stdout);
    }
    return 0;
}
