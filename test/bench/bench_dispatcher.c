/* What it costs the leader to tell nodes of their networks: memory of a session that has nothing
 * but ingress, complete sets after a change of leaders, one change to all, and a change that
 * concerns few. By processor time of the one thread that works; answers are packed, as the wire
 * wants them. */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "common/assert.h"
#include "common/clock.h"
#include "managerd/dispatcher/dispatcher.h"
#include "test/lib/core_rig.h"

enum { NODES = 5000, TASK_NODES = 10, TASKS = 10000, BUSY_SERVICES = 1000 };

struct agent {
    char id[ID_CHARS + 1];
    char session[ID_CHARS + 1];
    uint64_t token;
    bool parked;
};

struct bench {
    struct core_rig r;
    struct dispatcher *d;
    struct agent agents[NODES];
    uint64_t answers, records, bytes;
    uint8_t *packed;
};

static struct core_env env_of(struct bench *b)
{
    return (struct core_env){
        .store = b->r.f.s, .now_ms = b->r.now_ms, .wall_ns = b->r.f.wall_ns, .prng = &b->r.f.prng
    };
}

static void take(struct bench *b, struct agent *a, const Skep__NetworksResponse *answer)
{
    size_t size = skep__networks_response__get_packed_size(answer);

    ASSERT(size <= 4u << 20);
    b->bytes += skep__networks_response__pack(answer, b->packed);
    b->answers++;
    b->records += answer->n_records;
    a->token = answer->token;
    a->parked = false;
}

static void ask(struct bench *b, struct agent *a)
{
    CLEANUP_ARENA struct arena arena = { 0 };
    struct core_env env = env_of(b);
    struct dispatcher_call c = {
        .env = &env, .node_id = a->id, .arena = &arena, .call = a, .until_ms = UINT64_MAX
    };
    Skep__NetworksRequest req = SKEP__NETWORKS_REQUEST__INIT;
    Skep__NetworksResponse answer;

    req.session_id = a->session;
    req.since = a->token;
    int rc = dispatcher_networks(b->d, &c, &req, &answer, NULL);
    ASSERT(rc >= 0);
    a->parked = rc == DISPATCHER_PARKED;
    if (!a->parked)
        take(b, a, &answer);
}

/* Until everybody waits again. */
static void settle(struct bench *b)
{
    for (bool again = true; again;) {
        again = false;
        for (size_t i = 0; i < NODES; i++) {
            while (!b->agents[i].parked)
                ask(b, &b->agents[i]);
        }
        for (int quiet = 0; quiet < 2;) {
            CLEANUP_ARENA struct arena arena = { 0 };
            struct core_env env = env_of(b);
            struct dispatcher_due due;

            if (!dispatcher_next_call(b->d, &env, &arena, &due)) {
                quiet++;
                continue;
            }
            quiet = 0;
            again = true;
            ASSERT(due.kind == DISPATCHER_NETWORKS && due.rc == 0);
            take(b, due.call, &due.networks);
        }
    }
}

static void open_sessions(struct bench *b)
{
    struct core_env env = env_of(b);
    Skep__NodeDescription description = SKEP__NODE_DESCRIPTION__INIT;
    Skep__Resources resources = SKEP__RESOURCES__INIT;
    Skep__SessionRequest req = SKEP__SESSION_REQUEST__INIT;

    description.resources = &resources;
    req.description = &description;
    for (size_t i = 0; i < NODES; i++) {
        CLEANUP_ARENA struct arena arena = { 0 };
        struct dispatcher_call c = {
            .env = &env, .node_id = b->agents[i].id, .address = "10.1.1.1", .arena = &arena
        };
        Skep__SessionResponse answer;
        int rc = dispatcher_open(b->d, &c, &req, &answer, NULL);

        ASSERT(rc == 0);
        memcpy(b->agents[i].session, answer.session_id, ID_CHARS + 1);
        b->agents[i].token = 0;
        b->agents[i].parked = false;
    }
}

/* ---- the cluster ---- */

static void add_network(struct bench *b, const char *id, uint32_t vni)
{
    Skep__Network n = SKEP__NETWORK__INIT;
    Skep__NetworkSpec spec = SKEP__NETWORK_SPEC__INIT;
    Skep__Annotations annotations = SKEP__ANNOTATIONS__INIT;

    annotations.name = (char *)(uintptr_t)id;
    spec.annotations = &annotations;
    spec.ingress = strcmp(id, "ingress") == 0;
    n.id = (char *)(uintptr_t)id;
    n.spec = &spec;
    n.vni = vni;
    core_rig_add(&b->r, &n);
}

static Skep__NetworkAttachment *attachment(struct bench *b, const char *network, unsigned number)
{
    struct arena *a = &b->r.f.arena;
    Skep__NetworkAttachment *n = ARENA_NEW(a, Skep__NetworkAttachment);

    skep__network_attachment__init(n);
    n->network_id = arena_strdup(a, network);
    n->n_addresses = 1;
    n->addresses = arena_array(a, 1, sizeof(char *));
    n->addresses[0] = arena_printf(a, "10.0.%u.%u/16", number / 250, number % 250 + 1);
    return n;
}

