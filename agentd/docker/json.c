#include "agentd/docker/json.h"

#include "agentd/worker/plain.h"

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
        plain_cut(e->message);
    return -(int)code;
}
