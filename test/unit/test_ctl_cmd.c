/* Whole commands of ctl against a manager that is faked behind the transport: what is printed, what
 * is sent, and with which status they end. */
#include "ctl/cmd.h"

#include <check.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "common/text.h"
#include "ctl/client.h"
#include "ctl/output.h"
#include "test/lib/ctl_fake.h"

#define WEB FAKE_WEB
#define API FAKE_API
#define NODE FAKE_NODE
#define NOW FAKE_NOW_NS

#define RUN(k, ...) fake_run((k), (const char *const[]){ __VA_ARGS__, NULL })

/* ---- the table ---- */

START_TEST(the_table_is_in_order)
{
    for (const struct cmd *cmd = cmd_table(); cmd->name != NULL; cmd++) {
        ck_assert_msg(cmd->run != NULL && cmd->summary[0] != '\0', "%s", cmd->name);
        ck_assert_msg(cmd->summary[strlen(cmd->summary) - 1] != '.', "%s: no full stop", cmd->name);
        for (const struct flag *f = cmd->flags; f->name != NULL; f++) {
            ck_assert_msg(f == cmd->flags || strcmp(f[-1].name, f->name) < 0,
                          "%s: --%s is out of order", cmd->name, f->name);
            ck_assert_msg(f->hidden || f->help[0] != '\0', "%s: --%s has no help", cmd->name,
                          f->name);
            for (const struct flag *g = cmd->flags; g != f; g++)
                ck_assert_msg(f->letter == 0 || g->letter != f->letter, "%s: -%c twice", cmd->name,
                              f->letter);
        }
    }
}
END_TEST

static const struct {
    const char *why;
    const char *args[6];
    int status;
    const char *err; /* a part of stderr */
} usage[] = {
    { "unknown flag",
      { "service", "ls", "--foo" },
      125,
      "unknown flag: --foo\nSee 'ctl service ls --help'.\n" },
    { "too many arguments", { "service", "ls", "x" }, 1, "'ctl service ls' accepts no arguments" },
    { "too few",
      { "service", "inspect" },
      1,
      "'ctl service inspect' requires at least 1 argument\n" },
    { "exactly one", { "service", "update" }, 1, "'ctl service update' requires 1 argument\n" },
    { "unknown command", { "foo" }, 1, "ctl: unknown command: ctl foo" },
    { "unknown command of a group",
      { "service", "foo" },
      1,
      "ctl: unknown command: ctl service foo" },
    { "negative replicas",
      { "service", "create", "--replicas", "-1", "x" },
      125,
      "invalid argument \"-1\" for \"--replicas\"" },
    { "bad global flag", { "--foo" }, 125, "unknown flag: --foo\nSee 'ctl --help'." },
    { "unknown shell", { "completion", "tcsh" }, 1, "unknown shell" },
    { "bad image", { "service", "create", "Nginx" }, 1, "must be lowercase" },
    { "bad port",
      { "service", "create", "-p", "q", "x" },
      1,
      "invalid argument \"q\" for \"--publish\" flag: invalid containerPort: q" },
    { "replicas of a global service",
      { "service", "create", "--mode=global", "--replicas=2", "x" },
      1,
      "replicas can only be used with" },
    { "unknown mode", { "service", "create", "--mode=many", "x" }, 1, "Unknown mode: many" },
    { "health and no health",
      { "service", "create", "--no-healthcheck", "--health-cmd=x", "x" },
      1,
      "--no-healthcheck conflicts" },
    { "dnsrr with a mesh port",
      { "service", "create", "--endpoint-mode=dnsrr", "-p80", "x" },
      1,
      "can't be used with dnsrr" },
    { "filter of nothing",
      { "service", "ls", "-f", "foo=1" },
      1,
      "invalid filter 'foo': keys are id, label, mode, name" },
    { "filter without =",
      { "service", "ls", "-f", "foo" },
      1,
      "invalid filter 'foo': write key=value" },
    { "rollback and more",
      { "service", "update", "--rollback", "--image=x", "y" },
      1,
      "may not be combined with --rollback" },
    { "no replicas in scale", { "service", "scale", "web" }, 1, "invalid scale specifier 'web'" },
    { "bad replicas in scale", { "service", "scale", "web=-2" }, 1, "invalid replicas value -2" },
    { "no token", { "swarm", "join", "h:1" }, 1, "--token is missing" },
    { "unknown role", { "swarm", "join-token", "boss" }, 1, "unknown role boss" },
    { "pretty and format",
      { "service", "inspect", "--pretty", "--format=x", "y" },
      1,
      "--format is incompatible with human friendly format" },
    { "bad log level", { "-l", "loud", "info" }, 125, "use debug, info, warn or error" },
};

