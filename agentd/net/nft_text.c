#include "agentd/net/nft_internal.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <string.h>

#include "agentd/net/layout.h"
#include "common/hash.h"

enum {
    ROUTER = 1 << NFT_ROUTER,
    STEER = 1 << NFT_STEER,
    MARKS = 1 << NFT_MARKS,
    HOST = 1 << NFT_HOST,
    ELEMENTS_PER_COMMAND = 2000,
};

/* clang-format off */
const struct nft_kind_info nft_kinds[NFT_KINDS] = {
    [NFT_VIP]          = { "vip", "type ipv4_addr : verdict", ROUTER, false, "address" },
    [NFT_PORT]         = { "port", "type inet_proto . inet_service : verdict", ROUTER | STEER, false, "port" },
    [NFT_BACKEND]      = { "backend", "typeof numgen inc mod 2 : ip daddr", ROUTER, false, "backend" },
    [NFT_TCP_BACKEND]  = { "tcpbackend", "typeof numgen inc mod 2 : ip daddr . tcp dport", ROUTER | STEER, false, "backend of a port" },
    [NFT_UDP_BACKEND]  = { "udpbackend", "typeof numgen inc mod 2 : ip daddr . udp dport", ROUTER | STEER, false, "backend of a port" },
    [NFT_SCTP_BACKEND] = { "sctpbackend", "typeof numgen inc mod 2 : ip daddr . sctp dport", ROUTER | STEER, false, "backend of a port" },
    [NFT_HAIRPIN]      = { "hairpin", "type ipv4_addr . ipv4_addr", ROUTER | STEER, true, "hairpin" },
    [NFT_ENTRY]        = { "entry", "type ether_addr : mark", ROUTER | STEER, false, "entry node" },
    [NFT_VIP_MARK]     = { "vipmark", "type ipv4_addr : mark", MARKS, false, "address" },
    [NFT_PORT_MARK]    = { "portmark", "type inet_proto . inet_service : mark", MARKS, false, "port" },
    [NFT_HOST_PORT]    = { "port", "type inet_proto . inet_service : ipv4_addr . inet_service", HOST, false, "published port" },
    [NFT_HOST_ADDRESS] = { "addressport", "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service", HOST, false, "published port" },
};
/* clang-format on */

#define HOOK(type, hook, priority)                                                                 \
    hook, type, "type " type " hook " hook " priority " priority "; policy accept;"

const struct nft_base_chain nft_base_chains[NFT_BASE_CHAINS] = {
    { "prerouting", HOOK("nat", "prerouting", "dstnat"), ROUTER | STEER },
    { "postrouting", HOOK("nat", "postrouting", "srcnat"), ROUTER | STEER },
    { "steer", HOOK("filter", "prerouting", "mangle"), ROUTER | STEER },
    { "marks", HOOK("filter", "prerouting", "mangle"), MARKS },
    /* Before Docker's own, which are at dstnat and srcnat. */
    { "spoofed", HOOK("filter", "prerouting", "raw"), HOST },
    { "arriving", HOOK("nat", "prerouting", "dstnat - 1"), HOST },
    { "sent", HOOK("nat", "output", "-101"), HOST },
    { "leaving", HOOK("nat", "postrouting", "srcnat - 1"), HOST },
};

const char *nft_model_table(enum nft_role role)
{
    return role == NFT_HOST ? LAYOUT_INGRESS_TABLE : LAYOUT_TABLE;
}

/* ---- notation -----------------------------------------------------------------------------------
 */

bool nft_leads_to_port(enum nft_kind kind)
{
    return kind == NFT_TCP_BACKEND || kind == NFT_UDP_BACKEND || kind == NFT_SCTP_BACKEND ||
           kind == NFT_HOST_PORT || kind == NFT_HOST_ADDRESS;
}

enum nft_kind nft_backend_kind(uint64_t protocol)
{
    return protocol == IPPROTO_UDP    ? NFT_UDP_BACKEND
           : protocol == IPPROTO_SCTP ? NFT_SCTP_BACKEND
                                      : NFT_TCP_BACKEND;
}

static const char *protocol_of(uint64_t number)
{
    return number == 17 ? "udp" : number == 132 ? "sctp" : "tcp";
}

static const char *v4_format(uint64_t address, char ret[INET_ADDRSTRLEN])
{
    struct in_addr in = { htonl((uint32_t)address) };

    return inet_ntop(AF_INET, &in, ret, INET_ADDRSTRLEN);
}

