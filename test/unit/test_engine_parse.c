/* What an engine says, well-formed and not: JSON, inspect, list, events, info, log frames. */
#include "agentd/docker/json.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/docker/container.h"
#include "agentd/docker/events.h"
#include "agentd/docker/image.h"
#include "agentd/docker/info.h"
#include "agentd/docker/logs.h"
#include "agentd/docker/network.h"
#include "common/buf.h"
#include "common/mem.h"
#include "common/prng.h"

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define TASK "abcdefghijklmnopqrstuvwxy"

static struct engine_response answer(unsigned status, const char *body)
{
    return (struct engine_response){ .status = status, .body = body, .size = strlen(body) };
}

/* ---- JSON: reliability.md N81 ---- */

static const struct json_case {
    const char *why, *text;
    bool want;
} jsons[] = {
    { "an object", "{\"a\":[1,2,{\"b\":null}]}", true },
    { "brackets inside a string are no nesting", "\"[[[[[[[[[[{{{{{{{\"", true },
    { "an escaped quote", "\"a\\\"[[\"", true },
    { "empty", "", false },
    { "1e400", "[1e400]", false },
    { "an integer beyond 64 bits", "[99999999999999999999]", false },
    { "a lone surrogate", "[\"\\ud800\"]", false },
    { "NUL", "[\"\\u0000\"]", false },
    { "bad UTF-8", "[\"\xff\"]", false },
    { "trailing bytes", "{} {}", false },
    { "unterminated", "{\"a\":", false },
};

START_TEST(json_is_read_defensively)
{
    const struct json_case *c = &jsons[_i];
    struct err e = { 0 };
    json_t *o = docker_json_parse(c->text, strlen(c->text), &e);

    ck_assert_msg((o != NULL) == c->want, "%s: %s", c->why, e.message);
    ck_assert(o != NULL || e.code == ERR_PROTO);
    json_decref(o);
}
END_TEST

START_TEST(json_nesting_is_limited)
{
    char text[2 * (DOCKER_JSON_DEPTH_MAX + 1) + 1];
    unsigned depth = DOCKER_JSON_DEPTH_MAX + (unsigned)_i;
    struct err e;
    json_t *o;

    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    o = docker_json_parse(text, 2 * (size_t)depth, &e);
    ck_assert_int_eq(o != NULL, _i == 0);
    json_decref(o);
}
END_TEST

START_TEST(json_members_of_other_types_read_as_nothing)
{
    static const char text[] = "{\"s\":1,\"i\":\"x\",\"b\":1}";
    json_t *o = docker_json_parse(text, strlen(text), NULL);

    ck_assert_ptr_nonnull(o);
    ck_assert_str_eq(docker_json_str(o, "s"), "");
    ck_assert_int_eq(docker_json_int(o, "i"), 0);
    ck_assert(!docker_json_bool(o, "b"));
    ck_assert_str_eq(docker_json_str(NULL, "s"), "");
    ck_assert_str_eq(docker_json_str(docker_json_get(o, "i"), "s"), "");
    json_decref(o);
}
END_TEST

/* ---- inspect ---- */

