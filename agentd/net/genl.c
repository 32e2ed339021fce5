#include "agentd/net/genl.h"

#include <linux/genetlink.h>
#include <string.h>

static int on_attribute(const struct nlattr *a, void *ctx)
{
    if (mnl_attr_get_type(a) == CTRL_ATTR_FAMILY_ID && mnl_attr_validate(a, MNL_TYPE_U16) >= 0)
        *(uint16_t *)ctx = mnl_attr_get_u16(a);
    return MNL_CB_OK;
}

static void on_family(void *ctx, const struct nlmsghdr *h)
{
    if (h != NULL)
        (void)mnl_attr_parse(h, sizeof(struct genlmsghdr), on_attribute, ctx);
}

int genl_open(struct genl *g, const char *family, uint8_t version, int netns_fd, struct err *e)
{
    struct genlmsghdr ask = { .cmd = CTRL_CMD_GETFAMILY, .version = 1 };
    struct nl_request r;
    int rc = nl_open(&g->nl, NETLINK_GENERIC, netns_fd, e);

    g->family = 0;
    g->version = version;
    if (rc < 0)
        return rc;
    struct nlmsghdr *h = nl_request(&r, GENL_ID_CTRL, 0, &ask, sizeof(ask));

    mnl_attr_put_strz(h, CTRL_ATTR_FAMILY_NAME, family);
    rc = nl_ask(&g->nl, &r, on_family, &g->family, e);
    if (rc == -ERR_NOT_FOUND || (rc == 0 && g->family == 0))
        rc = err_set(e, ERR_UNSUPPORTED, "this kernel has no %s", family);
    if (rc < 0)
        genl_close(g);
    return rc;
}

void genl_close(struct genl *g)
{
    nl_close(&g->nl);
}

struct nlmsghdr *genl_message(struct genl *g, uint8_t command, uint32_t tag)
{
    struct genlmsghdr head = { .cmd = command, .version = g->version };
    struct nlmsghdr *h = nl_message(&g->nl, g->family, 0, &head, sizeof(head), tag);
    struct nl_slot *slot = &g->nl.slots[g->nl.count - 1];

    slot->exists_ok = slot->missing_ok = false;
    return h;
}

struct nlmsghdr *genl_request(const struct genl *g, struct nl_request *r, uint8_t command,
                              uint16_t flags)
{
    struct genlmsghdr head = { .cmd = command, .version = g->version };

    return nl_request(r, g->family, flags, &head, sizeof(head));
}
