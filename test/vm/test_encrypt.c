/* Encrypted networks with a real WireGuard, then with a real ESP (the module wireguard removed):
 * three hosts in namespaces, a capture on what is between them. Arguments: names of cases. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/net/netns.h"
#include "common/clock.h"
#include "test/lib/expect.h"
#include "test/lib/nethosts.h"
#include "test/lib/streams.h"

enum { HOSTS = 3, VNI = 4097, PORTS = 51820, MTU = 1500 - 50 - 80 };

static struct nethosts h;
static struct nettask *tasks[HOSTS];
static const char first_key[] = "key=1/7 send=1";
static const char *backend;
static struct err e;

/* " instance=…" of a host, as the managers would tell it; "" without ESP. */
static const char *instance(unsigned host)
{
    Skep__NodeNetwork d;

    if (h.hosts[host - 1].net == NULL)
        return "";
    net_describe(h.hosts[host - 1].net, &d);
    return d.encryption_instance[0] != '\0'
               ? arena_printf(&h.arena, " instance=%s", d.encryption_instance)
               : "";
}

static const char *network(const char *keys)
{
    return arena_printf(&h.arena,
                        "network n1 front 10.10.1.0/24 vni=%d mtu=%d encrypted ports=%d %s\n"
                        "peer m1 one 192.168.77.1%s\npeer m2 two 192.168.77.2%s\n"
                        "peer m3 three 192.168.77.3%s\n"
                        "endpoint t1 a - m1 UP n1=10.10.1.5/24\n"
                        "endpoint t2 b - m2 UP n1=10.10.1.6/24\n"
                        "endpoint t3 c - m3 UP n1=10.10.1.7/24\ncomplete",
                        VNI, MTU, PORTS, keys, instance(1), instance(2), instance(3));
}

static void attach(unsigned host)
{
    char task[8], words[32];

    (void)snprintf(task, sizeof(task), "t%u", host);
    (void)snprintf(words, sizeof(words), "n1=10.10.1.%u/24", host + 4);
    tasks[host - 1] = nettask_start(&h);
    EXPECT(nettask_attach(&h, host, tasks[host - 1], task, words, &e) == 0, "%s", e.message);
}

static void begin(void)
{
    EXPECT(nethosts_begin(&h, HOSTS), "%s", "needs root");
    for (unsigned i = 1; i <= HOSTS; i++) {
        Skep__NodeNetwork d;

        nethost_start(&h, i);
        net_describe(h.hosts[i - 1].net, &d);
        EXPECT(strcmp(d.encryption, backend) == 0, "%s", d.encryption);
    }
}

static void begin_all(const char *keys)
{
    begin();
    nethosts_apply(&h, network(keys));
    for (unsigned i = 1; i <= HOSTS; i++)
        attach(i);
}

static int ping(unsigned from, unsigned to, const char *options)
{
    return netns_sh(tasks[from - 1]->ns, "ping -q -c 3 -i 0.1 -W 2 %s 10.10.1.%u >/dev/null",
                    options, to + 4);
}

static void dump(unsigned host)
{
    (void)netns_sh(h.hosts[host - 1].ns,
                   "ip -br link; ip rule; ip route show table all | grep skw; ip -s xfrm state; "
                   "ip xfrm policy; nft list table ip skep-encrypt; ip route show table "
                   "1577062401; cat /proc/net/xfrm_stat | "
                   "grep -v '\t0$'");
}

