/* network create and rm, and services that use networks: what is refused, in which words, and what
 * is stored. managerd/control/{validate_network,network,validate_store,service}.c; features.md
 * 3.11. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "managerd/allocator/allocator.h"
#include "managerd/control/control.h"
#include "managerd/control/validate.h"
#include "test/lib/core_rig.h"
#include "test/lib/spec_text.h"

/* ---- a network for itself ---- */

#define SUBNET "ipam[0].subnet=10.1.0.0/24 "
#define MTU "driver.options[0].key=com.docker.network.driver.mtu driver.options[0].value="
#define VNI                                                                                        \
    "driver.options[0].key=com.docker.network.driver.overlay.vxlanid_list "                        \
    "driver.options[0].value="

static const struct spec_case {
    const char *why, *set, *want; /* want NULL: valid */
} spec_cases[] = {
    { "name only", "", NULL },
    { "no name", "annotations.name=", "invalid name" },
    { "name with a slash", "annotations.name=a/b", "invalid name" },
    { "the mesh's name", "annotations.name=Ingress", "for the network of published ports" },
    { "scope", "scope=global", "must be swarm or local" },
    { "local overlay", "scope=local", "always the swarm's" },
    { "local bridge", "driver.name=bridge scope=local", NULL },
    { "bad driver", "driver.name=weave", "\"weave\" is no network driver" },
    { "the engine's own driver", "driver.name=host", "is no network driver" },
    { "unknown option", "driver.options[0].key=colour", "colour is unknown for driver overlay" },
    { "macvlan option", "driver.name=macvlan driver.options[0].key=parent", NULL },
    { "overlay option for macvlan", "driver.name=macvlan driver.options[0].key=encrypted",
      "unknown for driver macvlan" },
    { "encrypted", "driver.options[0].key=encrypted", NULL },
    { "half encrypted", "driver.options[0].key=encrypted driver.options[0].value=maybe",
      "must be true or false" },
    { "mtu", MTU "1400", NULL },
    { "small mtu", MTU "100", "not between 576 and 65535" },
    { "small mtu for IPv6", "ipv6=true " MTU "1200", "not between 1280 and 65535" },
    { "mtu is no number", MTU "big", "not between" },
    { "vni", VNI "4097", NULL },
    { "vni 0", VNI "0", "not one number from 1" },
    { "large vni", VNI "16777216", "not one number from 1" },
    { "several vnis", VNI "1,2", "not one number from 1" },
    { "ingress", "ingress=true annotations.name=ingress", NULL },
    { "attachable ingress", "ingress=true attachable=true", "cannot be attachable" },
    { "internal ingress", "ingress=true internal=true", "cannot be internal" },
    { "ingress macvlan", "ingress=true driver.name=macvlan", "must be an overlay" },
    { "configuration", "config_only=true driver.options[0].key=parent " SUBNET, NULL },
    { "from a configuration", "driver.name=macvlan config_from=x", NULL },
    { "overlay from a configuration", "config_from=x", "user-specified configurations" },
    { "from a configuration, and more", "driver.name=macvlan config_from=x " SUBNET,
      "user-specified configurations" },
    { "subnet", SUBNET "ipam[0].gateway=10.1.0.1", NULL },
    { "IPv6 subnet", "ipam[0].subnet=fd00::/64", NULL },
    { "both families", SUBNET "ipam[1].subnet=fd00::/64", NULL },
    { "no subnet at all", "ipam[0].subnet=ten", "is no subnet" },
    { "subnet without a length", "ipam[0].subnet=10.1.0.0", "is no subnet" },
    { "length of 33", "ipam[0].subnet=10.1.0.0/33", "is no subnet" },
    { "host bits", "ipam[0].subnet=10.1.0.7/24", "10.1.0.0/24 is meant" },
    { "host bits, IPv6", "ipam[0].subnet=fd00::1/64", "fd00::/64 is meant" },
    { "no room", "ipam[0].subnet=10.1.0.0/31", "not between /8 and /30" },
    { "whole internet", "ipam[0].subnet=0.0.0.0/0", "not for networks of hosts" },
    { "loopback", "ipam[0].subnet=127.0.0.0/8", "not for networks of hosts" },
    { "multicast", "ipam[0].subnet=224.1.0.0/16", "not for networks of hosts" },
    { "link local", "ipam[0].subnet=169.254.8.0/24", "not for networks of hosts" },
    { "overlap with each other", SUBNET "ipam[1].subnet=10.1.0.128/25", "overlap" },
    { "several subnets", SUBNET "ipam[1].subnet=10.2.0.0/24", "one subnet per address family" },
    { "several of a macvlan", "driver.name=macvlan " SUBNET "ipam[1].subnet=10.2.0.0/24", NULL },
    { "range", SUBNET "ipam[0].range=10.1.0.128/25", NULL },
    { "range wider than the subnet", SUBNET "ipam[0].range=10.1.0.0/16", "no part of the subnet" },
    { "range elsewhere", SUBNET "ipam[0].range=10.2.0.0/28", "no part of the subnet" },
    { "range with host bits", SUBNET "ipam[0].range=10.1.0.129/25", "10.1.0.128/25 is meant" },
    { "range without a subnet", "ipam[0].range=10.1.0.0/28", "needs a subnet" },
    { "gateway without a subnet", "ipam[0].gateway=10.1.0.1", "needs a subnet" },
    { "gateway elsewhere", SUBNET "ipam[0].gateway=10.2.0.1", "is not in the subnet 10.1.0.0/24" },
    { "gateway of the other family", SUBNET "ipam[0].gateway=fd00::1", "is no IPv4 address" },
    { "gateway is the network", SUBNET "ipam[0].gateway=10.1.0.0", "stands for the whole subnet" },
    { "gateway is broadcast", SUBNET "ipam[0].gateway=10.1.0.255", "stands for the whole subnet" },
    { "gateway with a length", SUBNET "ipam[0].gateway=10.1.0.1/24", "is no IPv4 address" },
    { "aux address", SUBNET "ipam[0].reserved[0].key=nas ipam[0].reserved[0].value=10.1.0.9",
      NULL },
    { "aux address elsewhere",
      SUBNET "ipam[0].reserved[0].key=nas ipam[0].reserved[0].value=10.2.0.9",
      "is not in the subnet" },
    { "aux address twice",
      SUBNET "ipam[0].reserved[0].key=a ipam[0].reserved[0].value=10.1.0.9 "
             "ipam[0].reserved[1].key=b ipam[0].reserved[1].value=10.1.0.9",
      "is given twice" },
    { "aux address is the gateway",
      SUBNET
      "ipam[0].gateway=10.1.0.9 ipam[0].reserved[0].key=a ipam[0].reserved[0].value=10.1.0.9",
      "is the gateway" },
};

