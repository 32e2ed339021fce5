#include "common/ip.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "common/assert.h"
#include "common/text.h"

unsigned ip_bytes(const struct ip *ip)
{
    return ip->family == IP_V4 ? 4 : ip->family == IP_V6 ? 16 : 0;
}

unsigned ip_bits(const struct ip *ip)
{
    return ip_bytes(ip) * 8;
}

static int family_of(const struct ip *ip)
{
    return ip->family == IP_V4 ? AF_INET : AF_INET6;
}

/* ---- text ---- */

/* Four decimal bytes without leading zeros, as inet_pton() wants them; returns what follows, NULL
 * when it is none. Our own, because plans of 10 000 tasks parse that many on every change. */
static const char *parse_v4(const char *at, uint8_t ret[4])
{
    for (unsigned i = 0; i < 4; i++) {
        unsigned value = (unsigned)(*at - '0'), digit;

        if (value > 9)
            return NULL;
        while ((digit = (unsigned)(*++at - '0')) <= 9) {
            if (value == 0 || (value = value * 10 + digit) > 255)
                return NULL;
        }
        ret[i] = (uint8_t)value;
        if (i < 3 && *at++ != '.')
            return NULL;
    }
    return at;
}

int ip_parse(const char *text, struct ip *ret, struct err *e)
{
    struct ip ip = { .family = IP_V4 };
    const char *end = parse_v4(text, ip.bytes);

    if (end == NULL || *end != '\0') {
        ip = (struct ip){ .family = IP_V6 };
        if (inet_pton(AF_INET6, text, ip.bytes) != 1)
            return err_set(e, ERR_INVALID, "\"%.64s\" is not an IP address", text);
    }
    *ret = ip;
    return 0;
}

static int not_subnet(const char *text, struct err *e)
{
    return err_set(e, ERR_INVALID, "\"%.64s\" is not a subnet such as 10.1.0.0/16", text);
}

/* The address before the slash of an IPv6 subnet. */
static int parse_v6_before(const char *text, const char *slash, struct ip *ret, struct err *e)
{
    char address[IP_CHARS + 1];
    size_t size = (size_t)(slash - text);

    if (size >= sizeof(address))
        return not_subnet(text, e);
    memcpy(address, text, size);
    address[size] = '\0';
    *ret = (struct ip){ .family = IP_V6 };
    return inet_pton(AF_INET6, address, ret->bytes) == 1 ? 0 : not_subnet(text, e);
}

int ip_net_parse(const char *text, struct ip_net *ret, struct err *e)
{
    struct ip_net net = { .address = { .family = IP_V4 } };
    const char *slash = parse_v4(text, net.address.bytes);
    uint64_t prefix;

    if (slash == NULL || *slash != '/') {
        slash = strchr(text, '/');
        if (slash == NULL)
            return not_subnet(text, e);
        int rc = parse_v6_before(text, slash, &net.address, e);

        if (rc < 0)
            return rc;
    }
    if (text_parse_u64(slash + 1, &prefix, NULL) < 0 || prefix > ip_bits(&net.address))
        return not_subnet(text, e);
    net.prefix = (uint8_t)prefix;
    *ret = net;
    return 0;
}

int ip_net_parse_host(const char *text, struct ip_net *ret, struct err *e)
{
    struct ip ip;

    if (strchr(text, '/') != NULL)
        return ip_net_parse(text, ret, e);
    int rc = ip_parse(text, &ip, e);

    if (rc == 0)
        *ret = (struct ip_net){ ip, (uint8_t)ip_bits(&ip) };
    return rc;
}

const char *ip_format(const struct ip *ip, char ret[IP_CHARS + 1])
{
    ret[0] = '\0';
    if (ip->family != 0)
        ASSERT(inet_ntop(family_of(ip), ip->bytes, ret, IP_CHARS + 1) != NULL);
    return ret;
}

const char *ip_net_format(const struct ip_net *net, char ret[IP_NET_CHARS + 1])
{
    char address[IP_CHARS + 1];

    (void)snprintf(ret, IP_NET_CHARS + 1, "%s/%u", ip_format(&net->address, address), net->prefix);
    return ret;
}

/* ---- values ---- */

