/* managerd/allocator: who gets which subnet, address, port and VNI, when, and what is said when
 * there is none (features.md 3.11). */
#include "managerd/allocator/allocator.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "test/lib/allocator_rig.h"

#define S(x) SKEP__TASK_STATE__TASK_##x
#define HOUR_NS (INT64_C(3600) * 1000000000)

static struct allocator_rig rig;

static void setup(void)
{
    allocator_rig_init(&rig, NULL, 0);
}

static void teardown(void)
{
    allocator_rig_deinit(&rig);
}

static const Skep__Task *task(const char *id)
{
    return store_task(rig.core.f.s, id);
}

static int state_of(const char *id)
{
    return (int)task(id)->status->state;
}

static void ingress(void)
{
    rig_network(&rig, "ingress", "spec.ingress=true");
}

/* ---- networks ---- */

/* Every cluster has the networks of its engines; they get nothing. */
START_TEST(predefined_networks)
{
    ck_assert_uint_eq(store_count(rig.core.f.s, SKEP__KIND__KIND_NETWORK), 3);
    ck_assert_str_eq(rig_net(&rig, "host")->spec->driver->name, "host");
    ck_assert_str_eq(rig_net(&rig, "none")->spec->driver->name, "null");
    ck_assert_uint_eq(rig_net(&rig, "bridge")->n_ipam, 0);
    ck_assert_uint_eq(rig_net(&rig, "bridge")->vni, 0);
}
END_TEST

/* The first two networks of a cluster: subnets of the pool in order, VNIs from 4096. */
START_TEST(networks_get_subnets)
{
    ingress();
    (void)allocator_rig_run(&rig);
    rig_network(&rig, "front", "");
    (void)allocator_rig_run(&rig);

    const Skep__Network *n = rig_net(&rig, "ingress");
    ck_assert_str_eq(n->ipam[0]->subnet, "10.0.0.0/20");
    ck_assert_str_eq(n->ipam[0]->gateway, "10.0.0.1");
    ck_assert_uint_eq(n->vni, 4096);
    ck_assert_uint_eq(n->mtu, 1450);
    n = rig_net(&rig, "front");
    ck_assert_str_eq(n->ipam[0]->subnet, "10.0.16.0/20");
    ck_assert_uint_eq(n->vni, 4097);
    ck_assert_str_eq(n->error, "");
}
END_TEST

/* What was freed rests: the next network gets the next subnet and VNI, not the last one's. */
START_TEST(subnets_rest)
{
    rig_network(&rig, "a", "");
    (void)allocator_rig_run(&rig);
    core_rig_remove(&rig.core, SKEP__KIND__KIND_NETWORK, "a");
    rig_network(&rig, "b", "");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_net(&rig, "b")->ipam[0]->subnet, "10.0.16.0/20");
    ck_assert_uint_eq(rig_net(&rig, "b")->vni, 4097);
    allocator_rig_restart(&rig);
    core_rig_remove(&rig.core, SKEP__KIND__KIND_NETWORK, "b");
    rig_network(&rig, "c", "");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_net(&rig, "c")->ipam[0]->subnet, "10.0.32.0/20");
    ck_assert_uint_eq(rig_net(&rig, "c")->vni, 4098);
}
END_TEST

/* What a user asks for is honoured: range, gateway, reserved addresses. */
START_TEST(given_subnets)
{
    rig_network(&rig, "front",
                "spec.ipam[0].subnet=192.168.5.0/24 spec.ipam[0].range=192.168.5.128/29 "
                "spec.ipam[0].gateway=192.168.5.254 spec.ipam[0].reserved[0].key=printer "
                "spec.ipam[0].reserved[0].value=192.168.5.129 "
                "spec.driver.options[0].key=com.docker.network.driver.mtu "
                "spec.driver.options[0].value=1400 "
                "spec.driver.options[1].key=com.docker.network.driver.overlay.vxlanid_list "
                "spec.driver.options[1].value=777");
    rig_service(&rig, "web", "front", "");
    for (int i = 0; i < 7; i++) {
        char id[16];

        (void)snprintf(id, sizeof(id), "t%d", i);
        rig_task(&rig, id, "web");
    }
    (void)allocator_rig_run(&rig);
    const Skep__Network *n = rig_net(&rig, "front");
    ck_assert_str_eq(n->ipam[0]->gateway, "192.168.5.254");
    ck_assert_uint_eq(n->vni, 777);
    ck_assert_uint_eq(n->mtu, 1400);
    ck_assert_str_eq(rig_vips(&rig, "web"), "192.168.5.128/24");
    ck_assert_str_eq(rig_addresses(&rig, "t0"), "192.168.5.130/24");
    ck_assert_str_eq(rig_addresses(&rig, "t5"), "192.168.5.135/24");
    ck_assert_int_eq(state_of("t6"), S(NEW));
    ck_assert_str_eq(task("t6")->status->error,
                     "network front: no free address in 192.168.5.0/24 (7 in use)");
}
END_TEST

