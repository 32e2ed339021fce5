#include "agentd/net/net.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/lib/nethosts.h"

/* Two hosts, one network, a task on each; and a second network with the same subnet. */
static const char two_hosts[] = "network n1 front 10.10.1.0/24 vni=4097\n"
                                "network n2 back 10.10.1.0/24 vni=4098 internal\n"
                                "peer m1 one 192.168.77.1\n"
                                "peer m2 two 192.168.77.2\n"
                                "service s1 web vip n1=10.10.1.2/24\n"
                                "endpoint t1 web.1 s1 m1 UP n1=10.10.1.5/24\n"
                                "endpoint t2 web.2 s1 m2 UP n1=10.10.1.6/24\n"
                                "endpoint t3 in.1 - m2 UP n2=10.10.1.5/24\n"
                                "complete";

static struct nethosts h;
static struct err e;

static void setup(void)
{
    memset(&e, 0, sizeof(e));
    ck_assert_msg(nethosts_begin(&h, 2), "this test needs root");
    nethost_start(&h, 1);
    nethost_start(&h, 2);
}

static void teardown(void)
{
    nethosts_end(&h);
}

static void attached(unsigned host, struct nettask *t, const char *task, const char *networks)
{
    int rc = nettask_attach(&h, host, t, task, networks, &e);

    ck_assert_msg(rc == 0, "attach %s: %d %s", task, rc, e.message);
}

static struct nettask *start(unsigned host, const char *task, const char *networks)
{
    struct nettask *t = nettask_start(&h);

    attached(host, t, task, networks);
    return t;
}

static int ping(const struct nettask *t, const char *to)
{
    return netns_sh(t->ns, "ping -q -c 2 -i 0.02 -W 1 %s >/dev/null", to);
}

START_TEST(tasks_of_two_hosts_reach_each_other)
{
    nethosts_apply(&h, two_hosts);
    struct nettask *a = start(1, "t1", "n1=10.10.1.5/24");
    struct nettask *b = start(2, "t2", "n1=10.10.1.6/24");
    struct nettask *c = start(2, "t3", "n2=10.10.1.5/24");

    ck_assert_int_eq(ping(a, "10.10.1.6"), 0);
    ck_assert_int_eq(ping(b, "10.10.1.5"), 0);
    ck_assert_int_eq(ping(a, "10.10.1.1"), 0);
    ck_assert_int_ne(ping(c, "10.10.1.6"), 0); /* another network */
    ck_assert_str_eq(netns_read(&h, a->ns, "ip -o link show eth0 | grep -o 'mtu [0-9]*'"),
                     "mtu 1450");
}
END_TEST

/* The same content for another tick: what the kernel has is as it was. */
static const char *kernel_of(unsigned host)
{
    return netns_read(&h, h.hosts[host - 1].ns,
                      "for p in %s/netns/*; do nsenter --net=$p sh -c 'ip -o link; ip route; "
                      "ip neigh; bridge fdb show; ip addr; nft list ruleset';"
                      " done | sed 's/<.*>//; s/state [A-Z]*//'; ip -4 addr show | sed 's/<.*>//; "
                      "s/state [A-Z]*//'",
                      h.hosts[host - 1].run_dir);
}

static void same(const char *now, const char *before)
{
    size_t i = 0;

    while (now[i] != '\0' && now[i] == before[i])
        i++;
    i -= MIN(i, (size_t)40);
    ck_assert_msg(strcmp(now, before) == 0, "now \"%.200s\", before \"%.200s\"", now + i,
                  before + i);
}

static int in_router(unsigned host, const char *network, const char *command)
{
    return netns_sh(h.hosts[host - 1].ns, "nsenter --net=%s/netns/%s00000000000000000000000 %s",
                    h.hosts[host - 1].run_dir, network, command);
}

static uint64_t repairs(unsigned host)
{
    struct net_stats s;

    net_stats(h.hosts[host - 1].net, &s);
    return s.repairs;
}

static const char *differences(unsigned host)
{
    const Skep__NetworkDifference *all[16];
    size_t count = net_check(h.hosts[host - 1].net, all, ARRAY_LEN(all));
    const char *text = "";

    for (size_t i = 0; i < MIN(count, ARRAY_LEN(all)); i++)
        text = arena_printf(&h.arena, "%s%s %s %s; ", text, all[i]->what, all[i]->object,
                            all[i]->problem);
    return text;
}

