#include "ctl/output.h"

#include <string.h>

#include "common/assert.h"
#include "common/text.h"
#include "ctl/template.h"

enum { JSON_FLAGS = JSON_REAL_PRECISION(6) };

/* ---- tables ---- */

static size_t cell_size(const char *cell)
{
    return strcspn(cell, "\t");
}

static size_t cell_width(const char *cell)
{
    CLEANUP_FREE char *copy = xstrndup(cell, cell_size(cell));

    return text_width(copy);
}

/* Cell number column of line, or NULL when the line has no more. */
static const char *cell_at(const char *line, size_t column)
{
    for (size_t i = 0; i < column; i++) {
        line += cell_size(line);
        if (*line == '\0')
            return NULL;
        line++;
    }
    return line;
}

static bool cell_is_last(const char *cell)
{
    return cell[cell_size(cell)] == '\0';
}

static size_t column_width(const char *const lines[], size_t count, size_t column)
{
    size_t width = OUTPUT_CELL_MIN;

    for (size_t i = 0; i < count; i++) {
        const char *cell = cell_at(lines[i], column);

        if (cell != NULL && !cell_is_last(cell))
            width = MAX(width, cell_width(cell) + OUTPUT_CELL_PADDING);
    }
    return width;
}

void output_table(FILE *out, const char *const lines[], size_t count)
{
    size_t columns = 1;
    size_t *widths;

    for (size_t i = 0; i < count; i++) {
        size_t cells = 1;

        for (const char *p = lines[i]; *p != '\0'; p++)
            cells += *p == '\t' ? 1 : 0;
        columns = MAX(columns, cells);
    }
    widths = xmalloc(columns * sizeof(*widths));
    for (size_t i = 0; i < columns; i++)
        widths[i] = column_width(lines, count, i);
    for (size_t i = 0; i < count; i++) {
        const char *cell = lines[i];

        for (size_t column = 0; !cell_is_last(cell); column++) {
            (void)fprintf(out, "%.*s%*s", (int)cell_size(cell), cell,
                          (int)(widths[column] - cell_width(cell)), "");
            cell += cell_size(cell) + 1;
        }
        (void)fprintf(out, "%s\n", cell);
    }
    free(widths);
}

/* ---- rows ---- */

/* \t and \n as people type them in a shell's single quotes. */
static char *expand_escapes(struct arena *a, const char *text)
{
    char *copy = arena_strdup(a, text);
    char *to = copy;

    for (const char *p = text; *p != '\0'; p++) {
        if (p[0] == '\\' && (p[1] == 't' || p[1] == 'n')) {
            *to++ = p[1] == 't' ? '\t' : '\n';
            p++;
        } else {
            *to++ = *p;
        }
    }
    *to = '\0';
    return copy;
}

static int run_to_line(struct ctl *c, const struct template *t, json_t *row, const char **ret,
                       struct err *e)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    int rc;

    ASSERT(out != NULL);
    rc = template_run(t, row, true, out, e);
    ASSERT(fclose(out) == 0);
    *ret = arena_strdup(&c->arena, text);
    free(text);
    return rc;
}

/* One header per field, so that the table's own template also writes its head. */
static json_t *header_row(const struct listing *l)
{
    json_t *row = json_object();

    for (const struct column *col = l->columns; col->field != NULL; col++)
        (void)json_object_set_new(row, col->field, json_string(col->header));
    (void)json_object_set_new(row, "_labels", json_object());
    return row;
}

static int print_table(struct ctl *c, const struct listing *l, const char *text, json_t *rows,
                       struct err *e)
{
    struct template t = { 0 };
    size_t count = json_array_size(rows);
    const char **lines = arena_array(&c->arena, count + 1, sizeof(*lines));
    json_t *head;
    int rc = template_parse(&c->arena, text, &t, e);

    if (rc < 0)
        return rc;
    head = header_row(l);
    rc = run_to_line(c, &t, head, &lines[0], e);
    json_decref(head);
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = run_to_line(c, &t, json_array_get(rows, i), &lines[i + 1], e);
    if (rc == 0)
        output_table(c->out, lines, count + 1);
    return rc;
}

