/* The dispatcher against a real store: registration, heartbeats, assignments, reports. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "managerd/dispatcher/dispatcher.h"

static const char node_a[] = "aaaaaaaaaaaaaaaaaaaaaaaaa", node_b[] = "bbbbbbbbbbbbbbbbbbbbbbbbb";
static const char service_id[] = "sssssssssssssssssssssssss";

struct fixture {
    struct store *store;
    struct dispatcher *d;
    struct prng prng;
    struct store_tx *tx;
    struct arena arena;
    uint64_t now_ms, index;
    char session[ID_CHARS + 1];
    const char *opens, *boot_id; /* who opens sessions */
};

static struct core_env env_of(struct fixture *f)
{
    return (struct core_env){ .store = f->store,
                              .now_ms = f->now_ms,
                              .wall_ns = (int64_t)f->now_ms * 1000000,
                              .prng = &f->prng };
}

static void on_event(void *ctx, const struct store_event *ev)
{
    struct fixture *f = ctx;

    dispatcher_ops.on_event(f->d, ev);
}

static void commit(struct fixture *f, struct store_tx *tx)
{
    struct err e = { 0 };

    const struct store_listener to = { on_event, f };
    int rc = store_apply(f->store, ++f->index, store_tx_message(tx), &to, &e);
    ck_assert_msg(rc == 0, "%s", e.message);
    store_tx_clear(tx);
}

static void add_node(struct fixture *f, const char *id)
{
    Skep__Node node = SKEP__NODE__INIT;
    Skep__NodeSpec spec = SKEP__NODE_SPEC__INIT;
    Skep__Annotations annotations = SKEP__ANNOTATIONS__INIT;
    Skep__NodeStatus status = SKEP__NODE_STATUS__INIT;

    spec.annotations = &annotations;
    node.id = (char *)id;
    node.spec = &spec;
    node.status = &status;
    store_tx_create(f->tx, &node.base);
    commit(f, f->tx);
}

static void add_service(struct fixture *f)
{
    Skep__Service service = SKEP__SERVICE__INIT;
    Skep__ServiceSpec spec = SKEP__SERVICE_SPEC__INIT;
    Skep__Annotations annotations = SKEP__ANNOTATIONS__INIT;
    Skep__TaskSpec task = SKEP__TASK_SPEC__INIT;
    Skep__ContainerSpec container = SKEP__CONTAINER_SPEC__INIT;
    Skep__ReplicatedMode mode = SKEP__REPLICATED_MODE__INIT;

    annotations.name = (char *)"web";
    container.image = (char *)"busybox:latest";
    task.container = &container;
    spec.annotations = &annotations;
    spec.task = &task;
    spec.mode_case = SKEP__SERVICE_SPEC__MODE_REPLICATED;
    spec.replicated = &mode;
    service.id = (char *)service_id;
    service.spec = &spec;
    store_tx_create(f->tx, &service.base);
    commit(f, f->tx);
}

static void add_task(struct fixture *f, const char *id, const char *node_id)
{
    Skep__Task task = SKEP__TASK__INIT;
    Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;

    task.id = (char *)id;
    task.service_id = (char *)service_id;
    task.spec_version = store_service(f->store, service_id)->meta->spec_version;
    task.node_id = (char *)node_id;
    task.desired_state = SKEP__TASK_STATE__TASK_RUNNING;
    status.state = SKEP__TASK_STATE__TASK_ASSIGNED;
    task.status = &status;
    store_tx_create(f->tx, &task.base);
    commit(f, f->tx);
}

static void run(struct fixture *f)
{
    struct core_env env = env_of(f);

    (void)dispatcher_ops.run(f->d, &env, f->tx);
    if (store_tx_action_count(f->tx) > 0) {
        commit(f, f->tx);
        dispatcher_ops.on_result(f->d, 0);
    }
}