/* An agent that starts again finds its networks and changes nothing. */
START_TEST(what_stands_is_adopted)
{
    nethosts_apply(&h, two_hosts);
    struct nettask *a = start(1, "t1", "n1=10.10.1.5/24");
    (void)start(2, "t2", "n1=10.10.1.6/24");
    const char *before = kernel_of(1);

    nethost_stop(&h, 1);
    ck_assert_int_eq(ping(a, "10.10.1.6"), 0);
    nethost_start(&h, 1);
    ck_assert_int_eq(nettask_attach(&h, 1, a, "t1", "n1=10.10.1.5/24", &e), -ERR_UNAVAILABLE);
    nethosts_apply(&h, two_hosts);
    attached(1, a, "t1", "n1=10.10.1.5/24");
    same(kernel_of(1), before);
    ck_assert_str_eq(differences(1), "");
    ck_assert_int_eq(ping(a, "10.10.1.6"), 0);
}
END_TEST

/* A network that ended while no agent was there is removed by the next one; others stay. */
START_TEST(what_nobody_needs_goes)
{
    nethosts_apply(&h, two_hosts);
    nethost_stop(&h, 1);
    nethost_start(&h, 1);
    nethosts_apply(&h, "network n2 back 10.10.1.0/24 vni=4098 internal\n"
                       "peer m1 one 192.168.77.1\ncomplete");
    ck_assert_str_eq(netns_read(&h, h.hosts[0].ns, "ls %s/netns", h.hosts[0].run_dir),
                     "n200000000000000000000000");
    ck_assert_str_eq(netns_read(&h, h.hosts[0].ns, "ip -o link | grep -c ' sk'"), "1");
    nethosts_apply(&h, "removed network n2");
    ck_assert_str_eq(netns_read(&h, h.hosts[0].ns, "ls %s/netns", h.hosts[0].run_dir), "");
    /* The VNI is free at once. */
    nethosts_apply(&h, "network n3 new 10.10.3.0/24 vni=4098");
    Skep__NodeNetwork d;
    net_describe(h.hosts[0].net, &d);
    ck_assert_str_eq(d.error, "");
}
END_TEST

struct damage {
    const char *command;
    const char *told; /* part of what net_check() says */
};
static const struct damage damages[] = {
    { "bridge fdb del 02:43:c0:a8:4d:02 dev vxlan0 dst 192.168.77.2 self",
      "fdb 02:43:c0:a8:4d:02" },
    { "ip neigh del 192.168.77.2 dev vxlan0", "neighbour 192.168.77.2" },
    { "ip route del 10.10.1.6/32", "route 10.10.1.6/32 via 192.168.77.2 dev vxlan0 missing" },
    { "ip route add 10.10.1.77/32 dev lo proto 77", "unexpected" },
    { "ip route replace 10.10.1.6/32 dev lo proto 77", "differs" },
    { "ip neigh replace 192.168.77.2 lladdr 02:00:00:00:00:09 nud permanent dev vxlan0",
      "differs" },
    { "ip addr del 10.10.1.1/32 dev lo", "address 10.10.1.1/32" },
    { "ip link del vxlan0", "link vxlan0 missing" },
    { "ip link set vxlan0 down", "link vxlan0 differs" },
    { "ip link set vxlan0 mtu 1300", "link vxlan0 differs" },
    { "ip link del up0", "missing" },
    { "ip link set up0 down", "differs" },
    { "sysctl -qw net.ipv4.ip_forward=0", "setting" },
    { "nft flush ruleset", "nft" },
    { "nft flush chain ip skep-router post", "nft" },
    { "ip link del vt1000000000000", "missing" },
};
static const struct damage host_damages[] = {
    { "ip addr flush dev sk0", "169.254.64.1" },
    { "nft flush ruleset", "nft" },
    { "sysctl -qw net.ipv4.ip_forward=0", "setting" },
    { "ip link set sk0 down", "differs" },
    { "ip link del sk0", "missing" },
};