const char *nft_chain_name(enum nft_kind kind, uint64_t id, char ret[NFT_NAME_BYTES])
{
    char mem[INET_ADDRSTRLEN];

    if (kind == NFT_VIP)
        (void)snprintf(ret, NFT_NAME_BYTES, "s-%s", v4_format(id, mem));
    else
        (void)snprintf(ret, NFT_NAME_BYTES, "p-%s-%" PRIu64, protocol_of(id >> 16), id & 0xffff);
    return ret;
}

static void key_format(enum nft_kind kind, uint64_t key, char *ret, size_t size)
{
    char mem[INET_ADDRSTRLEN];
    const char *ip = v4_format(key, mem);

    switch (kind) {
    case NFT_VIP:
    case NFT_VIP_MARK:
        (void)snprintf(ret, size, "%s", ip);
        break;
    case NFT_HAIRPIN:
        (void)snprintf(ret, size, "%s . %s", ip, ip);
        break;
    case NFT_HOST_ADDRESS:
        (void)snprintf(ret, size, "%s . %s . %" PRIu64, v4_format(key >> 24, mem),
                       protocol_of(key >> 16 & 0xff), key & 0xffff);
        break;
    case NFT_PORT:
    case NFT_PORT_MARK:
    case NFT_HOST_PORT:
        (void)snprintf(ret, size, "%s . %" PRIu64, protocol_of(key >> 16), key & 0xffff);
        break;
    case NFT_ENTRY:
        (void)snprintf(ret, size, "%02x:%02x:%02x:%02x:%02x:%02x", (unsigned)(key >> 40) & 0xff,
                       (unsigned)(key >> 32) & 0xff, (unsigned)(key >> 24) & 0xff,
                       (unsigned)(key >> 16) & 0xff, (unsigned)(key >> 8) & 0xff,
                       (unsigned)key & 0xff);
        break;
    case NFT_BACKEND:
    case NFT_TCP_BACKEND:
    case NFT_UDP_BACKEND:
    case NFT_SCTP_BACKEND:
    case NFT_KINDS:
        (void)snprintf(ret, size, "%" PRIu64, key);
        break;
    }
}

const char *nft_element_format(enum nft_kind kind, const struct nft_element *e, bool with_value,
                               char ret[NFT_ELEMENT_BYTES])
{
    char mem[INET_ADDRSTRLEN], name[NFT_NAME_BYTES];
    size_t at;

    key_format(kind, e->key, ret, NFT_ELEMENT_BYTES);
    if (!with_value || nft_kinds[kind].set)
        return ret;
    at = strlen(ret);
    if (kind == NFT_VIP || kind == NFT_PORT)
        (void)snprintf(ret + at, NFT_ELEMENT_BYTES - at, " : goto %s",
                       nft_chain_name(kind, e->value, name));
    else if (kind == NFT_BACKEND)
        (void)snprintf(ret + at, NFT_ELEMENT_BYTES - at, " : %s", v4_format(e->value, mem));
    else if (nft_leads_to_port(kind))
        (void)snprintf(ret + at, NFT_ELEMENT_BYTES - at, " : %s . %" PRIu64,
                       v4_format(e->value >> 16, mem), e->value & 0xffff);
    else
        (void)snprintf(ret + at, NFT_ELEMENT_BYTES - at, " : %" PRIu64, e->value);
    return ret;
}

const char *nft_rule_tag(const char *text, char ret[NFT_TAG_BYTES])
{
    (void)snprintf(ret, NFT_TAG_BYTES, "%016" PRIx64, hash_str(text, 0));
    return ret;
}

/* ---- rules --------------------------------------------------------------------------------------
 */

struct rules {
    struct nft_rule *items;
    size_t count;
};

static void PRINTF(3, 4) rule(struct rules *r, const char *chain, const char *format, ...)
{
    struct nft_rule *next = &r->items[r->count++];
    va_list args;

    (void)snprintf(next->chain, sizeof(next->chain), "%s", chain);
    va_start(args, format);
    (void)vsnprintf(next->text, sizeof(next->text), format, args); /* bounded by what goes in */
    va_end(args);
}

#define BALANCED "meta l4proto { tcp, udp, sctp } "

