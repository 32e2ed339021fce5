/* managerd/orchestrator/restart.c: may a task be replaced? features.md 3.5 */
#include <check.h>
#include <stdlib.h>

#include "common/text.h"
#include "managerd/orchestrator/internal.h"

enum { VERSION = 10 };

/* The newest task of a slot under a policy. Times are seconds; the history is that of restarts of
 * the current version, each by the time it was made. */
static const struct allow_case {
    const char *why;
    Skep__RestartCondition condition;
    uint64_t max_attempts;
    int64_t window_s;
    Skep__TaskState state;
    uint64_t version, restarts;
    int64_t ended_s;
    int64_t history_s[4];
    bool job, allowed;
} allow_cases[] = {
    { "any: failed",
      SKEP__RESTART_CONDITION__RESTART_ANY,
      0,
      0,
      SKEP__TASK_STATE__TASK_FAILED,
      VERSION,
      9,
      0,
      { 0 },
      false,
      true },
    { "any: completed",
      SKEP__RESTART_CONDITION__RESTART_ANY,
      0,
      0,
      SKEP__TASK_STATE__TASK_COMPLETE,
      VERSION,
      0,
      0,
      { 0 },
      false,
      true },
    { "any, of a job: completed",
      SKEP__RESTART_CONDITION__RESTART_ANY,
      0,
      0,
      SKEP__TASK_STATE__TASK_COMPLETE,
      VERSION,
      0,
      0,
      { 0 },
      true,
      false },
    { "any, of a job: failed",
      SKEP__RESTART_CONDITION__RESTART_ANY,
      0,
      0,
      SKEP__TASK_STATE__TASK_FAILED,
      VERSION,
      0,
      0,
      { 0 },
      true,
      true },
    { "on-failure: completed",
      SKEP__RESTART_CONDITION__RESTART_ON_FAILURE,
      0,
      0,
      SKEP__TASK_STATE__TASK_COMPLETE,
      VERSION,
      0,
      0,
      { 0 },
      false,
      false },
    { "on-failure: rejected",
      SKEP__RESTART_CONDITION__RESTART_ON_FAILURE,
      0,
      0,
      SKEP__TASK_STATE__TASK_REJECTED,
      VERSION,
      0,
      0,
      { 0 },
      false,
      true },
    { "on-failure: its node is lost",
      SKEP__RESTART_CONDITION__RESTART_ON_FAILURE,
      0,
      0,
      SKEP__TASK_STATE__TASK_RUNNING,
      VERSION,
      0,
      0,
      { 0 },
      false,
      true },
    { "none: failed",
      SKEP__RESTART_CONDITION__RESTART_NONE,
      0,
      0,
      SKEP__TASK_STATE__TASK_FAILED,
      VERSION,
      0,
      0,
      { 0 },
      false,
      false },
    { "below the limit",
      SKEP__RESTART_CONDITION__RESTART_ANY,
      3,
      0,
      SKEP__TASK_STATE__TASK_FAILED,
      VERSION,
      2,
      0,
      { 0 },
      false,
      true },
    { "at the limit",
      SKEP__RESTART_CONDITION__RESTART_ANY,
      3,
      0,
      SKEP__TASK_STATE__TASK_FAILED,
      VERSION,
      3,
      0,
      { 0 },
      false,
      false },
    { "restarts of another version do not count",
      SKEP__RESTART_CONDITION__RESTART_ANY,
      3,
      0,
      SKEP__TASK_STATE__TASK_FAILED,
      VERSION - 1,
      3,
      0,
      { 0 },
      false,
      true },
    { "all restarts within the window",
      SKEP__RESTART_CONDITION__RESTART_ANY,
      2,
      10,
      SKEP__TASK_STATE__TASK_FAILED,
      VERSION,
      2,
      100,
      { 92, 96 },
      false,
      false },
    { "one of them before it",
      SKEP__RESTART_CONDITION__RESTART_ANY,
      2,
      10,
      SKEP__TASK_STATE__TASK_FAILED,
      VERSION,
      2,
      100,
      { 90, 96 },
      false,
      true },
    { "many, long ago",
      SKEP__RESTART_CONDITION__RESTART_ANY,
      2,
      10,
      SKEP__TASK_STATE__TASK_FAILED,
      VERSION,
      4,
      100,
      { 10, 20, 30, 40 },
      false,
      true },
};

START_TEST(the_policy_decides)
{
    const struct allow_case *c = &allow_cases[_i];
    Skep__RestartPolicy policy = SKEP__RESTART_POLICY__INIT;
    Skep__TaskSpec task_spec = SKEP__TASK_SPEC__INIT;
    Skep__ServiceSpec spec = SKEP__SERVICE_SPEC__INIT;
    Skep__Meta meta = SKEP__META__INIT, metas[ARRAY_LEN(c->history_s)];
    Skep__Service service = SKEP__SERVICE__INIT;
    Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;
    Skep__Task t = SKEP__TASK__INIT, made[ARRAY_LEN(c->history_s)];
    const Skep__Task *tasks[ARRAY_LEN(c->history_s) + 1];
    struct slot slot = { .tasks = tasks };
    struct core_env env = { .wall_ns = c->ended_s * TEXT_NS_PER_S };
    struct pass p = { .env = &env, .service = &service };

    policy.condition = c->condition;
    policy.max_attempts = c->max_attempts;
    policy.window = c->window_s * TEXT_NS_PER_S;
    task_spec.restart = &policy;
    spec.task = &task_spec;
    spec.mode_case = c->job ? SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB : SKEP__SERVICE_SPEC__MODE_GLOBAL;
    meta.spec_version = VERSION;
    service.spec = &spec;
    service.meta = &meta;
    for (size_t i = 0; i < ARRAY_LEN(made) && c->history_s[i] != 0; i++) {
        skep__task__init(&made[i]);
        skep__meta__init(&metas[i]);
        metas[i].created_at = c->history_s[i] * TEXT_NS_PER_S;
        made[i].meta = &metas[i];
        made[i].status = &status;
        made[i].spec_version = VERSION;
        made[i].cause = SKEP__TASK_CAUSE__CAUSE_RESTARTED;
        tasks[slot.task_count++] = &made[i];
    }
    status.state = c->state;
    status.applied_at = c->ended_s * TEXT_NS_PER_S;
    t.status = &status;
    t.meta = &meta;
    t.spec_version = c->version;
    t.restarts = c->restarts;
    tasks[slot.task_count++] = &t;
    ck_assert_msg(restart_allowed(&p, &slot, &t) == c->allowed, "%s", c->why);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("orchestrator_restart");
    TCase *tc = tcase_create("orchestrator_restart");

    tcase_add_loop_test(tc, the_policy_decides, 0, (int)ARRAY_LEN(allow_cases));
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
