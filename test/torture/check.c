/* Judges what the clients recorded: `check FILE…`, one history in any order.
 *
 *  - every key's reads and exchanges are linearizable (test/lib/linear.h);
 *  - what was acknowledged as created is in every manager's final list, and nothing that failed is;
 *  - no creation of a name nobody else uses was told that it exists: asked again under its request
 *    id, it is the same creation.
 *
 * Prints what it looked at and closes with "legal", "ILLEGAL" or "TOO LONG"; exits with 0 for
 * legal only. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "common/assert.h"
#include "common/mem.h"
#include "test/lib/linear.h"

enum { KEYS_MAX = 64, MANAGERS_MAX = 9, LINE_BYTES_MAX = 256, NAME_BYTES_MAX = 64 };
static const uint64_t STATES_MAX = 30000000;

struct key {
    struct linear_op *ops;
    size_t count, capacity;
};

enum outcome { OK, UNKNOWN, FAIL, EXISTS };

struct member {
    char name[NAME_BYTES_MAX];
    enum outcome outcome;
    unsigned lists; /* bit per manager whose final list has it */
    UT_hash_handle hh;
};

static struct key keys[KEYS_MAX];
static struct member *members;
static unsigned final_lists; /* managers whose final list is complete */
static size_t problems, reads, exchanges, unknowns, adds;

static enum outcome outcome_of(const char *text)
{
    static const char *const names[] = { "ok", "unknown", "fail", "exists" };

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(names[i], text) == 0)
            return (enum outcome)i;
    }
    fprintf(stderr, "no outcome: %s\n", text);
    exit(2);
}

static void add_op(unsigned key, const struct linear_op *op)
{
    struct key *k = &keys[key];

    ASSERT(key < KEYS_MAX);
    if (k->count == k->capacity) {
        k->capacity = MAX(k->capacity * 2, (size_t)1024);
        k->ops = xrealloc_array(k->ops, k->capacity, sizeof(*k->ops));
    }
    k->ops[k->count++] = *op;
}

static struct member *member_of(const char *name)
{
    struct member *m;

    HASH_FIND_STR(members, name, m);
    if (m == NULL) {
        m = xcalloc(1, sizeof(*m));
        m->outcome = UNKNOWN; /* until said otherwise */
        (void)snprintf(m->name, sizeof(m->name), "%s", name);
        HASH_ADD_STR(members, name, m);
    }
    return m;
}

static void take_exchange(unsigned key, struct linear_op op, enum outcome outcome)
{
    op.type = outcome == FAIL ? LINEAR_CAS_FAILED : LINEAR_CAS;
    if (outcome == UNKNOWN) {
        op.return_ns = LINEAR_UNKNOWN;
        unknowns++;
    }
    exchanges++;
    add_op(key, &op);
}

static bool take_line(const char *line)
{
    struct linear_op op = { .type = LINEAR_READ };
    char word[NAME_BYTES_MAX], name[NAME_BYTES_MAX];
    unsigned key, client;

    switch (line[0]) {
    case 'r':
        if (sscanf(line, "r %u %u %" SCNu64 " %" SCNu64 " %" SCNu64, &key, &client, &op.call_ns,
                   &op.return_ns, &op.value) != 5)
            return false;
        reads++;
        add_op(key, &op);
        return true;
    case 'c':
        if (sscanf(line, "c %u %u %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %63s", &key,
                   &client, &op.call_ns, &op.return_ns, &op.expect, &op.value, word) != 7)
            return false;
        take_exchange(key, op, outcome_of(word));
        return true;
    case 'a':
        if (sscanf(line, "a %63s %63s", name, word) != 2)
            return false;
        adds++;
        member_of(name)->outcome = outcome_of(word);
        return true;
    case 'f':
        if (sscanf(line, "f %u %63s", &key, name) != 2 || key >= MANAGERS_MAX)
            return false;
        member_of(name)->lists |= 1u << key;
        return true;
    case 'F':
        if (sscanf(line, "F %u", &key) != 1 || key >= MANAGERS_MAX)
            return false;
        final_lists |= 1u << key;
        return true;
    default:
        return false;
    }
}

static void read_file(const char *path)
{
    CLEANUP_FILE FILE *f = fopen(path, "re");
    char line[LINE_BYTES_MAX];

    if (f == NULL) {
        perror(path);
        exit(2);
    }
    while (fgets(line, sizeof(line), f) != NULL) {
        if (!take_line(line)) {
            fprintf(stderr, "%s: no record: %s", path, line);
            exit(2);
        }
    }
}

/* ---- judging ---- */

static void print_op(const char *what, const struct linear_op *op)
{
    static const char *const types[] = { "read", "write", "exchange", "failed exchange" };

    printf("  %s: %s expect=%" PRIu64 " value=%" PRIu64 " call=%" PRIu64 " return=%" PRIu64 "\n",
           what, types[op->type], op->expect, op->value, op->call_ns, op->return_ns);
}

static enum linear_verdict check_key(unsigned number)
{
    struct key *k = &keys[number];
    struct linear_result r;

    linear_check(k->ops, k->count, 0, STATES_MAX, &r);
    if (r.verdict == LINEAR_LEGAL)
        return r.verdict;
    problems++;
    printf("key %u: %zu operations are %s; %zu of them fit, then the value is %" PRIu64 "\n",
           number, k->count, r.verdict == LINEAR_ILLEGAL ? "not linearizable" : "too many to judge",
           r.taken, r.value);
    print_op("does not fit", &k->ops[r.blocked]);
    for (size_t i = 0; i < k->count; i++) {
        const struct linear_op *op = &k->ops[i], *bad = &k->ops[r.blocked];

        if (op != bad && op->call_ns <= bad->return_ns && op->return_ns >= bad->call_ns &&
            op->return_ns != LINEAR_UNKNOWN)
            print_op("beside it", op);
    }
    return r.verdict;
}

static void check_members(void)
{
    struct member *m, *next;

    HASH_ITER(hh, members, m, next)
    {
        const char *what = NULL;

        if (m->outcome == EXISTS)
            what = "was told that it exists, and only it could have made it";
        else if (m->outcome == OK && (m->lists & final_lists) != final_lists)
            what = "was acknowledged and is lost";
        else if ((m->lists & final_lists) != 0 && (m->lists & final_lists) != final_lists)
            what = "is there for some managers only";
        if (what != NULL && ++problems <= 20)
            printf("  %s %s (in lists %x of %x)\n", m->name, what, m->lists, final_lists);
        HASH_DEL(members, m);
        free(m);
    }
}

int main(int argc, char **argv)
{
    bool too_long = false;

    for (int i = 1; i < argc; i++)
        read_file(argv[i]);
    if (reads == 0 || final_lists == 0) {
        fputs("no reads or no final list: nothing to judge\n", stderr);
        return 2;
    }
    for (unsigned i = 0; i < KEYS_MAX; i++) {
        too_long |= check_key(i) == LINEAR_TOO_LONG;
        free(keys[i].ops);
    }
    check_members();
    printf("%zu reads, %zu exchanges (%zu unknown), %zu creations: %s\n", reads, exchanges,
           unknowns, adds,
           problems == 0 ? "legal"
           : too_long    ? "TOO LONG"
                         : "ILLEGAL");
    return problems == 0 ? 0 : 1;
}
