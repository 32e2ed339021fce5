/* Join tokens (common/token.h): nothing crashes, what parses is printed as it came and matches
 * itself, and base36 keeps the value of what it encodes. */
#include <string.h>

#include "common/assert.h"
#include "common/token.h"

enum { TEXT_INPUT_MAX = 300 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_base36(const uint8_t *data)
{
    char text[TOKEN_SECRET_CHARS + 1];
    uint8_t bytes[TOKEN_SECRET_BYTES] = { 0 };

    base36_encode(data, TOKEN_SECRET_BYTES, text, TOKEN_SECRET_CHARS);
    for (const char *c = text; *c != '\0'; c++) {
        unsigned carry = *c <= '9' ? (unsigned)(*c - '0') : (unsigned)(*c - 'a') + 10;

        for (size_t i = sizeof(bytes); i > 0; i--) {
            carry += bytes[i - 1] * 36u;
            bytes[i - 1] = (uint8_t)carry;
            carry >>= 8;
        }
    }
    ASSERT(memcmp(bytes, data, sizeof(bytes)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[TEXT_INPUT_MAX + 1], again[TOKEN_CHARS + 1];
    static const char good[] = "SWMTKN-1-11111111111111111111111111111111111111111111111111"
                               "-2222222222222222222222222";
    struct token t;
    struct err e;

    if (size > TEXT_INPUT_MAX)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (token_parse(text, &t, &e) == 0) {
        token_format(&t, again);
        ASSERT(strcmp(text, again) == 0);
        ASSERT(token_matches(text, again));
    } else {
        ASSERT(e.code == ERR_INVALID);
        ASSERT(!token_matches(text, good));
    }
    if (size >= TOKEN_SECRET_BYTES)
        check_base36(data);
    return 0;
}