/* Two that were asked for at the same time, before either was there: the second says why it is not
 * allocated, and is once the first is gone. */
START_TEST(clashes_are_conditions)
{
    rig_network(&rig, "a",
                "spec.ipam[0].subnet=10.9.0.0/16 "
                "spec.driver.options[0].key=com.docker.network.driver.overlay.vxlanid_list "
                "spec.driver.options[0].value=5000");
    rig_network(&rig, "b", "spec.ipam[0].subnet=10.9.8.0/24");
    rig_network(&rig, "c",
                "spec.driver.options[0].key=com.docker.network.driver.overlay.vxlanid_list "
                "spec.driver.options[0].value=5000");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_net(&rig, "a")->error, "");
    ck_assert_str_eq(rig_net(&rig, "b")->error, "subnet 10.9.8.0/24 overlaps with network a");
    ck_assert_uint_eq(rig_net(&rig, "b")->vni, 0);
    ck_assert_str_eq(rig_net(&rig, "c")->error, "VNI 5000 is used by another network");
    rig_service(&rig, "web", "b", "");
    rig_task(&rig, "t", "web");
    (void)allocator_rig_run(&rig);
    ck_assert_int_eq(state_of("t"), S(NEW));
    ck_assert_str_eq(task("t")->status->error,
                     "network b: subnet 10.9.8.0/24 overlaps with network a");
    ck_assert_str_eq(rig_ports(&rig, "web"),
                     "!network b: subnet 10.9.8.0/24 overlaps with network a");
    core_rig_remove(&rig.core, SKEP__KIND__KIND_NETWORK, "a");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_net(&rig, "b")->error, "");
    ck_assert_uint_eq(rig_net(&rig, "c")->vni, 5000);
    ck_assert_int_eq(state_of("t"), S(PENDING));
    ck_assert_str_eq(task("t")->status->error, "");
    ck_assert_str_eq(rig_ports(&rig, "web"), "");
}
END_TEST

/* A pool of two subnets: the third network waits for one of the first two to go, or for a pool. */
START_TEST(pools_run_out)
{
    allocator_rig_deinit(&rig);
    allocator_rig_init(&rig, "10.5.0.0/23", 24);
    rig_network(&rig, "a", "");
    rig_network(&rig, "b", "");
    rig_network(&rig, "c", "");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_net(&rig, "b")->ipam[0]->subnet, "10.5.1.0/24");
    ck_assert_str_eq(rig_net(&rig, "c")->error,
                     "no free subnet of /24 in the address pools 10.5.0.0/23");
    Skep__Cluster *cluster = fixture_edit(&rig.core.f, SKEP__KIND__KIND_CLUSTER, "cluster");
    char *pools[] = { (char *)"10.5.0.0/23", (char *)"10.6.0.0/24" };
    cluster->spec->address_pools = pools;
    cluster->spec->n_address_pools = 2;
    core_rig_update(&rig.core, cluster);
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_net(&rig, "c")->ipam[0]->subnet, "10.6.0.0/24");
    ck_assert_str_eq(rig_net(&rig, "c")->error, "");
    core_rig_remove(&rig.core, SKEP__KIND__KIND_NETWORK, "a");
    rig_network(&rig, "d", "");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_net(&rig, "d")->ipam[0]->subnet, "10.5.0.0/24");
}
END_TEST

/* Hosts stay reachable: no subnet over their addresses and routes. */
START_TEST(subnets_avoid_hosts)
{
    rig_node(&rig, "n1", "status.address=10.0.0.7 description.network.mtu=1500");
    rig_node(&rig, "n2",
             "description.network.data_path_address=10.0.17.1 "
             "description.network.routes[0]=10.0.40.0/22");
    rig_network(&rig, "a", "");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_net(&rig, "a")->ipam[0]->subnet, "10.0.48.0/20");
}
END_TEST

