/* Clients that keep a record of what they asked and what came back, for the checker (check.c).
 *
 *   client setup SOCKET…                     makes the keys
 *   client run SECONDS SEED CLIENTS SOCKET…  works on them through all managers
 *   client final SOCKET…                     reads everything through each manager
 *
 * A key is a service without tasks; its value is a label, its compare-and-swap an update that names
 * the version it read. Beside that, services with unique names are created: a set that only grows.
 * A change whose outcome is unknown is asked again, under the same request id, through another
 * manager, and left unknown when that brings nothing either. Times are CLOCK_BOOTTIME, the same for
 * all processes of a machine. Prints one line per operation (test/torture/README.md). */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "common/clock.h"
#include "common/loop.h"
#include "common/prng.h"
#include "common/random.h"
#include "common/rpc.h"
#include "proto/control.pb-c.h"

enum {
    KEYS = 5,
    MANAGERS_MAX = 9,
    CLIENTS_MAX = 64,
    CALL_MS = 2000,
    SETUP_MS = 60000,
    ATTEMPTS_MAX = 3,
    PAUSE_MS_MAX = 25,
    BACKOFF_MS = 150,
    NAME_BYTES_MAX = 64,
};
static const uint64_t LOST = 1ull << 62; /* read as the value of a key that is not there */

struct client {
    uint32_t number;
    struct loop_timer timer;
    size_t manager;
    uint64_t counter; /* of values and names */
    /* the operation under way */
    enum { IDLE, READ, CAS, ADD } doing;
    unsigned key, attempts;
    uint64_t call_ns, expect, value;
    uint8_t request_id[16];
    bool may_have_happened;
    char name[NAME_BYTES_MAX];
    Skep__Service *seen; /* what the last read returned: the base of the CAS */
    Skep__ObjectGetResponse *answer;
};

static struct loop *l;
static struct rpc *rpc;
static struct rpc_client *managers[MANAGERS_MAX];
static size_t manager_count;
static struct client clients[CLIENTS_MAX];
static size_t busy;
static struct prng prng;
static uint64_t stop_ms;
static volatile sig_atomic_t stop_asked; /* SIGTERM: what is under way is finished */
static uint64_t process; /* makes values and names unique among the processes of a round */

static void begin(struct client *c);

/* ---- the record ---- */

static void record(const struct client *c, const char *outcome)
{
    uint64_t now = clock_now_ns();

    switch (c->doing) {
    case IDLE:
        break;
    case READ:
        printf("r %u %u %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", c->key, c->number, c->call_ns, now,
               c->value);
        break;
    case CAS:
        printf("c %u %u %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %s\n", c->key, c->number,
               c->call_ns, now, c->expect, c->value, outcome);
        break;
    case ADD:
        printf("a %s %s\n", c->name, outcome);
        break;
    }
}

/* ---- calls ---- */

static void key_name(unsigned key, char name[NAME_BYTES_MAX])
{
    (void)snprintf(name, NAME_BYTES_MAX, "key%u", key);
}

static uint64_t value_of(const Skep__Service *s)
{
    for (size_t i = 0; i < s->spec->annotations->n_labels; i++) {
        const Skep__KeyValue *kv = s->spec->annotations->labels[i];

        if (strcmp(kv->key, "value") == 0)
            return strtoull(kv->value, NULL, 10);
    }
    return LOST;
}

/* Starts a call to the client's manager. False: it was not sent. */
static bool call(struct client *c, struct rpc_request *r, rpc_done_fn *done, void *ctx)
{
    r->deadline_ms = CALL_MS;
    if (c->doing != READ)
        r->request_id = c->request_id;
    return rpc_call_start(managers[c->manager], r, done, ctx, NULL) == 0;
}

static bool send_read(struct client *c, rpc_done_fn *done)
{
    Skep__ObjectGetRequest get = SKEP__OBJECT_GET_REQUEST__INIT;
    char name[NAME_BYTES_MAX];
    struct rpc_request r = { .method = SKEP__METHOD__METHOD_OBJECT_GET, .body = &get.base };

    key_name(c->key, name);
    get.kind = SKEP__KIND__KIND_SERVICE;
    get.ref = name;
    return call(c, &r, done, c);
}

