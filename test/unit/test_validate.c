#include "managerd/control/validate.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/message.h"
#include "test/lib/spec_text.h"

/* One case: a valid service "web" plus one assignment, and what must come of it. */
struct spec_case {
    const char *why;
    const char *set[4];
    const char *want; /* NULL: valid; else part of the message */
};

static void check_case(const struct spec_case *c)
{
    CLEANUP_ARENA struct arena a = { 0 };
    Skep__ServiceSpec *spec = spec_service(&a, "web", ""), *complete = NULL;
    struct err e = { 0 };

    for (size_t i = 0; i < ARRAY_LEN(c->set) && c->set[i] != NULL; i++)
        spec_set(&spec->base, &a, c->set[i]);
    int rc = control_validate_service(spec, &a, &complete, &e);
    if (c->want == NULL) {
        ck_assert_msg(rc == 0, "%s: %s", c->why, e.message);
        ck_assert_ptr_nonnull(complete);
    } else {
        ck_assert_msg(rc == -ERR_INVALID, "%s: rc %d", c->why, rc);
        ck_assert_msg(strstr(e.message, c->want) != NULL, "%s: %s", c->why, e.message);
        ck_assert_ptr_null(complete);
    }
}

/* features.md 3.3; reliability.md N27, N29, N66, N70, N74, N77, N78. */
static const struct spec_case service_cases[] = {
    { "the least that is valid", { NULL }, NULL },
    { "no name", { "annotations.name=" }, "annotations: name must be provided" },
    { "name with a dot", { "annotations.name=a.b" }, "valid as a DNS name component" },
    { "name with a dash at its end", { "annotations.name=web-" }, "DNS name component" },
    { "name of 64 characters",
      { "annotations.name=a123456789b123456789c123456789d123456789e123456789f123456789g123" },
      "63 characters or fewer" },
    { "underscores inside", { "annotations.name=my_web--1" }, NULL },
    { "label with a dotted name", { "annotations.labels[0].key=traefik.http[0].rule" }, NULL },
    { "label without a name", { "annotations.labels[0].value=x" }, "a label has no name" },
    { "label name with a path", { "annotations.labels[0].key=../../x" }, "'../'" },
    { "label name with a newline", { "annotations.labels[0].key=a\nb" }, "control character" },
    { "label twice",
      { "annotations.labels[0].key=b", "annotations.labels[1].key=b" },
      "\"b\" is given twice" },
    { "unknown enum value", { "task.restart.condition=999" }, "condition: unknown value 999" },
    { "replicas -1", { "replicated.replicas=-1" }, "replicas: 18446744073709551615" },
    { "replicas 2^63", { "replicated.replicas=9223372036854775808" }, "not between 0 and" },
    { "replicas of a thousand million", { "replicated.replicas=1000000000" }, "not between 0" },
    { "no replicas", { "replicated.replicas=0" }, NULL },
    { "global with a replica maximum",
      { "global=", "task.placement.max_replicas=1" },
      "placement.max_replicas: only for replicated" },
    { "job with an update config",
      { "global_job=", "update.parallelism=2" },
      "not allowed for jobs" },
    { "job with a rollback config",
      { "replicated_job.total_completions=3", "rollback.delay=1s" },
      "not allowed for jobs" },
    { "job concurrency", { "replicated_job.max_concurrent=-1" }, "max_concurrent: 1844" },
    { "negative restart delay", { "task.restart.delay=-1s" }, "restart-delay cannot be negative" },
    { "negative window", { "task.restart.window=-1s" }, "restart-window cannot be negative" },
    { "negative update delay", { "update.delay=-1s" }, "update-delay cannot be negative" },
    { "negative monitor", { "update.monitor=-1s" }, "update-monitor cannot be negative" },
    { "ratio above 1",
      { "update.max_failure_ratio_ppm=1000001" },
      "update.max_failure_ratio: cannot be less than 0 or bigger than 1" },
    { "ratio of 1", { "update.max_failure_ratio_ppm=1000000" }, NULL },
    { "rollback is checked as well (B11)", { "rollback.delay=-1s" }, "rollback-delay cannot" },
    { "CPU below 0.001", { "task.resources.limits.nano_cpus=999999" }, "at least 0.001" },
    { "CPU of 0.001", { "task.resources.limits.nano_cpus=1000000" }, NULL },
    { "negative CPU", { "task.resources.reservations.nano_cpus=-1" }, "reservations: invalid cpu" },
    { "memory below 4 MiB", { "task.resources.limits.memory_bytes=4194303" }, "at least 4MiB" },
    { "memory of 4 MiB", { "task.resources.reservations.memory_bytes=4194304" }, NULL },
    { "reserving more than the limit",
      { "task.resources.reservations.memory_bytes=8MiB",
        "task.resources.limits.memory_bytes=4MiB" },
      "more memory than" },
    { "negative pids", { "task.resources.limits.pids=-1" }, "pids cannot be negative" },
    { "reserved pids", { "task.resources.reservations.pids=5" }, "pids can only be limited" },
    { "generic resource without an amount",
      { "task.resources.reservations.generic[0].kind=gpu" },
      "gpu=0 must be more than 0" },
    { "generic resource twice",
      { "task.resources.reservations.generic[0].kind=gpu",
        "task.resources.reservations.generic[0].value=1",
        "task.resources.reservations.generic[1].kind=gpu",
        "task.resources.reservations.generic[1].value=1" },
      "gpu is given twice" },
    { "generic resource as a limit",
      { "task.resources.limits.generic[0].kind=gpu", "task.resources.limits.generic[0].value=1" },
      "can only be reserved" },
    { "constraint",
      { "task.placement.constraints[0].key=node.labels.zone",
        "task.placement.constraints[0].value=a" },
      NULL },
    { "engine label",
      { "task.placement.constraints[0].key=engine.labels.os",
        "task.placement.constraints[0].value=x y" },
      NULL },
    { "constraint without a value",
      { "task.placement.constraints[0].key=node.id" },
      "value '' of node.id is invalid" },
    { "constraint on nothing", { "task.placement.constraints[0].value=x" }, "key '' is invalid" },
    { "unknown constraint key",
      { "task.placement.constraints[0].key=node.name", "task.placement.constraints[0].value=x" },
      "unknown key 'node.name'" },
    { "key with a shell character",
      { "task.placement.constraints[0].key=node.id;", "task.placement.constraints[0].value=x" },
      "key 'node.id;' is" },
    { "value with a quote",
      { "task.placement.constraints[0].key=node.id", "task.placement.constraints[0].value='x'" },
      "is invalid" },
    { "no such role",
      { "task.placement.constraints[0].key=node.role",
        "task.placement.constraints[0].value=leader" },
      "manager or worker" },
    { "role in capitals",
      { "task.placement.constraints[0].key=node.role",
        "task.placement.constraints[0].value=Manager" },
      NULL },
    { "node.ip subnet",
      { "task.placement.constraints[0].key=node.ip",
        "task.placement.constraints[0].value=10.0.0.0/8" },
      NULL },
    { "node.ip is none",
      { "task.placement.constraints[0].key=node.ip",
        "task.placement.constraints[0].value=10.0.0.0/33" },
      "no IP address" },
    { "257 constraints", { "task.placement.constraints[256].key=node.id" }, "at most 256" },
    { "preference", { "task.placement.preferences[0].descriptor=node.labels.zone" }, NULL },
    { "preference on something else",
      { "task.placement.preferences[0].descriptor=node.id" },
      "spread 'node.id' must be node.labels.NAME" },
    { "port", { "endpoint.ports[0].target_port=80" }, NULL },
    { "port 0", { "endpoint.ports[0].published_port=80" }, "target port 0 is not" },
    { "port 65536", { "endpoint.ports[0].target_port=65536" }, "target port 65536" },
    { "published port 65536",
      { "endpoint.ports[0].target_port=1", "endpoint.ports[0].published_port=65536" },
      "published port 65536" },
    { "unpublished host address",
      { "endpoint.ports[0].target_port=1", "endpoint.ports[0].host_ip=localhost" },
      "host address \"localhost\" is not" },
    { "dnsrr with an ingress port",
      { "endpoint.mode=ENDPOINT_DNSRR", "endpoint.ports[0].target_port=1" },
      "can't be used with dnsrr mode" },
    { "dnsrr with a host port",
      { "endpoint.mode=ENDPOINT_DNSRR", "endpoint.ports[0].target_port=1",
        "endpoint.ports[0].publish_mode=PUBLISH_HOST" },
      NULL },
    { "source policy of a host port",
      { "endpoint.ports[0].target_port=1", "endpoint.ports[0].publish_mode=PUBLISH_HOST",
        "endpoint.ports[0].source=SOURCE_LOCAL" },
      "a source policy is for ingress ports" },
    { "network without a name", { "task.networks[0].aliases[0]=x" }, "a network has no name" },
    { "network alias",
      { "task.networks[0].target=n", "task.networks[0].aliases[0]=a b" },
      "alias \"a b\"" },
};