/* The smallest node decides, and encryption costs more. While nobody uses a network its MTU follows
 * the nodes; then it stays, and a smaller node that comes later is told of. */
START_TEST(mtu_is_the_smallest)
{
    ingress();
    (void)allocator_rig_run(&rig);
    ck_assert_uint_eq(rig_net(&rig, "ingress")->mtu, 1450);
    rig_node(&rig, "n1", "description.network.mtu=9000");
    rig_node(&rig, "n2", "description.network.mtu=1480");
    rig_network(&rig, "a", "");
    rig_network(&rig, "b", "spec.driver.options[0].key=encrypted");
    rig_network(&rig, "c",
                "spec.driver.options[0].key=com.docker.network.driver.mtu "
                "spec.driver.options[0].value=1440");
    (void)allocator_rig_run(&rig);
    ck_assert_uint_eq(rig_net(&rig, "ingress")->mtu, 1430);
    ck_assert_uint_eq(rig_net(&rig, "a")->mtu, 1430);
    ck_assert_uint_eq(rig_net(&rig, "b")->mtu, 1350);
    ck_assert_uint_eq(rig_net(&rig, "c")->mtu, 1440); /* as told */
    ck_assert_str_eq(rig_net(&rig, "a")->warning, "");
    rig_service(&rig, "web", "a", "80:80");
    (void)allocator_rig_run(&rig);
    rig_node(&rig, "n3", "description.network.mtu=1400");
    (void)allocator_rig_run(&rig);
    ck_assert_uint_eq(rig_net(&rig, "ingress")->mtu, 1430);
    ck_assert_uint_eq(rig_net(&rig, "a")->mtu, 1430);
    ck_assert_uint_eq(rig_net(&rig, "b")->mtu, 1270);
    ck_assert_ptr_nonnull(strstr(rig_net(&rig, "a")->warning, "a node has only 1400"));
    ck_assert_str_eq(rig_net(&rig, "b")->warning, "");
}
END_TEST

/* An unique local subnet, unless one is given; a task has an address of each family. */
START_TEST(ipv6)
{
    rig_network(&rig, "a", "spec.ipv6=true");
    rig_network(&rig, "b",
                "spec.ipv6=true spec.ipam[0].subnet=fd77::/64 spec.ipam[1].subnet=10.3.0.0/24");
    rig_service(&rig, "web", "b,a", "");
    rig_task(&rig, "t", "web");
    (void)allocator_rig_run(&rig);
    const Skep__Network *a = rig_net(&rig, "a");
    ck_assert_uint_eq(a->n_ipam, 2);
    ck_assert_int_eq(strncmp(a->ipam[1]->subnet, "fd", 2), 0);
    ck_assert_ptr_nonnull(strstr(a->ipam[1]->subnet, "::/64"));
    ck_assert_str_eq(rig_net(&rig, "b")->ipam[1]->gateway, "fd77::1");
    ck_assert_str_eq(rig_vips(&rig, "web"), "10.3.0.2/24,10.0.0.2/20");
    ck_assert_int_eq(strncmp(rig_addresses(&rig, "t"), "10.3.0.3/24,fd77::2/64,10.0.0.3/20,fd", 37),
                     0);
}
END_TEST

