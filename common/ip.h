/* Addresses and subnets of both families as values, in the notation people type ("10.0.1.5",
 * "10.0.0.0/20", "fd77::1/64"). Arithmetic is on the whole address, so that ranges, pools and next
 * addresses need no case per family. Pure. */
#ifndef SKEP_COMMON_IP_H
#define SKEP_COMMON_IP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/mem.h"

enum {
    IP_CHARS = 45,               /* the longest address, without the end */
    IP_NET_CHARS = IP_CHARS + 4, /* and "/128" */
    IP_V4 = 4,
    IP_V6 = 6,
};

struct ip {
    uint8_t family;    /* IP_V4, IP_V6; 0 = none */
    uint8_t bytes[16]; /* network order; IPv4 in the first four, the rest 0 */
};

struct ip_net {
    struct ip address; /* may have bits beyond the prefix: an interface's address */
    uint8_t prefix;
};

/* -ERR_INVALID with e naming the text; outputs are written on success only. */
int ip_parse(const char *text, struct ip *ret, struct err *e) MUST_CHECK;
/* With a prefix; host bits may be set. */
int ip_net_parse(const char *text, struct ip_net *ret, struct err *e) MUST_CHECK;
/* With or without a prefix: without, the whole address is meant. */
int ip_net_parse_host(const char *text, struct ip_net *ret, struct err *e) MUST_CHECK;
const char *ip_format(const struct ip *ip, char ret[IP_CHARS + 1]);
const char *ip_net_format(const struct ip_net *net, char ret[IP_NET_CHARS + 1]);

unsigned ip_bits(const struct ip *ip);  /* 32 or 128; 0 for none */
unsigned ip_bytes(const struct ip *ip); /* 4 or 16; 0 for none */
/* By family, then as numbers. */
int ip_compare(const struct ip *a, const struct ip *b);
bool ip_equal(const struct ip *a, const struct ip *b);
/* From four bytes in network order, as the kernel has them. */
struct ip ip_from_v4(const void *bytes);
struct ip ip_from_v6(const void *bytes);
/* 127/8, ::1; 224/4, ff00::/8; 0.0.0.0, ::; 169.254/16, fe80::/10. */
bool ip_is_loopback(const struct ip *ip);
bool ip_is_multicast(const struct ip *ip);
bool ip_is_any(const struct ip *ip);
bool ip_is_link_local(const struct ip *ip);

/* ip + n; none when that leaves the family's numbers. */
struct ip ip_add(const struct ip *ip, uint64_t n);
/* b - a, UINT64_MAX when that does not fit; a must not be greater. */
uint64_t ip_distance(const struct ip *a, const struct ip *b);

/* The subnet without host bits; its first and last address. */
struct ip_net ip_net_base(const struct ip_net *net);
struct ip ip_net_last(const struct ip_net *net);
/* How many addresses it has, UINT64_MAX when that does not fit. */
uint64_t ip_net_size(const struct ip_net *net);
bool ip_net_has(const struct ip_net *net, const struct ip *ip);
bool ip_net_within(const struct ip_net *inner, const struct ip_net *outer);
bool ip_net_overlap(const struct ip_net *a, const struct ip_net *b);
bool ip_net_equal(const struct ip_net *a, const struct ip_net *b); /* without host bits */

#endif
