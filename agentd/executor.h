/* Jobs, shared by executor.c (queues, ends), create.c and operations.c (what each operation does on
 * the engine) and pulls.c (one pull for many tasks). Loop thread. */
#ifndef SKEP_AGENTD_EXECUTOR_H
#define SKEP_AGENTD_EXECUTOR_H

#include "agentd/docker/image.h"
#include "agentd/internal.h"

struct job {
    struct agent *ag;
    struct roster_entry *entry;
    enum task_op op;
    struct job *next; /* in the lane's queue, or in the pull that it waits for */
    bool running;     /* holds a place of its lane */
    uint64_t started_ms;
    struct engine_call *call;
    struct pull *pull;
    char name[CONTAINER_NAME_BYTES_MAX]; /* "" for a container without a task */
    struct container_plan plan;          /* CREATE */
    struct bind_check *check;            /* CREATE: with the blocking thread */
    size_t volumes_done;                 /* CREATE */
    size_t networks_done;                /* CREATE, START */
    bool network_again;                  /* the network's name was taken meanwhile */
    struct image_config image;           /* CREATE, of a task with overlay networks */
    struct attach *attach;               /* ATTACH */
    bool for_networks;                   /* job_end() with RETRY: it waits for networks */
    bool has_facts;
    struct container_facts facts;
    enum task_result result_after; /* what the operation came to; the facts are still asked for */
    char error[TASK_ERROR_BYTES_MAX];
};

/* executor.c: each ends the job, after which it is gone. */
void job_end(struct job *j, enum task_result result, const char *error);
void job_end_unreachable(struct job *j, const struct err *e);

struct docker_reply job_reply(struct job *j, engine_done_fn *done);
void job_sent(struct job *j, struct engine_call *call, const struct err *e);
/* False: the engine did not answer and the job has ended. */
bool job_answered(struct job *j, const struct engine_response *r);
/* The container's id, or its name before that is known. */
const char *job_ref(const struct job *j);

/* create.c */
void job_create(struct job *j);
void job_create_volumes(struct job *j); /* goes on after job_make_networks() */

/* attach.c */
void job_attach(struct job *j);
void attach_free(struct job *j);

/* engine_networks.c */
void job_make_networks(struct job *j);
void job_start(struct job *j);

/* operations.c */
void job_start_container(struct job *j); /* goes on after job_start() */
void job_inspect(struct job *j);
void job_stop(struct job *j);
void job_remove(struct job *j);
/* Learns the container's facts, then ends the job with result. */
void job_end_looking(struct job *j, enum task_result result, const char *error);
/* Takes an inspect's answer into the job's facts: -ERR_* when it is none; a container of that name
 * that is not this task's counts as absent, *ret_foreign says so. */
int job_take_facts(struct job *j, const struct engine_response *r, const char *ref,
                   bool *ret_foreign, struct err *e) MUST_CHECK;

/* pulls.c */
void job_pull(struct job *j);
/* The job no longer waits for its pull, if it does. */
void pull_leave(struct job *j);
void pulls_free(struct agent *ag);

#endif