/* A key at once; a new one after twelve hours, used a minute later; three at most. */
START_TEST(keys_rotate)
{
    rig_network(&rig, "a", "spec.driver.options[0].key=encrypted");
    rig_network(&rig, "b",
                "spec.driver.options[0].key=encrypted spec.driver.options[0].value=true");
    uint64_t next = allocator_rig_run(&rig);
    const Skep__Network *a = rig_net(&rig, "a"), *b = rig_net(&rig, "b");
    ck_assert_uint_eq(a->n_keys, 1);
    ck_assert_uint_eq(a->keys[0]->key.len, 32);
    ck_assert_uint_eq(a->key_epoch, 1);
    ck_assert_mem_ne(a->keys[0]->key.data, b->keys[0]->key.data, 32);
    ck_assert_uint_eq(a->encryption_port, 51820);
    ck_assert_uint_eq(b->encryption_port, 51823);
    ck_assert_uint_gt(next, rig.core.now_ms + 11 * 3600 * 1000);
    ck_assert_uint_le(next, rig.core.now_ms + 12 * 3600 * 1000 + 1);

    for (uint32_t epoch = 2; epoch <= 4; epoch++) {
        rig.core.f.wall_ns += 12 * HOUR_NS;
        rig.core.now_ms += 12 * 3600 * 1000 + 1;
        next = allocator_rig_run(&rig);
        a = rig_net(&rig, "a");
        ck_assert_uint_eq(a->n_keys, MIN(epoch, 3u));
        ck_assert_uint_eq(a->keys[a->n_keys - 1]->epoch, epoch);
        ck_assert_uint_eq(a->key_epoch, epoch - 1);
        ck_assert_uint_le(next, rig.core.now_ms + 60 * 1000 + 1);
        allocator_rig_restart(&rig); /* a new leader goes on with it */
        rig.core.f.wall_ns += HOUR_NS / 60;
        rig.core.now_ms += 60 * 1000 + 1;
        (void)allocator_rig_run(&rig);
        ck_assert_uint_eq(rig_net(&rig, "a")->key_epoch, epoch);
    }
}
END_TEST

/* From 75 % on a network says so, and until it is clearly less. */
START_TEST(fullness_is_told)
{
    char id[16];

    rig_network(&rig, "a", "spec.ipam[0].subnet=10.1.0.0/27"); /* 29 addresses */
    rig_service(&rig, "web", "a", "dnsrr");
    for (int i = 0; i < 22; i++) {
        (void)snprintf(id, sizeof(id), "t%d", i);
        if (i == 21) {
            (void)allocator_rig_run(&rig);
            ck_assert_uint_eq(rig_net(&rig, "a")->fullness_percent, 0);
        }
        rig_task(&rig, id, "web");
    }
    (void)allocator_rig_run(&rig);
    ck_assert_uint_eq(rig_net(&rig, "a")->fullness_percent, 75);
    rig_task_state(&rig, "t0", S(FAILED));
    (void)allocator_rig_run(&rig);
    ck_assert_uint_eq(rig_net(&rig, "a")->fullness_percent, 75);
    rig_task_state(&rig, "t1", S(FAILED));
    (void)allocator_rig_run(&rig);
    ck_assert_uint_eq(rig_net(&rig, "a")->fullness_percent, 0);
}
END_TEST

/* ---- nodes ---- */

/* One address in the ingress network each, while there is one. */
START_TEST(nodes_have_ingress_addresses)
{
    rig_node(&rig, "n1", "description.network.mtu=1500");
    rig_node(&rig, "n2", "");
    ingress();
    (void)allocator_rig_run(&rig);
    const Skep__Node *n = store_node(rig.core.f.s, "n1");
    ck_assert_uint_eq(n->n_networks, 1);
    ck_assert_str_eq(n->networks[0]->network_id, "ingress");
    ck_assert_str_eq(n->networks[0]->addresses[0], "10.0.0.2/20");
    ck_assert_uint_eq(store_node(rig.core.f.s, "n2")->n_networks, 0); /* no overlays there */
    core_rig_remove(&rig.core, SKEP__KIND__KIND_NETWORK, "ingress");
    (void)allocator_rig_run(&rig);
    ck_assert_uint_eq(store_node(rig.core.f.s, "n1")->n_networks, 0);
    rig_network(&rig, "mesh", "spec.ingress=true");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(store_node(rig.core.f.s, "n1")->networks[0]->addresses[0], "10.0.16.2/20");
    core_rig_remove(&rig.core, SKEP__KIND__KIND_NODE, "n1");
    (void)allocator_rig_run(&rig);
}
END_TEST

/* More nodes than addresses: the last one gets its address when another goes. */
START_TEST(nodes_wait_for_addresses)
{
    rig_network(&rig, "ingress", "spec.ingress=true spec.ipam[0].subnet=10.1.0.0/29");
    rig_service(&rig, "web", "", "80:80");
    for (int i = 0; i < 5; i++) {
        char id[16];

        (void)snprintf(id, sizeof(id), "n%d", i);
        rig_node(&rig, id, "description.network.mtu=1500");
        (void)allocator_rig_run(&rig);
    }
    ck_assert_str_eq(rig_vips(&rig, "web"), "10.1.0.3/29"); /* after the first node's */
    ck_assert_uint_eq(store_node(rig.core.f.s, "n3")->n_networks, 1);
    ck_assert_uint_eq(store_node(rig.core.f.s, "n4")->n_networks, 0);
    core_rig_remove(&rig.core, SKEP__KIND__KIND_NODE, "n1");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(store_node(rig.core.f.s, "n4")->networks[0]->addresses[0], "10.1.0.4/29");
}
END_TEST

