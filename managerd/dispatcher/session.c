/* Registration and heartbeats. */
#include "managerd/dispatcher/dispatcher.h"

#include <inttypes.h>
#include <string.h>

#include "common/assert.h"
#include "managerd/dispatcher/internal.h"

enum { HEARTBEAT_DEFAULT_MS = 5000, HEARTBEAT_MIN_MS = 100 };

struct session *session_find(const struct dispatcher *d, const char *node_id)
{
    struct session *s;

    HASH_FIND_STR(d->sessions, node_id, s);
    return s;
}

void known_add(struct known_task **set, const char *id)
{
    struct known_task *k;

    HASH_FIND_STR(*set, id, k);
    if (k != NULL)
        return;
    k = xcalloc(1, sizeof(*k));
    ASSERT(strlen(id) <= ID_CHARS);
    memcpy(k->id, id, strlen(id) + 1);
    HASH_ADD_STR(*set, id, k);
}

bool known_remove(struct known_task **set, const char *id)
{
    struct known_task *k;

    HASH_FIND_STR(*set, id, k);
    if (k == NULL)
        return false;
    HASH_DEL(*set, k);
    free(k);
    return true;
}

void known_clear(struct known_task **set)
{
    struct known_task *k, *next;

    HASH_ITER(hh, *set, k, next)
    {
        HASH_DEL(*set, k);
        free(k);
    }
}

void session_queue(struct dispatcher *d, struct session *s)
{
    if (s->queued)
        return;
    s->queued = true;
    s->queue_next = d->queue;
    d->queue = s;
}

void session_drop(struct dispatcher *d, struct session *s)
{
    struct session **at = &d->queue;

    while (s->queued && *at != NULL) {
        if (*at == s) {
            *at = s->queue_next;
            break;
        }
        at = &(*at)->queue_next;
    }
    HASH_DEL(d->sessions, s);
    known_clear(&s->known);
    known_clear(&s->dirty);
    networks_forget(d, s);
    free(s);
}

void session_return_call(struct dispatcher *d, void **parked)
{
    if (*parked == NULL)
        return;
    d->returned = xrealloc_array(d->returned, d->returned_count + 1, sizeof(*d->returned));
    d->returned[d->returned_count++] = TAKE_PTR(*parked);
}

void session_return_calls(struct dispatcher *d, struct session *s)
{
    session_return_call(d, &s->parked);
    session_return_call(d, &s->net_parked);
}

uint64_t heartbeat_period_ms(const struct core_env *env)
{
    const Skep__Cluster *cluster = store_cluster(env->store);
    int64_t ns = cluster != NULL && cluster->spec != NULL ? cluster->spec->heartbeat_period : 0;

    if (ns <= 0)
        return HEARTBEAT_DEFAULT_MS;
    return MAX((uint64_t)ns / 1000000u, (uint64_t)HEARTBEAT_MIN_MS);
}

/* Period plus or minus a tenth, so that thousands of agents do not beat in step. */
static uint32_t jittered_beat_ms(const struct core_env *env)
{
    uint64_t period = heartbeat_period_ms(env);
    uint64_t low = period - period / 10;

    return (uint32_t)prng_range(env->prng, low, low + period / 5);
}

static uint64_t session_deadline(const struct core_env *env)
{
    return env->now_ms + DISPATCHER_TTL_BEATS * heartbeat_period_ms(env);
}

static int register_allowed(struct session *s, const struct core_env *env, struct err *e)
{
    if (env->now_ms - s->register_window_ms >= DISPATCHER_REGISTER_WINDOW_MS) {
        s->register_window_ms = env->now_ms;
        s->register_count = 0;
    }
    if (s->register_count >= DISPATCHER_REGISTER_MAX)
        return err_set(e, ERR_RATE, "node %s registers more than %d times in %d s", s->node_id,
                       DISPATCHER_REGISTER_MAX, DISPATCHER_REGISTER_WINDOW_MS / 1000);
    s->register_count++;
    return 0;
}

