/* Options of the three programs, from one table per command: parsing, `--help`, man pages and shell
 * completion all read it. The grammar is that of docker's CLI (pflag): --name value, --name=value,
 * -x value, -xvalue, -abc for booleans, --flag=false, `--` ends the options, a repeated flag adds
 * to its list or replaces its value. Daemons read the same names from a file of `name value` or
 * `name = value` lines; the command line wins over the environment, which wins over the file, which
 * wins over the table's default.
 *
 * Parsing is pure; only flags_read_file() opens something. Errors have docker's words, so that the
 * caller prints them followed by "See '<program> <command> --help'." and exits with
 * FLAGS_EXIT_USAGE. Any thread, one object at a time. */
#ifndef SKEP_COMMON_FLAGS_H
#define SKEP_COMMON_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/err.h"
#include "common/mem.h"

enum {
    FLAGS_EXIT_USAGE = 125,    /* exit status for an option that does not parse */
    FLAGS_PER_TABLE_MAX = 128, /* flags of one command */
    FLAGS_LIST_MAX = 4096,     /* values of one repeated flag */
    FLAGS_FILE_BYTES_MAX = 1 << 20,
};

enum flag_kind {
    FLAG_STRING,
    FLAG_LIST,     /* repeated string, in order */
    FLAG_BOOL,     /* no argument needed; --x=false */
    FLAG_U64,      /* "uint" */
    FLAG_I64,      /* "int" */
    FLAG_DURATION, /* "10s", "1m30s": nanoseconds */
    FLAG_BYTES,    /* "512m", "1GiB" */
    FLAG_CPUS,     /* "0.5": nano-CPUs */
    FLAG_RATIO,    /* "0.25": parts per million */
};

/* One option. A table ends with an entry whose name is NULL. */
struct flag {
    const char *name; /* without dashes */
    char letter;      /* short form, 0 = none */
    enum flag_kind kind;
    const char *value_name; /* in help, after the name; NULL = by kind (string, list, uint, …) */
    const char *default_text; /* parsed as the initial value and shown; NULL = zero, not shown */
    const char *help;
    const char *choices; /* for completion: "pause|continue|rollback", "@node", "@file"; or NULL */
    bool hidden;         /* accepted, not shown */
};

struct flags;

/* table must outlive the object. Names that it lacks are looked up in parent (may be NULL). */
struct flags *flags_new(const struct flag *table, struct flags *parent);
void flags_free(struct flags *f);

enum flags_order {
    FLAGS_MIXED,     /* options may follow arguments */
    FLAGS_ARGS_LAST, /* the first argument ends the options (service create IMAGE COMMAND -x) */
};
/* Parses args[0..count); no program name in it. -ERR_INVALID with the sentence to print. */
int flags_parse(struct flags *f, int count, char *const args[], enum flags_order order,
                struct err *e) MUST_CHECK;
/* The text of a configuration file: one flag per line, '#' starts a comment, a list flag may occur
 * on several lines, values may be in double quotes. A flag that the command line or the environment
 * gave is left alone. Errors name path and line. */
int flags_parse_file(struct flags *f, const char *text, const char *path, struct err *e) MUST_CHECK;
/* Reads path and parses it; -ERR_NOT_FOUND when there is no such file. */
int flags_read_file(struct flags *f, const char *path, struct err *e) MUST_CHECK;
/* Takes values from the environment: SKEP_HOST for --host with prefix "SKEP_". get is getenv or a
 * test's stand-in. Flags given on the command line are left alone. */
typedef char *flags_env_fn(const char *name);
int flags_parse_env(struct flags *f, const char *prefix, flags_env_fn *get,
                    struct err *e) MUST_CHECK;

/* Values. A name that neither the table nor a parent has, or of another kind, asserts. */
bool flags_given(const struct flags *f, const char *name);         /* not the default */
bool flags_exists(const struct flags *f, const char *name);        /* some table has it */
const char *flags_string(const struct flags *f, const char *name); /* never NULL */
bool flags_bool(const struct flags *f, const char *name);
uint64_t flags_u64(const struct flags *f, const char *name);
int64_t flags_i64(const struct flags *f, const char *name);
int64_t flags_duration(const struct flags *f, const char *name);
int64_t flags_bytes(const struct flags *f, const char *name);
int64_t flags_cpus(const struct flags *f, const char *name);
uint32_t flags_ratio(const struct flags *f, const char *name);
size_t flags_list_count(const struct flags *f, const char *name);
const char *flags_list_at(const struct flags *f, const char *name, size_t i);

/* What is not an option, in order. */
int flags_arg_count(const struct flags *f);
const char *flags_arg(const struct flags *f, int i);

/* The "Options:" block of --help, wrapped at width columns (0 = never). Prints nothing when the
 * table shows no flag. */
void flags_print_options(FILE *out, const char *title, const struct flag *table, size_t width);

/* A man page in man(7) format. Text fields are plain: escaping is done here; "\n\n" in description
 * separates paragraphs. */
struct flags_man {
    const char *name;     /* "ctl-service-create" */
    int section;          /* 1 or 8 */
    const char *summary;  /* one line, after the dash */
    const char *synopsis; /* "ctl service create [OPTIONS] IMAGE [COMMAND] [ARG...]" */
    const char *description;
    const struct flag *table;
    const struct flag *global; /* shown as "GLOBAL OPTIONS", or NULL */
    const char *extra;         /* more man(7) text (roff, verbatim), e.g. FILES; or NULL */
    const char *see_also;      /* "ctl(1), managerd(8)"; or NULL */
};
void flags_print_man(FILE *out, const struct flags_man *m);
/* Writes s escaped for roff: backslashes, leading dots and quotes, hyphens. */
void flags_print_roff(FILE *out, const char *s);

#endif
