#include "agentd/net/conntrack.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <string.h>

enum { TUPLE_BYTES_MAX = 128 };

struct victim {
    uint32_t id; /* network order */
    uint16_t tuple_size;
    uint8_t tuple[TUPLE_BYTES_MAX]; /* CTA_TUPLE_REPLY as it came */
};

struct search {
    conntrack_match_fn *match;
    void *ctx;
    struct victim *victims;
    size_t count, capacity;
};

struct tuple {
    uint32_t source, destination;
    uint16_t destination_port;
    uint8_t protocol;
};

static uint32_t v4_of(const struct nlattr *a)
{
    return mnl_attr_get_payload_len(a) >= 4 ? ntohl(mnl_attr_get_u32(a)) : 0;
}

static void tuple_of(const struct nlattr *outer, struct tuple *ret)
{
    const struct nlattr *part, *a;

    memset(ret, 0, sizeof(*ret));
    mnl_attr_for_each_nested(part, outer)
    {
        bool addresses = mnl_attr_get_type(part) == CTA_TUPLE_IP;

        mnl_attr_for_each_nested(a, part)
        {
            uint16_t type = mnl_attr_get_type(a);

            if (addresses && type == CTA_IP_V4_SRC)
                ret->source = v4_of(a);
            else if (addresses && type == CTA_IP_V4_DST)
                ret->destination = v4_of(a);
            else if (!addresses && type == CTA_PROTO_NUM && mnl_attr_get_payload_len(a) >= 1)
                ret->protocol = mnl_attr_get_u8(a);
            else if (!addresses && type == CTA_PROTO_DST_PORT && mnl_attr_get_payload_len(a) >= 2)
                ret->destination_port = ntohs(mnl_attr_get_u16(a));
        }
    }
}

/* By the tuple of the answers, which names the server. A client that comes again from the same port
 * has the same original tuple, and what the kernel then makes anew has even the old one's place in
 * memory and thereby its id: it would be forgotten in the middle of a request. */
static void keep(struct search *s, const struct nlattr *reply, uint32_t id)
{
    struct victim *v;

    if (mnl_attr_get_payload_len(reply) > TUPLE_BYTES_MAX)
        return;
    if (s->count == s->capacity) {
        s->capacity = MAX(64, 2 * s->capacity);
        s->victims = xrealloc_array(s->victims, s->capacity, sizeof(*v));
    }
    v = &s->victims[s->count++];
    v->id = id;
    v->tuple_size = mnl_attr_get_payload_len(reply);
    memcpy(v->tuple, mnl_attr_get_payload(reply), v->tuple_size);
}

static void on_connection(void *ctx, const struct nlmsghdr *m)
{
    const struct nlattr *a, *orig = NULL, *reply = NULL;
    struct search *s = ctx;
    struct conntrack_flow f;
    struct tuple there, back;
    uint32_t id = 0;

    if (m == NULL) {
        s->count = 0;
        return;
    }
    mnl_attr_for_each(a, m, sizeof(struct nfgenmsg))
    {
        uint16_t type = mnl_attr_get_type(a);

        if (type == CTA_TUPLE_ORIG)
            orig = a;
        else if (type == CTA_TUPLE_REPLY)
            reply = a;
        else if (type == CTA_ID && mnl_attr_get_payload_len(a) >= 4)
            id = mnl_attr_get_u32(a);
    }
    if (orig == NULL || reply == NULL)
        return;
    tuple_of(orig, &there);
    tuple_of(reply, &back);
    f = (struct conntrack_flow){ .source = there.source,
                                 .destination = there.destination,
                                 .server = back.source,
                                 .destination_port = there.destination_port,
                                 .protocol = there.protocol };
    if (s->match(s->ctx, &f))
        keep(s, reply, id);
}

int conntrack_forget(struct nl *netfilter, conntrack_match_fn *match, void *ctx, size_t *ret_count,
                     struct err *e)
{
    const struct nfgenmsg head = { .nfgen_family = AF_INET, .version = NFNETLINK_V0 };
    struct search s = { .match = match, .ctx = ctx };
    struct nl_request r;
    int rc;

    (void)nl_request(&r, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, NLM_F_DUMP, &head,
                     sizeof(head));
    rc = nl_ask(netfilter, &r, on_connection, &s, e);
    for (size_t i = 0; rc == 0 && i < s.count; i++) {
        struct nlmsghdr *m =
            nl_message(netfilter, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, 0, &head,
                       sizeof(head), (uint32_t)i);

        netfilter->slots[netfilter->count - 1].missing_ok = true; /* it ended by itself */
        mnl_attr_put(m, NLA_F_NESTED | CTA_TUPLE_REPLY, s.victims[i].tuple_size,
                     s.victims[i].tuple);
        mnl_attr_put_u32(m, CTA_ID, s.victims[i].id);
    }
    if (rc == 0)
        rc = nl_commit_all(netfilter, e, "forget");
    free(s.victims);
    if (rc < 0)
        return err_wrap(e, rc, "connections");
    *ret_count = s.count;
    return 0;
}
