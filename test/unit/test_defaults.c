#include "managerd/control/defaults.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "test/lib/spec_text.h"

#define SECONDS(n) ((n)*TEXT_NS_PER_S)

/* features.md 3.3: a spec that says nothing. */
START_TEST(everything_unsaid_has_its_default)
{
    CLEANUP_ARENA struct arena a = { 0 };
    Skep__ServiceSpec *s = spec_service(&a, "web", "");

    defaults_fill_service(s, &a);
    ck_assert_int_eq(s->mode_case, SKEP__SERVICE_SPEC__MODE_REPLICATED);
    ck_assert_uint_eq(s->replicated->replicas, 1);
    ck_assert_int_eq(s->task->container->stop_grace_period, SECONDS(10));
    ck_assert_int_eq(s->task->restart->condition, SKEP__RESTART_CONDITION__RESTART_ANY);
    ck_assert_int_eq(s->task->restart->delay, SECONDS(5));
    ck_assert_uint_eq(s->task->restart->max_attempts, 0);
    ck_assert_int_eq(s->task->restart->window, 0);
    ck_assert_ptr_nonnull(s->task->resources->limits);
    ck_assert_ptr_nonnull(s->task->resources->reservations);
    ck_assert_ptr_nonnull(s->task->placement);
    ck_assert_int_eq(s->endpoint->mode, SKEP__ENDPOINT_MODE__ENDPOINT_VIP);
    for (int i = 0; i < 2; i++) {
        const Skep__UpdateConfig *u = i == 0 ? s->update : s->rollback;

        ck_assert_uint_eq(u->parallelism, 1);
        ck_assert_int_eq(u->delay, 0);
        ck_assert_int_eq(u->monitor, SECONDS(5));
        ck_assert_int_eq(u->failure_action, SKEP__UPDATE_FAILURE_ACTION__FAILURE_PAUSE);
        ck_assert_uint_eq(u->max_failure_ratio_ppm, 0);
        ck_assert_int_eq(u->order, SKEP__UPDATE_ORDER__ORDER_STOP_FIRST);
    }
}
END_TEST

/* What was said stays, also where it is zero. */
START_TEST(what_was_said_stays)
{
    CLEANUP_ARENA struct arena a = { 0 };
    Skep__ServiceSpec *s = spec_service(
        &a, "web",
        "replicated.replicas=0 task.restart.delay=0 update.parallelism=0 update.monitor=1s "
        "task.container.stop_grace_period=1s task.container.secrets[0].secret_name=key "
        "task.container.secrets[0].file.mode=256 task.container.secrets[0].file.uid=7");

    defaults_fill_service(s, &a);
    ck_assert_uint_eq(s->replicated->replicas, 0);
    ck_assert_int_eq(s->task->restart->delay, 0);
    ck_assert_uint_eq(s->update->parallelism, 0);
    ck_assert_int_eq(s->update->monitor, SECONDS(1));
    ck_assert_int_eq(s->task->container->stop_grace_period, SECONDS(1));
    ck_assert_uint_eq(s->task->container->secrets[0]->file->mode, 0400);
    ck_assert_str_eq(s->task->container->secrets[0]->file->uid, "7");
}
END_TEST

static const struct job_case {
    const char *why;
    const char *set;
    uint64_t total, concurrent;
} job_cases[] = {
    { "nothing said", "replicated_job=", 1, 1 },
    { "total only", "replicated_job.total_completions=5", 5, 5 },
    { "concurrency only", "replicated_job.max_concurrent=3", 3, 3 },
    { "both", "replicated_job.total_completions=5 replicated_job.max_concurrent=2", 5, 2 },
};

START_TEST(jobs_complete_their_counts)
{
    const struct job_case *c = &job_cases[_i];
    CLEANUP_ARENA struct arena a = { 0 };
    Skep__ServiceSpec *s = spec_service(&a, "job", c->set);

    defaults_fill_service(s, &a);
    ck_assert_msg(s->replicated_job->total_completions == c->total, "%s", c->why);
    ck_assert_msg(s->replicated_job->max_concurrent == c->concurrent, "%s", c->why);
    ck_assert_ptr_null(s->update); /* not allowed for jobs */
}
END_TEST

START_TEST(maps_and_sets_are_sorted)
{
    CLEANUP_ARENA struct arena a = { 0 };
    Skep__ServiceSpec *s = spec_service(
        &a, "web",
        "annotations.labels[0].key=b annotations.labels[1].key=a "
        "task.container.mounts[0].target=/a/b task.container.mounts[1].target=/a "
        "task.container.secrets[0].secret_name=z task.container.secrets[1].secret_name=y "
        "task.container.configs[0].config_name=c "
        "task.container.cap_add[0]=sys_admin task.container.cap_add[1]=ALL "
        "task.container.cap_add[2]=CAP_SYS_ADMIN "
        "task.networks[0].target=n2 task.networks[1].target=n1 "
        "task.placement.platforms[0].architecture=x86_64 "
        "endpoint.ports[0].published_port=443 endpoint.ports[1].published_port=80");

    defaults_fill_service(s, &a);
    const Skep__ContainerSpec *c = s->task->container;
    ck_assert_str_eq(s->annotations->labels[0]->key, "a");
    ck_assert_str_eq(c->mounts[0]->target, "/a");
    ck_assert_str_eq(c->secrets[0]->file->name, "y");
    ck_assert_str_eq(c->configs[0]->file->name, "/c");
    ck_assert_str_eq(c->configs[0]->file->uid, "0");
    ck_assert_uint_eq(c->configs[0]->file->mode, 0444);
    ck_assert_uint_eq(c->n_cap_add, 2);
    ck_assert_str_eq(c->cap_add[0], "ALL");
    ck_assert_str_eq(c->cap_add[1], "CAP_SYS_ADMIN");
    ck_assert_str_eq(s->task->networks[0]->target, "n1");
    ck_assert_str_eq(s->task->placement->platforms[0]->architecture, "amd64");
    ck_assert_uint_eq(s->endpoint->ports[0]->published_port, 80);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("defaults");
    TCase *tc = tcase_create("defaults");

    tcase_add_test(tc, everything_unsaid_has_its_default);
    tcase_add_test(tc, what_was_said_stays);
    tcase_add_loop_test(tc, jobs_complete_their_counts, 0, (int)ARRAY_LEN(job_cases));
    tcase_add_test(tc, maps_and_sets_are_sorted);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
