/* Hosts in network namespaces with the routed overlay of one network between them, made with
 * iproute2 as agentd/net makes it by netlink: for tests of what is built on it. Everything happens
 * in one process: sockets are made inside a namespace and used from outside. Needs root; the
 * namespaces are named in a mount namespace of this process and end with it.
 *
 *   underlay 192.168.77.0/24: host i is .i (ns h<i>), an outside client is .100 (ns client)
 *   R of host i (ns r<i>): vxlan0, up0 169.254.8.2 -- host's "sk1" 169.254.8.1
 *   tasks 10.77.0.<n>/24 (ns t<n>), gateway .1, VIP 10.77.0.200, node addresses 10.77.0.24<i> */
#ifndef SKEP_TEST_LIB_NETRIG_H
#define SKEP_TEST_LIB_NETRIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agentd/net/balancer.h"
#include "agentd/net/ingress.h"

enum {
    NETRIG_HOSTS_MAX = 3,
    NETRIG_TASKS_MAX = 8,
    NETRIG_PORTS_MAX = 8,
    NETRIG_TEXT = 64,
    NETRIG_CLIENT = -1, /* instead of a task: the client outside */
    NETRIG_HOST = -10,  /* NETRIG_HOST - i: host i itself */
    NETRIG_WAIT_MS = 10000,
};

#define NETRIG_VIP "10.77.0.200"

struct netrig;

/* ops NULL: only routes. */
struct netrig *netrig_new(int hosts, const struct balancer_ops *ops);
void netrig_free(struct netrig *r);

/* A task of the service, with a server that answers "t<last> <client's address>" and echoes, on
 * port 80 of TCP, UDP and, where the kernel has it, SCTP. */
void netrig_task(struct netrig *r, int host, int last, enum plan_state state);
/* Another state; PLAN_GONE removes it from the plans and its routes, its server stays silent. */
void netrig_state(struct netrig *r, int last, enum plan_state state);
void netrig_gone(struct netrig *r, int last);
/* A published port of the service; of host mode: of the task host_mode (its last byte). */
void netrig_port(struct netrig *r, struct plan_port port, int host_mode);
/* Programs all hosts. */
void netrig_apply(struct netrig *r);
/* The same, and says what the first error was, "" = none. */
const char *netrig_try(struct netrig *r);
const struct net_plan *netrig_plan(struct netrig *r, int host);
struct balancer *netrig_balancer(struct netrig *r, int host);
struct ingress *netrig_ingress(struct netrig *r, int host);
int netrig_check(struct netrig *r, int host, bool repair, struct differences *d);
/* The agent of a host ends and begins anew; the kernel stays. */
void netrig_restart(struct netrig *r, int host);

/* fd of a namespace: a task's last byte, NETRIG_CLIENT, NETRIG_HOST - i. */
int netrig_ns(struct netrig *r, int who);
int netrig_router(struct netrig *r, int host);
/* A shell command with $R1, $H1 … as "ip netns exec" prefixes; must succeed. */
void netrig_shell(const char *format, ...) PRINTF(1, 2);

struct netrig_call {
    int who; /* as for netrig_ns() */
    bool tcp;
    const char *address;
    int port;
    int from;  /* source port; 0 = any */
    bool sctp; /* with tcp: a stream, but of SCTP */
};
/* A connected socket inside a namespace. -errno. */
int netrig_connect(struct netrig *r, struct netrig_call call);
/* Sends a line (NULL: a TCP greeting comes by itself) and waits for the answer. 0, or -errno. */
int netrig_talk(int fd, const char *line, char ret[NETRIG_TEXT]);
/* Connects, asks who answers, closes; "" when nobody does, with errno. */
const char *netrig_ask(struct netrig *r, struct netrig_call call);
/* count questions; how many of them the task answered. others: of no task at all. */
struct netrig_spread {
    int by_task[256];
    int failed;
    char client[NETRIG_TEXT]; /* address that the last one to answer saw */
};
void netrig_spread(struct netrig *r, struct netrig_call call, int count, struct netrig_spread *ret);

#endif
