/* One pull per image at a time, whatever the number of tasks that want it; its result also serves
 * those that come a little later. As in swarm an image named by tag is pulled for every task, and a
 * failed pull is forgiven when the image is here already. */
#include "agentd/executor.h"

#include <stdlib.h>
#include <string.h>

#include "agentd/docker/image.h"
#include "agentd/worker/plain.h"
#include "common/assert.h"
#include "common/log.h"

struct pull {
    struct pull *next;
    struct agent *ag;
    char full[IMAGE_REPO_BYTES_MAX + IMAGE_TAG_BYTES_MAX];
    char *auth;
    struct image_pull *call; /* NULL: ended */
    struct job *waiting;
    uint64_t ended_ms;
    int rc;
    struct err why;
};

static const char *auth_of(const struct job *j)
{
    return j->entry->assignment->registry_auth;
}

static void pull_free(struct pull *p)
{
    struct pull **at = &p->ag->executor.pulls;

    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    image_pull_cancel(p->call);
    xfree_secret(p->auth, strlen(p->auth));
    free(p);
}

/* What the pull came to, for one task. */
static void job_end_pulled(struct job *j, const struct pull *p)
{
    char text[TASK_ERROR_BYTES_MAX], quotable[PLAIN_QUOTABLE_MAX];

    if (p->rc < 0 && j->error[0] == '\0') {
        log_info("image.kept", "task=%s image=%s reason=\"%s\"", j->entry->id, p->full,
                 plain_quotable(quotable, p->why.message));
    } else if (p->rc == -ERR_UNAVAILABLE) {
        job_end(j, TASK_RESULT_RETRY, p->why.message);
        return;
    } else if (p->rc < 0) {
        plain_format(text, sizeof(text), "%s: %s", j->error, p->why.message);
        job_end(j, TASK_RESULT_FATAL, text);
        return;
    }
    job_end(j, TASK_RESULT_OK, "");
}

static void pull_ended(void *ctx, int rc, const struct err *why)
{
    struct pull *p = ctx;

    p->call = NULL;
    p->rc = rc;
    p->why = *why;
    p->ended_ms = loop_now_ms(p->ag->loop);
    if (rc == 0)
        log_info("image.pulled", "image=%s", p->full);
    while (p->waiting != NULL) {
        struct job *j = p->waiting;

        p->waiting = j->next;
        j->pull = NULL;
        job_end_pulled(j, p);
    }
}

void pull_leave(struct job *j)
{
    struct pull *p = j->pull;
    struct job **at;

    if (p == NULL)
        return;
    at = &p->waiting;
    while (*at != j) {
        ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = j->next;
    j->pull = NULL;
    if (p->waiting == NULL && p->call != NULL)
        pull_free(p);
}

void pulls_free(struct agent *ag)
{
    while (ag->executor.pulls != NULL)
        pull_free(ag->executor.pulls);
}

/* The pull of this image under way or just ended; older results are forgotten on the way. */
static struct pull *pull_find(struct job *j, const char *full)
{
    uint64_t now_ms = loop_now_ms(j->ag->loop);
    struct pull *p = j->ag->executor.pulls, *next, *found = NULL;

    for (; p != NULL; p = next) {
        next = p->next;
        if (p->call == NULL && now_ms > p->ended_ms + EXECUTOR_PULL_KEEP_MS)
            pull_free(p);
        else if (strcmp(p->full, full) == 0 && strcmp(p->auth, auth_of(j)) == 0)
            found = p;
    }
    return found;
}

static void job_join_pull(struct job *j, const struct image_ref *ref, const char *full)
{
    struct pull *p = pull_find(j, full);

    if (p != NULL && p->call == NULL) {
        job_end_pulled(j, p);
        return;
    }
    if (p == NULL) {
        p = xcalloc(1, sizeof(*p));
        p->ag = j->ag;
        p->auth = xstrdup(auth_of(j));
        plain_format(p->full, sizeof(p->full), "%s", full);
        p->next = j->ag->executor.pulls;
        j->ag->executor.pulls = p;
        p->call = image_pull_start(j->ag->engine, ref, p->auth, pull_ended, p);
        if (p->call == NULL) {
            pull_free(p);
            job_end(j, TASK_RESULT_RETRY, "engine is not reachable");
            return;
        }
    }
    j->pull = p;
    j->next = p->waiting;
    p->waiting = j;
}

/* j->error is what to say when the image cannot be had; "" when it is here. */
static void image_looked(void *ctx, const struct engine_response *r)
{
    struct job *j = ctx;
    const char *image = j->entry->assignment->spec->task->container->image;
    struct image_ref ref;
    char full[IMAGE_REPO_BYTES_MAX + IMAGE_TAG_BYTES_MAX];
    bool present = r->status == 200;

    if (!job_answered(j, r))
        return;
    if (image_ref_parse(image, &ref, NULL) < 0)
        UNREACHABLE(); /* job_pull() has parsed it */
    image_ref_full(image, &ref, full, sizeof(full));
    if (r->status != 200 && r->status != 404) {
        job_end(j, TASK_RESULT_RETRY, r->err.message);
        return;
    }
    if (present && (ref.by_digest || j->ag->o.pull == AGENT_PULL_MISSING)) {
        job_end(j, TASK_RESULT_OK, "");
        return;
    }
    if (!present)
        plain_format(j->error, sizeof(j->error), "No such image: %s", full);
    if (ref.is_id)
        job_end(j, TASK_RESULT_FATAL, j->error);
    else
        job_join_pull(j, &ref, full);
}

void job_pull(struct job *j)
{
    const Skep__TaskAssignment *a = j->entry->assignment;
    struct image_ref ref;
    char full[IMAGE_REPO_BYTES_MAX + IMAGE_TAG_BYTES_MAX];
    struct err e = { 0 };

    if (a->spec == NULL || a->spec->task == NULL || a->spec->task->container == NULL) {
        job_end(j, TASK_RESULT_FATAL, "assignment without a container specification");
        return;
    }
    if (image_ref_parse(a->spec->task->container->image, &ref, &e) < 0) {
        job_end(j, TASK_RESULT_FATAL, e.message);
        return;
    }
    image_ref_full(a->spec->task->container->image, &ref, full, sizeof(full));
    job_sent(j, image_inspect(j->ag->engine, full, job_reply(j, image_looked), &e), &e);
}