struct healing {
    struct nettask *a;
    uint64_t before;
};

static bool healed(void *ctx)
{
    const struct healing *x = ctx;

    return repairs(1) > x->before && differences(1)[0] == '\0' &&
           netns_sh(x->a->ns, "ip -o link show eth0 >/dev/null 2>&1") == 0 &&
           ping(x->a, "10.10.1.6") == 0 && ping(x->a, "192.168.77.254") == 0;
}

static void heal(struct nettask *a, const struct damage *d, bool on_host)
{
    struct healing x = { .a = a, .before = repairs(1) };

    ck_assert_str_eq(differences(1), "");
    int rc = on_host ? netns_sh(h.hosts[0].ns, "%s", d->command) : in_router(1, "n1", d->command);
    ck_assert_msg(rc == 0, "%s", d->command);
    const char *told = differences(1);
    ck_assert_msg(strstr(told, d->told) != NULL, "after %s: \"%s\"", d->command, told);
    ck_assert_msg(nethosts_until(&h, healed, &x), "%s: %s", d->command, differences(1));
}

/* Whatever is damaged by hand is told by a check, and mended without being asked. */
START_TEST(damage_is_told_and_healed)
{
    nethosts_apply(&h, two_hosts);
    struct nettask *a = start(1, "t1", "n1=10.10.1.5/24");
    (void)start(2, "t2", "n1=10.10.1.6/24");

    ck_assert_int_eq(ping(a, "10.10.1.6"), 0);
    for (size_t i = 0; i < ARRAY_LEN(damages); i++)
        heal(a, &damages[i], false);
    for (size_t i = 0; i < ARRAY_LEN(host_damages); i++)
        heal(a, &host_damages[i], true);
}
END_TEST

/* A container whose own interface, address or route was taken away gets it back. */
START_TEST(damage_in_a_task_is_healed)
{
    static const char *const commands[] = { "ip link del eth0", "ip addr flush dev eth0",
                                            "ip route del default", "ip link set eth0 down" };

    nethosts_apply(&h, two_hosts);
    struct healing x = { .a = start(1, "t1", "n1=10.10.1.5/24") };
    (void)start(2, "t2", "n1=10.10.1.6/24");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        x.before = repairs(1);
        ck_assert_int_eq(netns_sh(x.a->ns, "%s", commands[i]), 0);
        ck_assert_msg(nethosts_until(&h, healed, &x), "%s", commands[i]);
    }
}
END_TEST

/* Tasks reach the world by their host's address, also where Docker forwards nothing by itself; an
 * internal network does not. */
START_TEST(egress_by_the_host)
{
    ck_assert_int_eq(netns_sh(h.hosts[0].ns,
                              "iptables -P FORWARD DROP && iptables -N DOCKER-USER && "
                              "iptables -A DOCKER-USER -j RETURN && "
                              "iptables -I FORWARD -j DOCKER-USER"),
                     0);
    nethosts_apply(&h, two_hosts);
    struct nettask *a = start(1, "t1", "n1=10.10.1.5/24");
    struct nettask *c = start(2, "t3", "n2=10.10.1.5/24");

    ck_assert_int_eq(ping(a, "192.168.77.254"), 0);
    ck_assert_int_ne(ping(c, "192.168.77.254"), 0);
    ck_assert_int_eq(in_router(2, "n2", "ip route get 192.168.77.254 >/dev/null 2>&1"), 2);
    /* iptables still understands its tables. */
    ck_assert_int_eq(netns_sh(h.hosts[0].ns, "iptables -S DOCKER-USER | grep -q -- '-i sk+ '"), 0);
    ck_assert_int_eq(netns_sh(h.hosts[0].ns, "iptables -F DOCKER-USER"), 0);
    ck_assert_int_ne(ping(a, "192.168.77.254"), 0);
    struct healing x = { .a = a, .before = repairs(1) };
    (void)start(2, "t2", "n1=10.10.1.6/24");
    ck_assert(nethosts_until(&h, healed, &x));
}
END_TEST