START_TEST(services_are_checked)
{
    check_case(&service_cases[_i]);
}
END_TEST

static const struct port_case {
    const char *why;
    const char *first, *second; /* "published/protocol/mode/address" */
    bool valid;
} port_cases[] = {
    { "the same ingress port", "80/TCP/INGRESS/", "80/TCP/INGRESS/", false },
    { "another protocol", "80/TCP/INGRESS/", "80/UDP/INGRESS/", true },
    { "another port", "80/TCP/INGRESS/", "81/TCP/INGRESS/", true },
    { "both chosen later", "0/TCP/INGRESS/", "0/TCP/INGRESS/", true },
    { "ingress and host", "80/TCP/INGRESS/", "80/TCP/HOST/", false },
    { "host twice", "80/TCP/HOST/", "80/TCP/HOST/", false },
    { "host on two addresses", "80/TCP/HOST/10.0.0.1", "80/TCP/HOST/10.0.0.2", true },
    { "host on one and on all addresses", "80/TCP/HOST/10.0.0.1", "80/TCP/HOST/", false },
};

static void set_port(Skep__ServiceSpec *spec, struct arena *a, int index, const char *text)
{
    char published[8], protocol[8], mode[16], address[32] = "";
    int at = index;

    ck_assert_int_ge(sscanf(text, "%7[^/]/%7[^/]/%15[^/]/%31s", published, protocol, mode, address),
                     3);
    spec_set(&spec->base, a, arena_printf(a, "endpoint.ports[%d].target_port=%d", at, 8000 + at));
    spec_set(&spec->base, a,
             arena_printf(a, "endpoint.ports[%d].published_port=%s", at, published));
    spec_set(&spec->base, a,
             arena_printf(a, "endpoint.ports[%d].protocol=PROTOCOL_%s", at, protocol));
    spec_set(&spec->base, a,
             arena_printf(a, "endpoint.ports[%d].publish_mode=PUBLISH_%s", at, mode));
    spec_set(&spec->base, a, arena_printf(a, "endpoint.ports[%d].host_ip=%s", at, address));
}

