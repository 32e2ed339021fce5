#include "common/flags.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "common/assert.h"
#include "common/buf.h"
#include "common/text.h"

/* Where a value came from; a lower source never replaces a higher one. */
enum source { SOURCE_DEFAULT, SOURCE_FILE, SOURCE_ENV, SOURCE_ARGS };

struct value {
    enum source source;
    char *text; /* as given; NULL = "" */
    int64_t number;
    uint64_t u64;
    bool boolean;
    char **items;
    size_t item_count;
};

struct flags {
    const struct flag *table;
    uint32_t count;
    struct flags *parent;
    struct value *values;
    char **args;
    int arg_count;
};

/* ---- object ---- */

static void value_clear(struct value *v)
{
    for (size_t i = 0; i < v->item_count; i++)
        free(v->items[i]);
    free(v->items);
    free(v->text);
    *v = (struct value){ 0 };
}

static int value_parse(struct value *v, enum flag_kind kind, const char *text, struct err *e)
{
    uint32_t ppm;
    int rc = 0;

    switch (kind) {
    case FLAG_STRING:
        break;
    case FLAG_LIST:
        if (v->item_count == FLAGS_LIST_MAX)
            return err_set(e, ERR_TOO_BIG, "more than %d values", FLAGS_LIST_MAX);
        v->items = xrealloc_array(v->items, v->item_count + 1, sizeof(*v->items));
        v->items[v->item_count++] = xstrdup(text);
        return 0;
    case FLAG_BOOL:
        rc = text_parse_bool(text, &v->boolean, e);
        break;
    case FLAG_U64:
        rc = text_parse_u64(text, &v->u64, e);
        break;
    case FLAG_I64:
        rc = text_parse_i64(text, &v->number, e);
        break;
    case FLAG_DURATION:
        rc = text_parse_duration(text, &v->number, e);
        break;
    case FLAG_BYTES:
        rc = text_parse_bytes(text, &v->number, e);
        break;
    case FLAG_CPUS:
        rc = text_parse_cpus(text, &v->number, e);
        break;
    case FLAG_RATIO:
        rc = text_parse_ratio(text, &ppm, e);
        if (rc == 0)
            v->number = ppm;
        break;
    }
    if (rc < 0)
        return rc;
    free(v->text);
    v->text = xstrdup(text);
    return 0;
}

struct flags *flags_new(const struct flag *table, struct flags *parent)
{
    struct flags *f = xcalloc(1, sizeof(*f));

    f->table = table;
    f->parent = parent;
    while (table[f->count].name != NULL)
        f->count++;
    ASSERT(f->count <= FLAGS_PER_TABLE_MAX);
    f->values = xcalloc(f->count + 1, sizeof(*f->values));
    for (uint32_t i = 0; i < f->count; i++) {
        if (table[i].default_text != NULL)
            ASSERT(value_parse(&f->values[i], table[i].kind, table[i].default_text, NULL) == 0);
    }
    return f;
}

void flags_free(struct flags *f)
{
    if (f == NULL)
        return;
    for (uint32_t i = 0; i < f->count; i++)
        value_clear(&f->values[i]);
    free(f->values);
    for (int i = 0; i < f->arg_count; i++)
        free(f->args[i]);
    free(f->args);
    free(f);
}

/* ---- setting ---- */

/* The flag called name[0..size) here or in a parent; ret_f is the object that has it. */
static const struct flag *find_long(struct flags *f, const char *name, size_t size,
                                    struct flags **ret_f)
{
    for (; f != NULL; f = f->parent) {
        for (uint32_t i = 0; i < f->count; i++) {
            if (strlen(f->table[i].name) == size && memcmp(f->table[i].name, name, size) == 0) {
                *ret_f = f;
                return &f->table[i];
            }
        }
    }
    return NULL;
}

static const struct flag *find_letter(struct flags *f, char letter, struct flags **ret_f)
{
    for (; f != NULL; f = f->parent) {
        for (uint32_t i = 0; i < f->count; i++) {
            if (f->table[i].letter == letter) {
                *ret_f = f;
                return &f->table[i];
            }
        }
    }
    return NULL;
}

