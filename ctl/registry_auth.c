/* --with-registry-auth: credentials from docker's own configuration, for the agents' pulls. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "ctl/spec.h"

enum { CONFIG_BYTES_MAX = 1 << 20 };

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* URL-safe base64 with padding, as the Engine API wants X-Registry-Auth. */
static char *base64url(struct arena *a, const char *text)
{
    const unsigned char *in = (const unsigned char *)text;
    size_t size = strlen(text);
    char *out = arena_alloc(a, size / 3 * 4 + 5);
    char *p = out;

    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        unsigned v = (unsigned)in[i] << 16 | (left > 1 ? (unsigned)in[i + 1] << 8 : 0) |
                     (left > 2 ? (unsigned)in[i + 2] : 0);

        *p++ = alphabet[v >> 18];
        *p++ = alphabet[v >> 12 & 63];
        *p++ = left > 1 ? alphabet[v >> 6 & 63] : '=';
        *p++ = left > 2 ? alphabet[v & 63] : '=';
    }
    return out;
}

/* Standard base64; NULL when it is malformed. */
static char *base64_decode(struct arena *a, const char *text)
{
    char *out = arena_alloc(a, strlen(text) + 1);
    char *p = out;
    unsigned bits = 0;
    int have = 0;

    for (; *text != '\0' && *text != '='; text++) {
        char c = *text == '+' ? '-' : *text == '/' ? '_' : *text;
        const char *at = strchr(alphabet, c);

        if (at == NULL)
            return NULL;
        bits = bits << 6 | (unsigned)(at - alphabet);
        have += 6;
        if (have >= 8) {
            have -= 8;
            *p++ = (char)(bits >> have & 0xff);
        }
    }
    return out;
}

static const char *member(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text != NULL ? text : "";
}

/* The entry of "auths" for a registry: with or without scheme and path. */
static const json_t *find_entry(const json_t *auths, const char *registry)
{
    const char *key;
    json_t *value;

    if (strcmp(registry, "docker.io") == 0)
        return json_object_get(auths, "https://index.docker.io/v1/");
    json_object_foreach((json_t *)(uintptr_t)auths, key, value)
    {
        const char *host = strstr(key, "://") != NULL ? strstr(key, "://") + 3 : key;

        if (strlen(registry) == strcspn(host, "/") &&
            strncmp(host, registry, strlen(registry)) == 0)
            return value;
    }
    return NULL;
}

static int encode_entry(struct arena *a, const json_t *entry, const char *registry,
                        const char **ret, struct err *e)
{
    json_t *out = json_object();
    char *plain = base64_decode(a, member(entry, "auth"));
    char *colon = plain != NULL ? strchr(plain, ':') : NULL;
    const char *server =
        strcmp(registry, "docker.io") == 0 ? "https://index.docker.io/v1/" : registry;
    char *text;

    if (member(entry, "auth")[0] != '\0' && colon == NULL) {
        json_decref(out);
        return err_set(e, ERR_INVALID, "the docker configuration's entry for %.80s is damaged",
                       registry);
    }
    if (colon != NULL) {
        *colon = '\0';
        (void)json_object_set_new(out, "username", json_string(plain));
        (void)json_object_set_new(out, "password", json_string(colon + 1));
    }
    if (member(entry, "identitytoken")[0] != '\0')
        (void)json_object_set_new(out, "identitytoken",
                                  json_string(member(entry, "identitytoken")));
    (void)json_object_set_new(out, "serveraddress", json_string(server));
    text = json_dumps(out, JSON_COMPACT);
    json_decref(out);
    if (text == NULL)
        return err_set(e, ERR_INVALID, "the docker configuration's entry for %.80s is not UTF-8",
                       registry);
    *ret = base64url(a, text);
    xfree_secret(text, strlen(text));
    return 0;
}

int registry_auth(struct arena *a, const char *text, const char *image, const char **ret,
                  struct err *e)
{
    const char *registry = image_registry(a, image);
    json_error_t why;
    json_t *config = json_loads(text, 0, &why);
    const json_t *entry;
    int rc = 0;

    *ret = "";
    if (config == NULL)
        return err_set(e, ERR_INVALID, "the docker configuration is not JSON: line %d: %.100s",
                       why.line, why.text);
    entry = find_entry(json_object_get(config, "auths"), registry);
    if (entry != NULL && member(entry, "auth")[0] == '\0' &&
        member(entry, "identitytoken")[0] == '\0' &&
        (json_object_get(config, "credsStore") != NULL ||
         json_object_get(config, "credHelpers") != NULL))
        rc = err_set(e, ERR_UNSUPPORTED,
                     "credentials for %.80s are kept by a docker credential helper, which ctl does "
                     "not run; log in with a configuration that has no credsStore",
                     registry);
    else if (entry != NULL)
        rc = encode_entry(a, entry, registry, ret, e);
    json_decref(config);
    return rc;
}

int registry_auth_read(struct ctl *c, const char *image, const char **ret, struct err *e)
{
    CLEANUP_BUF struct buf b = BUF_INIT(CONFIG_BYTES_MAX);
    const char *dir = getenv("DOCKER_CONFIG");
    const char *home = getenv("HOME");
    const char *path =
        dir != NULL && dir[0] != '\0'
            ? arena_printf(&c->arena, "%s/config.json", dir)
            : arena_printf(&c->arena, "%s/.docker/config.json", home != NULL ? home : "");
    int rc = buf_read_file(&b, path, e);

    if (rc == -ERR_NOT_FOUND) {
        *ret = "";
        return 0;
    }
    if (rc == 0)
        rc = registry_auth(&c->arena, buf_str(&b), image, ret, e);
    if (b.data != NULL)
        explicit_bzero(b.data, b.size);
    return rc < 0 ? err_wrap(e, rc, "--with-registry-auth") : 0;
}
