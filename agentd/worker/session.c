#include "agentd/worker/session.h"

#include <string.h>

#include "agentd/worker/plain.h"
#include "common/assert.h"
#include "common/err.h"
#include "common/mem.h"

#define NEVER UINT64_MAX

enum { HEARTBEAT_MS_MIN = 100, HEARTBEAT_MS_MAX = 600 * 1000 };

static bool session_invariants(const struct session *s)
{
    return s->manager_count <= SESSION_MANAGERS_MAX && s->backoff_ms <= SESSION_BACKOFF_MS_MAX &&
           (s->phase != SESSION_LIVE || s->id[0] != '\0') &&
           (s->phase != SESSION_IDLE || !s->in_flight[SESSION_CALL_OPEN]);
}

/* ---- managers ---- */

static struct session_manager *manager_find(struct session *s, const char *address)
{
    for (size_t i = 0; i < s->manager_count; i++)
        if (strcmp(s->managers[i].address, address) == 0)
            return &s->managers[i];
    return NULL;
}

/* The new list; managers that stay keep their weight. */
static void managers_set(struct session *s, const struct session_event *ev)
{
    struct session_manager list[SESSION_MANAGERS_MAX];
    size_t count = 0;

    for (size_t i = 0; i < ev->address_count && count < SESSION_MANAGERS_MAX; i++) {
        const struct session_manager *old = manager_find(s, ev->addresses[i]);

        if (ev->addresses[i][0] == '\0' || strlen(ev->addresses[i]) >= sizeof(list[count].address))
            continue;
        plain_format(list[count].address, sizeof(list[count].address), "%s", ev->addresses[i]);
        list[count++].weight = old == NULL ? SESSION_WEIGHT_STEP : old->weight;
    }
    if (count == 0)
        return; /* better old addresses than none */
    memcpy(s->managers, list, count * sizeof(list[0]));
    s->manager_count = count;
}

static void manager_observe(struct session *s, int32_t change)
{
    struct session_manager *m = manager_find(s, s->address);

    if (m != NULL)
        m->weight = MAX(1, MIN(m->weight + change, (int32_t)SESSION_WEIGHT_MAX));
}

/* Weighted, and not the one that just failed when there is another. */
static const char *manager_pick(struct session *s, struct prng *prng, bool avoid_last)
{
    uint64_t total = 0, at;
    size_t i;

    avoid_last = avoid_last && s->manager_count > 1 && manager_find(s, s->address) != NULL;
    for (i = 0; i < s->manager_count; i++)
        if (!avoid_last || strcmp(s->managers[i].address, s->address) != 0)
            total += (uint64_t)s->managers[i].weight;
    ASSERT(total > 0);
    at = prng_below(prng, total);
    for (i = 0; i < s->manager_count; i++) {
        if (avoid_last && strcmp(s->managers[i].address, s->address) == 0)
            continue;
        if (at < (uint64_t)s->managers[i].weight)
            break;
        at -= (uint64_t)s->managers[i].weight;
    }
    ASSERT(i < s->manager_count);
    return s->managers[i].address;
}

/* ---- phases ---- */

static void clear_calls(struct session *s)
{
    for (size_t i = 0; i < SESSION_CALL_COUNT; i++) {
        s->in_flight[i] = false;
        s->due_ms[i] = NEVER;
    }
}

/* Leaves OPENING or LIVE. */
static void lose(struct session *s, struct session_effects *fx)
{
    fx->drop = true;
    s->id[0] = '\0';
    s->assignments_token = s->logs_token = s->networks_token = 0;
    clear_calls(s);
}

static void wait_for(struct session *s, uint64_t until_ms)
{
    s->phase = s->manager_count == 0 && s->redirect[0] == '\0' ? SESSION_IDLE : SESSION_WAIT;
    s->wait_until_ms = until_ms;
}

static void back_off(struct session *s, const struct session_event *ev)
{
    s->backoff_ms =
        MIN(SESSION_BACKOFF_MS_FIRST + 2 * s->backoff_ms, (uint32_t)SESSION_BACKOFF_MS_MAX);
    wait_for(s, ev->now_ms + prng_below(ev->prng, s->backoff_ms + 1));
}

