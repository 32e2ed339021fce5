/* A model of what a power cut leaves of a directory, fed through the hook of managerd/io/disk.h.
 *
 * Writes reach the real files at once (that is what a killed process leaves) and are remembered
 * here with what has been synced. At a power cut every 512-byte sector that was written and not
 * synced is, independently, old, new, torn in the middle or garbage; every create, rename and
 * remove that no directory sync followed is kept or lost on its own; sizes as well. Rewriting a
 * synced sector with the same bytes in its front never damages those (sectors are atomic enough:
 * the disk writes one whole or not at all), so torn and garbage apply only behind them. */
#ifndef SKEP_TEST_LIB_CRASHDISK_H
#define SKEP_TEST_LIB_CRASHDISK_H

#include <stdbool.h>

#include "common/prng.h"
#include "managerd/io/disk.h"

struct crash_disk;

struct crash_disk *crash_disk_new(void);
void crash_disk_free(struct crash_disk *c);

/* disk_options.hook, with the crash_disk as ctx. */
int crash_disk_hook(void *ctx, const struct disk_call *call, uint64_t *write_size);

/* Operations that change something, so far. */
unsigned crash_disk_calls(const struct crash_disk *c);
/* Fails the n-th changing call from now (1 = the next) with errno_value; with all_later every one
 * after it too. A failing write stores write_share/256 of its bytes. n = 0: none fails. */
void crash_disk_fail(struct crash_disk *c, unsigned n, int errno_value, bool all_later,
                     unsigned write_share);
/* As crash_disk_fail, for calls of one kind only. */
void crash_disk_fail_op(struct crash_disk *c, enum disk_op op, unsigned n, int errno_value,
                        bool all_later);
/* DISK_ALLOCATE of more than this fails with ENOSPC; 0 = no limit. */
void crash_disk_limit_allocation(struct crash_disk *c, uint64_t bytes);
/* The last failing call has been reached. */
bool crash_disk_failed(const struct crash_disk *c);

/* Replaces the content of the directory by what a power cut now could leave, drawn from p, and
 * starts anew from there: nothing fails, everything is synced. The disk must be closed. */
void crash_disk_power_cut(struct crash_disk *c, const char *dir, struct prng *p, bool garbage);

#endif
