/* sim --seed S | --seeds A..B [-j N] [--events N] [--kind plain|full|skep] [--trace] [--mutant N]
 * Exit status: 0 all passed, 1 a seed failed, 2 usage. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/clock.h"
#include "sim_revision.h"
#include "test/sim/link/link.h"
#include "test/sim/sim.h"

extern int raft_mutant; /* sim.c */
enum { MUTANTS_BUILT = RAFT_MUTANTS_BUILT };

enum { EVENTS_DEFAULT = 5000, JOBS_MAX = 64, RERUN_EVERY = 100 };

struct options {
    uint64_t first, last;
    uint64_t events;
    uint32_t jobs;
    bool trace;
    bool until_failure;
    bool shrink;
    enum sim_kind kind;
};

struct totals {
    uint64_t passed, failed, steps, operations, unrecoverable;
};

static bool parse_u64(const char *text, char **ret_end, uint64_t *ret_value)
{
    if (text == NULL || *text < '0' || *text > '9')
        return false;
    errno = 0;
    *ret_value = strtoull(text, ret_end, 10);
    return errno == 0;
}

static bool parse_seeds(const char *text, struct options *o)
{
    char *end;

    if (!parse_u64(text, &end, &o->first))
        return false;
    o->last = o->first;
    if (*end == '\0')
        return true;
    return strncmp(end, "..", 2) == 0 && parse_u64(end + 2, &end, &o->last) && *end == '\0' &&
           o->last >= o->first;
}

static bool parse_number(const char *text, uint64_t max, uint64_t *ret_value)
{
    char *end;

    return parse_u64(text, &end, ret_value) && *end == '\0' && *ret_value <= max;
}

static bool parse_kind(const char *text, enum sim_kind *ret_kind)
{
    static const char *const names[] = { "drawn", "plain", "full", "skep" };

    for (size_t i = 0; text != NULL && i < ARRAY_LEN(names); i++) {
        if (strcmp(text, names[i]) != 0)
            continue;
        *ret_kind = (enum sim_kind)i;
        return true;
    }
    return false;
}

static bool parse(int argc, char **argv, struct options *o)
{
    *o = (struct options){ .first = 1, .last = 1, .events = EVENTS_DEFAULT, .jobs = 1 };
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        uint64_t number;

        if (strcmp(argv[i], "--trace") == 0) {
            o->trace = true;
            continue;
        }
        if (strcmp(argv[i], "--shrink") == 0) {
            o->shrink = true;
            continue;
        }
        if (strcmp(argv[i], "--until-failure") == 0) {
            o->until_failure = true;
            continue;
        }
        if (strcmp(argv[i], "--seed") == 0 || strcmp(argv[i], "--seeds") == 0) {
            if (!parse_seeds(value, o))
                return false;
        } else if (strcmp(argv[i], "--events") == 0) {
            if (!parse_number(value, UINT64_MAX / 2, &o->events))
                return false;
        } else if (strcmp(argv[i], "--kind") == 0) {
            if (!parse_kind(value, &o->kind))
                return false;
        } else if (strncmp(argv[i], "-j", 2) == 0) {
            bool joined = argv[i][2] != '\0';

            if (!parse_number(joined ? argv[i] + 2 : value, JOBS_MAX, &number) || number == 0)
                return false;
            o->jobs = (uint32_t)number;
            if (joined)
                continue;
        } else if (strcmp(argv[i], "--mutant") == 0 && MUTANTS_BUILT) {
            if (!parse_number(value, 1000, &number))
                return false;
            raft_mutant = (int)number;
        } else {
            return false;
        }
        i++;
    }
    return true;
}

static struct sim *running;

static void last_words(void)
{
    if (running == NULL)
        return;
    fprintf(stderr, "in seed %" PRIu64 " after %" PRIu64 " events\n  ", running->seed,
            running->steps);
    sim_describe(running, stderr);
}

static bool fails(const struct options *o, uint64_t seed, uint64_t events)
{
    struct sim *s = sim_new(seed, o->kind, false);
    bool failed = !sim_run(s, events);

    sim_free(s);
    return failed;
}

/* The fewest events of the safety phase with which the seed still fails, by bisection: failing is
 * not monotonous, but nearly so. */
