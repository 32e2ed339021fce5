#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "managerd/control/validate.h"
#include "test/lib/spec_text.h"

struct object_case {
    const char *why;
    const char *set[3];
    const char *want; /* NULL: valid; else part of the message */
};

static void set_all(ProtobufCMessage *m, struct arena *a, const struct object_case *c)
{
    for (size_t i = 0; i < ARRAY_LEN(c->set) && c->set[i] != NULL; i++)
        spec_set(m, a, c->set[i]);
}

static void check_result(const struct object_case *c, int rc, const struct err *e)
{
    ck_assert_msg(rc == (c->want == NULL ? 0 : -ERR_INVALID), "%s: %d %s", c->why, rc, e->message);
    if (c->want != NULL)
        ck_assert_msg(strstr(e->message, c->want) != NULL, "%s: %s", c->why, e->message);
}

static const struct object_case cluster_cases[] = {
    { "nothing said", { NULL }, NULL },
    { "another name", { "annotations.name=prod" }, "the cluster's name is \"default\"" },
    { "expiry of 59 minutes", { "certificate_expiry=59m" }, "minimum certificate expiry time" },
    { "expiry of an hour", { "certificate_expiry=1h" }, NULL },
    { "negative heartbeat", { "heartbeat_period=-1s" }, "heartbeat_period cannot be negative" },
    { "frantic heartbeat", { "heartbeat_period=1ms" }, "at least 100ms" },
    { "no history", { "task_history_limit=0" }, NULL },
    { "all history", { "task_history_limit=-1" }, NULL },
    { "low data port", { "data_path_port=80" }, "not between 1024 and 49151" },
    { "pool is no subnet", { "address_pools[0]=10.0.0.0" }, "invalid base pool 10.0.0.0" },
    { "pool smaller than a subnet",
      { "address_pools[0]=10.0.0.0/24", "subnet_size=20" },
      "does not fit into the pool" },
    { "pool with host bits", { "address_pools[0]=10.0.0.1/8" }, "10.0.0.0/8 is meant" },
    { "IPv6 pool", { "address_pools[0]=fd00::/16" }, "must be an IPv4 subnet" },
    { "pools that overlap",
      { "address_pools[0]=10.0.0.0/8", "address_pools[1]=10.1.0.0/16" },
      "overlap" },
    { "subnets too small", { "subnet_size=30" }, "at most 29" },
};

START_TEST(clusters_are_checked)
{
    const struct object_case *c = &cluster_cases[_i];
    CLEANUP_ARENA struct arena a = { 0 };
    Skep__ClusterSpec spec = SKEP__CLUSTER_SPEC__INIT, *complete = NULL;
    struct err e = { 0 };

    set_all(&spec.base, &a, c);
    check_result(c, control_validate_cluster(&spec, &a, &complete, &e), &e);
    if (c->want == NULL)
        ck_assert_uint_eq(complete->data_path_port, 4789);
    if (c->want == NULL)
        ck_assert_uint_eq(complete->subnet_size, 20);
}
END_TEST

/* A history limit of 0 is a wish, not a gap. */
START_TEST(a_cluster_gets_its_defaults)
{
    CLEANUP_ARENA struct arena a = { 0 };
    Skep__ClusterSpec spec = SKEP__CLUSTER_SPEC__INIT, *complete = NULL;

    ck_assert_int_eq(control_validate_cluster(&spec, &a, &complete, NULL), 0);
    ck_assert_str_eq(complete->annotations->name, "default");
    ck_assert_int_eq(complete->heartbeat_period, 5 * TEXT_NS_PER_S);
    ck_assert_int_eq(complete->certificate_expiry, 2160 * 3600 * TEXT_NS_PER_S);
    ck_assert_uint_eq(complete->snapshot_interval, 10000);
    ck_assert_int_eq(complete->task_history_limit, 0);
    ck_assert_str_eq(complete->address_pools[0], "10.0.0.0/8");
}
END_TEST

/* N68, N69 */
static const struct file_case {
    const char *why;
    const char *name;
    size_t size;
    const char *want_secret, *want_config;
} file_cases[] = {
    { "name and data", "tls.key-1", 1, NULL, NULL },
    { "empty", "key", 0, "larger than 0", "larger than 0" },
    { "secret at its limit", "key", 500 << 10, NULL, NULL },
    { "beyond a secret's limit", "key", (500 << 10) + 1, "at most 512000", NULL },
    { "beyond a config's limit", "key", (1000 << 10) + 1, "at most 512000", "at most 1024000" },
    { "name with a path", "../etc/x", 1, "invalid name", "invalid name" },
    { "no name", "", 1, "invalid name", "invalid name" },
    { "dot at the end", "key.", 1, "invalid name", "invalid name" },
    { "65 characters", "a123456789b123456789c123456789d123456789e123456789f123456789g1234", 1,
      "invalid name", "invalid name" },
};

START_TEST(secrets_and_configs_are_checked)
{
    const struct file_case *f = &file_cases[_i];
    CLEANUP_ARENA struct arena a = { 0 };
    Skep__Annotations annotations = SKEP__ANNOTATIONS__INIT;
    Skep__SecretSpec secret = SKEP__SECRET_SPEC__INIT, *complete_secret = NULL;
    Skep__ConfigSpec config = SKEP__CONFIG_SPEC__INIT, *complete_config = NULL;
    struct object_case c = { f->why, { NULL }, f->want_secret };
    struct err e = { 0 };

    annotations.name = (char *)f->name;
    secret.annotations = config.annotations = &annotations;
    secret.data = config.data = (ProtobufCBinaryData){ f->size, arena_alloc(&a, f->size + 1) };
    check_result(&c, control_validate_secret(&secret, &a, &complete_secret, &e), &e);
    c.want = f->want_config;
    check_result(&c, control_validate_config(&config, &a, &complete_config, &e), &e);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("validate_objects");
    TCase *tc = tcase_create("validate_objects");

    tcase_add_loop_test(tc, clusters_are_checked, 0, (int)ARRAY_LEN(cluster_cases));
    tcase_add_test(tc, a_cluster_gets_its_defaults);
    tcase_add_loop_test(tc, secrets_and_configs_are_checked, 0, (int)ARRAY_LEN(file_cases));
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