/* Attaching again changes nothing; another process of the same task takes the place. */
START_TEST(attaching_is_idempotent)
{
    nethosts_apply(&h, two_hosts);
    struct nettask *a = start(1, "t1", "n1=10.10.1.5/24");
    const char *before = netns_read(&h, a->ns, "ip addr; ip route; ip rule");

    attached(1, a, "t1", "n1=10.10.1.5/24");
    ck_assert_str_eq(netns_read(&h, a->ns, "ip addr; ip route; ip rule"), before);
    struct nettask *b = start(1, "t1", "n1=10.10.1.5/24");
    (void)start(2, "t2", "n1=10.10.1.6/24");
    ck_assert_int_eq(ping(b, "10.10.1.6"), 0);
    ck_assert_int_ne(netns_sh(a->ns, "ip -o link show eth0 2>/dev/null"), 0);
    char id[26] = "t100000000000000000000000";
    net_detach(h.hosts[0].net, id);
    net_detach(h.hosts[0].net, id);
    ck_assert_int_ne(netns_sh(b->ns, "ip -o link show eth0 2>/dev/null"), 0);
    ck_assert_str_eq(differences(1), "");
}
END_TEST

static bool none(void *ctx, const char *task_id)
{
    (void)ctx, (void)task_id;
    return false;
}

START_TEST(attachments_of_containers_that_are_gone)
{
    nethosts_apply(&h, two_hosts);
    struct nettask *a = start(1, "t1", "n1=10.10.1.5/24");

    nethost_stop(&h, 1);
    nethost_start(&h, 1);
    nethosts_apply(&h, two_hosts);
    net_keep_only(h.hosts[0].net, none, NULL);
    ck_assert_int_ne(netns_sh(a->ns, "ip -o link show eth0 2>/dev/null"), 0);
}
END_TEST

START_TEST(what_cannot_be_attached)
{
    struct nettask *a = nettask_start(&h);

    ck_assert_int_eq(nettask_attach(&h, 1, a, "t1", "n1=10.10.1.5/24", &e), -ERR_UNAVAILABLE);
    nethosts_apply(&h, two_hosts);
    ck_assert_int_eq(nettask_attach(&h, 1, a, "t9", "n1=10.10.1.9/24", &e), -ERR_UNAVAILABLE);
    ck_assert_int_eq(nettask_attach(&h, 1, a, "t1", "n1=10.99.1.5/24", &e), -ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(e.message, "front"));
    struct nettask gone = { .pid = 0x3fffff };
    ck_assert_int_eq(nettask_attach(&h, 1, &gone, "t1", "n1=10.10.1.5/24", &e), -ERR_NOT_FOUND);
}
END_TEST

/* Replies leave by the interface whose address they have; the first network that is not internal
 * has the default route. */
START_TEST(a_task_with_several_networks)
{
    nethosts_apply(&h, "network n1 front 10.10.1.0/24 vni=4097\n"
                       "network n2 back 10.10.2.0/24 vni=4098 internal\n"
                       "network n0 ingress 10.10.0.0/24 vni=4096 ingress\n"
                       "peer m1 one 192.168.77.1 n0=10.10.0.2/24\n"
                       "peer m2 two 192.168.77.2 n0=10.10.0.3/24\n"
                       "endpoint t1 a - m1 UP n2=10.10.2.5/24 n1=10.10.1.5/24 n0=10.10.0.5/24\n"
                       "endpoint t2 b - m2 UP n2=10.10.2.6/24\n"
                       "endpoint t3 c - m2 UP n0=10.10.0.6/24\ncomplete");
    struct nettask *a = start(1, "t1", "n2=10.10.2.5/24 n1=10.10.1.5/24 n0=10.10.0.5/24");
    struct nettask *b = start(2, "t2", "n2=10.10.2.6/24");
    struct nettask *c = start(2, "t3", "n0=10.10.0.6/24");

    ck_assert_int_eq(netns_sh(a->ns, "ip route | grep -q '^default via 10.10.1.1 dev eth1'"), 0);
    ck_assert_int_eq(ping(a, "10.10.2.6"), 0);
    ck_assert_int_eq(ping(b, "10.10.2.5"), 0);
    ck_assert_int_eq(ping(c, "10.10.0.5"), 0);
    ck_assert_int_eq(ping(a, "192.168.77.254"), 0);
    /* From the address of the ingress network, an answer to the world goes out by that network. */
    ck_assert_int_eq(netns_sh(a->ns, "ip route get 192.0.2.9 from 10.10.0.5 | grep -q eth2"), 0);
    ck_assert_int_eq(in_router(1, "n0", "ip route | grep -q '^10.10.0.3 via 192.168.77.2'"), 0);
}
END_TEST

