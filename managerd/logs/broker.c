#include "managerd/logs/broker.h"

#include <string.h>
#include <uthash.h>

#include "common/assert.h"

struct message {
    struct message *next;
    int64_t timestamp;
    bool is_stderr;
    char task_id[ID_CHARS + 1], service_id[ID_CHARS + 1], node_id[ID_CHARS + 1];
    size_t size;
    uint8_t data[];
};

/* A node that a finite subscription still waits for. */
struct awaited {
    char node_id[ID_CHARS + 1];
    struct awaited *next;
};

struct subscription {
    struct id id;
    Skep__LogsOpenRequest *request; /* owned copy */
    struct awaited *awaited;
    struct message *first, **last;
    size_t bytes;
    uint64_t dropped;
    char *warnings[16];
    size_t warning_count;
    uint64_t read_ms; /* last time somebody read */
    void *parked;
    uint64_t parked_until_ms;
    UT_hash_handle hh;
};

/* An agent's waiting question. */
struct listener {
    char node_id[ID_CHARS + 1];
    void *parked;
    uint64_t parked_until_ms;
    uint64_t seen; /* token it knows */
    UT_hash_handle hh;
};

struct log_broker {
    struct subscription *subscriptions;
    struct listener *listeners;
    uint64_t token; /* rises whenever some agent's list may differ */
    void **returned;
    size_t returned_count;
};

struct log_broker *log_broker_new(void)
{
    struct log_broker *b = xcalloc(1, sizeof(*b));

    b->token = 1;
    return b;
}

static void subscription_free(struct log_broker *b, struct subscription *s)
{
    HASH_DEL(b->subscriptions, s);
    b->token++;
    while (s->first != NULL) {
        struct message *next = s->first->next;

        free(s->first);
        s->first = next;
    }
    while (s->awaited != NULL) {
        struct awaited *next = s->awaited->next;

        free(s->awaited);
        s->awaited = next;
    }
    for (size_t i = 0; i < s->warning_count; i++)
        free(s->warnings[i]);
    skep__logs_open_request__free_unpacked(s->request, NULL);
    free(s);
}

void log_broker_clear(struct log_broker *b)
{
    struct subscription *s, *s_next;
    struct listener *l, *l_next;

    HASH_ITER(hh, b->subscriptions, s, s_next)
    subscription_free(b, s);
    HASH_ITER(hh, b->listeners, l, l_next)
    {
        HASH_DEL(b->listeners, l);
        free(l);
    }
    free(b->returned);
    b->returned = NULL;
    b->returned_count = 0;
}

void log_broker_free(struct log_broker *b)
{
    if (b == NULL)
        return;
    log_broker_clear(b);
    free(b);
}

static struct subscription *find(const struct log_broker *b, const char *id)
{
    struct subscription *s;

    HASH_FIND_STR(b->subscriptions, id, s);
    return s;
}

static void give_back(struct log_broker *b, void *call)
{
    if (call == NULL)
        return;
    b->returned = xrealloc_array(b->returned, b->returned_count + 1, sizeof(*b->returned));
    b->returned[b->returned_count++] = call;
}

/* ---- what is selected ---------------------------------------------------------------------------
 */

static bool listed(char *const *ids, size_t count, const char *id)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(ids[i], id) == 0)
            return true;
    }
    return false;
}

static bool selected(const Skep__LogsOpenRequest *r, const Skep__Task *t)
{
    return listed(r->service_ids, r->n_service_ids, t->service_id) ||
           listed(r->task_ids, r->n_task_ids, t->id) ||
           (t->node_id[0] != '\0' && listed(r->node_ids, r->n_node_ids, t->node_id));
}

static void warn(struct subscription *s, const char *what, const char *id, const char *why)
{
    if (s->warning_count < ARRAY_LEN(s->warnings))
        s->warnings[s->warning_count++] = xasprintf("%s %s %s", what, id, why);
}

static void await(struct subscription *s, const char *node_id)
{
    for (struct awaited *a = s->awaited; a != NULL; a = a->next) {
        if (strcmp(a->node_id, node_id) == 0)
            return;
    }
    struct awaited *a = xcalloc(1, sizeof(*a));

    memcpy(a->node_id, node_id, strlen(node_id) + 1);
    a->next = s->awaited;
    s->awaited = a;
}