static int set(struct flags *f, const struct flag *flag, const char *text, enum source source,
               struct err *e)
{
    struct value *v = &f->values[flag - f->table];

    if (v->source > source)
        return 0;
    if (v->source < source && flag->kind == FLAG_LIST)
        value_clear(v);
    int rc = value_parse(v, flag->kind, text, e);
    if (rc == 0)
        v->source = source;
    return rc;
}

static int set_arg(struct flags *f, const struct flag *flag, const char *text, struct err *e)
{
    struct err why = { 0 };

    if (set(f, flag, text, SOURCE_ARGS, &why) == 0)
        return 0;
    if (flag->letter != 0)
        return err_set(e, ERR_INVALID, "invalid argument \"%.60s\" for \"-%c, --%s\" flag: %s",
                       text, flag->letter, flag->name, why.message);
    return err_set(e, ERR_INVALID, "invalid argument \"%.60s\" for \"--%s\" flag: %s", text,
                   flag->name, why.message);
}

/* ---- command line ---- */

struct cursor {
    int count;
    char *const *args;
    int at;
};

static int parse_long(struct flags *f, struct cursor *c, struct err *e)
{
    const char *arg = c->args[c->at++];
    const char *name = arg + 2;
    size_t size = strcspn(name, "=");
    const struct flag *flag;
    struct flags *owner = NULL;

    if (size == 0 || name[0] == '-')
        return err_set(e, ERR_INVALID, "bad flag syntax: %.100s", arg);
    flag = find_long(f, name, size, &owner);
    if (flag == NULL)
        return err_set(e, ERR_INVALID, "unknown flag: --%.*s", (int)MIN(size, 100), name);
    if (name[size] == '=')
        return set_arg(owner, flag, name + size + 1, e);
    if (flag->kind == FLAG_BOOL)
        return set_arg(owner, flag, "true", e);
    if (c->at == c->count)
        return err_set(e, ERR_INVALID, "flag needs an argument: --%s", flag->name);
    return set_arg(owner, flag, c->args[c->at++], e);
}

static int parse_letters(struct flags *f, struct cursor *c, struct err *e)
{
    const char *arg = c->args[c->at++];

    for (const char *p = arg + 1; *p != '\0'; p++) {
        struct flags *owner = NULL;
        const struct flag *flag = find_letter(f, *p, &owner);
        int rc;

        if (flag == NULL)
            return err_set(e, ERR_INVALID, "unknown shorthand flag: '%c' in %.100s",
                           isprint((unsigned char)*p) ? *p : '?', arg);
        if (flag->kind == FLAG_BOOL && p[1] != '=') {
            rc = set_arg(owner, flag, "true", e);
            if (rc < 0)
                return rc;
            continue;
        }
        if (p[1] == '=')
            return set_arg(owner, flag, p + 2, e);
        if (p[1] != '\0')
            return set_arg(owner, flag, p + 1, e);
        if (c->at == c->count)
            return err_set(e, ERR_INVALID, "flag needs an argument: '%c' in %.100s", *p, arg);
        return set_arg(owner, flag, c->args[c->at++], e);
    }
    return 0;
}

static void add_arg(struct flags *f, const char *arg)
{
    f->args = xrealloc_array(f->args, (size_t)f->arg_count + 1, sizeof(*f->args));
    f->args[f->arg_count++] = xstrdup(arg);
}

int flags_parse(struct flags *f, int count, char *const args[], enum flags_order order,
                struct err *e)
{
    struct cursor c = { .count = count, .args = args };

    while (c.at < count) {
        const char *arg = args[c.at];
        int rc;

        if (strcmp(arg, "--") == 0) {
            c.at++;
            break;
        }
        if (arg[0] != '-' || arg[1] == '\0') {
            if (order == FLAGS_ARGS_LAST)
                break;
            add_arg(f, arg);
            c.at++;
            continue;
        }
        rc = arg[1] == '-' ? parse_long(f, &c, e) : parse_letters(f, &c, e);
        if (rc < 0)
            return rc;
    }
    while (c.at < count)
        add_arg(f, args[c.at++]);
    return 0;
}