static int open_of_generation(struct fixture *f, uint64_t generation, uint64_t *ret_generation)
{
    struct core_env env = env_of(f);
    struct dispatcher_call c = {
        .env = &env, .node_id = f->opens, .address = "10.0.0.1", .arena = &f->arena
    };
    Skep__SessionRequest req = SKEP__SESSION_REQUEST__INIT;
    Skep__NodeDescription description = SKEP__NODE_DESCRIPTION__INIT;
    Skep__Resources resources = SKEP__RESOURCES__INIT;
    Skep__SessionResponse answer;
    struct err e = { 0 };

    description.hostname = (char *)"w1";
    description.resources = &resources;
    req.description = &description;
    req.boot_id = (char *)f->boot_id;
    req.generation = generation;
    int rc = dispatcher_open(f->d, &c, &req, &answer, &e);
    if (rc < 0)
        return rc;
    memcpy(f->session, answer.session_id, sizeof(f->session));
    *ret_generation = answer.generation;
    return 0;
}

static int open_session(struct fixture *f, const char *node_id, const char *boot_id)
{
    uint64_t unused;

    f->opens = node_id;
    f->boot_id = boot_id;
    return open_of_generation(f, 0, &unused);
}

static struct fixture *setup(void)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct core_env env;

    f->store = store_new();
    f->d = dispatcher_new();
    f->tx = store_tx_new();
    f->now_ms = 100000;
    prng_init(&f->prng, 1);
    env = env_of(f);
    dispatcher_ops.start(f->d, &env);
    add_node(f, node_a);
    add_node(f, node_b);
    add_service(f);
    return f;
}

static void teardown(struct fixture *f)
{
    while (dispatcher_take_call(f->d) != NULL)
        ;
    dispatcher_free(f->d);
    store_tx_free(f->tx);
    store_free(f->store);
    arena_deinit(&f->arena);
    free(f);
}

static int ask(struct fixture *f, uint64_t since, void *call, bool *ready,
               Skep__AssignmentsResponse *answer)
{
    struct core_env env = env_of(f);
    struct dispatcher_call c = {
        .env = &env, .node_id = node_a, .address = "10.0.0.1", .arena = &f->arena
    };
    Skep__AssignmentsRequest req = SKEP__ASSIGNMENTS_REQUEST__INIT;
    struct err e = { 0 };

    req.session_id = f->session;
    req.since = since;
    c.call = call;
    c.until_ms = f->now_ms + 10000;
    int rc = dispatcher_assignments(f->d, &c, &req, answer, &e);
    *ready = rc == 0;
    return MIN(rc, 0);
}

static Skep__NodeState state_of(struct fixture *f, const char *id)
{
    return store_node(f->store, id)->status->state;
}

/* features.md 3.9: a registered node is READY; without beats it is DOWN after three periods. */
START_TEST(node_follows_heartbeats)
{
    struct fixture *f = setup();

    ck_assert_int_eq(open_session(f, node_a, "boot"), 0);
    run(f);
    ck_assert_int_eq(state_of(f, node_a), SKEP__NODE_STATE__NODE_READY);
    ck_assert_str_eq(store_node(f->store, node_a)->description->hostname, "w1");
    f->now_ms += 14900;
    run(f);
    ck_assert_int_eq(state_of(f, node_a), SKEP__NODE_STATE__NODE_READY);
    f->now_ms += 600;
    run(f);
    run(f);
    ck_assert_int_eq(state_of(f, node_a), SKEP__NODE_STATE__NODE_DOWN);
    ck_assert_str_eq(store_node(f->store, node_a)->status->message, "heartbeat failure");
    ck_assert_int_eq(state_of(f, node_b), SKEP__NODE_STATE__NODE_UNKNOWN);
    teardown(f);
}
END_TEST

START_TEST(registration_refusals)
{
    struct fixture *f = setup();

    ck_assert_int_eq(open_session(f, "zzzzzzzzzzzzzzzzzzzzzzzzz", "boot"), -ERR_NOT_FOUND);
    ck_assert_int_eq(open_session(f, node_a, "boot"), 0);
    ck_assert_int_eq(open_session(f, node_a, "clone"), -ERR_CONFLICT); /* F38 */
    ck_assert_int_eq(open_session(f, node_a, "boot"), 0);
    ck_assert_int_eq(open_session(f, node_a, "boot"), -ERR_RATE); /* 3 in 8 s */
    f->now_ms += DISPATCHER_REGISTER_WINDOW_MS;
    ck_assert_int_eq(open_session(f, node_a, "boot"), 0);
    teardown(f);
}
END_TEST

/* First everything, then only what changed; a lost answer is made up for by everything. */
/* F20: who has served a newer generation is told that this manager was left behind; who comes from
 * an older one is taken over. */
