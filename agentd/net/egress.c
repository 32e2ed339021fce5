#include "agentd/net/egress.h"

#include <string.h>

#include "agentd/net/netns.h"
#include "agentd/net/place.h"
#include "common/log.h"

/* Only what the links asked for, and what was sent on to them on purpose, goes out to them. */
static const char table_text[] =
    "chain forward { type filter hook forward priority filter; policy accept;\n"
    "oifname \"" PLACE_HOST_LINK "*\" ct state established,related accept\n"
    "oifname \"" PLACE_HOST_LINK "*\" ct status dnat accept\n"
    "oifname \"" PLACE_HOST_LINK "*\" drop\n}\n"
    "chain post { type nat hook postrouting priority srcnat; policy accept;\n"
    "ip saddr 169.254.64.0/18 oifname != \"" PLACE_HOST_LINK "*\" masquerade\n}\n";

static const struct netns_setting settings[] = {
    { .path = "ipv4/ip_forward", .value = "1" },
};

int egress_open(struct egress *x, int ns, struct nl *nl, struct err *e)
{
    *x = (struct egress){ .ns = ns, .nl = nl };
    x->nft = nft_open(ns, e);
    if (x->nft == NULL)
        return -ERR_IO;
    keeper_init(&x->table, x->nft, PLACE_EGRESS_TABLE);
    return 0;
}

void egress_close(struct egress *x, bool keep)
{
    if (x->nft != NULL && !keep) {
        keeper_remove(&x->table);
        forward_remove(x->nft);
    }
    keeper_deinit(&x->table);
    if (x->nft != NULL)
        nft_close(x->nft);
    entries_deinit(&x->want);
    entries_deinit(&x->found);
    entries_deinit(&x->programmed);
    free(x->links);
    *x = (struct egress){ .ns = -1 };
}

static void want(struct egress *x)
{
    entries_clear(&x->want);
    for (size_t i = 0; i < x->link_count; i++) {
        struct place_link l = place_link(x->links[i].index);
        struct entry_route r = { .destination = { l.host, 30 },
                                 .device = x->links[i].device,
                                 .source = l.host };

        entries_add_address(&x->want, x->links[i].device, &l.host, 30);
        entries_add_route(&x->want, &r);
    }
    entries_sort(&x->want);
}

static bool is_ours(void *ctx, uint8_t kind, int device)
{
    const struct egress *x = ctx;

    (void)kind;
    for (size_t i = 0; i < x->link_count; i++)
        if (x->links[i].device == device)
            return true;
    return false;
}

static int program(struct egress *x, bool repair, struct differences *d, uint32_t *found,
                   struct err *e)
{
    struct entry_scope scope = { .ours = is_ours, .ctx = x };
    struct entry_diff diff = { .have = &x->found, .want = &x->want, .d = d };
    struct entry_change change;
    int rc = entries_load(&x->found, x->nl, &scope, e);

    want(x);
    if (rc == 0)
        rc = entries_program(repair ? x->nl : NULL, &diff, &change, e);
    if (rc == 0)
        *found += change.added + change.replaced + change.removed;
    return rc < 0 ? err_wrap(e, rc, "host") : 0;
}

int egress_apply(struct egress *x, const struct egress_link *links, size_t count, struct err *e)
{
    bool same = count == x->link_count &&
                (count == 0 || memcmp(links, x->links, count * sizeof(*links)) == 0);
    uint32_t found = 0;
    size_t settings_changed = 0;
    bool changed;

    if (same && x->known)
        return 0;
    x->known = false;
    if (!same) {
        free(x->links);
        x->links = count > 0 ? xmemdup(links, count * sizeof(*links)) : NULL;
        x->link_count = count;
    }
    int rc = program(x, true, NULL, &found, e);
    if (rc == 0)
        rc = netns_settings(x->ns, settings, ARRAY_LEN(settings), true, &settings_changed, e);
    if (rc == 0 && settings_changed > 0) /* Docker does the same, and drops in FORWARD by default */
        log_warn("net.forwarding", "setting=net.ipv4.ip_forward value=1 was=0");
    if (rc == 0)
        rc = keeper_apply(&x->table, table_text, e);
    if (rc == 0)
        rc = forward_check(x->nft, true, &changed, e);
    x->known = rc == 0;
    return rc;
}

/* Other people's tables are looked at when anything in nftables has changed. */
static int check_forward(struct egress *x, bool repair, uint32_t *found, struct err *e)
{
    uint32_t generation = 0;
    bool changed = false;
    int rc = nft_generation(x->nft, &generation, e);

    if (rc < 0 || generation == x->filter_generation)
        return rc;
    rc = forward_check(x->nft, repair, &changed, e);
    *found += changed;
    if (rc == 0 && !changed)
        x->filter_generation = generation;
    return rc;
}

int egress_check(struct egress *x, bool repair, struct differences *d, uint32_t *ret_found,
                 struct err *e)
{
    uint32_t found = 0;
    size_t changed = 0;
    bool table_changed = false;
    int rc = program(x, repair, d, &found, e);

    if (rc == 0)
        rc = netns_settings(x->ns, settings, ARRAY_LEN(settings), repair, &changed, e);
    if (rc == 0 && changed > 0 && d != NULL)
        differences_add(d, "setting", "differs", "net.ipv4.ip_forward of the host");
    if (rc == 0)
        rc = keeper_check(&x->table, repair, d, &table_changed, e);
    if (rc == 0)
        rc = check_forward(x, repair, &found, e);
    if (rc == 0)
        *ret_found = found + (uint32_t)changed + table_changed;
    return rc;
}
