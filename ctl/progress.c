#include "ctl/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/assert.h"
#include "common/text.h"
#include "ctl/json.h"

/* docker's numbers of states: an order for choosing, and the steps of a bar. 0: not counted. */
static uint32_t state_number(Skep__TaskState state)
{
    switch (state) {
    case SKEP__TASK_STATE__TASK_NEW:
        return 1;
    case SKEP__TASK_STATE__TASK_PENDING:
        return 3;
    case SKEP__TASK_STATE__TASK_ASSIGNED:
        return 4;
    case SKEP__TASK_STATE__TASK_ACCEPTED:
        return 5;
    case SKEP__TASK_STATE__TASK_PREPARING:
        return 6;
    case SKEP__TASK_STATE__TASK_READY:
        return 7;
    case SKEP__TASK_STATE__TASK_STARTING:
        return 8;
    case SKEP__TASK_STATE__TASK_RUNNING:
        return 9;
    case SKEP__TASK_STATE__TASK_COMPLETE:
        return 10;
    case SKEP__TASK_STATE__TASK_SHUTDOWN:
        return 11;
    case SKEP__TASK_STATE__TASK_FAILED:
        return 12;
    case SKEP__TASK_STATE__TASK_REJECTED:
        return 13;
    case SKEP__TASK_STATE__TASK_REMOVE:
    case SKEP__TASK_STATE__TASK_ORPHANED:
    case _SKEP__TASK_STATE_IS_INT_SIZE:
        break;
    }
    return 0;
}

static bool is_terminal(Skep__TaskState state)
{
    return state > SKEP__TASK_STATE__TASK_RUNNING;
}

static bool is_running(const struct progress_task *t)
{
    return !is_terminal(t->desired) && t->state == SKEP__TASK_STATE__TASK_RUNNING && !t->node_down;
}

void progress_deinit(struct progress *p)
{
    free(p->seen);
    *p = (struct progress){ 0 };
}

void progress_bar(char *mem, size_t size, uint32_t step, uint32_t steps, size_t width)
{
    size_t filled = steps > 0 ? width * MIN(step, steps) / steps : 0;
    size_t at = 0;

    ASSERT(size >= width + 4);
    mem[at++] = '[';
    for (size_t i = 0; i < filled; i++)
        mem[at++] = '=';
    mem[at++] = '>';
    for (size_t i = filled; i < width; i++)
        mem[at++] = ' ';
    mem[at++] = ']';
    mem[at] = '\0';
}

/* ---- lines ---- */

static struct progress_line *add_line(struct progress *p, const char *id)
{
    struct progress_line *l = &p->lines[p->line_count];

    ASSERT(p->line_count < ARRAY_LEN(p->lines));
    p->line_count++;
    *l = (struct progress_line){ 0 };
    (void)snprintf(l->id, sizeof(l->id), "%s", id);
    return l;
}

static void add_overall(struct progress *p)
{
    struct progress_line *l = add_line(p, "overall progress");

    (void)snprintf(l->text, sizeof(l->text), "%s%" PRIu64 " out of %" PRIu64 " tasks",
                   p->rollback ? "rolling back update: " : "", p->running, p->wanted);
}

/* One task's line: its error, or its state with a bar. */
static void set_task_line(struct progress_line *l, const struct progress_task *t, bool rollback,
                          uint32_t steps)
{
    uint32_t number = state_number(t->state);

    if (t->error[0] != '\0') {
        size_t size = text_prefix(t->error, PROGRESS_ERROR_CHARS);

        if (t->error[size] != '\0')
            size = text_prefix(t->error, PROGRESS_ERROR_CHARS - 1);
        (void)snprintf(l->text, sizeof(l->text), "%.*s%s", (int)MIN(size, PROGRESS_TEXT_MAX - 4),
                       t->error, t->error[size] != '\0' ? "\xe2\x80\xa6" : "");
        for (char *c = l->text; *c != '\0'; c++)
            *c = *c == '\n' || *c == '\r' ? ' ' : *c;
        return;
    }
    (void)snprintf(l->text, sizeof(l->text), "%-9s", text_task_state(t->state));
    l->step = rollback ? steps + 1 - MIN(number, steps) : MIN(number, steps);
    l->steps = steps;
}

/* ---- places ---- */

static void add_seen(struct progress *p, uint64_t slot, const char *node_id)
{
    struct progress_slot *s;

    for (size_t i = 0; i < p->seen_count; i++) {
        if (p->seen[i].slot == slot && strcmp(p->seen[i].node_id, node_id) == 0)
            return;
    }
    p->seen = xrealloc_array(p->seen, p->seen_count + 1, sizeof(*p->seen));
    s = &p->seen[p->seen_count++];
    s->slot = slot;
    (void)snprintf(s->node_id, sizeof(s->node_id), "%.31s", node_id);
}

/* Of several tasks in a place the one with the lowest desired state, then the lowest state: the one
 * that is still to come. */
static const struct progress_task *best_of(const struct progress_task *a,
                                           const struct progress_task *b)
{
    uint32_t desired_a = a != NULL ? state_number(a->desired) : UINT32_MAX;
    uint32_t desired_b = state_number(b->desired);

    if (desired_a != desired_b)
        return desired_a < desired_b ? a : b;
    return state_number(a->state) <= state_number(b->state) ? a : b;
}