/* ---- services ---- */

/* A virtual address per network, one in ingress for its ports, kept over updates, freed with it. */
START_TEST(services_have_addresses)
{
    ingress();
    rig_network(&rig, "a", "");
    rig_network(&rig, "b", "");
    (void)allocator_rig_run(&rig);
    rig_service(&rig, "web", "a,host,b", "8080:80");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_vips(&rig, "web"), "10.0.16.2/20,10.0.32.2/20,10.0.0.2/20");
    ck_assert_str_eq(rig_ports(&rig, "web"), "8080:80/tcp");
    rig_service_update(&rig, "web", "b", "8080:80");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_vips(&rig, "web"), "10.0.32.2/20,10.0.0.2/20");
    rig_service_update(&rig, "web", "b", "dnsrr");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_vips(&rig, "web"), "");
    ck_assert_str_eq(rig_ports(&rig, "web"), "");
    core_rig_remove(&rig.core, SKEP__KIND__KIND_SERVICE, "web");
    (void)allocator_rig_run(&rig);
}
END_TEST

/* Without the routing mesh's network there are no published ports; it may come later. */
START_TEST(ports_need_ingress)
{
    rig_service(&rig, "web", "", "80:80");
    rig_task(&rig, "t", "web");
    (void)allocator_rig_run(&rig);
    ck_assert_ptr_nonnull(strstr(rig_ports(&rig, "web"), "!there is no ingress network"));
    ck_assert_ptr_nonnull(strstr(task("t")->status->error, "there is no ingress network"));
    ingress();
    (void)allocator_rig_run(&rig);
    ck_assert_int_eq(state_of("t"), S(PENDING));
    ck_assert_str_eq(rig_ports(&rig, "web"), "80:80/tcp");
}
END_TEST

/* Numbers from 30000 on, per protocol, not one that hosts publish; the same after an update. */
START_TEST(ports_are_chosen)
{
    ingress();
    rig_service(&rig, "hosts", "", "30001:1/host");
    (void)allocator_rig_run(&rig);
    rig_service(&rig, "web", "", ":80,:53/udp,:443");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_ports(&rig, "hosts"), "30001:1/tcp");
    ck_assert_str_eq(rig_ports(&rig, "web"), "30000:80/tcp,30000:53/udp,30002:443/tcp");
    rig_service_update(&rig, "web", "", ":443,:81,:53/udp");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_ports(&rig, "web"), "30002:443/tcp,30003:81/tcp,30000:53/udp");
    /* A number that is asked for and one's own, moved to another target. */
    rig_service_update(&rig, "web", "", ":443,30003:82");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_ports(&rig, "web"), "30002:443/tcp,30003:82/tcp");
    rig_service(&rig, "db", "", "30000:1");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_ports(&rig, "db"), "30000:1/tcp");
}
END_TEST

/* Two services that asked at the same time: one gets it, the other says so and keeps what it has.
 */
START_TEST(ports_clash)
{
    ingress();
    rig_service(&rig, "a", "", "80:80");
    rig_service(&rig, "b", "", "81:80");
    (void)allocator_rig_run(&rig);
    rig_service_update(&rig, "b", "", "80:80");
    rig_task(&rig, "t", "b");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_ports(&rig, "b"),
                     "81:80/tcp!port 80/tcp is already in use by service 'a'");
    ck_assert_str_eq(task("t")->status->error, "port 80/tcp is already in use by service 'a'");
    rig_service(&rig, "c", "", "80:80/udp"); /* another protocol */
    core_rig_remove(&rig.core, SKEP__KIND__KIND_SERVICE, "a");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_ports(&rig, "b"), "80:80/tcp");
    ck_assert_str_eq(rig_ports(&rig, "c"), "80:80/udp");
    ck_assert_int_eq(state_of("t"), S(PENDING));
}
END_TEST

/* ---- tasks ---- */

