/* The workload of the whole: who exists, what reaches whom, what must hold. */
#include "test/sim/skep.h"

#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "test/sim/cluster_rules.h"
#include "test/sim/cluster_trace.h"

enum { CONVERGE_POLL_US = 5 * SIM_S, CONVERGE_US = 900 * SIM_S };

/* ---- parcels --------------------------------------------------------------------------------- */

struct skep_parcel *skep_parcel_new(const struct skep_parcel *like, const uint8_t *bytes,
                                    size_t size)
{
    struct skep_parcel *p = xcalloc(1, sizeof(*p) + size);

    *p = *like;
    p->size = size;
    if (size > 0)
        memcpy(p->bytes, bytes, size);
    return p;
}

struct skep_parcel *skep_parcel_pack(const struct skep_parcel *like, const ProtobufCMessage *m)
{
    size_t size = m != NULL ? protobuf_c_message_get_packed_size(m) : 0;
    struct skep_parcel *p = xcalloc(1, sizeof(*p) + size);

    *p = *like;
    p->size = size;
    if (size > 0)
        (void)protobuf_c_message_pack(m, p->bytes); /* its size is known */
    return p;
}

void skep_post(struct sim *s, uint64_t delay_us, int node, struct skep_parcel *p)
{
    struct sim_event e = { .type = node < 0 ? SIM_EV_WORKLOAD : SIM_EV_WORKLOAD_AT,
                           .node = node < 0 ? 0 : (uint32_t)node,
                           .a = node < 0 ? 0 : s->nodes[node].life,
                           .mem = p };

    sim_schedule(s, delay_us, &e);
}

uint64_t skep_delay(struct skep *w)
{
    return 200 + sim_exponential(&w->prng, w->s->rates.delay_mean_us);
}

bool skep_loses(struct skep *w)
{
    return !w->s->calm && prng_chance_ppm(&w->prng, w->s->rates.loss_ppm / 2);
}

int skep_pick_node(struct skep *w)
{
    uint32_t start = (uint32_t)prng_below(&w->prng, w->s->node_count);

    for (uint32_t i = 0; w->s->calm && i < w->s->node_count; i++) {
        if (w->s->core[(start + i) % w->s->node_count])
            return (int)((start + i) % w->s->node_count);
    }
    return (int)start;
}

/* ---- rules ----------------------------------------------------------------------------------- */

static void on_change(void *ctx, const struct store_event *ev)
{
    struct skep *w = ctx;
    const Skep__Task *before = (const Skep__Task *)ev->before,
                     *after = (const Skep__Task *)ev->after;
    bool task = ev->kind == SKEP__KIND__KIND_TASK && ev->action == STORE_UPDATE;
    struct err e = { 0 };

    /* Progress of tasks breaks none of the rules. */
    w->check_due = w->check_due || ev->kind == SKEP__KIND__KIND_SERVICE ||
                   ev->action != STORE_UPDATE || ev->kind == SKEP__KIND__KIND_NETWORK ||
                   (task && (before->desired_state != after->desired_state ||
                             after->status->state == SKEP__TASK_STATE__TASK_COMPLETE));
    if (w->s->trace)
        cluster_trace_event(stdout, &w->view, ev);
    if (cluster_rules_change(ev, &e) < 0)
        sim_fail(w->s, "%s", e.message);
}

