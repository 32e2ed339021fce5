/* Follows a service until it has converged: one list, then the manager's WATCH query (no polling),
 * and the lines of progress.h on a terminal (redrawn) or in a log (each change a line). */
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "common/id.h"
#include "common/text.h"
#include "ctl/json.h"
#include "ctl/objects.h"
#include "ctl/progress.h"

enum {
    WATCH_MS = 30 * 1000,
    SECOND_MS = 1000,
    LINES_MAX = 32,
    BAR_WIDTH = 50,
    OUTAGE_MS = 30 * 1000, /* no manager answers: give up watching after this */
    RETRY_MS = 500,
    GRACE_MS = 100,
};
#define MONITOR_DEFAULT_NS (5 * TEXT_NS_PER_S)

/* ---- the screen ---- */

struct screen {
    FILE *out;
    bool tty;
    bool quiet;
    size_t columns;
    struct progress_line lines[LINES_MAX];
    size_t count;
};

/* Length without blanks at the end: they are only there for the bars to align. */
static size_t trimmed(const char *text)
{
    size_t size = strlen(text);

    while (size > 0 && text[size - 1] == ' ')
        size--;
    return size;
}

static void screen_print(const struct screen *s, const struct progress_line *l)
{
    char bar[BAR_WIDTH + 8] = "";
    size_t used = strlen(l->id) + 2 + text_width(l->text) + 4;
    size_t width = s->columns == 0 || s->columns > used + BAR_WIDTH + 4 ? BAR_WIDTH
                   : s->columns > used + 14                             ? s->columns - used - 4
                                                                        : 0;

    if (l->steps > 0 && s->tty && width > 0)
        progress_bar(bar, sizeof(bar), l->step, l->steps, width);
    (void)fprintf(s->out, "%s: %.*s%s%s", l->id,
                  bar[0] != '\0' ? PROGRESS_TEXT_MAX : (int)trimmed(l->text), l->text,
                  bar[0] != '\0' ? " " : "", bar);
}

/* Puts l on its line of the screen; a line that has not changed is not printed again. */
static void screen_set(struct screen *s, const struct progress_line *l)
{
    size_t at = 0;

    if (s->quiet)
        return;
    while (at < s->count && strcmp(s->lines[at].id, l->id) != 0)
        at++;
    if (at == LINES_MAX)
        return;
    if (at < s->count && strcmp(s->lines[at].text, l->text) == 0 && s->lines[at].step == l->step)
        return;
    if (s->tty && at < s->count)
        (void)fprintf(s->out, "\x1b[%zuA\r\x1b[2K", s->count - at);
    s->lines[at] = *l;
    if (s->tty || l->text[0] != '\0') {
        screen_print(s, l);
        (void)fputc('\n', s->out);
    }
    if (s->tty && at < s->count && s->count - at > 1)
        (void)fprintf(s->out, "\x1b[%zuB", s->count - at - 1);
    s->count = MAX(s->count, at + 1);
    (void)fflush(s->out);
}

static void screen_say(struct screen *s, const char *id, const char *format, ...) PRINTF(3, 4);
static void screen_say(struct screen *s, const char *id, const char *format, ...)
{
    struct progress_line l = { 0 };
    va_list args;

    (void)snprintf(l.id, sizeof(l.id), "%s", id);
    va_start(args, format);
    (void)vsnprintf(l.text, sizeof(l.text), format, args);
    va_end(args);
    screen_set(s, &l);
}

/* ---- what is known ---- */

struct tracked_task {
    struct id id;
    struct id node_id;
    uint64_t slot;
    uint64_t spec_version;
    uint64_t job_iteration;
    Skep__TaskState state;
    Skep__TaskState desired;
    char error[4 * PROGRESS_ERROR_CHARS];
};

struct verdict { /* whether tasks of a spec version are what the newest spec asks for */
    uint64_t spec_version;
    bool current;
};

struct wait {
    struct ctl *c;
    const struct progress_options *o;
    struct screen screen;
    struct progress progress;
    struct arena service_arena; /* of service */
    Skep__Service *service;
    struct tracked_task *tasks;
    size_t task_count;
    struct id *down; /* nodes that are down */
    size_t down_count;
    struct verdict *verdicts;
    size_t verdict_count;
    uint64_t version;
    uint64_t started_ms;
    uint64_t converged_ms; /* 0 = not converged */
};

static struct id id_of(const char *text)
{
    return id_valid(text) ? id_from_str(text) : (struct id){ 0 };
}

