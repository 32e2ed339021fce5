/* service logs: a subscription at the manager, read by blocking queries. */
#include <inttypes.h>
#include <string.h>

#include "common/text.h"
#include "ctl/objects.h"

enum { READ_WAIT_MS = 10 * 1000, LOST_RETRIES = 3 };

struct source {
    const char *id;    /* of a task */
    const char *label; /* "web.1.abc@node" */
};

struct logs {
    struct ctl *c;
    const Skep__Service *service;
    const Skep__Task *task; /* set when a task was named */
    struct objects nodes;
    struct source *sources;
    size_t source_count;
    size_t width; /* of the widest label, for the bars to align */
    bool tty;     /* raw bytes of a terminal: no decoration */
};

/* ---- labels ---- */

static const char *node_label(struct logs *l, const char *node_id)
{
    const Skep__Node *n;

    if (flags_bool(l->c->flags, "no-resolve"))
        return node_id;
    if (l->nodes.count == 0 && object_list(l->c, SKEP__KIND__KIND_NODE, NULL, &l->nodes, NULL) < 0)
        return node_id;
    n = objects_node(&l->nodes, node_id);
    return n != NULL ? node_name(n) : node_id;
}

/* What a label is made of. */
struct origin {
    const char *service_id;
    const char *task_id;
    const char *node_id;
    uint64_t slot;
};

static const char *make_label(struct logs *l, const struct origin *o)
{
    struct ctl *c = l->c;
    bool resolve = !flags_bool(c->flags, "no-resolve");
    const char *id =
        flags_bool(c->flags, "no-trunc") ? o->task_id : id_short(&c->arena, o->task_id);
    const char *service = resolve && l->service != NULL ? service_name(l->service) : o->service_id;
    const char *node = node_label(l, o->node_id);

    if (flags_bool(c->flags, "no-task-ids"))
        return arena_printf(&c->arena, "%s.%" PRIu64 "@%s", service, o->slot, node);
    return arena_printf(&c->arena, "%s.%" PRIu64 ".%s@%s", service, o->slot, id, node);
}

static const char *add_source(struct logs *l, const struct origin *o)
{
    struct arena *a = &l->c->arena;
    struct source *s;

    if ((l->source_count & (l->source_count - 1)) == 0) {
        struct source *grown = arena_array(a, MAX(l->source_count * 2, 1), sizeof(*grown));

        if (l->source_count > 0)
            memcpy(grown, l->sources, l->source_count * sizeof(*grown));
        l->sources = grown;
    }
    s = &l->sources[l->source_count++];
    s->id = arena_strdup(a, o->task_id);
    s->label = make_label(l, o);
    l->width = MAX(l->width, text_width(s->label));
    return s->label;
}

static const char *label_of(struct logs *l, const Skep__LogMessage *m)
{
    struct origin origin = { m->service_id, m->task_id, m->node_id, 0 };
    Skep__Object *o = NULL;

    for (size_t i = 0; i < l->source_count; i++) {
        if (strcmp(l->sources[i].id, m->task_id) == 0)
            return l->sources[i].label;
    }
    if (object_get(l->c, SKEP__KIND__KIND_TASK, m->task_id, &o, NULL) == 0 &&
        o->object_case == SKEP__OBJECT__OBJECT_TASK)
        origin.slot = o->task->slot;
    return add_source(l, &origin);
}

/* ---- lines ---- */

static void print_message(struct logs *l, const Skep__LogMessage *m)
{
    struct ctl *c = l->c;
    FILE *out = m->is_stderr ? c->err : c->out;
    bool raw = flags_bool(c->flags, "raw");
    char time[TEXT_TIME_MAX];
    const char *label = raw || l->tty ? "" : label_of(l, m);

    if (m->is_stderr)
        (void)fflush(c->out); /* lines of both streams keep their order on a terminal */
    if (l->tty) {
        (void)fwrite(m->data.data, 1, m->data.len, out);
        return;
    }
    if (flags_bool(c->flags, "timestamps"))
        (void)fprintf(out, "%s ", text_format_time(time, m->timestamp));
    if (!raw)
        (void)fprintf(out, "%s%*s    | ", label, (int)(l->width - text_width(label)), "");
    if (flags_bool(c->flags, "details"))
        (void)fprintf(out,
                      "com.docker.swarm.node.id=%s,com.docker.swarm.service.id=%s,"
                      "com.docker.swarm.task.id=%s ",
                      m->node_id, m->service_id, m->task_id);
    (void)fwrite(m->data.data, 1, m->data.len, out);
    (void)fputc('\n', out);
}

static void print_notes(struct logs *l, const Skep__LogsReadResponse *r)
{
    (void)fflush(l->c->out);
    for (size_t i = 0; i < r->n_warnings; i++)
        (void)fprintf(l->c->err, "warning: incomplete log stream: %s\n", r->warnings[i]);
    if (r->dropped > 0)
        (void)fprintf(l->c->err, "warning: %" PRIu64 " messages were lost: ctl read too slowly\n",
                      r->dropped);
}

/* ---- reading ---- */

