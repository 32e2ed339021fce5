/* Everything this node has to do with: one entry per task that the managers assigned, or whose
 * container was found without an assignment; and the secrets and configs that came along. Applies
 * the answers of ASSIGNMENTS (proto/dispatcher.proto) and decides which statuses the managers have
 * yet to hear. Ordered by task id. Pure. */
#ifndef SKEP_AGENTD_WORKER_ROSTER_H
#define SKEP_AGENTD_WORKER_ROSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agentd/worker/task.h"
#include "common/arena.h"
#include "common/id.h"
#include "proto/dispatcher.pb-c.h"

enum {
    ROSTER_TASKS_MAX = 20000,
    ROSTER_OBJECTS_MAX = 20000, /* secrets, and as many configs */
    ROSTER_REPORT_MAX = 1000,   /* statuses per call */
};

struct roster_entry {
    char id[ID_CHARS + 1];
    Skep__TaskAssignment *assignment; /* owned block; NULL: a container without a task */
    struct task task;
    int64_t status_at_ns; /* wall clock of the last change of status */
    uint64_t generation;  /* of the complete set that last named it */
    uint64_t report_seq;  /* raised by every change of status */
    uint64_t sent_seq;    /* in the call in flight; 0 = none */
    uint64_t acked_seq;   /* what the managers are known to know */
    void *shell;          /* the executor's part */
    bool held;            /* agentd/net looks after its interfaces; the shell's part */
};

struct roster_object { /* a secret or a config */
    void *message;     /* owned block: Skep__Secret or Skep__Config */
    const char *id;    /* within message */
    uint64_t generation;
};

struct roster {
    struct roster_entry **entries;
    size_t count, capacity;
    struct roster_object *secrets, *configs;
    size_t secret_count, config_count;
    uint64_t generation;
    bool completing; /* between a complete answer and the last one of its set */
    bool complete;   /* at least one complete set was received */
};

void roster_deinit(struct roster *r); /* every entry must have been removed or be freed here */

struct roster_entry *roster_find(const struct roster *r, const char *task_id);
/* A new entry; task_id must be valid and not in use. NULL at ROSTER_TASKS_MAX. The machine is not
 * initialised yet. */
struct roster_entry *roster_add(struct roster *r, const char *task_id);
void roster_remove(struct roster *r, struct roster_entry *en); /* and frees it */

const Skep__Secret *roster_secret(const struct roster *r, const char *id);
const Skep__Config *roster_config(const struct roster *r, const char *id);

enum roster_change_type {
    ROSTER_ADDED,   /* initialise the machine, then tell it what is desired */
    ROSTER_CHANGED, /* tell the machine what is desired */
    ROSTER_GONE,    /* no longer assigned: stop, remove */
};
struct roster_change {
    enum roster_change_type type;
    struct roster_entry *entry;
};
/* Applies one answer, which is copied. *ret_changes lives in a, in order of task id within each
 * type, additions first. Entries with wrong ids are ignored. */
void roster_apply(struct roster *r, const Skep__AssignmentsResponse *resp, struct arena *a,
                  struct roster_change **ret_changes, size_t *ret_count);
/* The session was lost: the next set will be complete. */
void roster_expect_complete(struct roster *r);

/* ---- reports ---- */

/* The machine's status changed at at_ns. */
void roster_touch(struct roster_entry *en, int64_t at_ns);
/* True when a status waits to be reported and none of it is in flight. */
bool roster_has_reports(const struct roster *r);
/* Fills req->updates (memory in a) with at most ROSTER_REPORT_MAX statuses and marks them as in
 * flight. Returns how many. */
size_t roster_report(struct roster *r, struct arena *a, Skep__TaskStatusRequest *req);
/* The call ended; ok: the managers know what was sent. Otherwise it will be sent again. */
void roster_report_done(struct roster *r, bool ok);
/* The status of one entry, memory in a. */
void roster_status(const struct roster_entry *en, struct arena *a, Skep__TaskStatus *ret);

#endif