static void flush(struct bench *b, bool all)
{
    if (!all && !store_tx_full(b->r.f.tx))
        return;
    core_rig_apply(&b->r);
    arena_reset(&b->r.f.arena);
}

static void add_nodes(struct bench *b)
{
    for (unsigned i = 0; i < NODES; i++) {
        struct id id = id_from_prng(&b->r.f.prng);
        Skep__Node *n = fixture_node(&b->r.f, id.s, "");

        memcpy(b->agents[i].id, id.s, sizeof(id.s));
        n->description->hostname = arena_printf(&b->r.f.arena, "worker-%u", i);
        n->status->address = arena_printf(&b->r.f.arena, "10.9.%u.%u", i / 250, i % 250 + 1);
        n->n_networks = 1;
        n->networks = arena_array(&b->r.f.arena, 1, sizeof(*n->networks));
        n->networks[0] = attachment(b, "ingress", i);
        store_tx_create(b->r.f.tx, &n->base);
        flush(b, false);
    }
    flush(b, true);
}

/* 1 000 services of ten tasks each in one network, all of it on ten nodes. */
static void add_tasks(struct bench *b, char first_task[ID_CHARS + 1])
{
    for (unsigned i = 0; i < BUSY_SERVICES; i++) {
        char name[32];
        struct id id = id_from_prng(&b->r.f.prng);

        (void)snprintf(name, sizeof(name), "service-%u", i);
        core_rig_add(&b->r, fixture_service(&b->r.f, id.s, name, 10));
        for (unsigned k = 0; k < TASKS / BUSY_SERVICES; k++) {
            struct id task_id = id_from_prng(&b->r.f.prng);
            Skep__Task *t = fixture_task(&b->r.f, task_id.s, id.s, k + 1);

            t->node_id = b->agents[k % TASK_NODES].id;
            t->status->state = SKEP__TASK_STATE__TASK_RUNNING;
            t->n_networks = 1;
            t->networks = arena_array(&b->r.f.arena, 1, sizeof(*t->networks));
            t->networks[0] = attachment(b, "front", i * 10 + k);
            store_tx_create(b->r.f.tx, &t->base);
            memcpy(first_task, task_id.s, sizeof(task_id.s));
        }
        flush(b, true);
    }
}

/* ---- figures ---- */

static uint64_t figure(struct bench *b, const char *what, uint64_t start_ns)
{
    uint64_t took = clock_thread_ns() - start_ns;

    printf("  %-52s %8.1f ms %9" PRIu64 " answers %10" PRIu64 " records %8.1f MB\n", what,
           (double)took / 1e6, b->answers, b->records, (double)b->bytes / 1e6);
    b->answers = b->records = b->bytes = 0;
    return clock_thread_ns();
}

static size_t heap(void)
{
    struct mallinfo2 m = mallinfo2();

    return m.uordblks + m.hblkhd;
}

static void change_node(struct bench *b, const char *id)
{
    Skep__Node *n = fixture_edit(&b->r.f, SKEP__KIND__KIND_NODE, id);

    n->status->address = arena_printf(&b->r.f.arena, "10.8.0.%u", (unsigned)b->r.f.index % 250);
    core_rig_update(&b->r, n);
    b->r.now_ms += 1000; /* past every session's pace */
}

static void run(struct bench *b)
{
    char task[ID_CHARS + 1];

    b->d = dispatcher_new();
    b->packed = xmalloc(4 << 20);
    core_rig_init(&b->r, &dispatcher_ops, b->d);
    add_network(b, "ingress", 4096);
    add_network(b, "front", 4097);
    add_nodes(b);
    size_t before = heap();
    open_sessions(b);
    uint64_t start = clock_thread_ns();
    settle(b);
    start = figure(b, "ingress alone, 5 000 nodes: all of it to all", start);
    printf("  memory of a session with ingress alone: %zu bytes\n", (heap() - before) / NODES);
    change_node(b, b->agents[0].id);
    settle(b);
    start = figure(b, "one node's new address to 5 000 nodes", start);
    add_tasks(b, task);
    start = figure(b, "1 000 services, 10 000 tasks: into store and index", start);
    b->r.now_ms += 1000; /* past every session's pace */
    settle(b);
    start = figure(b, "the same to the ten nodes that have them", start);
    for (int i = 0; i < 1000; i++) {
        core_rig_delta(&b->r, task, SKEP__TASK_STATE__TASK_NEW, SKEP__TASK_STATE__TASK_RUNNING);
    }
    b->r.now_ms += 1000;
    settle(b);
    start = figure(b, "1 000 reports of a task that say nothing new", start);
    core_rig_delta(&b->r, task, SKEP__TASK_STATE__TASK_NEW, SKEP__TASK_STATE__TASK_FAILED);
    settle(b);
    (void)figure(b, "the end of one task to ten nodes", start);
    while (dispatcher_take_call(b->d) != NULL)
        ;
    dispatcher_free(b->d);
    core_rig_deinit(&b->r);
    free(b->packed);
}

int main(void)
{
    struct bench *b = xcalloc(1, sizeof(*b));

    run(b);
    free(b);
    return 0;
}
