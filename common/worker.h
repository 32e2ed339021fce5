/* One thread that runs jobs in order; each job's done function then runs on the loop thread through
 * the inbox. For calls that block and have no asynchronous form: disk, name lookups, X.509 signing.
 */
#ifndef SKEP_COMMON_WORKER_H
#define SKEP_COMMON_WORKER_H

#include "common/inbox.h"

struct worker;

typedef void worker_run_fn(void *job);             /* on the worker's thread */
typedef void worker_done_fn(void *ctx, void *job); /* on the loop thread; job is given back */

/* job_count_max: jobs waiting or running at once. */
struct worker *worker_new(const char *name, struct inbox *in, uint32_t job_count_max,
                          struct err *e);
/* Waits for the running job; waiting jobs are not run. */
void worker_free(struct worker *w);
/* -ERR_BUSY when job_count_max jobs are waiting. */
int worker_submit(struct worker *w, worker_run_fn *run, worker_done_fn *done, void *ctx,
                  void *job) MUST_CHECK;

#endif
