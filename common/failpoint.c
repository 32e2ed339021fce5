#include "common/failpoint.h"

#ifdef FAILPOINTS

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/mem.h"

enum { POINTS_MAX = 128, EXIT_STATUS = 137, NAME_BYTES_MAX = 64 };

enum action { ACTION_NONE, ACTION_EXIT, ACTION_SLEEP, ACTION_ERRNO, ACTION_CUT, ACTION_SKIP };

struct point {
    const char *name;
    enum action action;
    unsigned argument; /* milliseconds, errno or bytes */
    bool dies;         /* after a cut write */
    bool onwards;      /* every time from nth on */
    unsigned nth;      /* 0: every time */
    unsigned hits;
};

#define FILE_POINTS(class, step)                                                                   \
    { .name = class "." step ".before" }, { .name = class "." step ".after" },
#define STEP_POINT(name_, when) { .name = (name_) },
static struct point points[] = { FAILPOINT_FILES(FILE_POINTS) FAILPOINT_STEPS(STEP_POINT) };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool dying; /* the write that is being cut is the last thing this process does */

static struct point *find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(points); i++) {
        if (strcmp(points[i].name, name) == 0)
            return &points[i];
    }
    return NULL;
}

/* ---- arming: once, before main ---- */

static void refuse(const char *text)
{
    (void)fprintf(stderr, "SKEP_FAILPOINTS: \"%s\" is no point, action or count\n", text);
    exit(2);
}

static unsigned errno_of(const char *name)
{
    static const struct {
        const char *name;
        int value;
    } known[] = { { "EIO", EIO },       { "ENOSPC", ENOSPC }, { "EMFILE", EMFILE },
                  { "ENOMEM", ENOMEM }, { "EROFS", EROFS },   { "EDQUOT", EDQUOT } };

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(known[i].name, name) == 0)
            return (unsigned)known[i].value;
    }
    refuse(name);
    return 0;
}

static void parse_action(struct point *p, const char *action, const char *argument)
{
    static const struct {
        const char *name;
        enum action action;
        bool dies;
    } known[] = { { "exit", ACTION_EXIT, false },   { "sleep", ACTION_SLEEP, false },
                  { "errno", ACTION_ERRNO, false }, { "short", ACTION_CUT, false },
                  { "torn", ACTION_CUT, true },     { "skip", ACTION_SKIP, false } };

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(known[i].name, action) != 0)
            continue;
        p->action = known[i].action;
        p->dies = known[i].dies;
        p->argument =
            p->action == ACTION_ERRNO ? errno_of(argument) : (unsigned)strtoul(argument, NULL, 10);
        return;
    }
    refuse(action);
}

/* NAME=ACTION[:ARGUMENT][@N[+]]; text is changed. */
static void parse_one(char *text)
{
    char *action = strchr(text, '=');
    char *count = strchr(text, '@');
    char *argument;

    if (action == NULL)
        refuse(text);
    *action++ = '\0';
    struct point *p = find(text);
    if (p == NULL)
        refuse(text);
    if (count != NULL) {
        *count++ = '\0';
        p->nth = (unsigned)strtoul(count, &count, 10);
        p->onwards = *count == '+';
    }
    argument = strchr(action, ':');
    if (argument != NULL)
        *argument++ = '\0';
    parse_action(p, action, argument != NULL ? argument : "");
}

static void __attribute__((constructor)) arm(void)
{
    const char *wanted = getenv("SKEP_FAILPOINTS");
    char *copy, *next = NULL;

    if (wanted == NULL)
        return;
    if (strcmp(wanted, "list") == 0) {
        for (size_t i = 0; i < ARRAY_LEN(points); i++)
            puts(points[i].name);
        exit(0);
    }
    copy = xstrdup(wanted);
    for (char *one = strtok_r(copy, ";", &next); one != NULL; one = strtok_r(NULL, ";", &next))
        parse_one(one);
    free(copy);
}

/* ---- hitting ---- */

static void die(const char *name)
{
    (void)dprintf(STDERR_FILENO, "failpoint %s: exit\n", name);
    _exit(EXIT_STATUS);
}

/* What this hit is to do. */
static struct point count_hit(const char *name)
{
    struct point *p = find(name), now;

    ASSERT(p != NULL); /* every place is in the table */
    ASSERT(pthread_mutex_lock(&lock) == 0);
    p->hits++;
    now = *p;
    ASSERT(pthread_mutex_unlock(&lock) == 0);
    if (now.nth != 0 && now.hits != now.nth && !(now.onwards && now.hits > now.nth))
        now.action = ACTION_NONE;
    return now;
}

static int hit(const char *name, uint64_t *write_size)
{
    struct point p = count_hit(name);

    switch (p.action) {
    case ACTION_NONE:
        break;
    case ACTION_EXIT:
        die(name);
        break;
    case ACTION_SLEEP:
        (void)poll(NULL, 0, (int)p.argument);
        break;
    case ACTION_ERRNO:
        return (int)p.argument;
    case ACTION_CUT:
        if (write_size == NULL)
            break;
        *write_size = p.argument;
        dying = p.dies;
        return ENOSPC;
    case ACTION_SKIP:
        return FAILPOINT_SKIP;
    }
    return 0;
}

int failpoint_hit(const char *name)
{
    return hit(name, NULL);
}

void failpoint_torn(void)
{
    if (dying)
        die("torn write");
}

static const char *class_of(const char *file)
{
    static const struct {
        const char *start, *class;
    } known[] = { { "wal-reserve", "reserve" },
                  { "wal-", "wal" },
                  { "snap", "snap" },
                  { "broken-snap", "snap" },
                  { "member", "member" },
                  { "keyring", "keyring" },
                  { "", "dir" } };
    size_t i = 0;

    while (strncmp(file, known[i].start, strlen(known[i].start)) != 0)
        i++;
    return known[i].class;
}

int failpoint_file(const char *file, const char *step, uint64_t *write_size)
{
    char name[NAME_BYTES_MAX];

    (void)snprintf(name, sizeof(name), "%s.%s", class_of(file), step); /* constants: fits */
    return find(name) != NULL ? hit(name, write_size) : 0;
}

#endif
