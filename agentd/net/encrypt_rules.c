/* Routing rules that lead what an encrypted network's VXLAN sends into its WireGuard tunnel, and
 * nowhere else. */
#include "agentd/net/encrypt_internal.h"

#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <string.h>

#include "agentd/net/place.h"
#include "common/mem.h"

enum { RULES_PER_NETWORK = 2, RULES_MAX = 100000 };

/* One of ours in the kernel, or to be there. */
struct rule {
    uint32_t tag; /* of its network; also the number of the table */
    uint16_t port;
    bool prohibits;
};

struct rules {
    struct rule *items;
    size_t count;
};

static uint32_t preference(const struct rule *r)
{
    return ENCRYPT_PREFERENCE + (r->prohibits ? 1 : 0);
}

/* ---- reading ---- */

struct parts {
    uint32_t table, priority, goes_to;
    struct fib_rule_port_range from, to;
    uint8_t protocol, transport;
    bool local;
};

static int on_attribute(const struct nlattr *a, void *ctx)
{
    struct parts *p = ctx;
    const void *mem = mnl_attr_get_payload(a);
    size_t size = mnl_attr_get_payload_len(a);

    switch (mnl_attr_get_type(a)) {
    case FRA_PRIORITY:
        p->priority = size == 4 ? mnl_attr_get_u32(a) : 0;
        break;
    case FRA_TABLE:
        p->table = size == 4 ? mnl_attr_get_u32(a) : 0;
        break;
    case FRA_PROTOCOL:
        p->protocol = size == 1 ? mnl_attr_get_u8(a) : 0;
        break;
    case FRA_IP_PROTO:
        p->transport = size == 1 ? mnl_attr_get_u8(a) : 0;
        break;
    case FRA_IIFNAME:
        p->local = size == 3 && memcmp(mem, "lo", 3) == 0;
        break;
    case FRA_SPORT_RANGE:
        if (size == sizeof(p->from))
            memcpy(&p->from, mem, size);
        break;
    case FRA_DPORT_RANGE:
        if (size == sizeof(p->to))
            memcpy(&p->to, mem, size);
        break;
    default:
        break;
    }
    return MNL_CB_OK;
}

/* Rules of our protocol and preferences are ours; one whose other parts are not as we make them has
 * tag 0, which is no network's. */
static void on_rule(void *ctx, const struct nlmsghdr *h)
{
    struct rules *all = ctx;
    struct parts p = { 0 };

    if (h == NULL)
        all->count = 0;
    if (h == NULL || h->nlmsg_type != RTM_NEWRULE || all->count == RULES_MAX)
        return;
    const struct fib_rule_hdr *head = mnl_nlmsg_get_payload(h);
    (void)mnl_attr_parse(h, sizeof(*head), on_attribute, &p);
    bool prohibits = p.priority == ENCRYPT_PREFERENCE + 1;
    if (p.protocol != PLACE_PROTOCOL_ENCRYPT || (p.priority != ENCRYPT_PREFERENCE && !prohibits))
        return;
    all->items = xrealloc_array(all->items, all->count + 1, sizeof(*all->items));
    all->items[all->count++] = (struct rule){ .port = p.to.start, .prohibits = prohibits };
    if (p.local && p.transport == IPPROTO_UDP && p.to.start == p.to.end &&
        memcmp(&p.from, &p.to, sizeof(p.to)) == 0 &&
        head->action == (prohibits ? FR_ACT_PROHIBIT : FR_ACT_TO_TBL) && head->dst_len == 0 &&
        head->src_len == 0 && (head->flags & FIB_RULE_INVERT) == 0)
        all->items[all->count - 1].tag = prohibits ? 1 : p.table;
}

static int load(struct encrypt *x, struct rules *ret, struct err *e)
{
    struct fib_rule_hdr all = { .family = AF_INET };
    struct nl_request r;

    *ret = (struct rules){ 0 };
    (void)nl_request(&r, RTM_GETRULE, NLM_F_DUMP, &all, sizeof(all));
    return nl_ask(&x->rt, &r, on_rule, ret, e);
}

