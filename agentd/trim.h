/* Gives memory back once the daemon has started: freed heap, and pages of shared libraries that
 * were touched by the dynamic linker and start-up code only. */
#ifndef SKEP_AGENTD_TRIM_H
#define SKEP_AGENTD_TRIM_H

void trim_memory(void);

#endif
