/* agentd/net as a whole with IPVS: two hosts in namespaces, a service by its virtual address, by
 * its published port on every node, from itself; a backend that leaves; what is taken away comes
 * back. */
#include <string.h>

#include "test/lib/expect.h"
#include "test/lib/nethosts.h"

static struct nethosts h;
static struct err e;

static const char mesh[] =
    "network n0 ingress 10.10.0.0/24 vni=4096 ingress\n"
    "network n1 front 10.10.1.0/24 vni=4097\n"
    "peer m1 one 192.168.77.1 n0=10.10.0.2/24\npeer m2 two 192.168.77.2 n0=10.10.0.3/24\n"
    "service s1 web vip n1=10.10.1.2/24 n0=10.10.0.9/24 publish=8080:80/tcp/ingress\n"
    "endpoint t1 web.1 s1 m1 UP n1=10.10.1.5/24 n0=10.10.0.5/24\n"
    "endpoint t2 web.2 s1 m2 UP n1=10.10.1.6/24 n0=10.10.0.6/24\ncomplete";

static struct nettask *serve(unsigned host, const char *task, const char *networks,
                             const char *name)
{
    struct nettask *t = nettask_start(&h);

    EXPECT(nettask_attach(&h, host, t, task, networks, &e) == 0, "%s", e.message);
    nettask_serve(t, name);
    return t;
}

/* Who answers to eight calls, each once. */
static void answer(int ns, const char *address, int port, const char *want)
{
    const char *got = netns_read(&h, ns,
                                 "for i in 1 2 3 4 5 6 7 8; do busybox nc -w 5 %s %d </dev/null; "
                                 "done | sort -u | tr '\\n' ' '",
                                 address, port);

    EXPECT(strcmp(got, want) == 0, "%s:%d: %s", address, port, got);
}

static void no_difference(unsigned host)
{
    const Skep__NetworkDifference *all[4];
    size_t count = net_check(h.hosts[host - 1].net, all, ARRAY_LEN(all));

    EXPECT(count == 0, "host %u: %s %s %s", host, all[0]->what, all[0]->object, all[0]->problem);
}

static void everywhere(const struct nettask *a, const struct nettask *b, const char *want)
{
    answer(a->ns, "10.10.1.2", 80, want);
    answer(b->ns, "10.10.1.2", 80, want);
    answer(h.underlay_ns, "192.168.77.1", 8080, want);
    answer(h.underlay_ns, "192.168.77.2", 8080, want);
    answer(h.hosts[0].ns, "127.0.0.1", 8080, want);
}

int main(void)
{
    Skep__NodeNetwork d;

    EXPECT(nethosts_begin(&h, 2), "%s", "needs root");
    h.balancer = NET_BALANCER_IPVS;
    nethost_start(&h, 1);
    nethost_start(&h, 2);
    net_describe(h.hosts[0].net, &d);
    EXPECT(strcmp(d.balancer, "ipvs") == 0, "%s", d.balancer);
    nethosts_apply(&h, mesh);
    struct nettask *a = serve(1, "t1", "n1=10.10.1.5/24 n0=10.10.0.5/24", "one");
    struct nettask *b = serve(2, "t2", "n1=10.10.1.6/24 n0=10.10.0.6/24", "two");

    everywhere(a, b, "one two ");
    no_difference(1);
    no_difference(2);
    for (unsigned i = 0; i < 2; i++)
        EXPECT(netns_sh(h.hosts[i].ns, "nft flush ruleset") == 0, "%s", "flush");
    nethosts_run_ms(&h, 7000); /* mended by then */
    no_difference(1);
    no_difference(2);
    everywhere(a, b, "one two ");
    nethosts_apply(&h, "removed endpoint t2");
    answer(a->ns, "10.10.1.2", 80, "one ");
    answer(h.underlay_ns, "192.168.77.2", 8080, "one ");
    nethosts_end(&h);
    return 0;
}
