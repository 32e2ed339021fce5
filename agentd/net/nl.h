/* Netlink sockets (rtnetlink and its relatives), on libmnl. A socket belongs for ever to the
 * network namespace in which it was opened, so that one thread works in many. Requests are answered
 * by the kernel without waiting for anyone: they are synchronous.
 *
 * Changes are batched: at most NL_BATCH_MESSAGES per send, each acknowledged and with a sequence
 * number of its own, so that an error names its message and does not stop the others. When
 * acknowledgements were lost (ENOBUFS), the outcome is unknown: compare with a dump. */
#ifndef SKEP_AGENTD_NET_NL_H
#define SKEP_AGENTD_NET_NL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h> /* before linux/ headers */

#include <libmnl/libmnl.h>

#include "common/err.h"
#include "common/mem.h"

enum {
    NL_BATCH_MESSAGES = 128,
    NL_BATCH_BYTES = 64 * 1024,
    NL_MESSAGE_BYTES = 4096, /* room for one message */
    NL_DUMP_TRIES = 5,       /* of a dump that a change interrupts; then it is taken as it is */
    NL_TEXT_BYTES = 120,
};

/* What became of the messages since the last nl_commit(). */
struct nl_result {
    uint32_t sent, failed;
    bool unknown;             /* acknowledgements were lost */
    int error;                /* errno of the first failure */
    uint32_t tag;             /* its message */
    char text[NL_TEXT_BYTES]; /* the kernel's words, "" = none */
};

struct nl {
    int fd; /* -1: closed */
    uint32_t port;
    uint32_t seq;
    struct nl_slot {
        uint32_t tag;
        bool exists_ok, missing_ok;
    } slots[NL_BATCH_MESSAGES];
    uint32_t first_seq, count;
    struct nlmsghdr *last; /* being built */
    uint8_t *mem;          /* the batch */
    struct nl_result result;
};
#define NL_CLOSED                                                                                  \
    {                                                                                              \
        .fd = -1                                                                                   \
    }

/* netns_fd: where the socket is to be; -1 = in the namespace of the caller. */
int nl_open(struct nl *n, int protocol, int netns_fd, struct err *e) MUST_CHECK;
void nl_close(struct nl *n);

/* Begins the next message of the batch; attributes are added with mnl_attr_put* until the next
 * call. Requests that delete (RTM_DEL*) may miss their object, and those that create may find it,
 * unless flags has NLM_F_EXCL. tag comes back with an error. */
struct nlmsghdr *nl_message(struct nl *n, uint16_t type, uint16_t flags, const void *header,
                            size_t header_size, uint32_t tag);
/* Sends what is left; the result is valid until the next message. */
const struct nl_result *nl_commit(struct nl *n);
/* The same for a few messages of one purpose: 0, or -ERR_* with e set, beginning with the text. */
int nl_commit_all(struct nl *n, struct err *e, const char *format, ...) PRINTF(3, 4) MUST_CHECK;

/* Called with NULL when the dump begins, and again when it begins anew: forget what came. */
typedef void nl_message_fn(void *ctx, const struct nlmsghdr *nlh);

struct nl_request {
    _Alignas(8) uint8_t mem[NL_MESSAGE_BYTES];
};
/* Begins a request; attributes may follow. */
struct nlmsghdr *nl_request(struct nl_request *r, uint16_t type, uint16_t flags, const void *header,
                            size_t header_size);
/* Sends it and gives every answer to fn. Dumps (NLM_F_DUMP) are repeated while they are
 * interrupted by changes; others get NLM_F_ACK added. */
int nl_ask(struct nl *n, struct nl_request *r, nl_message_fn *fn, void *ctx,
           struct err *e) MUST_CHECK;

/* ---- listening ---- */

/* A socket of its own that hears the groups (RTNLGRP_*, NFNLGRP_*); non-blocking. */
int nl_monitor_open(struct nl *n, int protocol, int netns_fd, const unsigned *groups, size_t count,
                    struct err *e) MUST_CHECK;
/* Gives all that waits to fn; false when messages were lost or may have been: look at everything.
 */
bool nl_monitor_read(struct nl *n, nl_message_fn *fn, void *ctx);

#endif
