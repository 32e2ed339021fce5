/* managerd/scheduler: which node a task gets, and what it says when it gets none (features.md 3.7).
 * Every test drives the core as the manager does: run, apply, events, result. */
#include "managerd/scheduler/scheduler.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "test/lib/core_rig.h"

#define S(x) SKEP__TASK_STATE__TASK_##x

static struct core_rig rig;
static struct scheduler *s;

static void setup(void)
{
    s = scheduler_new();
    core_rig_init(&rig, &scheduler_ops, s);
}

static void teardown(void)
{
    scheduler_free(s);
    core_rig_deinit(&rig);
}

static void add_nodes(int count)
{
    for (int i = 1; i <= count; i++) {
        char id[16];

        (void)snprintf(id, sizeof(id), "n%d", i);
        core_rig_add(&rig, fixture_node(&rig.f, id, id));
    }
}

static void add_tasks(const char *service, int first, int count)
{
    for (int i = first; i < first + count; i++) {
        char id[40];

        (void)snprintf(id, sizeof(id), "%s-%d", service, i);
        core_rig_add(&rig, fixture_task(&rig.f, id, service, (uint64_t)i));
    }
}

static const char *node_of(const char *task)
{
    const Skep__Task *t = store_task(rig.f.s, task);

    ck_assert_ptr_nonnull(t);
    return t->node_id;
}

static int on_node(const char *node, const char *service)
{
    struct store_iter it;
    int count = 0;

    for (const Skep__Task *t = store_node_tasks(rig.f.s, node, &it); t != NULL;
         t = store_iter_next(&it))
        count += service == NULL || strcmp(t->service_id, service) == 0;
    return count;
}

static const char *error_of(const char *task)
{
    return store_task(rig.f.s, task)->status->error;
}

static Skep__KeyValue **pair(const char *key, const char *value)
{
    Skep__KeyValue **list = arena_array(&rig.f.arena, 1, sizeof(*list));

    list[0] = ARENA_NEW(&rig.f.arena, Skep__KeyValue);
    skep__key_value__init(list[0]);
    list[0]->key = fixture_str(&rig.f, key);
    list[0]->value = fixture_str(&rig.f, value);
    return list;
}

static void label(Skep__Node *n, const char *key, const char *value)
{
    n->spec->annotations->n_labels = 1;
    n->spec->annotations->labels = pair(key, value);
}

static void prefer(Skep__Service *service, const char *descriptor)
{
    Skep__Placement *p = service->spec->task->placement;

    p->n_preferences = 1;
    p->preferences = arena_array(&rig.f.arena, 1, sizeof(Skep__SpreadPreference *));
    p->preferences[0] = ARENA_NEW(&rig.f.arena, Skep__SpreadPreference);
    skep__spread_preference__init(p->preferences[0]);
    p->preferences[0]->descriptor = fixture_str(&rig.f, descriptor);
}

static Skep__Service *service(const char *id)
{
    return fixture_service(&rig.f, id, id, 1);
}

/* ---- placing ---- */

START_TEST(a_task_gets_a_node)
{
    add_nodes(1);
    core_rig_add(&rig, service("web"));
    add_tasks("web", 1, 1);
    ck_assert_uint_eq(core_rig_run(&rig), CORE_NEVER);
    const Skep__Task *t = store_task(rig.f.s, "web-1");

    ck_assert_str_eq(t->node_id, "n1");
    ck_assert_int_eq(t->status->state, S(ASSIGNED));
    ck_assert_str_eq(t->status->message, "scheduler assigned task to node");
    ck_assert_str_eq(t->status->error, "");
    ck_assert_int_eq(t->status->timestamp != 0, 1);
    core_rig_run(&rig);
    ck_assert_int_eq(rig.transactions, 0);
}
END_TEST

START_TEST(tasks_spread_by_service_then_in_total)
{
    add_nodes(3);
    core_rig_add(&rig, service("db"));
    core_rig_add(&rig, service("web"));
    add_tasks("db", 1, 4); /* n1 gets two */
    core_rig_run(&rig);
    ck_assert_int_eq(on_node("n1", "db"), 2);
    add_tasks("web", 1, 2); /* the nodes with fewer in total */
    core_rig_run(&rig);
    ck_assert_int_eq(on_node("n1", "web"), 0);
    add_tasks("web", 3, 4); /* two each: the service counts first */
    core_rig_run(&rig);
    for (int i = 1; i <= 3; i++) {
        char id[16];

        (void)snprintf(id, sizeof(id), "n%d", i);
        ck_assert_int_eq(on_node(id, "web"), 2);
    }
}
END_TEST

