/* ctl/progress.c: what is shown of a service and when it has converged. */
#include "ctl/progress.h"

#include <check.h>
#include <string.h>

#define NEW SKEP__TASK_STATE__TASK_NEW
#define PENDING SKEP__TASK_STATE__TASK_PENDING
#define PREPARING SKEP__TASK_STATE__TASK_PREPARING
#define RUNNING SKEP__TASK_STATE__TASK_RUNNING
#define COMPLETE SKEP__TASK_STATE__TASK_COMPLETE
#define SHUTDOWN SKEP__TASK_STATE__TASK_SHUTDOWN
#define FAILED SKEP__TASK_STATE__TASK_FAILED
#define REMOVE SKEP__TASK_STATE__TASK_REMOVE
#define READY SKEP__TASK_STATE__TASK_READY

#define TASK(i, s, n, st, d)                                                                       \
    {                                                                                              \
        .id = (i), .slot = (s), .node_id = (n), .state = (st), .desired = (d), .error = "",        \
        .current = true                                                                            \
    }

enum { TASKS_MAX = 4 };

static const struct progress_case {
    const char *why;
    uint64_t replicas;
    struct progress_task tasks[TASKS_MAX];
    size_t count;
    bool converged;
    const char *overall;
    const char *first; /* text of the first task's line; NULL: not looked at */
} replicated[] = {
    { "nothing yet", 2, { { 0 } }, 0, false, "0 out of 2 tasks", "" },
    { "one of two",
      2,
      { TASK("a", 1, "n1", RUNNING, RUNNING), TASK("b", 2, "n2", PREPARING, RUNNING) },
      2,
      false,
      "1 out of 2 tasks",
      "running  " },
    { "both",
      2,
      { TASK("a", 1, "n1", RUNNING, RUNNING), TASK("b", 2, "n2", RUNNING, RUNNING) },
      2,
      true,
      "2 out of 2 tasks",
      "running  " },
    { "no replicas wanted, none there", 0, { { 0 } }, 0, true, "0 out of 0 tasks", NULL },
    { "no replicas wanted, one still up",
      0,
      { TASK("a", 1, "n1", RUNNING, RUNNING) },
      1,
      false,
      "1 out of 0 tasks",
      NULL },
    { "a task that is being removed does not count",
      1,
      { TASK("a", 1, "n1", RUNNING, RUNNING), TASK("b", 2, "n1", RUNNING, REMOVE) },
      2,
      true,
      "1 out of 1 tasks",
      "running  " },
    { "a task that is to stop does not run",
      1,
      { TASK("a", 1, "n1", RUNNING, SHUTDOWN) },
      1,
      false,
      "0 out of 1 tasks",
      NULL },
    { "in a slot the task that is to come counts, not its history",
      1,
      { TASK("a", 1, "n1", FAILED, SHUTDOWN), TASK("b", 1, "n1", PREPARING, RUNNING) },
      2,
      false,
      "0 out of 1 tasks",
      "preparing" },
    { "two that are wanted: the one that is behind",
      1,
      { TASK("a", 1, "n1", RUNNING, RUNNING), TASK("b", 1, "n1", NEW, RUNNING) },
      2,
      false,
      "0 out of 1 tasks",
      "new      " },
};

static Skep__ServiceSpec spec_of(Skep__ReplicatedMode *mode, uint64_t replicas)
{
    Skep__ServiceSpec s = SKEP__SERVICE_SPEC__INIT;

    skep__replicated_mode__init(mode);
    mode->replicas = replicas;
    s.mode_case = SKEP__SERVICE_SPEC__MODE_REPLICATED;
    s.replicated = mode;
    return s;
}

START_TEST(replicated_services)
{
    const struct progress_case *k = &replicated[_i];
    Skep__ReplicatedMode mode;
    Skep__ServiceSpec s = spec_of(&mode, k->replicas);
    struct progress p = { 0 };

    progress_update(&p, &s, 0, k->tasks, k->count);
    ck_assert_msg(p.converged == k->converged, "%s", k->why);
    ck_assert_msg(strcmp(p.lines[0].text, k->overall) == 0, "%s: %s", k->why, p.lines[0].text);
    ck_assert_uint_eq(p.line_count, 1 + k->replicas);
    if (k->first != NULL)
        ck_assert_msg(strcmp(p.lines[1].text, k->first) == 0, "%s: '%s'", k->why, p.lines[1].text);
    progress_deinit(&p);
}
END_TEST