static uint64_t shrink(const struct options *o, uint64_t seed)
{
    uint64_t passes = 0, events = o->events;

    while (events - passes > 1) {
        uint64_t middle = passes + (events - passes) / 2;

        if (fails(o, seed, middle))
            events = middle;
        else
            passes = middle;
    }
    return events;
}

static void tell(const struct options *o, const struct sim *s)
{
    static const char *const kinds[] = { "", "plain", "full", "skep" };

    printf("seed %" PRIu64 " failed after %" PRIu64 " events: %s\n  ", s->seed, s->steps,
           s->reason);
    sim_describe(s, stdout);
    printf("  revision %s; again: sim --seed %" PRIu64 " --events %" PRIu64 " --kind %s --trace\n",
           SIM_REVISION, s->seed, o->shrink ? shrink(o, s->seed) : o->events, kinds[s->kind]);
    fflush(stdout);
}

/* Runs one seed; true when it passed. Every hundredth runs twice: the same seed, the same trace. */
static bool run_seed(const struct options *o, uint64_t seed, struct totals *t)
{
    struct sim *s = sim_new(seed, o->kind, o->trace);
    bool ok;

    running = s;
    if (o->trace)
        sim_describe(s, stdout);
    ok = sim_run(s, o->events);
    if (ok && seed % RERUN_EVERY == 0) {
        struct sim *again = sim_new(seed, o->kind, false);

        (void)sim_run(again, o->events);
        if (again->hash != s->hash || again->steps != s->steps)
            sim_fail(s, "O8: the second run of this seed went another way");
        ok = !s->failed;
        sim_free(again);
    }
    if (!ok)
        tell(o, s);
    running = NULL;
    t->passed += ok;
    t->failed += !ok;
    t->steps += s->steps;
    t->operations += s->completed;
    sim_free(s);
    return ok;
}

static void run_share(const struct options *o, uint32_t job, struct totals *t)
{
    for (uint64_t seed = o->first + job; seed <= o->last; seed += o->jobs) {
        if (!run_seed(o, seed, t) && o->until_failure)
            return;
    }
}

/* A seed that dies takes its share with it: say which job, so that it can be run alone. */
static bool run_jobs(const struct options *o, struct totals *t)
{
    int pipes[JOBS_MAX][2];
    bool ok = true;

    for (uint32_t job = 0; job < o->jobs; job++) {
        pid_t pid;

        if (pipe(pipes[job]) < 0)
            return false;
        fflush(stdout);
        pid = fork();
        if (pid < 0)
            return false;
        if (pid == 0) {
            struct totals mine = { 0 };

            run_share(o, job, &mine);
            fflush(stdout);
            _exit(write(pipes[job][1], &mine, sizeof(mine)) == (ssize_t)sizeof(mine) ? 0 : 3);
        }
        close(pipes[job][1]);
    }
    for (uint32_t job = 0; job < o->jobs; job++) {
        struct totals theirs;

        if (read(pipes[job][0], &theirs, sizeof(theirs)) == (ssize_t)sizeof(theirs)) {
            t->passed += theirs.passed;
            t->failed += theirs.failed;
            t->steps += theirs.steps;
            t->operations += theirs.operations;
        } else {
            printf("job %u died\n", job);
            t->failed++;
            ok = false;
        }
        close(pipes[job][0]);
    }
    while (wait(NULL) > 0)
        ;
    return ok;
}

int main(int argc, char **argv)
{
    struct options o;
    struct totals t = { 0 };
    uint64_t start_ns, took_ms;

    if (!parse(argc, argv, &o)) {
        fprintf(stderr,
                "usage: sim --seed S | --seeds A..B [-j N] [--events N] [--kind plain|full|skep]"
                " [--trace] [--until-failure] [--shrink] [--mutant N]\n");
        return 2;
    }
    link_set_last_words(last_words);
    start_ns = clock_now_ns();
    if (o.jobs > 1)
        (void)run_jobs(&o, &t); /* told by the totals */
    else
        run_share(&o, 0, &t);
    took_ms = (clock_now_ns() - start_ns) / 1000000 + 1;
    printf("%" PRIu64 " events, %" PRIu64 " operations, %" PRIu64 " ms, %" PRIu64 " events/s\n",
           t.steps, t.operations, took_ms, t.steps * 1000 / took_ms);
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", t.passed, t.failed);
    return t.failed == 0 ? 0 : 1;
}
