#include "ctl/parse.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

#include "common/text.h"

#define BLANKS " \t\r\n" /* what separates shell words */

/* ---- lists ---- */

/* Doubles at powers of two; the old array stays in the arena. */
void list_grow(struct arena *a, size_t count, void **list)
{
    void **grown;

    if (count != 0 && (count & (count - 1)) != 0)
        return;
    grown = arena_array(a, count == 0 ? 1 : count * 2, sizeof(*grown));
    if (count > 0)
        memcpy(grown, *list, count * sizeof(*grown));
    *list = grown;
}

void strings_add(struct arena *a, struct strings *s, const char *text)
{
    LIST_ADD(a, s->count, s->items, arena_strdup(a, text));
}

bool strings_has(const struct strings *s, const char *text)
{
    for (size_t i = 0; i < s->count; i++) {
        if (strcmp(s->items[i], text) == 0)
            return true;
    }
    return false;
}

/* ---- fields and words ---- */

/* One field of a csv line into *out; returns behind it, NULL when a quote stays open. */
static const char *csv_field(const char *p, char *out)
{
    if (*p != '"') {
        while (*p != '\0' && *p != ',')
            *out++ = *p++;
        *out = '\0';
        return p;
    }
    for (p++; *p != '\0'; p++) {
        if (*p == '"' && p[1] == '"')
            p++;
        else if (*p == '"')
            break;
        *out++ = *p;
    }
    *out = '\0';
    return *p == '"' ? p + 1 : NULL;
}

int parse_csv(struct arena *a, const char *text, struct strings *ret, struct err *e)
{
    const char *p = text;
    char *field = arena_alloc(a, strlen(text) + 1);

    for (;;) {
        p = csv_field(p, field);
        if (p == NULL || (*p != ',' && *p != '\0'))
            return err_set(e, ERR_INVALID, "bare or open '\"' in \"%.80s\"", text);
        strings_add(a, ret, field);
        if (*p == '\0')
            return 0;
        p++;
    }
}

/* One shell word into out; returns behind it, NULL when a quote stays open. */
static const char *shell_word(const char *p, char *out)
{
    char quote = '\0';

    for (; *p != '\0' && (quote != '\0' || strchr(BLANKS, *p) == NULL); p++) {
        if (quote == '\0' && (*p == '"' || *p == '\'')) {
            quote = *p;
        } else if (quote != '\0' && *p == quote) {
            quote = '\0';
        } else if (*p == '\\' && quote != '\'' && p[1] != '\0') {
            p++;
            if (quote == '"' && strchr("\"\\$`", *p) == NULL)
                *out++ = '\\';
            *out++ = *p;
        } else {
            *out++ = *p;
        }
    }
    *out = '\0';
    return quote == '\0' ? p : NULL;
}

int parse_words(struct arena *a, const char *text, struct strings *ret, struct err *e)
{
    char *word = arena_alloc(a, strlen(text) + 1);
    const char *p = text;

    for (;;) {
        p += strspn(p, BLANKS);
        if (*p == '\0')
            return 0;
        p = shell_word(p, word);
        if (p == NULL)
            return err_set(e, ERR_INVALID, "unclosed quote in \"%.80s\"", text);
        strings_add(a, ret, word);
    }
}

/* ---- labels ---- */

static Skep__KeyValue *kv_new(struct arena *a, const char *key, const char *value)
{
    Skep__KeyValue *kv = ARENA_NEW(a, Skep__KeyValue);

    skep__key_value__init(kv);
    kv->key = arena_strdup(a, key);
    kv->value = arena_strdup(a, value);
    return kv;
}

void kv_set(struct arena *a, size_t *count, Skep__KeyValue ***list, const char *key,
            const char *value)
{
    size_t at = 0;

    while (at < *count && strcmp((*list)[at]->key, key) < 0)
        at++;
    if (at < *count && strcmp((*list)[at]->key, key) == 0) {
        (*list)[at] = kv_new(a, key, value);
        return;
    }
    LIST_ADD(a, *count, *list, NULL);
    memmove(*list + at + 1, *list + at, (*count - 1 - at) * sizeof(**list));
    (*list)[at] = kv_new(a, key, value);
}

