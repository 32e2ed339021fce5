/* Hosts for tests of agentd/net, as network namespaces of this process: each with an address
 * 192.168.77.<number> on a common underlay, a run directory and a struct net; tasks are child
 * processes with namespaces of their own. Everything real but the engine. Needs root; the process
 * gets a mount namespace of its own, so that nothing of it is left when it ends. */
#ifndef SKEP_TEST_LIB_NETHOSTS_H
#define SKEP_TEST_LIB_NETHOSTS_H

#include "agentd/net/net.h"
#include "common/arena.h"

enum { NETHOSTS_MAX = 4, NETHOST_TASKS_MAX = 16 };

struct nethost {
    unsigned number; /* 1… */
    int ns;
    char *run_dir;
    struct net *net;
    int changes; /* calls of on_change */
};

struct nettask {
    pid_t pid; /* 0 = none */
    pid_t server;
    int ns;
};

struct nethosts {
    struct loop *loop;
    struct arena arena;
    int own_ns, underlay_ns;
    enum net_balancer balancer;         /* of hosts started from now on; AUTO = nftables */
    struct nethost hosts[NETHOSTS_MAX]; /* number n at n - 1 */
    size_t count;
    struct nettask tasks[NETHOST_TASKS_MAX];
    size_t task_count;
};

/* False when this process may not make namespaces: the test cannot run. */
bool nethosts_begin(struct nethosts *h, size_t count);
/* Ends everything, and asserts that nothing is left of it. */
void nethosts_end(struct nethosts *h);
/* Makes the struct net of a host, as an agent that starts; its node id is networks_id("m<number>").
 */
void nethost_start(struct nethosts *h, unsigned number);
/* As an agent that ends: the kernel stays. */
void nethost_stop(struct nethosts *h, unsigned number);
/* Gives a host the answer (test/lib/networks_text.h). */
void nethost_apply(struct nethosts *h, unsigned number, const char *text);
/* Gives it to every running host. */
void nethosts_apply(struct nethosts *h, const char *text);
/* Runs the loop until done() or the time is up (a bound, not an expectation). */
bool nethosts_until(struct nethosts *h, bool (*done)(void *ctx), void *ctx);
void nethosts_run_ms(struct nethosts *h, uint32_t ms);

/* A process that waits in a namespace of its own. */
struct nettask *nettask_start(struct nethosts *h);
/* It serves port 80 of TCP: says its name to everybody. */
void nettask_serve(struct nettask *t, const char *name);
void nettask_stop(struct nettask *t);
/* Attaches it: networks are words as in an endpoint line ("n1=10.0.1.5/24 n2=…"). */
int nettask_attach(struct nethosts *h, unsigned host, struct nettask *t, const char *task,
                   const char *networks, struct err *e);

/* Runs a shell command inside a namespace; its exit status. */
int netns_sh(int ns, const char *format, ...) PRINTF(2, 3);
/* The same and its output (arena), without the last newline. */
const char *netns_read(struct nethosts *h, int ns, const char *format, ...) PRINTF(3, 4);

#endif