static const struct inspect_case {
    const char *why;
    unsigned status;
    const char *ref, *body;
    int want_rc;
    enum container_phase phase;
    enum container_health health;
    int exit_code;
    bool oom;
} inspects[] = {
    { "running and healthy", 200, ID,
      "{\"Id\":\"" ID "\",\"State\":{\"Status\":\"running\",\"Pid\":9,"
      "\"Health\":{\"Status\":\"healthy\"}}}",
      0, CONTAINER_RUNNING, HEALTH_HEALTHY, 0, false },
    { "health check disabled", 200, ID,
      "{\"Id\":\"" ID "\",\"State\":{\"Status\":\"running\",\"Health\":{\"Status\":\"none\"}}}", 0,
      CONTAINER_RUNNING, HEALTH_NONE, 0, false },
    { "paused is alive", 200, ID, "{\"Id\":\"" ID "\",\"State\":{\"Status\":\"paused\"}}", 0,
      CONTAINER_RUNNING, HEALTH_NONE, 0, false },
    { "exited out of memory", 200, "web.1.x",
      "{\"Id\":\"" ID "\",\"State\":{\"Status\":\"exited\",\"ExitCode\":137,\"OOMKilled\":true}}",
      0, CONTAINER_EXITED, HEALTH_NONE, 137, true },
    { "dead", 200, ID, "{\"Id\":\"" ID "\",\"State\":{\"Status\":\"dead\",\"ExitCode\":1}}", 0,
      CONTAINER_EXITED, HEALTH_NONE, 1, false },
    { "gone", 404, ID, "{\"message\":\"No such container\"}", 0, CONTAINER_ABSENT, HEALTH_NONE, 0,
      false },
    { "an absurd exit code is clamped", 200, ID,
      "{\"Id\":\"" ID "\",\"State\":{\"Status\":\"exited\",\"ExitCode\":99999999999}}", 0,
      CONTAINER_EXITED, HEALTH_NONE, 2147483647, false },
    { "another container", 200, "1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
      "{\"Id\":\"" ID "\",\"State\":{\"Status\":\"running\"}}", -ERR_PROTO, 0, 0, 0, false },
    { "a state nobody knows", 200, ID, "{\"Id\":\"" ID "\",\"State\":{\"Status\":\"flying\"}}",
      -ERR_PROTO, 0, 0, 0, false },
    { "an id that is none", 200, "x", "{\"Id\":\"../../x\",\"State\":{\"Status\":\"running\"}}",
      -ERR_PROTO, 0, 0, 0, false },
    { "a list", 200, ID, "[]", -ERR_PROTO, 0, 0, 0, false },
    { "not JSON", 200, ID, "<html>", -ERR_PROTO, 0, 0, 0, false },
};

START_TEST(inspect_becomes_facts)
{
    const struct inspect_case *c = &inspects[_i];
    struct engine_response r = answer(c->status, c->body);
    struct container_facts f = { 0 };
    struct container_identity who;
    struct err e;
    int rc = container_parse_inspect(&r, c->ref, &f, &who, &e);

    ck_assert_msg(rc == c->want_rc, "%s: rc %d", c->why, rc);
    if (rc < 0)
        return;
    ck_assert_msg(f.phase == c->phase && f.health == c->health, "%s: phase %d health %d", c->why,
                  (int)f.phase, (int)f.health);
    ck_assert_msg(f.exit_code == c->exit_code && f.oom_killed == c->oom, "%s", c->why);
    free(f.ports);
}
END_TEST

START_TEST(inspect_reads_labels_and_ports)
{
    struct engine_response r = answer(
        200, "{\"Id\":\"" ID "\",\"State\":{\"Status\":\"running\",\"Error\":\"a\\u0001b\"},"
             "\"Config\":{\"Labels\":{\"com.docker.swarm.task.id\":\"" TASK
             "\",\"io.skep.cluster\":\"no id\"}},\"NetworkSettings\":{\"Ports\":{"
             "\"80/tcp\":[{\"HostIp\":\"0.0.0.0\",\"HostPort\":\"8080\"},"
             "{\"HostIp\":\"::\",\"HostPort\":\"8080\"}],\"53/udp\":[{\"HostPort\":\"53\"}],"
             "\"90/tcp\":null,\"70000/tcp\":[{\"HostPort\":\"1\"}],\"1/x\":[{\"HostPort\":\"1\"}],"
             "\"2/tcp\":[{\"HostPort\":\"99999\"},{\"HostPort\":7}]}}}");
    struct container_facts f;
    struct container_identity who;
    struct err e;

    ck_assert_int_eq(container_parse_inspect(&r, ID, &f, &who, &e), 0);
    ck_assert_str_eq(who.task_id, TASK);
    ck_assert_str_eq(who.cluster_id, "");
    ck_assert_str_eq(f.error, "a b");
    ck_assert_uint_eq(f.port_count, 2);
    ck_assert_uint_eq(f.ports[0].target, 80);
    ck_assert_uint_eq(f.ports[0].published, 8080);
    ck_assert_uint_eq(f.ports[1].target, 53);
    ck_assert_int_eq(f.ports[1].protocol, SKEP__PROTOCOL__PROTOCOL_UDP);
    free(f.ports);
}
END_TEST