/* ---- configuration file and environment ---- */

/* Cuts [start, end) to its value: blanks off, one pair of double quotes off. Copied. */
static char *file_value(const char *start, const char *end)
{
    while (start < end && isspace((unsigned char)*start))
        start++;
    while (end > start && isspace((unsigned char)end[-1]))
        end--;
    if (end - start >= 2 && *start == '"' && end[-1] == '"') {
        start++;
        end--;
    }
    return xstrndup(start, (size_t)(end - start));
}

/* One line without its end: "name value", "name = value" or "name" for a boolean. */
static int parse_line(struct flags *f, const char *line, size_t size, struct err *e)
{
    const char *end = line + size;
    CLEANUP_FREE char *text = NULL;
    const struct flag *flag;
    struct flags *owner = NULL;
    const char *p;
    size_t name_size;

    while (line < end && isspace((unsigned char)*line))
        line++;
    if (line == end || *line == '#')
        return 0;
    for (p = line; p < end && !isspace((unsigned char)*p) && *p != '=';)
        p++;
    name_size = (size_t)(p - line);
    flag = find_long(f, line, name_size, &owner);
    if (flag == NULL)
        return err_set(e, ERR_INVALID, "unknown option \"%.*s\"", (int)MIN(name_size, 100), line);
    while (p < end && isspace((unsigned char)*p))
        p++;
    if (p < end && *p == '=')
        p++;
    text = file_value(p, end);
    if (text[0] == '\0' && flag->kind == FLAG_BOOL)
        return set(owner, flag, "true", SOURCE_FILE, e);
    int rc = set(owner, flag, text, SOURCE_FILE, e);
    return rc < 0 ? err_wrap(e, rc, "%s", flag->name) : 0;
}

int flags_parse_file(struct flags *f, const char *text, const char *path, struct err *e)
{
    for (unsigned line = 1; *text != '\0'; line++) {
        size_t size = strcspn(text, "\n");
        int rc = parse_line(f, text, size, e);

        if (rc < 0)
            return err_wrap(e, rc, "%s:%u", path, line);
        text += size + (text[size] == '\n' ? 1 : 0);
    }
    return 0;
}

int flags_read_file(struct flags *f, const char *path, struct err *e)
{
    CLEANUP_BUF struct buf b = BUF_INIT(FLAGS_FILE_BYTES_MAX);
    int rc = buf_read_file(&b, path, e);

    if (rc < 0)
        return rc;
    if (strlen(buf_str(&b)) != b.size)
        return err_set(e, ERR_INVALID, "%s: contains a NUL byte", path);
    return flags_parse_file(f, buf_str(&b), path, e);
}

int flags_parse_env(struct flags *f, const char *prefix, flags_env_fn *get, struct err *e)
{
    for (uint32_t i = 0; i < f->count; i++) {
        char name[128];
        const char *value;
        int rc;

        (void)snprintf(name, sizeof(name), "%s%s", prefix, f->table[i].name);
        for (char *p = name; *p != '\0'; p++)
            *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
        value = get(name);
        if (value == NULL || value[0] == '\0')
            continue;
        rc = set(f, &f->table[i], value, SOURCE_ENV, e);
        if (rc < 0)
            return err_wrap(e, rc, "environment variable %s", name);
    }
    return 0;
}

/* ---- reading ---- */

static const struct value *find_value(const struct flags *f, const char *name,
                                      const struct flag **ret_flag)
{
    for (; f != NULL; f = f->parent) {
        for (uint32_t i = 0; i < f->count; i++) {
            if (strcmp(f->table[i].name, name) == 0) {
                *ret_flag = &f->table[i];
                return &f->values[i];
            }
        }
    }
    return NULL;
}

static const struct value *get_value(const struct flags *f, const char *name, enum flag_kind kind)
{
    const struct flag *flag = NULL;
    const struct value *v = find_value(f, name, &flag);

    ASSERT(v != NULL);
    ASSERT(flag->kind == kind);
    return v;
}