START_TEST(a_stopping_task_does_not_count)
{
    add_nodes(2);
    core_rig_add(&rig, service("web"));
    add_tasks("web", 1, 2);
    core_rig_run(&rig);
    ck_assert_str_eq(node_of("web-1"), "n1");
    core_rig_delta(&rig, "web-1", S(SHUTDOWN), -1);
    add_tasks("web", 3, 1);
    core_rig_run(&rig);
    ck_assert_str_eq(node_of("web-3"), "n1");
}
END_TEST

START_TEST(a_node_with_failures_comes_last)
{
    add_nodes(2);
    core_rig_add(&rig, service("web"));
    for (int i = 1; i <= SCHEDULER_FAILURES_MIN; i++) {
        char id[16];

        (void)snprintf(id, sizeof(id), "web-%d", i);
        Skep__Task *t = fixture_task(&rig.f, id, "web", 1);
        t->node_id = fixture_str(&rig.f, "n1");
        t->status->state = S(RUNNING);
        core_rig_add(&rig, t);
        core_rig_delta(&rig, id, S(NEW), S(FAILED));
    }
    add_tasks("web", 10, 3);
    core_rig_run(&rig);
    ck_assert_int_eq(on_node("n2", "web"), 3);
    /* The failures are forgotten after five minutes. */
    rig.f.wall_ns += (int64_t)(SCHEDULER_FAILURE_WINDOW_S + 1) * 1000000000;
    add_tasks("web", 20, 3);
    core_rig_run(&rig);
    ck_assert_int_eq(on_node("n2", "web"), 3);
    /* Another service does not care. */
    core_rig_add(&rig, service("db"));
    add_tasks("db", 1, 2);
    core_rig_run(&rig);
    ck_assert_int_eq(on_node("n1", "db"), 1);
}
END_TEST

START_TEST(a_degraded_node_comes_last)
{
    Skep__Node *n = fixture_node(&rig.f, "n0", "n0");

    n->description->degraded = fixture_str(&rig.f, "no overlay");
    core_rig_add(&rig, n);
    add_nodes(1);
    core_rig_add(&rig, service("web"));
    add_tasks("web", 1, 3);
    core_rig_run(&rig);
    ck_assert_int_eq(on_node("n1", "web"), 3);
    n = fixture_edit(&rig.f, SKEP__KIND__KIND_NODE, "n1");
    n->spec->availability = SKEP__NODE_AVAILABILITY__AVAILABILITY_DRAIN;
    core_rig_update(&rig, n);
    add_tasks("web", 4, 1);
    core_rig_run(&rig);
    ck_assert_str_eq(node_of("web-4"), "n0");
}
END_TEST

START_TEST(preferences_level_the_branches)
{
    static const char *const zones[] = { "a", "a", "a", "b", "" };
    Skep__Service *web = service("web");

    for (int i = 0; i < 5; i++) {
        char id[16];

        (void)snprintf(id, sizeof(id), "n%d", i);
        Skep__Node *n = fixture_node(&rig.f, id, id);
        if (zones[i][0] != '\0')
            label(n, "zone", zones[i]);
        core_rig_add(&rig, n);
    }
    prefer(web, "node.labels.zone");
    core_rig_add(&rig, web);
    add_tasks("web", 1, 9);
    core_rig_run(&rig);
    ck_assert_int_eq(on_node("n0", NULL) + on_node("n1", NULL) + on_node("n2", NULL), 3);
    ck_assert_int_eq(on_node("n0", NULL), 1);
    ck_assert_int_eq(on_node("n3", NULL), 3);
    ck_assert_int_eq(on_node("n4", NULL), 3); /* a missing label is a branch of its own */
}
END_TEST

