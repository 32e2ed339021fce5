/* The HTTP layer below everything the agent asks of an engine, against one that misbehaves. */
#include "agentd/docker/engine.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/docker/container.h"
#include "agentd/docker/events.h"
#include "agentd/docker/image.h"
#include "agentd/docker/logs.h"
#include "common/buf.h"
#include "test/lib/fake_engine.h"
#include "test/lib/tmpdir.h"

static struct loop *loop;
static struct engine *engine;
static struct fake_engine *fake;
static char *dir, *path;

/* What came of one call. */
struct result {
    unsigned calls;
    int rc;
    unsigned status;
    char body[4096], message[ERR_MESSAGE_BYTES_MAX];
    size_t streamed;
    int data_rc; /* what on_data returns */
};

static void on_done(void *ctx, const struct engine_response *r)
{
    struct result *res = ctx;

    res->calls++;
    res->rc = r->rc;
    res->status = r->status;
    (void)snprintf(res->body, sizeof(res->body), "%s", r->body);
    (void)snprintf(res->message, sizeof(res->message), "%s", r->err.message);
}

static int on_data(void *ctx, const char *data, size_t size)
{
    struct result *res = ctx;

    (void)data;
    res->streamed += size;
    return res->data_rc;
}

static void turn(unsigned count)
{
    struct err e;

    for (unsigned i = 0; i < count; i++)
        ck_assert_int_eq(loop_run_once(loop, 0, &e), 0);
}

static void run_until(const unsigned *calls, unsigned want)
{
    struct err e;

    for (unsigned i = 0; i < 20000 && *calls < want; i++)
        ck_assert_int_eq(loop_run_once(loop, 5, &e), 0);
    ck_assert_uint_eq(*calls, want);
}

static void ping(void)
{
    struct result res = { 0 };
    struct err e;

    ck_assert_int_eq(engine_ping(engine, 1000, on_done, &res, &e), 0);
    run_until(&res.calls, 1);
}

static void setup(void)
{
    struct err e;

    dir = tmpdir_new();
    path = xasprintf("%s/engine.sock", dir);
    loop = loop_new(&e);
    fake = fake_engine_new(loop, path);
    engine = engine_new(loop, path, &e);
    ck_assert_ptr_nonnull(engine);
}

static void setup_pinged(void)
{
    setup();
    ping();
}

static void teardown(void)
{
    engine_free(engine);
    fake_engine_free(fake);
    loop_free(loop);
    free(path);
    tmpdir_remove(dir);
}

static struct result get(const struct engine_request *given)
{
    struct engine_request q = *given;
    struct result res = { .data_rc = 0 };
    struct err e;

    q.method = q.method == NULL ? "GET" : q.method;
    q.path = q.path == NULL ? "/x" : q.path;
    q.deadline_ms = q.deadline_ms == 0 ? 5000 : q.deadline_ms;
    q.done = on_done;
    q.ctx = &res;
    ck_assert_ptr_nonnull(engine_call_start(engine, &q, &e));
    run_until(&res.calls, 1);
    return res;
}

/* reliability.md F23, N82, N83: every kind of bad answer ends the call, with a code that says what
 * to do about it, and nothing else. */
