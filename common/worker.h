/* One thread that runs jobs in order; each job's done function then runs on the loop thread through
 * the inbox. For calls that block and have no asynchronous form: disk, name lookups, X.509 signing.
 */
#ifndef SKEP_COMMON_WORKER_H
#define SKEP_COMMON_WORKER_H

#include "common/inbox.h"

struct worker;

typedef void worker_run_fn(void *job);             /* on the worker's thread */
typedef void worker_done_fn(void *ctx, void *job); /* on the loop thread; job is given back */
typedef void worker_drop_fn(void *job);            /* on the loop thread, in worker_free() */

/* job_count_max: jobs that are waiting, running or not yet delivered; the inbox needs a place for
 * each. name: at most 15 characters, shown by ps and debuggers. */
struct worker *worker_new(const char *name, struct inbox *in, uint32_t job_count_max,
                          struct err *e);
/* drop gets every job that will not reach its done function, so that its memory can be freed.
 * Without one, such jobs are forgotten. */
void worker_set_drop(struct worker *w, worker_drop_fn *drop);
/* Blocks until every submitted job has run; the done functions still come through the loop. */
void worker_drain(struct worker *w);
/* Waits for the running job; waiting jobs are not run. Before inbox_free(). */
void worker_free(struct worker *w);
/* -ERR_BUSY when job_count_max jobs are outstanding. Loop thread only. */
int worker_submit(struct worker *w, worker_run_fn *run, worker_done_fn *done, void *ctx,
                  void *job) MUST_CHECK;

#endif