static void set_service(struct wait *w, const Skep__Service *s)
{
    bool changed = w->service == NULL || w->service->meta == NULL || s->meta == NULL ||
                   w->service->meta->spec_version != s->meta->spec_version;
    struct arena fresh = { 0 };
    Skep__Service *copy = (Skep__Service *)client_clone(&fresh, &s->base);

    arena_deinit(&w->service_arena);
    w->service_arena = fresh;
    w->service = copy;
    if (changed)
        w->verdict_count = 0;
}

static void set_task(struct wait *w, const Skep__Task *t, bool gone)
{
    struct tracked_task *k;
    size_t at = 0;

    if (strcmp(t->service_id, w->o->service_id) != 0)
        return;
    while (at < w->task_count && strcmp(w->tasks[at].id.s, t->id) != 0)
        at++;
    if (gone) {
        if (at < w->task_count)
            w->tasks[at] = w->tasks[--w->task_count];
        return;
    }
    if (at == w->task_count) {
        if ((w->task_count & (w->task_count - 1)) == 0)
            w->tasks = xrealloc_array(w->tasks, MAX(w->task_count * 2, 1), sizeof(*w->tasks));
        w->task_count++;
    }
    k = &w->tasks[at];
    *k = (struct tracked_task){
        .id = id_of(t->id),
        .node_id = id_of(t->node_id),
        .slot = t->slot,
        .spec_version = t->spec_version,
        .job_iteration = t->job_iteration,
        .state = t->status != NULL ? t->status->state : SKEP__TASK_STATE__TASK_NEW,
        .desired = t->desired_state,
    };
    if (t->status != NULL)
        (void)snprintf(k->error, sizeof(k->error), "%.*s",
                       (int)text_prefix(t->status->error, PROGRESS_ERROR_CHARS + 1),
                       t->status->error);
}

static bool is_down(const struct wait *w, const char *node_id)
{
    for (size_t i = 0; i < w->down_count; i++) {
        if (strcmp(w->down[i].s, node_id) == 0)
            return true;
    }
    return false;
}

static void set_node(struct wait *w, const Skep__Node *n, bool gone)
{
    bool down = gone || (n->status != NULL && n->status->state == SKEP__NODE_STATE__NODE_DOWN);
    size_t at = 0;

    while (at < w->down_count && strcmp(w->down[at].s, n->id) != 0)
        at++;
    if (!down && at < w->down_count)
        w->down[at] = w->down[--w->down_count];
    if (down && at == w->down_count) {
        w->down = xrealloc_array(w->down, w->down_count + 1, sizeof(*w->down));
        w->down[w->down_count++] = id_of(n->id);
    }
}

/* ---- which tasks are of the newest spec ---- */

static bool same_message(const ProtobufCMessage *a, const ProtobufCMessage *b)
{
    size_t size = a != NULL ? protobuf_c_message_get_packed_size(a) : 0;
    bool same = size == (b != NULL ? protobuf_c_message_get_packed_size(b) : 0);
    uint8_t *x;
    uint8_t *y;

    if (!same || size == 0)
        return same;
    x = xmalloc(size);
    y = xmalloc(size);
    (void)protobuf_c_message_pack(a, x);
    (void)protobuf_c_message_pack(b, y);
    same = memcmp(x, y, size) == 0;
    free(x);
    free(y);
    return same;
}

/* As the updater's dirty test: a change of placement, labels, replicas or update settings replaces
 * no task. */
static bool specs_agree(const Skep__ServiceSpec *a, const Skep__ServiceSpec *b)
{
    Skep__TaskSpec x;
    Skep__TaskSpec y;

    if (a->task == NULL || b->task == NULL)
        return false;
    x = *a->task;
    y = *b->task;
    x.placement = NULL;
    y.placement = NULL;
    return same_message(&x.base, &y.base) && same_message((const ProtobufCMessage *)a->endpoint,
                                                          (const ProtobufCMessage *)b->endpoint);
}

static bool is_current(struct wait *w, const struct tracked_task *t)
{
    struct arena kept = w->c->arena;
    const Skep__ServiceSpec *spec;
    Skep__Task named = SKEP__TASK__INIT;
    bool current;

    if (w->service->meta == NULL || w->service->meta->spec_version == t->spec_version)
        return true;
    for (size_t i = 0; i < w->verdict_count; i++) {
        if (w->verdicts[i].spec_version == t->spec_version)
            return w->verdicts[i].current;
    }
    named.service_id = (char *)(uintptr_t)w->o->service_id;
    named.spec_version = t->spec_version;
    w->c->arena = (struct arena){ 0 };
    spec = task_spec(w->c, &named, NULL);
    current = spec != NULL && specs_agree(spec, w->service->spec);
    arena_deinit(&w->c->arena);
    w->c->arena = kept;
    w->verdicts = xrealloc_array(w->verdicts, w->verdict_count + 1, sizeof(*w->verdicts));
    w->verdicts[w->verdict_count++] = (struct verdict){ t->spec_version, current };
    return current;
}

