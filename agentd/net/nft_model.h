/* What our nft tables in R and L should hold, as values: made from a plan, compared with what was
 * programmed before (giving the text of one transaction) or with what the kernel lists (giving
 * differences). Text and JSON only; agentd/net/nft.c runs it.
 *
 * One chain per service or published port with a single rule that takes the next of its backends:
 * `numgen inc mod N offset O` looked up in one map shared by all (keys O .. O+N-1). So a change of
 * one service touches its elements and at most one rule, and the table has four maps instead of one
 * hidden map per service: libnftables reads the names of all sets before each transaction.
 *
 * Slots (numbers of services: where their keys begin, IPVS marks) and indexes of peers stay what
 * they are from one model to the next: connections remember them. */
#ifndef SKEP_AGENTD_NET_NFT_MODEL_H
#define SKEP_AGENTD_NET_NFT_MODEL_H

#include <jansson.h>

#include "agentd/net/differences.h"
#include "agentd/netplan/plan.h"
#include "common/arena.h"
#include "common/buf.h"

enum nft_role {
    NFT_ROUTER, /* R: balances by itself */
    NFT_STEER,  /* R beside an L with IPVS */
    NFT_MARKS,  /* L */
    NFT_HOST,   /* the host: published ports (ingress.c) */
};

/* Sets and maps; names and types in nft_text.c. */
enum nft_kind {
    NFT_VIP,
    NFT_PORT,
    NFT_BACKEND,
    NFT_TCP_BACKEND, /* one for each protocol: libnftables takes only rules of the protocol that */
    NFT_UDP_BACKEND, /* the type of their map names, when it has read the map from the kernel */
    NFT_SCTP_BACKEND,
    NFT_HAIRPIN,
    NFT_ENTRY,
    NFT_VIP_MARK,
    NFT_PORT_MARK,
    NFT_HOST_PORT,    /* protocol << 16 | port -> router's address << 16 | link port */
    NFT_HOST_ADDRESS, /* the same for one address of the host: address << 24 | protocol … */
    NFT_KINDS,
};

enum {
    NFT_SLOTS_MAX = 1 << 15,    /* services and ports of one network; more are left out */
    NFT_BACKENDS_MAX = 1 << 16, /* of one service that get new connections */
    NFT_MARK_BASE = 0x10000,    /* IPVS mark of slot 0 */
    NFT_PEERS_MAX = 0xffff,     /* that preserve client addresses */
};

struct nft_element {
    uint64_t key, value;
};

struct nft_set { /* in order of key */
    struct nft_element *items;
    size_t count;
};

/* A service (id: its virtual address as a number) or a published port (id: protocol number << 16 |
 * link port). */
struct nft_service {
    uint64_t id;
    enum nft_kind kind; /* NFT_VIP or NFT_PORT */
    uint32_t slot;
    uint32_t count;                      /* of backends that get new connections; 0: has no chain */
    bool snat, mesh;                     /* port: leaves with the node's address; goes on to L */
    const struct plan_backend *backends; /* of the plan; draining ones too */
    size_t backend_count;
    bool local_only;
    uint16_t target; /* port of its backends; 0 = as it came */
};

struct nft_model {
    enum nft_role role;
    bool preserve;           /* some port preserves client addresses */
    struct ip gateway, self; /* family 0: none */
    const char *outside;     /* "{ 10.0.1.0/24 }": what is not a client from outside */
    struct nft_set sets[NFT_KINDS];
    struct nft_service *services; /* in order of (kind, id) */
    size_t service_count;
    size_t left_out; /* beyond a limit, or not IPv4 */
};

/* Memory in a; borrows from p. prev may be NULL; not borrowed. */
const struct nft_model *nft_model_make(enum nft_role role, const struct net_plan *p,
                                       const struct nft_model *prev, struct arena *a);
/* The transaction that makes was into want; nothing is appended when they are equal. was NULL:
 * replaces whatever stands. */
int nft_model_change(const struct nft_model *was, const struct nft_model *want, struct buf *text,
                     struct err *e) MUST_CHECK;
/* Sets and maps of a listed table (nft_dump()), for slots and indexes after a restart. */
/* Name of the role's table. */
const char *nft_model_table(enum nft_role role);
const struct nft_model *nft_model_parse(enum nft_role role, const json_t *objects, struct arena *a);
/* Says how a listed table differs from the model; objects NULL: there is none. */
void nft_model_compare(const struct nft_model *want, const json_t *objects, struct differences *d);

/* For qsort and bsearch: by key. */
int nft_element_compare(const void *a, const void *b);
/* The same elements in all sets. */
bool nft_sets_equal(const struct nft_model *a, const struct nft_model *b);

/* The port by which each of p's published ports goes from the host to the router: the published
 * one, unless several differ by host address alone; those after the first get the next free ones.
 * The host's table and the router's use it alike. ret has p->port_count places. */
void nft_link_ports(const struct net_plan *p, uint16_t *ret);
/* IANA's number. */
uint8_t nft_protocol_number(Skep__Protocol protocol);
const char *nft_protocol_name(Skep__Protocol protocol);

#endif