static bool send_cas(struct client *c, rpc_done_fn *done)
{
    Skep__ServiceUpdateRequest update = SKEP__SERVICE_UPDATE_REQUEST__INIT;
    struct rpc_request r = { .method = SKEP__METHOD__METHOD_SERVICE_UPDATE, .body = &update.base };
    Skep__Annotations *annotations = c->seen->spec->annotations;
    Skep__KeyValue value = SKEP__KEY_VALUE__INIT, *labels[] = { &value };
    Skep__KeyValue **old = annotations->labels;
    char text[32];

    (void)snprintf(text, sizeof(text), "%" PRIu64, c->value);
    value.key = (char *)"value";
    value.value = text;
    annotations->labels = labels;
    update.id = c->seen->id;
    update.spec_version = c->seen->meta->spec_version;
    update.spec = c->seen->spec;
    bool sent = call(c, &r, done, c);
    annotations->labels = old;
    return sent;
}

static bool send_create(struct client *c, rpc_done_fn *done, void *ctx)
{
    Skep__ServiceCreateRequest create = SKEP__SERVICE_CREATE_REQUEST__INIT;
    struct rpc_request r = { .method = SKEP__METHOD__METHOD_SERVICE_CREATE, .body = &create.base };
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
    create.spec = &spec;
    return call(c, &r, done, ctx);
}

/* ---- one operation after another ---- */

static void on_timer(void *ctx, uint64_t now_ms)
{
    struct client *c = ctx;

    if (now_ms < stop_ms && !stop_asked)
        begin(c);
    else
        busy--;
}

static void pause_then_begin(struct client *c, uint64_t ms)
{
    c->doing = IDLE;
    loop_timer_set(l, &c->timer, loop_now_ms(l) + ms, on_timer, c);
}

static void forget_answer(struct client *c)
{
    if (c->answer != NULL)
        skep__object_get_response__free_unpacked(c->answer, NULL);
    c->answer = NULL;
    c->seen = NULL;
}

static void on_change(void *ctx, int rc, const Skep__Response *response, const struct err *e);

/* Another manager, the same request. */
static void attempt(struct client *c)
{
    bool sent = false;

    for (size_t i = 0; i < manager_count && !sent; i++) {
        sent = c->doing == CAS ? send_cas(c, on_change) : send_create(c, on_change, c);
        if (!sent)
            c->manager = (c->manager + 1) % manager_count;
    }
    c->attempts++;
    if (sent)
        return;
    if (c->may_have_happened)
        record(c, "unknown");
    pause_then_begin(c, BACKOFF_MS);
}

static void on_retry(void *ctx, uint64_t now_ms)
{
    (void)now_ms;
    attempt(ctx);
}

/* What a cluster in trouble may answer. */
static bool is_expected(int rc)
{
    return rc == -ERR_UNAVAILABLE || rc == -ERR_TIMEOUT || rc == -ERR_NOT_LEADER ||
           rc == -ERR_BUSY || rc == -ERR_NO_SPACE || rc == -ERR_STALE || rc == -ERR_PRECONDITION;
}

static void on_change(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    struct client *c = ctx;

    (void)response;
    if (rc == 0 || rc == -ERR_CONFLICT || rc == -ERR_EXISTS) {
        record(c, rc == 0 ? "ok" : rc == -ERR_CONFLICT ? "fail" : "exists");
        pause_then_begin(c, prng_below(&prng, PAUSE_MS_MAX));
        return;
    }
    if (!is_expected(rc))
        fprintf(stderr, "change: %s\n", err_message(e, rc));
    c->may_have_happened = true;
    c->manager = prng_below(&prng, manager_count);
    if (c->attempts >= ATTEMPTS_MAX || prng_below(&prng, 4) == 0) {
        record(c, "unknown");
        pause_then_begin(c, BACKOFF_MS);
        return;
    }
    loop_timer_set(l, &c->timer, loop_now_ms(l) + BACKOFF_MS, on_retry, c);
}

static void begin_change(struct client *c)
{
    c->call_ns = clock_now_ns();
    c->attempts = 0;
    c->may_have_happened = false;
    random_bytes(c->request_id, sizeof(c->request_id));
    attempt(c);
}

static void on_read(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    struct client *c = ctx;
    ProtobufCMessage *m = NULL;

    (void)e;
    if (rc == -ERR_NOT_FOUND) {
        c->value = LOST;
        record(c, "");
    }
    if (rc < 0 ||
        rpc_decode(&response->body, &skep__object_get_response__descriptor, &m, NULL) < 0) {
        c->manager = prng_below(&prng, manager_count);
        pause_then_begin(c, BACKOFF_MS);
        return;
    }
    forget_answer(c);
    c->answer = (Skep__ObjectGetResponse *)m;
    c->seen = c->answer->object->service;
    c->value = value_of(c->seen);
    record(c, "");
    if (prng_below(&prng, 2) == 0) {
        pause_then_begin(c, prng_below(&prng, PAUSE_MS_MAX));
        return;
    }
    c->doing = CAS;
    c->expect = c->value;
    c->value = (process * CLIENTS_MAX + c->number) * 1000000 + ++c->counter;
    if (prng_below(&prng, 2) == 0) /* the update may well come through another manager */
        c->manager = prng_below(&prng, manager_count);
    begin_change(c);
}