/* As in the spec, ingress last; the engine's networks without addresses; with aliases. */
START_TEST(tasks_have_addresses)
{
    ingress();
    rig_network(&rig, "a", "");
    (void)allocator_rig_run(&rig);
    rig_service(&rig, "web", "bridge,a", "80:80");
    rig_task(&rig, "t", "web");
    (void)allocator_rig_run(&rig);
    const Skep__Task *t = task("t");
    ck_assert_int_eq(state_of("t"), S(PENDING));
    ck_assert_str_eq(t->status->message, "pending task scheduling");
    ck_assert_uint_eq(t->n_networks, 3);
    ck_assert_uint_eq(t->networks[0]->n_addresses, 0);
    ck_assert_str_eq(t->networks[1]->network_id, "a");
    ck_assert_str_eq(t->networks[2]->network_id, "ingress");
    ck_assert_str_eq(rig_addresses(&rig, "t"), "10.0.16.3/20,10.0.0.3/20");
    rig_service_update(&rig, "web", "", "");
    rig_task(&rig, "u", "web"); /* needs nothing: as the orchestrator would not make it NEW */
    (void)allocator_rig_run(&rig);
    ck_assert_int_eq(state_of("u"), S(PENDING));
    ck_assert_str_eq(rig_addresses(&rig, "u"), "");
}
END_TEST

/* A /28 has 13 addresses. The tasks beyond wait, say why, and come in as others end. What was
 * freed rests until the others have been handed out. */
START_TEST(exhaustion)
{
    char id[16];

    rig_network(&rig, "a", "spec.ipam[0].subnet=10.1.0.0/28");
    rig_service(&rig, "web", "a", "");
    for (int i = 0; i < 15; i++) {
        (void)snprintf(id, sizeof(id), "t%02d", i);
        rig_task(&rig, id, "web");
        (void)allocator_rig_run(&rig);
    }
    ck_assert_str_eq(rig_vips(&rig, "web"), "10.1.0.2/28");
    ck_assert_str_eq(rig_addresses(&rig, "t11"), "10.1.0.14/28");
    ck_assert_int_eq(state_of("t12"), S(NEW));
    ck_assert_str_eq(task("t12")->status->error,
                     "network a: no free address in 10.1.0.0/28 (13 in use)");
    ck_assert_uint_eq(rig_net(&rig, "a")->fullness_percent, 100);
    rig_service(&rig, "db", "a", "");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_ports(&rig, "db"),
                     "!network a: no free address in 10.1.0.0/28 (13 in use)");
    rig_task_state(&rig, "t05", S(RUNNING));
    (void)allocator_rig_run(&rig);
    ck_assert_int_eq(state_of("t12"), S(NEW));
    rig_task_state(&rig, "t05", S(SHUTDOWN));
    rig_task_state(&rig, "t01", S(FAILED));
    rig_task_state(&rig, "t03", S(COMPLETE));
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_vips(&rig, "db"), "10.1.0.4/28"); /* services come first */
    ck_assert_str_eq(rig_addresses(&rig, "t12"), "10.1.0.6/28");
    ck_assert_str_eq(rig_addresses(&rig, "t13"), "10.1.0.8/28");
    ck_assert_int_eq(state_of("t14"), S(NEW));
    core_rig_remove(&rig.core, SKEP__KIND__KIND_SERVICE, "db");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_addresses(&rig, "t14"), "10.1.0.4/28");
    core_rig_remove(&rig.core, SKEP__KIND__KIND_TASK, "t14"); /* while it has addresses */
    (void)allocator_rig_run(&rig);
}
END_TEST

/* Freed addresses rest, under the next leader, too. */
START_TEST(addresses_rest)
{
    rig_network(&rig, "a", "");
    rig_service(&rig, "web", "a", "dnsrr");
    rig_task(&rig, "t1", "web");
    (void)allocator_rig_run(&rig);
    rig_task(&rig, "t2", "web");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_addresses(&rig, "t2"), "10.0.0.3/20");
    rig_task_state(&rig, "t1", S(FAILED));
    rig_task_state(&rig, "t2", S(FAILED));
    rig_task(&rig, "t3", "web");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_addresses(&rig, "t3"), "10.0.0.4/20");
    rig_task_state(&rig, "t3", S(FAILED));
    allocator_rig_restart(&rig);
    rig_task(&rig, "t4", "web");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_addresses(&rig, "t4"), "10.0.0.5/20");
}
END_TEST