START_TEST(list_keeps_what_is_usable)
{
    struct engine_response r =
        answer(200, "[{\"Id\":\"" ID "\",\"State\":\"exited\",\"Labels\":{"
                    "\"com.docker.swarm.task.id\":\"" TASK "\"}},{\"Id\":\"short\"},7,"
                    "{\"Id\":\"" ID "\",\"Labels\":null}]");
    struct engine_response bad = answer(200, "{}");
    struct container_entry *list;
    size_t count;
    struct err e;

    ck_assert_int_eq(container_parse_list(&r, &list, &count, &e), 0);
    ck_assert_uint_eq(count, 2);
    ck_assert_str_eq(list[0].task_id, TASK);
    ck_assert_int_eq(list[0].phase, CONTAINER_EXITED);
    ck_assert_str_eq(list[1].task_id, "");
    ck_assert_int_eq(list[1].phase, CONTAINER_UNKNOWN);
    free(list);
    ck_assert_int_eq(container_parse_list(&bad, &list, &count, &e), -ERR_PROTO);
}
END_TEST

/* ---- info ---- */

START_TEST(info_becomes_a_description)
{
    static const char text[] =
        "{\"Name\":\"h\",\"NCPU\":4,\"MemTotal\":1024,\"OSType\":\"linux\","
        "\"Architecture\":\"x86_64\",\"ServerVersion\":\"27.1\",\"Labels\":[\"z=1\",\"a\",3],"
        "\"Plugins\":{\"Volume\":[\"local\"],\"Network\":[\"host\",\"bridge\"],\"Log\":null},"
        "\"GenericResources\":[{\"DiscreteResourceSpec\":{\"Kind\":\"ssd\",\"Value\":3}},"
        "{\"NamedResourceSpec\":{\"Kind\":\"gpu\",\"Value\":\"u1\"}},"
        "{\"NamedResourceSpec\":{\"Kind\":\"gpu\",\"Value\":\"u2\"}}]}";
    struct arena a = { 0 };
    Skep__NodeDescription *d;
    struct err e;

    ck_assert_int_eq(info_parse(text, strlen(text), &a, &d, &e), 0);
    ck_assert_str_eq(d->hostname, "h");
    ck_assert_int_eq(d->resources->nano_cpus, 4000000000);
    ck_assert_uint_eq(d->engine->n_labels, 2);
    ck_assert_str_eq(d->engine->labels[0]->key, "a");
    ck_assert_str_eq(d->engine->labels[1]->value, "1");
    ck_assert_uint_eq(d->engine->n_plugins, 3);
    ck_assert_str_eq(d->engine->plugins[0]->value, "bridge");
    ck_assert_uint_eq(d->resources->n_generic, 2);
    ck_assert_str_eq(d->resources->generic[0]->kind, "gpu");
    ck_assert_int_eq(d->resources->generic[0]->value, 2);
    ck_assert_int_eq(info_parse("{\"NCPU\":0}", 10, &a, &d, &e), -ERR_PROTO);
    arena_deinit(&a);
}
END_TEST

/* ---- events ---- */

START_TEST(events_name_a_container)
{
    static const struct {
        const char *line;
        bool want;
    } lines[] = {
        { "{\"Type\":\"container\",\"Actor\":{\"ID\":\"" ID "\"}}", true },
        { "{\"Type\":\"image\",\"Actor\":{\"ID\":\"" ID "\"}}", false },
        { "{\"Type\":\"container\",\"Actor\":{\"ID\":\"x\"}}", false },
        { "{\"Type\":\"container\"}", false },
        { "[]", false },
        { "", false },
    };
    char id[CONTAINER_ID_CHARS + 1], task[ID_CHARS + 1];

    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        ck_assert_msg(events_parse(lines[i].line, strlen(lines[i].line), id, task) == lines[i].want,
                      "%s", lines[i].line);
}
END_TEST

/* ---- logs: docker_api.md §2.7 ---- */

