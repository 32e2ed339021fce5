#include "agentd/net/keeper.h"

#include <stdio.h>
#include <string.h>

#include "common/mem.h"

void keeper_init(struct keeper *k, struct nft *nft, const char *table)
{
    *k = (struct keeper){ .nft = nft, .table = table };
}

static void forget(struct keeper *k)
{
    free(k->dump);
    k->dump = NULL;
}

void keeper_deinit(struct keeper *k)
{
    forget(k);
    free(k->text);
    k->text = NULL;
}

static int dump(struct keeper *k, char **ret, struct err *e)
{
    json_t *all = NULL;
    int rc = nft_dump(k->nft, k->table, &all, e);

    if (rc < 0)
        return rc;
    *ret = json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(all);
    return *ret != NULL ? 0 : err_set(e, ERR_INTERNAL, "dump of nftables");
}

static int put(struct keeper *k, const char *text, struct err *e)
{
    CLEANUP_FREE char *commands = xasprintf("table ip %s\ndelete table ip %s\ntable ip %s {\n%s}\n",
                                            k->table, k->table, k->table, text);
    int rc;

    forget(k);
    rc = nft_apply(k->nft, commands, e);
    if (rc == 0)
        rc = nft_generation(k->nft, &k->generation, e);
    if (rc == 0)
        rc = dump(k, &k->dump, e);
    return rc < 0 ? err_wrap(e, rc, "nftables table %s", k->table) : 0;
}

int keeper_apply(struct keeper *k, const char *text, struct err *e)
{
    if (k->dump != NULL && k->text != NULL && strcmp(k->text, text) == 0)
        return 0;
    if (k->text == NULL || strcmp(k->text, text) != 0) {
        free(k->text);
        k->text = xstrdup(text);
    }
    return put(k, k->text, e);
}

int keeper_check(struct keeper *k, bool repair, struct differences *d, bool *ret_changed,
                 struct err *e)
{
    CLEANUP_FREE char *now = NULL;
    uint32_t generation = 0;

    *ret_changed = false;
    if (k->text == NULL)
        return 0;
    int rc = nft_generation(k->nft, &generation, e);
    if (rc < 0 || (k->dump != NULL && generation == k->generation))
        return rc;
    rc = dump(k, &now, e);
    if (rc < 0 && rc != -ERR_NOT_FOUND)
        return rc;
    if (rc == 0 && k->dump != NULL && strcmp(now, k->dump) == 0) {
        k->generation = generation; /* another table was changed */
        return 0;
    }
    *ret_changed = true;
    if (d != NULL)
        differences_add(d, "nft", rc == -ERR_NOT_FOUND ? "missing" : "differs", "table ip %s",
                        k->table);
    return repair ? put(k, k->text, e) : 0;
}

void keeper_remove(struct keeper *k)
{
    CLEANUP_FREE char *commands =
        xasprintf("table ip %s\ndelete table ip %s\n", k->table, k->table);

    if (nft_apply(k->nft, commands, NULL) == 0)
        forget(k); /* else it is tried again by whoever removes the namespace */
}
