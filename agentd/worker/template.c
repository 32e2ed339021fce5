#include "agentd/worker/template.h"

#include <stdbool.h>
#include <string.h>

/* A piece of an action: a field, a word or a literal; text is not terminated for fields. */
struct token {
    enum { TOKEN_END, TOKEN_FIELD, TOKEN_WORD, TOKEN_LITERAL } type;
    const char *text;
    size_t size;
};

struct action { /* between {{ and }}, trim markers removed */
    const char *at, *end;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_name(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static int bad_action(const struct action *a, struct err *e)
{
    int size = (int)MIN((size_t)(a->end - a->at), (size_t)60);

    return err_set(e, ERR_INVALID, "template: cannot evaluate '%.*s'", size, a->at);
}

/* Reads one token; the contents of literals are taken without escapes but \" and \\ are refused
 * together with every other backslash. */
static int token_next(struct action *a, struct token *ret)
{
    const char *start;

    while (a->at < a->end && is_space(*a->at))
        a->at++;
    start = a->at;
    if (start == a->end) {
        *ret = (struct token){ TOKEN_END, start, 0 };
        return 0;
    }
    if (*start == '"' || *start == '`') {
        const char *close = memchr(start + 1, *start, (size_t)(a->end - start - 1));

        if (close == NULL ||
            (*start == '"' && memchr(start, '\\', (size_t)(close - start)) != NULL))
            return -ERR_INVALID;
        a->at = close + 1;
        *ret = (struct token){ TOKEN_LITERAL, start + 1, (size_t)(close - start - 1) };
        return 0;
    }
    while (a->at < a->end && (is_name(*a->at) || *a->at == '.'))
        a->at++;
    if (a->at == start)
        return -ERR_INVALID;
    *ret =
        (struct token){ *start == '.' ? TOKEN_FIELD : TOKEN_WORD, start, (size_t)(a->at - start) };
    return 0;
}

static bool token_is(const struct token *t, const char *text)
{
    return t->size == strlen(text) && memcmp(t->text, text, t->size) == 0;
}

static const char *label_value(const struct template_context *t, const char *key, size_t size)
{
    for (size_t i = 0; i < t->service_label_count; i++) {
        const Skep__KeyValue *l = t->service_labels[i];

        if (strlen(l->key) == size && memcmp(l->key, key, size) == 0)
            return l->value;
    }
    return NULL;
}

/* The value of a field, NULL when there is no such field or label. */
static const char *field_value(const struct template_context *t, const struct token *f)
{
    static const char labels[] = ".Service.Labels.";
    const struct {
        const char *name, *value;
    } fields[] = {
        { ".Service.ID", t->service_id },
        { ".Service.Name", t->service_name },
        { ".Node.ID", t->node_id },
        { ".Node.Hostname", t->node_hostname },
        { ".Node.Platform.Architecture", t->node_architecture },
        { ".Node.Platform.OS", t->node_os },
        { ".Task.ID", t->task_id },
        { ".Task.Name", t->task_name },
        { ".Task.Slot", t->task_slot },
    };

    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        if (token_is(f, fields[i].name))
            return fields[i].value;
    if (f->size > sizeof(labels) - 1 && memcmp(f->text, labels, sizeof(labels) - 1) == 0)
        return label_value(t, f->text + sizeof(labels) - 1, f->size - (sizeof(labels) - 1));
    return NULL;
}

/* A field's or literal's text as an operand of join. */
static bool operand(const struct template_context *t, struct token *o)
{
    if (o->type == TOKEN_FIELD) {
        o->text = field_value(t, o);
        o->size = o->text == NULL ? 0 : strlen(o->text);
    }
    return o->text != NULL && o->type != TOKEN_WORD && o->type != TOKEN_END;
}

static int run_join(struct action *a, const struct template_context *t, struct buf *ret)
{
    struct token separator, o;
    int rc = token_next(a, &separator);

    if (rc < 0 || !operand(t, &separator))
        return -ERR_INVALID;
    for (unsigned i = 0; i < TEMPLATE_ARGS_MAX; i++) {
        rc = token_next(a, &o);
        if (rc < 0)
            return rc;
        if (o.type == TOKEN_END)
            return 0;
        if (!operand(t, &o))
            return -ERR_INVALID;
        if (i > 0)
            rc = buf_append(ret, separator.text, separator.size);
        if (rc == 0)
            rc = buf_append(ret, o.text, o.size);
        if (rc < 0)
            return rc;
    }
    return -ERR_TOO_BIG;
}

static int run_index(struct action *a, const struct template_context *t, struct buf *ret)
{
    struct token map, key, end;
    const char *value;

    if (token_next(a, &map) < 0 || token_next(a, &key) < 0 || token_next(a, &end) < 0 ||
        !token_is(&map, ".Service.Labels") || key.type != TOKEN_LITERAL || end.type != TOKEN_END)
        return -ERR_INVALID;
    value = label_value(t, key.text, key.size);
    return value == NULL ? -ERR_INVALID : buf_append_str(ret, value);
}

static int run_action(struct action a, const struct template_context *t, struct buf *ret,
                      struct err *e)
{
    struct action whole = a;
    struct token first, end;
    int rc = token_next(&a, &first);

    if (rc == 0 && first.type == TOKEN_WORD && token_is(&first, "join"))
        rc = run_join(&a, t, ret);
    else if (rc == 0 && first.type == TOKEN_WORD && token_is(&first, "index"))
        rc = run_index(&a, t, ret);
    else if (rc < 0 || !operand(t, &first) || token_next(&a, &end) < 0 || end.type != TOKEN_END)
        rc = -ERR_INVALID;
    else
        rc = buf_append(ret, first.text, first.size);
    if (rc == -ERR_TOO_BIG)
        return err_set(e, ERR_TOO_BIG, "template: the result is too long");
    return rc < 0 ? bad_action(&whole, e) : 0;
}

/* "{{-" eats the white space before, "-}}" that after the action. */
static const char *trim(struct action *a, struct buf *ret, const char *rest)
{
    if (a->end - a->at >= 2 && a->at[0] == '-' && is_space(a->at[1])) {
        a->at++;
        while (ret->size > 0 && is_space((char)ret->data[ret->size - 1]))
            ret->data[--ret->size] = '\0';
    }
    if (a->end - a->at >= 2 && a->end[-1] == '-' && is_space(a->end[-2])) {
        a->end--;
        while (is_space(*rest))
            rest++;
    }
    return rest;
}

int template_expand(const char *text, const struct template_context *t, struct buf *ret,
                    struct err *e)
{
    int rc;

    buf_clear(ret);
    for (;;) {
        const char *open = strstr(text, "{{");
        struct action a;
        const char *close;

        if (buf_append(ret, text, open == NULL ? strlen(text) : (size_t)(open - text)) < 0)
            return err_set(e, ERR_TOO_BIG, "template: the result is too long");
        if (open == NULL)
            return 0;
        close = strstr(open + 2, "}}");
        if (close == NULL)
            return err_set(e, ERR_INVALID, "template: '{{' without '}}'");
        a = (struct action){ open + 2, close };
        text = trim(&a, ret, close + 2);
        rc = run_action(a, t, ret, e);
        if (rc < 0)
            return rc;
    }
}
