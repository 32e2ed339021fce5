/* What agents are told of overlay networks: content, what a node may see, differences, complete
 * sets in pieces; and a random life against a model (test/lib/net_mirror). */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "test/lib/net_rig.h"

#define KIND(name) SKEP__NETWORK_RECORD_KIND__RECORD_##name
#define STATE(name) SKEP__TASK_STATE__TASK_##name

static void check_all(struct net_rig *r, const char *why)
{
    struct err e = { 0 };

    for (size_t i = 0; i < r->agent_count; i++) {
        const struct net_agent *a = &r->agents[i];

        if (dispatcher_session_valid(r->d, a->node_id, a->session))
            ck_assert_msg(net_mirror_check(&a->mirror, r->core.f.s, a->node_id, &e) == 0, "%s: %s",
                          why, e.message);
    }
}

/* Two networks, a service in each and one in both; n1 has tasks in both, n2 in net b only. */
static void small_world(struct net_rig *r)
{
    net_rig_init(r);
    net_rig_node(r, "n1", 1);
    net_rig_node(r, "n2", 2);
    net_rig_node(r, "n3", 3);
    net_rig_network(r, "a", 4097);
    net_rig_network(r, "b", 4098);
    net_rig_service(r, "web", "a b", false);
    net_rig_service(r, "db", "b", true);
    net_rig_task(r, "web1", "web", "n1", "a b");
    net_rig_task(r, "db1", "db", "n2", "b");
}

/* NETDESIGN flow 4: heads of networks present on the node, peers, services, endpoints, each with
 * what concerns the node's networks only. */
START_TEST(records_of_present_networks)
{
    struct net_rig r;

    small_world(&r);
    struct net_agent *n1 = net_rig_agent(&r, "n1"), *n2 = net_rig_agent(&r, "n2");
    struct net_agent *n3 = net_rig_agent(&r, "n3");
    net_rig_settle(&r);
    check_all(&r, "first answers");
    ck_assert_uint_eq(net_mirror_count(&n3->mirror), 0); /* no task, no network */
    ck_assert_uint_eq(net_mirror_count(&n1->mirror), 2 + 2 + 2 + 2);
    ck_assert_uint_eq(net_mirror_count(&n2->mirror), 1 + 2 + 2 + 2);

    const Skep__NetworkPeer *peer = net_mirror_find(&n2->mirror, KIND(PEER), "n1")->peer;
    ck_assert_str_eq(peer->address, "10.77.0.1");
    ck_assert_ptr_null(net_mirror_find(&n2->mirror, KIND(NETWORK), "a"));
    const Skep__NetworkEndpoint *web =
        net_mirror_find(&n2->mirror, KIND(ENDPOINT), "web1")->endpoint;
    ck_assert_uint_eq(web->n_networks, 1); /* not its address in a */
    ck_assert_str_eq(web->networks[0]->network_id, "b");
    ck_assert_str_eq(web->name, "web.1.web1");
    const Skep__NetworkService *s = net_mirror_find(&n2->mirror, KIND(SERVICE), "web")->service;
    ck_assert_uint_eq(s->n_virtual_ips, 1);
    ck_assert_uint_eq(s->n_aliases, 1);
    ck_assert_str_eq(s->aliases[0]->aliases[0], "web-in-b");
    s = net_mirror_find(&n2->mirror, KIND(SERVICE), "db")->service;
    ck_assert_int_eq(s->mode, SKEP__ENDPOINT_MODE__ENDPOINT_DNSRR);
    ck_assert_uint_eq(s->n_virtual_ips, 0);
    ck_assert_uint_eq(s->n_aliases, 1); /* without any: it says where its name is known */
    ck_assert_str_eq(s->aliases[0]->network_id, "b");
    ck_assert_uint_eq(s->aliases[0]->n_aliases, 0);
    const Skep__NetworkHead *head = net_mirror_find(&n2->mirror, KIND(NETWORK), "b")->network;
    ck_assert_uint_eq(head->vni, 4098);
    ck_assert_uint_eq(head->data_path_port, 4789);
    net_rig_deinit(&r);
}
END_TEST

