/* How far a service is: which lines to show and whether it has converged, from what is known of its
 * tasks and nodes. Pure: docker's rules (cli command/service/progress), without its polling.
 *
 * progress_wait.c feeds it from the manager's WATCH query and prints the lines. */
#ifndef SKEP_CTL_PROGRESS_H
#define SKEP_CTL_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctl/cmd.h"
#include "proto/objects.pb-c.h"

enum {
    PROGRESS_BARS_MAX = 20, /* with more tasks only the sum is shown */
    PROGRESS_STEPS = 9,     /* new … running */
    PROGRESS_TEXT_MAX = 96,
    PROGRESS_ID_MAX = 40,
    PROGRESS_ERROR_CHARS = 75,
};

/* What is known of one task; current: of the service's newest spec. */
struct progress_task {
    const char *id;
    uint64_t slot;
    const char *node_id; /* "" until assigned */
    Skep__TaskState state;
    Skep__TaskState desired;
    const char *error;
    bool current;
    bool node_down;
    uint64_t job_iteration;
};

struct progress_line {
    char id[PROGRESS_ID_MAX];
    char text[PROGRESS_TEXT_MAX];
    uint32_t step; /* of steps: a bar; steps 0 = no bar */
    uint32_t steps;
};

struct progress_slot {
    uint64_t slot; /* or, for global services, the node */
    char node_id[32];
};

struct progress {
    bool rollback;
    /* slots and nodes in the order in which they were first seen: their places on the screen */
    struct progress_slot *seen;
    size_t seen_count;
    /* result of the last update; valid until the next */
    struct progress_line lines[PROGRESS_BARS_MAX + 2];
    size_t line_count;
    uint64_t running;
    uint64_t wanted;
    bool converged;
};

void progress_deinit(struct progress *p);
/* Works out lines and convergence from all of the service's tasks. */
void progress_update(struct progress *p, const Skep__ServiceSpec *spec, uint64_t job_iteration,
                     const struct progress_task *tasks, size_t count);
/* The bar "[====>    ]" of width characters between the brackets. */
void progress_bar(char *mem, size_t size, uint32_t step, uint32_t steps, size_t width);

/* What a wait is about. */
struct progress_options {
    const char *service_id;
    const char *ref; /* as the user called it, for hints */
    bool quiet;
    bool rollback_asked; /* a rollback is what was asked for, so it is no failure */
    int64_t timeout_ns;  /* 0 = as long as it takes */
};
/* Shows the progress until the service has converged and stayed so. Returns the exit status. */
int progress_wait(struct ctl *c, const struct progress_options *o);

#endif
