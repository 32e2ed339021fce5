/* managerd/scheduler/filter.c and explain.c: what keeps a task off a node, and in which words
 * (features.md 3.7). */
#include "managerd/scheduler/scheduler.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "test/lib/core_rig.h"
#include "test/lib/spec_text.h"

#define S(x) SKEP__TASK_STATE__TASK_##x

static struct core_rig rig;
static struct scheduler *s;

static void setup(void)
{
    s = scheduler_new();
    core_rig_init(&rig, &scheduler_ops, s);
}

static void teardown(void)
{
    scheduler_free(s);
    core_rig_deinit(&rig);
}

static void add_nodes(int count)
{
    for (int i = 1; i <= count; i++) {
        char id[16];

        (void)snprintf(id, sizeof(id), "n%d", i);
        core_rig_add(&rig, fixture_node(&rig.f, id, id));
    }
}

static void add_tasks(const char *service, int first, int count)
{
    for (int i = first; i < first + count; i++) {
        char id[40];

        (void)snprintf(id, sizeof(id), "%s-%d", service, i);
        core_rig_add(&rig, fixture_task(&rig.f, id, service, (uint64_t)i));
    }
}

static const char *node_of(const char *task)
{
    const Skep__Task *t = store_task(rig.f.s, task);

    ck_assert_ptr_nonnull(t);
    return t->node_id;
}

static const char *error_of(const char *task)
{
    return store_task(rig.f.s, task)->status->error;
}

static Skep__KeyValue **pair(const char *key, const char *value)
{
    Skep__KeyValue **list = arena_array(&rig.f.arena, 1, sizeof(*list));

    list[0] = ARENA_NEW(&rig.f.arena, Skep__KeyValue);
    skep__key_value__init(list[0]);
    list[0]->key = fixture_str(&rig.f, key);
    list[0]->value = fixture_str(&rig.f, value);
    return list;
}

static void constrain(Skep__Service *service, const char *key, const char *value)
{
    Skep__Placement *p = service->spec->task->placement;

    p->n_constraints = 1;
    p->constraints = arena_array(&rig.f.arena, 1, sizeof(Skep__Constraint *));
    p->constraints[0] = ARENA_NEW(&rig.f.arena, Skep__Constraint);
    skep__constraint__init(p->constraints[0]);
    p->constraints[0]->key = fixture_str(&rig.f, key);
    p->constraints[0]->value = fixture_str(&rig.f, value);
}

static void publish(Skep__Service *service, uint32_t port, const char *host_ip)
{
    Skep__EndpointSpec *e = service->spec->endpoint;

    e->n_ports = 1;
    e->ports = arena_array(&rig.f.arena, 1, sizeof(Skep__PortConfig *));
    e->ports[0] = ARENA_NEW(&rig.f.arena, Skep__PortConfig);
    skep__port_config__init(e->ports[0]);
    e->ports[0]->publish_mode = SKEP__PUBLISH_MODE__PUBLISH_HOST;
    e->ports[0]->target_port = 80;
    e->ports[0]->published_port = port;
    e->ports[0]->host_ip = fixture_str(&rig.f, host_ip);
}

static Skep__Service *service(const char *id)
{
    return fixture_service(&rig.f, id, id, 1);
}