START_TEST(ipv6_and_mtu)
{
    nethosts_apply(&h, "network n1 six 10.10.1.0/24 fd10::/64 vni=4097 mtu=1400\n"
                       "peer m1 one 192.168.77.1\npeer m2 two 192.168.77.2\n"
                       "endpoint t1 a - m1 UP n1=10.10.1.5/24+fd10::5/64\n"
                       "endpoint t2 b - m2 UP n1=10.10.1.6/24+fd10::6/64\n"
                       "endpoint t4 c - m1 UP n1=10.10.1.7/24+fd10::7/64\ncomplete");
    struct nettask *a = start(1, "t1", "n1=10.10.1.5/24+fd10::5/64");
    struct nettask *b = start(2, "t2", "n1=10.10.1.6/24+fd10::6/64");
    struct nettask *c = start(1, "t4", "n1=10.10.1.7/24+fd10::7/64");

    ck_assert_int_eq(ping(a, "fd10::6"), 0);
    ck_assert_int_eq(ping(b, "fd10::5"), 0);
    ck_assert_int_eq(ping(c, "fd10::5"), 0);
    ck_assert_int_eq(ping(a, "-M do -s 1372 10.10.1.6"), 0);
    ck_assert_int_ne(ping(a, "-M do -s 1373 10.10.1.6"), 0);
    ck_assert_str_eq(differences(1), "");
    /* A smaller underlay is told to the sender instead of dropping what is too big. */
    ck_assert_int_eq(netns_sh(h.hosts[0].ns, "ip link set eth0 mtu 1350"), 0);
    (void)ping(a, "-M do -s 1372 10.10.1.6");
    ck_assert_int_eq(
        netns_sh(a->ns, "ping -c 2 -M do -s 1372 10.10.1.6 2>&1 | grep -q 'mtu *= *1300'"), 0);
}
END_TEST

/* VXLAN between IPv6 addresses; IPv4 inside. */
START_TEST(ipv6_underlay)
{
    nethosts_apply(&h, "network n1 front 10.10.1.0/24 fd10::/64 vni=4097 mtu=1400\n"
                       "peer m1 one fd77::1\npeer m2 two fd77::2\n"
                       "endpoint t1 a - m1 UP n1=10.10.1.5/24+fd10::5/64\n"
                       "endpoint t2 b - m2 UP n1=10.10.1.6/24+fd10::6/64\ncomplete");
    struct nettask *a = start(1, "t1", "n1=10.10.1.5/24+fd10::5/64");
    (void)start(2, "t2", "n1=10.10.1.6/24+fd10::6/64");

    ck_assert_int_eq(ping(a, "10.10.1.6"), 0);
    ck_assert_int_eq(ping(a, "fd10::6"), 0);
    ck_assert_str_eq(differences(1), "");
}
END_TEST

/* Nothing half-programmed where it cannot be whole: another program's VXLAN device has the VNI. */
START_TEST(a_vni_that_is_taken)
{
    Skep__NodeNetwork d;

    ck_assert_int_eq(netns_sh(h.hosts[0].ns, "ip link add other type vxlan id 4097 dstport 4789"),
                     0);
    nethosts_apply(&h, two_hosts);
    net_describe(h.hosts[0].net, &d);
    ck_assert_msg(strstr(d.error, "front") != NULL && strstr(d.error, "4097") != NULL, "%s",
                  d.error);
    struct nettask *a = nettask_start(&h);
    ck_assert_int_eq(nettask_attach(&h, 1, a, "t1", "n1=10.10.1.5/24", &e), -ERR_UNAVAILABLE);
    ck_assert_int_eq(netns_sh(h.hosts[0].ns, "ip link del other"), 0);
    nethosts_run_ms(&h, 6000);
    net_describe(h.hosts[0].net, &d);
    ck_assert_str_eq(d.error, "");
    attached(1, a, "t1", "n1=10.10.1.5/24");
}
END_TEST