START_TEST(wrong_usage)
{
    struct fake k = { 0 };
    struct result r = fake_run(&k, usage[_i].args);

    ck_assert_msg(r.status == usage[_i].status, "%s: %d %s", usage[_i].why, r.status, r.err);
    ck_assert_msg(strstr(r.err, usage[_i].err) != NULL, "%s: %s", usage[_i].why, r.err);
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

START_TEST(no_manager_on_this_host)
{
    struct result r = RUN(NULL, "--host", "unix:///nonexistent/x.sock", "service", "ls");

    ck_assert_int_eq(r.status, 1);
    ck_assert_ptr_nonnull(strstr(r.err, "managerd is not running on this host"));
    ck_assert_ptr_nonnull(strstr(r.err, "--host HOST:PORT"));
    result_free(&r);
}
END_TEST

/* ---- lists ---- */

START_TEST(ls_prints_dockers_table)
{
    struct fake k = { 0 };
    struct result r;

    fake_fill(&k);
    r = RUN(&k, "service", "ls");
    ck_assert_int_eq(r.status, 0);
    ck_assert_str_eq(r.out, "ID             NAME      MODE         REPLICAS   IMAGE     PORTS\n"
                            "web000000000   api9      replicated   1/2        nginx:1   "
                            "*:8080-8081->80-81/tcp\n"
                            "api000000000   api10     replicated   1/2        nginx:1   \n");
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

static const struct {
    const char *why;
    const char *args[8];
    const char *out;
} formats[] = {
    { "quiet", { "service", "ls", "-q" }, WEB "\n" API "\n" },
    { "template",
      { "service", "ls", "--format", "{{.Name}} {{upper .Mode}}" },
      "api9 REPLICATED\napi10 REPLICATED\n" },
    { "table of a template",
      { "service", "ls", "--format", "table {{.Name}}\\t{{.Replicas}}" },
      "NAME      REPLICAS\napi9      1/2\napi10     1/2\n" },
    { "json lines",
      { "service", "ls", "-f", "name=api9", "--format", "json" },
      "{\"ID\":\"web000000000\",\"Image\":\"nginx:1\",\"Mode\":\"replicated\",\"Name\":\"api9\","
      "\"Ports\":\"*:8080-8081->80-81/tcp\",\"Replicas\":\"1/"
      "2\"}\n{\"ID\":\"api000000000\",\"Image\":\"nginx:1\",\"Mode\":\"replicated\",\"Name\":"
      "\"api10\",\"Ports\":\"\",\"Replicas\":\"1/2\"}\n" },
    { "nodes",
      { "node", "ls", "--format",
        "{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}} {{.Self}}" },
      "host-1 Ready Active Leader true\n" },
    { "node table",
      { "node", "ls" },
      "ID                            HOSTNAME   STATUS    AVAILABILITY   MANAGER STATUS   ENGINE "
      "VERSION\n" NODE " *   host-1     Ready     Active         Leader           \n" },
    { "history of a slot",
      { "service", "ps", "api9", "--format",
        "{{.Name}}|{{.CurrentState}}|{{.Error}}|{{.Node}}|{{.Image}}" },
      "api9.1|Running 5 minutes ago||host-1|nginx:1\n \\_ api9.1|Failed 5 minutes ago|\"task: "
      "non-zero exit (137): ou\xe2\x80\xa6\"|host-1|nginx:1\n" },
    { "untruncated",
      { "service", "ps", "api9", "--no-trunc", "--format", "{{.ID}} {{.Error}}" },
      "task100000000000000000000 \ntask200000000000000000000 \"task: non-zero exit (137): out of "
      "memory\"\n" },
    { "without names",
      { "service", "ps", "api9", "--no-resolve", "--format", "{{.Name}} {{.Node}}" },
      WEB ".1 " NODE "\n \\_ " WEB ".1 " NODE "\n" },
    { "inspect with a template",
      { "service", "inspect", "api9", "--format",
        "{{.Spec.Name}} {{.Spec.Mode.Replicated.Replicas}} {{(index .Endpoint.Ports "
        "0).TargetPort}}" },
      "api9 2 81\n" },
    { "a field that is not set",
      { "service", "inspect", "api9", "--format", "{{if .UpdateStatus}}x{{else}}-{{end}}" },
      "-\n" },
    { "removed names are printed", { "service", "rm", "api9", "api10" }, "api9\napi10\n" },
};

START_TEST(output_formats)
{
    struct fake k = { 0 };
    struct result r;

    fake_fill(&k);
    r = fake_run(&k, formats[_i].args);
    ck_assert_msg(r.status == 0, "%s: %s", formats[_i].why, r.err);
    ck_assert_msg(strcmp(r.out, formats[_i].out) == 0, "%s:\n%s", formats[_i].why, r.out);
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

START_TEST(empty_lists_have_a_header)
{
    struct fake k = { 0 };
    struct result r = RUN(&k, "service", "ls");

    ck_assert_int_eq(r.status, 0);
    ck_assert_str_eq(r.out, "ID        NAME      MODE      REPLICAS   IMAGE     PORTS\n");
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

START_TEST(inspect_prints_docker_json)
{
    struct fake k = { 0 };
    struct result r;
    json_t *list;
    const json_t *spec;

    fake_fill(&k);
    r = RUN(&k, "service", "inspect", "api9", "nope");
    ck_assert_int_eq(r.status, 1);
    ck_assert_ptr_nonnull(strstr(r.err, "no such service: nope"));
    ck_assert_ptr_nonnull(strstr(r.out,
                                 "[\n    {\n        \"ID\": \"" WEB "\",\n        \"Version\": {\n"
                                 "            \"Index\": 7\n"));
    list = json_loads(r.out, 0, NULL);
    ck_assert_uint_eq(json_array_size(list), 1);
    spec = json_object_get(json_array_get(list, 0), "Spec");
    ck_assert_str_eq(
        json_string_value(json_object_get(
            json_object_get(json_object_get(spec, "TaskTemplate"), "ContainerSpec"), "Image")),
        "nginx:1");
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(list, 0), "CreatedAt")),
                     "2026-01-02T14:59:05Z");
    json_decref(list);
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

START_TEST(ps_of_an_unknown_service)
{
    struct fake k = { 0 };
    struct result r;

    fake_fill(&k);
    r = RUN(&k, "service", "ps", "-q", "nope", "api9");
    ck_assert_int_eq(r.status, 1);
    ck_assert_str_eq(r.out, "task10000000\ntask20000000\n");
    ck_assert_str_eq(r.err, "no such service: nope\n");
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

/* ---- create and update ---- */

START_TEST(create_sends_the_spec)
{
    struct fake k = { 0 };
    const Skep__ServiceSpec *s;
    const char *const args[] = { "service",
                                 "create",
                                 "-d",
                                 "--name",
                                 "web",
                                 "--replicas",
                                 "3",
                                 "-e",
                                 "A=1",
                                 "-l",
                                 "x=y",
                                 "-p",
                                 "8080:80",
                                 "--limit-cpu",
                                 "0.5",
                                 "--limit-memory",
                                 "64m",
                                 "--restart-condition",
                                 "on-failure",
                                 "--update-parallelism",
                                 "2",
                                 "--health-cmd",
                                 "curl x",
                                 "--constraint",
                                 "node.role==worker",
                                 "nginx",
                                 "sh",
                                 "-c",
                                 "sleep 1",
                                 NULL };
    struct result r = fake_run(&k, args);

    ck_assert_int_eq(r.status, 0);
    ck_assert_str_eq(r.out, WEB "\n");
    s = k.sent;
    ck_assert_str_eq(s->annotations->name, "web");
    ck_assert_str_eq(s->annotations->labels[0]->value, "y");
    ck_assert_uint_eq(s->replicated->replicas, 3);
    ck_assert_str_eq(s->task->container->image, "nginx:latest");
    ck_assert_uint_eq(s->task->container->n_args, 3);
    ck_assert_str_eq(s->task->container->args[1], "-c"); /* the command's own option */
    ck_assert_str_eq(s->task->container->env[0], "A=1");
    ck_assert_str_eq(s->task->container->healthcheck->test[1], "curl x");
    ck_assert_int_eq(s->task->container->stop_grace_period, 10 * TEXT_NS_PER_S);
    ck_assert_int_eq(s->task->resources->limits->nano_cpus, 500000000);
    ck_assert_int_eq(s->task->resources->limits->memory_bytes, 64 << 20);
    ck_assert_int_eq(s->task->restart->condition, SKEP__RESTART_CONDITION__RESTART_ON_FAILURE);
    ck_assert_int_eq(s->task->restart->delay, 5 * TEXT_NS_PER_S); /* the default of the rest */
    ck_assert_uint_eq(s->update->parallelism, 2);
    ck_assert_int_eq(s->update->monitor, 5 * TEXT_NS_PER_S);
    ck_assert_ptr_null(s->rollback); /* nothing was said: the manager's defaults */
    ck_assert_uint_eq(s->endpoint->ports[0]->published_port, 8080);
    ck_assert_str_eq(s->task->placement->constraints[0]->value, "worker");
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

START_TEST(a_missing_name_is_made_up)
{
    struct fake k = { 0 };
    const char *const args[] = { "service", "create", "-d", "nginx", NULL };
    struct result r = fake_run(&k, args);

    ck_assert_int_eq(r.status, 0);
    ck_assert_int_eq(k.mutations, 1);
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

/* An update that another overtook is made again on the new state. */
START_TEST(update_survives_conflicts)
{
    struct fake k = { .conflicts = 2 };
    const char *const args[] = { "service", "update", "-d", "--image", "nginx:2", "api9", NULL };
    struct result r;

    fake_fill(&k);
    r = fake_run(&k, args);
    ck_assert_msg(r.status == 0, "%s", r.err);
    ck_assert_str_eq(r.out, "api9\n");
    ck_assert_int_eq(k.mutations, 3);
    ck_assert_uint_eq(k.sent_version, 7);
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

START_TEST(endless_conflicts_are_reported)
{
    struct fake k = { .conflicts = 1000 };
    struct result r;

    fake_fill(&k);
    r = RUN(&k, "service", "scale", "-d", "api9=5");
    ck_assert_int_eq(r.status, 1);
    ck_assert_ptr_nonnull(strstr(r.err, "Error response from daemon: update out of sequence"));
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

/* ---- leaders ---- */

/* While a leader is elected a mutation is repeated with the same request id. */
START_TEST(an_election_is_waited_for)
{
    struct fake k = { .leaderless = 3 };
    const char *const args[] = { "service", "rm", "api9", NULL };
    struct result r;

    fake_fill(&k);
    r = fake_run(&k, args);
    ck_assert_msg(r.status == 0, "%s", r.err);
    ck_assert_int_eq(k.mutations, 4);
    ck_assert(!k.ids_differ);
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

static const struct {
    const char *why;
    bool silent;
    const char *args[3];
} outages[] = {
    { "refused at once", false, { "service", "ls" } },
    { "never answered", true, { "service", "ls" } },
    { "node ls too", true, { "node", "ls" } },
};

START_TEST(no_quorum_is_explained_within_two_seconds)
{
    struct fake k = { .silent = outages[_i].silent, .no_leader = true };
    const char *const args[] = { outages[_i].args[0], outages[_i].args[1], NULL };
    struct result r = fake_run(&k, args);

    ck_assert_msg(r.status == 1, "%s", outages[_i].why);
    ck_assert_msg(strstr(r.err, "The swarm does not have a leader") != NULL, "%s: %s",
                  outages[_i].why, r.err);
    ck_assert_ptr_nonnull(strstr(r.err, "m2               10.0.0.2:2377          last seen 12 "
                                        "seconds ago"));
    ck_assert_ptr_nonnull(strstr(r.err, "2 of 2 managers must reach each other"));
    ck_assert_ptr_nonnull(strstr(r.err, "ctl swarm init --force-new-cluster"));
    ck_assert_msg(k.now_ms <= 2000, "%s: %" PRIu64 " ms", outages[_i].why, k.now_ms);
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

static const char *const stale_reads[][5] = {
    { "service", "ls", "--stale" },
    { "service", "ps", "--stale", "api9" },
    { "service", "inspect", "--stale", "api9" },
    { "node", "ls", "--stale" },
    { "node", "ps", "--stale", FAKE_NODE },
    { "node", "inspect", "--stale", FAKE_NODE },
    { "network", "ls", "--stale" },
    { "network", "inspect", "--stale", "back" },
};

START_TEST(stale_reads_need_no_leader)
{
    struct fake k = { .no_leader = true };
    struct result r;

    fake_fill(&k);
    r = fake_run(&k, stale_reads[_i]);
    ck_assert_msg(r.status == 0 && r.out[0] != '\0', "%s %s: %s", stale_reads[_i][0],
                  stale_reads[_i][1], r.err);
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

START_TEST(info_answers_without_a_leader)
{
    struct fake k = { .silent = true, .no_leader = true };
    struct result r = RUN(&k, "info");

    ck_assert_int_eq(r.status, 0);
    ck_assert_ptr_nonnull(strstr(r.out, "Swarm: active"));
    ck_assert_ptr_nonnull(strstr(r.out, "Quorum: no"));
    ck_assert_ptr_nonnull(strstr(r.err, "WARNING: The swarm does not have a leader"));
    result_free(&r);
    fake_deinit(&k);
}
END_TEST

/* ---- addresses and tables ---- */

static const struct {
    const char *host, *url; /* NULL: refused */
} urls[] = {
    { "unix:///run/skep/control.sock", "ipc:///run/skep/control.sock" },
    { "/tmp/x.sock", "ipc:///tmp/x.sock" },
    { "10.0.0.1", "tls+tcp://10.0.0.1:2377" },
    { "10.0.0.1:99", "tls+tcp://10.0.0.1:99" },
    { "tcp://m1:99", "tls+tcp://m1:99" },
    { "fd00::1", "tls+tcp://[fd00::1]:2377" },
    { "[fd00::1]:99", "tls+tcp://[fd00::1]:99" },
    { "[fd00::1]", "tls+tcp://[fd00::1]:2377" },
    { "unix://x", NULL },
    { "", NULL },
    { "m1:0", NULL },
    { "m1:x", NULL },
    { "m1:70000", NULL },
    { ":99", NULL },
    { "http://m1", NULL },
    { "[fd00::1", NULL },
    { "a b", NULL },
};

START_TEST(hosts_become_urls)
{
    CLEANUP_ARENA struct arena a = { 0 };
    char *url = NULL;
    int rc = client_url(&a, urls[_i].host, &url, NULL);

    ck_assert_msg((rc == 0) == (urls[_i].url != NULL), "\"%s\": %d", urls[_i].host, rc);
    if (rc == 0)
        ck_assert_str_eq(url, urls[_i].url);
}
END_TEST

START_TEST(tables_count_characters)
{
    const char *const lines[] = { "ID\tNAME\tX", "a\td\xc3\xbcr und d\xc3\xbcr\t", "\t\tz" };
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    output_table(out, lines, ARRAY_LEN(lines));
    (void)fclose(out);
    ck_assert_str_eq(text, "ID        NAME          X\n"
                           "a         d\xc3\xbcr und d\xc3\xbcr   \n"
                           "                        z\n");
    free(text);
}
END_TEST

START_TEST(completion_knows_every_command)
{
    static const char *const shells[] = { "bash", "zsh", "fish" };

    for (size_t i = 0; i < ARRAY_LEN(shells); i++) {
        struct result r = RUN(NULL, "completion", shells[i]);

        ck_assert_int_eq(r.status, 0);
        for (const struct cmd *cmd = cmd_table(); cmd->name != NULL; cmd++) {
            const char *word = strrchr(cmd->name, ' ');

            if (!cmd->hidden)
                ck_assert_msg(strstr(r.out, word != NULL ? word + 1 : cmd->name) != NULL, "%s: %s",
                              shells[i], cmd->name);
        }
        ck_assert_ptr_nonnull(strstr(r.out, "update-failure-action"));
        result_free(&r);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl_cmd");
    TCase *t = tcase_create("cmd");

    suite_add_tcase(s, t);
    tcase_add_test(t, the_table_is_in_order);
    tcase_add_loop_test(t, wrong_usage, 0, ARRAY_LEN(usage));
    tcase_add_test(t, no_manager_on_this_host);
    tcase_add_test(t, ls_prints_dockers_table);
    tcase_add_loop_test(t, output_formats, 0, ARRAY_LEN(formats));
    tcase_add_test(t, empty_lists_have_a_header);
    tcase_add_test(t, inspect_prints_docker_json);
    tcase_add_test(t, ps_of_an_unknown_service);
    tcase_add_test(t, create_sends_the_spec);
    tcase_add_test(t, a_missing_name_is_made_up);
    tcase_add_test(t, update_survives_conflicts);
    tcase_add_test(t, endless_conflicts_are_reported);
    tcase_add_test(t, an_election_is_waited_for);
    tcase_add_loop_test(t, no_quorum_is_explained_within_two_seconds, 0, ARRAY_LEN(outages));
    tcase_add_loop_test(t, stale_reads_need_no_leader, 0, (int)ARRAY_LEN(stale_reads));
    tcase_add_test(t, info_answers_without_a_leader);
    tcase_add_loop_test(t, hosts_become_urls, 0, ARRAY_LEN(urls));
    tcase_add_test(t, tables_count_characters);
    tcase_add_test(t, completion_knows_every_command);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
