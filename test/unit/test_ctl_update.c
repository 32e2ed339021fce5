/* ctl/spec*.c through whole commands: what create and update send for the options that change
 * lists, and that nothing else changes. */
#include <check.h>
#include <jansson.h>
#include <string.h>

#include "common/mem.h"
#include "ctl/json.h"
#include "test/lib/ctl_fake.h"

enum { ARGS_MAX = 12 };

/* The faked service: nginx:1, A=1 B=2, two replicas, ports 8081:81 and 8080:80. */
static const struct update_case {
    const char *why;
    const char *args[ARGS_MAX]; /* behind "service update -d" */
    const char *want;           /* a part of the spec as JSON; '!' before it: must not be there */
} updates[] = {
    { "nothing else changes",
      { "--image", "nginx:2" },
      "\"Image\":\"nginx:2\",\"Env\":[\"A=1\",\"B=2\"]" },
    { "an image gets its tag", { "--image", "nginx" }, "\"Image\":\"nginx:latest\"" },
    { "env is replaced in place",
      { "--env-add", "A=9", "--env-add", "C=3" },
      "\"Env\":[\"A=9\",\"B=2\",\"C=3\"]" },
    { "env by name", { "--env-rm", "A" }, "\"Env\":[\"B=2\"]" },
    { "env: removal has the last word",
      { "--env-add", "A=9", "--env-rm", "A" },
      "\"Env\":[\"B=2\"]" },
    { "args are shell words", { "--args", "sh -c \"a b\"" }, "\"Args\":[\"sh\",\"-c\",\"a b\"]" },
    { "force raises the counter", { "--force" }, "\"ForceUpdate\":1" },
    { "labels",
      { "--label-add", "b=2", "--label-add", "a" },
      "\"Labels\":{\"a\":\"\",\"b\":\"2\"}" },
    { "a label that is not there is no error", { "--label-rm", "zz" }, "\"Labels\":{}" },
    { "replicas", { "--replicas", "7" }, "\"Replicas\":7" },
    { "a port by its target",
      { "--publish-rm", "80" },
      "\"Ports\":[{\"Protocol\":\"tcp\",\"TargetPort\":81,\"PublishedPort\":8081,\"PublishMode\":"
      "\"ingress\"}]" },
    { "a port of another protocol stays", { "--publish-rm", "80/udp" }, "\"TargetPort\":80" },
    { "a port with another mode stays",
      { "--publish-rm", "target=80,mode=host" },
      "\"TargetPort\":80" },
    { "a port that is there is not added twice",
      { "--publish-add", "8080:80", "--publish-rm", "81" },
      "\"Ports\":[{\"Protocol\":\"tcp\",\"TargetPort\":80,\"PublishedPort\":8080,\"PublishMode\":"
      "\"ingress\"}]" },
    { "a port is replaced",
      { "--publish-rm", "80", "--publish-rm", "81", "--publish-add", "9090:80" },
      "\"Ports\":[{\"Protocol\":\"tcp\",\"TargetPort\":80,\"PublishedPort\":9090,\"PublishMode\":"
      "\"ingress\"}]" },
    { "a mount replaces one with its target",
      { "--mount-add", "type=bind,src=/a,dst=/x", "--mount-add", "type=bind,src=/b,dst=/x" },
      "\"Mounts\":[{\"Type\":\"bind\",\"Source\":\"/b\",\"Target\":\"/x\"}]" },
    { "constraints once",
      { "--constraint-add", "node.role == worker", "--constraint-add", "node.role==worker" },
      "\"Constraints\":[\"node.role==worker\"]" },
    { "limits",
      { "--limit-memory", "64m", "--reserve-cpu", "0.5" },
      "\"Limits\":{\"MemoryBytes\":67108864},\"Reservations\":{\"NanoCPUs\":500000000}" },
    { "restart",
      { "--restart-max-attempts", "3" },
      "\"RestartPolicy\":{\"Condition\":\"any\",\"Delay\":5000000000,\"MaxAttempts\":3}" },
    { "update settings",
      { "--update-order", "start-first", "--update-max-failure-ratio", "0.25" },
      "\"UpdateConfig\":{\"Parallelism\":1,\"FailureAction\":\"pause\",\"Monitor\":5000000000,"
      "\"MaxFailureRatio\":0.25,\"Order\":\"start-first\"}" },
    { "rollback settings",
      { "--rollback-parallelism", "0" },
      "\"RollbackConfig\":{\"Parallelism\":0," },
    { "capabilities",
      { "--cap-add", "net_admin", "--cap-drop", "chown" },
      "\"CapabilityAdd\":[\"CAP_NET_ADMIN\"],\"CapabilityDrop\":[\"CAP_CHOWN\"]" },
    { "added and dropped is added",
      { "--cap-add", "chown", "--cap-drop", "chown" },
      "!CapabilityDrop" },
    { "hosts",
      { "--host-add", "db:10.0.0.1", "--host-add", "db:10.0.0.1" },
      "\"Hosts\":[\"10.0.0.1 db\"]" },
    { "dns",
      { "--dns-add", "10.0.0.2", "--dns-search-add", "x.y" },
      "\"DNSConfig\":{\"Nameservers\":[\"10.0.0.2\"],\"Search\":[\"x.y\"]}" },
    { "ulimits by name",
      { "--ulimit-add", "nofile=1", "--ulimit-add", "nofile=2:3" },
      "\"Ulimits\":[{\"Name\":\"nofile\",\"Hard\":3,\"Soft\":2}]" },
    { "sysctls", { "--sysctl-add", "net.x=1" }, "\"Sysctls\":{\"net.x\":\"1\"}" },
    { "groups",
      { "--group-add", "a", "--group-add", "b", "--group-rm", "c" },
      "\"Groups\":[\"a\",\"b\"]" },
    { "health",
      { "--health-cmd", "x y", "--health-retries", "2" },
      "\"Healthcheck\":{\"Test\":[\"CMD-SHELL\",\"x y\"],\"Retries\":2}" },
    { "no health", { "--no-healthcheck" }, "\"Healthcheck\":{\"Test\":[\"NONE\"]}" },
    { "log driver",
      { "--log-driver", "syslog", "--log-opt", "a=b" },
      "\"LogDriver\":{\"Name\":\"syslog\",\"Options\":{\"a\":\"b\"}}" },
    { "init off", { "--init=false" }, "\"Init\":false" },
    { "init is left alone", { "--tty" }, "!\"Init\"" },
    { "entrypoint", { "--entrypoint", "/bin/x -y" }, "\"Command\":[\"/bin/x\",\"-y\"]" },
    { "dnsrr without mesh ports",
      { "--endpoint-mode", "dnsrr", "--publish-rm", "80", "--publish-rm", "81" },
      "\"EndpointSpec\":{\"Mode\":\"dnsrr\"}" },
    { "networks",
      { "--network-add", "name=front,alias=web" },
      "\"Networks\":[{\"Target\":\"front\",\"Aliases\":[\"web\"]}]" },
    { "spread",
      { "--placement-pref-add", "spread=node.labels.zone" },
      "\"Preferences\":[{\"Spread\":{\"SpreadDescriptor\":\"node.labels.zone\"}}]" },
    { "max per node", { "--replicas-max-per-node", "2" }, "\"MaxReplicas\":2" },
};