/* STARTING, UP, DRAINING, gone. Without sessions to wait for, so that nothing is held. */
START_TEST(endpoint_states)
{
    struct net_rig r;

    small_world(&r);
    struct net_agent *n1 = net_rig_agent(&r, "n1");
    net_rig_settle(&r);
    ck_assert_int_eq(net_rig_endpoint(n1, "db1"), SKEP__NETWORK_ENDPOINT__STATE__STARTING);
    net_rig_task_state(&r, "db1", STATE(RUNNING));
    net_rig_settle(&r);
    ck_assert_int_eq(net_rig_endpoint(n1, "db1"), SKEP__NETWORK_ENDPOINT__STATE__UP);
    net_rig_task_desired(&r, "db1", STATE(COMPLETE)); /* a job's wish, no reason to drain */
    net_rig_settle(&r);
    ck_assert_int_eq(net_rig_endpoint(n1, "db1"), SKEP__NETWORK_ENDPOINT__STATE__UP);
    net_rig_task_desired(&r, "db1", STATE(SHUTDOWN));
    net_rig_settle(&r);
    ck_assert_int_eq(net_rig_endpoint(n1, "db1"), SKEP__NETWORK_ENDPOINT__STATE__DRAINING);
    net_rig_task_state(&r, "db1", STATE(SHUTDOWN));
    net_rig_settle(&r);
    ck_assert_int_eq(net_rig_endpoint(n1, "db1"), -1);
    check_all(&r, "ended");
    ck_assert_ptr_null(net_mirror_find(&n1->mirror, KIND(PEER), "n2"));
    net_rig_deinit(&r);
}
END_TEST

START_TEST(nodes_go_down_and_come_back)
{
    struct net_rig r;

    small_world(&r);
    struct net_agent *n1 = net_rig_agent(&r, "n1");
    net_rig_settle(&r);
    net_rig_node_state(&r, "n2", SKEP__NODE_STATE__NODE_DOWN);
    net_rig_settle(&r);
    check_all(&r, "down");
    ck_assert_int_eq(net_rig_endpoint(n1, "db1"), -1);
    ck_assert_ptr_null(net_mirror_find(&n1->mirror, KIND(PEER), "n2"));
    net_rig_node_state(&r, "n2", SKEP__NODE_STATE__NODE_READY);
    net_rig_settle(&r);
    check_all(&r, "back");
    ck_assert_int_eq(net_rig_endpoint(n1, "db1"), SKEP__NETWORK_ENDPOINT__STATE__STARTING);
    net_rig_deinit(&r);
}
END_TEST

/* What a heartbeat says of the host's network is stored, and others hear of its new address. */
START_TEST(descriptions_change)
{
    struct net_rig r;

    small_world(&r);
    struct net_agent *n1 = net_rig_agent(&r, "n1"), *n2 = net_rig_agent(&r, "n2");
    net_rig_settle(&r);
    struct core_env env = { .store = r.core.f.s, .now_ms = r.core.now_ms, .prng = &r.core.f.prng };
    struct dispatcher_call c = { .env = &env, .node_id = "n2", .address = "10.1.1.1" };
    Skep__HeartbeatRequest req = SKEP__HEARTBEAT_REQUEST__INIT;
    Skep__NodeDescription description = SKEP__NODE_DESCRIPTION__INIT;
    Skep__NodeNetwork network = SKEP__NODE_NETWORK__INIT;
    uint32_t beat_ms;
    struct err e = { 0 };

    network.data_path_address = (char *)(uintptr_t) "10.99.0.2";
    network.mtu = 9000;
    description.network = &network;
    req.session_id = n2->session;
    req.description = &description;
    ck_assert_int_eq(dispatcher_beat(r.d, &c, &req, &beat_ms, &e), 0);
    net_rig_settle(&r);
    ck_assert_uint_eq(store_node(r.core.f.s, "n2")->description->network->mtu, 9000);
    ck_assert_str_eq(net_mirror_find(&n1->mirror, KIND(PEER), "n2")->peer->address, "10.99.0.2");
    check_all(&r, "new address");
    size_t pieces = n1->mirror.pieces;
    network.mtu = 1500; /* nothing that peers have to know */
    ck_assert_int_eq(dispatcher_beat(r.d, &c, &req, &beat_ms, &e), 0);
    net_rig_settle(&r);
    ck_assert_uint_eq(n1->mirror.pieces, pieces);
    network.encryption_instance = (char *)(uintptr_t) "x2"; /* but this they have */
    ck_assert_int_eq(dispatcher_beat(r.d, &c, &req, &beat_ms, &e), 0);
    net_rig_settle(&r);
    ck_assert_str_eq(net_mirror_find(&n1->mirror, KIND(PEER), "n2")->peer->encryption_instance,
                     "x2");
    check_all(&r, "new instance");
    net_rig_deinit(&r);
}
END_TEST

