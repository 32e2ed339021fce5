#include "agentd/worker/roster.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

static struct roster r;
static struct arena arena;
static struct roster_change *changes;
static size_t count;
static char text[512];

static void setup(void)
{
    memset(&r, 0, sizeof(r));
    arena = (struct arena){ 0 };
}

static void teardown(void)
{
    roster_deinit(&r);
    arena_deinit(&arena);
}

static char *id_of(char c)
{
    char *id = arena_alloc(&arena, ID_CHARS + 1);

    memset(id, c, ID_CHARS);
    return id;
}

static Skep__TaskAssignment *task(char c, Skep__TaskState reported)
{
    Skep__TaskAssignment *a = ARENA_NEW(&arena, Skep__TaskAssignment);

    skep__task_assignment__init(a);
    a->task = ARENA_NEW(&arena, Skep__Task);
    skep__task__init(a->task);
    a->task->id = id_of(c);
    a->task->status = ARENA_NEW(&arena, Skep__TaskStatus);
    skep__task_status__init(a->task->status);
    a->task->status->state = reported;
    a->task->status->container = ARENA_NEW(&arena, Skep__ContainerStatus);
    skep__container_status__init(a->task->status->container);
    return a;
}

/* tasks: one letter per task. Applies and describes the changes: "+a ~b -c". */
static const char *apply(const char *tasks, const char *removed, bool complete, bool more)
{
    Skep__AssignmentsResponse resp = SKEP__ASSIGNMENTS_RESPONSE__INIT;
    size_t at = 0;

    resp.complete = complete;
    resp.more = more;
    resp.tasks = arena_array(&arena, 64, sizeof(resp.tasks[0]));
    resp.removed_tasks = arena_array(&arena, 64, sizeof(resp.removed_tasks[0]));
    for (; *tasks != '\0'; tasks++)
        resp.tasks[resp.n_tasks++] = task(*tasks, SKEP__TASK_STATE__TASK_ASSIGNED);
    for (; *removed != '\0'; removed++)
        resp.removed_tasks[resp.n_removed_tasks++] = id_of(*removed);
    roster_apply(&r, &resp, &arena, &changes, &count);
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        struct roster_entry *en = changes[i].entry;

        if (changes[i].type == ROSTER_ADDED)
            task_init(&en->task, en->assignment->task->status, CONTAINER_ABSENT, "");
        if (changes[i].type == ROSTER_GONE)
            en->task.unassigned = true;
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%c%c", "+~-"[changes[i].type],
                               en -> id[0]);
    }
    return text;
}

/* proto/dispatcher.proto: a complete set forgets what is not in it, but only once all of it has
 * come; differences only add and remove what they name. */
START_TEST(applies_sets_and_differences)
{
    ck_assert_str_eq(apply("ba", "", true, false), "+a+b");
    ck_assert_str_eq(apply("c", "", false, false), "+c");
    ck_assert_str_eq(apply("b", "", false, false), "~b");
    ck_assert_str_eq(apply("", "cx", false, false), "-c");
    ck_assert_str_eq(apply("", "c", false, false), ""); /* is going already */
    ck_assert_str_eq(apply("a", "", true, true), "~a");
    ck_assert_str_eq(apply("d", "", false, true), "+d");
    ck_assert_str_eq(apply("e", "", false, false), "+e-b"); /* the set ended without b */
    ck_assert(r.complete);
}
END_TEST

/* The connection broke within a complete set: nothing may be forgotten for its sake. */
START_TEST(half_a_complete_set_forgets_nothing)
{
    (void)apply("abc", "", true, false);
    ck_assert_str_eq(apply("a", "", true, true), "~a");
    roster_expect_complete(&r);
    ck_assert_str_eq(apply("d", "", false, false), "+d");
    ck_assert_str_eq(apply("abd", "", true, false), "~a~b~d-c");
}
END_TEST

START_TEST(bad_ids_are_ignored)
{
    Skep__AssignmentsResponse resp = SKEP__ASSIGNMENTS_RESPONSE__INIT;
    Skep__TaskAssignment *a = task('a', SKEP__TASK_STATE__TASK_ASSIGNED), none, *list[2];

    skep__task_assignment__init(&none);
    a->task->id = (char *)"../../etc";
    list[0] = a;
    list[1] = &none;
    resp.tasks = list;
    resp.n_tasks = 2;
    resp.complete = true;
    roster_apply(&r, &resp, &arena, &changes, &count);
    ck_assert_uint_eq(count, 0);
    ck_assert_uint_eq(r.count, 0);
}
END_TEST

