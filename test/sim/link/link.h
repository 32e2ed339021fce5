/* What the simulator links in place of the few parts of the product that touch the world:
 * randomness (common/random.c), log lines (common/log.c), the event loop (common/loop.c), the disk
 * thread (common/worker.c) and the files (managerd/io/disk.c). These objects come before the
 * libraries on the linker's command line, so that everything else is, byte for byte, what ships.
 * The functions here are how the simulator drives them. One thread, like all of the simulator. */
#ifndef SKEP_TEST_SIM_LINK_LINK_H
#define SKEP_TEST_SIM_LINK_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/loop.h"
#include "common/prng.h"
#include "common/worker.h"

/* ---- randomness, wall clock, log ---- */

/* Where random_bytes() come from; what clock_wall_ns() says; whether log lines go to stdout. */
void link_set_random(struct prng *p);
void link_set_wall_ns(int64_t wall_ns);
void link_set_log(bool shown);
/* Called when an assertion fails: which seed was that? */
void link_set_last_words(void (*fn)(void));

/* ---- loop ---- */

void link_loop_set_now(struct loop *l, uint64_t now_ms);
/* Sets the loop's time and runs what is due until nothing is. False: it never comes to rest. */
bool link_loop_advance(struct loop *l, uint64_t now_ms);
/* When the next timer is due, UINT64_MAX: none. */
uint64_t link_loop_next_ms(const struct loop *l);

/* ---- worker ---- */

bool link_worker_busy(const struct worker *w);
/* Runs the oldest job and tells its owner. */
void link_worker_run(struct worker *w);
/* Runs the oldest job, which is then forgotten: the process dies in it. */
void link_worker_run_and_die(struct worker *w);

/* ---- disk ---- */

/* A directory in memory, by path. What a power cut leaves of it is drawn like test/lib/crashdisk.h
 * does: sectors old, new, torn or garbage, names and sizes each on its own. */
struct link_dir;

/* Makes it when it is missing. p: draws what faults do. */
struct link_dir *link_dir_get(const char *path, struct prng *p);
void link_dir_remove(const char *path);
/* The content of from under another path, with other inode numbers: a copied or restored backup. */
void link_dir_copy(const struct link_dir *from, const char *path, struct prng *p);
/* Each gets the other's name; files and inode numbers stay with their directories. */
void link_dir_swap(const char *a, const char *b);

/* The power is cut: what was not synced is kept, lost or torn. */
void link_dir_power_cut(struct link_dir *d, bool garbage);
/* From now on nothing reaches the directory; UINT32_MAX: everything does. A write that it strikes
 * is cut. */
void link_dir_die_after(struct link_dir *d, uint32_t operations);
bool link_dir_dead(const struct link_dir *d);
/* The n-th sync from now fails, with the pages marked clean; 0: none. */
void link_dir_fail_sync(struct link_dir *d, uint32_t n);
/* Whether a sync has failed since the last call. */
bool link_dir_sync_failed(struct link_dir *d);
/* Room left for new bytes, UINT64_MAX: no limit. */
void link_dir_limit(struct link_dir *d, uint64_t bytes);
bool link_dir_full(const struct link_dir *d); /* there is a limit */
/* Files whose name begins so. */
uint32_t link_dir_count(const struct link_dir *d, const char *start);
/* Damages what is stored: a bit, a lost sector, or a sector written to the wrong place. Says what
 * in text. False: there is nothing. */
bool link_dir_rot(struct link_dir *d, char *text, size_t size);

#endif