/* Encrypted networks are never programmed in the clear. */
START_TEST(encrypted_networks_fail_closed)
{
    Skep__NodeNetwork d;

    nethosts_apply(&h, "network n1 front 10.10.1.0/24 vni=4097 encrypted\n"
                       "peer m1 one 192.168.77.1\n"
                       "endpoint t1 a - m1 UP n1=10.10.1.5/24\ncomplete");
    net_describe(h.hosts[0].net, &d);
    struct nettask *a = nettask_start(&h);
    if (d.encryption[0] != '\0') /* this kernel can: test/vm looks at what it sends */
        return;
    ck_assert_int_eq(nettask_attach(&h, 1, a, "t1", "n1=10.10.1.5/24", &e), -ERR_UNAVAILABLE);
    ck_assert_str_eq(netns_read(&h, h.hosts[0].ns, "ls %s/netns", h.hosts[0].run_dir), "");
}
END_TEST

/* Other people's devices, routes and tables stay as they are. */
START_TEST(foreign_state_is_left_alone)
{
    ck_assert_int_eq(netns_sh(h.hosts[0].ns,
                              "ip link add sk7 type veth peer name other0 && ip route add "
                              "198.51.100.0/24 dev eth0 && "
                              "nft add table ip other && ip addr add 198.51.100.9/32 dev lo"),
                     0);
    nethosts_apply(&h, two_hosts);
    net_clear(h.hosts[0].net);
    ck_assert_int_eq(
        netns_sh(h.hosts[0].ns,
                 "ip link show sk7 >/dev/null && ip route | grep -q 198.51.100.0 && "
                 "nft list table ip other >/dev/null && ip addr | grep -q 198.51.100.9"),
        0);
    ck_assert_int_eq(netns_sh(h.hosts[0].ns, "ip link del sk7"), 0);
    /* And it can begin again. */
    nethosts_apply(&h, two_hosts);
    struct nettask *a = start(1, "t1", "n1=10.10.1.5/24");
    (void)start(2, "t2", "n1=10.10.1.6/24");
    ck_assert_int_eq(ping(a, "10.10.1.6"), 0);
}
END_TEST

START_TEST(what_a_node_says_of_itself)
{
    Skep__NodeNetwork d;
    struct ip ns[NET_NAMESERVERS_MAX];
    char text[IP_CHARS + 1];

    nethosts_apply(&h, two_hosts);
    net_describe(h.hosts[0].net, &d);
    ck_assert_str_eq(d.balancer, "nftables");
    ck_assert_uint_eq(d.mtu, 1500);
    Skep__NetworkAttachment a = SKEP__NETWORK_ATTACHMENT__INIT, *all[] = { &a };
    char address[] = "10.10.1.5/24", *addresses[] = { address };
    char id[] = "n100000000000000000000000";
    a.network_id = id;
    a.addresses = addresses;
    a.n_addresses = 1;
    struct net_task t = { .task_id = "t1", .networks = all, .network_count = 1 };
    ck_assert_uint_eq(net_nameservers(h.hosts[0].net, &t, ns), 1);
    ck_assert_str_eq(ip_format(&ns[0], text), "10.10.1.1");
    id[1] = '9';
    ck_assert_uint_eq(net_nameservers(h.hosts[0].net, &t, ns), 0);
}
END_TEST

/* Who answers to so many calls, sorted, each once. */
static const char *answers(int ns, const char *address, int port)
{
    return netns_read(
        &h, ns,
        "for i in 1 2 3 4 5 6 7 8; do busybox nc -w 3 %s %d </dev/null; done | sort -u |"
        " tr '\\n' ' '",
        address, port);
}

static const char mesh[] =
    "network n0 ingress 10.10.0.0/24 vni=4096 ingress\n"
    "network n1 front 10.10.1.0/24 vni=4097\n"
    "peer m1 one 192.168.77.1 n0=10.10.0.2/24\npeer m2 two 192.168.77.2 n0=10.10.0.3/24\n"
    "service s1 web vip n1=10.10.1.2/24 n0=10.10.0.9/24 publish=8080:80/tcp/ingress\n"
    "endpoint t1 web.1 s1 m1 UP n1=10.10.1.5/24 n0=10.10.0.5/24\n"
    "endpoint t2 web.2 s1 m2 UP n1=10.10.1.6/24 n0=10.10.0.6/24\ncomplete";