START_TEST(generations)
{
    struct fixture *f = setup();
    Skep__Cluster cluster = SKEP__CLUSTER__INIT;
    Skep__ClusterSpec spec = SKEP__CLUSTER_SPEC__INIT;
    Skep__Annotations annotations = SKEP__ANNOTATIONS__INIT;
    uint64_t generation = 0;

    spec.annotations = &annotations;
    cluster.spec = &spec;
    f->opens = node_a;
    f->boot_id = "boot-1";
    ck_assert_int_eq(open_of_generation(f, 2, &generation), -ERR_PERMISSION);
    ck_assert_int_eq(open_of_generation(f, 1, &generation), 0);
    ck_assert_uint_eq(generation, 1);
    cluster.id = (char *)"cluster";
    cluster.generation = 3;
    store_tx_create(f->tx, &cluster.base);
    commit(f, f->tx);
    f->now_ms += DISPATCHER_REGISTER_WINDOW_MS;
    ck_assert_int_eq(open_of_generation(f, 4, &generation), -ERR_PERMISSION);
    ck_assert_int_eq(open_of_generation(f, 1, &generation), 0);
    ck_assert_uint_eq(generation, 3);
    teardown(f);
}
END_TEST

START_TEST(assignments_are_differences)
{
    struct fixture *f = setup();
    Skep__AssignmentsResponse answer;
    bool ready;
    int call;

    add_task(f, "t1", node_a);
    add_task(f, "t2", node_b);
    ck_assert_int_eq(open_session(f, node_a, "boot"), 0);
    ck_assert_int_eq(ask(f, 0, &call, &ready, &answer), 0);
    ck_assert(ready && answer.complete);
    ck_assert_uint_eq(answer.n_tasks, 1);
    ck_assert_str_eq(answer.tasks[0]->task->id, "t1");
    ck_assert_str_eq(answer.tasks[0]->service_name, "web");
    uint64_t token = answer.token;

    ck_assert_int_eq(ask(f, token, &call, &ready, &answer), 0);
    ck_assert(!ready);
    add_task(f, "t3", node_a);
    struct dispatcher_due due;
    struct core_env env = env_of(f);
    ck_assert(dispatcher_next_call(f->d, &env, &f->arena, &due));
    ck_assert_ptr_eq(due.call, &call);
    ck_assert(!due.assignments.complete);
    ck_assert_uint_eq(due.assignments.n_tasks, 1);
    ck_assert_str_eq(due.assignments.tasks[0]->task->id, "t3");

    ck_assert_int_eq(ask(f, token, &call, &ready, &answer), 0); /* the answer was lost */
    ck_assert(ready && answer.complete);
    ck_assert_uint_eq(answer.n_tasks, 2);

    store_tx_remove(f->tx, SKEP__KIND__KIND_TASK, "t1", 0);
    commit(f, f->tx);
    ck_assert_int_eq(ask(f, answer.token, &call, &ready, &answer), 0);
    ck_assert(ready && !answer.complete);
    ck_assert_uint_eq(answer.n_removed_tasks, 1);
    ck_assert_str_eq(answer.removed_tasks[0], "t1");
    teardown(f);
}
END_TEST

static int report(struct fixture *f, const char *task_id, Skep__TaskState state, void *call)
{
    struct core_env env = env_of(f);
    struct dispatcher_call c = {
        .env = &env, .node_id = node_a, .address = "10.0.0.1", .arena = &f->arena
    };
    Skep__TaskStatusRequest req = SKEP__TASK_STATUS_REQUEST__INIT;
    Skep__TaskStatusUpdate update = SKEP__TASK_STATUS_UPDATE__INIT;
    Skep__TaskStatusUpdate *updates[] = { &update };
    Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;
    struct err e = { 0 };

    status.state = state;
    update.task_id = (char *)task_id;
    update.status = &status;
    req.session_id = f->session;
    req.n_updates = 1;
    req.updates = updates;
    c.call = call;
    return dispatcher_report(f->d, &c, &req, &e);
}