static const struct answer_case {
    const char *why;
    struct fake_rule rule;
    struct engine_request request;
    int want_rc;
    unsigned want_status;
    const char *want_message; /* part of it */
} answers[] = {
    { "an answer", { .body = "{}" }, { 0 }, 0, 200, "" },
    { "an error with the engine's message",
      { .status = 409, .body = "{\"message\":\"in use\"}" },
      { 0 },
      0,
      409,
      "in use" },
    { "an error without JSON", { .status = 500, .body = "oops" }, { 0 }, 0, 500, "HTTP 500" },
    { "an error without body", { .status = 503 }, { 0 }, 0, 503, "HTTP 503" },
    { "no answer", { .how = FAKE_HANG }, { .deadline_ms = 50 }, -ERR_TIMEOUT, 0, "in time" },
    { "an answer that never ends in time",
      { .how = FAKE_DRIP },
      { .deadline_ms = 100 },
      -ERR_TIMEOUT,
      0,
      "in time" },
    { "too long an answer",
      { .body = "0123456789" },
      { .body_bytes_max = 9 },
      -ERR_TOO_BIG,
      0,
      "too big" },
    { "10 GiB", { .how = FAKE_FLOOD }, { 0 }, -ERR_TOO_BIG, 0, "too big" },
    { "closed at once", { .how = FAKE_REFUSE }, { .once = true }, -ERR_UNAVAILABLE, 0, "engine" },
    { "closed in the middle", { .how = FAKE_CUT, .body = "{}" }, { 0 }, -ERR_UNAVAILABLE, 0, "" },
    { "rubbish", { .how = FAKE_RAW, .body = "SSH-2.0-x\r\n\r\n" }, { 0 }, -ERR_PROTO, 0, "" },
    { "HTTP/0.9", { .how = FAKE_RAW, .body = "{}" }, { 0 }, -ERR_PROTO, 0, "" },
    { "a bad chunk",
      { .how = FAKE_RAW, .body = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" },
      { 0 },
      -ERR_UNAVAILABLE,
      0,
      "" },
    { "a negative length",
      { .how = FAKE_RAW, .body = "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" },
      { 0 },
      -ERR_PROTO,
      0,
      "" },
};

START_TEST(bad_answers_end_the_call)
{
    const struct answer_case *c = &answers[_i];
    struct fake_rule rule = c->rule;
    struct result res;

    rule.match = "GET /x";
    fake_engine_rule(fake, &rule);
    res = get(&c->request);
    ck_assert_msg(res.rc == c->want_rc, "%s: rc %d (%s)", c->why, res.rc, res.message);
    ck_assert_msg(res.status == c->want_status, "%s: status %u", c->why, res.status);
    ck_assert_msg(strstr(res.message, c->want_message) != NULL, "%s: '%s'", c->why, res.message);
    ck_assert_uint_eq(engine_call_count(engine), 0);
}
END_TEST

/* A megabyte of headers is refused. */
START_TEST(headers_are_limited)
{
    CLEANUP_BUF struct buf head = BUF_INIT(4 << 20);
    struct fake_rule rule = { .match = "GET /x", .how = FAKE_RAW };
    struct result res;

    ck_assert_int_eq(buf_append_str(&head, "HTTP/1.1 200 OK\r\n"), 0);
    for (unsigned i = 0; i < 20000; i++)
        ck_assert_int_eq(buf_printf(&head, "X-%u: 0123456789012345678901234567890123\r\n", i), 0);
    ck_assert_int_eq(buf_append_str(&head, "Content-Length: 0\r\n\r\n"), 0);
    rule.body = buf_str(&head);
    fake_engine_rule(fake, &rule);
    res = get(&(struct engine_request){ 0 });
    ck_assert_int_eq(res.rc, -ERR_TOO_BIG);
}
END_TEST

/* A stream's silence is watched apart from its length. */
START_TEST(silence_ends_a_stream)
{
    struct fake_rule rule = { .match = "GET /x", .how = FAKE_OPEN, .body = "a" };
    struct result res;

    fake_engine_rule(fake, &rule);
    res = get(&(struct engine_request){ .idle_ms = 60, .on_data = on_data });
    ck_assert_int_eq(res.rc, -ERR_TIMEOUT);
    ck_assert_uint_eq(res.streamed, 1);
    ck_assert_ptr_nonnull(strstr(res.message, "silent"));
}
END_TEST

START_TEST(dripping_is_not_silence)
{
    struct fake_rule rule = { .match = "GET /x", .how = FAKE_DRIP };
    struct result res;

    fake_engine_rule(fake, &rule);
    res = get(&(struct engine_request){ .idle_ms = 100, .deadline_ms = 300, .on_data = on_data });
    ck_assert_int_eq(res.rc, -ERR_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(res.message, "in time"));
    ck_assert_uint_ge(res.streamed, 5);
}
END_TEST

/* An error answer to a streaming request is an error, not data. */
START_TEST(error_answers_are_not_streamed)
{
    struct fake_rule rule = { .match = "GET /x", .status = 404, .body = "{\"message\":\"no\"}" };
    struct result res;

    fake_engine_rule(fake, &rule);
    res = get(&(struct engine_request){ .on_data = on_data });
    ck_assert_uint_eq(res.status, 404);
    ck_assert_uint_eq(res.streamed, 0);
    ck_assert_str_eq(res.message, "no");
}
END_TEST

/* What on_data refuses ends the call with its code. */
START_TEST(data_can_be_refused)
{
    struct fake_rule rule = { .match = "GET /x", .body = "abc" };
    struct engine_request q = {
        .method = "GET", .path = "/x", .deadline_ms = 1000, .on_data = on_data, .done = on_done
    };
    struct result res = { .data_rc = -ERR_RATE };
    struct err e;

    fake_engine_rule(fake, &rule);
    q.ctx = &res;
    ck_assert_ptr_nonnull(engine_call_start(engine, &q, &e));
    run_until(&res.calls, 1);
    ck_assert_int_eq(res.rc, -ERR_RATE);
}
END_TEST

/* A paused stream delivers nothing and is not silent; resumed, it loses nothing. */
START_TEST(pause_holds_the_flow)
{
    struct fake_rule rule = { .match = "GET /x", .how = FAKE_OPEN, .body = "one" };
    struct engine_request q = {
        .method = "GET", .path = "/x", .idle_ms = 80, .on_data = on_data, .done = on_done
    };
    struct result res = { .data_rc = 0 };
    struct engine_call *c;
    struct err e;

    fake_engine_rule(fake, &rule);
    q.ctx = &res;
    c = engine_call_start(engine, &q, &e);
    ck_assert_ptr_nonnull(c);
    while (res.streamed < 3)
        turn(1);
    engine_call_pause(c);
    fake_engine_push(fake, "GET /x", "two");
    for (unsigned i = 0; i < 30; i++)
        ck_assert_int_eq(loop_run_once(loop, 5, &e), 0);
    ck_assert_uint_eq(res.streamed, 3);
    ck_assert_uint_eq(res.calls, 0);
    engine_call_resume(c);
    for (unsigned i = 0; i < 100 && res.streamed < 6; i++)
        turn(1);
    ck_assert_uint_eq(res.streamed, 6);
    run_until(&res.calls, 1);
    ck_assert_int_eq(res.rc, -ERR_TIMEOUT);
}
END_TEST

/* Cancelled calls never call back, at whatever point of their life. */
START_TEST(cancel_is_silent)
{
    struct fake_rule rule = { .match = "GET /x", .how = FAKE_OPEN, .body = "a" };
    struct engine_request q = {
        .method = "GET", .path = "/x", .deadline_ms = 30, .on_data = on_data, .done = on_done
    };
    struct result res = { .data_rc = 0 };
    struct engine_call *c;
    struct err e;

    fake_engine_rule(fake, &rule);
    q.ctx = &res;
    c = engine_call_start(engine, &q, &e);
    turn((unsigned)_i);
    engine_call_cancel(c);
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(loop_run_once(loop, 5, &e), 0);
    ck_assert_uint_eq(res.calls, 0);
    ck_assert_uint_eq(engine_call_count(engine), 0);
}
END_TEST

/* One hung call does not hold up another. */
START_TEST(calls_are_independent)
{
    struct fake_rule hang = { .match = "GET /hang", .how = FAKE_HANG };
    struct fake_rule quick = { .match = "GET /x", .body = "ok" };
    struct engine_request q = {
        .method = "GET", .path = "/hang", .deadline_ms = 60000, .done = on_done
    };
    struct result hung[50] = { { 0 } };
    struct err e;

    fake_engine_rule(fake, &hang);
    fake_engine_rule(fake, &quick);
    for (size_t i = 0; i < ARRAY_LEN(hung); i++) {
        q.ctx = &hung[i];
        ck_assert_ptr_nonnull(engine_call_start(engine, &q, &e));
    }
    ck_assert_int_eq(get(&(struct engine_request){ 0 }).rc, 0);
    for (size_t i = 0; i < ARRAY_LEN(hung); i++)
        ck_assert_uint_eq(hung[i].calls, 0);
}
END_TEST

START_TEST(calls_are_limited)
{
    struct fake_rule hang = { .match = "GET /x", .how = FAKE_HANG };
    struct engine_request q = {
        .method = "GET", .path = "/x", .deadline_ms = 60000, .done = on_done
    };
    struct result res = { 0 };
    struct err e = { 0 };

    fake_engine_rule(fake, &hang);
    q.ctx = &res;
    for (unsigned i = 0; i < ENGINE_CALLS_MAX; i++)
        ck_assert_ptr_nonnull(engine_call_start(engine, &q, &e));
    ck_assert_ptr_null(engine_call_start(engine, &q, &e));
    ck_assert_int_eq(e.code, ERR_BUSY);
}
END_TEST

/* docker_api.md §5.1: the lower of both versions; none too old. */
static const struct version_case {
    const char *why, *head;
    unsigned want;
    int want_rc;
} versions[] = {
    { "Docker 20.10", "Api-Version: 1.41", 141, 0 },
    { "newer than we are", "Api-Version: 1.60", 151, 0 },
    { "case does not matter", "api-version: 1.47", 147, 0 },
    { "too old", "Api-Version: 1.40", 0, -ERR_UNSUPPORTED },
    { "none", "X: y", 0, -ERR_UNSUPPORTED },
    { "nonsense", "Api-Version: 1.41.7", 0, -ERR_UNSUPPORTED },
    { "a huge number", "Api-Version: 1.4100000000000", 0, -ERR_UNSUPPORTED },
};

START_TEST(version_is_negotiated)
{
    const struct version_case *c = &versions[_i];
    CLEANUP_FREE char *raw =
        xasprintf("HTTP/1.1 200 OK\r\n%s\r\nContent-Length: 2\r\n\r\nOK", c->head);
    struct fake_rule rule = { .match = "GET /_ping", .how = FAKE_RAW, .body = raw };
    struct engine_request q = { .method = "GET", .path = "/x", .deadline_ms = 1, .done = on_done };
    struct result res = { 0 };
    struct err e;

    ck_assert_ptr_null(engine_call_start(engine, &q, &e)); /* no version, no calls */
    ck_assert_int_eq(e.code, ERR_UNAVAILABLE);
    fake_engine_rule(fake, &rule);
    ck_assert_int_eq(engine_ping(engine, 1000, on_done, &res, &e), 0);
    run_until(&res.calls, 1);
    ck_assert_msg(res.rc == c->want_rc, "%s: %s", c->why, res.message);
    ck_assert_msg(engine_version(engine) == c->want, "%s", c->why);
}
END_TEST

/* A start is sent on a connection of its own, exactly once, even when the engine hangs up. */
START_TEST(start_is_never_repeated)
{
    static const char id[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    struct fake_rule rule = { .match = "POST /containers/", .how = FAKE_REFUSE };
    struct result res = { 0 };
    struct err e;

    ck_assert_int_eq(get(&(struct engine_request){ 0 }).status, 404); /* leaves a warm one */
    fake_engine_rule(fake, &rule);
    ck_assert_ptr_nonnull(container_start(engine, id, (struct docker_reply){ on_done, &res }, &e));
    run_until(&res.calls, 1);
    ck_assert_int_eq(res.rc, -ERR_UNAVAILABLE);
    ck_assert_uint_eq(fake_engine_count(fake, "POST /containers/"), 1);
}
END_TEST

/* ---- pulls ---- */

struct pulled {
    unsigned calls;
    int rc;
    struct err why;
};

static void on_pulled(void *ctx, int rc, const struct err *why)
{
    struct pulled *p = ctx;

    p->calls++;
    p->rc = rc;
    p->why = *why;
}

static const struct pull_case {
    const char *why;
    struct fake_rule rule;
    int want_rc;
    const char *want_message;
} pulls[] = {
    { "progress, then done",
      { .body = "{\"status\":\"Pulling\"}\n{\"status\":\"Done\",\"progressDetail\":{}}\n" },
      0,
      "" },
    { "an error inside a 200",
      { .body = "{\"status\":\"Pulling\"}\n{\"errorDetail\":{\"message\":\"manifest unknown\"},"
                "\"error\":\"manifest unknown\"}\n" },
      -ERR_NOT_FOUND,
      "manifest unknown" },
    { "the last line without an end", { .body = "{\"error\":\"x\"}" }, -ERR_NOT_FOUND, "x" },
    { "refused before the stream",
      { .status = 404, .body = "{\"message\":\"pull access denied\"}" },
      -ERR_NOT_FOUND,
      "pull access denied" },
    { "not JSON", { .body = "what?\n" }, -ERR_PROTO, "" },
    { "cut", { .how = FAKE_CUT, .body = "{\"status\":\"Pulling\"}\n" }, -ERR_UNAVAILABLE, "" },
};

START_TEST(pull_reads_the_stream)
{
    const struct pull_case *c = &pulls[_i];
    struct fake_rule rule = c->rule;
    struct image_ref ref;
    struct pulled p = { 0 };
    struct err e;

    rule.match = "POST /images/create?fromImage=10.0.0.1%3A5000%2Fa%2Fb&tag=1";
    fake_engine_rule(fake, &rule);
    ck_assert_int_eq(image_ref_parse("10.0.0.1:5000/a/b:1", &ref, &e), 0);
    ck_assert_ptr_nonnull(image_pull_start(engine, &ref, "c2VjcmV0", on_pulled, &p));
    run_until(&p.calls, 1);
    ck_assert_msg(p.rc == c->want_rc, "%s: %d %s", c->why, p.rc, p.why.message);
    ck_assert_msg(strstr(p.why.message, c->want_message) != NULL, "%s: %s", c->why, p.why.message);
    ck_assert_ptr_nonnull(
        strstr(fake_engine_head(fake, "POST /images"), "X-Registry-Auth: c2VjcmV0\r\n"));
}
END_TEST

/* ---- events ---- */

struct heard {
    unsigned up, down, hints;
    char id[80], task_id[40];
};

static void on_up(void *ctx)
{
    ((struct heard *)ctx)->up++;
}

static void on_down(void *ctx, const struct err *why)
{
    (void)why;
    ((struct heard *)ctx)->down++;
}

static void on_hint(void *ctx, const char *id, const char *task_id)
{
    struct heard *h = ctx;

    h->hints++;
    (void)snprintf(h->id, sizeof(h->id), "%s", id);
    (void)snprintf(h->task_id, sizeof(h->task_id), "%s", task_id);
}

#define CONTAINER "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define TASK "abcdefghijklmnopqrstuvwxy"

/* F22, N84: up with the answer's head, hints across any cut of the bytes, back after a hang-up. */
START_TEST(events_come_back)
{
    struct fake_rule rule = { .match = "GET /events", .how = FAKE_OPEN };
    struct heard h = { 0 };
    struct events_options o = {
        .engine = engine,
        .loop = loop,
        .cluster_id = "cluster",
        .node_id = "node",
        .up = on_up,
        .down = on_down,
        .hint = on_hint,
        .ctx = &h,
    };
    struct events *ev;

    fake_engine_rule(fake, &rule);
    ev = events_new(&o);
    run_until(&h.up, 1);
    fake_engine_push(fake, "GET /events",
                     "{\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{\"ID\":\"" CONTAINER
                     "\",\"Attributes\":{\"com.docker.swarm.task.id\":\"" TASK);
    turn(5);
    ck_assert_uint_eq(h.hints, 0);
    fake_engine_push(fake, "GET /events", "\"}}}\n{\"Type\":\"image\"}\nrubbish\n");
    run_until(&h.hints, 1);
    ck_assert_str_eq(h.id, CONTAINER);
    ck_assert_str_eq(h.task_id, TASK);
    fake_engine_hang_up(fake);
    run_until(&h.down, 1);
    run_until(&h.up, 2);
    events_free(ev);
}
END_TEST

/* ---- logs ---- */

struct lines {
    unsigned ended;
    int rc;
    struct buf text;
};

static void on_line(void *ctx, const struct log_line *l)
{
    struct lines *x = ctx;

    ck_assert_int_eq(buf_printf(&x->text, "%s%lld:%.*s|", l->is_stderr ? "!" : "",
                                (long long)l->timestamp_ns, (int)l->size, l->data),
                     0);
}

static void on_log_end(void *ctx, int rc, const struct err *why)
{
    struct lines *x = ctx;

    (void)why;
    x->ended++;
    x->rc = rc;
}

START_TEST(logs_ask_for_what_is_wanted)
{
    struct fake_rule rule = { .match = "GET /containers/" CONTAINER
                                       "/logs?timestamps=1&stdout=1&stderr=0&follow=0&tail=5"
                                       "&since=3.000000007",
                              .body = "1970-01-01T00:00:01.5Z a\r\nb\n" };
    struct log_options o = {
        .container_id = CONTAINER, .tty = true, .no_stderr = true, .tail = 5, .since_ns = 3000000007
    };
    struct lines x = { .text = BUF_INIT(4096) };
    struct log_stream *s;

    fake_engine_rule(fake, &rule);
    s = log_stream_start(engine, &o, on_line, on_log_end, &x);
    run_until(&x.ended, 1);
    ck_assert_int_eq(x.rc, 0);
    ck_assert_str_eq(buf_str(&x.text), "1500000000:a|0:b|");
    log_stream_free(s);
    buf_deinit(&x.text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine http");
    TCase *tc = tcase_create("pinged");
    TCase *fresh = tcase_create("fresh");
    SRunner *sr;
    int failed;

    tcase_add_checked_fixture(tc, setup_pinged, teardown);
    tcase_add_loop_test(tc, bad_answers_end_the_call, 0, (int)ARRAY_LEN(answers));
    tcase_add_test(tc, headers_are_limited);
    tcase_add_test(tc, silence_ends_a_stream);
    tcase_add_test(tc, dripping_is_not_silence);
    tcase_add_test(tc, error_answers_are_not_streamed);
    tcase_add_test(tc, data_can_be_refused);
    tcase_add_test(tc, pause_holds_the_flow);
    tcase_add_loop_test(tc, cancel_is_silent, 0, 12);
    tcase_add_test(tc, calls_are_independent);
    tcase_add_test(tc, calls_are_limited);
    tcase_add_test(tc, start_is_never_repeated);
    tcase_add_loop_test(tc, pull_reads_the_stream, 0, (int)ARRAY_LEN(pulls));
    tcase_add_test(tc, events_come_back);
    tcase_add_test(tc, logs_ask_for_what_is_wanted);
    tcase_add_checked_fixture(fresh, setup, teardown);
    tcase_add_loop_test(fresh, version_is_negotiated, 0, (int)ARRAY_LEN(versions));
    suite_add_tcase(s, tc);
    suite_add_tcase(s, fresh);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