/* A transaction that is refused leaves nothing behind, and everything is decided again. */
START_TEST(refusals_leak_nothing)
{
    struct err e = { 0 };

    ingress();
    rig_network(&rig, "a", "spec.ipv6=true spec.driver.options[0].key=encrypted");
    rig_node(&rig, "n1", "description.network.mtu=1500");
    rig_service(&rig, "web", "a", "80:80,:81");
    rig_task(&rig, "t", "web");
    for (int refused = 0;; refused++) {
        (void)core_rig_decide(&rig.core);
        if (store_tx_action_count(rig.core.f.tx) == 0)
            break;
        store_tx_clear(rig.core.f.tx);
        allocator_ops.on_result(rig.a, -ERR_CONFLICT);
        ck_assert_msg(allocator_audit(rig.a, rig.core.f.s, &e) == 0, "%s", e.message);
        ck_assert_int_lt(refused, 20);
        /* Again, and this time it lands. */
        (void)core_rig_decide(&rig.core);
        ck_assert_uint_gt(store_tx_action_count(rig.core.f.tx), 0);
        core_rig_apply(&rig.core);
        allocator_ops.on_result(rig.a, 0);
        ck_assert_msg(allocator_audit(rig.a, rig.core.f.s, &e) == 0, "%s", e.message);
    }
    ck_assert_int_eq(state_of("t"), S(PENDING));
    ck_assert_str_eq(rig_ports(&rig, "web"), "80:80/tcp,30001:81/tcp");
}
END_TEST

/* A task that is given up, or whose service goes, before it has addresses. */
START_TEST(tasks_that_go)
{
    rig_network(&rig, "a", "spec.ipam[0].subnet=10.1.0.0/29");
    rig_service(&rig, "web", "a", "");
    rig_task(&rig, "t", "web");
    core_rig_delta(&rig.core, "t", S(SHUTDOWN), -1);
    (void)allocator_rig_run(&rig);
    ck_assert_int_eq(state_of("t"), S(NEW));
    ck_assert_str_eq(rig_addresses(&rig, "t"), "");
    rig_task(&rig, "u", "web");
    core_rig_remove(&rig.core, SKEP__KIND__KIND_SERVICE, "web");
    (void)allocator_rig_run(&rig);
    ck_assert_int_eq(state_of("u"), S(NEW));
    /* The network goes while tasks still have addresses in it. */
    rig_service(&rig, "db", "a", "");
    rig_task(&rig, "v", "db");
    (void)allocator_rig_run(&rig);
    ck_assert_str_eq(rig_addresses(&rig, "v"), "10.1.0.4/29");
    core_rig_remove(&rig.core, SKEP__KIND__KIND_NETWORK, "a");
    rig_task_state(&rig, "v", S(FAILED));
    rig_task(&rig, "w", "db");
    (void)allocator_rig_run(&rig);
    ck_assert_ptr_nonnull(strstr(task("w")->status->error, "network a not found"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("allocator");
    TCase *tc = tcase_create("allocator");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, predefined_networks);
    tcase_add_test(tc, networks_get_subnets);
    tcase_add_test(tc, subnets_rest);
    tcase_add_test(tc, given_subnets);
    tcase_add_test(tc, clashes_are_conditions);
    tcase_add_test(tc, pools_run_out);
    tcase_add_test(tc, subnets_avoid_hosts);
    tcase_add_test(tc, mtu_is_the_smallest);
    tcase_add_test(tc, ipv6);
    tcase_add_test(tc, keys_rotate);
    tcase_add_test(tc, fullness_is_told);
    tcase_add_test(tc, nodes_have_ingress_addresses);
    tcase_add_test(tc, nodes_wait_for_addresses);
    tcase_add_test(tc, services_have_addresses);
    tcase_add_test(tc, ports_need_ingress);
    tcase_add_test(tc, ports_are_chosen);
    tcase_add_test(tc, ports_clash);
    tcase_add_test(tc, tasks_have_addresses);
    tcase_add_test(tc, exhaustion);
    tcase_add_test(tc, addresses_rest);
    tcase_add_test(tc, refusals_leak_nothing);
    tcase_add_test(tc, tasks_that_go);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