START_TEST(update_sends)
{
    const struct update_case *k = &updates[_i];
    bool absent = k->want[0] == '!';
    struct fake fake = { 0 };
    const char *args[ARGS_MAX + 4] = { "service", "update", "-d" };
    size_t count = 3;
    struct result r;
    json_t *spec;
    char *text;

    for (size_t i = 0; i < ARGS_MAX && k->args[i] != NULL; i++)
        args[count++] = k->args[i];
    args[count] = "api9";
    fake_fill(&fake);
    r = fake_run(&fake, args);
    ck_assert_msg(r.status == 0, "%s: %s", k->why, r.err);
    ck_assert_ptr_nonnull(fake.sent);
    spec = json_service_spec(fake.sent);
    text = json_dumps(spec, JSON_COMPACT | JSON_REAL_PRECISION(6));
    ck_assert_msg((strstr(text, k->want + (absent ? 1 : 0)) != NULL) != absent, "%s: %s", k->why,
                  text);
    free(text);
    json_decref(spec);
    result_free(&r);
    fake_deinit(&fake);
}
END_TEST

static const struct {
    const char *why;
    const char *args[6];
    const char *err;
} refused[] = {
    { "image", { "--image", "A B" }, "invalid reference format" },
    { "env", { "--env-add", "=x" }, "invalid argument \"=x\" for \"--env-add\" flag" },
    { "port", { "--publish-add", "0:80" }, "for \"--publish-add\" flag" },
    { "port to remove", { "--publish-rm", "x" }, "for \"--publish-rm\" flag" },
    { "mount",
      { "--mount-add", "type=bind,dst=/x" },
      "for \"--mount-add\" flag: source is required" },
    { "constraint", { "--constraint-add", "x" }, "for \"--constraint-add\" flag" },
    { "order", { "--update-order", "any" }, "invalid update-order" },
    { "action", { "--rollback-failure-action", "rollback" }, "use pause or continue" },
    { "condition", { "--restart-condition", "always" }, "invalid restart-condition" },
    { "negative delay", { "--restart-delay", "-1s" }, "must not be negative" },
    { "open quote", { "--args", "\"x" }, "unclosed quote" },
    { "jobs only", { "--max-concurrent", "2" }, "max-concurrent can only be used with" },
    { "dnsrr with mesh ports", { "--endpoint-mode", "dnsrr" }, "can't be used with dnsrr" },
    { "secret that is not there", { "--secret-add", "key" }, "secret not found: key" },
};

START_TEST(update_refuses)
{
    struct fake fake = { 0 };
    const char *args[] = { "service",           "update", "-d", refused[_i].args[0],
                           refused[_i].args[1], "api9",   NULL };
    struct result r;

    fake_fill(&fake);
    r = fake_run(&fake, args);
    ck_assert_msg(r.status == 1, "%s: %d", refused[_i].why, r.status);
    ck_assert_msg(strstr(r.err, refused[_i].err) != NULL, "%s: %s", refused[_i].why, r.err);
    ck_assert_ptr_null(fake.sent);
    result_free(&r);
    fake_deinit(&fake);
}
END_TEST

START_TEST(rollback_sends_no_spec)
{
    struct fake fake = { 0 };
    const char *args[] = { "service", "rollback", "-d", "api9", NULL };
    struct result r;

    fake_fill(&fake);
    r = fake_run(&fake, args);
    ck_assert_int_eq(r.status, 0);
    ck_assert(fake.sent_rollback);
    ck_assert_ptr_null(fake.sent);
    ck_assert_uint_eq(fake.sent_version, 7);
    result_free(&r);
    fake_deinit(&fake);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl_update");
    TCase *t = tcase_create("update");

    suite_add_tcase(s, t);
    tcase_add_loop_test(t, update_sends, 0, ARRAY_LEN(updates));
    tcase_add_loop_test(t, update_refuses, 0, ARRAY_LEN(refused));
    tcase_add_test(t, rollback_sends_no_spec);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
