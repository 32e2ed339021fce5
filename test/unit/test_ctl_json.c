/* ctl/json*.c and registry_auth.c: objects in the Engine API's shape, credentials for pulls. */
#include "ctl/json.h"

#include <check.h>
#include <string.h>

#include "common/arena.h"
#include "ctl/spec.h"

static struct arena arena;

static void teardown(void)
{
    arena_deinit(&arena);
}

static char *dump(json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(6));
    char *copy = arena_strdup(&arena, text);

    free(text);
    json_decref(value);
    return copy;
}

/* Only Labels, ForceUpdate and the structs that Go never omits remain of an empty spec. */
START_TEST(empty_members_are_left_out)
{
    Skep__ServiceSpec s = SKEP__SERVICE_SPEC__INIT;

    ck_assert_str_eq(dump(json_service_spec(&s)),
                     "{\"Labels\":{},\"TaskTemplate\":{\"Runtime\":\"container\"},\"Mode\":{}}");
}
END_TEST

START_TEST(a_service)
{
    Skep__Service s = SKEP__SERVICE__INIT;
    Skep__Meta meta = SKEP__META__INIT;
    Skep__ServiceSpec spec = SKEP__SERVICE_SPEC__INIT;
    Skep__GlobalJobMode job = SKEP__GLOBAL_JOB_MODE__INIT;
    Skep__UpdateConfig update = SKEP__UPDATE_CONFIG__INIT;
    Skep__UpdateStatus status = SKEP__UPDATE_STATUS__INIT;

    meta.version = 213;
    meta.created_at = meta.updated_at = INT64_C(1767366245500000000);
    s.id = (char *)(uintptr_t) "abc";
    s.meta = &meta;
    s.spec = &spec;
    spec.mode_case = SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB;
    spec.global_job = &job;
    spec.update = &update;
    update.max_failure_ratio_ppm = 100000;
    s.update_status = &status;
    status.state = SKEP__UPDATE_STATUS__STATE__ROLLBACK_PAUSED;
    status.message = (char *)(uintptr_t) "why";
    ck_assert_str_eq(
        dump(json_service(&s)),
        "{\"ID\":\"abc\",\"Version\":{\"Index\":213},\"CreatedAt\":\"2026-01-02T15:04:05.5Z\","
        "\"UpdatedAt\":\"2026-01-02T15:04:05.5Z\",\"Spec\":{\"Labels\":{},\"TaskTemplate\":{"
        "\"Runtime\":\"container\"},\"Mode\":{\"GlobalJob\":{}},\"UpdateConfig\":{\"Parallelism\":"
        "0,"
        "\"FailureAction\":\"pause\",\"MaxFailureRatio\":0.1,\"Order\":\"stop-first\"}},"
        "\"Endpoint\":{\"Spec\":{}},\"UpdateStatus\":{\"State\":\"rollback_paused\",\"Message\":"
        "\"why\"},\"JobStatus\":{\"JobIteration\":{}}}");
}
END_TEST

START_TEST(a_container)
{
    Skep__TaskSpec t = SKEP__TASK_SPEC__INIT;
    Skep__ContainerSpec k = SKEP__CONTAINER_SPEC__INIT;
    Skep__Mount mount = SKEP__MOUNT__INIT;
    Skep__Mount *mounts[] = { &mount };
    char *ulimits[] = { (char *)(uintptr_t) "nofile=1:2" };

    k.image = (char *)(uintptr_t) "x";
    k.init = SKEP__CONTAINER_SPEC__INIT__INIT_FALSE;
    k.stop_grace_period = 5;
    mount.type = SKEP__MOUNT__TYPE__TMPFS;
    mount.target = (char *)(uintptr_t) "/t";
    mount.tmpfs_size_bytes = 64;
    mount.read_only = true;
    k.mounts = mounts;
    k.n_mounts = 1;
    k.ulimits = ulimits;
    k.n_ulimits = 1;
    t.container = &k;
    ck_assert_str_eq(
        dump(json_task_spec(&t)),
        "{\"ContainerSpec\":{\"Image\":\"x\",\"Init\":false,\"Mounts\":[{\"Type\":\"tmpfs\","
        "\"Target\":\"/t\",\"ReadOnly\":true,\"TmpfsOptions\":{\"SizeBytes\":64}}],"
        "\"StopGracePeriod\":5,\"DNSConfig\":{},\"Isolation\":\"default\",\"Ulimits\":[{\"Name\":"
        "\"nofile\",\"Hard\":2,\"Soft\":1}]},\"ForceUpdate\":0}");
}
END_TEST

