/* Netlink requests to one namespace and bus, answered at once (libmnl; RFC 3549). A socket belongs
 * for ever to the namespace in which it was made, so one thread can talk to many. Loop thread.
 *
 * Functions that send return 0 or -errno as the kernel gave it: EEXIST on add and ENOENT on delete
 * are results to the caller, not failures. */
#ifndef SKEP_AGENTD_NET_KERNEL_H
#define SKEP_AGENTD_NET_KERNEL_H

#include <libmnl/libmnl.h>
#include <stdint.h>

#include "common/err.h"

struct kernel;

enum {
    KERNEL_SMALL_BYTES = 1024, /* room for every request that we send one by one */
};

/* Runs fn with the thread in namespace ns (-1: where it is) and returns what it returned. Aborts
 * when the way back fails: a thread in a wrong namespace would program the wrong network. */
int kernel_inside(int ns, int (*fn)(void *ctx, struct err *e), void *ctx, struct err *e) MUST_CHECK;

/* ns: fd of a network namespace, borrowed for the call; -1 = the thread's own. bus: NETLINK_*.
 * NULL with e set. */
struct kernel *kernel_open(int ns, int bus, struct err *e);
void kernel_close(struct kernel *k);

/* The same in a new, empty namespace, which ends with it. For trying what the kernel can. */
int kernel_scratch(int (*fn)(void *ctx, struct err *e), void *ctx, struct err *e) MUST_CHECK;

/* Sets /proc/sys/<name> as namespace ns has it, e.g. "net/ipv4/ip_forward". */
int kernel_sysctl(int ns, const char *name, const char *value, struct err *e) MUST_CHECK;

/* A message in mem; headers and attributes are added by libmnl's functions. NLM_F_REQUEST is set.
 */
struct nlmsghdr *kernel_message(char mem[KERNEL_SMALL_BYTES], uint16_t type, uint16_t flags);
/* Sends a request and waits for its end. */
int kernel_tell(struct kernel *k, struct nlmsghdr *m) MUST_CHECK;
/* The same for requests with an answer, or several (NLM_F_DUMP): fn as mnl_cb_t, called per
 * message. -EINTR: a dump that was disturbed by changes; ask again. */
int kernel_ask(struct kernel *k, struct nlmsghdr *m, mnl_cb_t fn, void *ctx) MUST_CHECK;

#endif
