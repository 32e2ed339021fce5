#include "common/token.h"

#include <stdio.h>
#include <string.h>

#include "common/assert.h"

static const char prefix[] = "SWMTKN-1-";
static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";

enum { BASE36_BYTES_MAX = 32 };

void base36_encode(const uint8_t *bytes, size_t byte_count, char *ret_text, size_t chars)
{
    uint8_t number[BASE36_BYTES_MAX];

    ASSERT(byte_count <= sizeof(number));
    memcpy(number, bytes, byte_count);
    ret_text[chars] = '\0';
    for (size_t i = chars; i > 0; i--) {
        unsigned rest = 0;

        for (size_t k = 0; k < byte_count; k++) {
            rest = rest << 8 | number[k];
            number[k] = (uint8_t)(rest / 36);
            rest %= 36;
        }
        ret_text[i - 1] = digits[rest];
    }
    for (size_t k = 0; k < byte_count; k++)
        ASSERT(number[k] == 0);
    explicit_bzero(number, sizeof(number));
}

struct token token_make(const char *digest, const uint8_t *random)
{
    struct token t;

    ASSERT(strlen(digest) == TOKEN_DIGEST_CHARS);
    memcpy(t.digest, digest, sizeof(t.digest));
    base36_encode(random, TOKEN_SECRET_BYTES, t.secret, TOKEN_SECRET_CHARS);
    return t;
}

void token_format(const struct token *t, char ret_text[TOKEN_CHARS + 1])
{
    int size = snprintf(ret_text, TOKEN_CHARS + 1, "%s%s-%s", prefix, t->digest, t->secret);

    ASSERT(size == TOKEN_CHARS);
}

static bool all_digits(const char *text, size_t size)
{
    return strspn(text, digits) >= size;
}

int token_parse(const char *text, struct token *ret, struct err *e)
{
    size_t size = strnlen(text, TOKEN_CHARS + 1);
    const char *digest = text + sizeof(prefix) - 1;
    const char *secret = digest + TOKEN_DIGEST_CHARS + 1;

    if (size < sizeof(prefix) - 1 || strncmp(text, prefix, sizeof(prefix) - 1) != 0)
        return err_set(e, ERR_INVALID, "join token: does not begin with %s", prefix);
    if (size != TOKEN_CHARS)
        return err_set(e, ERR_INVALID, "join token: must have %d characters, %s", TOKEN_CHARS,
                       size < TOKEN_CHARS ? "is cut short" : "is longer");
    if (!all_digits(digest, TOKEN_DIGEST_CHARS) || digest[TOKEN_DIGEST_CHARS] != '-' ||
        !all_digits(secret, TOKEN_SECRET_CHARS))
        return err_set(e, ERR_INVALID, "join token: is not of the form %s<root>-<secret>", prefix);
    memcpy(ret->digest, digest, TOKEN_DIGEST_CHARS);
    ret->digest[TOKEN_DIGEST_CHARS] = '\0';
    memcpy(ret->secret, secret, TOKEN_SECRET_CHARS + 1);
    return 0;
}

bool token_matches(const char *text, const char *expected)
{
    size_t size = strnlen(text, TOKEN_CHARS + 1);
    char padded[TOKEN_CHARS + 1] = { 0 };
    unsigned difference = 0;

    if (strnlen(expected, TOKEN_CHARS + 1) != TOKEN_CHARS)
        return false;
    memcpy(padded, text, size < TOKEN_CHARS ? size : TOKEN_CHARS);
    for (size_t i = 0; i < TOKEN_CHARS; i++)
        difference |= (unsigned char)padded[i] ^ (unsigned char)expected[i];
    explicit_bzero(padded, sizeof(padded));
    return (difference | (size ^ TOKEN_CHARS)) == 0;
}