START_TEST(specs_are_checked)
{
    const struct spec_case *c = &spec_cases[_i];
    CLEANUP_ARENA struct arena a = { 0 };
    Skep__NetworkSpec spec = SKEP__NETWORK_SPEC__INIT, *complete = NULL;
    struct err e = { 0 };

    spec_set(&spec.base, &a, "annotations.name=net");
    spec_set_all(&spec.base, &a, c->set);
    int rc = control_validate_network(&spec, &a, &complete, &e);
    ck_assert_msg(rc == (c->want == NULL ? 0 : -ERR_INVALID), "%s: %d %s", c->why, rc, e.message);
    if (c->want != NULL) {
        ck_assert_msg(strstr(e.message, c->want) != NULL, "%s: %s", c->why, e.message);
        return;
    }
    ck_assert_ptr_nonnull(complete->driver);
    ck_assert_str_ne(complete->driver->name, "");
    ck_assert_str_ne(complete->scope, "");
    for (size_t i = 0; i < complete->n_ipam; i++)
        ck_assert(strchr(complete->ipam[i]->subnet, ':') == NULL || complete->ipv6);
}
END_TEST

/* ---- a cluster: its store, and the allocator as the leader runs it ---- */

static struct core_rig rig;
static struct allocator *allocator;
static struct err err;
static struct control_subject subject;

