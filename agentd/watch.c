/* Watches the engine: is it there (ping), what runs on it (events as hints, lists as truth), what
 * kind of node it makes (info). Each has its own deadline, so that an engine which hangs in one
 * place is noticed by that place's timer and by nothing else. */
#include "agentd/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agentd/docker/info.h"
#include "agentd/worker/plain.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/message.h"

static void ping_fired(void *ctx, uint64_t now_ms);
static void info_fired(void *ctx, uint64_t now_ms);
static void list_fired(void *ctx, uint64_t now_ms);

static void timer_in(struct agent *ag, struct loop_timer *t, uint64_t in_ms, loop_timer_fn *fn)
{
    loop_timer_set(ag->loop, t, loop_now_ms(ag->loop) + in_ms, fn, ag);
}

/* ---- faults and the node's description ---- */

const char *watch_degraded(const struct agent *ag)
{
    for (size_t i = 0; i < FAULT_COUNT; i++)
        if (ag->watch.fault[i][0] != '\0')
            return ag->watch.fault[i];
    return "";
}

static void describe_changed(struct agent *ag)
{
    ag->watch.description_seq++;
    link_step_type(ag, SESSION_EV_DESCRIBE);
}

void watch_set_fault(struct agent *ag, enum watch_fault which, const char *why)
{
    struct watch *w = &ag->watch;
    char before[sizeof(w->fault[0])];

    if (strcmp(w->fault[which], why) == 0)
        return;
    plain_format(before, sizeof(before), "%s", watch_degraded(ag));
    plain_format(w->fault[which], sizeof(w->fault[which]), "%s", why);
    if (strcmp(before, watch_degraded(ag)) == 0)
        return;
    w->description->degraded = (char *)watch_degraded(ag);
    if (watch_degraded(ag)[0] == '\0')
        log_info("engine.ok", "was=\"%s\"", before);
    else
        log_warn("engine.degraded", "reason=\"%s\"", watch_degraded(ag));
    describe_changed(ag);
}

void watch_set_network(struct agent *ag, Skep__NodeNetwork *network)
{
    ag->watch.description->network = network;
    describe_changed(ag);
}

/* What can be said without an engine. */
static void describe_host(struct agent *ag)
{
    struct watch *w = &ag->watch;
    struct arena *a = &w->description_arena;
    Skep__NodeDescription *d = ARENA_NEW(a, Skep__NodeDescription);
    struct utsname host = { .machine = "" };
    struct sysinfo memory = { .totalram = 0 };

    (void)uname(&host); /* cannot fail with a valid pointer */
    (void)sysinfo(&memory);
    skep__node_description__init(d);
    d->hostname = arena_strdup(a, host.nodename);
    d->agent_version = arena_strdup(a, SKEP_VERSION);
    d->platform = ARENA_NEW(a, Skep__Platform);
    skep__platform__init(d->platform);
    d->platform->architecture = arena_strdup(a, host.machine);
    d->platform->os = arena_strdup(a, "linux");
    d->resources = ARENA_NEW(a, Skep__Resources);
    skep__resources__init(d->resources);
    d->resources->nano_cpus = sysconf(_SC_NPROCESSORS_ONLN) * 1000000000;
    d->resources->memory_bytes = (int64_t)memory.totalram * memory.mem_unit;
    w->description = d;
}

/* Takes a new description if it differs; the old one's memory goes. */
static void describe(struct agent *ag, struct arena *a, Skep__NodeDescription *d)
{
    struct watch *w = &ag->watch;

    if (d->hostname[0] == '\0')
        d->hostname = w->description->hostname;
    d->degraded = w->description->degraded;
    d->network = w->description->network;
    if (message_equal(&d->base, &w->description->base)) {
        arena_deinit(a);
        return;
    }
    if (d->hostname == w->description->hostname)
        d->hostname = arena_strdup(a, d->hostname);
    arena_deinit(&w->description_arena);
    w->description_arena = *a;
    w->description = d;
    log_info("node.description", "hostname=%s cpus=%lld memory_mib=%lld engine=%s", d->hostname,
             (long long)(d->resources->nano_cpus / 1000000000),
             (long long)(d->resources->memory_bytes >> 20), d->engine->version);
    describe_changed(ag);
}

