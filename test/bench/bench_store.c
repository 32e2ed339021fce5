/* The store with 100 000 running tasks: memory per task with its indexes, how fast task changes are
 * applied, and how long a snapshot keeps the loop thread.
 *
 * The longest pause is the copying of all objects' addresses; no object is touched. Sorting and
 * packing happen on another thread, and what is replaced meanwhile is freed a little with each
 * later transaction.
 *
 * Times are processor time of the one thread that works, so that neighbours disturb them less. */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "common/assert.h"
#include "common/clock.h"
#include "test/lib/fixture.h"

enum { TASKS = 100000, NODES = 1000, ROUNDS = 20 };

static struct fixture f;
static char (*ids)[ID_CHARS + 1];
static char (*nodes)[ID_CHARS + 1];

static double ms(uint64_t since_ns)
{
    return (double)(clock_thread_ns() - since_ns) / 1e6;
}

static size_t heap_bytes(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static void apply(void)
{
    int rc = store_apply(f.s, ++f.index, store_tx_message(f.tx), NULL, &f.e);

    if (rc < 0)
        (void)fprintf(stderr, "%s\n", f.e.message);
    ASSERT(rc == 0);
    store_tx_clear(f.tx);
    arena_reset(&f.arena);
}

/* As a task looks after some time: on a node, in a network, with a container. */
static void create_task(int i)
{
    struct id id = id_from_prng(&f.prng);
    Skep__Task *t = fixture_task(&f, id.s, "web", (uint64_t)i + 1);
    Skep__NetworkAttachment attachment = SKEP__NETWORK_ATTACHMENT__INIT, *list[1] = { &attachment };
    Skep__ContainerStatus container = SKEP__CONTAINER_STATUS__INIT;
    char hex[65], address[] = "10.0.0.17/24", *addresses[1] = { address };

    memcpy(ids[i], id.s, sizeof(ids[i]));
    memset(hex, 'a', 64);
    hex[64] = '\0';
    t->node_id = nodes[i % NODES];
    attachment.network_id = nodes[0];
    attachment.n_addresses = 1;
    attachment.addresses = addresses;
    t->n_networks = 1;
    t->networks = list;
    container.container_id = hex;
    container.pid = 12345;
    t->status->container = &container;
    t->status->timestamp = t->status->applied_at = f.wall_ns;
    t->status->message = fixture_str(&f, "started");
    t->status->state = SKEP__TASK_STATE__TASK_STARTING;
    store_tx_create(f.tx, &t->base);
    if (store_tx_full(f.tx))
        apply();
}

static void fill(void)
{
    store_tx_create(f.tx, &fixture_service(&f, "web", "web", TASKS)->base);
    for (int i = 0; i < NODES; i++) {
        struct id id = id_from_prng(&f.prng);

        memcpy(nodes[i], id.s, sizeof(nodes[i]));
        store_tx_create(f.tx, &fixture_node(&f, id.s, "host")->base);
    }
    apply();
    size_t before = heap_bytes();
    for (int i = 0; i < TASKS; i++)
        create_task(i);
    apply();
    size_t bytes = heap_bytes() - before;
    printf("memory per running task, indexes included   %6zu bytes   (goal 1536)\n", bytes / TASKS);
}

static void status_delta(int i, int64_t timestamp)
{
    Skep__TaskDelta d = SKEP__TASK_DELTA__INIT;
    Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;
    char message[] = "started";

    d.task_id = ids[i];
    status.state = SKEP__TASK_STATE__TASK_RUNNING;
    status.message = message;
    status.timestamp = timestamp;
    d.status = &status;
    store_tx_task(f.tx, &d);
}

/* Every task once, `batch` to a transaction; the entry is packed, unpacked and applied. */
static void apply_rate(int batch)
{
    uint64_t in_apply = 0, in_all = clock_thread_ns();
    size_t packed = 0;

    for (int i = 0; i < TASKS; i++) {
        uint8_t *data;
        size_t size;

        status_delta((int)((int64_t)i * 7919 % TASKS), i);
        if ((i + 1) % batch != 0)
            continue;
        store_tx_pack(f.tx, i, NULL, &data, &size);
        store_tx_clear(f.tx);
        uint64_t began = clock_thread_ns();
        int rc =
            store_apply_packed(f.s, ++f.index, (ProtobufCBinaryData){ size, data }, NULL, NULL);
        in_apply += clock_thread_ns() - began;
        ASSERT(rc == 0);
        packed += size;
        free(data);
    }
    printf("task status changes, %4d per transaction   %8.0f /s decoded and applied, %.0f /s with "
           "packing, %zu bytes each\n",
           batch, TASKS / ((double)in_apply / 1e9), TASKS / (ms(in_all) / 1e3), packed / TASKS);
}

/* Merging alone: what the message costs is not counted. */
static void merge_cost(void)
{
    uint64_t took = 0;

    for (int i = 0; i < TASKS; i++) {
        status_delta((int)((int64_t)i * 7919 % TASKS), i + 1);
        if (!store_tx_full(f.tx) && i + 1 < TASKS)
            continue;
        uint64_t began = clock_thread_ns();
        int rc = store_apply(f.s, ++f.index, store_tx_message(f.tx), NULL, NULL);
        took += clock_thread_ns() - began;
        ASSERT(rc == 0);
        store_tx_clear(f.tx);
    }
    printf("merging one task delta                      %6.2f us         (goal about 1)\n",
           (double)took / 1e3 / TASKS);
}

static void snapshot(void)
{
    double take = 0, drop = 0, pack = 0;
    size_t bytes = 0;
    uint8_t *mem = xmalloc(1 << 20);

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t began = clock_thread_ns();
        struct store_snapshot *snap = store_snapshot_take(f.s);
        take = MAX(take, ms(began));
        if (round == 0) {
            began = clock_thread_ns();
            for (size_t size; (size = store_snapshot_next(snap, mem, 1 << 20)) > 0;)
                bytes += size;
            pack = ms(began);
        }
        for (int i = 0; i < TASKS / 10; i++) { /* meanwhile objects are replaced */
            status_delta(i, round);
            if (store_tx_full(f.tx))
                apply();
        }
        apply();
        began = clock_thread_ns();
        store_snapshot_free(snap);
        drop = MAX(drop, ms(began));
    }
    printf("snapshot: longest pause when taking         %6.2f ms         (goal 10)\n", take);
    printf("snapshot: longest pause when letting go     %6.2f ms         (goal 10)\n", drop);
    printf("snapshot: packing elsewhere                 %6.0f ms, %.1f MiB\n", pack,
           (double)bytes / (1 << 20));
    free(mem);
}

static void load(void)
{
    struct store_snapshot *snap = store_snapshot_take(f.s);
    struct store_loader *l = store_loader_new();
    struct store *s = store_new();
    uint8_t *mem = xmalloc(1 << 20);
    uint64_t hash = store_hash(f.s), began = clock_thread_ns();
    int rc = 0;

    for (size_t size; rc == 0 && (size = store_snapshot_next(snap, mem, 1 << 20)) > 0;)
        rc = store_loader_feed(l, mem, size, NULL);
    rc = rc == 0 ? store_loader_finish(l, f.index, s, NULL) : rc;
    ASSERT(rc == 0);
    printf("snapshot: packing and loading               %6.0f ms\n", ms(began));
    ASSERT(store_hash(s) == hash);
    store_loader_free(l);
    store_snapshot_free(snap);
    store_free(s);
    free(mem);
}

int main(void)
{
    fixture_init(&f, 1);
    ids = xcalloc(TASKS, sizeof(*ids));
    nodes = xcalloc(NODES, sizeof(*nodes));
    fill();
    apply_rate(1);
    apply_rate(100);
    apply_rate(1000);
    merge_cost();
    snapshot();
    load();
    fixture_deinit(&f);
    free(ids);
    free(nodes);
    return 0;
}