/* Keys go to the nodes with a task in the network, as they change, and to nobody else. */
START_TEST(keys_where_the_tasks_are)
{
    struct net_rig r;
    uint8_t bytes[32] = { 7 };
    Skep__NetworkKey key = SKEP__NETWORK_KEY__INIT, *keys[] = { &key };

    small_world(&r);
    key.epoch = 1;
    key.key = (ProtobufCBinaryData){ sizeof(bytes), bytes };
    Skep__Network *secret = net_rig_network(&r, "c", 4099);
    secret->keys = keys;
    secret->n_keys = 1;
    secret->key_epoch = 1;
    secret->encryption_port = 51820;
    core_rig_update(&r.core, secret);
    net_rig_service(&r, "safe", "c", false);
    net_rig_task(&r, "safe1", "safe", "n3", "c");
    struct net_agent *all[] = { net_rig_agent(&r, "n1"), net_rig_agent(&r, "n2"),
                                net_rig_agent(&r, "n3") };
    net_rig_settle(&r);
    for (size_t i = 0; i < 2; i++)
        ck_assert_ptr_null(net_mirror_find(&all[i]->mirror, KIND(NETWORK), "c"));
    const Skep__NetworkHead *head = net_mirror_find(&all[2]->mirror, KIND(NETWORK), "c")->network;
    ck_assert_uint_eq(head->n_keys, 1);
    ck_assert_mem_eq(head->keys[0]->key.data, bytes, sizeof(bytes));
    ck_assert_uint_eq(head->encryption_port, 51820);
    secret->key_epoch = key.epoch = 2;
    core_rig_update(&r.core, secret);
    net_rig_settle(&r);
    head = net_mirror_find(&all[2]->mirror, KIND(NETWORK), "c")->network;
    ck_assert_uint_eq(head->key_epoch, 2);
    ck_assert_uint_eq(head->keys[0]->epoch, 2);
    net_rig_task_state(&r, "safe1", STATE(SHUTDOWN));
    net_rig_settle(&r);
    ck_assert_ptr_null(net_mirror_find(&all[2]->mirror, KIND(NETWORK), "c"));
    check_all(&r, "ended");
    net_rig_deinit(&r);
}
END_TEST

/* Differences only; a network that leaves the node takes its records along. */
START_TEST(networks_come_and_go)
{
    struct net_rig r;

    small_world(&r);
    struct net_agent *n3 = net_rig_agent(&r, "n3");
    net_rig_settle(&r);
    size_t pieces = n3->mirror.pieces;
    net_rig_task_state(&r, "web1", STATE(RUNNING)); /* not n3's business */
    net_rig_settle(&r);
    ck_assert_uint_eq(n3->mirror.pieces, pieces);
    net_rig_task(&r, "web2", "web", "n3", "a b");
    net_rig_settle(&r);
    check_all(&r, "with web2");
    ck_assert_int_eq(net_rig_endpoint(n3, "db1"), SKEP__NETWORK_ENDPOINT__STATE__STARTING);
    net_rig_task(&r, "db2", "db", "n3", "b");
    net_rig_task_state(&r, "web2", STATE(FAILED));
    net_rig_settle(&r);
    check_all(&r, "a has left");
    ck_assert_ptr_null(net_mirror_find(&n3->mirror, KIND(NETWORK), "a"));
    ck_assert_uint_eq(net_mirror_find(&n3->mirror, KIND(ENDPOINT), "web1")->endpoint->n_networks,
                      1);
    core_rig_remove(&r.core, SKEP__KIND__KIND_TASK, "db2");
    net_rig_settle(&r);
    check_all(&r, "b has left");
    ck_assert_uint_eq(net_mirror_count(&n3->mirror), 0);
    net_rig_deinit(&r);
}
END_TEST

