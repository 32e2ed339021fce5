/* The entrypoint gate (docker_api.md §6.3 F): a container with overlay networks starts with our own
 * small program (agentd/gate/gate.c), which waits until its interfaces are there and then becomes
 * the real process. What the program, the container's plan and the agent agree on.
 *
 * A directory per task, seen by the container at GATE_TASK_DIR read-only, holds two pipes with
 * names. The program opens both for reading and writing, `result` first, and reads one byte from
 * `gate`: GATE_GO to go on, anything else to end. Both descriptors close with the exec, so the
 * agent, which reads `result`, sees its end when the real process runs, and before that the reason
 * when it could not be run. That somebody reads `gate` says that the program waits there. */
#ifndef SKEP_AGENTD_WORKER_GATE_H
#define SKEP_AGENTD_WORKER_GATE_H

#define GATE_PROGRAM "/.skep/gate"  /* in the container */
#define GATE_TASK_DIR "/.skep/task" /* in the container; the pipes are below */
#define GATE_FIFO "gate"
#define GATE_RESULT_FIFO "result"

enum {
    GATE_GO = 'g',
    GATE_TEXT_BYTES_MAX = 200,
    GATE_EXIT_REVOKED = 125, /* and what has gone wrong before the wait */
    GATE_EXIT_REFUSED = 126, /* found and cannot be run; as shells and the engine have it */
    GATE_EXIT_NOT_FOUND = 127,
};

#endif
