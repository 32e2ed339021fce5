/* The rules of egress.h in iptables' own chains. */
#include "agentd/net/egress.h"

#include <stdio.h>
#include <string.h>

#include "agentd/net/place.h"

#define PATTERN PLACE_HOST_LINK "*"

/* The chains to look at, the best first: Docker never touches what is in DOCKER-USER. */
static const char *const chains[] = { "DOCKER-USER", "FORWARD" };
static const char *const keys[] = { "iifname", "oifname" };

static const char *text_of(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s != NULL ? s : "";
}

static bool has_chain(const json_t *all, const char *name)
{
    const json_t *item;
    size_t i;

    json_array_foreach(all, i, item)
    {
        const json_t *c = json_object_get(item, "chain");

        if (c != NULL && strcmp(text_of(c, "name"), name) == 0)
            return true;
    }
    return false;
}

/* `iifname "sk*" [counter] accept`, and nothing else. */
static bool is_rule(const json_t *rule, const char *key)
{
    const json_t *part;
    size_t i;
    bool matches = false, accepts = false;

    json_array_foreach(json_object_get(rule, "expr"), i, part)
    {
        const json_t *m = json_object_get(part, "match");

        if (m != NULL) {
            const json_t *meta = json_object_get(json_object_get(m, "left"), "meta");

            if (matches || strcmp(text_of(meta, "key"), key) != 0 ||
                strcmp(text_of(m, "right"), PATTERN) != 0)
                return false;
            matches = true;
        } else if (json_object_get(part, "accept") != NULL) {
            accepts = true;
        } else if (json_object_get(part, "counter") == NULL) {
            return false;
        }
    }
    return matches && accepts;
}

/* 0 = none. */
static json_int_t find_rule(const json_t *all, const char *chain, const char *key)
{
    const json_t *item;
    size_t i;

    json_array_foreach(all, i, item)
    {
        const json_t *r = json_object_get(item, "rule");

        if (r != NULL && strcmp(text_of(r, "chain"), chain) == 0 && is_rule(r, key))
            return json_integer_value(json_object_get(r, "handle"));
    }
    return 0;
}

/* NULL: iptables has no such chain here, so it drops nothing. */
static const char *pick_chain(const json_t *all)
{
    for (size_t i = 0; i < ARRAY_LEN(chains); i++)
        if (has_chain(all, chains[i]))
            return chains[i];
    return NULL;
}

int forward_check(struct nft *nft, bool repair, bool *ret_changed, struct err *e)
{
    json_t *all = NULL;
    char text[512] = "";
    int rc = nft_dump(nft, "filter", &all, e);

    *ret_changed = false;
    if (rc == -ERR_NOT_FOUND)
        return 0;
    if (rc < 0)
        return err_wrap(e, rc, "iptables' table filter");
    const char *chain = pick_chain(all);
    for (size_t i = 0; chain != NULL && i < ARRAY_LEN(keys); i++) {
        size_t used = strlen(text);

        if (find_rule(all, chain, keys[i]) != 0)
            continue;
        *ret_changed = true;
        (void)snprintf(text + used, sizeof(text) - used,
                       "insert rule ip filter %s %s \"" PATTERN "\" counter accept\n", chain,
                       keys[i]);
    }
    json_decref(all);
    if (repair && text[0] != '\0')
        rc = nft_apply(nft, text, e);
    return rc < 0 ? err_wrap(e, rc, "iptables' chain %s", chain) : 0;
}

void forward_remove(struct nft *nft)
{
    json_t *all = NULL;
    char text[1024] = "";

    if (nft_dump(nft, "filter", &all, NULL) < 0)
        return;
    for (size_t c = 0; c < ARRAY_LEN(chains); c++) {
        for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
            json_int_t handle = find_rule(all, chains[c], keys[i]);
            size_t used = strlen(text);

            if (handle != 0)
                (void)snprintf(text + used, sizeof(text) - used,
                               "delete rule ip filter %s handle %lld\n", chains[c],
                               (long long)handle);
        }
    }
    json_decref(all);
    if (text[0] != '\0' && nft_apply(nft, text, NULL) < 0)
        return; /* a rule that matches no device any more does no harm */
}
