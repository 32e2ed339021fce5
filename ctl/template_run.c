/* Runs a parsed template over a JSON value. */
#include <ctype.h>
#include <string.h>

#include "common/assert.h"
#include "common/text.h"
#include "ctl/template.h"

struct variable {
    const char *name;
    json_t *value; /* owned */
};

struct run {
    FILE *out;
    struct err *e;
    bool strict;
    struct variable vars[TEMPLATE_VARS_MAX];
    size_t var_count;
};

/* Values are owned references; NULL is "no value" (a field that is not there). */

static int fail(struct run *r, const char *what)
{
    return err_set(r->e, ERR_INVALID, "template error: %s", what);
}

static bool truth(const json_t *v)
{
    if (v == NULL)
        return false;
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return json_object_size(v) > 0;
    case JSON_ARRAY:
        return json_array_size(v) > 0;
    case JSON_STRING:
        return json_string_length(v) > 0;
    case JSON_INTEGER:
        return json_integer_value(v) != 0;
    case JSON_REAL:
        return json_real_value(v) != 0.0;
    case JSON_TRUE:
        return true;
    case JSON_FALSE:
    case JSON_NULL:
        return false;
    }
    return false;
}

/* ---- printing ---- */

static void print_value(FILE *out, const json_t *v);

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Go prints a map as map[a:1 b:2], in the order of its keys. */
static void print_object(FILE *out, const json_t *v)
{
    size_t count = 0;
    const char **keys = xmalloc((json_object_size(v) + 1) * sizeof(*keys));
    const char *key;
    json_t *item;

    json_object_foreach((json_t *)(uintptr_t)v, key, item) keys[count++] = key;
    qsort(keys, count, sizeof(*keys), compare_keys);
    (void)fputs("map[", out);
    for (size_t i = 0; i < count; i++) {
        (void)fprintf(out, "%s%s:", i > 0 ? " " : "", keys[i]);
        print_value(out, json_object_get(v, keys[i]));
    }
    (void)fputc(']', out);
    free(keys);
}

static void print_value(FILE *out, const json_t *v)
{
    if (v == NULL) {
        (void)fputs("<no value>", out);
        return;
    }
    switch (json_typeof(v)) {
    case JSON_STRING:
        (void)fwrite(json_string_value(v), 1, json_string_length(v), out);
        break;
    case JSON_INTEGER:
        (void)fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        break;
    case JSON_REAL:
        (void)fprintf(out, "%g", json_real_value(v));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        (void)fputs(json_is_true(v) ? "true" : "false", out);
        break;
    case JSON_NULL:
        (void)fputs("<nil>", out);
        break;
    case JSON_ARRAY:
        (void)fputc('[', out);
        for (size_t i = 0; i < json_array_size(v); i++) {
            (void)fputs(i > 0 ? " " : "", out);
            print_value(out, json_array_get(v, i));
        }
        (void)fputc(']', out);
        break;
    case JSON_OBJECT:
        print_object(out, v);
        break;
    }
}

/* The text of a value as print_value writes it; malloc'd. */
static char *value_text(const json_t *v)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    ASSERT(out != NULL);
    print_value(out, v);
    ASSERT(fclose(out) == 0);
    return text;
}

static json_t *string_take(char *text)
{
    json_t *v = json_string(text);

    free(text);
    return v;
}

/* ---- functions ---- */

struct args {
    json_t *at[TEMPLATE_ARGS_MAX + 1];
    size_t count;
};

typedef int function(struct run *r, const struct args *a, json_t **ret);

static const char *arg_string(const struct args *a, size_t i)
{
    return i < a->count && json_is_string(a->at[i]) ? json_string_value(a->at[i]) : "";
}

static json_int_t arg_integer(const struct args *a, size_t i)
{
    return i < a->count ? json_integer_value(a->at[i]) : 0;
}

