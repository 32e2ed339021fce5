#include "agentd/dns/codec.h"

#include <string.h>

#include "common/assert.h"

enum {
    RECORDS_MAX = 4096,        /* of one message: more do not fit in 64 KB anyway */
    QUERY_ADDITIONAL_MAX = 16, /* records beside the question: OPT, TSIG */
    FLAG_QR = 0x8000,
    FLAG_AA = 0x0400,
    FLAG_TC = 0x0200,
    FLAG_RD = 0x0100,
    FLAG_RA = 0x0080,
    FLAG_CD = 0x0010,
    OPCODE_MASK = 0x7800,
    POINTER = 0xc0,
    EDNS_DO = 0x8000,
};

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, unsigned value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static void put32(uint8_t *p, uint32_t value)
{
    put16(p, value >> 16);
    put16(p + 2, value & 0xffff);
}

/* ---- names ---- */

struct name_text {
    char *text;
    size_t chars;
    bool plain;
};

static void add_label(struct name_text *n, const uint8_t *label, size_t size)
{
    if (n->chars > 0)
        n->text[n->chars++] = '.';
    for (size_t i = 0; i < size; i++) {
        bool plain = label[i] > 0x20 && label[i] < 0x7f && label[i] != '.';

        n->plain = n->plain && plain;
        n->text[n->chars++] = plain ? (char)label[i] : '?';
    }
}

int dns_decode_name(const uint8_t *message, size_t size, size_t *at, char *ret_name,
                    bool *ret_plain)
{
    struct name_text n = { ret_name, 0, true };
    size_t p = *at, end = 0, first = *at, wire = 0;
    unsigned jumps = 0;

    for (;;) {
        if (p >= size)
            return -ERR_PROTO;
        uint8_t length = message[p];

        if ((length & POINTER) == POINTER) {
            if (p + 2 > size)
                return -ERR_PROTO;
            size_t target = get16(message + p) & 0x3fff;

            if (end == 0)
                end = p + 2;
            /* Only back, each time further, and no more often than a name has labels. */
            if (target < DNS_HEADER_BYTES || target >= first || ++jumps > DNS_NAME_BYTES_MAX / 2)
                return -ERR_PROTO;
            first = p = target;
            continue;
        }
        if (length > DNS_LABEL_BYTES_MAX || p + 1 + length > size)
            return -ERR_PROTO;
        wire += 1U + length;
        if (wire > DNS_NAME_BYTES_MAX)
            return -ERR_PROTO;
        p += 1U + length;
        if (length == 0)
            break;
        add_label(&n, message + p - length, length);
    }
    ASSERT(n.chars <= DNS_NAME_CHARS_MAX);
    ret_name[n.chars] = '\0';
    *ret_plain = n.plain;
    *at = end == 0 ? p : end;
    return 0;
}

/* The name as labels; the bytes written, or 0 when it has no such form. */
static size_t encode_name(uint8_t *mem, size_t max, const char *name)
{
    size_t size = 0;

    while (*name != '\0') {
        size_t length = strcspn(name, ".");

        if (length == 0 || length > DNS_LABEL_BYTES_MAX ||
            size + 1 + length + 1 > MIN(max, (size_t)DNS_NAME_BYTES_MAX))
            return 0;
        mem[size] = (uint8_t)length;
        memcpy(mem + size + 1, name, length);
        size += 1 + length;
        name += length;
        if (*name == '.' && *++name == '\0')
            return 0;
    }
    if (size + 1 > max)
        return 0;
    mem[size] = 0;
    return size + 1;
}

/* ---- records ---- */

struct record {
    char name[DNS_NAME_CHARS_MAX + 1];
    uint16_t type, class;
    uint32_t ttl;
    uint16_t data_bytes;
};

static int read_record(const uint8_t *message, size_t size, size_t *at, struct record *ret)
{
    bool plain;
    size_t p = *at;

    if (dns_decode_name(message, size, &p, ret->name, &plain) < 0 || size - p < 10)
        return -ERR_PROTO;
    ret->type = get16(message + p);
    ret->class = get16(message + p + 2);
    ret->ttl = (uint32_t)get16(message + p + 4) << 16 | get16(message + p + 6);
    ret->data_bytes = get16(message + p + 8);
    p += 10;
    if (size - p < ret->data_bytes)
        return -ERR_PROTO;
    *at = p + ret->data_bytes;
    return 0;
}

