/* Ships container logs to the managers that asked: one subscription per reader, one stream per task
 * of it, one LOG_PUBLISH in flight per subscription. A slow reader (pause_ms, or a full buffer)
 * pauses the engine's streams, so that memory stays bounded and the engine waits. */
#include "agentd/internal.h"

#include <stdlib.h>
#include <string.h>

#include "agentd/docker/logs.h"
#include "agentd/worker/plain.h"
#include "common/log.h"
#include "common/message.h"

enum {
    RELAY_GATHER_MS = 20,  /* lines gather this long before a call */
    RELAY_RETRY_MS = 1000, /* after a call that failed, or a stream that broke */
    RELAY_CALL_MS = 10000,
    RELAY_LINE_OVERHEAD = 64, /* of a line in the buffer and in the message */
};

struct line {
    struct line *next;
    const char *task_id; /* of the stream; outlives its lines */
    int64_t timestamp_ns;
    size_t size;
    bool is_stderr;
    uint8_t data[];
};

struct stream {
    struct stream *next;
    struct subscription *sub;
    struct agent *ag;
    char task_id[ID_CHARS + 1];
    struct log_stream *log; /* NULL: not open */
    int64_t last_ns;        /* of the newest line */
    bool opened, ended;     /* at least once; for good */
    struct loop_timer reopen;
};

struct subscription {
    struct subscription *next;
    struct agent *ag;
    Skep__LogSubscription *m; /* owned block */
    struct stream *streams;
    struct line *first, **last;
    size_t bytes;
    size_t sending; /* lines in the call in flight; SIZE_MAX = none in flight */
    bool paused;
    bool finished;  /* nothing is read for it any more */
    bool last_call; /* the call in flight says done */
    bool dropped;   /* not wanted any more; freed when its call has ended */
    char error[TASK_ERROR_BYTES_MAX];
    bool error_sending;
    struct loop_timer flush;
};

static void subscription_plan(struct subscription *s, uint64_t in_ms);
static void subscription_unlink(struct subscription *s);
static void subscription_free(struct subscription *s);

/* ---- lines ---- */

static void subscription_pause(struct subscription *s, bool pause)
{
    if (s->paused == pause)
        return;
    s->paused = pause;
    for (struct stream *st = s->streams; st != NULL; st = st->next) {
        if (st->log != NULL && pause)
            log_stream_pause(st->log);
        else if (st->log != NULL)
            log_stream_resume(st->log);
    }
}

static void on_line(void *ctx, const struct log_line *l)
{
    struct stream *st = ctx;
    struct subscription *s = st->sub;
    struct line *copy = xmalloc(sizeof(*copy) + l->size);

    *copy = (struct line){ .task_id = st->task_id,
                           .timestamp_ns = l->timestamp_ns,
                           .size = l->size,
                           .is_stderr = l->is_stderr };
    memcpy(copy->data, l->data, l->size);
    *s->last = copy;
    s->last = &copy->next;
    s->bytes += l->size + RELAY_LINE_OVERHEAD;
    if (l->timestamp_ns > st->last_ns)
        st->last_ns = l->timestamp_ns;
    if (s->bytes > RELAY_BUFFER_BYTES_MAX)
        subscription_pause(s, true);
    if (s->sending == SIZE_MAX && !loop_timer_armed(&s->flush))
        subscription_plan(s, RELAY_GATHER_MS);
}

static void lines_drop(struct subscription *s, size_t count)
{
    while (count-- > 0 && s->first != NULL) {
        struct line *l = s->first;

        s->first = l->next;
        s->bytes -= l->size + RELAY_LINE_OVERHEAD;
        free(l);
    }
    if (s->first == NULL)
        s->last = &s->first;
}

/* ---- streams ---- */

static void stream_open(struct stream *st);

static void reopen_fired(void *ctx, uint64_t now_ms)
{
    (void)now_ms;
    stream_open(ctx);
}