START_TEST(a_full_branch_gives_its_share_to_the_others)
{
    Skep__Service *web = service("web");
    Skep__Node *small = fixture_node(&rig.f, "n0", "n0");

    small->description->resources->memory_bytes = 1 << 20;
    label(small, "zone", "small");
    core_rig_add(&rig, small);
    add_nodes(2);
    prefer(web, "node.labels.zone");
    web->spec->task->resources->reservations->memory_bytes = 1 << 20;
    core_rig_add(&rig, web);
    add_tasks("web", 1, 7);
    core_rig_run(&rig);
    ck_assert_int_eq(on_node("n0", NULL), 1);
    ck_assert_int_eq(on_node("n1", NULL), 3);
    ck_assert_int_eq(on_node("n2", NULL), 3);
}
END_TEST

/* ---- max replicas per node ---- */

START_TEST(max_replicas)
{
    Skep__Service *web = service("web");

    add_nodes(2);
    web->spec->task->placement->max_replicas = 2;
    core_rig_add(&rig, web);
    add_tasks("web", 1, 5);
    core_rig_run(&rig);
    ck_assert_int_eq(on_node("n1", "web"), 2);
    ck_assert_int_eq(on_node("n2", "web"), 2);
    ck_assert_str_eq(error_of("web-5"), "no suitable node (max replicas per node limit exceed)");
}
END_TEST

START_TEST(start_first_at_max_replicas_is_no_deadlock)
{
    Skep__Service *web = service("web");

    add_nodes(2);
    web->spec->task->placement->max_replicas = 1;
    core_rig_add(&rig, web);
    add_tasks("web", 1, 2);
    core_rig_run(&rig);
    web = fixture_edit(&rig.f, SKEP__KIND__KIND_SERVICE, "web");
    web->spec->task->force_update = 1;
    core_rig_update(&rig, web);
    Skep__Task *t = fixture_task(&rig.f, "new-2", "web", 2);
    core_rig_add(&rig, t);
    core_rig_run(&rig);
    ck_assert_str_eq(node_of("new-2"), node_of("web-2")); /* beside the one that it replaces */
    core_rig_add(&rig,
                 fixture_task(&rig.f, "new-3", "web", 3)); /* a new slot has nobody to replace */
    core_rig_run(&rig);
    ck_assert_str_eq(node_of("new-3"), "");
    core_rig_add(
        &rig, fixture_task(&rig.f, "new-2b", "web", 2)); /* and there is one successor, not two */
    core_rig_delta(&rig, "web-2", S(SHUTDOWN), S(SHUTDOWN));
    core_rig_run(&rig);
    ck_assert_str_eq(node_of("new-2b"), "");
}
END_TEST

/* ---- global tasks ---- */

START_TEST(preassigned_tasks_are_only_checked)
{
    Skep__Service *web = service("web");

    add_nodes(2);
    web->spec->task->resources->reservations->memory_bytes = (int64_t)10 << 30;
    core_rig_add(&rig, web);
    Skep__Task *t = fixture_task(&rig.f, "g1", "web", 0);
    t->node_id = fixture_str(&rig.f, "n2");
    core_rig_add(&rig, t);
    core_rig_run(&rig);
    ck_assert_int_eq(store_task(rig.f.s, "g1")->status->state, S(ASSIGNED));
    ck_assert_str_eq(store_task(rig.f.s, "g1")->status->message,
                     "scheduler confirmed task can run on preassigned node");
    t = fixture_task(&rig.f, "g2", "web", 0);
    t->node_id = fixture_str(&rig.f, "n2");
    core_rig_add(&rig, t);
    core_rig_run(&rig);
    ck_assert_int_eq(store_task(rig.f.s, "g2")->status->state, S(PENDING));
    ck_assert_str_eq(error_of("g2"), "insufficient resources on 1 node");
    core_rig_delta(&rig, "g1", S(SHUTDOWN), S(SHUTDOWN));
    rig.now_ms += SCHEDULER_RETRY_MS;
    core_rig_run(&rig);
    ck_assert_int_eq(store_task(rig.f.s, "g2")->status->state, S(ASSIGNED));
    ck_assert_str_eq(error_of("g2"), "");
}
END_TEST

/* ---- waiting ---- */

