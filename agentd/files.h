/* Secret and config files of tasks (docker_api.md §5.5): a directory per task below one tmpfs of
 * this node, root only, each file mounted read-only into the container by the engine. Nothing of
 * them ever reaches a disk. Loop thread: the writes are small and go to memory. */
#ifndef SKEP_AGENTD_FILES_H
#define SKEP_AGENTD_FILES_H

#include <stdbool.h>

#include "agentd/worker/container.h"
#include "common/err.h"
#include "common/mem.h"

/* Makes <run_dir>/tasks; mounts a tmpfs there unless run_dir is on one already. Keeps what is in
 * it: running containers have it mounted. *ret_dir is malloc'ed. */
int files_open(const char *run_dir, char **ret_dir, struct err *e) MUST_CHECK;

/* The directory of one task's files: "<dir>/<task id>". */
char *files_task_dir(const char *dir, const char *task_id);

struct files_content {
    const void *data;
    size_t size;
};
/* Writes the files of a plan, contents[i] for plan->files[i], and makes the pipes of its gate. What
 * an earlier attempt left is replaced. */
int files_write(const char *dir, const char *task_id, const struct container_plan *plan,
                const struct files_content *contents, struct err *e) MUST_CHECK;

/* ---- the gate's pipes (agentd/worker/gate.h), and a note that it was or is being opened ---- */

/* -ERR_UNAVAILABLE: nobody waits at the gate. */
int files_gate_open(const char *dir, const char *task_id, int *ret_fd, struct err *e) MUST_CHECK;
/* To be open before the gate is: what the gate's program says. Never blocks. */
int files_gate_result(const char *dir, const char *task_id, int *ret_fd, struct err *e) MUST_CHECK;
/* Made before the word is given, so that a restarted agent knows what has happened. */
int files_gate_mark(const char *dir, const char *task_id, struct err *e) MUST_CHECK;
bool files_gate_marked(const char *dir, const char *task_id);

/* Overwrites and removes a task's files; nothing there is success. */
void files_wipe(const char *dir, const char *task_id);
/* Removes directories whose task keep() does not know. */
void files_sweep(const char *dir, bool (*keep)(void *ctx, const char *task_id), void *ctx);

#endif
