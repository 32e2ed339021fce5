/* An agent: the session, roster and task machines of agentd/worker, wired as agentd does it
 * (agent.c, link.c), with calls that are parcels and the engine of skep_engine.c. */
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "test/sim/skep.h"

static void step(struct skep_agent *a, struct session_event *ev);

static uint64_t now_ms(const struct skep_agent *a)
{
    return 1000 + a->s->now_us / 1000;
}

static void step_type(struct skep_agent *a, enum session_event_type type)
{
    struct session_event ev = { .type = type };

    step(a, &ev);
}

/* ---- timer ----------------------------------------------------------------------------------- */

static void arm(struct skep_agent *a, uint64_t at_ms)
{
    struct skep_parcel like = { .what = SKEP_AGENT_TIMER, .who = a->index, .life = a->life };
    uint64_t delay = at_ms > now_ms(a) ? (at_ms - now_ms(a)) * 1000 : 0;

    if (at_ms == 0 || (a->timer_us != 0 && a->timer_us <= a->s->now_us + delay))
        return;
    a->timer_us = a->s->now_us + delay;
    like.number = a->timer_us;
    skep_post(a->s, delay, -1, skep_parcel_new(&like, NULL, 0));
}

void skep_agent_timer(struct skep_agent *a, const struct skep_parcel *p)
{
    if (!a->up || p->life != a->life || p->number != a->timer_us)
        return;
    a->timer_us = 0;
    step_type(a, SESSION_EV_TIMER);
    for (size_t i = a->roster.count; i-- > 0;) {
        struct task_event ev = { .type = TASK_EV_TIMER, .now_ms = now_ms(a) };

        if (i < a->roster.count)
            skep_agent_feed(a, a->roster.entries[i], &ev);
    }
}

/* ---- tasks ----------------------------------------------------------------------------------- */

void skep_agent_feed(struct skep_agent *a, struct roster_entry *en, const struct task_event *event)
{
    struct task_event ev = *event;
    struct task_effects fx;

    ev.now_ms = now_ms(a);
    task_step(&en->task, &ev, &fx);
    if (fx.report) {
        roster_touch(en, (int64_t)a->s->now_us * 1000);
        SIM_TRACE(a->s, "agent %u: task %.25s is %d", a->index, en->id, (int)en->task.state);
        step_type(a, SESSION_EV_REPORTS);
    }
    if (fx.cancel)
        en->shell = NULL;
    if (en->task.op == TASK_OP_NONE && en->task.retry_at_ms != 0)
        arm(a, en->task.retry_at_ms);
    if (fx.gone)
        roster_remove(&a->roster, en);
    else if (fx.op != TASK_OP_NONE)
        skep_engine_start(a, en, fx.op);
}

static void feed_type(struct skep_agent *a, struct roster_entry *en, enum task_event_type type)
{
    struct task_event ev = { .type = type };

    skep_agent_feed(a, en, &ev);
}

static void added(struct skep_agent *a, struct roster_entry *en)
{
    bool found = skep_engine_find(a, en->id) != NULL;

    task_init(&en->task, en->assignment->task->status, found ? CONTAINER_UNKNOWN : CONTAINER_ABSENT,
              found ? "found" : "");
}

/* Containers without a task are removed. */
static void reconcile(struct skep_agent *a)
{
    for (uint32_t i = 0; i < SKEP_CONTAINERS_MAX; i++) {
        struct skep_container *c = &a->containers[i];
        struct roster_entry *en;

        if (c->phase == CONTAINER_ABSENT || roster_find(&a->roster, c->task_id) != NULL)
            continue;
        en = roster_add(&a->roster, c->task_id);
        ASSERT(en != NULL);
        task_init(&en->task, NULL, CONTAINER_UNKNOWN, "found");
        feed_type(a, en, TASK_EV_UNASSIGNED);
    }
}

