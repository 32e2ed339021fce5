/* Join tokens in Swarm's format, `SWMTKN-1-<root>-<secret>`: root pins the cluster's root CA (50
 * base36 digits of SHA-256), secret (25 digits of 128 random bits) proves the right to join and
 * says, by which of the cluster's two tokens it is part of, in which role. Pure. */
#ifndef SKEP_COMMON_TOKEN_H
#define SKEP_COMMON_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/mem.h"

enum {
    TOKEN_DIGEST_CHARS = 50,
    TOKEN_SECRET_CHARS = 25,
    TOKEN_CHARS = 9 + TOKEN_DIGEST_CHARS + 1 + TOKEN_SECRET_CHARS,
    TOKEN_SECRET_BYTES = 16,
};

struct token {
    char digest[TOKEN_DIGEST_CHARS + 1]; /* x509_root_digest() of the cluster's root */
    char secret[TOKEN_SECRET_CHARS + 1];
};

/* random: TOKEN_SECRET_BYTES from common/random.h. */
struct token token_make(const char *digest, const uint8_t *random);
void token_format(const struct token *t, char ret_text[TOKEN_CHARS + 1]);
/* -ERR_INVALID; the message says what is wrong and never repeats the text, which is a secret. */
int token_parse(const char *text, struct token *ret, struct err *e) MUST_CHECK;
/* Compares what a joiner sent with one of the cluster's tokens. Takes the same time wherever they
 * differ; any text is allowed, size bounds it. expected "" never matches. */
bool token_matches(const char *text, const char *expected);

/* Big-endian number in bytes as exactly chars base36 digits, zero-padded. It must fit (asserted).
 */
void base36_encode(const uint8_t *bytes, size_t byte_count, char *ret_text, size_t chars);

#endif