static struct session *session_of_node(struct dispatcher *d, const char *node_id)
{
    struct session *s = session_find(d, node_id);

    if (s == NULL) {
        s = xcalloc(1, sizeof(*s));
        memcpy(s->node_id, node_id, strlen(node_id) + 1);
        s->closed = true;
        HASH_ADD_STR(d->sessions, node_id, s);
    }
    return s;
}

static void queue_ready(struct dispatcher *d, const struct dispatcher_call *call,
                        const Skep__NodeDescription *description)
{
    struct node_change *c = xcalloc(1, sizeof(*c));

    memcpy(c->node_id, call->node_id, strlen(call->node_id) + 1);
    c->ready = true;
    (void)snprintf(c->address, sizeof(c->address), "%s", call->address);
    if (description != NULL) {
        size_t size = skep__node_description__get_packed_size(description);
        CLEANUP_FREE uint8_t *packed = xmalloc(size);

        (void)skep__node_description__pack(description, packed);
        c->description = skep__node_description__unpack(NULL, size, packed);
        ASSERT(c->description != NULL);
    }
    node_change_add(d, c);
}

/* Of the cluster; one that was never forced anew is the first. */
static uint64_t generation_of(const struct store *s)
{
    const Skep__Cluster *cluster = store_cluster(s);

    return cluster != NULL ? MAX(cluster->generation, (uint64_t)1) : 1;
}

int dispatcher_open(struct dispatcher *d, const struct dispatcher_call *c,
                    const Skep__SessionRequest *req, Skep__SessionResponse *ret, struct err *e)
{
    const Skep__Node *node = store_node(c->env->store, c->node_id);

    ASSERT(d->leading);
    if (node == NULL)
        return err_set(e, ERR_NOT_FOUND,
                       "node %s is not part of this cluster: it was removed; leave and join again",
                       c->node_id);
    if (req->generation > generation_of(c->env->store))
        return err_set(e, ERR_PERMISSION,
                       "this manager is of generation %" PRIu64 " of the cluster, node %s has "
                       "served %" PRIu64 ": --force-new-cluster left it behind; let it leave and "
                       "join again",
                       generation_of(c->env->store), c->node_id, req->generation);
    if (req->description == NULL || req->description->resources == NULL)
        return err_set(e, ERR_INVALID, "description: missing");
    if (HASH_COUNT(d->sessions) >= DISPATCHER_SESSIONS_MAX)
        return err_set(e, ERR_TOO_BIG, "more than %d sessions", DISPATCHER_SESSIONS_MAX);

    struct session *s = session_of_node(d, c->node_id);
    int rc = register_allowed(s, c->env, e);
    if (rc < 0)
        return rc;
    if (!s->closed && strncmp(s->boot_id, req->boot_id, sizeof(s->boot_id) - 1) != 0)
        return err_set(e, ERR_CONFLICT,
                       "another machine is connected as node %s; is this host a clone? "
                       "leave and join again here, or wait until the other one is gone",
                       c->node_id);

    session_return_calls(d, s);
    known_clear(&s->known);
    known_clear(&s->dirty);
    s->id = id_from_prng(c->env->prng);
    (void)snprintf(s->boot_id, sizeof(s->boot_id), "%s", req->boot_id);
    s->deadline_ms = session_deadline(c->env);
    s->closed = false;
    s->token = 0;
    s->resume_after[0] = '\0';
    s->net_asked = false;
    s->net_token = 0;
    networks_reset(d, s); /* what others wait for stays owed until it asks on */
    queue_ready(d, c, req->description);

    skep__session_response__init(ret);
    ret->session_id = arena_strdup(c->arena, s->id.s);
    ret->heartbeat_ms = jittered_beat_ms(c->env);
    ret->generation = generation_of(c->env->store);
    ret->node = (Skep__Node *)node; /* borrowed: the answer is packed before the next apply */
    return 0;
}