static void take_assignments(struct skep_agent *a, const Skep__AssignmentsResponse *m)
{
    CLEANUP_ARENA struct arena arena = { 0 };
    struct roster_change *changes;
    bool was_complete = a->roster.complete;
    size_t count;

    /* O5: no service of the simulator's operators has any. */
    if (m->n_secrets > 0 || m->n_configs > 0)
        sim_fail(a->s, "O5: agent %u is sent a secret that none of its tasks has", a->index);
    roster_apply(&a->roster, m, &arena, &changes, &count);
    for (size_t i = 0; i < count; i++) {
        if (changes[i].type == ROSTER_ADDED)
            added(a, changes[i].entry);
    }
    for (size_t i = 0; i < count; i++) {
        struct roster_entry *en = changes[i].entry;
        struct task_event ev = { .type = TASK_EV_DESIRED };

        if (changes[i].type == ROSTER_GONE) {
            feed_type(a, en, TASK_EV_UNASSIGNED);
            continue;
        }
        ev.desired = en->assignment->task->desired_state;
        skep_agent_feed(a, en, &ev);
    }
    if (!was_complete && a->roster.complete)
        reconcile(a);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void call(struct skep_agent *a, enum session_call kind, const ProtobufCMessage *m,
                 uint32_t deadline_ms)
{
    struct skep *w = skep_of(a->s);
    struct skep_parcel like = { .what = SKEP_AGENT_RESPONSE,
                                .who = a->index,
                                .life = a->life,
                                .number = ++a->number_last,
                                .kind = kind,
                                .rc = -ERR_TIMEOUT,
                                .leader = -1 };

    a->numbers[kind] = like.number;
    skep_post(a->s, (uint64_t)deadline_ms * 1000, -1, skep_parcel_new(&like, NULL, 0));
    if (kind == SESSION_CALL_LOGS || kind == SESSION_CALL_NETWORKS || a->manager < 0 || a->cut ||
        skep_loses(w))
        return;
    like.what = SKEP_AGENT_REQUEST;
    like.node = (uint32_t)a->manager;
    skep_post(a->s, skep_delay(w), a->manager, skep_parcel_pack(&like, m));
}

static void send_open(struct skep_agent *a)
{
    Skep__SessionRequest m = SKEP__SESSION_REQUEST__INIT;
    Skep__NodeDescription description = SKEP__NODE_DESCRIPTION__INIT;
    Skep__Resources resources = SKEP__RESOURCES__INIT;
    char boot[32];

    (void)snprintf(boot, sizeof(boot), "boot-%u", a->index); /* fits */
    resources.nano_cpus = INT64_C(4000000000);
    resources.memory_bytes = INT64_C(8) << 30;
    Skep__NodeNetwork network = SKEP__NODE_NETWORK__INIT;
    char address[16];

    (void)snprintf(address, sizeof(address), "10.1.0.%u", a->index + 1); /* fits */
    network.data_path_address = address;
    description.network = &network;
    description.hostname = a->node_id;
    description.resources = &resources;
    m.description = &description;
    m.boot_id = boot;
    m.generation = a->session.generation;
    call(a, SESSION_CALL_OPEN, &m.base, SESSION_CALL_MS);
}

static void send_report(struct skep_agent *a)
{
    CLEANUP_ARENA struct arena arena = { 0 };
    Skep__TaskStatusRequest m = SKEP__TASK_STATUS_REQUEST__INIT;
    struct session_event ev = {
        .type = SESSION_EV_DONE, .call = SESSION_CALL_REPORT, .session_id = "", .leader_address = ""
    };

    m.session_id = a->session.id;
    if (roster_report(&a->roster, &arena, &m) > 0) {
        call(a, SESSION_CALL_REPORT, &m.base, 2 * SESSION_CALL_MS);
        return;
    }
    roster_report_done(&a->roster, false); /* nothing to say: ends without a call */
    step(a, &ev);
}

static void send(struct skep_agent *a, enum session_call kind)
{
    Skep__HeartbeatRequest beat = SKEP__HEARTBEAT_REQUEST__INIT;
    Skep__AssignmentsRequest assignments = SKEP__ASSIGNMENTS_REQUEST__INIT;

    switch (kind) {
    case SESSION_CALL_OPEN:
        send_open(a);
        break;
    case SESSION_CALL_BEAT:
        beat.session_id = a->session.id;
        call(a, kind, &beat.base, SESSION_CALL_MS);
        break;
    case SESSION_CALL_ASSIGNMENTS:
        assignments.session_id = a->session.id;
        assignments.since = a->session.assignments_token;
        assignments.wait_ms = SESSION_WAIT_MS;
        if (assignments.since == 0)
            roster_expect_complete(&a->roster);
        call(a, kind, &assignments.base, SESSION_WAIT_MS + SESSION_CALL_MS);
        break;
    case SESSION_CALL_REPORT:
        send_report(a);
        break;
    case SESSION_CALL_LOGS:
    case SESSION_CALL_NETWORKS:
        call(a, kind, &beat.base, SESSION_WAIT_MS + SESSION_CALL_MS);
        break;
    case SESSION_CALL_COUNT:
    default:
        UNREACHABLE();
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

static void take_report(struct skep_agent *a, const Skep__TaskStatusResponse *m,
                        struct session_event *ev)
{
    roster_report_done(&a->roster, true);
    for (size_t i = 0; i < m->n_unknown_tasks; i++) {
        struct roster_entry *en = roster_find(&a->roster, m->unknown_tasks[i]);

        if (en != NULL && !en->task.unassigned)
            feed_type(a, en, TASK_EV_UNASSIGNED);
    }
    ev->more = roster_has_reports(&a->roster);
}

static const ProtobufCMessageDescriptor *const answer_types[] = {
    [SESSION_CALL_OPEN] = &skep__session_response__descriptor,
    [SESSION_CALL_BEAT] = &skep__heartbeat_response__descriptor,
    [SESSION_CALL_ASSIGNMENTS] = &skep__assignments_response__descriptor,
    [SESSION_CALL_REPORT] = &skep__task_status_response__descriptor,
};

static void take_answer(struct skep_agent *a, enum session_call kind, const ProtobufCMessage *m,
                        struct session_event *ev)
{
    if (kind == SESSION_CALL_OPEN) {
        ev->session_id = ((const Skep__SessionResponse *)m)->session_id;
        ev->heartbeat_ms = ((const Skep__SessionResponse *)m)->heartbeat_ms;
        ev->generation = ((const Skep__SessionResponse *)m)->generation;
    } else if (kind == SESSION_CALL_BEAT) {
        ev->heartbeat_ms = ((const Skep__HeartbeatResponse *)m)->heartbeat_ms;
    } else if (kind == SESSION_CALL_ASSIGNMENTS) {
        ev->token = ((const Skep__AssignmentsResponse *)m)->token;
        take_assignments(a, (const Skep__AssignmentsResponse *)m);
    } else {
        take_report(a, (const Skep__TaskStatusResponse *)m, ev);
    }
}

void skep_agent_response(struct skep_agent *a, const struct skep_parcel *p)
{
    struct session_event ev = {
        .type = SESSION_EV_DONE, .call = p->kind, .rc = p->rc, .session_id = ""
    };
    char leader[16] = "";
    ProtobufCMessage *m = NULL;

    if (!a->up || p->life != a->life || a->numbers[p->kind] != p->number ||
        (a->cut && p->rc != -ERR_TIMEOUT))
        return;
    a->numbers[p->kind] = 0;
    if (p->leader >= 0)
        (void)snprintf(leader, sizeof(leader), "m%d", p->leader); /* fits */
    ev.leader_address = leader;
    if (p->rc == 0) {
        m = protobuf_c_message_unpack(answer_types[p->kind], NULL, p->size, p->bytes);
        ASSERT(m != NULL);
        take_answer(a, p->kind, m, &ev);
    } else if (p->kind == SESSION_CALL_REPORT) {
        roster_report_done(&a->roster, false);
        step_type(a, SESSION_EV_REPORTS);
    }
    step(a, &ev);
    if (m != NULL)
        protobuf_c_message_free_unpacked(m, NULL);
}

/* ---- driving the session --------------------------------------------------------------------- */

static void step(struct skep_agent *a, struct session_event *ev)
{
    struct session_effects fx;
    uint64_t number = a->number_last;

    if (!a->up)
        return;
    ev->now_ms = now_ms(a);
    ev->prng = &a->prng;
    session_step(&a->session, ev, &fx);
    if (fx.drop) {
        memset(a->numbers, 0, sizeof(a->numbers));
        a->manager = -1;
        roster_report_done(&a->roster, false);
    }
    if (fx.connect != NULL)
        a->manager = (int)strtol(fx.connect + 1, NULL, 10);
    arm(a, fx.timer_at_ms);
    (void)number;
    for (size_t i = 0; i < SESSION_CALL_COUNT; i++) {
        if (fx.start[i] && a->manager >= 0)
            send(a, (enum session_call)i);
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

void skep_agent_start(struct skep_agent *a)
{
    char names[SIM_NODES_MAX][16];
    const char *addresses[SIM_NODES_MAX];
    struct session_event ev = { .type = SESSION_EV_MANAGERS, .addresses = addresses };

    ASSERT(!a->up);
    a->up = true;
    a->life++;
    a->manager = -1;
    a->timer_us = 0;
    memset(&a->session, 0, sizeof(a->session));
    memset(&a->roster, 0, sizeof(a->roster));
    memset(a->numbers, 0, sizeof(a->numbers));
    for (uint32_t i = 0; i < a->s->node_count; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "m%u", i); /* fits */
        addresses[ev.address_count++] = names[i];
    }
    SIM_TRACE(a->s, "agent %u starts", a->index);
    step(a, &ev);
}

void skep_agent_stop(struct skep_agent *a, bool host)
{
    SIM_TRACE(a->s, "agent %u stops%s", a->index, host ? ", and its host" : "");
    a->up = false;
    a->life++;
    roster_deinit(&a->roster);
    memset(&a->roster, 0, sizeof(a->roster));
    if (!host)
        return;
    a->host_life++;
    skep_engine_stop_all(a);
}

void skep_agent_fault(struct skep *w)
{
    struct skep_agent *a = &w->agents[prng_below(&w->agent_prng, w->agent_count)];

    if (!a->up) {
        skep_agent_start(a);
        return;
    }
    if (prng_chance_ppm(&w->agent_prng, w->agent_crash_ppm))
        skep_agent_stop(a, prng_below(&w->agent_prng, 3) == 0);
    if (prng_chance_ppm(&w->agent_prng, w->agent_cut_ppm)) {
        a->cut = true;
        SIM_TRACE(w->s, "agent %u cut off", a->index);
    } else if (prng_below(&w->agent_prng, 3) == 0) {
        a->cut = false;
    }
}
