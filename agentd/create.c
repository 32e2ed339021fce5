/* Creating a container: plan, check of the user's host paths (on the blocking thread: a dead
 * network file system must not stop heartbeats), files, networks of the engine, volumes, the
 * container itself. Every step
 * may be repeated: the container's name holds the task's id, so the engine keeps it unique. */
#include "agentd/executor.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agentd/files.h"
#include "agentd/worker/plain.h"
#include "common/log.h"

/* ---- host paths ---- */

struct bind_check {
    struct container_plan *plan;
    const struct agent_options *o;
    char error[TASK_ERROR_BYTES_MAX];
};

/* True when path is dir or lies below it. Both are absolute and resolved. */
static bool is_within(const char *path, const char *dir)
{
    size_t size = strlen(dir);

    if (strcmp(dir, "/") == 0)
        return true;
    return strncmp(path, dir, size) == 0 && (path[size] == '\0' || path[size] == '/');
}

/* Whoever has the engine's socket has the host; whoever has our directories has the node's key. */
static bool gives_access(const char *source, const struct agent_options *o)
{
    const char *const guarded[] = { o->engine_socket, o->state_dir, o->run_dir };

    for (size_t i = 0; i < ARRAY_LEN(guarded); i++) {
        CLEANUP_FREE char *real = realpath(guarded[i], NULL);
        const char *path = real == NULL ? guarded[i] : real;

        if (is_within(path, source) || is_within(source, path))
            return true;
    }
    return false;
}

/* mkdir -p; what exists stays as it is. */
static int make_path(const char *path)
{
    CLEANUP_FREE char *copy = xstrdup(path);

    for (char *at = copy + 1; *at != '\0'; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        if (mkdir(copy, 0755) < 0 && errno != EEXIST)
            return -1;
        *at = '/';
    }
    return mkdir(copy, 0755) < 0 && errno != EEXIST ? -1 : 0;
}

static void check_bind(struct bind_check *c, const struct container_bind *b)
{
    CLEANUP_FREE char *real = NULL;

    if (b->create && make_path(b->source) < 0) {
        plain_format(c->error, sizeof(c->error), "bind source %s cannot be created: %s", b->source,
                     strerror(errno));
        return;
    }
    real = realpath(b->source, NULL);
    if (real == NULL)
        plain_format(c->error, sizeof(c->error),
                     "invalid mount config for type \"bind\": bind source path does not exist: %s",
                     b->source);
    else if (!c->o->allow_engine_access && gives_access(real, c->o))
        plain_format(c->error, sizeof(c->error),
                     "bind mount of %s is not allowed on this node: it gives access to the engine "
                     "or the agent (see agentd --allow-engine-access)",
                     b->source);
}

static void check_run(void *job)
{
    struct bind_check *c = job;

    for (size_t i = 0; i < c->plan->bind_count && c->error[0] == '\0'; i++)
        check_bind(c, &c->plan->binds[i]);
}

static void create_files(struct job *j);

static void check_done(void *ctx, void *job)
{
    struct job *j = ctx;
    struct bind_check *c = job;

    if (c->error[0] != '\0')
        job_end(j, TASK_RESULT_FATAL, c->error);
    else
        create_files(j);
}

static int blocking_start(struct agent *ag, struct err *e)
{
    struct executor *ex = &ag->executor;

    if (ex->inbox == NULL)
        ex->inbox = inbox_new(ag->loop, EXECUTOR_CHECKS_MAX + 1, e);
    if (ex->inbox != NULL && ex->blocking == NULL)
        ex->blocking = worker_new("agent-paths", ex->inbox, EXECUTOR_CHECKS_MAX, e);
    return ex->blocking == NULL ? -ERR_IO : 0;
}

static void create_check(struct job *j)
{
    struct err e = { 0 };
    int rc;

    if (j->plan.bind_count == 0) {
        create_files(j);
        return;
    }
    rc = blocking_start(j->ag, &e);
    if (rc < 0) {
        job_end(j, TASK_RESULT_RETRY, err_message(&e, rc));
        return;
    }
    j->check = xcalloc(1, sizeof(*j->check));
    j->check->plan = &j->plan;
    j->check->o = &j->ag->o;
    rc = worker_submit(j->ag->executor.blocking, check_run, check_done, j, j->check);
    if (rc < 0)
        job_end(j, TASK_RESULT_RETRY, "checks of other mounts' host paths do not come to an end");
}

/* ---- files ---- */

static bool content_of(const struct roster *r, const struct container_file *f,
                       struct files_content *ret)
{
    if (f->is_secret) {
        const Skep__Secret *s = roster_secret(r, f->object_id);

        if (s == NULL || s->spec == NULL)
            return false;
        *ret = (struct files_content){ s->spec->data.data, s->spec->data.len };
    } else {
        const Skep__Config *c = roster_config(r, f->object_id);

        if (c == NULL || c->spec == NULL)
            return false;
        *ret = (struct files_content){ c->spec->data.data, c->spec->data.len };
    }
    return true;
}

static void create_files(struct job *j)
{
    CLEANUP_FREE struct files_content *contents =
        xcalloc(j->plan.file_count + 1, sizeof(*contents));
    struct err e = { 0 };
    char text[TASK_ERROR_BYTES_MAX];

    for (size_t i = 0; i < j->plan.file_count; i++) {
        const struct container_file *f = &j->plan.files[i];

        if (content_of(&j->ag->roster, f, &contents[i]))
            continue;
        plain_format(text, sizeof(text), "%s %s has not arrived",
                     f->is_secret ? "secret" : "config", f->object_id);
        job_end(j, TASK_RESULT_RETRY, text);
        return;
    }
    if (files_write(j->ag->files_dir, j->entry->id, &j->plan, contents, &e) < 0) {
        job_end(j, TASK_RESULT_FATAL, e.message);
        return;
    }
    job_make_networks(j);
}