static void on_line(void *ctx, const struct log_line *l)
{
    ck_assert_int_eq(buf_printf(ctx, "%d@%lld:%.*s|", l->is_stderr ? 2 : 1,
                                (long long)l->timestamp_ns, (int)l->size, l->data),
                     0);
}

static size_t frame(char *at, unsigned stream, const char *text)
{
    size_t size = strlen(text);

    memset(at, 0, 8);
    at[0] = (char)stream;
    at[6] = (char)(size >> 8);
    at[7] = (char)size;
    memcpy(at + 8, text, size);
    return size + 8;
}

/* Two streams, partial lines, frames: the result is the same however the bytes are cut. */
START_TEST(frames_may_be_cut_anywhere)
{
    CLEANUP_BUF struct buf out = BUF_INIT(4096);
    struct log_demux d;
    char text[512];
    size_t size = 0, step = (size_t)_i + 1;

    size += frame(text + size, 1, "1970-01-01T00:00:01.000000001Z one\n");
    size += frame(text + size, 2, "1970-01-01T00:00:02Z bad\n");
    size += frame(text + size, 1, "no time\n1970-01-01T00:00:03Z par");
    size += frame(text + size, 2, "");
    size += frame(text + size, 1, "tial\r\n");
    size += frame(text + size, 3, "1970-01-01T00:00:04Z unended");
    log_demux_init(&d, false, on_line, &out);
    for (size_t at = 0; at < size; at += step)
        ck_assert_int_eq(log_demux_feed(&d, text + at, MIN(step, size - at)), 0);
    log_demux_end(&d);
    log_demux_deinit(&d);
    ck_assert_str_eq(buf_str(&out), "1@1000000001:one|2@2000000000:bad|1@0:no time|"
                                    "1@3000000000:partial|2@4000000000:unended|");
}
END_TEST

START_TEST(bad_frames_are_refused)
{
    static const char heads[][8] = {
        { 4, 0, 0, 0, 0, 0, 0, 1 },  /* no such stream */
        { 1, 1, 0, 0, 0, 0, 0, 1 },  /* bytes that must be zero */
        { 1, 0, 0, 0, 0, 16, 0, 1 }, /* more than LOGS_FRAME_BYTES_MAX */
    };
    CLEANUP_BUF struct buf out = BUF_INIT(64);
    struct log_demux d;

    log_demux_init(&d, false, on_line, &out);
    ck_assert_int_eq(log_demux_feed(&d, heads[_i], 8), -ERR_PROTO);
    log_demux_deinit(&d);
}
END_TEST

/* A line without end is handed out in pieces; memory stays bounded. */
START_TEST(long_lines_come_in_pieces)
{
    static char text[3 * LOGS_LINE_BYTES_MAX];
    CLEANUP_BUF struct buf out = BUF_INIT(4 * LOGS_LINE_BYTES_MAX);
    struct log_demux d;
    unsigned pieces = 0;

    memset(text, 'x', sizeof(text));
    log_demux_init(&d, true, on_line, &out);
    ck_assert_int_eq(log_demux_feed(&d, text, sizeof(text)), 0);
    log_demux_end(&d);
    log_demux_deinit(&d);
    for (size_t i = 0; i < out.size; i++)
        pieces += out.data[i] == '|';
    ck_assert_uint_eq(pieces, 3);
}
END_TEST

/* ---- pull progress ---- */

START_TEST(pull_streams_are_limited)
{
    static char line[IMAGE_LINE_BYTES_MAX + 1];
    struct pull_stream s;

    memset(line, ' ', sizeof(line));
    pull_stream_init(&s);
    ck_assert_int_eq(pull_stream_feed(&s, line, sizeof(line)), -ERR_TOO_BIG);
    pull_stream_deinit(&s);
}
END_TEST

/* ---- networks ---- */