/* ---- reading ---- */

static void set_object(struct wait *w, const Skep__Object *o, bool gone)
{
    if (o->object_case == SKEP__OBJECT__OBJECT_TASK)
        set_task(w, o->task, gone);
    else if (o->object_case == SKEP__OBJECT__OBJECT_NODE)
        set_node(w, o->node, gone);
    else if (o->object_case == SKEP__OBJECT__OBJECT_SERVICE && !gone && o->service->spec != NULL)
        set_service(w, o->service);
}

static int watch(struct wait *w, uint64_t since, uint32_t wait_ms, struct arena *a,
                 Skep__WatchResponse **ret, struct err *e)
{
    Skep__Kind kinds[] = { SKEP__KIND__KIND_SERVICE, SKEP__KIND__KIND_TASK, SKEP__KIND__KIND_NODE };
    Skep__WatchRequest body = SKEP__WATCH_REQUEST__INIT;
    struct client_request r = {
        .method = SKEP__METHOD__METHOD_WATCH,
        .body = &body.base,
        .answer = &skep__watch_response__descriptor,
        .wait_ms = since > 0 ? MAX(wait_ms, 1) : 0,
        .grace_ms = since > 0 ? GRACE_MS : 0, /* an answer that is lost comes again with the next */
    };
    ProtobufCMessage *m = NULL;
    int rc;

    body.since = since;
    body.kinds = kinds;
    body.n_kinds = ARRAY_LEN(kinds);
    body.service_id = (char *)(uintptr_t)w->o->service_id;
    body.wait_ms = wait_ms;
    rc = client_call(w->c->client, &r, a, &m, e);
    if (rc == 0)
        *ret = (Skep__WatchResponse *)m;
    return rc;
}

/* Everything anew, from a version on which the next watch can build. */
static int read_all(struct wait *w, struct err *e)
{
    struct arena kept = w->c->arena;
    Skep__ObjectFilter f = SKEP__OBJECT_FILTER__INIT;
    char *ids[1] = { (char *)(uintptr_t)w->o->service_id };
    Skep__WatchResponse *now = NULL;
    Skep__Service *service = NULL;
    struct objects tasks = { 0 };
    struct objects nodes = { 0 };
    int rc;

    f.service_ids = ids;
    f.n_service_ids = 1;
    w->c->arena = (struct arena){ 0 };
    rc = watch(w, 0, 0, &w->c->arena, &now, e);
    if (rc == 0)
        rc = service_get(w->c, w->o->service_id, &service, e);
    if (rc == 0)
        rc = object_list(w->c, SKEP__KIND__KIND_TASK, &f, &tasks, e);
    if (rc == 0)
        rc = object_list(w->c, SKEP__KIND__KIND_NODE, NULL, &nodes, e);
    if (rc == 0) {
        w->version = now->version;
        w->task_count = 0;
        w->down_count = 0;
        set_service(w, service);
        for (size_t i = 0; i < tasks.count; i++)
            set_object(w, tasks.items[i], false);
        for (size_t i = 0; i < nodes.count; i++)
            set_object(w, nodes.items[i], false);
    }
    arena_deinit(&w->c->arena);
    w->c->arena = kept;
    return rc;
}

/* Waits at most wait_ms for changes and takes them over. */
static int read_changes(struct wait *w, uint32_t wait_ms, struct err *e)
{
    CLEANUP_ARENA struct arena scratch = { 0 };
    Skep__WatchResponse *answer = NULL;
    int rc = watch(w, w->version, wait_ms, &scratch, &answer, e);

    if (rc < 0)
        return rc;
    if (answer->resync)
        return read_all(w, e);
    for (size_t i = 0; i < answer->n_events; i++) {
        const Skep__WatchEvent *ev = answer->events[i];
        bool gone = ev->action == SKEP__WATCH_EVENT__ACTION__REMOVE;

        if (ev->object == NULL)
            continue;
        if (gone && ev->object->object_case == SKEP__OBJECT__OBJECT_SERVICE)
            return err_set(e, ERR_NOT_FOUND, "service %.80s was removed", w->o->ref);
        set_object(w, ev->object, gone);
    }
    w->version = answer->version;
    return 0;
}

/* ---- deciding ---- */