/* Old tasks, and tasks on nodes that are down, are not what is waited for. */
START_TEST(only_new_tasks_on_living_nodes_count)
{
    struct progress_task tasks[] = { TASK("a", 1, "n1", RUNNING, RUNNING),
                                     TASK("b", 2, "n2", RUNNING, RUNNING) };
    Skep__ReplicatedMode mode;
    Skep__ServiceSpec s = spec_of(&mode, 2);
    struct progress p = { 0 };

    tasks[0].current = false;
    progress_update(&p, &s, 0, tasks, 2);
    ck_assert(!p.converged);
    ck_assert_uint_eq(p.running, 1);
    tasks[0].current = true;
    tasks[1].node_down = true;
    progress_update(&p, &s, 0, tasks, 2);
    ck_assert(!p.converged);
    ck_assert_uint_eq(p.running, 1);
    progress_deinit(&p);
}
END_TEST

/* Why a task waits replaces its bar, cut to 75 characters. */
START_TEST(errors_are_shown)
{
    struct progress_task tasks[] = { TASK("a", 1, "", PENDING, RUNNING) };
    Skep__ReplicatedMode mode;
    Skep__ServiceSpec s = spec_of(&mode, 1);
    struct progress p = { 0 };
    char big[200];

    tasks[0].error = "no suitable node (insufficient resources on 3 nodes)";
    progress_update(&p, &s, 0, tasks, 1);
    ck_assert_str_eq(p.lines[1].text, tasks[0].error);
    ck_assert_uint_eq(p.lines[1].steps, 0);
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    big[3] = '\n';
    tasks[0].error = big;
    progress_update(&p, &s, 0, tasks, 1);
    ck_assert_uint_eq(strlen(p.lines[1].text), 74 + 3); /* 74 characters and an ellipsis */
    ck_assert_int_eq(p.lines[1].text[3], ' ');
    progress_deinit(&p);
}
END_TEST

/* Slots keep their place on the screen in the order in which they came. */
START_TEST(places_are_stable)
{
    struct progress_task tasks[] = { TASK("a", 7, "n1", RUNNING, RUNNING),
                                     TASK("b", 2, "n1", PENDING, RUNNING) };
    Skep__ReplicatedMode mode;
    Skep__ServiceSpec s = spec_of(&mode, 2);
    struct progress p = { 0 };

    progress_update(&p, &s, 0, tasks, 1);
    ck_assert_str_eq(p.lines[1].id, "1/2");
    ck_assert_str_eq(p.lines[1].text, "running  ");
    progress_update(&p, &s, 0, tasks, 2);
    ck_assert_str_eq(p.lines[1].text, "running  ");
    ck_assert_str_eq(p.lines[2].text, "pending  ");
    progress_deinit(&p);
}
END_TEST

START_TEST(many_tasks_have_only_a_sum)
{
    Skep__ReplicatedMode mode;
    Skep__ServiceSpec s = spec_of(&mode, PROGRESS_BARS_MAX + 1);
    struct progress p = { 0 };

    progress_update(&p, &s, 0, NULL, 0);
    ck_assert_uint_eq(p.line_count, 1);
    progress_deinit(&p);
}
END_TEST

START_TEST(rollback_is_named)
{
    struct progress_task tasks[] = { TASK("a", 1, "n1", NEW, RUNNING) };
    Skep__ReplicatedMode mode;
    Skep__ServiceSpec s = spec_of(&mode, 1);
    struct progress p = { .rollback = true };

    progress_update(&p, &s, 0, tasks, 1);
    ck_assert_str_eq(p.lines[0].text, "rolling back update: 0 out of 1 tasks");
    ck_assert_uint_eq(p.lines[1].step, PROGRESS_STEPS); /* the bar runs backwards */
    progress_deinit(&p);
}
END_TEST

