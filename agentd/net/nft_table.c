#include "agentd/net/nft_table.h"

#include "common/assert.h"

enum { TEXT_BYTES_MAX = 256 << 20 };

struct nft_table {
    struct nft *nft;
    enum nft_role role;
    struct arena memory[2]; /* of the last two models, in turns */
    size_t turn;
    const struct nft_model *model; /* the last one asked for; slots come from it */
    bool programmed;               /* the kernel has it, as far as we know */
    bool verified;                 /* and had it at this generation: */
    uint32_t generation;
};

struct nft_table *nft_table_open(int ns, enum nft_role role, struct err *e)
{
    struct nft_table *t = xcalloc(1, sizeof(*t));

    t->role = role;
    t->nft = nft_open(ns, e);
    if (t->nft != NULL)
        return t;
    free(t);
    return NULL;
}

void nft_table_close(struct nft_table *t, bool keep)
{
    struct err e = { 0 };
    const char *name;
    char text[96];

    if (t == NULL)
        return;
    name = nft_model_table(t->role);
    (void)snprintf(text, sizeof(text), "table ip %s\ndelete table ip %s\n", name, name);
    if (!keep && nft_apply(t->nft, text, &e) < 0)
        e.code = 0; /* nobody can do more */
    nft_close(t->nft);
    arena_deinit(&t->memory[0]);
    arena_deinit(&t->memory[1]);
    free(t);
}

const struct nft_model *nft_table_model(const struct nft_table *t)
{
    return t->model;
}

/* Numbers given before a restart of the agent go on: connections remember them. */
static const struct nft_model *adopt(struct nft_table *t, struct arena *a)
{
    const struct nft_model *m;
    json_t *objects;

    if (nft_dump(t->nft, nft_model_table(t->role), &objects, NULL) < 0)
        return NULL; /* none there, or unreadable: made anew */
    m = nft_model_parse(t->role, objects, a);
    json_decref(objects);
    return m;
}

/* Runs a transaction and notes whether it was the only one since the last look. */
static int run(struct nft_table *t, const char *text, bool fresh, struct err *e)
{
    uint32_t before = 0, after = 0;
    bool known = nft_generation(t->nft, &before, NULL) == 0;
    int rc = nft_apply(t->nft, text, e);

    t->programmed = rc == 0;
    known = known && nft_generation(t->nft, &after, NULL) == 0;
    t->verified = rc == 0 && known && after == before + 1 &&
                  (fresh || (t->verified && t->generation == before));
    t->generation = after;
    return rc;
}

int nft_table_apply(struct nft_table *t, nft_make_fn *make, void *ctx,
                    const struct nft_model **ret_was, struct err *e)
{
    CLEANUP_BUF struct buf text = BUF_INIT(TEXT_BYTES_MAX);
    const struct nft_model *was = t->model, *prev = was, *want;
    struct arena *a = &t->memory[t->turn];
    bool fresh = !t->programmed;
    int rc;

    arena_reset(a);
    if (prev == NULL)
        prev = adopt(t, a);
    want = make(ctx, prev, a);
    rc = nft_model_change(fresh ? NULL : was, want, &text, e);
    if (rc < 0)
        return rc;
    if (text.size > 0)
        rc = run(t, buf_str(&text), fresh, e);
    /* After a failure the kernel is not known, but the numbers of this model stay. */
    t->model = want;
    t->turn ^= 1;
    *ret_was = was;
    return rc;
}

struct making {
    enum nft_role role;
    const struct net_plan *plan;
};

static const struct nft_model *make_plan(void *ctx, const struct nft_model *prev, struct arena *a)
{
    const struct making *m = ctx;

    return nft_model_make(m->role, m->plan, prev, a);
}

int nft_table_apply_plan(struct nft_table *t, const struct net_plan *p,
                         const struct nft_model **ret_was, struct err *e)
{
    struct making m = { t->role, p };

    return nft_table_apply(t, make_plan, &m, ret_was, e);
}

static int repair_table(struct nft_table *t, struct err *e)
{
    CLEANUP_BUF struct buf text = BUF_INIT(TEXT_BYTES_MAX);
    int rc = nft_model_change(NULL, t->model, &text, e);

    return rc < 0 ? rc : run(t, buf_str(&text), true, e);
}

int nft_table_check(struct nft_table *t, bool repair, struct differences *d, struct err *e)
{
    uint32_t generation = 0;
    size_t before = d->count;
    json_t *objects = NULL;
    int rc;

    if (t->model == NULL)
        return 0;
    rc = nft_generation(t->nft, &generation, e);
    if (rc < 0)
        return rc;
    if (repair && t->programmed && t->verified && t->generation == generation)
        return 0;
    rc = nft_dump(t->nft, nft_model_table(t->role), &objects, e);
    if (rc < 0 && rc != -ERR_NOT_FOUND)
        return rc;
    nft_model_compare(t->model, objects, d);
    json_decref(objects);
    t->verified = d->count == before;
    t->generation = generation;
    if (t->verified || !repair)
        return 0;
    return repair_table(t, e);
}
