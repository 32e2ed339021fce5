#include "agentd/worker/image.h"

#include <string.h>

#include "agentd/worker/plain.h"

static bool is_hex(const char *s, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
            return false;
    return true;
}

static bool is_image_id(const char *text)
{
    if (strncmp(text, "sha256:", 7) == 0)
        text += 7;
    return strlen(text) == 64 && is_hex(text, 64);
}

static bool is_word(const char *s, size_t size, const char *extra)
{
    for (size_t i = 0; i < size; i++) {
        char c = s[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

        if (!alnum && (c == '\0' || strchr(extra, c) == NULL))
            return false;
    }
    return size > 0;
}

static bool copy(char *ret, size_t ret_size, const char *s, size_t size)
{
    if (size >= ret_size)
        return false;
    memcpy(ret, s, size);
    ret[size] = '\0';
    return true;
}

int image_ref_parse(const char *text, struct image_ref *ret, struct err *e)
{
    struct image_ref r = { 0 };
    const char *at = strchr(text, '@'), *end = text + strlen(text), *tag = "latest", *slash, *colon;
    size_t tag_size;

    if (is_image_id(text)) {
        r.is_id = r.by_digest = true;
        plain_format(r.repo, sizeof(r.repo), "%s", text);
        *ret = r;
        return 0;
    }
    tag_size = strlen(tag);
    if (at != NULL) {
        r.by_digest = true;
        tag = at + 1;
        tag_size = (size_t)(end - tag);
        end = at;
    }
    slash = memrchr(text, '/', (size_t)(end - text));
    colon =
        memchr(slash == NULL ? text : slash, ':', (size_t)(end - (slash == NULL ? text : slash)));
    if (colon != NULL) {
        if (!is_word(colon + 1, (size_t)(end - colon - 1), "._-"))
            return err_set(e, ERR_INVALID, "invalid reference format: %s", text);
        if (!r.by_digest) {
            tag = colon + 1;
            tag_size = (size_t)(end - tag);
        }
        end = colon;
    }
    if (!is_word(text, (size_t)(end - text), "._-/:[]") || !is_word(tag, tag_size, "._-:+") ||
        (r.by_digest && memchr(tag, ':', tag_size) == NULL) ||
        !copy(r.repo, sizeof(r.repo), text, (size_t)(end - text)) ||
        !copy(r.tag, sizeof(r.tag), tag, tag_size))
        return err_set(e, ERR_INVALID, "invalid reference format: %s", text);
    *ret = r;
    return 0;
}

void image_ref_full(const char *text, const struct image_ref *r, char *ret, size_t size)
{
    if (r->is_id || r->by_digest)
        plain_format(ret, size, "%s", text);
    else
        plain_format(ret, size, "%s:%s", r->repo, r->tag);
}