static void postrouting_rules(const struct nft_model *m, struct rules *r)
{
    char mem[IP_CHARS + 1];

    if (m->gateway.family == IP_V4)
        rule(r, "postrouting", "ip saddr . ip daddr @hairpin snat to %s",
             ip_format(&m->gateway, mem));
    if (m->role == NFT_ROUTER && m->self.family == IP_V4)
        rule(r, "postrouting", "ct mark and 0x%x == 0x%x snat to %s", LAYOUT_MARK_SNAT,
             LAYOUT_MARK_SNAT, ip_format(&m->self, mem));
    if (m->role != NFT_STEER)
        return;
    /* Below the ephemeral ports, so that what L sends cannot be mistaken for a direct connection of
     * the same client to the same backend (network.md 5.3). */
    if (m->self.family == IP_V4)
        rule(r, "postrouting",
             "oifname \"" LAYOUT_TO_BALANCER "\" ct mark and 0x%x == 0x%x " BALANCED
             "snat to %s:1024-32767",
             LAYOUT_MARK_SNAT, LAYOUT_MARK_SNAT, ip_format(&m->self, mem));
    rule(r, "postrouting", "oifname \"" LAYOUT_TO_BALANCER "\" " BALANCED "snat to :1024-32767");
}

static void steer_rules(const struct nft_model *m, struct rules *r)
{
    bool steer = m->role == NFT_STEER;

    if (steer)
        rule(r, "steer", "iifname \"" LAYOUT_TO_BALANCER "\" ct state new ct mark set 0x%x",
             LAYOUT_MARK_STEER);
    if (m->preserve && m->outside != NULL)
        rule(r, "steer",
             "iifname \"" LAYOUT_VXLAN "\" ct state new ip saddr != { %s } "
             "ct mark set ether saddr map @entry",
             m->outside);
    if (steer)
        rule(r, "steer",
             "iifname != \"" LAYOUT_TO_BALANCER "\" ct direction reply ct mark and 0x%x == 0x%x "
             "meta mark set 0x%x accept",
             LAYOUT_MARK_STEER, LAYOUT_MARK_STEER, LAYOUT_MARK_STEER);
    if (m->preserve && m->outside != NULL)
        rule(r, "steer",
             "iifname != { \"" LAYOUT_VXLAN "\", \"" LAYOUT_UPLINK "\", \"" LAYOUT_TO_BALANCER
             "\" } ct direction reply ct mark and 0x%x != 0 meta mark set ct mark and 0x%x",
             LAYOUT_MARK_PEER_MASK, LAYOUT_MARK_PEER_MASK);
}

static void host_rules(struct rules *r)
{
    static const char *const hooks[] = { "arriving", "sent" };

    /* route_localnet lets answers to 127.0.0.1 come in by a link; nothing else for it may. */
    rule(r, "spoofed", "iifname \"" LAYOUT_HOST_LINK "*\" ip daddr 127.0.0.0/8 drop");
    for (size_t i = 0; i < ARRAY_LEN(hooks); i++) {
        rule(r, hooks[i],
             "fib daddr type local " BALANCED
             "dnat ip to ip daddr . meta l4proto . th dport map @addressport");
        rule(r, hooks[i],
             "fib daddr type local " BALANCED "dnat ip to meta l4proto . th dport map @port");
    }
    /* The router knows the way back to the link only. */
    rule(r, "leaving",
         "ct status dnat oifname \"" LAYOUT_HOST_LINK "*\" fib saddr type local masquerade");
    rule(r, "leaving",
         "ct status dnat oifname \"" LAYOUT_HOST_LINK "*\" iifname \"" LAYOUT_HOST_LINK
         "*\" masquerade");
}

size_t nft_base_rules(const struct nft_model *m, struct nft_rule ret[NFT_BASE_RULES_MAX])
{
    struct rules r = { .items = ret };

    if (m->role == NFT_HOST) {
        host_rules(&r);
        return r.count;
    }
    if (m->role == NFT_MARKS) {
        rule(&r, "marks", "iifname \"" LAYOUT_TO_ROUTER "\" meta mark set ip daddr map @vipmark");
        rule(&r, "marks",
             "iifname \"" LAYOUT_TO_ROUTER "\" ip daddr " LAYOUT_MESH_ADDRESS
             " meta mark set meta l4proto . th dport map @portmark");
        return r.count;
    }
    if (m->role == NFT_ROUTER)
        rule(&r, "prerouting", BALANCED "ip daddr vmap @vip");
    rule(&r, "prerouting",
         "iifname \"" LAYOUT_UPLINK "\" fib daddr type local " BALANCED
         "meta l4proto . th dport vmap @port");
    postrouting_rules(m, &r);
    steer_rules(m, &r);
    return r.count;
}