static void open_session(struct session *s, const struct session_event *ev,
                         struct session_effects *fx)
{
    const char *address = s->redirect;

    if (address[0] == '\0')
        address = manager_pick(s, ev->prng, s->backoff_ms > 0);
    plain_format(s->address, sizeof(s->address), "%s", address);
    s->redirect[0] = '\0';
    s->phase = SESSION_OPENING;
    clear_calls(s);
    s->in_flight[SESSION_CALL_OPEN] = true;
    fx->connect = s->address;
    fx->start[SESSION_CALL_OPEN] = true;
}

static void redirect(struct session *s, const struct session_event *ev, struct session_effects *fx)
{
    const char *to = ev->leader_address == NULL ? "" : ev->leader_address;

    lose(s, fx);
    if (to[0] == '\0' || strlen(to) >= sizeof(s->redirect) ||
        ++s->redirects > SESSION_REDIRECTS_MAX) {
        s->redirects = 0;
        back_off(s, ev);
        return;
    }
    plain_format(s->redirect, sizeof(s->redirect), "%s", to);
    wait_for(s, ev->now_ms);
}

static void fail_session(struct session *s, const struct session_event *ev,
                         struct session_effects *fx)
{
    manager_observe(s, -SESSION_WEIGHT_STEP);
    lose(s, fx);
    back_off(s, ev);
}

/* ---- ends of calls ---- */

static void set_heartbeat(struct session *s, const struct session_event *ev)
{
    if (ev->heartbeat_ms != 0)
        s->heartbeat_ms =
            MAX((uint32_t)HEARTBEAT_MS_MIN, MIN(ev->heartbeat_ms, (uint32_t)HEARTBEAT_MS_MAX));
    /* sooner if the description changed while the last beat was under way */
    s->due_ms[SESSION_CALL_BEAT] = MIN(s->due_ms[SESSION_CALL_BEAT], ev->now_ms + s->heartbeat_ms);
}

static void opened(struct session *s, const struct session_event *ev)
{
    ASSERT(s->phase == SESSION_OPENING);
    plain_format(s->id, sizeof(s->id), "%s", ev->session_id);
    s->generation = ev->generation;
    s->phase = SESSION_LIVE;
    s->backoff_ms = 0;
    s->redirects = 0;
    s->heartbeat_ms = 5000;
    manager_observe(s, SESSION_WEIGHT_STEP);
    set_heartbeat(s, ev);
    s->due_ms[SESSION_CALL_ASSIGNMENTS] = ev->now_ms;
    s->due_ms[SESSION_CALL_LOGS] = ev->now_ms;
    if (s->networks)
        s->due_ms[SESSION_CALL_NETWORKS] = ev->now_ms;
    s->due_ms[SESSION_CALL_REPORT] = ev->now_ms + SESSION_COALESCE_MS;
}

static void call_succeeded(struct session *s, const struct session_event *ev)
{
    switch (ev->call) {
    case SESSION_CALL_OPEN:
        opened(s, ev);
        break;
    case SESSION_CALL_BEAT:
        set_heartbeat(s, ev);
        break;
    case SESSION_CALL_ASSIGNMENTS:
        s->assignments_token = ev->token;
        s->due_ms[ev->call] = ev->now_ms;
        break;
    case SESSION_CALL_LOGS:
        s->logs_token = ev->token;
        s->due_ms[ev->call] = ev->now_ms;
        break;
    case SESSION_CALL_NETWORKS: /* asking again says that what came is in the kernel */
        s->networks_token = ev->token;
        s->due_ms[ev->call] = ev->now_ms;
        break;
    case SESSION_CALL_REPORT:
        if (ev->more && s->due_ms[ev->call] == NEVER)
            s->due_ms[ev->call] = ev->now_ms + SESSION_COALESCE_MS;
        break;
    case SESSION_CALL_COUNT:
    default:
        UNREACHABLE();
    }
}