START_TEST(secrets_come_and_go)
{
    Skep__AssignmentsResponse resp = SKEP__ASSIGNMENTS_RESPONSE__INIT;
    Skep__Secret secret = SKEP__SECRET__INIT, *secrets[] = { &secret };
    Skep__SecretSpec spec = SKEP__SECRET_SPEC__INIT;
    Skep__Config config = SKEP__CONFIG__INIT, *configs[] = { &config };
    char *removed[] = { (char *)"s" };

    secret.id = (char *)"s";
    secret.spec = &spec;
    spec.data = (ProtobufCBinaryData){ 3, (uint8_t *)"abc" };
    config.id = (char *)"c";
    resp.complete = true;
    resp.secrets = secrets;
    resp.n_secrets = 1;
    resp.configs = configs;
    resp.n_configs = 1;
    roster_apply(&r, &resp, &arena, &changes, &count);
    spec.data.data = (uint8_t *)"xyz"; /* its own copy */
    ck_assert_int_eq(memcmp(roster_secret(&r, "s")->spec->data.data, "abc", 3), 0);
    ck_assert_ptr_nonnull(roster_config(&r, "c"));
    skep__assignments_response__init(&resp);
    resp.removed_secrets = removed;
    resp.n_removed_secrets = 1;
    roster_apply(&r, &resp, &arena, &changes, &count);
    ck_assert_ptr_null(roster_secret(&r, "s"));
    skep__assignments_response__init(&resp);
    resp.complete = true;
    roster_apply(&r, &resp, &arena, &changes, &count);
    ck_assert_ptr_null(roster_config(&r, "c"));
}
END_TEST

static size_t report(Skep__TaskStatusRequest *req)
{
    skep__task_status_request__init(req);
    return roster_report(&r, &arena, req);
}

/* Latest wins per task; what was not acknowledged is sent again; what changed in flight as well. */
START_TEST(reports_until_acknowledged)
{
    Skep__TaskStatusRequest req;
    struct roster_entry *a;

    (void)apply("ab", "", true, false);
    a = roster_find(&r, id_of('a'));
    ck_assert(!roster_has_reports(&r)); /* nothing the managers do not know */
    roster_touch(a, 5);
    roster_touch(a, 6);
    ck_assert(roster_has_reports(&r));
    ck_assert_uint_eq(report(&req), 1);
    ck_assert_str_eq(req.updates[0]->task_id, a->id);
    ck_assert_int_eq(req.updates[0]->status->timestamp, 6);
    ck_assert(!roster_has_reports(&r));
    roster_report_done(&r, false);
    ck_assert_uint_eq(report(&req), 1);
    roster_touch(a, 7);
    roster_report_done(&r, true);
    ck_assert_uint_eq(report(&req), 1);
    ck_assert_int_eq(req.updates[0]->status->timestamp, 7);
    roster_report_done(&r, true);
    ck_assert_uint_eq(report(&req), 0);
}
END_TEST

/* After a new session only statuses that differ from what the managers have are sent. */
START_TEST(complete_sets_show_what_managers_missed)
{
    Skep__TaskStatusRequest req;
    struct roster_entry *b;

    (void)apply("ab", "", true, false);
    b = roster_find(&r, id_of('b'));
    b->task.state = SKEP__TASK_STATE__TASK_RUNNING;
    roster_touch(b, 1);
    ck_assert_uint_eq(report(&req), 1);
    roster_report_done(&r, true);
    (void)apply("ab", "", true, false); /* a new leader that knows b as ASSIGNED */
    ck_assert_uint_eq(report(&req), 1);
    ck_assert_str_eq(req.updates[0]->task_id, b->id);
}
END_TEST

START_TEST(unassigned_tasks_report_nothing)
{
    Skep__TaskStatusRequest req;

    (void)apply("a", "", true, false);
    roster_touch(roster_find(&r, id_of('a')), 1);
    (void)apply("", "a", false, false);
    ck_assert_uint_eq(report(&req), 0);
}
END_TEST

START_TEST(reports_come_in_batches)
{
    Skep__TaskStatusRequest req;
    char id[ID_CHARS + 1];

    for (unsigned i = 0; i < ROSTER_REPORT_MAX + 10; i++) {
        struct roster_entry *en;

        (void)snprintf(id, sizeof(id), "t%024u", i);
        en = roster_add(&r, id);
        task_init(&en->task, NULL, CONTAINER_ABSENT, "");
        en->assignment = xcalloc(1, sizeof(*en->assignment));
        skep__task_assignment__init(en->assignment);
        roster_touch(en, 1);
    }
    ck_assert_uint_eq(report(&req), ROSTER_REPORT_MAX);
    ck_assert(roster_has_reports(&r));
    roster_report_done(&r, true);
    ck_assert_uint_eq(report(&req), 10);
}
END_TEST

START_TEST(entries_are_limited)
{
    char id[ID_CHARS + 1];

    for (unsigned i = 0; i < ROSTER_TASKS_MAX; i++) {
        (void)snprintf(id, sizeof(id), "t%024u", i);
        ck_assert_ptr_nonnull(roster_add(&r, id));
    }
    ck_assert_ptr_null(roster_add(&r, id_of('z')));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("agent roster");
    TCase *tc = tcase_create("roster");
    SRunner *sr;
    int failed;

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, applies_sets_and_differences);
    tcase_add_test(tc, half_a_complete_set_forgets_nothing);
    tcase_add_test(tc, bad_ids_are_ignored);
    tcase_add_test(tc, secrets_come_and_go);
    tcase_add_test(tc, reports_until_acknowledged);
    tcase_add_test(tc, complete_sets_show_what_managers_missed);
    tcase_add_test(tc, unassigned_tasks_report_nothing);
    tcase_add_test(tc, reports_come_in_batches);
    tcase_add_test(tc, entries_are_limited);
    suite_add_tcase(s, tc);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