static void setup(void)
{
    struct arena *a;

    allocator = allocator_new();
    core_rig_init(&rig, &allocator_ops, allocator);
    a = &rig.f.arena;
    Skep__Cluster *cluster = fixture_cluster(&rig.f, "cluster");
    cluster->spec = control_cluster_defaults(a);
    core_rig_add(&rig, cluster);
    allocator_predefined(rig.f.s, &rig.f.prng, true, rig.f.tx);
    core_rig_apply(&rig);
    (void)core_rig_run(&rig);
}

static void teardown(void)
{
    allocator_free(allocator);
    core_rig_deinit(&rig);
}

static int change(Skep__Method method, const void *request)
{
    struct core_env core = {
        .store = rig.f.s, .now_ms = rig.now_ms, .wall_ns = rig.f.wall_ns, .prng = &rig.f.prng
    };
    struct control_env env = { .core = &core, .arena = &rig.f.arena };

    err = (struct err){ 0 };
    memset(&subject, 0, sizeof(subject));
    int rc = control_method_find(method)->change(&env, request, rig.f.tx, &subject, &err);
    if (rc < 0) {
        ck_assert_uint_eq(store_tx_action_count(rig.f.tx), 0);
        return rc;
    }
    core_rig_apply(&rig);
    (void)core_rig_run(&rig);
    return 0;
}

static ProtobufCMessage *answer(Skep__Method method, const void *request)
{
    struct core_env core = { .store = rig.f.s, .prng = &rig.f.prng };
    struct control_env env = { .core = &core, .arena = &rig.f.arena };
    ProtobufCMessage *m = NULL;

    ck_assert_int_eq(control_method_find(method)->answer(&env, request, &subject, &m, &err), 0);
    return m;
}

static int create(const char *name, const char *set)
{
    Skep__NetworkCreateRequest req = SKEP__NETWORK_CREATE_REQUEST__INIT;
    Skep__NetworkSpec spec = SKEP__NETWORK_SPEC__INIT;

    spec_set(&spec.base, &rig.f.arena, arena_printf(&rig.f.arena, "annotations.name=%s", name));
    spec_set_all(&spec.base, &rig.f.arena, set);
    req.spec = &spec;
    return change(SKEP__METHOD__METHOD_NETWORK_CREATE, &req);
}

static int rm(const char *ref)
{
    Skep__NetworkRemoveRequest req = SKEP__NETWORK_REMOVE_REQUEST__INIT;

    req.ref = (char *)(uintptr_t)ref;
    return change(SKEP__METHOD__METHOD_NETWORK_REMOVE, &req);
}

static int service(const char *name, const char *set)
{
    Skep__ServiceCreateRequest req = SKEP__SERVICE_CREATE_REQUEST__INIT;

    req.spec = spec_service(&rig.f.arena, name, set);
    return change(SKEP__METHOD__METHOD_SERVICE_CREATE, &req);
}

static int service_update(const char *name, const char *set)
{
    Skep__ServiceUpdateRequest req = SKEP__SERVICE_UPDATE_REQUEST__INIT;

    req.id = (char *)(uintptr_t)name;
    req.rollback = set == NULL;
    if (set != NULL)
        req.spec = spec_service(&rig.f.arena, name, set);
    return change(SKEP__METHOD__METHOD_SERVICE_UPDATE, &req);
}

static int service_rm(const char *name)
{
    Skep__ServiceRemoveRequest req = SKEP__SERVICE_REMOVE_REQUEST__INIT;

    req.ref = (char *)(uintptr_t)name;
    return change(SKEP__METHOD__METHOD_SERVICE_REMOVE, &req);
}

static const Skep__Network *net(const char *name)
{
    return (const Skep__Network *)store_find_name(rig.f.s, SKEP__KIND__KIND_NETWORK, name);
}

static const Skep__Service *svc(const char *name)
{
    return (const Skep__Service *)store_find_name(rig.f.s, SKEP__KIND__KIND_SERVICE, name);
}