static void update_model(struct wait *w)
{
    struct progress_task *tasks = xmalloc((w->task_count + 1) * sizeof(*tasks));

    for (size_t i = 0; i < w->task_count; i++) {
        const struct tracked_task *t = &w->tasks[i];

        tasks[i] = (struct progress_task){
            .id = t->id.s,
            .slot = t->slot,
            .node_id = t->node_id.s,
            .state = t->state,
            .desired = t->desired,
            .error = t->error,
            .current = is_current(w, t),
            .node_down = t->node_id.s[0] != '\0' && is_down(w, t->node_id.s),
            .job_iteration = t->job_iteration,
        };
    }
    progress_update(&w->progress, w->service->spec, w->service->job_iteration, tasks,
                    w->task_count);
    free(tasks);
}

static bool is_job(const struct wait *w)
{
    return w->service->spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB ||
           w->service->spec->mode_case == SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB;
}

/* What the updater says. True when the wait is over with *ret_status. */
static bool check_update_status(struct wait *w, int *ret_status)
{
    const Skep__UpdateStatus *u = w->service->update_status;

    if (u == NULL)
        return false;
    switch (u->state) {
    case SKEP__UPDATE_STATUS__STATE__UPDATING:
        w->progress.rollback = false;
        return false;
    case SKEP__UPDATE_STATUS__STATE__PAUSED:
        *ret_status = ctl_fail(w->c, "service update paused: %s", u->message);
        return true;
    case SKEP__UPDATE_STATUS__STATE__ROLLBACK_PAUSED:
        *ret_status = ctl_fail(w->c, "service rollback paused: %s", u->message);
        return true;
    case SKEP__UPDATE_STATUS__STATE__ROLLBACK_STARTED:
        if (!w->progress.rollback && u->message[0] != '\0')
            screen_say(&w->screen, "rollback", "%s", u->message);
        w->progress.rollback = true;
        return false;
    case SKEP__UPDATE_STATUS__STATE__ROLLBACK_COMPLETED:
        w->progress.rollback = true;
        return false;
    case SKEP__UPDATE_STATUS__STATE__COMPLETED:
    case SKEP__UPDATE_STATUS__STATE__NONE:
    case _SKEP__UPDATE_STATUS__STATE_IS_INT_SIZE:
        break;
    }
    return false;
}

static uint64_t monitor_ms(const struct wait *w)
{
    const Skep__UpdateConfig *u = w->service->spec->update;
    int64_t ns = u != NULL && u->monitor > 0 ? u->monitor : MONITOR_DEFAULT_NS;

    return (uint64_t)(ns / TEXT_NS_PER_MS);
}

/* An update that was undone by itself did not do what was asked: scripts must see it.
 * DEVIATION: docker exits with 0 here. */
static int converged_status(struct wait *w)
{
    const Skep__UpdateStatus *u = w->service->update_status;
    bool rolled_back = u != NULL && (u->state == SKEP__UPDATE_STATUS__STATE__ROLLBACK_COMPLETED ||
                                     u->state == SKEP__UPDATE_STATUS__STATE__ROLLBACK_STARTED);

    screen_say(&w->screen, "verify", "Service %s converged", w->o->service_id);
    if (!rolled_back)
        return 0;
    if (w->o->rollback_asked) {
        if (u->state == SKEP__UPDATE_STATUS__STATE__ROLLBACK_COMPLETED)
            screen_say(&w->screen, "rollback", "%s", u->message);
        return 0;
    }
    return ctl_fail(w->c, "service rolled back: %s", u->message);
}

/* Shows where things stand. True when the wait is over with *ret_status; else *ret_wait_ms is how
 * long nothing needs to be done unless something changes. */
static bool look(struct wait *w, uint32_t *ret_wait_ms, int *ret_status)
{
    uint64_t now = client_now_ms(w->c->client);
    uint64_t passed;

    *ret_wait_ms = WATCH_MS;
    if (check_update_status(w, ret_status))
        return true;
    update_model(w);
    for (size_t i = 0; i < w->progress.line_count; i++)
        screen_set(&w->screen, &w->progress.lines[i]);
    if (!w->progress.converged) {
        if (w->converged_ms != 0)
            screen_say(&w->screen, "verify", "Detected task failure");
        w->converged_ms = 0;
        return false;
    }
    if (is_job(w)) {
        if (!w->screen.quiet)
            (void)fprintf(w->c->out, "job complete\n");
        *ret_status = 0;
        return true;
    }
    if (w->converged_ms == 0)
        w->converged_ms = now;
    passed = now - w->converged_ms;
    if (passed >= monitor_ms(w)) {
        *ret_status = converged_status(w);
        return true;
    }
    screen_say(&w->screen, "verify",
               "Waiting %" PRIu64 " seconds to verify that tasks are stable...",
               (monitor_ms(w) - passed + SECOND_MS - 1) / SECOND_MS);
    *ret_wait_ms = (uint32_t)MAX((monitor_ms(w) - passed) % SECOND_MS, 1);
    if (*ret_wait_ms == 1 && monitor_ms(w) - passed >= SECOND_MS)
        *ret_wait_ms = SECOND_MS;
    return false;
}