/* Entrypoint and Cmd as lists, null, missing, or a string as very old engines store them. */
static const struct image_case {
    const char *body;
    size_t entrypoint, cmd;
    const char *first; /* of the entrypoint, else of the command */
} images[] = {
    { "{\"Config\":{\"Entrypoint\":[\"/e\",\"-x\"],\"Cmd\":[\"c\"]}}", 2, 1, "/e" },
    { "{\"Config\":{\"Entrypoint\":null,\"Cmd\":[\"c\"]}}", 0, 1, "c" },
    { "{\"Config\":{\"Entrypoint\":\"/e\"}}", 1, 0, "/e" },
    { "{\"Config\":{\"Entrypoint\":[\"/e\",7,null]}}", 1, 0, "/e" },
    { "{\"Config\":null}", 0, 0, NULL },
    { "{}", 0, 0, NULL },
};

START_TEST(images_say_what_they_run)
{
    const struct image_case *c = &images[_i];
    struct engine_response r = answer(200, c->body);
    struct image_config config = { .entrypoint = NULL };
    struct err e;

    ck_assert_int_eq(image_parse_config(&r, &config, &e), 0);
    ck_assert_uint_eq(config.entrypoint_count, c->entrypoint);
    ck_assert_uint_eq(config.cmd_count, c->cmd);
    if (c->first != NULL)
        ck_assert_str_eq(c->entrypoint > 0 ? config.entrypoint[0] : config.cmd[0], c->first);
    image_config_deinit(&config);
    r = answer(200, "rubbish");
    ck_assert_int_eq(image_parse_config(&r, &config, &e), -ERR_PROTO);
}
END_TEST

/* Only what carries our labels counts as ours. */
START_TEST(networks_are_known_by_their_labels)
{
    static const char list[] =
        "[{\"Id\":\"" ID "\",\"Labels\":{\"io.skep.network\":\"" TASK
        "\",\"io.skep.cluster\":\"" TASK "\"}},{\"Id\":\"" ID "\",\"Labels\":{\"io.skep.network\":"
        "\"../x\"}},{\"Id\":\"short\"},7]";
    struct engine_response r = answer(200, list);
    struct network_entry *entries, one;
    size_t count;
    struct err e;

    ck_assert_int_eq(network_parse_list(&r, &entries, &count, &e), 0);
    ck_assert_uint_eq(count, 2);
    ck_assert_str_eq(entries[0].network_id, TASK);
    ck_assert_str_eq(entries[0].cluster_id, TASK);
    ck_assert_str_eq(entries[1].network_id, "");
    free(entries);
    r = answer(200, "{\"Id\":\"" ID "\"}");
    ck_assert_int_eq(network_parse_inspect(&r, &one, &e), 0);
    ck_assert_str_eq(one.network_id, "");
    r = answer(200, "{\"Name\":\"x\"}");
    ck_assert_int_eq(network_parse_inspect(&r, &one, &e), -ERR_PROTO);
    r = answer(200, "{}");
    ck_assert_int_eq(network_parse_list(&r, &entries, &count, &e), -ERR_PROTO);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("engine parse");
    TCase *tc = tcase_create("parse");

    tcase_add_loop_test(tc, json_is_read_defensively, 0, (int)ARRAY_LEN(jsons));
    tcase_add_loop_test(tc, json_nesting_is_limited, 0, 2);
    tcase_add_test(tc, json_members_of_other_types_read_as_nothing);
    tcase_add_loop_test(tc, inspect_becomes_facts, 0, (int)ARRAY_LEN(inspects));
    tcase_add_test(tc, inspect_reads_labels_and_ports);
    tcase_add_test(tc, list_keeps_what_is_usable);
    tcase_add_test(tc, info_becomes_a_description);
    tcase_add_test(tc, events_name_a_container);
    tcase_add_loop_test(tc, frames_may_be_cut_anywhere, 0, 60);
    tcase_add_loop_test(tc, bad_frames_are_refused, 0, 3);
    tcase_add_test(tc, long_lines_come_in_pieces);
    tcase_add_test(tc, pull_streams_are_limited);
    tcase_add_loop_test(tc, images_say_what_they_run, 0, (int)ARRAY_LEN(images));
    tcase_add_test(tc, networks_are_known_by_their_labels);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    SRunner *sr = srunner_create(suite());
    int failed;

    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
