/* The log broker: who is asked, what readers get, and what a slow one costs. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "managerd/logs/broker.h"
#include "test/lib/fixture.h"

static const char node_a[] = "aaaaaaaaaaaaaaaaaaaaaaaaa", node_b[] = "bbbbbbbbbbbbbbbbbbbbbbbbb";
static const char service[] = "sssssssssssssssssssssssss";

struct world {
    struct fixture f;
    struct core_env env;
    struct log_broker *b;
    struct err e;
};

static void add_task(struct world *w, const char *id, uint64_t slot, const char *node)
{
    Skep__Task *t = fixture_task(&w->f, id, service, slot);

    t->node_id = (char *)node;
    t->desired_state = SKEP__TASK_STATE__TASK_RUNNING;
    t->status->state = SKEP__TASK_STATE__TASK_RUNNING;
    ck_assert_int_eq(fixture_add(&w->f, t), 0);
}

static struct world *world_new(void)
{
    struct world *w = calloc(1, sizeof(*w));

    fixture_init(&w->f, 3);
    w->b = log_broker_new();
    w->env = (struct core_env){ .store = w->f.s, .now_ms = 1000, .prng = &w->f.prng };
    for (int i = 0; i < 2; i++) {
        Skep__Node *n = fixture_node(&w->f, i == 0 ? node_a : node_b, i == 0 ? "a" : "b");

        n->status->state = SKEP__NODE_STATE__NODE_READY;
        ck_assert_int_eq(fixture_add(&w->f, n), 0);
    }
    ck_assert_int_eq(fixture_add(&w->f, fixture_service(&w->f, service, "web", 2)), 0);
    add_task(w, "t1", 1, node_a);
    add_task(w, "t2", 2, node_b);
    return w;
}

static void world_free(struct world *w)
{
    while (log_broker_take_call(w->b) != NULL)
        ;
    log_broker_free(w->b);
    fixture_deinit(&w->f);
    free(w);
}

static struct id open_service(struct world *w, bool follow)
{
    Skep__LogsOpenRequest req = SKEP__LOGS_OPEN_REQUEST__INIT;
    char *ids[] = { (char *)service };
    struct id id;

    req.service_ids = ids;
    req.n_service_ids = 1;
    req.follow = follow;
    ck_assert_msg(log_broker_open(w->b, &w->env, &req, &id, &w->e) == 0, "%s", w->e.message);
    return id;
}

/* bytes 0: nothing to say but that it is done. */
static Skep__LogPublishResponse publish(struct world *w, const char *node, struct id id,
                                        const char *task, size_t bytes)
{
    struct log_call c = { .env = &w->env, .node_id = node, .arena = &w->f.arena };
    Skep__LogPublishRequest req = SKEP__LOG_PUBLISH_REQUEST__INIT;
    Skep__LogPublishEntry entry = SKEP__LOG_PUBLISH_ENTRY__INIT;
    Skep__LogPublishEntry *entries[] = { &entry };
    Skep__LogPublishResponse answer;

    entry.task_id = (char *)task;
    entry.data = (ProtobufCBinaryData){ .len = bytes, .data = arena_alloc(&w->f.arena, bytes) };
    req.subscription_id = id.s;
    req.entries = entries;
    req.n_entries = bytes > 0 ? 1 : 0;
    req.done = bytes == 0;
    log_broker_publish(w->b, &c, &req, &answer);
    return answer;
}

static bool read_logs(struct world *w, struct id id, void *call, Skep__LogsReadResponse *out)
{
    struct log_call c = {
        .env = &w->env, .arena = &w->f.arena, .call = call, .until_ms = w->env.now_ms + 1000
    };
    int rc = log_broker_read(w->b, &c, id.s, out, &w->e);

    ck_assert_msg(rc >= 0, "%s", w->e.message);
    return rc == 0;
}

static bool listen_for(struct world *w, const char *node, uint64_t since, void *call,
                       Skep__LogSubscriptionsResponse *out)
{
    struct log_call c = {
        .env = &w->env, .node_id = node, .arena = &w->f.arena, .call = call, .until_ms = 9999
    };
    int rc = log_broker_listen(w->b, &c, since, out, &w->e);

    ck_assert_int_ge(rc, 0);
    return rc == 0;
}