struct session *session_check(struct dispatcher *d, const char *node_id, const char *session_id,
                              struct err *e)
{
    struct session *s = session_find(d, node_id);

    if (s == NULL || s->closed || strcmp(s->id.s, session_id) != 0) {
        (void)err_set(e, ERR_STALE, "session invalid: register again"); /* NULL says so */
        return NULL;
    }
    return s;
}

int dispatcher_beat(struct dispatcher *d, const struct dispatcher_call *c,
                    const Skep__HeartbeatRequest *req, uint32_t *ret_beat_ms, struct err *e)
{
    struct session *s = session_check(d, c->node_id, req->session_id, e);

    if (s == NULL)
        return -ERR_STALE;
    s->deadline_ms = session_deadline(c->env);
    if (req->description != NULL)
        queue_ready(d, c, req->description);
    *ret_beat_ms = jittered_beat_ms(c->env);
    return 0;
}

int dispatcher_assignments(struct dispatcher *d, const struct dispatcher_call *c,
                           const Skep__AssignmentsRequest *req, Skep__AssignmentsResponse *ret,
                           struct err *e)
{
    struct session *s = session_check(d, c->node_id, req->session_id, e);

    if (s == NULL)
        return -ERR_STALE;
    session_return_call(d, &s->parked);
    /* The answer to `token` never arrived: what the agent knows is unknown, so all of it again. */
    if (req->since == 0 || req->since != s->token) {
        s->incomplete = true;
        s->resume_after[0] = '\0';
    }
    if (assign_pending(s)) {
        assign_answer(s, c->env, c->arena, ret);
        return 0;
    }
    s->parked = c->call;
    s->parked_until_ms = c->until_ms;
    return DISPATCHER_PARKED;
}

bool dispatcher_session_valid(const struct dispatcher *d, const char *node_id,
                              const char *session_id)
{
    const struct session *s = session_find(d, node_id);

    return s != NULL && !s->closed && strcmp(s->id.s, session_id) == 0;
}

static struct report_batch *batch_new(const struct dispatcher_call *c,
                                      const Skep__TaskStatusRequest *req)
{
    struct report_batch *b = xcalloc(1, sizeof(*b));
    size_t size = skep__task_status_request__get_packed_size(req);
    CLEANUP_FREE uint8_t *packed = xmalloc(size);

    (void)skep__task_status_request__pack(req, packed);
    b->request = skep__task_status_request__unpack(NULL, size, packed);
    ASSERT(b->request != NULL);
    b->call = c->call;
    memcpy(b->node_id, c->node_id, strlen(c->node_id) + 1);
    return b;
}

int dispatcher_report(struct dispatcher *d, const struct dispatcher_call *c,
                      const Skep__TaskStatusRequest *req, struct err *e)
{
    struct session *s = session_check(d, c->node_id, req->session_id, e);

    if (s == NULL)
        return -ERR_STALE;
    if (req->n_updates > DISPATCHER_REPORTS_PER_CALL_MAX)
        return err_set(e, ERR_TOO_BIG, "updates: %zu in one call, at most %d", req->n_updates,
                       DISPATCHER_REPORTS_PER_CALL_MAX);
    if (d->report_count + req->n_updates > DISPATCHER_REPORTS_MAX)
        return err_set(e, ERR_BUSY, "%zu status reports are waiting; try again", d->report_count);
    for (size_t i = 0; i < req->n_updates; i++) {
        if (req->updates[i]->status == NULL)
            return err_set(e, ERR_INVALID, "updates[%zu].status: missing", i);
    }
    s->deadline_ms = MAX(s->deadline_ms, session_deadline(c->env)); /* a report is a sign of life */
    d->report_count += req->n_updates;
    report_queue_push(&d->waiting, batch_new(c, req));
    return 0;
}
