#include "common/constraint.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { ADDRESS_BYTES_MAX = 16 };

static bool key_valid(const char *key)
{
    size_t chars = strlen(key);

    if (chars < 2 || (!isalpha((unsigned char)key[0]) && key[0] != '_'))
        return false;
    for (size_t i = 1; i < chars; i++) {
        if (!isalnum((unsigned char)key[i]) && strchr("-_.", key[i]) == NULL)
            return false;
    }
    return true;
}

static bool value_valid(const char *value)
{
    if (value[0] == '\0')
        return false;
    for (; *value != '\0'; value++) {
        if (!isalnum((unsigned char)*value) && !isspace((unsigned char)*value) &&
            strchr(":-_.*()?+[]\\^$|/", *value) == NULL)
            return false;
    }
    return true;
}

int constraint_check(const char *key, const char *value, struct err *e)
{
    if (strlen(key) > CONSTRAINT_TEXT_CHARS_MAX || strlen(value) > CONSTRAINT_TEXT_CHARS_MAX)
        return err_set(e, ERR_TOO_BIG, "a constraint of more than %d characters",
                       CONSTRAINT_TEXT_CHARS_MAX);
    if (!key_valid(key))
        return err_set(e, ERR_INVALID, "key '%s' is invalid", key);
    if (!value_valid(value))
        return err_set(e, ERR_INVALID, "value '%s' is invalid", value);
    return 0;
}

/* Copies without the white space around. */
static void trim(const char *from, size_t chars, char ret_text[CONSTRAINT_TEXT_CHARS_MAX + 1])
{
    for (; chars > 0 && isspace((unsigned char)*from); chars--)
        from++;
    while (chars > 0 && isspace((unsigned char)from[chars - 1]))
        chars--;
    memcpy(ret_text, from, chars);
    ret_text[chars] = '\0';
}

int constraint_parse(const char *text, struct constraint *ret_constraint, struct err *e)
{
    struct constraint c = { .not_equal = false };
    const char *op = strstr(text, "=="); /* looked for first, as swarmkit does */

    if (strlen(text) > CONSTRAINT_TEXT_CHARS_MAX)
        return err_set(e, ERR_TOO_BIG, "a constraint of more than %d characters",
                       CONSTRAINT_TEXT_CHARS_MAX);
    if (op == NULL) {
        op = strstr(text, "!=");
        c.not_equal = true;
    }
    if (op == NULL)
        return err_set(e, ERR_INVALID, "constraint expected one operator from ==, !=");
    trim(text, (size_t)(op - text), c.key);
    trim(op + 2, strlen(op + 2), c.value);
    int rc = constraint_check(c.key, c.value, e);
    if (rc < 0)
        return rc;
    *ret_constraint = c;
    return 0;
}

bool constraint_key_known(const char *key)
{
    static const char *const keys[] = { "node.id",   "node.hostname",    "node.ip",
                                        "node.role", "node.platform.os", "node.platform.arch" };

    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (strcasecmp(key, keys[i]) == 0)
            return true;
    }
    return (strncasecmp(key, "node.labels.", 12) == 0 && key[12] != '\0') ||
           (strncasecmp(key, "engine.labels.", 14) == 0 && key[14] != '\0');
}

/* Parses an address of either family; returns its size in bytes, 0 when it is none. */
static size_t parse_address(const char *text, uint8_t ret_bytes[ADDRESS_BYTES_MAX])
{
    if (inet_pton(AF_INET, text, ret_bytes) == 1)
        return 4;
    return inet_pton(AF_INET6, text, ret_bytes) == 1 ? 16 : 0;
}

int constraint_address_match(const char *pattern, const char *address, bool *ret_match)
{
    char net[INET6_ADDRSTRLEN + 1];
    uint8_t want[ADDRESS_BYTES_MAX], have[ADDRESS_BYTES_MAX];
    const char *slash = strchr(pattern, '/');
    size_t chars = slash != NULL ? (size_t)(slash - pattern) : strlen(pattern);
    char *end = NULL;

    if (chars >= sizeof(net))
        return -ERR_INVALID;
    memcpy(net, pattern, chars);
    net[chars] = '\0';
    size_t size = parse_address(net, want);
    unsigned long bits = slash != NULL ? strtoul(slash + 1, &end, 10) : size * 8;
    if (size == 0 || bits > size * 8 || (slash != NULL && (end == slash + 1 || *end != '\0')))
        return -ERR_INVALID;
    unsigned rest = bits % 8;
    *ret_match = parse_address(address, have) == size && memcmp(want, have, bits / 8) == 0 &&
                 (rest == 0 || ((want[bits / 8] ^ have[bits / 8]) >> (8 - rest)) == 0);
    return 0;
}