int ip_compare(const struct ip *a, const struct ip *b)
{
    if (a->family != b->family)
        return a->family < b->family ? -1 : 1;
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

bool ip_equal(const struct ip *a, const struct ip *b)
{
    return ip_compare(a, b) == 0;
}

struct ip ip_from_v4(const void *bytes)
{
    struct ip ip = { .family = IP_V4 };

    memcpy(ip.bytes, bytes, 4);
    return ip;
}

struct ip ip_from_v6(const void *bytes)
{
    struct ip ip = { .family = IP_V6 };

    memcpy(ip.bytes, bytes, 16);
    return ip;
}

static bool is_number(const struct ip *ip, uint8_t last)
{
    static const uint8_t zero[15];
    unsigned size = ip_bytes(ip);

    return size > 0 && memcmp(ip->bytes, zero, size - 1) == 0 && ip->bytes[size - 1] == last;
}

bool ip_is_any(const struct ip *ip)
{
    return is_number(ip, 0);
}

bool ip_is_loopback(const struct ip *ip)
{
    return ip->family == IP_V4 ? ip->bytes[0] == 127 : is_number(ip, 1);
}

bool ip_is_multicast(const struct ip *ip)
{
    return ip->family == IP_V4 ? (ip->bytes[0] & 0xf0) == 224 : ip->bytes[0] == 0xff;
}

bool ip_is_link_local(const struct ip *ip)
{
    if (ip->family == IP_V4)
        return ip->bytes[0] == 169 && ip->bytes[1] == 254;
    return ip->bytes[0] == 0xfe && (ip->bytes[1] & 0xc0) == 0x80;
}

struct ip ip_add(const struct ip *ip, uint64_t n)
{
    struct ip sum = *ip;
    uint64_t carry = n;

    for (unsigned i = ip_bytes(ip); i-- > 0 && carry > 0;) {
        carry += sum.bytes[i];
        sum.bytes[i] = (uint8_t)carry;
        carry >>= 8;
    }
    return carry > 0 ? (struct ip){ 0 } : sum;
}

uint64_t ip_distance(const struct ip *a, const struct ip *b)
{
    uint64_t distance = 0;
    int borrow = 0;
    uint8_t digits[16] = { 0 };

    ASSERT(a->family == b->family && ip_compare(a, b) <= 0);
    for (unsigned i = ip_bytes(a); i-- > 0;) {
        int digit = b->bytes[i] - a->bytes[i] - borrow;

        borrow = digit < 0;
        digits[i] = (uint8_t)(digit + 256 * borrow);
    }
    for (unsigned i = 0; i < ip_bytes(a); i++) {
        if (distance >> 56 != 0)
            return UINT64_MAX;
        distance = distance << 8 | digits[i];
    }
    return distance;
}

/* ---- subnets ---- */

/* The byte of the prefix's mask at position i. */
static uint8_t mask_byte(unsigned prefix, unsigned i)
{
    unsigned bits = prefix > i * 8 ? MIN(prefix - i * 8, 8U) : 0;

    return (uint8_t)(0xff00U >> bits);
}

struct ip_net ip_net_base(const struct ip_net *net)
{
    struct ip_net base = *net;

    for (unsigned i = 0; i < ip_bytes(&net->address); i++)
        base.address.bytes[i] &= mask_byte(net->prefix, i);
    return base;
}

struct ip ip_net_last(const struct ip_net *net)
{
    struct ip last = net->address;

    for (unsigned i = 0; i < ip_bytes(&last); i++)
        last.bytes[i] |= (uint8_t)~mask_byte(net->prefix, i);
    return last;
}

uint64_t ip_net_size(const struct ip_net *net)
{
    unsigned host_bits = ip_bits(&net->address) - net->prefix;

    return host_bits >= 64 ? UINT64_MAX : UINT64_C(1) << host_bits;
}

bool ip_net_has(const struct ip_net *net, const struct ip *ip)
{
    if (net->address.family != ip->family)
        return false;
    for (unsigned i = 0; i < ip_bytes(ip); i++)
        if (((net->address.bytes[i] ^ ip->bytes[i]) & mask_byte(net->prefix, i)) != 0)
            return false;
    return true;
}

bool ip_net_within(const struct ip_net *inner, const struct ip_net *outer)
{
    return inner->prefix >= outer->prefix && ip_net_has(outer, &inner->address);
}

bool ip_net_overlap(const struct ip_net *a, const struct ip_net *b)
{
    return ip_net_within(a, b) || ip_net_within(b, a);
}

bool ip_net_equal(const struct ip_net *a, const struct ip_net *b)
{
    return a->prefix == b->prefix && ip_net_has(a, &b->address);
}