/* Keys that begin with '_' are for us, not for people. */
static json_t *without_private(const json_t *v)
{
    json_t *copy = json_deep_copy(v);
    const char *key;
    json_t *item;
    void *next;

    if (!json_is_object(copy))
        return copy;
    json_object_foreach_safe(copy, next, key, item)
    {
        if (key[0] == '_')
            (void)json_object_del(copy, key);
    }
    return copy;
}

static int fn_json(struct run *r, const struct args *a, json_t **ret)
{
    size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6);
    json_t *clean = a->count > 0 && a->at[0] != NULL ? without_private(a->at[0]) : json_null();
    char *text;

    /* a list's row is a map for Go, printed in the order of its keys; an object keeps its order */
    text = json_dumps(clean, flags | (r->strict ? JSON_SORT_KEYS : 0));
    json_decref(clean);
    *ret = text != NULL ? string_take(text) : NULL;
    return text != NULL ? 0 : fail(r, "json: value cannot be encoded");
}

static int fn_split(struct run *r, const struct args *a, json_t **ret)
{
    const char *text = arg_string(a, 0);
    const char *by = arg_string(a, 1);
    const char *end;

    if (by[0] == '\0')
        return fail(r, "split needs a string and a separator");
    *ret = json_array();
    while ((end = strstr(text, by)) != NULL) {
        (void)json_array_append_new(*ret, json_stringn(text, (size_t)(end - text)));
        text = end + strlen(by);
    }
    (void)json_array_append_new(*ret, json_string(text));
    return 0;
}

static int fn_join(struct run *r, const struct args *a, json_t **ret)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out;

    if (a->count < 1 || !json_is_array(a->at[0]))
        return fail(r, "join needs a list and a separator");
    out = open_memstream(&text, &size);
    ASSERT(out != NULL);
    for (size_t i = 0; i < json_array_size(a->at[0]); i++) {
        (void)fputs(i > 0 ? arg_string(a, 1) : "", out);
        print_value(out, json_array_get(a->at[0], i));
    }
    ASSERT(fclose(out) == 0);
    *ret = string_take(text);
    return 0;
}

static json_t *change_case(const struct args *a, int (*change)(int), bool words)
{
    char *text = a->count > 0 ? value_text(a->at[0]) : xstrdup("");
    bool start = true;

    for (char *p = text; *p != '\0'; p++) {
        if (!words || start)
            *p = (char)change((unsigned char)*p);
        start = isspace((unsigned char)*p);
    }
    return string_take(text);
}

static int fn_lower(struct run *r, const struct args *a, json_t **ret)
{
    (void)r;
    *ret = change_case(a, tolower, false);
    return 0;
}

static int fn_upper(struct run *r, const struct args *a, json_t **ret)
{
    (void)r;
    *ret = change_case(a, toupper, false);
    return 0;
}

static int fn_title(struct run *r, const struct args *a, json_t **ret)
{
    (void)r;
    *ret = change_case(a, toupper, true);
    return 0;
}

enum { PAD_MAX = 4096 };

/* pad TEXT BEFORE AFTER: blanks around a text that is not empty. */
static int fn_pad(struct run *r, const struct args *a, json_t **ret)
{
    const char *text = arg_string(a, 0);
    json_int_t before = arg_integer(a, 1);
    json_int_t after = arg_integer(a, 2);

    if (before < 0 || after < 0 || before > PAD_MAX || after > PAD_MAX)
        return fail(r, "pad: width out of range");
    *ret = text[0] == '\0'
               ? json_string("")
               : string_take(xasprintf("%*s%s%*s", (int)before, "", text, (int)after, ""));
    return 0;
}

static int fn_truncate(struct run *r, const struct args *a, json_t **ret)
{
    const char *text = arg_string(a, 0);
    json_int_t width = arg_integer(a, 1);

    if (width < 0)
        return fail(r, "truncate: negative length");
    *ret = json_stringn(text, text_prefix(text, (size_t)width));
    return 0;
}

