/* Generic netlink: families by name, and messages to them, on the sockets of nl.h (opened with
 * NETLINK_GENERIC). */
#ifndef SKEP_AGENTD_NET_GENL_H
#define SKEP_AGENTD_NET_GENL_H

#include "agentd/net/nl.h"

struct genl {
    struct nl nl;
    uint16_t family;
    uint8_t version;
};

/* Asks for the family in the namespace, which makes the kernel load its module if it can.
 * -ERR_UNSUPPORTED: this kernel has none. */
int genl_open(struct genl *g, const char *family, uint8_t version, int netns_fd,
              struct err *e) MUST_CHECK;
void genl_close(struct genl *g);

/* As nl_message() and nl_request(), to the family. Errors of the kernel are errors here. */
struct nlmsghdr *genl_message(struct genl *g, uint8_t command, uint32_t tag);
struct nlmsghdr *genl_request(const struct genl *g, struct nl_request *r, uint8_t command,
                              uint16_t flags);

#endif
