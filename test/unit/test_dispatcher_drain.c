/* Two-phase stop (network.md 3.4): nobody sends requests to a task any more before its node is told
 * to stop it. And `ctl net check`, which travels with the same answers. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "test/lib/net_rig.h"

#define STATE(name) SKEP__TASK_STATE__TASK_##name
enum {
    UP = SKEP__NETWORK_ENDPOINT__STATE__UP,
    DRAINING = SKEP__NETWORK_ENDPOINT__STATE__DRAINING,
    RUNNING = STATE(RUNNING),
    SHUTDOWN = STATE(SHUTDOWN),
};

struct world {
    struct net_rig r;
    struct net_agent *n1, *n2, *n3;
};

/* web1 on n1, web2 on n2, both RUNNING in network a; lone1 on n1 without a network. n3 has nothing.
 */
static struct world *setup(void)
{
    struct world *w = calloc(1, sizeof(*w));
    struct net_rig *r = &w->r;

    net_rig_init(r);
    for (unsigned i = 1; i <= 3; i++) {
        char id[3] = { 'n', (char)('0' + i), '\0' };

        net_rig_node(r, id, i);
    }
    net_rig_network(r, "a", 4097);
    net_rig_service(r, "web", "a", false);
    net_rig_service(r, "lone", "", false);
    net_rig_task(r, "web1", "web", "n1", "a");
    net_rig_task(r, "web2", "web", "n2", "a");
    net_rig_task(r, "lone1", "lone", "n1", "");
    net_rig_task_state(r, "web1", STATE(RUNNING));
    net_rig_task_state(r, "web2", STATE(RUNNING));
    net_rig_task_state(r, "lone1", STATE(RUNNING));
    w->n1 = net_rig_agent(r, "n1");
    w->n2 = net_rig_agent(r, "n2");
    w->n3 = net_rig_agent(r, "n3");
    net_rig_settle(r);
    ck_assert_int_eq(net_rig_endpoint(w->n2, "web1"), UP);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), RUNNING);
    return w;
}

static void teardown(struct world *w)
{
    net_rig_deinit(&w->r);
    free(w);
}

START_TEST(told_after_all_have_acknowledged)
{
    struct world *w = setup();

    net_rig_task_desired(&w->r, "web1", STATE(SHUTDOWN));
    net_rig_step(&w->r); /* both are told, nobody has asked on */
    ck_assert_int_eq(net_rig_endpoint(w->n1, "web1"), DRAINING);
    ck_assert_int_eq(net_rig_endpoint(w->n2, "web1"), DRAINING);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), RUNNING);
    ck_assert(!net_rig_ask(&w->r, w->n2)); /* asks on: its kernel has it */
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), RUNNING);
    ck_assert(!net_rig_ask(&w->r, w->n1)); /* its own balancer, too */
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), SHUTDOWN);
    ck_assert_int_eq(net_rig_endpoint(w->n2, "web1"), DRAINING); /* until it has ended */
    net_rig_task_state(&w->r, "web1", STATE(SHUTDOWN));
    net_rig_settle(&w->r);
    ck_assert_int_eq(net_rig_endpoint(w->n2, "web1"), -1);
    teardown(w);
}
END_TEST

/* An answer that the agent did not take in (it asks with an older token) is no acknowledgement. */
START_TEST(a_lost_answer_is_no_acknowledgement)
{
    struct world *w = setup();

    net_rig_task_desired(&w->r, "web1", STATE(SHUTDOWN));
    uint64_t before = w->n2->mirror.token;
    net_rig_step(&w->r);
    (void)net_rig_ask(&w->r, w->n1);
    w->n2->mirror.token = before;
    ck_assert(net_rig_ask(&w->r, w->n2)); /* all of it again */
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), RUNNING);
    ck_assert(!net_rig_ask(&w->r, w->n2));
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), SHUTDOWN);
    teardown(w);
}
END_TEST