static void all_reach(void)
{
    for (unsigned i = 1; i <= HOSTS; i++)
        for (unsigned k = 1; k <= HOSTS; k++)
            if (i != k && ping(i, k, "") != 0) {
                dump(i);
                dump(k);
                EXPECT(false, "%s: task %u does not reach task %u", backend, i, k);
            }
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

static struct capture_counts captured(struct capture *c)
{
    struct capture_counts r = capture_stop(c);

    EXPECT(r.secret == 0 && r.vxlan == 0, "%u frames: %u in clear, %u VXLAN", r.frames, r.secret,
           r.vxlan);
    return r;
}

/* ---- cases ----------------------------------------------------------------------------------- */

/* The capture sees what is not encrypted; else the other cases would prove nothing. */
static void the_capture_sees(void)
{
    struct capture c;
    struct stream s;

    begin();
    nethosts_apply(&h, "network n1 front 10.10.1.0/24 vni=4097\npeer m1 one 192.168.77.1\n"
                       "peer m2 two 192.168.77.2\npeer m3 three 192.168.77.3\n"
                       "endpoint t1 a - m1 UP n1=10.10.1.5/24\n"
                       "endpoint t2 b - m2 UP n1=10.10.1.6/24\ncomplete");
    attach(1);
    attach(2);
    capture_start(&c, h.underlay_ns, VNI, PORTS);
    stream_start(&s, &(struct stream_path){ tasks[0]->ns, tasks[1]->ns, "10.10.1.6", 7000 }, 20);
    nethosts_run_ms(&h, 1000);
    struct stream_counts sent = stream_stop(&s);
    struct capture_counts seen = capture_stop(&c);
    EXPECT(sent.answered > 10 && seen.secret >= sent.answered && seen.vxlan >= sent.answered,
           "%u answered, %u and %u seen", sent.answered, seen.secret, seen.vxlan);
}

static void traffic_is_encrypted(void)
{
    struct capture c;
    struct stream udp, tcp;
    char options[32];

    begin_all("key=1/7 send=1");
    capture_start(&c, h.underlay_ns, VNI, PORTS);
    all_reach();
    stream_start(&udp, &(struct stream_path){ tasks[0]->ns, tasks[1]->ns, "10.10.1.6", 7000 }, 10);
    stream_start(&tcp, &(struct stream_path){ tasks[1]->ns, tasks[2]->ns, "10.10.1.7", 7001 }, 0);
    nethosts_run_ms(&h, 3000);
    struct stream_counts u = stream_stop(&udp), t = stream_stop(&tcp);
    EXPECT(u.sent > 10 && u.answered == u.sent, "UDP %u of %u", u.answered, u.sent);
    EXPECT(t.sent > 10 && t.answered == t.sent, "TCP %u of %u, %u again", t.answered, t.sent,
           t.resent);
    /* The whole MTU, and not a byte more. */
    (void)snprintf(options, sizeof(options), "-M do -s %d", MTU - 28);
    EXPECT(ping(1, 2, options) == 0, "%s", options);
    (void)snprintf(options, sizeof(options), "-M do -s %d", MTU - 27);
    EXPECT(ping(1, 2, options) != 0, "%s", options);
    struct capture_counts seen = captured(&c);
    EXPECT(seen.tunnel > u.sent + t.sent, "%u in the tunnel", seen.tunnel);
    for (unsigned i = 1; i <= HOSTS; i++)
        EXPECT(differences(i)[0] == '\0', "host %u: %s", i, differences(i));
    (void)printf("# %s: %u datagrams, %u TCP messages; of %u frames %u in the tunnel, 0 in clear\n",
                 backend, u.sent, t.sent, seen.frames, seen.tunnel);
}

static void without_the_keys(void)
{
    struct capture c;
    struct stream s;

    begin();
    nethost_apply(&h, 1, network("key=1/7 send=1"));
    nethost_apply(&h, 2, network("key=1/8 send=1"));
    nethost_apply(&h, 3, network(""));
    attach(1);
    attach(2);
    tasks[2] = nettask_start(&h);
    EXPECT(nettask_attach(&h, 3, tasks[2], "t3", "n1=10.10.1.7/24", &e) == -ERR_UNAVAILABLE &&
               strstr(e.message, "keys") != NULL,
           "%s", e.message);
    capture_start(&c, h.underlay_ns, VNI, PORTS);
    stream_start(&s, &(struct stream_path){ tasks[0]->ns, tasks[1]->ns, "10.10.1.6", 7000 }, 10);
    nethosts_run_ms(&h, 2000);
    struct stream_counts n = stream_stop(&s);
    EXPECT(n.sent > 10 && n.taken == 0, "%u of %u arrived", n.taken, n.sent);
    (void)captured(&c);
    /* With the right ones it works at once. */
    nethosts_apply(&h, network("key=1/7 send=1"));
    attach(3);
    all_reach();
}

/* Somebody who knows all but the keys puts VXLAN packets on the wire: they do not arrive. And they
 * would, were it not for the rule. */
static void clear_packets_do_not_come_in(void)
{
    struct stream s;
    int stranger;

    begin_all("key=1/7 send=1");
    stranger = h.underlay_ns;
    EXPECT(netns_sh(stranger,
                    "ip link add vx type vxlan id %d dstport %d srcport %d %d local 192.168.77.254 "
                    "remote 192.168.77.1 nolearning && ip addr add 10.10.1.99/24 dev vx && "
                    "ip link set vx up && ip neigh replace 10.10.1.5 dev vx lladdr "
                    "02:43:c0:a8:4d:01 nud permanent",
                    VNI, PORTS + 2, PORTS + 2, PORTS + 3) == 0,
           "%s", "vxlan");
    stream_start(&s, &(struct stream_path){ stranger, tasks[0]->ns, "10.10.1.5", 7000 }, 10);
    (void)usleep(1000000);
    uint32_t before = s.counts->taken, sent = s.counts->sent;
    EXPECT(netns_sh(h.hosts[0].ns, "nft flush table ip skep-encrypt") == 0, "%s", "flush");
    (void)usleep(1000000);
    struct stream_counts n = stream_stop(&s);
    EXPECT(sent > 10 && before == 0, "%u of %u arrived", before, sent);
    EXPECT(n.taken > 0, "%u of %u arrived without the rule", n.taken, n.sent);
    EXPECT(netns_sh(stranger, "ip link del vx") == 0, "%s", "vx");
}

struct damage {
    const char *backend, *command, *told;
};
static const struct damage damages[] = {
    { "wireguard", "ip link del skw1001b", "wireguard" },
    { "wireguard", "ip link set skw1001b down", "wireguard" },
    { "wireguard", "ip addr flush dev skw1001b", "wireguard" },
    { "wireguard", "ip rule del pref 5200", "wireguard" },
    { "wireguard", "ip rule del pref 5201", "wireguard" },
    { "wireguard", "ip route flush table 1577062401", "wireguard" },
    { "wireguard", "ip rule del pref 5200; ip rule del pref 5201", "wireguard" },
    { "esp", "ip xfrm state flush", "esp" },
    { "esp", "ip xfrm policy flush", "esp" },
    { "esp", "ip xfrm state flush && ip xfrm policy flush", "esp" },
    { NULL, "nft flush ruleset", "nft" },
    { NULL, "nft delete table ip skep-encrypt", "nft" },
};

static uint32_t passed_before;
static struct stream *passing;

/* The managers would pass on what a host says of itself. */
static bool passes_again(void *ctx)
{
    static const char *told = "";
    const unsigned *host = ctx;
    const char *now = network(first_key);

    if (strcmp(now, told) != 0)
        nethosts_apply(&h, now);
    told = now;
    return passing->counts->answered > passed_before + 5 && differences(*host)[0] == '\0';
}

static void damage(const struct damage *d)
{
    struct capture c;
    struct stream there, back;
    unsigned host = 1;

    capture_start(&c, h.underlay_ns, VNI, PORTS);
    stream_start(&there, &(struct stream_path){ tasks[0]->ns, tasks[1]->ns, "10.10.1.6", 7000 },
                 10);
    stream_start(&back, &(struct stream_path){ tasks[2]->ns, tasks[0]->ns, "10.10.1.5", 7001 }, 10);
    EXPECT(netns_sh(h.hosts[0].ns, "%s", d->command) == 0, "%s", d->command);
    (void)usleep(500000); /* nobody repairs: the loop does not run */
    const char *told = differences(1);
    EXPECT(strstr(told, d->told) != NULL, "after %s: %s", d->command, told);
    for (passing = &there;; passing = &back) {
        passed_before = passing->counts->answered;
        if (!nethosts_until(&h, passes_again, &host)) {
            dump(1);
            dump(2);
            EXPECT(false, "%s: not repaired: %s", d->command, differences(1));
        }
        if (passing == &back)
            break;
    }
    (void)stream_stop(&there);
    (void)stream_stop(&back);
    struct capture_counts n = captured(&c);
    (void)printf("# %s: %s: repaired, 0 of %u frames in clear\n", backend, d->command, n.frames);
}

static void it_fails_closed_and_heals(void)
{
    begin_all(first_key);
    all_reach();
    for (size_t i = 0; i < ARRAY_LEN(damages); i++)
        if (damages[i].backend == NULL || strcmp(damages[i].backend, backend) == 0)
            damage(&damages[i]);
    all_reach();
}

static void step(unsigned host, const char *keys)
{
    nethost_apply(&h, host, network(keys));
    nethosts_run_ms(&h, 400);
}

/* A new key on each host, then each sends by it, then the oldest goes: nothing is lost. */
static void rotation_loses_nothing(void)
{
    struct stream_counts n[4];
    struct stream s[4];
    struct capture c;
    const char *const states[] = {
        "key=1/7 key=2/8 send=1",
        "key=1/7 key=2/8 send=2",
        "key=1/7 key=2/8 key=3/9 send=2",
        "key=1/7 key=2/8 key=3/9 send=3",
        "key=2/8 key=3/9 key=4/10 send=3",
        "key=2/8 key=3/9 key=4/10 send=4",
        "key=4/10 send=4",
    };

    begin_all("key=1/7 send=1");
    all_reach();
    capture_start(&c, h.underlay_ns, VNI, PORTS);
    stream_start(&s[0], &(struct stream_path){ tasks[0]->ns, tasks[1]->ns, "10.10.1.6", 7000 }, 5);
    stream_start(&s[1], &(struct stream_path){ tasks[1]->ns, tasks[2]->ns, "10.10.1.7", 7000 }, 5);
    stream_start(&s[2], &(struct stream_path){ tasks[2]->ns, tasks[0]->ns, "10.10.1.5", 7000 }, 5);
    stream_start(&s[3], &(struct stream_path){ tasks[0]->ns, tasks[2]->ns, "10.10.1.7", 7001 }, 0);
    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        for (unsigned host = 1; host <= HOSTS; host++)
            step(host, states[i]);
    for (size_t i = 0; i < ARRAY_LEN(s); i++)
        n[i] = stream_stop(&s[i]);
    for (size_t i = 0; i < ARRAY_LEN(s); i++)
        EXPECT(n[i].sent > 20 && n[i].answered == n[i].sent, "stream %zu: %u of %u, %u again", i,
               n[i].answered, n[i].sent, n[i].resent);
    struct capture_counts seen = captured(&c);
    (void)printf("# %s: rotated three times: 0 of %u datagrams and %u TCP messages lost, 0 of %u "
                 "frames in clear\n",
                 backend, n[0].sent + n[1].sent + n[2].sent, n[3].sent, seen.frames);
}

/* An agent that starts again changes nothing; what ended meanwhile goes. And the network works at
 * once when it comes back (keys are the same: sequence numbers must not start again). */
static void restarts(void)
{
    struct stream s;

    begin_all(first_key);
    all_reach();
    stream_start(&s, &(struct stream_path){ tasks[0]->ns, tasks[1]->ns, "10.10.1.6", 7000 }, 5);
    nethost_stop(&h, 1);
    (void)usleep(300000);
    nethost_start(&h, 1);
    nethosts_run_ms(&h, 500);
    nethost_apply(&h, 1, network(first_key));
    nethosts_run_ms(&h, 500);
    struct stream_counts n = stream_stop(&s);
    EXPECT(n.sent > 10 && n.answered == n.sent, "%u of %u", n.answered, n.sent);
    nethost_stop(&h, 1);
    nettask_stop(tasks[0]);
    nethost_start(&h, 1);
    nethost_apply(&h, 1,
                  "network n2 other 10.10.2.0/24 vni=4098\npeer m1 one 192.168.77.1\ncomplete");
    EXPECT(netns_sh(h.hosts[0].ns,
                    "! ip -o link | grep skw && ! ip rule | grep -E '^520[01]:' && "
                    "! ip xfrm policy | grep . && ! nft list tables | grep encrypt") == 0,
           "%s", "something is left");
    nethosts_apply(&h, network(first_key));
    attach(1);
    all_reach();
}

/* ---- running --------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    { "the_capture_sees", the_capture_sees },
    { "traffic_is_encrypted", traffic_is_encrypted },
    { "without_the_keys", without_the_keys },
    { "clear_packets_do_not_come_in", clear_packets_do_not_come_in },
    { "it_fails_closed_and_heals", it_fails_closed_and_heals },
    { "rotation_loses_nothing", rotation_loses_nothing },
    { "restarts", restarts },
};

static bool passes(void (*run)(void))
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        run();
        nethosts_end(&h);
        (void)fflush(NULL);
        _exit(0);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static bool is_asked(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc < 2;
}

int main(int argc, char **argv)
{
    static const char *const backends[] = { "wireguard", "esp" };
    int passed = 0, failed = 0, own_ns = -1;

    EXPECT(netns_open_own(&own_ns, &e) == 0, "%s", e.message);
    (void)setvbuf(stdout, NULL, _IONBF, 0);
    for (size_t b = 0; b < ARRAY_LEN(backends); b++) {
        backend = backends[b];
        if (strcmp(backend, "esp") == 0)
            EXPECT(netns_sh(own_ns, "rmmod wireguard") == 0, "%s", "the module wireguard stays");
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            uint64_t began = clock_now_ms();

            if (!is_asked(cases[i].name, argc, argv))
                continue;
            bool good = passes(cases[i].run);
            (void)printf("%s %s %s (%" PRIu64 " ms)\n", good ? "ok  " : "FAIL", backend,
                         cases[i].name, clock_now_ms() - began);
            passed += good;
            failed += !good;
        }
    }
    (void)printf("%d passed, %d failed\n", passed, failed);
    return failed == 0 && passed > 0 ? 0 : 1;
}