/* Ingress is on every node, and its addresses are the nodes' own. */
START_TEST(ingress_is_everywhere)
{
    struct net_rig r;

    small_world(&r);
    struct net_agent *n3 = net_rig_agent(&r, "n3");
    net_rig_settle(&r);
    net_rig_ingress(&r, "in", 4096);
    net_rig_settle(&r);
    check_all(&r, "ingress");
    ck_assert(net_mirror_find(&n3->mirror, KIND(NETWORK), "in")->network->ingress);
    Skep__NetworkAttachment own = SKEP__NETWORK_ATTACHMENT__INIT, *owns[] = { &own };
    char *address = (char *)(uintptr_t) "10.0.0.9/24";
    Skep__Node *n = fixture_edit(&r.core.f, SKEP__KIND__KIND_NODE, "n2");
    own.network_id = (char *)(uintptr_t) "in";
    own.n_addresses = 1;
    own.addresses = &address;
    n->n_networks = 1;
    n->networks = owns;
    core_rig_update(&r.core, n);
    net_rig_settle(&r);
    check_all(&r, "own address");
    ck_assert_uint_eq(net_mirror_find(&n3->mirror, KIND(PEER), "n2")->peer->n_networks, 1);
    core_rig_remove(&r.core, SKEP__KIND__KIND_NETWORK, "in");
    net_rig_settle(&r);
    check_all(&r, "removed");
    ck_assert_uint_eq(net_mirror_count(&n3->mirror), 0);
    net_rig_deinit(&r);
}
END_TEST

/* An answer that was lost: everything again. A second call gives the first back. */
START_TEST(lost_answers_and_second_calls)
{
    struct net_rig r;

    small_world(&r);
    struct net_agent *n1 = net_rig_agent(&r, "n1");
    net_rig_settle(&r);
    n1->mirror.token += 7;
    net_mirror_deinit(&n1->mirror);
    n1->mirror.token = 99999;
    ck_assert(net_rig_ask(&r, n1)); /* the one that waits is displaced */
    net_rig_step(&r);
    ck_assert_uint_eq(n1->refused, 1);
    check_all(&r, "again");
    ck_assert(!net_rig_ask(&r, n1));
    size_t pieces = n1->mirror.pieces;
    r.core.now_ms += 10000; /* sessions live for 15 s */
    net_rig_step(&r);
    ck_assert_uint_eq(n1->mirror.pieces, pieces);
    net_rig_deinit(&r);
}
END_TEST

static void many_tasks(struct net_rig *r, int first, int count)
{
    char id[ID_CHARS + 1];

    for (int i = first; i < first + count; i++) {
        (void)snprintf(id, sizeof(id), "many%021d", i);
        net_rig_task(r, id, "db", "n2", "b");
    }
}

/* 10 000 endpoints do not fit one answer; what changes between the pieces is not lost. */
START_TEST(complete_sets_in_pieces)
{
    struct net_rig r;
    int asked = 0;

    small_world(&r);
    many_tasks(&r, 0, 10000);
    struct net_agent *n1 = net_rig_agent(&r, "n1");
    while (net_rig_ask(&r, n1)) {
        if (++asked == 1) {
            ck_assert(n1->mirror.completing);
            net_rig_task_state(&r, "many000000000000000000003", STATE(RUNNING));
            net_rig_task_state(&r, "many000000000000000000007", STATE(FAILED));
            net_rig_task_state(&r, "many000000000000000009000", STATE(FAILED));
            many_tasks(&r, 10000, 5);
        }
    }
    ck_assert_int_gt(asked, 1);
    check_all(&r, "all pieces");
    ck_assert_uint_gt(net_mirror_count(&n1->mirror), 10000);
    net_rig_deinit(&r);
}
END_TEST