/* What it asks on with was answered before the task was to stop. */
START_TEST(an_older_answer_is_no_acknowledgement)
{
    struct world *w = setup();

    net_rig_task_state(&w->r, "web2", STATE(RUNNING)); /* nothing new */
    net_rig_task(&w->r, "web3", "web", "n1", "a");
    net_rig_step(&w->r);
    ck_assert(!w->n1->parked && !w->n2->parked); /* they take web3 in */
    net_rig_task_desired(&w->r, "web1", STATE(SHUTDOWN));
    net_rig_step(&w->r);
    ck_assert(net_rig_ask(&w->r, w->n1) && net_rig_ask(&w->r, w->n2));
    ck_assert_int_eq(net_rig_endpoint(w->n2, "web1"), DRAINING);
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), RUNNING);
    net_rig_settle(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), SHUTDOWN);
    teardown(w);
}
END_TEST

/* Nor is a piece of a complete set that the lost answer was followed by. */
START_TEST(a_piece_is_no_acknowledgement)
{
    struct world *w = setup();
    char id[ID_CHARS + 1];

    for (int i = 0; i < 8000; i++) {
        (void)snprintf(id, sizeof(id), "many%021d", i);
        net_rig_task(&w->r, id, "web", "n3", "a");
    }
    net_rig_settle(&w->r);
    net_rig_task_desired(&w->r, "web1", STATE(SHUTDOWN));
    net_rig_step(&w->r);
    (void)net_rig_ask(&w->r, w->n1);
    (void)net_rig_ask(&w->r, w->n3);
    w->n2->mirror.token--;
    ck_assert(net_rig_ask(&w->r, w->n2) && w->n2->mirror.completing);
    ck_assert(net_rig_ask(&w->r, w->n2));
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), RUNNING);
    net_rig_settle(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), SHUTDOWN);
    teardown(w);
}
END_TEST

START_TEST(told_after_the_time_limit)
{
    struct world *w = setup();

    net_rig_task_desired(&w->r, "web1", STATE(SHUTDOWN));
    net_rig_step(&w->r);
    w->r.core.now_ms += DISPATCHER_DRAIN_MS - 1;
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), RUNNING);
    ck_assert_uint_le(core_rig_run(&w->r.core), w->r.core.now_ms + 1); /* wants to run then */
    w->r.core.now_ms++;
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), SHUTDOWN);
    net_rig_settle(&w->r); /* a late word is no harm */
    teardown(w);
}
END_TEST

START_TEST(others_are_not_delayed)
{
    struct world *w = setup();

    net_rig_task_desired(&w->r, "web1", STATE(SHUTDOWN));
    net_rig_task_desired(&w->r, "lone1", STATE(SHUTDOWN));
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "lone1"), SHUTDOWN);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), RUNNING);
    ck_assert(!net_rig_ask_tasks(&w->r, w->n1)); /* what is held back is not "new" */
    net_rig_task(&w->r, "web3", "web", "n1", "a");
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web3"), RUNNING);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), RUNNING);
    net_rig_settle(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), SHUTDOWN);
    teardown(w);
}
END_TEST

/* web3 has never been UP; nobody sends it anything. */
START_TEST(never_up_is_told_at_once)
{
    struct world *w = setup();

    net_rig_task(&w->r, "web3", "web", "n1", "a");
    net_rig_settle(&w->r);
    net_rig_task_desired(&w->r, "web3", STATE(SHUTDOWN));
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web3"), SHUTDOWN);
    teardown(w);
}
END_TEST

/* A task that ends by itself, or whose node goes down, is not held back any more. */
START_TEST(ended_meanwhile)
{
    struct world *w = setup();

    net_rig_task_desired(&w->r, "web1", STATE(SHUTDOWN));
    net_rig_step(&w->r);
    net_rig_task_state(&w->r, "web1", STATE(FAILED));
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), SHUTDOWN);
    net_rig_settle(&w->r);
    net_rig_task_desired(&w->r, "web2", STATE(SHUTDOWN));
    net_rig_step(&w->r);
    net_rig_node_state(&w->r, "n2", SKEP__NODE_STATE__NODE_DOWN);
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n2, "web2"), SHUTDOWN);
    teardown(w);
}
END_TEST