/* A question whose name is not compressed: there is nothing before it to point to. */
static int read_question(const uint8_t *message, size_t size, size_t *at, struct dns_query *ret)
{
    size_t p = *at;

    if (dns_decode_name(message, size, &p, ret->name, &ret->plain) < 0 || size - p < 4)
        return -ERR_PROTO;
    ret->type = get16(message + p);
    ret->class = get16(message + p + 2);
    p += 4;
    ASSERT(p - *at <= sizeof(ret->question));
    memcpy(ret->question, message + *at, p - *at);
    ret->question_bytes = (uint16_t)(p - *at);
    *at = p;
    return 0;
}

/* ---- queries ---- */

static int read_opt(const struct record *r, struct dns_query *q)
{
    if (q->edns || r->name[0] != '\0')
        return DNS_FORMERR; /* RFC 6891 §6.1.1 */
    q->edns = true;
    q->dnssec_ok = (r->ttl & EDNS_DO) != 0;
    q->udp_bytes_max = MIN(MAX(r->class, (uint16_t)DNS_UDP_BYTES_MIN), (uint16_t)DNS_UDP_BYTES_MAX);
    return (r->ttl >> 16 & 0xff) == 0 ? DNS_NOERROR : DNS_BADVERS;
}

static int read_additional(const uint8_t *message, size_t size, size_t at, struct dns_query *q)
{
    unsigned count = get16(message + 10);
    struct record r;
    int rc = DNS_NOERROR;

    if (count > QUERY_ADDITIONAL_MAX)
        return DNS_FORMERR;
    for (unsigned i = 0; i < count && rc != DNS_FORMERR; i++) {
        if (read_record(message, size, &at, &r) < 0)
            return DNS_FORMERR;
        if (r.type == DNS_TYPE_OPT)
            rc = read_opt(&r, q);
    }
    return rc == DNS_NOERROR && at != size ? DNS_FORMERR : rc;
}

int dns_decode_query(const uint8_t *message, size_t size, struct dns_query *ret)
{
    size_t at = DNS_HEADER_BYTES;

    memset(ret, 0, offsetof(struct dns_query, question));
    ret->question_bytes = 0;
    ret->udp_bytes_max = DNS_UDP_BYTES_MIN;
    if (size < DNS_HEADER_BYTES)
        return DNS_DROP;
    unsigned flags = get16(message + 2);

    if ((flags & FLAG_QR) != 0)
        return DNS_DROP;
    ret->id = get16(message);
    ret->recursion_desired = (flags & FLAG_RD) != 0;
    ret->checking_disabled = (flags & FLAG_CD) != 0;
    if ((flags & OPCODE_MASK) != 0)
        return DNS_NOTIMP;
    if ((flags & FLAG_TC) != 0 || get16(message + 4) != 1 || get16(message + 6) != 0 ||
        get16(message + 8) != 0)
        return DNS_FORMERR;
    if (read_question(message, size, &at, ret) < 0) {
        ret->question_bytes = 0;
        return DNS_FORMERR;
    }
    return read_additional(message, size, at, ret);
}

size_t dns_encode_query(uint8_t *mem, const struct dns_query *asked, uint16_t id)
{
    size_t size = DNS_HEADER_BYTES;

    memset(mem, 0, DNS_HEADER_BYTES);
    put16(mem, id);
    put16(mem + 2, FLAG_RD | (asked->checking_disabled ? FLAG_CD : 0));
    put16(mem + 4, 1);
    memcpy(mem + size, asked->question, asked->question_bytes);
    size += asked->question_bytes;
    if (asked->edns) {
        put16(mem + 10, 1);
        memset(mem + size, 0, DNS_OPT_BYTES);
        put16(mem + size + 1, DNS_TYPE_OPT);
        put16(mem + size + 3, asked->udp_bytes_max);
        put16(mem + size + 7, asked->dnssec_ok ? EDNS_DO : 0);
        size += DNS_OPT_BYTES;
    }
    return size;
}

/* ---- upstream's answers ---- */

static bool same_question(const uint8_t *a, const uint8_t *b, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        uint8_t x = a[i], y = b[i];

        if (i < size - 4) { /* type and class are no letters */
            x = x >= 'A' && x <= 'Z' ? (uint8_t)(x + 32) : x;
            y = y >= 'A' && y <= 'Z' ? (uint8_t)(y + 32) : y;
        }
        if (x != y)
            return false;
    }
    return true;
}

