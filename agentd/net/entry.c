#include "agentd/net/entry.h"

#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#include "agentd/net/entry_wire.h"
#include "common/assert.h"

static_assert(sizeof(struct entry) == ENTRY_BYTES, "entries are compared as bytes: no padding");
static_assert(offsetof(struct entry, out) == ENTRY_KEY_BYTES, "the key comes first");

void entries_deinit(struct entries *s)
{
    free(s->items);
    *s = (struct entries){ 0 };
}

void entries_clear(struct entries *s)
{
    s->count = 0;
}

struct entry *entries_append(struct entries *s)
{
    if (s->count == s->capacity) {
        s->capacity = s->capacity == 0 ? 64 : s->capacity * 2;
        s->items = xrealloc_array(s->items, s->capacity, sizeof(*s->items));
    }
    struct entry *x = &s->items[s->count++];
    memset(x, 0, sizeof(*x));
    return x;
}

static int by_key(const void *a, const void *b)
{
    return memcmp(a, b, ENTRY_KEY_BYTES);
}

void entries_sort(struct entries *s)
{
    size_t kept = 0;
    bool sorted = true;

    for (size_t i = 1; sorted && i < s->count; i++)
        sorted = by_key(&s->items[i - 1], &s->items[i]) < 0;
    if (sorted)
        return;
    qsort(s->items, s->count, sizeof(*s->items), by_key);
    for (size_t i = 0; i < s->count; i++) {
        if (kept > 0 && by_key(&s->items[kept - 1], &s->items[i]) == 0)
            kept--;
        s->items[kept++] = s->items[i];
    }
    s->count = kept;
}

void entries_add_address(struct entries *s, int device, const struct ip *ip, uint8_t prefix)
{
    struct entry *x = entries_append(s);

    x->kind = ENTRY_ADDRESS;
    x->family = ip->family;
    x->prefix = prefix;
    x->device = (uint32_t)device;
    memcpy(x->key, ip->bytes, sizeof(x->key));
}

void entries_add_neighbour(struct entries *s, int device, const struct ip *ip, const uint8_t mac[6])
{
    struct entry *x = entries_append(s);

    x->kind = ENTRY_NEIGHBOUR;
    x->family = ip->family;
    x->device = (uint32_t)device;
    memcpy(x->key, ip->bytes, sizeof(x->key));
    memcpy(x->mac, mac, sizeof(x->mac));
}

void entries_add_fdb(struct entries *s, int device, const uint8_t mac[6], const struct ip *vtep)
{
    struct entry *x = entries_append(s);

    x->kind = ENTRY_FDB;
    x->device = (uint32_t)device;
    memcpy(x->key, mac, 6);
    x->via_family = vtep->family;
    memcpy(x->via, vtep->bytes, sizeof(x->via));
}

void entries_add_route(struct entries *s, const struct entry_route *r)
{
    struct entry *x = entries_append(s);
    struct ip_net base = ip_net_base(&r->destination);

    x->kind = ENTRY_ROUTE;
    x->family = base.address.family;
    x->prefix = base.prefix;
    x->table = r->table != 0 ? r->table : RT_TABLE_MAIN;
    memcpy(x->key, base.address.bytes, sizeof(x->key));
    x->out = (uint32_t)r->device;
    x->via_family = r->via.family;
    memcpy(x->via, r->via.bytes, sizeof(x->via));
    if (r->source.family == IP_V4)
        memcpy(x->source, r->source.bytes, sizeof(x->source));
}

void entries_add_rule(struct entries *s, uint32_t preference, const struct ip *source,
                      uint32_t table)
{
    struct entry *x = entries_append(s);

    x->kind = ENTRY_RULE;
    x->family = source->family;
    x->prefix = (uint8_t)ip_bits(source);
    x->table = table;
    x->metric = preference;
    memcpy(x->key, source->bytes, sizeof(x->key));
}

/* ---- text ------------------------------------------------------------------------------------ */

const char *entry_what(const struct entry *x)
{
    switch (x->kind) {
    case ENTRY_ADDRESS:
        return "address";
    case ENTRY_NEIGHBOUR:
        return "neighbour";
    case ENTRY_FDB:
        return "fdb";
    case ENTRY_ROUTE:
        return "route";
    default:
        return "rule";
    }
}

static const char *device_text(const struct entry_diff *names, uint32_t device, char mem[24])
{
    const char *name = device != 0 && names != NULL && names->device_name != NULL
                           ? names->device_name(names->ctx, (int)device)
                           : NULL;

    if (name != NULL)
        return name;
    (void)snprintf(mem, 24, "device %u", device);
    return mem;
}