static void stream_end(struct stream *st)
{
    st->ended = true;
    if (st->sub->sending == SIZE_MAX && !loop_timer_armed(&st->sub->flush))
        subscription_plan(st->sub, 0);
}

static void on_end(void *ctx, int rc, const struct err *why)
{
    struct stream *st = ctx;
    const struct roster_entry *en = roster_find(&st->ag->roster, st->task_id);

    log_stream_free(st->log);
    st->log = NULL;
    st->ag->relay.stream_count--;
    if (rc < 0 && rc != -ERR_NOT_FOUND && rc != -ERR_UNAVAILABLE && st->sub->error[0] == '\0') {
        plain_format(st->sub->error, sizeof(st->sub->error), "task %s: %s", st->task_id,
                     why->message);
        plain_clean(st->sub->error);
    }
    if (st->sub->m->follow && en != NULL && !task_is_terminal(en->task.state) &&
        rc != -ERR_INTERNAL && rc != -ERR_NOT_FOUND)
        loop_timer_set(st->ag->loop, &st->reopen, loop_now_ms(st->ag->loop) + RELAY_RETRY_MS,
                       reopen_fired, st);
    else
        stream_end(st);
}

/* Opens the stream if its task has a container; one that has none yet is tried again when the task
 * changes (follow), or has nothing to tell. */
static void stream_open(struct stream *st)
{
    const struct roster_entry *en = roster_find(&st->ag->roster, st->task_id);
    const Skep__LogSubscription *m = st->sub->m;
    struct log_options o = { .follow = m->follow,
                             .no_stdout = m->no_stdout,
                             .no_stderr = m->no_stderr,
                             .tail = m->tail,
                             .since_ns = m->since };

    if (st->log != NULL || st->ended)
        return;
    if (en == NULL || en->task.container.id[0] == '\0' ||
        en->task.state < SKEP__TASK_STATE__TASK_STARTING) {
        if (en == NULL || !m->follow)
            stream_end(st);
        return;
    }
    if (st->ag->relay.stream_count >= RELAY_STREAMS_MAX) {
        plain_format(st->sub->error, sizeof(st->sub->error),
                     "node reads %d logs already, its limit", RELAY_STREAMS_MAX);
        stream_end(st);
        return;
    }
    o.container_id = en->task.container.id;
    o.tty = en->assignment != NULL && en->assignment->spec != NULL &&
            en->assignment->spec->task != NULL && en->assignment->spec->task->container != NULL &&
            en->assignment->spec->task->container->tty;
    if (st->opened) { /* after a break: only what came since */
        o.tail = -1;
        o.since_ns = st->last_ns == 0 ? m->since : st->last_ns + 1;
    }
    st->log = log_stream_start(st->ag->engine, &o, on_line, on_end, st);
    if (st->log == NULL) {
        loop_timer_set(st->ag->loop, &st->reopen, loop_now_ms(st->ag->loop) + RELAY_RETRY_MS,
                       reopen_fired, st);
        return;
    }
    st->opened = true;
    st->ag->relay.stream_count++;
    if (st->sub->paused)
        log_stream_pause(st->log);
}

static void stream_free(struct stream *st)
{
    loop_timer_cancel(st->ag->loop, &st->reopen);
    if (st->log != NULL) {
        log_stream_free(st->log);
        st->ag->relay.stream_count--;
    }
    free(st);
}

/* ---- publishing ---- */

static bool all_ended(const struct subscription *s)
{
    for (const struct stream *st = s->streams; st != NULL; st = st->next)
        if (!st->ended)
            return false;
    return true;
}

/* Nothing more is read for it; it stays listed until the managers drop it. */
static void subscription_finish(struct subscription *s)
{
    struct stream *st;

    s->finished = true;
    lines_drop(s, SIZE_MAX);
    while ((st = s->streams) != NULL) {
        s->streams = st->next;
        stream_free(st);
    }
}

