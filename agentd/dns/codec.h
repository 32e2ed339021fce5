/* DNS messages (RFC 1035 §4, RFC 6891): a strict decoder of queries and of upstream answers, and a
 * builder of answers. Pure; the input may be anything. A name is followed through compression only
 * to places before itself, so that no loop and no bomb exists, and never beyond 255 bytes. */
#ifndef SKEP_AGENTD_DNS_CODEC_H
#define SKEP_AGENTD_DNS_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ip.h"

enum {
    DNS_HEADER_BYTES = 12,
    DNS_NAME_BYTES_MAX = 255, /* on the wire; 253 characters in text */
    DNS_NAME_CHARS_MAX = 253,
    DNS_LABEL_BYTES_MAX = 63,
    DNS_QUESTION_BYTES_MAX = DNS_NAME_BYTES_MAX + 4,
    DNS_UDP_BYTES_MIN = 512,       /* what everyone takes */
    DNS_UDP_BYTES_MAX = 1232,      /* what passes everywhere without fragments */
    DNS_MESSAGE_BYTES_MAX = 65535, /* over TCP */
    DNS_OPT_BYTES = 11,
};

enum dns_type { /* RFC 1035 §3.2.2, 3596, 6891 */
                DNS_TYPE_A = 1,
                DNS_TYPE_PTR = 12,
                DNS_TYPE_AAAA = 28,
                DNS_TYPE_OPT = 41,
                DNS_TYPE_ANY = 255,
};
enum { DNS_CLASS_IN = 1 };

enum dns_rcode {
    DNS_NOERROR = 0,
    DNS_FORMERR = 1,
    DNS_SERVFAIL = 2,
    DNS_NXDOMAIN = 3,
    DNS_NOTIMP = 4,
    DNS_REFUSED = 5,
    DNS_BADVERS = 16, /* in two parts: needs OPT */
};

struct dns_query {
    uint16_t id;
    bool recursion_desired, checking_disabled;
    bool edns, dnssec_ok;
    uint16_t udp_bytes_max; /* that the asker takes: 512 … 1232 */
    uint16_t type, class;   /* of the question */
    bool plain;             /* every byte of every label is printable and no dot */
    char
        name[DNS_NAME_CHARS_MAX + 1]; /* without a dot at the end, as it was asked; "" = the root */
    /* As it came, to be given back byte by byte. 0 bytes: there was no whole question. */
    uint8_t question[DNS_QUESTION_BYTES_MAX];
    uint16_t question_bytes;
};

/* DNS_DROP: no query at all (too short, an answer); nothing may be sent back. Any other value but
 * DNS_NOERROR is the refusal to send; *ret then holds as much as was understood. */
enum { DNS_DROP = -1 };
int dns_decode_query(const uint8_t *message, size_t size, struct dns_query *ret);

/* The text of the name at *at (inside message) and the place after it. -ERR_PROTO. name: at least
 * DNS_NAME_CHARS_MAX + 1 bytes; bytes other than printable ones, and dots, become '?' and clear
 * *ret_plain. */
int dns_decode_name(const uint8_t *message, size_t size, size_t *at, char *ret_name,
                    bool *ret_plain) MUST_CHECK;

/* What an upstream said, when it is a well-formed answer to this question under this id;
 * -ERR_PROTO otherwise. Every record is walked through. */
struct dns_answer_info {
    enum dns_rcode rcode;
    bool truncated;
    uint16_t answer_count;
};
int dns_check_answer(const uint8_t *message, size_t size, const struct dns_query *asked,
                     uint16_t id, struct dns_answer_info *ret) MUST_CHECK;

/* The query that asks an upstream the same under another id, with the asker's EDNS. Returns its
 * size; mem has at least DNS_HEADER_BYTES + DNS_QUESTION_BYTES_MAX + DNS_OPT_BYTES. */
size_t dns_encode_query(uint8_t *mem, const struct dns_query *asked, uint16_t id);

/* ---- answers ---- */

struct dns_builder {
    uint8_t *data;
    size_t size;
    size_t size_max; /* room for OPT is kept */
    bool edns, dnssec_ok;
    uint16_t answer_count;
};

/* Header and question. max: as far as data and the asker allow, at least DNS_UDP_BYTES_MIN. */
void dns_build(struct dns_builder *b, uint8_t *data, size_t max, const struct dns_query *q);
/* A record of the name that was asked for; false when there is no room (nothing is written). */
bool dns_build_address(struct dns_builder *b, uint32_t ttl_s, const struct ip *ip);
/* -ERR_INVALID: name cannot be said in DNS. */
int dns_build_ptr(struct dns_builder *b, uint32_t ttl_s, const char *name);
/* Bytes of one record that dns_build_address writes. */
size_t dns_address_bytes(uint8_t family);
/* Sets the header and appends OPT; returns the size of the message. */
size_t dns_build_end(struct dns_builder *b, enum dns_rcode rcode, bool authoritative,
                     bool truncated);

/* An answer without records. */
size_t dns_encode_refusal(uint8_t *data, size_t max, const struct dns_query *q,
                          enum dns_rcode rcode);

#endif