/* A dead session does not count: web1's node hears of it when n2 is given up. */
START_TEST(dead_sessions_do_not_count)
{
    struct world *w = setup();

    w->n2->silent = true;
    w->r.core.now_ms += 14000; /* the session dies after 15 s */
    net_rig_step(&w->r);
    net_rig_task_desired(&w->r, "web1", STATE(SHUTDOWN));
    net_rig_step(&w->r);
    (void)net_rig_ask(&w->r, w->n1);
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), RUNNING);
    w->r.core.now_ms += 1500; /* less than the limit */
    net_rig_step(&w->r);
    ck_assert(!dispatcher_session_valid(w->r.d, "n2", w->n2->session));
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), SHUTDOWN);
    teardown(w);
}
END_TEST

/* A session that was opened again must acknowledge what it is told then. */
START_TEST(reopened_sessions_count)
{
    struct world *w = setup();

    net_rig_task_desired(&w->r, "web1", STATE(SHUTDOWN));
    net_rig_step(&w->r);
    (void)net_rig_ask(&w->r, w->n1);
    (void)net_rig_agent(&w->r, "n2");
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), RUNNING);
    ck_assert(net_rig_ask(&w->r, w->n2)); /* everything */
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), RUNNING);
    ck_assert(!net_rig_ask(&w->r, w->n2));
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), SHUTDOWN);
    teardown(w);
}
END_TEST

/* The own node's session is opened again: a complete set tells at once. */
START_TEST(complete_assignments_tell_at_once)
{
    struct world *w = setup();

    net_rig_task_desired(&w->r, "web1", STATE(SHUTDOWN));
    net_rig_step(&w->r);
    (void)net_rig_agent(&w->r, "n1");
    ck_assert(net_rig_ask_tasks(&w->r, w->n1));
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), SHUTDOWN);
    net_rig_settle(&w->r);
    teardown(w);
}
END_TEST

/* Removed from the store while it runs: its record drains, its node hears of the removal later. */
START_TEST(removal_is_held_back_too)
{
    struct world *w = setup();

    core_rig_remove(&w->r.core, SKEP__KIND__KIND_TASK, "web1");
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_endpoint(w->n2, "web1"), DRAINING);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), RUNNING);
    (void)net_rig_ask(&w->r, w->n1);
    (void)net_rig_ask(&w->r, w->n2);
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), -1);
    net_rig_settle(&w->r);
    ck_assert_int_eq(net_rig_endpoint(w->n2, "web1"), -1);
    struct err e = { 0 };
    ck_assert_msg(net_mirror_check(&w->n2->mirror, w->r.core.f.s, "n2", &e) == 0, "%s", e.message);
    teardown(w);
}
END_TEST

/* First desired SHUTDOWN, then removed, both while it is held. */
START_TEST(shutdown_then_removal)
{
    struct world *w = setup();

    net_rig_task_desired(&w->r, "web1", STATE(SHUTDOWN));
    core_rig_remove(&w->r.core, SKEP__KIND__KIND_TASK, "web1");
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), RUNNING);
    w->r.core.now_ms += DISPATCHER_DRAIN_MS;
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), -1);
    net_rig_settle(&w->r);
    ck_assert_int_eq(net_rig_endpoint(w->n2, "web1"), -1);
    teardown(w);
}
END_TEST

/* Another leader knows of no hold: complete sets tell everything. The next drain works as ever. */
START_TEST(leader_change)
{
    struct world *w = setup();

    net_rig_task_desired(&w->r, "web1", STATE(SHUTDOWN));
    net_rig_step(&w->r);
    net_rig_new_leader(&w->r);
    (void)net_rig_agent(&w->r, "n1");
    (void)net_rig_agent(&w->r, "n2");
    (void)net_rig_agent(&w->r, "n3");
    net_rig_task_desired(&w->r, "web2", STATE(SHUTDOWN)); /* before anybody has asked */
    ck_assert(net_rig_ask_tasks(&w->r, w->n1));
    ck_assert_int_eq(net_rig_told(w->n1, "web1"), SHUTDOWN);
    net_rig_settle(&w->r);
    ck_assert_int_eq(net_rig_told(w->n2, "web2"), SHUTDOWN);
    teardown(w);
}
END_TEST