/* A large network goes in pieces as well, and may be back before all of it is gone. */
START_TEST(back_before_all_is_gone)
{
    struct net_rig r;

    small_world(&r);
    many_tasks(&r, 0, 20000);
    struct net_agent *n1 = net_rig_agent(&r, "n1");
    net_rig_settle(&r);
    net_rig_task_state(&r, "web1", STATE(FAILED));
    net_rig_step(&r); /* the first piece of the removal */
    ck_assert(!n1->parked);
    size_t left = net_mirror_count(&n1->mirror);
    ck_assert(left > 1000 && left < 19000);
    net_rig_task(&r, "web2", "web", "n1", "b");
    net_rig_settle(&r);
    check_all(&r, "back");
    net_rig_task_state(&r, "web2", STATE(FAILED));
    net_rig_settle(&r);
    check_all(&r, "gone");
    ck_assert_uint_eq(net_mirror_count(&n1->mirror), 0);
    net_rig_deinit(&r);
}
END_TEST

/* A session that sleeps through more removals than the log keeps starts anew. */
START_TEST(far_behind_means_complete)
{
    struct net_rig r;

    small_world(&r);
    struct net_agent *n1 = net_rig_agent(&r, "n1");
    net_rig_settle(&r);
    many_tasks(&r, 0, 3000);
    net_rig_settle(&r);
    ck_assert_uint_gt(net_mirror_count(&n1->mirror), 3000);
    for (int i = 0; i < 3000; i++) {
        char id[ID_CHARS + 1];

        (void)snprintf(id, sizeof(id), "many%021d", i);
        core_rig_remove(&r.core, SKEP__KIND__KIND_TASK, id);
    }
    net_rig_settle(&r);
    check_all(&r, "after 3000 removals");
    net_rig_deinit(&r);
}
END_TEST

/* ---- networks that the engine makes ---- */

static Skep__Network *local_network(struct net_rig *r, const char *id, const char *driver,
                                    const char *config_from)
{
    Skep__Network *n = net_rig_network(r, id, 0);

    n->spec->driver->name = fixture_str(&r->core.f, driver);
    n->spec->config_from = fixture_str(&r->core.f, config_from);
    return n;
}

/* The first assignment's networks, asked for by hand. */
static const Skep__TaskAssignment *first_assignment(struct net_rig *r, const struct net_agent *a)
{
    struct core_env env = { .store = r->core.f.s, .now_ms = r->core.now_ms };
    struct dispatcher_call c = { .env = &env, .node_id = a->node_id, .arena = &r->arena };
    Skep__AssignmentsRequest req = SKEP__ASSIGNMENTS_REQUEST__INIT;
    Skep__AssignmentsResponse answer;
    struct err e = { 0 };

    req.session_id = (char *)(uintptr_t)a->session;
    ck_assert_int_eq(dispatcher_assignments(r->d, &c, &req, &answer, &e), 0);
    ck_assert_uint_eq(answer.n_tasks, 1);
    return answer.tasks[0];
}

/* Those of the task that are no overlays, with the settings of the network that they are
 * --config-from. */
