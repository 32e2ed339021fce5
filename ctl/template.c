/* Parser of templates: text and {{actions}} into a tree in the caller's arena. */
#include "ctl/template.h"

#include <ctype.h>
#include <string.h>

struct parser {
    struct arena *arena;
    const char *at;
    const char *end;  /* of the action that is being read */
    const char *next; /* behind the {{else}} that was read last */
    int depth;
    struct err *e;
};

static int fail(struct parser *p, const char *what)
{
    return err_set(p->e, ERR_INVALID, "template parsing error: %s", what);
}

static void skip_blank(struct parser *p)
{
    while (p->at < p->end && isspace((unsigned char)*p->at))
        p->at++;
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static const char *read_word(struct parser *p)
{
    const char *start = p->at;
    char *word;

    while (p->at < p->end && is_word(*p->at))
        p->at++;
    word = arena_dup(p->arena, start, (size_t)(p->at - start) + 1);
    word[p->at - start] = '\0';
    return word;
}

/* ---- operands ---- */

static int read_fields(struct parser *p, struct operand *o)
{
    while (p->at < p->end && *p->at == '.') {
        const char **fields;

        p->at++;
        if (p->at == p->end || !is_word(*p->at))
            return fail(p, "a field name is missing after '.'");
        if (o->field_count == TEMPLATE_DEPTH_MAX)
            return fail(p, "too many fields in a chain");
        fields = arena_array(p->arena, o->field_count + 1, sizeof(*fields));
        for (size_t i = 0; i < o->field_count; i++)
            fields[i] = o->fields[i];
        fields[o->field_count++] = read_word(p);
        o->fields = fields;
    }
    return 0;
}

static char unescape(char c)
{
    return c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
}

/* "…" with escapes or `…` without; kept as a JSON string. */
static int read_string(struct parser *p, struct operand *o)
{
    char quote = *p->at++;
    char *text = arena_alloc(p->arena, (size_t)(p->end - p->at) + 1);
    size_t size = 0;
    json_t *value;
    char *dump;

    while (p->at < p->end && *p->at != quote) {
        if (*p->at == '\\' && quote != '`' && p->at + 1 < p->end) {
            p->at++;
            text[size++] = unescape(*p->at++);
        } else {
            text[size++] = *p->at++;
        }
    }
    if (p->at == p->end)
        return fail(p, "unterminated quoted string");
    p->at++;
    value = json_stringn(text, size);
    dump = value != NULL ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
    json_decref(value);
    if (dump == NULL)
        return fail(p, "a string is not UTF-8");
    o->kind = OPERAND_CONST;
    o->constant = arena_strdup(p->arena, dump);
    free(dump);
    return 0;
}

static int read_number(struct parser *p, struct operand *o)
{
    const char *start = p->at;
    char *text;
    json_t *value;

    while (p->at < p->end && (is_word(*p->at) || strchr("+-.", *p->at) != NULL))
        p->at++;
    text = arena_dup(p->arena, start, (size_t)(p->at - start) + 1);
    text[p->at - start] = '\0';
    value = json_loads(text, JSON_DECODE_ANY, NULL);
    if (!json_is_number(value)) {
        json_decref(value);
        return fail(p, "bad number");
    }
    json_decref(value);
    o->kind = OPERAND_CONST;
    o->constant = text;
    return 0;
}

static int read_pipeline(struct parser *p, struct pipeline **ret);

static int read_paren(struct parser *p, struct operand *o)
{
    int rc;

    if (++p->depth > TEMPLATE_DEPTH_MAX)
        return fail(p, "nested too deeply");
    p->at++;
    o->kind = OPERAND_PAREN;
    rc = read_pipeline(p, &o->paren);
    if (rc < 0)
        return rc;
    if (p->at == p->end || *p->at != ')')
        return fail(p, "unclosed left paren");
    p->at++;
    p->depth--;
    return read_fields(p, o);
}

static int read_name(struct parser *p, struct operand *o)
{
    o->text = read_word(p);
    if (strcmp(o->text, "true") == 0 || strcmp(o->text, "false") == 0) {
        o->kind = OPERAND_CONST;
        o->constant = o->text;
    } else if (strcmp(o->text, "nil") == 0) {
        o->kind = OPERAND_CONST;
        o->constant = "null";
    } else {
        o->kind = OPERAND_CALL;
    }
    return 0;
}

static int read_operand(struct parser *p, struct operand **ret)
{
    struct operand *o = ARENA_NEW(p->arena, struct operand);
    char c = *p->at;

    *ret = o;
    if (c == '"' || c == '`')
        return read_string(p, o);
    if (c == '(')
        return read_paren(p, o);
    if (c == '$') {
        p->at++;
        o->kind = OPERAND_VAR;
        o->text = arena_printf(p->arena, "$%s", read_word(p));
        return read_fields(p, o);
    }
    if (c == '.') {
        o->kind = OPERAND_DOT;
        if (p->at + 1 == p->end || !is_word(p->at[1])) {
            p->at++;
            return 0;
        }
        return read_fields(p, o);
    }
    if (isdigit((unsigned char)c) || c == '-' || c == '+')
        return read_number(p, o);
    if (is_word(c))
        return read_name(p, o);
    return err_set(p->e, ERR_INVALID, "template parsing error: unexpected '%c' in command", c);
}

/* ---- pipelines ---- */

static int read_command(struct parser *p, struct command **ret)
{
    struct command *c = ARENA_NEW(p->arena, struct command);

    *ret = c;
    for (;;) {
        int rc;

        skip_blank(p);
        if (p->at == p->end || *p->at == '|' || *p->at == ')')
            break;
        if (c->count == TEMPLATE_ARGS_MAX)
            return fail(p, "too many arguments");
        rc = read_operand(p, &c->args[c->count]);
        if (rc < 0)
            return rc;
        c->count++;
    }
    return c->count > 0 ? 0 : fail(p, "missing value for command");
}

/* "$x :=" or "$i, $e :=" before a pipeline; leaves p alone when there is none. */
static void read_declaration(struct parser *p, struct pipeline *pl)
{
    const char *start = p->at;
    const char *vars[2] = { NULL, NULL };

    for (int i = 0; i < 2; i++) {
        skip_blank(p);
        if (p->at == p->end || *p->at != '$')
            break;
        p->at++;
        vars[i] = arena_printf(p->arena, "$%s", read_word(p));
        skip_blank(p);
        if (p->at + 1 < p->end && p->at[0] == ':' && p->at[1] == '=') {
            p->at += 2;
            pl->vars[0] = vars[0];
            pl->vars[1] = vars[1];
            return;
        }
        if (i == 0 && p->at < p->end && *p->at == '=') {
            p->at++;
            pl->vars[0] = vars[0];
            pl->assign = true;
            return;
        }
        if (p->at == p->end || *p->at != ',')
            break;
        p->at++;
    }
    p->at = start;
}

static int read_pipeline(struct parser *p, struct pipeline **ret)
{
    struct pipeline *pl = ARENA_NEW(p->arena, struct pipeline);
    struct command **tail = &pl->commands;

    *ret = pl;
    read_declaration(p, pl);
    for (;;) {
        int rc = read_command(p, tail);

        if (rc < 0)
            return rc;
        tail = &(*tail)->next;
        if (p->at == p->end || *p->at != '|')
            return 0;
        p->at++;
    }
}

/* ---- blocks ---- */

/* What ended a list of nodes. */
enum stop { STOP_EOF, STOP_END, STOP_ELSE };

static int read_nodes(struct parser *p, struct node **ret, enum stop *ret_stop);

/* The text before the next action, trimmed when a marker asks for it. */
static void add_text(struct parser *p, struct node ***tail, const char *start, const char *end,
                     bool trim_right)
{
    struct node *n;
    char *text;

    while (trim_right && end > start && isspace((unsigned char)end[-1]))
        end--;
    if (end == start)
        return;
    n = ARENA_NEW(p->arena, struct node);
    text = arena_dup(p->arena, start, (size_t)(end - start) + 1);
    text[end - start] = '\0';
    n->text = text;
    **tail = n;
    *tail = &n->next;
}

/* p->at is behind "{{": finds the "}}", sets p->end before it and ret_next behind it. */
static int find_action(struct parser *p, const char **ret_next)
{
    const char *s = p->at;

    if (strncmp(s, "/*", 2) == 0) {
        s = strstr(s, "*/");
        if (s == NULL)
            return fail(p, "unclosed comment");
    }
    for (; *s != '\0' && strncmp(s, "}}", 2) != 0; s++) {
        char quote = *s;

        if (quote != '"' && quote != '`')
            continue;
        for (s++; *s != '\0' && *s != quote; s++) {
            if (*s == '\\' && quote == '"' && s[1] != '\0')
                s++;
        }
        if (*s == '\0')
            return fail(p, "unterminated quoted string");
    }
    if (*s == '\0')
        return fail(p, "unclosed action");
    p->end = s;
    *ret_next = s + 2;
    if (s - p->at >= 2 && s[-1] == '-' && isspace((unsigned char)s[-2])) {
        p->end = s - 1;
        while (isspace((unsigned char)**ret_next))
            (*ret_next)++;
    }
    return 0;
}

static bool keyword(struct parser *p, const char *word)
{
    size_t size = strlen(word);

    skip_blank(p);
    if ((size_t)(p->end - p->at) < size || strncmp(p->at, word, size) != 0 ||
        (p->at + size < p->end && is_word(p->at[size])))
        return false;
    p->at += size;
    return true;
}

/* if, range or with: its pipeline has been reached; p->at moves behind its end. */
static int read_block(struct parser *p, struct node *n, const char *next)
{
    enum stop stop;
    int rc = read_pipeline(p, &n->pipeline);

    if (rc < 0)
        return rc;
    if (p->at != p->end)
        return fail(p, "unexpected text in action");
    if (++p->depth > TEMPLATE_DEPTH_MAX)
        return fail(p, "nested too deeply");
    p->at = next;
    rc = read_nodes(p, &n->body, &stop);
    if (rc < 0)
        return rc;
    if (stop == STOP_ELSE) {
        /* "{{else if x}}" is an if of its own that shares our end */
        if (p->at < p->end && keyword(p, "if")) {
            n->other = ARENA_NEW(p->arena, struct node);
            n->other->kind = NODE_IF;
            rc = read_block(p, n->other, p->next);
            p->depth--;
            return rc;
        }
        p->at = p->next;
        rc = read_nodes(p, &n->other, &stop);
        if (rc < 0)
            return rc;
    }
    p->depth--;
    return stop == STOP_END ? 0 : fail(p, "unexpected EOF: {{end}} is missing");
}

/* One action, p->at behind its "{{" and trim marker. Sets ret_stop for end and else. */
static int read_action(struct parser *p, struct node ***tail, bool *ret_stopped,
                       enum stop *ret_stop)
{
    struct node *n;
    const char *next = NULL;
    int rc = find_action(p, &next);

    if (rc < 0)
        return rc;
    if (strncmp(p->at, "/*", 2) == 0) {
        p->at = next;
        return 0;
    }
    if (keyword(p, "end")) {
        *ret_stopped = true;
        *ret_stop = STOP_END;
        p->at = next;
        return 0;
    }
    if (keyword(p, "else")) {
        *ret_stopped = true;
        *ret_stop = STOP_ELSE;
        p->next = next;
        skip_blank(p);
        return 0;
    }
    n = ARENA_NEW(p->arena, struct node);
    **tail = n;
    *tail = &n->next;
    n->kind = keyword(p, "if")      ? NODE_IF
              : keyword(p, "range") ? NODE_RANGE
              : keyword(p, "with")  ? NODE_WITH
                                    : NODE_ACTION;
    if (n->kind != NODE_ACTION)
        return read_block(p, n, next);
    rc = read_pipeline(p, &n->pipeline);
    if (rc == 0 && p->at != p->end)
        rc = fail(p, "unexpected text in action");
    p->at = next;
    return rc;
}

static int read_nodes(struct parser *p, struct node **ret, enum stop *ret_stop)
{
    struct node **tail = ret;
    bool stopped = false;

    while (!stopped) {
        const char *open = strstr(p->at, "{{");
        const char *start = p->at;
        bool trim;
        int rc;

        if (open == NULL) {
            add_text(p, &tail, start, start + strlen(start), false);
            p->at = start + strlen(start);
            *ret_stop = STOP_EOF;
            return 0;
        }
        trim = open[2] == '-' && isspace((unsigned char)open[3]);
        add_text(p, &tail, start, open, trim);
        p->at = open + (trim ? 3 : 2);
        while (isspace((unsigned char)*p->at))
            p->at++;
        rc = read_action(p, &tail, &stopped, ret_stop);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int template_parse(struct arena *a, const char *text, struct template *ret, struct err *e)
{
    struct parser p = { .arena = a, .at = text, .e = e };
    enum stop stop = STOP_EOF;
    int rc;

    if (strlen(text) > TEMPLATE_BYTES_MAX)
        return err_set(e, ERR_TOO_BIG, "template parsing error: the template is too long");
    rc = read_nodes(&p, &ret->first, &stop);
    if (rc == 0 && stop != STOP_EOF)
        rc = fail(&p, stop == STOP_END ? "unexpected {{end}}" : "unexpected {{else}}");
    return rc;
}