START_TEST(a_waiting_task_is_tried_again_when_it_may_help)
{
    Skep__Service *web = service("web");

    add_nodes(1);
    web->spec->task->resources->reservations->memory_bytes = (int64_t)10 << 30;
    core_rig_add(&rig, web);
    add_tasks("web", 1, 2);
    ck_assert_uint_eq(core_rig_run(&rig), CORE_NEVER);
    ck_assert_str_eq(node_of("web-2"), "");
    add_nodes(0);
    Skep__Node *n = fixture_node(&rig.f, "n2", "n2");
    n->status->state = SKEP__NODE_STATE__NODE_DOWN;
    core_rig_add(&rig, n);
    rig.now_ms += SCHEDULER_RETRY_MS;
    core_rig_run(&rig);
    ck_assert_str_eq(node_of("web-2"), "");
    n = fixture_edit(&rig.f, SKEP__KIND__KIND_NODE, "n2");
    n->status->state = SKEP__NODE_STATE__NODE_READY;
    core_rig_update(&rig, n);
    ck_assert_uint_eq(core_rig_run(&rig), rig.now_ms + SCHEDULER_RETRY_MS); /* not at once again */
    rig.now_ms += SCHEDULER_RETRY_MS;
    core_rig_run(&rig);
    ck_assert_str_eq(node_of("web-2"), "n2");
}
END_TEST

START_TEST(explanations_are_renewed_slowly)
{
    core_rig_add(&rig, service("web"));
    add_tasks("web", 1, 1);
    core_rig_run(&rig);
    for (int i = 1; i <= 3; i++) {
        char id[16];

        (void)snprintf(id, sizeof(id), "n%d", i);
        Skep__Node *n = fixture_node(&rig.f, id, id);
        n->status->state = SKEP__NODE_STATE__NODE_DOWN;
        core_rig_add(&rig, n);
        rig.now_ms += SCHEDULER_RETRY_MS;
        ck_assert_uint_eq(core_rig_run(&rig), 1000 + SCHEDULER_EXPLAIN_MS);
        ck_assert_int_eq(rig.transactions, 0);
    }
    rig.now_ms = 1000 + SCHEDULER_EXPLAIN_MS;
    ck_assert_uint_eq(core_rig_run(&rig), CORE_NEVER);
    ck_assert_str_eq(error_of("web-1"), "no suitable node (3 nodes not available for new tasks)");
}
END_TEST

/* An explanation that is due while the next try has to wait must not make it run in circles. */
START_TEST(it_never_asks_to_run_at_once_for_nothing)
{
    core_rig_add(&rig, service("web"));
    add_tasks("web", 1, 1);
    core_rig_run(&rig);
    rig.now_ms = 1000 + SCHEDULER_EXPLAIN_MS - 10;
    Skep__Node *n = fixture_node(&rig.f, "n1", "n1");
    n->status->state = SKEP__NODE_STATE__NODE_DOWN;
    core_rig_add(&rig, n);
    ck_assert_uint_eq(core_rig_run(&rig), 1000 + SCHEDULER_EXPLAIN_MS); /* tried, not explained */
    n->id = n->description->hostname = fixture_str(&rig.f, "n2");
    core_rig_add(&rig, n);
    uint64_t due = rig.now_ms + SCHEDULER_RETRY_MS;
    rig.now_ms += 15;
    ck_assert_uint_eq(core_rig_run(&rig), due);
    rig.now_ms = due;
    ck_assert_uint_eq(core_rig_run(&rig), CORE_NEVER);
    ck_assert_str_eq(error_of("web-1"), "no suitable node (2 nodes not available for new tasks)");
}
END_TEST

START_TEST(a_task_that_is_stopped_while_it_waits_ends)
{
    core_rig_add(&rig, service("web"));
    add_tasks("web", 1, 2);
    core_rig_delta(&rig, "web-1", S(SHUTDOWN), -1);
    core_rig_delta(&rig, "web-2", S(REMOVE), -1); /* the reaper's business */
    core_rig_run(&rig);
    ck_assert_int_eq(store_task(rig.f.s, "web-1")->status->state, S(SHUTDOWN));
    ck_assert_int_eq(store_task(rig.f.s, "web-2")->status->state, S(PENDING));
    core_rig_run(&rig);
    ck_assert_int_eq(rig.transactions, 0);
}
END_TEST

/* ---- what happens meanwhile ---- */

/* One run whose transaction is decided but lost. */
static void decide(void)
{
    (void)core_rig_decide(&rig);
    store_tx_clear(rig.f.tx);
}

