/* Encrypted networks where the kernel cannot encrypt (test/vm/test_encrypt.c has one that can):
 * they are refused with the reason, and nothing that looks like them goes in or out. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentd/net/encrypt.h"
#include "test/lib/nethosts.h"
#include "test/lib/streams.h"

static struct nethosts h;
static struct err e;

static const char one[] =
    "network n1 front 10.10.1.0/24 vni=4097 encrypted ports=51820 key=1/7 send=1\n"
    "network n2 clear 10.10.2.0/24 vni=4098\n"
    "peer m1 one 192.168.77.1\npeer m2 two 192.168.77.2\n"
    "endpoint t1 a - m1 UP n1=10.10.1.5/24\n"
    "endpoint t2 b - m2 UP n2=10.10.2.6/24\ncomplete";

static bool can_encrypt(void)
{
    Skep__NodeNetwork d;

    net_describe(h.hosts[0].net, &d);
    return d.encryption[0] != '\0';
}

static void setup(void)
{
    memset(&e, 0, sizeof(e));
    ck_assert_msg(nethosts_begin(&h, 2), "this test needs root");
    nethost_start(&h, 1);
    nethost_start(&h, 2);
    nethosts_apply(&h, one);
}

static void teardown(void)
{
    nethosts_end(&h);
}

START_TEST(refused_with_the_reason)
{
    Skep__NodeNetwork d;
    const Skep__NetworkDifference *all[4];

    if (can_encrypt())
        return;
    struct nettask *t = nettask_start(&h);
    ck_assert_int_eq(nettask_attach(&h, 1, t, "t1", "n1=10.10.1.5/24", &e), -ERR_UNAVAILABLE);
    ck_assert_msg(strstr(e.message, "this host cannot encrypt networks") != NULL &&
                      strstr(e.message, "wireguard") != NULL,
                  "%s", e.message);
    /* Other networks work, and the node is not ill: tasks of this one go elsewhere. */
    net_describe(h.hosts[0].net, &d);
    ck_assert_str_eq(d.error, "");
    t = nettask_start(&h);
    ck_assert_int_eq(nettask_attach(&h, 2, t, "t2", "n2=10.10.2.6/24", &e), 0);
    ck_assert_uint_ge(net_check(h.hosts[0].net, all, ARRAY_LEN(all)), 1);
}
END_TEST

static bool rules_are_back(void *ctx)
{
    (void)ctx;
    return netns_sh(h.hosts[0].ns, "nft list table ip skep-encrypt 2>/dev/null | "
                                   "grep -q 'sport 51822 .*dport 51822 drop'") == 0;
}

/* Neither out nor in; and the rules come back, and go with the network or the cluster. */
START_TEST(nothing_passes_in_clear)
{
    struct stream s;

    if (can_encrypt())
        return;
    ck_assert(rules_are_back(NULL));
    ck_assert_int_eq(netns_sh(h.hosts[1].ns, "nft flush table ip skep-encrypt"), 0);
    for (int i = 0; i < 2; i++) { /* what somebody's VXLAN would send */
        ck_assert_int_eq(netns_sh(h.hosts[i].ns,
                                  "ip link add vx type vxlan id 4097 dstport 51822 srcport 51822 "
                                  "51823 local 192.168.77.%d remote 192.168.77.%d nolearning && "
                                  "ip addr add 10.9.9.%d/24 dev vx && ip link set vx up",
                                  i + 1, 2 - i, i + 1),
                         0);
    }
    for (int from = 0; from < 2; from++) { /* out of host 1, then into it: it has the rules */
        stream_start(&s,
                     &(struct stream_path){ h.hosts[from].ns, h.hosts[1 - from].ns,
                                            from == 0 ? "10.9.9.2" : "10.9.9.1", 7000 },
                     10);
        (void)usleep(500000);
        struct stream_counts n = stream_stop(&s);
        ck_assert_uint_gt(n.sent, 5);
        ck_assert_uint_eq(n.taken, 0);
    }
    ck_assert_int_eq(netns_sh(h.hosts[0].ns, "nft flush ruleset"), 0);
    stream_start(&s, &(struct stream_path){ h.hosts[0].ns, h.hosts[1].ns, "10.9.9.2", 7000 }, 10);
    (void)usleep(1500000);
    ck_assert_uint_gt(stream_stop(&s).taken, 0); /* what the rules were good for */
    ck_assert(nethosts_until(&h, rules_are_back, NULL));
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(netns_sh(h.hosts[i].ns, "ip link del vx"), 0);
}
END_TEST

START_TEST(the_rules_go_with_the_network)
{
    ck_assert_int_eq(netns_sh(h.hosts[0].ns, "nft list table ip skep-encrypt >/dev/null"), 0);
    /* A later agent cleans up what ended while none was there. */
    nethost_stop(&h, 2);
    nethost_start(&h, 2);
    ck_assert_int_eq(netns_sh(h.hosts[1].ns, "nft list table ip skep-encrypt >/dev/null"), 0);
    nethosts_apply(&h, "network n2 clear 10.10.2.0/24 vni=4098\npeer m1 one 192.168.77.1\n"
                       "peer m2 two 192.168.77.2\ncomplete");
    for (size_t i = 0; i < 2; i++)
        ck_assert_int_ne(netns_sh(h.hosts[i].ns, "nft list table ip skep-encrypt >/dev/null 2>&1"),
                         0);
    nethost_apply(&h, 1, one);
    ck_assert_int_eq(netns_sh(h.hosts[0].ns, "nft list table ip skep-encrypt >/dev/null"), 0);
    net_clear(h.hosts[0].net);
    ck_assert_int_ne(netns_sh(h.hosts[0].ns, "nft list table ip skep-encrypt >/dev/null 2>&1"), 0);
}
END_TEST

/* Everything that is not there yet has a reason. */
START_TEST(without_an_encryption_nothing_is_attached)
{
    ck_assert_str_eq(encrypt_kind(NULL), "");
    ck_assert_str_ne(encrypt_problem(NULL, "n1"), "");
    encrypt_apply(NULL, NULL, 0, true, "m1");
    encrypt_free(NULL, false);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("encrypt");
    TCase *t = tcase_create("encrypt");

    tcase_set_timeout(t, 300);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, refused_with_the_reason);
    tcase_add_test(t, nothing_passes_in_clear);
    tcase_add_test(t, the_rules_go_with_the_network);
    tcase_add_test(t, without_an_encryption_nothing_is_attached);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