START_TEST(assignments_bring_local_networks)
{
    struct net_rig r;
    Skep__KeyValue option = SKEP__KEY_VALUE__INIT, *options[] = { &option };
    Skep__IpamConfig ipam = SKEP__IPAM_CONFIG__INIT, *ipams[] = { &ipam };

    net_rig_init(&r);
    net_rig_node(&r, "n1", 1);
    net_rig_network(&r, "a", 4097);
    Skep__Network *config = local_network(&r, "conf", "null", "");
    config->spec->config_only = true;
    option.key = (char *)(uintptr_t) "parent";
    option.value = (char *)(uintptr_t) "eth0.7";
    config->spec->driver->n_options = 1;
    config->spec->driver->options = options;
    ipam.subnet = (char *)(uintptr_t) "192.0.2.0/24";
    config->spec->n_ipam = 1;
    config->spec->ipam = ipams;
    core_rig_update(&r.core, config);
    core_rig_update(&r.core, local_network(&r, "m", "macvlan", "net-conf"));
    core_rig_update(&r.core, local_network(&r, "h", "host", ""));
    net_rig_service(&r, "web", "a m h", false);
    net_rig_task(&r, "web1", "web", "n1", "a");
    const struct net_agent *n1 = net_rig_agent(&r, "n1");

    const Skep__TaskAssignment *as = first_assignment(&r, n1);
    ck_assert_uint_eq(as->n_networks, 2);
    ck_assert_str_eq(as->networks[0]->id, "m");
    ck_assert_str_eq(as->networks[0]->spec->driver->name, "macvlan");
    ck_assert_uint_eq(as->networks[0]->spec->driver->n_options, 1);
    ck_assert_str_eq(as->networks[0]->spec->driver->options[0]->value, "eth0.7");
    ck_assert_str_eq(as->networks[0]->spec->ipam[0]->subnet, "192.0.2.0/24");
    ck_assert_str_eq(as->networks[1]->id, "h");
    ck_assert_uint_eq(as->networks[1]->spec->n_ipam, 0);
    net_rig_deinit(&r);
}
END_TEST

/* ---- a random life ---- */

enum { NODES = 5, NETS = 4, SERVICES = 4, TASKS = 12, STEPS = 400 };

struct life {
    struct net_rig r;
    struct prng p;
    unsigned task_number;
    char tasks[TASKS][ID_CHARS + 1];
};

static const char *const node_ids[NODES] = { "n1", "n2", "n3", "n4", "n5" };
static const char *const net_ids[NETS] = { "a", "b", "c", "in" };
static const char *const service_ids[SERVICES] = { "s1", "s2", "s3", "s4" };

static uint64_t below(struct life *l, uint64_t n)
{
    return prng_range(&l->p, 0, n - 1);
}

static void random_nets(struct life *l, char ret[32])
{
    ret[0] = '\0';
    for (size_t i = 0; i < NETS; i++) {
        if (below(l, 2) == 0)
            (void)snprintf(ret + strlen(ret), 32 - strlen(ret), "%s ", net_ids[i]);
    }
}

static void life_task(struct life *l)
{
    char *id = l->tasks[below(l, TASKS)], nets[32];
    const Skep__Task *t = store_task(l->r.core.f.s, id);

    if (t == NULL) {
        (void)snprintf(id, ID_CHARS + 1, "t%u", l->task_number++);
        random_nets(l, nets);
        net_rig_task(&l->r, id, service_ids[below(l, SERVICES)], node_ids[below(l, NODES)], nets);
    } else if (below(l, 4) == 0) {
        core_rig_remove(&l->r.core, SKEP__KIND__KIND_TASK, id);
    } else if (below(l, 3) == 0) {
        net_rig_task_desired(&l->r, id, STATE(SHUTDOWN));
    } else {
        static const Skep__TaskState states[] = { STATE(PREPARING), STATE(RUNNING), STATE(RUNNING),
                                                  STATE(FAILED) };

        net_rig_task_state(&l->r, id, states[below(l, ARRAY_LEN(states))]);
    }
}

static void life_service(struct life *l)
{
    struct net_rig *r = &l->r;
    Skep__Service *s =
        fixture_edit(&r->core.f, SKEP__KIND__KIND_SERVICE, service_ids[below(l, SERVICES)]);

    if (s->endpoint->n_virtual_ips > 0 && below(l, 2) == 0)
        s->endpoint->n_virtual_ips--;
    else
        s->spec->annotations->name =
            arena_printf(&r->core.f.arena, "%s-%u", s->id, (unsigned)below(l, 9));
    core_rig_update(&r->core, s);
}

static void life_network(struct life *l)
{
    struct net_rig *r = &l->r;
    Skep__Network *n = fixture_edit(&r->core.f, SKEP__KIND__KIND_NETWORK, net_ids[below(l, NETS)]);

    if (below(l, 2) == 0)
        n->mtu = (uint32_t)(1400 + below(l, 50));
    else
        n->vni = n->vni != 0 ? 0 : 5000;
    core_rig_update(&r->core, n);
}