bool kv_remove(size_t *count, Skep__KeyValue **list, const char *key)
{
    for (size_t i = 0; i < *count; i++) {
        if (strcmp(list[i]->key, key) == 0) {
            memmove(list + i, list + i + 1, (*count - i - 1) * sizeof(*list));
            (*count)--;
            return true;
        }
    }
    return false;
}

const char *kv_get(size_t count, Skep__KeyValue *const *list, const char *key)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i]->key, key) == 0)
            return list[i]->value;
    }
    return "";
}

int parse_label(struct arena *a, const char *text, size_t *count, Skep__KeyValue ***list,
                struct err *e)
{
    const char *equals = strchr(text, '=');
    size_t size = equals != NULL ? (size_t)(equals - text) : strlen(text);
    char *key;

    if (size == 0)
        return err_set(e, ERR_INVALID, "invalid label format: \"%.80s\"; write key=value", text);
    key = arena_strdup(a, text);
    key[size] = '\0';
    if (strpbrk(key, " \t") != NULL)
        return err_set(e, ERR_INVALID, "label '%.80s' contains whitespaces", key);
    kv_set(a, count, list, key, equals != NULL ? equals + 1 : "");
    return 0;
}

/* ---- environment ---- */

static bool same_name(const char *entry, const char *other)
{
    size_t size = strcspn(other, "=");

    return strcspn(entry, "=") == size && strncmp(entry, other, size) == 0;
}

void env_set(struct arena *a, struct strings *env, const char *entry)
{
    for (size_t i = 0; i < env->count; i++) {
        if (same_name(env->items[i], entry)) {
            env->items[i] = arena_strdup(a, entry);
            return;
        }
    }
    strings_add(a, env, entry);
}

void env_remove(struct strings *env, const char *name)
{
    size_t kept = 0;

    for (size_t i = 0; i < env->count; i++) {
        if (!same_name(env->items[i], name))
            env->items[kept++] = env->items[i];
    }
    env->count = kept;
}

int parse_env(struct arena *a, const char *text, parse_env_fn *get, struct strings *env,
              struct err *e)
{
    const char *value;

    if (text[0] == '\0' || text[0] == '=')
        return err_set(e, ERR_INVALID, "invalid environment variable: \"%.80s\"; write NAME=value",
                       text);
    if (strchr(text, '=') == NULL) {
        value = get(text);
        if (value == NULL)
            return 0;
        text = arena_printf(a, "%s=%s", text, value);
    }
    env_set(a, env, text);
    return 0;
}

int parse_env_file(struct arena *a, const char *text, parse_env_fn *get, struct strings *env,
                   struct err *e)
{
    for (unsigned number = 1; *text != '\0'; number++) {
        size_t size = strcspn(text, "\n");
        char *line = arena_strdup(a, text);
        int rc;

        line[size] = '\0';
        text += size + (text[size] == '\n' ? 1 : 0);
        if (number == 1 && strncmp(line, "\xef\xbb\xbf", 3) == 0)
            line += 3; /* a byte order mark */
        line += strspn(line, " \t");
        if (size > 0 && strlen(line) > 0 && line[strlen(line) - 1] == '\r')
            line[strlen(line) - 1] = '\0';
        if (line[0] == '\0' || line[0] == '#')
            continue;
        if (!text_printable(line) && strchr(line, '\t') == NULL)
            return err_set(e, ERR_INVALID, "line %u: not a line of UTF-8 text", number);
        if (strcspn(line, " \t") < strcspn(line, "="))
            return err_set(e, ERR_INVALID, "line %u: variable '%.60s' contains whitespaces", number,
                           line);
        rc = parse_env(a, line, get, env, e);
        if (rc < 0)
            return err_wrap(e, rc, "line %u", number);
    }
    return 0;
}