/* All parts together: names, virtual addresses, published ports on every node. */
START_TEST(services_by_name_address_and_port)
{
    nethosts_apply(&h, mesh);
    struct nettask *a = start(1, "t1", "n1=10.10.1.5/24 n0=10.10.0.5/24");
    struct nettask *b = start(2, "t2", "n1=10.10.1.6/24 n0=10.10.0.6/24");

    nettask_serve(a, "one");
    nettask_serve(b, "two");
    ck_assert_str_eq(answers(a->ns, "10.10.1.2", 80), "one two ");
    ck_assert_str_eq(answers(b->ns, "10.10.1.2", 80), "one two ");
    ck_assert_str_eq(answers(h.underlay_ns, "192.168.77.1", 8080), "one two ");
    ck_assert_str_eq(answers(h.underlay_ns, "192.168.77.2", 8080), "one two ");
    ck_assert_str_eq(answers(h.hosts[0].ns, "127.0.0.1", 8080), "one two ");
    nethosts_apply(&h, "removed endpoint t2");
    ck_assert_str_eq(answers(a->ns, "10.10.1.2", 80), "one ");
    ck_assert_str_eq(answers(h.underlay_ns, "192.168.77.2", 8080), "one ");
    ck_assert_str_eq(differences(1), "");
    /* What was flushed comes back. */
    ck_assert_int_eq(netns_sh(h.hosts[1].ns, "nft flush ruleset"), 0);
    ck_assert_int_eq(in_router(1, "n1", "nft flush ruleset"), 0);
    nethosts_run_ms(&h, 3000);
    ck_assert_str_eq(differences(1), "");
    ck_assert_str_eq(differences(2), "");
    ck_assert_str_eq(answers(a->ns, "10.10.1.2", 80), "one ");
    ck_assert_str_eq(answers(h.underlay_ns, "192.168.77.2", 8080), "one ");
}
END_TEST

struct question {
    pid_t pid;
    int status;
};

static bool has_ended(void *ctx)
{
    struct question *q = ctx;

    return waitpid(q->pid, &q->status, WNOHANG) == q->pid;
}

/* The server answers in this process, so the question is asked by another one. */
START_TEST(names_are_answered_on_the_gateway)
{
    struct question q;

    nethosts_apply(&h, mesh);
    struct nettask *a = start(1, "t1", "n1=10.10.1.5/24 n0=10.10.0.5/24");
    q.pid = fork();
    ck_assert_int_ge(q.pid, 0);
    if (q.pid == 0)
        _exit(netns_sh(a->ns, "busybox nslookup -type=a web. 10.10.1.1 2>&1 | grep -q 10.10.1.2"));
    ck_assert(nethosts_until(&h, has_ended, &q));
    ck_assert_int_eq(q.status, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("net_overlay");
    TCase *t = tcase_create("net_overlay");

    tcase_set_timeout(t, 300);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, tasks_of_two_hosts_reach_each_other);
    tcase_add_test(t, what_stands_is_adopted);
    tcase_add_test(t, what_nobody_needs_goes);
    tcase_add_test(t, damage_is_told_and_healed);
    tcase_add_test(t, damage_in_a_task_is_healed);
    tcase_add_test(t, egress_by_the_host);
    tcase_add_test(t, attaching_is_idempotent);
    tcase_add_test(t, attachments_of_containers_that_are_gone);
    tcase_add_test(t, what_cannot_be_attached);
    tcase_add_test(t, a_task_with_several_networks);
    tcase_add_test(t, ipv6_and_mtu);
    tcase_add_test(t, ipv6_underlay);
    tcase_add_test(t, a_vni_that_is_taken);
    tcase_add_test(t, encrypted_networks_fail_closed);
    tcase_add_test(t, foreign_state_is_left_alone);
    tcase_add_test(t, what_a_node_says_of_itself);
    tcase_add_test(t, services_by_name_address_and_port);
    tcase_add_test(t, names_are_answered_on_the_gateway);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