/* ---- volumes ---- */

static void create_container(struct job *j);

static void volume_created(void *ctx, const struct engine_response *r)
{
    struct job *j = ctx;

    if (!job_answered(j, r))
        return;
    if (r->status >= 400) {
        job_end(j, TASK_RESULT_FATAL, r->err.message);
        return;
    }
    j->volumes_done++;
    job_create_volumes(j);
}

void job_create_volumes(struct job *j)
{
    struct err e = { 0 };

    if (j->volumes_done == j->plan.volume_count) {
        create_container(j);
        return;
    }
    job_sent(j,
             volume_create(j->ag->engine, j->plan.volumes[j->volumes_done],
                           job_reply(j, volume_created), &e),
             &e);
}

/* ---- the container ---- */

/* The name is taken: by this task's own container if an earlier create's answer was lost. */
static void name_looked(void *ctx, const struct engine_response *r)
{
    struct job *j = ctx;
    struct err e = { 0 };
    bool foreign;

    if (!job_answered(j, r))
        return;
    if (job_take_facts(j, r, j->plan.name, &foreign, &e) < 0)
        job_end(j, TASK_RESULT_RETRY, e.message);
    else if (foreign)
        job_end(j, TASK_RESULT_FATAL, "the container's name is in use by something else");
    else if (j->facts.phase == CONTAINER_ABSENT)
        job_end(j, TASK_RESULT_RETRY, "the engine says both that the name is in use and is not");
    else
        job_end(j, TASK_RESULT_OK, "");
}

static void created(void *ctx, const struct engine_response *r)
{
    struct job *j = ctx;
    struct err e = { 0 };

    if (!job_answered(j, r))
        return;
    if (r->status == 409) {
        job_sent(j, container_inspect(j->ag->engine, j->plan.name, job_reply(j, name_looked), &e),
                 &e);
        return;
    }
    if (r->status >= 400) {
        job_end(j, TASK_RESULT_FATAL, r->err.message);
        return;
    }
    if (container_parse_created(r, j->facts.id, &e) < 0) {
        job_end(j, TASK_RESULT_RETRY, e.message);
        return;
    }
    j->facts.phase = CONTAINER_CREATED;
    j->has_facts = true;
    job_end(j, TASK_RESULT_OK, "");
}

static void create_container(struct job *j)
{
    struct err e = { 0 };

    job_sent(j,
             container_create(j->ag->engine, j->plan.name, j->plan.body, job_reply(j, created), &e),
             &e);
}

/* ---- the plan ---- */

static void create_planned(struct job *j, const struct container_overlay *overlay)
{
    CLEANUP_FREE char *dir = files_task_dir(j->ag->files_dir, j->entry->id);
    struct container_node node;
    struct err e = { 0 };

    agent_node(j->ag, &node);
    node.files_dir = dir;
    node.overlay = overlay;
    if (container_plan_make(j->entry->assignment, &node, &j->plan, &e) < 0)
        job_end(j, TASK_RESULT_FATAL, e.message);
    else
        create_check(j);
}

static void create_with_overlay(struct job *j)
{
    char servers[NET_NAMESERVERS_MAX][IP_CHARS + 1];
    const char *list[NET_NAMESERVERS_MAX];
    struct container_overlay overlay = {
        .gate_program = j->ag->networks.gate_program,
        .entrypoint = j->image.entrypoint,
        .entrypoint_count = j->image.entrypoint_count,
        .cmd = j->image.cmd,
        .cmd_count = j->image.cmd_count,
        .nameservers = list,
    };
    struct err e = { 0 };
    int rc = networks_of_task(j->ag, j->entry, servers, &overlay.nameserver_count, &e);

    if (rc < 0) {
        j->for_networks = true;
        job_end(j, rc == -ERR_UNAVAILABLE ? TASK_RESULT_RETRY : TASK_RESULT_FATAL, e.message);
        return;
    }
    for (size_t i = 0; i < overlay.nameserver_count; i++)
        list[i] = servers[i];
    create_planned(j, &overlay);
}

static void image_looked(void *ctx, const struct engine_response *r)
{
    struct job *j = ctx;
    struct err e = { 0 };

    if (!job_answered(j, r))
        return;
    if (r->status == 200 && image_parse_config(r, &j->image, &e) == 0)
        create_with_overlay(j);
    else if (r->status == 404)
        job_end(j, TASK_RESULT_FATAL, r->err.message);
    else
        job_end(j, TASK_RESULT_RETRY, r->status == 200 ? e.message : r->err.message);
}

/* The gate replaces the image's entrypoint, so that has to be known. */
void job_create(struct job *j)
{
    const Skep__TaskAssignment *a = j->entry->assignment;
    struct image_ref ref;
    char full[IMAGE_REPO_BYTES_MAX + IMAGE_TAG_BYTES_MAX];
    struct err e = { 0 };

    if (!networks_has_overlay(a) || a->spec == NULL || a->spec->task == NULL ||
        a->spec->task->container == NULL) {
        create_planned(j, NULL);
        return;
    }
    if (image_ref_parse(a->spec->task->container->image, &ref, &e) < 0) {
        job_end(j, TASK_RESULT_FATAL, e.message);
        return;
    }
    image_ref_full(a->spec->task->container->image, &ref, full, sizeof(full));
    job_sent(j, image_inspect(j->ag->engine, full, job_reply(j, image_looked), &e), &e);
}