static void published(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    struct subscription *s = ctx;
    Skep__LogPublishResponse *m = NULL;
    size_t sent = s->sending;
    uint32_t wait_ms;

    (void)e;
    s->sending = SIZE_MAX;
    if (s->dropped) {
        subscription_unlink(s);
        subscription_free(s);
        return;
    }
    if (rc == 0)
        rc = rpc_decode(&response->body, &skep__log_publish_response__descriptor,
                        (ProtobufCMessage **)&m, NULL);
    if (rc < 0) {
        subscription_plan(s, RELAY_RETRY_MS);
        return;
    }
    lines_drop(s, sent);
    if (s->error_sending)
        s->error[0] = '\0';
    wait_ms = MIN(m->pause_ms, (uint32_t)60000);
    if (m->stop || (s->first == NULL && !s->m->follow && all_ended(s) && s->last_call))
        subscription_finish(s);
    skep__log_publish_response__free_unpacked(m, NULL);
    if (s->finished)
        return;
    if (s->bytes < RELAY_BUFFER_BYTES_MAX / 2 && wait_ms == 0)
        subscription_pause(s, false);
    subscription_plan(s, wait_ms);
}

/* The next batch; *ret_done: it is the last one. */
static size_t batch_make(struct subscription *s, struct arena *a, Skep__LogPublishRequest *req)
{
    size_t bytes = 0;
    const struct line *l = s->first;

    req->entries = arena_array(a, RELAY_BATCH_ENTRIES_MAX, sizeof(req->entries[0]));
    for (; l != NULL && req->n_entries < RELAY_BATCH_ENTRIES_MAX; l = l->next) {
        Skep__LogPublishEntry *en;

        bytes += l->size + RELAY_LINE_OVERHEAD;
        if (bytes > RELAY_BATCH_BYTES_MAX && req->n_entries > 0)
            break;
        en = ARENA_NEW(a, Skep__LogPublishEntry);
        skep__log_publish_entry__init(en);
        en->task_id = (char *)l->task_id;
        en->timestamp = l->timestamp_ns;
        en->is_stderr = l->is_stderr;
        en->data = (ProtobufCBinaryData){ l->size, (uint8_t *)l->data };
        req->entries[req->n_entries++] = en;
    }
    req->done = l == NULL && !s->m->follow && all_ended(s);
    return req->n_entries;
}

static void flush_fired(void *ctx, uint64_t now_ms)
{
    struct subscription *s = ctx;
    Skep__LogPublishRequest m = SKEP__LOG_PUBLISH_REQUEST__INIT;
    struct rpc_request r = { .method = SKEP__METHOD__METHOD_LOG_PUBLISH,
                             .body = &m.base,
                             .deadline_ms = RELAY_CALL_MS };
    struct arena a = { 0 };

    (void)now_ms;
    if (s->finished || s->sending != SIZE_MAX)
        return;
    m.session_id = s->ag->link.session.id;
    m.subscription_id = s->m->id;
    s->sending = batch_make(s, &a, &m);
    s->error_sending = s->error[0] != '\0';
    m.error = s->error;
    s->last_call = m.done;
    if (m.n_entries == 0 && !m.done && !s->error_sending) {
        s->sending = SIZE_MAX;
        subscription_pause(s, false);
    } else if (link_call(s->ag, &r, published, s, NULL) < 0) {
        s->sending = SIZE_MAX;
        subscription_plan(s, RELAY_RETRY_MS);
    }
    arena_deinit(&a);
}

static void subscription_plan(struct subscription *s, uint64_t in_ms)
{
    loop_timer_set(s->ag->loop, &s->flush, loop_now_ms(s->ag->loop) + in_ms, flush_fired, s);
}

/* ---- subscriptions ---- */

static struct stream *stream_find(const struct subscription *s, const char *task_id)
{
    struct stream *st = s->streams;