/* With ingress every live session has the endpoint. */
START_TEST(ingress_waits_for_every_node)
{
    struct world *w = setup();

    net_rig_ingress(&w->r, "in", 4096);
    net_rig_task(&w->r, "web3", "web", "n1", "a in");
    net_rig_task_state(&w->r, "web3", STATE(RUNNING));
    net_rig_settle(&w->r);
    net_rig_task_desired(&w->r, "web3", STATE(SHUTDOWN));
    net_rig_step(&w->r);
    (void)net_rig_ask(&w->r, w->n1);
    (void)net_rig_ask(&w->r, w->n2);
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web3"), RUNNING);
    (void)net_rig_ask(&w->r, w->n3);
    net_rig_step(&w->r);
    ck_assert_int_eq(net_rig_told(w->n1, "web3"), SHUTDOWN);
    teardown(w);
}
END_TEST

/* ---- a random life ---- */

enum { LIFE_NODES = 4, LIFE_TASKS = 8, LIFE_STEPS = 2000 };

struct watched {
    char id[ID_CHARS + 1];
    size_t node;
    uint64_t stopped_ms; /* when it was to stop while UP; 0: it was not */
    bool had;            /* its agent knew it then */
    bool ingress;        /* everybody sends it requests, not only who shares network a */
};

struct life {
    struct net_rig r;
    struct prng p;
    unsigned number, held; /* held: times that somebody had to be waited for */
    struct watched tasks[LIFE_TASKS];
};

static uint64_t below(struct life *l, uint64_t n)
{
    return prng_range(&l->p, 0, n - 1);
}

static void life_new_task(struct life *l, struct watched *t)
{
    static const char *const networks[] = { "a", "", "in", "a in" };
    size_t which = below(l, ARRAY_LEN(networks));

    *t = (struct watched){ .node = below(l, LIFE_NODES), .ingress = which >= 2 };
    (void)snprintf(t->id, sizeof(t->id), "t%u", ++l->number);
    net_rig_task(&l->r, t->id, "web", l->r.agents[t->node].node_id, networks[which]);
}

static void life_stop(struct life *l, struct watched *t, bool remove)
{
    const Skep__Task *task = store_task(l->r.core.f.s, t->id);

    if (task->status->state == STATE(RUNNING) && task->desired_state < STATE(SHUTDOWN)) {
        t->stopped_ms = l->r.core.now_ms;
        t->had = net_rig_told(&l->r.agents[t->node], t->id) >= 0;
    }
    if (remove)
        core_rig_remove(&l->r.core, SKEP__KIND__KIND_TASK, t->id);
    else
        net_rig_task_desired(&l->r, t->id, STATE(SHUTDOWN));
}

static void life_task(struct life *l, struct watched *t)
{
    const Skep__Task *task = store_task(l->r.core.f.s, t->id);
    uint64_t what = below(l, 10);

    if (task == NULL) { /* a removed one is watched until its time is over */
        if (t->stopped_ms + DISPATCHER_DRAIN_MS < l->r.core.now_ms)
            life_new_task(l, t);
    } else if (what < 5) {
        net_rig_task_state(&l->r, t->id, STATE(RUNNING));
    } else if (what < 8) {
        life_stop(l, t, false);
    } else if (what < 9) {
        life_stop(l, t, true);
    } else {
        t->stopped_ms = 0; /* ends by itself */
        net_rig_task_state(&l->r, t->id, STATE(FAILED));
    }
}

static void life_agents(struct life *l)
{
    size_t i = below(l, LIFE_NODES);
    struct net_agent *a = &l->r.agents[i];

    if (!a->parked && below(l, 3) != 0)
        (void)net_rig_ask(&l->r, a);
    for (size_t k = 0; k < LIFE_TASKS && a->tasks_token == 0; k++) {
        if (l->tasks[k].node == i)
            l->tasks[k].stopped_ms = 0; /* a complete set tells at once */
    }
    if (!a->tasks_parked)
        (void)net_rig_ask_tasks(&l->r, a);
    if (below(l, 100) == 0) {
        l->r.core.now_ms += DISPATCHER_REGISTER_WINDOW_MS;
        (void)net_rig_agent(&l->r, a->node_id);
    }
}