START_TEST(a_port_is_published_once)
{
    const struct port_case *c = &port_cases[_i];
    CLEANUP_ARENA struct arena a = { 0 };
    Skep__ServiceSpec *spec = spec_service(&a, "web", ""), *complete = NULL;
    struct err e = { 0 };

    set_port(spec, &a, 0, c->first);
    set_port(spec, &a, 1, c->second);
    int rc = control_validate_service(spec, &a, &complete, &e);
    ck_assert_msg(rc == (c->valid ? 0 : -ERR_INVALID), "%s: %s", c->why, e.message);
    if (!c->valid)
        ck_assert_ptr_nonnull(strstr(e.message, "duplicate published ports provided"));
}
END_TEST

/* The stored form does not depend on the order of maps, and the request is not written to. */
START_TEST(equal_wishes_are_equal_bytes)
{
    CLEANUP_ARENA struct arena a = { 0 };
    Skep__ServiceSpec *one = spec_service(&a, "web",
                                          "annotations.labels[0].key=b annotations.labels[1].key=a "
                                          "task.container.cap_add[0]=net_admin");
    Skep__ServiceSpec *two = spec_service(&a, "web",
                                          "annotations.labels[0].key=a annotations.labels[1].key=b "
                                          "task.container.cap_add[0]=CAP_NET_ADMIN");
    Skep__ServiceSpec *complete[2] = { NULL, NULL };

    ck_assert_int_eq(control_validate_service(one, &a, &complete[0], NULL), 0);
    ck_assert_int_eq(control_validate_service(two, &a, &complete[1], NULL), 0);
    ck_assert(message_equal(&complete[0]->base, &complete[1]->base));
    ck_assert_str_eq(one->annotations->labels[0]->key, "b");
    ck_assert_ptr_null(one->update);
}
END_TEST

/* N65, N68: size is looked at before anything is copied. */
START_TEST(huge_specs_are_refused)
{
    CLEANUP_ARENA struct arena a = { 0 };
    Skep__ServiceSpec *spec = spec_service(&a, "web", ""), *complete = NULL;
    struct err e = { 0 };
    char *text = arena_alloc(&a, 500 << 10);

    memset(text, 'x', (500 << 10) - 1);
    spec->task->container->registry_auth = text;
    ck_assert_int_eq(control_validate_service(spec, &a, &complete, &e), -ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(e.message, "at most 409600"));
}
END_TEST

