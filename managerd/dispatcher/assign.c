/* What a node has to run, as differences to what its agent knows.
 *
 * A session remembers the set of tasks its last answer described (known) and the ids that changed
 * since (dirty). A task is told of when it is assigned, when its desired state rises and when it
 * goes away; the statuses the agent itself reported are not sent back to it. */
#include "managerd/dispatcher/internal.h"

#include <string.h>

#include "common/assert.h"

/* Tasks are an agent's business once a node is chosen for good. */
static bool task_is_assigned(const Skep__Task *t, const char *node_id)
{
    return strcmp(t->node_id, node_id) == 0 && t->status != NULL &&
           t->status->state >= SKEP__TASK_STATE__TASK_ASSIGNED;
}

static bool change_matters(const Skep__Task *before, const Skep__Task *after)
{
    if (before == NULL || after == NULL)
        return true;
    return before->desired_state != after->desired_state ||
           before->status->state < SKEP__TASK_STATE__TASK_ASSIGNED ||
           before->n_networks != after->n_networks;
}

void assign_tell(struct dispatcher *d, const char *node_id, const char *task_id)
{
    struct session *s = session_find(d, node_id);

    if (s == NULL || s->closed)
        return;
    if (s->incomplete && s->resume_after[0] == '\0')
        return; /* a complete set is due anyway */
    if (drain_holds(d, task_id)) {
        (void)known_remove(&s->dirty, task_id); /* told when the hold is over */
        return;
    }
    known_add(&s->dirty, task_id);
    if (s->parked != NULL)
        session_queue(d, s);
}

void assign_mark(struct dispatcher *d, const struct store_event *ev)
{
    const Skep__Task *before = (const Skep__Task *)ev->before;
    const Skep__Task *after = (const Skep__Task *)ev->after;
    const Skep__Task *t = after != NULL ? after : before;

    if (t->node_id[0] == '\0' || !change_matters(before, after))
        return;
    assign_tell(d, t->node_id, t->id);
}

bool assign_pending(const struct session *s)
{
    return s->incomplete || s->dirty != NULL;
}

struct answer {
    struct arena *arena;
    const struct core_env *env;
    Skep__AssignmentsResponse *out;
    size_t bytes;
    size_t task_max, removed_max;
};

static void reserve(struct answer *an, void ***array, size_t count, size_t *max)
{
    if (count < *max)
        return;
    *max = *max == 0 ? 16 : *max * 2;
    void **grown = arena_array(an->arena, *max, sizeof(void *));
    if (count > 0)
        memcpy(grown, *array, count * sizeof(void *));
    *array = grown;
}

/* A service without a log driver of its own gets the cluster's default, at the latest moment: now.
 */
static Skep__ServiceSpec *with_log_driver(const struct answer *an, const Skep__ServiceSpec *spec)
{
    const Skep__Cluster *cluster = store_cluster(an->env->store);

    if (spec->task->log_driver != NULL || cluster == NULL || cluster->spec->log_driver == NULL)
        return (Skep__ServiceSpec *)spec;
    Skep__ServiceSpec *copy = arena_dup(an->arena, spec, sizeof(*spec));

    copy->task = arena_dup(an->arena, spec->task, sizeof(*spec->task));
    copy->task->log_driver = cluster->spec->log_driver;
    return copy;
}

/* The settings that a network takes over from a --config-only one. */
static Skep__Network *with_config(const struct answer *an, const Skep__Network *n)
{
    const struct store *s = an->env->store;
    const char *from = n->spec->config_from;
    const Skep__Network *config = NULL;

    if (from[0] != '\0')
        config = (const Skep__Network *)store_find_name(s, SKEP__KIND__KIND_NETWORK, from);
    if (config == NULL && from[0] != '\0')
        config = (const Skep__Network *)store_get(s, SKEP__KIND__KIND_NETWORK, from);
    if (config == NULL || config->spec == NULL)
        return (Skep__Network *)n;
    Skep__Network *copy = arena_dup(an->arena, n, sizeof(*n));
    Skep__NetworkSpec *spec = arena_dup(an->arena, n->spec, sizeof(*n->spec));
    Skep__Driver *driver = ARENA_NEW(an->arena, Skep__Driver);

    skep__driver__init(driver);
    if (spec->driver != NULL)
        *driver = *spec->driver;
    if (config->spec->driver != NULL) {
        driver->n_options = config->spec->driver->n_options;
        driver->options = config->spec->driver->options;
    }
    spec->driver = driver;
    spec->n_ipam = config->spec->n_ipam;
    spec->ipam = config->spec->ipam;
    spec->ipv6 = config->spec->ipv6;
    spec->internal = spec->internal || config->spec->internal;
    copy->spec = spec;
    return copy;
}