static void life_node(struct life *l)
{
    struct net_rig *r = &l->r;
    const char *id = node_ids[below(l, NODES)];
    Skep__NetworkAttachment own = SKEP__NETWORK_ATTACHMENT__INIT, *owns[] = { &own };
    Skep__Node *n = fixture_edit(&r->core.f, SKEP__KIND__KIND_NODE, id);

    own.network_id = (char *)(uintptr_t) "in";
    switch (below(l, 4)) {
    case 0:
        n->status->state = SKEP__NODE_STATE__NODE_DOWN;
        break;
    case 1:
        n->n_networks = n->n_networks != 0 ? 0 : 1;
        n->networks = owns;
        break;
    case 2:
        n->status->address = arena_printf(&r->core.f.arena, "10.2.0.%u", (unsigned)below(l, 9));
        if (n->description->network != NULL)
            n->description->network->data_path_address = (char *)(uintptr_t) "";
        break;
    default:
        n->status->state = SKEP__NODE_STATE__NODE_READY;
    }
    core_rig_update(&r->core, n);
}

static void life_step(struct life *l)
{
    uint64_t what = below(l, 20);
    struct net_rig *r = &l->r;

    if (what < 11) {
        life_task(l);
    } else if (what < 13) {
        life_service(l);
    } else if (what < 15) {
        life_network(l);
    } else if (what < 17) {
        life_node(l);
    } else if (what < 18) {
        net_rig_new_leader(r);
        for (size_t i = 0; i < NODES; i++)
            (void)net_rig_agent(r, node_ids[i]);
    } else {
        for (size_t i = 0; i < r->agent_count; i++) { /* some agents are slow */
            struct net_agent *a = &r->agents[i];

            if (!a->parked && below(l, 2) == 0)
                (void)net_rig_ask(r, a);
        }
        net_rig_step(r);
    }
}

/* The records of removed tasks live on while they drain: no model of that here. */
static void life_quiesce(struct life *l)
{
    net_rig_settle(&l->r);
    l->r.core.now_ms += DISPATCHER_DRAIN_MS;
    net_rig_settle(&l->r);
}

START_TEST(random_life)
{
    struct life l = { .task_number = 1 };
    struct net_rig *r = &l.r;

    net_rig_init(r);
    prng_init(&l.p, (uint64_t)_i + 1);
    for (unsigned i = 0; i < NODES; i++)
        net_rig_node(r, node_ids[i], i + 1);
    for (uint32_t i = 0; i < NETS - 1; i++)
        net_rig_network(r, net_ids[i], 4097 + i);
    net_rig_ingress(r, "in", 4096);
    for (size_t i = 0; i < SERVICES; i++) {
        char nets[32];

        random_nets(&l, nets);
        net_rig_service(r, service_ids[i], nets, i == 0);
    }
    for (size_t i = 0; i < NODES; i++)
        (void)net_rig_agent(r, node_ids[i]);
    for (int i = 0; i < STEPS; i++) {
        life_step(&l);
        r->core.now_ms += 10;
        if (below(&l, 8) != 0)
            continue;
        life_quiesce(&l);
        char why[32];
        (void)snprintf(why, sizeof(why), "seed %d step %d", _i, i);
        check_all(r, why);
    }
    net_rig_deinit(r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dispatcher_networks");
    TCase *tc = tcase_create("networks");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, keys_where_the_tasks_are);
    tcase_add_test(tc, records_of_present_networks);
    tcase_add_test(tc, endpoint_states);
    tcase_add_test(tc, nodes_go_down_and_come_back);
    tcase_add_test(tc, descriptions_change);
    tcase_add_test(tc, networks_come_and_go);
    tcase_add_test(tc, ingress_is_everywhere);
    tcase_add_test(tc, lost_answers_and_second_calls);
    tcase_add_test(tc, complete_sets_in_pieces);
    tcase_add_test(tc, back_before_all_is_gone);
    tcase_add_test(tc, far_behind_means_complete);
    tcase_add_test(tc, assignments_bring_local_networks);
    tcase_add_loop_test(tc, random_life, 0, 30);
    suite_add_tcase(s, tc);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
