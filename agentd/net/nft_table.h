/* The table `skep` of one namespace, kept like a model (nft_model.h): programmed by differences,
 * compared with the kernel. As long as the kernel's generation says that nobody else has changed
 * anything, a repairing comparison costs one question. */
#ifndef SKEP_AGENTD_NET_NFT_TABLE_H
#define SKEP_AGENTD_NET_NFT_TABLE_H

#include "agentd/net/nft.h"
#include "agentd/net/nft_model.h"

struct nft_table;

/* ns is borrowed for the call. Nothing is changed; the first apply replaces what stands, at once
 * and without touching connections. NULL with e set. */
struct nft_table *nft_table_open(int ns, enum nft_role role, struct err *e);
/* keep: the table stays; else it is deleted. */
void nft_table_close(struct nft_table *t, bool keep);
/* Makes a model in a; prev (NULL: none) is the last one: numbers given there are to be kept. */
typedef const struct nft_model *nft_make_fn(void *ctx, const struct nft_model *prev,
                                            struct arena *a);
/* Programs what make() says. *ret_was (valid until the next call; NULL at first) is what was
 * programmed before. */
int nft_table_apply(struct nft_table *t, nft_make_fn *make, void *ctx,
                    const struct nft_model **ret_was, struct err *e) MUST_CHECK;
/* The same for a plan and nft_model_make(). */
int nft_table_apply_plan(struct nft_table *t, const struct net_plan *p,
                         const struct nft_model **ret_was, struct err *e) MUST_CHECK;
/* What is programmed: NULL before the first apply. Elements are kept, plan_backend lists are not.
 */
const struct nft_model *nft_table_model(const struct nft_table *t);
/* Compares with the kernel; with repair, what differs is replaced as a whole. */
int nft_table_check(struct nft_table *t, bool repair, struct differences *d,
                    struct err *e) MUST_CHECK;

#endif
