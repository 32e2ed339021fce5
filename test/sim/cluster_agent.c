/* Agents: what they take over from the store, how their containers behave, what they report. */
#include <string.h>

#include "common/assert.h"
#include "managerd/store/constraint.h"
#include "test/sim/cluster_internal.h"

void world_copy_id(char to[ID_CHARS + 1], const char *id)
{
    size_t size = strlen(id);

    ASSERT(size <= ID_CHARS);
    memcpy(to, id, size + 1);
}

bool world_node_takes(const Skep__Node *node, const Skep__Revision *r)
{
    return r != NULL && node->status->state == SKEP__NODE_STATE__NODE_READY &&
           node->spec->availability == SKEP__NODE_AVAILABILITY__AVAILABILITY_ACTIVE &&
           node_constraints_match(r->spec->task->placement, node);
}

struct world_agent *world_agent(struct world *w, const char *node_id)
{
    for (size_t i = w->agent_count; i-- > 0;) {
        if (strcmp(w->agents[i].node_id, node_id) == 0)
            return &w->agents[i];
    }
    UNREACHABLE();
}

/* ---- containers ---- */

static struct world_container *find(struct world_agent *a, const char *task_id)
{
    for (size_t i = 0; i < a->container_count; i++) {
        if (strcmp(a->containers[i].task_id, task_id) == 0)
            return &a->containers[i];
    }
    return NULL;
}

static struct world_container *add(struct world *w, struct world_agent *a, const Skep__Task *t)
{
    if (a->container_count == a->container_capacity) {
        a->container_capacity = MAX(a->container_capacity * 2, (size_t)8);
        a->containers =
            xrealloc_array(a->containers, a->container_capacity, sizeof(*a->containers));
    }
    struct world_container *c = &a->containers[a->container_count++];
    *c = (struct world_container){ .state = t->status->state, .since_ms = w->now_ms };
    world_copy_id(c->task_id, t->id);
    return c;
}

/* Seconds in "crash-5:1" for the prefix "crash-"; -1 when the image is another. */
static int64_t seconds_of(const char *image, const char *prefix)
{
    size_t size = strlen(prefix);

    return strncmp(image, prefix, size) == 0 ? strtol(image + size, NULL, 10) : -1;
}

static bool after(const struct world *w, uint64_t since_ms, int64_t seconds)
{
    return w->now_ms >= since_ms + (uint64_t)seconds * 1000;
}

static Skep__TaskState run_container(const struct world *w, const struct world_container *c,
                                     const char *image)
{
    int64_t crash = seconds_of(image, "crash-"), leave = seconds_of(image, "exit-");

    if (crash >= 0 && after(w, c->since_ms, crash))
        return SKEP__TASK_STATE__TASK_FAILED;
    if (leave >= 0 && after(w, c->since_ms, leave))
        return SKEP__TASK_STATE__TASK_COMPLETE;
    return c->state;
}

/* The next state of a container that is not to be stopped. */
static Skep__TaskState next_state(const struct world *w, const struct world_container *c,
                                  const char *image)
{
    int64_t slow = seconds_of(image, "slow-");

    if (c->state == SKEP__TASK_STATE__TASK_ASSIGNED)
        return SKEP__TASK_STATE__TASK_ACCEPTED;
    if (c->state == SKEP__TASK_STATE__TASK_ACCEPTED)
        return SKEP__TASK_STATE__TASK_PREPARING;
    if (c->state == SKEP__TASK_STATE__TASK_PREPARING) {
        if (strncmp(image, "reject", 6) == 0)
            return SKEP__TASK_STATE__TASK_REJECTED;
        return slow >= 0 && !after(w, c->since_ms, slow) ? c->state : SKEP__TASK_STATE__TASK_READY;
    }
    if (c->state == SKEP__TASK_STATE__TASK_READY)
        return c->desired > SKEP__TASK_STATE__TASK_READY ? SKEP__TASK_STATE__TASK_STARTING
                                                         : c->state;
    if (c->state == SKEP__TASK_STATE__TASK_STARTING)
        return strncmp(image, "fail", 4) == 0 ? SKEP__TASK_STATE__TASK_FAILED
                                              : SKEP__TASK_STATE__TASK_RUNNING;
    return c->state == SKEP__TASK_STATE__TASK_RUNNING ? run_container(w, c, image) : c->state;
}