static const struct report_case {
    const char *why, *task;
    Skep__TaskState state, want;
    size_t unknown;
} report_cases[] = {
    { "forward", "t1", SKEP__TASK_STATE__TASK_RUNNING, SKEP__TASK_STATE__TASK_RUNNING, 0 },
    { "N48: backwards is ignored", "t1", SKEP__TASK_STATE__TASK_NEW,
      SKEP__TASK_STATE__TASK_ASSIGNED, 0 },
    { "a worker does not orphan", "t1", SKEP__TASK_STATE__TASK_ORPHANED,
      SKEP__TASK_STATE__TASK_ASSIGNED, 0 },
    { "N47: another node's task", "t2", SKEP__TASK_STATE__TASK_RUNNING,
      SKEP__TASK_STATE__TASK_ASSIGNED, 1 },
    { "N49: no such task", "t9", SKEP__TASK_STATE__TASK_RUNNING, SKEP__TASK_STATE__TASK_ASSIGNED,
      1 },
};

START_TEST(reports_are_answered_after_commit)
{
    const struct report_case *c = &report_cases[_i];
    struct fixture *f = setup();
    struct dispatcher_due due;
    int call;

    add_task(f, "t1", node_a);
    add_task(f, "t2", node_b);
    ck_assert_int_eq(open_session(f, node_a, "boot"), 0);
    run(f);
    ck_assert_int_eq(report(f, c->task, c->state, &call), 0);
    struct core_env env = env_of(f);
    ck_assert_msg(!dispatcher_next_call(f->d, &env, &f->arena, &due), "%s", c->why);
    add_task(f, "t5", node_b); /* something to commit even if the report is ignored */
    (void)dispatcher_ops.run(f->d, &env, f->tx);
    if (store_tx_action_count(f->tx) > 0)
        commit(f, f->tx);
    dispatcher_ops.on_result(f->d, 0);
    ck_assert_msg(dispatcher_next_call(f->d, &env, &f->arena, &due), "%s", c->why);
    ck_assert(due.kind == DISPATCHER_REPORT && due.call == &call);
    ck_assert_msg(due.report.n_unknown_tasks == c->unknown, "%s", c->why);
    ck_assert_msg(store_task(f->store, "t1")->status->state == c->want, "%s", c->why);
    teardown(f);
}
END_TEST

START_TEST(refused_transaction_is_tried_again)
{
    struct fixture *f = setup();
    struct dispatcher_due due;
    int call;

    add_task(f, "t1", node_a);
    ck_assert_int_eq(open_session(f, node_a, "boot"), 0);
    ck_assert_int_eq(report(f, "t1", SKEP__TASK_STATE__TASK_RUNNING, &call), 0);
    struct core_env env = env_of(f);
    (void)dispatcher_ops.run(f->d, &env, f->tx);
    store_tx_clear(f->tx);
    dispatcher_ops.on_result(f->d, -ERR_CONFLICT);
    ck_assert(!dispatcher_next_call(f->d, &env, &f->arena, &due));
    run(f);
    ck_assert(dispatcher_next_call(f->d, &env, &f->arena, &due));
    ck_assert_int_eq(store_task(f->store, "t1")->status->state, SKEP__TASK_STATE__TASK_RUNNING);
    ck_assert_int_eq(state_of(f, node_a), SKEP__NODE_STATE__NODE_READY);
    teardown(f);
}
END_TEST

START_TEST(stale_session_must_register_again)
{
    struct fixture *f = setup();
    Skep__AssignmentsResponse answer;
    bool ready;

    ck_assert_int_eq(open_session(f, node_a, "boot"), 0);
    f->session[0] = f->session[0] == 'x' ? 'y' : 'x';
    ck_assert_int_eq(ask(f, 0, f, &ready, &answer), -ERR_STALE); /* N63 */
    ck_assert_int_eq(report(f, "t1", SKEP__TASK_STATE__TASK_RUNNING, f), -ERR_STALE);
    teardown(f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dispatcher");
    TCase *tc = tcase_create("dispatcher");
    SRunner *r = srunner_create(s);

    tcase_add_test(tc, node_follows_heartbeats);
    tcase_add_test(tc, registration_refusals);
    tcase_add_test(tc, generations);
    tcase_add_test(tc, assignments_are_differences);
    tcase_add_loop_test(tc, reports_are_answered_after_commit, 0, ARRAY_LEN(report_cases));
    tcase_add_test(tc, refused_transaction_is_tried_again);
    tcase_add_test(tc, stale_session_must_register_again);
    suite_add_tcase(s, tc);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
