/* One nftables table (family ip) that is wholly ours and small: its text is what should be there.
 * What the kernel made of it is remembered as a dump; as long as the kernel's generation, or else
 * the dump, is the same, nobody has touched it. */
#ifndef SKEP_AGENTD_NET_KEEPER_H
#define SKEP_AGENTD_NET_KEEPER_H

#include <stdbool.h>

#include "agentd/net/differences.h"
#include "agentd/net/nft.h"

enum { KEEPER_TEXT_MAX = 8192 };

struct keeper {
    struct nft *nft; /* borrowed */
    const char *table;
    char *text; /* as applied, NULL: nothing yet */
    char *dump;
    uint32_t generation;
};
void keeper_init(struct keeper *k, struct nft *nft, const char *table);
/* The kernel stays as it is. */
void keeper_deinit(struct keeper *k);
/* Makes the table hold the text (what stands between the braces of `table ip NAME { … }`), at once
 * and wholly. Does nothing when it was applied before. */
int keeper_apply(struct keeper *k, const char *text, struct err *e) MUST_CHECK;
/* Compares with the kernel; *ret_changed: somebody has touched it. repair: and puts it back. */
int keeper_check(struct keeper *k, bool repair, struct differences *d, bool *ret_changed,
                 struct err *e) MUST_CHECK;
/* Removes the table. */
void keeper_remove(struct keeper *k);

#endif