bool flags_exists(const struct flags *f, const char *name)
{
    const struct flag *flag = NULL;

    return find_value(f, name, &flag) != NULL;
}

bool flags_given(const struct flags *f, const char *name)
{
    const struct flag *flag = NULL;
    const struct value *v = find_value(f, name, &flag);

    ASSERT(v != NULL);
    return v->source != SOURCE_DEFAULT;
}

const char *flags_string(const struct flags *f, const char *name)
{
    const struct value *v = get_value(f, name, FLAG_STRING);

    return v->text != NULL ? v->text : "";
}

bool flags_bool(const struct flags *f, const char *name)
{
    return get_value(f, name, FLAG_BOOL)->boolean;
}

uint64_t flags_u64(const struct flags *f, const char *name)
{
    return get_value(f, name, FLAG_U64)->u64;
}

int64_t flags_i64(const struct flags *f, const char *name)
{
    return get_value(f, name, FLAG_I64)->number;
}

int64_t flags_duration(const struct flags *f, const char *name)
{
    return get_value(f, name, FLAG_DURATION)->number;
}

int64_t flags_bytes(const struct flags *f, const char *name)
{
    return get_value(f, name, FLAG_BYTES)->number;
}

int64_t flags_cpus(const struct flags *f, const char *name)
{
    return get_value(f, name, FLAG_CPUS)->number;
}

uint32_t flags_ratio(const struct flags *f, const char *name)
{
    return (uint32_t)get_value(f, name, FLAG_RATIO)->number;
}

size_t flags_list_count(const struct flags *f, const char *name)
{
    return get_value(f, name, FLAG_LIST)->item_count;
}

const char *flags_list_at(const struct flags *f, const char *name, size_t i)
{
    const struct value *v = get_value(f, name, FLAG_LIST);

    ASSERT(i < v->item_count);
    return v->items[i];
}

int flags_arg_count(const struct flags *f)
{
    return f->arg_count;
}

const char *flags_arg(const struct flags *f, int i)
{
    ASSERT(i >= 0 && i < f->arg_count);
    return f->args[i];
}

/* ---- help ---- */

static const char *value_name(const struct flag *flag)
{
    static const char *const names[] = {
        [FLAG_STRING] = "string", [FLAG_LIST] = "list",    [FLAG_BOOL] = "",
        [FLAG_U64] = "uint",      [FLAG_I64] = "int",      [FLAG_DURATION] = "duration",
        [FLAG_BYTES] = "bytes",   [FLAG_CPUS] = "decimal", [FLAG_RATIO] = "float",
    };

    return flag->value_name != NULL ? flag->value_name : names[flag->kind];
}

static size_t flag_head(const struct flag *flag, char *mem, size_t size)
{
    char letter[8] = "    ";
    const char *name = value_name(flag);

    if (flag->letter != 0)
        (void)snprintf(letter, sizeof(letter), "-%c, ", flag->letter);
    (void)snprintf(mem, size, "  %s--%s%s%s", letter, flag->name, name[0] != '\0' ? " " : "", name);
    return strlen(mem);
}

/* Prints text in columns [indent, width), breaking at blanks; the cursor is at indent. */
static void print_wrapped(FILE *out, const char *text, size_t indent, size_t width)
{
    size_t room = width > indent + 20 ? width - indent : SIZE_MAX;
    size_t used = 0;

    while (*text != '\0') {
        size_t word = strcspn(text, " ");

        if (used > 0 && used + 1 + word > room) {
            (void)fprintf(out, "\n%*s", (int)indent, "");
            used = 0;
        }
        (void)fprintf(out, "%s%.*s", used > 0 ? " " : "", (int)word, text);
        used += word + (used > 0 ? 1 : 0);
        text += word;
        text += strspn(text, " ");
    }
    (void)fputc('\n', out);
}