    while (st != NULL && strcmp(st->task_id, task_id) != 0)
        st = st->next;
    return st;
}

/* Streams for tasks that are new in it. Ids are checked: they go into a path. */
static void subscription_extend(struct subscription *s)
{
    for (size_t i = 0; i < s->m->n_task_ids; i++) {
        const char *id = s->m->task_ids[i];
        struct stream *st;

        if (!id_valid(id) || stream_find(s, id) != NULL)
            continue;
        st = xcalloc(1, sizeof(*st));
        st->sub = s;
        st->ag = s->ag;
        memcpy(st->task_id, id, sizeof(st->task_id));
        st->next = s->streams;
        s->streams = st;
        stream_open(st);
    }
    subscription_plan(s, 0); /* one without streams is done at once */
}

static void subscription_free(struct subscription *s)
{
    loop_timer_cancel(s->ag->loop, &s->flush);
    subscription_finish(s);
    s->ag->relay.subscription_count--;
    free(s->m);
    free(s);
}

static void subscription_unlink(struct subscription *s)
{
    struct subscription **at = &s->ag->relay.subscriptions;

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
}

static struct subscription *subscription_find(struct agent *ag, const char *id)
{
    struct subscription *s = ag->relay.subscriptions;

    while (s != NULL && (s->dropped || strcmp(s->m->id, id) != 0))
        s = s->next;
    return s;
}

static bool is_listed(const Skep__LogSubscriptionsResponse *resp, const char *id)
{
    for (size_t i = 0; i < resp->n_subscriptions; i++)
        if (strcmp(resp->subscriptions[i]->id, id) == 0)
            return true;
    return false;
}

static void subscription_add(struct agent *ag, const Skep__LogSubscription *m)
{
    struct subscription *s = subscription_find(ag, m->id);

    if (s != NULL && s->finished)
        return;
    if (s == NULL) {
        if (ag->relay.subscription_count >= RELAY_SUBSCRIPTIONS_MAX) {
            if (!ag->relay.told_full)
                log_warn("logs.limit", "subscriptions=%d next=ignore_more",
                         RELAY_SUBSCRIPTIONS_MAX);
            ag->relay.told_full = true;
            return;
        }
        s = xcalloc(1, sizeof(*s));
        s->ag = ag;
        s->last = &s->first;
        s->sending = SIZE_MAX;
        s->next = ag->relay.subscriptions;
        ag->relay.subscriptions = s;
        ag->relay.subscription_count++;
    }
    free(s->m);
    s->m = (Skep__LogSubscription *)message_clone(&m->base);
    subscription_extend(s);
}

/* Drops what resp does not list (NULL: everything). One with a call in flight is the call's context
 * and goes when that has ended. */
static void relay_sweep(struct agent *ag, const Skep__LogSubscriptionsResponse *resp)
{
    struct subscription *s = ag->relay.subscriptions, *next;

    for (; s != NULL; s = next) {
        next = s->next;
        if (resp != NULL && is_listed(resp, s->m->id))
            continue;
        s->dropped = true;
        subscription_finish(s);
        if (s->sending != SIZE_MAX)
            continue;
        subscription_unlink(s);
        subscription_free(s);
    }
}

void relay_apply(struct agent *ag, const Skep__LogSubscriptionsResponse *resp)
{
    relay_sweep(ag, resp);
    for (size_t i = 0; i < resp->n_subscriptions; i++)
        subscription_add(ag, resp->subscriptions[i]);
}

void relay_task_changed(struct agent *ag, const struct roster_entry *en)
{
    for (struct subscription *s = ag->relay.subscriptions; s != NULL; s = s->next) {
        struct stream *st = stream_find(s, en->id);

        if (st != NULL && st->log == NULL && !loop_timer_armed(&st->reopen))
            stream_open(st);
    }
}

void relay_drop(struct agent *ag)
{
    relay_sweep(ag, NULL);
}