/* True when the error says that the session is over, not just this call. */
static bool ends_session(enum session_call call, int rc)
{
    switch (-rc) {
    case ERR_STALE:
    case ERR_UNAUTHENTICATED:
    case ERR_PERMISSION:
        return true;
    case ERR_UNAVAILABLE:
    case ERR_TIMEOUT:
        /* a beat that got through says more than a log query that did not */
        return call != SESSION_CALL_LOGS;
    default:
        return call == SESSION_CALL_OPEN || call == SESSION_CALL_BEAT;
    }
}

/* An opened session has a name, and is not of managers that were left behind (F20). */
static bool acceptable(const struct session *s, const struct session_event *ev)
{
    return ev->session_id[0] != '\0' && ev->generation >= s->generation;
}

static void call_done(struct session *s, const struct session_event *ev, struct session_effects *fx)
{
    ASSERT(ev->call < SESSION_CALL_COUNT);
    if (!s->in_flight[ev->call])
        return; /* of a connection that was dropped */
    s->in_flight[ev->call] = false;
    if (ev->rc == 0 && (ev->call != SESSION_CALL_OPEN || acceptable(s, ev)))
        call_succeeded(s, ev);
    else if (ev->rc == -ERR_NOT_LEADER)
        redirect(s, ev, fx);
    else if (ev->rc == 0 || ends_session(ev->call, ev->rc))
        fail_session(s, ev, fx);
    else if (ev->call != SESSION_CALL_NETWORKS || ev->rc != -ERR_UNSUPPORTED)
        s->due_ms[ev->call] = ev->now_ms + SESSION_RETRY_MS;
    /* else: managers from before networks; the next session asks again */
}

static void on_managers(struct session *s, const struct session_event *ev)
{
    managers_set(s, ev);
    s->generation = MAX(s->generation, ev->generation);
    if (s->phase == SESSION_IDLE && s->manager_count > 0)
        wait_for(s, ev->now_ms);
}

static void want(struct session *s, enum session_call call, uint64_t at_ms)
{
    if (s->phase == SESSION_LIVE)
        s->due_ms[call] = MIN(s->due_ms[call], at_ms);
}

static void on_event(struct session *s, const struct session_event *ev, struct session_effects *fx)
{
    switch (ev->type) {
    case SESSION_EV_MANAGERS:
        on_managers(s, ev);
        break;
    case SESSION_EV_STOP:
        lose(s, fx);
        s->phase = SESSION_IDLE;
        s->manager_count = 0;
        s->redirect[0] = '\0';
        s->backoff_ms = s->redirects = 0;
        s->generation = 0;
        break;
    case SESSION_EV_DONE:
        call_done(s, ev, fx);
        break;
    case SESSION_EV_REPORTS:
        want(s, SESSION_CALL_REPORT, ev->now_ms + SESSION_COALESCE_MS);
        break;
    case SESSION_EV_DESCRIBE:
        want(s, SESSION_CALL_BEAT, ev->now_ms);
        break;
    case SESSION_EV_TIMER:
        break;
    }
}

/* Starts what is due and says when to be woken. */
static void run_due(struct session *s, const struct session_event *ev, struct session_effects *fx)
{
    uint64_t at_ms = NEVER;

    if (s->phase == SESSION_WAIT && ev->now_ms >= s->wait_until_ms)
        open_session(s, ev, fx);
    if (s->phase == SESSION_WAIT)
        at_ms = s->wait_until_ms;
    for (size_t i = 0; s->phase == SESSION_LIVE && i < SESSION_CALL_COUNT; i++) {
        if (s->in_flight[i])
            continue; /* its end looks at due_ms again */
        if (s->due_ms[i] <= ev->now_ms) {
            fx->start[i] = s->in_flight[i] = true;
            s->due_ms[i] = NEVER;
        } else {
            at_ms = MIN(at_ms, s->due_ms[i]);
        }
    }
    fx->timer_at_ms = at_ms == NEVER ? 0 : at_ms;
}

void session_step(struct session *s, const struct session_event *ev, struct session_effects *ret_fx)
{
    struct session_effects fx = { .drop = false };

    ASSERT(session_invariants(s));
    on_event(s, ev, &fx);
    run_due(s, ev, &fx);
    ASSERT(session_invariants(s));
    *ret_fx = fx;
}
