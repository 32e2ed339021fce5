/* The only door from other threads into a loop thread: a bounded ring of (fn, ctx, arg) records
 * with an eventfd. inbox_post() may be called on any thread; the record's fn runs on the loop
 * thread in posting order, at most INBOX_BATCH_MAX per iteration. */
#ifndef SKEP_COMMON_INBOX_H
#define SKEP_COMMON_INBOX_H

#include <stdint.h>

#include "common/loop.h"

enum { INBOX_BATCH_MAX = 256 };

struct inbox;
typedef void inbox_fn(void *ctx, void *arg);

/* capacity: the greatest number of records that can be waiting; callers size it so that posting
 * cannot fail (one per rpc slot, one per worker job, …). */
struct inbox *inbox_new(struct loop *l, uint32_t capacity, struct err *e);
/* No other thread may post any more. Waiting records are dropped. May be called from a record. */
void inbox_free(struct inbox *in);
/* Asserts that there is room: capacity is a design figure, not a tuning knob. */
void inbox_post(struct inbox *in, inbox_fn *fn, void *ctx, void *arg);
/* On the loop thread: drops the waiting records of ctx, which nobody posts for any more, and
 * returns how many there were. O(n). */
uint32_t inbox_cancel(struct inbox *in, const void *ctx);

#endif
