/* How fast tasks get a node: from PENDING tasks in the store until all are ASSIGNED in the store,
 * decision and update of the in-memory store together, without Raft, as swarmkit's
 * BenchmarkScheduler counts. Prints tasks per second beside the goal; by the processor time of the
 * one thread that works, too, which other programs on the machine disturb less. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/assert.h"
#include "common/clock.h"
#include "managerd/scheduler/scheduler.h"
#include "test/lib/fixture.h"

enum { ROUNDS = 3 };

static const struct setting {
    const char *name;
    int nodes, tasks, services;
    bool constrained;
    int goal;
} settings[] = {
    { "1 000 tasks, 1 000 nodes, 1 service", 1000, 1000, 1, false, 500000 },
    { "10 000 tasks, 1 000 nodes, 1 service", 1000, 10000, 1, false, 500000 },
    { "100 000 tasks, 1 000 nodes, 1 service", 1000, 100000, 1, false, 500000 },
    { "100 000 tasks, 1 000 nodes, 100 services", 1000, 100000, 100, false, 500000 },
    { "100 000 tasks, 5 000 nodes, 1 service, constraints", 5000, 100000, 1, true, 300000 },
    { "100 000 tasks, 5 000 nodes, 20 services, constraints", 5000, 100000, 20, true, 300000 },
    { "10 000 tasks, 1 000 nodes, 10 000 services", 1000, 10000, 10000, false, 0 },
};

static void label(struct fixture *f, Skep__Node *n, const char *key, const char *value)
{
    Skep__KeyValue *kv = ARENA_NEW(&f->arena, Skep__KeyValue);

    skep__key_value__init(kv);
    kv->key = fixture_str(f, key);
    kv->value = fixture_str(f, value);
    n->spec->annotations->labels = arena_array(&f->arena, 1, sizeof(Skep__KeyValue *));
    n->spec->annotations->labels[0] = kv;
    n->spec->annotations->n_labels = 1;
}

static void constrain(struct fixture *f, Skep__Service *s)
{
    static const char *const texts[][2] = { { "node.labels.zone", "east" },
                                            { "node.platform.os", "linux" } };
    Skep__Placement *p = s->spec->task->placement;

    p->constraints = arena_array(&f->arena, 2, sizeof(Skep__Constraint *));
    p->n_constraints = 2;
    for (size_t i = 0; i < 2; i++) {
        p->constraints[i] = ARENA_NEW(&f->arena, Skep__Constraint);
        skep__constraint__init(p->constraints[i]);
        p->constraints[i]->key = fixture_str(f, texts[i][0]);
        p->constraints[i]->value = fixture_str(f, texts[i][1]);
    }
}

static void flush(struct fixture *f, bool all)
{
    if (!all && !store_tx_full(f->tx))
        return;
    ASSERT(fixture_apply(f, NULL, NULL) == 0);
    arena_reset(&f->arena);
}

static void fill(struct fixture *f, const struct setting *c)
{
    char(*services)[ID_CHARS + 1] = xcalloc((size_t)c->services, sizeof(*services));

    for (int i = 0; i < c->nodes; i++) {
        struct id id = id_from_prng(&f->prng);
        Skep__Node *n = fixture_node(f, id.s, "host");

        label(f, n, "zone", i % 2 == 0 ? "east" : "west");
        store_tx_create(f->tx, &n->base);
        flush(f, false);
    }
    for (int i = 0; i < c->services; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "service-%d", i);
        struct id id = id_from_prng(&f->prng);
        Skep__Service *s = fixture_service(f, id.s, name, 1);

        if (c->constrained)
            constrain(f, s);
        memcpy(services[i], id.s, sizeof(services[i]));
        store_tx_create(f->tx, &s->base);
        flush(f, false);
    }
    flush(f, true);
    for (int i = 0; i < c->tasks; i++) {
        struct id id = id_from_prng(&f->prng);

        store_tx_create(f->tx, &fixture_task(f, id.s, services[i % c->services],
                                             (uint64_t)(1 + i / c->services))
                                    ->base);
        flush(f, false);
    }
    flush(f, true);
    free(services);
}

static void event(void *ctx, const struct store_event *ev)
{
    scheduler_ops.on_event(ctx, ev);
}

struct speed {
    double wall, cpu; /* tasks per second */
};

static struct speed run(const struct setting *c)
{
    struct fixture f;
    struct scheduler *s = scheduler_new();
    const struct store_listener to = { event, s };

    fixture_init(&f, 1);
    fill(&f, c);
    struct core_env env = { .store = f.s, .now_ms = 1, .wall_ns = f.wall_ns, .prng = &f.prng };
    scheduler_ops.start(s, &env);
    uint64_t cpu_began = clock_thread_ns(), began = clock_now_ns();
    for (;;) {
        struct err e = { 0 };

        (void)scheduler_ops.run(s, &env, f.tx);
        if (store_tx_action_count(f.tx) == 0)
            break;
        int rc = store_apply(f.s, ++f.index, store_tx_message(f.tx), &to, &e);
        ASSERT(rc == 0);
        scheduler_ops.on_result(s, rc);
        store_tx_clear(f.tx);
    }
    double took = (double)(clock_now_ns() - began) / 1e9;
    double cpu = (double)(clock_thread_ns() - cpu_began) / 1e9;
    for (const ProtobufCMessage *o = store_first(f.s, SKEP__KIND__KIND_TASK); o != NULL;
         o = store_after(f.s, SKEP__KIND__KIND_TASK, object_id(o)))
        ASSERT(((const Skep__Task *)o)->status->state == SKEP__TASK_STATE__TASK_ASSIGNED);
    scheduler_free(s);
    fixture_deinit(&f);
    return (struct speed){ (double)c->tasks / took, (double)c->tasks / cpu };
}

/* Argument: only the setting with this number. */
int main(int argc, char **argv)
{
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        struct speed best = { 0, 0 };

        if (argc > 1 && strtoul(argv[1], NULL, 10) != i)
            continue;

        for (int round = 0; round < ROUNDS; round++) {
            struct speed one = run(&settings[i]);

            best.wall = MAX(best.wall, one.wall);
            best.cpu = MAX(best.cpu, one.cpu);
        }
        printf("%-52s %8.0f tasks/s, %8.0f by processor time", settings[i].name, best.wall,
               best.cpu);
        if (settings[i].goal > 0)
            printf("  (goal %d)", settings[i].goal);
        printf("\n");
        (void)fflush(stdout);
    }
    return 0;
}
