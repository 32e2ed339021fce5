#include "common/worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/assert.h"

struct job {
    struct job *next;
    worker_run_fn *run;
    worker_done_fn *done;
    void *ctx, *job;
};

struct queue {
    struct job *first, **end;
};

struct worker {
    struct inbox *inbox;
    pthread_t thread;
    worker_drop_fn *drop;
    uint32_t job_count, job_count_max; /* loop thread */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. */
    struct queue waiting;
    struct queue finished; /* run, posted, not yet delivered; in posting order */
    bool running, stopping;
};

static void queue_init(struct queue *q)
{
    q->first = NULL;
    q->end = &q->first;
}

static void queue_push(struct queue *q, struct job *j)
{
    j->next = NULL;
    *q->end = j;
    q->end = &j->next;
}

static struct job *queue_pop(struct queue *q)
{
    struct job *j = q->first;

    if (j == NULL)
        return NULL;
    q->first = j->next;
    if (q->first == NULL)
        q->end = &q->first;
    return j;
}

static void on_finished(void *ctx, void *arg)
{
    struct worker *w = ctx;

    (void)arg;
    (void)pthread_mutex_lock(&w->lock);
    struct job *j = queue_pop(&w->finished);
    (void)pthread_mutex_unlock(&w->lock);
    ASSERT(j != NULL);
    ASSERT(w->job_count > 0);
    w->job_count--;
    struct job copy = *j;
    free(j);
    copy.done(copy.ctx, copy.job); /* may free w */
}

static void *thread_main(void *arg)
{
    struct worker *w = arg;

    (void)pthread_mutex_lock(&w->lock);
    for (;;) {
        while (w->waiting.first == NULL && !w->stopping)
            (void)pthread_cond_wait(&w->changed, &w->lock);
        if (w->stopping)
            break;
        struct job *j = queue_pop(&w->waiting);
        w->running = true;
        (void)pthread_mutex_unlock(&w->lock);
        j->run(j->job);
        (void)pthread_mutex_lock(&w->lock);
        w->running = false;
        queue_push(&w->finished, j);
        inbox_post(w->inbox, on_finished, w, NULL);
        (void)pthread_cond_broadcast(&w->changed);
    }
    (void)pthread_mutex_unlock(&w->lock);
    return NULL;
}

struct worker *worker_new(const char *name, struct inbox *in, uint32_t job_count_max, struct err *e)
{
    struct worker *w = xcalloc(1, sizeof(*w));
    sigset_t all, before;

    ASSERT(job_count_max > 0);
    w->inbox = in;
    w->job_count_max = job_count_max;
    queue_init(&w->waiting);
    queue_init(&w->finished);
    ASSERT(pthread_mutex_init(&w->lock, NULL) == 0);
    ASSERT(pthread_cond_init(&w->changed, NULL) == 0);
    /* Signals belong to the main thread. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&w->thread, NULL, thread_main, w);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        (void)err_errno(e, failed, "start thread %s", name);
        (void)pthread_cond_destroy(&w->changed);
        (void)pthread_mutex_destroy(&w->lock);
        free(w);
        return NULL;
    }
    (void)pthread_setname_np(w->thread, name); /* cosmetic: too long a name is left out */
    return w;
}

void worker_set_drop(struct worker *w, worker_drop_fn *drop)
{
    w->drop = drop;
}

void worker_drain(struct worker *w)
{
    (void)pthread_mutex_lock(&w->lock);
    while (w->running || w->waiting.first != NULL)
        (void)pthread_cond_wait(&w->changed, &w->lock);
    (void)pthread_mutex_unlock(&w->lock);
}

static void drop_all(struct worker *w, struct queue *q)
{
    for (struct job *j; (j = queue_pop(q)) != NULL; free(j)) {
        if (w->drop != NULL)
            w->drop(j->job);
    }
}

void worker_free(struct worker *w)
{
    if (w == NULL)
        return;
    (void)pthread_mutex_lock(&w->lock);
    w->stopping = true;
    (void)pthread_cond_broadcast(&w->changed);
    (void)pthread_mutex_unlock(&w->lock);
    ASSERT(pthread_join(w->thread, NULL) == 0);
    (void)inbox_cancel(w->inbox, w); /* drop_all() has them too */
    drop_all(w, &w->finished);
    drop_all(w, &w->waiting);
    (void)pthread_cond_destroy(&w->changed);
    (void)pthread_mutex_destroy(&w->lock);
    free(w);
}

int worker_submit(struct worker *w, worker_run_fn *run, worker_done_fn *done, void *ctx, void *job)
{
    if (w->job_count >= w->job_count_max)
        return -ERR_BUSY;
    struct job *j = xmalloc(sizeof(*j));

    *j = (struct job){ .run = run, .done = done, .ctx = ctx, .job = job };
    w->job_count++;
    (void)pthread_mutex_lock(&w->lock);
    queue_push(&w->waiting, j);
    (void)pthread_cond_broadcast(&w->changed);
    (void)pthread_mutex_unlock(&w->lock);
    return 0;
}