static void expect_task(struct subscription *s, const struct core_env *env, const Skep__Task *t)
{
    const Skep__Node *node = store_node(env->store, t->node_id);

    if (t->node_id[0] == '\0') {
        if (t->desired_state <= SKEP__TASK_STATE__TASK_RUNNING)
            warn(s, "task", t->id, "has not been scheduled");
    } else if (node == NULL || node->status == NULL ||
               node->status->state != SKEP__NODE_STATE__NODE_READY) {
        warn(s, "node", t->node_id, "is not available");
    } else {
        await(s, t->node_id);
    }
}

static void expect_all(struct subscription *s, const struct core_env *env)
{
    const Skep__LogsOpenRequest *r = s->request;
    struct store_iter it;
    const Skep__Task *t;

    for (size_t i = 0; i < r->n_service_ids; i++) {
        for (t = store_service_tasks(env->store, r->service_ids[i], &it); t != NULL;
             t = store_iter_next(&it))
            expect_task(s, env, t);
    }
    for (size_t i = 0; i < r->n_node_ids; i++) {
        for (t = store_node_tasks(env->store, r->node_ids[i], &it); t != NULL;
             t = store_iter_next(&it))
            expect_task(s, env, t);
    }
    for (size_t i = 0; i < r->n_task_ids; i++) {
        t = store_task(env->store, r->task_ids[i]);
        if (t != NULL)
            expect_task(s, env, t);
    }
}

/* ---- readers ------------------------------------------------------------------------------------
 */

int log_broker_open(struct log_broker *b, const struct core_env *env,
                    const Skep__LogsOpenRequest *req, struct id *ret_id, struct err *e)
{
    size_t selectors = req->n_service_ids + req->n_task_ids + req->n_node_ids;

    if (selectors == 0)
        return err_set(e, ERR_INVALID, "name a service, a task or a node");
    if (selectors > LOGS_SELECTORS_MAX)
        return err_set(e, ERR_TOO_BIG, "%zu selectors, at most %d", selectors, LOGS_SELECTORS_MAX);
    if (HASH_COUNT(b->subscriptions) >= LOGS_SUBSCRIPTIONS_MAX)
        return err_set(e, ERR_BUSY, "%d logs are being read already; try again later",
                       LOGS_SUBSCRIPTIONS_MAX);
    struct subscription *s = xcalloc(1, sizeof(*s));
    size_t size = skep__logs_open_request__get_packed_size(req);
    CLEANUP_FREE uint8_t *packed = xmalloc(size);

    (void)skep__logs_open_request__pack(req, packed);
    s->request = skep__logs_open_request__unpack(NULL, size, packed);
    ASSERT(s->request != NULL);
    s->id = id_from_prng(env->prng);
    s->last = &s->first;
    s->read_ms = env->now_ms;
    expect_all(s, env);
    HASH_ADD_KEYPTR(hh, b->subscriptions, s->id.s, ID_CHARS, s);
    b->token++;
    *ret_id = s->id;
    return 0;
}

static bool finished(const struct subscription *s)
{
    return !s->request->follow && s->awaited == NULL;
}

static void fill_message(struct message *m, Skep__LogMessage *out, struct arena *a)
{
    skep__log_message__init(out);
    out->timestamp = m->timestamp;
    out->is_stderr = m->is_stderr;
    out->task_id = arena_strdup(a, m->task_id);
    out->service_id = arena_strdup(a, m->service_id);
    out->node_id = arena_strdup(a, m->node_id);
    out->data = (ProtobufCBinaryData){ .len = m->size, .data = arena_dup(a, m->data, m->size) };
}

static void read_answer(struct log_broker *b, struct subscription *s, const struct core_env *env,
                        struct arena *a, Skep__LogsReadResponse *ret)
{
    size_t count = 0, bytes = 0;

    skep__logs_read_response__init(ret);
    for (struct message *m = s->first; m != NULL && bytes < LOGS_ANSWER_BYTES_MAX; m = m->next) {
        count++;
        bytes += m->size + sizeof(*m);
    }
    ret->messages = arena_array(a, count, sizeof(*ret->messages));
    while (ret->n_messages < count) {
        struct message *m = s->first;

        ret->messages[ret->n_messages] = ARENA_NEW(a, Skep__LogMessage);
        fill_message(m, ret->messages[ret->n_messages++], a);
        s->bytes -= m->size + sizeof(*m);
        s->first = m->next;
        free(m);
    }
    if (s->first == NULL)
        s->last = &s->first;
    s->read_ms = env->now_ms;
    ret->dropped = s->dropped;
    s->dropped = 0;
    ret->done = finished(s) && s->first == NULL;
    if (ret->done) {
        ret->warnings = arena_array(a, s->warning_count, sizeof(char *));
        for (size_t i = 0; i < s->warning_count; i++)
            ret->warnings[i] = arena_strdup(a, s->warnings[i]);
        ret->n_warnings = s->warning_count;
        subscription_free(b, s);
    }
}