/* Every entry once, when the first manager applies it. */
static void skep_applied(struct sim *s, uint32_t node, const struct raft_entry *entry,
                         const struct sim_result *result)
{
    struct skep *w = skep_of(s);
    const struct store_listener to = { on_change, w };
    struct err e = { 0 };

    (void)result;
    if (entry->type != RAFT_ENTRY_NORMAL || entry->index <= w->view.index)
        return;
    w->view.index = entry->index;
    w->view.now_ms = s->now_us / 1000;
    w->view.wall_ns = INT64_C(1700000000000000000) + (int64_t)s->now_us * 1000;
    w->view.ages_lie = s->rates.clock_error_ppm != 0;
    const ProtobufCBinaryData packed = { entry->data->size,
                                         (uint8_t *)(uintptr_t)entry->data->bytes };
    int rc = store_apply_packed(w->view.store, entry->index, packed, &to, &e);
    if (rc == -ERR_PROTO)
        sim_fail(s, "node %u commits what is no transaction",
                 node); /* refusals are part of the game */
    if (w->check_due && !s->failed &&
        (cluster_rules_always(&w->view, &e) < 0 || cluster_rules_given(w->view.store, &e) < 0))
        sim_fail(s, "%s", e.message);
    w->check_due = false;
}

static void view_agents(struct skep *w)
{
    static const Skep__TaskState states[] = {
        [CONTAINER_CREATED] = SKEP__TASK_STATE__TASK_READY,
        [CONTAINER_RUNNING] = SKEP__TASK_STATE__TASK_RUNNING,
        [CONTAINER_EXITED] = SKEP__TASK_STATE__TASK_FAILED,
    };

    w->view.agent_count = w->agent_count;
    for (uint32_t i = 0; i < w->agent_count; i++) {
        struct skep_agent *a = &w->agents[i];
        struct world_agent *to = &w->view.agents[i];

        to->connected = true;
        to->container_count = 0;
        memcpy(to->node_id, a->node_id, sizeof(to->node_id));
        if (to->containers == NULL)
            to->containers = xcalloc(SKEP_CONTAINERS_MAX, sizeof(*to->containers));
        for (uint32_t k = 0; k < SKEP_CONTAINERS_MAX; k++) {
            const struct skep_container *c = &a->containers[k];

            if (c->phase != CONTAINER_RUNNING)
                continue;
            struct world_container *v = &to->containers[to->container_count++];
            *v = (struct world_container){ .state = states[c->phase] };
            memcpy(v->task_id, c->task_id, sizeof(v->task_id));
        }
    }
}

/* O7: after the last fault, observed becomes desired. */
static bool skep_settled(struct sim *s, struct err *e)
{
    struct skep *w = skep_of(s);

    view_agents(w);
    w->view.now_ms = s->now_us / 1000;
    if (w->repairs < SKEP_SERVICES + SKEP_AGENTS_MAX) {
        (void)err_set(e, ERR_INTERNAL, "O7: operators do not get through");
        return false;
    }
    return cluster_rules_converged(&w->view, e) == 0;
}

/* ---- workload -------------------------------------------------------------------------------- */

static void calm(struct skep *w)
{
    for (uint32_t i = 0; i < w->agent_count; i++) {
        w->agents[i].cut = false;
        if (!w->agents[i].up)
            skep_agent_start(&w->agents[i]);
    }
}

static void fault_later(struct skep *w)
{
    struct skep_parcel like = { .what = SKEP_AGENT_FAULT };

    skep_post(w->s, sim_exponential(&w->agent_prng, w->agent_fault_us), -1,
              skep_parcel_new(&like, NULL, 0));
}

static void skep_event(struct sim *s, struct sim_event *e)
{
    struct skep *w = skep_of(s);
    const struct skep_parcel *p = e->mem;
    bool here =
        e->type == SIM_EV_WORKLOAD_AT && s->nodes[e->node].up && s->nodes[e->node].life == e->a;

    switch (p->what) {
    case SKEP_AGENT_TIMER:
        skep_agent_timer(&w->agents[p->who], p);
        break;
    case SKEP_AGENT_REQUEST:
        if (here)
            skep_manager_agent_call(s, e->node, p);
        break;
    case SKEP_AGENT_RESPONSE:
        skep_agent_response(&w->agents[p->who], p);
        break;
    case SKEP_ENGINE_DONE:
        skep_engine_done(&w->agents[p->who], p);
        break;
    case SKEP_ENGINE_EXIT:
        skep_engine_exit(&w->agents[p->who], p);
        break;
    case SKEP_AGENT_FAULT:
        if (s->calm) {
            calm(w);
            break;
        }
        skep_agent_fault(w);
        fault_later(w);
        break;
    case SKEP_OPERATOR_WAKE:
        skep_operator_wake(w, p);
        break;
    case SKEP_OPERATOR_REQUEST:
        if (here)
            skep_operator_call(s, e->node, p);
        break;
    case SKEP_OPERATOR_RESPONSE:
        skep_operator_response(w, p);
        break;
    }
    arena_reset(&w->arena);
}