static const struct spec_case node_cases[] = {
    { "nothing", { NULL }, NULL },
    { "availability", { "availability=AVAILABILITY_DRAIN" }, NULL },
    { "unknown availability", { "availability=7" }, "availability: unknown value 7" },
    { "role", { "desired_role=2" }, "desired_role: unknown value 2" },
    { "label", { "annotations.labels[0].key=zone" }, NULL },
    { "label with white space", { "annotations.labels[0].key=a b" }, "white space" },
    { "name", { "annotations.name=a/b" }, "DNS name component" },
};

START_TEST(nodes_are_checked)
{
    const struct spec_case *c = &node_cases[_i];
    CLEANUP_ARENA struct arena a = { 0 };
    Skep__NodeSpec spec = SKEP__NODE_SPEC__INIT, *complete = NULL;
    struct err e = { 0 };

    if (c->set[0] != NULL)
        spec_set(&spec.base, &a, c->set[0]);
    int rc = control_validate_node(&spec, &a, &complete, &e);
    ck_assert_msg(rc == (c->want == NULL ? 0 : -ERR_INVALID), "%s: %s", c->why, e.message);
    if (c->want != NULL)
        ck_assert_msg(strstr(e.message, c->want) != NULL, "%s: %s", c->why, e.message);
    else
        ck_assert_ptr_nonnull(complete->annotations);
}
END_TEST

/* N65, N66: what a worker says about itself is input as any other. */
static const struct spec_case description_cases[] = {
    { "nothing", { NULL }, NULL },
    { "hostname", { "hostname=worker-1" }, NULL },
    { "hostname with a newline", { "hostname=a\nb" }, "hostname: contains a control character" },
    { "engine label with a path", { "engine.labels[0].key=../x" }, "invalid name \"../x\"" },
    { "too many labels", { "engine.labels[1024].key=x" }, "at most 1024" },
    { "negative memory", { "resources.memory_bytes=-1" }, "resources: negative" },
    { "generic resource", { "resources.generic[0].kind=gpu" }, "gpu=0 must be more than 0" },
    { "data path", { "network.data_path_address=10.0.0.300" }, "is not an address" },
    { "everybody", { "network.data_path_address=224.0.0.1" }, "not the address of a host" },
    { "nobody", { "network.data_path_address=::" }, "not the address of a host" },
    { "no balancer's name", { "network.balancer=a\nb" }, "network.balancer: contains" },
    { "unknown mtu", { "network.mtu=0" }, NULL },
    { "mtu of loopback", { "network.mtu=65536" }, NULL },
    { "mtu", { "network.mtu=70000" }, "network.mtu" },
    { "small mtu", { "network.mtu=68" }, "network.mtu: 68" },
    { "route", { "network.routes[0]=10.0.0.0" }, "is no subnet" },
};

START_TEST(descriptions_are_checked)
{
    const struct spec_case *c = &description_cases[_i];
    CLEANUP_ARENA struct arena a = { 0 };
    Skep__NodeDescription d = SKEP__NODE_DESCRIPTION__INIT;
    struct err e = { 0 };

    if (c->set[0] != NULL)
        spec_set(&d.base, &a, c->set[0]);
    int rc = control_validate_description(&d, &e);
    ck_assert_msg(rc == (c->want == NULL ? 0 : -ERR_INVALID), "%s: %s", c->why, e.message);
    if (c->want != NULL)
        ck_assert_msg(strstr(e.message, c->want) != NULL, "%s: %s", c->why, e.message);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("validate");
    TCase *tc = tcase_create("validate");

    tcase_add_loop_test(tc, services_are_checked, 0, (int)ARRAY_LEN(service_cases));
    tcase_add_loop_test(tc, a_port_is_published_once, 0, (int)ARRAY_LEN(port_cases));
    tcase_add_test(tc, equal_wishes_are_equal_bytes);
    tcase_add_test(tc, huge_specs_are_refused);
    tcase_add_loop_test(tc, nodes_are_checked, 0, (int)ARRAY_LEN(node_cases));
    tcase_add_loop_test(tc, descriptions_are_checked, 0, (int)ARRAY_LEN(description_cases));
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
