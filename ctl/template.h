/* The part of Go's text/template that --format needs, over JSON values: {{.Field}} chains, {{$x}},
 * strings, numbers, pipelines, parentheses, {{if}} {{else}} {{else if}} {{range}} {{with}} {{end}},
 * {{$x := …}}, comments, {{- trimming -}}, and docker's functions (json split join title lower
 * upper pad truncate println print printf len index and or not eq ne lt le gt ge).
 *
 * Pure: no I/O but the given stream. Templates are bounded in size and depth. */
#ifndef SKEP_CTL_TEMPLATE_H
#define SKEP_CTL_TEMPLATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "common/arena.h"
#include "common/err.h"

enum {
    TEMPLATE_BYTES_MAX = 64 * 1024,
    TEMPLATE_DEPTH_MAX = 32, /* nested blocks and parentheses */
    TEMPLATE_ARGS_MAX = 16,  /* operands of one command */
    TEMPLATE_VARS_MAX = 16,
};

/* ---- the tree, shared by template.c (parser) and template_run.c ---- */

enum operand_kind {
    OPERAND_DOT,   /* . and .A.B: fields of the current value */
    OPERAND_VAR,   /* $ and $x.A */
    OPERAND_CONST, /* string, number, true, false, nil */
    OPERAND_CALL,  /* a function's name */
    OPERAND_PAREN, /* (pipeline).A */
};

struct pipeline;

struct operand {
    enum operand_kind kind;
    const char *text;    /* VAR: name with $, CALL: function */
    const char **fields; /* chain */
    size_t field_count;
    const char *constant; /* CONST: JSON text */
    struct pipeline *paren;
};

struct command {
    struct operand *args[TEMPLATE_ARGS_MAX];
    size_t count;
    struct command *next; /* behind the | */
};

struct pipeline {
    const char *vars[2]; /* $x := or $i, $e := ; NULL */
    bool assign;         /* = instead of := */
    struct command *commands;
};

enum node_kind { NODE_TEXT, NODE_ACTION, NODE_IF, NODE_RANGE, NODE_WITH };

struct node {
    enum node_kind kind;
    const char *text;
    struct pipeline *pipeline;
    struct node *body;
    struct node *other; /* else */
    struct node *next;
};

struct template
{
    struct node *first;
};

/* All memory is a's. -ERR_INVALID: "template parsing error: …". */
int template_parse(struct arena *a, const char *text, struct template *ret,
                   struct err *e) MUST_CHECK;
/* Writes the text for data. With strict, a field that data lacks is an error that lists those it
 * has; else it prints "<no value>", as Go does for maps. */
int template_run(const struct template *t, json_t *data, bool strict, FILE *out,
                 struct err *e) MUST_CHECK;

#endif
