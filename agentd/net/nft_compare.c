/* Listings of libnftables (JSON) read back, for adoption and for the comparison with the plan. */
#include "agentd/net/nft_internal.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <string.h>

/* ---- elements -----------------------------------------------------------------------------------
 */

static bool number_of(const json_t *v, uint64_t *ret)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *ret = (uint64_t)json_integer_value(v);
    return true;
}

static bool v4_of(const json_t *v, uint64_t *ret)
{
    struct in_addr in;

    if (!json_is_string(v) || inet_pton(AF_INET, json_string_value(v), &in) != 1)
        return false;
    *ret = ntohl(in.s_addr);
    return true;
}

static bool mac_of(const json_t *v, uint64_t *ret)
{
    unsigned b[6];
    char end;

    if (!json_is_string(v) || sscanf(json_string_value(v), "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0],
                                     &b[1], &b[2], &b[3], &b[4], &b[5], &end) != 6)
        return false;
    *ret = 0;
    for (size_t i = 0; i < 6; i++)
        *ret = *ret << 8 | b[i];
    return true;
}

/* A protocol is listed by name or number. */
static bool protocol_number(const json_t *v, uint64_t *ret)
{
    const char *name = json_string_value(v);

    if (name == NULL)
        return number_of(v, ret);
    *ret = strcmp(name, "tcp") == 0    ? IPPROTO_TCP
           : strcmp(name, "udp") == 0  ? IPPROTO_UDP
           : strcmp(name, "sctp") == 0 ? IPPROTO_SCTP
                                       : 0;
    return *ret != 0;
}

static bool pair_of(const json_t *v, bool (*first_of)(const json_t *v, uint64_t *ret),
                    bool (*second_of)(const json_t *v, uint64_t *ret), uint64_t ret[2])
{
    const json_t *parts = json_object_get(v, "concat");

    return json_array_size(parts) == 2 && first_of(json_array_get(parts, 0), &ret[0]) &&
           second_of(json_array_get(parts, 1), &ret[1]);
}

static bool address_port_of(const json_t *v, uint64_t *ret)
{
    const json_t *parts = json_object_get(v, "concat");
    uint64_t address, protocol, port;

    if (json_array_size(parts) != 3 || !v4_of(json_array_get(parts, 0), &address) ||
        !protocol_number(json_array_get(parts, 1), &protocol) ||
        !number_of(json_array_get(parts, 2), &port))
        return false;
    *ret = address << 24 | protocol << 16 | port;
    return true;
}

static bool key_of(enum nft_kind kind, const json_t *v, uint64_t *ret)
{
    uint64_t pair[2];

    switch (kind) {
    case NFT_VIP:
    case NFT_VIP_MARK:
        return v4_of(v, ret);
    case NFT_PORT:
    case NFT_PORT_MARK:
    case NFT_HOST_PORT:
        if (!pair_of(v, protocol_number, number_of, pair))
            return false;
        *ret = pair[0] << 16 | pair[1];
        return true;
    case NFT_HOST_ADDRESS:
        return address_port_of(v, ret);
    case NFT_HAIRPIN:
        *ret = pair_of(v, v4_of, v4_of, pair) ? pair[0] : 0;
        return *ret != 0 && pair[0] == pair[1];
    case NFT_ENTRY:
        return mac_of(v, ret);
    case NFT_BACKEND:
    case NFT_TCP_BACKEND:
    case NFT_UDP_BACKEND:
    case NFT_SCTP_BACKEND:
    case NFT_KINDS:
        break;
    }
    return number_of(v, ret);
}

static bool value_of(enum nft_kind kind, uint64_t key, const json_t *v, uint64_t *ret)
{
    char name[NFT_NAME_BYTES];
    const char *target;
    uint64_t pair[2];

    if (kind == NFT_VIP || kind == NFT_PORT) { /* an element leads to the chain of its key */
        target = json_string_value(json_object_get(json_object_get(v, "goto"), "target"));
        *ret = key;
        return target != NULL && strcmp(target, nft_chain_name(kind, key, name)) == 0;
    }
    if (kind == NFT_BACKEND)
        return v4_of(v, ret);
    if (!nft_leads_to_port(kind))
        return number_of(v, ret);
    if (!pair_of(v, v4_of, number_of, pair))
        return false;
    *ret = pair[0] << 16 | pair[1];
    return true;
}

static bool element_of(enum nft_kind kind, const json_t *v, struct nft_element *ret)
{
    if (nft_kinds[kind].set) {
        ret->value = 0;
        return key_of(kind, v, &ret->key);
    }
    return json_array_size(v) == 2 && key_of(kind, json_array_get(v, 0), &ret->key) &&
           value_of(kind, ret->key, json_array_get(v, 1), &ret->value);
}