START_TEST(a_refused_transaction_is_taken_back)
{
    Skep__Service *web = service("web");

    add_nodes(1);
    web->spec->task->resources->reservations->memory_bytes = (int64_t)10 << 30;
    core_rig_add(&rig, web);
    add_tasks("web", 1, 1);
    decide();
    scheduler_ops.on_result(s, -ERR_CONFLICT);
    core_rig_run(&rig);
    ck_assert_str_eq(node_of("web-1"), "n1"); /* its memory was free again */
}
END_TEST

START_TEST(the_node_vanishes_while_the_decision_is_in_flight)
{
    add_nodes(2);
    core_rig_add(&rig, service("web"));
    add_tasks("web", 1, 1);
    decide();
    core_rig_remove(&rig, SKEP__KIND__KIND_NODE, "n1");
    scheduler_ops.on_result(s, -ERR_CONFLICT);
    core_rig_run(&rig);
    ck_assert_str_eq(node_of("web-1"), "n2");
    add_nodes(1); /* the same id again */
    add_tasks("web", 2, 1);
    core_rig_run(&rig);
    ck_assert_str_eq(node_of("web-2"), "n1");
}
END_TEST

/* The same, but the decision lands: the store leaves it out. */
START_TEST(a_decision_for_a_node_that_is_gone_is_made_again)
{
    struct store_tx *late = store_tx_new();
    struct core_env env = {
        .store = rig.f.s, .now_ms = rig.now_ms, .wall_ns = 1, .prng = &rig.f.prng
    };

    add_nodes(2);
    core_rig_add(&rig, service("web"));
    add_tasks("web", 1, 1);
    scheduler_ops.run(s, &env, late);
    core_rig_remove(&rig, SKEP__KIND__KIND_NODE, "n1");
    ck_assert_int_eq(store_apply(rig.f.s, ++rig.f.index, store_tx_message(late), NULL, NULL), 0);
    store_tx_free(late);
    scheduler_ops.on_result(s, 0);
    core_rig_run(&rig);
    ck_assert_str_eq(node_of("web-1"), "n2");
}
END_TEST

START_TEST(the_task_vanishes_while_the_decision_is_in_flight)
{
    Skep__Service *web = service("web");

    add_nodes(1);
    web->spec->task->resources->reservations->memory_bytes = (int64_t)10 << 30;
    core_rig_add(&rig, web);
    add_tasks("web", 1, 1);
    decide();
    core_rig_remove(&rig, SKEP__KIND__KIND_TASK, "web-1");
    scheduler_ops.on_result(s, 0);
    add_tasks("web", 2, 1);
    core_rig_run(&rig);
    ck_assert_str_eq(node_of("web-2"), "n1");
}
END_TEST

START_TEST(a_new_leader_knows_what_is_used)
{
    Skep__Service *web = service("web");

    add_nodes(2);
    web->spec->task->resources->reservations->memory_bytes = (int64_t)10 << 30;
    core_rig_add(&rig, web);
    add_tasks("web", 1, 3);
    core_rig_run(&rig);
    scheduler_ops.stop(s);
    core_rig_start(&rig);
    add_tasks("web", 4, 1);
    core_rig_run(&rig);
    ck_assert_str_eq(node_of("web-3"), "");
    ck_assert_str_eq(node_of("web-4"), "");
    core_rig_delta(&rig, "web-1", S(NEW), S(FAILED));
    rig.now_ms += SCHEDULER_RETRY_MS;
    core_rig_run(&rig);
    ck_assert_int_eq((node_of("web-3")[0] != '\0') + (node_of("web-4")[0] != '\0'), 1);
}
END_TEST

START_TEST(a_node_that_comes_back_brings_its_tasks)
{
    Skep__Service *web = service("web");

    add_nodes(1);
    web->spec->task->resources->reservations->memory_bytes = (int64_t)10 << 30;
    core_rig_add(&rig, web);
    add_tasks("web", 1, 1);
    core_rig_run(&rig);
    core_rig_remove(&rig, SKEP__KIND__KIND_NODE, "n1");
    add_nodes(1);
    add_tasks("web", 2, 1);
    core_rig_run(&rig);
    ck_assert_str_eq(node_of("web-2"), "");
    core_rig_delta(&rig, "web-1", S(SHUTDOWN), S(SHUTDOWN));
    rig.now_ms += SCHEDULER_RETRY_MS;
    core_rig_run(&rig);
    ck_assert_str_eq(node_of("web-2"), "n1");
}
END_TEST