static json_t *print_args(const struct args *a, const char *between, const char *end)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    ASSERT(out != NULL);
    for (size_t i = 0; i < a->count; i++) {
        (void)fputs(i > 0 ? between : "", out);
        print_value(out, a->at[i]);
    }
    (void)fputs(end, out);
    ASSERT(fclose(out) == 0);
    return string_take(text);
}

static int fn_print(struct run *r, const struct args *a, json_t **ret)
{
    (void)r;
    *ret = print_args(a, "", "");
    return 0;
}

static int fn_println(struct run *r, const struct args *a, json_t **ret)
{
    (void)r;
    *ret = print_args(a, " ", "\n");
    return 0;
}

/* One % directive of printf: flags and width, then v, s, d or q. Returns behind it. */
static const char *format_one(FILE *out, const char *f, const json_t *v)
{
    bool left = *f == '-';
    int width = 0;
    char *text = value_text(v);
    char *quoted = NULL;

    for (f += left ? 1 : 0; isdigit((unsigned char)*f) && width < PAD_MAX / 10; f++)
        width = width * 10 + (*f - '0');
    if (*f == 'q') {
        quoted = xasprintf("\"%s\"", text);
        free(text);
        text = quoted;
    }
    (void)fprintf(out, left ? "%-*s" : "%*s", width, text);
    free(text);
    return *f != '\0' ? f + 1 : f;
}

static int fn_printf(struct run *r, const struct args *a, json_t **ret)
{
    const char *f = arg_string(a, 0);
    size_t next = 1;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    (void)r;
    ASSERT(out != NULL);
    while (*f != '\0') {
        if (*f != '%') {
            (void)fputc(*f++, out);
        } else if (f[1] == '%') {
            (void)fputc('%', out);
            f += 2;
        } else {
            f = format_one(out, f + 1, next < a->count ? a->at[next] : NULL);
            next++;
        }
    }
    ASSERT(fclose(out) == 0);
    *ret = string_take(text);
    return 0;
}

static int fn_len(struct run *r, const struct args *a, json_t **ret)
{
    const json_t *v = a->count == 1 ? a->at[0] : NULL;

    if (json_is_string(v))
        *ret = json_integer((json_int_t)json_string_length(v));
    else if (json_is_array(v))
        *ret = json_integer((json_int_t)json_array_size(v));
    else if (json_is_object(v))
        *ret = json_integer((json_int_t)json_object_size(v));
    else
        return fail(r, "len of a value that is no string, list or map");
    return 0;
}

static int fn_index(struct run *r, const struct args *a, json_t **ret)
{
    json_t *v = a->count > 0 ? a->at[0] : NULL;

    for (size_t i = 1; i < a->count; i++) {
        if (json_is_object(v)) {
            v = json_object_get(v, arg_string(a, i));
        } else if (json_is_array(v)) {
            if (arg_integer(a, i) < 0 || (size_t)arg_integer(a, i) >= json_array_size(v))
                return fail(r, "index out of range");
            v = json_array_get(v, (size_t)arg_integer(a, i));
        } else {
            return fail(r, "index of a value that is no list or map");
        }
    }
    *ret = json_incref(v);
    return 0;
}

static int fn_and(struct run *r, const struct args *a, json_t **ret)
{
    (void)r;
    for (size_t i = 0; i < a->count; i++) {
        *ret = a->at[i];
        if (!truth(a->at[i]))
            break;
    }
    json_incref(*ret);
    return 0;
}

static int fn_or(struct run *r, const struct args *a, json_t **ret)
{
    (void)r;
    for (size_t i = 0; i < a->count; i++) {
        *ret = a->at[i];
        if (truth(a->at[i]))
            break;
    }
    json_incref(*ret);
    return 0;
}

static int fn_not(struct run *r, const struct args *a, json_t **ret)
{
    (void)r;
    *ret = json_boolean(a->count == 0 || !truth(a->at[0]));
    return 0;
}