/* ---- images ---- */

/* The part before the first '/' names a registry when it looks like a host. */
static size_t registry_size(const char *image)
{
    size_t size = strcspn(image, "/");

    if (image[size] != '/')
        return 0;
    if (memchr(image, '.', size) != NULL || memchr(image, ':', size) != NULL ||
        (size == 9 && strncmp(image, "localhost", 9) == 0))
        return size;
    return 0;
}

/* Lower-case words joined by '.', '_', '__' or dashes. Returns behind it, NULL when it is none. */
static const char *path_component(const char *p)
{
    const char *start = p;

    for (;;) {
        size_t word = strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789");
        size_t separators;

        if (word == 0)
            return NULL;
        p += word;
        separators = strspn(p, "._-");
        if (separators == 0)
            return p > start ? p : NULL;
        if (strspn(p, "-") != separators && separators != 1 && strncmp(p, "__", separators) != 0)
            return NULL;
        p += separators;
    }
}

static bool tag_valid(const char *tag, size_t size)
{
    if (size == 0 || size > 128 || tag[0] == '.' || tag[0] == '-')
        return false;
    for (size_t i = 0; i < size; i++) {
        if (!isalnum((unsigned char)tag[i]) && strchr("._-", tag[i]) == NULL)
            return false;
    }
    return true;
}

static bool digest_valid(const char *digest)
{
    return strncmp(digest, "sha256:", 7) == 0 && strlen(digest) == 7 + 64 &&
           strspn(digest + 7, "0123456789abcdef") == 64;
}

static bool registry_valid(const char *name, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (!isalnum((unsigned char)name[i]) && strchr(".-:[]", name[i]) == NULL)
            return false;
    }
    return true;
}

int parse_image(struct arena *a, const char *text, const char **ret, struct err *e)
{
    const char *bad = "invalid reference format";
    size_t registry = registry_size(text);
    const char *p = text + (registry > 0 ? registry + 1 : 0);
    size_t tag = 0;

    if (text[0] == '\0')
        return err_set(e, ERR_INVALID, "%s: the image name is empty", bad);
    if (strlen(text) > PARSE_IMAGE_BYTES_MAX)
        return err_set(e, ERR_INVALID, "%s: longer than %d bytes", bad, PARSE_IMAGE_BYTES_MAX);
    if (!registry_valid(text, registry))
        return err_set(e, ERR_INVALID, "%s: \"%.80s\" has a bad registry name", bad, text);
    for (;;) {
        const char *end = path_component(p);

        if (end == NULL && strpbrk(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != NULL)
            return err_set(e, ERR_INVALID, "%s: repository name (%.80s) must be lowercase", bad,
                           text);
        if (end == NULL)
            return err_set(e, ERR_INVALID, "%s: \"%.80s\"", bad, text);
        p = end;
        if (*p != '/')
            break;
        p++;
    }
    if (*p == ':') {
        tag = strcspn(p + 1, "@");
        if (!tag_valid(p + 1, tag))
            return err_set(e, ERR_INVALID, "%s: \"%.80s\" has a bad tag", bad, text);
        p += 1 + tag;
    }
    if (*p == '@' && !digest_valid(p + 1))
        return err_set(e, ERR_INVALID, "%s: \"%.80s\" has a bad digest; write @sha256:<64 digits>",
                       bad, text);
    if (*p != '\0' && *p != '@')
        return err_set(e, ERR_INVALID, "%s: \"%.80s\"", bad, text);
    *ret = tag > 0 || *p == '@' ? arena_strdup(a, text) : arena_printf(a, "%s:latest", text);
    return 0;
}

const char *image_familiar(struct arena *a, const char *image)
{
    static const char *const prefixes[] = { "docker.io/library/", "docker.io/",
                                            "index.docker.io/library/", "library/" };
    char *copy;

    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        if (strncmp(image, prefixes[i], strlen(prefixes[i])) == 0) {
            image += strlen(prefixes[i]);
            break;
        }
    }
    copy = arena_strdup(a, image);
    /* name:tag@digest is shown without the digest, name@digest with it */
    if (strchr(copy, '@') != NULL) {
        char *at = strchr(copy, '@');
        const char *slash = strrchr(copy, '/');
        const char *colon = strchr(slash != NULL ? slash : copy, ':');

        if (colon != NULL && colon < at)
            *at = '\0';
    }
    return copy;
}

