/* The only place that reads a clock. Shells read it once per loop iteration and hand the value on;
 * cores never call this. */
#ifndef SKEP_COMMON_CLOCK_H
#define SKEP_COMMON_CLOCK_H

#include <stdint.h>

/* CLOCK_BOOTTIME in milliseconds: monotonic and counts suspends. For timeouts and intervals. */
uint64_t clock_now_ms(void);
/* The same clock in nanoseconds, for measurements. */
uint64_t clock_now_ns(void);
/* Processor time of the calling thread: what a measurement on a busy machine can be based on. */
uint64_t clock_thread_ns(void);
/* Wall clock, nanoseconds since 1970. Only for display, certificates and stored timestamps. */
int64_t clock_wall_ns(void);

#endif