int dns_check_answer(const uint8_t *message, size_t size, const struct dns_query *asked,
                     uint16_t id, struct dns_answer_info *ret)
{
    size_t at = DNS_HEADER_BYTES + asked->question_bytes;
    struct record r;

    if (size < at || get16(message) != id)
        return -ERR_PROTO;
    unsigned flags = get16(message + 2);
    unsigned records = get16(message + 6) + (unsigned)get16(message + 8) + get16(message + 10);

    if ((flags & FLAG_QR) == 0 || (flags & OPCODE_MASK) != 0 || get16(message + 4) != 1 ||
        !same_question(message + DNS_HEADER_BYTES, asked->question, asked->question_bytes))
        return -ERR_PROTO;
    if (records > RECORDS_MAX)
        return -ERR_PROTO;
    for (unsigned i = 0; i < records; i++) {
        if (read_record(message, size, &at, &r) < 0)
            return -ERR_PROTO;
    }
    if (at != size)
        return -ERR_PROTO;
    ret->rcode = flags & 0xf;
    ret->truncated = (flags & FLAG_TC) != 0;
    ret->answer_count = get16(message + 6);
    return 0;
}

/* ---- answers ---- */

void dns_build(struct dns_builder *b, uint8_t *data, size_t max, const struct dns_query *q)
{
    unsigned flags = FLAG_QR | FLAG_RA | (q->recursion_desired ? FLAG_RD : 0) |
                     (q->checking_disabled ? FLAG_CD : 0);

    ASSERT(max >= DNS_UDP_BYTES_MIN);
    *b = (struct dns_builder){ .data = data, .size = DNS_HEADER_BYTES };
    b->edns = q->edns;
    b->dnssec_ok = q->dnssec_ok;
    b->size_max = MIN(max, (size_t)DNS_MESSAGE_BYTES_MAX) - (q->edns ? DNS_OPT_BYTES : 0);
    memset(data, 0, DNS_HEADER_BYTES);
    put16(data, q->id);
    put16(data + 2, flags);
    put16(data + 4, q->question_bytes > 0 ? 1 : 0);
    memcpy(data + b->size, q->question, q->question_bytes);
    b->size += q->question_bytes;
}

/* Name (a pointer to the question's), type, class, TTL, length. */
static uint8_t *record_head(struct dns_builder *b, enum dns_type type, uint32_t ttl_s, size_t bytes)
{
    uint8_t *p = b->data + b->size;

    put16(p, (unsigned)POINTER << 8 | DNS_HEADER_BYTES);
    put16(p + 2, type);
    put16(p + 4, DNS_CLASS_IN);
    put32(p + 6, ttl_s);
    put16(p + 10, (unsigned)bytes);
    return p + 12;
}

size_t dns_address_bytes(uint8_t family)
{
    return 12 + (family == IP_V4 ? 4 : 16);
}

bool dns_build_address(struct dns_builder *b, uint32_t ttl_s, const struct ip *ip)
{
    size_t bytes = ip_bytes(ip);

    if (b->size_max - b->size < 12 + bytes || b->answer_count == UINT16_MAX)
        return false;
    memcpy(record_head(b, ip->family == IP_V4 ? DNS_TYPE_A : DNS_TYPE_AAAA, ttl_s, bytes),
           ip->bytes, bytes);
    b->size += 12 + bytes;
    b->answer_count++;
    return true;
}

int dns_build_ptr(struct dns_builder *b, uint32_t ttl_s, const char *name)
{
    uint8_t wire[DNS_NAME_BYTES_MAX];
    size_t bytes = encode_name(wire, sizeof(wire), name);

    if (bytes == 0)
        return -ERR_INVALID;
    if (b->size_max - b->size < 12 + bytes)
        return -ERR_TOO_BIG;
    memcpy(record_head(b, DNS_TYPE_PTR, ttl_s, bytes), wire, bytes);
    b->size += 12 + bytes;
    b->answer_count++;
    return 0;
}

size_t dns_build_end(struct dns_builder *b, enum dns_rcode rcode, bool authoritative,
                     bool truncated)
{
    unsigned flags = get16(b->data + 2) | (unsigned)(rcode & 0xf);

    flags |= (authoritative ? FLAG_AA : 0) | (truncated ? FLAG_TC : 0);
    put16(b->data + 2, flags);
    put16(b->data + 6, b->answer_count);
    if (b->edns) {
        uint8_t *p = b->data + b->size;

        memset(p, 0, DNS_OPT_BYTES);
        put16(p + 1, DNS_TYPE_OPT);
        put16(p + 3, DNS_UDP_BYTES_MAX);
        p[5] = (uint8_t)(rcode >> 4);
        put16(p + 7, b->dnssec_ok ? EDNS_DO : 0);
        put16(b->data + 10, 1);
        b->size += DNS_OPT_BYTES;
    }
    return b->size;
}

size_t dns_encode_refusal(uint8_t *data, size_t max, const struct dns_query *q,
                          enum dns_rcode rcode)
{
    struct dns_builder b;

    dns_build(&b, data, max, q);
    return dns_build_end(&b, rcode, false, false);
}