const char *image_registry(struct arena *a, const char *image)
{
    size_t size = registry_size(image);
    char *name;

    if (size == 0)
        return "docker.io";
    name = arena_strdup(a, image);
    name[size] = '\0';
    return name;
}

/* ---- placement ---- */

static char *trimmed(struct arena *a, const char *start, size_t size)
{
    char *copy;

    while (size > 0 && isspace((unsigned char)*start)) {
        start++;
        size--;
    }
    while (size > 0 && isspace((unsigned char)start[size - 1]))
        size--;
    copy = arena_alloc(a, size + 1);
    memcpy(copy, start, size);
    return copy;
}

static bool constraint_key_valid(const char *key)
{
    if ((!isalpha((unsigned char)key[0]) && key[0] != '_') || key[1] == '\0')
        return false;
    for (const char *p = key; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && strchr("-_.", *p) == NULL)
            return false;
    }
    return true;
}

static bool constraint_value_valid(const char *value)
{
    for (const char *p = value; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && strchr(":-_. *()?+[]\\^$|/", *p) == NULL)
            return false;
    }
    return value[0] != '\0';
}

int parse_constraint(struct arena *a, const char *text, Skep__Constraint **ret, struct err *e)
{
    const char *op = strstr(text, "==");
    Skep__Constraint *c = ARENA_NEW(a, Skep__Constraint);

    skep__constraint__init(c);
    if (op == NULL) {
        op = strstr(text, "!=");
        c->not_equal = 1;
    }
    if (op == NULL)
        return err_set(e, ERR_INVALID,
                       "constraint \"%.80s\" expected one operator from ==, !=; for example "
                       "node.labels.zone==east",
                       text);
    c->key = trimmed(a, text, (size_t)(op - text));
    c->value = trimmed(a, op + 2, strlen(op + 2));
    if (!constraint_key_valid(c->key))
        return err_set(e, ERR_INVALID, "constraint \"%.80s\": key '%.60s' is invalid", text,
                       c->key);
    if (!constraint_value_valid(c->value))
        return err_set(e, ERR_INVALID, "constraint \"%.80s\": value '%.60s' is invalid", text,
                       c->value);
    *ret = c;
    return 0;
}

const char *constraint_text(struct arena *a, const Skep__Constraint *c)
{
    return arena_printf(a, "%s%s%s", c->key, c->not_equal ? "!=" : "==", c->value);
}

int parse_preference(struct arena *a, const char *text, Skep__SpreadPreference **ret, struct err *e)
{
    const char *equals = strchr(text, '=');

    if (equals == NULL)
        return err_set(e, ERR_INVALID, "\"%.80s\": write spread=node.labels.NAME", text);
    if (strncmp(text, "spread=", 7) != 0)
        return err_set(e, ERR_INVALID,
                       "unsupported placement preference (only spread is supported): \"%.80s\"",
                       text);
    if (strncmp(equals + 1, "node.labels.", 12) != 0 &&
        strncmp(equals + 1, "engine.labels.", 14) != 0)
        return err_set(e, ERR_INVALID,
                       "\"%.80s\": spread is over node.labels.NAME or engine.labels.NAME", text);
    *ret = ARENA_NEW(a, Skep__SpreadPreference);
    skep__spread_preference__init(*ret);
    (*ret)->descriptor = arena_strdup(a, equals + 1);
    return 0;
}

/* ---- the rest ---- */

bool parse_is_ip(const char *text)
{
    struct in6_addr address;

    return inet_pton(AF_INET, text, &address) == 1 || inet_pton(AF_INET6, text, &address) == 1;
}