static void drain(Skep__Node *n, Skep__Service *web)
{
    (void)web;
    n->spec->availability = SKEP__NODE_AVAILABILITY__AVAILABILITY_DRAIN;
}
static void pause_node(Skep__Node *n, Skep__Service *web)
{
    (void)web;
    n->spec->availability = SKEP__NODE_AVAILABILITY__AVAILABILITY_PAUSE;
}
static void down(Skep__Node *n, Skep__Service *web)
{
    (void)web;
    n->status->state = SKEP__NODE_STATE__NODE_DOWN;
}
static void little_memory(Skep__Node *n, Skep__Service *web)
{
    n->description->resources->memory_bytes = 99;
    web->spec->task->resources->reservations->memory_bytes = 100;
}
static void little_cpu(Skep__Node *n, Skep__Service *web)
{
    n->description->resources->nano_cpus = 99;
    web->spec->task->resources->reservations->nano_cpus = 100;
}
static void no_gpu(Skep__Node *n, Skep__Service *web)
{
    Skep__Resources *r = web->spec->task->resources->reservations;

    (void)n;
    r->n_generic = 1;
    r->generic = arena_array(&rig.f.arena, 1, sizeof(Skep__NamedCount *));
    r->generic[0] = ARENA_NEW(&rig.f.arena, Skep__NamedCount);
    skep__named_count__init(r->generic[0]);
    r->generic[0]->kind = fixture_str(&rig.f, "gpu");
    r->generic[0]->value = 1;
}
static void no_description(Skep__Node *n, Skep__Service *web)
{
    n->description = NULL;
    web->spec->task->resources->reservations->nano_cpus = 1;
}
static void report_plugins(Skep__Node *n)
{
    n->description->engine = ARENA_NEW(&rig.f.arena, Skep__EngineDescription);
    skep__engine_description__init(n->description->engine);
    n->description->engine->n_plugins = 1;
    n->description->engine->plugins = pair("Log", "json-file");
}
static void no_log_driver(Skep__Node *n, Skep__Service *web)
{
    report_plugins(n);
    web->spec->task->log_driver = ARENA_NEW(&rig.f.arena, Skep__Driver);
    skep__driver__init(web->spec->task->log_driver);
    web->spec->task->log_driver->name = fixture_str(&rig.f, "syslog");
}
static void no_volume_driver(Skep__Node *n, Skep__Service *web)
{
    Skep__ContainerSpec *c = web->spec->task->container;

    report_plugins(n);
    c->n_mounts = 1;
    c->mounts = arena_array(&rig.f.arena, 1, sizeof(Skep__Mount *));
    c->mounts[0] = ARENA_NEW(&rig.f.arena, Skep__Mount);
    skep__mount__init(c->mounts[0]);
    c->mounts[0]->type = SKEP__MOUNT__TYPE__VOLUME;
    c->mounts[0]->volume_driver = ARENA_NEW(&rig.f.arena, Skep__Driver);
    skep__driver__init(c->mounts[0]->volume_driver);
    c->mounts[0]->volume_driver->name = fixture_str(&rig.f, "nfs");
}
static void no_network_driver(Skep__Node *n, Skep__Service *web)
{
    Skep__Network lan = SKEP__NETWORK__INIT;

    report_plugins(n);
    lan.id = (char *)"lan";
    spec_set(&lan.base, &rig.f.arena, "spec.annotations.name=lan");
    spec_set(&lan.base, &rig.f.arena, "spec.driver.name=macvlan");
    core_rig_add(&rig, &lan);
    spec_set(&web->base, &rig.f.arena, "spec.task.networks[0].target=lan");
}
static void wrong_role(Skep__Node *n, Skep__Service *web)
{
    (void)n;
    constrain(web, "node.role", "manager");
}
static void wrong_platform(Skep__Node *n, Skep__Service *web)
{
    Skep__Placement *p = web->spec->task->placement;

    (void)n;
    p->n_platforms = 1;
    p->platforms = arena_array(&rig.f.arena, 1, sizeof(Skep__Platform *));
    p->platforms[0] = ARENA_NEW(&rig.f.arena, Skep__Platform);
    skep__platform__init(p->platforms[0]);
    p->platforms[0]->architecture = fixture_str(&rig.f, "arm64");
}
static void first_of_two_wins(Skep__Node *n, Skep__Service *web)
{
    wrong_role(n, web);
    little_cpu(n, web); /* Resource is asked before Constraint */
}

static const struct refusal {
    const char *why;
    void (*spoil)(Skep__Node *n, Skep__Service *web);
    const char *want;
} refusals[] = {
    { "drained", drain, "no suitable node (1 node not available for new tasks)" },
    { "paused", pause_node, "no suitable node (1 node not available for new tasks)" },
    { "down", down, "no suitable node (1 node not available for new tasks)" },
    { "memory", little_memory, "no suitable node (insufficient resources on 1 node)" },
    { "cpu", little_cpu, "no suitable node (insufficient resources on 1 node)" },
    { "generic resource", no_gpu, "no suitable node (insufficient resources on 1 node)" },
    { "unknown resources", no_description, "no suitable node (insufficient resources on 1 node)" },
    { "log driver", no_log_driver, "no suitable node (missing plugin on 1 node)" },
    { "volume driver", no_volume_driver, "no suitable node (missing plugin on 1 node)" },
    { "network driver", no_network_driver, "no suitable node (missing plugin on 1 node)" },
    { "constraint", wrong_role,
      "no suitable node (scheduling constraints not satisfied on 1 node)" },
    { "platform", wrong_platform, "no suitable node (unsupported platform on 1 node)" },
    { "the first filter that refuses is named", first_of_two_wins,
      "no suitable node (insufficient resources on 1 node)" },
};