/* Elements of a listed set; those that none of ours can look like are counted in *ret_foreign. */
static struct nft_set set_of(enum nft_kind kind, const json_t *set, size_t *ret_foreign,
                             struct arena *a)
{
    const json_t *elements = json_object_get(set, "elem"), *v;
    struct nft_set s = { .items = arena_array(a, json_array_size(elements) + 1, sizeof(*s.items)) };
    size_t i;

    json_array_foreach(elements, i, v)
    {
        if (element_of(kind, v, &s.items[s.count]))
            s.count++;
        else
            (*ret_foreign)++;
    }
    qsort(s.items, s.count, sizeof(*s.items), nft_element_compare);
    return s;
}

static const json_t *listed_set(const json_t *objects, enum nft_kind kind)
{
    const json_t *o, *set;
    const char *name;
    size_t i;

    json_array_foreach(objects, i, o)
    {
        set = json_object_get(o, nft_kinds[kind].set ? "set" : "map");
        name = json_string_value(json_object_get(set, "name"));
        if (name != NULL && strcmp(name, nft_kinds[kind].name) == 0)
            return set;
    }
    return NULL;
}

const struct nft_model *nft_model_parse(enum nft_role role, const json_t *objects, struct arena *a)
{
    struct nft_model *m = ARENA_NEW(a, struct nft_model);
    size_t foreign = 0;

    m->role = role;
    for (enum nft_kind kind = 0; kind < NFT_KINDS; kind++)
        if ((nft_kinds[kind].roles & (1u << role)) != 0)
            m->sets[kind] = set_of(kind, listed_set(objects, kind), &foreign, a);
    if (role != NFT_MARKS)
        return m;
    /* Slots are told by the marks. */
    m->services = arena_array(a, m->sets[NFT_VIP_MARK].count + m->sets[NFT_PORT_MARK].count + 1,
                              sizeof(*m->services));
    for (enum nft_kind kind = NFT_VIP_MARK; kind <= NFT_PORT_MARK; kind++)
        for (size_t i = 0; i < m->sets[kind].count; i++) {
            const struct nft_element *e = &m->sets[kind].items[i];

            if (e->value >= NFT_MARK_BASE && e->value < NFT_MARK_BASE + NFT_SLOTS_MAX)
                m->services[m->service_count++] =
                    (struct nft_service){ .id = e->key,
                                          .kind = kind == NFT_VIP_MARK ? NFT_VIP : NFT_PORT,
                                          .slot = (uint32_t)(e->value - NFT_MARK_BASE) };
        }
    return m;
}

/* ---- comparison ---------------------------------------------------------------------------------
 */

static void report(struct differences *d, enum nft_kind kind, const struct nft_element *e,
                   const char *problem)
{
    char mem[NFT_ELEMENT_BYTES];

    differences_add(d, "nft", problem, "%s %s", nft_kinds[kind].singular,
                    nft_element_format(kind, e, true, mem));
}

static void compare_sets(enum nft_kind kind, const struct nft_set *want, const struct nft_set *have,
                         struct differences *d)
{
    size_t i = 0, j = 0;

    while (i < want->count || j < have->count) {
        const struct nft_element *x = i < want->count ? &want->items[i] : NULL;
        const struct nft_element *y = j < have->count ? &have->items[j] : NULL;

        if (y == NULL || (x != NULL && x->key < y->key)) {
            report(d, kind, x, "missing");
            i++;
        } else if (x == NULL || y->key < x->key) {
            report(d, kind, y, "unexpected");
            j++;
        } else {
            if (x->value != y->value)
                report(d, kind, x, "differs: another value");
            i++;
            j++;
        }
    }
}

struct tagged { /* a rule: its chain, place in it, and tag; text NULL: listed */
    char chain[NFT_NAME_BYTES];
    size_t place;
    char tag[NFT_TAG_BYTES];
};

static int compare_tagged(const void *a, const void *b)
{
    const struct tagged *x = a, *y = b;
    int c = strcmp(x->chain, y->chain);

    return c != 0 ? c : x->place < y->place ? -1 : x->place > y->place;
}

static void tagged_set(struct tagged *t, const char *chain, const char *tag, size_t place)
{
    (void)snprintf(t->chain, sizeof(t->chain), "%s", chain);
    (void)snprintf(t->tag, sizeof(t->tag), "%s", tag);
    t->place = place;
}