/* Networks that the node's engine makes. */
static void add_networks(const struct answer *an, const Skep__TaskSpec *task,
                         Skep__TaskAssignment *as)
{
    as->networks = arena_array(an->arena, task->n_networks, sizeof(*as->networks));
    for (size_t i = 0; i < task->n_networks; i++) {
        const Skep__Network *n = (const Skep__Network *)store_get(
            an->env->store, SKEP__KIND__KIND_NETWORK, task->networks[i]->target);

        if (n != NULL && n->spec != NULL && !network_is_overlay(n))
            as->networks[as->n_networks++] = with_config(an, n);
    }
}

static void answer_task(struct answer *an, const Skep__Task *t)
{
    const Skep__Revision *revision = store_task_revision(an->env->store, t);

    if (revision == NULL || revision->spec == NULL)
        return; /* its service is gone and so will the task be */
    Skep__TaskAssignment *as = ARENA_NEW(an->arena, Skep__TaskAssignment);

    skep__task_assignment__init(as);
    as->task = (Skep__Task *)t;
    as->spec = with_log_driver(an, revision->spec);
    as->service_name = revision->spec->annotations->name;
    as->service_labels = revision->spec->annotations->labels;
    as->n_service_labels = revision->spec->annotations->n_labels;
    add_networks(an, revision->spec->task, as);
    as->registry_auth = revision->spec->task->container->registry_auth;
    reserve(an, (void ***)&an->out->tasks, an->out->n_tasks, &an->task_max);
    an->out->tasks[an->out->n_tasks++] = as;
    an->bytes += skep__task_assignment__get_packed_size(as);
}

static void answer_removed(struct answer *an, const char *id)
{
    reserve(an, (void ***)&an->out->removed_tasks, an->out->n_removed_tasks, &an->removed_max);
    an->out->removed_tasks[an->out->n_removed_tasks++] = arena_strdup(an->arena, id);
    an->bytes += ID_CHARS + 2;
}

static void answer_complete(struct session *s, struct answer *an)
{
    struct store_iter it;
    const Skep__Task *t;

    if (s->resume_after[0] == '\0') {
        known_clear(&s->known);
        known_clear(&s->dirty);
        an->out->complete = true;
    }
    for (t = store_node_tasks(an->env->store, s->node_id, &it); t != NULL;
         t = store_iter_next(&it)) {
        if (strcmp(t->id, s->resume_after) <= 0 || !task_is_assigned(t, s->node_id))
            continue;
        if (an->bytes > DISPATCHER_ASSIGNMENT_BYTES_MAX) {
            an->out->more = true;
            return;
        }
        answer_task(an, t);
        known_add(&s->known, t->id);
        memcpy(s->resume_after, t->id, strlen(t->id) + 1);
    }
    s->incomplete = false;
    s->resume_after[0] = '\0';
}

static void answer_changes(struct session *s, struct answer *an)
{
    struct known_task *k, *next;

    HASH_ITER(hh, s->dirty, k, next)
    {
        if (an->bytes > DISPATCHER_ASSIGNMENT_BYTES_MAX) {
            an->out->more = true;
            return;
        }
        const Skep__Task *t = store_task(an->env->store, k->id);

        if (t != NULL && task_is_assigned(t, s->node_id)) {
            answer_task(an, t);
            known_add(&s->known, k->id);
        } else if (known_remove(&s->known, k->id)) {
            answer_removed(an, k->id);
        }
        HASH_DEL(s->dirty, k);
        free(k);
    }
}

void assign_answer(struct session *s, const struct core_env *env, struct arena *a,
                   Skep__AssignmentsResponse *ret)
{
    struct answer an = { .arena = a, .env = env, .out = ret };

    skep__assignments_response__init(ret);
    if (s->incomplete)
        answer_complete(s, &an);
    else
        answer_changes(s, &an);
    ret->token = ++s->token;
}
