/* managerd/allocator under random churn: 10 000 changes of networks, services, tasks, nodes, pools
 * and leaders, with transactions that are refused, and ones of others that land in between. After
 * each change the allocator's memory is compared with the store, and the store is searched for
 * anything that was given twice. CHURN=seed runs another life. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test/lib/allocator_rig.h"
#include "test/sim/cluster_rules.h"

enum { STEPS = 10000, NETWORKS = 12, SERVICES = 10, TASKS = 60, NODES = 4 };

#define S(x) SKEP__TASK_STATE__TASK_##x

struct churn {
    struct allocator_rig rig;
    struct prng dice;
    uint32_t next_id;
    size_t allocated, blocked, refused;
};

static uint64_t roll(struct churn *c, uint64_t bound)
{
    return prng_below(&c->dice, bound);
}

static struct store *store_of(struct churn *c)
{
    return c->rig.core.f.s;
}

static char *name(struct churn *c, const char *prefix, uint64_t number)
{
    return arena_printf(&c->rig.core.f.arena, "%s%lu", prefix, (unsigned long)number);
}

/* ---- changes ---- */

static const Skep__Network *random_network(struct churn *c)
{
    uint64_t at = roll(c, store_count(store_of(c), SKEP__KIND__KIND_NETWORK));
    const ProtobufCMessage *o = store_first(store_of(c), SKEP__KIND__KIND_NETWORK);

    for (; at > 0; at--)
        o = store_after(store_of(c), SKEP__KIND__KIND_NETWORK, object_id(o));
    return (const Skep__Network *)o;
}

static const Skep__Network *ingress_of(struct churn *c)
{
    const ProtobufCMessage *o = store_first(store_of(c), SKEP__KIND__KIND_NETWORK);

    while (o != NULL && !((const Skep__Network *)o)->spec->ingress)
        o = store_after(store_of(c), SKEP__KIND__KIND_NETWORK, object_id(o));
    return (const Skep__Network *)o;
}

static void change_network(struct churn *c)
{
    static const char *const specs[] = {
        "",
        "spec.ipv6=true",
        "spec.ipam[0].subnet=10.200.0.0/28",
        "spec.ipam[0].subnet=10.200.0.0/24 spec.ipam[0].range=10.200.0.64/28",
        "spec.ipam[0].subnet=10.201.0.0/29 spec.ipam[0].gateway=10.201.0.6",
        "spec.driver.options[0].key=encrypted",
        "spec.driver.options[0].key=com.docker.network.driver.overlay.vxlanid_list "
        "spec.driver.options[0].value=4100",
        "spec.driver.name=macvlan",
        "spec.ipv6=true spec.ipam[0].subnet=fd99::/126 spec.ipam[1].subnet=10.202.0.0/27",
    };
    size_t count = store_count(store_of(c), SKEP__KIND__KIND_NETWORK);

    /* Ids are never used again, as in a cluster. */
    if (count < NETWORKS && roll(c, 2) == 0) {
        bool ingress = ingress_of(c) == NULL && roll(c, 2) == 0;

        rig_network(&c->rig, name(c, "net", c->next_id++),
                    ingress ? "spec.ingress=true spec.ipam[0].subnet=10.210.0.0/27"
                            : specs[roll(c, ARRAY_LEN(specs))]);
        return;
    }
    const Skep__Network *n = random_network(c);
    if (strcmp(n->spec->scope, "local") != 0) /* in use or not */
        core_rig_remove(&c->rig.core, SKEP__KIND__KIND_NETWORK, fixture_str(&c->rig.core.f, n->id));
}

/* Up to three, none twice, some of which may go before anybody has an address in them. */
static const char *random_networks(struct churn *c)
{
    const char *list = "";

    for (uint64_t count = roll(c, 4); count > 0; count--) {
        const Skep__Network *n = random_network(c);

        if (n->spec->ingress || strstr(list, n->id) != NULL)
            continue;
        list = arena_printf(&c->rig.core.f.arena, "%s%s%s", list, list[0] != '\0' ? "," : "",
                            object_name(&n->base));
    }
    return list;
}

static const char *random_ports(struct churn *c)
{
    static const char *const ports[] = {
        "",        "80:80",       ":80",          ":80,:81,:53/udp", "81:80,:9",
        "30000:1", "30001:2/udp", "30002:2/host", "dnsrr",           "80:1/udp,81:1"
    };

    return ports[roll(c, ARRAY_LEN(ports))];
}