int log_broker_read(struct log_broker *b, const struct log_call *c, const char *id,
                    Skep__LogsReadResponse *ret, struct err *e)
{
    struct subscription *s = find(b, id);

    if (s == NULL)
        return err_set(e, ERR_STALE,
                       "log subscription is over: the leader changed, or nobody read for %d s",
                       LOGS_IDLE_MS_MAX / 1000);
    give_back(b, TAKE_PTR(s->parked));
    s->read_ms = c->env->now_ms;
    if (s->first != NULL || finished(s) || c->until_ms <= c->env->now_ms) {
        read_answer(b, s, c->env, c->arena, ret);
        return 0;
    }
    s->parked = c->call;
    s->parked_until_ms = c->until_ms;
    return LOGS_PARKED;
}

/* ---- agents -------------------------------------------------------------------------------------
 */

static size_t tasks_on_node(const struct subscription *s, const struct core_env *env,
                            const char *node_id, struct arena *a, char ***ret)
{
    struct store_iter it;
    const Skep__Task *t;
    size_t count = 0, capacity = 0;

    *ret = NULL;
    for (t = store_node_tasks(env->store, node_id, &it); t != NULL; t = store_iter_next(&it)) {
        if (!selected(s->request, t))
            continue;
        if (count == capacity) {
            char **grown = arena_array(a, capacity = capacity * 2 + 8, sizeof(char *));

            if (count > 0)
                memcpy(grown, *ret, count * sizeof(char *));
            *ret = grown;
        }
        (*ret)[count++] = t->id;
    }
    return count;
}

static void listen_answer(struct log_broker *b, const struct core_env *env, const char *node_id,
                          struct arena *a, Skep__LogSubscriptionsResponse *ret)
{
    struct subscription *s, *next;

    skep__log_subscriptions_response__init(ret);
    ret->token = b->token;
    ret->subscriptions = arena_array(a, HASH_COUNT(b->subscriptions), sizeof(*ret->subscriptions));
    HASH_ITER(hh, b->subscriptions, s, next)
    {
        Skep__LogSubscription *out = ARENA_NEW(a, Skep__LogSubscription);

        skep__log_subscription__init(out);
        out->n_task_ids = tasks_on_node(s, env, node_id, a, &out->task_ids);
        if (out->n_task_ids == 0)
            continue;
        out->id = s->id.s;
        out->follow = s->request->follow;
        out->tail = s->request->tail;
        out->since = s->request->since;
        out->no_stdout = s->request->no_stdout;
        out->no_stderr = s->request->no_stderr;
        ret->subscriptions[ret->n_subscriptions++] = out;
    }
}

int log_broker_listen(struct log_broker *b, const struct log_call *c, uint64_t since,
                      Skep__LogSubscriptionsResponse *ret, struct err *e)
{
    struct listener *l;

    HASH_FIND_STR(b->listeners, c->node_id, l);
    if (l == NULL) {
        if (HASH_COUNT(b->listeners) >= LOGS_LISTENERS_MAX)
            return err_set(e, ERR_BUSY, "more than %d agents listen", LOGS_LISTENERS_MAX);
        l = xcalloc(1, sizeof(*l));
        memcpy(l->node_id, c->node_id, strlen(c->node_id) + 1);
        HASH_ADD_STR(b->listeners, node_id, l);
    }
    give_back(b, TAKE_PTR(l->parked));
    if (since != b->token || c->until_ms <= c->env->now_ms) {
        listen_answer(b, c->env, c->node_id, c->arena, ret);
        return 0;
    }
    l->parked = c->call;
    l->parked_until_ms = c->until_ms;
    l->seen = since;
    return LOGS_PARKED;
}

static void take_entry(struct subscription *s, const char *node_id, const Skep__Task *t,
                       const Skep__LogPublishEntry *entry)
{
    size_t size = entry->data.len;

    if (s->bytes + size + sizeof(struct message) > LOGS_QUEUE_BYTES_HARD_MAX) {
        s->dropped++;
        return;
    }
    struct message *m = xcalloc(1, sizeof(*m) + size);

    m->timestamp = entry->timestamp;
    m->is_stderr = entry->is_stderr;
    memcpy(m->task_id, t->id, strlen(t->id) + 1);
    memcpy(m->service_id, t->service_id, strlen(t->service_id) + 1);
    memcpy(m->node_id, node_id, strlen(node_id) + 1);
    m->size = size;
    if (size > 0)
        memcpy(m->data, entry->data.data, size);
    *s->last = m;
    s->last = &m->next;
    s->bytes += size + sizeof(*m);
}

