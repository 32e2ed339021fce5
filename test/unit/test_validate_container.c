#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "managerd/control/validate.h"
#include "test/lib/spec_text.h"

/* A valid service plus assignments below task.container, and what must come of it. */
static const struct container_case {
    const char *why;
    const char *set[4];
    const char *want; /* NULL: valid; else part of the message */
} container_cases[] = {
    { "no image", { "image=" }, "image: image reference must be provided" },
    { "uppercase image", { "image=Nginx" }, "\"Nginx\" is not a valid repository/tag: repository" },
    { "image with shell characters", { "image=a;reboot" }, "not a valid repository/tag" },
    { "environment", { "env[0]=A=b c", "env[1]=ONLY_NAME" }, NULL },
    { "environment without a name", { "env[0]==b" }, "invalid environment variable \"=b\"" },
    { "empty environment entry", { "env[0]=" }, "invalid environment variable" },
    { "hostname", { "hostname=db-1.local" }, NULL },
    { "hostname template", { "hostname={{.Task.Slot}}-x" }, NULL },
    { "hostname with a slash", { "hostname=a/b" }, "invalid hostname \"a/b\"" },
    { "relative directory", { "dir=srv" }, "needs to be an absolute path" },
    { "stop signal", { "stop_signal=SIGRTMIN+3" }, NULL },
    { "no stop signal", { "stop_signal=TERM;" }, "\"TERM;\" is no signal" },
    { "negative grace period",
      { "stop_grace_period=-1s" },
      "stop_grace_period cannot be negative" },
    { "health command", { "healthcheck.test[0]=CMD", "healthcheck.test[1]=true" }, NULL },
    { "no health check", { "healthcheck.test[0]=NONE" }, NULL },
    { "health check without its kind", { "healthcheck.test[0]=curl" }, "begins with CMD" },
    { "health check without a command", { "healthcheck.test[0]=CMD-SHELL" }, "no command after" },
    { "health interval of 1 ms", { "healthcheck.interval=1ms" }, NULL },
    { "health interval below 1 ms",
      { "healthcheck.interval=999us" },
      "Interval in HealthConfig cannot be less than 1ms" },
    { "health timeout", { "healthcheck.timeout=-1s" }, "Timeout in HealthConfig" },
    { "negative retries", { "healthcheck.retries=-1" }, "Retries in HealthConfig" },
    { "bind", { "mounts[0].target=/x", "mounts[0].source=/y" }, NULL },
    { "bind of a relative path",
      { "mounts[0].target=/x", "mounts[0].source=y" },
      "invalid bind mount source \"y\"" },
    { "relative target",
      { "mounts[0].target=x", "mounts[0].source=/y" },
      "must be an absolute path" },
    { "target /", { "mounts[0].target=//", "mounts[0].source=/y" }, "absolute path, not /" },
    { "the same target twice",
      { "mounts[0].target=/x", "mounts[0].source=/a", "mounts[1].target=/x",
        "mounts[1].source=/b" },
      "duplicate mount point: /x" },
    { "volume", { "mounts[0].type=VOLUME", "mounts[0].target=/x", "mounts[0].source=data" }, NULL },
    { "anonymous volume", { "mounts[0].type=VOLUME", "mounts[0].target=/x" }, NULL },
    { "volume with a path",
      { "mounts[0].type=VOLUME", "mounts[0].target=/x", "mounts[0].source=/data" },
      "invalid volume name \"/data\"" },
    { "tmpfs",
      { "mounts[0].type=TMPFS", "mounts[0].target=/x", "mounts[0].tmpfs_size_bytes=1MiB" },
      NULL },
    { "tmpfs with a source",
      { "mounts[0].type=TMPFS", "mounts[0].target=/x", "mounts[0].source=y" },
      "invalid tmpfs source" },
    { "tmpfs options of a bind",
      { "mounts[0].target=/x", "mounts[0].source=/y", "mounts[0].tmpfs_mode=1" },
      "tmpfs options are for type tmpfs" },
    { "volume options of a bind",
      { "mounts[0].target=/x", "mounts[0].source=/y", "mounts[0].volume_nocopy=true" },
      "volume options are for type volume" },
    { "bind options of a volume",
      { "mounts[0].type=VOLUME", "mounts[0].target=/x", "mounts[0].propagation=RSHARED" },
      "bind options are for type bind" },
    { "secret", { "secrets[0].secret_name=key" }, NULL },
    { "secret without a name", { "secrets[0].file.name=x" }, "malformed secret reference" },
    { "secret with an absolute target",
      { "secrets[0].secret_name=key", "secrets[0].file.name=/srv/key" },
      NULL },
    { "secret that climbs",
      { "secrets[0].secret_name=key", "secrets[0].file.name=../x" },
      "must not contain .." },
    { "secret that climbs inside",
      { "secrets[0].secret_name=key", "secrets[0].file.name=/a/../../x" },
      "must not contain .." },
    { "two dots in a name", { "secrets[0].secret_name=key", "secrets[0].file.name=..data" }, NULL },
    { "secret that is a directory",
      { "secrets[0].secret_name=key", "secrets[0].file.name=/a/" },
      "names no file" },
    { "secret mode",
      { "secrets[0].secret_name=key", "secrets[0].file.mode=4096" },
      "more than 7777" },
    { "secret owner",
      { "secrets[0].secret_name=key", "secrets[0].file.uid=root" },
      "must be numbers" },
    { "two secrets in one file",
      { "secrets[0].secret_name=a", "secrets[0].file.name=x", "secrets[1].secret_name=b",
        "secrets[1].file.name=x" },
      "secret references 'a' and 'b' have a conflicting target: 'x'" },
    { "two configs in one file",
      { "configs[0].config_name=a", "configs[0].file.name=/x", "configs[1].config_name=b",
        "configs[1].file.name=/x" },
      "config references 'a' and 'b' have a conflicting target: '/x'" },
    { "host entry", { "hosts[0]=10.0.0.1 db" }, NULL },
    { "host gateway", { "hosts[0]=host-gateway me" }, NULL },
    { "host entry without a name", { "hosts[0]=10.0.0.1" }, "must be an IP address and a name" },
    { "host entry the other way round", { "hosts[0]=db 10.0.0.1" }, "must be an IP address" },
    { "name server", { "dns_nameservers[0]=fd00::53" }, NULL },
    { "name server with a name", { "dns_nameservers[0]=dns.example" }, "is not an IP address" },
    { "search domain", { "dns_search[0]=exa mple" }, "is not a domain name" },
    { "resolver option", { "dns_options[0]=ndots:2" }, NULL },
    { "sysctl", { "sysctls[0].key=net.core.somaxconn", "sysctls[0].value=1" }, NULL },
    { "sysctl with a semicolon", { "sysctls[0].key=a;b" }, "not the name of a sysctl" },
    { "capability", { "cap_add[0]=ALL", "cap_drop[0]=chown" }, NULL },
    { "capability with a digit", { "cap_add[0]=SYS_1" }, "cap_add: unknown capability" },
    { "ulimit", { "ulimits[0]=nofile=1024:2048" }, NULL },
    { "unlimited", { "ulimits[0]=memlock=-1:-1" }, NULL },
    { "soft above hard", { "ulimits[0]=nofile=10:5" }, "must be name=soft[:hard]" },
    { "unlimited below a limit", { "ulimits[0]=nofile=-1:5" }, "must be name=soft[:hard]" },
    { "unknown limit", { "ulimits[0]=files=1" }, "must be name=soft[:hard]" },
};

START_TEST(containers_are_checked)
{
    const struct container_case *c = &container_cases[_i];
    CLEANUP_ARENA struct arena a = { 0 };
    Skep__ServiceSpec *spec = spec_service(&a, "web", ""), *complete = NULL;
    struct err e = { 0 };

    for (size_t i = 0; i < ARRAY_LEN(c->set) && c->set[i] != NULL; i++)
        spec_set(&spec->task->container->base, &a, c->set[i]);
    int rc = control_validate_service(spec, &a, &complete, &e);
    ck_assert_msg(rc == (c->want == NULL ? 0 : -ERR_INVALID), "%s: %d %s", c->why, rc, e.message);
    if (c->want != NULL)
        ck_assert_msg(strstr(e.message, c->want) != NULL, "%s: %s", c->why, e.message);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("validate_container");
    TCase *tc = tcase_create("validate_container");

    tcase_add_loop_test(tc, containers_are_checked, 0, (int)ARRAY_LEN(container_cases));
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