static int fn_eq(struct run *r, const struct args *a, json_t **ret)
{
    bool equal = false;

    if (a->count < 2)
        return fail(r, "eq needs two values");
    for (size_t i = 1; i < a->count; i++)
        equal |= json_equal(a->at[0], a->at[i]) == 1 || a->at[0] == a->at[i];
    *ret = json_boolean(equal);
    return 0;
}

static int fn_ne(struct run *r, const struct args *a, json_t **ret)
{
    int rc = fn_eq(r, a, ret);

    if (rc == 0)
        *ret = json_boolean(!json_is_true(*ret));
    return rc;
}

static int compare(struct run *r, const struct args *a, int *ret_order)
{
    if (a->count != 2)
        return fail(r, "a comparison needs two values");
    if (json_is_string(a->at[0]) && json_is_string(a->at[1])) {
        *ret_order = strcmp(json_string_value(a->at[0]), json_string_value(a->at[1]));
        return 0;
    }
    if (json_is_number(a->at[0]) && json_is_number(a->at[1])) {
        double x = json_number_value(a->at[0]);
        double y = json_number_value(a->at[1]);

        *ret_order = x < y ? -1 : x > y;
        return 0;
    }
    return fail(r, "incompatible types for comparison");
}

#define COMPARISON(name, op)                                                                       \
    static int name(struct run *r, const struct args *a, json_t **ret)                             \
    {                                                                                              \
        int order = 0;                                                                             \
        int rc = compare(r, a, &order);                                                            \
        if (rc == 0)                                                                               \
            *ret = json_boolean(order op 0);                                                       \
        return rc;                                                                                 \
    }
COMPARISON(fn_lt, <)
COMPARISON(fn_le, <=)
COMPARISON(fn_gt, >)
COMPARISON(fn_ge, >=)

static const struct {
    const char *name;
    function *fn;
} functions[] = {
    { "and", fn_and },     { "eq", fn_eq },         { "ge", fn_ge },
    { "gt", fn_gt },       { "index", fn_index },   { "join", fn_join },
    { "json", fn_json },   { "le", fn_le },         { "len", fn_len },
    { "lower", fn_lower }, { "lt", fn_lt },         { "ne", fn_ne },
    { "not", fn_not },     { "or", fn_or },         { "pad", fn_pad },
    { "print", fn_print }, { "printf", fn_printf }, { "println", fn_println },
    { "split", fn_split }, { "title", fn_title },   { "truncate", fn_truncate },
    { "upper", fn_upper },
};

/* ---- evaluation ---- */

static int eval_pipeline(struct run *r, const struct pipeline *p, json_t *dot, json_t **ret);

static int no_field(struct run *r, const json_t *v, const char *name)
{
    char have[200] = "";
    size_t used = 0;
    const char *key;
    json_t *item;

    json_object_foreach((json_t *)(uintptr_t)v, key, item)
    {
        if (key[0] != '_' && used + strlen(key) + 3 < sizeof(have))
            used += (size_t)snprintf(have + used, sizeof(have) - used, "%s%s", used > 0 ? ", " : "",
                                     key);
    }
    return err_set(r->e, ERR_INVALID, "template error: can't evaluate field %.60s; fields are: %s",
                   name, have);
}

/* Follows the chain of o from v (taken). */
static int eval_fields(struct run *r, const struct operand *o, json_t *v, json_t **ret)
{
    for (size_t i = 0; i < o->field_count && v != NULL; i++) {
        json_t *next = json_object_get(v, o->fields[i]);

        if (next == NULL && r->strict && json_is_object(v)) {
            int rc = no_field(r, v, o->fields[i]);

            json_decref(v);
            return rc;
        }
        json_incref(next);
        json_decref(v);
        v = next;
    }
    *ret = v;
    return 0;
}