static void begin(struct client *c)
{
    if (prng_below(&prng, 8) == 0)
        c->manager = prng_below(&prng, manager_count);
    if (prng_below(&prng, 32) == 0) {
        c->doing = ADD;
        (void)snprintf(c->name, sizeof(c->name), "set-%" PRIu64 "-%u-%" PRIu64, process, c->number,
                       ++c->counter);
        begin_change(c);
        return;
    }
    c->doing = READ;
    c->key = (unsigned)prng_below(&prng, KEYS);
    c->call_ns = clock_now_ns();
    if (!send_read(c, on_read)) {
        c->manager = prng_below(&prng, manager_count);
        pause_then_begin(c, BACKOFF_MS);
    }
}

static void on_stop(int number)
{
    (void)number;
    stop_asked = 1;
}

static int run(uint64_t seconds, uint64_t seed, size_t count)
{
    prng_init(&prng, seed);
    process = seed % 1000000;
    stop_ms = loop_now_ms(l) + seconds * 1000;
    ASSERT(count <= CLIENTS_MAX);
    (void)signal(SIGTERM, on_stop);
    for (busy = 0; busy < count; busy++) {
        struct client *c = &clients[busy];

        c->number = (uint32_t)busy;
        c->manager = prng_below(&prng, manager_count);
        pause_then_begin(c, prng_below(&prng, PAUSE_MS_MAX));
    }
    while (busy > 0)
        ASSERT(loop_run_once(l, 100, NULL) == 0);
    for (size_t i = 0; i < count; i++)
        forget_answer(&clients[i]);
    return 0;
}

/* ---- one call at a time: setup and final ---- */

struct waiting {
    bool done;
    int rc;
    struct err e;
    ProtobufCMessage *message;
};

static void on_answer(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    struct waiting *w = ctx;

    w->done = true;
    w->rc = rc;
    w->e = *e;
    if (rc == 0)
        w->rc = rpc_decode(&response->body, &skep__object_list_response__descriptor, &w->message,
                           &w->e);
}

static void on_plain_answer(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    struct client *c = ctx;

    (void)response;
    c->doing = IDLE;
    c->attempts = rc == 0 || rc == -ERR_EXISTS ? 0 : 1;
    if (c->attempts != 0)
        fprintf(stderr, "setup: %s\n", err_message(e, rc));
}

struct twin {
    bool done;
    int rc;
    char id[ID_CHARS + 1];
    struct err e;
};

static void on_twin(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    struct twin *t = ctx;
    ProtobufCMessage *m = NULL;

    t->done = true;
    t->rc = rc;
    t->e = *e;
    if (rc < 0 ||
        rpc_decode(&response->body, &skep__service_create_response__descriptor, &m, NULL) < 0)
        return;
    (void)snprintf(t->id, sizeof(t->id), "%s", ((Skep__ServiceCreateResponse *)m)->service->id);
    protobuf_c_message_free_unpacked(m, NULL);
}

/* The same creation asked for twice before the first is applied: both answers name one service.
 * (A client that had lost its connection was told that its service was removed meanwhile.) */
static int create_twice(void)
{
    struct client c = { .doing = ADD, .name = "twin" };
    struct twin twins[2] = { { 0 } };

    random_bytes(c.request_id, sizeof(c.request_id));
    for (int i = 0; i < 2; i++) {
        if (!send_create(&c, on_twin, &twins[i]))
            return 1;
    }
    while (!twins[0].done || !twins[1].done)
        ASSERT(loop_run_once(l, 50, NULL) == 0);
    if (twins[0].rc == 0 && twins[1].rc == 0 && strcmp(twins[0].id, twins[1].id) == 0)
        return 0;
    fprintf(stderr, "setup: asked twice: \"%s\" %s, \"%s\" %s\n", twins[0].id,
            err_message(&twins[0].e, twins[0].rc), twins[1].id,
            err_message(&twins[1].e, twins[1].rc));
    return 1;
}