/* --wait-timeout has passed: say what is missing. */
static int timed_out(struct wait *w)
{
    char text[TEXT_SHORT_MAX];

    (void)ctl_fail(
        w->c, "service %s did not converge within %s: %" PRIu64 " out of %" PRIu64 " tasks running",
        w->o->ref, text_format_duration(text, w->o->timeout_ns), w->progress.running,
        w->progress.wanted);
    for (size_t i = 0; i < w->task_count; i++) {
        const struct tracked_task *t = &w->tasks[i];

        if (t->desired > SKEP__TASK_STATE__TASK_RUNNING ||
            (t->state == SKEP__TASK_STATE__TASK_RUNNING && is_current(w, t)))
            continue;
        (void)fprintf(w->c->err, "  %s.%" PRIu64 " %.12s: %s%s%s%s\n", service_name(w->service),
                      t->slot, t->id.s, text_task_state(t->state),
                      is_current(w, t) ? "" : " (of an older spec)",
                      t->error[0] != '\0' ? ": " : "", t->error);
    }
    return CMD_EXIT_FAILED;
}

static int interrupted(struct wait *w)
{
    if (w->progress.converged)
        return 0;
    (void)fprintf(w->c->out,
                  "Operation continuing in background.\nUse `ctl service ps %s` to check "
                  "progress.\n",
                  w->o->ref);
    return 0;
}

/* Reads until something changes or wait_ms pass. A cluster that is electing a leader and a manager
 * that is restarting are waited for, but not beyond end_ms. */
static int next(struct wait *w, uint32_t wait_ms, uint64_t end_ms, struct err *e)
{
    uint64_t until = MIN(client_now_ms(w->c->client) + OUTAGE_MS, end_ms);

    for (;;) {
        int rc = w->version == 0 ? read_all(w, e) : read_changes(w, wait_ms, e);

        if (rc != -ERR_UNAVAILABLE && rc != -ERR_NOT_LEADER && rc != -ERR_TIMEOUT &&
            rc != -ERR_STALE)
            return rc;
        if (rc == -ERR_TIMEOUT && w->version != 0)
            return 0; /* nothing changed for as long as we were ready to wait */
        if (client_now_ms(w->c->client) >= until || w->version == 0)
            return rc;
        screen_say(&w->screen, "overall progress", "no answer from the managers, trying again");
        rc = client_sleep(w->c->client, RETRY_MS, e);
        if (rc < 0)
            return rc;
    }
}

static int run(struct wait *w, struct err *e)
{
    uint64_t end_ms = w->o->timeout_ns > 0
                          ? w->started_ms + (uint64_t)(w->o->timeout_ns / TEXT_NS_PER_MS)
                          : UINT64_MAX;
    uint32_t wait_ms = 0;
    int status = 0;

    for (;;) {
        uint64_t now;
        int rc = next(w, wait_ms, end_ms, e);

        if (rc == -ERR_CANCELED)
            return interrupted(w);
        if (rc < 0 && rc != -ERR_NOT_FOUND)
            (void)interrupted(w);
        if (rc < 0)
            return ctl_error(w->c, rc, e);
        if (look(w, &wait_ms, &status))
            return status;
        now = client_now_ms(w->c->client);
        if (now >= end_ms)
            return timed_out(w);
        wait_ms = (uint32_t)MIN(wait_ms, MAX(end_ms - now, 1));
    }
}

int progress_wait(struct ctl *c, const struct progress_options *o)
{
    struct wait w = { .c = c, .o = o };
    struct err e = { 0 };
    int status;

    w.screen = (struct screen){
        .out = c->out,
        .tty = c->out_tty,
        .quiet = o->quiet,
        .columns = c->columns,
    };
    (void)fflush(c->out);
    client_catch_interrupt(c->client);
    w.started_ms = client_now_ms(c->client);
    status = run(&w, &e);
    progress_deinit(&w.progress);
    arena_deinit(&w.service_arena);
    free(w.tasks);
    free(w.down);
    free(w.verdicts);
    return status;
}
