#include "agentd/net/ipvs.h"

#include <arpa/inet.h>
#include <linux/genetlink.h>
#include <linux/ip_vs.h>
#include <string.h>

enum { VERSION = 1, ATTRIBUTES = 32 };

int ipvs_open(struct ipvs *v, int ns, struct err *e)
{
    return genl_open(&v->genl, IPVS_GENL_NAME, VERSION, ns, e);
}

void ipvs_close(struct ipvs *v)
{
    genl_close(&v->genl);
}

int ipvs_set_timeouts(struct ipvs *v, const uint32_t seconds[3], struct err *e)
{
    struct nlmsghdr *h = genl_message(&v->genl, IPVS_CMD_SET_CONFIG, 0);

    mnl_attr_put_u32(h, IPVS_CMD_ATTR_TIMEOUT_TCP, seconds[0]);
    mnl_attr_put_u32(h, IPVS_CMD_ATTR_TIMEOUT_TCP_FIN, seconds[1]);
    mnl_attr_put_u32(h, IPVS_CMD_ATTR_TIMEOUT_UDP, seconds[2]);
    return nl_commit_all(&v->genl.nl, e, "ipvs: timeouts");
}

/* ---- order --------------------------------------------------------------------------------------
 */

static int compare_services(const void *a, const void *b)
{
    const struct ipvs_service *x = a, *y = b;

    return x->mark < y->mark ? -1 : x->mark > y->mark;
}

static int compare_destinations(const void *a, const void *b)
{
    const struct ipvs_destination *x = a, *y = b;

    if (x->address != y->address)
        return x->address < y->address ? -1 : 1;
    return x->port < y->port ? -1 : x->port > y->port;
}

void ipvs_sort(struct ipvs_state *s)
{
    if (s->count > 0)
        qsort(s->services, s->count, sizeof(*s->services), compare_services);
    for (size_t i = 0; i < s->count; i++)
        if (s->services[i].count > 0)
            qsort(s->services[i].destinations, s->services[i].count,
                  sizeof(*s->services[i].destinations), compare_destinations);
}

/* Walks two ordered lists side by side: which of the next elements comes first, or both. */
static int side(size_t i, size_t n, size_t j, size_t m, int c)
{
    return i == n ? 1 : j == m ? -1 : c;
}

/* ---- changes ------------------------------------------------------------------------------------
 */

static void put_service_key(struct nlmsghdr *h, uint32_t mark)
{
    mnl_attr_put_u16(h, IPVS_SVC_ATTR_AF, AF_INET);
    mnl_attr_put_u32(h, IPVS_SVC_ATTR_FWMARK, mark);
}

static void tell_service(struct ipvs *v, uint8_t command, uint32_t mark)
{
    struct ip_vs_flags flags = { .flags = 0, .mask = ~0u };
    struct nlmsghdr *h = genl_message(&v->genl, command, mark);
    struct nlattr *nest = mnl_attr_nest_start(h, IPVS_CMD_ATTR_SERVICE);

    put_service_key(h, mark);
    if (command != IPVS_CMD_DEL_SERVICE) {
        mnl_attr_put_strz(h, IPVS_SVC_ATTR_SCHED_NAME, "rr");
        mnl_attr_put(h, IPVS_SVC_ATTR_FLAGS, sizeof(flags), &flags);
        mnl_attr_put_u32(h, IPVS_SVC_ATTR_TIMEOUT, 0);
        mnl_attr_put_u32(h, IPVS_SVC_ATTR_NETMASK, 0xffffffff);
    }
    mnl_attr_nest_end(h, nest);
}

static void tell_destination(struct ipvs *v, uint8_t command, uint32_t mark,
                             const struct ipvs_destination *d)
{
    struct nlmsghdr *h = genl_message(&v->genl, command, mark);
    struct nlattr *nest = mnl_attr_nest_start(h, IPVS_CMD_ATTR_SERVICE);

    put_service_key(h, mark);
    mnl_attr_nest_end(h, nest);
    nest = mnl_attr_nest_start(h, IPVS_CMD_ATTR_DEST);
    mnl_attr_put_u32(h, IPVS_DEST_ATTR_ADDR, htonl(d->address));
    mnl_attr_put_u16(h, IPVS_DEST_ATTR_PORT, htons(d->port));
    if (command != IPVS_CMD_DEL_DEST) {
        mnl_attr_put_u32(h, IPVS_DEST_ATTR_FWD_METHOD, IP_VS_CONN_F_MASQ);
        mnl_attr_put_u32(h, IPVS_DEST_ATTR_WEIGHT, d->weight);
        mnl_attr_put_u32(h, IPVS_DEST_ATTR_U_THRESH, 0);
        mnl_attr_put_u32(h, IPVS_DEST_ATTR_L_THRESH, 0);
    }
    mnl_attr_nest_end(h, nest);
}

