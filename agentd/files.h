/* Secret and config files of tasks (docker_api.md §5.5): a directory per task below one tmpfs of
 * this node, root only, each file mounted read-only into the container by the engine. Nothing of
 * them ever reaches a disk. Loop thread: the writes are small and go to memory. */
#ifndef SKEP_AGENTD_FILES_H
#define SKEP_AGENTD_FILES_H

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
/* Writes the files of a plan, contents[i] for plan->files[i]. What an earlier attempt left is
 * replaced. */
int files_write(const char *dir, const char *task_id, const struct container_plan *plan,
                const struct files_content *contents, struct err *e) MUST_CHECK;

/* Overwrites and removes a task's files; nothing there is success. */
void files_wipe(const char *dir, const char *task_id);
/* Removes directories whose task keep() does not know. */
void files_sweep(const char *dir, bool (*keep)(void *ctx, const char *task_id), void *ctx);

#endif
