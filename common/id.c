#include "common/id.h"

#include <string.h>

#include "common/assert.h"

static const char base36[] = "0123456789abcdefghijklmnopqrstuvwxyz";

struct id id_from_prng(struct prng *p)
{
    struct id id = { "" };
    unsigned __int128 value = ((unsigned __int128)prng_next(p) << 64) | prng_next(p);

    /* 36^25 > 2^129: 25 digits hold 128 random bits; the first digit is never 0, as in SwarmKit. */
    for (int i = ID_CHARS - 1; i > 0; i--) {
        id.s[i] = base36[value % 36];
        value /= 36;
    }
    id.s[0] = base36[1 + value % 35];
    return id;
}

bool id_valid(const char *text)
{
    return strlen(text) == ID_CHARS && strspn(text, base36) == ID_CHARS;
}

struct id id_from_str(const char *text)
{
    struct id id = { "" };

    ASSERT(text[0] == '\0' || id_valid(text));
    memcpy(id.s, text, strlen(text) + 1);
    return id;
}

bool id_equal(const struct id *a, const struct id *b)
{
    return memcmp(a->s, b->s, sizeof(a->s)) == 0;
}
