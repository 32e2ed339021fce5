/* A resolver for tests, on the test's own loop and real sockets (UDP and TCP, port 53). The first
 * label of a name says what it does: silent, nobody (NXDOMAIN), refused, large (60 addresses,
 * truncated over UDP), toolarge (60 over UDP, whatever the asker takes), liar (answers that are not
 * to be believed before the right one); any other name has one address, 192.0.2.80. */
#ifndef SKEP_TEST_LIB_DNS_UPSTREAM_H
#define SKEP_TEST_LIB_DNS_UPSTREAM_H

#include "common/loop.h"

struct dns_upstream {
    struct loop *loop;
    int udp, tcp;
    bool fails; /* SERVFAIL for everything */
    int asked;
};

/* In the current namespace. Asserts. */
void dns_upstream_open(struct dns_upstream *u, struct loop *l, const char *address);
void dns_upstream_close(struct dns_upstream *u);

#endif