static int read_some(struct logs *l, const char *id, bool *ret_done, struct err *e)
{
    CLEANUP_ARENA struct arena scratch = { 0 };
    Skep__LogsReadRequest body = SKEP__LOGS_READ_REQUEST__INIT;
    struct client_request r = {
        .method = SKEP__METHOD__METHOD_LOGS_READ,
        .body = &body.base,
        .answer = &skep__logs_read_response__descriptor,
        .wait_ms = READ_WAIT_MS,
    };
    ProtobufCMessage *m = NULL;
    const Skep__LogsReadResponse *answer;
    int rc;

    body.subscription_id = arena_strdup(&scratch, id);
    body.wait_ms = READ_WAIT_MS;
    rc = client_call(l->c->client, &r, &scratch, &m, e);
    if (rc < 0)
        return rc;
    answer = (const Skep__LogsReadResponse *)m;
    for (size_t i = 0; i < answer->n_messages; i++)
        print_message(l, answer->messages[i]);
    print_notes(l, answer);
    *ret_done = answer->done;
    return fflush(l->c->out) == 0 ? 0 : err_set(e, ERR_IO, "cannot write the output");
}

static int parse_since(struct ctl *c, int64_t *ret, struct err *e)
{
    const char *since = flags_string(c->flags, "since");
    int64_t ago;

    if (since[0] == '\0')
        return 0;
    if (text_parse_duration(since, &ago, NULL) == 0 && strcmp(since, "0") != 0) {
        *ret = c->now_ns - ago;
        return 0;
    }
    if (text_parse_time(since, ret, e) < 0)
        return err_wrap(e, -ERR_INVALID, "--since");
    return 0;
}

static int parse_tail(struct ctl *c, int64_t *ret, struct err *e)
{
    const char *tail = flags_string(c->flags, "tail");

    *ret = -1;
    if (strcmp(tail, "all") == 0)
        return 0;
    if (text_parse_i64(tail, ret, NULL) < 0)
        return err_set(e, ERR_INVALID, "invalid --tail \"%.40s\": use a number or all", tail);
    if (*ret < 0)
        *ret = -1;
    return 0;
}

static int open_logs(struct logs *l, const char **ret_id, struct err *e)
{
    Skep__LogsOpenRequest body = SKEP__LOGS_OPEN_REQUEST__INIT;
    struct client_request r = {
        .method = SKEP__METHOD__METHOD_LOGS_OPEN,
        .body = &body.base,
        .answer = &skep__logs_open_response__descriptor,
    };
    char *ids[1];
    ProtobufCMessage *m = NULL;
    int rc = parse_since(l->c, &body.since, e);

    if (rc == 0)
        rc = parse_tail(l->c, &body.tail, e);
    if (rc < 0)
        return rc;
    ids[0] = l->task != NULL ? l->task->id : l->service->id;
    if (l->task != NULL) {
        body.n_task_ids = 1;
        body.task_ids = ids;
    } else {
        body.n_service_ids = 1;
        body.service_ids = ids;
    }
    body.follow = flags_bool(l->c->flags, "follow");
    rc = ctl_call(l->c, &r, &m, e);
    if (rc == 0)
        *ret_id = ((Skep__LogsOpenResponse *)m)->subscription_id;
    return rc;
}

/* A service, else a task by id. */
static int find_target(struct logs *l, const char *ref, struct err *e)
{
    Skep__Service *s = NULL;
    Skep__Object *o = NULL;
    int rc = service_get(l->c, ref, &s, e);

    if (rc == -ERR_NOT_FOUND) {
        rc = object_get(l->c, SKEP__KIND__KIND_TASK, ref, &o, e);
        if (rc == -ERR_NOT_FOUND)
            return err_set(e, ERR_NOT_FOUND, "no such task or service: %.80s", ref);
        if (rc < 0)
            return rc;
        l->task = o->task;
        if (service_get(l->c, l->task->service_id, &s, NULL) < 0)
            s = NULL;
    } else if (rc < 0) {
        return rc;
    }
    l->service = s;
    l->tty = s != NULL && s->spec->task != NULL && s->spec->task->container != NULL &&
             s->spec->task->container->tty;
    return 0;
}

/* Labels are as wide as the one with the most digits will be, so that bars align from the start. */
static void guess_width(struct logs *l)
{
    const Skep__ServiceSpec *spec = l->service != NULL ? l->service->spec : NULL;
    struct objects tasks = { 0 };
    Skep__ObjectFilter f = SKEP__OBJECT_FILTER__INIT;
    char *ids[1];

    if (spec == NULL || l->task != NULL || l->tty || flags_bool(l->c->flags, "raw"))
        return;
    ids[0] = l->service->id;
    f.service_ids = ids;
    f.n_service_ids = 1;
    if (object_list(l->c, SKEP__KIND__KIND_TASK, &f, &tasks, NULL) < 0)
        return;
    for (size_t i = 0; i < tasks.count; i++) {
        const Skep__Task *t = tasks.items[i]->task;

        if (tasks.items[i]->object_case == SKEP__OBJECT__OBJECT_TASK && t->node_id[0] != '\0')
            (void)add_source(l, &(struct origin){ t->service_id, t->id, t->node_id, t->slot });
    }
}

int service_logs(struct ctl *c)
{
    struct logs l = { .c = c };
    const char *id = "";
    struct err e = { 0 };
    bool done = false;
    int rc;

    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    rc = find_target(&l, flags_arg(c->flags, 0), &e);
    if (rc == 0) {
        guess_width(&l);
        rc = open_logs(&l, &id, &e);
    }
    for (int lost = 0; rc == 0 && !done;) {
        rc = read_some(&l, id, &done, &e);
        if (rc == -ERR_TIMEOUT && lost++ < LOST_RETRIES)
            rc = 0;
        else if (rc == 0)
            lost = 0;
    }
    return rc < 0 ? ctl_error(c, rc, &e) : 0;
}