static void change_service(struct churn *c)
{
    char *id = name(c, "svc", roll(c, SERVICES));

    if (store_service(store_of(c), id) == NULL)
        rig_service(&c->rig, id, random_networks(c), random_ports(c));
    else if (roll(c, 3) == 0)
        core_rig_remove(&c->rig.core, SKEP__KIND__KIND_SERVICE, id);
    else
        rig_service_update(&c->rig, id, random_networks(c), random_ports(c));
}

static const Skep__Task *random_task(struct churn *c)
{
    size_t count = store_count(store_of(c), SKEP__KIND__KIND_TASK);
    const ProtobufCMessage *o = store_first(store_of(c), SKEP__KIND__KIND_TASK);

    for (uint64_t i = count > 0 ? roll(c, count) : 0; i > 0; i--)
        o = store_after(store_of(c), SKEP__KIND__KIND_TASK, object_id(o));
    return (const Skep__Task *)o;
}

static void change_task(struct churn *c)
{
    static const int ends[] = { S(COMPLETE), S(SHUTDOWN), S(FAILED), S(REJECTED), S(ORPHANED) };
    char *service = name(c, "svc", roll(c, SERVICES));
    const Skep__Task *t = random_task(c);
    size_t count = store_count(store_of(c), SKEP__KIND__KIND_TASK);

    if (count < TASKS && roll(c, 2) == 0 && store_service(store_of(c), service) != NULL) {
        for (uint64_t i = 1 + roll(c, 6); i > 0; i--)
            rig_task(&c->rig, name(c, "task", c->next_id++), service);
        return;
    }
    if (t == NULL)
        return;
    char *id = fixture_str(&c->rig.core.f, t->id);
    uint64_t what = roll(c, count >= TASKS ? 3 : 6);
    if (what == 0)
        core_rig_remove(&c->rig.core, SKEP__KIND__KIND_TASK, id);
    else if (what == 1)
        core_rig_delta(&c->rig.core, id, 0, ends[roll(c, ARRAY_LEN(ends))]);
    else if (what == 2)
        core_rig_delta(&c->rig.core, id, S(SHUTDOWN), -1);
    else if (t->status->state >= S(PENDING) && t->status->state < S(RUNNING))
        core_rig_delta(&c->rig.core, id, 0, S(RUNNING));
}

static void change_node(struct churn *c)
{
    char *id = name(c, "node", roll(c, NODES));

    if (store_node(store_of(c), id) == NULL) {
        rig_node(&c->rig, id, roll(c, 3) == 0 ? "" : "description.network.mtu=1500");
    } else if (roll(c, 2) == 0) {
        core_rig_remove(&c->rig.core, SKEP__KIND__KIND_NODE, id);
    } else {
        Skep__Node *n = fixture_edit(&c->rig.core.f, SKEP__KIND__KIND_NODE, id);

        n->description->network = NULL;
        core_rig_update(&c->rig.core, n);
    }
}

static void change_pools(struct churn *c)
{
    Skep__Cluster *cluster = fixture_edit(&c->rig.core.f, SKEP__KIND__KIND_CLUSTER, "cluster");
    char *pools[] = { (char *)"10.0.0.0/26", (char *)"10.1.0.0/25" };

    cluster->spec->address_pools = pools;
    cluster->spec->n_address_pools = 1 + roll(c, 2);
    core_rig_update(&c->rig.core, cluster);
}

static void change_leader(struct churn *c)
{
    allocator_rig_restart(&c->rig);
}

static void change(struct churn *c)
{
    static const struct {
        void (*act)(struct churn *c);
        uint32_t weight;
    } acts[] = { { change_task, 60 }, { change_service, 20 }, { change_network, 10 },
                 { change_node, 5 },  { change_pools, 2 },    { change_leader, 1 } };
    uint64_t total = 0;

    for (size_t i = 0; i < ARRAY_LEN(acts); i++)
        total += acts[i].weight;
    uint64_t at = roll(c, total);
    for (size_t i = 0; i < ARRAY_LEN(acts); i++) {
        if (at < acts[i].weight) {
            acts[i].act(c);
            return;
        }
        at -= acts[i].weight;
    }
}

/* ---- the core's own transactions ---- */