/* ---- writing ---- */

static void put(struct encrypt *x, const struct rule *r, bool remove)
{
    const struct fib_rule_port_range port = { .start = r->port, .end = r->port };
    struct fib_rule_hdr head = { .family = AF_INET,
                                 .action = r->prohibits ? FR_ACT_PROHIBIT : FR_ACT_TO_TBL };
    struct nlmsghdr *h = nl_message(&x->rt, remove ? RTM_DELRULE : RTM_NEWRULE,
                                    remove ? 0 : NLM_F_CREATE | NLM_F_EXCL, &head, sizeof(head), 0);

    x->rt.slots[x->rt.count - 1].exists_ok = !remove;
    mnl_attr_put_u32(h, FRA_PRIORITY, preference(r));
    mnl_attr_put_u8(h, FRA_PROTOCOL, PLACE_PROTOCOL_ENCRYPT);
    mnl_attr_put_strz(h, FRA_IIFNAME, "lo"); /* what this host itself sends */
    mnl_attr_put_u8(h, FRA_IP_PROTO, IPPROTO_UDP);
    mnl_attr_put(h, FRA_SPORT_RANGE, sizeof(port), &port);
    mnl_attr_put(h, FRA_DPORT_RANGE, sizeof(port), &port);
    if (!r->prohibits)
        mnl_attr_put_u32(h, FRA_TABLE, r->tag);
}

/* Whatever has this preference and port, however somebody changed it. */
static void put_removal(struct encrypt *x, const struct rule *r)
{
    const struct fib_rule_port_range port = { .start = r->port, .end = r->port };
    struct fib_rule_hdr head = { .family = AF_INET };
    struct nlmsghdr *h = nl_message(&x->rt, RTM_DELRULE, 0, &head, sizeof(head), 0);

    mnl_attr_put_u32(h, FRA_PRIORITY, preference(r));
    mnl_attr_put_u8(h, FRA_PROTOCOL, PLACE_PROTOCOL_ENCRYPT);
    if (r->port != 0)
        mnl_attr_put(h, FRA_DPORT_RANGE, sizeof(port), &port);
}

static bool has(const struct rules *all, const struct rule *want)
{
    for (size_t i = 0; i < all->count; i++)
        if (all->items[i].port == want->port && all->items[i].prohibits == want->prohibits &&
            all->items[i].tag == (want->prohibits ? 1 : want->tag))
            return true;
    return false;
}

int encrypt_rules_program(struct encrypt *x, const struct secured *s, bool write, struct err *e)
{
    const struct rule want[RULES_PER_NETWORK] = {
        { .tag = encrypt_tag(s), .port = s->port, .prohibits = true },
        { .tag = encrypt_tag(s), .port = s->port },
    };
    struct rules have;
    int differing = 0, rc = load(x, &have, e);

    for (size_t i = 0; rc == 0 && i < RULES_PER_NETWORK; i++) {
        if (has(&have, &want[i]))
            continue;
        differing++;
        if (write)
            put(x, &want[i], false);
    }
    if (rc == 0)
        rc = nl_commit_all(&x->rt, e, "rules of port %u", s->port);
    free(have.items);
    return rc < 0 ? rc : differing;
}

int encrypt_rules_sweep(struct encrypt *x, struct err *e)
{
    struct rules have;
    int rc = load(x, &have, e);

    for (size_t i = 0; rc == 0 && i < have.count; i++) {
        bool wanted = false;

        for (size_t k = 0; k < x->count; k++)
            wanted |= x->items[k]->port == have.items[i].port;
        if (!wanted)
            put_removal(x, &have.items[i]);
    }
    if (rc == 0)
        rc = nl_commit_all(&x->rt, e, "remove rules");
    free(have.items);
    return rc;
}