/* Somebody on this node can send t requests, and may yet do so. */
static bool may_send(const struct life *l, size_t node, const struct watched *t)
{
    const struct net_agent *a = &l->r.agents[node];
    struct store_iter it;
    bool shares = t->ingress;

    for (const Skep__Task *o = store_node_tasks(l->r.core.f.s, a->node_id, &it); o != NULL;
         o = store_iter_next(&it))
        shares = shares || (o->n_networks > 0 && strcmp(o->networks[0]->network_id, "a") == 0 &&
                            o->status->state <= STATE(RUNNING));
    return shares && net_rig_endpoint(a, t->id) == UP;
}

/* A node that was told to stop a task in time: nobody sends it anything any more. */
static void life_check(struct life *l, int seed)
{
    for (size_t i = 0; i < LIFE_TASKS; i++) {
        const struct watched *t = &l->tasks[i];
        int told = net_rig_told(&l->r.agents[t->node], t->id);
        bool up = false;

        if (t->stopped_ms == 0 || !t->had ||
            l->r.core.now_ms >= t->stopped_ms + DISPATCHER_DRAIN_MS)
            continue;
        for (size_t k = 0; k < LIFE_NODES; k++)
            up = up || may_send(l, k, t);
        l->held += up;
        ck_assert_msg(!up || told == RUNNING, "seed %d: task %s is told too early", seed, t->id);
    }
}

START_TEST(nobody_is_told_too_early)
{
    struct life l = { .held = 0 };
    struct net_rig *r = &l.r;

    net_rig_init(r);
    prng_init(&l.p, (uint64_t)_i + 1);
    net_rig_network(r, "a", 4097);
    net_rig_ingress(r, "in", 4096);
    net_rig_service(r, "web", "a in", false);
    for (unsigned i = 1; i <= LIFE_NODES; i++) {
        char id[3] = { 'n', (char)('0' + i), '\0' };

        net_rig_node(r, id, i);
        (void)net_rig_agent(r, id);
    }
    net_rig_settle(r);
    for (size_t i = 0; i < LIFE_TASKS; i++)
        life_new_task(&l, &l.tasks[i]);
    for (int i = 0; i < LIFE_STEPS; i++) {
        if (below(&l, 3) == 0)
            life_task(&l, &l.tasks[below(&l, LIFE_TASKS)]);
        life_agents(&l);
        net_rig_step(r);
        life_check(&l, _i);
        r->core.now_ms += below(&l, 100);
    }
    ck_assert_uint_gt(l.held, 0);
    r->core.now_ms += DISPATCHER_DRAIN_MS;
    net_rig_settle(r);
    for (size_t i = 0; i < LIFE_NODES; i++) {
        struct err e = { 0 };

        ck_assert_msg(
            net_mirror_check(&r->agents[i].mirror, r->core.f.s, r->agents[i].node_id, &e) == 0,
            "seed %d: %s", _i, e.message);
    }
    net_rig_deinit(r);
}
END_TEST

/* ---- check ---- */

static int check(struct world *w, const char *ref, uint32_t wait_ms, void *call)
{
    struct core_env env = { .store = w->r.core.f.s,
                            .now_ms = w->r.core.now_ms,
                            .prng = &w->r.core.f.prng };
    struct dispatcher_call c = { .env = &env, .call = call, .until_ms = UINT64_MAX };
    Skep__NetworkCheckRequest req = SKEP__NETWORK_CHECK_REQUEST__INIT;
    struct err e = { 0 };

    req.ref = (char *)(uintptr_t)ref;
    req.wait_ms = wait_ms;
    return dispatcher_check(w->r.d, &c, &req, &e);
}

