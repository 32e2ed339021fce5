/* A worker without a thread: a job runs when the simulator says so. */
#include "common/worker.h"

#include <stdlib.h>

#include "common/assert.h"
#include "test/sim/link/link.h"

struct job {
    struct job *next;
    worker_run_fn *run;
    worker_done_fn *done;
    void *ctx, *job;
};

struct worker {
    struct job *first, **end;
    uint32_t count, count_max;
};

struct worker *worker_new(const char *name, struct inbox *in, uint32_t job_count_max, struct err *e)
{
    struct worker *w = xcalloc(1, sizeof(*w));

    (void)name;
    (void)in;
    (void)e;
    w->end = &w->first;
    w->count_max = job_count_max;
    return w;
}

void worker_free(struct worker *w)
{
    if (w == NULL)
        return;
    for (struct job *j; (j = w->first) != NULL; free(j))
        w->first = j->next;
    free(w);
}

int worker_submit(struct worker *w, worker_run_fn *run, worker_done_fn *done, void *ctx, void *job)
{
    struct job *j;

    if (w->count == w->count_max)
        return -ERR_BUSY;
    j = xmalloc(sizeof(*j));
    *j = (struct job){ .run = run, .done = done, .ctx = ctx, .job = job };
    *w->end = j;
    w->end = &j->next;
    w->count++;
    return 0;
}

bool link_worker_busy(const struct worker *w)
{
    return w->first != NULL;
}

static struct job take(struct worker *w)
{
    struct job *j = w->first, copy;

    ASSERT(j != NULL);
    copy = *j;
    w->first = j->next;
    if (w->first == NULL)
        w->end = &w->first;
    w->count--;
    free(j);
    return copy;
}

void link_worker_run(struct worker *w)
{
    struct job j = take(w);

    j.run(j.job);
    j.done(j.ctx, j.job);
}

void link_worker_run_and_die(struct worker *w)
{
    struct job j = take(w);

    j.run(j.job);
}
