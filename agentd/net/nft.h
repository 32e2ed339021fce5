/* nftables in this process, by libnftables: text in, all or nothing. One struct per namespace. A
 * context of libnftables holds half a megabyte once it has run, and is made in microseconds; but
 * closing its socket right after a transaction waits 15 ms for the kernel to free what that
 * removed. The last one is kept until another is needed, or nft_generation() is asked a moment
 * later. Nothing here forks. Loop thread. */
#ifndef SKEP_AGENTD_NET_NFT_H
#define SKEP_AGENTD_NET_NFT_H

#include <jansson.h>
#include <stdint.h>

#include "common/err.h"

struct nft;

/* ns: fd of a network namespace, borrowed for the call; -1 = the thread's own. NULL with e set. */
struct nft *nft_open(int ns, struct err *e);
void nft_close(struct nft *n);

/* Runs commands as `nft -f` would, as one transaction: on failure nothing has changed and e has
 * nft's first line. -ERR_NOT_FOUND: what it names is not there. */
int nft_apply(struct nft *n, const char *text, struct err *e) MUST_CHECK;
/* The objects of one table of family ip, as libnftables-json(5) describes: *ret is the array
 * "nftables", to be released with json_decref(). -ERR_NOT_FOUND: no such table. */
int nft_dump(struct nft *n, const char *table, json_t **ret, struct err *e) MUST_CHECK;
/* The kernel raises it with every transaction in the namespace, whoever's: equal means that nothing
 * was changed. To be asked every few seconds. */
int nft_generation(struct nft *n, uint32_t *ret, struct err *e) MUST_CHECK;

#endif
