/* The parts of the DNS server: listeners of a network (server.c), connections (tcp.c), questions
 * under way to the host's resolvers (forward.c, resolvers.c). Loop thread. */
#ifndef SKEP_AGENTD_DNS_INTERNAL_H
#define SKEP_AGENTD_DNS_INTERNAL_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "agentd/dns/answer.h"
#include "agentd/dns/codec.h"
#include "agentd/dns/dns.h"
#include "common/id.h"
#include "common/prng.h"

enum {
    DNS_PORT = 53,
    UDP_BATCH = 64,         /* queries read, and answers sent, at once */
    UDP_ROUNDS_MAX = 4,     /* batches per wake-up, so that other work gets its turn */
    QUERY_BYTES_MAX = 2048, /* of a query, with whatever is attached to it */
    FORWARDS_MAX = 1024,    /* under way; each holds a socket of its own, hence a random port */
    FORWARDS_NETWORK_MAX = 512,
    FORWARDS_SOURCE_MAX = 128,
    FORWARD_ATTEMPTS = 3,
    FORWARD_ATTEMPT_MS = 2000,
    CLIENTS_NETWORK_MAX = 256, /* TCP connections */
    CLIENTS_SOURCE_MAX = 16,
    CLIENT_IDLE_MS = 10000,
    ACCEPT_PAUSE_MS = 1000, /* when there are no descriptors */
};

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};
socklen_t address_bytes(const union address *a);
struct ip address_ip(const union address *a);
union address address_of(const struct ip *ip, uint16_t port);

struct listener {
    struct listener *next;
    struct dns_network *network;
    struct ip address;
    int udp, tcp;
    struct loop_timer accept_pause;
};

struct dns_network {
    struct dns_network *next;
    struct dns *dns;
    char id[ID_CHARS + 1];
    dev_t ns_device; /* of the namespace that the listeners are in */
    ino_t ns_inode;
    struct listener *listeners;
    size_t wanted; /* listeners */
    struct client *clients;
    uint32_t client_count, forward_count;
};

struct client { /* a TCP connection; one question at a time */
    struct client *next;
    struct listener *listener;
    int fd;
    struct ip source;
    struct forward *forward; /* its question is with a resolver */
    uint8_t in[2 + QUERY_BYTES_MAX];
    size_t in_bytes;
    uint8_t *out; /* what the socket did not take */
    size_t out_bytes, out_sent;
    bool closing; /* by the peer: after its answer */
    struct loop_timer idle;
};

struct forward {
    struct forward *next;
    struct dns *dns;
    struct listener *listener;
    struct client *client; /* NULL: UDP, to from */
    union address from;
    struct ip source;
    struct dns_query query;
    union address servers[DNS_SERVERS_MAX];
    size_t server_count;
    bool of_task; /* they are its own, not the host's */
    uint16_t id;  /* of the attempt */
    unsigned attempt, server, first;
    int fd;
    uint8_t *stream; /* TCP: what has come, two bytes of length first */
    size_t stream_bytes;
    bool sent;
    struct loop_timer timeout;
};

struct resolvers {
    char *path;
    union address list[DNS_SERVERS_MAX];
    size_t count;
    struct stat seen;
    bool read;
    uint64_t checked_ms;
    unsigned preferred; /* the last one that answered … */
    uint64_t preferred_until_ms;
};

struct udp_batch {
    struct mmsghdr in[UDP_BATCH], out[UDP_BATCH];
    struct iovec in_parts[UDP_BATCH], out_parts[UDP_BATCH];
    union address from[UDP_BATCH];
    uint8_t queries[UDP_BATCH][QUERY_BYTES_MAX];
    uint8_t answers[UDP_BATCH][DNS_UDP_BYTES_MAX];
};

struct dns {
    struct loop *loop;
    const struct tables *tables;
    struct prng random;
    struct dns_stats stats;
    struct dns_network *networks;
    struct forward *forwards;
    size_t forward_count;
    struct resolvers resolvers;
    struct dns_options options;
    struct udp_batch batch;
    uint8_t message[DNS_MESSAGE_BYTES_MAX];
};

/* What becomes of one query. */
enum verdict { VERDICT_REPLY, VERDICT_FORWARD, VERDICT_DROP };
struct incoming {
    struct listener *listener;
    struct ip source;
    bool tcp;
    const uint8_t *bytes;
    size_t size;
};
/* ret_query is filled in for VERDICT_FORWARD, the answer for VERDICT_REPLY. */
enum verdict dns_handle(struct dns *d, const struct incoming *in, struct dns_query *ret_query,
                        uint8_t *answer, size_t answer_max, size_t *ret_size);

/* ---- tcp.c ---- */
void listener_on_tcp(void *ctx, int fd, uint32_t events);
void client_reply(struct client *c, const uint8_t *message, size_t size);
void clients_close(struct dns_network *n, const struct listener *only);

/* ---- forward.c ---- */
/* Sends the question on. False: too many are under way, or there is nobody to ask; the caller
 * refuses. client NULL: the answer goes to from. */
struct forward_origin {
    struct listener *listener;
    struct client *client;
    union address from;
    struct ip source;
};
bool forward_start(struct dns *d, const struct forward_origin *o, const struct dns_query *q);
/* Forgets it; nobody wants the answer any more. */
void forward_cancel(struct forward *f);
void forwards_cancel(struct dns *d, const struct listener *of);

/* ---- resolvers.c ---- */
/* Whom to ask for f: the name servers of its task, else the host's, whose file is read again when
 * it changed. Those that are our own listeners are left out. */
void resolvers_choose(struct dns *d, struct forward *f);
/* Pure; for tests. Returns how many there are. */
size_t resolvers_parse(const char *text, union address ret[DNS_SERVERS_MAX]);

#endif