START_TEST(finite_log_ends_when_every_node_is_done)
{
    struct world *w = world_new();
    struct id id = open_service(w, false);
    Skep__LogsReadResponse out;
    struct log_due due;
    int call;

    ck_assert(!read_logs(w, id, &call, &out));
    (void)publish(w, node_a, id, "t1", 5);
    (void)publish(w, node_a, id, "t1", 0);
    ck_assert(log_broker_next_call(w->b, &w->env, &w->f.arena, &due));
    ck_assert_ptr_eq(due.call, &call);
    ck_assert_uint_eq(due.read.n_messages, 1);
    ck_assert_str_eq(due.read.messages[0]->service_id, service);
    ck_assert(!due.read.done);
    (void)publish(w, node_b, id, "t2", 0);
    ck_assert(read_logs(w, id, &call, &out));
    ck_assert(out.done);
    struct log_call c = { .env = &w->env, .arena = &w->f.arena };
    ck_assert_int_eq(log_broker_read(w->b, &c, id.s, &out, &w->e), -ERR_STALE);
    world_free(w);
}
END_TEST

START_TEST(unreachable_node_is_a_warning_not_a_wait)
{
    struct world *w = world_new();
    Skep__Node *n = fixture_edit(&w->f, SKEP__KIND__KIND_NODE, node_b);
    Skep__LogsReadResponse out;

    n->status->state = SKEP__NODE_STATE__NODE_DOWN;
    ck_assert_int_eq(fixture_update(&w->f, n), 0);
    struct id id = open_service(w, false);
    (void)publish(w, node_a, id, "t1", 0);
    ck_assert(read_logs(w, id, w, &out));
    ck_assert(out.done);
    ck_assert_uint_eq(out.n_warnings, 1);
    ck_assert_ptr_nonnull(strstr(out.warnings[0], "is not available"));
    world_free(w);
}
END_TEST

START_TEST(agents_hear_of_their_tasks_only)
{
    struct world *w = world_new();
    Skep__LogSubscriptionsResponse out;
    struct log_due due;
    int call;

    ck_assert(listen_for(w, node_a, 0, &call, &out));
    ck_assert_uint_eq(out.n_subscriptions, 0);
    ck_assert(!listen_for(w, node_a, out.token, &call, &out));
    struct id id = open_service(w, true);
    ck_assert(log_broker_next_call(w->b, &w->env, &w->f.arena, &due));
    ck_assert_ptr_eq(due.call, &call);
    ck_assert_uint_eq(due.subscriptions.n_subscriptions, 1);
    ck_assert_str_eq(due.subscriptions.subscriptions[0]->id, id.s);
    ck_assert_uint_eq(due.subscriptions.subscriptions[0]->n_task_ids, 1);
    ck_assert_str_eq(due.subscriptions.subscriptions[0]->task_ids[0], "t1");
    world_free(w);
}
END_TEST

START_TEST(a_node_cannot_speak_for_another)
{
    struct world *w = world_new();
    struct id id = open_service(w, true);
    Skep__LogsReadResponse out;

    (void)publish(w, node_a, id, "t2", 5);
    ck_assert(!read_logs(w, id, w, &out));
    world_free(w);
}
END_TEST

/* N87, B20: a slow reader slows agents down, then costs messages, never memory. */
START_TEST(slow_reader_is_bounded)
{
    struct world *w = world_new();
    struct id id = open_service(w, true);
    Skep__LogsReadResponse out;
    bool paused = false;
    uint64_t dropped = 0;

    for (int i = 0; i < 100; i++)
        paused = publish(w, node_a, id, "t1", 100000).pause_ms > 0 || paused;
    ck_assert(paused);
    for (int i = 0; i < 100 && read_logs(w, id, w, &out); i++)
        dropped += out.dropped;
    ck_assert_uint_gt(dropped, 50);
    w->env.now_ms += LOGS_IDLE_MS_MAX + 1000;
    struct log_due due;
    (void)log_broker_next_call(w->b, &w->env, &w->f.arena,
                               &due); /* the last read waited: answered */
    w->env.now_ms += LOGS_IDLE_MS_MAX + 1000;
    ck_assert(!log_broker_next_call(w->b, &w->env, &w->f.arena, &due));
    ck_assert(publish(w, node_a, id, "t1", 1).stop); /* nobody reads: it has ended */
    world_free(w);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("broker");
    TCase *tc = tcase_create("broker");
    SRunner *r = srunner_create(s);

    tcase_add_test(tc, finite_log_ends_when_every_node_is_done);
    tcase_add_test(tc, unreachable_node_is_a_warning_not_a_wait);
    tcase_add_test(tc, agents_hear_of_their_tasks_only);
    tcase_add_test(tc, a_node_cannot_speak_for_another);
    tcase_add_test(tc, slow_reader_is_bounded);
    suite_add_tcase(s, tc);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