static bool counts(const struct progress_task *t)
{
    return t->current && state_number(t->desired) != 0 && state_number(t->state) != 0;
}

/* ---- replicated ---- */

static int compare_slots(const void *a, const void *b)
{
    const struct progress_task *x = *(const struct progress_task *const *)a;
    const struct progress_task *y = *(const struct progress_task *const *)b;

    if (x->slot != y->slot)
        return x->slot < y->slot ? -1 : 1;
    return strcmp(x->id, y->id);
}

/* The best task of every slot, sorted by slot; malloc'd. A task on a node that is down leaves its
 * slot to its replacement. */
static const struct progress_task **by_slot(const struct progress_task *tasks, size_t count,
                                            size_t *ret_count)
{
    const struct progress_task **list = xmalloc((count + 1) * sizeof(*list));
    size_t used = 0;
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        if (counts(&tasks[i]) && !tasks[i].node_down)
            list[used++] = &tasks[i];
    }
    qsort(list, used, sizeof(*list), compare_slots);
    for (size_t i = 0; i < used; i++) {
        if (kept > 0 && list[kept - 1]->slot == list[i]->slot)
            list[kept - 1] = best_of(list[kept - 1], list[i]);
        else
            list[kept++] = list[i];
    }
    *ret_count = kept;
    return list;
}

static void update_replicated(struct progress *p, uint64_t replicas,
                              const struct progress_task *tasks, size_t count)
{
    size_t slots = 0;
    const struct progress_task **list = by_slot(tasks, count, &slots);

    p->running = 0;
    p->wanted = replicas;
    for (size_t i = 0; i < slots; i++) {
        p->running += is_running(list[i]) ? 1 : 0;
        if (replicas <= PROGRESS_BARS_MAX)
            add_seen(p, list[i]->slot, "");
    }
    p->converged = p->running == replicas;
    add_overall(p);
    for (uint64_t i = 1; replicas <= PROGRESS_BARS_MAX && i <= replicas; i++) {
        char id[PROGRESS_ID_MAX];
        struct progress_line *l;

        (void)snprintf(id, sizeof(id), "%" PRIu64 "/%" PRIu64, i, replicas);
        l = add_line(p, id);
        for (size_t k = 0; k < slots && i <= p->seen_count; k++) {
            if (list[k]->slot == p->seen[i - 1].slot)
                set_task_line(l, list[k], p->rollback, PROGRESS_STEPS);
        }
    }
    free(list);
}

/* ---- global ---- */

static int compare_nodes(const void *a, const void *b)
{
    const struct progress_task *x = *(const struct progress_task *const *)a;
    const struct progress_task *y = *(const struct progress_task *const *)b;
    int order = strcmp(x->node_id, y->node_id);

    return order != 0 ? order : strcmp(x->id, y->id);
}

/* One node's tasks. */
struct place {
    const struct progress_task *best; /* of the newest spec; NULL = none yet */
    bool wanted; /* old tasks count too: an update has converged when all are replaced */
};

static struct place place_of(const struct progress_task *const *tasks, size_t count)
{
    struct place place = { 0 };

    for (size_t i = 0; i < count; i++) {
        place.wanted |= !is_terminal(tasks[i]->desired);
        if (counts(tasks[i]))
            place.best = best_of(place.best, tasks[i]);
    }
    return place;
}

/* The end of the run of tasks of one node that begins at list[at]. */
static size_t run_end(const struct progress_task *const *list, size_t count, size_t at)
{
    size_t end = at + 1;

    while (end < count && strcmp(list[end]->node_id, list[at]->node_id) == 0)
        end++;
    return end;
}

static void add_global_lines(struct progress *p, const struct progress_task *const *list,
                             size_t count)
{
    for (size_t s = 0; s < p->seen_count && p->line_count < ARRAY_LEN(p->lines); s++) {
        for (size_t at = 0, end; at < count; at = end) {
            struct place place;
            char id[PROGRESS_ID_MAX];

            end = run_end(list, count, at);
            place = place_of(list + at, end - at);
            if (strcmp(list[at]->node_id, p->seen[s].node_id) != 0 || !place.wanted ||
                place.best == NULL)
                continue;
            (void)snprintf(id, sizeof(id), "%.12s", list[at]->node_id);
            set_task_line(add_line(p, id), place.best, p->rollback, PROGRESS_STEPS);
        }
    }
}