static const char *mac_text(const uint8_t m[6], char mem[18])
{
    (void)snprintf(mem, 18, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
    return mem;
}

static void route_text(const struct entry *x, const struct entry_diff *names, char ret[ENTRY_TEXT])
{
    struct ip_net to = { .address = { .family = x->family }, .prefix = x->prefix };
    struct ip via = { .family = x->via_family };
    char a[IP_NET_CHARS + 1], b[IP_CHARS + 1], mem[24];

    memcpy(to.address.bytes, x->key, sizeof(x->key));
    memcpy(via.bytes, x->via, sizeof(x->via));
    (void)ip_net_format(&to, a);
    if (x->out == 0)
        (void)snprintf(ret, ENTRY_TEXT, "unreachable %s", a);
    else if (x->via_family != 0)
        (void)snprintf(ret, ENTRY_TEXT, "%s via %s dev %s", a, ip_format(&via, b),
                       device_text(names, x->out, mem));
    else
        (void)snprintf(ret, ENTRY_TEXT, "%s dev %s", a, device_text(names, x->out, mem));
}

const char *entry_format(const struct entry *x, const struct entry_diff *names,
                         char ret[ENTRY_TEXT])
{
    struct ip key = { .family = x->family }, via = { .family = x->via_family };
    char a[IP_CHARS + 1] = "", b[IP_CHARS + 1], m[18], mem[24];

    memcpy(key.bytes, x->key, sizeof(x->key));
    memcpy(via.bytes, x->via, sizeof(x->via));
    if (x->family != 0)
        (void)ip_format(&key, a);
    switch (x->kind) {
    case ENTRY_ADDRESS:
        (void)snprintf(ret, ENTRY_TEXT, "%s/%u dev %s", a, x->prefix,
                       device_text(names, x->device, mem));
        break;
    case ENTRY_NEIGHBOUR:
        (void)snprintf(ret, ENTRY_TEXT, "%s lladdr %s dev %s", a, mac_text(x->mac, m),
                       device_text(names, x->device, mem));
        break;
    case ENTRY_FDB:
        (void)snprintf(ret, ENTRY_TEXT, "%s dst %s dev %s", mac_text(x->key, m), ip_format(&via, b),
                       device_text(names, x->device, mem));
        break;
    case ENTRY_ROUTE:
        route_text(x, names, ret);
        break;
    default:
        (void)snprintf(ret, ENTRY_TEXT, "from %s lookup %u", a, x->table);
        break;
    }
    return ret;
}

/* ---- difference ------------------------------------------------------------------------------ */

struct programming {
    struct nl *n;
    const struct entry_diff *diff;
    struct entry_change *change;
};

static void tell(const struct programming *p, const struct entry *x, const char *problem)
{
    char text[ENTRY_TEXT];

    if (p->diff->d != NULL)
        differences_add(p->diff->d, entry_what(x), problem, "%s", entry_format(x, p->diff, text));
}

static void add(const struct programming *p, size_t index, const struct entry *had)
{
    const struct entry *x = &p->diff->want->items[index];
    char problem[ENTRY_TEXT + 16] = "missing", text[ENTRY_TEXT];

    if (had != NULL) {
        p->change->replaced++;
        (void)snprintf(problem, sizeof(problem), "differs: %s", entry_format(had, p->diff, text));
    } else {
        p->change->added++;
    }
    tell(p, x, problem);
    if (p->n != NULL)
        entry_put(p->n, x, true, (uint32_t)index);
}

static void walk_additions(const struct programming *p)
{
    const struct entries *have = p->diff->have, *want = p->diff->want;
    size_t h = 0;

    for (size_t w = 0; w < want->count; w++) {
        int order = 1;

        while (h < have->count && (order = by_key(&have->items[h], &want->items[w])) < 0)
            h++;
        if (h == have->count || order != 0)
            add(p, w, NULL);
        else if (memcmp(&have->items[h], &want->items[w], sizeof(struct entry)) != 0)
            add(p, w, &have->items[h]);
    }
}

/* The tags of removals follow those of additions. */
static void walk_removals(const struct programming *p)
{
    const struct entries *have = p->diff->have, *want = p->diff->want;
    size_t w = want->count;

    for (size_t h = have->count; h-- > 0;) {
        int order = 1;

        while (w > 0 && (order = by_key(&want->items[w - 1], &have->items[h])) > 0)
            w--;
        if (w > 0 && order == 0)
            continue;
        p->change->removed++;
        tell(p, &have->items[h], "unexpected");
        if (p->n != NULL)
            entry_put(p->n, &have->items[h], false, (uint32_t)(want->count + h));
    }
}

int entries_program(struct nl *n, const struct entry_diff *diff, struct entry_change *ret,
                    struct err *e)
{
    struct entry_change change = { 0 };
    struct programming p = { .n = n, .diff = diff, .change = &change };
    char text[ENTRY_TEXT];

    walk_additions(&p);
    walk_removals(&p);
    *ret = change;
    if (n == NULL)
        return 0;
    const struct nl_result *r = nl_commit(n);
    if (r->failed == 0)
        return 0;
    bool added = r->tag < diff->want->count;
    const struct entry *x =
        added ? &diff->want->items[r->tag] : &diff->have->items[r->tag - diff->want->count];
    int rc = err_errno(e, r->error, "%s %s %s%s%s%s", added ? "add" : "remove", entry_what(x),
                       entry_format(x, diff, text), r->text[0] != '\0' ? " (" : "", r->text,
                       r->text[0] != '\0' ? ")" : "");
    return rc;
}