static int eval_operand(struct run *r, const struct operand *o, json_t *dot, json_t **ret)
{
    json_t *v = NULL;
    int rc;

    switch (o->kind) {
    case OPERAND_DOT:
        return eval_fields(r, o, json_incref(dot), ret);
    case OPERAND_VAR:
        for (size_t i = r->var_count; i > 0; i--) {
            if (strcmp(r->vars[i - 1].name, o->text) == 0)
                return eval_fields(r, o, json_incref(r->vars[i - 1].value), ret);
        }
        return err_set(r->e, ERR_INVALID, "template error: undefined variable \"%.60s\"", o->text);
    case OPERAND_CONST:
        *ret = json_loads(o->constant, JSON_DECODE_ANY, NULL);
        return 0;
    case OPERAND_PAREN:
        rc = eval_pipeline(r, o->paren, dot, &v);
        return rc < 0 ? rc : eval_fields(r, o, v, ret);
    case OPERAND_CALL:
        break;
    }
    return fail(r, "a function cannot be an argument without parentheses");
}

static int call(struct run *r, const char *name, const struct args *a, json_t **ret)
{
    for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
        if (strcmp(functions[i].name, name) == 0)
            return functions[i].fn(r, a, ret);
    }
    return err_set(r->e, ERR_INVALID, "template error: function \"%.60s\" not defined", name);
}

/* {{.Label "key"}}: the one method that docker's rows have. */
static bool is_label(const struct command *c)
{
    const struct operand *o = c->args[0];

    return c->count == 2 && o->kind == OPERAND_DOT && o->field_count == 1 &&
           strcmp(o->fields[0], "Label") == 0;
}

/* c with the value that came through the pipe (taken; NULL and !piped when there is none). */
static int eval_command(struct run *r, const struct command *c, json_t *dot, struct args *a,
                        json_t **ret)
{
    bool label = is_label(c);
    bool is_call = c->args[0]->kind == OPERAND_CALL;
    json_t *piped = a->count > 0 ? a->at[0] : NULL;
    bool has_piped = a->count > 0;
    int rc = 0;

    *a = (struct args){ 0 };
    for (size_t i = is_call || label ? 1 : 0; i < c->count && rc == 0; i++) {
        rc = eval_operand(r, c->args[i], dot, &a->at[a->count]);
        a->count += rc == 0 ? 1 : 0;
    }
    if (has_piped)
        a->at[a->count++] = piped;
    if (rc == 0 && label)
        *ret = json_incref(json_object_get(json_object_get(dot, "_labels"), arg_string(a, 0)));
    else if (rc == 0 && is_call)
        rc = call(r, c->args[0]->text, a, ret);
    else if (rc == 0 && a->count != 1)
        rc = fail(r, "can't give argument to non-function");
    else if (rc == 0)
        *ret = json_incref(a->at[0]);
    if (rc == 0 && label && *ret == NULL)
        *ret = json_string("");
    for (size_t i = 0; i < a->count; i++)
        json_decref(a->at[i]);
    return rc;
}

static void set_variable(struct run *r, const char *name, json_t *value)
{
    if (r->var_count == TEMPLATE_VARS_MAX)
        return;
    r->vars[r->var_count++] = (struct variable){ name, json_incref(value) };
}

static void drop_variables(struct run *r, size_t count)
{
    while (r->var_count > count)
        json_decref(r->vars[--r->var_count].value);
}

static int eval_pipeline(struct run *r, const struct pipeline *p, json_t *dot, json_t **ret)
{
    struct args a = { 0 };
    json_t *v = NULL;

    for (const struct command *c = p->commands; c != NULL; c = c->next) {
        json_t *result = NULL;
        int rc = eval_command(r, c, dot, &a, &result);

        if (rc < 0)
            return rc;
        v = result;
        a = (struct args){ .at = { v }, .count = 1 };
    }
    *ret = v;
    return 0;
}