/* In order of (chain, place); places count from 0 in each chain. */
static size_t tagged_sort(struct tagged *t, size_t count)
{
    size_t place = 0;

    qsort(t, count, sizeof(*t), compare_tagged);
    for (size_t i = 0; i < count; i++) {
        place = i > 0 && strcmp(t[i - 1].chain, t[i].chain) == 0 ? place + 1 : 0;
        t[i].place = place;
    }
    return count;
}

static size_t wanted_rules(const struct nft_model *m, struct tagged *ret)
{
    struct nft_rule rules[NFT_BASE_RULES_MAX], r;
    size_t count = 0, base = nft_base_rules(m, rules);
    char tag[NFT_TAG_BYTES];

    for (size_t i = 0; i < base; i++, count++)
        tagged_set(&ret[count], rules[i].chain, nft_rule_tag(rules[i].text, tag), count);
    for (size_t i = 0; i < m->service_count; i++) {
        if (!nft_service_has_chain(m, &m->services[i]))
            continue;
        nft_service_rule(&m->services[i], &r);
        tagged_set(&ret[count], r.chain, nft_rule_tag(r.text, tag), count);
        count++;
    }
    return tagged_sort(ret, count);
}

static size_t listed_rules(const json_t *objects, struct tagged *ret)
{
    const json_t *o, *rule;
    const char *chain, *tag;
    size_t i, count = 0;

    json_array_foreach(objects, i, o)
    {
        rule = json_object_get(o, "rule");
        chain = json_string_value(json_object_get(rule, "chain"));
        tag = json_string_value(json_object_get(rule, "comment"));
        if (chain == NULL)
            continue;
        tagged_set(&ret[count], chain, tag != NULL ? tag : "", count);
        count++;
    }
    return tagged_sort(ret, count);
}

static void compare_rules(const struct nft_model *want, const json_t *objects,
                          struct differences *d)
{
    size_t i = 0, j = 0, n, m;
    struct tagged *x, *y;

    x = xcalloc(want->service_count + NFT_BASE_RULES_MAX, sizeof(*x));
    y = xcalloc(json_array_size(objects) + 1, sizeof(*y));
    n = wanted_rules(want, x);
    m = listed_rules(objects, y);
    while (i < n || j < m) {
        int c = i == n ? 1 : j == m ? -1 : compare_tagged(&x[i], &y[j]);

        if (c < 0)
            differences_add(d, "nft", "missing", "rule %zu of chain %s", x[i].place + 1,
                            x[i].chain);
        else if (c > 0)
            differences_add(d, "nft", "unexpected", "rule %zu of chain %s", y[j].place + 1,
                            y[j].chain);
        else if (strcmp(x[i].tag, y[j].tag) != 0)
            differences_add(d, "nft", "differs: not as programmed", "rule %zu of chain %s",
                            x[i].place + 1, x[i].chain);
        i += c <= 0;
        j += c >= 0;
    }
    free(x);
    free(y);
}

static void compare_chains(const struct nft_model *want, const json_t *objects,
                           struct differences *d)
{
    const json_t *o, *chain;
    size_t i;

    for (size_t k = 0; k < NFT_BASE_CHAINS; k++) {
        const struct nft_base_chain *c = &nft_base_chains[k];
        const char *name, *hook, *type;
        bool found = false;

        json_array_foreach(objects, i, o)
        {
            chain = json_object_get(o, "chain");
            name = json_string_value(json_object_get(chain, "name"));
            hook = json_string_value(json_object_get(chain, "hook"));
            type = json_string_value(json_object_get(chain, "type"));
            found |= name != NULL && strcmp(name, c->name) == 0 && hook != NULL && type != NULL &&
                     strcmp(hook, c->hook) == 0 && strcmp(type, c->type) == 0;
        }
        if (!found && (c->roles & (1u << want->role)) != 0)
            differences_add(d, "nft", "missing", "chain %s at hook %s", c->name, c->hook);
    }
}

void nft_model_compare(const struct nft_model *want, const json_t *objects, struct differences *d)
{
    CLEANUP_ARENA struct arena a = { 0 };
    size_t foreign = 0;

    if (objects == NULL) {
        differences_add(d, "nft", "missing", "table %s", nft_model_table(want->role));
        return;
    }
    compare_chains(want, objects, d);
    compare_rules(want, objects, d);
    for (enum nft_kind kind = 0; kind < NFT_KINDS; kind++) {
        struct nft_set have;

        if ((nft_kinds[kind].roles & (1u << want->role)) == 0)
            continue;
        have = set_of(kind, listed_set(objects, kind), &foreign, &a);
        compare_sets(kind, &want->sets[kind], &have, d);
        if (foreign > 0)
            differences_add(d, "nft", "unexpected", "%zu elements of %s", foreign,
                            nft_kinds[kind].name);
        foreign = 0;
    }
}