static void advance(struct world *w, struct world_container *c, const char *image)
{
    Skep__TaskState state = c->state;

    if (c->state > SKEP__TASK_STATE__TASK_RUNNING)
        return;
    if (c->desired >= SKEP__TASK_STATE__TASK_SHUTDOWN && !c->stopping) {
        c->stopping = true;
        c->stop_since_ms = w->now_ms;
    }
    if (c->stopping) {
        int64_t stop = seconds_of(image, "stubborn-");
        bool started = c->state >= SKEP__TASK_STATE__TASK_STARTING;

        if (!started || stop < 0 || after(w, c->stop_since_ms, stop))
            state = SKEP__TASK_STATE__TASK_SHUTDOWN;
    } else {
        state = next_state(w, c, image);
    }
    if (state != c->state)
        c->since_ms = w->now_ms;
    c->state = state;
}

bool world_task_end(struct world *w, const char *task_id, Skep__TaskState state)
{
    for (size_t i = 0; i < w->agent_count; i++) {
        struct world_container *c = find(&w->agents[i], task_id);

        if (c == NULL || c->state > SKEP__TASK_STATE__TASK_RUNNING)
            continue;
        c->state = state;
        return true;
    }
    return false;
}

/* ---- one agent ---- */

static const char *image_of(const struct world *w, const char *task_id)
{
    const Skep__Task *t = store_task(w->store, task_id);
    const Skep__Revision *r = t != NULL ? store_task_revision(w->store, t) : NULL;

    return r != NULL ? r->spec->task->container->image : "";
}

/* Takes over what is assigned; forgets what is assigned no more. */
static void pull(struct world *w, struct world_agent *a)
{
    struct store_iter it;
    size_t kept = 0;

    for (const Skep__Task *t = store_node_tasks(w->store, a->node_id, &it); t != NULL;
         t = store_iter_next(&it)) {
        struct world_container *c = find(a, t->id);

        if (t->status->state < SKEP__TASK_STATE__TASK_ASSIGNED)
            continue;
        if (c == NULL)
            c = add(w, a, t);
        c->desired = MAX(c->desired, t->desired_state);
        if (t->status->state > SKEP__TASK_STATE__TASK_RUNNING)
            c->desired =
                MAX(c->desired, SKEP__TASK_STATE__TASK_SHUTDOWN); /* given up by managers */
    }
    for (size_t i = 0; i < a->container_count; i++) {
        const Skep__Task *t = store_task(w->store, a->containers[i].task_id);

        if (t != NULL && strcmp(t->node_id, a->node_id) == 0)
            a->containers[kept++] = a->containers[i];
    }
    a->container_count = kept;
}

static void push(struct world *w, const struct world_agent *a)
{
    for (size_t i = 0; i < a->container_count; i++) {
        const Skep__Task *t = store_task(w->store, a->containers[i].task_id);
        Skep__TaskDelta d = SKEP__TASK_DELTA__INIT;
        Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;

        if (t == NULL || a->containers[i].state <= t->status->state)
            continue;
        status.state = a->containers[i].state;
        status.timestamp = w->wall_ns;
        d.task_id = t->id;
        d.status = &status;
        store_tx_task(w->tx, &d);
    }
    if (store_tx_action_count(w->tx) > 0) {
        int rc = world_apply(w, w->tx);

        ASSERT(rc == 0); /* task deltas are never refused */
    }
}

void world_agents_tick(struct world *w)
{
    for (size_t i = 0; i < w->agent_count; i++) {
        struct world_agent *a = &w->agents[i];

        if (a->connected)
            pull(w, a);
        for (size_t k = 0; k < a->container_count; k++)
            advance(w, &a->containers[k], image_of(w, a->containers[k].task_id));
        if (a->connected)
            push(w, a);
    }
}
