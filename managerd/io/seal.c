#include "managerd/io/seal.h"

#include <mbedtls/chachapoly.h>
#include <mbedtls/hkdf.h>
#include <mbedtls/sha256.h>
#include <string.h>

#include "common/assert.h"
#include "common/err.h"
#include "managerd/io/bytes.h"

enum { NONCE_BYTES = 12, SCOPE_TEXT_BYTES_MAX = 256 };

struct seal {
    mbedtls_chachapoly_context aead;
};

struct seal_digest {
    mbedtls_sha256_context sha;
};

/* Each text goes in with its length, so that no two scopes share an encoding. */
static size_t put_text(uint8_t *info, size_t used, const char *text)
{
    size_t size = strlen(text);

    ASSERT(used + 4 + size <= SCOPE_TEXT_BYTES_MAX);
    put_u32(info + used, (uint32_t)size);
    memcpy(info + used + 4, text, size);
    return used + 4 + size;
}

struct seal *seal_new(const uint8_t key[SEAL_KEY_BYTES], const struct seal_scope *scope)
{
    struct seal *s = xcalloc(1, sizeof(*s));
    uint8_t info[SCOPE_TEXT_BYTES_MAX + 8], derived[SEAL_KEY_BYTES];
    size_t used = 0;

    used = put_text(info, used, scope->purpose);
    used = put_text(info, used, scope->cluster_id);
    used = put_text(info, used, scope->node_id);
    put_u64(info + used, scope->number);
    used += 8;
    ASSERT(mbedtls_hkdf(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), scope->salt, SEAL_SALT_BYTES,
                        key, SEAL_KEY_BYTES, info, used, derived, sizeof(derived)) == 0);
    mbedtls_chachapoly_init(&s->aead);
    ASSERT(mbedtls_chachapoly_setkey(&s->aead, derived) == 0);
    explicit_bzero(derived, sizeof(derived));
    return s;
}

void seal_free(struct seal *s)
{
    if (s == NULL)
        return;
    mbedtls_chachapoly_free(&s->aead);
    xfree_secret(s, sizeof(*s));
}

static void fill_nonce(uint64_t counter, uint8_t nonce[NONCE_BYTES])
{
    memset(nonce, 0, NONCE_BYTES);
    put_u64(nonce + 4, counter);
}

void seal_close(struct seal *s, const struct seal_box *b, uint8_t *out, uint8_t tag[SEAL_TAG_BYTES])
{
    uint8_t nonce[NONCE_BYTES];

    fill_nonce(b->nonce, nonce);
    ASSERT(mbedtls_chachapoly_encrypt_and_tag(&s->aead, b->size, nonce, b->vouched, b->vouched_size,
                                              b->data, out, tag) == 0);
}

int seal_open(struct seal *s, const struct seal_box *b, uint8_t *out,
              const uint8_t tag[SEAL_TAG_BYTES])
{
    uint8_t nonce[NONCE_BYTES];

    fill_nonce(b->nonce, nonce);
    int rc = mbedtls_chachapoly_auth_decrypt(&s->aead, b->size, nonce, b->vouched, b->vouched_size,
                                             tag, b->data, out);
    return rc == 0 ? 0 : -ERR_CORRUPT;
}

struct seal_digest *seal_digest_new(void)
{
    struct seal_digest *d = xcalloc(1, sizeof(*d));

    mbedtls_sha256_init(&d->sha);
    ASSERT(mbedtls_sha256_starts_ret(&d->sha, 0) == 0);
    return d;
}

void seal_digest_add(struct seal_digest *d, const void *mem, size_t size)
{
    ASSERT(mbedtls_sha256_update_ret(&d->sha, mem, size) == 0);
}

void seal_digest_finish(struct seal_digest *d, uint8_t ret_digest[SEAL_DIGEST_BYTES])
{
    ASSERT(mbedtls_sha256_finish_ret(&d->sha, ret_digest) == 0);
    mbedtls_sha256_free(&d->sha);
    free(d);
}

void seal_digest_of(const void *mem, size_t size, uint8_t ret_digest[SEAL_DIGEST_BYTES])
{
    struct seal_digest *d = seal_digest_new();

    seal_digest_add(d, mem, size);
    seal_digest_finish(d, ret_digest);
}