static void update_global(struct progress *p, const struct progress_task *tasks, size_t count)
{
    const struct progress_task **list = xmalloc((count + 1) * sizeof(*list));
    size_t used = 0;

    p->running = 0;
    p->wanted = 0;
    for (size_t i = 0; i < count; i++) {
        if (tasks[i].node_id[0] != '\0' && !tasks[i].node_down)
            list[used++] = &tasks[i];
    }
    qsort(list, used, sizeof(*list), compare_nodes);
    for (size_t at = 0, end; at < used; at = end) {
        struct place place;

        end = run_end(list, used, at);
        place = place_of(list + at, end - at);
        p->wanted += place.wanted ? 1 : 0;
        p->running += place.wanted && place.best != NULL && is_running(place.best) ? 1 : 0;
        if (place.wanted && p->wanted <= PROGRESS_BARS_MAX)
            add_seen(p, 0, list[at]->node_id);
    }
    p->converged = p->wanted > 0 && p->running == p->wanted;
    add_overall(p);
    if (p->wanted == 0)
        (void)snprintf(p->lines[0].text, sizeof(p->lines[0].text), "waiting for new tasks");
    if (p->wanted <= PROGRESS_BARS_MAX)
        add_global_lines(p, list, used);
    free(list);
}

/* ---- jobs ---- */

static void add_job_sum(struct progress *p, uint64_t completed, uint64_t active,
                        uint64_t concurrent)
{
    struct progress_line *l = add_line(p, "job progress");

    (void)snprintf(l->text, sizeof(l->text), "%" PRIu64 " out of %" PRIu64 " complete", completed,
                   p->wanted);
    l->step = (uint32_t)MIN(completed, UINT32_MAX);
    l->steps = (uint32_t)MIN(MAX(p->wanted, 1), UINT32_MAX);
    l = add_line(p, "active tasks");
    (void)snprintf(l->text, sizeof(l->text), "%" PRIu64 " out of %" PRIu64 " tasks", active,
                   concurrent);
}

static void update_replicated_job(struct progress *p, const Skep__ReplicatedJobMode *job,
                                  uint64_t iteration, const struct progress_task *tasks,
                                  size_t count)
{
    const struct progress_task *best[PROGRESS_BARS_MAX] = { 0 };
    uint64_t total = job->total_completions;
    uint64_t completed = 0;
    uint64_t active = 0;

    for (size_t i = 0; i < count; i++) {
        if (tasks[i].job_iteration != iteration || state_number(tasks[i].desired) == 0)
            continue;
        completed += tasks[i].state == SKEP__TASK_STATE__TASK_COMPLETE ? 1 : 0;
        active += is_terminal(tasks[i].state) ? 0 : 1;
        if (total <= PROGRESS_BARS_MAX && tasks[i].slot < total)
            best[tasks[i].slot] = best_of(best[tasks[i].slot], &tasks[i]);
    }
    p->running = completed;
    p->wanted = total;
    p->converged = completed >= total;
    add_job_sum(p, completed, active, MIN(job->max_concurrent, total - MIN(completed, total)));
    for (uint64_t i = 0; total <= PROGRESS_BARS_MAX && i < total; i++) {
        char id[PROGRESS_ID_MAX];
        struct progress_line *l;

        (void)snprintf(id, sizeof(id), "%" PRIu64 "/%" PRIu64, i + 1, total);
        l = add_line(p, id);
        if (best[i] != NULL)
            set_task_line(l, best[i], false, PROGRESS_STEPS + 1);
    }
}

static void update_global_job(struct progress *p, uint64_t iteration,
                              const struct progress_task *tasks, size_t count)
{
    const struct progress_task **list = xmalloc((count + 1) * sizeof(*list));
    uint64_t completed = 0;
    uint64_t active = 0;
    size_t used = 0;

    for (size_t i = 0; i < count; i++) {
        if (tasks[i].job_iteration != iteration || state_number(tasks[i].desired) == 0 ||
            tasks[i].node_id[0] == '\0')
            continue;
        list[used++] = &tasks[i];
        completed += tasks[i].state == SKEP__TASK_STATE__TASK_COMPLETE ? 1 : 0;
        active += is_terminal(tasks[i].state) ? 0 : 1;
    }
    qsort(list, used, sizeof(*list), compare_nodes);
    p->wanted = 0;
    for (size_t at = 0; at < used; at = run_end(list, used, at))
        p->wanted++;
    free(list);
    p->running = completed;
    p->converged = p->wanted > 0 && completed >= p->wanted;
    if (p->wanted == 0) {
        struct progress_line *l = add_line(p, "job progress");

        (void)snprintf(l->text, sizeof(l->text), "waiting for new tasks");
        return;
    }
    add_job_sum(p, completed, active, p->wanted - MIN(completed, p->wanted));
}

void progress_update(struct progress *p, const Skep__ServiceSpec *spec, uint64_t job_iteration,
                     const struct progress_task *tasks, size_t count)
{
    p->line_count = 0;
    p->converged = false;
    switch (spec->mode_case) {
    case SKEP__SERVICE_SPEC__MODE_REPLICATED:
        update_replicated(p, spec->replicated->replicas, tasks, count);
        break;
    case SKEP__SERVICE_SPEC__MODE_GLOBAL:
        update_global(p, tasks, count);
        break;
    case SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB:
        update_replicated_job(p, spec->replicated_job, job_iteration, tasks, count);
        break;
    case SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB:
        update_global_job(p, job_iteration, tasks, count);
        break;
    case SKEP__SERVICE_SPEC__MODE__NOT_SET:
    case _SKEP__SERVICE_SPEC__MODE__CASE_IS_INT_SIZE:
        break;
    }
}