static int print_each(struct ctl *c, const char *text, json_t *rows, struct err *e)
{
    struct template t = { 0 };
    int rc = template_parse(&c->arena, text, &t, e);

    for (size_t i = 0; i < json_array_size(rows) && rc == 0; i++) {
        const char *line;

        rc = run_to_line(c, &t, json_array_get(rows, i), &line, e);
        if (rc == 0)
            (void)fprintf(c->out, "%s\n", line);
    }
    return rc;
}

int output_rows(struct ctl *c, const struct listing *l, json_t *rows)
{
    const char *format = expand_escapes(&c->arena, flags_string(c->flags, "format"));
    bool quiet = flags_bool(c->flags, "quiet");
    struct err e = { 0 };
    int rc;

    if (strcmp(format, "json") == 0)
        rc = print_each(c, "{{json .}}", rows, &e);
    else if (quiet && (format[0] == '\0' || strncmp(format, "table", 5) == 0))
        rc = print_each(c, "{{.ID}}", rows, &e);
    else if (format[0] == '\0' || strcmp(format, "table") == 0)
        rc = print_table(c, l, l->table, rows, &e);
    else if (strncmp(format, "table ", 6) == 0)
        rc = print_table(c, l, format + 6, rows, &e);
    else if (strcmp(format, "raw") == 0)
        rc = print_each(c, l->raw, rows, &e);
    else
        rc = print_each(c, format, rows, &e);
    json_decref(rows);
    return rc < 0 ? ctl_error(c, rc, &e) : 0;
}

/* ---- inspect ---- */

static void dump(FILE *out, const json_t *value, size_t flags)
{
    char *text = json_dumps(value, flags | JSON_FLAGS);

    ASSERT(text != NULL); /* strings were checked to be UTF-8 when they were decoded */
    (void)fprintf(out, "%s\n", text);
    free(text);
}

int output_objects(struct ctl *c, json_t *objects)
{
    const char *format = flags_string(c->flags, "format");
    struct template t = { 0 };
    struct err e = { 0 };
    int rc = 0;

    if (format[0] == '\0') {
        dump(c->out, objects, JSON_INDENT(4));
    } else if (strcmp(format, "json") == 0) {
        dump(c->out, objects, JSON_COMPACT);
    } else {
        rc = template_parse(&c->arena, format, &t, &e);
        for (size_t i = 0; i < json_array_size(objects) && rc == 0; i++) {
            rc = template_run(&t, json_array_get(objects, i), false, c->out, &e);
            (void)fputc('\n', c->out);
        }
    }
    json_decref(objects);
    return rc < 0 ? ctl_error(c, rc, &e) : 0;
}

int output_inspected(struct ctl *c, ctl_one_fn *one)
{
    bool pretty = flags_exists(c->flags, "pretty") && flags_bool(c->flags, "pretty");
    json_t *objects;
    int status;

    if (pretty && flags_given(c->flags, "format"))
        return ctl_fail(c, "--format is incompatible with human friendly format");
    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    objects = json_array();
    status = ctl_each(c, one, objects);
    if (!pretty)
        return output_objects(c, objects) | status;
    json_decref(objects);
    return status;
}

/* ---- filters ---- */

int filter_parse(struct arena *a, const char *text, const char *const keys[], const char **ret_key,
                 const char **ret_value, struct err *e)
{
    const char *equals = strchr(text, '=');
    char known[160] = "";
    size_t used = 0;

    for (size_t i = 0; keys[i] != NULL; i++) {
        used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", i > 0 ? ", " : "",
                                 keys[i]);
        if (equals != NULL && (size_t)(equals - text) == strlen(keys[i]) &&
            strncmp(text, keys[i], strlen(keys[i])) == 0) {
            *ret_key = keys[i];
            *ret_value = arena_strdup(a, equals + 1);
            return 0;
        }
    }
    if (equals == NULL)
        return err_set(e, ERR_INVALID, "invalid filter '%.60s': write key=value with one of %s",
                       text, known);
    return err_set(e, ERR_INVALID, "invalid filter '%.*s': keys are %s",
                   (int)MIN(equals - text, 60), text, known);
}