void flags_print_options(FILE *out, const char *title, const struct flag *table, size_t width)
{
    size_t column = 0;
    char head[160];

    for (const struct flag *flag = table; flag->name != NULL; flag++) {
        if (!flag->hidden)
            column = MAX(column, flag_head(flag, head, sizeof(head)));
    }
    if (column == 0)
        return;
    (void)fprintf(out, "\n%s:\n", title);
    for (const struct flag *flag = table; flag->name != NULL; flag++) {
        CLEANUP_FREE char *help = NULL;
        bool quoted = flag->kind == FLAG_STRING || flag->kind == FLAG_LIST;

        if (flag->hidden)
            continue;
        (void)flag_head(flag, head, sizeof(head));
        help = flag->default_text == NULL || flag->kind == FLAG_BOOL
                   ? xstrdup(flag->help)
                   : xasprintf("%s (default %s%s%s)", flag->help, quoted ? "\"" : "",
                               flag->default_text, quoted ? "\"" : "");
        (void)fprintf(out, "%-*s   ", (int)column, head);
        print_wrapped(out, help, column + 3, width);
    }
}

/* ---- man pages ---- */

void flags_print_roff(FILE *out, const char *s)
{
    bool line_start = true;

    for (; *s != '\0'; s++) {
        if (line_start && (*s == '.' || *s == '\''))
            (void)fputs("\\&", out);
        if (*s == '\\')
            (void)fputs("\\e", out);
        else if (*s == '-')
            (void)fputs("\\-", out);
        else
            (void)fputc(*s, out);
        line_start = *s == '\n';
    }
}

static void print_man_flags(FILE *out, const char *title, const struct flag *table)
{
    bool any = false;

    for (const struct flag *flag = table; flag->name != NULL; flag++) {
        if (flag->hidden)
            continue;
        if (!any)
            (void)fprintf(out, ".SH %s\n", title);
        any = true;
        (void)fputs(".TP\n", out);
        if (flag->letter != 0)
            (void)fprintf(out, "\\fB\\-%c\\fR, ", flag->letter);
        (void)fputs("\\fB\\-\\-", out);
        flags_print_roff(out, flag->name);
        (void)fputs("\\fR", out);
        if (value_name(flag)[0] != '\0') {
            (void)fputs(" \\fI", out);
            flags_print_roff(out, value_name(flag));
            (void)fputs("\\fR", out);
        }
        (void)fputc('\n', out);
        flags_print_roff(out, flag->help);
        if (flag->default_text != NULL && flag->kind != FLAG_BOOL) {
            (void)fputs(" (default ", out);
            flags_print_roff(out, flag->default_text);
            (void)fputc(')', out);
        }
        (void)fputs(".\n", out);
    }
}

static void print_paragraphs(FILE *out, const char *text)
{
    const char *gap;

    while ((gap = strstr(text, "\n\n")) != NULL) {
        CLEANUP_FREE char *part = xstrndup(text, (size_t)(gap - text));

        flags_print_roff(out, part);
        (void)fputs("\n.PP\n", out);
        text = gap + 2;
    }
    flags_print_roff(out, text);
    (void)fputc('\n', out);
}

void flags_print_man(FILE *out, const struct flags_man *m)
{
    (void)fputs(".TH \"", out);
    for (const char *p = m->name; *p != '\0'; p++)
        (void)fputc(toupper((unsigned char)*p), out);
    (void)fprintf(out, "\" \"%d\" \"\" \"Skep " SKEP_VERSION "\" \"Skep manual\"\n.SH NAME\n",
                  m->section);
    flags_print_roff(out, m->name);
    (void)fputs(" \\- ", out);
    flags_print_roff(out, m->summary);
    (void)fputs("\n.SH SYNOPSIS\n.B ", out);
    flags_print_roff(out, m->synopsis);
    (void)fputs("\n.SH DESCRIPTION\n", out);
    print_paragraphs(out, m->description);
    print_man_flags(out, "OPTIONS", m->table);
    if (m->global != NULL)
        print_man_flags(out, "GLOBAL OPTIONS", m->global);
    if (m->extra != NULL)
        (void)fputs(m->extra, out);
    if (m->see_also != NULL) {
        (void)fputs(".SH SEE ALSO\n", out);
        flags_print_roff(out, m->see_also);
        (void)fputc('\n', out);
    }
}
