#include "test/lib/dns_text.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/assert.h"
#include "common/mem.h"

static char text[DNS_TEXT_MAX];
static size_t text_size;

static size_t put_name(uint8_t *mem, const char *name)
{
    size_t at = 0;

    while (*name != '\0') {
        size_t n = strcspn(name, ".");

        ASSERT(n > 0 && n < 64);
        mem[at++] = (uint8_t)n;
        memcpy(mem + at, name, n);
        at += n;
        name += n + (name[n] == '.');
    }
    mem[at++] = 0;
    return at;
}

size_t dns_text_query(uint8_t *mem, const struct dns_text_query *q)
{
    uint16_t id = q->id != 0 ? q->id : 0x1234, type = q->type != 0 ? q->type : 1;
    uint8_t head[12] = {
        (uint8_t)(id >> 8), (uint8_t)id, q->no_recursion ? 0 : 1, 0, 0, 1, 0, 0, 0, 0, 0,
        q->edns != 0
    };
    uint8_t tail[4] = { (uint8_t)(type >> 8), (uint8_t)type, 0, 1 };
    uint8_t opt[11] = { 0, 0, 41, (uint8_t)(q->edns >> 8), (uint8_t)q->edns };
    size_t at = sizeof(head);

    memcpy(mem, head, sizeof(head));
    at += put_name(mem + at, q->name);
    memcpy(mem + at, tail, sizeof(tail));
    at += sizeof(tail);
    if (q->edns != 0) {
        memcpy(mem + at, opt, sizeof(opt));
        at += sizeof(opt);
    }
    return at;
}

static void PRINTF(1, 2) say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    text_size += (size_t)vsnprintf(text + text_size, sizeof(text) - text_size, format, args);
    text_size = MIN(text_size, sizeof(text) - 1);
    va_end(args);
}

/* 0 = broken. */
static size_t get_name(const uint8_t *m, size_t size, size_t at, char name[256])
{
    size_t end = 0, out = 0;

    for (int jumps = 0; at < size && jumps < 200; jumps++) {
        uint8_t n = m[at];

        if (n >= 192) {
            if (at + 1 >= size)
                return 0;
            end = end == 0 ? at + 2 : end;
            at = (size_t)(n & 63) << 8 | m[at + 1];
            continue;
        }
        if (n == 0) {
            name[out] = '\0';
            return end == 0 ? at + 1 : end;
        }
        if (at + 1 + n >= size || out + n + 2 > 255)
            return 0;
        if (out > 0)
            name[out++] = '.';
        memcpy(name + out, m + at + 1, n);
        out += n;
        at += 1U + n;
    }
    return 0;
}

static uint16_t u16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static size_t say_record(const uint8_t *m, size_t size, size_t at, const char *asked)
{
    char name[256], value[256];

    at = get_name(m, size, at, name);
    if (at == 0 || at + 10 > size || at + 10 + u16(m + at + 8) > size)
        return 0;
    unsigned type = u16(m + at), bytes = u16(m + at + 8);
    const uint8_t *data = m + at + 10;

    if (type == 41) {
        say(" OPT %u", u16(m + at + 2));
        return at + 10 + bytes;
    }
    if (strcasecmp(name, asked) != 0)
        say(" (%s)", name);
    if (type == 1 && bytes == 4)
        say(" A %u %s", u16(m + at + 6), inet_ntop(AF_INET, data, value, sizeof(value)));
    else if (type == 28 && bytes == 16)
        say(" AAAA %u %s", u16(m + at + 6), inet_ntop(AF_INET6, data, value, sizeof(value)));
    else if (type == 12 && get_name(m, size, at + 10, value) == at + 10 + bytes)
        say(" PTR %u %s", u16(m + at + 6), value);
    else
        say(" TYPE%u", type);
    return at + 10 + bytes;
}

const char *dns_text_answer(const uint8_t *m, size_t size, uint16_t id)
{
    static const char *const rcodes[] = { "NOERROR",  "FORMERR", "SERVFAIL",
                                          "NXDOMAIN", "NOTIMP",  "REFUSED" };
    char asked[256] = "";
    size_t at = 12;

    text_size = 0;
    text[0] = '\0';
    if (size < 12 || u16(m) != (id != 0 ? id : 0x1234) || (m[2] & 0x80) == 0 || (m[3] & 15) > 5)
        return "broken: header";
    say("%s%s%s", rcodes[m[3] & 15], (m[2] & 4) != 0 ? " aa" : "", (m[2] & 2) != 0 ? " tc" : "");
    for (int i = 0; i < u16(m + 4); i++) {
        at = get_name(m, size, at, asked);
        if (at == 0 || (at += 4) > size)
            return "broken: question";
    }
    for (int i = 0; i < u16(m + 6) + u16(m + 8) + u16(m + 10); i++) {
        at = say_record(m, size, at, asked);
        if (at == 0)
            return "broken: record";
    }
    return at == size ? text : "broken: more than its records";
}