START_TEST(a_refusal_has_words)
{
    const struct refusal *c = &refusals[_i];
    Skep__Node *n = fixture_node(&rig.f, "n1", "n1");
    Skep__Service *web = service("web");

    c->spoil(n, web);
    core_rig_add(&rig, n);
    core_rig_add(&rig, web);
    add_tasks("web", 1, 1);
    core_rig_run(&rig);
    ck_assert_msg(strcmp(error_of("web-1"), c->want) == 0, "%s: %s", c->why, error_of("web-1"));
    ck_assert_int_eq(store_task(rig.f.s, "web-1")->status->state, S(PENDING));
    core_rig_run(&rig);
    ck_assert_int_eq(rig.transactions, 0); /* said once */
}
END_TEST

static void offer_network(Skep__Node *n, const char *error, const char *encryption)
{
    n->description->network = ARENA_NEW(&rig.f.arena, Skep__NodeNetwork);
    skep__node_network__init(n->description->network);
    n->description->network->error = fixture_str(&rig.f, error);
    n->description->network->encryption = fixture_str(&rig.f, encryption);
}

static void add_network(const char *id, bool encrypted)
{
    Skep__Network n = SKEP__NETWORK__INIT;
    Skep__NetworkKey key = SKEP__NETWORK_KEY__INIT, *keys = &key;

    n.id = (char *)id;
    spec_set(&n.base, &rig.f.arena, arena_printf(&rig.f.arena, "spec.annotations.name=%s", id));
    spec_set(&n.base, &rig.f.arena, "spec.driver.name=overlay");
    n.keys = &keys;
    n.n_keys = encrypted;
    core_rig_add(&rig, &n);
}

/* What the node's agent says about overlay networks decides for tasks that have one. */
static const struct network_case {
    const char *why, *network;
    bool publishes;
    const char *error; /* of the only node; NULL: it offers no networks */
    const char *encryption, *want;
} network_cases[] = {
    { "none needed", "", false, NULL, "", "" },
    { "offered", "front", false, "", "", "" },
    { "not offered", "front", false, NULL, "",
      "no suitable node (no overlay networks on 1 node: the agent does not offer any)" },
    { "broken", "front", false, "no vxlan in the kernel", "",
      "no suitable node (no overlay networks on 1 node: no vxlan in the kernel)" },
    { "the routing mesh needs one, too", "", true, "no vxlan in the kernel", "",
      "no suitable node (no overlay networks on 1 node: no vxlan in the kernel)" },
    { "encrypted", "secret", false, "", "esp", "" },
    { "no encryption", "secret", false, "", "",
      "no suitable node (no overlay networks on 1 node: the kernel has neither WireGuard nor ESP "
      "for encrypted ones)" },
    { "unencrypted ones need none", "front", false, "", "", "" },
};

START_TEST(networks_of_the_node)
{
    const struct network_case *c = &network_cases[_i];
    Skep__Service *web = service("web");
    Skep__Node *n = fixture_node(&rig.f, "n1", "n1");

    add_network("front", false);
    add_network("secret", true);
    if (c->error != NULL)
        offer_network(n, c->error, c->encryption);
    core_rig_add(&rig, n);
    if (c->network[0] != '\0')
        spec_set(&web->base, &rig.f.arena,
                 arena_printf(&rig.f.arena, "spec.task.networks[0].target=%s", c->network));
    if (c->publishes)
        spec_set(&web->base, &rig.f.arena, "spec.endpoint.ports[0].target_port=80");
    core_rig_add(&rig, web);
    add_tasks("web", 1, 1);
    core_rig_run(&rig);
    ck_assert_msg(strcmp(error_of("web-1"), c->want) == 0, "%s: %s", c->why, error_of("web-1"));
    ck_assert_int_eq(node_of("web-1")[0] != '\0', c->want[0] == '\0');
    if (c->want[0] == '\0')
        return;
    /* The agent has mended it. */
    n = fixture_edit(&rig.f, SKEP__KIND__KIND_NODE, "n1");
    offer_network(n, "", "wireguard");
    core_rig_update(&rig, n);
    rig.now_ms += SCHEDULER_RETRY_MS;
    core_rig_run(&rig);
    ck_assert_str_eq(node_of("web-1"), "n1");
}
END_TEST