/* Removals only, or all but removals. */
static void change_destinations(struct ipvs *v, const struct ipvs_service *was,
                                const struct ipvs_service *want, bool remove)
{
    size_t i = 0, j = 0, n = was != NULL ? was->count : 0;

    while (i < n || j < want->count) {
        const struct ipvs_destination *x = was != NULL ? &was->destinations[i] : NULL;
        const struct ipvs_destination *y = &want->destinations[j];
        int c =
            side(i, n, j, want->count, i < n && j < want->count ? compare_destinations(x, y) : 0);

        if (c < 0 && remove)
            tell_destination(v, IPVS_CMD_DEL_DEST, want->mark, x);
        else if (c > 0 && !remove)
            tell_destination(v, IPVS_CMD_NEW_DEST, want->mark, y);
        else if (c == 0 && !remove && x->weight != y->weight)
            tell_destination(v, IPVS_CMD_SET_DEST, want->mark, y);
        i += c <= 0;
        j += c >= 0;
    }
}

int ipvs_change(struct ipvs *v, const struct ipvs_state *was, const struct ipvs_state *want,
                struct err *e)
{
    for (int remove = 0; remove < 2; remove++) {
        size_t i = 0, j = 0;

        while (i < was->count || j < want->count) {
            const struct ipvs_service *x = &was->services[i], *y = &want->services[j];
            int c = side(i, was->count, j, want->count,
                         i < was->count && j < want->count ? compare_services(x, y) : 0);

            if (c < 0 && remove)
                tell_service(v, IPVS_CMD_DEL_SERVICE, x->mark);
            if (c > 0 && !remove)
                tell_service(v, IPVS_CMD_NEW_SERVICE, y->mark);
            if (c >= 0 && !(c > 0 && remove))
                change_destinations(v, c == 0 ? x : NULL, y, remove);
            i += c <= 0;
            j += c >= 0;
        }
    }
    return nl_commit_all(&v->genl.nl, e, "ipvs: services");
}

/* ---- listing ------------------------------------------------------------------------------------
 */

struct table {
    const struct nlattr *a[ATTRIBUTES];
};

static int on_attribute(const struct nlattr *a, void *ctx)
{
    struct table *t = ctx;

    if (mnl_attr_get_type(a) < ATTRIBUTES)
        t->a[mnl_attr_get_type(a)] = a;
    return MNL_CB_OK;
}

static bool nested(const struct nlmsghdr *h, uint16_t type, struct table *ret)
{
    struct table top = { { NULL } };

    memset(ret, 0, sizeof(*ret));
    return h != NULL &&
           mnl_attr_parse(h, sizeof(struct genlmsghdr), on_attribute, &top) == MNL_CB_OK &&
           top.a[type] != NULL &&
           mnl_attr_parse_nested(top.a[type], on_attribute, ret) == MNL_CB_OK;
}

static uint32_t number(const struct nlattr *a)
{
    size_t size = a != NULL ? mnl_attr_get_payload_len(a) : 0;

    return size >= 4 ? mnl_attr_get_u32(a) : size >= 2 ? mnl_attr_get_u16(a) : 0;
}

struct dump {
    struct arena *arena;
    struct ipvs_state *state; /* of services */
    struct ipvs_service *service;
    size_t capacity;
};

static void *grow(struct arena *a, const void *items, size_t count, size_t size)
{
    void *grown = arena_array(a, MAX(16, 2 * count), size);

    if (count > 0)
        memcpy(grown, items, count * size);
    return grown;
}