static void node_is_done(struct subscription *s, const char *node_id, const char *error)
{
    for (struct awaited **at = &s->awaited; *at != NULL; at = &(*at)->next) {
        struct awaited *a = *at;

        if (strcmp(a->node_id, node_id) == 0) {
            *at = a->next;
            free(a);
            break;
        }
    }
    if (error[0] != '\0')
        warn(s, "node", node_id, error);
}

void log_broker_publish(struct log_broker *b, const struct log_call *c,
                        const Skep__LogPublishRequest *req, Skep__LogPublishResponse *ret)
{
    struct subscription *s = find(b, req->subscription_id);

    skep__log_publish_response__init(ret);
    if (s == NULL) {
        ret->stop = true;
        return;
    }
    for (size_t i = 0; i < req->n_entries; i++) {
        const Skep__Task *t = store_task(c->env->store, req->entries[i]->task_id);

        /* A node speaks for its own tasks only, and only for those that were asked for. */
        if (t == NULL || strcmp(t->node_id, c->node_id) != 0 || !selected(s->request, t))
            continue;
        take_entry(s, c->node_id, t, req->entries[i]);
    }
    if (req->done)
        node_is_done(s, c->node_id, req->error);
    if (s->bytes > LOGS_QUEUE_BYTES_MAX)
        ret->pause_ms = LOGS_PAUSE_MS;
}

/* ---- waiting calls ------------------------------------------------------------------------------
 */

void log_broker_on_event(struct log_broker *b, const struct store_event *ev)
{
    struct subscription *s, *next;
    const Skep__Task *after = (const Skep__Task *)ev->after;
    const Skep__Task *before = (const Skep__Task *)ev->before;

    if (ev->kind != SKEP__KIND__KIND_TASK || after == NULL)
        return;
    if (before != NULL && strcmp(before->node_id, after->node_id) == 0)
        return;
    HASH_ITER(hh, b->subscriptions, s, next)
    {
        if (s->request->follow && selected(s->request, after)) {
            b->token++;
            return;
        }
    }
}

static bool next_read(struct log_broker *b, const struct core_env *env, struct arena *a,
                      struct log_due *ret)
{
    struct subscription *s, *next;

    HASH_ITER(hh, b->subscriptions, s, next)
    {
        if (s->parked != NULL &&
            (s->first != NULL || finished(s) || env->now_ms >= s->parked_until_ms)) {
            ret->call = TAKE_PTR(s->parked);
            ret->is_read = true;
            read_answer(b, s, env, a, &ret->read);
            return true;
        }
        if (s->parked == NULL && env->now_ms - s->read_ms > LOGS_IDLE_MS_MAX)
            subscription_free(b, s);
    }
    return false;
}

bool log_broker_next_call(struct log_broker *b, const struct core_env *env, struct arena *a,
                          struct log_due *ret)
{
    struct listener *l, *next;

    memset(ret, 0, sizeof(*ret));
    if (next_read(b, env, a, ret))
        return true;
    HASH_ITER(hh, b->listeners, l, next)
    {
        if (l->parked == NULL || (l->seen == b->token && env->now_ms < l->parked_until_ms))
            continue;
        ret->call = TAKE_PTR(l->parked);
        listen_answer(b, env, l->node_id, a, &ret->subscriptions);
        return true;
    }
    return false;
}

void *log_broker_take_call(struct log_broker *b)
{
    struct subscription *s, *s_next;
    struct listener *l, *l_next;

    if (b->returned_count > 0)
        return b->returned[--b->returned_count];
    HASH_ITER(hh, b->subscriptions, s, s_next)
    {
        if (s->parked != NULL)
            return TAKE_PTR(s->parked);
    }
    HASH_ITER(hh, b->listeners, l, l_next)
    {
        if (l->parked != NULL)
            return TAKE_PTR(l->parked);
    }
    return NULL;
}

bool log_broker_take_returned(struct log_broker *b, void **ret_call)
{
    if (b->returned_count == 0)
        return false;
    *ret_call = b->returned[--b->returned_count];
    return true;
}
