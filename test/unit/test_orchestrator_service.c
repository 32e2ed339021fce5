/* managerd/orchestrator/service.c: which tasks are outdated, and what new ones look like. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/message.h"
#include "managerd/orchestrator/internal.h"
#include "test/lib/spec_text.h"
#include "test/sim/cluster_world.h"

/* A service was updated by `change`; its task is in `state` on node "n" (zone=x). */
static const struct stale_case {
    const char *why;
    const char *before, *change;
    Skep__TaskState state;
    bool stale;
} stale_cases[] = {
    { "nothing changed", "", "", SKEP__TASK_STATE__TASK_RUNNING, false },
    { "image", "", "task.container.image=nginx:2", SKEP__TASK_STATE__TASK_RUNNING, true },
    { "environment", "", "task.container.env[0]=A=1", SKEP__TASK_STATE__TASK_RUNNING, true },
    { "forced", "", "task.force_update=1", SKEP__TASK_STATE__TASK_RUNNING, true },
    { "restart policy", "", "task.restart.delay=9s", SKEP__TASK_STATE__TASK_RUNNING, true },
    { "port", "", "endpoint.ports[0].target_port=80 endpoint.ports[0].publish_mode=PUBLISH_HOST",
      SKEP__TASK_STATE__TASK_RUNNING, true },
    { "endpoint mode", "", "endpoint.mode=ENDPOINT_DNSRR", SKEP__TASK_STATE__TASK_RUNNING, true },
    { "service label", "", "annotations.labels[0].key=a", SKEP__TASK_STATE__TASK_RUNNING, false },
    { "scale", "", "replicated.replicas=3", SKEP__TASK_STATE__TASK_RUNNING, false },
    { "update config", "", "update.delay=9s", SKEP__TASK_STATE__TASK_RUNNING, false },
    { "credentials, image is there", "", "task.container.registry_auth=x",
      SKEP__TASK_STATE__TASK_RUNNING, false },
    { "credentials, image is being pulled", "", "task.container.registry_auth=x",
      SKEP__TASK_STATE__TASK_PREPARING, true },
    { "constraint that its node meets", "",
      "task.placement.constraints[0].key=node.labels.zone task.placement.constraints[0].value=x",
      SKEP__TASK_STATE__TASK_RUNNING, false },
    { "constraint that its node does not meet", "",
      "task.placement.constraints[0].key=node.labels.zone task.placement.constraints[0].value=y",
      SKEP__TASK_STATE__TASK_RUNNING, true },
    { "constraint and image", "",
      "task.placement.constraints[0].key=node.labels.zone task.placement.constraints[0].value=x "
      "task.container.image=nginx:2",
      SKEP__TASK_STATE__TASK_RUNNING, true },
    { "spread preference", "", "task.placement.preferences[0].descriptor=node.labels.zone",
      SKEP__TASK_STATE__TASK_RUNNING, false },
};

struct one_pass {
    struct world world;
    struct orchestrator *o;
    struct pass pass;
    struct core_env env;
};

static void pass_begin(struct one_pass *f, const char *service)
{
    f->env = world_env(&f->world);
    f->o = f->world.orch;
    f->o->pass_count++;
    f->pass = (struct pass){ .o = f->o,
                             .env = &f->env,
                             .tx = f->world.tx,
                             .service_id = service,
                             .service = world_service(&f->world, service),
                             .wake_ms = CORE_NEVER };
}

