#include "agentd/docker/json.h"

#include "agentd/worker/text.h"

/* Deepest nesting of arrays and objects outside of strings, or over the limit as soon as it is. */
static bool depth_allowed(const char *text, size_t size)
{
    unsigned depth = 0;
    bool quoted = false;

    for (size_t i = 0; i < size; i++) {
        char c = text[i];

        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
            continue;
        }
        if (c == '"')
            quoted = true;
        else if (c == '{' || c == '[') {
            if (++depth > DOCKER_JSON_DEPTH_MAX)
                return false;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

json_t *docker_json_parse(const char *text, size_t size, struct err *e)
{
    json_error_t why;
    json_t *o;

    if (!depth_allowed(text, size)) {
        (void)err_set(e, ERR_PROTO, "JSON nested deeper than %d", DOCKER_JSON_DEPTH_MAX);
        return NULL;
    }
    o = json_loadb(text, size, JSON_DECODE_ANY, &why);
    if (o == NULL)
        (void)err_set(e, ERR_PROTO, "bad JSON at byte %d: %s", why.position, why.text);
    return o;
}

const json_t *docker_json_get(const json_t *o, const char *key)
{
    return json_object_get(o, key);
}

const char *docker_json_str(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s == NULL ? "" : s;
}

int64_t docker_json_int(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

bool docker_json_bool(const json_t *o, const char *key)
{
    return json_is_true(json_object_get(o, key));
}

int docker_json_error(const char *body, size_t size, unsigned status, enum err_code code,
                      struct err *e)
{
    json_t *o = NULL;
    const char *text;

    if (size > 0 && body[0] == '{')
        o = docker_json_parse(body, size, NULL);
    text = docker_json_str(o, "message");
    if (text[0] != '\0')
        (void)err_set(e, code, "%s", text);
    else
        (void)err_set(e, code, "engine answered HTTP %u", status);
    json_decref(o);
    if (e != NULL)
        text_cut(e->message);
    return -(int)code;
}

/* Days since 1970-01-01 in the Gregorian calendar; month 1…12. */
static int64_t days_from_civil(int64_t y, unsigned m, unsigned d)
{
    int64_t era;
    unsigned year_of_era, day_of_year;

    y -= m <= 2;
    era = y / 400; /* callers give years after 1970 */
    year_of_era = (unsigned)(y - era * 400);
    day_of_year = (153 * (m + (m > 2 ? -3u : 9u)) + 2) / 5 + d - 1;
    return era * 146097 +
           (int64_t)(year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year) -
           719468;
}

/* Reads exactly count digits at *at. */
static bool digits(const char **at, const char *end, unsigned count, unsigned *ret)
{
    unsigned v = 0;

    if ((size_t)(end - *at) < count)
        return false;
    for (unsigned i = 0; i < count; i++) {
        char c = (*at)[i];

        if (c < '0' || c > '9')
            return false;
        v = v * 10 + (unsigned)(c - '0');
    }
    *at += count;
    *ret = v;
    return true;
}

static bool literal(const char **at, const char *end, char c)
{
    if (*at == end || **at != c)
        return false;
    (*at)++;
    return true;
}

/* "Z" or "+hh:mm"; the offset in seconds to subtract. */
static bool zone(const char **at, const char *end, int64_t *ret_seconds)
{
    unsigned h, m;
    int64_t sign;

    if (literal(at, end, 'Z')) {
        *ret_seconds = 0;
        return true;
    }
    if (*at == end || (**at != '+' && **at != '-'))
        return false;
    sign = **at == '+' ? 1 : -1;
    (*at)++;
    if (!digits(at, end, 2, &h) || !literal(at, end, ':') || !digits(at, end, 2, &m) || h > 23 ||
        m > 59)
        return false;
    *ret_seconds = sign * (int64_t)(h * 3600 + m * 60);
    return true;
}

int docker_time_parse(const char *text, size_t size, int64_t *ret_ns)
{
    const char *at = text, *end = text + size;
    unsigned y, mo, d, h, mi, s, fraction = 0, scale = 1000000000;
    int64_t offset;

    if (!digits(&at, end, 4, &y) || !literal(&at, end, '-') || !digits(&at, end, 2, &mo) ||
        !literal(&at, end, '-') || !digits(&at, end, 2, &d) || !literal(&at, end, 'T') ||
        !digits(&at, end, 2, &h) || !literal(&at, end, ':') || !digits(&at, end, 2, &mi) ||
        !literal(&at, end, ':') || !digits(&at, end, 2, &s))
        return -ERR_PROTO;
    if (y < 1970 || y > 2261 || mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 || s > 60)
        return -ERR_PROTO;
    if (literal(&at, end, '.')) {
        unsigned digit;

        if (!digits(&at, end, 1, &digit))
            return -ERR_PROTO;
        do {
            if (scale == 1)
                return -ERR_PROTO;
            scale /= 10;
            fraction += digit * scale;
        } while (digits(&at, end, 1, &digit));
    }
    if (!zone(&at, end, &offset) || at != end)
        return -ERR_PROTO;
    *ret_ns =
        ((days_from_civil(y, mo, d) * 86400 + h * 3600 + mi * 60 + s) - offset) * 1000000000LL +
        fraction;
    return 0;
}