int parse_host(struct arena *a, const char *text, const char **ret, struct err *e)
{
    const char *between = text + strcspn(text, ":=");
    char *name;

    if (*between == '\0' || between == text || between[1] == '\0')
        return err_set(e, ERR_INVALID, "bad format for add-host: \"%.80s\"; write NAME:IP", text);
    if (!parse_is_ip(between + 1) && strcmp(between + 1, "host-gateway") != 0)
        return err_set(e, ERR_INVALID, "invalid IP address in add-host: \"%.80s\"", between + 1);
    name = arena_strdup(a, text);
    name[between - text] = '\0';
    *ret = arena_printf(a, "%s %s", between + 1, name);
    return 0;
}

int parse_ulimit(struct arena *a, const char *text, const char **ret, struct err *e)
{
    static const char *const names[] = { "core",    "cpu",      "data",   "fsize",      "locks",
                                         "memlock", "msgqueue", "nice",   "nofile",     "nproc",
                                         "rss",     "rtprio",   "rttime", "sigpending", "stack" };
    const char *equals = strchr(text, '=');
    size_t size = equals != NULL ? (size_t)(equals - text) : 0;
    const char *colon;
    int64_t soft;
    int64_t hard;
    bool known = false;

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        known |= strlen(names[i]) == size && strncmp(names[i], text, size) == 0;
    if (equals == NULL)
        return err_set(e, ERR_INVALID, "invalid ulimit argument: %.80s; write nofile=1024:2048",
                       text);
    if (!known)
        return err_set(e, ERR_INVALID, "invalid ulimit type: %.*s", (int)MIN(size, 40), text);
    colon = strchr(equals, ':');
    if (text_parse_i64(trimmed(a, equals + 1, strcspn(equals + 1, ":")), &soft, NULL) < 0 ||
        (colon != NULL && text_parse_i64(colon + 1, &hard, NULL) < 0))
        return err_set(e, ERR_INVALID, "invalid ulimit argument: %.80s; write nofile=1024:2048",
                       text);
    if (colon == NULL)
        hard = soft;
    if (soft < -1 || hard < -1 || (hard != -1 && (soft == -1 || soft > hard)))
        return err_set(e, ERR_INVALID,
                       "ulimit soft limit must be less than or equal to hard limit: %.80s", text);
    *ret = arena_printf(a, "%.*s=%lld:%lld", (int)size, text, (long long)soft, (long long)hard);
    return 0;
}

int parse_capability(struct arena *a, const char *text, const char **ret, struct err *e)
{
    char *upper = trimmed(a, text, strlen(text));

    for (char *p = upper; *p != '\0'; p++) {
        if (!isalpha((unsigned char)*p) && *p != '_')
            return err_set(e, ERR_INVALID, "invalid capability \"%.60s\"; write NET_ADMIN or ALL",
                           text);
        *p = (char)toupper((unsigned char)*p);
    }
    if (upper[0] == '\0')
        return err_set(e, ERR_INVALID, "a capability is empty");
    if (strcmp(upper, "ALL") == 0 || strcmp(upper, "RESET") == 0 || strncmp(upper, "CAP_", 4) == 0)
        *ret = upper;
    else
        *ret = arena_printf(a, "CAP_%s", upper);
    return 0;
}

int parse_service_name(const char *text, struct err *e)
{
    size_t size = strlen(text);
    bool good =
        size > 0 && isalnum((unsigned char)text[0]) && isalnum((unsigned char)text[size - 1]);

    for (const char *p = text; *p != '\0'; p++)
        good &= isalnum((unsigned char)*p) || *p == '-' || *p == '_';
    if (!good)
        return err_set(e, ERR_INVALID,
                       "invalid service name \"%.80s\": use letters, digits, '-' and '_', with a "
                       "letter or digit at both ends",
                       text);
    if (size > 63)
        return err_set(e, ERR_INVALID, "service name \"%.80s\" is longer than 63 characters", text);
    return 0;
}