static void on_service(void *ctx, const struct nlmsghdr *h)
{
    struct dump *d = ctx;
    struct table t;

    if (h == NULL)
        d->state->count = 0;
    if (!nested(h, IPVS_CMD_ATTR_SERVICE, &t) || number(t.a[IPVS_SVC_ATTR_AF]) != AF_INET ||
        number(t.a[IPVS_SVC_ATTR_FWMARK]) == 0)
        return;
    if (d->state->count == d->capacity) {
        d->state->services =
            grow(d->arena, d->state->services, d->state->count, sizeof(*d->state->services));
        d->capacity = MAX(16, 2 * d->capacity);
    }
    d->state->services[d->state->count++] =
        (struct ipvs_service){ .mark = number(t.a[IPVS_SVC_ATTR_FWMARK]) };
}

static void on_destination(void *ctx, const struct nlmsghdr *h)
{
    struct dump *d = ctx;
    struct ipvs_service *s = d->service;
    struct table t;

    if (h == NULL)
        s->count = 0;
    if (!nested(h, IPVS_CMD_ATTR_DEST, &t) || t.a[IPVS_DEST_ATTR_ADDR] == NULL)
        return;
    if (s->count == d->capacity) {
        s->destinations = grow(d->arena, s->destinations, s->count, sizeof(*s->destinations));
        d->capacity = MAX(16, 2 * d->capacity);
    }
    s->destinations[s->count++] = (struct ipvs_destination){
        .address = ntohl(number(t.a[IPVS_DEST_ATTR_ADDR])),
        .port = ntohs((uint16_t)number(t.a[IPVS_DEST_ATTR_PORT])),
        .weight = number(t.a[IPVS_DEST_ATTR_WEIGHT]),
    };
}

int ipvs_dump(struct ipvs *v, struct ipvs_state *ret, struct arena *a, struct err *e)
{
    struct ipvs_state state = { NULL, 0 };
    struct dump d = { .arena = a, .state = &state };
    struct nl_request r;
    int rc;

    (void)genl_request(&v->genl, &r, IPVS_CMD_GET_SERVICE, NLM_F_DUMP);
    rc = nl_ask(&v->genl.nl, &r, on_service, &d, e);
    for (size_t i = 0; rc == 0 && i < state.count; i++) {
        struct nlmsghdr *h = genl_request(&v->genl, &r, IPVS_CMD_GET_DEST, NLM_F_DUMP);
        struct nlattr *nest = mnl_attr_nest_start(h, IPVS_CMD_ATTR_SERVICE);

        put_service_key(h, state.services[i].mark);
        mnl_attr_nest_end(h, nest);
        d.service = &state.services[i];
        d.capacity = 0;
        rc = nl_ask(&v->genl.nl, &r, on_destination, &d, e);
    }
    if (rc < 0)
        return err_wrap(e, rc, "ipvs: list");
    ipvs_sort(&state);
    *ret = state;
    return 0;
}

/* ---- comparison ---------------------------------------------------------------------------------
 */

static void compare_lists(const struct ipvs_service *want, const struct ipvs_service *have,
                          struct differences *d)
{
    size_t i = 0, j = 0;

    while (i < want->count || j < have->count) {
        const struct ipvs_destination *x = &want->destinations[i], *y = &have->destinations[j], *z;
        int c = side(i, want->count, j, have->count,
                     i < want->count && j < have->count ? compare_destinations(x, y) : 0);
        char text[INET_ADDRSTRLEN];
        struct in_addr in;

        z = c <= 0 ? x : y;
        in.s_addr = htonl(z->address);
        if (c != 0 || x->weight != y->weight)
            differences_add(d, "ipvs",
                            c < 0   ? "missing"
                            : c > 0 ? "unexpected"
                                    : "differs: weight",
                            "mark 0x%x to %s:%u", want->mark,
                            inet_ntop(AF_INET, &in, text, sizeof(text)), z->port);
        i += c <= 0;
        j += c >= 0;
    }
}

void ipvs_compare(const struct ipvs_state *want, const struct ipvs_state *have,
                  struct differences *d)
{
    size_t i = 0, j = 0;

    while (i < want->count || j < have->count) {
        const struct ipvs_service *x = &want->services[i], *y = &have->services[j];
        int c = side(i, want->count, j, have->count,
                     i < want->count && j < have->count ? compare_services(x, y) : 0);

        if (c != 0)
            differences_add(d, "ipvs", c < 0 ? "missing" : "unexpected", "mark 0x%x",
                            (c < 0 ? x : y)->mark);
        else
            compare_lists(x, y, d);
        i += c <= 0;
        j += c >= 0;
    }
}
