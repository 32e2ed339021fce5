/* What list and inspect commands print: docker's tables, --format, -q, JSON arrays. Rows are JSON
 * objects whose keys are the fields of --format; keys that begin with '_' are private ("_labels" is
 * behind {{.Label "k"}}). */
#ifndef SKEP_CTL_OUTPUT_H
#define SKEP_CTL_OUTPUT_H

#include <jansson.h>
#include <stdio.h>

#include "ctl/cmd.h"

enum { OUTPUT_CELL_MIN = 10, OUTPUT_CELL_PADDING = 3 }; /* docker's tabwriter */

struct column {
    const char *field;
    const char *header;
};

struct listing {
    const struct column *columns; /* every field; ends with a NULL field */
    const char *table;            /* template of a default row, cells between \t */
    const char *raw;              /* template of --format raw */
};

/* Lays out lines of cells between tabs: every cell but a line's last is padded to its column's
 * width (at least OUTPUT_CELL_MIN with OUTPUT_CELL_PADDING blanks behind the text). Pure. */
void output_table(FILE *out, const char *const lines[], size_t count);

/* Prints rows (a JSON array, taken) as the command's --format and --quiet ask. Returns the exit
 * status. */
int output_rows(struct ctl *c, const struct listing *l, json_t *rows);
/* Prints objects (a JSON array, taken) as an indented array, or each through --format. */
int output_objects(struct ctl *c, json_t *objects);

/* The inspect commands: one adds the object that an argument names to the array that its ctx is,
 * or, when asked to be `pretty`, prints it. Returns the exit status. */
int output_inspected(struct ctl *c, ctl_one_fn *one);

/* "key=value" of --filter. keys ends with NULL. -ERR_INVALID "invalid filter …". In a. */
int filter_parse(struct arena *a, const char *text, const char *const keys[], const char **ret_key,
                 const char **ret_value, struct err *e) MUST_CHECK;

#endif