bool nft_service_has_chain(const struct nft_model *m, const struct nft_service *s)
{
    if (m->role == NFT_MARKS || (m->role == NFT_STEER && s->kind == NFT_VIP))
        return false;
    return s->count > 0 || s->mesh;
}

void nft_service_rule(const struct nft_service *s, struct nft_rule *ret)
{
    uint64_t offset = (uint64_t)s->slot * NFT_BACKENDS_MAX;
    char mark[48] = "";

    (void)nft_chain_name(s->kind, s->id, ret->chain);
    if (s->snat)
        (void)snprintf(mark, sizeof(mark), "ct mark set ct mark or 0x%x ", LAYOUT_MARK_SNAT);
    if (s->kind == NFT_VIP)
        (void)snprintf(ret->text, sizeof(ret->text),
                       "dnat ip to numgen inc mod %u offset %" PRIu64 " map @backend", s->count,
                       offset);
    else if (s->mesh)
        (void)snprintf(ret->text, sizeof(ret->text),
                       "%smeta l4proto %s dnat ip to " LAYOUT_MESH_ADDRESS ":%" PRIu64, mark,
                       protocol_of(s->id >> 16), s->id & 0xffff);
    else
        (void)snprintf(ret->text, sizeof(ret->text),
                       "%smeta l4proto %s dnat ip to numgen inc mod %u offset %" PRIu64 " map @%s",
                       mark, protocol_of(s->id >> 16), s->count, offset,
                       nft_kinds[nft_backend_kind(s->id >> 16)].name);
}

/* ---- transactions -------------------------------------------------------------------------------
 */

/* The first failure stays; the rest of the text does not matter then. */
struct writing {
    struct buf *text;
    const char *table;
    int rc;
    bool adding; /* elements: or deleting */
};

static void PRINTF(2, 3) write_text(struct writing *w, const char *format, ...)
{
    char line[NFT_RULE_BYTES + 2 * NFT_NAME_BYTES];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (w->rc == 0)
        w->rc = buf_append_str(w->text, line);
}

static void write_rule(struct writing *w, const struct nft_rule *r)
{
    char tag[NFT_TAG_BYTES];

    write_text(w, "add rule ip %s %s %s comment \"%s\"\n", w->table, r->chain, r->text,
               nft_rule_tag(r->text, tag));
}

static void write_fresh(struct writing *w, enum nft_role role)
{
    write_text(w, "table ip %s\ndelete table ip %s\ntable ip %s {\n", w->table, w->table, w->table);
    for (size_t i = 0; i < NFT_KINDS; i++)
        if ((nft_kinds[i].roles & (1u << role)) != 0)
            write_text(w, "%s %s { %s; }\n", nft_kinds[i].set ? "set" : "map", nft_kinds[i].name,
                       nft_kinds[i].type);
    for (size_t i = 0; i < NFT_BASE_CHAINS; i++)
        if ((nft_base_chains[i].roles & (1u << role)) != 0)
            write_text(w, "chain %s { %s }\n", nft_base_chains[i].name,
                       nft_base_chains[i].declaration);
    write_text(w, "}\n");
}