static void info_done(void *ctx, const struct engine_response *r)
{
    struct agent *ag = ctx;
    struct arena a = { 0 };
    Skep__NodeDescription *d;
    struct err e = { 0 };

    ag->watch.info_call = NULL;
    timer_in(ag, &ag->watch.info_timer, WATCH_DESCRIBE_MS, info_fired);
    if (r->rc == -ERR_TIMEOUT) {
        watch_set_fault(ag, FAULT_INFO, "engine unresponsive");
        return;
    }
    if (r->rc < 0)
        return; /* the ping says more */
    if (r->status != 200 || info_parse(r->body, r->size, &a, &d, &e) < 0) {
        char text[128];

        plain_format(text, sizeof(text), "engine does not describe itself: %s",
                     r->status != 200 ? r->err.message : e.message);
        watch_set_fault(ag, FAULT_INFO, text);
        arena_deinit(&a);
        return;
    }
    watch_set_fault(ag, FAULT_INFO, "");
    describe(ag, &a, d);
}

static void info_fired(void *ctx, uint64_t now_ms)
{
    struct agent *ag = ctx;

    (void)now_ms;
    timer_in(ag, &ag->watch.info_timer, WATCH_DESCRIBE_MS, info_fired);
    if (ag->watch.up && ag->watch.info_call == NULL)
        ag->watch.info_call = info_get(ag->engine, (struct docker_reply){ info_done, ag }, NULL);
}

/* ---- the list ---- */

static int compare_found(const void *a, const void *b)
{
    const struct container_entry *x = a, *y = b;

    return strcmp(x->task_id, y->task_id);
}

static const struct container_entry *found_of(const struct watch *w, const char *task_id)
{
    struct container_entry key;

    plain_format(key.task_id, sizeof(key.task_id), "%s", task_id);
    return bsearch(&key, w->found, w->found_count, sizeof(key), compare_found);
}

/* Whoever's container is not as its machine believes looks at it again. */
static void hint_differences(struct agent *ag)
{
    struct watch *w = &ag->watch;

    for (size_t i = ag->roster.count; i-- > 0;) {
        struct roster_entry *en = ag->roster.entries[i];
        const struct container_entry *c = found_of(w, en->id);
        enum container_phase seen = c == NULL ? CONTAINER_ABSENT : c->phase;

        if (en->task.op == TASK_OP_NONE && en->task.container.phase != seen)
            agent_feed_type(ag, en, TASK_EV_HINT);
    }
}

static void listed(void *ctx, const struct engine_response *r)
{
    struct agent *ag = ctx;
    struct watch *w = &ag->watch;
    struct container_entry *list;
    struct err e = { 0 };
    size_t count;

    w->list_call = NULL;
    if (w->list_again)
        watch_list(ag);
    if (r->rc == -ERR_TIMEOUT)
        watch_set_fault(ag, FAULT_LIST, "engine unresponsive");
    else if (r->rc < 0 && r->rc != -ERR_UNAVAILABLE) /* of that the ping says more */
        watch_set_fault(ag, FAULT_LIST, "engine's list of containers is not usable");
    if (r->rc < 0)
        return;
    if (r->status != 200 || container_parse_list(r, &list, &count, &e) < 0) {
        log_warn("engine.list", "error=\"%s\"", r->status != 200 ? r->err.message : e.message);
        watch_set_fault(ag, FAULT_LIST, "engine's list of containers is not usable");
        return;
    }
    watch_set_fault(ag, FAULT_LIST, "");
    watch_set_fault(ag, FAULT_OPERATION, ""); /* or a fault would keep away what could clear it */
    if (count > 1)
        qsort(list, count, sizeof(*list), compare_found);
    free(w->found);
    w->found = list;
    w->found_count = count;
    if (!w->listed)
        log_info("engine.listed", "containers=%zu", count);
    w->listed = true;
    hint_differences(ag);
    agent_reconcile_found(ag);
}

void watch_list(struct agent *ag)
{
    struct watch *w = &ag->watch;

    if (ag->node_id.s[0] == '\0' || !w->up)
        return;
    w->list_again = w->list_call != NULL; /* that one may have been answered already */
    if (w->list_call == NULL)
        w->list_call = container_list(ag->engine, ag->cluster_id.s, ag->node_id.s,
                                      (struct docker_reply){ listed, ag }, NULL);
    timer_in(ag, &w->list_timer, WATCH_LIST_MS, list_fired);
}

static void list_fired(void *ctx, uint64_t now_ms)
{
    (void)now_ms;
    watch_list(ctx);
}

/* ---- events ---- */

static void events_up(void *ctx)
{
    struct agent *ag = ctx;

    ag->watch.events_up = true;
    watch_list(ag);
}