static void start_agents(struct skep *w)
{
    w->agent_count = SKEP_AGENTS_MAX;
    for (uint32_t i = 0; i < w->agent_count; i++) {
        struct skep_agent *a = &w->agents[i];

        a->s = w->s;
        a->index = i;
        skep_agent_id(i, a->node_id);
        prng_init(&a->prng, prng_next(&w->prng));
        for (uint32_t k = 0; k < SKEP_CONTAINERS_MAX; k++)
            a->containers[k].phase = CONTAINER_ABSENT;
        skep_agent_start(a);
    }
}

static void *skep_create(struct sim *s)
{
    struct skep *w = xcalloc(1, sizeof(*w));

    s->workload_state = w;
    w->s = s;
    prng_init(&w->prng, prng_next(&s->client));
    prng_init(&w->agent_prng, prng_next(&s->client));
    w->view.store = store_new();
    w->view.index = 1;
    skep_manager_fill(w->view.store);
    w->agent_fault_us = (uint32_t)prng_range(&w->agent_prng, 500 * SIM_MS, 5 * SIM_S);
    if (prng_below(&w->agent_prng, 2) == 0)
        w->agent_crash_ppm = (uint32_t)prng_range(&w->agent_prng, 10000, 300000);
    if (prng_below(&w->agent_prng, 2) == 0)
        w->agent_cut_ppm = (uint32_t)prng_range(&w->agent_prng, 10000, 300000);
    start_agents(w);
    fault_later(w);
    for (uint32_t i = 0; i < SKEP_OPERATORS; i++) {
        struct skep_parcel like = { .what = SKEP_OPERATOR_WAKE, .who = i };

        skep_post(s, 1 + prng_below(&w->prng, SIM_S), -1, skep_parcel_new(&like, NULL, 0));
    }
    return w;
}

static void skep_destroy(void *workload)
{
    struct skep *w = workload;

    for (uint32_t i = 0; i < SKEP_AGENTS_MAX; i++) {
        roster_deinit(&w->agents[i].roster);
        free(w->view.agents[i].containers);
    }
    for (uint32_t i = 0; i < SKEP_OPERATORS; i++)
        free(w->operators[i].request);
    store_free(w->view.store);
    arena_deinit(&w->arena);
    free(w);
}

static void skep_read_done(struct sim *s, uint32_t node, const struct raft_read *read)
{
    (void)s;
    (void)node;
    (void)read; /* operators ask the shell themselves */
}

static void skep_proposed(struct sim *s, uint32_t node, uint64_t token, int rc, uint64_t index)
{
    (void)s;
    (void)node;
    (void)token;
    (void)rc;
    (void)index;
}

static void skep_forget(struct sim *s, uint32_t node)
{
    (void)s;
    (void)node; /* leader.c does */
}

const struct sim_workload_ops sim_skep = {
    .machine = &skep_manager,
    .create = skep_create,
    .destroy = skep_destroy,
    .event = skep_event,
    .applied = skep_applied,
    .read_done = skep_read_done,
    .proposed = skep_proposed,
    .forget = skep_forget,
    .bind = skep_manager_bind,
    .started = skep_manager_started,
    .leader = skep_manager_leader,
    .before_sleep = skep_manager_run,
    .settled = skep_settled,
    .settle_us = CONVERGE_US,
    .settle_poll_us = CONVERGE_POLL_US,
};