static bool same_base(const struct nft_model *a, const struct nft_model *b)
{
    struct nft_rule x[NFT_BASE_RULES_MAX], y[NFT_BASE_RULES_MAX];
    size_t n = nft_base_rules(a, x);

    if (nft_base_rules(b, y) != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (strcmp(x[i].chain, y[i].chain) != 0 || strcmp(x[i].text, y[i].text) != 0)
            return false;
    return true;
}

static void write_base_rules(struct writing *w, const struct nft_model *m, bool flush)
{
    struct nft_rule rules[NFT_BASE_RULES_MAX];
    size_t count = nft_base_rules(m, rules);

    for (size_t i = 0; flush && i < NFT_BASE_CHAINS; i++)
        if ((nft_base_chains[i].roles & (1u << m->role)) != 0)
            write_text(w, "flush chain ip %s %s\n", w->table, nft_base_chains[i].name);
    for (size_t i = 0; i < count; i++)
        write_rule(w, &rules[i]);
}

static int compare_services(const struct nft_service *a, const struct nft_service *b)
{
    if (a == NULL || b == NULL)
        return a == NULL ? 1 : -1;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

static const struct nft_service *next_chain(const struct nft_model *m, size_t *at)
{
    while (m != NULL && *at < m->service_count) {
        if (nft_service_has_chain(m, &m->services[*at]))
            return &m->services[*at];
        (*at)++;
    }
    return NULL;
}

/* What nft_service_rule() makes its text of. */
static bool same_rule(const struct nft_service *a, const struct nft_service *b)
{
    return a->slot == b->slot && a->count == b->count && a->snat == b->snat && a->mesh == b->mesh;
}

/* Chains that are only in was (remove) or new and different in want (not remove). */
static void write_chains(struct writing *w, const struct nft_model *was,
                         const struct nft_model *want, bool remove)
{
    size_t i = 0, j = 0;
    struct nft_rule x, y;

    for (;;) {
        const struct nft_service *a = next_chain(was, &i), *b = next_chain(want, &j);
        int c = compare_services(a, b);

        if (a == NULL && b == NULL)
            return;
        if (c < 0 && remove) {
            (void)nft_chain_name(a->kind, a->id, x.chain);
            write_text(w, "flush chain ip %s %s\ndelete chain ip %s %s\n", w->table, x.chain,
                       w->table, x.chain);
        }
        if (!remove && (c > 0 || (c == 0 && !same_rule(a, b)))) {
            nft_service_rule(b, &y);
            write_text(w, "%s chain ip %s %s\n", c > 0 ? "add" : "flush", w->table, y.chain);
            write_rule(w, &y);
        }
        i += a != NULL && c <= 0;
        j += b != NULL && c >= 0;
    }
}

struct element_writing {
    struct writing *w;
    enum nft_kind kind;
    const char *verb;
    size_t open; /* elements in the command that is open */
};

static void write_element(struct element_writing *x, const struct nft_element *e, bool with_value)
{
    char mem[NFT_ELEMENT_BYTES];

    if (x->open == 0)
        write_text(x->w, "%s element ip %s %s { ", x->verb, x->w->table, nft_kinds[x->kind].name);
    write_text(x->w, "%s%s", x->open > 0 ? ", " : "",
               nft_element_format(x->kind, e, with_value, mem));
    if (++x->open == ELEMENTS_PER_COMMAND) {
        write_text(x->w, " }\n");
        x->open = 0;
    }
}

/* Elements of x that y does not have with the same value. */
static void write_elements(struct writing *w, enum nft_kind kind, const struct nft_set *x,
                           const struct nft_set *y)
{
    bool adding = w->adding;
    struct element_writing out = { .w = w, .kind = kind, .verb = adding ? "add" : "delete" };
    size_t j = 0;

    for (size_t i = 0; i < x->count; i++) {
        const struct nft_element *e = &x->items[i];

        while (y != NULL && j < y->count && y->items[j].key < e->key)
            j++;
        if (y == NULL || j == y->count || y->items[j].key != e->key ||
            y->items[j].value != e->value)
            write_element(&out, e, adding);
    }
    if (out.open > 0)
        write_text(w, " }\n");
}

int nft_model_change(const struct nft_model *was, const struct nft_model *want, struct buf *text,
                     struct err *e)
{
    struct writing w = { .text = text, .table = nft_model_table(want->role) };

    if (was != NULL && was->role != want->role)
        was = NULL;
    if (was == NULL)
        write_fresh(&w, want->role);
    if (was == NULL || !same_base(was, want))
        write_base_rules(&w, want, was != NULL);
    write_chains(&w, was, want, false);
    for (enum nft_kind kind = 0; was != NULL && kind < NFT_KINDS; kind++)
        write_elements(&w, kind, &was->sets[kind], &want->sets[kind]);
    w.adding = true;
    for (enum nft_kind kind = 0; kind < NFT_KINDS; kind++)
        write_elements(&w, kind, &want->sets[kind], was != NULL ? &was->sets[kind] : NULL);
    write_chains(&w, was, want, true);
    if (w.rc < 0)
        return err_set(e, ERR_TOO_BIG, "nftables: the table's text is beyond %zu bytes",
                       text->size_max);
    return 0;
}