/* With count differences, all of network a, and one of the host's tables. */
static int report(struct world *w, const struct net_agent *a, size_t count, const char *error)
{
    struct core_env env = { .store = w->r.core.f.s, .now_ms = w->r.core.now_ms };
    struct dispatcher_call c = { .env = &env, .node_id = a->node_id };
    Skep__NetworkCheckReport req = SKEP__NETWORK_CHECK_REPORT__INIT;
    Skep__NetworkDifference x = SKEP__NETWORK_DIFFERENCE__INIT, host = x;
    CLEANUP_FREE Skep__NetworkDifference **list = calloc(count + 1, sizeof(*list));
    struct err e = { 0 };

    x.network_id = (char *)(uintptr_t) "aaaaaaaaaaaaaaaaaaaaaaaaa";
    x.what = (char *)(uintptr_t) "route";
    x.object = (char *)(uintptr_t) "10.0.1.5/32";
    x.problem = (char *)(uintptr_t) "missing";
    x.node_id = (char *)(uintptr_t) "somebody else";
    host.what = (char *)(uintptr_t) "nft";
    for (size_t i = 0; i < count; i++)
        list[i] = &x;
    list[count] = &host;
    req.session_id = (char *)(uintptr_t)a->session;
    req.check = a->check;
    req.n_differences = count + 1;
    req.differences = list;
    req.error = (char *)(uintptr_t)error;
    return dispatcher_check_report(w->r.d, &c, &req, &e);
}

static const Skep__NetworkCheckNode *answered_node(const struct world *w, const char *id)
{
    for (size_t i = 0; i < w->r.check.n_nodes; i++) {
        if (strcmp(w->r.check.nodes[i]->node_id, id) == 0)
            return w->r.check.nodes[i];
    }
    return NULL;
}

START_TEST(check_gathers_reports)
{
    struct world *w = setup();
    int call;

    net_rig_node(&w->r, "n4", 4);
    net_rig_node_state(&w->r, "n4", SKEP__NODE_STATE__NODE_DOWN);
    ck_assert_int_eq(check(w, "", 0, &call), DISPATCHER_PARKED);
    net_rig_settle(&w->r);
    ck_assert(w->n1->check != 0 && w->n1->check == w->n3->check);
    ck_assert_int_eq(report(w, w->n1, 2, ""), 0);
    ck_assert_int_eq(report(w, w->n2, 1000, ""), 0);
    net_rig_step(&w->r);
    ck_assert_ptr_null(w->r.answered);
    ck_assert_int_eq(report(w, w->n3, 0, "no netlink"), 0);
    net_rig_step(&w->r);
    ck_assert_ptr_eq(w->r.answered, &call);
    ck_assert_uint_eq(w->r.check.n_nodes, 4);
    ck_assert_uint_eq(answered_node(w, "n1")->difference_count, 3);
    ck_assert_str_eq(answered_node(w, "n1")->hostname, "n1");
    ck_assert_uint_eq(answered_node(w, "n2")->difference_count, 1001); /* counted, not listed */
    ck_assert_str_eq(answered_node(w, "n3")->error, "no netlink");
    ck_assert_str_eq(answered_node(w, "n4")->error, "down");
    ck_assert_uint_eq(w->r.check.n_differences, 3 + 200 + 1);
    ck_assert_str_eq(w->r.check.differences[0]->node_id, "n1"); /* whatever the agent said */
    uint64_t number = w->n1->check;
    net_rig_settle(&w->r);
    ck_assert_int_eq(check(w, "", 0, &call), DISPATCHER_PARKED);
    net_rig_settle(&w->r);
    ck_assert_uint_gt(w->n1->check, number);
    teardown(w);
}
END_TEST