/* Its tasks are still in the store when another node takes its place in the mirror. */
START_TEST(a_new_node_inherits_nothing)
{
    add_nodes(2);
    core_rig_add(&rig, service("web"));
    add_tasks("web", 1, 4);
    core_rig_run(&rig);
    core_rig_remove(&rig, SKEP__KIND__KIND_NODE, "n1");
    core_rig_add(&rig, fixture_node(&rig.f, "n3", "n3"));
    add_tasks("web", 5, 2);
    core_rig_run(&rig);
    ck_assert_int_eq(on_node("n3", "web"), 2);
}
END_TEST

START_TEST(more_tasks_than_one_transaction_holds)
{
    add_nodes(7);
    core_rig_add(&rig, service("web"));
    for (int i = 0; i < 9000; i++) {
        struct id id = id_from_prng(&rig.f.prng);

        store_tx_create(rig.f.tx, &fixture_task(&rig.f, id.s, "web", (uint64_t)i)->base);
        if (store_tx_full(rig.f.tx))
            core_rig_apply(&rig);
    }
    core_rig_apply(&rig);
    core_rig_run(&rig);
    ck_assert_int_gt(rig.transactions, 2);
    for (int i = 1; i <= 7; i++) {
        char id[16];

        (void)snprintf(id, sizeof(id), "n%d", i);
        ck_assert_int_ge(on_node(id, NULL), 9000 / 7);
        ck_assert_int_le(on_node(id, NULL), 9000 / 7 + 1);
    }
}
END_TEST

/* ---- a random life against a count from scratch ---- */

static void check_fit(void)
{
    for (const ProtobufCMessage *o = store_first(rig.f.s, SKEP__KIND__KIND_NODE); o != NULL;
         o = store_after(rig.f.s, SKEP__KIND__KIND_NODE, object_id(o))) {
        struct store_iter it;
        int64_t memory = 0;

        for (const Skep__Task *t = store_node_tasks(rig.f.s, object_id(o), &it); t != NULL;
             t = store_iter_next(&it)) {
            if (t->status->state >= S(ASSIGNED) && t->status->state <= S(RUNNING))
                memory += store_task_revision(rig.f.s, t)
                              ->spec->task->resources->reservations->memory_bytes;
        }
        ck_assert_int_le(memory, ((const Skep__Node *)o)->description->resources->memory_bytes);
    }
}

static bool somebody_fits(int64_t memory)
{
    for (const ProtobufCMessage *o = store_first(rig.f.s, SKEP__KIND__KIND_NODE); o != NULL;
         o = store_after(rig.f.s, SKEP__KIND__KIND_NODE, object_id(o))) {
        const Skep__Node *n = (const Skep__Node *)o;
        struct store_iter it;
        int64_t left = n->description->resources->memory_bytes;

        if (n->spec->availability != SKEP__NODE_AVAILABILITY__AVAILABILITY_ACTIVE)
            continue;
        for (const Skep__Task *t = store_node_tasks(rig.f.s, n->id, &it); t != NULL;
             t = store_iter_next(&it)) {
            if (t->status->state >= S(ASSIGNED) && t->status->state <= S(RUNNING))
                left -= store_task_revision(rig.f.s, t)
                            ->spec->task->resources->reservations->memory_bytes;
        }
        if (left >= memory)
            return true;
    }
    return false;
}