/* "$x := v" and "$x = v". */
static void assign(struct run *r, const struct pipeline *p, json_t *v)
{
    for (size_t i = r->var_count; p->assign && i > 0; i--) {
        if (strcmp(r->vars[i - 1].name, p->vars[0]) == 0) {
            json_decref(r->vars[i - 1].value);
            r->vars[i - 1].value = json_incref(v);
            return;
        }
    }
    set_variable(r, p->vars[0], v);
}

static int run_nodes(struct run *r, const struct node *n, json_t *dot);

static int run_one(struct run *r, const struct node *n, json_t *key, json_t *value)
{
    const struct pipeline *p = n->pipeline;
    size_t vars = r->var_count;
    int rc;

    if (p->vars[1] != NULL) {
        set_variable(r, p->vars[0], key);
        set_variable(r, p->vars[1], value);
    } else if (p->vars[0] != NULL) {
        set_variable(r, p->vars[0], value);
    }
    rc = run_nodes(r, n->body, value);
    drop_variables(r, vars);
    return rc;
}

static int run_range(struct run *r, const struct node *n, json_t *v)
{
    json_t *keys = json_array();
    json_t *key_value;
    const char *key;
    json_t *item;
    size_t i;
    int rc = 0;

    if (json_is_object(v)) {
        const char **names = xmalloc((json_object_size(v) + 1) * sizeof(*names));
        size_t count = 0;

        json_object_foreach(v, key, item) names[count++] = key;
        qsort(names, count, sizeof(*names), compare_keys);
        for (i = 0; i < count; i++)
            (void)json_array_append_new(keys, json_string(names[i]));
        free(names);
    } else {
        for (i = 0; i < json_array_size(v); i++)
            (void)json_array_append_new(keys, json_integer((json_int_t)i));
    }
    json_array_foreach(keys, i, key_value)
    {
        item = json_is_object(v) ? json_object_get(v, json_string_value(key_value))
                                 : json_array_get(v, i);
        rc = run_one(r, n, key_value, item);
        if (rc < 0)
            break;
    }
    json_decref(keys);
    return rc;
}

static int run_block(struct run *r, const struct node *n, json_t *dot)
{
    size_t vars = r->var_count;
    json_t *v = NULL;
    bool range = n->kind == NODE_RANGE;
    int rc = eval_pipeline(r, n->pipeline, dot, &v);

    if (rc < 0)
        return rc;
    if (!range && n->pipeline->vars[0] != NULL)
        assign(r, n->pipeline, v);
    if (!truth(v))
        rc = run_nodes(r, n->other, dot);
    else if (!range)
        rc = run_nodes(r, n->body, n->kind == NODE_WITH ? v : dot);
    else if (json_is_object(v) || json_is_array(v))
        rc = run_range(r, n, v);
    else
        rc = fail(r, "range can't iterate over this value");
    json_decref(v);
    drop_variables(r, vars);
    return rc;
}

static int run_nodes(struct run *r, const struct node *n, json_t *dot)
{
    for (; n != NULL; n = n->next) {
        json_t *v = NULL;
        int rc = 0;

        if (n->kind == NODE_TEXT) {
            (void)fputs(n->text, r->out);
            continue;
        }
        if (n->kind != NODE_ACTION) {
            rc = run_block(r, n, dot);
            if (rc < 0)
                return rc;
            continue;
        }
        rc = eval_pipeline(r, n->pipeline, dot, &v);
        if (rc < 0)
            return rc;
        if (n->pipeline->vars[0] != NULL)
            assign(r, n->pipeline, v);
        else
            print_value(r->out, v);
        json_decref(v);
    }
    return 0;
}

int template_run(const struct template *t, json_t *data, bool strict, FILE *out, struct err *e)
{
    struct run r = { .out = out, .e = e, .strict = strict };
    int rc;

    set_variable(&r, "$", data);
    rc = run_nodes(&r, t->first, data);
    drop_variables(&r, 0);
    return rc;
}
