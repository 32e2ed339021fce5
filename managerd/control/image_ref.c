#include "managerd/control/image_ref.h"

#include <stdbool.h>
#include <string.h>

#define DIGITS "0123456789"
#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define HEX DIGITS "abcdefABCDEF"

/* A piece of the reference, not terminated. */
struct piece {
    const char *s;
    size_t size;
};

static bool in_set(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

static size_t span(struct piece p, size_t from, const char *set)
{
    size_t at = from;

    while (at < p.size && in_set(p.s[at], set))
        at++;
    return at - from;
}

static const char *find(struct piece p, char c)
{
    return memchr(p.s, c, p.size);
}

/* Cuts p at the byte `at` inside it; what follows the byte is returned. */
static struct piece cut(struct piece *p, const char *at)
{
    struct piece tail = { at + 1, p->size - (size_t)(at - p->s) - 1 };

    p->size = (size_t)(at - p->s);
    return tail;
}

/* Bytes of a separator at p[at]: one '.', one or two '_', or any number of '-'. 0: none. */
static size_t separator(struct piece p, size_t at)
{
    if (p.s[at] == '.')
        return 1;
    if (p.s[at] == '_')
        return at + 1 < p.size && p.s[at + 1] == '_' ? 2 : 1;
    return span(p, at, "-");
}

/* One path component: runs of [a-z0-9] joined by separators. */
static bool component_valid(struct piece p)
{
    size_t at = span(p, 0, LOWER DIGITS);

    if (at == 0)
        return false;
    while (at < p.size) {
        size_t gap = separator(p, at);
        size_t run = gap > 0 ? span(p, at + gap, LOWER DIGITS) : 0;

        if (run == 0)
            return false;
        at += gap + run;
    }
    return true;
}

static bool host_label_valid(struct piece p)
{
    return p.size > 0 && span(p, 0, LOWER UPPER DIGITS "-") == p.size && p.s[0] != '-' &&
           p.s[p.size - 1] != '-';
}

static bool domain_valid(struct piece p)
{
    if (p.size > 0 && p.s[0] == '[') {
        const char *end = find(p, ']');

        if (end == NULL)
            return false;
        struct piece address = { p.s + 1, (size_t)(end - p.s) - 1 };
        struct piece tail = { end + 1, p.size - (size_t)(end - p.s) - 1 };

        return address.size > 0 && span(address, 0, HEX ":.") == address.size &&
               (tail.size == 0 ||
                (tail.s[0] == ':' && tail.size > 1 && span(tail, 1, DIGITS) == tail.size - 1));
    }
    const char *colon = find(p, ':');

    if (colon != NULL) {
        struct piece port = cut(&p, colon);

        if (port.size == 0 || port.size > 5 || span(port, 0, DIGITS) != port.size)
            return false;
    }
    for (const char *dot = find(p, '.'); dot != NULL; dot = find(p, '.')) {
        struct piece rest = cut(&p, dot);

        if (!host_label_valid(p))
            return false;
        p = rest;
    }
    return host_label_valid(p);
}

/* docker: the first part is a domain when it could not be a path component. */
static bool is_domain(struct piece first)
{
    return find(first, '.') != NULL || find(first, ':') != NULL ||
           (first.size == 9 && memcmp(first.s, "localhost", 9) == 0) ||
           span(first, 0, LOWER DIGITS "_-") != first.size;
}

static int check_digest(struct piece p, struct err *e)
{
    const char *colon = find(p, ':');

    if (colon == NULL)
        return err_set(e, ERR_INVALID, "the digest after @ must be algorithm:hex");
    struct piece hex = cut(&p, colon);

    if (p.size == 0 || !in_set(p.s[0], LOWER UPPER) ||
        span(p, 0, LOWER UPPER DIGITS "-_+.") != p.size || hex.size < 32 || hex.size > 128 ||
        span(hex, 0, HEX) != hex.size)
        return err_set(e, ERR_INVALID,
                       "the digest after @ must be algorithm:hex, as sha256:<64 hex digits>");
    if (p.size == 6 && memcmp(p.s, "sha256", 6) == 0 && hex.size != 64)
        return err_set(e, ERR_INVALID, "a sha256 digest has 64 hex digits, this one has %zu",
                       hex.size);
    return 0;
}

static int check_tag(struct piece p, struct err *e)
{
    if (p.size == 0 || p.size > IMAGE_REF_TAG_BYTES_MAX || in_set(p.s[0], ".-") ||
        span(p, 0, LOWER UPPER DIGITS "_.-") != p.size)
        return err_set(e, ERR_INVALID,
                       "the tag after : must be 1 to %d letters, digits, '_', '.' or '-', not "
                       "beginning with '.' or '-'",
                       IMAGE_REF_TAG_BYTES_MAX);
    return 0;
}

static int check_path(struct piece p, bool has_domain, struct err *e)
{
    if (!has_domain && p.size == 64 && span(p, 0, DIGITS "abcdef") == 64)
        return err_set(e, ERR_INVALID, "a name of 64 hex digits would be an image id");
    for (bool last = false; !last;) {
        const char *slash = find(p, '/');
        struct piece rest = { NULL, 0 };

        last = slash == NULL;
        if (!last)
            rest = cut(&p, slash);
        if (span(p, 0, LOWER UPPER DIGITS "._-") == p.size &&
            span(p, 0, LOWER DIGITS "._-") != p.size)
            return err_set(e, ERR_INVALID, "repository name must be lowercase");
        if (!component_valid(p))
            return err_set(e, ERR_INVALID,
                           "each part of the repository name must be lowercase letters and digits "
                           "joined by '.', '_', '__' or '-'");
        p = rest;
    }
    return 0;
}

int image_ref_check(const char *text, struct err *e)
{
    size_t size = strnlen(text, IMAGE_REF_BYTES_MAX + 1);
    struct piece name = { text, size };

    if (size > IMAGE_REF_BYTES_MAX)
        return err_set(e, ERR_TOO_BIG, "longer than %d bytes", IMAGE_REF_BYTES_MAX);
    if (size == 0)
        return err_set(e, ERR_INVALID, "empty");
    const char *at = find(name, '@');
    if (at != NULL) {
        int rc = check_digest(cut(&name, at), e);

        if (rc < 0)
            return rc;
    }
    const char *slash = memrchr(name.s, '/', name.size);
    const char *colon = memrchr(name.s, ':', name.size);
    if (colon != NULL && (slash == NULL || colon > slash)) {
        int rc = check_tag(cut(&name, colon), e);

        if (rc < 0)
            return rc;
    }
    if (name.size > IMAGE_REF_NAME_BYTES_MAX)
        return err_set(e, ERR_INVALID, "repository name longer than %d bytes",
                       IMAGE_REF_NAME_BYTES_MAX);
    slash = find(name, '/');
    struct piece first = { name.s, slash != NULL ? (size_t)(slash - name.s) : 0 };
    bool has_domain = slash != NULL && is_domain(first);
    if (has_domain) {
        if (!domain_valid(first))
            return err_set(e, ERR_INVALID,
                           "the part before the first / is no registry host[:port]");
        name = (struct piece){ slash + 1, name.size - first.size - 1 };
    }
    return check_path(name, has_domain, e);
}
