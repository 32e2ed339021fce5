#include "agentd/worker/plain.h"

#include <stdarg.h>
#include <stdint.h>
#include <string.h>

/* Bytes that follow a lead byte; -1 for a byte that cannot start a character. */
static int follow_count(unsigned char lead)
{
    if (lead < 0x80)
        return 0;
    if (lead >= 0xc2 && lead <= 0xdf)
        return 1;
    if (lead >= 0xe0 && lead <= 0xef)
        return 2;
    if (lead >= 0xf0 && lead <= 0xf4)
        return 3;
    return -1;
}

/* Length of the well-formed character at s (RFC 3629: no surrogates, no overlong forms), or 0. */
static size_t character(const unsigned char *s, size_t size)
{
    int follow = follow_count(s[0]);
    uint32_t code;

    if (follow < 0 || (size_t)follow >= size)
        return 0;
    code = follow == 0 ? s[0] : s[0] & (0x3fu >> follow);
    for (int i = 1; i <= follow; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (s[i] & 0x3fu);
    }
    if (follow == 2 && (code < 0x800 || (code >= 0xd800 && code <= 0xdfff)))
        return 0;
    if (follow == 3 && (code < 0x10000 || code > 0x10ffff))
        return 0;
    return (size_t)follow + 1;
}

void plain_cut(char *text)
{
    size_t size = strlen(text), tail = 0;
    int follow;

    while (tail < size && tail < 3 && ((unsigned char)text[size - 1 - tail] & 0xc0) == 0x80)
        tail++;
    if (tail == size)
        return;
    follow = follow_count((unsigned char)text[size - 1 - tail]);
    if (follow > (int)tail)
        text[size - 1 - tail] = '\0';
}

void plain_format(char *ret, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(ret, size, format, args);
    va_end(args);
    plain_cut(ret);
}

const char *plain_quotable(char ret[PLAIN_QUOTABLE_MAX], const char *text)
{
    plain_format(ret, PLAIN_QUOTABLE_MAX, "%s", text);
    for (char *at = ret; *at != '\0'; at++)
        if (*at == '"')
            *at = '\'';
    return ret;
}

void plain_clean(char *text)
{
    size_t size = strlen(text), at = 0;

    while (at < size) {
        size_t n = character((unsigned char *)text + at, size - at);

        if (n == 0) {
            text[at++] = '?';
            continue;
        }
        if (n == 1 && ((unsigned char)text[at] < 0x20 || text[at] == 0x7f))
            text[at] = ' ';
        at += n;
    }
}
