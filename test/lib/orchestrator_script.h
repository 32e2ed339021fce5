/* Scenario files for the orchestrators: blocks of commands, "----", and what is expected to happen,
 * up to an empty line. A whole file is one story in one world (test/sim/cluster_world.h).
 *
 *   nodes a b c                     hosts that are up
 *   create NAME ASSIGNMENTS…        as in test/lib/spec_text.h; restart.…, update.…, image=…
 *   update NAME ASSIGNMENTS…        on top of the current spec
 *   rollback NAME · rm NAME
 *   down|up|drain|activate|pause|forget NODE · label NODE KEY=VALUE · memory NODE BYTES
 *   end TASK STATE                  a container ends, TASK_FAILED or TASK_COMPLETE
 *   leader                          another manager takes over
 *   clock SECONDS                   the wall clock steps (forth or back)
 *   run SECONDS                     prints every decision and every start and end on the way
 *   show NAME                       the service and its tasks
 *
 *   quiet on|off                    whether run prints
 *
 * A task is SERVICE.SLOT#ATTEMPT (global: SERVICE.NODE#ATTEMPT). */
#ifndef SKEP_TEST_LIB_ORCHESTRATOR_SCRIPT_H
#define SKEP_TEST_LIB_ORCHESTRATOR_SCRIPT_H

#include "common/buf.h"

/* Runs the file and appends to out what it would look like if all expectations were as things
 * happened: equal to the file when the test passes. */
int orchestrator_script_run(const char *path, struct buf *file, struct buf *out,
                            struct err *e) MUST_CHECK;

#endif