START_TEST(outdated_means_a_difference_in_what_runs)
{
    const struct stale_case *c = &stale_cases[_i];
    CLEANUP_ARENA struct arena a = { 0 };
    struct one_pass *f = xcalloc(1, sizeof(*f));
    Skep__Task t = SKEP__TASK__INIT;
    Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;

    world_init(&f->world, 1);
    world_node_add(&f->world, "n");
    world_node_label(&f->world, "n", "zone", "x");
    ck_assert_int_eq(world_service_create(&f->world, spec_service(&a, "web", c->before)), 0);
    const Skep__Service *s = world_service(&f->world, "web");
    t.service_id = arena_strdup(&a, s->id);
    t.spec_version = s->meta->spec_version;
    Skep__ServiceSpec *spec = (Skep__ServiceSpec *)message_clone_arena(&a, &s->spec->base);
    spec_set_all(&spec->base, &a, c->change);
    ck_assert_int_eq(world_service_update(&f->world, "web", spec), 0);
    status.state = c->state;
    t.status = &status;
    t.node_id = (char *)"n";
    pass_begin(f, "web");
    ck_assert_msg(service_task_stale(&f->pass, &t) == c->stale, "%s", c->why);
    t.spec_version = f->pass.service->meta->spec_version;
    ck_assert_msg(!service_task_stale(&f->pass, &t), "%s: the current version", c->why);
    world_deinit(&f->world);
    free(f);
}
END_TEST

/* What has to be allocated starts as NEW, the rest goes to the scheduler at once. */
static const struct start_case {
    const char *why;
    const char *spec;
    Skep__TaskState state;
    const char *message;
} start_cases[] = {
    { "nothing to allocate", "", SKEP__TASK_STATE__TASK_PENDING, "pending task scheduling" },
    { "host port", "endpoint.ports[0].target_port=1 endpoint.ports[0].publish_mode=PUBLISH_HOST",
      SKEP__TASK_STATE__TASK_PENDING, "pending task scheduling" },
    { "ingress port", "endpoint.ports[0].target_port=1", SKEP__TASK_STATE__TASK_NEW, "created" },
    { "network", "task.networks[0].target=n", SKEP__TASK_STATE__TASK_NEW, "created" },
};

START_TEST(new_tasks_start_where_they_have_to)
{
    const struct start_case *c = &start_cases[_i];
    CLEANUP_ARENA struct arena a = { 0 };
    struct one_pass *f = xcalloc(1, sizeof(*f));
    struct task_plan plan = { .cause = SKEP__TASK_CAUSE__CAUSE_RESTARTED,
                              .desired = SKEP__TASK_STATE__TASK_READY,
                              .restarts = 2 };
    struct slot slot = { .number = 7 };

    world_init(&f->world, 1);
    ck_assert_int_eq(world_service_create(&f->world, spec_service(&a, "web", "")), 0);
    pass_begin(f, "web");
    Skep__Service service = *f->pass.service;
    service.spec = spec_service(&a, "web", c->spec);
    f->pass.service = &service;
    service_add_task(&f->pass, &slot, &plan);
    const Skep__Transaction *tx = store_tx_message(f->world.tx);
    ck_assert_uint_eq(tx->n_actions, 1);
    const Skep__Task *t = tx->actions[0]->create->task;
    ck_assert_msg(t->status->state == c->state, "%s", c->why);
    ck_assert_str_eq(t->status->message, c->message);
    ck_assert(id_valid(t->id));
    ck_assert_str_eq(t->service_id, f->pass.service->id);
    ck_assert_uint_eq(t->spec_version, f->pass.service->meta->spec_version);
    ck_assert_uint_eq(t->slot, 7);
    ck_assert_uint_eq(t->attempt, 1);
    ck_assert_uint_eq(t->restarts, 2);
    ck_assert_int_eq(t->desired_state, SKEP__TASK_STATE__TASK_READY);
    ck_assert(slot.touched && f->pass.changed);
    world_deinit(&f->world);
    free(f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("orchestrator_service");
    TCase *tc = tcase_create("orchestrator_service");

    tcase_add_loop_test(tc, outdated_means_a_difference_in_what_runs, 0,
                        (int)ARRAY_LEN(stale_cases));
    tcase_add_loop_test(tc, new_tasks_start_where_they_have_to, 0, (int)ARRAY_LEN(start_cases));
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