static void random_change(int step)
{
    struct id id = id_from_prng(&rig.f.prng);
    char name[16];

    (void)snprintf(name, sizeof(name), "n%d", (int)prng_below(&rig.f.prng, 6));
    switch (prng_below(&rig.f.prng, 6)) {
    case 0:
        if (store_node(rig.f.s, name) != NULL)
            core_rig_remove(&rig, SKEP__KIND__KIND_NODE, name);
        else
            core_rig_add(&rig, fixture_node(&rig.f, name, name));
        break;
    case 1:
        if (store_node(rig.f.s, name) != NULL) {
            Skep__Node *n = fixture_edit(&rig.f, SKEP__KIND__KIND_NODE, name);

            n->spec->availability = (Skep__NodeAvailability)prng_below(&rig.f.prng, 3);
            core_rig_update(&rig, n);
        }
        break;
    case 2:
    case 3:
        core_rig_add(&rig, fixture_task(&rig.f, id.s, step % 2 == 0 ? "a" : "b",
                                        1 + prng_below(&rig.f.prng, 9)));
        break;
    default: {
        const ProtobufCMessage *o = store_after(rig.f.s, SKEP__KIND__KIND_TASK, id.s);

        if (o == NULL)
            break;
        if (prng_below(&rig.f.prng, 4) == 0)
            core_rig_remove(&rig, SKEP__KIND__KIND_TASK, object_id(o));
        else
            core_rig_delta(&rig, object_id(o),
                           prng_below(&rig.f.prng, 2) == 0 ? S(SHUTDOWN) : S(NEW),
                           prng_below(&rig.f.prng, 2) == 0 ? (int)S(FAILED) : (int)S(ACCEPTED));
    }
    }
}

START_TEST(random_life)
{
    Skep__Service *a = service("a"), *b = service("b");

    prng_init(&rig.f.prng, (uint64_t)_i);
    a->spec->task->resources->reservations->memory_bytes = (int64_t)3 << 30;
    b->spec->task->resources->reservations->memory_bytes = (int64_t)5 << 30;
    core_rig_add(&rig, a);
    core_rig_add(&rig, b);
    for (int step = 0; step < 400; step++) {
        random_change(step);
        if (prng_below(&rig.f.prng, 5) == 0) {
            /* Something else is committed while our transaction is on its way. */
            decide();
            random_change(step);
            scheduler_ops.on_result(s, -ERR_CONFLICT);
        }
        rig.now_ms += SCHEDULER_RETRY_MS;
        core_rig_run(&rig);
        check_fit();
        for (const ProtobufCMessage *o = store_first(rig.f.s, SKEP__KIND__KIND_TASK); o != NULL;
             o = store_after(rig.f.s, SKEP__KIND__KIND_TASK, object_id(o))) {
            const Skep__Task *t = (const Skep__Task *)o;

            if (t->status->state == S(PENDING) && t->desired_state <= S(COMPLETE))
                ck_assert_msg(
                    !somebody_fits(store_task_revision(rig.f.s, t)
                                       ->spec->task->resources->reservations->memory_bytes),
                    "seed %d step %d: %s waits for nothing", _i, step, t->id);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("scheduler");
    TCase *tc = tcase_create("core");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_task_gets_a_node);
    tcase_add_test(tc, tasks_spread_by_service_then_in_total);
    tcase_add_test(tc, a_stopping_task_does_not_count);
    tcase_add_test(tc, a_node_with_failures_comes_last);
    tcase_add_test(tc, a_degraded_node_comes_last);
    tcase_add_test(tc, preferences_level_the_branches);
    tcase_add_test(tc, a_full_branch_gives_its_share_to_the_others);
    tcase_add_test(tc, max_replicas);
    tcase_add_test(tc, start_first_at_max_replicas_is_no_deadlock);
    tcase_add_test(tc, preassigned_tasks_are_only_checked);
    tcase_add_test(tc, a_waiting_task_is_tried_again_when_it_may_help);
    tcase_add_test(tc, explanations_are_renewed_slowly);
    tcase_add_test(tc, it_never_asks_to_run_at_once_for_nothing);
    tcase_add_test(tc, a_task_that_is_stopped_while_it_waits_ends);
    tcase_add_test(tc, a_refused_transaction_is_taken_back);
    tcase_add_test(tc, the_node_vanishes_while_the_decision_is_in_flight);
    tcase_add_test(tc, a_decision_for_a_node_that_is_gone_is_made_again);
    tcase_add_test(tc, the_task_vanishes_while_the_decision_is_in_flight);
    tcase_add_test(tc, a_new_leader_knows_what_is_used);
    tcase_add_test(tc, a_node_that_comes_back_brings_its_tasks);
    tcase_add_test(tc, a_new_node_inherits_nothing);
    tcase_add_test(tc, more_tasks_than_one_transaction_holds);
    tcase_add_loop_test(tc, random_life, 0, 8);
    suite_add_tcase(suite, tc);
    SRunner *sr = srunner_create(suite);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