static void events_down(void *ctx, const struct err *why)
{
    struct agent *ag = ctx;

    if (ag->watch.events_up) /* once per loss, not per attempt */
        log_warn("engine.events", "state=lost error=\"%s\" next=reconnect", why->message);
    ag->watch.events_up = false;
}

static void events_hint(void *ctx, const char *container_id, const char *task_id)
{
    struct agent *ag = ctx;
    struct roster_entry *en = roster_find(&ag->roster, task_id);
    const char *known;

    if (en == NULL)
        return; /* not ours yet or any more: the next list tells */
    known = en->task.container.id;
    if (known[0] == '\0' || strcmp(known, container_id) == 0)
        agent_feed_type(ag, en, TASK_EV_HINT);
}

static void events_begin(struct agent *ag)
{
    struct events_options o = {
        .engine = ag->engine,
        .loop = ag->loop,
        .cluster_id = ag->cluster_id.s,
        .node_id = ag->node_id.s,
        .up = events_up,
        .down = events_down,
        .hint = events_hint,
        .ctx = ag,
    };

    if (ag->watch.events == NULL && ag->node_id.s[0] != '\0')
        ag->watch.events = events_new(&o);
}

/* ---- ping ---- */

static void went_up(struct agent *ag)
{
    unsigned version = engine_version(ag->engine);

    log_info("engine.up", "api=%u.%u", version / 100, version % 100);
    ag->watch.up = true;
    if (ag->watch.events == NULL)
        events_begin(ag);
    else
        events_kick(ag->watch.events);
    watch_list(ag);
    info_fired(ag, loop_now_ms(ag->loop));
    agent_feed_all(ag, TASK_EV_ENGINE_BACK);
}

static void ping_done(void *ctx, const struct engine_response *r)
{
    struct agent *ag = ctx;
    struct watch *w = &ag->watch;
    char text[128];
    bool ok = r->rc == 0 && r->status == 200;

    w->ping_busy = false;
    timer_in(ag, &w->ping_timer,
             ok ? ag->o.ping_ms : MIN(ag->o.ping_ms, (uint32_t)WATCH_PING_MS_DOWN), ping_fired);
    if (ok) {
        watch_set_fault(ag, FAULT_PING, "");
        if (!w->up)
            went_up(ag);
        return;
    }
    w->up = false;
    if (r->rc == -ERR_TIMEOUT)
        plain_format(text, sizeof(text), "engine unresponsive");
    else if (r->rc == -ERR_UNAVAILABLE)
        plain_format(text, sizeof(text), "engine unavailable");
    else
        plain_format(text, sizeof(text), "%s", r->err.message);
    watch_set_fault(ag, FAULT_PING, text);
}

static void ping_fired(void *ctx, uint64_t now_ms)
{
    struct agent *ag = ctx;
    struct err e = { 0 };

    (void)now_ms;
    if (ag->watch.ping_busy)
        return;
    ag->watch.ping_busy = engine_ping(ag->engine, ag->o.ping_ms, ping_done, ag, &e) == 0;
    if (!ag->watch.ping_busy)
        timer_in(ag, &ag->watch.ping_timer, WATCH_PING_MS_DOWN, ping_fired);
}

/* ---- life ---- */

void watch_start(struct agent *ag)
{
    describe_host(ag);
    plain_format(ag->watch.fault[FAULT_PING], sizeof(ag->watch.fault[0]), "engine not reached yet");
    ag->watch.description->degraded = ag->watch.fault[FAULT_PING];
    ag->watch.description_seq = 1;
    ping_fired(ag, loop_now_ms(ag->loop));
}

static void forget_found(struct watch *w)
{
    free(w->found);
    w->found = NULL;
    w->found_count = 0;
    w->listed = false;
}

void watch_restart(struct agent *ag)
{
    struct watch *w = &ag->watch;

    events_free(w->events);
    w->events = NULL;
    engine_call_cancel(w->list_call);
    w->list_call = NULL;
    w->list_again = false;
    forget_found(w);
    if (w->up) {
        events_begin(ag);
        watch_list(ag);
    }
}

void watch_stop(struct agent *ag)
{
    struct watch *w = &ag->watch;

    events_free(w->events);
    w->events = NULL;
    engine_call_cancel(w->list_call);
    engine_call_cancel(w->info_call);
    loop_timer_cancel(ag->loop, &w->ping_timer);
    loop_timer_cancel(ag->loop, &w->list_timer);
    loop_timer_cancel(ag->loop, &w->info_timer);
    forget_found(w);
    arena_deinit(&w->description_arena);
}