START_TEST(check_does_not_wait_for_ever)
{
    struct world *w = setup();
    int call;

    ck_assert_int_eq(check(w, "", 0, &call), DISPATCHER_PARKED);
    w->n2->silent = true;
    net_rig_settle(&w->r);
    ck_assert_int_eq(report(w, w->n1, 0, ""), 0);
    w->r.core.now_ms += 9999;
    net_rig_step(&w->r);
    ck_assert_ptr_null(w->r.answered);
    w->r.core.now_ms++;
    net_rig_step(&w->r);
    ck_assert_ptr_eq(w->r.answered, &call);
    ck_assert_str_eq(answered_node(w, "n1")->error, "");
    ck_assert_str_eq(answered_node(w, "n2")->error, "did not answer within 10 s");
    ck_assert_int_eq(report(w, w->n2, 0, ""), 0); /* too late, no harm */
    w->r.answered = NULL;
    ck_assert_int_eq(check(w, "", 50000, &call), DISPATCHER_PARKED);
    for (int i = 0; i < 6; i++) {
        w->r.core.now_ms += 1000;
        net_rig_settle(&w->r);
    }
    ck_assert(!dispatcher_session_valid(w->r.d, "n2", w->n2->session));
    ck_assert_int_eq(report(w, w->n1, 0, ""), 0);
    ck_assert_int_eq(report(w, w->n3, 0, ""), 0);
    net_rig_step(&w->r);
    ck_assert_ptr_eq(w->r.answered, &call);
    ck_assert_ptr_nonnull(strstr(answered_node(w, "n2")->error, "down"));
    teardown(w);
}
END_TEST

/* Of one network: only nodes that have it, only its differences. */
START_TEST(check_of_one_network)
{
    struct world *w = setup();
    int call;

    net_rig_network(&w->r, "aaaaaaaaaaaaaaaaaaaaaaaaa", 4099);
    net_rig_task(&w->r, "web3", "web", "n2", "aaaaaaaaaaaaaaaaaaaaaaaaa");
    ck_assert_int_eq(check(w, "nosuch", 0, &call), -ERR_NOT_FOUND);
    ck_assert_int_eq(check(w, "net-aaaaaaaaaaaaaaaaaaaaaaaaa", 0, &call), DISPATCHER_PARKED);
    net_rig_settle(&w->r);
    ck_assert_int_eq(report(w, w->n2, 5, ""), 0);
    net_rig_step(&w->r);
    ck_assert_ptr_eq(w->r.answered, &call);
    ck_assert_uint_eq(w->r.check.n_nodes, 1);
    ck_assert_uint_eq(w->r.check.n_differences, 5); /* not the host's tables */
    teardown(w);
}
END_TEST

START_TEST(check_refusals)
{
    struct world *w = setup();
    int call, parked = 0;

    while (check(w, "", 0, &call) == DISPATCHER_PARKED)
        parked++;
    ck_assert_int_eq(parked, 8);
    ck_assert_int_eq(check(w, "", 0, &call), -ERR_BUSY);
    net_rig_settle(&w->r);
    ck_assert_int_eq(report(w, w->n1, 1, "\033[2J"), -ERR_INVALID);
    ck_assert_int_eq(report(w, w->n1, 1, ""), 0); /* one report for all eight */
    w->n1->session[0] = '\0';
    ck_assert_int_eq(report(w, w->n1, 1, ""), -ERR_STALE);
    teardown(w);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dispatcher_drain");
    TCase *drain = tcase_create("drain"), *checks = tcase_create("check");
    SRunner *r = srunner_create(s);

    tcase_add_test(drain, told_after_all_have_acknowledged);
    tcase_add_test(drain, a_lost_answer_is_no_acknowledgement);
    tcase_add_test(drain, an_older_answer_is_no_acknowledgement);
    tcase_add_test(drain, a_piece_is_no_acknowledgement);
    tcase_add_test(drain, told_after_the_time_limit);
    tcase_add_test(drain, others_are_not_delayed);
    tcase_add_test(drain, never_up_is_told_at_once);
    tcase_add_test(drain, ended_meanwhile);
    tcase_add_test(drain, dead_sessions_do_not_count);
    tcase_add_test(drain, reopened_sessions_count);
    tcase_add_test(drain, complete_assignments_tell_at_once);
    tcase_add_test(drain, removal_is_held_back_too);
    tcase_add_test(drain, shutdown_then_removal);
    tcase_add_test(drain, leader_change);
    tcase_add_test(drain, ingress_waits_for_every_node);
    tcase_add_loop_test(drain, nobody_is_told_too_early, 0, 30);
    tcase_add_test(checks, check_gathers_reports);
    tcase_add_test(checks, check_does_not_wait_for_ever);
    tcase_add_test(checks, check_of_one_network);
    tcase_add_test(checks, check_refusals);
    suite_add_tcase(s, drain);
    suite_add_tcase(s, checks);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