START_TEST(a_task_and_a_node)
{
    Skep__Task t = SKEP__TASK__INIT;
    Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;
    Skep__Node n = SKEP__NODE__INIT;

    t.id = (char *)(uintptr_t) "t1";
    t.status = &status;
    status.state = SKEP__TASK_STATE__TASK_REJECTED;
    status.error = (char *)(uintptr_t) "no";
    t.desired_state = SKEP__TASK_STATE__TASK_RUNNING;
    ck_assert_str_eq(
        dump(json_task(&t, NULL)),
        "{\"ID\":\"t1\",\"Version\":{},\"CreatedAt\":\"0001-01-01T00:00:00Z\",\"UpdatedAt\":"
        "\"0001-01-01T00:00:00Z\",\"Labels\":{},\"Spec\":{},\"Status\":{\"Timestamp\":"
        "\"0001-01-01T00:00:00Z\",\"State\":\"rejected\",\"Err\":\"no\",\"PortStatus\":{}},"
        "\"DesiredState\":\"running\"}");
    n.id = (char *)(uintptr_t) "n1";
    ck_assert_str_eq(
        dump(json_node(&n)),
        "{\"ID\":\"n1\",\"Version\":{},\"CreatedAt\":\"0001-01-01T00:00:00Z\",\"UpdatedAt\":"
        "\"0001-01-01T00:00:00Z\",\"Spec\":{\"Labels\":{},\"Role\":\"worker\",\"Availability\":"
        "\"active\"},\"Description\":{\"Platform\":{},\"Resources\":{},\"Engine\":{}},\"Status\":{}"
        "}");
}
END_TEST

START_TEST(enum_texts_go_both_ways)
{
    static const Skep__TaskState states[] = {
        SKEP__TASK_STATE__TASK_NEW,      SKEP__TASK_STATE__TASK_PENDING,
        SKEP__TASK_STATE__TASK_RUNNING,  SKEP__TASK_STATE__TASK_COMPLETE,
        SKEP__TASK_STATE__TASK_ORPHANED,
    };

    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        Skep__TaskState back = SKEP__TASK_STATE__TASK_REMOVE;

        ck_assert(task_state_parse(text_task_state(states[i]), &back));
        ck_assert_int_eq(back, states[i]);
    }
    ck_assert_str_eq(text_task_state((Skep__TaskState)999), "unknown");
    ck_assert(!task_state_parse("allocated", &(Skep__TaskState){ 0 }));
}
END_TEST

/* ---- credentials ---- */

#define CONFIG                                                                                     \
    "{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"dTpw\"},"                             \
    "\"https://reg.example:5000/v2/\":{\"auth\":\"YTpiOmM=\"},"                                    \
    "\"ghcr.io\":{\"identitytoken\":\"t\"},\"bad.io\":{\"auth\":\"!!\"},"                          \
    "\"nocolon.io\":{\"auth\":\"dXA=\"}}}"

static const struct {
    const char *why, *config, *image;
    const char *want; /* decoded; "" = none; NULL = refused */
} auths[] = {
    { "docker hub", CONFIG, "nginx:1",
      "{\"username\":\"u\",\"password\":\"p\",\"serveraddress\":\"https://index.docker.io/v1/\"}" },
    { "password with a colon, key with scheme and path", CONFIG, "reg.example:5000/x",
      "{\"username\":\"a\",\"password\":\"b:c\",\"serveraddress\":\"reg.example:5000\"}" },
    { "identity token", CONFIG, "ghcr.io/x/y",
      "{\"identitytoken\":\"t\",\"serveraddress\":\"ghcr.io\"}" },
    { "unknown registry", CONFIG, "other.io/x", "" },
    { "no auths at all", "{}", "nginx", "" },
    { "not base64", CONFIG, "bad.io/x", NULL },
    { "no user", CONFIG, "nocolon.io/x", NULL },
    { "not JSON", "{", "nginx", NULL },
    { "credential helper", "{\"credsStore\":\"pass\",\"auths\":{\"ghcr.io\":{}}}", "ghcr.io/x",
      NULL },
};

/* URL-safe base64 back to text. */
static char *decode(const char *text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    char *out = arena_alloc(&arena, strlen(text) + 1);
    char *p = out;
    unsigned bits = 0;
    int have = 0;

    for (; *text != '\0' && *text != '='; text++) {
        ck_assert_ptr_nonnull(strchr(digits, *text));
        bits = bits << 6 | (unsigned)(strchr(digits, *text) - digits);
        have += 6;
        if (have >= 8) {
            have -= 8;
            *p++ = (char)(bits >> have & 0xff);
        }
    }
    return out;
}

START_TEST(registry_credentials)
{
    const char *got = NULL;
    int rc = registry_auth(&arena, auths[_i].config, auths[_i].image, &got, NULL);

    ck_assert_msg((rc == 0) == (auths[_i].want != NULL), "%s: %d", auths[_i].why, rc);
    if (rc < 0)
        return;
    ck_assert_msg(strlen(got) % 4 == 0, "%s: no padding", auths[_i].why);
    ck_assert_str_eq(decode(got), auths[_i].want);
}
END_TEST

START_TEST(made_up_names_are_valid)
{
    for (int i = 0; i < 200; i++)
        ck_assert_int_eq(parse_service_name(name_random(&arena), NULL), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl_json");
    TCase *t = tcase_create("json");

    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_test(t, empty_members_are_left_out);
    tcase_add_test(t, a_service);
    tcase_add_test(t, a_container);
    tcase_add_test(t, a_task_and_a_node);
    tcase_add_test(t, enum_texts_go_both_ways);
    tcase_add_loop_test(t, registry_credentials, 0, ARRAY_LEN(auths));
    tcase_add_test(t, made_up_names_are_valid);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