/* A decision that is refused, or that lands after somebody else's change. */
static void disturbed_run(struct churn *c)
{
    struct core_rig *r = &c->rig.core;

    (void)core_rig_decide(r);
    if (store_tx_action_count(r->f.tx) == 0)
        return;
    struct store_tx *flight = r->f.tx;
    uint64_t fate = roll(c, 5);

    r->f.tx = store_tx_new();
    for (uint64_t i = roll(c, 3); i > 0; i--) {
        static void (*const others[])(struct churn * x) = { change_task, change_service,
                                                            change_node, change_network };

        others[roll(c, ARRAY_LEN(others))](c);
    }
    store_tx_free(r->f.tx);
    r->f.tx = flight;
    if (fate == 0) { /* the next leader has never heard of it */
        store_tx_clear(r->f.tx);
        allocator_rig_restart(&c->rig);
        return;
    }
    if (fate < 3) {
        store_tx_clear(r->f.tx);
        allocator_ops.on_result(c->rig.a, -ERR_UNAVAILABLE);
        c->refused++;
        return;
    }
    core_rig_land(r);
}

/* ---- what must hold ---- */

static void check(struct churn *c, int step)
{
    struct err e = { 0 };

    ck_assert_msg(cluster_rules_given(store_of(c), &e) == 0, "step %d: %s", step, e.message);
    ck_assert_msg(allocator_audit(c->rig.a, store_of(c), &e) == 0, "step %d: %s", step, e.message);
}

/* At rest nobody waits without a reason. */
static void check_rest(struct churn *c, int step)
{
    for (const ProtobufCMessage *o = store_first(store_of(c), SKEP__KIND__KIND_TASK); o != NULL;
         o = store_after(store_of(c), SKEP__KIND__KIND_TASK, object_id(o))) {
        const Skep__Task *t = (const Skep__Task *)o;
        const Skep__Service *s = store_service(store_of(c), t->service_id);

        if (t->status->state == S(NEW) && t->desired_state <= S(COMPLETE) && s != NULL &&
            s->meta->spec_version == t->spec_version) {
            ck_assert_msg(t->status->error[0] != '\0', "step %d: %s waits for nothing", step,
                          t->id);
            c->blocked++;
        }
        c->allocated += t->status->state == S(PENDING) && t->n_networks > 0;
    }
}

/* Nor is anything overlooked: a new leader, who looks at all of it, finds nothing to do. */
static void check_overlooked(struct churn *c, int step)
{
    allocator_rig_restart(&c->rig);
    (void)core_rig_run(&c->rig.core);
    ck_assert_msg(c->rig.core.transactions == 0, "step %d: something was overlooked", step);
}

static void live(uint64_t seed, struct churn *c)
{
    memset(c, 0, sizeof(*c));
    allocator_rig_init(&c->rig, "10.0.0.0/26", 28);
    prng_init(&c->dice, seed);
    for (int step = 0; step < STEPS; step++) {
        change(c);
        if (roll(c, 4) == 0)
            disturbed_run(c);
        check(c, step);
        if (roll(c, 3) != 0) {
            (void)core_rig_run(&c->rig.core);
            c->rig.core.now_ms += ALLOCATOR_RETRY_MS;
            (void)core_rig_run(&c->rig.core);
            check(c, step);
            check_rest(c, step);
            if (roll(c, 20) == 0)
                check_overlooked(c, step);
        }
    }
}

/* Nothing is left when everybody is gone. */
static void end(struct churn *c)
{
    static const Skep__Kind kinds[] = { SKEP__KIND__KIND_TASK, SKEP__KIND__KIND_SERVICE,
                                        SKEP__KIND__KIND_NODE };

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        for (const ProtobufCMessage *o; (o = store_first(store_of(c), kinds[i])) != NULL;)
            core_rig_remove(&c->rig.core, kinds[i], fixture_str(&c->rig.core.f, object_id(o)));
    }
    (void)core_rig_run(&c->rig.core);
    check(c, STEPS);
}

START_TEST(nothing_is_given_twice_or_lost)
{
    static struct churn c;
    const char *seed = getenv("CHURN");

    live(seed != NULL ? strtoull(seed, NULL, 10) : 1, &c);
    end(&c);
    /* The life had all of it in it. */
    ck_assert_uint_gt(c.allocated, 1000);
    ck_assert_uint_gt(c.blocked, 1000);
    ck_assert_uint_gt(c.refused, 100);
    allocator_rig_deinit(&c.rig);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("allocator_churn");
    TCase *tc = tcase_create("allocator_churn");

    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, nothing_is_given_twice_or_lost);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