START_TEST(no_nodes_at_all)
{
    core_rig_add(&rig, service("web"));
    add_tasks("web", 1, 1);
    core_rig_run(&rig);
    ck_assert_str_eq(error_of("web-1"), "no suitable node");
}
END_TEST

START_TEST(all_nodes_are_counted_although_some_tasks_were_placed)
{
    Skep__Service *web = service("web");
    Skep__Node *n = fixture_node(&rig.f, "n0", "n0");

    n->status->state = SKEP__NODE_STATE__NODE_DOWN;
    core_rig_add(&rig, n);
    add_nodes(3);
    web->spec->task->resources->reservations->memory_bytes = (int64_t)10 << 30; /* one per node */
    core_rig_add(&rig, web);
    add_tasks("web", 1, 5);
    core_rig_run(&rig);
    const char *want = "no suitable node (insufficient resources on 3 nodes; 1 node not available "
                       "for new tasks)";
    ck_assert_str_eq(error_of("web-4"), want);
    ck_assert_str_eq(error_of("web-5"), want);
    ck_assert_str_eq(error_of("web-3"), "");
    struct scheduler_explanation x[2];
    ck_assert_uint_eq(scheduler_explain(s, "web", x, 2), 1);
    ck_assert_uint_eq(x[0].pending, 2);
    ck_assert_uint_eq(x[0].nodes[SCHEDULER_RESOURCE], 3);
    ck_assert_uint_eq(x[0].nodes[SCHEDULER_READY], 1);
    ck_assert_uint_eq(x[0].nodes[SCHEDULER_PASS], 0);
    ck_assert_uint_eq(scheduler_explain(s, "db", x, 2), 0);
}
END_TEST

static const struct port_case {
    const char *why, *first_ip, *second_ip;
    uint32_t second_port;
    bool fits;
} port_cases[] = {
    { "same port", "", "", 80, false },
    { "other port", "", "", 81, true },
    { "all addresses and one", "", "10.0.0.1", 80, false },
    { "one address and all", "10.0.0.1", "0.0.0.0", 80, false },
    { "two addresses", "10.0.0.1", "10.0.0.2", 80, true },
    { "the same address", "10.0.0.1", "10.0.0.1", 80, false },
};

START_TEST(host_ports)
{
    const struct port_case *c = &port_cases[_i];
    Skep__Service *web = service("web"), *db = service("db");

    add_nodes(1);
    publish(web, 80, c->first_ip);
    publish(db, c->second_port, c->second_ip);
    core_rig_add(&rig, web);
    core_rig_add(&rig, db);
    add_tasks("web", 1, 1);
    core_rig_run(&rig);
    add_tasks("db", 1, 1);
    core_rig_run(&rig);
    ck_assert_msg((node_of("db-1")[0] != '\0') == c->fits, "%s", c->why);
    if (!c->fits) {
        ck_assert_str_eq(error_of("db-1"),
                         "no suitable node (host-mode port already in use on 1 node)");
        core_rig_delta(&rig, "web-1", S(SHUTDOWN), S(SHUTDOWN));
        rig.now_ms += SCHEDULER_RETRY_MS;
        core_rig_run(&rig);
        ck_assert_str_eq(node_of("db-1"), "n1"); /* free again */
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("scheduler filters");
    TCase *tc = tcase_create("filters");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, a_refusal_has_words, 0, ARRAY_LEN(refusals));
    tcase_add_loop_test(tc, networks_of_the_node, 0, (int)ARRAY_LEN(network_cases));
    tcase_add_test(tc, no_nodes_at_all);
    tcase_add_test(tc, all_nodes_are_counted_although_some_tasks_were_placed);
    tcase_add_loop_test(tc, host_ports, 0, ARRAY_LEN(port_cases));
    suite_add_tcase(suite, tc);
    SRunner *sr = srunner_create(suite);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