#define OK(call) ck_assert_msg((call) == 0, "%s: %s", #call, err.message)
#define REFUSED(call, code, text)                                                                  \
    do {                                                                                           \
        int rc_ = (call);                                                                          \
        ck_assert_msg(rc_ == -(code), "%s: %d %s", #call, rc_, err.message);                       \
        ck_assert_msg(strstr(err.message, (text)) != NULL, "%s: %s", #call, err.message);          \
    } while (0)

/* Names are unique, the cluster's own are taken, and so is their label. */
START_TEST(names_clash)
{
    OK(create("front", ""));
    REFUSED(create("Front", ""), ERR_EXISTS, "network Front already exists");
    REFUSED(create("host", ""), ERR_EXISTS, "not permitted on predefined host network");
    REFUSED(create("bridge", "driver.name=bridge"), ERR_EXISTS, "predefined bridge network");
    REFUSED(create("x", "annotations.labels[0].key=com.docker.swarm.predefined"), ERR_INVALID,
            "is for the cluster's own networks");
    REFUSED(rm("host"), ERR_PRECONDITION, "host is a pre-defined network and cannot be removed");
    REFUSED(rm("nothing"), ERR_NOT_FOUND, "network nothing not found");
    OK(rm("front"));
    ck_assert_ptr_null(net("front"));
}
END_TEST

/* What another network, or a host, has cannot be had. */
START_TEST(subnets_clash)
{
    Skep__Node *n = fixture_node(&rig.f, "n1", "alpha");

    n->status->address = (char *)"192.168.77.11";
    spec_set_all(&n->base, &rig.f.arena,
                 "description.network.data_path_address=172.30.0.5 "
                 "description.network.routes[0]=172.17.0.0/16 manager.address=10.66.0.1:2377");
    core_rig_add(&rig, n);
    REFUSED(create("a", "ipam[0].subnet=10.0.4.0/24"), ERR_INVALID,
            "10.0.4.0/24 overlaps with 10.0.0.0/20 of network ingress");
    REFUSED(create("a", "ipam[0].subnet=192.168.0.0/16"), ERR_INVALID,
            "192.168.0.0/16 overlaps with 192.168.77.11, which node alpha needs itself");
    REFUSED(create("a", "ipam[0].subnet=172.30.0.0/24"), ERR_INVALID, "172.30.0.5");
    REFUSED(create("a", "ipam[0].subnet=172.17.5.0/24"), ERR_INVALID, "172.17.0.0/16");
    REFUSED(create("a", "ipam[0].subnet=10.66.0.0/24"), ERR_INVALID, "10.66.0.1");
    OK(create("a", "ipam[0].subnet=10.99.0.0/24 ipam[1].subnet=fd01::/64"));
    REFUSED(create("b", "ipam[0].subnet=fd01::/96"), ERR_INVALID, "of network a");
    OK(create("m", "driver.name=macvlan "
                   "ipam[0].subnet=10.99.0.0/24")); /* the hosts' own */
    OK(create("v", VNI "5000"));
    REFUSED(create("w", VNI "5000"), ERR_INVALID, "VNI 5000 is used by network v");
}
END_TEST

/* One ingress network, which goes when nobody publishes through it, and may come back. */
START_TEST(one_ingress_network)
{
    REFUSED(create("mesh", "ingress=true"), ERR_EXISTS,
            "ingress network (ingress) is already present");
    OK(service("web", "endpoint.ports[0].target_port=80"));
    REFUSED(rm("ingress"), ERR_PRECONDITION,
            "ingress network cannot be removed because service web depends on it");
    REFUSED(service("x", "task.networks[0].target=ingress"), ERR_INVALID,
            "cannot be explicitly attached to the ingress network");
    OK(service_rm("web"));
    OK(rm("ingress"));
    OK(create("mesh", "ingress=true ipam[0].subnet=10.77.0.0/24"));
    OK(service("web", "endpoint.ports[0].target_port=80"));
    ck_assert_str_eq(svc("web")->endpoint->virtual_ips[0]->address, "10.77.0.2/24");
}
END_TEST

/* The error names who uses it: services, then tasks that are still wanted. */
START_TEST(networks_in_use_stay)
{
    OK(create("front", ""));
    OK(service("web", "task.networks[0].target=front"));
    OK(service("db", "task.networks[0].target=front"));
    err = (struct err){ 0 };
    ck_assert_int_eq(rm("front"), -ERR_PRECONDITION);
    ck_assert_msg(strstr(err.message, "network front is in use by services ") != NULL &&
                      strstr(err.message, "web") != NULL && strstr(err.message, "db") != NULL,
                  "%s", err.message);
    OK(service_rm("db"));
    REFUSED(rm("front"), ERR_PRECONDITION, "network front is in use by service web");
    Skep__Task *t = fixture_task(&rig.f, "t", svc("web")->id, 1);
    t->status->state = SKEP__TASK_STATE__TASK_NEW;
    core_rig_add(&rig, t);
    (void)core_rig_run(&rig);
    ck_assert_uint_eq(store_task(rig.f.s, "t")->n_networks, 1);
    OK(service_update("web", ""));
    REFUSED(rm("front"), ERR_PRECONDITION, "network front is in use by task t");
    core_rig_delta(&rig, "t", SKEP__TASK_STATE__TASK_SHUTDOWN, -1);
    OK(rm("front")); /* its task is on its way out */
    REFUSED(service_update("web", NULL), ERR_INVALID, "the previous spec: task.networks");
}
END_TEST

/* Engines choose a port of the host when none is given; the agent, on overlays, does not. */
START_TEST(host_ports_on_overlays)
{
#define HOST_PORT "endpoint.ports[0].target_port=80 endpoint.ports[0].publish_mode=PUBLISH_HOST "
    OK(create("front", ""));
    OK(service("a", HOST_PORT));
    REFUSED(service("b", HOST_PORT "task.networks[0].target=front"), ERR_INVALID,
            "port 80 in host mode needs a published port");
    REFUSED(service("b", HOST_PORT "endpoint.ports[1].target_port=81"), ERR_INVALID,
            "port 80 in host mode needs a published port");
    OK(service("b", HOST_PORT "task.networks[0].target=front "
                              "endpoint.ports[0].published_port=8080"));
}
END_TEST

/* The engines' networks are names that services may use, alone. */
START_TEST(node_local_networks)
{
    OK(service("a", "task.networks[0].target=host"));
    ck_assert_str_eq(svc("a")->spec->task->networks[0]->target, net("host")->id);
    OK(create("front", ""));
    REFUSED(service("b", "task.networks[0].target=host task.networks[1].target=front"), ERR_INVALID,
            "network host goes with no other network");
    REFUSED(service("b", "task.networks[0].target=none endpoint.ports[0].target_port=80"),
            ERR_INVALID, "cannot be published in ingress mode by tasks with network none");
    OK(create("lan", "config_only=true driver.options[0].key=parent driver.options[0].value=eth1"));
    ck_assert_str_eq(net("lan")->spec->driver->name, "null");
    REFUSED(service("b", "task.networks[0].target=lan"), ERR_INVALID, "is a configuration");
    REFUSED(create("m", "driver.name=macvlan config_from=front"), ERR_INVALID,
            "front is not a configuration network");
    REFUSED(create("m", "driver.name=macvlan config_from=wan"), ERR_INVALID, "wan not found");
    OK(create("m", "driver.name=macvlan config_from=lan"));
    REFUSED(rm("lan"), ERR_PRECONDITION, "configuration network lan is in use by network m");
    OK(service("b", "task.networks[0].target=m task.networks[1].target=front"));
    REFUSED(rm("m"), ERR_PRECONDITION, "network m is in use by service b");
    OK(service_rm("b"));
    OK(rm("m"));
    OK(rm("lan"));
}
END_TEST

/* Ports 0 and 70000, one that is taken, and what goes with dnsrr. */
START_TEST(ports)
{
    REFUSED(service("a", "endpoint.ports[0].published_port=80"), ERR_INVALID, "target port 0");
    REFUSED(service("a", "endpoint.ports[0].target_port=70000"), ERR_INVALID, "target port 70000");
    REFUSED(service("a", "endpoint.ports[0].target_port=80 endpoint.ports[0].published_port=70000"),
            ERR_INVALID, "published port 70000");
    REFUSED(service("a", "endpoint.mode=ENDPOINT_DNSRR endpoint.ports[0].target_port=80"),
            ERR_INVALID, "can't be used with dnsrr mode");
    OK(service("a", "endpoint.ports[0].target_port=80 endpoint.ports[0].source=SOURCE_LOCAL "
                    "endpoint.ports[0].host_ip=192.168.77.11"));
    ck_assert_uint_eq(svc("a")->endpoint->ports[0]->published_port, 30000);
    ck_assert_int_eq(svc("a")->endpoint->ports[0]->source, SKEP__SOURCE_POLICY__SOURCE_LOCAL);
    ck_assert_str_eq(svc("a")->endpoint->ports[0]->host_ip, "192.168.77.11");
    REFUSED(service("b", "endpoint.ports[0].target_port=1 endpoint.ports[0].published_port=30000"),
            ERR_INVALID, "port '30000' is already in use by service 'a'");
    REFUSED(service("b", "endpoint.ports[0].target_port=1 endpoint.ports[0].published_port=30000 "
                         "endpoint.ports[0].publish_mode=PUBLISH_HOST"),
            ERR_INVALID, "port '30000' is already in use by service 'a'");
    OK(service("h", "endpoint.ports[0].target_port=1 endpoint.ports[0].published_port=30001 "
                    "endpoint.ports[0].publish_mode=PUBLISH_HOST"));
    OK(service("b", "endpoint.ports[0].target_port=1"));
    ck_assert_uint_eq(svc("b")->endpoint->ports[0]->published_port, 30002);
    /* An update that was computed before the allocator wrote does not undo it. */
    OK(service_update("b", "endpoint.ports[0].target_port=1 task.force_update=1"));
    ck_assert_uint_eq(svc("b")->endpoint->ports[0]->published_port, 30002);
}
END_TEST

/* Keys never leave: neither from create nor from get and list. */
START_TEST(keys_are_kept)
{
    Skep__ObjectGetRequest get = SKEP__OBJECT_GET_REQUEST__INIT;
    Skep__ObjectListRequest list = SKEP__OBJECT_LIST_REQUEST__INIT;

    OK(create("secret", "driver.options[0].key=encrypted"));
    const Skep__NetworkCreateResponse *created =
        (Skep__NetworkCreateResponse *)answer(SKEP__METHOD__METHOD_NETWORK_CREATE, &get);
    ck_assert_str_eq(created->network->id, net("secret")->id);
    ck_assert_uint_eq(created->network->n_keys, 0);
    ck_assert_uint_eq(net("secret")->n_keys, 1);
    get.kind = list.kind = SKEP__KIND__KIND_NETWORK;
    get.ref = (char *)"secret";
    const Skep__ObjectGetResponse *got =
        (Skep__ObjectGetResponse *)answer(SKEP__METHOD__METHOD_OBJECT_GET, &get);
    ck_assert_str_eq(got->object->network->ipam[0]->subnet, "10.0.16.0/20");
    ck_assert_uint_eq(got->object->network->n_keys, 0);
    const Skep__ObjectListResponse *listed =
        (Skep__ObjectListResponse *)answer(SKEP__METHOD__METHOD_OBJECT_LIST, &list);
    ck_assert_uint_eq(listed->n_objects, 5);
    for (size_t i = 0; i < listed->n_objects; i++)
        ck_assert_uint_eq(listed->objects[i]->network->n_keys, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("control_network");
    TCase *tc = tcase_create("control_network");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, specs_are_checked, 0, (int)ARRAY_LEN(spec_cases));
    tcase_add_test(tc, names_clash);
    tcase_add_test(tc, subnets_clash);
    tcase_add_test(tc, one_ingress_network);
    tcase_add_test(tc, networks_in_use_stay);
    tcase_add_test(tc, host_ports_on_overlays);
    tcase_add_test(tc, node_local_networks);
    tcase_add_test(tc, ports);
    tcase_add_test(tc, keys_are_kept);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
