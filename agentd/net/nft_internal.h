/* What nft_model.c (make), nft_text.c (transactions) and nft_compare.c (listings) share: names and
 * notation of the table's objects. */
#ifndef SKEP_AGENTD_NET_NFT_INTERNAL_H
#define SKEP_AGENTD_NET_NFT_INTERNAL_H

#include "agentd/net/nft_model.h"

enum {
    NFT_NAME_BYTES = 48,
    NFT_ELEMENT_BYTES = 96,
    NFT_TAG_BYTES = 17,
    NFT_RULE_BYTES = 1024,
    NFT_BASE_RULES_MAX = 12,
};

struct nft_kind_info {
    const char *name;
    const char *type;     /* in nft's notation */
    unsigned roles;       /* bits 1 << enum nft_role */
    bool set;             /* has no values */
    const char *singular; /* for people */
};
extern const struct nft_kind_info nft_kinds[NFT_KINDS];

struct nft_base_chain {
    const char *name, *hook, *type; /* as listed */
    const char *declaration;
    unsigned roles;
};
enum { NFT_BASE_CHAINS = 8 };
extern const struct nft_base_chain nft_base_chains[NFT_BASE_CHAINS];

struct nft_rule {
    char chain[NFT_NAME_BYTES];
    char text[NFT_RULE_BYTES]; /* without its tag */
};

/* "10.0.1.5 : goto s-10.0.1.5"; the key alone when with_value is false. */
const char *nft_element_format(enum nft_kind kind, const struct nft_element *e, bool with_value,
                               char ret[NFT_ELEMENT_BYTES]);
/* The map that holds the backends of a port of this IPPROTO_*. */
enum nft_kind nft_backend_kind(uint64_t protocol);
/* Whether its values are an address and a port, address << 16 | port. */
bool nft_leads_to_port(enum nft_kind kind);
const char *nft_chain_name(enum nft_kind kind, uint64_t id, char ret[NFT_NAME_BYTES]);
/* A rule carries the hash of its text as a comment, so that a listing says which it is. */
const char *nft_rule_tag(const char *text, char ret[NFT_TAG_BYTES]);
/* Rules of the chains that every table of the role has, in order. */
size_t nft_base_rules(const struct nft_model *m, struct nft_rule ret[NFT_BASE_RULES_MAX]);
/* Whether a service has a chain of its own, and its one rule. */
bool nft_service_has_chain(const struct nft_model *m, const struct nft_service *s);
void nft_service_rule(const struct nft_service *s, struct nft_rule *ret);

#endif