static int setup(void)
{
    struct client *c = &clients[0];
    uint64_t until = clock_now_ms() + SETUP_MS;

    for (unsigned key = 0; key < KEYS;) {
        if (clock_now_ms() > until)
            return 1;
        c->doing = ADD;
        key_name(key, c->name);
        random_bytes(c->request_id, sizeof(c->request_id));
        while (!send_create(c, on_plain_answer, c)) {
            ASSERT(loop_run_once(l, 50, NULL) == 0);
            if (clock_now_ms() > until)
                return 1;
        }
        while (c->doing != IDLE)
            ASSERT(loop_run_once(l, 50, NULL) == 0);
        key += c->attempts == 0;
    }
    return create_twice();
}

/* One page of all services, through one manager, tried again until it is answered. */
static Skep__ObjectListResponse *list(size_t manager, const char *after)
{
    Skep__ObjectListRequest req = SKEP__OBJECT_LIST_REQUEST__INIT;
    struct rpc_request r = { .method = SKEP__METHOD__METHOD_OBJECT_LIST,
                             .body = &req.base,
                             .deadline_ms = CALL_MS };
    uint64_t until = clock_now_ms() + SETUP_MS;
    struct waiting w;

    req.kind = SKEP__KIND__KIND_SERVICE;
    req.after_id = (char *)after;
    do {
        w = (struct waiting){ 0 };
        if (rpc_call_start(managers[manager], &r, on_answer, &w, &w.e) == 0) {
            while (!w.done)
                ASSERT(loop_run_once(l, 50, NULL) == 0);
        } else {
            w.rc = -ERR_UNAVAILABLE;
            ASSERT(loop_run_once(l, 50, NULL) == 0);
        }
    } while (w.rc < 0 && clock_now_ms() < until);
    if (w.rc < 0)
        fprintf(stderr, "final: %s\n", err_message(&w.e, w.rc));
    return (Skep__ObjectListResponse *)w.message;
}

/* A list that began after everything else ended holds what was acknowledged and shows the last
 * values: reads like any others. */
static int final(void)
{
    char after[ID_CHARS + 1];
    bool more;

    for (size_t i = 0; i < manager_count; i++) {
        after[0] = '\0';
        do {
            uint64_t call_ns = clock_now_ns();
            Skep__ObjectListResponse *page = list(i, after);

            if (page == NULL)
                return 1;
            for (size_t j = 0; j < page->n_objects; j++) {
                const Skep__Service *s = page->objects[j]->service;
                const char *name = s->spec->annotations->name;

                if (strncmp(name, "key", 3) == 0)
                    printf("r %s 0 %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", name + 3, call_ns,
                           clock_now_ns(), value_of(s));
                printf("f %zu %s\n", i, name);
                (void)snprintf(after, sizeof(after), "%s", s->id);
            }
            more = page->more;
            skep__object_list_response__free_unpacked(page, NULL);
        } while (more);
        printf("F %zu\n", i);
    }
    return 0;
}

/* ---- main ---- */

static void connect_all(int count, char **paths)
{
    l = loop_new(NULL);
    rpc = rpc_new(l, NULL);
    ASSERT(rpc != NULL && count > 0 && count <= MANAGERS_MAX);
    for (int i = 0; i < count; i++) {
        CLEANUP_FREE char *url = xasprintf("ipc://%s", paths[i]);
        struct rpc_client_options o = { .url = url };

        managers[i] = rpc_client_new(rpc, &o, NULL);
        ASSERT(managers[i] != NULL);
    }
    manager_count = (size_t)count;
}

static void disconnect_all(void)
{
    for (size_t i = 0; i < manager_count; i++)
        rpc_client_free(managers[i]);
    rpc_free(rpc);
    loop_free(l);
}

int main(int argc, char **argv)
{
    bool running = argc > 5 && strcmp(argv[1], "run") == 0;
    int rc = 2;

    (void)signal(SIGPIPE, SIG_IGN);
    if (argc < 3) {
        fputs("usage: client setup|final SOCKET… | run SECONDS SEED CLIENTS SOCKET…\n", stderr);
        return rc;
    }
    connect_all(argc - (running ? 5 : 2), argv + (running ? 5 : 2));
    if (running)
        rc = run(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10),
                 strtoull(argv[4], NULL, 10));
    else if (strcmp(argv[1], "setup") == 0)
        rc = setup();
    else if (strcmp(argv[1], "final") == 0)
        rc = final();
    disconnect_all();
    return fflush(stdout) == 0 ? rc : 1;
}
