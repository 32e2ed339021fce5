/* Load for test/bench/bench_rpc_commit.sh: `load SECONDS CLIENTS SOCKET`. Each client has a service
 * of its own and changes a label of it, one acknowledged change after the other, each a transaction
 * that a majority has synced. Prints how many there were and their latencies: one line
 * `COUNT P50_US P99_US`. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/clock.h"
#include "common/loop.h"
#include "common/rpc.h"
#include "proto/control.pb-c.h"

enum { CLIENTS_MAX = 256, CALL_MS = 10000, LATENCIES_MAX = 1 << 21, NAME_BYTES_MAX = 64 };

struct client {
    char name[NAME_BYTES_MAX];
    uint64_t counter, started_ns;
    ProtobufCMessage *answer;
    Skep__Service *service; /* in answer */
};

static struct loop *l;
static struct rpc *rpc;
static struct rpc_client *manager;
static struct client clients[CLIENTS_MAX];
static size_t busy;
static uint64_t begin_ns, end_ns; /* only what ends in between counts */
static uint64_t count;
static uint32_t latencies_us[LATENCIES_MAX];

static void change(struct client *c);

static void take_answer(struct client *c, int rc, const Skep__Response *response,
                        const ProtobufCMessageDescriptor *type, const struct err *e)
{
    struct err why = *e;

    if (c->answer != NULL)
        protobuf_c_message_free_unpacked(c->answer, NULL);
    c->answer = NULL;
    if (rc == 0)
        rc = rpc_decode(&response->body, type, &c->answer, &why);
    if (rc < 0) {
        fprintf(stderr, "load: %s\n", err_message(&why, rc));
        exit(1);
    }
}

static void on_changed(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    struct client *c = ctx;
    uint64_t now = clock_now_ns();

    take_answer(c, rc, response, &skep__service_update_response__descriptor, e);
    c->service = ((Skep__ServiceUpdateResponse *)c->answer)->service;
    if (now >= begin_ns && now < end_ns && count < LATENCIES_MAX)
        latencies_us[count++] = (uint32_t)((now - c->started_ns) / 1000);
    if (now < end_ns)
        change(c);
    else
        busy--;
}

static void change(struct client *c)
{
    Skep__ServiceUpdateRequest update = SKEP__SERVICE_UPDATE_REQUEST__INIT;
    struct rpc_request r = { .method = SKEP__METHOD__METHOD_SERVICE_UPDATE,
                             .body = &update.base,
                             .deadline_ms = CALL_MS };
    Skep__Annotations *annotations = c->service->spec->annotations;
    Skep__KeyValue value = SKEP__KEY_VALUE__INIT, *labels[] = { &value };
    Skep__KeyValue **old = annotations->labels;
    char text[32];

    (void)snprintf(text, sizeof(text), "%" PRIu64, ++c->counter);
    value.key = (char *)"value";
    value.value = text;
    annotations->labels = labels;
    update.id = c->service->id;
    update.spec_version = c->service->meta->spec_version;
    update.spec = c->service->spec;
    c->started_ns = clock_now_ns();
    ASSERT(rpc_call_start(manager, &r, on_changed, c, NULL) == 0);
    annotations->labels = old;
}

static void on_created(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    struct client *c = ctx;

    take_answer(c, rc, response, &skep__service_create_response__descriptor, e);
    c->service = ((Skep__ServiceCreateResponse *)c->answer)->service;
    change(c);
}

static void create(struct client *c)
{
    Skep__ServiceCreateRequest req = SKEP__SERVICE_CREATE_REQUEST__INIT;
    struct rpc_request r = { .method = SKEP__METHOD__METHOD_SERVICE_CREATE,
                             .body = &req.base,
                             .deadline_ms = CALL_MS };
    Skep__ServiceSpec spec = SKEP__SERVICE_SPEC__INIT;
    Skep__Annotations annotations = SKEP__ANNOTATIONS__INIT;
    Skep__KeyValue value = SKEP__KEY_VALUE__INIT, *labels[] = { &value };
    Skep__TaskSpec task = SKEP__TASK_SPEC__INIT;
    Skep__ContainerSpec container = SKEP__CONTAINER_SPEC__INIT;
    Skep__ReplicatedMode none = SKEP__REPLICATED_MODE__INIT;

    value.key = (char *)"value";
    value.value = (char *)"0";
    annotations.name = c->name;
    annotations.labels = labels;
    annotations.n_labels = 1;
    container.image = (char *)"none";
    task.container = &container;
    spec.annotations = &annotations;
    spec.task = &task;
    spec.mode_case = SKEP__SERVICE_SPEC__MODE_REPLICATED;
    spec.replicated = &none;
    req.spec = &spec;
    ASSERT(rpc_call_start(manager, &r, on_created, c, NULL) == 0);
}

static int compare(const void *a, const void *b)
{
    uint32_t x, y;

    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    uint64_t seconds = argc == 4 ? strtoull(argv[1], NULL, 10) : 0;
    size_t number = argc == 4 ? strtoull(argv[2], NULL, 10) : 0;

    if (seconds == 0 || number == 0 || number > CLIENTS_MAX) {
        fputs("usage: load SECONDS CLIENTS SOCKET\n", stderr);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    l = loop_new(NULL);
    rpc = rpc_new(l, NULL);
    CLEANUP_FREE char *url = xasprintf("ipc://%s", argv[3]);
    struct rpc_client_options o = { .url = url };
    manager = rpc_client_new(rpc, &o, NULL);
    begin_ns = clock_now_ns() + 1000000000u; /* the first second is for warming up */
    end_ns = begin_ns + seconds * 1000000000u;
    for (busy = 0; busy < number; busy++) {
        (void)snprintf(clients[busy].name, NAME_BYTES_MAX, "load-%d-%zu", (int)getpid(), busy);
        create(&clients[busy]);
    }
    while (busy > 0)
        ASSERT(loop_run_once(l, 100, NULL) == 0);
    for (size_t i = 0; i < number; i++)
        protobuf_c_message_free_unpacked(clients[i].answer, NULL);
    rpc_client_free(manager);
    rpc_free(rpc);
    loop_free(l);
    if (count == 0)
        return 1;
    qsort(latencies_us, count, sizeof(latencies_us[0]), compare);
    printf("%" PRIu64 " %" PRIu32 " %" PRIu32 "\n", count, latencies_us[count / 2],
           latencies_us[count * 99 / 100]);
    return 0;
}