START_TEST(global_services)
{
    struct progress_task tasks[] = { TASK("a", 0, "n1", RUNNING, RUNNING),
                                     TASK("b", 0, "n2", PREPARING, RUNNING),
                                     TASK("c", 0, "n2", RUNNING, SHUTDOWN) };
    Skep__ServiceSpec s = SKEP__SERVICE_SPEC__INIT;
    struct progress p = { 0 };

    s.mode_case = SKEP__SERVICE_SPEC__MODE_GLOBAL;
    progress_update(&p, &s, 0, NULL, 0);
    ck_assert(!p.converged);
    ck_assert_str_eq(p.lines[0].text, "waiting for new tasks");
    progress_update(&p, &s, 0, tasks, 3);
    ck_assert(!p.converged);
    ck_assert_str_eq(p.lines[0].text, "1 out of 2 tasks");
    ck_assert_str_eq(p.lines[1].id, "n1");
    tasks[1].state = RUNNING;
    progress_update(&p, &s, 0, tasks, 3);
    ck_assert(p.converged);
    /* a rolling update: the task of n1 is of the old spec */
    tasks[0].current = false;
    progress_update(&p, &s, 0, tasks, 3);
    ck_assert(!p.converged);
    ck_assert_str_eq(p.lines[0].text, "1 out of 2 tasks");
    progress_deinit(&p);
}
END_TEST

/* With many nodes only the sum is shown, and it is still right. */
START_TEST(global_services_on_many_nodes)
{
    struct progress_task tasks[50];
    char ids[25][8];
    Skep__ServiceSpec s = SKEP__SERVICE_SPEC__INIT;
    struct progress p = { 0 };

    s.mode_case = SKEP__SERVICE_SPEC__MODE_GLOBAL;
    for (size_t i = 0; i < 25; i++) {
        (void)snprintf(ids[i], sizeof(ids[i]), "n%02zu", i);
        tasks[2 * i] = (struct progress_task)TASK("new", 0, ids[i], RUNNING, RUNNING);
        tasks[2 * i + 1] = (struct progress_task)TASK("old", 0, ids[i], FAILED, SHUTDOWN);
    }
    tasks[48].state = PREPARING;
    progress_update(&p, &s, 0, tasks, 50);
    ck_assert_str_eq(p.lines[0].text, "24 out of 25 tasks");
    ck_assert_uint_eq(p.line_count, 1);
    ck_assert(!p.converged);
    tasks[48].state = RUNNING;
    progress_update(&p, &s, 0, tasks, 50);
    ck_assert(p.converged);
    progress_deinit(&p);
}
END_TEST

START_TEST(jobs)
{
    struct progress_task tasks[] = { TASK("a", 0, "n1", COMPLETE, COMPLETE),
                                     TASK("b", 1, "n2", RUNNING, COMPLETE),
                                     TASK("old", 1, "n2", COMPLETE, REMOVE) };
    Skep__ReplicatedJobMode mode = SKEP__REPLICATED_JOB_MODE__INIT;
    Skep__ServiceSpec s = SKEP__SERVICE_SPEC__INIT;
    struct progress p = { 0 };

    mode.total_completions = 2;
    mode.max_concurrent = 2;
    s.mode_case = SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB;
    s.replicated_job = &mode;
    tasks[0].job_iteration = tasks[1].job_iteration = 3;
    progress_update(&p, &s, 3, tasks, 3);
    ck_assert(!p.converged);
    ck_assert_str_eq(p.lines[0].text, "1 out of 2 complete");
    ck_assert_str_eq(p.lines[1].text, "1 out of 1 tasks");
    tasks[1].state = COMPLETE;
    progress_update(&p, &s, 3, tasks, 3);
    ck_assert(p.converged);
    /* a new iteration starts over */
    progress_update(&p, &s, 4, tasks, 3);
    ck_assert(!p.converged);
    s.mode_case = SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB;
    progress_update(&p, &s, 3, tasks, 3);
    ck_assert(p.converged);
    progress_deinit(&p);
}
END_TEST

START_TEST(bars)
{
    char bar[32];

    progress_bar(bar, sizeof(bar), 0, 9, 9);
    ck_assert_str_eq(bar, "[>         ]");
    progress_bar(bar, sizeof(bar), 4, 9, 9);
    ck_assert_str_eq(bar, "[====>     ]");
    progress_bar(bar, sizeof(bar), 12, 9, 9);
    ck_assert_str_eq(bar, "[=========>]");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl_progress");
    TCase *t = tcase_create("progress");

    suite_add_tcase(s, t);
    tcase_add_loop_test(t, replicated_services, 0, ARRAY_LEN(replicated));
    tcase_add_test(t, only_new_tasks_on_living_nodes_count);
    tcase_add_test(t, errors_are_shown);
    tcase_add_test(t, places_are_stable);
    tcase_add_test(t, many_tasks_have_only_a_sum);
    tcase_add_test(t, rollback_is_named);
    tcase_add_test(t, global_services);
    tcase_add_test(t, global_services_on_many_nodes);
    tcase_add_test(t, jobs);
    tcase_add_test(t, bars);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
